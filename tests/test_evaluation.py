"""Metrics against hand sums, and the reader of colours on drawn flowers."""

import numpy as np
import pytest
import tensorflow as tf
from scipy import ndimage

from data import painter
from data.pipeline import Split
from simgan_tf.evaluation import metrics
from simgan_tf.evaluation.__main__ import measure


def test_dominant_colour_is_the_vote_of_the_pixels():
    """Two dark reds and one white: red, whatever the light."""
    palette = {"red": (208, 22, 34), "white": (250, 250, 248)}
    pixels = np.array([[0.4, 0.04, 0.06], [0.8, 0.1, 0.1], [1.0, 1.0, 1.0]], np.float32)
    assert metrics.dominant_colour(pixels, palette) == "red"
    assert metrics.dominant_colour(pixels[2:], palette) == "white"


@pytest.mark.parametrize("name", painter.COLOURS)
def test_the_reader_reads_drawn_flowers(name):
    flower = painter.Flower(name, "round", 6, "brown", False)
    for index in range(3):
        pixels, mask = painter.draw(flower, index)
        assert metrics.dominant_colour(pixels[mask] / 255, painter.COLOURS) == name


def test_l1_is_in_unit_range():
    """Black to white is 1; one of 12 values from -1 to 0 is 0.5 / 12."""
    black = -np.ones([1, 2, 2, 3])
    np.testing.assert_allclose(metrics.l1(black, -black), [1.0])
    other = black.copy()
    other[0, 1, 1, 0] = 0.0
    np.testing.assert_allclose(metrics.l1(black, other), [0.5 / 12])


def test_l1_where_looks_at_the_named_pixels_alone():
    """Two pixels differ by 2 and 1 in all channels: outside the second alone is 1.0 and inside 0.5 in [0, 1] units."""
    first, second = np.zeros([1, 1, 2, 3]), np.zeros([1, 1, 2, 3])
    second[0, 0, 0], second[0, 0, 1] = 2.0, 1.0
    where = np.array([[[False, True]]])
    np.testing.assert_allclose(metrics.l1_where(first, second, where), [0.5])
    np.testing.assert_allclose(metrics.l1_where(first, second, ~where), [1.0])
    assert np.isnan(metrics.l1_where(first, second, np.zeros([1, 1, 2], bool)))[0]


def test_diversity_is_the_mean_over_pairs():
    """Samples 0, 1 and 2 of one value: pairs differ by 1, 2, 1, the mean 4/3, 2/3 in [0, 1] units."""
    samples = np.stack([np.full([1, 2, 2, 3], float(value)) for value in range(3)])
    np.testing.assert_allclose(metrics.diversity(samples, np.ones([1, 2, 2], bool)), [2 / 3])
    np.testing.assert_allclose(metrics.diversity(samples[:1].repeat(2, axis=0), np.ones([1, 2, 2], bool)), [0.0])


def test_checkerboard_share_is_one_of_a_checkerboard_and_none_of_a_wave():
    """All energy of a board of single pixels is at (S/2, S/2), of stripes two wide at S/4; a wave over the picture has
    its own frequency alone, a grey picture none; half a board's tone over a wave of that energy is a half."""
    y, x = np.mgrid[:16, :16]
    board, stripes = 0.5 * (-1.0) ** (x + y), np.where(x % 4 < 2, 0.5, -0.5)
    wave = np.sqrt(0.5) * np.cos(2 * np.pi * (x + y) / 16)  # mean square 0.25 as the board's
    pictures = np.stack([board, stripes, wave, np.full([16, 16], 0.3), board + wave])[..., None].repeat(3, axis=-1)
    np.testing.assert_allclose(metrics.checkerboard_share(pictures), [1, 1, 0, 0, 0.5], atol=1e-9)


