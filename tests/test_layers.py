"""Layers against hand sums and plain numpy."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from simgan_tf import layers


def test_batch_norm_uses_its_own_batch_in_training():
    """Values 1 and 3: mean 2, variance 1, so -1 and 1 over sqrt(1 + 1e-5), times gamma 2, plus beta 5."""
    norm = layers.BatchNorm()
    x = tf.reshape(tf.constant([1.0, 3.0]), [2, 1, 1, 1])
    norm(x)
    norm.gamma.assign([2.0])
    norm.beta.assign([5.0])
    expected = 5 + 2 * np.array([-1, 1]) / np.sqrt(1 + 1e-5)
    np.testing.assert_allclose(norm(x, training=True)[:, 0, 0, 0], expected, rtol=1e-6)


def test_moving_statistics_after_one_step():
    """0.9 x initial + 0.1 x batch; values 1 and 3 have mean 2 and unbiased variance 2: 0.2 and 0.9 + 0.2."""
    norm = layers.BatchNorm()
    x = tf.reshape(tf.constant([1.0, 3.0]), [2, 1, 1, 1])
    norm(x)
    norm(x, training=True, updates=0)
    np.testing.assert_array_equal([norm.mean[0], norm.variance[0]], [0.0, 1.0])
    norm(x, training=True)
    np.testing.assert_allclose([norm.mean[0], norm.variance[0]], [0.2, 1.1], rtol=1e-6)
    norm(x, training=True, updates=2)  # 0.81 x before + 0.19 x batch
    np.testing.assert_allclose([norm.mean[0], norm.variance[0]], [0.542, 1.271], rtol=1e-6)


def test_inference_uses_the_moving_statistics():
    """(5 - 1) / sqrt(3.99999 + 1e-5) = 2, gamma 1."""
    norm = layers.BatchNorm()
    x = tf.fill([1, 2, 2, 1], 5.0)
    norm(x)
    norm.gamma.assign([1.0])
    norm.mean.assign([1.0])
    norm.variance.assign([4.0 - 1e-5])
    np.testing.assert_allclose(norm(x, training=False), np.full([1, 2, 2, 1], 2.0), rtol=1e-6)
    assert float(norm.mean[0]) == 1.0


@pytest.mark.parametrize(
    "make", [lambda: layers.conv(8, 3), lambda: layers.transposed_conv(8), lambda: layers.dense(8)]
)
def test_initial_kernels_are_normal_with_deviation_002_and_never_shared(make):
    first, second = make(), make()
    for layer in (first, second):
        layer.build([None, 4, 4, 64] if not isinstance(layer, keras.layers.Dense) else [None, 64])
    kernels = [np.ravel(layer.kernel) for layer in (first, second)]
    assert not np.array_equal(*kernels)
    # deviation of an estimate from n values: 0.02 / sqrt(2 n)
    for kernel in kernels:
        assert abs(kernel.std() - 0.02) < 5 * 0.02 / np.sqrt(2 * kernel.size)
        assert abs(kernel.mean()) < 5 * 0.02 / np.sqrt(kernel.size)


def test_residual_unit_with_zero_kernels_is_its_input():
    """BN of zeros is beta = 0, so x + 0; the ReLU after the sum cuts what is negative."""
    unit = layers.Residual(3)
    x = tf.random.stateless_normal([2, 4, 4, 3], [0, 0])
    unit(x)
    for convolution in (unit.conv1, unit.conv2):
        kernel = convolution.convolution.kernel
        kernel.assign(tf.zeros_like(kernel))
    np.testing.assert_allclose(unit(x, training=True), np.maximum(x, 0), atol=1e-7)


def test_conditioning_augmentation_by_hand():
    """Weights 1 and bias -3: 2 - 3 = -1 becomes -0.2 by the leaky ReLU, 4 - 3 = 1 stays."""
    augment = layers.ConditioningAugmentation(2)
    augment(tf.zeros([1, 1]))
    augment.to_mean.kernel.assign([[1.0, 2.0]])
    augment.to_mean.bias.assign([-3.0, -3.0])
    augment.to_log_sigma.kernel.assign([[1.0, 0.5]])
    augment.to_log_sigma.bias.assign([0.0, -3.0])
    mean, log_sigma = augment(tf.constant([[2.0]]))
    np.testing.assert_allclose(mean, [[-0.2, 1.0]], rtol=1e-6)
    np.testing.assert_allclose(log_sigma, [[2.0, -0.4]], rtol=1e-6)


def test_join_repeats_the_code_at_every_place():
    features = tf.random.stateless_normal([2, 3, 5, 4], [0, 0])
    code = tf.constant([[1.0, 2.0], [3.0, 4.0]])
    joined = layers.join(features, code).numpy()
    assert joined.shape == (2, 3, 5, 6)
    np.testing.assert_array_equal(joined[..., :4], features)
    np.testing.assert_array_equal(joined[1, 2, 4, 4:], [3.0, 4.0])
    np.testing.assert_array_equal(joined[0, ..., 4], np.full([3, 5], 1.0))


def test_conditioning_augmentation_without_bias():
    augment = layers.ConditioningAugmentation(2, bias=False)
    augment(tf.zeros([1, 3]))
    assert [tuple(weight.shape) for weight in augment.weights] == [(3, 2), (3, 2)]


def test_bottleneck_with_zero_kernels_is_its_activated_input():
    unit = layers.Bottleneck(8, layers.leaky_relu)
    x = tf.random.stateless_normal([2, 4, 4, 8], [0, 0])
    unit(x)
    assert [tuple(part.convolution.kernel.shape) for part in (unit.conv1, unit.conv2, unit.conv3)] == [
        (1, 1, 8, 2), (3, 3, 2, 2), (3, 3, 2, 8)
    ]  # fmt: skip
    unit.conv3.convolution.kernel.assign(tf.zeros([3, 3, 2, 8]))
    np.testing.assert_allclose(unit(x, training=True), np.where(x > 0, x, 0.2 * x), atol=1e-7)


@pytest.mark.parametrize("size, widths", [(16, [3, 6]), (64, [3, 6, 12, 24]), (256, [3, 6, 12, 24, 24, 24])])
def test_trunk_halves_down_to_four(size, widths):
    trunk = layers.Trunk(3, size)
    assert trunk(tf.zeros([1, size, size, 3])).shape == (1, 4, 4, widths[-1])
    first, *others = (getattr(trunk, f"conv{i}") for i in range(len(widths)))
    assert [first.filters, *(each.convolution.filters for each in others)] == widths
