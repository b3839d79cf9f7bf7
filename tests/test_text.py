"""Tests of simgan_tf.text: the vocabulary, phi, its loss and measure, and a short training; of words see test_words.
Expected values come from tables, hand sums or a second numpy version."""

import json
import math
import os

import keras
import numpy as np
import pytest
import tensorflow as tf

from simgan_tf.text import training as train_lib
from simgan_tf.text import vse
from simgan_tf.text.tokens import Vocabulary
from simgan_tf.text.vse import TextEncoder
from tests.tiny import run, toy_records

CAPTIONS = ["this flower has red petals", "this flower has blue petals", "a red flower with 5 petals"]


@pytest.fixture(scope="module")
def vocabulary():
    return Vocabulary.build(CAPTIONS)


@pytest.fixture(scope="module")
def encoder(vocabulary):
    keras.utils.set_random_seed(3)
    made = TextEncoder(vocabulary, dim=7, word_dim=5, length=6, phi_scale=2.5)
    random = np.random.default_rng(0)
    for variable in made.variables:  # larger than the initial values, the biases not zero
        variable.assign(random.normal(size=variable.shape, scale=0.7).astype(np.float32))
    return made


def test_ids_by_frequency_then_alphabet():
    """petals, flower 3 times; has, red, this twice; 5, a, blue, with once: "5" sorts before letters."""
    vocabulary = Vocabulary.build(CAPTIONS)
    assert vocabulary.words == ["flower", "petals", "has", "red", "this", "5", "a", "blue", "with"]
    assert len(vocabulary) == 11
    assert vocabulary.ids("Red WOLF petals") == [5, 1, 3]
    assert Vocabulary.build(CAPTIONS, min_count=2).words == ["flower", "petals", "has", "red", "this"]


def test_batch_pads_and_cuts(vocabulary):
    rows = vocabulary.batch(["red petals", "", "red red red red wolf"], 3)
    assert rows.dtype == np.int32
    assert rows.tolist() == [[5, 3, 0], [0, 0, 0], [5, 5, 5]]


def test_vocabulary_file_and_its_table(vocabulary, tmp_path):
    path = str(tmp_path / "vocabulary.txt")
    vocabulary.save(path)
    with open(path, "rb") as file:
        assert file.read().startswith(b"<pad>\n<unk>\nflower\npetals\n")
    assert os.listdir(tmp_path) == ["vocabulary.txt"]
    assert Vocabulary.load(path).words == vocabulary.words
    texts = ["red wolf, 5 petals", "<unk> flower"]
    table = vocabulary.file_table(path)
    np.testing.assert_array_equal(vocabulary.graph(tf.constant(texts), 5, table), vocabulary.batch(texts, 5))
    assert vocabulary.graph(tf.constant([], tf.string), 4, table).shape == (0, 4)


def test_check_refuses_texts_without_a_known_word(vocabulary):
    vocabulary.check("a purple wolf")
    assert vocabulary.unknown_words("Purple wolf, red, purple!") == ["purple", "wolf"]
    with pytest.raises(ValueError, match="no word of 'purple wolf' is known to this vocabulary of 9 words"):
        vocabulary.check("purple wolf")
    with pytest.raises(ValueError, match="has no word"):
        vocabulary.check(" 🌸 ")
    with pytest.raises(ValueError) as error:
        vocabulary.check("wolf\n" * 1000)
    assert "\n" not in str(error.value) and len(str(error.value)) < 250


@pytest.mark.parametrize(
    "words, message",
    [
        (["Red"], "'Red' is not one"),
        (["red", "red"], "'red' more than once"),
        (["<unk>"], "not one"),
        (["a b"], "not one"),
        ([""], "not one"),
    ],
)
def test_wrong_vocabularies(words, message):
    with pytest.raises(ValueError, match=message):
        Vocabulary(words)


def test_wrong_vocabulary_files(tmp_path):
    path = tmp_path / "vocabulary.txt"
    path.write_text("red\nblue\n")
    with pytest.raises(ValueError, match="is no vocabulary"):
        Vocabulary.load(str(path))
    path.write_text("<pad>\n<unk>\nred\nRed\n")
    with pytest.raises(ValueError, match="vocabulary.txt: vocabulary entry 'Red'"):
        Vocabulary.load(str(path))
    with pytest.raises(ValueError, match="no word occurs 9 times"):
        Vocabulary.build(CAPTIONS, min_count=9)


