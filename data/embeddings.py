"""Precomputed caption embeddings from the files that the field passes around, joined to pictures by key."""

import dataclasses
import math
import os
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import tqdm

from data import captions, names
from data.listing import Listing
from data.readers import arrays, pickles, sandbox

MAX_DIM = 2**16  # numbers of a vector; the largest of the field has 4,800
STACKGAN_FILE = "char-CNN-RNN-embeddings.pickle"


@dataclasses.dataclass(frozen=True)
class Embeddings:
    """Vectors of captions by picture key, row j of a picture belonging to its caption j."""

    name: str  # of the encoder that made them, as far as the files tell
    dim: int  # D
    scale: float  # root mean square of all entries
    source: str  # kind of file they came from
    rows: dict[str, np.ndarray]  # key -> [captions of that picture, D] float32, read-only or views: do not write
    texts: dict[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)  # captions stored beside them, if any


def read(path: str, name: str = "") -> Embeddings:
    """The embeddings of a file or folder, whichever of these kinds `path` is; checked, nothing is computed.

    folder with train/ and test/, each with char-CNN-RNN-embeddings.pickle (N x [captions, D]) and filenames.pickle
        (N names): the StackGAN archives. The name's last part without ending is the key.
    folder with <class>/<key>.t7, tables with `txt` [captions, D] and `img`: the ICML 2016 release of Reed et al.
    .npz with `keys` [N] and `embeddings` [N, captions, D], or [M, D] where `keys` [M] names each row's picture and the
        rows of a picture stand together in caption order.
    .npy with the array of such an .npz, beside a list of the keys of the same name, ending in .txt or .keys.

    name: "" = what the kind implies: char-CNN-RNN, or the file's name.

    Raises: FileNotFoundError or ValueError, one line: another number of rows than of keys, a key seen twice (also
        once in train and once in test), shapes that differ, numbers that are not finite, `img` of another picture.
    """
    texts = {}
    if os.path.isdir(path):
        class_of = captions.class_files(path, ".t7")
        if any(os.path.exists(os.path.join(path, split, STACKGAN_FILE)) for split in captions.SPLIT_FILES):
            rows, source, implied = _read_stackgan(path), "StackGAN pickles", "char-CNN-RNN"
        elif class_of:
            items = list(sandbox.read(t7_rows, [os.path.join(path, class_of[key], f"{key}.t7") for key in class_of]))
            rows, texts = _by_key(path, items), {key: tuple(texts) for key, _, texts in items if texts}
            source, implied = "t7 files", "char-CNN-RNN"
        else:
            raise FileNotFoundError(
                f"embeddings={path!r} is a folder with neither train/{STACKGAN_FILE} nor <class>/<picture>.t7; give "
                "the folder that holds train/ and test/, or the folder of the class folders, or an .npz file."
            )
    elif not os.path.isfile(path):
        raise FileNotFoundError(f"No embeddings={path!r}; give a StackGAN or .t7 folder, an .npz or an .npy file.")
    elif path.endswith(".npz"):
        rows, source, implied = _by_key(path, sandbox.read(npz, path)), "npz", _stem(path)
    elif path.endswith(".npy"):
        rows = _by_key(path, sandbox.read(npy, path, _key_list(path)))
        source, implied = "npy", _stem(path)
    else:
        raise ValueError(
            f"embeddings={path!r} is a file of no known kind (.npz, .npy); for a pickle give the folder that holds "
            "train/ and test/, for .t7 files the folder of the class folders."
        )
    first = next(iter(rows), None)
    if first is None:
        raise ValueError(f"{path} holds no embeddings.")
    dim = rows[first].shape[1]
    if dim > MAX_DIM:
        raise ValueError(f"{path}: {first!r} has vectors of {dim:,} numbers; embeddings have at most {MAX_DIM:,}.")
    total, squares = 0, 0.0
    for key, row in rows.items():
        if row.shape[1] != dim:
            raise ValueError(f"{path}: {key!r} has vectors of {row.shape[1]} numbers, {first!r} of {dim}.")
        square = float(np.einsum("nd,nd->", row, row, dtype=np.float64))
        if not math.isfinite(square):
            raise ValueError(f"{path}: the embeddings of {key!r} are not all finite numbers; make them again.")
        total, squares = total + row.size, squares + square
    if not squares:
        raise ValueError(f"{path}: every embedding is zero; make them again.")
    return Embeddings(name or implied, dim, math.sqrt(squares / total), source, rows, texts)


