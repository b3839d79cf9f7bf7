"""Batches as a function of the step, pictures and masks for evaluation: geometry, order, pairing and bad arguments."""

import dataclasses
import io
import itertools

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from data import pipeline, records, splits
from tests import tiny

COUNT = 10
CAPTIONS = [1 + number % 3 for number in range(COUNT)]  # 1 to 3 an image, 19 in all
OWNER = np.repeat(np.arange(COUNT), CAPTIONS)  # image of each flat caption
SIZES = {"image_size": 16, "load_size": 20, "batch_size": 4, "seed": 5}


def png(pixels):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def ramp(number):
    """Blue is the number; red grows to the right, green downwards: any crop shows where it was cut. [30, 40, 3]."""
    y, x = np.mgrid[:30, :40]
    return np.stack([6 * x, 8 * y, np.full_like(x, 20 * number)], -1).astype(np.uint8)


def make_split(pictures, masks=None):
    counts = (CAPTIONS * len(pictures))[: len(pictures)]
    return splits.Split(
        keys=[f"k{number}" for number in range(len(pictures))],
        images=tf.constant([png(picture) for picture in pictures]),
        masks=[png(mask) for mask in masks] if masks else [b""] * len(pictures),
        colours=[""] * len(pictures),
        class_ids=np.arange(1, len(pictures) + 1, dtype=np.int32),
        captions=[tuple(f"{number} {k}" for k in range(count)) for number, count in enumerate(counts)],
        embeddings=None,
    )


@pytest.fixture(scope="module")
def split():
    return make_split([ramp(number) for number in range(COUNT)])


def flat():
    """embeddings [19, 2] and tokens [19, 3], each row holding its own number."""
    rows = np.arange(len(OWNER))
    return np.stack([rows, -rows], 1).astype(np.float32), np.stack([rows, rows + 1, 0 * rows], 1).astype(np.int32)


def take(split, steps, **options):
    """The first `steps` batches as dicts of arrays."""
    dataset = pipeline.training_batches(split, *flat(), **{**SIZES, **options})
    return [{name: value.numpy() for name, value in batch.items()} for batch in itertools.islice(dataset, steps)]


def numbers(batch):
    """Which picture each row is, by its blue."""
    return np.rint((batch["image"][:, 8, 8, 2] + 1) * 127.5 / 20).astype(int)


def test_shapes_types_and_range(split):
    (batch,) = take(split, 1)
    assert {name: (value.shape, value.dtype.name) for name, value in batch.items()} == {
        "image": ((4, 16, 16, 3), "float32"),
        "embedding": ((4, 2), "float32"),
        "tokens": ((4, 3), "int32"),
        "class_id": ((4,), "int32"),
    }
    assert -1 <= batch["image"].min() < -0.5 < 0.5 < batch["image"].max() <= 1


@pytest.mark.parametrize("rotate_degrees", [0, 16])
def test_a_run_started_at_step_k_gives_batch_k_bit_for_bit(split, rotate_degrees):
    """An epoch has 10 // 4 = 2 steps, so seven batches cross three epochs."""
    whole = take(split, 7, rotate_degrees=rotate_degrees)
    for start in (1, 2, 5):
        (batch,) = take(split, 1, rotate_degrees=rotate_degrees, start_step=start)
        for name, value in batch.items():
            np.testing.assert_array_equal(value, whole[start][name])


def test_every_picture_once_an_epoch_in_an_order_of_its_own(split):
    batches = take(split, 6, batch_size=5)
    epochs = [np.concatenate([numbers(batch) for batch in batches[i : i + 2]]) for i in (0, 2, 4)]
    for order in epochs:
        assert sorted(order) == list(range(COUNT))
    assert len({tuple(order) for order in epochs}) == 3
    other = np.concatenate([numbers(batch) for batch in take(split, 2, batch_size=5, seed=6)])
    assert sorted(other) == list(range(COUNT)) and tuple(other) != tuple(epochs[0])


