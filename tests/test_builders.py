"""Raw folders to record files: each layout's join by key, the splits, and the build command's promises."""

import functools
import hashlib
import io
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tarfile
import zlib

import numpy as np
import pytest
import scipy.io
from PIL import Image

from data import build, cub, demo, folder, geometry, listing, loading, oxford102, records
from tests.test_images import encode, noise
from tests.tiny import MINI, ROOT, full_disk, run

LABELS = [2, 1, 1, 3, 2, 3, 1, 2]  # of images 1 to 8; class 3 is the test class


def save_captions(root, lists):
    """Files of text_c10's form. lists: class -> stems, for train and for test; stem number n says n."""
    for name, classes in zip(("trainvalclasses.txt", "testclasses.txt"), lists, strict=True):
        root.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("".join(f"{of_class}\n" for of_class in classes))
        for of_class, stems in classes.items():
            (root / of_class).mkdir(exist_ok=True)
            for stem in stems:
                number = int(re.search(r"\d+", stem).group())
                (root / of_class / f"{stem}.txt").write_text(f"{number} first\n\n  {number} second")


@pytest.fixture
def raw(tmp_path):
    """Eight flowers in three classes; image n has the captions "n first" and "n second"."""
    root = tmp_path / "raw"
    (root / "jpg").mkdir(parents=True)
    scipy.io.savemat(root / "imagelabels.mat", {"labels": np.array([LABELS], np.uint8)})
    for number in range(1, 9):
        (root / "jpg" / f"image_{number:05d}.jpg").write_bytes(encode(noise(number)))
    stems = {label: [f"image_{n:05d}" for n in range(1, 9) if LABELS[n - 1] == label] for label in (1, 2, 3)}
    classes = {f"class_{label:05d}": found for label, found in stems.items()}
    test = {"class_00003": classes.pop("class_00003")}
    save_captions(root / "text_c10", (classes, test))
    return root


BIRDS = {  # picture number -> class number, class folder, name, box; not in order, as nothing promises one
    7: (1, "001.Auk", "Auk_0001_70", (2.0, 3.0, 10.0, 8.0)),
    3: (1, "001.Auk", "Auk_0002_30", (0.0, 0.0, 26.0, 20.0)),
    9: (2, "002.Wren", "Wren_0003_90", (5.0, 5.0, 6.0, 6.0)),
    4: (3, "003.Jay", "Jay_0004_40", (1.0, 1.0, 6.0, 12.0)),
}


@pytest.fixture
def birds(tmp_path):
    """Four birds in three classes, the last for testing; Auk_0001_70 has the captions "1 first" and "1 second"."""
    root = tmp_path / "birds" / "CUB_200_2011"
    root.mkdir(parents=True)
    lines = {"images": "", "image_class_labels": "", "bounding_boxes": ""}
    for number, (label, of_class, name, box) in BIRDS.items():
        path = root / "images" / of_class / f"{name}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encode(noise(number)))
        lines["images"] += f"{number} {of_class}/{name}.jpg\n"
        lines["image_class_labels"] += f"{number} {label} something else\n"
        lines["bounding_boxes"] += f"{number} {' '.join(map(str, box))}\n"
    for name, text in lines.items():
        (root / f"{name}.txt").write_text(text)
    (root / "classes.txt").write_text("1 001.Auk\n2 002.Wren\n3 003.Jay\n")
    train = {"001.Auk": ["Auk_0001_70", "Auk_0002_30"], "002.Wren": ["Wren_0003_90"]}
    save_captions(root.parent / "text_c10", (train, {"003.Jay": ["Jay_0004_40"]}))
    return root


@pytest.fixture
def own(tmp_path):
    """Ten pictures in five folders of two, with a captions.csv."""
    root = tmp_path / "own"
    lines = ["key,caption"]
    for number in range(10):
        path = root / f"kind {number % 5}" / "deep" / f"p{number}.{'png' if number % 2 else 'JPG'}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encode(noise(number), form="PNG" if number % 2 else "JPEG"))
        key = path.relative_to(root)
        lines.append(f"{key if number < 5 else key.with_suffix('')},flower {number}")
    (root / "captions.csv").write_text("\n".join(lines))
    return root


def contents(path):
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in path.glob("*.tfrecord")}


def keys(found):
    return {split: [entry.key for entry in entries] for split, entries in found.splits.items()}


# ---- flowers


def test_images_labels_and_captions_are_joined_by_number(raw):
    """Train classes 1 and 2 hold images 2 3 7 and 1 5 8, test class 3 holds 4 6."""
    (raw / "jpg" / "._image_00001.jpg").write_bytes(b"junk")
    (raw / "jpg" / "Thumbs.db").write_bytes(b"junk")
    (raw / "text_c10" / "class_00001" / "._image_00002.txt").write_bytes(b"junk")
    found = oxford102.listing(str(raw))
    assert found.split_rule == {"rule": "lists", "files": {"train": "trainvalclasses.txt", "test": "testclasses.txt"}}
    assert (found.missing, found.carrier, found.captioned) == ([], "text files", {"train": 6, "test": 2})
    for split, numbers in (("train", [1, 2, 3, 5, 7, 8]), ("test", [4, 6])):
        examples = list(loading.examples(found.splits[split]))
        assert [example.key for example in examples] == [f"image_{number:05d}" for number in numbers]
        for number, example in zip(numbers, examples, strict=True):
            assert example.class_id == LABELS[number - 1]
            assert example.captions == (f"{number} first", f"{number} second")
            assert example.image == (raw / "jpg" / f"image_{number:05d}.jpg").read_bytes()
            assert (example.mask, example.colour, example.embeddings) == (b"", "", None)


def test_caption_folder_that_contradicts_the_labels_is_named(raw):
    texts = raw / "text_c10"
    shutil.move(texts / "class_00001" / "image_00002.txt", texts / "class_00003" / "image_00002.txt")
    with pytest.raises(ValueError, match=r"image_00002\.txt lies in class class_00003, but .* the class class_00001"):
        oxford102.listing(str(raw))


