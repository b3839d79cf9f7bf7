"""The sentences of sheets of edits, for sets of any subject: those asked for that the model knows, else captions."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from simgan_tf.text.encoders import TextEncoder


def is_known(text: str, encoder: "TextEncoder") -> bool:
    """Whether anything of a sentence reaches phi."""
    try:
        encoder.check(text)
    except ValueError:
        return False
    return True


def drawn(captions: Iterable[str], encoder: "TextEncoder", count: int) -> tuple[str, ...]:
    """At most `count` different captions that the encoder knows, at even distances in alphabetical order.

    Raises: ValueError where it knows none.
    """
    known = [caption for caption in sorted(set(captions)) if is_known(caption, encoder)]
    if not known:
        raise ValueError("the text encoder knows no word of any caption of these records; train one on them.")
    step = max(1.0, len(known) / count)
    return tuple(known[int(i * step)] for i in range(min(count, len(known))))


def known(sentences: Sequence[str], captions: Iterable[str], encoder: "TextEncoder") -> tuple[str, ...]:
    """Those of `sentences` that the encoder knows; where it knows none, as many drawn captions."""
    return tuple(text for text in sentences if is_known(text, encoder)) or drawn(captions, encoder, len(sentences))
