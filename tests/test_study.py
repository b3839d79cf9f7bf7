"""The human study: ranks into numbers, answers of 13 people whose table is worked out by hand, and the page's files."""

import itertools
import json
import math
import os
import re

import numpy as np
import pytest
from PIL import Image
from scipy import stats

from data import pipeline, splits
from simgan_tf.edit import Editor
from simgan_tf.evaluation import answers, ranks, study
from simgan_tf.system.pictures import to_pixels
from tests.tiny import make_run, refused, run, vse_encoder

STUDY = "simgan_tf.evaluation.study"

# ---- numbers


def test_pairs_against_all_signs():
    """p of Wilcoxon: of the 2^7 ways to sign the ranked distances, the share whose sum lies as far out, both sides."""
    drawn = np.random.default_rng(0).permuted(np.tile(np.arange(1, 4), [7, 4, 1]), axis=2)  # [7 subjects, 4, 3 systems]
    for pair in ranks.pairs(drawn):
        apart = (drawn[..., pair["first"]] - drawn[..., pair["second"]]).sum(axis=1)
        size = np.abs(apart[apart != 0])
        midranks = np.array([(size < each).sum() + ((size == each).sum() + 1) / 2 for each in size])
        signs = np.array(list(itertools.product([0, 1], repeat=len(size))))
        sums, seen = signs @ midranks, midranks[apart[apart != 0] > 0].sum()
        expected = min(1.0, 2 * min(np.mean(sums <= seen), np.mean(sums >= seen)))
        assert pair["p"] == pytest.approx(expected), pair
        assert (pair["better"], pair["worse"]) == ((apart < 0).sum(), (apart > 0).sum())


@pytest.mark.parametrize("n", [1, 5, 20])
def test_signed_rank_against_scipy(n):
    """Without ties scipy's p is exact as well."""
    apart = (np.random.default_rng(n).permutation(n) + 1) * np.random.default_rng(9).choice([-1, 1], n, p=[0.3, 0.7])
    assert ranks.signed_rank(apart) == pytest.approx(stats.wilcoxon(apart.astype(float), method="exact").pvalue)
    assert ranks.signed_rank(np.append(apart, 0)) == ranks.signed_rank(-apart) == ranks.signed_rank(apart)
    assert ranks.signed_rank(np.zeros(n, int)) == 1


def test_holm():
    """0.01 x 3, then 0.03 x 2; 0.04 x 1 may not be smaller than what came before it."""
    assert ranks.holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert ranks.holm([0.9, 0.8]) == [1.0, 1.0]


def test_what_few_people_cannot_say():
    """One ranking has no deviation; one subject no agreement; Friedman's test needs three systems."""
    one = np.array([[[2, 1]]])
    assert ranks.table(one) == {"mean": [2.0, 1.0], "std": [None, None], "n": 1}
    assert ranks.kendall_w(one) is None and ranks.friedman(one) is None
    assert ranks.friedman(np.array([[[2, 1]], [[1, 2]]])) is None
    assert [pair["p"] for pair in ranks.pairs(one)] == [1.0]  # of 2 signs both lie as far out


def test_agreement_does_not_depend_on_the_subjects_order():
    drawn = np.random.default_rng(1).permuted(np.tile(np.arange(1, 5), [9, 3, 1]), axis=2)
    assert ranks.kendall_w(drawn) == ranks.kendall_w(drawn[::-1])
    assert ranks.kendall_w(np.array([[[1, 2]], [[2, 1]]])) == [0.0]


# ---- thirteen answers

NAMES = ["SISGAN", "CCGAN", "TAGAN", "SIMGAN"]


@pytest.fixture
def key(tmp_path):
    """A key of six questions on four systems; each question numbers the systems otherwise."""
    orders = list(itertools.permutations(NAMES))
    questions = [
        {"picture": f"{q}", "sentence": "red", "results": {f"{q}-{i}": n for i, n in enumerate(orders[4 * q - 4], 1)}}
        for q in range(1, 7)
    ]
    content = {"format_version": 1, "study": "0123456789abcdef", "systems": [{"name": name} for name in NAMES],
               "questions": questions, "dataset": {"dataset": "cub"}}  # fmt: skip
    path = tmp_path / "study.key.json"
    path.write_text(json.dumps(content))
    return path


def write_answer(key, path, subject, orders):
    """A file as the page saves it. orders(question, criterion): the systems from the best to the worst."""
    content = json.loads(key.read_text())
    named = [{name: picture for picture, name in question["results"].items()} for question in content["questions"]]
    given = [{"question": q + 1, "criterion": criterion, "ranking": [named[q][name] for name in orders(q, criterion)]}
             for q in range(len(named)) for criterion in answers.CRITERIA]  # fmt: skip
    saved = {"format_version": 1, "study": content["study"], "subject": f"{subject:016x}", "answers": given}
    path.write_text(json.dumps(saved))
    return path


