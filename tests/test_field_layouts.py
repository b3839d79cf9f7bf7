"""CUB and Oxford-102 as archives, Kaggle and torchvision lay them out, and with other endings."""

import pathlib

import numpy as np
import pytest
import scipy.io
from PIL import Image

from data import cub, oxford102

LABELS = (1, 2, 2, 1, 3)  # of image_00001 on


def picture(path: pathlib.Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (12, 10), "red").save(path, "PNG" if path.suffix.lower() == ".png" else "JPEG")


def flowers(raw: pathlib.Path, place, texts: str, labels: str = "") -> dict[str, str]:
    """Draws five flowers and their captions; returns caption by key. place(number, label) -> path below raw."""
    for number, label in enumerate(LABELS, start=1):
        picture(raw / place(number, label))
        text = raw / texts / f"class_{label:05d}" / f"image_{number:05d}.txt"
        text.parent.mkdir(parents=True, exist_ok=True)
        text.write_text(f"flower {number}\n")
    (raw / texts / "trainvalclasses.txt").write_text("class_00001\nclass_00002\n")
    (raw / texts / "testclasses.txt").write_text("class_00003\n")
    if labels:
        (raw / labels).parent.mkdir(parents=True, exist_ok=True)
        scipy.io.savemat(raw / labels, {"labels": np.array([LABELS], np.uint8)})
    return {f"image_{n:05d}": f"flower {n}" for n in range(1, 6)}


KAGGLE = ("train", "valid", "test")


@pytest.mark.parametrize(
    ("place", "texts", "labels"),
    [
        (lambda n, label: f"jpg/image_{n:05d}.JPG", "text_c10", "imagelabels.mat"),
        (lambda n, label: f"jpg/image_{n:05d}.png", "text_c10", "imagelabels.mat"),
        (lambda n, label: f"flowers-102/jpg/image_{n:05d}.jpg", "text_c10", "flowers-102/imagelabels.mat"),
        (lambda n, label: f"102flowers/jpg/image_{n:05d}.jpg", "cvpr2016_flowers/text_c10", "imagelabels.mat"),  # Reed
        (lambda n, label: f"dataset/{KAGGLE[n % 3]}/{label}/image_{n:05d}.jpg", "text_c10", ""),  # Kaggle
        (lambda n, label: f"{KAGGLE[n % 3]}/{label}/image_{n:05d}.jpg", "cvpr2016_flowers/text_c10", ""),
        (lambda n, label: f"train/{label}/image_{n:05d}.jpg" if n < 4 else f"test/image_{n:05d}.jpg", "text_c10", ""),
    ],
)
def test_flowers_as_they_are_passed_around(tmp_path, place, texts, labels):
    expected = flowers(tmp_path, place, texts, labels)
    found = oxford102.listing(str(tmp_path))
    entries = {entry.key: entry for of_split in found.splits.values() for entry in of_split}
    assert {key: entry.captions[0] for key, entry in entries.items()} == expected
    assert [entries[f"image_{n:05d}"].class_id for n in range(1, 6)] == list(LABELS)
    assert all(pathlib.Path(entry.image_path).is_file() for entry in entries.values())
    assert [entry.key for entry in found.splits["test"]] == ["image_00005"]


def test_folders_and_labels_that_disagree(tmp_path):
    flowers(tmp_path, lambda n, label: f"train/{label % 3 + 1}/image_{n:05d}.jpg", "text_c10", "imagelabels.mat")
    with pytest.raises(ValueError, match=r"train/2/image_00001\.jpg lies in a folder of another number than 1"):
        oxford102.listing(str(tmp_path))


def test_flowers_without_labels(tmp_path):
    flowers(tmp_path, lambda n, label: f"jpg/image_{n:05d}.jpg", "text_c10")
    with pytest.raises(FileNotFoundError, match=r"imagelabels\.mat"):
        oxford102.listing(str(tmp_path))


@pytest.mark.parametrize(("ending", "listed"), [(".JPG", ".jpg"), (".png", ".jpg"), (".png", ".png")])
def test_birds_under_other_endings(tmp_path, ending, listed):
    root, classes = tmp_path / "CUB_200_2011", ("001.Auk", "002.Jay")
    for i, name in enumerate(classes):
        picture(root / "images" / name / f"bird_{i}{ending}")
        text = tmp_path / "text_c10" / name / f"bird_{i}.txt"
        text.parent.mkdir(parents=True)
        text.write_text(f"bird {i}\n")
    (root / "images.txt").write_text("".join(f"{i + 1} {c}/bird_{i}{listed}\n" for i, c in enumerate(classes)))
    (root / "image_class_labels.txt").write_text("1 1\n2 2\n")
    (root / "classes.txt").write_text("".join(f"{i + 1} {c}\n" for i, c in enumerate(classes)))
    (tmp_path / "text_c10" / "trainvalclasses.txt").write_text("001.Auk\n")
    (tmp_path / "text_c10" / "testclasses.txt").write_text("002.Jay\n")
    found = cub.listing(str(tmp_path))
    for i, entries in enumerate(found.splits.values()):
        assert [(entry.key, entry.captions) for entry in entries] == [(f"bird_{i}", (f"bird {i}",))]
        assert entries[0].image_path.endswith(f"bird_{i}{ending}") and pathlib.Path(entries[0].image_path).is_file()
