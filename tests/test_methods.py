"""The contract of simgan_tf/methods, kept by a second method: no code outside of its own file knows that it is there.

Tint (tests/tiny_method.py) has words of its own and draws no noise. It goes through the commands' own functions, in
this process: training, resume, a sheet, editing, evaluation, SavedModel, TFLite, the device's example and the page.
"""

import json
import os
import shutil
import sys

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from data import demo, records
from export import device_example, export_run, pack
from export.web import __main__ as web
from simgan_tf import checkpoints, configs, methods, session, training
from simgan_tf.edit import Editor
from simgan_tf.evaluation import __main__ as evaluation
from simgan_tf.methods import METHODS
from tests.tiny import phi, run
from tests.tiny_method import PRESETS, Tint

TEXT = "a red flower"


@pytest.fixture(scope="module", autouse=True)
def tint():
    """The one line that adds a method."""
    METHODS["tint"] = ("tests.tiny_method", "tests.tiny_method:Tint")
    yield
    del METHODS["tint"]


@pytest.fixture(scope="module")
def records_dir(tmp_path_factory):
    root = tmp_path_factory.mktemp("tint")
    demo.write(str(root / "raw"), images_per_class=3, classes=10, size=40, workers=1)
    run("-m", "data.build", "--dataset=oxford102", f"--raw_dir={root / 'raw'}", f"--out_dir={root / 'records'}")
    return str(root / "records")


def train(records_dir, run_dir, **switches):
    config = configs.dataclasses.replace(PRESETS["tint_demo"], sentences=(TEXT, "a white flower"), **switches)
    return session.train(config, records_dir, run_dir, preset="tint_demo", strategy="none", command="tests")


@pytest.fixture(scope="module")
def run_dir(records_dir, tmp_path_factory):
    """Four steps in one go."""
    run_dir = str(tmp_path_factory.mktemp("run"))
    phi().save(os.path.join(run_dir, "text_encoder"))
    assert train(records_dir, run_dir) is True
    return run_dir


def held(run_dir, step):
    reader = tf.train.load_checkpoint(checkpoints.path_of(run_dir, step))
    return {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map() if "/v/" in name}


def test_it_trains_and_leaves_a_run_directory(run_dir):
    config, facts = configs.load(run_dir)
    assert config.method == "tint" and config.words == 8 and os.path.isdir(facts["records_dir"])
    assert set(checkpoints.parts_of(checkpoints.latest_checkpoint(run_dir))) == {
        "editor", "critic", "g_optimizer", "d_optimizer"
    }  # fmt: skip
    assert sorted(os.listdir(os.path.join(run_dir, "samples"))) == ["0000002.png", "0000004.png"]
    with open(os.path.join(run_dir, "metrics.jsonl"), encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    assert [row["step"] for row in rows] == [1, 2, 3, 4]
    for row in rows:
        assert row["g_loss"] == pytest.approx(row["g_adversarial"] + row["g_stay"], abs=3e-6)


def test_it_resumes_to_the_bit(records_dir, run_dir, tmp_path):
    shutil.copytree(os.path.join(run_dir, "text_encoder"), tmp_path / "text_encoder")
    assert train(records_dir, str(tmp_path), steps=2) is True
    assert train(records_dir, str(tmp_path), steps=4) is True
    whole, resumed = held(run_dir, 4), held(str(tmp_path), 4)
    assert whole.keys() == resumed.keys()
    for name, value in whole.items():
        np.testing.assert_array_equal(resumed[name], value, err_msg=name)


def test_its_flags_are_its_presets_alone():
    values = configs.flags.FlagValues()
    configs.define_flags(["--preset=tint_demo"], flag_values=values)
    assert "words" in values and "units" not in values
    values(["run_train.py", "--preset=tint_demo", "--words=5"])
    assert configs.from_flags(values).words == 5


def test_another_methods_run_directory_is_refused(run_dir):
    from simgan_tf.configs.simgan import PRESETS as OTHERS

    with pytest.raises(ValueError, match="method 'tint' there, 'simgan' now"):
        training.require_same_run(run_dir, OTHERS["simgan_demo"], {"fingerprint": "x"}, "phi")


def test_a_run_starts_from_its_networks(run_dir):
    method = methods.build(configs.load(run_dir)[0], phi(), 1)
    assert training.start_from(run_dir, method) == 4
    for i, variable in enumerate(method.variables()["critic"]):
        np.testing.assert_array_equal(variable, held(run_dir, 4)[f"critic/v/{i:04d}{checkpoints.VALUE}"])


def test_it_says_what_a_training_costs(records_dir, run_dir, tmp_path, capsys):
    shutil.copytree(os.path.join(run_dir, "text_encoder"), tmp_path / "text_encoder")
    config = PRESETS["tint_demo"]
    assert session.train(config, records_dir, str(tmp_path), preset="tint_demo", strategy="none", dry_run=True)
    said = capsys.readouterr().out
    assert "  method              'tint'" in said
    assert f"critic: {8 * 6 + 4 * 4 * 3 * 8 + 8 + 16 + 1:,} parameters" in said
    assert os.listdir(tmp_path) == ["text_encoder"]


def test_it_edits_a_picture_by_its_own_words(run_dir):
    """The same for every seed, as it draws nothing; by another sentence another picture."""
    editor = Editor(run_dir)
    assert isinstance(editor.method, Tint) and editor.step == 4
    picture = Image.new("RGB", (30, 20), (200, 60, 30))
    edited = editor(picture, TEXT)
    assert np.array_equal(editor(picture, TEXT, seed=3), edited)
    assert not np.array_equal(editor(picture, "white"), edited)
    with pytest.raises(ValueError, match="known"):
        editor(picture, "zzz")


def test_it_is_evaluated(records_dir, run_dir, capsys):
    flags = configs.flags.FlagValues()
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in dir(configs.flags) if name.startswith("DEFINE_")]:
            define = getattr(configs.flags, name)
            patch.setattr(configs.flags, name, lambda *a, define=define, **k: define(*a, flag_values=flags, **k))
        evaluation.define_flags()
        flags(["evaluation", f"--run_dir={run_dir}", "--figures"])  # the run knows its records
        patch.setattr(configs.flags, "FLAGS", flags)
        evaluation.main([])
    with open(os.path.join(run_dir, "results.json"), encoding="utf-8") as file:
        results = json.load(file)
    pictures = records.read_info(records_dir)["splits"]["test"]["images"]
    assert results["method"] == "tint" and results["pictures"] == pictures
    assert results["diversity"] == 0.0, "three edits of one picture and sentence are one"
    assert os.path.isfile(os.path.join(run_dir, "figures", "teaser.png"))


