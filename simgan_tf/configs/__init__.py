"""Presets, flags and config.json of every method; starts no TensorFlow.

base.py has the fields that all trainings share. Each method has one file with its own fields, `Config`, and its
presets, `PRESETS`.
"""

import dataclasses
import importlib
import json
import os
import sys
import typing
from collections.abc import Sequence
from typing import Any

from absl import flags

from simgan_tf.configs.base import Base
from simgan_tf.methods import METHODS
from simgan_tf.system import files

PRESET_HELP = (
    "Configuration to start from; every flag below changes one number of it. 'paper' marks the paper's values; A1, A2 "
    "... are its open points, see docs/ambiguities.md. Each method has flags of its own: --preset=NAME --help. "
    "ccgan_... is a reconstruction: neither code nor text of CCGAN was at hand."
)


def module_of(method: str) -> Any:
    """The module with Config and PRESETS of a method."""
    return importlib.import_module(METHODS[method][0])


def presets() -> dict[str, Base]:
    """Every preset of every method, by name."""
    return {name: preset for method in METHODS for name, preset in module_of(method).PRESETS.items()}


def differences(config: Base, other: Base) -> dict[str, tuple[Any, Any]]:
    """Fields of `config` whose values differ: name -> (in `config`, in `other`); None where `other` has no such field.

    Configurations of two methods also differ in "method".
    """
    names = ["method", *(field.name for field in dataclasses.fields(config))]
    pairs = {name: (getattr(config, name), getattr(other, name, None)) for name in names}
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


def changeable(config: Base) -> set[str]:
    """The fields that a second call of run_train.py may change in a run directory."""
    return {field.name for field in dataclasses.fields(config) if field.metadata["changeable"]}


def define_flags(arguments: Sequence[str] | None = None, **to: flags.FlagValues) -> None:
    """Defines --preset and a flag for each field of that preset's class; None unless typed, so as to override nothing.

    arguments: of the command line, which name the preset; None = those of this process. Where they name none, the
    flags that all methods share.
    """
    known = presets()
    name = _preset_of(sys.argv[1:] if arguments is None else arguments)
    flags.DEFINE_enum("preset", None, sorted(known), PRESET_HELP, required=True, **to)
    for field in dataclasses.fields(known.get(name, Base)):
        described = f"{field.metadata['help']}. Default: {field.default!r}, or the preset's."
        if field.metadata["choices"]:
            flags.DEFINE_enum(field.name, None, field.metadata["choices"], described, **to)
        elif typing.get_origin(field.type) is tuple:
            described = f"{field.metadata['help']}; repeat the flag for several."
            flags.DEFINE_multi_string(field.name, None, described, **to)
        else:
            kinds = {bool: flags.DEFINE_boolean, int: flags.DEFINE_integer, float: flags.DEFINE_float}
            kinds.get(field.type, flags.DEFINE_string)(field.name, None, described, **to)


def _preset_of(arguments: Sequence[str]) -> str:
    """What --preset says, before absl has read anything; "" without one."""
    name = ""
    for argument, following in zip(arguments, [*arguments[1:], ""], strict=False):
        flag, equals, value = argument.partition("=")
        if flag in ("--preset", "-preset"):
            name = value if equals else following
    return name


def from_flags(values: flags.FlagValues) -> Base:
    """The preset named by --preset with every field that was typed on top. Raises: ValueError for a bad value."""
    preset, typed = presets()[values.preset], {}
    for field in dataclasses.fields(preset):
        value = values[field.name].value
        if value is not None:
            typed[field.name] = tuple(value) if isinstance(value, list) else value
    return dataclasses.replace(preset, **typed)


def as_json(config: Base) -> dict[str, Any]:
    """The method's name and every field, as plain JSON values."""
    return {"method": config.method, **dataclasses.asdict(config)}


def save(config: Base, run_dir: str, **facts: Any) -> None:
    """Writes run_dir/config.json: the config, and `facts` (dataset, command) beside it."""
    content = json.dumps({"config": as_json(config), **facts}, indent=2)
    files.write_text(os.path.join(run_dir, "config.json"), content + "\n")


def load(run_dir: str) -> tuple[Base, dict[str, Any]]:
    """The config of a run directory and the facts beside it.

    Raises: FileNotFoundError where no run is; ValueError where config.json is damaged, or has a method or a field that
    this version has not.
    """
    path = os.path.join(run_dir, "config.json")
    if not os.path.isfile(path):
        raise FileNotFoundError(
            f"{run_dir!r} is no run directory: it has no config.json. Train one: python run_train.py "
            f"--preset=simgan_demo --records_dir=... --run_dir={run_dir}"
        )
    try:
        facts = files.read_json(path, "choose another --run_dir")
        values = facts.pop("config")
        method = values.pop("method")
        values["sentences"] = tuple(values["sentences"])
    except (KeyError, TypeError, AttributeError) as error:
        reason = f"it has no {error}" if isinstance(error, KeyError) else "its parts are of other types"
        raise ValueError(f"{path}: not a config of this version ({reason}); choose another --run_dir.") from None
    if not isinstance(method, str) or method not in METHODS:
        raise ValueError(f"{path}: method {str(method)[:80]!r} is not one of {', '.join(map(repr, METHODS))}.")
    kind = module_of(method).Config
    unknown = sorted(set(values) - {field.name for field in dataclasses.fields(kind)})
    if unknown:
        raise ValueError(
            f"{path}: {', '.join(f'{name}={values[name]!r}' for name in unknown)}: no settings of {method} in this "
            "version. docs/ambiguities.md says which value is built in now; take a field out of the file where it has "
            "that value, else use the version that trained the run."
        )
    try:
        return kind(**values), facts
    except ValueError as error:
        raise ValueError(f"{path}: {error} Choose another --run_dir.") from None
