"""The one record schema: Example, its table of features, writer and reader."""

import contextlib
import dataclasses
import hashlib
import itertools
import json
import os
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

import numpy as np
import tqdm

from data import places
from simgan_tf.system import files

if TYPE_CHECKING:  # TensorFlow is imported where it is used: a command says what is wrong before it starts
    import tensorflow as tf

FORMAT_VERSION = 1
SPLITS = ("train", "test")
JUDGE = "judge"  # folder beside the records, of the text encoder that evaluation judges by, where one was trained
MAX_IMAGES, MAX_SHARDS = 10**9, 10**4  # that a dataset.json may speak of
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
NUMBER = struct.Struct("<q")
LISTS = {"string": "bytes_list", "int64": "int64_list", "float32": "float_list"}  # of tf.train.Feature


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


def pairs_path(records_dir: str, split: str) -> str:
    """File of the fixed pairs of picture and sentence that simgan_tf.evaluation writes once."""
    return os.path.join(records_dir, f"pairs-{split}.json")


def write_split(
    out_dir: str,
    split: str,
    examples: Iterable[Example] | Callable[[int], Iterable[Example]],
    shards: int,
    seen: Callable[[Example], object] | None = None,
    written: "Mapping[int, Written | None] | None" = None,
) -> dict[str, object]:
    """Writes `examples` over `shards` files in turn, and their index; returns the split's part of dataset.json.

    examples: in order; or what gives those of a shard (every shards-th) by its number, each asked for once. Then shards
    are written one after the other, whole ones that are there are kept, and all are read once for the numbers.
    seen: gets every example as it is counted.   written: what `write_shard` returned of shards that are there.

    Returns: images, captions, masks (numbers), captions_per_image (least and most), class_ids (sorted),
        embedding_dim (0 = none), fingerprint (sha256 over all that the examples hold but their embeddings, in the
        order given), embeddings_fingerprint (sha256 over keys and embeddings; "" = none).

    Raises: ValueError for a key seen twice, an example without captions or embeddings of another shape;
        OSError where the disk refuses the bytes.
    """
    if shards < 1:
        raise ValueError(f"shards={shards} must be 1 or more; 8 is the default.")
    tally, indices = Tally(split), [places.Index() for _ in range(shards)]
    paths = [shard_path(out_dir, split, shard, shards) for shard in range(shards)]
    if callable(examples):
        held = {shard: write_shard(out_dir, split, shard, shards, examples) for shard in range(shards)}
        held = {shard: of for shard in held if (of := held[shard] or (written or {}).get(shard))}
        others = [shard for shard in range(shards) if shard not in held]  # of another process
        counts = [len(held[shard].examples) if shard in held else _count(paths[shard]) for shard in range(shards)]
        _require_shares(paths, counts, split, sum(counts))
        indices = [held[shard].index if shard in held else index for shard, index in enumerate(indices)]
        rest = _read_indexed([paths[shard] for shard in others], split, [indices[shard] for shard in others])
        streams = [held[shard].read(path) if shard in held else rest for shard, path in enumerate(paths)]
        for number in tqdm.trange(sum(counts), unit="image", desc=f"counting {split}", delay=2, leave=False):
            example = next(streams[number % shards])
            tally.add(example)
            if seen:
                seen(example)
    else:
        with _in_words(out_dir, split), contextlib.ExitStack() as stack:
            import tensorflow as tf

            writers = [stack.enter_context(tf.io.TFRecordWriter(path)) for path in paths]
            for writer, index, example in zip(itertools.cycle(writers), itertools.cycle(indices), examples):  # noqa: B905
                writer.write(_indexed(example, tally.add(example), index))
                if seen:
                    seen(example)
    part = tally.part()
    places.write(out_dir, split, places.interleaved(indices), part)
    return part


