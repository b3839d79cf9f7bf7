"""What tests share: the smallest models that have every part, runs of them, and commands as a user starts them."""

import contextlib
import dataclasses
import io
import json
import os
import pathlib
import runpy
import shutil
import subprocess
import sys
import warnings
from unittest import mock

import numpy as np
import pytest
import tensorflow as tf
from absl import app
from absl.testing import flagsaver
from PIL import Image

from data import records
from export.serving import reading
from simgan_tf import checkpoints, keras2, methods, training
from simgan_tf.configs import ccgan, reed, sisgan, tagan
from simgan_tf.configs.base import Base
from simgan_tf.configs.simgan import Config
from simgan_tf.text import char_cnn_rnn, encoders, kiros
from simgan_tf.text.released_tokens import Dictionary
from simgan_tf.text.tokens import Vocabulary
from simgan_tf.text.vse import TextEncoder

ROOT = pathlib.Path(__file__).resolve().parents[1]
PAGE = ROOT / "export" / "web" / "page"
MINI = ROOT.parent / "shared" / "data" / "mini"  # 48 photographs, on some machines

# ---- networks that train

TINY = Config(
    image_size=16,
    load_size=18,
    width=4,
    units=1,
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
SIZES = {  # of every method's tiny configuration
    field: getattr(TINY, field)
    for field in ("image_size", "load_size", "batch_size", "steps", "log_every", "sample_every", "checkpoint_every",
                  "sentences")
}  # fmt: skip
TINIES = {  # of every method of METHODS
    "simgan": TINY,
    "sisgan": sisgan.Config(width=4, units=1, ca_size=6, d_width=4, text_size=5, **SIZES),
    # Not 4: a unit of one channel has a norm of one number, whose gradient is mostly rounding.
    "reed": reed.Config(width=16, style_size=6, d_width=4, text_size=5, gan_steps=2, **SIZES),
    "ccgan": ccgan.Config(width=4, units=1, code_size=6, d_width=4, text_size=5, **SIZES),
    # Not 4: what matching and mismatching sentences teach so small a D cancels, and its gradient is mostly rounding.
    "tagan": tagan.Config(word_size=5, hidden_size=16, width=16, units=1, ca_size=6, d_width=16, **SIZES),
}
EMBEDDING = 7  # D of the tiny phi
TINY_FLAGS = [
    "--preset=simgan_demo", "--image_size=16", "--load_size=18", "--width=4", "--units=1", "--d_width=4", "--ca_size=4",
    "--text_size=4", "--batch_size=4", "--own_text=0.25",
]  # fmt: skip


def phi(dim: int = EMBEDDING) -> TextEncoder:
    """A text encoder of four words with fixed random weights."""
    return random_encoder(["a", "red", "white", "flower"], dim=dim, length=5)


def random_encoder(words: list[str], **settings: object) -> TextEncoder:
    encoder = TextEncoder(Vocabulary(words), word_dim=4, **settings)
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


def toy_records(folder: str) -> None:
    """21 training and 6 test pictures, red and blue in turns, with two captions each."""

    def example(number: int) -> records.Example:
        colour, tint = (("red", (220, 0, 0)), ("blue", (0, 0, 220)))[(number + 1) % 2]
        image = tf.io.encode_png(np.full((24, 30, 3), tint, np.uint8)).numpy()
        captions = f"this flower has {colour} petals", f"a {colour} flower"
        return records.Example(image, f"image_{number:05d}", number - (number + 1) % 2, captions)

    parts = {split: records.write_split(folder, split, map(example, numbers), 1)
             for split, numbers in (("train", range(1, 22)), ("test", range(101, 107)))}  # fmt: skip
    info = {"format_version": 1, "dataset": "toy", "shards": 1, "splits": parts, "fingerprint": "none"}
    records.write_info(folder, info)


# ---- runs that are edited with and exported, untrained but with weights that would show a fault

CONFIG = Config(image_size=16, load_size=20, width=4, units=1, ca_size=5, d_width=4, text_size=4, batch_size=2)
WORDS = ["this", "flower", "has", "red", "blue", "petals", "yellow", "the", "of", "are", "pink"]
STEP = 7


def vse_encoder() -> TextEncoder:
    """A trained encoder's kind, with random weights."""
    return random_encoder(WORDS, dim=6, length=9, phi_scale=1.5)


def other_encoder(kind: str) -> encoders.TextEncoder:
    """A released encoder's kind, with weights large enough for every word to matter."""
    if kind == "char_cnn_rnn":
        sizes = {"4": 4, "A": 70, "F1": 5, "F2": 6, "C": 4, "D": 6, "G": 12, "H": 8}
        return char_cnn_rnn.CharCnnRnn(random_arrays(char_cnn_rnn.SHAPES["gru"], sizes))
    sizes = {"V": len(WORDS) + 3, "E": 4, "D": 6, "G": 12, "I": 3}
    return kiros.Kiros(Dictionary([*WORDS, "."]), random_arrays(kiros.SHAPES, sizes), length=12, phi_scale=2.0)


def random_arrays(shapes: dict[str, str], sizes: dict[str, int]) -> dict[str, np.ndarray]:
    """Normal draws of the shapes that the letters stand for."""
    draw = np.random.default_rng(2)
    letters = {key: text.split() if " " in text or text in sizes else list(text) for key, text in shapes.items()}
    return {key: draw.normal(0.0, 0.8, [sizes[letter] for letter in each]).astype(np.float32)
            for key, each in letters.items()}  # fmt: skip


def own_name(variable: object) -> str:
    """Of a weight in its layer; Keras 2 has layer/variance:0."""
    return variable.name.split("/")[-1].split(":")[0]


def make_run(directory: str, encoder: encoders.TextEncoder, config: Base = CONFIG, **switches: object) -> str:
    """A run of step 7, of `config` with some switches.

    What edits uses its whole range, and its moving statistics are far from 0 and 1.
    """
    draw = np.random.default_rng(1)
    encoder.save(os.path.join(directory, "text_encoder"))
    config = dataclasses.replace(config, **switches)
    training.write_config(directory, config, {"fingerprint": "none"}, encoder.fingerprint)
    method = methods.build(config, encoder, 1)
    for variable in keras2.weights_of(method.network):
        shape, name = variable.shape, own_name(variable)
        if name == "variance":
            variable.assign(draw.uniform(0.3, 3.0, shape))
        elif name == "gamma":
            variable.assign(draw.uniform(0.7, 1.3, shape))
        elif len(shape) == 1:
            variable.assign(draw.normal(0.0, 0.5, shape))
        else:
            fan_in = np.prod(shape[:-1])
            variable.assign(draw.normal(0.0, np.sqrt(2 / fan_in), shape))
    checkpoint = checkpoints.checkpoint_of(method.variables(), step=tf.Variable(STEP, dtype=tf.int64))
    tf.train.CheckpointManager(checkpoint, os.path.join(directory, "checkpoints"), 3).save(checkpoint_number=STEP)
    return directory


def picture_files(count: int, seed: int = 0) -> list[bytes]:
    """Pictures of different sizes, JPEG, PNG and WebP in turns."""
    draw, made = np.random.default_rng(seed), []
    for i in range(count):
        small = Image.fromarray(draw.integers(0, 255, [4, 4, 3]).astype(np.uint8))
        buffer = io.BytesIO()
        form = ("JPEG", "PNG", "WEBP" if reading.WEBP else "PNG")[i % 3]
        small.resize((30 + 7 * i, 50 - 3 * i), Image.Resampling.BICUBIC).save(buffer, form, lossless=True)
        made.append(buffer.getvalue())
    return made


@contextlib.contextmanager
def full_disk(room: int):
    """No file may grow past `room` bytes inside, as on a disk that fills up."""
    resource = pytest.importorskip("resource", reason="no limit on file sizes to stand for a full disk")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


# ---- commands

app.define_help_flags()  # absl defines them once a process, so they must be there before the first run() looks


def start(*arguments, check=True, **options):
    """Runs `python arguments` in the repository's root, in a process of its own: five seconds for TensorFlow alone."""
    done = subprocess.run([sys.executable, *map(str, arguments)], cwd=ROOT, capture_output=True, text=True, **options)
    assert not check or done.returncode == 0, done.stderr
    return done


def run(*arguments, check=True):
    """Runs `python arguments`, a file or -m and a module, in this process: the same code from its first line on.

    What a fault of ours raises comes out as it is. Flags, sys.argv and the environment are afterwards as before.
    """
    name, *given = map(str, arguments)
    module = given.pop(0) if name == "-m" else None
    code, out, err = 0, io.StringIO(), io.StringIO()
    with (
        flagsaver.flagsaver(),
        mock.patch.dict(os.environ),
        mock.patch.object(sys, "argv", [name, *given]),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        warnings.catch_warnings(),
    ):
        # runpy's remark that a module is imported already, which here is meant
        warnings.filterwarnings("ignore", "'.*' found in sys.modules after import of package", RuntimeWarning)
        try:
            if module:
                runpy.run_module(module, run_name="__main__", alter_sys=True)
            else:
                runpy.run_path(str(ROOT / name), run_name="__main__")
        except SystemExit as end:
            code = end.code or 0
    assert not check or code == 0, err.getvalue()
    return subprocess.CompletedProcess(arguments, code, out.getvalue(), err.getvalue())


def refused(*arguments):
    """The one line on stderr of a command that must fail as a user's mistake."""
    done = run(*arguments, check=False)
    assert done.returncode == 1, (done.returncode, done.stderr)
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    assert len(lines) == 1 and lines[0].startswith("error: "), done.stderr
    return lines[0]


def node(script, value):
    """What JavaScript over the page's modules and `value` leaves in `answer`; JSON both ways, half pairs included."""
    if shutil.which("node") is None:
        pytest.skip("node is not installed: the page's JavaScript cannot be run beside Python")
    modules = ("carry", "notes", "pixels", "profile", "words")
    whole = "".join(f"import * as {name} from {json.dumps((PAGE / f'{name}.js').as_uri())};" for name in modules) + f"""
        import {{ readFileSync }} from "node:fs";
        const value = JSON.parse(readFileSync(0, "utf8"));
        let answer;
        {script}
        process.stdout.write(JSON.stringify(answer));
    """
    done = subprocess.run(["node", "--input-type=module", "-e", whole], input=json.dumps(value), capture_output=True,
                          text=True, timeout=300, check=False)  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
