"""One training, assembled: records, text encoder, devices and method; then the loop, or what it would cost.
What can be checked without TensorFlow is checked before it starts."""

import contextlib
import dataclasses
import json
import os
import pkgutil
import tempfile
import zlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from simgan_tf import configs
from simgan_tf.configs.base import Base
from simgan_tf.system import commands

if TYPE_CHECKING:
    from data import splits
    from simgan_tf.text.encoders import TextEncoder
    from simgan_tf.text.phi_files import Rows


def require_names(records_dir: str, run_dir: str, text_encoder: str = "", init_from: str = "") -> None:
    """Raises: FileNotFoundError or ValueError for a folder that is missing or no run, in well under a second."""
    from data import records

    records.read_info(records_dir)
    if text_encoder and not os.path.exists(text_encoder):
        raise FileNotFoundError(
            f"no --text_encoder={text_encoder}: give a run directory with text_encoder/, or a released .npz or .t7"
        )
    if os.path.exists(os.path.join(run_dir, "config.json")):
        configs.load(run_dir)
    if init_from:
        configs.load(init_from)


def train(
    config: Base,
    records_dir: str,
    run_dir: str,
    *,
    preset: str,
    text_encoder: str = "",
    strategy: str = "auto",
    init_from: str = "",
    dry_run: bool = False,
    profile: tuple[int, int] | None = None,
    command: str = "",
) -> bool:
    """Trains, or goes on training, and leaves a run directory; whether it was trained to its end.

    preset: name of the one that `config` started from, for the report of dry_run, which writes nothing. text_encoder:
    to copy into run_dir; "" = the one there, or the embeddings of the records. strategy: of `strategy.choose`.
    init_from: a run whose networks a new one starts from. profile: first and last step to trace. command: for
    config.json.
    Raises: ValueError, FileNotFoundError, OSError in one line, before anything is written.
    """
    require_names(records_dir, run_dir, text_encoder, init_from)
    replicas = commands.start_tensorflow(
        lambda: pkgutil.resolve_name("simgan_tf.strategy:choose")("none" if dry_run else strategy)
    )
    replicas.require_shares(config.batch_size, config.xla)
    config = with_precision(config, run_dir)
    import keras
    import tensorflow as tf
    from PIL import Image

    from data import pipeline, records, splits
    from simgan_tf import checkpoints, estimate, methods, training
    from simgan_tf.evaluation import figures
    from simgan_tf.text import shown
    from simgan_tf.text.recorded import Recorded, require_same

    info = records.read_info(records_dir)
    encoder = encoder_of(run_dir, text_encoder, from_records=bool(info["embeddings"]))
    split = splits.load_split(records_dir, "train")
    if len(split) < config.batch_size:
        raise ValueError(f"batch_size={config.batch_size} is above the {len(split)} training pictures; lower it.")
    test = splits.load_split(records_dir, "test")
    # The sheet shows test pictures at even distances in key order, never picked.
    spread, recorded = test.spread(6), encoder is None
    if recorded:
        asked = test.spread(len(config.sentences))
        encoder, sentences = Recorded(info, [asked, spread]), [captions[0] for captions in asked.captions]
        print(f"no text encoder: training on the {encoder.dim}-dimensional embeddings of the records ({encoder.name})")
    else:
        if info["embeddings"]:
            require_same(encoder, info, split)
        if info["dataset"] == "folder" and config.sentences == configs.presets()[preset].sentences:
            # The preset's are of flowers or birds. Of any other subject the set's own captions say what can be asked.
            captions = (text for texts in split.captions for text in texts)
            config = dataclasses.replace(config, sentences=shown.drawn(captions, encoder, len(config.sentences)))
            print(f"--sentences not given: the sheets ask for captions of this set, such as {config.sentences[0]!r}")
        sentences = list(config.sentences)
        for text in sentences:
            if unknown := encoder.unknown_words(text):
                print(f"--sentences: the text encoder does not know {', '.join(unknown)} of {text!r}")

    facts = {name: info[name] for name in ("dataset", "fingerprint", "splits")}
    init_from = os.path.abspath(init_from) if init_from else ""
    training.require_same_run(run_dir, config, facts, encoder.fingerprint, init_from)
    digest = zlib.crc32(json.dumps(configs.as_json(config)).encode())
    replicas.require_same(
        f"configuration {digest:08x}, records {info['fingerprint']}, text encoder {encoder.fingerprint}, "
        f"init_from {init_from!r}"
    )

    tokens, embeddings = None, split.embeddings
    if not recorded:
        tokens, vectors = _captions(run_dir, encoder, split, info, replicas, keep=not dry_run)
        embeddings = embeddings if info["embeddings"] else vectors

    def batches(step: int) -> Iterator[dict[str, tf.Tensor]]:
        try:
            yield from pipeline.training_batches(
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
                share=replicas.share(config.batch_size),
            )
        except tf.errors.OpError:
            if split.damage:  # TensorFlow wraps the line in the story of its graph
                raise ValueError(split.damage) from None
            raise

    keras.utils.set_random_seed(config.seed)  # initial weights
    with replicas.scope():
        method = methods.build(config, encoder, len(split) // config.batch_size)
        done = (checkpoints.steps(run_dir) or [0])[-1]
        if init_from and not done:  # else this run has weights of its own
            started = training.start_from(init_from, method)
            print(f"networks of {init_from} at step {started}")
            if configs.load(init_from)[1].get("text_encoder") != encoder.fingerprint:
                print("its text encoder was another one: the sentences have to be learnt anew")
    steps = config.total_steps(len(split))
    if dry_run:
        print(estimate.report(method, configs.presets()[preset], preset, batches(done), len(split), steps, done))
        return True

    sources = pipeline.evaluation_images(spread, config.image_size, config.load_size)

    def draw_sheet() -> Image.Image:
        return figures.edits(method, sources, [captions[0] for captions in spread.captions], sentences)

    # Last, so that a refusal above leaves the directory as it was.
    with training.holding(run_dir) if replicas.chief else contextlib.nullcontext():
        if replicas.chief:
            training.write_config(
                run_dir, config, facts, encoder.fingerprint, init_from,
                records_dir=os.path.abspath(records_dir), command=command,
            )  # fmt: skip
            if text_encoder:
                encoder.save(os.path.join(run_dir, "text_encoder"))
        reached = training.train(
            method, batches, config, run_dir, len(split), draw_sheet, replicas=replicas, profile=profile
        )
    return reached >= steps


def _captions(
    run_dir: str, encoder: "TextEncoder", split: "splits.Split", info: dict[str, Any], replicas: Any, keep: bool
) -> "tuple[Rows, Rows | None]":
    """`phi_files.of_split` the training pictures, beside run_dir, or, without `keep`, in files that end with this
    process. The chief computes, the others find it done."""
    from simgan_tf.text import phi_files

    options = encoder, split, info["splits"]["train"]["fingerprint"], not info["embeddings"]
    if not keep:
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            return phi_files.of_split(folder, *options)
    found = None
    for turn in (True, False):
        if replicas.chief == turn:
            found = phi_files.of_split(f"{run_dir.rstrip(os.sep)}.phi", *options)
        replicas.any(False)
    return found


def encoder_of(run_dir: str, path: str, from_records: bool) -> "TextEncoder | None":
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


def with_precision(config: Base, run_dir: str) -> Base:
    """The config with precision=auto replaced: by that of the run in `run_dir`, else by what this machine gains by."""
    from simgan_tf import strategy

    if config.precision == "auto" and os.path.exists(os.path.join(run_dir, "config.json")):
        return dataclasses.replace(config, precision=configs.load(run_dir)[0].precision)
    return dataclasses.replace(config, precision=strategy.precision(config.precision))
