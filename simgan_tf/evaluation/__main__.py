"""Measures a run on the pictures of a split, writes run_dir/results.json and prints it as a table.

python -m simgan_tf.evaluation --run_dir=runs/demo --figures

Every system is asked the same: pairs-SPLIT.json in the records' folder, written at first use, gives each picture a
sentence of another class. results.json has the numbers with their 95 % intervals, results-pictures.csv those of every
picture. --table=RUN,RUN puts the results of several runs side by side and says which differ, without measuring anew.

Real photographs have no masks and no colours of their own: there every picture is asked for every word of a set in
turn, and simgan_tf.evaluation.colours finds the flower or the bird and reads its colour. Where a copy's captions are
not surely each picture's own, --exact=FILE.csv tells the reader's check which are.
"""

import json
import os
import platform
import subprocess
import time
from importlib import metadata

from absl import flags

from simgan_tf import configs
from simgan_tf.evaluation.measure import meaning, named, numbers
from simgan_tf.system import commands, files


def define_flags() -> None:
    flags.DEFINE_string("run_dir", None, "Run directory of run_train.py.")
    flags.DEFINE_list(
        "table", [], "Run directories that were measured, with commas between: print and write their table instead."
    )
    flags.DEFINE_string("out", "table.md", "Page that --table writes.")
    flags.DEFINE_string(
        "records_dir", None, "Folder that data.build wrote. Default: the one that the run was trained on."
    )
    flags.DEFINE_enum("split", "test", ["test", "train"], "Split whose pictures are edited.")
    flags.DEFINE_integer("samples", 3, "Edits with noise of each (picture, sentence).", lower_bound=2)
    flags.DEFINE_integer("seed", 0, "Seed of the noise.", lower_bound=0)
    flags.DEFINE_integer("limit", 0, "Only so many pictures, at even distances in key order; 0 = all.", lower_bound=0)
    flags.DEFINE_enum(
        "words",
        "auto",
        ["auto", "none", "flowers", "birds"],
        "Colours to ask every picture for; auto = those of Oxford-102 and CUB where the records have no masks.",
    )
    flags.DEFINE_string(
        "exact",
        "",
        "CSV file, columns image and pairing: the colour reader is checked on pictures whose pairing is 'exact', or on "
        "all where this is empty.",
    )
    flags.DEFINE_integer("step", None, "Checkpoint to measure; default the newest.", lower_bound=0)
    flags.DEFINE_list(
        "judges", [], "Text encoders for similarity and R-precision: folders of simgan_tf.text.train, or a Kiros "
        "NAME.npz; default judge/ in --records_dir, see simgan_tf.evaluation.judges.",
    )  # fmt: skip
    flags.DEFINE_string(
        "inception_weights", "", "Inception-v3's weights in Keras' HDF5 form, for FID, KID and Inception score; empty "
        "= the file in Keras' cache. Nothing is downloaded.",
    )  # fmt: skip
    flags.DEFINE_string("vgg19_weights", "", "The same of VGG-19, for a Kiros judge.")
    flags.DEFINE_boolean(
        "figures",
        False,
        "Also write sheets to run_dir/figures/ (figures-stepN/ with --step): eight pictures at even distances in key "
        "order, and the first 32.",
    )


def records_of(run_dir: str, records_dir: str | None) -> str:
    """`records_dir`, or else the folder that the run was trained on.

    Raises: FileNotFoundError or ValueError where there is no run, or no records; TensorFlow has not started then.
    """
    _, facts = configs.load(run_dir)
    given = records_dir is not None
    records_dir = records_dir if given else facts.get("records_dir", "")
    if not os.path.isfile(os.path.join(records_dir, "dataset.json")):
        where = f"--records_dir={records_dir}" if given else f"{records_dir!r}, where {run_dir} was trained on them"
        raise FileNotFoundError(f"no records at {where}: give --records_dir=..., the folder that data.build wrote.")
    return records_dir


