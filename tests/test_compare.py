"""Systems side by side, and the picture of a discriminator's attention, by their own commands."""

import json
import os

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from data import pipeline, splits
from export import pack
from simgan_tf import checkpoints, training
from simgan_tf.edit import Editor
from simgan_tf.evaluation import attention, lineup, protocol
from simgan_tf.evaluation.measure import numbers
from simgan_tf.methods.tagan import TAGAN
from simgan_tf.system.pictures import to_pixels
from tests.test_tagan import TINY
from tests.tiny import refused, run, vse_encoder

TEXTS = ("this flower has red petals", "the petals are blue")


@pytest.fixture(scope="module")
def tagan_run(tmp_path_factory):
    """An untrained run of another method and another size."""
    directory, encoder = str(tmp_path_factory.mktemp("tagan")), vse_encoder()
    encoder.save(os.path.join(directory, "text_encoder"))
    training.write_config(directory, TINY, {"fingerprint": "none"}, encoder.fingerprint)
    method = TAGAN(TINY, encoder, 1)
    checkpoint = checkpoints.checkpoint_of(method.variables(), step=tf.Variable(5, dtype=tf.int64))
    checkpoints.save(directory, checkpoint, 5, keep=1)
    return directory


@pytest.fixture(scope="module")
def compared(path, tagan_run, tmp_path_factory):
    out = str(tmp_path_factory.mktemp("out") / "compared")
    done = run(
        "-m", "simgan_tf.compare", f"--run_dirs={path / 'run'},{tagan_run}", "--names=A,B", f"--out={out}",
        "--rows=3", "--limit=4", "--samples=2", *(f"--text={text}" for text in TEXTS),
    )  # fmt: skip
    with open(os.path.join(out, "results.json"), encoding="utf-8") as file:
        return out, json.load(file), done.stdout


def test_every_system_has_the_same_pairs_and_part_of_a_picture(path, tagan_run, compared):
    """The numbers are evaluation's own, of the tightest cut: 18/16 of the first against 34/32."""
    _, results, _ = compared
    assert [system["name"] for system in results["systems"]] == ["A", "B"]
    assert [system["image_size"] for system in results["systems"]] == [16, 32]
    assert [system["trained_on_these_records"] for system in results["systems"]] == [True, False]
    pairs = protocol.load(str(path / "records"), "test", splits.load_split(str(path / "records"), "test")).spread(4)
    none = np.ones(4, bool)
    for system, run_dir, load_size in zip(results["systems"], (path / "run", tagan_run), (18, 36), strict=True):
        expected, _ = numbers(Editor(str(run_dir)), pairs, "", none, 2, 0, load_size)
        intervals = expected.pop("intervals")
        assert system["intervals"].keys() == intervals.keys() >= {"spill", "diversity"}
        assert {"colour_accuracy", "spill", "sharpness", "diversity"} <= expected.keys()
        for name, value in expected.items():
            assert system[name] == pytest.approx(value, rel=1e-4, abs=1e-6), name


