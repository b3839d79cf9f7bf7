"""Tests of simgan_tf.text.vectors: both text forms, what is pruned, what is refused and with which line's number."""

import tracemalloc

import keras
import numpy as np
import pytest

from simgan_tf.text import vectors
from simgan_tf.text.tokens import Vocabulary
from simgan_tf.text.vse import TextEncoder

GLOVE = "the 0.1 -2 3e-1\nred 1.5 0 -.25\nRed 9 9 9\nblue 7. +8 9E1\n"


def written(tmp_path, text, name="vectors.txt"):
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return str(path)


def refused(path, words=("red",)):
    with pytest.raises(ValueError) as error:
        vectors.read(path, words)
    assert path in str(error.value) and "\n" not in str(error.value)
    return str(error.value).replace(path, "PATH")


def test_glove_text(tmp_path):
    """Only the words asked for, in their own spelling; the file's numbers as they stand in float32."""
    found = vectors.read(written(tmp_path, GLOVE), ["red", "blue", "purple"])
    assert (found.dim, found.lines, sorted(found.rows)) == (3, 4, ["blue", "red"])
    assert found.rows["red"].dtype == np.float32
    np.testing.assert_array_equal(found.rows["red"], [1.5, 0.0, -0.25])
    np.testing.assert_array_equal(found.rows["blue"], [7.0, 8.0, 90.0])


@pytest.mark.parametrize("end", ["\n", " \n", "\r\n", " \r\n"])
def test_fasttext_text_has_a_first_line_of_sizes_and_blanks_at_the_ends(tmp_path, end):
    text = end.join(["2 2", "red 1 2", "blue 3 4", ""])
    found = vectors.read(written(tmp_path, text), ["red", "blue"])
    assert (found.dim, found.lines) == (2, 2)
    np.testing.assert_array_equal([found.rows["red"], found.rows["blue"]], [[1, 2], [3, 4]])


def test_last_line_without_an_end(tmp_path):
    found = vectors.read(written(tmp_path, "red 1 2\nblue 3 4"), ["blue"])
    np.testing.assert_array_equal(found.rows["blue"], [3, 4])


def test_a_word_that_stands_twice_keeps_its_first_vector(tmp_path):
    found = vectors.read(written(tmp_path, "red 1 2\nblue 5 6\nred 3 4\n"), ["red"])
    np.testing.assert_array_equal(found.rows["red"], [1, 2])


def test_entries_with_spaces_inside_and_odd_bytes_are_stepped_over(tmp_path):
    """GloVe 840B has ". . ." and "at name@domain.com"; fastText has words of bytes that are no UTF-8."""
    text = b"red 1 2\n. . . 3 4\nat name@domain.com 5 6\n\xff\xfe 7 8\n\xe2\x80\xa8 1 1\n\nblue 9 10\n"
    found = vectors.read(written(tmp_path, text), ["red", "blue"])
    assert (found.lines, sorted(found.rows)) == (6, ["blue", "red"])


@pytest.mark.parametrize("start", ["", "2 2\n"])
def test_a_byte_order_mark_is_no_part_of_the_first_word(tmp_path, start):
    found = vectors.read(written(tmp_path, f"\ufeff{start}red 1 2\nblue 3 4\n"), ["red", "blue"])
    np.testing.assert_array_equal([found.rows["red"], found.rows["blue"]], [[1, 2], [3, 4]])


def test_numbers_as_words(tmp_path):
    """A line "5 1 2" is the word "5"; only the first line can be sizes, and has two fields then."""
    found = vectors.read(written(tmp_path, "red 1 2\n5 3 4\n1 5 6\n"), ["5", "1"])
    np.testing.assert_array_equal([found.rows["5"], found.rows["1"]], [[3, 4], [5, 6]])