def test_broken_labels_are_named(raw):
    (raw / "imagelabels.mat").write_bytes(b"not a matrix")
    with pytest.raises(ValueError, match=r"imagelabels\.mat"):
        oxford102.listing(str(raw))
    scipy.io.savemat(raw / "imagelabels.mat", {"labels": np.array([LABELS[:5]], np.uint8)})
    with pytest.raises(ValueError, match="image_0000[678] has no label: .* 1 to 5"):
        oxford102.listing(str(raw))
    for wrong in ([0, 1, 1, 3, 2, 3, 1, 2], [1.5] * 8, []):
        scipy.io.savemat(raw / "imagelabels.mat", {"labels": np.array([wrong], float)})
        with pytest.raises(ValueError, match=r"imagelabels\.mat.*'labels' must hold class numbers from 1 on"):
            oxford102.listing(str(raw))


def test_captions_and_pictures_without_their_partner(tmp_path, raw):
    (raw / "jpg" / "image_00003.jpg").unlink()
    with pytest.raises(ValueError, match=r"Of 8 pictures, 1 without a picture \(first: no .*3\.jpg\)\. .*--skip"):
        oxford102.listing(str(raw))
    (raw / "text_c10" / "class_00002" / "image_00001.txt").unlink()
    (raw / "text_c10" / "class_00003" / "image_00004.txt").write_text(" \n\n")
    with pytest.raises(ValueError, match=r"2 without captions \(first: no captions .*image_00001\.txt for the picture "
                                         r".*image_00001\.jpg; no captions .*4\.txt"):  # fmt: skip
        oxford102.listing(str(raw))
    info, _ = build.build("oxford102", str(raw), str(tmp_path / "records"), skip_missing=True)
    assert info["missing"]["count"] == len(info["missing"]["first"]) == 3
    assert info["missing"]["reasons"] == {"without a picture": 1, "without captions": 2}
    assert [info["splits"][split]["images"] for split in ("train", "test")] == [4, 1]
    assert "left out: 3 (1 without a picture, 2 without captions), first: no picture" in "\n".join(build.remarks(info))


def test_class_in_no_list_is_told(raw):
    (raw / "text_c10" / "trainvalclasses.txt").write_text("class_00001\n")
    with pytest.raises(ValueError, match=r"3 in neither split \(first: class class_00002 of .*image_00001\.jpg"):
        oxford102.listing(str(raw))
    found = oxford102.listing(str(raw), skip_missing=True)
    assert len(found.splits["train"]) == len(found.missing) == 3 and found.captioned == {"train": 3, "test": 2}
    (raw / "text_c10" / "trainvalclasses.txt").write_text("1\n")
    (raw / "text_c10" / "testclasses.txt").write_text("3\n")
    with pytest.raises(ValueError, match="None of the 2 classes .*such as '1', .*such as 'class_00001'"):
        oxford102.listing(str(raw), skip_missing=True)


def test_masks_and_colours_of_the_demo_layout(raw):
    (raw / "masks").mkdir()
    lines = ["key,colour"]
    for number in range(1, 9):
        mask = np.full((20, 26), 255 * (number % 2), np.uint8)
        (raw / "masks" / f"image_{number:05d}.png").write_bytes(encode(mask, "L", "PNG"))
        lines.append(f"image_{number:05d},colour {number}")
    (raw / "colours.csv").write_text("\n".join(lines))
    example = list(loading.examples(oxford102.listing(str(raw)).splits["train"]))[3]
    assert (example.key, example.colour) == ("image_00005", "colour 5")
    assert example.mask == (raw / "masks" / "image_00005.png").read_bytes()
    (raw / "masks" / "image_00005.png").write_bytes(encode(mask[:-1], "L", "PNG"))
    with pytest.raises(ValueError, match=r"masks/image_00005\.png .*\(26, 19\).* must be .*\(26, 20\)"):
        list(loading.examples(oxford102.listing(str(raw)).splits["train"]))


@pytest.mark.parametrize("gone", ["jpg", "imagelabels.mat", "text_c10", ""])
def test_missing_folders_show_the_expected_tree(tmp_path, raw, gone):
    os.rename(raw / gone, tmp_path / "away")
    with pytest.raises(FileNotFoundError, match=r"expected .*jpg/image_00001\.jpg .*imagelabels\.mat.*trainvalclasses"):
        build.build("oxford102", str(raw), str(tmp_path / "records"))


# ---- birds


def test_birds_are_joined_by_number_wherever_the_root_is(birds):
    for raw_dir in (birds.parent, birds):  # above or CUB_200_2011 itself, with text_c10 beside it
        found = cub.listing(str(raw_dir))
        assert keys(found) == {"train": ["Auk_0001_70", "Auk_0002_30", "Wren_0003_90"], "test": ["Jay_0004_40"]}
        entries = found.splits["train"] + found.splits["test"]
        for entry, number in zip(entries, (7, 3, 9, 4), strict=True):
            label, of_class, name, box = BIRDS[number]
            assert (entry.class_id, entry.class_name, entry.box) == (label, of_class, box)
            assert pathlib.Path(entry.image_path) == birds / "images" / of_class / f"{name}.jpg"
            assert entry.captions == (f"{int(name[-5:-3])} first", f"{int(name[-5:-3])} second")


