"""Tests of the SavedModel on a tiny untrained run with bent weights: signatures, loaders, op set, refusals."""

import io
import os

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageCms
from tensorflow.core.protobuf import saved_model_pb2

from data import photo
from export import cpp_loader, parity, saved_model
from export.serving import checks, client
from simgan_tf import carry, keras2
from simgan_tf.edit import Editor, small_picture
from simgan_tf.system.pictures import to_pixels
from tests.tiny import make_run, other_encoder, picture_files

TEXTS = ["this flower has red petals", "BLUE, flower!", "the petals are pink"]
RED, BLUE = "this flower has red petals", "this flower has blue petals"


@pytest.fixture(scope="module")
def editor(untrained) -> Editor:
    return untrained


@pytest.fixture(scope="module")
def directory(served) -> str:
    return served


@pytest.fixture(scope="module")
def session(served_session) -> checks.Session:
    return served_session


@pytest.fixture(scope="module")
def inputs(editor) -> parity.Cases:
    return parity.cases(editor)


@pytest.fixture(scope="module")
def cpp(directory) -> cpp_loader.SavedModel:
    """The C++ loader in this process, for many small requests; the gate itself runs in a process without TensorFlow."""
    return cpp_loader.SavedModel(directory)


def live(editor: Editor, data: bytes, embedding: np.ndarray, noise: np.ndarray, own: bool = True) -> np.ndarray:
    """Pixels of the live model's edit of one file at its own size, or as small as the network works."""
    source = photo.read(Image.open(io.BytesIO(data)))
    if own:
        return editor.edit_pixels(source, embedding, noise)
    size = editor.config.image_size
    small = small_picture(source.seen, size)
    code, noise = tf.constant(embedding[None]), noise[None]
    return to_pixels(carry.in_squares(small, size, lambda square: editor.method.edit(square[None], code, noise)[0]))


def pixels_of(png: bytes) -> np.ndarray:
    assert png.startswith(b"\x89PNG")
    return np.asarray(Image.open(io.BytesIO(png)))


def test_signatures(directory):
    """Names, shapes and types; batches are free; the vocabulary is an asset."""
    loaded = tf.saved_model.load(directory)
    specs = {name: signature.structured_input_signature[1] for name, signature in loaded.signatures.items()}
    found = {name: {key: (spec.shape.as_list(), spec.dtype.name) for key, spec in each.items()}
             for name, each in specs.items()}  # fmt: skip
    row, number = ([None], "string"), ([None], "int32")
    assert found == {
        "serving_default": {"image_bytes": row, "text": row, "seed": number},
        "edit": {"image": ([None, 16, 16, 3], "float32"), "embedding": ([None, 6], "float32"),
                 "noise": ([None, 5], "float32")},
        "embed": {"text": row},
        "interpolate": {"image_bytes": row, "text": row, "to_text": row, "steps": number, "seed": number},
    }  # fmt: skip
    outputs = {name: sorted(signature.structured_outputs) for name, signature in loaded.signatures.items()}
    assert outputs == {"serving_default": ["image_bytes", "notes"], "edit": ["image"], "embed": ["embedding"],
                       "interpolate": ["png_bytes"]}  # fmt: skip
    assert os.listdir(os.path.join(directory, "assets")) == ["vocabulary.txt"]


def test_nothing_that_handles_strings_is_left_to_a_gpu(directory):
    """Loops over strings, words and encoded pictures carry the CPU's name in the file; the network carries none."""
    saved = saved_model_pb2.SavedModel()
    with open(os.path.join(directory, "saved_model.pb"), "rb") as file:
        saved.ParseFromString(file.read())
    nodes = [node for function in saved.meta_graphs[0].graph_def.library.function for node in function.node_def]
    words = ("Decode", "Encode", "ExtractJpeg", "StringSplit", "StringLower", "Substr", "LookupTable", "StringLength")
    of_strings = [node for node in nodes if node.op.startswith(words)]
    of_strings += [node for node in nodes if node.op.startswith("TensorList")
                   and node.attr["element_dtype"].type == tf.string.as_datatype_enum]  # fmt: skip
    assert len(of_strings) > 20
    assert not [(node.op, node.name) for node in of_strings if "CPU:0" not in node.device]
    assert [node for node in nodes if node.op == "Conv2D"] and not [
        node.name for node in nodes if node.op == "Conv2D" and node.device
    ]