def test_the_rest_of_an_epoch_is_dropped(split):
    """10 pictures in batches of 4: 8 different ones an epoch."""
    batches = take(split, 40)
    for i in range(0, 40, 2):
        assert len(set(numbers(batches[i])) | set(numbers(batches[i + 1]))) == 8
    assert set(np.concatenate([numbers(batch) for batch in batches])) == set(range(COUNT))


def test_embedding_and_tokens_are_of_one_caption_of_the_picture(split):
    seen = set()
    for batch in take(split, 60):
        rows = batch["embedding"][:, 0].astype(int)
        np.testing.assert_array_equal(batch["tokens"], np.stack([rows, rows + 1, 0 * rows], 1))
        np.testing.assert_array_equal(OWNER[rows], numbers(batch))
        np.testing.assert_array_equal(batch["class_id"], numbers(batch) + 1)
        seen |= set(rows)
    assert seen == set(range(len(OWNER)))


def test_flips_and_crops_occur_and_stay_inside(split):
    """Load size 20 of a 30x40 picture is 20x27: 5 places down, 12 across. Red rises to the right unless mirrored."""
    images = np.concatenate([batch["image"] for batch in take(split, 60)])
    slopes = np.sign(images[:, 8, 12, 0] - images[:, 8, 4, 0])
    assert 0.35 < np.mean(slopes < 0) < 0.65
    plain = np.concatenate([batch["image"] for batch in take(split, 60, flip=False)])
    assert (plain[:, 8, 12, 0] > plain[:, 8, 4, 0]).all()
    for axis, places in ((0, 12), (1, 5)):
        corners = np.unique(np.round(plain[:, 8, 8, axis], 4))
        assert len(corners) == places
    reference = np.asarray(Image.fromarray(ramp(0)).resize((27, 20), Image.BILINEAR), float)
    left, right = reference[10, 8, 0], reference[10, 26 - 7, 0]  # red at column 8 of the first and the last place
    red = (plain[:, 8, 8, 0] + 1) * 127.5
    assert red.min() == pytest.approx(left, abs=1) and red.max() == pytest.approx(right, abs=1)


def test_rotation_turns_about_the_centre_within_its_angle():
    """A white bar on black, cut at full size: the bar's angle comes from its second moments."""
    bar = np.zeros((41, 41, 3), np.uint8)
    bar[19:22, 8:33] = 255
    split = make_split([bar] * 4)
    tokens = np.zeros((sum(map(len, split.captions)), 1), np.int32)
    options = {"image_size": 41, "load_size": 41, "batch_size": 4, "seed": 0, "flip": False}
    angles = []
    for batch in itertools.islice(pipeline.training_batches(split, None, tokens, rotate_degrees=30, **options), 20):
        assert "embedding" not in batch
        for image in batch["image"].numpy():
            y, x = np.nonzero(image[..., 0] > 0)
            assert abs(x.mean() - 20) < 0.6 and abs(y.mean() - 20) < 0.6
            angles.append(np.degrees(0.5 * np.arctan2(2 * np.cov(x, y)[0, 1], np.var(x) - np.var(y))))
    assert -31 < min(angles) < -15 and 15 < max(angles) < 31
    grey = make_split([np.full((20, 30, 3), 200, np.uint8)] * 4)
    for batch in itertools.islice(pipeline.training_batches(grey, None, tokens, rotate_degrees=90, **SIZES), 5):
        np.testing.assert_allclose(batch["image"], 200 / 127.5 - 1, atol=1e-5)  # no black corners


