"""Tests of export/ and run_export.py on a tiny untrained run with bent weights, through every loader."""

import json
import os
import zipfile

import keras
import numpy as np
import pytest
import tensorflow as tf

from data import records
from data.captions import ALPHABET
from export import export_run, parity, tflite
from export.serving import Bounds
from simgan_tf import training
from simgan_tf.edit import Editor
from tests.tiny import CONFIG, STEP, WORDS, make_run, other_encoder, refused, start, vse_encoder


@pytest.fixture(scope="module")
def run_dir(untrained_run) -> str:
    return untrained_run


@pytest.fixture(scope="module")
def editor(untrained) -> Editor:
    return untrained


@pytest.fixture(scope="module")
def inputs(editor) -> parity.Cases:
    return parity.cases(editor)


def test_cases_would_show_a_fault(inputs, editor):
    """The live edits use the range, and every input matters by far more than the limits."""
    assert len(inputs) == 8 and not inputs.noise[0].any() and inputs.noise[1:].all()
    assert np.abs(inputs.image).max() <= 1 and inputs.edited.std() > 0.1
    encode, edit = editor.text_encoder.encode, editor.method.edit
    image, embedding, noise = inputs.image, encode(inputs.text), inputs.noise
    for i, j, k in ((1, 0, 0), (0, 2, 0), (0, 0, 1)):
        other = edit(image[i : i + 1], embedding[j : j + 1], noise[k : k + 1])
        assert np.abs(other - inputs.edited[:1]).max() > 10 * parity.LIMITS[0]


def test_report(exported):
    with open(os.path.join(exported, "export.json"), encoding="utf-8") as file:
        report = json.load(file)
    assert sorted(os.listdir(exported)) == ["export.json", "saved_model", "simgan.tflite"]
    assert (report["step"], report["image_size"], report["embedding_size"], report["noise_size"]) == (STEP, 16, 6, 5)
    assert list(report["files"]) == ["saved_model/simgan/7", "simgan.tflite"]
    assert report["files"]["simgan.tflite"]["bytes"] == os.path.getsize(os.path.join(exported, "simgan.tflite"))
    served, on_device = (facts["checks"] for facts in report["files"].values())
    kinds = ("", ", JPEG", ", PNG")
    ways = [way + kind for way in ("classic Session", "C++ loader") for kind in kinds]
    assert list(served) == ["tf.saved_model.load", *ways]
    assert list(on_device) == ["LiteRT embed", "LiteRT embed + edit"]
    for name, check in (served | on_device).items():
        assert check["n"] == (4 if "PNG" in name or "JPEG" in name else 8)
        assert check["finite"] is True and name in export_run.table(report)
        # A tiny network stays far below LIMITS; a PNG's pixel may fall on the other side of a half.
        assert check["max_error"] <= (0.008 if "PNG" in name else 0.04 if "JPEG" in name else 2e-5)
        assert check["mean_error"] <= (2e-4 if "JPEG" in name else 1e-5 if "PNG" in name else 2e-6)


def test_tflite_contract_and_embedding(exported, editor):
    """A client that has only the file: tokenises by the packed words and rule, and gets phi."""
    from ai_edge_litert.interpreter import Interpreter

    path = os.path.join(exported, "simgan.tflite")
    with zipfile.ZipFile(path) as archive:
        words = archive.read("vocabulary.txt").decode().splitlines()
        contract = json.loads(archive.read("contract.json"))
    assert words == ["<pad>", "<unk>", *WORDS]
    assert contract["tokens"]["length"] == 9
    assert (contract["image"]["size"], contract["image"]["load_size"]) == (16, 20)
    assert "not" in contract["notes"]["negations"] and contract["notes"]["colours"]["red"] is None  # random: uncounted
    unknown = contract["tokens"]["unknown"]
    ids = [words.index(word) if word in words else unknown for word in "this odd flower has red".split()]
    tokens = np.array([ids + [contract["tokens"]["padding"]] * (9 - len(ids))], np.int32)
    assert tokens.tolist() == [[2, 1, 3, 4, 5, 0, 0, 0, 0]]
    interpreter = Interpreter(path)
    got = interpreter.get_signature_runner("embed")(tokens=tokens)["embedding"]
    np.testing.assert_allclose(got, editor.text_encoder.encode(["this odd flower has red"]), atol=1e-6)
    for name, signature in contract["signatures"].items():
        runner = interpreter.get_signature_runner(name)
        for side, details in (("inputs", runner.get_input_details()), ("outputs", runner.get_output_details())):
            found = {key: {"shape": value["shape"].tolist(), "dtype": np.dtype(value["dtype"]).name}
                     for key, value in details.items()}  # fmt: skip
            assert found == signature[side]


