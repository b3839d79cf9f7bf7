"""The README, the pages and the cards against the code: every command has its flags, every link leads somewhere, every
number of a shipped model is the one that was measured."""

import functools
import importlib
import json
import re
import shlex

import numpy as np
import pytest
from absl import flags
from PIL import Image

from tests import deviations
from tests.tiny import ROOT

README = ROOT / "README.md"
PAGES = sorted(ROOT.glob("docs/*.md"))
CARDS = sorted(ROOT.glob("simgan_tf/pretrained/*/README.md"))
TEXTS = [README, ROOT / "CONTRIBUTING.md", *PAGES, *CARDS]


def text_of(path):
    return path.read_text(encoding="utf-8")


def name_of(path):
    return path.relative_to(ROOT).as_posix()


def prose(path):
    """A text without its blocks of code."""
    return re.sub(r"^```.*?^```", "", text_of(path), flags=re.DOTALL | re.MULTILINE)


def test_readme_is_short():
    assert README.stat().st_size <= 10_000


@pytest.mark.parametrize("path", PAGES, ids=name_of)
def test_page_says_what_it_answers(path):
    title, empty, sentence = text_of(path).splitlines()[:3]
    assert title.startswith("# ") and not empty and sentence.startswith("This page answers ")


def test_every_page_and_card_is_one_click_away():
    assert {name_of(path) for path in [*PAGES, *CARDS]} <= {link.split("#")[0] for link in links(README)}


def links(path):
    """Goals of all links and pictures of a text."""
    return [one or other for one, other in re.findall(r'\]\(([^)\s]+)\)|src="([^"]+)"', prose(path))]


def anchors(path):
    """What `#` may be followed by in a link to a text, as GitHub makes it of the headings."""
    headings = re.findall(r"^#+ (.+)$", prose(path), re.MULTILINE)
    plain = [re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower() for heading in headings]
    return {re.sub(r"[^\w\- ]", "", heading).replace(" ", "-") for heading in plain}


@pytest.mark.parametrize("path", TEXTS, ids=name_of)
def test_links_lead_somewhere(path):
    for link in links(path):
        if link.startswith(("https://", "http://")):
            continue
        file, _, anchor = link.partition("#")
        goal = (path.parent / file).resolve() if file else path
        assert goal.exists(), link
        assert not anchor or anchor in anchors(goal), link


def test_every_picture_is_shown():
    shown = {(path.parent / link).resolve() for path in TEXTS for link in links(path)}
    pictures = {path for path in ROOT.glob("docs/*") if path.suffix != ".md"}
    assert pictures <= shown


def test_deviations_are_the_marks():
    assert text_of(deviations.PAGE) == deviations.page(), "make docs writes it anew"


def test_marks_of_a_file():
    """Where each mark begins and ends, and what it is named by."""
    source = '''
class Net:
    """A net. Differs: wider <here>,
    as usual. Differs: deeper.
    Source: Sec. 2. Differs: no bias.

    width: channels.
    """

    def call(self):
        return 1  # Differs: one.


# Sizes. Differs: small,
# for two cores.
SIZES = {"a": 1}
'''
    assert deviations.marks(source) == [
        ("Net", "wider <here>, as usual."),
        ("Net", "deeper."),
        ("Net", "no bias."),
        ("Net.call", "one."),
        ("SIZES", "small, for two cores."),
    ]


def commands():
    """(text, line) of every command in a block of shell lines."""
    for path in [README, ROOT / "CONTRIBUTING.md", *PAGES]:
        blocks = re.findall(r"^```sh\n(.*?)^```", text_of(path), re.DOTALL | re.MULTILINE)
        for line in "\n".join(blocks).replace("\\\n", " ").splitlines():
            if re.match(r"(simgan-|python |make )", line):
                yield pytest.param(line, id=f"{name_of(path)}: {line[:60]}")


COMMANDS = list(commands())


def module_of(words):
    """(module whose command a line starts, its arguments)."""
    scripts = dict(re.findall(r'^(simgan-[\w-]+) = "([\w.]+):\w+"', text_of(ROOT / "pyproject.toml"), re.MULTILINE))
    if words[0] in scripts:
        return scripts[words[0]], words[1:]
    assert words[0] == "python", f"{words[0]} is no command of pyproject.toml"
    if words[1] != "-m":
        return words[1].removesuffix(".py"), words[2:]
    package = (ROOT / words[2].replace(".", "/") / "__main__.py").exists()
    return words[2] + (".__main__" if package else ""), words[3:]