@pytest.mark.parametrize(
    ("name", "line", "text", "words"),
    [
        ("images", 1, "3 002.Wren/Auk_0002_30.jpg", r"images\.txt, line 2: .*label 1, which is 001\.Auk in .*classes"),
        ("images", 1, "3 001.Auk/Auk_0002_30.txt", r"images\.txt, line 2: '001\.Auk/Auk_0002_30\.txt' is not <class"),
        ("images", 1, "3 ../Auk_0002_30.jpg", r"images\.txt, line 2: .* is not <class folder>/<name>\.jpg"),
        ("images", 1, "3 a/b/Auk_0002_30.jpg", r"images\.txt, line 2: .* is not <class folder>/<name>\.jpg"),
        ("images", 1, "3 001.Auk/Auk_0001_70.jpg", r"images\.txt, line 2: .*already in 001\.Auk; names must be unique"),
        ("images", 1, "3", r"images\.txt, line 2: '3' has no second field"),
        ("images", 1, "x 001.Auk/Auk_0002_30.jpg", r"images\.txt, line 2: 'x' must be a number from 1 on"),
        ("images", 1, "7 001.Auk/Auk_0002_30.jpg", r"images\.txt, line 2: the number 7 is there a second time"),
        ("images", 1, "8 001.Auk/Auk_0002_30.jpg", r"images\.txt, line 2: image 8 has no line in .*class_labels\.txt"),
        ("image_class_labels", 3, "4 0", r"image_class_labels\.txt, line 4: '0' must be a number"),
        ("image_class_labels", 3, "4 4", r"images\.txt, line 4: .*label 4, which is nothing in .*classes\.txt"),
        ("bounding_boxes", 2, "9 1.0 2.0 3.0", r"bounding_boxes\.txt, line 3: '1\.0 2\.0 3\.0' must be x, y, width"),
        ("bounding_boxes", 2, "9 1.0 2.0 3.0 nan", r"bounding_boxes\.txt, line 3: .* must be x, y, width"),
        ("bounding_boxes", 2, "8 1.0 2.0 3.0 4.0", r"bounding_boxes\.txt has no line for image 9"),
    ],
)
def test_tables_that_disagree_name_file_and_line(birds, name, line, text, words):
    path = birds / f"{name}.txt"
    lines = path.read_text().splitlines()
    lines[line] = text
    path.write_text("\n".join(lines))
    with pytest.raises(ValueError, match=words) as caught:
        cub.listing(str(birds))
    assert "\n" not in str(caught.value)


def test_partial_birds(tmp_path, birds):
    (birds / "images" / "001.Auk" / "Auk_0001_70.jpg").unlink()
    (birds.parent / "text_c10" / "001.Auk" / "Extra_0005_1.txt").write_text("5 first")
    with pytest.raises(ValueError, match=r"2 without a picture \(first: no picture .*Auk_0001_70\.jpg; no"):
        cub.listing(str(birds))
    found = cub.listing(str(birds), skip_missing=True)
    assert keys(found)["train"] == ["Auk_0002_30", "Wren_0003_90"] and found.captioned == {"train": 4, "test": 1}
    assert "Auk_0001_70" in found.missing[0] and "'Extra_0005_1'" in found.missing[1]
    shutil.rmtree(birds / "images" / "003.Jay")
    with pytest.raises(ValueError, match="The test split has no picture with captions"):
        cub.listing(str(birds), skip_missing=True)


def test_the_older_birds_are_recognised(tmp_path, birds):
    (birds / "lists").mkdir()
    with pytest.raises(ValueError, match="CUB-200 of 2010 .*fetch CUB_200_2011"):
        cub.listing(str(birds))
    (tmp_path / "old" / "annotations-mat").mkdir(parents=True)
    (tmp_path / "old" / "images").mkdir()
    with pytest.raises(FileNotFoundError, match=r"expected .*CUB_200_2011/images/001.*images\.txt.*classes\.txt"):
        cub.listing(str(tmp_path / "empty"))


def test_birds_are_cut_out_by_their_boxes(tmp_path, birds):
    """Box (2, 3, 10, 8): centre (7, 7), R = 7: 0..14 x 0..14 of 26 x 20. Box (1, 1, 6, 12): centre (4, 7), R = 9."""
    info, _ = build.build("cub", str(birds), str(tmp_path / "a"), crop="box", shards=1)
    sizes = {}
    for split in records.SPLITS:
        for example in records.read_examples(str(tmp_path / "a"), split):
            with Image.open(io.BytesIO(example.image)) as picture:
                sizes[example.key] = picture.size
    assert sizes["Auk_0001_70"] == (14, 14) and sizes["Jay_0004_40"] == (13, 16)
    assert info["crop"] == "box"
    with pytest.raises(ValueError, match="choose another folder, or delete it"):
        build.build("cub", str(birds), str(tmp_path / "a"), shards=1)
    (birds / "bounding_boxes.txt").unlink()
    with pytest.raises(ValueError, match=r"bounding_boxes\.txt in .*; 4 pictures have no box"):
        build.build("cub", str(birds), str(tmp_path / "b"), crop="box")
    with pytest.raises(ValueError, match="crop='box' must be none"):
        build.build("oxford102", str(birds), str(tmp_path / "b"), crop="box")


def test_birds_in_frames_of_any_size(tmp_path, birds):
    """Each bird's frame is `geometry.frame_box` by three numbers that its name draws, the same in every build."""
    boxes = {"Auk_0001_70": (2, 3, 10, 8), "Jay_0004_40": (1, 1, 6, 12)}
    info, _ = build.build("cub", str(birds), str(tmp_path / "a"), crop="frames", shards=1)
    again, _ = build.build("cub", str(birds), str(tmp_path / "b"), crop="frames", shards=1)
    assert info["crop"] == "frames" and info["fingerprint"] == again["fingerprint"]
    examples = [example for split in records.SPLITS for example in records.read_examples(str(tmp_path / "a"), split)]
    found = {example.key: Image.open(io.BytesIO(example.image)).size for example in examples}
    for key, box in boxes.items():
        draws = tuple(np.random.default_rng(zlib.crc32(key.encode())).random(3))
        left, top, right, bottom = geometry.crop_rectangle("p", (26, 20), geometry.frame_box((26, 20), box, draws))
        assert found[key] == (right - left, bottom - top)


