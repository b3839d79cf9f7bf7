"""Trains a method on built records. Calling it again goes on from the last checkpoint.

python run_train.py --preset=simgan_demo --records_dir=runs/demo/records --run_dir=runs/demo
"""

import re
import sys

from absl import flags

from simgan_tf import configs, session
from simgan_tf.system import commands


def define_flags() -> None:
    """--records_dir, --run_dir, --preset, and one flag a field of the preset's configuration."""
    flags.DEFINE_string("records_dir", None, "Folder that data.build wrote.", required=True)
    flags.DEFINE_string(
        "run_dir", None, "Folder of this run; holds text_encoder/ from simgan_tf.text.train.", required=True
    )
    flags.DEFINE_string(
        "text_encoder",
        "",
        "Encoder to copy into run_dir: another run's text_encoder/, a Kiros NAME.npz or a char-CNN-RNN .t7. Default: "
        "the one in run_dir; without one, the embeddings that the records hold.",
    )
    flags.DEFINE_enum(
        "strategy",
        "auto",
        ["auto", "none", "mirrored", "multi_worker"],
        "Devices to train on: none = one; mirrored = all GPUs of this machine; multi_worker = the machines that the "
        "variable TF_CONFIG names, each running this same command on a shared run_dir. auto takes what there is.",
    )
    flags.DEFINE_string(
        "init_from",
        "",
        "Run directory whose networks a new run starts from, one of simgan_tf/pretrained too; its optimizers and step "
        "stay behind.",
    )
    flags.DEFINE_boolean("dry_run", False, "Say what the training would be and cost, write nothing, and end.")
    flags.DEFINE_string(
        "profile", "", "FROM:TO, steps to trace into run_dir/tensorboard (pip install tensorboard-plugin-profile)."
    )
    configs.define_flags()
    flags.adopt_module_key_flags(configs)


def profiled_steps(text: str) -> tuple[int, int] | None:
    """First and last step of --profile=`text`; None for "". Raises: ValueError where it is no FROM:TO."""
    if not text:
        return None
    parts = re.fullmatch(r"(\d+):(\d+)", text)
    if not parts or not 1 <= int(parts[1]) <= int(parts[2]):
        raise ValueError(f"profile={text!r} must be FROM:TO, steps from 1, such as 100:110.")
    return int(parts[1]), int(parts[2])


def main(argv: list[str]) -> None:
    """Trains, or goes on training, and leaves a run directory."""
    values = flags.FLAGS
    finished = session.train(
        configs.from_flags(values),
        values.records_dir,
        values.run_dir,
        preset=values.preset,
        text_encoder=values.text_encoder,
        strategy=values.strategy,
        init_from=values.init_from,
        dry_run=values.dry_run,
        profile=profiled_steps(values.profile),
        command=commands.typed(),
    )
    if not finished:
        sys.exit(130)  # interrupted: what follows a finished training must not run
    if not values.dry_run:
        print(f"wrote {values.run_dir}")
        following = f"python -m simgan_tf.edit --run_dir={values.run_dir} --image=PHOTO --text='...' --out=edit.png"
        print(f"next: {commands.as_typed(following)}")


def command() -> None:
    commands.run(main, define_flags)


if __name__ == "__main__":
    command()
