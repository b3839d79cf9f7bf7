"""The loop: batches into the method's step, checkpoints, metrics, sample sheets.
A run directory holds config.json, text_encoder/, checkpoints/, metrics.jsonl, tensorboard/, samples/."""

import contextlib
import json
import math
import os
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import tensorflow as tf
from PIL import Image
from tqdm import tqdm

from simgan_tf import checkpoints, configs
from simgan_tf.checkpoints import Parts, checkpoint_of
from simgan_tf.configs.base import Base
from simgan_tf.strategy import Replicas
from simgan_tf.system import files
from simgan_tf.system.pictures import save_image
from simgan_tf.watch import Watch


@contextlib.contextmanager
def holding(run_dir: str) -> Iterator[None]:
    """Makes `run_dir` where it is missing, and locks it against other processes that would train in it.

    Raises: OSError in one line where another process is in it, naming that one, or it cannot be written.
    """
    folder = os.path.join(run_dir, checkpoints.FOLDER)
    with contextlib.ExitStack() as stack:
        try:
            os.makedirs(folder, exist_ok=True)
            stack.enter_context(files.locked(os.path.join(folder, ".lock"), f"--run_dir={run_dir}"))
        except BlockingIOError:
            raise
        except OSError as error:
            raise OSError(f"--run_dir={run_dir} cannot be written ({error.strerror}); choose another.") from None
        for name in (folder, os.path.join(run_dir, "samples")):  # not run_dir: evaluation may be writing there
            files.remove_unfinished(name)
        yield


def require_same_run(
    run_dir: str, config: Base, dataset: dict[str, Any], text_encoder: str, init_from: str = ""
) -> dict[str, Any]:
    """Checks that `run_dir` is new or belongs to this run; returns what its config.json says beside the configuration.

    dataset: facts of the records, with their `fingerprint`. text_encoder: the fingerprint of phi. init_from: the run
    whose networks it starts from; may be left out once there is a checkpoint.
    Raises: ValueError where the directory holds a run of another method, configuration, phi, data or origin.
    """
    facts: dict[str, Any] = {}
    if os.path.exists(os.path.join(run_dir, "config.json")):
        old, facts = configs.load(run_dir)
        differing = [
            f"{name} {there!r} there, {now!r} now"
            for name, (now, there) in configs.differences(config, old).items()
            if name not in configs.changeable(config)
        ]
        if facts.get("dataset", {}).get("fingerprint") != dataset["fingerprint"]:
            differing.append("the records")
        if facts.get("text_encoder") != text_encoder:
            differing.append("the text encoder")
        origin = facts.get("init_from", "")
        if init_from != origin and (init_from or not checkpoints.steps(run_dir)):
            differing.append(f"init_from {origin!r} there, {init_from!r} now")
        if differing:
            raise ValueError(
                f"{run_dir!r} holds another run ({'; '.join(differing)}): choose another --run_dir, or give "
                "the flags it was started with."
            )
    return facts


def write_config(
    run_dir: str, config: Base, dataset: dict[str, Any], text_encoder: str, init_from: str = "", **facts: Any
) -> None:
    """Writes run_dir/config.json, which makes the directory this run's. Arguments and Raises: see `require_same_run`.

    facts: what else is to stand there, such as the command.
    """
    before = require_same_run(run_dir, config, dataset, text_encoder, init_from)
    os.makedirs(run_dir, exist_ok=True)
    origin = init_from or before.get("init_from", "")
    facts |= {"init_from": origin} if origin else {}
    configs.save(config, run_dir, dataset=dataset, text_encoder=text_encoder, **facts)


def start_from(run_dir: str, method: Any) -> int:
    """Fills what another run may lend, and neither optimizer nor step; returns the step that run was at.

    Says which networks begin anew. Raises: FileNotFoundError or ValueError where `run_dir` holds no checkpoint of such
    networks.
    """
    other, _ = configs.load(run_dir)
    if other.method != method.config.method:
        raise ValueError(
            f"{run_dir!r} is a run of {other.method}, whose networks are not those of {method.config.method}: choose "
            "another --init_from, or none."
        )
    own = method.variables()
    held = checkpoints.folders_of(run_dir)
    lent = method.lent_by(other, set(held))
    for folder in sorted({run_dir, *held.values()}):  # what lies nowhere is asked of run_dir, which says so
        parts = {theirs: own[ours] for ours, theirs in lent.items() if held.get(theirs, run_dir) == folder}
        step = checkpoints.restore_parts(folder, parts)
    for name in own.keys() - lent.keys() - {method.part}:
        if not name.endswith("_optimizer"):
            print(f"{run_dir} lends no {name} that fits: it begins anew")
    method.restart_average()
    return step


