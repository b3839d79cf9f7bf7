"""The one protocol of every system: which picture is asked for what, how sure a mean is, whether two systems differ.

The pairs of picture and sentence are written once, into the records' folder, and read from there ever after, so that
every method, run and machine is asked the same.
"""

import csv
import dataclasses
import io
import json
import math
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import stats

from data import records
from simgan_tf.evaluation import ranks
from simgan_tf.system import files

if TYPE_CHECKING:
    from data.splits import Split

FORMAT_VERSION = 1
SEED = 0  # of the pairs: there is one list
MOST = 20_000  # pairs of a split; of a larger one, pictures at even distances in key order
RESAMPLES, LEVEL = 2_000, 0.95  # of the intervals
EXACT = 50  # differences
MAX_BYTES = 2**26  # of a list, or of a table of numbers a picture


@dataclasses.dataclass(frozen=True)
class Pairs:
    """Pictures, each with the one sentence that it is asked for; all [N]."""

    split: "Split"  # the pictures, in key order
    sentences: Sequence[str]  # a caption of another picture
    colours: np.ndarray  # str, the petals' colour of that picture, "" where the records have none

    def __len__(self) -> int:
        return len(self.sentences)

    def spread(self, count: int) -> "Pairs":
        """`count` of them at even distances (all, where there are fewer)."""
        rows = np.unique(np.linspace(0, len(self) - 1, count).astype(int))
        return Pairs(self.split.take(rows), [self.sentences[row] for row in rows], self.colours[rows])


def draw(split: "Split") -> list[list[Any]]:
    """[row, key, other row, other key, sentence, colour] for each picture of `split`, at most MOST.

    The other picture is drawn from those of another class, in the demo also of another colour, its sentence from its
    captions; where all are of one class, from all others. A pure function of the records.
    Raises: ValueError where there is no other picture.
    """
    if len(split) < 2:
        raise ValueError(f"a split of {len(split)} picture has no other picture whose sentence could be asked for.")
    random = np.random.default_rng(SEED)
    colours = np.array(split.colours) if split.colours[0] else np.full(len(split), "")
    pairs = []
    for row in np.unique(np.linspace(0, len(split) - 1, min(MOST, len(split))).astype(int)).tolist():
        allowed = split.class_ids != split.class_ids[row]
        if colours[row]:
            allowed &= colours != colours[row]
        if not allowed.any():
            allowed = np.arange(len(split)) != row
        other = int(random.choice(np.flatnonzero(allowed)))
        captions = split.captions[other]
        sentence = captions[random.integers(len(captions))]
        pairs.append([row, split.keys[row], other, split.keys[other], sentence, str(colours[other])])
    return pairs


def load(records_dir: str, name: str, split: "Split") -> Pairs:
    """The pairs of `split`, the whole one called `name`: those in the records' folder, written there at first use.

    A list of other records, such as those that lay there before, is written anew. Where nothing can be written (a
    folder that others own) the same pairs are drawn each time.
    Raises: ValueError for a damaged list.
    """
    path, fingerprint = records.pairs_path(records_dir, name), records.read_info(records_dir)["fingerprint"]
    head = {"format_version": FORMAT_VERSION, "fingerprint": fingerprint, "split": name, "seed": SEED}
    remedy = "delete the file, and it is written again"
    stored = files.read_json(path, remedy, MAX_BYTES) if os.path.isfile(path) else {}
    if not isinstance(stored, dict) or {key: stored.get(key) for key in head} != head:
        stored = {**head, "pairs": draw(split)}
        lines = ",\n".join(json.dumps(pair, ensure_ascii=False) for pair in stored["pairs"])
        try:
            files.write_text(path, f'{json.dumps(head)[:-1]}, "pairs": [\n{lines}\n]}}\n')
        except OSError as error:
            print(f"{path} cannot be written ({error.strerror}); the same pairs are drawn each time.")
    if not _sound(stored.get("pairs"), len(split)):
        raise ValueError(f"{path} is damaged: not the pairs of {len(split)} pictures; {remedy}.")
    rows = np.array([pair[0] for pair in stored["pairs"]])
    whole = len(rows) == len(split) and (rows == np.arange(len(split))).all()
    return Pairs(
        split if whole else split.take(rows),
        [pair[4] for pair in stored["pairs"]],
        np.array([pair[5] for pair in stored["pairs"]]),
    )


