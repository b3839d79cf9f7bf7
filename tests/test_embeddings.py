"""Precomputed embeddings: every kind of file to the same rows by key, mix-ups refused, and their place in records."""

import dataclasses
import json
import math
import pickle
import re
import types

import numpy as np
import pytest
import tensorflow as tf

from data import captions, embeddings, records
from simgan_tf.text import embed, encoders, vse
from simgan_tf.text.tokens import Vocabulary
from tests.strangers import t7_table

KEYS = {"train": ["Auk_0001_7", "Auk_0002_9", "Wren_0001_3"], "test": ["Jay_0005_1", "Jay_0006_2"]}
FOLDERS = {"Auk": "008.Auk", "Wren": "021.Wren", "Jay": "105.Jay"}
TEXTS = ("a small bird with a red crown .", "this bird is black; its beak is long")
DIM = 3


def class_of(key):
    return FOLDERS[key.split("_")[0]]


def vectors(key):
    """[2, 3] float32, other numbers for every key and row."""
    place = [*KEYS["train"], *KEYS["test"]].index(key)
    return np.array([[place, 0.5, -1], [place, 0.25, 2]], np.float32)


def listing(texts=TEXTS, keys=KEYS):
    """As far as `embeddings.check` looks at one."""
    entry = lambda key: types.SimpleNamespace(key=key, captions=texts)  # noqa: E731
    return types.SimpleNamespace(entries=[entry(key) for split in keys for key in keys[split]])


def write_stackgan(folder, protocol=2, as_array=False, change=lambda split, names, values: (names, values)):
    for split, keys in KEYS.items():
        names, values = change(split, [f"{class_of(key)}/{key}" for key in keys], [vectors(key) for key in keys])
        (folder / split).mkdir(parents=True, exist_ok=True)
        (folder / split / "filenames.pickle").write_bytes(pickle.dumps(names, protocol))
        values = np.array(values) if as_array else values
        (folder / split / "char-CNN-RNN-embeddings.pickle").write_bytes(pickle.dumps(values, protocol))
    return str(folder)


def t7_characters(texts):
    """[201, captions] uint8, 1-based places in the alphabet, 0 after the end."""
    columns = np.zeros((201, len(texts)), np.uint8)
    for j, text in enumerate(texts):
        for i, character in enumerate(text):
            columns[i, j] = captions.ALPHABET.index(character) + 1
    return columns


def write_t7(folder, **changes):
    for key in [*KEYS["train"], *KEYS["test"]]:
        (folder / class_of(key)).mkdir(parents=True, exist_ok=True)
        fields = {"img": f"{class_of(key)}/{key}.jpg".encode(), "char": t7_characters(TEXTS), "txt": vectors(key)}
        (folder / class_of(key) / f"{key}.t7").write_bytes(t7_table(**{**fields, **changes}))
    (folder / "trainvalclasses.txt").write_text("008.Auk\n021.Wren\n")
    return str(folder)


def write_npz(path, keys=None, values=None):
    keys = [*KEYS["train"], *KEYS["test"]] if keys is None else keys
    values = np.array([vectors(key) for key in keys]) if values is None else values
    np.savez(path, keys=np.array(keys), embeddings=values)
    return str(path)


def write_flat(path, order):
    """A row a caption: (key, row of that key)."""
    return write_npz(path, [key for key, _ in order], np.array([vectors(key)[j] for key, j in order]))


def every(path):
    path.mkdir()
    flat = [(key, j) for key in [*KEYS["train"], *KEYS["test"]] for j in (0, 1)]
    np.save(path / "own.npy", np.array([vectors(key) for key, j in flat if j == 0]))
    (path / "own.txt").write_text("\n".join(f"{key}.jpg" for key, j in flat if j == 0) + "\n")
    return {
        "stackgan, protocol 2": (write_stackgan(path / "a"), "char-CNN-RNN"),
        "stackgan, one array": (write_stackgan(path / "b", 0, as_array=True), "char-CNN-RNN"),
        "t7": (write_t7(path / "c"), "char-CNN-RNN"),
        "npz": (write_npz(path / "mine.npz"), "mine"),
        "flat npz": (write_flat(path / "flat.npz", flat), "flat"),
        "npy": (str(path / "own.npy"), "own"),
    }


