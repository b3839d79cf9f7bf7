"""Tests of the released text encoders and of the interface that all have, on random models in the released layouts.
Expected vectors come from explicit numpy loops in float64; .t7 files are packed here by hand, as Torch writes them."""

import json
import os
import pickle
import shutil
import struct
from collections import OrderedDict

import numpy as np
import pytest
import tensorflow as tf

from data.captions import ALPHABET
from simgan_tf.text import char_cnn_rnn, encoders, kiros
from simgan_tf.text.char_cnn_rnn import CharCnnRnn
from simgan_tf.text.kiros import Kiros
from simgan_tf.text.tokens import Vocabulary
from simgan_tf.text.vse import TextEncoder

WORDS = ["a", ".", "bird", "red", "the", "with", ",", "wings", "blue", "tail", "café", "Owl", "rarer", "rarest"]
V, E, D, IMAGE = len(WORDS), 5, 6, 8
SENTENCES = ["a red bird .", "the Owl with blue wings , and a tail", "", "rarer rarest wolf", "wolf", "a  red\tbird .",
             "café a\n", "a " * 30]  # fmt: skip


def sigmoid(x):
    return 1.0 / (1.0 + np.exp(-x))


# Kiros


def kiros_arrays(bow: bool = False, seed: int = 0) -> dict[str, np.ndarray]:
    draw = np.random.default_rng(seed)
    word_dim = D if bow else E
    shapes = {"Wemb": (V, word_dim), "ff_image_W": (IMAGE, D), "ff_image_b": (D,)}
    if not bow:
        shapes |= {"encoder_W": (E, 2 * D), "encoder_b": (2 * D,), "encoder_U": (D, 2 * D), "encoder_Wx": (E, D),
                   "encoder_bx": (D,), "encoder_Ux": (D, D)}  # fmt: skip
    return {key: draw.normal(0.0, 0.8, shape).astype(np.float32) for key, shape in shapes.items()}


def write_kiros(folder, arrays: dict[str, np.ndarray], name: str = "toy.npz", words=None) -> str:
    """NAME.npz, NAME.npz.dictionary.pkl (ids from 2 on, so that the last two are beyond the rows), NAME.npz.pkl."""
    path = os.path.join(folder, name)
    np.savez(path, **arrays)
    numbered = OrderedDict((word, i) for i, word in enumerate(WORDS if words is None else words, start=2))
    with open(path + ".dictionary.pkl", "wb") as file:
        pickle.dump(numbered, file, protocol=0)
    with open(path + ".pkl", "wb") as file:
        pickle.dump({"dim": D, "margin": 0.2, "data": "toy", "encoder": "gru", "reload_": False}, file, protocol=0)
    return path


def kiros_loop(arrays: dict[str, np.ndarray], text: str, most: int = 100) -> np.ndarray:
    """The unit sentence vector by the equations of the docstring, a word at a time."""
    p = {key: np.float64(value) for key, value in arrays.items()}
    ids = [i if i < V else 1 for i in (WORDS.index(w) + 2 if w in WORDS else 1 for w in text.split())][:most] + [0]
    if "encoder_W" not in p:
        state = sum(p["Wemb"][i] for i in ids)
        return state / np.sqrt(state @ state)
    h = np.zeros(D)
    for i in ids:
        x = p["Wemb"][i]
        gates = sigmoid(x @ p["encoder_W"] + p["encoder_b"] + h @ p["encoder_U"])
        r, u = gates[:D], gates[D:]
        g = np.tanh(r * (h @ p["encoder_Ux"]) + x @ p["encoder_Wx"] + p["encoder_bx"])
        h = u * h + (1 - u) * g
    return h / np.sqrt(h @ h)


