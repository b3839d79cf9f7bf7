"""The sheets people look at: sources beside their edits, several samples, an interpolation."""

import io
import json
import os

import numpy as np
import tensorflow as tf
from matplotlib.figure import Figure
from PIL import Image

from simgan_tf.edit import Editor
from simgan_tf.system import pictures


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
    """source | `count` edits by one sentence; the first without noise, the others with their own draws."""
    rows = [[image, *editor.edit(image, sentence, count, seed)] for image in images]
    return pictures.sheet(rows, ["source", sentence, *[f"sample {i}" for i in range(2, count + 1)]])


def interpolation(editor: Editor, images: np.ndarray, sentence: str, to_sentence: str, steps: int) -> Image.Image:
    """source | `steps` pictures from one sentence to another (Fig. 4)."""
    rows = [[image, *editor.interpolate(image, sentence, to_sentence, steps)] for image in images]
    return pictures.sheet(rows, ["source", sentence, *[""] * (steps - 2), to_sentence])


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


def curves(run_dir: str) -> Image.Image:
    """The rows of metrics.jsonl as curves over steps: terms of D, terms of G, D's mean scores.

    Each is the mean of ten logged rows, since a row is one batch. Raises: FileNotFoundError where nothing was logged.
    """
    with open(os.path.join(run_dir, "metrics.jsonl"), encoding="utf-8") as log:
        rows = [json.loads(line) for line in log]
    figure = Figure(figsize=(12, 3.4), layout="constrained")
    titles = {"d_": "D's terms", "g_": "G's terms, weighted", "score_": "D's mean scores"}
    lines = {prefix: [name for name in rows[-1] if name.startswith(prefix) and not name.endswith("_loss")]
             for prefix in titles}  # fmt: skip
    logged = [prefix for prefix in titles if lines[prefix]]  # a method need not log scores
    for axes, prefix in zip(figure.subplots(1, len(logged)), logged, strict=True):
        for name in lines[prefix]:
            points = [(row["step"], row[name]) for row in rows if name in row]
            groups = [points[i : i + 10] for i in range(0, len(points), 10)]
            axes.plot(*np.array([np.mean(group, axis=0) for group in groups]).T, label=name.removeprefix(prefix))
        axes.set(title=titles[prefix], xlabel="step")
        if prefix == "g_":
            axes.set_yscale("log")
        axes.legend()
        axes.grid(alpha=0.3)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=100)
    return Image.open(buffer).convert("RGB")
