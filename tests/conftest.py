"""Options and the smallest networks that have every part."""

import keras
import pytest
import tensorflow as tf

from simgan_tf.config import Config

TINY = Config(
    image_size=16,
    load_size=18,
    width=4,
    units=2,
    ca_size=6,
    d_width=4,
    text_size=5,
    batch_size=4,
    steps=6,
    log_every=1,
    sample_every=0,
    checkpoint_every=3,
    sentences=("a red flower", "a white flower"),
)
EMBEDDING = 7  # D of the tiny phi


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


def random_batch(seed: int) -> dict[str, tf.Tensor]:
    return {
        "image": tf.random.stateless_uniform([4, 16, 16, 3], [seed, 0], -1.0, 1.0),
        "embedding": tf.random.stateless_normal([4, EMBEDDING], [seed, 1]),
        "class_id": tf.constant([1, 2, 3, 4]),
    }


@pytest.fixture(autouse=True)
def seeded() -> None:
    keras.utils.set_random_seed(0)
