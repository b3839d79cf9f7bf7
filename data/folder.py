"""Anyone's own pictures: a folder of them, at any depth, and their captions in whichever way the field writes them."""

import dataclasses
import os

from data import captions, layouts, names, sidecars, tables
from data.listing import Entry, Listing, check_unpacked, join, one_line

TEST_SHARE = 0.1  # of the classes, or of the pictures where there are none, where nothing else is said

INSTEAD = {  # what to do about files that are not read -> their endings
    "a spreadsheet: save it as CSV": (".xlsx", ".xls", ".ods", ".numbers"),
    "an archive: unpack it": (".zip", ".tar", ".tgz", ".gz", ".bz2", ".xz", ".7z", ".rar"),
    "which may hold the pictures itself: save them as files": (".parquet",),
    "whose name is no picture's: give it a first line key,caption and call it captions.csv": (".txt",),
}


def expected_tree(raw_dir: str, captions_dir: str = "") -> str:
    """The files that a build needs, one a line with a remark."""
    table = captions_dir or os.path.join(raw_dir, "captions.csv")
    return f"""{raw_dir}/any/folders/name.jpg ...  or {" ".join(names.PICTURE_ENDINGS[1:])}
{table}  first line key,caption; then any/folders/name.jpg,a caption of it; or metadata.csv, metadata.jsonl, \
captions.json, or text files name.txt beside the pictures or in text_c10/"""


def listing(
    raw_dir: str,
    captions_dir: str = "",
    skip_missing: bool = False,
    *,
    train_classes: str = "",
    test_classes: str = "",
    test_share: float = 0.0,
    split_seed: int = 0,
    split_folders: bool = True,
    class_folders: bool = True,
) -> Listing:
    """Every picture of both splits, in key order, with its captions; pictures are not opened yet.

    The key is the path below raw_dir without ending, with "/". Classes and splits: `layouts.structure` of the pictures
    that have captions; without classes class_id is 0, and pictures are drawn for testing instead of classes.

    captions_dir: a table of captions, a folder of text files, or another carrier; "" = the tables captions.* and
    metadata.* at raw_dir or below it, else text files beside the pictures, else raw_dir/text_c10 or text. How a name
    finds its picture: `names.Names`.   skip_missing: whether pictures without captions, captions without pictures and
    broken captions are left out and listed in `missing`, or refused.   test_share: 0 = a tenth, unless folders are
    splits or there are class lists.   The others: `data.listing.rule_of`, `layouts.structure`.

    Raises: FileNotFoundError with the expected tree; ValueError for two pictures of one key.
    """
    check_unpacked(raw_dir)
    if not os.path.isdir(raw_dir):
        raise FileNotFoundError(f"No folder {raw_dir!r}; {one_line(expected_tree(raw_dir, captions_dir))}.")
    tree = list(layouts.walk(raw_dir))
    pictures = layouts.pictures(raw_dir, tree)
    if not pictures:
        raise FileNotFoundError(
            f"No pictures in {raw_dir!r}{_instead(tree)}; {one_line(expected_tree(raw_dir, captions_dir))}."
        )
    caption_set = _captions(raw_dir, captions_dir, pictures, tree)
    captioned = [key for key in pictures if caption_set.texts.get(key)]
    found = layouts.structure(captioned or pictures, split_folders, class_folders)
    class_of, remarks = found.class_of, list(found.remarks)
    if "." + caption_set.carrier in tables.ENDINGS and (unread := sidecars.beside(tree, pictures)):
        remarks.append(f"captions are those of {caption_set.where('')}; the text files beside {len(unread):,} pictures "
                       f"are not read, such as {min(unread.values())}")  # fmt: skip
    first = next((texts[:1] for texts in caption_set.texts.values() if texts), ())
    if len(captioned) > 1 and all(texts[:1] == first == texts[-1:] for texts in map(caption_set.texts.get, captioned)):
        remarks.append(f"every caption is {first[0][:60]!r}: no word can be learnt from captions that say one thing")
    if caption_set.class_of and not any(class_of.values()) and class_folders:
        class_of, remarks = caption_set.class_of, ["the folders of the captions are classes"]
    numbers = {name: i for i, name in enumerate(sorted(set(class_of.values()) - {""}), start=1)} | {"": 0}
    entries = {}
    for key, path in pictures.items():
        name = class_of.get(key, "")
        entries[key] = Entry(key, numbers[name], path, class_name=name)
    place = captions_dir or raw_dir
    lists = train_classes or test_classes or any(map(os.path.isfile, captions.list_paths(place).values()))
    splits = {} if test_share else found.split_of
    joined = join(
        entries,
        set(entries),
        dataclasses.replace(caption_set, class_of={}),
        place,
        skip_missing,
        train_classes=train_classes,
        test_classes=test_classes,
        test_share=test_share or (0.0 if lists or splits else TEST_SHARE),
        split_seed=split_seed,
        folder_splits=splits,
    )
    joined.remarks.extend(remarks)
    return joined


