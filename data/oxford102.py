"""Oxford-102 flowers (and the demo set, of the same layout) with Reed's captions, joined by image number.
Must not know records' bytes, batches or a model."""

import csv
import dataclasses
import os
import re
import zlib
from collections.abc import Iterator

import numpy as np
import scipy.io
from scipy.io.matlab import MatReadError

from data import captions, records

PUBLISHED = (7034, 1155)  # pictures of the training and test classes. Source: StackGAN, Reed's class lists
KEY = re.compile(r"image_(\d{5})")
CLASS_DIR = re.compile(r"class_(\d{5})")


@dataclasses.dataclass(frozen=True)
class Entry:
    """What one example will be made of; only the captions have been read."""

    key: str  # "image_00001"
    class_id: int  # 1..102
    image_path: str
    captions: tuple[str, ...]
    mask_path: str = ""
    colour: str = ""


@dataclasses.dataclass(frozen=True)
class Listing:
    """All entries of the raw folders, and what had to be left out."""

    splits: dict[str, list[Entry]]  # "train", "test"; in key order
    missing: list[str]  # one line for each picture or caption file left out


def listing(raw_dir: str, captions_dir: str = "", skip_missing: bool = False) -> Listing:
    """Every flower of both splits, in key order, with its captions; pictures are not opened yet.

    Joins image number n, label labels[n-1] of imagelabels.mat and folder class_%05d of that label by number, never by
    position in a folder, and holds all three to agree. setid.mat is not read: its splits share classes.

    captions_dir: "" = raw_dir/text_c10.
    skip_missing: whether pictures without captions, captions without pictures and classes in neither list are left
        out and told in `missing`, or raise.

    Raises: FileNotFoundError with the expected tree; ValueError naming the file where two sources disagree.
    """
    captions_dir = captions_dir or os.path.join(raw_dir, "text_c10")
    image_dir, label_path = os.path.join(raw_dir, "jpg"), os.path.join(raw_dir, "imagelabels.mat")
    for path in (raw_dir, image_dir, label_path, captions_dir):
        if not os.path.exists(path):
            raise FileNotFoundError(f"No {path!r}; {_tree(raw_dir, captions_dir)}")
    lists = captions.class_lists(captions_dir)
    labels = _read_labels(label_path)
    pictures = {stem for stem in captions.stems(image_dir, ".jpg") if KEY.fullmatch(stem)}
    if not pictures:
        raise FileNotFoundError(f"No image_*.jpg in {image_dir!r}; {_tree(raw_dir, captions_dir)}")

    split_of = {name: split for split, names in lists.items() for name in names}
    texts = _read_texts(captions_dir, sorted(split_of), labels, label_path)
    masks_dir = os.path.join(raw_dir, "masks")
    has_masks, colours = os.path.isdir(masks_dir), _read_colours(os.path.join(raw_dir, "colours.csv"))

    splits, missing = {split: [] for split in lists}, []
    for key in sorted(pictures | texts.keys()):
        class_id = _label(key, labels, label_path)
        class_dir = f"class_{class_id:05d}"
        image_path = os.path.join(image_dir, key + ".jpg")
        text_path = os.path.join(captions_dir, class_dir, key + ".txt")
        if class_dir not in split_of:
            missing.append(f"class {class_dir} of {image_path} is in neither class list of {captions_dir}")
        elif key not in pictures:
            missing.append(f"no picture {image_path} for the captions {text_path}")
        elif not texts.get(key):
            missing.append(f"no captions {text_path} for the picture {image_path}")
        else:
            mask_path = os.path.join(masks_dir, key + ".png") if has_masks else ""
            if colours is not None and key not in colours:
                raise ValueError(f"{os.path.join(raw_dir, 'colours.csv')} has no line for {key}; add it.")
            colour = colours[key] if colours is not None else ""
            splits[split_of[class_dir]].append(Entry(key, class_id, image_path, texts[key], mask_path, colour))
    if missing and not skip_missing:
        raise ValueError(
            f"{missing[0]} ({len(missing)} such in all); complete the folders, or leave these out: --skip_missing"
        )
    for split, entries in splits.items():
        if not entries:
            raise ValueError(f"The {split} split of {raw_dir!r} is empty; {_tree(raw_dir, captions_dir)}")
    return Listing(splits, missing)


