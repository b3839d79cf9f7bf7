"""The page of the human study in a headless Chromium: fingers, keys, a reload, the saved file and its report."""

import functools
import http.server
import io
import json
import os
import threading
import time

import numpy as np
import pytest
from PIL import Image

from simgan_tf.evaluation import answers, study
from tests import chromium
from tests.tiny import run

pytestmark = [
    pytest.mark.ci, pytest.mark.slow, pytest.mark.skipif(bool(chromium.missing()), reason=str(chromium.missing()))
]
ENTER, TAB, DELETE, LEFT, RIGHT = "\ue007", "\ue004", "\ue017", "\ue012", "\ue014"  # WebDriver's names of keys
NAMES = ["SISGAN", "CCGAN", "TAGAN", "SIMGAN"]
RANKED = "return [...document.querySelectorAll('#places li')].map((item) => item.dataset.result ?? null)"
SHOWN = "return [...document.querySelectorAll('.pick')].map((pick) => pick.dataset.result)"


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A page of two questions on four systems, whose pictures are plain colours, and its key."""
    root = tmp_path_factory.mktemp("study")
    columns = [[np.full([8, 8, 3], shade, np.float32)] * 2 for shade in (-1, -0.5, 0.5, 1)]
    sources = [np.zeros([8, 8, 3], np.float32)] * 2
    pairs = [("bird 1", "make it <b>red</b> & more"), ("bird 2", "blue")]
    facts = {"systems": [{"name": name} for name in NAMES], "dataset": {"dataset": "cub"}}
    study.write(str(root / "page"), sources, columns, pairs, 0, facts)
    return root / "page"


@pytest.fixture(scope="module")
def address(folder):
    handler = functools.partial(Quiet, directory=folder)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/"
        server.shutdown()


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with chromium.chromium(str(tmp_path_factory.mktemp("profile"))) as browser:
        yield browser


@pytest.fixture
def page(browser, address):
    """The page as a person meets it for the first time; afterwards nothing was wrong that the console knows of."""
    browser.open(address)
    browser.run("localStorage.clear()")
    browser.size(1100, 800)
    browser.open(address)
    browser.logs()
    yield browser
    assert not browser.logs()


def pick(picture):
    return f".pick[data-result='{picture}']"


def middle(page, selector, scroll=True):
    """Where to put the mouse or a finger: the middle of a thing, which is moved into sight first."""
    return tuple(page.run(
        "const e = document.querySelector(arguments[0]); if (arguments[1]) e.scrollIntoView({block: 'center'});"
        "const r = e.getBoundingClientRect(); return [r.x + r.width / 2, r.y + r.height / 2]", selector, scroll,
    ))  # fmt: skip


def tap(page, picture):
    """Where nothing lies over it: the order may, until one scrolls."""
    middle(page, pick(picture))
    page.click(pick(picture))


def rank_all(page, order):
    for picture in order:
        tap(page, picture)
    assert page.run(RANKED) == order


def test_taps(page):
    """The best first; again takes back, and the next one takes the place that is free."""
    a, b, c, d = page.run(SHOWN)
    assert page.run(RANKED) == [None] * 4 and page.run("return document.querySelector('#next').disabled")
    tap(page, c)
    tap(page, a)
    assert page.run(RANKED) == [c, a, None, None]
    assert page.text("#status") == "Result A is 2nd now. 2 still to rank."
    tap(page, c)
    assert page.run(RANKED) == [None, a, None, None]
    tap(page, d)
    tap(page, b)
    page.click("#places li:nth-child(2)")  # its small picture takes it back too
    assert page.run(RANKED) == [d, None, b, None]
    tap(page, a)
    tap(page, c)
    assert page.run(RANKED) == [d, a, b, c] and not page.run("return document.querySelector('#next').disabled")
    assert page.text("#status") == "Result C is 4th now. All ranked: go on with Next, or change the order."


def test_keys_alone(page):
    """Tab goes result by result and on to Next; each says its name and rank; digits, arrows, Delete, Enter."""
    a, b, c, d = page.run(SHOWN)

    def focused():
        return page.run("const e = document.activeElement; return [e.dataset.result ?? e.id, e.ariaLabel]")

    page.run("document.querySelector('#ask').focus()")
    page.press(TAB)
    assert focused() == [a, "Result A, not ranked"]
    page.press("3")
    assert focused() == [a, "Result A, rank 3 of 4"]
    page.press(TAB)
    page.press("3")  # takes A's place, which has none then
    assert page.run(RANKED) == [None, None, b, None]
    assert page.text("#status") == "Result B is 3rd now. Result A is not ranked now. 3 still to rank."
    page.press("9")  # there is no ninth
    page.press(TAB)
    page.press(ENTER)
    page.press(TAB)
    page.press(" ")
    assert page.run(RANKED) == [c, d, b, None] and focused() == [d, "Result D, rank 2 of 4"]
    page.press(LEFT)
    page.press(LEFT)  # no further than the first
    assert page.run(RANKED) == [d, c, b, None]
    page.press(RIGHT)
    page.press(RIGHT)
    page.press(RIGHT)
    assert page.run(RANKED) == [c, b, None, d]
    page.press(DELETE)
    assert page.run(RANKED) == [c, b, None, None]
    page.press("4")
    page.run("document.querySelector(arguments[0]).focus()", pick(a))
    page.press(ENTER)
    assert page.run(RANKED) == [c, b, a, d]
    page.run("document.querySelector(arguments[0]).focus()", pick(d))
    page.press(TAB)
    assert focused()[0] == "next"
    page.press(ENTER)
    assert "question 2 of 3: accuracy" in page.text("#where") and focused()[0] == "ask"


@pytest.mark.parametrize("kind, width", [("mouse", 1100), ("touch", 390)])
def test_drags(page, kind, width):
    """To a place; to one that is taken: both change; beside all: nothing. A small picture from place to place."""
    page.size(width, 800, mobile=kind == "touch")
    a, b, c, d = page.run(SHOWN)
    of = "{}" if kind == "mouse" else "{} + .grip"

    def drag(start, end):
        page.drag(middle(page, start), middle(page, end, scroll=False), kind)  # the order is always in sight

    drag(of.format(pick(a)), "#places li:nth-child(2)")
    assert page.run(RANKED) == [None, a, None, None]
    drag(of.format(pick(b)), "#places li:nth-child(4)")
    drag(of.format(pick(b)), "#places li:nth-child(2)")
    assert page.run(RANKED) == [None, b, None, a]
    drag(of.format(pick(c)), pick(d))
    assert page.run(RANKED) == [None, b, None, a]
    drag("#places li:nth-child(4)", "#places li:nth-child(1)")
    assert page.run(RANKED) == [a, b, None, None]
    drag("#places li:nth-child(1)", "#places li:nth-child(2)")
    assert page.run(RANKED) == [b, a, None, None]
    assert not page.run("return document.querySelectorAll('.ghost, .over').length")
    page.run("document.querySelector(arguments[0]).focus()", pick(d))
    page.press(ENTER)  # what follows a drag counts again
    tap(page, c)
    assert page.run(RANKED) == [b, a, d, c]


def test_a_person_from_begin_to_end(page, folder, address, tmp_path):
    """Half of it, a reload, the rest, the saved file; its report gives the ranks that were chosen; then another one."""
    page.devtools("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(tmp_path))
    key = json.loads((folder.parent / "page.key.json").read_text())
    chosen = np.zeros([2, 3, 4], int)

    def answer(step):
        """Ranks the systems in an order of this step's own; the page's sentence tells which question it is."""
        names = NAMES[step % 4 :] + NAMES[: step % 4]
        sentence = page.text("#sentence")
        (number,) = [i for i, question in enumerate(key["questions"]) if question["sentence"] == sentence]
        results = {name: picture for picture, name in key["questions"][number]["results"].items()}
        rank_all(page, [results[name] for name in names])
        chosen[number, step % 3] = [names.index(name) + 1 for name in NAMES]

    for step in range(6):
        assert f"Photograph {step // 3 + 1} of 2, question {step % 3 + 1} of 3" in page.text("#where")
        answer(step)
        if step == 3:
            before = page.run(SHOWN), page.run(RANKED), page.text("#where")
            page.open(address)
            assert (page.run(SHOWN), page.run(RANKED), page.text("#where")) == before
            page.click("#back")
            assert None not in page.run(RANKED)
            page.click("#next")
        page.click("#next")
    assert page.run("return document.activeElement.id") == "thanks"
    page.open(address)
    page.click("#change")
    page.click("#next")
    page.click("#save")
    name = page.text("#saved").removeprefix("Saved as ").removesuffix(", among your downloads.")
    end = time.monotonic() + chromium.PATIENCE
    while not (tmp_path / name).exists():
        assert time.monotonic() < end, os.listdir(tmp_path)
        time.sleep(0.05)
    subject, ranks = answers.read_answer(str(tmp_path / name), key, "page.key.json")
    assert name == f"answers-{subject}.json"
    np.testing.assert_array_equal(ranks, chosen)
    done = run("-m", "simgan_tf.evaluation.study", "report", tmp_path / name, f"--key={folder}.key.json")
    row = next(line for line in done.stdout.splitlines() if line.startswith("| TAGAN |"))
    assert [float(cell.split("+-")[0]) for cell in row.split("|")[2:-1]] == pytest.approx(
        chosen[:, :, 2].mean(axis=0), abs=0.005
    )
    page.click("#another")
    assert page.run(RANKED) == [None] * 4 and "Photograph 1 of 2" in page.text("#where")
    assert page.run("return state.subject") != subject


def test_everyone_has_an_order_of_their_own(page):
    """480 people: each of the 24 orders of a question's results about 20 times, each order of the two about 240."""
    people = page.run("return Array.from({length: 480}, begun)")
    assert len({person["subject"] for person in people}) == 480
    first = [tuple(person["shown"][0]) for person in people]
    counts = [first.count(order) for order in set(first)]
    assert len(counts) == 24 and max(counts) < 50
    assert 180 < sum(person["order"] == [0, 1] for person in people) < 300