@pytest.mark.parametrize("change, message", [
    ({"text": ["red " * 3000]}, "row 0: text has over 10,000 bytes"),
    ({"image_bytes": [b"\xff\xd8\xff" + b"x" * 2**26]}, "bytes in all, over 67,108,864"),
])  # fmt: skip
def test_requests_beyond_the_bounds_are_refused(session, change, message):
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        session.run(saved_model.SIGNATURE, **{"image_bytes": picture_files(1), "text": [RED], **change})


def test_no_weight_is_saved_twice(directory, editor):
    """phi's values stand in the variables, 4 bytes each, and every kernel of the folded generator once in the graph."""
    values = 4 * sum(int(np.prod(variable.shape)) for variable in editor.text_encoder.variables)
    data = os.path.join(directory, "variables", "variables.data-00000-of-00001")
    assert 0.9 * values <= os.path.getsize(data) < 1.2 * values + 5_000  # the object graph is in the same file
    with open(os.path.join(directory, "saved_model.pb"), "rb") as file:
        graph = file.read()
    kernels = [w for w in saved_model.folding.Folded(editor.method.network).weights if len(w.shape) > 1]
    assert len(kernels) == 3 + 1 + 2 + 2 + 1 + 2 and {graph.count(w.numpy().tobytes()) for w in kernels} == {1}


@pytest.mark.ci
@pytest.mark.slow
def test_same_pngs_by_every_loader(directory, editor, session):
    """Mixed sizes and formats in one batch, seeds 0, 5 and -3: equal bytes by all. At each picture's own size,
    two levels from the editor's; of a JPEG, from the editor's as a JPEG of the quality that it came with."""
    data, seeds = picture_files(3), np.array([0, 5, -3], np.int32)
    request = {"image_bytes": data, "text": TEXTS, "seed": seeds}
    by_session = session.run("serving_default", **request)["image_bytes"].tolist()
    (by_process,) = checks.run_cpp_loader(directory, [("serving_default", request)])
    assert by_process["image_bytes"].tolist() == by_session
    in_python = tf.saved_model.load(directory).signatures["serving_default"]
    made = in_python(image_bytes=tf.constant(data), text=tf.constant(TEXTS), seed=tf.constant(seeds))
    assert made["image_bytes"].numpy().tolist() == by_session
    for i, seed in enumerate(seeds):
        noise = editor.draw_noise(2, [seed, 0])[1] * (seed != 0)
        wanted = live(editor, data[i], editor.text_encoder.encode(TEXTS)[i], noise)
        found, jpeg = Image.open(io.BytesIO(by_session[i])), data[i].startswith(b"\xff\xd8")
        assert found.format == ("JPEG" if jpeg else "PNG")
        if jpeg:  # its pixels as the server decodes them, as a PNG: Pillow's decoder may differ by a level
            assert found.quantization == Image.open(io.BytesIO(data[i])).quantization
            buffer, whole = io.BytesIO(), tf.io.encode_png(tf.io.decode_jpeg(data[i], channels=3)).numpy()
            noted = live(editor, whole, editor.text_encoder.encode(TEXTS)[i], noise)
            one = {"image_bytes": [whole], "text": [TEXTS[i]], "seed": seeds[i : i + 1]}
            edited = Image.open(io.BytesIO(session.run("serving_default", **one)["image_bytes"].tolist()[0]))
            assert np.abs(np.asarray(edited).astype(int) - noted).max() <= 2
            edited.save(buffer, "JPEG", quality=75, subsampling="4:2:0")
            wanted = np.asarray(Image.open(buffer))
        apart = np.abs(np.asarray(found).astype(int) - wanted)
        assert apart.max() <= (12 if jpeg else 2) and apart.mean() < 1.5


