"""What `pip install .` brings: packages, files, requirements and console commands, read from pyproject.toml."""

import ast
import fnmatch
import os
import re
import subprocess
import sys
from importlib import metadata

import pytest
from packaging.requirements import Requirement

from export import variants
from simgan_tf.system import commands
from tests.tiny import ROOT

tomllib = pytest.importorskip("tomllib", reason="Python 3.10 has no reader of pyproject.toml")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
SCRIPTS = PROJECT["project"]["scripts"]


def plain(requirement):
    return re.sub(r"\s", "", requirement.split("#")[0]).replace("'", '"')


def test_requirements_are_the_packages_lists_put_together():
    """But for tensorflow-serving-api, which make installs by itself: it wants the other one of the two TensorFlows."""
    lines = [plain(line) for line in (ROOT / "requirements.txt").read_text().splitlines()]
    extras = PROJECT["project"]["optional-dependencies"]
    listed = [plain(line) for part in (PROJECT["project"]["dependencies"], *extras.values()) for line in part]
    serving = [line for line in listed if line.startswith("tensorflow-serving-api")]
    assert sorted(filter(None, lines)) == sorted(set(listed) - set(serving))
    assert f'--no-deps "{serving[0]}"' in (ROOT / "Makefile").read_text()


def test_the_lock_has_every_requirement_in_a_version_that_it_allows():
    """And a checksum of each, without which pip would refuse all."""
    lock = (ROOT / "requirements.lock").read_text()
    entries = re.findall(r"^([\w.-]+)==([^\s;]+)(.*?)(?=^\S|\Z)", lock, re.MULTILINE | re.DOTALL)
    assert all("--hash=sha256:" in rest for _, _, rest in entries) and "http" not in lock
    locked = {}
    for name, version, _ in entries:
        locked.setdefault(name.lower().replace("_", "-"), []).append(version)
    lines = [line.split("#")[0].strip() for line in (ROOT / "requirements.txt").read_text().splitlines()]
    for line in filter(None, lines):
        requirement = Requirement(line)
        versions = locked[requirement.name]
        assert any(requirement.specifier.contains(version) for version in versions), (line, versions)


def test_no_tool_of_the_tests_comes_with_an_installation():
    names = {re.match(r"[\w-]+", line)[0] for line in PROJECT["project"]["dependencies"]}
    assert not names & {"pytest", "pytest-xdist", "ruff", "litert-quantizer", "tensorflow-serving-api", "grpcio"}


def test_every_package_and_file_is_installed():
    setup = PROJECT["tool"]["setuptools"]
    folders = [folder for name in ("simgan_tf", "data", "export") for folder in (ROOT / name).glob("**/")]
    found = [".".join(folder.relative_to(ROOT).parts) for folder in folders if (folder / "__init__.py").exists()]
    assert sorted(setup["packages"]) == sorted(found) and sorted(setup["py-modules"]) == ["run_export", "run_train"]
    if not (ROOT / ".git").exists():
        pytest.skip("no git checkout: which other files belong to the packages cannot be asked")
    command = ["git", "ls-files", "simgan_tf", "data", "export"]
    tracked = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    patterns = [f"{package.replace('.', '/')}/{pattern}" for package, of_package in setup["package-data"].items()
                for pattern in of_package]  # fmt: skip
    for path in tracked:
        assert path.endswith(".py") or any(fnmatch.fnmatch(path, pattern) for pattern in patterns), path


@pytest.mark.parametrize("name", SCRIPTS)
def test_console_commands_name_a_function(name):
    module, function = SCRIPTS[name].split(":")
    source = (ROOT / f"{module.replace('.', '/')}.py").read_text()
    defined = {node.name: node for node in ast.parse(source).body if isinstance(node, ast.FunctionDef)}
    assert function in defined and not ast.unparse(defined[function].args)


def test_texts_name_the_command_as_the_user_types_it(monkeypatch):
    """In a checkout as they stand; from a console command by the console commands' names."""
    entries = metadata.EntryPoints(metadata.EntryPoint(name, SCRIPTS[name], "console_scripts") for name in SCRIPTS)
    monkeypatch.setattr(metadata, "entry_points", lambda group: entries)
    text = (
        "python -m simgan_tf.evaluation --run_dir=x; python run_train.py -h, python -m run_train; "
        "python -m data.build. python -m simgan_tf.evaluation.colours, python -m export.pack"
    )
    monkeypatch.setattr(sys, "argv", ["data/build.py"])
    assert commands.as_typed(text) == text
    monkeypatch.setattr(sys, "argv", ["/usr/bin/simgan-data"])
    assert commands.as_typed(text) == (
        "simgan-evaluate --run_dir=x; simgan-train -h, simgan-train; simgan-data. "
        "python -m simgan_tf.evaluation.colours, python -m export.pack"
    )


def test_commands_find_their_own_packages_where_the_user_has_some_of_that_name(tmp_path):
    """simgan_tf installed (here: on the path behind the current folder), and data/ and export/ of the user's own."""
    for name in ("data", "export"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise SystemExit('the package of the user')")
    for module, arguments, said in (
        ("simgan_tf.text.nearest", ["--run_dir=.", "--records_dir=no", "--text=red"], "error: No dataset.json in rec"),
        ("simgan_tf.evaluation", ["--help"], ""),
    ):
        done = subprocess.run([sys.executable, "-m", module, *arguments], cwd=tmp_path, capture_output=True, text=True,
                              env={**os.environ, "PYTHONPATH": str(ROOT)})  # fmt: skip
        assert done.stderr.startswith(said) and bool(done.stderr) == bool(said)


def test_without_the_quantizer_its_variants_are_left_out_or_say_what_to_install(monkeypatch):
    monkeypatch.setattr(variants.importlib.util, "find_spec", lambda name: None)
    assert variants.chosen(None, True, True) == ["float32", "float16", "dynamic_int8"]
    with pytest.raises(ValueError, match=r'variants=int8 needs the quantizer.*pip install "simgan-tf\[device\]"'):
        variants.chosen(["float32", "int8"], True, True)
