"""The networks that edits are judged by: the tower of a text encoder, Kiros' image side, Inception-v3's file."""

import os

import keras
import numpy as np
import pytest
import tensorflow as tf

from data.splits import Split
from simgan_tf.evaluation import judges, measure, metrics, protocol
from simgan_tf.text import features, kiros, vse
from tests.test_features import random_weights, released_layout
from tests.tiny import WORDS, other_encoder, vse_encoder


@pytest.fixture(scope="module")
def judge_dir(tmp_path_factory):
    """A text encoder and a tower of random weights."""
    directory = str(tmp_path_factory.mktemp("judge"))
    encoder, tower = vse_encoder(), vse.image_tower(6, width=2)
    tower.build((None, 16, 16, 3))
    draw = np.random.default_rng(0)
    for variable in tower.variables:
        variable.assign(draw.uniform(0.2, 1.0, variable.shape) / max(np.prod(variable.shape[:-1]), 1))
    features.save_tower(tower, 16, os.path.join(directory, features.TOWER))
    encoder.save(os.path.join(directory, "text_encoder"))
    return directory, encoder, tower


def test_a_judge_is_the_encoder_and_the_tower_that_were_saved(judge_dir):
    """Vectors are the tower's, features what goes into its last layer; larger pictures are brought to its size."""
    directory, encoder, tower = judge_dir
    judge = judges.Judge(directory)
    images = np.random.default_rng(1).uniform(-1, 1, [3, 16, 16, 3]).astype(np.float32)
    seen, vectors = judge.see(images)
    assert judge.kind == "phi" and judge.size == 16 and seen.shape == (3, 16)
    np.testing.assert_allclose(vectors, tower(images, training=False), rtol=1e-4)
    np.testing.assert_allclose(vectors, seen @ tower.layers[-1].kernel.numpy(), rtol=1e-4)
    np.testing.assert_allclose(judge.see(images.repeat(2, 1).repeat(2, 2))[1], vectors, rtol=0.2)
    np.testing.assert_array_equal(judge.hear(["red petals"]), encoder.encode(["red petals"]))
    inner = judges.Judge(os.path.join(directory, "text_encoder/"))  # as evaluation takes both
    np.testing.assert_array_equal(inner.see(images)[1], vectors)


def test_the_phi_of_the_run_itself_is_refused(judge_dir):
    judge = judges.Judge(judge_dir[0])
    judge.require_other("another", "runs/a")
    with pytest.raises(ValueError, match="the text encoder that runs/a was trained with.*train another"):
        judge.require_other(judge_dir[1].fingerprint, "runs/a")


def test_no_tower_and_another_file_are_told(judge_dir, tmp_path):
    with pytest.raises(FileNotFoundError, match="the image side of a text encoder; train both"):
        features.load_tower(str(tmp_path / features.TOWER))
    whole = dict(np.load(os.path.join(judge_dir[0], features.TOWER)))
    path = str(tmp_path / "tower.npz")
    for change, message in (
        ({"image_size": np.int64(10**9)}, "is no image_tower.npz"),
        ({"w000": np.zeros([4, 4, 3, 3], np.float32)}, "other weights|begins with"),
        ({"w000": np.full([4, 4, 3, 2], np.nan, np.float32)}, "is no image_tower.npz"),
    ):
        np.savez(path, **whole | change)
        with pytest.raises(ValueError, match=message):
            features.load_tower(path)


def test_one_resize_is_bilinear_with_half_pixel_centres():
    """Two pixels to four: 0, 1/4, 3/4, 1 of the way; four to two are averaged with the antialiasing triangle, not
    picked: of a ramp 0..3 it gives (0 * 3 + 1 * 3 + 2) / 7 and its mirror image."""
    row = np.array([0.0, 1.0], np.float32)[None, None, :, None].repeat(2, 1).repeat(3, 3)
    np.testing.assert_allclose(judges.resized(row, 4)[0, 0, :, 0], [0, 0.25, 0.75, 1], atol=1e-6)
    ramp = np.arange(4.0, dtype=np.float32)[None, None, :, None].repeat(4, 1).repeat(3, 3)
    np.testing.assert_allclose(judges.resized(ramp, 2)[0, 0, :, 0], [5 / 7, 3 - 5 / 7], atol=1e-5)


def test_without_weights_the_command_says_so(tmp_path, monkeypatch, capsys, judge_dir):
    """Nothing is fetched; a file that was given and is not there is a mistake; two judges of one kind are one name."""
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    assert judges.load(str(tmp_path), [], "", "") == ([], None)
    said = capsys.readouterr().out
    assert "R-precision left out: no judge at" in said and "--split=test" in said
    assert "FID, KID and Inception score left out: no Inception-v3 weights at" in said and "--inception_weights" in said
    assert not (tmp_path / "keras").exists()
    found, _ = judges.load(str(tmp_path), [judge_dir[0]], "", "")
    assert [judge.kind for judge in found] == ["phi"] and "judge's own features" in capsys.readouterr().out
    with pytest.raises(FileNotFoundError, match="no Inception-v3 weights at none.h5"):
        judges.load(str(tmp_path), [judge_dir[0]], "", "none.h5")
    with pytest.raises(ValueError, match="two of one kind"):
        judges.load(str(tmp_path), [judge_dir[0]] * 2, "", "")


