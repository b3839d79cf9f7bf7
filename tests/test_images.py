"""Picture files on their way into records: what passes unchanged, what is written anew, what is refused."""

import io
import os
import random
import struct
import subprocess
import sys
import warnings
import zlib

import numpy as np
import pillow_heif
import pytest
import tensorflow as tf
from PIL import Image, ImageOps

from data import geometry, images
from export import device_example

pillow_heif.register_heif_opener()  # to write such files


def encode(pixels, mode="RGB", form="JPEG", **options):
    buffer = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(buffer, form, **options)
    return buffer.getvalue()


def decode(data):
    with Image.open(io.BytesIO(data)) as picture:
        return np.asarray(picture)


def noise(seed, height=20, width=26):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def smooth():
    """A slow gradient, which JPEG keeps within two grey levels. [24, 32, 3] uint8."""
    y, x = np.mgrid[:24, :32]
    return np.stack([4 * x + 60, 5 * y + 60, 2 * x + 2 * y + 60], -1).astype(np.uint8)


def tiff(pixels):
    """An uncompressed TIFF of [H, W] or [H, W, 3] numbers of any type, by the standard itself: Pillow writes few."""
    height, width, *channels = pixels.shape
    samples = channels[0] if channels else 1
    kind = {"u": 1, "i": 2, "f": 3}[pixels.dtype.kind]
    data, bits = pixels.astype(pixels.dtype.newbyteorder("<")).tobytes(), [8 * pixels.itemsize] * samples
    entries = [(256, [width]), (257, [height]), (258, bits), (259, [1]), (262, [2 if channels else 1]), (273, [0]),
               (277, [samples]), (278, [height]), (279, [len(data)]), (339, [kind] * samples)]  # fmt: skip
    end = 8 + 2 + 12 * len(entries) + 4  # of the list; behind it stand what has no room in it, and the pixels
    extra, table = b"", struct.pack("<H", len(entries))
    for tag, values in entries:
        packed = struct.pack(f"<{len(values)}H", *values)
        if tag == 273:
            packed = struct.pack("<H", end + 2 * 2 * 3)  # behind the two lists of three numbers, used or not
        if len(packed) > 4:
            extra, packed = extra + packed, struct.pack("<I", end + len(extra))
        table += struct.pack("<HHI", tag, 3, len(values)) + packed.ljust(4, b"\0")
    return b"II*\0" + struct.pack("<I", 8) + table + b"\0" * 4 + extra.ljust(12, b"\0") + data


def oriented(value):
    exif = Image.Exif()
    exif[images.ORIENTATION] = value
    return exif


def unusual():
    grey = Image.fromarray(smooth()).convert("L")
    wide = np.repeat(np.asarray(grey, np.uint16)[..., None] * 257, 1, axis=-1)[..., 0]
    clear = np.dstack([smooth(), np.full((24, 32), 255, np.uint8)])
    clear[:12, :, 3] = 0
    on_white = smooth()
    on_white[:12] = 255
    half = np.dstack([smooth(), np.full((24, 32), 51, np.uint8)])  # a fifth opaque
    repeated = np.repeat(np.asarray(grey)[..., None], 3, axis=-1)
    flat = np.full((24, 32, 3), (204, 51, 0), np.uint8)  # a colour of the web palette
    return {
        "grey jpeg": (encode(smooth(), "L"), repeated),
        "cmyk jpeg": (encode(smooth(), "CMYK", quality=95), smooth()),
        "palette png": (encode(flat, "P", "PNG"), flat),
        "clear png": (encode(clear, "RGBA", "PNG"), on_white),
        "half clear png": (encode(half, "RGBA", "PNG"), np.round(smooth() * 0.2 + 255 * 0.8)),
        "16 bit png": (encode(wide, "I;16", "PNG"), repeated),
        "turned jpeg": (encode(smooth(), exif=oriented(6), quality=95), np.rot90(smooth(), -1)),
        "bmp": (encode(smooth(), form="BMP"), smooth()),
        "webp": (encode(smooth(), form="WEBP", lossless=True), smooth()),
        "tiff": (encode(smooth(), form="TIFF"), smooth()),
        "gif": (encode(flat, "P", "GIF"), flat),
        "avif": (encode(smooth(), form="AVIF", quality=95, subsampling="4:4:4"), smooth()),
        "turned avif": (encode(smooth(), form="AVIF", quality=95, exif=oriented(6)), np.rot90(smooth(), -1)),
        "heic": (encode(smooth(), form="HEIF", quality=95), smooth()),
        "16 bit tiff": (tiff(wide), repeated),
        "16 bit rgb tiff": (tiff(smooth().astype(np.uint16) * 256 + 77), smooth()),
        "32 bit tiff of bytes": (tiff(np.asarray(grey, np.int32)), repeated),
        "32 bit tiff of 16 bits": (tiff(wide.astype(np.int32)), repeated),
        "float tiff to 1": (tiff(np.asarray(grey, np.float32) / np.float32(255)), repeated),
        "float tiff to 255": (tiff(np.asarray(grey, np.float32)), repeated),
        "turned tiff": (encode(smooth(), form="TIFF", exif=oriented(6)), np.rot90(smooth(), -1)),
        "turned float tiff": (encode(np.asarray(grey, np.float32) / np.float32(255), "F", "TIFF", exif=oriented(6)),
                              np.rot90(repeated, -1)),
    }  # fmt: skip


