"""The pickle machine: a stack of values, stacks set aside by marks, a memo of values to be used again, and its limits.
For safety it calls nothing but the stand-ins of data/readers/pickle_makers.py, and never imports what a file names."""

import itertools
import struct
from typing import BinaryIO

import numpy as np

from data.readers import pickle_makers as makers

MAX_STEPS = 12_000_000  # opcodes; AttnGAN's captions of the birds take 2.2 million. A number costs 40 bytes,
MAX_OBJECTS = 4_000_000  # text, a list, a dict or a memo entry about 100: the two bound it to 0.8 GB beside long values
MAX_DEPTH = 100  # lists within lists
MAX_LINE = 200  # bytes of a name
FREE_WEIGHT = 2**28  # bytes that shared parts, written out, may add up to beyond 8 for each byte of the file

_SMALL = frozenset((int, float, bool, type(None)))
_FORGOTTEN = object()


class Machine:
    """Its methods are what the opcodes of pickles.py do; each raises ValueError, IndexError for a missing value.

    Attributes: at (bytes read), start (first byte of this step; the place in messages), size (of the file, bytes),
    stack (of values).
    """

    def __init__(self, file: BinaryIO, size: int) -> None:
        self.file, self.size, self.at, self.start = file, size, 0, 0
        self.stack = []
        self._objects, self._aside, self._memo, self._shared = 0, [], {}, set()

    def take(self, count: int) -> bytes:
        """The next `count` bytes, a few."""
        data = self.file.read(count)
        if len(data) != count:
            raise ValueError("the file ends here, it is cut short")
        self.at += count
        return data

    def sized(self, layout: str) -> bytes:
        """The bytes that follow their own number."""
        count = struct.unpack(layout, self.take(struct.calcsize(layout)))[0]
        if count > self.size - self.at:
            raise ValueError(f"{count:,} bytes should follow, but {self.size - self.at:,} do")
        return self.take(count)

    def line(self, limit: int = MAX_LINE) -> bytes:
        data = self.file.readline(limit + 1)
        self.at += len(data)
        if data[-1:] != b"\n":
            raise ValueError(f"a line is cut short or over {limit:,} bytes")
        return data[:-1]

    def add(self, value: object) -> None:
        """Puts a new object on the stack; numbers are put there without being counted."""
        self._count()
        self.stack.append(value)

    def last(self, count: int) -> list:
        """The last `count` values, taken from the stack."""
        return [self.stack.pop() for _ in range(count)][::-1]

    def mark(self) -> None:
        if len(self._aside) >= MAX_DEPTH:
            raise ValueError(f"values are nested over {MAX_DEPTH} deep")
        self._aside.append(self.stack)
        self.stack = []

    def marked(self) -> list:
        """The values since the last mark, taken from the stack."""
        values, self.stack = self.stack, self._aside.pop()
        return values

    def put(self, index: int) -> None:
        """Remembers the last value."""
        if not 0 <= index <= MAX_STEPS:
            raise ValueError(f"memo index {index} is absurd")
        self._count()
        self._memo[index] = self.stack[-1]

    def put_next(self) -> None:
        self.put(len(self._memo))

    def get(self, index: int) -> None:
        """Puts a remembered value on the stack."""
        value = self._memo.get(index, _FORGOTTEN)
        if value is _FORGOTTEN:
            raise ValueError(f"memo index {index} was never set, or held the bytes of an array")
        if type(value) is makers.Array:
            value = value.finished()
        elif type(value) in (list, dict, tuple):
            self._shared.add(id(value))
        self.add(value)

    def extend(self, values: list) -> None:
        if type(self.stack[-1]) is not list:
            raise ValueError(f"values are appended to {makers.kind(self.stack[-1])}")
        self.stack[-1].extend(values)

    def fill(self, pairs: list) -> None:
        makers.fill(self.stack[-1], pairs)

    def add_dict(self, pairs: list) -> None:
        self.add({})
        self.fill(pairs)

    def name(self, module: object, name: object) -> None:
        """Puts the stand-in of a name on the stack."""
        if type(module) is not str or type(name) is not str:
            raise ValueError(f"it names {makers.kind(name)} of {makers.kind(module)}")
        if (module, name) not in makers.MAKERS:
            raise ValueError(f"it names {f'{module}.{name}'[:80]!r}, which is not on the list; nothing was run")
        self.add(makers.MAKERS[module, name])

    def call(self) -> None:
        """Calls a stand-in with a tuple."""
        maker, values = self.last(2)
        if type(maker) is not makers.Maker or type(values) is not tuple:
            raise ValueError(f"{makers.kind(maker)} is called")
        self.add(maker.make(values))
        if maker is makers.ENCODE:
            self._forget(values, values[0])

    def build(self) -> None:
        """Gives an array or a dtype its state."""
        target, state = self.last(2)
        if type(target) not in (makers.Array, makers.Dtype) or type(state) is not tuple:
            raise ValueError(f"{makers.kind(target)} is given a state, {makers.kind(state)}")
        self.stack.append(target.build(state))
        if type(target) is makers.Array:
            self._forget(state, state[-1])

    def result(self) -> object:
        """The one value of a machine that has come to its end, checked to be plain data."""
        if self._aside or len(self.stack) != 1:
            raise ValueError("it does not end with one value")
        if self.at != self.size:
            raise ValueError(f"{self.size - self.at:,} bytes follow the end")
        self._weigh(self.stack[0], 0, {})
        return self.stack[0]

    def _count(self) -> None:
        self._objects += 1
        if self._objects > MAX_OBJECTS:
            raise ValueError(f"it holds over {MAX_OBJECTS:,} objects")

    def _forget(self, state: tuple, raw: bytes | str) -> None:
        """Frees the bytes of a finished array from the memo where they are its last entries: nothing uses them again.

        Bytes of length 0 and 1 stay, since all equal ones are one object in Python.
        """
        for index in reversed(self._memo):
            if len(raw) < 2 or (self._memo[index] is not state and self._memo[index] is not raw):
                break
            self._memo[index] = _FORGOTTEN

    def _weigh(self, value: object, depth: int, known: dict[int, int]) -> int:
        """About how many bytes `value` takes when its shared parts are counted at every use."""
        if id(value) in known:
            return known[id(value)]
        kind, total, limit = type(value), 8, 8 * self.size + FREE_WEIGHT
        if kind in (str, bytes):
            total += len(value)
        elif isinstance(value, (np.ndarray, np.generic)):
            total += value.nbytes
        elif kind in (list, tuple, dict):
            if depth > MAX_DEPTH:
                raise ValueError(f"values are nested over {MAX_DEPTH} deep, or within themselves")
            for item in itertools.chain(value, value.values()) if kind is dict else value:
                total += 8 if type(item) in _SMALL else self._weigh(item, depth + 1, known)
            if id(value) in self._shared:
                known[id(value)] = total
        elif kind not in _SMALL:
            raise ValueError(f"{makers.kind(value)} is left among the data")
        if total > limit:
            raise ValueError(f"its shared parts, written out, take over {limit:,} bytes")
        return total