def loop_gru(encoder: TextEncoder, tokens: list[int]) -> np.ndarray:
    """The GRU of the docstring, one word at a time, in float64."""
    words, kernel, recurrent, bias = (np.float64(variable.numpy()) for variable in encoder.variables)
    d = encoder.dim
    state = np.zeros(d)
    for token in tokens:
        x = words[token] @ kernel + bias[0]
        h = state @ recurrent + bias[1]
        z, r = (1.0 / (1.0 + np.exp(-(x[i : i + d] + h[i : i + d]))) for i in (0, d))
        g = np.tanh(x[2 * d :] + r * h[2 * d :])
        state = z * state + (1.0 - z) * g
    return encoder.phi_scale * state


def test_embed_is_the_gru_of_the_equation(encoder):
    rows = [[2, 3, 4, 5, 6, 7], [8, 1, 0, 0, 0, 0], [2, 0, 0, 0, 0, 0]]
    expected = np.stack([loop_gru(encoder, [token for token in row if token]) for row in rows])
    found = encoder.embed(tf.constant(rows, tf.int32)).numpy()
    assert found.shape == (3, 7) and found.dtype == np.float32
    assert np.abs(expected).max() > 1.0  # beyond what phi_scale = 1 could give
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_padding_changes_nothing(encoder):
    short = encoder.embed(tf.constant([[5, 3]], tf.int32)).numpy()
    long = encoder.embed(tf.constant([[5, 3] + [0] * 20], tf.int32)).numpy()
    np.testing.assert_allclose(long, short, atol=1e-7)
    np.testing.assert_array_equal(encoder.embed(tf.zeros([2, 6], tf.int32)).numpy(), np.zeros((2, 7)))


def test_encode_graph_and_embed_agree(encoder, tmp_path):
    texts = ["red petals", "wolf", "", "this flower has blue petals and more", "red petals", "Flower"]
    expected = np.stack([loop_gru(encoder, encoder.vocabulary.ids(text)[:6]) for text in texts])
    np.testing.assert_allclose(encoder.encode(texts, batch_size=2), expected, atol=1e-5)
    encoder.save(str(tmp_path / "text_encoder"))
    table = encoder.vocabulary.file_table(str(tmp_path / "text_encoder" / "vocabulary.txt"))
    tokens = encoder.vocabulary.graph(tf.constant(texts), encoder.length, table)
    np.testing.assert_allclose(encoder.embed(tokens).numpy(), expected, atol=1e-5)
    assert encoder.encode([]).shape == (0, 7)


def test_float32_under_a_mixed_policy(vocabulary):
    before = keras.mixed_precision.global_policy()
    keras.mixed_precision.set_global_policy("mixed_bfloat16")
    try:
        found = TextEncoder(vocabulary, dim=4, word_dim=3).embed(tf.constant([[2, 3]], tf.int32))
    finally:
        keras.mixed_precision.set_global_policy(before)
    assert found.dtype == tf.float32


def test_save_and_load_restore_values(encoder, tmp_path):
    path = str(tmp_path / "run" / "text_encoder")
    for _ in range(2):  # the second replaces the first
        encoder.save(path)
        assert sorted(os.listdir(tmp_path / "run")) == ["text_encoder"]
        assert sorted(os.listdir(path)) == ["encoder.json", "vocabulary.txt", "weights.npz"]
    loaded = TextEncoder.load(path)
    for before, after in zip(encoder.variables, loaded.variables, strict=True):
        assert isinstance(after, tf.Variable)
        np.testing.assert_array_equal(before.numpy(), after.numpy())
    settings = ("dim", "word_dim", "length", "phi_scale", "name", "training")
    assert [getattr(loaded, key) for key in settings] == [getattr(encoder, key) for key in settings]
    assert loaded.vocabulary.words == encoder.vocabulary.words
    np.testing.assert_array_equal(loaded.encode(CAPTIONS), encoder.encode(CAPTIONS))


