"""The contract of simgan_tf/methods, kept by every method, and by one more that no code outside of its file knows.

Tint (tests/tiny_method.py) has words of its own and draws no noise. All go through the commands' own functions, in
this process: training, resume, a sheet, editing, evaluation, SavedModel, TFLite, the device's example and the page.
"""

import dataclasses
import json
import os
import shutil
import sys
import warnings

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from data import demo, records
from export import device_example, export_run, pack
from export.web import __main__ as web
from simgan_tf import carry, checkpoints, configs, folding, methods, session, training
from simgan_tf.edit import Editor
from simgan_tf.evaluation import __main__ as evaluation
from simgan_tf.methods import METHODS
from simgan_tf.system import pictures
from tests.engine_process import train_on_batches
from tests.test_engine import assert_close, rows
from tests.tiny import TINIES, make_run, own_name, phi, refused, run, start
from tests.tiny_method import PRESETS

TEXT, OTHER = "a red flower", "a white flower"
ONE_BY_ONE = "Even though the `tf.config.experimental_run_functions_eagerly`"  # of tf.data, which is compiled anyway
CONFIGS = {
    name: dataclasses.replace(config, steps=4, sample_every=2, checkpoint_every=2, sentences=(TEXT, OTHER))
    for name, config in {"tint": PRESETS["tint_demo"], **TINIES}.items()
}


@pytest.fixture(scope="module", autouse=True)
def tint():
    """The one line that adds a method."""
    METHODS["tint"] = ("tests.tiny_method", "tests.tiny_method:Tint")
    yield
    del METHODS["tint"]


@pytest.fixture(scope="module")
def records_dir(tmp_path_factory):
    root = tmp_path_factory.mktemp("methods")
    demo.write(str(root / "raw"), images_per_class=3, classes=10, size=40, workers=1)
    run("-m", "data.build", "--dataset=oxford102", f"--raw_dir={root / 'raw'}", f"--out_dir={root / 'records'}")
    return str(root / "records")


# The smallest while one works; all in CI.
IN_CI = [pytest.mark.slow, pytest.mark.ci]
EVERY = [name if name == "tint" else pytest.param(name, marks=IN_CI) for name in sorted(CONFIGS)]


@pytest.fixture(scope="module", params=EVERY)
def name(request):
    """Of a method."""
    return request.param


def train(name, records_dir, run_dir, **switches):
    """By the command's own function; step for step operation by operation, which costs a tiny network less than
    compiling: the compiled steps are those of each method's own test."""
    config = dataclasses.replace(CONFIGS[name], **switches)
    tf.config.run_functions_eagerly(True)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ONE_BY_ONE)
            return session.train(config, records_dir, run_dir, preset=f"{name}_demo", strategy="none", command="tests")
    finally:
        tf.config.run_functions_eagerly(False)


@pytest.fixture(scope="module")
def run_dir(name, records_dir, tmp_path_factory):
    """Four steps in one go."""
    run_dir = str(tmp_path_factory.mktemp(name))
    phi().save(os.path.join(run_dir, "text_encoder"))
    assert train(name, records_dir, run_dir) is True
    return run_dir


@pytest.fixture(scope="module")
def bent(name, tmp_path_factory):
    """A run that was not trained, whose edits use their whole range."""
    return make_run(str(tmp_path_factory.mktemp(name)), phi(), CONFIGS[name])


def held(run_dir, step):
    """Every number of a checkpoint by name."""
    reader = tf.train.load_checkpoint(checkpoints.path_of(run_dir, step))
    return {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map() if "/v/" in name}


def test_every_method_is_tested_and_has_a_preset_for_the_demo():
    assert {"tint", *TINIES} == set(METHODS)
    for name in METHODS:
        assert f"{name}_demo" in configs.module_of(name).PRESETS