@pytest.mark.parametrize("bow", [False, True], ids=["gru", "bow"])
def test_kiros_is_the_loop(tmp_path, bow):
    arrays = kiros_arrays(bow)
    encoder = Kiros.load(write_kiros(tmp_path, arrays))
    assert (encoder.architecture, encoder.dim, encoder.name, encoder.phi_scale) == ("bow" if bow else "gru", D,
                                                                                    "kiros-toy", 1.0)  # fmt: skip
    expected = np.stack([kiros_loop(arrays, text) for text in SENTENCES])
    assert np.abs(expected[0] - expected[1]).max() > 0.1
    for found in (encoder.encode(SENTENCES, batch_size=3), encoder.embed(encoder.tokens(SENTENCES)).numpy()):
        assert found.dtype == np.float32
        assert np.abs(found - expected).max() < 1e-6
    assert encoder.encode([]).shape == (0, D)


def test_kiros_ids():
    """"rarer" and "rarest" have the ids V and V + 1, which are beyond Wemb: unknown, as is "wolf"."""
    encoder = Kiros(kiros.Dictionary(WORDS[:-2]), kiros_arrays(), length=6)
    assert encoder.tokens(["a red wolf", "rarest", "a a a a a a a"]).tolist() == [
        [3, 6, 2, 1, 0, 0], [2, 1, 0, 0, 0, 0], [3, 3, 3, 3, 3, 1],
    ]  # fmt: skip
    assert encoder.unknown_words("a rarest bird. rarest Owl owl") == ["rarest", "bird.", "owl"]
    expected = kiros_loop(kiros_arrays(), "a a a a a")
    np.testing.assert_allclose(encoder.encode(["a " * 30])[0], expected, atol=1e-6)


def test_kiros_in_keras_form():
    """Columns [reset | update] of the file become Keras' [update | reset | candidate]; the recurrent bias is zero."""
    arrays = kiros_arrays()
    words, kernel, recurrent, bias = (v.numpy() for v in Kiros(kiros.Dictionary(WORDS[:-2]), arrays).variables)
    np.testing.assert_array_equal(words, arrays["Wemb"])
    for array, key in ((kernel, "W"), (recurrent, "U"), (bias[0], "b")):
        np.testing.assert_array_equal(array[..., :D], arrays[f"encoder_{key}"][..., D:])
        np.testing.assert_array_equal(array[..., D : 2 * D], arrays[f"encoder_{key}"][..., :D])
        np.testing.assert_array_equal(array[..., 2 * D :], arrays[f"encoder_{key}x"])
    assert not bias[1].any()


def test_kiros_zero_state():
    """Wemb[<eos>] of zeros and no bias: the empty sentence's state is zeros, and so is phi, not NaN."""
    arrays = kiros_arrays()
    for key in ("encoder_b", "encoder_bx"):
        arrays[key][:] = 0
    arrays["Wemb"][0] = 0
    encoder = Kiros(kiros.Dictionary(WORDS[:-2]), arrays, phi_scale=3.0)
    np.testing.assert_array_equal(encoder.encode([""]), np.zeros((1, D)))
    assert np.linalg.norm(encoder.encode(["a"])) == pytest.approx(3.0, abs=1e-5)
    tiny = {key: value * np.float32(1e-4) if key == "Wemb" else value for key, value in arrays.items()}
    assert np.linalg.norm(Kiros(kiros.Dictionary(WORDS[:-2]), tiny).encode(["a"])) == pytest.approx(1.0, abs=1e-5)


def test_kiros_as_phi_of_a_gan(tmp_path):
    """encoders.load scales by sqrt(D), which makes the mean square of the entries 1; Kiros.load gives unit vectors."""
    path = write_kiros(tmp_path, kiros_arrays())
    scaled, unit = encoders.load(path), Kiros.load(path)
    assert scaled.phi_scale == pytest.approx(np.sqrt(D)) and scaled.fingerprint != unit.fingerprint
    np.testing.assert_allclose(scaled.encode(SENTENCES), np.sqrt(D) * unit.encode(SENTENCES), rtol=1e-5)
    assert np.mean(scaled.encode(SENTENCES) ** 2) == pytest.approx(1.0, abs=1e-5)


