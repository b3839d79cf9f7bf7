"""Weights of a char-CNN-RNN out of the file that Torch saved of it, found by the order of its nn.* modules."""

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from data.readers import sandbox, t7
from data.readers.t7 import Torch

WIDTH = 4  # frames under a convolution

# The modules of a saved encoder (nngraph lists them in the order in which the graph runs), and of them what is read.
OUTER = ["nn.Identity", "nn.Sequential", "nn.SplitTable", "nn.gModule", "nn.Dropout", "nn.Linear"]
LAYER = ["nn.TemporalConvolution", "nn.Threshold", "nn.TemporalMaxPooling"]
FIRST = {"gru": ["nn.Identity", "nn.Sequential", "nn.Tanh"], "rnn": ["nn.Identity", "nn.Sequential", "nn.ReLU"]}
STEP = {  # of every further step, the last adding up the states
    "gru": ["nn.Identity", "nn.Sequential", "nn.Sequential", "nn.CAddTable", "nn.Sigmoid",  # update gate
            "nn.Sequential", "nn.Sequential", "nn.Sequential", "nn.CAddTable", "nn.Sigmoid", "nn.CMulTable",  # reset
            "nn.Sequential", "nn.CAddTable", "nn.Tanh", "nn.CMulTable",  # candidate
            "nn.MulConstant", "nn.AddConstant", "nn.CMulTable", "nn.CAddTable", "nn.CAddTable"],
    "rnn": ["nn.Identity", "nn.Sequential", "nn.Sequential", "nn.CAddTable", "nn.ReLU", "nn.CAddTable"],
}  # fmt: skip
LINEAR = {  # places of the linear layers in a step
    "gru": {"input_update": 1, "state_update": 2, "input": 5, "input_reset": 6, "state_reset": 7, "state": 11},
    "rnn": {"input": 1, "state": 2},
}
STEPS = {"gru": 18, "rnn": 8}


def read(path: str) -> dict[str, np.ndarray]:
    """The arrays of an encoder that Torch saved: a checkpoint with protos.enc_doc, or that network alone.

    Torch keeps a layer's weights as [out, in] and those of a convolution as [out, 4 x in], frame by frame.
    The layout follows from the Lua code (HybridCNN*.lua, Fixed*.lua, nngraph's order of modules), and a third party's
    script that reads the two released files takes the same places. The released files themselves were not at hand:
    `lm_sje_nc4_cub_hybrid_gru18_a1_c512_...` (birds, "gru") and `lm_sje_flowers_c10_hybrid_...` (flowers, "rnn").
    Hence every class, every shape, and that all steps share their weights, is checked.

    Raises: OSError; ValueError for another file, naming the place where it differs.
    """
    return dict(sandbox.read(arrays, path))


def arrays(path: str) -> Iterator[tuple[str, np.ndarray]]:
    """Name and values of each array, for the sandbox."""
    yield from _arrays(_network(t7.load(path))).items()


def _network(content: object) -> Torch:
    for key in (b"protos", b"enc_doc"):
        if isinstance(content, dict) and key in content:
            content = content[key]
    if not isinstance(content, Torch) or content.class_name != "nn.gModule":
        actual = content.class_name if isinstance(content, Torch) else type(content).__name__
        if isinstance(content, dict):
            actual = f"table with {', '.join(repr(key)[:20] for key in list(content)[:6])}"
        raise ValueError(
            f"holds no text encoder but a {actual}; expected protos.enc_doc, an nn.gModule, as in the encoders of the "
            "icml2016 release (precomputed embeddings are no encoder: build the records with --embeddings)"
        )
    return content


def _arrays(network: Torch) -> dict[str, np.ndarray]:
    _, convolutions, _, recurrent, _, dense = _modules(network, "enc_doc", OUTER)
    steps = _classes(recurrent)
    kind = next((kind for kind in STEPS if [*FIRST[kind], *STEP[kind]] == steps[: len(FIRST[kind] + STEP[kind])]), None)
    if kind is None:
        raise ValueError(f"the recurrent network begins with {', '.join(steps[:9]) or 'nothing'}; expected that of "
                         "FixedGRU.lua or FixedRNN.lua, averaging its states")  # fmt: skip
    arrays = _convolutions(convolutions, pools=3 if kind == "rnn" else 2)
    modules = _modules(
        recurrent, "enc_doc's recurrent network", [*FIRST[kind], *STEP[kind] * (STEPS[kind] - 1), "nn.MulConstant"]
    )
    share = _field(modules[-1], "constant_scalar")
    if not isinstance(share, float) or abs(share * STEPS[kind] - 1) > 1e-6:
        raise ValueError(f"the states are multiplied by {share}; expected their mean, 1/{STEPS[kind]}")
    linears: dict[str, tuple[np.ndarray, np.ndarray]] = {"input": _inner_linear(modules[1])}
    for start in range(len(FIRST[kind]), len(modules) - 1, len(STEP[kind])):
        for name, place in LINEAR[kind].items():
            weight, bias = _inner_linear(modules[start + place])
            first = linears.setdefault(name, (weight, bias))
            if not (np.array_equal(first[0], weight) and np.array_equal(first[1], bias)):
                raise ValueError(f"module {start + place + 1} of the recurrent network, {name}, has other weights than "
                                 "in the steps before; expected shared ones")  # fmt: skip
    inputs = ["input_update", "input_reset", "input"] if kind == "gru" else ["input"]
    arrays["input_kernel"], arrays["input_bias"] = _joined([linears[name] for name in inputs])
    if kind == "gru":
        arrays["gate_kernel"], arrays["gate_bias"] = _joined([linears["state_update"], linears["state_reset"]])
    arrays["state_kernel"], arrays["state_bias"] = _joined([linears["state"]])
    arrays["dense_kernel"], arrays["dense_bias"] = _joined([_linear(dense)])
    return arrays


