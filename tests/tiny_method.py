"""The smallest method that keeps the contract of simgan_tf/methods: words of its own, no noise, one convolution.

What CONTRIBUTING.md shows to whoever adds a system: its configuration, presets and class; in the package these are
simgan_tf/configs/tint.py, simgan_tf/methods/tint.py and one line in simgan_tf/methods/__init__.py.
"""

import dataclasses
from typing import ClassVar

import keras
import numpy as np
import tensorflow as tf

from simgan_tf import losses
from simgan_tf.configs.base import Base, setting
from simgan_tf.layers import Normed, conv, dense, join, leaky_relu
from simgan_tf.methods import step as steps


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(Base):
    """One training of Tint."""

    method: ClassVar[str] = "tint"

    words: int = setting(8, "numbers that a word becomes", least=1)
    stay_weight: float = setting(1.0, "weight of the distance between edit and picture")


PRESETS = {
    "tint_demo": Config(
        image_size=16, load_size=18, batch_size=4, steps=4, log_every=1, sample_every=2, checkpoint_every=2
    )
}


class Editor(keras.Model):
    """Words and picture to the edited picture: the mean of the words' vectors joined to one layer of features."""

    def __init__(self, config: Config, vocabulary: int) -> None:
        super().__init__(name="editor")
        self.words = keras.layers.Embedding(vocabulary, config.words)
        self.features = Normed(conv(8, 3))
        self.to_image = conv(3, 3, bias=True)

    def call(self, image: tf.Tensor, code: tf.Tensor, training: bool = False) -> tf.Tensor:
        x = leaky_relu(self.features(image, training=training))
        return tf.tanh(tf.cast(self.to_image(join(x, code)), tf.float32))

    def encode(self, tokens: tf.Tensor) -> tf.Tensor:
        """[B, words] of ids [B, T], padding left out."""
        mask = tf.cast(tokens > 0, tf.float32)[:, :, None]
        total = tf.reduce_sum(tf.cast(self.words(tokens), tf.float32) * mask, axis=1)
        return total / tf.maximum(tf.reduce_sum(mask, axis=1), 1.0)


class Critic(keras.Model):
    """One score of picture and words."""

    def __init__(self, config: Config, vocabulary: int) -> None:
        super().__init__(name="critic")
        self.words = keras.layers.Embedding(vocabulary, config.words)
        self.features = conv(8, 4, stride=2, bias=True)
        self.to_score = dense(1)

    def call(self, image: tf.Tensor, tokens: tf.Tensor) -> tf.Tensor:
        seen = tf.reduce_mean(leaky_relu(self.features(image)), axis=[1, 2])
        heard = tf.reduce_mean(self.words(tokens), axis=1)
        return self.to_score(tf.concat([seen, tf.cast(heard, seen.dtype)], axis=1))[:, 0]


class Tint:
    """Both networks, their optimizers and the step."""

    def __init__(self, config: Config, text_encoder: object, steps_per_epoch: int | None = None) -> None:
        self.config, self.text_encoder = config, text_encoder
        self.noise_size, self.embedding_size = 0, config.words
        self.part = "editor"
        image = tf.zeros([1, config.image_size, config.image_size, 3])
        tokens = tf.zeros([1, text_encoder.length], tf.int32)

        def editor(config: Config) -> Editor:
            network = Editor(config, len(text_encoder.vocabulary))
            network.encode(tokens)
            return network

        self.network = steps.built(editor, config, image, tf.zeros([1, config.words]))
        self.parts = {"editor": self.network}
        if steps_per_epoch is not None:
            critic = lambda config: Critic(config, len(text_encoder.vocabulary))  # noqa: E731
            self.critic = self.parts["critic"] = steps.built(critic, config, image, tokens)
            self.g_optimizer = self.parts["g_optimizer"] = steps.adam(config, self.network, steps_per_epoch)
            self.d_optimizer = self.parts["d_optimizer"] = steps.adam(config, self.critic, steps_per_epoch)

    def encode(self, texts: list[str]) -> np.ndarray:
        return self.embed(tf.constant(self.text_encoder.tokens(texts))).numpy()

    def embed(self, tokens: tf.Tensor) -> tf.Tensor:
        return self.network.encode(tokens)

    def edit(self, image: tf.Tensor, embedding: tf.Tensor, noise: tf.Tensor, network: object = None) -> tf.Tensor:
        return (network or self.network)(image, embedding)

    def prepare(self, batch: dict[str, tf.Tensor], step: tf.Tensor) -> dict[str, tf.Tensor]:
        other = steps.mismatched(batch["tokens"], batch["class_id"], self.config.mismatch)
        return {"image": batch["image"], "own": batch["tokens"], "other": other}

    def update(self, rows: dict[str, tf.Tensor], measure: tf.Tensor | bool = False) -> dict[str, tf.Tensor]:
        image, own, other = rows["image"], rows["own"], rows["other"]
        with tf.GradientTape() as g_tape:
            edited = self.network(image, self.network.encode(other), training=True)
            with g_tape.stop_recording():
                with tf.GradientTape() as d_tape:
                    d_terms = {
                        "d_real": losses.least_squares(self.critic(image, own), 1.0),
                        "d_edited": losses.least_squares(self.critic(edited, other), 0.0),
                    }
                    d_loss = tf.add_n(list(d_terms.values()))
                d_norm = steps.descend(d_tape, d_loss, self.d_optimizer, self.critic, measure)
            g_terms = {
                "g_adversarial": losses.least_squares(self.critic(edited, other), 1.0),
                "g_stay": self.config.stay_weight * losses.l1(edited, image),
            }
            g_loss = tf.add_n(list(g_terms.values()))
        g_norm = steps.descend(g_tape, g_loss, self.g_optimizer, self.network, measure)
        return {
            **d_terms, "d_loss": d_loss, **g_terms, "g_loss": g_loss, "d_gradient_norm": d_norm,
            "g_gradient_norm": g_norm, "source_correlation": steps.correlation(edited, image),
        }  # fmt: skip

    def average(self, step: tf.Tensor) -> None:
        pass  # nothing of it is averaged

    def restart_average(self) -> None:
        pass

    def variables(self) -> dict[str, list[tf.Variable]]:
        return {name: steps.raw_variables(part) for name, part in self.parts.items()}

    def embed_variables(self) -> list[tf.Variable]:
        return steps.raw_variables(self.network.words)

    def lent_by(self, other: Config, parts: set[str]) -> dict[str, str]:
        return {name: name for name in ("editor", "critic") if name in parts}

    def warnings(self, terms: dict[str, float]) -> dict[str, tuple[bool, str]]:
        return {}
