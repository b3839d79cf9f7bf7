"""CUB-200-2011 birds in the official tree, joined with any carrier of captions by the pictures' file names."""

import dataclasses
import os
from typing import Any

from data import captions, images
from data.geometry import Box
from data.listing import Entry, Listing, check_unpacked, join, one_line
from data.names import PICTURE_ENDINGS

PUBLISHED = (8855, 2933)  # pictures of the training and test classes. Source: StackGAN, Reed's class lists
FOLDER = "CUB_200_2011"
MAX_TABLE = 2**24  # bytes; images.txt, the longest, has half a million


def expected_tree(raw_dir: str, captions_dir: str = "") -> str:
    """The files that a build needs, one a line with a remark."""
    root, texts = _root(raw_dir), captions_dir or _unpacked(raw_dir, "text_c10")
    bird = "001.Black_footed_Albatross/Black_Footed_Albatross_0046_18"
    return f"""{root}/images/{bird}.jpg ...  11,788 in all
{root}/images.txt  number and path of each picture
{root}/image_class_labels.txt  number of each picture, number of its class
{root}/classes.txt  number and folder of each class
{root}/bounding_boxes.txt  for --crop=box and --crop=frames only
{root}/segmentations/{bird}.png ...  outlines, where there are any, here or beside {FOLDER}; not needed
{texts}/{bird}.txt ...  or .t7, or AttnGAN's captions.pickle with train/ and test/
{texts}/trainvalclasses.txt and testclasses.txt  150 and 50 class folders; not needed with AttnGAN's pickles"""


def listing(raw_dir: str, captions_dir: str = "", skip_missing: bool = False, **rule: Any) -> Listing:
    """Every bird of both splits, in key order, with its captions, and its outline as mask where one was drawn.

    Pictures are not opened yet.

    images.txt, image_class_labels.txt, classes.txt and bounding_boxes.txt are joined by number and must agree with
    the folders. train_test_split.txt is not read: its splits share classes.

    raw_dir: the folder that holds CUB_200_2011/, or that folder itself.   captions_dir: "" = text_c10 in raw_dir or
    beside it.   skip_missing: whether pictures without captions, captions without pictures and classes in neither
    split are left out and listed in `missing`, or refused.   rule: of the split, as `data.listing.rule_of` takes it.

    Raises: FileNotFoundError with the expected tree; ValueError naming the file, and the line in it, that is wrong.
    """
    check_unpacked(raw_dir)
    captions_dir, root = captions_dir or _unpacked(raw_dir, "text_c10"), _root(raw_dir)
    if os.path.isdir(os.path.join(root, "lists")) or os.path.isdir(os.path.join(root, "annotations-mat")):
        raise ValueError(
            f"{root!r} is CUB-200 of 2010 (it has lists/ or annotations-mat/), of other pictures; the captions belong "
            "to CUB-200-2011: fetch CUB_200_2011.tgz."
        )
    needed = [raw_dir, *(os.path.join(root, name) for name in ("images", "images.txt", "image_class_labels.txt"))]
    for path in (*needed, os.path.join(root, "classes.txt"), captions_dir):
        if not os.path.exists(path):
            raise FileNotFoundError(f"No {path!r}; {one_line(expected_tree(raw_dir, captions_dir))}.")
    entries = _entries(root)
    folders = {entry.class_name for entry in entries.values()}
    on_disk = {folder: images.by_stem(os.path.join(root, "images", folder)) for folder in folders}
    present = {key for key, entry in entries.items() if key in on_disk[entry.class_name]}
    for key in present:  # under whichever ending: .jpg, .JPG, .png
        path = on_disk[entries[key].class_name][key]
        entries[key] = dataclasses.replace(entries[key], image_path=path)
    return join(entries, present, captions.read(captions_dir, present), captions_dir, skip_missing, **rule)


def _root(raw_dir: str) -> str:
    inside = os.path.join(raw_dir, FOLDER)
    return raw_dir if not os.path.isdir(inside) and os.path.isfile(os.path.join(raw_dir, "images.txt")) else inside


