"""Tests of the .tflite variants: what is in the files, how they are measured and refused, the example for devices."""

import json
import os
import pathlib
import subprocess
import sys
import zipfile

import flatbuffers
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter
from PIL import Image

from data import painter, photo
from export import (
    compact,
    device_example,
    devices,
    export_run,
    on_device,
    parity,
    quantise,
    saved_model,
    tflite,
    variants,
)
from simgan_tf.edit import Editor
from tests.tiny import ROOT, make_run, other_encoder

NAMES = {name: value for name, value in vars(schema.BuiltinOperator).items() if isinstance(value, int)}
TYPES = {schema.TensorType.FLOAT32: "float32", schema.TensorType.FLOAT16: "float16", schema.TensorType.INT8: "int8"}


@pytest.fixture(scope="module")
def editor(untrained) -> Editor:
    return untrained


@pytest.fixture(scope="module")
def plain(exported) -> str:
    """float32 alone, for what can be said of one file; the others cost a conversion each."""
    return os.path.join(exported, "simgan.tflite")


@pytest.fixture(scope="module")
def held_out(editor) -> devices.Cases:
    return devices.cases(editor)


def samples(editor: Editor) -> dict[str, np.ndarray]:
    """Other pictures, sentences and noise than those of `held_out`."""
    made = devices.cases(editor, seed=5)
    return {"image": made.image, "tokens": made.tokens[::-1], "noise": made.noise}


@pytest.fixture(scope="module")
def files(editor, tmp_path_factory) -> dict[str, str]:
    """Every variant of the tiny run, calibrated on smooth random pictures."""
    folder = tmp_path_factory.mktemp("files")
    paths = {variant: str(folder / tflite.file_name(variant)) for variant in variants.VARIANTS}
    told = []
    tflite.write_variants(editor, paths, samples(editor), told.append)
    assert told == list(paths) and sorted(os.listdir(folder)) == sorted(map(os.path.basename, paths.values()))
    return paths


def tree_of(path: str) -> schema.ModelT:
    with open(path, "rb") as file:
        return schema.ModelT.InitFromPackedBuf(file.read(), 0)


def operations(tree: schema.ModelT, *names: str) -> list[tuple[schema.SubGraphT, schema.OperatorT]]:
    codes = [NAMES[name] for name in names]
    return [(graph, operator) for graph in tree.subgraphs for operator in graph.operators
            if tree.operatorCodes[operator.opcodeIndex].builtinCode in codes]  # fmt: skip


@pytest.mark.ci
@pytest.mark.slow
@pytest.mark.parametrize("variant", variants.VARIANTS)
def test_files_are_as_their_contract(files, variant):
    """Signatures, shapes and types by the runtime's own account; batch 1; built-in operations alone."""
    with zipfile.ZipFile(files[variant]) as archive:
        assert archive.namelist() == ["vocabulary.txt", "contract.json"]
        contract = json.loads(archive.read("contract.json"))
    assert contract["variant"] == variant and contract["quantisation"]
    assert list(contract["signatures"]) == ["embed", "edit", "manipulate"]
    assert contract["signatures"]["manipulate"] == {
        "inputs": {"image": {"shape": [1, 16, 16, 3], "dtype": "uint8"}, "tokens": {"shape": [1, 9], "dtype": "int32"},
                   "noise": {"shape": [1, 5], "dtype": "float32"}},
        "outputs": {"edited": {"shape": [1, 16, 16, 3], "dtype": "uint8"}},
    }  # fmt: skip
    interpreter = Interpreter(files[variant])
    assert sorted(interpreter.get_signature_list()) == ["edit", "embed", "manipulate"]
    for name, signature in contract["signatures"].items():
        runner = interpreter.get_signature_runner(name)
        for side, details in (("inputs", runner.get_input_details()), ("outputs", runner.get_output_details())):
            found = {key: {"shape": value["shape"].tolist(), "dtype": np.dtype(value["dtype"]).name}
                     for key, value in details.items()}  # fmt: skip
            assert found == signature[side]
    tree = tree_of(files[variant])
    assert NAMES["CUSTOM"] not in [code.builtinCode for code in tree.operatorCodes]  # Flex operations are custom ones


