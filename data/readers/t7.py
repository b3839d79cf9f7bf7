"""Strangers' Torch 7 files (.t7, binary) read as data, every size and offset checked against the file first."""

import dataclasses
import io
import math
import re
import struct
from typing import BinaryIO

import numpy as np

from data.readers import plain

MAX_VALUES = 2_000_000  # tables, numbers, strings; each takes up to 300 bytes of memory
MAX_DEPTH = 100_000  # tables within tables: the graph of an unrolled network is a chain of thousands
MAX_NAME = 200  # bytes of a class name
FREE_BYTES = 2**26  # what tensors may take together whatever the file's size, beyond 8 times that: they may overlap
ADVICE = "only tables, numbers, strings and tensors of an undamaged binary .t7 are read"

_NIL, _NUMBER, _STRING, _TABLE, _TORCH, _BOOLEAN = range(6)
_TYPES = {"Byte": "<u1", "Char": "<i1", "Short": "<i2", "Int": "<i4", "Long": "<i8", "Float": "<f4", "Double": "<f8",
          "Cuda": "<f4"}  # fmt: skip
_NO_KEY = object()
_CLASS = re.compile(rf"torch\.({'|'.join(_TYPES)})(Tensor|Storage)")


@dataclasses.dataclass(frozen=True, eq=False)
class Torch:
    """An object of a class that is neither tensor nor storage, such as nn.Linear: its name and its table."""

    class_name: str
    fields: dict


def load(path: str, max_bytes: int = 2**31) -> object:
    """What a binary .t7 file holds.

    Numbers come as float, strings as bytes, nil as None, tables as dict (a list has the keys 1.0, 2.0, ...), tensors
    as contiguous arrays of their own, storages as 1-D arrays, other objects as `Torch`. What the file stores once and
    uses twice is one object here, and a table may hold itself as in Lua: whoever walks over it must look out for that.
    A pair whose key is a table or a `Torch` is left out (nngraph keeps its nodes so); a table with both the keys 1 and
    true is refused, as they are one key here. Nesting may be deep: walk over it without recursion.
    Memory stays under 0.7 GB and ten times the file.

    Raises: ValueError naming file, byte and reason for functions, impossible sizes or offsets, a cut file; OSError.
    """
    with open(path, "rb") as file:
        try:
            size = plain.file_size(file, max_bytes)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None
        return _Reader(file, size, path).read()


def loads(data: bytes, name: str = "t7") -> object:
    """As `load`, of the bytes themselves; `name` stands for the path in messages."""
    return _Reader(io.BytesIO(data), len(data), name).read()


