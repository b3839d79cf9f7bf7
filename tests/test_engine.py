"""The engine: devices and workers, kills and locks, full disks, precisions, averaged weights, other runs' weights."""

import dataclasses
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time

import keras
import numpy as np
import pytest
import tensorflow as tf

from data import pipeline, records, splits
from simgan_tf import checkpoints, configs, keras2, strategy, training
from simgan_tf.edit import Editor
from simgan_tf.methods.simgan import SIMGAN
from simgan_tf.methods.step import train_step
from tests import engine_process
from tests.tiny import ROOT, TINY, TINY_FLAGS, full_disk, phi, random_batch, refused, run, start


def held(run_dir, step):
    """Every number of a checkpoint by name."""
    reader = tf.train.load_checkpoint(checkpoints.path_of(str(run_dir), step))
    names = [name for name in reader.get_variable_to_shape_map() if "/v/" in name]
    assert len(names) > 100
    return {name: reader.get_tensor(name) for name in names}


def assert_close(first, second, within=3e-5):
    """Equal but for rounding: `within` of each variable's largest number."""
    assert first.keys() == second.keys()
    for name, value in first.items():
        np.testing.assert_allclose(second[name], value, rtol=0, atol=within * np.abs(value).max() + 1e-9, err_msg=name)


def rows(run_dir):
    with open(os.path.join(run_dir, "metrics.jsonl"), encoding="utf-8") as file:
        found = [json.loads(line) for line in file]
    return [{name: value for name, value in row.items() if name != "images_per_second"} for row in found]


def method_of(**switches):
    keras.utils.set_random_seed(0)
    return SIMGAN(dataclasses.replace(TINY, units=0, **switches), phi(), 2)


def steps_of(method, count):
    """Terms of the first `count` steps, all measured."""
    found, one_step = [], train_step(method)
    for step in range(count):
        terms = one_step(random_batch(step), tf.constant(step, tf.int64), tf.constant(True))
        found.append({name: float(value) for name, value in terms.items()})
    return found


# ------------------------------------------------------------------------------------------------- devices and workers


@pytest.fixture(scope="module")
def one_device(tmp_path_factory):
    """Three steps of engine_process.CONFIG on one device, a checkpoint each."""
    run_dir = str(tmp_path_factory.mktemp("one"))
    engine_process.train(run_dir)
    configs.save(engine_process.CONFIG, run_dir)
    return run_dir


@pytest.mark.ci
@pytest.mark.slow
def test_two_devices_train_as_one(one_device, tmp_path):
    """Networks, both optimizers, the average and every logged term; and batch norm against numpy."""
    start("-m", "tests.engine_process", "mirrored", tmp_path)
    assert_close(held(one_device, 3), held(tmp_path, 3))
    for one, two in zip(rows(one_device), rows(tmp_path), strict=True):
        assert two == pytest.approx(one, rel=1e-4, abs=3e-6)


@pytest.mark.ci
@pytest.mark.slow
def test_two_workers_go_on_as_one_device(one_device, tmp_path):
    """From the checkpoint of step 1. The chief alone writes; both end."""
    shutil.copytree(one_device, tmp_path / "run")
    for step in (2, 3):
        for path in (tmp_path / "run" / "checkpoints").glob(f"ckpt-{step}.*"):
            path.unlink()
    workers = start_workers(tmp_path / "run")
    outputs = [worker.communicate(timeout=240)[0] for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0], outputs
    assert "count 2 chief True" in outputs[0] and "count 2 chief False" in outputs[1]
    assert "resuming" in outputs[0] and "resuming" not in outputs[1]
    assert_close(held(one_device, 3), held(tmp_path / "run", 3))
    assert [row["step"] for row in rows(tmp_path / "run")] == [1, 2, 3]


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """Records of twelve pictures of noise."""
    folder = tmp_path_factory.mktemp("drawn")
    noise = np.random.default_rng(0).integers(0, 256, (12, 18, 20, 3), np.uint8)
    pictures = (tf.io.encode_png(pixels).numpy() for pixels in noise)
    examples = (records.Example(png, f"k{i}", 1 + i % 3, ("a", "b")) for i, png in enumerate(pictures))
    part = records.write_split(str(folder), "train", examples, 2)
    records.write_info(str(folder), {"format_version": 1, "shards": 2, "splits": {"train": part}})
    return str(folder)


