"""The table of several systems: a row a number, a column a system, and which systems differ on the same pictures."""

import itertools
import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from simgan_tf.evaluation import protocol
from simgan_tf.evaluation.lineup import grid
from simgan_tf.evaluation.measure import meaning
from simgan_tf.system import commands, files

# What all systems of a table must have been asked alike.
SAME = ("split", "pictures", "samples", "seed", "dataset")


def of_runs(run_dirs: Sequence[str], stem: str) -> str:
    """The page of runs that were measured, of their STEM.json and STEM-pictures.csv.

    Raises: FileNotFoundError where one was not measured; ValueError where they were not asked the same.
    """
    names = [os.path.basename(os.path.normpath(run_dir)) for run_dir in run_dirs]
    if len(set(names)) < len(names):
        names = list(run_dirs)
    names = [commands.escaped(name).replace("|", "/") for name in names]  # they become cells
    systems = []
    for name, run_dir in zip(names, run_dirs, strict=True):
        path = os.path.join(run_dir, f"{stem}.json")
        if not os.path.isfile(path):
            raise FileNotFoundError(
                f"no {path}: measure that run first, python -m simgan_tf.evaluation --run_dir={run_dir}"
            )
        found = files.read_json(path, "run the evaluation again")
        if not _sound(found):
            raise ValueError(f"{path} is none of an evaluation of this version; run it again.")
        for key in SAME:
            if systems and found[key] != systems[0][key]:
                raise ValueError(
                    f"{run_dir} was measured with {key}={found[key]}, {run_dirs[0]} with {systems[0][key]}: measure "
                    "both alike."
                )
        keys, values = protocol.read_values(os.path.join(run_dir, f"{stem}-pictures.csv"))
        if systems and keys != systems[0]["keys"]:
            raise ValueError(f"{run_dir} was measured on other pictures than {run_dirs[0]}: measure both alike.")
        size = found["config"]["image_size"]
        systems.append(found | {"name": name, "image_size": size, "keys": keys, "values": values})
    first = systems[0]
    head = [
        f"{first['pictures']} pictures of the {first['split']} split of {first['dataset']['dataset']}, "
        f"{first['samples']} edits with noise each, seed {first['seed']}; the same pictures and sentences for every "
        "system. Each system edits at its own size.",
        "",
    ]
    return "\n".join([*head, *rows(systems), "", *comparisons_of(compared(systems))]) + "\n"


def _sound(found: Any) -> bool:
    """Whether a results file that may be a stranger's has what a table takes, each of its kind."""
    kinds = {"method": str, "step": int, "split": str, "pictures": int, "samples": int, "seed": int, "dataset": dict,
             "config": dict, "intervals": dict}  # fmt: skip
    if not isinstance(found, dict) or any(type(found.get(key)) is not kind for key, kind in kinds.items()):
        return False
    bounds = [each for each in found["intervals"].values() if isinstance(each, list) and len(each) == 2]
    numbers = [found[name] for name in filter(meaning, found)] + [value for each in bounds for value in each]
    whole = len(bounds) == len(found["intervals"]) and type(found["config"].get("image_size")) is int
    return whole and "dataset" in found["dataset"] and all(type(number) in (int, float) for number in numbers)


def rows(systems: Sequence[dict[str, Any]]) -> list[str]:
    """Markdown: a row a number, in the order of the first system that has it, and what the numbers mean.

    systems: `numbers` of each with name, method, image_size and step. Behind a mean stands its interval.
    """
    names = list(dict.fromkeys(name for system in systems for name in system if meaning(name)))
    cells = [
        ["method", *(system["method"] for system in systems)],
        ["size", *(str(system["image_size"]) for system in systems)],
        ["step", *(f"{system['step']:,}" for system in systems)],
        *([name, *(cell(system, name) for system in systems)] for name in names),
    ]
    return [
        *grid(["", *(system["name"] for system in systems)], cells), "",
        "In brackets: 95 % of the means of as many pictures drawn again with repetition. It says how far other "
        "pictures of these classes would move a number, nothing of a second training.", "",
        *(f"- {name}: {meaning(name)}" for name in names),
    ]  # fmt: skip


def cell(system: dict[str, Any], name: str) -> str:
    """A number and its interval; "-" where a system has none."""
    if name not in system:
        return "-"
    bounds = system.get("intervals", {}).get(name)
    return f"{system[name]:.3f}" + (f" [{bounds[0]:.3f}, {bounds[1]:.3f}]" if bounds else "")


def compared(systems: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """`protocol.paired` of every two systems by every number that both have of every picture.

    systems: as of `rows`, with values: {name: [N]} of the same pictures. Fewer than six pictures make no comparison.
    """
    found = []
    for first, second in itertools.combinations(systems, 2):
        for name, column in first["values"].items():
            other = second["values"].get(name)
            if other is not None and meaning(name) and np.sum(~np.isnan(other - column)) >= 6:
                told = {"number": name, "first": first["name"], "second": second["name"]}
                found.append(told | protocol.paired(column, other))
    return found


def comparisons_of(found: Sequence[dict[str, Any]]) -> list[str]:
    """Markdown of what `compared` found."""
    if not found:
        return []
    cells = []
    for each in found:
        low, high = each["interval"]
        p = f"{each['p']:.3f}" if each["p"] >= 0.001 else "< 0.001"
        difference = f"{each['difference']:+.3f} [{low:+.3f}, {high:+.3f}]"
        cells.append([each["number"], each["first"], each["second"], str(each["n"]), difference, p])
    return [
        "Two systems on the same pictures: second less first, its 95 % interval, and p of Wilcoxon's signed rank test, "
        f"each for itself; of these {len(found)} comparisons {len(found) / 20:.1f} would be below 0.05 by chance.", "",
        *grid(["number", "first", "second", "n", "difference", "p"], cells),
    ]  # fmt: skip
