"""Raw folders to record files: schema, pictures, captions, the join by key, and the build command's promises."""

import functools
import hashlib
import io
import json
import os
import pathlib
import shutil
import subprocess
import sys
import zlib

import numpy as np
import pytest
import scipy.io
import tensorflow as tf
from PIL import Image

from data import build, captions, demo, oxford102, records

MINI = pathlib.Path(__file__).resolve().parents[1].parent / "shared" / "data" / "mini" / "oxford102"
LABELS = [2, 1, 1, 3, 2, 3, 1, 2]  # of images 1 to 8; class 3 is the test class


def encode(pixels, mode="RGB", form="JPEG", **options):
    buffer = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(buffer, form, **options)
    return buffer.getvalue()


def noise(seed, height=20, width=26):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


@pytest.fixture
def raw(tmp_path):
    """Eight pictures in three classes; image n has the captions "n first" and "n second"."""
    root = tmp_path / "raw"
    (root / "jpg").mkdir(parents=True)
    scipy.io.savemat(root / "imagelabels.mat", {"labels": np.array([LABELS], np.uint8)})
    for number, label in enumerate(LABELS, start=1):
        (root / "jpg" / f"image_{number:05d}.jpg").write_bytes(encode(noise(number)))
        folder = root / "text_c10" / f"class_{label:05d}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"image_{number:05d}.txt").write_text(f"{number} first\n\n  {number} second")
    (root / "text_c10" / "trainvalclasses.txt").write_text("class_00001\nclass_00002\n")
    (root / "text_c10" / "testclasses.txt").write_text("class_00003\n")
    return root


def contents(folder):
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.glob("*.tfrecord")}


def test_written_examples_are_read_back_in_order_whatever_the_shards(tmp_path):
    examples = [
        records.Example(b"p%d" % i, f"k{i}", i + 1, ("one", "zwei \u00e4")[: i % 2 + 1], b"m" * i, "red" * (i % 2),
                        np.full((i % 2 + 1, 3), i / 3, np.float32))
        for i in range(7)
    ]  # fmt: skip
    parts = []
    for shards in (1, 3, 9):
        folder = tmp_path / str(shards)
        folder.mkdir()
        parts.append(records.write_split(str(folder), "train", examples, shards))
        records.write_info(str(folder), {"format_version": 1, "shards": shards, "splits": {"train": parts[-1]}})
        assert len(list(folder.glob("train-*-of-*.tfrecord"))) == shards
        found = list(records.read_examples(str(folder), "train"))
        assert [e.key for e in found] == [e.key for e in examples]
        for one, other in zip(found, examples, strict=True):
            np.testing.assert_array_equal(one.embeddings, other.embeddings)
            fields = ("image", "class_id", "captions", "mask", "colour")
            assert [getattr(one, name) for name in fields] == [getattr(other, name) for name in fields]
    assert parts[0] == parts[1] == parts[2]
    assert (parts[0]["images"], parts[0]["captions"], parts[0]["embedding_dim"]) == (7, 4 * 1 + 3 * 2, 3)
    changed = [*examples[:-1], records.Example(b"p6", "k6", 7, ("two",), b"m" * 6, "", np.full((1, 3), 2, np.float32))]
    assert records.write_split(str(folder), "train", changed, 1)["fingerprint"] != parts[0]["fingerprint"]


def test_split_refuses_a_key_seen_twice_and_an_example_without_captions(tmp_path):
    one = records.Example(b"p", "k", 1, ("c",))
    with pytest.raises(ValueError, match="'k' occurs twice"):
        records.write_split(str(tmp_path), "train", [one, one], 1)
    with pytest.raises(ValueError, match="'k' has no caption"):
        records.write_split(str(tmp_path), "train", [records.Example(b"p", "k", 1, ())], 1)


