"""Captions by picture key from every carrier of the field: text files, .t7 files, AttnGAN's pickles, CSV, JSONL."""

import dataclasses
import os
from collections.abc import Callable, Iterator

import numpy as np
import tqdm

from data import tables, texts
from data.readers import pickles, sandbox, t7
from simgan_tf.system import files

SPLIT_FILES = {"train": "trainvalclasses.txt", "test": "testclasses.txt"}
# Index 1 to 70 into it, 0 = no character; the hyphen stands at 37 and at 60. Source: the ICML 2016 code of Reed et al.
ALPHABET = "abcdefghijklmnopqrstuvwxyz0123456789-,;.!?:'\"/\\|_@#$%^&*~`+-=<>()[]{} "
MAX_TEXT = 2**20  # bytes of one picture's captions or of a class list
CHARACTERS = 201  # kept of each caption in the .t7 files


@dataclasses.dataclass(frozen=True)
class Captions:
    """The captions of one carrier (a kind of file), by key: the file name of the picture without folder and ending."""

    texts: dict[str, tuple[str, ...]]  # of the wanted keys; () where a file is there but empty
    class_of: dict[str, str]  # class folder ("" = unknown) of every key, read or not; {} if the carrier has none
    split_of: dict[str, str]  # "train" or "test" of every key; {} where the carrier knows no splits
    carrier: str  # kind of file, for people
    where: Callable[[str], str]  # key -> place of its captions, for messages
    faults: tuple[str, ...] = ()  # a line for each part of the carrier that cannot be used

    def keys(self) -> set[str]:
        """Every key that has captions, read or not."""
        return self.texts.keys() | self.class_of.keys()


def read(path: str, wanted: set[str] | None = None) -> Captions:
    """The captions of a file or folder, whichever of these `path` is or holds; classes and splits where it has them.

    captions.csv, captions.jsonl, or any file of that ending: lines of key and caption.
    captions.pickle beside train/filenames.pickle and test/filenames.pickle: AttnGAN's metadata.
    <class>/<key>.txt, one caption a line: Reed's text_c10, or a folder that holds text_c10/ or text/.
    <class>/<key>.t7: Reed's files for ICML 2016.

    wanted: keys whose captions are needed, None = all; tables are read whole in any case.

    Raises: FileNotFoundError or ValueError, one line with the file and the place in it.
    """
    if os.path.isfile(path):
        ending = os.path.splitext(path)[1].lower()
        if ending == ".pickle":
            return _read_attngan(path, wanted)
        if ending in tables.ENDINGS:
            table = tables.read(path)
            captions = {name: tuple(of_name) for name, of_name in table.texts.items()}
            return Captions(captions, {}, {}, ending[1:], lambda key: table.place(key) or path, tuple(table.faults))
        kinds = ", ".join(tables.ENDINGS)
        raise ValueError(f"{path} is no file of captions; {kinds}, .pickle or a folder can be read.")
    if not os.path.isdir(path):
        raise FileNotFoundError(f"No captions at {path!r}; say where they are: --captions_dir.")
    for name in ("captions.csv", "captions.jsonl", "captions.pickle"):
        if os.path.isfile(os.path.join(path, name)):
            return read(os.path.join(path, name), wanted)
    for name in ("text_c10", "text"):
        if os.path.isdir(os.path.join(path, name)):
            return read(os.path.join(path, name), wanted)
    for suffix, carrier in ((".txt", "text files"), (".t7", "t7 files")):
        class_of = class_files(path, suffix)
        if class_of:
            needed = [key for key in class_of if wanted is None or key in wanted]
            paths = [os.path.join(path, class_of[key], key + suffix) for key in needed]
            if suffix == ".t7":
                of_key = {key: tuple(own) for key, own in sandbox.read(t7_captions, paths)}
            else:
                bar = tqdm.tqdm(paths, unit="file", desc="reading captions", delay=2, leave=False)
                of_key = dict(zip(needed, map(_lines, bar), strict=True))
            return Captions(of_key, class_of, {}, carrier, _file_of(path, class_of, suffix))
    raise FileNotFoundError(
        f"No captions in {path!r}: it has no captions.csv, captions.jsonl or captions.pickle (AttnGAN's), no text_c10 "
        "and no folders of classes with a .txt or .t7 file for each picture; say where they are: --captions_dir."
    )