@pytest.mark.ci
@pytest.mark.slow
@pytest.mark.parametrize("variant, weights, activations", [
    ("float32", "float32", "float32"),
    ("float16", "float16", "float32"),
    ("dynamic_int8", "int8", "float32"),
    ("weight_int8", "int8", "float32"),
    ("int8", "int8", "int8"),
])  # fmt: skip
def test_numbers_of_each_variant(files, variant, weights, activations):
    """Types of the large kernels, found through a DEQUANTIZE where there is one, and of what goes into convolutions."""
    tree = tree_of(files[variant])
    found = set()
    for graph, operator in operations(tree, "CONV_2D"):
        kernel = graph.tensors[operator.inputs[1]]
        if np.prod(kernel.shape) < 1024:
            continue  # TensorFlow's converter leaves small ones as they are
        source = [other for other in graph.operators if operator.inputs[1] in other.outputs]
        stored = graph.tensors[source[0].inputs[0]] if source else kernel
        found.add((TYPES[stored.type], TYPES[graph.tensors[operator.inputs[0]].type]))
    assert found == {(weights, activations)}


@pytest.mark.ci
@pytest.mark.slow
def test_image_skip_runs_on_a_device(tmp_path, editor):
    run_dir = make_run(str(tmp_path), editor.text_encoder, image_skip="detail", decoder="resize")
    skipping, path = Editor(run_dir), str(tmp_path / "simgan.tflite")
    tflite.write_variants(skipping, {"float32": path})
    given = {name: value[:1] for name, value in samples(editor).items()}
    image = given["image"].astype(np.float32) / 127.5 - 1 if given["image"].dtype == np.uint8 else given["image"]
    embedding = skipping.text_encoder.encode_tokens(given["tokens"])
    expected = skipping.method.edit(image, embedding, given["noise"]).numpy()
    runner = Interpreter(path).get_signature_runner("edit")
    (found,) = runner(image=image, embedding=embedding, noise=given["noise"]).values()
    np.testing.assert_allclose(found, expected, atol=1e-4)
    plain = editor.method.edit(image, embedding, given["noise"]).numpy()
    assert np.abs(expected - plain).mean() > 0.01, "the switch does nothing here"


@pytest.mark.ci
@pytest.mark.slow
def test_signatures_share_their_weights(files):
    """No bytes twice in a file, and every large kernel of `edit` is read by `manipulate` too."""
    for path in files.values():
        tree = tree_of(path)
        data = [buffer.data.tobytes() for buffer in tree.buffers if buffer.data is not None]
        assert len(data) == len(set(data))
        used = {}
        for signature in tree.signatureDefs:
            graph = tree.subgraphs[signature.subgraphIndex]
            used[signature.signatureKey] = {
                tensor.buffer for tensor in graph.tensors
                if tree.buffers[tensor.buffer].data is not None and len(tree.buffers[tensor.buffer].data) >= 200
            }  # fmt: skip
        assert used[b"edit"] and used[b"edit"] <= used[b"manipulate"]


@pytest.mark.ci
@pytest.mark.slow
def test_weights_lie_where_vector_units_want_them(files):
    """Each buffer of 16 bytes or more begins at a multiple of 16 of the file."""
    for path in files.values():
        with open(path, "rb") as file:
            data = file.read()
        model = schema.Model.GetRootAs(data, 0)
        for i in range(model.BuffersLength()):
            vector = model.Buffers(i)
            if vector.DataLength() >= 16:
                assert vector._tab.Vector(vector._tab.Offset(4)) % 16 == 0  # field 0 of the table Buffer


@pytest.fixture(scope="module")
def raw(editor, tmp_path_factory) -> bytes:
    """float32 as TensorFlow's converter writes it."""
    folder = tmp_path_factory.mktemp("raw")
    saved_model.save(saved_model.raw_module(editor), str(folder / "built"), tflite.signatures(editor))
    variants.convert("float32", str(folder / "built"), str(folder / "raw"))
    return (folder / "raw").read_bytes()


@pytest.mark.ci
@pytest.mark.slow
def test_compact_changes_no_number(tmp_path, raw, held_out):
    """The converter's own bytes and the rewritten ones give the same bits."""
    small = compact.compact(raw)
    assert len(small) < 0.9 * len(raw) and compact.compact(small) == small
    inputs = {"image": held_out.image[:3], "tokens": held_out.tokens[:3], "noise": held_out.noise[:3]}
    (tmp_path / "raw").write_bytes(raw)
    (tmp_path / "small").write_bytes(small)
    before, after = (on_device.measure(str(tmp_path / name), inputs) for name in ("raw", "small"))
    for name in ("embedding", "edited", "manipulated"):
        np.testing.assert_array_equal(before[name], after[name])


