"""Measures a run on the pictures of a split, writes run_dir/results.json and prints it as a table.

python -m simgan_tf.evaluation --run_dir=runs/demo --figures

Real photographs have no masks and no colours of their own: there every picture is asked for every word of a set in
turn, and simgan_tf.evaluation.colours finds the flower or the bird and reads its colour. Where a copy's captions are
not surely each picture's own, --exact=FILE.csv tells the reader's check which are.
"""

import collections
import json
import os
import platform
import shlex
import sys
from typing import Any

from absl import flags

from simgan_tf import configs
from simgan_tf.evaluation import metrics
from simgan_tf.system import commands, files


def define_flags() -> None:
    flags.DEFINE_string("run_dir", None, "Run directory of run_train.py.", required=True)
    flags.DEFINE_string(
        "records_dir", None, "Folder that data.build wrote. Default: the one that the run was trained on."
    )
    flags.DEFINE_enum("split", "test", ["test", "train"], "Split whose pictures are edited.")
    flags.DEFINE_integer("samples", 3, "Edits with noise of each (picture, sentence).", lower_bound=2)
    flags.DEFINE_integer("seed", 0, "Seed of the sentences' draw and of the noise.", lower_bound=0)
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
    records_dir = records_of(values.run_dir, values.records_dir)
    commands.start_tensorflow()
    import numpy as np

    from data import pipeline, records
    from simgan_tf.edit import Editor
    from simgan_tf.evaluation import colours, figures
    from simgan_tf.system.pictures import save_image
    from simgan_tf.text.recorded import Recorded

    info = records.read_info(records_dir)
    split = pipeline.load_split(records_dir, values.split)
    recorded = None
    if info["embeddings"] and not os.path.isdir(os.path.join(values.run_dir, "text_encoder")):
        recorded = Recorded(info, [split])  # a run on the records' embeddings: sentences are captions
    editor = Editor(values.run_dir, recorded, values.step)
    config = editor.config
    whole = split
    if values.limit:
        split = split.spread(values.limit)
    images = pipeline.evaluation_images(split, config.image_size, config.load_size)
    masks = pipeline.evaluation_masks(split, config.image_size, config.load_size) if all(split.masks) else None
    kind = colours.choose(values.words, info["dataset"], masks is not None)
    if kind and recorded:  # these know no sentence but captions
        if values.words != "auto":
            raise ValueError(f"--words={kind} needs a run with a text encoder; {values.run_dir} has none.")
        kind = ""
    if kind and masks is not None:
        raise ValueError(f"--words={kind}: these records have masks and colours of their own; leave the flag out.")
    if values.exact and not kind:
        raise ValueError(f"--exact={values.exact} is for records that are asked for words: leave it out.")
    exact = colours.exact_keys(values.exact, split.keys) if kind and values.exact else np.ones(len(split), bool)
    results = {
        "method": config.method,
        "step": editor.step,
        "split": values.split,
        "pictures": len(images),
        "samples": values.samples,
        "seed": values.seed,
        **measure(editor, images, masks, split, values.samples, values.seed),
        **(measure_words(editor, images, split, kind, exact, values.seed) if kind else {}),
        "dataset": {name: info[name] for name in ("dataset", "fingerprint")},
        "hardware": hardware(),
        "command": shlex.join(["python", "-m", "simgan_tf.evaluation", *sys.argv[1:]]),
    }
    # results.json is the whole test split at the newest step; another protocol has another name.
    part = "" if values.split == "test" and not values.limit else f"-{values.split}-{values.limit or 'all'}"
    part += "" if values.step is None else f"-step{values.step}"
    path = os.path.join(values.run_dir, f"results{part}.json")
    bad = [name for name in MEANING if not np.isfinite(results.get(name, 0.0))]
    if bad:
        raise ValueError(f"{bad[0]}={results[bad[0]]} of {values.run_dir} at step {editor.step}; nothing is written.")
    files.write_text(path, json.dumps(results, indent=2, allow_nan=False) + "\n")

    for name in MEANING:
        if name in results:
            print(f"{name:26s} {results[name]:8.4f}   {MEANING[name]}")
    if kind:
        reader = results["reader"]
        print(
            f"{kind}: {', '.join(results['by_colour'])}; reader checked on {reader['pictures']} pictures, "
            f"{reader['left_out']} left out whose captions name no colour or several"
        )
    print(f"{len(images)} {values.split} pictures x {values.samples} samples at step {editor.step}; wrote {path}")
    if values.figures:
        shown, head = split.spread(8), whole.take(np.arange(min(32, len(whole))))
        first = pipeline.evaluation_images(shown, config.image_size, config.load_size)
        own = [captions[0] for captions in shown.captions]
        sentences = own[: len(config.sentences)] if recorded else list(config.sentences)
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


