"""Anyone's own pictures: a folder of them, at any depth, and a file of captions that names each by its path."""

import os

from data import captions, images, tables
from data.listing import Entry, Listing, check_unpacked, join, one_line

TEST_SHARE = 0.1  # of the classes, where nothing else is said


def TREE(raw_dir: str, captions_dir: str = "") -> str:
    """The files that a build needs, one a line with a remark."""
    texts = captions_dir or os.path.join(raw_dir, "captions.csv")
    return f"""{raw_dir}/any/folders/name.jpg ...  or {" ".join(images.ENDINGS[1:])}
{texts}  first line key,caption; then any/folders/name,a caption of it; several lines a picture may be given"""


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
    """Every picture of both splits, in key order, with its captions; pictures are not opened yet.

    The key is the path below raw_dir without ending, with "/". The class is the first folder of the path, or, where
    a picture lies in raw_dir itself, every picture is a class of its own.

    captions_dir: a .csv or .jsonl file of captions whose keys may have the picture's ending, or another carrier; "" =
    raw_dir/captions.csv or captions.jsonl.   skip_missing: whether pictures without captions and captions without
    pictures are left out and listed in `missing`, or refused.   test_share: 0 = a tenth, unless there are class lists.
    The others: `data.listing.rule_of`.

    Raises: FileNotFoundError with the expected tree; ValueError for two pictures of one key.
    """
    check_unpacked(raw_dir)
    if not os.path.isdir(raw_dir):
        raise FileNotFoundError(f"No folder {raw_dir!r}; {one_line(TREE(raw_dir, captions_dir))}.")
    pictures = _pictures(raw_dir)
    if not pictures:
        raise FileNotFoundError(f"No pictures in {raw_dir!r}; {one_line(TREE(raw_dir, captions_dir))}.")
    if not captions_dir:
        paths = [os.path.join(raw_dir, f"captions{ending}") for ending in tables.ENDINGS]
        captions_dir = next((path for path in paths if os.path.isfile(path)), raw_dir)
    in_folders = all("/" in key for key in pictures)
    names = {key: key.split("/")[0] if in_folders else key for key in pictures}
    numbers = {name: number for number, name in enumerate(sorted(set(names.values())), start=1)}
    entries = {key: Entry(key, numbers[names[key]], path, class_name=names[key]) for key, path in pictures.items()}

    caption_set = captions.read(captions_dir)
    lists = train_classes or test_classes or any(map(os.path.isfile, captions.list_paths(captions_dir).values()))
    return join(
        entries,
        set(entries),
        _by_picture(caption_set, pictures),
        captions_dir,
        skip_missing,
        train_classes=train_classes,
        test_classes=test_classes,
        test_share=test_share or (0.0 if lists else TEST_SHARE),
        split_seed=split_seed,
    )


def _pictures(raw_dir: str) -> dict[str, str]:
    """Key -> path of every picture file; hidden files and folders and macOS's copies are left out."""
    pictures = {}
    for folder, folders, names in os.walk(raw_dir):
        folders[:] = sorted(name for name in folders if name[0] != "." and name != "__MACOSX")
        for name in sorted(names):
            stem, ending = os.path.splitext(name)
            if ending.lower() in images.ENDINGS and not name.startswith(captions.JUNK_PREFIXES):
                path = os.path.join(folder, name)
                key = os.path.relpath(os.path.join(folder, stem), raw_dir).replace(os.sep, "/")
                if key in pictures:
                    raise ValueError(f"{pictures[key]} and {path} would both be {key!r}; rename one of them.")
                pictures[key] = path
    return pictures


def _by_picture(caption_set: captions.Captions, pictures: dict[str, str]) -> captions.Captions:
    """The captions under the keys of the pictures: an ending is cut off where the whole is no key.

    Raises: ValueError where a picture is then named in two ways.
    """
    texts = {}
    for key, of_key in caption_set.texts.items():
        stem, ending = os.path.splitext(key)
        own = stem if key not in pictures and ending.lower() in images.ENDINGS else key
        if own in texts:
            place = caption_set.where(key)
            raise ValueError(f"{place}: {own!r} stands there with and without its ending; write it one way.")
        texts[own] = of_key
    return captions.Captions(texts, {}, caption_set.split_of, caption_set.carrier, caption_set.where)
