"""Compares a SavedModel with the live model in the ways a server runs it: C++ loader, classic Session, warm-up, ops."""

import dataclasses
import functools
import io
import os
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from PIL import Image

from export import cpp_loader, parity, saved_model
from export.serving import carrying, deployment, reading
from simgan_tf.edit import Editor
from simgan_tf.system import commands
from simgan_tf.system.pictures import to_pixels
from simgan_tf.system.quiet import quiet
from simgan_tf.text.shown import is_known

LEVEL = 2 / 255  # between two neighbouring pixel values, on the scale of [-1, 1]
# Largest and mean difference from the live float32 model: of the edit's values, and of the PNGs' pixels. Measured:
# 2.3e-6 and 2.1e-7 in the trained demo run, 1.6e-5 and 2.0e-6 at 256x256 with 16 untrained units; in bfloat16 1.3e-2
# and 1.4e-3, 3.5e-2 and 5.1e-3.
LIMITS = {"float32": ((1e-4, 1e-5), (1.01 * LEVEL, 0.01 * LEVEL)), "bfloat16": ((0.25, 0.02), (0.25, 0.02))}
# A pixel that is off by one before it is written may come back off by more; of bfloat16 the pixels' own limits hold.
JPEG_LIMITS = {"float32": (8.01 * LEVEL, 0.1 * LEVEL), "bfloat16": LIMITS["bfloat16"][1]}

Arrays = Mapping[str, Any]


def check(directory: str, editor: Editor, inputs: parity.Cases, compute: str = "float32") -> dict[str, Any]:
    """`parity.compare` for each way of running it ("checks"), limits, and how many kinds of ops and warm-up requests.

    Raises: ValueError where a loader fails or differs from the live model by more than LIMITS, an op is outside of
    TensorFlow's C++ library, or a warm-up request fails.
    """
    values, pixels = LIMITS[compute]
    inputs = accepted(editor, inputs)
    encoded, seeds, expected = file_cases(editor, inputs)
    request = {"image_bytes": encoded, "text": inputs.text, "seed": seeds}
    way, edited = "tf.saved_model.load", python_loader(directory, inputs)
    results = {way: parity.compare(f"SavedModel by {way}", edited, inputs.edited, values)}
    session = Session(directory)
    (embedding,) = session.run("embed", text=inputs.text).values()
    noise = {"noise": inputs.noise} if inputs.noise.shape[1] else {}
    edit_inputs = {"image": inputs.image, "embedding": embedding, **noise}
    runs = [("edit", edit_inputs), (saved_model.SIGNATURE, request)]
    ways = {"classic Session": [session.run(name, **arrays) for name, arrays in runs],
            "C++ loader": run_cpp_loader(directory, runs)}  # fmt: skip
    for way, (edited, served) in ways.items():
        results[way] = parity.compare(f"SavedModel by {way}", edited["image"], inputs.edited, values)
        jpegs, pngs = slice(0, None, 2), slice(1, None, 2)
        for kind, rows, limits in (("JPEG", jpegs, JPEG_LIMITS[compute]), ("PNG", pngs, pixels)):
            if expected[rows]:
                pictures, wanted = decoded(served["image_bytes"][rows]), decoded(expected[rows])
                results[f"{way}, {kind}"] = parity.compare(f"{kind} by {way}", pictures, wanted, limits)
    return {
        "compute": compute,
        "limits": dict(zip(("max_error", "mean_error"), values, strict=True)),
        "checks": results,
        "kinds_of_ops": ops(directory),
        "warm_up_requests": warmup(session),
    }


def accepted(editor: Editor, inputs: parity.Cases) -> parity.Cases:
    """The inputs whose sentence is not refused. Raises: ValueError where none is left."""
    rows = [i for i, text in enumerate(inputs.text) if is_known(text, editor.text_encoder)]
    if not rows:
        raise ValueError(f"the text encoder knows no word of {inputs.text[0]!r}, nor of the check's other sentences")
    parts = {name: getattr(inputs, name)[rows] for name in ("image", "noise", "edited")}
    return dataclasses.replace(inputs, text=[inputs.text[i] for i in rows], **parts)


