"""Turns entries of a listing into examples with their pictures, read, checked and cut by several threads, in order."""

import collections
import itertools
import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor

from data import images
from data.embeddings import Embeddings
from data.listing import Entry
from data.records import Example
from simgan_tf.system import commands, files

CHUNK, CHUNK_BYTES = 64, 8 * 2**20  # pictures, and bytes of their files, that a thread takes at a time


def examples(
    entries: Iterable[Entry],
    workers: int = 0,
    crop: bool = False,
    stored_size: int = 0,
    vectors: Embeddings | None = None,
    headers_only: bool = False,
    damaged: list[str] | None = None,
) -> Iterator[Example]:
    """Every entry with its picture, mask and embeddings, in order and the same whatever `workers`.

    Threads are enough, since Pillow and TensorFlow decode outside Python's lock. At most one chunk more than there are
    threads is in work, which bounds the memory.

    workers: threads, 0 = one a core.   crop, stored_size: whether to cut by the entries' boxes, and as
    `images.read_picture`.   vectors: has rows for every key, or None.   headers_only: as `images.read_pictures`.
    damaged: gets a line for each entry whose files cannot be used, which is then stepped over; None = that is raised.

    Raises: ValueError or OSError naming the file.
    """
    workers = workers or os.cpu_count() or 1
    chunks = _chunks(entries)
    pool = ThreadPoolExecutor(workers)

    def load_all(chunk: list[Entry]) -> list[Example]:
        boxes = [entry.box if crop else None for entry in chunk]
        pictures = images.read_pictures([entry.image_path for entry in chunk], boxes, stored_size, headers_only)
        loaded = []
        for entry, box, image in zip(chunk, boxes, pictures, strict=True):
            mask = images.read_mask(entry.mask_path, image, box, stored_size) if entry.mask_path else b""
            rows = vectors.rows[entry.key] if vectors else None
            loaded.append(Example(image, entry.key, entry.class_id, entry.captions, mask, entry.colour, rows))
        return loaded

    def load(chunk: list[Entry]) -> list[Example | ValueError]:
        """The examples of a chunk, with an error in the place of each that cannot be used."""
        try:
            return load_all(chunk)
        except FileNotFoundError as error:
            fault = ValueError(f"No {error.filename!r} for {chunk[0].key}; add it.")
        except (ValueError, OSError) as error:
            fault = ValueError(commands.in_words(error))
        return [fault] if len(chunk) == 1 else [example for one in chunk for example in load([one])]

    def submit(count: int) -> list:
        return [pool.submit(load, chunk) for chunk in itertools.islice(chunks, count)]

    try:
        waiting = collections.deque(submit(workers + 1))
        while waiting:
            for example in waiting.popleft().result():
                if isinstance(example, Example):
                    yield example
                elif damaged is None:
                    raise example
                else:
                    damaged.append(str(example))
            waiting.extend(submit(1))
    finally:
        pool.shutdown(cancel_futures=True)


def _chunks(entries: Iterable[Entry]) -> Iterator[list[Entry]]:
    chunk, size = [], 0
    for entry in entries:
        chunk.append(entry)
        size += files.size(entry.image_path)
        if len(chunk) == CHUNK or size >= CHUNK_BYTES:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk
