"""The dry run's numbers against hand sums: multiplications, memory, the table of what differs."""

import dataclasses

import pytest
import tensorflow as tf

from simgan_tf import estimate
from simgan_tf.configs.simgan import PRESETS
from simgan_tf.methods.simgan import SIMGAN, Generator
from tests.tiny import TINY, phi, random_batch


def graph_of(function, *shapes):
    specs = [tf.TensorSpec(shape) for shape in shapes]
    return tf.function(function, autograph=False).get_concrete_function(*specs).graph


def test_multiplications_of_single_layers():
    """Places x kernel x in x out; a transposed convolution has the places of its input; 6x4 by 4x2."""
    image, kernel = tf.zeros([2, 8, 8, 5]), tf.zeros([3, 3, 5, 7])

    def count(function, *arguments):
        return estimate.multiply_adds(graph_of(function, *[a.shape for a in arguments]))

    assert count(lambda x, k: tf.nn.conv2d(x, k, 1, "SAME"), image, kernel) == 2 * 64 * 9 * 5 * 7
    assert count(lambda x, k: tf.nn.conv2d(x, k, 2, "SAME"), image, kernel) == 2 * 16 * 9 * 5 * 7
    back = tf.zeros([3, 3, 7, 5])  # [h, w, out, in]
    assert count(lambda x, k: tf.nn.conv2d_transpose(x, k, [2, 16, 16, 7], 2), image, back) == 2 * 64 * 9 * 5 * 7
    assert count(tf.matmul, tf.zeros([6, 4]), tf.zeros([4, 2])) == 6 * 4 * 2
    assert count(lambda a, b: tf.matmul(a, b, True), tf.zeros([4, 6]), tf.zeros([4, 2])) == 6 * 4 * 2


def test_gradients_cost_what_the_way_there_does():
    """A convolution, and the gradients of its kernel and its picture: three times the same."""

    def both(x, k):
        with tf.GradientTape() as tape:
            tape.watch([x, k])
            y = tf.nn.conv2d(x, k, 2, "SAME")
        return y, tape.gradient(y, [x, k])

    once = 2 * 16 * 9 * 5 * 7
    assert estimate.multiply_adds(graph_of(both, [2, 8, 8, 5], [3, 3, 5, 7])) == 3 * once
    # What nobody asks for is not run: a picture's gradient, and a convolution whose result stands in no gradient.
    assert estimate.multiply_adds(graph_of(lambda x, k: both(x, k)[1][1], [2, 8, 8, 5], [3, 3, 5, 7])) == once


def test_why_the_profiler_of_tensorflow_does_not_count():
    """It agrees on a convolution and its gradients with SAME padding. Without padding it gives both gradients the
    places of the picture, here 4 x 4 (D's last layer), where the convolution has one; and it counts what nobody asks
    for. Once this test fails for a newer TensorFlow, the count by hand may go."""

    def profiled(graph):
        options = tf.compat.v1.profiler.ProfileOptionBuilder.float_operation() | {"output": "none"}
        return tf.compat.v1.profiler.profile(graph, options=options).total_float_ops // 2

    def gradients(padding, stride):
        def both(x, k):
            with tf.GradientTape() as tape:
                tape.watch([x, k])
                y = tf.nn.conv2d(x, k, stride, padding)
            return tape.gradient(y, [x, k])  # y itself stands in neither: it need not be computed

        return graph_of(both, [2, 4, 4, 5], [4, 4, 5, 7])

    once = 2 * 4 * 16 * 5 * 7
    graph = gradients("SAME", 2)
    assert estimate.multiply_adds(graph) == 2 * once and profiled(graph) == 3 * once
    once = 2 * 16 * 5 * 7
    graph = gradients("VALID", 1)
    assert estimate.multiply_adds(graph) == 2 * once and profiled(graph) == (1 + 16 + 16) * once


def test_the_papers_generator():
    """89.7 GMAC a forward at 256x256, from the layer table; the units, 32 of 9 x 256 x 256 at 64x64, are 77.3."""
    config = PRESETS["simgan_oxford102"]
    generator = Generator(config)
    graph = graph_of(lambda *inputs: generator(*inputs), [1, 256, 256, 3], [1, 300], [1, 128])
    c, full, half, quarter = 64, 256**2, 128**2, 64**2
    expected = (
        full * 9 * 3 * c + half * 16 * c * 2 * c + quarter * 16 * 2 * c * 4 * c + 2 * 300 * 128
        + quarter * 9 * (4 * c + 128) * 4 * c + 32 * quarter * 9 * 256 * 256
        + quarter * 16 * 4 * c * 2 * c + half * 16 * 2 * c * c + full * 9 * c * 3
    )  # fmt: skip
    assert estimate.multiply_adds(graph) == expected == pytest.approx(89.7e9, rel=0.002)


def test_memory_of_a_chain():
    """Three tensors of 4 kB in a row: two are alive at once; kept by a later sum, all three and the sum's own."""

    def chain(x):
        return tf.exp(tf.exp(tf.exp(x)))

    def kept(x):
        a = tf.exp(x)
        b = tf.exp(a)
        return tf.exp(b) + a

    assert estimate.peak_bytes(graph_of(chain, [1024])) == 3 * 4096 - 4096
    assert estimate.peak_bytes(graph_of(kept, [1024])) == 3 * 4096


def test_a_report_names_what_it_stands_on():
    """A tiny training: its steps are run, and the report says so."""
    method = SIMGAN(dataclasses.replace(TINY, units=0), phi(), 2)
    demo = PRESETS["simgan_demo"]
    text = estimate.report(method, demo, "simgan_demo", map(random_batch, range(9)), images=8, steps=6)
    assert "* image_size          16   (preset: 64)" in text and "  cycle_weight        10.0" in text
    assert "length: 6 steps = 3 epochs of 2 steps (8 pictures)" in text
    assert "the best of 3 steps run here on one device" in text and text.endswith("nothing was written")
