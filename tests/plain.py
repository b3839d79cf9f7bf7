"""A second implementation of what the methods' networks and steps are made of, in plain TensorFlow and numpy.

Networks take their weights one by one from an iterator, in the order of the layer tables.
"""

import functools
from collections.abc import Callable

import numpy as np
import tensorflow as tf


def norm(x, gamma, beta):
    """Batch norm by the batch's own statistics."""
    mean, variance = tf.nn.moments(x, [0, 1, 2])
    return gamma * (x - mean) / tf.sqrt(variance + 1e-5) + beta


def leaky(x):
    return tf.maximum(x, 0.2 * x)


def normed(x, w, stride=1):
    """Convolution without a bias, and batch norm."""
    return norm(tf.nn.conv2d(x, next(w), stride, "SAME"), next(w), next(w))


def biased(x, w, stride=1, padding="SAME"):
    return tf.nn.conv2d(x, next(w), stride, padding) + next(w)


def doubled(x):
    """[B, 2 H, 2 W, C]: every pixel four times."""
    return tf.repeat(tf.repeat(x, 2, 1), 2, 2)


def joined(x, code):
    return tf.concat([x, code[:, None, None, :] * tf.ones([1, x.shape[1], x.shape[2], 1])], 3)


def residual(x, w):
    """Two 3x3 convolutions."""
    return tf.nn.relu(x + normed(tf.nn.relu(normed(x, w)), w))


def bottleneck(x, w, act):
    """1x1, 3x3 and 3x3 convolutions."""
    y = act(normed(x, w))
    y = act(normed(y, w))
    return act(x + normed(y, w))


def trunk(x, w, halvings):
    x = biased(x, w, 2)
    for _ in range(halvings - 1):
        x = normed(leaky(x), w, 2)
    return bottleneck(x, w, leaky)


def cross_entropy(logits, target):
    """By the sigmoid itself."""
    s = 1 / (1 + tf.exp(-logits))
    return -tf.reduce_mean(target * tf.math.log(s) + (1 - target) * tf.math.log(1 - s))


def variables_of(network):
    return [tf.Variable(weight.numpy()) for weight in network.trainable_variables]


def adam(weight, gradient, rate=2e-4, beta1=0.5, beta2=0.999, epsilon=1e-8):
    """First step of Adam: m = (1-b1) g, v = (1-b2) g^2, w - rate sqrt(1-b2) / (1-b1) m / (sqrt v + e)."""
    m, v = (1 - beta1) * gradient, (1 - beta2) * gradient**2
    return weight - rate * np.sqrt(1 - beta2) / (1 - beta1) * m / (np.sqrt(v) + epsilon)


def descend(weights, gradients):
    """Adam's first step on all of them; the values before it."""
    before = [tf.identity(weight) for weight in weights]
    for weight, gradient in zip(weights, gradients, strict=True):
        weight.assign(adam(weight.numpy(), gradient.numpy()))
    return before


def require_first_step(network, optimizer, before, gradients):
    """The network's gradients of its first step, and its weights after it, are these.

    After its first step Adam's first moment is (1 - beta1) g: the gradients can be compared, and the update made of
    them. (The weights cannot: where a gradient is noise, Adam's step is not.)
    """
    for weight, moment, old, gradient in zip(
        network.trainable_variables, optimizer._momentums, before, gradients, strict=True
    ):
        found = np.asarray(moment) / (1 - 0.5)
        np.testing.assert_allclose(found, gradient, rtol=1e-3, atol=1e-4 * np.abs(gradient).max() + 2e-7)
        np.testing.assert_allclose(weight, adam(old.numpy(), found), rtol=1e-5, atol=1e-8)


def in_squares(small: np.ndarray, edit: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """A model of squares over a longer picture, as a sum: the weights of all squares make 1 at every place."""
    height, length = small.shape[:2]
    if height > length:
        upright = functools.partial(np.swapaxes, axis1=0, axis2=1)
        return upright(in_squares(upright(small), lambda square: upright(edit(upright(square)))))
    count = -(-length // height)
    starts = [i * (length - height) // (4 * max(count - 1, 1)) * 4 for i in range(count)]
    place = np.arange(length) + 0.5
    shares = np.array([  # of all squares from this one on
        np.clip((place - start) / max(before + height - start, 1e-9), 0, 1) if start else np.ones(length)
        for before, start in zip([0, *starts], starts, strict=False)
    ])  # fmt: skip
    weights = shares - np.append(shares[1:], np.zeros([1, length]), axis=0)
    total = np.zeros_like(small)
    for weight, start in zip(weights, starts, strict=True):
        here = slice(start, start + height)
        total[:, here] += weight[here, None].astype(np.float32) * edit(small[:, here])
    return total