def thirteen(subject):
    """By sharpness all agree. By accuracy three of the 13 take CCGAN for better than SISGAN. By consistency each
    question has another order, the same for all, and over the six nobody is better: 10 of the turns + 5 each."""

    def order(question, criterion):
        if criterion == "sharpness":
            return NAMES
        if criterion == "accuracy":
            return ["CCGAN", "SISGAN", "TAGAN", "SIMGAN"] if subject < 3 else NAMES
        turned = {4: NAMES, 5: NAMES[::-1]}
        return turned.get(question) or NAMES[question:] + NAMES[:question]

    return order


def test_report_of_thirteen(key, tmp_path):
    """Worked out by hand, n = 13 subjects x 6 pictures = 78 rankings of K = 4.

    sharpness: ranks 1, 2, 3, 4, no deviation; W = 1, chi2 = 13 * 3 * W = 39. Every pair: 13 equal distances of one
    sign, p = 2 / 2^13; six pairs, so Holm's is 12 / 2^13.
    accuracy: SISGAN has 60 ones and 18 twos: 96 / 78 +- sqrt(60 * 18 / 78 / 77), CCGAN likewise 60 twos and 18 ones.
    R = 16, 23, 39, 52 against 32.5: S = 272.25 + 90.25 + 42.25 + 380.25 = 785, W = 12 * 785 / (169 * 60), chi2 = 39 W.
    SISGAN, CCGAN: 3 of 13 equal distances have the other sign, p = 2 (1 + 13 + 78 + 286) / 2^13, times 1 in Holm's.
    consistency: all means 2.5; a subject's squares for the ends 5 + 1.5^2 * 2 = 9.5, for the middle two 5.5;
    W = 1 on each picture, yet all sums are 15: no difference, p = 1.
    chi-squared's tail with 3 degrees of freedom: erfc(sqrt(x / 2)) + sqrt(2 x / pi) exp(-x / 2).
    """
    paths = [write_answer(key, tmp_path / f"{i}.json", i, thirteen(i)) for i in range(13)]
    done = run("-m", STUDY, "report", *paths, f"--key={key}", f"--out={tmp_path / 'out'}")
    found = json.loads((tmp_path / "out" / "results.json").read_text())
    assert (found["subjects"], found["pictures"]) == (13, 6)

    def tail(x):
        return math.erfc(math.sqrt(x / 2)) + math.sqrt(2 * x / math.pi) * math.exp(-x / 2)

    all_alike, w = 2 / 2**13, 12 * 785 / (169 * 60)
    sharp, accurate, consistent = (found["criteria"][name] for name in answers.CRITERIA)
    assert sharp["mean"] == [1, 2, 3, 4] and sharp["std"] == [0, 0, 0, 0] and sharp["n"] == 78
    assert sharp["friedman"] == {"chi2": pytest.approx(39), "df": 3, "p": pytest.approx(tail(39))}
    assert sharp["kendall_w"] == pytest.approx([1] * 6)
    pairs = list(itertools.combinations(NAMES, 2))
    assert [(pair["first"], pair["second"]) for pair in sharp["pairs"]] == pairs
    assert [pair["p"] for pair in sharp["pairs"]] == pytest.approx([all_alike] * 6)
    assert [pair["p_holm"] for pair in sharp["pairs"]] == pytest.approx([6 * all_alike] * 6)

    deviation = math.sqrt(60 * 18 / 78 / 77)
    assert accurate["mean"] == pytest.approx([96 / 78, 138 / 78, 3, 4])
    assert accurate["std"] == pytest.approx([deviation, deviation, 0, 0])
    assert accurate["friedman"]["chi2"] == pytest.approx(39 * w)
    assert accurate["friedman"]["p"] == pytest.approx(tail(39 * w))
    assert accurate["kendall_w"] == pytest.approx([w] * 6)
    unsure = 2 * (1 + 13 + 78 + 286) / 2**13
    assert [pair["p"] for pair in accurate["pairs"]] == pytest.approx([unsure] + [all_alike] * 5)
    assert [pair["p_holm"] for pair in accurate["pairs"]] == pytest.approx([unsure] + [6 * all_alike] * 5)
    assert [(pair["better"], pair["worse"]) for pair in accurate["pairs"]] == [(10, 3)] + [(13, 0)] * 5

    assert consistent["mean"] == [2.5] * 4
    ends, middle = (math.sqrt(13 * squares / 77) for squares in (9.5, 5.5))
    assert consistent["std"] == pytest.approx([ends, middle, middle, ends])
    assert consistent["friedman"] == {"chi2": 0, "df": 3, "p": 1} and consistent["kendall_w"] == pytest.approx([1] * 6)
    assert [pair["p_holm"] for pair in consistent["pairs"]] == [1] * 6

    assert (tmp_path / "out" / "table.md").read_text() == done.stdout.removesuffix("\n")
    rows = {line.split("|")[1].strip(): [cell.strip() for cell in line.split("|")[2:-1]]
            for line in done.stdout.splitlines() if line.startswith("|")}  # fmt: skip
    assert rows["SISGAN"] == ["1.00 +- 0.00", "1.23 +- 0.42", "2.50 +- 1.27"]
    assert rows["SIMGAN"] == ["4.00 +- 0.00", "4.00 +- 0.00", "2.50 +- 1.27"]
    assert rows["n"] == ["78"] * 3 and rows["Kendall's W"] == ["1.00", "0.93", "1.00"]
    assert rows["Friedman test"] == ["chi2(3) = 39.00, p = 1.7e-08", "chi2(3) = 36.23, p = 6.7e-08",
                                     "chi2(3) = 0.00, p = 1"]  # fmt: skip
    assert rows["SISGAN, CCGAN"] == ["13 : 0, p = 0.0015", "10 : 3, p = 0.092", "0 : 0, p = 1"]