def test_kiros_dictionary_of_python_2(tmp_path):
    """Byte strings in the text protocol, as cPickle wrote them; without capitals, so sentences lose theirs."""
    path = write_kiros(tmp_path, {key: value[:4] if key == "Wemb" else value for key, value in kiros_arrays().items()})
    with open(path + ".dictionary.pkl", "wb") as file:
        file.write(b"ccollections\nOrderedDict\np0\n((lp1\n(lp2\nS'caf\\xc3\\xa9'\np3\naI2\naa(lp4\nS'red'\np5\naI3\naa"
                   b"(lp6\nS'x'\np7\naI4\naa(lp8\nS'y'\np9\naI5\naatp10\nRp11\n.")  # fmt: skip
    encoder = Kiros.load(path)
    assert encoder.vocabulary.words == ["café", "red"] and encoder.vocabulary.lower_case
    assert encoder.tokens(["RED café CAFÉ x"])[0, :5].tolist() == [4, 3, 2, 2, 1]  # É is no ASCII letter: kept


def spoilt(arrays, key, value):
    return {**arrays, key: value} if value is not None else {k: v for k, v in arrays.items() if k != key}


@pytest.mark.parametrize(
    "key, value, message",
    [
        ("Wemb", None, "it lacks Wemb .*; it has ff_image_W"),
        ("encoder_Ux", None, r"it lacks encoder_Ux \(of Wemb, encoder_W"),
        ("encoder_U", np.ones((D, D), np.float32), r"encoder_U is float32 \[6, 6\], expected float32 \[6, 12\]"),
        ("encoder_W", np.ones((2 * D, E), np.float32), r"encoder_W is float32 \[12, 5\], expected float32 \[5, 12\]"),
        ("Wemb", np.ones((3, V, E), np.float32), r"Wemb is \[3, 14, 5\], expected two sizes, \[V, E\]"),
        ("ff_image_b", np.ones(D, np.int32), r"ff_image_b is int32 \[6\], expected float32 \[6\]"),
        ("encoder_bx", np.full(D, np.nan, np.float32), "encoder_bx has 6 values that are not finite"),
    ],
)
def test_wrong_kiros_arrays(tmp_path, key, value, message):
    path = write_kiros(tmp_path, spoilt(kiros_arrays(), key, value))
    with pytest.raises(ValueError, match=message) as error:
        Kiros.load(path)
    assert str(error.value).startswith(path) and "\n" not in str(error.value)


def test_wrong_kiros_files(tmp_path):
    path = write_kiros(tmp_path, kiros_arrays())
    dictionary = path + ".dictionary.pkl"

    def message(content: object = None, load=Kiros.load, path=path) -> str:
        if content is not None:
            with open(dictionary, "wb") as file:
                pickle.dump(content, file, protocol=2)
        with pytest.raises((ValueError, FileNotFoundError)) as error:
            load(path)
        assert "\n" not in str(error.value)
        return str(error.value)

    expected = "expected the word dictionary of a model of Kiros et al.: words with whole numbers from 2 on"
    found = message([np.ones((10, 4), np.float32)] * 3)  # a StackGAN embeddings pickle
    assert f"{dictionary} holds a list, no table of words" in found and expected.split(": ")[1] in found
    with open(path + ".pkl", "rb") as file:
        options = pickle.loads(file.read())
    found = message(OrderedDict(options))
    assert "has the entry 'dim': 6" not in found and "'margin': a float" in found and "holds the options" in found
    assert "has id 3 for 'a' and for 'b'" in message({"a": 3, "b": 3})
    assert "'a': 1, expected" in message({"a": 1})
    assert "has 4 words, with ids up to 5, for a model of 14 rows" in message({w: i for i, w in enumerate("abcd", 2)})
    many = {f"w{i}": i + 2 for i in range(40)}
    assert "has 40 words, with ids up to 41, for a model of 14 rows; it is not the dictionary" in message(many)
    assert "'a b' must be one word" in message({"a b" if i == 4 else f"w{i}": i for i in range(2, 2 + V)})
    for load in (Kiros.load, encoders.load):
        assert "no model of Kiros et al.: it lacks Wemb" in message(load=load, path=_npz(tmp_path / "other.npz"))
        os.remove(dictionary) if os.path.exists(dictionary) else None
        assert f"no {dictionary}; a released model is NAME.npz and beside it" in message(load=load)
    bow = kiros_arrays(bow=True)
    bow["Wemb"] = bow["Wemb"][:, :-1]
    assert "Wemb is [14, 5] and ff_image_W [8, 6]: without encoder_*" in message(path=write_kiros(tmp_path, bow))


