"""Compares exported files with the live model on real inputs: finite first, then largest and mean difference."""

import dataclasses
import itertools
from typing import Any

import numpy as np
import tensorflow as tf

from data import pipeline, records
from export import tflite
from simgan_tf.edit import Editor
from simgan_tf.system.quiet import quiet

PICTURES = 8
# Largest and mean absolute difference allowed, of values in [-1, 1], whose 8-bit step is 7.8e-3. The aim is 1e-4.
# Rounding alone (fused batch norm, another order of sums) gives, worst of the loaders, 2.3e-6 and 2.9e-7 in preset
# simgan_demo, but 1.2e-4 and 3.9e-6 at 256x256 with 16 units, which needs more than the aim: the limit is ten times it.
LIMITS = (1e-3, 5e-5)


@dataclasses.dataclass(frozen=True)
class Cases:
    """n inputs and what the live model makes of them."""

    image: np.ndarray  # [n, S, S, 3] float32 in [-1, 1]
    text: list[str]  # n
    noise: np.ndarray  # [n, Z] float32; the first is zeros
    edited: np.ndarray  # [n, S, S, 3] float32
    pictures: str  # where they come from, in words

    def __len__(self) -> int:
        return len(self.text)

    def drawn(self, i: int) -> dict[str, np.ndarray]:
        """noise=[1, Z] of input i, as the exported signatures take it; nothing where the method draws none."""
        return {"noise": self.noise[i : i + 1]} if self.noise.shape[1] else {}


def cases(editor: Editor, records_dir: str | None = None, seed: int = 0) -> Cases:
    """PICTURES inputs with the live model's edits, one picture at a time, words found by the Python tokeniser.

    records_dir: takes the first test pictures and their first captions; None: smooth random pictures from `seed`, and
    the sentences of the sample sheet. Half of the sentences are made difficult: capitals and marks, unknown
    words, more words than T, letters beyond ASCII.
    Raises: FileNotFoundError or ValueError where records_dir holds no test split.
    """
    config = editor.config
    if records_dir is None:
        image = smooth_pictures(PICTURES, config.image_size, seed)
        text = list(itertools.islice(itertools.cycle(config.sentences), PICTURES))
        source = f"{PICTURES} smooth random pictures, seed {seed}"
    else:
        examples = list(records.first_examples(records_dir, "test", PICTURES))
        image = np.stack(
            [
                pipeline.centre_crop(
                    tf.io.decode_image(example.image, channels=3, expand_animations=False),
                    config.image_size,
                    config.load_size,
                ).numpy()
                for example in examples
            ]
        )
        text = [example.captions[0] for example in examples]
        source = f"first {len(examples)} test pictures of the records"
    bends = [
        lambda words: words.upper().replace(" ", ", ") + "!",
        lambda words: f"qqqq {words} zzzz",
        lambda words: " ".join([words] * editor.text_encoder.length),
        lambda words: f"caf\u00e9\u2014{words}\u3002",
    ]
    for i, bend in zip(range(1, len(text), 2), bends, strict=False):
        text[i] = bend(text[i])
    noise = editor.draw_noise(len(text), [seed, 1])
    noise[0] = 0
    inputs = Cases(image, text, noise, image, source)
    return dataclasses.replace(inputs, edited=edits(editor, inputs))


def edits(editor: Editor, inputs: Cases) -> np.ndarray:
    """What a live model makes of the inputs, one picture at a time: [n, S, S, 3] float32."""
    embedding = editor.method.encode(inputs.text)
    rows = [slice(i, i + 1) for i in range(len(inputs))]
    return np.concatenate([
        editor.method.edit(inputs.image[row], tf.constant(embedding[row]), inputs.noise[row]).numpy() for row in rows
    ])  # fmt: skip


def smooth_pictures(count: int, size: int, seed: int) -> np.ndarray:
    """[count, size, size, 3] float32 in [-1, 1]: 4x4 random colours each, enlarged smoothly."""
    colours = tf.random.stateless_uniform([count, 4, 4, 3], [seed, 2], -1.2, 1.2)
    return tf.clip_by_value(tf.image.resize(colours, [size, size], "bicubic"), -1.0, 1.0).numpy()


def compare(name: str, got: np.ndarray, expected: np.ndarray, limits: tuple[float, float] = LIMITS) -> dict[str, Any]:
    """n, finite, max_error, mean_error, psnr_db (peak 2, the width of [-1, 1]; None = no difference at all).

    Raises: ValueError with the numbers where a value is not finite or the differences exceed limits = (max, mean).
    """
    if got.shape != expected.shape:
        raise ValueError(f"{name}: gives shape {list(got.shape)}, the live model {list(expected.shape)}; not exported.")
    bad = int(np.size(got) - np.isfinite(got).sum())
    if bad:
        raise ValueError(f"{name}: {bad} of {got.size} values are not finite; not exported.")
    error = np.abs(got.astype(np.float64) - expected)
    largest, mean, square = float(error.max()), float(error.mean()), float((error**2).mean())
    if largest > limits[0] or mean > limits[1]:
        raise ValueError(
            f"{name}: differs from the live model by {largest:.2e} at most and {mean:.2e} on average over {len(got)} "
            f"inputs; allowed are {limits[0]:.0e} and {limits[1]:.0e}; not exported."
        )
    psnr = round(float(10 * np.log10(4.0 / square)), 1) if square else None
    return {"n": len(got), "finite": True, "max_error": largest, "mean_error": mean, "psnr_db": psnr}


def check_tflite(path: str, inputs: Cases, editor: Editor) -> dict[str, dict[str, Any]]:
    """`compare` of the file's two signatures, one input at a time, words by the vocabulary inside the file.

    Raises: ValueError.
    """
    from ai_edge_litert.interpreter import Interpreter

    contract, vocabulary = tflite.read_contract(path)
    tokens = vocabulary.batch(inputs.text, contract["tokens"]["length"])
    with quiet():
        interpreter = Interpreter(path)
        embed, edit = (interpreter.get_signature_runner(name) for name in ("embed", "edit"))
        embedding, edited = [], []
        for i in range(len(inputs)):
            embedding.append(embed(tokens=tokens[i : i + 1])["embedding"])
            edited.append(edit(image=inputs.image[i : i + 1], embedding=embedding[-1], **inputs.drawn(i))["edited"])
    return {
        "LiteRT embed": compare("TFLite embed", np.concatenate(embedding), editor.method.encode(inputs.text)),
        "LiteRT embed + edit": compare("TFLite embed + edit", np.concatenate(edited), inputs.edited),
    }
