"""The trained generator and its text encoder as .tflite files for devices, with vocabulary and contract inside.
Their quality and speed are measured in parity.py and devices.py."""

import json
import os
import tempfile
import zipfile
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from export import compact, device_example, saved_model, variants
from simgan_tf.edit import Editor
from simgan_tf.text import notes, tokens
from simgan_tf.text.released_tokens import Characters, Dictionary, from_contract

CONTRACT = "contract.json"
VOCABULARY = saved_model.VOCABULARY


def file_name(variant: str) -> str:
    """The name that a variant has in an export."""
    return "simgan.tflite" if variant == "float32" else f"simgan_{variant}.tflite"


def write_variants(
    editor: Editor,
    paths: Mapping[str, str],
    samples: Mapping[str, np.ndarray] | None = None,
    stage: Callable[[str], None] = lambda name: None,
) -> None:
    """Writes a .tflite a variant (of `variants.VARIANTS`), batch 1 and built-in ops only.

    Each has three signatures, which share one set of weights:
    embed: tokens [1, T] int32 -> embedding [1, D] float32.
    edit: image [1, S, S, 3], embedding [1, D], noise [1, Z], all float32 -> edited [1, S, S, 3] float32.
    manipulate: image [1, S, S, 3] uint8, tokens [1, T] int32, noise [1, Z] float32 -> edited [1, S, S, 3] uint8.
    A method that draws no noise has no such input.
    vocabulary.txt (of an encoder that reads words) and contract.json are appended as a zip archive, which interpreters
    do not look at.

    paths: variant -> file. samples: what int8 is calibrated on, see `quantise.activation_ranges`. stage: called with
    the variant before its conversion.
    Raises: ValueError where a conversion fails; its file and the later ones are then not there.
    """
    folder = os.path.dirname(os.path.abspath(next(iter(paths.values()))))
    with tempfile.TemporaryDirectory(prefix=".tflite-", dir=folder) as scratch:
        built, float_model = os.path.join(scratch, "built"), os.path.join(scratch, "float32")
        saved_model.save(saved_model.raw_module(editor), built, signatures(editor))
        samples_path = None
        if samples is not None:
            samples_path = os.path.join(scratch, "samples.npz")
            np.savez(samples_path, **samples)
        for variant, path in paths.items():
            stage(variant)
            if not os.path.exists(float_model) and variant in ("float32", *variants.FROM_FLOAT):
                variants.convert("float32", built, float_model)
            converted = os.path.join(scratch, variant)
            if variant != "float32":
                source = float_model if variant in variants.FROM_FLOAT else built
                variants.convert(variant, source, converted, samples_path if variant in variants.CALIBRATED else None)
            with open(converted, "rb") as file:
                small = compact.compact(file.read())
            finished = os.path.join(scratch, "finished")
            with open(finished, "wb") as file:
                file.write(small)
            _append(finished, editor, variant)
            os.rename(finished, path)


def signatures(editor: Editor) -> dict[str, Callable]:
    """The tf.functions of a .tflite, by name; see `write_variants`."""
    size, encoder, method = editor.config.image_size, editor.text_encoder, editor.method
    tokens = tf.TensorSpec([1, encoder.length], tf.int32, "tokens")
    image = tf.TensorSpec([1, size, size, 3], tf.float32, "image")
    pixels = tf.TensorSpec([1, size, size, 3], tf.uint8, "image")
    embedding = tf.TensorSpec([1, method.embedding_size], tf.float32, "embedding")
    noise = tf.TensorSpec([1, method.noise_size], tf.float32, "noise")

    def embed(tokens: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"embedding": method.embed(tokens)}

    def edit(image: tf.Tensor, embedding: tf.Tensor, noise: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"edited": method.edit(image, embedding, noise)}

    def manipulate(image: tf.Tensor, tokens: tf.Tensor, noise: tf.Tensor) -> dict[str, tf.Tensor]:
        # A step that changes nothing. Without it the converter would multiply phi's scale into the dense kernels that
        # follow, and the file would hold those kernels twice, here scaled and in `edit` as they are.
        embedding = tf.minimum(method.embed(tokens), tf.float32.max)
        edited = method.edit(tf.cast(image, tf.float32) / 127.5 - 1.0, embedding, noise)
        return {"edited": tf.cast(tf.round((edited + 1.0) * 127.5), tf.uint8)}

    specs = {"embed": (embed, [tokens]), "edit": (edit, [image, embedding, noise]),
             "manipulate": (manipulate, [pixels, tokens, noise])}  # fmt: skip
    if not method.noise_size:  # then there is no such input: runtimes know no tensor without numbers
        nothing = tf.zeros([1, 0])
        specs["edit"] = (lambda image, embedding: edit(image, embedding, nothing), [image, embedding])
        specs["manipulate"] = (lambda image, tokens: manipulate(image, tokens, nothing), [pixels, tokens])
    return {name: tf.function(each, input_signature=spec, autograph=False) for name, (each, spec) in specs.items()}


