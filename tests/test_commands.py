"""The README's path, command by command in fresh processes on a small drawn set, and what each says of bad input."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from simgan_tf import checkpoints
from simgan_tf.edit import Editor
from tests.tiny import ROOT, TINY_FLAGS, full_disk, refused, run, start


def test_training_leaves_a_whole_run_directory(path):
    rows = [json.loads(line) for line in (path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [1, 2, 3, 4]
    assert all("g_own" in row and "g_cycle" in row for row in rows)
    assert sorted(p.name for p in (path / "run" / "samples").iterdir()) == ["0000002.png", "0000004.png"]
    assert (path / "run" / "checkpoints" / "ckpt-4.index").is_file()
    assert any((path / "run" / "tensorboard").iterdir())


def test_the_same_command_goes_on(path, tmp_path):
    """A longer --steps resumes at 4; other networks in the same directory are refused."""
    run_dir = tmp_path / "run"
    shutil.copytree(path / "run", run_dir)
    done = run("run_train.py", *TINY_FLAGS, f"--records_dir={path / 'records'}", f"--run_dir={run_dir}", "--steps=5")
    assert "from step 4" in done.stdout
    assert (run_dir / "checkpoints" / "ckpt-5.index").is_file()
    said = refused(
        "run_train.py", *TINY_FLAGS, "--units=2", f"--records_dir={path / 'records'}", f"--run_dir={run_dir}"
    )
    assert "units 1 there, 2 now" in said


def test_an_earlier_step_is_measured_beside_the_newest(path):
    """Its results have a name of their own and are those of its weights; a step that is not there is refused."""
    places = f"--run_dir={path / 'run'}", f"--records_dir={path / 'records'}"
    run("-m", "simgan_tf.evaluation", *places, "--limit=4")
    run("-m", "simgan_tf.evaluation", *places, "--limit=4", "--step=2")
    newest, earlier = (
        json.loads((path / "run" / f"results-test-4{name}.json").read_text()) for name in ("", "-step2")
    )
    assert (newest["step"], earlier["step"]) == (4, 2) and newest["change_l1"] != earlier["change_l1"]
    assert "has no checkpoint of step 3; it has those of 2, 4" in refused(
        "-m", "simgan_tf.evaluation", *places, "--step=3"
    )


def test_evaluation_writes_results_and_sheets(path):
    done = run(
        "-m", "simgan_tf.evaluation", f"--run_dir={path / 'run'}", f"--records_dir={path / 'records'}", "--figures"
    )
    results = json.loads((path / "run" / "results.json").read_text())
    for name in ("colour_accuracy", "colour_accuracy_mean", "background_l1", "diversity", "cycle_l1", "colour_reader"):
        assert 0 <= results[name] <= 1 and name in done.stdout
    assert results["diversity"] > 0
    assert results["step"] == 4 and results["pictures"] == 6  # 2 test classes x 3
    assert {p.name for p in (path / "run" / "figures").iterdir()} == {
        f"{name}.png" for name in ("edits", "first32", "samples", "interpolation", "teaser", "curves")
    }


@pytest.mark.ci
@pytest.mark.slow
def test_export_passes_its_own_check(path, tmp_path):
    run(
        "run_export.py",
        f"--run_dir={path / 'run'}",
        f"--out_dir={tmp_path / 'out'}",
        f"--records_dir={path / 'records'}",
        "--variants=float32,int8",
    )
    report = json.loads((tmp_path / "out" / "export.json").read_text())
    assert report["step"] == 4 and "colour_lost" in report["files"]["simgan_int8.tflite"]["quality"]


def test_edit_writes_pictures_and_a_sheet(path, tmp_path):
    """Three results of the picture's own 40x40 pixels, and a row of four cells."""
    picture = path / "raw" / "jpg" / "image_00001.jpg"
    out = tmp_path / "deep" / "edit.png"
    done = run(
        "-m",
        "simgan_tf.edit",
        f"--run_dir={path / 'run'}",
        f"--image={picture}",
        f"--out={out}",
        "--samples=3",
        f"--sheet={tmp_path / 'sheet.png'}",
        "--text=this flower has red petals and xyzzy",
    )
    assert sorted(os.listdir(tmp_path / "deep")) == ["edit-1.png", "edit-2.png", "edit-3.png"]
    for name in os.listdir(tmp_path / "deep"):
        with Image.open(tmp_path / "deep" / name) as edited:
            assert edited.size == (40, 40)
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.size[0] == 4 * 260  # source and three edits
    assert "xyzzy" in done.stdout and "step 4" in done.stdout