@pytest.mark.ci
@pytest.mark.slow
def test_measures(files, held_out, editor):
    """float32 agrees with the live model to rounding; the others are worse in the order of what they give up."""
    quality, figures = {}, {}
    for variant, path in files.items():
        quality[variant], figures[variant] = devices.measure(path, held_out)
    assert quality["float32"]["max_error"] < 1e-4 and quality["float32"]["ssim"] == 1.0
    # Rounding to whole pixels is off by 1/2 at most, evenly spread: 10 log10(4 / ((2 / 255)^2 / 12)) = 58.9 dB.
    assert quality["float32"]["manipulate_psnr_db"] == pytest.approx(58.9, abs=0.5)
    psnr = {variant: found["psnr_db"] for variant, found in quality.items()}
    assert psnr["float16"] > 55 and psnr["weight_int8"] > 40 and psnr["dynamic_int8"] > 34 and psnr["int8"] > 30
    assert psnr["float32"] > psnr["float16"] > max(psnr["weight_int8"], psnr["dynamic_int8"]) > psnr["int8"]
    for found in figures.values():
        assert all(value > 0 for value in found.values())
    files_of = {name: {"bytes": 1, "times_weights": 1.0, "quality": quality[name], "device": figures[name]}
                for name in files}  # fmt: skip
    table = devices.table(files_of)
    assert table.count("\n") == 5 and str(psnr["int8"]) in table


def test_manipulate_is_embed_and_edit(plain, held_out):
    """Pixels of one signature beside the rounded result of the other two: at most one step of 256 apart."""
    interpreter = Interpreter(plain)
    embed, edit, manipulate = (interpreter.get_signature_runner(key) for key in variants.SIGNATURES)
    for i in range(4):
        image, tokens, noise = (array[i : i + 1] for array in (held_out.image, held_out.tokens, held_out.noise))
        edited = edit(image=(image / 127.5 - 1).astype(np.float32), embedding=embed(tokens=tokens)["embedding"],
                      noise=noise)["edited"]  # fmt: skip
        pixels = manipulate(image=image, tokens=tokens, noise=noise)["edited"]
        assert np.abs(pixels - np.round((edited + 1) * 127.5)).max() <= 1


@pytest.mark.ci
@pytest.mark.slow
def test_picture_operations(raw):
    """3 convolutions, the join and its convolution, 2 and a sum in the unit, 2 transposed ones, a last one; twice."""
    found = [operation for operation, _ in quantise.picture_operations(schema.ModelT.InitFromPackedBuf(raw, 0))]
    counts = {name: found.count(name) for name in set(found)}
    assert counts == {"CONV_2D": 2 * (3 + 1 + 2 + 1), "CONV_2D_TRANSPOSE": 2 * 2, "CONCATENATION": 2, "ADD": 2}


def test_tensors_get_names_of_their_own(plain):
    """Equal names are told apart, the first left as it is; a model whose names differ is not written anew."""
    model = pathlib.Path(plain).read_bytes()
    tree = schema.ModelT.InitFromPackedBuf(model, 0)
    graphs = tree.subgraphs
    for graph in graphs:
        for number, tensor in enumerate(graph.tensors):
            tensor.name = b"arg%d" % number

    def packed() -> bytes:
        builder = flatbuffers.Builder(len(model))
        builder.Finish(tree.Pack(builder), b"TFL3")
        return bytes(builder.Output())

    named, _ = quantise._named(packed())
    found = [tensor.name for graph in schema.ModelT.InitFromPackedBuf(named, 0).subgraphs for tensor in graph.tensors]
    assert len(found) == len(set(found)) == sum(len(graph.tensors) for graph in graphs) > len(graphs[0].tensors)
    assert found[: len(graphs[0].tensors)] == [tensor.name for tensor in graphs[0].tensors]
    for number, tensor in enumerate(tensor for graph in graphs for tensor in graph.tensors):
        tensor.name = b"%d" % number
    different = packed()
    assert quantise._named(different)[0] is different


