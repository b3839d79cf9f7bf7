"""Packed models: their values, what is refused, the flags that take them, and all of it from an installed copy."""

import dataclasses
import json
import os
import pathlib
import shutil
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from data import demo, painter
from export import pack
from export.web import __main__ as web
from export.web import litert
from simgan_tf import checkpoints, configs, edit, methods, training
from simgan_tf.edit import Editor
from simgan_tf.text import stored
from simgan_tf.text.tokens import Vocabulary
from simgan_tf.text.vse import TextEncoder
from tests.tiny import CONFIG, ROOT, WORDS, refused, run

CONFIG = dataclasses.replace(CONFIG, ca_size=8, sentences=("this flower has red petals", "the petals are yellow"))
STEPS = (3, 7)
EMA = {"generator": 0.0, "generator_ema": 0.9}  # the part that edits -> ema_decay


def make(directory, decay: float) -> str:
    """A run with two checkpoints, random weights, and this machine's paths wherever a run may have some."""
    draw = np.random.default_rng(0)
    encoder = TextEncoder(Vocabulary(WORDS), dim=6, word_dim=4, length=9, phi_scale=2.0,
                          training={"command": f"train {directory}/x"})  # fmt: skip
    for variable in encoder.variables:
        variable.assign(draw.normal(size=variable.shape))
    encoder.save(str(directory / "text_encoder"))
    config = dataclasses.replace(CONFIG, ema_decay=decay)
    method = methods.build(config, encoder, 1)
    facts = {"dataset": {"dataset": "demo"}, "text_encoder": encoder.fingerprint, "init_from": f"{directory}/older",
             "command": f"python run_train.py --records_dir={directory}/records --image=../a/b"}  # fmt: skip
    configs.save(config, str(directory), **facts)
    (directory / "results.json").write_text(json.dumps({"step": 7, "command": f"evaluate --run_dir={directory}"}))
    (directory / "results-train-all.json").write_text(json.dumps({"step": 7}))
    (directory / "results-test-9.json").write_text(json.dumps({"step": 3}))
    (directory / "metrics.jsonl").write_text("{}\n")
    for step in STEPS:
        for part in EMA.keys() & method.variables().keys():
            for variable in method.variables()[part]:
                shape = variable.shape
                if "variance" in variable.name:
                    variable.assign(draw.uniform(0.3, 3.0, shape))
                elif len(shape) == 1:
                    variable.assign(draw.normal(0.0, 0.5, shape))
                else:
                    variable.assign(draw.normal(0.0, np.sqrt(2 / np.prod(shape[:-1])), shape))
        checkpoint = checkpoints.checkpoint_of(method.variables(), step=tf.Variable(step, dtype=tf.int64))
        checkpoints.save(str(directory), checkpoint, step, keep=3)
    return str(directory)


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> dict[str, str]:
    return {part: make(tmp_path_factory.mktemp(part), decay) for part, decay in EMA.items()}


@pytest.fixture(scope="module")
def packed(runs, tmp_path_factory) -> dict[str, str]:
    out = {part: str(tmp_path_factory.mktemp("packed") / "tiny") for part in EMA}
    for part, run_dir in runs.items():
        pack.pack(run_dir, out[part], command=f"pack --run_dir={run_dir}")
    return out


@pytest.fixture
def run_dir(runs) -> str:
    return runs["generator"]


