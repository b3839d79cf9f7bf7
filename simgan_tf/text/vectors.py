"""Word vectors from text files in GloVe's or fastText's form, pruned to a vocabulary while they are read.
Only the vectors of the words asked for are kept in memory."""

import dataclasses
import itertools
import os
import re
from collections.abc import Iterable, Iterator

import numpy as np
from tqdm import tqdm

from simgan_tf.system import files
from simgan_tf.text.vse import TextEncoder

LONGEST_LINE = 2**20  # bytes; 300 numbers take about 3,000
MOST_NUMBERS = 4_096  # of a word; usual are 50 to 300
MARK = b"\xef\xbb\xbf"  # that some editors put before a text in UTF-8
HEADER = re.compile(rb"(\d{1,12}) (\d{1,6})")
NUMBER = re.compile(rb"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?")
PACKED = {b"\x1f\x8b": "gzip file", b"PK\x03\x04": "zip archive", b"BZh": "bzip2 file", b"\xfd7zXZ": "xz file"}
LARGEST = float(np.finfo(np.float32).max)
FORM = "a text file of word vectors has one word a line and its numbers after it, separated by single spaces"


@dataclasses.dataclass(frozen=True)
class WordVectors:
    """What `read` found. dim: numbers in a vector. rows: word -> [dim] float32. lines: words the file has."""

    dim: int
    rows: dict[str, np.ndarray]
    lines: int


def read(path: str, words: Iterable[str]) -> WordVectors:
    """The vectors of those of `words` that the file has; a word that stands twice keeps its first vector.

    path: UTF-8 text, `word v1 ... vn` a line (GloVe), or that below a line `count dim` (fastText's .vec, word2vec's
    text form). Words are compared as they stand, so that of a cased file the lower-case entries are taken. Entries with
    spaces inside, of which GloVe's 840B has some, are stepped over.
    Memory: the vectors asked for and one line, whatever the size of the file.

    Raises:
        OSError: the file cannot be read.
        ValueError: no such file of text; a line with fewer or more numbers than the others, or something that is no
            finite number (both name the line); not as many words as the first line says; none of `words`.
    """
    wanted = {word.encode() for word in words}
    _refuse_packed(path)
    rows: dict[bytes, np.ndarray] = {}
    lines = _lines(path)
    first, line = next(lines, (0, b""))
    header = HEADER.fullmatch(line)
    count, dim = map(int, header.groups()) if header else (None, line.count(b" "))
    if not header:
        if dim < 1:
            raise ValueError(f"{path} line {first}: {_short(line)} is no word with numbers; {FORM}")
        _numbers(line.split(b" ", 1)[1], f"{path} line {first}")  # whether or not its word is wanted
        lines = itertools.chain([(first, line)], lines)
    if dim > MOST_NUMBERS:
        raise ValueError(f"{path} has {dim:,} numbers a word, over {MOST_NUMBERS:,}; {FORM}")
    total = 0
    for number, line in lines:
        total += 1
        spaces = line.count(b" ")
        if spaces != dim:
            _refuse_other_dim(line, dim, f"{path} line {number}", "the first line" if header else f"line {first}")
            continue
        word, numbers = line.split(b" ", 1)
        if word in wanted and word not in rows:
            rows[word] = _numbers(numbers, f"{path} line {number}")
    if count not in (None, total):
        raise ValueError(
            f"{path} has {total:,} words, its first line says {count:,}; a download that broke off has fewer. "
            "If the file was shortened on purpose, correct its first line or take it out"
        )
    if not rows:
        some = ", ".join(sorted(word.decode() for word in wanted)[:5])
        raise ValueError(f"{path} has none of the {len(wanted):,} words of the vocabulary ({some}, ...); {FORM}")
    return WordVectors(dim, {word.decode(): row for word, row in rows.items()}, total)


def fill(encoder: TextEncoder, vectors: WordVectors) -> list[str]:
    """Puts the vectors into the encoder's word table; returns the words that keep their random start, in id order.

    Raises:
        ValueError: the encoder's word_dim is another than the file's.
    """
    if encoder.word_dim != vectors.dim:
        raise ValueError(f"word_dim={encoder.word_dim} of the encoder, but the word vectors have {vectors.dim} numbers")
    table = encoder.variables[0]  # [V, E]
    values = table.numpy()
    for row, word in enumerate(encoder.vocabulary.words, start=len(encoder.vocabulary.SPECIAL)):
        if word in vectors.rows:
            values[row] = vectors.rows[word]
    table.assign(values)
    return [word for word in encoder.vocabulary.words if word not in vectors.rows]


def _lines(path: str) -> Iterator[tuple[int, bytes]]:
    """(number from 1, line without its end) of the lines that are not blank."""
    with (
        files.open_regular(path) as file,
        tqdm(total=os.path.getsize(path), desc="word vectors", unit="B", unit_scale=True, delay=2, leave=False) as bar,
    ):
        for number in itertools.count(1):
            line = file.readline(LONGEST_LINE)
            if not line:
                return
            if len(line) == LONGEST_LINE:
                raise ValueError(f"{path} line {number} is longer than {LONGEST_LINE:,} bytes; {FORM}")
            bar.update(len(line))
            line = (line.removeprefix(MARK) if number == 1 else line).rstrip(b" \r\n")
            if line:
                yield number, line


def _refuse_packed(path: str) -> None:
    with files.open_regular(path) as file:
        start = file.read(4096)
    for magic, kind in PACKED.items():
        if start.startswith(magic):
            raise ValueError(f"{path} is a {kind}; unpack it and give the text file in it")
    if b"\0" in start:
        raise ValueError(f"{path} is a binary file, not text; give the text form (fastText's .vec, not its .bin)")
    if not start.strip():
        raise ValueError(f"{path} is empty; {FORM}")


def _refuse_other_dim(line: bytes, dim: int, where: str, reference: str) -> None:
    """Raises: ValueError, unless the line is an entry with spaces inside, whose last part is no number."""
    parts = line.rsplit(b" ", dim + 1)
    if len(parts) > dim + 1 and not NUMBER.fullmatch(parts[1]):
        return
    count = sum(1 for _ in itertools.takewhile(NUMBER.fullmatch, reversed(line.split(b" ")[1:])))
    raise ValueError(
        f"{where}: {_short(line)} has {count} numbers, {dim} were expected from {reference}; "
        "the file is damaged or put together of two, get it again"
    )


def _numbers(text: bytes, where: str) -> np.ndarray:
    """[n] float32. Raises: ValueError for what is no finite number."""
    values = []
    for field in text.split(b" "):
        value = float(field) if NUMBER.fullmatch(field) else np.nan
        if not abs(value) <= LARGEST:
            raise ValueError(f"{where}: {_short(field)} is no finite number; the file is damaged, get it again")
        values.append(value)
    return np.array(values, np.float32)


def _short(text: bytes) -> str:
    start = text[:40].decode("utf-8", errors="replace")
    return repr(start + "..." if len(text) > 40 else start)