def tolerance(name):
    """Steps of 256 by which the picture `name` of `unusual` may be off."""
    return 12 if any(form in name for form in ("jpeg", "avif", "heic")) else 1 if "half" in name else 0


@pytest.mark.parametrize("name", unusual())
def test_unusual_pictures_become_upright_rgb(tmp_path, name):
    data, expected = unusual()[name]
    (tmp_path / "p").write_bytes(data)
    pixels = tf.io.decode_image(images.read_picture(str(tmp_path / "p")), channels=3, expand_animations=False).numpy()
    assert pixels.shape == expected.shape
    assert np.abs(pixels.astype(int) - expected).max() <= tolerance(name)


@pytest.mark.parametrize("name", unusual())
def test_a_device_sees_them_as_training_does(tmp_path, name):
    """The example for devices has a reader of its own."""
    data, expected = unusual()[name]
    (tmp_path / "p").write_bytes(data)
    pixels = device_example.read_pixels(str(tmp_path / "p"))
    assert np.abs(pixels.astype(int) - expected).max() <= tolerance(name)


def test_numbers_of_which_none_is_known_to_be_white_are_refused(tmp_path):
    path = tmp_path / "deep.tif"
    for low, high, kind in (
        (0, 1.5, "float32"), (-0.5, 1, "float32"), (0, 256, "float32"), (0, np.nan, "float32"), (0, 70_000, "int32"),
        (-3, 200, "int32"),
    ):  # fmt: skip
        path.write_bytes(tiff(np.linspace(low, high, 400).reshape(20, 20).astype(kind)))
        for read in (images.read_picture, device_example.read_pixels):
            with pytest.raises(ValueError, match=rf"deep\.tif.* numbers from {low:g}|deep\.tif.* numbers from nan"):
                read(str(path))


def test_heic_without_its_package_says_what_to_install(tmp_path, monkeypatch):
    path = tmp_path / "phone.heic"
    path.write_bytes(encode(smooth(), form="HEIF"))
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    for read in (images.read_picture, device_example.read_pixels):
        with pytest.raises(ValueError, match=r"phone\.heic.*pip install pillow-heif"):
            read(str(path))


@pytest.mark.parametrize("value", range(10))
def test_every_orientation_is_undone(tmp_path, value):
    """Against Pillow's own exif_transpose, on an odd-sized PNG; 0 and 9 mean nothing."""
    data = encode(noise(5), form="PNG", exif=oriented(value))
    (tmp_path / "p").write_bytes(data)
    found = images.read_picture(str(tmp_path / "p"))
    with Image.open(io.BytesIO(data)) as picture:
        np.testing.assert_array_equal(decode(found), np.asarray(ImageOps.exif_transpose(picture)))
    assert (found == data) == (value in (0, 1, 9))


def test_broken_exif_is_no_reason_to_refuse(tmp_path):
    """Its only tag, a text, begins far behind the end of the block."""
    exif = Image.Exif()
    exif[0x010E] = "a description"
    data = encode(noise(6), exif=exif)
    at = data.index(b"Exif") + 6 + 8 + 2 + 8  # the block's head, the list's head and count, tag, type and length
    data = data[:at] + b"\xff\xff\xff\x7f" + data[at + 4 :]
    (tmp_path / "p.jpg").write_bytes(data)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow remarks on it, as the commands let pass
        assert images.read_picture(str(tmp_path / "p.jpg")) == data


