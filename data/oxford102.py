"""Oxford-102 flowers (and the demo set, of the same layout), joined with any carrier of captions by image number."""

import csv
import os
import re

import numpy as np

from data import captions
from data.listing import Entry, Listing, check_unpacked, join, one_line
from data.readers import arrays

PUBLISHED = (7034, 1155)  # pictures of the training and test classes. Source: StackGAN, Reed's class lists
KEY = re.compile(r"image_(\d{5})")


def TREE(raw_dir: str, captions_dir: str = "") -> str:
    """The files that a build needs, one a line with a remark."""
    texts = captions_dir or os.path.join(raw_dir, "text_c10")
    return f"""{raw_dir}/jpg/image_00001.jpg ...  8,189 in all
{raw_dir}/imagelabels.mat  class of each image number
{texts}/class_00001/image_06734.txt ...  or .t7
{texts}/trainvalclasses.txt and testclasses.txt  82 and 20 class folders"""


def listing(
    raw_dir: str,
    captions_dir: str = "",
    skip_missing: bool = False,
    *,
    train_classes: str = "",
    test_classes: str = "",
    test_share: float = 0.0,
    split_seed: int = 0,
) -> Listing:
    """Every flower of both splits, in key order, with its captions; pictures are not opened yet.

    Image number n, label labels[n-1] of imagelabels.mat and folder class_%05d of that label are joined by number,
    never by position in a folder, and must agree. setid.mat is not read: its splits share classes.

    captions_dir: "" = raw_dir/text_c10.   skip_missing: whether pictures without captions, captions without pictures
    and classes in neither split are left out and listed in `missing`, or refused.   The others: `data.listing.rule_of`.

    Raises: FileNotFoundError with the expected tree; ValueError naming the file where two sources disagree.
    """
    check_unpacked(raw_dir)
    captions_dir = captions_dir or os.path.join(raw_dir, "text_c10")
    image_dir, label_path = os.path.join(raw_dir, "jpg"), os.path.join(raw_dir, "imagelabels.mat")
    for path in (raw_dir, image_dir, label_path, captions_dir):
        if not os.path.exists(path):
            raise FileNotFoundError(f"No {path!r}; {one_line(TREE(raw_dir, captions_dir))}.")
    labels = _read_labels(label_path)
    present = {stem for stem in captions.stems(image_dir, ".jpg") if KEY.fullmatch(stem)}
    if not present:
        raise FileNotFoundError(f"No image_*.jpg in {image_dir!r}; {one_line(TREE(raw_dir, captions_dir))}.")
    caption_set = captions.read(captions_dir, present)

    masks_dir = os.path.join(raw_dir, "masks")
    has_masks, colours = os.path.isdir(masks_dir), _read_colours(os.path.join(raw_dir, "colours.csv"))
    entries = {}
    for key in present | {key for key in caption_set.keys() if KEY.fullmatch(key)}:
        label = _label(key, labels, label_path)
        if colours is not None and key not in colours:
            raise ValueError(f"{os.path.join(raw_dir, 'colours.csv')} has no line for {key}; add it.")
        entries[key] = Entry(
            key,
            label,
            os.path.join(image_dir, key + ".jpg"),
            mask_path=os.path.join(masks_dir, key + ".png") if has_masks else "",
            colour=colours[key] if colours is not None else "",
            class_name=f"class_{label:05d}",
        )
    return join(
        entries,
        present,
        caption_set,
        captions_dir,
        skip_missing,
        train_classes=train_classes,
        test_classes=test_classes,
        test_share=test_share,
        split_seed=split_seed,
    )


def _read_labels(path: str) -> np.ndarray:
    """[N] int64, labels[n-1] is the class of image n."""
    labels = arrays.load_mat(path, "labels")
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