def content(folder) -> dict[str, bytes]:
    folder = pathlib.Path(folder)
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("part", EMA)
def test_values(runs, packed, part):
    """Kernels and word vectors are float16(value), the rest as trained, and nothing but generator and step is there."""
    run, found = (tf.train.load_checkpoint(checkpoints.latest_checkpoint(d[part])) for d in (runs, packed))
    names = [name for name in run.get_variable_to_shape_map() if name.startswith(f"{part}/v/")]
    assert len(names) == len(Editor(runs[part]).method.variables()[part]) > 20
    others = found.get_variable_to_shape_map().keys() - set(names)
    assert others == {"_CHECKPOINTABLE_OBJECT_GRAPH", "step" + checkpoints.VALUE}
    halved = 0
    for name in names:
        value, kept = run.get_tensor(name), found.get_tensor(name)
        if value.ndim > 1:
            value, halved = value.astype(np.float16), halved + 1
        assert kept.dtype == value.dtype
        np.testing.assert_array_equal(kept, value)
    assert halved > 5
    for name, variable in zip(sorted(names), Editor(packed[part]).method.variables()[part], strict=True):
        assert variable.dtype == tf.float32
        np.testing.assert_array_equal(variable.numpy(), found.get_tensor(name).astype(np.float32))
    run, found = (np.load(os.path.join(d[part], "text_encoder", "weights.npz")) for d in (runs, packed))
    assert {name: found[name].dtype for name in found.files} == {
        "embedding": np.float16, "gru_kernel": np.float16, "gru_recurrent_kernel": np.float16, "gru_bias": np.float32,
    }  # fmt: skip
    for name in found.files:
        np.testing.assert_array_equal(found[name], run[name].astype(found[name].dtype))


@pytest.mark.parametrize("part", EMA)
def test_a_training_starts_from_one_packed_for_it(part, runs, packed, tmp_path, capsys):
    """D lies in a checkpoint of its own, as the run's in float16; without it, it begins anew."""
    out = str(tmp_path / "both")
    pack.pack(runs[part], out, for_training=True)
    assert content(out).keys() == content(packed[part]).keys() | {
        f"training/{name}" for name in content(packed[part]) if name.startswith("checkpoints/")
    }
    assert checkpoints.parts_of(checkpoints.latest_checkpoint(out)) == {part}
    assert checkpoints.parts_of(checkpoints.latest_checkpoint(os.path.join(out, "training"))) == {"discriminator"}
    run = tf.train.load_checkpoint(checkpoints.latest_checkpoint(runs[part]))
    config, _ = configs.load(out)
    for folder, has in ((out, True), (packed[part], False)):
        method = methods.build(config, Editor(out).text_encoder, 1)
        assert training.start_from(folder, method) == STEPS[-1]
        assert ("lends no discriminator" in capsys.readouterr().out) is not has
        for ours, theirs in (("generator", part), ("discriminator", "discriminator")):
            same = []
            for i, variable in enumerate(method.variables()[ours]):
                value = run.get_tensor(f"{theirs}/v/{i:04d}{checkpoints.VALUE}")
                same.append(np.array_equal(variable, value.astype(np.float16) if value.ndim > 1 else value))
            assert all(same) is (has or ours == "generator")


@pytest.mark.parametrize("part", EMA)
def test_edits_are_the_runs(runs, packed, part):
    """Within 0.01 of [-1, 1], and a tenth of what another sentence or the noise gives."""
    before, after = Editor(runs[part]), Editor(packed[part])
    assert (after.step, after.method.part, after.config) == (STEPS[-1], part, before.config)
    assert before.text_encoder.fingerprint != after.text_encoder.fingerprint
    pixels, _ = painter.draw(demo.flowers()[40], 1, CONFIG.image_size)
    image, text = pixels / np.float32(127.5) - 1, "this flower has pink petals"
    ours, theirs = (editor.edit(image, text, samples=3, seed=5) for editor in (before, after))
    apart = np.abs(ours - theirs).max()
    assert 0 < apart < 0.01
    for other in (before.edit(image, "yellow", seed=5)[0], ours[1]):
        assert np.abs(other - ours[0]).max() > 10 * apart
    facts = configs.load(packed[part])[1]["packed"]
    assert 0 < facts["mean_difference"] < facts["max_difference"] < 0.02 and facts["part"] == part


