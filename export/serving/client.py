"""Asks a server for an edit, over REST or gRPC, and writes the PNGs that it sends.
Knows the requests and no model. REST needs the standard library alone; gRPC needs tensorflow-serving-api, which needs
TensorFlow.

python -m export.serving.client --address=localhost:8501 --image=photo.jpg --text="this flower has purple petals" \
    --out=edit.jpg
"""

import base64
import http.client
import importlib.util
import json
import os
import re
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Any

from absl import flags

from simgan_tf.system import commands, files

MODEL = "simgan"
INSTALL = 'pip install "simgan-tf[serving]"'


def define_flags() -> None:
    flags.DEFINE_string("address", "localhost:8501", "HOST:PORT of the server; 8501 is REST's usual port, 8500 gRPC's.")
    flags.DEFINE_enum("protocol", "rest", ["rest", "grpc"], f"How to ask; grpc: {INSTALL}.")
    flags.DEFINE_string("image", None, "The picture to edit: JPEG, PNG or WebP.", required=True)
    flags.DEFINE_string("text", None, "What it should show, e.g. 'this flower has purple petals'.", required=True)
    flags.DEFINE_string("out", None, "Picture to write, .jpg of a JPEG, else .png; of several NAME.png becomes "
                        "NAME_1.png, NAME_2.png ...",
                        required=True)  # fmt: skip
    flags.DEFINE_integer("seed", 0, "0: the mean edit; any other: another edit each.",
                         lower_bound=-(2**31), upper_bound=2**31 - 64)  # fmt: skip
    flags.DEFINE_integer("samples", 1, "Different edits, of seeds SEED, SEED + 1 ...", lower_bound=1, upper_bound=64)
    flags.DEFINE_string("to_text", None, "Second sentence: interpolate from --text to it instead of sampling.")
    flags.DEFINE_integer("steps", 8, "Pictures of the interpolation.", lower_bound=2, upper_bound=64)
    flags.DEFINE_string("model", MODEL, "Name the server has the model under.")
    flags.DEFINE_float("timeout", 60.0, "Seconds to wait for the answer.", lower_bound=0.001)


JPEG = b"\xff\xd8\xff"  # how one begins


MAX_IMAGE = 2**26  # bytes, as the server takes them
MAX_ANSWER, MAX_ERROR = 2**29, 2**20  # bytes of an answer: 100 million pixels as PNG, in base64


class Failed(ValueError):
    """The server did not give the pictures; the message says why, in one line."""


def edit(address: str, protocol: str, image: bytes, text: str, seeds: list[int], *, model: str = MODEL,
         timeout: float = 60.0) -> list[bytes]:  # fmt: skip
    """The edited picture at its own size, one file a seed: JPEGs of a JPEG, else PNGs. Raises: Failed."""
    return edit_with_notes(address, protocol, image, text, seeds, model=model, timeout=timeout)[0]


def edit_with_notes(address: str, protocol: str, image: bytes, text: str, seeds: list[int], *, model: str = MODEL,
                    timeout: float = 60.0) -> tuple[list[bytes], list[str]]:  # fmt: skip
    """What `edit` gives, and the lines that a person should know of the sentence: what was not read or not understood.
    Raises: Failed."""
    count = len(seeds)
    inputs = {"image_bytes": [image] * count, "text": [text] * count, "seed": seeds}
    outputs = _ask(address, protocol, model, "serving_default", inputs, timeout)
    told = outputs["notes"][0]  # gRPC sends bytes
    return outputs["image_bytes"], (told.decode() if isinstance(told, bytes) else told).splitlines()


def interpolate(address: str, protocol: str, image: bytes, text: str, to_text: str, steps: int, seed: int = 0, *,
                model: str = MODEL, timeout: float = 60.0) -> list[bytes]:  # fmt: skip
    """PNG bytes, `steps` of them, from `text` to `to_text`, as small as the network works. Raises: Failed."""
    inputs = {"image_bytes": [image], "text": [text], "to_text": [to_text], "steps": [steps], "seed": [seed]}
    return [png for png in _ask(address, protocol, model, "interpolate", inputs, timeout)["png_bytes"][0] if png]


