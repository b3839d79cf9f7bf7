"""TAGAN held to its authors' code: parameter counts, words, attention, losses, one whole step in plain TensorFlow."""

import dataclasses
import math

import keras
import numpy as np
import pytest
import tensorflow as tf

from simgan_tf import losses
from simgan_tf.configs.tagan import PRESETS, Config
from simgan_tf.layers import BatchNorm, WordEncoder
from simgan_tf.methods.step import draw_noise, train_step
from simgan_tf.methods.tagan import TAGAN, Discriminator, Generator
from tests import plain
from tests.test_simgan import trainable
from tests.tiny import other_encoder, phi, random_encoder

pytestmark = pytest.mark.usefixtures("eager")

TINY = Config(
    image_size=32, load_size=34, width=2, units=1, ca_size=3, d_width=2, hidden_size=4, batch_size=4, steps=6,
    reconstruction_weight=2.0,
)  # fmt: skip
TOKENS = np.array([[2, 3, 5, 0, 0], [4, 2, 3, 5, 2], [3, 0, 0, 0, 0], [5, 5, 4, 1, 0]], np.int32)


def method_of(**switches):
    return TAGAN(dataclasses.replace(TINY, **switches), phi(), steps_per_epoch=1)


@pytest.fixture(scope="module")
def untrained():
    """One that no test changes."""
    return method_of()


@pytest.fixture
def batch():
    return {
        "image": tf.random.stateless_uniform([4, 32, 32, 3], [0, 0], -1.0, 1.0),
        "tokens": tf.constant(TOKENS),
        "class_id": tf.constant([1, 2, 3, 4]),
    }


# ---- the paper's networks


@pytest.fixture(scope="module")
def paper_networks():
    """G and D of the paper's preset with word vectors of 300, built on symbolic inputs: no picture is computed."""
    config = PRESETS["tagan_oxford102"]
    encoder = random_encoder(["a", "red"], dim=3, length=6)
    encoder.word_vectors = lambda tokens: tf.ones([2, 6, 300])
    generator, discriminator = Generator(config, encoder), Discriminator(config, encoder)
    shapes = {}

    @tf.function
    def trace(image, tokens, noise):
        edited, mean, _ = generator(image, generator.encode(tokens), noise)
        maps = discriminator.maps(image)
        heard = discriminator.hear(tokens)
        log_p = discriminator.match(discriminator.look(maps), heard)
        shapes.update(edited=edited.shape, mean=mean.shape, maps=[x.shape for x in maps], log_p=log_p.shape)
        shapes.update(logit=discriminator.logit(maps).shape, heard=[x.shape for x in heard])

    specs = tf.TensorSpec([2, 128, 128, 3]), tf.TensorSpec([2, 6], tf.int32), tf.TensorSpec([2, 128])
    trace.get_concrete_function(*specs)
    return generator, discriminator, shapes


GRUS = 2 * (3 * (300 * 512 + 512 * 512) + 2 * 3 * 512)  # kernels, and both biases of PyTorch's cells, each way


def test_generator_parameters_from_the_layer_table(paper_networks):
    """kernel x kernel x in x out, + out with a bias, + 2 x out with batch norm."""
    expected = GRUS + (3 * 3 * 3 * 64 + 64)
    expected += sum(4 * 4 * a * 2 * a + 2 * 2 * a for a in (64, 128, 256))  # the encoder's three halvings
    expected += 2 * (512 * 128 + 128)  # conditioning augmentation
    expected += 3 * 3 * (512 + 128) * 512 + 2 * 512
    expected += 4 * 2 * (3 * 3 * 512 * 512 + 2 * 512)  # residual units
    expected += sum(3 * 3 * 2 * a * a + 2 * a for a in (256, 128, 64))  # decoder
    expected += 3 * 3 * 64 * 3 + 3
    assert trainable(paper_networks[0]) == expected


def test_discriminator_parameters_from_the_layer_table(paper_networks):
    widths = [64, 128, 256, 512, 512]
    expected = GRUS + 4 * 4 * 3 * 64 + 64
    expected += sum(4 * 4 * a * b + 2 * b for a, b in zip(widths[:-1], widths[1:], strict=True))
    expected += 4 * 4 * 512 + 1  # the logit
    expected += sum(3 * 3 * c * c + 2 * c for c in (256, 512, 512))  # GAP_1 to 3
    expected += sum(512 * (c + 1) + (c + 1) for c in (256, 512, 512))  # classifiers of a word
    expected += 512 * 3 + 3  # beta
    assert trainable(paper_networks[1]) == expected


