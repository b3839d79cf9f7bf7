"""What a stranger may bring: files, run directories, packed models, visitors. Each ends in one line, soon and small."""

import dataclasses
import http.server
import io
import json
import os
import pickle
import resource
import shutil
import socket
import struct
import threading
import time
import urllib.error
import urllib.request
import zlib

import numpy as np
import pytest
import tensorflow as tf
from absl import flags
from absl.testing import flagsaver
from PIL import Image

from data import captions, embeddings, images, names, photo, records, splits, tables
from data.readers import arrays, pickles, sandbox
from export import device_example
from export.serving import client
from export.web import serve
from simgan_tf import checkpoints, configs
from simgan_tf.edit import Editor
from simgan_tf.evaluation import figures
from simgan_tf.system import commands, files
from simgan_tf.text import stored, tokens, vectors, vse
from tests import strangers
from tests.strangers import refused, t7_table, write, zipped
from tests.tiny import TINY, make_run, phi

SECONDS = 10  # that one file may take



def short(value):
    """Of a case, for its name."""
    return repr(value)[:40]


# ---- the sandbox


def test_what_is_handed_over(tmp_path):
    path = write(tmp_path / "a", b"\xe9")
    (first, second) = sandbox.read(strangers.plain, path)
    assert first[:6] == ["\xe9", 1, 2.5, None, True, ["a", "\ud800"]]
    assert first[6].dtype == np.dtype("=i2") and first[6].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert second[0].shape == (0, 3) and second[1] == 0.5 and second[2] != second[2]


@pytest.mark.parametrize("reader, words", [
    (strangers.grow, "MB of memory"), (strangers.crash, "the reader broke over it (exit code -11)"),
    (strangers.flood, "more memory than a file of its size should"), (strangers.odd, "holds a dict"),
])  # fmt: skip
def test_a_reader_that_misbehaves_costs_a_child(reader, words, tmp_path):
    path = write(tmp_path / "a", b"x")
    begin = time.monotonic()
    refused(lambda: list(sandbox.read(reader, path)), path, words)
    assert time.monotonic() - begin < 6 * SECONDS
    assert list(sandbox.read(strangers.plain, path))[0][0] == "x"  # the next file is read as ever


@pytest.mark.slow
@pytest.mark.ci
def test_a_reader_that_never_ends_is_ended(tmp_path):
    path = write(tmp_path / "a", b"x")
    begin = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    refused(lambda: list(sandbox.read(strangers.spin, path)), path, "over 5 seconds of processor time")
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - begin < SECONDS


def test_trust_lifts_the_limits_and_nothing_else(tmp_path):
    path = write(tmp_path / "a", b"x")
    if "trust" not in flags.FLAGS:
        sandbox.define_flag()
    flags.FLAGS.mark_as_parsed()
    with flagsaver.flagsaver(trust=False):
        refused(lambda: list(sandbox.read(strangers.grow, path)), path, "--trust")
    with flagsaver.flagsaver(trust=True):
        assert list(sandbox.read(strangers.grow, path)) == [[400 * 2**20]]
        path = write(tmp_path / "b", pickle.dumps(os.system))
        refused(lambda: list(sandbox.read(pickles.word_numbers, path)), path, "nothing was run")


def test_a_reading_that_is_given_up_leaves_no_child(tmp_path):
    reading = sandbox.read(strangers.flood, write(tmp_path / "a", b"x"))
    next(reading)
    waiting = len(sandbox._children)
    reading.close()
    assert len(sandbox._children) == waiting


# ---- files of data

PAIR = [b"K\x01\x85"] + [b"q" + bytes([n]) + b"h" + bytes([n]) + b"\x86" for n in range(60)]
DTYPE = b"cnumpy\ndtype\n(X\x02\x00\x00\x00f4K\x00K\x01tR"
STATE = b"(K\x03X\x01\x00\x00\x00<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
ARRAY = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00tC\x01btR"
PICKLES = {
    "tuple that doubles": b"".join(PAIR) + b".",
    "tuple that doubles as a dtype": b"cnumpy\ndtype\n(" + b"".join(PAIR) + b"K\x00K\x01tR.",
    "tuple that doubles as a shape": ARRAY + b"(K\x01" + b"".join(PAIR) + DTYPE + STATE + b"K\x00C\x04aaaatb.",
    "tuple that doubles as a word": b"}X\x01\x00\x00\x00a" + b"".join(PAIR) + b"s.",
    "deep key": b"}" + b"K\x01" + b"\x85" * 300_000 + b"K\x01s.",
    "deep lists": b"]" * 500_000 + b"a" * 499_999 + b".",
    "memo of 64 GB": b"\x80\x02}r\xff\xff\xff\xff.",
    "bytes of 16 EB": b"\x80\x05\x96" + b"\xff" * 7 + b"\x7f.",
    "number of 2 GB": b"\x80\x02\x8b\xff\xff\xff\x7f.",
    "slots of a name": b"cnumpy\ndtype\n(N}X\x08\x00\x00\x00__call__K\x01stb.",
    "items of an array": ARRAY + b"(K\x01K\x01\x85" + DTYPE + STATE + b"K\x00C\x04aaaatb" + b"K\x00]s.",
    "state of an array twice": (ARRAY + (b"(K\x01K\x01\x85" + DTYPE + STATE + b"K\x00C\x04aaaatb") * 2 + b"."),
    "state of a buffer": (b"\x80\x05cnumpy.core.numeric\n_frombuffer\n(C\x04aaaa" + DTYPE + STATE + b"K\x01\x85"
                          b"X\x01\x00\x00\x00CtR" + b"(K\x01K\x01\x85" + DTYPE + STATE + b"K\x00C\x04aaaatb."),
    "class of a name": b"\x80\x02cnumpy\nndarray\n)\x81.",
    "subclass by getattr": b"\x80\x04\x8c\x08builtins\x8c\x07getattr\x93.",
    "dotted attribute": b"\x80\x04\x8c\x05numpy\x8c\x0dndarray.__new\x93.",
    "word of a billion": b"}X\x01\x00\x00\x00aL" + b"9" * 100_000 + b"L\ns.",
    "negative string": b"}T\xff\xff\xff\xff.",
    "line ends in a name": b"cos\x0bsystem\nx\n.",
}  # fmt: skip