OUTPUTS = {"serving_default": ("image_bytes", "notes"), "interpolate": ("png_bytes",)}


def _ask(
    address: str, protocol: str, model: str, signature: str, inputs: dict[str, list], timeout: float
) -> dict[str, list]:
    """The outputs of the answer by name, a row each."""
    ask = _rest if protocol == "rest" else _grpc
    return ask(address, model, signature, inputs, timeout)


def _rest(address: str, model: str, signature: str, inputs: dict[str, list], timeout: float) -> dict[str, list]:
    rows = [
        {name: {"b64": base64.b64encode(value).decode()} if isinstance(value, bytes) else value
         for name, value in zip(inputs, row, strict=True)}
        for row in zip(*inputs.values(), strict=True)
    ]  # fmt: skip
    body = json.dumps({"signature_name": signature, "instances": rows}).encode()
    url = f"http://{address}/v1/models/{model}:predict"
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=timeout) as answer:
            body = answer.read(MAX_ANSWER + 1)
            if len(body) > MAX_ANSWER:
                raise ValueError(f"it sends over {MAX_ANSWER:,} bytes")
            made, names = json.loads(body)["predictions"], OUTPUTS[signature]
            if len(names) == 1:  # then the server leaves its name out
                made = [{names[0]: row} for row in made]
            outputs = {name: [_from_base64(row[name]) for row in made] for name in names}
            if not all(isinstance(value, (bytes, list)) for value in outputs[names[0]]):
                raise TypeError(f"{names[0]} is no picture")
            return outputs
    except urllib.error.HTTPError as error:
        with error:
            message = _rest_message(error.read(MAX_ERROR))
        if error.code == 404:
            raise Failed(_not_ready(address, model, message)) from error
        raise Failed(f"{address} refuses the request: {_told(message)}") from error
    except TimeoutError as error:
        raise Failed(_late(address, timeout)) from error
    except urllib.error.URLError as error:
        if isinstance(error.reason, TimeoutError):
            raise Failed(_late(address, timeout)) from error
        raise Failed(_down(address, error.reason)) from error
    except (http.client.HTTPException, ConnectionError) as error:
        raise Failed(f"{address} does not speak HTTP; for the gRPC port give --protocol=grpc") from error
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise Failed(f"{address} answers, but not as TensorFlow Serving does ({error})") from error


def _from_base64(value: Any) -> Any:
    if isinstance(value, list):
        return [_from_base64(part) for part in value]
    return base64.b64decode(value["b64"]) if isinstance(value, dict) else str(value)


