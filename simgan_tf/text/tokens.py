"""Words of a sentence and their ids: one definition, in Python and as TensorFlow string ops."""

from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np
import tensorflow as tf
from tqdm import tqdm

from simgan_tf.system import files
from simgan_tf.text import normal_form, words
from simgan_tf.text.words import word_list

PAD, UNKNOWN = 0, 1
MAX_VOCABULARY = 2**24  # bytes of its file: two million words


def graph_words(strings: tf.Tensor) -> tf.RaggedTensor:
    """`word_list` of each of strings [B] in UTF-8, as TensorFlow ops: [B, (words)]; other bytes separate words."""
    valid = tf.strings.unicode_transcode(  # control characters: TensorFlow's lower() ends at a NUL
        strings, "UTF-8", "UTF-8", replacement_char=ord(" "), replace_control_characters=True
    )
    spaced = normal_form.nfc(tf.strings.lower(valid, encoding="utf-8"))
    for pattern, instead in words.REPLACEMENTS:
        spaced = tf.strings.regex_replace(spaced, pattern, instead)
    return tf.strings.split(spaced)


class Phi:
    """A text encoder: sentences -> ids -> vectors. vse.TextEncoder, kiros.Kiros and char_cnn_rnn.CharCnnRnn are such.

    kind: "vse", "kiros" or "char_cnn_rnn"; stands in encoder.json.   name: for people, of its file or training.
    dim (D): numbers a sentence.   length (T): ids that are kept of one.   vocabulary: how a sentence becomes ids.
    phi_scale: factor on the network's output, applied in all that is returned.
    colours: share of its training captions that has each colour, see notes.py; {} = not counted.
    variables: all raw variables that `embed` reads.   fingerprint: sha256 of all that decides what `encode` gives.
    embed(tokens [B, T] int32): phi [B, D] float32, as TensorFlow ops; `_embed` is its tf.function.
    word_vectors(tokens): of "vse" and "kiros" alone, the vectors [B, T, E] that phi takes ids for, rows of the first of
    `variables`.   save(directory): writes the folder that `encoders.load` reads, complete or not at all.
    """

    trim = True  # whether padding that all rows of a batch have may go
    colours: dict[str, float] = {}  # what a released encoder was trained on is not at hand

    def tokens(self, texts: Sequence[str]) -> np.ndarray:
        """Ids [n, T] int32 of n sentences, 0 = padding."""
        return self.vocabulary.batch(texts, self.length)

    def encode(self, texts: Sequence[str], batch_size: int = 256) -> np.ndarray:
        """phi [n, D] float32 of n sentences."""
        return self.encode_tokens(self.tokens(texts), batch_size)

    def encode_tokens(self, tokens: np.ndarray, batch_size: int = 256) -> np.ndarray:
        """phi [n, D] float32 of ids [n, T] int32; a progress bar from two seconds on.

        Equal rows are computed once. With `trim`, rows of like length go together and lose the padding they all have.
        """
        unique, inverse = np.unique(tokens, axis=0, return_inverse=True)
        lengths = (unique != PAD).sum(axis=1) if self.trim else np.full(len(unique), tokens.shape[1])
        order = np.argsort(lengths, kind="stable")
        vectors = np.zeros((len(unique), self.dim), np.float32)
        with tqdm(total=len(unique), desc="encode", unit="sentence", delay=2, leave=False) as bar:
            for start in range(0, len(order), batch_size):
                part = order[start : start + batch_size]
                longest = max(int(lengths[part].max()), 1)
                vectors[part] = self._embed(tf.constant(unique[part, :longest], tf.int32)).numpy()
                bar.update(len(part))
        return vectors[inverse.reshape(-1)]

    def check(self, text: str) -> None:
        """Raises: ValueError for a text of which nothing would reach phi."""
        self.vocabulary.check(text)

    def unknown_words(self, text: str) -> list[str]:
        """What of `text` phi does not know, each once, in order."""
        return self.vocabulary.unknown_words(text)


