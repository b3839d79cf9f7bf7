"""Checkpoints of a run directory: written whole or not at all, checked when they are read, kept by number."""

import contextlib
import glob
import math
import os
import re
import tempfile
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from simgan_tf.system.files import require_regular, sync, write_text

Parts = dict[str, list[tf.Variable]]  # raw variables by part, as a method's variables() gives them
FOLDER = "checkpoints"
TRAINING = "training"  # folder of a packed model, with a checkpoint of its own of the networks that only train
VALUE = "/.ATTRIBUTES/VARIABLE_VALUE"  # how TensorFlow names a variable's value in a checkpoint
SPARE = 2**26  # numbers, 256 MB
MOST_DAMAGED = 20  # checkpoints that are gone through for a whole one
HALF = (tf.float16, tf.float32)  # type in the file, of a variable: export.pack stores float32 in half the bytes
# What TensorFlow raises for missing, cut and changed files; a checksum that fails is a bare OpError.
DAMAGE = (tf.errors.OpError, RuntimeError, IndexError, UnicodeDecodeError)
# Not damage: these errors may pass. Going back to an older checkpoint would be wrong, since the next save deletes
# whatever is newer than the checkpoint that was taken.
PASSING = (
    tf.errors.UnavailableError,
    tf.errors.PermissionDeniedError,
    tf.errors.ResourceExhaustedError,
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
)


def checkpoint_of(parts: Parts, **others: tf.Variable) -> tf.train.Checkpoint:
    """A checkpoint of raw variables, keyed by part and place in the part's list.

    Keras objects are not handed over: Keras 3 hides layers kept in lists from checkpoints, without a word.
    """
    modules = {}
    for part, variables in parts.items():
        modules[part] = tf.Module()
        modules[part].v = {f"{i:04d}": variable for i, variable in enumerate(variables)}
    return tf.train.Checkpoint(**modules, **others)


def steps(run_dir: str, ending: str = r"\.index") -> list[int]:
    """Steps of the finished checkpoints, from oldest to newest. The .index is written last and makes it finished."""
    folder = os.path.join(run_dir, FOLDER)
    names = os.listdir(folder) if os.path.isdir(folder) else []
    return sorted({int(match[1]) for name in names if (match := re.fullmatch(rf"ckpt-(\d+){ending}", name))})


def path_of(run_dir: str, step: int) -> str:
    return os.path.join(run_dir, FOLDER, f"ckpt-{step}")


def latest_checkpoint(run_dir: str) -> str:
    """Path of the newest checkpoint. Raises: FileNotFoundError where there is none yet."""
    existing = steps(run_dir)
    if not existing:
        raise FileNotFoundError(f"{run_dir!r} has no checkpoint yet: train it with run_train.py first.")
    return path_of(run_dir, existing[-1])