@pytest.mark.ci
@pytest.mark.slow
def test_two_workers_read_half_each_and_train_as_one(drawn, tmp_path):
    said = start("-m", "tests.engine_process", "stored", tmp_path / "one", drawn).stdout
    assert "pictures a read 4\n" in said
    workers = start_workers(tmp_path / "two", "stored", drawn)
    outputs = [worker.communicate(timeout=240)[0] for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0], outputs
    assert all("pictures a read 2\n" in output for output in outputs), outputs
    assert_close(held(tmp_path / "one", 3), held(tmp_path / "two", 3))


@pytest.mark.ci
@pytest.mark.slow
def test_a_stopped_worker_stops_all_and_a_lost_or_differing_one_is_told(drawn, tmp_path):
    """SIGTERM to the one that does not write: both save and end. kill -9 of it: the other says so. Another batch size:
    both refuse."""

    def reached(step):
        until = time.monotonic() + 200
        while not checkpoints.steps(str(tmp_path / "run")) or checkpoints.steps(str(tmp_path / "run"))[-1] < step:
            assert time.monotonic() < until and all(worker.poll() is None for worker in workers)
            time.sleep(0.05)

    workers = start_workers(tmp_path / "run", "stored", drawn, "100000")
    reached(2)
    workers[1].terminate()
    outputs = [worker.communicate(timeout=240)[0] for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0], outputs
    last = checkpoints.steps(str(tmp_path / "run"))[-1]
    assert f"stopped at step {last} of 100000, saved" in outputs[0]

    workers = start_workers(tmp_path / "run", "stored", drawn, "100000")
    reached(last + 2)
    workers[1].kill()
    output = workers[0].communicate(timeout=240)[0]
    assert workers[0].returncode == 1 and "ConnectionError: another worker is lost" in output, output
    workers[1].communicate()

    workers = start_workers(tmp_path / "run", "stored", drawn, "100000", differing=("4", "6"))
    outputs = [worker.communicate(timeout=240)[0] for worker in workers]
    assert [worker.returncode for worker in workers] == [1, 1], outputs
    assert "the workers differ; this one has batch_size=4" in outputs[0]
    assert "the workers differ; this one has batch_size=6" in outputs[1]


def start_workers(run_dir, role="worker", *arguments, differing=()):
    """Two processes that know of each other, on ports that are free. differing: a last argument for each."""
    with socket.socket() as first, socket.socket() as second:
        for each in (first, second):
            each.bind(("127.0.0.1", 0))
        addresses = [f"127.0.0.1:{each.getsockname()[1]}" for each in (first, second)]
    command = [sys.executable, "-m", "tests.engine_process", role, str(run_dir), *arguments]
    return [
        subprocess.Popen(
            [*command, *differing[index : index + 1]],
            cwd=ROOT,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={
                **os.environ,
                "TF_CONFIG": json.dumps(
                    {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}}
                ),
            },
        )
        for index in (0, 1)
    ]


