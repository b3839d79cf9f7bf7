"""phi, the sentence encoder, with the image tower, the loss and the measure it is trained by.
Knows no records, no flags and no GAN."""

import hashlib
import json
import os
import zipfile
from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf

from simgan_tf import files
from simgan_tf.text import tokens as tokens_lib
from simgan_tf.text.tokens import Vocabulary

FORMAT_VERSION = 1
WEIGHTS = ("embedding", "gru_kernel", "gru_recurrent_kernel", "gru_bias")


class TextEncoder:
    """phi(t): the last state of a GRU over learned word vectors, times `phi_scale`.

        z, r = sigmoid(x W + b + h U + c)  (first two of three column blocks)
        g = tanh(x W_g + b_g + r * (h U_g + c_g));   h' = z * h + (1 - z) * g;   phi = phi_scale * h_T
    Padding (id 0) leaves h as it is, so a row of all padding gives zeros and more padding changes nothing.
    Source: the visual-semantic embedding of Kiros et al. 2014 as the SISGAN code trains it (GRU of 300 over 300-d
    word vectors, raw last state downstream).
    Differs: word vectors are learned here because the 9 GB fastText file it starts from is no reasonable download.

    Attributes: dim (of phi), word_dim, length (T, words kept of a sentence), phi_scale, name, vocabulary,
    training (facts of the training, plain JSON values). Always float32, whatever the Keras policy.
    """

    def __init__(
        self,
        vocabulary: Vocabulary,
        *,
        dim: int = 300,
        word_dim: int = 300,
        length: int = 30,
        phi_scale: float = 1.0,
        name: str = "vse",
        training: dict | None = None,
    ) -> None:
        for key, value in (("dim", dim), ("word_dim", word_dim), ("length", length), ("phi_scale", phi_scale)):
            if value <= 0:
                raise ValueError(f"{key}={value} of the text encoder must be above 0")
        self.vocabulary, self.name, self.training = vocabulary, name, training or {}
        self.dim, self.word_dim, self.length, self.phi_scale = dim, word_dim, length, float(phi_scale)
        self.embedding = keras.layers.Embedding(
            len(vocabulary), word_dim, embeddings_initializer=_uniform(), dtype="float32"
        )
        self.gru = keras.layers.GRU(  # use_cudnn: the fused op neither exports nor takes a state-keeping mask
            dim, kernel_initializer=_uniform(), reset_after=True, use_cudnn=False, dtype="float32"
        )
        self.embedding.build((None, None))
        self.gru.build((None, None, word_dim))
        self._embed = tf.function(self.embed, input_signature=[tf.TensorSpec((None, None), tf.int32)])

    @property
    def variables(self) -> list[tf.Variable]:
        """The raw variables, in the order of WEIGHTS: [V, E], [E, 3D], [D, 3D], [2, 3D]."""
        return [raw(weight) for weight in (*self.embedding.weights, *self.gru.weights)]

    @property
    def trainable_variables(self) -> list:
        """The same weights as Keras variables, for a Keras optimizer."""
        return [*self.embedding.trainable_weights, *self.gru.trainable_weights]

    def embed(self, tokens: tf.Tensor) -> tf.Tensor:
        """phi [B, dim] float32 of tokens [B, T] int32; inside tf.function and exports too.

        T may be any length from 1 on. For TFLite B and T must be fixed (measured with B = 1).
        """
        state = self.gru(self.embedding(tokens), mask=tf.not_equal(tokens, tokens_lib.PAD))
        return self.phi_scale * state

    def graph(self, strings: tf.Tensor, table: tf.lookup.StaticHashTable | None = None) -> tf.Tensor:
        """phi [B, dim] float32 of strings [B]; table: from `tokens.build_table`, None = one held in memory."""
        return self.embed(tokens_lib.graph(strings, self.vocabulary.table if table is None else table, self.length))

    def encode(self, texts: Sequence[str], batch_size: int = 256) -> np.ndarray:
        """phi [n, dim] float32 of n sentences; unknown words enter as "<unk>"."""
        return self.encode_tokens(self.vocabulary.batch(texts, self.length), batch_size)

    def encode_tokens(self, tokens: np.ndarray, batch_size: int = 256) -> np.ndarray:
        """phi [n, dim] float32 of tokens [n, T] int32. Equal rows are computed once, short ones together."""
        unique, inverse = np.unique(tokens, axis=0, return_inverse=True)
        lengths = (unique != tokens_lib.PAD).sum(axis=1)
        order = np.argsort(lengths, kind="stable")
        vectors = np.zeros((len(unique), self.dim), np.float32)
        for start in range(0, len(order), batch_size):
            rows = order[start : start + batch_size]
            longest = max(int(lengths[rows].max()), 1)
            vectors[rows] = self._embed(tf.constant(unique[rows, :longest], tf.int32)).numpy()
        return vectors[inverse.reshape(-1)]

    def save(self, directory: str) -> None:
        """Writes encoder.json, vocabulary.txt and weights.npz, which are all that `load` needs.

        The folder appears complete or not at all; one that was there is replaced as a whole.
        """
        facts = {
            "format_version": FORMAT_VERSION,
            "name": self.name,
            "dim": self.dim,
            "word_dim": self.word_dim,
            "length": self.length,
            "phi_scale": self.phi_scale,
            "vocabulary_size": len(self.vocabulary),
            "training": self.training,
        }
        weights = {key: variable.numpy() for key, variable in zip(WEIGHTS, self.variables, strict=True)}
        with files.replacing_folder(directory) as folder:
            self.vocabulary.save(os.path.join(folder, "vocabulary.txt"))
            np.savez(os.path.join(folder, "weights.npz"), **weights)
            files.write_text(os.path.join(folder, "encoder.json"), json.dumps(facts, indent=2) + "\n")

    @property
    def fingerprint(self) -> str:
        """sha256 of all that decides what `encode` gives: two encoders with the same one are the same."""
        digest = hashlib.sha256(repr((self.dim, self.length, self.phi_scale, self.vocabulary.words)).encode())
        for variable in self.variables:
            digest.update(variable.numpy().tobytes())
        return digest.hexdigest()

    @classmethod
    def load(cls, directory: str) -> "TextEncoder":
        """The encoder that `save` wrote.

        Raises:
            FileNotFoundError: a file is missing; says how to make it.
            ValueError: files that do not belong together, or are of another format.
        """
        for file_name in ("encoder.json", "vocabulary.txt", "weights.npz"):
            if not os.path.isfile(os.path.join(directory, file_name)):
                raise FileNotFoundError(
                    f"no {file_name} in {directory}; train the text encoder: "
                    f"python -m simgan_tf.text.train --records_dir=... --run_dir={os.path.dirname(directory) or '.'}"
                )
        path = os.path.join(directory, "encoder.json")
        facts = _read_facts(path)
        vocabulary = Vocabulary.load(os.path.join(directory, "vocabulary.txt"))
        if len(vocabulary) != facts["vocabulary_size"]:
            raise ValueError(
                f"{directory}/vocabulary.txt has {len(vocabulary)} entries, encoder.json says "
                f"{facts['vocabulary_size']}; the files are not from one training, copy the whole folder again"
            )
        settings = {key: facts[key] for key in ("dim", "word_dim", "length", "phi_scale", "name", "training")}
        encoder = cls(vocabulary, **settings)
        weights_path = os.path.join(directory, "weights.npz")
        for variable, (key, value) in zip(encoder.variables, _read_weights(weights_path), strict=True):
            if value.shape != tuple(variable.shape) or value.dtype != np.float32:
                raise ValueError(
                    f"{weights_path}: {key} is {value.dtype} {list(value.shape)}, encoder.json expects float32 "
                    f"{variable.shape.as_list()}; the files are not from one training, copy the whole folder again"
                )
            variable.assign(value)
        return encoder