def test_the_colour_profile_comes_back(session):
    """Of a JPEG and of a PNG; a picture without one gets none."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    data = []
    for kind, icc in (("JPEG", profile), ("PNG", profile), ("JPEG", None)):
        buffer = io.BytesIO()
        Image.new("RGB", (40, 30), (200, 90, 30)).save(buffer, kind, icc_profile=icc)
        data.append(buffer.getvalue())
    made = session.run("serving_default", image_bytes=data, text=TEXTS)["image_bytes"].tolist()
    assert [Image.open(io.BytesIO(file)).info.get("icc_profile") for file in made] == [profile, profile, None]


@pytest.mark.ci
@pytest.mark.slow
def test_seed_and_steps_may_be_left_out(session, cpp):
    data = picture_files(2)
    given = session.run("serving_default", image_bytes=data, text=TEXTS[:2], seed=[0, 0])["image_bytes"].tolist()
    assert session.run("serving_default", image_bytes=data, text=TEXTS[:2])["image_bytes"].tolist() == given
    assert session.run("serving_default", image_bytes=data, text=TEXTS[:2], seed=[0])["image_bytes"].tolist() == given
    made = cpp.run("serving_default", image_bytes=np.array([*data, None], object)[:-1], text=np.array(TEXTS[:2]))
    assert made["image_bytes"].tolist() == given
    assert session.run("interpolate", image_bytes=data[:1], text=[RED], to_text=[BLUE])["png_bytes"].shape == (1, 8)


def test_interpolation(editor, session):
    """phi mixed linearly from the first sentence to the last; rows with fewer steps end in empty strings."""
    data = picture_files(2)
    made = session.run("interpolate", image_bytes=data, text=[RED, BLUE], to_text=[BLUE, RED], steps=[3, 5],
                       seed=[0, 4])["png_bytes"]  # fmt: skip
    assert made.shape == (2, 5) and [len(png) > 0 for png in made[0]] == [True] * 3 + [False] * 2
    start, end = editor.text_encoder.encode([RED, BLUE])
    for i in range(3):
        mixed = np.float32((1 - i / 2) * start + i / 2 * end)
        wanted = live(editor, data[0], mixed, np.zeros(5, np.float32), own=False)
        assert np.abs(pixels_of(made[0][i]).astype(int) - wanted).max() <= 2
    noise = editor.draw_noise(2, [4, 0])[1]
    assert np.abs(pixels_of(made[1][4]).astype(int) - live(editor, data[1], start, noise, own=False)).max() <= 2


BAD_ROWS = [
    ({"image_bytes": b"not a picture"}, "row 1: image_bytes is no JPEG, PNG or WebP"),
    ({"image_bytes": b""}, "row 1: image_bytes is no JPEG, PNG or WebP"),
    ({"text": ""}, "row 1: text is empty"),
    ({"text": " \t\n"}, "row 1: text is empty"),
    ({"text": "quux \u3042"}, "row 1: no word of text is known to this model"),
    ({"text": b"\xff\xfe"}, "row 1: no word of text is known to this model"),
]


@pytest.mark.parametrize("change, message", BAD_ROWS, ids=[message for _, message in BAD_ROWS])
def test_bad_row_is_named_and_the_model_lives(session, cpp, change, message):
    """By both loaders: INVALID_ARGUMENT with the row, and the next good request is answered as before."""
    data = picture_files(3)
    good = {"image_bytes": data, "text": TEXTS}
    before = session.run("serving_default", **good)["image_bytes"].tolist()
    bad = {name: [values[0], change.get(name, values[1]), values[2]] for name, values in good.items()}
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        session.run("serving_default", **bad)
    with pytest.raises(ValueError, match=f"INVALID_ARGUMENT: .*{message}"):
        cpp.run("serving_default", **{name: np.array([*values, None], object)[:-1] for name, values in bad.items()})
    assert session.run("serving_default", **good)["image_bytes"].tolist() == before
    arrays = {name: np.array([*values, None], object)[:-1] for name, values in good.items()}
    assert cpp.run("serving_default", **arrays)["image_bytes"].tolist() == before


def test_bad_numbers_are_refused(cpp):
    """NaN, infinity, values of another scale, wrong shapes, types and counts: what a server is fed is not compared with
    the signature before it gets here."""
    image, embedding, noise = (np.zeros(shape, np.float32) for shape in ([2, 16, 16, 3], [2, 6], [2, 5]))
    good = {"image": image, "embedding": embedding, "noise": noise}
    before = cpp.run("edit", **good)["image"]

    def with_value(array, value):
        changed = array.copy()
        changed[(1, *[0] * (array.ndim - 1))] = value
        return changed

    for change, message in (
        ({"noise": with_value(noise, np.nan)}, "row 1: noise has values that are not finite"),
        ({"embedding": with_value(embedding, np.inf)}, "row 1: embedding has values that are not finite"),
        ({"image": with_value(image, -np.inf)}, "row 1: image has values that are not finite"),
        ({"image": with_value(image, 255.0)}, r"row 1: image has values outside of \[-1, 1\]"),
        ({"image": np.zeros([2, 32, 32, 3], np.float32)}, r"image is \[2, 32, 32, 3\], must be \[B, 16, 16, 3\]"),
        ({"image": np.zeros([16, 16, 3], np.float32)}, r"image is \[16, 16, 3\], must be \[B, 16, 16, 3\]"),
        ({"noise": np.zeros([2, 6], np.float32)}, r"noise is \[2, 6\], must be \[B, 5\]"),
        ({"noise": np.zeros([1, 5], np.float32)}, "noise has 1 rows, image has 2"),
        ({"noise": np.zeros([2, 5], np.int32)}, "float|int32"),
        ({"noise": np.array([["a"] * 5] * 2)}, "float|string"),
        ({name: array[:0] for name, array in good.items()}, "image has 0 rows, must have 1 to 64"),
        ({name: np.repeat(array, 33, 0) for name, array in good.items()}, "image has 66 rows, must have 1 to 64"),
    ):
        with pytest.raises(ValueError, match=f"INVALID_ARGUMENT: .*({message})"):
            cpp.run("edit", **good | change)
    np.testing.assert_array_equal(cpp.run("edit", **good)["image"], before)


def test_bad_lists_are_refused(cpp):
    data = np.array([*picture_files(2), None], object)[:-1]
    good = {"image_bytes": data, "text": np.array([RED, BLUE])}
    ways = {**good, "to_text": np.array([BLUE, RED])}
    number = np.array([0], np.int32)
    for signature, request, message in (
        ("serving_default", good | {"text": np.array([RED])}, "text has 1 rows, image_bytes has 2"),
        ("serving_default", good | {"seed": np.zeros(3, np.int32)}, "seed has 3 rows, image_bytes has 2"),
        ("serving_default", good | {"seed": np.zeros([2, 1], np.int32)}, r"seed is \[2, 1\], must be \[B\]"),
        ("serving_default", good | {"image_bytes": data[:, None]}, r"image_bytes is \[2, 1\], must be \[B\]"),
        ("serving_default", {name: np.repeat(rows, 33) for name, rows in good.items()}, "image_bytes has 66 rows"),
        ("serving_default", {name: rows[:0] for name, rows in good.items()}, "image_bytes has 0 rows"),
        ("serving_default", good | {"seed": np.zeros(2, np.float32)}, "int32|float"),
        ("embed", {"text": np.array(RED)}, r"text is \[\], must be \[B\]"),
        ("interpolate", ways | {"steps": number + 1}, "row 0: steps must be 2 to 64"),
        ("interpolate", ways | {"steps": np.array([2, 65], np.int32)}, "row 1: steps must be 2 to 64"),
        ("interpolate", {name: np.repeat(rows, 3) for name, rows in ways.items()} | {"steps": number + 43},
         "steps add up to 258, may be 256"),
        ("interpolate", ways | {"to_text": np.array([RED, ""])}, "row 1: to_text is empty"),
    ):
        with pytest.raises(ValueError, match=f"INVALID_ARGUMENT: .*({message})"):
            cpp.run(signature, **request)
    with pytest.raises(ValueError, match="no signature predict; there are edit, embed, interpolate, serving_default"):
        cpp.run("predict", **good)
    assert cpp.run("embed", text=np.array([RED]))["embedding"].shape == (1, 6)


@pytest.mark.ci
@pytest.mark.slow
def test_bfloat16(tmp_path, editor, inputs):
    """Half of the generator's bytes, and near the float32 edits; phi stays as it is."""
    path = str(tmp_path / "made")
    folded = saved_model.write(editor, path, "bfloat16")
    assert {weight.dtype for weight in folded.weights} == {tf.bfloat16, tf.float32}
    session = checks.Session(path)
    embedding = session.run("embed", text=inputs.text)["embedding"]
    np.testing.assert_allclose(embedding, editor.text_encoder.encode(inputs.text), atol=1e-5)
    edited = session.run("edit", image=inputs.image, embedding=embedding, noise=inputs.noise)["image"]
    error = np.abs(edited - inputs.edited)
    assert 1e-4 < error.mean() < 0.05 * inputs.edited.std()