def test_a_sentence_is_text(page):
    seen = []
    for _ in range(2):
        seen.append(page.text("#sentence"))
        page.run("state.step = 3; show(false)")
    assert sorted(seen) == ["blue", "make it <b>red</b> & more"]


def test_without_a_server_and_without_a_store(page, folder):
    """Opened as a file it works as well; where the browser keeps nothing the person is told."""
    page.open(folder.as_uri() + "/index.html")
    rank_all(page, page.run(SHOWN))
    assert page.run("return document.querySelector('#source').naturalWidth") == 8
    page.run("Storage.prototype.setItem = () => { throw new Error('full') }; keep()")
    assert "do not close or reload" in page.text("#problem")


@pytest.mark.parametrize("width", [360, 768, 1100])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_widths_and_schemes(page, width, scheme):
    """Nothing sticks out; the order stays in sight; text stands out from its ground (WCAG: 4.5)."""
    page.size(width, 780, mobile=width < 500)
    page.devtools("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
    rank_all(page, page.run(SHOWN)[:2][::-1] + page.run(SHOWN)[2:])
    assert page.run("return document.documentElement.scrollWidth") <= width
    bottom, height = page.run(
        "scrollTo(0, 0); return [document.querySelector('#places').getBoundingClientRect().bottom, innerHeight]"
    )
    assert bottom <= height
    page.require_readable("h1, h2, h3, p, q, li, figcaption, button, .rank, .grip")
    with Image.open(io.BytesIO(page.screenshot())) as shot:
        assert shot.size == (width, 780)
