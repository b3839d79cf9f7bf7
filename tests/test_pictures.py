"""Sheets and files of pictures."""


import numpy as np
import pytest
from PIL import Image

from simgan_tf.system import pictures
from tests.tiny import full_disk


def test_to_pixels_rounds_and_clips():
    """(-1, 0, 1) are 0, 127.5 (to even: 128) and 255; what lies outside is cut."""
    np.testing.assert_array_equal(pictures.to_pixels(np.array([-1.0, 0.0, 1.0, -2.0, 3.0])), [0, 128, 255, 0, 255])


def test_sheet_shows_every_picture_in_its_column():
    rows = [[np.full([96, 96, 3], value) for value in (-1.0, 1.0)], [np.zeros([96, 96, 3]), np.ones([96, 96, 3])]]
    page = pictures.sheet(rows, ["black", "a very long title that must be wrapped into several lines"])
    pixels = np.asarray(page)
    top = pixels.shape[0] - 2 * 100
    assert pixels.shape[1] == 2 * 100
    assert (pixels[top + 48, 50] == 0).all() and (pixels[top + 48, 150] == 255).all()
    assert (pixels[top + 148, 50] == 128).all()
    assert (pixels[:top] < 128).any(), "titles are written"


def test_save_image_is_whole_or_absent(tmp_path):
    path = tmp_path / "deep" / "x.png"
    pictures.save_image(Image.new("RGB", (4, 4)), str(path))
    assert [p.name for p in path.parent.iterdir()] == ["x.png"]
    with pytest.raises(ValueError, match=r"must end in \.png, \.jpg or \.jpeg"):
        pictures.save_image(Image.new("RGB", (4, 4)), str(tmp_path / "x.gif"))


def test_a_full_disk_leaves_the_old_picture_and_nothing_else(tmp_path):
    """Files may not grow past 4 KB: noise of 64x64 pixels does not fit."""
    path = tmp_path / "x.png"
    Image.new("RGB", (4, 4)).save(path)
    before = path.read_bytes()
    noise = np.random.default_rng(0).integers(0, 256, [64, 64, 3], np.uint8)
    with full_disk(4096), pytest.raises(OSError, match="File too large"):
        pictures.save_image(Image.fromarray(noise), str(path))
    assert [p.name for p in tmp_path.iterdir()] == ["x.png"] and path.read_bytes() == before
