"""What an edit does to the object and what to the rest, by an outline of the source that the edit has no part in.

python -m simgan_tf.evaluation.objects --run_dir=runs/flowers --records_dir=runs/flowers/records --limit=120

The numbers, for arrays of pictures and masks, are functions of this module; MEANING says what each one is. The frame of
the pictures is that of the records: whole photographs, or birds cut out by data.build --crop=box.
"""

import json
import os
from collections.abc import Callable
from typing import Any

import numpy as np
from absl import flags
from scipy import ndimage

from simgan_tf.evaluation import colours
from simgan_tf.evaluation.colours import to_lab as lab
from simgan_tf.evaluation.metrics import mean_where
from simgan_tf.system import commands, files

MOVED = 15.0  # in Lab's a, b: a change of colour that is seen at a glance
SMALLEST = 0.01  # of a picture: an outline below it counts as none
# The eleven words that every language with many colour words has (Berlin and Kay 1969), in Lab. Red, orange, yellow,
# purple and pink are about the medians of 266 training flowers whose own captions call them so, black, grey and brown
# those of 239 training birds with drawn outlines; white is a little lighter than the median of 82 flowers, so that grey
# ends at L = 60; blue and green, of which there were too few, were chosen by hand.
WORDS = {
    "black": (13, 0, 0),
    "grey": (45, 0, 0),
    "white": (75, -1, 4),
    "red": (44, 58, 39),
    "orange": (57, 25, 54),
    "yellow": (70, -3, 61),
    "green": (45, -20, 30),
    "blue": (38, 8, -36),
    "purple": (51, 27, -28),
    "pink": (58, 32, -1),
    "brown": (34, 7, 15),
}
NAMES = np.array(list(WORDS))
MEANING = {
    "agreement": "edits with noise whose object, its median Lab colour, is nearest to the word asked for, of eleven",
    "agreement_mean": "the same of edits by the code's mean",
    "agreement_new": "the first without pictures whose source has that word already",
    "spill": "share of background pixels whose colour moved by more than 15 in Lab's a, b",
    "spill_mean": "the same of edits by the code's mean",
    "background_kept": "pictures of whose background at most a tenth moved in every edit by the code's mean",
    "beside": "share of the pixels that newly have the colour asked for which lie outside the outline",
    "frame": "colour's move in the background's outer tenth, over that in the rest of it; 1 = no frame",
    "stripes": "change of colour from row to row inside the outline over that from column to column; 1 = no stripes",
    "reader": "pictures whose own one colour, by their captions, is what their object is nearest to",
    "kept_empty": "pictures left out because no outline of a hundredth of the picture was found",
    "outline_share": "the outlines' mean share of the picture",
}


# ---- arrays in, numbers out


def nearest_word(colour: np.ndarray) -> np.ndarray:
    """The word of WORDS that is nearest in Lab, str of any shape [...], of Lab colours [..., 3]."""
    table = np.array(list(WORDS.values()), np.float32)  # [11, 3]
    places = ((colour[..., None, :] - table) ** 2).sum(axis=-1).argmin(axis=-1)
    return NAMES[places]


def background(masks: np.ndarray) -> np.ndarray:
    """What lies outside the outlines [N, S, S] by more than a sixty-fourth of the side (1 pixel of 64), bool.

    An outline, drawn by hand or found, is not truer than that.
    """
    return colours.background(masks, 64)


