"""SISGAN (Dong, Yu, Wu, Guo, "Semantic Image Synthesis via Adversarial Learning", ICCV 2017): generator, discriminator,
objective and one training step. The contract it keeps stands in simgan_tf/methods/__init__.py.

Sources: the paper, and the code that had its author's advice (woozzu/dong_iccv_2017), here called "the code"."""

import h5py
import keras
import numpy as np
import tensorflow as tf

from simgan_tf import losses
from simgan_tf.configs.sisgan import Config
from simgan_tf.layers import ConditioningAugmentation, Normed, Residual, Trunk, Upsample, conv, dense, join, leaky_relu
from simgan_tf.methods import step as steps
from simgan_tf.text.encoders import TextEncoder

# VGG-16's convolutions up to conv4_3 and their widths; and the means of ImageNet's blue, green and red, 0 to 255.
VGG_CONVOLUTIONS = {
    "block1_conv1": 64, "block1_conv2": 64, "block2_conv1": 128, "block2_conv2": 128, "block3_conv1": 256,
    "block3_conv2": 256, "block3_conv3": 256, "block4_conv1": 512, "block4_conv2": 512, "block4_conv3": 512,
}  # fmt: skip
VGG_MEANS = (103.939, 116.779, 123.68)


class TrainedEncoder(keras.layers.Layer):
    """Encoder B: three convolutions, [B, H, W, 3] to [B, H/4, W/4, 4 width]."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = conv(width, 3, bias=True)
        self.conv2 = Normed(conv(2 * width, 4, stride=2))
        self.conv3 = Normed(conv(4 * width, 4, stride=2))

    def call(self, image: tf.Tensor, training: bool = False) -> tf.Tensor:
        x = tf.nn.relu(self.conv1(image))
        x = tf.nn.relu(self.conv2(x, training=training))
        return tf.nn.relu(self.conv3(x, training=training))


class VGGEncoder(keras.layers.Layer):
    """Encoder A: VGG-16 up to conv4_3 without its third pooling, [B, H, W, 3] to [B, H/4, W/4, 512]; not trained.

    Differs: the code takes VGG-16 with batch norm, of which keras.applications has no weights. It dilates nothing, as
    the code in effect did (its dilation went to layers that have none), and the means of ImageNet are taken off every
    picture, where the code did so for three of each batch.
    """

    def __init__(self) -> None:
        super().__init__()
        for name, width in VGG_CONVOLUTIONS.items():
            setattr(self, name, keras.layers.Conv2D(width, 3, padding="same"))

    def call(self, image: tf.Tensor, training: bool = False) -> tf.Tensor:
        x = 127.5 * (image[..., ::-1] + 1.0) - tf.constant(VGG_MEANS, image.dtype)
        for name in VGG_CONVOLUTIONS:
            x = tf.nn.relu(getattr(self, name)(x))
            if name in ("block1_conv2", "block2_conv2"):
                x = tf.nn.max_pool2d(x, 2, 2, "VALID")
        return x

    def read(self, path: str) -> None:
        """Fills it from a file of keras.applications.VGG16, with or without its dense layers.

        Reads the .h5 that keras.applications downloads, and the .weights.h5 that Keras 3's save_weights writes; shapes
        are compared before a number is read. Raises: FileNotFoundError, ValueError for another file, in one line.
        """
        try:
            with h5py.File(path, "r") as file:
                for i, name in enumerate(VGG_CONVOLUTIONS):
                    found = []
                    for place in (name, f"layers/conv2d_{i}" if i else "layers/conv2d"):
                        if place in file:
                            file[place].visititems(lambda _, item, found=found: found.append(item))
                    found = {item.shape: item for item in found if isinstance(item, h5py.Dataset)}
                    for variable in getattr(self, name).variables:
                        variable.assign(np.asarray(found[tuple(variable.shape)], np.float32))
        except FileNotFoundError:
            raise FileNotFoundError(f"vgg_weights={path}: there is no such file.") from None
        except (OSError, KeyError, TypeError, ValueError, AttributeError) as error:
            raise ValueError(
                f"vgg_weights={path} holds no VGG-16 of keras.applications ({type(error).__name__}: {error}); give "
                "the file that keras.applications.VGG16(...).save_weights writes."
            ) from None


class Generator(keras.Model):
    """G: an image and a sentence's embedding to the edited image.

    Encoder A or B, join with the conditioning code, a convolution without activation, `units` residual units, and a
    decoder that doubles the size twice by repeating pixels. Source: the code, its class Generator.
    """

    def __init__(self, config: Config) -> None:
        super().__init__(name="generator")
        self.config = config
        c = config.width
        self.encoder = VGGEncoder() if config.vgg_weights else TrainedEncoder(c)
        self.augment = ConditioningAugmentation(config.ca_size, bias=False)
        self.fuse = Normed(conv(4 * c, 3))
        for i in range(config.units):  # setattr: Keras 3 does not checkpoint layers held in a list
            setattr(self, f"unit{i}", Residual(4 * c))
        self.up1, self.up2 = Normed(Upsample(2 * c)), Normed(Upsample(c))
        self.to_image = conv(3, 3, bias=True)

    def call(
        self, image: tf.Tensor, embedding: tf.Tensor, noise: tf.Tensor, training: bool = False
    ) -> tf.Tensor:
        """Edited image [B, H, W, 3] float32 in [-1, 1], and the code's mean and log sigma, both [B, Z] float32.

        image: [B, H, W, 3] float32 in [-1, 1]. embedding: [B, D] float32, phi(t). noise: [B, Z] float32, epsilon of
        c = mean + sigma * epsilon.
        """
        x = self.encoder(image, training=training)  # [B, H/4, W/4, 4c], of encoder A 512
        mean, log_sigma = self.augment(embedding)
        x = join(x, mean + tf.exp(log_sigma) * tf.cast(noise, mean.dtype))
        x = self.fuse(x, training=training)  # [B, H/4, W/4, 4c]
        for i in range(self.config.units):
            x = getattr(self, f"unit{i}")(x, training=training)
        x = tf.nn.relu(self.up1(x, training=training))  # [B, H/2, W/2, 2c]
        x = tf.nn.relu(self.up2(x, training=training))  # [B, H, W, c]
        return tf.tanh(tf.cast(self.to_image(x), tf.float32)), mean, log_sigma


class Discriminator(keras.Model):
    """D: one logit [B] float32 of an image and a sentence's embedding; its sigmoid is 1 for real and matching.

    Source: the code, its class Discriminator, which is StackGAN's of stage I.
    """

    def __init__(self, config: Config) -> None:
        super().__init__(name="discriminator")
        self.trunk = Trunk(config.d_width, config.image_size)
        self.text = dense(config.text_size)
        self.fuse = Normed(conv(8 * config.d_width, 1))
        self.to_logit = conv(1, 4, bias=True, padding="valid")

    def call(self, image: tf.Tensor, embedding: tf.Tensor, training: bool = False, updates: int = 1) -> tf.Tensor:
        """image: [B, S, S, 3] float32 in [-1, 1]. embedding: [B, D] float32, phi(t) itself, not its sample."""
        return self.logit(self.trunk(image, training=training, updates=updates), embedding, training, updates)

    def logit(self, x: tf.Tensor, embedding: tf.Tensor, training: bool = False, updates: int = 1) -> tf.Tensor:
        """Logits [B] float32 of the trunk's features and phi(t)."""
        x = leaky_relu(self.fuse(join(x, leaky_relu(self.text(embedding))), training=training, updates=updates))
        return tf.reshape(tf.cast(self.to_logit(x), tf.float32), [-1])  # [B, 1, 1, 1] -> [B]


