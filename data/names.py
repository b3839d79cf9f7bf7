"""Which picture a name means: names in tables are written with and without folders, endings, capitals and blanks."""

import functools
import os
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Mapping

PICTURE_ENDINGS = (  # of the files that are taken for pictures
    ".jpg", ".jpeg", ".jfif", ".jpe", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".avif", ".heic",
    ".heif",
)  # fmt: skip


def parts(name: str) -> list[str]:
    """Folders and file of a path of any system, such as C:\\flowers\\a.jpg or ./flowers/a.jpg."""
    return [part for part in re.sub(r"^[A-Za-z]:", "", name.replace("\\", "/")).split("/") if part not in ("", ".")]


def folded(name: str) -> str:
    """What stays of a name where letters are compared without case and form, and blanks by their being there."""
    if name.isascii():
        return name.lower() if " " not in name else " ".join(name.lower().split())
    return " ".join(unicodedata.normalize("NFC", name).casefold().split())


class Names:
    """The pictures of a folder, found by whatever of their path a name holds."""

    def __init__(self, paths: Mapping[str, str]) -> None:
        """paths: key (path without ending, with "/") -> path of the file, with its ending."""
        self.endings = {key: os.path.splitext(path)[1] for key, path in paths.items()}
        self.deepest = max((key.count("/") for key in paths), default=0) + 1  # parts of a path; longer names mean none
        self._exact = {key: key for key in paths} | {key + ending: key for key, ending in self.endings.items()}

    @functools.cached_property
    def _tails(self) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
        """Folded last parts of paths, with and without the ending -> keys. Not needed where names are exact."""
        by_tail, by_stem = defaultdict(list), defaultdict(list)
        for key, ending in self.endings.items():
            pieces = [folded(part) for part in key.split("/")]
            last = folded(key.rsplit("/", 1)[-1] + ending)
            for start in range(len(pieces)):
                by_stem["/".join(pieces[start:])].append(key)
                by_tail["/".join([*pieces[start:-1], last])].append(key)
        return by_tail, by_stem

    def find(self, pieces: list[str]) -> list[str]:
        """The keys that a name split by `parts` may mean: [] = none, more than one = it does not say which."""
        if len(pieces) > self.deepest:
            return []
        tail, name = "/".join(map(folded, pieces)), "/".join(pieces)
        by_tail, by_stem = self._tails
        found = by_tail.get(tail) or by_stem.get(tail)
        if not found:
            stem, ending = os.path.splitext(tail)
            found = by_stem.get(stem.rstrip(), []) if ending in PICTURE_ENDINGS else []
        for form in (lambda text: text, lambda text: unicodedata.normalize("NFC", text), folded):
            if len(found) > 1:  # the one that is written so, if there is one; else that of no further folder
                whole = {form(name)}
                found = [key for key in found if {form(key), form(key + self.endings[key])} & whole] or found
        return found

    def match(self, names: Iterable[str], folder: str = "") -> tuple[dict[str, str], dict[str, list[str]]]:
        """name -> key of those that mean one picture, and name -> keys of those that may mean several.

        folder: where the table of the names lies, with "/": the names may begin there. Leading folders that all names
        share, such as those of another machine, are left out as far as needed.
        """
        names = list(names)
        exact = {name: key for name in names if (key := self._exact.get(folder + name))}
        if len(exact) == len(names):
            return exact, {}
        split = {name: parts(name) for name in names}
        shared = len(os.path.commonprefix([pieces[:-1] for pieces in split.values()])) if split else 0
        before, longer = parts(folder), min(map(len, split.values()), default=0) - self.deepest
        best: tuple[dict, dict] = ({}, {})
        for prefix, drop in [(before, 0)] * bool(before) + [([], drop) for drop in range(max(0, longer), shared + 1)]:
            one, several = {}, {}
            for name, pieces in split.items():
                found = self.find([*prefix, *pieces[drop:]])
                if len(found) == 1:
                    one[name] = found[0]
                elif found:
                    several[name] = found
            if len(one) > len(best[0]) or (len(one) == len(best[0]) and len(several) > len(best[1])):
                best = one, several
            if len(one) == len(split):
                break
        return best
