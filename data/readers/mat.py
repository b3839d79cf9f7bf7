"""One numeric matrix out of a stranger's MAT v5 file (MATLAB's -v6 and -v7); all else in it is passed over."""

import struct
import zlib

import numpy as np

from data.readers import plain
from data.readers.plain import AGAIN

MAX_GROWTH = 100  # times its own size that a file of over 2.6 MB may unpack to: labels repeat themselves
MAX_VARIABLES = 10_000
HEAD = 2**12  # bytes, unpacked, that hold a matrix's class, shape and name

_MATRIX, _COMPRESSED, _OPAQUE = 14, 15, 17
_COMPLEX, _LOGICAL = 0x800, 0x200  # flags of a matrix
_CLASSES = {6: "f8", 7: "f4", 8: "i1", 9: "u1", 10: "i2", 11: "u2", 12: "i4", 13: "u4", 14: "i8", 15: "u8"}
_STORED = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}


def load_mat(path: str, name: str, max_bytes: int = 2**28) -> np.ndarray:
    """The numeric matrix `name` of a MAT v5 file (MATLAB's -v6 and -v7), of its own class and shape.

    Other variables are passed over by their size. A logical matrix comes as booleans.

    Raises: ValueError naming file, byte and reason for a damaged file, a missing or non-numeric variable, MAT v7.3
        or more than `max_bytes`; OSError.
    """
    at, names = 0, []
    with open(path, "rb") as file:
        try:
            size = plain.file_size(file, max_bytes)
            data = memoryview(file.read(size))
            order, at = _order(bytes(data[:128])), 128
            while at < len(data):
                kind, body, after = _part(data, at, order)
                if len(names) > MAX_VARIABLES:
                    raise ValueError(f"there are over {MAX_VARIABLES:,} variables; is it the right file?")
                if kind in (_MATRIX, _COMPRESSED):
                    packed = kind == _COMPRESSED
                    names.append(_head(_unpack(body, order, 0) if packed else body, order)[2])
                    if names[-1] == name:
                        limit = plain.unpacked_limit(size, MAX_GROWTH, max_bytes)
                        return _matrix(_unpack(body, order, limit) if packed else body, order, limit)
                at = after
            raise ValueError(f"there is no matrix {name!r} up to here; it has {str(names)[:200]}; give the right file")
        except (ValueError, zlib.error) as error:
            raise ValueError(f"{path}: byte {at}: {error}") from None


def _order(head: bytes) -> str:
    """Byte order of a MAT v5 file from its first 128 bytes, "<" or ">"."""
    order = {b"IM": "<", b"MI": ">"}.get(head[126:128])
    version = struct.unpack(order + "H", head[124:126])[0] if order else 0
    if version == 0x0200 or head.startswith(b"\x89HDF"):
        raise ValueError("it is a MAT v7.3 (HDF5) file, which is not read; save it with -v7")
    if version != 0x0100:
        raise ValueError(f"it is no MAT v5 file, it starts with {head[:8]!r}; {AGAIN}, or save it with -v7")
    return order


def _part(data: memoryview, at: int, order: str) -> tuple[int, memoryview, int]:
    """Kind, content and end of the part that starts at byte `at` of `data`."""
    if at + 8 > len(data):
        raise ValueError(f"the data end where a part should start; {AGAIN}")
    kind, count = struct.unpack_from(order + "II", data, at)
    start, end = at + 8, at + 8 + count + (-count % 8 if kind != _COMPRESSED else 0)
    if kind >> 16:  # a small part: its size and up to 4 bytes of content share the 8 bytes
        kind, count, start, end = kind & 0xFFFF, kind >> 16, at + 4, at + 8
    if start + count > len(data) or count > end - start:
        raise ValueError(f"a part of {count:,} bytes is cut short; {AGAIN}")
    return kind, data[start : start + count], end


def _unpack(packed: memoryview, order: str, limit: int) -> memoryview:
    """The content of the one matrix in `packed`: all of it, or what its first HEAD bytes hold if limit = 0."""
    machine = zlib.decompressobj()
    tag = machine.decompress(packed, 8)
    kind, count = struct.unpack(order + "II", tag) if len(tag) == 8 else (0, 0)
    if kind != _MATRIX:
        raise ValueError(f"a packed part holds no matrix; {AGAIN}")
    if not limit:
        return memoryview(machine.decompress(machine.unconsumed_tail, HEAD))
    if count > limit:
        raise ValueError(f"it unpacks to {count:,} bytes; {limit:,} is the most for such a file")
    content = machine.decompress(machine.unconsumed_tail, count + 1)
    if len(content) != count or not machine.eof:
        raise ValueError(f"a packed matrix has not the {count:,} bytes that it says; {AGAIN}")
    return memoryview(content)


def _head(matrix: memoryview, order: str) -> tuple[int, tuple[int, ...], str, int]:
    """Class and flags, shape, name of a matrix, and where its values start."""
    kind, body, at = _part(matrix, 0, order)
    if kind != 6 or len(body) != 8:
        raise ValueError(f"a matrix has no class; {AGAIN}")
    flags = struct.unpack_from(order + "I", body)[0]
    if flags & 0xFF == _OPAQUE:
        return flags, (), "", at  # laid out differently, and of no use here
    kind, body, at = _part(matrix, at, order)
    if kind != 5 or len(body) % 4:
        raise ValueError(f"a matrix has no shape; {AGAIN}")
    shape = struct.unpack(f"{order}{len(body) // 4}i", body)
    kind, body, at = _part(matrix, at, order)
    return flags, shape, bytes(body).decode("latin1"), at


def _matrix(matrix: memoryview, order: str, limit: int) -> np.ndarray:
    flags, shape, name, at = _head(matrix, order)
    kind, body, at = _part(matrix, at, order) if at < len(matrix) else (0, b"", at)
    if flags & 0xFF not in _CLASSES or flags & _COMPLEX or kind not in _STORED:
        raise ValueError(f"{name!r} is no matrix of real numbers (class {flags & 0xFF}); only such are read")
    stored, dtype = np.dtype(order + _STORED[kind]), np.dtype(_CLASSES[flags & 0xFF])
    if not (np.can_cast(stored, dtype) or (dtype.kind == "f" and stored.kind in "iu")):
        raise ValueError(f"{name!r} is of {dtype} and stored as {stored}, which may not fit; {AGAIN}")
    if len(body) // stored.itemsize * dtype.itemsize > limit:
        raise ValueError(f"{name!r} takes over {limit:,} bytes; that is too much for such a file")
    values = plain.plain_array(body, stored, shape, "F").astype(dtype)  # MATLAB stores numbers as small as they go
    return values != 0 if flags & _LOGICAL else values
