"""Runs a SavedModel through TensorFlow's C++ loader, the one of TensorFlow Serving, without Python TensorFlow.
Knows nothing of this project: any SavedModel, its serving_default signature, arrays from and to .npz.

    python -m export.cpp_loader SAVED_MODEL_DIR IN.npz OUT.npz      arrays named like the signature's inputs and outputs
"""

import ctypes
import importlib.util
import os
import sys
from collections.abc import Iterator

import numpy as np

SIGNATURE = b"serving_default"
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
                     "TF_StringGetDataPointer"):  # fmt: skip
        getattr(library, function).restype = ctypes.c_void_p
    for function in ("TF_TensorByteSize", "TF_StringGetSize"):
        getattr(library, function).restype = ctypes.c_size_t
    library.TF_Dim.restype = ctypes.c_int64
    library.TF_Message.restype = ctypes.c_char_p
    return library


class SavedModel:
    """The serving_default signature of a SavedModel: call it with arrays by input name, get arrays by output name.

    Raises: ValueError with TensorFlow's message, and for a missing signature or a wrong set of inputs.
    """

    def __init__(self, directory: str) -> None:
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
        signatures = dict(_map(ctypes.string_at(buffer.data, buffer.length), 5))  # MetaGraphDef.signature_def
        if SIGNATURE not in signatures:
            raise ValueError(
                f"{directory} has no signature {SIGNATURE.decode()}; it has "
                f"{', '.join(sorted(name.decode() for name in signatures))}"
            )
        self.inputs, self.outputs = (
            {name.decode(): self._tensor(dict(_fields(info))[1]) for name, info in _map(signatures[SIGNATURE], number)}
            for number in (1, 2)  # SignatureDef.inputs, .outputs; TensorInfo.name is field 1
        )

    def __call__(self, **arrays: np.ndarray) -> dict[str, np.ndarray]:
        if set(arrays) != set(self.inputs):
            raise ValueError(f"arrays {sorted(arrays)} given, the signature takes {sorted(self.inputs)}")
        places = [self.inputs[name] for name in arrays]
        tensors = [self._to_tensor(array) for array in arrays.values()]
        results = (ctypes.c_void_p * len(self.outputs))()
        self.tf.TF_SessionRun(
            self.session, None,
            (Output * len(places))(*places), (ctypes.c_void_p * len(tensors))(*tensors), len(tensors),
            (Output * len(results))(*self.outputs.values()), results, len(results),
            None, 0, None, self.status,
        )  # fmt: skip
        for tensor in tensors:
            self.tf.TF_DeleteTensor(ctypes.c_void_p(tensor))
        self._check()
        made = (self._to_array(ctypes.c_void_p(result)) for result in results)
        return dict(zip(self.outputs, made, strict=True))

    def _check(self) -> None:
        if self.tf.TF_GetCode(self.status):
            raise ValueError(self.tf.TF_Message(self.status).decode(errors="replace"))

    def _tensor(self, name: bytes) -> Output:
        operation, _, index = name.rpartition(b":")
        return Output(self.tf.TF_GraphOperationByName(self.graph, operation), int(index))

    def _to_tensor(self, array: np.ndarray) -> int:
        is_text = array.dtype.kind in "US"
        if not is_text and array.dtype not in NUMBERS:
            raise ValueError(f"arrays of {array.dtype} are not supported; use text, {', '.join(map(str, NUMBERS))}")
        array = np.ascontiguousarray(array)
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
            array = np.array(flat, np.bytes_)
        else:
            data = ctypes.string_at(place, self.tf.TF_TensorByteSize(tensor))
            array = np.frombuffer(data, DTYPES[number])
        self.tf.TF_DeleteTensor(tensor)
        return array.reshape(shape)


def _fields(message: bytes) -> Iterator[tuple[int, bytes | int]]:
    """(field number, value) of a serialized protocol buffer: bytes of length-delimited fields, int of varints."""
    at = 0

    def varint() -> int:
        nonlocal at
        value = shift = 0
        while True:
            byte = message[at]
            at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    while at < len(message):
        key = varint()
        kind = key & 7
        if kind == 0:
            yield key >> 3, varint()
        else:  # 1: eight bytes, 2: a length and so many bytes, 5: four bytes
            length = varint() if kind == 2 else {1: 8, 5: 4}[kind]
            yield key >> 3, message[at : at + length]
            at += length


def _map(message: bytes, number: int) -> Iterator[tuple[bytes, bytes]]:
    """(key, value) of the map field `number`: repeated messages with key 1 and value 2."""
    for field, value in _fields(message):
        if field == number:
            entry = dict(_fields(value))
            yield entry[1], entry[2]


def main(saved_model_dir: str, in_path: str, out_path: str) -> None:
    with np.load(in_path, allow_pickle=False) as arrays:
        outputs = SavedModel(saved_model_dir)(**arrays)
    np.savez(out_path, **outputs)


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit("usage: python -m export.cpp_loader SAVED_MODEL_DIR IN.npz OUT.npz")
    try:
        main(*sys.argv[1:])
    except (ValueError, OSError) as problem:
        sys.exit("error: " + " ".join(str(problem).split()))
