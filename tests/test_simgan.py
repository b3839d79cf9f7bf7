"""SIMGAN held to the paper: census, shapes, parameter counts, switches, and one whole step against plain TensorFlow."""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf

from simgan_tf import keras2
from simgan_tf.configs.simgan import PRESETS
from simgan_tf.layers import BatchNorm
from simgan_tf.methods.simgan import SIMGAN, Discriminator, Generator
from simgan_tf.methods.step import correlation, draw_noise, mismatched, train_step
from tests import plain
from tests.tiny import TINY, phi, random_batch

pytestmark = pytest.mark.usefixtures("eager")


def leaves(network):
    """Every layer of a network that holds no other layer, in the order of definition."""
    inner = network._flatten_layers(include_self=False)
    return [layer for layer in inner if not list(layer._flatten_layers(include_self=False))]


def count(network, kind, **having):
    return sum(
        type(layer) is kind and all(getattr(layer, k) == v for k, v in having.items()) for layer in leaves(network)
    )


# ---------------------------------------------------------------------------------------------- the paper's networks


@pytest.fixture(scope="module")
def paper_networks():
    """G and D of the paper's preset with an embedding of 300, built on symbolic inputs: no picture is computed."""
    config = PRESETS["simgan_oxford102"]
    generator, discriminator = Generator(config), Discriminator(config)
    image = tf.TensorSpec([2, 256, 256, 3])
    phi, noise = tf.TensorSpec([2, 300]), tf.TensorSpec([2, 128])
    shapes = {}

    @tf.function
    def trace(image, phi, noise):
        edited, mean, log_sigma = generator(image, phi, noise)
        shapes.update(edited=edited.shape, mean=mean.shape, score=discriminator(image, phi).shape)
        x = generator.conv3(generator.conv2(generator.conv1(image)))
        shapes.update(bottleneck=x.shape)
        x = image
        for i in range(discriminator.stages):
            x = getattr(discriminator, f"conv{i}")(x)
        shapes.update(before_head=x.shape)

    trace.get_concrete_function(image, phi, noise)
    return generator, discriminator, shapes


def test_layer_census_of_the_paper(paper_networks):
    """Sec. 3.1: encoder 3, 16 units of 2, decoder 2 transposed; D 8. Beside them fusing and last convolution."""
    generator, discriminator, _ = paper_networks
    units = [layer for layer in generator.layers if type(layer).__name__ == "Residual"]
    assert len(units) == 16
    assert all(count(unit, keras.layers.Conv2D) == 2 for unit in units)
    assert count(generator, keras.layers.Conv2DTranspose) == 2
    assert count(generator, keras.layers.Conv2D) == 3 + 1 + 2 * 16 + 1
    encoder = [generator.conv1, generator.conv2.convolution, generator.conv3.convolution]
    assert [layer.strides for layer in encoder] == [(1, 1), (2, 2), (2, 2)]
    assert count(discriminator, keras.layers.Conv2D) == 8
    assert count(discriminator, keras.layers.Conv2D, strides=(2, 2)) == 6


def test_shapes_of_the_paper(paper_networks):
    _, _, shapes = paper_networks
    assert shapes["edited"] == (2, 256, 256, 3)
    assert shapes["mean"] == (2, 128)
    assert shapes["bottleneck"] == (2, 64, 64, 256)
    assert shapes["before_head"] == (2, 4, 4, 512)
    assert shapes["score"] == (2,)


def trainable(network):
    return sum(int(np.prod(weight.shape)) for weight in network.trainable_variables)


