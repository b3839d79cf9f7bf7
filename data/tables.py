"""Captions of people's own pictures from a table: CSV, JSON, JSON Lines or Parquet, in the ways that the field has."""

import ast
import collections
import csv
import dataclasses
import functools
import itertools
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping

import numpy as np

from data import names, texts
from data.readers import sandbox

ENDINGS = (".csv", ".tsv", ".txt", ".jsonl", ".json", ".parquet")
STEMS = ("captions", "metadata")  # of a table that is found by its name; metadata is Hugging Face's
NAMES = ("key", "file_name", "filename", "image", "path", "image_name", "image_path", "img", "img_path", "filepath",
         "file_path", "file", "image_file")  # fmt: skip
CAPTIONS = ("caption", "captions", "text", "texts", "prompt", "prompts", "description", "descriptions", "sentence",
            "sentences", "comment", "raw")  # fmt: skip
DELIMITERS = (",", ";", "\t", "|")
MAX_BYTES, MAX_JSON = 2**30, 2**27  # of a file; JSON is read whole, and COCO's has 67 MB
VALUES = 5  # that a line takes the memory of: its name and caption, a list, two entries of tables
MAX_CAPTION = 1000  # characters; a longer one in CSV has swallowed other rows
CLEAN = r' *(?:"[^"]*(?:""[^"]*)*" *|[^"DELIMITER]*)'  # a field whose quotation marks are as RFC 4180 has them
Rows = Iterator[tuple[str, int, str, list[str]]]  # unit and number of a place, name, captions
PICTURE = re.compile(rf".*({'|'.join(map(re.escape, names.PICTURE_ENDINGS))})", re.IGNORECASE)


@dataclasses.dataclass
class Table:
    """What a table holds; names as they stand there."""

    texts: dict[str, list[str]] = dataclasses.field(default_factory=dict)
    numbers: dict[str, int] = dataclasses.field(default_factory=dict)  # name -> line, entry or row of its first caption
    faults: list[str] = dataclasses.field(default_factory=list)  # a line for each row that cannot be used
    unit: str = ""  # "FILE, line ", before such a number

    def place(self, name: str) -> str:
        """File and place of a name's first caption, for messages."""
        return f"{self.unit}{self.numbers[name]}" if name in self.numbers else self.unit.rpartition(",")[0]


def find(folder_names: Iterable[str]) -> list[str]:
    """Those of the names in a folder that are tables of captions, such as Captions.CSV or metadata.jsonl."""
    parts = ((name, *os.path.splitext(name.lower())) for name in folder_names)
    return [name for name, stem, ending in parts if stem in STEMS and ending in ENDINGS]


def read(path: str, pictures: Mapping[str, str] | None = None) -> Table:
    """The captions of every name, in the file's order; white space within a caption becomes single blanks.

    .csv, .tsv, .txt: a first line with one of NAMES and one of CAPTIONS, in any order and with others, divided by one
    of DELIMITERS; then a line for each caption. Quotation marks are read as RFC 4180 has it where they stand around a
    whole field, else as they stand. A field may be a list, as JSON or Python write it.
    .jsonl: on each line an object with such fields.   .json: a list of such objects, {"name": caption or captions},
    {"images": [such objects]}, or COCO's images and annotations.   .parquet: such columns; needs pyarrow.
    A caption may be a text, a list of texts, or a list of objects with one of CAPTIONS.

    pictures: as `names.Names` takes them, so that a quotation mark that is not closed is found out.

    Raises: ValueError, one line with the file and the place in it, for a file that is no such table;
        FileNotFoundError. What is wrong about single rows stands in `faults`.
    """
    table = Table()
    for unit, numbers, joined_names, joined_captions in sandbox.read(rows, path, pictures):
        if numbers is None:
            table.faults.append(joined_captions)
            continue
        table.unit = unit
        of_names = zip(numbers.tolist(), joined_names.split("\n"), joined_captions.split("\n"), strict=True)
        for number, name, caption in of_names:
            own = table.texts.get(name)
            if own is None:
                table.texts[name], table.numbers[name] = [caption], number
            else:
                own.append(caption)
    if not table.texts and not table.faults:
        raise ValueError(f"{path} holds no captions.")
    return table