@pytest.mark.parametrize(
    "text, message",
    [
        ("red 1 2 3\nblue 4 5\n", "PATH line 2: 'blue 4 5' has 2 numbers, 3 were expected from line 1"),
        ("red 1 2\nblue 4 5 6\n", "PATH line 2: 'blue 4 5 6' has 3 numbers, 2 were expected from line 1"),
        ("2 3\nred 1 2 3\nblue 1 2\n", "PATH line 3: 'blue 1 2' has 2 numbers, 3 were expected from the first line"),
        ("a 1 2\n\nred\n", "PATH line 3: 'red' has 0 numbers"),
        ("a 1 2\nred 1 x2\n", "PATH line 2: 'x2' is no finite number"),
        ("a 1 2\nred 1 nan\n", "PATH line 2: 'nan' is no finite number"),
        ("a 1 2\nred 1e99 1\n", "PATH line 2: '1e99' is no finite number"),
        ("a 1 2\nred 1_0 1\n", "PATH line 2: '1_0' is no finite number"),
        ("hello world\n", "PATH line 1: 'world' is no finite number"),
        ("hello\n", "PATH line 1: 'hello' is no word with numbers"),
        ("red\t1\t2\n", "'red\\t1\\t2' is no word with numbers"),
        ("5 2\nred 1 2\n", "PATH has 1 words, its first line says 5"),
        ("1 2\nred 1 2\nblue 1 2\n", "PATH has 2 words, its first line says 1"),
        ("5 2\n", "PATH has 0 words, its first line says 5"),
        ("a 1 2\nb 3 4\n", "PATH has none of the 1 words of the vocabulary (red, ...)"),
        ("Red 1 2\n", "has none of the 1 words"),
        ("red  1 2\nblue  1 2\n", "PATH line 1: '' is no finite number"),
        ("", "PATH is empty"),
        ("\n \n", "PATH is empty"),
        (b"\x1f\x8b\x08\x00rest", "is a gzip file; unpack it"),
        (b"PK\x03\x04rest", "is a zip archive; unpack it"),
        (b"\xba\x16\x4f\x2f\x0c\x00\x00\x00" * 9, "is a binary file, not text; give the text form"),
        (b"red " + b"1" * 2**20, "line 1 is longer than 1,048,576 bytes"),
        (b"a 1 2\n" + b"1 " * 2**19, "line 2 is longer than 1,048,576 bytes"),
        (b"red" + b" 1" * 4097 + b"\n", "PATH has 4,097 numbers a word, over 4,096"),
    ],
)  # fmt: skip
def test_wrong_files_say_what_was_expected(tmp_path, text, message):
    assert message in refused(written(tmp_path, text))


def test_long_lines_are_cut_in_messages(tmp_path):
    path = written(tmp_path, "a " + "1 " * 300 + "\nred " + "1.25 " * 299 + "\n")
    said = refused(path)
    assert "line 2: 'red 1.25" in said and "has 299 numbers, 300 were expected" in said and len(said) < 220


def test_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match="none.vec"):
        vectors.read(str(tmp_path / "none.vec"), ["red"])


def test_memory_does_not_grow_with_the_file(tmp_path):
    """20,000 lines of 100 numbers, 8 MB; two of them asked for."""
    line = " ".join(["0.125"] * 64)
    path = written(tmp_path, "".join(f"word{i} {line}\n" for i in range(20_000)))
    tracemalloc.start()
    found = vectors.read(path, ["word3", "word19999"])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (found.lines, found.dim, len(found.rows)) == (20_000, 64, 2)
    assert peak < 1_000_000


def test_fill_leaves_other_words_as_they_were(tmp_path):
    keras.utils.set_random_seed(1)
    encoder = TextEncoder(Vocabulary(["petals", "red", "zebra"]), dim=4, word_dim=3)
    before = encoder.variables[0].numpy()
    found = vectors.read(written(tmp_path, GLOVE + "petals 4 5 6\n"), encoder.vocabulary.words)
    assert vectors.fill(encoder, found) == ["zebra"]
    after = encoder.variables[0].numpy()
    np.testing.assert_array_equal(after[2:4], [[4, 5, 6], [1.5, 0, -0.25]])  # ids 2 and 3
    np.testing.assert_array_equal(after[[0, 1, 4]], before[[0, 1, 4]])
    with pytest.raises(ValueError, match="word_dim=5 of the encoder, but the word vectors have 3 numbers"):
        vectors.fill(TextEncoder(encoder.vocabulary, dim=4, word_dim=5), found)