def changed(saved, **values):
    return {**saved, **values}


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda s: changed(s, answers=s["answers"][:-2]), "is incomplete: 2 of 18 rankings are missing, the first of "
                                                          "question 6 by accuracy; leave it out"),
        (lambda s: changed(s, answers=[*s["answers"], s["answers"][4]]), "answers question 2 by accuracy twice"),
        (lambda s: changed(s, study="feedfeedfeedfeed"), "answers the study feedfeedfeedfeed, and "),
        (lambda s: changed(s, answers=[changed(s["answers"][0], question=7)]), "the question 7 by 'sharpness', which"),
        (lambda s: changed(s, answers=[changed(s["answers"][0], question=True)]), "the question True by"),
        (lambda s: changed(s, answers=[changed(s["answers"][0], criterion=["taste"])]), "question 1 by ['taste']"),
        (lambda s: changed(s, answers=[changed(s["answers"][0], ranking=["1-1", "1-2", "1-3"])]),
         "question 1, sharpness: ranks ['1-1', '1-2', '1-3'], where each of 1-1, 1-2, 1-3, 1-4 has to stand once"),
        (lambda s: changed(s, answers=[changed(s["answers"][0], ranking=["1-1", "1-2", "1-3", "1-3"])]), "stand once"),
        (lambda s: changed(s, answers=[changed(s["answers"][0], ranking=["1-1", "1-2", None, {}])]), "stand once"),
        (lambda s: changed(s, answers=["red"]), "answers the question None by None"),
        (lambda s: changed(s, answers={}), "has no subject or no answers"),
        (lambda s: changed(s, subject="../../etc"), "has no subject or no answers"),
        (lambda s: changed(s, format_version=2), "is no answer that the page saved"),
        (lambda s: [s], "is no answer that the page saved"),
        (lambda s: {"x": "x" * 2**20}, "has over 1,048,576 bytes"),
    ],
)  # fmt: skip
def test_bad_answers_are_named(key, tmp_path, change, message):
    good = write_answer(key, tmp_path / "good.json", 1, thirteen(1))
    bad = tmp_path / "bad.json"
    bad.write_text(json.dumps(change(json.loads(good.read_text()))))
    line = refused("-m", STUDY, "report", good, bad, f"--key={key}")
    assert line.startswith(f"error: {bad}") and message in line, line


def test_one_person_counts_once(key, tmp_path):
    first = write_answer(key, tmp_path / "first.json", 1, thirteen(1))
    again = write_answer(key, tmp_path / "first (1).json", 1, thirteen(2))
    line = refused("-m", STUDY, "report", first, again, f"--key={key}")
    assert f"{again} is of subject 0000000000000001, as {first} is: leave one" in line


def test_systems_of_a_strangers_key(key, tmp_path):
    """Two of one name would share their ranks; a name of another kind or with control characters breaks the table."""
    content = key.read_text()
    for name in ("CCGAN", "\\u001b[31m", "a\\nb"):
        key.write_text(content.replace("TAGAN", name))
        with pytest.raises(ValueError, match="no key of a study"):
            answers.read_key(str(key))
    key.write_text(content.replace('"TAGAN"', "3"))
    with pytest.raises(ValueError, match="no key of a study"):
        answers.read_key(str(key))


