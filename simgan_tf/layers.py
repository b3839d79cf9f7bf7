"""The layers every method is made of: convolutions with the relatives' initial values, fused batch norm, residual
units, conditioning augmentation, word encoder, join."""

import math
from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from simgan_tf import keras2

MOMENTUM = 0.9  # of batch norm's moving statistics; TensorLayer's, A27
EPSILON = 1e-5  # of batch norm; TensorLayer's, A27
SLOPE = 0.2  # of leaky ReLU; all relatives, A38
STDDEV = 0.02  # of initial kernels, and of batch norm's scale around 1; DCGAN, all of H. Dong's GANs


def normal() -> keras.initializers.Initializer:
    """N(0, 0.02). A new object each call: two layers sharing one unseeded initializer get equal weights."""
    return keras.initializers.RandomNormal(stddev=STDDEV, seed=keras2.seed())


def conv(
    width: int, kernel: int, stride: int = 1, *, bias: bool = False, padding: str = "same", dilation: int = 1
) -> keras.layers.Layer:
    """Convolution with N(0, 0.02) kernels; without a bias where batch norm follows. dilation: places from one element
    of the kernel to the next."""
    return keras.layers.Conv2D(
        width, kernel, stride, padding, dilation_rate=dilation, use_bias=bias, kernel_initializer=normal()
    )


def transposed_conv(width: int, *, bias: bool = False) -> keras.layers.Layer:
    """Transposed convolution 4x4 stride 2: doubles height and width."""
    return keras.layers.Conv2DTranspose(width, 4, 2, "same", use_bias=bias, kernel_initializer=normal())


def first_map(width: int) -> keras.layers.Layer:
    """[B, 1, 1, C] to [B, 4, 4, width]: the transposed convolution with which a G that draws from noise begins."""
    return keras.layers.Conv2DTranspose(width, 4, 1, "valid", use_bias=False, kernel_initializer=normal())


def dense(width: int, dtype: str | None = None) -> keras.layers.Layer:
    """Dense layer with bias and N(0, 0.02) kernel. dtype: "float32", whatever the precision around it."""
    return keras.layers.Dense(width, kernel_initializer=normal(), dtype=dtype)


def leaky_relu(x: tf.Tensor) -> tf.Tensor:
    """max(x, 0.2 x)."""
    return tf.nn.leaky_relu(x, alpha=SLOPE)


def mean_over_replicas(*values: tf.Tensor) -> tuple[tf.Tensor, ...]:
    """Each value's mean over the replicas of tf.distribute, differentiable; on one device the values themselves."""
    context = tf.distribute.get_replica_context()
    if context is None or context.num_replicas_in_sync == 1:
        return values
    sums = context.all_reduce(tf.distribute.ReduceOp.SUM, list(values))
    return tuple(value / context.num_replicas_in_sync for value in sums)


