"""Where every example lies in the record files, and reading it there, in any order, without holding the rest.

Beside the records of a split stands SPLIT.index.npy, one row of PLACE an example in the order they were written, and
behind the rows which split of which set they are of. What is read is checked against the row's checksum. TensorFlow's
reader, which checks the records' own, takes a dataset and an opened file for every example, a tenth of what decoding
costs; so it is the one that makes an index of records without one, and zlib's CRC-32 of the same bytes stands in it.
"""

import contextlib
import functools
import hashlib
import io
import os
import struct
import threading
import weakref
import zlib
from collections.abc import Sequence
from typing import NoReturn

import numpy as np

from simgan_tf.system import files

PLACE = np.dtype(
    [
        ("start", "<i8"),  # bytes before the example in its shard; example i lies in shard i % shards
        ("length", "<i4"),  # bytes
        ("checksum", "<u4"),  # CRC-32 of these bytes
        ("image_checksum", "<u4"),  # CRC-32 of the picture's
        ("image", "<i4", 2),  # first byte within the example, and number of bytes
        ("embeddings", "<i4", 2),  # the same of the packed float32, [captions * D]
        ("mask", "<i4"),  # bytes; 0 = none
        ("captions", "<i4"),  # number
        ("class_id", "<i8"),
    ]
)
ROW = struct.Struct("<qiIIiiiiiiq")  # one of PLACE


def index_path(records_dir: str, split: str) -> str:
    return os.path.join(records_dir, f"{split}.index.npy")


class Index:
    """Rows of PLACE of one shard, collected while it is written or read for the first time."""

    def __init__(self) -> None:
        self._rows, self._end = bytearray(), 0

    def add(self, serialized: bytes, found: dict[str, tuple[int, int]], captions: int, class_id: int) -> None:
        """Notes the next example. found: what `spans` gives of it."""
        start, (first, length) = self._end + 12, found["image"]  # after the length of the record and its checksum
        self._end = start + len(serialized) + 4
        checksums = zlib.crc32(serialized), zlib.crc32(memoryview(serialized)[first : first + length])
        facts = *found["image"], *found["embeddings"], found["mask"][1], captions, class_id
        self._rows += ROW.pack(start, len(serialized), *checksums, *facts)

    def table(self) -> np.ndarray:
        """[N] of PLACE."""
        return np.frombuffer(self._rows, PLACE)


def interleaved(indices: Sequence[Index]) -> np.ndarray:
    """[N] of PLACE of a split whose examples went into these shards in turn."""
    tables = [index.table() for index in indices]
    table = np.empty(sum(map(len, tables)), PLACE)
    for shard, of_shard in enumerate(tables):
        table[shard :: len(tables)] = of_shard
    return table


def spans(serialized: bytes, image: int, key: int, mask: int, embeddings: int) -> dict[str, tuple[int, int]]:
    """First byte and number of bytes of the values of image, mask and embeddings in a serialized tf.train.Example.

    image, key, mask, embeddings: bytes of these values. The features stand in the order of their names, so that these
    four are the last, and nothing has to be read.
    """
    end = len(serialized) - _entry(4, mask) - _entry(3, key)  # of the picture
    before = end - _entry(5, image)
    return {"image": (end - image, image), "mask": (len(serialized) - mask, mask),
            "embeddings": (before - embeddings, embeddings)}  # fmt: skip


