"""From records to batches: a split held in memory, endless training batches whose order is a function of the step,
and the pictures for evaluation."""

import dataclasses
import math

import numpy as np
import tensorflow as tf
import tqdm

from data import records

# Autograph is off in every map: nothing needs it, and it costs start-up time.
ENDLESS = 2**62  # examples; tf.data's range needs an end


@dataclasses.dataclass(frozen=True)
class Split:
    """One split in memory: encoded bytes, never decoded pixels."""

    keys: list[str]
    images: tf.Tensor  # [N] string, encoded RGB JPEG or PNG
    masks: list[bytes]  # PNG, b"" where there is none
    colours: list[str]  # "" where there is none
    class_ids: np.ndarray  # [N] int32, 1-based
    captions: list[tuple[str, ...]]
    embeddings: np.ndarray | None  # [sum of captions, D] float32 in caption order, if the records hold them

    def __len__(self) -> int:
        return len(self.keys)

    def take(self, rows: np.ndarray) -> "Split":
        """The pictures of these rows, in their order."""
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
    """The whole of `split` ("train" or "test"), in key order. Raises as `records.read_examples` does."""
    total = records.read_info(records_dir)["splits"].get(split, {}).get("images")
    stream = records.read_examples(records_dir, split)
    examples = list(tqdm.tqdm(stream, total=total, unit="image", desc=f"reading {split}", delay=2, leave=False))
    embeddings = [example.embeddings for example in examples if example.embeddings is not None]
    with tf.device("CPU:0"):
        images = tf.constant([example.image for example in examples])
    return Split(
        keys=[example.key for example in examples],
        images=images,
        masks=[example.mask for example in examples],
        colours=[example.colour for example in examples],
        class_ids=np.array([example.class_id for example in examples], np.int32),
        captions=[example.captions for example in examples],
        embeddings=np.concatenate(embeddings) if embeddings else None,
    )