def test_checkerboard_share_against_plain_sums():
    """A discrete Fourier transform written out, on noise."""
    picture = np.random.default_rng(0).uniform(-1, 1, [8, 8, 3])
    tone = (picture + 1) / 2 @ [0.299, 0.587, 0.114]
    waves = np.exp(-2j * np.pi * np.outer(np.arange(8), np.arange(8)) / 8)
    energy = np.abs(waves @ (tone - tone.mean()) @ waves.T) ** 2
    wanted = sum(energy[i, j] for i in range(8) for j in range(8) if i in (2, 4, 6) or j in (2, 4, 6))
    np.testing.assert_allclose(metrics.checkerboard_share(picture[None]), [wanted / energy.sum()])


def test_laplacian_variance():
    """A ramp has none; on a board of 0 and 1 the Laplacian is 4 and -4: variance 16; noise as scipy gives it."""
    y, x = np.mgrid[:6, :6]
    pictures = np.stack([x / 5 * 2 - 1, (-1.0) ** (x + y)])[..., None].repeat(3, axis=-1)
    np.testing.assert_allclose(metrics.laplacian_variance(pictures), [0, 16], atol=1e-9)
    noise = np.random.default_rng(0).uniform(-1, 1, [1, 9, 7, 3])
    tone = (noise[0] + 1) / 2 @ [0.299, 0.587, 0.114]
    np.testing.assert_allclose(metrics.laplacian_variance(noise), [ndimage.laplace(tone)[1:-1, 1:-1].var()])


class Painter:
    """A method that paints by rule: a sentence is its colour's number; the flower's half gets that colour plus 0.02 x
    noise, the other half becomes 0.1 lighter. Its text encoder gives the number of the first colour in a sentence."""

    def __init__(self):
        self.method = self.text_encoder = self

    def encode(self, texts):
        names = list(painter.COLOURS)
        return np.array(
            [[next(names.index(word) for word in text.split() if word in names)] for text in texts], np.float32
        )

    def draw_noise(self, count, seed):
        return tf.fill([count, 1], float(seed[1]))

    def edit(self, image, embedding, noise):
        palette = tf.constant(list(painter.COLOURS.values()), tf.float32) / 127.5 - 1.0
        colour = tf.gather(palette, tf.cast(embedding[:, 0], tf.int32)) + 0.02 * noise  # [B, 3]
        flower = tf.zeros_like(image[:, :, :2]) + colour[:, None, None, :]
        return tf.concat([flower, image[:, :, 2:] + 0.1], axis=2)


def test_measure_by_hand():
    """Four 4x4 pictures, left half the flower. Every edit has the asked colour, and none judged by another's sentence
    unless they agree; outside, 0.1 of [-1, 1] is 0.05; samples differ by 0.02 and 0.04 (pairs 0.02, 0.04, 0.02), in
    [0, 1] units 0.04 / 3; the way back paints the own colour again and lightens once more, on half of it. The edit by
    the own caption paints what is there and lightens half of it by 0.05."""
    names = ["red", "yellow", "blue", "white"]
    images = np.zeros([4, 4, 4, 3], np.float32)
    for image, name in zip(images, names, strict=True):
        image[:, :2] = np.array(painter.COLOURS[name]) / 127.5 - 1
    masks = np.zeros([4, 4, 4], bool)
    masks[:, :, :2] = True
    captions = [(f"this flower has {name} petals",) for name in names]
    split = Split(names, tf.constant([""] * 4), [b"x"] * 4, names, np.arange(4), captions, None)
    found = measure(Painter(), images, masks, split, samples=3, seed=0)
    assert found["colour_accuracy"] == found["colour_accuracy_mean"] == found["colour_reader"] == 1.0
    assert found["background_l1"] == pytest.approx(0.05, rel=1e-5)
    assert found["background_l1_mean"] == pytest.approx(0.05, rel=1e-5)
    assert found["diversity"] == pytest.approx(0.04 / 3, rel=1e-4)
    assert found["cycle_l1"] == pytest.approx(0.05, rel=1e-5)
    assert found["reconstruction_l1"] == pytest.approx(0.025, rel=1e-5)
    assert found["colour_chance"] < 1.0
    without = measure(Painter(), images, None, split, samples=3, seed=0)
    assert without.keys() == {
        "change_l1", "diversity", "cycle_l1", "reconstruction_l1", "checkerboard", "sharpness"
    }  # fmt: skip
