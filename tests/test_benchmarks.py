"""The benchmarks: PyTorch's side against ours, the fits, turns, and lines that are JSON."""

import dataclasses
import json

import numpy as np
import pytest
import tensorflow as tf
from scipy import special

from benchmarks import fit_colours, systems, train_step, turns
from simgan_tf import methods
from simgan_tf.evaluation import colours
from simgan_tf.methods import step as steps
from simgan_tf.methods.simgan import SIMGAN
from tests.tiny import run

D = train_step.EMBEDDING


def tiny(**switches):
    """A case's own configuration, cut down."""
    config = train_step.config_of("64,32,16")
    return dataclasses.replace(config, width=4, d_width=4, units=1, image_size=32, load_size=38, **switches)


@pytest.mark.parametrize("forwards", [1, 2])
def test_pytorchs_step_is_ours(forwards):
    """Same weights, batch and noise: the terms of three steps agree, so that both sides do the same work."""
    torch = pytest.importorskip("torch", reason="PyTorch is not installed; only the benchmarks' --peer=torch needs it")
    from benchmarks import torch_simgan

    config = tiny(batch_size=4)
    method = SIMGAN(config, train_step.text_encoder(D), 10)
    peer = torch_simgan.SIMGAN(config, D, "float32")
    torch_simgan.copy_weights(peer.generator, [v.numpy() for v in method.generator.trainable_variables])
    torch_simgan.copy_weights(peer.discriminator, [v.numpy() for v in method.discriminator.trainable_variables])
    random, one_step = np.random.default_rng(0), steps.train_step(method)
    for step in range(3):
        image = random.uniform(-1, 1, (4, 32, 32, 3)).astype(np.float32)
        embedding = random.normal(size=(4, D)).astype(np.float32)
        batch = {"image": tf.constant(image), "embedding": tf.constant(embedding), "class_id": tf.range(4)}
        noise = method.prepare(batch, tf.constant(step, tf.int64))["noise"].numpy()
        ours = {name: float(v) for name, v in one_step(batch, step).items()}
        inputs = [torch.from_numpy(a.copy()) for a in (embedding, np.roll(embedding, 1, axis=0), noise)]
        theirs = peer.train_step(torch_simgan.as_images(image), *inputs, forwards=forwards)
        for name, value in theirs.items():
            # Adam's first steps are of the rate's length whatever the gradient: rounding grows by it.
            assert float(value) == pytest.approx(ours[name], rel=2e-3, abs=2e-4), (step, name)


def test_operations_of_a_step():
    """Two for a multiply-add, forwards and backwards through both networks; counted by hand from their layer tables."""
    assert train_step.Ours().operations("32,8,1", "float32") == 304_846_848


def test_fit_finds_the_words_again():
    """Pixels of three colours, a third of each picture of a fourth that all share: fitted, all are told apart."""
    draw = np.random.default_rng(0)
    labels = np.arange(30) % 3
    lab = np.array([[50, 60, 40], [80, 0, 70], [40, 30, -50]])[labels][:, None] + draw.normal(0, 5, [30, 12, 3])
    lab[:, ::3] = [40, -30, 30]
    terms = colours.terms(lab)
    table = fit_colours.fit(terms, labels, np.full(30, 0.02), 3)
    assert table.shape == (4, 10)
    shares = special.softmax(terms @ table.T, axis=-1).mean(axis=1)
    np.testing.assert_array_equal(shares[:, :3].argmax(axis=1), labels)


def test_pixels_of_a_picture_for_the_fit():
    """Of the inside alone: a red square in the middle gives red pixels, whatever surrounds it."""
    images, masks = np.full([1, 64, 64, 3], -1, np.float32), np.zeros([1, 64, 64], bool)
    images[:, 16:48, 16:48] = [1, -1, -1]
    masks[:, 24:40, 24:40] = True
    pixels = fit_colours.pixels_of([(images, masks)], count=10)
    red = colours.terms(colours.to_lab(images[0, 32, 32]))
    np.testing.assert_allclose(pixels, np.broadcast_to(red, [1, 10, 10]), atol=1e-3)


def test_turns():
    """Every side is asked once a round, and the order turns round."""

    class Side:
        def __init__(self, name):
            self.name = name

        def ask(self, seconds, **question):
            asked.append(self.name)
            return [3.0, 1.0, 2.0]

    asked = []
    found = turns.in_turns([(name, Side(name), {}) for name in "abc"], 3, 0.0)
    assert asked == [*"abc", *"cba", *"abc"] and found == {name: [2.0] * 3 for name in "abc"}
    calls = []
    assert len(turns.times(lambda: calls.append(0), 0.0, least=4)) == 4 == len(calls)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["train_step", "inference"])
def test_a_benchmark_prints_json(name):
    done = run("-m", f"benchmarks.{name}", "--case=64,32,16", "--precision=float32", "--rounds=1", "--seconds=0")
    line = json.loads(done.stdout)
    assert line["benchmark"] == name and line["images_per_second"] > 0 and 0 < line["share_of_peak"] < 1


def gru_arrays(kernel, recurrent, bias):
    """The four arrays of PyTorch's GRU, as `copy_weights` takes them, of Keras' three: [E, 3H], [H, 3H], [2, 3H].
    Keras has the gates in the order z, r, h, PyTorch r, z, n."""

    def turned(array):
        z, r, h = np.split(array, 3, axis=-1)
        return np.concatenate([r, z, h], axis=-1)

    return [turned(array) for array in (kernel, recurrent, *bias)]


@pytest.mark.parametrize("case", ["sisgan,32,4", "tagan,32,4"])
def test_pytorchs_step_of_other_systems_is_ours(case):
    """Same weights, batch and noise: the terms of three steps agree."""
    torch = pytest.importorskip("torch", reason="PyTorch is not installed; only the benchmarks' --peer=torch needs it")
    from benchmarks import torch_sisgan, torch_tagan
    from benchmarks.torch_simgan import as_images, copy_weights

    config = dataclasses.replace(systems.config_of(case), width=4, d_width=4, units=1)
    if config.method == "tagan":
        config = dataclasses.replace(config, hidden_size=6)
    encoder = systems.text_encoder()
    method = methods.build(config, encoder, 10)
    if config.method == "sisgan":
        peer = torch_sisgan.SISGAN(config, systems.SIZE)
    else:
        peer = torch_tagan.TAGAN(config, encoder.variables[0].numpy())
    for ours, theirs in ((method.generator, peer.generator), (method.discriminator, peer.discriminator)):
        weights = [variable.numpy() for variable in ours.trainable_variables]
        if config.method == "tagan":  # two GRUs come first
            weights = [*gru_arrays(*weights[:3]), *gru_arrays(*weights[3:6]), *weights[6:]]
        copy_weights(theirs, weights)
    one_step = steps.train_step(method)
    batch = {name: tf.constant(array) for name, array in systems.arrays(config).items()}
    for step in range(3):
        rows = {name: v.numpy() for name, v in method.prepare(batch, tf.constant(step, tf.int64)).items()}
        ours = {name: float(v) for name, v in one_step(batch, step).items()}
        rows = {name: torch.from_numpy(array.copy()) for name, array in rows.items()}
        theirs = peer.train_step(rows | {"image": as_images(batch["image"].numpy())})
        assert {name for name in ours if name[:2] in ("d_", "g_") and not name.endswith("norm")} <= theirs.keys()
        for name, value in theirs.items():
            assert float(value) == pytest.approx(ours[name], rel=2e-3, abs=2e-4), (step, name)
