"""Files of text as people have them: their encoding, what they are instead of text or a picture, broken captions."""

import functools
import io
import re
from collections.abc import Iterator

from data.readers import sandbox

MAX_LINE = 2**20  # characters of a line: a longer one is no caption
EMPTY = ("nan", "none", "null", "n/a", "na", "<na>", "#n/a", "undefined")  # what programs write for an empty cell
MAX_WORDS = 500  # of a caption: the longest published one has 66
BOMS = (
    (b"\xef\xbb\xbf", "utf-8-sig"),
    (b"\xff\xfe\0\0", "utf-32"),
    (b"\0\0\xfe\xff", "utf-32"),
    (b"\xff\xfe", "utf-16"),
    (b"\xfe\xff", "utf-16"),
)
KINDS = (  # pattern at a file's beginning, and what the file then is
    (rb"version https://git-lfs", "a Git LFS pointer, not the file itself: run git lfs pull"),
    (rb"(\.\./)*\.git/annex/|/annex/objects/", "a git-annex pointer, not the file itself: run git annex get"),
    (rb"(?i:(\xef\xbb\xbf)?\s*(<!--.*?-->\s*)?<(!doctype html|html|head|body|title)\b)", "an HTML page, as a failed "
                                                                                      "download leaves it"),
    (rb"(?i:(\xef\xbb\xbf)?\s*(<\?xml.*?\?>\s*)?(<!--.*?-->\s*)?(<!doctype svg.*?>\s*)?<svg\b)", "an SVG drawing"),
    (rb"(?i:\s*<\?xml|\s*<error>)", "an XML page, as a failed download leaves it"),
    (rb"PK\x03\x04", "a zip archive or an Excel or Word document"),
    (rb"\xd0\xcf\x11\xe0", "an old Excel or Word document"),
    (rb"%PDF", "a PDF"),
    (rb"\x1f\x8b|BZh|\xfd7zXZ|7z\xbc\xaf|Rar!", "a packed file"),
    (rb"PAR1", "a Parquet table"),
    (rb"8BPS", "a Photoshop document"),
    (rb"....ftyp(isom|mp4|avc|qt|M4V)|\x1aE\xdf\xa3", "a film"),
    (rb"GIF8|\x89PNG|\xff\xd8\xff|BM....\0\0\0\0|RIFF....WEBP", "a picture"),
)  # fmt: skip
CONTROL = re.compile(r"[\0-\x08\x0e-\x1f\x7f-\x84\x86-\x9f]")  # without those that part lines and words
ANY = re.compile(b"|".join(pattern for pattern, _ in KINDS), re.DOTALL)


def what_it_is(data: bytes) -> str:
    """What a file is by its first bytes, where that is neither a picture that is read nor a text; "" = not known."""
    if not data:
        return "empty"
    if data[0] == 0 and not data.strip(b"\0"):
        return "nothing but zero bytes"
    if not ANY.match(data[:1024]):
        return ""
    return next((kind for pattern, kind in KINDS if re.match(pattern, data[:1024], re.DOTALL)), "")


def decode(path: str, data: bytes) -> str:
    """The text of a file: a byte order mark decides its encoding, else it is UTF-8.

    Raises: ValueError with the file, the line and the encoding that it looks like; for a file that is no text.
    """
    encoding = _encoding(path, data)
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        if not encoding.startswith("utf-8"):
            raise ValueError(_damaged(path, encoding)) from None
        raise ValueError(_wrong(path, data, 1 + len(re.findall(rb"\r\n|\r|\n", data[: error.start])))) from None
    if "\0" in text:
        raise ValueError(_wrong(path, data, 1 + text[: text.index("\0")].count("\n")))
    return text