def test_generator_parameters_from_the_layer_table(paper_networks):
    """kernel x kernel x in x out, + out with a bias, + 2 x out with batch norm; methods' table of Sec. 1.3."""
    unit = 2 * (3 * 3 * 256 * 256 + 2 * 256)
    expected = (
        (3 * 3 * 3 * 64 + 64)  # e1
        + (4 * 4 * 64 * 128 + 2 * 128)  # e2
        + (4 * 4 * 128 * 256 + 2 * 256)  # e3
        + 2 * (300 * 128 + 128)  # conditioning augmentation
        + (3 * 3 * (256 + 128) * 256 + 2 * 256)  # fuse
        + 16 * unit
        + (4 * 4 * 256 * 128 + 2 * 128)  # u1
        + (4 * 4 * 128 * 64 + 2 * 64)  # u2
        + (3 * 3 * 64 * 3 + 3)  # out
    )
    assert trainable(paper_networks[0]) == expected


def test_discriminator_parameters_from_the_layer_table(paper_networks):
    widths = [64, 128, 256, 512, 512, 512]
    expected = 4 * 4 * 3 * 64 + 64  # d1
    expected += sum(4 * 4 * a * b + 2 * b for a, b in zip(widths[:-1], widths[1:], strict=True))  # d2..d6
    expected += 300 * 128 + 128  # text
    expected += 1 * 1 * (512 + 128) * 512 + 2 * 512  # d7
    expected += 4 * 4 * 512 * 1 + 1  # d8
    assert trainable(paper_networks[1]) == expected


def test_only_convolutions_without_batch_norm_have_a_bias(paper_networks):
    for network, biased in ((paper_networks[0], 2), (paper_networks[1], 2)):
        kinds = (keras.layers.Conv2D, keras.layers.Conv2DTranspose)
        assert sum(isinstance(layer, kinds) and layer.use_bias for layer in leaves(network)) == biased


def test_batch_norm_everywhere_but_first_and_last(paper_networks):
    """G: e2, e3, fuse, 32 in the units, u1, u2. D: d2..d7."""
    assert count(paper_networks[0], BatchNorm) == 2 + 1 + 32 + 2
    assert count(paper_networks[1], BatchNorm) == 6


# -------------------------------------------------------------------------------------------------------- the switches

SWITCHES = [
    {}, {"decoder": "resize"}, {"image_skip": "detail"}, {"mismatch": "other_class"}, {"own_text": 0.25}, {"units": 0},
    {"outlined": "birds"}, {"precision": "mixed_bfloat16"}, {"image_skip": "detail", "precision": "mixed_bfloat16"},
]  # fmt: skip


@pytest.mark.parametrize("switch", SWITCHES, ids=str)
def test_every_switch_trains(switch):
    """One step: finite terms that sum to the totals, and every trainable weight of both networks moves."""
    config = dataclasses.replace(TINY, **switch)
    method = SIMGAN(config, phi(), 1)
    size = config.image_size
    batch = {**random_batch(0), "image": tf.random.stateless_uniform([4, size, size, 3], [0, 0], -1.0, 1.0)}
    weights = method.generator.trainable_variables + method.discriminator.trainable_variables
    before = [weight.numpy() for weight in weights]
    terms = {name: float(value) for name, value in train_step(method)(batch, tf.constant(0, tf.int64)).items()}
    assert np.isfinite(list(terms.values())).all()
    assert terms["d_loss"] == pytest.approx(terms["d_real"] + terms["d_mismatched"] + terms["d_edited"], rel=1e-5)
    parts = ("g_adversarial", "g_cycle", "g_kl", "g_own", "g_background")
    assert terms["g_loss"] == pytest.approx(sum(terms.get(part, 0.0) for part in parts), rel=1e-5)
    stuck = [weight.name for weight, old in zip(weights, before, strict=True) if np.array_equal(weight, old)]
    assert not stuck
    edited = method.edit(batch["image"], batch["embedding"], tf.zeros([4, config.ca_size])).numpy()
    assert edited.shape == (4, size, size, 3) and edited.dtype == np.float32 and np.abs(edited).max() <= 1.0


def test_mixed_precision_leaves_the_global_policy_alone():
    before = keras.mixed_precision.global_policy()
    method_of(precision="mixed_bfloat16")
    assert keras.mixed_precision.global_policy() == before


