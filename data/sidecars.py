"""Captions in text files of the pictures' names, beside the pictures or in a tree of their own."""

import os

import tqdm

from data import texts
from data.layouts import Tree
from data.names import PICTURE_ENDINGS
from simgan_tf.system import files

ENDINGS = (".txt", ".caption")
MAX_BYTES = 2**20


def beside(tree: Tree, pictures: dict[str, str]) -> dict[str, str]:
    """key -> path of the text file beside its picture: a.txt, a.caption or a.jpg.txt for a.jpg."""
    there = {folder: set(names) for folder, names in tree if any(n.lower().endswith(ENDINGS) for n in names)}
    found = {}
    for key, path in pictures.items() if there else ():
        folder, name = os.path.split(path)
        names, stem = there.get(folder, ()), name[: name.rfind(".")]
        text = stem + ".txt"
        if text not in names:
            wanted = [base + ending for base in (stem, name) for ending in (*ENDINGS, *map(str.upper, ENDINGS))]
            text = next((one for one in wanted if one in names), None)
        if text:
            found[key] = os.path.join(folder, text)
    return found


def below(text_dir: str, tree: Tree) -> dict[str, str]:
    """Path below text_dir without ending -> text file of `tree`; class lists, which lie at its top, are left out."""
    found = {}
    for folder, names in tree:
        for name in names:
            stem, ending = os.path.splitext(name)
            if ending.lower() in ENDINGS and not is_list(stem):
                stem = stem[: -len(end)] if (end := os.path.splitext(stem)[1]).lower() in PICTURE_ENDINGS else stem
                found[os.path.relpath(os.path.join(folder, stem), text_dir).replace(os.sep, "/")] = os.path.join(
                    folder, name
                )
    return found


def is_list(stem: str) -> bool:
    """Whether a text file of this name holds classes or is for people, and no caption."""
    return stem.lower().endswith("classes") or stem.lower() in ("readme", "license", "classes", "requirements")


def read(paths: dict[str, str]) -> dict[str, tuple[str, ...]]:
    """The captions of each file, one a line, by the same names; () of an empty one.

    Raises: ValueError with the file, for one of another encoding than UTF-8 without a mark, or over a megabyte.
    """
    captions = {}
    for name, path in tqdm.tqdm(paths.items(), unit="file", desc="reading captions", delay=2, leave=False):
        text = texts.decode(path, files.read_regular(path, MAX_BYTES))
        each = [" ".join(line.split()) for line in text.splitlines()]
        captions[name] = tuple(filter(None, each))
    return captions