@pytest.mark.parametrize("case", PICKLES)
def test_pickles(case, tmp_path):
    path = write(tmp_path / "evil.pickle", PICKLES[case])
    refused(lambda: list(sandbox.read(pickles.word_numbers, path)), path)


@pytest.mark.slow
@pytest.mark.ci
def test_keys_of_one_hash_run_into_the_limit(tmp_path):
    """k (2^61 - 1) has Python's hash 0 for every k: each new key is compared with all before it."""
    items = b"".join(b"\x8a\x0a" + (k * (2**61 - 1)).to_bytes(10, "little") + b"K\x01" for k in range(1, 100_000))
    for data in (b"\x80\x02}(" + items + b"u.", b"}" + b"".join(PAIR) + b"K\x01s."):  # the second has 2^60 parts
        path = write(tmp_path / "evil.pickle", data)
        refused(lambda path=path: list(sandbox.read(pickles.word_numbers, path)), path, "processor time")


def attngan(folder, content, names=40):
    for split, count in (("train", names), ("test", 1)):
        (folder / split).mkdir(parents=True)
        (folder / split / "filenames.pickle").write_bytes(pickle.dumps([f"x/{split}{i}" for i in range(count)], 2))
    (folder / "captions.pickle").write_bytes(pickle.dumps(content, 2))
    return str(folder)


def test_captions_that_expand(tmp_path):
    """Each of 40 captions has 3,000 times a word of a million letters."""
    folder = attngan(tmp_path / "a", [[[1] * 3000] * 40, [[1]], {1: "w" * 1_000_000}, {}])
    assert os.path.getsize(os.path.join(folder, "captions.pickle")) < 2e6
    refused(lambda: captions.read(folder), folder, "memory")


@pytest.mark.slow
@pytest.mark.ci
def test_names_that_expand(tmp_path):
    folder = attngan(tmp_path / "a", [[], [], {}, {}])
    path = os.path.join(folder, "train", "filenames.pickle")
    with open(path, "wb") as file:
        file.write(pickle.dumps(["n" * 1_000_000] * 100_000, 2))
    refused(lambda: captions.read(folder), path, "memory")


def flat_t7(sizes, strides):
    """A float tensor of one item, spread by strides of 0."""
    body = struct.pack(f"<i{2 * len(sizes)}qq", len(sizes), *sizes, *strides, 1)
    storage = struct.pack("<iii", 4, 2, 18) + b"torch.FloatStorage" + struct.pack("<qf", 1, 0)
    return struct.pack("<iii", 4, 1, 17) + b"torch.FloatTensor" + body + storage


T7 = {
    "one item four billion times": flat_t7((2**16, 2**16), (0, 0)),
    "shape beyond all memory": flat_t7((2**39, 2**39), (0, 0)),
    "table of two billion": struct.pack("<iii", 3, 1, 2**31 - 1),
    "deep tables": b"".join(struct.pack("<iiiid", 3, n, 1, 1, 1.0) for n in range(1, 50_000)),
    "string of 2 GB": struct.pack("<ii", 2, 2**31 - 1),
    "storage below zero": struct.pack("<iii", 4, 1, 3) + b"V 1" + struct.pack("<i", 17) + b"torch.ByteStorage"
    + struct.pack("<q", -(2**40)),
    "letters that are none": t7_table(img=b"", char=np.full((201, 3), 99, "u1")),
    "letters of NaN": t7_table(img=b"", char=np.full((201, 3), np.nan, "f8")),
}  # fmt: skip


@pytest.mark.parametrize("case", T7)
def test_t7(case, tmp_path):
    (tmp_path / "a").mkdir()
    path = write(tmp_path / "a" / "b.t7", T7[case])
    refused(lambda: captions.read(str(tmp_path)), path)
    refused(lambda: embeddings.read(str(tmp_path)), path)


def npy(head, raw=b""):
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(head)) + head + raw