def object_colour(images: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """Median L, a and b inside each outline, [N, 3]. images: [N, S, S, 3] in [-1, 1]. masks: [N, S, S], none empty."""
    return np.stack([np.median(of[mask], axis=0) for of, mask in zip(lab(images), masks, strict=True)])


def moved(source: np.ndarray, edited: np.ndarray) -> np.ndarray:
    """How far each pixel's colour moved in the plane of Lab's a and b, [N, S, S]. Both: [N, S, S, 3] in [-1, 1]."""
    return np.linalg.norm(lab(edited)[..., 1:] - lab(source)[..., 1:], axis=-1)


def spill(source: np.ndarray, edited: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """Share of each picture's `background` whose colour moved by more than MOVED, [N]; NaN where there is none."""
    return mean_where(moved(source, edited) > MOVED, background(masks))


def beside(source: np.ndarray, edited: np.ndarray, masks: np.ndarray, word: str) -> np.ndarray:
    """Of the pixels that are nearest to `word` in the edit and were not in the source, the share outside the outline.

    [N]; NaN where under SMALLEST of the picture newly has that colour.
    """
    new = (nearest_word(lab(edited)) == word) & (nearest_word(lab(source)) != word)
    shares = mean_where(background(masks), new)
    return np.where(new.mean(axis=(1, 2)) < SMALLEST, np.nan, shares)


def frame(source: np.ndarray, edited: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """Mean move of colour in the background's outer tenth over that in the rest of the background, [N]; NaN where
    either is missing. The outer tenth: nearer to a border than a tenth of the side."""
    side = masks.shape[1]
    line = np.minimum(np.arange(side), side - 1 - np.arange(side)) < side / 10
    outer, beyond, change = line[:, None] | line[None, :], background(masks), moved(source, edited)
    return mean_where(change, beyond & outer) / (mean_where(change, beyond & ~outer) + 1e-3)


def stripes(edited: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """Mean change of a, b from row to row inside the outline over that from column to column, [N]."""
    of = lab(edited)[..., 1:]
    down = np.linalg.norm(np.diff(of, axis=1), axis=-1)[:, :, 1:]  # [N, S-1, S-1]
    along = np.linalg.norm(np.diff(of, axis=2), axis=-1)[:, 1:]
    inside = masks[:, 1:, 1:]
    return mean_where(down, inside) / (mean_where(along, inside) + 1e-3)


def on_white(images: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """The objects alone, on white; the edge of an outline is softened by a pixel of 128."""
    soft = ndimage.gaussian_filter(masks.astype(np.float32), [0, masks.shape[1] / 128, masks.shape[1] / 128])[..., None]
    return soft * images + (1 - soft)


def overlap(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Intersection over union of masks [N, S, S] bool, [N]; 1 where both are empty."""
    union = (first | second).sum(axis=(1, 2))
    return np.where(union > 0, (first & second).sum(axis=(1, 2)) / np.maximum(union, 1), 1.0)


# ---- a generator's edits


def measure(
    editor: Any, split: Any, kind: str, seed: int, outliner: Any | None = None, white: bool = False
) -> dict[str, Any]:
    """The numbers of MEANING for every picture of `split`, each asked for each word of colours.WORDS[kind] in turn.

    Pictures are the largest central square, brought to the generator's size. One edit with noise drawn from `seed` as
    in evaluation.__main__, one by the code's mean. The outline is a record's own where it has one, else found by
    `outliner` (None: the one of `kind`) on the source; it serves all edits of the picture. white: whether the objects
    are cut out by their outlines and put on white before they are edited.
    Beside MEANING's: by_colour (agreement, agreement_mean, spill_mean and the median Lab of the edited objects' colours
    by the code's mean, each by asked word), pictures and with_own_outline (counts).
    """
    import tensorflow as tf
    from tqdm import tqdm

    from data import pipeline
    from simgan_tf.evaluation import outlines

    size, words = editor.config.image_size, colours.WORDS[kind]
    images = pipeline.decoded_images(split, size, size)
    find = outline_finder(split, size, outliner or outlines.Outliner(kind))
    codes = editor.method.encode([words.sentence.format(colour) for colour in words.colours])
    noise = editor.draw_noise(len(split), [seed, 0])
    edit = tf.function(editor.method.edit, reduce_retracing=True)

    seen: dict[str, dict[str, list[np.ndarray]]] = {}
    kept, called, read, shares = [], [], [], []  # rows; a colour of each by its captions, and as it is; the outline's
    batch = max(1, 32 * 64 * 64 // size**2)
    for start in tqdm(range(0, len(split), batch), unit="batch", desc="asking for colours", delay=2, leave=False):
        rows = np.arange(start, min(start + batch, len(split)))
        outline = find(rows)
        large = outline.mean(axis=(1, 2)) >= SMALLEST
        if not large.any():
            continue
        rows, outline = rows[large], outline[large]
        source = images[rows]
        kept.extend(rows)
        shares.extend(outline.mean(axis=(1, 2)))
        called.extend(colours.own_colour(texts, words) for texts in split.take(rows).captions)
        read.extend(nearest_word(object_colour(source, outline)))
        if white:
            source = on_white(source, outline)
        was = nearest_word(object_colour(source, outline))
        for colour, code in zip(words.colours, codes, strict=True):
            repeated = np.repeat(code[None], len(source), axis=0)
            for name, drawn in (("", noise[rows]), ("_mean", np.zeros_like(noise[rows]))):
                edited = edit(source, repeated, drawn).numpy()
                tint = object_colour(edited, outline)
                _put(seen, f"agreement{name}", colour, nearest_word(tint) == colour)
                _put(seen, f"spill{name}", colour, spill(source, edited, outline))
                if name:
                    _put(seen, "tint", colour, tint)
                    continue
                right = nearest_word(tint) == colour
                _put(seen, "agreement_new", colour, np.where(was == colour, np.nan, right))
                _put(seen, "beside", colour, beside(source, edited, outline, colour))
                _put(seen, "frame", colour, frame(source, edited, outline))
                _put(seen, "stripes", colour, stripes(edited, outline))
    if not kept:
        raise ValueError(f"no outline of a hundredth of the picture was found in any of {len(split)}: other objects?")
    told = {name: {c: np.concatenate(parts) for c, parts in of.items()} for name, of in seen.items()}

    found = {name: float(np.nanmean(np.stack(list(told[name].values())))) for name in MEANING if name in told}
    most = np.max(np.stack(list(told["spill_mean"].values())), axis=0)
    found["background_kept"] = float(np.mean(most[~np.isnan(most)] <= 0.1)) if not np.isnan(most).all() else 1.0
    for name in ("frame", "stripes"):  # ratios: a few pictures with next to nothing below the line would be the mean
        found[name] = float(np.nanmedian(np.stack(list(told[name].values()))))
    called, read = np.array(called), np.array(read)
    known = called != ""
    if known.any():
        found["reader"] = float(np.mean(read[known] == called[known]))
    found |= {"kept_empty": len(split) - len(kept), "outline_share": float(np.mean(shares))}
    by_colour = {
        c: {name: float(np.nanmean(told[name][c])) for name in ("agreement", "agreement_mean", "spill_mean")}
        | {"lab_mean": [round(float(v), 1) for v in np.median(told["tint"][c], axis=0)]}
        for c in words.colours
    }
    return found | {"by_colour": by_colour, "pictures": len(kept), "with_own_outline": int(split.masked[kept].sum())}


def outline_finder(split: Any, size: int, outliner: Any) -> Callable[[np.ndarray], np.ndarray]:
    """What gives the outlines [n, size, size] bool of the largest central squares of the split's pictures [n].

    They are the records' own where these have some, else those that `outliner` finds.
    """
    from data import pipeline
    from simgan_tf.evaluation import outlines

    side, own = max(size, outlines.SIDE), split.masked
    images = pipeline.decoded_images(split, side, side)
    drawn = pipeline.decoded_masks(split.take(np.flatnonzero(own)), side, side) if own.any() else None
    place = np.cumsum(own) - 1  # in `drawn`

    def find(rows: np.ndarray) -> np.ndarray:
        masks = outliner.masks(images[rows])
        if own[rows].any():
            masks[own[rows]] = drawn[place[rows[own[rows]]]]
        factor = side // size
        return masks.reshape(len(masks), size, factor, size, factor).mean(axis=(2, 4)) > 0.5

    return find


def _put(seen: dict, name: str, colour: str, values: np.ndarray) -> None:
    seen.setdefault(name, {}).setdefault(colour, []).append(values)


# ---- the command


def define_flags() -> None:
    from simgan_tf.edit import define_model_flags

    define_model_flags()
    flags.DEFINE_string("records_dir", None, "Folder that data.build wrote.", required=True)
    flags.DEFINE_enum("split", "test", ["test", "train"], "Split whose pictures are edited.")
    flags.DEFINE_integer("limit", 120, "Pictures, at even distances in key order; 0 = all.", lower_bound=0)
    flags.DEFINE_integer("seed", 0, "Seed of the noise.", lower_bound=0)
    flags.DEFINE_boolean("white", False, "Cut the objects out and put them on white before they are edited.")
    flags.DEFINE_integer("step", None, "Checkpoint to measure; default the newest.", lower_bound=0)
    flags.DEFINE_string("out", "", "JSON file to write; default results-objects-SPLIT-LIMIT[-white].json in --run_dir.")


def main(argv: list[str]) -> None:
    values = flags.FLAGS
    from simgan_tf.edit import model_dir

    folder = model_dir(values.run_dir, values.pretrained)
    if not values.out and not values.run_dir:
        raise ValueError("out='' with --pretrained: a shipped model is not written to; give --out=FILE.json.")
    commands.start_tensorflow()
    from data import records, splits
    from simgan_tf.edit import Editor

    info = records.read_info(values.records_dir)
    kind = colours.choose("auto", info["dataset"], masks=False)
    if not kind:
        raise ValueError(f"dataset={info['dataset']!r} of {values.records_dir}: only oxford102 and cub have outlines.")
    split = splits.load_split(values.records_dir, values.split)
    split = split.spread(values.limit) if values.limit else split
    editor = Editor(folder, step=values.step)
    results = {
        "step": editor.step,
        "split": values.split,
        "cut": info["crop"],
        "seed": values.seed,
        "white": values.white,
        **measure(editor, split, kind, values.seed, white=values.white),
        "dataset": {name: info[name] for name in ("dataset", "fingerprint")},
        "command": commands.typed("simgan_tf.evaluation.objects"),
    }
    protocol = f"{values.split}-{values.limit or 'all'}" + "-white" * values.white
    path = values.out or os.path.join(folder, f"results-objects-{protocol}.json")
    files.write_text(path, json.dumps(results, indent=2, allow_nan=False) + "\n")
    for name, meaning in MEANING.items():
        if name in results:
            print(f"{name:15s} {results[name]:8.3f}   {meaning}")
    for colour, of in results["by_colour"].items():
        agreed = f"{of['agreement']:.3f} / {of['agreement_mean']:.3f}"
        print(f"{colour:15s} agreement {agreed}, spill {of['spill_mean']:.3f}, median Lab {of['lab_mean']}")
    print(f"{results['pictures']} {values.split} pictures at step {editor.step}; wrote {path}")


if __name__ == "__main__":
    commands.run(main, define_flags)
