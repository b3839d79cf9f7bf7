"""What a person should know about a sentence before its edit: which words are not read, not known, not understood.
export/web/page/notes.js and export/serving/noting.py give the same lines. Knows encoders by their vocabulary."""

import re
from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING

from simgan_tf.text import tokens
from simgan_tf.text.released_tokens import WORD

if TYPE_CHECKING:
    from simgan_tf.text.encoders import TextEncoder

COLOURS = (
    "red orange yellow green blue purple pink white black brown grey gray violet lavender lilac mauve magenta fuchsia "
    "maroon burgundy crimson scarlet ruby cream ivory beige tan peach salmon coral gold golden silver bronze copper "
    "rust olive turquoise teal cyan aqua indigo navy"
).split()
NEGATIONS = "no not non never none neither nor without cannot except lacking lacks isnt arent dont doesnt hasnt".split()
# Share of the training captions: the shipped models' captions have a gap between 2.8 % (blue flowers) and 8.2 % (green
# birds), and what lies below it (black flowers, pink birds) comes out in other colours.
RARE = 0.05
NEAR = 4  # words after a negation among which its colour is looked for
COMMON = 1000  # words, the most frequent ones, that may have been meant: rarer ones are often typing errors themselves
SHOWN = 10  # words of those that are left out


def shares(captions: Iterable[str]) -> dict[str, float]:
    """The share of `captions`, 0 to 1, that has each of COLOURS; what an encoder keeps as `colours`."""
    counts, total = Counter(), 0
    for caption in captions:
        counts.update(set(tokens.word_list(caption)).intersection(COLOURS))
        total += 1
    return {colour: round(counts[colour] / max(total, 1), 6) for colour in COLOURS}


def contract(text_encoder: "TextEncoder") -> dict:
    """What a client without this code must know, as plain JSON values; a share is null where it was not counted."""
    return {
        "negations": NEGATIONS,
        "colours": {colour: text_encoder.colours.get(colour) for colour in COLOURS},
        "rare": RARE,
    }


def notes(text: str, text_encoder: "TextEncoder") -> list[str]:
    """Lines about `text` for people, none where all of it is understood.

    In this order: what lies beyond the encoder's length; unknown words, with the one that may have been meant;
    negations, which no encoder here understands; colours that fewer than RARE of the training captions have.
    """
    vocabulary, length = text_encoder.vocabulary, text_encoder.length
    kind = vocabulary.contract["tokenisation"]
    if kind == "characters":
        data, known, room = text.encode("utf-8", "surrogatepass"), [], f"{length} characters"
        # A character that the cut goes through is neither read nor left out.
        read, rest = (part.decode("utf-8", "replace").replace("\ufffd", "") for part in (data[:length], data[length:]))
        rest = re.findall(WORD, rest)
    else:
        split, known = vocabulary.split(text), vocabulary.words
        length -= kind == "spaces"  # whose last id is the end of the sentence
        read, rest, room = " ".join(split[:length]), split[length:], f"{length} words"
    words, unknown = tokens.word_list(read), vocabulary.unknown_words(read)
    negations = [i for i in range(len(words)) if _is_negation(words, i)]
    told = {word for i in negations for word in words[i : i + 2] if word in (words[i], "t")}
    unknown = [word for word in unknown if word not in told]
    lines = []
    if rest:
        more = f" and {len(rest) - SHOWN} more" if len(rest) > SHOWN else ""
        lines.append(f"only the first {room} are read; left out: {_printable(' '.join(rest[:SHOWN]))}{more}")
    if unknown:
        lines.append(f"unknown to the model: {', '.join(_with_meant(word, known) for word in unknown)}")
    lines += [_negation(words, i) for i in negations]
    for colour in words:
        share = text_encoder.colours.get(colour)
        if share is not None and share < RARE and colour not in unknown:
            lines.append(rare(colour, share))
    return list(dict.fromkeys(lines))


def _is_negation(words: list[str], i: int) -> bool:
    """Also of "isn't", which is the two words isn and t."""
    return words[i] in NEGATIONS or (words[i].endswith("n") and words[i + 1 : i + 2] == ["t"])


def _negation(words: list[str], i: int) -> str:
    short = words[i + 1 : i + 2] == ["t"]
    after = words[i + 1 : i + 1 + NEAR + short]
    taken = next((word for word in after if word in COLOURS), "what follows")
    said = words[i] + ("'t" if short else "")
    return f'"{said}" is not understood: {taken} is taken as asked for'


def rare(colour: str, share: float) -> str:
    """The line about a colour that this share of the training captions has, 0 to RARE."""
    how_many = f"only one training caption in {int(1 / share + 0.5)} says" if share else "no training caption says"
    return f"{how_many} {colour}: the edit may have another colour"


def _with_meant(word: str, known: list[str]) -> str:
    meant = _meant(word, known)
    return f"{_printable(word)} (did you mean {meant}?)" if meant else _printable(word)


def _meant(word: str, known: list[str]) -> str | None:
    """The nearest of the COLOURS that are known and the COMMON words, of equals the first; None where none is near."""
    if word in COLOURS:
        return None
    farthest = 0 if len(word) < 4 else 1 if len(word) < 8 else 2
    best = None
    for candidate in [*(colour for colour in COLOURS if colour in known), *known[:COMMON]]:
        if abs(len(candidate) - len(word)) <= farthest and (far := distance(word, candidate)) <= farthest:
            best, farthest = candidate, far - 1
    return best


def distance(first: str, second: str) -> int:
    """Letters to put in, leave out, change or swap with their neighbour, to make `second` of `first`.

    Source: optimal string alignment, the restricted Damerau-Levenshtein distance. Unlike difflib's ratio it counts a
    swap, the commonest typing error, as one; and the page needs no copy of difflib.
    """
    before, above = [], list(range(len(second) + 1))
    for i, letter in enumerate(first, start=1):
        row = [i]
        for j, other in enumerate(second, start=1):
            row.append(min(above[j] + 1, row[-1] + 1, above[j - 1] + (letter != other)))
            if i > 1 and j > 1 and letter == second[j - 2] and first[i - 2] == other:
                row[j] = min(row[j], before[j - 2] + 1)
        before, above = above, row
    return above[-1]


def _printable(text: str) -> str:
    return "".join(letter if letter.isprintable() else f"U+{ord(letter):04X}" for letter in text)