def test_shapes_and_layers_of_the_paper(paper_networks):
    generator, discriminator, shapes = paper_networks
    assert shapes["edited"] == (2, 128, 128, 3) and shapes["mean"] == (2, 128)
    assert shapes["maps"] == [(2, 16, 16, 256), (2, 8, 8, 512), (2, 4, 4, 512)]
    assert shapes["heard"] == [(2, 6), (2, 6, 3), (2, 6, 257), (2, 6, 513), (2, 6, 513)]
    assert shapes["logit"] == shapes["log_p"] == (2,)
    for network, convolutions, norms in ((generator, 4 + 1 + 8 + 3 + 1, 3 + 1 + 8 + 3), (discriminator, 5 + 1 + 3, 7)):
        layers = network._flatten_layers()
        assert sum(isinstance(layer, keras.layers.Conv2D) for layer in network._flatten_layers()) == convolutions
        assert sum(isinstance(layer, BatchNorm) for layer in layers) == norms


# ---- words and attention


def plain_gru(x, mask, kernel, recurrent, bias):
    """States [B, T, H] of PyTorch's cell, columns z r n; padding leaves the state."""
    h, states = np.zeros([len(x), recurrent.shape[0]]), []
    for t in range(x.shape[1]):
        a, b = x[:, t] @ kernel + bias[0], h @ recurrent + bias[1]
        (az, ar, an), (bz, br, bn) = np.split(a, 3, 1), np.split(b, 3, 1)
        z, r = 1 / (1 + np.exp(-az - bz)), 1 / (1 + np.exp(-ar - br))
        new = z * h + (1 - z) * np.tanh(an + r * bn)
        h = np.where(mask[:, t : t + 1], new, h)
        states.append(h)
    return np.stack(states, 1)


@pytest.mark.parametrize("word_size", [0, 3])
def test_words_against_plain_numpy(word_size):
    encoder = phi()
    words = WordEncoder(encoder, word_size, 4)
    found, known = words(tf.constant(TOKENS))
    weights = [weight.numpy() for weight in words.trainable_variables]
    table = weights.pop(0) if word_size else encoder.variables[0].numpy()
    x = table[TOKENS]
    x /= np.sqrt((x**2).mean(axis=2, keepdims=True))
    mask = TOKENS > 0
    forwards = plain_gru(x, mask, *weights[:3])
    backwards = plain_gru(x[:, ::-1], mask[:, ::-1], *weights[3:])[:, ::-1]
    expected = (forwards + backwards) / 2 * mask[:, :, None]
    np.testing.assert_allclose(found, expected, atol=1e-6)
    np.testing.assert_array_equal(known, mask)
    np.testing.assert_allclose(words.mean(found, known), expected.sum(1) / [[3], [5], [1], [4]], atol=1e-6)
    assert not np.allclose(weights[0], weights[3]), "one initial value for both ways"
    assert max(np.abs(weight).max() for weight in weights) <= 0.5  # 1 / sqrt(4), as PyTorch draws them


def test_match_by_hand(untrained):
    """Two words, two maps of one number each: f_i = sum_j beta_ij sigmoid(w v + b), p = f_1^0.75 f_2^0.25."""
    discriminator = untrained.discriminator
    third, half = math.log(3), 0.0  # sigmoid: 3/4 and 1/2
    seen = [tf.constant([[2.0]]), tf.constant([[1.0]])]
    classifiers = [tf.constant([[[third / 2, 0.0], [0.0, half]]]), tf.constant([[[third, -third], [1.0, third - 1]]])]
    levels = tf.math.log(tf.constant([[[0.5, 0.5], [0.2, 0.8]]]))
    heard = [tf.constant([[0.75, 0.25]]), levels, *classifiers]
    f = [0.5 * 0.75 + 0.5 * 0.5, 0.2 * 0.5 + 0.8 * 0.75]
    np.testing.assert_allclose(tf.exp(discriminator.answers(seen, heard))[0], f, rtol=1e-5)
    expected = f[0] ** 0.75 * f[1] ** 0.25
    assert float(tf.exp(discriminator.match(seen, heard))[0]) == pytest.approx(expected, rel=1e-5)