def _npz(path) -> str:
    np.savez(path, embedding=np.ones((2, 2), np.float32))
    (path.parent / (path.name + ".dictionary.pkl")).write_bytes(pickle.dumps({}))
    return str(path)


# char-CNN-RNN

F1, F2, C, OUT = 5, 4, 6, 7
TEXTS = ["this bird is red, with a long-tail.", "a", "", "\u00e9!", "The Bird Has 2 WINGS", "x" * 150 + "red" * 40]


class Object:
    """A torch object: a class name and a table."""

    def __init__(self, name: str, **fields: object) -> None:
        self.name, self.fields = name, fields


def linear(draw, size_in: int, size_out: int) -> Object:
    weight = draw.normal(0.0, 0.6, (size_out, size_in)).astype(np.float32)
    return Object("nn.Linear", weight=weight, bias=draw.normal(0.0, 0.3, size_out).astype(np.float32),
                  gradWeight=np.zeros_like(weight), train=False, output=np.empty(0, np.float32))  # fmt: skip


def sequential(*modules: Object) -> Object:
    return Object("nn.Sequential", modules=list(modules), train=False)


def graph_module(modules: list[Object], nodes: bool = False) -> Object:
    """As nngraph saves one: beside the list of modules, nodes that point at each other, also as keys of tables."""
    if not nodes:
        return Object("nn.gModule", modules=modules, verbose=False, nInputs=1.0)
    nodes = [
        Object("nngraph.Node", data={"module": module, "mapindex": {}, "reverseMap": {}}, children={}, id=float(i))
        for i, module in enumerate(modules)
    ]
    for node, child in zip(nodes, nodes[1:], strict=False):
        node.fields["children"] |= {1.0: child, child: 1.0}
        data, below = node.fields["data"], child.fields["data"]
        below["mapindex"] |= {1.0: data, Key(data): 1.0}
        data["reverseMap"] |= {child: True}
    forward = Object("graph.Graph", nodes=nodes, edges={})
    return Object("nn.gModule", fg=forward, forwardnodes=nodes, modules=modules, verbose=False, nInputs=1.0)


class Key:
    """A table that is the key of another."""

    def __init__(self, table: dict) -> None:
        self.table = table


def char_network(kind: str, shared: bool = True, nodes: bool = False) -> Object:
    """The network of HybridCNNLong.lua with FixedGRU.lua, or of HybridCNN.lua with FixedRNN.lua."""
    draw = np.random.default_rng(0)
    layers = []
    for i, (size_in, size_out) in enumerate(((70, F1), (F1, F2), (F2, C))):
        weight = draw.normal(0.0, 0.7, (size_out, 4 * size_in)).astype(np.float32)
        bias = draw.normal(0.0, 0.3, size_out).astype(np.float32)
        layers += [Object("nn.TemporalConvolution", weight=weight, bias=bias, kW=4.0, dW=1.0),
                   Object("nn.Threshold", threshold=1e-6, val=0.0)]  # fmt: skip
        if i < 2 or kind == "rnn":
            layers.append(Object("nn.TemporalMaxPooling", kW=3.0, dW=(3.0, 3.0, 2.0)[i]))
    names = ("iu", "hu", "i", "ir", "hr", "h") if kind == "gru" else ("i", "h")
    cells = {name: linear(draw, C, C) for name in names}

    def cell(name: str) -> Object:
        made = cells[name] if shared else linear(draw, C, C)
        return sequential(Object("nn.Linear", weight=made.fields["weight"], bias=made.fields["bias"]))  # as share does

    def plain(*names: str) -> list[Object]:
        return [Object(f"nn.{name}") for name in names]

    modules = [*plain("Identity"), cell("i"), *plain("Tanh" if kind == "gru" else "ReLU")]
    for _ in range(17 if kind == "gru" else 7):
        if kind == "gru":
            modules += [*plain("Identity"), cell("iu"), cell("hu"), *plain("CAddTable", "Sigmoid"), cell("i"),
                        cell("ir"), cell("hr"), *plain("CAddTable", "Sigmoid", "CMulTable"), cell("h"),
                        *plain("CAddTable", "Tanh", "CMulTable", "MulConstant", "AddConstant", "CMulTable",
                               "CAddTable")]  # fmt: skip
        else:
            modules += [*plain("Identity"), cell("i"), cell("h"), *plain("CAddTable", "ReLU")]
        modules += plain("CAddTable")  # the sum of the states
    modules.append(Object("nn.MulConstant", constant_scalar=1 / 18 if kind == "gru" else 1 / 8))
    outer = [Object("nn.Identity"), sequential(*layers), Object("nn.SplitTable", dimension=2.0),
             graph_module(modules, nodes), Object("nn.Dropout", p=0.0), linear(draw, C, OUT)]  # fmt: skip
    network = graph_module(outer, nodes)
    network.cells = cells
    return network