def test_outlines_of_some_birds_become_their_masks(tmp_path, birds):
    """A file of one bit a pixel, as segmentations.tgz may hold; cut out with its bird: box (1, 1, 6, 12) of the jay
    gives 0..13 x 0..16. The other three have none, so the records as a whole have no masks."""
    outline = noise(5)[..., 0] > 127
    path = birds.parent / "segmentations" / "003.Jay" / "Jay_0004_40.png"
    path.parent.mkdir(parents=True)
    Image.fromarray(outline).save(path)
    info, _ = build.build("cub", str(birds), str(tmp_path / "a"), crop="box", shards=1)
    (jay,) = records.read_examples(str(tmp_path / "a"), "test")
    with Image.open(io.BytesIO(jay.mask)) as mask:
        assert mask.mode == "L"
        np.testing.assert_array_equal(np.asarray(mask), np.where(outline[:16, :13], 255, 0))
    assert not any(example.mask for example in records.read_examples(str(tmp_path / "a"), "train"))
    assert not info["has_masks"] and info["splits"]["test"]["masks"] == 1
    shutil.move(birds.parent / "segmentations", birds / "segmentations")
    assert build.build("cub", str(birds), str(tmp_path / "b"), crop="box")[0]["splits"]["test"]["masks"] == 1


def test_boxes_are_clipped_where_few_leave_their_pictures(tmp_path, birds):
    """Of 26 x 20 pixels. (2, 3, 10, 18) leaves by 1 of 20 below, as one in 104 may, and is clipped to (2, 3, 10, 17):
    centre (7, 11), R = int(0.75 * 17) = 12: 0..19 x 0..20. (0, 0, 26.2, 20) leaves by under a 50th: it is clipped, and
    is counted too, but not among those that may be too many."""
    bird, lines = birds / "images" / "001.Auk" / "Auk_0001_70.jpg", {}
    for name in ("images", "image_class_labels", "bounding_boxes"):
        lines[name] = (birds / f"{name}.txt").read_text()
    lines["bounding_boxes"] = "7 2.0 3.0 10.0 18.0\n3 0.0 0.0 26.2 20.0\n9 5.0 5.0 6.0 6.0\n4 1.0 1.0 6.0 12.0\n"
    texts = birds.parent / "text_c10" / "001.Auk"
    for number in range(100, 200):
        shutil.copy(bird, bird.with_name(f"Auk_1{number}_1.jpg"))
        (texts / f"Auk_1{number}_1.txt").write_text("a bird")
        lines["images"] += f"{number} 001.Auk/Auk_1{number}_1.jpg\n"
        lines["image_class_labels"] += f"{number} 1\n"
        lines["bounding_boxes"] += f"{number} 5.0 5.0 6.0 6.0\n"
    for name, text in lines.items():
        (birds / f"{name}.txt").write_text(text)
    info, _ = build.build("cub", str(birds), str(tmp_path / "a"), crop="box", shards=1)
    assert info["clipped_boxes"] == 2 and "2 boxes left their pictures" in " ".join(build.remarks(info))
    for example in records.read_examples(str(tmp_path / "a"), "train"):
        if example.key == "Auk_0001_70":
            with Image.open(io.BytesIO(example.image)) as picture:
                assert picture.size == (19, 20)
    lines["bounding_boxes"] = lines["bounding_boxes"].replace("9 5.0 5.0 6.0 6.0\n4", "9 5.0 5.0 6.0 16.0\n4")
    (birds / "bounding_boxes.txt").write_text(lines["bounding_boxes"])
    with pytest.raises(ValueError, match=r"2 of 104 boxes leave .*Auk_0001_70\.jpg .* of 10x18 at \(2, 3\)"):
        build.build("cub", str(birds), str(tmp_path / "b"), crop="box")


def test_squashed_birds_are_not_cut(tmp_path, birds):
    (birds / "bounding_boxes.txt").write_text("".join(f"{number} 30.0 1.0 10.0 10.0\n" for number in BIRDS))
    told = r"4 of 4 boxes leave .*Auk_0001_70\.jpg is 26x20, but its bounding box of 10x10 at \(30, 1\)"
    with pytest.raises(ValueError, match=told):
        build.build("cub", str(birds), str(tmp_path / "records"), crop="box")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["birds"]


# ---- one's own pictures


def test_own_pictures_with_a_table(own):
    """Five classes, a tenth of them for testing: one. Keys are paths without ending, however the table writes them."""
    (own / "__MACOSX").mkdir()
    (own / "__MACOSX" / "p0.jpg").write_bytes(b"junk")
    (own / "kind 1" / "._p1.png").write_bytes(b"junk")
    (own / "notes.txt").write_text("x")
    found = folder.listing(str(own))
    assert found.split_rule == {"rule": "seeded", "seed": 0, "test_share": 0.1}
    assert (found.carrier, len(found.splits["train"]), len(found.splits["test"])) == ("csv", 8, 2)
    entries = sorted(found.splits["train"] + found.splits["test"], key=lambda entry: entry.captions)
    assert [entry.key for entry in entries] == [f"kind {n % 5}/deep/p{n}" for n in range(10)]
    assert [entry.class_id for entry in entries] == [n % 5 + 1 for n in range(10)]
    assert [entry.captions for entry in entries] == [(f"flower {n}",) for n in range(10)]
    half = folder.listing(str(own), test_share=0.5, split_seed=3)
    assert len({entry.class_id for entry in half.splits["test"]}) == 3  # 2.5, rounded up


def test_own_pictures_of_which_one_lies_in_no_folder_have_no_classes(own):
    (own / "top.webp").write_bytes(encode(noise(0), form="WEBP"))
    with open(own / "captions.csv", "a") as file:
        file.write("\ntop,a leaf")
    found = folder.listing(str(own), test_share=0.2)
    entries = found.splits["train"] + found.splits["test"]
    assert {entry.class_id for entry in entries} == {0} and len(found.splits["test"]) == 2  # a fifth of 11
    assert found.split_rule["of"] == "pictures" and "1 pictures lie in no folder" in found.remarks[0]