def by_picture(embeddings: Embeddings, listing: Listing) -> Embeddings:
    """The same with the keys of the listing, where theirs are its pictures' bare names, or paths with other folders."""
    if all(entry.key in embeddings.rows for entry in listing.entries):
        return embeddings
    one, _ = names.Names({entry.key: entry.image_path for entry in listing.entries}).match(embeddings.rows)
    if len(set(one.values())) < len(one):
        return embeddings
    rows = {one.get(name, name): row for name, row in embeddings.rows.items()}
    texts = {one.get(name, name): of_name for name, of_name in embeddings.texts.items()}
    return dataclasses.replace(embeddings, rows=rows, texts=texts)


def check(embeddings: Embeddings, listing: Listing) -> int:
    """Checks that embeddings and pictures fit; returns how many pictures have embeddings but are not in the listing.

    Every entry needs as many vectors as it has captions. Where the embeddings came with their captions (.t7), these
    must be the entry's, in the same order.

    Raises: ValueError naming the picture.
    """
    entries = listing.entries
    lacking = [entry.key for entry in entries if entry.key not in embeddings.rows]
    if lacking:
        other = next(iter(sorted(embeddings.rows.keys() - {entry.key for entry in entries})), None)
        hint = f" (a key of theirs that no picture has: {other!r})" if other else ""
        raise ValueError(
            f"{len(lacking)} of {len(entries)} pictures have no embeddings, such as {lacking[0]!r}{hint}; "
            f"give the {embeddings.source} of this data set, or build without --embeddings."
        )
    for entry in entries:
        count = len(embeddings.rows[entry.key])
        if count != len(entry.captions):
            raise ValueError(
                f"{entry.key!r} has {count} embeddings and {len(entry.captions)} captions; row j must belong to "
                "caption j: give the captions that the embeddings were made from."
            )
        if entry.key in embeddings.texts:
            _check_texts(entry.key, embeddings.texts[entry.key], entry.captions)
    return len(embeddings.rows.keys() - {entry.key for entry in entries})


def _check_texts(key: str, theirs: tuple[str, ...], ours: tuple[str, ...]) -> None:
    """Raises: ValueError where caption j of the embeddings' file is another than caption j of the picture.

    Letters and digits are compared up to the 201 characters that the .t7 files keep.
    """
    theirs, ours = ([_letters(text) for text in texts] for texts in (theirs, ours))
    for j, (one, other) in enumerate(zip(theirs, ours, strict=False)):
        if not (one.startswith(other[: len(one)]) and other.startswith(one[: len(other)])):
            place = f"it is caption {theirs.index(other)} there" if other in theirs else "it is not there at all"
            raise ValueError(
                f"{key!r}: caption {j} is another than the one its embedding was made from ({place}, counted from 0); "
                "give the captions of the same release."
            )


def _letters(text: str) -> str:
    return "".join(c for c in text.lower() if c.isascii() and c.isalnum())


def _rows(path: str, keys: list[str], values: "list | np.ndarray", key_source: str) -> Iterator[tuple[str, np.ndarray]]:
    """(key, [n, D] float32) of values [N, n, D] or N x [n, D]. key_source: the file of the keys, for messages."""
    if len(keys) != len(values):
        raise ValueError(f"{path} holds {len(values)} rows, but {key_source} names {len(keys)} pictures; they do not "
                         "belong together, fetch both again.")  # fmt: skip
    for key, value in zip(keys, values, strict=True):
        yield key, _matrix(path, key, value)


def _by_key(path: str, items: Iterable[Sequence]) -> dict[str, np.ndarray]:
    """key -> vectors. Raises: ValueError for a key that comes again."""
    rows = {}
    for key, value, *_ in items:
        if key in rows:
            raise ValueError(f"{path} has the key {key!r} twice, or comes back to it after others; the rows of a "
                             "picture must stand together, in caption order, and only once.")  # fmt: skip
        rows[key] = value
    return rows


def _matrix(path: str, key: str, value: object) -> np.ndarray:
    """[n, D] float32. Raises: ValueError for anything but a matrix of floats."""
    if not isinstance(value, np.ndarray) or value.dtype.kind != "f" or value.ndim != 2 or not value.size:
        actual = f"{value.dtype} {list(value.shape)}" if isinstance(value, np.ndarray) else f"a {type(value).__name__}"
        raise ValueError(f"{path}: the embeddings of {key!r} are {actual}, expected floats [captions, dim].")
    with np.errstate(over="ignore"):  # what is too large for float32 becomes infinite, and is refused for that
        return np.asarray(value, np.float32)


