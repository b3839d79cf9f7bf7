"""Pictures read from the records where they lie: the batches of the held pictures, to the bit; damage; the index."""

import dataclasses
import itertools
import os
import re
import shutil

import numpy as np
import pytest
import tensorflow as tf

from data import pipeline, places, records, splits
from tests.test_pipeline import png

COUNT, SIDE, CUT, BATCH, SEED = 23, 20, 16, 4, 7
COUNTS = [1 + i % 4 for i in range(COUNT)]
FIRST = np.cumsum([0, *COUNTS])


def pixels(i):
    return np.random.default_rng(i).integers(0, 256, (SIDE, SIDE + i % 5, 3), np.uint8)


def example(i, embeddings=True):
    rows = np.random.default_rng(100 + i).normal(size=(COUNTS[i], 3)).astype(np.float32)
    captions = tuple(f"caption {k} of {i}" for k in range(COUNTS[i]))
    mask = png(pixels(i)[..., 0]) if i % 2 else b""
    return records.Example(png(pixels(i)), f"k{i:02d}", 1 + i % 3, captions, mask, "red", rows if embeddings else None)


def write(folder, embeddings=True, shards=3):
    folder.mkdir()
    part = records.write_split(str(folder), "train", (example(i, embeddings) for i in range(COUNT)), shards)
    records.write_info(str(folder), {"format_version": 1, "shards": shards, "splits": {"train": part}})
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write(tmp_path_factory.mktemp("places") / "records")


def batches(split, steps, **options):
    tokens = np.arange(FIRST[-1] * 2, dtype=np.int32).reshape(-1, 2)
    options = {"image_size": CUT, "load_size": SIDE, "batch_size": BATCH, "seed": SEED, **options}
    dataset = pipeline.training_batches(split, split.embeddings, tokens, **options)
    return [{k: v.numpy() for k, v in batch.items()} for batch in itertools.islice(dataset, steps)]