def main(argv: list[str]) -> None:
    values = flags.FLAGS
    # results.json is the whole test split at the newest step; another protocol has another name.
    part = "" if values.split == "test" and not values.limit else f"-{values.split}-{values.limit or 'all'}"
    part += "" if values.step is None else f"-step{values.step}"
    if values.table:
        from simgan_tf.evaluation import table

        page = table.of_runs(values.table, f"results{part}")
        files.write_text(values.out, page)
        print(f"{page}\nwrote {values.out}")
        return
    if values.run_dir is None:
        raise ValueError("--run_dir= missing: the run to measure, or --table=RUN,RUN for several that were measured.")
    records_dir = records_of(values.run_dir, values.records_dir)
    began = time.monotonic()
    commands.start_tensorflow()
    import numpy as np

    from data import pipeline, records, splits
    from simgan_tf.edit import Editor
    from simgan_tf.evaluation import attention, colours, figures, judges, protocol
    from simgan_tf.system.pictures import save_image
    from simgan_tf.text import shown
    from simgan_tf.text.recorded import Recorded

    info = records.read_info(records_dir)
    split = splits.load_split(records_dir, values.split)
    recorded = None
    if info["embeddings"] and not os.path.isdir(os.path.join(values.run_dir, "text_encoder")):
        recorded = Recorded(info, [split])  # a run on the records' embeddings: sentences are captions
    editor = Editor(values.run_dir, recorded, values.step)
    config = editor.config
    found_judges, inception = judges.load(records_dir, values.judges, values.vgg19_weights, values.inception_weights)
    for judge in found_judges:
        judge.require_other(editor.text_encoder.fingerprint, values.run_dir)
    whole, pairs = split, protocol.load(records_dir, values.split, split)
    if values.limit:
        pairs = pairs.spread(values.limit)
    split = pairs.split
    masked = bool(split.masked.all())
    kind = colours.choose(values.words, info["dataset"], masked)
    if kind and recorded:  # these know no sentence but captions
        if values.words != "auto":
            raise ValueError(f"--words={kind} needs a run with a text encoder; {values.run_dir} has none.")
        kind = ""
    if kind and not masked:
        if not named(editor, kind):
            print(f"colours left out: the captions that this model learnt from name fewer than two of {kind}' colours")
            kind = ""
    elif values.words == "auto" and not masked and not recorded:
        print(
            f"colours left out: their reader knows flowers and birds, and these are of --dataset={info['dataset']}; "
            "--words=flowers or --words=birds asks for those of their colours that the captions name"
        )
    if kind and masked:
        raise ValueError(f"--words={kind}: these records have masks and colours of their own; leave the flag out.")
    if values.exact and not kind:
        raise ValueError(f"--exact={values.exact} is for records that are asked for words: leave it out.")
    exact = colours.exact_keys(values.exact, split.keys) if kind and values.exact else np.ones(len(split), bool)
    measured, of_pictures = numbers(
        editor, pairs, kind, exact, values.samples, values.seed, config.load_size, found_judges, inception
    )
    results = {
        "method": config.method,
        "step": editor.step,
        "split": values.split,
        "pictures": len(split),
        "samples": values.samples,
        "seed": values.seed,
        **measured,
        "judges": {judge.kind: {"name": judge.name, "fingerprint": judge.fingerprint} for judge in found_judges},
        "dataset": {name: info[name] for name in ("dataset", "fingerprint")},
        "hardware": hardware(),
        "commit": commit(),
        "config": configs.as_json(config),
        "seconds": round(time.monotonic() - began),
        "command": commands.typed("simgan_tf.evaluation"),
    }
    path = os.path.join(values.run_dir, f"results{part}.json")
    protocol.write_values(os.path.join(values.run_dir, f"results{part}-pictures.csv"), split.keys, of_pictures)
    files.write_text(path, json.dumps(results, indent=2, allow_nan=False) + "\n")

    for name in filter(meaning, results):
        low, high = results["intervals"].get(name, (None, None))
        bounds = "" if low is None else f"{low:.4f} to {high:.4f}"
        print(f"{name:28s} {results[name]:8.4f}  {bounds:18s} {meaning(name)}")
    if kind:
        reader = results["reader"]
        print(
            f"{kind}: {', '.join(results['by_colour'])}; reader checked on {reader['pictures']} pictures, "
            f"{reader['left_out']} left out whose captions name no colour or several"
        )
    print(f"{len(split)} {values.split} pictures x {values.samples} samples at step {editor.step}; wrote {path}")
    if values.figures:
        eight, head = split.spread(8), whole.take(np.arange(min(32, len(whole))))
        first = pipeline.evaluation_images(eight, config.image_size, config.load_size)
        own = [captions[0] for captions in eight.captions]
        sentences = own[: len(config.sentences)]
        if not recorded:
            sentences = list(shown.known(config.sentences, [each[0] for each in whole.captions], editor.text_encoder))
            if left := sorted({*config.sentences} - {*sentences}):
                print(f"sheets without the sentences of which the model knows no word: {'; '.join(left)}")
        one, other = sentences[0], sentences[len(sentences) // 2]
        sheets = {
            "edits": figures.edits(editor.method, first, own, sentences),
            "samples": figures.samples(editor, first[:4], other, 6, values.seed),
            "interpolation": figures.interpolation(editor, first[:4], one, other, 8),
            "teaser": figures.teaser(editor, first, sentences, values.seed),
            "first32": figures.edits(
                editor.method,
                pipeline.evaluation_images(head, config.image_size, config.load_size),
                [captions[0] for captions in head.captions],
                sentences,
                size=max(64, config.image_size),
            ),
        }
        if os.path.exists(os.path.join(values.run_dir, "metrics.jsonl")):  # a packed model has none
            sheets["curves"] = figures.curves(values.run_dir)
        if hasattr(editor.method, "attention"):  # each picture by its own caption, and by that of the next
            texts = [[text, own[(i + 1) % len(own)]] for i, text in enumerate(own[:4])]
            try:
                sheets["attention"] = attention.sheet(attention.judge(editor, values.run_dir), first[:4], texts)
            except ValueError as error:  # of a model that was packed to edit alone
                print(f"attention is not drawn: {error}")
        folder = os.path.join(values.run_dir, "figures" + ("" if values.step is None else f"-step{values.step}"))
        for name, sheet in sheets.items():
            save_image(sheet, os.path.join(folder, f"{name}.png"))
        print(f"wrote {', '.join(sheets)} to {folder}")


def hardware() -> str:
    """Cores and the processor's name, as far as the system tells it."""
    name = platform.processor() or platform.machine()
    if os.path.exists("/proc/cpuinfo"):
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            name = next((line.split(":", 1)[1].strip() for line in file if line.startswith("model name")), name)
    return f"{os.cpu_count()} x {name}"


def commit() -> str:
    """The commit of this checkout, with + where files differ from it; of an installed package its version."""
    try:
        if not os.path.exists(os.path.join(commands.HOME, ".git")):
            return metadata.version("simgan-tf")
        git = ["git", "-C", commands.HOME]
        changed, head = (
            subprocess.run([*git, *words], capture_output=True, text=True, check=True).stdout.strip()
            for words in (["status", "--porcelain", "--untracked-files=no"], ["rev-parse", "HEAD"])
        )
        return head + "+" * bool(changed)
    except (OSError, subprocess.SubprocessError, metadata.PackageNotFoundError):
        return "unknown"


def command() -> None:
    commands.run(main, define_flags)


if __name__ == "__main__":
    command()