def test_damaged_or_missing_records_are_named(tmp_path, raw):
    out = tmp_path / "records"
    with pytest.raises(FileNotFoundError, match="python -m data.build"):
        records.read_info(str(out))
    build.build("oxford102", str(raw), str(out), shards=2)
    with pytest.raises(ValueError, match="split='valid'"):
        list(records.read_examples(str(out), "valid"))
    shard = out / "train-00001-of-00002.tfrecord"
    good = shard.read_bytes()
    shard.write_bytes(good[:-7])
    with pytest.raises(ValueError, match="damaged"):
        list(records.read_examples(str(out), "train"))
    shard.write_bytes(b"")
    with pytest.raises(ValueError, match="holds . train records, not 6"):
        list(records.read_examples(str(out), "train"))
    shard.unlink()
    with pytest.raises(FileNotFoundError, match="train-00001-of-00002"):
        list(records.read_examples(str(out), "train"))


def test_plain_pictures_pass_unchanged(tmp_path):
    for data in (encode(noise(0)), encode(noise(0), progressive=True), encode(noise(0), form="PNG")):
        (tmp_path / "p").write_bytes(data)
        assert records.read_picture(str(tmp_path / "p")) == data


def smooth():
    """A slow gradient, which JPEG keeps within two grey levels. [24, 32, 3] uint8."""
    y, x = np.mgrid[:24, :32]
    return np.stack([4 * x + 60, 5 * y + 60, 2 * x + 2 * y + 60], -1).astype(np.uint8)


def unusual():
    grey = Image.fromarray(smooth()).convert("L")
    wide = np.repeat(np.asarray(grey, np.uint16)[..., None] * 257, 1, axis=-1)[..., 0]
    exif = Image.Exif()
    exif[0x0112] = 6  # turned a quarter: shown, the stored picture is rotated clockwise
    clear = np.dstack([smooth(), np.full((24, 32), 255, np.uint8)])
    clear[:12, :, 3] = 0
    on_white = smooth()
    on_white[:12] = 255
    repeated = np.repeat(np.asarray(grey)[..., None], 3, axis=-1)
    flat = np.full((24, 32, 3), (204, 51, 0), np.uint8)  # a colour of the web palette
    return {
        "grey jpeg": (encode(smooth(), "L"), repeated),
        "cmyk jpeg": (encode(smooth(), "CMYK", quality=95), smooth()),
        "palette png": (encode(flat, "P", "PNG"), flat),
        "clear png": (encode(clear, "RGBA", "PNG"), on_white),
        "16 bit png": (encode(wide, "I;16", "PNG"), repeated),
        "turned jpeg": (encode(smooth(), exif=exif, quality=95), np.rot90(smooth(), -1)),
        "bmp": (encode(smooth(), form="BMP"), smooth()),
    }


@pytest.mark.parametrize("name", unusual())
def test_unusual_pictures_become_upright_rgb(tmp_path, name):
    data, expected = unusual()[name]
    (tmp_path / "p").write_bytes(data)
    pixels = tf.io.decode_image(records.read_picture(str(tmp_path / "p")), channels=3, expand_animations=False).numpy()
    assert pixels.shape == expected.shape
    assert np.abs(pixels.astype(int) - expected).max() <= (12 if "jpeg" in name else 0)


def test_16_bit_rgb_png_is_written_anew(tmp_path):
    """Pillow cannot write one: TensorFlow does. Its upper bytes are the picture."""
    deep = smooth().astype(np.uint16) * 256 + 77
    (tmp_path / "p").write_bytes(tf.io.encode_png(deep).numpy())
    with Image.open(io.BytesIO(records.read_picture(str(tmp_path / "p")))) as picture:
        np.testing.assert_array_equal(np.asarray(picture), smooth())