def test_files_without_this_machine(runs, packed):
    """The files of a model and no other; no absolute path in one; relative ones and all facts stay."""
    found = content(packed["generator"])
    assert sorted(found) == [
        "checkpoints/checkpoint", "checkpoints/ckpt-7.data-00000-of-00001", "checkpoints/ckpt-7.index", "config.json",
        "results-train-all.json", "results.json", "text_encoder/encoder.json", "text_encoder/vocabulary.txt",
        "text_encoder/weights.npz",
    ]  # fmt: skip
    home = runs["generator"]
    assert not [name for name, data in found.items() if os.path.dirname(home).encode() in data]
    facts, last = configs.load(packed["generator"])[1], os.path.basename(home)
    assert facts["dataset"] == {"dataset": "demo"} and facts["init_from"] == "older"
    assert facts["command"] == "python run_train.py --records_dir=records --image=../a/b"
    assert facts["packed"]["command"] == f"pack --run_dir={last}"
    assert json.loads(found["results.json"]) == {"step": 7, "command": f"evaluate --run_dir={last}"}
    assert json.loads(found["text_encoder/encoder.json"])["training"] == {"command": "train x"}


def test_portable():
    for text, expected in (
        ("/a/b/c", "c"), ("x --d=/a/b/ --e='/f/g'", "x --d=b --e='g'"), ("red/white", "red/white"),
        ("https://a.org/b/c", "https://a.org/b/c"), ("../a/b ./c ~/d", "../a/b ./c ~/d"), (["/a/b", 1], ["b", 1]),
        ({"/a/b": {"c": "/d/e:/f/g"}}, {"/a/b": {"c": "e:/f/g"}}),
    ):  # fmt: skip
        assert pack.portable(text) == expected


def test_rounding():
    """What has one or two rows stays; 2049 = 2^11 + 1 needs twelve bits, so it becomes 2048; 70000 is refused."""
    for shape in ((), (5,), (1, 5), (2, 5)):
        assert pack.rounded(np.full(shape, 2049.0, np.float32), "v").dtype == np.float32
    for shape in ((3, 5), (3, 3, 4, 5)):
        assert (pack.rounded(np.full(shape, 2049.0, np.float32), "v") == np.float16(2048)).all()
    assert pack.rounded(np.ones([4, 4], np.int64), "v").dtype == np.int64
    for value in (7e4, np.inf, np.nan):
        with pytest.raises(ValueError, match=r"v has a value of .*, float16 holds up to 65504"):
            pack.rounded(np.full([3, 3], value, np.float32), "v")


def test_again_and_an_older_step(run_dir, tmp_path):
    """The card and its sheets stay, all else is replaced; the command says sizes, difference and step."""
    out = tmp_path / "tiny"
    (out / "sheets").mkdir(parents=True)
    (out / "README.md").write_text("# The card\n")
    (out / "sheets" / "edits.png").write_bytes(b"sheet")
    done = run("-m", "export.pack", f"--run_dir={run_dir}", f"--out_dir={out}")
    assert "left out: results-test-9.json, of step 3" in done.stdout
    assert "MB  checkpoints/ckpt-7.data-00000-of-00001" in done.stdout and "MB  in all" in done.stdout
    assert "no card" not in done.stdout and configs.load(str(out))[1]["packed"]["command"].endswith("--out_dir=tiny")
    run("-m", "export.pack", f"--run_dir={run_dir}", f"--out_dir={out}", "--for_training")
    assert "training/checkpoints/ckpt-7.index" in content(out)
    (out / "stale.txt").write_text("old")
    pack.pack(run_dir, str(out), step=3)
    found = content(out)
    assert not any(name.startswith("training/") for name in found)
    assert found["README.md"] == b"# The card\n" and found["sheets/edits.png"] == b"sheet"
    assert "stale.txt" not in found and "checkpoints/ckpt-3.index" in found and "checkpoints/ckpt-7.index" not in found
    assert "results-test-9.json" in found and "results.json" not in found  # those of step 3
    assert Editor(str(out)).step == 3
    assert sorted(os.listdir(tmp_path)) == ["tiny"]