def pack(thing: object) -> bytes:
    """`thing` as Torch's binary format has it; arrays as tensors of a GPU, the same array always over one storage."""
    out, todo, numbers, kept = [], [thing], {}, []

    def text(value: str) -> bytes:
        return struct.pack("<i", len(value)) + value.encode()

    def new(tag: int, key: object) -> bool:
        """Writes the object's number; True if its content has to follow."""
        known = id(key) in numbers
        out.append(struct.pack("<ii", tag, numbers.setdefault(id(key), len(numbers) + 1)))
        kept.append(key)  # an id is good as long as its object lives
        return not known

    while todo:
        thing = todo.pop()
        if isinstance(thing, bool):
            out.append(struct.pack("<ii", 5, thing))
        elif isinstance(thing, (int, float)):
            out.append(struct.pack("<id", 1, thing))
        elif isinstance(thing, str):
            out.append(struct.pack("<i", 2) + text(thing))
        elif isinstance(thing, Key):
            todo.append(thing.table)
        elif isinstance(thing, (dict, list)):
            if new(3, thing):
                pairs = list((thing if isinstance(thing, dict) else dict(enumerate(thing, start=1))).items())
                out.append(struct.pack("<i", len(pairs)))
                todo += [part for pair in reversed(pairs) for part in reversed(pair)]
        elif isinstance(thing, Object):
            if new(4, thing):
                out.append(text("V 1") + text(thing.name))
                todo.append(thing.fields)
        elif isinstance(thing, memoryview):  # a storage
            if new(4, thing.obj):
                out.append(text("V 1") + text("torch.CudaStorage"))
                out.append(struct.pack("<q", thing.obj.size) + thing.tobytes())
        else:
            assert thing.dtype == np.float32
            new(4, thing[...])  # a tensor of its own
            strides = [stride // 4 for stride in thing.strides]
            out.append(text("V 1") + text("torch.CudaTensor")
                       + struct.pack(f"<i{2 * thing.ndim}qq", thing.ndim, *thing.shape, *strides, 1))  # fmt: skip
            todo.append(thing.data)
    return b"".join(out)


def write_char(path, network: object, checkpoint: bool = True) -> str:
    found = {"protos": {"enc_doc": network}, "i": 30000.0, "vocab": {"a": 1.0}} if checkpoint else network
    path.write_bytes(pack(found))
    return str(path)


def char_loop(network: Object, kind: str, text: str) -> np.ndarray:
    """phi of one sentence, frame by frame, in float64, from the packed weights."""

    def parts(module):
        return np.float64(module.fields["weight"]), np.float64(module.fields["bias"])

    layers, dense = network.fields["modules"][1].fields["modules"], network.fields["modules"][5]
    frames = np.zeros((201, 70))
    for i, byte in enumerate(text.encode()[:201]):
        place = ALPHABET.rfind(chr(byte).lower()) if byte < 128 else -1
        if place >= 0:
            frames[i, place] = 1.0
    for layer in layers:
        if layer.name == "nn.TemporalConvolution":
            weight, bias = parts(layer)
            frames = np.stack([weight @ frames[i : i + 4].ravel() + bias for i in range(len(frames) - 3)])
        elif layer.name == "nn.Threshold":
            frames = np.maximum(frames, 0.0)
        else:
            step = int(layer.fields["dW"])
            frames = np.stack([frames[i : i + 3].max(axis=0) for i in range(0, len(frames) - 2, step)])
    assert len(frames) == (18 if kind == "gru" else 8)
    cell = {name: parts(made) for name, made in network.cells.items()}

    def apply(name, x):
        return cell[name][0] @ x + cell[name][1]

    states = []
    for x in frames:
        if not states:
            states.append(np.tanh(apply("i", x)) if kind == "gru" else np.maximum(apply("i", x), 0.0))
        elif kind == "rnn":
            states.append(np.maximum(apply("i", x) + apply("h", states[-1]), 0.0))
        else:
            h = states[-1]
            update, reset = sigmoid(apply("iu", x) + apply("hu", h)), sigmoid(apply("ir", x) + apply("hr", h))
            candidate = np.tanh(apply("i", x) + apply("h", reset * h))
            states.append(update * candidate + (1 - update) * h)
    weight, bias = parts(dense)
    return weight @ np.mean(states, axis=0) + bias


@pytest.mark.parametrize("kind", ["gru", "rnn"])
@pytest.mark.parametrize("checkpoint", [True, False], ids=["checkpoint", "network"])
def test_char_cnn_rnn_is_the_loop(tmp_path, kind, checkpoint):
    network = char_network(kind)
    encoder = encoders.load(write_char(tmp_path / "lm.t7", network, checkpoint))
    assert (encoder.kind, encoder.recurrence, encoder.dim, encoder.length) == ("char_cnn_rnn", kind, OUT, 201)
    expected = np.stack([char_loop(network, kind, text) for text in TEXTS])
    assert min(np.abs(expected[0] - expected[i]).max() for i in (2, 4, 5)) > 0.05
    size = np.abs(expected).max()
    for found in (encoder.encode(TEXTS, batch_size=2), encoder.embed(encoder.tokens(TEXTS)).numpy()):
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, expected, atol=2e-6 * size)
    assert encoder.encode([]).shape == (0, OUT)