def test_unreadable_and_extreme_pictures_are_refused_by_name(tmp_path):
    path = tmp_path / "image_00007.jpg"
    whole = encode(noise(0, 60, 60))
    huge = encode(np.zeros((1, 1, 3), np.uint8), form="PNG")
    huge = huge[:16] + (8000).to_bytes(4, "big") + (8000).to_bytes(4, "big") + huge[24:]  # only the header is looked at
    huge = huge[:29] + zlib.crc32(huge[12:29]).to_bytes(4, "big") + huge[33:]
    for data, words in (
        (whole[: len(whole) // 2], "not a readable picture"),
        (whole[:100], "not a readable picture"),
        (b"", "not a readable picture"),
        (b"GIF89a not really", "not a readable picture"),
        (encode(noise(0, 7, 60)), "60x7; both sides need 8"),
        (huge, "8000x8000, over 50,000,000 pixels"),
    ):
        path.write_bytes(data)
        with pytest.raises(ValueError, match=r"image_00007\.jpg.*" + words) as caught:
            records.read_picture(str(path))
        assert "\n" not in str(caught.value)


def test_captions_are_stripped_and_broken_bytes_survive(tmp_path):
    (tmp_path / "class_00001").mkdir()
    (tmp_path / "class_00001" / "image_00001.txt").write_bytes(b"\xef\xbb\xbf one . \r\n\n  two \xff x\n \t\nthree")
    assert captions.read_captions(str(tmp_path), "class_00001", "image_00001") == ("one .", "two \ufffd x", "three")


def test_class_lists_must_not_share_a_class(raw):
    (raw / "text_c10" / "testclasses.txt").write_text("class_00003\nclass_00001\n")
    with pytest.raises(ValueError, match="'class_00001' stands in both"):
        captions.class_lists(str(raw / "text_c10"))
    (raw / "text_c10" / "testclasses.txt").unlink()
    with pytest.raises(FileNotFoundError, match="testclasses.txt"):
        captions.class_lists(str(raw / "text_c10"))


def test_images_labels_and_captions_are_joined_by_number(raw):
    """Train classes 1 and 2 hold images 2 3 7 and 1 5 8, test class 3 holds 4 6."""
    (raw / "jpg" / "._image_00001.jpg").write_bytes(b"junk")
    (raw / "jpg" / "Thumbs.db").write_bytes(b"junk")
    (raw / "text_c10" / "class_00001" / "._image_00002.txt").write_bytes(b"junk")
    for split, numbers in (("train", [1, 2, 3, 5, 7, 8]), ("test", [4, 6])):
        found = list(oxford102.examples(str(raw), "", split))
        assert [example.key for example in found] == [f"image_{number:05d}" for number in numbers]
        for number, example in zip(numbers, found, strict=True):
            assert example.class_id == LABELS[number - 1]
            assert example.captions == (f"{number} first", f"{number} second")
            assert example.image == (raw / "jpg" / f"image_{number:05d}.jpg").read_bytes()
            assert (example.mask, example.colour) == (b"", "")


def test_caption_folder_that_contradicts_the_labels_is_named(raw):
    folder = raw / "text_c10"
    shutil.move(folder / "class_00001" / "image_00002.txt", folder / "class_00003" / "image_00002.txt")
    with pytest.raises(ValueError, match=r"image_00002\.txt lies in class 3, but .*imagelabels\.mat .* label 1"):
        oxford102.listing(str(raw))


def test_broken_labels_are_named(raw):
    (raw / "imagelabels.mat").write_bytes(b"not a matrix")
    with pytest.raises(ValueError, match=r"imagelabels\.mat is not a MAT"):
        oxford102.listing(str(raw))
    scipy.io.savemat(raw / "imagelabels.mat", {"labels": np.array([LABELS[:5]], np.uint8)})
    with pytest.raises(ValueError, match="image_0000[678] has no label: .* 1 to 5"):
        oxford102.listing(str(raw))


def test_captions_and_pictures_without_their_partner(tmp_path, raw, capsys):
    (raw / "jpg" / "image_00003.jpg").unlink()
    with pytest.raises(ValueError, match=r"no picture .*image_00003\.jpg for the captions .*image_00003\.txt"):
        oxford102.listing(str(raw))
    (raw / "text_c10" / "class_00002" / "image_00001.txt").unlink()
    with pytest.raises(ValueError, match=r"no captions .*image_00001\.txt for the picture .*image_00001\.jpg \(2 such"):
        oxford102.listing(str(raw))
    (raw / "text_c10" / "class_00003" / "image_00004.txt").write_text(" \n\n")
    info, _ = build.build("oxford102", str(raw), str(tmp_path / "records"), skip_missing=True)
    assert info["left_out"] == 3
    assert [info["splits"][split]["images"] for split in ("train", "test")] == [4, 1]


def test_class_in_no_list_is_told(raw):
    (raw / "text_c10" / "trainvalclasses.txt").write_text("class_00001\n")
    with pytest.raises(ValueError, match=r"class_00002 .* in neither class list .*\(3 such"):
        oxford102.listing(str(raw))
    assert len(oxford102.listing(str(raw), skip_missing=True).splits["train"]) == 3


def test_masks_and_colours_of_the_demo_layout(raw):
    (raw / "masks").mkdir()
    lines = ["key,colour"]
    for number in range(1, 9):
        mask = np.full((20, 26), 255 * (number % 2), np.uint8)
        (raw / "masks" / f"image_{number:05d}.png").write_bytes(encode(mask, "L", "PNG"))
        lines.append(f"image_{number:05d},colour {number}")
    (raw / "colours.csv").write_text("\n".join(lines))
    example = list(oxford102.examples(str(raw), "", "train"))[3]
    assert (example.key, example.colour) == ("image_00005", "colour 5")
    assert example.mask == (raw / "masks" / "image_00005.png").read_bytes()
    (raw / "masks" / "image_00005.png").write_bytes(encode(mask[:-1], "L", "PNG"))
    with pytest.raises(ValueError, match=r"masks/image_00005\.png .*\(26, 19\).* must be .*\(26, 20\)"):
        list(oxford102.examples(str(raw), "", "train"))


def test_build_writes_class_disjoint_splits_whose_bytes_do_not_depend_on_workers(tmp_path, raw):
    info, written = build.build("oxford102", str(raw), str(tmp_path / "a"), workers=1, shards=3)
    build.build("oxford102", str(raw), str(tmp_path / "b"), workers=5, shards=3)
    assert written and contents(tmp_path / "a") == contents(tmp_path / "b") and len(contents(tmp_path / "a")) == 6
    train, test = info["splits"]["train"], info["splits"]["test"]
    assert (train["images"], train["captions"], train["class_ids"]) == (6, 12, [1, 2])
    assert (test["images"], test["captions"], test["class_ids"]) == (2, 4, [3])
    assert info == json.loads((tmp_path / "a" / "dataset.json").read_text()) and not info["has_masks"]
    keys = {split: {e.key for e in records.read_examples(str(tmp_path / "a"), split)} for split in records.SPLITS}
    assert not keys["train"] & keys["test"] and len(keys["train"] | keys["test"]) == 8
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b", "raw"]


def test_a_second_build_leaves_the_same_alone_and_refuses_another(tmp_path, raw):
    out = tmp_path / "records"
    build.build("oxford102", str(raw), str(out), shards=1)
    before = {path: path.stat().st_mtime_ns for path in out.iterdir()}
    assert build.build("oxford102", str(raw), str(out), shards=1)[1] is False
    assert {path: path.stat().st_mtime_ns for path in out.iterdir()} == before
    for change in ({"shards": 2}, {"captions": True}):
        if "captions" in change:
            (raw / "text_c10" / "class_00001" / "image_00002.txt").write_text("another")
        with pytest.raises(ValueError, match="choose another folder, or delete it"):
            build.build("oxford102", str(raw), str(out), shards=change.get("shards", 1))
    (out / "dataset.json").unlink()
    with pytest.raises(ValueError, match="choose another folder, or delete it"):
        build.build("oxford102", str(raw), str(out), shards=1)


def test_a_corrupt_picture_stops_the_build_and_leaves_nothing(tmp_path, raw):
    path = raw / "jpg" / "image_00005.jpg"
    path.write_bytes(path.read_bytes()[:-300])
    with pytest.raises(ValueError, match=r"image_00005\.jpg is not a readable picture"):
        build.build("oxford102", str(raw), str(tmp_path / "records"))
    assert [entry.name for entry in tmp_path.iterdir()] == ["raw"]


@pytest.mark.skipif(sys.platform == "win32", reason="no limit on file sizes to stand for a full disk")
def test_a_full_disk_leaves_nothing(tmp_path, raw):
    import resource

    for number in (1, 2, 3):
        (raw / "jpg" / f"image_{number:05d}.jpg").write_bytes(encode(noise(number, 200, 200), quality=95))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, limits[1]))
    try:
        with pytest.raises(OSError, match="Cannot write the train records") as caught:
            build.build("oxford102", str(raw), str(tmp_path / "records"), shards=1)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "\n" not in str(caught.value)
    assert [entry.name for entry in tmp_path.iterdir()] == ["raw"]


