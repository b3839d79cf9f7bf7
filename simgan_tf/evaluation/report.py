"""One HTML file about one run or several, pictures inside: what was trained on what, its numbers, curves and sheets.

python -m simgan_tf.evaluation.report --run_dirs=runs/tagan,runs/simgan --compared=runs/compared --out=report.html

It needs no other file, no network and no script, and the same run directories give the same bytes. What was not
measured or drawn before is not there: run simgan_tf.evaluation --figures, and simgan_tf.compare, first.
"""

import base64
import dataclasses
import glob
import hashlib
import io
import os
from collections.abc import Callable
from typing import Any
from xml.etree import ElementTree

from absl import flags
from PIL import Image

from simgan_tf import configs
from simgan_tf.configs.base import Base
from simgan_tf.evaluation.lineup import names_of
from simgan_tf.system import commands, files

MAX_BYTES = 2**25  # of a picture
STYLE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "report.css")
SHEETS = {  # what `simgan_tf.evaluation --figures` draws
    "teaser": "source, an edit for each sentence, three samples of one sentence, a way from one sentence to another",
    "edits": "source, reconstruction, an edit for each sentence; pictures at even distances, not picked",
    "samples": "several results of one sentence; the first is by the code's mean",
    "interpolation": "from one sentence to another",
    "first32": "the first 32 pictures of the split, not picked",
}
PROTOCOL = ("pictures", "samples", "seed", "split", "step", "seconds", "subjects")  # numbers that are no measurement


def define_flags() -> None:
    flags.DEFINE_list(
        "run_dirs", None, "Run directories, or names of models inside this package, with commas between.", required=True
    )
    flags.DEFINE_list("names", [], "What the systems are called, one a run; default the folders' names.")
    flags.DEFINE_string("compared", None, "Folder that simgan_tf.compare wrote, to show its figure as well.")
    flags.DEFINE_string("out", None, "The HTML file.", required=True)


@dataclasses.dataclass(frozen=True)
class Run:
    """A run directory, read."""

    name: str
    path: str
    config: Base
    facts: dict[str, Any]
    results: dict[str, dict[str, Any]]  # file name -> content


def main(argv: list[str]) -> None:
    from simgan_tf.edit import directory_of

    values = flags.FLAGS
    if not values.out.lower().endswith((".html", ".htm")):
        raise ValueError(f"--out={values.out}: the file's name must end in .html.")
    names = names_of(values.run_dirs, values.names)
    runs = [read(name, directory_of(run_dir)) for name, run_dir in zip(names, values.run_dirs, strict=True)]
    page = page_of(runs, values.compared)
    files.write_text(values.out, page)
    print(f"wrote {values.out}: {len(runs)} runs, {len(page) / 1e6:.1f} MB, everything inside")


def read(name: str, path: str) -> Run:
    """What the run directory says of itself. Raises: ValueError or FileNotFoundError where it is none, or damaged."""
    config, facts = configs.load(path)
    results = {}
    for file in sorted(glob.glob(os.path.join(glob.escape(path), "results*.json"))):
        content = files.read_json(file, "measure again, or take the file out")
        if not isinstance(content, dict):
            raise ValueError(f"{file} holds no results; measure again, or take the file out.")
        results[os.path.basename(file)] = content
    return Run(name, path, config, facts, results)


def page_of(runs: list[Run], compared: str | None = None) -> str:
    """The whole file's text, in ASCII. compared: the folder of simgan_tf.compare, or None.

    Every text goes into an element of a tree, which escapes it where it is written out.
    Raises: ValueError or OSError for a picture that is none.
    """
    with open(STYLE, encoding="utf-8") as file:
        style = file.read()
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = f"default-src 'none'; img-src data:; style-src 'sha256-{digest}'"
    title = ", ".join(f"{run.name} ({run.config.method})" for run in runs)
    head = tag("head", tag("meta", charset="utf-8"),
               tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
               tag("meta", **{"http-equiv": "Content-Security-Policy", "content": policy}),
               tag("title", title), tag("style", style))  # fmt: skip
    body = tag("body", tag("h1", title))
    parts = [("trained", "What was trained on what", trainings(runs)), ("numbers", "Numbers", numbers(runs))]
    if compared is not None:
        parts.append(("compared", "Side by side", side_by_side(compared)))
    parts += [(f"run{i}", run.name, about(run)) for i, run in enumerate(runs, 1)]
    body.append(tag("nav", *(tag("a", words, href=f"#{anchor}") for anchor, words, _ in parts)))
    for anchor, words, children in parts:
        body.append(tag("section", tag("h2", words, id=anchor), *children))
    root = tag("html", head, body, lang="en")
    return "<!doctype html>\n" + ElementTree.tostring(root, encoding="us-ascii", method="html").decode() + "\n"


