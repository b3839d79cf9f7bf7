"""The smallest configuration, text encoder and batch that have every part, and how tests start commands."""

import pathlib
import subprocess
import sys

import numpy as np
import tensorflow as tf

from simgan_tf.configs.simgan import Config
from simgan_tf.text.tokens import Vocabulary
from simgan_tf.text.vse import TextEncoder

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
WORDS = ["a", "red", "white", "flower"]

ROOT = pathlib.Path(__file__).parent.parent
TINY_FLAGS = [
    "--preset=simgan_demo", "--image_size=16", "--load_size=18", "--width=4", "--units=1", "--d_width=4", "--ca_size=4",
    "--text_size=4", "--batch_size=4", "--own_text=0.25",
]  # fmt: skip


def phi(dim: int = EMBEDDING) -> TextEncoder:
    """A text encoder of four words with fixed random weights."""
    encoder = TextEncoder(Vocabulary(WORDS), dim=dim, word_dim=4, length=5)
    draw = np.random.default_rng(0)
    for variable in encoder.variables:
        variable.assign(draw.normal(size=variable.shape))
    return encoder


def random_batch(seed: int) -> dict[str, tf.Tensor]:
    """Four random pictures of four classes, with embeddings and ids of three known words."""
    return {
        "image": tf.random.stateless_uniform([4, 16, 16, 3], [seed, 0], -1.0, 1.0),
        "embedding": tf.random.stateless_normal([4, EMBEDDING], [seed, 1]),
        "tokens": tf.random.stateless_uniform([4, 5], [seed, 2], 2, 6, tf.int32),
        "class_id": tf.constant([1, 2, 3, 4]),
    }


def run(*arguments, check=True, **options):
    """Runs `python arguments` in the repository's root."""
    done = subprocess.run([sys.executable, *map(str, arguments)], cwd=ROOT, capture_output=True, text=True, **options)
    assert not check or done.returncode == 0, done.stderr
    return done


def refused(*arguments, **options):
    """The one line on stderr of a command that must fail as a user's mistake."""
    done = run(*arguments, check=False, **options)
    assert done.returncode == 1, (done.returncode, done.stderr)
    assert "Traceback" not in done.stderr
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    assert len(lines) == 1 and lines[0].startswith("error: "), done.stderr
    return lines[0]