def test_it_trains_and_leaves_a_run_directory(name, run_dir):
    """Totals are the sums of their terms."""
    config, facts = configs.load(run_dir)
    assert config == CONFIGS[name] and os.path.isdir(facts["records_dir"])
    parts = methods.build(config, phi(), 1).variables()
    assert checkpoints.parts_of(checkpoints.latest_checkpoint(run_dir)) == parts.keys()
    assert sorted(os.listdir(os.path.join(run_dir, "samples"))) == ["0000002.png", "0000004.png"]
    with open(os.path.join(run_dir, "metrics.jsonl"), encoding="utf-8") as file:
        found = [json.loads(line) for line in file]
    assert [row["step"] for row in found] == [1, 2, 3, 4]
    for row in found:
        totals = [total for total in row if total.endswith("_loss")]
        assert totals
        for total in totals:
            first = total.removesuffix("loss")
            terms = [key for key in row if key.startswith(first) and not key.endswith(("_loss", "_norm"))]
            assert row[total] == pytest.approx(sum(row[term] for term in terms), abs=5e-6)
            assert row[f"{first}gradient_norm"] > 0


def test_it_resumes_to_the_bit(name, records_dir, run_dir, tmp_path):
    shutil.copytree(os.path.join(run_dir, "text_encoder"), tmp_path / "text_encoder")
    assert train(name, records_dir, str(tmp_path), steps=3) is True
    assert train(name, records_dir, str(tmp_path), steps=4) is True
    whole, resumed = held(run_dir, 4), held(str(tmp_path), 4)
    assert whole.keys() == resumed.keys()
    for variable, value in whole.items():
        np.testing.assert_array_equal(resumed[variable], value, err_msg=variable)


def test_its_flags_are_its_presets_alone():
    values = configs.flags.FlagValues()
    configs.define_flags(["--preset=tint_demo"], flag_values=values)
    assert "words" in values and "units" not in values
    values(["run_train.py", "--preset=tint_demo", "--words=5"])
    assert configs.from_flags(values).words == 5


def test_another_methods_run_directory_is_refused(name, run_dir):
    other = "tint" if name == "simgan" else "simgan"
    with pytest.raises(ValueError, match=f"method '{name}' there, '{other}' now"):
        training.require_same_run(run_dir, CONFIGS[other], {"fingerprint": "x"}, "phi")


def test_a_run_starts_from_its_networks(run_dir):
    """Every one of them; neither optimizer."""
    method = methods.build(configs.load(run_dir)[0], phi(), 1)
    assert training.start_from(run_dir, method) == 4
    there = held(run_dir, 4)
    parts = {part: variables for part, variables in method.variables().items() if not part.endswith("_optimizer")}
    assert len(parts) > 1
    for part, variables in parts.items():
        for i, variable in enumerate(variables):
            np.testing.assert_array_equal(variable, there[f"{part}/v/{i:04d}{checkpoints.VALUE}"])


def test_networks_that_only_train(name, run_dir):
    """What a model that is packed for training keeps beside the one that edits; all of them can be lent."""
    config = configs.load(run_dir)[0]
    method = methods.build(config, phi(), 1)
    others = {"tint": {"critic"}, "ccgan": {"backward", "discriminators"}}.get(name, {"discriminator"})
    assert checkpoints.training_parts(method).keys() == others
    assert method.lent_by(config, {method.part, *others}).keys() == {method.part.removesuffix("_ema"), *others}


def test_a_checkpoint_of_no_such_networks_lends_none(name, tmp_path):
    """One line where the method's own network must be there."""
    configs.save(CONFIGS[name], str(tmp_path))
    checkpoint = checkpoints.checkpoint_of({"stranger": [tf.Variable(1.0)]})
    checkpoints.save(str(tmp_path), checkpoint, 3, keep=1)
    method = methods.build(CONFIGS[name], phi(), 1)
    if name == "tint":  # lends what is there
        assert training.start_from(str(tmp_path), method) == 3
        return
    with pytest.raises(ValueError, match="ckpt-3 holds other networks, .* missing there"):
        training.start_from(str(tmp_path), method)


def test_it_starts_from_no_other_methods_networks(name, run_dir):
    other = "tint" if name == "simgan" else "simgan"
    method = methods.build(CONFIGS[other], phi(), 1)
    with pytest.raises(ValueError, match=f"a run of {name}, .* of {other}"):
        training.start_from(run_dir, method)


@pytest.mark.ci
@pytest.mark.slow
def test_it_says_what_a_training_costs(name, records_dir, run_dir, tmp_path, capsys):
    shutil.copytree(os.path.join(run_dir, "text_encoder"), tmp_path / "text_encoder")
    config = CONFIGS[name]
    tf.config.run_functions_eagerly(True)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ONE_BY_ONE)
            assert session.train(
                config, records_dir, str(tmp_path), preset=f"{name}_demo", strategy="none", dry_run=True
            )
    finally:
        tf.config.run_functions_eagerly(False)
    said = capsys.readouterr().out
    assert f"method              {name!r}" in said and "of 3 steps run here" in said
    for part, variables in methods.build(config, phi(), 1).variables().items():
        if not part.endswith("_optimizer"):
            assert f"{part}: {sum(np.prod(variable.shape, dtype=int) for variable in variables):,} parameters" in said
    assert os.listdir(tmp_path) == ["text_encoder"]