def test_attention_is_a_softmax_over_the_words_alone(untrained):
    """alpha_i = exp(u_i . mean u) / sum over the real words; more padding changes no answer."""
    method = untrained
    heard = method.discriminator.hear(tf.constant(TOKENS))
    u, known = (x.numpy() for x in method.discriminator.words(tf.constant(TOKENS)))
    scores = np.exp(np.einsum("bth,bh->bt", u, u.sum(1) / known.sum(1, keepdims=True))) * known
    np.testing.assert_allclose(heard[0], scores / scores.sum(1, keepdims=True), rtol=1e-5, atol=1e-7)
    image = tf.random.stateless_uniform([4, 32, 32, 3], [1, 1], -1, 1)
    seen = method.discriminator.look(method.discriminator.maps(image))
    longer = method.discriminator.hear(tf.pad(tf.constant(TOKENS), [[0, 0], [0, 3]]))
    np.testing.assert_allclose(
        method.discriminator.match(seen, longer), method.discriminator.match(seen, heard), rtol=1e-5
    )


def test_attention_cannot_overflow():
    """Features a million times too large, and a sentence of padding alone: finite answers and gradients."""
    discriminator = method_of().discriminator
    for layer in (discriminator.to_levels, *[getattr(discriminator, f"classify{j}") for j in discriminator.scales]):
        layer.kernel.assign(layer.kernel * 1e6)
    tokens = tf.constant(np.concatenate([TOKENS[:3], 0 * TOKENS[:1]]))
    image = tf.random.stateless_uniform([4, 32, 32, 3], [1, 1], -1, 1)
    for target in (0.0, 1.0):
        with tf.GradientTape() as tape:
            log_p = discriminator.match(discriminator.look(discriminator.maps(image)), discriminator.hear(tokens))
            loss = losses.log_cross_entropy(log_p, target)
        assert np.isfinite(float(loss))
        for gradient in tape.gradient(loss, discriminator.trainable_variables):
            assert gradient is None or np.isfinite(tf.convert_to_tensor(gradient)).all()


def test_log_cross_entropy_by_hand():
    """p = 1/4: ln 4 where it should be, ln 4/3 where not; p = 1 where not: -ln 1e-7; p = 0 where not: nothing."""
    quarter = tf.math.log(tf.constant([0.25]))
    assert float(losses.log_cross_entropy(quarter, 1.0)) == pytest.approx(math.log(4))
    assert float(losses.log_cross_entropy(quarter, 0.0)) == pytest.approx(math.log(4 / 3))
    assert float(losses.log_cross_entropy(tf.constant([0.0]), 0.0)) == pytest.approx(-math.log(1e-7), rel=1e-3)
    assert float(losses.log_cross_entropy(tf.constant([-1e4]), 0.0)) == 0.0
    assert float(losses.log_cross_entropy(tf.constant([-1e4, 0.0]), 1.0)) == pytest.approx(5e3)


# ---- the whole method


@pytest.mark.parametrize(
    "switch",
    [{"word_size": 3, "ema_decay": 0.9}, {"mismatch": "other_class", "precision": "mixed_bfloat16", "image_size": 16}],
    ids=str,
)
def test_every_switch_trains(switch, batch):
    """One step: finite terms that sum to the totals; every trainable weight moves; phi does not."""
    method = method_of(**switch)
    size = method.config.image_size
    batch = {**batch, "image": batch["image"][:, :size, :size]}
    weights = method.generator.trainable_variables + method.discriminator.trainable_variables
    before, phis = [weight.numpy() for weight in weights], [v.numpy() for v in method.text_encoder.variables]
    terms = {name: float(value) for name, value in train_step(method)(batch, 0, True).items()}
    assert np.isfinite(list(terms.values())).all() and terms["g_gradient_norm"] > 0
    for total in ("d_", "g_"):
        parts = [terms[n] for n in terms if n.startswith(total) and not n.endswith(("_loss", "_norm"))]
        assert len(parts) == 4 and terms[f"{total}loss"] == pytest.approx(sum(parts), rel=1e-5)
    stuck = [weight.name for weight, old in zip(weights, before, strict=True) if np.array_equal(weight, old)]
    assert not stuck
    for variable, old in zip(method.text_encoder.variables, phis, strict=True):
        np.testing.assert_array_equal(variable, old)
    codes = method.encode(["a red flower", "white"])
    np.testing.assert_allclose(codes, method.embed(tf.constant(method.text_encoder.tokens(["a red flower", "white"]))))
    edited = method.edit(batch["image"][:2], tf.constant(codes), tf.zeros([2, 3])).numpy()
    assert edited.shape == (2, size, size, 3) and edited.dtype == np.float32 and np.abs(edited).max() <= 1.0