class BatchNorm(keras.layers.Layer):
    """Batch normalisation over [B, H, W] by TensorFlow's fused kernel, statistics in float32.

    With training=True normalises by the batch's own statistics; `updates` says how often they also enter the moving
    ones, moving <- 0.9 moving + 0.1 batch, which training=False normalises by. On several replicas the batch is the
    whole one, of all of them together.
    Differs: the moving variance takes the batch's unbiased variance, as fused kernels do; TensorLayer took the biased
    one. Keras' own layer is not fused and costs half of the speed on a CPU.
    """

    def build(self, shape: tuple[int | None, ...]) -> None:
        def weight(name: str, initializer: object, trainable: bool) -> Any:
            return self.add_weight(
                name=name,
                shape=(shape[-1],),
                initializer=initializer,
                trainable=trainable,
                dtype="float32",
                **keras2.OWN_TYPE,
            )

        self.gamma = weight("gamma", keras.initializers.RandomNormal(1.0, STDDEV, keras2.seed()), True)
        self.beta = weight("beta", "zeros", True)
        self.mean = weight("mean", "zeros", False)
        self.variance = weight("variance", "ones", False)

    def call(self, x: tf.Tensor, training: bool = False, updates: int = 1) -> tf.Tensor:
        context = tf.distribute.get_replica_context()  # None outside of a replica, where nothing is trained
        replicas = context.num_replicas_in_sync if training and context else 1
        if replicas > 1:
            return self._over_replicas(x, updates, replicas)
        y, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
            x=x,
            scale=tf.convert_to_tensor(self.gamma),
            offset=tf.convert_to_tensor(self.beta),
            mean=tf.convert_to_tensor(self.mean),
            variance=tf.convert_to_tensor(self.variance),
            epsilon=EPSILON,
            exponential_avg_factor=1.0 - MOMENTUM**updates,
            is_training=training,
        )
        if training and updates:
            self.mean.assign(mean)
            self.variance.assign(variance)
        return y

    def _over_replicas(self, x: tf.Tensor, updates: int, replicas: int) -> tf.Tensor:
        """As `call` in training, by the statistics of all replicas' x together; the fused kernel knows one device's."""
        wide, shift = tf.cast(x, tf.float32), tf.convert_to_tensor(self.mean)
        mean, variance = tf.nn.moments(wide, [0, 1, 2])
        # Squares about the moving mean, which all replicas share: about zero they would lose a small variance.
        mean, square = mean_over_replicas(mean, variance + tf.square(mean - shift))
        variance = square - tf.square(mean - shift)
        y = tf.nn.batch_normalization(
            wide, mean, variance, tf.convert_to_tensor(self.beta), tf.convert_to_tensor(self.gamma), EPSILON
        )
        if updates:
            count = tf.cast(replicas * tf.size(x) // x.shape[-1], tf.float32)
            unbiased = variance * count / tf.maximum(count - 1.0, 1.0)
            decay = MOMENTUM**updates
            for moving, new in ((self.mean, mean), (self.variance, unbiased)):
                moving.assign(decay * moving + (1.0 - decay) * new)
        return tf.cast(y, x.dtype)


class Normed(keras.layers.Layer):
    """A convolution without a bias, and the batch norm behind it."""

    def __init__(self, convolution: keras.layers.Layer) -> None:
        super().__init__()
        self.convolution, self.norm = convolution, BatchNorm()

    def call(self, x: tf.Tensor, training: bool = False, updates: int = 1) -> tf.Tensor:
        return self.norm(self.convolution(x), training=training, updates=updates)


class Upsample(keras.layers.Layer):
    """Nearest-neighbour doubling and a 3x3 convolution: the alternative to a transposed convolution (A7)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = conv(width, 3)

    def call(self, x: tf.Tensor) -> tf.Tensor:
        return self.conv(tf.repeat(tf.repeat(x, 2, axis=1), 2, axis=2))


class Residual(keras.layers.Layer):
    """Residual unit: relu(x + BN(conv(relu(BN(conv(x)))))), 3x3 convolutions of x's own width. Source: He et al. 2016.

    With the ReLU after the sum (A5); last_relu=False leaves it out. dilation: see `conv`.
    """

    def __init__(self, width: int, *, last_relu: bool = True, dilation: int = 1) -> None:
        super().__init__()
        self.last_relu = last_relu
        self.conv1, self.conv2 = (Normed(conv(width, 3, dilation=dilation)) for _ in range(2))

    def call(self, x: tf.Tensor, training: bool = False, updates: int = 1) -> tf.Tensor:
        y = tf.nn.relu(self.conv1(x, training=training, updates=updates))
        x = x + self.conv2(y, training=training, updates=updates)
        return tf.nn.relu(x) if self.last_relu else x


class Bottleneck(keras.layers.Layer):
    """Residual unit of 1x1, 3x3 and 3x3 convolutions: act(x + BN(conv(act(BN(conv(act(BN(conv(x)))))))).

    A quarter of x's width, `width`, inside. act: its activation. Source: StackGAN's stage I, and Reed et al.'s G and D.
    """

    def __init__(self, width: int, act: Callable[[tf.Tensor], tf.Tensor]) -> None:
        super().__init__()
        self.act = act
        self.conv1, self.conv2 = Normed(conv(width // 4, 1)), Normed(conv(width // 4, 3))
        self.conv3 = Normed(conv(width, 3))

    def call(self, x: tf.Tensor, training: bool = False, updates: int = 1) -> tf.Tensor:
        how = {"training": training, "updates": updates}
        y = self.act(self.conv1(x, **how))
        y = self.act(self.conv2(y, **how))
        return self.act(x + self.conv3(y, **how))


class Trunk(keras.layers.Layer):
    """Image [B, S, S, 3] to features [B, 4, 4, 8 width]: what the discriminators of 64x64 share.

    Four convolutions 4x4 stride 2 at 64x64 (width, 2, 4 and 8 times it), then a bottleneck. Source: Reed et al.'s D,
    StackGAN's stage I, SISGAN's D.
    Differs: at other sizes there are as many halvings as lead to 4x4, none wider than 8 times the width.
    """

    def __init__(self, width: int, image_size: int) -> None:
        super().__init__()
        self.halvings = image_size.bit_length() - 3  # log2(size / 4)
        widths = [min(width << i, 8 * width) for i in range(self.halvings)]
        self.conv0 = conv(width, 4, stride=2, bias=True)
        for i in range(1, self.halvings):
            setattr(self, f"conv{i}", Normed(conv(widths[i], 4, stride=2)))
        self.bottleneck = Bottleneck(widths[-1], leaky_relu)

    def call(self, image: tf.Tensor, training: bool = False, updates: int = 1) -> tf.Tensor:
        x = self.conv0(image)  # [B, S/2, S/2, width]
        for i in range(1, self.halvings):  # the last is not activated: the bottleneck adds to it
            x = getattr(self, f"conv{i}")(leaky_relu(x), training=training, updates=updates)
        return self.bottleneck(x, training=training, updates=updates)


class ConditioningAugmentation(keras.layers.Layer):
    """Mean and log sigma, both [B, Z] float32, of the Gaussian that the conditioning code is drawn from.

    C_mu = leaky(W1 phi + b1), log C_Sigma^(1/2) = leaky(W2 phi + b2). Source: StackGAN, Sec. 3.2; paper, Sec. 2.3.
    Always in float32: sigma is an exponential. bias: whether there are b1 and b2.
    """

    def __init__(self, size: int, *, bias: bool = True) -> None:
        super().__init__(dtype="float32")
        self.to_mean, self.to_log_sigma = (
            keras.layers.Dense(size, use_bias=bias, kernel_initializer=normal(), dtype="float32") for _ in range(2)
        )

    def call(self, embedding: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return leaky_relu(self.to_mean(embedding)), leaky_relu(self.to_log_sigma(embedding))


class WordEncoder(keras.layers.Layer):
    """A feature u_i of each word in its sentence: the mean of two GRUs' states, one reading on, one reading back.

    text_encoder: phi, whose ids are taken. word_size: numbers that a word becomes here, learned; 0 = phi's word
    vectors, left as they are. Each is brought to a root mean square of 1. size: H.
    Source: the GRU cells of TAGAN's networks, drawn as PyTorch draws them. Always in float32.
    Differs: the code takes fastText's vectors, a file of 9 GB, for its words; phi can be trained from that file.
    """

    def __init__(self, text_encoder: Any, word_size: int, size: int) -> None:
        super().__init__(dtype="float32")
        self.look_up, bound = text_encoder.word_vectors, 1.0 / math.sqrt(size)
        if word_size:
            words, drawn = len(text_encoder.vocabulary), keras.initializers.RandomNormal(stddev=1.0, seed=keras2.seed())
            self.look_up = keras.layers.Embedding(words, word_size, drawn, dtype="float32")

        def gru(go_backwards: bool) -> keras.layers.Layer:
            drawn = {f"{of}_initializer": keras.initializers.RandomUniform(-bound, bound, keras2.seed())
                     for of in ("kernel", "recurrent", "bias")}  # fmt: skip
            return keras2.gru(size, return_sequences=True, go_backwards=go_backwards, **drawn)

        on, back = gru(False), gru(True)
        self.both_ways = keras.layers.Bidirectional(on, merge_mode="ave", backward_layer=back, dtype="float32")

    def call(self, tokens: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """u [B, T, H] float32 of ids [B, T] int32, zeros at padding, and which are words, [B, T] bool."""
        words, known = self.look_up(tokens), tokens > 0
        words *= tf.math.rsqrt(tf.reduce_mean(tf.square(words), axis=-1, keepdims=True) + 1e-12)
        return self.both_ways(words, mask=known), known

    @staticmethod
    def mean(features: tf.Tensor, known: tf.Tensor) -> tf.Tensor:
        """The sentence's vector, [B, H]: the mean of its words' features."""
        count = tf.reduce_sum(tf.cast(known, tf.float32), axis=1, keepdims=True)
        return tf.reduce_sum(features, axis=1) / tf.maximum(count, 1.0)


def join(features: tf.Tensor, code: tf.Tensor) -> tf.Tensor:
    """[B, H, W, C] image features with the code [B, Z] repeated at every place: [B, H, W, C + Z]."""
    known, here = features.shape[1:3], tf.shape(features)  # a graph of many sizes knows them when it runs
    height, width = known[0] or here[1], known[1] or here[2]
    code = tf.cast(code, features.dtype)[:, None, None, :]
    return tf.concat([features, tf.tile(code, [1, height, width, 1])], axis=-1)


def detail(image: tf.Tensor) -> tf.Tensor:
    """What of the image's lightness is finer than a bottleneck of a quarter of its size: [B, H, W, 1], mean about 0.

    image: [B, H, W, 3] in [-1, 1]. Its channels' mean less the same averaged twice over 5x5 pixels.
    """
    light = tf.reduce_mean(image, axis=-1, keepdims=True)
    smooth = tf.nn.avg_pool2d(tf.nn.avg_pool2d(light, 5, 1, "SAME"), 5, 1, "SAME")
    return light - smooth
