"""Each term against a hand sum, its limit and the sign of its gradient."""

import math

import numpy as np
import pytest
import tensorflow as tf

from simgan_tf import losses


def test_least_squares_by_hand():
    """Scores 1, 0.5, -1 against 1: (0 + 0.25 + 4) / 3."""
    assert float(losses.least_squares(tf.constant([1.0, 0.5, -1.0]), 1.0)) == pytest.approx(4.25 / 3)


def test_least_squares_of_a_perfect_discriminator_is_zero():
    assert float(losses.least_squares(tf.ones([4]), 1.0)) == 0.0
    assert float(losses.least_squares(tf.zeros([1]), 0.0)) == 0.0


def test_least_squares_of_a_rejected_edit_is_one():
    """D(x_hat) = 0 and G wants 1."""
    assert float(losses.least_squares(tf.zeros([3]), 1.0)) == 1.0


def test_least_squares_pulls_scores_to_the_target():
    """d/ds mean (s - 1)^2 = 2 (s - 1) / B: for s = 0 and B = 2 it is -1."""
    scores = tf.zeros([2])
    with tf.GradientTape() as tape:
        tape.watch(scores)
        loss = losses.least_squares(scores, 1.0)
    np.testing.assert_allclose(tape.gradient(loss, scores), [-1.0, -1.0])


def test_l1_by_hand():
    """One of 2 x 1 x 1 x 3 values differs by 0.6: 0.6 / 6."""
    image = np.zeros([2, 1, 1, 3], np.float32)
    other = image.copy()
    other[1, 0, 0, 2] = 0.6
    assert float(losses.l1(tf.constant(other), tf.constant(image))) == pytest.approx(0.1)
    assert float(losses.l1(tf.constant(image), tf.constant(image))) == 0.0


def test_kl_of_the_standard_normal_is_zero():
    assert float(losses.kl_to_normal(tf.zeros([1, 5]), tf.zeros([1, 5]))) == 0.0


def test_kl_of_a_shifted_unit_normal():
    """sigma = 1, mean = 2: 1/2 (1 + 4 - 1) - 0 = 2 for each dimension, and so their mean."""
    mean, log_sigma = tf.fill([2, 3], 2.0), tf.zeros([2, 3])
    assert float(losses.kl_to_normal(mean, log_sigma)) == pytest.approx(2.0)


def test_kl_of_a_wider_normal():
    """sigma = e, mean = 0: 1/2 (e^2 + 0 - 1) - 1."""
    expected = 0.5 * (math.e**2 - 1) - 1
    assert float(losses.kl_to_normal(tf.zeros([1, 2]), tf.ones([1, 2]))) == pytest.approx(expected, rel=1e-6)


def test_kl_gradient_of_the_mean():
    """d KL / d mean = mean / (batch x dimensions): 3 / (2 x 128)."""
    mean = tf.fill([2, 128], 3.0)
    with tf.GradientTape() as tape:
        tape.watch(mean)
        loss = losses.kl_to_normal(mean, tf.zeros([2, 128]))
    np.testing.assert_allclose(tape.gradient(loss, mean), np.full([2, 128], 3 / 256), rtol=1e-6)


def test_cross_entropy_by_hand():
    """Of logits 0 and log 3, whose sigmoids are 1/2 and 3/4."""
    logits = tf.constant([0.0, math.log(3.0)])
    assert float(losses.cross_entropy(logits, 1.0)) == pytest.approx(-(math.log(0.5) + math.log(0.75)) / 2)
    assert float(losses.cross_entropy(logits, 0.0)) == pytest.approx(-(math.log(0.5) + math.log(0.25)) / 2)


def test_cross_entropy_does_not_overflow():
    """For large |z| it is z where the target is missed, and 0 where it is met."""
    logits = tf.constant([1000.0, -1000.0])
    assert float(losses.cross_entropy(logits, 1.0)) == pytest.approx(500.0)
    assert float(losses.cross_entropy(logits, 0.0)) == pytest.approx(500.0)