HEADS = {
    "a parenthesis that stays open": b"{'descr': '<f4', 'fortran_order': False, 'shape': (1,",
    "terabytes": b"{'descr': '<f4', 'fortran_order': False, 'shape': (999999999999,), }",
    "sides that overflow": b"{'descr': '<f4', 'fortran_order': False, 'shape': (4294967296, 4294967296), }",
    "deep parentheses": b"(" * 9000,
    "a minus of minuses": b"-" * 9000 + b"1",
    "a number of digits": b"{'descr': '<f4', 'fortran_order': False, 'shape': (" + b"9" * 9000 + b",), }",
    "a record of records": b"{'descr': [('a', " * 500 + b"}",
    "text of no letters": b"{'descr': '<U1073741824', 'fortran_order': False, 'shape': (1,), }",
    "nothing": b"",
}  # fmt: skip


@pytest.mark.parametrize("case", HEADS)
def test_weights_and_embeddings(case, tmp_path):
    """The same members as an encoder's weights.npz, as embeddings and as an .npy beside its keys."""
    data = npy(HEADS[case])
    path = write(tmp_path / "weights.npz", zipped([("a.npy", data)]))
    refused(lambda: stored.read_weights(str(tmp_path), ["a"]), path, "copy the folder again")
    path = write(tmp_path / "e.npz", zipped([("keys.npy", data), ("embeddings.npy", data)]))
    refused(lambda: embeddings.read(path), path)
    path = write(tmp_path / "e.npy", data)
    write(tmp_path / "e.keys", b"a\n")
    refused(lambda: embeddings.read(path), path)


def test_weights_that_are_encrypted_or_a_bomb(tmp_path):
    head = HEADS["terabytes"].replace(b"999999999999", b"100000000")
    path = write(tmp_path / "weights.npz", zipped([("a.npy", npy(head))]))
    refused(lambda: stored.read_weights(str(tmp_path), ["a"]), path)
    data = bytearray(zipped([("a.npy", b"x")]))
    data[6] |= 1
    data[data.rindex(b"PK\x01\x02") + 8] |= 1
    write(tmp_path / "weights.npz", bytes(data))
    refused(lambda: stored.read_weights(str(tmp_path), ["a"]), path)


TABLES = {
    "c.csv": [b"", b"\0" * 1000, b"key,caption\n" + b"a" * 2**21, b'key,caption\na,"' + b"x\n" * 300_000, b"key\n" * 9],
    "c.jsonl": [b"[" * 100_000, b'{"a":' * 100_000, b'{"key": "a", "captions": [[]]}', b'{"key": 1e999, "caption": 1}',
                b'{"key": "a", "caption": "' + b"x" * 2**21 + b'"}', b"9" * 5000],
}  # fmt: skip


@pytest.mark.parametrize("name, data", [(name, data) for name in TABLES for data in TABLES[name]], ids=short)
def test_tables(name, data, tmp_path):
    """Refused as a whole, or row by row."""
    path = write(tmp_path / name, data)
    try:
        lines = tables.read(path).faults
    except ValueError as error:
        lines = [str(error)]
    assert lines and all(path in line and line.isprintable() and len(line) < 600 for line in lines), lines


@pytest.mark.parametrize("line", ["k%07d.jpg,a%d", '{"key": "k%d", "caption": "a%d"}'], ids=["csv", "jsonl"])
def test_lines_beyond_all_room_are_refused_before_they_are_read(line, tmp_path):
    """Three million captions of 20 bytes each took a minute, and a gigabyte, until they were refused."""
    path = str(tmp_path / ("c.csv" if "," in line[:12] else "c.jsonl"))
    with open(path, "w", encoding="ascii") as file:
        file.write("key,caption\n" if path.endswith(".csv") else "")
        file.write(f"{line % (1, 1)}\n" * 3_000_000)
    begin = time.process_time() + sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2])
    refused(lambda: tables.read(path), path, "its 3,000,00", "lines take more memory than a file of its size should")
    assert time.process_time() + sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2]) - begin < SECONDS


def test_names_in_many_folders_take_no_time():
    """Each of 500 folders that all names share may have to be left out, of names that may be as long as a caption."""
    pictures = names.Names({f"a/p{i}": f"a/p{i}.jpg" for i in range(10)})
    far = "/".join(["d"] * 500)
    begin = time.process_time()
    one, several = pictures.match([*(f"{far}/k{i}.jpg" for i in range(5_000)), f"{far}/a/p3.jpg"])
    assert (one, several) == ({f"{far}/a/p3.jpg": "a/p3"}, {})
    assert time.process_time() - begin < 5