def test_it_edits_a_picture(bent):
    """Another sentence gives another picture; another seed does where the method draws noise."""
    editor = Editor(bent)
    picture = Image.new("RGB", (30, 20), (200, 60, 30))
    edited = editor(picture, TEXT)
    assert edited.size == ((30, 20) if editor.keeps_picture else (16, 16))
    assert np.array_equal(editor(picture, TEXT, seed=3), edited) == (editor.method.noise_size == 0)
    assert not np.array_equal(editor(picture, OTHER), edited)
    assert np.array_equal(editor.edit(editor.read(picture), TEXT)[0], editor.edit(editor.read(picture), TEXT)[0])
    with pytest.raises(ValueError, match="known"):
        editor(picture, "zzz")


def test_the_command_says_where_a_picture_is_drawn_anew(bent, tmp_path):
    """In one line, of the square that it writes; a part of a picture cannot be drawn anew."""
    keeps = Editor(bent).keeps_picture
    Image.fromarray(np.random.default_rng(0).integers(0, 256, [20, 30, 4], np.uint8)).save(tmp_path / "a.png")
    command = ["-m", "simgan_tf.edit", f"--run_dir={bent}", f"--image={tmp_path / 'a.png'}", f"--text={TEXT}"]
    said = run(*command, f"--out={tmp_path / 'out.png'}").stdout
    assert ("draws anew: each edit is its own square of 16x16" in said) == (not keeps)
    with Image.open(tmp_path / "out.png") as edited:
        assert (edited.size, edited.mode) == (((30, 20), "RGBA") if keeps else ((16, 16), "RGB"))
    if not keeps:
        line = refused(*command, f"--out={tmp_path / 'part.png'}", "--box=0,0,16,16")
        assert "--box: " in line and "anew" in line and not (tmp_path / "part.png").exists()


def test_its_edit_depends_on_the_picture(bent):
    editor = Editor(bent)
    one, other = (np.random.default_rng(i).uniform(-1, 1, [16, 16, 3]).astype(np.float32) for i in range(2))
    assert np.abs(editor.edit(one, TEXT) - editor.edit(other, TEXT)).mean() > 1e-3


def test_it_folds(bent):
    """Batch norm inside the convolutions changes nothing but roundings, and leaves no variable of batch norm."""
    method = Editor(bent).method
    draw = np.random.default_rng(0)
    shapes = [3, 16, 16, 3], [3, method.embedding_size], [3, method.noise_size]
    inputs = [draw.uniform(-1, 1, shape).astype(np.float32) for shape in shapes]
    folded = folding.Folded(method.network)
    np.testing.assert_allclose(method.edit(*inputs, network=folded), method.edit(*inputs), atol=1e-4)
    assert not {own_name(variable) for variable in folded.kept} & {"gamma", "variance"}


@pytest.mark.ci
@pytest.mark.slow
def test_it_is_evaluated(name, records_dir, bent):
    flags = configs.flags.FlagValues()
    with pytest.MonkeyPatch.context() as patch:
        for each in [each for each in dir(configs.flags) if each.startswith("DEFINE_")]:
            define = getattr(configs.flags, each)
            patch.setattr(configs.flags, each, lambda *a, define=define, **k: define(*a, flag_values=flags, **k))
        evaluation.define_flags()
        flags(["evaluation", f"--run_dir={bent}", f"--records_dir={records_dir}", "--figures"])
        patch.setattr(configs.flags, "FLAGS", flags)
        evaluation.main([])
    with open(os.path.join(bent, "results.json"), encoding="utf-8") as file:
        results = json.load(file)
    pictures = records.read_info(records_dir)["splits"]["test"]["images"]
    assert results["method"] == name and results["pictures"] == pictures
    # Without noise, three edits of one picture and sentence are one.
    assert (results["diversity"] == 0.0) == (Editor(bent).method.noise_size == 0)
    assert os.path.isfile(os.path.join(bent, "figures", "teaser.png"))