# What each number is, for the table; the protocols stand in `measure` and `measure_words`.
MEANING = {
    "colour_accuracy": "edits whose dominant colour inside the mask is the one the sentence names",
    "colour_accuracy_mean": "the same, of the edits by the code's mean",
    "colour_agreement": "edits in which the reader reads the word that was asked for",
    "colour_agreement_mean": "the same, of the edits by the code's mean",
    "colour_agreement_new": "the same as colour_agreement, without words that the reader reads in the source",
    "colour_agreement_new_mean": "the same, of the edits by the code's mean",
    "colour_agreement_relative": "colour_agreement / colour_reader",
    "colour_chance": "the edits judged by sentences of other pictures",
    "colour_reader": "unedited pictures whose own colour the reader gets right",
    "colour_reader_all": "the same, also by captions that are not surely the picture's own",
    "background_l1": "mean |edited - source| outside the mask, [0, 1] units",
    "background_l1_mean": "the same, of the edits by the code's mean",
    "change_l1": "mean |edited - source| over the whole picture",
    "diversity": "mean pairwise L1 of the samples, inside the mask where there is one",
    "cycle_l1": "mean |reconstructed - source|",
    "reconstruction_l1": "mean |edited by the own caption - source|, by the code's mean",
    "checkerboard": "energy at periods of 2 and 4 pixels in the edits by the code's mean, 1 = as in the pictures",
    "sharpness": "variance of the Laplacian of the edits by the code's mean, 1 = as in the pictures",
}


def measure(editor, images, masks, split, samples: int, seed: int) -> dict[str, Any]:
    """The numbers of MEANING for `images` [N, S, S, 3] of `split`.

    Each picture gets one sentence: a caption, drawn at random, of a random other picture, in the demo one of another
    colour, and `samples` edits by it with noise drawn from `seed`, which all numbers count alike; the numbers named
    _mean count one edit without noise instead. The way back starts from the first sample and takes the picture's first
    caption; reconstruction_l1 edits the picture itself by it, without noise. Edits are judged batch by batch and not
    kept. masks: [N, S, S] bool, inside = the flower, or None: then only the numbers that need none are given.
    """
    import numpy as np
    import tensorflow as tf
    from tqdm import tqdm

    from data.painter import COLOURS

    count, batch = len(images), 32
    random = np.random.default_rng(seed)
    colours = np.array(split.colours)
    coloured = masks is not None and all(split.colours)
    others = np.empty(count, int)
    for i in range(count):
        allowed = np.flatnonzero(colours != colours[i]) if coloured else np.delete(np.arange(count), i)
        if not len(allowed):
            raise ValueError("all pictures have one colour (or there is only one picture): no sentence to ask for.")
        others[i] = random.choice(allowed)
    sentences = [split.captions[j][random.integers(len(split.captions[j]))] for j in others]
    targets = editor.method.encode(sentences)
    own = editor.method.encode([captions[0] for captions in split.captions])

    noise = [editor.draw_noise(count, [seed, k]) for k in range(samples)]
    noise.append(np.zeros_like(noise[0]))
    edit = tf.function(editor.method.edit, reduce_retracing=True)
    inside = np.ones(images.shape[:3], bool) if masks is None else masks
    seen = collections.defaultdict(list)  # name -> a number (or a colour) a picture, of each sample where there are
    for start in tqdm(range(0, count, batch), unit="batch", desc="editing", delay=2, leave=False):
        rows = slice(start, min(start + batch, count))
        source, where = images[rows], inside[rows]
        edited = np.array([edit(source, targets[rows], drawn[rows]).numpy() for drawn in noise])
        sampled, mean = edited[:-1], edited[-1]
        back = edit(sampled[0], own[rows], noise[-1][rows]).numpy()
        same = edit(source, own[rows], noise[-1][rows]).numpy()
        _require_finite(edited, back, same)
        seen["change_l1"].append([metrics.l1(sample, source) for sample in sampled])
        seen["diversity"].append(metrics.diversity(sampled, where))
        seen["cycle_l1"].append(metrics.l1(back, source))
        seen["reconstruction_l1"].append(metrics.l1(same, source))
        for name, of_picture in DETAIL.items():
            seen[name].append(of_picture(mean))
            seen[f"{name} of the pictures"].append(of_picture(source))
        if masks is not None:
            seen["background_l1"].append([metrics.l1_where(sample, source, ~where) for sample in sampled])
            seen["background_l1_mean"].append(metrics.l1_where(mean, source, ~where))
        if coloured:
            for name, pictures in (("sampled", sampled), ("mean", mean[None]), ("source", source[None])):
                seen[f"colours {name}"].append([_dominant(every, where) for every in pictures])
    seen = {name: np.concatenate(parts, axis=-1) for name, parts in seen.items()}

    found = {name: float(np.nanmean(seen[name])) for name in MEANING if name in seen and name not in DETAIL}
    for name in DETAIL:
        found[name] = float(seen[name].mean() / seen[f"{name} of the pictures"].mean())
    if coloured:
        wanted = colours[others]
        right = seen["colours sampled"] == wanted  # [samples, N]
        found["colour_accuracy"] = float(right.mean())
        found["colour_accuracy_mean"] = float(np.mean(seen["colours mean"] == wanted))
        found["colour_chance"] = float(np.mean(seen["colours sampled"][0] == random.permutation(wanted)))
        found["colour_reader"] = float(np.mean(seen["colours source"] == colours))
        found["by_colour"] = {name: float(right[:, wanted == name].mean()) for name in COLOURS if name in wanted}
    return found


