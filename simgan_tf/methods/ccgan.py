"""A reconstruction of CCGAN (Liu, Meng, Xiang, Pan, "Semantic Image Synthesis via Conditional Cycle-Generative
Adversarial Networks", ICPR 2018). The contract it keeps stands in simgan_tf/methods/__init__.py.

Differs: neither CCGAN's code nor its text was at hand. What SIMGAN's paper says of it is that it imposes a cycle with
more than one generator and discriminator, draws one edit a sentence, and makes pictures of 64x64. Everything else here
is a reconstruction with SISGAN's networks: numbers of it are not CCGAN's."""

from collections.abc import Sequence

import keras
import tensorflow as tf

from simgan_tf import losses
from simgan_tf.configs.ccgan import Config
from simgan_tf.layers import Normed, Residual, Upsample, conv, dense, join, leaky_relu
from simgan_tf.methods import step as steps
from simgan_tf.methods.sisgan import Discriminator, TrainedEncoder
from simgan_tf.text.encoders import TextEncoder


class Generator(keras.Model):
    """A G: SISGAN's with encoder B, but for the text's code, which is one dense layer and not drawn."""

    def __init__(self, config: Config) -> None:
        super().__init__(name="generator")
        self.config = config
        c = config.width
        self.encoder = TrainedEncoder(c)
        self.text = dense(config.code_size)
        self.fuse = Normed(conv(4 * c, 3))
        for i in range(config.units):  # setattr: Keras 3 does not checkpoint layers held in a list
            setattr(self, f"unit{i}", Residual(4 * c))
        self.up1, self.up2 = Normed(Upsample(2 * c)), Normed(Upsample(c))
        self.to_image = conv(3, 3, bias=True)

    def call(self, image: tf.Tensor, embedding: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Picture [B, H, W, 3] float32 in [-1, 1] of image [B, H, W, 3] in [-1, 1] and phi(t) [B, D], both float32."""
        x = self.encoder(image, training=training)  # [B, H/4, W/4, 4c]
        x = self.fuse(join(x, leaky_relu(self.text(embedding))), training=training)
        for i in range(self.config.units):
            x = getattr(self, f"unit{i}")(x, training=training)
        x = tf.nn.relu(self.up1(x, training=training))  # [B, H/2, W/2, 2c]
        x = tf.nn.relu(self.up2(x, training=training))  # [B, H, W, c]
        return tf.tanh(tf.cast(self.to_image(x), tf.float32))


class Generators(keras.Model):
    """G_f, which edits, and G_b, which leads back."""

    def __init__(self, config: Config) -> None:
        super().__init__(name="generators")
        self.forward, self.backward = Generator(config), Generator(config)

    def call(self, image: tf.Tensor, embedding: tf.Tensor) -> tf.Tensor:
        return self.backward(self.forward(image, embedding), embedding)


class Discriminators(keras.Model):
    """D_f, which judges edits, and D_b, which judges what was led back: two of SISGAN's."""

    def __init__(self, config: Config) -> None:
        super().__init__(name="discriminators")
        self.forward, self.backward = Discriminator(config), Discriminator(config)

    def call(self, image: tf.Tensor, embedding: tf.Tensor) -> tf.Tensor:
        return self.forward(image, embedding) + self.backward(image, embedding)


class CCGAN(steps.Method):
    """Both pairs of networks, their optimizers, the objective and the step."""

    def __init__(self, config: Config, text_encoder: TextEncoder, steps_per_epoch: int | None = None) -> None:
        self.config, self.text_encoder = config, text_encoder
        self.noise_size, self.embedding_size = 0, text_encoder.dim
        image, embedding = tf.zeros([1, config.image_size, config.image_size, 3]), tf.zeros([1, text_encoder.dim])

        self.part = "forward_ema" if config.ema_decay else "forward"
        if steps_per_epoch is None:
            self.network = steps.built(Generator, config, image, embedding)
            self.parts = {self.part: self.network}
            return
        self.generators = steps.built(Generators, config, image, embedding)
        self.discriminators = steps.built(Discriminators, config, image, embedding)
        self.trained = self.network = self.generators.forward
        self.g_optimizer = steps.adam(config, self.generators, steps_per_epoch)
        self.d_optimizer = steps.adam(config, self.discriminators, steps_per_epoch)
        self.parts = {
            "forward": self.generators.forward, "backward": self.generators.backward,
            "discriminators": self.discriminators, "g_optimizer": self.g_optimizer, "d_optimizer": self.d_optimizer,
        }  # fmt: skip
        self.keep_average(Generator, image, embedding)

    def edit(
        self, image: tf.Tensor, embedding: tf.Tensor, noise: tf.Tensor, network: keras.Model | None = None
    ) -> tf.Tensor:
        """x_hat = G_f(x, phi(t)) [B, H, W, 3] float32 in [-1, 1], batch norm in inference mode; noise is not used."""
        return (network or self.network)(image, embedding)

    # The objective

    def d_terms(self, forward: Sequence[tf.Tensor], backward: Sequence[tf.Tensor]) -> dict[str, tf.Tensor]:
        """L_D of logits [B] of the pairs that each D is shown: D_f (x, t), (x, t_mis), (x_hat, t_mis); D_b (x, t),
        (x, t_mis), (x_tilde, t). Those that are wrong weigh half each, as in SISGAN."""
        terms = {}
        for name, (real, mismatched, wrong) in (("", forward), ("_back", backward)):
            terms[f"d_real{name}"] = losses.cross_entropy(real, 1.0)
            terms[f"d_mismatched{name}"] = 0.5 * losses.cross_entropy(mismatched, 0.0)
            terms[f"d_edited{name}"] = 0.5 * losses.cross_entropy(wrong, 0.0)
        return terms

    def g_terms(
        self, forward: tf.Tensor, backward: tf.Tensor, image: tf.Tensor, reconstructed: tf.Tensor
    ) -> dict[str, tf.Tensor]:
        """L_G of the logits [B] of (x_hat, t_mis) and (x_tilde, t), and the L1 distance of x_tilde to x."""
        return {
            "g_adversarial": losses.cross_entropy(forward, 1.0),
            "g_adversarial_back": losses.cross_entropy(backward, 1.0),
            "g_cycle": self.config.cycle_weight * losses.l1(reconstructed, image),
        }

    # One step

    def prepare(self, batch: dict[str, tf.Tensor], step: tf.Tensor) -> dict[str, tf.Tensor]:
        """Rows of B: image, matching = phi(t), mismatching = phi(t_mis), which drives x_hat."""
        mismatching = steps.mismatched(batch["embedding"], batch["class_id"], self.config.mismatch)
        return {"image": batch["image"], "matching": batch["embedding"], "mismatching": mismatching}

    def update(self, rows: dict[str, tf.Tensor], measure: tf.Tensor | bool = False) -> dict[str, tf.Tensor]:
        """One update of both discriminators, then one of both generators."""
        image, matching, mismatching = rows["image"], rows["matching"], rows["mismatching"]
        d_f, d_b = self.discriminators.forward, self.discriminators.backward
        with tf.GradientTape() as g_tape:
            edited = self.generators.forward(image, mismatching, training=True)  # x_hat
            reconstructed = self.generators.backward(edited, matching, training=True)  # x_tilde
            with g_tape.stop_recording():
                with tf.GradientTape() as d_tape:
                    forward = self._logits(d_f, image, matching, mismatching, edited, mismatching)
                    backward = self._logits(d_b, image, matching, mismatching, reconstructed, matching)
                    d_terms = self.d_terms(forward, backward)
                    d_loss = tf.add_n(list(d_terms.values()))
                d_norm = steps.descend(d_tape, d_loss, self.d_optimizer, self.discriminators, measure)
            logit_f = d_f(edited, mismatching, training=True, updates=0)
            logit_b = d_b(reconstructed, matching, training=True, updates=0)
            g_terms = self.g_terms(logit_f, logit_b, image, reconstructed)
            g_loss = tf.add_n(list(g_terms.values()))
        g_norm = steps.descend(g_tape, g_loss, self.g_optimizer, self.generators, measure)
        real, mismatched, wrong = forward
        return {
            **d_terms, "d_loss": d_loss, **g_terms, "g_loss": g_loss,
            **steps.statistics(score_real=real, score_mismatched=mismatched, score_edited=wrong),
            "source_correlation": steps.correlation(edited, image),
            "d_gradient_norm": d_norm, "g_gradient_norm": g_norm,
        }  # fmt: skip

    @staticmethod
    def _logits(
        discriminator: Discriminator, image: tf.Tensor, matching: tf.Tensor, mismatching: tf.Tensor, made: tf.Tensor,
        text: tf.Tensor,
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:  # fmt: skip
        """Logits [B] of (image, matching), (image, mismatching) and (made, text)."""
        seen = discriminator.trunk(image, training=True, updates=2)  # the first two hold the same pictures
        real, mismatched = (discriminator.logit(seen, each, training=True) for each in (matching, mismatching))
        return real, mismatched, discriminator(made, text, training=True)

    def lent_by(self, other: object, parts: set[str]) -> dict[str, str]:
        """Both generators, of any size (of a model packed to edit, the averaged one alone); D's of the same size."""
        lent = {"forward": "forward" if "forward" in parts else "forward_ema"}
        lent |= {"backward": "backward"} if "backward" in parts else {}
        if "discriminators" in parts and other.image_size == self.config.image_size:
            lent["discriminators"] = "discriminators"
        return lent

    def warnings(self, terms: dict[str, float]) -> dict[str, tuple[bool, str]]:
        """A D_f that has learnt the pictures by heart."""
        return steps.saturated(terms)