def test_the_figure_shows_the_edits(path, tagan_run, compared):
    """Cells of 256 + 4: source, sentence, A, B; each edit enlarged by its nearest pixels."""
    out, results, _ = compared
    sheet = np.asarray(Image.open(os.path.join(out, "figure.png")))
    assert sheet.shape[1] == 4 * 260 and [text for _, text in results["figure"]] == [TEXTS[0], TEXTS[1], TEXTS[0]]
    header = sheet.shape[0] - 3 * 260
    split = splits.load_split(str(path / "records"), "test").spread(3)
    assert [key for key, _ in results["figure"]] == list(split.keys)
    for column, run_dir, size in ((2, path / "run", 16), (3, tagan_run, 32)):
        image = pipeline.evaluation_images(split, size, size * 18 // 16)[1]
        edited = Editor(str(run_dir)).edit(image, TEXTS[1])[0]
        cell = sheet[header + 260 : header + 516, column * 260 + 2 : column * 260 + 258]
        np.testing.assert_array_equal(cell, to_pixels(edited).repeat(256 // size, 0).repeat(256 // size, 1))
    words = sheet[header + 260 : header + 516, 260:520]
    assert words.min() < 128, "no sentence beside the second row"


def test_the_table_has_the_numbers_and_says_how_sizes_are_shown(compared):
    out, results, said = compared
    with open(os.path.join(out, "table.md"), encoding="utf-8") as file:
        page = file.read()
    assert page in said and "own size" in page and "nearest pixels" in page and "B: trained on other records" in page
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in page.splitlines() if line.startswith("|")]
    told = {row[0]: row[1:] for row in rows}
    assert told[""] == ["A", "B"] and told["size"] == ["16", "32"]
    for name in ("spill", "sharpness"):
        bounds = [system["intervals"][name] for system in results["systems"]]
        cells = [f"{system[name]:.3f} [{low:.3f}, {high:.3f}]"
                 for system, (low, high) in zip(results["systems"], bounds, strict=True)]  # fmt: skip
        assert told[name] == cells


@pytest.mark.parametrize(
    "flags, message",
    [
        (["--names=A"], "1 names for 2"),
        (["--names=A,A"], "two systems are called 'A'"),
        (["--names=A,B", "--keys=nothing"], "--keys=nothing is no picture"),
        (["--names=A,B", "--text=zzz"], "A: "),
        (["--names=A,B", "--records_dir=nowhere"], "no records at --records_dir=nowhere"),
    ],
)
def test_mistakes_are_told_in_one_line(path, tagan_run, tmp_path, flags, message):
    out = tmp_path / "out"
    line = refused("-m", "simgan_tf.compare", f"--run_dirs={path / 'run'},{tagan_run}", f"--out={out}", *flags)
    assert message in line and not out.exists()


def test_a_run_that_is_not_there_is_told_before_anything_is_measured(path, tmp_path):
    line = refused("-m", "simgan_tf.compare", f"--run_dirs={path / 'run'},{tmp_path / 'none'}", f"--out={tmp_path}/out")
    assert "no run directory" in line


def test_names_default_to_the_folders():
    assert lineup.names_of(["a/b/", "flowers64"], []) == ["b", "flowers64"]
    assert lineup.names_of(["a/\x1b[31m|b", "c"], []) == ["\\x1b[31m/b", "c"]


# ---- attention


def test_attention_is_drawn(path, tagan_run, tmp_path):
    """One bar a word; the printed attention of a sentence adds up to 1."""
    picture, out = next((path / "raw" / "jpg").glob("*.jpg")), tmp_path / "attention.png"
    done = run(
        "-m", "simgan_tf.evaluation.attention", f"--run_dir={tagan_run}", f"--image={picture}",
        "--text=this flower has red petals", "--text=zzz blue", f"--out={out}",
    )  # fmt: skip
    rows = [line.split() for line in done.stdout.splitlines() if line.startswith("  ")]
    assert [row[0] for row in rows] == ["this", "flower", "has", "red", "petals", "<unk>", "blue"]
    weights = [float(row[1]) for row in rows]
    assert sum(weights[:5]) == pytest.approx(1, abs=3e-3) and sum(weights[5:]) == pytest.approx(1, abs=3e-3)
    assert all(0 <= float(row[-1]) <= 1 for row in rows)
    with Image.open(out) as drawn:
        assert drawn.width > 600


@pytest.mark.ci
@pytest.mark.slow
def test_figures_of_a_run_hold_its_attention(path, tagan_run):
    """A row each of the two pictures, 3 inches at 110 dots or more: picture and two sentences, 3 + 2 x 3.6 inches."""
    with open(os.path.join(tagan_run, "metrics.jsonl"), "w", encoding="utf-8") as log:
        log.write(json.dumps({"step": 5, "d_real": 0.5, "g_kl": 0.1, "score_real": 0.6}) + "\n")
    done = run(
        "-m", "simgan_tf.evaluation", f"--run_dir={tagan_run}", f"--records_dir={path / 'records'}", "--figures",
        "--limit=2", "--samples=2",
    )  # fmt: skip
    assert "curves, attention to" in done.stdout
    with Image.open(os.path.join(tagan_run, "figures", "attention.png")) as drawn:
        assert drawn.width == 1122 and 2 * 330 <= drawn.height < 4 * 330


def test_attention_is_that_of_the_checkpoint(tagan_run):
    """D's weights are the run's, not newly drawn ones."""
    method = attention.judge(Editor(tagan_run), tagan_run)
    reader = tf.train.load_checkpoint(checkpoints.path_of(tagan_run, 5))
    for i, weight in enumerate(method.variables()["discriminator"]):
        np.testing.assert_array_equal(weight, reader.get_tensor(f"discriminator/v/{i:04d}{checkpoints.VALUE}"))


def test_attention_of_a_packed_model(tagan_run, tmp_path):
    """D is the run's in float16 where it was packed with it; where it was not, that is told."""
    pack.pack(tagan_run, str(tmp_path / "both"), for_training=True)
    method = attention.judge(Editor(str(tmp_path / "both")), str(tmp_path / "both"))
    reader = tf.train.load_checkpoint(checkpoints.path_of(tagan_run, 5))
    for i, weight in enumerate(method.variables()["discriminator"]):
        value = reader.get_tensor(f"discriminator/v/{i:04d}{checkpoints.VALUE}")
        np.testing.assert_allclose(weight, value, rtol=2**-10, atol=1e-6)
    pack.pack(tagan_run, str(tmp_path / "alone"))
    with pytest.raises(ValueError, match="holds no discriminator: .* pack.* again with --for_training"):
        attention.judge(Editor(str(tmp_path / "alone")), str(tmp_path / "alone"))


def test_attention_of_a_method_that_has_none_is_refused(path, tmp_path):
    picture = next((path / "raw" / "jpg").glob("*.jpg"))
    line = refused(
        "-m", "simgan_tf.evaluation.attention", f"--run_dir={path / 'run'}", f"--image={picture}", "--text=red",
        f"--out={tmp_path / 'a.png'}",
    )  # fmt: skip
    assert "simgan, which weighs no words" in line
