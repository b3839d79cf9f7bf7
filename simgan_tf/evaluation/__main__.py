"""Measures a run on the pictures of a split, writes run_dir/results.json and prints it as a table.

python -m simgan_tf.evaluation --run_dir=runs/demo --records_dir=runs/demo/records --figures
"""

import json
import os
import platform
import shlex
import sys
from typing import Any

from absl import flags

from simgan_tf import cli, files


def define_flags() -> None:
    flags.DEFINE_string("run_dir", None, "Run directory of run_train.py.", required=True)
    flags.DEFINE_string("records_dir", None, "Folder that data.build wrote.", required=True)
    flags.DEFINE_enum("split", "test", ["test", "train"], "Split whose pictures are edited.")
    flags.DEFINE_integer("samples", 3, "Edits with noise of each (picture, sentence).", lower_bound=2)
    flags.DEFINE_integer("seed", 0, "Seed of the sentences' draw and of the noise.", lower_bound=0)
    flags.DEFINE_integer("limit", 0, "Only so many pictures, at even distances in key order; 0 = all.", lower_bound=0)
    flags.DEFINE_boolean(
        "figures", False, "Also write sheets of eight pictures, at even distances in key order, to run_dir/figures/."
    )


def main(argv: list[str]) -> None:
    values = flags.FLAGS
    cli.start_tensorflow()
    import numpy as np

    from data import pipeline, records
    from simgan_tf.edit import Editor
    from simgan_tf.evaluation import figures
    from simgan_tf.pictures import save_image
    from simgan_tf.text.recorded import Recorded

    info = records.read_info(values.records_dir)
    split = pipeline.load_split(values.records_dir, values.split)
    recorded = None
    if info["embeddings"] and not os.path.isdir(os.path.join(values.run_dir, "text_encoder")):
        recorded = Recorded(info, [split])  # a run on the records' embeddings: sentences are captions
    editor = Editor(values.run_dir, recorded)
    config = editor.config
    if values.limit:
        split = split.spread(values.limit)
    images = pipeline.evaluation_images(split, config.image_size, config.load_size)
    masks = pipeline.evaluation_masks(split, config.image_size, config.load_size) if all(split.masks) else None
    results = {
        "method": config.method,
        "step": editor.step,
        "split": values.split,
        "pictures": len(images),
        "samples": values.samples,
        "seed": values.seed,
        **measure(editor, images, masks, split, values.samples, values.seed),
        "dataset": {name: info[name] for name in ("dataset", "fingerprint")},
        "hardware": hardware(),
        "command": shlex.join(["python", "-m", "simgan_tf.evaluation", *sys.argv[1:]]),
    }
    # results.json is the whole test split; another protocol has another name.
    part = "" if values.split == "test" and not values.limit else f"-{values.split}-{values.limit or 'all'}"
    path = os.path.join(values.run_dir, f"results{part}.json")
    bad = [name for name in MEANING if not np.isfinite(results.get(name, 0.0))]
    if bad:
        raise ValueError(f"{bad[0]}={results[bad[0]]} of {values.run_dir} at step {editor.step}; nothing is written.")
    files.write_text(path, json.dumps(results, indent=2, allow_nan=False) + "\n")

    for name in MEANING:
        if name in results:
            print(f"{name:24s} {results[name]:8.4f}   {MEANING[name]}")
    print(f"{len(images)} {values.split} pictures x {values.samples} samples at step {editor.step}; wrote {path}")
    if values.figures:
        shown = split.spread(8)
        first = pipeline.evaluation_images(shown, config.image_size, config.load_size)
        own = [captions[0] for captions in shown.captions]
        sentences = own[: len(config.sentences)] if recorded else list(config.sentences)
        one, other = sentences[0], sentences[len(sentences) // 2]
        sheets = {
            "edits": figures.edits(editor.method, editor.text_encoder, first, own, sentences),
            "samples": figures.samples(editor, first[:4], other, 6, values.seed),
            "interpolation": figures.interpolation(editor, first[:4], one, other, 8),
            "curves": figures.curves(values.run_dir),
        }
        for name, sheet in sheets.items():
            save_image(sheet, os.path.join(values.run_dir, "figures", f"{name}.png"))
        print(f"wrote {', '.join(sheets)} to {os.path.join(values.run_dir, 'figures')}")


def hardware() -> str:
    """Cores and the processor's name, as far as the system tells it."""
    name = platform.processor() or platform.machine()
    if os.path.exists("/proc/cpuinfo"):
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            name = next((line.split(":", 1)[1].strip() for line in file if line.startswith("model name")), name)
    return f"{os.cpu_count()} x {name}"


# What each number is, for the table; the protocol stands in `measure`.
MEANING = {
    "colour_accuracy": "edits whose dominant colour inside the mask is the one the sentence names",
    "colour_accuracy_mean": "the same, of the edits by the code's mean",
    "colour_chance": "the edits judged by sentences of other pictures",
    "colour_reader": "unedited pictures whose own colour the reader gets right",
    "background_l1": "mean |edited - source| outside the mask, [0, 1] units",
    "background_l1_mean": "the same, of the edits by the code's mean",
    "change_l1": "mean |edited - source| over the whole picture",
    "diversity": "mean pairwise L1 of the samples, inside the mask where there is one",
    "cycle_l1": "mean |reconstructed - source|",
}


def measure(editor, images, masks, split, samples: int, seed: int) -> dict[str, Any]:
    """The numbers of MEANING for `images` [N, S, S, 3] of `split`.

    Each picture gets one sentence: a caption, drawn at random, of a random other picture, in the demo one of another
    colour, and `samples` edits by it with noise drawn from `seed`, which all numbers count alike; the numbers named
    _mean count one edit without noise instead. The way back starts from the first sample and takes the picture's first
    caption. masks: [N, S, S] bool, inside = the flower, or None: then only the numbers that need none are given.
    """
    import numpy as np
    import tensorflow as tf
    from tqdm import tqdm

    from data.painter import COLOURS
    from simgan_tf.evaluation import metrics

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
    targets = editor.text_encoder.encode(sentences)
    own = editor.text_encoder.encode([captions[0] for captions in split.captions])

    edit = tf.function(editor.method.edit, reduce_retracing=True)
    edited, back = np.empty([samples + 1, *images.shape], np.float32), np.empty(images.shape, np.float32)
    noise = [editor.method.draw_noise(count, [seed, k]).numpy() for k in range(samples)]
    noise.append(np.zeros_like(noise[0]))
    for start in tqdm(range(0, count, batch), unit="batch", desc="editing", delay=2, leave=False):
        rows = slice(start, min(start + batch, count))
        for k in range(samples + 1):
            edited[k, rows] = edit(images[rows], targets[rows], noise[k][rows]).numpy()
        back[rows] = edit(edited[0, rows], own[rows], noise[-1][rows]).numpy()
    sampled, mean = edited[:-1], edited[-1]

    whole = np.ones(images.shape[:3], bool)
    found = {
        "change_l1": float(np.mean([metrics.l1(sample, images) for sample in sampled])),
        "diversity": float(np.nanmean(metrics.diversity(sampled, whole if masks is None else masks))),
        "cycle_l1": float(metrics.l1(back, images).mean()),
    }
    if masks is not None:
        found["background_l1"] = float(np.nanmean([metrics.l1_where(sample, images, ~masks) for sample in sampled]))
        found["background_l1_mean"] = float(np.nanmean(metrics.l1_where(mean, images, ~masks)))
    if coloured:

        def read(pictures: np.ndarray) -> np.ndarray:
            pairs = zip(metrics.to_unit(pictures), masks, strict=True)
            return np.array([metrics.dominant_colour(picture[mask], COLOURS) for picture, mask in pairs])

        wanted = colours[others]
        right = np.array([read(sample) == wanted for sample in sampled])  # [samples, N]
        found["colour_accuracy"] = float(right.mean())
        found["colour_accuracy_mean"] = float(np.mean(read(mean) == wanted))
        found["colour_chance"] = float(np.mean(read(sampled[0]) == random.permutation(wanted)))
        found["colour_reader"] = float(np.mean(read(images) == colours))
        found["by_colour"] = {name: float(right[:, wanted == name].mean()) for name in COLOURS if name in wanted}
    return found


if __name__ == "__main__":
    cli.run(main, define_flags)
