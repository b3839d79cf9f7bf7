"""The one record schema: Example, its table of features, writer and reader."""

import contextlib
import dataclasses
import hashlib
import itertools
import json
import os
import struct
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import numpy as np

from simgan_tf.system import files

if TYPE_CHECKING:  # TensorFlow is imported where it is used: a command says what is wrong before it starts
    import tensorflow as tf

FORMAT_VERSION = 1
SPLITS = ("train", "test")
READ_BATCH = 64  # records parsed at a time: parsing one by one costs four times as much

FEATURES = {  # name -> type, and whether there may be any number of values instead of one
    "image": ("string", False),  # encoded RGB JPEG or PNG
    "key": ("string", False),
    "class_id": ("int64", False),  # 1-based
    "captions": ("string", True),  # raw text, one or more
    "mask": ("string", False),  # PNG, empty where there is none
    "colour": ("string", False),  # empty where there is none
    "embeddings": ("float32", True),  # [captions * D], row by row, empty where there are none
}


@dataclasses.dataclass(frozen=True)
class Example:
    """One picture with all that is known of it."""

    image: bytes  # encoded JPEG or PNG
    key: str  # "image_00001"
    class_id: int  # 1-based
    captions: tuple[str, ...]
    mask: bytes = b""  # PNG; demo only, for evaluation, never for training
    colour: str = ""  # petal colour's name; demo only, for evaluation, never for training
    embeddings: np.ndarray | None = None  # [n_captions, D] float32


def shard_path(records_dir: str, split: str, shard: int, shards: int) -> str:
    """File of one shard, such as train-00000-of-00008.tfrecord."""
    return os.path.join(records_dir, f"{split}-{shard:05d}-of-{shards:05d}.tfrecord")


def write_split(out_dir: str, split: str, examples: Iterable[Example], shards: int) -> dict[str, object]:
    """Writes `examples` over `shards` files in turn; returns the split's part of dataset.json.

    Returns: images, captions, masks (numbers), captions_per_image (least and most), class_ids (sorted),
        embedding_dim (0 = none), fingerprint (sha256 over all that the examples hold but their embeddings, in the
        order given), embeddings_fingerprint (sha256 over keys and embeddings; "" = none).

    Raises: ValueError for a key seen twice, an example without captions or embeddings of another shape;
        OSError where the disk refuses the bytes.
    """
    if shards < 1:
        raise ValueError(f"shards={shards} must be 1 or more; 8 is the default.")
    import tensorflow as tf

    tally = Tally(split)
    try:
        with contextlib.ExitStack() as stack:
            paths = [shard_path(out_dir, split, shard, shards) for shard in range(shards)]
            writers = [stack.enter_context(tf.io.TFRecordWriter(path)) for path in paths]
            for writer, example in zip(itertools.cycle(writers), examples):  # noqa: B905 - one is endless
                writer.write(_serialize(tally.add(example)))
    except tf.errors.OpError as error:  # TensorFlow's own way to say that the disk is full or read-only
        raise OSError(f"Cannot write the {split} records in {out_dir!r}: {error.message}") from error
    return tally.part()


class Tally:
    """What dataset.json says of a split, counted example by example: by its writer, and by whoever checks it."""

    def __init__(self, split: str) -> None:
        self.split, self.keys, self.class_ids, self.caption_counts = split, set(), set(), []
        self.masks, self.dim = 0, None
        self.digest, self.vectors_digest = hashlib.sha256(), hashlib.sha256()

    def add(self, example: Example) -> dict[str, list]:
        """Counts the example; returns its values by feature. Raises: ValueError as `write_split`."""
        if example.key in self.keys:
            raise ValueError(f"Key {example.key!r} occurs twice in the {self.split} split; keys must be unique.")
        if not example.captions:
            raise ValueError(f"{example.key!r} has no caption; every example needs one or more.")
        width = 0 if example.embeddings is None else example.embeddings.shape[-1]
        self.dim = width if self.dim is None else self.dim
        if width != self.dim or (width and example.embeddings.shape != (len(example.captions), width)):
            shape = None if example.embeddings is None else example.embeddings.shape
            raise ValueError(f"{example.key!r} has embeddings {shape}, not {(len(example.captions), self.dim)}.")
        values = _values(example)
        # The fingerprint covers pictures and captions alone, so that a run can go on after `simgan_tf.text.embed` has
        # filled the records. Embeddings enter it as an empty list: so they did in the first folders, which had none.
        for name, value in values.items():
            _add(self.digest, [] if name == "embeddings" else value)
        if width:
            _add(self.vectors_digest, values["key"])
            _add(self.vectors_digest, values["embeddings"])
        self.keys.add(example.key)
        self.class_ids.add(example.class_id)
        self.caption_counts.append(len(example.captions))
        self.masks += bool(example.mask)
        return values

    def part(self) -> dict[str, object]:
        """The split's part of dataset.json, as `write_split` returns it."""
        counts = self.caption_counts
        return {
            "images": len(self.keys),
            "captions": sum(counts),
            "captions_per_image": [min(counts, default=0), max(counts, default=0)],
            "masks": self.masks,
            "class_ids": sorted(self.class_ids),
            "embedding_dim": self.dim or 0,
            "fingerprint": self.digest.hexdigest(),
            "embeddings_fingerprint": self.vectors_digest.hexdigest() if self.dim else "",
        }


