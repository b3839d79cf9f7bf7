"""The README against the code: every deviation has its line, every command its flags, every picture its file."""

import functools
import re
import shlex

import pytest
from absl import flags

import run_export
import run_train
from benchmarks import inference, train_step
from data import archives, build, doctor, show
from export import device_example, pack
from export.serving import client
from export.web import __main__ as web
from export.web import serve
from simgan_tf import edit
from simgan_tf.evaluation import __main__ as evaluation
from simgan_tf.evaluation import colours
from simgan_tf.text import embed, nearest
from simgan_tf.text import train as text
from tests.tiny import ROOT

README = (ROOT / "README.md").read_text()
COMMANDS = {"benchmarks.inference": inference, "benchmarks.train_step": train_step,
            "data.archives": archives, "data.build": build, "data.doctor": doctor, "simgan_tf.text.embed": embed,
            "data.show": show, "simgan_tf.text.nearest": nearest, "simgan_tf.text.train": text,
            "run_train.py": run_train, "simgan_tf.edit": edit, "export.pack": pack,
            "simgan_tf.evaluation": evaluation, "simgan_tf.evaluation.colours": colours, "run_export.py": run_export,
            "export.device_example": device_example, "export.serving.client": client, "export.web": web,
            "export.web.serve": serve}  # fmt: skip


def test_every_deviation_has_its_row():
    """As many rows of the table as the file has `Differs:`, for every file."""
    table = README[README.index("## Deviations") : README.index("## Licence")]
    rows = re.findall(r"^\| `([^`]+)` \w", table, re.MULTILINE)
    files = [*ROOT.glob("simgan_tf/**/*.py"), *ROOT.glob("data/**/*.py"), *ROOT.glob("export/**/*.py")]
    for path in files:
        name = path.relative_to(ROOT).as_posix()
        assert rows.count(name) == path.read_text().count("Differs:"), name
    assert set(rows) <= {path.relative_to(ROOT).as_posix() for path in files}


def commands():
    blocks = re.findall(r"```sh\n(.*?)```", README, re.DOTALL)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    return [line for line in lines if re.search(r"python |make ", line)]


@pytest.mark.parametrize("line", commands())
def test_commands_name_real_flags(line, monkeypatch):
    """Parsed by the command's own flags: a flag that went, or a value that is refused, fails here."""
    words = shlex.split(line, comments=True)
    if words[0] == "make":
        assert re.search(rf"^{words[1]}:", (ROOT / "Makefile").read_text(), re.MULTILINE)
        return
    words = words[1:]
    module, arguments = (words[1], words[2:]) if words[0] == "-m" else (words[0], words[1:])
    if hasattr(COMMANDS[module], "parser"):  # runs on devices, without absl
        COMMANDS[module].parser().parse_args(arguments)
        return
    values = flags.FlagValues()
    for name in [name for name in dir(flags) if name.startswith("DEFINE_")]:
        monkeypatch.setattr(flags, name, functools.partial(getattr(flags, name), flag_values=values))
    monkeypatch.setattr(flags, "adopt_module_key_flags", lambda module: None)
    COMMANDS[module].define_flags()
    values([module, *arguments])  # raises where a flag is unknown, a value refused or a required one missing


def test_pictures_are_there():
    for path in re.findall(r"!\[[^\]]*\]\(([^)]+)\)", README) + re.findall(r"\]\((docs/[^)]+)\)", README):
        assert (ROOT / path).is_file(), path
