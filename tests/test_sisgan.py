"""SISGAN held to its paper and code: census, parameter counts, objective, encoder A, one whole step."""

import dataclasses
import math
import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf

from simgan_tf import keras2
from simgan_tf.configs.sisgan import PRESETS
from simgan_tf.layers import BatchNorm
from simgan_tf.methods.sisgan import SISGAN, Discriminator, Generator, VGGEncoder
from simgan_tf.methods.step import train_step
from tests import plain
from tests.test_simgan import count, trainable
from tests.tiny import EMBEDDING, TINIES, phi, random_batch

TINY = TINIES["sisgan"]
SEED = 3  # of the step that is compared


@pytest.fixture(scope="module")
def paper_networks():
    """G and D of the paper's preset with an embedding of 300, built on symbolic inputs: no picture is computed."""
    config = PRESETS["sisgan_oxford102"]
    networks = Generator(config), Discriminator(config)
    image, phi, noise = tf.TensorSpec([2, 64, 64, 3]), tf.TensorSpec([2, 300]), tf.TensorSpec([2, 128])
    shapes = []

    @tf.function
    def trace(image, phi, noise):
        edited, mean, log_sigma = networks[0](image, phi, noise)
        shapes[:] = [networks[0].encoder(image).shape, edited.shape, mean.shape, log_sigma.shape]
        shapes.extend([networks[1].trunk(image).shape, networks[1](image, phi).shape])

    trace.get_concrete_function(image, phi, noise)
    return *networks, shapes


def test_shapes_of_the_paper(paper_networks):
    assert paper_networks[2] == [
        (2, 16, 16, 512), (2, 64, 64, 3), (2, 128), (2, 128), (2, 4, 4, 512), (2,)
    ]  # fmt: skip


def test_census_of_the_paper(paper_networks):
    """G: encoder 3, join 1, units 4 x 2, decoder 3. D: 4, residual 3, 1x1, 4x4. Batch norm but first and last."""
    generator, discriminator, _ = paper_networks
    assert count(generator, keras.layers.Conv2D) == 3 + 1 + 8 + 3
    assert count(generator, BatchNorm) == 2 + 1 + 8 + 2
    assert count(generator, keras.layers.Dense, use_bias=False) == 2
    assert count(discriminator, keras.layers.Conv2D) == 4 + 3 + 2
    assert count(discriminator, keras.layers.Conv2D, strides=(2, 2)) == 4
    assert count(discriminator, BatchNorm) == 3 + 3 + 1


def test_parameters_from_the_layer_tables(paper_networks):
    """kernel x kernel x in x out, + out with a bias, + 2 x out with batch norm."""
    unit = 2 * (3 * 3 * 512 * 512 + 2 * 512)
    assert trainable(paper_networks[0]) == (
        (3 * 3 * 3 * 128 + 128) + (4 * 4 * 128 * 256 + 2 * 256) + (4 * 4 * 256 * 512 + 2 * 512)  # encoder B
        + 2 * 300 * 128  # conditioning augmentation, no bias
        + (3 * 3 * (512 + 128) * 512 + 2 * 512) + 4 * unit
        + (3 * 3 * 512 * 256 + 2 * 256) + (3 * 3 * 256 * 128 + 2 * 128) + (3 * 3 * 128 * 3 + 3)
    )  # fmt: skip
    assert trainable(paper_networks[1]) == (
        (4 * 4 * 3 * 64 + 64) + sum(4 * 4 * a * 2 * a + 2 * 2 * a for a in (64, 128, 256))
        + (1 * 1 * 512 * 128 + 2 * 128) + (3 * 3 * 128 * 128 + 2 * 128) + (3 * 3 * 128 * 512 + 2 * 512)  # residual
        + (300 * 128 + 128) + (1 * 1 * (512 + 128) * 512 + 2 * 512) + (4 * 4 * 512 + 1)
    )  # fmt: skip


def test_training_of_the_paper():
    """64x64, batch 64, 600 epochs, Adam 2e-4 with 0.5 and 0.999, halved every 100."""
    for name in ("sisgan_cub", "sisgan_oxford102"):
        preset = PRESETS[name]
        assert (preset.image_size, preset.load_size, preset.batch_size, preset.epochs) == (64, 74, 64, 600)
        assert (preset.learning_rate, preset.halve_epochs, preset.beta1, preset.beta2) == (2e-4, 100, 0.5, 0.999)