def embeddings_entry(
    splits: dict[str, dict[str, object]], name: str, scale: float, source: str, fingerprint: str = ""
) -> dict[str, object]:
    """The "embeddings" entry of dataset.json for embeddings that all of `splits` (of `write_split`) hold.

    name: of the encoder.   scale: root mean square of the entries.   source: what they came from, in words.
    fingerprint: of the encoder; "" = not known, so that sha256 of the values stands for it.

    Raises: ValueError where a split has no embeddings or others than the first.
    """
    dims = {split: part["embedding_dim"] for split, part in splits.items()}
    dim = next(iter(dims.values()))
    if not dim or set(dims.values()) != {dim}:
        raise ValueError(f"Embeddings {name!r} have dimensions {dims}; every split needs the same, above 0.")
    values = "".join(part["embeddings_fingerprint"] for part in splits.values())
    return {
        "name": name,
        "dim": dim,
        "scale": scale,
        "source": source,
        "fingerprint": fingerprint or hashlib.sha256(values.encode()).hexdigest(),
    }


def fingerprint(splits: dict[str, dict[str, object]]) -> str:
    """The data set's fingerprint of its splits' (of `write_split`): sha256, the same whatever embeddings and shards."""
    return hashlib.sha256("".join(part["fingerprint"] for part in splits.values()).encode()).hexdigest()


def write_info(out_dir: str, info: dict[str, object]) -> None:
    """Writes dataset.json; to be called last, since its presence says that the folder is complete."""
    path = os.path.join(out_dir, "dataset.json")
    files.write_text(path, json.dumps(info, indent=2) + "\n")


def read_info(records_dir: str) -> dict[str, object]:
    """dataset.json of a records folder.

    Raises: FileNotFoundError (says how to build) or ValueError for a damaged file or another format version.
    """
    path = os.path.join(records_dir, "dataset.json")
    if not os.path.isfile(path):
        raise FileNotFoundError(
            f"No dataset.json in records_dir={records_dir!r}. "
            f"Build it: python -m data.build --dataset=demo --raw_dir=raw --out_dir={records_dir}"
        )
    with open(path, encoding="utf-8") as file:
        try:
            info = json.load(file)
        except ValueError as error:
            raise ValueError(f"{path} is damaged ({error}); delete the folder and build it again.") from error
    if not isinstance(info, dict) or info.get("format_version") != FORMAT_VERSION:
        version = info.get("format_version") if isinstance(info, dict) else None
        raise ValueError(f"{path} has format_version={version}, this code reads {FORMAT_VERSION}; build it again.")
    shards, splits = info.get("shards"), info.get("splits")
    parts = list(splits.values()) if isinstance(splits, dict) else [None]
    counts = [part.get("images") if isinstance(part, dict) else None for part in parts]
    if not all(type(number) is int and number >= 0 for number in (shards, *counts)) or not shards:
        raise ValueError(f"{path} is damaged: shards={shards!r}, pictures of the splits {counts}; build it again.")
    return info


def read_examples(records_dir: str, split: str) -> Iterator[Example]:
    """Every example of `split`, in the order it was written, whatever the number of shards.

    Raises: FileNotFoundError for a missing folder or shard; ValueError for an unknown split, and for a truncated or
        changed shard, naming the file, the record and what is wrong with it.
    """
    info = read_info(records_dir)
    if split not in info["splits"]:
        raise ValueError(f"split={split!r} is not in {records_dir!r}; it has {', '.join(info['splits'])}.")
    shards, expected = info["shards"], info["splits"][split]["images"]
    paths = [shard_path(records_dir, split, shard, shards) for shard in range(shards)]
    for shard, path in enumerate(paths):
        if not os.path.isfile(path):
            raise FileNotFoundError(f"No {path}, though dataset.json counts {shards} shards; build the folder again.")
        count, due = _count(path), len(range(shard, expected, shards))
        if count != due:
            raise ValueError(f"{path} holds {count} {split} records, not {due} as it should; build the folder again.")
    import tensorflow as tf

    serialized = tf.data.Dataset.from_tensor_slices(paths).interleave(
        tf.data.TFRecordDataset, cycle_length=shards, block_length=1, num_parallel_calls=1, deterministic=True
    )
    parse = tf.autograph.experimental.do_not_convert(lambda batch: tf.io.parse_example(batch, _specs()))
    parsed = serialized.batch(READ_BATCH).map(parse)
    try:
        for batch in parsed:
            columns = {name: tensor.numpy() for name, tensor in batch.items()}
            for row in range(len(columns["key"])):
                yield _example({name: column[row] for name, column in columns.items()})
    except (tf.errors.DataLossError, tf.errors.InvalidArgumentError) as error:
        raise ValueError(f"{_damage(paths, error)}; build the folder again, or copy the file again.") from error


