"""Draws which words of a sentence a trained system's discriminator listens to, and which of them it sees in a picture.

python -m simgan_tf.evaluation.attention --run_dir=runs/tagan --image=flower.jpg \\
    --text="this flower has red petals with a yellow center" --out=attention.png

For systems whose method has `attention` (tagan), and run directories that still hold their discriminator: a packed
model has it where it was packed for training too.
"""

import io
import textwrap
from typing import Any

import numpy as np
from absl import flags

from simgan_tf.system import commands


def define_flags() -> None:
    flags.DEFINE_string("run_dir", None, "Run directory of run_train.py.", required=True)
    flags.DEFINE_string("image", None, "Picture to look at; its central square is taken.", required=True)
    flags.DEFINE_multi_string("text", None, "Sentence to listen to; repeat it for several.", required=True)
    flags.DEFINE_string("out", None, "Picture to write, .png or .jpg.", required=True)


def main(argv: list[str]) -> None:
    from simgan_tf import configs
    from simgan_tf.system.pictures import check_image_name, save_image

    values = flags.FLAGS
    check_image_name(values.out)
    configs.load(values.run_dir)
    commands.start_tensorflow()
    from simgan_tf.edit import Editor

    editor = Editor(values.run_dir)
    method = judge(editor, values.run_dir)
    image = editor.read(values.image)
    told = [(text, listen(method, image, text)) for text in values.text]
    for text, words in told:
        print(text)
        for word, weight, answer in words:
            print(f"  {word:16s} {weight:6.3f} of the attention, fits {answer:.3f}")
    save_image(draw([(image, told)]), values.out)
    print(f"wrote {values.out}")


def judge(editor: Any, run_dir: str) -> Any:
    """A method like the editor's, of which only the networks that train alone are filled: it judges and does not edit.

    Raises: ValueError for a method that has no attention, or a checkpoint without those networks.
    """
    from simgan_tf import checkpoints, methods

    if not hasattr(editor.method, "attention"):
        raise ValueError(f"{run_dir} is a run of {editor.config.method}, which weighs no words; tagan does.")
    method = methods.build(editor.config, editor.text_encoder, 1)
    held = checkpoints.folders_of(run_dir, editor.step)
    for name, variables in checkpoints.training_parts(method).items():
        if name not in held:
            raise ValueError(
                f"{run_dir} holds no {name}: it was packed to edit alone. Give the run directory that it was packed "
                "from, or pack that again with --for_training."
            )
        checkpoints.restore_parts(held[name], {name: variables}, editor.step)
    return method


def listen(method: Any, image: np.ndarray, text: str) -> list[tuple[str, float, float]]:
    """(word, attention, fit) of each word of `text`; attention adds up to 1, fit is 0 to 1. image: [S, S, 3].

    Raises: ValueError for a sentence of which nothing is known to the text encoder.
    """
    import tensorflow as tf

    encoder = method.text_encoder
    encoder.check(text)
    tokens = encoder.tokens([text])
    weights, answers = (x.numpy()[0] for x in method.attention(tf.constant(image[None]), tf.constant(tokens)))
    names = [*encoder.vocabulary.SPECIAL, *encoder.vocabulary.words]
    count = int(np.count_nonzero(tokens))
    return [(names[tokens[0, i]], float(weights[i]), float(answers[i])) for i in range(count)]


def sheet(method: Any, images: np.ndarray, texts: list[list[str]]) -> Any:
    """The attention of each picture's sentences, a row a picture: images [N, S, S, 3], texts N lists of one length."""
    told = [[(text, listen(method, image, text)) for text in each] for image, each in zip(images, texts, strict=True)]
    return draw([*zip(images, told, strict=True)])


def draw(rows: list[tuple[np.ndarray, list[tuple[str, list[tuple[str, float, float]]]]]]) -> Any:
    """A row a picture: beside it for each sentence a bar a word, whose length is the attention, its colour the fit."""
    from matplotlib import colormaps
    from matplotlib.figure import Figure
    from PIL import Image

    from simgan_tf.system.pictures import to_pixels

    count = len(rows[0][1])
    tallest = [max(3.0, 0.3 * max(len(words) for _, words in told) + 1) for _, told in rows]
    figure = Figure(figsize=(3 + 3.6 * count, sum(tallest)), layout="constrained")
    shades = colormaps["RdYlGn"]
    places = figure.subplots(len(rows), 1 + count, squeeze=False, height_ratios=tallest)
    for (image, told), (first, *others) in zip(rows, places, strict=True):
        first.imshow(to_pixels(image), interpolation="nearest")
        first.set_axis_off()
        for axes, (text, words) in zip(others, told, strict=True):
            bars = axes.barh(
                range(len(words)), [weight for _, weight, _ in words], color=[shades(answer) for *_, answer in words]
            )
            axes.bar_label(bars, [f" {answer:.2f}" for *_, answer in words])
            axes.set_yticks(range(len(words)), [word for word, *_ in words])
            axes.invert_yaxis()
            axes.margins(x=0.2)
            axes.set(title=textwrap.fill(text, 40), xlabel="attention; colour, number: how well it fits")
            axes.title.set_fontsize(8)
            axes.xaxis.label.set_fontsize(8)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return Image.open(buffer).convert("RGB")


if __name__ == "__main__":
    commands.run(main, define_flags)
