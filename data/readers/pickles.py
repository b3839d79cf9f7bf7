"""Strangers' pickles: plain values and numpy's arrays of numbers and text; nothing that a file names is run.
For use within data.readers.sandbox, which bounds what a pickle may take."""

import copyreg
import math
import pickle
import re
import reprlib
from collections.abc import Callable, Iterator
from typing import BinaryIO

import numpy as np

from data.readers import sandbox

ADVICE = "only lists, dicts, numbers, text and numpy arrays of them are read; save the data as such"
BROKEN = (pickle.UnpicklingError, ValueError, TypeError, AttributeError, EOFError, LookupError, OverflowError)
SHORT = reprlib.Repr()  # values for messages: their own `str` may be larger than all memory
SHORT.maxlevel = 2
DTYPE = re.compile(r"[<>|=]?(?:f[248]|[iu][1248]|b1|[SU][1-9][0-9]{0,6})")


def load(path: str) -> object:
    """What a pickle of any protocol holds: None, bool, int, float, str, bytes, list, tuple, dict, arrays and scalars.

    Python 2's strings come as latin1 text, an OrderedDict as a dict.

    Raises: ValueError naming file and reason for anything else, of which nothing was run; OSError.
    """
    with sandbox.opened(path) as file:
        return read(file, path)


def read(file: BinaryIO, name: str) -> object:
    """As `load`, of an open file; `name` stands for the path in messages."""
    copyreg.clear_extension_cache()  # what is in it would not be asked of find_class
    try:
        value = _Unpickler(file, encoding="latin1").load()
        if file.read(1):
            raise ValueError("more bytes follow the end")
    except BROKEN as error:
        reason = error if str(error) and len(str(error)) < 300 else type(error).__name__
        raise ValueError(f"{name}: {reason}; {ADVICE}") from None
    return value


def word_numbers(path: str) -> Iterator[tuple[str, int]]:
    """The entries of a pickled dict of words and whole numbers; words that are bytes come as latin1 text.

    Raises: ValueError for another content.
    """
    content = load(path)
    if type(content) is not dict:
        raise ValueError(f"{path} holds a {type(content).__name__}, no table of words")
    for word, number in content.items():
        if type(word) not in (str, bytes) or not isinstance(number, (int, np.integer)) or isinstance(number, bool):
            shown = str(word)[:40] if type(word) is str else f"a {type(word).__name__}"
            raise ValueError(f"{path} has the entry {shown!r}: a {type(number).__name__}, no word and whole number")
        yield word if type(word) is str else word.decode("latin1"), int(number)


class _Maker:
    """What a name in a pickle stands for: an own function, which checks what it is given. It is no class, so that none
    can be made of it, and takes no state."""

    __slots__ = ("_make",)

    def __init__(self, make: Callable) -> None:
        object.__setattr__(self, "_make", make)

    def __call__(self, *values: object) -> object:
        return self._make(*values)

    def __setstate__(self, state: object) -> None:
        raise ValueError("a name is given a state")


class _Dtype:
    """A dtype while it is read: its code comes first, its byte order afterwards."""

    __slots__ = ("dtype",)

    def __setstate__(self, state: tuple) -> None:
        kinds = [type(part) for part in state[:2]] if type(state) is tuple else []
        if kinds != [int, str] or any(part is not None for part in state[2:5]) or state[1] not in ("<", ">", "|"):
            raise ValueError(f"dtype {self.dtype} is given the state {SHORT.repr(state)}, which no plain dtype has")
        self.dtype = self.dtype.newbyteorder(state[1])


class _Array(np.ndarray):
    """An array, empty until its state comes."""

    __slots__ = ()

    def __setstate__(self, state: tuple) -> None:
        if type(state) is not tuple or len(state) != 5 or self.size:
            raise ValueError(f"an array is given the state {SHORT.repr(state)}, which numpy does not write")
        raw, dtype = _bytes(state[4]), _dtype(state[2])
        _check_shape(state[1], dtype, len(raw))
        super().__setstate__((1, state[1], dtype, bool(state[3]), raw))


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> _Maker:
        if (module, name) not in MAKERS:
            raise ValueError(f"it names {f'{module}.{name}'[:80]!r}, which is not on the list; nothing was run")
        return MAKERS[module, name]

    def persistent_load(self, pid: object) -> None:
        raise ValueError("it refers to something outside of the file")