def _read_facts(path: str) -> dict:
    with open(path, encoding="utf-8") as file:
        try:
            facts = json.load(file)
        except ValueError as error:
            raise ValueError(f"{path} is no JSON ({error}); copy the folder again or train anew") from error
    if not isinstance(facts, dict) or facts.get("format_version") != FORMAT_VERSION:
        found = facts.get("format_version") if isinstance(facts, dict) else None
        raise ValueError(f"{path} has format_version {found}, this code reads {FORMAT_VERSION}; train anew")
    for key in ("name", "dim", "word_dim", "length", "phi_scale", "vocabulary_size", "training"):
        if key not in facts:
            raise ValueError(f"{path} lacks {key!r}; copy the folder again or train anew")
    return facts


def _read_weights(path: str) -> list[tuple[str, np.ndarray]]:
    """(name, value) of every weight, in the order of WEIGHTS."""
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as arrays:
            missing = [key for key in WEIGHTS if key not in arrays]
            if missing:
                raise ValueError(f"{missing[0]!r} is missing, expected {', '.join(WEIGHTS)}")
            return [(key, arrays[key]) for key in WEIGHTS]
    except (ValueError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path}: {error}; copy the folder again or train anew") from error


def raw(weight: "keras.Variable | tf.Variable") -> tf.Variable:
    """The tf.Variable of a Keras weight; Keras 2 weights are one, Keras 3 weights hold one."""
    return weight if isinstance(weight, tf.Variable) else weight.value


def image_tower(dim: int, width: int = 32) -> keras.Model:
    """Picture [B, S, S, 3] in [-1, 1] -> vector [B, dim], linear at the end. For training phi only.

    Differs: four 4x4 stride-2 convolutions from scratch (widths w, 2w, 4w, 8w) stand for the frozen VGG fc7,
    because phi has to be trained without a download and in minutes on two cores.
    """
    tower = keras.Sequential(name="image_tower")
    for i in range(4):
        tower.add(keras.layers.Conv2D(width * 2**i, 4, strides=2, padding="same", use_bias=False, dtype="float32"))
        tower.add(keras.layers.BatchNormalization(momentum=0.9, epsilon=1e-5, dtype="float32"))
        tower.add(keras.layers.ReLU(dtype="float32"))  # [B, S/2, S/2, w] .. [B, S/16, S/16, 8w]
    tower.add(keras.layers.GlobalAveragePooling2D(dtype="float32"))  # [B, 8w]
    tower.add(keras.layers.Dense(dim, use_bias=False, dtype="float32"))
    return tower