def test_char_cnn_rnn_with_the_nodes_of_its_graph(tmp_path):
    """The graph is 344 nodes deep; a table that is a key can be no key here, and none of them is needed."""
    plain, full = (write_char(tmp_path / f"{nodes}.t7", char_network("gru", nodes=nodes)) for nodes in (False, True))
    assert os.path.getsize(full) > os.path.getsize(plain) + 344 * 100
    assert encoders.load(full).fingerprint == encoders.load(plain).fingerprint


def replaced(network: Object, *path: object, **fields: object) -> Object:
    """The network with the module at `path` (places of modules, from 1) changed."""
    module = network
    for place in path:
        module = module.fields["modules"][place - 1]
    module.name = fields.pop("name", module.name)
    module.fields |= fields
    return network


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda n: replaced(n, 6, name="nn.Tanh"), "number 6 being nn.Tanh; expected 6, with nn.Linear there"),
        (lambda n: replaced(n, 2, 1, kW=5.0), "nn.TemporalConvolution 1 has kW = 5.0, expected 4"),
        (lambda n: replaced(n, 2, 6, dW=2.0), "nn.TemporalMaxPooling 6 has dW = 2.0, expected 3"),
        (lambda n: replaced(n, 2, 4, weight=np.ones((F2, 4 * F1 + 4), np.float32)),
         r"conv2_kernel is float32 \[4, 6, 4\], expected float32 \[4, 5, 4\]"),
        (lambda n: replaced(n, 2, 1, weight=np.ones((F1, 4 * 69), np.float32)),
         r"conv1_kernel is float32 \[4, 69, 5\], expected float32 \[4, 70, 5\]"),
        (lambda n: replaced(n, 4, 3, name="nn.ReLU"), "network begins with nn.Identity, nn.Sequential, nn.ReLU"),
        (lambda n: replaced(n, 4, len(n.fields["modules"][3].fields["modules"]), constant_scalar=1.0),
         "multiplied by 1.0; expected their mean, 1/18"),
        (lambda n: replaced(n, 4, 21 + 3, name="nn.Tanh"), "number 24 being nn.Tanh; expected 344, with nn.Identity"),
        (lambda n: replaced(n, 6, weight=np.ones((OUT, C + 1), np.float32)),
         r"dense_kernel is float32 \[7, 7\], expected float32 \[6, 7\]"),
        (lambda n: replaced(n, 6, bias=np.full(OUT, np.inf, np.float32)), "dense_bias has 7 values that are not"),
        (lambda n: replaced(n, 6, bias="none"), "bias of an nn.Linear is bytes, expected 1 sizes of floats"),
    ],
)  # fmt: skip
def test_wrong_char_cnn_rnn(tmp_path, change, message):
    path = write_char(tmp_path / "lm.t7", change(char_network("gru")))
    with pytest.raises(ValueError, match=message) as error:
        CharCnnRnn.load(path)
    assert str(error.value).startswith(path) and "\n" not in str(error.value)