# ---- the parts


def numbers(runs: list[Run]) -> list[ElementTree.Element]:
    """A table for each results file: the runs that have it side by side, and how they were measured."""
    made = []
    for file in sorted({file for run in runs for file in run.results}, key=lambda file: (file != "results.json", file)):
        having = [run for run in runs if file in run.results]
        columns = [flat(run.results[file]) for run in having]
        made.append(tag("h3", tag("code", file)))
        made.append(table(having, columns, lambda name, file=file: meaning(file, name)))
        made += [measured(run, run.results[file]) for run in having]
    return made or [tag("p", "Nothing was measured yet: python -m simgan_tf.evaluation --run_dir=...")]


def flat(results: dict[str, Any]) -> dict[str, str]:
    """The measurements of a results file as they are shown, with their intervals, and those by colour one by one."""
    intervals = results.get("intervals") if isinstance(results.get("intervals"), dict) else {}
    found = {}
    for name, value in results.items():
        if is_number(value) and name not in PROTOCOL:
            bounds = intervals.get(name)
            told = isinstance(bounds, list) and len(bounds) == 2 and all(map(is_number, bounds))
            found[name] = shown(value) + (f" [{shown(bounds[0])}, {shown(bounds[1])}]" if told else "")
        elif name.startswith("by_") and isinstance(value, dict) and all(map(is_number, value.values())):
            found |= {f"{name}: {part}": shown(number) for part, number in value.items()}
    return found


def is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def shown(number: float) -> str:
    return f"{number:,}" if isinstance(number, int) else f"{number:.4f}"


def meaning(file: str, name: str) -> str:
    """What a number of a results file is, "" for one that is not known here."""
    from simgan_tf.evaluation import measure, objects

    return objects.MEANING.get(name, "") if file.startswith("results-objects") else measure.meaning(name)


def measured(run: Run, results: dict[str, Any]) -> ElementTree.Element:
    """How a run's numbers came about: n, seed, step, commit, hardware, time and the command."""
    told = [f"{name} {shown(value) if is_number(value) else value}"
            for name in ("pictures", "samples", "seed", "split", "step", "commit", "seconds", "hardware")
            if is_number(value := results.get(name)) or isinstance(value, str)]  # fmt: skip
    lines = tag("div", tag("p", tag("b", run.name), ": " + ", ".join(told)))
    if isinstance(results.get("command"), str):
        lines.append(tag("pre", results["command"]))
    return lines


def side_by_side(folder: str) -> list[ElementTree.Element]:
    """The figure of simgan_tf.compare, and its command."""
    remedy = "give the folder that simgan_tf.compare wrote"
    results = files.read_json(os.path.join(folder, "results.json"), remedy)
    if not isinstance(results, dict) or not isinstance(results.get("systems"), list):
        raise ValueError(f"{folder} holds no comparison; {remedy}.")
    words = "source, sentence, and an edit of each system; pictures at even distances unless the command names others"
    return [sheet(os.path.join(folder, "figure.png"), words), tag("pre", str(results.get("command", "")))]


def about(run: Run) -> list[ElementTree.Element]:
    """The curves, the sheets, every setting."""
    made = []
    if os.path.exists(os.path.join(run.path, "metrics.jsonl")):
        made.append(curves(run))
    for file in sorted(glob.glob(os.path.join(glob.escape(run.path), "figures", "*.png")), key=place):
        name = os.path.splitext(os.path.basename(file))[0]
        if name != "curves":  # drawn anew above
            made.append(sheet(file, f"{name}: {SHEETS[name]}" if name in SHEETS else name))
    if samples := sorted(glob.glob(os.path.join(glob.escape(run.path), "samples", "*.png"))):
        name = os.path.splitext(os.path.basename(samples[-1]))[0]
        made.append(sheet(samples[-1], f"sample sheet of the training at step {name.lstrip('0') or 0}"))
    settings = {name: str(value) for name, value in configs.as_json(run.config).items()}
    made.append(tag("details", tag("summary", "every setting"), table([run], [settings])))
    return made


def trainings(runs: list[Run]) -> list[ElementTree.Element]:
    """The runs side by side: method, size, records; below, how each training was started."""
    made = [table(runs, [trained(run) for run in runs])]
    for run in runs:
        if isinstance(run.facts.get("command"), str):
            made += [tag("p", tag("b", run.name)), tag("pre", run.facts["command"])]
    return made