def test_own_class_lists(tmp_path, own):
    for name, classes in (("a.txt", "kind 0\nkind 1\nkind 2\nkind 3"), ("b.txt", "kind 4")):
        (tmp_path / name).write_text(classes)
    lists = {"train_classes": str(tmp_path / "a.txt"), "test_classes": str(tmp_path / "b.txt")}
    found = folder.listing(str(own), **lists)
    assert keys(found)["test"] == ["kind 4/deep/p4", "kind 4/deep/p9"]
    assert found.split_rule == {"rule": "lists", "files": {"train": "a.txt", "test": "b.txt"}}
    with pytest.raises(ValueError, match="test_share=0.3 and lists of classes exclude each other"):
        folder.listing(str(own), test_share=0.3, **lists)
    with pytest.raises(ValueError, match="train_classes='' and test_classes='x': give both"):
        folder.listing(str(own), test_classes="x")
    with pytest.raises(ValueError, match="test_share=1.5 must be 0 .* and under 1"):
        folder.listing(str(own), test_share=1.5)


def test_own_pictures_that_cannot_be_told_apart_or_joined(tmp_path, own):
    table = (own / "captions.csv").read_text()
    (own / "captions.csv").write_text(table + "\nkind 0/deep/p0,again")
    with pytest.raises(ValueError, match=r"line 12: 'kind 0/deep/p0' and .* are one picture, kind 0/deep/p0; write"):
        folder.listing(str(own))
    (own / "captions.csv").write_text(table.replace("kind 0/deep/p5", "kind 0/p5"))
    with pytest.raises(ValueError, match="1 without a picture .*'kind 0/p5'.*1 without captions .*kind 0/deep/p5"):
        folder.listing(str(own))
    (own / "captions.csv").write_text("key,caption\n1,red\n2,blue")
    with pytest.raises(ValueError, match="None of the 10 pictures .*such as 'kind 0/deep/p0', .*such as '1'"):
        folder.listing(str(own), skip_missing=True)
    (own / "captions.csv").unlink()
    with pytest.raises(FileNotFoundError, match=r"captions\.csv"):
        folder.listing(str(own))
    (own / "kind 0" / "deep" / "p0.png").write_bytes(b"x")
    with pytest.raises(ValueError, match=r"p0\.JPG and .*p0\.png would both be 'kind 0/deep/p0'"):
        folder.listing(str(own))
    with pytest.raises(FileNotFoundError, match=r"No pictures in .*expected .*captions\.csv"):
        os.mkdir(tmp_path / "bare")
        folder.listing(str(tmp_path / "bare"))
    with pytest.raises(FileNotFoundError, match="No folder"):
        folder.listing(str(tmp_path / "nowhere"))


# ---- splits


def test_own_split_is_a_ranking_by_hash():
    """By hand: the classes in the order of sha256("seed/name"), the first rounded share of them for testing."""
    names = [f"class_{n:05d}" for n in range(1, 103)]
    for seed, share, count in ((0, 0.2, 20), (7, 0.2, 20), (0, 0.001, 1), (0, 0.999, 101)):
        found = listing.own_split(reversed(names), share, seed)
        test = sorted(name for name in names if found[name] == "test")
        ranked = sorted(names, key=lambda name: hashlib.sha256(b"%d/%s" % (seed, name.encode())).hexdigest())
        assert test == sorted(ranked[:count])
    assert listing.own_split(names, 0.2, 0) != listing.own_split(names, 0.2, 7)
    with pytest.raises(ValueError, match="1 classes or pictures cannot be split"):
        listing.own_split(["a", "a"], 0.5, 0)


def test_a_drawn_split_is_written_down_and_disjoint(tmp_path, raw):
    info, _ = build.build("oxford102", str(raw), str(tmp_path / "a"), test_share=0.4, split_seed=5)
    assert info["split_rule"] == {"rule": "seeded", "seed": 5, "test_share": 0.4}
    train, test = (info["splits"][split]["class_ids"] for split in records.SPLITS)
    assert sorted(train + test) == [1, 2, 3] and len(test) == 1
    assert "40% of the classes for testing, drawn with split_seed=5" in "\n".join(build.remarks(info))
    (raw / "text_c10" / "trainvalclasses.txt").unlink()
    (raw / "text_c10" / "testclasses.txt").unlink()
    assert build.build("oxford102", str(raw), str(tmp_path / "a"), test_share=0.4, split_seed=5)[1] is False
    with pytest.raises(FileNotFoundError, match=r"trainvalclasses\.txt.*--train_classes.*--test_share"):
        oxford102.listing(str(raw))


def test_splits_of_the_archives_pickles(birds):
    """StackGAN's archive has text_c10 without class lists, and names the pictures of each split beside it."""
    import pickle

    for name in ("trainvalclasses.txt", "testclasses.txt"):
        (birds.parent / "text_c10" / name).unlink()
    for split, names in (("train", ["001.Auk/Auk_0001_70", "001.Auk/Auk_0002_30"]), ("test", ["003.Jay/Jay_0004_40"])):
        (birds.parent / split).mkdir()
        (birds.parent / split / "filenames.pickle").write_bytes(pickle.dumps(names, 0))
    found = cub.listing(str(birds.parent), skip_missing=True)
    assert found.split_rule == {"rule": "captions"} and keys(found)["test"] == ["Jay_0004_40"]
    assert list(found.reasons) == ["in neither split"]
    assert len(found.missing) == 1 and "Wren_0003_90" in found.missing[0]
    names = ["003.Jay/Jay_0004_40", "001.Auk/Auk_0002_30"]
    (birds.parent / "train" / "filenames.pickle").write_bytes(pickle.dumps(["001.Auk/Auk_0001_70"], 2))
    (birds.parent / "test" / "filenames.pickle").write_bytes(pickle.dumps(names, 2))
    with pytest.raises(ValueError, match=r"Class '001\.Auk' is in both splits \(1 such\)"):
        cub.listing(str(birds.parent), skip_missing=True)


# ---- the build


