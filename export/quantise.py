"""Weight-only and calibrated int8 out of a finished float32 .tflite, by the LiteRT quantizer.

TensorFlow's converter cannot do either: it has no weight-only int8, and calibrating a model that holds a WHILE
operation, as the GRU does, ends its process by a segmentation fault.
"""

import re
import warnings
from collections.abc import Iterator

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from litert_quantizer import quantizer

OPERATIONS = {  # of those a picture flows through, what is computed in int8; name in the file -> the quantizer's
    schema.BuiltinOperator.CONV_2D: "CONV_2D",
    schema.BuiltinOperator.TRANSPOSE_CONV: "CONV_2D_TRANSPOSE",
    schema.BuiltinOperator.CONCATENATION: "CONCATENATION",
    schema.BuiltinOperator.ADD: "ADD",
}
BITS = 8


def weights_int8(model: bytes) -> bytes:
    """`model` with its weights in int8, a scale a channel, and word vectors in int8, one scale; computed in float32."""
    named, tree = _named(model)
    recipe = quantizer.Quantizer(bytearray(named))
    recipe.add_weight_only_config(".*", "*", BITS)
    return _finish(recipe, tree, {})


def static_int8(model: bytes, samples: str) -> bytes:
    """`model` with int8 weights, and int8 activations wherever the picture flows; inputs and outputs stay as they are.

    The text encoder becomes dynamic int8. samples: as `activation_ranges` takes it.
    """
    named, tree = _named(model)
    recipe = quantizer.Quantizer(bytearray(named))
    recipe.add_dynamic_config(".*", "*", BITS)
    for operation, name in picture_operations(tree):
        recipe.add_static_config(_only(name), operation, BITS, BITS)
    return _finish(recipe, tree, activation_ranges(model, tree, samples))


def _named(model: bytes) -> tuple[bytes, schema.ModelT]:
    """`model` with a name of its own for each tensor, as the quantizer wants it, and the same as a tree.

    TensorFlow 2.15's converter calls the arguments of every WHILE's two graphs arg0, arg1 and so on.
    """
    tree, taken, again = schema.ModelT.InitFromPackedBuf(model, 0), set(), False
    for index, graph in enumerate(tree.subgraphs):
        for number, tensor in enumerate(graph.tensors):
            if tensor.name in taken:
                tensor.name, again = b"%s/%d/%d" % (tensor.name, index, number), True
            taken.add(tensor.name)
    if not again:
        return model, tree
    builder = flatbuffers.Builder(len(model))
    builder.Finish(tree.Pack(builder), b"TFL3")
    return bytes(builder.Output()), tree


def _finish(recipe: quantizer.Quantizer, tree: schema.ModelT, ranges: dict[str, dict[str, np.ndarray]]) -> bytes:
    """Quantises, word vectors too: the quantizer's own recipes leave the table that a GATHER reads in float32."""
    for graph in tree.subgraphs:
        for operator in graph.operators:
            table, output = graph.tensors[operator.inputs[0]], graph.tensors[operator.outputs[0]]
            vectors = tree.buffers[table.buffer].data
            is_gather = tree.operatorCodes[operator.opcodeIndex].builtinCode == schema.BuiltinOperator.GATHER
            if is_gather and vectors is not None and table.type == schema.TensorType.FLOAT32:
                vectors = vectors.view(np.float32)
                recipe.add_static_config(_only(output.name.decode()), "GATHER", BITS, BITS)
                ranges[output.name.decode()] = _range(len(output.shape), vectors.min(), vectors.max())
    return bytes(recipe.quantize(ranges, enable_progress_bar=False, enable_progress_report=False).quantized_model)


def picture_operations(tree: schema.ModelT) -> Iterator[tuple[str, str]]:
    """(operation, name of its output) of everything of OPERATIONS that lies behind the input `image`.

    A sum with a constant is left out: it is no layer but the step from [-1, 1] to pixels.
    """
    for signature in tree.signatureDefs:
        reached = {item.tensorIndex for item in signature.inputs if item.name == b"image"}
        graph = tree.subgraphs[signature.subgraphIndex]
        for operator in graph.operators:  # in the order in which they run
            inputs = [number in reached for number in operator.inputs]
            if not any(inputs):
                continue
            reached.update(operator.outputs.tolist())
            code = tree.operatorCodes[operator.opcodeIndex].builtinCode
            if code in OPERATIONS and (all(inputs) or code != schema.BuiltinOperator.ADD):
                yield OPERATIONS[code], graph.tensors[operator.outputs[0]].name.decode()


def activation_ranges(model: bytes, tree: schema.ModelT, samples: str) -> dict[str, dict[str, np.ndarray]]:
    """Smallest and largest value of each float activation of `edit` and `manipulate` over the samples, by its name.

    samples: an .npz of image [n, S, S, 3] uint8, tokens [n, T] int32, noise [n, Z] float32.
    Three digits are kept: both signatures run one network on the same values, but for the last bits, and equal scales
    are stored once.
    """
    from ai_edge_litert.interpreter import Interpreter

    with np.load(samples, allow_pickle=False) as stored:
        arrays = dict(stored)
    with warnings.catch_warnings():  # keeping all tensors takes memory: it is what we want
        warnings.filterwarnings("ignore", message=".*experimental_preserve_all_tensors")
        interpreter = Interpreter(model_content=model, experimental_preserve_all_tensors=True, num_threads=2)
    embed, edit, manipulate = (interpreter.get_signature_runner(key) for key in ("embed", "edit", "manipulate"))
    graphs = [item.subgraphIndex for item in tree.signatureDefs if item.signatureKey != b"embed"]
    ranges = {}
    for i in range(len(arrays["image"])):
        image, tokens, noise = (arrays[name][i : i + 1] for name in ("image", "tokens", "noise"))
        drawn = {"noise": noise} if noise.shape[1] else {}  # a model that draws no noise has no such input
        edit(image=image / np.float32(127.5) - 1, embedding=embed(tokens=tokens)["embedding"], **drawn)
        manipulate(image=image, tokens=tokens, **drawn)
        for index in graphs:
            for number, tensor in enumerate(tree.subgraphs[index].tensors):
                constant = tree.buffers[tensor.buffer].data is not None
                if constant or tensor.type != schema.TensorType.FLOAT32:
                    continue
                try:
                    value = interpreter.get_tensor(number, index)
                except ValueError:  # was not computed: a result of a WHILE that nobody reads
                    continue
                low, high, _ = ranges.get(tensor.name, (np.inf, -np.inf, 0))
                ranges[tensor.name] = min(low, value.min()), max(high, value.max()), value.ndim
    return {name.decode(): _range(rank, low, high) for name, (low, high, rank) in ranges.items()}


def _range(rank: int, low: float, high: float) -> dict[str, np.ndarray]:
    return {"min": np.full([1] * rank, float(f"{low:.3g}"), np.float32),
            "max": np.full([1] * rank, float(f"{high:.3g}"), np.float32)}  # fmt: skip


def _only(name: str) -> str:
    """A pattern for the one operation with this output; the quantizer ends every name by a semicolon."""
    return f"^{re.escape(name)};?$"
