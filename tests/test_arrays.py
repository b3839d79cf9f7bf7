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

from data.readers import arrays
from tests.strangers import (
    ARRAYS,
    MAT_CLASSES,
    MAX_MEMORY,
    all_read,
    fuzz,
    mat,
    mat_matrix,
    mat_packed,
    mat_part,
    raw_zip,
    refused,
    relabelled,
    same,
    write,
    zipped,
)
from tests.tiny import MINI

READERS = {
    "npy": arrays.load_npy,
    "npz": arrays.load_npz,
    "mat": lambda path, **limits: arrays.load_mat(path, "labels", **limits),
}


def npy(head, raw=b"", version=1):
    length = struct.pack("<H" if version == 1 else "<I", len(head))
    return b"\x93NUMPY" + bytes([version, 0]) + length + head + raw


def described(descr, shape, fortran=False):
    return b"{'descr': " + descr + b", 'fortran_order': " + str(fortran).encode() + b", 'shape': " + shape + b", }\n"


@pytest.mark.parametrize("name", ARRAYS)
def test_npy_and_npz(name, tmp_path):
    value = ARRAYS[name]
    np.save(tmp_path / "a.npy", value)
    np.savez(tmp_path / "a.npz", one=value, other=np.arange(3))
    np.savez_compressed(tmp_path / "b.npz", one=value)
    assert same(arrays.load_npy(str(tmp_path / "a.npy")), value)
    found = arrays.load_npz(str(tmp_path / "a.npz"))
    assert list(found) == ["one", "other"] and same(found["one"], value) and same(found["other"], np.arange(3))
    assert same(arrays.load_npz(str(tmp_path / "b.npz"))["one"], value)


def test_npy_of_python_2_and_of_version_2(tmp_path):
    raw = np.arange(6, dtype="<i4").tobytes()
    for data in (npy(described(b"'<i4'", b"(2L, 3L)"), raw), npy(described(b"'<i4'", b"(2, 3)"), raw, version=2)):
        assert arrays.load_npy(write(tmp_path / "a.npy", data)).tolist() == [[0, 1, 2], [3, 4, 5]]


EVIL_NPY = {
    "objects": (npy(described(b"'|O'", b"(1,)"), pickle.dumps([1])), "'|O'"),
    "records": (npy(described(b"[('a', '<f4')]", b"(1,)"), bytes(4)), "no plain array"),
    "objects in records": (npy(described(b"[('a', '|O')]", b"(1,)"), bytes(8)), "no plain array"),
    "program": (npy(described(b"__import__('os').system('x')", b"(1,)")), "no plain array"),
    "shape that lies": (npy(described(b"'<f4'", b"(1000000000000,)"), bytes(4)), "4,000,000,000,000 bytes, not the 4"),
    "too few bytes": (npy(described(b"'<f4'", b"(2,)"), bytes(7)), "8 bytes, not the 7"),
    "too many bytes": (npy(described(b"'<f4'", b"(2,)"), bytes(9)), "8 bytes, not the 9"),
    "negative side": (npy(described(b"'<f4'", b"(-1,)")), "no plain array"),
    "endless digits": (npy(described(b"'<f4'", b"(" + b"9" * 20_000 + b",)")), "no plain array"),
    "many sides": (npy(described(b"'<f4'", b"(" + b"1, " * 5000 + b")"), bytes(4)), "8 or fewer"),
    "commas without end": (npy(described(b"'<f4'", b"(" + b"1,1" * 9000 + b"!)")), "no plain array"),
    "huge item": (npy(described(b"'<U999999999'", b"(1,)")), "'<U999999999'"),
    "head cut": (npy(described(b"'<f4'", b"(1,)"))[:40], "no plain array"),
    "huge head": (b"\x93NUMPY\x02\x00\xff\xff\xff\xff{", "no plain array"),
    "version": (b"\x93NUMPY\x09\x00\x01\x00{", "no .npy array"),
    "a pickle": (pickle.dumps([1]), "no .npy array"),
    "a zip": (b"PK\x03\x04", "no .npy array"),
}


