"""SIMGAN (Yu, Dong, Liang, Mo, Wu, Guo): generator, discriminator, objective of Eq. 1-4 and one training step.
The contract it keeps stands in simgan_tf/methods/__init__.py."""

from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf

from simgan_tf import losses
from simgan_tf.configs.simgan import Config
from simgan_tf.layers import (
    ConditioningAugmentation,
    Normed,
    Residual,
    Upsample,
    conv,
    dense,
    detail,
    join,
    leaky_relu,
    transposed_conv,
)
from simgan_tf.methods import step as steps
from simgan_tf.text.encoders import TextEncoder


class Generator(keras.Model):
    """G: an image and a sentence's embedding to the edited image. Source: Sec. 2 and 3.1, Fig. 2.

    Encoder of 3 convolutions, join with the conditioning code, `units` residual units of 2 convolutions each, decoder
    of 2 transposed convolutions. Differs: the paper gives no widths, kernels or join; those here are its relatives'
    (A1-A9). A fusing convolution brings the joined features back to the trunk's width (A4), and a last convolution
    makes the three colours (A8).
    Differs: with image_skip (not the paper's presets) the picture's fine lightness is added to the last convolution's
    sum, before the tanh, so that G learns the colours and need not draw every edge anew.
    Differs: with decoder="resize" (not the paper's presets) G doubles its size by repeating pixels and a convolution.
    """

    def __init__(self, config: Config) -> None:
        super().__init__(name="generator")
        self.config = config
        c = config.width
        self.conv1 = conv(c, 3, bias=True)
        self.conv2 = Normed(conv(2 * c, 4, stride=2))
        self.conv3 = Normed(conv(4 * c, 4, stride=2))
        self.augment = ConditioningAugmentation(config.ca_size)
        self.fuse = Normed(conv(4 * c, 3))
        for i in range(config.units):  # setattr: Keras 3 does not checkpoint layers held in a list
            setattr(self, f"unit{i}", Residual(4 * c))
        up = transposed_conv if config.decoder == "transposed" else Upsample
        self.up1 = Normed(up(2 * c))
        self.up2 = Normed(up(c))
        self.to_image = conv(3, 3, bias=True)

    def call(
        self, image: tf.Tensor, embedding: tf.Tensor, noise: tf.Tensor, training: bool = False, updates: int = 1
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Edited image [B, H, W, 3] float32 in [-1, 1], and the code's mean and log sigma, both [B, Z] float32.

        image: [B, H, W, 3] float32 in [-1, 1]. embedding: [B, D] float32, phi(t). noise: [B, Z] float32, epsilon of
        c = mean + sigma * epsilon; zeros give the mean. updates: how often batch statistics enter the moving ones.
        """
        how = {"training": training, "updates": updates}
        x = tf.nn.relu(self.conv1(image))  # [B, H, W, c]
        x = tf.nn.relu(self.conv2(x, **how))  # [B, H/2, W/2, 2c]
        x = tf.nn.relu(self.conv3(x, **how))  # [B, H/4, W/4, 4c]

        mean, log_sigma = self.augment(embedding)
        x = join(x, mean + tf.exp(log_sigma) * tf.cast(noise, mean.dtype))  # [B, H/4, W/4, 4c + Z]
        x = tf.nn.relu(self.fuse(x, **how))  # [B, H/4, W/4, 4c]
        for i in range(self.config.units):
            x = getattr(self, f"unit{i}")(x, **how)

        x = tf.nn.relu(self.up1(x, **how))  # [B, H/2, W/2, 2c]
        x = tf.nn.relu(self.up2(x, **how))  # [B, H, W, c]
        x = tf.cast(self.to_image(x), tf.float32)  # rounded to the layers' precision, a quarter of an 8-bit step
        if self.config.image_skip == "detail":
            x = x + detail(tf.cast(image, tf.float32))
        return tf.tanh(x), mean, log_sigma


class Discriminator(keras.Model):
    """D: one score [B] float32 of an image and a sentence's embedding; 1 = real and matching. Source: Sec. 2.1, 3.1.

    Stride-2 convolutions down to 4x4 (six at 256x256), the text reduced by a dense layer and repeated at the 4x4
    places, a 1x1 convolution, a 4x4 convolution: 8 in all, linear output.
    Differs: the paper gives only the count (A10). At sizes below 256 there are fewer stride-2 convolutions.
    """

    def __init__(self, config: Config) -> None:
        super().__init__(name="discriminator")
        d = config.d_width
        self.text = dense(config.text_size)
        self.stages = config.image_size.bit_length() - 3  # log2(size / 4)
        self.conv0 = conv(d, 4, stride=2, bias=True)
        for i in range(1, self.stages):
            setattr(self, f"conv{i}", Normed(conv(min(d << i, 8 * d), 4, stride=2)))
        self.fuse = Normed(conv(8 * d, 1))
        self.to_score = conv(1, 4, bias=True, padding="valid")

    def call(self, image: tf.Tensor, embedding: tf.Tensor, training: bool = False, updates: int = 1) -> tf.Tensor:
        """image: [B, H, W, 3] float32 in [-1, 1]. embedding: [B, D] float32, phi(t) itself, not its sample (A13)."""
        return self.score(self.features(image, training, updates), embedding, training, updates)

    def features(self, image: tf.Tensor, training: bool = False, updates: int = 1) -> tf.Tensor:
        """What D sees of the image before it hears the text: [B, 4, 4, min(2^i, 8) d]."""
        x = leaky_relu(self.conv0(image))  # [B, H/2, W/2, d]
        for i in range(1, self.stages):
            x = leaky_relu(getattr(self, f"conv{i}")(x, training=training, updates=updates))  # [B, H/2^(i+1), ...]
        return x

    def score(self, x: tf.Tensor, embedding: tf.Tensor, training: bool = False, updates: int = 1) -> tf.Tensor:
        """Scores [B] float32 of features x and phi(t)."""
        text = leaky_relu(self.text(embedding))  # [B, text_size]
        x = leaky_relu(self.fuse(join(x, text), training=training, updates=updates))  # [B, 4, 4, 8d]
        return tf.reshape(tf.cast(self.to_score(x), tf.float32), [-1])  # [B, 1, 1, 1] -> [B]


class SIMGAN:
    """Both networks, both optimizers, the objective and the step."""

    def __init__(self, config: Config, text_encoder: TextEncoder, steps_per_epoch: int | None = None) -> None:
        self.config, self.text_encoder = config, text_encoder
        self.noise_size, self.embedding_size = config.ca_size, text_encoder.dim
        image = tf.zeros([1, config.image_size, config.image_size, 3])
        embedding, noise = tf.zeros([1, self.embedding_size]), tf.zeros([1, self.noise_size])

        self.generator = self.network = steps.built(Generator, config, image, embedding, noise)
        self.part = "generator_ema" if config.ema_decay else "generator"
        self.parts = {self.part: self.network}
        if steps_per_epoch is None:
            return
        self.discriminator = steps.built(Discriminator, config, image, embedding)
        self.g_optimizer = steps.adam(config, self.generator, steps_per_epoch)
        self.d_optimizer = steps.adam(config, self.discriminator, steps_per_epoch)
        self.parts = {
            "generator": self.generator,
            "discriminator": self.discriminator,
            "g_optimizer": self.g_optimizer,
            "d_optimizer": self.d_optimizer,
        }
        if config.ema_decay:
            self.network = self.parts[self.part] = steps.built(Generator, config, image, embedding, noise)
            self.restart_average()

    # What a sentence becomes, and the edit

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """phi [n, D] float32 of n sentences."""
        return self.text_encoder.encode(texts)

    def embed(self, tokens: tf.Tensor) -> tf.Tensor:
        """phi [B, D] float32 of ids [B, T] int32."""
        return self.text_encoder.embed(tokens)

    def edit(
        self, image: tf.Tensor, embedding: tf.Tensor, noise: tf.Tensor, network: keras.Model | None = None
    ) -> tf.Tensor:
        """x_hat = G(x, phi(t_bar)) [B, H, W, 3] float32 in [-1, 1], batch norm in inference mode.

        noise: [B, Z] float32; zeros give the deterministic edit, other draws give other results (Sec. 3.4).
        """
        return (network or self.network)(image, embedding, noise)[0]

    # The objective, Eq. 1-4

    def d_terms(self, real: tf.Tensor, mismatched: tf.Tensor, edited: tf.Tensor) -> dict[str, tf.Tensor]:
        """Eq. 1, of D's scores [B] of the three kinds of pairs."""
        terms = {
            "d_real": losses.least_squares(real, 1.0),
            "d_mismatched": losses.least_squares(mismatched, 0.0),
            "d_edited": losses.least_squares(edited, 0.0),
        }
        return {name: self.config.adversarial_weight * term for name, term in terms.items()}

    def g_terms(
        self,
        score: tf.Tensor,
        image: tf.Tensor,
        edited: tf.Tensor,
        reconstructed: tf.Tensor,
        mean: tf.Tensor,
        log_sigma: tf.Tensor,
        own: tf.Tensor,
    ) -> dict[str, tf.Tensor]:
        """G's terms of Eq. 4. own: [B], 1.0 where a picture was edited by its own sentence.

        Differs: with own_text above 0 (not the paper's presets), the first pictures of a batch get their own sentence
        as target, as SISGAN's second half does, and the L1 distance of their edit to the picture itself is added, as
        TAGAN does. One G on both ways may invert: G(G(x)) = x also holds for a G that turns light into dark, or one
        background's colours into another's, and nothing in Eq. 4 says which; this term does.
        """
        config = self.config
        terms = {
            "g_adversarial": config.adversarial_weight * losses.least_squares(score, 1.0),
            "g_cycle": config.cycle_weight * losses.l1(reconstructed, image),  # Eq. 2
            # Eq. 3, on the text that drives x_hat, and never on the way back.
            "g_kl": config.kl_weight * losses.kl_to_normal(mean, log_sigma),
        }
        if config.own_rows:  # averaged over the whole batch, so that one picture weighs what it does in the cycle loss
            distance = tf.reduce_mean(tf.abs(edited - image), axis=[1, 2, 3])
            terms["g_own"] = config.cycle_weight * tf.reduce_mean(own * distance)
        return terms

    # One step

    def prepare(self, batch: dict[str, tf.Tensor], step: tf.Tensor) -> dict[str, tf.Tensor]:
        """Rows of B: image, matching = phi(t), mismatching = phi(t_bar), target = the text that drives x_hat, which is
        t_bar but for the first own_rows pictures, noise, and own: 1.0 in those rows."""
        config, matching = self.config, batch["embedding"]
        mismatching = steps.mismatched(matching, batch["class_id"], config.mismatch)
        count, own = batch["image"].shape[0], config.own_rows
        return {
            "image": batch["image"],
            "matching": matching,
            "mismatching": mismatching,
            "target": tf.concat([matching[:own], mismatching[own:]], axis=0),
            "noise": steps.draw_noise(count, self.noise_size, tf.stack([tf.cast(config.seed, tf.int64), 2 * step])),
            "own": tf.cast(tf.range(count) < own, tf.float32),
        }

    def update(self, rows: dict[str, tf.Tensor], measure: tf.Tensor | bool = False) -> dict[str, tf.Tensor]:
        """One update of D, then one of G, from one forward pass of G.

        Differs: x_hat is computed once. D is updated on it as a constant, then G's gradient flows through the updated
        D; the relatives draw and run G a second time, at a fifth more cost.
        """
        generator, discriminator = self.generator, self.discriminator
        image, matching, target = rows["image"], rows["matching"], rows["target"]
        with tf.GradientTape() as g_tape:
            edited, mean, log_sigma = generator(image, target, rows["noise"], training=True)  # x_hat

            with g_tape.stop_recording():
                with tf.GradientTape() as d_tape:
                    # Real and edited pictures in separate calls: they must not share batch statistics (A29). The real
                    # and the mismatching pairs hold the same pictures; two calls would only look at them twice.
                    seen = discriminator.features(image, training=True, updates=2)
                    real_score = discriminator.score(seen, matching, training=True)
                    mismatched_score = discriminator.score(seen, rows["mismatching"], training=True)
                    edited_score = discriminator(edited, target, training=True)
                    d_terms = self.d_terms(real_score, mismatched_score, edited_score)
                    d_loss = tf.add_n(list(d_terms.values()))
                d_norm = steps.descend(d_tape, d_loss, self.d_optimizer, discriminator, measure)

            score = discriminator(edited, target, training=True, updates=0)
            # The way back by the code's mean (A23), which does not move the statistics that edits are made with (A28).
            reconstructed, _, _ = generator(edited, matching, tf.zeros_like(rows["noise"]), training=True, updates=0)
            g_terms = self.g_terms(score, image, edited, reconstructed, mean, log_sigma, rows["own"])
            g_loss = tf.add_n(list(g_terms.values()))
        g_norm = steps.descend(g_tape, g_loss, self.g_optimizer, generator, measure)

        return {
            **d_terms, "d_loss": d_loss, **g_terms, "g_loss": g_loss,
            **steps.statistics(score_real=real_score, score_mismatched=mismatched_score, score_edited=edited_score),
            "source_correlation": steps.correlation(edited, image),  # below 0 in a run that inverts
            "d_gradient_norm": d_norm, "g_gradient_norm": g_norm,
        }  # fmt: skip

    def average(self, step: tf.Tensor) -> None:
        if self.config.ema_decay:
            steps.move_average(self.config, self.network, self.generator, step)

    def restart_average(self) -> None:
        if self.config.ema_decay:
            steps.copy_weights(self.generator, to=self.network)

    # What others ask of it
    def variables(self) -> dict[str, list[tf.Variable]]:
        """Everything a checkpoint must hold, as raw variables by part."""
        return {name: steps.raw_variables(part) for name, part in self.parts.items()}

    def embed_variables(self) -> list[tf.Variable]:
        """phi's variables."""
        return list(self.text_encoder.variables)

    def lent_by(self, other: object, parts: set[str]) -> dict[str, str]:
        """G, of any size, since it is convolutions (the averaged one of a packed model, which has no other); D of the
        same size."""
        lent = {"generator": next(name for name in ("generator", "generator_ema") if name in parts)}
        if "discriminator" in parts and other.image_size == self.config.image_size:
            lent["discriminator"] = "discriminator"
        return lent

    def warnings(self, terms: dict[str, float]) -> dict[str, tuple[bool, str]]:
        """A D that has learnt the pictures by heart; a code that says nothing. docs/training.md shows both."""
        saturated, silent = 0.05 * self.config.adversarial_weight, 1e-3 * self.config.kl_weight
        kl = terms.get("g_kl", 1.0)
        return {
            "saturated": (
                all(terms.get(name, 1.0) < saturated for name in ("d_real", "d_mismatched", "d_edited")),
                "D's three scores are saturated: it has learnt the pictures by heart and teaches G little. Stop "
                "earlier, take more data, or start again with a lower --learning_rate.",
            ),
            "silent": (
                kl < silent,
                f"g_kl is about zero ({kl:.2g}): the text is silenced. Start again with a lower --kl_weight, or a "
                "larger --phi_scale of phi.",
            ),
        }
