"""Who may import whom: every arrow of the house, read from the source."""

import ast
import dataclasses
import subprocess

import pytest

from tests.tiny import ROOT

SYSTEM = {"simgan_tf.system"}  # flags, quiet, whole files, pictures: what everybody may take
KERAS = {"simgan_tf.keras2"}  # where its versions differ
ALLOWED = {  # module or package -> what of ours it may import, beside itself
    "simgan_tf.system": set(),
    "simgan_tf.keras2": set(),
    "simgan_tf.layers": KERAS,
    "simgan_tf.folding": {"simgan_tf.layers"} | KERAS,
    "simgan_tf.losses": set(),
    "simgan_tf.watch": set(),
    "simgan_tf.methods": {"simgan_tf.configs", "simgan_tf.layers", "simgan_tf.losses", "simgan_tf.text.encoders",
                          "simgan_tf.evaluation.outlines"} | KERAS,
    "simgan_tf.configs": {"simgan_tf.methods"} | SYSTEM,  # of methods its table of names
    "simgan_tf.checkpoints": SYSTEM,
    "simgan_tf.strategy": {"simgan_tf.methods.step"},
    "simgan_tf.estimate": {"simgan_tf.configs", "simgan_tf.methods.step"},
    "simgan_tf.training": {"simgan_tf.configs", "simgan_tf.checkpoints", "simgan_tf.strategy", "simgan_tf.watch"}
    | SYSTEM,
    "simgan_tf.session": {"simgan_tf", "data"},
    "simgan_tf.text": {"simgan_tf.layers", "simgan_tf.losses", "data"} | SYSTEM | KERAS,
    "simgan_tf.edit": {"simgan_tf.configs", "simgan_tf.methods", "simgan_tf.text", "simgan_tf.checkpoints", "data",
                       "simgan_tf.carry", "simgan_tf.photographs"} | SYSTEM,
    "simgan_tf.photographs": {"simgan_tf.edit", "simgan_tf.text.notes", "data"} | SYSTEM,
    "simgan_tf.evaluation.attention": {"simgan_tf"},  # it fills a whole method
    "simgan_tf.evaluation": {"simgan_tf.edit", "simgan_tf.configs", "simgan_tf.folding", "simgan_tf.layers",
                             "simgan_tf.text", "data"} | SYSTEM | KERAS,
    "simgan_tf.compare": {"simgan_tf.edit", "simgan_tf.configs", "simgan_tf.evaluation", "simgan_tf.text", "data"}
    | SYSTEM,
    "simgan_tf": set(),
    "data.readers": SYSTEM,
    "data": SYSTEM,
    "export.web": {"export.devices", "export.device_example", "export.parity", "export.variants", "simgan_tf", "data"},
    "export.serving.client": SYSTEM,  # by REST it runs without TensorFlow
    "export.cpp_loader": set(),
    "export.device_example": {"simgan_tf.carry", "simgan_tf.text.words"},  # three files to copy to a board
    "export.on_device": set(),  # runs there too
    "export.compact": set(),
    "export.quantise": set(),
    "export.variants": {"export.quantise"} | SYSTEM,
    "export": {"simgan_tf", "data"},
    "run_train": {"simgan_tf"},
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
    package, others = next((name, others) for name, others in ALLOWED.items() if within(module, name))
    allowed = others | {package}
    for name in imports(path):
        if name.split(".")[0] in ("simgan_tf", "data", "export", "tests", "run_train", "run_export"):
            assert any(within(name, each) for each in allowed), f"{module} may not import {name}"


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
        "requirements.lock", "requirements-tf215.txt",
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


def test_nothing_outside_of_methods_and_configs_knows_a_method():
    """No name of a network or an optimizer, of a field of one method's own, or of a method's class."""
    from simgan_tf.configs import module_of as settings_of
    from simgan_tf.configs.base import Base
    from simgan_tf.methods import METHODS

    own = {field.name for method in METHODS for field in dataclasses.fields(settings_of(method).Config)}
    own -= {field.name for field in dataclasses.fields(Base)} | {"width", "units", "decoder"}
    own |= {place.split(":")[1] for _, place in METHODS.values()}
    own |= {"generator", "discriminator", "g_optimizer", "d_optimizer", "discriminators", "s_optimizer", "two_steps"}
    for path in FILES:
        module = module_of(path)
        if within(module, "simgan_tf.methods") or within(module, "simgan_tf.configs"):
            continue
        tree = ast.parse(path.read_text())
        names = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
        names |= {str(node.value) for node in ast.walk(tree) if isinstance(node, ast.Constant)}
        assert not names & own, f"{module} names {sorted(names & own)}"