def test_refused_steps(run_dir, tmp_path):
    said = refused("-m", "export.pack", f"--run_dir={run_dir}", f"--out_dir={tmp_path / 'tiny'}", "--step=4")
    assert "has no checkpoint of step 4; it has those of 3, 7." in said
    copy = tmp_path / "run"
    shutil.copytree(run_dir, copy)
    path = copy / "checkpoints" / "ckpt-3.data-00000-of-00001"
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(ValueError, match=r"ckpt-3 is damaged \(.*\); take another step"):
        pack.pack(str(copy), str(tmp_path / "tiny"), step=3)
    assert not (tmp_path / "tiny").exists()


def test_refused_folders(run_dir, packed, tmp_path):
    """A run directory above all, which packing over would destroy."""
    full, file = tmp_path / "full", tmp_path / "file"
    full.mkdir()
    (full / "README.md").write_text("mine")
    (full / "thesis.txt").write_text("mine")
    file.write_text("mine")
    before = content(run_dir)
    for out in (run_dir, full, file):
        said = refused("-m", "export.pack", f"--run_dir={run_dir}", f"--out_dir={out}")
        assert f"{str(out)!r} exists and is no packed model" in said
    assert content(run_dir) == before and sorted(os.listdir(full)) == ["README.md", "thesis.txt"]
    pack.require_replaceable(packed["generator"])
    assert "is no run directory" in refused("-m", "export.pack", f"--run_dir={full}", f"--out_dir={tmp_path / 'x'}")


def test_refused_values(run_dir, tmp_path, monkeypatch):
    """Edits too far apart, or a kernel beyond float16: the folder that was there stays as it was."""
    out = tmp_path / "tiny"
    pack.pack(run_dir, str(out))
    before = content(out)
    monkeypatch.setattr(pack, "LIMITS", (0.05, 1e-9))
    said = r"float16: differs from the live model by .* on average .*; allowed are 5e-02 and 1e-09"
    with pytest.raises(ValueError, match=said):
        pack.pack(run_dir, str(out))
    monkeypatch.undo()
    copy = tmp_path / "run"
    shutil.copytree(run_dir, copy)
    variables = Editor(run_dir).method.variables()
    kernel = next(v for v in variables["generator"] if len(v.shape) > 1)
    kernel.assign(tf.fill(kernel.shape, 7e4))
    checkpoints.save(str(copy), checkpoints.checkpoint_of(variables), 8, keep=3)
    with pytest.raises(ValueError, match="float16 holds up to 65504; take an earlier --step"):
        pack.pack(str(copy), str(out))
    assert content(out) == before and sorted(os.listdir(tmp_path)) == ["run", "tiny"]


# ---- reading float16 ----


def test_types_in_a_checkpoint(tmp_path):
    """float16 fills float32 and nothing else; no other type fills float32."""
    filled = tf.Variable([[9.0, 9.0]])
    for i, dtype in enumerate((tf.float16, tf.float32, tf.float64, tf.bfloat16, tf.int8), start=1):
        directory = str(tmp_path / dtype.name)
        checkpoint = checkpoints.checkpoint_of({"generator": [tf.Variable([[i, -i]], dtype=dtype)]})
        checkpoints.save(directory, checkpoint, 1, keep=1)
        if dtype in (tf.float16, tf.float32):
            assert checkpoints.restore_parts(directory, {"generator": [filled]}) == 1
            assert filled.numpy().tolist() == [[i, -i]]
        else:
            with pytest.raises(ValueError, match=f"generator variable 0 is {dtype.name} there, float32 now"):
                checkpoints.restore_parts(directory, {"generator": [filled]})
    half = str(tmp_path / "float16")
    for dtype in (tf.float64, tf.int32, tf.bfloat16):
        with pytest.raises(ValueError, match=f"is float16 there, {dtype.name} now"):
            checkpoints.restore_parts(half, {"generator": [tf.Variable([[0, 0]], dtype=dtype)]})
    with pytest.raises(ValueError, match=r"generator variable 0 is \[1, 2\] there, \[2, 1\] now"):
        checkpoints.restore_parts(half, {"generator": [tf.Variable([[9.0], [9.0]])]})
    assert filled.numpy().tolist() == [[2, -2]]