@pytest.mark.parametrize("case", EVIL_NPY)
def test_npy_refused(case, tmp_path):
    data, *words = EVIL_NPY[case]
    path = write(tmp_path / "evil.npy", data)
    refused(lambda: arrays.load_npy(path), path, *words)
    with zipfile.ZipFile(tmp_path / "evil.npz", "w") as archive:
        archive.writestr("x.npy", data)
    path = str(tmp_path / "evil.npz")
    refused(lambda: arrays.load_npz(path), path, "member 'x.npy'", *words)


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
        refused(lambda form=form, path=path: READERS[form](path), path, "'|O'")
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
    lzma_zip = zipped([("x.npy", good)], zipfile.ZIP_LZMA)
    return {
        "size that lies": (relabelled(packed, 24, 2**31), "member 'x.npy'", f"{2**31:,} bytes"),
        "stored size that lies": (relabelled(plain, 24, 5000), "says 5,000 bytes"),
        "size too small": (relabelled(packed, 24, 500), "member 'x.npy'", "Bad CRC-32"),
        "checksum": (relabelled(plain, 16, 12345), "member 'x.npy'", "Bad CRC-32"),
        "flipped byte": (plain.replace(b"\x10\x11\x12", b"\x10\x11\x13", 1), "member 'x.npy'", "Bad CRC-32"),
        "encrypted": (relabelled(packed, 8, 1, 2), "encrypted"),
        "other packing": (lzma_zip, "other means than deflate"),
        "twice": (twice, "twice"),
        "offset outside": (relabelled(packed, 42, 2**31), "member 'x.npy'"),
        "no array": (zipped([("x.txt", b"hello")]), "member 'x.txt'", "no .npy array"),
        "list of members that lies": (packed[:-10] + b"\xff\xff\xff\x7f" + packed[-6:], ""),
        "no zip": (good, "not a zip file"),
        "cut": (packed[:-30], "not a zip file"),
        "nothing": (b"", "not a zip file"),
        "list of 16 MB": (bytes(2**24 + 2**20) + b"PK\x05\x06"
            + struct.pack("<HHHHIIH", 0, 0, 1, 1, 2**24 + 2**19, 0, 0), "list of members"),
    }  # fmt: skip


@pytest.mark.parametrize("case", evil_npz())
def test_npz_refused(case, tmp_path):
    data, *words = evil_npz()[case]
    path = write(tmp_path / "evil.npz", data)
    refused(lambda: arrays.load_npz(path), path, *words)


def test_npz_may_grow_with_its_own_size(tmp_path):
    path = write(tmp_path / "zeros.npz", raw_zip(b"x.npy", *zeros_npy(3 * 2**20)))
    assert arrays.load_npz(path)["x"].shape == (3 * 2**20,)  # 1,000 times its size, but little
    refused(lambda: arrays.load_npz(path, max_bytes=2**21), path, "3,145,", f"{2**21:,}")


# MAT v5