def _rest_message(body: bytes) -> str:
    """What stands in {"error": ...}, or the beginning of another body."""
    try:
        return str(json.loads(body)["error"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return body[:200].decode(errors="replace")


def predict_request(model: str, signature: str, inputs: Mapping[str, Any]) -> Any:
    """A PredictRequest of tensorflow-serving-api; inputs: arrays, or lists of numbers, bytes or text, [B, ...].

    Raises: ImportError where that package is missing.
    """
    import tensorflow as tf
    from tensorflow_serving.apis import predict_pb2

    request = predict_pb2.PredictRequest()
    request.model_spec.name, request.model_spec.signature_name = model, signature
    for name, value in inputs.items():
        request.inputs[name].CopyFrom(tf.make_tensor_proto(value))
    return request


def _grpc(address: str, model: str, signature: str, inputs: dict[str, list], timeout: float) -> dict[str, list]:
    try:
        import grpc
        from tensorflow_serving.apis import prediction_service_pb2_grpc

        request = predict_request(model, signature, inputs)
    except ImportError as error:
        raise Failed(f"--protocol=grpc needs tensorflow-serving-api: {INSTALL}, or ask by --protocol=rest") from error
    unlimited = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
    with grpc.insecure_channel(address, unlimited) as channel:
        try:
            answer = prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict(request, timeout=timeout)
        except grpc.RpcError as error:
            code, message = error.code(), error.details() or ""
            if code == grpc.StatusCode.DEADLINE_EXCEEDED:
                raise Failed(_late(address, timeout)) from error
            if code == grpc.StatusCode.NOT_FOUND:
                raise Failed(_not_ready(address, model, message)) from error
            if code == grpc.StatusCode.UNAVAILABLE:
                raise Failed(_down(address, message)) from error
            raise Failed(f"{address} refuses the request: {_told(message)} ({code.name})") from error
    if missing := set(OUTPUTS[signature]) - set(answer.outputs):
        names = ", ".join(sorted(answer.outputs)) or "nothing"
        raise Failed(f"{address} answers, but sends no {', '.join(sorted(missing))}: it has {names}")
    import tensorflow as tf  # not above: where the package is missing, that is told without starting TensorFlow

    return {name: tf.make_ndarray(answer.outputs[name]).tolist() for name in OUTPUTS[signature]}


def _told(message: str) -> str:
    """The model's own words out of TensorFlow's message, or the first line of it."""
    found = re.search(r"assertion failed: \[(.*?)\](?:\s|$)", message, re.DOTALL)
    return found[1] if found else (message.strip().splitlines() or ["no reason given"])[0][:300]


def _down(address: str, reason: object) -> str:
    through = ""
    host = address.rpartition(":")[0]
    if urllib.request.getproxies().get("http") and not urllib.request.proxy_bypass(host):
        through = f"; it was asked through the proxy that http_proxy names: no_proxy={host} goes past it"
    return (f"no server at {address} ({str(reason)[:200]}); start it (docker compose up) or give another --address"
            f"{through}")  # fmt: skip


def _not_ready(address: str, model: str, message: str) -> str:
    return (f"{address} has no model {model!r} ready ({_told(message)}); wait until "
            f"http://HOST:8501/v1/models/{model} says AVAILABLE, or give another --model")  # fmt: skip


def _late(address: str, timeout: float) -> str:
    return f"no answer from {address} within {timeout:g} seconds; give a longer --timeout"


def main(argv: list[str]) -> None:
    values = flags.FLAGS
    if not values.text.strip():
        raise ValueError("--text is empty; say what the picture should show")
    image = files.read_regular(values.image, MAX_IMAGE, "no server takes it, make it smaller")
    jpeg = image.startswith(JPEG) and values.to_text is None
    if not values.out.lower().endswith((".jpg", ".jpeg") if jpeg else ".png"):
        kind, ending = ("a JPEG of this JPEG", ".jpg") if jpeg else ("PNGs here", ".png")
        raise ValueError(f"--out={values.out!r}: the server sends {kind}, so the name must end in {ending}")
    if values.protocol == "grpc" and importlib.util.find_spec("tensorflow_serving"):
        commands.start_tensorflow()  # quietly, since the messages import it
    common = {"model": values.model, "timeout": values.timeout}
    if values.to_text is not None:
        made = interpolate(values.address, values.protocol, image, values.text, values.to_text, values.steps,
                           values.seed, **common)  # fmt: skip
    else:
        seeds = [values.seed + i for i in range(values.samples)]
        made, lines = edit_with_notes(values.address, values.protocol, image, values.text, seeds, **common)
        for line in lines:
            print(f"note: {line}")
    stem, ending = os.path.splitext(values.out)
    paths = [values.out] if len(made) == 1 else [f"{stem}_{i}{ending}" for i in range(1, len(made) + 1)]
    for path, png in zip(paths, made, strict=True):
        with files.replacing(path) as temporary, open(temporary, "wb") as file:
            file.write(png)
    print(f"wrote {paths[0]}" + (f" to {paths[-1]}" if len(paths) > 1 else ""))


if __name__ == "__main__":
    commands.run(main, define_flags)