def load(entry: Entry) -> records.Example:
    """The entry with its picture and mask read and checked.

    Raises: ValueError or FileNotFoundError naming the file.
    """
    image = records.read_picture(entry.image_path)
    mask = records.read_mask(entry.mask_path, image) if entry.mask_path else b""
    return records.Example(image, entry.key, entry.class_id, entry.captions, mask, entry.colour)


def examples(raw_dir: str, captions_dir: str, split: str, skip_missing: bool = False) -> Iterator[records.Example]:
    """Yields every flower of `split` ("train" or "test") in key order. Raises as `listing` and `load` do."""
    for entry in listing(raw_dir, captions_dir, skip_missing).splits[split]:
        yield load(entry)


def _tree(raw_dir: str, captions_dir: str) -> str:
    return (
        f"expected {raw_dir}/jpg/image_00001.jpg ..., {raw_dir}/imagelabels.mat, "
        f"{captions_dir}/class_00001/image_06734.txt ..., {captions_dir}/trainvalclasses.txt and testclasses.txt."
    )


def _read_labels(path: str) -> np.ndarray:
    """[N] int64, labels[n-1] is the class of image n."""
    try:
        labels = scipy.io.loadmat(path)["labels"]
    except (MatReadError, ValueError, TypeError, NotImplementedError, KeyError, OSError, zlib.error) as error:
        raise ValueError(f"{path} is not a MAT v5 file with a matrix 'labels' ({error}); fetch it again.") from error
    if labels.dtype.kind not in "iuf" or labels.size == 0 or labels.min() < 1:
        raise ValueError(f"{path}: 'labels' must hold class numbers from 1 on; fetch the file again.")
    return labels.ravel().astype(np.int64)


def _label(key: str, labels: np.ndarray, label_path: str) -> int:
    number = int(KEY.fullmatch(key).group(1))
    if not 1 <= number <= len(labels):
        raise ValueError(f"{key} has no label: {label_path} holds labels for images 1 to {len(labels)}.")
    return int(labels[number - 1])


def _read_texts(
    captions_dir: str, class_dirs: list[str], labels: np.ndarray, label_path: str
) -> dict[str, tuple[str, ...]]:
    """Captions of every caption file of the listed classes, by key, after the labels were found to agree."""
    texts = {}
    for class_dir in class_dirs:
        match, folder = CLASS_DIR.fullmatch(class_dir), os.path.join(captions_dir, class_dir)
        if not match:
            raise ValueError(f"Class {class_dir!r} in the lists of {captions_dir!r} is not of the form class_00001.")
        if not os.path.isdir(folder):
            raise FileNotFoundError(f"No folder {folder!r}, though a class list of {captions_dir!r} names it.")
        for key in captions.stems(folder, ".txt"):
            if not KEY.fullmatch(key):
                continue
            label = _label(key, labels, label_path)
            if label != int(match.group(1)):
                raise ValueError(
                    f"{os.path.join(folder, key + '.txt')} lies in class {int(match.group(1))}, but {label_path} gives "
                    f"{key} the label {label}; the two belong to different releases, fetch them again."
                )
            texts[key] = captions.read_captions(captions_dir, class_dir, key)
    return texts


def _read_colours(path: str) -> dict[str, str] | None:
    """Petal colour by key, None where the set has no such file (only the demo set has)."""
    if not os.path.isfile(path):
        return None
    with open(path, encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        if reader.fieldnames != ["key", "colour"]:
            raise ValueError(f"{path} has the header {reader.fieldnames}; it must be key,colour.")
        return {row["key"]: row["colour"] or "" for row in reader}
