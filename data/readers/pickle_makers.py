"""What a pickle may call: own stand-ins for numpy's constructors, which check all that they are given.
For safety a name in the file is only looked up in the table MAKERS below, never in a module."""

import dataclasses
from collections.abc import Callable

import numpy as np

from data.readers import plain

KEYS = frozenset((int, float, bool, type(None), str, bytes))  # types of a dict's keys: no tuple, however deep


@dataclasses.dataclass(frozen=True)
class Maker:
    """A name that a pickle may call, and what is done instead."""

    name: str
    make: Callable[[tuple], object]


class Dtype:
    """A dtype while it is read: its code comes first, its byte order afterwards."""

    def __init__(self, code: str) -> None:
        self.code, self.dtype = code, plain.plain_dtype(code)

    def build(self, state: tuple) -> "Dtype":
        none = type(None)
        _check("a dtype's state", state, int, str, none, none, none, int, int, int)
        if state[0] != 3 or state[1] not in ("<", ">", "|") or state[5] not in (-1, self.dtype.itemsize):
            raise ValueError(f"dtype {self.code!r} has the state {str(state)[:80]}, which no plain dtype has")
        self.dtype = plain.plain_dtype(state[1] + self.code)
        return self


class Array:
    """An array while it is read: nothing until its state comes."""

    def __init__(self) -> None:
        self._array = None

    def build(self, state: tuple) -> np.ndarray:
        _check("an array's state", state, int, tuple, Dtype, int, (bytes, str))
        self._array = _array(state[4], state[2], state[1], "F" if state[3] else "C")
        return self._array

    def finished(self) -> np.ndarray:
        if self._array is None:
            raise ValueError("an array is used before it is whole")
        return self._array


def fill(target: object, pairs: list) -> None:
    """Puts key, value, key, value ... into a dict. Raises: ValueError for anything but a dict and plain keys."""
    if type(target) is not dict or len(pairs) % 2:
        raise ValueError(f"{len(pairs)} keys and values are put into {kind(target)}")
    for key, value in zip(pairs[::2], pairs[1::2], strict=True):
        if type(key) not in KEYS:
            raise ValueError(f"a key is {kind(key)}; keys are numbers or text")
        target[key] = value


def kind(value: object) -> str:
    """What a value is, for messages; its content stays out of them."""
    name = type(value).__name__.lower()
    return value.name if isinstance(value, Maker) else f"{'an' if name[0] in 'aeiou' else 'a'} {name}"


def _reconstruct(values: tuple) -> Array:
    _check("_reconstruct", values, Maker, tuple, (bytes, str))
    if values[0] is not _NDARRAY:
        raise ValueError(f"{values[0].name} is no kind of array")
    return Array()


def _ndarray(values: tuple) -> None:
    raise ValueError("numpy.ndarray is called, which no pickle of an array does")


def _dtype(values: tuple) -> Dtype:
    _check("numpy.dtype", values, str, int, int)
    return Dtype(values[0])


def _scalar(values: tuple) -> np.generic:
    _check("scalar", values, Dtype, (bytes, str))
    return _array(values[1], values[0], (), "C")[()]


def _frombuffer(values: tuple) -> np.ndarray:
    """Protocol 5. A fifth value, of newer numpy, is the order that the axes have in memory."""
    _check("_frombuffer", values[:4], bytes, Dtype, tuple, str)
    raw, dtype, shape, order, *axes = values
    if order in ("C", "F") and axes in ([], [None]):
        return _array(raw, dtype, shape, order)
    permuted = len(axes) == 1 and isinstance(axes[0], tuple) and all(type(axis) is int for axis in axes[0])
    if order != "K" or not permuted or sorted(axes[0]) != list(range(len(shape))):
        raise ValueError(f"an array has the order {order[:20]!r} of axes {str(axes)[:80]}; C and F are read")
    return _array(raw, dtype, shape, "C").transpose(axes[0])


def _encode(values: tuple) -> bytes:
    """How Python 3 writes bytes in the protocols 0 to 2."""
    _check("_codecs.encode", values, str, str)
    if values[1] not in ("latin1", "latin-1"):
        raise ValueError(f"_codecs.encode to {values[1][:20]!r}; only latin1 is read")
    return values[0].encode("latin1")


def _bytes(values: tuple) -> bytes:
    """How Python 3 writes b"" in the protocols 0 to 2."""
    _check("bytes", values)
    return b""


def _ordered_dict(values: tuple) -> dict:
    """A plain dict: empty, to be filled later, or of Python 2's list of pairs."""
    table = {}
    if values:
        _check("OrderedDict", values, list)
        for pair in values[0]:
            if type(pair) not in (list, tuple) or len(pair) != 2:
                raise ValueError(f"OrderedDict is given {kind(pair)} that is no pair")
            fill(table, list(pair))
    return table


def _array(raw: bytes | str, dtype: Dtype, shape: tuple, order: str) -> np.ndarray:
    raw = raw.encode("latin1") if isinstance(raw, str) else raw  # Python 2 wrote bytes as text
    array = plain.plain_array(raw, dtype.dtype, shape, order)
    array.flags.writeable = False  # most are so already, being the very bytes that were read
    return array


def _check(what: str, values: tuple, *kinds: type | tuple[type, ...]) -> None:
    """Raises: ValueError unless there is one value of each of `kinds`."""
    if len(values) != len(kinds) or not all(map(isinstance, values, kinds)):
        raise ValueError(f"{what} is {', '.join(map(kind, values[:12])) or 'nothing'}, which is not what numpy writes")


ENCODE, _NDARRAY = Maker("_codecs.encode", _encode), Maker("numpy.ndarray", _ndarray)
MAKERS = {  # (module, name) as the file has them
    ("numpy", "ndarray"): _NDARRAY,
    ("numpy", "dtype"): Maker("numpy.dtype", _dtype),
    ("_codecs", "encode"): ENCODE,
    ("__builtin__", "bytes"): Maker("bytes", _bytes),
    ("collections", "OrderedDict"): Maker("OrderedDict", _ordered_dict),
}
for _core in ("core", "_core"):  # before and since numpy 2
    MAKERS[f"numpy.{_core}.multiarray", "_reconstruct"] = Maker("_reconstruct", _reconstruct)
    MAKERS[f"numpy.{_core}.multiarray", "scalar"] = Maker("scalar", _scalar)
    MAKERS[f"numpy.{_core}.numeric", "_frombuffer"] = Maker("_frombuffer", _frombuffer)
