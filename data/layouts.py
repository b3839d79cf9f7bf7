"""What the folders of somebody's own pictures mean: which are splits, which are classes, and which say nothing."""

import dataclasses
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator

from data.names import PICTURE_ENDINGS

SPLITS = {
    "train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "test": "test",
    "testing": "test",
}  # fmt: skip
NO_CLASS = re.compile(  # names of folders that say how pictures were stored, and nothing of what they show
    r"(images?|imgs?|pictures?|pics?|photos?|jpe?gs?|pngs?|files?|data|dataset|raw|part|batch|chunk|shard|folder|dir|"
    r"set|group|dcim|albums?|uploads?|downloads?|camera|misc|new|old|page|\d{3}[a-z]{5}|(19|20)\d\d([-_.]\d\d){0,2}|"
    r"\d{5,})[ _.-]*(\d+|[a-z])?",
    re.IGNORECASE,
)

Tree = Iterable[tuple[str, list[str]]]  # what `walk` gives


@dataclasses.dataclass(frozen=True)
class Structure:
    """What the folders say of each picture."""

    class_of: dict[str, str]  # "" of every picture where there are no classes
    split_of: dict[str, str]  # "train" or "test"; {} where no folders are splits
    remarks: tuple[str, ...]  # how the folders were understood, for people


def walk(top: str) -> Iterator[tuple[str, list[str]]]:
    """Every folder from `top` down with its files' names, sorted, without hidden ones and macOS's copies.

    Linked folders are entered once each, after the real ones; a link to what was seen, or to a folder above, is not.
    """
    seen, waiting, linked = set(), [top], []
    home = os.path.realpath(top)
    while waiting or linked:
        folder = waiting.pop() if waiting else linked.pop()
        real = os.path.realpath(folder)
        if real in seen or (real != home and home.startswith(os.path.join(real, ""))):
            continue
        seen.add(real)
        names = []
        for entry in sorted(os.scandir(folder), key=lambda entry: entry.name, reverse=True):
            if entry.name[0] == "." or entry.name == "__MACOSX":
                continue
            if os.path.isdir(entry):  # entry.is_dir fails over a link that leads in a circle
                (linked if entry.is_symlink() else waiting).append(entry.path)
            else:
                names.append(entry.name)
        yield folder, names[::-1]


def pictures(raw_dir: str, tree: Tree) -> dict[str, str]:
    """Key -> path of every picture file of `tree`, by key; the key is the path below raw_dir without ending.

    Raises: ValueError for two pictures of one key, and for a name that is not UTF-8.
    """
    found = {}
    for folder, names in tree:
        prefix = os.path.relpath(folder, raw_dir).replace(os.sep, "/") + "/"
        prefix = "" if prefix == "./" else prefix
        for name in names:
            stem, ending = os.path.splitext(name)
            if ending.lower() not in PICTURE_ENDINGS:
                continue
            path = os.path.join(folder, name)
            key = prefix + stem
            try:
                key.encode()
            except UnicodeEncodeError:
                raise ValueError(f"The name of {os.fsencode(path)!r} is not UTF-8; rename it.") from None
            if key in found:
                raise ValueError(f"{found[key]} and {path} would both be {key!r}; rename one of them.")
            found[key] = path
    return dict(sorted(found.items()))


def structure(keys: Iterable[str], split_folders: bool = True, class_folders: bool = True) -> Structure:
    """What the folders of the pictures `keys` (paths with "/") mean.

    Folders of SPLITS' names, all on one level and beside no others, are splits: test tests, train trains; val trains
    where there is a test folder, else it tests. A folder that all pictures share says nothing. Of what is left the
    first folder is the class, unless a picture lies in none, no folder holds two pictures, or all are of NO_CLASS.

    Raises: ValueError where folders named as splits lie beside others.
    """
    folders = {key: key.split("/")[:-1] for key in keys}
    split_of, remarks = {}, []
    if split_folders and (level := _split_level(folders)) is not None:
        names = {key: folder[level] for key, folder in folders.items()}
        kinds = {SPLITS[name.casefold()] for name in names.values()}
        folders = {key: [*folder[:level], *folder[level + 1 :]] for key, folder in folders.items()}
        if len(kinds) > 1:
            tests = {"test"} if "test" in kinds else {"val"}
            split_of = {key: "test" if SPLITS[name.casefold()] in tests else "train" for key, name in names.items()}
            of_split = {split: sorted({names[key] for key in names if split_of[key] == split}) for split in
                        ("train", "test")}  # fmt: skip
            remarks.append(
                f"folders are splits: {' and '.join(of_split['train'])} for training, {' and '.join(of_split['test'])} "
                "for testing (--split_folders=no where these are classes)"
            )
    while all(folders.values()) and len({folder[0] for folder in folders.values()}) == 1:
        folders = {key: folder[1:] for key, folder in folders.items()}
    counts = Counter(folder[0] if folder else "" for folder in folders.values())
    reason = (
        "--class_folders=no" if not class_folders
        else "pictures lie in no folders of their own" if set(counts) == {""}
        else f"{counts['']:,} pictures lie in no folder" if "" in counts
        else "no folder holds two pictures" if max(counts.values(), default=0) < 2
        else f"folders are named such as {min(counts)}" if all(map(NO_CLASS.fullmatch, counts))
        else ""
    )  # fmt: skip
    if reason:
        remarks.append(f"no classes: {reason}; mismatching texts come from any other picture")
        return Structure(dict.fromkeys(folders, ""), split_of, tuple(remarks))
    some = ", ".join(sorted(counts)[:3])
    remarks.append(f"folders are classes: {some}{', ...' if len(counts) > 3 else ''} (--class_folders=no otherwise)")
    return Structure({key: folder[0] for key, folder in folders.items()}, split_of, tuple(remarks))


def _split_level(folders: dict[str, list[str]]) -> int | None:
    """The level whose folders are named as splits; None where there is none. Raises: ValueError for some that are."""
    for level in range(max(map(len, folders.values()), default=0)):
        names = {folder[level] if len(folder) > level else "" for folder in folders.values()}
        splits = sorted(name for name in names if name.casefold() in SPLITS)
        if splits:
            if others := sorted(name for name in names if name.casefold() not in SPLITS):
                beside = "pictures in no such folder" if others == [""] else f"the folder {others[-1]!r}"
                raise ValueError(
                    f"The folder {splits[0]!r} is named as a split, but {beside} lies beside it; move all pictures "
                    "into folders such as train and test, or, where it is a class: --split_folders=no"
                )
            return level
    return None