@pytest.mark.slow
@pytest.mark.ci
@pytest.mark.parametrize("line", ["birds/{0:06d}.jpg,a small bird with red wings and a beak {1}\n", "k{1:07d},a{1}\n"])
def test_a_million_captions_take_less_than_half_a_gigabyte(line, tmp_path):
    """Ten a picture; and the shortest, of which a file has most for its size, each of a picture of its own."""
    path = tmp_path / "c.csv"
    with open(path, "w", encoding="ascii") as file:
        file.write("key,caption\n")
        file.writelines(line.format(i // 10, i) for i in range(10**6))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert sum(map(len, tables.read(str(path)).texts.values())) == 10**6
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024 < 500


# ---- pipes and devices, at every door


@pytest.mark.parametrize("read", [
    images.read_file, images.read_picture, captions.read_text, tables.read, lambda path: files.read_json(path, "x"),
    lambda path: list(sandbox.read(pickles.word_numbers, path)), lambda path: list(sandbox.read(arrays.load_npz, path)),
])  # fmt: skip
def test_a_pipe_is_not_waited_for(read, tmp_path):
    path = str(tmp_path / "c.csv")
    os.mkfifo(path)
    refused(lambda: read(path), path, "a pipe or a device")
    with pytest.raises((ValueError, OSError), match="/dev/null"):
        read("/dev/null")


# ---- pictures


def jpeg(**options):
    buffer = io.BytesIO()
    Image.new("RGB", (64, 48)).save(buffer, "JPEG", **options)
    return buffer.getvalue()


@pytest.mark.parametrize("part, count", [
    (b"\xff", 10**7), (b"\xff\xe0\0\0", 10**6), (b"\xff\xe0\0\2", 10**6), (b"\xff\xfe\0\3x", 10**5),
    (b"\xff\xff\xe0\0\2", 10**5),
])  # fmt: skip
def test_jpegs_of_padding(part, count, tmp_path):
    data = jpeg()
    path = write(tmp_path / "a.jpg", data[:2] + part * count + data[2:])
    begin = time.process_time()
    refused(lambda: images.read_picture(path), path, "over 2,000 parts")
    images.picture_size(path)
    assert time.process_time() - begin < 2


def test_scans_are_counted_by_the_pixels_that_they_go_over(tmp_path):
    """49 million pixels may be gone over 12 times, a small picture 100 times."""
    data = jpeg(progressive=True)
    scan = data[data.rindex(b"\xff\xda") : -2]
    usual = data.count(b"\xff\xda")
    for size, most in (((64, 48), 100), ((7000, 7000), 12)):
        for scans in (most, most + 1):
            many = data[:-2] + scan * (scans - usual) + data[-2:]
            if scans <= most:
                images.check_file("a.jpg", many, size)
            else:
                with pytest.raises(ValueError, match=f"a.jpg is a JPEG of {scans} scans, over {most}"):
                    images.check_file("a.jpg", many, size)


@pytest.mark.parametrize("values, words", [
    (np.linspace(0, 4095, 64 * 48).reshape(48, 64).astype(np.uint16), "12 bits in 16"),
    (np.full((48, 64), np.nan, np.float32), "nan"),
    (np.linspace(-1, 1, 64 * 48).reshape(48, 64).astype(np.float32), "-1 to 1"),
])  # fmt: skip
def test_numbers_that_are_no_usual_picture(values, words, tmp_path):
    path = str(tmp_path / "a.tif")
    Image.fromarray(values).save(path)
    refused(lambda: images.read_picture(path), path, words)


def deep_png(path, values):
    """A PNG of 16 bits a colour, of `values` [H, W, 3]."""
    height, width = values.shape[:2]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)

    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))
    return str(path)


def test_colours_of_12_bits_in_16_are_no_black_picture(tmp_path):
    """Every reader keeps the upper 8 bits of 16: 4095 would become 15 of 255, and 65535 is white."""
    values = np.linspace(0, 4095, 16 * 16 * 3).reshape(16, 16, 3)
    path = deep_png(tmp_path / "a.png", values)
    for read in (images.read_picture, photo.read, device_example.read_pixels):
        refused(lambda read=read: read(path), path, "16 bits a colour of which the upper 4 are empty")
    path = deep_png(tmp_path / "b.png", values * 65535 / 4095)
    found = np.asarray(Image.open(io.BytesIO(images.read_picture(path))))
    np.testing.assert_array_equal(found, (values * 65535 / 4095).astype(np.uint16) >> 8)
    np.testing.assert_array_equal(device_example.read_pixels(path), found)


def test_whole_numbers_of_12_bits_in_32_are_no_black_picture(tmp_path):
    path = str(tmp_path / "a.tif")
    Image.fromarray(np.arange(1600, dtype=np.int32).reshape(40, 40)).save(path)
    refused(lambda: images.read_picture(path), path, "numbers up to 1599 of 65535")
    refused(lambda: device_example.read_pixels(path), path, "numbers up to 1599")


def test_a_png_of_changed_bytes_is_damaged(tmp_path):
    """One bit of the pixels; TensorFlow's decoder takes such a file, and so does Pillow."""
    path = tmp_path / "a.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)).save(path)
    images.read_picture(str(path))
    data = bytearray(path.read_bytes())
    data[data.index(b"IDAT") + 500] ^= 1
    refused(lambda: images.read_picture(write(path, bytes(data))), path, "a checksum of its pixels does not fit")


@pytest.mark.parametrize("remarks", [b"#" + b"a" * 10**7 + b"\n", b"#a\n" * 10**6])
def test_a_ppm_of_remarks(remarks, tmp_path):
    """Pillow goes through them byte by byte."""
    path = write(tmp_path / "a.ppm", b"P6\n" + remarks + b"40 32 255\n" + bytes(3840))
    begin = time.process_time()
    refused(lambda: images.read_picture(path), path, "bytes of remarks")
    assert time.process_time() - begin < 2
    images.read_picture(write(tmp_path / "b.ppm", b"P6\n#" + b"a" * 1000 + b"\n40 32 255\n" + bytes(3840)))


def test_a_ppm_that_writes_millions_of_numbers_out(tmp_path):
    path = write(tmp_path / "a.ppm", b"P3 700 700 255\n" + b"1 " * 1_100_000)
    refused(lambda: images.read_picture(path), path, "writes its numbers out")
    images.read_picture(write(tmp_path / "b.ppm", b"P3 40 32 255\n" + b"1 " * 3840))


