"""Photographs as they come and go back: orientation, profile, quality, transparency, against Pillow's own reading."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms

from data import photo


def gradient(width: int, height: int) -> np.ndarray:
    x, y = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
    return np.stack([x, y, 255 - x], axis=-1).astype(np.uint8)


def saved(path, picture: Image.Image, **options) -> str:
    picture.save(path, **options)
    return str(path)


@pytest.mark.parametrize("turn", range(1, 9))
def test_orientation_is_undone_once(tmp_path, turn):
    """Of all eight values; what comes back is upright and says so no more."""
    exif = Image.Exif()
    exif[0x0112] = turn
    source = photo.read(saved(tmp_path / "a.png", Image.fromarray(gradient(30, 20)), exif=exif))
    assert source.pixels.shape == ((20, 30, 3) if turn < 5 else (30, 20, 3))
    written = Image.open(io.BytesIO(photo.encode(source, source.pixels, ".png")))
    assert written.getexif().get(0x0112, 1) == 1
    np.testing.assert_array_equal(np.asarray(written), source.pixels)


@pytest.mark.parametrize("quality", [40, 75, 95])
def test_a_jpeg_goes_back_as_coarse_as_it_came(tmp_path, quality):
    """The same tables, sampling and profile."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    path = saved(tmp_path / "a.jpg", Image.fromarray(gradient(64, 48)), quality=quality, icc_profile=profile)
    source = photo.read(path)
    with Image.open(path) as before, Image.open(io.BytesIO(photo.encode(source, source.pixels, ".jpg"))) as after:
        assert after.quantization == before.quantization
        assert after.info["icc_profile"] == before.info["icc_profile"] == profile
        assert after.layer == before.layer  # sampling of each channel


def test_transparency_comes_back_where_the_file_can_hold_it():
    """c a / 255 + 255 (1 - a / 255) by hand: 100 at 51 of 255 is 20 + 204 = 224; white in a JPEG."""
    rgba = np.full([16, 16, 4], 100, np.uint8)
    rgba[..., 3] = 51
    source = photo.read(Image.fromarray(rgba))
    assert (source.pixels == 100).all() and (source.seen == 224).all()
    changed = np.full([16, 16, 3], 200, np.uint8)
    with Image.open(io.BytesIO(photo.encode(source, changed, ".png"))) as png:
        assert png.mode == "RGBA" and (np.asarray(png)[..., :3] == 200).all() and (np.asarray(png)[..., 3] == 51).all()
    with Image.open(io.BytesIO(photo.encode(source, changed, ".jpg"))) as jpeg:
        assert jpeg.mode == "RGB" and np.abs(np.asarray(jpeg).astype(int) - (40 + 204)).max() <= 1


def test_colours_beneath_transparency_look_as_the_edit():
    """On white by hand: a p + (1 - a) 255. What shows nothing keeps its colour, what is opaque is the edit."""
    draw = np.random.default_rng(0)
    pixels, alpha = draw.integers(60, 190, [300, 7, 3], np.uint8), draw.integers(0, 256, [300, 7], np.uint8)
    alpha[:2] = [[0], [255]]
    source = photo.Photo(pixels, alpha)
    made = np.clip(source.seen + draw.integers(-9, 10, [300, 7, 3]), 0, 255).astype(np.uint8)
    found = photo.beneath(source, made)
    a = alpha[..., None] / 255
    clear = (alpha >= 80)[..., None] & np.ones(3, bool)  # below it a pixel may have to be darker than black
    assert np.abs(a * found + (1 - a) * 255 - made)[clear].max() <= 1
    np.testing.assert_array_equal(found[0], pixels[0])
    np.testing.assert_array_equal(found[1], made[1])
    assert photo.beneath(photo.Photo(pixels), made) is made


def test_a_png_of_missing_rows_is_not_edited(tmp_path):
    rows = zlib.compress(bytes(1 + 3 * 30) * 10)
    parts = [(b"IHDR", struct.pack(">IIBBBBB", 30, 40, 8, 2, 0, 0, 0)), (b"IDAT", rows), (b"IEND", b"")]
    png = b"".join(
        struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        for kind, content in parts
    )
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + png)
    with pytest.raises(ValueError, match="a.png is not a readable picture .a part of its pixels"):
        photo.read(tmp_path / "a.png")


def test_an_opaque_alpha_is_none():
    source = photo.read(Image.fromarray(np.full([9, 9, 4], 255, np.uint8)))
    assert source.alpha is None and source.pixels.shape == (9, 9, 3)


@pytest.mark.parametrize("mode", ["L", "CMYK", "P", "I;16", "LA"])
def test_other_modes_become_rgb(tmp_path, mode):
    """Grey 128 of any depth; a CMYK profile does not stay with RGB pixels."""
    if mode == "I;16":
        picture = Image.fromarray(np.full([12, 10], 128 << 8, np.uint16))
    else:
        picture = Image.new("RGB", (10, 12), (128, 128, 128)).convert(mode, palette=Image.Palette.ADAPTIVE)
    options = {"icc_profile": b"not RGB"} if mode == "CMYK" else {}
    path = saved(tmp_path / ("a.jpg" if mode == "CMYK" else "a.png"), picture, **options)
    source = photo.read(path)
    assert source.pixels.shape == (12, 10, 3) and np.abs(source.pixels.astype(int) - 128).max() <= 1
    assert source.icc_profile is None


def test_what_is_no_photograph_is_refused_in_one_line(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"nothing")
    for source, said in (
        (str(tmp_path / "a.jpg"), "a.jpg is not a readable picture"),
        (Image.new("RGB", (4, 90)), "the picture is 4x90; both sides need 8"),
        (np.zeros([9, 9], np.uint8), r"pixels are uint8 \[9, 9\]; accepted are uint8 \[H, W, 3\]"),
        (np.zeros([9, 9, 3]), r"pixels are float64 \[9, 9, 3\]"),
        (np.zeros([9, 900, 3], np.uint8), "the picture is 900x9; the longer side may be 40 times"),
    ):
        with pytest.raises(ValueError, match=said):
            photo.read(source)
    with pytest.raises(FileNotFoundError):
        photo.read(str(tmp_path / "none.jpg"))
