"""From a split to endless training batches, whose order is a function of the step, and to pictures for evaluation."""

import atexit
import math
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf
import tqdm

from data.splits import Column, Split, Vectors

# Autograph is off in every map: nothing needs it, and it costs start-up time.
ENDLESS = 2**62  # examples; tf.data's range needs an end
_reads, _exiting = 0, False  # batches that were read, by threads of TensorFlow's; whether this process ends


def training_batches(
    split: Split,
    embeddings: np.ndarray | Vectors | None,
    tokens: np.ndarray | None,
    *,
    image_size: int,
    load_size: int,
    batch_size: int,
    seed: int,
    start_step: int = 0,
    flip: bool = True,
    rotate_degrees: float = 0,
    captions_averaged: int = 1,
    share: tuple[int, int] | None = None,
) -> tf.data.Dataset:
    """Endless batches, beginning with that of `start_step`; every draw is a function of (seed, step) alone.

    An epoch is N // batch_size steps, each of its own pictures in a fresh order; what does not fill a batch is dropped
    (another rest each epoch). Each picture is rotated, resized so that its short side is load_size, cropped at random
    and mirrored at random; one of its captions is drawn.

    embeddings: [sum of captions, D] float32 in caption order; None leaves the key out (to train a text encoder).
    tokens: [sum of captions, T] int32 in caption order, 0 = padding; None leaves the key out (embeddings from files).
        Either may be an array, or anything with its shape and read(numbers [n]) -> rows [n, ...].
    image_size, load_size: pixels.   rotate_degrees: largest angle to either side, 0 = none; edge pixels are repeated.
    captions_averaged: how many captions of a picture, drawn without repetition, make its embedding by their mean (all
        of a picture that has fewer). Source: 4 in StackGAN and Reed's GAN-CLS, 1 in SISGAN and TAGAN.
    share: first row and number of rows whose pictures are read and decoded, of a worker that trains on these alone;
        `image` then has these rows, everything else those of the whole batch. None = all.

    Yields a dict: image [B, S, S, 3] float32 in [-1, 1], embedding [B, D] float32, tokens [B, T] int32 of the same
    caption (the first drawn), class_id [B] int32.

    Raises: ValueError for sizes, rows or a batch that do not fit.
    """
    owned_by = split.caption_counts
    count, captions = len(split), int(owned_by.sum())
    _check_sizes(image_size, load_size)
    if not 1 <= batch_size <= count:
        raise ValueError(f"batch_size={batch_size} must be 1 to {count}, the number of pictures in the split.")
    if start_step < 0:
        raise ValueError(f"start_step={start_step} must be 0 or more.")
    if not 0 <= rotate_degrees <= 180:
        raise ValueError(f"rotate_degrees={rotate_degrees} must be 0 to 180.")
    if captions_averaged < 1:
        raise ValueError(f"captions_averaged={captions_averaged} must be 1 or more.")
    for name, rows in (("embeddings", embeddings), ("tokens", tokens)):
        if rows is not None and (np.ndim(rows) != 2 or len(rows) != captions):
            raise ValueError(
                f"{name} of shape {tuple(np.shape(rows))} must have 2 axes and a row for each of the split's "
                f"{captions} captions; they were made from other records, make them again."
            )
    first_row, rows_read = share or (0, batch_size)
    if not 0 <= first_row < first_row + rows_read <= batch_size:
        raise ValueError(f"share={share} must lie within the {batch_size} rows of a batch.")

    per_epoch = count // batch_size * batch_size
    with tf.device("CPU:0"):  # tensors made here are captured, not copied into the graph
        caption_counts = tf.constant(owned_by, tf.int32)
        first_captions = tf.cumsum(caption_counts, exclusive=True)
        class_ids = tf.constant(split.class_ids)
        encoded_of = _reader(split.images, tf.string)
        token_of = None if tokens is None else _reader(tokens, tf.int32)
        embedding_of = None if embeddings is None else _reader(embeddings, tf.float32)

    def pictures_of(counters: tf.Tensor, epoch: tf.Tensor) -> tf.Tensor:
        """Picture numbers of the examples `counters` (int64, from 0, over all epochs) of an epoch, of their shape."""
        return tf.random.experimental.index_shuffle(
            counters % per_epoch, seed=tf.stack([tf.constant(seed, tf.int64), epoch]), max_index=count - 1
        )

    def draws_of(counter: tf.Tensor) -> tf.Tensor:
        return tf.random.stateless_uniform([5], seed=tf.stack([tf.constant(seed, tf.int64), counter]), alg="philox")

    @tf.autograph.experimental.do_not_convert
    def read(step: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """The examples of a batch that this process decodes, their picture numbers, and their pictures, encoded."""
        counters = step * batch_size + tf.range(first_row, first_row + rows_read, dtype=tf.int64)
        index = pictures_of(counters, counters[0] // per_epoch)  # a batch is of one epoch
        return counters, index, encoded_of(index)

    def picture(encoded: tf.Tensor, draws: tf.Tensor) -> tf.Tensor:
        mirrored = draws[2] < 0.5 if flip else None
        if rotate_degrees:
            pixels = _rotate(_decode(encoded, channels=3), (2 * draws[4] - 1) * math.radians(rotate_degrees))
            image = _crop_pixels(pixels, image_size, load_size, draws[:2], mirrored)
        else:
            image = _crop_encoded(encoded, image_size, load_size, draws[:2], mirrored)
        return image / 127.5 - 1.0

    def words(counter: tf.Tensor, index: tf.Tensor, draws: tf.Tensor) -> dict[str, tf.Tensor]:
        """Picture number of an example, and the numbers of its captions with each one's share."""
        owned = caption_counts[index]
        if captions_averaged == 1:
            picked = tf.cast(draws[3:4] * tf.cast(owned, tf.float32), tf.int32)  # [1]
        else:
            place = tf.range(captions_averaged) % owned  # [k]; places beyond `owned` get no share below
            order = tf.stack([tf.constant(seed, tf.int64), counter])
            picked = tf.random.experimental.index_shuffle(place, seed=order, max_index=owned - 1)
        part = tf.cast(tf.range(captions_averaged) < owned, tf.float32)
        return {"index": index, "caption": first_captions[index] + picked, "share": part / tf.reduce_sum(part)}

    @tf.autograph.experimental.do_not_convert
    def batch_of(image: tf.Tensor, parts: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        batch = {"image": image, "class_id": tf.gather(class_ids, parts["index"])}
        if token_of:
            batch["tokens"] = token_of(parts["caption"][:, 0])
        if embedding_of:
            drawn = embedding_of(parts["caption"])  # [B, k, D]
            batch["embedding"] = tf.reduce_sum(drawn * parts["share"][..., None], axis=1)
        return batch

    @tf.autograph.experimental.do_not_convert
    def one(counter: tf.Tensor, index: tf.Tensor, encoded: tf.Tensor) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        draws = draws_of(counter)
        return picture(encoded, draws), words(counter, index, draws)

    @tf.autograph.experimental.do_not_convert
    def picture_alone(counter: tf.Tensor, index: tf.Tensor, encoded: tf.Tensor) -> tf.Tensor:
        return picture(encoded, draws_of(counter))

    @tf.autograph.experimental.do_not_convert
    def words_alone(counter: tf.Tensor) -> dict[str, tf.Tensor]:
        return words(counter, pictures_of(counter, counter // per_epoch), draws_of(counter))

    options = {"num_parallel_calls": tf.data.AUTOTUNE, "deterministic": True}
    encoded = tf.data.Dataset.range(start_step, ENDLESS // batch_size).map(read, **options).unbatch()
    if rows_read == batch_size:
        batches = encoded.map(one, **options).batch(batch_size, drop_remainder=True)
    else:
        pictures = encoded.map(picture_alone, **options).batch(rows_read, drop_remainder=True)
        counters = tf.data.Dataset.range(start_step * batch_size, ENDLESS)
        texts = counters.map(words_alone, **options).batch(batch_size, drop_remainder=True)
        batches = tf.data.Dataset.zip((pictures, texts))
    return batches.map(batch_of).prefetch(tf.data.AUTOTUNE)


def _reader(rows: Any, dtype: tf.DType) -> Callable[[tf.Tensor], tf.Tensor]:
    """What gives rows of `rows` by their numbers, of any shape, in a graph: out of memory, or by its method `read`.

    One call into Python reads a batch: measured, a tenth of what opening a dataset for every row in the graph costs.
    """
    if not hasattr(rows, "read"):
        values = tf.constant(rows, dtype)
        return lambda numbers: tf.gather(values, numbers)

    width = rows.shape[1:] if dtype != tf.string else ()

    def read(numbers: np.ndarray) -> np.ndarray:
        global _reads
        _reads += 1
        if _exiting:
            raise StopIteration  # which TensorFlow takes for the end, without a line in its log
        return rows.read(numbers.reshape(-1)).reshape(*numbers.shape, *width)  # where `numbers` is [n] or [B, k]

    def call(numbers: tf.Tensor) -> tf.Tensor:
        found = tf.numpy_function(read, [numbers], dtype, stateful=False)
        return tf.ensure_shape(found, [*numbers.shape, *width])

    return call


@atexit.register
def _end_reading() -> None:
    """Brings the threads that read ahead to rest while they can still get out of Python.

    Once the interpreter ends they cannot, and an iterator that is still alive then would wait for them forever.
    """
    global _exiting
    _exiting, before = True, -1
    deadline = time.monotonic() + 5
    while _reads != before and time.monotonic() < deadline:
        before = _reads
        time.sleep(0.1 if before else 0)


def centre_crop(pixels: tf.Tensor, image_size: int, load_size: int) -> tf.Tensor:
    """[S, S, 3] float32 in [-1, 1]: the short side brought to load_size, aspect kept, then the central crop.

    pixels: [H, W, 3] uint8.   image_size (S), load_size: pixels.
    Source: the test path of SISGAN (74 -> 64) and TAGAN (136 -> 128).
    """
    return _crop_pixels(pixels, image_size, load_size, None) / 127.5 - 1.0


class Decoded:
    """An array [N, ...] whose rows are decoded when they are asked for, by a slice or by numbers, and not held.

    encoded: pictures as `Split` has them.   transform: one of them -> values of `shape` without N and of `dtype`.
    """

    def __init__(self, encoded: Any, transform: Callable, shape: tuple[int, ...], dtype: tf.DType) -> None:
        self.shape, self.dtype, self.ndim = (len(encoded), *shape), dtype.as_numpy_dtype, 1 + len(shape)
        self._read, spec = _reader(encoded, tf.string), tf.TensorSpec(shape, dtype)
        self._transform = tf.autograph.experimental.do_not_convert(transform)
        self._of_batch = tf.function(
            lambda batch: tf.map_fn(self._transform, batch, fn_output_signature=spec, parallel_iterations=8),
            input_signature=[tf.TensorSpec([None], tf.string)],
            autograph=False,
        )

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: Any) -> np.ndarray:
        rows = np.arange(len(self))[key]
        return self._of_batch(self._read(tf.constant(rows, tf.int64))).numpy()

    def all(self) -> np.ndarray:
        """The whole array, with a progress bar where it takes over two seconds."""
        rows = tf.data.Dataset.range(len(self)).batch(64).map(self._read).unbatch()
        dataset = rows.map(self._transform, tf.data.AUTOTUNE, deterministic=True).prefetch(tf.data.AUTOTUNE)
        out = np.empty(self.shape, self.dtype)
        for row, value in enumerate(tqdm.tqdm(dataset, total=len(self), unit="image", delay=2, leave=False)):
            out[row] = value.numpy()
        return out


def decoded_images(split: Split, image_size: int, load_size: int) -> Decoded:
    """Every picture through `centre_crop`, in the split's order: [N, S, S, 3] float32 in [-1, 1], read when asked for.

    Raises: ValueError where image_size does not fit in load_size.
    """
    _check_sizes(image_size, load_size)
    return Decoded(
        split.images,
        lambda encoded: centre_crop(_decode(encoded, channels=3), image_size, load_size),
        (image_size, image_size, 3),
        tf.float32,
    )


def decoded_masks(split: Split, image_size: int, load_size: int) -> Decoded:
    """Every mask in the geometry of `decoded_images`: [N, S, S] bool, True = inside (over half of the pixel).

    Raises: ValueError where the split has a picture without a mask or image_size does not fit in load_size.
    """
    _check_sizes(image_size, load_size)
    if not split.masked.all():
        without = np.flatnonzero(~split.masked)
        raise ValueError(
            f"{len(without)} of {len(split)} pictures have no mask ({split.keys[without[0]]}); only the demo set has "
            "masks."
        )
    return Decoded(
        split.masks if isinstance(split.masks, Column) else tf.constant(split.masks),
        lambda encoded: _crop_pixels(_decode(encoded, channels=1), image_size, load_size, None)[..., 0] > 127.5,
        (image_size, image_size),
        tf.bool,
    )


def evaluation_images(split: Split, image_size: int, load_size: int) -> np.ndarray:
    """`decoded_images`, all of them in memory. Raises as that."""
    return decoded_images(split, image_size, load_size).all()


def _check_sizes(image_size: int, load_size: int) -> None:
    if not 1 <= image_size <= load_size:
        raise ValueError(f"image_size={image_size} must be 1 to load_size={load_size}, out of which it is cut.")


def _decode(encoded: tf.Tensor, channels: int) -> tf.Tensor:
    pixels = tf.io.decode_image(encoded, channels=channels, expand_animations=False)
    return tf.ensure_shape(pixels, [None, None, channels])  # [H, W, channels] uint8


def _crop_encoded(
    encoded: tf.Tensor, image_size: int, load_size: int, place: tf.Tensor, mirrored: tf.Tensor | None
) -> tf.Tensor:
    """`_crop` of encoded bytes. Of a JPEG only the blocks under the crop are turned into pixels."""

    def jpeg() -> tf.Tensor:
        size = tf.io.extract_jpeg_shape(encoded)[:2]

        def read(window: tf.Tensor) -> tf.Tensor:
            # Two pixels more on each side: at the edge of a decoded region the colours lack their neighbours.
            first = tf.maximum(window[:2] - 2, 0)
            last = tf.minimum(window[:2] + window[2:] + 2, size)
            pixels = tf.io.decode_and_crop_jpeg(encoded, tf.concat([first, last - first], 0), channels=3)
            return tf.slice(pixels, tf.concat([window[:2] - first, [0]], 0), tf.concat([window[2:], [3]], 0))

        return _crop(size, read, 3, image_size, load_size, place, mirrored)

    is_jpeg = tf.equal(tf.strings.substr(encoded, 0, 3), b"\xff\xd8\xff")
    return tf.cond(is_jpeg, jpeg, lambda: _crop_pixels(_decode(encoded, 3), image_size, load_size, place, mirrored))


def _crop_pixels(
    pixels: tf.Tensor, image_size: int, load_size: int, place: tf.Tensor | None, mirrored: tf.Tensor | None = None
) -> tf.Tensor:
    """`_crop` of [H, W, C] uint8."""

    def read(window: tf.Tensor) -> tf.Tensor:
        return tf.slice(pixels, tf.concat([window[:2], [0]], 0), tf.concat([window[2:], [pixels.shape[-1]]], 0))

    return _crop(tf.shape(pixels)[:2], read, pixels.shape[-1], image_size, load_size, place, mirrored)


def _crop(
    size: tf.Tensor, read: Callable[[tf.Tensor], tf.Tensor], channels: int, image_size: int, load_size: int,
    place: tf.Tensor | None, mirrored: tf.Tensor | None,
) -> tf.Tensor:  # fmt: skip
    """[S, S, C] float32, 0 to 255: the short side brought to load_size, aspect kept, and a square cut out.

    size: [2] int32, height and width of the picture.   read: [top, left, height, width] -> these pixels, uint8.
    place: [2] float32 in [0, 1), where in the room that is left the square lies; None = in the middle.
    mirrored: [] bool, whether left becomes right.

    antialias=True makes the filter Pillow's bilinear one. Only what is seen of the picture is resized, and a picture
    stored at load_size not at all: resizing costs four times as much as decoding.
    """
    short = tf.reduce_min(size)
    scaled = (size * load_size + short // 2) // short
    room = scaled - image_size
    corner = room // 2 if place is None else tf.cast(place * tf.cast(room + 1, tf.float32), tf.int32)

    def turned(image: tf.Tensor) -> tf.Tensor:
        if mirrored is None:
            return image
        return tf.cond(mirrored, lambda: tf.reverse(image, [1]), lambda: image)  # image[:, ::-1] is 30 times as slow

    def cut() -> tf.Tensor:  # turned as bytes, in a quarter of the time
        return tf.cast(turned(read(tf.concat([corner, [image_size, image_size]], 0))), tf.float32)

    def resize() -> tf.Tensor:
        scale = tf.cast(scaled, tf.float32) / tf.cast(size, tf.float32)
        reach = tf.maximum(1.0 / scale, 1.0) + 1.0  # of the filter, in pixels of the picture
        start = tf.cast(corner, tf.float32) / scale
        stop = tf.cast(corner + image_size, tf.float32) / scale
        first = tf.maximum(tf.cast(tf.floor(start - reach), tf.int32), 0)
        last = tf.minimum(tf.cast(tf.math.ceil(stop + reach), tf.int32), size)
        image = tf.raw_ops.ScaleAndTranslate(
            images=read(tf.concat([first, last - first], 0))[None],
            size=[image_size, image_size],
            scale=scale,
            translation=tf.cast(first, tf.float32) * scale - tf.cast(corner, tf.float32),
            kernel_type="triangle",
            antialias=True,
        )[0]
        return turned(tf.clip_by_value(image, 0.0, 255.0))  # the filter's weights add up to one but for rounding

    image = tf.cond(tf.reduce_all(tf.equal(scaled, size)), cut, resize)
    return tf.ensure_shape(image, [image_size, image_size, channels])


def _rotate(pixels: tf.Tensor, angle: tf.Tensor) -> tf.Tensor:
    """The picture turned by `angle` radians counter-clockwise about its centre, same size, edge pixels repeated.

    Nearest sampling: the picture is still at its full size, and the antialiased resize that follows smooths it.
    Source: CYTL's and T2I's order (rotate, then resize). The transform is that of tensorflow-addons' `image.rotate`.
    """
    size = tf.cast(tf.shape(pixels)[:2] - 1, tf.float32)
    height, width = size[0], size[1]
    cos, sin = tf.cos(angle), tf.sin(angle)
    x_offset = (width - (cos * width - sin * height)) / 2
    y_offset = (height - (sin * width + cos * height)) / 2
    transform = tf.stack([cos, -sin, x_offset, sin, cos, y_offset, 0.0, 0.0])
    return tf.raw_ops.ImageProjectiveTransformV3(
        images=pixels[None],
        transforms=transform[None],
        output_shape=tf.shape(pixels)[:2],
        fill_value=0.0,
        interpolation="NEAREST",
        fill_mode="NEAREST",
    )[0]