def test_build_writes_class_disjoint_splits_whose_bytes_do_not_depend_on_workers(tmp_path, raw, monkeypatch):
    monkeypatch.setattr(loading, "CHUNK", 2)  # so that eight pictures are work for several threads
    (raw / "jpg" / "image_00002.jpg").write_bytes(encode(noise(2), "L"))  # one that is written anew
    infos = []
    for workers in (1, 2, 4, 0):
        out = tmp_path / f"w{workers}"
        infos.append(build.build("oxford102", str(raw), str(out), workers=workers, shards=3)[0])
        assert contents(out) == contents(tmp_path / "w1") and len(contents(out)) == 6
        assert (out / "dataset.json").read_bytes() == (tmp_path / "w1" / "dataset.json").read_bytes()
    info = infos[0]
    train, test = info["splits"]["train"], info["splits"]["test"]
    assert (train["images"], train["captions"], train["class_ids"]) == (6, 12, [1, 2])
    assert (test["images"], test["captions"], test["class_ids"]) == (2, 4, [3])
    assert info == json.loads((tmp_path / "w1" / "dataset.json").read_text()) and not info["has_masks"]
    assert (info["carrier"], info["crop"], info["stored_size"]) == ("text files", "none", 0)
    assert (info["embeddings"], info["duplicates"], info["missing"]["count"]) == (None, [], 0)
    found = {split: {e.key for e in records.read_examples(str(tmp_path / "w1"), split)} for split in records.SPLITS}
    assert not found["train"] & found["test"] and len(found["train"] | found["test"]) == 8
    assert sorted(path.name for path in tmp_path.iterdir()) == ["raw", "w0", "w1", "w2", "w4"]


def test_stored_size_and_duplicates(tmp_path, raw):
    """Image 6 of the test class is a copy of image 5 of a training class."""
    shutil.copy(raw / "jpg" / "image_00005.jpg", raw / "jpg" / "image_00006.jpg")
    info, _ = build.build("oxford102", str(raw), str(tmp_path / "a"), stored_size=16)
    assert info["duplicates"] == [["image_00005", "image_00006"]] and info["stored_size"] == 16
    assert "note: 1 pictures are in both splits, such as image_00005 = image_00006" in build.remarks(info)
    for example in records.read_examples(str(tmp_path / "a"), "train"):
        with Image.open(io.BytesIO(example.image)) as picture:
            assert picture.size == (21, 16)  # 26 * 16 / 20 = 20.8
    with pytest.raises(ValueError, match="stored_size=8 must be 0 .* or 16 to 4096"):
        build.build("oxford102", str(raw), str(tmp_path / "b"), stored_size=8)


def test_embeddings_go_into_the_records_by_key(tmp_path, raw):
    """Row j of image n is (n, j, 1); the file has the pictures in another order, and one more than there are."""
    numbers = [8, 1, 3, 2, 7, 6, 4, 5, 99]
    rows = np.array([[[n, j, 1] for j in range(2)] for n in numbers], np.float32)
    names = np.array([f"image_{n:05d}" for n in numbers])
    np.savez(tmp_path / "mine.npz", keys=names, embeddings=rows)
    info, _ = build.build("oxford102", str(raw), str(tmp_path / "a"), embeddings_path=str(tmp_path / "mine.npz"))
    assert info["embeddings"].keys() == {"name", "dim", "scale", "source", "fingerprint"}
    assert (info["embeddings"]["name"], info["embeddings"]["dim"]) == ("mine", 3)
    for split in records.SPLITS:
        for example in records.read_examples(str(tmp_path / "a"), split):
            number = int(example.key[-5:])
            np.testing.assert_array_equal(example.embeddings, [[number, 0, 1], [number, 1, 1]])
    plain, _ = build.build("oxford102", str(raw), str(tmp_path / "b"))
    assert plain["fingerprint"] == info["fingerprint"]
    again = build.build("oxford102", str(raw), str(tmp_path / "a"), embeddings_path=str(tmp_path / "mine.npz"))
    assert again[1] is False
    with pytest.raises(ValueError, match="choose another folder, or delete it"):
        build.build("oxford102", str(raw), str(tmp_path / "a"))
    (raw / "jpg" / "image_00001.jpg").write_bytes(b"broken")  # the embeddings are looked at before any picture
    for changed_names, changed_rows, words in (
        (names[1:], rows[1:], "1 of 8 pictures have no embeddings, such as 'image_00008'"),
        (names, rows[:, :1], "'image_00001' has 1 embeddings and 2 captions"),
    ):
        np.savez(tmp_path / "other.npz", keys=changed_names, embeddings=changed_rows)
        with pytest.raises(ValueError, match=words):
            build.build("oxford102", str(raw), str(tmp_path / "c"), embeddings_path=str(tmp_path / "other.npz"))


def test_a_second_build_leaves_the_same_alone_and_refuses_another(tmp_path, raw):
    out = tmp_path / "records"
    build.build("oxford102", str(raw), str(out), shards=1)
    before = {path: path.stat().st_mtime_ns for path in out.iterdir()}
    assert build.build("oxford102", str(raw), str(out), shards=1)[1] is False
    assert {path: path.stat().st_mtime_ns for path in out.iterdir()} == before
    for changed in ({"shards": 2}, {"stored_size": 16}, {"test_share": 0.5}, {}):
        if not changed:
            (raw / "text_c10" / "class_00001" / "image_00002.txt").write_text("another")
        with pytest.raises(ValueError, match="choose another folder, or delete it"):
            build.build("oxford102", str(raw), str(out), **{"shards": 1, **changed})
    (out / "dataset.json").unlink()
    with pytest.raises(ValueError, match="choose another folder, or delete it"):
        build.build("oxford102", str(raw), str(out), shards=1)


def test_a_corrupt_picture_stops_the_build_and_leaves_nothing(tmp_path, raw):
    path = raw / "jpg" / "image_00005.jpg"
    path.write_bytes(path.read_bytes()[:-300])
    with pytest.raises(ValueError, match=r"image_00005\.jpg is not a readable picture"):
        build.build("oxford102", str(raw), str(tmp_path / "records"))
    assert [entry.name for entry in tmp_path.iterdir()] == ["raw"]


