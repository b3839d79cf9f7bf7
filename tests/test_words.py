"""One table of sentences, words.json, for every place that makes ids of text: Python, TensorFlow ops, JavaScript.
The words in it were written by hand, or, of other letters than a to z, by the package regex. The
released encoders' own rules are held to it between Python and graph."""

import json
import pathlib
import unicodedata

import numpy as np
import pytest
import tensorflow as tf

from data.captions import ALPHABET
from simgan_tf.text import normal_form, released_tokens
from simgan_tf.text import tokens as tokens_lib
from simgan_tf.text.released_tokens import Characters, Dictionary
from simgan_tf.text.tokens import Vocabulary

TABLE: dict[str, list[str]] = json.loads(pathlib.Path(__file__).with_name("words.json").read_text(encoding="ascii"))
TEXTS = list(TABLE)
BYTES = [text.encode("utf-8", "surrogatepass") for text in TEXTS]  # half a surrogate pair becomes bytes of no UTF-8
NOT_UTF8 = [b"red\xffblue", b"\xc3(red \xf0\x9f\x8c", b"\x80red\xed\xa0\xbdblue", b"red\xc0\xafblue", b"\xfe\xff red"]


def test_the_table_is_wide():
    """Every kind of trouble is there, and known words that a sloppy reader would find where there are none."""
    assert len(TABLE) >= 350
    assert {len(text) for text in TEXTS} >= {0, 1, 10_000}
    for part in "\0\u0301\u0131\ufb01\u05d0\uff32\U0001f338\ud83d\u00a0'-7":
        assert any(part in text for text in TEXTS), part
    assert sum(not words for words in TABLE.values()) >= 20


SCRIPTS = ("LATIN", "CYRILLIC", "GREEK", "CJK", "HIRAGANA", "HANGUL", "ARABIC", "HEBREW", "DEVANAGARI", "THAI")


def test_ten_scripts_are_in_it():
    for script in SCRIPTS:
        foreign = [text for text in TEXTS if any(unicodedata.name(c, "").startswith(script) for c in text)]
        assert len(foreign) >= 4, script
        assert sum(bool(TABLE[text]) for text in foreign) >= 4, script


@pytest.mark.ci
@pytest.mark.slow
def test_the_form_of_unicode_in_the_graph():
    """Python's own NFC of every letter and mark that can be taken apart or put together, and of random mixtures."""
    letters = [chr(c) for c in range(0x30000) if unicodedata.decomposition(chr(c)) or unicodedata.combining(chr(c))]
    parts = [unicodedata.normalize("NFD", letter) for letter in letters]
    random = np.random.default_rng(0)
    pool = letters + parts + list("aeo \u0301\u0323\u0302\u1100\u1161\u11a8") * 500
    mixed = ["".join(random.choice(pool, 6)) for _ in range(5000)]
    texts = letters + parts + mixed + ["", "plain"]
    found = normal_form.nfc(tf.constant(texts)).numpy()
    assert [text.decode() for text in found] == [" " + unicodedata.normalize("NFC", text) for text in texts]


def test_words_in_python():
    assert {text: tokens_lib.word_list(text) for text in TEXTS} == TABLE


@pytest.fixture(scope="module")
def vocabulary() -> Vocabulary:
    """Every second word of the table is known, so that a word read otherwise shows as well as one found by mistake."""
    return Vocabulary(sorted({word for words in TABLE.values() for word in words})[::2])


def table_of(vocabulary: Vocabulary | Dictionary, folder: pathlib.Path) -> tf.lookup.StaticHashTable:
    """The table of a file that the vocabulary wrote into `folder`."""
    vocabulary.save(str(folder / "words.txt"))
    return vocabulary.file_table(str(folder / "words.txt"))


@pytest.mark.parametrize("length", [1, 4, 30])
def test_ids_in_python_and_in_the_graph(vocabulary, length, tmp_path):
    numbers = {word: i + 2 for i, word in enumerate(vocabulary.words)}
    expected = np.zeros((len(TABLE), length), np.int32)
    for row, words in zip(expected, TABLE.values(), strict=True):
        row[: len(words)] = [numbers.get(word, 1) for word in words][:length]
    np.testing.assert_array_equal(vocabulary.batch(TEXTS, length), expected)
    found = vocabulary.graph(tf.constant(BYTES), length, table_of(vocabulary, tmp_path))
    assert found.dtype == tf.int32
    np.testing.assert_array_equal(found, expected)


def test_bytes_that_are_no_utf8_separate_words(tmp_path):
    vocabulary = Vocabulary(["red", "blue"])
    found = vocabulary.graph(tf.constant(NOT_UTF8), 3, table_of(vocabulary, tmp_path))
    assert found.numpy().tolist() == [[2, 3, 0], [2, 0, 0], [2, 3, 0], [2, 3, 0], [2, 0, 0]]


def dictionary(capitals: bool) -> Dictionary:
    """Every second of the table's words between spaces; marks, emoji and foreign letters belong to them."""
    words = {word for text in TEXTS for word in text.encode("utf-8", "replace").decode().split()}
    words = {word if capitals else word.translate(released_tokens.LOWER) for word in words}
    return Dictionary(sorted(word for word in words if not any(c.isspace() for c in word))[::2])


