"""The trained generator and its text encoder as one float32 .tflite for devices, with vocabulary and contract inside.
Knows no run directory's layout and no data; measures nothing, that is parity.py's."""

import json
import os
import tempfile
import zipfile
from typing import Any

import tensorflow as tf

from export import saved_model
from simgan_tf.edit import Editor
from simgan_tf.quiet import quiet
from simgan_tf.text import tokens
from simgan_tf.text.released_tokens import Characters, Dictionary, from_contract

CONTRACT = "contract.json"
VOCABULARY = saved_model.VOCABULARY


def write(editor: Editor, path: str) -> None:
    """Writes a .tflite of batch 1 and built-in ops only; its two signatures share one set of weights.

    embed: tokens [1, T] int32 -> embedding [1, D] float32.
    edit: image [1, S, S, 3], embedding [1, D], noise [1, Z], all float32 -> edited [1, S, S, 3] float32.
    vocabulary.txt (of an encoder that reads words) and contract.json are appended as a zip archive, which interpreters
    do not look at.
    """
    size, encoder = editor.config.image_size, editor.text_encoder

    @tf.function(input_signature=[tf.TensorSpec([1, encoder.length], tf.int32, "tokens")])
    def embed(tokens: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"embedding": encoder.embed(tokens)}

    @tf.function(
        input_signature=[
            tf.TensorSpec([1, size, size, 3], tf.float32, "image"),
            tf.TensorSpec([1, encoder.dim], tf.float32, "embedding"),
            tf.TensorSpec([1, editor.config.ca_size], tf.float32, "noise"),
        ]
    )
    def edit(image: tf.Tensor, embedding: tf.Tensor, noise: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"edited": editor.method.edit(image, embedding, noise)}

    signatures = {"embed": embed, "edit": edit}
    with tempfile.TemporaryDirectory(prefix=".tflite-", dir=os.path.dirname(path) or ".") as scratch:
        built = os.path.join(scratch, "built")
        saved_model.save(saved_model.raw_module(editor), built, signatures)
        with quiet():
            converter = tf.lite.TFLiteConverter.from_saved_model(built, signature_keys=list(signatures))
            converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
            flatbuffer = converter.convert()

        vocabulary, model = os.path.join(scratch, VOCABULARY), os.path.join(scratch, "model")
        with open(model, "wb") as file:
            file.write(flatbuffer)
        with zipfile.ZipFile(model, "a") as archive:
            # ZipInfo's fixed date instead of the clock's: equal runs give equal files.
            if encoder.vocabulary.in_file:
                encoder.vocabulary.save(vocabulary)
                with open(vocabulary, "rb") as words:
                    archive.writestr(zipfile.ZipInfo(VOCABULARY), words.read())
            archive.writestr(zipfile.ZipInfo(CONTRACT), json.dumps(contract(editor), indent=2) + "\n")
        os.rename(model, path)


def contract(editor: Editor) -> dict[str, Any]:
    """What a client must know to feed the .tflite, as plain JSON values."""
    config, encoder = editor.config, editor.text_encoder
    image = [1, config.image_size, config.image_size, 3]
    embedding, noise = [1, encoder.dim], [1, config.ca_size]
    return {
        "format_version": 1,
        "method": config.method,
        "step": editor.step,
        "image": {
            "size": config.image_size,
            "load_size": config.load_size,
            "preparation": "scale the shorter side to load_size, aspect kept, bilinear with antialiasing; cut out the "
                           "central size x size pixels; RGB",
            "range": [-1.0, 1.0],
            "from_pixels": "image = pixels / 127.5 - 1",
            "to_pixels": "pixels = min(255, max(0, round((edited + 1) * 127.5)))",
        },
        "tokens": {
            "length": encoder.length,
            **({"vocabulary": VOCABULARY} if encoder.vocabulary.in_file else {}),
            **encoder.vocabulary.contract,
        },
        "noise": "zeros give the mean edit; independent standard normal numbers give another one each draw",
        "signatures": {
            "embed": {"inputs": {"tokens": {"shape": [1, encoder.length], "dtype": "int32"}},
                      "outputs": {"embedding": {"shape": embedding, "dtype": "float32"}}},
            "edit": {"inputs": {"image": {"shape": image, "dtype": "float32"},
                                "embedding": {"shape": embedding, "dtype": "float32"},
                                "noise": {"shape": noise, "dtype": "float32"}},
                     "outputs": {"edited": {"shape": image, "dtype": "float32"}}},
        },
    }  # fmt: skip


def read_contract(path: str) -> tuple[dict[str, Any], tokens.Vocabulary | Dictionary | Characters]:
    """Contract and maker of tokens from inside a .tflite. Raises: ValueError where the file carries none."""
    try:
        with zipfile.ZipFile(path) as archive, tempfile.TemporaryDirectory() as scratch:
            facts = json.loads(archive.read(CONTRACT))
            name = facts["tokens"].get("vocabulary")
            return facts, from_contract(facts["tokens"], name and archive.extract(name, scratch))
    except (KeyError, zipfile.BadZipFile) as error:
        raise ValueError(
            f"{path} carries no {CONTRACT} with its {VOCABULARY} ({error}); export it with run_export.py"
        ) from None
