"""Where Keras 2 (TensorFlow 2.15) spells a thing otherwise than Keras 3: all of it, so that the rest is one source."""

import random
from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

KERAS_2 = keras.__version__.startswith("2.")
# A layer's weight that mixed precision must leave in its own type.
OWN_TYPE = {"experimental_autocast": False} if KERAS_2 else {"autocast": False}


def seed() -> int:
    """Of an initializer of weights, drawn when that is made, as by Keras 3 itself; Keras 2 would when it is used."""
    return random.randint(1, int(1e9))


def gru(size: int, *, return_sequences: bool = False, go_backwards: bool = False, **cell: Any) -> keras.layers.Layer:
    """A GRU in float32 without cuDNN's operation, which neither exports nor takes a mask that keeps its state.

    cell: its initializers. reset_after=True, as cuDNN and PyTorch have it. Keras 2 has cuDNN's operation in every
    GRU's graph. Keras 3 draws a seed for a dropout that is not there: drawn here, what follows is the same on both.
    """
    options, unused = {"return_sequences": return_sequences, "go_backwards": go_backwards, "dtype": "float32"}, seed()
    if KERAS_2:
        return keras.layers.RNN(keras.layers.GRUCell(size, reset_after=True, dtype="float32", **cell), **options)
    return keras.layers.GRU(size, reset_after=True, use_cudnn=False, seed=unused, **cell, **options)


def raw(weight: Any) -> tf.Variable:
    """The tf.Variable of a weight: Keras 2's are one, Keras 3's hold one."""
    return weight if isinstance(weight, tf.Variable) else weight.value


def weights_of(layer: keras.layers.Layer) -> list[tf.Variable]:
    """The raw variables of a layer and all in it, in the order that a checkpoint has: its own, the trained ones first,
    then those of each layer in it. Keras 2 would give all that are trained first."""
    if not KERAS_2:
        return [raw(weight) for weight in layer.weights]
    found = [*layer._trainable_weights, *layer._non_trainable_weights]
    for inner in layer._flatten_layers(recursive=False, include_self=False):
        found += weights_of(inner)
    return list({id(weight): weight for weight in found}.values())  # of a layer that stands in two places, once


def variables_of(optimizer: keras.optimizers.Optimizer) -> list[tf.Variable]:
    """All raw variables of an optimizer."""
    if not KERAS_2:
        return [raw(variable) for variable in optimizer.variables]
    scale = getattr(optimizer, "_loss_scale", None)  # of mixed_float16, which it leaves out
    return [*optimizer.variables(), *([scale._current_loss_scale, scale._counter] if scale else [])]


class Adam(keras.optimizers.Adam):
    """Keras' Adam, each variable updated by TensorFlow's one kernel for it, on gradients averaged over the replicas.

    Keras' own step is ten passes over the memory of every variable, and sums the gradients once more.
    """

    def __init__(self, learning_rate: Any, beta1: float, beta2: float, epsilon: float) -> None:
        options = {"jit_compile": False} if KERAS_2 else {}
        super().__init__(learning_rate, beta1, beta2, epsilon, **options)

    def update_step(self, gradient: tf.Tensor, variable: tf.Variable, learning_rate: tf.Tensor | None = None) -> None:
        if KERAS_2:
            i, learning_rate = self._index_dict[self._var_key(variable)], self.learning_rate
        else:
            i = self._get_variable_index(variable)
        step = tf.cast(self.iterations + 1, tf.float32)
        tf.raw_ops.ResourceApplyAdam(
            var=variable.handle,
            m=raw(self._momentums[i]).handle,
            v=raw(self._velocities[i]).handle,
            beta1_power=self.beta_1**step,
            beta2_power=self.beta_2**step,
            lr=tf.cast(learning_rate, tf.float32),
            beta1=self.beta_1,
            beta2=self.beta_2,
            epsilon=self.epsilon,
            grad=gradient,
        )

    def _all_reduce_sum_gradients(self, grads_and_vars: list) -> list:  # Keras 3's name for it
        return list(grads_and_vars)


def loss_scale(optimizer: keras.optimizers.Optimizer) -> tf.Tensor:
    """What a loss is multiplied by before its gradient: 1, but for mixed_float16."""
    if not KERAS_2:
        return optimizer.scale_loss(tf.constant(1.0))
    return optimizer.get_scaled_loss(tf.constant(1.0)) if hasattr(optimizer, "get_scaled_loss") else tf.constant(1.0)


def apply(optimizer: keras.optimizers.Optimizer, gradients: Sequence[tf.Tensor], weights: Sequence[Any]) -> None:
    """One step by gradients of the scaled loss, which are the same in every replica."""
    if not KERAS_2:
        optimizer.apply(gradients, weights)
        return
    if hasattr(optimizer, "get_unscaled_gradients"):
        gradients = optimizer.get_unscaled_gradients(gradients)
    optimizer.apply_gradients(zip(gradients, weights, strict=True), skip_gradients_aggregation=True)
