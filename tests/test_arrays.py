"""npy, npz and MAT: against numpy, scipy and bytes written by hand; what lies or carries objects is refused."""

import functools
import os
import pickle
import struct
import zipfile
import zlib

import numpy as np
import pytest
import scipy.io

from data.readers import arrays, sandbox
from tests.strangers import (
    ARRAYS,
    MAT_CLASSES,
    fuzz,
    mat,
    mat_matrix,
    mat_packed,
    raw_zip,
    refused,
    relabelled,
    same,
    write,
    zipped,
)
from tests.tiny import MINI

READERS = {
    "npy": lambda path: list(sandbox.read(arrays.load_npy, path))[0][0],
    "npz": lambda path: dict(sandbox.read(arrays.load_npz, path)),
    "mat": lambda path, name="labels": list(sandbox.read(arrays.load_mat, path, name))[0][0],
}


def npy(head, raw=b"", version=1):
    length = struct.pack("<H" if version == 1 else "<I", len(head))
    return b"\x93NUMPY" + bytes([version, 0]) + length + head + raw


def described(descr, shape, fortran=False):
    return b"{'descr': " + descr + b", 'fortran_order': " + str(fortran).encode() + b", 'shape': " + shape + b", }\n"


@pytest.mark.parametrize("name", [name for name, array in ARRAYS.items() if array.dtype.kind in "fiub"])
def test_npy_and_npz(name, tmp_path):
    value = ARRAYS[name]
    np.save(tmp_path / "a.npy", value)
    np.savez(tmp_path / "a.npz", one=value, other=np.arange(3))
    np.savez_compressed(tmp_path / "b.npz", one=value)
    assert same(READERS["npy"](str(tmp_path / "a.npy")), value)
    found = READERS["npz"](str(tmp_path / "a.npz"))
    assert list(found) == ["one", "other"] and same(found["one"], value) and same(found["other"], np.arange(3))
    assert same(READERS["npz"](str(tmp_path / "b.npz"))["one"], value)


def test_npy_of_python_2_and_of_version_2(tmp_path):
    raw = np.arange(6, dtype="<i4").tobytes()
    for data in (npy(described(b"'<i4'", b"(2L, 3L)"), raw), npy(described(b"'<i4'", b"(2, 3)"), raw, version=2)):
        assert READERS["npy"](write(tmp_path / "a.npy", data)).tolist() == [[0, 1, 2], [3, 4, 5]]


EVIL_NPY = {
    "objects": npy(described(b"'|O'", b"(1,)"), pickle.dumps([1])),
    "records": npy(described(b"[('a', '<f4')]", b"(1,)"), bytes(4)),
    "objects in records": npy(described(b"[('a', '|O')]", b"(1,)"), bytes(8)),
    "program": npy(described(b"__import__('os').system('x')", b"(1,)")),
    "shape that lies": npy(described(b"'<f4'", b"(1000000000000,)"), bytes(4)),
    "too few bytes": npy(described(b"'<f4'", b"(2,)"), bytes(7)),
    "too many bytes": npy(described(b"'<f4'", b"(2,)"), bytes(9)),
    "negative side": npy(described(b"'<f4'", b"(-1,)")),
    "endless digits": npy(described(b"'<f4'", b"(" + b"9" * 20_000 + b",)")),
    "many sides": npy(described(b"'<f4'", b"(" + b"1, " * 5000 + b")"), bytes(4)),
    "commas without end": npy(described(b"'<f4'", b"(" + b"1,1" * 9000 + b"!)")),
    "huge item": npy(described(b"'<U999999999'", b"(1,)")),
    "head cut": npy(described(b"'<f4'", b"(1,)"))[:40],
    "huge head": b"\x93NUMPY\x02\x00\xff\xff\xff\xff{",
    "version": b"\x93NUMPY\x09\x00\x01\x00{",
    "a pickle": pickle.dumps([1]),
    "a zip": b"PK\x03\x04",
}


@pytest.mark.parametrize("case", EVIL_NPY)
def test_npy_refused(case, tmp_path):
    data = EVIL_NPY[case]
    path = write(tmp_path / "evil.npy", data)
    refused(lambda: READERS["npy"](path), path)
    if case == "too many bytes":  # which numpy passes over in a zip's member
        return
    with zipfile.ZipFile(tmp_path / "evil.npz", "w") as archive:
        archive.writestr("x.npy", data)
    path = str(tmp_path / "evil.npz")
    refused(lambda: READERS["npz"](path), path)


