"""What simgan_tf/text/notes.py tells of a sentence, inside the graph, so that a server says it beside the picture."""

from collections.abc import Sequence

import tensorflow as tf

from simgan_tf.text import notes
from simgan_tf.text.encoders import TextEncoder
from simgan_tf.text.released_tokens import Characters
from simgan_tf.text.tokens import Vocabulary, graph_words


def of(text: tf.Tensor, encoder: TextEncoder, table: tf.lookup.StaticHashTable | None) -> tf.Tensor:
    """[B] string: the lines of `notes.notes` of each of text [B], a newline between two; "" where there is none.

    table: of the encoder's vocabulary, see `Vocabulary.file_table`; None where it reads characters.
    Differs: where the encoder reads letter by letter, or splits at blanks alone, a character that cannot be printed is
    told as "?".
    """
    vocabulary, length = encoder.vocabulary, encoder.length

    def one(sentence: tf.Tensor) -> tf.Tensor:
        known: Sequence[str] = []
        if isinstance(vocabulary, Characters):
            read, rest, room = _cut_bytes(sentence, length)
            letters = tf.strings.unicode_split(tf.strings.lower(read), "UTF-8")
            unknown = tf.boolean_mask(letters, ~_among(letters, vocabulary.alphabet))
        else:
            words_alone = isinstance(vocabulary, Vocabulary)
            most = length if words_alone else length - 1  # the last id is the end of the sentence
            split = (graph_words if words_alone else vocabulary.graph_words)(sentence[None])[0]
            read, rest, room = tf.strings.reduce_join(split[:most], separator=" "), split[most:], f"{most} words"
            known, ids = vocabulary.words, table.lookup(split[:most])
            unknown = tf.boolean_mask(split[:most], ids == vocabulary.contract["unknown"])
        words = graph_words(read[None])[0]
        negations, told = _negations(words)
        unknown = tf.boolean_mask(unknown, ~tf.reduce_any(unknown[:, None] == told[None], axis=1))
        unknown = tf.unique(unknown)[0]
        lines = tf.concat([
            _left_out(rest, room), _unknown(unknown, known), negations, _rare(words, unknown, encoder.colours)
        ], 0)  # fmt: skip
        return tf.strings.reduce_join(tf.unique(lines)[0], separator="\n")

    return tf.map_fn(one, text, fn_output_signature=tf.TensorSpec([], tf.string))


def _cut_bytes(sentence: tf.Tensor, length: int) -> tuple[tf.Tensor, tf.Tensor, str]:
    """What is read of a sentence's bytes, the words of the rest, and how many are read, in words."""
    end = tf.minimum(tf.strings.length(sentence), length)
    parts = tf.stack([tf.strings.substr(sentence, 0, end), tf.strings.substr(sentence, end, 2**30)])
    # A character that the cut goes through is neither read nor left out.
    read, rest = tf.unstack(tf.strings.unicode_transcode(parts, "UTF-8", "UTF-8", errors="ignore"))
    return read, tf.strings.split(rest), f"{length} characters"


def _among(values: tf.Tensor, of: Sequence[str]) -> tf.Tensor:
    """Whether each of values [n] is one of these strings, [n] bool."""
    return tf.reduce_any(values[:, None] == tf.constant(list(of))[None], axis=1)


def _printable(words: tf.Tensor) -> tf.Tensor:
    return tf.strings.regex_replace(words, r"[\pC\pZ]", "?")


def _left_out(rest: tf.Tensor, room: str) -> tf.Tensor:
    """One line, or none, of the words [n] that are not read."""
    count = tf.size(rest)
    first = tf.strings.reduce_join(_printable(rest[: notes.SHOWN]), separator=" ")
    more = tf.strings.join([" and ", tf.strings.as_string(count - notes.SHOWN), " more"])
    more = tf.where(count > notes.SHOWN, more, "")
    line = tf.strings.join([f"only the first {room} are read; left out: ", first, more])
    return tf.boolean_mask(line[None], count[None] > 0)


def _unknown(unknown: tf.Tensor, known: Sequence[str]) -> tf.Tensor:
    """One line, or none, of unknown words [n], each with the known word that may have been meant."""
    shown = _printable(unknown)
    if known:
        near = tf.map_fn(lambda word: _meant(word, known), unknown, fn_output_signature=tf.TensorSpec([], tf.string))
        shown = tf.where(near == "", shown, tf.strings.join([shown, " (did you mean ", near, "?)"]))
    line = tf.strings.join(["unknown to the model: ", tf.strings.reduce_join(shown, separator=", ")])
    return tf.boolean_mask(line[None], tf.size(unknown)[None] > 0)


