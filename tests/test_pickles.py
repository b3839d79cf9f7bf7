"""Pickles of every protocol: plain data is read exactly; all else is refused with file, byte and reason, not run."""

import collections
import copyreg
import io
import os
import pickle
import struct
import subprocess
import time

import numpy as np
import pytest

from data.readers import pickles, sandbox
from tests.strangers import ARRAYS, fuzz, refused, same, write
from tests.tiny import ROOT


def loads(data, name="pickle"):
    return pickles.read(io.BytesIO(data), name)


def load(path):
    """In the sandbox; whatever plain value it is, it is no table of words."""
    return list(sandbox.read(pickles.word_numbers, path))


ATTNGAN = ROOT.parent / "realdata" / "cub" / "attngan_birds"


@pytest.mark.parametrize("protocol", range(6))
def test_pickled_arrays_and_scalars_of_every_protocol(protocol):
    values = [*ARRAYS.values(), *(array.flat[0] for array in ARRAYS.values() if array.size)]
    values.append(values[0])  # the same array again, by the memo
    found = loads(pickle.dumps(values, protocol))
    for one, other in zip(found, values, strict=True):
        assert same(one, other), (one, other)
    assert found[-1] is found[0]


@pytest.mark.parametrize("protocol", range(6))
def test_pickled_plain_values_of_every_protocol(protocol):
    value = {
        "text": "na\u00efve \u20ac \U0001f600 \n \\u", "": None, 1: True, 2.5: False, b"k": b"\x00\xff" * 200,
        None: b"",
        "numbers": [0, 255, 256, 65536, -1, 2**31, -(2**31), 2**63, -(2**63), 1e300, -0.5, float("inf")],
        "tuples": ((), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4)), "long": ["x" * 300, "y" * 70_000, list(range(3000))],
        "many": {str(i): i for i in range(2500)},
    }  # fmt: skip
    assert loads(pickle.dumps(value, protocol)) == value
    ordered = collections.OrderedDict(zip("cab", range(3), strict=True))
    found = loads(pickle.dumps(ordered, protocol))
    assert type(found) is dict and list(found.items()) == list(ordered.items())


def test_pickles_written_by_python_2():
    """Bytes as cPickle of Python 2.7 with numpy 1.16 writes them: arrays whose bytes are a str; Kiros' dictionary."""
    raw = np.array([1.5, -2.0], "<f4").tobytes()
    text = repr(raw)[1:].encode()
    head = (
        b"cnumpy.core.multiarray\n_reconstruct\np1\n(cnumpy\nndarray\np2\n(I0\ntS'b'\ntRp3\n(I1\n(I2\ntcnumpy\ndtype\n"
    )
    state = b"p4\n(S'f4'\nI0\nI1\ntRp5\n(I3\nS'<'\nNNNI-1\nI-1\nI0\ntbI00\n"
    np.testing.assert_array_equal(loads(head + state + b"S" + text + b"\np6\ntb."), [1.5, -2.0])
    binary = b"\x80\x02cnumpy.core.multiarray\n_reconstruct\nq\x01cnumpy\nndarray\nq\x02K\x00\x85U\x01b\x87Rq\x03"
    binary += b"(K\x01K\x02\x85"
    binary += (
        b"cnumpy\ndtype\nq\x04U\x02f4K\x00K\x01\x87Rq\x05(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89"
    )
    np.testing.assert_array_equal(loads(binary + b"T\x08\x00\x00\x00" + raw + b"q\x06tq\x07b."), [1.5, -2.0])
    scalar = b"(lp0\ncnumpy.core.multiarray\nscalar\np1\n(cnumpy\ndtype\np2\n(S'i8'\nI0\nI1\ntRp3\n(I3\nS'<'\n"
    scalar += b"NNNI-1\nI-1\nI0\n"
    assert loads(scalar + b"tbS'\\x02\\x00\\x00\\x00\\x00\\x00\\x00\\x00'\ntRp4\nag4\na.") == [2, 2]
    words = b"ccollections\nOrderedDict\np0\n((lp1\n(lp2\nS'a'\np3\naI2\naa(lp4\nS'caf\\xc3\\xa9'\np5\naI3\naatRp6\n."
    assert list(loads(words).items()) == [("a", 2), ("caf\u00c3\u00a9", 3)]
    assert loads(b"(dp0\nS'it\\'s\\n'\nL5L\nsV\\u20ac\nF1.5\nsU\n.".replace(b"sU\n", b"s")) == {
        "it's\n": 5, "\u20ac": 1.5}  # fmt: skip
    assert loads(b"(lp0\nI01\naI00\na.") == [True, False]


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


# What is refused


class Calls:
    """Pickles to a call of `function`, as any class may."""

    def __init__(self, function, *values):
        self.function, self.values = function, values

    def __reduce__(self):
        return self.function, self.values