def test_objective_on_constants():
    """Logits of 0 are a sigmoid of 1/2: log 2, the wrong pairs half; mean 2 and sigma 1 have a KL of 2."""
    method = SISGAN(dataclasses.replace(TINY, kl_weight=3.0), phi())
    zeros = tf.zeros([4])
    log2 = math.log(2)
    assert {name: float(value) for name, value in method.d_terms(zeros, zeros, zeros).items()} == pytest.approx(
        {"d_real": log2, "d_mismatched": log2 / 2, "d_edited": log2 / 2}
    )
    terms = method.g_terms(zeros, tf.fill([4, 6], 2.0), tf.zeros([4, 6]))
    assert {name: float(value) for name, value in terms.items()} == pytest.approx({"g_adversarial": log2, "g_kl": 6.0})


def test_relevant_texts_are_of_the_next_picture_then_the_own():
    method = SISGAN(TINY, phi())
    batch = {
        "image": tf.zeros([6, 16, 16, 3]),
        "embedding": tf.range(6.0)[:, None] * tf.ones([1, EMBEDDING]),
        "class_id": tf.range(6),
    }
    rows = method.prepare(batch, tf.constant(0, tf.int64))
    np.testing.assert_array_equal(rows["matching"][:, 0], [0, 1, 2, 3, 4, 5])
    np.testing.assert_array_equal(rows["mismatching"][:, 0], [5, 0, 1, 2, 3, 4])
    np.testing.assert_array_equal(rows["relevant"][:, 0], [1, 2, 0, 3, 4, 5])


def plain_generator(w, image, phi, noise):
    """G of TINY; weights in the order of the layer table."""
    w = iter(w)
    x = tf.nn.relu(plain.biased(image, w))
    for _ in range(2):
        x = tf.nn.relu(plain.normed(x, w, 2))
    mean, log_sigma = plain.leaky(phi @ next(w)), plain.leaky(phi @ next(w))
    x = plain.normed(plain.joined(x, mean + tf.exp(log_sigma) * noise), w)
    for _ in range(TINY.units):
        x = plain.residual(x, w)
    for _ in range(2):
        x = tf.nn.relu(plain.normed(plain.doubled(x), w))
    x = tf.tanh(plain.biased(x, w))
    assert next(w, None) is None
    return x, mean, log_sigma


def plain_discriminator(w, image, phi):
    w = iter(w)
    x = plain.trunk(image, w, 2)
    text = plain.leaky(phi @ next(w) + next(w))
    x = plain.leaky(plain.normed(plain.joined(x, text), w))
    x = plain.biased(x, w, padding="VALID")
    assert next(w, None) is None
    return x[:, 0, 0, 0]


def test_one_whole_step_against_plain_tensorflow():
    """Terms, gradients and updates of both networks: D first on a constant x_hat, then G through the updated D."""
    method, batch = SISGAN(TINY, phi(), 1), random_batch(0)
    g, d = plain.variables_of(method.generator), plain.variables_of(method.discriminator)
    x, text = batch["image"], batch["embedding"]
    wrong = tf.gather(text, [3, 0, 1, 2])
    relevant = tf.gather(text, [1, 0, 2, 3])
    noise = tf.random.stateless_normal([4, TINY.ca_size], [TINY.seed, 2 * SEED])
    edited = plain_generator(g, x, relevant, noise)[0]
    with tf.GradientTape() as tape:
        terms = {
            "d_real": plain.cross_entropy(plain_discriminator(d, x, text), 1),
            "d_mismatched": 0.5 * plain.cross_entropy(plain_discriminator(d, x, wrong), 0),
            "d_edited": 0.5 * plain.cross_entropy(plain_discriminator(d, edited, relevant), 0),
        }
        loss = sum(terms.values())
    d_gradients = tape.gradient(loss, d)
    d_before = plain.descend(d, d_gradients)
    with tf.GradientTape() as tape:
        edited, mean, log_sigma = plain_generator(g, x, relevant, noise)
        terms |= {
            "g_adversarial": plain.cross_entropy(plain_discriminator(d, edited, relevant), 1),
            "g_kl": tf.reduce_mean((tf.exp(log_sigma) ** 2 + mean**2 - 1) / 2 - log_sigma),
        }
        loss = terms["g_adversarial"] + terms["g_kl"]
    g_gradients = tape.gradient(loss, g)
    found = train_step(method)(batch, tf.constant(SEED, tf.int64))
    for name, value in terms.items():
        assert float(found[name]) == pytest.approx(float(value), rel=1e-4), name
    plain.require_first_step(method.discriminator, method.d_optimizer, d_before, d_gradients)
    plain.require_first_step(method.generator, method.g_optimizer, g, g_gradients)