def rows(path: str, pictures: dict[str, str] | None) -> Iterator[tuple[str, np.ndarray | None, str, str]]:
    """For the sandbox: unit, numbers, names and captions of many rows, joined by line ends, which none of them has;
    or "", None, "" and a fault. Row by row, what is handed over would cost half of the reading."""
    index = functools.cache(lambda: names.Names(pictures or {}))

    def known(name: str) -> bool:
        return name in seen or bool(index().find(names.parts(name)))

    ending = os.path.splitext(path)[1].lower()
    reader = {".json": _json, ".jsonl": _jsonl, ".parquet": _parquet}.get(ending, _csv)
    faults, seen, most = [], set(), MAX_CAPTION if reader is _csv else MAX_BYTES
    numbers, of_names, of_captions, size = [], [], [], 0
    for unit, number, name, captions in reader(path, faults, known):
        name = name.strip()
        if not name or "\n" in name or "\r" in name:
            faults.append(f"{unit}{number}: {'a line end in the' if name else 'no'} name of a picture")
            continue
        captions = [" ".join((text if text.isascii() else _whole_letters(text)).split()) for text in captions]
        if not any(captions):
            faults.append(f"{unit}{number}: no caption for {name}")
        for caption in captions:
            if len(caption) > most:
                faults.append(
                    f"{unit}{number}: a caption of {len(caption):,} characters, over {MAX_CAPTION:,}; is a quotation "
                    "mark not closed?"
                )
            elif caption:
                seen.add(name)
                numbers.append(number)
                of_names.append(name)
                of_captions.append(caption)
                size += len(caption)
        if size > sandbox.BATCH or len(numbers) > 4096 or faults:
            yield from _told(faults)
            if numbers:
                yield unit, np.array(numbers), "\n".join(of_names), "\n".join(of_captions)
            numbers, of_names, of_captions, size = [], [], [], 0
    yield from _told(faults)
    if numbers:
        yield unit, np.array(numbers), "\n".join(of_names), "\n".join(of_captions)


def _told(faults: list[str]) -> Iterator[tuple[str, None, str, str]]:
    """The faults that have come up, each once."""
    for fault in faults:
        yield "", None, "", fault[:2000]
    faults.clear()