def test_every_kind_of_file_gives_the_same_rows_by_key(tmp_path):
    """Root mean square by hand: rows (k, 1/2, -1) and (k, 1/4, 2) for k = 0..4: 2 * 30 + 5 * 5.3125 over 30 entries."""
    for kind, (path, name) in every(tmp_path / "files").items():
        found = embeddings.read(path)
        assert (found.name, found.dim) == (name, DIM), kind
        assert found.scale == pytest.approx(math.sqrt((2 * 30 + 5 * (0.25 + 1 + 0.0625 + 4)) / 30)), kind
        assert found.rows.keys() == {*KEYS["train"], *KEYS["test"]}, kind
        for key, rows in found.rows.items():
            assert rows.dtype == np.float32
            np.testing.assert_array_equal(rows, vectors(key), err_msg=kind)
        assert embeddings.check(found, listing()) == 0
    assert embeddings.read(path, "my own").name == "my own"


def test_half_and_double_precision_become_float32(tmp_path):
    for dtype in ("f2", "f8"):
        values = np.array([vectors(key) for key in KEYS["test"]], dtype)
        found = embeddings.read(write_npz(tmp_path / f"{dtype}.npz", KEYS["test"], values))
        np.testing.assert_array_equal(found.rows["Jay_0005_1"], vectors("Jay_0005_1"))
        assert found.rows["Jay_0005_1"].dtype == np.float32


def drop(split, names, values):
    return (names[:-1], values) if split == "test" else (names, values)


def twice(split, names, values):
    return [names[0], names[0], *names[2:]], values


def both(split, names, values):
    return ([*names[:-1], "008.Auk/Auk_0001_7"], values) if split == "test" else (names, values)


def other_shape(split, names, values):
    return names, [*values[:-1], values[-1][:, :2]]


def infinite(split, names, values):
    return names, [*values[:-1], values[-1] * np.float32("inf")]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (drop, r"test/char-CNN-RNN-embeddings\.pickle holds 2 rows, but .*test/filenames\.pickle names 1 pictures"),
        (twice, r"train/filenames\.pickle: name 1, 'Auk_0001_7', is there a second time"),
        (both, r"test/filenames\.pickle: name 1, 'Auk_0001_7', is there a second time"),
        (other_shape, r"'Wren_0001_3' has vectors of 2 numbers, 'Auk_0001_7' of 3"),
        (infinite, r"'Wren_0001_3' are not all finite"),
        (lambda split, names, values: (dict(enumerate(names)), values), "filenames.pickle is no list of picture names"),
        (lambda split, names, values: (names, [value[0] for value in values]), r"'Auk_0001_7' are float32 \[3\]"),
        (lambda split, names, values: (names, [value.astype(int) for value in values]), r"are int64 \[2, 3\]"),
        (lambda split, names, values: (names, [value.tolist() for value in values]), "are a list, expected floats"),
        (lambda split, names, values: (names, [0 * value for value in values]), "every embedding is zero"),
    ],
)
def test_mixed_up_stackgan_files_are_refused(tmp_path, change, words):
    with pytest.raises(ValueError, match=words) as caught:
        embeddings.read(write_stackgan(tmp_path, change=change))
    assert "\n" not in str(caught.value)


def test_half_a_stackgan_archive_names_what_is_missing(tmp_path):
    folder = write_stackgan(tmp_path)
    (tmp_path / "test" / "filenames.pickle").unlink()
    with pytest.raises(FileNotFoundError, match=r"No '.*test/filenames\.pickle'"):
        embeddings.read(folder)


def test_a_pickle_that_would_run_something_is_not_run(tmp_path):
    class Trap:
        def __reduce__(self):
            return open, (str(tmp_path / "trapped"), "w")

    folder = write_stackgan(tmp_path)
    (tmp_path / "train" / "filenames.pickle").write_bytes(pickle.dumps([Trap()], 2))
    with pytest.raises(ValueError, match=r"train/filenames\.pickle"):
        embeddings.read(folder)
    assert not (tmp_path / "trapped").exists()