def test_floats_from_0_to_1_are_a_picture(tmp_path):
    path = str(tmp_path / "a.tif")
    Image.fromarray(np.linspace(0, 1, 64 * 48).reshape(48, 64).astype(np.float32)).save(path)
    found = np.asarray(Image.open(io.BytesIO(images.read_picture(path))))
    assert found.min() == 0 and found.max() == 255


# ---- run directories, packed models, records


@pytest.mark.parametrize("change", [
    {"image_size": "16"}, {"image_size": 2**40}, {"image_size": True}, {"width": 10**12}, {"width": 4.0},
    {"units": 10**9},
    {"learning_rate": "fast"}, {"sentences": "a red flower"}, {"sentences": [1]}, {"method": ["simgan"]},
    {"precision": 1}, {"flip": 1}, {"seed": 10**40}, {"load_size": None}, {"steps": float("nan")},
])  # fmt: skip
def test_configs(change, tmp_path):
    configs.save(TINY, str(tmp_path))
    path = tmp_path / "config.json"
    content = json.loads(path.read_text())
    content["config"].update(change)
    path.write_text(json.dumps(content))
    refused(lambda: configs.load(str(tmp_path)), path)


@pytest.mark.parametrize(
    "text", ["[" * 10**5, "", "[]", "{}", '{"config": []}', '{"config": 1e999}', "9" * 5000, "\ud800"], ids=short
)
def test_json_of_a_run(text, tmp_path):
    data = text.encode("utf-8", "surrogatepass")
    refused(lambda: configs.load(str(tmp_path)), write(tmp_path / "config.json", data))
    refused(lambda: stored.read_facts(str(tmp_path)), write(tmp_path / "encoder.json", data))
    refused(lambda: records.read_info(str(tmp_path)), write(tmp_path / "dataset.json", data))


def test_every_field_of_a_config_has_its_type():
    """So that a new field cannot forget it: None is the value of no field."""
    for field in dataclasses.fields(TINY):
        with pytest.raises(ValueError, match=f"^{field.name}=None must be a"):
            dataclasses.replace(TINY, **{field.name: None})


@pytest.mark.parametrize("change", [
    {"dim": 2**40}, {"dim": "7"}, {"length": 10**9}, {"phi_scale": 1e300}, {"kind": 3}, {"vocabulary_size": -1},
    {"word_dim": True},
])  # fmt: skip
def test_encoders(change, tmp_path):
    folder = str(tmp_path / "text_encoder")
    phi().save(folder)
    path = os.path.join(folder, "encoder.json")
    with open(path, encoding="utf-8") as file:
        facts = json.load(file)
    with open(path, "w", encoding="utf-8") as file:
        json.dump({**facts, **change}, file)
    refused(lambda: stored.read_facts(folder), path)


@pytest.mark.parametrize("change", [
    {"shards": 10**9}, {"shards": 0}, {"shards": "8"}, {"shards": True}, {"splits": {"train": {"images": 10**12}}},
    {"splits": {"train": {"images": -1}}}, {"splits": {"train": []}}, {"splits": []}, {"format_version": [1]},
])  # fmt: skip
def test_datasets(change, tmp_path):
    info = {"format_version": records.FORMAT_VERSION, "shards": 1, "splits": {"train": {"images": 1}}, **change}
    path = write(tmp_path / "dataset.json", json.dumps(info).encode())
    refused(lambda: records.read_info(str(tmp_path)), path)


@pytest.mark.parametrize(
    "line", ["[1]", "3", "null", '"x"', "{}", '{"step": "1"}', '{"step": 1, "d": []}', "{", "[" * 10**5], ids=short
)
def test_metrics(line, tmp_path):
    path = write(tmp_path / "metrics.jsonl", b'{"step": 1, "d_loss": 2.0}\n' + line.encode() + b"\n")
    refused(lambda: figures.curves(str(tmp_path)), path, "line 2")


def run_of(tmp_path):
    """A run of four words, small and whole."""
    return make_run(str(tmp_path / "run"), phi())


def test_a_network_larger_than_its_checkpoint_is_refused_before_it_is_built(tmp_path):
    """Width 2048 asks for convolutions of 9 x 8192 x 8192 numbers, 2.4 GB each; the checkpoint holds some thousands."""
    run = run_of(tmp_path)
    path = os.path.join(run, "config.json")
    with open(path, encoding="utf-8") as file:
        content = json.load(file)
    content["config"].update(width=2048, units=100)
    with open(path, "w", encoding="utf-8") as file:
        json.dump(content, file)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    refused(lambda: Editor(run), run, "more than its checkpoint can hold")
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024 < 1000


def test_weights_that_are_not_finite_are_refused(tmp_path):
    run = run_of(tmp_path)
    config, facts = configs.load(run)
    Editor(run)
    parts = {"g": [tf.Variable([1.0, np.nan])]}
    checkpoints.save(str(tmp_path / "nan"), checkpoints.checkpoint_of(parts), 1, keep=1)
    refused(lambda: checkpoints.restore_parts(str(tmp_path / "nan"), parts), "ckpt-1", "not finite")
    path = os.path.join(run, "text_encoder", "weights.npz")
    with np.load(path) as found:
        weights = {name: found[name] * np.float32("nan") for name in found.files}
    np.savez(path, **weights)
    refused(lambda: Editor(run), path, "not finite")