def by_hand(step, averaged):
    """The batch of a step, picture by picture in numpy, from the pixels themselves; draws are TensorFlow's by seed."""
    epoch_of, rows = COUNT // BATCH * BATCH, []
    for counter in range(step * BATCH, (step + 1) * BATCH):
        order = tf.constant([SEED, counter // epoch_of], tf.int64)
        i = int(tf.random.experimental.index_shuffle(tf.constant(counter % epoch_of, tf.int64), order, COUNT - 1))
        seed = tf.constant([SEED, counter], tf.int64)
        draws = tf.random.stateless_uniform([5], seed, alg="philox").numpy()
        whole, owned = pixels(i), COUNTS[i]
        room = np.array(whole.shape[:2]) - CUT + 1
        top, left = (draws[:2] * room.astype(np.float32)).astype(int)
        image = whole[top : top + CUT, left : left + CUT].astype(np.float32)
        image = image[:, ::-1] if draws[2] < 0.5 else image
        if averaged == 1:
            picked = [int(draws[3] * np.float32(owned))]
        else:
            shuffle = tf.random.experimental.index_shuffle
            picked = [int(shuffle(k, seed, owned - 1)) for k in range(min(averaged, owned))]
        vectors = example(i).embeddings[picked]
        rows.append((image / np.float32(127.5) - np.float32(1), vectors.mean(axis=0), FIRST[i] + picked[0], 1 + i % 3))
    return [np.array(column) for column in zip(*rows, strict=True)]


@pytest.mark.parametrize("averaged", [1, 3])
def test_batches_are_those_of_a_second_implementation(folder, averaged):
    """Bit for bit, over two epochs of five steps; the mean of several embeddings to the last bits."""
    found = batches(splits.load_split(str(folder), "train"), 11, captions_averaged=averaged)
    for step, batch in enumerate(found):
        image, embedding, caption, class_id = by_hand(step, averaged)
        np.testing.assert_array_equal(batch["image"], image)
        np.testing.assert_array_equal(batch["class_id"], class_id)
        np.testing.assert_array_equal(batch["tokens"], np.stack([2 * caption, 2 * caption + 1], 1))
        np.testing.assert_allclose(batch["embedding"], embedding, rtol=0, atol=0 if averaged == 1 else 1e-6)


@pytest.mark.parametrize("embeddings", [True, False])
def test_batches_are_those_of_held_pictures(tmp_path, embeddings):
    """A Split of tensors and lists, as tests and benchmarks make it, beside the one of the records."""
    stored = splits.load_split(str(write(tmp_path / "records", embeddings)), "train")
    examples = [example(i, embeddings) for i in range(COUNT)]
    held = splits.Split(
        keys=[e.key for e in examples],
        images=tf.constant([e.image for e in examples]),
        masks=[e.mask for e in examples],
        colours=[e.colour for e in examples],
        class_ids=np.array([e.class_id for e in examples], np.int32),
        captions=[e.captions for e in examples],
        embeddings=np.concatenate([e.embeddings for e in examples]) if embeddings else None,
    )
    for name in ("keys", "masks", "colours", "captions"):
        assert list(getattr(stored, name)) == getattr(held, name), name
    np.testing.assert_array_equal(stored.masked, held.masked)
    options = {"rotate_degrees": 10, "load_size": 18, "captions_averaged": 2, "start_step": 3}
    for one, other in zip(batches(stored, 6, **options), batches(held, 6, **options), strict=True):
        assert one.keys() == other.keys()
        for name in one:
            np.testing.assert_array_equal(one[name], other[name])
    rows = np.array([5, 1, 21])
    assert list(stored.take(rows).captions) == held.take(rows).captions
    assert list(stored.spread(4).keys) == held.spread(4).keys
    if embeddings:
        np.testing.assert_array_equal(stored.take(rows).embeddings[:], held.take(rows).embeddings)
        np.testing.assert_array_equal(stored.embeddings[4], held.embeddings[4])
    images = pipeline.evaluation_images(stored, 12, 16)
    np.testing.assert_array_equal(images, pipeline.evaluation_images(held, 12, 16))
    decoded = pipeline.decoded_images(stored, 12, 16)
    assert decoded.shape == images.shape and decoded.dtype == images.dtype
    for key in (slice(3, 9), rows):
        np.testing.assert_allclose(decoded[key], images[key], atol=2e-7)
    odd = np.flatnonzero(held.masked)
    masks = pipeline.decoded_masks(stored.take(odd), 12, 16).all()
    np.testing.assert_array_equal(masks, pipeline.decoded_masks(held.take(odd), 12, 16).all())


def noting(crop, decoded):
    """`crop`, which puts down what it decodes."""

    def noted(encoded, *options):
        note = tf.numpy_function(lambda data: decoded.append(data) or np.int32(0), [encoded], tf.int32)
        with tf.control_dependencies([note]):
            return crop(tf.identity(encoded), *options)

    return noted


def test_two_workers_read_and_decode_half_of_the_pictures_each(folder, monkeypatch):
    """Their halves put together are the batch; everything but pictures is whole in both. Pictures that are read, and
    those that are decoded, are counted."""
    whole, halves, steps = batches(splits.load_split(str(folder), "train"), 6), [], 6
    crop = pipeline._crop_encoded
    for first in (0, 2):
        split, read, decoded = splits.load_split(str(folder), "train"), [], []
        monkeypatch.setattr(pipeline, "_crop_encoded", noting(crop, decoded))
        images = split.images.places.images
        split.images.places.images = lambda rows, images=images, read=read: read.append(rows) or images(rows)
        halves.append(batches(split, steps, share=(first, 2)))
        assert len(read) >= steps and {len(rows) for rows in read} == {2}  # prefetching may be some batches ahead
        classes = {tuple(1 + rows % 3) for rows in read}
        assert {tuple(batch["class_id"][first : first + 2]) for batch in halves[-1]} <= classes
        done = list(decoded)
        assert 2 * steps <= len(done) <= 2 * len(read), "two of the four pictures of a batch, and no more"
        assert set(done) <= {example(row).image for rows in read for row in rows.tolist()}
    for one, left, right in zip(whole, *halves, strict=True):
        assert left["image"].shape[0] == right["image"].shape[0] == 2
        np.testing.assert_array_equal(np.concatenate([left["image"], right["image"]]), one["image"])
        for name in ("embedding", "tokens", "class_id"):
            np.testing.assert_array_equal(left[name], one[name])
            np.testing.assert_array_equal(right[name], one[name])
    with pytest.raises(ValueError, match=r"share=\(3, 2\) must lie within the 4 rows"):
        batches(split, 1, share=(3, 2))


@pytest.mark.parametrize("embeddings", [True, False])
def test_changed_bytes_are_found_by_the_read_and_named(tmp_path, embeddings):
    """One bit in the middle of picture 4, which is record 1 of shard 1; the others are read all the same."""
    out = write(tmp_path / "records", embeddings)
    shard = out / "train-00001-of-00003.tfrecord"
    data = bytearray(shard.read_bytes())
    data[data.index(example(4).image) + 100] ^= 1
    shard.write_bytes(data)
    split = splits.load_split(str(out), "train")
    assert split.images[5] == example(5).image and not split.damage
    words = r"train-00001-of-00003\.tfrecord is damaged: record 1: its checksum does not fit"
    with pytest.raises(ValueError, match=words):
        split.images[4]
    again = splits.load_split(str(out), "train")
    with pytest.raises(tf.errors.OpError):
        batches(again, 6)
    assert "train-00001-of-00003.tfrecord is damaged: record 1" in again.damage and "\n" not in again.damage


def test_records_replaced_during_a_training_are_read_on_or_named(folder, tmp_path):
    """A file that takes another's name leaves the training with the old one; one written over it is found out."""
    out, others = tmp_path / "records", tmp_path / "others"
    shutil.copytree(folder, out)
    shutil.copytree(folder, others)
    for name in os.listdir(others):
        (others / name).write_bytes((others / name).read_bytes()[::-1])
    split = splits.load_split(str(out), "train")
    before = [batch["image"] for batch in batches(split, 6)]
    for name in os.listdir(out):
        os.replace(others / name, out / name)
    for batch, image in zip(batches(split, 6), before, strict=True):
        np.testing.assert_array_equal(batch["image"], image)
    shutil.rmtree(out)
    shutil.copytree(folder, out)
    split = splits.load_split(str(out), "train")
    batches(split, 1)
    with open(out / "train-00001-of-00003.tfrecord", "r+b") as file:
        file.write(bytes(200))
    with pytest.raises(tf.errors.OpError):
        batches(split, 6)
    assert "train-00001-of-00003.tfrecord is damaged: record 0: its checksum does not fit" in split.damage


def test_an_embedding_that_is_not_finite_is_named(tmp_path):
    """Written as it is, so that every checksum fits."""
    out = tmp_path / "records"
    out.mkdir()
    examples = [example(i) for i in range(COUNT)]
    examples[7].embeddings[:, 2] = np.nan
    part = records.write_split(str(out), "train", iter(examples), 3)
    records.write_info(str(out), {"format_version": 1, "shards": 3, "splits": {"train": part}})
    split = splits.load_split(str(out), "train")
    with pytest.raises(tf.errors.OpError):
        batches(split, 40)
    words = r"train-00001-of-00003\.tfrecord is damaged: record 2: the embedding of its caption \d is not finite"
    assert re.search(words, split.damage)


@pytest.mark.parametrize("embeddings", [True, False])
def test_records_exchanged_together_with_their_index_are_found_out(tmp_path, embeddings):
    """All counts, captions a picture and classes are equal; a letter of one caption is another, or one number."""
    mine, other = write(tmp_path / "mine", embeddings), tmp_path / "other"
    other.mkdir()
    examples = [example(i, embeddings) for i in range(COUNT)]
    if embeddings:
        examples[3].embeddings[0, 0] += 1
    else:
        examples[3] = dataclasses.replace(examples[3], captions=("captioN 0 of 3", *examples[3].captions[1:]))
    records.write_split(str(other), "train", iter(examples), 3)
    for name in os.listdir(other):
        shutil.copy(other / name, mine / name)
    with pytest.raises(ValueError, match="the train records are not those that dataset.json describes"):
        splits.load_split(str(mine), "train")


def test_an_index_is_made_for_records_without_one_and_again_where_it_is_of_others(folder, tmp_path, capsys):
    index = folder / "train.index.npy"
    good, out = index.read_bytes(), tmp_path / "records"
    shutil.copytree(folder, out)
    mine = out / "train.index.npy"
    table = np.load(index)
    moved, short = table.copy(), table[:-1]
    moved["start"][5] += 1
    object_array = np.array([{}] * COUNT, object)
    for spoil in (None, b"", b"nonsense" * 40, good[:-40], moved, short, object_array):
        if spoil is None:
            mine.unlink()
        elif isinstance(spoil, bytes):
            mine.write_bytes(spoil)
        else:
            np.save(mine, spoil)
        split = splits.load_split(str(out), "train")
        assert capsys.readouterr().out.splitlines() == [
            f"{out}: reading the train records once, for an index of their places"
        ]
        assert split.images[22] == example(22).image and mine.read_bytes() == good
    splits.load_split(str(out), "train")
    assert capsys.readouterr().out == ""
    (out / "train-00002-of-00003.tfrecord").write_bytes(b"")
    with pytest.raises(ValueError, match=r"train-00002-of-00003\.tfrecord holds 0 train records, not 7"):
        splits.load_split(str(out), "train")


@pytest.mark.skipif(os.geteuid() == 0 if hasattr(os, "geteuid") else False, reason="root may write everywhere")
def test_records_that_others_own_are_read_without_writing_an_index(folder, tmp_path):
    out = tmp_path / "records"
    shutil.copytree(folder, out)
    (out / "train.index.npy").unlink()
    out.chmod(0o500)
    assert splits.load_split(str(out), "train").keys[3] == "k03"
    out.chmod(0o700)
    assert not (out / "train.index.npy").exists()


def test_spans_are_where_the_values_stand():
    cases = itertools.product((0, 3, 120, 20_000), (1, 130), (0, 200), (1, 3), (0, 40))
    for image, key, mask, captions, numbers in cases:
        vectors = np.full([captions, numbers], 7, np.float32) if numbers else None
        one = records.Example(b"i" * image, "k" * key, 300, ("c" * 150,) * captions, b"m" * mask, "", vectors)
        serialized = records._serialize(records._values(one))
        sizes = image, key, mask, 4 * captions * numbers
        found = {name: serialized[at : at + n] for name, (at, n) in places.spans(serialized, *sizes).items()}
        wanted = {"image": one.image, "mask": one.mask, "embeddings": b"" if vectors is None else vectors.tobytes()}
        assert found == wanted, sizes


def test_a_record_is_what_tensorflow_makes_of_the_example():
    one = example(3, embeddings=False)
    texts = {"image": [one.image], "key": [b"k03"], "captions": [text.encode() for text in one.captions]}
    feature = {name: tf.train.Feature(bytes_list=tf.train.BytesList(value=value)) for name, value in
               {**texts, "mask": [one.mask], "colour": [b"red"]}.items()}  # fmt: skip
    feature["class_id"] = tf.train.Feature(int64_list=tf.train.Int64List(value=[one.class_id]))
    feature["embeddings"] = tf.train.Feature(float_list=tf.train.FloatList(value=[]))
    whole = tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString(deterministic=True)
    assert records._serialize(records._values(one)) == whole


def test_bytes_that_are_no_record():
    with pytest.raises(ValueError, match="not one of this project's"):
        records.parse(b"\xff")