class _Reader:
    def __init__(self, file: BinaryIO, size: int, name: str) -> None:
        self.file, self.size, self.name = file, size, name
        self.at = self.start = self.values = self.copied = 0  # bytes read, start of this value, values, bytes copied
        self.known = {}  # object number -> object
        self.open = []  # [table, pairs still to come, key that waits for its value], the innermost last
        self.within = 0  # objects being read, each as the body of the one before: a tensor's storage

    def read(self) -> object:
        try:
            value = self.value()
            while self.open:
                table, left, key = top = self.open[-1]
                if key is not _NO_KEY:  # where it is a table, its pairs have been read by now
                    top[2] = _NO_KEY
                    content = self.value()
                    if not isinstance(key, (dict, Torch)):  # nngraph's nodes are keys; those pairs are left out
                        table[key] = content
                elif left == 0:
                    self.open.pop()
                else:
                    top[1] -= 1
                    key = top[2] = self.value()
                    if not isinstance(key, (dict, Torch)) and (
                        type(key) not in (float, bytes, bool) or key != key or key in table
                    ):
                        raise ValueError(f"a table's key is {_kind(key)}, or is there twice")
            if self.at != self.size:
                raise ValueError(f"{self.size - self.at:,} bytes follow the end")
            return value
        except ValueError as error:
            raise ValueError(f"{self.name}: byte {self.start}: {error}; {ADVICE}") from None

    def value(self) -> object:
        """The next value. A table comes empty: its pairs are the next in the file, and `read` puts them in."""
        self.start = self.at
        self.values += 1
        if self.values > MAX_VALUES:
            raise ValueError(f"it holds over {MAX_VALUES:,} values")
        kind = self.numbers("i")[0]
        if kind == _NIL:
            return None
        if kind == _NUMBER:
            return self.numbers("d")[0]
        if kind == _STRING:
            return self.string(self.size)
        if kind == _BOOLEAN:
            return bool(self.numbers("i")[0])
        if kind in (_TABLE, _TORCH):
            number = self.numbers("i")[0]
            if number not in self.known:
                self.known[number] = None  # unfinished: a tensor cannot hold itself
                self.known[number] = self.table() if kind == _TABLE else self.torch()
            if self.known[number] is None:
                raise ValueError(f"object {number} is used within itself")
            return self.known[number]
        if kind in (6, 7, 8):
            raise ValueError("it holds a Lua function, which is code; save the model without it")
        raise ValueError(f"{kind} is no type of a value")

    def table(self) -> dict:
        count = self.numbers("i")[0]
        if not 0 <= 12 * count <= self.size - self.at:  # the shortest pair: a boolean, nil
            raise ValueError(f"a table of {count:,} pairs, but {self.size - self.at:,} bytes follow")
        if len(self.open) >= MAX_DEPTH:
            raise ValueError(f"tables are nested over {MAX_DEPTH} deep")
        table = {}
        self.open.append([table, count, _NO_KEY])
        return table

    def torch(self) -> object:
        self.within += 1
        if self.within > 2:
            raise ValueError("objects are made of objects in turn; a tensor's storage is the deepest that exists")
        value = self.body()
        self.within -= 1
        return value

    def body(self) -> object:
        name = self.string(MAX_NAME)
        if name.startswith(b"V "):  # a version; the oldest files have none
            name = self.string(MAX_NAME)
        name = name.decode("latin1")
        match = _CLASS.fullmatch(name)
        if not match:
            fields = self.value()
            if type(fields) is not dict:
                raise ValueError(f"an object of class {name[:80]!r} has no table but {_kind(fields)}")
            return Torch(name, fields)
        dtype = np.dtype(_TYPES[match[1]])
        return self.tensor(dtype) if match[2] == "Tensor" else self.storage(dtype)

    def storage(self, dtype: np.dtype) -> np.ndarray:
        count = self.numbers("q")[0]
        if not 0 <= count * dtype.itemsize <= self.size - self.at:
            raise ValueError(f"a storage of {count:,} x {dtype.itemsize} bytes, but {self.size - self.at:,} follow")
        return np.frombuffer(self.take(count * dtype.itemsize), dtype)

    def tensor(self, dtype: np.dtype) -> np.ndarray:
        sides = self.numbers("i")[0]
        if not 0 <= sides <= plain.MAX_DIMENSIONS:
            raise ValueError(f"a tensor of {sides} dimensions; 0 to {plain.MAX_DIMENSIONS} are read")
        start = self.start
        shape, strides, first = self.numbers("q" * sides), self.numbers("q" * sides), self.numbers("q")[0] - 1
        storage = self.value()
        self.start = start
        if storage is None:
            storage = np.zeros(0, dtype)
        if not isinstance(storage, np.ndarray) or storage.ndim != 1 or storage.dtype != dtype:
            raise ValueError(f"a tensor of {dtype} has no storage of {dtype} but {_kind(storage)}")
        if min((*shape, *strides), default=0) < 0:
            raise ValueError(f"a tensor has the sizes {shape} and strides {strides}; none may be negative")
        if sides == 0 or 0 in shape:
            plain.check_shape(dtype, shape or (0,), 0)
            return np.zeros(shape or (0,), dtype)
        last = first + sum((side - 1) * stride for side, stride in zip(shape, strides, strict=True))
        if first < 0 or last >= len(storage):
            raise ValueError(f"a tensor spans the items {first + 1} to {last + 1} of a storage of {len(storage)}")
        self.copied += math.prod(shape) * dtype.itemsize
        if self.copied > 8 * self.size + FREE_BYTES:
            raise ValueError(f"a tensor of {shape} items: the tensors take over {8 * self.size + FREE_BYTES:,} bytes")
        strides = [stride * dtype.itemsize if side > 1 else 0 for side, stride in zip(shape, strides, strict=True)]
        view = np.lib.stride_tricks.as_strided(storage[first:], shape, strides, writeable=False)
        return np.array(view, order="C")

    def string(self, limit: int) -> bytes:
        count = self.numbers("i")[0]
        if not 0 <= count <= min(limit, self.size - self.at):
            raise ValueError(f"a string of {count:,} bytes; {min(limit, self.size - self.at):,} are possible")
        return self.take(count)

    def numbers(self, kinds: str) -> tuple:
        return struct.unpack("<" + kinds, self.take(struct.calcsize("<" + kinds)))

    def take(self, count: int) -> bytes:
        data = self.file.read(count)
        if len(data) != count:
            raise ValueError("the file ends here, it is cut short")
        self.at += count
        return data


def _kind(value: object) -> str:
    return f"{value.dtype} {value.shape}" if isinstance(value, np.ndarray) else f"a {type(value).__name__.lower()}"
