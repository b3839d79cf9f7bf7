"""phi, the sentence encoder, with the image tower, the loss and the measure it is trained by."""

import math
import os

import keras
import numpy as np
import tensorflow as tf

from simgan_tf import keras2, layers
from simgan_tf.text import stored
from simgan_tf.text import tokens as tokens_lib
from simgan_tf.text.tokens import Vocabulary

WEIGHTS = {  # of each architecture, by their names in the file
    "gru": ("embedding", "gru_kernel", "gru_recurrent_kernel", "gru_bias"),
    "bow": ("embedding",),
}
REDUCTIONS, IMAGE_SIDES = ("mean", "sum"), ("normalised", "raw")
BLOCK = 256  # images that `retrieval` compares with all sentences at a time, which bounds its memory


class TextEncoder(tokens_lib.Phi):
    """phi(t): the last state of a GRU over learned word vectors, or those vectors' mean, times `phi_scale`.

    architecture "gru":
        z, r = sigmoid(x W + b + h U + c)  (first two of three column blocks)
        g = tanh(x W_g + b_g + r * (h U_g + c_g));   h' = z * h + (1 - z) * g;   phi = phi_scale * h_T
    architecture "bow" (bag of words, the baseline): phi = phi_scale * 1/T sum_t x_t, so dim = word_dim.
    Padding (id 0) leaves h as it is and adds nothing to the mean, so a row of all padding gives zeros and more padding
    changes nothing.
    Source: the visual-semantic embedding of Kiros et al. 2014 as the SISGAN code trains it (GRU of 300 over 300-d
    word vectors, raw last state downstream).
    Differs: word vectors are learned here because the 9 GB fastText file it starts from is no reasonable download
    (`vectors.fill` starts from such a file).
    Differs: the bag of words is a mean, where Kiros et al. take the sum with an <eos> vector, brought to unit length;
    the directions, which are all that the objective sees, are those of the sum of the words, and the length, which the
    GAN sees, does not grow with the sentence.

    Attributes: architecture, dim (of phi), word_dim, length (T, words kept of a sentence), phi_scale, name, vocabulary,
    training (facts of the training, plain JSON values), colours (share of the training captions that has each colour,
    see `notes.shares`; {} where nobody counted, and of no matter to phi). Always float32, whatever the Keras policy.
    """

    kind = "vse"

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
        colours: dict[str, float] | None = None,
        architecture: str = "gru",
    ) -> None:
        for key, value in (("dim", dim), ("word_dim", word_dim), ("length", length), ("phi_scale", phi_scale)):
            if value <= 0:
                raise ValueError(f"{key}={value} of the text encoder must be above 0")
        if architecture not in WEIGHTS:
            raise ValueError(f"architecture={architecture!r} of the text encoder must be one of {', '.join(WEIGHTS)}")
        if architecture == "bow" and dim != word_dim:
            raise ValueError(
                f"dim={dim} must equal word_dim={word_dim} for a bow encoder, whose sentence vector is a mean of word "
                "vectors"
            )
        self.vocabulary, self.name, self.training = vocabulary, name, training or {}
        self.architecture, self.colours = architecture, colours or {}
        self.dim, self.word_dim, self.length, self.phi_scale = dim, word_dim, length, float(phi_scale)
        self.embedding = keras.layers.Embedding(
            len(vocabulary), word_dim, embeddings_initializer=_uniform(), dtype="float32"
        )
        self.embedding.build((None, None))
        self.gru = None
        if architecture == "gru":
            recurrent = keras.initializers.Orthogonal(seed=keras2.seed())
            self.gru = keras2.gru(dim, kernel_initializer=_uniform(), recurrent_initializer=recurrent)
            self.gru.build((None, None, word_dim))
        self._embed = tf.function(self.embed, input_signature=[tf.TensorSpec((None, None), tf.int32)])

    @property
    def variables(self) -> list[tf.Variable]:
        """The raw variables, in the order of WEIGHTS: [V, E] and, of a GRU, [E, 3D], [D, 3D], [2, 3D]."""
        return [weight for layer in self._layers() for weight in keras2.weights_of(layer)]

    @property
    def trainable_variables(self) -> list:
        """The same weights as Keras variables, for a Keras optimizer, without those of a layer that is frozen."""
        return [weight for layer in self._layers() for weight in layer.trainable_weights]

    def _layers(self) -> list[keras.layers.Layer]:
        return [self.embedding] if self.gru is None else [self.embedding, self.gru]

    def embed(self, tokens: tf.Tensor) -> tf.Tensor:
        """phi [B, dim] float32 of tokens [B, T] int32; inside tf.function and exports too.

        T may be any length from 1 on. For TFLite B and T must be fixed (measured with B = 1).
        """
        words, mask = self.embedding(tokens), tf.not_equal(tokens, tokens_lib.PAD)  # [B, T, E], [B, T]
        if self.gru is not None:
            return self.phi_scale * self.gru(words, mask=mask)
        share = tf.cast(mask, tf.float32)
        share /= tf.maximum(tf.reduce_sum(share, axis=1, keepdims=True), 1.0)  # all zero where no word is
        return self.phi_scale * tf.reduce_sum(words * share[:, :, None], axis=1)

    def word_vectors(self, tokens: tf.Tensor) -> tf.Tensor:
        """The vectors [B, T, word_dim] float32 that phi takes ids [B, T] for, rows of the first of `variables`."""
        return self.embedding(tokens)

    def save(self, directory: str) -> None:
        """Writes encoder.json, vocabulary.txt and weights.npz, which are all that `load` needs.

        The folder appears complete or not at all; one that was there is replaced as a whole.
        """
        names = ("kind", "name", "architecture", "dim", "word_dim", "length", "phi_scale")
        facts = {name: getattr(self, name) for name in names}
        facts |= {"vocabulary_size": len(self.vocabulary), "colours": self.colours, "training": self.training}
        names = WEIGHTS[self.architecture]
        weights = {name: variable.numpy() for name, variable in zip(names, self.variables, strict=True)}
        stored.write(directory, facts, weights, self.vocabulary)

    @property
    def fingerprint(self) -> str:
        """sha256 of all that decides what `encode` gives: two encoders with the same one are the same."""
        return stored.fingerprint((self.dim, self.length, self.phi_scale, self.vocabulary.words), self.variables)

    @classmethod
    def load(cls, directory: str) -> "TextEncoder":
        """The encoder that `save` wrote.

        Raises:
            FileNotFoundError: a file is missing; says how to make it.
            ValueError: files that do not belong together, or are of another format or kind.
        """
        stored.check_complete(directory, (stored.FACTS, stored.VOCABULARY, stored.WEIGHTS))
        keys = ("dim", "word_dim", "length", "phi_scale", "name", "training")
        facts = stored.read_facts(directory, (*keys, "vocabulary_size"), cls.kind)
        vocabulary = Vocabulary.load(os.path.join(directory, stored.VOCABULARY))
        stored.check_size(directory, vocabulary, facts)
        architecture = facts.get("architecture", "gru")  # not named in folders from before there was a second one
        given = {key: facts[key] for key in keys}
        encoder = cls(vocabulary, **given, colours=facts.get("colours"), architecture=architecture)
        stored.restore(directory, dict(zip(WEIGHTS[architecture], encoder.variables, strict=True)))
        return encoder


