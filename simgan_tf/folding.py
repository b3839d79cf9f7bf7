"""The network that edits, for inference alone: batch norm inside its convolutions, float32 or bfloat16, as constants.
How a network's layers are connected is not repeated here: its own `call` runs, over folded layers."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from simgan_tf import keras2, layers


class Folded:
    """A network in inference mode, equal to it but for rounding, made of constants and of no Keras object.

    network: built of simgan_tf.layers and of Keras' Dense, Conv2D and Conv2DTranspose; what else it holds stays as it
    is. Calling this is calling the network.

    Batch norm behind a convolution is y = gamma (K * x + k - mean) / sqrt(variance + epsilon) + beta, which is the
    convolution with kernel s K and bias beta + s (k - mean), s = gamma / sqrt(variance + epsilon).

    compute: tf.float32, or tf.bfloat16 for the convolutions (kernels are then stored so; half of the bytes). Dense
    layers, which make the conditioning code, are float32 always.

    Constants, because TensorFlow brings a constant kernel into the layout of its convolutions once, and a variable at
    every call: a quarter more time at 256x256. A SavedModel then holds them in its saved_model.pb (2 GB at most).

    weights: the constants. kept: raw variables of the layers that stay as they are.
    """

    def __init__(self, network: keras.Model, compute: tf.DType = tf.float32) -> None:
        self.compute = compute
        self.weights: list[tf.Tensor] = []
        self.kept: list[tf.Variable] = []
        self._call = self._folded(network)

    def __call__(self, *inputs: tf.Tensor) -> Any:
        return self._call(*inputs)

    def _folded(self, layer: keras.layers.Layer) -> Callable:
        """The layer as a function that takes the same arguments."""
        if isinstance(layer, layers.Normed):
            return self._convolution(layer.convolution, layer.norm)
        if isinstance(layer, keras.layers.Conv2D | keras.layers.Conv2DTranspose | layers.Upsample):
            return self._convolution(layer, None)
        if isinstance(layer, keras.layers.Dense):
            return self._dense(layer)
        inner = {name: value for name, value in vars(layer).items() if not name.startswith("_")}
        if not any(isinstance(value, keras.layers.Layer) for value in inner.values()):
            self.kept += keras2.weights_of(layer)
            return layer
        return _Calls(type(layer), {
            name: self._folded(value) if isinstance(value, keras.layers.Layer) else value
            for name, value in inner.items()
        })  # fmt: skip

    def _convolution(self, layer: keras.layers.Layer, norm: layers.BatchNorm | None) -> Callable:
        """x -> the layer and, if there is one, the batch norm behind it."""
        doubling = isinstance(layer, layers.Upsample)
        inner = layer.conv if doubling else layer
        transposed = isinstance(inner, keras.layers.Conv2DTranspose)
        kernel = np.asarray(inner.kernel, np.float64)  # [h, w, in, out]; transposed: [h, w, out, in]
        outputs = kernel.shape[2 if transposed else 3]
        bias = np.asarray(inner.bias, np.float64) if inner.use_bias else np.zeros(outputs)
        if norm is not None:
            scale = np.asarray(norm.gamma, np.float64) / np.sqrt(np.asarray(norm.variance, np.float64) + layers.EPSILON)
            bias = np.asarray(norm.beta, np.float64) + scale * (bias - np.asarray(norm.mean, np.float64))
            kernel = kernel * (scale[:, None] if transposed else scale)
        kernel, bias = self._weight(kernel, self.compute), self._weight(bias, self.compute)
        stride, padding, dilation = inner.strides[0], inner.padding.upper(), inner.dilation_rate[0]
        beyond = max(inner.kernel_size[0] - stride, 0) if padding == "VALID" else 0  # of a transposed one's output

        def convolve(x: tf.Tensor, **_: Any) -> tf.Tensor:
            x = tf.cast(x, self.compute)
            if doubling:
                x = tf.repeat(tf.repeat(x, 2, axis=1), 2, axis=2)
            if transposed:
                count, height, width = tf.unstack(tf.shape(x)[:3])
                height, width = (stride * side + beyond for side in (x.shape[1] or height, x.shape[2] or width))
                size = [count, height, width, outputs]
                x = tf.nn.conv2d_transpose(x, kernel, size, stride, padding)
            else:
                x = tf.nn.conv2d(x, kernel, stride, padding, dilations=dilation)
            return tf.nn.bias_add(x, bias)

        return convolve

    def _dense(self, layer: keras.layers.Dense) -> Callable:
        kernel = self._weight(layer.kernel, tf.float32)
        bias = self._weight(layer.bias if layer.use_bias else np.zeros(kernel.shape[1]), tf.float32)
        activation = layer.activation

        def product(x: tf.Tensor, **_: Any) -> tf.Tensor:
            return activation(tf.nn.bias_add(tf.matmul(tf.cast(x, tf.float32), kernel), bias))

        return product

    def _weight(self, value: object, dtype: tf.DType) -> tf.Tensor:
        self.weights.append(tf.cast(np.asarray(value, np.float32), dtype))
        return self.weights[-1]


class _Calls:
    """Runs the `call` of a layer's class over folded parts, so that how they are connected is written only there."""

    def __init__(self, kind: type, parts: dict[str, Any]) -> None:
        self.__dict__.update(parts)
        self._kind = kind

    def __call__(self, *inputs: tf.Tensor, **how: Any) -> Any:
        return self._kind.call(self, *inputs, **how)
