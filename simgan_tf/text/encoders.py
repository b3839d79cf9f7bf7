"""One way to load any text encoder, a trained one or a released file. What each can do stands in tokens.Phi."""

import os

from simgan_tf.text import char_cnn_rnn, kiros, stored, vse
from simgan_tf.text.tokens import Phi as TextEncoder

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