class WordIds:
    """Known words and their ids, first those of SPECIAL; `split` gives the words of a text, in order."""

    in_file = True  # the words stand in a file that `save` writes

    def __init__(self, words: Sequence[str]) -> None:
        self.words = list(words)
        self._ids = {word: i for i, word in enumerate(self.words, start=len(self.SPECIAL))}
        if len(self._ids) != len(self.words):
            ((twice, _),) = Counter(self.words).most_common(1)
            raise ValueError(f"{type(self).__name__.lower()} has {short(twice)} more than once; every word has one id")

    def __len__(self) -> int:
        """Number of ids, the special ones included."""
        return len(self.SPECIAL) + len(self.words)

    def save(self, path: str) -> None:
        """Writes one entry a line, the line number (from 0) being the id."""
        files.write_text(path, "".join(f"{word}\n" for word in (*self.SPECIAL, *self.words)))

    @classmethod
    def load(cls, path: str) -> "WordIds":
        """What `save` wrote. Raises: FileNotFoundError; ValueError for another file."""
        lines = files.read_text(path, MAX_VOCABULARY, "copy the folder again or train anew").split("\n")
        if tuple(lines[: len(cls.SPECIAL)]) != cls.SPECIAL or lines[-1] != "":
            raise ValueError(f"{path} is no vocabulary: it must begin with the lines {' and '.join(cls.SPECIAL)}, "
                             "have one word a line, and end with a newline")  # fmt: skip
        try:
            return cls(lines[len(cls.SPECIAL) : -1])
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error

    @classmethod
    def file_table(cls, path: str) -> tf.lookup.StaticHashTable:
        """Lookup word -> id int64 that reads a file of `save`; a SavedModel carries the file as an asset."""
        initializer = tf.lookup.TextFileInitializer(
            path, tf.string, tf.lookup.TextFileIndex.WHOLE_LINE, tf.int64, tf.lookup.TextFileIndex.LINE_NUMBER
        )
        return tf.lookup.StaticHashTable(initializer, default_value=cls.UNKNOWN)

    def unknown_words(self, text: str) -> list[str]:
        """Words of `text` without an id of their own, each once, in order."""
        return list(dict.fromkeys(word for word in self.split(text) if word not in self._ids))


class Vocabulary(WordIds):
    """The known words and their ids: 0 "<pad>", 1 "<unk>", then `words` from 2 on."""

    UNKNOWN, SPECIAL = UNKNOWN, ("<pad>", "<unk>")  # the brackets keep them from ever being a word of a sentence
    split = staticmethod(word_list)
    contract = {  # what a client without this code must know, beside `length` and the vocabulary file
        "tokenisation": "words",
        "padding": PAD,
        "unknown": UNKNOWN,
        "rule": f"{words.RULE}; the id of a word is the number, from 0, of its line in the vocabulary, or `unknown`; "
                "keep the first `length` ids, fill up with `padding`",
    }  # fmt: skip

    def __init__(self, words: Sequence[str]) -> None:
        """words: without the two special entries, each a lower-case word as `word_list` gives, each once.

        Raises:
            ValueError: an entry is not a word, or stands twice.
        """
        for word in words:
            if word_list(word) != [word]:
                raise ValueError(f"vocabulary entry {word!r} is not one lower-case word of letters and digits")
        super().__init__(words)

    @classmethod
    def build(cls, captions: Iterable[str], min_count: int = 1) -> "Vocabulary":
        """Words met at least `min_count` times, most frequent first, equals in alphabetical order.

        Raises:
            ValueError: no word is left.
        """
        counts = Counter(word for caption in captions for word in word_list(caption))
        words = [word for word in sorted(counts, key=lambda word: (-counts[word], word)) if counts[word] >= min_count]
        if not words:
            raise ValueError(
                f"no word occurs {min_count} times or more in the captions ({len(counts)} different words); "
                "check the captions or lower min_count"
            )
        return cls(words)

    def ids(self, text: str) -> list[int]:
        """One id a word of `text`, in order; 1 for an unknown word. Empty for a text without words."""
        return [self._ids.get(word, UNKNOWN) for word in word_list(text)]

    def batch(self, texts: Iterable[str], length: int) -> np.ndarray:
        """Ids [n, length] int32 of n texts, zero padded at the end or cut after `length` words."""
        return pad([self.ids(text)[:length] for text in texts], length)

    def graph(self, strings: tf.Tensor, length: int, table: tf.lookup.StaticHashTable) -> tf.Tensor:
        """What `batch` gives, as TensorFlow ops, of strings [B] in UTF-8; other bytes separate words.

        table: of `file_table`.
        """
        found = graph_words(strings)
        ids = found.with_flat_values(tf.cast(table.lookup(found.flat_values), tf.int32))
        return ids.to_tensor(PAD, shape=[None, length])  # pads and truncates

    def check(self, text: str) -> None:
        """Refuses a text of which nothing would reach the model.

        Raises:
            ValueError: `text` has no word (no letter and no digit), or none that is known.
        """
        found = word_list(text)
        if not found:
            raise ValueError(
                f"text {short(text)} has no word; write a sentence of words, "
                f"for example with {', '.join(self.words[:8])}"
            )
        if not any(word in self._ids for word in found):
            raise ValueError(
                f"no word of {short(text)} is known to this vocabulary of {len(self.words)} words; "
                f"it was built from the training captions: {', '.join(self.words[:8])}, ..."
            )


def pad(rows: Sequence[Sequence[int]], length: int) -> np.ndarray:
    """Rows of at most `length` ids as [n, length] int32, zeros at their ends."""
    tokens = np.full((len(rows), length), PAD, np.int32)
    for i, row in enumerate(rows):
        tokens[i, : len(row)] = row
    return tokens


def short(text: str) -> str:
    """`text` in quotes for a message, cut to 60 characters."""
    return repr(text if len(text) <= 60 else text[:57] + "...")