def _sound(pairs: object, count: int) -> bool:
    kinds = [int, str, int, str, str, str]
    return (
        isinstance(pairs, list)
        and len(pairs) == min(MOST, count)
        and all(
            isinstance(pair, list) and [type(value) for value in pair] == kinds and 0 <= pair[0] < count
            for pair in pairs
        )
    )


# ---- how sure


def interval(values: np.ndarray, seed: int = SEED) -> list[float] | None:
    """Bounds that hold the mean of `values` [N] with LEVEL: percentiles of RESAMPLES means of N drawn with repetition.

    Pictures are drawn, not classes or trainings: it says how far other pictures of these classes would move the number,
    nothing of another seed of the training. NaN is left out. None for fewer than two values.
    """
    values = values[~np.isnan(values)]
    if len(values) < 2:
        return None
    found = stats.bootstrap(
        (values,), np.mean, n_resamples=RESAMPLES, batch=max(1, 2**22 // len(values)), confidence_level=LEVEL,
        method="percentile", random_state=np.random.default_rng(seed),
    )  # fmt: skip
    return [float(found.confidence_interval.low), float(found.confidence_interval.high)]


def paired(first: np.ndarray, second: np.ndarray) -> dict[str, Any]:
    """Whether two systems differ on the same pictures: n, difference (mean of second - first), its interval, p.

    first, second: [N], a number of the same pictures; a picture where either is NaN is left out. p: of Wilcoxon's
    signed rank test, two-sided, exact up to EXACT differences that are not 0, and by the normal distribution beyond;
    one comparison alone: of twenty, one is below 0.05 by chance.
    Raises: ValueError for fewer than six pictures, of which not even six equal signs would be below 0.05.
    """
    apart = second - first
    apart = apart[~np.isnan(apart)]
    if len(apart) < 6:
        raise ValueError(f"{len(apart)} pictures that both systems have a number for; a comparison takes 6 or more.")
    moved = apart[apart != 0]
    p = ranks.signed_rank(moved) if len(moved) <= EXACT else float(stats.wilcoxon(moved).pvalue)
    return {"n": len(apart), "difference": float(apart.mean()), "interval": interval(apart), "p": p}


# ---- a number a picture, kept for comparisons


def write_values(path: str, keys: Sequence[str], values: Mapping[str, np.ndarray]) -> None:
    """A CSV file: a row a picture, a column a number; empty where a picture has none."""
    with files.replacing(path) as temporary, open(temporary, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["key", *values])
        for key, *row in zip(keys, *(column.tolist() for column in values.values()), strict=True):
            writer.writerow([key, *("" if math.isnan(value) else f"{value:.7g}" for value in row)])


def read_values(path: str) -> tuple[list[str], dict[str, np.ndarray]]:
    """The keys and the numbers that `write_values` wrote. Raises: FileNotFoundError; ValueError for another file."""
    data = files.read_regular(path, MAX_BYTES, "run the evaluation again.")
    try:
        head, *rows = csv.reader(io.StringIO(data.decode(), newline=""))
        if head[:1] != ["key"] or any(len(row) != len(head) for row in rows):
            raise ValueError("a row has not as many cells as the first")
        columns = np.array([[float(cell or "nan") for cell in row[1:]] for row in rows]).reshape(len(rows), -1)
    except (ValueError, csv.Error) as error:
        raise ValueError(f"{path} is no table of ours ({error}); run the evaluation again.") from None
    return [row[0] for row in rows], dict(zip(head[1:], columns.T, strict=True))
