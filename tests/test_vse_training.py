"""Tests of phi's training: the ranking loss in all its forms, the bag of words, pairs and batches, the commands.
Expected values are hand sums or a second numpy version."""

import functools
import json
import os
import types

import keras
import numpy as np
import pytest
import tensorflow as tf
from absl import flags

from simgan_tf import keras2
from simgan_tf.text import nearest, pairs, train, vse
from simgan_tf.text import tokens as tokens_lib
from simgan_tf.text import training as train_lib
from simgan_tf.text.tokens import Vocabulary
from simgan_tf.text.vse import TextEncoder
from tests.tiny import run, toy_records

WORDS = ["this", "flower", "has", "red", "blue", "petals", "a"]


@pytest.fixture(scope="module")
def vocabulary():
    return Vocabulary(WORDS)


@pytest.fixture
def bow(vocabulary):
    keras.utils.set_random_seed(5)
    encoder = TextEncoder(vocabulary, dim=4, word_dim=4, length=6, phi_scale=2.5, architecture="bow")
    encoder.variables[0].assign(np.random.default_rng(0).normal(size=(9, 4)))
    return encoder


def loss_by_loops(images, sentences, margin, reduction, image_side, hardest):
    """The docstring's sums, term by term in float64."""

    def unit(row):
        return row / np.linalg.norm(row)

    count, total = len(images), 0.0
    if image_side == "normalised":
        images = [unit(row) for row in images]
    score = [[float(np.dot(image, unit(sentence))) for sentence in sentences] for image in images]
    for i in range(count):
        wrong_sentences = [max(0.0, margin - score[i][i] + score[i][j]) for j in range(count) if j != i]
        wrong_images = [max(0.0, margin - score[i][i] + score[j][i]) for j in range(count) if j != i]
        over = max if hardest else sum
        total += over(wrong_sentences) + over(wrong_images)
    return total / count if reduction == "mean" else total


def test_ranking_loss_by_hand_in_its_forms():
    """Images (2, 0), (0.6, 0.8), (0, 1), sentences (1, 0), (0, 1), (0.8, 0.6), margin 0.2, rows are images.

    Cosines [[1, 0, .8], [.6, .8, .96], [0, 1, .6]]. Hinges of image i over wrong sentences (0.2 - S_ii + S_ij):
    image 0: -.8, 0; image 1: 0, .36; image 2: -.4, .6. Sum .96, of the largest .96.
    Of sentence i over wrong images (0.2 - S_ii + S_ji): sentence 0: -.2, -.8; sentence 1: -.6, .4; sentence 2: .4, .56.
    Sum 1.36, of the largest 0 + .4 + .56 = .96. All: 2.32; hardest: 1.92.
    Raw, the first row of S is doubled to 2, 0, 1.6: image 0: -1.8, -.2; sentence 1 against image 0: still -.6;
    sentence 2 against image 0: 0.2 - .6 + 1.6 = 1.2; sentence 0: 0.2 - 2 + ... < 0.
    Sum .96 + (.4 + 1.2 + .56) = 3.12; hardest .96 + .4 + 1.2 = 2.56.
    """
    images = tf.constant([[2.0, 0.0], [0.6, 0.8], [0.0, 1.0]])
    sentences = tf.constant([[3.0, 0.0], [0.0, 0.5], [0.8, 0.6]])
    for image_side, hardest, expected in (
        ("normalised", False, 2.32),
        ("normalised", True, 1.92),
        ("raw", False, 3.12),
        ("raw", True, 2.56),
    ):
        for reduction, divisor in (("sum", 1.0), ("mean", 3.0)):
            found = vse.ranking_loss(
                images, sentences, 0.2, reduction=reduction, image_side=image_side, hardest=hardest
            )  # fmt: skip
            assert float(found) == pytest.approx(expected / divisor, abs=1e-6)


