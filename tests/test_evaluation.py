"""Metrics against hand sums, and the reader of colours on drawn flowers."""

import itertools

import numpy as np
import pytest
import tensorflow as tf
from scipy import ndimage

from data import painter
from data.splits import Split
from simgan_tf.evaluation import metrics
from simgan_tf.evaluation.measure import measure
from simgan_tf.evaluation.protocol import Pairs


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


def test_l2_is_the_root_of_the_mean_square():
    """One of 12 values differs by 1 of [-1, 1]: the root of 0.25 / 12; equal pictures 0; either order."""
    first, second = np.zeros([2, 2, 2, 3]), np.zeros([2, 2, 2, 3])
    second[0, 1, 0, 2] = 1.0
    np.testing.assert_allclose(metrics.l2(first, second), [np.sqrt(0.25 / 12), 0.0])
    np.testing.assert_array_equal(metrics.l2(second, first), metrics.l2(first, second))


def ssim_by_windows(first, second):
    """Wang et al.'s formula, window by window, of pictures [H, W, C] in [0, 1]."""
    line = np.exp(-(np.arange(-5, 6) ** 2) / (2 * 1.5**2))
    window = np.outer(line, line) / line.sum() ** 2
    found = []
    for channel, y, x in itertools.product(range(3), range(first.shape[0] - 10), range(first.shape[1] - 10)):
        a, b = (picture[y : y + 11, x : x + 11, channel] for picture in (first, second))
        ma, mb = (window * a).sum(), (window * b).sum()
        va, vb = (window * (a - ma) ** 2).sum(), (window * (b - mb) ** 2).sum()
        both = (window * (a - ma) * (b - mb)).sum()
        found.append((2 * ma * mb + 1e-4) * (2 * both + 9e-4) / ((ma**2 + mb**2 + 1e-4) * (va + vb + 9e-4)))
    return np.mean(found)


def test_ssim_against_the_formula():
    """1 of equal pictures; noise by the formula; two tones a, b have (2ab + c) / (a^2 + b^2 + c); 8x8 is refused."""
    random = np.random.default_rng(0)
    first, second = random.uniform(-1, 1, [2, 1, 13, 12, 3])
    wanted = ssim_by_windows((first[0] + 1) / 2, (second[0] + 1) / 2)
    np.testing.assert_allclose(metrics.ssim(first, second), [wanted], rtol=1e-6)
    np.testing.assert_allclose(metrics.ssim(first, first), [1.0])
    tones = [np.full([1, 11, 11, 3], value * 2 - 1.0) for value in (0.2, 0.6)]
    np.testing.assert_allclose(metrics.ssim(*tones), [(2 * 0.12 + 1e-4) / (0.04 + 0.36 + 1e-4)])
    with pytest.raises(ValueError, match="8x8 pixels"):
        metrics.ssim(first[:, :8, :8], second[:, :8, :8])


def test_diversity_by_ssim_is_the_mean_over_pairs():
    """Tones 0.2, 0.2, 0.6: one pair alike, two as above. One sample has no pair."""
    tones = np.stack([np.full([1, 11, 11, 3], value * 2 - 1.0) for value in (0.2, 0.2, 0.6)])
    apart = (2 * 0.12 + 1e-4) / (0.04 + 0.36 + 1e-4)
    np.testing.assert_allclose(metrics.diversity_ssim(tones), [(1 + 2 * apart) / 3])
    np.testing.assert_allclose(metrics.diversity_ssim(tones[::-1]), metrics.diversity_ssim(tones))
    for few in (metrics.diversity_ssim, lambda samples: metrics.diversity(samples, np.ones([1, 11, 11], bool))):
        with pytest.raises(ValueError, match="1 sample"):
            few(tones[:1])


def test_smoothness_is_the_largest_step_over_the_mean():
    """Tones 0, 1, 2, 6 (times 0.1): steps 1, 1, 4, mean 2: 2. Even steps, and none, 1; one jump 3; two are refused."""
    tones = np.array([[0, 1, 2, 6], [0, 2, 4, 6], [5, 5, 5, 5], [0, 0, 0, 3]]) * 0.1
    frames = np.broadcast_to(tones.T[:, :, None, None, None], [4, 4, 8, 8, 3])
    np.testing.assert_allclose(metrics.smoothness(frames), [2, 1, 1, 3])
    np.testing.assert_allclose(metrics.smoothness(frames[::-1]), [2, 1, 1, 3])
    with pytest.raises(ValueError, match="3 or more"):
        metrics.smoothness(frames[:2])


def test_manipulative_precision_by_hand():
    """A cosine of 0.6 at a difference of a quarter: 0.45; nothing changed: the cosine; all changed: none."""
    np.testing.assert_allclose(metrics.cosine(np.array([[2.0, 0]]), np.array([[0.6, 0.8]])), [0.6])
    assert metrics.cosine(np.zeros(3), np.ones(3)) == 0.0
    near = np.full(3, 0.6)
    np.testing.assert_allclose(metrics.manipulative_precision(np.array([0.25, 0, 1]), near), [0.45, 0.6, 0])


def test_r_precision_against_sorting():
    """1 where the own sentence is first of 100 by a sort; the order of the wrong ones is nothing; k alike count 1 / k;
    one in 50 is refused."""
    random = np.random.default_rng(0)
    sentences, others = random.normal(size=(40, 5)), random.normal(size=(40, 99, 5))
    pictures = sentences + 1.2 * random.normal(size=(40, 5))
    every = np.concatenate([sentences[:, None], others], axis=1)
    near = np.einsum("nd,nkd->nk", pictures, every) / np.linalg.norm(every, axis=2)
    wanted = (np.argsort(-near, axis=1)[:, 0] == 0).astype(float)
    found = metrics.r_precision(pictures, sentences, others)
    np.testing.assert_array_equal(found, wanted)
    assert 0.2 < wanted.mean() < 0.8
    np.testing.assert_array_equal(metrics.r_precision(pictures, sentences, others[:, ::-1]), wanted)
    np.testing.assert_array_equal(metrics.r_precision(sentences, sentences, others), np.ones(40))
    others[:, :3] = sentences[:, None]
    np.testing.assert_allclose(metrics.r_precision(sentences, sentences, others), np.full(40, 0.25))
    with pytest.raises(ValueError, match="49 wrong sentences"):
        metrics.r_precision(pictures, sentences, others[:, :49])


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
    pairs = Pairs(split, [captions[i][0] for i in (1, 2, 3, 0)], np.array([names[i] for i in (1, 2, 3, 0)]))
    found, values = measure(Painter(), images, masks, pairs, samples=3, seed=0)
    for name, column in values.items():
        assert column.shape == (4,) and found[name] == pytest.approx(np.nanmean(column)), name
    assert found["colour_accuracy"] == found["colour_accuracy_mean"] == found["colour_reader"] == 1.0
    assert found["background_l1"] == pytest.approx(0.05, rel=1e-5)
    assert found["background_l1_mean"] == pytest.approx(0.05, rel=1e-5)
    assert found["diversity"] == pytest.approx(0.04 / 3, rel=1e-4)
    assert found["cycle_l1"] == pytest.approx(0.05, rel=1e-5)
    assert found["reconstruction_l1"] == pytest.approx(0.025, rel=1e-5)
    assert found["colour_chance"] < 1.0
    without, values = measure(Painter(), images, None, pairs, samples=3, seed=0)
    assert without.keys() == values.keys() == {
        "change_l1", "diversity", "cycle_l1", "reconstruction_l1", "reconstruction_l2", "smoothness", "checkerboard",
        "sharpness",
    }  # fmt: skip