def image_tower(dim: int, width: int = 32) -> keras.Model:
    """Picture [B, S, S, 3] in [-1, 1] -> vector [B, dim], linear at the end. For training phi only.

    Differs: four 4x4 stride-2 convolutions from scratch (widths w, 2w, 4w, 8w) stand for the frozen VGG fc7,
    because phi has to be trained without a download and in minutes on two cores. (`features` has VGG's side.)
    """
    tower = keras.Sequential(name="image_tower")
    for i in range(4):
        tower.add(keras.layers.Conv2D(width * 2**i, 4, strides=2, padding="same", use_bias=False, dtype="float32"))
        tower.add(layers.BatchNorm())
        tower.add(keras.layers.ReLU(dtype="float32"))  # [B, S/2, S/2, w] .. [B, S/16, S/16, 8w]
    tower.add(keras.layers.GlobalAveragePooling2D(dtype="float32"))  # [B, 8w]
    tower.add(keras.layers.Dense(dim, use_bias=False, dtype="float32"))
    return tower


def ranking_loss(
    image_vectors: tf.Tensor,
    sentence_vectors: tf.Tensor,
    margin: float,
    *,
    reduction: str = "mean",
    image_side: str = "normalised",
    hardest: bool = False,
) -> tf.Tensor:
    """Scalar symmetric pairwise ranking loss of B pairs; row i of both sides is a pair.

    image_vectors, sentence_vectors: [B, D] float32, sentences of any length (they are brought to length 1).
    margin: alpha, in units of S.
        S_ij = v_i . phi_j;   L = sum_i sum_{j != i} [max(0, alpha - S_ii + S_ij) + max(0, alpha - S_ii + S_ji)]
    reduction: "sum" is L, "mean" is L / B.
    image_side: "normalised" brings v to length 1 too, which makes S a cosine; "raw" takes it as it is.
    hardest: max_{j != i} in the place of sum_{j != i}, each of the two hinges by itself.

    Source: Kiros et al. 2014, Sec. 2.3; its code sums and leaves the image side raw in training only, the SISGAN code
    takes the mean and normalises both sides. Hardest negatives: VSE++ (Faghri et al. 2018, Eq. 6), which sums.
    As in all three, every other pair of the batch is a negative, also one whose caption would fit the picture.

    Raises:
        ValueError: `reduction` or `image_side` is none of the above.
    """
    for name, value, accepted in (("reduction", reduction, REDUCTIONS), ("image_side", image_side, IMAGE_SIDES)):
        if value not in accepted:
            raise ValueError(f"{name}={value!r} must be one of {', '.join(accepted)}")
    if image_side == "normalised":
        image_vectors = tf.math.l2_normalize(image_vectors, axis=1)
    scores = tf.matmul(image_vectors, tf.math.l2_normalize(sentence_vectors, axis=1), transpose_b=True)
    own = tf.linalg.diag_part(scores)  # [B]; of scores [B, B] rows are images
    others = 1.0 - tf.eye(tf.shape(scores)[0])
    wrong_sentence = others * tf.nn.relu(margin - own[:, None] + scores)
    wrong_image = others * tf.nn.relu(margin - own[None, :] + scores)
    over = tf.reduce_max if hardest else tf.reduce_sum
    each = over(wrong_sentence, axis=1) + over(wrong_image, axis=0)  # [B]
    return tf.reduce_sum(each) if reduction == "sum" else tf.reduce_mean(each)