@pytest.fixture(scope="module")
def exported(run_dir, tmp_path_factory):
    """Both formats, held against the live model while they are made."""
    out = str(tmp_path_factory.mktemp("out") / "export")
    export_run.export(run_dir, out, list(export_run.FORMATS), None, "tests", ["float32"])
    return out


@pytest.mark.ci
@pytest.mark.slow
def test_its_exports_give_what_it_gives(exported):
    with open(os.path.join(exported, "export.json"), encoding="utf-8") as file:
        report = json.load(file)
    assert (report["method"], report["noise_size"], report["embedding_size"]) == ("tint", 0, 8)
    assert len(report["files"]) == 2
    for facts in report["files"].values():
        assert all(check["finite"] and check["max_error"] < 1e-4 for check in facts["checks"].values())
    (served,) = (name for name in report["files"] if name.startswith("saved_model"))
    signature = tf.saved_model.load(os.path.join(exported, served)).signatures["edit"]
    assert set(signature.structured_input_signature[1]) == {"image", "embedding"}


@pytest.mark.ci
@pytest.mark.slow
def test_the_devices_example_runs_it(exported, run_dir, tmp_path):
    """Of a square of the trained size, so that no scaling stands between the two: equal to a rounded pixel."""
    square = np.random.default_rng(0).integers(0, 256, [18, 18, 3], np.uint8)
    Image.fromarray(square).save(tmp_path / "a.png")
    model = os.path.join(exported, "simgan.tflite")
    there = np.asarray(device_example.edit(model, str(tmp_path / "a.png"), TEXT, seed=5), int)
    here = np.asarray(Editor(run_dir)(square, TEXT), int)
    assert np.abs(there - here).max() <= 1


@pytest.mark.ci
@pytest.mark.slow
def test_the_page_can_feed_it(exported):
    contract, vocabulary = web.read_packed(os.path.join(exported, "simgan.tflite"))
    assert contract["method"] == "tint" and "noise" not in contract["signatures"]["edit"]["inputs"]
    assert vocabulary.decode().split() == ["<pad>", "<unk>", "a", "red", "white", "flower"]


def test_it_is_packed(run_dir, tmp_path):
    out = str(tmp_path / "packed")
    packed = pack.pack(run_dir, out)
    assert packed["part"] == "editor" and "simgan_tf" in sys.modules
    image = np.zeros([20, 20, 3], np.uint8)
    apart = np.abs(np.asarray(Editor(out)(image, TEXT), int) - np.asarray(Editor(run_dir)(image, TEXT), int))
    assert apart.max() <= 1
