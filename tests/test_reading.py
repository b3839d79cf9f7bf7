"""Tests of export/serving/reading.py: pictures of every kind against Pillow, and every refusal with its row."""

import io
import struct
import time
import zlib

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from data import geometry, pipeline
from export.serving import Bounds, profiles, reading
from simgan_tf import carry
from simgan_tf.edit import Editor, small_picture

SIZE, LOAD = 16, 20
WEBP = pytest.mark.skipif(not reading.WEBP, reason="TensorFlow 2.15 reads no WebP")


@pytest.fixture(scope="module")
def read():
    """The central squares of encoded pictures, as one graph."""
    specs, square = [tf.TensorSpec([None], tf.string)], tf.TensorSpec([SIZE, SIZE, 3], tf.float32)

    def crops(encoded):
        return reading.each(encoded, lambda pixels: pipeline.centre_crop(pixels, SIZE, LOAD), square)

    return tf.function(crops, input_signature=specs, autograph=False)


def picture(width: int = 40, height: int = 28, mode: str = "RGB") -> Image.Image:
    """Smooth, and different in every corner."""
    y, x = np.mgrid[0:height, 0:width]
    bands = [x * 255 // width, y * 255 // height, (x + y) * 255 // (width + height), 255 - x * 200 // width]
    pixels = np.stack(bands, axis=-1).astype(np.uint8)
    return Image.fromarray(pixels if mode == "RGBA" else pixels[..., :3]).convert(mode)


def saved(image: Image.Image, form: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def expected(image: Image.Image) -> np.ndarray:
    return pipeline.centre_crop(tf.constant(np.asarray(image.convert("RGB"))), SIZE, LOAD).numpy()


def message(read, *encoded: bytes) -> str:
    with pytest.raises(tf.errors.InvalidArgumentError) as caught:
        read(tf.constant(encoded))
    return str(caught.value)


@pytest.mark.parametrize("form, options, mode", [
    ("PNG", {}, "RGB"), ("PNG", {}, "L"), ("PNG", {}, "P"), ("PNG", {}, "RGBA"), ("PNG", {}, "LA"),
    *[pytest.param("WEBP", {"lossless": True, "exact": True}, mode, marks=WEBP) for mode in ("RGB", "RGBA")],
])  # fmt: skip
def test_as_the_editor_reads_it(read, tmp_path, form, options, mode):
    """Lossless files: the same values as Editor.read gives, transparent parts on white."""
    path = tmp_path / "picture"
    path.write_bytes(saved(picture(mode=mode), form, **options))

    class Sizes:
        config = type("Config", (), {"image_size": SIZE, "load_size": LOAD})

    wanted = Editor.read(Sizes, str(path))
    np.testing.assert_allclose(read(tf.constant([path.read_bytes()]))[0], wanted, atol=1e-6)


@WEBP
def test_mixed_batch(read):
    """Any sizes and kinds in one batch, each row as if alone; lossy files to a few pixel values."""
    images = [picture(), picture(28, 90), picture(16, 16), picture(200, 100)]
    encoded = [saved(images[0], "PNG"), saved(images[1], "JPEG", quality=95, subsampling=0),
               saved(images[2], "WEBP", lossless=True), saved(images[3], "WEBP", quality=95)]  # fmt: skip
    made = read(tf.constant(encoded)).numpy()
    for row, image, levels in zip(made, images, (0.01, 8, 0.01, 8), strict=True):
        np.testing.assert_allclose(row, expected(image), atol=levels * 2 / 255)
    for i, data in enumerate(encoded):
        np.testing.assert_array_equal(read(tf.constant([data]))[0], made[i])


@pytest.mark.parametrize("order, orientation", [*(("II", value) for value in range(10)), ("MM", 1), ("MM", 6)])
def test_exif_rotation(read, order, orientation):
    """Each of the eight ways a camera may be held; 0 and 9 are no values of the tag."""
    data = saved(picture(), "JPEG", quality=95, subsampling=0)
    sign = "<" if order == "II" else ">"
    entries = struct.pack(f"{sign}HHII", 0x010F, 2, 1, 0) + struct.pack(f"{sign}HHIHH", 0x0112, 3, 1, orientation, 0)
    tiff = order.encode() + struct.pack(f"{sign}HIH", 42, 8, 2) + entries + bytes(4)
    segment = b"Exif\0\0" + tiff
    # Behind the JFIF segment, where it stands in files that went through a program, not a camera.
    place = 2 + 2 + struct.unpack(">H", data[4:6])[0]
    tagged = data[:place] + b"\xff\xe1" + struct.pack(">H", len(segment) + 2) + segment + data[place:]
    turns = {2: "FLIP_LEFT_RIGHT", 3: "ROTATE_180", 4: "FLIP_TOP_BOTTOM", 5: "TRANSPOSE", 6: "ROTATE_270",
             7: "TRANSVERSE", 8: "ROTATE_90"}  # fmt: skip
    upright = picture()
    if orientation in turns:
        upright = upright.transpose(Image.Transpose[turns[orientation]])
        assert Image.open(io.BytesIO(tagged)).getexif()[0x0112] == orientation
    np.testing.assert_allclose(read(tf.constant([tagged]))[0], expected(upright), atol=8 * 2 / 255)


def test_damaged_exif_is_ignored(read):
    """Cut off anywhere, or pointing anywhere: the picture is read as it lies."""
    data = saved(picture(), "JPEG", quality=95, subsampling=0)
    plain = read(tf.constant([data]))
    tiffs = [b"", b"II", b"II*\0\xff\xff\xff\xff", b"MM\0*\xff\xff\xff\xff" + bytes(8), b"II*\0\x08\0\0\0\xff\xff"]
    for tiff in tiffs:
        segment = b"Exif\0\0" + tiff
        tagged = data[:2] + b"\xff\xe1" + struct.pack(">H", len(segment) + 2) + segment + data[2:]
        np.testing.assert_array_equal(read(tf.constant([tagged])), plain)


def png_header(width: int, height: int) -> bytes:
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sIIBBBBB", 13, b"IHDR", width, height, 8, 2, 0, 0, 0) + bytes(40)


def jpeg_header(width: int, height: int) -> bytes:
    """The frame header of a small JPEG with other sizes written into it."""
    data = saved(picture(), "JPEG")
    place = data.index(b"\xff\xc0") + 5
    return data[:place] + struct.pack(">HH", height, width) + data[place + 4 :]


def webp_header(width: int, height: int, chunk: bytes) -> bytes:
    if chunk == b"VP8X":
        body = bytes(4) + (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    elif chunk == b"VP8L":
        body = b"\x2f" + ((width - 1) | (height - 1) << 14).to_bytes(4, "little")
    else:
        body = b"\x30\x01\x00\x9d\x01\x2a" + struct.pack("<HH", width, height)
    return b"RIFF\x40\0\0\0WEBP" + chunk + struct.pack("<I", len(body)) + body + bytes(40)


@pytest.mark.parametrize("header", [
    png_header, jpeg_header, lambda *size: webp_header(*size, b"VP8 "), lambda *size: webp_header(*size, b"VP8L"),
    lambda *size: webp_header(*size, b"VP8X"),
], ids=["png", "jpeg", "vp8", "vp8l", "vp8x"])  # fmt: skip
def test_too_many_pixels_by_the_header_alone(read, header):
    """One row of pixels more than are taken of a JPEG, 2^24, and of others, 2^23."""
    good, height = saved(picture(), "PNG"), 4096 if header is jpeg_header else 2048
    most = "16,777,216" if header is jpeg_header else "8,388,608"
    words, data = f"row 1: image_bytes is 4096x{height + 1}, over {most} pixels", header(4096, height + 1)
    if data.startswith(b"RIFF") and not reading.WEBP:
        words = "row 1: image_bytes is a WebP, which TensorFlow 2.15 cannot read; send a JPEG or PNG"
    assert words in message(read, good, data)


def test_an_export_may_take_larger_pictures():
    """Of a JPEG 1,200 pixels, of others 600, and three times the one side: one row of pixels more is refused."""
    specs, square = [tf.TensorSpec([None], tf.string)], tf.TensorSpec([SIZE, SIZE, 3], tf.float32)
    bounds = Bounds(pixels=1200, aspect=3)

    def crops(encoded):
        return reading.each(encoded, lambda pixels: pipeline.centre_crop(pixels, SIZE, LOAD), square, bounds=bounds)

    bounded = tf.function(crops, input_signature=specs, autograph=False)
    good = [saved(picture(30, 40), "JPEG"), saved(picture(20, 30), "PNG"), saved(picture(10, 30), "PNG")]
    assert bounded(tf.constant(good)).shape == (3, SIZE, SIZE, 3)
    for form, size, words in (
        ("JPEG", (30, 41), "30x41, over 1,200 pixels"),
        ("PNG", (20, 31), "20x31, over 600 pixels"),
        ("PNG", (10, 31), "10x31; one side may be 3 times the other"),
    ):
        assert f"row 1: image_bytes is {words}" in message(bounded, good[0], saved(picture(*size), form))


def test_files_of_many_parts_take_no_time(read):
    """A JPEG of 100,000 empty segments, and a PNG of as many chunks: what stands behind them is not looked for."""
    jpeg, png = saved(picture(), "JPEG", quality=95, subsampling=0), saved(picture(), "PNG")
    chunk = struct.pack(">I", 0) + b"teXt" + struct.pack(">I", zlib.crc32(b"teXt"))
    long_jpeg, long_png = jpeg[:2] + b"\xff\xe0\0\2" * 100_000 + jpeg[2:], png[:33] + chunk * 100_000 + png[33:]
    specs = [tf.TensorSpec([], tf.string)]
    for data, many, profile in ((jpeg, long_jpeg, profiles.of_jpeg), (png, long_png, profiles.of_png)):
        found = tf.function(profile, input_signature=specs, autograph=False)
        expected_pixels, expected_profile = read(tf.constant([data])), found(data)
        begin = time.process_time()
        np.testing.assert_array_equal(read(tf.constant([many])), expected_pixels)
        assert found(many) == expected_profile
        assert time.process_time() - begin < 5


def test_largest_sizes(read):
    """A PNG of 4 billion pixels a side does not wrap around to a small one."""
    assert "8,388,608 pixels" in message(read, png_header(2**31 - 1, 2**31 - 1))
    for side in (2**31, 2**32 - 1, 0):
        assert "row 0: image_bytes has a damaged header" in message(read, png_header(side, 10))


def test_refusals_name_the_row(read):
    good, jpeg = saved(picture(), "PNG"), saved(picture(), "JPEG")
    noisy = np.random.default_rng(0).integers(0, 255, [64, 64, 3]).astype(np.uint8)
    noise = saved(Image.fromarray(noisy), "PNG")
    frames = [Image.new("RGB", (40, 28), colour) for colour in ("red", "blue")]
    animation = saved(frames[0], "WEBP", save_all=True, append_images=frames[1:])
    scans = jpeg[:-2] + b"\xff\xda\0\x0c\x03" * 200 + jpeg[-2:]
    for bad, words in (
        (b"", "is no JPEG, PNG or WebP (0 bytes)"),
        (b"hello", "is no JPEG, PNG or WebP (5 bytes)"),
        (saved(picture(), "GIF"), "is no JPEG, PNG or WebP"),
        (good[:60], "is damaged, it cannot be decoded"),
        (noise[: len(noise) // 2], "is damaged, it cannot be decoded"),
        (jpeg[:-40], "is damaged, it cannot be decoded"),
        (jpeg[:30], "has a damaged header"),
        (b"\xff\xd8\xff", "has a damaged header"),
        (b"RIFF\0\0\0\0WEBP", "has a damaged header"),
        (webp_header(30, 30, b"VP8 "), "is damaged, it cannot be decoded"),
        (saved(picture(7, 30), "PNG"), "is 7x30; both sides need 8 pixels or more"),
        (saved(picture(9, 370), "JPEG"), "is 9x370; one side may be 8 times the other"),
        (animation, "is an animated WebP; send a still picture"),
        (scans, "is a JPEG of 201 scans, over 100"),
        (saved(Image.fromarray(np.full([20, 20], 4095, np.uint16)), "PNG"), "has 16 bits a colour"),
    ):
        if bad[8:12] == b"WEBP" and not reading.WEBP:
            words = "is a WebP, which TensorFlow 2.15 cannot read; send a JPEG or PNG"
        assert f"row 2: image_bytes {words}" in message(read, good, jpeg, bad), (bad[:20], words)
    film = jpeg + b"\xff\xda" * 500  # what a phone puts behind a picture holds such bytes by chance
    np.testing.assert_array_equal(read(tf.constant([film])), read(tf.constant([jpeg])))
    assert geometry.MIN_SIDE == 8
    assert read(tf.constant([good, jpeg])).shape == (2, SIZE, SIZE, 3)


@pytest.mark.parametrize(("width", "height"), [(40, 28), (28, 40), (301, 100), (16, 16), (9, 200), (125, 167)])
def test_all_of_a_picture_is_seen_as_the_editor_sees_it(width, height):
    """Sides by the formula of simgan_tf/carry.py, the very pixels of Pillow's scaling."""
    pixels = np.random.default_rng(0).integers(0, 256, [height, width, 3], np.uint8)
    pixels = np.asarray(Image.fromarray(pixels).resize((4 * width, 4 * height), Image.Resampling.BICUBIC))
    ours = reading.small(tf.constant(pixels), SIZE).numpy()
    theirs = small_picture(pixels, SIZE)
    assert ours.shape == theirs.shape == (*carry.small_size(*pixels.shape[:2], SIZE), 3)
    np.testing.assert_array_equal(ours, theirs)
