"""Strangers' Torch 7 files (.t7, binary) as data, for use within data.readers.sandbox, which bounds what they take."""

import dataclasses
import math
import re
import struct

import numpy as np

from data.readers import sandbox

ADVICE = "only tables, numbers, strings and tensors of an undamaged binary .t7 are read"
_NIL, _NUMBER, _STRING, _TABLE, _TORCH, _BOOLEAN = range(6)
_TYPES = {"Byte": "<u1", "Char": "<i1", "Short": "<i2", "Int": "<i4", "Long": "<i8", "Float": "<f4", "Double": "<f8",
          "Cuda": "<f4"}  # fmt: skip
_CLASS = re.compile(rf"torch\.({'|'.join(_TYPES)})(Tensor|Storage)")
_INT, _DOUBLE = struct.Struct("<i"), struct.Struct("<d")
_NO_KEY = object()


@dataclasses.dataclass(frozen=True, eq=False)
class Torch:
    """An object of a class that is neither tensor nor storage, such as nn.Linear: its name and its table."""

    class_name: str
    fields: dict


def load(path: str) -> object:
    """What a binary .t7 file holds.

    Numbers come as float, strings as bytes, nil as None, tables as dict (a list has the keys 1.0, 2.0, ...), tensors
    as contiguous arrays of their own, storages as 1-D arrays, other objects as `Torch`. What the file stores once and
    uses twice is one object here, and a table may hold itself: whoever walks over it must look out for that, and for
    its depth. A pair whose key is a table or a `Torch` is left out (nngraph keeps its nodes so).

    Raises: ValueError naming file, byte and reason for functions, impossible sizes or offsets, a cut file; OSError.
    """
    with sandbox.opened(path) as file:
        return loads(file.read(), path)


def loads(data: bytes, name: str = "t7") -> object:
    """As `load`, of the bytes themselves; `name` stands for the path in messages."""
    reader = _Reader(data)
    try:
        return reader.read()
    except struct.error:
        reason = "the file ends here, it is cut short"
    except ValueError as error:
        reason = str(error)
    raise ValueError(f"{name}: byte {reader.at:,}: {reason}; {ADVICE}")


class _Reader:
    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0
        self.known = {}  # object number -> object; None while a tensor or storage is being read
        self.open = []  # [table, pairs still to come, key that waits for its value], the innermost last

    def read(self) -> object:
        value = self.value()
        while self.open:  # a table's pairs follow it in the file, so that no depth needs recursion
            table, left, key = top = self.open[-1]
            if key is not _NO_KEY:
                top[2] = _NO_KEY
                content = self.value()
                if not isinstance(key, (dict, Torch)):
                    table[key] = content
            elif not left:
                self.open.pop()
            else:
                top[1] -= 1
                key = top[2] = self.value()
                if not isinstance(key, (dict, Torch)) and (
                    type(key) not in (float, bytes, bool) or key != key or key in table
                ):
                    raise ValueError(f"a table's key is a {type(key).__name__.lower()}, or is there twice")
        if self.at != len(self.data):
            raise ValueError(f"{len(self.data) - self.at:,} bytes follow the end")
        return value

    def value(self, within: int = 0) -> object:
        """The next value; a table comes empty. within: objects whose body it stands in, without a table between."""
        kind = self.integer()
        if kind == _NIL:
            return None
        if kind == _NUMBER:
            self.at += 8
            return _DOUBLE.unpack_from(self.data, self.at - 8)[0]
        if kind == _STRING:
            return self.take(self.integer())
        if kind == _BOOLEAN:
            return bool(self.integer())
        if kind not in (_TABLE, _TORCH):
            raise ValueError("it holds a Lua function, which is code" if kind in (6, 7, 8) else f"{kind} is no type")
        number = self.integer()
        if number not in self.known:
            self.known[number] = None
            self.known[number] = self.table() if kind == _TABLE else self.torch(within)
        if self.known[number] is None:
            raise ValueError(f"object {number} is used within itself")
        return self.known[number]

    def table(self) -> dict:
        count, table = self.integer(), {}
        if not 0 <= 12 * count <= len(self.data) - self.at:  # the shortest pair: a boolean, nil
            raise ValueError(f"a table of {count:,} pairs, but {len(self.data) - self.at:,} bytes follow")
        self.open.append([table, count, _NO_KEY])
        return table

    def torch(self, within: int) -> object:
        if within > 1:
            raise ValueError("objects are made of objects in turn; a tensor's storage is the deepest that exists")
        name = self.take(self.integer())
        if name.startswith(b"V "):  # a version; the oldest files have none
            name = self.take(self.integer())
        match = _CLASS.fullmatch(name[:200].decode("latin1"))
        if match:
            dtype = np.dtype(_TYPES[match[1]])
            return self.tensor(dtype) if match[2] == "Tensor" else self.storage(dtype)
        fields = self.value(within + 1)
        if type(fields) is not dict:
            raise ValueError(f"an object of class {str(name[:80])[1:]} has no table")
        return Torch(name.decode("latin1"), fields)

    def storage(self, dtype: np.dtype) -> np.ndarray:
        count = self.longs(1)[0]
        self.skip(count * dtype.itemsize)
        return np.frombuffer(self.data, dtype, count, self.at - count * dtype.itemsize)

    def tensor(self, dtype: np.dtype) -> np.ndarray:
        sides = self.integer()
        if not 0 <= sides <= 8:
            raise ValueError(f"a tensor of {sides} dimensions; 0 to 8 are read")
        shape, strides, first = self.longs(sides), self.longs(sides), self.longs(1)[0] - 1
        storage = self.value(1)
        if storage is None:
            storage = np.zeros(0, dtype)
        if not isinstance(storage, np.ndarray) or storage.ndim != 1 or storage.dtype != dtype:
            raise ValueError(f"a tensor of {dtype} has no storage of {dtype}")
        if min((*shape, *strides), default=0) < 0 or max(shape, default=0) > 2**40:
            raise ValueError(f"a tensor has the sizes {shape} and strides {strides}")
        if not math.prod(shape) or not sides:
            return np.zeros(shape or (0,), dtype)
        last = first + sum((side - 1) * stride for side, stride in zip(shape, strides, strict=True))
        if first < 0 or last >= len(storage):
            raise ValueError(f"a tensor spans the items {first + 1} to {last + 1} of a storage of {len(storage)}")
        strides = [stride * dtype.itemsize if side > 1 else 0 for side, stride in zip(shape, strides, strict=True)]
        return np.array(np.lib.stride_tricks.as_strided(storage[first:], shape, strides, writeable=False), order="C")

    def integer(self) -> int:
        self.at += 4
        return _INT.unpack_from(self.data, self.at - 4)[0]

    def longs(self, count: int) -> tuple[int, ...]:
        self.at += 8 * count
        return struct.unpack_from(f"<{count}q", self.data, self.at - 8 * count)

    def take(self, count: int) -> bytes:
        self.skip(count)
        return self.data[self.at - count : self.at]

    def skip(self, count: int) -> None:
        if not 0 <= count <= len(self.data) - self.at:
            raise ValueError(f"{count:,} bytes should follow, but {len(self.data) - self.at:,} do")
        self.at += count