def _count(path: str) -> int:
    """Number of records in a shard, by walking over their lengths: TensorFlow would try to allocate a damaged length.

    A record is its length (8 bytes), a checksum of it (4), the data, and a checksum of the data (4).
    """
    size, place, count = os.path.getsize(path), 0, 0
    with open(path, "rb") as file:
        while place < size:
            file.seek(place)
            header = file.read(12)
            end = place + 16 + int.from_bytes(header[:8], "little")
            if len(header) < 12 or end > size:
                raise ValueError(
                    f"{path} is damaged: record {count}, at byte {place:,}, would end after the file's {size:,} bytes; "
                    "build the folder again, or copy the file again."
                )
            place, count = end, count + 1
    return count


def _specs() -> dict[str, "tf.io.FixedLenFeature | tf.io.RaggedFeature"]:
    """FEATURES as TensorFlow's parser takes them."""
    import tensorflow as tf

    return {name: tf.io.RaggedFeature(tf.as_dtype(kind)) if many else tf.io.FixedLenFeature([], tf.as_dtype(kind))
            for name, (kind, many) in FEATURES.items()}  # fmt: skip


def _damage(paths: list[str], error: "tf.errors.OpError") -> str:
    """Which file and record it is that TensorFlow cannot read; its own messages name neither."""
    import tensorflow as tf

    for path in paths:
        number = 0
        try:
            for serialized in tf.data.TFRecordDataset(path):
                tf.io.parse_single_example(serialized, _specs())
                number += 1
        except (tf.errors.DataLossError, tf.errors.InvalidArgumentError) as fault:
            changed = isinstance(fault, tf.errors.DataLossError)  # a checksum does not agree
            reason = "its checksum does not fit, bytes were changed" if changed else "it is not one of this project's"
            return f"{path} is damaged: record {number}: {reason}"
    return f"{os.path.dirname(paths[0])!r} is damaged ({error.message})"


def _values(example: Example) -> dict[str, list]:
    """The example as the lists that go into its features, in the order of FEATURES."""
    flat = [] if example.embeddings is None else np.asarray(example.embeddings, np.float32).ravel()
    values = {
        "image": [example.image],
        "key": [example.key.encode()],
        "class_id": [example.class_id],
        "captions": [caption.encode() for caption in example.captions],
        "mask": [example.mask],
        "colour": [example.colour.encode()],
        "embeddings": flat,
    }
    return {name: values[name] for name in FEATURES}


def _add(digest: "hashlib._Hash", value: list) -> None:
    """Adds a list of bytes, integers or floats, with lengths, so that no two contents give the same bytes."""
    digest.update(struct.pack("<q", len(value)))
    if isinstance(value, np.ndarray):
        digest.update(value.astype("<f4").tobytes())
        return
    for item in value:
        item = item if isinstance(item, bytes) else str(item).encode()
        digest.update(struct.pack("<q", len(item)))
        digest.update(item)


def _serialize(values: dict[str, list]) -> bytes:
    import tensorflow as tf

    make = {
        "string": lambda value: tf.train.Feature(bytes_list=tf.train.BytesList(value=value)),
        "int64": lambda value: tf.train.Feature(int64_list=tf.train.Int64List(value=value)),
        "float32": lambda value: tf.train.Feature(float_list=tf.train.FloatList(value=value)),
    }
    feature = {name: make[kind](values[name]) for name, (kind, _) in FEATURES.items()}
    return tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString(deterministic=True)


def _example(values: dict[str, object]) -> Example:
    captions = tuple(caption.decode("utf-8", "replace") for caption in values["captions"])
    key, flat = values["key"].decode("utf-8", "replace"), np.asarray(values["embeddings"], np.float32)
    if not captions or flat.size % len(captions):
        raise ValueError(f"The record of {key!r} has {len(captions)} captions and {flat.size} numbers of embeddings; "
                         "every caption needs as many, build the folder again.")  # fmt: skip
    return Example(
        image=values["image"],
        key=key,
        class_id=int(values["class_id"]),
        captions=captions,
        mask=values["mask"],
        colour=values["colour"].decode("utf-8", "replace"),
        embeddings=flat.reshape(len(captions), -1) if flat.size else None,
    )
