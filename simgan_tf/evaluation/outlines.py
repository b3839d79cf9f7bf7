"""Where the bird or the flower is: a small network learned from outlines, so that edits are judged on the object.
Pictures in, masks out; knows no generator, no sentence and no file but its own weights."""

import os
from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf

from simgan_tf import folding, keras2
from simgan_tf.evaluation import colours
from simgan_tf.layers import Normed

SIDE = 128  # pixels; larger and smaller pictures are brought to it
WIDTHS = (24, 48, 96, 96)  # channels at a side of 64, 32, 16 and 8 pixels
WEIGHTS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "outlines")
KINDS = ("birds", "flowers")
NETWORKS = (*KINDS, "flowers2")  # flowers2 saw flowers on plain grounds too: to edit with, not to measure by


class Block(keras.layers.Layer):
    """Two 3x3 convolutions, each with batch norm and a ReLU."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1, self.conv2 = Normed(_conv(width)), Normed(_conv(width))

    def call(self, x: tf.Tensor, training: bool = False) -> tf.Tensor:
        x = tf.nn.relu(self.conv1(x, training=training))
        return tf.nn.relu(self.conv2(x, training=training))


def _conv(width: int) -> keras.layers.Layer:
    return keras.layers.Conv2D(width, 3, padding="same", use_bias=False, kernel_initializer="he_normal")


class UNet(keras.Model):
    """Logits [B, H, W] float32 of "this pixel is the object" of pictures [B, H, W, 3] in [-1, 1].

    It has learned from pictures whose shorter side is 128; both sides are multiples of 16.

    A convolution of stride 2, four levels of two convolutions, each at half the side of the one before; on the way up
    the features are doubled by repetition, joined with those of their level, and go through two convolutions again.
    The logits are half as large and brought to H x W bilinearly: finer outlines cost twice the time, and spill and
    agreement do not ask for them.
    Source: Ronneberger et al. 2015. Differs: padded convolutions, batch norm, widths of WIDTHS.
    """

    def __init__(self) -> None:
        super().__init__(name="outlines")
        self.stem = keras.layers.Conv2D(16, 3, 2, padding="same", kernel_initializer="he_normal")
        for i, width in enumerate(WIDTHS):
            setattr(self, f"down{i}", Block(width))
        for i, width in enumerate(WIDTHS[:-1]):
            setattr(self, f"up{i}", Block(width))
        self.to_logit = keras.layers.Conv2D(1, 1)

    def call(self, image: tf.Tensor, training: bool = False) -> tf.Tensor:
        x, levels = tf.nn.relu(self.stem(image)), []  # [B, 64, 64, 16]
        for i in range(len(WIDTHS)):
            x = getattr(self, f"down{i}")(x if i == 0 else tf.nn.max_pool2d(x, 2, 2, "SAME"), training=training)
            levels.append(x)  # [B, 64 / 2^i, 64 / 2^i, WIDTHS[i]]
        for i in reversed(range(len(WIDTHS) - 1)):
            x = tf.repeat(tf.repeat(x, 2, axis=1), 2, axis=2)
            x = getattr(self, f"up{i}")(tf.concat([x, levels[i]], axis=-1), training=training)
        logits = tf.cast(self.to_logit(x), tf.float32)  # [B, H/2, W/2, 1]
        return tf.image.resize(logits, tf.shape(image)[1:3])[..., 0]


def build() -> UNet:
    """A network with its weights made."""
    network = UNet()
    network(tf.zeros([1, SIDE, SIDE, 3]))
    return network


def save(network: UNet, path: str) -> None:
    """Writes the weights as one .npz: kernels in 8 bits with a scale an output channel, the rest in float32."""
    arrays = {}
    for i, variable in enumerate(keras2.weights_of(network)):
        value = variable.numpy()
        if value.ndim == 4:
            scale = np.maximum(np.abs(value).max(axis=(0, 1, 2)), 1e-12) / 127
            arrays[f"s{i:03d}"], value = scale, np.round(value / scale).astype(np.int8)
        arrays[f"v{i:03d}"] = value
    np.savez_compressed(path, **arrays)


def load(name: str) -> UNet:
    """The network of one of NETWORKS, or of a file that `save` wrote, always in float32.

    Raises: ValueError where the file holds other shapes.
    """
    path = os.path.join(WEIGHTS, f"{name}.npz") if name in NETWORKS else name
    policy = keras.mixed_precision.global_policy()
    keras.mixed_precision.set_global_policy("float32")
    network = build()
    keras.mixed_precision.set_global_policy(policy)
    with np.load(path, allow_pickle=False) as arrays:
        for i, variable in enumerate(keras2.weights_of(network)):
            value = arrays[f"v{i:03d}"] if f"v{i:03d}" in arrays.files else None
            if value is None or value.shape != tuple(variable.shape):
                raise ValueError(f"{path} holds other weights than UNet's {i}th, {tuple(variable.shape)}.")
            scale = arrays[f"s{i:03d}"] if f"s{i:03d}" in arrays.files else np.float32(1)
            variable.assign(value.astype(np.float32) * scale)
    return network


def fixed(name: str) -> folding.Folded:
    """The network of `load` for inference alone, as constants: a method that edits with it has no more variables."""
    return folding.Folded(load(name))


def inside(network: Callable[[tf.Tensor], tf.Tensor], images: tf.Tensor, size: int) -> tf.Tensor:
    """How surely each pixel is the object's, [B, H, W] float32 in [0, 1].

    images: [B, H, W, 3] in [-1, 1], the shorter side `size` pixels, which a power of two leads to SIDE or from it.
    Of operations that TFLite has, too: means over whole pixels one way, bilinear the other.
    """
    sides = [side * SIDE // size for side in _sides(images)]  # as the network is given it
    given, missing = _resized(images, size, SIDE), [-side % 16 for side in sides]
    # The network halves four times. Below and to the right of a longer picture, its mirror image.
    if any(not isinstance(each, int) or each for each in missing):
        given = tf.pad(given, [[0, 0], [0, missing[0]], [0, missing[1]], [0, 0]], "REFLECT")
    found = tf.sigmoid(network(given))[:, : sides[0], : sides[1], None]
    return _resized(found, SIDE, size)[..., 0]


def _resized(images: tf.Tensor, from_size: int, to_size: int) -> tf.Tensor:
    """[B, H, W, C], `to_size` pixels in place of every `from_size`."""
    factor = from_size // to_size
    if factor:
        return images if factor == 1 else tf.nn.avg_pool2d(images, factor, factor, "VALID")
    return tf.image.resize(images, [side * to_size // from_size for side in _sides(images)])


def _sides(images: tf.Tensor) -> list[int | tf.Tensor]:
    """Height and width, as numbers where the graph knows them."""
    return [tf.shape(images)[i] if images.shape[i] is None else images.shape[i] for i in (1, 2)]


class Outliner:
    """Finds the objects of one of KINDS.

    probabilities(images): [N, S, S] float32 in [0, 1]. masks(images): [N, S, S] bool, where they are above one half.
    images: [N, S, S, 3] float32 in [-1, 1], squares of any side, at least 16 pixels.
    """

    def __init__(self, kind: str) -> None:
        if kind not in KINDS:
            raise ValueError(f"kind={kind!r} must be one of {', '.join(KINDS)}.")
        self.kind, self.network = kind, load(kind)
        self._logits = tf.function(lambda images: self.network(images), reduce_retracing=True)

    def probabilities(self, images: np.ndarray, batch: int = 32) -> np.ndarray:
        side, found = images.shape[1], []
        for start in range(0, len(images), batch):
            part = tf.convert_to_tensor(images[start : start + batch], tf.float32)
            given = tf.image.resize(part, [SIDE, SIDE], antialias=True) if side != SIDE else part
            inside = tf.sigmoid(self._logits(given))[..., None]
            if self.kind == "flowers":
                inside = (inside + self._by_colour(given, inside)) / 2
            found.append(tf.image.resize(inside, [side, side], antialias=True)[..., 0].numpy())
        return np.concatenate(found)

    def _by_colour(self, images: tf.Tensor, inside: tf.Tensor) -> tf.Tensor:
        """A colour model of each picture, begun from what the network found, at half the side. It helps flowers, whose
        petals are of few colours: overlap 0.77 instead of 0.75 with outlines drawn by hand."""
        half = SIDE // 2
        images, prior = (tf.image.resize(x, [half, half], antialias=True).numpy() for x in (images, inside))
        model = colours.coloured(images, np.clip(prior[..., 0], 0.03, 0.97))
        return tf.image.resize(model[..., None].astype(np.float32), [SIDE, SIDE])

    def masks(self, images: np.ndarray) -> np.ndarray:
        return self.probabilities(images) > 0.5
