"""Trainings that need a process of their own, for tests/test_engine.py: several devices, several workers, many kills.

python -m tests.engine_process mirrored|method_mirrored|worker|stored|killed RUN_DIR ...
"""

import dataclasses
import os
import random
import signal
import sys
import time

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import keras
import numpy as np
import tensorflow as tf

from simgan_tf import checkpoints, layers, methods, strategy, training
from tests.tiny import TINIES, TINY, own_name, phi, random_batch

IMAGES = 8  # two steps an epoch
# A large epsilon keeps Adam's steps smooth in the gradients: rounding stays rounding.
CONFIG = dataclasses.replace(
    TINY, units=0, steps=3, own_text=0.25, ema_decay=0.9, adam_epsilon=1e-2, checkpoint_every=1, keep_checkpoints=9
)


def batches(step):
    while True:
        yield random_batch(step)
        step += 1


def train(run_dir, config=CONFIG, replicas=None, batches=batches):
    replicas, encoder = replicas or strategy.Replicas(), phi()
    keras.utils.set_random_seed(config.seed)  # after the encoder, which draws too
    with replicas.scope():
        method = methods.build(config, encoder, IMAGES // config.batch_size)
        # With shifts of 0 the means of a norm behind a norm are 0 as well, and what is compared is their rounding; and
        # half of the activations stand at the kink of ReLU's.
        for variables in method.variables().values():
            for i, variable in enumerate(variables):
                if own_name(variable) == "beta":
                    variable.assign(tf.random.stateless_uniform(variable.shape, [0, i], 0.5, 1.0))
    training.train(method, batches, config, run_dir, IMAGES, replicas=replicas)
    return method


def train_on_batches(run_dir, name, replicas=None):
    """Three steps of a method's tiny configuration, with an average and an epsilon as in CONFIG."""
    config = dataclasses.replace(TINIES[name], steps=3, ema_decay=0.9, adam_epsilon=1e-2, checkpoint_every=3)
    return train(run_dir, config, replicas)


def two_devices():
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    return strategy.choose("mirrored")


def method_mirrored(run_dir, name):
    """`train_on_batches` on two logical CPU devices."""
    train_on_batches(run_dir, name, two_devices())


def mirrored(run_dir):
    """Three steps on two logical CPU devices; then batch norm against numpy."""
    replicas = two_devices()
    assert (replicas.count, replicas.chief, replicas.alone) == (2, True, True)
    method = train(run_dir, replicas=replicas)
    for part, variables in method.variables().items():
        for i, variable in enumerate(variables):
            first, second = (copy.numpy() for copy in variable.values)
            np.testing.assert_array_equal(first, second, err_msg=f"{part} {i}")

    x = np.random.default_rng(0).normal(3.0, 2.0, [4, 3, 3, 2]).astype(np.float32)
    with replicas.scope():
        norm = layers.BatchNorm()
        norm(tf.zeros([1, 3, 3, 2]))
        norm.gamma.assign([1.0, 1.0])

    def call():
        index = tf.distribute.get_replica_context().replica_id_in_sync_group
        return norm(tf.constant(x)[2 * index : 2 * index + 2], training=True)

    y = tf.concat(replicas.strategy.experimental_local_results(replicas.strategy.run(call)), 0)
    mean, axes = x.mean((0, 1, 2)), (0, 1, 2)
    np.testing.assert_allclose(y, (x - mean) / np.sqrt(x.var(axes) + 1e-5), atol=2e-6)
    for moving, batch in ((norm.mean, 0.1 * mean), (norm.variance, 0.9 + 0.1 * x.var(axes, ddof=1))):
        for copy in moving.value.values:
            np.testing.assert_allclose(copy, batch, rtol=1e-5)


def worker(run_dir):
    """Goes on in `run_dir`, as one of the processes that TF_CONFIG names."""
    replicas = strategy.choose("auto")
    print("count", replicas.count, "chief", replicas.chief)
    train(run_dir, replicas=replicas)


def stored(run_dir, records_dir, steps=3, batch_size=4):
    """As `worker`, or alone, on the pictures of a records folder; prints how many pictures were read."""
    from data import pipeline, splits

    replicas, read = strategy.choose("auto"), []
    config = dataclasses.replace(CONFIG, batch_size=int(batch_size), steps=int(steps))
    replicas.require_same(f"batch_size={batch_size}")
    split = splits.load_split(records_dir, "train")
    images = split.images.places.images
    split.images.places.images = lambda rows: read.append(len(rows)) or images(rows)
    rows = np.random.default_rng(0).normal(size=[int(split.caption_counts.sum()), phi().dim]).astype(np.float32)

    def batches(step):
        options = {"image_size": config.image_size, "load_size": config.load_size, "seed": 0, "start_step": step}
        share = replicas.share(config.batch_size)
        yield from pipeline.training_batches(
            split, rows, None, batch_size=config.batch_size, share=share, **options
        )

    train(run_dir, config, replicas, batches)
    print("pictures a read", *set(read))


def wait_for(run_dir, step, seconds):
    """Until the training has saved `step`, at most `seconds`."""
    until = time.monotonic() + seconds
    while (checkpoints.steps(run_dir) or [0])[-1] < step and time.monotonic() < until:
        time.sleep(0.001)


def killed(run_dir, steps, kills, seed):
    """Starts a training that saves at every step `kills` times and kills it -9 at a random moment; then lets it end.

    Each attempt is forked before TensorFlow has done anything, which saves its import.
    """
    config = dataclasses.replace(CONFIG, steps=int(steps), keep_checkpoints=2, log_every=1)
    draw = random.Random(int(seed))
    reached = []
    for attempt in range(int(kills) + 1):
        sys.stdout.flush()
        child = os.fork()
        if child == 0:
            with training.holding(run_dir):
                train(run_dir, config)
            os._exit(0)
        if attempt < int(kills):
            begun = (checkpoints.steps(run_dir) or [0])[-1]
            if attempt % 3 == 0:  # while it starts
                wait_for(run_dir, begun + 3, draw.uniform(0, 4))
            else:  # a few steps after its first checkpoint, so that a fast machine is not done before the last kill
                wait_for(run_dir, begun + 1, 60)
                wait_for(run_dir, begun + 3, draw.uniform(0, 0.3))
            os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        reached.append((checkpoints.steps(run_dir) or [0])[-1])
    print("reached", *reached)
    assert os.waitstatus_to_exitcode(status) == 0, status


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
