"""Strangers' files: what is good is read exactly, what is bad is refused with file, place and reason, and never run."""

import bz2
import collections
import copyreg
import functools
import gzip
import io
import lzma
import os
import pathlib
import pickle
import random
import re
import struct
import subprocess
import sys
import tarfile
import time
import zipfile
import zlib

import numpy as np
import pytest
import scipy.io

from data import archives
from data.readers import arrays, pickles, t7

ROOT = pathlib.Path(__file__).resolve().parents[1]
MINI = ROOT.parent / "shared" / "data" / "mini"
ATTNGAN = ROOT.parent / "realdata" / "cub" / "attngan_birds"
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
    path.write_bytes(data)
    return str(path)


# Pickles that are data


def same(one, other):
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


@pytest.mark.parametrize("protocol", range(6))
def test_pickled_arrays_and_scalars_of_every_protocol(protocol):
    values = [*ARRAYS.values(), *(array.flat[0] for array in ARRAYS.values() if array.size)]
    values.append(values[0])  # the same array again, by the memo
    found = pickles.loads(pickle.dumps(values, protocol))
    for one, other in zip(found, values, strict=True):
        assert same(one, other), (one, other)
    assert found[-1] is found[0] and not found[0].flags.writeable


@pytest.mark.parametrize("protocol", range(6))
def test_pickled_plain_values_of_every_protocol(protocol):
    value = {
        "text": "na\u00efve \u20ac \U0001f600 \n \\u", "": None, 1: True, 2.5: False, b"k": b"\x00\xff" * 200,
        None: b"",
        "numbers": [0, 255, 256, 65536, -1, 2**31, -(2**31), 2**63, -(2**63), 1e300, -0.5, float("inf")],
        "tuples": ((), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4)), "long": ["x" * 300, "y" * 70_000, list(range(3000))],
        "many": {str(i): i for i in range(2500)},
    }  # fmt: skip
    assert pickles.loads(pickle.dumps(value, protocol)) == value
    ordered = collections.OrderedDict(zip("cab", range(3), strict=True))
    found = pickles.loads(pickle.dumps(ordered, protocol))
    assert type(found) is dict and list(found.items()) == list(ordered.items())


def test_pickles_written_by_python_2():
    """Bytes as cPickle of Python 2.7 with numpy 1.16 writes them: arrays whose bytes are a str; Kiros' dictionary."""
    raw = np.array([1.5, -2.0], "<f4").tobytes()
    text = repr(raw)[1:].encode()
    head = (
        b"cnumpy.core.multiarray\n_reconstruct\np1\n(cnumpy\nndarray\np2\n(I0\ntS'b'\ntRp3\n(I1\n(I2\ntcnumpy\ndtype\n"
    )
    state = b"p4\n(S'f4'\nI0\nI1\ntRp5\n(I3\nS'<'\nNNNI-1\nI-1\nI0\ntbI00\n"
    np.testing.assert_array_equal(pickles.loads(head + state + b"S" + text + b"\np6\ntb."), [1.5, -2.0])
    binary = b"\x80\x02cnumpy.core.multiarray\n_reconstruct\nq\x01cnumpy\nndarray\nq\x02K\x00\x85U\x01b\x87Rq\x03"
    binary += b"(K\x01K\x02\x85"
    binary += (
        b"cnumpy\ndtype\nq\x04U\x02f4K\x00K\x01\x87Rq\x05(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89"
    )
    np.testing.assert_array_equal(pickles.loads(binary + b"T\x08\x00\x00\x00" + raw + b"q\x06tq\x07b."), [1.5, -2.0])
    scalar = b"(lp0\ncnumpy.core.multiarray\nscalar\np1\n(cnumpy\ndtype\np2\n(S'i8'\nI0\nI1\ntRp3\n(I3\nS'<'\n"
    scalar += b"NNNI-1\nI-1\nI0\n"
    assert pickles.loads(scalar + b"tbS'\\x02\\x00\\x00\\x00\\x00\\x00\\x00\\x00'\ntRp4\nag4\na.") == [2, 2]
    words = b"ccollections\nOrderedDict\np0\n((lp1\n(lp2\nS'a'\np3\naI2\naa(lp4\nS'caf\\xc3\\xa9'\np5\naI3\naatRp6\n."
    assert list(pickles.loads(words).items()) == [("a", 2), ("caf\u00c3\u00a9", 3)]
    assert pickles.loads(b"(dp0\nS'it\\'s\\n'\nL5L\nsV\\ud83d\\ude00\nF1.5\nsU\n.".replace(b"sU\n", b"s")) == {
        "it's\n": 5, "\U0001f600": 1.5}  # fmt: skip
    assert pickles.loads(b"(lp0\nI01\naI00\na.") == [True, False]


def test_attngans_own_pickles():
    if not ATTNGAN.is_dir():
        pytest.skip(f"no {ATTNGAN}: unpack cub.tar of the shared data beside the project")
    names = pickles.load(str(ATTNGAN / "train" / "filenames.pickle"))
    classes = pickles.load(str(ATTNGAN / "train" / "class_info.pickle"))
    assert len(names) == len(classes) == 8855 and all(type(name) is str for name in names)
    assert {int(name[:3]) for name in names} == set(map(int, classes))
    start = time.process_time()
    train, test, words, ids = pickles.load(str(ATTNGAN / "captions.pickle"))
    assert time.process_time() - start < 10  # 1.3 on an idle core
    assert (len(train), len(test)) == (88_550, 29_330) and all(ids[words[i]] == i for i in words)


# Pickles that are not


class Calls:
    """Pickles to a call of `function`, as any class may."""

    def __init__(self, function, *values):
        self.function, self.values = function, values

    def __reduce__(self):
        return self.function, self.values


def frame(code, count):
    return code + struct.pack("<Q", count)


ARRAY = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntC\x01btR"
FLOAT = (
    b"cnumpy\ndtype\n(X\x02\x00\x00\x00f4\x89\x88tR(K\x03X\x01\x00\x00\x00<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
)

BUFFER = b"cnumpy.core.numeric\n_frombuffer\n(C\x04" + bytes(4) + FLOAT + b"K\x01\x85"


def array(shape=b"K\x02\x85", dtype=FLOAT, raw=b"C\x08" + bytes(8)):
    return ARRAY + b"(K\x01" + shape + dtype + b"\x89" + raw + b"tb."


def dtype(code, state=b"(K\x03X\x01\x00\x00\x00<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"):
    return b"cnumpy\ndtype\n(\x8c" + bytes([len(code)]) + code + b"\x89\x88tR" + state