def retrieval(image_vectors: np.ndarray, sentence_vectors: np.ndarray) -> dict[str, dict[str, float]]:
    """Recall and median rank, by cosine, of sentences found from images and of images found from sentences.

    image_vectors: [N, D]; sentence_vectors: [N k, D], the k sentences of image i in rows i k .. i k + k - 1.
    Returns {"image_to_text": r, "text_to_image": r}, r = {recall_at_1, recall_at_5, recall_at_10 (0..1),
    median_rank (1 = best)}. An image's rank is that of the best of its k sentences. Items that tie with the right
    one count half a place each, so that equal captions neither help nor harm.

    Raises:
        ValueError: the number of sentences is no positive multiple of the number of images; vectors are not finite.
    """
    n = len(image_vectors)
    if n == 0 or len(sentence_vectors) == 0 or len(sentence_vectors) % n:
        raise ValueError(f"{len(sentence_vectors)} sentence vectors for {n} images: must be a positive multiple")
    if not (np.isfinite(image_vectors).all() and np.isfinite(sentence_vectors).all()):
        raise ValueError("vectors of pictures or sentences are not finite; lower --learning_rate")
    k = len(sentence_vectors) // n
    images, sentences = unit(image_vectors), unit(sentence_vectors)
    own = np.einsum("nd,nkd->nk", images, sentences.reshape(n, k, -1))
    owner = np.arange(n * k) // k
    image_ranks, sentence_ranks = np.ones(n), np.ones(n * k)
    for start in range(0, n, BLOCK):
        rows = np.arange(start, min(start + BLOCK, n))
        foreign = images[rows] @ sentences.T  # [b, N k]
        foreign[owner[None, :] == rows[:, None]] = -np.inf
        image_ranks[rows] += _places(foreign, own[rows].max(axis=1, keepdims=True)).sum(axis=1)
        sentence_ranks += _places(foreign, own.reshape(1, -1)).sum(axis=0)
    return {"image_to_text": _summary(image_ranks), "text_to_image": _summary(sentence_ranks)}


def recall_sum(results: dict[str, dict[str, float]]) -> float:
    """Recall at 1, 5 and 10, both directions of `retrieval` added up: 0 to 6. Source: the code of Kiros et al."""
    return sum(way[f"recall_at_{r}"] for way in results.values() for r in (1, 5, 10))


def chance(images: int, sentences_per_image: int) -> dict[str, dict[str, float]]:
    """What `retrieval` gives for a random order, in expectation (the median rank to half a place).

    From n k sentences the best of k own ones is beyond place r with probability C(nk - r, k) / C(nk, k).
    """
    n, k = images, sentences_per_image

    def beyond(items: int, own: int, place: int) -> float:
        return math.comb(max(items - place, 0), own) / math.comb(items, own)

    def expected(items: int, own: int) -> dict[str, float]:
        recalls = {f"recall_at_{r}": 1.0 - beyond(items, own, r) for r in (1, 5, 10)}
        median = next(r for r in range(1, items + 1) if beyond(items, own, r) <= 0.5)
        return {**recalls, "median_rank": float(median)}

    return {"image_to_text": expected(n * k, k), "text_to_image": expected(n, 1)}


def unit(vectors: np.ndarray) -> np.ndarray:
    vectors = np.asarray(vectors, np.float64)
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)


def _places(foreign: np.ndarray, own: np.ndarray) -> np.ndarray:
    """1 for a foreign cosine above the own one, a half for one within rounding of it, otherwise 0."""
    return (foreign > own + 1e-6) + 0.5 * (np.abs(foreign - own) <= 1e-6)


def _summary(ranks: np.ndarray) -> dict[str, float]:
    recalls = {f"recall_at_{r}": float(np.mean(ranks <= r)) for r in (1, 5, 10)}
    return {**recalls, "median_rank": float(np.median(ranks))}


def _uniform() -> keras.initializers.Initializer:
    return keras.initializers.RandomUniform(-0.1, 0.1, keras2.seed())  # Source: the code of Kiros et al.