def _read_stackgan(folder: str) -> dict[str, np.ndarray]:
    rows = {}
    names = captions.read_names(folder)  # every key once, in either split
    for split in tqdm.tqdm(names, unit="file", desc="reading embeddings", delay=2, leave=False):
        path = os.path.join(folder, split, STACKGAN_FILE)
        if not os.path.isfile(path):
            raise FileNotFoundError(f"No {path!r}; StackGAN's archives have it in train/ and test/.")
        keys = [_stem(name) for name in names[split]]
        rows |= _by_key(path, sandbox.read(stackgan, path, keys, os.path.join(folder, split, "filenames.pickle")))
    return rows


def stackgan(path: str, keys: list[str], key_source: str) -> Iterator[tuple[str, np.ndarray]]:
    """Key and vectors of every picture of one of StackGAN's pickles; for the sandbox."""
    values = pickles.load(path)
    if not isinstance(values, (list, tuple, np.ndarray)) or (isinstance(values, np.ndarray) and not values.ndim):
        raise ValueError(f"{path} is a {type(values).__name__}, expected N arrays [captions, dim].")
    return _rows(path, keys, values, key_source)


def t7_rows(paths: list[str]) -> Iterator[tuple[str, np.ndarray, list[str]]]:
    """Key, vectors and captions (none = not there) of every .t7 file; for the sandbox."""
    for key, path, table in captions.t7_tables(paths, "txt", "embeddings"):
        texts = captions.decode_characters(path, table[b"char"]) if b"char" in table else []
        yield _without_ending(key), _matrix(path, key, table[b"txt"]), list(texts)


def npz(path: str) -> Iterator[tuple[str, np.ndarray]]:
    """Key and vectors of every picture of an .npz; for the sandbox."""
    members = dict(arrays.load_npz(path))
    if not {"keys", "embeddings"} <= members.keys():
        raise ValueError(f"{path} has the arrays {', '.join(sorted(members)) or 'none'}; expected keys and embeddings.")
    keys = members["keys"]
    if keys.ndim != 1 or keys.dtype.kind not in "SU":
        raise ValueError(f"{path}: keys is {keys.dtype} {list(keys.shape)}, expected a row of strings.")
    if keys.dtype.kind == "S":
        keys = np.char.decode(keys, "utf-8", "replace")
    return _array_rows(path, keys.tolist(), members["embeddings"], f"'keys' of {path}")


def npy(path: str, list_path: str) -> Iterator[tuple[str, np.ndarray]]:
    """Key and vectors of every picture of an .npy and its list of keys; for the sandbox."""
    with sandbox.opened(list_path) as file:
        keys = [line.strip() for line in file.read().decode("utf-8", "replace").split("\n") if line.strip()]
    ((values,),) = arrays.load_npy(path)
    return _array_rows(path, keys, values, list_path)


def _key_list(path: str) -> str:
    lists = [path[: -len(".npy")] + ending for ending in (".keys", ".txt")]
    list_path = next((name for name in lists if os.path.isfile(name)), None)
    if not list_path:
        raise FileNotFoundError(f"No list of keys beside {path}: expected {lists[0]} or {lists[1]}, a key a line.")
    return list_path


def _array_rows(path: str, keys: list[str], values: np.ndarray, key_source: str) -> Iterator[tuple[str, np.ndarray]]:
    """(key, [n, D]) of an array [N, n, D], or [M, D] whose rows of one key stand together."""
    keys = [_without_ending(key) for key in keys]
    if values.ndim not in (2, 3):
        raise ValueError(f"{path}: embeddings of shape {list(values.shape)}, expected [N, captions, dim] or [M, dim].")
    if values.ndim == 2 and len(keys) == len(values):
        firsts = [i for i, key in enumerate(keys) if i == 0 or key != keys[i - 1]]
        values = [values[first:after] for first, after in zip(firsts, [*firsts[1:], len(keys)], strict=True)]
        keys = [keys[first] for first in firsts]
    return _rows(path, keys, values, key_source)


def _stem(path: str) -> str:
    """Last part of a name without its ending."""
    name = path.rsplit("/", 1)[-1]
    return name[: -len(".npz")] if name.endswith((".npz", ".npy")) else _without_ending(name.removesuffix(".t7"))


def _without_ending(name: str) -> str:
    return next((name[: -len(end)] for end in names.PICTURE_ENDINGS if name.lower().endswith(end)), name)
