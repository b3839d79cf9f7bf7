"""What was taken over from TensorFlow Addons, held against it; on TensorFlow 2.15 alone (make test-tf215)."""

import dataclasses
import math
import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf

from data import pipeline
from simgan_tf import keras2
from simgan_tf.methods import step as steps
from tests.tiny import TINY


@pytest.fixture(scope="module")
def addons():
    if not keras2.KERAS_2:
        pytest.skip("TensorFlow Addons cannot be imported beside TensorFlow 2.16 or later")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it says that it has ended
        return pytest.importorskip("tensorflow_addons")


@pytest.mark.parametrize("degrees", [-10, -3.3, 0, 7, 90, 171])
@pytest.mark.parametrize("size", [(20, 20), (31, 48)])
def test_pictures_are_turned_as_by_addons(addons, degrees, size):
    pixels = tf.constant(np.random.default_rng(0).integers(0, 256, [*size, 3], dtype=np.uint8))
    angle = tf.constant(math.radians(degrees), tf.float32)
    expected = addons.image.rotate(pixels, angle, interpolation="nearest", fill_mode="nearest")
    np.testing.assert_array_equal(pipeline._rotate(pixels, angle), expected)


def test_weights_are_averaged_as_by_addons(addons):
    """Twenty steps by plain gradients, both averages beginning at the first weights."""
    network, average = keras.layers.Dense(3), keras.layers.Dense(3)
    for layer in (network, average):
        layer.build([None, 4])
    steps.copy_weights(network, to=average)
    optimizer = addons.optimizers.MovingAverage(
        tf.keras.optimizers.legacy.SGD(0.1), average_decay=0.4, dynamic_decay=True
    )
    draw = np.random.default_rng(0)
    config = dataclasses.replace(TINY, ema_decay=0.4)  # which (1 + t) / (10 + t) passes at the fifth
    for step in range(20):
        gradients = [tf.constant(draw.normal(size=weight.shape), tf.float32) for weight in network.weights]
        optimizer.apply_gradients(zip(gradients, network.weights, strict=True))
        steps.move_average(config, average, network, tf.constant(step, tf.int64))
        for weight, ours in zip(network.weights, average.weights, strict=True):
            np.testing.assert_allclose(ours, optimizer.get_slot(weight, "average"), rtol=2e-6, atol=1e-7)