def _unpacked(folder: str, name: str) -> str:
    """Where an archive was unpacked as `name`: in `folder`, or beside it."""
    inside = os.path.join(folder, name)
    beside = os.path.join(os.path.dirname(os.path.abspath(folder)), name)
    return beside if not os.path.isdir(inside) and os.path.isdir(beside) else inside


def _names(folder: str) -> set[str]:
    return set(os.listdir(folder)) if os.path.isdir(folder) else set()


def _entries(root: str) -> dict[str, Entry]:
    """Key -> entry without captions, of every line of images.txt. Raises: ValueError with file and line."""
    image_path, label_path, class_path, box_path = (
        os.path.join(root, name)
        for name in ("images.txt", "image_class_labels.txt", "classes.txt", "bounding_boxes.txt")
    )
    labels, classes = _table(label_path), _table(class_path)
    boxes = _table(box_path) if os.path.isfile(box_path) else {}
    outlines = _unpacked(root, "segmentations")
    drawn = {folder: _names(os.path.join(outlines, folder)) for folder in _names(outlines)}
    entries: dict[str, Entry] = {}
    for number, (place, (path, *_)) in _table(image_path).items():
        folder, _, name = path.rpartition("/")
        key, ending = os.path.splitext(name)
        if ending.lower() not in PICTURE_ENDINGS or not key or "/" in folder or folder in ("", ".", ".."):
            raise ValueError(f"{place}: {path!r} is not <class folder>/<name>.jpg; fetch the file again.")
        if key in entries:
            raise ValueError(f"{place}: {name} is there already in {entries[key].class_name}; names must be unique.")
        if number not in labels:
            raise ValueError(f"{place}: image {number} has no line in {label_path}; fetch both again.")
        label = _positive(labels[number][1][0], labels[number][0])
        named = classes[label][1][0] if label in classes else "nothing"
        if named != folder:
            raise ValueError(
                f"{place}: {path} has the label {label}, which is {named} in {class_path}; fetch the files again."
            )
        box = _box(number, boxes, box_path) if boxes else None
        mask = os.path.join(outlines, folder, f"{key}.png") if f"{key}.png" in drawn.get(folder, ()) else ""
        path = os.path.join(root, "images", folder, name)
        entries[key] = Entry(key, label, path, mask_path=mask, box=box, class_name=folder)
    return entries


def _table(path: str) -> dict[int, tuple[str, list[str]]]:
    """Number -> (file and line, fields after the number). What later fields hold is left to the caller.

    Raises: ValueError with the line where the first field is no number or a known one, or the second is not there.
    """
    rows: dict[int, tuple[str, list[str]]] = {}
    for line, text in enumerate(captions.read_text(path, MAX_TABLE).splitlines(), start=1):
        fields, place = text.split(), f"{path}, line {line}"
        if not fields:
            continue
        number = _positive(fields[0], place)
        if len(fields) < 2:
            raise ValueError(f"{place}: {text.strip()[:80]!r} has no second field; fetch the file again.")
        if number in rows:
            raise ValueError(f"{place}: the number {number} is there a second time; fetch the file again.")
        rows[number] = (place, fields[1:])
    if not rows:
        raise ValueError(f"{path} is empty; fetch it again.")
    return rows


def _positive(text: str, place: str) -> int:
    """Raises: ValueError for anything but a number from 1 on."""
    number = int(text) if text.isdecimal() and len(text) < 10 else 0
    if number < 1:
        raise ValueError(f"{place}: {text[:80]!r} must be a number from 1 on; fetch the file again.")
    return number


def _box(number: int, boxes: dict[int, tuple[str, list[str]]], path: str) -> Box:
    """Raises: ValueError for a picture without box or a box that is not four finite numbers."""
    if number not in boxes:
        raise ValueError(f"{path} has no line for image {number}; fetch the file again.")
    place, fields = boxes[number]
    try:
        x, y, width, height = map(float, fields[:4])
    except ValueError as error:
        raise ValueError(f"{place}: {' '.join(fields)[:80]!r} must be x, y, width and height.") from error
    if not abs(x) + abs(y) + abs(width) + abs(height) < 1e6:  # false also where one is not a number
        raise ValueError(f"{place}: {' '.join(fields)[:80]!r} must be x, y, width and height in pixels.")
    return x, y, width, height