def ranking_loss(image_vectors: tf.Tensor, sentence_vectors: tf.Tensor, margin: float) -> tf.Tensor:
    """Scalar symmetric pairwise ranking loss of B pairs; row i of both sides is a pair.

    image_vectors, sentence_vectors: [B, D] float32, any length (cosines are used). margin: alpha, in cosine units.
        S = cos(v_i, phi_j);  L = 1/B sum_i sum_{j != i} [max(0, alpha - S_ii + S_ij) + max(0, alpha - S_jj + S_ij)]
    Source: Kiros et al. 2014, Sec. 2.3, with the SISGAN code's normalisation of both sides and division by B.
    As there, every other pair of the batch is a negative, also one whose caption would fit the picture.
    """
    cosines = tf.matmul(
        tf.math.l2_normalize(image_vectors, axis=1), tf.math.l2_normalize(sentence_vectors, axis=1), transpose_b=True
    )  # [B, B], rows are images
    own = tf.linalg.diag_part(cosines)  # [B]
    wrong_sentence = tf.nn.relu(margin - own[:, None] + cosines)
    wrong_image = tf.nn.relu(margin - own[None, :] + cosines)
    others = 1.0 - tf.eye(tf.shape(cosines)[0])
    return tf.reduce_sum(others * (wrong_sentence + wrong_image)) / tf.cast(tf.shape(cosines)[0], tf.float32)


def retrieval(image_vectors: np.ndarray, sentence_vectors: np.ndarray) -> dict[str, dict[str, float]]:
    """Recall and median rank, by cosine, of sentences found from images and of images found from sentences.

    image_vectors: [N, D]; sentence_vectors: [N k, D], the k sentences of image i in rows i k .. i k + k - 1.
    Returns {"image_to_text": r, "text_to_image": r}, r = {recall_at_1, recall_at_5, recall_at_10 (0..1),
    median_rank (1 = best)}. An image's rank is that of the best of its k sentences. Items that tie with the right
    one count half a place each, so that equal captions neither help nor harm.

    Raises:
        ValueError: the number of sentences is no positive multiple of the number of images.
    """
    n = len(image_vectors)
    if n == 0 or len(sentence_vectors) == 0 or len(sentence_vectors) % n:
        raise ValueError(f"{len(sentence_vectors)} sentence vectors for {n} images: must be a positive multiple")
    k = len(sentence_vectors) // n
    cosines = _unit(image_vectors) @ _unit(sentence_vectors).T  # [N, N k]
    own = cosines[np.arange(n * k) // k, np.arange(n * k)]  # [N k]
    best = own.reshape(n, k).max(axis=1)  # [N]
    mine = (np.arange(n * k) // k)[None, :] == np.arange(n)[:, None]  # [N, N k]
    foreign = np.where(mine, -np.inf, cosines)
    return {
        "image_to_text": _summary(_rank(foreign, best[:, None], axis=1)),
        "text_to_image": _summary(_rank(foreign, own[None, :], axis=0)),
    }


def chance(images: int, sentences_per_image: int) -> dict[str, dict[str, float]]:
    """What `retrieval` gives for a random order, in expectation (the median rank to half a place).

    From n k sentences the best of k own ones is beyond place r with probability C(nk - r, k) / C(nk, k).
    """
    n, k = images, sentences_per_image

    def beyond(items: int, own: int, place: int) -> float:
        probability = 1.0
        for i in range(own):
            probability *= max(items - place - i, 0) / (items - i)
        return probability

    def expected(items: int, own: int) -> dict[str, float]:
        recalls = {f"recall_at_{r}": 1.0 - beyond(items, own, r) for r in (1, 5, 10)}
        median = next(r for r in range(1, items + 1) if beyond(items, own, r) <= 0.5)
        return {**recalls, "median_rank": float(median)}

    return {"image_to_text": expected(n * k, k), "text_to_image": expected(n, 1)}


def _unit(vectors: np.ndarray) -> np.ndarray:
    vectors = np.asarray(vectors, np.float64)
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)


def _rank(foreign: np.ndarray, own: np.ndarray, axis: int) -> np.ndarray:
    """1 + foreign items above + half of the foreign items within rounding of the own one."""
    above = (foreign > own + 1e-6).sum(axis=axis)
    tied = (np.abs(foreign - own) <= 1e-6).sum(axis=axis)
    return 1.0 + above + 0.5 * tied


def _summary(ranks: np.ndarray) -> dict[str, float]:
    recalls = {f"recall_at_{r}": float(np.mean(ranks <= r)) for r in (1, 5, 10)}
    return {**recalls, "median_rank": float(np.median(ranks))}


def _uniform() -> keras.initializers.Initializer:
    return keras.initializers.RandomUniform(-0.1, 0.1)  # Source: the code of Kiros et al.