def test_refusal():
    """The two figures at, and just beyond, their limits."""
    good = {"n": 32, "psnr_db": 30.0, "manipulate_psnr_db": None, "colour_lost": 0.02}
    assert devices.refusal(good) is None and devices.refusal({**good, "psnr_db": None}) is None
    assert devices.refusal({**good, "colour_lost": -0.3}) is None
    assert "PSNR 29.9 dB against the live model on 32 pictures, below 30" in devices.refusal({**good, "psnr_db": 29.9})
    assert "manipulate's PSNR 12 dB" in devices.refusal({**good, "manipulate_psnr_db": 12})
    assert "2.1 points of colour accuracy lost" in devices.refusal({**good, "colour_lost": 0.021})


def test_colours_are_read_inside_the_mask():
    """Red and blue flowers on yellow, asked to be red: one of two."""
    edited = np.empty([2, 8, 8, 3])
    edited[:] = np.array(painter.COLOURS["yellow"]) / 127.5 - 1
    masks = np.zeros([2, 8, 8], bool)
    masks[:, 2:5, 2:5] = True
    for i, name in enumerate(("red", "blue")):
        edited[i][masks[i]] = np.array(painter.COLOURS[name]) / 127.5 - 1
    empty = np.zeros([2, 1])
    held_out = devices.Cases(empty, empty, empty, edited, masks, np.array(["red", "red"]), "")
    assert devices._colour_accuracy(edited, held_out) == 0.5


def test_cases_and_calibration_from_records(path):
    """Test pictures are asked for another colour than theirs; training pictures calibrate, and only they."""
    editor = Editor(str(path / "run"))
    found = devices.cases(editor, str(path / "records"))
    assert found.pictures == "6 test pictures of the records"  # 2 classes x 3
    assert found.image.shape == (6, 16, 16, 3) and found.image.dtype == np.uint8 and not found.noise[0].any()
    assert set(found.wanted) <= set(painter.COLOURS) and found.masks.shape == (6, 16, 16)
    made = devices.calibration(editor, str(path / "records"))
    assert len(made["image"]) == len(made["tokens"]) == len(made["noise"]) == 24
    unseen = {picture.tobytes() for picture in found.image}
    assert not unseen & {picture.tobytes() for picture in made["image"]}
    with pytest.raises(ValueError, match="variants=int8 needs --records_dir"):
        devices.calibration(editor, None)


@pytest.mark.ci
@pytest.mark.slow
def test_a_poor_variant_is_refused(tmp_path, untrained_run, monkeypatch):
    """With a limit that no int8 reaches: one line with the figure and the way out, nothing written; --force writes."""
    monkeypatch.setattr(devices, "LEAST_PSNR", 80.0)
    out_dir, told = tmp_path / "out", ["float32", "weight_int8"]
    line = r"TFLite weight_int8 \(PSNR [45]\d\.\d dB against the live model on 32 pictures, below 80\): not exported\."
    with pytest.raises(ValueError, match=line) as refused:
        export_run.export(untrained_run, str(out_dir), ["tflite"], None, "tests", ["weight_int8"])
    assert "--force" in str(refused.value) and os.listdir(tmp_path) == []
    monkeypatch.setattr(devices, "LEAST_PSNR", 57.0)
    report = export_run.export(untrained_run, str(out_dir), ["tflite"], None, "tests", told, force=True)
    assert sorted(os.listdir(out_dir)) == ["export.json", "simgan.tflite", "simgan_weight_int8.tflite"]
    written = json.loads((out_dir / "export.json").read_text())["files"]
    assert written == report["files"] and "refused" not in written["simgan.tflite"]
    assert "below 57" in written["simgan_weight_int8.tflite"]["refused"]
    assert written["simgan.tflite"]["checks"]["LiteRT embed + edit"]["max_error"] < 1e-4


def test_a_failed_conversion_is_one_line(tmp_path):
    (tmp_path / "broken").write_bytes(b"no model")
    with pytest.raises(ValueError, match="TFLite weight_int8: the conversion ended with exit code 1: .*; not exported"):
        variants.convert("weight_int8", str(tmp_path / "broken"), str(tmp_path / "out"))
    assert os.listdir(tmp_path) == ["broken"]