def test_bad_input_to_edit(path, tmp_path):
    picture = path / "raw" / "jpg" / "image_00001.jpg"
    base = ["-m", "simgan_tf.edit", f"--run_dir={path / 'run'}", f"--out={tmp_path / 'x.png'}"]
    assert "nowhere.jpg" in refused(*base, f"--image={tmp_path / 'nowhere.jpg'}", "--text=red petals")
    assert "word" in refused(*base, f"--image={picture}", "--text= ")
    assert "config.json" in refused(
        "-m",
        "simgan_tf.edit",
        f"--run_dir={tmp_path}",
        f"--image={picture}",
        "--text=red",
        f"--out={tmp_path / 'x.png'}",
    )
    assert "--txet" in refused(*base, f"--image={picture}", "--text=red", "--txet=red").replace("'txet'", "--txet")
    assert not list(tmp_path.iterdir())


def test_help_says_what_to_type():
    modules = ("data.build", "simgan_tf.text.train", "simgan_tf.edit", "simgan_tf.evaluation")
    for command in (["run_train.py"], ["run_export.py"], *(["-m", module] for module in modules)):
        done = start(*command, "--help")  # which also asks for exit code 0
        assert "python " in done.stdout and "--" in done.stdout, command


def test_training_without_records_or_phi(path, tmp_path):
    said = refused("run_train.py", *TINY_FLAGS, f"--records_dir={tmp_path}", f"--run_dir={tmp_path / 'run'}")
    assert "data.build" in said
    said = refused("run_train.py", *TINY_FLAGS, f"--records_dir={path / 'records'}", f"--run_dir={tmp_path / 'run'}")
    assert "simgan_tf.text.train" in said
    assert "image_size=17" in refused(
        "run_train.py", *TINY_FLAGS, "--image_size=17", f"--records_dir={path}", "--run_dir=x"
    )


# ---- the Editor, in this process


@pytest.fixture(scope="module")
def editor(path):
    return Editor(str(path / "run"))


def test_editor_edits_are_seeded_and_differ(path, editor):
    image = editor.read(str(path / "raw" / "jpg" / "image_00002.jpg"))
    first, again = (editor.edit(image, "white petals", 3, seed=1) for _ in range(2))
    assert first.shape == (3, 16, 16, 3) and np.isfinite(first).all() and np.abs(first).max() <= 1
    np.testing.assert_array_equal(first, again)
    assert np.abs(first[1] - first[2]).max() > 0
    other = editor.edit(image, "white petals", 3, seed=2)
    np.testing.assert_array_equal(first[0], other[0])  # the first has no noise
    assert np.abs(first[1] - other[1]).max() > 0


def test_interpolation_ends_are_the_plain_edits_bit_for_bit(path, editor):
    image = editor.read(str(path / "raw" / "jpg" / "image_00003.jpg"))
    between = editor.interpolate(image, "red petals", "white petals", 5)
    np.testing.assert_array_equal(between[0], editor.edit(image, "red petals")[0])
    np.testing.assert_array_equal(between[-1], editor.edit(image, "white petals")[0])
    assert np.abs(between[0] - between[2]).max() > 0


@pytest.mark.parametrize("mode", ["L", "LA", "P", "RGBA", "CMYK", "I;16", "1"])
def test_editor_reads_every_mode(tmp_path, editor, mode):
    """A grey ramp: whatever the mode, the picture that comes out is the ramp of the RGB file."""
    ramp = np.tile(np.arange(0, 250, 5, dtype=np.uint8), (40, 1))
    ramp = np.where(ramp > 127, 255, 0).astype(np.uint8) if mode == "1" else ramp
    plain = Image.fromarray(ramp).convert("RGB")
    if mode == "I;16":
        other = Image.fromarray(ramp.astype(np.uint16) * 257)
    elif mode == "CMYK":
        other = plain.convert("CMYK")
    else:
        other = plain.convert(mode)
    other.save(tmp_path / ("x.tif" if mode == "CMYK" else "x.png"))
    if mode == "P":
        plain = other.convert("RGB")  # the palette is coarser than the ramp
    plain.save(tmp_path / "plain.png")
    found = editor.read(str(tmp_path / ("x.tif" if mode == "CMYK" else "x.png")))
    np.testing.assert_allclose(found, editor.read(str(tmp_path / "plain.png")), atol=2 / 127.5)