TENFOLD = [b"]q" + bytes([n]) + b"(" + (b"h" + bytes([n - 1])) * 10 + b"e" for n in range(1, 12)]
LAUGHS = b"(]q\x00(K\x01K\x02e" + b"".join(TENFOLD) + b"l."  # 2 x 10^11 numbers, in 300 bytes
EVIL = {  # name: (bytes, words of the message)
    "dotted name": (b"\x80\x04\x8c\x05numpy\x8c\x10ndarray.__base__\x93.", "numpy.ndarray.__base__"),
    "numpy.load": (b"cnumpy\nload\n(S'x'\ntR.", "numpy.load"),
    "fromfile": (b"cnumpy.core.multiarray\nfromfile\n(S'x'\ntR.", "fromfile"),
    "copyreg": (b"ccopy_reg\n_reconstructor\n(c__builtin__\nobject\nc__builtin__\nobject\nNtR.", "copy_reg"),
    "getattr": (b"c__builtin__\ngetattr\n(c__builtin__\nobject\nS'__subclasses__'\ntR.", "__builtin__.getattr"),
    "builtins.bytes": (b"cbuiltins\nbytes\n(K\x05tR.", "builtins.bytes"),
    "bytes of a number": (b"c__builtin__\nbytes\n(I999999999\ntR.", "bytes is an int"),
    "codec": (b"c_codecs\nencode\n(X\x01\x00\x00\x00aX\x05\x00\x00\x00rot13tR.", "'rot13'"),
    "codec of a list": (b"c_codecs\nencode\n(]X\x06\x00\x00\x00latin1tR.", "a list, a str"),
    "a list as name": (b"]]\x93.", "names a list of a list"),
    "INST": (b"(S'touch x'\nios\nsystem\n.", "INST"),
    "OBJ": (b"(cos\nsystem\nS'x'\no.", "os.system"),
    "OBJ of a stand-in": (b"(cnumpy\ndtype\nS'f4'\no.", "OBJ"),
    "NEWOBJ": (b"\x80\x02cnumpy\nndarray\n)\x81.", "NEWOBJ"),
    "NEWOBJ_EX": (b"\x80\x04cnumpy\nndarray\n)}\x92.", "NEWOBJ_EX"),
    "persistent id": (b"Psomewhere\n.", "PERSID"),
    "binary persistent id": (b"K\x01Q.", "BINPERSID"),
    "EXT1": (b"\x80\x02\x82\xf0)R.", "EXT1"),
    "EXT2": (b"\x80\x02\x83\xf0\x00)R.", "EXT2"),
    "EXT4": (b"\x80\x02\x84\xf0\x00\x00\x00)R.", "EXT4"),
    "call of a list": (b"])R.", "a list is called"),
    "call with a list": (b"cnumpy\ndtype\n]R.", "is called"),
    "call of ndarray": (b"cnumpy\nndarray\n)R.", "numpy.ndarray is called"),
    "BUILD of a list": (b"](Ntb.", "a list is given a state"),
    "BUILD of a dict": (b"}}X\x01\x00\x00\x00aK\x01sb.", "a dict is given a state"),
    "BUILD of a name": (b"cnumpy\ndtype\n}b.", "numpy.dtype is given a state"),
    "BUILD of an array by a dict": (ARRAY + b"}b.", "an array is given a state"),
    "append to a dict": (b"}K\x01a.", "appended to a dict"),
    "append to an array": (array()[:-1] + b"K\x01a.", "appended to a ndarray"),
    "items of a list": (b"]K\x01K\x02s.", "put into a list"),
    "key without value": (b"}(K\x01u.", "1 keys and values"),
    "tuple as key": (b"}K\x01" + b"\x85" * 50_000 + b"K\x01s.", "a key is a tuple"),
    "list as key": (b"}]K\x01s.", "a key is a list"),
    "array as key": (b"}" + array()[:-1] + b"K\x01s.", "a key is a ndarray"),
    "tuple as key of an OrderedDict": (b"ccollections\nOrderedDict\n(](K\x01\x85K\x02\x86etR.", "a key is a tuple"),
    "OrderedDict of no pairs": (b"ccollections\nOrderedDict\n(](K\x01etR.", "no pair"),
    "huge bytes": (frame(b"\x80\x04\x8e", 2**62), "byte 2:", f"{2**62:,}"),
    "huge text": (frame(b"\x80\x04\x8d", 2**40) + b"x", f"{2**40:,} bytes should follow, but 1 do"),
    "huge bytearray": (frame(b"\x80\x05\x96", 2**31), f"{2**31:,}"),
    "negative string": (b"T\xff\xff\xff\xffabc.", "4,294,967,295"),
    "huge frame": (frame(b"\x80\x04\x95", 2**50) + b"N.", "a frame of"),
    "huge long": (b"\x8b" + struct.pack("<i", 2**30) + b"1.", "LONG4"),
    "long of 255 bytes": (b"\x8a\xff" + bytes(255) + b".", "255 bytes"),
    "a million digits": (b"I" + b"9" * 1_000_000 + b"\n.", "a line is cut short or over"),
    "memo index": (b"Nr\xff\xff\xff\xff.", "memo index 4294967295"),
    "negative memo index": (b"Np-5\n.", "memo index -5"),
    "memo index never set": (b"h\x07.", "memo index 7"),
    "memo of an array's bytes": (array(raw=b"C\x08" + bytes(8) + b"q\x05")[:-1] + b"h\x05.", "memo index 5"),
    "array before it is whole": (ARRAY + b"q\x01h\x01.", "before it is whole"),
    "array that never is": (ARRAY + b".", "an array is left"),
    "dtype as data": (b"]" + FLOAT + b"a.", "a dtype is left"),
    "name as data": (b"]cnumpy\nndarray\na.", "numpy.ndarray is left"),
    "billion laughs": (LAUGHS, "shared parts"),
    "list in itself": (b"]q\x00h\x00a.", "within themselves"),
    "dict in itself": (b"}q\x00K\x01h\x00s.", "within themselves"),
    "deep lists": (b"]" * 5000 + b"a" * 4999 + b".", "nested over 100 deep"),
    "deep tuples": (b"N" + b"\x85" * 100_000 + b".", "nested over 100 deep"),
    "deep marks": (b"(" * 100_000 + b".", "nested over 100 deep"),
    "objects": (array(dtype=dtype(b"O8")), "'O8'"),
    "records": (array(dtype=dtype(b"V8")), "'V8'"),
    "objects within records": (array(dtype=dtype(b"f4", b"(K\x03X\x01\x00\x00\x00|NX\x01\x00\x00\x00a\x85}"
        b"X\x01\x00\x00\x00a" + dtype(b"O8") + b"K\x00\x86sK\x08K\x01K\x1btb")), "'O8'"),
    "named fields": (array(dtype=dtype(b"f4", b"(K\x03X\x01\x00\x00\x00<NX\x01\x00\x00\x00a\x85}K\x04K\x01K\x00tb")),
        "a tuple"),
    "dtype code that is a program": (array(dtype=dtype(b"f4,O,(2,)i8")), "'f4,O,(2,)i8'"),
    "complex": (array(dtype=dtype(b"c8")), "'c8'"),
    "dates": (array(dtype=dtype(b"M8")), "'M8'"),
    "items of 2 GB": (array(dtype=dtype(b"S2147483647")), "S2147483647"),
    "too few bytes": (array(raw=b"C\x07" + bytes(7)), "takes 8 bytes, not the 7"),
    "too many bytes": (array(raw=b"C\x09" + bytes(9)), "takes 8 bytes, not the 9"),
    "negative side": (array(shape=b"J\xfe\xff\xff\xff\x85"), "shape (-2,)"),
    "product that overflows": (array(shape=b"(\x8a\x05" + bytes(4) + b"\x01\x8a\x05" + bytes(4) + b"\x01t"),
        f"takes {4 * 2**64:,} bytes"),
    "side of text": (array(shape=b"X\x01\x00\x00\x002\x85"), "shape ('2',)"),
    "nine dimensions": (array(shape=b"(" + b"K\x01" * 8 + b"K\x02t"), "8 or fewer"),
    "boolean of 2": (array(shape=b"K\x08\x85", dtype=dtype(b"b1", b""), raw=b"C\x08" + b"\x02" * 8), "boolean"),
    "no character": (array(shape=b"K\x02\x85", dtype=dtype(b"U1"), raw=b"C\x08" + b"\xff" * 8), "no character"),
    "bytes beyond latin1": (array(raw=b"X\x03\x00\x00\x00\xe2\x82\xac"), "latin-1"),
    "kind of array": (b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\ndtype\n(I0\ntC\x01btR.", "no kind of array"),
    "buffer in odd order": (BUFFER + b"X\x01\x00\x00\x00AtR.", "'A'"),
    "axes that are none": (BUFFER + b"X\x01\x00\x00\x00KK\x09\x85tR.", "(9,)"),
    "scalar of objects": (b"cnumpy.core.multiarray\nscalar\n(" + dtype(b"O8") + b"]tR.", "'O8'"),
    "set": (b"\x80\x04\x8f(K\x01\x90.", "EMPTY_SET"),
    "outside buffer": (b"\x80\x05\x97.", "NEXT_BUFFER"),
    "protocol 6": (b"\x80\x06N.", "protocol above 5"),
    "empty stack": (b"a.", "not there"),
    "empty memo put": (b"q\x00.", "not there"),
    "mark that is not there": (b"t.", "not there"),
    "two values": (b"NN.", "one value"),
    "open mark": (b"N(.", "one value"),
    "more after the end": (b"N.N.", "2 bytes follow the end"),
    "text that is no UTF-8": (b"X\x01\x00\x00\x00\xff.", "utf-8"),
    "half a character": (b"V\\ud83d\n.", "utf-16"),
    "text without quotes": (b"Sabc\n.", "quotes"),
    "odd escape": (b"S'\\q'\n.", "escape"),
    "a picture": (b"\xff\xd8\xff\xe0\x00\x10JFIF", "byte 0:"),
    "nothing": (b"", "cut short"),
}  # fmt: skip


@pytest.mark.parametrize("case", EVIL)
def test_pickle_refused(case, tmp_path):
    data, *words = EVIL[case]
    path = write(tmp_path / "evil.pickle", data)
    refused(lambda: pickles.load(path), path, "byte ", *words)


@pytest.mark.parametrize("protocol", range(6))
def test_nothing_that_a_pickle_calls_is_run(protocol, tmp_path):
    canary = tmp_path / "canary"
    command = f"touch {canary}"
    evil = {
        "os.system": Calls(os.system, command),
        "eval": Calls(eval, f"open({str(canary)!r}, 'w').close()"),
        "exec": Calls(exec, f"open({str(canary)!r}, 'w').close()"),
        "nested": Calls(Calls, Calls(os.system, command)),
        "in a list": [1, {"a": (2, Calls(os.system, command))}],
        "Popen": Calls(subprocess.getoutput, command),
        "open": Calls(io.open, str(canary), "w"),
    }
    for name, value in evil.items():
        data = pickle.dumps(value, protocol)
        if name != "nested" and name != "open":
            pickle.loads(data)  # the payload is a true one ...
            assert canary.exists(), name
            canary.unlink()
        path = write(tmp_path / "evil.pickle", data)
        refused(lambda path=path: pickles.load(path), path, "byte ", "nothing was run")
        assert not canary.exists(), name  # ... and here it is not run


def test_extension_codes_of_this_process_are_not_looked_up(tmp_path):
    module = os.system.__module__
    copyreg.add_extension(module, "system", 240)
    try:
        data = pickle.dumps(os.system, 2)
        assert data[2:3] == b"\x82" and pickle.loads(data) is os.system
        refused(lambda: pickles.loads(data, "evil"), "evil", "EXT1")
    finally:
        copyreg.remove_extension(module, "system", 240)


@pytest.mark.parametrize("protocol", range(6))
def test_pickle_cut_anywhere(protocol):
    data = pickle.dumps({"a": [np.arange(3.0), np.float32(1)], "b": (1, "text", b"bytes", 2.5, None)}, protocol)
    for end in range(len(data)):
        refused(lambda end=end: pickles.loads(data[:end], "cut.pickle"), "cut.pickle", "byte ")


def test_file_over_the_limit(tmp_path):
    path = write(tmp_path / "f", bytes(100))
    for read in (pickles.load, t7.load, arrays.load_npy, arrays.load_npz):
        refused(lambda read=read: read(path, max_bytes=99), path, "100 bytes", "99")
    refused(lambda: arrays.load_mat(path, "x", max_bytes=99), path, "100 bytes", "99")
    for read in (pickles.load, t7.load, arrays.load_npy, arrays.load_npz):
        with pytest.raises(FileNotFoundError):
            read(str(tmp_path / "none"))


# Torch 7


class Lua:
    """Writes what torch.save writes, after the layout of Torch's File."""

    def __init__(self):
        self.objects = 0

    def number(self, value):
        return struct.pack("<id", 1, value)

    def string(self, value):
        return struct.pack("<ii", 2, len(value)) + value

    def boolean(self, value):
        return struct.pack("<ii", 5, value)

    def next(self):
        self.objects += 1
        return struct.pack("<i", self.objects)

    def table(self, pairs):
        return struct.pack("<i", 3) + self.next() + struct.pack("<i", len(pairs)) + b"".join(k + v for k, v in pairs)

    def torch(self, name, body, version=b"V 1"):
        head = struct.pack("<i", 4) + self.next()
        return head + b"".join(struct.pack("<i", len(part)) + part for part in (version, name) if part) + body

    def storage(self, values, kind=b"Float"):
        return self.torch(b"torch." + kind + b"Storage", struct.pack("<q", len(values)) + values.tobytes())

    def tensor(self, sizes, strides, offset, storage, kind=b"Float"):
        count = len(sizes)
        body = struct.pack(f"<i{count}q{count}qq", count, *sizes, *strides, offset) + storage
        return self.torch(b"torch." + kind + b"Tensor", body)


NIL = struct.pack("<i", 0)
KINDS = {
    b"Byte": "u1",
    b"Char": "i1",
    b"Short": "<i2",
    b"Int": "<i4",
    b"Long": "<i8",
    b"Float": "<f4",
    b"Double": "<f8",
}


def test_t7_table_as_of_one_picture():
    """Two captions of three letters, their embeddings, and the picture's name, as in the archives of Reed et al."""
    lua = Lua()
    letters = np.array([[8, 1], [9, 2], [0, 3]], "u1")  # [letters, captions]
    embeddings = np.arange(8, dtype="<f4").reshape(2, 4)
    data = lua.table([
        (lua.string(b"img"), lua.string(b"jpg/image_00001.jpg")),
        (lua.string(b"char"), lua.tensor((3, 2), (2, 1), 1, lua.storage(letters.ravel(), b"Byte"), b"Byte")),
        (lua.string(b"txt"), lua.tensor((2, 4), (4, 1), 1, lua.storage(embeddings.ravel()))),
        (lua.string(b"word"), lua.tensor((4, 2), (1, 4), 1, lua.storage(embeddings.ravel()))),  # transposed
        (lua.number(1), lua.boolean(True)), (lua.boolean(False), NIL), (lua.number(2.5), lua.number(-1)),
    ])  # fmt: skip
    found = t7.loads(data)
    assert list(found) == [b"img", b"char", b"txt", b"word", 1.0, False, 2.5]
    assert found[b"img"] == b"jpg/image_00001.jpg" and found[1.0] is True and found[False] is None and found[2.5] == -1
    np.testing.assert_array_equal(found[b"char"], letters)
    np.testing.assert_array_equal(found[b"txt"], embeddings)
    np.testing.assert_array_equal(found[b"word"], embeddings.T)
    assert all(found[key].flags.c_contiguous and found[key].base is None for key in (b"txt", b"word"))


@pytest.mark.parametrize("kind", KINDS)
def test_t7_tensors_of_every_class(kind):
    lua, values = Lua(), np.arange(-4, 20).astype(KINDS[kind])
    cases = [  # sizes, strides, offset
        ((24,), (1,), 1), ((2, 3, 4), (12, 4, 1), 1), ((4, 3, 2), (1, 4, 12), 1), ((3,), (8,), 5), ((5, 2), (0, 1), 3),
        ((2, 1, 2), (1, 10**15, 1), 22), ((), (), 1), ((0, 3), (3, 1), 1),
    ]  # fmt: skip
    for sizes, strides, offset in cases:
        found = t7.loads(lua.tensor(sizes, strides, offset, lua.storage(values, kind), kind))
        assert found.dtype == np.dtype(KINDS[kind])
        expected = np.zeros(sizes or (0,), found.dtype)
        for place in np.ndindex(*sizes) if sizes else ():
            expected[place] = values[offset - 1 + sum(i * step for i, step in zip(place, strides, strict=True))]
        np.testing.assert_array_equal(found, expected)
    assert t7.loads(lua.tensor((), (), 1, NIL, kind)).shape == (0,)
    np.testing.assert_array_equal(t7.loads(lua.storage(values, kind)), values)


def test_t7_modules_shared_objects_and_cycles():
    lua = Lua()
    again = struct.pack("<ii", 4, 3)  # the storage once more
    weight = lua.tensor((2,), (1,), 1, lua.storage(np.array([1, 2], "<f4")))  # objects 1 and 2
    lua.objects = 0
    table = struct.pack("<iii", 3, 1, 3)
    storage = (
        struct.pack("<ii", 4, 3)
        + b"\x03\x00\x00\x00V 1\x12\x00\x00\x00torch.FloatStorage"
        + struct.pack("<q2f", 2, 1, 2)
    )
    body = struct.pack("<ii", 4, 2) + b"\x03\x00\x00\x00V 1\x11\x00\x00\x00torch.FloatTensor"
    body += struct.pack("<iqqq", 1, 2, 1, 1)
    tensor_again = (
        struct.pack("<ii", 4, 5) + b"\x11\x00\x00\x00torch.FloatTensor" + struct.pack("<iqqq", 1, 1, 1, 2)
    )  # no version
    module = struct.pack("<ii", 4, 4) + b"\x03\x00\x00\x00V 1\x09\x00\x00\x00nn.Linear" + struct.pack("<iii", 3, 6, 2)
    module += lua.string(b"bias") + tensor_again + again + lua.string(b"parent") + struct.pack("<ii", 3, 1)
    found = t7.loads(
        table
        + lua.string(b"w")
        + body
        + storage
        + lua.string(b"m")
        + module
        + lua.string(b"me")
        + struct.pack("<ii", 3, 1)
    )
    assert found[b"me"] is found and found[b"m"].class_name == "nn.Linear" and found[b"m"].fields[b"parent"] is found
    np.testing.assert_array_equal(found[b"w"], [1, 2])
    np.testing.assert_array_equal(found[b"m"].fields[b"bias"], [2])
    np.testing.assert_array_equal(t7.loads(weight), [1, 2])


def test_t7_pairs_whose_key_is_a_table_are_left_out():
    """nngraph keeps a network's nodes as keys; what comes after them is read all the same."""
    lua = Lua()
    node = lua.table([(lua.string(b"id"), lua.number(7))])
    module = lua.torch(b"nn.Tanh", lua.table([(lua.string(b"output"), NIL)]))
    known = struct.pack("<ii", 3, 1)  # the first table once more
    found = t7.loads(lua.table([
        (node, lua.number(1)), (module, lua.table([(lua.number(1), NIL)])), (lua.string(b"node"), known),
    ]))  # fmt: skip
    assert found == {b"node": {b"id": 7.0}}


@functools.cache
def evil_t7():
    lua, items = Lua(), np.arange(24, dtype="<f4")

    def tensor(sizes, strides, offset, kind=b"Float"):
        return lua.tensor(sizes, strides, offset, lua.storage(items), kind)

    chain = b"".join(struct.pack("<iii", 3, n, 1) + lua.number(1) for n in range(1, 100_500)) + NIL
    tensors = b"".join(
        struct.pack("<ii", 4, n) + b"\x11\x00\x00\x00torch.FloatTensor" + struct.pack("<iqqq", 1, 1, 1, 1)
        for n in range(1, 3000)
    )
    modules = b"".join(struct.pack("<ii", 4, n) + b"\x02\x00\x00\x00nn" for n in range(1, 3000))
    return {
        "stride outside": (tensor((2, 3), (24, 1), 1), "items 1 to 27 of a storage of 24"),
        "offset outside": (tensor((1,), (1,), 25), "items 25 to 25"),
        "offset zero": (tensor((1,), (1,), 0), "items 0 to 0"),
        "offset far": (tensor((1,), (1,), 2**62), f"{2**62}"),
        "negative stride": (tensor((2,), (-1,), 5), "(-1,)", "negative"),
        "negative size": (tensor((-2,), (1,), 1), "(-2,)", "negative"),
        "product overflows to 0": (tensor((2**32, 2**32), (0, 0), 1), f"{2**32}"),
        "stride overflows": (tensor((2**33 + 1,), (2**31,), 1), f"{2**64 + 1}"),
        "one item a billion times": (tensor((2**30,), (0,), 1), "tensors take over"),
        "nine dimensions": (tensor((1,) * 9, (1,) * 9, 1), "9 dimensions"),
        "minus one dimensions": (lua.torch(b"torch.FloatTensor", struct.pack("<i", -1)), "-1 dimensions"),
        "empty of absurd sides": (tensor((0, 2**50), (1, 1), 1), "shape"),
        "storage of another type": (tensor((2,), (1,), 1, b"Double"), "no storage of float64 but float32"),
        "no storage": (lua.tensor((2,), (1,), 1, NIL), "storage of 0"),
        "number for a storage": (lua.tensor((2,), (1,), 1, lua.number(1)), "but a float"),
        "storage beyond the file": (lua.torch(b"torch.ByteStorage", struct.pack("<q", 2**60)), f"{2**60:,}"),
        "negative storage": (lua.torch(b"torch.ByteStorage", struct.pack("<q", -1)), "-1"),
        "string beyond the file": (struct.pack("<ii", 2, 2**31 - 1) + b"abc", "2,147,483,647"),
        "negative string": (struct.pack("<ii", 2, -1), "-1"),
        "table beyond the file": (struct.pack("<iii", 3, 1, 2**31 - 1), "2,147,483,647 pairs"),
        "negative table": (struct.pack("<iii", 3, 1, -1), "-1 pairs"),
        "deep tables": (chain, "100000 deep"),
        "tensor within tensor": (tensors, "objects in turn"),
        "object within object": (modules, "objects in turn"),
        "tensor as its own storage": (struct.pack("<ii", 4, 1) + b"\x11\x00\x00\x00torch.FloatTensor"
            + struct.pack("<iqqq", 1, 1, 1, 1) + struct.pack("<ii", 4, 1), "within itself"),
        "nil as key": (lua.table([(NIL, lua.number(1))]), "key is a nonetype"),
        "nan as key": (lua.table([(lua.number(float("nan")), NIL)]), "key is a float"),
        "key twice": (lua.table([(lua.number(1), NIL), (lua.number(1), NIL)]), "twice"),
        "function": (struct.pack("<iii", 6, 1, 4) + b"\x1bLua", "Lua function"),
        "function of today": (struct.pack("<iii", 8, 1, 4) + b"\x1bLJ\x02" + NIL, "Lua function"),
        "function in a table": (lua.table([(lua.number(1), struct.pack("<iii", 7, 1, 0))]), "Lua function"),
        "module without a table": (lua.torch(b"nn.Linear", lua.number(1)), "'nn.Linear'"),
        "class name": (struct.pack("<iii", 4, 1, 5000) + b"x" * 5000, "5,000"),
        "unknown type": (struct.pack("<ii", 9, 1), "9 is no type"),
        "text form": (b"3\n1\n0\n", "no type"),
        "more after the end": (lua.number(1) + b"\0", "1 bytes follow"),
        "nothing": (b"", "cut short"),
    }  # fmt: skip


@pytest.mark.parametrize("case", evil_t7())
def test_t7_refused(case, tmp_path):
    data, *words = evil_t7()[case]
    path = write(tmp_path / "evil.t7", data)
    refused(lambda: t7.load(path), path, "byte ", *words)


def good_t7():
    lua = Lua()
    tensor = lua.tensor((2, 3), (3, 1), 1, lua.storage(np.arange(6, dtype="<f4")))
    return lua.table([
        (lua.string(b"txt"), tensor), (lua.number(1), lua.string(b"x")),
        (lua.boolean(0), lua.table([(lua.number(2), NIL)])),
        (lua.string(b"m"), lua.torch(b"nn.Tanh", lua.table([(lua.string(b"output"), lua.number(3))]))),
    ])  # fmt: skip


def test_t7_cut_anywhere():
    data = good_t7()
    assert len(t7.loads(data)) == 4
    for end in range(len(data)):
        refused(lambda end=end: t7.loads(data[:end], "cut.t7"), "cut.t7", "byte ")


# npy and npz


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


def zipped(members, method=zipfile.ZIP_DEFLATED):
    """Bytes of a zip of (name or ZipInfo, bytes)."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, data in members:
            archive.writestr(name, data)
    return buffer.getvalue()


def relabelled(data, field, value, width=4):
    """The zip with another number in its list of members (and in the first local header): `field` as offset there."""
    at = data.rindex(b"PK\x01\x02")
    data = bytearray(data)
    data[at + field : at + field + width] = value.to_bytes(width, "little")
    return bytes(data)


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


def raw_zip(name, packed, crc, size):
    head = struct.pack("<HHHHHIIIHH", 20, 0, 8, 0, 0x21, crc, len(packed), size, len(name), 0)
    local = b"PK\x03\x04" + head + name + packed
    listed = b"PK\x01\x02" + struct.pack("<H", 20) + head + bytes(14 - 4) + struct.pack("<I", 0) + name
    end = b"PK\x05\x06" + struct.pack("<HHHHIIH", 0, 0, 1, 1, len(listed), len(local), 0)
    return local + listed + end


def npz_bomb():
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


def mat_part(order, kind, body):
    if 0 < len(body) <= 4:
        word = struct.pack(order + "I", len(body) << 16 | kind)
        return word + body.ljust(4, b"\0")
    return struct.pack(order + "II", kind, len(body)) + body + bytes(-len(body) % 8)


STORED = {"i1": 1, "u1": 2, "i2": 3, "u2": 4, "i4": 5, "u4": 6, "f4": 7, "f8": 9, "i8": 12, "u8": 13}
CLASSES = {"f8": 6, "f4": 7, "i1": 8, "u1": 9, "i2": 10, "u2": 11, "i4": 12, "u4": 13, "i8": 14, "u8": 15}


def mat_matrix(name, values, kind, order="<", flags=0, stored="", shape=None, dims=None):
    stored, shape = stored or kind, values.shape if shape is None else shape
    dims = mat_part(order, 5, struct.pack(f"{order}{len(shape)}i", *shape)) if dims is None else dims
    body = mat_part(order, 6, struct.pack(order + "II", CLASSES.get(kind, kind) | flags, 0)) + dims
    body += mat_part(order, 1, name)
    body += mat_part(order, STORED.get(stored, stored), values.astype(order + stored).tobytes(order="F"))
    return struct.pack(order + "II", 14, len(body)) + body


def mat(*parts, order="<", version=0x0100):
    return (
        b"MATLAB 5.0 MAT-file".ljust(124)
        + struct.pack(order + "H", version)
        + {"<": b"IM", ">": b"MI"}[order]
        + b"".join(parts)
    )


def packed(part, order="<"):
    data = zlib.compress(part)
    return struct.pack(order + "II", 15, len(data)) + data


@pytest.mark.parametrize("compressed", [False, True])
def test_mat_against_scipy(compressed, tmp_path):
    path = str(tmp_path / "a.mat")
    for kind in (*CLASSES, "?"):
        value = np.arange(24).reshape(2, 3, 4).astype(kind)
        others = {
            "text": "labels",
            "struct": {"a": np.eye(3)},
            "cell": np.array([1, "b"], object),
            "complex": 1j * np.eye(2),
        }
        scipy.io.savemat(path, {**others, "labels": value, "after": np.ones(3)}, do_compression=compressed)
        found = arrays.load_mat(path, "labels")
        oracle = scipy.io.loadmat(path, variable_names="labels", mat_dtype=True)["labels"]
        assert same(found, value) and same(found, oracle.astype(kind))
        assert arrays.load_mat(path, "after").tolist() == [[1, 1, 1]]
        for name, word in (("text", "class 4"), ("struct", "class 2"), ("cell", "class 1"), ("complex", "class 6")):
            refused(lambda name=name: arrays.load_mat(path, name), path, f"'{name}'", word, "byte ")
        refused(lambda: arrays.load_mat(path, "none"), path, "'none'", "labels", "after")


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("kind", CLASSES)
def test_mat_by_hand_in_both_byte_orders(order, kind, tmp_path):
    value = np.array([[1, 2, 3], [4, 5, 100]])
    small = mat_matrix(b"x", value[:1, :1], kind, order)
    for whole in (mat_matrix(b"labels", value, kind, order), packed(mat_matrix(b"labels", value, kind, order), order)):
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
    flipped = bytearray(packed(good))
    flipped[-1] ^= 1
    return {
        "v7.3": (mat(version=0x0200), "v7.3", "-v7"),
        "HDF5 of Octave": (b"\x89HDF\r\n\x1a\n" + bytes(200), "v7.3"),
        "v4": (struct.pack("<5i", 0, 1, 1, 0, 7) + b"labels\0" + bytes(200), "no MAT v5"),
        "a picture": (b"\xff\xd8\xff\xe0" * 50, "no MAT v5"),
        "nothing": (b"", "no MAT v5"),
        "no matrix": (mat(), "no matrix 'labels'"),
        "unpacked part that lies": (mat(lying), "byte 128", f"{len(good) + 800} bytes is cut short"),
        "packed size too large": (mat(packed(lying)), "says", "byte 128"),
        "packed size too small": (mat(packed(struct.pack("<II", 14, len(good) - 32) + good[8:])), "says"),
        "packed size absurd": (mat(packed(struct.pack("<II", 14, 2**32 - 8) + good[8:])), f"{2**32 - 8:,}"),
        "packed cut": (mat(packed(good)[:-20]), "byte 128", "cut short"),
        "packed checksum": (mat(bytes(flipped)), "incorrect data check"),
        "packed rubbish": (mat(struct.pack("<II", 15, 64) + bytes(range(64))), "byte 128"),
        "packed in packed": (mat(packed(packed(good))), "holds no matrix"),
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
            mat(packed(mat_matrix(b"labels", np.zeros((1, 40 * 2**20)), "f8", stored="u1"))), "takes over"),
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
        (mat(good), lambda path: arrays.load_mat(path, "labels")),
        (mat(packed(good)), lambda path: arrays.load_mat(path, "labels")),
        (value, arrays.load_npy),
        (zipped([("a.npy", value), ("b.npy", value)]), arrays.load_npz),
    ):
        read(write(tmp_path / "whole", data))
        for end in range(len(data)):
            path = write(tmp_path / "cut", data[:end])
            refused(lambda path=path, read=read: read(path), path)


# Archives


CONTENT = [("cub/", b""), ("cub/images/1.jpg", b"one" * 900), ("cub/images/2.jpg", b""),
           ("cub/na\u00efve \u20ac.txt", b"text"),
           ("__MACOSX/cub/._1.jpg", b"junk"), ("cub/._images", b"junk"), ("cub/.DS_Store", b"junk")]  # fmt: skip


def tarred(members, form=tarfile.PAX_FORMAT):
    """Bytes of a tar of (name or TarInfo, bytes)."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form) as archive:
        for name, data in members:
            info = name
            if isinstance(name, str):
                info = tarfile.TarInfo(name)
                info.type = tarfile.DIRTYPE if name.endswith("/") else tarfile.REGTYPE
                info.mode = 0o4777
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


PACKERS = {
    "tar": lambda members: tarred(members), "gnu": lambda members: tarred(members, tarfile.GNU_FORMAT),
    "gz": lambda members: gzip.compress(tarred(members)), "bz2": lambda members: bz2.compress(tarred(members)),
    "xz": lambda members: lzma.compress(tarred(members)), "zip": zipped,
    "stored": lambda members: zipped(members, zipfile.ZIP_STORED),
}  # fmt: skip


def tree(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("form", PACKERS)
def test_archive_unpacked(form, tmp_path):
    members = [*CONTENT, (f"cub/{'long' * 40}/{'name' * 40}.txt", b"far")]
    path = write(tmp_path / "a", PACKERS[form](members))
    out = tmp_path / "deep" / "out"
    found = archives.extract(path, str(out))
    expected = {
        name: data for name, data in members if not name.endswith("/") and "._" not in name and ".DS" not in name
    }
    assert tree(out) == expected
    assert (found.files, found.bytes, found.junk) == (4, sum(map(len, expected.values())), 3)
    assert not any(path.stat().st_mode & 0o7111 for path in out.rglob("*") if path.is_file())
    assert os.listdir(out.parent) == ["out"]
    refused(lambda: archives.extract(path, str(out)), out, "not empty")


def test_archive_command(tmp_path):
    write(tmp_path / "a.zip", zipped(CONTENT))
    (tmp_path / "out").mkdir()  # an empty folder is taken
    command = [sys.executable, "-m", "data.archives", f"--archive={tmp_path}/a.zip", f"--out_dir={tmp_path}/out"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0 and "3 files, 2,704 bytes; left out: 3 files" in done.stdout, done
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 1 and done.stderr.startswith("error: ") and done.stderr.count("\n") == 1


def special(name, kind, link=""):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info


def zip_special(name, mode):
    info = zipfile.ZipInfo(name)
    info.create_system, info.external_attr = 3, mode << 16
    return info


def both(*members):
    return {"tar": lambda: tarred(members), "zip": lambda: zipped(members)}


def changed(data, old, new):
    """The tar with another text in a header, its checksum set right."""
    at = data.index(old)
    block = at // 512 * 512
    data = bytearray(data.replace(old, new, 1))
    data[block + 148 : block + 156] = b" " * 8
    data[block + 148 : block + 156] = b"%06o\0 " % sum(data[block : block + 512])
    return bytes(data)


def pax(fields):
    """A tar whose one file has the extended header of these bytes."""
    info = tarfile.TarInfo("PaxHeader")
    info.type, info.size = tarfile.XHDTYPE, len(fields)
    return (
        info.tobuf(tarfile.USTAR_FORMAT)
        + fields
        + bytes(-len(fields) % 512)
        + tarred([("x", b"data")], tarfile.USTAR_FORMAT)
    )


def record(key, value):
    text = b" " + key + b"=" + value + b"\n"
    return next(b"%d" % n + text for n in range(len(text), len(text) + 9) if len(b"%d" % n + text) == n)


@functools.cache
def evil_archives():
    x, four = ("x", b"data"), b"00000000004\0"  # a member and its size as a tar has it
    cases = {
        "..": (both(("a/../../evil", b"x")), "'a/../../evil'", '".."'),
        ".. alone": (both(("../evil", b"x")), '".."'),
        "absolute": (both(("/evil", b"x")), "'/evil'", "absolute"),
        "Windows": (both(("C:\\evil", b"x")), "Windows"),
        "backslashes": (both(("a\\..\\..\\evil", b"x")), "Windows"),
        "junk with ..": (both(("../../._evil", b"x")), '".."'),
        "line break": (both(("a\nb", b"x")), "control"),
        "twice": ({"tar": lambda: tarred([x, x])}, "member 'x'", "twice"),
        "twice but for case": (both(("Cub/A.txt", b"1"), ("cub/a.TXT", b"2")), "'cub/a.TXT'", "twice"),
        "twice but for the accent": (both(("\u00e9", b"1"), ("e\u0301", b"2")), "twice"),
        "twice but for ./": (both(("a/b", b"1"), ("a/./b", b"2")), "twice"),
        "file and folder": (both(("a", b"1"), ("a/b", b"2")), "as a file and a folder"),
        "folder and file": (both(("a/b", b"1"), ("A", b"2")), "as a folder and a file"),
        "no name": ({"tar": lambda: tarred([("./.", b"1")])}, "without a name"),
        "empty name": ({"zip": lambda: raw_zip(b"", b"\x03\0", 0, 0)}, "member ''", "without a name"),
        "name of 2,000 bytes": (both(("a/" * 1000 + "b", b"1")), "1000 bytes"),
        "part of 300 bytes": (both(("a" * 300, b"1")), "255"),
        "symbolic link": ({
            "tar": lambda: tarred([(special("l", tarfile.SYMTYPE, "/etc"), b""), ("l/passwd", b"x")]),
            "zip": lambda: zipped([(zip_special("l", 0o120777), b"/etc"), ("l/x", b"x")])}, "member 'l'", "a link"),
        "hard link": ({"tar": lambda: tarred([(special("l", tarfile.LNKTYPE, "/etc/passwd"), b"")])}, "a link"),
        "character device": ({
            "tar": lambda: tarred([(special("d", tarfile.CHRTYPE), b"")]),
            "zip": lambda: zipped([(zip_special("d", 0o020666), b"")])}, "a device"),
        "block device": ({"tar": lambda: tarred([(special("d", tarfile.BLKTYPE), b"")])}, "a device"),
        "pipe": ({"tar": lambda: tarred([(special("d", tarfile.FIFOTYPE), b"")])}, "a device"),
        "file with holes": ({"tar": lambda: pax(
            record(b"GNU.sparse.size", b"999999999") + record(b"GNU.sparse.numblocks", b"0")
            + record(b"GNU.sparse.map", b"0,1"))}, "holes"),
        "size beyond the file": ({"tar": lambda: changed(tarred([x]), four, b"00077777777\0")}, "unexpected end"),
        "size of terabytes": ({"tar": lambda: changed(tarred([x]), four, b"\x80" + bytes(4) + b"\x7f" + bytes(6))},
            "brings the total to"),
        "negative size": ({"tar": lambda: changed(tarred([x]), four, b"\xff" * 11 + b"\xf0")}, ""),
        "header of megabytes": ({"tar": lambda: pax(record(b"comment", b"x" * 2**20))}, "header"),
        "header of megabytes, packed": ({"gz": lambda: gzip.compress(pax(record(b"comment", b"x" * 2**20)))}, "header"),
        "headers of headers": ({"tar": lambda: b"".join(pax(b"")[:512] for _ in range(5000))}, "header"),
        "header without a number": ({"tar": lambda: pax(record(b"size", b"many"))}, ""),
        "name with a zero byte": ({"zip": lambda: zipped([("abc", b"x")]).replace(b"abc", b"a\0c")}, "control"),
        "checksum of a header": ({"tar": lambda: tarred([x, ("y", b"z")]).replace(b"y\0", b"z\0", 1)},
            "after member 'x'", "checksum"),
        "more after the end": ({"tar": lambda: tarred([x]) + b"more"}, "follows the end"),
        "no end mark": ({"tar": lambda: tarred([x])[:1024]}, "cut short"),
        "gzip checksum": ({"gz": lambda: gzip.compress(tarred([x]))[:-8] + bytes(8)}, "CRC"),
        "gzip cut": ({"gz": lambda: gzip.compress(tarred([x]))[:-8]}, "ended before"),
        "xz of 1.5 GB of memory": ({"xz": big_xz}, "emory"),
        "zip checksum": ({"zip": lambda: relabelled(zipped([x]), 16, 1)}, "member 'x'", "CRC"),
        "zip size that lies": ({"zip": lambda: relabelled(zipped([x]), 24, 2**31)}, "member 'x'", f"{2**31:,}"),
        "no archive": ({"": lambda: b"hello" * 500}, "no tar or zip"),
        "7z": ({"": lambda: b"7z\xbc\xaf\x27\x1c" + bytes(1000)}, "no tar or zip"),
        "nothing": ({"": lambda: b""}, "no tar or zip"),
    }  # fmt: skip
    return {
        f"{name}, {form}": (make, *words) for name, (forms, *words) in cases.items() for form, make in forms.items()
    }


def big_xz():
    """An .xz whose header asks for a dictionary of 1.5 GB, its checksum set right."""
    data = bytearray(lzma.compress(tarred([("x", b"data")]), preset=0))
    at, length = 12, (data[12] + 1) * 4  # the block's header
    data[at + 4] = 37  # (2 | 1) << (37 // 2 + 11) bytes
    data[at + length - 4 : at + length] = struct.pack("<I", zlib.crc32(bytes(data[at : at + length - 4])))
    return bytes(data)


@pytest.mark.parametrize("case", evil_archives())
def test_archive_refused(case, tmp_path):
    make, *words = evil_archives()[case]
    path = write(tmp_path / "evil", make())
    inside = tmp_path / "a" / "b"
    refused(lambda: archives.extract(path, str(inside / "out")), path, "nothing was unpacked", *words)
    assert os.listdir(inside) == [] and sorted(os.listdir(tmp_path)) == ["a", "evil"]


@pytest.mark.parametrize("form", PACKERS)
def test_archive_cut_anywhere(form, tmp_path):
    data = PACKERS[form](CONTENT)
    padding = 2 if form in ("tar", "gnu") else 0  # a tar is whole from its first 512 zero bytes on
    end_mark = len(data.rstrip(b"\0")) // 512 * 512 + 1024 if padding else len(data)
    for end in {*range(0, end_mark, max(1, end_mark // 60)), end_mark - 1}:
        path = write(tmp_path / "cut", data[:end])
        refused(lambda path=path: archives.extract(path, str(tmp_path / "out")), path)
    assert os.listdir(tmp_path) == ["cut"]


def test_archive_over_the_limits(tmp_path, monkeypatch):
    path = write(tmp_path / "a.tar", tarred([("a", bytes(600)), ("b", bytes(600))]))
    refused(lambda: archives.extract(path, str(tmp_path / "out"), max_bytes=1000), path, "member 'b'", "1,200", "1,000")
    monkeypatch.setattr(archives, "MAX_MEMBERS", 1)
    refused(lambda: archives.extract(path, str(tmp_path / "out")), path, "member 'b'", "over 1 members")


# Memory, and time


def all_read(folder):
    """Reads every file of the folder in a process of its own; returns a line for each, and the peak memory in MB."""
    command, environment = [sys.executable, "-c", READ_ALL], {**os.environ, "D": str(folder)}
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment)
    assert done.returncode == 0, done.stderr
    *lines, peak = done.stdout.splitlines()
    return lines, int(peak)


READ_ALL = """
import os, sys
from data import archives
from data.readers import arrays, pickles, t7
assert "tensorflow" not in sys.modules
readers = {".npz": arrays.load_npz, ".npy": arrays.load_npy, ".mat": lambda path: arrays.load_mat(path, "labels"),
           ".pickle": pickles.load, ".t7": t7.load,
           ".tar": lambda path: archives.extract(path, os.path.join(os.environ["D"], "out"))}
for name in sorted(os.listdir(os.environ["D"])):
    path = os.path.join(os.environ["D"], name)
    try:
        readers[os.path.splitext(name)[1]](path)
        print(name, "was read")
    except ValueError as error:
        print(error)
import resource
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""


def test_bombs_stay_small(tmp_path):
    lua = Lua()
    bombs = {
        "zeros.npz": npz_bomb(),
        "zeros.mat": mat_bomb(),
        "laughs.pickle": LAUGHS,
        "bytes.pickle": frame(b"\x80\x04\x8e", 2**35) + bytes(1000),
        "spread.t7": lua.tensor((2**16, 2**16), (0, 0), 1, lua.storage(np.zeros(1, "<f4"))),
        "tables.t7": struct.pack("<iii", 3, 1, 2**31 - 1),
        "wide.npy": npy(described(b"'<f8'", b"(100000, 100000)")),
    }
    for name, data in bombs.items():
        write(tmp_path / name, data)
    chunk = gzip.compress(bytes(2**20))
    header = changed(tarred([("x", b"data")]), b"00000000004\0", b"20000000000\0")[:512]
    with open(tmp_path / "zeros.tar", "wb") as file:  # 2 GB in 2 MB
        file.write(gzip.compress(header) + chunk * 2048 + gzip.compress(bytes(1024)))
    lines, peak = all_read(tmp_path)
    assert len(lines) == 8 and not any(line.endswith("was read") for line in lines), lines
    assert all(str(tmp_path) in line for line in lines)
    assert peak < MAX_MEMORY, peak


@pytest.mark.slow
@pytest.mark.parametrize(
    "unit, end",
    [
        (b"N", b"."), (b"M\xff\xff", b"."), (b"G?\xf0\x00\x00\x00\x00\x00\x01", b"."), (b"]", b"."), (b"]\x94", b"."),
        (b"}", b"."), (b"\x8c\x04\xc3\xa9\xc3\xa8", b"."), (b"]K\x01a", b"."), (b"}K\x01K\x02s", b"."), (b"(", b"."),
        (b"X\x03\x00\x00\x00abc\x94", b"."), (b")\x85", b"."), (FLOAT, b"."), (array()[:-1], b"."), (b"I12345\n", b"."),
    ],
)  # fmt: skip
def test_many_small_values_stay_small(tmp_path, unit, end):
    """Opcodes that make much of little, as many as 200 MB hold."""
    with open(tmp_path / "many.pickle", "wb") as file:
        file.write(b"\x80\x04")
        for _ in range(200):
            file.write(unit * (2**20 // len(unit)))
        file.write(end)
    lines, peak = all_read(tmp_path)
    assert "over" in lines[0], lines
    assert peak < MAX_MEMORY, peak


@pytest.mark.slow
def test_many_small_tables_stay_small(tmp_path):
    count = 5_000_000
    pairs = np.zeros(count, [("k", "<i4"), ("key", "<f8"), ("t", "<i4"), ("n", "<i4"), ("c", "<i4")])
    pairs["k"], pairs["key"], pairs["t"], pairs["n"] = 1, np.arange(count), 3, np.arange(2, count + 2)
    write(tmp_path / "many.t7", struct.pack("<iii", 3, 1, count) + pairs.tobytes())
    lines, peak = all_read(tmp_path)
    assert "over 2,000,000 values" in lines[0] and peak < MAX_MEMORY, (lines, peak)


@pytest.mark.slow
def test_archive_of_many_members_stays_small(tmp_path):
    block = tarred([("x" * 90, b"")], tarfile.USTAR_FORMAT)[:512]
    with open(tmp_path / "many.tar", "wb") as file:
        for number in range(100_000):
            file.write(changed(block, b"x" * 90, b"%090d" % (number % 99_999)))
    lines, peak = all_read(tmp_path)
    assert "twice" in lines[0] and peak < MAX_MEMORY, (lines, peak)


# Fuzzing


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


def fuzz_cases():
    lists = [
        ARRAYS["<f4"],
        {"a": (1, "b", 2.5, None, True)},
        np.float32(3),
        ["x" * 300, b"y" * 300],
        np.array(["ab", "c"]),
    ]
    good = mat_matrix(b"labels", np.arange(6.0).reshape(2, 3), "f8")
    other = mat_matrix(b"other", np.arange(4).reshape(2, 2), "i4")
    turned = mat_matrix(b"labels", np.eye(2), "u1", ">")
    npys = [npy(described(b"'<f4'", b"(4,)"), bytes(16)), npy(described(b"'<U2'", b"(1, 2)", True), bytes(16))]
    members = [("a/b.txt", b"text" * 20), ("a/", b""), ("c", b"")]
    return {
        "pickle": ([pickle.dumps(value, p) for value in [*lists, lists] for p in range(6)], pickles.load),
        "t7": ([good_t7()], t7.load),
        "npy": (npys, arrays.load_npy),
        "npz": ([zipped([("x.npy", one)], how) for one in npys for how in (0, 8)], arrays.load_npz),
        "mat": ([mat(other, good), mat(packed(other), packed(good)), mat(turned, order=">")],
                lambda path: arrays.load_mat(path, "labels")),
        "archive": ([pack(members) for pack in PACKERS.values()], None),
    }  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("reader", fuzz_cases())
def test_fuzz(reader, tmp_path):
    """Half a minute of damage to valid files: each is read or refused by ValueError with the file's name."""
    files, read = fuzz_cases()[reader]
    home = tmp_path / "home"
    home.mkdir()
    out = home / "out"

    def extract(path):
        archives.extract(path, str(out))
        subprocess.run(["rm", "-r", str(out)], check=True)

    state, path, counts = random.Random(reader), tmp_path / "fuzzed", collections.Counter()
    deadline = time.monotonic() + 25
    while time.monotonic() < deadline:
        path.write_bytes(mutated(state, files))
        start = time.monotonic()
        try:
            (read or extract)(str(path))
            counts["read"] += 1
        except ValueError as error:
            counts["refused"] += 1
            assert str(path) in str(error) and not re.search(r"[\n\r]", str(error)), error
        assert time.monotonic() - start < 20
    assert counts["refused"] > 100 and os.listdir(home) == [] and sorted(os.listdir(tmp_path)) == ["fuzzed", "home"]
    print(reader, dict(counts))
