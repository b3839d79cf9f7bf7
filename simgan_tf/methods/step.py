"""What the step of every method is made of: Adam, descending a loss, averaging weights, mismatching texts.
Gradients and terms are averaged over the devices here, so that a method states the losses as its paper does."""

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from simgan_tf import keras2
from simgan_tf.configs.base import Base
from simgan_tf.layers import mean_over_replicas


def train_step(method: Any, strategy: tf.distribute.Strategy | None = None) -> Callable[..., dict[str, tf.Tensor]]:
    """One training step as a tf.function: (batch, step, measure=False) -> scalars of the whole batch.

    batch: of the pipeline, whole; of several workers each may have its own rows of `image` alone. step: int64 scalar,
    from 0; seeds all draws, and says what a method of several stages trains. measure: whether the terms ending in
    `_norm` are computed; they are 0 in a step without it.
    strategy: each of its replicas updates on an equal share of the rows that `prepare` makes of the whole batch, so
    that draws and mismatching texts are what they are on one device. None = one device.
    """
    # XLA compiles `update` alone: in `prepare` it would draw other noise from the same seed.
    update = tf.function(method.update, autograph=False, jit_compile=True) if method.config.xla else method.update
    if strategy is not None:
        update = _over(strategy, update)

    @tf.function(autograph=False)  # traced once for each stage
    def compiled_step(batch: dict[str, tf.Tensor], step: tf.Tensor, measure: tf.Tensor, *stage: int):
        terms = update(method.prepare(batch, step, *stage), measure, *stage)
        method.average(step)
        return terms

    def convert_and_run(batch, step, measure=False):
        stage = stage_of(method, int(step))
        return compiled_step(batch, tf.convert_to_tensor(step, tf.int64), tf.convert_to_tensor(measure), *stage)

    return convert_and_run


def stage_of(method: Any, step: int) -> tuple[int, ...]:
    """What `prepare` and `update` take beside the rest: the stage of a method that has some, else nothing."""
    return (method.stage(step),) if hasattr(method, "stage") else ()


def _over(strategy: tf.distribute.Strategy, update: Callable) -> Callable[..., dict[str, tf.Tensor]]:
    """`update` in every replica on its share of the rows; each term is the mean of the replicas'.

    Pictures of which there are fewer than of the other rows are those of this process' replicas alone.
    """

    def over(rows: dict[str, tf.Tensor], measure: tf.Tensor, *stage: int) -> dict[str, tf.Tensor]:
        names: list[str] = []
        whole = max(values.shape[0] for values in rows.values())

        def on_share(rows: dict[str, tf.Tensor], measure: tf.Tensor) -> tf.Tensor:
            context = tf.distribute.get_replica_context()
            index, replicas = context.replica_id_in_sync_group, context.num_replicas_in_sync

            def share(name: str, values: tf.Tensor) -> tf.Tensor:
                here = values.shape[0]
                count, left = divmod(whole if values.shape.rank == 4 else here, replicas)
                if left:
                    raise ValueError(f"the {here} rows of {name!r} cannot be shared out over {replicas} "
                                     "devices: give a --batch_size that is a multiple of twice as many.")  # fmt: skip
                first = index * count % here
                return tf.ensure_shape(values[first : first + count], [count, *values.shape[1:]])

            terms = update({name: share(name, values) for name, values in rows.items()}, measure, *stage)
            names[:] = terms
            return tf.stack(list(terms.values()))

        terms = strategy.reduce(tf.distribute.ReduceOp.MEAN, strategy.run(on_share, (rows, measure)), axis=None)
        return dict(zip(names, tf.unstack(terms), strict=True))

    return over