def test_mistakes_of_the_command(key, tmp_path):
    answer = write_answer(key, tmp_path / "a.json", 1, thirteen(1))
    (tmp_path / "other.json").write_text("{}")
    for words, message in (
        (["report", answer, f"--key={tmp_path / 'no.json'}"], "no key '"),
        (["report", answer, f"--key={tmp_path / 'other.json'}"], "other.json is no key of a study; give --key="),
        (["report", f"--key={key}"], "no answers; give the files"),
        (["report", tmp_path / "none.json", f"--key={key}"], "there is no such file"),
        (["make", "x", "--run_dirs=a,b", f"--out={tmp_path / 'new'}"], "unexpected argument 'x'"),
        (["make", "--run_dirs=a,b", f"--out={tmp_path}"], "is there already and is not empty"),
        (["make", "--run_dirs=a,b", f"--out={tmp_path / 'study'}"], "is the key of a study whose answers need it"),
        (["make", "--run_dirs=a", f"--out={tmp_path / 'new'}"], "names 1 systems; people rank 2 to 9"),
        (["make", "--run_dirs=a,b", f"--out={tmp_path / 'new'}"], "'a' is no run directory"),
        (["make"], "--run_dirs=, --out= missing; for example: python -m simgan_tf.evaluation.study make"),
        (["mend", "--run_dirs=a,b", "--out=x"], "study mend: the first word says what to do"),
        (["--run_dirs=a,b", "--out=x"], "the first word says what to do"),
    ):  # fmt: skip
        assert message in refused("-m", STUDY, *words)
    assert not (tmp_path / "new").exists()


# ---- the page's files


@pytest.fixture(scope="module")
def made(path, untrained_run, tmp_path_factory):
    """A study of two untrained systems, the second of larger pictures: its folder, runs, what was said."""
    root = tmp_path_factory.mktemp("study")
    large = make_run(str(root / "large"), vse_encoder(), image_size=32, load_size=36)
    runs = [untrained_run, large]
    done = run(
        "-m", STUDY, "make", f"--run_dirs={','.join(runs)}", "--names=TAGAN,SIMGAN", "--images=2", "--seed=3",
        f"--records_dir={path / 'records'}", "--text=this flower has red petals", f"--out={root / 'page'}",
    )  # fmt: skip
    return root / "page", runs, done.stdout


def test_page_tells_nobodys_name(made):
    """Neither text nor names nor sizes of the files; the key lies outside."""
    folder, _, said = made
    names = sorted(os.listdir(folder / "pictures"))
    assert names == sorted(f"{q}-{i}.png" for q in (1, 2) for i in (1, 2, "source"))
    for name in names:
        with Image.open(folder / "pictures" / name) as picture:
            assert picture.size == (32, 32) and picture.info == {}
    everything = b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())
    for word in (b"TAGAN", b"SIMGAN", b"seed", b"run_dir"):
        assert word not in everything
    assert "key" not in " ".join(os.listdir(folder)) and f"keep back {folder}.key.json" in said
    assert "1 of 2 sentences come again" in said


def test_key_says_whose_result_is_whose(made, path):
    """Each picture is that system's edit, enlarged by its nearest pixels; all cut the tightest system's part, 20/16."""
    folder, runs, _ = made
    key = json.loads((folder.parent / "page.key.json").read_text())
    questions = json.loads((folder / "questions.js").read_text().removeprefix("const STUDY = ").removesuffix(";\n"))
    assert questions["study"] == key["study"] and re.fullmatch("[0-9a-f]{16}", key["study"])
    assert [each["name"] for each in questions["criteria"]] == ["sharpness", "accuracy", "consistency"]
    split = splits.load_split(str(path / "records"), "test").spread(2)
    assert [question["picture"] for question in key["questions"]] == list(split.keys)
    for name, run_dir, size in zip(("TAGAN", "SIMGAN"), runs, (16, 32), strict=True):
        editor = Editor(run_dir)
        images = pipeline.evaluation_images(split, size, size * 20 // 16)
        for image, question, asked in zip(images, key["questions"], questions["questions"], strict=True):
            (number,) = [picture for picture, whose in question["results"].items() if whose == name]
            assert asked["pictures"] == list(question["results"]) and asked["sentence"] == question["sentence"]
            expected = to_pixels(editor.edit(image, question["sentence"])[0])
            with Image.open(folder / "pictures" / f"{number}.png") as picture:
                np.testing.assert_array_equal(picture, expected.repeat(32 // size, 0).repeat(32 // size, 1))


def test_numbers_of_the_results_are_drawn_for_each_question():
    """Every order of three systems comes up, about equally often: 600 draws of 6, 100 +- 9 each."""
    placed = study.blinded(600, ["A", "B", "C"], 0)
    assert placed[4].keys() == {"5-1", "5-2", "5-3"}
    orders = [tuple(named.values()) for named in placed]
    assert all(60 < orders.count(order) < 140 for order in itertools.permutations("ABC"))
    assert study.blinded(3, ["A", "B", "C"], 1) != study.blinded(3, ["A", "B", "C"], 2)