class Calls:
    """Pickles to a call of os.system, as the objects in an array may."""

    def __init__(self, command):
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


def test_nothing_that_an_object_array_calls_is_run(tmp_path):
    canary = tmp_path / "canary"
    value = np.array([Calls(f"touch {canary}")], object)
    np.save(tmp_path / "evil.npy", value)
    np.savez(tmp_path / "evil.npz", x=value)
    np.load(tmp_path / "evil.npy", allow_pickle=True)  # the payload is a true one ...
    assert canary.exists()
    canary.unlink()
    for form in ("npy", "npz"):
        path = str(tmp_path / f"evil.{form}")
        refused(lambda form=form, path=path: READERS[form](path), path, "Object arrays")
    assert not canary.exists()  # ... and here it is not run


def zeros_npy(count):
    """An .npy of `count` zero bytes, packed by deflate, and its checksum and sizes, without ever holding it."""
    head = npy(described(b"'|u1'", b"(%d,)" % count))
    machine, packed, crc = zlib.compressobj(1, zlib.DEFLATED, -15), [], zlib.crc32(head)
    packed.append(machine.compress(head))
    for at in range(0, count, 2**20):
        chunk = bytes(min(2**20, count - at))
        packed.append(machine.compress(chunk))
        crc = zlib.crc32(chunk, crc)
    return b"".join([*packed, machine.flush()]), crc, len(head) + count


def npz_bomb():
    """300 MB of zeros."""
    return raw_zip(b"x.npy", *zeros_npy(300 * 2**20))


@functools.cache
def evil_npz():
    good = npy(described(b"'|u1'", b"(1000,)"), bytes(range(250)) * 4)
    plain = zipped([("x.npy", good)], zipfile.ZIP_STORED)
    packed = zipped([("x.npy", good)])
    with pytest.warns(UserWarning, match="Duplicate name"):
        twice = zipped([("x.npy", good), ("x.npy", good)])
    return {
        "size too small": relabelled(packed, 24, 500),
        "checksum": relabelled(plain, 16, 12345),
        "flipped byte": plain.replace(b"\x10\x11\x12", b"\x10\x11\x13", 1),
        "encrypted": relabelled(packed, 8, 1, 2),
        "twice": twice,
        "offset outside": relabelled(packed, 42, 2**31),
        "no array": zipped([("x.txt", b"hello")]),
        "list of members that lies": packed[:-10] + b"\xff\xff\xff\x7f" + packed[-6:],
        "no zip": good,
        "cut": packed[:-30],
        "nothing": b"",
        "list of 16 MB": (bytes(2**24 + 2**20) + b"PK\x05\x06"
            + struct.pack("<HHHHIIH", 0, 0, 1, 1, 2**24 + 2**19, 0, 0)),
    }  # fmt: skip


@pytest.mark.parametrize("case", evil_npz())
def test_npz_refused(case, tmp_path):
    path = write(tmp_path / "evil.npz", evil_npz()[case])
    refused(lambda: READERS["npz"](path), path)


# MAT v5


@pytest.mark.parametrize("compressed", [False, True])
def test_mat_of_every_class(compressed, tmp_path):
    path = str(tmp_path / "a.mat")
    for kind in (*MAT_CLASSES, "?"):
        value = np.arange(24).reshape(2, 3, 4).astype(kind)
        others = {"text": "labels", "struct": {"a": np.eye(3)}, "cell": np.array([1, "b"], object)}
        others["complex"] = 1j * np.eye(2)
        scipy.io.savemat(path, {**others, "labels": value, "after": np.ones(3)}, do_compression=compressed)
        found = READERS["mat"](path)
        assert found.shape == value.shape and (found == value).all()
        for name in (*others, "none"):
            refused(lambda name=name: READERS["mat"](path, name), path, f"'{name}'")


def test_mat_of_the_flowers():
    path = MINI / "oxford102" / "imagelabels.mat"
    if not path.is_file():
        pytest.skip(f"no {path}")
    found = READERS["mat"](str(path), "labels")
    assert found.shape == (1, 8189)
    np.testing.assert_array_equal(found, scipy.io.loadmat(path)["labels"])
    path = path.with_name("setid.mat")
    for name in ("trnid", "valid", "tstid"):
        np.testing.assert_array_equal(READERS["mat"](str(path), name), scipy.io.loadmat(path)[name])