def file_cases(editor: Editor, inputs: parity.Cases) -> tuple[list[bytes], np.ndarray, list[bytes]]:
    """The pictures of `inputs` as files, JPEG and PNG in turns, seeds from 0, and files of the live model's edits.

    The files are larger than the trained size and longer than high, so that an edit is made in two squares and has to
    be carried up to its picture.
    """
    size, as_file = editor.config.image_size, {}
    as_file[0] = functools.partial(tf.io.encode_jpeg, quality=95, chroma_downsampling=False)
    as_file[1] = tf.io.encode_png
    encoded, edited = [], []
    for i, pixels in enumerate(to_pixels(inputs.image)):
        larger = tf.cast(tf.round(tf.image.resize(pixels, [3 * size // 2, 2 * size])), tf.uint8)
        encoded.append(as_file[i % 2](larger))
    for seed, (data, text) in enumerate(zip(encoded, inputs.text, strict=True)):
        pixels = tf.io.decode_image(data, channels=3, expand_animations=False)
        small = reading.small(pixels, size)
        small = small if editor.keeps_picture else reading.square(small, size)
        noise = editor.draw_noise(2, [seed, 0])[1:] * float(seed != 0)
        code = tf.constant(editor.method.encode([text]))
        made = carrying.in_squares(small, size, lambda x, c=code, n=noise: editor.method.edit(x[None], c, n))[0]
        whole = carrying.carry(pixels, small, made) if editor.keeps_picture else saved_model.to_pixels(made)
        edited.append(as_file[seed % 2](whole))
    rows = np.arange(len(encoded), dtype=np.int32)
    return [data.numpy() for data in encoded], rows, [data.numpy() for data in edited]


def decoded(encoded: Sequence[bytes]) -> np.ndarray:
    """[n, H, W, 3] on the scale of [-1, 1] of n files of one size."""
    return np.stack([np.asarray(Image.open(io.BytesIO(data))) for data in encoded]) / 127.5 - 1.0


def python_loader(directory: str, inputs: parity.Cases) -> np.ndarray:
    """Edits by embed and edit, in batches of 1, 3 and the rest: the batch size must be free."""
    served = tf.saved_model.load(directory).signatures
    edited = []
    for part in (slice(0, 1), slice(1, 4), slice(4, None)):
        if inputs.text[part]:
            embedding = served["embed"](text=tf.constant(inputs.text[part]))["embedding"]
            noise = {"noise": tf.constant(inputs.noise[part])} if inputs.noise.shape[1] else {}
            edited.append(served["edit"](image=tf.constant(inputs.image[part]), embedding=embedding, **noise)["image"])
    return np.concatenate(edited)


class Session:
    """The SavedModel in TensorFlow 1's Session, as TensorFlow Serving holds it."""

    def __init__(self, directory: str) -> None:
        self.directory = directory
        with quiet():
            self.session = tf.compat.v1.Session(graph=tf.Graph())
            with self.session.graph.as_default():
                loaded = tf.compat.v1.saved_model.load(self.session, [tf.saved_model.SERVING], directory)
        self.signatures = loaded.signature_def

    def run(self, signature: str, **inputs: Any) -> dict[str, np.ndarray]:
        """Outputs of one signature. Raises: tf.errors.OpError, ValueError or TypeError for a bad request."""
        definition = self.signatures[signature]
        feeds = {definition.inputs[name].name: value for name, value in inputs.items()}
        return self.session.run({name: info.name for name, info in definition.outputs.items()}, feeds)


def run_cpp_loader(directory: str, runs: list[tuple[str, Arrays]]) -> list[dict[str, np.ndarray]]:
    """Outputs of (signature, inputs) pairs through TensorFlow's C++ loader, in a process without Python TensorFlow.

    Raises: ValueError with its message.
    """
    with tempfile.TemporaryDirectory() as scratch:
        arguments, out_paths = [], []
        for i, (signature, inputs) in enumerate(runs):
            paths = [os.path.join(scratch, f"{i}_{side}.npz") for side in ("in", "out")]
            cpp_loader.write_npz(paths[0], inputs)
            arguments += [signature, *paths]
            out_paths.append(paths[1])
        _cpp_loader(directory, *arguments)
        return [cpp_loader.read_npz(path) for path in out_paths]


def ops(directory: str) -> int:
    """Kinds of ops in the SavedModel. Raises: ValueError for one that TensorFlow's C++ library cannot run by itself.

    That library is made of the same kernels that TensorFlow Serving links (//tensorflow/core:all_kernels).
    """
    lines = [line.split() for line in _cpp_loader(directory).splitlines()]
    foreign = [name for name, state in lines if state != "kernel"]
    if foreign:
        raise ValueError(f"SavedModel has ops that TensorFlow Serving has not: {', '.join(foreign)}; not exported.")
    return len(lines)


def warmup(session: Session) -> int:
    """Runs the warm-up requests; gives their number, 0 where there are none.

    Raises: ValueError where one fails: the server would not start.
    """
    path = os.path.join(session.directory, deployment.WARMUP)
    if not os.path.exists(path):
        return 0
    from tensorflow_serving.apis import prediction_log_pb2  # installed: it wrote them

    logs = [prediction_log_pb2.PredictionLog.FromString(record.numpy()) for record in tf.data.TFRecordDataset(path)]
    requests = [log.predict_log.request for log in logs]
    for request in requests:
        signature = request.model_spec.signature_name
        try:
            session.run(signature, **{name: tf.make_ndarray(tensor) for name, tensor in request.inputs.items()})
        except (tf.errors.OpError, ValueError, TypeError) as error:
            raise ValueError(f"warm-up request of {signature} fails ({error}); not exported.") from error
    return len(requests)


def _cpp_loader(directory: str, *arguments: str) -> str:
    done, last = commands.start("export.cpp_loader", os.path.abspath(directory), *arguments)
    if done.returncode:
        raise ValueError(f"SavedModel by C++ loader: {last}; TensorFlow Serving would fail too; not exported.")
    return done.stdout
