"""Unicode's normal form NFC as TensorFlow ops, which TensorFlow itself does not have. Its tables are Python's."""

import functools
import sys
import unicodedata

import numpy as np
import tensorflow as tf

LONGEST = 4  # code points of one that is taken apart
L, V, T, S = 0x1100, 0x1161, 0x11A7, 0xAC00  # Hangul: leading consonants, vowels, trailing consonants, syllables
VOWELS, TRAILING = 21, 28


@functools.cache
def _tables() -> tuple[np.ndarray, ...]:
    """Code points that are taken apart [n] and their parts [n, LONGEST], 0 = none; pairs first * 2^21 + second [m] and
    what they become [m]; marks [k] and their classes [k]. All sorted. Hangul is left to arithmetic."""
    apart, pairs, marks = [], {}, []
    for code in range(sys.maxunicode + 1):
        character = chr(code)
        if unicodedata.combining(character):
            marks.append((code, unicodedata.combining(character)))
        if S <= code < S + 11172 or not (raw := unicodedata.decomposition(character)) or raw[0] == "<":
            continue
        parts = [ord(part) for part in unicodedata.normalize("NFD", character)]
        apart.append((code, *parts, *[0] * (LONGEST - len(parts))))
        both = [int(part, 16) for part in raw.split()]
        if len(both) == 2 and unicodedata.normalize("NFC", character) == character:  # others never come together again
            pairs[(both[0] << 21) + both[1]] = code
    apart, marks = np.array(apart, np.int32), np.array(marks, np.int32)
    keys = np.array(sorted(pairs), np.int64)
    return apart[:, 0], apart[:, 1:], keys, np.array([pairs[key] for key in keys], np.int32), marks[:, 0], marks[:, 1]


def nfc(strings: tf.Tensor) -> tf.Tensor:
    """Valid UTF-8 strings [B] in the form NFC, each with a blank before it."""
    strings = tf.strings.join([" ", strings])  # no mark joins the last letter of the string before
    plain = tf.reduce_all(tf.strings.regex_full_match(strings, r"[\x00-\x{2FF}]*"))  # nothing there comes together
    return tf.cond(plain, lambda: strings, lambda: _composed(strings))


def _composed(strings: tf.Tensor) -> tf.Tensor:
    apart, parts, *_ = _tables()
    ragged = tf.strings.unicode_decode(strings, "UTF-8")
    codes, rows = ragged.flat_values, ragged.value_rowids()
    place, found = _search(apart, codes)
    codes = tf.where(found[:, None], tf.gather(parts, place), tf.pad(codes[:, None], [[0, 0], [0, LONGEST - 1]]))
    there = tf.concat([tf.ones_like(codes[:, :1], tf.bool), codes[:, 1:] > 0], axis=1)
    rows = tf.boolean_mask(tf.repeat(rows[:, None], LONGEST, axis=1), there)
    codes = tf.boolean_mask(codes, there)
    classes = _class(codes)
    order = tf.argsort(tf.cumsum(tf.cast(classes == 0, tf.int32)) * 256 + classes, stable=True)
    codes = tf.gather(codes, order)

    def join(codes: tf.Tensor, rows: tf.Tensor, passed: tf.Tensor, _: tf.Tensor) -> tuple[tf.Tensor, ...]:
        """Every starter with the first sign after it that it joins; passed: signs that were stepped over, for good."""
        count, classes = tf.size(codes), _class(codes)
        places = tf.range(count)
        before = tf.maximum(places - 1, 0)
        starters = _last(classes == 0)
        starter = tf.where(classes == 0, before, starters)
        blocked = tf.where(classes == 0, tf.gather(classes, before) != 0, tf.gather(classes, before) == classes)
        joined, found = _pair(tf.gather(codes, starter), codes)
        found &= ~blocked & ~passed & (places > 0)
        first = tf.math.unsorted_segment_min(tf.where(found, places, count), starter, count)
        taken = found & (tf.gather(first, starter) == places)
        codes = tf.tensor_scatter_nd_update(
            codes, tf.boolean_mask(starter, taken)[:, None], tf.boolean_mask(joined, taken)
        )
        passed |= (classes > 0) & (places < tf.gather(first, starter)) & (tf.gather(first, starter) < count)
        kept = [tf.boolean_mask(values, ~taken) for values in (codes, rows, passed)]
        return *kept, tf.reduce_any(taken)

    codes, rows, *_ = tf.while_loop(
        lambda codes, rows, passed, more: more,
        join,
        (codes, rows, tf.zeros_like(codes, tf.bool), tf.constant(True)),
        shape_invariants=(tf.TensorShape([None]),) * 3 + (tf.TensorShape([]),),
    )
    ragged = tf.RaggedTensor.from_value_rowids(codes, rows, ragged.nrows(), validate=False)
    return tf.strings.unicode_encode(ragged, "UTF-8")


def _last(where: tf.Tensor) -> tf.Tensor:
    """Place of the last True at or before each place, of [N] bool whose first is True."""
    return tf.gather(tf.cast(tf.where(where)[:, 0], tf.int32), tf.cumsum(tf.cast(where, tf.int32)) - 1)


def _search(keys: np.ndarray, values: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Place in the sorted `keys` of each value, and whether it is there."""
    place = tf.minimum(tf.searchsorted(tf.constant(keys), values), len(keys) - 1)
    return place, tf.gather(tf.constant(keys), place) == values


def _class(codes: tf.Tensor) -> tf.Tensor:
    """The canonical combining class of each code point, 0 = it starts anew."""
    *_, marks, classes = _tables()
    place, found = _search(marks, codes)
    return tf.where(found, tf.gather(classes, place), 0)


def _pair(first: tf.Tensor, second: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """What two code points become, and whether they become one."""
    _, _, keys, joined, *_ = _tables()
    place, found = _search(keys, tf.cast(first, tf.int64) * 2**21 + tf.cast(second, tf.int64))
    syllable = S + ((first - L) * VOWELS + second - V) * TRAILING
    opens = (first >= L) & (first < L + 19) & (second >= V) & (second < V + VOWELS)
    closes = (first >= S) & (first < S + 11172) & ((first - S) % TRAILING == 0) & (second > T) & (second < T + TRAILING)
    either = tf.where(opens, syllable, tf.where(closes, first + second - T, tf.gather(joined, place)))
    return either, found | opens | closes