def test_a_full_disk_leaves_nothing(tmp_path, raw):
    for number in (1, 2, 3):
        (raw / "jpg" / f"image_{number:05d}.jpg").write_bytes(encode(noise(number, 200, 200), quality=95))
    with full_disk(50_000), pytest.raises(OSError, match="Cannot write the train records") as caught:
        build.build("oxford102", str(raw), str(tmp_path / "records"), shards=1)
    assert "\n" not in str(caught.value)
    assert [entry.name for entry in tmp_path.iterdir()] == ["raw"]


KILLED = """
import os, signal, sys
from data import build, records
write, where = records.write_shard, (sys.argv[3], int(sys.argv[4]))

def dies(out_dir, split, shard, shards, examples):
    def cut_off(number):
        for example in examples(number):
            yield example
            os.kill(os.getpid(), signal.SIGKILL)
    return write(out_dir, split, shard, shards, cut_off if (split, shard) == where else examples)

records.write_shard = dies
build.build("oxford102", sys.argv[1], sys.argv[2], shards=3)
"""


def killed_build(raw, out, split, shard):
    """The process of a build that kills itself, as kill -9 does, when the first example of a shard is written."""
    died = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(raw), str(out), split, str(shard)], cwd=ROOT, stderr=subprocess.DEVNULL
    )
    assert died.wait() == -9 and not out.exists()
    return died


def test_a_killed_build_leaves_nothing_that_looks_finished_and_the_next_completes(tmp_path, raw):
    """In the test split; the train split is written then."""
    out = tmp_path / "records"
    died = killed_build(raw, out, "test", 0)
    left = list(tmp_path.glob(".records.writing-*"))
    assert [path.name.split("-")[-2] for path in left] == [str(died.pid)]
    assert list((left[0] / "new").glob("train-*")) and list((left[0] / "new").glob("test-*"))
    with pytest.raises(FileNotFoundError, match=r"No dataset\.json"):
        records.read_info(str(left[0] / "new"))
    assert build.build("oxford102", str(raw), str(out), shards=3)[1] is True
    build.build("oxford102", str(raw), str(tmp_path / "undisturbed"), shards=3)
    assert contents(out) == contents(tmp_path / "undisturbed")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["raw", "records", "undisturbed"]


def test_a_killed_build_goes_on_from_its_last_whole_shard(tmp_path, raw, capfd):
    """kill -9 in the third of three training shards. Of the first two no picture is read again: they are spoilt."""
    build.build("oxford102", str(raw), str(tmp_path / "undisturbed"), shards=3)
    keys = [example.key for example in records.read_examples(str(tmp_path / "undisturbed"), "train")]
    out = tmp_path / "records"
    killed_build(raw, out, "train", 2)
    assert len(list(tmp_path.glob(".records.writing-*/new/*"))) == 4
    for key in (keys[0], keys[1]):  # of the same size, but no pictures: reading one would stop the build
        path = raw / "jpg" / f"{key}.jpg"
        path.write_bytes(b"x" * path.stat().st_size)
    capfd.readouterr()
    assert build.build("oxford102", str(raw), str(out), shards=3)[1] is True
    assert "2 of 6 shards are whole already, and taken over" in capfd.readouterr().out
    for path in (tmp_path / "undisturbed").iterdir():
        assert (out / path.name).read_bytes() == path.read_bytes(), path.name
    assert sorted(path.name for path in tmp_path.iterdir()) == ["raw", "records", "undisturbed"]


def test_parts_are_joined_and_checked(tmp_path, raw):
    """Parts 1 and 2 of 3 by themselves; the whole command builds the third, and ends as it does without parts."""
    out, parts = str(tmp_path / "records"), tmp_path / "records.parts"
    build.build("oxford102", str(raw), str(tmp_path / "undisturbed"), shards=4)
    for part, there in (((1, 3), 4), ((2, 3), 6), ((2, 3), 6)):  # shards 0 and 3, then 1, of two splits
        info, written = build.build("oxford102", str(raw), out, shards=4, part=part)
        assert info == {"parts": there, "shards": 8} and not os.path.exists(out)
    assert written is False
    with pytest.raises(ValueError, match="holds parts of another build"):
        build.build("oxford102", str(raw), out, shards=4, stored_size=16)
    with pytest.raises(ValueError, match=r"part=2/5 must be 1/N to N/N, N at most the 4 of --shards"):
        build.build("oxford102", str(raw), out, shards=4, part=(2, 5))
    shard = parts / "train-00001-of-00004.tfrecord"
    good = shard.read_bytes()
    shard.write_bytes(good[:-2] + b"??")
    with pytest.raises(ValueError, match=r"train-00001-of-00004\.tfrecord is damaged: record"):
        build.build("oxford102", str(raw), out, shards=4)
    shard.write_bytes(good)
    assert build.build("oxford102", str(raw), out, shards=4)[1] is True
    for path in (tmp_path / "undisturbed").iterdir():
        assert (tmp_path / "records" / path.name).read_bytes() == path.read_bytes(), path.name
    assert sorted(path.name for path in tmp_path.iterdir()) == ["raw", "records", "undisturbed"]


def test_a_folder_that_another_build_filled_meanwhile_is_left_alone(tmp_path, raw, monkeypatch):
    """It was empty when this build began."""
    out = tmp_path / "records"
    out.mkdir()
    write = records.write_split

    def meanwhile(*arguments):
        (out / "dataset.json").write_text("another's")
        return write(*arguments)

    monkeypatch.setattr(records, "write_split", meanwhile)
    with pytest.raises(OSError, match="not empty"):
        build.build("oxford102", str(raw), str(out))
    assert [(path.name, path.read_text()) for path in out.iterdir()] == [("dataset.json", "another's")]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["raw", "records"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"dataset": "coco"}, "dataset='coco' must be one of demo, cub, oxford102, folder"),
        ({"shards": 0}, "shards=0 must be 1 to 10,000"),
        ({"shards": 10**9}, "shards=1000000000 must be 1 to 10,000"),
        ({"workers": -1}, "workers=-1 must be 0"),
        ({"crop": "square"}, "crop='square' must be none, box or frames"),
    ],
)
def test_bad_arguments_are_named(tmp_path, raw, arguments, words):
    with pytest.raises(ValueError, match=words):
        build.build(**{"dataset": "oxford102", "raw_dir": str(raw), "out_dir": str(tmp_path / "records"), **arguments})