def class_lists(captions_dir: str, train_classes: str = "", test_classes: str = "") -> dict[str, list[str]]:
    """Class folders of the splits "train" and "test", sorted.

    train_classes, test_classes: files with one class a line; "" = trainvalclasses.txt and testclasses.txt of
        captions_dir or of the folder above it, as the releases have them.

    Raises: FileNotFoundError for a missing list, ValueError for an empty one or a class in both.
    """
    lists, paths = {}, list_paths(captions_dir, train_classes, test_classes)
    for split, path in paths.items():
        if not os.path.isfile(path):
            raise FileNotFoundError(
                f"No {path!r}; it lists the {split} split's class folders, one a line. Say where the list is: "
                f"--{split}_classes, or split the classes by chance: --test_share=0.2"
            )
        lists[split] = sorted(set(_lines(path)))
        if not lists[split]:
            raise ValueError(f"{path} is empty; it must list the class folders of the {split} split, one a line.")
    both = sorted(set(lists["train"]) & set(lists["test"]))
    if both:
        raise ValueError(
            f"Class {both[0]!r} stands in both {paths['train']} and {paths['test']} "
            f"({len(both)} such classes); a class belongs to one split, take it out of one list."
        )
    return lists


def list_paths(captions_dir: str, train_classes: str = "", test_classes: str = "") -> dict[str, str]:
    """Path of each split's class list, there or not, by the rule of `class_lists`."""
    if train_classes or test_classes:
        return {"train": train_classes, "test": test_classes}
    folder = captions_dir if os.path.isdir(captions_dir) else os.path.dirname(captions_dir)
    above = os.path.dirname(os.path.abspath(folder))
    if not any(os.path.isfile(os.path.join(folder, name)) for name in SPLIT_FILES.values()):
        if all(os.path.isfile(os.path.join(above, name)) for name in SPLIT_FILES.values()):
            folder = above
    return {split: os.path.join(folder, name) for split, name in SPLIT_FILES.items()}


def stems(folder: str, suffix: str) -> list[str]:
    """Sorted names without `suffix` of the files in `folder` that end in it; hidden files are left out."""
    names = sorted(os.listdir(folder))
    return [name[: -len(suffix)] for name in names if name.endswith(suffix) and name[0] != "."]


def read_text(path: str, max_bytes: int = MAX_TEXT) -> str:
    """The content of a text file, in UTF-8 or as its byte order mark says.

    U+FFFD, which published captions hold here and there in place of a letter, becomes a blank. Source: AttnGAN's code.

    Raises: ValueError for a file of another encoding, or over max_bytes, which nothing published comes near; OSError.
    """
    return texts.decode(path, files.read_regular(path, max_bytes)).replace("\ufffd", " ")


def read_names(folder: str) -> dict[str, list[str]]:
    """Names of the pictures of each split, such as "001.Black_footed_Albatross/Black_Footed_Albatross_0046_18".

    They stand in train/filenames.pickle and test/filenames.pickle of StackGAN's and AttnGAN's archives.
    Raises: FileNotFoundError; ValueError for another content or a key that occurs twice.
    """
    names, seen = {}, set()
    for split in SPLIT_FILES:
        path = os.path.join(folder, split, "filenames.pickle")
        if not os.path.isfile(path):
            raise FileNotFoundError(f"No {path!r}; it names the pictures in the order of the other pickles.")
        names[split] = [name for (name,) in sandbox.read(picture_names, path)]
        for i, name in enumerate(names[split]):
            key = name.rsplit("/", 1)[-1]
            if key in seen:
                raise ValueError(f"{path}: name {i}, {key!r}, is there a second time; each picture has one name.")
            seen.add(key)
    return names


def picture_names(path: str) -> Iterator[tuple[str]]:
    """Every name in a filenames.pickle; for the sandbox. Raises: ValueError for another content."""
    names = pickles.load(path)
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError(f"{path} is no list of picture names; fetch it again.")
    return zip(names)


def decode_characters(path: str, matrix: object) -> tuple[str, ...]:
    """The captions of a `char` matrix [201, captions], one a column: indices into ALPHABET from 1, 0 = no character.

    path: for messages.   Raises: ValueError for another shape or numbers outside the alphabet.
    """
    if not isinstance(matrix, np.ndarray) or matrix.ndim != 2 or matrix.shape[0] != CHARACTERS:
        actual = list(matrix.shape) if isinstance(matrix, np.ndarray) else type(matrix).__name__
        raise ValueError(f"{path}: 'char' is {actual}, expected numbers [{CHARACTERS}, captions]; fetch it again.")
    right = (matrix >= 0) & (matrix <= len(ALPHABET)) & (np.floor(matrix) == matrix)
    if not right.all():
        raise ValueError(f"{path}: 'char' holds {matrix[~right][0]}, expected 0 to {len(ALPHABET)}; fetch it again.")
    codes = np.frombuffer(b"\0" + ALPHABET.encode(), np.uint8)[matrix.T.astype(int)]
    return tuple(bytes(column).replace(b"\0", b"").decode().strip() for column in codes)


