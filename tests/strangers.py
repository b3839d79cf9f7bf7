"""What the tests of the readers of strangers' files share: files written by hand, damage, and what a refusal is."""

import collections
import io
import os
import random
import re
import resource
import signal
import struct
import time
import zipfile
import zlib

import numpy as np
import pytest

from data.readers import sandbox

MAX_MEMORY = 1000  # MB


def refused(read, path, *words):
    """Runs `read`, which must raise one line that names the file and every word."""
    with pytest.raises(ValueError) as caught:
        read()
    message = str(caught.value)
    assert str(path) in message and "\n" not in message and len(message) < 600, message
    for word in words:
        assert word in message, message


def write(path, data):
    """Writes the bytes; returns the path as text."""
    path.write_bytes(data)
    return str(path)


def same(one, other):
    """Whether two values are equal and of one type; the order of an array's bytes aside."""
    if isinstance(other, np.ndarray):
        kind = other.dtype.newbyteorder("=")
        return isinstance(one, np.ndarray) and one.dtype == kind and one.shape == other.shape and (one == other).all()
    if isinstance(other, (list, tuple)):
        return type(one) is type(other) and len(one) == len(other) and all(map(same, one, other))
    return type(one) is type(other) and one == other


ARRAYS = {
    **{kind: np.arange(12).reshape(3, 4).astype(kind) for kind in
       ("f2", "<f4", ">f4", "f8", "i1", "u1", ">i2", "i4", "i8", ">u8", "?", "U3", ">U3", "S2")},
    "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "strided": np.arange(24.0).reshape(4, 6)[::2, ::3],
    "permuted": np.arange(24).reshape(2, 3, 4).transpose(1, 2, 0),
    "empty": np.zeros((0, 3), "f4"),
    "point": np.array(2.5),
    "big": np.arange(100_000, dtype="f4"),
}  # fmt: skip