@dataclasses.dataclass(frozen=True)
class Written:
    """A shard that this process has written: its examples without their pictures and masks, and their places."""

    examples: list[Example]
    index: places.Index

    def read(self, path: str) -> Iterator[Example]:
        """The examples, with pictures and masks out of the file."""
        table = self.index.table()
        columns = (table["length"], *table["image"].T, table["mask"])
        with open(path, "rb") as file:
            for example, length, first, size, mask in zip(self.examples, *map(np.ndarray.tolist, columns), strict=True):
                data = file.read(length + 16)[12:-4]
                yield _with(example, data[first : first + size], data[length - mask :])


def _with(example: Example, image: bytes, mask: bytes) -> Example:
    """The example with another picture and mask; a third of the time of dataclasses.replace."""
    return Example(image, example.key, example.class_id, example.captions, mask, example.colour, example.embeddings)


def write_shard(
    out_dir: str, split: str, shard: int, shards: int, examples: Callable[[int], Iterable[Example]]
) -> Written | None:
    """Writes one shard, which takes its name when it is whole; None where it is there. Raises: as `write_split`."""
    path = shard_path(out_dir, split, shard, shards)
    if os.path.exists(path):
        return None
    unfinished = f"{path}.unfinished-{os.getpid()}"
    written = Written([], places.Index())
    with _in_words(out_dir, split):
        import tensorflow as tf

        with tf.io.TFRecordWriter(unfinished) as writer:
            for example in examples(shard):
                writer.write(_indexed(example, _values(example), written.index))
                written.examples.append(_with(example, b"", b""))
    files.sync(unfinished)
    os.replace(unfinished, path)
    return written


@contextlib.contextmanager
def _in_words(out_dir: str, split: str) -> Iterator[None]:
    """Turns TensorFlow's own way to say that the disk is full or read-only into an OSError."""
    import tensorflow as tf

    try:
        yield
    except tf.errors.OpError as error:
        raise OSError(f"Cannot write the {split} records in {out_dir!r}: {error.message}") from error


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
        self.digest.update(_told_apart([[] if name == "embeddings" else value for name, value in values.items()]))
        if width:
            self.vectors_digest.update(_told_apart([values["key"], values["embeddings"]]))
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
    info = files.read_json(path, "delete the folder and build it again")
    if not isinstance(info, dict) or info.get("format_version") != FORMAT_VERSION:
        version = info.get("format_version") if isinstance(info, dict) else None
        raise ValueError(f"{path} has format_version={version}, this code reads {FORMAT_VERSION}; build it again.")
    shards, splits = info.get("shards"), info.get("splits")
    parts = list(splits.values()) if isinstance(splits, dict) else [None]
    counts = [part.get("images") if isinstance(part, dict) else None for part in parts]
    sound = all(type(number) is int and 0 <= number <= MAX_IMAGES for number in (shards, *counts))
    if not sound or not 1 <= shards <= MAX_SHARDS:
        shown = str([shards, counts])[:200]
        raise ValueError(f"{path} is damaged: shards and pictures of the splits are {shown}; build it again.")
    return info


def read_examples(records_dir: str, split: str) -> Iterator[Example]:
    """Every example of `split`, in the order it was written, whatever the number of shards and whichever set it is of.

    Raises: FileNotFoundError for a missing folder or shard; ValueError for an unknown split, and for a truncated or
        changed shard, naming the file, the record and what is wrong with it.
    """
    paths = shard_paths(records_dir, split)
    for _, columns in _read(paths, split, read_info(records_dir)["splits"][split]["images"]):
        for row in range(len(columns["key"])):
            yield _example({name: column[row] for name, column in columns.items()})


