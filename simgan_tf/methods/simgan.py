"""SIMGAN (Yu, Dong, Liang, Mo, Wu, Guo): generator, discriminator, objective of Eq. 1-4 and one training step.
Knows neither files nor the loop around the step."""

import functools

import keras
import tensorflow as tf

from simgan_tf import losses
from simgan_tf.configs import Config
from simgan_tf.layers import (
    BatchNorm,
    ConditioningAugmentation,
    Residual,
    conv,
    dense,
    join,
    leaky_relu,
    mean_over_replicas,
    shift_and_cut,
    transposed_conv,
)


class Upsample(keras.layers.Layer):
    """Nearest-neighbour doubling and a 3x3 convolution: the alternative to a transposed convolution (A7)."""

    def __init__(self, width: int, bias: bool = False) -> None:
        super().__init__()
        self.conv = conv(width, 3, bias=bias)

    def call(self, x: tf.Tensor) -> tf.Tensor:
        x = tf.repeat(tf.repeat(x, 2, axis=1), 2, axis=2)
        return self.conv(x)


class Generator(keras.Model):
    """G: an image and a sentence's embedding to the edited image. Source: Sec. 2 and 3.1, Fig. 2.

    Encoder of 3 convolutions, join with the conditioning code, `units` residual units of 2 convolutions each, decoder
    of 2 transposed convolutions. Differs: the paper gives no widths, kernels or join; those here are its relatives'
    (A1-A9). A fusing convolution brings the joined features back to the trunk's width (A4), and a last convolution
    makes the three colours (A8).
    Differs: with image_skip (not the paper's presets) the last convolution's sum gets, before the tanh, the picture
    itself, through the tanh's inverse, so that G starts from keeping everything and learns the change; or the picture's
    fine lightness alone, so that G learns the colours and need not draw every edge anew.
    """

    def __init__(self, config: Config) -> None:
        super().__init__(name="generator")
        self.config = config
        synchronised = config.batch_statistics == "synchronised"
        norm = functools.partial(BatchNorm, synchronised)
        c = config.width
        k1, k2, k3 = (int(kernel) for kernel in config.encoder_kernels.split("-"))
        self.conv1 = conv(c, k1, bias=not config.first_norm)
        self.norm1 = norm() if config.first_norm else None
        self.conv2, self.norm2 = conv(2 * c, k2, stride=2), norm()
        self.conv3, self.norm3 = conv(4 * c, k3, stride=2), norm()

        self.augment = ConditioningAugmentation(config.ca_size)
        trunk = 4 * c + (config.ca_size if config.fuse == "none" else 0)
        if config.fuse != "none":
            self.fuse, self.fuse_norm = conv(trunk, 1 if config.fuse == "1x1_relu" else 3), norm()

        for i in range(config.units):  # setattr: Keras 3 does not checkpoint layers held in a list
            setattr(self, f"unit{i}", Residual(trunk, config.residual_relu, synchronised))

        up = transposed_conv if config.decoder == "transposed" else Upsample
        self.up1, self.up_norm1 = up(2 * c), norm()
        if config.output == "transposed":
            self.up2 = up(3, bias=True)
        else:
            self.up2, self.up_norm2 = up(c), norm()
            self.to_image = conv(3, 3 if config.output == "conv3" else 7, bias=True)

    def call(
        self, image: tf.Tensor, embedding: tf.Tensor, noise: tf.Tensor, training: bool = False, updates: int = 1
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Edited image [B, H, W, 3] float32 in [-1, 1], and the code's mean and log sigma, both [B, Z] float32.

        image: [B, H, W, 3] float32 in [-1, 1]. embedding: [B, D] float32, phi(t). noise: [B, Z] float32, epsilon of
        c = mean + sigma * epsilon; zeros give the mean. updates: how often batch statistics enter the moving ones.
        """

        def norm(layer: BatchNorm, x: tf.Tensor) -> tf.Tensor:
            return layer(x, training=training, updates=updates)

        x = self.conv1(image)  # [B, H, W, c]
        x = tf.nn.relu(norm(self.norm1, x) if self.norm1 else x)
        x = tf.nn.relu(norm(self.norm2, self.conv2(x)))  # [B, H/2, W/2, 2c]
        encoded = tf.nn.relu(norm(self.norm3, self.conv3(x)))  # [B, H/4, W/4, 4c]

        mean, log_sigma = self.augment(embedding)
        x = join(encoded, mean + tf.exp(log_sigma) * tf.cast(noise, mean.dtype))  # [B, H/4, W/4, 4c + Z]
        if self.config.fuse != "none":
            x = norm(self.fuse_norm, self.fuse(x))  # [B, H/4, W/4, 4c]
            x = x if self.config.fuse == "conv" else tf.nn.relu(x)
        for i in range(self.config.units):
            x = getattr(self, f"unit{i}")(x, training=training, updates=updates)
        if self.config.trunk_skip:
            x = x + (encoded if self.config.fuse != "none" else join(encoded, mean))

        x = tf.nn.relu(norm(self.up_norm1, self.up1(x)))  # [B, H/2, W/2, 2c]
        x = self.up2(x)  # [B, H, W, c], or the picture itself
        if self.config.output != "transposed":
            x = self.to_image(tf.nn.relu(norm(self.up_norm2, x)))  # [B, H, W, 3]
        x = tf.cast(x, tf.float32)  # the picture comes rounded to the layers' precision, a quarter of an 8-bit step
        if self.config.image_skip == "picture":
            x = x + untanh(tf.cast(image, tf.float32))
        elif self.config.image_skip == "detail":
            x = x + detail(tf.cast(image, tf.float32))
        return tf.tanh(x), mean, log_sigma


class Discriminator(keras.Model):
    """D: one score [B] float32 of an image and a sentence's embedding; 1 = real and matching. Source: Sec. 2.1, 3.1.

    Layout a (default): stride-2 convolutions down to 4x4 (six at 256x256), the text reduced by a dense layer and
    repeated at the 4x4 places, a 1x1 convolution, a 4x4 convolution: 8 in all, linear output. Layouts b and c are the
    other two readings of "8 convolutional layers" (A10).
    Differs: the paper gives only the count. At sizes below 256 there are fewer stride-2 convolutions.
    """

    def __init__(self, config: Config) -> None:
        super().__init__(name="discriminator")
        self.config = config
        norm = functools.partial(BatchNorm, config.batch_statistics == "synchronised")
        d, widest = config.d_width, config.d_width * config.d_widest
        self.text = dense(config.text_size)
        stages = config.image_size.bit_length() - 3  # log2(size / 4)
        if config.d_layout == "c":  # 3x3, widths d d 2d 2d 4d 4d 8d 8d, every second one of stride 2
            trunk = [(min(d << (i // 2), widest), 3, 1 + i % 2) for i in range(8)]
        else:
            trunk = [(min(d << i, widest), 4, 2) for i in range(stages)]
            if config.d_layout == "b":
                trunk += [(16 * d, 1, 1), (8 * d, 1, 1)]
        self.depth = len(trunk)
        for i, (width, kernel, stride) in enumerate(trunk):
            normed = i > 0 or config.first_norm
            setattr(self, f"conv{i}", conv(width, kernel, stride, bias=not normed))
            if normed:
                setattr(self, f"norm{i}", norm())
        if config.d_layout == "a":
            self.fuse, self.fuse_norm = conv(8 * d, 1), norm()
            self.to_score = conv(1, 4, bias=True, padding="valid")
        else:
            self.flatten = keras.layers.Flatten()
            self.hidden = dense(16 * d) if config.d_layout == "c" else None
            self.to_score = dense(1)

    def call(self, image: tf.Tensor, embedding: tf.Tensor, training: bool = False, updates: int = 1) -> tf.Tensor:
        """image: [B, H, W, 3] float32 in [-1, 1]. embedding: [B, D] float32, phi(t) itself, not its sample (A13)."""
        return self.score(self.features(image, training, updates), embedding, training, updates)

    def features(self, image: tf.Tensor, training: bool = False, updates: int = 1) -> tf.Tensor:
        """What D sees of the image before it hears the text: [B, 4, 4, min(2^i, widest) d] in layout a."""
        x = image
        for i in range(self.depth):
            x = getattr(self, f"conv{i}")(x)
            if hasattr(self, f"norm{i}"):
                x = getattr(self, f"norm{i}")(x, training=training, updates=updates)
            x = leaky_relu(x)  # [B, H/2^(i+1), W/2^(i+1), min(2^i, widest) d] in layout a
        return x

    def score(self, x: tf.Tensor, embedding: tf.Tensor, training: bool = False, updates: int = 1) -> tf.Tensor:
        """Scores [B] float32 of features x and phi(t)."""
        text = leaky_relu(self.text(embedding))  # [B, text_size]
        if self.config.d_layout == "a":
            x = self.fuse(join(x, text))  # [B, 4, 4, 8d]
            x = self.to_score(leaky_relu(self.fuse_norm(x, training=training, updates=updates)))  # [B, 1, 1, 1]
        elif self.config.d_layout == "b":
            x = self.to_score(self.flatten(join(x, text)))  # [B, 1]
        else:
            x = leaky_relu(self.hidden(self.flatten(x)))
            x = self.to_score(tf.concat([x, tf.cast(text, x.dtype)], axis=-1))  # [B, 1]
        return tf.reshape(tf.cast(x, tf.float32), [-1])


def untanh(image: tf.Tensor) -> tf.Tensor:
    """What tanh makes the image of, cut to +-0.95: at 1 it would be infinite. In logarithms: TFLite has no atanh."""
    kept = tf.clip_by_value(image, -0.95, 0.95)
    return 0.5 * (tf.math.log(1.0 + kept) - tf.math.log(1.0 - kept))


def detail(image: tf.Tensor) -> tf.Tensor:
    """What of the image's lightness is finer than G's bottleneck of a quarter of the size: [B, H, W, 1], mean about 0.

    image: [B, H, W, 3] in [-1, 1]. Its channels' mean less the same averaged twice over 5x5 pixels.
    """
    light = tf.reduce_mean(image, axis=-1, keepdims=True)
    smooth = tf.nn.avg_pool2d(tf.nn.avg_pool2d(light, 5, 1, "SAME"), 5, 1, "SAME")
    return light - smooth


class Adam(keras.optimizers.Adam):
    """Keras' Adam, each variable updated by TensorFlow's one kernel for it, on gradients summed over the replicas.

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


class SIMGAN:
    """Both networks, both optimizers, and the two verbs of a method: `train_step` and `edit`.

    `train_step` is made of three parts, for tf.distribute to call each in its place: `prepare` on the whole batch,
    `update` in every replica on its rows, `average` once.

    embedding_size: D of phi. steps_per_epoch: training pictures // batch_size, for the learning rate's schedule; None
    makes the generator alone, to edit with.
    """

    def __init__(self, config: Config, embedding_size: int, steps_per_epoch: int | None = None) -> None:
        self.config = config
        policy = keras.config.dtype_policy()
        keras.config.set_dtype_policy(config.precision)
        self.parts = {"generator": Generator(config)}
        image = tf.zeros([1, config.image_size, config.image_size, 3])
        embedding, noise = tf.zeros([1, embedding_size]), tf.zeros([1, config.ca_size])
        self.generator = self.shown = self.parts["generator"]
        self.generator(image, embedding, noise)
        if steps_per_epoch is not None:
            self.discriminator = self.parts["discriminator"] = Discriminator(config)
            self.discriminator(image, embedding)
        keras.config.set_dtype_policy(policy)
        if steps_per_epoch is None:
            return
        # Without `prepare`: XLA draws other noise from the same seed.
        self._update = tf.function(self.update, autograph=False, jit_compile=True) if config.xla else self.update

        def adam(network: keras.Model, rate: float) -> keras.optimizers.Optimizer:
            if config.halve_epochs:
                rate = keras.optimizers.schedules.ExponentialDecay(
                    rate, config.halve_epochs * steps_per_epoch, 0.5, staircase=True
                )
            optimizer = Adam(rate, config.beta1, config.beta2, config.adam_epsilon)
            if config.precision == "mixed_float16":  # whose gradients would underflow; a step that overflows is skipped
                optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
            optimizer.build(network.trainable_variables)
            return optimizer

        self.g_optimizer = self.parts["g_optimizer"] = adam(self.generator, config.learning_rate)
        d_rate = config.d_learning_rate or config.learning_rate
        self.d_optimizer = self.parts["d_optimizer"] = adam(self.discriminator, d_rate)
        if config.ema_decay:
            keras.config.set_dtype_policy(config.precision)
            self.shown = self.parts["generator_ema"] = Generator(config)
            self.shown(image, embedding, noise)
            keras.config.set_dtype_policy(policy)
            self.restart_average()

    def variables(self) -> dict[str, list[tf.Variable]]:
        """Everything a checkpoint must hold, as raw variables by part."""
        return {name: [v.value for v in part.variables] for name, part in self.parts.items()}

    def draw_noise(self, count: int, seed: tf.Tensor) -> tf.Tensor:
        """epsilon [count, Z] float32; a pure function of `seed`, two integers."""
        draw = tf.random.stateless_normal if self.config.noise == "normal" else tf.random.stateless_truncated_normal
        return draw([count, self.config.ca_size], seed)

    def edit(self, image: tf.Tensor, embedding: tf.Tensor, noise: tf.Tensor) -> tf.Tensor:
        """x_hat = G(x, phi(t_bar)) [B, H, W, 3] float32 in [-1, 1], batch norm in inference mode.

        noise: [B, Z] float32; zeros give the deterministic edit, other draws give other results (Sec. 3.4).
        """
        return self.shown(image, embedding, noise, training=False)[0]

    @tf.function
    def train_step(
        self, batch: dict[str, tf.Tensor], step: tf.Tensor, measure: tf.Tensor | bool = False
    ) -> dict[str, tf.Tensor]:
        """One update of D, then one of G, from one forward pass of G.

        batch: image [B, H, W, 3], embedding [B, D], class_id [B]. step: int64 scalar, from 0, seeds the noise.
        measure: whether the terms ending in `_norm` are computed; they are 0 in a step without it.
        Returns scalars: the weighted terms of Eq. 4 before the update and their totals, mean and deviation of D's
        scores of the three kinds of pairs, the norms of both gradients, and the correlation of edited and source
        pictures, which is below 0 in a run that inverts.
        """
        terms = self._update(self.prepare(batch, step), measure)
        self.average(step)
        return terms

    def prepare(self, batch: dict[str, tf.Tensor], step: tf.Tensor) -> dict[str, tf.Tensor]:
        """What a step's losses need of one another's rows, and all its draws: a function of the whole batch and step.

        Returns tensors of B rows each: image, matching = phi(t), other = the mismatching text of D's real pairs, target
        = the text that drives x_hat, noise and, where they are drawn, back_noise and cycle_noise, and own: 1.0 in rows
        whose target is their own text.
        """
        config, matching = self.config, batch["embedding"]
        count = batch["image"].shape[0]
        own = round(config.own_text * count)
        mismatching = mismatched(matching, batch["class_id"], config.mismatch)
        rows = {
            "image": batch["image"],
            "matching": matching,
            "other": mismatched(matching, batch["class_id"], config.mismatch, 1 if config.same_mismatch else 2),
            "target": tf.concat([matching[:own], mismatching[own:]], axis=0),
            "noise": self.draw_noise(count, tf.stack([tf.cast(config.seed, tf.int64), 2 * step])),
            "own": tf.cast(tf.range(count) < own, tf.float32),
        }
        if config.d_augment != "none":
            for name, place in (("seen_real", 0), ("seen_edited", 1)):
                seed = tf.stack([tf.cast(config.seed, tf.int64) + (1 << 40), 2 * step + place])
                rows[name] = tf.random.stateless_uniform([count, 4], seed)
        if config.cycle_noise:
            seed = tf.stack([tf.cast(config.seed, tf.int64) + (2 << 40), 2 * step])
            rows["cycle_noise"] = tf.random.stateless_normal(batch["image"].shape, seed, stddev=config.cycle_noise)
        if config.cycle_code == "sampled":
            rows["back_noise"] = self.draw_noise(count, tf.stack([tf.cast(config.seed, tf.int64), 2 * step + 1]))
        return rows

    def update(self, rows: dict[str, tf.Tensor], measure: tf.Tensor | bool = False) -> dict[str, tf.Tensor]:
        """One update of D, then one of G, on a replica's rows of `prepare`; all replicas hold equally many.

        Returns the scalars of `train_step`, of which each replica holds its share: their sum over the replicas is the
        term of the whole batch, and both networks descend the sum.

        Differs: x_hat is computed once. D is updated on it as a constant, then G's gradient flows through the updated
        D; the relatives draw and run G a second time, at a fifth more cost.
        Differs: with own_text above 0 (not the paper's presets), the first pictures of a batch get their own sentence
        as target, as SISGAN's second half does, and the L1 distance of their edit to the picture itself is added, as
        TAGAN does. One G on both ways may invert: G(G(x)) = x also holds for a G that turns light into dark, or one
        background's colours into another's, and nothing in Eq. 4 says which; this term does.
        Differs: with d_augment (not the paper's presets) D sees every picture, real or edited, shifted and with a hole,
        so that it learns a small set by heart later; G learns through the same shift and hole.
        Differs: with cycle_noise above 0 (not the paper's presets) the way back starts from the edited picture with
        noise on it. G otherwise learns to write the old colour into stripes and dots that it can read there, which D
        hardly minds; noise is meant to blur that writing, so that the sentence has to tell the colour. It takes the
        picture out of [-1, 1] a little, and with image_skip="detail" its fine lightness reaches the reconstruction too.
        Source: Bashkirova et al. 2019, "Adversarial Self-Defense for Cycle-Consistent GANs".
        """
        config, generator, discriminator = self.config, self.generator, self.discriminator
        image, matching, other, target = (rows[name] for name in ("image", "matching", "other", "target"))
        back_noise = rows.get("back_noise", tf.zeros_like(rows["noise"]))
        replicas = tf.distribute.get_replica_context().num_replicas_in_sync
        share = 1.0 / replicas

        def seen_by_d(picture: tf.Tensor, which: str) -> tf.Tensor:
            return picture if config.d_augment == "none" else shift_and_cut(picture, rows[which])

        with tf.GradientTape() as g_tape:
            edited, mean, log_sigma = generator(image, target, rows["noise"], training=True)

            with g_tape.stop_recording(), tf.GradientTape() as d_tape:
                # Eq. 1. Real and edited pictures in separate calls: they must not share batch statistics (A29). The
                # real and the mismatching pairs hold the same pictures; two calls would only look at them twice.
                seen = discriminator.features(seen_by_d(image, "seen_real"), training=True, updates=2)
                real_score = discriminator.score(seen, matching, training=True)
                mismatched_score = discriminator.score(seen, other, training=True)
                seen_edited = seen_by_d(tf.stop_gradient(edited), "seen_edited")
                edited_score = discriminator(seen_edited, target, training=True)
                d_terms = {
                    "d_real": losses.least_squares(real_score, 1.0),
                    "d_mismatched": config.mismatched_weight * losses.least_squares(mismatched_score, 0.0),
                    "d_edited": config.edited_weight * losses.least_squares(edited_score, 0.0),
                }
                d_terms = {name: share * config.adversarial_weight * term for name, term in d_terms.items()}
                d_loss = tf.add_n(list(d_terms.values()))
                d_scaled = self.d_optimizer.scale_loss(d_loss)
            with g_tape.stop_recording():
                d_norm = descend(d_tape, d_scaled, self.d_optimizer, discriminator, measure)

            score = discriminator(seen_by_d(edited, "seen_edited"), target, training=True, updates=0)
            way_back = edited + rows["cycle_noise"] if config.cycle_noise else edited
            reconstructed, _, _ = generator(
                way_back, matching, back_noise, training=True, updates=int(config.statistics == "both")
            )
            g_terms = {
                "g_adversarial": config.adversarial_weight * losses.least_squares(score, 1.0),
                "g_cycle": config.cycle_weight * losses.l1(reconstructed, image),  # Eq. 2
                # Eq. 3, on the text that drives x_hat, and never on the way back.
                "g_kl": config.kl_weight * losses.kl_to_normal(mean, log_sigma, config.kl_reduction),
            }
            own = round(config.own_text * image.shape[0] * replicas)
            if own and replicas == 1:
                # Averaged over the whole batch, so that one picture weighs what it does in the cycle loss.
                g_terms["g_own"] = config.cycle_weight * own / image.shape[0] * losses.l1(edited[:own], image[:own])
            elif own:  # the same, of rows that are some replicas' own; they are the first of the whole batch
                distance = tf.reduce_mean(tf.abs(edited - image), axis=[1, 2, 3])
                g_terms["g_own"] = config.cycle_weight * tf.reduce_mean(rows["own"] * distance)
            g_terms = {name: share * term for name, term in g_terms.items()}
            g_loss = tf.add_n(list(g_terms.values()))
            g_scaled = self.g_optimizer.scale_loss(g_loss)
        g_norm = descend(g_tape, g_scaled, self.g_optimizer, generator, measure)

        scores = {"score_real": real_score, "score_mismatched": mismatched_score, "score_edited": edited_score}
        means = {name: mean_over_replicas(tf.reduce_mean(score))[0] for name, score in scores.items()}
        whole = {  # the same in every replica
            **means,
            **{
                f"{name}_std": tf.sqrt(mean_over_replicas(tf.reduce_mean(tf.square(score - means[name])))[0])
                for name, score in scores.items()
            },
            "source_correlation": correlation(edited, image),
            "d_gradient_norm": d_norm,
            "g_gradient_norm": g_norm,
        }
        whole = {name: share * value for name, value in whole.items()}
        return {**d_terms, "d_loss": d_loss, **g_terms, "g_loss": g_loss, **whole}

    def average(self, step: tf.Tensor) -> None:
        """Moves the averaged generator towards G after a step: a <- d a + (1 - d) g, d = min(decay, (1+t) / (10+t)).

        The weights and the moving statistics alike, in raw variables of their own, where ema_decay is above 0.
        Differs: the paper averages nothing; off in its presets.
        """
        if not self.config.ema_decay:
            return
        t = tf.cast(step, tf.float32)
        decay = tf.minimum(self.config.ema_decay, (1.0 + t) / (10.0 + t))
        for average, value in zip(self.shown.variables, self.generator.variables, strict=True):
            average.value.assign(decay * average.value + (1.0 - decay) * value.value)

    def restart_average(self) -> None:
        """Sets the averaged generator, where there is one, to G as it is."""
        for average, value in zip(self.shown.variables, self.generator.variables, strict=True):
            average.value.assign(value.value)


def descend(
    tape: tf.GradientTape,
    loss: tf.Tensor,
    optimizer: keras.optimizers.Optimizer,
    network: keras.Model,
    measure: tf.Tensor | bool,
) -> tf.Tensor:
    """Applies the gradient of the replicas' summed losses; returns its norm where `measure` is true, else 0.

    loss: scaled by the optimizer; the norm is that of the unscaled gradient.
    """
    weights = network.trainable_variables
    gradients = tape.gradient(loss, weights)
    context = tf.distribute.get_replica_context()
    if context.num_replicas_in_sync > 1:
        gradients = context.all_reduce(tf.distribute.ReduceOp.SUM, gradients)
    scale = optimizer.scale_loss(tf.constant(1.0))  # before `apply` changes it
    optimizer.apply(gradients, weights)
    if measure is False:
        return tf.constant(0.0)
    return tf.cond(measure, lambda: tf.linalg.global_norm(gradients) / scale, lambda: tf.constant(0.0))


def correlation(first: tf.Tensor, second: tf.Tensor) -> tf.Tensor:
    """Pearson's correlation of all values of two batches of pictures, a scalar in [-1, 1]."""
    first_mean, second_mean = mean_over_replicas(tf.reduce_mean(first), tf.reduce_mean(second))
    first, second = first - first_mean, second - second_mean
    product, first_square, second_square = mean_over_replicas(
        tf.reduce_sum(first * second), tf.reduce_sum(tf.square(first)), tf.reduce_sum(tf.square(second))
    )
    return product / (tf.sqrt(first_square) * tf.sqrt(second_square) + 1e-12)


def mismatched(embedding: tf.Tensor, class_id: tf.Tensor, how: str, nth: int = 1) -> tf.Tensor:
    """phi(t_bar) [B, D]: row i is the embedding of another picture of the batch.

    "roll": of picture i - nth, which may be of the same class. "other_class": of the nth picture before i whose class
    differs; where the batch has fewer such, of picture i - nth. Source: A16.
    """
    if how == "roll":
        return tf.roll(embedding, nth, axis=0)
    count = embedding.shape[0]
    before = (tf.range(count)[:, None] - tf.range(1, count)[None, :]) % count  # [B, B-1]: i-1, i-2, ...
    differs = tf.cast(tf.gather(class_id, before) != class_id[:, None], tf.int32)
    is_nth = differs * tf.cast(tf.cumsum(differs, axis=1) == nth, tf.int32)
    place = tf.where(tf.reduce_any(is_nth > 0, axis=1), tf.argmax(is_nth, axis=1, output_type=tf.int32), nth - 1)
    return tf.gather(embedding, tf.gather(before, place, batch_dims=1))
