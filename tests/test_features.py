"""Tests of simgan_tf.text.features: VGG's input, the projection, the weights file.
The network is held against convolutions written out from random weights in the released file's layout."""

import h5py
import numpy as np
import pytest
import tensorflow as tf

from simgan_tf.text import features

BLOCKS = ((2, 64), (2, 128), (4, 256), (4, 512), (4, 512))  # convolutions and channels. Source: VGG-19, configuration E


def test_preprocess_is_bgr_less_the_mean():
    """White is 255 in each channel, red (255, 0, 0): B - 103.939, G - 116.779, R - 123.68."""
    white_red = tf.constant([[1.0, 1.0, 1.0], [1.0, -1.0, -1.0]])[None, None]
    expected = [[151.061, 138.221, 131.32], [-103.939, -116.779, 131.32]]
    np.testing.assert_allclose(features.preprocess(white_red).numpy()[0, 0], expected, atol=1e-4)


def test_projection_is_linear_in_the_direction_of_fc7():
    """v = W f / |f| + b by numpy; a picture of all-zero features gives b, not NaN."""
    tower = features.projection(3)
    tower.build((None, 5))
    random = np.random.default_rng(0)
    kernel, bias, rows = random.normal(size=(5, 3)), random.normal(size=3), random.normal(size=(4, 5))
    rows[2] = 0.0
    tower.set_weights([kernel, bias])
    lengths = np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
    found = tower(tf.constant(rows, tf.float32)).numpy()
    np.testing.assert_allclose(found, rows / lengths @ kernel + bias, atol=1e-6)


def test_missing_weights_say_which_file_goes_where(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    place = tmp_path / "keras" / "models" / "vgg19_weights_tf_dim_ordering_tf_kernels.h5"
    with pytest.raises(FileNotFoundError) as error:
        features.vgg19()
    said = str(error.value)
    assert str(place) in said and features.VGG19.url in said and "--vgg19_weights=PATH" in said and "\n" not in said
    assert not (tmp_path / "keras").exists()  # nothing was fetched
    place.parent.mkdir(parents=True)
    place.write_bytes(b"")
    assert features.VGG19.path() == str(place)
    with pytest.raises(FileNotFoundError, match="no VGG-19 weights at /none.h5"):
        features.vgg19("/none.h5")


def test_the_cache_is_in_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.delenv("KERAS_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(FileNotFoundError, match=f"at {tmp_path}/.keras/models/vgg19_weights"):
        features.VGG19.path()


def test_other_files_are_refused(tmp_path):
    """A page of HTML, and the weights without the top layers, which end at block5_pool."""
    page, bare = tmp_path / "page.h5", tmp_path / "notop.h5"
    page.write_text("<html>404</html>")
    with h5py.File(bare, "w") as file:
        file.attrs["layer_names"] = [b"input_1", b"block1_conv1", b"block1_conv2", b"block5_pool"]
    with pytest.raises(ValueError, match=r"page.h5 is no HDF5 file; expected vgg19_weights_tf_dim_ordering_tf_kernels"):
        features.vgg19(str(page))
    with pytest.raises(ValueError, match=r"notop.h5 has no layer fc2 \(4 layers: input_1, block1_conv1, .*top layers"):
        features.vgg19(str(bare))


def released_layout(path, weights, fc1_width=4096):
    """Keras' old HDF5 form: attribute layer_names, a group a layer with weight_names and its arrays."""
    layers = {"input_1": []}
    for block, (count, _) in enumerate(BLOCKS, start=1):
        layers |= {f"block{block}_conv{i}": ["W", "b"] for i in range(1, count + 1)} | {f"block{block}_pool": []}
    layers |= {"flatten": [], "fc1": ["W", "b"], "fc2": ["W", "b"], "predictions": ["W", "b"]}
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [name.encode() for name in layers]
        for name, parts in layers.items():
            group = file.create_group(name)
            group.attrs["weight_names"] = [f"{name}_{part}_1:0".encode() for part in parts]
            for part in parts:
                value = weights[name, part]
                group[f"{name}_{part}_1:0"] = value[..., :fc1_width] if name == "fc1" else value


def random_weights():
    random = np.random.default_rng(0)
    weights, channels = {}, 3

    def add(name, *shape):
        size = np.sqrt(2.0 / np.prod(shape[:-1]))  # keeps the size of the activations
        weights[name, "W"] = random.standard_normal(shape, np.float32) * np.float32(size)
        weights[name, "b"] = random.standard_normal(shape[-1], np.float32) * np.float32(0.1)

    for block, (count, width) in enumerate(BLOCKS, start=1):
        for i in range(1, count + 1):
            add(f"block{block}_conv{i}", 3, 3, channels, width)
            channels = width
    add("fc1", 7 * 7 * 512, 4096)
    add("fc2", 4096, 4096)
    add("predictions", 4096, 1000)
    return weights


@pytest.mark.slow
def test_fc7_is_vgg19_as_written_out(tmp_path):
    weights = random_weights()
    path = str(tmp_path / "weights.h5")
    released_layout(path, weights)
    network = features.vgg19(path)
    assert network.trainable_variables == [] and network.output_shape == (None, 4096)
    random = np.random.default_rng(1)
    images = random.uniform(-1.0, 1.0, (3, 224, 224, 3)).astype(np.float32)
    found = features.fc7(network, images, batch_size=2)

    x = features.preprocess(images)
    for block, (count, _) in enumerate(BLOCKS, start=1):
        for i in range(1, count + 1):
            name = f"block{block}_conv{i}"
            x = tf.nn.relu(tf.nn.conv2d(x, weights[name, "W"], 1, "SAME") + weights[name, "b"])
        x = tf.nn.max_pool2d(x, 2, 2, "VALID")
    x = x.numpy().reshape(3, -1)
    for name in ("fc1", "fc2"):
        x = np.maximum(x @ weights[name, "W"] + weights[name, "b"], 0.0)
    assert found.shape == (3, 4096) and found.dtype == np.float32 and found.min() == 0.0 and found.max() > 1.0
    np.testing.assert_allclose(found, x, atol=1e-3 * x.max())

    narrow = str(tmp_path / "narrow.h5")
    released_layout(narrow, weights, fc1_width=8)
    with pytest.raises(ValueError, match="narrow.h5 does not fit VGG-19 .*expected vgg19_weights"):
        features.vgg19(narrow)