def test_char_cnn_rnn_with_steps_of_their_own(tmp_path):
    path = write_char(tmp_path / "lm.t7", char_network("gru", shared=False))
    with pytest.raises(ValueError, match="module 9 of the recurrent network, input, has other weights than in the"):
        CharCnnRnn.load(path)


def test_other_t7_files(tmp_path):
    """Embeddings of one picture, as the icml2016 release has them, and a single number."""
    table = {"txt": np.ones((10, 1024), np.float32), "img": "001/a.jpg"}
    for content, message in (
        (table, "no text encoder but a table with b'txt', b'img'.*--embeddings"),
        (3.0, "no text encoder but a float"),
        (Object("nn.Linear"), "no text encoder but a nn.Linear"),
    ):
        (tmp_path / "x.t7").write_bytes(pack(content))
        with pytest.raises(ValueError, match=message):
            encoders.load(str(tmp_path / "x.t7"))


# one interface


def vse_encoder() -> TextEncoder:
    encoder = TextEncoder(Vocabulary(["red", "bird"]), dim=4, word_dim=3, length=5)
    for variable in encoder.variables:
        variable.assign(np.random.default_rng(2).normal(size=variable.shape))
    return encoder


@pytest.fixture(params=["vse", "kiros", "kiros bow", "char_cnn_rnn gru", "char_cnn_rnn rnn"])
def encoder(request, tmp_path):
    kind = request.param
    if kind == "vse":
        return vse_encoder()
    if kind.startswith("kiros"):
        return encoders.load(write_kiros(tmp_path, kiros_arrays(bow="bow" in kind)))
    return encoders.load(write_char(tmp_path / "lm.t7", char_network(kind.split()[1])))


def test_every_encoder_does_the_same(encoder):
    texts = ["a red bird .", "wolf", ""]
    tokens = encoder.tokens(texts)
    assert tokens.shape == (3, encoder.length) and tokens.dtype == np.int32
    found = encoder.encode(texts)
    assert found.shape == (3, encoder.dim) and found.dtype == np.float32 and np.isfinite(found).all()
    for other in (encoder.encode_tokens(tokens), encoder.embed(tf.constant(tokens))):
        np.testing.assert_allclose(other, found, atol=1e-6)
    assert all(isinstance(variable, tf.Variable) for variable in encoder.variables)
    encoder.check("a red bird")
    with pytest.raises(ValueError, match="has no word|no character"):
        encoder.check(" ")
    assert encoder.unknown_words("a red bird") == (["a"] if encoder.kind == "vse" else [])
    assert len(encoder.fingerprint) == 64 and encoder.phi_scale > 0 and encoder.name