def mat_bomb(size=300 * 2**20):
    """300 MB of zeros that say what they are."""
    head = mat_matrix(b"labels", np.zeros((1, 0)), "u1", shape=(1, size))[8:-8] + struct.pack("<II", 2, size)
    machine = zlib.compressobj(1)
    data = machine.compress(struct.pack("<II", 14, len(head) + size) + head)
    data += b"".join(machine.compress(bytes(2**20)) for _ in range(size // 2**20)) + machine.flush()
    return mat(struct.pack("<II", 15, len(data)) + data)


@functools.cache
def evil_mat():
    value = np.arange(6.0).reshape(2, 3)
    good = mat_matrix(b"labels", value, "f8")
    return {
        "v7.3": mat(version=0x0200),
        "HDF5 of Octave": b"\x89HDF\r\n\x1a\n" + bytes(200),
        "a picture": b"\xff\xd8\xff\xe0" * 50,
        "nothing": b"",
        "no matrix": mat(),
        "packed cut": mat(mat_packed(good)[:-20]),
        "packed rubbish": mat(struct.pack("<II", 15, 64) + bytes(range(64))),
        "packed in packed": mat(mat_packed(mat_packed(good))),
        "shape of gigabytes": mat(mat_matrix(b"labels", value, "f8", shape=(2**31 - 1, 2**31 - 1))),
        "20 million sizes": mat(mat_packed(mat_matrix(b"labels", value, "f8", shape=(1,) * 20_000_000))),
        "cells without content": mat(mat_matrix(b"labels", value, 1, stored="f8")),
        "a bomb": mat_bomb(),
    }  # fmt: skip


@pytest.mark.parametrize("case", evil_mat())
def test_mat_refused(case, tmp_path):
    path = write(tmp_path / "evil.mat", evil_mat()[case])
    refused(lambda: READERS["mat"](path), path)


def test_arrays_cut_anywhere(tmp_path):
    good = mat_matrix(b"labels", np.arange(6.0).reshape(2, 3), "f8")
    value = npy(described(b"'<f4'", b"(4,)"), bytes(16))
    for data, read in (
        (mat(good), READERS["mat"]),
        (mat(mat_packed(good)), READERS["mat"]),
        (value, READERS["npy"]),
        (zipped([("a.npy", value), ("b.npy", value)]), READERS["npz"]),
    ):
        read(write(tmp_path / "whole", data))
        for end in range(0, len(data), 5):
            path = write(tmp_path / "cut", data[:end])
            refused(lambda path=path, read=read: read(path), path)


# Memory, and damage


def test_array_bombs_are_refused(tmp_path):
    path = write(tmp_path / "zeros.npz", npz_bomb())
    refused(lambda: READERS["npz"](path), path, "MB of memory")
    path = write(tmp_path / "wide.npy", npy(described(b"'<f8'", b"(100000, 100000)")))
    refused(lambda: READERS["npy"](path), path)


NPYS = [npy(described(b"'<f4'", b"(4,)"), bytes(16)), npy(described(b"'<U2'", b"(1, 2)", True), bytes(16))]
PARTS = [mat_matrix(b"labels", np.arange(6.0).reshape(2, 3), "f8"), mat_matrix(b"labels", np.eye(2), "u1", stored="i1")]
OTHER = mat_matrix(b"other", np.arange(4).reshape(2, 2), "i4")
FUZZED = {  # name: (reader, valid files, what comes after the damage)
    "npy": ("npy", NPYS, bytes),
    "npz": ("npz", [zipped([("x.npy", one)], how) for one in NPYS for how in (0, 8)], bytes),
    "npy in npz": ("npz", NPYS, lambda data: zipped([("x.npy", data)])),
    "mat": ("mat", [mat(OTHER, PARTS[0]), mat(mat_packed(OTHER), mat_packed(PARTS[1])),
                    mat(mat_matrix(b"labels", np.eye(2), "u1", ">"), order=">")], bytes),
    "packed matrix": ("mat", PARTS, lambda data: mat(mat_packed(data))),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("form", FUZZED)
def test_fuzzed_arrays(form, tmp_path):
    reader, files, finish = FUZZED[form]
    fuzz(tmp_path, files, READERS[reader], finish)
