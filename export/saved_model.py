"""Generator and text encoder as one SavedModel for TensorFlow Serving: picture and sentence in, edited picture out.
Knows no run directory's layout, no data and no TFLite; measures nothing, that is parity.py's."""

import os
import tempfile
from collections.abc import Callable

import tensorflow as tf

from simgan_tf.edit import Editor
from simgan_tf.quiet import quiet

SIGNATURE = "serving_default"
VOCABULARY = "vocabulary.txt"


def write(editor: Editor, directory: str) -> None:
    """Writes a SavedModel with one signature, `serving_default`, to `directory`, which must not exist.

    Inputs: image [B, S, S, 3] float32 in [-1, 1]; text [B] string, UTF-8; noise [B, Z] float32, zeros = the mean edit.
    Output: edited [B, S, S, 3] float32 in [-1, 1]. B is free. The way from text to phi is in the graph; the vocabulary
    is an asset, which a text encoder that reads characters does not need.
    """
    size, encoder = editor.config.image_size, editor.text_encoder
    with tempfile.TemporaryDirectory(prefix=".saved_model-", dir=os.path.dirname(directory) or ".") as scratch:
        server = raw_module(editor)
        server.table = None
        if encoder.vocabulary.in_file:
            vocabulary = os.path.join(scratch, VOCABULARY)
            encoder.vocabulary.save(vocabulary)
            server.table = encoder.vocabulary.file_table(vocabulary)

        @tf.function(
            input_signature=[
                tf.TensorSpec([None, size, size, 3], tf.float32, "image"),
                tf.TensorSpec([None], tf.string, "text"),
                tf.TensorSpec([None, editor.config.ca_size], tf.float32, "noise"),
            ]
        )
        def serve(image: tf.Tensor, text: tf.Tensor, noise: tf.Tensor) -> dict[str, tf.Tensor]:
            return {"edited": editor.method.edit(image, encoder.graph(text, server.table), noise)}

        built = os.path.join(scratch, "built")
        save(server, built, {SIGNATURE: serve})
        os.rename(built, directory)  # away from its vocabulary, as every later user has it


def raw_module(editor: Editor) -> tf.Module:
    """A tf.Module that holds the raw variables of phi and of the generator, and nothing of Keras.

    Tracking a Keras 3 model instead gives a SavedModel whose functions read variables that the restore never fills: it
    works in Python, and fails in TensorFlow Serving and, as NaN, in TFLite. Exported functions reach the models by
    closure.
    """
    module = tf.Module()
    module.weights = [*editor.text_encoder.variables, *editor.method.variables()["generator"]]
    return module


def save(module: tf.Module, directory: str, signatures: dict[str, Callable]) -> None:
    """tf.saved_model.save without its log lines."""
    with quiet():
        tf.saved_model.save(module, directory, signatures=signatures)
