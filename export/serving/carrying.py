"""An edit carried up to its photograph inside the graph: simgan_tf/carry.py in TensorFlow's operations."""

from collections.abc import Callable

import tensorflow as tf

from simgan_tf.carry import EPSILON, EVEN, FAR, GAIN, GAIN_OF_ALL, RADIUS, REST, SMOOTH

ROWS = 64  # of the photograph at a time: 12 float maps of them take 12 MB at 4000 pixels


def carry(photo: tf.Tensor, small: tf.Tensor, edited: tf.Tensor) -> tf.Tensor:
    """The edited photograph, [H, W, 3] uint8, within 1 of what `simgan_tf.carry.carry` gives.

    photo: [H, W, 3] uint8.   small, edited: [h, w, 3] float32 in [-1, 1], finite.   The sizes need not be known when
    the graph is made.
    """
    maps = fit(small, edited)  # [12, h, w]
    height, width = tf.shape(photo)[0], tf.shape(photo)[1]
    count = tf.shape(maps)[1]
    left, right, across = _between(tf.shape(maps)[2], width, tf.range(width))
    maps = tf.gather(maps, left, axis=2) * (1 - across) + tf.gather(maps, right, axis=2) * across  # [12, h, W]

    def rows(first: tf.Tensor) -> tf.Tensor:  # [3, ROWS, W] uint8; beyond the last row, that row again
        number = tf.minimum(first + tf.range(ROWS), height - 1)
        above, below, down = _between(count, height, number)
        down = down[:, None]
        band = tf.gather(maps, above, axis=1) * (1 - down) + tf.gather(maps, below, axis=1) * down  # [12, ROWS, W]
        pixels = tf.cast(tf.transpose(tf.gather(photo, number), [2, 0, 1]), tf.float32)
        change = band[9:] + pixels[0] * band[0:3] + pixels[1] * band[3:6] + pixels[2] * band[6:9]
        return tf.cast(tf.clip_by_value(pixels + change, 0.0, 255.0) + 0.5, tf.uint8)

    spec = tf.TensorSpec([3, ROWS, None], tf.uint8)
    bands = tf.map_fn(rows, tf.range(0, height, ROWS), fn_output_signature=spec, parallel_iterations=2)
    return tf.reshape(tf.transpose(bands, [0, 2, 3, 1]), [-1, width, 3])[:height]


