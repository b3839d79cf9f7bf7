"""TAGAN (Nam, Kim, Kim, NeurIPS 2018): word encoder, generator, text-adaptive discriminator, objective and step.
The contract it keeps stands in simgan_tf/methods/__init__.py. `Source:` is the authors' code, woozzu/tagan."""

from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf

from simgan_tf import losses
from simgan_tf.configs.tagan import Config
from simgan_tf.layers import (
    ConditioningAugmentation,
    Normed,
    Residual,
    Upsample,
    WordEncoder,
    conv,
    dense,
    join,
    leaky_relu,
)
from simgan_tf.methods import step as steps
from simgan_tf.text.encoders import TextEncoder


class Generator(keras.Model):
    """G: an image and a sentence's vector to the edited image. Source: model.py, Generator.

    Encoder of 4 convolutions to an eighth of the size, join with the conditioning code, `units` residual units without
    a ReLU behind the sum, and a decoder that takes the encoder's features added to the trunk's.
    """

    def __init__(self, config: Config, text_encoder: TextEncoder) -> None:
        super().__init__(name="generator")
        self.config = config
        c = config.width
        self.words = WordEncoder(text_encoder, config.word_size, config.hidden_size)
        self.conv1 = conv(c, 3, bias=True)
        self.conv2 = Normed(conv(2 * c, 4, stride=2))
        self.conv3 = Normed(conv(4 * c, 4, stride=2))
        self.conv4 = Normed(conv(8 * c, 4, stride=2))
        self.augment = ConditioningAugmentation(config.ca_size)
        self.fuse = Normed(conv(8 * c, 3))
        for i in range(config.units):  # setattr: Keras 3 does not checkpoint layers held in a list
            setattr(self, f"unit{i}", Residual(8 * c, last_relu=False))
        self.up1 = Normed(Upsample(4 * c))
        self.up2 = Normed(Upsample(2 * c))
        self.up3 = Normed(Upsample(c))
        self.to_image = conv(3, 3, bias=True)

    def encode(self, tokens: tf.Tensor) -> tf.Tensor:
        """The sentence's vector [B, H] float32 of ids [B, T] int32, times text_scale.

        Differs: the code has no such factor, and its presets here have 1. The mean over a sentence's words differs
        little from one colour to another, and at first the code's noise drowns it; few steps do not get over that.
        """
        return self.config.text_scale * self.words.mean(*self.words(tokens))

    def call(
        self, image: tf.Tensor, embedding: tf.Tensor, noise: tf.Tensor, training: bool = False
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Edited image [B, H, W, 3] float32 in [-1, 1], and the code's mean and log sigma, both [B, Z] float32.

        image: [B, H, W, 3] float32 in [-1, 1]. embedding: [B, D] float32 of `encode`. noise: [B, Z] float32, epsilon of
        c = mean + sigma * epsilon; zeros give the mean.
        """
        x = tf.nn.relu(self.conv1(image))  # [B, H, W, c]
        x = tf.nn.relu(self.conv2(x, training=training))  # [B, H/2, W/2, 2c]
        x = tf.nn.relu(self.conv3(x, training=training))  # [B, H/4, W/4, 4c]
        features = tf.nn.relu(self.conv4(x, training=training))  # [B, H/8, W/8, 8c]

        mean, log_sigma = self.augment(embedding)
        x = join(features, mean + tf.exp(log_sigma) * tf.cast(noise, mean.dtype))  # [B, H/8, W/8, 8c + Z]
        x = tf.nn.relu(self.fuse(x, training=training))  # [B, H/8, W/8, 8c]
        for i in range(self.config.units):
            x = getattr(self, f"unit{i}")(x, training=training)

        x = tf.nn.relu(self.up1(features + x, training=training))  # [B, H/4, W/4, 4c]
        x = tf.nn.relu(self.up2(x, training=training))  # [B, H/2, W/2, 2c]
        x = tf.nn.relu(self.up3(x, training=training))  # [B, H, W, c]
        x = tf.tanh(tf.cast(self.to_image(x), tf.float32))
        if x.shape != image.shape or None in x.shape[1:]:  # sides that 8 does not divide come out longer
            x = x[:, : tf.shape(image)[1], : tf.shape(image)[2]]
        return x, mean, log_sigma


class Discriminator(keras.Model):
    """D: how real an image is, and how well each word of a sentence fits what D sees. Source: model.py, Discriminator.

    Stride-2 convolutions down to 4x4 (five at 128x128) and a 4x4 convolution give the logit. The maps of the last three
    stages, each through one more convolution and averaged over places, are v_1, v_2, v_3. Each word makes its own small
    classifiers of them: f_i = sum_j beta_ij sigmoid(W_j(u_i) v_j + b_j(u_i)), with beta_i = softmax_j(u_i). The words'
    answers are weighed by attention, alpha_i = softmax_i(u_i . mean(u)): p = prod_i f_i^alpha_i.
    Differs: p is a sum of logarithms, exact where the code needs a clamp at 1 and adds 1e-7, and the softmaxes cannot
    overflow. Below 32x32 there are fewer than three stages, and so maps.
    """

    def __init__(self, config: Config, text_encoder: TextEncoder) -> None:
        super().__init__(name="discriminator")
        self.words = WordEncoder(text_encoder, config.word_size, config.hidden_size)
        self.stages = config.image_size.bit_length() - 3  # log2(size / 4)
        self.scales = range(max(0, self.stages - 3), self.stages)
        d, widths = config.d_width, [min(config.d_width << i, 8 * config.d_width) for i in range(self.stages)]
        self.conv0 = conv(d, 4, stride=2, bias=True)
        for i in range(1, self.stages):
            setattr(self, f"conv{i}", Normed(conv(widths[i], 4, stride=2)))
        self.to_logit = conv(1, 4, bias=True, padding="valid")
        for j in self.scales:
            setattr(self, f"look{j}", Normed(conv(widths[j], 3)))
            setattr(self, f"classify{j}", dense(widths[j] + 1, "float32"))
        self.to_levels = dense(len(self.scales), "float32")

    def call(self, image: tf.Tensor, tokens: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """The logit [B] of image [B, H, W, 3], and log p [B] of it and ids [B, T] int32; both float32."""
        maps = self.maps(image)
        return self.logit(maps), self.match(self.look(maps), self.hear(tokens))

    def maps(self, image: tf.Tensor, training: bool = False, updates: int = 1) -> list[tf.Tensor]:
        """The maps of the last stages, [B, H/2^(j+1), W/2^(j+1), min(2^j, 8) d] each; the last is 4x4."""
        maps = [leaky_relu(self.conv0(image))]
        for i in range(1, self.stages):
            maps.append(leaky_relu(getattr(self, f"conv{i}")(maps[-1], training=training, updates=updates)))
        return [maps[j] for j in self.scales]

    def logit(self, maps: list[tf.Tensor]) -> tf.Tensor:
        """Whether the image is real, whatever is said of it: [B] float32."""
        return tf.reshape(tf.cast(self.to_logit(maps[-1]), tf.float32), [-1])  # [B, 1, 1, 1] -> [B]

    def look(self, maps: list[tf.Tensor], training: bool = False, updates: int = 1) -> list[tf.Tensor]:
        """v_j: [B, C_j] float32 of each map."""
        seen = []
        for j, x in zip(self.scales, maps, strict=True):
            x = leaky_relu(getattr(self, f"look{j}")(x, training=training, updates=updates))
            seen.append(tf.reduce_mean(tf.cast(x, tf.float32), axis=[1, 2]))
        return seen

    def hear(self, tokens: tf.Tensor) -> list[tf.Tensor]:
        """alpha [B, T], log beta [B, T, J], and of each map W and b as one, [B, T, C_j + 1]; all float32."""
        u, known = self.words(tokens)
        scores = tf.einsum("bth,bh->bt", u, self.words.mean(u, known))
        attention = tf.nn.softmax(tf.where(known, scores, -1e9), axis=1)  # finite also where no word is
        levels = tf.nn.log_softmax(self.to_levels(u))
        return [attention, levels, *[getattr(self, f"classify{j}")(u) for j in self.scales]]

    def answers(self, seen: list[tf.Tensor], heard: list[tf.Tensor]) -> tf.Tensor:
        """log f_i, at most 0: whether each word fits the image, [B, T] float32."""
        _, levels, *classifiers = heard
        logits = [tf.einsum("btc,bc->bt", w[..., :-1], v) + w[..., -1] for v, w in zip(seen, classifiers, strict=True)]
        return tf.reduce_logsumexp(levels + tf.math.log_sigmoid(tf.stack(logits, axis=-1)), axis=-1)

    def match(self, seen: list[tf.Tensor], heard: list[tf.Tensor]) -> tf.Tensor:
        """log p [B] float32: whether the sentence fits the image."""
        return tf.reduce_sum(heard[0] * self.answers(seen, heard), axis=1)


class TAGAN(steps.Method):
    """Both networks, both optimizers, the objective and the step."""

    def __init__(self, config: Config, text_encoder: TextEncoder, steps_per_epoch: int | None = None) -> None:
        """Raises: ValueError for a text encoder that has no words."""
        if not hasattr(text_encoder, "word_vectors"):
            raise ValueError(
                f"the text encoder {text_encoder.name!r} ({text_encoder.kind}) has no words, and tagan listens to each "
                "word: train one, python -m simgan_tf.text.train, or give --text_encoder=... of kind vse or kiros."
            )
        self.config, self.text_encoder = config, text_encoder
        self.noise_size, self.embedding_size = config.ca_size, config.hidden_size
        image = tf.zeros([1, config.image_size, config.image_size, 3])
        tokens = tf.ones([1, text_encoder.length], tf.int32)

        def make(config: Config) -> Generator:
            generator = Generator(config, text_encoder)
            generator.encode(tokens)
            return generator

        inputs = image, tf.zeros([1, self.embedding_size]), tf.zeros([1, self.noise_size])
        self.generator = self.trained = self.network = steps.built(make, config, *inputs)
        self.part = "generator_ema" if config.ema_decay else "generator"
        self.parts = {self.part: self.network}
        if steps_per_epoch is None:
            return
        self.discriminator = steps.built(lambda c: Discriminator(c, text_encoder), config, image, tokens)
        self.g_optimizer = steps.adam(config, self.generator, steps_per_epoch)
        self.d_optimizer = steps.adam(config, self.discriminator, steps_per_epoch)
        self.parts = {
            "generator": self.generator, "discriminator": self.discriminator,
            "g_optimizer": self.g_optimizer, "d_optimizer": self.d_optimizer,
        }  # fmt: skip
        self.keep_average(make, *inputs)

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """G's own vectors [n, H] float32 of n sentences."""
        return self.embed(tf.constant(self.text_encoder.tokens(texts))).numpy()

    def embed(self, tokens: tf.Tensor) -> tf.Tensor:
        """G's own vectors [B, H] float32 of ids [B, T] int32."""
        return self.network.encode(tokens)

    def edit(
        self, image: tf.Tensor, embedding: tf.Tensor, noise: tf.Tensor, network: keras.Model | None = None
    ) -> tf.Tensor:
        """x_hat = G(x, t_bar) [B, H, W, 3] float32 in [-1, 1], batch norm in inference mode; noise zeros = the mean."""
        return (network or self.network)(image, embedding, noise)[0]

    def attention(self, image: tf.Tensor, tokens: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """How much D listens to each word, alpha, and whether that fits the image, f: both [B, T] float32 in [0, 1]."""
        seen, heard = self.discriminator.look(self.discriminator.maps(image)), self.discriminator.hear(tokens)
        return heard[0], tf.exp(self.discriminator.answers(seen, heard))

    def prepare(self, batch: dict[str, tf.Tensor], step: tf.Tensor) -> dict[str, tf.Tensor]:
        """Rows of B: image, matching = ids of t, mismatching = ids of t_bar, and the noise of G's two passes."""
        count, seed = batch["tokens"].shape[0], tf.cast(self.config.seed, tf.int64)
        return {
            "image": batch["image"],
            "matching": batch["tokens"],
            "mismatching": steps.mismatched(batch["tokens"], batch["class_id"], self.config.mismatch),
            "noise": steps.draw_noise(count, self.noise_size, tf.stack([seed, 2 * step])),
            "own_noise": steps.draw_noise(count, self.noise_size, tf.stack([seed, 2 * step + 1])),
        }

    def update(self, rows: dict[str, tf.Tensor], measure: tf.Tensor | bool = False) -> dict[str, tf.Tensor]:
        """One update of D, then one of G, on the sum of its two passes: by t_bar, and by t back to the image.

        D tells the real from the edited without words, and with words matching from mismatching real pairs alone.
        Differs: x_hat is computed once, for D a constant, and G's gradient flows through the updated D; the code draws
        and runs G again. Of G's two passes it adds up the gradients, which is the gradient of their sum.
        """
        config, generator, discriminator = self.config, self.generator, self.discriminator
        image = rows["image"]
        texts = tf.concat([rows["mismatching"], rows["matching"]], axis=0)
        with tf.GradientTape() as g_tape:
            target, own = tf.split(generator.encode(texts), 2)
            edited, mean, log_sigma = generator(image, target, rows["noise"], training=True)  # x_hat

            with g_tape.stop_recording():
                with tf.GradientTape() as d_tape:
                    maps = discriminator.maps(image, training=True)
                    real = discriminator.logit(maps)
                    seen = discriminator.look(maps, training=True)
                    wrong, right = zip(*[tf.split(each, 2) for each in discriminator.hear(texts)], strict=True)
                    mismatching, matching = discriminator.match(seen, wrong), discriminator.match(seen, right)
                    fake = discriminator.logit(discriminator.maps(edited, training=True))
                    d_terms = {
                        "d_real": losses.cross_entropy(real, 1.0),
                        "d_edited": losses.cross_entropy(fake, 0.0),
                        "d_matching": config.conditional_weight / 2 * losses.log_cross_entropy(matching, 1.0),
                        "d_mismatched": config.conditional_weight / 2 * losses.log_cross_entropy(mismatching, 0.0),
                    }
                    d_loss = tf.add_n(list(d_terms.values()))
                d_norm = steps.descend(d_tape, d_loss, self.d_optimizer, discriminator, measure)
                heard = discriminator.hear(rows["mismatching"])

            maps = discriminator.maps(edited, training=True, updates=0)
            match = discriminator.match(discriminator.look(maps, training=True, updates=0), heard)
            reconstructed, own_mean, own_log_sigma = generator(image, own, rows["own_noise"], training=True)
            kl = losses.kl_to_normal(mean, log_sigma) + losses.kl_to_normal(own_mean, own_log_sigma)
            g_terms = {
                "g_adversarial": losses.cross_entropy(discriminator.logit(maps), 1.0),
                "g_matching": config.conditional_weight * losses.log_cross_entropy(match, 1.0),
                "g_reconstruction": config.reconstruction_weight * losses.l1(reconstructed, image),
                "g_kl": config.kl_weight * kl,
            }
            g_loss = tf.add_n(list(g_terms.values()))
        g_norm = steps.descend(g_tape, g_loss, self.g_optimizer, generator, measure)

        return {
            **d_terms, "d_loss": d_loss, **g_terms, "g_loss": g_loss,
            **steps.statistics(
                score_real=tf.sigmoid(real), score_edited=tf.sigmoid(fake), score_matching=tf.exp(matching),
                score_mismatched=tf.exp(mismatching),
            ),
            "source_correlation": steps.correlation(edited, image),
            "d_gradient_norm": d_norm, "g_gradient_norm": g_norm,
        }  # fmt: skip

    def embed_variables(self) -> list[tf.Variable]:
        """Those of G's words, and phi's where its word vectors are taken."""
        own = steps.raw_variables(self.network.words)
        return own if self.config.word_size else [*self.text_encoder.variables[:1], *own]

    def warnings(self, terms: dict[str, float]) -> dict[str, tuple[bool, str]]:
        return {**steps.saturated(terms), **steps.silent(terms, self.config.kl_weight)}
