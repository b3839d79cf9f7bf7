"""The words of a sentence: one rule, written here for Python and for TensorFlow's regular expressions.
Needs Python alone, so that a device can have a copy; export/web/page/words.js has the same rule in JavaScript."""

import functools
import re
import unicodedata

# Scripts that put no blank between words: Thai, Lao, Myanmar, Khmer, Hiragana, Han. One of their letters is a word.
LONE = (
    "\u0e01-\u0eff\u1000-\u109f\u1780-\u17ff\u3005-\u3007\u3021-\u3029\u3041-\u309f\u3400-\u4dbf\u4e00-\u9fff"
    "\uf900-\ufaff\U00020000-\U0003ffff"
)
VARIATIONS = "\ufe00-\ufe0f\U000e0100-\U000e01ef"  # they choose between two looks of the sign before them
RULE = (
    "the text is lower-cased and brought to Unicode's form NFC; words are a letter or number (L, N) and all letters, "
    "numbers and marks (Mn, Mc, without variation selectors) that follow; in Thai, Lao, Myanmar, Khmer, Hiragana and "
    "Han each letter with its marks is a word"
)
# For RE2, in this order: pattern, and what it becomes. What is left are words between blanks.
REPLACEMENTS = (
    (f"[{VARIATIONS}]", " "),
    (rf"([{LONE}][\p{{Mn}}\p{{Mc}}]*)", r" \1 "),
    (r"([\p{L}\p{N}][\p{L}\p{N}\p{Mn}\p{Mc}]*)|[^\p{L}\p{N}]", r" \1 "),
)


def word_list(text: str) -> list[str]:
    """The words of `text` in order, by RULE: "Café-like BLÜTEN 红花" gives ["café", "like", "blüten", "红", "花"].

    Of A-Z, a-z and 0-9 they are the maximal runs, lower-cased. Letters that came to Unicode after version 13 may be
    words in one language and none in another, by the age of its tables.
    """
    if text.isascii():
        return re.findall("[a-z0-9]+", text.lower())
    text = unicodedata.normalize("NFC", text.lower())
    kinds = "".join(map(_kind, text))
    return [text[match.start() : match.end()] for match in re.finditer("l[mn]*|w[wm]*", kinds)]


@functools.lru_cache(maxsize=4096)
def _kind(character: str) -> str:
    """w: letter or number; m: mark; l and n: the same of the scripts of LONE; blank: all else."""
    category, lone = unicodedata.category(character), bool(re.match(f"[{LONE}]", character))
    if category[0] in "LN":
        return "wl"[lone]
    return "mn"[lone] if category in ("Mn", "Mc") and not re.match(f"[{VARIATIONS}]", character) else " "
