"""Arrays out of strangers' files: .npy, .npz and one matrix of a MAT v5 file. Nothing is unpickled or evaluated."""

import math
import re
from typing import BinaryIO

import numpy as np

from data.readers import plain, zips
from data.readers.mat import load_mat

__all__ = ["load_mat", "load_npy", "load_npz"]

MAX_GROWTH = 20  # times its own size that a file of over 13 MB may unpack to: measured numbers hardly shrink at all
MAX_HEAD = 2**16  # bytes of an array's description
CHUNK = 2**20

_HEAD = re.compile(
    rb"\{\s*'descr':\s*'([^']*)',\s*'fortran_order':\s*(True|False),"
    rb"\s*'shape':\s*\(((?:\d{1,15}L?,\s*)*(?:\d{1,15}L?)?)\),?\s*\}\s*"  # Python 2 wrote (3L,)
)


def load_npy(path: str, max_bytes: int = 2**31) -> np.ndarray:
    """The array of an .npy file, in this machine's byte order.

    Raises: ValueError naming file and reason for anything but plain numbers, booleans or text of the declared size;
        OSError.
    """
    with open(path, "rb") as file:
        try:
            return _read_npy(file, plain.file_size(file, max_bytes))
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None


def load_npz(path: str, max_bytes: int = 2**31) -> dict[str, np.ndarray]:
    """Every array of an .npz file by name, in this machine's byte order.

    A file may unpack to 256 MB or 20 times its own size, whichever is more, and never to more than `max_bytes`.

    Raises: ValueError naming file, member and reason for a bomb, a lying size, a wrong checksum or objects; OSError.
    """
    place, arrays = "", {}
    with open(path, "rb") as file:
        try:
            limit = plain.unpacked_limit(plain.file_size(file, max_bytes), MAX_GROWTH, max_bytes)
            with zips.opened(file, limit) as archive:
                for member in archive.infolist():
                    place = f"member {member.filename[:80]!r}: "
                    if not member.filename.endswith(".npy"):
                        raise ValueError("it is no .npy array; an .npz file holds nothing else")
                    with archive.open(member) as stream:
                        arrays[member.filename.removesuffix(".npy")] = _read_npy(stream, member.file_size)
        except zips.BROKEN as error:
            raise ValueError(f"{path}: {place}{error}") from None
    return arrays


def _read_npy(stream: BinaryIO, size: int) -> np.ndarray:
    """The array in the `size` bytes of `stream`, head included; nothing is allocated before head and size agree."""
    start = stream.read(8)
    if start[:6] != b"\x93NUMPY" or len(start) < 8 or start[6] not in (1, 2, 3):
        raise ValueError(f"it is no .npy array, it starts with {start!r}; {plain.AGAIN}")
    width = 2 if start[6] == 1 else 4
    length = int.from_bytes(stream.read(width), "little")
    head = _HEAD.fullmatch(stream.read(min(length, MAX_HEAD)))
    if not head:
        raise ValueError("its head describes no plain array (objects and records are not read); save numbers or text")
    dtype, shape = plain.plain_dtype(head[1].decode("latin1")), tuple(map(int, re.findall(rb"\d+", head[3])))
    plain.check_shape(dtype, shape, size - 8 - width - length)
    raw = np.empty(math.prod(shape) * dtype.itemsize, np.uint8)
    for at in range(0, len(raw), CHUNK):
        part = stream.read(min(CHUNK, len(raw) - at))
        raw[at : at + len(part)] = np.frombuffer(part, np.uint8)
        if len(part) < min(CHUNK, len(raw) - at):
            raise ValueError(f"it ends after {at + len(part):,} of {len(raw):,} bytes; {plain.AGAIN}")
    stream.read(1)  # a zip's checksum is looked at when its member ends
    return plain.plain_array(raw, dtype, shape, "F" if head[2] == b"True" else "C")