def test_chosen_variants():
    """All that can be made without records, int8 with them; a wrong choice ends before TensorFlow starts."""
    assert variants.chosen(None, True, False) == ["float32", "float16", "dynamic_int8", "weight_int8"]
    assert variants.chosen(None, True, True)[-1] == "int8" and variants.chosen(None, False, True) == []
    assert variants.chosen(["float16"], True, False) == ["float16"]
    for arguments, message in (
        ((["float8"], True, True), "variants='float8' must be one or more of float32, float16, dynamic_int8"),
        (([], True, True), "variants='' must be one or more of"),
        ((["float32", "int8"], True, False), "variants=int8 takes its ranges from training pictures: give --records"),
        ((["float16"], False, True), "variants=float16 are kinds of .tflite: add tflite to --formats"),
    ):
        with pytest.raises(ValueError, match=message):
            variants.chosen(*arguments)


# ---- the example for devices ----

PICTURES = {"jpg": ("RGB", (70, 50)), "png": ("RGBA", (40, 90)), "gif": ("P", (33, 33)), "bmp": ("L", (300, 60))}


def picture(path: str, mode: str, size: tuple[int, int]) -> str:
    """A smooth picture with all of the mode's values."""
    x, y = np.meshgrid(np.linspace(0, 255, size[0]), np.linspace(0, 255, size[1]))
    pixels = np.stack([x, y, 255 - x, 128 + y / 4], axis=-1).astype(np.uint8)
    Image.fromarray(pixels, "RGBA").convert(mode).save(path)
    return path


def example(*arguments: str, blocked: str = "") -> subprocess.CompletedProcess:
    block = "".join(f"sys.modules['{name}'] = None; " for name in blocked.split())
    beside = [str(pathlib.Path(ROOT) / name) for name in ("simgan_tf", "simgan_tf/text")]
    here = f"sys.path[:0] = {beside!r}; " if "simgan_tf" in blocked else ""
    code = f"import sys; {block}{here}from export import device_example; device_example.main()"
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_example_without_tensorflow(tmp_path, plain, editor):
    """Where TensorFlow, Keras, absl and our package cannot be imported, two files beside it: the editor's own edit.

    Of a longer picture, which takes two squares, to two levels.
    """
    source, out = picture(str(tmp_path / "in.png"), "RGB", (70, 50)), tmp_path / "out.png"
    given = [f"--model={plain}", f"--image={source}", f"--out={out}"]
    done = example(*given, "--text=This flower has RED petals!", blocked="tensorflow keras absl simgan_tf data scipy")
    assert done.returncode == 0, done.stderr
    assert "70x50 pixels" in done.stdout
    live = editor(device_example.read_pixels(source), "this flower has red petals")
    assert np.abs(np.asarray(Image.open(out), int) - live).max() <= 2
    before = out.read_bytes()
    assert example(*given, "--text=red petals of this flower", "--seed=3").returncode == 0
    assert out.read_bytes() != before


@pytest.mark.parametrize("ending", PICTURES)
def test_example_reads_pictures_as_the_editor_does(tmp_path, ending):
    """Pixels of every mode: one step of 256 at most, which a transparent one is rounded by."""
    path = picture(str(tmp_path / f"in.{ending}"), *PICTURES[ending])
    assert np.abs(device_example.read_pixels(path).astype(int) - photo.read(path).seen).max() <= 1


@pytest.mark.parametrize("kind", ["vse", "kiros", "char_cnn_rnn"])
def test_example_makes_the_same_tokens(editor, kind):
    encoder = editor.text_encoder if kind == "vse" else other_encoder(kind)
    vocabulary, words = encoder.vocabulary, []
    if vocabulary.in_file:
        words = [*vocabulary.SPECIAL, *vocabulary.words]
    rule = {"length": encoder.length, **vocabulary.contract}
    odd = "caf\u00e9 red\u2014blue \ud800 red ."
    for text in ("this flower has red petals", "RED, flower! red", " a\tflower \n red ", odd, "red " * 300, "qq red z"):
        np.testing.assert_array_equal(device_example.tokenise(text, rule, words), encoder.tokens([text]))
    for text in ("", "   ", "\u3002"):
        with pytest.raises(ValueError, match="it has no word|no word of it is known"):
            device_example.tokenise(text, rule, words)


