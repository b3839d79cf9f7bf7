"""The layers every method is made of: convolutions with the relatives' initial values, fused batch norm, residual unit,
conditioning augmentation, join."""

import keras
import tensorflow as tf

MOMENTUM = 0.9  # of batch norm's moving statistics; TensorLayer's, A27
EPSILON = 1e-5  # of batch norm; TensorLayer's, A27
SLOPE = 0.2  # of leaky ReLU; all relatives, A38
STDDEV = 0.02  # of initial kernels, and of batch norm's scale around 1; DCGAN, all of H. Dong's GANs


def normal() -> keras.initializers.Initializer:
    """N(0, 0.02). A new object each call: two layers sharing one unseeded initializer get equal weights."""
    return keras.initializers.RandomNormal(stddev=STDDEV)


def conv(width: int, kernel: int, stride: int = 1, *, bias: bool = False, padding: str = "same") -> keras.layers.Layer:
    """Convolution with N(0, 0.02) kernels; without a bias where batch norm follows."""
    return keras.layers.Conv2D(width, kernel, stride, padding, use_bias=bias, kernel_initializer=normal())


def transposed_conv(width: int, *, bias: bool = False) -> keras.layers.Layer:
    """Transposed convolution 4x4 stride 2: doubles height and width."""
    return keras.layers.Conv2DTranspose(width, 4, 2, "same", use_bias=bias, kernel_initializer=normal())


def dense(width: int) -> keras.layers.Layer:
    """Dense layer with bias and N(0, 0.02) kernel."""
    return keras.layers.Dense(width, kernel_initializer=normal())


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
        def weight(name: str, initializer: object, trainable: bool) -> keras.Variable:
            return self.add_weight(
                name=name,
                shape=(shape[-1],),
                initializer=initializer,
                trainable=trainable,
                dtype="float32",
                autocast=False,
            )

        self.gamma = weight("gamma", keras.initializers.RandomNormal(1.0, STDDEV), True)
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

    With the ReLU after the sum (A5).
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1, self.conv2 = Normed(conv(width, 3)), Normed(conv(width, 3))

    def call(self, x: tf.Tensor, training: bool = False, updates: int = 1) -> tf.Tensor:
        y = tf.nn.relu(self.conv1(x, training=training, updates=updates))
        return tf.nn.relu(x + self.conv2(y, training=training, updates=updates))


class ConditioningAugmentation(keras.layers.Layer):
    """Mean and log sigma, both [B, Z] float32, of the Gaussian that the conditioning code is drawn from.

    C_mu = leaky(W1 phi + b1), log C_Sigma^(1/2) = leaky(W2 phi + b2). Source: StackGAN, Sec. 3.2; paper, Sec. 2.3.
    Always in float32: sigma is an exponential.
    """

    def __init__(self, size: int) -> None:
        super().__init__(dtype="float32")
        self.to_mean = keras.layers.Dense(size, kernel_initializer=normal(), dtype="float32")
        self.to_log_sigma = keras.layers.Dense(size, kernel_initializer=normal(), dtype="float32")

    def call(self, embedding: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return leaky_relu(self.to_mean(embedding)), leaky_relu(self.to_log_sigma(embedding))


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
