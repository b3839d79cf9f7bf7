"""Rewrites a .tflite so that nothing stands in it twice; every number it computes stays as it was.
Works on any model, and without TensorFlow."""

import hashlib

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

ALIGNMENT = 16  # bytes; what the runtimes' vector units want of weights


def compact(model: bytes) -> bytes:
    """The same model with equal weights, scales and shapes written once and without the names of inner tensors.

    Signatures have their own names, so no client sees inner ones. Matters for small networks: three signatures are
    three graphs over one set of weights, and each graph repeats its scales and carries names.
    """
    tree = schema.ModelT.InitFromPackedBuf(model, 0)
    place = {b"": 0}  # digest of a buffer's bytes -> its number; buffer 0 is the empty one, by convention
    buffers = [schema.BufferT()]
    numbers = []
    for buffer in tree.buffers:
        if buffer.offset > 1:  # some tools write weights behind the tree
            buffer.data = np.frombuffer(model, np.uint8, buffer.size, buffer.offset)
            buffer.offset = buffer.size = 0
        digest = b"" if buffer.data is None or len(buffer.data) == 0 else hashlib.sha256(buffer.data).digest()
        if digest not in place:
            place[digest] = len(buffers)
            buffers.append(buffer)
        numbers.append(place[digest])
    tree.buffers = buffers
    for item in [*(tree.metadata or []), *(tensor for graph in tree.subgraphs for tensor in graph.tensors)]:
        item.buffer = numbers[item.buffer]
    for graph in tree.subgraphs:
        for number, tensor in enumerate(graph.tensors):
            if number not in graph.inputs and number not in graph.outputs:
                tensor.name = None
            if tensor.quantization is not None and tensor.quantization.scale is None:
                tensor.quantization = None  # the converter gives every float tensor an empty one
    builder = _Sharing(len(model))
    builder.Finish(tree.Pack(builder), b"TFL3")
    return bytes(builder.Output())


class _Sharing(flatbuffers.Builder):
    """Writes equal vectors and equal strings once; everything that was written once may be pointed to again."""

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self.places = {}

    def CreateNumpyVector(self, x: np.ndarray) -> int:
        key = (x.dtype.str, x.size, hashlib.sha256(np.ascontiguousarray(x)).digest())
        if key not in self.places:
            if x.nbytes >= ALIGNMENT:
                self.Prep(ALIGNMENT, x.nbytes)
            self.places[key] = super().CreateNumpyVector(x)
        return self.places[key]

    def CreateString(self, s: str | bytes, *how: str) -> int:
        if s not in self.places:
            self.places[s] = super().CreateString(s, *how)
        return self.places[s]