def frame(code, count):
    """An opcode that says how many bytes follow."""
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
EVIL = {
    "dotted name": b"\x80\x04\x8c\x05numpy\x8c\x10ndarray.__base__\x93.",
    "numpy.load": b"cnumpy\nload\n(S'x'\ntR.",
    "fromfile": b"cnumpy.core.multiarray\nfromfile\n(S'x'\ntR.",
    "copyreg": b"ccopy_reg\n_reconstructor\n(c__builtin__\nobject\nc__builtin__\nobject\nNtR.",
    "getattr": b"c__builtin__\ngetattr\n(c__builtin__\nobject\nS'__subclasses__'\ntR.",
    "builtins.bytes": b"cbuiltins\nbytes\n(K\x05tR.",
    "bytes of a number": b"c__builtin__\nbytes\n(I999999999\ntR.",
    "codec": b"c_codecs\nencode\n(X\x01\x00\x00\x00aX\x05\x00\x00\x00rot13tR.",
    "codec of a list": b"c_codecs\nencode\n(]X\x06\x00\x00\x00latin1tR.",
    "a list as name": b"]]\x93.",
    "INST": b"(S'touch x'\nios\nsystem\n.",
    "OBJ": b"(cos\nsystem\nS'x'\no.",
    "OBJ of a stand-in": b"(cnumpy\ndtype\nS'f4'\no.",
    "NEWOBJ": b"\x80\x02cnumpy\nndarray\n)\x81.",
    "NEWOBJ_EX": b"\x80\x04cnumpy\nndarray\n)}\x92.",
    "persistent id": b"Psomewhere\n.",
    "binary persistent id": b"K\x01Q.",
    "EXT1": b"\x80\x02\x82\xf0)R.",
    "EXT2": b"\x80\x02\x83\xf0\x00)R.",
    "EXT4": b"\x80\x02\x84\xf0\x00\x00\x00)R.",
    "call of a list": b"])R.",
    "call with a list": b"cnumpy\ndtype\n]R.",
    "call of ndarray": b"cnumpy\nndarray\n)R.",
    "BUILD of a list": b"](Ntb.",
    "BUILD of a dict": b"}}X\x01\x00\x00\x00aK\x01sb.",
    "BUILD of a name": b"cnumpy\ndtype\n}b.",
    "BUILD of an array by a dict": ARRAY + b"}b.",
    "append to a dict": b"}K\x01a.",
    "append to an array": array()[:-1] + b"K\x01a.",
    "items of a list": b"]K\x01K\x02s.",
    "key without value": b"}(K\x01u.",
    "tuple as key": b"}K\x01" + b"\x85" * 50_000 + b"K\x01s.",
    "list as key": b"}]K\x01s.",
    "array as key": b"}" + array()[:-1] + b"K\x01s.",
    "tuple as key of an OrderedDict": b"ccollections\nOrderedDict\n(](K\x01\x85K\x02\x86etR.",
    "OrderedDict of no pairs": b"ccollections\nOrderedDict\n(](K\x01etR.",
    "huge bytes": frame(b"\x80\x04\x8e", 2**62),
    "huge text": frame(b"\x80\x04\x8d", 2**40) + b"x",
    "huge bytearray": frame(b"\x80\x05\x96", 2**31),
    "negative string": b"T\xff\xff\xff\xffabc.",
    "huge frame": frame(b"\x80\x04\x95", 2**50) + b"N.",
    "huge long": b"\x8b" + struct.pack("<i", 2**30) + b"1.",
    "long of 255 bytes": b"\x8a\xff" + bytes(255) + b".",
    "a million digits": b"I" + b"9" * 1_000_000 + b"\n.",
    "memo index": b"Nr\xff\xff\xff\xff.",
    "negative memo index": b"Np-5\n.",
    "memo index never set": b"h\x07.",
    "memo of an array's bytes": array(raw=b"C\x08" + bytes(8) + b"q\x05")[:-1] + b"h\x05.",
    "array before it is whole": ARRAY + b"q\x01h\x01.",
    "array that never is": ARRAY + b".",
    "dtype as data": b"]" + FLOAT + b"a.",
    "name as data": b"]cnumpy\nndarray\na.",
    "billion laughs": LAUGHS,
    "list in itself": b"]q\x00h\x00a.",
    "dict in itself": b"}q\x00K\x01h\x00s.",
    "deep lists": b"]" * 5000 + b"a" * 4999 + b".",
    "deep tuples": b"N" + b"\x85" * 100_000 + b".",
    "deep marks": b"(" * 100_000 + b".",
    "objects": array(dtype=dtype(b"O8")),
    "records": array(dtype=dtype(b"V8")),
    "objects within records": (array(dtype=dtype(b"f4", b"(K\x03X\x01\x00\x00\x00|NX\x01\x00\x00\x00a\x85}"
        b"X\x01\x00\x00\x00a" + dtype(b"O8") + b"K\x00\x86sK\x08K\x01K\x1btb"))),
    "named fields": array(dtype=dtype(b"f4", b"(K\x03X\x01\x00\x00\x00<NX\x01\x00\x00\x00a\x85}K\x04K\x01K\x00tb")),
    "dtype code that is a program": array(dtype=dtype(b"f4,O,(2,)i8")),
    "complex": array(dtype=dtype(b"c8")),
    "dates": array(dtype=dtype(b"M8")),
    "items of 2 GB": array(dtype=dtype(b"S2147483647")),
    "too few bytes": array(raw=b"C\x07" + bytes(7)),
    "too many bytes": array(raw=b"C\x09" + bytes(9)),
    "negative side": array(shape=b"J\xfe\xff\xff\xff\x85"),
    "product that overflows": array(shape=b"(\x8a\x05" + bytes(4) + b"\x01\x8a\x05" + bytes(4) + b"\x01t"),
    "side of text": array(shape=b"X\x01\x00\x00\x002\x85"),
    "nine dimensions": array(shape=b"(" + b"K\x01" * 8 + b"K\x02t"),
    "boolean of 2": array(shape=b"K\x08\x85", dtype=dtype(b"b1", b""), raw=b"C\x08" + b"\x02" * 8),
    "no character": array(shape=b"K\x02\x85", dtype=dtype(b"U1"), raw=b"C\x08" + b"\xff" * 8),
    "bytes beyond latin1": array(raw=b"X\x03\x00\x00\x00\xe2\x82\xac"),
    "kind of array": b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\ndtype\n(I0\ntC\x01btR.",
    "buffer in odd order": BUFFER + b"X\x01\x00\x00\x00AtR.",
    "axes that are none": BUFFER + b"X\x01\x00\x00\x00KK\x09\x85tR.",
    "scalar of objects": b"cnumpy.core.multiarray\nscalar\n(" + dtype(b"O8") + b"]tR.",
    "set": b"\x80\x04\x8f(K\x01\x90.",
    "outside buffer": b"\x80\x05\x97.",
    "protocol 6": b"\x80\x06N.",
    "empty stack": b"a.",
    "empty memo put": b"q\x00.",
    "mark that is not there": b"t.",
    "two values": b"NN.",
    "open mark": b"N(.",
    "more after the end": b"N.N.",
    "text that is no UTF-8": b"X\x01\x00\x00\x00\xff.",
    "half a character": b"V\\ud83d\n.",
    "text without quotes": b"Sabc\n.",
    "odd escape": b"S'\\q'\n.",
    "a picture": b"\xff\xd8\xff\xe0\x00\x10JFIF",
    "nothing": b"",
}  # fmt: skip


@pytest.mark.parametrize("case", EVIL)
def test_pickle_refused(case, tmp_path):
    path = write(tmp_path / "evil.pickle", EVIL[case])
    refused(lambda: load(path), path)


@pytest.mark.parametrize("protocol", range(6))
def test_nothing_that_a_pickle_calls_is_run(protocol, tmp_path):
    canary = tmp_path / "canary"
    command = f"touch {canary}"
    evil = {
        "os.system": Calls(os.system, command),
        "eval": Calls(eval, f"open({str(canary)!r}, 'w').close()"),
        "exec": Calls(exec, f"open({str(canary)!r}, 'w').close()"),
        "a class": Calls(Calls, Calls(os.system, command)),
        "in a list": [1, {"a": (2, Calls(os.system, command))}],
        "getoutput": Calls(subprocess.getoutput, command),
        "open": Calls(io.open, str(canary), "w"),
    }
    for name, value in evil.items():
        data = pickle.dumps(value, protocol)
        if name not in ("a class", "open"):
            pickle.loads(data)  # the payload is a true one ...
            assert canary.exists(), name
            canary.unlink()
        path = write(tmp_path / "evil.pickle", data)
        refused(lambda path=path: load(path), path, "nothing was run")
        assert not canary.exists(), name  # ... and here it is not run


def test_extension_codes_of_this_process_are_not_looked_up():
    module = os.system.__module__
    copyreg.add_extension(module, "system", 240)
    try:
        data = pickle.dumps(os.system, 2)
        assert data[2:3] == b"\x82" and pickle.loads(data) is os.system
        refused(lambda: loads(data, "evil"), "evil", f"{module}.system")
    finally:
        copyreg.remove_extension(module, "system", 240)


@pytest.mark.parametrize("protocol", range(6))
def test_pickle_cut_anywhere(protocol):
    data = pickle.dumps({"a": [np.arange(3.0), np.float32(1)], "b": (1, "text", b"bytes", 2.5, None)}, protocol)
    for end in range(len(data)):
        refused(lambda end=end: loads(data[:end], "cut.pickle"), "cut.pickle")


@pytest.mark.slow
def test_fuzzed_pickles(tmp_path):
    plain = [{"a": (1, "b", 2.5, None, True)}, ["x" * 300, b"y" * 300], collections.OrderedDict(a=[2**40])]
    values = [ARRAYS["<f4"], np.float32(3), np.array(["ab", "c"]), *plain]
    fuzz(tmp_path, [pickle.dumps(value, p) for value in [*values, values] for p in range(6)], load)