@contextlib.contextmanager
def networks_of(run_dir: str) -> Iterator[None]:
    """Within, Keras builds networks that may belong to the newest checkpoint of `run_dir`, and refuses larger ones.

    A stranger's config.json may ask for a network of terabytes: its weights are counted before each takes memory. A
    packed model's checkpoint lacks the networks that only train, so that four times what it holds is allowed, and
    SPARE numbers anyhow.
    Raises: ValueError, within, for more.
    """
    paths = glob.glob(glob.escape(os.path.join(run_dir, FOLDER)) + "/*.data-*")
    stats = [os.stat(path) for path in paths]
    sizes = [min(stat.st_size, getattr(stat, "st_blocks", stat.st_size) * 512) for stat in stats]  # holes do not count
    most = SPARE + 4 * (max(sizes, default=0) // 2)  # float16 takes 2 bytes
    left, plain = most, keras.layers.Layer.add_weight

    def counted(layer: keras.layers.Layer, *given: Any, **options: Any) -> Any:
        nonlocal left
        # Keras 2 has a name before the shape, where they are not named.
        shape = options.get("shape") or next((value for value in given if isinstance(value, tuple | list)), ())
        left -= math.prod(shape)
        if left < 0:
            raise ValueError("too large")
        return plain(layer, *given, **options)

    keras.layers.Layer.add_weight = counted
    try:
        yield
    except ValueError:
        if left >= 0:
            raise
        raise ValueError(  # in Keras' own, several lines say which layer it was
            f"{run_dir}: its config.json or encoder.json asks for networks of over {most:,} numbers, more than its "
            "checkpoint can hold; copy the whole folder again."
        ) from None
    finally:
        keras.layers.Layer.add_weight = plain


def parts_of(path: str) -> set[str]:
    """The names of the parts that a checkpoint holds. Raises: ValueError where it is damaged."""
    try:
        with _reader(path) as reader:
            names = reader.get_variable_to_shape_map()
    except PASSING:
        raise
    except DAMAGE as error:
        raise ValueError(f"{path} is damaged ({type(error).__name__}).") from None
    return {name.split("/v/")[0] for name in names if "/v/" in name}


def training_parts(method: Any) -> Parts:
    """The networks of a method made to train that its edits do without; see `variables` of the methods' contract."""
    editing = {method.part, method.part.removesuffix("_ema")}
    return {
        name: variables for name, variables in method.variables().items()
        if name not in editing and not name.endswith("_optimizer")
    }  # fmt: skip


def folders_of(run_dir: str, step: int | None = None) -> dict[str, str]:
    """{part: folder} of the checkpoint of `step`, None = the newest: run_dir, and a packed model's TRAINING.

    Raises: FileNotFoundError where there is no checkpoint; ValueError where one is damaged.
    """
    latest_checkpoint(run_dir)
    folders = [folder for folder in (run_dir, os.path.join(run_dir, TRAINING)) if steps(folder)]
    paths = {folder: latest_checkpoint(folder) if step is None else path_of(folder, step) for folder in folders}
    return {part: folder for folder, path in paths.items() for part in parts_of(path)}


def last_before(run_dir: str, step: int) -> str:
    """Path of the newest checkpoint before `step`, for messages; newer ones were passed over as damaged."""
    older = [other for other in steps(run_dir) if other < step]
    return path_of(run_dir, older[-1]) if older else "none yet"


def reason_of(error: Exception) -> str:
    """Why a file could not be written, in the system's words."""
    return getattr(error, "strerror", None) or str(getattr(error, "message", error)).split(";")[-1].strip()


def save(run_dir: str, checkpoint: tf.train.Checkpoint, step: int, keep: int, keep_every: int = 0) -> str:
    """Writes the checkpoint of `step`; the newest `keep` stay, and those of every `keep_every`th step.

    Returns its path. Raises: OSError in one line where it cannot be written; the ones before stay.
    """
    folder, path = os.path.join(run_dir, FOLDER), path_of(run_dir, step)
    last = last_before(run_dir, step)
    try:
        os.makedirs(folder, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".writing-", dir=folder) as scratch:
            checkpoint.write(os.path.join(scratch, "ckpt"))
            _remove(run_dir, step)
            for name in sorted(os.listdir(scratch)):  # .data-00000-of-00001 before .index
                if name.startswith("ckpt."):
                    sync(os.path.join(scratch, name))
                    os.replace(os.path.join(scratch, name), path + name.removeprefix("ckpt"))
        sync(folder)
        # A checkpoint newer than this step is damaged: this training passed over it when it resumed. It goes too.
        kept_steps = [old for old in steps(run_dir) if old <= step]
        kept_steps = [old for old in kept_steps[:-keep] if keep_every and old % keep_every == 0] + kept_steps[-keep:]
        names = "".join(f'all_model_checkpoint_paths: "ckpt-{old}"\n' for old in kept_steps)
        write_text(os.path.join(folder, "checkpoint"), f'model_checkpoint_path: "ckpt-{step}"\n{names}')  # TensorFlow's
        for old in set(steps(run_dir, r"\..*")) - set(kept_steps):
            _remove(run_dir, old)
    except (tf.errors.OpError, OSError) as error:
        raise OSError(
            f"the checkpoint of step {step} cannot be written to {folder} ({reason_of(error)}); last whole one: "
            f"{last}. Make room and run the same command again."
        ) from None
    return path


def restore(run_dir: str, parts: Parts) -> int | None:
    """Fills every variable from the newest checkpoint that is whole; returns its step, or None where there is none yet.

    Says in one line which damaged ones it passed over. Raises: ValueError where all are damaged, or the checkpoint is
    one of other networks.
    """
    existing = steps(run_dir)
    return _newest_whole(run_dir, parts, existing, others_allowed=False) if existing else None


def restore_parts(run_dir: str, parts: Parts, step: int | None = None) -> int:
    """As `restore`, of these parts alone, such as the generator's; of `step`, where given, and no other.

    Raises: FileNotFoundError where there is no such checkpoint; ValueError as `restore`.
    """
    latest_checkpoint(run_dir)
    existing = steps(run_dir)
    if step is None:
        return _newest_whole(run_dir, parts, existing, others_allowed=True)
    if step not in existing:
        raise FileNotFoundError(
            f"{run_dir!r} has no checkpoint of step {step}; it has those of {', '.join(map(str, existing))}."
        )
    try:
        _fill(path_of(run_dir, step), parts, others_allowed=True)
    except PASSING:
        raise
    except DAMAGE as error:
        raise ValueError(f"{path_of(run_dir, step)} is damaged ({type(error).__name__}); take another step.") from None
    return step


def _newest_whole(run_dir: str, parts: Parts, existing: list[int], others_allowed: bool) -> int:
    for step in steps(run_dir, r"\..*"):
        if step > existing[-1]:
            print(f"{path_of(run_dir, step)} has no .index, so it is not whole; going back to step {existing[-1]}")
    reason = ""
    existing = existing[-MOST_DAMAGED:]
    for step, before in zip(reversed(existing), [*reversed(existing[:-1]), None], strict=True):
        path = path_of(run_dir, step)
        try:
            _fill(path, parts, others_allowed)
        except PASSING:
            raise
        except DAMAGE as error:
            # A training that runs has put a newer one in place of this one.
            if steps(run_dir)[-MOST_DAMAGED:] not in ([], existing):
                return _newest_whole(run_dir, parts, steps(run_dir), others_allowed)
            reason = f"{path} is damaged ({type(error).__name__})"
            if before is not None:
                print(f"{reason}; going back to step {before}")
        else:
            return step
    raise ValueError(f"{reason}, and no other is left: put back a copy of it, or start again in another --run_dir.")


def _fill(path: str, parts: Parts, others_allowed: bool) -> None:
    """Assigns every variable its value in the file, whose checksums TensorFlow compares as it reads.

    A float32 variable takes float16 too, which `export.pack` writes; every other type must be the variable's own.
    """
    with _reader(path) as reader:
        shapes, dtypes = reader.get_variable_to_shape_map(), reader.get_variable_to_dtype_map()
        wanted = {f"{part}/v/{i:04d}{VALUE}": v for part, variables in parts.items() for i, v in enumerate(variables)}
        own_parts = {name.split("/v/")[0] for name in wanted}
        differing = [
            f"{_describe(name)} is {shapes.get(name, 'missing')} there, {list(variable.shape)} now"
            for name, variable in wanted.items()
            if shapes.get(name) != list(variable.shape)
        ]
        differing += [
            f"{_describe(name)} is {dtypes[name].name} there, {variable.dtype.name} now"
            for name, variable in wanted.items()
            if name in dtypes and dtypes[name] != variable.dtype and (dtypes[name], variable.dtype) != HALF
        ]
        for name in sorted(shapes):
            part = name.split("/v/")[0]
            if "/v/" in name and name not in wanted and (part in own_parts or not others_allowed):
                differing.append(f"{_describe(name)} is {shapes[name]} there, missing now")
        if differing:
            raise ValueError(
                f"{path} holds other networks, or those of another version ({'; '.join(differing[:2])}"
                f"{'; ...' if differing[2:] else ''}): choose another --run_dir, or give the flags it was trained with."
            )
        values = [reader.get_tensor(name) for name in wanted]
    broken = [name for name, value in zip(wanted, values, strict=True)
              if value.dtype.kind == "f" and not np.isfinite(value).all()]  # fmt: skip
    if broken:
        raise ValueError(f"{path} holds values that are not finite ({_describe(broken[0])}): copy it again.")
    for variable, value in zip(wanted.values(), values, strict=True):
        variable.assign(value.astype(variable.dtype.as_numpy_dtype) if value.dtype == np.float16 else value)


@contextlib.contextmanager
def _reader(path: str) -> Iterator[Any]:
    """TensorFlow's reader of a checkpoint. Raises: ValueError where one of its files is none, such as a pipe."""
    for name in glob.glob(glob.escape(path) + ".*"):
        require_regular(name)
    with contextlib.ExitStack() as stack:
        if re.search(r"\[.*\]|\\", path):  # TensorFlow takes such a name for a pattern, which matches other names
            folder = os.path.join(stack.enter_context(tempfile.TemporaryDirectory()), FOLDER)
            os.symlink(os.path.dirname(os.path.abspath(path)), folder)
            yield tf.train.load_checkpoint(os.path.join(folder, os.path.basename(path)))
        else:
            yield tf.train.load_checkpoint(path)


def _describe(name: str) -> str:
    part, i = name.removesuffix(VALUE).split("/v/")
    return f"{part} variable {int(i)}"


def _remove(run_dir: str, step: int) -> None:
    """Deletes a checkpoint, the .index first: without it the rest counts for nothing."""
    folder = os.path.join(run_dir, FOLDER)
    names = [name for name in os.listdir(folder) if name.startswith(f"ckpt-{step}.")]
    for name in sorted(names, key=lambda name: not name.endswith(".index")):
        os.unlink(os.path.join(folder, name))