class Method:
    """What the methods share beside their own networks, objective and step: see the contract in methods/__init__.py.

    Each sets config, text_encoder, network, part, parts: {name: network or optimizer}, all that a checkpoint holds, and
    trained: the network that the steps change, of which `network` is the average where there is one.
    """

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        return self.text_encoder.encode(texts)

    def embed(self, tokens: tf.Tensor) -> tf.Tensor:
        return self.text_encoder.embed(tokens)

    def embed_variables(self) -> list[tf.Variable]:
        return list(self.text_encoder.variables)

    def variables(self) -> dict[str, list[tf.Variable]]:
        return {name: raw_variables(part) for name, part in self.parts.items()}

    def keep_average(self, make: Callable[[Base], keras.Model], *inputs: tf.Tensor) -> None:
        """Makes `network` one of its own, of averaged weights, where they are averaged."""
        if self.config.ema_decay:
            self.network = self.parts[self.part] = built(make, self.config, *inputs)
            self.restart_average()

    def average(self, step: tf.Tensor) -> None:
        if self.config.ema_decay:
            move_average(self.config, self.network, self.trained, step)

    def restart_average(self) -> None:
        if self.config.ema_decay:
            copy_weights(self.trained, to=self.network)

    def lent_by(self, other: Base, parts: set[str]) -> dict[str, str]:
        """Of one G, of any size, since it is convolutions (the averaged one of a packed model, which has no other), and
        one D, of the same size."""
        packed = "generator_ema" in parts and "generator" not in parts
        lent = {"generator": "generator_ema" if packed else "generator"}
        if "discriminator" in parts and other.image_size == self.config.image_size:
            lent["discriminator"] = "discriminator"
        return lent


def adam(config: Base, network: keras.Model, steps_per_epoch: int) -> keras.optimizers.Optimizer:
    """The optimizer of one network: Adam, its rate halved every `halve_epochs`."""
    rate = config.learning_rate
    if config.halve_epochs:
        rate = keras.optimizers.schedules.ExponentialDecay(
            rate, config.halve_epochs * steps_per_epoch, 0.5, staircase=True
        )
    optimizer = keras2.Adam(rate, config.beta1, config.beta2, config.adam_epsilon)
    if config.precision == "mixed_float16":  # whose gradients would underflow; a step that overflows is skipped
        optimizer = keras.mixed_precision.LossScaleOptimizer(optimizer)
    optimizer.build(network.trainable_variables)
    return optimizer


def descend(
    tape: tf.GradientTape,
    loss: tf.Tensor,
    optimizer: keras.optimizers.Optimizer,
    network: keras.Model,
    measure: tf.Tensor | bool,
) -> tf.Tensor:
    """Applies the gradient of the replicas' mean loss; returns its norm where `measure` is true, else 0."""
    weights = network.trainable_variables
    scale = keras2.loss_scale(optimizer)  # `apply` takes it out again
    gradients = tape.gradient(loss, weights, output_gradients=scale)
    gradients = mean_over_replicas(*map(tf.convert_to_tensor, gradients))  # those of a table of words are sparse
    keras2.apply(optimizer, gradients, weights)
    measure = tf.convert_to_tensor(measure)
    return tf.cond(measure, lambda: tf.linalg.global_norm(gradients) / scale, lambda: tf.constant(0.0))


def built(make: Callable[[Base], keras.Model], config: Base, *inputs: tf.Tensor) -> keras.Model:
    """The network make(config), of the configuration's precision, its variables drawn by running it on `inputs`."""
    policy = keras.mixed_precision.global_policy()
    keras.mixed_precision.set_global_policy(config.precision)
    try:
        network = make(config)
        network(*inputs)
    finally:
        keras.mixed_precision.set_global_policy(policy)
    return network


def move_average(config: Base, average: keras.Model, network: keras.Model, step: tf.Tensor) -> None:
    """Moves averaged weights towards a network's after a step: a <- d a + (1 - d) g, d = min(decay, (1+t) / (10+t)).

    The weights and the moving statistics alike, in raw variables of their own.
    Differs: the papers average nothing; ema_decay is 0 in their presets.
    """
    t = tf.cast(step, tf.float32)
    decay = tf.minimum(config.ema_decay, (1.0 + t) / (10.0 + t))
    for mean, value in zip(raw_variables(average), raw_variables(network), strict=True):
        mean.assign(decay * mean + (1.0 - decay) * value)


