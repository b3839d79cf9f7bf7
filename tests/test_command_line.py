"""How every command starts: help, what is missing, what is astray, and the words for what the system refuses.

On a small command, whose process takes half a second; that the true ones start without TensorFlow stands at the end.
"""

import os
import subprocess
import sys

import pytest

from tests.tiny import ROOT

TOY = '''"""Prints a picture's bytes: python toy.py --image=photo.jpg --text="a red flower" --out=edit.png
Knows nothing else."""
from absl import flags
from simgan_tf.system import commands

def define_flags():
    flags.DEFINE_string("image", None, "The picture.", required=True)
    flags.DEFINE_string("text", None, "The sentence.", required=True)
    flags.DEFINE_string("out", None, "What is written.", required=True)

def main(argv):
    with open(flags.FLAGS.image, "rb") as file:
        print(file.read(), flags.FLAGS.text)

commands.run(main, define_flags)
'''
EXAMPLE = 'for example: python toy.py --image=photo.jpg --text="a red flower" --out=edit.png (see --help)'


@pytest.fixture
def toy(tmp_path):
    (tmp_path / "toy.py").write_text(TOY)
    (tmp_path / "in.png").write_bytes(b"bytes")

    def start(*arguments):
        return subprocess.run([sys.executable, "toy.py", *arguments], cwd=tmp_path, capture_output=True, text=True,
                              env={**os.environ, "PYTHONPATH": str(ROOT)})  # fmt: skip

    return start


def test_what_is_refused_is_told_in_one_line(toy, tmp_path):
    given = "--text=a red flower", "--out=x.png"
    for arguments, message in (
        ([], f"--image=, --text=, --out= missing; {EXAMPLE}"),
        (["--image=in.png", "--out=x.png"], f"--text= missing; {EXAMPLE}"),
        (["in.png", "make it red"], "unexpected argument 'in.png': every option is a --flag=value, and a value with "
                                    f"spaces needs quotes; {EXAMPLE}"),
        (["--image=in.png", "--text=a", "red", "flower", "--out=x.png"], "unexpected argument 'red': every option is "
                                    f"a --flag=value, and a value with spaces needs quotes; {EXAMPLE}"),
        (["--imgae=in.png", *given], "Unknown command line flag 'imgae'. Did you mean: image ? (see --help)"),
        (["--image=no.png", *given], "--image=no.png: there is no such file or folder; check the name (looked for in "
                                     f"{tmp_path})"),
        ([f"--image={tmp_path}", *given], f"--image={tmp_path}: this is a folder, and a file is needed"),
        (["--image=in.png/x", *given], "--image=in.png/x: a part of this path is a file, and a folder is needed "
                                       f"(looked for in {tmp_path})"),
    ):  # fmt: skip
        done = toy(*arguments)
        assert (done.returncode, done.stdout, done.stderr) == (1, "", f"error: {message}\n")


def test_flags_around_nothing_astray_are_read(toy):
    done = toy("--out", "x.png", "--image", "in.png", "--text=a red flower")
    assert (done.returncode, done.stdout) == (0, "b'bytes' a red flower\n"), done.stderr


def test_help_is_the_docstring_and_the_commands_own_flags(toy):
    done = toy("--help")
    assert done.returncode == 0 and done.stderr == ""
    lines = done.stdout.splitlines()
    assert lines[0] == TOY.splitlines()[0].removeprefix('"""')
    assert [line for line in lines if line.startswith("--")] == [
        "--image: The picture.", "--out: What is written.", "--text: The sentence.",
    ]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("module", ["data.build", "data.doctor", "data.show", "simgan_tf.text.train",
                                    "simgan_tf.text.embed", "simgan_tf.text.nearest"])  # fmt: skip
def test_neither_help_nor_a_wrong_name_starts_tensorflow(module, tmp_path):
    absent = {"data.doctor": ["--records_dir=no"],
              "data.build": ["--dataset=cub", "--raw_dir=no", "--out_dir=x"],
              "data.show": ["--records_dir=no", "--out=x.png"],
              "simgan_tf.text.embed": ["--records_dir=no", "--encoder=no"],
              "simgan_tf.text.train": ["--records_dir=no", "--run_dir=x"],
              "simgan_tf.text.nearest": ["--records_dir=no", "--run_dir=no", "--text=red"]}[module]  # fmt: skip
    code = ("import importlib, sys; module = importlib.import_module(sys.argv.pop(1))\n"
            "try: module.command()\n"
            "except SystemExit as end: print('tensorflow' in sys.modules, end.code)\n")  # fmt: skip
    for arguments, ended in ((["--help"], 0), (absent, 1)):
        done = subprocess.run([sys.executable, "-c", code, module, *arguments], cwd=tmp_path, capture_output=True,
                              text=True, env={**os.environ, "PYTHONPATH": str(ROOT)})  # fmt: skip
        assert done.stdout.splitlines()[-1] == f"False {ended}", (arguments, done.stdout, done.stderr)
        assert "Traceback" not in done.stderr and "Errno" not in done.stdout + done.stderr
    assert not list(tmp_path.iterdir())