@pytest.mark.parametrize("line", COMMANDS)
def test_commands_name_real_flags(line, monkeypatch):
    """Parsed by the command's own flags: a flag that went, or a value that is refused, fails here."""
    words = shlex.split(line, comments=True)
    if words[0] == "make":
        assert re.search(rf"^{words[1]}:", text_of(ROOT / "Makefile"), re.MULTILINE)
        return
    name, arguments = module_of(words)
    for value in (argument.partition("=")[2] for argument in arguments):
        assert not value.startswith("simgan_tf/") or (ROOT / value).exists(), value
    module = importlib.import_module(name)
    if hasattr(module, "parser"):  # runs on devices, without absl
        module.parser().parse_args(arguments)
        return
    values = flags.FlagValues()
    for name in [name for name in dir(flags) if name.startswith("DEFINE_")]:
        monkeypatch.setattr(flags, name, functools.partial(getattr(flags, name), flag_values=values))
    monkeypatch.setattr(flags, "adopt_module_key_flags", lambda module: None)
    monkeypatch.setattr("sys.argv", [name, *arguments])  # the preset there decides which flags a training has
    module.define_flags()
    values.set_gnu_getopt(True)  # flags behind a word, as in simgan-study make
    values([name, *arguments])  # raises where a flag is unknown, a value refused or a required one missing


@pytest.mark.parametrize("line", COMMANDS)
def test_pictures_of_commands_are_there(line):
    """A picture to edit is one that ships, so that the line can be pasted."""
    for image in re.findall(r"--image=(\S+)", line):
        assert (ROOT / image).exists(), image


@pytest.mark.parametrize("card", [card for card in CARDS if (card.parent / "config.json").exists()], ids=name_of)
def test_numbers_are_the_measured_ones(card):
    """Rows of the README and of the results page, and the card's table, against the results*.json beside the card."""
    name = card.parent.name
    results = [json.loads(text_of(path)) for path in card.parent.glob("results*.json")]
    of_reader = [each for each in results if each["split"] == "test" and "colour_agreement" in each]
    best = max(of_reader, key=lambda each: each["pictures"])
    agreement = [f"{best[key]:.3f}" for key in ("colour_agreement", "colour_agreement_mean")]
    pairs, background = f"{best['pictures']:,} x 6", f"{best['background_l1']:.3f}"
    for page in (README, ROOT / "docs" / "results.md"):
        (row,) = re.findall(rf"^\| [^|]*`{name}` \|.*$", text_of(page), re.MULTILINE)
        assert " / ".join(agreement) in row and pairs in row and background in row, row
    for key in ("background_l1", "background_l1_mean", "cycle_l1", "reconstruction_l1"):
        assert f"{best[key]:.4f}" in text_of(card), key
    for number in agreement:
        assert number in text_of(card), number


def lines_of_python():
    for path in TEXTS:
        for block in re.findall(r"^```python\n(.*?)^```", text_of(path), re.DOTALL | re.MULTILINE):
            if "pretrained/samples/" not in block:
                continue  # it edits nothing: how the weights of two steps were averaged
            yield pytest.param(block, id=name_of(path))


@pytest.mark.slow
@pytest.mark.parametrize("block", list(lines_of_python()))
def test_lines_of_python_edit(block, tmp_path, monkeypatch):
    """Run as they stand: the sample that they name comes out as large as it was, a fiftieth of it clearly changed."""
    (sample,) = re.findall(r"simgan_tf/pretrained/samples/[\w/]+\.jpg", block)
    (tmp_path / "simgan_tf").symlink_to(ROOT / "simgan_tf")
    monkeypatch.chdir(tmp_path)
    exec(compile(block, "block", "exec"), {})
    with Image.open("edit.png") as edited, Image.open(sample) as source:
        assert edited.mode == "RGB" and edited.size == source.size
        changes = np.abs(np.asarray(edited, float) - np.asarray(source)).max(axis=2)
        assert (changes > 25).mean() > 0.02