def test_mixed_up_t7_files_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"Auk_0001_7\.t7 .* picture 'Auk_0009_9'"):
        embeddings.read(write_t7(tmp_path / "a", img=b"008.Auk/Auk_0009_9.jpg"))
    with pytest.raises(ValueError, match=r"'Auk_0001_7' are float32 \[2, 3, 1\]"):
        embeddings.read(write_t7(tmp_path / "b", txt=vectors("Jay_0005_1")[..., None]))
    folder = tmp_path / "c"
    write_t7(folder)
    (folder / "021.Wren" / "Auk_0001_7.t7").write_bytes((folder / "008.Auk" / "Auk_0001_7.t7").read_bytes())
    with pytest.raises(ValueError, match=r"021\.Wren/Auk_0001_7\.t7 is there a second time, in 008\.Auk"):
        embeddings.read(str(folder))
    (folder / "021.Wren" / "Auk_0001_7.t7").unlink()
    (folder / "008.Auk" / "Auk_0001_7.t7").write_bytes(t7_table(img=b"x"))
    with pytest.raises(ValueError, match=r"Auk_0001_7\.t7 is no table with 'txt'"):
        embeddings.read(str(folder))


def test_mixed_up_arrays_are_refused(tmp_path):
    path, keys = tmp_path / "e.npz", KEYS["train"]
    values = np.array([vectors(key) for key in keys])
    for written, words in (
        ((keys[:2], values), r"holds 3 rows, but 'keys' of .*e\.npz names 2 pictures"),
        (([keys[0], keys[1], keys[0]], values), r"has the key 'Auk_0001_7' twice"),
        (([keys[0], keys[1], keys[0]], values[:, 0]), r"'Auk_0001_7' twice, or comes back"),
        ((keys, values[:2, 0]), "holds 2 rows, but .* names 3 "),
        ((keys, values[0, 0]), r"shape \[3\], expected \[N, captions, dim\] or \[M, dim\]"),
        (([1, 2, 3], values), r"keys is int64 \[3\], expected a row of strings"),
        ((keys, values * np.float32("nan")), "'Auk_0001_7' are not all finite"),
        ((keys, np.ones([3, 1, 2**16 + 1], np.float32)), "vectors of 65,537 numbers; embeddings have at most 65,536"),
        ((keys, np.full(values.shape, 1e300)), "'Auk_0001_7' are not all finite"),
        (([], np.zeros((0, 2, 3), np.float32)), "keys is float64|holds no embeddings"),
    ):
        with pytest.raises(ValueError, match=words):
            embeddings.read(write_npz(path, *written))
    np.savez(path, names=np.array(keys), embeddings=values)
    with pytest.raises(ValueError, match="has the arrays embeddings, names; expected keys and embeddings"):
        embeddings.read(str(path))
    np.save(tmp_path / "e.npy", values)
    with pytest.raises(FileNotFoundError, match=r"expected .*e\.keys or .*e\.txt"):
        embeddings.read(str(tmp_path / "e.npy"))
    for name in ("", "none.npz", "e.bin"):
        (tmp_path / "e.bin").write_bytes(b"")
        with pytest.raises((FileNotFoundError, ValueError), match=re.escape(str(tmp_path / name).rstrip("/"))):
            embeddings.read(str(tmp_path / name))


def test_embeddings_must_fit_the_pictures_and_their_captions(tmp_path):
    found = embeddings.read(write_npz(tmp_path / "e.npz"))
    fewer = {"train": KEYS["train"][:2], "test": KEYS["test"]}
    assert embeddings.check(found, listing(keys=fewer)) == 1  # of a picture that is not there: no harm
    more = {"train": [*KEYS["train"][1:], "auk_0001_7", "Owl_1"], "test": KEYS["test"]}
    with pytest.raises(ValueError, match="2 of 6 pictures have no embeddings, such as 'auk_0001_7' .*'Auk_0001_7'"):
        embeddings.check(found, listing(keys=more))
    with pytest.raises(ValueError, match="'Auk_0001_7' has 2 embeddings and 3 captions"):
        embeddings.check(found, listing((*TEXTS, "one more")))


def test_captions_beside_the_embeddings_must_be_the_pictures_own_in_order(tmp_path):
    found = embeddings.read(write_t7(tmp_path))
    assert found.texts["Auk_0001_7"] == TEXTS
    embeddings.check(found, listing(tuple(text.upper().replace(" ", "  ") for text in TEXTS)))
    with pytest.raises(ValueError, match="'Auk_0001_7': caption 0 is another .* caption 1 there"):
        embeddings.check(found, listing(TEXTS[::-1]))
    with pytest.raises(ValueError, match="'Auk_0001_7': caption 1 is another .* not there at all"):
        embeddings.check(found, listing((TEXTS[0], "a bird of another picture")))
    cut = dataclasses.replace(found, texts={key: tuple(t[:20] for t in texts) for key, texts in found.texts.items()})
    embeddings.check(cut, listing())  # the .t7 files keep 201 characters of a caption


