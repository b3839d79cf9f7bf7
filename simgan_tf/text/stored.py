"""The folder that a text encoder is kept in: encoder.json with its settings, vocabulary.txt, weights.npz.
Each kind of encoder says which settings and arrays it needs."""

import hashlib
import json
import os
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import tensorflow as tf

from data.readers import arrays, sandbox
from simgan_tf.system import files

FORMAT_VERSION = 1
LIMITS = {  # of the settings, by name: types, smallest and largest value
    "kind": ((str,), "", ""),
    "dim": ((int,), 1, 2**16),
    "word_dim": ((int,), 1, 2**16),
    "length": ((int,), 1, 2**12),
    "phi_scale": ((float, int), 1e-6, 1e6),
    "vocabulary_size": ((int,), 0, 2**24),
}
FACTS, VOCABULARY, WEIGHTS = "encoder.json", "vocabulary.txt", "weights.npz"


def write(directory: str, facts: dict, weights: Mapping[str, np.ndarray], vocabulary: object | None = None) -> None:
    """Writes the folder, complete or not at all; one that was there is replaced as a whole.

    facts: plain JSON values, `kind` among them. weights: arrays by name. vocabulary: has `save(path)`; None = no file.
    """
    with files.replacing_folder(directory) as folder:
        if vocabulary is not None:
            vocabulary.save(os.path.join(folder, VOCABULARY))
        np.savez(os.path.join(folder, WEIGHTS), **weights)
        facts = {"format_version": FORMAT_VERSION, **facts}
        files.write_text(os.path.join(folder, FACTS), json.dumps(facts, indent=2) + "\n")


def check_complete(directory: str, names: Iterable[str]) -> None:
    """Raises: FileNotFoundError naming the first of the files `names` that is missing; says how to make it."""
    for name in names:
        if not os.path.isfile(os.path.join(directory, name)):
            raise FileNotFoundError(
                f"no {name} in {directory}; train the text encoder: "
                f"python -m simgan_tf.text.train --records_dir=... --run_dir={os.path.dirname(directory) or '.'}"
            )


def read_facts(directory: str, keys: Sequence[str] = (), kind: str | None = None) -> dict:
    """The settings; `kind` is "vse" where the folder was written before there were kinds.

    kind: the one expected, None = any. keys: settings that must be there.
    Raises: FileNotFoundError; ValueError for no JSON, another format or kind, or a setting that is not there.
    """
    check_complete(directory, [FACTS])
    path = os.path.join(directory, FACTS)
    facts = files.read_json(path, "copy the folder again or train anew")
    if not isinstance(facts, dict) or facts.get("format_version") != FORMAT_VERSION:
        version = facts.get("format_version") if isinstance(facts, dict) else None
        raise ValueError(f"{path} has format_version {version}, this code reads {FORMAT_VERSION}; train anew")
    facts = {"kind": "vse", **facts}
    if kind not in (None, facts["kind"]):
        raise ValueError(f"{path} is of kind {facts['kind']!r}, not {kind!r}; simgan_tf.text.encoders.load reads any")
    for key in keys:
        if key not in facts:
            raise ValueError(f"{path} lacks {key!r}; copy the folder again or train anew")
    for key, (kinds, least, most) in LIMITS.items():
        value = facts.get(key, least)
        if type(value) not in kinds or not (kinds == (str,) or least <= value <= most):
            raise ValueError(f"{path} has {key}={str(value)[:80]}, not {kinds[0].__name__} from {least} to {most}; "
                             "copy the folder again or train anew")  # fmt: skip
    colours = facts.get("colours") or {}
    if not isinstance(colours, dict) or not all(
        share is None or type(share) in (int, float) and 0 <= share <= 1 for share in colours.values()
    ):
        raise ValueError(f"{path} has colours={str(colours)[:80]!r}, not a share of the captions each; "
                         "copy the folder again or train anew")  # fmt: skip
    return facts


def check_size(directory: str, vocabulary: Sequence, facts: dict) -> None:
    """Raises: ValueError where vocabulary.txt has not the `vocabulary_size` of encoder.json."""
    if len(vocabulary) != facts["vocabulary_size"]:
        raise ValueError(
            f"{directory}/{VOCABULARY} has {len(vocabulary)} entries, {FACTS} says {facts['vocabulary_size']}; "
            "the files are not from one training, copy the whole folder again"
        )


def read_weights(directory: str, names: Sequence[str]) -> dict[str, np.ndarray]:
    """The arrays `names`; float16 ones, of `export.pack`, as float32.

    Raises: ValueError for a damaged or other file.
    """
    path = os.path.join(directory, WEIGHTS)
    try:
        found = dict(sandbox.read(arrays.load_npz, path, list(names)))
        missing = [name for name in names if name not in found]
        if missing:
            raise ValueError(f"{path}: {missing[0]!r} is missing, expected {', '.join(names)}")
        broken = [name for name, value in found.items() if value.dtype.kind == "f" and not np.isfinite(value).all()]
        if broken:
            raise ValueError(f"{path}: {broken[0]!r} has values that are not finite")
    except ValueError as error:
        raise ValueError(f"{error}; copy the folder again or train anew") from error
    return {name: a.astype(np.float32) if a.dtype == np.float16 else a for name, a in found.items()}


def restore(directory: str, variables: Mapping[str, tf.Variable]) -> None:
    """Assigns the arrays of weights.npz to `variables`, by name. Raises: ValueError where one does not fit."""
    for name, value in read_weights(directory, list(variables)).items():
        variable = variables[name]
        if value.shape != tuple(variable.shape) or value.dtype != np.float32:
            raise ValueError(
                f"{os.path.join(directory, WEIGHTS)}: {name} is {value.dtype} {list(value.shape)}, {FACTS} expects "
                f"float32 {variable.shape.as_list()}; the files are not from one training, copy the whole folder again"
            )
        variable.assign(value)


def fingerprint(settings: tuple, variables: Iterable[tf.Variable]) -> str:
    """sha256 of the settings and values that decide what an encoder gives."""
    digest = hashlib.sha256(repr(settings).encode())
    for variable in variables:
        digest.update(variable.numpy().tobytes())
    return digest.hexdigest()