def open_split(records_dir: str, split: str) -> places.Places:
    """The examples of `split` in their files, to be read in any order.

    Records without an index, or with one of another set, are all read once and held to dataset.json; then their index
    is written, or, where nothing can be written, kept.
    Raises: as `read_examples`.
    """
    info, paths = read_info(records_dir), shard_paths(records_dir, split)
    part = info["splits"][split]
    dim, kinds = part.get("embedding_dim", 0), {"captions": int, "class_ids": list, "fingerprint": str}
    if type(dim) is not int or any(type(part.get(name)) is not kind for name, kind in kinds.items()):
        raise ValueError(f"{records_dir}/dataset.json does not say how many captions, which classes, what fingerprint "
                         f"the {split} split has; build the folder again.")  # fmt: skip
    table = places.read(records_dir, split, paths, part)
    if table is None:
        indices, tally = [places.Index() for _ in paths], Tally(split)
        print(f"{records_dir}: reading the {split} records once, for an index of their places")
        written = _read_indexed(paths, split, indices, part["images"])
        for example in tqdm.tqdm(written, total=part["images"], unit="image", desc=f"reading {split}", delay=2,
                                 leave=False):  # fmt: skip
            tally.add(example)
        table = places.interleaved(indices)
        found = tally.part()
        if any(found[name] != part.get(name, found[name]) for name in ("fingerprint", "embeddings_fingerprint")):
            raise ValueError(f"{records_dir}: the {split} records are not those that dataset.json describes; another "
                             "set's lie there: build the folder again.")  # fmt: skip
        with contextlib.suppress(OSError):  # a folder that others own
            places.write(records_dir, split, table, part)
    if int(table["captions"].sum()) != part["captions"] or np.unique(table["class_id"]).tolist() != part["class_ids"]:
        raise ValueError(f"{records_dir}: the {split} records have other captions or classes than dataset.json says; "
                         "another set's lie there: build the folder again.")  # fmt: skip
    sizes = table["captions"].astype(np.int64) * dim * 4
    if (table["embeddings"][:, 1] != sizes).any():
        row = int(np.flatnonzero(table["embeddings"][:, 1] != sizes)[0])
        raise ValueError(
            f"record {row} of the {split} records in {records_dir!r} has {table['captions'][row]} captions and "
            f"{table['embeddings'][row, 1] // 4} numbers of embeddings, not {dim} a caption; build the folder again."
        )
    return places.Places(paths, table, dim)


def first_examples(records_dir: str, split: str, most: int | None = None) -> Iterator[Example]:
    """The first `most` examples of `split`, None = all, of records that are those of dataset.json.

    Raises: as `open_split`; ValueError for a record that was changed.
    """
    found = open_split(records_dir, split)
    for row in range(len(found.table))[:most]:
        yield parse(found.record(row))


def shard_paths(records_dir: str, split: str) -> list[str]:
    """The files of `split`. Raises: as `read_examples`, but does not look into them."""
    info = read_info(records_dir)
    if split not in info["splits"]:
        raise ValueError(f"split={split!r} is not in {records_dir!r}; it has {', '.join(info['splits'])}.")
    paths = [shard_path(records_dir, split, shard, info["shards"]) for shard in range(info["shards"])]
    for path in paths:
        if not os.path.isfile(path):
            counted = f"though dataset.json counts {len(paths)} shards"
            raise FileNotFoundError(f"No {path}, {counted}; build the folder again.")
    return paths


def _read(
    paths: list[str], split: str, expected: int | None = None
) -> Iterator[tuple["tf.Tensor", dict[str, np.ndarray]]]:
    """Examples in the order they were written, serialized [n] and as columns by feature, READ_BATCH at a time.

    expected: how many there must be; None = as many as there are, if the shards have their shares of them.
    """
    counts = list(map(_count, paths))
    _require_shares(paths, counts, split, sum(counts) if expected is None else expected)
    import tensorflow as tf

    serialized = tf.data.Dataset.from_tensor_slices(paths).interleave(
        tf.data.TFRecordDataset, cycle_length=len(paths), block_length=1, num_parallel_calls=1, deterministic=True
    )
    parse = tf.autograph.experimental.do_not_convert(lambda batch: (batch, tf.io.parse_example(batch, _specs())))
    parsed = serialized.batch(READ_BATCH).map(parse)
    try:
        for batch, columns in parsed:
            yield batch, {name: tensor.numpy() for name, tensor in columns.items()}
    except (tf.errors.DataLossError, tf.errors.InvalidArgumentError) as error:
        raise ValueError(f"{_damage(paths, error)}; build the folder again, or copy the file again.") from error


