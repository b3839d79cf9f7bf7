"""The reconstruction of CCGAN: census, parameters, objective, and one whole step against plain TensorFlow."""

import dataclasses
import math

import keras
import numpy as np
import pytest
import tensorflow as tf

from simgan_tf.configs.ccgan import PRESETS
from simgan_tf.layers import BatchNorm
from simgan_tf.methods.ccgan import CCGAN, Discriminators, Generators
from simgan_tf.methods.step import train_step
from tests import plain
from tests.test_simgan import count, trainable
from tests.test_sisgan import plain_discriminator
from tests.tiny import TINIES, phi, random_batch

TINY = TINIES["ccgan"]


def test_census_and_parameters_of_both_pairs():
    """Each G: encoder 3, join 1, units 4 x 2, decoder 3; each D: SISGAN's. Of a narrow preset: c = 32 and d = 32."""
    config = PRESETS["ccgan_cub_small"]
    generators, discriminators = Generators(config), Discriminators(config)

    @tf.function
    def trace(image, phi):  # on symbolic inputs: no picture is computed
        assert generators(image, phi).shape == (2, 64, 64, 3) and discriminators(image, phi).shape == (2,)

    trace.get_concrete_function(tf.TensorSpec([2, 64, 64, 3]), tf.TensorSpec([2, 300]))
    assert count(generators, keras.layers.Conv2D) == 2 * (3 + 1 + 8 + 3)
    assert count(generators, BatchNorm) == 2 * (2 + 1 + 8 + 2)
    assert count(discriminators, keras.layers.Conv2D) == 2 * (4 + 3 + 2)
    unit = 2 * (3 * 3 * 128 * 128 + 2 * 128)
    assert trainable(generators) == 2 * (
        (3 * 3 * 3 * 32 + 32) + (4 * 4 * 32 * 64 + 2 * 64) + (4 * 4 * 64 * 128 + 2 * 128)
        + (300 * 128 + 128) + (3 * 3 * (128 + 128) * 128 + 2 * 128) + 4 * unit
        + (3 * 3 * 128 * 64 + 2 * 64) + (3 * 3 * 64 * 32 + 2 * 32) + (3 * 3 * 32 * 3 + 3)
    )  # fmt: skip
    assert trainable(discriminators) == 2 * (
        (4 * 4 * 3 * 32 + 32) + sum(4 * 4 * a * 2 * a + 2 * 2 * a for a in (32, 64, 128))
        + (1 * 1 * 256 * 64 + 2 * 64) + (3 * 3 * 64 * 64 + 2 * 64) + (3 * 3 * 64 * 256 + 2 * 256)
        + (300 * 128 + 128) + (1 * 1 * (256 + 128) * 256 + 2 * 256) + (4 * 4 * 256 + 1)
    )  # fmt: skip
    paper = PRESETS["ccgan_cub"]
    assert (paper.image_size, paper.width, paper.d_width, paper.cycle_weight, paper.batch_size) == (64, 128, 64, 10, 64)


def test_objective_on_constants():
    zeros, log2 = tf.zeros([4]), math.log(2)
    method = CCGAN(dataclasses.replace(TINY, cycle_weight=10.0), phi())
    terms = method.d_terms([zeros] * 3, [zeros] * 3)
    assert {name: float(value) for name, value in terms.items()} == pytest.approx(
        {"d_real": log2, "d_mismatched": log2 / 2, "d_edited": log2 / 2,
         "d_real_back": log2, "d_mismatched_back": log2 / 2, "d_edited_back": log2 / 2}
    )  # fmt: skip
    image = tf.zeros([4, 16, 16, 3])
    terms = method.g_terms(zeros, zeros, image, image + 0.25)
    assert {name: float(value) for name, value in terms.items()} == pytest.approx(
        {"g_adversarial": log2, "g_adversarial_back": log2, "g_cycle": 2.5}
    )


def test_it_calls_itself_a_reconstruction():
    from simgan_tf.configs import ccgan as config
    from simgan_tf.methods import ccgan as method

    assert method.__doc__.startswith("A reconstruction of CCGAN") and "reconstruction" in config.__doc__


def plain_generator(w, image, phi):
    x = tf.nn.relu(plain.biased(image, w))
    for _ in range(2):
        x = tf.nn.relu(plain.normed(x, w, 2))
    x = plain.normed(plain.joined(x, plain.leaky(phi @ next(w) + next(w))), w)
    for _ in range(TINY.units):
        x = plain.residual(x, w)
    for _ in range(2):
        x = tf.nn.relu(plain.normed(plain.doubled(x), w))
    return tf.tanh(plain.biased(x, w))


def test_one_whole_step_against_plain_tensorflow():
    """Both discriminators first, on constants; then both generators through the updated ones."""
    method, batch = CCGAN(TINY, phi(), 1), random_batch(0)
    g, d = plain.variables_of(method.generators), plain.variables_of(method.discriminators)
    half = len(d) // 2
    x, text = batch["image"], batch["embedding"]
    wrong = tf.gather(text, [3, 0, 1, 2])

    def there_and_back():
        w = iter(g)
        edited = plain_generator(w, x, wrong)
        back = plain_generator(w, edited, text)
        assert next(w, None) is None
        return edited, back

    edited, back = there_and_back()
    with tf.GradientTape() as tape:
        terms = {}
        for name, weights, made, of in (("", d[:half], edited, wrong), ("_back", d[half:], back, text)):
            terms |= {
                f"d_real{name}": plain.cross_entropy(plain_discriminator(weights, x, text), 1),
                f"d_mismatched{name}": 0.5 * plain.cross_entropy(plain_discriminator(weights, x, wrong), 0),
                f"d_edited{name}": 0.5 * plain.cross_entropy(plain_discriminator(weights, made, of), 0),
            }
        loss = sum(terms.values())
    d_gradients = tape.gradient(loss, d)
    d_before = plain.descend(d, d_gradients)
    with tf.GradientTape() as tape:
        edited, back = there_and_back()
        g_terms = {
            "g_adversarial": plain.cross_entropy(plain_discriminator(d[:half], edited, wrong), 1),
            "g_adversarial_back": plain.cross_entropy(plain_discriminator(d[half:], back, text), 1),
            "g_cycle": 10 * tf.reduce_mean(tf.abs(back - x)),
        }
        loss = sum(g_terms.values())
    g_gradients = tape.gradient(loss, g)
    found = train_step(method)(batch, tf.constant(0, tf.int64))
    for name, value in (terms | g_terms).items():
        assert float(found[name]) == pytest.approx(float(value), rel=1e-4), name
    plain.require_first_step(method.discriminators, method.d_optimizer, d_before, d_gradients)
    plain.require_first_step(method.generators, method.g_optimizer, g, g_gradients)


def test_an_edit_takes_the_forward_generator_alone(batch):
    method = CCGAN(TINY, phi(), 1)
    expected = method.generators.forward(batch["image"], batch["embedding"])
    np.testing.assert_array_equal(method.edit(batch["image"], batch["embedding"], tf.zeros([4, 0])), expected)
    assert CCGAN(TINY, phi()).variables().keys() == {"forward"}
