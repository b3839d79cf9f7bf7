"""Options and fixtures: seeds, a batch, a small run made by the commands themselves, a served model."""

import json
import os

import keras
import pytest
import tensorflow as tf

from data import demo
from export.web import litert
from simgan_tf import keras2
from simgan_tf.configs.simgan import Config
from tests.tiny import TINY, TINY_FLAGS, make_run, random_batch, run, vse_encoder

for _name in ("no_proxy", "NO_PROXY"):  # the tests' own servers are asked directly
    os.environ.setdefault(_name, "127.0.0.1,localhost")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slow", action="store_true", help="also run the tests marked slow")
    parser.addoption("--ci", action="store_true", help="also run the slow tests that are marked ci")


def pytest_configure(config: pytest.Config) -> None:
    if keras2.KERAS_2:  # its own way to draw seeds
        config.addinivalue_line("filterwarnings", "ignore:non-integer arguments to randrange:DeprecationWarning")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        wanted = config.getoption("--slow") or (config.getoption("--ci") and item.get_closest_marker("ci"))
        if item.get_closest_marker("slow") and not wanted:  # not item.keywords, which hold the names of folders
            item.add_marker(pytest.mark.skip(reason="slow: run with --slow"))


@pytest.fixture
def tiny() -> Config:
    return TINY


@pytest.fixture
def batch() -> dict[str, tf.Tensor]:
    """Four random pictures with embeddings of four classes."""
    return random_batch(0)


@pytest.fixture(autouse=True)
def seeded() -> None:
    keras.utils.set_random_seed(0)


@pytest.fixture
def eager():
    """Steps run operation by operation: of a tiny network 0.3 s each, where compiling one takes 3 s."""
    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)


@pytest.fixture(scope="session")
def path(tmp_path_factory):
    """raw pictures, records, a text encoder and a run of four steps, each made by its own command."""
    root = tmp_path_factory.mktemp("path")
    raw, records, run_dir = root / "raw", root / "records", root / "run"
    demo.write(str(raw), images_per_class=3, classes=10, size=40, workers=1)
    run("-m", "data.build", "--dataset=oxford102", f"--raw_dir={raw}", f"--out_dir={records}", "--shards=2")
    run(
        "-m",
        "simgan_tf.text.train",
        f"--records_dir={records}",
        f"--run_dir={run_dir}",
        "--dim=8",
        "--word_dim=6",
        "--steps=3",
        "--image_size=16",
        "--image_width=4",
        "--batch_size=4",
        "--min_count=1",
    )
    run(
        "run_train.py",
        *TINY_FLAGS,
        f"--records_dir={records}",
        f"--run_dir={run_dir}",
        "--steps=4",
        "--log_every=1",
        "--sample_every=2",
        "--checkpoint_every=2",
    )
    return root


@pytest.fixture(scope="session")
def untrained_run(tmp_path_factory) -> str:
    """A tiny run whose weights are random."""
    return make_run(str(tmp_path_factory.mktemp("run")), vse_encoder())


@pytest.fixture(scope="session")
def untrained(untrained_run):
    """Its Editor."""
    from simgan_tf.edit import Editor

    return Editor(untrained_run)


@pytest.fixture(scope="session")
def exported(untrained_run, tmp_path_factory) -> str:
    """A whole export of it with the .tflite of floats alone, then moved to another folder."""
    from export import export_run

    first, moved = (tmp_path_factory.mktemp(name) / name for name in ("first", "moved"))
    export_run.export(untrained_run, str(first), list(export_run.FORMATS), None, "tests", ["float32"])
    first.rename(moved)
    return str(moved)


@pytest.fixture(scope="session")
def served(exported) -> str:
    """The SavedModel in it, beside whose folder the files of a server stand: FOLDER/simgan/7."""
    return os.path.join(exported, "saved_model", "simgan", "7")


@pytest.fixture(scope="session")
def served_session(served):
    """The classic Session over it."""
    from export.serving import checks

    return checks.Session(served)


@pytest.fixture
def litert_dir(tmp_path) -> str:
    """A folder laid out as npm lays out the wanted version, small files in it."""
    modules = tmp_path / "npm" / "node_modules"
    core, utils = modules / "@litertjs" / "core", modules / "@litertjs" / "wasm-utils"
    for folder in (core / "dist", core / "wasm", utils / "dist"):
        folder.mkdir(parents=True)
    (core / "package.json").write_text(json.dumps({"version": litert.wanted_version()}))
    (core / "dist" / "index.js").write_text('import { createWasmLib } from "@litertjs/wasm-utils";')
    (utils / "dist" / "bundle.js").write_text("export {};")
    for flavour in litert.FLAVOURS:
        for ending in ("js", "wasm"):
            (core / "wasm" / f"litert_wasm_{flavour}internal.{ending}").write_bytes(b"\0asm" + flavour.encode())
    return str(tmp_path / "npm")
