"""Who may import whom: every arrow of the house, read from the source."""

import ast
import pathlib
import subprocess

import pytest

ROOT = pathlib.Path(__file__).parent.parent
LOW = {"simgan_tf.system.commands", "simgan_tf.system.quiet", "simgan_tf.system.files"}
ALLOWED = {  # module or package -> what of ours it may import
    "simgan_tf.system.quiet": set(),
    "simgan_tf.system.commands": {"simgan_tf.system.quiet"},
    "simgan_tf.system.files": set(),
    "simgan_tf.configs": {"simgan_tf.configs", "simgan_tf.system.files"},
    "simgan_tf.layers": set(),
    "simgan_tf.losses": set(),
    "simgan_tf.system.pictures": {"simgan_tf.system.files"},
    "simgan_tf.methods": {"simgan_tf.methods", "simgan_tf.configs", "simgan_tf.layers", "simgan_tf.losses"},
    "simgan_tf.carry": set(),
    "simgan_tf.checkpoints": {"simgan_tf.system.files"},
    "simgan_tf.strategy": set(),
    "simgan_tf.watch": {"simgan_tf.configs"},
    "simgan_tf.estimate": {"simgan_tf.configs"},
    "simgan_tf.training": {"simgan_tf.configs", "simgan_tf.system", "simgan_tf.checkpoints",
                           "simgan_tf.strategy", "simgan_tf.watch"},
    "simgan_tf.text": {"simgan_tf.text", "simgan_tf.layers", "simgan_tf.losses", "data"} | LOW,
    "simgan_tf.edit": {"simgan_tf.configs", "simgan_tf.methods", "simgan_tf.text", "simgan_tf.checkpoints",
                       "simgan_tf.system.pictures", "data"} | LOW,
    "export.pack": {"simgan_tf.edit", "simgan_tf.checkpoints", "simgan_tf.configs", "simgan_tf.text", "data"} | LOW,
    "simgan_tf.evaluation": {"simgan_tf.evaluation", "simgan_tf.edit", "simgan_tf.system.pictures", "simgan_tf.text",
                             "data"} | LOW,
    "data.readers": {"data.readers"},
    "data.show": {"data", "simgan_tf.system.pictures"} | LOW,
    "data": {"data"} | LOW,
    "export.web": {"export.web", "export.devices", "export.parity", "export.variants", "simgan_tf", "data"},
    "export.serving.protocol": set(),
    "export.serving.client": {"export.serving.protocol"} | LOW,  # installs without TensorFlow
    "export.cpp_loader": set(),
    "export.device_example": set(),  # one file to copy to a board
    "export.on_device": set(),  # runs there too
    "export.compact": set(),
    "export.quantise": set(),
    "export.variants": {"export.quantise", "simgan_tf.system.commands"},
    "export": {"export", "simgan_tf", "data"},
    "run_train": {"simgan_tf", "data"},
    "run_export": {"simgan_tf", "export"},
    "simgan_tf": set(),
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
    light = [*(ROOT / "simgan_tf" / "system").glob("*.py"), *(ROOT / "simgan_tf" / "configs").glob("*.py")]
    for path in [*light, ROOT / "simgan_tf" / "watch.py"]:
        source = path.read_text()
        heavy = [
            node
            for node in ast.parse(source).body
            if isinstance(node, (ast.Import, ast.ImportFrom)) and "tensorflow" in ast.dump(node)
        ]
        assert not heavy, path
