"""phi of all captions in files: the encoder's own vectors to the bit, kept over a kill, made again for others."""

import os

import numpy as np
import pytest

from simgan_tf.text import phi_files
from simgan_tf.text.tokens import Vocabulary
from simgan_tf.text.vse import TextEncoder

WORDS = [chr(97 + i % 26) + chr(97 + i // 26) for i in range(60)]


class Texts:
    """All of a split that is needed: captions, picture by picture, and how many each has."""

    def __init__(self, count, seed=0):
        random = np.random.default_rng(seed)
        sentence = lambda: " ".join(random.choice([*WORDS, "unknown"], random.integers(0, 9)))  # noqa: E731
        self.captions = [tuple(sentence() for _ in range(1 + i % 3)) for i in range(count)]
        self.caption_counts = np.array([len(texts) for texts in self.captions])
        self.flat = [text for texts in self.captions for text in texts]


@pytest.fixture(scope="module")
def encoder():
    return TextEncoder(Vocabulary(WORDS), dim=6, word_dim=5, length=7)


@pytest.fixture(scope="module")
def texts():
    return Texts(700)


def test_the_files_hold_what_the_encoder_gives(encoder, texts, tmp_path):
    """Sentences of 0 to 8 words, different ones in more than one batch of 256. All of them, and any of them."""
    tokens, vectors = phi_files.of_split(str(tmp_path), encoder, texts, "records")
    expected = encoder.encode(texts.flat)
    assert tokens.shape == (len(texts.flat), 7) and vectors.shape == (len(texts.flat), 6) == np.shape(vectors)
    everything = np.arange(len(texts.flat))
    np.testing.assert_array_equal(tokens.read(everything), encoder.tokens(texts.flat))
    np.testing.assert_array_equal(vectors.read(everything), expected)
    some = np.array([900, 3, 3])
    np.testing.assert_array_equal(vectors.read(some), expected[some])


def test_a_large_file_is_read_row_by_row(encoder, texts, tmp_path, monkeypatch):
    monkeypatch.setattr(phi_files, "MAPPED", 1)
    tokens, vectors = phi_files.of_split(str(tmp_path), encoder, texts, "records")
    some = np.array([1200, 0, 77])
    np.testing.assert_array_equal(vectors.read(some), encoder.encode(texts.flat)[some])
    np.testing.assert_array_equal(tokens.read(some), encoder.tokens(texts.flat)[some])


def test_what_was_computed_is_kept_and_not_computed_again(encoder, texts, tmp_path, monkeypatch):
    """The encoder dies at its third block of 256; the next start computes from there, and one after it nothing."""
    monkeypatch.setattr(phi_files, "BLOCK", phi_files.BATCH)
    encode, calls = encoder.encode_tokens, []

    def dying(tokens, batch_size):
        calls.append(len(tokens))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return encode(tokens, batch_size)

    monkeypatch.setattr(encoder, "encode_tokens", dying)
    with pytest.raises(KeyboardInterrupt):
        phi_files.of_split(str(tmp_path), encoder, texts, "records")
    (folder,) = (path for path in tmp_path.iterdir() if path.is_dir())
    assert (folder / "vectors").stat().st_size == 2 * 256 * 6 * 4 and not (folder / "phi.json").exists()
    with open(folder / "vectors", "ab") as file:
        file.write(b"half of a row")
    calls[:] = [0] * 3
    _, vectors = phi_files.of_split(str(tmp_path), encoder, texts, "records")
    different = len({tuple(row) for row in encoder.tokens(texts.flat).tolist()})
    assert sum(calls) == different - 512
    calls.clear()
    _, vectors = phi_files.of_split(str(tmp_path), encoder, texts, "records")
    monkeypatch.undo()
    np.testing.assert_array_equal(vectors.read(np.arange(len(texts.flat))), encoder.encode(texts.flat))
    assert calls == []


def test_other_records_or_another_encoder_get_files_of_their_own(encoder, texts, tmp_path):
    """What is no longer asked for is deleted."""
    phi_files.of_split(str(tmp_path), encoder, texts, "records")
    before = {name for name in os.listdir(tmp_path) if not name.startswith(".")}
    fewer = Texts(50, seed=1)
    _, vectors = phi_files.of_split(str(tmp_path), encoder, fewer, "others")
    after = {name for name in os.listdir(tmp_path) if not name.startswith(".")}
    assert len(before) == len(after) == 1 and before != after
    other = TextEncoder(Vocabulary(WORDS), dim=4, word_dim=5, length=7)
    _, vectors = phi_files.of_split(str(tmp_path), other, fewer, "others")
    np.testing.assert_array_equal(vectors.read(np.arange(90)), other.encode(fewer.flat)[:90])


def test_records_with_embeddings_need_the_ids_alone(encoder, texts, tmp_path):
    tokens, vectors = phi_files.of_split(str(tmp_path), encoder, texts, "records", vectors=False)
    assert vectors is None and tokens.read(np.array([5])).tolist() == encoder.tokens([texts.flat[5]]).tolist()
    _, vectors = phi_files.of_split(str(tmp_path), encoder, texts, "records")  # embeddings were taken out
    np.testing.assert_array_equal(vectors.read(np.array([5])), encoder.encode(texts.flat)[[5]])
