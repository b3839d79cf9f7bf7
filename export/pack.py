"""Packs a trained run to be shipped: its generator and text encoder alone, large arrays in float16, as a run directory.
The networks that only train go into a file of their own, on demand.

python -m export.pack --run_dir=runs/flowers --out_dir=simgan_tf/pretrained/mine [--for_training]
"""

import contextlib
import glob
import json
import os
import re
import shutil
from typing import TYPE_CHECKING, Any

from absl import flags

from simgan_tf import configs
from simgan_tf.system import commands, files

if TYPE_CHECKING:
    import numpy as np

KEPT = ("README.md", "sheets")  # of the folder that is replaced: the model's card, and pictures that it shows
# Largest and mean |packed - run| of the edits of `parity.cases`, in [-1, 1], whose 8-bit step is 7.8e-3.
LIMITS = (0.05, 0.002)


def define_flags() -> None:
    flags.DEFINE_string("run_dir", None, "Run directory of run_train.py.", required=True)
    flags.DEFINE_string(
        "out_dir", None, f"Folder to write, replaced as a whole but for its {' and '.join(KEPT)}.", required=True
    )
    flags.DEFINE_integer("step", None, "Checkpoint to take; default the newest.", lower_bound=0)
    flags.DEFINE_bool(
        "for_training", False, "Also keep, in training/, the networks that only train, such as a discriminator, where "
        "--init_from finds them, and simgan_tf.evaluation.attention those of TAGAN.",
    )  # fmt: skip


def pack(
    run_dir: str, out_dir: str, step: int | None = None, command: str = "", for_training: bool = False
) -> dict[str, Any]:
    """Writes `out_dir`, whole or not at all, and returns what its config.json says under "packed".

    It is a run directory: config.json, text_encoder/, one checkpoint that holds the part that edits and its step, and
    the run's results*.json of that step. No path of this machine is in it. step: None = the newest whole checkpoint.
    for_training: training/ holds a checkpoint of the networks that only train besides.
    Packed: part (of the checkpoint), stored (how), compared (pictures), max_difference and mean_difference (of their
    edits, |packed - run| in [-1, 1]), command.
    Raises: ValueError, FileNotFoundError as Editor; where out_dir holds something else than a packed model; where a
    value is beyond float16, or the edits differ by more than LIMITS.
    """
    config, facts = configs.load(run_dir)
    if "packed" in facts:
        raise ValueError(f"{run_dir!r} is packed already: copy it.")
    require_replaceable(out_dir)
    from simgan_tf.edit import Editor

    editor = Editor(run_dir, step=step)
    import tensorflow as tf

    from export import parity
    from simgan_tf import checkpoints, methods
    from simgan_tf.text import encoders

    def save(parts: checkpoints.Parts, folder: str) -> None:
        stored = {
            part: [tf.Variable(rounded(variable.numpy(), variable.name)) for variable in variables]
            for part, variables in parts.items()
        }
        checkpoint = checkpoints.checkpoint_of(stored, step=tf.Variable(editor.step, dtype=tf.int64))
        checkpoints.save(folder, checkpoint, editor.step, keep=1)

    part = editor.method.part
    with files.replacing_folder(out_dir) as folder:
        inner = os.path.join(folder, "text_encoder")
        pack_text_encoder(os.path.join(run_dir, "text_encoder"), inner)
        save({part: editor.method.variables()[part]}, folder)
        if for_training:
            others = checkpoints.training_parts(methods.build(editor.config, editor.text_encoder, 1))
            checkpoints.restore_parts(run_dir, others, editor.step)
            save(others, os.path.join(folder, checkpoints.TRAINING))
        facts = {**portable(facts), "text_encoder": encoders.load(inner).fingerprint}
        configs.save(config, folder, **facts)
        inputs = parity.cases(editor)
        error = parity.compare("float16", parity.edits(Editor(folder), inputs), inputs.edited, LIMITS)
        packed = {
            "part": part,
            "stored": "kernels and word vectors in float16, the rest in float32",
            "compared": inputs.pictures,
            "max_difference": round(error["max_error"], 6),
            "mean_difference": round(error["mean_error"], 8),
            "command": portable(command),
        }
        configs.save(config, folder, **facts, packed=packed)
        for path in sorted(glob.glob(os.path.join(glob.escape(run_dir), "results*.json"))):
            of = _read_json(path).get("step")
            if of == editor.step:
                _copy_json(path, os.path.join(folder, os.path.basename(path)))
            else:
                print(f"left out: {os.path.basename(path)}, of step {of}")
        for name in KEPT:
            old = os.path.join(out_dir, name)
            if os.path.isdir(old):
                shutil.copytree(old, os.path.join(folder, name))
            elif os.path.exists(old):
                shutil.copyfile(old, os.path.join(folder, name))
    return packed


