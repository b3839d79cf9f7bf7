"""Options, and fixtures that many files share: a small run made by the commands themselves, a served one."""

import os

import keras
import pytest
import tensorflow as tf

from data import demo
from simgan_tf.configs.simgan import Config
from tests.tiny import EMBEDDING, ROOT, TINY, TINY_FLAGS, random_batch, refused, run  # noqa: F401 - for test files

for _name in ("no_proxy", "NO_PROXY"):  # the tests' own servers are asked directly
    os.environ.setdefault(_name, "127.0.0.1,localhost")

def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--slow", action="store_true", help="also run the tests marked slow")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.getoption("--slow"):
        for item in items:
            if "slow" in item.keywords:
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
def served_editor(tmp_path_factory):
    """The Editor of the tiny run of test_export.py, as its `editor`."""
    import numpy as np

    from simgan_tf.edit import Editor
    from simgan_tf.text.tokens import Vocabulary
    from simgan_tf.text.vse import TextEncoder
    from tests.test_export import WORDS, make_run

    encoder = TextEncoder(Vocabulary(WORDS), dim=6, word_dim=4, length=9)
    draw = np.random.default_rng(0)
    for variable in encoder.variables:
        variable.assign(draw.normal(size=variable.shape))
    return Editor(make_run(str(tmp_path_factory.mktemp("run")), encoder))


@pytest.fixture(scope="session")
def served(served_editor, tmp_path_factory) -> str:
    """Its SavedModel with the files of a server, written, then moved to another folder: FOLDER/simgan/7."""
    from export import saved_model
    from export.serving import deployment

    first, moved = tmp_path_factory.mktemp("first"), tmp_path_factory.mktemp("moved")
    path = first / "simgan" / "7"
    path.parent.mkdir()
    saved_model.write(served_editor, str(path))
    deployment.write(served_editor, str(path))
    first.rename(moved / "elsewhere")
    return str(moved / "elsewhere" / "simgan" / "7")


@pytest.fixture(scope="session")
def served_session(served):
    """The classic Session over it."""
    from export.serving import checks

    return checks.Session(served)