@pytest.mark.slow
def test_inception_of_a_file(tmp_path, monkeypatch):
    """Random weights in a file: features and probabilities are those of Keras' own network on 299 pixels."""
    network = keras.applications.InceptionV3(weights=None)
    path = tmp_path / "models" / judges.INCEPTION.file
    path.parent.mkdir()
    released(network, path)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    images = np.random.default_rng(0).uniform(-1, 1, [2, 299, 299, 3]).astype(np.float32)
    seen, probabilities = judges.Inception().see(images)
    assert seen.shape == (2, 2048)
    np.testing.assert_allclose(probabilities, network(images, training=False), atol=1e-5)
    inner = keras.Model(network.input, network.get_layer("avg_pool").output)
    np.testing.assert_allclose(seen, inner(images, training=False), atol=1e-4)


def released(network, path):
    """Keras' old HDF5 form: attribute layer_names, a group a layer with weight_names and its arrays."""
    import h5py

    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [layer.name.encode() for layer in network.layers]
        file.attrs["backend"], file.attrs["keras_version"] = b"tensorflow", b"2.0.0"
        for layer in network.layers:
            group = file.create_group(layer.name)
            names = [f"{layer.name}/{i}".encode() for i in range(len(layer.weights))]
            group.attrs["weight_names"] = names
            for name, value in zip(names, layer.get_weights(), strict=True):
                group[name.decode()] = value


@pytest.mark.slow
def test_kiros_judge(tmp_path):
    """Of VGG-19 with random weights: v = W fc7 / |fc7| + b with the model's own arrays, which take 4,096 numbers."""
    weights = str(tmp_path / "weights.h5")
    released_layout(weights, random_weights())
    draw, tiny = np.random.default_rng(0), other_encoder("kiros")
    arrays = tiny.released() | {"ff_image_W": draw.normal(size=(4096, tiny.dim)).astype(np.float32)}
    encoder = kiros.Kiros(tiny.vocabulary, arrays, length=12)
    encoder.save(str(tmp_path / "kiros"))
    judge = judges.Judge(str(tmp_path / "kiros"), weights)
    images = draw.uniform(-1, 1, [2, 224, 224, 3]).astype(np.float32)
    seen = features.fc7(features.vgg19(weights), images)
    kernel, bias = encoder.image
    wanted = seen / np.linalg.norm(seen, axis=1, keepdims=True) @ kernel + bias
    found, vectors = judge.see(images)
    np.testing.assert_allclose(found, seen, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(vectors, wanted, rtol=1e-2, atol=1e-3)
    assert (judge.kind, judge.size) == ("kiros", 4096)


class Same:
    """A method that leaves every picture as it is, whatever it hears."""

    def __init__(self):
        self.method = self

    def encode(self, texts):
        return np.zeros([len(texts), 1], np.float32)

    def draw_noise(self, count, seed):
        return np.zeros([count, 1], np.float32)

    def edit(self, image, embedding, noise):
        return tf.identity(image)


def test_measured_by_a_judge(judge_dir):
    """Edits that change nothing: similarity is the source's, and with no difference the manipulative precision; both
    sets are one, at distance 0; R-precision, here the source's, is a sort of 100 cosines a picture."""
    judge, count = judges.Judge(judge_dir[0]), 101
    random = np.random.default_rng(0)
    images = random.uniform(-1, 1, [count, 8, 8, 3]).astype(np.float32)
    words = np.array(WORDS)
    captions = [(" ".join(random.choice(words, 4)),) for _ in range(count)]
    split = Split(
        [""] * count, tf.constant([""] * count), [b""] * count, [""] * count, np.arange(count), captions, None
    )
    pairs = protocol.Pairs(split, [each[0] for each in captions[1:] + captions[:1]], np.full(count, ""))
    found, values = measure.measure(Same(), images, None, pairs, 2, 0, None, [judge])
    near = [
        metrics.cosine(picture, sentence)
        for picture, sentence in zip(judge.see(images)[1], judge.hear(list(pairs.sentences)), strict=True)
    ]
    for name in ("similarity_phi", "similarity_source_phi", "manipulative_precision_phi"):
        np.testing.assert_allclose(values[name], near, rtol=1e-4, err_msg=name)
    assert found["frechet_phi16_n101"] == pytest.approx(0, abs=1e-4) and "kernel_phi16_n101_std" in found
    assert abs(found["kernel_phi16_n101"]) < 0.1
    vectors, heard = judge.see(images)[1], judge.hear(list(pairs.sentences))
    table = metrics.cosine(vectors[:, None], heard[None])
    judged = measure._Judged(judge, pairs.sentences, pairs.sentences, count)
    for row in range(count):
        wrong = judged.others(row, pairs.sentences[row])
        assert len(set(wrong)) == 99 and pairs.sentences[row] not in [pairs.sentences[i] for i in wrong]
        best = table[row, [row, *wrong]]
        expected = 0.0 if (best[1:] > best[0] + 1e-6).any() else 1 / (np.abs(best - best[0]) <= 1e-6).sum()
        assert values["r_precision_100_phi"][row] == values["r_precision_100_source_phi"][row] == expected
    few = protocol.Pairs(split.take(np.arange(40)), pairs.sentences[:40], np.full(40, ""))
    without, _ = measure.measure(Same(), images[:40], None, few, 2, 0, None, [judge])
    assert "similarity_phi" in without and "r_precision_100_phi" not in without
    assert without["frechet_phi16_n40"] == pytest.approx(0, abs=1e-4) and "kernel_phi16_n40" not in without
