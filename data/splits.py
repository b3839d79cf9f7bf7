"""A split of the records, read where it lies: places are held, no picture is."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from data import records
from data.places import Places


class Column(Sequence):
    """One field of the examples of a split, read from its records when it is asked for."""

    def __init__(self, places: Places, field: str, rows: np.ndarray) -> None:
        """field: of `records.Example`.   rows: which examples, in which order."""
        self.places, self.field, self.rows = places, field, rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, row: Any) -> Any:
        if isinstance(row, slice):
            return list(self.take(row))
        return getattr(records.parse(self.places.record(int(self.rows[row]))), self.field)

    def take(self, rows: Any) -> "Column":
        return Column(self.places, self.field, self.rows[rows])

    def read(self, rows: np.ndarray) -> np.ndarray:
        """Encoded pictures or masks [n], as objects."""
        if self.field == "image":
            return self.places.images(self.rows[rows])
        return np.fromiter(self.take(rows), object, len(rows))


class Vectors:
    """The embeddings of a split's captions, [sum of captions, D] float32, read from its records when asked for."""

    dtype, ndim = np.dtype(np.float32), 2

    def __init__(self, places: Places, rows: np.ndarray) -> None:
        self.places, self.rows = places, rows
        self.first = np.cumsum([0, *places.table["captions"][rows]])
        self.shape = (int(self.first[-1]), places.dim)

    def __len__(self) -> int:
        return self.shape[0]

    def read(self, numbers: np.ndarray) -> np.ndarray:
        """Those of captions [n], [n, D]."""
        pictures = np.searchsorted(self.first, numbers, side="right") - 1
        found = np.empty((len(numbers), self.places.dim), np.float32)
        for i, (picture, number) in enumerate(zip(pictures.tolist(), numbers.tolist(), strict=True)):
            found[i] = self.places.embedding(int(self.rows[picture]), number - int(self.first[picture]))
        return found

    def __getitem__(self, key: Any) -> np.ndarray:
        numbers = np.arange(len(self))[key]
        return self.read(numbers) if np.ndim(numbers) else self.read(numbers[None])[0]


@dataclasses.dataclass(frozen=True)
class Split:
    """One split. `load_split` gives one that is read from the records as it is used: places are held, no picture is."""

    keys: Sequence[str]
    images: tf.Tensor | Column  # [N] string, encoded RGB JPEG or PNG
    masks: Sequence[bytes]  # PNG, b"" where there is none
    colours: Sequence[str]  # "" where there is none
    class_ids: np.ndarray  # [N] int32, 1-based
    captions: Sequence[tuple[str, ...]]
    embeddings: np.ndarray | Vectors | None  # [sum of captions, D] float32 in caption order, if the records hold them

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def masked(self) -> np.ndarray:
        """[N] bool: which pictures have a mask. Nothing is read."""
        if isinstance(self.masks, Column):
            return self.masks.places.table["mask"][self.masks.rows] > 0
        return np.array([bool(mask) for mask in self.masks])

    @property
    def caption_counts(self) -> np.ndarray:
        """[N] int32. Nothing is read."""
        if isinstance(self.captions, Column):
            return self.captions.places.table["captions"][self.captions.rows]
        return np.array([len(texts) for texts in self.captions], np.int32)

    @property
    def damage(self) -> str:
        """What is wrong with the records, in one line, after an error; "" = nothing in what was read of them."""
        return self.images.places.find_damage() if isinstance(self.images, Column) else ""

    def take(self, rows: np.ndarray) -> "Split":
        """The pictures of these rows, in their order."""
        if isinstance(self.images, Column):
            return _split_of(self.images.places, self.images.rows[rows])
        first = np.cumsum([0, *map(len, self.captions)])
        captions = [c for row in rows for c in range(first[row], first[row + 1])]
        return Split(
            keys=[self.keys[row] for row in rows],
            images=tf.gather(self.images, rows),
            masks=[self.masks[row] for row in rows],
            colours=[self.colours[row] for row in rows],
            class_ids=self.class_ids[rows],
            captions=[self.captions[row] for row in rows],
            embeddings=None if self.embeddings is None else self.embeddings[captions],
        )

    def spread(self, count: int) -> "Split":
        """`count` pictures at even distances in key order (all, where there are fewer), so of many classes."""
        return self.take(np.unique(np.linspace(0, len(self) - 1, count).astype(int)))


def load_split(records_dir: str, split: str) -> Split:
    """The whole of `split` ("train" or "test"), in key order. Raises as `records.open_split` does."""
    places = records.open_split(records_dir, split)
    return _split_of(places, np.arange(len(places.table)))


def _split_of(places: Places, rows: np.ndarray) -> Split:
    fields = ("key", "image", "mask", "colour", "captions")
    keys, images, masks, colours, captions = (Column(places, field, rows) for field in fields)
    class_ids = places.table["class_id"][rows].astype(np.int32)
    return Split(keys, images, masks, colours, class_ids, captions, Vectors(places, rows) if places.dim else None)