def test_records_of_another_set_under_the_same_dataset_json_are_refused(tmp_path):
    def build(name, colour):
        data = io.BytesIO()
        Image.new("RGB", (16, 16), colour).save(data, "PNG")
        folder = str(tmp_path / name)
        os.makedirs(folder)
        made = {}
        for split in records.SPLITS:
            example = records.Example(data.getvalue(), f"{split}1", 1, ("a flower",))
            made[split] = records.write_split(folder, split, [example], 1)
        info = {"format_version": records.FORMAT_VERSION, "shards": 1, "splits": made, "embeddings": None}
        records.write_info(folder, info)
        return folder

    one, other = build("one", "red"), build("other", "blue")
    assert list(splits.load_split(one, "train").keys) == ["train1"]
    shutil.copy(records.shard_path(other, "train", 0, 1), records.shard_path(one, "train", 0, 1))
    path = os.path.join(one, "train.index.npy")
    if os.path.exists(path):
        os.unlink(path)
    refused(lambda: splits.load_split(one, "train"), one, "another set's")


def packed(change=None, contract=None, raw=None):
    """A zip as a .tflite carries it."""
    tensor = {"shape": [1, 5], "dtype": "int32"}
    signature = {"inputs": {"tokens": tensor}, "outputs": {"embedding": tensor}}
    facts = {
        "format_version": 1, "image": {"size": 16, "load_size": 18},
        "tokens": {"tokenisation": "words", "length": 5, "padding": 0, "unknown": 1, "vocabulary": "vocabulary.txt"},
        "signatures": dict.fromkeys(("embed", "edit", "manipulate"), signature),
    }  # fmt: skip
    for place, value in (change or {}).items():
        *names, last = place.split(".")
        inner = facts
        for name in names:
            inner = inner[name]
        inner[last] = value
    text = json.dumps(facts if contract is None else contract) if raw is None else raw
    return zipped([("vocabulary.txt", b"a\nb\n"), ("contract.json", text)])


@pytest.mark.parametrize("data", [
    packed({"tokens.length": 10**12}), packed({"tokens.length": "5"}), packed({"tokens.length": 0}),
    packed({"image.size": -1}), packed({"image.size": 2.5}), packed({"tokens.vocabulary": "../../etc/passwd"}),
    packed({"tokens.vocabulary": 3}), packed({"tokens.alphabet": [1]}), packed({"signatures": []}),
    packed({"tokens": None}), packed({"signatures.edit": 3}), packed(contract=[]), packed(raw="[" * 10**5),
    packed(raw=" " * (2**23 + 1)), packed(raw=""), b"", b"PK\x05\x06", packed()[:-30],
], ids=short)  # fmt: skip
def test_contracts(data, tmp_path):
    assert device_example.read_contract(write(tmp_path / "good.tflite", packed()))[1] == ["a", "b"]
    path = write(tmp_path / "a.tflite", data)
    refused(lambda: device_example.read_contract(path), path, "run_export.py")


# ---- found by one who did not know the code


@pytest.mark.parametrize("chunks", [[b"IHDR", b"IDAT"], [b"IHDR", b"PLTE", b"IDAT"]], ids=["no palette", "ten rows"])
def test_pngs_that_lack_a_part(chunks, tmp_path):
    """Pillow puts black where it is missing; 40 rows and a palette are whole."""
    def made(names, rows):
        kind = 3 if b"PLTE" in names or rows == 40 else 2
        parts = {b"IHDR": struct.pack(">IIBBBBB", 30, 40, 8, kind, 0, 0, 0), b"PLTE": bytes(range(12)),
                 b"IDAT": zlib.compress(bytes(1 + 30) * rows), b"IEND": b""}  # fmt: skip
        return b"\x89PNG\r\n\x1a\n" + b"".join(
            struct.pack(">I", len(parts[name])) + name + parts[name] + struct.pack(">I", zlib.crc32(name + parts[name]))
            for name in (*names, b"IEND")
        )

    images.read_picture(write(tmp_path / "whole.png", made([b"IHDR", b"PLTE", b"IDAT"], 40)))
    path = write(tmp_path / "a.png", made(chunks, 10 if b"PLTE" in chunks else 40))
    refused(lambda: images.read_picture(path), path, "a part of its pixels, or its palette, is missing")


THUMBNAIL = b"Exif\0\0II*\0\x08" + bytes(9) + jpeg() + bytes(300)  # in a header, where cameras put one


