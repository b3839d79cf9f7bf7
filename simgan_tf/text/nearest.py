"""Prints the captions whose phi is nearest to a sentence's, to look at what phi has learnt.

python -m simgan_tf.text.nearest --run_dir=runs/demo --records_dir=runs/demo/records --text="a red flower"
"""

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from absl import flags

from data import records
from simgan_tf.system import commands

if TYPE_CHECKING:
    from simgan_tf.text import encoders


def nearest(encoder: "encoders.TextEncoder", text: str, captions: Sequence[str], count: int) -> list[tuple[float, str]]:
    """(cosine, caption) of the `count` captions nearest to `text`, nearest first.

    Of captions with the same words only the first is taken; one whose phi is zero has cosine 0.

    Raises:
        ValueError: nothing of `text` reaches phi.
    """
    from simgan_tf.text.vse import unit
    from simgan_tf.text.words import word_list

    encoder.check(text)
    first_of: dict[tuple[str, ...], str] = {}
    for caption in captions:
        first_of.setdefault(tuple(word_list(caption)), caption)
    distinct = list(first_of.values())
    vectors = unit(encoder.encode([text, *distinct]))
    cosines = vectors[1:] @ vectors[0]
    return [(float(cosines[i]), distinct[i]) for i in np.argsort(-cosines, kind="stable")[:count]]


def define_flags() -> None:
    flags.DEFINE_string("run_dir", None, "Folder of the run, with text_encoder/.", required=True)
    flags.DEFINE_string("records_dir", None, "Folder that data.build wrote.", required=True)
    flags.DEFINE_string("text", None, "The sentence.", required=True)
    flags.DEFINE_integer("count", 10, "Captions to print.", lower_bound=1)
    flags.DEFINE_string("split", "test", "Split whose captions are searched.")


def main(argv: list[str]) -> None:
    values = flags.FLAGS
    os.stat(values.run_dir)  # before TensorFlow starts, so that a wrong name costs no time
    records.read_info(values.records_dir)
    commands.start_tensorflow()
    from simgan_tf.text import encoders

    encoder = encoders.load(os.path.join(values.run_dir, "text_encoder"))
    captions = [caption for example in records.first_examples(values.records_dir, values.split)
                for caption in example.captions]  # fmt: skip
    unknown = encoder.unknown_words(values.text)
    if unknown:
        print(f"not known: {', '.join(unknown)}")
    for cosine, caption in nearest(encoder, values.text, captions, values.count):
        print(f"{cosine:6.3f}  {commands.escaped(caption)}")


def command() -> None:
    commands.run(main, define_flags)


if __name__ == "__main__":
    command()