def test_demo_set_is_drawn_first_and_brings_masks_and_colours(tmp_path, monkeypatch):
    monkeypatch.setattr(demo, "write", functools.partial(demo.write, images_per_class=2, classes=6, size=32, workers=1))
    info, _ = build.build("demo", str(tmp_path / "raw"), str(tmp_path / "records"), shards=2)
    assert info["has_masks"] and info["missing"]["count"] == 0
    assert sum(part["images"] for part in info["splits"].values()) == 12
    for split in records.SPLITS:
        for example in records.read_examples(str(tmp_path / "records"), split):
            assert example.mask and example.colour and all(example.colour in text for text in example.captions)
    assert build.build("demo", str(tmp_path / "raw"), str(tmp_path / "records"), shards=2)[1] is False
    build.build("demo", str(tmp_path / "raw"), str(tmp_path / "small"), stored_size=16)
    example = next(iter(records.read_examples(str(tmp_path / "small"), "train")))
    assert Image.open(io.BytesIO(example.mask)).size == Image.open(io.BytesIO(example.image)).size == (16, 16)


def test_command_prints_counts_and_the_next_command(tmp_path, own):
    out = tmp_path / "records"
    done = run("-m", "data.build", "--dataset=folder", f"--raw_dir={own}", f"--out_dir={out}")
    lines = [line.split() for line in done.stdout.splitlines()]
    assert ["train", "4", "8", "8", "1"] in lines and ["test", "1", "2", "2", "1"] in lines
    assert lines[-1][:5] == ["next:", "python", "-m", "simgan_tf.text.train", f"--records_dir={out}"]
    assert "10% of the classes for testing, drawn with split_seed=0" in done.stdout
    assert json.loads((out / "dataset.json").read_text())["command"].startswith("python -m data.build --dataset=folder")


# ---- the photographs of ../shared/data


@pytest.mark.parametrize("dataset", ["cub", "oxford102"])
def test_real_photographs(tmp_path, dataset):
    """24 pictures of four classes, one of them for testing; bytes and captions are those of the files."""
    if not MINI.is_dir():
        pytest.skip("the photographs of ../shared/data/mini are not on this machine")
    info, _ = build.build(dataset, str(MINI / dataset), str(tmp_path / "records"))
    found = {split: list(records.read_examples(str(tmp_path / "records"), split)) for split in records.SPLITS}
    assert (len(found["train"]), len(found["test"])) == (18, 6) and info["captioned"] == {"train": 18, "test": 6}
    assert [len(info["splits"][split]["class_ids"]) for split in records.SPLITS] == [3, 1]
    pictures = {path.stem: path for path in (MINI / dataset).rglob("*.jpg")}
    texts = {path.stem: path for path in (MINI / dataset / "text_c10").glob("*/*.txt")}
    for example in found["train"] + found["test"]:
        assert example.image == pictures.pop(example.key).read_bytes()
        lines = texts[example.key].read_text().splitlines()
        assert list(example.captions) == [line.strip() for line in lines if line.strip()]
    assert not pictures


@pytest.mark.slow
def test_the_real_sets(tmp_path):
    """All that ../shared/data has; the birds with AttnGAN's captions are the birds with Reed's, as both are words."""
    if not (MINI.parent / "cub.tar").is_file():
        pytest.skip("../shared/data/cub.tar and oxford102.tar are not on this machine")
    for name in ("cub", "oxford102"):
        with tarfile.open(MINI.parent / f"{name}.tar") as tar:
            tar.extractall(tmp_path / "raw" / name, filter="data")
    raw_cub, raw_flowers = tmp_path / "raw" / "cub" / "cub", tmp_path / "raw" / "oxford102" / "oxford102"
    with pytest.raises(ValueError, match="Of 11,788 pictures, 5,886 without a picture"):
        build.build("cub", str(raw_cub), str(tmp_path / "birds"))
    with pytest.raises(ValueError, match="is 160x160, but its bounding box of .* leaves it"):
        build.build("cub", str(raw_cub), str(tmp_path / "birds"), skip_missing=True, crop="box")
    birds, _ = build.build("cub", str(raw_cub), str(tmp_path / "birds"), skip_missing=True)
    assert birds["captioned"] == {"train": 8855, "test": 2933} and birds["missing"]["count"] == 5886
    assert sum(part["images"] for part in birds["splits"].values()) == 5902
    texts = str(raw_cub / "attngan_birds")
    again, _ = build.build("cub", str(raw_cub), str(tmp_path / "again"), texts, skip_missing=True)
    assert again["fingerprint"] == birds["fingerprint"] and again["split_rule"] == {"rule": "captions"}
    flowers, _ = build.build("oxford102", str(raw_flowers), str(tmp_path / "flowers"))
    assert flowers["captioned"] == {"train": 7034, "test": 1155} and not flowers["missing"]["count"]
    assert tuple(flowers["splits"][split]["images"] for split in records.SPLITS) == oxford102.PUBLISHED


@pytest.mark.parametrize("layout", [cub, oxford102, folder])
def test_an_archive_as_raw_dir_is_told_to_be_unpacked(layout, tmp_path):
    (tmp_path / "birds.tgz").write_bytes(b"x")
    with pytest.raises(ValueError, match=r"birds\.tgz' is a file; .*tar -xf"):
        layout.listing(str(tmp_path / "birds.tgz"))
