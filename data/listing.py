"""What a data set will be made of, before a picture is opened: entries joined with captions by key, in splits."""

import dataclasses
import hashlib
import math
import os
from collections import Counter
from collections.abc import Callable, Iterable

from data import captions, texts
from data.geometry import Box

NO_PICTURE, NO_CAPTIONS, NO_SPLIT = "without a picture", "without captions", "in neither split"  # why left out
BROKEN, DAMAGED = "with broken captions", "damaged"
SHOWN = 10  # of what is wrong, of each kind


@dataclasses.dataclass(frozen=True)
class Entry:
    """What one example will be made of; only the captions have been read."""

    key: str  # "image_00001"
    class_id: int  # from 1 on; 0 = the set has no classes
    image_path: str
    captions: tuple[str, ...] = ()
    mask_path: str = ""
    colour: str = ""
    box: Box | None = None  # of the object: x, y, width, height in pixels
    class_name: str = ""  # as the class lists and caption folders name it


@dataclasses.dataclass(frozen=True)
class Listing:
    """All entries of the raw folders, and what had to be left out."""

    splits: dict[str, list[Entry]]  # "train", "test"; in key order
    missing: list[str]  # one line for each picture or caption file left out
    split_rule: dict[str, object]  # {"rule": "lists", "files"} or {"rule": "seeded", ...}, or "captions", "folders"
    carrier: str  # kind of files that the captions came from
    captioned: dict[str, int]  # pictures with captions per split, whether they are on disk or not
    reasons: dict[str, list[str]] = dataclasses.field(default_factory=dict)  # the lines of `missing` by reason
    remarks: list[str] = dataclasses.field(default_factory=list)  # how the folders were understood, for people

    @property
    def entries(self) -> list[Entry]:
        """Those of all splits."""
        return [entry for entries in self.splits.values() for entry in entries]


def join(
    entries: dict[str, Entry],
    present: set[str],
    caption_set: captions.Captions,
    captions_dir: str,
    skip_missing: bool,
    **rule: str | float | int,
) -> Listing:
    """The entries that have a picture and captions, in key order, each in its split.

    entries: by key, all that the layout knows of, without captions.
    present: keys of those whose picture is on disk.
    captions_dir, rule: where class lists are looked for, and the options of `rule_of`.

    Raises: ValueError where a class is in two splits, where captions and layout name another class for a picture,
        where a split is empty, or, unless skip_missing, where anything is missing or a caption is broken by
        `texts.fault`; FileNotFoundError for the lists.
    """
    for key, folder in caption_set.class_of.items():
        if folder and key in entries and folder != entries[key].class_name:
            raise ValueError(
                f"{caption_set.where(key)} lies in class {folder}, but the labels give {key} the class "
                f"{entries[key].class_name}; the two belong to different releases, fetch them again."
            )
    captioned, complete = caption_set.keys(), {}
    reasons = {NO_PICTURE: [], NO_CAPTIONS: [], BROKEN: list(caption_set.faults), NO_SPLIT: []}
    for key in sorted(entries.keys() | captioned):
        entry = entries.get(key)
        if entry is None:
            reasons[NO_PICTURE].append(f"no picture {key!r} for the captions {caption_set.where(key)}")
        elif key not in present:
            reasons[NO_PICTURE].append(f"no picture {entry.image_path}")
        elif not caption_set.texts.get(key):
            reasons[NO_CAPTIONS].append(f"no captions {caption_set.where(key)} for the picture {entry.image_path}")
        else:
            faults = [fault for fault in map(texts.fault, caption_set.texts[key]) if fault]
            reasons[BROKEN] += [f"{caption_set.where(key)}: a caption of {key} {fault}" for fault in faults[:1]]
            if not faults:
                rest = entry.mask_path, entry.colour, entry.box, entry.class_name  # dataclasses.replace takes thrice
                complete[key] = Entry(key, entry.class_id, entry.image_path, caption_set.texts[key], *rest)

    if not complete:
        if reasons[BROKEN]:
            raise ValueError(refusal({BROKEN: reasons[BROKEN]}, len(present)))
        raise ValueError(
            f"None of the {len(present):,} pictures that are there has captions: they are named such as "
            f"{min(present, default='none')!r}, those that {captions_dir} has captions for such as "
            f"{min(captioned, default='none')!r}; write the names as the files have them."
        )
    units = {entry.class_name or entry.key for entry in complete.values()}
    try:
        split_of, split_rule = rule_of(units, caption_set, captions_dir, **rule)
        if all(not entry.class_id for entry in complete.values()) and split_rule["rule"] == "seeded":
            split_rule["of"] = "pictures"
        splits = {split: [] for split in captions.SPLIT_FILES}
        for entry in complete.values():
            split = split_of(entry.key, entry.class_name or entry.key)
            if split:
                splits[split].append(entry)
            else:
                reasons[NO_SPLIT].append(f"class {entry.class_name} of {entry.image_path} is in neither split")
        reasons = {reason: lines for reason, lines in reasons.items() if lines}
        if not reasons or skip_missing:
            _require_whole(splits, disjoint=split_rule["rule"] != "folders")
    except ValueError as error:
        if not any(reasons.values()):
            raise
        raise ValueError(f"{error} {refusal(reasons, len(entries.keys() | captioned))}") from error
    if reasons and not skip_missing:
        raise ValueError(refusal(reasons, len(entries.keys() | captioned)))
    class_of = caption_set.class_of | {key: entry.class_name for key, entry in entries.items()}
    counts = Counter(split_of(key, class_of.get(key) or key) for key in captioned)
    return Listing(
        splits,
        [line for lines in reasons.values() for line in lines],
        split_rule,
        caption_set.carrier,
        {split: counts[split] for split in captions.SPLIT_FILES},
        reasons,
    )


