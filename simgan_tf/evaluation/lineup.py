"""Several trained systems before the same pictures and sentences: what the comparison and the human study share."""

import dataclasses
import os
from typing import TYPE_CHECKING, Any

from absl import flags

from simgan_tf import configs
from simgan_tf.configs.base import Base
from simgan_tf.system import commands

if TYPE_CHECKING:
    import numpy as np

    from data.splits import Split


def define_flags() -> None:
    flags.DEFINE_list(
        "run_dirs", None, "Run directories, or names of models inside this package, with commas between: the systems, "
        "in their order.", required=True,
    )  # fmt: skip
    flags.DEFINE_list("names", [], "What the systems are called, one a run; default the folders' names.")
    flags.DEFINE_string(
        "records_dir", None, "Folder that data.build wrote. Default: the one that the first run was trained on."
    )
    flags.DEFINE_enum("split", "test", ["test", "train"], "Split whose pictures are edited.")
    flags.DEFINE_list("keys", [], "Pictures to show, by their keys, in place of those at even distances.")
    flags.DEFINE_multi_string(
        "text", [], "Sentence of the first picture, of the second, and so on, in turns; default those of the first "
        "run's sample sheet.",
    )  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Lineup:
    """The systems, and what all of them are shown."""

    names: list[str]
    run_dirs: list[str]
    loaded: list[tuple[Base, dict[str, Any]]]  # config and facts of each
    records_dir: str
    info: dict[str, Any]  # of the records
    split: "Split"  # the whole one
    shown: "Split"  # the pictures that are looked at
    sentences: list[str]  # one each of these
    frame: float  # a picture's shorter side over the part of it that every system edits

    @property
    def largest(self) -> int:
        """Pixels of the largest system's square."""
        return max(config.image_size for config, _ in self.loaded)

    def images(self, size: int) -> "np.ndarray":
        """The shown pictures, [N, size, size, 3] float32 in [-1, 1]."""
        from data import pipeline

        return pipeline.evaluation_images(self.shown, size, round(size * self.frame))


def of_flags(values: flags.FlagValues, count: int) -> Lineup:
    """The systems that the flags name, with `count` pictures at even distances in key order or those of --keys.

    Starts TensorFlow, once it is sure that the runs are there. The frame is that of the system that was trained to see
    the tightest one.
    Raises: ValueError or FileNotFoundError where the flags name no run, no records or no picture, and for a sentence
    that one of the systems cannot hear.
    """
    from simgan_tf.edit import directory_of
    from simgan_tf.evaluation.__main__ import records_of

    if not all(values.run_dirs):
        raise ValueError(f"--run_dirs={','.join(values.run_dirs)} has a comma without a run directory beside it.")
    names = names_of(values.run_dirs, values.names)
    run_dirs = [directory_of(run_dir) for run_dir in values.run_dirs]
    records_dir = records_of(run_dirs[0], values.records_dir)
    loaded = [configs.load(run_dir) for run_dir in run_dirs]  # a wrong one is told now, not after the others' hours
    commands.start_tensorflow()
    from data import records, splits
    from simgan_tf.text import encoders

    info = records.read_info(records_dir)
    split = splits.load_split(records_dir, values.split)
    shown = split.take(rows_of(values.keys, list(split.keys))) if values.keys else split.spread(count)
    sentences = list(values.text or loaded[0][0].sentences)
    sentences = [sentences[i % len(sentences)] for i in range(len(shown))]
    for name, run_dir in zip(names, run_dirs, strict=True):  # a sentence that one of them cannot hear is told now
        encoder = encoders.load(run_dir)
        for text in sentences:
            try:
                encoder.check(text)
            except ValueError as error:
                raise ValueError(f"{name}: {error}; give sentences that every system knows, --text=...") from None
    frame = max(config.load_size / config.image_size for config, _ in loaded)
    return Lineup(names, run_dirs, loaded, records_dir, info, split, shown, sentences, frame)


def names_of(run_dirs: list[str], given: list[str]) -> list[str]:
    """Those given, or the folders' names. Raises: ValueError for another count, or a name that stands twice."""
    if given and len(given) != len(run_dirs):
        raise ValueError(f"--names={','.join(given)} are {len(given)} names for {len(run_dirs)} run directories.")
    names = given or [os.path.basename(os.path.normpath(run_dir)) for run_dir in run_dirs]
    names = [commands.escaped(name).replace("|", "/") for name in names]  # they become cells of a table
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"two systems are called {twice[0]!r}: give each its own, --names=A,B,...")
    return names


def rows_of(wanted: list[str], keys: list[str]) -> list[int]:
    """The rows of these keys. Raises: ValueError for one that the split has not, naming some that it has."""
    unknown = [key for key in wanted if key not in keys]
    if unknown:
        raise ValueError(f"--keys={unknown[0]} is no picture of this split; it has {', '.join(keys[:3])} ...")
    return [keys.index(key) for key in wanted]


def grid(head: list[str], rows: list[list[str]]) -> list[str]:
    """Lines of a Markdown table."""
    return ["| " + " | ".join(cells) + " |" for cells in (head, ["---"] * len(head), *rows)]