@pytest.mark.parametrize(("height", "width"), [(60, 83), (90, 41), (12, 30), (24, 24)])
def test_centre_crop_matches_pillow(height, width):
    """Short side to 24, then the central 20x20; Pillow's bilinear filter is antialiased. Tolerance 2/255."""
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    short = min(height, width)
    size = tuple(int(side * 24 / short + 0.5) for side in (width, height))
    resized = Image.fromarray(pixels).resize(size, Image.BILINEAR)
    left, top = (size[0] - 20) // 2, (size[1] - 20) // 2
    expected = np.asarray(resized.crop((left, top, left + 20, top + 20)), np.float32) / 127.5 - 1
    found = pipeline.centre_crop(tf.constant(pixels), 20, 24).numpy()
    assert found.dtype == np.float32 and found.shape == (20, 20, 3)
    assert np.abs(found - expected).max() <= 2 * 2 / 255  # 255 levels span two units
    assert -1 <= found.min() and found.max() <= 1


def test_evaluation_pictures_keep_the_order_and_masks_their_geometry():
    """The mask is drawn into the picture: white inside, black outside."""
    rng = np.random.default_rng(1)
    masks, pictures = [], []
    for _ in range(6):
        mask = np.zeros((50, 70), np.uint8)
        y, x = rng.integers(0, 30, 2)
        mask[y : y + 20, x : x + 35] = 255
        masks.append(mask)
        pictures.append(np.repeat(mask[..., None], 3, -1))
    split = make_split(pictures, masks)
    images = pipeline.evaluation_images(split, 32, 36)
    inside = pipeline.decoded_masks(split, 32, 36).all()
    assert images.shape == (6, 32, 32, 3) and images.dtype == np.float32
    assert inside.shape == (6, 32, 32) and inside.dtype == bool
    np.testing.assert_array_equal(inside, images[..., 0] > 0)
    assert all(0 < mask.mean() < 1 for mask in inside)
    first = pipeline.centre_crop(tf.constant(pictures[2]), 32, 36).numpy()
    np.testing.assert_array_equal(images[2], first)


@pytest.mark.parametrize("load_size", [40, 33, 60], ids=["as stored", "smaller", "larger"])
@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_random_crops_are_cut_from_the_resized_picture(kind, load_size):
    """The whole picture decoded, resized by Pillow, and searched for the place of the crop.

    The stored short side is 40, so that load_size=40 cuts only; nothing of the partial decoding may show, at the
    edges of the crop either. Tolerance 1 of 255 levels: Pillow rounds to whole ones.
    """
    y, x = np.mgrid[:40, :70]
    pixels = np.stack([3 * x, 6 * y, 120 + 60 * np.sin(x / 5) * np.cos(y / 7)], -1).astype(np.uint8)
    buffer = io.BytesIO()
    options = {"quality": 90, "subsampling": 2} if kind == "JPEG" else {}
    Image.fromarray(pixels).save(buffer, kind, **options)
    size = (int(70 * load_size / 40 + 0.5), load_size)
    decoded = tf.io.decode_image(buffer.getvalue(), channels=3).numpy()
    resized = np.asarray(Image.fromarray(decoded).resize(size, Image.BILINEAR), np.float32)
    windows = np.lib.stride_tricks.sliding_window_view(resized, (32, 32), axis=(0, 1))  # [rows, columns, 3, 32, 32]
    split = dataclasses.replace(make_split([pixels] * 8), images=tf.constant([buffer.getvalue()] * 8))
    tokens = np.zeros((sum(map(len, split.captions)), 1), np.int32)
    options = {"image_size": 32, "load_size": load_size, "batch_size": 8, "seed": 1, "flip": False}
    places = set()
    for batch in itertools.islice(pipeline.training_batches(split, None, tokens, **options), 3):
        for image in (batch["image"].numpy() + 1) * 127.5:
            error = np.abs(windows - image.transpose(2, 0, 1)).max(axis=(2, 3, 4))
            assert error.min() <= (1e-3 if load_size == 40 else 1.01)
            places.add(np.unravel_index(error.argmin(), error.shape))
    assert len(places) > (1 if load_size == 33 else 10)