def training_batches(
    split: Split,
    embeddings: np.ndarray | None,
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
) -> tf.data.Dataset:
    """Endless batches, beginning with that of `start_step`; every draw is a function of (seed, step) alone.

    An epoch is N // batch_size steps, each of its own pictures in a fresh order; what does not fill a batch is dropped
    (another rest each epoch). Each picture is rotated, resized so that its short side is load_size, cropped at random
    and mirrored at random; one of its captions is drawn.

    embeddings: [sum of captions, D] float32 in caption order; None leaves the key out (to train a text encoder).
    tokens: [sum of captions, T] int32 in caption order, 0 = padding; None leaves the key out (embeddings from files).
    image_size, load_size: pixels.   rotate_degrees: largest angle to either side, 0 = none; edge pixels are repeated.
    captions_averaged: how many captions of a picture, drawn without repetition, make its embedding by their mean (all
        of a picture that has fewer). Source: 4 in StackGAN and Reed's GAN-CLS, 1 in SISGAN and TAGAN.

    Yields a dict: image [B, S, S, 3] float32 in [-1, 1], embedding [B, D] float32, tokens [B, T] int32 of the same
    caption (the first drawn), class_id [B] int32.

    Raises: ValueError for sizes, rows or a batch that do not fit.
    """
    count, captions = len(split), sum(len(texts) for texts in split.captions)
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

    per_epoch = count // batch_size * batch_size
    with tf.device("CPU:0"):  # tensors made here are captured, not copied into the graph
        caption_counts = tf.constant([len(texts) for texts in split.captions], tf.int32)
        first_captions = tf.cumsum(caption_counts, exclusive=True)
        class_ids = tf.constant(split.class_ids)
        rows = {} if tokens is None else {"tokens": tf.constant(tokens, tf.int32)}
        if embeddings is not None:
            rows["embedding"] = tf.constant(embeddings, tf.float32)

    @tf.autograph.experimental.do_not_convert
    def one(counter: tf.Tensor) -> dict[str, tf.Tensor]:
        """Example number `counter` (int64, from 0, over all epochs): picture, picture number, caption number."""
        index = tf.random.experimental.index_shuffle(
            counter % per_epoch, seed=tf.stack([tf.constant(seed, tf.int64), counter // per_epoch]), max_index=count - 1
        )
        draws = tf.random.stateless_uniform([5], seed=tf.stack([tf.constant(seed, tf.int64), counter]), alg="philox")
        encoded = tf.gather(split.images, index)
        if rotate_degrees:
            pixels = _rotate(_decode(encoded, channels=3), (2 * draws[4] - 1) * math.radians(rotate_degrees))
            image = _crop_pixels(pixels, image_size, load_size, draws[:2])
        else:
            image = _crop_encoded(encoded, image_size, load_size, draws[:2])
        if flip:  # not image[:, ::-1], which takes 30 times as long
            image = tf.cond(draws[2] < 0.5, lambda: tf.reverse(image, [1]), lambda: image)
        owned = caption_counts[index]
        if captions_averaged == 1:
            picked = tf.cast(draws[3:4] * tf.cast(owned, tf.float32), tf.int32)  # [1]
        else:
            place = tf.range(captions_averaged) % owned  # [k]; places beyond `owned` get no share below
            order = tf.stack([tf.constant(seed, tf.int64), counter])
            picked = tf.random.experimental.index_shuffle(place, seed=order, max_index=owned - 1)
        share = tf.cast(tf.range(captions_averaged) < owned, tf.float32)
        return {
            "image": image / 127.5 - 1.0,
            "index": index,
            "caption": first_captions[index] + picked,
            "share": share / tf.reduce_sum(share),
        }

    @tf.autograph.experimental.do_not_convert
    def batch_of(parts: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        batch = {"image": parts["image"], "class_id": tf.gather(class_ids, parts["index"])}
        if "tokens" in rows:
            batch["tokens"] = tf.gather(rows["tokens"], parts["caption"][:, 0])
        if "embedding" in rows:
            drawn = tf.gather(rows["embedding"], parts["caption"])  # [B, k, D]
            batch["embedding"] = tf.reduce_sum(drawn * parts["share"][..., None], axis=1)
        return batch

    counters = tf.data.Dataset.range(start_step * batch_size, ENDLESS)
    singles = counters.map(one, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    return singles.batch(batch_size, drop_remainder=True).map(batch_of).prefetch(tf.data.AUTOTUNE)


def centre_crop(pixels: tf.Tensor, image_size: int, load_size: int) -> tf.Tensor:
    """[S, S, 3] float32 in [-1, 1]: the short side brought to load_size, aspect kept, then the central crop.

    pixels: [H, W, 3] uint8.   image_size (S), load_size: pixels.
    Source: the test path of SISGAN (74 -> 64) and TAGAN (136 -> 128).
    """
    return _crop_pixels(pixels, image_size, load_size, None) / 127.5 - 1.0


def evaluation_images(split: Split, image_size: int, load_size: int) -> np.ndarray:
    """Every picture through `centre_crop`, in the split's order: [N, S, S, 3] float32 in [-1, 1].

    Raises: ValueError where image_size does not fit in load_size.
    """
    _check_sizes(image_size, load_size)
    return _collect(
        split.images,
        lambda encoded: centre_crop(_decode(encoded, channels=3), image_size, load_size),
        np.empty([len(split), image_size, image_size, 3], np.float32),
    )


def evaluation_masks(split: Split, image_size: int, load_size: int) -> np.ndarray:
    """Every mask in the geometry of `evaluation_images`: [N, S, S] bool, True = inside (over half of the pixel).

    Raises: ValueError where the split has a picture without a mask or image_size does not fit in load_size.
    """
    _check_sizes(image_size, load_size)
    without = [key for key, mask in zip(split.keys, split.masks, strict=True) if not mask]
    if without:
        raise ValueError(
            f"{len(without)} of {len(split)} pictures have no mask ({without[0]}); only the demo set has masks."
        )
    return _collect(
        tf.constant(split.masks),
        lambda encoded: _crop_pixels(_decode(encoded, channels=1), image_size, load_size, None)[..., 0] > 127.5,
        np.empty([len(split), image_size, image_size], bool),
    )


def _check_sizes(image_size: int, load_size: int) -> None:
    if not 1 <= image_size <= load_size:
        raise ValueError(f"image_size={image_size} must be 1 to load_size={load_size}, out of which it is cut.")


def _decode(encoded: tf.Tensor, channels: int) -> tf.Tensor:
    pixels = tf.io.decode_image(encoded, channels=channels, expand_animations=False)
    return tf.ensure_shape(pixels, [None, None, channels])  # [H, W, channels] uint8


def _crop_encoded(encoded: tf.Tensor, image_size: int, load_size: int, place: tf.Tensor) -> tf.Tensor:
    """`_crop` of encoded bytes. Of a JPEG only the blocks under the crop are turned into pixels."""

    def jpeg() -> tf.Tensor:
        size = tf.io.extract_jpeg_shape(encoded)[:2]

        def read(window: tf.Tensor) -> tf.Tensor:
            # Two pixels more on each side: at the edge of a decoded region the colours lack their neighbours.
            first = tf.maximum(window[:2] - 2, 0)
            last = tf.minimum(window[:2] + window[2:] + 2, size)
            pixels = tf.io.decode_and_crop_jpeg(encoded, tf.concat([first, last - first], 0), channels=3)
            return tf.slice(pixels, tf.concat([window[:2] - first, [0]], 0), tf.concat([window[2:], [3]], 0))

        return _crop(size, read, 3, image_size, load_size, place)

    is_jpeg = tf.equal(tf.strings.substr(encoded, 0, 3), b"\xff\xd8\xff")
    return tf.cond(is_jpeg, jpeg, lambda: _crop_pixels(_decode(encoded, 3), image_size, load_size, place))


def _crop_pixels(pixels: tf.Tensor, image_size: int, load_size: int, place: tf.Tensor | None) -> tf.Tensor:
    """`_crop` of [H, W, C] uint8."""

    def read(window: tf.Tensor) -> tf.Tensor:
        return tf.slice(pixels, tf.concat([window[:2], [0]], 0), tf.concat([window[2:], [pixels.shape[-1]]], 0))

    return _crop(tf.shape(pixels)[:2], read, pixels.shape[-1], image_size, load_size, place)


def _crop(
    size: tf.Tensor, read, channels: int, image_size: int, load_size: int, place: tf.Tensor | None
) -> tf.Tensor:
    """[S, S, C] float32, 0 to 255: the short side brought to load_size, aspect kept, and a square cut out.

    size: [2] int32, height and width of the picture.   read: [top, left, height, width] -> these pixels, uint8.
    place: [2] float32 in [0, 1), where in the room that is left the square lies; None = in the middle.

    antialias=True makes the filter Pillow's bilinear one. Only what is seen of the picture is resized, and a picture
    stored at load_size not at all: resizing costs four times as much as decoding.
    """
    short = tf.reduce_min(size)
    scaled = (size * load_size + short // 2) // short
    room = scaled - image_size
    corner = room // 2 if place is None else tf.cast(place * tf.cast(room + 1, tf.float32), tf.int32)

    def cut() -> tf.Tensor:
        return tf.cast(read(tf.concat([corner, [image_size, image_size]], 0)), tf.float32)

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
        return tf.clip_by_value(image, 0.0, 255.0)  # the filter's weights add up to one but for rounding

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


def _collect(encoded: tf.Tensor, transform, out: np.ndarray) -> np.ndarray:
    """`out` filled with transform(encoded[i]) at row i, with a progress bar where it takes over two seconds."""
    transform = tf.autograph.experimental.do_not_convert(transform)
    dataset = tf.data.Dataset.from_tensor_slices(encoded).map(transform, tf.data.AUTOTUNE, deterministic=True)
    progress = tqdm.tqdm(dataset.prefetch(tf.data.AUTOTUNE), total=len(out), unit="image", delay=2, leave=False)
    for row, value in enumerate(progress):
        out[row] = value.numpy()
    return out