def test_load_says_what_is_wrong(encoder, tmp_path):
    path = tmp_path / "text_encoder"
    with pytest.raises(FileNotFoundError, match="no encoder.json in .*simgan_tf.text.train"):
        TextEncoder.load(str(path))
    encoder.save(str(path))
    facts = json.loads((path / "encoder.json").read_text())

    def damaged(**changes):
        (path / "encoder.json").write_text(json.dumps({**facts, **changes}))
        with pytest.raises(ValueError) as error:
            TextEncoder.load(str(path))
        return str(error.value)

    assert "embedding is float32 [11, 5], encoder.json expects float32 [11, 4]" in damaged(word_dim=4)
    assert "gru_kernel is float32 [5, 21], encoder.json expects float32 [5, 24]" in damaged(dim=8)
    assert "has 11 entries, encoder.json says 12" in damaged(vocabulary_size=12)
    assert "format_version 99, this code reads 1" in damaged(format_version=99)
    (path / "encoder.json").write_text("{")
    with pytest.raises(ValueError, match="is no JSON"):
        TextEncoder.load(str(path))
    (path / "encoder.json").write_text(json.dumps(facts))
    (path / "weights.npz").write_bytes(b"PK\x03\x04 cut off")
    with pytest.raises(ValueError, match="weights.npz"):
        TextEncoder.load(str(path))


def test_ranking_loss_by_hand():
    """Cosines S = [[0.8, 0.6], [0, 1]] (rows are images), margin 0.3.

    wrong sentence of image 0: 0.3 - 0.8 + 0.6 = 0.1; of image 1: 0.3 - 1 + 0 < 0, so 0;
    wrong image of sentence 0: 0.3 - 0.8 + 0 < 0, so 0; of sentence 1: 0.3 - 1 + 0.6 < 0, so 0. Sum 0.1 over 2.
    With margin 0.5: 0.3 + 0 + 0 + 0.1 = 0.4 over 2. With 1.0: 0.8 + 0 + 0.2 + 0.6 = 1.6 over 2.
    """
    images = tf.constant([[0.8, 0.6], [0.0, 1.0]]) * [[5.0], [0.1]]  # lengths must not matter
    sentences = tf.constant([[1.0, 0.0], [0.0, 1.0]]) * [[3.0], [0.2]]
    for margin, expected in ((0.3, 0.05), (0.5, 0.2), (1.0, 0.8)):
        assert float(vse.ranking_loss(images, sentences, margin)) == pytest.approx(expected, abs=1e-6)
    assert float(vse.ranking_loss(images[:1], sentences[:1], 0.2)) == 0.0


def test_ranking_loss_of_a_collapsed_batch_is_the_margin_each():
    """All vectors equal: every hinge is the margin; B - 1 others, two directions: 2 (B - 1) margin."""
    ones = tf.ones([5, 3])
    assert float(vse.ranking_loss(ones, ones, 0.2)) == pytest.approx(2 * 4 * 0.2, abs=1e-5)


def test_ranking_loss_pulls_the_pair_together():
    images, sentences = tf.Variable([[1.0, 0.0], [0.0, 1.0]]), tf.constant([[0.6, 0.8], [0.8, 0.6]])
    with tf.GradientTape() as tape:
        loss = vse.ranking_loss(images, sentences, 0.2)
    moved = images - 0.1 * tape.gradient(loss, images)
    assert float(vse.ranking_loss(moved, sentences, 0.2)) < float(loss)


def test_retrieval_of_4_images_and_8_sentences_by_hand():
    """Images are the axes of four dimensions, so a sentence's numbers are its cosines with the images.

    Sentences 2i and 2i + 1 belong to image i. Ranks of the own image: 1 1 | 1 2 | 3 1 | 4 1 -> R@1 5/8, median 1.
    Image 0: its best 0.8, no foreign one above: 1. Image 1: best 1.0: 1. Image 2: best 0.6; foreign 0.9 above: 2.
    Image 3: best 0.6; foreign 0.8 (sentence 3) above: 2. R@1 2/4, median 1.5.
    """
    sentences = np.array([
        [0.8, 0.6, 0.0, 0.0],
        [0.8, 0.36, 0.48, 0.0],
        [0.0, 1.0, 0.0, 0.0],
        [0.0, 0.6, 0.0, 0.8],
        [0.7, 0.5, 0.4, math.sqrt(1 - 0.49 - 0.25 - 0.16)],
        [0.5, 0.5, 0.6, math.sqrt(1 - 0.25 - 0.25 - 0.36)],
        [0.3, 0.3, 0.9, 0.1],
        [0.5, 0.5, math.sqrt(1 - 0.25 - 0.25 - 0.36), 0.6],
    ])  # fmt: skip
    found = vse.retrieval(np.eye(4) * 7.0, sentences * np.arange(1, 9)[:, None])
    assert found["text_to_image"] == {"recall_at_1": 5 / 8, "recall_at_5": 1.0, "recall_at_10": 1.0, "median_rank": 1.0}
    assert found["image_to_text"] == {"recall_at_1": 2 / 4, "recall_at_5": 1.0, "recall_at_10": 1.0, "median_rank": 1.5}