def lines(path: str, max_bytes: int, values: int) -> Iterator[str]:
    """The lines of a file, without their ends, whichever of LF, CR LF and CR these are; decoded as by `decode`.

    A file of any size takes the memory of its longest line. values: that are made of a line, for
    `sandbox.require_room`.
    Raises: ValueError, also for a line over MAX_LINE.
    """
    with sandbox.opened(path, max_bytes) as file:
        encoding = _encoding(path, file.read(4096))
        file.seek(0)
        blocks = iter(functools.partial(file.read, 2**20), b"")
        count = sum(max(block.count(b"\n"), block.count(b"\r")) for block in blocks)
        sandbox.require_room(count, values)
        file.seek(0)
        number = 0
        text = io.TextIOWrapper(file, encoding=encoding)
        try:
            while line := text.readline(MAX_LINE + 1):
                number += 1
                if len(line) > MAX_LINE:
                    raise ValueError(f"{path}, line {number}: over {MAX_LINE:,} characters; is it a text file?")
                if "\0" in line:
                    raise ValueError(_wrong(path, line.encode("utf-8"), number))
                yield line.removesuffix("\n")
        except UnicodeError:  # the reader is ahead by a part of the file
            raise ValueError(_first_wrong(path) if encoding.startswith("utf-8") else _damaged(path, encoding)) from None


def fault(caption: str) -> str:
    """What is broken about a caption; "" = nothing."""
    if "\ufffd" in caption:
        return "holds U+FFFD, a letter that was lost when the text was saved; take the captions from before that"
    if not caption.isprintable() and (found := CONTROL.search(caption)):
        return f"holds the control character {found[0]!r}, which is no part of a text; take it out"
    if len(caption) < MAX_WORDS:
        if len(caption) < 10 and caption.casefold() in EMPTY:
            return f"is {caption!r}, which programs write for an empty field; write one, or take it out"
        return ""
    count = len(caption.split())
    return f"has {count:,} words, over {MAX_WORDS}; are the captions of several pictures in it?" * (count > MAX_WORDS)


def _encoding(path: str, data: bytes) -> str:
    kind = what_it_is(data)
    if kind and kind != "empty":
        raise ValueError(f"{path} is no text but {kind}; give a text file.")
    return next((name for mark, name in BOMS if data.startswith(mark)), "utf-8")


def _first_wrong(path: str) -> str:
    with open(path, "rb") as file:
        number = 0
        while line := file.readline(MAX_LINE):
            number += 1 + line.rstrip(b"\r\n").count(b"\r")
            try:
                line.decode("utf-8-sig")
            except UnicodeDecodeError:
                return _wrong(path, line + file.read(2**16), number)
    return _damaged(path, "utf-8")


def _damaged(path: str, encoding: str) -> str:
    return f"{path} is damaged {encoding.upper()}; save it as UTF-8."


def _wrong(path: str, data: bytes, line: int) -> str:
    seems = looks_like(data)
    if not seems:
        return f"{path}, line {line}: it holds a zero byte, which is in no text; take it out."
    return f"{path}, line {line}: not UTF-8, it looks like {seems}; save the file as UTF-8."


def looks_like(data: bytes) -> str:
    """The encoding that a text which is not UTF-8 probably has, for people; "" of one with a zero byte."""
    zeros = data.count(0)
    if zeros:
        return "UTF-16 without its mark" if zeros * 5 > len(data) else ""
    runs = re.findall(rb"[\x80-\xff]+", data)
    high = b"".join(runs)
    cyrillic = sum(byte in range(0xC0, 0x100) or byte in (0xA8, 0xB8) for byte in high)
    if len(high) < 2 * len(runs):
        return "Windows-1252 (Western European)"
    if cyrillic == len(high) and re.search(rb"[\xe0-\xff]{3}", high):
        return "Windows-1251 (Cyrillic)"
    for name, shown, letters in (
        ("euc_kr", "EUC-KR (Korean)", "[\uac00-\ud7a3]"),
        ("shift_jis", "Shift JIS (Japanese)", "[\u3040-\u30ff\u4e00-\u9fff\u3001\u3002]"),
        ("gb18030", "GBK (Chinese)", "[\u4e00-\u9fff\u3000-\u303f\uff00-\uffef]"),
        ("big5", "Big5 (Chinese)", "[\u4e00-\u9fff]"),
    ):
        foreign = re.sub(r"[\0-\x7f]", "", data.decode(name, "ignore"))
        if foreign and len(re.findall(letters, foreign)) > 0.9 * len(foreign):
            return shown
    return "an 8 bit encoding such as Windows-1252"