def require_replaceable(out_dir: str) -> None:
    """Raises: ValueError where `out_dir` holds something else than a packed model, or what is KEPT of one."""
    if not os.path.lexists(out_dir):
        return
    if os.path.isdir(out_dir):
        if set(os.listdir(out_dir)) <= set(KEPT):
            return
        with contextlib.suppress(OSError, ValueError):  # of an older version too
            if "packed" in _read_json(os.path.join(out_dir, "config.json")):
                return
    raise ValueError(f"{out_dir!r} exists and is no packed model: its config.json does not say so. Choose another "
                     "--out_dir.")  # fmt: skip


def pack_text_encoder(source: str, folder: str) -> None:
    """Copies a text encoder's folder, its large arrays in float16."""
    import numpy as np

    from simgan_tf.text import stored

    shutil.copytree(source, folder)
    _copy_json(os.path.join(source, stored.FACTS), os.path.join(folder, stored.FACTS))
    path = os.path.join(folder, stored.WEIGHTS)
    with np.load(path, allow_pickle=False) as arrays:
        weights = {name: rounded(arrays[name], name) for name in arrays.files}
    np.savez_compressed(path, **weights)


def rounded(value: "np.ndarray", name: str) -> "np.ndarray":
    """A float32 array in float16; as it is where it has one or two rows, or is of another type.

    Biases, scales and moving statistics (those of a GRU have two rows) take little room, and a variance may be beyond
    what float16 holds: 65504 above, eleven bits only from 6e-5 up.
    Raises: ValueError where a value of a larger array is beyond it.
    """
    import numpy as np

    if value.dtype != np.float32 or value.ndim < 2 or value.size <= 2 * value.shape[-1]:
        return value
    highest = float(np.abs(value).max())
    if not highest <= float(np.finfo(np.float16).max):
        raise ValueError(f"{name} has a value of {highest:g}, float16 holds up to 65504; take an earlier --step.")
    return value.astype(np.float16)


def portable(value: Any) -> Any:
    """A JSON value in which every absolute path has become its last name."""
    if isinstance(value, dict):
        return {name: portable(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [portable(inner) for inner in value]
    if isinstance(value, str):
        return re.sub(r"(?<![\w/:.~-])/[^\s'\",=:]+", lambda match: os.path.basename(match[0].rstrip("/")), value)
    return value


def _read_json(path: str) -> Any:
    with open(path, encoding="utf-8") as file:
        return json.load(file)


def _copy_json(source: str, path: str) -> None:
    files.write_text(path, json.dumps(portable(_read_json(source)), indent=2) + "\n")


def main(argv: list[str]) -> None:
    values = flags.FLAGS
    require_replaceable(values.out_dir)  # before TensorFlow starts, so that a wrong folder costs no time
    command = commands.typed("export.pack")
    packed = pack(values.run_dir, values.out_dir, values.step, command, values.for_training)
    bytes_of = files.sizes(values.out_dir)
    for name, size in bytes_of.items():
        print(f"{size / 1e6:9.3f} MB  {name}")
    print(f"{sum(bytes_of.values()) / 1e6:9.3f} MB  in all")
    print(f"edits of {packed['compared']} differ from the run's by up to {packed['max_difference']:.2g}, "
          f"{packed['mean_difference']:.2g} in the mean, of values in [-1, 1]")  # fmt: skip
    if "README.md" not in bytes_of:
        print(f"it has no card yet: write {os.path.join(values.out_dir, 'README.md')}")
    print(f"wrote {values.out_dir}, of {values.run_dir}")


if __name__ == "__main__":
    commands.run(main, define_flags)
