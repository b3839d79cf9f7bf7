"""What the readers of strangers' files accept as an array: plain numbers or text, of exactly its shape's bytes."""

import math
import os
import re
from typing import BinaryIO

import numpy as np

MAX_DIMENSIONS = 8
MAX_SIDE = 2**40  # of an array without items, which takes no bytes whatever its shape
FREE_BYTES = 2**28  # what a file may unpack to whatever its own size
AGAIN = "fetch the file again"

_DTYPE = re.compile(r"[<>|=]?(?:f[248]|[iu][1248]|b1|[SU][1-9]\d{0,6})")


def plain_dtype(name: str) -> np.dtype:
    """The type of a name such as "<f4", "|u1" or "U7".

    Raises: ValueError for all but real numbers of 2, 4 and 8 bytes, integers, booleans, bytes and text.
    """
    if not _DTYPE.fullmatch(name):
        raise ValueError(f"dtype {name[:40]!r} is not read, only f2 f4 f8, i1 to i8, u1 to u8, b1, S and U are")
    return np.dtype(name)


def check_shape(dtype: np.dtype, shape: tuple[int, ...], count: int) -> None:
    """Raises: ValueError where `shape` is no shape or does not take `count` bytes."""
    if len(shape) > MAX_DIMENSIONS or any(type(side) is not int or not 0 <= side <= MAX_SIDE for side in shape):
        raise ValueError(f"shape {str(shape)[:80]} is not {MAX_DIMENSIONS} or fewer whole numbers from 0 on")
    expected = math.prod(shape) * dtype.itemsize
    if expected != count:
        raise ValueError(f"shape {shape} of {dtype.str} takes {expected:,} bytes, not the {count:,} that are there")


def plain_array(raw: object, dtype: np.dtype, shape: tuple[int, ...], order: str = "C") -> np.ndarray:
    """The bytes of `raw` as an array in this machine's byte order, without a copy where they are in it already.

    Raises: ValueError where bytes and shape disagree or the bytes are no such values.
    """
    check_shape(dtype, shape, len(raw))
    if len(raw) == 0:
        return np.zeros(shape, dtype.newbyteorder("="))
    array = np.frombuffer(raw, dtype)
    if dtype.kind == "b" and array.view(np.uint8).max() > 1:
        raise ValueError("a boolean is neither 0 nor 1")
    if dtype.kind == "U" and array.view(dtype.str[0] + "u4").max() > 0x10FFFF:
        raise ValueError("text holds a number that is no character")
    return array.astype(dtype.newbyteorder("="), copy=False).reshape(shape, order=order)


def file_size(file: BinaryIO, max_bytes: int) -> int:
    """Bytes of an open file. Raises: ValueError for more than `max_bytes`."""
    size = os.fstat(file.fileno()).st_size
    if size > max_bytes:
        raise ValueError(f"it has {size:,} bytes; at most {max_bytes:,} are read, is it the right file?")
    return size


def unpacked_limit(size: int, growth: int, max_bytes: int) -> int:
    """Bytes that a packed file of `size` bytes may unpack to: `growth` times as much, or 256 MB if that is more."""
    return min(max_bytes, max(FREE_BYTES, growth * size))