def test_tflite_has_only_built_in_ops(exported):
    from ai_edge_litert import schema_py_generated as schema

    with open(os.path.join(exported, "simgan.tflite"), "rb") as file:
        model = schema.Model.GetRootAs(file.read(), 0)
    codes = [model.OperatorCodes(i).BuiltinCode() for i in range(model.OperatorCodesLength())]
    assert schema.BuiltinOperator.CONV_2D in codes and schema.BuiltinOperator.TRANSPOSE_CONV in codes
    assert schema.BuiltinOperator.CUSTOM not in codes  # Flex ops are custom ones


@pytest.mark.ci
@pytest.mark.slow
def test_conversion_leaves_keras_as_it_was(tmp_path, editor, inputs, capfd):
    def state():
        return keras.backend.floatx(), keras.backend.image_data_format(), keras.mixed_precision.global_policy().name

    before = state()
    tflite.write_variants(editor, {"float32": str(tmp_path / "m.tflite")})
    assert state() == before
    embedding = tf.constant(editor.text_encoder.encode(inputs.text))
    again = editor.method.edit(inputs.image[:1], embedding[:1], inputs.noise[:1])
    np.testing.assert_array_equal(again, inputs.edited[:1])
    assert capfd.readouterr() == ("", "")
    assert os.listdir(tmp_path) == ["m.tflite"]


@pytest.mark.ci
@pytest.mark.slow
@pytest.mark.parametrize("kind, packed", [
    ("kiros", {"tokenisation": "spaces", "length": 12, "vocabulary": "vocabulary.txt", "padding": 0, "end": 1,
               "unknown": 2, "lower_case": True}),
    ("char_cnn_rnn", {"tokenisation": "characters", "length": 201, "alphabet": ALPHABET, "padding": 0, "unknown": 0}),
])  # fmt: skip
def test_other_text_encoders(tmp_path, kind, packed):
    """TFLite by the packed contract alone, against the live run."""
    editor = Editor(make_run(str(tmp_path / "run"), other_encoder(kind)))
    inputs = parity.cases(editor)
    apart = np.linalg.norm(np.diff(editor.text_encoder.encode(inputs.text), axis=0), axis=1)
    assert apart.min() > 0.01  # so that a sentence read wrongly would show
    words = [] if kind == "char_cnn_rnn" else ["vocabulary.txt"]
    tflite.write_variants(editor, {"float32": str(tmp_path / "m.tflite")})
    for check in parity.check_tflite(str(tmp_path / "m.tflite"), inputs, editor).values():
        assert check["max_error"] <= 5e-5
    with zipfile.ZipFile(tmp_path / "m.tflite") as archive:
        assert archive.namelist() == [*words, "contract.json"]
        contract = json.loads(archive.read("contract.json"))["tokens"]
    assert {key: contract[key] for key in packed} == packed and contract["rule"]
    assert ("vocabulary" in contract) == bool(words)


def test_a_changed_variable_fails_parity(exported, editor):
    """One moving variance of 8 values, 10 % off in the live model: each file is seen to differ, with the numbers."""
    variance = editor.method.generator.conv2.norm.variance
    kept = variance.numpy()
    variance.assign(kept * 1.1)
    changed = parity.cases(editor)
    variance.assign(kept)
    numbers = r"differs from the live model by \d\.\d\de-0[12] at most and \d\.\d\de-0[123] on average over 8 inputs"
    with pytest.raises(ValueError, match=f"TFLite embed \\+ edit: {numbers}; allowed are 1e-03 and 5e-05"):
        parity.check_tflite(os.path.join(exported, "simgan.tflite"), changed, editor)


