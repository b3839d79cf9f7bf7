"""The models that ship in simgan_tf/pretrained: there, small, with a card, no training picture, and they edit."""

import json
import os
import pathlib
import re

import numpy as np
import pytest

from data import demo, painter
from simgan_tf import checkpoints, configs, edit

MODELS = edit.pretrained_names()
COMPARED = {  # with the networks that only train, but for one
    "flowers-tagan128": {"generator_ema"},
    "flowers-sisgan": {"generator_ema", "discriminator"}, "flowers-tagan": {"generator_ema", "discriminator"},
    "birds-tagan": {"generator_ema", "discriminator"},
    "flowers-ccgan": {"forward_ema", "backward", "discriminators"},
}  # fmt: skip
SHIPPED = {"flowers64", "flowers128", "flowers256", "birds", "birds256", *COMPARED}
HEADINGS = {"Data", "Training", "Metrics", "Failures", "Intended use"}
MOST_BYTES, MOST_IN_ALL = 12_000_000, 20_000_000  # of a file, of a model


def files(name):
    found = (path for path in pathlib.Path(edit.PRETRAINED, name).rglob("*") if path.is_file())
    return {path.relative_to(edit.PRETRAINED).as_posix(): path for path in found}


def test_all_ship():
    assert set(MODELS) >= SHIPPED
    for name, parts in COMPARED.items():
        assert checkpoints.folders_of(os.path.join(edit.PRETRAINED, name)).keys() == parts


def test_nothing_else_lies_there():
    assert set(os.listdir(edit.PRETRAINED)) == {*MODELS, "samples"}


def test_pictures_are_samples_or_sheets():
    """No training photograph: a picture lies in samples/, whose licences test_pack.py asks for, or in a sheets/."""
    endings = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tfrecord")
    pictures = [name.split("/") for name in files("") if name.lower().endswith(endings)]
    assert [parts for parts in pictures if parts[0] != "samples" and parts[1] != "sheets"] == []


@pytest.mark.parametrize("name", MODELS)
def test_files(name):
    """What the Editor reads, the numbers and the card, all small and without a path of the machine it was packed on."""
    sizes = {file: os.path.getsize(path) for file, path in files(name).items()}
    assert max(sizes.values()) <= MOST_BYTES and sum(sizes.values()) <= MOST_IN_ALL
    folder = os.path.join(edit.PRETRAINED, name)
    config, facts = configs.load(folder)
    trained = "forward" if config.method == "ccgan" else "generator"
    assert facts["packed"]["part"] == trained + ("_ema" if config.ema_decay else "")
    assert facts["packed"]["max_difference"] < 0.05
    results = [json.loads(path.read_text()) for path in pathlib.Path(folder).glob("results*.json")]
    assert {result["step"] for result in results} == {edit.Editor(folder).step}
    for path in files(name).values():
        if path.suffix in (".json", ".md"):
            assert not re.search(r"(?<![\w/:.~-])/(work|home|root|tmp|Users)/", path.read_text(encoding="utf-8")), path


@pytest.mark.parametrize("name", MODELS)
def test_card(name):
    with open(os.path.join(edit.PRETRAINED, name, "README.md"), encoding="utf-8") as file:
        parts = re.split(r"^#+ (.+)$", file.read(), flags=re.MULTILINE)
    said = dict(zip(parts[1::2], parts[2::2], strict=True))
    assert said.keys() >= HEADINGS
    assert all(len(said[heading].split()) >= 10 for heading in HEADINGS)


@pytest.mark.parametrize("name", MODELS)
def test_edits(name):
    """A drawn flower changes with the sentence, by more than two 8-bit steps, and the same way in a second Editor."""
    first, second = (edit.Editor(os.path.join(edit.PRETRAINED, name)) for _ in range(2))
    flower = next(flower for flower in demo.flowers() if flower.colour == "yellow")
    pixels, _ = painter.draw(flower, 1, first.config.image_size)
    image = pixels / np.float32(127.5) - 1
    to_red, to_blue = "this bird is red", "this bird is blue"
    if name.startswith("flowers"):
        to_red, to_blue = "this flower has red petals", "this flower has blue petals"
    red, blue = (first.edit(image, text, samples=2, seed=1) for text in (to_red, to_blue))
    assert red.shape == (2, *image.shape) and np.isfinite(red).all() and np.abs(red).max() <= 1
    for one, other in ((red[0], image), (red[0], blue[0])):
        assert np.abs(one - other).mean() > 2 / 127.5
    np.testing.assert_array_equal(second.edit(image, to_red, samples=2, seed=1), red)