# ------------------------------------------------------------------------------------------------------------ the step


def method_of(**switches):
    """A method to train, of TINY with some switches."""
    return SIMGAN(dataclasses.replace(TINY, **switches), phi(), steps_per_epoch=1)


def test_learning_rate_halves_every_50_epochs():
    """2e-4 at epochs 0-49, 1e-4 at 50, 2e-4 / 64 at 300, 2e-4 / 2048 at 599; 553 steps an epoch on CUB."""
    rate = SIMGAN(TINY, phi(), steps_per_epoch=553).g_optimizer._learning_rate
    for epoch, expected in ((0, 2e-4), (49, 2e-4), (50, 1e-4), (300, 3.125e-6), (599, 9.765625e-8)):
        for step in (epoch * 553, epoch * 553 + 552):
            assert float(rate(step)) == pytest.approx(expected, rel=1e-6)


def test_halving_can_be_off():
    assert float(method_of(halve_epochs=0).d_optimizer.learning_rate) == pytest.approx(2e-4)


def test_d_update_leaves_g_bit_identical_and_the_reverse(batch, monkeypatch):
    """With one optimizer made idle, its network's trainable weights must not move, and the other's must."""
    for idle, still, moving in (
        ("g_optimizer", "generator", "discriminator"),
        ("d_optimizer", "discriminator", "generator"),
    ):
        method = method_of()
        networks = {"generator": method.generator, "discriminator": method.discriminator}
        step = "apply_gradients" if keras2.KERAS_2 else "apply"
        monkeypatch.setattr(getattr(method, idle), step, lambda *_, **__: None)
        before = {name: [w.numpy() for w in network.trainable_variables] for name, network in networks.items()}
        train_step(method)(batch, tf.constant(0, tf.int64))
        for old, weight in zip(before[still], networks[still].trainable_variables, strict=True):
            np.testing.assert_array_equal(old, weight)
        assert any(
            not np.array_equal(o, w) for o, w in zip(before[moving], networks[moving].trainable_variables, strict=True)
        )


def other_class_step(batch, step=0):
    """Terms of a step on classes 5 5 9 5, whose t_bar are the texts 2 2 1 2: texts 0 and 3 are nobody's t_bar."""
    keras.utils.set_random_seed(0)
    method = method_of(mismatch="other_class")
    batch = {**batch, "class_id": tf.constant([5, 5, 9, 5])}
    return {name: float(value) for name, value in train_step(method)(batch, tf.constant(step, tf.int64)).items()}


def test_kl_is_that_of_the_mismatching_texts(batch):
    """By hand from the initial weights on the texts 2 2 1 2; the noise of another step does not matter."""
    keras.utils.set_random_seed(0)
    augment = method_of(mismatch="other_class").generator.augment
    mean, log_sigma = (value.numpy() for value in augment(tf.gather(batch["embedding"], [2, 2, 1, 2])))
    by_hand = np.mean(0.5 * (np.exp(2 * log_sigma) + mean**2 - 1) - log_sigma)
    found = other_class_step(batch)["g_kl"]
    assert found == pytest.approx(by_hand, rel=1e-5)
    own = np.mean([np.mean(0.5 * (np.exp(2 * s) + m**2 - 1) - s) for m, s in [augment(batch["embedding"])]])
    assert found != pytest.approx(own, rel=1e-3), "the matching texts would give another number"
    assert other_class_step(batch, step=7)["g_kl"] == found


def test_changing_t_alone_changes_cycle_and_d_but_not_kl(batch):
    """Text 0 is t of picture 0 and nobody's t_bar."""
    changed = {**batch, "embedding": tf.concat([batch["embedding"][:1] + 1.0, batch["embedding"][1:]], axis=0)}
    first, second = other_class_step(batch), other_class_step(changed)
    for same in ("g_kl", "d_mismatched", "d_edited"):
        assert first[same] == second[same]
    assert first["g_cycle"] != second["g_cycle"] and first["d_real"] != second["d_real"]


