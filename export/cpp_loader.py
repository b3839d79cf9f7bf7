"""Runs a SavedModel through TensorFlow's C++ loader, the one of TensorFlow Serving, without Python TensorFlow.
Works on any SavedModel and signature; arrays come from .npz files and go to such.

    python -m export.cpp_loader SAVED_MODEL_DIR                     a line for each op: its name, and kernel or none
    python -m export.cpp_loader SAVED_MODEL_DIR SIGNATURE IN.npz OUT.npz [SIGNATURE IN.npz OUT.npz ...]
                                                                    arrays named like the signature's inputs and outputs
"""

import base64
import ctypes
import importlib.util
import os
import sys
import types
from collections.abc import Mapping
from typing import Any

import numpy as np

TEXT = ":base64"  # ending of a string array's name in a .npz, which holds no bytes objects and cuts zeros at the end
STRING = 7  # of TensorFlow's DataType enum
DTYPES = {1: np.float32, 2: np.float64, 3: np.int32, 4: np.uint8, 9: np.int64, 10: np.bool_}
NUMBERS = {np.dtype(dtype): number for number, dtype in DTYPES.items()}
STRING_BYTES = 24  # sizeof(TF_TString)


class Buffer(ctypes.Structure):  # TF_Buffer
    _fields_ = [("data", ctypes.c_void_p), ("length", ctypes.c_size_t), ("deallocator", ctypes.c_void_p)]


class Output(ctypes.Structure):  # TF_Output
    _fields_ = [("operation", ctypes.c_void_p), ("index", ctypes.c_int)]


def load_library() -> ctypes.CDLL:
    """TensorFlow's C API out of the installed wheel, without importing it."""
    spec = importlib.util.find_spec("tensorflow")
    if spec is None:
        raise FileNotFoundError("tensorflow is not installed; pip install -r requirements.txt")
    folder = os.path.dirname(spec.origin)
    names = ("libtensorflow_framework.2.dylib", "libtensorflow_cc.2.dylib")
    if sys.platform != "darwin":
        names = ("libtensorflow_framework.so.2", "libtensorflow_cc.so.2")
    for name in names:  # the framework first, both global: the second needs the first one's symbols
        library = ctypes.CDLL(os.path.join(folder, name), mode=ctypes.RTLD_GLOBAL)
    for function in ("TF_NewStatus", "TF_NewGraph", "TF_NewSessionOptions", "TF_NewBuffer", "TF_GetBuffer",
                     "TF_LoadSessionFromSavedModel", "TF_GraphOperationByName", "TF_AllocateTensor", "TF_TensorData",
                     "TF_StringGetDataPointer", "TF_GetRegisteredKernelsForOp"):  # fmt: skip
        getattr(library, function).restype = ctypes.c_void_p
    for function in ("TF_TensorByteSize", "TF_StringGetSize"):
        getattr(library, function).restype = ctypes.c_size_t
    library.TF_Dim.restype = ctypes.c_int64
    library.TF_Message.restype = ctypes.c_char_p
    return library


def keep_python_tensorflow_out() -> None:
    """Lets this process import TensorFlow's messages, tensorflow.core, without its __init__.py.

    That would start Python TensorFlow, which brings kernels (PyFunc and its kin) that a server has not.
    """
    package = types.ModuleType("tensorflow")
    package.__spec__ = importlib.util.find_spec("tensorflow")
    package.__path__ = package.__spec__.submodule_search_locations if package.__spec__ else []
    sys.modules["tensorflow"] = package


