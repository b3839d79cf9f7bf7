"""What every text encoder can do, and one way to load any of them, a trained one or a released file.
Each kind has a module of its own."""

import os
from collections.abc import Sequence
from typing import Protocol

import numpy as np
import tensorflow as tf

from simgan_tf.text import char_cnn_rnn, kiros, stored, vse
from simgan_tf.text.released_tokens import Characters, Dictionary
from simgan_tf.text.tokens import Vocabulary


class TextEncoder(Protocol):
    """phi: sentences -> vectors. vse.TextEncoder, kiros.Kiros and char_cnn_rnn.CharCnnRnn are such encoders."""

    kind: str  # "vse", "kiros" or "char_cnn_rnn"; stands in encoder.json
    name: str  # for people: of the file or training it comes from
    dim: int  # D, numbers a sentence
    length: int  # T, ids that are kept of a sentence
    phi_scale: float  # factor on the network's output, applied in all that is returned
    colours: dict[str, float]  # share of its training captions that has each colour, see notes.py; {} = not counted
    vocabulary: Vocabulary | Dictionary | Characters  # how a sentence becomes ids, in Python and in a graph

    @property
    def variables(self) -> list[tf.Variable]:
        """All raw variables that `embed` reads, for an export."""

    @property
    def fingerprint(self) -> str:
        """sha256 of all that decides what `encode` gives."""

    def encode(self, texts: Sequence[str], batch_size: int = 256) -> np.ndarray:
        """phi [n, dim] float32 of n sentences."""

    def tokens(self, texts: Sequence[str]) -> np.ndarray:
        """Ids [n, length] int32 of n sentences, 0 = padding."""

    def encode_tokens(self, tokens: np.ndarray, batch_size: int = 256) -> np.ndarray:
        """phi [n, dim] float32 of ids [n, length] int32."""

    def embed(self, tokens: tf.Tensor) -> tf.Tensor:
        """phi [B, dim] float32 of ids [B, length] int32, as TensorFlow ops."""

    # Only of the kinds that read words, "vse" and "kiros":
    def word_vectors(self, tokens: tf.Tensor) -> tf.Tensor:
        """The vectors [B, T, E] float32 that phi takes ids [B, T] for, rows of the first of `variables`."""

    def check(self, text: str) -> None:
        """Raises: ValueError for a text of which nothing would reach phi."""

    def unknown_words(self, text: str) -> list[str]:
        """What of `text` phi does not know, each once, in order."""

    def save(self, directory: str) -> None:
        """Writes the folder that `load` reads, complete or not at all."""


KINDS = {"vse": vse.TextEncoder, "kiros": kiros.Kiros, "char_cnn_rnn": char_cnn_rnn.CharCnnRnn}


def load(path: str) -> TextEncoder:
    """The encoder of a folder (a run directory or its text_encoder/), of a Kiros NAME.npz, or a char-CNN-RNN NAME.t7.

    A released Kiros model gets phi_scale = sqrt(dim), see `kiros.gan_scale`; kiros.Kiros.load gives it unscaled.
    Raises: FileNotFoundError; ValueError, both in one line, for what is no encoder.
    """
    if os.path.isdir(path):
        inner = os.path.join(path, "text_encoder")
        if not os.path.isfile(os.path.join(path, stored.FACTS)) and os.path.isdir(inner):
            path = inner
        kind = stored.read_facts(path)["kind"]
        if kind not in KINDS:
            raise ValueError(f"{path}/{stored.FACTS} has kind {kind!r}, this code reads {', '.join(KINDS)}")
        return KINDS[kind].load(path)
    if not os.path.exists(path):
        raise FileNotFoundError(f"no text encoder {path!r}; {EXPECTED}")
    if path.endswith(".npz"):
        encoder = kiros.Kiros.load(path)
        encoder.phi_scale = kiros.gan_scale(encoder.dim)
        return encoder
    if path.endswith(".t7"):
        return char_cnn_rnn.CharCnnRnn.load(path)
    raise ValueError(f"{path!r} is no text encoder; {EXPECTED}")


EXPECTED = (
    "expected a run directory with text_encoder/, the NAME.npz of a Kiros model (its dictionary and options are found "
    "beside it), or the NAME.t7 of a char-CNN-RNN"
)
