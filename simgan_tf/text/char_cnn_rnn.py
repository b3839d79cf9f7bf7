"""phi as Reed et al. 2016 made it, the encoder of the StackGAN line: characters, convolutions, a recurrent network."""

import os
from collections.abc import Mapping

import numpy as np
import tensorflow as tf

from data.captions import ALPHABET
from simgan_tf.text import char_cnn_rnn_t7, stored
from simgan_tf.text import tokens as tokens_lib
from simgan_tf.text.released_tokens import Characters

LENGTH = 201  # characters kept of a sentence
WIDTH = 4  # characters or frames under a convolution
SHAPES = {  # of the arrays, by recurrence; A characters, F1 F2 C channels, D numbers a sentence, G = 3 C, H = 2 C
    "gru": {
        "conv1_kernel": "4 A F1", "conv1_bias": "F1", "conv2_kernel": "4 F1 F2", "conv2_bias": "F2",
        "conv3_kernel": "4 F2 C", "conv3_bias": "C", "input_kernel": "C G", "input_bias": "G",
        "gate_kernel": "C H", "gate_bias": "H", "state_kernel": "C C", "state_bias": "C",
        "dense_kernel": "C D", "dense_bias": "D",
    },
    "rnn": {
        "conv1_kernel": "4 A F1", "conv1_bias": "F1", "conv2_kernel": "4 F1 F2", "conv2_bias": "F2",
        "conv3_kernel": "4 F2 C", "conv3_bias": "C", "input_kernel": "C C", "input_bias": "C",
        "state_kernel": "C C", "state_bias": "C", "dense_kernel": "C D", "dense_bias": "D",
    },
}  # fmt: skip