def refusal(reasons: dict[str, list[str]], count: int, remedy: str = "") -> str:
    """All that is wrong with `count` pictures, in a line: how many for each reason, the first ten, and what to do."""
    gaps = []
    for reason, lines in reasons.items():
        if lines:
            more = f"; and {len(lines) - SHOWN:,} more" if len(lines) > SHOWN else ""
            gaps.append(f"{len(lines):,} {reason} (first: {'; '.join(lines[:SHOWN])}{more})")
    mend = reasons.get(DAMAGED) or reasons.get(BROKEN)
    what = "Mend them, or leave these out: --skip_damaged" if mend else (
        "Complete the folders, or leave these out: --skip_missing")
    return f"Of {count:,} pictures, {'; '.join(gaps)}. {remedy or what}"


def rule_of(
    classes: Iterable[str],
    caption_set: captions.Captions,
    captions_dir: str,
    train_classes: str = "",
    test_classes: str = "",
    test_share: float = 0.0,
    split_seed: int = 0,
    folder_splits: dict[str, str] | None = None,
) -> tuple[Callable[[str, str], str], dict[str, object]]:
    """A function (key, class name) -> "train", "test" or "" (neither), and the `split_rule` of the listing.

    classes: their names, or the pictures' keys where there are none.   folder_splits: key -> split by its folder.

    The first of these that exists decides: the two files train_classes and test_classes; for test_share > 0 that share
    of the classes, drawn by split_seed; folder_splits; the class lists at captions_dir; the splits that the captions
    came with; the names of the pictures that StackGAN's archives hold beside their captions.

    Raises: FileNotFoundError where there is none; ValueError for options that exclude each other.
    """
    if test_share and (train_classes or test_classes):
        raise ValueError(f"test_share={test_share:g} and lists of classes exclude each other; leave one of them out.")
    if not 0 <= test_share < 1:
        raise ValueError(f"test_share={test_share:g} must be 0 (the class lists) or more, and under 1.")
    if bool(train_classes) != bool(test_classes):
        raise ValueError(
            f"train_classes={train_classes!r} and test_classes={test_classes!r}: give both lists or none."
        )
    if test_share:
        drawn = own_split(classes, test_share, split_seed)
        return lambda key, name: drawn.get(name, ""), {"rule": "seeded", "seed": split_seed, "test_share": test_share}
    if folder_splits and not train_classes:
        return lambda key, name: folder_splits.get(key, ""), {"rule": "folders"}
    paths = captions.list_paths(captions_dir, train_classes, test_classes)
    if not train_classes and not any(os.path.exists(path) for path in paths.values()):
        split_of = caption_set.split_of or _archive_splits(captions_dir)
        if split_of:
            return lambda key, name: split_of.get(key, ""), {"rule": "captions"}
    lists = captions.class_lists(captions_dir, train_classes, test_classes)
    of_class = {name: split for split, names in lists.items() for name in names}
    if not of_class.keys() & set(classes):
        raise ValueError(
            f"None of the {len(of_class)} classes of {paths['train']} and {paths['test']}, such as "
            f"{lists['train'][0]!r}, is a class of these pictures, such as {min(classes, default='none')!r}."
        )
    files = {split: os.path.basename(path) for split, path in paths.items()}
    return lambda key, name: of_class.get(name, ""), {"rule": "lists", "files": files}


