"""The loop: resume to the bit, metrics, stops, and run directories that belong to another run."""

import dataclasses
import json
import math
import os
import shutil
import signal

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from data import painter
from simgan_tf import training
from simgan_tf.methods import METHODS
from tests.conftest import EMBEDDING, TINY, random_batch

IMAGES = 8  # two steps an epoch


def batches(step):
    """Batch k is a function of k alone, as the pipeline's."""
    while True:
        yield random_batch(step)
        step += 1


def fresh(config):
    keras.utils.set_random_seed(config.seed)
    return METHODS[config.method](config, EMBEDDING, IMAGES // config.batch_size)


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
    assert training.restore_part(run_dir, "generator", other.variables()["generator"]) == 6
    for mine, theirs in zip(other.variables()["generator"], method.variables()["generator"], strict=True):
        np.testing.assert_array_equal(mine, theirs)
    for old, now in zip(before, other.variables()["discriminator"], strict=True):
        np.testing.assert_array_equal(old, now)


def test_restore_refuses_a_checkpoint_that_lacks_a_variable(uninterrupted):
    _, run_dir, method = uninterrupted
    with pytest.raises(ValueError, match="of another version"):
        training.restore_part(run_dir, "generator", [*method.variables()["generator"], tf.Variable(0.0)])


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
    assert training.latest_checkpoint(str(tmp_path)).endswith("ckpt-3")
    assert training.train(fresh(TINY), batches, TINY, str(tmp_path), IMAGES) == 6


def test_non_finite_variables_are_never_saved(tmp_path):
    method = fresh(dataclasses.replace(TINY, checkpoint_every=1))
    step = method.train_step

    def spoil(batch, number):
        terms = step(batch, number)
        method.variables()["generator"][0].assign(tf.fill(method.variables()["generator"][0].shape, math.inf))
        return terms

    method.train_step = spoil
    with pytest.raises(FloatingPointError, match="step 1: variable 0 of generator"):
        training.train(method, batches, dataclasses.replace(TINY, checkpoint_every=1), str(tmp_path), IMAGES)
    with pytest.raises(FileNotFoundError, match="has no checkpoint yet"):
        training.latest_checkpoint(str(tmp_path))


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
    assert training.latest_checkpoint(str(tmp_path)).endswith("ckpt-2")
    assert signal.getsignal(number) == before


def test_rows_after_the_last_checkpoint_are_forgotten(tmp_path):
    """A killed run wrote rows 4 and half of 5 after its checkpoint at 3."""
    training.train(fresh(TINY), batches, dataclasses.replace(TINY, steps=3), str(tmp_path), IMAGES)
    with open(tmp_path / "metrics.jsonl", "a", encoding="utf-8") as file:
        file.write('{"step": 4, "epoch": 2.0}\n{"step": 5, "ep')
    training.train(fresh(TINY), batches, TINY, str(tmp_path), IMAGES)
    assert [row["step"] for row in rows(str(tmp_path))] == [1, 2, 3, 4, 5, 6]


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


def test_old_checkpoints_go(tmp_path):
    config = dataclasses.replace(TINY, checkpoint_every=1, keep_checkpoints=2)
    training.train(fresh(config), batches, config, str(tmp_path), IMAGES)
    kept = {name.split(".")[0] for name in os.listdir(tmp_path / "checkpoints") if name.startswith("ckpt")}
    assert kept == {"ckpt-5", "ckpt-6"}


def test_total_steps():
    """553 = floor(8,855 / 16) steps an epoch, 600 epochs: 331,800, as the paper's schedule implies for CUB."""
    assert training.total_steps(dataclasses.replace(TINY, steps=0, batch_size=16), 8855) == 331_800
    assert training.total_steps(TINY, 8855) == 6


def test_a_run_directory_of_another_run_is_refused(tmp_path):
    run_dir, data = str(tmp_path / "run"), {"fingerprint": "a"}
    training.claim(run_dir, TINY, data, "phi", "command")
    training.claim(run_dir, dataclasses.replace(TINY, steps=9), data, "phi", "command")  # longer: the same run goes on
    with pytest.raises(ValueError, match="width 4 there, 8 now"):
        training.claim(run_dir, dataclasses.replace(TINY, width=8), data, "phi", "command")
    with pytest.raises(ValueError, match="the records"):
        training.claim(run_dir, TINY, {"fingerprint": "b"}, "phi", "command")
    with pytest.raises(ValueError, match="the text encoder"):
        training.claim(run_dir, TINY, data, "psi", "command")


def test_a_run_directory_of_another_method_is_refused(tmp_path):
    training.claim(str(tmp_path), TINY, {"fingerprint": "a"}, "phi", "command")
    path = tmp_path / "config.json"
    path.write_text(path.read_text().replace('"method": "simgan"', '"method": "pix2pix"'))
    with pytest.raises(ValueError, match="method='pix2pix' is not one of 'simgan'.*another --run_dir"):
        training.claim(str(tmp_path), TINY, {"fingerprint": "a"}, "phi", "command")


def test_a_damaged_checkpoint_is_named(uninterrupted, tmp_path):
    config, run_dir, _ = uninterrupted
    shutil.copytree(run_dir, tmp_path / "run")
    (data,) = (tmp_path / "run" / "checkpoints").glob("ckpt-6.data*")
    data.write_bytes(data.read_bytes()[: data.stat().st_size // 2])
    longer = dataclasses.replace(config, steps=8)
    with pytest.raises(ValueError, match="ckpt-6: damaged"):
        training.train(fresh(longer), batches, longer, str(tmp_path / "run"), IMAGES)
    with pytest.raises(ValueError, match="ckpt-6: damaged"):
        training.restore_part(str(tmp_path / "run"), "generator", fresh(config).variables()["generator"])


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
    method = METHODS[config.method](config, EMBEDDING + 1, 1)
    rows = []
    for step in range(400):
        rows.append({k: float(v) for k, v in method.train_step(batch, tf.constant(step, tf.int64)).items()})
    last = {name: np.mean([row[name] for row in rows[-50:]]) for name in rows[0]}
    assert last["g_cycle"] < rows[0]["g_cycle"] / 2
    assert last["score_real"] - last["score_mismatched"] > 0.5