class SISGAN(steps.Method):
    """Both networks, both optimizers, the objective and the step."""

    def __init__(self, config: Config, text_encoder: TextEncoder, steps_per_epoch: int | None = None) -> None:
        self.config, self.text_encoder = config, text_encoder
        self.noise_size, self.embedding_size = config.ca_size, text_encoder.dim
        image = tf.zeros([1, config.image_size, config.image_size, 3])
        embedding, noise = tf.zeros([1, self.embedding_size]), tf.zeros([1, self.noise_size])

        self.generator = self.trained = self.network = steps.built(Generator, config, image, embedding, noise)
        self.part = "generator_ema" if config.ema_decay else "generator"
        self.parts = {self.part: self.network}
        if steps_per_epoch is None:  # encoder A's weights then come from the checkpoint
            return
        if config.vgg_weights:
            self.generator.encoder.read(config.vgg_weights)
            self.generator.encoder.trainable = False
        self.discriminator = steps.built(Discriminator, config, image, embedding)
        self.g_optimizer = steps.adam(config, self.generator, steps_per_epoch)
        self.d_optimizer = steps.adam(config, self.discriminator, steps_per_epoch)
        self.parts = {
            "generator": self.generator, "discriminator": self.discriminator,
            "g_optimizer": self.g_optimizer, "d_optimizer": self.d_optimizer,
        }  # fmt: skip
        self.keep_average(Generator, image, embedding, noise)

    def edit(
        self, image: tf.Tensor, embedding: tf.Tensor, noise: tf.Tensor, network: keras.Model | None = None
    ) -> tf.Tensor:
        """x_hat = G(x, phi(t)) [B, H, W, 3] float32 in [-1, 1], batch norm in inference mode.

        Differs: noise of zeros gives the edit by the code's mean; the code draws noise always.
        """
        return (network or self.network)(image, embedding, noise)[0]

    # The objective

    def d_terms(self, real: tf.Tensor, mismatched: tf.Tensor, edited: tf.Tensor) -> dict[str, tf.Tensor]:
        """L_D of D's logits [B] of (x, t), (x, t_mis) and (x_hat, t_rel): the two that are wrong weigh half each."""
        return {
            "d_real": losses.cross_entropy(real, 1.0),
            "d_mismatched": 0.5 * losses.cross_entropy(mismatched, 0.0),
            "d_edited": 0.5 * losses.cross_entropy(edited, 0.0),
        }

    def g_terms(self, logit: tf.Tensor, mean: tf.Tensor, log_sigma: tf.Tensor) -> dict[str, tf.Tensor]:
        """L_G; nothing but D holds the edit to the picture."""
        return {
            "g_adversarial": losses.cross_entropy(logit, 1.0),
            "g_kl": self.config.kl_weight * losses.kl_to_normal(mean, log_sigma),
        }

    # One step

    def prepare(self, batch: dict[str, tf.Tensor], step: tf.Tensor) -> dict[str, tf.Tensor]:
        """Rows of B: image, matching = phi(t), mismatching = phi(t_mis), relevant = phi(t_rel), noise.

        t_rel drives x_hat: that of the next picture in the first half of the batch, its own in the second half.
        """
        matching = batch["embedding"]
        count = matching.shape[0]
        half = count // 2
        seed = tf.stack([tf.cast(self.config.seed, tf.int64), 2 * step])
        return {
            "image": batch["image"],
            "matching": matching,
            "mismatching": steps.mismatched(matching, batch["class_id"], self.config.mismatch),
            "relevant": tf.concat([tf.roll(matching[:half], -1, axis=0), matching[half:]], axis=0),
            "noise": steps.draw_noise(count, self.noise_size, seed),
        }

    def update(self, rows: dict[str, tf.Tensor], measure: tf.Tensor | bool = False) -> dict[str, tf.Tensor]:
        """One update of D, then one of G.

        Differs: x_hat is computed once. D is updated on it as a constant, then G's gradient flows through the updated
        D; the code draws and runs G a second time.
        """
        generator, discriminator = self.generator, self.discriminator
        image, relevant = rows["image"], rows["relevant"]
        with tf.GradientTape() as g_tape:
            edited, mean, log_sigma = generator(image, relevant, rows["noise"], training=True)  # x_hat
            with g_tape.stop_recording():
                with tf.GradientTape() as d_tape:
                    # The real and the mismatching pairs hold the same pictures: the trunk looks at them once.
                    seen = discriminator.trunk(image, training=True, updates=2)
                    real = discriminator.logit(seen, rows["matching"], training=True)
                    mismatched = discriminator.logit(seen, rows["mismatching"], training=True)
                    wrong = discriminator(edited, relevant, training=True)
                    d_terms = self.d_terms(real, mismatched, wrong)
                    d_loss = tf.add_n(list(d_terms.values()))
                d_norm = steps.descend(d_tape, d_loss, self.d_optimizer, discriminator, measure)
            logit = discriminator(edited, relevant, training=True, updates=0)
            g_terms = self.g_terms(logit, mean, log_sigma)
            g_loss = tf.add_n(list(g_terms.values()))
        g_norm = steps.descend(g_tape, g_loss, self.g_optimizer, generator, measure)
        return {
            **d_terms, "d_loss": d_loss, **g_terms, "g_loss": g_loss,
            **steps.statistics(score_real=real, score_mismatched=mismatched, score_edited=wrong),
            "source_correlation": steps.correlation(edited, image),
            "d_gradient_norm": d_norm, "g_gradient_norm": g_norm,
        }  # fmt: skip

    def warnings(self, terms: dict[str, float]) -> dict[str, tuple[bool, str]]:
        """A D that has learnt the pictures by heart; a code that says nothing."""
        return {**steps.saturated(terms), **steps.silent(terms, self.config.kl_weight)}
