"""Colour profiles and a JPEG's quality, which a served edit keeps, read back by Pillow."""

import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageCms, JpegImagePlugin

from export.serving import profiles

PLAIN = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
LARGE = PLAIN[:128] + bytes(range(256)) * 700  # 179 kB: three segments of a JPEG
GREY = PLAIN[:16] + b"GRAY" + PLAIN[20:]
PIXELS = np.random.default_rng(0).integers(0, 256, [20, 30, 3], dtype=np.uint8)


def encoded(kind, profile, mode="RGB", **options):
    buffer = io.BytesIO()
    Image.fromarray(PIXELS).convert(mode).save(buffer, kind, icc_profile=profile, **options)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def kept():
    """The profile that Pillow finds in a file of other pixels that was given that of `data`."""

    @tf.function(input_signature=[tf.TensorSpec([], tf.string)])
    def jpeg(data):
        return profiles.put(tf.io.encode_jpeg(PIXELS[:8, :8]), profiles.of_jpeg(data), "jpeg")

    @tf.function(input_signature=[tf.TensorSpec([], tf.string)])
    def png(data):
        return profiles.put(tf.io.encode_png(PIXELS[:8, :8]), profiles.of_png(data), "png")

    def run(kind, data):
        with Image.open(io.BytesIO({"JPEG": jpeg, "PNG": png}[kind](tf.constant(data)).numpy())) as picture:
            picture.load()
            assert picture.size == (8, 8)
            return picture.info.get("icc_profile")

    return run


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@pytest.mark.parametrize("profile", [PLAIN, LARGE, None], ids=["small", "large", "none"])
def test_a_profile_is_kept(kept, kind, profile):
    exif = Image.Exif()
    exif[0x010E] = "x" * 5000  # a long segment before it
    assert kept(kind, encoded(kind, profile)) == profile
    assert kept(kind, encoded(kind, profile, exif=exif)) == profile


def test_a_profile_of_other_colours_is_not(kept):
    """The edit is of RGB."""
    assert kept("JPEG", encoded("JPEG", GREY, "L")) is None
    assert kept("PNG", encoded("PNG", GREY, "L")) is None
    assert kept("PNG", encoded("PNG", PLAIN, "P")) == PLAIN


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_damaged_files_end(kept, kind):
    """Cut off anywhere, or with lengths that lead nowhere: no profile, or all of it, and never half of one."""
    whole = encoded(kind, LARGE)
    for end in (0, 2, 11, 26, 40, 700, len(whole) // 2, len(whole) - 20):
        assert kept(kind, whole[:end]) in (None, LARGE)
    assert kept(kind, b"\xff\xd8" + b"\xff\xe2\x00\x00" * 20) is None
    assert kept(kind, whole[:8] + b"\xff" * 60) is None


@pytest.fixture(scope="module")
def coding():
    run = tf.function(profiles.coding_of_jpeg, input_signature=[tf.TensorSpec([], tf.string)])
    return lambda data: tuple(value.numpy() for value in run(tf.constant(data)))


@pytest.mark.parametrize("quality", [20, 40, 50, 51, 75, 87, 95, 99, 100])
def test_the_quality_of_a_jpeg(coding, quality):
    """As Pillow's encoder was told, within what the rounding of its tables' numbers leaves open."""
    for sampling in (0, 1, 2):  # 4:4:4, 4:2:2, 4:2:0
        for profile, progressive in ((None, True), (LARGE, False)):
            data = encoded("JPEG", profile, quality=quality, subsampling=sampling, progressive=progressive)
            found, fine = coding(data)
            assert abs(found - quality) <= 1 and fine == (sampling == 0)


def test_a_quality_that_cannot_be_told(coding):
    whole = encoded("JPEG", None, quality=60)
    of_16_bits = whole.replace(b"\xff\xdb\0C\0", b"\xff\xdb\0C\x10")
    for data in (b"", b"\xff\xd8\xff", encoded("PNG", None), whole[:60], of_16_bits):
        assert coding(data) == (95, True)


def test_the_encoder_of_any_quality_writes_it(coding):
    """With colours half as fine, as `coding_of_jpeg` is made use of."""
    for quality in (30, 75, 92):
        made = tf.raw_ops.EncodeJpegVariableQuality(images=PIXELS, quality=quality).numpy()
        with Image.open(io.BytesIO(made)) as picture:
            assert JpegImagePlugin.get_sampling(picture) == 2
            with Image.open(io.BytesIO(encoded("JPEG", None, quality=quality))) as by_pillow:
                assert picture.quantization == by_pillow.quantization
        assert abs(coding(made)[0] - quality) <= 1
