"""The one-file report of runs: what stands in it, that it needs nothing else, and that no string is markup."""

import base64
import dataclasses
import html.parser
import io
import json
import re
import shutil

import numpy as np
import pytest
from PIL import Image

from simgan_tf.evaluation import report
from tests.tiny import CONFIG, refused, run

HOSTILE = '<script>alert(1)</script> & "quoted" \ud800 \u0000'


class Reader(html.parser.HTMLParser):
    """Every element's name and attributes, and the words under each heading."""

    def __init__(self, page):
        super().__init__()
        self.elements, self.words, self.rows = [], [], []
        self.feed(page)

    def handle_starttag(self, name, attributes):
        self.elements.append((name, dict(attributes)))
        if name == "tr":
            self.rows.append([])
        if name in ("td", "th"):
            self.rows[-1].append("")

    def handle_data(self, data):
        self.words.append(data)
        if self.rows and self.elements[-1][0] in ("td", "th"):
            self.rows[-1][-1] += data


@pytest.fixture
def runs(untrained_run, tmp_path):
    """Two run directories: one measured with a sheet and curves, one with a stranger's strings."""
    first, second = tmp_path / "first", tmp_path / "second"
    for folder in (first, second):
        shutil.copytree(untrained_run, folder)
    results = {"step": 7, "split": "test", "pictures": 120, "samples": 2, "seed": 3, "colour_agreement": 0.84028,
               "by_colour": {"red": 0.975, "blue": 0.5}, "intervals": {"colour_agreement": [0.8, 0.9]},
               "commit": "0123abc", "hardware": "2 x old", "command": "python -m simgan_tf.evaluation --limit=120"}
    (first / "results-test-120.json").write_text(json.dumps(results))
    (first / "figures").mkdir()
    Image.fromarray(np.arange(600, dtype=np.uint8).reshape(10, 20, 3)).save(first / "figures" / "edits.png")
    Image.new("RGB", (4, 4)).save(first / "figures" / "curves.png")
    hostile = {"step": 9, "change_l1": 0.125, "colour_agreement": 1, "hardware": HOSTILE, "command": HOSTILE,
               "seed": [HOSTILE], HOSTILE: 0.5, "by_" + HOSTILE: {HOSTILE: 1.5}, "intervals": HOSTILE}
    (second / "results-test-120.json").write_text(json.dumps(hostile))
    facts = json.loads((second / "config.json").read_text())
    facts |= {"command": HOSTILE, "init_from": HOSTILE}
    facts["dataset"] = {"dataset": HOSTILE, "splits": {HOSTILE: {"images": 12}, "x": HOSTILE}}
    (second / "config.json").write_text(json.dumps(facts))
    return first, second


def test_what_stands_in_it(runs, tmp_path):
    """Numbers side by side, n, seed and commit beside them, every picture's bytes as they are in the run."""
    rows = [{"step": step, "d_real": 0.5, "g_cycle": 1 / step, "score_real": 0.6} for step in range(1, 40)]
    (runs[0] / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    out = tmp_path / "report.html"
    flags = ["-m", "simgan_tf.evaluation.report", f"--run_dirs={runs[0]},{runs[1]}", "--names=A,B", f"--out={out}"]
    run(*flags)
    written = out.read_bytes()
    run(*flags)
    assert out.read_bytes() == written  # the same runs give the same bytes
    page = Reader(written.decode("ascii"))
    cells = {row[0]: row[1:] for row in page.rows}
    meaning = report.meaning("results.json", "colour_agreement")
    assert cells["colour_agreement"] == ["0.8403 [0.8000, 0.9000]", "1"] and meaning in page.words
    assert cells["change_l1"][:2] == ["-", "0.1250"] and cells["by_colour: red"][:2] == ["0.9750", "-"]
    assert cells["size"] == ["16 x 16 pixels"] * 2 and cells["ca_size"] == [str(CONFIG.ca_size)]
    assert {field.name for field in dataclasses.fields(CONFIG)} <= cells.keys()
    assert ": pictures 120, samples 2, seed 3, split test, step 7, commit 0123abc, hardware 2 x old" in page.words
    pictures = [each for name, each in page.elements if name == "img"]
    data = [base64.b64decode(each["src"].removeprefix("data:image/png;base64,")) for each in pictures]
    assert len(data) == 2 and data[1] == (runs[0] / "figures" / "edits.png").read_bytes()
    with Image.open(io.BytesIO(data[0])) as curves:  # drawn of metrics.jsonl, not the old file of 4 x 4
        assert curves.width == 1750
    assert (pictures[1]["width"], pictures[1]["height"]) == ("20", "10") and all(each["alt"] for each in pictures)


def test_strings_are_text_and_nothing_is_asked_for(runs):
    """A stranger's strings make no element; no script, no address but those inside, and a policy that allows none."""
    page = report.page_of([report.read("<b>A</b>", str(runs[0])), report.read(HOSTILE, str(runs[1]))])
    found = Reader(page)
    names = {name for name, _ in found.elements}
    assert names <= {"html", "head", "meta", "title", "style", "body", "h1", "h2", "h3", "nav", "a", "section", "p",
                     "b", "small", "div", "table", "thead", "tbody", "tr", "th", "td", "code", "pre", "figure", "img",
                     "figcaption", "details", "summary"}  # fmt: skip
    assert sum('<script>alert(1)</script> & "quoted"' in words for words in found.words) >= 8
    for _, attributes in found.elements:
        assert not {name for name in attributes if name.startswith("on")}
        for name in ("src", "href"):
            assert attributes.get(name, "#").startswith(("data:image/png;base64,", "#"))
    (policy,) = [each["content"] for name, each in found.elements if each.get("http-equiv")]
    assert policy.startswith("default-src 'none'; img-src data:; style-src 'sha256-")
    assert "url(" not in page and "@import" not in page and not re.search(r"https?://", page)
    anchors = {each["id"] for name, each in found.elements if "id" in each}
    assert {each["href"][1:] for name, each in found.elements if name == "a"} == anchors


def test_comparison(runs, tmp_path):
    """Its figure and its command."""
    Image.new("RGB", (9, 5)).save(tmp_path / "figure.png")
    (tmp_path / "results.json").write_text(json.dumps({"systems": [], "command": "python -m simgan_tf.compare"}))
    found = Reader(report.page_of([report.read("A", str(runs[0]))], str(tmp_path)))
    assert [each["width"] for name, each in found.elements if name == "img"] == ["9", "20"]
    assert "python -m simgan_tf.compare" in found.words


def test_mistakes_are_told_in_one_line(runs, untrained_run, tmp_path):
    first = runs[0]
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "results.json").write_text("[]")
    command = ["-m", "simgan_tf.evaluation.report", f"--run_dirs={first}", f"--out={tmp_path / 'report.html'}"]
    assert "must end in .html" in refused(*command, f"--out={tmp_path / 'report.pdf'}")
    assert "two systems are called" in refused(*command, f"--run_dirs={first},{first}")
    assert "'nowhere' is no run directory" in refused(*command, "--run_dirs=nowhere")
    assert "holds no comparison" in refused(*command, f"--compared={tmp_path / 'empty'}")
    (first / "figures" / "other.png").write_text("no picture")
    assert "other.png is no PNG or JPEG that can be shown" in refused(*command)
    (first / "results.json").write_text("[]")
    assert "results.json holds no results" in refused(*command)
    assert not (tmp_path / "report.html").exists()