def _meant(word: tf.Tensor, known: Sequence[str]) -> tf.Tensor:
    """The known word that is nearest by `notes.distance`, of equals the first; "" where none is near enough.

    Optimal string alignment to all candidates at once: a row of the table a letter of the word, a column a letter of
    the candidates.
    """
    all_known = set(known)
    candidates = [*(colour for colour in notes.COLOURS if colour in all_known), *known[: notes.COMMON]]
    codes = [[ord(letter) for letter in candidate] for candidate in candidates]
    longest = max(map(len, codes))
    others = tf.constant([row + [-1] * (longest - len(row)) for row in codes])  # [K, longest]
    lengths = tf.constant([len(row) for row in codes])
    letters = tf.strings.unicode_decode(word, "UTF-8")
    size = tf.size(letters)

    def next_row(i: tf.Tensor, before: tf.Tensor, above: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        letter, last = letters[i], letters[tf.maximum(i - 1, 0)]
        row = [above[:, 0] + 1]
        for j in range(1, longest + 1):
            differs = tf.cast(others[:, j - 1] != letter, tf.int32)
            best = tf.minimum(tf.minimum(above[:, j], row[-1]) + 1, above[:, j - 1] + differs)
            if j > 1:
                swapped = (i > 0) & (others[:, j - 2] == letter) & (others[:, j - 1] == last)
                best = tf.where(swapped, tf.minimum(best, before[:, j - 2] + 1), best)
            row.append(best)
        return i + 1, above, tf.stack(row, axis=1)

    start = tf.tile(tf.range(longest + 1)[None], [len(codes), 1])
    enough = tf.minimum(size, longest + 3)  # a longer word is near to none
    table = tf.while_loop(lambda i, *_: i < enough, next_row, (0, start, start))[2]
    distances = tf.gather(table, lengths, batch_dims=1)  # [K]
    nearest = tf.argmin(distances, output_type=tf.int32)
    farthest = tf.where(size < 4, 0, tf.where(size < 8, 1, 2))
    near = (distances[nearest] <= farthest) & (size <= longest + 2) & ~_among(word[None], notes.COLOURS)[0]
    return tf.where(near, tf.gather(tf.constant(candidates), nearest), "")


def _negations(words: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """A line of each negation among words [n], and the words that need no other line."""
    reach = notes.NEAR + 1
    padded = tf.concat([words, tf.fill([reach], "")], 0)
    after = tf.gather(padded, tf.range(tf.size(words))[:, None] + tf.range(1, reach + 1)[None])  # [n, reach]
    short = after[:, 0] == "t"  # isn't is two words, isn and t
    is_negation = _among(words, notes.NEGATIONS) | (short & tf.strings.regex_full_match(words, ".*n"))
    colours = tf.reduce_any(after[..., None] == tf.constant(notes.COLOURS), axis=-1)
    colours &= short[:, None] | (tf.range(reach) < notes.NEAR)[None]
    first = tf.argmax(tf.cast(colours, tf.int32), axis=1)
    taken = tf.where(tf.reduce_any(colours, axis=1), tf.gather(after, first, batch_dims=1), "what follows")
    said = tf.strings.join([words, tf.where(short, "'t", "")])
    lines = tf.strings.join(['"', said, '" is not understood: ', taken, " is taken as asked for"])
    told = tf.concat([words, tf.where(short, "t", words)], 0)
    return tf.boolean_mask(lines, is_negation), tf.boolean_mask(told, tf.tile(is_negation, [2]))


def _rare(words: tf.Tensor, unknown: tf.Tensor, shares: dict[str, float]) -> tf.Tensor:
    """A line of each of words [n] that is a colour of few training captions and not unknown."""
    rare = {colour: notes.rare(colour, share) for colour, share in shares.items() if share < notes.RARE}
    if not rare:
        return tf.zeros([0], tf.string)
    same = words[:, None] == tf.constant(list(rare))[None]
    told = tf.reduce_any(same, axis=1) & ~tf.reduce_any(words[:, None] == unknown[None], axis=1)
    lines = tf.gather(tf.constant(list(rare.values())), tf.argmax(tf.cast(same, tf.int32), axis=1))
    return tf.boolean_mask(lines, told)
