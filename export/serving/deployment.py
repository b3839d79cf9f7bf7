"""What a server needs beside the SavedModel: warm-up requests, its configuration, and a compose file that starts it."""

import os

import numpy as np
import tensorflow as tf

from export import parity, saved_model
from export.serving import client, reading
from simgan_tf.edit import Editor
from simgan_tf.system import files
from simgan_tf.text.shown import is_known

MODEL = client.MODEL
WARMUP = os.path.join("assets.extra", "tf_serving_warmup_requests")

MODELS = f"""\
# What tensorflow_model_server --model_config_file= reads: the newest version below base_path is served.
model_config_list {{
  config {{
    name: "{MODEL}"
    base_path: "/models/{MODEL}"
    model_platform: "tensorflow"
  }}
}}
"""

BATCHING = f"""\
# What tensorflow_model_server --batching_parameters_file= reads. Requests of several clients then run as one batch,
# which is faster on a GPU; but a fault in one row fails all requests of its batch, so let only checked ones in. Give
# `seed` always: an input that is left out has one row, and the server wants as many of each. The model's limits count
# for the merged batch: {reading.MAX_ROWS} rows, and {saved_model.MOST_STEPS} for the sum of `steps` of all of them.
max_batch_size {{ value: {reading.MAX_ROWS} }}
batch_timeout_micros {{ value: 5000 }}
max_enqueued_batches {{ value: 64 }}
num_batch_threads {{ value: 2 }}
"""

COMPOSE = f"""\
# In this folder:   docker compose up
# Then:             curl localhost:8501/v1/models/{MODEL}        until it says AVAILABLE
#                   python -m export.serving.client --address=localhost:8501 --image=photo.jpg \\
#                       --text="this flower has purple petals" --out=edit.jpg
# A new version is a new folder {MODEL}/NUMBER/; the running server takes it up by itself.
services:
  {MODEL}:
    image: tensorflow/serving:{{version}}  # not older than the TensorFlow that exported the model; -gpu for NVIDIA
    command:
      - --model_config_file=/models/models.config
      - --rest_api_timeout_in_ms=60000
      # To run requests of several clients as one batch (read batching_parameters.txt first):
      # - --enable_batching=true
      # - --batching_parameters_file=/models/batching_parameters.txt
    volumes:
      - .:/models:ro
    ports:  # to this machine alone: the server knows no passwords
      - 127.0.0.1:8500:8500  # gRPC
      - 127.0.0.1:8501:8501  # REST
    restart: unless-stopped
"""


def write(editor: Editor, directory: str) -> None:
    """Writes the warm-up into the SavedModel `directory`, FOLDER/simgan/VERSION, and the other files into FOLDER.

    Without tensorflow-serving-api there is no warm-up, which a line says; the server then starts without one.
    """
    try:
        write_warmup(editor, directory)
    except ImportError:
        print(f"no warm-up requests, which need tensorflow-serving-api: {client.INSTALL}; the first request is slow")
    folder = os.path.dirname(os.path.dirname(directory))
    version = tf.__version__.partition("-")[0]
    for name, text in (("models.config", MODELS), ("batching_parameters.txt", BATCHING),
                       ("docker-compose.yml", COMPOSE.replace("{version}", version))):  # fmt: skip
        files.write_text(os.path.join(folder, name), text)


def write_warmup(editor: Editor, directory: str) -> None:
    """One request of each signature, which the server answers to itself before it takes the first real one.

    A request that fails would keep the server from loading the model; `checks.warmup` runs them all.
    Raises: ImportError where tensorflow-serving-api is missing.
    """
    from tensorflow_serving.apis import prediction_log_pb2

    size = editor.config.image_size
    image = parity.smooth_pictures(1, size, seed=0)
    text = [known_sentence(editor)]
    embedding = editor.method.encode(text)
    noise = {"noise": editor.draw_noise(1, [0, 0])} if editor.method.noise_size else {}
    picture = saved_model.to_png(tf.constant(image)).numpy().tolist()
    path = os.path.join(directory, WARMUP)
    os.makedirs(os.path.dirname(path))
    with tf.io.TFRecordWriter(path) as writer:
        for signature, inputs in (
            (saved_model.SIGNATURE, {"image_bytes": picture, "text": text, "seed": np.array([1], np.int32)}),
            ("edit", {"image": image, "embedding": embedding, **noise}),
            ("embed", {"text": text}),
            ("interpolate", {"image_bytes": picture, "text": text, "to_text": text, "steps": np.array([2], np.int32),
                             "seed": np.array([0], np.int32)}),
        ):  # fmt: skip
            log = prediction_log_pb2.PredictionLog()
            log.predict_log.request.CopyFrom(client.predict_request(MODEL, signature, inputs))
            writer.write(log.SerializeToString())


def known_sentence(editor: Editor) -> str:
    """A sentence that the run's text encoder does not refuse: of its sample sheet, or a single known word."""
    known = [text for text in editor.config.sentences if is_known(text, editor.text_encoder)]
    return known[0] if known else editor.text_encoder.vocabulary.words[0]