def test_way_back_takes_the_mean_code(batch, monkeypatch):
    """The first call of G in a step gets drawn noise, the second, on the edit, zeros."""
    method = method_of()
    seen = []
    call = method.generator.call

    def spy(image, embedding, noise, **options):
        seen.append((image, noise))
        return call(image, embedding, noise, **options)

    monkeypatch.setattr(method.generator, "call", spy)
    method.update(method.prepare(batch, tf.constant(0, tf.int64)))
    (there, drawn), (back, none) = seen
    np.testing.assert_array_equal(there, batch["image"])
    assert np.abs(drawn).max() > 0 and np.abs(none).max() == 0
    assert not np.array_equal(back, there)


def test_own_text_holds_its_share_of_the_batch_to_stay(batch):
    """Half of four pictures: 10 x |G(x, phi(t)) - x| of the first two over four; the KL takes their texts."""
    method = method_of(own_text=0.5)
    text = batch["embedding"]
    target = tf.stack([text[0], text[1], text[1], text[2]])
    noise = draw_noise(4, method.noise_size, [TINY.seed, 0])
    edited, mean, log_sigma = method.generator(batch["image"], target, noise, training=True, updates=0)
    terms = {name: float(value) for name, value in train_step(method)(batch, tf.constant(0, tf.int64)).items()}
    assert terms["g_own"] == pytest.approx(10 * 2 / 4 * np.mean(np.abs(edited[:2] - batch["image"][:2])), rel=1e-5)
    assert terms["g_kl"] == pytest.approx(np.mean((tf.exp(2 * log_sigma) + mean**2 - 1) / 2 - log_sigma), rel=1e-4)
    expected = terms["g_adversarial"] + terms["g_cycle"] + terms["g_kl"] + terms["g_own"]
    assert terms["g_loss"] == pytest.approx(expected, rel=1e-5)


