"""What people answered in the human study: files that may be strangers' in, ranks and the paper's table 1 out."""

import os
import re
from typing import Any

import numpy as np

from simgan_tf.evaluation.lineup import grid
from simgan_tf.system import files

FORMAT_VERSION = 1  # of questions.js, of the key and of an answer
CRITERIA = {  # what is asked of each picture and sentence, in the paper's order (Sec. 3.3)
    "sharpness": "Which results are of high quality, with fine details?",
    "accuracy": "Which results show best what the sentence says?",
    "consistency": "Which results keep best what the sentence does not speak of?",
}


def read_key(path: str) -> dict[str, Any]:
    """The content of OUT.key.json. Raises: ValueError for another file; OSError."""
    remedy = "give --key=OUT.key.json, which `study make --out=OUT` wrote beside the page"
    if not os.path.exists(path):
        raise FileNotFoundError(f"no key {path!r}; {remedy}.")
    key = files.read_json(path, remedy)
    try:
        names = sorted(system["name"] for system in key["systems"])
        good = key["format_version"] == FORMAT_VERSION and len(set(names)) == len(names) > 1
        good = good and all(text.isprintable() for text in (key["study"], key["dataset"]["dataset"], *names))
        good = good and all(sorted(question["results"].values()) == names for question in key["questions"])
    except (KeyError, TypeError, AttributeError):
        good = False
    if not good or not key["questions"]:
        raise ValueError(f"{path} is no key of a study; {remedy}.")
    return key


def read_answer(path: str, key: dict[str, Any], key_path: str) -> tuple[str, np.ndarray]:
    """A subject's number and ranks, [questions, criteria, systems] int, from a file that may be a stranger's.

    Raises: ValueError where it answers another study, or a question not, twice, or by other than all its results;
    OSError.
    """
    remedy = "leave it out, or ask that person for the file that the page saved"
    answer = files.read_json(path, remedy, max_bytes=2**20)
    if not isinstance(answer, dict) or answer.get("format_version") != FORMAT_VERSION:
        raise ValueError(f"{path} is no answer that the page saved; {remedy}.")
    if answer.get("study") != key["study"]:
        raise ValueError(f"{path} answers the study {answer.get('study')}, and {key_path} is the key of the study "
                         f"{key['study']}: leave it out, or give its own --key=...")  # fmt: skip
    subject, given = answer.get("subject"), answer.get("answers")
    if not isinstance(subject, str) or not re.fullmatch("[0-9a-f]{8,32}", subject) or not isinstance(given, list):
        raise ValueError(f"{path} has no subject or no answers; {remedy}.")
    names = [system["name"] for system in key["systems"]]
    questions, criteria = key["questions"], list(CRITERIA)
    ranks = np.zeros([len(questions), len(criteria), len(names)], int)
    for each in given:
        number, criterion, ranking = (each.get(name) if isinstance(each, dict) else None
                                      for name in ("question", "criterion", "ranking"))  # fmt: skip
        if type(number) is not int or not 1 <= number <= len(questions) or criterion not in criteria:
            raise ValueError(f"{path} answers the question {number} by {criterion!r}, which this study does not ask; "
                             f"{remedy}.")  # fmt: skip
        results = questions[number - 1]["results"]
        if not isinstance(ranking, list) or not all(isinstance(picture, str) for picture in ranking) or (
            sorted(ranking) != sorted(results)
        ):  # fmt: skip
            raise ValueError(f"{path}, question {number}, {criterion}: ranks {ranking}, where each of "
                             f"{', '.join(results)} has to stand once; {remedy}.")  # fmt: skip
        row = ranks[number - 1, criteria.index(criterion)]
        if row.any():
            raise ValueError(f"{path} answers question {number} by {criterion} twice; {remedy}.")
        for rank, picture in enumerate(ranking, 1):
            row[names.index(results[picture])] = rank
    missing = np.argwhere(ranks[:, :, 0] == 0)
    if len(missing):
        question, criterion = missing[0]
        raise ValueError(f"{path} is incomplete: {len(missing)} of {len(questions) * len(criteria)} rankings are "
                         f"missing, the first of question {question + 1} by {criteria[criterion]}; {remedy}."
                         )  # fmt: skip
    return subject, ranks


def measure(ranks: np.ndarray, names: list[str]) -> dict[str, Any]:
    """The numbers of `as_table`. ranks: [subjects, questions, criteria, systems] int, 1 = best."""
    from simgan_tf.evaluation import ranks as of  # here: scipy.stats takes a second

    found: dict[str, Any] = {}
    for number, criterion in enumerate(CRITERIA):
        one = ranks[:, :, number]
        pairs = [pair | {"first": names[pair["first"]], "second": names[pair["second"]]} for pair in of.pairs(one)]
        tests = {"friedman": of.friedman(one), "kendall_w": of.kendall_w(one), "pairs": pairs}
        found[criterion] = of.table(one) | tests
    return {"criteria": found}


def as_table(results: dict[str, Any]) -> str:
    """A Markdown page: the paper's table 1, the tests, and what each means."""
    found = results["criteria"].values()
    names = [system["name"] for system in results["systems"]]
    last = len(names)
    head = ["", *results["criteria"]]
    rows = [[name, *(plus_minus(each["mean"][i], each["std"][i]) for each in found)] for i, name in enumerate(names)]
    rows.append(["n", *(str(each["n"]) for each in found)])
    rows.append(["Friedman test", *(
        f"chi2({each['friedman']['df']}) = {each['friedman']['chi2']:.2f}, p = {each['friedman']['p']:.2g}"
        if each["friedman"] else "-" for each in found
    )])  # fmt: skip
    rows.append(["Kendall's W", *(
        f"{sum(each['kendall_w']) / len(each['kendall_w']):.2f}" if each["kendall_w"] else "-" for each in found
    )])  # fmt: skip
    pairs = [[f"{each[0]['first']}, {each[0]['second']}",
              *(f"{pair['better']} : {pair['worse']}, p = {pair['p_holm']:.2g}" for pair in each)]
             for each in zip(*(each["pairs"] for each in found), strict=True)]  # fmt: skip
    lines = [
        f"{results['subjects']} subjects ranked {last} systems from 1, the best, to {last}, on {results['pictures']} "
        f"pictures of {results['dataset']['dataset']} by each criterion, without ties. Study {results['study']}.",
        "", *grid(head, rows), "",
        "- the systems' rows: mean rank +- standard deviation (of a sample) over n rankings, subjects x pictures",
        "- Friedman test: whether the systems differ at all; a subject counts once, by the sums of its ranks, since "
        "one person's rankings are not independent; p by the chi-squared distribution, rough for few subjects",
        "- Kendall's W: how far the subjects agree, 0 not at all, 1 all alike; mean over the pictures", "",
        *grid(["first, second", *results["criteria"]], pairs), "",
        "- subjects who rank the first better : worse over all pictures, and p by Wilcoxon's exact signed-rank test "
        f"over subjects (two-sided), corrected after Holm for the {len(pairs)} pairs of a criterion",
        "- the tests speak of other people before these same pictures, not of other pictures", "",
        "```sh", results["command"], "```",
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def plus_minus(mean: float, std: float | None) -> str:
    return f"{mean:.2f}" + ("" if std is None else f" +- {std:.2f}")
