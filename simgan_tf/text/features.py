"""The image side of phi's training: VGG-19's fc7 of one centre crop and the projection trained on top of it, and the
file that a tower trained from scratch is kept in. Nothing is downloaded here."""

import dataclasses
import os

import h5py
import keras
import numpy as np
import tensorflow as tf
from tqdm import tqdm

from data import pipeline
from data.readers import arrays, sandbox
from simgan_tf import keras2
from simgan_tf.system import files
from simgan_tf.text import vse

LOAD_SIZE, CROP_SIZE = 256, 224  # pixels: short side, side of the central square. Source: Kiros et al.'s code
SIZE = 4096  # of fc7
MEAN_BGR = (103.939, 116.779, 123.68)  # of ImageNet, 0 to 255. Source: the VGG release


@dataclasses.dataclass(frozen=True)
class Released:
    """A network of keras.applications whose ImageNet weights a user has, and the file that they are in."""

    network: str
    folder: str  # of the file's address
    file: str
    size: str
    last: str  # a layer of its top
    flag: str

    @property
    def url(self) -> str:
        return f"https://storage.googleapis.com/tensorflow/keras-applications/{self.folder}/{self.file}"

    def path(self, path: str = "") -> str:
        """The file of the weights: `path`, or where path is "" the one in Keras' own cache.

        Raises:
            FileNotFoundError: no file there; says which file is meant, where it goes and where it comes from.
        """
        home = os.environ.get("KERAS_HOME") or os.path.join(os.path.expanduser("~"), ".keras")
        location = path or os.path.join(home, "models", self.file)
        if not os.path.isfile(location):
            raise FileNotFoundError(
                f"no {self.network} weights at {location}; put {self.file} ({self.size}, from {self.url}) there, or "
                f"give --{self.flag}=PATH; nothing is downloaded here"
            )
        return location

    @property
    def _expected(self) -> str:
        return f"expected {self.file}, Keras' {self.network} with its top layers, from {self.url}"

    def checked(self, path: str = "") -> str:
        """As `path`, of a file that has the layers. Raises: FileNotFoundError; ValueError for another file."""
        path, expected = self.path(path), self._expected
        if not h5py.is_hdf5(path):
            raise ValueError(f"{path} is no HDF5 file; {expected}")
        with h5py.File(path, "r") as file:
            layers = [name.decode() if isinstance(name, bytes) else name for name in file.attrs.get("layer_names", ())]
        if self.last not in layers:
            raise ValueError(
                f"{path} has no layer {self.last} ({len(layers)} layers: {', '.join(layers[:3])} ...); {expected}"
            )
        return path

    def fill(self, model: keras.Model, path: str) -> None:
        """Gives `model`, newly made, the weights of a file that was `checked`. Raises: ValueError: they do not fit."""
        try:
            model.load_weights(path)
        except (ValueError, OSError, KeyError) as error:
            said = " ".join(str(error).split())[:200]
            raise ValueError(f"{path} does not fit {self.network} ({said}); {self._expected}") from error
        model.trainable = False


VGG19 = Released(
    "VGG-19", "vgg19", "vgg19_weights_tf_dim_ordering_tf_kernels.h5", "575 MB", "fc2", "vgg19_weights"
)  # fmt: skip


def vgg19(path: str = "") -> keras.Model:
    """Frozen network [B, 224, 224, 3] float32 as `preprocess` gives -> fc7 [B, 4096], after its ReLU.

    path: of the weights, "" = in Keras' own cache. Raises: as `Released.checked` and `Released.fill`.
    """
    path = VGG19.checked(path)  # before the network is made
    vgg = keras.applications.VGG19(weights=None)
    VGG19.fill(vgg, path)
    return keras.Model(vgg.input, vgg.get_layer("fc2").output, name="vgg19_fc7")


def preprocess(images: tf.Tensor) -> tf.Tensor:
    """RGB [B, H, W, 3] in [-1, 1] -> BGR, 0 to 255 less ImageNet's mean: what VGG's weights were trained on."""
    return (images[..., ::-1] + 1.0) * 127.5 - tf.constant(MEAN_BGR)


def fc7(network: keras.Model, images: "np.ndarray | pipeline.Decoded", batch_size: int = 16) -> np.ndarray:
    """fc7 [N, 4096] float32 of images [N, 224, 224, 3] in [-1, 1]: 16 kB a picture."""
    run = tf.function(lambda batch: network(preprocess(batch), training=False), reduce_retracing=True)
    starts = tqdm(range(0, len(images), batch_size), desc="VGG-19", unit=f"{batch_size} pictures", mininterval=1.0)
    parts = [run(images[i : i + batch_size]).numpy() for i in starts]
    return np.concatenate(parts) if parts else np.empty((0, SIZE), np.float32)


def projection(dim: int) -> keras.Model:
    """fc7 [B, 4096] -> vector [B, dim]: v = W fc7 / |fc7| + b. Source: the code of Kiros et al."""
    tower = keras.Sequential(name="image_projection")
    tower.add(keras.layers.UnitNormalization(axis=-1, dtype="float32"))
    tower.add(keras.layers.Dense(dim, kernel_initializer="glorot_uniform", dtype="float32"))
    return tower


TOWER = "image_tower.npz"  # beside text_encoder/


def save_tower(tower: keras.Model, image_size: int, path: str) -> None:
    """Writes the weights of a `vse.image_tower`, and the side of the pictures that it was trained on."""
    values = {f"w{i:03d}": variable.numpy() for i, variable in enumerate(keras2.weights_of(tower))}
    with files.replacing(path) as temporary:
        np.savez(temporary, image_size=np.int64(image_size), **values)


def load_tower(path: str) -> tuple[keras.Model, int]:
    """The tower that `save_tower` wrote, and the side of its pictures in pixels.

    Raises: FileNotFoundError (says how to make one); ValueError for another file.
    """
    if not os.path.isfile(path):
        raise FileNotFoundError(
            f"no {path}, the image side of a text encoder; train both: python -m simgan_tf.text.train "
            f"--records_dir=... --run_dir={os.path.dirname(path) or '.'} (with --image_features=cnn)"
        )
    found = dict(sandbox.read(arrays.load_npz, path))
    size, values = found.pop("image_size", None), [found[name] for name in sorted(found)]
    whole = size is not None and size.shape == () and size.dtype.kind == "i" and 16 <= size <= 4096 and len(values) > 1
    if not whole or any(value.dtype != np.float32 or not np.isfinite(value).all() for value in values):
        raise ValueError(f"{path} is no {TOWER} of simgan_tf.text.train; train again.")
    shapes = [value.shape for value in values]
    width, dim = shapes[0][-1] if shapes[0] else 0, shapes[-1][-1] if shapes[-1] else 0
    if shapes[0] != (4, 4, 3, width) or shapes[-1] != (8 * width, dim) or not width * dim:
        raise ValueError(f"{path} begins with weights {shapes[0]} and ends with {shapes[-1]}: no tower; train again.")
    tower = vse.image_tower(dim, width)
    tower.build((None, int(size), int(size), 3))
    wanted = [tuple(variable.shape) for variable in keras2.weights_of(tower)]
    if shapes != wanted:
        raise ValueError(f"{path} holds other weights than a tower of width {width}; train again.")
    for variable, value in zip(keras2.weights_of(tower), values, strict=True):
        variable.assign(value)
    return tower, int(size)