@pytest.mark.skipif(keras2.KERAS_2, reason="Keras 2's models may be tracked")
def test_cpp_loader_refuses_a_tracked_keras_model(tmp_path, editor, inputs):
    """The known wrong export passes tf.saved_model.load and must fail in the loader TensorFlow Serving uses."""
    wrong = tf.Module()
    wrong.layers = editor.method.network.layers  # the mistake: Keras objects inside the exported module
    specs = [tf.TensorSpec([None, 16, 16, 3], tf.float32), tf.TensorSpec([None, 6]), tf.TensorSpec([None, 5])]

    @tf.function(input_signature=specs)
    def edit(image, embedding, noise):
        return {"image": editor.method.network(image, embedding, noise)[0]}

    directory = str(tmp_path / "wrong")
    saved_model.save(wrong, directory, {"edit": edit})
    given = {"image": inputs.image, "embedding": editor.text_encoder.encode(inputs.text), "noise": inputs.noise}
    loaded = tf.saved_model.load(directory).signatures["edit"]
    made = loaded(**{name: tf.constant(array) for name, array in given.items()})
    np.testing.assert_allclose(made["image"], inputs.edited, atol=2e-5)
    with pytest.raises(ValueError, match="C\\+\\+ loader: error: .*(uninitialized|Could not find variable)"):
        checks.run_cpp_loader(directory, [("edit", given)])


