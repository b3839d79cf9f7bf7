"""Reed's caption folders: class lists, one text file an image, captions as clean lines of text.
Must not know any data set's picture layout, TensorFlow or a model."""

import os

SPLIT_FILES = {"train": "trainvalclasses.txt", "test": "testclasses.txt"}
JUNK_PREFIXES = ("._", ".")  # macOS resource forks and hidden files; Thumbs.db never has the expected suffix


def read_captions(captions_dir: str, class_dir: str, stem: str) -> tuple[str, ...]:
    """Captions of one image in file order, stripped, empty lines dropped; () for a file without text.

    Bytes that are not UTF-8 become U+FFFD: the published files hold a few broken ones.

    Raises: FileNotFoundError where `captions_dir/class_dir/stem.txt` is not there.
    """
    path = os.path.join(captions_dir, class_dir, stem + ".txt")
    with open(path, encoding="utf-8", errors="replace") as file:
        lines = [line.strip() for line in file.read().lstrip("\ufeff").splitlines()]
    return tuple(line for line in lines if line)


def class_lists(captions_dir: str) -> dict[str, list[str]]:
    """Class folders of the splits "train" and "test", sorted. Source: trainvalclasses.txt and testclasses.txt.

    Raises: FileNotFoundError for a missing list, ValueError for an empty one or a class in both.
    """
    lists = {}
    for split, name in SPLIT_FILES.items():
        path = os.path.join(captions_dir, name)
        if not os.path.isfile(path):
            raise FileNotFoundError(
                f"No {name} in captions_dir={captions_dir!r}; it lists the {split} split's class folders, one a line."
            )
        with open(path, encoding="utf-8", errors="replace") as file:
            lists[split] = sorted({line.strip() for line in file if line.strip()})
        if not lists[split]:
            raise ValueError(f"{path} is empty; it must list the class folders of the {split} split, one a line.")
    both = sorted(set(lists["train"]) & set(lists["test"]))
    if both:
        raise ValueError(
            f"Class {both[0]!r} stands in both {SPLIT_FILES['train']} and {SPLIT_FILES['test']} of {captions_dir!r} "
            f"({len(both)} such classes); a class belongs to one split, take it out of one list."
        )
    return lists


def stems(folder: str, suffix: str) -> list[str]:
    """Sorted names without `suffix` of the files in `folder` that end in it; hidden files and "._*" are left out."""
    names = sorted(os.listdir(folder))
    return [name[: -len(suffix)] for name in names if name.endswith(suffix) and not name.startswith(JUNK_PREFIXES)]