def test_with_outlines_g_draws_on_the_object_alone_and_d_sees_it_alone(batch):
    """The left half as the object: the way back changes that half alone, |G(x_hat, t) - x| over it, and D's terms do
    not hear of the right half. An edit is G's picture left and the photograph right."""
    method = method_of(outlined="birds")
    rows = method.prepare(batch, tf.constant(0, tf.int64))
    size = TINY.image_size
    assert rows["inside"].shape == (4, size, size, 1) and 0 <= float(tf.reduce_min(rows["inside"]))
    left_half = tf.cast(tf.tile(tf.range(size)[None, None, :, None] < size // 2, [4, size, 1, 1]), tf.float32)
    rows["inside"], image = left_half, batch["image"].numpy()
    drawn = method.generator(image, rows["target"], rows["noise"], training=True, updates=0)[0].numpy()
    edited = np.concatenate([drawn[:, :, : size // 2], image[:, :, size // 2 :]], axis=2)
    back = method.generator(edited, rows["matching"], tf.zeros_like(rows["noise"]), training=True, updates=0)[0].numpy()
    left, right = tf.split(batch["image"], 2, axis=2)
    changed = rows | {"image": tf.concat([left, -right], axis=2)}
    weights = [variable.numpy() for variable in method.discriminator.variables]
    terms = method.update(rows)
    by_hand = TINY.cycle_weight * np.abs(back - image)[:, :, : size // 2].mean() / 2
    assert float(terms["g_cycle"]) == pytest.approx(by_hand, rel=1e-4)
    for variable, value in zip(method.discriminator.variables, weights, strict=True):
        variable.assign(value)
    again = method.update(changed)
    assert float(again["d_real"]) == pytest.approx(float(terms["d_real"]), rel=1e-5)

    alone = method.network(image, rows["target"], rows["noise"])[0].numpy()
    method.inside = lambda image: left_half
    found = method.edit(image, rows["target"], rows["noise"]).numpy()
    np.testing.assert_array_equal(found[:, :, size // 2 :], image[:, :, size // 2 :])
    np.testing.assert_allclose(found[:, :, : size // 2], alone[:, :, : size // 2], atol=1e-6)


def test_d_alone_leaves_g_as_it_is(batch):
    """In its first two steps, its statistics too, and no longer; D learns in all of them."""
    method = method_of(d_alone=2)
    step, moved = train_step(method), []
    for number in range(3):
        before = [[w.numpy() for w in net.variables] for net in (method.generator, method.discriminator)]
        terms = step(batch, tf.constant(number, tf.int64))
        after = [[w.numpy() for w in net.variables] for net in (method.generator, method.discriminator)]
        moved.append([not all(map(np.array_equal, old, new)) for old, new in zip(before, after, strict=True)])
        assert ("g_loss" in terms) == (number == 2)
    assert moved == [[False, True], [False, True], [True, True]]


def test_with_looks_g_edits_every_second_picture(batch):
    """D's two first terms are of all four pictures, x_hat and G's terms of the first and third."""
    keras.utils.set_random_seed(0)
    method = method_of(looks=2, own_text=0.5)  # one of two edits by its own text
    rows = method.prepare(batch, tf.constant(0, tf.int64))
    assert rows["own"].numpy().tolist() == [1, 0, 0, 0]
    np.testing.assert_array_equal(rows["target"], tf.concat([rows["matching"][:1], rows["mismatching"][1:]], axis=0))
    image, text, noise = (rows[name][::2] for name in ("image", "target", "noise"))
    edited, mean, log_sigma = method.generator(image, text, noise, training=True, updates=0)
    features = method.discriminator.features(batch["image"], training=True, updates=0)
    real = method.discriminator.score(features, rows["matching"], training=True, updates=0)
    terms = method.update(rows)
    assert float(terms["d_real"]) == pytest.approx(np.mean((real - 1) ** 2), rel=1e-5)
    kl = np.mean((tf.exp(2 * log_sigma) + mean**2 - 1) / 2 - log_sigma)
    assert float(terms["g_kl"]) == pytest.approx(kl, rel=1e-4)
    assert float(terms["g_own"]) == pytest.approx(10 * np.mean(np.abs(edited[0] - image[0])) / 2, rel=1e-5)


def test_image_skip_detail_against_plain_numpy(batch):
    """With a last convolution of zeros: tanh of the channels' mean less its 5x5 mean of the 5x5 mean."""
    method = method_of(image_skip="detail")
    for weight in method.generator.to_image.weights:
        weight.assign(tf.zeros_like(weight))
    edited = method.edit(batch["image"], batch["embedding"], tf.zeros([4, TINY.ca_size])).numpy()

    def averaged(light):  # over those of the 5x5 pixels that are in the picture
        smooth = np.empty_like(light)
        for i in range(light.shape[1]):
            for j in range(light.shape[2]):
                smooth[:, i, j] = light[:, max(i - 2, 0) : i + 3, max(j - 2, 0) : j + 3].mean(axis=(1, 2))
        return smooth

    light = batch["image"].numpy().mean(axis=-1)
    expected = np.tanh(light - averaged(averaged(light)))
    np.testing.assert_allclose(edited, np.repeat(expected[..., None], 3, axis=-1), atol=1e-5)


def test_source_correlation():
    """1 for a picture and a scaled copy, -1 for its negative, 0 for a pattern that does not go with it."""
    x = tf.reshape(tf.constant([1.0, 1.0, -1.0, -1.0]), [1, 2, 2, 1])
    y = tf.reshape(tf.constant([1.0, -1.0, 1.0, -1.0]), [1, 2, 2, 1])
    found = [float(correlation(x, other)) for other in (0.5 * x + 0.2, -x, y)]
    np.testing.assert_allclose(found, [1, -1, 0], atol=1e-6)


def test_moving_statistics_come_from_the_edited_pass_alone(batch):
    """After one step e2's moving mean is 0.1 x the mean over real pictures: the way back adds nothing."""
    method = method_of()
    generator = method.generator
    features = generator.conv2.convolution(tf.nn.relu(generator.conv1(batch["image"])))
    expected = 0.1 * np.mean(features, axis=(0, 1, 2))
    train_step(method)(batch, tf.constant(0, tf.int64))
    np.testing.assert_allclose(generator.conv2.norm.mean, expected, rtol=1e-4, atol=1e-7)


def test_ds_moving_statistics_are_those_of_three_calls(batch):
    """D looks once at the real pictures; the statistics are as if it had looked at them with either text."""
    keras.utils.set_random_seed(0)
    method, other = method_of(), method_of()
    for variable, value in zip(other.discriminator.variables, method.discriminator.variables, strict=True):
        variable.assign(value)
    text, noise = batch["embedding"], draw_noise(4, method.noise_size, [TINY.seed, 0])
    phi_bar = tf.roll(text, 1, axis=0)
    edited = method.generator(batch["image"], phi_bar, noise, training=True, updates=0)[0]
    for image, sentence in ((batch["image"], text), (batch["image"], phi_bar), (edited, phi_bar)):
        other.discriminator(image, sentence, training=True)
    train_step(method)(batch, tf.constant(0, tf.int64))
    found, expected = method.discriminator, other.discriminator
    for one, two in zip(found.non_trainable_variables, expected.non_trainable_variables, strict=True):
        np.testing.assert_allclose(one, two, rtol=1e-4, atol=1e-6, err_msg=one.name)


def test_adam_is_keras_adam():
    """Three steps on random gradients, the rate halved at the second."""
    random = np.random.default_rng(0)
    start, *gradients = random.normal(size=(4, 3, 5)).astype(np.float32)
    found = []
    for kind in (keras2.Adam, keras.optimizers.Adam):
        layer = keras.layers.Dense(5, use_bias=False, kernel_initializer=keras.initializers.Constant(start))
        layer.build((None, 3))
        rate = keras.optimizers.schedules.ExponentialDecay(1e-2, 1, 0.5, staircase=True)
        optimizer = kind(rate, 0.5, 0.999, 1e-8)
        for gradient in gradients:
            keras2.apply(optimizer, [tf.constant(gradient)], [layer.kernel])
        found.append([np.asarray(variable) for variable in (layer.kernel, *keras2.variables_of(optimizer))])
    for one, two in zip(*found, strict=True):
        np.testing.assert_allclose(one, two, rtol=3e-5)  # 1 - 0.999 in float32 is off by 1.3e-5


def test_noise_is_a_function_of_seed_and_step_and_changes_the_edit(batch):
    method = method_of()
    image, text = batch["image"][:1], batch["embedding"][:1]
    first, again, other = (draw_noise(1, method.noise_size, [0, s]) for s in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    np.testing.assert_array_equal(method.edit(image, text, first), method.edit(image, text, again))
    assert np.abs(method.edit(image, text, first) - method.edit(image, text, other)).max() > 0
    many = draw_noise(5000, method.noise_size, [0, 0]).numpy()
    assert abs(many.std() - 1) < 0.02 and np.abs(many).max() > 3


def test_mismatched_rolls_by_one():
    phi = tf.constant([[0.0], [1.0], [2.0]])
    np.testing.assert_array_equal(mismatched(phi, tf.constant([1, 1, 1]), "roll")[:, 0], [2, 0, 1])


def test_a_method_to_edit_with_has_the_generator_alone():
    assert SIMGAN(TINY, phi()).variables().keys() == {"generator"}


def test_mismatched_of_another_class():
    """Classes a a b a: picture 0 looks back to 3 (a), 2 (b); 1 to 0 (a), 3 (a), 2; 2 to 1; 3 to 2."""
    phi = tf.constant([[0.0], [1.0], [2.0], [3.0]])
    np.testing.assert_array_equal(mismatched(phi, tf.constant([5, 5, 9, 5]), "other_class")[:, 0], [2, 2, 1, 2])
    np.testing.assert_array_equal(mismatched(phi, tf.constant([5, 5, 5, 5]), "other_class")[:, 0], [3, 0, 1, 2])


# ---- a second implementation of the step, in plain TensorFlow


def plain_generator(w, image, phi, noise):
    """G of TINY from a flat list of weights, in the order of the layer table."""
    w = iter(w)
    x = tf.nn.relu(plain.biased(image, w))
    for _ in range(2):
        x = tf.nn.relu(plain.normed(x, w, 2))
    mean, log_sigma = (plain.leaky(phi @ next(w) + next(w)) for _ in range(2))
    x = tf.nn.relu(plain.normed(plain.joined(x, mean + tf.exp(log_sigma) * noise), w))
    for _ in range(TINY.units):
        x = plain.residual(x, w)
    for _ in range(2):
        kernel = next(w)
        shape = [x.shape[0], 2 * x.shape[1], 2 * x.shape[2], kernel.shape[2]]
        x = tf.nn.relu(plain.norm(tf.nn.conv2d_transpose(x, kernel, shape, 2, "SAME"), next(w), next(w)))
    x = tf.tanh(plain.biased(x, w))
    assert next(w, None) is None
    return x, mean, log_sigma


def plain_discriminator(w, image, phi):
    text_kernel, text_bias, *w = w  # the text layer is made first
    w = iter(w)
    x = plain.leaky(plain.normed(plain.leaky(plain.biased(image, w, 2)), w, 2))
    text = plain.leaky(phi @ text_kernel + text_bias)
    x = plain.leaky(plain.normed(plain.joined(x, text), w))
    x = plain.biased(x, w, padding="VALID")
    assert next(w, None) is None
    return x[:, 0, 0, 0]


def test_one_whole_step_against_plain_tensorflow(batch):
    """Terms, gradients and updates of both networks: D first on a constant x_hat, then G through the updated D."""
    tf.config.run_functions_eagerly(False)  # compiled, as in a training
    method = method_of()
    g, d = plain.variables_of(method.generator), plain.variables_of(method.discriminator)
    x, text = batch["image"], batch["embedding"]
    phi_bar = tf.concat([text[-1:], text[:-1]], 0)
    noise = tf.random.stateless_normal([4, TINY.ca_size], [TINY.seed, 2 * 3])

    edited = plain_generator(g, x, phi_bar, noise)[0]
    with tf.GradientTape() as tape:
        terms = {
            "d_real": tf.reduce_mean((plain_discriminator(d, x, text) - 1) ** 2),
            "d_mismatched": tf.reduce_mean(plain_discriminator(d, x, phi_bar) ** 2),
            "d_edited": tf.reduce_mean(plain_discriminator(d, edited, phi_bar) ** 2),
        }
        loss = sum(terms.values())
    d_gradients = tape.gradient(loss, d)
    d_before = plain.descend(d, d_gradients)
    with tf.GradientTape() as tape:
        edited, mean, log_sigma = plain_generator(g, x, phi_bar, noise)
        back = plain_generator(g, edited, text, tf.zeros_like(noise))[0]
        terms |= {
            "g_adversarial": tf.reduce_mean((plain_discriminator(d, edited, phi_bar) - 1) ** 2),
            "g_cycle": 10 * tf.reduce_mean(tf.abs(back - x)),
            "g_kl": tf.reduce_mean((tf.exp(log_sigma) ** 2 + mean**2 - 1) / 2 - log_sigma),
        }
        loss = terms["g_adversarial"] + terms["g_cycle"] + terms["g_kl"]
    g_gradients = tape.gradient(loss, g)

    found = train_step(method)(batch, tf.constant(3, tf.int64))
    for name, value in terms.items():
        assert float(found[name]) == pytest.approx(float(value), rel=1e-4), name
    plain.require_first_step(method.discriminator, method.d_optimizer, d_before, d_gradients)
    plain.require_first_step(method.generator, method.g_optimizer, g, g_gradients)
