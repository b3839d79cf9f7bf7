"""TensorFlow Serving's messages, the fields that are needed here, by protobuf alone: a client installs no TensorFlow.
Knows no model and no network; what goes over the wire is compared with tensorflow-serving-api's in the tests."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

PREDICT = "/tensorflow.serving.PredictionService/Predict"
FIELDS = {  # message -> name, number and type of its fields; * = repeated. A map is a repeated pair of key and value.
    "Dim": (("size", 1, "int64"),),
    "Shape": (("dim", 2, "*Dim"),),
    "Tensor": (("dtype", 1, "int32"), ("tensor_shape", 2, "Shape"), ("tensor_content", 4, "bytes"),
               ("float_val", 5, "*float"), ("int_val", 7, "*int32"), ("string_val", 8, "*bytes")),
    "Named": (("key", 1, "string"), ("value", 2, "Tensor")),
    "ModelSpec": (("name", 1, "string"), ("signature_name", 3, "string")),
    "PredictRequest": (("model_spec", 1, "ModelSpec"), ("inputs", 2, "*Named")),
    "PredictResponse": (("outputs", 1, "*Named"), ("model_spec", 2, "ModelSpec")),
    "PredictLog": (("request", 1, "PredictRequest"), ("response", 2, "PredictResponse")),
    "PredictionLog": (("predict_log", 6, "PredictLog"),),
}  # fmt: skip
STRING = 7  # of TensorFlow's DataType enum
DTYPES = {1: np.dtype("<f4"), 3: np.dtype("<i4")}
NUMBERS = {np.dtype(dtype.type): number for number, dtype in DTYPES.items()}


def _messages() -> dict[str, type]:
    kinds = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="simgan_serving.proto", package="simgan", syntax="proto3")
    for message, fields in FIELDS.items():
        described = file.message_type.add(name=message)
        for name, number, kind in fields:
            label = kinds.LABEL_REPEATED if kind.startswith("*") else kinds.LABEL_OPTIONAL
            kind = kind.removeprefix("*")
            if kind in FIELDS:
                described.field.add(name=name, number=number, label=label, type_name=f".simgan.{kind}",
                                    type=kinds.TYPE_MESSAGE)  # fmt: skip
            else:
                described.field.add(name=name, number=number, label=label, type=getattr(kinds, f"TYPE_{kind.upper()}"))
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"simgan.{name}")) for name in FIELDS}


MESSAGES = _messages()


def predict_request(model: str, signature: str, inputs: Mapping[str, Any]) -> bytes:
    """A PredictRequest; inputs: arrays of float32 or int32, or lists of bytes or text, [B, ...]."""
    return _request(model, signature, inputs).SerializeToString()


def prediction_log(model: str, signature: str, inputs: Mapping[str, Any]) -> bytes:
    """A PredictionLog of one request, as a server's warm-up file holds them."""
    log = MESSAGES["PredictionLog"]()
    log.predict_log.request.CopyFrom(_request(model, signature, inputs))
    return log.SerializeToString()


def read_log(data: bytes) -> tuple[str, str, dict[str, np.ndarray]]:
    """Model, signature and inputs of what `prediction_log` made."""
    request = MESSAGES["PredictionLog"].FromString(data).predict_log.request
    arrays = {named.key: _array(named.value) for named in request.inputs}
    return request.model_spec.name, request.model_spec.signature_name, arrays


def outputs(data: bytes) -> dict[str, np.ndarray]:
    """Arrays of a PredictResponse by output name; strings as bytes objects."""
    return {named.key: _array(named.value) for named in MESSAGES["PredictResponse"].FromString(data).outputs}


def _request(model: str, signature: str, inputs: Mapping[str, Any]) -> Any:
    request = MESSAGES["PredictRequest"]()
    request.model_spec.name, request.model_spec.signature_name = model, signature
    for name, value in inputs.items():
        tensor = request.inputs.add(key=name).value
        if isinstance(value, np.ndarray) and value.dtype in NUMBERS:
            tensor.dtype, tensor.tensor_content = NUMBERS[value.dtype], value.tobytes()
            shape = value.shape
        else:
            tensor.dtype, shape = STRING, (len(value),)
            tensor.string_val.extend(text.encode() if isinstance(text, str) else text for text in value)
        for size in shape:
            tensor.tensor_shape.dim.add(size=size)
    return request


def _array(tensor: Any) -> np.ndarray:
    shape = [dim.size for dim in tensor.tensor_shape.dim]
    if tensor.dtype == STRING:
        return np.array([*tensor.string_val, None], object)[:-1].reshape(shape)
    if tensor.dtype not in DTYPES:
        raise ValueError(f"the server sent numbers of type {tensor.dtype}, expected float32 or int32")
    if tensor.tensor_content:
        return np.frombuffer(tensor.tensor_content, DTYPES[tensor.dtype]).reshape(shape)
    values = tensor.float_val if DTYPES[tensor.dtype].kind == "f" else tensor.int_val
    count = int(np.prod(shape))
    values = np.array(values, DTYPES[tensor.dtype])  # the last one stands for all that are left out
    return np.pad(values, (0, count - len(values)), "edge" if len(values) else "constant").reshape(shape)