@pytest.mark.ci
@pytest.mark.slow
def test_a_failed_check_leaves_the_old_export(tmp_path, run_dir, monkeypatch):
    """A word vector damaged while writing: no new export, and the one that was there stays as it was."""
    write = tflite.write_variants

    def faulty(editor, *rest):
        word_vectors = editor.text_encoder.variables[0]
        kept = word_vectors.numpy()
        word_vectors.assign(kept * np.nan)
        write(editor, *rest)
        word_vectors.assign(kept)

    monkeypatch.setattr(tflite, "write_variants", faulty)
    out_dir = tmp_path / "out"
    os.makedirs(out_dir)
    (out_dir / "export.json").write_text("before")
    with pytest.raises(ValueError, match=r"TFLite embed: 48 of 48 values are not finite; not exported\."):
        export_run.export(run_dir, str(out_dir), ["tflite"], None, "tests", ["float32"])
    assert os.listdir(tmp_path) == ["out"] and os.listdir(out_dir) == ["export.json"]
    assert (out_dir / "export.json").read_text() == "before"


def test_cases_from_records(tmp_path, editor):
    """Grey pictures of value 0, 51, 102 are images of -1, -0.6, -0.2; every second caption is bent."""

    def examples():
        for i in range(3):
            picture = tf.io.encode_png(tf.fill([24, 30, 3], tf.constant(51 * i, tf.uint8))).numpy()
            yield records.Example(picture, f"image_{i}", i + 1, (f"red flower {i}", "never used"))

    split = records.write_split(str(tmp_path), "test", examples(), 1)
    records.write_info(str(tmp_path), {"splits": {"test": split}, "shards": 1, "format_version": 1})
    found = parity.cases(editor, str(tmp_path))
    assert found.image.shape == (3, 16, 16, 3) and found.pictures == "first 3 test pictures of the records"
    expected = np.array([-1, -0.6, -0.2]).reshape(3, 1, 1, 1)
    np.testing.assert_allclose(found.image, np.broadcast_to(expected, found.image.shape), atol=1e-6)
    assert found.text == ["red flower 0", "RED, FLOWER, 1!", "red flower 2"]
    with pytest.raises(FileNotFoundError, match="dataset.json"):
        parity.cases(editor, str(tmp_path / "none"))


def test_compare():
    """Errors 0, 0, 0.3, 0.1: max 0.3, mean 0.1, mean square 0.025, PSNR 10 log10(4 / 0.025) = 22.04 dB."""
    expected = np.zeros([1, 4])
    got = np.array([[0, 0, 0.3, -0.1]])
    found = parity.compare("x", got, expected, (0.31, 0.11))
    assert found["max_error"] == pytest.approx(0.3) and found["mean_error"] == pytest.approx(0.1)
    assert found["psnr_db"] == 22.0 and found["n"] == 1
    assert parity.compare("x", expected, expected, (0.0, 0.0))["psnr_db"] is None
    with pytest.raises(ValueError, match="x: differs .* 3.00e-01 at most and 1.00e-01 on average.* 2e-01 "):
        parity.compare("x", got, expected, (0.2, 0.2))
    with pytest.raises(ValueError, match="1.00e-01 on average"):
        parity.compare("x", got, expected, (0.4, 0.09))
    with pytest.raises(ValueError, match="2 of 4 values are not finite"):
        parity.compare("x", np.array([[0, np.nan, np.inf, 0]]), expected, (9.0, 9.0))
    with pytest.raises(ValueError, match=r"shape \[1, 3\], the live model \[1, 4\]"):
        parity.compare("x", got[:, :3], expected, (9.0, 9.0))