def copy_weights(network: keras.Model, to: keras.Model) -> None:
    """Sets every weight of `to` to that of `network`, a network of the same shape."""
    for target, source in zip(raw_variables(to), raw_variables(network), strict=True):
        target.assign(source)


def raw_variables(*parts: Any) -> list[tf.Variable]:
    """The raw variables of networks or optimizers, in their order, without the random state that Keras' GRU holds."""
    return [
        variable
        for part in parts
        for variable in (keras2.weights_of if isinstance(part, keras.layers.Layer) else keras2.variables_of)(part)
    ]


def draw_noise(count: int, size: int, seed: tf.Tensor | Sequence[int]) -> tf.Tensor:
    """Standard normal numbers [count, size] float32; a pure function of `seed`, two integers."""
    return tf.random.stateless_normal([count, size], seed)


def statistics(**scores: tf.Tensor) -> dict[str, tf.Tensor]:
    """Mean, by its name, and deviation, as name_std, of scores [B] of the whole batch."""
    results = {}
    for name, values in scores.items():
        (mean,) = mean_over_replicas(tf.reduce_mean(values))
        (square,) = mean_over_replicas(tf.reduce_mean(tf.square(values - mean)))
        results |= {name: mean, f"{name}_std": tf.sqrt(square)}
    return results


def saturated(terms: dict[str, float], weight: float = 1.0) -> dict[str, tuple[bool, str]]:
    """The warning of a D that has learnt the pictures by heart, its terms weighted by `weight`; see `warnings` of the
    contract."""
    names = ("d_real", "d_mismatched", "d_edited")
    return {
        "saturated": (
            all(terms.get(name, 1.0) < 0.05 * weight for name in names),
            "D's three scores are saturated: it has learnt the pictures by heart and teaches G little. Stop earlier, "
            "take more data, or start again with a lower --learning_rate.",
        )
    }


def silent(terms: dict[str, float], kl_weight: float) -> dict[str, tuple[bool, str]]:
    """The warning of a conditioning code that says nothing; see `warnings` of the contract."""
    kl = terms.get("g_kl", 1.0)
    return {
        "silent": (
            kl < 1e-3 * kl_weight,
            f"g_kl is about zero ({kl:.2g}): the text is silenced. Start again with a lower --kl_weight, or a larger "
            "--phi_scale of phi.",
        )
    }


def correlation(first: tf.Tensor, second: tf.Tensor) -> tf.Tensor:
    """Pearson's correlation of all values of two batches of pictures, a scalar in [-1, 1]."""
    first_mean, second_mean = mean_over_replicas(tf.reduce_mean(first), tf.reduce_mean(second))
    first, second = first - first_mean, second - second_mean
    product, first_square, second_square = mean_over_replicas(
        tf.reduce_sum(first * second), tf.reduce_sum(tf.square(first)), tf.reduce_sum(tf.square(second))
    )
    return product / (tf.sqrt(first_square) * tf.sqrt(second_square) + 1e-12)


def mismatched(values: tf.Tensor, class_id: tf.Tensor, how: str) -> tf.Tensor:
    """Each row's value of another picture of the batch: t_bar, as phi's vectors [B, D] or as ids [B, T].

    "roll": of the picture before, which may be of the same class. "other_class": of the nearest picture before whose
    class differs; where the batch has none, of the picture before. Source: A16.
    """
    if how == "roll":
        return tf.roll(values, 1, axis=0)
    count = values.shape[0]
    before = (tf.range(count)[:, None] - tf.range(1, count)[None, :]) % count  # [B, B-1]: i-1, i-2, ...
    differs = tf.cast(tf.gather(class_id, before) != class_id[:, None], tf.int32)
    nearest = tf.argmax(differs, axis=1, output_type=tf.int32)  # the first of equals: 0 where no class differs
    return tf.gather(values, tf.gather(before, nearest, batch_dims=1))