def test_example_refuses_in_one_line(tmp_path, plain):
    """What a person gives by mistake: one line, exit code 1, no file."""
    good = picture(str(tmp_path / "in.png"), "RGB", (40, 40))
    Image.new("1", (8000, 7000)).save(tmp_path / "large.png")
    Image.new("RGB", (300, 4)).save(tmp_path / "thin.png")
    (tmp_path / "text.png").write_text("no picture")
    (tmp_path / "cut.png").write_bytes((tmp_path / "in.png").read_bytes()[:90])
    with open(plain, "rb") as file:
        model = file.read()
    (tmp_path / "bare.tflite").write_bytes(model[: model.index(b"PK\x03\x04")])
    (tmp_path / "other.tflite").write_bytes(b"junk" + model[model.index(b"PK\x03\x04") :])
    before = sorted(os.listdir(tmp_path))
    for change, message in (
        ({"image": str(tmp_path / "text.png")}, "text.png is no picture that is read here; give a file of JPEG, PNG"),
        ({"image": str(tmp_path / "cut.png")}, "cut.png is no picture that can be used"),
        ({"image": str(tmp_path / "large.png")}, "8000x7000 pixels; accepted are up to 50,000,000"),
        ({"image": str(tmp_path / "thin.png")}, "300x4 pixels; accepted are"),
        ({"image": str(tmp_path / "none.png")}, "there is no such file"),
        ({"text": ""}, "it has no word"),
        ({"text": "qqqq"}, "no word of it is known"),
        ({"model": str(tmp_path / "bare.tflite")}, "bare.tflite carries no contract"),
        ({"model": str(tmp_path / "in.png")}, "in.png carries no contract"),
        ({"model": str(tmp_path / "other.tflite")}, "other.tflite does not run"),
        ({"out": str(tmp_path / "out.tiff")}, "must end in .png or .jpg"),
        ({"seed": "-1"}, "seed=-1 must be 0 or more"),
    ):
        given = {"model": plain, "image": good, "text": "red", "out": str(tmp_path / "out.png"), **change}
        done = example(*(f"--{name}={value}" for name, value in given.items()))
        assert done.returncode == 1 and done.stdout == "", message
        assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1, done.stderr
        assert message in done.stderr
    assert sorted(os.listdir(tmp_path)) == before


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["kiros", "char_cnn_rnn"])
def test_variants_of_other_text_encoders(tmp_path, kind):
    editor = Editor(make_run(str(tmp_path / "run"), other_encoder(kind)))
    paths = {variant: str(tmp_path / tflite.file_name(variant)) for variant in variants.VARIANTS}
    tflite.write_variants(editor, paths, samples(editor))
    held_out = devices.cases(editor)
    for path in paths.values():
        # Random weights make phi depend on every bit; trained ones are far better.
        assert devices.measure(path, held_out)[0]["psnr_db"] > 25, path


@pytest.mark.slow
@pytest.mark.parametrize("variant, psnr", [("float32", 110.0), ("int8", 30.0)])
def test_on_arm(tmp_path, files, held_out, variant, psnr):
    """The files under emulated ARM64 beside the live model; says nothing of a board's speed.

    SIMGAN_ARM64 names a folder with qemu/ (Debian 13's qemu-user, unpacked), root/ (an arm64 Debian with python3.11)
    and site/ (aarch64 wheels of ai-edge-litert and numpy, unpacked). qemu-user 7 crashes at the first run.
    """
    folder = os.environ.get("SIMGAN_ARM64")
    if not folder:
        pytest.skip("no emulator: SIMGAN_ARM64 names no folder with qemu/, root/ and site/")
    given, out = tmp_path / "in.npz", tmp_path / "out.npz"
    np.savez(given, image=held_out.image[:4], tokens=held_out.tokens[:4], noise=held_out.noise[:4])
    root = os.path.join(folder, "root")
    emulator, python = f"{folder}/qemu/usr/bin/qemu-aarch64", f"{root}/usr/bin/python3.11"
    command = [emulator, "-cpu", "cortex-a76", "-L", root, python, "-m", "export.on_device", files[variant], given, out]
    environment = {**os.environ, "PYTHONPATH": os.path.join(folder, "site")}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=900)
    assert done.returncode == 0, done.stderr
    with np.load(out) as made:
        anything = (np.inf, np.inf)
        assert parity.compare(variant, made["edited"], held_out.edited[:4], anything)["psnr_db"] > psnr
        pixels = made["manipulated"] / 127.5 - 1
        assert parity.compare(variant, pixels, held_out.edited[:4], anything)["psnr_db"] > min(psnr, 57.0)