def _append(path: str, editor: Editor, variant: str) -> None:
    """Appends the zip archive with vocabulary and contract."""
    vocabulary = editor.text_encoder.vocabulary
    with zipfile.ZipFile(path, "a") as archive:
        # ZipInfo's fixed date instead of the clock's: equal runs give equal files.
        if vocabulary.in_file:
            words = path + ".words"
            vocabulary.save(words)
            with open(words, "rb") as file:
                archive.writestr(zipfile.ZipInfo(VOCABULARY), file.read())
        archive.writestr(zipfile.ZipInfo(CONTRACT), json.dumps(contract(editor, variant), indent=1) + "\n")


def contract(editor: Editor, variant: str = "float32") -> dict[str, Any]:
    """What a client must know to feed the .tflite, as plain JSON values."""
    config, encoder, method = editor.config, editor.text_encoder, editor.method

    def tensor(dtype: str, *shape: int) -> dict[str, Any]:
        return {"shape": [1, *shape], "dtype": dtype}

    image = tensor("float32", config.image_size, config.image_size, 3)
    pixels = tensor("uint8", config.image_size, config.image_size, 3)
    embedding = tensor("float32", method.embedding_size)
    noise = {"noise": tensor("float32", method.noise_size)} if method.noise_size else {}
    tokens = tensor("int32", encoder.length)
    whole = ("edit it in size x size squares along the longer side, at even distances from multiples of 4, later ones "
             "fading in where two overlap; carry the change up to the picture's own size, see simgan_tf/carry.py"
             if editor.keeps_picture else
             "edit its central size x size square, which is the result: the model draws the picture anew")  # fmt: skip
    return {
        "format_version": 1,
        "method": config.method,
        "keeps_picture": editor.keeps_picture,
        "step": editor.step,
        "variant": variant,
        "quantisation": variants.VARIANTS[variant],
        "image": {
            "size": config.image_size,
            "load_size": config.load_size,
            "preparation": "scale the whole picture, RGB, bilinear with antialiasing, so that its shorter side is size "
                           f"and both are multiples of 4; {whole}",
            "range": [-1.0, 1.0],
            "from_pixels": "image = pixels / 127.5 - 1",
            "to_pixels": "pixels = min(255, max(0, round((edited + 1) * 127.5)))",
        },
        "tokens": {
            "length": encoder.length,
            **({"vocabulary": VOCABULARY} if encoder.vocabulary.in_file else {}),
            **encoder.vocabulary.contract,
        },
        "notes": notes.contract(encoder),
        "noise": "zeros give the mean edit; independent standard normal numbers give another one each draw; a model "
                 "whose signatures have no noise gives one edit",
        "signatures": {
            "embed": {"inputs": {"tokens": tokens}, "outputs": {"embedding": embedding}},
            "edit": {"inputs": {"image": image, "embedding": embedding, **noise}, "outputs": {"edited": image}},
            "manipulate": {"inputs": {"image": pixels, "tokens": tokens, **noise},
                           "outputs": {"edited": pixels}},
        },
    }  # fmt: skip


def read_contract(path: str) -> tuple[dict[str, Any], tokens.Vocabulary | Dictionary | Characters]:
    """Contract and maker of tokens from inside a .tflite. Raises: ValueError where the file carries none."""
    facts, vocabulary = device_example.unpack_contract(path)
    with tempfile.TemporaryDirectory() as scratch:
        name = os.path.join(scratch, VOCABULARY)
        with open(name, "wb") as file:
            file.write(vocabulary or b"")
        return facts, from_contract(facts["tokens"], name if vocabulary is not None else None)
