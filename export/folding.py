"""The generator for inference alone: batch norm inside the convolutions, in float32 or bfloat16, as constants.
Knows the layers of the SIMGAN generator by their names; its wiring stays where it is, in `Generator.call`."""

import functools
import types
from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf

from simgan_tf import layers
from simgan_tf.methods.simgan import Generator, Upsample

# Each convolution and the batch norm behind it; a generator lacks those that its Config leaves out.
PAIRS = (("conv1", "norm1"), ("conv2", "norm2"), ("conv3", "norm3"), ("fuse", "fuse_norm"), ("up1", "up_norm1"),
         ("up2", "up_norm2"), ("to_image", ""))  # fmt: skip


class Folded:
    """What `Generator.__call__` gives with training=False, but for rounding, from constants and no Keras object.

    Batch norm behind a convolution is y = gamma (K * x + k - mean) / sqrt(variance + epsilon) + beta, which is the
    convolution with kernel s K and bias beta + s (k - mean), s = gamma / sqrt(variance + epsilon).

    compute: tf.float32, or tf.bfloat16 for the convolutions (kernels are then stored so; half of the bytes). The
    conditioning code and the last tanh are float32 always.

    Constants, because TensorFlow brings a constant kernel into the layout of its convolutions once, and a variable at
    every call: a quarter more time at 256x256. A SavedModel then holds them in its saved_model.pb (2 GB at most).
    """

    def __init__(self, generator: Generator, compute: tf.DType = tf.float32) -> None:
        self.weights: list[tf.Tensor] = []
        parts: dict[str, object] = {"config": generator.config, "augment": self._code(generator.augment)}
        for name, norm in PAIRS:
            if hasattr(generator, name):
                batch_norm = getattr(generator, norm, None) if norm else None
                parts |= {name: self._convolution(getattr(generator, name), batch_norm, compute), norm: _identity}
        for i in range(generator.config.units):
            unit = getattr(generator, f"unit{i}")
            inner = types.SimpleNamespace(
                conv1=self._convolution(unit.conv1, unit.norm1, compute), norm1=_identity,
                conv2=self._convolution(unit.conv2, unit.norm2, compute), norm2=_identity,
                relu_after_sum=unit.relu_after_sum,
            )  # fmt: skip
            parts[f"unit{i}"] = _calls(layers.Residual, inner)
        self._call = _calls(Generator, types.SimpleNamespace(**parts))

    def __call__(self, image: tf.Tensor, embedding: tf.Tensor, noise: tf.Tensor) -> tf.Tensor:
        """Edited image [B, H, W, 3] float32 in [-1, 1]; arguments as of `Generator.call`."""
        return self._call(image, embedding, noise)[0]

    def _convolution(
        self, layer: keras.layers.Layer, norm: layers.BatchNorm | None, compute: tf.DType
    ) -> Callable[[tf.Tensor], tf.Tensor]:
        """x -> the layer and, if there is one, the batch norm behind it, in `compute`."""
        doubling = isinstance(layer, Upsample)
        inner = layer.conv if doubling else layer
        transposed = isinstance(inner, keras.layers.Conv2DTranspose)
        kernel = np.asarray(inner.kernel, np.float64)  # [h, w, in, out]; transposed: [h, w, out, in]
        outputs = kernel.shape[2 if transposed else 3]
        bias = np.asarray(inner.bias, np.float64) if inner.use_bias else np.zeros(outputs)
        if norm is not None:
            scale = np.asarray(norm.gamma, np.float64) / np.sqrt(np.asarray(norm.variance, np.float64) + layers.EPSILON)
            bias = np.asarray(norm.beta, np.float64) + scale * (bias - np.asarray(norm.mean, np.float64))
            kernel = kernel * (scale[:, None] if transposed else scale)
        kernel, bias = self._weight(kernel, compute), self._weight(bias, compute)
        stride, padding = inner.strides[0], inner.padding.upper()

        def convolve(x: tf.Tensor) -> tf.Tensor:
            x = tf.cast(x, compute)
            if doubling:
                x = tf.repeat(tf.repeat(x, 2, axis=1), 2, axis=2)
            if transposed:
                size = [tf.shape(x)[0], stride * x.shape[1], stride * x.shape[2], outputs]
                x = tf.nn.conv2d_transpose(x, kernel, size, stride, padding)
            else:
                x = tf.nn.conv2d(x, kernel, stride, padding)
            return tf.nn.bias_add(x, bias)

        return convolve

    def _code(self, augment: layers.ConditioningAugmentation) -> Callable:
        """phi -> mean and log sigma, in float32."""
        inner = types.SimpleNamespace()
        for name in ("to_mean", "to_log_sigma"):
            kernel, bias = (self._weight(weight, tf.float32) for weight in getattr(augment, name).weights)
            setattr(inner, name, functools.partial(_dense, kernel, bias))
        return _calls(layers.ConditioningAugmentation, inner)

    def _weight(self, value: object, dtype: tf.DType) -> tf.Tensor:
        self.weights.append(tf.cast(np.asarray(value, np.float32), dtype))
        return self.weights[-1]


def _calls(kind: type, parts: types.SimpleNamespace) -> Callable:
    """A layer whose `call` is that of `kind` over other parts: the network's wiring is written once, there."""
    return lambda *inputs, **_: kind.call(parts, *inputs)


def _dense(kernel: tf.Tensor, bias: tf.Tensor, x: tf.Tensor) -> tf.Tensor:
    return tf.nn.bias_add(tf.matmul(x, kernel), bias)


def _identity(x: tf.Tensor, **_: bool) -> tf.Tensor:
    return x
