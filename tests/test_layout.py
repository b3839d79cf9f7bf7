"""Who may import whom: every arrow of the house, read from the source."""

import ast
import pathlib
import subprocess

import pytest

ROOT = pathlib.Path(__file__).parent.parent
LOW = {"simgan_tf.cli", "simgan_tf.quiet", "simgan_tf.files"}
ALLOWED = {  # module or package -> what of ours it may import
    "simgan_tf.quiet": set(),
    "simgan_tf.cli": {"simgan_tf.quiet"},
    "simgan_tf.files": set(),
    "simgan_tf.config": {"simgan_tf.files"},
    "simgan_tf.layers": set(),
    "simgan_tf.losses": set(),
    "simgan_tf.pictures": {"simgan_tf.files"},
    "simgan_tf.methods": {"simgan_tf.methods", "simgan_tf.config", "simgan_tf.layers", "simgan_tf.losses"},
    "simgan_tf.checkpoints": {"simgan_tf.files"},
    "simgan_tf.strategy": set(),
    "simgan_tf.watch": {"simgan_tf.config"},
    "simgan_tf.estimate": {"simgan_tf.config"},
    "simgan_tf.training": {"simgan_tf.config", "simgan_tf.pictures", "simgan_tf.files", "simgan_tf.checkpoints",
                           "simgan_tf.strategy", "simgan_tf.watch"},
    "simgan_tf.text": {"simgan_tf.text", "simgan_tf.layers", "simgan_tf.losses", "data"} | LOW,
    "simgan_tf.edit": {"simgan_tf.config", "simgan_tf.methods", "simgan_tf.text", "simgan_tf.checkpoints",
                       "simgan_tf.pictures", "data"} | LOW,
    "simgan_tf.pack": {"simgan_tf.edit", "simgan_tf.checkpoints", "simgan_tf.config", "simgan_tf.text", "data"} | LOW,
    "simgan_tf.evaluation": {"simgan_tf.evaluation", "simgan_tf.edit", "simgan_tf.pictures", "simgan_tf.text",
                             "data"} | LOW,
    "data.readers": {"data.readers"},
    "data.embed": {"data", "simgan_tf.text"} | LOW,  # a command; nothing imports it
    "data.show": {"data", "simgan_tf.pictures"} | LOW,
    "data": {"data"} | LOW,
    "export.web": {"export.web", "export.devices", "export.parity", "export.variants", "simgan_tf", "data"},
    "export.serving.protocol": set(),
    "export.serving.client": {"export.serving.protocol"} | LOW,  # installs without TensorFlow
    "export.cpp_loader": set(),
    "export.device_example": set(),  # one file to copy to a board
    "export.on_device": set(),  # runs there too
    "export.compact": set(),
    "export.quantise": set(),
    "export.variants": {"export.quantise", "simgan_tf.cli"},
    "export": {"export", "simgan_tf", "data"},
    "run_train": {"simgan_tf", "data"},
    "run_export": {"simgan_tf", "export"},
}  # fmt: skip
FILES = sorted(
    [*ROOT.glob("simgan_tf/**/*.py"), *ROOT.glob("data/**/*.py"), *ROOT.glob("export/**/*.py"), *ROOT.glob("run_*.py")]
)


def module_of(path):
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def within(module, package):
    return module == package or module.startswith(package + ".")


def imports(path):
    """Every module of ours that a file imports, wherever the line stands."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            for alias in node.names:
                inner = ROOT.joinpath(*node.module.split("."), alias.name)
                yield (
                    f"{node.module}.{alias.name}"
                    if inner.with_suffix(".py").exists() or inner.is_dir()
                    else node.module
                )


@pytest.mark.parametrize("path", FILES, ids=module_of)
def test_arrows(path):
    module = module_of(path)
    if module in ("simgan_tf",):
        assert not path.read_text()
        return
    allowed = next(found for package, found in ALLOWED.items() if within(module, package))
    for name in imports(path):
        if name.split(".")[0] in ("simgan_tf", "data", "export", "tests", "run_train", "run_export"):
            assert any(within(name, package) for package in allowed), f"{module} may not import {name}"


def test_top_level_is_the_users():
    """Folders and files of the top level that git tracks."""
    if not (ROOT / ".git").exists():
        pytest.skip("no git checkout: what is tracked cannot be asked")
    tracked = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    expected = {
        "simgan_tf", "data", "export", "tests", "requirements.txt", "run_train.py", "run_export.py", "README.md",
        "LICENSE", "CITATION.cff", "CONTRIBUTING.md", "Makefile", "pyproject.toml", ".ci", "docs", ".gitignore",
    }  # fmt: skip
    assert {name.split("/")[0] for name in tracked} <= expected | {"benchmarks"}


def test_light_modules_do_not_import_tensorflow():
    for name in ("cli", "config", "files", "quiet", "pictures", "watch"):
        source = (ROOT / "simgan_tf" / f"{name}.py").read_text()
        heavy = [
            node
            for node in ast.parse(source).body
            if isinstance(node, (ast.Import, ast.ImportFrom)) and "tensorflow" in ast.dump(node)
        ]
        assert not heavy, name
