"""Torch 7 files, written by hand: tables and tensors are read exactly; what is damaged or code is refused."""

import functools
import struct

import numpy as np
import pytest

from data import captions
from data.readers import sandbox, t7
from tests.strangers import fuzz, refused, write


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
        "stride outside": tensor((2, 3), (24, 1), 1),
        "offset outside": tensor((1,), (1,), 25),
        "offset zero": tensor((1,), (1,), 0),
        "offset far": tensor((1,), (1,), 2**62),
        "negative stride": tensor((2,), (-1,), 5),
        "negative size": tensor((-2,), (1,), 1),
        "product overflows to 0": tensor((2**32, 2**32), (0, 0), 1),
        "stride overflows": tensor((2**33 + 1,), (2**31,), 1),
        "one item a billion times": tensor((2**30,), (0,), 1),
        "nine dimensions": tensor((1,) * 9, (1,) * 9, 1),
        "minus one dimensions": lua.torch(b"torch.FloatTensor", struct.pack("<i", -1)),
        "empty of absurd sides": tensor((0, 2**50), (1, 1), 1),
        "storage of another type": tensor((2,), (1,), 1, b"Double"),
        "no storage": lua.tensor((2,), (1,), 1, NIL),
        "number for a storage": lua.tensor((2,), (1,), 1, lua.number(1)),
        "storage beyond the file": lua.torch(b"torch.ByteStorage", struct.pack("<q", 2**60)),
        "negative storage": lua.torch(b"torch.ByteStorage", struct.pack("<q", -1)),
        "string beyond the file": struct.pack("<ii", 2, 2**31 - 1) + b"abc",
        "negative string": struct.pack("<ii", 2, -1),
        "table beyond the file": struct.pack("<iii", 3, 1, 2**31 - 1),
        "negative table": struct.pack("<iii", 3, 1, -1),
        "deep tables": chain,
        "tensor within tensor": tensors,
        "object within object": modules,
        "tensor as its own storage": (struct.pack("<ii", 4, 1) + b"\x11\x00\x00\x00torch.FloatTensor"
            + struct.pack("<iqqq", 1, 1, 1, 1) + struct.pack("<ii", 4, 1)),
        "nil as key": lua.table([(NIL, lua.number(1))]),
        "nan as key": lua.table([(lua.number(float("nan")), NIL)]),
        "key twice": lua.table([(lua.number(1), NIL), (lua.number(1), NIL)]),
        "function": struct.pack("<iii", 6, 1, 4) + b"\x1bLua",
        "function of today": struct.pack("<iii", 8, 1, 4) + b"\x1bLJ\x02" + NIL,
        "function in a table": lua.table([(lua.number(1), struct.pack("<iii", 7, 1, 0))]),
        "module without a table": lua.torch(b"nn.Linear", lua.number(1)),
        "class name": struct.pack("<iii", 4, 1, 5000) + b"x" * 5000,
        "unknown type": struct.pack("<ii", 9, 1),
        "text form": b"3\n1\n0\n",
        "more after the end": lua.number(1) + b"\0",
        "nothing": b"",
    }  # fmt: skip


@pytest.mark.parametrize("case", evil_t7())
def test_t7_refused(case, tmp_path):
    path = write(tmp_path / "evil.t7", evil_t7()[case])
    refused(lambda: list(sandbox.read(captions.t7_captions, [path])), path)


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


@pytest.mark.slow
def test_fuzzed_t7(tmp_path):
    fuzz(tmp_path, [good_t7()], t7.load)