def _bytes(value: object) -> bytes:
    value = value.encode("latin1") if type(value) is str else value  # Python 2 wrote bytes as text
    if type(value) not in (bytes, bytearray):
        raise ValueError(f"an array's bytes are a {type(value).__name__}")
    return bytes(value)


def _dtype(value: object) -> np.dtype:
    if type(value) is not _Dtype:
        raise ValueError(f"an array's dtype is a {type(value).__name__}")
    return value.dtype


def _check_shape(shape: object, dtype: np.dtype, count: int) -> None:
    """Raises: ValueError where `shape` does not take `count` bytes."""
    if type(shape) is not tuple or len(shape) > 8 or any(type(side) is not int or side < 0 for side in shape):
        raise ValueError(f"an array's shape is {SHORT.repr(shape)}, not 8 or fewer whole numbers from 0 on")
    needed = math.prod(shape) * dtype.itemsize
    if needed != count:
        sides, wanted = SHORT.repr(shape), SHORT.repr(needed)
        raise ValueError(f"an array of {dtype} and shape {sides} has {count:,} bytes, not {wanted}")


def _reconstruct(kind: object, *rest: object) -> _Array:
    if kind is not _NDARRAY:
        raise ValueError("an array is made of something else than numpy.ndarray")
    return np.ndarray.__new__(_Array, (0,), np.int8)


def _refuse(*values: object) -> None:
    raise ValueError("numpy.ndarray is called, which no pickle of an array does")


def _make_dtype(code: object, *rest: object) -> _Dtype:
    if type(code) is not str or not DTYPE.fullmatch(code):
        raise ValueError(f"dtype {str(code)[:40]!r} is not read" if type(code) is str else "a dtype has no code")
    made = _Dtype()
    made.dtype = np.dtype(code)
    return made


def _scalar(dtype: object, raw: object) -> np.generic:
    return _frombuffer(_bytes(raw), dtype, (), "C")[()]


def _frombuffer(raw: object, dtype: object, shape: object, order: object, axes: object = None) -> np.ndarray:
    """Protocol 5. `axes`, of newer numpy, is the order that the axes have in memory."""
    raw, dtype = _bytes(raw), _dtype(dtype)
    _check_shape(shape, dtype, len(raw))
    array = np.frombuffer(raw, dtype) if raw else np.zeros(shape, dtype)
    array = array.astype(dtype.newbyteorder("="), copy=False).view(_Array)  # which takes no other state
    if order == "K" and type(axes) is tuple and len(axes) == len(shape) and all(type(axis) is int for axis in axes):
        return array.reshape(shape).transpose(axes)
    if order not in ("C", "F") or axes is not None:
        raise ValueError(f"an array has the order of axes {SHORT.repr(order)}, which is not C or F")
    return array.reshape(shape, order=order)


def _encode(text: object, codec: object) -> bytes:
    """How Python 3 writes bytes in the protocols 0 to 2."""
    if type(text) is not str or codec not in ("latin1", "latin-1"):
        raise ValueError(f"_codecs.encode to {SHORT.repr(codec)}, and not to latin1")
    return text.encode("latin1")


def _ordered_dict(pairs: object = ()) -> dict:
    if type(pairs) not in (list, tuple):
        raise ValueError("an OrderedDict is made of something else than pairs")
    return dict(pairs)


_NDARRAY = _Maker(_refuse)
MAKERS = {  # (module, name) as the file has them
    ("numpy", "ndarray"): _NDARRAY,
    ("numpy", "dtype"): _Maker(_make_dtype),
    ("_codecs", "encode"): _Maker(_encode),
    ("__builtin__", "bytes"): _Maker(lambda: b""),  # how Python 3 writes that in the protocols 0 to 2
    ("collections", "OrderedDict"): _Maker(_ordered_dict),
}
for _core in ("core", "_core"):  # before and since numpy 2
    MAKERS[f"numpy.{_core}.multiarray", "_reconstruct"] = _Maker(_reconstruct)
    MAKERS[f"numpy.{_core}.multiarray", "scalar"] = _Maker(_scalar)
    MAKERS[f"numpy.{_core}.numeric", "_frombuffer"] = _Maker(_frombuffer)