def test_pictures_of_any_size_keep_it(untrained):
    """36 x 44 is no multiple of 8."""
    method = untrained
    image = tf.random.stateless_uniform([1, 36, 44, 3], [0, 0], -1.0, 1.0)
    code, noise = tf.constant(method.encode(["red"])), tf.zeros([1, 3])
    specs = [tf.TensorSpec([1, None, None, 3]), tf.TensorSpec([1, 4]), tf.TensorSpec([1, 3])]
    edit = tf.function(method.edit, input_signature=specs)
    assert method.edit(image, code, noise).shape == edit(image, code, noise).shape == (1, 36, 44, 3)


def test_attention_of_a_sentence(untrained):
    image = tf.random.stateless_uniform([4, 32, 32, 3], [0, 0], -1.0, 1.0)
    weight, answer = (x.numpy() for x in untrained.attention(image, tf.constant(TOKENS)))
    np.testing.assert_allclose(weight.sum(axis=1), 1.0, rtol=1e-5)
    assert (weight[TOKENS == 0] == 0).all() and answer.shape == (4, 5) and (answer > 0).all() and (answer <= 1).all()


def test_an_encoder_without_words_is_refused():
    with pytest.raises(ValueError, match="char_cnn_rnn.* has no words.*--text_encoder"):
        TAGAN(TINY, other_encoder("char_cnn_rnn"))


def test_text_scale_multiplies_what_a_sentence_becomes():
    """32 times the mean over a sentence's 3, 5, 1 and 4 words."""
    method = method_of(text_scale=32.0)
    features = method.generator.words(tf.constant(TOKENS))[0].numpy()
    means = [features[i, :count].sum(axis=0) / count for i, count in enumerate((3, 5, 1, 4))]
    np.testing.assert_allclose(method.embed(tf.constant(TOKENS)), 32.0 * np.array(means), rtol=1e-5, atol=1e-6)


def test_it_takes_a_released_encoders_words():
    """Kiros' rows start at id 1."""
    encoder = other_encoder("kiros")
    np.testing.assert_array_equal(encoder.word_vectors(tf.constant([[1, 3]]))[0], encoder.words.numpy()[[0, 2]])
    assert TAGAN(TINY, encoder).encode(["a red flower ."]).shape == (1, 4)


# ---- a second implementation of the step, in plain TensorFlow


def words_of(w, table, tokens):
    """u [B, T, H] and mask [B, T, 1] from the next six weights."""
    x, mask = tf.gather(table, tokens), tf.cast(tokens[:, :, None] > 0, tf.float32)
    x /= tf.sqrt(tf.reduce_mean(x**2, 2, keepdims=True))
    both = []
    for order in (range(5), range(4, -1, -1)):
        kernel, recurrent, bias = next(w), next(w), next(w)
        h, states = tf.zeros([len(tokens), recurrent.shape[0]]), {}
        for t in order:
            az, ar, an = tf.split(x[:, t] @ kernel + bias[0], 3, 1)
            bz, br, bn = tf.split(h @ recurrent + bias[1], 3, 1)
            z = tf.sigmoid(az + bz)
            new = z * h + (1 - z) * tf.tanh(an + tf.sigmoid(ar + br) * bn)
            h = mask[:, t] * new + (1 - mask[:, t]) * h
            states[t] = h * mask[:, t]
        both.append(tf.stack([states[t] for t in range(5)], 1))
    return (both[0] + both[1]) / 2, mask


def plain_generator(weights, table, image, tokens, noise):
    w = iter(weights)
    u, mask = words_of(w, table, tokens)
    sentence = tf.reduce_sum(u, 1) / tf.reduce_sum(mask, 1)
    x = tf.nn.relu(plain.biased(image, w))
    for _ in range(3):
        x = tf.nn.relu(plain.normed(x, w, 2))
    e = x
    mean, log_sigma = (plain.leaky(sentence @ next(w) + next(w)) for _ in range(2))
    x = tf.nn.relu(plain.normed(plain.joined(x, mean + tf.exp(log_sigma) * noise), w))
    x = e + x + plain.normed(tf.nn.relu(plain.normed(x, w)), w)
    for _ in range(3):
        x = tf.nn.relu(plain.normed(plain.doubled(x), w))
    x = tf.tanh(plain.biased(x, w))
    assert next(w, None) is None
    return x, tf.reduce_mean((tf.exp(2 * log_sigma) + mean**2 - 1) / 2 - log_sigma)