@pytest.mark.parametrize("compressed", [False, True])
def test_mat_against_scipy(compressed, tmp_path):
    path = str(tmp_path / "a.mat")
    for kind in (*MAT_CLASSES, "?"):
        value = np.arange(24).reshape(2, 3, 4).astype(kind)
        others = {"text": "labels", "struct": {"a": np.eye(3)}, "cell": np.array([1, "b"], object)}
        others["complex"] = 1j * np.eye(2)
        scipy.io.savemat(path, {**others, "labels": value, "after": np.ones(3)}, do_compression=compressed)
        found = arrays.load_mat(path, "labels")
        oracle = scipy.io.loadmat(path, variable_names="labels", mat_dtype=True)["labels"]
        assert same(found, value) and same(found, oracle.astype(kind))
        assert arrays.load_mat(path, "after").tolist() == [[1, 1, 1]]
        for name, word in (("text", "class 4"), ("struct", "class 2"), ("cell", "class 1"), ("complex", "class 6")):
            refused(lambda name=name: arrays.load_mat(path, name), path, f"'{name}'", word, "byte ")
        refused(lambda: arrays.load_mat(path, "none"), path, "'none'", "labels", "after")


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("kind", MAT_CLASSES)
def test_mat_by_hand_in_both_byte_orders(order, kind, tmp_path):
    value = np.array([[1, 2, 3], [4, 5, 100]])
    small = mat_matrix(b"x", value[:1, :1], kind, order)
    matrix = mat_matrix(b"labels", value, kind, order)
    for whole in (matrix, mat_packed(matrix, order)):
        path = write(tmp_path / "a.mat", mat(small, whole, order=order))
        assert same(arrays.load_mat(path, "labels"), value.astype(kind))
        assert same(arrays.load_mat(path, "x"), value[:1, :1].astype(kind))
        assert (scipy.io.loadmat(path)["labels"] == value).all()  # the hand wrote what scipy takes for the same
    path = write(tmp_path / "b.mat", mat(mat_matrix(b"labels", value, "f8", order, stored="u1"), order=order))
    assert same(arrays.load_mat(path, "labels"), value.astype("f8"))  # as MATLAB writes whole numbers
    path = write(tmp_path / "c.mat", mat(mat_matrix(b"labels", value > 2, "u1", order, flags=0x200), order=order))
    assert same(arrays.load_mat(path, "labels"), value > 2)
    path = write(tmp_path / "d.mat", mat(mat_matrix(b"labels", np.zeros((0, 0)), "f8", order), order=order))
    assert arrays.load_mat(path, "labels").shape == (0, 0)


def test_mat_of_the_flowers():
    path = MINI / "oxford102" / "imagelabels.mat"
    if not path.is_file():
        pytest.skip(f"no {path}")
    found = arrays.load_mat(str(path), "labels")
    assert found.dtype == np.float64 and found.shape == (1, 8189)
    np.testing.assert_array_equal(found, scipy.io.loadmat(path)["labels"])
    path = path.with_name("setid.mat")
    for name in ("trnid", "valid", "tstid"):
        np.testing.assert_array_equal(arrays.load_mat(str(path), name), scipy.io.loadmat(path)[name])


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
    lying = struct.pack("<II", 14, len(good) + 800) + good[8:]
    name_only = (
        mat_part("<", 6, struct.pack("<II", 6, 0))
        + mat_part("<", 5, struct.pack("<ii", 1, 1))
        + mat_part("<", 1, b"labels")
    )
    flipped = bytearray(mat_packed(good))
    flipped[-1] ^= 1
    return {
        "v7.3": (mat(version=0x0200), "v7.3", "-v7"),
        "HDF5 of Octave": (b"\x89HDF\r\n\x1a\n" + bytes(200), "v7.3"),
        "v4": (struct.pack("<5i", 0, 1, 1, 0, 7) + b"labels\0" + bytes(200), "no MAT v5"),
        "a picture": (b"\xff\xd8\xff\xe0" * 50, "no MAT v5"),
        "nothing": (b"", "no MAT v5"),
        "no matrix": (mat(), "no matrix 'labels'"),
        "unpacked part that lies": (mat(lying), "byte 128", f"{len(good) + 800} bytes is cut short"),
        "packed size too large": (mat(mat_packed(lying)), "says", "byte 128"),
        "packed size too small": (mat(mat_packed(struct.pack("<II", 14, len(good) - 32) + good[8:])), "says"),
        "packed size absurd": (mat(mat_packed(struct.pack("<II", 14, 2**32 - 8) + good[8:])), f"{2**32 - 8:,}"),
        "packed cut": (mat(mat_packed(good)[:-20]), "byte 128", "cut short"),
        "packed checksum": (mat(bytes(flipped)), "incorrect data check"),
        "packed rubbish": (mat(struct.pack("<II", 15, 64) + bytes(range(64))), "byte 128"),
        "packed in packed": (mat(mat_packed(mat_packed(good))), "holds no matrix"),
        "cell": (mat(mat_matrix(b"labels", value, 1, stored="f8")), "class 1"),
        "sparse": (mat(mat_matrix(b"labels", value, 5, stored="f8")), "class 5"),
        "function": (mat(mat_matrix(b"labels", value, 16, stored="f8")), "class 16"),
        "complex": (mat(mat_matrix(b"labels", value, "f8", flags=0x800)), "real numbers"),
        "shape too large": (mat(mat_matrix(b"labels", value, "f8", shape=(2, 4))), "takes 64 bytes, not the 48"),
        "shape of gigabytes": (mat(mat_matrix(b"labels", value, "f8", shape=(2**31 - 1, 2**31 - 1))), "takes"),
        "negative shape": (mat(mat_matrix(b"labels", value, "f8", shape=(-2, -3))), "(-2, -3)"),
        "nine dimensions": (mat(mat_matrix(b"labels", value, "f8", shape=(2, 3) + (1,) * 7)), "8 or fewer"),
        "no shape": (mat(mat_matrix(b"labels", value, "f8", dims=mat_part("<", 9, bytes(16)))), "no shape"),
        "doubles for bytes": (mat(mat_matrix(b"labels", value, "u1", stored="f8")), "may not fit"),
        "no values": (mat(struct.pack("<II", 14, len(name_only)) + name_only), "no matrix of real numbers"),
        "small part of 9 bytes": (mat(struct.pack("<II", 14, 8) + struct.pack("<II", 9 << 16 | 6, 0)), "9 bytes"),
        "values that take 8 times": (
            mat(mat_packed(mat_matrix(b"labels", np.zeros((1, 40 * 2**20)), "f8", stored="u1"))), "takes over"),
        "variables without end": (mat(mat_matrix(b"x", value[:1, :1], "u1") * 10_002), "10,000 variables"),
    }  # fmt: skip


