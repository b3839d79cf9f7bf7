"""The loop: batches into the method's step, checkpoints, metrics, sample sheets. Knows no method and no network.
A run directory holds config.json, text_encoder/, checkpoints/, metrics.jsonl, tensorboard/, samples/."""

import dataclasses
import json
import math
import os
import signal
import time
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import tensorflow as tf
from PIL import Image
from tqdm import tqdm

from simgan_tf import config as configs
from simgan_tf.config import Config
from simgan_tf.files import write_text
from simgan_tf.pictures import save_image


def claim(run_dir: str, config: Config, dataset: dict[str, Any], text_encoder: str, command: str) -> None:
    """Makes `run_dir` this run's, or checks that it already is; writes config.json.

    dataset: facts of the records, with their `fingerprint`. text_encoder: the fingerprint of phi.
    Raises: ValueError where the directory holds a run of another method, configuration, phi or data.
    """
    os.makedirs(run_dir, exist_ok=True)
    if os.path.exists(os.path.join(run_dir, "config.json")):
        found, facts = configs.load(run_dir)
        differing = [
            f"{field.name} {getattr(found, field.name)!r} there, {getattr(config, field.name)!r} now"
            for field in dataclasses.fields(Config)
            if field.name not in configs.CHANGEABLE and getattr(found, field.name) != getattr(config, field.name)
        ]
        if facts.get("dataset", {}).get("fingerprint") != dataset["fingerprint"]:
            differing.append("the records")
        if facts.get("text_encoder") != text_encoder:
            differing.append("the text encoder")
        if differing:
            raise ValueError(
                f"{run_dir!r} holds another run ({'; '.join(differing)}): choose another --run_dir, or give "
                "the flags it was started with."
            )
    configs.save(config, run_dir, dataset=dataset, text_encoder=text_encoder, command=command)


def checkpoint_of(parts: dict[str, list[tf.Variable]], **others: tf.Variable) -> tf.train.Checkpoint:
    """A checkpoint of raw variables, keyed by part and place in the part's list.

    Keras objects are not handed over: Keras 3 hides layers kept in lists from checkpoints, without a word.
    """
    modules = {}
    for part, variables in parts.items():
        modules[part] = tf.Module()
        modules[part].v = {f"{i:04d}": variable for i, variable in enumerate(variables)}
    return tf.train.Checkpoint(**modules, **others)


def latest_checkpoint(run_dir: str) -> str:
    """Path of the newest checkpoint. Raises: FileNotFoundError where there is none yet."""
    path = tf.train.latest_checkpoint(os.path.join(run_dir, "checkpoints"))
    if path is None:
        raise FileNotFoundError(f"{run_dir!r} has no checkpoint yet: train it with run_train.py first.")
    return path


def restore_part(run_dir: str, part: str, variables: list[tf.Variable]) -> int:
    """Fills one part's variables, such as the generator's, from the newest checkpoint; returns its step."""
    step = tf.Variable(0, dtype=tf.int64)
    _restore(checkpoint_of({part: variables}, step=step), latest_checkpoint(run_dir), whole=False)
    return int(step)


def _restore(checkpoint: tf.train.Checkpoint, path: str, whole: bool) -> None:
    """Fills the checkpoint's variables; whole: the file may hold no others. Raises: ValueError for a bad file."""
    try:
        status = checkpoint.restore(path)
        status.assert_existing_objects_matched()
        if whole:
            status.assert_consumed()
        else:
            status.expect_partial()
    except (IndexError, AssertionError, ValueError, tf.errors.OpError) as error:
        raise ValueError(
            f"{path}: damaged, or of another version of the networks ({type(error).__name__}). Delete the files of "
            "this checkpoint and its name in the file 'checkpoint' beside them to go back to the one before."
        ) from error