WARM, TIMED = 2, 20  # steps that compile and fill caches; then those that tell how long the rest will take


def time_left(steps: int, seconds: float) -> str:
    """How long `steps` of `seconds` each will take, in words: "7 minutes for 1,978 steps of 0.212 s"."""
    total = steps * seconds
    value, unit = (total, "seconds") if total < 90 else (total / 60, "minutes")
    if value >= 90:
        value, unit = value / 60, "hours"
    return f"{value:.0f} {unit} for {steps:,} steps of {seconds:.3g} s"


def train(
    method: Any,
    batches: Callable[[int], Iterable[dict[str, tf.Tensor]]],
    config: Base,
    run_dir: str,
    images: int,
    draw_sheet: Callable[[], Image.Image] | None = None,
    replicas: Replicas | None = None,
    profile: tuple[int, int] | None = None,
) -> int:
    """Trains until the configured step, from the newest checkpoint if there is one; returns the step reached.

    method: of simgan_tf.methods, made inside replicas.scope().
    batches(step): the batches from that step on. images: pictures in the training split. draw_sheet: makes the sample
    sheet of the method as it is now. profile: first and last step of a profiler's trace.
    A first Ctrl-C or SIGTERM finishes the step, saves and returns; on several machines, that of any of them.
    Raises: FloatingPointError when a term is not finite, naming term and step; the last checkpoint stays.
    """
    replicas = replicas or Replicas()
    step = tf.Variable(0, dtype=tf.int64)
    with replicas.scope():
        start = checkpoints.restore(run_dir, method.variables())
    replicas.require_same(f"the checkpoint of step {start or 0}")
    if start is not None and replicas.chief:
        print(f"resuming {run_dir} from step {start}")
    step.assign(start or 0)
    start, last, epoch_steps = int(step), config.total_steps(images), images // config.batch_size
    if start >= last:
        if replicas.chief:
            print(f"{run_dir} is trained: {start} of {last} steps done.")
        return start

    train_step, watch = replicas.train_step(method), Watch(method.warnings)
    described = tf.Variable(json.dumps(configs.as_json(config)))
    checkpoint = checkpoint_of(method.variables(), step=step, config=described)
    tensorboard = os.path.join(run_dir, "tensorboard")
    if replicas.chief:
        metrics = os.path.join(run_dir, "metrics.jsonl")
        _forget_after(metrics, start)
        writer = tf.summary.create_file_writer(tensorboard)
    else:  # the chief alone writes
        metrics, draw_sheet, profile = os.devnull, None, None
        writer = tf.summary.create_noop_writer()

    def save(now: int) -> None:
        _require_finite_variables(method.variables(), now)
        checkpoints.save(run_dir, checkpoint, now, config.keep_checkpoints, config.keep_every)

    stopping, tracing = _StopSignals(), _Profile(tensorboard, profile)
    clock, logged = time.monotonic(), start
    warmed = clock
    bar = tqdm(
        total=last, initial=start, unit="step", desc="training", dynamic_ncols=True, disable=not replicas.chief
    )
    with stopping, tracing, bar:
        for batch in batches(start):
            now = int(step) + 1
            measured = _due(config.log_every, now) or now >= last
            tracing.before(now)
            scalars = train_step(batch, step, tf.constant(measured))
            scalars = {name: float(value) for name, value in scalars.items()}
            norms = {name: scalars.pop(name) for name in [*scalars] if name.endswith("_norm")}
            tracing.after(now)
            _require_finite(scalars, now, run_dir)
            step.assign(now)
            bar.update()
            if now == start + WARM:
                warmed = time.monotonic()
            elif now == start + WARM + TIMED and now < last and replicas.chief:
                seconds = (time.monotonic() - warmed) / TIMED
                bar.write(f"step {now}: about {time_left(last - now, seconds)} are left, on this machine as it is now")
            stopped = now < last and replicas.any(stopping.asked)
            ending = stopped or now >= last

            if replicas.chief and (measured or ending):
                rate = (now - logged) * config.batch_size / max(time.monotonic() - clock, 1e-9)
                row = {"step": now, "epoch": now / epoch_steps, "images_per_second": rate, **scalars}
                if measured:  # a norm that is not finite is that of a step which loss scaling has skipped
                    row |= {name: value for name, value in norms.items() if math.isfinite(value)}
                with _writing(run_dir, now, save), writer.as_default(), open(metrics, "a", encoding="utf-8") as log:
                    log.write(json.dumps({name: round(value, 6) for name, value in row.items()}) + "\n")
                    for name, value in row.items():
                        if name != "step":
                            tf.summary.scalar(name, value, step=now)
                for line in watch.see(now, row):
                    bar.write(line)
                totals = [f"{name} {scalars[name]:.3f}" for name in ("d_loss", "g_loss") if name in scalars]
                bar.set_postfix_str(", ".join([f"{rate:.0f} images/s", *totals]))
                clock, logged = time.monotonic(), now
            if replicas.chief and (_due(config.checkpoint_every, now) or ending):
                save(now)
            if draw_sheet and config.sample_every and (_due(config.sample_every, now) or now >= last):
                sheet = draw_sheet()
                with _writing(run_dir, now, save), writer.as_default():
                    save_image(sheet, os.path.join(run_dir, "samples", f"{now:07d}.png"))
                    tf.summary.image("sheet", np.asarray(sheet)[None], step=now)
            if ending:
                break
    replicas.any(False)  # nobody leaves before the chief has saved
    if stopped and replicas.chief:
        print(f"stopped at step {int(step)} of {last}, saved; the same command goes on from there.")
    return int(step)


