"""Reed et al.'s two steps held to the paper and its code: census, parameters, objectives, stages, a whole step each."""

import dataclasses
import math

import keras
import numpy as np
import pytest
import tensorflow as tf

from simgan_tf import folding, layers
from simgan_tf.configs.reed import PRESETS
from simgan_tf.layers import BatchNorm
from simgan_tf.methods.reed import GAN, STYLE, Discriminator, Reed, TwoSteps
from simgan_tf.methods.step import train_step
from tests import plain
from tests.test_simgan import count, trainable
from tests.tiny import EMBEDDING, TINIES, phi, random_batch

TINY = dataclasses.replace(TINIES["reed"], gan_steps=4)  # of 6: steps 4 and 5 train S
STEP = 3


@pytest.fixture(scope="module")
def paper_networks():
    """S, G and D of the paper's preset with an embedding of 1024, built on symbolic inputs: no picture is computed."""
    config = PRESETS["reed_cub"]
    both, discriminator = TwoSteps(config), Discriminator(config)
    shapes = []

    @tf.function
    def trace(image, phi):
        noise = both.style(image)
        text = both.generator.text(phi)
        x = both.generator.first(layers.join(text[:, None, None, :], noise))
        shapes[:] = [noise.shape, x.shape, both.generator.up1(x).shape, both(image, phi).shape]
        shapes.append(discriminator(image, phi).shape)

    trace.get_concrete_function(tf.TensorSpec([2, 64, 64, 3]), tf.TensorSpec([2, 1024]))
    return both.style, both.generator, discriminator, shapes


def test_shapes_of_the_paper(paper_networks):
    assert paper_networks[3] == [(2, 100), (2, 4, 4, 1024), (2, 8, 8, 512), (2, 64, 64, 3), (2,)]


def test_census_of_the_paper(paper_networks):
    """G: 5 transposed ones, two bottlenecks of 3. D and S: 4 and a bottleneck of 3; D two more and a text."""
    style, generator, discriminator, _ = paper_networks
    assert count(generator, keras.layers.Conv2DTranspose) == 5
    assert count(generator, keras.layers.Conv2D) == 6
    assert count(generator, BatchNorm) == 4 + 6
    assert count(discriminator, keras.layers.Conv2D) == 4 + 3 + 2 + 1  # the text's dense layer is a 1x1 convolution
    assert count(discriminator, BatchNorm) == 3 + 3 + 1 + 1
    assert count(style, keras.layers.Conv2D) == 4 + 3
    assert count(style, keras.layers.Dense) == 1


def bottleneck(width):
    c = width // 4
    return (width * c + 2 * c) + (9 * c * c + 2 * c) + (9 * c * width + 2 * width)


def test_parameters_from_the_layer_tables(paper_networks):
    """kernel x kernel x in x out, + out with a bias, + 2 x out with batch norm."""
    style, generator, discriminator, _ = paper_networks
    assert trainable(generator) == (
        (1024 * 128 + 128) + (4 * 4 * (128 + 100) * 1024 + 2 * 1024) + bottleneck(1024)
        + (4 * 4 * 1024 * 512 + 2 * 512) + bottleneck(512)
        + (4 * 4 * 512 * 256 + 2 * 256) + (4 * 4 * 256 * 128 + 2 * 128) + (4 * 4 * 128 * 3 + 3)
    )  # fmt: skip
    trunk = (4 * 4 * 3 * 64 + 64) + sum(4 * 4 * a * 2 * a + 2 * 2 * a for a in (64, 128, 256)) + bottleneck(512)
    assert trainable(discriminator) == (
        trunk + (1024 * 128 + 2 * 128) + ((512 + 128) * 512 + 2 * 512) + (4 * 4 * 512 + 1)
    )  # fmt: skip
    assert trainable(style) == trunk + (4 * 4 * 512 * 100 + 100)


def test_training_of_the_paper():
    """64x64, batch 64, 600 epochs of G and D, Adam 2e-4 halved every 100, four captions, other classes."""
    for name in ("reed_cub", "reed_oxford102"):
        preset = PRESETS[name]
        assert (preset.image_size, preset.load_size, preset.batch_size, preset.gan_epochs) == (64, 76, 64, 600)
        assert (preset.learning_rate, preset.halve_epochs, preset.beta1) == (2e-4, 100, 0.5)
        assert (preset.captions_averaged, preset.mismatch, preset.interpolation_weight) == (4, "other_class", 1.0)
    assert Reed(dataclasses.replace(PRESETS["reed_demo"], steps=0, gan_steps=0), phi(), 3).gan_steps == 600 * 3