@pytest.mark.parametrize("hardest", [False, True])
@pytest.mark.parametrize("image_side", vse.IMAGE_SIDES)
@pytest.mark.parametrize("reduction", vse.REDUCTIONS)
def test_ranking_loss_is_the_loop(reduction, image_side, hardest):
    random = np.random.default_rng(3)
    images, sentences = random.normal(size=(7, 5)), random.normal(size=(7, 5))
    settings = dict(reduction=reduction, image_side=image_side, hardest=hardest)
    expected = loss_by_loops(images, sentences, 0.3, **settings)
    found = vse.ranking_loss(tf.constant(images, tf.float32), tf.constant(sentences, tf.float32), 0.3, **settings)
    assert float(found) == pytest.approx(expected, rel=1e-5) and expected > 0.1


def test_ranking_loss_at_its_limits():
    """All vectors equal: B - 1 others or one, two directions. One pair has no negative. Zero vectors give no NaN."""
    ones = tf.ones([5, 4])  # of length 2
    assert float(vse.ranking_loss(ones, ones, 0.2, reduction="sum")) == pytest.approx(5 * 2 * 4 * 0.2, abs=1e-4)
    assert float(vse.ranking_loss(ones, ones, 0.2, hardest=True)) == pytest.approx(2 * 0.2, abs=1e-5)
    for settings in ({}, {"hardest": True}, {"reduction": "sum", "image_side": "raw"}):
        assert float(vse.ranking_loss(ones[:1], ones[:1], 0.2, **settings)) == 0.0
        zeros = tf.Variable(tf.zeros([3, 4]))
        with tf.GradientTape() as tape:
            loss = vse.ranking_loss(ones[:3], zeros, 0.2, **settings)
        assert np.isfinite(float(loss)) and np.isfinite(tape.gradient(loss, zeros).numpy()).all()


def test_ranking_loss_refuses_unknown_forms():
    for settings, message in (
        ({"reduction": "none"}, "reduction='none' must be one of mean, sum"),
        ({"image_side": "Raw"}, "image_side='Raw' must be one of normalised, raw"),
    ):
        with pytest.raises(ValueError, match=message):
            vse.ranking_loss(tf.ones([2, 2]), tf.ones([2, 2]), 0.2, **settings)


