"""The frozen image side of phi's training: VGG-19's fc7 of one centre crop, and the projection trained on top of it.
Nothing is downloaded here."""

import os

import h5py
import keras
import numpy as np
import tensorflow as tf

LOAD_SIZE, CROP_SIZE = 256, 224  # pixels: short side, side of the central square. Source: Kiros et al.'s code
SIZE = 4096  # of fc7
MEAN_BGR = (103.939, 116.779, 123.68)  # of ImageNet, 0 to 255. Source: the VGG release
WEIGHTS_FILE = "vgg19_weights_tf_dim_ordering_tf_kernels.h5"
WEIGHTS_URL = "https://storage.googleapis.com/tensorflow/keras-applications/vgg19/" + WEIGHTS_FILE


def weights_path(path: str = "") -> str:
    """The file of VGG-19's weights: `path`, or where path is "" the one in Keras' own cache.

    Raises:
        FileNotFoundError: no file there; says which file is meant, where it goes and where it comes from.
    """
    home = os.environ.get("KERAS_HOME") or os.path.join(os.path.expanduser("~"), ".keras")
    location = path or os.path.join(home, "models", WEIGHTS_FILE)
    if not os.path.isfile(location):
        raise FileNotFoundError(
            f"no VGG-19 weights at {location}; put {WEIGHTS_FILE} (575 MB, from {WEIGHTS_URL}) there, or give "
            "--vgg19_weights=PATH; nothing is downloaded here"
        )
    return location


def vgg19(path: str = "") -> keras.Model:
    """Frozen network [B, 224, 224, 3] float32 as `preprocess` gives -> fc7 [B, 4096], after its ReLU.

    path: as of `weights_path`.

    Raises:
        FileNotFoundError: no weights; says how to get them.
        ValueError: the file holds something else.
    """
    path = weights_path(path)
    expected = f"expected {WEIGHTS_FILE}, Keras' VGG-19 with its top layers, from {WEIGHTS_URL}"
    if not h5py.is_hdf5(path):
        raise ValueError(f"{path} is no HDF5 file; {expected}")
    with h5py.File(path, "r") as file:
        layers = [name.decode() if isinstance(name, bytes) else name for name in file.attrs.get("layer_names", ())]
    if "fc2" not in layers:
        raise ValueError(f"{path} has no layer fc2 ({len(layers)} layers: {', '.join(layers[:3])} ...); {expected}")
    vgg = keras.applications.VGG19(weights=None)
    try:
        vgg.load_weights(path)
    except (ValueError, OSError, KeyError) as error:
        raise ValueError(f"{path} does not fit VGG-19 ({' '.join(str(error).split())[:200]}); {expected}") from error
    network = keras.Model(vgg.input, vgg.get_layer("fc2").output, name="vgg19_fc7")
    network.trainable = False
    return network


def preprocess(images: tf.Tensor) -> tf.Tensor:
    """RGB [B, H, W, 3] in [-1, 1] -> BGR, 0 to 255 less ImageNet's mean: what VGG's weights were trained on."""
    return (images[..., ::-1] + 1.0) * 127.5 - tf.constant(MEAN_BGR)


def fc7(network: keras.Model, images: np.ndarray, batch_size: int = 16) -> np.ndarray:
    """fc7 [N, 4096] float32 of images [N, 224, 224, 3] in [-1, 1]."""
    run = tf.function(lambda batch: network(preprocess(batch), training=False), reduce_retracing=True)
    parts = [run(images[i : i + batch_size]).numpy() for i in range(0, len(images), batch_size)]
    return np.concatenate(parts) if parts else np.empty((0, SIZE), np.float32)


def projection(dim: int) -> keras.Model:
    """fc7 [B, 4096] -> vector [B, dim]: v = W fc7 / |fc7| + b. Source: the code of Kiros et al."""
    tower = keras.Sequential(name="image_projection")
    tower.add(keras.layers.UnitNormalization(axis=-1, dtype="float32"))
    tower.add(keras.layers.Dense(dim, kernel_initializer="glorot_uniform", dtype="float32"))
    return tower