# Numbers of a picture alone, given in units of the unedited pictures' mean.
DETAIL = {"checkerboard": metrics.checkerboard_share, "sharpness": metrics.laplacian_variance}


def _require_finite(*edits) -> None:
    import numpy as np

    if not all(np.isfinite(edited).all() for edited in edits):
        raise ValueError("an edit has values that are not finite: this generator is broken; take an earlier --step.")


def _dominant(pictures, masks) -> list[str]:
    """The demo's reader: the colour of painter.COLOURS inside the true mask of each picture."""
    from data.painter import COLOURS

    pairs = zip(metrics.to_unit(pictures), masks, strict=True)
    return [metrics.dominant_colour(picture[mask], COLOURS) for picture, mask in pairs]


def measure_words(editor, images, split, kind: str, exact, seed: int) -> dict[str, Any]:
    """The numbers of MEANING that need neither masks nor colours of the records, for `images` [N, S, S, 3] of `split`.

    Each picture is asked for each word of colours.WORDS[kind] in turn, the own one included, by the set's one sentence;
    one edit with noise drawn from `seed` as the first sample of `measure`, one without (the numbers named _mean).
    The mask is found on the source and serves its edits; the background is what lies beyond its border of 2 pixels of
    64. colour_chance judges the edits with noise by the asked words of all pairs, shuffled.
    exact: [N] bool, whether the captions are the picture's own: colour_reader counts these alone.

    Beside MEANING's, by_colour and by_colour_mean give colour_agreement by asked word, `reader` is `colours.check` of
    the exact pictures with left_out (pictures without one own colour by their captions) and pictures_all (all that
    colour_reader_all counts).
    """
    import numpy as np
    import tensorflow as tf
    from tqdm import tqdm

    from simgan_tf.evaluation import colours

    words, count, batch = colours.WORDS[kind], len(images), 32
    asked = np.array(words.colours)
    codes = editor.method.encode([words.sentence.format(colour) for colour in words.colours])
    noise = editor.draw_noise(count, [seed, 0])
    edit = tf.function(editor.method.edit, reduce_retracing=True)
    source_colours, read, outside = [], {"": [], "_mean": []}, {"": [], "_mean": []}
    for start in tqdm(range(0, count, batch), unit="batch", desc="asking for colours", delay=2, leave=False):
        rows = slice(start, min(start + batch, count))
        source = images[rows]
        masks = colours.foreground(source)
        beyond = colours.background(masks)
        source_colours.append(colours.read(source, masks, words))
        for name, drawn in (("", noise[rows]), ("_mean", np.zeros_like(noise[rows]))):
            edited = [edit(source, np.repeat(code[None], len(source), axis=0), drawn).numpy() for code in codes]
            _require_finite(*edited)
            read[name].append([colours.read(pictures, masks, words) for pictures in edited])
            outside[name].append([metrics.l1_where(pictures, source, beyond) for pictures in edited])
    source_colours = np.concatenate(source_colours)
    new = asked[:, None] != source_colours  # [words, N]

    found: dict[str, Any] = {}
    for name in read:
        answers = np.concatenate(read[name], axis=1)  # [words, N]
        right = answers == asked[:, None]
        found[f"colour_agreement{name}"] = float(right.mean())
        found[f"colour_agreement_new{name}"] = float(right[new].mean())
        found[f"by_colour{name}"] = dict(zip(words.colours, right.mean(axis=1).tolist(), strict=True))
        found[f"background_l1{name}"] = float(np.nanmean(np.concatenate(outside[name], axis=1)))
        if not name:
            pairs = np.random.default_rng(seed).permutation(np.repeat(asked, count)).reshape(answers.shape)
            found["colour_chance"] = float(np.mean(answers == pairs))
    own = np.array([colours.own_colour(captions, words) for captions in split.captions])
    report = colours.check(source_colours[exact], own[exact], words.colours)
    everyone = colours.check(source_colours, own, words.colours)
    accuracy = report.pop("accuracy")
    if report["pictures"]:
        found["colour_reader"] = accuracy
        found["colour_agreement_relative"] = found["colour_agreement"] / accuracy if accuracy else 0.0
    if everyone["pictures"]:
        found["colour_reader_all"] = everyone["accuracy"]
    left_out = int(exact.sum()) - report["pictures"]
    return found | {"words": kind, "reader": report | {"left_out": left_out, "pictures_all": everyone["pictures"]}}


def command() -> None:
    commands.run(main, define_flags)


if __name__ == "__main__":
    command()