@pytest.mark.parametrize("capitals", [True, False])
def test_words_between_spaces_in_python_and_in_the_graph(capitals, tmp_path):
    made = dictionary(capitals)
    assert made.lower_case is not capitals
    expected = made.batch(TEXTS, 12)
    assert {1, 2, 3} <= set(expected.ravel().tolist()) and len(set(expected.ravel().tolist())) > 100
    table = table_of(made, tmp_path)
    loaded = Dictionary.load(str(tmp_path / "words.txt"))
    assert loaded.words == made.words and loaded.lower_case == made.lower_case
    np.testing.assert_array_equal(made.graph(tf.constant([*BYTES, *NOT_UTF8]), 12, table)[: len(BYTES)], expected)


def test_words_between_spaces_by_hand(tmp_path):
    """Words 3, 4, 5; unknown 2; the end, 1, always stands, also after a cut. The lines of the file are no words."""
    made = Dictionary(["dog", ".", "a"])
    texts = ["a dog .", "a\u00a0dog.", "", "a dog . a dog", "A\tDog", "< end of sentence >", "< padding >", "a\u2003a"]
    assert made.batch(texts, 4).tolist() == [
        [5, 3, 4, 1], [2, 1, 0, 0], [1, 0, 0, 0], [5, 3, 4, 1], [5, 3, 1, 0], [2, 2, 2, 1], [2, 2, 2, 1], [2, 1, 0, 0],
    ]  # fmt: skip
    table = table_of(made, tmp_path)
    np.testing.assert_array_equal(made.graph(tf.constant(texts), 4, table), made.batch(texts, 4))
    assert made.graph(tf.constant([], tf.string), 4, table).shape == (0, 4)
    capitals = Dictionary(["dog", "A"])
    assert capitals.batch(["A Dog a dog"], 6).tolist() == [[4, 2, 2, 3, 1, 0]]
    assert capitals.unknown_words("A Dog. a A dog Dog.") == ["Dog.", "a"]
    made.check("wolf dog")
    with pytest.raises(ValueError, match="no word of 'a. dog!' is known to this dictionary of 3 words; marks must"):
        made.check("a. dog!")
    with pytest.raises(ValueError, match="has no word"):
        made.check(" \n ")


@pytest.mark.parametrize("words, message", [(["a b"], "'a b' must be one word"), ([""], "'' must be"),
                                            (["a", "b", "a"], "'a' more than once")])  # fmt: skip
def test_wrong_dictionaries(words, message):
    with pytest.raises(ValueError, match=message):
        Dictionary(words)


def test_wrong_dictionary_file(tmp_path):
    Vocabulary(["red"]).save(str(tmp_path / "v.txt"))
    with pytest.raises(ValueError, match=r"v\.txt is no vocabulary: it must begin with the lines < padding >"):
        Dictionary.load(str(tmp_path / "v.txt"))


def test_characters_in_python_and_in_the_graph():
    made = Characters(ALPHABET)
    for length in (1, 20, 201):
        expected = made.batch(TEXTS, length)
        assert expected.dtype == np.int32
        np.testing.assert_array_equal(made.graph(tf.constant(BYTES), length), expected)
    assert made.graph(tf.constant(NOT_UTF8), 5).numpy()[0].tolist() == [18, 5, 4, 0, 2]
    assert made.graph(tf.constant([], tf.string), 4).shape == (0, 4)


def test_characters_by_hand():
    """a..z are 1..26, 0..9 are 27..36, the hyphen 60 and not 37, the space 70; an e with an accent is two bytes."""
    made = Characters(ALPHABET)
    assert made.batch(["Az09", "- ,", "\u00e9a", "\n\0{", ""], 4).tolist() == [
        [1, 26, 27, 36], [60, 70, 38, 0], [0, 0, 1, 0], [0, 0, 68, 0], [0, 0, 0, 0],
    ]  # fmt: skip
    assert made.unknown_words("Caf\u00e9 \u00e9\u2014 {red}") == ["\u00e9", "\u2014"]
    made.check("\u00e9a")
    for text in ("", "   ", "\u00e9\n"):
        with pytest.raises(ValueError, match="no character of .* is known"):
            made.check(text)


def test_packed_contracts_make_the_same_ids(tmp_path):
    """What an export packs is enough to make ids again; contracts of before there were kinds are of words."""
    path = str(tmp_path / "vocabulary.txt")
    for made in (Vocabulary(["red", "blue"]), Dictionary(["red", "Blue"]), Characters(ALPHABET)):
        if hasattr(made, "save"):
            made.save(path)
        again = released_tokens.from_contract(json.loads(json.dumps(made.contract)), path)
        assert type(again) is type(made)
        np.testing.assert_array_equal(again.batch(TEXTS, 7), made.batch(TEXTS, 7))
    Vocabulary(["red"]).save(path)
    assert isinstance(released_tokens.from_contract({"length": 3}, path), Vocabulary)
    with pytest.raises(ValueError, match="tokenisation 'sounds' is none of words, spaces, characters"):
        released_tokens.from_contract({"tokenisation": "sounds"}, path)