@pytest.mark.parametrize("dtype", [np.float16, np.float64, np.int8])
def test_types_in_a_text_encoder(packed, tmp_path, dtype):
    shutil.copytree(os.path.join(packed["generator"], "text_encoder"), tmp_path / "t")
    path = tmp_path / "t" / stored.WEIGHTS
    with np.load(path) as arrays:
        weights = dict(arrays)
    np.savez(path, **{**weights, "gru_kernel": weights["gru_kernel"].astype(dtype)})
    if dtype == np.float16:
        assert TextEncoder.load(str(tmp_path / "t")).encode(["red petals"]).dtype == np.float32
    else:
        with pytest.raises(ValueError, match=f"gru_kernel is {np.dtype(dtype)} .*expects float32"):
            TextEncoder.load(str(tmp_path / "t"))


# ---- --pretrained ----

TAKERS = {
    "edit": ["-m", "simgan_tf.edit", "--image=a.jpg", "--text=red", "--out=b.png"],
    "export": ["run_export.py"],
    "web": ["-m", "export.web", "--out_dir=site"],
}


@pytest.mark.parametrize("name", TAKERS)
def test_exactly_one_model(name):
    known = ", ".join(edit.pretrained_names()) or "none"
    for flags, message in (
        ([], f"neither is given: give --run_dir=RUN, what run_train.py wrote, or --pretrained=NAME, of: {known}."),
        (["--run_dir=r", "--pretrained=flowers"], "--run_dir=r and --pretrained=flowers are both given"),
        (["--pretrained=cars"], f"--pretrained='cars' is no model of this package; it has: {known}."),
        (["--pretrained=samples"], "--pretrained='samples' is no model of this package"),
        (["--pretrained=../pretrained/x"], "is no model of this package"),
    ):
        assert message in refused(*TAKERS[name], *flags)


def test_photographs():
    """Every one has a row with author and licence, and is small; six or more of each subject are on its page."""
    folder = os.path.dirname(web.CREDITS)
    found = sorted(name for name in content(folder) if name != "README.md")
    listed = {kind: web.photographs(kind) for kind in sorted({os.path.dirname(name) for name in found})}
    assert sorted(f"{kind}/{name}" for kind, rows in listed.items() for name, _, _ in rows) == found
    for name in found:
        with Image.open(os.path.join(folder, name)) as picture:
            assert (picture.format, picture.getexif()) == ("JPEG", {}) and 400 < max(picture.size) <= 512
        assert os.path.getsize(os.path.join(folder, name)) < 60_000
    for rows in listed.values():
        assert 6 <= len(rows) <= web.SAMPLES
        assert all(", by " in title and (", CC" in title or ", public domain" in title) for _, title, _ in rows)
    of = {"flowers64": "flowers", "flowers128": "flowers", "flowers-tagan": "flowers",
          "flowers-tagan128": "flowers", "birds": "birds",
          "birds256": "birds", "birds-tagan": "birds"}  # fmt: skip
    for model, subject in of.items():
        assert web.choose_samples(None, model) == (listed[subject], web.CREDITS)
    assert web.choose_samples(None, "cars") == (web.drawn_samples(), None)


@pytest.fixture(scope="module")
def installed(packed, tmp_path_factory) -> str:
    """A folder as `pip install --target` fills it, by setuptools itself from pyproject.toml; with a model `tiny`."""
    tomllib = pytest.importorskip("tomllib", reason="Python 3.10 reads no TOML")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    lib = tmp_path_factory.mktemp("lib")
    script = f"""if True:
        from setuptools import Distribution
        given = {dict(script_name="setup.py", packages=project["packages"], package_data=project["package-data"])!r}
        command = Distribution(given).get_command_obj("build_py")
        command.build_lib = {str(lib)!r}
        command.ensure_finalized()
        command.run()
    """
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    shutil.copytree(packed["generator_ema"], lib / "simgan_tf" / "pretrained" / "tiny")
    shutil.copyfile(ROOT / "run_export.py", lib / "run_export.py")  # is no part of the package
    return str(lib)


