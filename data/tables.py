"""Captions of people's own pictures: a CSV or JSONL file of key and caption, read line by line within bounds."""

import csv
import itertools
import json
import os
from collections.abc import Iterator

ENDINGS = (".csv", ".jsonl")
MAX_BYTES = 2**30  # of a file
MAX_LINE = 2**20  # bytes of a line: a longer one is no caption


def read(path: str) -> dict[str, tuple[str, ...]]:
    """The captions of every key, in the file's order; white space within a caption becomes single spaces.

    .csv: the header key,caption, then a line for each caption (other columns are ignored; UTF-8, commas, quotes).
    .jsonl: {"key": "a", "caption": "b"} or {"key": "a", "captions": ["b", "c"]} on each line.
    Keys keep their ending, if they have one, and get "/" for a backslash.

    Raises: ValueError, one line with the file and the line in it; FileNotFoundError.
    """
    if os.path.getsize(path) > MAX_BYTES:
        raise ValueError(f"{path} has over {MAX_BYTES // 2**20:,} MB; split the data set.")
    texts: dict[str, list[str]] = {}
    for number, key, caption in _csv_rows(path) if path.lower().endswith(".csv") else _jsonl_rows(path):
        key, caption = (" ".join(text.encode("utf-8", "replace").decode().split()) for text in (key, caption))
        key = key.replace("\\", "/").removeprefix("./")
        if not key or not caption:
            raise ValueError(f"{path}, line {number}: no {'caption' if key else 'key'}; each line needs both.")
        texts.setdefault(key, []).append(caption)
    if not texts:
        raise ValueError(f"{path} holds no captions.")
    return {key: tuple(captions) for key, captions in texts.items()}


def _lines(path: str) -> Iterator[str]:
    """Lines with their ends, each bounded. Raises: ValueError for one that is too long or not UTF-8."""
    with open(path, "rb") as file:
        for number in itertools.count(1):
            line = file.readline(MAX_LINE + 1)
            if not line:
                return
            if len(line) > MAX_LINE:
                raise ValueError(f"{path}, line {number}: over {MAX_LINE:,} bytes; is it a text file?")
            try:
                yield line.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                raise ValueError(f"{path}, line {number}: not UTF-8; save the file as UTF-8.") from error


def _csv_rows(path: str) -> Iterator[tuple[int, str, str]]:
    """(line, key, caption) of each row after the header."""
    reader = csv.reader(_lines(path))
    try:
        header = [name.strip().lower() for name in next(reader, [])]
        if "key" not in header or "caption" not in header:
            raise ValueError(f"{path} begins with {','.join(header)[:80]!r}; the first line must be key,caption.")
        columns = header.index("key"), header.index("caption")
        for row in reader:
            if any(row):
                if len(row) != len(header):
                    raise ValueError(
                        f"{path}, line {reader.line_num}: {len(row)} fields, the header has {len(header)}; put a "
                        'caption with a comma in quotes: "red, small".'
                    )
                yield reader.line_num, row[columns[0]], row[columns[1]]
    except csv.Error as error:
        raise ValueError(f"{path}, line {reader.line_num}: {error}.") from error


def _jsonl_rows(path: str) -> Iterator[tuple[int, str, str]]:
    """(line, key, caption) of each caption."""
    for number, line in enumerate(_lines(path), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            captions = row["captions"] if "captions" in row else [row["caption"]]
            if not isinstance(captions, list) or not all(isinstance(text, str) for text in (row["key"], *captions)):
                raise TypeError("key and captions must be text")
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise ValueError(
                f'{path}, line {number}: not {{"key": "a", "caption": "b"}} or {{"key": "a", "captions": ["b", "c"]}} '
                f"({type(error).__name__}: {error})."
            ) from error
        for caption in captions:
            yield number, row["key"], caption
