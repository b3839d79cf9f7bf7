"""SIMGAN (Yu, Dong, Liang, Mo, Wu, Guo): generator, discriminator, objective of Eq. 1-4 and one training step.
The contract it keeps stands in simgan_tf/methods/__init__.py."""


import keras
import tensorflow as tf

from simgan_tf import losses
from simgan_tf.configs.simgan import Config
from simgan_tf.evaluation import outlines
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
)  # fmt: skip
from simgan_tf.methods import step as steps
from simgan_tf.text.encoders import TextEncoder

D_ALONE, BOTH = 0, 1  # what a step trains
Tensors = dict[str, tf.Tensor]


class Generator(keras.Model):
    """G: an image and a sentence's embedding to the edited image. Source: Sec. 2 and 3.1, Fig. 2.

    Encoder of 3 convolutions, join with the conditioning code, `units` residual units of 2 convolutions each, decoder
    of 2 transposed convolutions. Differs: the paper gives no widths, kernels or join; those here are its relatives'
    (A1-A9). A fusing convolution brings the joined features back to the trunk's width (A4), and a last convolution
    makes the three colours (A8).
    Differs: with image_skip (not the paper's presets) the picture's fine lightness is added to the last convolution's
    sum, before the tanh, so that G learns the colours and need not draw every edge anew.
    Differs: with decoder="resize" (not the paper's presets) G doubles its size by repeating pixels and a convolution.
    Differs: with dilation=2 (not the paper's presets) the units' kernels reach twice as far, so that the G of 128x128
    sees as much of a picture of 256x256, with the weights it has.
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
            setattr(self, f"unit{i}", Residual(4 * c, dilation=config.dilation))
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


def seen(pictures: tf.Tensor, inside: tf.Tensor | None) -> tf.Tensor:
    """What D sees of pictures: with outlined, the object alone."""
    return pictures if inside is None else inside * pictures


def laid_over(image: tf.Tensor, edited: tf.Tensor, inside: tf.Tensor | None) -> tf.Tensor:
    """G's picture; with outlined, that where the object is and the image around it."""
    return edited if inside is None else image + inside * (edited - image)