def test_installed_files(installed):
    """Each file of each model and sample, under its own name."""
    ours = content(ROOT / "simgan_tf" / "pretrained")
    theirs = content(os.path.join(installed, "simgan_tf", "pretrained"))
    assert {name: data for name, data in theirs.items() if not name.startswith("tiny/")} == ours
    assert "samples/README.md" in ours


def from_installed(installed, folder, *arguments):
    env = {**os.environ, "PYTHONPATH": installed}
    done = subprocess.run([sys.executable, *arguments], cwd=folder, env=env, capture_output=True, text=True,
                          timeout=300, check=False)  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.ci
@pytest.mark.slow
def test_installed_edit(installed, tmp_path):
    pixels, _ = painter.draw(demo.flowers()[3], 1, 40)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    said = from_installed(installed, tmp_path, "-m", "simgan_tf.edit", "--pretrained=tiny", "--image=a.png",
                          "--text=this flower has purple petals", "--out=b.png")  # fmt: skip
    assert "unknown to the model: purple" in said
    assert "wrote b.png, at step 7 of the model" in said and (tmp_path / "b.png").is_file()


@pytest.mark.ci
@pytest.mark.slow
def test_installed_page(installed, tmp_path, litert_dir):
    """One command from a model without a .tflite to a page with one, which nothing is left of in the package."""
    before = content(os.path.join(installed, "simgan_tf", "pretrained"))
    said = from_installed(installed, tmp_path, "-m", "export.web", "--pretrained=tiny", "--out_dir=site",
                          f"--litert={litert_dir}")  # fmt: skip
    assert "making the float16 .tflite of this model" in said and "model/simgan_float16.tflite" in said
    site = json.loads((tmp_path / "site" / "site.json").read_text())
    assert site["contract"]["step"] == 7 and site["sentences"] == list(CONFIG.sentences)
    assert site["litert"] == litert.wanted_version() and len(site["samples"]) == web.SAMPLES
    assert (tmp_path / "site" / site["model"]).stat().st_size == site["files"][site["model"]]
    assert content(os.path.join(installed, "simgan_tf", "pretrained")) == before


@pytest.mark.ci
@pytest.mark.slow
def test_page_with_photographs(packed, tmp_path, litert_dir):
    """The .tflite of another run may be taken; the photographs bring the file that names their authors."""
    made = tmp_path / "made"
    made.mkdir()
    model = web.make_model(packed["generator"], str(made), "float32")
    site = tmp_path / "site"
    facts = web.build(packed["generator"], str(site), tflite=model, litert_dir=litert_dir, pretrained="birds")
    assert [sample["file"] for sample in facts["samples"]] == [f"samples/{row[0]}" for row in web.photographs("birds")]
    assert facts["sentences"] == list(web.SENTENCES["birds"])
    assert (site / "samples" / "README.md").read_text() == pathlib.Path(web.CREDITS).read_text()
    with pytest.raises(ValueError, match="variants='float8' must be one or more of float32, float16"):
        web.build(packed["generator"], str(site), "float8", litert_dir=litert_dir, pretrained="birds")
    assert (site / "site.json").is_file()


@pytest.mark.ci
@pytest.mark.slow
def test_installed_export(installed, tmp_path):
    """Into the current folder, since the package may not be writable."""
    said = from_installed(installed, tmp_path, os.path.join(installed, "run_export.py"), "--pretrained=tiny",
                          "--formats=tflite", "--variants=float16")  # fmt: skip
    assert "against tiny at step 7" in said and "wrote export_tiny" in said
    assert sorted(os.listdir(tmp_path / "export_tiny")) == ["export.json", "simgan_float16.tflite"]
