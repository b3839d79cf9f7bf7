"""Fills records with an encoder's vectors of their captions, in place.

python -m simgan_tf.text.embed --records_dir=records/cub --encoder=runs/cub/text_encoder
"""

import dataclasses
import os
import shlex
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

import numpy as np
import tqdm
from absl import flags

from data import records
from simgan_tf.system import commands, files
from simgan_tf.text.shown import is_known

if TYPE_CHECKING:
    from simgan_tf.text import encoders


def embed(records_dir: str, encoder: "encoders.TextEncoder") -> tuple[dict[str, object], list[str]]:
    """Writes the records anew with phi of every caption; returns dataset.json and the captions without a known word.

    Pictures, captions and the data set's fingerprint stay. Nothing is written where the records hold this encoder's
    vectors already.

    Raises: ValueError or OSError, one line each; `records_dir` is then as it was.
    """
    info = records.read_info(records_dir)
    have = info.get("embeddings") or {}
    if have.get("fingerprint") == encoder.fingerprint:
        return info, []
    squares, numbers, unknown = 0.0, 0, []

    def filled(split: str, examples: Iterable[records.Example]) -> Iterator[records.Example]:
        nonlocal squares, numbers
        texts = _captions(records_dir, split, info)
        vectors = encoder.encode(list(texts))
        if (wrong := np.flatnonzero(~np.isfinite(vectors).all(axis=1))).size:
            raise ValueError(f"Encoder {encoder.name!r} gives numbers that are not finite for "
                             f"{list(texts)[wrong[0]]!r}; its weights are damaged, load it anew.")  # fmt: skip
        unknown.extend(text for text in texts if not is_known(text, encoder))
        for example in examples:
            rows = vectors[[texts[caption] for caption in example.captions]]  # [captions, D]
            squares += float(np.einsum("nd,nd->", rows, rows, dtype=np.float64))
            numbers += rows.size
            yield dataclasses.replace(example, embeddings=rows)

    def entry(splits: dict[str, dict]) -> dict[str, object]:
        scale = float(np.sqrt(squares / numbers))
        facts = records.embeddings_entry(splits, encoder.name, scale, "simgan_tf.text.embed", encoder.fingerprint)
        return {**facts, "phi_scale": encoder.phi_scale}

    return _rewrite(records_dir, info, filled, entry), unknown


def remove(records_dir: str) -> dict[str, object]:
    """Writes the records anew without embeddings; returns dataset.json. Raises as `embed`."""
    info = records.read_info(records_dir)
    if info.get("embeddings") is None:
        return info

    def emptied(split: str, examples: Iterable[records.Example]) -> Iterator[records.Example]:
        return (dataclasses.replace(example, embeddings=None) for example in examples)

    return _rewrite(records_dir, info, emptied, lambda splits: None)


def _rewrite(records_dir: str, info: dict, change: Callable, entry: Callable) -> dict[str, object]:
    """Every split through `change`, as a new folder in the old one's place; returns the new dataset.json."""
    splits = {}
    with files.replacing_folder(os.path.realpath(records_dir)) as folder:
        for split, part in info["splits"].items():
            examples = tqdm.tqdm(
                change(split, records.read_examples(records_dir, split)),
                total=part["images"],
                unit="image",
                desc=f"writing {split}",
                delay=2,
            )
            splits[split] = records.write_split(folder, split, examples, info["shards"])
            if splits[split]["fingerprint"] != part["fingerprint"]:
                raise ValueError(
                    f"The {split} records in {records_dir!r} are not those that its dataset.json tells of "
                    "(another fingerprint); build the folder again."
                )
        info = {**info, "splits": splits, "embeddings": entry(splits)}
        records.write_info(folder, info)
    return info


def _captions(records_dir: str, split: str, info: dict) -> dict[str, int]:
    """Number of every different caption of the split, in order of appearance."""
    examples = tqdm.tqdm(
        records.read_examples(records_dir, split), total=info["splits"][split]["images"], unit="image",
        desc=f"reading {split}", delay=2, leave=False,
    )  # fmt: skip
    texts = dict.fromkeys(caption for example in examples for caption in example.captions)
    return {text: number for number, text in enumerate(texts)}


def define_flags() -> None:
    flags.DEFINE_string("records_dir", None, "Folder that data.build wrote; its records are replaced.", required=True)
    flags.DEFINE_string(
        "encoder",
        "",
        "What makes the vectors: the text_encoder folder of a run, a Kiros NAME.npz (beside NAME.npz.dictionary.pkl) "
        "or a char-CNN-RNN .t7.",
    )
    flags.DEFINE_bool("remove", False, "Take the embeddings out of the records instead.")


def main(argv: list[str]) -> None:
    """Fills the records, or empties them, and says what they hold now."""
    values = flags.FLAGS
    if bool(values.encoder) == values.remove:
        raise ValueError(f"--encoder={values.encoder!r} with --remove={values.remove}: give one of the two.")
    before = records.read_info(values.records_dir).get("embeddings")
    if values.remove:
        commands.start_tensorflow()
        remove(values.records_dir)
        print(f"{values.records_dir}: " + ("embeddings taken out" if before else "held no embeddings; left as it is"))
        return
    os.stat(values.encoder)  # before TensorFlow starts, so that a wrong name costs no time
    commands.start_tensorflow()
    from simgan_tf.text import encoders

    encoder = encoders.load(values.encoder)
    info, unknown = embed(values.records_dir, encoder)
    entry = info["embeddings"]
    state = "left as it is, it already holds" if entry == before else "holds"
    print(f"{values.records_dir}: {state} {entry['name']}, dim {entry['dim']}, scale {entry['scale']:.4g}")
    if unknown:
        print(f"note: {len(unknown):,} different captions have no word that the encoder knows, such as {unknown[0]!r}")
    where = f"--records_dir={shlex.quote(values.records_dir)} --text_encoder={shlex.quote(values.encoder)}"
    print("next: " + commands.as_typed(f"python run_train.py --preset=... {where} --run_dir=..."))


def command() -> None:
    commands.run(main, define_flags)


if __name__ == "__main__":
    command()