def in_squares(
    small: tf.Tensor, size: int, edit: Callable[[tf.Tensor], tf.Tensor], edits: int | tf.Tensor = 1
) -> tf.Tensor:
    """`edits` edits [n, h, w, 3] float32 of a picture [h, w, 3] of which one side is `size`, in squares as
    `simgan_tf.carry.in_squares` has it.   edit: [size, size, 3] -> [n, size, size, 3]."""
    lying = tf.shape(small)[1] > tf.shape(small)[0]
    standing = tf.cond(lying, lambda: tf.transpose(small, [1, 0, 2]), lambda: small)
    length = tf.shape(standing)[0]
    count = (length + size - 1) // size

    def turned(images: tf.Tensor) -> tf.Tensor:
        return tf.cond(lying, lambda: tf.transpose(images, [0, 2, 1, 3]), lambda: images)

    def square(i: tf.Tensor, done: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:  # done: [n, rows, size, 3]
        start, end = 4 * (i * (length - size) // (4 * tf.maximum(count - 1, 1))), tf.shape(done)[1]
        part = tf.ensure_shape(standing[None, start : start + size], [1, size, size, 3])
        made = tf.ensure_shape(turned(edit(turned(part)[0])), [None, size, size, 3])
        both = end - start  # rows where two squares overlap
        share = (tf.range(tf.cast(both, tf.float32)) + 0.5) / tf.cast(tf.maximum(both, 1), tf.float32)
        mixed = done[:, start:] + share[:, None, None] * (made[:, :both] - done[:, start:])
        return i + 1, tf.concat([done[:, :start], mixed, made[:, both:]], 1)

    shapes = tf.TensorShape([]), tf.TensorShape([None, None, size, 3])
    nothing = tf.constant(0), tf.zeros([edits, 0, size, 3])
    _, done = tf.while_loop(lambda i, _: i < count, square, nothing, shapes, parallel_iterations=1)
    return turned(done)


def fit(small: tf.Tensor, edited: tf.Tensor) -> tf.Tensor:
    """[12, h, w] float32: nine slopes and three offsets of the change, of pixels 0 to 255 (see simgan_tf/carry.py)."""
    small = tf.cast(small, tf.float64)
    change = tf.cast(edited, tf.float64) - small
    x, d = _mean(small, SMOOTH), _mean(change, SMOOTH)
    mean_x, mean_d = _mean(x, RADIUS), _mean(d, RADIUS)
    cov_xx = _mean(_products(x, x), RADIUS) - _products(mean_x, mean_x)
    cov_xd = _mean(_products(x, d), RADIUS) - _products(mean_x, mean_d)
    shape = tf.concat([tf.shape(x)[:2], [3, 3]], 0)
    one = tf.eye(3, dtype=tf.float64)
    cov_xx = tf.reshape(cov_xx, shape) + EPSILON * one
    whole = tf.linalg.solve(cov_xx, tf.reshape(cov_xd, shape)) + one  # 1 + A, [h, w, 3, 3]
    ratio = tf.sqrt(tf.reduce_sum(tf.matmul(cov_xx, whole) * whole, [2, 3]) / tf.linalg.trace(cov_xx))
    slopes = tf.clip_by_value(1 / tf.maximum(ratio, 1e-6), 1 / GAIN, GAIN)[..., None, None] * whole - one
    offsets = _mean(mean_d - _times(mean_x, slopes), RADIUS)
    slopes = tf.reshape(_mean(tf.reshape(slopes, tf.concat([shape[:2], [9]], 0)), RADIUS), shape)

    made = small + _times(small, slopes) + offsets
    power, new_power = (tf.reduce_mean((image - _mean(image, SMOOTH)) ** 2) + EVEN for image in (small, made))
    more = (tf.clip_by_value(tf.sqrt(power / new_power), 1 / GAIN_OF_ALL, GAIN_OF_ALL) - 1) * (slopes + one)
    slopes, offsets = slopes + more, offsets - _times(_mean(small, SMOOTH), more)
    left = change - _times(small, slopes) - offsets
    offsets += tf.clip_by_value(tf.reduce_mean(tf.abs(left)) / FAR, REST, 1) * _mean(left, SMOOTH)
    offsets = 127.5 * (offsets - tf.reduce_sum(slopes, 2))
    maps = tf.concat([tf.reshape(slopes, tf.concat([shape[:2], [9]], 0)), offsets], 2)
    return tf.cast(tf.transpose(maps, [2, 0, 1]), tf.float32)


def _times(colours: tf.Tensor, slopes: tf.Tensor) -> tf.Tensor:
    """x A at every pixel: [h, w, 3] of [h, w, 3] and [h, w, 3, 3]."""
    return tf.squeeze(tf.matmul(colours[..., None, :], slopes), 2)


def _products(first: tf.Tensor, second: tf.Tensor) -> tf.Tensor:
    """[h, w, 9]: every channel of the first by every one of the second, both [h, w, 3]."""
    return tf.concat([first[..., i : i + 1] * second for i in range(3)], 2)


def _mean(values: tf.Tensor, radius: int) -> tf.Tensor:
    """Mean over squares of 2 radius + 1 pixels of [h, w, C], of what of them lies inside of the picture."""
    return tf.nn.avg_pool2d(values[None], 2 * radius + 1, 1, "SAME")[0]


def _between(count: tf.Tensor, length: tf.Tensor, number: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Of pixels `number` of `length` over `count` larger ones: the one before, the one after, share of the latter."""
    scale = tf.cast(count, tf.float64) / tf.cast(length, tf.float64)
    place = (tf.cast(number, tf.float64) + 0.5) * scale - 0.5
    place = tf.clip_by_value(place, tf.constant(0.0, tf.float64), tf.cast(count - 1, tf.float64))
    before = tf.cast(place, tf.int32)
    return before, tf.minimum(before + 1, count - 1), tf.cast(place - tf.cast(before, tf.float64), tf.float32)
