"""The paper's figures: what each cell shows, labels at print size, the same picture each time."""

import json

import numpy as np
import pytest

from simgan_tf.evaluation import figures
from simgan_tf.system.pictures import to_pixels

RED, BLUE = "this flower has red petals", "the petals are blue"


def cells(sheet, rows):
    """Cells [row][column] of 256 pixels, and the strip of titles above them."""
    pixels = np.asarray(sheet)
    top = pixels.shape[0] - rows * 260
    count = pixels.shape[1] // 260
    found = [[pixels[top + r * 260 :][:256, c * 260 + 2 :][:, :256] for c in range(count)] for r in range(rows)]
    return found, [pixels[:top, c * 260 : c * 260 + 260] for c in range(count)]


def enlarged(picture):
    return to_pixels(picture).repeat(16, 0).repeat(16, 1)


def tallest_letters(title):
    """Rows of the first line of a title that have ink."""
    ink = (title < 128).any(axis=(1, 2))
    first = int(np.argmax(ink))
    return int(np.argmin(ink[first:]))


def test_samples_and_interpolation(untrained):
    """Fig. 1: source, the mean edit, samples; Fig. 4: from one sentence's edit to the other's, both ends marked."""
    images = np.random.default_rng(0).uniform(-1, 1, [2, 16, 16, 3]).astype(np.float32)
    sheet = figures.samples(untrained, images, RED, 3, seed=5)
    (first, _), titles = cells(sheet, 2)
    wanted = [images[0], *untrained.edit(images[0], RED, 3, 5)]
    assert len(first) == 4
    for cell, picture in zip(first, wanted, strict=True):
        np.testing.assert_array_equal(cell, enlarged(picture))
    assert not np.array_equal(first[2], first[3])
    assert all(tallest_letters(title) >= 12 for title in titles)  # small letters; of 300 to the inch 1 mm
    np.testing.assert_array_equal(np.asarray(figures.samples(untrained, images, RED, 3, seed=5)), np.asarray(sheet))

    way = figures.interpolation(untrained, images, RED, BLUE, 4)
    (_, second), titles = cells(way, 2)
    np.testing.assert_array_equal(second[1], enlarged(untrained.edit(images[1], RED)[0]))
    np.testing.assert_array_equal(second[-1], enlarged(untrained.edit(images[1], BLUE)[0]))
    ink = [(title < 128).sum() for title in titles]
    assert min(ink[1], ink[-1]) > 2 * max(ink[0], *ink[2:-1]), "the ends have their sentences, the rest shares"
    again = figures.interpolation(untrained, images, RED, BLUE, 4)
    np.testing.assert_array_equal(np.asarray(again), np.asarray(way))


def test_curves_are_the_same_each_time(tmp_path):
    """A page's width at 250 dots to the inch."""
    rows = [{"step": i, "d_real": 1 / i, "g_cycle": 2 / i, "g_loss": 2 / i} for i in range(1, 30)]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    first = figures.curves(str(tmp_path))
    assert first.size == (1750, 575)
    np.testing.assert_array_equal(np.asarray(first), np.asarray(figures.curves(str(tmp_path))))


def test_curves_of_strangers_rows(tmp_path):
    """One kind of terms alone, sums beyond the largest float; and what is no number, or no term, named."""
    log = tmp_path / "metrics.jsonl"
    log.write_text("".join(f'{{"step": {i}, "g_cycle": {i}, "g_kl": 1e308}}\n' for i in range(1, 30)))
    assert figures.curves(str(tmp_path)).size == (1750, 575)
    for row, message in (
        ('{"step": 1, "g_cycle": ' + "9" * 400 + "}", "line 1 is no row of numbers"),
        ('{"step": 1, "loss": 2}', "logs no term that begins with d_, g_"),
    ):
        log.write_text(row + "\n")
        with pytest.raises(ValueError, match=f"metrics.jsonl.*{message}"):
            figures.curves(str(tmp_path))