def test_mean_of_several_captions():
    """Ten pictures with 1 to 3 captions, two averaged: every mean of two different own rows, or the only one."""
    split = make_split([ramp(number) for number in range(COUNT)])
    found = {}
    for batch in take(split, 40, captions_averaged=2):
        for row, class_id, tokens in zip(batch["embedding"], batch["class_id"], batch["tokens"], strict=True):
            found.setdefault(int(class_id) - 1, set()).add(float(row[0]))
            assert OWNER[tokens[0]] == class_id - 1
    for picture, means in found.items():
        own = np.flatnonzero(OWNER == picture)
        pairs = [sum(pair) / 2 for pair in itertools.combinations(own, 2)] if len(own) > 1 else [float(own[0])]
        assert means == set(pairs)
    again = take(split, 3, captions_averaged=2, start_step=2)
    np.testing.assert_array_equal(again[0]["embedding"], take(split, 3, captions_averaged=2)[2]["embedding"])


def test_embeddings_without_tokens(split):
    """Embeddings that came with the data have no tokens: the key is left out."""
    batch = next(iter(pipeline.training_batches(split, flat()[0], None, **SIZES)))
    assert sorted(batch) == ["class_id", "embedding", "image"]


def test_load_split_reads_what_was_written(tmp_path):
    examples = [
        records.Example(png(ramp(n)), f"k{n}", n + 1, tuple("ab"[: n % 2 + 1]), colour="red",
                        embeddings=np.full((n % 2 + 1, 2), n, np.float32))
        for n in range(5)
    ]  # fmt: skip
    part = records.write_split(str(tmp_path), "train", examples, 2)
    records.write_info(str(tmp_path), {"format_version": 1, "shards": 2, "splits": {"train": part}})
    split = splits.load_split(str(tmp_path), "train")
    assert len(split) == 5 and [*split.keys] == ["k0", "k1", "k2", "k3", "k4"] and [*split.colours] == ["red"] * 5
    assert split.class_ids.tolist() == [1, 2, 3, 4, 5] and split.class_ids.dtype == np.int32
    assert [*split.images] == [example.image for example in examples]
    assert [*split.captions] == [("a",), ("a", "b"), ("a",), ("a", "b"), ("a",)]
    np.testing.assert_array_equal(split.embeddings[:][:, 0], [0, 1, 1, 2, 3, 3, 4])
    with pytest.raises(ValueError, match=r"5 of 5 pictures have no mask \(k0\)"):
        pipeline.decoded_masks(split, 8, 8).all()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"image_size": 21}, "image_size=21 must be 1 to load_size=20"),
        ({"batch_size": 11}, "batch_size=11 must be 1 to 10"),
        ({"batch_size": 0}, "batch_size=0 must be 1 to 10"),
        ({"start_step": -1}, "start_step=-1"),
        ({"rotate_degrees": 200}, "rotate_degrees=200"),
        ({"captions_averaged": 0}, "captions_averaged=0"),
        ({"embeddings": np.zeros((18, 2), np.float32)}, r"embeddings of shape \(18, 2\) .* 19 captions"),
        ({"tokens": np.zeros((20, 2), np.int32)}, r"tokens of shape \(20, 2\) .* 19 captions"),
    ],
)
def test_arguments_that_do_not_fit_are_told_with_both_numbers(split, change, words):
    embeddings, tokens = flat()
    with pytest.raises(ValueError, match=words):
        pipeline.training_batches(split, **{"embeddings": embeddings, "tokens": tokens, **SIZES, **change})


READS_AHEAD = """
import sys
from data import pipeline, splits
from tests import tiny
split = splits.load_split(sys.argv[1], "train")
batches = iter(pipeline.training_batches(split, None, None, image_size=32, load_size=40, batch_size=4, seed=0))
next(batches)
"""


@pytest.mark.ci
@pytest.mark.slow
def test_a_process_ends_while_pictures_are_read_ahead(path):
    """The iterator is still alive when the interpreter ends. One in ten such processes once stayed for ever."""
    for _ in range(8):
        done = tiny.start("-c", READS_AHEAD, path / "records", timeout=120)
        assert not [line for line in done.stderr.splitlines() if "Error" in line or "rror:" in line]