def example(key, rows=None):
    texts = tuple(f"{text} {j}" for j, text in enumerate(TEXTS))
    return records.Example(b"picture of " + key.encode(), key, 5, texts, embeddings=rows)


@pytest.fixture
def records_dir(tmp_path):
    folder = tmp_path / "records"
    folder.mkdir()
    parts = {
        split: records.write_split(str(folder), split, map(example, keys), 2) for split, keys in KEYS.items()
    }
    info = {"format_version": 1, "dataset": "toy", "shards": 2, "splits": parts, "embeddings": None, "carrier": "text"}
    records.write_info(str(folder), {**info, "fingerprint": records.fingerprint(parts)})
    return folder


def test_the_data_sets_fingerprint_is_blind_to_embeddings(tmp_path):
    """Of embeddings there is a second one; splits without any keep the fingerprint of earlier versions."""
    keys = KEYS["train"]
    plain = records.write_split(str(tmp_path), "train", [example(key) for key in keys], 2)
    filled = records.write_split(str(tmp_path), "train", [example(key, vectors(key)) for key in keys], 1)
    again = records.write_split(str(tmp_path), "train", [example(key, vectors(key)) for key in keys], 3)
    other = records.write_split(str(tmp_path), "train", [example(key, 2 * vectors(key)) for key in keys], 2)
    assert plain["fingerprint"] == filled["fingerprint"] == other["fingerprint"] and filled == again
    assert plain["embeddings_fingerprint"] == "" and plain["embedding_dim"] == 0
    assert filled["embedding_dim"] == 3 and filled["embeddings_fingerprint"] != other["embeddings_fingerprint"]
    entry = records.embeddings_entry({"train": filled, "test": again}, "mine", 1.5, "npz")
    assert entry["name"] == "mine" and (entry["dim"], entry["scale"], entry["source"]) == (3, 1.5, "npz")
    assert len(entry["fingerprint"]) == 64
    assert entry["fingerprint"] != records.embeddings_entry({"train": other}, "mine", 1.5, "npz")["fingerprint"]
    assert records.embeddings_entry({"train": filled}, "phi", 1.0, "x", "abc")["fingerprint"] == "abc"
    with pytest.raises(ValueError, match="'train': 3, 'test': 0"):
        records.embeddings_entry({"train": filled, "test": plain}, "mine", 1.5, "npz")


class Lengths:
    """A stand-in for an encoder: (characters, words, 1) times phi_scale; knows no sentence without a vowel."""

    dim, name, phi_scale = 3, "lengths", 0.5

    def __init__(self, mark="one"):
        self.fingerprint = mark
        self.encoded = []

    def encode(self, texts):
        self.encoded += texts
        return self.phi_scale * np.array([(len(text), len(text.split()), 1) for text in texts], np.float32)

    def check(self, text):
        if not set(text) & set("aeiou"):
            raise ValueError(f"{text!r} has no known word")


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_records_are_filled_with_any_encoder_and_emptied_again(records_dir):
    """Two different captions for all five pictures: 33 characters in 8 words + number, and 38 in 8."""
    before, encoder = contents(records_dir), Lengths()
    old = json.loads(before["dataset.json"])
    info, unknown = embed.embed(str(records_dir), encoder)
    assert unknown == [] and info == records.read_info(str(records_dir))
    lengths = [(len(text) + 2, len(text.split()) + 1, 1) for text in TEXTS]
    rows = 0.5 * np.array(lengths, np.float32)
    for split, keys in KEYS.items():
        found = list(records.read_examples(str(records_dir), split))
        assert [e.key for e in found] == keys
        for one in found:
            np.testing.assert_array_equal(one.embeddings, rows)
            assert dataclasses.replace(one, embeddings=None) == example(one.key)
        assert info["splits"][split]["fingerprint"] == old["splits"][split]["fingerprint"]
        assert info["splits"][split]["embedding_dim"] == 3
    assert sorted(encoder.encoded) == sorted(2 * example("k").captions)  # once a split, not once a picture
    entry = info["embeddings"]
    assert entry["scale"] == pytest.approx(0.5 * math.sqrt(np.mean(np.square(lengths))))
    assert (entry["name"], entry["dim"], entry["fingerprint"], entry["phi_scale"]) == ("lengths", 3, "one", 0.5)
    assert {**info, "splits": old["splits"], "embeddings": None} == old  # the rest of dataset.json stays
    filled = contents(records_dir)
    embed.embed(str(records_dir), Lengths())  # there already
    assert contents(records_dir) == filled
    embed.embed(str(records_dir), Lengths("two"))
    assert records.read_info(str(records_dir))["embeddings"]["fingerprint"] == "two"
    embed.remove(str(records_dir))
    assert contents(records_dir) == before
    assert [path.name for path in records_dir.parent.iterdir()] == ["records"]


