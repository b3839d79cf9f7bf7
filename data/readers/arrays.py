"""Arrays out of strangers' .npy, .npz and MAT files, for use within data.readers.sandbox. Nothing is unpickled."""

from collections.abc import Iterator

import numpy as np

from data.readers import sandbox


def load_npy(path: str) -> Iterator[tuple[np.ndarray]]:
    """The one array of an .npy file. Raises: ValueError for objects and damage, EOFError, OSError."""
    with sandbox.opened(path) as file:
        if (version := np.lib.format.read_magic(file)) <= (2, 0):  # numpy 1 takes a side of -1 for the rest of the file
            header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            if min(header(file)[0], default=0) < 0:
                raise ValueError("a side of the array is below 0")
        file.seek(0)
        yield (np.lib.format.read_array(file, allow_pickle=False),)
        if file.read(1):
            raise ValueError("more bytes follow the array")


def load_npz(path: str, names: list[str] | None = None) -> Iterator[tuple[str, np.ndarray]]:
    """Name and values of every array of an .npz file, or of those of `names` that it has.

    Raises: ValueError for objects, or a name that is there twice; what numpy and zipfile raise for damage; OSError.
    """
    with sandbox.opened(path) as file:
        if file.read(4) != b"PK\x03\x04":  # numpy would take it for a pickle, and give advice on how to trust it
            raise ValueError("it is no .npz file, which begins with an array")
        file.seek(0)
        with np.load(file, allow_pickle=False) as arrays:
            if not isinstance(arrays, np.lib.npyio.NpzFile) or len(set(arrays.files)) < len(arrays.files):
                raise ValueError("it is no .npz file of arrays of different names")
            for name in arrays.files:
                if names is None or name in names:
                    value = arrays[name]
                    if not isinstance(value, np.ndarray):
                        raise ValueError(f"member {name[:80]!r} is no .npy array")
                    yield name, value


def load_mat(path: str, name: str) -> Iterator[tuple[np.ndarray]]:
    """The numeric matrix `name` of a MAT file (MATLAB's -v6 and -v7; v7.3 is not read).

    Raises: ValueError for a missing or non-numeric variable; what scipy raises for damage; OSError.
    """
    import scipy.io  # here: it takes half a second

    with sandbox.opened(path, 2**28) as file:
        try:
            found = scipy.io.loadmat(file, variable_names=[name])
        except NotImplementedError:
            raise ValueError("it is a MAT v7.3 (HDF5) file, which is not read; save it with -v7") from None
        matrix = found.get(name)
        if not isinstance(matrix, np.ndarray) or matrix.dtype.kind not in "fiub":
            raise ValueError(f"there is no matrix of numbers {name!r}; give the right file")
        yield (matrix,)
