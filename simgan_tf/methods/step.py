"""What the step of every method is made of: Adam, descending a loss, averaging weights, mismatching texts.
Gradients and terms are averaged over the devices here, so that a method states the losses as its paper does."""

from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf

from simgan_tf.configs.base import Base
from simgan_tf.layers import mean_over_replicas


def train_step(method: Any, strategy: tf.distribute.Strategy | None = None) -> Callable[..., dict[str, tf.Tensor]]:
    """One training step as a tf.function: (batch, step, measure=False) -> scalars of the whole batch.

    batch: of the pipeline, whole. step: int64 scalar, from 0; seeds all draws. measure: whether the terms ending in
    `_norm` are computed; they are 0 in a step without it.
    strategy: each of its replicas updates on an equal share of the rows that `prepare` makes of the whole batch, so
    that draws and mismatching texts are what they are on one device. None = one device.
    """
    # XLA compiles `update` alone: in `prepare` it would draw other noise from the same seed.
    update = tf.function(method.update, autograph=False, jit_compile=True) if method.config.xla else method.update
    if strategy is not None:
        update = _over(strategy, update)

    @tf.function(autograph=False)
    def compiled_step(batch: dict[str, tf.Tensor], step: tf.Tensor, measure: tf.Tensor) -> dict[str, tf.Tensor]:
        terms = update(method.prepare(batch, step), measure)
        method.average(step)
        return terms

    def convert_and_run(batch, step, measure=False):
        return compiled_step(batch, tf.convert_to_tensor(step, tf.int64), tf.convert_to_tensor(measure))

    return convert_and_run


def _over(strategy: tf.distribute.Strategy, update: Callable) -> Callable[..., dict[str, tf.Tensor]]:
    """`update` in every replica on its share of the rows; each term is the mean of the replicas'."""
    names: list[str] = []

    def on_share(rows: dict[str, tf.Tensor], measure: tf.Tensor) -> tf.Tensor:
        context = tf.distribute.get_replica_context()
        index, replicas = context.replica_id_in_sync_group, context.num_replicas_in_sync

        def share(values: tf.Tensor) -> tf.Tensor:
            count = values.shape[0] // replicas
            return tf.ensure_shape(values[index * count : (index + 1) * count], [count, *values.shape[1:]])

        terms = update({name: share(values) for name, values in rows.items()}, measure)
        names[:] = terms
        return tf.stack(list(terms.values()))

    def over(rows: dict[str, tf.Tensor], measure: tf.Tensor) -> dict[str, tf.Tensor]:
        terms = strategy.reduce(tf.distribute.ReduceOp.MEAN, strategy.run(on_share, (rows, measure)), axis=None)
        return dict(zip(names, tf.unstack(terms), strict=True))

    return over


class Adam(keras.optimizers.Adam):
    """Keras' Adam, each variable updated by TensorFlow's one kernel for it, on gradients averaged over the replicas.

    Keras' own step is ten passes over the memory of every variable, and sums the gradients once more.
    """

    def update_step(self, gradient: tf.Tensor, variable: tf.Variable, learning_rate: tf.Tensor) -> None:
        i = self._get_variable_index(variable)
        step = tf.cast(self.iterations + 1, tf.float32)
        tf.raw_ops.ResourceApplyAdam(
            var=variable.handle,
            m=self._momentums[i].value.handle,
            v=self._velocities[i].value.handle,
            beta1_power=self.beta_1**step,
            beta2_power=self.beta_2**step,
            lr=tf.cast(learning_rate, tf.float32),
            beta1=self.beta_1,
            beta2=self.beta_2,
            epsilon=self.epsilon,
            grad=gradient,
        )

    def _all_reduce_sum_gradients(self, grads_and_vars: list) -> list:
        return list(grads_and_vars)


def adam(config: Base, network: keras.Model, steps_per_epoch: int) -> keras.optimizers.Optimizer:
    """The optimizer of one network: Adam, its rate halved every `halve_epochs`."""
    rate = config.learning_rate
    if config.halve_epochs:
        rate = keras.optimizers.schedules.ExponentialDecay(
            rate, config.halve_epochs * steps_per_epoch, 0.5, staircase=True
        )
    optimizer = Adam(rate, config.beta1, config.beta2, config.adam_epsilon)
    if config.precision == "mixed_float16":  # whose gradients would underflow; a step that overflows is skipped
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
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
    scale = optimizer.scale_loss(tf.constant(1.0))  # 1, but for mixed_float16; `apply` takes it out again
    gradients = mean_over_replicas(*tape.gradient(loss, weights, output_gradients=scale))
    optimizer.apply(gradients, weights)
    measure = tf.convert_to_tensor(measure)
    return tf.cond(measure, lambda: tf.linalg.global_norm(gradients) / scale, lambda: tf.constant(0.0))


def built(make: Callable[[Base], keras.Model], config: Base, *inputs: tf.Tensor) -> keras.Model:
    """The network make(config), of the configuration's precision, its variables drawn by running it on `inputs`."""
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy(config.precision)
    try:
        network = make(config)
        network(*inputs)
    finally:
        keras.config.set_dtype_policy(policy)
    return network


def move_average(config: Base, average: keras.Model, network: keras.Model, step: tf.Tensor) -> None:
    """Moves averaged weights towards a network's after a step: a <- d a + (1 - d) g, d = min(decay, (1+t) / (10+t)).

    The weights and the moving statistics alike, in raw variables of their own.
    Differs: the papers average nothing; ema_decay is 0 in their presets.
    """
    t = tf.cast(step, tf.float32)
    decay = tf.minimum(config.ema_decay, (1.0 + t) / (10.0 + t))
    for mean, value in zip(average.variables, network.variables, strict=True):
        mean.value.assign(decay * mean.value + (1.0 - decay) * value.value)


def copy_weights(network: keras.Model, to: keras.Model) -> None:
    """Sets every variable of `to` to that of `network`, a network of the same shape."""
    for target, source in zip(to.variables, network.variables, strict=True):
        target.value.assign(source.value)


def raw_variables(*parts: Any) -> list[tf.Variable]:
    """The raw variables of networks or optimizers, in their order."""
    return [variable.value for part in parts for variable in part.variables]


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