def test_retrieval_at_its_limits():
    """Perfect pairs rank 1; with all vectors equal every rank is 1 + half of the 19 others."""
    perfect = vse.retrieval(np.eye(20), np.eye(20))
    assert perfect["image_to_text"] == perfect["text_to_image"]
    assert perfect["image_to_text"]["recall_at_1"] == 1.0 and perfect["image_to_text"]["median_rank"] == 1.0
    collapsed = vse.retrieval(np.ones((20, 3)), np.ones((20, 3)))["text_to_image"]
    assert collapsed == {"recall_at_1": 0.0, "recall_at_5": 0.0, "recall_at_10": 0.0, "median_rank": 10.5}
    with pytest.raises(ValueError, match="5 sentence vectors for 3 images"):
        vse.retrieval(np.ones((3, 2)), np.ones((5, 2)))


def test_chance_is_what_random_vectors_get():
    expected = vse.chance(40, 3)
    assert expected["text_to_image"]["recall_at_5"] == pytest.approx(5 / 40)
    assert expected["text_to_image"]["median_rank"] == 20
    random = np.random.default_rng(0)
    runs = [vse.retrieval(random.normal(size=(40, 9)), random.normal(size=(120, 9))) for _ in range(100)]
    for way in expected:
        for key in ("recall_at_1", "recall_at_10"):
            assert np.mean([run[way][key] for run in runs]) == pytest.approx(expected[way][key], abs=0.02)
        median = np.mean([run[way]["median_rank"] for run in runs])
        assert median == pytest.approx(expected[way]["median_rank"], rel=0.1)


def colour_pairs(count: int, vocabulary: Vocabulary) -> train_lib.Pairs:
    """Plain red or blue pictures of 20 px, two captions each that name the colour."""
    pixels = np.zeros((count, 20, 20, 3), np.uint8)
    pixels[0::2, ..., 0] = pixels[1::2, ..., 2] = 220
    texts = [f"{words} {('red', 'blue')[i % 2]} petals" for i in range(count) for words in ("this flower has", "a")]
    return train_lib.Pairs(pixels, vocabulary.batch(texts, 6), np.arange(count + 1, dtype=np.int64) * 2)


def test_training_lowers_the_loss_and_parts_the_colours(vocabulary):
    keras.utils.set_random_seed(0)
    encoder = TextEncoder(vocabulary, dim=8, word_dim=8, length=6)
    rows = []
    tower = train_lib.train(
        encoder, colour_pairs(16, vocabulary), colour_pairs(4, vocabulary), image_size=16, image_width=4, steps=150,
        batch_size=2, learning_rate=5e-3, margin=0.2, word_dropout=0.0, validate_every=50, seed=0, log=rows.append,
    )  # fmt: skip
    assert [row["step"] for row in rows] == [50, 100, 150]
    assert rows[-1]["loss"] < rows[0]["loss"]
    vectors = encoder.encode(["this flower has red petals", "a red petals", "this flower has blue petals"])
    red, also_red, blue = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    assert red @ also_red > red @ blue + 0.2

    def score(row):
        return sum(row["validation"][way][f"recall_at_{r}"] for way in row["validation"] for r in (1, 5, 10))

    best = max(rows, key=score)  # the first of equals
    assert train_lib.measure(encoder, tower, colour_pairs(4, vocabulary), 16) == best["validation"]