def test_retrieval_of_more_images_than_a_block():
    """Against ranks by sorting, one row at a time; no ties among random cosines."""
    random = np.random.default_rng(0)
    n, k = vse.BLOCK + 44, 2
    sentences = random.normal(size=(n * k, 8))
    images = sentences[::k] + 2.0 * random.normal(size=(n, 8))

    def unit(rows):
        return rows / np.linalg.norm(rows, axis=1)[:, None]

    cosines = unit(images) @ unit(sentences).T
    best = [int(np.argmax(row // k == i)) + 1 for i, row in enumerate(np.argsort(-cosines, axis=1))]
    place = [int(np.argmax(row == j // k)) + 1 for j, row in enumerate(np.argsort(-cosines.T, axis=1))]
    found = vse.retrieval(images, sentences)
    for way, ranks in (("image_to_text", np.array(best)), ("text_to_image", np.array(place))):
        expected = {f"recall_at_{r}": np.mean(ranks <= r) for r in (1, 5, 10)} | {"median_rank": np.median(ranks)}
        assert found[way] == pytest.approx(expected)
        assert 0.05 < found[way]["recall_at_10"] < 0.95
    total = sum(np.mean(ranks <= r) for ranks in (np.array(best), np.array(place)) for r in (1, 5, 10))
    assert vse.recall_sum(found) == pytest.approx(total)


def test_bow_is_the_mean_of_the_words(bow):
    """By numpy over the words that are there; <unk> counts as a word, padding and order do not."""
    table = bow.variables[0].numpy().astype(np.float64)
    texts = ["red petals", "a zebra has petals", "this flower has red petals a blue", "red"]
    rows = [bow.vocabulary.ids(text)[:6] for text in texts]  # the third is cut after 6 of 7 words
    expected = np.stack([2.5 * table[row].sum(axis=0) / len(row) for row in rows])
    np.testing.assert_allclose(bow.encode(texts), expected, atol=1e-6)
    padded = bow.embed(tf.constant([[5, 7, 0, 0, 0, 0, 0, 0]], tf.int32)).numpy()
    np.testing.assert_allclose(padded, bow.embed(tf.constant([[7, 5]], tf.int32)).numpy(), atol=1e-6)


def test_bow_of_no_words_is_zero_with_a_finite_gradient(bow):
    table = bow.trainable_variables[0]
    with tf.GradientTape() as tape:
        state = bow.embed(tf.constant([[0, 0, 0], [2, 0, 0]], tf.int32))
        loss = tf.reduce_sum(tf.math.l2_normalize(state, axis=1))
    np.testing.assert_array_equal(state.numpy()[0], np.zeros(4))
    gradient = tf.convert_to_tensor(tape.gradient(loss, keras2.raw(table))).numpy()
    assert np.isfinite(gradient).all() and gradient[0].tolist() == [0, 0, 0, 0] and np.abs(gradient[2]).max() > 0


def test_bow_saves_and_loads(bow, tmp_path):
    path = str(tmp_path / "text_encoder")
    bow.training = {"encoder": "bow"}
    bow.save(path)
    with np.load(os.path.join(path, "weights.npz")) as arrays:
        assert list(arrays) == ["embedding"]
    loaded = TextEncoder.load(path)
    assert (loaded.architecture, loaded.dim, loaded.phi_scale, loaded.gru) == ("bow", 4, 2.5, None)
    assert loaded.training == bow.training and loaded.fingerprint == bow.fingerprint
    np.testing.assert_array_equal(loaded.encode(["a red flower", ""]), bow.encode(["a red flower", ""]))


def test_folders_that_name_no_architecture_are_grus(vocabulary, bow, tmp_path):
    path = tmp_path / "text_encoder"
    encoder = TextEncoder(vocabulary, dim=3, word_dim=2)
    encoder.save(str(path))
    facts = json.loads((path / "encoder.json").read_text())
    assert facts.pop("architecture") == "gru"
    (path / "encoder.json").write_text(json.dumps(facts))
    loaded = TextEncoder.load(str(path))
    np.testing.assert_array_equal(loaded.encode(["red"]), encoder.encode(["red"]))
    bow.save(str(path))
    facts = json.loads((path / "encoder.json").read_text())
    for changed, message in (
        ({"architecture": "gru"}, "weights.npz: 'gru_kernel' is missing, expected embedding, gru_kernel"),
        ({"architecture": "lstm"}, "architecture='lstm' of the text encoder must be one of gru, bow"),
        ({"dim": 5}, "dim=5 must equal word_dim=4 for a bow encoder"),
    ):
        (path / "encoder.json").write_text(json.dumps(facts | changed))
        with pytest.raises(ValueError, match=message):
            TextEncoder.load(str(path))


def toy_pairs(vocabulary, of_features=False):
    """8 red or blue pictures of 20 px, or features that point their way, two captions each that name the colour."""
    colours = [("red", "blue")[i % 2] for i in range(8)]
    images = np.zeros((8, 20, 20, 3), np.uint8)
    images[0::2, ..., 0] = images[1::2, ..., 2] = 220
    if of_features:
        images = np.random.default_rng(0).normal(size=(8, 6)).astype(np.float32) * 0.1
        images[0::2, 0] += 1.0
        images[1::2, 1] += 1.0
    return pairs.to_pairs(images, [(f"a {colour} flower", f"this has {colour} petals") for colour in colours],
                          vocabulary, 5)  # fmt: skip


SETTINGS = dict(image_size=16, image_width=4, steps=40, batch_size=4, learning_rate=5e-3, margin=0.2, word_dropout=0.0,
                validate_every=20, seed=0)  # fmt: skip


def test_pairs_of_pictures_and_of_features(vocabulary):
    """first = 0, 2, 4, ...; features are taken as they are, pictures are cropped and scaled to [-1, 1]."""
    pixels, vectors = toy_pairs(vocabulary), toy_pairs(vocabulary, of_features=True)
    assert pixels.first.tolist() == vectors.first.tolist() == list(range(0, 17, 2)) and len(vectors) == 8
    assert pixels.tokens[2].tolist() == [*vocabulary.ids("a blue flower"), 0, 0]
    rows = np.array([5, 0, 3])
    images, tokens = pairs.draw(vectors, rows, 16, 0.0, np.random.default_rng(0))
    np.testing.assert_array_equal(images, vectors.images[rows])
    assert tokens.shape[0] == 3 and tokens_lib.PAD not in tokens[:, 0]
    assert pairs.central(vectors, 16) is vectors.images and pairs.central(pixels, 16).shape == (8, 16, 16, 3)
    np.testing.assert_array_equal(pairs.to_network(tf.constant(vectors.images)).numpy(), vectors.images)
    assert float(pairs.to_network(tf.constant([255], tf.uint8))[0]) == 1.0


@pytest.mark.parametrize(
    "architecture, of_features, settings",
    [
        ("bow", False, {}),
        ("gru", True, {"reduction": "sum", "image_side": "raw"}),
        ("bow", True, {"hardest": True}),
    ],
)
def test_every_form_learns_to_part_the_colours(vocabulary, architecture, of_features, settings):
    """Of 8 pictures the 4 of the right colour come before the 4 of the wrong one for every sentence, so that R@5 is 1;
    chance gives 5 / 8."""
    keras.utils.set_random_seed(0)
    encoder = TextEncoder(vocabulary, dim=6, word_dim=6, length=5, architecture=architecture)
    toy, rows = toy_pairs(vocabulary, of_features), []
    tower = train_lib.train(encoder, toy, toy, **SETTINGS, **settings, log=rows.append)
    assert [row["step"] for row in rows] == [20, 40] and all(np.isfinite(row["loss"]) for row in rows)
    best = max(rows, key=lambda row: row["rsum"])
    assert best["rsum"] == pytest.approx(vse.recall_sum(best["validation"]))
    assert train_lib.measure(encoder, tower, toy, 16) == best["validation"]
    assert best["validation"]["text_to_image"]["recall_at_5"] == 1.0


def test_frozen_words_stay(vocabulary):
    encoder = TextEncoder(vocabulary, dim=6, word_dim=6, length=5)
    encoder.embedding.trainable = False
    before = [variable.numpy() for variable in encoder.variables]
    toy = toy_pairs(vocabulary, of_features=True)
    train_lib.train(encoder, toy, toy, **SETTINGS | {"steps": 3}, log=lambda row: None)
    after = [variable.numpy() for variable in encoder.variables]
    np.testing.assert_array_equal(after[0], before[0])
    assert all((now != then).any() for now, then in zip(after[1:], before[1:], strict=True))


def test_flags_that_do_not_go_together(vocabulary, tmp_path):
    (tmp_path / "two.txt").write_text("red 1 2\n")
    plain = dict(freeze_words=False, word_vectors="", encoder="gru", dim=4, word_dim=0, length=5, phi_scale=0.0)
    two = {"word_vectors": str(tmp_path / "two.txt")}
    for changed, message in (
        ({"freeze_words": True}, "freeze_words=True needs --word_vectors"),
        ({"freeze_words": True, "encoder": "bow"} | two, "nothing to train in encoder=bow"),
        ({"encoder": "bow"} | two, "dim=4 must equal word_dim=2"),
        ({"word_dim": 3} | two, "word_dim=3 of the encoder, but the word vectors have 2 numbers"),
    ):
        with pytest.raises(ValueError, match=message):
            train_lib._new_encoder(types.SimpleNamespace(**plain | changed), vocabulary)
    for changed, word_dim in (({}, 300), ({"encoder": "bow"}, 4), (two, 2), ({"word_dim": 7}, 7)):
        encoder, _ = train_lib._new_encoder(types.SimpleNamespace(**plain | changed), vocabulary)
        assert encoder.word_dim == word_dim
    with pytest.raises(ValueError, match="load_size=15 must be at least image_size=16"):
        train_lib._picture_source(types.SimpleNamespace(image_features="cnn", load_size=15, image_size=16))
    with pytest.raises(FileNotFoundError, match="no VGG-19 weights at /none.h5"):
        train_lib._picture_source(types.SimpleNamespace(image_features="vgg19", vgg19_weights="/none.h5"))


def test_flags_offer_what_the_encoder_takes(monkeypatch):
    """train.py cannot ask vse.py, which starts TensorFlow."""
    values = flags.FlagValues()
    for name in ("DEFINE_string", "DEFINE_bool", "DEFINE_enum", "DEFINE_integer", "DEFINE_float"):
        monkeypatch.setattr(flags, name, functools.partial(getattr(flags, name), flag_values=values))
    train.define_flags()
    offered = {"encoder": list(vse.WEIGHTS), "reduction": list(vse.REDUCTIONS), "image_side": list(vse.IMAGE_SIDES)}
    assert {name: list(values[name].parser.enum_values) for name in offered} == offered


def test_nearest_captions(bow):
    """Of equal words the first spelling, by cosine, and a caption without words last of the fitting ones."""
    captions = ["A blue flower.", "a red flower", "a blue flower", "!", "Red petals", "red, petals"]
    found = nearest.nearest(bow, "flower blue a", captions, 9)
    assert [caption for _, caption in found][0] == "A blue flower." and len(found) == 4
    vectors = bow.encode(["flower blue a", *(caption for _, caption in found)]).astype(np.float64)
    unit = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    np.testing.assert_allclose([cosine for cosine, _ in found], unit[1:] @ unit[0], atol=1e-6)
    cosines = [cosine for cosine, _ in found]
    assert cosines == sorted(cosines, reverse=True) and dict((c, v) for v, c in found)["!"] == 0.0
    assert len(nearest.nearest(bow, "red", captions, 2)) == 2
    with pytest.raises(ValueError, match="no word of 'zebra' is known"):
        nearest.nearest(bow, "zebra", captions, 2)


def test_commands(tmp_path):
    """A bag of words from a vector file, all test pictures measured; then its nearest captions."""
    toy_records(str(tmp_path))
    (tmp_path / "toy.vec").write_text("3 4\nred 1 0 0 0\nzebra 1 1 1 1\nblue 0 1 0 0\n")
    folders = [f"--records_dir={tmp_path}", f"--run_dir={tmp_path}/run"]
    given = ["--encoder=bow", "--dim=4", f"--word_vectors={tmp_path}/toy.vec", "--length=5", "--steps=2",
             "--batch_size=4", "--image_size=16", "--image_width=2", "--reduction=sum", "--image_side=raw", "--hardest",
             "--measured_images=0"]  # fmt: skip
    train_command, near = (["-m", f"simgan_tf.text.{name}", *folders] for name in ("train", "nearest"))
    done = run(*train_command, *given)
    assert "toy.vec: 3 words of 4 numbers; it has 2 of the 7 words" in done.stdout
    assert "at random stay: flower, a, has, petals, this" in done.stdout
    assert "test split: 6 pictures, 2 sentences each" in done.stdout
    encoder = TextEncoder.load(f"{tmp_path}/run/text_encoder")
    assert (encoder.architecture, encoder.dim, encoder.word_dim) == ("bow", 4, 4)
    expected = {"reduction": "sum", "image_side": "raw", "hardest": True, "word_vectors": "toy.vec", "words_found": 2,
                "freeze_words": False, "image_features": "cnn", "image_size": 16, "best_step": 2,
                "encoder": "bow"}  # fmt: skip
    assert {key: encoder.training[key] for key in expected} == expected
    assert sum(encoder.colours.values()) == 1.0 and 0.2 < encoder.colours["red"] < 0.8  # a colour each caption
    assert (encoder.training["test"]["pictures"], encoder.training["test"]["sentences_each"]) == (6, 2)

    done = run(*near, "--text=A red zebra", "--count=3")
    lines = done.stdout.splitlines()
    assert lines[0] == "not known: zebra"
    cosines, captions = zip(*(line.split(maxsplit=1) for line in lines[1:]), strict=True)
    assert len(set(captions)) == 3 and list(map(float, cosines)) == sorted(map(float, cosines), reverse=True)
