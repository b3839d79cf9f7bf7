"""The networks that edits are judged by: Inception-v3, whose weights a user has, and a text encoder with its tower.

A judge of whether picture and sentence belong together must not be the phi that a generator was trained with, whose
mistakes the generator may have learnt to please. One that learnt from the test split's pictures and captions, which no
generator has seen, is trained once for the records and found there by every evaluation:

    python -m simgan_tf.text.train --records_dir=RECORDS --run_dir=RECORDS/judge --split=test

The released model of Kiros et al. (NAME.npz), which learnt from COCO, is another; its image side is VGG-19's fc7.
"""

import os

import keras
import numpy as np
import tensorflow as tf

from data import records
from simgan_tf.text import encoders, features, kiros, stored

INCEPTION = features.Released(
    "Inception-v3", "inception_v3", "inception_v3_weights_tf_dim_ordering_tf_kernels.h5", "96 MB", "predictions",
    "inception_weights",
)  # fmt: skip
INCEPTION_SIDE = 299  # pixels


def resized(images: tf.Tensor, side: int) -> tf.Tensor:
    """[n, side, side, 3] in [-1, 1]: the one way in which pictures are brought to a judge's size.

    Bilinear, half-pixel centres, and antialiased where pictures become smaller, as Pillow's BILINEAR.
    """
    return tf.image.resize(images, [side, side], antialias=True)


class Inception:
    """Inception-v3 as keras.applications has it: 2,048 features before the classifier, 1,000 class probabilities.

    Differs: FID and Inception score as published use the graph of 2015, whose weights are others and whose resizing
    differs; so these numbers compare with one another, not with published ones.
    """

    size = 2048

    def __init__(self, path: str = "") -> None:
        """path: of the weights, "" = in Keras' own cache. Raises: as `features.Released.checked` and its `fill`."""
        path = INCEPTION.checked(path)  # before the network is made
        whole = keras.applications.InceptionV3(weights=None, classifier_activation="softmax")
        INCEPTION.fill(whole, path)
        network = keras.Model(whole.input, [whole.get_layer("avg_pool").output, whole.output])
        self._run = tf.function(lambda images: network(resized(images, INCEPTION_SIDE), training=False))

    def see(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Features [n, 2048] and probabilities [n, 1000] of images [n, S, S, 3] in [-1, 1]."""
        found, probabilities = self._run(tf.constant(images))
        return found.numpy(), probabilities.numpy()


class Judge:
    """A text encoder with its image side, which brings pictures and sentences to one space where cosine says how near.

    kind: "phi" (of simgan_tf.text.train) or "kiros"; stands in the names of numbers. size: of the features, which are
    those before the image side's last layer.
    """

    def __init__(self, path: str, vgg19_weights: str = "") -> None:
        """path: a folder that simgan_tf.text.train wrote, text_encoder/ in one, or the NAME.npz of a Kiros model.

        Raises: FileNotFoundError, ValueError: no encoder, no image side, or one of another encoder.
        """
        self.encoder = encoders.load(path)
        self.name, self.fingerprint = self.encoder.name, self.encoder.fingerprint
        if isinstance(self.encoder, kiros.Kiros):
            self.kind, self.size = "kiros", features.SIZE
            network = features.vgg19(vgg19_weights)
            kernel, bias = (tf.constant(array) for array in self.encoder.image)

            def look(images: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
                seen = network(features.preprocess(resized(images, features.CROP_SIZE)), training=False)
                return seen, tf.math.l2_normalize(seen, axis=1) @ kernel + bias

        else:
            self.kind = "phi"
            if os.path.isfile(os.path.join(path, stored.FACTS)):  # text_encoder/ itself, beside which the tower stands
                path = os.path.dirname(os.path.abspath(path))
            tower, side = features.load_tower(os.path.join(path, features.TOWER))
            self.size = int(tower.layers[-1].kernel.shape[0])
            if tower.layers[-1].kernel.shape[1] != self.encoder.dim:
                raise ValueError(
                    f"{path}: its {features.TOWER} gives {tower.layers[-1].kernel.shape[1]} numbers, its text encoder "
                    f"{self.encoder.dim}; they are of two trainings, train again."
                )

            def look(images: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
                seen = resized(images, side)
                for layer in tower.layers[:-1]:
                    seen = layer(seen)
                return seen, tower.layers[-1](seen)

        self._look = tf.function(look, reduce_retracing=True)

    def see(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Features [n, size] and vectors [n, D] of images [n, S, S, 3] in [-1, 1]."""
        seen, vectors = self._look(tf.constant(images))
        return seen.numpy(), vectors.numpy()

    def hear(self, texts: list[str]) -> np.ndarray:
        """Vectors [n, D] of sentences."""
        return self.encoder.encode(texts)

    def require_other(self, fingerprint: str, run_dir: str) -> None:
        """Raises: ValueError where the judge is the text encoder of the run that it shall judge."""
        if fingerprint == self.fingerprint:
            raise ValueError(
                f"the judge {self.name} is the text encoder that {run_dir} was trained with, which its generator may "
                f"have learnt to please; train another: {ADVICE}"
            )


ADVICE = "python -m simgan_tf.text.train --records_dir=RECORDS --run_dir=RECORDS/judge --split=test"


def load(
    records_dir: str, paths: list[str], vgg19_weights: str, inception_weights: str
) -> tuple[list[Judge], Inception | None]:
    """The judges that there are, with a line on the screen for each that is not.

    paths: of judges, [] = RECORDS/judge where that is. inception_weights: a file, "" = the one in Keras' own cache.
    Raises: as `Judge` and `Inception` for what was given and cannot be read.
    """
    default = os.path.join(records_dir, records.JUDGE)
    found = [Judge(path, vgg19_weights) for path in paths or ([default] if os.path.isdir(default) else [])]
    if not found:
        print(f"similarity and R-precision left out: no judge at {default}; make one: {ADVICE}")
    kinds = [judge.kind for judge in found]
    if len(set(kinds)) < len(kinds):
        raise ValueError(f"--judges={','.join(paths)}: two of one kind ({kinds[0]}); their numbers have one name.")
    try:
        inception = Inception(inception_weights)
    except FileNotFoundError as error:
        if inception_weights:
            raise
        instead = " The distance in the judge's own features stands in another name." if found else ""
        print(f"FID, KID and Inception score left out: {error}.{instead}")
        inception = None
    return found, inception