def _convolutions(network: Torch, pools: int) -> dict[str, np.ndarray]:
    """The three convolutions of an nn.Sequential, of which `pools` are pooled."""
    arrays: dict[str, np.ndarray] = {}
    classes = (LAYER * 3)[: 6 + pools]
    modules = _modules(network, "enc_doc's convolutions", classes)
    strides = {3: 3, 6: 3, 9: 2}
    for place, (class_name, module) in enumerate(zip(classes, modules, strict=True), start=1):
        expected: dict[str, Any] = {}
        if class_name == "nn.TemporalConvolution":
            expected = {"kW": WIDTH, "dW": 1}
        elif class_name == "nn.TemporalMaxPooling":
            expected = {"kW": 3, "dW": strides[place]}
        for key, value in expected.items():
            if _field(module, key) != value:
                raise ValueError(f"{class_name} {place} has {key} = {_field(module, key)}, expected {value}")
        if class_name == "nn.TemporalConvolution":
            weight, bias = _tensor(module, "weight", 2), _tensor(module, "bias", 1)
            name = f"conv{place // 3 + 1}"
            if weight.shape[1] % WIDTH or weight.shape[0] != bias.shape[0]:
                raise ValueError(f"{name} has weight {list(weight.shape)} and bias {list(bias.shape)}, expected "
                                 f"[out, {WIDTH} x in] and [out]")  # fmt: skip
            arrays[f"{name}_kernel"] = weight.reshape(len(weight), WIDTH, -1).transpose(1, 2, 0)
            arrays[f"{name}_bias"] = bias
    return arrays


def _joined(layers: Sequence[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    """Kernel [in, sum of out] and bias [sum of out] of linear layers side by side."""
    return np.concatenate([weight.T for weight, _ in layers], axis=1), np.concatenate([bias for _, bias in layers])


def _inner_linear(sequential: Torch) -> tuple[np.ndarray, np.ndarray]:
    return _linear(_modules(sequential, "a step's nn.Sequential", ["nn.Linear"])[0])


def _linear(module: Torch) -> tuple[np.ndarray, np.ndarray]:
    weight, bias = _tensor(module, "weight", 2), _tensor(module, "bias", 1)
    if len(weight) != len(bias):
        raise ValueError(f"nn.Linear has weight {list(weight.shape)} and bias {list(bias.shape)}, expected [out, in] "
                         "and [out]")  # fmt: skip
    return weight, bias


def _modules(network: Torch, where: str, classes: Sequence[str]) -> list[Torch]:
    """The modules of a container, which must be of `classes`."""
    names = _classes(network)
    if names != list(classes):
        pairs = enumerate(itertools.zip_longest(names, classes, fillvalue="nothing"), start=1)
        place, (is_there, expected) = next((place, pair) for place, pair in pairs if pair[0] != pair[1])
        raise ValueError(
            f"{where} has {len(names)} modules, number {place} being {is_there}; expected {len(classes)}, with "
            f"{expected} there"
        )
    modules = _field(network, "modules")
    return [modules[i] for i in range(1, len(classes) + 1)]


def _classes(network: Torch) -> list[str]:
    """Class names of a container's modules, in order; "?" for what is none."""
    modules = _field(network, "modules")
    if not isinstance(modules, dict):
        return []
    return [module.class_name if isinstance(module, Torch) else "?"
            for module in (modules.get(i) for i in range(1, len(modules) + 1))]  # fmt: skip


def _tensor(module: Torch, name: str, dimensions: int) -> np.ndarray:
    values = _field(module, name)
    if not isinstance(values, np.ndarray) or values.ndim != dimensions or values.dtype.kind != "f":
        actual = f"{values.dtype} {list(values.shape)}" if isinstance(values, np.ndarray) else type(values).__name__
        raise ValueError(f"{name} of an {module.class_name} is {actual}, expected {dimensions} sizes of floats")
    return values.astype(np.float32)


def _field(module: Torch, name: str) -> Any:
    return module.fields.get(name.encode()) if isinstance(module.fields, dict) else None
