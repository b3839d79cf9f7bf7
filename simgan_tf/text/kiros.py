"""phi as Kiros, Salakhutdinov and Zemel released it: NAME.npz with NAME.npz.dictionary.pkl."""

import math
import os
from collections.abc import Mapping

import keras
import numpy as np
import tensorflow as tf

from data.readers import arrays as array_files
from data.readers import pickles, sandbox
from simgan_tf import keras2
from simgan_tf.text import stored
from simgan_tf.text import tokens as tokens_lib
from simgan_tf.text.released_tokens import Dictionary

SHAPES = {  # of the arrays of NAME.npz; V words, E numbers a word, D numbers a sentence, I numbers a picture
    "Wemb": "VE",  # row 0 the end of a sentence, row 1 unknown words
    "encoder_W": "EG",  # G = 2 D, columns [reset | update]
    "encoder_b": "G",
    "encoder_U": "DG",
    "encoder_Wx": "ED",
    "encoder_bx": "D",
    "encoder_Ux": "DD",
    "ff_image_W": "ID",
    "ff_image_b": "D",
}
BOW = ("Wemb", "ff_image_W", "ff_image_b")  # what a bag-of-words model has of them, with E = D
DICTIONARY = ".dictionary.pkl"
LENGTH = 101  # ids of a sentence, the end included; the released models saw sentences of up to 100 words
TINY = 1e-30  # under the root of a length, so that a vector of zeros stays zeros