@pytest.mark.ci
@pytest.mark.slow
def test_a_model_that_edits_the_object_alone_is_served_within_chosen_bounds(tmp_path):
    """Both files give the live edits, or the export refuses itself. Of a longer photograph, found as a whole, the
    server makes what the editor makes; and one row of pixels beyond the export's bounds it refuses."""
    run_dir = make_run(str(tmp_path / "run"), vse_encoder(), outlined="birds", dilation=2)
    export_run.export(run_dir, str(tmp_path / "out"), list(export_run.FORMATS), None, "tests", ["float32"],
                      bounds=Bounds(pixels=6000, aspect=3))  # fmt: skip
    y, x = np.mgrid[0:40, 0:70]
    photograph = np.stack([x * 3, y * 6, 255 - x * 2], axis=-1).astype(np.uint8)
    served = tf.saved_model.load(str(tmp_path / "out" / "saved_model" / "simgan" / str(STEP))).signatures
    text, seed = tf.constant(["this flower has red petals"]), tf.constant([0])

    def ask(signature, pixels, **others):
        encoded = tf.io.encode_png(pixels)[None]
        return served[signature](image_bytes=encoded, text=text, seed=seed, **others)

    made = tf.io.decode_png(ask("serving_default", photograph)["image_bytes"][0]).numpy()
    wanted = Editor(run_dir)(photograph, "this flower has red petals")
    assert made.shape == (40, 70, 3) and np.abs(made.astype(int) - wanted).max() <= 2
    assert np.abs(wanted.astype(int) - photograph).max() > 8
    for pixels, words in ((np.zeros([61, 50, 3], np.uint8), "50x61, over 3,000 pixels"),
                          (np.zeros([10, 31, 3], np.uint8), "one side may be 3 times the other")):  # fmt: skip
        for signature, others in (("serving_default", {}), ("interpolate", {"to_text": text, "steps": seed + 2})):
            with pytest.raises(tf.errors.InvalidArgumentError, match=words):
                ask(signature, pixels, **others)


@pytest.mark.ci
@pytest.mark.slow
def test_command(tmp_path, run_dir):
    """The whole command: nothing on stderr but the progress bar, a table, and a second export replaces the first."""
    out_dir = tmp_path / "out"
    os.makedirs(out_dir / "saved_model" / "1")
    (out_dir / "export.json").write_text(json.dumps({"step": 1}))
    done = start("run_export.py", f"--run_dir={run_dir}", f"--out_dir={out_dir}", "--formats=tflite",
                 "--variants=float32")  # fmt: skip
    shown = done.stderr.replace("\r", "\n").splitlines()
    assert [line for line in shown if line.strip() and not line.startswith("exporting")] == []
    assert "LiteRT embed + edit" in done.stdout and "in place of the export of step 1" in done.stdout
    assert sorted(os.listdir(tmp_path)) == ["out"] and sorted(os.listdir(out_dir)) == ["export.json", "simgan.tflite"]


def test_bad_input_is_one_line(tmp_path, run_dir, editor):
    os.makedirs(tmp_path / "full")
    (tmp_path / "full" / "thesis.txt").write_text("mine")
    for arguments, message in (
        ([f"--run_dir={tmp_path}/no"], "/no' is no run directory"),
        ([f"--run_dir={run_dir}", "--formats=saved_model,onnx"], "onnx' must be one or more of saved_model, tflite"),
        ([f"--run_dir={run_dir}", f"--out_dir={tmp_path}/full"], "exists and is no export"),
        ([f"--run_dir={run_dir}", "--variants=int8"], "variants=int8 takes its ranges from training pictures"),
        ([f"--run_dir={run_dir}", "--max_pixels=50000001"], "max_pixels=50,000,001 must be 64 to 50,000,000"),
        ([f"--run_dir={run_dir}", "--max_aspect=41"], "max_aspect=41 must be 1 to 40"),
    ):
        assert message in refused("run_export.py", *arguments)
    assert (tmp_path / "full" / "thesis.txt").read_text() == "mine"
    fresh = str(tmp_path / "fresh")
    editor.text_encoder.save(os.path.join(fresh, "text_encoder"))
    training.write_config(fresh, CONFIG, {"fingerprint": "none"}, editor.text_encoder.fingerprint)
    with pytest.raises(FileNotFoundError, match="has no checkpoint yet: train it"):
        export_run.export(fresh, str(tmp_path / "out"), ["tflite"], None, "tests")
    assert not [name for name in os.listdir(tmp_path) if "out" in name]
