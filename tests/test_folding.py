"""The folded generator against the generator itself, for every switch of its configuration."""

import numpy as np
import pytest
import tensorflow as tf

from simgan_tf import folding
from simgan_tf.configs.simgan import Config
from simgan_tf.layers import EPSILON
from simgan_tf.methods.simgan import SIMGAN
from tests.tiny import own_name, phi

D = 6
SIZES = {"image_size": 16, "load_size": 18, "width": 4, "units": 2, "ca_size": 5, "d_width": 4, "text_size": 4}


def bent(**switches) -> SIMGAN:
    """A generator that uses its range, with moving statistics far from 0 and 1."""
    method = SIMGAN(Config(**(SIZES | switches)), phi(D))
    draw = np.random.default_rng(0)
    for variable in method.generator.variables:
        shape = variable.shape
        if own_name(variable) == "variance":
            variable.assign(draw.uniform(0.3, 3.0, shape))
        elif own_name(variable) == "gamma":
            variable.assign(draw.uniform(-1.3, 1.3, shape))
        elif len(shape) == 1:
            variable.assign(draw.normal(0.0, 0.3, shape))
        else:
            variable.assign(draw.normal(0.0, np.sqrt(1.5 / np.prod(shape[:-1])), shape))
    return method


def inputs(count: int = 3) -> list[np.ndarray]:
    draw = np.random.default_rng(1)
    shapes = ([count, 16, 16, 3], [count, D], [count, SIZES["ca_size"]])
    return [draw.uniform(-1, 1, shape).astype(np.float32) for shape in shapes]


@pytest.mark.parametrize("switches", [
    {}, {"decoder": "resize"}, {"image_skip": "detail", "decoder": "resize"}, {"units": 0},
    {"dilation": 2}, {"outlined": "birds"},
], ids=str)  # fmt: skip
def test_equals_the_generator(switches):
    """float32 rounding apart, and in bfloat16 (8 bits of mantissa) to a few hundredths."""
    method = bent(**switches)
    expected = method.edit(*inputs()).numpy()
    folded = folding.Folded(method.network)
    np.testing.assert_allclose(method.edit(*inputs(), network=folded), expected, atol=3e-5)
    assert not folded.kept
    halved = method.edit(*inputs(), network=folding.Folded(method.network, tf.bfloat16))
    assert halved.dtype == tf.float32
    error = np.abs(halved.numpy() - expected)
    assert 0 < error.mean() < 0.04, (error.mean(), expected.std())


def test_one_convolution_by_hand():
    """One channel: gamma 3, variance 4 - epsilon, so s = 1.5; k' = 1.5 k, bias = beta + 1.5 (0 - mean)."""
    method = bent()
    generator = method.generator
    norm = generator.conv2.norm
    norm.gamma.assign(np.full(8, 3.0))
    norm.variance.assign(np.full(8, 4.0 - EPSILON))
    norm.mean.assign(np.full(8, 2.0))
    norm.beta.assign(np.full(8, 0.25))
    folded = folding.Folded(generator)
    shapes = [weight.shape.as_list() for weight in folded.weights]
    kernel = shapes.index([4, 4, 4, 8])
    np.testing.assert_allclose(folded.weights[kernel], 1.5 * np.asarray(generator.conv2.convolution.kernel), rtol=1e-6)
    np.testing.assert_allclose(folded.weights[kernel + 1], np.full(8, 0.25 - 3.0), rtol=1e-6)


def test_has_the_networks_weights_without_batch_norms():
    """As constants, so that a loaded model brings their layout in order once.

    A kernel and a bias each of 3 encoder, 1 fusing, 4 residual, 2 decoder and 1 colour convolutions and 2 dense layers.
    """
    folded = folding.Folded(bent().generator)
    assert len(folded.weights) == 2 * (3 + 1 + 4 + 2 + 1 + 2)
    graph = tf.function(folded.__call__, autograph=False).get_concrete_function(*inputs()).graph
    assert not graph.variables and [op.type for op in graph.get_operations()].count("FusedBatchNormV3") == 0
    halves = folding.Folded(bent().generator, tf.bfloat16).weights
    assert [weight.dtype for weight in halves].count(tf.float32) == 4  # of the conditioning code