class SIMGAN(steps.Method):
    """Both networks, both optimizers, the objective and the step.

    Differs: three additions, off in the paper's presets. outlined: a small network, which is not trained here, finds
    the object; what G draws is laid over the image there alone, in training as in editing, and D sees the object alone:
    nothing in Eq. 4 keeps a background. looks: G edits every looks-th picture of a batch; what sentences say D learns
    from real and mismatching pairs, at a fraction of the cost. d_alone: D learns alone first, so that one begun anew
    does not ruin the G beside it.
    """

    def __init__(self, config: Config, text_encoder: TextEncoder, steps_per_epoch: int | None = None) -> None:
        self.config, self.text_encoder = config, text_encoder
        self.noise_size, self.embedding_size = config.ca_size, text_encoder.dim
        image = tf.zeros([1, config.image_size, config.image_size, 3])
        embedding, noise = tf.zeros([1, self.embedding_size]), tf.zeros([1, self.noise_size])

        self.generator = self.trained = self.network = steps.built(Generator, config, image, embedding, noise)
        self.part = "generator_ema" if config.ema_decay else "generator"
        self.parts = {self.part: self.network}
        self.outlines = None if config.outlined == "none" else outlines.fixed(config.outlined)
        if steps_per_epoch is None:
            return
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
        """x_hat = G(x, phi(t_bar)) [B, H, W, 3] float32 in [-1, 1], batch norm in inference mode.

        noise: [B, Z] float32; zeros give the deterministic edit, other draws give other results (Sec. 3.4).
        """
        return laid_over(image, (network or self.network)(image, embedding, noise)[0], self.inside(image))

    def inside(self, image: tf.Tensor) -> tf.Tensor | None:
        """With outlined, how surely each pixel is the object's, [B, H, W, 1] float32 in [0, 1]."""
        if self.outlines is None:
            return None
        return outlines.inside(self.outlines, image, self.config.image_size)[..., None]

    def d_terms(self, real: tf.Tensor, mismatched: tf.Tensor, edited: tf.Tensor) -> Tensors:
        """Eq. 1, of D's scores [B] of the three kinds of pairs."""
        weight = self.config.adversarial_weight
        return {
            "d_real": weight * losses.least_squares(real, 1.0),
            "d_mismatched": weight * losses.least_squares(mismatched, 0.0),
            "d_edited": weight * losses.least_squares(edited, 0.0),
        }

    def g_terms(
        self, rows: Tensors, edited: tf.Tensor, score: tf.Tensor, reconstructed: tf.Tensor, *code: tf.Tensor
    ) -> Tensors:
        """G's terms of Eq. 4. rows: of `prepare`, those that were edited. code: its mean and log sigma.

        Differs: with own_text above 0 (not the paper's presets), some pictures of a batch get their own sentence as
        target, as SISGAN's second half does, and the L1 distance of their edit to the picture itself is added, as in
        TAGAN. One G on both ways may invert: G(G(x)) = x also holds for a G that turns light into dark.
        """
        config, image = self.config, rows["image"]
        terms = {
            "g_adversarial": config.adversarial_weight * losses.least_squares(score, 1.0),
            "g_cycle": config.cycle_weight * losses.l1(reconstructed, image),  # Eq. 2
            # Eq. 3, on the text that drives x_hat, and never on the way back.
            "g_kl": config.kl_weight * losses.kl_to_normal(*code),
        }
        if config.own_rows:
            # Averaged over all rows, so that one picture weighs what it does in the cycle loss.
            distance = rows["own"][:, None, None, None] * tf.abs(edited - image)
            terms["g_own"] = config.cycle_weight * tf.reduce_mean(distance)
        return terms

    def prepare(self, batch: Tensors, step: tf.Tensor, stage: int = BOTH) -> Tensors:
        """Rows of B: image, matching = phi(t), mismatching = phi(t_bar), target = the text that drives x_hat, which is
        t_bar but for own_rows pictures, noise, own: 1.0 in those rows, and, with outlined, `inside`. Every looks-th row
        is edited."""
        config, matching, image = self.config, batch["embedding"], batch["image"]
        mismatching = steps.mismatched(matching, batch["class_id"], config.mismatch)
        count, looks = matching.shape[0], config.looks
        row = tf.range(count)
        own = tf.cast((row % looks == 0) & (row // looks < config.own_rows), tf.float32)
        inside = self.inside(image)
        return ({} if inside is None else {"inside": inside}) | {
            "image": image,
            "matching": matching,
            "mismatching": mismatching,
            "target": tf.where(own[:, None] > 0, matching, mismatching),
            "noise": steps.draw_noise(count, self.noise_size, tf.stack([tf.cast(config.seed, tf.int64), 2 * step])),
            "own": own,
        }

    def stage(self, step: int) -> int:
        """D_ALONE in the first `d_alone` steps, BOTH in the later ones."""
        return D_ALONE if step < self.config.d_alone else BOTH

    def update(self, rows: Tensors, measure: tf.Tensor | bool = False, stage: int = BOTH) -> Tensors:
        """One update of D, then one of G, from one forward pass of G.

        Differs: x_hat is computed once. D is updated on it as a constant, then G's gradient flows through the updated
        D; the relatives draw and run G a second time, at a fifth more cost.
        """
        generator, edits = self.generator, {name: values[:: self.config.looks] for name, values in rows.items()}
        image, matching, target, inside = edits["image"], edits["matching"], edits["target"], edits.get("inside")
        if stage == D_ALONE:
            edited = laid_over(image, generator(image, target, edits["noise"])[0], inside)
            return self.update_d(rows, edits, edited, measure)
        with tf.GradientTape() as tape:
            drawn, *code = generator(image, target, edits["noise"], training=True)
            edited = laid_over(image, drawn, inside)  # x_hat
            with tape.stop_recording():
                d_terms = self.update_d(rows, edits, edited, measure)
            score = self.discriminator(seen(edited, inside), target, training=True, updates=0)
            # The way back by the code's mean (A23), which does not move the statistics that edits are made with (A28).
            back, _, _ = generator(edited, matching, tf.zeros_like(edits["noise"]), training=True, updates=0)
            reconstructed = laid_over(edited, back, inside)
            g_terms = self.g_terms(edits, edited, score, reconstructed, *code)
            g_loss = tf.add_n(list(g_terms.values()))
        g_norm = steps.descend(tape, g_loss, self.g_optimizer, generator, measure)
        correlation = steps.correlation(edited, image)  # below 0 in a run that inverts
        return {**d_terms, **g_terms, "g_loss": g_loss, "source_correlation": correlation, "g_gradient_norm": g_norm}

    def update_d(self, rows: Tensors, edits: Tensors, edited: tf.Tensor, measure: tf.Tensor | bool) -> Tensors:
        """One update of D, on the pairs of `rows`, and on x_hat of `edits`, every looks-th row of them."""
        discriminator = self.discriminator
        with tf.GradientTape() as tape:
            # Real and edited pictures in separate calls: they must not share batch statistics (A29). The real and the
            # mismatching pairs hold the same pictures; two calls would only look at them twice.
            features = discriminator.features(seen(rows["image"], rows.get("inside")), training=True, updates=2)
            real = discriminator.score(features, rows["matching"], training=True)
            mismatched = discriminator.score(features, rows["mismatching"], training=True)
            false = discriminator(seen(edited, edits.get("inside")), edits["target"], training=True)
            terms = self.d_terms(real, mismatched, false)
            loss = tf.add_n(list(terms.values()))
        norm = steps.descend(tape, loss, self.d_optimizer, discriminator, measure)
        scores = steps.statistics(score_real=real, score_mismatched=mismatched, score_edited=false)
        return {**terms, "d_loss": loss, **scores, "d_gradient_norm": norm}

    def warnings(self, terms: dict[str, float]) -> dict[str, tuple[bool, str]]:
        """A D that has learnt the pictures by heart; a code that says nothing."""
        config = self.config
        return {**steps.saturated(terms, config.adversarial_weight), **steps.silent(terms, config.kl_weight)}