def _whole_letters(text: str) -> str:
    """The text with U+FFFD for each half of a letter, which JSON can write and no file can hold."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


# ---- CSV


def _csv(path: str, faults: list[str], known: Callable[[str], bool]) -> Rows:
    numbered, unit = enumerate(texts.lines(path, MAX_BYTES, values=VALUES), start=1), f"{path}, line "
    _, first = next(((i, line) for i, line in numbered if line.strip() and not line.startswith("sep=")), (1, ""))
    delimiter, columns = _header(path, first)
    quoted = re.compile(rf' *"((?:[^"]|"")*)" *(?=[{delimiter}]|\Z)')
    clean = re.compile(rf"{CLEAN}(?:[{delimiter}]{CLEAN})*".replace("DELIMITER", delimiter))
    width, waiting = len(_fields(first, delimiter, quoted)), []
    usual = []  # the line that the standard library reads
    standard = csv.reader(iter(usual.pop, None), delimiter=delimiter, skipinitialspace=True)
    while (number_line := waiting.pop(0) if waiting else next(numbered, None)) is not None:
        number, line = number_line
        if '"' in line and len(line) < 2**16 and clean.fullmatch(line):  # the usual case, at the library's speed
            usual.append(line)
            fields = next(standard)
        elif '"' in line:
            more, problem = [], ""
            while _opens(line, delimiter, quoted):  # a quotation mark that this line does not close
                following = waiting.pop(0) if waiting else next(numbered, None)
                if following is None:
                    problem = "the file's end"
                    break
                more.append(following)
                name = following[1].split(delimiter)[min(columns[0], following[1].count(delimiter))].strip(' "')
                if PICTURE.fullmatch(name) or known(name):
                    problem = f"line {following[0]}, which is of {name}"
                elif len(line) > MAX_CAPTION + 200:
                    problem = f"line {following[0]}"
                if problem:
                    break
                line += "\n" + following[1]
            if problem:
                waiting[:0] = more
                opened = f"{unit}{number}: a quotation mark opens and is not closed before"
                faults.append(f"{opened} {problem}; take it out, or close it")
                continue
            fields = _fields(line, delimiter, quoted)
        else:
            fields = line.split(delimiter)
        if not line.strip(f" {delimiter}"):
            continue
        while len(fields) > width and not fields[-1]:
            fields.pop()
        if len(fields) > width:
            faults.append(
                f"{unit}{number}: {len(fields)} fields, the header has {width}; put a caption with a comma in quotes: "
                '"red, small"'
            )
            continue
        fields += [""] * (width - len(fields))
        caption = fields[columns[1]]
        captions = _listed(caption.strip()) if "[" in caption else [caption]
        if all(isinstance(text, str) for text in captions):
            yield unit, number, fields[columns[0]], captions
        else:
            faults.append(f"{unit}{number}: the list {caption[:60]} holds other things than texts")


def _header(path: str, line: str) -> tuple[str, tuple[int, int]]:
    """The delimiter, and the places of the columns of names and of captions. Raises: ValueError."""
    for delimiter in DELIMITERS:
        names = [name.strip(' "\'\ufeff').lower().replace(" ", "_") for name in line.split(delimiter)]
        name, caption = _one_of(path, names, NAMES), _one_of(path, names, CAPTIONS)
        if name and caption:
            return delimiter, (names.index(name), names.index(caption))
    raise ValueError(
        f"{path} begins with {line[:80]!r}; the first line must be key,caption (or image, file_name, filename or path, "
        "and text, prompt, description or sentence)."
    )


def _one_of(path: str, names: Iterable[str], accepted: tuple[str, ...]) -> str:
    """The field among `names` that is accepted; the first of `accepted` names the usual one.

    Raises: ValueError for two fields of captions, of which one may be a title or a question.
    """
    found = [name for name in accepted if name in names]
    if len(found) > 1 and accepted is CAPTIONS and found[0] != "caption":
        raise ValueError(f"{path} has the fields {' and '.join(found)}; name the one with the captions caption.")
    return found[0] if found else ""


def _opens(line: str, delimiter: str, quoted: re.Pattern) -> bool:
    """Whether a field begins with a quotation mark that belongs to a longer field: no other one is in the line."""
    at = 0
    while at <= len(line):
        if match := quoted.match(line, at):
            end = match.end()
        else:
            rest = line[at:].lstrip(" ")
            if rest.startswith('"') and '"' not in rest[1:].replace('""', ""):
                return True
            end = line.find(delimiter, at)
        if end < 0:
            return False
        at = end + 1
    return False


def _fields(line: str, delimiter: str, quoted: re.Pattern) -> list[str]:
    fields, at = [], 0
    while True:
        if match := quoted.match(line, at):
            field, end = match[1].replace('""', '"'), match.end()
        else:
            end = line.find(delimiter, at)
            end = len(line) if end < 0 else end
            field = line[at:end].strip()
        fields.append(field)
        if end >= len(line):
            return fields
        at = end + 1


def _listed(field: str) -> list:
    """The captions of a field: several where it is a list as JSON or Python write it, of whatever is in it."""
    if field.startswith("[") and field.endswith("]") and len(field) < 2**16:
        for parse in (json.loads, ast.literal_eval):
            try:
                values = parse(field)
            except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
                continue
            if isinstance(values, list) and values:
                return values
    return [field]


# ---- JSON and Parquet


def _jsonl(path: str, faults: list[str], known: Callable[[str], bool]) -> Rows:
    unit = f"{path}, line "
    for number, line in enumerate(texts.lines(path, MAX_BYTES, values=VALUES), start=1):
        if line.strip():
            if number == 1 and line.lstrip().startswith("["):  # a list under this name
                yield from _json(path, faults, known)
                return
            try:
                yield unit, number, *_entry(path, _parsed(f"{unit}{number}", line))
            except TypeError as error:
                faults.append(f"{unit}{number}: {error}")


def _json(path: str, faults: list[str], known: Callable[[str], bool]) -> Rows:
    with sandbox.opened(path, MAX_JSON) as file:
        text = texts.decode(path, file.read())
    first, _, more = text.partition("\n")
    if re.fullmatch(r"\s*\{.*\}\s*", first) and more.lstrip().startswith("{"):  # JSON Lines under this name
        yield from _jsonl(path, faults, known)
        return
    try:
        content = _parsed(path, text)
    except TypeError as error:
        raise ValueError(f"{path}: {error}.") from None
    if isinstance(content, dict) and isinstance(content.get("annotations"), list) and "images" in content:
        rows = _coco(path, content)
    elif isinstance(content, dict) and (inner := [content[name] for name in ("images", "data", "annotations", "samples")
                                                  if isinstance(content.get(name), list)]):  # fmt: skip
        rows = inner[0]
    elif isinstance(content, dict):
        rows = [{"key": name, "caption": value} if not isinstance(value, dict) else {"key": name, **value}
                for name, value in content.items()]  # fmt: skip
    else:
        rows = content
    if not isinstance(rows, list):
        raise ValueError(f"{path} is neither a list of pictures nor a table of names; {EXPECTED}")
    unit = f"{path}, entry "
    for number, row in enumerate(rows, start=1):
        try:
            yield unit, number, *_entry(path, row)
        except TypeError as error:
            faults.append(f"{unit}{number}: {error}")


EXPECTED = 'expected are such as {"key": "a.jpg", "caption": "b"} or {"key": "a.jpg", "captions": ["b", "c"]}'


def _parsed(place: str, text: str) -> object:
    try:
        content = json.loads(text) if len(text) <= texts.MAX_LINE else None
        if isinstance(content, dict) and len(content) == text.count(":"):  # no name stands twice: the usual line
            return content
        return json.loads(text, object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{place}: not JSON ({type(error).__name__}: {error}); {EXPECTED}.") from None


def _once(pairs: list[tuple[str, object]]) -> dict:
    """The object of these names and values. Raises: TypeError, in words, for a name that comes twice."""
    fields = dict(pairs)
    if len(fields) < len(pairs):
        (name, _), *_ = collections.Counter(name for name, _ in pairs).most_common(1)
        raise TypeError(f"{name[:80]!r} stands twice in one object, and one would be lost; join them")
    return fields


def _entry(path: str, row: object) -> tuple[str, list[str]]:
    """Name and captions of an object. Raises: TypeError, in words, for one without."""
    if not isinstance(row, dict):
        raise TypeError(f"{str(row)[:60]!r} is no object; {EXPECTED}")
    fields = {str(field).lower(): value for field, value in row.items()}
    name, caption = _one_of(path, fields, NAMES), _one_of(path, fields, CAPTIONS)
    if not name or not caption:
        raise TypeError(f"no {'caption' if name else 'name of a picture'} among {', '.join(fields)[:80]}; {EXPECTED}")
    captions = fields[caption] if isinstance(fields[caption], list) else [fields[caption]]
    captions = [value[_one_of(path, value, CAPTIONS)] if isinstance(value, dict) and _one_of(path, value, CAPTIONS)
                else value for value in captions]  # fmt: skip
    if not all(isinstance(text, str) for text in (fields[name], *captions)):
        raise TypeError(f"name and captions must be texts; {EXPECTED}")
    return fields[name], captions


def _coco(path: str, content: dict) -> list:
    """COCO's two lists, of pictures with numbers and of captions with the numbers of their pictures, as one."""
    try:
        names = {row["id"]: row["file_name"] for row in content["images"]}
        return [{"key": names[row["image_id"]], "caption": row["caption"]} for row in content["annotations"]]
    except (KeyError, TypeError) as error:
        reason = f"nothing is called {error}" if isinstance(error, KeyError) else "its parts are of other types"
        raise ValueError(f"{path} has images and annotations, but not as COCO has them ({reason}).") from None


def _parquet(path: str, faults: list[str], known: Callable[[str], bool]) -> Rows:
    try:
        from pyarrow import parquet
    except ImportError:
        raise ValueError(f"{path} is a Parquet table; pip install pyarrow, or save it as CSV.") from None
    numbers, unit = itertools.count(1), f"{path}, row "
    with sandbox.opened(path, MAX_BYTES) as opened:
        file = parquet.ParquetFile(opened)
        columns = [name for name in file.schema_arrow.names if name.lower() in (*NAMES, *CAPTIONS)]
        for batch in file.iter_batches(columns=columns):
            for row in batch.to_pylist():
                number = next(numbers)
                try:
                    yield unit, number, *_entry(path, row)
                except TypeError as error:
                    faults.append(f"{unit}{number}: {error}")