def total_steps(config: Config, images: int) -> int:
    """Steps of the whole training: `steps`, or `epochs` over floor(images / batch_size) (A39)."""
    return config.steps or config.epochs * (images // config.batch_size)


def train(
    method: Any,
    batches: Callable[[int], Iterable[dict[str, tf.Tensor]]],
    config: Config,
    run_dir: str,
    images: int,
    draw_sheet: Callable[[], Image.Image] | None = None,
) -> int:
    """Trains until the configured step, from the newest checkpoint if there is one; returns the step reached.

    method: has train_step(batch, step) -> dict of scalars, and variables(). batches(step): the batches from that step
    on. images: pictures in the training split. draw_sheet: makes the sample sheet of the method as it is now.
    A first Ctrl-C or SIGTERM finishes the step, saves and returns.
    Raises: FloatingPointError when a term is not finite, naming term and step; the last checkpoint stays.
    """
    step = tf.Variable(0, dtype=tf.int64)
    checkpoint = checkpoint_of(method.variables(), step=step)
    manager = tf.train.CheckpointManager(checkpoint, os.path.join(run_dir, "checkpoints"), config.keep_checkpoints)
    if manager.latest_checkpoint:
        _restore(checkpoint, manager.latest_checkpoint, whole=True)
        print(f"resuming {run_dir} from step {int(step)}")
    start, last, epoch_steps = int(step), total_steps(config, images), images // config.batch_size
    if start >= last:
        print(f"{run_dir} is trained: {start} of {last} steps done.")
        return start

    metrics = os.path.join(run_dir, "metrics.jsonl")
    _forget_after(metrics, start)
    writer = tf.summary.create_file_writer(os.path.join(run_dir, "tensorboard"))
    stopping = _StopSignals()
    clock, logged = time.monotonic(), start
    bar = tqdm(total=last, initial=start, unit="step", desc="training", dynamic_ncols=True)
    with stopping, writer.as_default(), open(metrics, "a", encoding="utf-8") as log, bar:
        for batch in batches(start):
            scalars = {name: float(value) for name, value in method.train_step(batch, step).items()}
            _require_finite(scalars, int(step) + 1, manager.latest_checkpoint)
            now = int(step.assign_add(1))
            bar.update()
            ending = now >= last or stopping.asked

            if _due(config.log_every, now) or ending:
                rate = (now - logged) * config.batch_size / max(time.monotonic() - clock, 1e-9)
                row = {"step": now, "epoch": now / epoch_steps, "images_per_second": rate, **scalars}
                log.write(json.dumps({name: round(value, 6) for name, value in row.items()}) + "\n")
                log.flush()
                for name, value in row.items():
                    if name != "step":
                        tf.summary.scalar(name, value, step=now)
                totals = [f"{name} {scalars[name]:.3f}" for name in ("d_loss", "g_loss") if name in scalars]
                bar.set_postfix_str(", ".join([f"{rate:.0f} images/s", *totals]))
                clock, logged = time.monotonic(), now
            if draw_sheet and config.sample_every and (_due(config.sample_every, now) or now >= last):
                sheet = draw_sheet()
                path = os.path.join(run_dir, "samples", f"{now:07d}.png")
                save_image(sheet, path)
                tf.summary.image("sheet", np.asarray(sheet)[None], step=now)
            if _due(config.checkpoint_every, now) or ending:
                _require_finite_variables(method.variables(), now)
                _save(manager, now)
            if ending:
                break
    if stopping.asked:
        print(f"stopped at step {int(step)} of {last}, saved; the same command goes on from there.")
    return int(step)


class _StopSignals:
    """While entered, the first SIGINT or SIGTERM sets `asked`; the second one acts as usual."""

    def __enter__(self) -> "_StopSignals":
        self.asked = False
        self.previous = {}
        for number in (signal.SIGINT, signal.SIGTERM):
            self.previous[number] = signal.signal(number, self._ask)
        return self

    def _ask(self, number: int, frame: Any) -> None:
        self.asked = True
        signal.signal(number, self.previous[number])

    def __exit__(self, *exception: object) -> None:
        for number, handler in self.previous.items():
            signal.signal(number, handler)


def _save(manager: tf.train.CheckpointManager, step: int) -> None:
    """Saves a checkpoint. Raises: OSError in one line where it cannot be written; the ones before stay."""
    kept = manager.latest_checkpoint
    try:
        manager.save(checkpoint_number=step)
    except tf.errors.OpError as error:
        reason = str(error.message).split(";")[-1].strip()
        raise OSError(
            f"the checkpoint of step {step} cannot be written to {manager.directory} ({reason}); last whole one: "
            f"{kept or 'none yet'}. Make room and run the same command again."
        ) from None


def _due(every: int, step: int) -> bool:
    return every > 0 and step % every == 0


def _require_finite(scalars: dict[str, float], step: int, kept: str | None) -> None:
    bad = [f"{name}={value}" for name, value in scalars.items() if not math.isfinite(value)]
    if bad:
        raise FloatingPointError(
            f"step {step}: {', '.join(bad)}; stopped. Last good checkpoint: {kept or 'none yet'}. Start "
            "again in another --run_dir with a lower --learning_rate, or in float32."
        )


def _require_finite_variables(parts: dict[str, list[tf.Variable]], step: int) -> None:
    for part, variables in parts.items():
        for i, variable in enumerate(variables):
            if variable.dtype.is_floating and not bool(tf.reduce_all(tf.math.is_finite(variable))):
                raise FloatingPointError(f"step {step}: variable {i} of {part} is not finite; this step is not saved.")


def _forget_after(metrics: str, step: int) -> None:
    """Drops the rows that a killed run wrote after its last checkpoint, and a half-written last line."""
    if not os.path.exists(metrics):
        return
    kept = []
    with open(metrics, encoding="utf-8") as log:
        for line in log:
            try:
                if json.loads(line)["step"] <= step:
                    kept.append(line)
            except json.JSONDecodeError:
                break
    write_text(metrics, "".join(kept))