class _StopSignals:
    """Inside a `with` block the first SIGINT or SIGTERM sets `asked`; the second one acts as usual."""

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


@contextlib.contextmanager
def _writing(run_dir: str, step: int, save: Callable[[int], None]) -> Iterator[None]:
    """Inside a `with` block an error of the disk becomes one line, after an attempt to save the step."""
    try:
        yield
    except (OSError, tf.errors.OpError) as error:
        with contextlib.suppress(OSError):  # the message names the last one that succeeded
            save(step)
        last = checkpoints.last_before(run_dir, step + 1)
        raise OSError(
            f"step {step}: the log or the sample sheet cannot be written to {run_dir} "
            f"({checkpoints.reason_of(error)}); last whole checkpoint: {last}. Make room and run the same command "
            "again."
        ) from None


class _Profile:
    """Inside a `with` block traces the steps of `span` (first, last) into a TensorBoard folder; None traces nothing."""

    def __init__(self, folder: str, span: tuple[int, int] | None) -> None:
        self.folder, self.span, self.running = folder, span, False

    def __enter__(self) -> None:
        pass

    def before(self, step: int) -> None:
        if self.span and self.span[0] <= step <= self.span[1] and not self.running:
            tf.profiler.experimental.start(self.folder)
            self.running = True

    def after(self, step: int) -> None:
        if self.running and step >= self.span[1]:
            self.__exit__()
            self.span = None

    def __exit__(self, *exception: object) -> None:
        if self.running:
            self.running = False
            tf.profiler.experimental.stop()
        elif self.span:
            print("none of the steps {} to {} was run here: nothing is traced.".format(*self.span))


def _due(every: int, step: int) -> bool:
    return every > 0 and step % every == 0


def _require_finite(scalars: dict[str, float], step: int, run_dir: str) -> None:
    bad = [f"{name}={value}" for name, value in scalars.items() if not math.isfinite(value)]
    if bad:
        raise FloatingPointError(
            f"step {step}: {', '.join(bad)}; stopped. Last good checkpoint: {checkpoints.last_before(run_dir, step)}. "
            "Start again in another --run_dir with a lower --learning_rate, or in float32."
        )


def _require_finite_variables(parts: Parts, step: int) -> None:
    for part, variables in parts.items():
        for i, variable in enumerate(variables):
            if variable.dtype.is_floating and not bool(tf.reduce_all(tf.math.is_finite(variable))):
                raise FloatingPointError(f"step {step}: variable {i} of {part} is not finite; this step is not saved.")


def _forget_after(metrics: str, step: int) -> None:
    """Drops the rows that a killed run wrote after its last checkpoint, and a half-written last line."""
    if not os.path.exists(metrics):
        return
    kept_lines = []
    with open(metrics, encoding="utf-8") as log:
        for line in log:
            try:
                if json.loads(line)["step"] <= step:
                    kept_lines.append(line)
            except (ValueError, TypeError, KeyError, RecursionError):  # half a line, or no row of ours
                break
    files.write_text(metrics, "".join(kept_lines))
