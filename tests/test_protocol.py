"""The fixed pairs, intervals, comparisons and the numbers of every picture."""

import json
import shutil

import numpy as np
import pytest
import tensorflow as tf
from scipy import stats

from data import records, splits
from data.splits import Split
from simgan_tf.evaluation import protocol


def split_of(classes, colours=None):
    count = len(classes)
    captions = [(f"first {i}", f"second {i}") for i in range(count)]
    keys, none = [f"p{i}" for i in range(count)], [""] * count
    return Split(keys, tf.constant(none), [b""] * count, colours or none, np.array(classes), captions, None)


def test_every_picture_is_asked_for_a_caption_of_another_class_and_colour():
    split = split_of([1, 1, 2, 2, 3, 3])
    pairs = protocol.draw(split)
    assert [pair[:2] for pair in pairs] == [[i, f"p{i}"] for i in range(6)]
    for row, _, other, key, sentence, colour in pairs:
        assert split.class_ids[row] != split.class_ids[other] and key == f"p{other}" and colour == ""
        assert sentence in split.captions[other]
    assert protocol.draw(split) == pairs
    coloured = split_of([1, 2, 3], ["red", "red", "blue"])
    assert [(pair[2], pair[5]) for pair in protocol.draw(coloured)[:2]] == [(2, "blue")] * 2
    assert {pair[2] for pair in protocol.draw(split_of([1, 1]))} == {0, 1}  # one class alone: any other picture
    with pytest.raises(ValueError, match="no other picture"):
        protocol.draw(split_of([1]))


def test_each_class_comes_in_its_turn():
    """Of 300 draws over two other classes of 10 and 30 pictures, about a quarter falls on the first."""
    split = split_of([1] * 300 + [2] * 10 + [3] * 30)
    share = np.mean([split.class_ids[pair[2]] == 2 for pair in protocol.draw(split)[:300]])
    assert abs(share - 0.25) < 4 * np.sqrt(0.25 * 0.75 / 300)


def test_the_list_is_written_once_and_read_ever_after(path, tmp_path):
    """Changed by hand, it is what is asked; of other records, it is written anew; damaged, it is refused."""
    copy = str(tmp_path / "records")
    shutil.copytree(path / "records", copy)
    list_path = records.pairs_path(copy, "test")
    (tmp_path / "records" / "pairs-test.json").unlink(missing_ok=True)
    split = splits.load_split(copy, "test")
    first = protocol.load(copy, "test", split)
    assert first.sentences == [pair[4] for pair in protocol.draw(split)] and len(first) == len(split)
    assert all(split.class_ids[i] != split.class_ids[pair[2]] for i, pair in enumerate(protocol.draw(split)))
    with open(list_path, encoding="utf-8") as file:
        stored = json.load(file)
    stored["pairs"][1][4] = "a sentence of mine"
    with open(list_path, "w", encoding="utf-8") as file:
        json.dump(stored, file)
    again = protocol.load(copy, "test", split)
    assert again.sentences[1] == "a sentence of mine" and again.sentences[0] == first.sentences[0]
    assert again.spread(2).sentences == [again.sentences[0], again.sentences[-1]]
    assert [*again.spread(2).split.keys] == [split.keys[0], split.keys[-1]]
    stored["pairs"][0][0] = 999
    with open(list_path, "w", encoding="utf-8") as file:
        json.dump(stored, file)
    with pytest.raises(ValueError, match="pairs-test.json is damaged.*delete the file"):
        protocol.load(copy, "test", split)
    stored["fingerprint"] = "of other records"
    with open(list_path, "w", encoding="utf-8") as file:
        json.dump(stored, file)
    assert protocol.load(copy, "test", split).sentences == first.sentences


def test_interval_of_a_normal_sample_is_the_formulas():
    """Mean +- 1.96 standard errors, to a twentieth of its width; one constant has no width; NaN is no picture."""
    values = np.random.default_rng(0).normal(3, 2, 400)
    low, high = protocol.interval(values)
    error = values.std() / 20
    np.testing.assert_allclose([low, high], values.mean() + np.array([-1.96, 1.96]) * error, atol=0.2 * error)
    assert protocol.interval(np.append(values, np.nan)) == [low, high]
    assert protocol.interval(np.ones(5)) == [1.0, 1.0]
    assert protocol.interval(np.array([1.0, np.nan])) is None


def test_paired_comparison():
    """Six that all rise: p = 2 / 2^6; the order of the pictures is nothing; equal systems 1; five pictures refused."""
    first, rise = np.arange(6.0), np.array([1.0, 2, 3, 4, 5, 6])
    found = protocol.paired(first, first + rise)
    assert (found["n"], found["difference"], found["p"]) == (6, 3.5, pytest.approx(2 / 64))
    assert found["interval"][0] < 3.5 < found["interval"][1]
    assert protocol.paired(first[::-1], (first + rise)[::-1])["p"] == found["p"]
    assert protocol.paired(first + rise, first)["difference"] == -3.5
    assert protocol.paired(first, first)["p"] == 1.0
    with_gap = protocol.paired(np.append(first, np.nan), np.append(first + rise, 0.0))
    assert with_gap == found
    with pytest.raises(ValueError, match="5 pictures"):
        protocol.paired(first[:5], first[:5])


def test_comparison_of_right_and_wrong_is_a_sign_test():
    """Signs alone, 30 better and 10 worse of 100: the sign test of the 40, exact; of ten times as many its normal
    approximation."""
    first = np.array([0.0] * 30 + [1.0] * 10 + [1.0] * 60)
    second = np.array([1.0] * 30 + [0.0] * 10 + [1.0] * 60)
    assert protocol.paired(first, second)["p"] == pytest.approx(stats.binomtest(10, 40).pvalue)
    wanted = 2 * stats.norm.sf((300 - 200) / np.sqrt(400 / 4))
    assert protocol.paired(first.repeat(10), second.repeat(10))["p"] == pytest.approx(wanted, rel=0.01)


def test_numbers_of_every_picture_come_back(tmp_path):
    path = str(tmp_path / "numbers.csv")
    values = {"one": np.array([0.25, np.nan, 1 / 3]), "other": np.arange(3.0)}
    protocol.write_values(path, ["a", 'b,"c"', "d\ne"], values)
    keys, found = protocol.read_values(path)
    assert keys == ["a", 'b,"c"', "d\ne"] and list(found) == ["one", "other"]
    np.testing.assert_allclose(found["one"], values["one"], rtol=1e-6)
    np.testing.assert_array_equal(found["other"], values["other"])
    for text in ("key,one\na,x\n", "key,one\na\n", "no,one\na,1\n", ""):
        (tmp_path / "numbers.csv").write_text(text)
        with pytest.raises(ValueError, match="numbers.csv is no table of ours"):
            protocol.read_values(path)