def test_editor_honours_exif_rotation(tmp_path, editor):
    pixels = np.zeros([40, 40, 3], np.uint8)
    pixels[:20] = 255  # upper half white
    exif = Image.Exif()
    exif[0x0112] = 3  # stored upside down
    Image.fromarray(pixels).save(tmp_path / "turned.png", exif=exif)
    image = editor.read(str(tmp_path / "turned.png"))
    assert image[2].mean() < -0.9 and image[-3].mean() > 0.9


def test_editor_refuses_broken_tiny_and_huge_pictures(path, tmp_path, editor):
    whole = (path / "raw" / "jpg" / "image_00001.jpg").read_bytes()
    (tmp_path / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.jpg").write_text("no picture")
    Image.new("RGB", (1, 1)).save(tmp_path / "one.png")
    Image.new("1", (8000, 7000)).save(tmp_path / "bomb.png")
    for name in ("cut.jpg", "text.jpg", "one.png", "bomb.png"):
        with pytest.raises(ValueError, match=re.escape(name)):
            editor.read(str(tmp_path / name))
    with pytest.raises(ValueError, match="is a folder; give a file"):
        editor.read(str(tmp_path))


def test_editor_refuses_sentences_without_a_known_word(editor):
    for text in ("", "   ", "?!", "xyzzy plugh"):
        with pytest.raises(ValueError, match="word"):
            editor.embed(text)


def test_a_run_directory_can_be_moved(path, tmp_path, editor):
    shutil.copytree(path / "run", tmp_path / "elsewhere")
    image = np.zeros([16, 16, 3], np.float32)
    moved = Editor(str(tmp_path / "elsewhere"))
    np.testing.assert_array_equal(moved.edit(image, "red petals"), editor.edit(image, "red petals"))


@pytest.mark.ci
@pytest.mark.slow
def test_a_run_killed_at_any_moment_goes_on(path, tmp_path):
    """kill -9 once the first checkpoint is there; the second call must end with an undisturbed run's numbers."""
    runs = [tmp_path / "whole", tmp_path / "killed"]
    whole, broken = (
        ["run_train.py", *TINY_FLAGS, f"--records_dir={path / 'records'}", f"--run_dir={run_dir}", "--steps=40",
         "--log_every=1", "--sample_every=0", "--checkpoint_every=5"] for run_dir in runs
    )  # fmt: skip
    for run_dir in runs:
        shutil.copytree(path / "run" / "text_encoder", run_dir / "text_encoder")
    run(*whole)
    killed = subprocess.Popen([sys.executable, *broken], cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    until = time.monotonic() + 120
    while not (runs[1] / "checkpoints" / "ckpt-5.index").exists():
        assert time.monotonic() < until and killed.poll() is None
        time.sleep(0.02)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    assert not (runs[1] / "checkpoints" / "ckpt-40.index").exists()
    run(*broken)
    rows = [[json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()] for run_dir in runs]
    for a, b in zip(*rows, strict=True):
        del a["images_per_second"], b["images_per_second"]
        assert a == b
    first, second = (tf.train.load_checkpoint(checkpoints.latest_checkpoint(str(run_dir))) for run_dir in runs)
    names = first.get_variable_to_shape_map()
    assert len(names) > 100
    for name in names:
        if name not in ("_CHECKPOINTABLE_OBJECT_GRAPH", "save_counter/.ATTRIBUTES/VARIABLE_VALUE"):
            np.testing.assert_array_equal(first.get_tensor(name), second.get_tensor(name), err_msg=name)


@pytest.mark.ci
@pytest.mark.slow
def test_a_full_disk_ends_training_in_one_line(path, tmp_path):
    """Files may grow to 64 KB: the checkpoint does not fit. No checkpoint may look finished afterwards."""
    run_dir = tmp_path / "run"
    shutil.copytree(path / "run" / "text_encoder", run_dir / "text_encoder")
    with full_disk(65536):
        done = run("run_train.py", *TINY_FLAGS, f"--records_dir={path / 'records'}", f"--run_dir={run_dir}",
                   "--steps=2", "--sample_every=0", "--width=32", check=False)  # fmt: skip
    assert done.returncode == 1 and done.stderr.strip().splitlines()[-1].startswith("error: ")
    with pytest.raises(FileNotFoundError, match="no checkpoint"):
        Editor(str(run_dir))
    assert {p.name for p in run_dir.iterdir()} == {
        "config.json",
        "text_encoder",
        "checkpoints",
        "metrics.jsonl",
        "tensorboard",
    }