class Kiros(tokens_lib.Phi):
    """phi(t) = phi_scale * h / ||h||, h the last state of a GRU over the words and an end of sentence, or their sum.

        [r, u] = sigmoid(x W + b + h U);   g = tanh(r * (h Ux) + x Wx + bx);   h' = u * h + (1 - u) * g
    Words are what stands between white space, so marks must stand apart ("a dog ."), and the end of the sentence is a
    step of its own. A word is unknown where the dictionary lacks it, and so are the two rarest, whose rows the
    training of the model cut off. Capitals are kept if the dictionary has any, else made small.
    The GRU runs as Keras', whose columns are [update | reset | candidate].
    Source: Kiros et al. 2014 and their visual-semantic-embedding code, tools.py and layers.py.
    Differs: a state of zeros gives zeros, where the code divides 0 by 0.
    Differs: a sentence ends after `length` - 1 words, so that its ids have a fixed shape; the code has no end.

    Attributes: architecture ("gru" or "bow"), dim (D), length (T, ids of a sentence), phi_scale (1 = unit vectors),
    name, vocabulary (a `Dictionary`), image (ff_image_W [I, D] and ff_image_b [D], kept so that `save` writes the whole
    model).
    """

    kind = "kiros"

    def __init__(
        self,
        dictionary: Dictionary,
        arrays: Mapping[str, np.ndarray],
        *,
        length: int = LENGTH,
        phi_scale: float = 1.0,
        name: str = "kiros",
    ) -> None:
        """arrays: as released, see SHAPES; those of a bow model are BOW.

        Raises: ValueError for an array that is missing, of another shape, or not finite.
        """
        if length < 2 or phi_scale <= 0:
            raise ValueError(f"length={length} must be 2 or more and phi_scale={phi_scale} above 0")
        sizes = check(arrays)
        if len(dictionary) - len(dictionary.SPECIAL) + 2 != sizes["V"]:
            raise ValueError(f"the dictionary has {len(dictionary.words)} words for Wemb's {sizes['V']} rows less 2")
        self.vocabulary, self.name = dictionary, name
        self.length, self.phi_scale, self.dim = length, float(phi_scale), sizes["D"]
        self.architecture = "gru" if "encoder_W" in arrays else "bow"
        self.image = tuple(np.float32(arrays[key]) for key in ("ff_image_W", "ff_image_b"))
        self.words = tf.Variable(np.float32(arrays["Wemb"]), trainable=False, name="words")
        self.gru = None
        if self.architecture == "gru":
            self.gru = _gru(arrays, sizes["E"], self.dim)
        self._embed = tf.function(self.embed, input_signature=[tf.TensorSpec((None, None), tf.int32)])

    @property
    def variables(self) -> list[tf.Variable]:
        """The raw variables of the sentence side: [V, E] and, of a GRU, [E, 3D], [D, 3D], [2, 3D]."""
        weights = [] if self.gru is None else self.gru.weights
        return [self.words, *map(keras2.raw, weights)]

    def embed(self, tokens: tf.Tensor) -> tf.Tensor:
        """phi [B, dim] float32 of tokens [B, T] int32 from `tokens`; inside tf.function and exports too."""
        words = self.word_vectors(tokens)
        mask = tf.not_equal(tokens, self.vocabulary.PAD)
        if self.gru is None:
            state = tf.reduce_sum(words * tf.cast(mask, tf.float32)[:, :, None], axis=1)
        else:
            state = self.gru(words, mask=mask)
        return self.phi_scale * tf.math.l2_normalize(state, axis=1, epsilon=TINY)

    def word_vectors(self, tokens: tf.Tensor) -> tf.Tensor:
        """The vectors [B, T, E] float32 that phi takes ids [B, T] for, rows of the first of `variables`."""
        return tf.gather(self.words, tf.maximum(tokens - 1, 0))  # ids are rows + 1, 0 being padding

    @property
    def fingerprint(self) -> str:
        """sha256 of all that decides what `encode` gives: two encoders with the same one are the same."""
        settings = (self.kind, self.architecture, self.dim, self.length, self.phi_scale, self.vocabulary.words)
        return stored.fingerprint(settings, self.variables)

    def released(self) -> dict[str, np.ndarray]:
        """The arrays as the released file has them."""
        words, *gru = (variable.numpy() for variable in self.variables)
        arrays = {"Wemb": words, "ff_image_W": self.image[0], "ff_image_b": self.image[1]}
        if gru:
            (kernel, recurrent, bias), d = gru, self.dim
            for key, array in (("W", kernel), ("U", recurrent), ("b", bias[0])):
                arrays[f"encoder_{key}"] = np.concatenate([array[..., d : 2 * d], array[..., :d]], axis=-1)
                arrays[f"encoder_{key}x"] = array[..., 2 * d :]
        return arrays

    def save(self, directory: str) -> None:
        """Writes encoder.json, vocabulary.txt and weights.npz (arrays as released), which are all that `load` needs."""
        names = ("kind", "name", "architecture", "dim", "length", "phi_scale")
        facts = {name: getattr(self, name) for name in names} | {"vocabulary_size": len(self.vocabulary)}
        stored.write(directory, facts, self.released(), self.vocabulary)

    @classmethod
    def load(cls, path: str, phi_scale: float = 1.0) -> "Kiros":
        """The encoder of a folder that `save` wrote, or of a released NAME.npz with NAME.npz.dictionary.pkl beside it.

        phi_scale: factor on the unit vectors of a released model; a folder has its own. As phi of a GAN take
        `gan_scale`, which `encoders.load` does.
        Raises: FileNotFoundError; ValueError naming the file, what it holds and what was expected.
        """
        if os.path.isdir(path):
            stored.check_complete(path, (stored.FACTS, stored.VOCABULARY, stored.WEIGHTS))
            keys = ("length", "phi_scale", "name")
            facts = stored.read_facts(path, (*keys, "architecture", "vocabulary_size"), cls.kind)
            dictionary = Dictionary.load(os.path.join(path, stored.VOCABULARY))
            stored.check_size(path, dictionary, facts)
            arrays = stored.read_weights(path, list(SHAPES) if facts["architecture"] == "gru" else BOW)
            settings = {key: facts[key] for key in keys}
        else:
            for name in (path, path + DICTIONARY):
                if not os.path.isfile(name):
                    raise FileNotFoundError(
                        f"no {name}; a released model is NAME.npz and beside it NAME.npz{DICTIONARY}, from vse.zip"
                    )
            arrays = dict(sandbox.read(array_files.load_npz, path, list(SHAPES)))
            stem = os.path.basename(path).removesuffix(".npz")
            settings = {"phi_scale": phi_scale, "name": f"kiros-{stem}"}
        try:
            rows = check(arrays)["V"]
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error
        if not os.path.isdir(path):
            dictionary = read_dictionary(path + DICTIONARY, rows)
        return cls(dictionary, arrays, **settings)


def gan_scale(dim: int) -> float:
    """phi_scale for a GAN: sqrt(dim), which brings the entries of a unit vector to a root mean square of 1.

    Differs: the paper does not say; entries of 0.03 drown in the unit noise that the conditioning augmentation begins
    with.
    """
    return math.sqrt(dim)


