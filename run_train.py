"""Trains a method on built records: flags to Config, records to batches, train(). Calling it again resumes.

python run_train.py --preset=simgan_demo --records_dir=runs/demo/records --run_dir=runs/demo
"""

import contextlib
import dataclasses
import json
import os
import re
import shlex
import sys
import zlib

from absl import flags

from simgan_tf import configs
from simgan_tf.system import commands


def define_flags() -> None:
    """--records_dir, --run_dir, --preset, and one flag a field of Config."""
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
        "init_from", "", "Run directory whose networks a new run starts from; its optimizers and step stay behind."
    )
    flags.DEFINE_boolean("dry_run", False, "Say what the training would be and cost, write nothing, and end.")
    flags.DEFINE_string(
        "profile", "", "FROM:TO, steps to trace into run_dir/tensorboard (pip install tensorboard-plugin-profile)."
    )
    configs.define_flags()
    flags.adopt_module_key_flags(configs)


def text_encoder(run_dir: str, path: str, from_records: bool) -> object | None:
    """The encoder at `path`, or that of run_dir; None where there is neither and the records hold embeddings.

    Raises: FileNotFoundError or ValueError where there is none at all, or run_dir holds another one than `path`.
    """
    from simgan_tf.text import encoders

    own = os.path.join(run_dir, "text_encoder")
    if not path:
        if os.path.exists(own):
            return encoders.load(own)
        if from_records:
            return None
        raise FileNotFoundError(
            f"no {own}: train phi first, python -m simgan_tf.text.train --records_dir=... --run_dir={run_dir}, or take "
            "another run's or a released one: --text_encoder=..."
        )
    encoder = encoders.load(path)
    if os.path.exists(own) and encoders.load(own).fingerprint != encoder.fingerprint:
        raise ValueError(f"{own!r} is another encoder than --text_encoder={path!r}; choose another --run_dir.")
    return encoder


def profiled_steps(text: str) -> tuple[int, int] | None:
    """First and last step of --profile=`text`; None for "". Raises: ValueError where it is no FROM:TO."""
    if not text:
        return None
    found = re.fullmatch(r"(\d+):(\d+)", text)
    if not found or not 1 <= int(found[1]) <= int(found[2]):
        raise ValueError(f"profile={text!r} must be FROM:TO, steps from 1, such as 100:110.")
    return int(found[1]), int(found[2])


def with_precision(config: configs.Config, run_dir: str) -> configs.Config:
    """The config with precision=auto replaced: by that of the run in `run_dir`, else by what this machine gains by."""
    from simgan_tf import strategy

    if config.precision == "auto" and os.path.exists(os.path.join(run_dir, "config.json")):
        return dataclasses.replace(config, precision=configs.load(run_dir)[0].precision)
    return dataclasses.replace(config, precision=strategy.precision(config.precision))


def replicas_of(name: str) -> object:
    """The devices of --strategy=`name`."""
    from simgan_tf import strategy

    return strategy.choose(name)


def main(argv: list[str]) -> None:
    """Trains, or goes on training, and leaves a run directory."""
    values = flags.FLAGS
    config = configs.from_flags(values)  # before TensorFlow starts, so that a wrong flag costs no time
    profile = profiled_steps(values.profile)

    replicas = commands.start_tensorflow(lambda: replicas_of("none" if values.dry_run else values.strategy))
    replicas.require_shares(config.batch_size, config.xla)
    config = with_precision(config, values.run_dir)
    import keras
    import tensorflow as tf
    from PIL import Image

    from data import pipeline, records
    from simgan_tf import checkpoints, estimate, training
    from simgan_tf.evaluation import figures
    from simgan_tf.methods import METHODS
    from simgan_tf.text.recorded import Recorded, require_same

    info = records.read_info(values.records_dir)
    encoder = text_encoder(values.run_dir, values.text_encoder, from_records=bool(info["embeddings"]))
    split = pipeline.load_split(values.records_dir, "train")
    if len(split) < config.batch_size:
        raise ValueError(f"batch_size={config.batch_size} is above the {len(split)} training pictures; lower it.")
    test = pipeline.load_split(values.records_dir, "test")
    captions = [caption for of_picture in split.captions for caption in of_picture]
    if encoder is None:
        encoder = Recorded(info, [split, test])
        embeddings, tokens = split.embeddings, None
        sentences = [captions[0] for captions in test.spread(len(config.sentences)).captions]
        print(f"no text encoder: training on the {encoder.dim}-dimensional embeddings of the records ({encoder.name})")
    else:
        if info["embeddings"]:
            require_same(encoder, info, split)
        embeddings = split.embeddings if info["embeddings"] else encoder.encode(captions)
        tokens, sentences = encoder.tokens(captions), list(config.sentences)

    def batches(step: int) -> tf.data.Dataset:
        return pipeline.training_batches(
            split,
            embeddings,
            tokens,
            image_size=config.image_size,
            load_size=config.load_size,
            batch_size=config.batch_size,
            seed=config.seed,
            start_step=step,
            flip=config.flip,
            rotate_degrees=config.rotate_degrees,
            captions_averaged=config.captions_averaged,
        )

    facts = {name: info[name] for name in ("dataset", "fingerprint", "splits")}
    init_from = os.path.abspath(values.init_from) if values.init_from else ""
    training.require_own(values.run_dir, config, facts, encoder.fingerprint, init_from)
    own = zlib.crc32(json.dumps(dataclasses.asdict(config)).encode())
    replicas.require_same(
        f"configuration {own:08x}, records {info['fingerprint']}, text encoder {encoder.fingerprint}, "
        f"init_from {init_from!r}"
    )

    keras.utils.set_random_seed(config.seed)  # initial weights
    with replicas.scope():
        method = METHODS[config.method](config, encoder.dim, len(split) // config.batch_size)
        done = (checkpoints.steps(values.run_dir) or [0])[-1]
        if init_from and not done:  # else this run has weights of its own
            started = training.start_from(init_from, method)
            print(f"networks of {init_from} at step {started}")
            if configs.load(init_from)[1].get("text_encoder") != encoder.fingerprint:
                print("its text encoder was another one: G has to learn the sentences anew")
    steps = training.total_steps(config, len(split))
    if values.dry_run:
        print(estimate.report(method, config, values.preset, batches(done), len(split), steps, done))
        return

    # The sheet shows test pictures at even distances in key order, never picked.
    shown = test.spread(6)
    sources = pipeline.evaluation_images(shown, config.image_size, config.load_size)

    def draw_sheet() -> Image.Image:
        return figures.edits(method, encoder, sources, [captions[0] for captions in shown.captions], sentences)

    # Last, so that nothing that is refused above leaves its mark on the directory.
    command = shlex.join(["python", os.path.basename(sys.argv[0]), *sys.argv[1:]])
    with training.entered(values.run_dir) if replicas.chief else contextlib.nullcontext():
        if replicas.chief:
            training.claim(values.run_dir, config, facts, encoder.fingerprint, command, init_from)
            if values.text_encoder:
                encoder.save(os.path.join(values.run_dir, "text_encoder"))
        reached = training.train(
            method, batches, config, values.run_dir, len(split), draw_sheet, replicas=replicas, profile=profile
        )
    if reached < steps:
        sys.exit(130)  # interrupted: what follows a finished training must not run


if __name__ == "__main__":
    commands.run(main, define_flags)