@functools.lru_cache(maxsize=1024)  # keys and masks are often as long as the last
def _entry(name: int, length: int) -> int:
    """Bytes of a feature with a name of so many and one value of `length`: the value in its list, that in Feature, that
    behind the name, and all of it in Features, each behind a tag and its own length, 7 bits a byte."""
    size = length
    for more in (0, 0, 2 + name, 0):
        size += 1 + (((size | 1).bit_length() + 6) // 7) + more
    return size


def write(records_dir: str, split: str, table: np.ndarray, part: dict[str, object]) -> None:
    """Writes the index of `split`, and behind it whose it is. part: of dataset.json. Raises: OSError."""
    with files.replacing(index_path(records_dir, split)) as temporary, open(temporary, "wb") as file:
        np.save(file, table)
        file.write(_owner(part))


def read(records_dir: str, split: str, paths: Sequence[str], part: dict[str, object]) -> np.ndarray | None:
    """The index of `split`, [part's images] of PLACE; None where there is none, or one of other files than `paths`.

    part: the split's of dataset.json. Its fingerprint stands behind the rows, so that records which were exchanged
    together with their index are found out: their own fingerprint is another.
    """
    head, owner = io.BytesIO(), _owner(part)
    facts = {"descr": np.lib.format.dtype_to_descr(PLACE), "fortran_order": False, "shape": (part["images"],)}
    np.lib.format.write_array_header_1_0(head, facts)  # what np.save writes; a stranger's is not even parsed
    first = len(head.getvalue())
    try:
        with files.open_regular(index_path(records_dir, split)) as file:
            size = first + part["images"] * PLACE.itemsize + len(owner)
            if os.fstat(file.fileno()).st_size != size or file.read(first) != head.getvalue():
                return None
            data = file.read()
    except (OSError, ValueError):
        return None
    if not data.endswith(owner):
        return None
    table = np.frombuffer(data, PLACE, part["images"])
    return table if _fits(table, paths) else None


def _owner(part: dict[str, object]) -> bytes:
    """64 bytes that tell one split's records, and their embeddings, from any others."""
    fingerprints = f"{part['fingerprint']} {part.get('embeddings_fingerprint', '')}"
    return hashlib.sha256(fingerprints.encode("utf-8", "replace")).hexdigest().encode()


def _fits(table: np.ndarray, paths: Sequence[str]) -> bool:
    """Whether the examples fill the shards from their first byte to their last, without a gap."""
    for shard, path in enumerate(paths):
        rows = table[shard :: len(paths)]
        starts = np.concatenate([[12], rows["start"] + rows["length"] + 16])
        if (rows["length"] < 0).any() or (starts[:-1] != rows["start"]).any():
            return False
        with contextlib.suppress(OSError):
            if os.path.getsize(path) != starts[-1] - 12:
                return False
    inside = all(
        (rows.min(initial=0) >= 0) and (rows.sum(axis=1) <= table["length"]).all()
        for rows in (table["image"].astype(np.int64), table["embeddings"].astype(np.int64))
    )
    return inside and (table["captions"] > 0).all()


class Places:
    """The examples of a split in their files, which stay open: they can be read on after their names are gone.

    A picture is compared with its checksum when this process reads it first. To do so at every read took 27 of the 37
    microseconds that reading one of 35 KB takes, where decoding takes 1,400.

    table: [N] of PLACE.   dim: D of the embeddings, 0 = none.   damage: what was found wrong by a read, "" = nothing.
    """

    def __init__(self, paths: Sequence[str], table: np.ndarray, dim: int) -> None:
        self.paths, self.table, self.dim, self.damage = list(paths), table, dim, ""
        self._sound = np.zeros(len(table), bool)  # pictures that were compared with their checksums
        self._handles: list[int] = []
        self._lock = threading.Lock()
        weakref.finalize(self, _close, self._handles)
        for path in paths:
            self._handles.append(os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0)))

    def record(self, row: int) -> bytes:
        """The serialized example. Raises: ValueError for bytes that were changed, OSError where they cannot be read."""
        place = self.table[row]
        return self._read(row, int(place["start"]), int(place["length"]), int(place["checksum"]))

    def images(self, rows: np.ndarray) -> np.ndarray:
        """Encoded pictures [n], as objects. Raises: as `record`."""
        found, places = np.empty(len(rows), object), self.table[rows]
        first, length = places["image"].T
        columns = rows, places["start"] + first, length, places["image_checksum"], self._sound[rows]
        for i, (row, start, size, checksum, sound) in enumerate(zip(*map(np.ndarray.tolist, columns), strict=True)):
            if self.dim and not sound:  # the embeddings' rows are read by themselves, and checked here
                self.record(row)
            found[i] = self._read(row, start, size, None if sound else checksum)
        self._sound[rows] = True
        return found

    def find_damage(self) -> str:
        """What is wrong, "" = nothing is: pictures that were sound when they were read first are compared again.

        For after an error: a file may have been written over since.
        """
        if not self.damage:
            seen, self._sound = np.flatnonzero(self._sound), np.zeros(len(self.table), bool)
            with contextlib.suppress(ValueError):  # which leaves its line in `damage`
                for rows in np.array_split(seen, len(seen) // 1000 + 1):
                    self.images(rows)
        return self.damage

    def embedding(self, row: int, caption: int) -> np.ndarray:
        """[D] float32 of one caption. Of the record only this is read, which `images` checks as a whole.

        Raises: as `record`, and for numbers that are not finite: no checksum finds those that were written so.
        """
        place = self.table[row]
        start = int(place["start"]) + int(place["embeddings"][0]) + caption * self.dim * 4
        numbers = np.frombuffer(self._read(row, start, self.dim * 4), "<f4")
        if not np.isfinite(numbers).all():
            self._refuse(row, f"the embedding of its caption {caption} is not finite; build the folder with others")
        return numbers

    def _read(self, row: int, start: int, length: int, checksum: int | None = None) -> bytes:
        handle = self._handles[row % len(self._handles)]
        if hasattr(os, "pread"):
            data = os.pread(handle, length, start)
        else:  # Windows
            with self._lock:
                os.lseek(handle, start, os.SEEK_SET)
                data = os.read(handle, length)
        if len(data) != length or (checksum is not None and zlib.crc32(data) != checksum):
            self._refuse(row, "its checksum does not fit, bytes were changed; build the folder again, or copy the file "
                              "again")  # fmt: skip
        return data

    def _refuse(self, row: int, reason: str) -> NoReturn:
        shard, number = row % len(self.paths), row // len(self.paths)
        self.damage = f"{self.paths[shard]} is damaged: record {number}: {reason}."
        raise ValueError(self.damage)


def _close(handles: list[int]) -> None:
    for handle in handles:
        os.close(handle)