@pytest.mark.parametrize("gone", ["jpg", "imagelabels.mat", "text_c10", ""])
def test_missing_folders_show_the_expected_tree(tmp_path, raw, gone):
    os.rename(raw / gone, tmp_path / "away")
    with pytest.raises(FileNotFoundError, match=r"expected .*jpg/image_00001\.jpg .*imagelabels\.mat.*trainvalclasses"):
        build.build("oxford102", str(raw), str(tmp_path / "records"))


def test_demo_set_is_drawn_first_and_brings_masks_and_colours(tmp_path, monkeypatch):
    monkeypatch.setattr(demo, "write", functools.partial(demo.write, images_per_class=2, classes=6, size=32, workers=1))
    info, _ = build.build("demo", str(tmp_path / "raw"), str(tmp_path / "records"), shards=2)
    assert info["has_masks"] and info["left_out"] == 0
    assert sum(part["images"] for part in info["splits"].values()) == 12
    for split in records.SPLITS:
        for example in records.read_examples(str(tmp_path / "records"), split):
            assert example.mask and example.colour and all(example.colour in text for text in example.captions)
    assert build.build("demo", str(tmp_path / "raw"), str(tmp_path / "records"), shards=2)[1] is False


def test_command_prints_counts_and_the_next_command(tmp_path, raw):
    root, out = pathlib.Path(__file__).resolve().parents[1], tmp_path / "records"
    command = [sys.executable, "-m", "data.build", "--dataset=oxford102", f"--raw_dir={raw}", f"--out_dir={out}"]
    said = subprocess.run(command, cwd=root, check=True, capture_output=True, text=True, timeout=120).stdout
    lines = [line.split() for line in said.splitlines()]
    assert ["train", "2", "6", "12", "2"] in lines and ["test", "1", "2", "4", "2"] in lines
    assert lines[-1][:5] == ["next:", "python", "-m", "simgan_tf.text.train", f"--records_dir={out}"]


def test_real_flowers(tmp_path):
    if not MINI.is_dir():
        pytest.skip("the 24 photographs of ../shared/data/mini/oxford102 are not on this machine")
    info, _ = build.build("oxford102", str(MINI), str(tmp_path / "records"))
    found = {split: list(records.read_examples(str(tmp_path / "records"), split)) for split in records.SPLITS}
    assert len(found["train"]) + len(found["test"]) == 24
    assert [len(info["splits"][split]["class_ids"]) for split in records.SPLITS] == [3, 1]
    for example in found["train"] + found["test"]:
        assert example.image == (MINI / "jpg" / f"{example.key}.jpg").read_bytes()
        text = MINI / "text_c10" / f"class_{example.class_id:05d}" / f"{example.key}.txt"
        assert list(example.captions) == [line.strip() for line in text.read_text().splitlines() if line.strip()]