class SavedModel:
    """A loaded SavedModel; inputs, outputs and optional (inputs with a default) by the names of its signatures.

    Raises: ValueError with TensorFlow's message.
    """

    def __init__(self, directory: str) -> None:
        from tensorflow.core.protobuf import meta_graph_pb2

        self.tf = load_library()
        self.status = ctypes.c_void_p(self.tf.TF_NewStatus())
        self.graph = ctypes.c_void_p(self.tf.TF_NewGraph())
        options = ctypes.c_void_p(self.tf.TF_NewSessionOptions())
        tags = (ctypes.c_char_p * 1)(b"serve")
        meta_graph = ctypes.c_void_p(self.tf.TF_NewBuffer())
        self.session = ctypes.c_void_p(
            self.tf.TF_LoadSessionFromSavedModel(
                options, None, os.fsencode(directory), tags, 1, self.graph, meta_graph, self.status
            )
        )
        self._check()
        buffer = Buffer.from_address(meta_graph.value)
        loaded = meta_graph_pb2.MetaGraphDef.FromString(ctypes.string_at(buffer.data, buffer.length))
        signatures = dict(loaded.signature_def)
        signatures.pop("__saved_model_init_op", None)  # the loader's own
        self.inputs = {name: self._tensors(signature.inputs) for name, signature in signatures.items()}
        self.outputs = {name: self._tensors(signature.outputs) for name, signature in signatures.items()}
        self.optional = {name: set(signature.defaults) for name, signature in signatures.items()}

    def run(self, signature: str, **arrays: np.ndarray) -> dict[str, np.ndarray]:
        """Outputs of one signature. Strings: arrays of text or of bytes objects in, arrays of bytes objects out.

        Raises: ValueError with TensorFlow's code and message, after which the next call works as before; for a
        signature that is not there, or a wrong set of inputs.
        """
        if signature not in self.inputs:
            raise ValueError(f"no signature {signature}; there are {', '.join(sorted(self.inputs))}")
        inputs, outputs = self.inputs[signature], self.outputs[signature]
        if not set(inputs) - self.optional[signature] <= set(arrays) <= set(inputs):
            raise ValueError(f"arrays {sorted(arrays)} given, the signature takes {sorted(inputs)}")
        places = [inputs[name] for name in arrays]
        tensors = [self._to_tensor(array) for array in arrays.values()]
        results = (ctypes.c_void_p * len(outputs))()
        self.tf.TF_SessionRun(
            self.session, None,
            (Output * len(places))(*places), (ctypes.c_void_p * len(tensors))(*tensors), len(tensors),
            (Output * len(results))(*outputs.values()), results, len(results),
            None, 0, None, self.status,
        )  # fmt: skip
        for tensor in tensors:
            self.tf.TF_DeleteTensor(ctypes.c_void_p(tensor))
        self._check()
        values = (self._to_array(ctypes.c_void_p(result)) for result in results)
        return dict(zip(outputs, values, strict=True))

    def _check(self) -> None:
        code = self.tf.TF_GetCode(self.status)
        if code:
            message = self.tf.TF_Message(self.status).decode(errors="replace")
            raise ValueError(f"{'INVALID_ARGUMENT' if code == 3 else f'code {code}'}: {message}")

    def _tensors(self, infos: Mapping[str, Any]) -> dict[str, Output]:
        """Places in the graph of a signature's inputs or outputs, TensorInfo by name."""
        places = {}
        for key, info in infos.items():
            operation, _, index = info.name.rpartition(":")
            places[key] = Output(self.tf.TF_GraphOperationByName(self.graph, operation.encode()), int(index))
        return places

    def _to_tensor(self, array: np.ndarray) -> int:
        is_text = array.dtype.kind in "USO"
        if not is_text and array.dtype not in NUMBERS:
            raise ValueError(f"arrays of {array.dtype} are not supported; use text, {', '.join(map(str, NUMBERS))}")
        array = np.asarray(array, order="C")  # not ascontiguousarray, which makes one number a list
        size = array.size * STRING_BYTES if is_text else array.nbytes
        shape = (ctypes.c_int64 * array.ndim)(*array.shape)
        tensor = self.tf.TF_AllocateTensor(
            STRING if is_text else NUMBERS[array.dtype], shape, array.ndim, ctypes.c_size_t(size)
        )
        place = self.tf.TF_TensorData(ctypes.c_void_p(tensor))
        if is_text:
            for i, text in enumerate(array.ravel().tolist()):
                data = text.encode() if isinstance(text, str) else text
                string = ctypes.c_void_p(place + i * STRING_BYTES)
                self.tf.TF_StringInit(string)
                self.tf.TF_StringCopy(string, data, ctypes.c_size_t(len(data)))
        else:
            ctypes.memmove(place, array.ctypes.data, size)
        return tensor

    def _to_array(self, tensor: ctypes.c_void_p) -> np.ndarray:
        number = self.tf.TF_TensorType(tensor)
        shape = [self.tf.TF_Dim(tensor, i) for i in range(self.tf.TF_NumDims(tensor))]
        place = self.tf.TF_TensorData(tensor)
        if number == STRING:
            strings = [ctypes.c_void_p(place + i * STRING_BYTES) for i in range(int(np.prod(shape)))]
            flat = [ctypes.string_at(self.tf.TF_StringGetDataPointer(s), self.tf.TF_StringGetSize(s)) for s in strings]
            array = np.array([*flat, None], object)[:-1]  # None: or one bytes object would become an array of numbers
        else:
            data = ctypes.string_at(place, self.tf.TF_TensorByteSize(tensor))
            array = np.frombuffer(data, DTYPES[number])
        self.tf.TF_DeleteTensor(tensor)
        return array.reshape(shape)