@pytest.mark.parametrize("case", evil_mat())
def test_mat_refused(case, tmp_path):
    data, *words = evil_mat()[case]
    path = write(tmp_path / "evil.mat", data)
    refused(lambda: arrays.load_mat(path, "labels"), path, "byte ", *words)


def test_arrays_cut_anywhere(tmp_path):
    good = mat_matrix(b"labels", np.arange(6.0).reshape(2, 3), "f8")
    value = npy(described(b"'<f4'", b"(4,)"), bytes(16))
    for data, read in (
        (mat(good), READERS["mat"]),
        (mat(mat_packed(good)), READERS["mat"]),
        (value, arrays.load_npy),
        (zipped([("a.npy", value), ("b.npy", value)]), arrays.load_npz),
    ):
        read(write(tmp_path / "whole", data))
        for end in range(len(data)):
            path = write(tmp_path / "cut", data[:end])
            refused(lambda path=path, read=read: read(path), path)


def test_arrays_over_the_limit(tmp_path):
    path = write(tmp_path / "f", bytes(100))
    for read in READERS.values():
        refused(lambda read=read: read(path, max_bytes=99), path, "100 bytes", "99")
        with pytest.raises(FileNotFoundError):
            read(str(tmp_path / "none"))


# Memory, and damage


def test_array_bombs_stay_small(tmp_path):
    write(tmp_path / "zeros.npz", npz_bomb())
    write(tmp_path / "zeros.mat", mat_bomb())
    write(tmp_path / "wide.npy", npy(described(b"'<f8'", b"(100000, 100000)")))
    lines, peak = all_read(tmp_path)
    assert len(lines) == 3 and all(str(tmp_path) in line for line in lines) and peak < MAX_MEMORY, (lines, peak)


@pytest.mark.slow
def test_npz_of_many_members_stays_small(tmp_path):
    empty = npy(described(b"'|u1'", b"(0,)"))
    write(tmp_path / "many.npz", zipped([(f"{i}.npy", empty) for i in range(200_000)], zipfile.ZIP_STORED))
    lines, peak = all_read(tmp_path)
    assert lines == ["many.npz was read"] and peak < MAX_MEMORY, (lines, peak)


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