@pytest.mark.parametrize("mode, settings", [
    ("RGB", {}), ("L", {}), ("CMYK", {}), ("RGB", {"subsampling": 0}), ("RGB", {"restart_marker_rows": 1}),
    ("RGB", {"restart_marker_blocks": 4}), ("RGB", {"exif": THUMBNAIL}),
], ids=short)  # fmt: skip
def test_jpegs_whose_data_end_early(mode, settings, tmp_path):
    """Decoders put grey in place of the rest; a photograph that is grey there by itself is whole."""
    def made(pixels):
        file = io.BytesIO()
        Image.fromarray(pixels).convert(mode).save(file, "JPEG", **settings)
        return file.getvalue()

    pixels = np.full([60, 80, 3], 128, np.uint8)
    grey = write(tmp_path / "grey.jpg", made(pixels))
    pixels[:30] = np.random.default_rng(0).integers(0, 256, [30, 80, 3])
    half = write(tmp_path / "half.jpg", made(pixels))
    assert len(images.read_pictures([grey, half])) == 2 and photo.read(grey) and photo.read(half)
    data = made(np.random.default_rng(1).integers(0, 256, [60, 80, 3], np.uint8))
    path = write(tmp_path / "a.jpg", data[: len(data) // 2].rstrip(b"\xff") + b"\xff\xd9" + b"a film")
    for read in (images.read_picture, lambda path: images.read_pictures([grey, path]), photo.read):
        refused(lambda read=read: read(path), path, "its data end before its last pixels")


def test_a_film_behind_a_photograph(tmp_path):
    """Phones put one there; by chance it holds the two bytes of a scan's mark often."""
    path = write(tmp_path / "a.jpg", jpeg() + b"\xff\xda" * 500)
    assert images.read_picture(path) == (tmp_path / "a.jpg").read_bytes()


@pytest.mark.parametrize("line, words", [
    ("--strength=nan", ["--strength=nan must be a finite number"]),
    ("--flagfile=PIPE", ["PIPE", "a pipe or a device"]), ("--flagfile=/dev/zero", ["/dev/zero", "a pipe or a device"]),
    ("--flagfile=BINARY", ["BINARY", "no text in UTF-8"]), ("--flagfile=NESTED", ["NESTED", "names another one"]),
    ("--flagfile=nowhere", ["nowhere", "no such file"]),
], ids=short)  # fmt: skip
def test_flags(line, words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    os.mkfifo("PIPE")
    write(tmp_path / "BINARY", b"\xff\xfe\0")
    write(tmp_path / "NESTED", b"--text=red\n --flagfile=NESTED\n")
    own = flags.FlagValues()
    flags.DEFINE_float("strength", 1.0, "", 0.0, 1.0, flag_values=own)
    monkeypatch.setattr(flags, "FLAGS", own)
    flags.DEFINE_string("flagfile", "", "", flag_values=own)
    flags.DEFINE_integer("verbosity", 0, "", flag_values=own)
    with pytest.raises(SystemExit) as ended:
        commands._parse(["program", *line.split()], "", own, words=False)
    said = capsys.readouterr().err
    assert ended.value.code == 1 and len(said.splitlines()) == 1
    for word in words:
        assert word in said


def test_a_name_that_a_person_knows_stands_in_the_error(tmp_path):
    """Not that of the file that is written first."""
    (tmp_path / "folder.png").mkdir()
    write(tmp_path / "file", b"")
    for name in ("folder.png", "file/out.png", "n" * 300 + ".png"):
        path = str(tmp_path / name)
        with pytest.raises(OSError) as caught, files.replacing(path) as temporary:
            write(tmp_path / os.path.basename(temporary), b"x")
        assert ".writing" not in commands.in_words(caught.value)
        assert name.split("/")[0] in commands.in_words(caught.value)
    assert sorted(os.listdir(tmp_path)) == ["file", "folder.png"]


@pytest.mark.parametrize("name", ["flowers [final]", "a\\b", "[x]*?"])
def test_names_of_folders_that_tensorflow_takes_for_patterns(name, tmp_path):
    variable = tf.Variable([1.0, 2.0])
    checkpoints.save(str(tmp_path / name), checkpoints.checkpoint_of({"part": [variable]}), 3, keep=1)
    variable.assign([0.0, 0.0])
    assert checkpoints.restore(str(tmp_path / name), {"part": [variable]}) == 3
    assert variable.numpy().tolist() == [1, 2]
    assert checkpoints.parts_of(checkpoints.path_of(str(tmp_path / name), 3)) == {"part"}


def test_pipes_and_crowds_in_place_of_checkpoints(tmp_path):
    variable = tf.Variable([1.0])
    checkpoints.save(str(tmp_path), checkpoints.checkpoint_of({"part": [variable]}), 1, keep=1)
    path = checkpoints.path_of(str(tmp_path), 1)
    os.unlink(f"{path}.index")
    os.mkfifo(f"{path}.index")
    refused(lambda: checkpoints.restore(str(tmp_path), {"part": [variable]}), path, "a pipe or a device")
    for step in range(2, 300):
        write(tmp_path / "checkpoints" / f"ckpt-{step}.index", b"")
    begin = time.monotonic()
    refused(lambda: checkpoints.restore(str(tmp_path), {"part": [variable]}), "ckpt-280", "no other is left")
    assert time.monotonic() - begin < SECONDS


def test_other_pipes_in_a_run(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    path = str(tmp_path / "pipe")
    refused(lambda: vectors.read(path, ["red"]), path, "a pipe or a device")
    refused(lambda: tokens.Vocabulary.load(path), path, "a pipe or a device")


def test_a_vocabulary_without_end(tmp_path):
    with open(tmp_path / "vocabulary.txt", "wb") as file:
        file.truncate(2**32)
    refused(lambda: tokens.Vocabulary.load(file.name), file.name, "over 16,777,216 bytes")


@pytest.mark.parametrize("colours", [[1], {"red": "\x1b[31m"}, {"red": [1]}, {"red": True}, 7], ids=short)
def test_colours_of_an_encoder(colours, tmp_path):
    write(tmp_path / "encoder.json", json.dumps({"format_version": 1, "colours": colours}).encode())
    refused(lambda: stored.read_facts(str(tmp_path)), tmp_path, "not a share of the captions each")


def test_a_training_gone_astray_finds_nothing():
    """Every comparison with NaN is false, so that nothing stood before the right one."""
    with pytest.raises(ValueError, match="not finite; lower --learning_rate"):
        vse.retrieval(np.full([4, 3], np.nan), np.ones([4, 3]))


# ---- messages


@pytest.mark.parametrize("message, expected", [
    ("no\nfile\r\nhere", "no file here"), ("a\x1b[2Jb\x07", "a\\x1b[2Jb\\x07"),
    ("[Errno 27] File too large", "File too large"), ("[Errno -2] unknown", "unknown"),
    ("x\udcffy", "x\\udcffy"), ("a\u202eb", "a\\u202eb"),
    ("y" * 10**6, "y" * 1000 + " ... " + "y" * 1000),
], ids=short)  # fmt: skip
def test_a_message_is_one_printable_line(message, expected):
    assert commands.printable(message) == expected


# ---- the page's server


@pytest.fixture
def site(tmp_path):
    folder = tmp_path / "site"
    folder.mkdir()
    (folder / "site.json").write_text("{}")
    return folder


@pytest.fixture
def port(site, monkeypatch):
    monkeypatch.setattr(serve, "REQUEST_SECONDS", 0.5)
    monkeypatch.setattr(serve, "CONNECTIONS", 4)
    with serve.server(str(site), "127.0.0.1", 0) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield running.server_port
        running.shutdown()


def status(port, name):
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/{name}", timeout=60) as answer:
            return answer.status
    except urllib.error.HTTPError as refusal:
        refusal.close()
        return refusal.code


def test_links_out_of_the_site_are_not_followed(site, port, tmp_path):
    write(tmp_path / "secret", b"x")
    (site / "file").symlink_to(tmp_path / "secret")
    (site / "folder").symlink_to(tmp_path)
    (site / "own").symlink_to(site / "site.json")
    names = ("own", "file", "folder/secret", "../secret", "%2e%2e/secret", "site.json/..%2f../secret")
    assert [status(port, name) for name in names] == [200, 404, 404, 404, 404, 404]


def test_pipes_hidden_files_and_other_folders_are_not_there(site, port):
    """A pipe that is opened waits for its writer, and a place of the 64 with it."""
    (site / "inside").mkdir()
    (site / ".git").mkdir()
    for name in ("inside/a.js", ".git/config", ".env"):
        (site / name).write_text("x")
    os.mkfifo(site / "pipe")
    names = ("inside/a.js", "pipe", ".env", ".git/config", "inside", "inside/", "/inside/%2f..")
    assert [status(port, name) for name in names] == [200, 404, 404, 404, 404, 404, 404]


def test_slow_and_many_visitors(port, capfd):
    slow = socket.create_connection(("127.0.0.1", port))
    begin = time.monotonic()
    with pytest.raises(OSError), slow:
        while time.monotonic() - begin < 60:
            slow.sendall(b"G")
            time.sleep(0.05)
    crowd = [socket.create_connection(("127.0.0.1", port)) for _ in range(5)]
    assert crowd[-1].recv(100).startswith(b"HTTP/1.0 503")
    for each in crowd:
        each.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # leaves with a reset
        each.close()
    deadline = time.monotonic() + 60
    while status(port, "site.json") != 200 and time.monotonic() < deadline:
        time.sleep(0.1)
    assert status(port, "site.json") == 200
    assert "Traceback" not in capfd.readouterr().err


def test_headers_here_and_for_other_servers(site, port):
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/site.json", timeout=60) as answer:
        found = answer.headers
    assert found["X-Content-Type-Options"] == "nosniff" and found["X-Frame-Options"] == "DENY"
    assert "frame-ancestors 'none'" in found["Content-Security-Policy"]
    assert "script-src 'self' 'wasm-unsafe-eval';" in found["Content-Security-Policy"]  # LiteRT.js is WebAssembly
    serve.write_headers(str(site))
    for name, value in serve.headers().items():
        assert found[name] == value
        assert f'add_header {name} "{value}" always;' in (site / "nginx.conf").read_text()
        assert f"  {name}: {value}\n" in (site / "_headers").read_text()


# ---- a stranger's server


@pytest.mark.parametrize("body", [
    b"[" * 10**5, b"[]", b"", b'{"predictions": 7}', b'{"predictions": [{"image_bytes": NaN, "notes": ""}]}',
    b'{"predictions": [{"image_bytes": {"b64": 7}, "notes": ""}]}', b"\xff", b'{"predictions": ' + b"9" * 5000 + b"}",
    b" " * 2000 + b"{}",
], ids=short)  # fmt: skip
def test_answers_that_no_server_of_ours_gives(body, monkeypatch):
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments):
            pass

    monkeypatch.setattr(client, "MAX_ANSWER", 1000)  # what a test can send
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.handle_request, daemon=True)
        thread.start()
        address = f"127.0.0.1:{server.server_port}"
        refused(lambda: client.edit(address, "rest", b"x", "red petals", [0]), address, "not as TensorFlow Serving")
        thread.join()