def ops(directory: str) -> dict[str, bool]:
    """Every op of a SavedModel, its functions included, by name: whether TensorFlow's C++ library alone can run it.

    Ops that only the Python wheel can run (PyFunc and its kin) and custom ones have no kernel in that library.
    """
    from tensorflow.core.protobuf import saved_model_pb2

    with open(os.path.join(directory, "saved_model.pb"), "rb") as file:
        (meta_graph,) = saved_model_pb2.SavedModel.FromString(file.read()).meta_graphs
    graph = meta_graph.graph_def
    nodes = [*graph.node, *(node for function in graph.library.function for node in function.node_def)]
    names = sorted({node.op for node in nodes})
    tensorflow = load_library()
    status = ctypes.c_void_p(tensorflow.TF_NewStatus())

    def has_kernel(name: str) -> bool:
        kernels = tensorflow.TF_GetRegisteredKernelsForOp(name.encode(), status)
        return Buffer.from_address(kernels).length > 0

    return {name: has_kernel(name) for name in names}


def write_npz(path: str, arrays: dict[str, np.ndarray]) -> None:
    """Arrays of numbers, text or bytes objects as a .npz that `read_npz` reads."""
    plain = {}
    for name, array in arrays.items():
        array = np.asarray(array)
        if array.dtype.kind in "USO":
            flat = [text.encode() if isinstance(text, str) else bytes(text) for text in array.ravel().tolist()]
            coded = np.array([base64.b64encode(data) for data in flat], np.bytes_)
            plain[name + TEXT] = coded.reshape(array.shape)
        else:
            plain[name] = array
    np.savez(path, **plain)


def read_npz(path: str) -> dict[str, np.ndarray]:
    """What `write_npz` wrote; strings as bytes objects."""
    arrays = {}
    with np.load(path, allow_pickle=False) as stored:
        for name in stored.files:
            array = stored[name]
            if name.endswith(TEXT):
                flat = [base64.b64decode(data) for data in array.ravel().tolist()]
                array = np.array([*flat, None], object)[:-1].reshape(array.shape)
            arrays[name.removesuffix(TEXT)] = array
    return arrays


def main(directory: str, *runs: str) -> None:
    if not runs:
        for name, has_kernel in ops(directory).items():
            print(name, "kernel" if has_kernel else "none")
        return
    model = SavedModel(directory)
    for signature, in_path, out_path in zip(runs[::3], runs[1::3], runs[2::3], strict=True):
        write_npz(out_path, model.run(signature, **read_npz(in_path)))


if __name__ == "__main__":
    if len(sys.argv) % 3 != 2:
        sys.exit("usage: python -m export.cpp_loader SAVED_MODEL_DIR [SIGNATURE IN.npz OUT.npz ...]")
    keep_python_tensorflow_out()
    try:
        main(*sys.argv[1:])
    except (ValueError, OSError) as problem:
        sys.exit("error: " + " ".join(str(problem).split()))