def zipped(members, method=zipfile.ZIP_DEFLATED):
    """Bytes of a zip of (name or ZipInfo, bytes), the same at every time of day: tests are named by them."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, data in members:
            info = name if isinstance(name, zipfile.ZipInfo) else zipfile.ZipInfo(name)
            archive.writestr(info, data, info.compress_type if info is name else method)
    return buffer.getvalue()


def relabelled(data, field, value, width=4):
    """The zip with another number in its list of members: `field` is the offset in the last entry."""
    at = data.rindex(b"PK\x01\x02")
    data = bytearray(data)
    data[at + field : at + field + width] = value.to_bytes(width, "little")
    return bytes(data)


def raw_zip(name, packed, crc, size):
    """A zip of one member, from the bytes that deflate made of it."""
    head = struct.pack("<HHHHHIIIHH", 20, 0, 8, 0, 0x21, crc, len(packed), size, len(name), 0)
    local = b"PK\x03\x04" + head + name + packed
    listed = b"PK\x01\x02" + struct.pack("<H", 20) + head + bytes(14 - 4) + struct.pack("<I", 0) + name
    end = b"PK\x05\x06" + struct.pack("<HHHHIIH", 0, 0, 1, 1, len(listed), len(local), 0)
    return local + listed + end


def mat_part(order, kind, body):
    """The smallest thing in a MAT v5 file: a kind, a size, that many bytes."""
    if 0 < len(body) <= 4:
        word = struct.pack(order + "I", len(body) << 16 | kind)
        return word + body.ljust(4, b"\0")
    return struct.pack(order + "II", kind, len(body)) + body + bytes(-len(body) % 8)


MAT_STORED = {"i1": 1, "u1": 2, "i2": 3, "u2": 4, "i4": 5, "u4": 6, "f4": 7, "f8": 9, "i8": 12, "u8": 13}
MAT_CLASSES = {"f8": 6, "f4": 7, "i1": 8, "u1": 9, "i2": 10, "u2": 11, "i4": 12, "u4": 13, "i8": 14, "u8": 15}


def mat_matrix(name, values, kind, order="<", flags=0, stored="", shape=None, dims=None):
    """A matrix as a part of a MAT v5 file; `kind` and `stored` are codes of dtypes, or numbers to write as they are."""
    stored, shape = stored or kind, values.shape if shape is None else shape
    dims = mat_part(order, 5, struct.pack(f"{order}{len(shape)}i", *shape)) if dims is None else dims
    body = mat_part(order, 6, struct.pack(order + "II", MAT_CLASSES.get(kind, kind) | flags, 0)) + dims
    body += mat_part(order, 1, name)
    body += mat_part(order, MAT_STORED.get(stored, stored), values.astype(order + stored).tobytes(order="F"))
    return struct.pack(order + "II", 14, len(body)) + body


def mat(*parts, order="<", version=0x0100):
    """A MAT file of these parts."""
    head = b"MATLAB 5.0 MAT-file".ljust(124) + struct.pack(order + "H", version) + {"<": b"IM", ">": b"MI"}[order]
    return head + b"".join(parts)


def mat_packed(part, order="<"):
    """The part packed by zlib, which is a part again."""
    data = zlib.compress(part)
    return struct.pack(order + "II", 15, len(data)) + data


def t7_string(text):
    return struct.pack("<ii", 2, len(text)) + text


def t7_tensor(index, values, kind):
    """A contiguous tensor and its storage: objects number `index` and `index` + 1 of the file."""
    def named(number, word):
        name = f"torch.{kind}{word}".encode()
        return struct.pack("<iii", 4, number, 3) + b"V 1" + struct.pack("<i", len(name)) + name

    strides = np.array(values.strides) // values.itemsize
    body = struct.pack(f"<i{2 * values.ndim + 1}q", values.ndim, *values.shape, *strides, 1)
    items = struct.pack("<q", values.size) + values.tobytes()
    return named(index, "Tensor") + body + named(index + 1, "Storage") + items


def t7_table(**fields):
    """A Lua table of a string, a byte tensor or a float tensor each."""
    kinds = {"u1": "Byte", "f4": "Float", "f8": "Double"}
    data, index = struct.pack("<iii", 3, 1, len(fields)), 2
    for name, value in fields.items():
        data += t7_string(name.encode())
        if isinstance(value, bytes):
            data += t7_string(value)
        else:
            data, index = data + t7_tensor(index, value, kinds[value.dtype.str[1:]]), index + 2
    return data


# Readers that misbehave, for the sandbox


def spin(path):
    """Reads for ever."""
    with sandbox.opened(path):
        while True:
            pass
        yield


def grow(path):
    """Takes 400 MB."""
    with sandbox.opened(path):
        yield (np.ones(400 * 2**20, np.uint8).sum(),)


def crash(path):
    """Breaks as a library in C may."""
    with sandbox.opened(path):
        os.kill(os.getpid(), signal.SIGSEGV)
        yield


def flood(path):
    """Hands over much of little."""
    with sandbox.opened(path):
        for _ in range(10**5):
            yield ([""] * 10_000,)


def odd(path):
    """Hands over what is no plain value."""
    with sandbox.opened(path):
        yield ({"dtype": "f4", "shape": [1], "bytes": 2**40},)


def plain(path):
    """The values that may be handed over."""
    with sandbox.opened(path) as file:
        text = file.read().decode("latin1")
        yield text, 1, 2.5, None, True, ["a", "\ud800"], np.arange(6, dtype=">i2").reshape(2, 3)
        yield np.zeros((0, 3), np.float32), np.float32(0.5), float("nan")


# Memory, and damage


def mutated(random_state, files):
    """A valid file with a few bytes flipped, cut, doubled or grafted from another."""
    data = bytearray(random_state.choice(files))
    for _ in range(random_state.choice((1, 1, 2, 4, 16))):
        at, kind = random_state.randrange(len(data) + 1), random_state.randrange(6)
        if kind < 2 and at < len(data):
            data[at] = random_state.choice((random_state.randrange(256), 0, 255, 127, 128, data[at] ^ 1))
        elif kind == 2:
            del data[at:]
        elif kind == 3:
            del data[at : at + random_state.randrange(1, 20)]
        elif kind == 4:
            other = random_state.choice(files)
            start = random_state.randrange(len(other))
            data[at : at + random_state.choice((0, 20))] = other[start : start + random_state.randrange(1, 200)]
        else:
            number = random_state.choice(
                (0, 1, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**63, 2**64 - 1)
            )
            width = random_state.choice((2, 4, 8))
            data[at : at + width] = (number % 256**width).to_bytes(width, random_state.choice(("little", "big")))
    return bytes(data)


def fuzz(folder, files, read, finish=bytes, seconds=20):
    """Damages valid files for a while: each is read, or refused with its name, soon and in little memory.

    `finish` comes after the damage: it sets a checksum right or packs the bytes, so that what is below is reached too.
    """
    state, path, counts = random.Random(len(files)), folder / "fuzzed", collections.Counter()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        path.write_bytes(finish(mutated(state, files)))
        start = time.process_time()
        try:
            read(str(path))
            counts["read"] += 1
        except ValueError as error:
            counts["refused"] += 1
            assert str(path) in str(error) and not re.search(r"[\n\r]", str(error)), error
        assert time.process_time() - start < 5
    assert counts["refused"] > 100 and [found.name for found in folder.iterdir()] == ["fuzzed"]
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak < MAX_MEMORY * 1024
    print(dict(counts))
