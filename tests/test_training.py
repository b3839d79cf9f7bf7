"""The loop: resume to the bit, metrics, stops, and run directories that belong to another run."""

import contextlib
import dataclasses
import itertools
import json
import math
import os
import re
import shutil
import signal
import tempfile

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from data import painter
from simgan_tf import checkpoints, configs, methods, training
from simgan_tf.methods.step import train_step
from tests.tiny import EMBEDDING, TINY, phi, random_batch

IMAGES = 8  # two steps an epoch


def batches(step):
    """Batch k is a function of k alone, as the pipeline's."""
    while True:
        yield random_batch(step)
        step += 1


def fresh(config):
    keras.utils.set_random_seed(config.seed)
    return methods.build(config, phi(), IMAGES // config.batch_size)


def values(method):
    return {f"{part}/{i}": v.numpy() for part, vs in method.variables().items() for i, v in enumerate(vs)}


def rows(run_dir):
    with open(os.path.join(run_dir, "metrics.jsonl"), encoding="utf-8") as file:
        return [json.loads(line) for line in file]


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    """Six steps in one go, halving the rate each epoch so that a lost schedule would show."""
    config = dataclasses.replace(TINY, halve_epochs=1)
    run_dir = str(tmp_path_factory.mktemp("run"))
    method = fresh(config)
    assert training.train(method, batches, config, run_dir, IMAGES) == 6
    return config, run_dir, method


def test_n_stop_n_steps_equal_2n_steps(uninterrupted, tmp_path):
    """Every variable: weights, batch statistics, both optimizers' slots and counters; and every logged term."""
    config, run_dir, whole = uninterrupted
    half = dataclasses.replace(config, steps=3)
    assert training.train(fresh(half), batches, half, str(tmp_path), IMAGES) == 3
    resumed = fresh(dataclasses.replace(config, seed=9))  # other initial weights: all must come from the checkpoint
    resumed.config = config
    assert training.train(resumed, batches, config, str(tmp_path), IMAGES) == 6
    first, second = values(whole), values(resumed)
    assert len(first) > 100 and first.keys() == second.keys()
    for name in first:
        np.testing.assert_array_equal(first[name], second[name], err_msg=name)
    for a, b in zip(rows(run_dir), rows(str(tmp_path)), strict=True):
        for row in (a, b):
            del row["images_per_second"]
        assert a == b


def test_metrics_hold_every_weighted_term(uninterrupted):
    _, run_dir, _ = uninterrupted
    found = rows(run_dir)
    assert [row["step"] for row in found] == [1, 2, 3, 4, 5, 6]
    assert found[1]["epoch"] == 1.0
    for row in found:
        assert row["d_loss"] == pytest.approx(row["d_real"] + row["d_mismatched"] + row["d_edited"], abs=3e-6)
        assert row["g_loss"] == pytest.approx(row["g_adversarial"] + row["g_cycle"] + row["g_kl"], abs=3e-6)
        assert row["images_per_second"] > 0


def test_a_finished_run_is_left_alone(uninterrupted, capsys):
    config, run_dir, method = uninterrupted
    before = values(method)
    assert training.train(fresh(config), batches, config, run_dir, IMAGES) == 6
    assert "6 of 6 steps" in capsys.readouterr().out
    np.testing.assert_equal(values(method), before)


def test_restore_part_fills_the_generator_alone(uninterrupted):
    config, run_dir, method = uninterrupted
    other = fresh(dataclasses.replace(config, seed=4))
    before = [v.numpy() for v in other.variables()["discriminator"]]
    assert checkpoints.restore_parts(run_dir, {"generator": other.variables()["generator"]}) == 6
    for mine, theirs in zip(other.variables()["generator"], method.variables()["generator"], strict=True):
        np.testing.assert_array_equal(mine, theirs)
    for old, now in zip(before, other.variables()["discriminator"], strict=True):
        np.testing.assert_array_equal(old, now)


def test_restore_refuses_a_checkpoint_that_lacks_a_variable(uninterrupted):
    _, run_dir, method = uninterrupted
    known = method.variables()["generator"]
    with pytest.raises(ValueError, match=rf"generator variable {len(known)} is missing there, \[\] now"):
        checkpoints.restore_parts(run_dir, {"generator": [*known, tf.Variable(0.0)]})
    with pytest.raises(ValueError, match=rf"generator variable {len(known) - 1} is \[3\] there, missing now"):
        checkpoints.restore_parts(run_dir, {"generator": known[:-1]})
    other = [tf.Variable(tf.zeros([5])), *known[1:]]
    with pytest.raises(ValueError, match=r"generator variable 0 is \[3, 3, 3, 4\] there, \[5\] now"):
        checkpoints.restore_parts(run_dir, {"generator": other})


@pytest.mark.usefixtures("eager")
def test_a_non_finite_term_stops_the_run_and_keeps_the_last_checkpoint(tmp_path):
    """The fifth batch holds a NaN: the run must name step 5 and keep the checkpoint of step 3."""

    def poisoned(step):
        for batch in batches(step):
            if step == 4:
                batch["image"] = batch["image"] + tf.constant(math.nan)
            yield batch
            step += 1

    with pytest.raises(FloatingPointError, match=r"step 5: d_real=nan.*ckpt-3"):
        training.train(fresh(TINY), poisoned, TINY, str(tmp_path), IMAGES)
    assert checkpoints.latest_checkpoint(str(tmp_path)).endswith("ckpt-3")
    assert training.train(fresh(TINY), batches, TINY, str(tmp_path), IMAGES) == 6


@contextlib.contextmanager
def of_nobody():
    """Within, this process has no more rights than anybody: root may write everywhere, also where nobody may."""
    if os.geteuid() == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        if os.getuid() == 0:
            os.seteuid(0)


@pytest.fixture
def public():
    """A folder that everybody may enter; pytest's own are root's alone."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        yield folder
        os.chmod(folder, 0o755)


def test_a_run_directory_that_cannot_be_written_is_left_as_it_was(public):
    os.makedirs(os.path.join(public, "run", "checkpoints"))
    for name in ("run/checkpoints", "run", "."):
        os.chmod(os.path.join(public, name), 0o555)
    for name in ("run", "new"):
        run_dir = os.path.join(public, name)
        with of_nobody(), pytest.raises(OSError, match=rf"^--run_dir={run_dir} cannot be written \(.*\); choose anoth"):
            with training.holding(run_dir):
                pytest.fail("it was held")
    assert os.listdir(public) == ["run"] and os.listdir(os.path.join(public, "run", "checkpoints")) == []
    os.chmod(os.path.join(public, "run"), 0o755)


@pytest.mark.slow
@pytest.mark.ci
@pytest.mark.usefixtures("eager")
def test_a_run_directory_that_becomes_read_only_keeps_its_last_checkpoint(public):
    """Before step 5 the rights go. Its row of the log cannot be written, nor its checkpoint; step 3 stays."""
    run_dir = os.path.join(public, "run")
    rights = contextlib.ExitStack()

    def losing(step):
        for batch in batches(step):
            if step == 4:
                rights.enter_context(of_nobody())
            yield batch
            step += 1

    os.mkdir(run_dir, 0o755)
    if os.geteuid() != 0:
        pytest.skip("needs root, who alone can lose rights")
    with rights, pytest.raises(OSError, match=r"^step 5: the log .* cannot be written .*ckpt-3\. Make room") as line:
        training.train(fresh(TINY), losing, TINY, run_dir, IMAGES)
    assert "\n" not in str(line.value)
    assert checkpoints.latest_checkpoint(run_dir).endswith("ckpt-3")
    assert training.train(fresh(TINY), batches, TINY, run_dir, IMAGES) == 6
    assert [row["step"] for row in rows(run_dir)] == [1, 2, 3, 4, 5, 6]


@pytest.mark.slow
@pytest.mark.ci
@pytest.mark.usefixtures("eager")
def test_a_clock_that_goes_back_loses_nothing(tmp_path, monkeypatch):
    """An hour at every look; and files that are older than those before them."""
    hours = itertools.count()

    def going_back():
        return 1e9 - 3600.0 * next(hours)

    monkeypatch.setattr("time.time", going_back)
    monkeypatch.setattr("tqdm.std.time", going_back)
    run_dir = str(tmp_path)
    assert training.train(fresh(TINY), batches, dataclasses.replace(TINY, steps=4), run_dir, IMAGES) == 4
    for age, step in enumerate(checkpoints.steps(run_dir)):
        os.utime(checkpoints.path_of(run_dir, step) + ".index", (1e8 - age, 1e8 - age))
    assert checkpoints.steps(run_dir) == [3, 4]
    method = fresh(dataclasses.replace(TINY, seed=3))
    assert training.train(method, batches, TINY, run_dir, IMAGES) == 6
    found = rows(run_dir)
    assert [row["step"] for row in found] == [1, 2, 3, 4, 5, 6]
    assert all(0 < row["images_per_second"] < math.inf for row in found)


@pytest.mark.usefixtures("eager")
def test_non_finite_variables_are_never_saved(tmp_path):
    method = fresh(dataclasses.replace(TINY, checkpoint_every=1))

    def spoil(step):
        kernel = method.variables()["generator"][0]
        kernel.assign(tf.fill(kernel.shape, math.inf))

    method.average = spoil  # the last that a step calls
    with pytest.raises(FloatingPointError, match="step 1: variable 0 of generator"):
        training.train(method, batches, dataclasses.replace(TINY, checkpoint_every=1), str(tmp_path), IMAGES)
    with pytest.raises(FileNotFoundError, match="has no checkpoint yet"):
        checkpoints.latest_checkpoint(str(tmp_path))


@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_and_leaves(tmp_path, number, capsys):
    def interrupted(step):
        for i, batch in enumerate(batches(step)):
            if i == 1:
                os.kill(os.getpid(), number)
            yield batch

    before = signal.getsignal(number)
    assert training.train(fresh(TINY), interrupted, TINY, str(tmp_path), IMAGES) == 2
    assert "stopped at step 2 of 6, saved" in capsys.readouterr().out
    assert checkpoints.latest_checkpoint(str(tmp_path)).endswith("ckpt-2")
    assert signal.getsignal(number) == before


@pytest.mark.usefixtures("eager")
def test_rows_after_the_last_checkpoint_are_forgotten(tmp_path):
    """A killed run wrote rows 4 and half of 5 after its checkpoint at 3."""
    training.train(fresh(TINY), batches, dataclasses.replace(TINY, steps=3), str(tmp_path), IMAGES)
    with open(tmp_path / "metrics.jsonl", "a", encoding="utf-8") as file:
        file.write('{"step": 4, "epoch": 2.0}\n{"step": 5, "ep')
    training.train(fresh(TINY), batches, TINY, str(tmp_path), IMAGES)
    assert [row["step"] for row in rows(str(tmp_path))] == [1, 2, 3, 4, 5, 6]


@pytest.mark.usefixtures("eager")
def test_sheets_and_tensorboard(tmp_path):
    config = dataclasses.replace(TINY, sample_every=4)
    page = Image.new("RGB", (8, 8), "red")
    training.train(fresh(config), batches, config, str(tmp_path), IMAGES, lambda: page)
    assert sorted(os.listdir(tmp_path / "samples")) == ["0000004.png", "0000006.png"]
    events = [
        e for path in (tmp_path / "tensorboard").iterdir() for e in tf.compat.v1.train.summary_iterator(str(path))
    ]
    tags = {value.tag for event in events for value in event.summary.value}
    assert {"g_cycle", "d_real", "score_edited", "images_per_second", "sheet"} <= tags


@pytest.mark.usefixtures("eager")
def test_old_checkpoints_go_but_for_every_kth(tmp_path):
    """The two newest stay, and every third step's for good."""
    config = dataclasses.replace(TINY, checkpoint_every=1, keep_checkpoints=2, keep_every=3)
    training.train(fresh(config), batches, config, str(tmp_path), IMAGES)
    kept = {name.split(".")[0] for name in os.listdir(tmp_path / "checkpoints") if name.startswith("ckpt")}
    assert kept == {"ckpt-3", "ckpt-5", "ckpt-6"}


def test_time_left_in_words():
    """400 x 0.2 s = 80 s; 1,978 x 0.212 s = 419 s = 7.0 minutes; 20,000 x 0.9 s = 5 hours."""
    assert training.time_left(400, 0.2) == "80 seconds for 400 steps of 0.2 s"
    assert training.time_left(1978, 0.212) == "7 minutes for 1,978 steps of 0.212 s"
    assert training.time_left(20_000, 0.9) == "5 hours for 20,000 steps of 0.9 s"


def test_a_training_says_after_its_first_steps_how_long_it_takes(tmp_path, capsys):
    config = dataclasses.replace(TINY, steps=training.WARM + training.TIMED + 2, checkpoint_every=0, log_every=0)
    training.train(fresh(config), batches, config, str(tmp_path), IMAGES)
    assert re.search(r"step 22: about \d+ seconds for 2 steps of [\d.e-]+ s are left", capsys.readouterr().out)


def test_total_steps():
    """553 = floor(8,855 / 16) steps an epoch, 600 epochs: 331,800, as the paper's schedule implies for CUB."""
    assert dataclasses.replace(TINY, steps=0, batch_size=16).total_steps(8855) == 331_800
    assert TINY.total_steps(8855) == 6


def test_a_run_directory_of_another_run_is_refused(tmp_path):
    run_dir, data = str(tmp_path / "run"), {"fingerprint": "a"}
    training.write_config(run_dir, TINY, data, "phi")
    training.write_config(run_dir, dataclasses.replace(TINY, steps=9), data, "phi")  # longer: the same run goes on
    with pytest.raises(ValueError, match="width 4 there, 8 now"):
        training.write_config(run_dir, dataclasses.replace(TINY, width=8), data, "phi")
    with pytest.raises(ValueError, match="the records"):
        training.write_config(run_dir, TINY, {"fingerprint": "b"}, "phi")
    with pytest.raises(ValueError, match="the text encoder"):
        training.write_config(run_dir, TINY, data, "psi")


def test_a_run_directory_of_another_method_is_refused(tmp_path):
    training.write_config(str(tmp_path), TINY, {"fingerprint": "a"}, "phi")
    path = tmp_path / "config.json"
    path.write_text(path.read_text().replace('"method": "simgan"', '"method": "pix2pix"'))
    with pytest.raises(ValueError, match="method 'pix2pix' is not one of 'simgan'"):
        training.write_config(str(tmp_path), TINY, {"fingerprint": "a"}, "phi")


def damage(run_dir, step, how):
    """Spoils the checkpoint of `step` as disks and interrupted copies do; what is flipped is a kernel of G."""
    data, index = (os.path.join(run_dir, "checkpoints", f"ckpt-{step}.{e}") for e in ("data-00000-of-00001", "index"))
    with open(data, "rb") as file:
        content = bytearray(file.read())
    if how == "cut data":
        content = content[: len(content) // 2]
    elif how == "flipped bit":
        kernel = tf.train.load_variable(data.rsplit(".", 1)[0], "generator/v/0000/.ATTRIBUTES/VARIABLE_VALUE")
        content[content.index(kernel.tobytes()) + kernel.nbytes // 2] ^= 1
    if how == "no data":
        os.unlink(data)
    else:
        with open(data, "wb") as file:
            file.write(content)
    if how == "no index":
        os.unlink(index)
    elif how == "cut index":
        os.truncate(index, os.path.getsize(index) // 2)
    elif how == "empty index":
        os.truncate(index, 0)


DAMAGES = ["cut data", "flipped bit", "no data", "no index", "cut index", "empty index"]


@pytest.mark.parametrize("how", DAMAGES)
def test_a_damaged_checkpoint_gives_way_to_the_one_before(uninterrupted, tmp_path, capsys, how):
    """Steps 3 and 6 are there and 6 is damaged: editing takes 3, and a training ends where it would have ended."""
    config, run_dir, whole = uninterrupted
    copy = str(tmp_path / "run")
    shutil.copytree(run_dir, copy)
    damage(copy, 6, how)
    assert checkpoints.restore_parts(copy, {"generator": fresh(config).variables()["generator"]}) == 3
    said = capsys.readouterr().out.splitlines()
    assert len(said) == 1 and "ckpt-6" in said[0] and "going back to step 3" in said[0]
    if how != "flipped bit":
        return  # one training is enough
    resumed = fresh(dataclasses.replace(config, seed=9))
    resumed.config = config
    assert training.train(resumed, batches, config, copy, IMAGES) == 6
    assert "from step 3" in capsys.readouterr().out
    np.testing.assert_equal(values(resumed), values(whole))
    assert checkpoints.restore_parts(copy, {"generator": fresh(config).variables()["generator"]}) == 6


def test_all_checkpoints_damaged_is_an_error(uninterrupted, tmp_path):
    config, run_dir, _ = uninterrupted
    shutil.copytree(run_dir, tmp_path / "run")
    for step in (3, 6):
        damage(str(tmp_path / "run"), step, "cut data")
    with pytest.raises(ValueError, match="ckpt-3 is damaged .*no other is left"):
        training.train(fresh(config), batches, config, str(tmp_path / "run"), IMAGES)


def test_a_first_checkpoint_that_never_finished_is_none(tmp_path):
    """Killed between its two files: there is nothing to go on from, and no complaint; the next one sweeps it away."""
    os.makedirs(tmp_path / "checkpoints")
    (tmp_path / "checkpoints" / "ckpt-3.data-00000-of-00001").write_bytes(b"half")
    assert checkpoints.restore(str(tmp_path), {"part": [tf.Variable(0.0)]}) is None
    with pytest.raises(FileNotFoundError, match="has no checkpoint yet"):
        checkpoints.latest_checkpoint(str(tmp_path))
    checkpoints.save(str(tmp_path), checkpoints.checkpoint_of({"part": [tf.Variable(2.0)]}), 4, keep=3)
    assert {name.split(".")[0] for name in os.listdir(tmp_path / "checkpoints")} == {"checkpoint", "ckpt-4"}


def test_checkpoints_hold_step_and_config_and_are_tensorflows(uninterrupted):
    config, run_dir, method = uninterrupted
    reader = tf.train.load_checkpoint(tf.train.latest_checkpoint(os.path.join(run_dir, "checkpoints")))
    assert int(reader.get_tensor("step/.ATTRIBUTES/VARIABLE_VALUE")) == 6
    held = json.loads(reader.get_tensor("config/.ATTRIBUTES/VARIABLE_VALUE"))
    assert held == json.loads(json.dumps(configs.as_json(config)))
    other = fresh(dataclasses.replace(config, seed=4))
    checkpoint = checkpoints.checkpoint_of(other.variables())
    checkpoint.read(checkpoints.latest_checkpoint(run_dir)).expect_partial().assert_existing_objects_matched()
    np.testing.assert_equal(values(other), values(method))


@pytest.mark.slow
def test_simgan_learns_eight_pictures():
    """400 steps on eight drawn flowers: the way back at least halves its error, and D tells matching from mismatching
    texts by half of the distance of their targets. Means over 50 steps, since one batch is noisy."""
    config = dataclasses.replace(
        TINY, image_size=32, load_size=32, width=16, units=2, d_width=16, ca_size=32, text_size=16, batch_size=8,
        learning_rate=1e-3, halve_epochs=0, own_text=0.25,
    )  # fmt: skip
    names = list(painter.COLOURS)
    drawn = [painter.draw(painter.Flower(name, "round", 6, "brown", False), 1, size=32)[0] for name in names]
    image = tf.constant(np.stack(drawn), tf.float32) / 127.5 - 1.0
    batch = {"image": image, "embedding": 3.0 * tf.eye(8, EMBEDDING + 1), "class_id": tf.range(8)}
    keras.utils.set_random_seed(0)
    method = methods.build(config, phi(EMBEDDING + 1), 1)
    rows, one_step = [], train_step(method)
    for step in range(400):
        rows.append({k: float(v) for k, v in one_step(batch, tf.constant(step, tf.int64)).items()})
    last = {name: np.mean([row[name] for row in rows[-50:]]) for name in rows[0]}
    assert last["g_cycle"] < rows[0]["g_cycle"] / 2
    assert last["score_real"] - last["score_mismatched"] > 0.5