def test_ops_of_python_are_seen(tmp_path, directory):
    """PyFunc is registered everywhere and has a kernel in the Python wheel alone."""
    assert checks.ops(directory) > 50
    found = cpp_loader.ops(directory)
    assert {"DecodeImage", "EncodePng", "Conv2D", "StatelessRandomNormalV2"} <= set(found) and all(found.values())
    assert not {"ReadFile", "WriteFile", "PrintV2"} & set(found)  # what saved_model_cli scan warns of
    module = tf.Module()
    spec = tf.TensorSpec([None], tf.float32)
    twice = tf.function(lambda x: {"y": tf.numpy_function(lambda y: 2 * y, [x], tf.float32)}, input_signature=[spec])
    saved_model.save(module, str(tmp_path / "python"), {"serving_default": twice})
    with pytest.raises(ValueError, match="ops that TensorFlow Serving has not: PyFunc; not exported"):
        checks.ops(str(tmp_path / "python"))


@pytest.mark.ci
@pytest.mark.slow
def test_a_changed_variable_fails_parity(directory, editor, inputs):
    """One moving variance of 8 values, 10 % off in the live model: the export is seen to differ, with the numbers."""
    variance = editor.method.generator.conv2.norm.variance
    kept = variance.numpy()
    variance.assign(kept * 1.1)
    changed = parity.cases(editor)
    variance.assign(kept)
    numbers = r"differs from the live model by \d\.\d\de-0[12] at most and \d\.\d\de-0[123] on average over 8 inputs"
    with pytest.raises(ValueError, match=f"SavedModel by tf.saved_model.load: {numbers}; allowed are 1e-04 and 1e-05"):
        checks.check(directory, editor, changed)


def test_a_failing_warm_up_is_seen(tmp_path, editor, directory, session):
    """A server whose warm-up fails does not serve the model at all."""
    apis = pytest.importorskip("tensorflow_serving.apis.prediction_log_pb2", reason="tensorflow-serving-api is needed")
    log = apis.PredictionLog()
    log.predict_log.request.CopyFrom(client.predict_request("simgan", "embed", {"text": [""]}))
    bad = tmp_path / "assets.extra"
    bad.mkdir()
    with tf.io.TFRecordWriter(str(bad / "tf_serving_warmup_requests")) as writer:
        writer.write(log.SerializeToString())
    kept, session.directory = session.directory, str(tmp_path)
    with pytest.raises(ValueError, match="(?s)warm-up request of embed fails .*row 0: text is empty"):
        checks.warmup(session)
    session.directory = kept
    assert checks.warmup(session) == 4


@pytest.mark.ci
@pytest.mark.slow
@pytest.mark.parametrize("kind", ["kiros", "char_cnn_rnn"])
def test_other_text_encoders(tmp_path, kind):
    """Words between spaces, and characters, which need no vocabulary; refusals included."""
    editor = Editor(make_run(str(tmp_path / "run"), other_encoder(kind)))
    path = tmp_path / "made"
    saved_model.write(editor, str(path))
    assets = path / "assets"
    assert (os.listdir(assets) if assets.exists() else []) == ([] if kind == "char_cnn_rnn" else ["vocabulary.txt"])
    session = checks.Session(str(path))
    known = checks.accepted(editor, parity.cases(editor)).text
    apart = np.linalg.norm(np.diff(editor.text_encoder.encode(known), axis=0), axis=1)
    assert len(known) >= 4 and apart.min() > 0.01  # so that a sentence read wrongly would show
    found = session.run("embed", text=known)["embedding"]
    np.testing.assert_allclose(found, editor.text_encoder.encode(known), atol=5e-5)
    for text, message in (("", "row 0: text is empty"), ("   ", "row 0: text is empty"), ("\u3042", "row 0: no word")):
        with pytest.raises(tf.errors.InvalidArgumentError, match=message):
            session.run("embed", text=[text])