def _read_indexed(
    paths: list[str], split: str, indices: list[places.Index], expected: int | None = None
) -> Iterator[Example]:
    """The examples in the order they were written, each put into the index of its shard. Raises: as `_read`."""
    turns = itertools.cycle(indices)
    for serialized, columns in _read(paths, split, expected) if paths else ():
        for row, data in enumerate(serialized.numpy()):
            example = _example({name: column[row] for name, column in columns.items()})
            _note(example, _values(example), data, next(turns))
            yield example


def _require_shares(paths: list[str], counts: list[int], split: str, expected: int) -> None:
    """Raises: ValueError unless the shards, of `counts` records, have their shares of those that are expected."""
    for shard, (path, count) in enumerate(zip(paths, counts, strict=True)):
        due = len(range(shard, expected, len(paths)))
        if count != due:
            raise ValueError(f"{path} holds {count} {split} records, not {due} as it should; build the folder again.")


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
    return {
        "image": [example.image],
        "key": [example.key.encode()],
        "class_id": [example.class_id],
        "captions": [caption.encode() for caption in example.captions],
        "mask": [example.mask],
        "colour": [example.colour.encode()],
        "embeddings": flat,
    }


def _told_apart(values: list[list]) -> bytes:
    """Lists of bytes, integers or floats, with lengths, so that no two contents give the same bytes."""
    parts = []
    for value in values:
        parts.append(NUMBER.pack(len(value)))
        if isinstance(value, np.ndarray):
            parts.append(value.astype("<f4").tobytes())
            continue
        for item in value:
            item = item if isinstance(item, bytes) else str(item).encode()
            parts += (NUMBER.pack(len(item)), item)
    return b"".join(parts)


def _indexed(example: Example, values: dict[str, list], index: places.Index) -> bytes:
    """The example's record, noted in the index of its shard. values: of `_values`."""
    data = _serialize(values)
    _note(example, values, data, index)
    return data


def _note(example: Example, values: dict[str, list], data: bytes, index: places.Index) -> None:
    """Puts the example's record into the index of its shard. Raises: ValueError where its features stand otherwise."""
    sizes = len(example.image), len(values["key"][0]), len(example.mask), 4 * len(values["embeddings"])
    spans = places.spans(data, *sizes)
    first, length = spans["image"]
    if data[first : first + length] != example.image:
        raise ValueError(
            f"the record of {example.key[:200]!r} is not one of this project's: its features are not in the order of "
            "their names; build the records again"
        )
    index.add(data, spans, len(example.captions), example.class_id)


def _serialize(values: dict[str, list]) -> bytes:
    import tensorflow as tf

    message = tf.train.Example()
    feature = message.features.feature
    for name, (kind, _) in FEATURES.items():
        of_kind = getattr(feature[name], LISTS[kind])
        of_kind.SetInParent()  # also where it stays empty
        of_kind.value.extend(values[name])
    return message.SerializeToString(deterministic=True)


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


def parse(serialized: bytes) -> Example:
    """One example of its record's bytes. Raises: ValueError for bytes that are none."""
    import tensorflow as tf
    from google.protobuf.message import DecodeError

    try:
        features = tf.train.Example.FromString(serialized).features.feature
        values = {name: getattr(features[name], LISTS[kind]).value for name, (kind, _) in FEATURES.items()}
        return _example({name: value if FEATURES[name][1] else value[0] for name, value in values.items()})
    except (DecodeError, IndexError) as error:
        raise ValueError(f"a record is not one of this project's ({error}); build the folder again.") from error