def test_strategies_that_cannot_be(monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    with pytest.raises(ValueError, match="strategy='multi_worker' needs the cluster .*TF_CONFIG="):
        strategy.choose("multi_worker")
    with pytest.raises(ValueError, match="strategy='tpu' is not one of 'auto', 'none', 'mirrored', 'multi_worker'"):
        strategy.choose("tpu")
    for text in ("{", "[]", '{"cluster": 3}'):
        monkeypatch.setenv("TF_CONFIG", text)
        with pytest.raises(ValueError, match="TF_CONFIG=.* cannot be read"):
            strategy.choose("auto")
    monkeypatch.setenv("TF_CONFIG", '{"cluster": {"worker": ["127.0.0.1:1"]}}')
    assert strategy.choose("auto").count == 1, "a cluster of one is no cluster"


def test_a_batch_that_cannot_be_shared_out():
    replicas = strategy.Replicas()
    replicas.require_shares(7)
    replicas.count = 3
    with pytest.raises(ValueError, match="batch_size=16 cannot be shared out equally over 3 devices; try 15"):
        replicas.require_shares(16)


# -------------------------------------------------------------------------------------------------- never losing a step


@pytest.mark.slow
def test_twenty_kills_lose_nothing(tmp_path):
    """kill -9 at twenty random moments of one training that saves at every step: ends bit for bit as if undisturbed."""
    config = dataclasses.replace(engine_process.CONFIG, steps=100, keep_checkpoints=2)
    engine_process.train(str(tmp_path / "whole"), config)
    done = start("-m", "tests.engine_process", "killed", tmp_path / "killed", 100, 20, 0, timeout=1200)
    reached = [int(step) for step in done.stdout.split("reached", 1)[1].split()]
    assert len(reached) == 21 and reached == sorted(reached) and reached[-1] == 100 and 5 < reached[-2] < 100
    first, second = held(tmp_path / "whole", 100), held(tmp_path / "killed", 100)
    for name, value in first.items():
        np.testing.assert_array_equal(second[name], value, err_msg=name)
    assert rows(tmp_path / "killed") == rows(tmp_path / "whole")
    left = {name.split(".")[0] for name in os.listdir(tmp_path / "killed" / "checkpoints")} - {""}
    assert left == {"checkpoint", "ckpt-99", "ckpt-100"}


HOLD = """
import sys, time
from simgan_tf import training
with training.holding(sys.argv[1]):
    print("in", flush=True)
    time.sleep(60)
"""


def test_a_run_directory_is_entered_once(tmp_path):
    """A second process is told who is inside; after a kill -9 the lock is free, and what was half-written is gone."""
    with subprocess.Popen([sys.executable, "-c", HOLD, tmp_path], cwd=ROOT, stdout=subprocess.PIPE) as holder:
        assert holder.stdout.readline() == b"in\n"
        for name in ("samples/.writing-1.png", "checkpoints/.writing-2/ckpt.index"):
            os.makedirs(os.path.dirname(tmp_path / name), exist_ok=True)
            (tmp_path / name).write_text("half")
        with (
            pytest.raises(BlockingIOError, match=rf"--run_dir={tmp_path} is in use by process {holder.pid}: wait"),
            training.holding(str(tmp_path)),
        ):
            pass
        assert (tmp_path / "samples" / ".writing-1.png").exists()
        holder.send_signal(signal.SIGKILL)
    with training.holding(str(tmp_path)):
        assert not list(tmp_path.rglob(".writing*"))
    with training.holding(str(tmp_path)):
        pass


@pytest.mark.ci
@pytest.mark.slow
def test_the_command_stops_by_a_signal_and_holds_its_directory(path, tmp_path):
    """run_train.py: a second one is refused while the first trains; SIGTERM saves and leaves with 130."""
    run_dir = tmp_path / "run"
    shutil.copytree(path / "run" / "text_encoder", run_dir / "text_encoder")
    command = resume(path, run_dir, "--steps=100000", "--sample_every=0", "--log_every=1")
    first = subprocess.Popen(
        [sys.executable, *command], cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    try:
        metrics = run_dir / "metrics.jsonl"
        while not (metrics.exists() and metrics.stat().st_size):
            assert first.poll() is None
            time.sleep(0.05)
        assert f"is in use by process {first.pid}: wait for it" in refused(*command)
    finally:
        first.terminate()
        said = first.communicate(timeout=240)[0]
    reached = checkpoints.steps(str(run_dir))[-1]
    assert first.returncode == 130 and f"stopped at step {reached} of 100000, saved; the same command" in said
    assert rows(run_dir)[-1]["step"] == reached


@pytest.mark.usefixtures("eager")
def test_a_log_that_cannot_be_written_costs_no_step(tmp_path, monkeypatch):
    """The step is saved all the same, though no checkpoint was due; the line names both."""
    config = dataclasses.replace(TINY, units=0, steps=4, checkpoint_every=0, log_every=2)
    os.makedirs(tmp_path / "metrics.jsonl")  # nobody can append to a folder
    with pytest.raises(OSError, match=r"step 2: the log .*\(Is a directory\).*checkpoints/ckpt-2\."):
        monkeypatch.setattr(training, "_forget_after", lambda metrics, step: None)
        training.train(method_of(), engine_process.batches, config, str(tmp_path), 8)
    assert checkpoints.steps(str(tmp_path)) == [2]


def test_a_disk_that_does_not_answer_is_no_damage(one_device, tmp_path, monkeypatch):
    """Nothing is passed over, and so nothing deleted, for an error that may go away."""
    shutil.copytree(one_device, tmp_path / "run")

    def fill(*_):
        raise tf.errors.UnavailableError(None, None, "try again")

    monkeypatch.setattr(checkpoints, "_fill", fill)
    with pytest.raises(tf.errors.UnavailableError):
        checkpoints.restore(str(tmp_path / "run"), method_of().variables())


def test_where_a_run_started_from_is_kept(one_device, tmp_path):
    """Until there is a checkpoint the same origin must be given; afterwards it may be left out."""
    facts, run_dir = {"fingerprint": "a"}, str(tmp_path / "run")
    training.write_config(run_dir, TINY, facts, "phi", one_device)
    for other in ("", "elsewhere"):
        with pytest.raises(ValueError, match=f"init_from '{one_device}' there, '{other}' now"):
            training.write_config(run_dir, TINY, facts, "phi", other)
    shutil.copytree(os.path.join(one_device, "checkpoints"), os.path.join(run_dir, "checkpoints"))
    training.write_config(run_dir, TINY, facts, "phi", command="again")
    with open(os.path.join(run_dir, "config.json"), encoding="utf-8") as file:
        assert json.load(file)["init_from"] == one_device


def test_an_unwritable_directory_is_named(tmp_path):
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(OSError, match=rf"--run_dir={tmp_path}/file/run cannot be written \(Not a directory\)"):
        with training.holding(f"{tmp_path}/file/run"):
            pass


def resume(path, run_dir, *flags):
    """run_train.py's arguments to go on in a copy of the run of the fixture `path`."""
    return ["run_train.py", *TINY_FLAGS, f"--records_dir={path / 'records'}", f"--run_dir={run_dir}", *flags]


def test_a_disk_that_fills_up_leaves_the_last_checkpoint_whole(path, tmp_path):
    """Files may grow to half of a checkpoint; the run had got to step 4."""
    run_dir = tmp_path / "run"
    shutil.copytree(path / "run", run_dir)
    before = held(run_dir, 4)
    (data,) = (run_dir / "checkpoints").glob("ckpt-4.data*")
    size = data.stat().st_size // 2
    with full_disk(size):
        done = run(*resume(path, run_dir, "--steps=6", "--sample_every=0"), check=False)
    assert done.returncode == 1
    said = done.stderr.strip().splitlines()[-1]
    assert said.startswith("error: the checkpoint of step 6 cannot be written to")
    assert f"last whole one: {run_dir}/checkpoints/ckpt-4." in said
    assert sorted(p.name for p in (run_dir / "checkpoints").glob("*")) == sorted(
        p.name for p in (path / "run" / "checkpoints").glob("*")
    )
    np.testing.assert_equal(held(run_dir, 4), before)


def test_records_that_vanish_do_not_stop_a_training(path, tmp_path):
    """The records stay open; the folder is read at the start alone. At the start it is missed."""
    shutil.copytree(path / "records", tmp_path / "records")
    split = splits.load_split(str(tmp_path / "records"), "train")
    embeddings = np.zeros([sum(map(len, split.captions)), 3], np.float32)
    batches = pipeline.training_batches(
        split, embeddings, None, image_size=16, load_size=18, batch_size=4, seed=0
    )
    first = iter(batches)
    next(first)
    shutil.rmtree(tmp_path / "records")
    for _ in range(2 * len(split) // 4):  # two epochs
        assert next(first)["image"].shape == (4, 16, 16, 3)
    said = refused(*resume(tmp_path, tmp_path / "run"))
    assert "No dataset.json in records_dir=" in said and not (tmp_path / "run").exists()


# ----------------------------------------------------------------------------------------------------------- precision


@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize("precision", ["float32", "mixed_bfloat16", "mixed_float16"])
def test_every_precision_trains(precision):
    """Finite terms, float32 weights, and G moves: in two steps, in float16 once the loss scale has come down."""
    method = method_of(precision=precision)
    before = [weight.numpy() for weight in method.generator.trainable_variables]
    found = steps_of(method, 12 if precision == "mixed_float16" else 2)
    for terms in found:
        assert np.isfinite([value for name, value in terms.items() if not name.endswith("_norm")]).all()
    assert {tf.as_dtype(weight.dtype) for weight in method.generator.variables} == {tf.float32}
    for old, weight in zip(before, method.generator.trainable_variables, strict=True):
        assert not np.array_equal(old, weight), weight.name


@pytest.mark.usefixtures("eager")
def test_float16_skips_a_step_that_overflows_and_goes_on(tmp_path):
    """The first scale of 2^15 overflows: weights stay, the scale halves, the run is not stopped, and the log holds no
    norm; the scale is part of the checkpoint."""
    config = dataclasses.replace(TINY, units=0, precision="mixed_float16", steps=1)
    method = method_of(precision="mixed_float16")
    before = [weight.numpy() for weight in method.generator.trainable_variables]
    training.train(method, engine_process.batches, config, str(tmp_path), 8)
    assert float(keras2.loss_scale(method.g_optimizer)) == 2.0**14
    np.testing.assert_equal([weight.numpy() for weight in method.generator.trainable_variables], before)
    (row,) = rows(tmp_path)
    assert "g_cycle" in row and "g_gradient_norm" not in row
    other = method_of(precision="mixed_float16")
    assert checkpoints.restore(str(tmp_path), other.variables()) == 1
    assert float(keras2.loss_scale(other.g_optimizer)) == 2.0**14


@pytest.mark.ci
@pytest.mark.slow
def test_xla_changes_nothing_but_rounding():
    """Two steps, compiled and not; several devices refuse it."""
    plain, compiled = (steps_of(method_of(xla=xla), 2) for xla in (False, True))
    for one, two in zip(plain, compiled, strict=True):
        assert two == pytest.approx(one, rel=1e-4, abs=1e-5)
    replicas = strategy.Replicas()
    replicas.count = 2
    with pytest.raises(ValueError, match="xla=True compiles for one device, not for 2"):
        replicas.require_shares(16, xla=True)


def test_auto_precision_is_the_hardwares():
    """On a CPU bfloat16 with AMX, or on AMD's with AVX512-BF16; what is named stays."""
    for name in ("float32", "mixed_bfloat16", "mixed_float16"):
        assert strategy.precision(name) == name
    if tf.config.list_physical_devices("GPU") or not os.path.exists("/proc/cpuinfo"):
        pytest.skip("no CPU of a Linux machine")
    with open("/proc/cpuinfo", encoding="ascii", errors="replace") as file:
        text = file.read().replace("\n", " ")
    fast = " amx_bf16 " in text or (" avx512_bf16 " in text and "AuthenticAMD" in text)
    assert strategy.precision("auto") == ("mixed_bfloat16" if fast else "float32")


@pytest.mark.parametrize(
    "facts, expected",
    [
        (set(), "float32"),
        ({"GenuineIntel", "avx512_bf16"}, "float32"),
        ({"GenuineIntel", "avx512_bf16", "amx_bf16"}, "mixed_bfloat16"),
        ({"AuthenticAMD", "avx2"}, "float32"),
        ({"AuthenticAMD", "avx512_bf16"}, "mixed_bfloat16"),
    ],
)
def test_auto_precision_of_processors(facts, expected, monkeypatch):
    if tf.config.list_physical_devices("GPU"):
        pytest.skip("a GPU decides here, not the processor")
    monkeypatch.setattr(strategy, "_cpu_facts", lambda: facts)
    assert strategy.precision("auto") == expected


# -------------------------------------------------------------------------------------------- averages, norms, weights


@pytest.mark.usefixtures("eager")
def test_the_average_follows_its_formula():
    """a <- d a + (1 - d) g from the initial G on, d = min(0.3, (1 + t) / (10 + t)): 0.1, 2/11, 0.25, 0.3 ..."""
    method = method_of(ema_decay=0.3)
    expected = [variable.numpy() for variable in method.generator.variables]
    one_step = train_step(method)
    for t, decay in enumerate((1 / 10, 2 / 11, 3 / 12, 0.3, 0.3)):
        one_step(random_batch(t), tf.constant(t, tf.int64))
        now = [variable.numpy() for variable in method.generator.variables]
        expected = [decay * a + (1 - decay) * g for a, g in zip(expected, now, strict=True)]
    average = method.variables()["generator_ema"]
    assert all(isinstance(variable, tf.Variable) for variable in average)
    for found, value in zip(average, expected, strict=True):
        np.testing.assert_allclose(found, value, rtol=1e-5, atol=1e-7)


@pytest.mark.usefixtures("eager")
def test_averaging_leaves_the_training_alone_and_edits_by_the_average(batch):
    plain, averaged = method_of(), method_of(ema_decay=0.9)
    assert steps_of(plain, 2) == steps_of(averaged, 2)
    for part in ("generator", "discriminator", "g_optimizer", "d_optimizer"):
        for a, b in zip(plain.variables()[part], averaged.variables()[part], strict=True):
            np.testing.assert_array_equal(a, b)
    noise = tf.zeros([4, TINY.ca_size])
    inputs = batch["image"], batch["embedding"], noise
    np.testing.assert_array_equal(plain.edit(*inputs), plain.generator(*inputs)[0])
    np.testing.assert_array_equal(averaged.edit(*inputs), averaged.network(*inputs)[0])
    assert np.abs(averaged.edit(*inputs) - plain.edit(*inputs)).max() > 0


@pytest.mark.usefixtures("eager")
def test_norms_are_those_of_the_gradients():
    """After its first step Adam's first moment is (1 - beta1) g; a step that does not measure says 0."""
    method = method_of()
    (terms,) = steps_of(method, 1)
    for name, optimizer in (("g", method.g_optimizer), ("d", method.d_optimizer)):
        moments = np.concatenate([np.ravel(moment) / (1 - TINY.beta1) for moment in optimizer._momentums])
        assert terms[f"{name}_gradient_norm"] == pytest.approx(np.linalg.norm(moments), rel=1e-4)
    one_step = train_step(method)
    assert float(one_step(random_batch(1), 1)["g_gradient_norm"]) == 0.0
    assert float(one_step(random_batch(2), 2, measure=True)["g_gradient_norm"]) > 0.0


@pytest.mark.usefixtures("eager")
def test_score_deviations_are_those_of_the_batch(batch):
    """D's scores of the real pairs before the update, by hand."""
    method = method_of()
    scores = method.discriminator(batch["image"], batch["embedding"], training=True, updates=0).numpy()
    terms = train_step(method)(batch, 0)
    assert float(terms["score_real_std"]) == pytest.approx(scores.std(), rel=1e-4)
    assert float(terms["score_real"]) == pytest.approx(scores.mean(), rel=1e-4)


def test_a_run_starts_from_anothers_networks(one_device):
    """G and D are filled, optimizers are not; the average begins at G; other networks are refused by name and shape."""
    method = method_of(ema_decay=0.5)
    assert training.start_from(one_device, method) == 3
    there = held(one_device, 3)
    for part in ("generator", "discriminator"):
        for i, variable in enumerate(method.variables()[part]):
            np.testing.assert_array_equal(variable, there[f"{part}/v/{i:04d}/.ATTRIBUTES/VARIABLE_VALUE"])
    for average, variable in zip(*(method.variables()[part] for part in ("generator_ema", "generator")), strict=True):
        np.testing.assert_array_equal(average, variable)
    assert all(np.abs(moment).max() == 0 for moment in method.g_optimizer._momentums)
    with pytest.raises(ValueError, match=r"generator variable 0 is \[3, 3, 3, 4\] there, \[3, 3, 3, 8\] now"):
        training.start_from(one_device, method_of(width=8))


def test_a_run_of_larger_pictures_starts_from_g_alone(one_device, capsys):
    """32x32 from 16x16: G's convolutions are the same, D has one more."""
    method = method_of(image_size=32, load_size=38)
    before = [variable.numpy() for variable in method.variables()["discriminator"]]
    assert training.start_from(one_device, method) == 3
    there = held(one_device, 3)
    for i, variable in enumerate(method.variables()["generator"]):
        np.testing.assert_array_equal(variable, there[f"generator/v/{i:04d}/.ATTRIBUTES/VARIABLE_VALUE"])
    for old, variable in zip(before, method.variables()["discriminator"], strict=True):
        np.testing.assert_array_equal(old, variable)
    assert "lends no discriminator that fits: it begins anew" in capsys.readouterr().out


@pytest.mark.parametrize("part", ["generator", "generator_ema"])
def test_a_run_starts_from_a_packed_model(part, tmp_path, capsys):
    """Of which there is one G, averaged or not, and no D."""
    method, shipped = method_of(), method_of()
    configs.save(TINY, str(tmp_path), packed={"part": part})
    values = shipped.variables()["generator"]
    checkpoints.save(str(tmp_path), checkpoints.checkpoint_of({part: values}), 9, keep=1)
    assert training.start_from(str(tmp_path), method) == 9
    for variable, value in zip(method.variables()["generator"], values, strict=True):
        np.testing.assert_array_equal(variable, value)
    assert "lends no discriminator that fits: it begins anew" in capsys.readouterr().out


@pytest.mark.ci
@pytest.mark.slow
def test_a_dry_run_describes_and_writes_nothing(path, tmp_path):
    run_dir = tmp_path / "run"
    shutil.copytree(path / "run" / "text_encoder", run_dir / "text_encoder")
    flags = [f"--init_from={path / 'run'}", "--precision=auto", "--ema_decay=0.5", "--steps=2", "--dry_run"]
    said = run(*resume(path, run_dir, *flags)).stdout
    assert os.listdir(run_dir) == ["text_encoder"]
    assert "* ema_decay           0.5   (preset: 0.0)" in said and "  cycle_weight        10.0\n" in said
    count = sum(np.size(v) for name, v in held(path / "run", 4).items() if name.startswith("generator/"))
    assert f"generator: {count:,} parameters" in said
    assert "length: 2 steps = 0.3333 epochs of 6 steps (24 pictures)" in said
    assert "s a step, the best of 3 steps run here" in said


@pytest.mark.ci
@pytest.mark.slow
def test_precision_average_profile_and_init_from_on_the_command_line(path, tmp_path):
    """A new run from the fixture's networks; called again it goes on by itself; editing takes the average."""
    run_dir = tmp_path / "run"
    shutil.copytree(path / "run" / "text_encoder", run_dir / "text_encoder")
    flags = [f"--init_from={path / 'run'}", "--precision=auto", "--ema_decay=0.5"]
    said = run(*resume(path, run_dir, *flags, "--steps=2", "--sample_every=2", "--profile=2:2")).stdout
    assert f"networks of {path / 'run'} at step 4" in said
    stored = json.loads((run_dir / "config.json").read_text())["config"]
    assert stored["precision"] == strategy.precision("auto")
    assert list((run_dir / "tensorboard").rglob("*.xplane.pb"))
    said = run(*resume(path, run_dir, *flags, "--steps=3")).stdout
    assert "resuming" in said and "networks of" not in said
    editor, there = Editor(str(run_dir)), held(run_dir, 3)
    for i, variable in enumerate(editor.method.variables()["generator_ema"]):
        np.testing.assert_array_equal(variable, there[f"generator_ema/v/{i:04d}/.ATTRIBUTES/VARIABLE_VALUE"])


def test_bad_flags_of_the_engine(tmp_path):
    base = ["run_train.py", *TINY_FLAGS, f"--records_dir={tmp_path}", f"--run_dir={tmp_path / 'run'}"]
    assert "profile='9:3' must be FROM:TO" in refused(*base, "--profile=9:3")
    assert "ema_decay=1.5 must be from 0" in refused(*base, "--ema_decay=1.5")