def own_split(classes: Iterable[str], test_share: float, seed: int) -> dict[str, str]:
    """Class name -> "train" or "test": whole classes, that share of them (at least one on each side) for testing.

    The classes are ranked by sha256 of "seed/name", so the result is the same on every machine, and most classes
    stay in their split when some are added.
    Raises: ValueError for fewer than two classes.
    """
    ranked = sorted(set(classes), key=lambda name: hashlib.sha256(f"{seed}/{name}".encode()).digest())
    if len(ranked) < 2:
        raise ValueError(f"{len(ranked)} classes or pictures cannot be split for training and testing; two are needed.")
    count = min(max(1, math.floor(test_share * len(ranked) + 0.5)), len(ranked) - 1)
    return {name: "test" if rank < count else "train" for rank, name in enumerate(ranked)}


def check_unpacked(raw_dir: str) -> None:
    """Raises: ValueError where raw_dir is a file, such as the archive itself."""
    if os.path.isfile(raw_dir):
        raise ValueError(
            f"raw_dir={raw_dir!r} is a file; if it is the archive, unpack it first (tar -xf or unzip), and give the "
            "folder."
        )


def one_line(tree: str) -> str:
    """A layout's expected tree for an error message: its paths, without their remarks."""
    return "expected " + ", ".join(line.split("  ")[0].strip() for line in tree.splitlines())


def _archive_splits(captions_dir: str) -> dict[str, str]:
    """Key -> split from train/ and test/filenames.pickle in captions_dir or above it; {} where they are not there."""
    folder = captions_dir if os.path.isdir(captions_dir) else os.path.dirname(captions_dir)
    for place in (folder, os.path.dirname(os.path.abspath(folder))):
        if all(os.path.isfile(os.path.join(place, split, "filenames.pickle")) for split in captions.SPLIT_FILES):
            names = captions.read_names(place)
            return {name.rsplit("/", 1)[-1]: split for split in captions.SPLIT_FILES for name in names[split]}
    return {}


def _require_whole(splits: dict[str, list[Entry]], disjoint: bool) -> None:
    """Raises: ValueError for an empty split or, where splits are to be disjoint, a class in both."""
    for split, entries in splits.items():
        if not entries:
            raise ValueError(
                f"The {split} split has no picture with captions; look at what is there: python -m data.doctor"
            )
    numbers = [{entry.class_id for entry in entries} for entries in splits.values()]
    both = sorted(set.intersection(*numbers) - {0})
    if both and disjoint:
        names = {entry.class_id: entry.class_name for entry in splits["train"]}
        raise ValueError(
            f"Class {names[both[0]] or both[0]!r} is in both splits ({len(both)} such); correct the lists of classes."
        )
