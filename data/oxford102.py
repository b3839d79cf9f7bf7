"""Oxford-102 flowers (and the demo set, of the same layout), joined with any carrier of captions by image number."""

import csv
import glob
import os
import re
from typing import Any

import numpy as np

from data import captions, images, layouts
from data.listing import Entry, Listing, check_unpacked, join, one_line
from data.readers import arrays, sandbox

PUBLISHED = (7034, 1155)  # pictures of the training and test classes. Source: StackGAN, Reed's class lists
KEY = re.compile(r"image_(\d{5})")


def expected_tree(raw_dir: str, captions_dir: str = "") -> str:
    """The files that a build needs, one a line with a remark."""
    texts = captions_dir or _captions_dir(raw_dir)
    pictures = _pictures(raw_dir) if os.path.isdir(raw_dir) else {}
    folders = {os.path.dirname(path) for path in pictures.values()} or {os.path.join(raw_dir, "jpg")}
    image_dir = os.path.commonpath(folders)
    return f"""{image_dir}/image_00001.jpg ...  8,189 in all
{_label_path(raw_dir)}  class of each image number; not needed where the pictures lie in folders of its number
{texts}/class_00001/image_06734.txt ...  or .t7
{texts}/trainvalclasses.txt and testclasses.txt  82 and 20 class folders"""


def listing(raw_dir: str, captions_dir: str = "", skip_missing: bool = False, **rule: Any) -> Listing:
    """Every flower of both splits, in key order, with its captions; pictures are not opened yet.

    Image number n, label labels[n-1] of imagelabels.mat, folder of the picture where it is a number (train/1/, as on
    Kaggle) and folder class_%05d of its captions are joined by number, never by position in a folder, and must agree.
    Without imagelabels.mat the folders alone tell. setid.mat is not read: its splits share classes.

    raw_dir: jpg/ and imagelabels.mat in it, or in a folder of it (flowers-102/ of torchvision, 102flowers/), or
    anything with train/1/image_06734.jpg.
    captions_dir: "" = text_c10/ in raw_dir or in a folder of it (cvpr2016_flowers/).
    skip_missing: whether pictures without captions, captions without pictures and classes in neither
    split are left out and listed in `missing`, or refused.   rule: of the split, as `data.listing.rule_of` takes it.

    Raises: FileNotFoundError with the expected tree; ValueError naming the file where two sources disagree.
    """
    check_unpacked(raw_dir)
    captions_dir, label_path = captions_dir or _captions_dir(raw_dir), _label_path(raw_dir)
    pictures = _pictures(raw_dir) if os.path.isdir(raw_dir) else {}
    of_folders = {key: label for key, path in pictures.items() if (label := _folder_label(path))}
    if not os.path.isdir(raw_dir):
        raise FileNotFoundError(f"No {raw_dir!r}; {one_line(expected_tree(raw_dir, captions_dir))}.")
    if not pictures:
        raise FileNotFoundError(f"No image_*.jpg in {raw_dir!r}; {one_line(expected_tree(raw_dir, captions_dir))}.")
    for path in (*(() if of_folders else (label_path,)), captions_dir):
        if not os.path.exists(path):
            raise FileNotFoundError(f"No {path!r}; {one_line(expected_tree(raw_dir, captions_dir))}.")
    caption_set = captions.read(captions_dir, set(pictures))
    labels = _read_labels(label_path) if os.path.exists(label_path) else None

    masks_dir = os.path.join(raw_dir, "masks")
    has_masks, colours = os.path.isdir(masks_dir), _read_colours(os.path.join(raw_dir, "colours.csv"))
    entries = {}
    for key in sorted(pictures.keys() | {key for key in caption_set.keys() if KEY.fullmatch(key)}):
        if labels is None:
            folder = caption_set.class_of.get(key, "").removeprefix("class_")
            label = of_folders.get(key) or (int(folder) if folder.isdecimal() else 0)
        else:
            label = _label(key, labels, label_path)
        if not label:
            raise ValueError(f"{key} has no label: there is no {label_path}, and it lies in no folder of a number.")
        if of_folders.get(key, label) != label:
            raise ValueError(f"{pictures[key]} lies in a folder of another number than {label} in {label_path}.")
        if colours is not None and key not in colours:
            raise ValueError(f"{os.path.join(raw_dir, 'colours.csv')} has no line for {key}; add it.")
        entries[key] = Entry(
            key,
            label,
            pictures.get(key) or os.path.join(raw_dir, "jpg", key + ".jpg"),
            mask_path=os.path.join(masks_dir, key + ".png") if has_masks else "",
            colour=colours[key] if colours is not None else "",
            class_name=f"class_{label:05d}",
        )
    return join(entries, set(pictures), caption_set, captions_dir, skip_missing, **rule)


def _pictures(raw_dir: str) -> dict[str, str]:
    """Key -> path of image_00001.jpg ..., under any ending: of jpg/ where it is there, else of all but masks/."""
    folders = [folder for folder in (os.path.join(raw_dir, "jpg"), *_below(raw_dir, "jpg")) if os.path.isdir(folder)]
    if not folders:
        folders = [folder for folder, _ in layouts.walk(raw_dir) if os.path.basename(folder) not in ("masks", "segmim")]
    found = {}
    for folder in folders:
        found |= {stem: path for stem, path in images.by_stem(folder).items() if KEY.fullmatch(stem)} | found
    return found


def _below(raw_dir: str, name: str) -> list[str]:
    """What is called `name` in a folder of raw_dir, or in one of that, sorted."""
    return sorted(glob.glob(os.path.join(glob.escape(raw_dir), "*", name))) + sorted(
        glob.glob(os.path.join(glob.escape(raw_dir), "*", "*", name))
    )


def _label_path(raw_dir: str) -> str:
    path = os.path.join(raw_dir, "imagelabels.mat")
    return path if os.path.isfile(path) else (*_below(raw_dir, "imagelabels.mat"), path)[0]


def _captions_dir(raw_dir: str) -> str:
    path = os.path.join(raw_dir, "text_c10")
    return path if os.path.isdir(path) else (*_below(raw_dir, "text_c10"), *_below(raw_dir, "flowers_icml"), path)[0]


def _folder_label(path: str) -> int:
    """The class number that a picture's folder is called by, 0 where it is not."""
    folder = os.path.basename(os.path.dirname(path)).removeprefix("class_")
    return int(folder) if folder.isdecimal() and len(folder) < 6 else 0


def _read_labels(path: str) -> np.ndarray:
    """[N] int64, labels[n-1] is the class of image n."""
    ((labels,),) = sandbox.read(arrays.load_mat, path, "labels")
    numbers = labels.astype(np.int64).ravel()
    if not labels.size or numbers.min() < 1 or (numbers != labels.ravel()).any():
        raise ValueError(f"{path}: 'labels' must hold class numbers from 1 on; fetch the file again.")
    return numbers


def _label(key: str, labels: np.ndarray, label_path: str) -> int:
    number = int(KEY.fullmatch(key).group(1))
    if not 1 <= number <= len(labels):
        raise ValueError(f"{key} has no label: {label_path} holds labels for images 1 to {len(labels)}.")
    return int(labels[number - 1])


def _read_colours(path: str) -> dict[str, str] | None:
    """Petal colour by key, None where the set has no such file (only the demo set has)."""
    if not os.path.isfile(path):
        return None
    with open(path, encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        if reader.fieldnames != ["key", "colour"]:
            raise ValueError(f"{path} has the header {reader.fieldnames}; it must be key,colour.")
        return {row["key"]: row["colour"] or "" for row in reader}