def test_objectives_on_constants():
    """Logits of 0 are a sigmoid of 1/2: log 2, the wrong pairs half, and half for the texts between."""
    zeros, log2 = tf.zeros([4]), math.log(2)
    method = Reed(TINY, phi())
    assert {name: float(value) for name, value in method.d_terms(zeros, zeros, zeros).items()} == pytest.approx(
        {"d_real": log2, "d_mismatched": log2 / 2, "d_edited": log2 / 2}
    )
    assert {name: float(value) for name, value in method.g_terms(zeros, zeros[:2]).items()} == pytest.approx(
        {"g_adversarial": log2, "g_between": log2 / 2}
    )
    cls = Reed(dataclasses.replace(TINY, interpolation_weight=0.0), phi())
    assert cls.g_terms(zeros, zeros[:0]).keys() == {"g_adversarial"}


def test_rows_of_both_stages():
    method = Reed(TINY, phi(), 1)
    text = tf.range(4.0)[:, None] * tf.ones([1, EMBEDDING])
    batch = {"image": tf.zeros([4, 16, 16, 3]), "embedding": text, "class_id": tf.range(4)}
    rows = method.prepare(batch, tf.constant(0, tf.int64), GAN)
    np.testing.assert_array_equal(rows["between"][:, 0], [(0 + 2) / 2, (1 + 3) / 2])
    np.testing.assert_array_equal(rows["mismatching"][:, 0], [3, 0, 1, 2])
    assert rows["noise"].shape == (4, 6) and rows["between_noise"].shape == (2, 6)
    assert not np.allclose(rows["noise"][:2], rows["between_noise"])
    many = {**batch, "embedding": tf.zeros([4, EMBEDDING]), "image": batch["image"]}
    shifts = [method.prepare(many, tf.constant(step, tf.int64), STYLE)["text"] for step in range(100)]
    assert np.std(shifts) == pytest.approx(0.02, rel=0.05)
    assert method.prepare(batch, tf.constant(0, tf.int64), STYLE).keys() == {"noise", "text"}


def test_the_step_decides_what_is_trained(eager):
    """G and D in steps 0 to 3, S alone in steps 4 and 5."""
    method = Reed(TINY, phi(), 1)
    assert [method.stage(step) for step in range(6)] == [GAN] * 4 + [STYLE] * 2
    step, changed = train_step(method), []
    for number in (3, 4):
        before = {part: [v.numpy() for v in network.variables] for part, network in networks_of(method).items()}
        step(random_batch(0), tf.constant(number, tf.int64))
        changed.append({
            part for part, network in networks_of(method).items()
            if any(np.any(v.numpy() != old) for v, old in zip(network.variables, before[part], strict=True))
        })  # fmt: skip
    assert changed == [{"generator", "discriminator"}, {"style"}]


def networks_of(method):
    return {"generator": method.generator, "discriminator": method.discriminator, "style": method.style}


def test_a_training_without_a_second_step_is_refused():
    with pytest.raises(ValueError, match="6 steps leave none to the style encoder.*fewer --gan_steps"):
        Reed(dataclasses.replace(TINY, gan_steps=6), phi(), 1)


def test_first_map_is_a_dense_layer_and_folds():
    """A 4x4 transposed convolution of a 1x1 map: out[y, x, o] = sum over i of in[i] kernel[y, x, o, i]."""
    layer = layers.Normed(layers.first_map(5))
    x = tf.random.stateless_normal([2, 1, 1, 3], [0, 0])
    layer(x)
    kernel = layer.convolution.kernel.numpy()
    expected = np.einsum("bi,yxoi->byxo", x[:, 0, 0, :], kernel)
    np.testing.assert_allclose(layer.convolution(x), expected, atol=1e-6)
    layer.norm.mean.assign([0.1, 0.2, 0.3, 0.4, 0.5])
    np.testing.assert_allclose(folding.Folded(layer)(x), layer(x), atol=1e-6)