def test_training_stops_at_a_loss_that_is_not_finite(vocabulary):
    settings = dict(image_size=16, image_width=4, steps=3, learning_rate=1e-3, word_dropout=0.0, validate_every=2,
                    seed=0, log=print)  # fmt: skip
    encoder = TextEncoder(vocabulary, dim=8, word_dim=8, length=6)
    pairs = colour_pairs(4, vocabulary)
    with pytest.raises(ValueError, match="not finite at step 1; lower --learning_rate=0.001"):
        train_lib.train(encoder, pairs, pairs, batch_size=2, margin=float("nan"), **settings)
    with pytest.raises(ValueError, match="batch_size=5 is above the 4 training pictures"):
        train_lib.train(encoder, pairs, pairs, batch_size=5, margin=0.2, **settings)


def test_a_batch_takes_each_pictures_own_captions(vocabulary):
    """Red pictures (even rows) come with "red", crops are 16 of 20 px, word dropout 1 leaves only "<unk>"."""
    pairs = colour_pairs(6, vocabulary)
    rows = np.array([0, 3, 4, 5, 1])
    pixels, tokens = train_lib.draw(pairs, rows, 16, 0.0, np.random.default_rng(0))
    assert pixels.shape == (5, 16, 16, 3) and tokens.dtype == np.int32
    red, blue = vocabulary.ids("red blue")
    assert ((tokens == red).any(axis=1) == (rows % 2 == 0)).all()
    assert ((tokens == blue).any(axis=1) == (rows % 2 == 1)).all()
    assert (pixels[..., 0].max(axis=(1, 2)) == np.where(rows % 2 == 0, 220, 0)).all()
    _, dropped = train_lib.draw(pairs, rows, 16, 1.0, np.random.default_rng(0))
    np.testing.assert_array_equal(dropped, (tokens != 0).astype(np.int32))


def test_held_out_pictures():
    """Every 20th of 60; one of 2; no more than 500 of 30,000."""
    assert np.flatnonzero(train_lib.held_out_mask(60)).tolist() == [19, 39, 59]
    assert np.flatnonzero(train_lib.held_out_mask(2)).tolist() == [1]
    assert train_lib.held_out_mask(30_000).sum() == 500


def test_the_command_trains_once(tmp_path):
    toy_records(str(tmp_path))
    run_dir = tmp_path / "run"
    command = ["-m", "simgan_tf.text.train", f"--records_dir={tmp_path}", f"--run_dir={run_dir}",
               "--dim=6", "--word_dim=4", "--length=5", "--steps=3", "--batch_size=64", "--image_size=16",
               "--image_width=2"]  # fmt: skip
    first = run(*command)
    assert "median rank" in first.stdout and "test split: 6 pictures, 2 sentences each" in first.stdout
    assert "--batch_size=64 is above the 20 pictures to train on: 20 is taken" in first.stdout
    folders = f"--records_dir={tmp_path} --run_dir={run_dir}"
    assert first.stdout.splitlines()[-1] == f"next: python run_train.py --preset=... {folders}"
    encoder = TextEncoder.load(str(run_dir / "text_encoder"))
    assert (encoder.dim, encoder.word_dim, encoder.length, encoder.training["dataset"]) == (6, 4, 5, "toy")
    assert encoder.training["batch_size"] == 20
    # of the 20 pictures not held out 11 are red: flower 40, red 22, a has petals this 20, blue 18
    assert encoder.vocabulary.words == ["flower", "red", "a", "has", "petals", "this", "blue"]
    rows = [json.loads(line) for line in (run_dir / "text_metrics.jsonl").read_text().splitlines()]
    assert rows[0]["step"] == 3 and set(rows[-1]["final"]) == {"validation", "test"}
    written = (run_dir / "text_encoder" / "weights.npz").stat().st_mtime_ns
    second = run(*command)
    assert "is there already (dim 6, 9 words)" in second.stdout
    judge = run(*command, "--split=test", "--steps=1", f"--run_dir={tmp_path / 'judge'}").stdout.splitlines()[-1]
    assert judge.endswith(f"simgan_tf.evaluation --records_dir={tmp_path} --run_dir=... --judges={tmp_path / 'judge'}")
    log = (run_dir / "text_metrics.jsonl").read_bytes()
    third = run(*command, "--overwrite", "--learning_rate=1e38", check=False)
    assert third.returncode == 1 and "not finite at step" in third.stderr.splitlines()[-1]
    assert (run_dir / "text_metrics.jsonl").read_bytes() == log  # with the encoder that it is of
    assert (run_dir / "text_encoder" / "weights.npz").stat().st_mtime_ns == written
