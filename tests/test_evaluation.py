"""Metrics against hand sums, and the reader of colours on drawn flowers."""

import numpy as np
import pytest

from data import painter
from simgan_tf.evaluation import metrics


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