class CharCnnRnn(tokens_lib.Phi):
    """phi(t) = phi_scale * (V mean_i(h_i) + d), h_1 .. h_n the states of a recurrent network over pooled convolutions.

    A sentence is 201 characters, each a row of 70 with a single 1, or of zeros for padding and unknown ones.
        x = relu(conv(.)), pooled 3 by 3, twice; then relu(conv(.)): 201 -> 198, 66, 63, 21, 18 frames; kernels 4 wide
    recurrence "gru" (the birds' encoder, 18 frames), not the usual one:
        h_1 = tanh(W x_1 + b), without gates;  u, r = sigmoid(W_u x + b_u + U_u h + c_u), likewise r
        g = tanh(W x + b + U (r * h) + c);   h' = u * g + (1 - u) * h
    recurrence "rnn" (the flowers' encoder, a third pool of 3 by 2, so 8 frames):
        h_1 = relu(W x_1 + b);   h' = relu(W x + b + U h + c)
    Source: HybridCNNLong.lua and FixedGRU.lua of the icml2016 code, HybridCNN.lua and FixedRNN.lua of cvpr2016.
    Differs: capitals are read as small letters; the Lua code, whose data has none, leaves their rows zero.
    Differs: relu, where nn.Threshold also cuts what lies between 0 and 1e-6.

    Attributes: recurrence, dim (D), length (T, 201), phi_scale, name, vocabulary (`Characters`).
    """

    kind = "char_cnn_rnn"
    trim = False  # its convolutions see all places, padding too
    length = LENGTH

    def __init__(
        self, arrays: Mapping[str, np.ndarray], *, phi_scale: float = 1.0, name: str = "char-CNN-RNN"
    ) -> None:
        """arrays: by the names of SHAPES. Raises: ValueError for one that is missing, of another shape, not finite."""
        if phi_scale <= 0:
            raise ValueError(f"phi_scale={phi_scale} must be above 0")
        self.recurrence = "gru" if "gate_kernel" in arrays else "rnn"
        sizes = _check(arrays, SHAPES[self.recurrence])
        self.vocabulary, self.name = Characters(ALPHABET), name
        self.dim, self.phi_scale = sizes["D"], float(phi_scale)
        self._weights = {
            key: tf.Variable(np.float32(arrays[key]), trainable=False, name=key) for key in SHAPES[self.recurrence]
        }
        self._embed = tf.function(self.embed, input_signature=[tf.TensorSpec((None, LENGTH), tf.int32)])

    @property
    def variables(self) -> list[tf.Variable]:
        """The raw variables, in the order of SHAPES."""
        return list(self._weights.values())

    def embed(self, tokens: tf.Tensor) -> tf.Tensor:
        """phi [B, dim] float32 of tokens [B, 201] int32; inside tf.function and exports too."""
        weight = self._weights
        x = tf.one_hot(tokens - 1, len(self.vocabulary.alphabet))  # [B, 201, 70]; id 0 is a row of zeros
        for i, pooled in ((1, True), (2, True), (3, False)):
            x = tf.nn.conv1d(x, weight[f"conv{i}_kernel"], 1, "VALID") + weight[f"conv{i}_bias"]
            x = tf.nn.relu(x)  # [B, 198, F1], [B, 63, F2], [B, 18, C]
            if pooled:
                x = tf.nn.max_pool1d(x, 3, 3, "VALID")  # [B, 66, F1], [B, 21, F2]
        if self.recurrence == "rnn":
            x = tf.nn.max_pool1d(x, 3, 2, "VALID")  # [B, 8, C]
        frames = tf.unstack(tf.tensordot(x, weight["input_kernel"], 1) + weight["input_bias"], axis=1)  # [B, G or C]
        state = self._first(frames[0])
        total = state
        for frame in frames[1:]:
            state = self._next(frame, state)
            total += state
        return self.phi_scale * (tf.matmul(total / len(frames), weight["dense_kernel"]) + weight["dense_bias"])

    def _first(self, frame: tf.Tensor) -> tf.Tensor:
        return tf.nn.relu(frame) if self.recurrence == "rnn" else tf.tanh(tf.split(frame, 3, axis=1)[2])

    def _next(self, frame: tf.Tensor, state: tf.Tensor) -> tf.Tensor:
        weight = self._weights
        if self.recurrence == "rnn":
            return tf.nn.relu(frame + tf.matmul(state, weight["state_kernel"]) + weight["state_bias"])
        update, reset, candidate = tf.split(frame, 3, axis=1)
        gates = tf.matmul(state, weight["gate_kernel"]) + weight["gate_bias"]
        update, reset = (tf.sigmoid(a + b) for a, b in zip((update, reset), tf.split(gates, 2, axis=1), strict=True))
        candidate = tf.tanh(candidate + tf.matmul(reset * state, weight["state_kernel"]) + weight["state_bias"])
        return update * candidate + (1.0 - update) * state

    @property
    def fingerprint(self) -> str:
        """sha256 of all that decides what `encode` gives: two encoders with the same one are the same."""
        settings = (self.kind, self.recurrence, self.dim, self.length, self.phi_scale, self.vocabulary.alphabet)
        return stored.fingerprint(settings, self.variables)

    def save(self, directory: str) -> None:
        """Writes encoder.json and weights.npz, which are all that `load` needs."""
        facts = {key: getattr(self, key) for key in ("kind", "name", "recurrence", "dim", "length", "phi_scale")}
        stored.write(directory, facts, {key: variable.numpy() for key, variable in self._weights.items()})

    @classmethod
    def load(cls, path: str) -> "CharCnnRnn":
        """The encoder of a folder that `save` wrote, or of a Torch file of Reed et al., NAME.t7.

        Raises: FileNotFoundError; ValueError naming the file, what it holds and what was expected.
        """
        if os.path.isdir(path):
            stored.check_complete(path, (stored.FACTS, stored.WEIGHTS))
            facts = stored.read_facts(path, ("name", "phi_scale", "recurrence"), cls.kind)
            if facts["recurrence"] not in SHAPES:
                raise ValueError(f"{path}/{stored.FACTS} has recurrence {facts['recurrence']!r}, not gru or rnn")
            arrays = stored.read_weights(path, list(SHAPES[facts["recurrence"]]))
            settings = {"phi_scale": facts["phi_scale"], "name": facts["name"]}
        else:
            arrays, settings = char_cnn_rnn_t7.read(path), {}
        try:
            return cls(arrays, **settings)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error


def _check(arrays: Mapping[str, np.ndarray], shapes: Mapping[str, str]) -> dict[str, int]:
    """Sizes by letter. Raises: ValueError for an array that is missing, of another shape or type, or not finite."""
    missing = [key for key in shapes if key not in arrays]
    if missing:
        raise ValueError(f"no char-CNN-RNN: it lacks {', '.join(missing)}; it has {', '.join(list(arrays)[:9])}")
    sizes = {"4": WIDTH, "A": len(ALPHABET)}
    for key, letters in shapes.items():
        array = arrays[key]
        letters = letters.split()
        if array.ndim == len(letters):
            for letter, size in zip(letters, array.shape, strict=True):
                if letter not in "GH":
                    sizes.setdefault(letter, size)
        if "C" in sizes:
            sizes |= {"G": 3 * sizes["C"], "H": 2 * sizes["C"]}
        expected = [sizes.get(letter, letter) for letter in letters]
        if array.dtype.kind != "f" or list(array.shape) != expected or 0 in array.shape:
            raise ValueError(f"{key} is {array.dtype} {list(array.shape)}, expected float32 {expected}")
        if not np.isfinite(array).all():
            raise ValueError(f"{key} has {np.sum(~np.isfinite(array))} values that are not finite")
    return sizes