def trained(run: Run) -> dict[str, str]:
    """The method, its size, the records and where it began."""
    facts = run.facts
    dataset = facts.get("dataset") if isinstance(facts.get("dataset"), dict) else {}
    splits = dataset.get("splits") if isinstance(dataset.get("splits"), dict) else {}
    found = {
        "method": run.config.method,
        "size": f"{run.config.image_size} x {run.config.image_size} pixels",
        "steps asked for": f"{run.config.steps:,} of {run.config.batch_size} pictures, seed {run.config.seed}",
        "trained on": f"{dataset.get('dataset', 'not told')}, records {str(dataset.get('fingerprint', '-'))[:16]}",
    }
    for name, split in splits.items():
        if isinstance(split, dict):
            told = [f"{shown(split[key])} {key}" for key in ("images", "captions", "masks")
                    if is_number(split.get(key))]  # fmt: skip
            found[f"{name} split"] = ", ".join(told)
    for key, words in (("text_encoder", "text encoder"), ("init_from", "began from"), ("commit", "commit")):
        if isinstance(facts.get(key), str) and facts[key]:
            found[words] = facts[key][:16] if key == "text_encoder" else facts[key]
    return found


def place(file: str) -> tuple[int, str]:
    """Sheets in the order of SHEETS, then others by name."""
    name = os.path.splitext(os.path.basename(file))[0]
    return (list(SHEETS).index(name) if name in SHEETS else len(SHEETS)), name


def curves(run: Run) -> ElementTree.Element:
    """The run's metrics.jsonl, drawn. Starts TensorFlow, which the module of figures needs."""
    commands.start_tensorflow()
    from simgan_tf.evaluation import figures

    buffer = io.BytesIO()
    figures.curves(run.path).save(buffer, "PNG")
    return picture(buffer.getvalue(), "curves: the terms over the steps, each the mean of ten logged rows", run.path)


def sheet(path: str, words: str) -> ElementTree.Element:
    """A PNG or JPEG file and what it shows. Raises: ValueError for another file, or one over 32 MB; OSError."""
    return picture(files.read_regular(path, MAX_BYTES, "take it out, or make it smaller."), words, path)


def picture(data: bytes, words: str, path: str) -> ElementTree.Element:
    """A figure with the picture inside it. path: where it comes from, for the message."""
    try:
        with Image.open(io.BytesIO(data), formats=("PNG", "JPEG")) as opened:
            kind, (width, height) = opened.format.lower(), opened.size
    except (OSError, Image.DecompressionBombError):
        raise ValueError(f"{path} is no PNG or JPEG that can be shown; take it out, or draw it again.") from None
    source = f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
    image = tag("img", src=source, alt=words, width=str(width), height=str(height))
    return tag("figure", wide(image, words), tag("figcaption", words))


# ---- elements


def tag(kind: str, /, *children: "ElementTree.Element | str", **attributes: str) -> ElementTree.Element:
    """An element with texts and elements in it."""
    made = ElementTree.Element(kind, attributes)
    for child in children:
        if not isinstance(child, str):
            made.append(child)
        elif len(made):
            made[-1].tail = (made[-1].tail or "") + child
        else:
            made.text = (made.text or "") + child
    return made


def wide(child: ElementTree.Element, label: str) -> ElementTree.Element:
    """What is wider than a phone, moved sideways by itself; by the keyboard too."""
    return tag("div", child, **{"class": "wide", "tabindex": "0", "role": "region", "aria-label": label})


def table(
    runs: list[Run], columns: list[dict[str, str]], meaning: Callable[[str], str] = lambda name: ""
) -> ElementTree.Element:
    """A column a run, a row each name of `columns`, and under a name what it is."""
    head = tag("tr", tag("td"), *(tag("th", run.name, scope="col") for run in runs))
    body = tag("tbody")
    for name in dict.fromkeys(name for column in columns for name in column):
        words = [tag("small", meaning(name))] if meaning(name) else []
        cells = [column.get(name, "-") for column in columns]
        body.append(tag("tr", tag("th", name, *words, scope="row"),
                        *(tag("td", each, **{"class": "number"} if each[:1].isdigit() else {}) for each in cells)
                        ))  # fmt: skip
    return wide(tag("table", tag("thead", head), body), "table")


def command() -> None:
    commands.run(main, define_flags)


if __name__ == "__main__":
    command()
