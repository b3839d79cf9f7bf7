"""The measure on objects: numbers of drawn pictures by hand, and the protocol on a method that paints by rule."""

import types

import numpy as np
import pytest
import tensorflow as tf
from skimage.color import lab2rgb

from data.splits import Split
from simgan_tf.evaluation import colours, objects


def picture_of(word):
    """A word's colour as a pixel in [-1, 1]."""
    return np.float32(2 * lab2rgb(np.float32(objects.WORDS[word])) - 1)


GREY, RED = picture_of("grey"), picture_of("red")


def scene():
    """A grey picture of 64x64, and an outline of 32x32 in its middle: [1, 64, 64, 3], [1, 64, 64]."""
    mask = np.zeros([1, 64, 64], bool)
    mask[:, 16:48, 16:48] = True
    return np.tile(GREY, [1, 64, 64, 1]), mask


def test_every_word_is_nearest_to_itself():
    table = np.array(list(objects.WORDS.values()), np.float32)
    assert objects.nearest_word(table).tolist() == list(objects.WORDS)
    assert objects.nearest_word(np.array([[95.0, 0, 0], [50.0, 0, 0], [5.0, 0, 0]])).tolist() == [
        "white", "grey", "black"
    ]  # fmt: skip


def test_object_colour_is_the_median_inside():
    """Of 1,024 pixels 500 are red, so the median is grey's; of 524 it is red's."""
    source, mask = scene()
    for count, wanted in ((500, "grey"), (524, "red")):
        edited = source.copy()
        edited[0, 16:48, 16:48] = np.where(np.arange(1024)[:, None] < count, RED, GREY).reshape(32, 32, 3)
        assert objects.nearest_word(objects.object_colour(edited, mask)).tolist() == [wanted]


def test_spill_and_beside_of_a_painted_strip():
    """The background lies one pixel from the outline: 64^2 - 34^2 = 2,940. Red columns 0 to 15 hold 1,024 pixels, of
    which the 34 in column 15 beside the outline are no background: 990. The red object has 1,024 more, inside."""
    source, mask = scene()
    edited = source.copy()
    edited[:, :, :16] = RED
    assert objects.background(mask).sum() == 2940
    assert objects.spill(source, edited, mask) == pytest.approx([990 / 2940])
    assert objects.beside(source, edited, mask, "red") == pytest.approx([990 / 1024])
    edited[:, 16:48, 16:48] = RED
    assert objects.spill(source, edited, mask) == pytest.approx([990 / 2940])
    assert objects.beside(source, edited, mask, "red") == pytest.approx([990 / 2048])
    assert np.isnan(objects.beside(source, edited, mask, "blue")).all()
    assert objects.spill(source, source, mask) == [0.0]
    assert np.isnan(objects.spill(source, edited, np.ones_like(mask))).all()


def test_spill_asks_for_a_move_of_fifteen():
    """A lighter grey moves L alone: no spill."""
    source, mask = scene()
    assert objects.spill(source, source + 0.3, mask) == [0.0]


def test_frame_is_the_ratio_of_two_moves():
    """The outer tenth of 64 is 7 pixels deep (0 to 6 are nearer than 6.4): red there, half as far from grey inside."""
    source, mask = scene()
    edited = np.tile((GREY + RED) / 2, [1, 64, 64, 1])
    ring = np.ones([64, 64], bool)
    ring[7:-7, 7:-7] = False
    edited[0, ring] = RED
    ab = objects.lab(np.stack([GREY, RED, (GREY + RED) / 2])[None])[0, :, 1:]
    far, half = np.linalg.norm(ab[1] - ab[0]), np.linalg.norm(ab[2] - ab[0])
    assert objects.frame(source, edited, mask) == pytest.approx([far / (half + 1e-3)], rel=1e-4)


def test_stripes_along_rows_and_columns():
    source, mask = scene()
    rows = source.copy()
    rows[:, ::2] = RED
    assert objects.stripes(rows, mask)[0] > 1000
    assert objects.stripes(rows.transpose(0, 2, 1, 3), mask)[0] == 0.0
    squares = source.copy()
    squares[:, ::2, ::2] = RED
    squares[:, 1::2, 1::2] = RED
    assert objects.stripes(squares, mask) == pytest.approx([1.0], abs=1e-3)


def test_overlap():
    """2 of 4 pixels in common; none at all; both empty."""
    first = np.array([[[1, 1], [1, 0]], [[1, 0], [0, 0]], [[0, 0], [0, 0]]], bool)
    second = np.array([[[1, 1], [0, 1]], [[0, 1], [0, 0]], [[0, 0], [0, 0]]], bool)
    assert objects.overlap(first, second).tolist() == [0.5, 0.0, 1.0]