def class_files(path: str, suffix: str) -> dict[str, str]:
    """Key -> class folder of every <class>/<key><suffix>. Raises: ValueError for a key in two folders."""
    class_of = {}
    folders = sorted(entry.name for entry in os.scandir(path) if os.path.isdir(entry) and entry.name[0] != ".")
    for folder in folders:
        for key in stems(os.path.join(path, folder), suffix):
            if key in class_of:
                raise ValueError(
                    f"{os.path.join(path, folder, key + suffix)} is there a second time, in {class_of[key]}; a "
                    "picture has one such file: take one away."
                )
            class_of[key] = folder
    return class_of


def _file_of(path: str, class_of: dict[str, str], suffix: str) -> Callable[[str], str]:
    return lambda key: os.path.join(path, class_of.get(key, "?"), key + suffix)


def _lines(path: str) -> tuple[str, ...]:
    """The lines of a text file in its order, stripped, without the empty ones."""
    return tuple(line for line in map(str.strip, read_text(path).splitlines()) if line)


def t7_captions(paths: list[str]) -> Iterator[tuple[str, list[str]]]:
    """Key and captions of every .t7 file; for the sandbox."""
    for key, path, table in t7_tables(paths, "char", "captions"):
        yield key, [text for text in decode_characters(path, table[b"char"]) if text]


def t7_tables(paths: list[str], name: str, meaning: str) -> Iterator[tuple[str, str, dict]]:
    """Key, path and table of every .t7 file of Reed et al.; `name` of it holds the `meaning`. For the sandbox."""
    for path in tqdm.tqdm(paths, unit="file", desc=f"reading {meaning}", delay=2, leave=False):
        table, key = t7.load(path), os.path.basename(path).removesuffix(".t7")
        if not isinstance(table, dict) or name.encode() not in table:
            raise ValueError(f"{path} is no table with {name!r}, the {meaning}; is this the release of Reed et al.?")
        image = table.get(b"img", b"")
        name_of = os.path.basename(image.decode("latin1")) if isinstance(image, bytes) else "no text"
        stem = os.path.splitext(name_of)[0]
        if stem and key not in (stem, name_of):  # a.t7, or a.jpg.t7
            raise ValueError(f"{path} says that it belongs to the picture {stem[:200]!r}; fetch the files again.")
        yield key, path, table


def _read_attngan(path: str, wanted: set[str] | None) -> Captions:
    """Caption j of picture i is number i * n + j of its split's list, a list of word numbers; n captions a picture."""
    of_key, class_of, split_of = {}, {}, {}
    names = read_names(os.path.dirname(path))
    for split, of_split in names.items():
        for name in of_split:
            folder, _, key = name.rpartition("/")
            split_of[key] = split
            class_of[key] = "" if folder == "jpg" else os.path.basename(folder)  # jpg/: the flowers, without class
    for (sentences,), key in zip(sandbox.read(attngan_captions, path, names), split_of, strict=True):
        if wanted is None or key in wanted:
            of_key[key] = tuple(sentences)
    return Captions(of_key, class_of, split_of, "AttnGAN pickles", lambda key: f"{path}, {key}")


def attngan_captions(path: str, names: dict[str, list[str]]) -> Iterator[tuple[list[str]]]:
    """The captions of every picture of AttnGAN's captions.pickle, in the order of `names`; for the sandbox.

    names: of the pictures of each split, as `read_names` gives them.
    """
    content = pickles.load(path)
    if (
        not isinstance(content, (list, tuple))
        or [type(part) for part in content] != [list, list, dict, dict]
        or not all(isinstance(word, str) for word in content[2].values())
    ):
        raise ValueError(f"{path} is not AttnGAN's: the captions of train and test, then two tables of words.")
    words = {number: word for number, word in content[2].items() if number != 0}  # 0 pads, in no caption
    for captions, (split, of_split) in zip(content[:2], names.items(), strict=True):
        each, rest = divmod(len(captions), max(1, len(of_split)))
        if rest or not each:
            raise ValueError(
                f"{path} holds {len(captions):,} {split} captions for {len(of_split):,} names in "
                f"{split}/filenames.pickle, not equally many each; the two do not belong together, fetch both again."
            )
        for i, name in enumerate(of_split):
            try:
                own = captions[i * each : (i + 1) * each]
                sentences = [" ".join([words[n] for n in numbers]) for numbers in own]
            except (KeyError, TypeError) as error:
                raise ValueError(
                    f"{path}: a {split} caption of picture {i} ({name.rpartition('/')[2]}) is no list of word numbers, "
                    f"or one of them is not in the table of words ({str(error)[:80]}); fetch the file again."
                ) from None
            yield ([text for text in sentences if text],)