def check(arrays: Mapping[str, np.ndarray]) -> dict[str, int]:
    """Sizes V, E, D, I of the arrays of a released model.

    Raises: ValueError for one that is missing, not of floats, of another shape, or not finite.
    """
    bow = not any(key.startswith("encoder_") for key in arrays)
    names = BOW if bow else tuple(SHAPES)
    missing = [key for key in names if key not in arrays]
    if missing:
        raise ValueError(
            f"no model of Kiros et al.: it lacks {', '.join(missing)} (of {', '.join(SHAPES)}); it has "
            f"{', '.join(list(arrays)[:9]) or 'nothing'}"
        )
    sizes: dict[str, int] = {}
    for key in ("Wemb", "ff_image_W", *([] if bow else ["encoder_Ux"])):  # the ones that fix the sizes
        if arrays[key].ndim != 2 or 0 in arrays[key].shape:
            raise ValueError(f"{key} is {list(arrays[key].shape)}, expected two sizes, [{', '.join(SHAPES[key])}]")
        for letter, size in zip(SHAPES[key], arrays[key].shape, strict=True):
            sizes.setdefault(letter, size)
    if bow and sizes["E"] != sizes["D"]:
        raise ValueError(
            f"Wemb is {list(arrays['Wemb'].shape)} and ff_image_W {list(arrays['ff_image_W'].shape)}: without "
            "encoder_* arrays, as a bow model, both must have the same number of columns"
        )
    sizes["G"] = 2 * sizes["D"]
    for key in names:
        array, expected = arrays[key], [sizes[letter] for letter in SHAPES[key]]
        if array.dtype.kind != "f" or list(array.shape) != expected:
            raise ValueError(
                f"{key} is {array.dtype} {list(array.shape)}, expected float32 {expected}, with {sizes['V']} words of "
                f"{sizes['E']} numbers, {sizes['D']} numbers a sentence and {sizes['I']} a picture"
            )
        if not np.isfinite(array).all():
            raise ValueError(f"{key} has {np.sum(~np.isfinite(array))} values that are not finite")
    return sizes


def read_dictionary(path: str, rows: int) -> Dictionary:
    """The words of rows 2 .. rows - 1 of Wemb from the pickled word -> id that lies beside a model.

    Byte strings and Python 2's strings are read as UTF-8 where they are that. Ids from `rows` on are left out.
    Raises: ValueError for another pickle, or the dictionary of another model.
    """
    expected = (
        "expected the word dictionary of a model of Kiros et al.: words with whole numbers from 2 on, "
        f"NAME.npz{DICTIONARY} from vse.zip (NAME.npz.pkl holds the options, not the words)"
    )
    try:
        content = list(sandbox.read(pickles.word_numbers, path))
    except ValueError as error:
        raise ValueError(f"{error}; {expected}") from error
    word_of: dict[int, str] = {}
    for word, row in content:
        if row < 2:
            raise ValueError(f"{path} has the entry {word!r:.40}: {row}, {expected}")
        if row in word_of:
            raise ValueError(f"{path} has id {row} for {word_of[row]!r:.40} and for {word!r:.40}, {expected}")
        word_of[row] = _text(word)
    if not rows - 2 <= len(content) <= rows or not all(row in word_of for row in range(2, rows)):
        raise ValueError(
            f"{path} has {len(content)} words, with ids up to {max(word_of, default=0)}, for a model of {rows} rows; "
            "it is not the dictionary of this model"
        )
    try:
        return Dictionary([word_of[row] for row in range(2, rows)])
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _text(word: str) -> str:
    """A dictionary key as text; byte strings arrive as Latin-1 characters."""
    try:
        return word.encode("latin-1").decode("utf-8")
    except UnicodeError:
        return word


def _gru(arrays: Mapping[str, np.ndarray], word_dim: int, dim: int) -> keras.layers.GRU:
    """Keras' GRU with the released weights, its columns being [update | reset | candidate]."""
    gru = keras2.gru(dim, kernel_initializer="zeros", recurrent_initializer="zeros")
    gru.trainable = False
    gru.build((None, None, word_dim))

    def columns(key: str) -> np.ndarray:
        gates = arrays[f"encoder_{key}"]
        return np.concatenate([gates[..., dim:], gates[..., :dim], arrays[f"encoder_{key}x"]], axis=-1)

    bias = columns("b")
    gru.set_weights([columns("W"), columns("U"), np.stack([bias, np.zeros_like(bias)])])
    return gru