def split_of(masks):
    """Two grey pictures, the second called red by its captions."""
    picture = tf.io.encode_png(np.tile(np.uint8(np.round((GREY + 1) * 127.5)), [64, 64, 1])).numpy()
    captions = [("this flower is grey",), ("this flower has red petals",) * 4]
    return Split(["a", "b"], tf.constant([picture] * 2), masks, ["", ""], np.array([1, 1], np.int32), captions, None)


class Painter:
    """A method whose edit paints all that lies left of column 40 in the colour that the embedding's first three
    numbers are; the noise does nothing."""

    def __init__(self, codes):
        self.codes = codes

    def encode(self, texts):
        return self.codes

    def edit(self, image, embedding, noise):
        left = tf.cast(tf.range(64) < 40, tf.float32)[None, None, :, None]
        return image * (1 - left) + embedding[:, None, None, :] * left


def editor_of(codes):
    return types.SimpleNamespace(
        config=types.SimpleNamespace(image_size=64),
        method=Painter(codes),
        draw_noise=lambda count, seed: np.zeros([count, 1], np.float32),
    )


def test_protocol_on_a_method_that_paints_by_rule():
    """The object, 32 of 64 columns from 16 on, is painted in 24 of its 32 columns: its median is the colour asked for.
    Of the 2,940 background pixels 16 whole columns less the 34 beside the outline, and the 24 columns 16 to 39 above
    and below it (30 rows), are painted: 990 + 720 = 1,710."""
    _, mask = scene()
    words = colours.FLOWERS
    codes = np.array([picture_of(colour) for colour in words.colours])
    editor = editor_of(codes)
    outline = tf.io.encode_png(np.where(mask[0], 255, 0).astype(np.uint8)[..., None]).numpy()
    split = split_of([outline, outline])
    none = types.SimpleNamespace(masks=lambda images: np.zeros(images.shape[:3], bool))
    found = objects.measure(editor, split, "flowers", seed=0, outliner=none)
    assert (found["pictures"], found["with_own_outline"], found["kept_empty"]) == (2, 2, 0)
    assert found["agreement"] == found["agreement_mean"] == found["agreement_new"] == 1.0
    chromatic = {c: of["spill_mean"] for c, of in found["by_colour"].items()}
    assert chromatic.pop("white") == 0.0  # white and grey have nearly the same a and b
    assert chromatic == {c: pytest.approx(1710 / 2940) for c in chromatic}
    assert found["spill"] == pytest.approx(5 / 6 * 1710 / 2940)
    assert found["beside"] == pytest.approx(1710 / (40 * 64))
    assert found["reader"] == 0.0  # the captions call it red, and it is grey
    assert found["outline_share"] == pytest.approx(0.25)
    assert found["background_kept"] == 0.0  # 1,710 of 2,940 is above a tenth
    white = objects.measure(editor, split, "flowers", seed=0, outliner=none, white=True)
    assert white["spill"] == pytest.approx(found["spill"], abs=0.01) and white["agreement"] == 1.0


def test_on_white():
    """Four pixels outside it is white, four inside the picture's own grey; the border of a half lies half way."""
    source, mask = scene()
    found = objects.on_white(source, mask)[0]
    np.testing.assert_allclose(found[:12], 1, atol=1e-3)
    np.testing.assert_allclose(found[20:44, 20:44], np.tile(GREY, [24, 24, 1]), atol=1e-3)
    assert found[15:17, 32, 0].mean() == pytest.approx((1 + GREY[0]) / 2, abs=1e-3)


def test_a_picture_without_an_outline_is_left_out_and_counted():
    """Half of the first picture is found, nothing of the second."""

    def masks(images):
        found = np.zeros(images.shape[:3], bool)
        found[0, : images.shape[1] // 2] = True
        return found

    split, outliner = split_of([b"", b""]), types.SimpleNamespace(masks=masks)
    find = objects.outline_finder(split, 64, outliner)
    assert find(np.arange(2)).mean(axis=(1, 2)).tolist() == [0.5, 0.0]
    codes = np.array([picture_of(colour) for colour in colours.FLOWERS.colours])
    found = objects.measure(editor_of(codes), split, "flowers", seed=0, outliner=outliner)
    assert (found["pictures"], found["with_own_outline"], found["kept_empty"]) == (1, 0, 1)
    assert found["outline_share"] == pytest.approx(0.5) and "reader" not in found  # of the first none says a colour