def plain_generator(w, noise, text):
    w = iter(w)

    def up(x, w, valid=False):
        kernel = next(w)
        side = 4 if valid else 2 * x.shape[1]
        shape = [x.shape[0], side, side, kernel.shape[2]]
        return tf.nn.conv2d_transpose(x, kernel, shape, 1 if valid else 2, "VALID" if valid else "SAME")

    text = plain.leaky(text @ next(w) + next(w))
    x = tf.concat([text, noise], 1)[:, None, None, :]
    x = plain.bottleneck(plain.norm(up(x, w, valid=True), next(w), next(w)), w, tf.nn.relu)
    x = plain.bottleneck(plain.norm(up(x, w), next(w), next(w)), w, tf.nn.relu)
    x = tf.tanh(up(x, w) + next(w))
    assert next(w, None) is None
    return x


def plain_discriminator(w, image, text):
    w = iter(w)
    x = plain.trunk(image, w, 2)
    text = plain.leaky(plain.normed(text[:, None, None, :], w))[:, 0, 0, :]
    x = plain.leaky(plain.normed(plain.joined(x, text), w))
    x = plain.biased(x, w, padding="VALID")
    assert next(w, None) is None
    return x[:, 0, 0, 0]


def test_one_whole_step_of_g_and_d_against_plain_tensorflow():
    method, batch = Reed(dataclasses.replace(TINY, mismatch="roll"), phi(), 1), random_batch(0)
    g, d = plain.variables_of(method.generator), plain.variables_of(method.discriminator)
    x, text = batch["image"], batch["embedding"]
    wrong, between = tf.gather(text, [3, 0, 1, 2]), (text[:2] + text[2:]) / 2
    noise = [tf.random.stateless_normal([n, 6], [TINY.seed, 2 * STEP + i]) for i, n in enumerate((4, 2))]
    texts, noises = tf.concat([text, between], 0), tf.concat(noise, 0)
    drawn = plain_generator(g, noises, texts)[:4]
    with tf.GradientTape() as tape:
        terms = {
            "d_real": plain.cross_entropy(plain_discriminator(d, x, text), 1),
            "d_mismatched": 0.5 * plain.cross_entropy(plain_discriminator(d, x, wrong), 0),
            "d_edited": 0.5 * plain.cross_entropy(plain_discriminator(d, drawn, text), 0),
        }
        loss = sum(terms.values())
    d_gradients = tape.gradient(loss, d)
    d_before = plain.descend(d, d_gradients)
    with tf.GradientTape() as tape:
        logits = plain_discriminator(d, plain_generator(g, noises, texts), texts)
        terms |= {
            "g_adversarial": plain.cross_entropy(logits[:4], 1),
            "g_between": 0.5 * plain.cross_entropy(logits[4:], 1),
        }
        loss = terms["g_adversarial"] + terms["g_between"]
    g_gradients = tape.gradient(loss, g)
    found = train_step(method)(batch, tf.constant(STEP, tf.int64))
    for name, value in terms.items():
        assert float(found[name]) == pytest.approx(float(value), rel=1e-4), name
    plain.require_first_step(method.discriminator, method.d_optimizer, d_before, d_gradients)
    plain.require_first_step(method.generator, method.g_optimizer, g, g_gradients)


def test_one_whole_step_of_s_against_plain_tensorflow():
    """mean (S(G(z, t + n)) - z)^2, with G in inference mode."""
    method, batch = Reed(TINY, phi(), 1), random_batch(0)
    s = plain.variables_of(method.style)
    noise = tf.random.stateless_normal([4, 6], [TINY.seed, 2 * 4])
    shift = 0.02 * tf.random.stateless_normal([4, EMBEDDING], [TINY.seed, 2 * 4 + 1])
    drawn = method.generator(noise, batch["embedding"] + shift)
    with tf.GradientTape() as tape:
        w = iter(s)
        features = plain.trunk(drawn, w, 2)
        z = tf.reshape(features, [4, -1]) @ next(w) + next(w)
        loss = tf.reduce_mean((z - noise) ** 2)
    gradients = tape.gradient(loss, s)
    found = train_step(method)(batch, tf.constant(4, tf.int64))
    assert float(found["s_loss"]) == pytest.approx(float(loss), rel=1e-4)
    plain.require_first_step(method.style, method.s_optimizer, s, gradients)


def test_an_edit_is_g_of_s(batch):
    method = Reed(TINY, phi())
    image, text = batch["image"], batch["embedding"]
    z = method.network.style(image)
    np.testing.assert_allclose(method.edit(image, text, tf.zeros([4, 0])), method.network.generator(z, text), atol=1e-6)
