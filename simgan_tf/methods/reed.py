"""Reed, Akata, Yan, Logeswaran, Schiele, Lee, "Generative Adversarial Text to Image Synthesis", ICML 2016: GAN-CLS or
GAN-INT-CLS, which draws from noise and a sentence, then a style encoder that finds the noise of a picture. The edit
draws the picture anew. The contract it keeps stands in simgan_tf/methods/__init__.py.

Sources: the paper; its code (reedscot/icml2016), which has no style encoder; for that one H. Dong's early code
(zsdonghao/text-to-image)."""

import keras
import tensorflow as tf

from simgan_tf import losses
from simgan_tf.configs.reed import Config
from simgan_tf.layers import Bottleneck, Normed, Trunk, conv, dense, first_map, join, leaky_relu, transposed_conv
from simgan_tf.methods import step as steps
from simgan_tf.text.encoders import TextEncoder

GAN, STYLE = 0, 1  # the stages: what a step trains


class Generator(keras.Model):
    """G: noise and a sentence's embedding to a picture.

    The text reduced by a dense layer and joined to the noise; transposed convolutions from 1x1 up, the first to 4x4,
    bottleneck residual units at 4x4 and 8x8. Source: the paper's code, main_cls_int.lua.
    Differs: at other sizes than 64x64 there are as many doublings as lead to it, no map wider than 8 times the width.
    """

    def __init__(self, config: Config) -> None:
        super().__init__(name="generator")
        self.doublings = config.image_size.bit_length() - 3  # log2(size / 4)
        widths = [config.width * min(1 << i, 8) for i in reversed(range(self.doublings))]
        self.text = dense(config.text_size)
        self.first = Normed(first_map(widths[0]))
        self.unit0 = Bottleneck(widths[0], tf.nn.relu)
        self.up1 = Normed(transposed_conv(widths[1]))
        self.unit1 = Bottleneck(widths[1], tf.nn.relu)
        for i in range(2, self.doublings):
            setattr(self, f"up{i}", Normed(transposed_conv(widths[i])))
        self.to_image = transposed_conv(3, bias=True)

    def call(self, noise: tf.Tensor, embedding: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Picture [B, S, S, 3] float32 in [-1, 1] of noise [B, Z] and phi(t) [B, D], both float32."""
        x = join(leaky_relu(self.text(embedding))[:, None, None, :], noise)  # [B, 1, 1, text_size + Z]
        x = self.unit0(self.first(x, training=training), training=training)  # [B, 4, 4, 8 width] at 64x64
        x = self.unit1(self.up1(x, training=training), training=training)  # [B, 8, 8, 4 width]
        for i in range(2, self.doublings):
            x = tf.nn.relu(getattr(self, f"up{i}")(x, training=training))
        return tf.tanh(tf.cast(self.to_image(x), tf.float32))


class Discriminator(keras.Model):
    """D: one logit [B] float32 of a picture and a sentence's embedding; its sigmoid is 1 for real and matching.

    Source: the paper's code; unlike StackGAN's and SISGAN's, the text's dense layer has batch norm (here a 1x1
    convolution of a 1x1 map, which is the same).
    """

    def __init__(self, config: Config) -> None:
        super().__init__(name="discriminator")
        self.trunk = Trunk(config.d_width, config.image_size)
        self.text = Normed(conv(config.text_size, 1))
        self.fuse = Normed(conv(8 * config.d_width, 1))
        self.to_logit = conv(1, 4, bias=True, padding="valid")

    def call(self, image: tf.Tensor, embedding: tf.Tensor, training: bool = False, updates: int = 1) -> tf.Tensor:
        """image: [B, S, S, 3] float32 in [-1, 1]. embedding: [B, D] float32, phi(t)."""
        return self.logit(self.trunk(image, training=training, updates=updates), embedding, training, updates)

    def logit(self, x: tf.Tensor, embedding: tf.Tensor, training: bool = False, updates: int = 1) -> tf.Tensor:
        """Logits [B] float32 of the trunk's features and phi(t)."""
        how = {"training": training, "updates": updates}
        text = leaky_relu(self.text(embedding[:, None, None, :], **how))[:, 0, 0, :]
        x = leaky_relu(self.fuse(join(x, text), **how))
        return tf.reshape(tf.cast(self.to_logit(x), tf.float32), [-1])  # [B, 1, 1, 1] -> [B]


class StyleEncoder(keras.Model):
    """S: the noise [B, Z] float32 from which G would draw a picture [B, S, S, 3], whatever the sentence.

    D's trunk and a dense layer. Source: the paper, Sec. 4.4; layers of H. Dong's code, since the paper names none.
    """

    def __init__(self, config: Config) -> None:
        super().__init__(name="style_encoder")
        self.trunk = Trunk(config.d_width, config.image_size)
        self.to_noise = dense(config.style_size)
        self.features = 16 * config.d_width * min(1 << (config.image_size.bit_length() - 4), 8)

    def call(self, image: tf.Tensor, training: bool = False) -> tf.Tensor:
        x = self.trunk(image, training=training)
        return tf.cast(self.to_noise(tf.reshape(x, [-1, self.features])), tf.float32)


class TwoSteps(keras.Model):
    """What edits: S, then G on its noise and another sentence, x_hat = G(S(x), phi(t))."""

    def __init__(self, config: Config) -> None:
        super().__init__(name="two_steps")
        self.style, self.generator = StyleEncoder(config), Generator(config)

    def call(self, image: tf.Tensor, embedding: tf.Tensor) -> tf.Tensor:
        return self.generator(self.style(image), embedding)


class Reed(steps.Method):
    """G, D and S, their optimizers, both objectives and both steps."""

    keeps_picture = False  # pose and background are what S has found of them, no pixel is kept

    def __init__(self, config: Config, text_encoder: TextEncoder, steps_per_epoch: int | None = None) -> None:
        self.config, self.text_encoder = config, text_encoder
        self.noise_size, self.embedding_size = 0, text_encoder.dim
        image, embedding = tf.zeros([1, config.image_size, config.image_size, 3]), tf.zeros([1, text_encoder.dim])

        self.trained = self.network = steps.built(TwoSteps, config, image, embedding)
        self.part = "two_steps_ema" if config.ema_decay else "two_steps"
        self.parts = {self.part: self.network}
        if steps_per_epoch is None:
            return
        self.gan_steps = config.gan_steps or config.gan_epochs * steps_per_epoch
        total = config.steps or config.epochs * steps_per_epoch
        if total <= self.gan_steps:
            raise ValueError(
                f"{total} steps leave none to the style encoder, which is trained after {self.gan_steps} of G and D: "
                "give more --steps or --epochs, or fewer --gan_steps."
            )
        self.generator, self.style = self.trained.generator, self.trained.style
        self.discriminator = steps.built(Discriminator, config, image, embedding)
        self.g_optimizer = steps.adam(config, self.generator, steps_per_epoch)
        self.d_optimizer = steps.adam(config, self.discriminator, steps_per_epoch)
        self.s_optimizer = steps.adam(config, self.style, steps_per_epoch)
        self.parts = {
            "two_steps": self.trained, "discriminator": self.discriminator, "g_optimizer": self.g_optimizer,
            "d_optimizer": self.d_optimizer, "s_optimizer": self.s_optimizer,
        }  # fmt: skip
        self.keep_average(TwoSteps, image, embedding)

    def edit(
        self, image: tf.Tensor, embedding: tf.Tensor, noise: tf.Tensor, network: keras.Model | None = None
    ) -> tf.Tensor:
        """x_hat = G(S(x), phi(t)) [B, S, S, 3] float32 in [-1, 1], batch norm in inference mode; noise is not used."""
        return (network or self.network)(image, embedding)

    # The objectives

    def d_terms(self, real: tf.Tensor, mismatched: tf.Tensor, drawn: tf.Tensor) -> dict[str, tf.Tensor]:
        """L_D of D's logits [B] of (x, t), (x, t_mis) and (G(z, t), t). Source: the paper, Algorithm 1, line 10.

        Differs: the mismatching pairs are pictures with others' texts; the code takes others' pictures with the texts.
        """
        return {
            "d_real": losses.cross_entropy(real, 1.0),
            "d_mismatched": 0.5 * losses.cross_entropy(mismatched, 0.0),
            "d_edited": 0.5 * losses.cross_entropy(drawn, 0.0),
        }

    def g_terms(self, own: tf.Tensor, between: tf.Tensor) -> dict[str, tf.Tensor]:
        """L_G of D's logits [B] of pictures drawn by captions, and [B/2] by texts between two. Source: Eq. 5.

        A text between two weighs what a caption does, and there are half as many.
        """
        terms = {"g_adversarial": losses.cross_entropy(own, 1.0)}
        if self.config.interpolation_weight:
            terms["g_between"] = 0.5 * self.config.interpolation_weight * losses.cross_entropy(between, 1.0)
        return terms

    # One step

    def stage(self, step: int) -> int:
        """GAN in the first `gan_steps` steps, STYLE in the later ones."""
        return GAN if step < self.gan_steps else STYLE

    def prepare(self, batch: dict[str, tf.Tensor], step: tf.Tensor, stage: int) -> dict[str, tf.Tensor]:
        """GAN: rows of B: image, matching = phi(t), mismatching = phi(t_mis), noise; and of B/2: between, the means of
        two rows' phi, and their noise. STYLE: rows of B: noise and text, phi(t) with a little noise."""
        config, matching = self.config, batch["embedding"]
        count, half = matching.shape[0], matching.shape[0] // 2
        seed = tf.cast(config.seed, tf.int64)
        first, second = tf.stack([seed, 2 * step]), tf.stack([seed, 2 * step + 1])
        rows = {"noise": steps.draw_noise(count, config.style_size, first)}
        if stage == STYLE:
            shift = config.style_text_noise * steps.draw_noise(count, self.embedding_size, second)
            return {**rows, "text": matching + shift}
        rows |= {
            "image": batch["image"],
            "matching": matching,
            "mismatching": steps.mismatched(matching, batch["class_id"], config.mismatch),
        }
        if config.interpolation_weight:
            rows["between"] = 0.5 * (matching[:half] + matching[half : 2 * half])
            rows["between_noise"] = steps.draw_noise(half, config.style_size, second)
        return rows

    def update(
        self, rows: dict[str, tf.Tensor], measure: tf.Tensor | bool = False, stage: int = GAN
    ) -> dict[str, tf.Tensor]:
        """One update of D, then one of G; or one of S, with G as it edits."""
        if stage == STYLE:
            drawn = self.network.generator(rows["noise"], rows["text"])
            with tf.GradientTape() as tape:
                s_loss = losses.squared_error(self.style(drawn, training=True), rows["noise"])
            norm = steps.descend(tape, s_loss, self.s_optimizer, self.style, measure)
            return {"s_noise": s_loss, "s_loss": s_loss, "s_gradient_norm": norm}

        generator, discriminator = self.generator, self.discriminator
        image, text, noise = rows["image"], rows["matching"], rows["noise"]
        count = image.shape[0]
        if self.config.interpolation_weight:  # the batch of G becomes half as large again
            text = tf.concat([text, rows["between"]], axis=0)
            noise = tf.concat([noise, rows["between_noise"]], axis=0)
        with tf.GradientTape() as g_tape:
            # Drawn once: D is updated on it as a constant, then G's gradient flows through the updated D.
            drawn = generator(noise, text, training=True)
            with g_tape.stop_recording():
                with tf.GradientTape() as d_tape:
                    seen = discriminator.trunk(image, training=True, updates=2)  # of two kinds of pairs
                    real = discriminator.logit(seen, rows["matching"], training=True)
                    mismatched = discriminator.logit(seen, rows["mismatching"], training=True)
                    wrong = discriminator(drawn[:count], rows["matching"], training=True)
                    d_terms = self.d_terms(real, mismatched, wrong)
                    d_loss = tf.add_n(list(d_terms.values()))
                d_norm = steps.descend(d_tape, d_loss, self.d_optimizer, discriminator, measure)
            logits = discriminator(drawn, text, training=True, updates=0)
            g_terms = self.g_terms(logits[:count], logits[count:])
            g_loss = tf.add_n(list(g_terms.values()))
        g_norm = steps.descend(g_tape, g_loss, self.g_optimizer, generator, measure)
        return {
            **d_terms, "d_loss": d_loss, **g_terms, "g_loss": g_loss,
            **steps.statistics(score_real=real, score_mismatched=mismatched, score_edited=wrong),
            "d_gradient_norm": d_norm, "g_gradient_norm": g_norm,
        }  # fmt: skip

    def lent_by(self, other: object, parts: set[str]) -> dict[str, str]:
        """All networks, of the same size."""
        lent = {"two_steps": "two_steps" if "two_steps" in parts else "two_steps_ema"}
        return lent | ({"discriminator": "discriminator"} if "discriminator" in parts else {})

    def warnings(self, terms: dict[str, float]) -> dict[str, tuple[bool, str]]:
        """A D that has learnt the pictures by heart."""
        return steps.saturated(terms)