# ---- encoder A


@pytest.fixture(scope="module")
def vgg(tmp_path_factory):
    """keras.applications' network with random weights, and the files that it writes."""
    network = keras.applications.VGG16(weights=None, include_top=False, input_shape=(32, 32, 3))
    for weight in network.weights:
        if len(weight.shape) == 1:
            weight.assign(np.random.default_rng(0).normal(0, 3, weight.shape))
    folder = tmp_path_factory.mktemp("vgg")
    save_weights(network, folder / "new.weights.h5")
    write_as_released(network, folder / "released.h5")
    return network, folder


def save_weights(network, path):
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "__array__ implementation", DeprecationWarning)  # Keras' own, of numpy 2
        network.save_weights(path)


def write_as_released(network, path):
    """In the layout of the files that keras.applications downloads: a group a layer, of Keras 1's names."""
    import h5py

    with h5py.File(path, "w") as file:
        for layer in network.layers:
            group = file.create_group(layer.name)
            for weight, letter in zip(layer.weights, "Wb", strict=False):
                group[f"{layer.name}_{letter}_1:0"] = weight.numpy()


@pytest.mark.parametrize("name", ["new.weights.h5", "released.h5"])
def test_encoder_a_is_vgg_up_to_conv4_3_without_the_third_pooling(vgg, name):
    network, folder = vgg
    image = tf.random.stateless_uniform([2, 32, 32, 3], [0, 0], -1.0, 1.0)
    x = keras.applications.vgg16.preprocess_input((np.asarray(image) + 1) * 127.5)
    for layer in network.layers[1:]:
        if layer.name != "block3_pool":
            x = layer(x)
        if layer.name == "block4_conv3":
            break
    encoder = VGGEncoder()
    encoder(image)
    encoder.read(str(folder / name))
    assert x.shape == (2, 8, 8, 512)
    np.testing.assert_allclose(encoder(image), x, rtol=1e-4, atol=1e-4 * np.abs(x).max())


def test_encoder_a_is_not_trained_and_needs_its_file_to_train_alone(vgg):
    config = dataclasses.replace(TINY, vgg_weights=str(vgg[1] / "new.weights.h5"), ema_decay=0.9)
    method = SISGAN(config, phi(), 1)
    frozen = [variable.numpy() for variable in method.generator.encoder.variables]
    assert len(frozen) == 20 and not method.generator.encoder.trainable_variables
    held = {id(variable) for variable in method.variables()["generator"]}
    assert all(id(variable) in held for variable in keras2.weights_of(method.generator.encoder))
    before = [variable.numpy() for variable in method.generator.trainable_variables]
    tf.config.run_functions_eagerly(True)
    train_step(method)(random_batch(0), tf.constant(0, tf.int64))
    tf.config.run_functions_eagerly(False)
    for variable, value in zip(method.generator.encoder.variables, frozen, strict=True):
        np.testing.assert_array_equal(variable, value)
    for variable, value in zip(method.generator.trainable_variables, before, strict=True):
        assert np.any(variable.numpy() != value), variable.name
    SISGAN(dataclasses.replace(config, vgg_weights="moved away"), phi())


@pytest.mark.parametrize("content, error, words", [
    (None, FileNotFoundError, "vgg_weights=.*there is no such file"),
    (b"no HDF5", ValueError, "vgg_weights=.*holds no VGG-16 of keras.applications .*save_weights"),
    ("other", ValueError, "vgg_weights=.*holds no VGG-16"),
])  # fmt: skip
def test_another_file_is_refused_in_one_line(tmp_path, content, error, words):
    path = tmp_path / "some.weights.h5"
    if content == "other":
        save_weights(keras.Sequential([keras.Input([3]), keras.layers.Dense(2)]), path)
    elif content is not None:
        path.write_bytes(content)
    with pytest.raises(error, match=words) as raised:
        SISGAN(dataclasses.replace(TINY, vgg_weights=str(path)), phi(), 1)
    assert "\n" not in str(raised.value)
