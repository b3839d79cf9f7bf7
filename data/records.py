"""The one record schema: Example, its table of features, writer, reader, and what a picture must be to go in.
Must not know any data set's layout, batches or a model."""

import contextlib
import dataclasses
import hashlib
import io
import itertools
import json
import os
import struct
from collections.abc import Iterable, Iterator

import numpy as np
import tensorflow as tf
from PIL import Image, ImageOps

from simgan_tf import files

FORMAT_VERSION = 1
SPLITS = ("train", "test")
MAX_PIXELS = 50_000_000  # a larger picture is a mistake or a decompression bomb
MAX_ASPECT = 20  # longer side over shorter: resizing by the shorter must not blow the longer up
MIN_SIDE = 8  # pixels
READ_BATCH = 64  # records parsed at a time: parsing one by one costs four times as much

FEATURES = {
    "image": tf.io.FixedLenFeature([], tf.string),  # encoded RGB JPEG or PNG
    "key": tf.io.FixedLenFeature([], tf.string),
    "class_id": tf.io.FixedLenFeature([], tf.int64),  # 1-based
    "captions": tf.io.RaggedFeature(tf.string),  # raw text, one or more
    "mask": tf.io.FixedLenFeature([], tf.string),  # PNG, empty where there is none
    "colour": tf.io.FixedLenFeature([], tf.string),  # empty where there is none
    "embeddings": tf.io.RaggedFeature(tf.float32),  # [captions * D], row by row, empty where there are none
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
        embedding_dim (0 = none), fingerprint (sha256 over all that the examples hold, in the order given).

    Raises: ValueError for a key seen twice, an example without captions or embeddings of another shape;
        OSError where the disk refuses the bytes.
    """
    if shards < 1:
        raise ValueError(f"shards={shards} must be 1 or more; 8 is the default.")
    keys, class_ids, digest = set(), set(), hashlib.sha256()
    caption_counts, masks, dim = [], 0, None
    try:
        with contextlib.ExitStack() as stack:
            paths = [shard_path(out_dir, split, shard, shards) for shard in range(shards)]
            writers = [stack.enter_context(tf.io.TFRecordWriter(path)) for path in paths]
            for writer, example in zip(itertools.cycle(writers), examples):  # noqa: B905 - one is endless
                if example.key in keys:
                    raise ValueError(f"Key {example.key!r} occurs twice in the {split} split; keys must be unique.")
                if not example.captions:
                    raise ValueError(f"{example.key!r} has no caption; every example needs one or more.")
                width = 0 if example.embeddings is None else example.embeddings.shape[-1]
                dim = width if dim is None else dim
                if width != dim or (width and example.embeddings.shape != (len(example.captions), dim)):
                    shape = None if example.embeddings is None else example.embeddings.shape
                    raise ValueError(f"{example.key!r} has embeddings {shape}, not {(len(example.captions), dim)}.")
                values = _values(example)
                for value in values.values():
                    _add(digest, value)
                writer.write(_serialize(values))
                keys.add(example.key)
                class_ids.add(example.class_id)
                caption_counts.append(len(example.captions))
                masks += bool(example.mask)
    except tf.errors.OpError as error:  # TensorFlow's own way to say that the disk is full or read-only
        raise OSError(f"Cannot write the {split} records in {out_dir!r}: {error.message}") from error
    return {
        "images": len(keys),
        "captions": sum(caption_counts),
        "captions_per_image": [min(caption_counts, default=0), max(caption_counts, default=0)],
        "masks": masks,
        "class_ids": sorted(class_ids),
        "embedding_dim": dim or 0,
        "fingerprint": digest.hexdigest(),
    }


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
        found = info.get("format_version") if isinstance(info, dict) else None
        raise ValueError(f"{path} has format_version={found}, this code reads {FORMAT_VERSION}; build it again.")
    return info


def read_examples(records_dir: str, split: str) -> Iterator[Example]:
    """Every example of `split`, in the order it was written, whatever the number of shards.

    Raises: FileNotFoundError for a missing folder or shard; ValueError for an unknown split or damaged records.
    """
    info = read_info(records_dir)
    if split not in info["splits"]:
        raise ValueError(f"split={split!r} is not in {records_dir!r}; it has {', '.join(info['splits'])}.")
    shards, expected = info["shards"], info["splits"][split]["images"]
    paths = [shard_path(records_dir, split, shard, shards) for shard in range(shards)]
    for path in paths:
        if not os.path.isfile(path):
            raise FileNotFoundError(f"No {path}, though dataset.json counts {shards} shards; build the folder again.")
    serialized = tf.data.Dataset.from_tensor_slices(paths).interleave(
        tf.data.TFRecordDataset, cycle_length=shards, block_length=1, num_parallel_calls=1, deterministic=True
    )
    parse = tf.autograph.experimental.do_not_convert(lambda batch: tf.io.parse_example(batch, FEATURES))
    parsed = serialized.batch(READ_BATCH).map(parse)
    found = 0
    try:
        for batch in parsed:
            columns = {name: tensor.numpy() for name, tensor in batch.items()}
            for row in range(len(columns["key"])):
                found += 1
                yield _example({name: column[row] for name, column in columns.items()})
    except (tf.errors.DataLossError, tf.errors.InvalidArgumentError) as error:
        raise ValueError(f"A {split} record in {records_dir!r} is damaged; build the folder again.") from error
    if found != expected:
        raise ValueError(f"{records_dir!r} holds {found} {split} records, not {expected} as it should; build it again.")


def read_picture(path: str) -> bytes:
    """Encoded bytes of a picture that TensorFlow decodes to the upright RGB picture that Pillow sees.

    An RGB JPEG or PNG passes unchanged. Every other picture (grey, CMYK, palette, transparent, 16 bit, another
    format, turned by its EXIF orientation, or one that TensorFlow's decoder refuses) is written anew: JPEG q95 where
    it was a JPEG, else PNG. Transparent parts become white; 16 bit values keep their upper 8 bits.

    Raises: ValueError, naming the file, for a damaged or truncated picture, one of more than 50 million pixels
        or one with a side under 8 pixels; FileNotFoundError.
    """
    with open(path, "rb") as file:
        data = file.read()
    try:
        with Image.open(io.BytesIO(data)) as picture:
            _check_size(path, picture.size)
            picture.load()
            turned = picture.getexif().get(0x0112, 1) not in (0, 1)  # 0x0112 = orientation
            deep = picture.format == "PNG" and data[24] == 16  # bit depth byte of the IHDR chunk
            plain = picture.format in ("JPEG", "PNG") and picture.mode == "RGB" and "transparency" not in picture.info
            if plain and not turned and not deep and _tensorflow_reads(data, picture.size):
                return data
            lossy = picture.format in ("JPEG", "MPO")
            upright = _rgb(ImageOps.exif_transpose(picture))
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ValueError(f"{path} has over {MAX_PIXELS:,} pixels; make it smaller.") from error
    except _Refused as error:
        raise ValueError(str(error)) from error
    except (OSError, SyntaxError, ValueError, struct.error, EOFError) as error:  # what Pillow raises on broken files
        raise ValueError(f"{path} is not a readable picture ({error}); replace it or take it out.") from error
    buffer = io.BytesIO()
    if lossy:
        upright.save(buffer, "JPEG", quality=95, subsampling=0)
    else:
        upright.save(buffer, "PNG")
    return buffer.getvalue()


def read_mask(path: str, image: bytes) -> bytes:
    """PNG bytes of a mask, checked to be one grey channel of the size of the encoded picture `image`.

    Raises: ValueError, naming the file; FileNotFoundError.
    """
    with open(path, "rb") as file:
        data = file.read()
    try:
        with Image.open(io.BytesIO(data)) as mask, Image.open(io.BytesIO(image)) as picture:
            mask.load()
            found, expected = (mask.format, mask.mode, mask.size), ("PNG", "L", picture.size)
    except (OSError, SyntaxError, ValueError, struct.error, EOFError) as error:
        raise ValueError(f"{path} is not a readable mask ({error}); replace it.") from error
    if found != expected:
        raise ValueError(f"{path} is {found}; a mask must be {expected}, as large as its picture.")
    return data


class _Refused(ValueError):
    """A readable picture that we do not want; told apart from Pillow's own ValueErrors."""


def _check_size(path: str, size: tuple[int, int]) -> None:
    width, height = size
    if width * height > MAX_PIXELS:
        raise _Refused(f"{path} is {width}x{height}, over {MAX_PIXELS:,} pixels; make it smaller.")
    if max(width, height) > MAX_ASPECT * min(width, height):
        raise _Refused(f"{path} is {width}x{height}; the longer side may be {MAX_ASPECT} times the shorter at most.")
    if min(width, height) < MIN_SIDE:
        raise _Refused(f"{path} is {width}x{height}; both sides need {MIN_SIDE} pixels or more.")


def _tensorflow_reads(data: bytes, size: tuple[int, int]) -> bool:
    """Whether the training pipeline's decoder accepts the bytes: it refuses some JPEGs that Pillow repairs."""
    try:
        with tf.device("CPU:0"):
            pixels = tf.io.decode_image(data, channels=3, expand_animations=False)
    except tf.errors.InvalidArgumentError:
        return False
    return tuple(pixels.shape) == (size[1], size[0], 3)


def _rgb(picture: Image.Image) -> Image.Image:
    """8 bit RGB of any mode, transparent parts on white."""
    if picture.mode.startswith("I"):  # 16 bit grey: Pillow's own conversion would clip at 255, not scale
        picture = Image.fromarray((np.clip(np.asarray(picture), 0, 65535) >> 8).astype(np.uint8))
    if picture.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in picture.info:
        picture = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture)
    return picture.convert("RGB")


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
    feature = {}
    for name, spec in FEATURES.items():
        if spec.dtype == tf.string:
            feature[name] = tf.train.Feature(bytes_list=tf.train.BytesList(value=values[name]))
        elif spec.dtype == tf.int64:
            feature[name] = tf.train.Feature(int64_list=tf.train.Int64List(value=values[name]))
        else:
            feature[name] = tf.train.Feature(float_list=tf.train.FloatList(value=values[name]))
    return tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString(deterministic=True)


def _example(values: dict[str, object]) -> Example:
    captions = tuple(caption.decode() for caption in values["captions"])
    flat = np.asarray(values["embeddings"], np.float32)
    return Example(
        image=values["image"],
        key=values["key"].decode(),
        class_id=int(values["class_id"]),
        captions=captions,
        mask=values["mask"],
        colour=values["colour"].decode(),
        embeddings=flat.reshape(len(captions), -1) if flat.size else None,
    )