def plain_discriminator(weights, table, image, tokens):
    """Logit, and p as a product of powers."""
    w = iter(weights)
    u, mask = words_of(w, table, tokens)
    maps = [plain.leaky(plain.biased(image, w, 2))]
    for _ in range(2):
        maps.append(plain.leaky(plain.normed(maps[-1], w, 2)))
    logit = plain.biased(maps[-1], w, padding="VALID")[:, 0, 0, 0]
    answers = []
    for x in maps:
        v = tf.reduce_mean(plain.leaky(plain.normed(x, w)), [1, 2])
        made = u @ next(w) + next(w)
        answers.append(tf.sigmoid(tf.reduce_sum(made[:, :, :-1] * v[:, None], 2) + made[:, :, -1]))
    beta = tf.nn.softmax(u @ next(w) + next(w))
    assert next(w, None) is None
    attention = tf.exp(tf.reduce_sum(u * tf.reduce_sum(u, 1, keepdims=True) / tf.reduce_sum(mask, 1)[:, None], 2))
    attention *= mask[:, :, 0]
    attention /= tf.reduce_sum(attention, 1, keepdims=True)
    return logit, tf.reduce_prod(tf.reduce_sum(tf.stack(answers, 2) * beta, 2) ** attention, 1)


def test_one_whole_step_against_plain_tensorflow(batch):
    """Terms and gradients of both networks: D first on a constant x_hat, then G through the updated D."""
    method = method_of()
    table = tf.constant(method.text_encoder.variables[0].numpy())
    networks = method.generator, method.discriminator
    g, d = ([tf.Variable(weight.numpy()) for weight in network.trainable_variables] for network in networks)
    x, t = batch["image"], batch["tokens"]
    t_bar = tf.concat([t[-1:], t[:-1]], 0)
    noise, own_noise = (tf.random.stateless_normal([4, 3], [TINY.seed, 2 * 3 + i]) for i in range(2))
    np.testing.assert_array_equal(noise, draw_noise(4, 3, [0, 6]))

    edited, _ = plain_generator(g, table, x, t_bar, noise)
    with tf.GradientTape() as tape:
        real, p = plain_discriminator(d, table, x, t)
        _, p_bar = plain_discriminator(d, table, x, t_bar)
        fake, _ = plain_discriminator(d, table, edited, t_bar)
        terms = {
            "d_real": -tf.reduce_mean(tf.math.log(tf.sigmoid(real))),
            "d_edited": -tf.reduce_mean(tf.math.log(1 - tf.sigmoid(fake))),
            "d_matching": -5 * tf.reduce_mean(tf.math.log(p)),
            "d_mismatched": -5 * tf.reduce_mean(tf.math.log(1 - p_bar)),
        }
        loss = sum(terms.values())
    d_gradients = tape.gradient(loss, d)

    found = train_step(method)(batch, tf.constant(3, tf.int64))
    for weight, new in zip(d, method.discriminator.trainable_variables, strict=True):
        weight.assign(new)  # Adam's own step is held to Keras' in test_simgan
    with tf.GradientTape() as tape:
        edited, kl = plain_generator(g, table, x, t_bar, noise)
        back, own_kl = plain_generator(g, table, x, t, own_noise)
        fake, p = plain_discriminator(d, table, edited, t_bar)
        g_terms = {
            "g_adversarial": -tf.reduce_mean(tf.math.log(tf.sigmoid(fake))),
            "g_matching": -10 * tf.reduce_mean(tf.math.log(p)),
            "g_reconstruction": 2 * tf.reduce_mean(tf.abs(back - x)),
            "g_kl": 0.5 * (kl + own_kl),
        }
        loss = sum(g_terms.values())
    g_gradients = tape.gradient(loss, g)

    for name, value in {**terms, **g_terms}.items():
        assert float(found[name]) == pytest.approx(float(value), rel=1e-4, abs=1e-7), name
    # After its first step Adam's first moment is (1 - beta1) g.
    for optimizer, expected in ((method.d_optimizer, d_gradients), (method.g_optimizer, g_gradients)):
        for moment, gradient in zip(optimizer._momentums, expected, strict=True):
            np.testing.assert_allclose(
                np.asarray(moment) / 0.5, gradient, rtol=1e-3, atol=1e-4 * np.abs(gradient).max() + 2e-7
            )
