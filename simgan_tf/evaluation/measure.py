"""What is measured of a system's edits: every number of MEANING, picture by picture, batch by batch.

Imports no TensorFlow until it measures, so that a command can say what its numbers mean at once.
"""

import collections
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from simgan_tf.evaluation import metrics, protocol

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
    "centre_accuracy": "edits whose centre has the colour the sentence names for it, and the petals theirs",
    "centre_accuracy_mean": "the same, of the edits by the code's mean",
    "centre_before": "unedited pictures whose centre has the colour asked for it already",
    "centre_reader": "unedited pictures whose own centre's colour is read right",
    "background_l1": "mean |edited - source| outside the mask, [0, 1] units",
    "background_l1_mean": "the same, of the edits by the code's mean",
    "spill": "share of the pixels outside the mask, its rim left out, whose colour moved by more than 15 in Lab's a, b",
    "spill_mean": "the same, of the edits by the code's mean",
    "change_l1": "mean |edited - source| over the whole picture; ManiGAN's difference",
    "change_ssim": "structural similarity of edit by the code's mean and source, 1 = equal",
    "diversity": "mean pairwise L1 of the samples, inside the mask where there is one",
    "diversity_ssim": "mean pairwise structural similarity of the samples, 1 = all are one",
    "smoothness": "largest over mean step on the way from the own to the asked sentence, 1 = even, 8 = one jump",
    "cycle_l1": "mean |reconstructed - source|",
    "reconstruction_l1": "mean |edited by the own caption - source|, by the code's mean",
    "reconstruction_l2": "root of the mean square of the same",
    "reconstruction_ssim": "structural similarity of the same, 1 = equal",
    "checkerboard": "energy at periods of 2 and 4 pixels in the edits by the code's mean, 1 = as in the pictures",
    "sharpness": "variance of the Laplacian of the edits by the code's mean, 1 = as in the pictures",
}
JUDGED = {  # by each judge of judges.py, whose kind follows the name
    "similarity": "cosine of edit and sentence",
    "similarity_source": "the same of the unedited picture and the sentence: what an edit begins with",
    "manipulative_precision": "(1 - change_l1) * similarity of each edit",
    "r_precision_100": "edits to which, of 100 sentences, the one asked for is nearest; chance is 0.01",
    "r_precision_100_source": "the same of the unedited pictures: what an edit begins with",
    "r_precision_100_own": "unedited pictures to which the own caption is nearest: how well the judge itself reads",
}
SETS = {  # numbers of all pictures together; what the name ends with is the features' size and how many pictures
    r"fid_2048_n\d+": "Frechet distance of edits and source pictures in Inception-v3's features, 0 = alike",
    r"kid_2048_n\d+": "kernel distance of the same, without bias, about 0 = alike",
    r"inception_score_10_n\d+": "of the edits, 10 parts; ImageNet's classes, 1 = all pictures alike",
    r"frechet_(phi|kiros)\d+_n\d+": "Frechet distance in the judge's own features; compares with no FID",
    r"kernel_(phi|kiros)\d+_n\d+": "kernel distance in the judge's own features; compares with no KID",
}
DETAIL = {"checkerboard": metrics.checkerboard_share, "sharpness": metrics.laplacian_variance}
WAYS, FRAMES = 64, 9  # pictures that smoothness is measured on, and pictures on each way
POOL = 2_000  # sentences that the wrong ones of R-precision are drawn from


def meaning(name: str) -> str:
    """What a number is; "" for what is none."""
    if name in MEANING:
        return MEANING[name]
    for stem, said in JUDGED.items():
        if re.fullmatch(rf"{stem}_(phi|kiros)", name):
            return said
    return next((said for pattern, said in SETS.items() if re.fullmatch(pattern, name)), "")