@pytest.mark.slow
def test_no_damage_gives_anything_but_a_line(tmp_path):
    """20,000 damaged files of every format: each is read, or refused in one line that names it."""
    rng, path = random.Random(1), tmp_path / "picture"
    sources = [data for data, _ in unusual().values()]
    sources += [encode(noise(0), form="TIFF", compression=kind) for kind in ("tiff_lzw", "tiff_deflate")]
    sources += [encode(noise(0), form="PPM"), encode(noise(0)), encode(noise(0), form="PNG")]
    read = 0
    for _ in range(20_000):
        data = bytearray(rng.choice(sources))
        for _ in range(rng.choice((1, 1, 2, 8))):
            place = rng.randrange(rng.choice((len(data), min(len(data), 200))))
            change = rng.randrange(4)
            if change == 0:
                data[place] ^= 1 << rng.randrange(8)
            elif change == 1:
                data[place] = rng.choice((0, 127, 128, 255))
            elif change == 2:
                del data[place : place + rng.choice((1, 4, 50))]
                data += b"." * (not data)
            else:
                data[place:place] = rng.randbytes(rng.choice((1, 4, 20)))
        path.write_bytes(data)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                read += bool(images.read_picture(str(path)))
        except ValueError as error:
            assert str(path) in str(error) and "\n" not in str(error)
    assert 2000 < read < 18_000


def test_16_bit_rgb_png_is_written_anew(tmp_path):
    """Pillow cannot write one: TensorFlow does. Its upper bytes are the picture."""
    deep = smooth().astype(np.uint16) * 256 + 77
    (tmp_path / "p").write_bytes(tf.io.encode_png(deep).numpy())
    np.testing.assert_array_equal(decode(images.read_picture(str(tmp_path / "p"))), smooth())


def test_plain_pictures_pass_unchanged_alone_and_together(tmp_path):
    files = [
        encode(noise(0)),
        encode(noise(0), progressive=True),
        encode(noise(0), form="PNG"),
        encode(smooth(), "L"),  # this one does not
        encode(noise(1, 33, 17), exif=oriented(1)),
    ]
    paths = []
    for i, data in enumerate(files):
        paths.append(str(tmp_path / str(i)))
        (tmp_path / str(i)).write_bytes(data)
    alone = [images.read_picture(path) for path in paths]
    assert [one == data for one, data in zip(alone, files, strict=True)] == [True, True, True, False, True]
    assert images.read_pictures(paths) == alone
    assert images.read_pictures([]) == []


