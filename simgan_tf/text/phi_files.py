"""phi of a split's captions, computed once: files beside a run directory, read by the numbers of the captions.

RUN_DIR.phi/NAME/ holds the ids and the vectors of every different caption, shortest first, and which of them each
caption is. NAME is a checksum of the encoder and of the records. What a killed process had computed is kept; the folder
may be deleted at any time, the next start makes it again.
"""

import contextlib
import hashlib
import itertools
import json
import os
import shutil
import weakref
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from tqdm import tqdm

from simgan_tf.system import files
from simgan_tf.text.tokens import PAD

CHUNK = 16384  # captions turned into ids at a time
BATCH = 256  # of `TextEncoder.encode_tokens`: the vectors are computed in the batches that it would make of all at once
BLOCK = 16 * BATCH  # vectors written at a time; the rest is computed again after a kill


class Rows:
    """Rows [n, width] of captions, kept once for equal captions in a file that is read where it is asked for.

    places: [n] int32, the row of the file that each caption has.
    """

    ndim = 2

    def __init__(self, path: str, places: np.ndarray, width: int, dtype: str) -> None:
        self.shape, self.dtype = (len(places), width), np.dtype(dtype)
        self._places, self._file = places, open(path, "rb")  # noqa: SIM115 - it stays open
        weakref.finalize(self, self._file.close)
        size = int(places.max(initial=-1) + 1) * width * self.dtype.itemsize
        # Of a large file no page is mapped: pages that were read would count as this process's memory.
        self._map = np.memmap(self._file, self.dtype, "r", shape=(size // self.dtype.itemsize // width, width)) if (
            0 < size <= MAPPED or not hasattr(os, "pread")
        ) else None  # fmt: skip

    def __len__(self) -> int:
        return self.shape[0]

    def read(self, numbers: np.ndarray) -> np.ndarray:
        """Those of captions [m], [m, width]."""
        rows = self._places[numbers]
        if self._map is not None:
            return self._map[rows]
        found, size = np.empty((len(rows), self.shape[1]), self.dtype), self.shape[1] * self.dtype.itemsize
        for i, row in enumerate(rows.tolist()):
            found[i] = np.frombuffer(os.pread(self._file.fileno(), size, row * size), self.dtype)
        return found


MAPPED = 256 * 2**20  # bytes of a file up to which it is mapped into memory


def of_split(folder: str, encoder: Any, split: Any, fingerprint: str, vectors: bool = True) -> tuple[Rows, Rows]:
    """Ids [n, T] int32 and phi [n, D] float32 of the split's n captions, computed first where they are not there.

    folder: RUN_DIR.phi. encoder: a `encoders.TextEncoder`. fingerprint: of the split's pictures and captions.
    vectors: False leaves phi out (None instead), for records that hold it.
    The vectors are those of encoder.encode(all captions), to the bit.
    Raises: OSError where the folder cannot be written; BlockingIOError where another process is at it.
    """
    name = hashlib.sha256(f"{encoder.fingerprint} {fingerprint}".encode()).hexdigest()[:16]
    folder, all_of_run = os.path.join(folder, name), folder
    count, dim = int(split.caption_counts.sum()), encoder.dim if vectors else 0
    if not _whole(folder, count, encoder.length, dim):
        os.makedirs(all_of_run, exist_ok=True)
        with files.locked(os.path.join(all_of_run, ".lock"), all_of_run):
            for other in os.listdir(all_of_run):  # of other records, or of another encoder
                if other != name and not other.startswith("."):
                    shutil.rmtree(os.path.join(all_of_run, other))
            if not _whole(folder, count, encoder.length, dim):
                _write(folder, encoder, itertools.chain.from_iterable(split.captions), count, dim)
    places = np.load(os.path.join(folder, "places.npy"))
    tokens = Rows(os.path.join(folder, "ids"), places, encoder.length, "<i4")
    return tokens, Rows(os.path.join(folder, "vectors"), places, dim, "<f4") if vectors else None


def _whole(folder: str, count: int, length: int, dim: int) -> bool:
    try:
        with open(os.path.join(folder, "phi.json"), encoding="utf-8") as file:
            facts = json.load(file)
        sizes = {"ids": facts["different"] * length * 4, "vectors": facts["different"] * dim * 4}
        return facts["captions"] == count and facts["length"] == length and facts["dim"] >= dim and all(
            os.path.getsize(os.path.join(folder, name)) >= size for name, size in sizes.items() if size
        )  # fmt: skip
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _write(folder: str, encoder: Any, captions: Iterable[str], count: int, dim: int) -> None:
    """ids, vectors, places.npy and, last, phi.json."""
    os.makedirs(folder, exist_ok=True)
    files.remove_unfinished(folder)
    ids, vectors = os.path.join(folder, "ids"), os.path.join(folder, "vectors")
    if not os.path.exists(os.path.join(folder, "places.npy")):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(vectors)
        rows, places = _different(encoder, captions, count)
        with files.replacing(ids) as temporary, open(temporary, "wb") as file:
            for row in rows:
                file.write(np.frombuffer(row, ">i4").astype("<i4").tobytes().ljust(encoder.length * 4, b"\0"))
        with files.replacing(os.path.join(folder, "places.npy")) as temporary, open(temporary, "wb") as file:
            np.save(file, places)
        del rows, places
    different = os.path.getsize(ids) // (encoder.length * 4)
    if dim:
        tokens = np.memmap(ids, "<i4", "r", shape=(different, encoder.length))
        with open(vectors, "ab") as file, tqdm(
            total=different, desc="phi of the captions", unit="caption", delay=2, leave=False
        ) as bar:
            done = file.tell() // (BLOCK * dim * 4) * BLOCK
            file.truncate(done * dim * 4)
            bar.update(done)
            for start in range(done, different, BLOCK):
                part = np.array(tokens[start : start + BLOCK], np.int32)
                file.write(encoder.encode_tokens(part, BATCH).astype("<f4").tobytes())
                file.flush()
                bar.update(len(part))
            os.fsync(file.fileno())
    facts = {"captions": count, "different": different, "length": encoder.length, "dim": dim, "encoder": encoder.name}
    files.write_text(os.path.join(folder, "phi.json"), json.dumps(facts, indent=2) + "\n")


def _different(encoder: Any, captions: Iterable[str], count: int) -> tuple[Sequence[bytes], np.ndarray]:
    """The different rows of ids, each without the padding at its end, as big-endian bytes in the order in which
    `Phi.encode_tokens` computes them; and the place [count] int32 of each caption's row in that order."""
    numbers: dict[bytes, int] = {}
    places, at = np.empty(count, np.int32), 0
    captions = iter(captions)
    with tqdm(total=count, desc="ids of the captions", unit="caption", delay=2, leave=False) as bar:
        while texts := list(itertools.islice(captions, CHUNK)):
            rows = encoder.tokens(texts)
            ends = np.max((rows != PAD) * np.arange(1, rows.shape[1] + 1), axis=1)
            rows = rows.astype(">i4")  # whose bytes have the numbers' order
            for row, end in zip(rows, ends.tolist(), strict=True):
                places[at] = numbers.setdefault(row[:end].tobytes(), len(numbers))
                at += 1
            bar.update(len(texts))
    if at != count:
        raise ValueError(f"{at} captions were read, not {count} as the index of the records says; build them again.")
    order = sorted(numbers)
    if encoder.kind != "char_cnn_rnn":  # whose rows all have one length
        order.sort(key=lambda row: np.count_nonzero(np.frombuffer(row, ">i4")))
    new = np.empty(len(order), np.int32)
    for place, row in enumerate(order):
        new[numbers[row]] = place
    return order, new[places]
