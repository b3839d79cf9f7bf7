"""Holds several trained systems side by side: one figure and one table, of the same pictures and sentences for all.

python -m simgan_tf.compare --run_dirs=runs/sisgan,runs/tagan,runs/simgan --out=runs/compared

Writes to --out: figure.png (a row a picture and sentence, a column a system, as the paper's figure 3), table.md, and
results.json with every number, pair and command.
"""

import json
import os
import time
from typing import Any

from absl import flags

from simgan_tf.evaluation import lineup
from simgan_tf.system import commands, files


def define_flags() -> None:
    lineup.define_flags()
    flags.DEFINE_string("out", None, "Folder for figure.png, table.md and results.json.", required=True)
    flags.DEFINE_integer("rows", 8, "Rows of the figure: pictures at even distances in key order.", lower_bound=1)
    flags.DEFINE_integer(
        "limit", 120, "Pictures of the table, at even distances in key order; 0 = all, -1 = no table.", lower_bound=-1
    )
    flags.DEFINE_integer("samples", 3, "Edits with noise of each (picture, sentence) of the table.", lower_bound=2)
    flags.DEFINE_integer("seed", 0, "Seed of the table's noise.", lower_bound=0)
    flags.DEFINE_boolean(
        "outlines", False, "Also judge photographs by outlines, see simgan_tf.evaluation.objects; about twice the time."
    )


OUTLINED = ("agreement", "agreement_mean", "spill", "background_kept")  # of objects.measure


def main(argv: list[str]) -> None:
    values, began = flags.FLAGS, time.monotonic()
    if os.path.exists(values.out) and not os.path.isdir(values.out):
        raise ValueError(f"--out={values.out} is a file; give a folder.")
    systems_of = lineup.of_flags(values, values.rows)
    import numpy as np

    from simgan_tf.edit import Editor
    from simgan_tf.evaluation import __main__ as evaluation
    from simgan_tf.evaluation import colours, figures, judges, objects, protocol, table
    from simgan_tf.evaluation.measure import numbers
    from simgan_tf.system.pictures import save_image

    info, shown, sentences, frame = systems_of.info, systems_of.shown, systems_of.sentences, systems_of.frame
    names, pairs, found_judges, inception = systems_of.names, None, [], None
    if values.limit >= 0:
        pairs = protocol.load(systems_of.records_dir, values.split, systems_of.split)
        pairs = pairs.spread(values.limit) if values.limit else pairs
        found_judges, inception = judges.load(systems_of.records_dir, [], "", "")
        for run_dir, (_, facts) in zip(systems_of.run_dirs, systems_of.loaded, strict=True):
            for judge in found_judges:
                judge.require_other(facts.get("text_encoder", ""), run_dir)
    kind = colours.choose("auto", info["dataset"], bool(systems_of.split.masked.all()))

    columns, systems = [systems_of.images(systems_of.largest)], []
    runs = zip(names, systems_of.run_dirs, systems_of.loaded, strict=True)
    for i, (name, run_dir, (config, facts)) in enumerate(runs, 1):
        print(f"{i} of {len(names)}: {name}, {config.method} at {config.image_size}x{config.image_size}")
        editor, size, load_size = Editor(run_dir), config.image_size, round(config.image_size * frame)
        columns.append(figures.one_each(editor, systems_of.images(size), sentences))
        system: dict[str, Any] = {
            "name": name, "method": config.method, "run_dir": run_dir, "step": editor.step, "image_size": size,
            "trained_on_these_records": facts.get("dataset", {}).get("fingerprint") == info["fingerprint"],
        }  # fmt: skip
        if pairs:
            exact = np.ones(len(pairs), bool)
            found, of_pictures = numbers(
                editor, pairs, kind, exact, values.samples, values.seed, load_size, found_judges, inception
            )
            system |= found | {"values": of_pictures}
            if values.outlines and kind:
                system["outlines"] = objects.measure(editor, pairs.split, kind, values.seed)
        systems.append(system)

    results = {
        "split": values.split,
        "pictures": len(pairs) if pairs else 0,
        "samples": values.samples,
        "seed": values.seed,
        "frame": f"the middle {1 / frame:.3f} of a picture's shorter side, for every system",
        "figure": [list(pair) for pair in zip(shown.keys, sentences, strict=True)],
        "systems": [{key: each[key] for key in each if key != "values"} for each in systems],
        "compared": table.compared(systems) if pairs else [],
        "dataset": {name: info[name] for name in ("dataset", "fingerprint")},
        "hardware": evaluation.hardware(),
        "commit": evaluation.commit(),
        "seconds": round(time.monotonic() - began),
        "command": commands.escaped(commands.typed("simgan_tf.compare")),
    }
    titles = ["source", *(f"{each['name']} {each['image_size']}x{each['image_size']}" for each in systems)]
    sheet = figures.compared(columns, titles, sentences)
    os.makedirs(values.out, exist_ok=True)
    save_image(sheet, os.path.join(values.out, "figure.png"))
    page = as_table(results, systems)
    files.write_text(os.path.join(values.out, "table.md"), page)
    files.write_text(os.path.join(values.out, "results.json"), json.dumps(results, indent=2, allow_nan=False) + "\n")
    print(page)
    print(f"wrote figure.png, table.md and results.json to {values.out}")


def as_table(results: dict[str, Any], systems: list[dict[str, Any]]) -> str:
    """A Markdown page: how the systems were shown and measured, a row a number, and what differs.

    results: as written. systems: those of it, with the numbers of every picture.
    """
    from simgan_tf.evaluation import table
    from simgan_tf.evaluation.objects import MEANING as OUTLINE_MEANING

    outlined = [name for name in OUTLINED if any(name in system.get("outlines", {}) for system in systems)]
    lines = [
        f"{results['pictures']} pictures of the {results['split']} split of {results['dataset']['dataset']} at even "
        f"distances in key order, {results['samples']} edits with noise each, seed {results['seed']}; the same "
        "pictures and sentences for every system.",
        f"Each system edits at its own size the same part of a picture: {results['frame']}. In the figure smaller "
        "systems are enlarged by their nearest pixels to the largest one's size, the source is shown at that size; "
        "edits there are by the code's mean. Distances are between pictures of the system's own size.",
        "",
        *table.rows(systems),
    ]
    if outlined:
        cells = [[name, *(table.cell(system.get("outlines", {}), name) for system in systems)] for name in outlined]
        lines += ["", *lineup.grid(["by outlines", *(system["name"] for system in systems)], cells)]
        lines += ["", *(f"- {name} by outlines: {OUTLINE_MEANING[name]}" for name in outlined)]
    others = [system["name"] for system in systems if not system["trained_on_these_records"]]
    if others:
        lines.append(
            f"- {', '.join(others)}: trained on other records than these, so that pictures it has learnt from may be "
            "among them."
        )
    lines += ["", *table.comparisons_of(results["compared"])]
    lines += ["", "```sh", results["command"], "```"]
    return "\n".join(lines) + "\n"


def command() -> None:
    commands.run(main, define_flags)


if __name__ == "__main__":
    command()
