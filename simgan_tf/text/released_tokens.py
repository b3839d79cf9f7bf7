"""Ids of a sentence as released encoders make them, of words between spaces or of characters; in Python and graphs."""

import re
from collections.abc import Iterable, Sequence

import numpy as np
import tensorflow as tf

from simgan_tf.text import tokens

LOWER = {upper: upper + 32 for upper in range(ord("A"), ord("Z") + 1)}  # ASCII alone, as tf.strings.lower does it
WORD = r"[^ \t\n\v\f\r]+"  # what tf.strings.split and Python 2's str.split leave between white space


class Dictionary(tokens.WordIds):
    """Words as Kiros et al. count them: 0 padding, 1 end of sentence, 2 unknown, then `words` from 3 on.

    A word is what stands between spaces, tabs and line ends; marks belong to it, so "wings." is not "wings". Capitals
    are kept where some word of the dictionary has one, and are made small (A-Z alone) where none has.
    The end of the sentence is an id of its own after the last word; a row of ids never lacks it.
    """

    PAD, END, UNKNOWN = 0, 1, 2
    SPECIAL = ("< padding >", "< end of sentence >", "< unknown word >")  # lines with spaces, which no word can have

    def __init__(self, words: Sequence[str]) -> None:
        """Raises: ValueError for an entry that is empty, has white space in it, or stands twice."""
        for word in words:
            if not re.fullmatch(WORD, word):
                raise ValueError(f"dictionary entry {tokens.short(word)} must be one word without white space")
        super().__init__(words)
        self.lower_case = not any(re.search(r"[A-Z]", word) for word in self.words)

    @property
    def contract(self) -> dict:
        """What a client without this code must know, beside `length` and the vocabulary file."""
        return {
            "tokenisation": "spaces",
            "padding": self.PAD,
            "end": self.END,
            "unknown": self.UNKNOWN,
            "lower_case": self.lower_case,
            "rule": "words are what stands between spaces, tabs, line feeds, vertical tabs, form feeds and carriage "
                    "returns; if lower_case, A-Z become a-z; the id of a word is the number, from 0, of its line in "
                    "the vocabulary, or `unknown`; keep the first `length` - 1 ids, add `end`, fill up with `padding`",
        }  # fmt: skip

    def split(self, text: str) -> list[str]:
        """The words of `text`, in order, capitals made small where the dictionary has none."""
        return re.findall(WORD, text.translate(LOWER) if self.lower_case else text)

    def batch(self, texts: Iterable[str], length: int) -> np.ndarray:
        """Ids [n, length] int32: at most `length` - 1 words, the end of the sentence, zeros."""
        rows = ([self._ids.get(word, self.UNKNOWN) for word in self.split(text)] for text in texts)
        return tokens.pad([[*row[: length - 1], self.END] for row in rows], length)

    def graph_words(self, strings: tf.Tensor) -> tf.RaggedTensor:
        """`split` of each of strings [B], as TensorFlow ops: [B, (words)]."""
        return tf.strings.split(tf.strings.lower(strings) if self.lower_case else strings)

    def graph(self, strings: tf.Tensor, length: int, table: tf.lookup.StaticHashTable) -> tf.Tensor:
        """What `batch` gives, as TensorFlow ops, of strings [B]; table: of `file_table`."""
        words = self.graph_words(strings)
        ids = words.with_flat_values(tf.cast(table.lookup(words.flat_values), tf.int32))[:, : length - 1]
        ends = tf.fill([tf.shape(strings)[0], 1], self.END)
        return tf.concat([ids, ends], axis=1).to_tensor(self.PAD, shape=[None, length])

    def check(self, text: str) -> None:
        """Raises: ValueError for a text without a word, or without a known one."""
        words = self.split(text)
        if not words:
            raise ValueError(f"text {tokens.short(text)} has no word; write a sentence of English words")
        if not any(word in self._ids for word in words):
            raise ValueError(
                f"no word of {tokens.short(text)} is known to this dictionary of {len(self.words)} words; marks must "
                f"stand apart from words, as in 'a dog .'{'' if self.lower_case else ', and capitals count'}"
            )


class Characters:
    """Characters and their ids: 0 for padding and for every unknown byte, 1 on for the characters of `alphabet`.

    A sentence is its UTF-8 bytes, one id each, capitals A-Z made small.
    """

    in_file = False  # the alphabet stands in the contract

    def __init__(self, alphabet: str) -> None:
        """alphabet: ASCII characters without capitals; one that stands twice has the id of its last place."""
        self.alphabet = alphabet
        ids = np.zeros(256, np.int32)
        for i, character in enumerate(alphabet, start=1):
            ids[ord(character)] = i
        ids[ord("A") : ord("Z") + 1] = ids[ord("a") : ord("z") + 1]
        self._ids = ids

    @property
    def contract(self) -> dict:
        """What a client without this code must know, beside `length`."""
        return {
            "tokenisation": "characters",
            "alphabet": self.alphabet,
            "padding": tokens.PAD,
            "unknown": tokens.PAD,
            "rule": "one id a byte of the sentence in UTF-8, A-Z first made a-z: the last place, from 1, of that "
                    "character in the alphabet, or `unknown`; keep the first `length` ids, fill up with `padding`",
        }  # fmt: skip

    def batch(self, texts: Iterable[str], length: int) -> np.ndarray:
        """Ids [n, length] int32; surrogates without a partner are unknown."""
        rows = (np.frombuffer(text.encode("utf-8", "surrogatepass")[:length], np.uint8) for text in texts)
        return tokens.pad([self._ids[row] for row in rows], length)

    def graph(self, strings: tf.Tensor, length: int, table: None = None) -> tf.Tensor:
        """What `batch` gives, as TensorFlow ops, of strings [B]; needs no table."""
        data = tf.io.decode_raw(strings, tf.uint8, fixed_length=length)  # [B, length], cut or zero padded
        return tf.gather(tf.constant(self._ids), tf.cast(data, tf.int32))

    def unknown_words(self, text: str) -> list[str]:
        """Characters of `text` that are not in the alphabet, each once, in order."""
        return list(dict.fromkeys(character for character in text if not self._known(character)))

    def check(self, text: str) -> None:
        """Raises: ValueError for a text without a known character other than the space."""
        if not any(self._known(character) for character in text if character != " "):
            raise ValueError(f"no character of {tokens.short(text)} is known; write a sentence of English words")

    def _known(self, character: str) -> bool:
        return ord(character) < 128 and self._ids[ord(character)] > 0


def from_contract(contract: dict, vocabulary_path: str | None) -> tokens.Vocabulary | Dictionary | Characters:
    """What makes the ids that `contract`, a packed one, describes; vocabulary_path: of the file packed beside it.

    Raises: ValueError for a tokenisation that this code does not know.
    """
    kind = contract.get("tokenisation", "words")
    if kind == "words":
        return tokens.Vocabulary.load(vocabulary_path)
    if kind == "spaces":
        return Dictionary.load(vocabulary_path)
    if kind == "characters":
        return Characters(contract["alphabet"])
    raise ValueError(f"tokenisation {kind!r} is none of words, spaces, characters; export again with this code")
