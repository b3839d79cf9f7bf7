"""A stand-in for tensorflow_model_server, which no package registry has: its wire formats over the classic Session.

gRPC: tensorflow-serving-api's own PredictionService. REST: the V1 predict and model status calls. What it does not
have: versions, batching, warm-up, limits of size.
"""

import base64
import concurrent.futures
import contextlib
import http.server
import json
import threading
import time
from collections.abc import Iterator

import grpc
import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

from export.serving import checks

MISSING = "Servable not found for request: Latest({})"


class Refused(Exception):
    """code: of gRPC, by name."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class Double:
    """Serves one loaded SavedModel under one name. delay: seconds that each request takes longer."""

    def __init__(self, session: checks.Session, name: str = "simgan", delay: float = 0.0) -> None:
        self.session, self.name, self.delay = session, name, delay

    def signature(self, model: str, signature: str):
        if model != self.name:
            raise Refused("NOT_FOUND", MISSING.format(model))
        found = self.session.signatures
        if signature not in found or signature.startswith("__"):
            raise Refused("FAILED_PRECONDITION", f'Serving signature key "{signature}" not found.')
        return found[signature]

    def predict(self, model: str, signature: str, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        definition = self.signature(model, signature)
        time.sleep(self.delay)
        if not set(inputs) <= set(definition.inputs):
            raise Refused("INVALID_ARGUMENT", f"input size does not match signature: {sorted(inputs)}")
        for name in set(definition.inputs) - set(inputs):  # the server feeds the signature's defaults itself
            if name not in definition.defaults:
                raise Refused("INVALID_ARGUMENT", f"Missing but required: {name}")
            inputs[name] = tf.make_ndarray(definition.defaults[name])
        try:
            return self.session.run(signature, **inputs)
        except (tf.errors.InvalidArgumentError, ValueError, TypeError) as error:
            raise Refused("INVALID_ARGUMENT", str(error)) from error


class Grpc(prediction_service_pb2_grpc.PredictionServiceServicer):
    def __init__(self, double: Double) -> None:
        self.double = double

    def Predict(self, request, context):  # noqa: N802
        try:
            inputs = {name: tf.make_ndarray(tensor) for name, tensor in request.inputs.items()}
            signature = request.model_spec.signature_name or "serving_default"
            made = self.double.predict(request.model_spec.name, signature, inputs)
        except Refused as error:
            context.abort(getattr(grpc.StatusCode, error.code), str(error))
        answer = predict_pb2.PredictResponse()
        for name, array in made.items():
            answer.outputs[name].CopyFrom(tf.make_tensor_proto(array))
        return answer


@contextlib.contextmanager
def grpc_server(double: Double) -> Iterator[str]:
    """Yields the address of a running gRPC server."""
    server = grpc.server(concurrent.futures.ThreadPoolExecutor(4), options=[("grpc.max_receive_message_length", -1)])
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(Grpc(double), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(None).wait()


@contextlib.contextmanager
def rest_server(double: Double) -> Iterator[str]:
    """Yields the address of a running REST server."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:  # noqa: N802
            known = self.path == f"/v1/models/{double.name}"
            state = {"version": "7", "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}
            self.answer(*((200, {"model_version_status": [state]}) if known else (404, {"error": "no such model"})))

        def do_POST(self) -> None:  # noqa: N802
            body = self.rfile.read(int(self.headers["Content-Length"]))
            try:
                model, _, verb = self.path.removeprefix("/v1/models/").partition(":")
                if verb != "predict":
                    raise Refused("NOT_FOUND", f"Malformed request: POST {self.path}")
                self.answer(200, {"predictions": self.predictions(model, body)})
            except Refused as error:
                self.answer(404 if error.code == "NOT_FOUND" else 400, {"error": str(error)})

        def predictions(self, model: str, body: bytes) -> list:
            """Rows in, rows out, as the server's json_tensor does it; it wants every input in every row."""
            try:
                request = json.loads(body)
                rows = request["instances"]
            except (ValueError, KeyError, TypeError) as error:
                raise Refused("INVALID_ARGUMENT", f"JSON Parse error: {error}") from error
            signature = request.get("signature_name", "serving_default")
            definition = double.signature(model, signature).inputs
            names = sorted(definition)
            for i, row in enumerate(rows):
                if not isinstance(row, dict) or sorted(row) != names:
                    raise Refused("INVALID_ARGUMENT", f"Failed to process element: {i} of 'instances' list. "
                                                      f"keys must be equal to: {','.join(names)}")  # fmt: skip
                for name in names:
                    if definition[name].dtype == tf.string and not isinstance(row[name], (str, dict)):
                        raise Refused("INVALID_ARGUMENT", f"JSON Value: {row[name]} is not of expected type: string")
            inputs = {name: [from_json(row[name]) for row in rows] for name in names}
            made = {name: [to_json(row, name) for row in rows]
                    for name, rows in double.predict(model, signature, inputs).items()}  # fmt: skip
            if len(made) == 1:  # a single output goes without its name
                return next(iter(made.values()))
            return [dict(zip(made, row, strict=True)) for row in zip(*made.values(), strict=True)]

        def answer(self, code: int, content: dict) -> None:
            body = json.dumps(content).encode()
            self.send_response(code)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            with contextlib.suppress(BrokenPipeError):  # a client that did not wait
                self.wfile.write(body)

        def log_message(self, *_) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def from_json(value):
    return base64.b64decode(value["b64"]) if isinstance(value, dict) else value


def to_json(value, name: str):
    """Numbers as they are; strings as {"b64": ...} where the output's name ends in _bytes."""
    if isinstance(value, bytes):
        return {"b64": base64.b64encode(value).decode()} if name.endswith("_bytes") else value.decode()
    if isinstance(value, np.ndarray):
        return [to_json(part, name) for part in value]
    return value.item()