def test_an_encoder_that_fails_leaves_the_records_as_they_were(records_dir):
    before = contents(records_dir)

    class Broken(Lengths):
        def encode(self, texts):
            return super().encode(texts) * np.float32("nan")

    with pytest.raises(ValueError, match="'lengths' gives numbers that are not finite for 'a small bird"):
        embed.embed(str(records_dir), Broken())
    assert contents(records_dir) == before and [path.name for path in records_dir.parent.iterdir()] == ["records"]


def test_records_that_are_not_what_dataset_json_tells_are_not_rewritten(records_dir):
    first, *others = map(example, KEYS["train"])
    changed = [dataclasses.replace(first, class_id=6), *others]
    records.write_split(str(records_dir), "train", changed, 2)
    before = contents(records_dir)
    with pytest.raises(ValueError, match=r"train records .* dataset\.json tells of \(another fingerprint"):
        embed.embed(str(records_dir), Lengths())
    assert contents(records_dir) == before


def test_captions_without_a_known_word_are_counted(records_dir):
    odd = [dataclasses.replace(example(key), captions=("xyz", "hmm")) for key in KEYS["test"]]
    parts = records.read_info(str(records_dir))["splits"] | {
        "test": records.write_split(str(records_dir), "test", odd, 2)
    }
    records.write_info(str(records_dir), {**records.read_info(str(records_dir)), "splits": parts})
    assert embed.embed(str(records_dir), Lengths())[1] == ["xyz", "hmm"]


def test_a_trained_encoder_is_loaded_from_its_run_directory(records_dir, tmp_path):
    """Every row is what the encoder says of that caption by itself, whatever the order and the batches."""
    encoder = vse.TextEncoder(Vocabulary(["bird", "black", "red", "crown"]), dim=5, word_dim=4, length=6, phi_scale=3.0)
    encoder.save(str(tmp_path / "run" / "text_encoder"))
    info, unknown = embed.embed(str(records_dir), encoders.load(str(tmp_path / "run")))
    assert unknown == [] and info["embeddings"]["fingerprint"] == encoder.fingerprint
    assert {name: info["embeddings"][name] for name in ("name", "dim", "phi_scale", "source")} == {
        "name": "vse", "dim": 5, "phi_scale": 3.0, "source": "simgan_tf.text.embed",
    }  # fmt: skip
    for one in records.read_examples(str(records_dir), "train"):
        alone = np.stack([encoder.encode([caption])[0] for caption in one.captions])
        np.testing.assert_allclose(one.embeddings, alone, atol=1e-6)


def test_a_record_whose_numbers_do_not_fit_its_captions_is_refused(records_dir):
    """7 numbers for 2 captions, and none at all for no caption, both with good checksums."""
    for texts, numbers in (((b"one", b"two"), np.ones(7)), ((), ())):
        values = {name: [b""] for name in ("image", "key", "mask", "colour")}
        serialized = records._serialize({**values, "class_id": [1], "captions": texts, "embeddings": numbers})
        for shard, count in ((0, 2), (1, 1)):
            with tf.io.TFRecordWriter(records.shard_path(str(records_dir), "train", shard, 2)) as writer:
                for _ in range(count):
                    writer.write(serialized)
        with pytest.raises(ValueError, match=f"has {len(texts)} captions and {len(numbers)} numbers of embeddings"):
            list(records.read_examples(str(records_dir), "train"))
