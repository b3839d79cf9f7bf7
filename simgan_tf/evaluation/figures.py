"""The sheets people look at: sources beside their edits, several samples, an interpolation."""

import io
import json
import os

import numpy as np
import tensorflow as tf
from matplotlib.figure import Figure
from PIL import Image

from simgan_tf.edit import Editor
from simgan_tf.system import files, pictures

PRINTED = 256  # pixels of a cell of the paper's figures: eight in 17 cm are 300 to the inch, words 6.7 points high


def edits(
    method: object,
    images: np.ndarray,
    own: list[str],
    sentences: list[str],
    size: int | None = None,
) -> Image.Image:
    """source | reconstruction | one edit a sentence, a row a picture, all without noise.

    images: [N, S, S, 3] in [-1, 1]. own: a true caption of each. The reconstruction is x_tilde of Eq. 2: back from the
    first edit by the picture's own caption. size: pixels of a cell, default as in `pictures.sheet`.
    """
    images = tf.constant(images)
    noise = tf.zeros([len(own), method.noise_size])
    columns = [method.edit(images, tf.constant(method.encode([text] * len(own))), noise) for text in sentences]
    back = method.edit(columns[0], tf.constant(method.encode(own)), noise)
    columns = [column.numpy() for column in (images, back, *columns)]
    rows = [[column[i] for column in columns] for i in range(len(own))]
    back_title = "reconstruction" if size is None or size >= 80 else "recon- struction"  # wrapped: wider than the cell
    return pictures.sheet(rows, ["source", back_title, *sentences], size)


def samples(editor: Editor, images: np.ndarray, sentence: str, count: int, seed: int = 0) -> Image.Image:
    """source | `count` edits by one sentence (Fig. 1); the first without noise, the others with their own draws."""
    rows = [[image, *editor.edit(image, sentence, count, seed)] for image in images]
    return pictures.sheet(rows, ["source", sentence, *[f"sample {i}" for i in range(2, count + 1)]], PRINTED)


def interpolation(editor: Editor, images: np.ndarray, sentence: str, to_sentence: str, steps: int) -> Image.Image:
    """source | `steps` pictures from one sentence to another, both ends marked (Fig. 4)."""
    rows = [[image, *editor.interpolate(image, sentence, to_sentence, steps)] for image in images]
    shares = [f"{i / (steps - 1):.0%}" for i in range(1, steps - 1)]
    return pictures.sheet(rows, ["source", f"from: {sentence}", *shares, f"to: {to_sentence}"], PRINTED)


def teaser(editor: Editor, images: np.ndarray, sentences: list[str], seed: int = 0) -> Image.Image:
    """source | one edit a sentence | three samples of one sentence | five pictures from one sentence to another.

    images: [N, S, S, 3] in [-1, 1], a row each. The middle sentence is sampled; the way goes from the first to the
    fourth of them, or the last.
    """
    sampled, first, last = sentences[len(sentences) // 2], sentences[0], sentences[min(3, len(sentences) - 1)]
    rows = []
    for image in images:
        edited = [editor.edit(image, sentence)[0] for sentence in sentences]
        rows.append([image, *edited, *editor.edit(image, sampled, 4, seed)[1:],
                     *editor.interpolate(image, first, last, 5)])  # fmt: skip
    titles = ["source", *sentences, sampled, "again", "and again", f"from: {first}", "", "", "", f"to: {last}"]
    return pictures.sheet(rows, titles)


def one_each(editor: Editor, images: np.ndarray, sentences: list[str]) -> list[np.ndarray]:
    """The edit of each picture by its own sentence, without noise. images: [N, S, S, 3] in [-1, 1]."""
    return [editor.edit(image, sentence)[0] for image, sentence in zip(images, sentences, strict=True)]


def compared(columns: list[list[np.ndarray]], titles: list[str], sentences: list[str]) -> Image.Image:
    """source | sentence | one edit a system, a row a picture (Fig. 3); all at the first column's size, nearest pixels.

    columns: the sources, and each system's edits of them, pictures [S, S, 3] in [-1, 1] of a size a column. titles: one
    a column.
    """
    rows = [list(row) for row in zip(*columns, strict=True)]
    return pictures.sheet(rows, titles, PRINTED, labels=sentences)


def curves(run_dir: str) -> Image.Image:
    """The rows of metrics.jsonl as curves over steps: terms of D, of G and of a style encoder, D's mean scores.

    Each is the mean of ten logged rows, since a row is one batch. Totals and lengths of gradients are left out.
    Raises: FileNotFoundError where nothing was logged; ValueError for a line that is no row, or rows without terms.
    """
    rows = []
    path = os.path.join(run_dir, "metrics.jsonl")
    with files.open_regular(path) as log:
        for number, line in enumerate(log, start=1):
            try:
                row = json.loads(line)
                float(row["step"] + sum(row.values()))  # all are numbers
                rows.append(row)
            except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError):
                raise ValueError(f"{path}, line {number} is no row of numbers with a step; take it out.") from None
    if not rows:
        raise ValueError(f"{path} has no row yet; train first.")
    titles = {"d_": "D's terms", "g_": "G's terms, weighted", "s_": "S's terms", "score_": "D's mean scores"}
    names = dict.fromkeys(name for row in rows for name in row if not name.endswith(("_loss", "_norm")))
    lines = {prefix: [name for name in names if name.startswith(prefix)] for prefix in titles}
    logged = [prefix for prefix in titles if lines[prefix]]  # a method need not log scores
    if not logged:
        raise ValueError(f"{path} logs no term that begins with {', '.join(titles)}: it is of no training here.")
    figure = Figure(figsize=(7, 2.3), layout="constrained")  # inches: a page's width
    for axes, prefix in zip(figure.subplots(1, len(logged), squeeze=False)[0], logged, strict=True):
        for name in lines[prefix]:
            points = [(row["step"], row[name]) for row in rows if name in row]
            groups = [points[i : i + 10] for i in range(0, len(points), 10)]
            with np.errstate(all="ignore"):  # a training that diverged
                line = np.array([np.mean(group, axis=0) for group in groups]).T
            axes.plot(*line, label=name.removeprefix(prefix), linewidth=1)
        axes.set_title(titles[prefix], fontsize=8)
        axes.set_xlabel("step", fontsize=7)
        if prefix == "g_":
            axes.set_yscale("log")
        axes.tick_params(labelsize=7, which="both")
        axes.legend(fontsize=6.5)
        axes.grid(alpha=0.3)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=250)
    return Image.open(buffer).convert("RGB")