def test_a_run_directory_is_enough(encoder, tmp_path):
    """Saved, moved, its source gone: the same values from the folder or from the run directory around it."""
    encoder.save(str(tmp_path / "first" / "text_encoder"))
    shutil.move(tmp_path / "first", tmp_path / "run")
    for name in os.listdir(tmp_path):
        if name != "run":
            os.remove(tmp_path / name)
    texts = ["a red bird .", "wolf", ""]
    for path in (tmp_path / "run", tmp_path / "run" / "text_encoder"):
        loaded = encoders.load(str(path))
        assert type(loaded) is type(encoder) and loaded.fingerprint == encoder.fingerprint
        assert (loaded.name, loaded.phi_scale, loaded.length) == (encoder.name, encoder.phi_scale, encoder.length)
        np.testing.assert_array_equal(loaded.encode(texts), encoder.encode(texts))
    if encoder.kind == "kiros":
        for ours, theirs in zip(loaded.image, encoder.image, strict=True):
            np.testing.assert_array_equal(ours, theirs)
    facts = json.loads((tmp_path / "run" / "text_encoder" / "encoder.json").read_text())
    assert facts["kind"] == encoder.kind and facts["format_version"] == 1


def test_a_changed_value_changes_the_fingerprint(encoder):
    before = encoder.fingerprint
    variable = encoder.variables[-1]
    variable.assign(variable + 1.0)
    assert encoder.fingerprint != before


def test_folders_of_before_there_were_kinds_are_vse(tmp_path):
    made = vse_encoder()
    made.save(str(tmp_path / "e"))
    facts = json.loads((tmp_path / "e" / "encoder.json").read_text())
    del facts["kind"]
    (tmp_path / "e" / "encoder.json").write_text(json.dumps(facts))
    loaded = encoders.load(str(tmp_path / "e"))
    assert loaded.kind == "vse" and loaded.fingerprint == made.fingerprint


def test_load_says_what_is_wrong(tmp_path):
    def message(path) -> str:
        with pytest.raises((ValueError, FileNotFoundError)) as error:
            encoders.load(str(path))
        assert "\n" not in str(error.value)
        return str(error.value)

    assert "no text encoder" in message(tmp_path / "none.npz")
    (tmp_path / "x.pkl").write_bytes(b"")
    assert "x.pkl' is no text encoder; expected a run directory with text_encoder/" in message(tmp_path / "x.pkl")
    os.makedirs(tmp_path / "run")
    assert "no encoder.json in " in message(tmp_path / "run")
    path = tmp_path / "e"
    encoders.load(write_kiros(tmp_path, kiros_arrays())).save(str(path))
    facts = json.loads((path / "encoder.json").read_text())

    def damaged(**changes) -> str:
        (path / "encoder.json").write_text(json.dumps({**facts, **changes}))
        return message(path)

    assert "has kind 'bert', this code reads vse, kiros, char_cnn_rnn" in damaged(kind="bert")
    assert "has 15 entries, encoder.json says 9" in damaged(vocabulary_size=9)
    assert "format_version 2, this code reads 1" in damaged(format_version=2)
    (path / "encoder.json").write_text(json.dumps(facts))
    with pytest.raises(ValueError, match="is of kind 'kiros', not 'vse'"):
        TextEncoder.load(str(path))
    np.savez(path / "weights.npz", **spoilt(kiros_arrays(), "encoder_bx", np.ones(3, np.float32)))
    assert "encoder_bx is float32 [3], expected float32 [6]" in message(path)
    (path / "weights.npz").write_bytes(b"PK\x03\x04 cut off")
    assert "weights.npz" in message(path)


def test_shapes_are_named_for_both_recurrences():
    assert set(char_cnn_rnn.SHAPES["gru"]) - set(char_cnn_rnn.SHAPES["rnn"]) == {"gate_kernel", "gate_bias"}