def numbers(
    editor: Any,
    pairs: protocol.Pairs,
    kind: str,
    exact: np.ndarray,
    samples: int,
    seed: int,
    load_size: int,
    judges: Sequence[Any] = (),
    inception: Any = None,
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """All numbers that the records of `pairs` allow and what stands beside them, and those that there are a picture.

    kind: words to ask every picture for, see `measure_words`, "" for none. load_size: pixels of a picture's shorter
    side, out of whose middle the editor's square is cut. judges, inception: of judges.py.
    Returns: found: the means by name, `intervals` of those that are means over pictures, and reports; values: [N] each.
    Raises: ValueError for a number that is not finite.
    """
    from data import pipeline
    from simgan_tf.evaluation import centres

    split, size = pairs.split, editor.config.image_size
    images = pipeline.decoded_images(split, size, load_size)
    masks = pipeline.decoded_masks(split, size, load_size) if split.masked.all() else None
    where = centres.Centres(split, size, load_size) if masks is not None and all(split.colours) else None
    found, values = measure(editor, images, masks, pairs, samples, seed, where, judges, inception)
    if kind and (asked := named(editor, kind)):
        more, of_pictures = measure_words(editor, images, split, kind, exact, seed, asked)
        found, values = found | more, values | of_pictures
    bad = [name for name in found if meaning(name) and not np.isfinite(found[name])]
    if bad:
        raise ValueError(f"{bad[0]}={found[bad[0]]} at step {editor.step}: not a number; nothing is written.")
    bounds = {name: protocol.interval(column) for name, column in values.items()}
    return found | {"intervals": {name: pair for name, pair in bounds.items() if pair}}, values


def batch_of(size: int) -> int:
    """How many pictures of `size` pixels are edited at a time: 32 of 64 pixels, two of 256, so that memory stays."""
    return int(np.clip(2**17 // size**2, 1, 32))


def measure(
    editor: Any,
    images: Any,
    masks: Any,
    pairs: protocol.Pairs,
    samples: int,
    seed: int,
    centres: Any = None,
    judges: Sequence[Any] = (),
    inception: Any = None,
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The numbers of MEANING for `images` [N, S, S, 3] of `pairs`, an array or `pipeline.Decoded`.

    Each picture is asked for the one sentence of its pair, with `samples` edits with noise drawn from `seed`, which all
    numbers count alike; the numbers named _mean count one edit without noise instead. The way back starts from the
    first sample and takes the picture's first caption; reconstruction_... edit the picture itself by it, without noise.
    Smoothness goes from that caption to the asked sentence in FRAMES pictures without noise, on WAYS pictures at even
    distances. Edits are judged batch by batch and not kept. masks: [N, S, S] bool, likewise, inside = the flower, or
    None: then only the numbers that need none are given. centres: [N, S, S] bool of the flowers' centres, likewise, of
    records that have colours; the numbers named centre_ need them, and count the pairs whose sentence names a colour
    for the centre. Numbers of SSIM need 11 pixels a side.
    judges: similarity and R-precision count every sample, the distances of sets the first sample of each picture,
    against the unedited pictures.

    Returns as `numbers`.
    """
    import tensorflow as tf
    from tqdm import tqdm

    from data.painter import COLOURS
    from simgan_tf.evaluation import centres as centres_of
    from simgan_tf.evaluation import objects

    count, split, sentences, wanted = len(images), pairs.split, pairs.sentences, pairs.colours
    coloured = masks is not None and all(split.colours)
    targets = editor.method.encode(list(sentences))
    first_captions = [captions[0] for captions in split.captions]
    own = editor.method.encode(first_captions)
    noise = [editor.draw_noise(count, [seed, k]) for k in range(samples)]
    noise.append(np.zeros_like(noise[0]))
    edit = tf.function(editor.method.edit, reduce_retracing=True)
    judged = [_Judged(judge, sentences, first_captions, count) for judge in judges]
    sets = _OfSets(inception, count) if inception else None
    seen = collections.defaultdict(list)  # name -> a number (or a colour) a picture, of each sample where there are
    with tqdm(total=count, unit="picture", desc="editing", delay=2, leave=False) as bar:
        for start in range(0, count, batch_of(images.shape[1])):
            rows = slice(start, min(start + batch_of(images.shape[1]), count))
            source = images[rows]
            where = np.ones(source.shape[:3], bool) if masks is None else masks[rows]
            edited = np.array([edit(source, targets[rows], drawn[rows]).numpy() for drawn in noise])
            sampled, mean = edited[:-1], edited[-1]
            back = edit(sampled[0], own[rows], noise[-1][rows]).numpy()
            same = edit(source, own[rows], noise[-1][rows]).numpy()
            require_finite(edited, back, same)
            seen["change_l1"].append([metrics.l1(sample, source) for sample in sampled])
            seen["diversity"].append(metrics.diversity(sampled, where))
            seen["cycle_l1"].append(metrics.l1(back, source))
            seen["reconstruction_l1"].append(metrics.l1(same, source))
            seen["reconstruction_l2"].append(metrics.l2(same, source))
            if source.shape[1] >= 11:
                seen["change_ssim"].append(metrics.ssim(mean, source))
                seen["diversity_ssim"].append(metrics.diversity_ssim(sampled))
                seen["reconstruction_ssim"].append(metrics.ssim(same, source))
            for name, of_picture in DETAIL.items():
                seen[name].append(of_picture(mean))
                seen[f"{name} of the pictures"].append(of_picture(source))
            if masks is not None:
                seen["background_l1"].append([metrics.l1_where(sample, source, ~where) for sample in sampled])
                seen["background_l1_mean"].append(metrics.l1_where(mean, source, ~where))
                seen["spill"].append([objects.spill(source, sample, where) for sample in sampled])
                seen["spill_mean"].append(objects.spill(source, mean, where))
            if coloured:
                for name, pictures in (("sampled", sampled), ("mean", mean[None]), ("source", source[None])):
                    seen[f"colours {name}"].append([dominant(every, where) for every in pictures])
                    if centres is not None:
                        seen[f"centres {name}"].append([centres_of.read(every, centres[rows]) for every in pictures])
            for each in judged:
                for name, column in each.add(start, source, sampled).items():
                    seen[name].append(column)
            if sets:
                sets.add(source, sampled[0])
            bar.update(len(source))
    seen = {name: np.concatenate(parts, axis=-1) for name, parts in seen.items()}

    values = {}
    for name, column in seen.items():
        if meaning(name):
            values[name] = (column if column.ndim == 1 else column.mean(axis=0)).astype(np.float64)
    for name in DETAIL:
        values[name] = values[name] / max(seen[f"{name} of the pictures"].mean(), 1e-12)
    values["smoothness"] = _smoothness(edit, images, own, targets, noise[-1])
    found: dict[str, Any] = {}
    if coloured:
        colours = np.array(split.colours)
        right = seen["colours sampled"] == wanted  # [samples, N]
        values["colour_accuracy"] = right.mean(axis=0)
        values["colour_accuracy_mean"] = (seen["colours mean"][0] == wanted).astype(float)
        shuffled = np.random.default_rng(seed).permutation(wanted)
        found["colour_chance"] = float(np.mean(seen["colours sampled"][0] == shuffled))
        values["colour_reader"] = (seen["colours source"][0] == colours).astype(float)
        found["by_colour"] = {name: float(right[:, wanted == name].mean()) for name in COLOURS if name in wanted}
    if centres is not None:
        asked = np.array([centres_of.asked(text, petals) for text, petals in zip(sentences, wanted, strict=True)])
        own_centre = np.array([centres_of.own(texts, c) for texts, c in zip(split.captions, colours, strict=True)])
        named_one, before = asked != "", seen["centres source"][0]
        both = right & (seen["centres sampled"] == asked)
        both_mean = (seen["colours mean"][0] == wanted) & (seen["centres mean"][0] == asked)
        values["centre_accuracy"] = np.where(named_one, both.mean(axis=0), np.nan)
        values["centre_accuracy_mean"] = np.where(named_one, both_mean, np.nan)
        values["centre_before"] = np.where(named_one, before == asked, np.nan)
        values["centre_reader"] = np.where(own_centre != "", before == own_centre, np.nan)
        found["centre_pairs"] = int(named_one.sum())
    values = {name: column for name, column in values.items() if not np.isnan(column).all()}
    found |= means(values)
    for each in judged:
        found |= each.distances()
    return found | (sets.distances() if sets else {}), values


def means(values: Mapping[str, np.ndarray]) -> dict[str, float]:
    """The mean of each column [N], NaN left out."""
    return {name: float(np.nanmean(column)) for name, column in values.items()}


def _smoothness(edit: Any, images: Any, own: np.ndarray, targets: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """`metrics.smoothness` of WAYS pictures at even distances, [N] with NaN for the others."""
    count, batch = len(images), batch_of(images.shape[1])
    chosen = np.unique(np.linspace(0, count - 1, min(WAYS, count)).astype(int))
    found = np.full(count, np.nan)
    for start in range(0, len(chosen), batch):
        rows = chosen[start : start + batch]
        source = images[rows]
        mixed = [(1 - share) * own[rows] + share * targets[rows] for share in np.linspace(0, 1, FRAMES, dtype="f4")]
        frames = np.array([edit(source, code, noise[rows]).numpy() for code in mixed])
        require_finite(frames)
        found[rows] = metrics.smoothness(frames)
    return found


class _Judged:
    """One judge's numbers of JUDGED, and the features of both sets."""

    def __init__(self, judge: Any, sentences: Sequence[str], own: Sequence[str], count: int) -> None:
        from simgan_tf.evaluation import distributions

        self.judge, self.name = judge, judge.kind
        self.targets, self.own = judge.hear(list(sentences)), judge.hear(list(own))
        pool = np.unique(np.linspace(0, count - 1, min(count, POOL)).astype(int))
        self.sentences, self.pool = np.array(sentences, object), pool
        self.edits, self.sources = (distributions.Features(judge.size, count) for _ in range(2))

    def others(self, row: int, text: str) -> np.ndarray | None:
        """Rows of 99 sentences that are not `text`, drawn by the picture's row; None where there are too few."""
        wrong = self.pool[self.sentences[self.pool] != text]
        need = metrics.CANDIDATES - 1
        return np.random.default_rng([protocol.SEED, row]).choice(wrong, need, False) if len(wrong) >= need else None

    def add(self, start: int, source: np.ndarray, sampled: np.ndarray) -> dict[str, Any]:
        rows = np.arange(start, start + len(source))
        before_features, before = self.judge.see(source)
        looked = [self.judge.see(sample) for sample in sampled]
        self.sources.add(before_features)
        self.edits.add(looked[0][0])
        found, vectors = {}, [vector for _, vector in looked]
        near = [metrics.cosine(vector, self.targets[rows]) for vector in vectors]
        found["similarity"] = near
        found["similarity_source"] = metrics.cosine(before, self.targets[rows])
        change = [metrics.l1(sample, source) for sample in sampled]
        found["manipulative_precision"] = [
            metrics.manipulative_precision(*each) for each in zip(change, near, strict=True)
        ]
        drawn = [self.others(row, self.sentences[row]) for row in rows]
        if all(each is not None for each in drawn):
            wrong = self.targets[np.array(drawn)]  # [n, 99, D]
            found["r_precision_100"] = [metrics.r_precision(each, self.targets[rows], wrong) for each in vectors]
            found["r_precision_100_source"] = metrics.r_precision(before, self.targets[rows], wrong)
            found["r_precision_100_own"] = metrics.r_precision(before, self.own[rows], wrong)
        return {f"{name}_{self.name}": column for name, column in found.items()}

    def distances(self) -> dict[str, float]:
        return _distances(self.edits, self.sources, f"frechet_{self.name}", f"kernel_{self.name}", "")


class _OfSets:
    """FID, KID and Inception score of edits against their sources."""

    def __init__(self, inception: Any, count: int) -> None:
        from simgan_tf.evaluation import distributions

        self.inception, self.score = inception, distributions.InceptionScore()
        self.edits, self.sources = (distributions.Features(inception.size, count) for _ in range(2))

    def add(self, source: np.ndarray, edited: np.ndarray) -> None:
        features, probabilities = self.inception.see(edited)
        self.edits.add(features)
        self.score.add(probabilities)
        self.sources.add(self.inception.see(source)[0])

    def distances(self) -> dict[str, float]:
        found = _distances(self.edits, self.sources, "fid", "kid", "_")
        if self.score.count >= 2 * self.score.splits:
            name = f"inception_score_{self.score.splits}_n{self.score.count}"
            found[name], found[f"{name}_std"] = self.score.result()
        return found


def _distances(edits: Any, sources: Any, frechet: str, kernel: str, between: str) -> dict[str, float]:
    """Both distances, under names with size and number; one that has too few pictures is left out and told."""
    from simgan_tf.evaluation import distributions

    found, ending = {}, f"{between}{edits.size}_n{edits.count}"
    try:
        found[frechet + ending] = distributions.frechet_distance(edits, sources)
    except ValueError as error:
        print(f"{frechet}{ending} left out: {error}")
    try:
        found[kernel + ending], found[f"{kernel}{ending}_std"] = distributions.kernel_distance(edits, sources)
    except ValueError as error:
        print(f"{kernel}{ending} left out: {error}")
    return found


def require_finite(*edits: np.ndarray) -> None:
    """Raises: ValueError where a generator gives anything else."""
    if not all(np.isfinite(edited).all() for edited in edits):
        raise ValueError("an edit has values that are not finite: this generator is broken; take an earlier --step.")


def dominant(pictures: np.ndarray, masks: np.ndarray) -> list[str]:
    """The demo's reader: the colour of painter.COLOURS inside the true mask of each picture."""
    from data.painter import COLOURS

    both = zip(metrics.to_unit(pictures), masks, strict=True)
    return [metrics.dominant_colour(picture[mask], COLOURS) for picture, mask in both]


def named(editor: Any, kind: str) -> tuple[str, ...]:
    """Those of colours.WORDS[kind] that the captions which the model learnt from name; () where it is one or none."""
    from simgan_tf.evaluation import colours

    known = tuple(word for word in colours.WORDS[kind].colours if not editor.text_encoder.unknown_words(word))
    return known if len(known) > 1 else ()


def measure_words(
    editor: Any, images: Any, split: Any, kind: str, exact: np.ndarray, seed: int, asked: Sequence[str]
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The numbers of MEANING that need neither masks nor colours of the records, for `images` [N, S, S, 3] of `split`.

    Each picture is asked for each of `asked`, the words of colours.WORDS[kind] that the model's captions name, in turn,
    the own one included, by the set's one sentence;
    one edit with noise drawn from `seed` as the first sample of `measure`, one without (the numbers named _mean).
    The mask is found on the source and serves its edits; the background is what lies beyond its border of 2 pixels of
    64. colour_chance judges the edits with noise by the asked words of all pairs, shuffled.
    exact: [N] bool, whether the captions are the picture's own: colour_reader counts these alone.

    Returns as `numbers`. Beside MEANING's, by_colour and by_colour_mean give colour_agreement by asked word, `reader`
    is `colours.check` of the exact pictures with left_out (pictures without one own colour by their captions) and
    pictures_all (all that colour_reader_all counts).
    """
    import tensorflow as tf
    from tqdm import tqdm

    from simgan_tf.evaluation import colours

    words, count, batch = colours.WORDS[kind], len(images), batch_of(images.shape[1])
    codes = editor.method.encode([words.sentence.format(colour) for colour in asked])
    asked = np.array(asked)
    noise = editor.draw_noise(count, [seed, 0])
    edit = tf.function(editor.method.edit, reduce_retracing=True)
    source_colours, read, outside = [], {"": [], "_mean": []}, {"": [], "_mean": []}
    with tqdm(total=count, unit="picture", desc="asking for colours", delay=2, leave=False) as bar:
        for start in range(0, count, batch):
            rows = slice(start, min(start + batch, count))
            source = images[rows]
            masks = colours.foreground(source)
            beyond = colours.background(masks)
            source_colours.append(colours.read(source, masks, words))
            for name, drawn in (("", noise[rows]), ("_mean", np.zeros_like(noise[rows]))):
                edited = [edit(source, np.repeat(code[None], len(source), axis=0), drawn).numpy() for code in codes]
                require_finite(*edited)
                read[name].append([colours.read(pictures, masks, words) for pictures in edited])
                outside[name].append([metrics.l1_where(pictures, source, beyond) for pictures in edited])
            bar.update(len(source))
    source_colours = np.concatenate(source_colours)
    new = asked[:, None] != source_colours  # [words, N]

    found: dict[str, Any] = {}
    values: dict[str, np.ndarray] = {}
    for name in read:
        answers = np.concatenate(read[name], axis=1)  # [words, N]
        right = answers == asked[:, None]
        values[f"colour_agreement{name}"] = right.mean(axis=0)
        values[f"background_l1{name}"] = np.concatenate(outside[name], axis=1).mean(axis=0)
        found[f"colour_agreement_new{name}"] = float(right[new].mean())
        found[f"by_colour{name}"] = dict(zip(asked.tolist(), right.mean(axis=1).tolist(), strict=True))
        if not name:
            shuffled = np.random.default_rng(seed).permutation(np.repeat(asked, count)).reshape(answers.shape)
            found["colour_chance"] = float(np.mean(answers == shuffled))
    values = {name: column for name, column in values.items() if not np.isnan(column).all()}
    found |= means(values)
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
    report |= {"left_out": left_out, "pictures_all": everyone["pictures"]}
    return found | {"words": kind, "reader": report}, values