def _captions(raw_dir: str, captions_dir: str, pictures: dict[str, str], tree: layouts.Tree) -> captions.Captions:
    """The captions by the keys of the pictures; those of no picture keep their own names. tree: that of raw_dir."""
    if captions_dir and not os.path.exists(captions_dir):
        raise FileNotFoundError(f"No captions at {captions_dir!r}; say where they are: --captions_dir.")
    if os.path.isfile(captions_dir) and os.path.splitext(captions_dir)[1].lower() in tables.ENDINGS:
        return _of_tables([(captions_dir, "")], pictures)
    if not captions_dir:
        found = tables_below(raw_dir, tree)
        if found:
            return _of_tables(found, pictures)
        beside = sidecars.beside(tree, pictures)
        if beside:
            return _renamed(sidecars.read(beside), pictures, "text files beside the pictures", beside.get, [], "")
    places = [os.path.join(captions_dir or raw_dir, name) for name in ("text_c10", "text", "captions")]
    place = next((place for place in places if os.path.isdir(place)), captions_dir)
    if os.path.isdir(place):
        below = list(layouts.walk(place))
        for table, _ in tables_below(place, below)[:1] if captions_dir else ():
            return _of_tables([(table, "")], pictures)
        if files := sidecars.below(place, below):
            return _of_texts(files, pictures)
    if captions_dir or any(os.path.exists(os.path.join(raw_dir, name)) for name in ("captions.pickle", "text_c10")):
        read = captions.read(captions_dir or raw_dir)
        return _renamed(read.texts, pictures, read.carrier, read.where, [], "")
    bare = {key.rsplit("/", 1)[-1] for key in pictures}  # text files that lie elsewhere, such as in labels/
    files = {name: path for name, path in sidecars.below(raw_dir, tree).items() if name.rsplit("/", 1)[-1] in bare}
    if files:
        return dataclasses.replace(_of_texts(files, pictures), class_of={})
    others = [os.path.join(folder, name) for folder, names in tree for name in names
              if name.lower().endswith(tables.ENDINGS) and not name.lower().endswith(".txt")]  # fmt: skip
    if len(others) == 1:  # a table of another name; where it is none of captions, it is refused by its name
        below = os.path.relpath(os.path.dirname(others[0]), raw_dir).replace(os.sep, "/")
        return _of_tables([(others[0], "" if below == "." else below + "/")], pictures)
    if others:
        raise FileNotFoundError(
            f"No captions.csv or metadata.csv in {raw_dir!r}, but {len(others):,} tables of other names, such "
            f"as {others[0]} and {others[1]}; say which holds the captions: --captions_dir={others[0]}"
        )
    raise FileNotFoundError(
        f"No captions in {raw_dir!r}{_instead(tree)}; {one_line(expected_tree(raw_dir))}: a table whose first line is "
        "key,caption, or a text file beside each picture; where they lie elsewhere: --captions_dir."
    )


def _instead(tree: layouts.Tree) -> str:
    """What lies there and is not read, with what to do; "" = nothing."""
    for remedy, endings in INSTEAD.items():
        for folder, files in tree:
            for name in files:
                stem, ending = os.path.splitext(name)
                if ending.lower() in endings and not sidecars.is_list(stem):
                    return f", but {os.path.join(folder, name)}, {remedy}"
    return ""