def test_a_damaged_picture_among_others_is_named(tmp_path):
    paths = [str(tmp_path / f"image_{i}.jpg") for i in range(5)]
    for i, path in enumerate(paths):
        data = encode(noise(i, 60, 60))
        with open(path, "wb") as file:
            file.write(data[: len(data) // 2] if i == 3 else data)
    with pytest.raises(ValueError, match=r"image_3\.jpg is not a readable picture"):
        images.read_pictures(paths)


def test_the_fast_check_agrees_with_decoding_the_whole():
    """200 damaged JPEGs, baseline and progressive: TensorFlow takes the eighth exactly where it takes the whole."""
    rng = random.Random(0)
    sources = [encode(noise(0, 64, 80)), encode(np.repeat(smooth(), 4, 0)), encode(noise(1, 40, 40), progressive=True)]
    verdicts = []
    for i in range(200):
        data = bytearray(sources[i % 3])
        place = rng.randrange(2, len(data))
        if i % 2:
            data[place] ^= 1 << rng.randrange(8)
        else:
            del data[place : place + rng.choice((1, 50, len(data)))]
        try:
            whole = tf.io.decode_jpeg(bytes(data), channels=3).shape
        except tf.errors.InvalidArgumentError:
            whole = None
        try:
            eighth = images._decode_small(bytes(data)).shape
        except tf.errors.InvalidArgumentError:
            eighth = None
        verdicts.append(whole is not None)
        assert (eighth is None) == (whole is None)
        if whole is not None:
            assert tuple(eighth[:2]) == tuple(-(-side // 8) for side in whole[:2])
    assert 20 < sum(verdicts) < 180


def png_of(width, height):
    """A PNG whose header says so; nothing else of it is true."""
    data = bytearray(encode(np.zeros((1, 1, 3), np.uint8), form="PNG"))
    data[16:24] = struct.pack(">II", width, height)
    data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    return bytes(data)


def test_unreadable_and_extreme_pictures_are_refused_by_name(tmp_path):
    path = tmp_path / "image_00007.jpg"
    whole = encode(noise(0, 60, 60))
    scans = encode(noise(0, 16, 16), progressive=True)
    eps = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 100 100\n%%EndComments\n"
    for data, words in (
        (whole[: len(whole) // 2], "not a readable picture"),
        (whole[:100], "not a readable picture"),
        (b"", "not a readable picture"),
        (b"GIF89a not really", "not a readable picture"),
        (encode(noise(0), form="PNG")[:-30], "not a readable picture"),
        (eps, "not a readable picture"),
        (tiff(np.zeros((20, 20, 3), np.float32)), "of a kind that is not read, such as RGB in floats"),
        (encode(noise(0, 7, 60)), "60x7; both sides need 8"),
        (encode(noise(0, 8, 321)), "321x8; the longer side may be 40 times the shorter"),
        (png_of(8000, 8000), "8000x8000, over 50,000,000 pixels"),
        (png_of(50_000, 50_000), "over 50,000,000 pixels"),
        (scans[:-2] + scans[scans.rindex(b"\xff\xda") : -2] * 100 + scans[-2:], "scans, over 100"),
    ):
        path.write_bytes(data)
        with pytest.raises(ValueError, match=r"image_00007\.jpg.*" + words) as caught:
            images.read_picture(str(path))
        assert "\n" not in str(caught.value) and "BytesIO" not in str(caught.value)


def test_bombs_are_refused_before_they_are_decoded(tmp_path):
    """In a process that may use 1 GB more than it has: 50,000 x 50,000 points are 7.5 GB."""
    (tmp_path / "bomb.png").write_bytes(png_of(50_000, 50_000))
    jpeg = encode(noise(0))
    frame = jpeg.index(b"\xff\xc0") + 5  # height and width, two bytes each
    (tmp_path / "bomb.jpg").write_bytes(jpeg[:frame] + struct.pack(">HH", 50_000, 50_000) + jpeg[frame + 4 :])
    with open(tmp_path / "large.png", "wb") as file:
        file.truncate(2**33)  # a hole: it takes no disk
    code = f"""
import resource, warnings
from data import geometry, images
size = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (size + 2**30, size + 2**30))
for name in ("bomb.png", "bomb.jpg", "large.png"):
    try:
        images.read_picture(r"{tmp_path}/" + name)
    except ValueError as error:
        print(error)
"""
    if sys.platform != "linux":
        pytest.skip("memory can be limited on Linux only")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=100)
    said = done.stdout.splitlines()
    assert ["pixels" in line for line in said] == [True, True, False] and "over 268,435,456 bytes" in said[2]


@pytest.mark.skipif(not os.path.exists("/dev/zero"), reason="no endless device here")
def test_devices_are_not_read(tmp_path):
    (tmp_path / "a.jpg").symlink_to("/dev/zero")
    with pytest.raises(ValueError, match=r"a\.jpg is a pipe or a device"):
        images.read_picture(str(tmp_path / "a.jpg"))


# ---- crop and stored size


def test_crop_rectangle_is_stackgans():
    """Box (10, 20, 40, 30): centre (30, 35), R = int(0.75 * 40) = 30, so 0..60 x 5..65; cut at the edges."""
    assert geometry.crop_rectangle("p", (100, 100), (10.0, 20.0, 40.0, 30.0)) == (0, 5, 60, 65)
    assert geometry.crop_rectangle("p", (55, 60), (10.0, 20.0, 40.0, 30.0)) == (0, 5, 55, 60)
    # 60.0 27.0 325.0 304.0 of the first bird, 500 x 335: centre (222, 179), R = 243
    assert geometry.crop_rectangle("p", (500, 335), (60.0, 27.0, 325.0, 304.0)) == (0, 0, 465, 335)
    assert geometry.crop_rectangle("p", (50, 50), (0.9, 0.0, 51.0, 51.9)) == (0, 0, 50, 50)  # a 50th may be outside


def test_clip_box():
    """Of 50 x 40 pixels: (40, -4, 20, 24) leaves by 10 of 50 to the right and by 4 of 40 above."""
    assert geometry.clip_box((50, 40), (1.0, 2.0, 49.0, 38.0)) == ((1.0, 2.0, 49.0, 38.0), 0.0)
    assert geometry.clip_box((50, 40), (40.0, -4.0, 20.0, 24.0)) == ((40.0, 0, 10.0, 20.0), pytest.approx(0.2))
    assert geometry.clip_box((50, 40), (60.0, 0.0, 20.0, 40.0)) == ((50, 0.0, 0, 40.0), pytest.approx(0.6))


def test_frames_hold_the_object_and_reach_from_close_around_it_to_the_whole_picture():
    """Of 100 x 80 pixels, box (10, 20, 40, 20). Side at draw 0: 1.2 x 40 = 48, at 1: 100, halfway sqrt(4800) = 69.3.
    The core is two thirds of it, no larger than the picture's height."""

    def frame(*draws):
        box = geometry.frame_box((100, 80), (10.0, 20.0, 40.0, 20.0), draws)
        return box, geometry.crop_rectangle("p", (100, 80), box)

    box, cut = frame(0.0, 0.0, 0.0)  # its right end at the object's: centre 50 - 24 = 26; down: 40 - 24 = 16
    assert box == pytest.approx((10, 0, 32, 32)) and cut == (2, 0, 50, 40)
    box, cut = frame(0.0, 1 - 1e-9, 1 - 1e-9)  # its left end at the object's: 10 + 24 = 34; above: 20 + 24 = 44
    assert box == pytest.approx((18, 28, 32, 32)) and cut == pytest.approx((10, 20, 58, 68), abs=1)
    assert frame(0.5, 0.5, 0.5)[0][2] == pytest.approx(4800**0.5 / 1.5)
    assert frame(1 - 1e-9, 0.5, 0.5)[1] == pytest.approx((0, 0, 96, 80), abs=4)
    random = np.random.default_rng(0)
    for _ in range(300):
        (x, y, w, h), size = (*random.uniform(0, 60, 2), *random.uniform(4, 60, 2)), (120, 120)
        box = geometry.frame_box(size, (x, y, w, h), tuple(random.random(3)))
        left, top, right, bottom = geometry.crop_rectangle("p", size, box)  # which refuses a box beside its picture
        assert left <= x + 3 and top <= y + 3 and right >= x + w - 3 and bottom >= y + h - 3  # whole pixels, thrice


def test_picture_size_is_that_of_the_upright_picture(tmp_path):
    """A JPEG, a PNG, a JPEG that its EXIF orientation 6 lays on its side; None for what is no picture."""
    pixels, turned = noise(1, 20, 26), Image.Exif()
    turned[0x0112] = 6
    (tmp_path / "a.jpg").write_bytes(encode(pixels))
    (tmp_path / "a.png").write_bytes(encode(pixels, form="PNG"))
    (tmp_path / "b.jpg").write_bytes(encode(pixels, exif=turned))
    (tmp_path / "c.jpg").write_bytes(b"\xff\xd8\xff no picture")
    found = [images.picture_size(str(tmp_path / name)) for name in ("a.jpg", "a.png", "b.jpg", "c.jpg")]
    assert found == [(26, 20), (26, 20), (20, 26), None]


@pytest.mark.parametrize("box", [(60, 0, 60, 50), (0, 0, 103, 50), (-3, 0, 10, 10), (0, 0, 0, 10), (0, 95, 10, 10)])
def test_a_box_outside_of_the_picture_is_refused(tmp_path, box):
    (tmp_path / "a.jpg").write_bytes(encode(noise(0, 100, 100)))
    with pytest.raises(ValueError, match=r"a\.jpg is 100x100, but its bounding box .*--crop=none") as caught:
        images.read_picture(str(tmp_path / "a.jpg"), tuple(map(float, box)))
    assert f"{box[2]}x{box[3]} at ({box[0]}, {box[1]})" in str(caught.value)


def test_cut_and_size_are_those_of_the_pixels(tmp_path):
    """A PNG, so that the cut is exact: the rectangle of the rule, then (60, 60) brought down to 20."""
    pixels = np.repeat(np.repeat(noise(2, 25, 25), 4, 0), 4, 1)  # [100, 100], blocks of four equal pixels
    (tmp_path / "a.png").write_bytes(encode(pixels, form="PNG"))
    (tmp_path / "a.jpg").write_bytes(encode(pixels, quality=90))
    box = (10.0, 20.0, 40.0, 30.0)
    np.testing.assert_array_equal(decode(images.read_picture(str(tmp_path / "a.png"), box)), pixels[5:65, 0:60])
    small = decode(images.read_picture(str(tmp_path / "a.png"), box, 20))
    other = np.asarray(Image.fromarray(pixels[5:65, 0:60]).resize((20, 20), Image.Resampling.LANCZOS))
    assert small.shape == (20, 20, 3)
    np.testing.assert_array_equal(small, other)
    jpeg = images.read_picture(str(tmp_path / "a.jpg"), box)
    with Image.open(io.BytesIO(jpeg)) as picture:
        assert (picture.format, picture.size, picture.layer[0][1:3]) == ("JPEG", (60, 60), (1, 1))  # no subsampling
    assert np.abs(decode(jpeg).astype(int) - decode(encode(pixels, quality=90))[5:65, 0:60]).mean() < 3


def test_stored_size_brings_the_shorter_side_down_and_never_up(tmp_path):
    for name, size, stored in (
        ("a.jpg", (90, 60), (45, 30)),
        ("b.jpg", (60, 91), (30, 46)),
        ("c.jpg", (30, 90), (30, 90)),
        ("d.jpg", (20, 28), (20, 28)),
    ):
        data = encode(noise(3, size[1], size[0]))
        (tmp_path / name).write_bytes(data)
        found = images.read_picture(str(tmp_path / name), stored_size=30)
        assert decode(found).shape == (stored[1], stored[0], 3)
        assert (found == data) == (size == stored)
    turned = encode(noise(3, 60, 90), exif=oriented(6))
    (tmp_path / "e.jpg").write_bytes(turned)
    assert decode(images.read_picture(str(tmp_path / "e.jpg"), stored_size=30)).shape == (45, 30, 3)


def test_masks_follow_their_picture(tmp_path):
    pixels, mask = noise(4, 60, 90), np.zeros((60, 90), np.uint8)
    mask[:, 45:] = 255
    (tmp_path / "a.png").write_bytes(encode(pixels, form="PNG"))
    (tmp_path / "m.png").write_bytes(encode(mask, "L", "PNG"))
    whole = images.read_picture(str(tmp_path / "a.png"))
    assert images.read_mask(str(tmp_path / "m.png"), whole) == (tmp_path / "m.png").read_bytes()
    small = images.read_picture(str(tmp_path / "a.png"), stored_size=20)
    found = decode(images.read_mask(str(tmp_path / "m.png"), small, stored_size=20))
    expected = np.zeros((20, 30), np.uint8)
    expected[:, 15:] = 255
    np.testing.assert_array_equal(found, expected)
    box = (30.0, 20.0, 20.0, 20.0)  # 25..55 x 15..45
    cut = decode(images.read_mask(str(tmp_path / "m.png"), images.read_picture(str(tmp_path / "a.png"), box), box))
    np.testing.assert_array_equal(cut, mask[15:45, 25:55])
    with pytest.raises(ValueError, match=r"m\.png is .*\(90, 60\).* must be .*\(30, 20\)"):
        images.read_mask(str(tmp_path / "m.png"), small)
    (tmp_path / "m.png").write_bytes(encode(noise(0, 60, 90)))
    with pytest.raises(ValueError, match=r"m\.png is .*JPEG.*must be .*PNG"):
        images.read_mask(str(tmp_path / "m.png"), whole)


def test_headers_alone_believe_what_is_inside_but_not_a_cut_file(tmp_path):
    """A JPEG with a table made void in the middle passes by its header; one cut short is looked at and refused."""
    pixels = np.random.default_rng(0).integers(0, 256, (64, 80, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=90)
    data = buffer.getvalue()
    table = data.index(b"\xff\xc4")
    void = data[: table + 5] + b"\xff" * 16 + data[table + 21 :]  # a Huffman table with 16 x 255 codes
    whole, damaged, cut = (str(tmp_path / f"{name}.jpg") for name in ("whole", "damaged", "cut"))
    for path, content in ((whole, data), (damaged, void), (cut, data[:-200])):
        (tmp_path / path).write_bytes(content)
    assert images.read_pictures([whole, damaged], headers_only=True) == [data, void]
    with pytest.raises(ValueError, match="damaged.jpg"):
        images.read_pictures([whole, damaged])
    with pytest.raises(ValueError, match="cut.jpg"):
        images.read_pictures([whole, cut], headers_only=True)