@pytest.mark.ci
@pytest.mark.slow
def test_it_is_packed(bent, tmp_path):
    out = str(tmp_path / "packed")
    packed = pack.pack(bent, out)
    assert packed["part"] == Editor(bent).method.part and "simgan_tf" in sys.modules
    image = np.zeros([20, 20, 3], np.uint8)
    apart = np.abs(np.asarray(Editor(out)(image, TEXT), int) - np.asarray(Editor(bent)(image, TEXT), int))
    assert apart.max() <= 2


@pytest.mark.ci
@pytest.mark.slow
def test_two_devices_train_it_as_one(name, tmp_path):
    """Networks, optimizers and every logged term, of three steps on random batches."""
    if name == "tint":
        pytest.skip("the process of two devices knows the package's methods alone")
    train_on_batches(str(tmp_path / "one"), name)
    start("-m", "tests.engine_process", "method_mirrored", tmp_path / "two", name)
    # Reed's S learns from what the G of the steps before draws: 4e-5 apart after one step on an EPYC.
    within = {"within": 1e-4} if name == "reed" else {}
    assert_close(held(str(tmp_path / "one"), 3), held(str(tmp_path / "two"), 3), **within)
    for one, two in zip(rows(str(tmp_path / "one")), rows(str(tmp_path / "two")), strict=True):
        assert two == pytest.approx(one, rel=1e-4, abs=3e-6)


@pytest.fixture(scope="module")
def exported(bent, tmp_path_factory):
    """Both formats, held against the live model while they are made."""
    out = str(tmp_path_factory.mktemp("out") / "export")
    export_run.export(bent, out, list(export_run.FORMATS), None, "tests", ["float32"])
    return out


@pytest.mark.ci
@pytest.mark.slow
def test_its_exports_give_what_it_gives(name, bent, exported):
    method = Editor(bent).method
    with open(os.path.join(exported, "export.json"), encoding="utf-8") as file:
        report = json.load(file)
    assert report["method"] == name
    assert (report["noise_size"], report["embedding_size"]) == (method.noise_size, method.embedding_size)
    assert len(report["files"]) == 2
    for facts in report["files"].values():
        assert all(check["finite"] for check in facts["checks"].values())
    (served,) = (each for each in report["files"] if each.startswith("saved_model"))
    signature = tf.saved_model.load(os.path.join(exported, served)).signatures["edit"]
    expected = {"image", "embedding", "noise"} if method.noise_size else {"image", "embedding"}
    assert set(signature.structured_input_signature[1]) == expected


@pytest.mark.ci
@pytest.mark.slow
def test_the_devices_example_runs_it(exported, bent, tmp_path, monkeypatch):
    """Of a square of the trained size, so that no scaling stands between the two: what the file draws is the live
    edit, to a rounded pixel, and of that it makes the photograph as the editor does."""
    square = np.random.default_rng(0).integers(0, 256, [16, 16, 3], np.uint8)
    Image.fromarray(square).save(tmp_path / "a.png")
    model, editor = os.path.join(exported, "simgan.tflite"), Editor(bent)
    drawn = []
    in_squares = carry.in_squares
    monkeypatch.setattr(carry, "in_squares", lambda *a: drawn.append(in_squares(*a)) or drawn[-1])
    there = np.asarray(device_example.edit(model, str(tmp_path / "a.png"), TEXT))
    small = square / np.float32(127.5) - 1
    live = pictures.to_pixels(editor.edit(small, TEXT)[0])
    if editor.keeps_picture:
        np.testing.assert_array_equal(there, carry.carry(square, small, drawn[0]))
        there = pictures.to_pixels(drawn[0])
    assert there.shape == live.shape and np.abs(there.astype(int) - live).max() <= 1


@pytest.mark.ci
@pytest.mark.slow
def test_the_page_can_feed_it(name, exported, bent):
    contract, vocabulary = web.read_packed(os.path.join(exported, "simgan.tflite"))
    editor = Editor(bent)
    assert contract["method"] == name and contract["keeps_picture"] == editor.keeps_picture
    assert ("noise" in contract["signatures"]["edit"]["inputs"]) == bool(editor.method.noise_size)
    assert vocabulary.decode().split() == ["<pad>", "<unk>", "a", "red", "white", "flower"]