def tables_below(raw_dir: str, tree: layouts.Tree) -> list[tuple[str, str]]:
    """(path, folder below raw_dir with "/") of each table of captions. Raises: ValueError for two in one folder."""
    found = []
    for folder, files in tree:
        in_folder = tables.find(files)
        if len(in_folder) > 1:
            raise ValueError(
                f"{os.path.join(folder, in_folder[0])} and {in_folder[1]} beside it are both tables of captions; say "
                f"which: --captions_dir={os.path.join(folder, in_folder[0])}"
            )
        below = os.path.relpath(folder, raw_dir).replace(os.sep, "/")
        found += [(os.path.join(folder, name), "" if below == "." else below + "/") for name in in_folder]
    return found[:1] if found and not found[0][1] else found  # one beside the folders tells of all of them


def _of_tables(paths: list[tuple[str, str]], pictures: dict[str, str]) -> captions.Captions:
    index = names.Names(pictures)
    all_texts: dict[str, tuple[str, ...]] = {}
    places: dict[str, str] = {}
    faults: list[str] = []
    for path, folder in paths:
        table = tables.read(path, pictures)
        one = _renamed(
            {name: tuple(of_name) for name, of_name in table.texts.items()}, pictures, "", table.place,
            table.faults, folder, index,
        )  # fmt: skip
        for key, of_key in one.texts.items():
            if key in all_texts:
                raise ValueError(f"{places[key]} and {one.where(key)} are both of {key}; write it in one table.")
            all_texts[key], places[key] = of_key, one.where(key)
        faults += one.faults
    carrier = os.path.splitext(paths[0][0])[1][1:].lower()
    return captions.Captions(all_texts, {}, {}, carrier, lambda key: places.get(key, paths[0][0]), tuple(faults))


def _of_texts(files: dict[str, str], pictures: dict[str, str]) -> captions.Captions:
    """Of text files by their path without ending; where they alone lie in folders, these are classes."""
    bare = {name.rsplit("/", 1)[-1]: name for name in files}
    index = names.Names(pictures)
    own, class_of = {name: name for name in files}, {}
    if len(bare) == len(files) and len(index.match(files)[0]) < len(files):
        own, class_of = bare, {name: full.split("/")[0] for name, full in bare.items() if "/" in full}
    texts = sidecars.read({name: files[full] for name, full in own.items()})
    read = _renamed(texts, pictures, "text files", lambda name: files.get(own.get(name, name), "no text file"), [], "",
                    index)  # fmt: skip
    return dataclasses.replace(
        read, class_of={keys[0]: folder for name, folder in class_of.items() if len(keys := index.find([name])) == 1}
    )


def _renamed(
    of_name: dict[str, tuple[str, ...]],
    pictures: dict[str, str],
    carrier: str,
    where: object,
    faults: list[str],
    folder: str,
    index: names.Names | None = None,
) -> captions.Captions:
    """The captions under the keys of the pictures that their names mean.

    Raises: ValueError where a picture is then named in two ways.
    """
    index = index or names.Names(pictures)
    one, several = index.match(of_name, folder)
    faults = [
        *faults,
        *(f"{where(name)}: {name!r} may be {' or '.join(keys[:3])}; write the folder too" for name, keys in
          several.items()),
    ]  # fmt: skip
    result, named = {}, {}
    for name, of_key in of_name.items():
        if name in several:
            continue
        key = one.get(name, name)
        if key in result:
            raise ValueError(
                f"{where(name)}: {name!r} and {named[key]!r} are one picture, {key}; write it one way."
            )
        result[key], named[key] = of_key, name
        for caption in of_key:
            for word in caption.split() if "." in caption or "/" in caption else ():
                if tables.PICTURE.fullmatch(word.strip("\"',;:()[]")):
                    others = set(index.find(names.parts(word.strip("\"',;:()[]")))) - {key}
                    if others:
                        faults.append(f"{where(name)}: a caption of {key} holds the name of another picture, {word}")
                        result[key] = ()
    return captions.Captions(result, {}, {}, carrier, lambda key: where(named.get(key, key)) or carrier,
                             tuple(faults))  # fmt: skip
