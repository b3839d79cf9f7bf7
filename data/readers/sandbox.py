"""Strangers' files are read in a child process of limited memory, processor time and output, which hands back strings,
numbers and arrays. A file that hangs, fills the memory or breaks a library costs that child, and becomes one line."""

import atexit
import contextlib
import errno
import functools
import importlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, BinaryIO

if TYPE_CHECKING:
    import numpy as np

try:
    import resource
except ImportError:  # Windows has no such limits
    resource = None

HOME = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
MEMORY = 288 * 2**20  # bytes that a file may take in the child, and its values in the parent, beyond FACTOR a byte
FACTOR = 3
STEP = 2**24  # bytes, in which the limit moves, so that many small files share one
SECONDS, BYTES_PER_SECOND = 5, 2**22  # of processor time: that many, and one for each so many bytes of the file
OVERHEAD = 64  # bytes that a value takes in Python beside its content
MESSAGE = 420  # characters of a reader's error that are handed over
BATCH = 2**18  # characters and bytes that are handed over at a time
ENVIRONMENT = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}  # their stacks would count as memory

_children: list[subprocess.Popen] = []  # that wait for work
_child = None  # in the child: the _Child, which hears of every file that is opened


# The parent


def read(reader: Callable[..., Iterable[tuple]], *arguments: Any) -> Iterator[list]:
    """What `reader(*arguments)` yields, run in the child: items of strings, numbers, None, lists of them and arrays.

    Tuples come as lists, numpy's numbers as Python's, arrays read-only. The reader is a function of a module's top
    level that opens its files by `opened`; its arguments are JSON. The flag --trust lifts the limits, for files that
    one made oneself; what a reader builds of a file is the same. Where the system has no limits the child still takes
    the crashes.

    Raises: ValueError and OSError as the reader does; ValueError naming the file, the limit and what to do.
    """
    trust, remedy = _trust()
    child = _children.pop() if _children else _start()
    path, current = str(arguments[0]) if arguments else "", child.current
    if current:
        os.pwrite(current.fileno(), bytes(4), 0)  # none yet
    try:
        try:
            _write(child.stdin, b"R", [reader.__module__, reader.__qualname__, arguments, trust])
            while True:
                kind, content = _receive(child.stdout)
                if kind == b"I":
                    yield from content
                elif kind == b"F":
                    path = content
                elif kind == b"D":
                    _children.append(child)
                    child = None
                    return
                elif kind == b"E":
                    if content[0] != "Limit":
                        _children.append(child)
                        child = None
                    raise _error(*content, path=_opened_last(current) or path, remedy=remedy)
        except (EOFError, BrokenPipeError):
            path = _opened_last(current) or path
            raise ValueError(f"{path}: {_death(child.wait(), path)}{remedy}") from None
    finally:
        if child is not None:
            _stop(child)


def define_flag() -> None:
    """The flag --trust of a command that reads strangers' files."""
    from absl import flags

    if "trust" not in flags.FLAGS:  # a command may be run again in one process
        flags.DEFINE_bool("trust", False, "Read files of any size: no limits of memory and time, for files you made.")


def _trust() -> tuple[bool, str]:
    """Whether the command was given --trust, and what a refusal says of it."""
    from absl import flags  # here: the child does without

    if "trust" not in flags.FLAGS or not flags.FLAGS.is_parsed():
        return False, "; fetch the file again"
    return flags.FLAGS.trust, "; fetch the file again, or, if you made it yourself, lift the limit: --trust"


def _start() -> subprocess.Popen:
    if resource is None:
        _say_once()
    # A message of each of 12,000 small files would take half as long as to read them.
    current = tempfile.TemporaryFile() if hasattr(os, "pwrite") else None
    numbers = [current.fileno()] if current else []
    child = subprocess.Popen(
        [sys.executable, "-W", "ignore", os.path.abspath(__file__), *map(str, numbers)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, **ENVIRONMENT},
        pass_fds=numbers,
    )
    child.current = current
    return child


def _opened_last(current: BinaryIO | None) -> str:
    """The file that the child has opened last, "" where it says that in messages."""
    if current is None:
        return ""
    size = int.from_bytes(os.pread(current.fileno(), 4, 0), "little")
    return os.fsdecode(os.pread(current.fileno(), size, 4))


@functools.cache
def _say_once() -> None:
    print("this system cannot limit a process; strangers' files are read without such limits", file=sys.stderr)


def _stop(child: subprocess.Popen) -> None:
    child.kill()
    for pipe in (child.stdin, child.stdout, *filter(None, [child.current])):
        with contextlib.suppress(OSError):
            pipe.close()
    child.wait()


@atexit.register
def _stop_all() -> None:
    while _children:
        _stop(_children.pop())


def _receive(stream: BinaryIO, arrays: bool = True) -> tuple[bytes, Any]:
    head = stream.read(9)
    if len(head) < 9:
        raise EOFError
    text = stream.read(int.from_bytes(head[1:], "little"))

    def array(about: dict) -> "np.ndarray":
        import numpy as np

        dtype, shape = np.dtype(about["dtype"]), tuple(about["shape"])
        raw = stream.read(about["bytes"])
        return np.frombuffer(raw, dtype).reshape(shape) if raw else np.zeros(shape, dtype)

    try:
        return head[:1], json.loads(text, object_hook=array if arrays else None)
    except ValueError as error:  # it ended within a message
        raise EOFError from error


def _error(name: str, message: str, number: int | None, reason: str, file: str, path: str, remedy: str) -> Exception:
    if name == "Limit":
        return ValueError(f"{path}: {message}{remedy}")
    if number is not None:
        return OSError(number, reason, file)
    if name == "FileNotFoundError":
        return FileNotFoundError(message)
    return ValueError(message if path in message else f"{path}: {message or name}; fetch the file again")


def _death(code: int, path: str) -> str:
    if code == -getattr(signal, "SIGPROF", 0):
        with contextlib.suppress(OSError):
            return f"reading it takes over {_seconds(os.path.getsize(path)):.0f} seconds of processor time"
    return f"the reader broke over it (exit code {code}), as damaged files make it"


def _seconds(size: int) -> float:
    return SECONDS + size / BYTES_PER_SECOND


# The child


@contextlib.contextmanager
def opened(path: str, max_bytes: int = 2**33) -> Iterator[BinaryIO]:
    """A stranger's file, open for reading. In the child the limits are from here on those of a file of its size.

    Raises: ValueError for a pipe, a device, a folder or more than `max_bytes`; OSError.
    """
    from simgan_tf.system import files

    with files.open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > max_bytes:
            raise ValueError(f"{path} has {size:,} bytes; at most {max_bytes:,} are read, is it the right file?")
        if _child:
            _child.limit(path, size)
        yield file


def require_room(count: int, values: int) -> None:
    """To be called by a reader that knows beforehand how much it will hand over: `count` lines of `values` each.

    Raises: Limit where they would take more memory than files of that size may, so that nobody waits for the end.
    """
    if _child and not _child._trust and OVERHEAD * values * count > _child.room():
        raise Limit(f"its {count:,} lines take more memory than a file of its size should")


class Limit(Exception):
    """A file that goes beyond what it may take."""


def _plain(message: str) -> str:
    """A library's message without addresses of its objects and without advice on how to trust the file."""
    message = re.sub(r"<[^<>]* object at 0x[0-9a-f]+>", "...", message[:MESSAGE].split("\nTo allow")[0])
    return " ".join(message.split())


class _Child:
    """The loop of the child: a request in, items out."""

    def __init__(self, current: int | None) -> None:
        """current: number of the open file that is to hold the name of the one that is being read."""
        self._current = current
        self._in, self._out = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
        os.dup2(2, 1)  # what a library prints is no message
        if hasattr(signal, "SIGINT"):
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's; this one ends with its pipe

    def run(self) -> None:
        """Serves until the parent closes the pipe."""
        while True:
            try:
                _, (module, name, arguments, trust) = _receive(self._in, arrays=False)
            except EOFError:
                return
            reader = functools.reduce(getattr, name.split("."), importlib.import_module(module))
            self._trust, self._allowed, self._sent, self._sizes, self._taken = trust, MEMORY, 0, 0, 0
            try:
                self._send_all(reader(*arguments))
                message = b"D", None
            except MemoryError:
                message = b"E", ["Limit", f"reading it takes over {self._allowed // 2**20:,} MB of memory", *_NO_FILE]
            except RecursionError:
                message = b"E", ["Limit", "its values are nested too deep", *_NO_FILE]
            except Exception as error:  # noqa: BLE001 - whatever a library raises over a stranger's file is about the file
                system = [error.errno, error.strerror, error.filename] if _of_system(error) else _NO_FILE
                message = b"E", [type(error).__name__, _plain(str(error)), *system]
            self._end()
            _write(self._out, *message)

    def limit(self, path: str, size: int) -> None:
        """Limits memory and processor time to what a file of `size` bytes may take, and tells the parent of it."""
        if self._current is None:
            _write(self._out, b"F", path)
        else:
            name = os.fsencode(path)
            os.pwrite(self._current, len(name).to_bytes(4, "little") + name, 0)
        self._sizes += size
        if not self._trust and resource:
            self._taken = self._taken or _address_space()
            signal.setitimer(signal.ITIMER_PROF, _seconds(size))
            self._limit_memory(MEMORY + FACTOR * size)

    def _limit_memory(self, allowed: int | None) -> None:
        """Bytes beyond what the child took when this request opened its first file; None = any."""
        soft, hard = resource.getrlimit(resource.RLIMIT_AS)
        wanted = hard if allowed is None else self._taken + allowed // STEP * STEP
        if wanted != soft:
            resource.setrlimit(resource.RLIMIT_AS, (wanted, hard))
        self._allowed = allowed

    def _end(self) -> None:
        if resource:
            signal.setitimer(signal.ITIMER_PROF, 0)
            self._limit_memory(None)

    def _send_all(self, items: Iterable[tuple]) -> None:
        batch, waiting = [], 0
        for item in items:
            batch.append(item)
            for part in item:
                waiting += len(part) if type(part) is str else _length(part)
            if waiting > BATCH or len(batch) > 1000:
                self._send(batch)
                batch, waiting = [], 0
        self._send(batch)

    def _send(self, batch: list[tuple]) -> None:
        self._sent += _write(self._out, b"I", batch, None if self._trust else self.room())

    def room(self) -> int:
        """Bytes that may still be handed over."""
        return MEMORY + FACTOR * self._sizes - self._sent


_NO_FILE = [None, None, None]


def _address_space() -> int:
    """Bytes of it that this process takes."""
    if not os.path.exists("/proc/self/statm"):  # not Linux; Python with numpy and scipy
        return 2**29
    with open("/proc/self/statm") as file:
        return int(file.read().split()[0]) * resource.getpagesize()


def _length(part: object) -> int:
    """About how many bytes are sent of what is no text. Raises: ValueError for what is not to be sent."""
    if _is_numpy(part, "ndarray", "generic"):
        return part.nbytes
    if type(part) is list and all(type(text) is str for text in part):
        return sum(map(len, part)) + 8 * len(part)
    if type(part) in (int, float, bool, type(None)):
        return 8
    raise ValueError(f"it holds a {type(part).__name__}, and only numbers, text and arrays of them are read")


def _is_numpy(value: object, *types: str) -> bool:
    """Whether it is of one of numpy's types, which only some readers import: it takes longer than they read a table."""
    numpy = sys.modules.get("numpy")
    return numpy is not None and isinstance(value, tuple(getattr(numpy, name) for name in types))


def _of_system(error: Exception) -> bool:
    """Whether the system refused a file; a place before its start, which a damaged one may name, is no such refusal."""
    known = isinstance(error, OSError) and error.errno not in (None, errno.EINVAL)
    return known and isinstance(error.filename, (str, type(None)))


def _write(stream: BinaryIO, kind: bytes, content: Any, most: int | None = None) -> int:
    """Writes a message; returns what its values take in the memory of who reads it.

    most: bytes that they may take, None = any.   Raises: Limit for more, before anything is written.
    """
    arrays = []

    def plain(value: Any) -> Any:
        if _is_numpy(value, "generic") and value.dtype.kind in "fiubU":
            return value.item()
        if _is_numpy(value, "ndarray") and value.dtype.kind in "fiub":
            value = value.astype(value.dtype.newbyteorder("="), order="C", copy=False)
            arrays.append(value)
            return {"dtype": value.dtype.str[1:], "shape": value.shape, "bytes": value.nbytes}
        raise ValueError(f"it holds a {getattr(value, 'dtype', type(value).__name__)}, and only numbers are read")

    text = json.dumps(content, default=plain)
    values = text.count(",") + text.count("\\n")  # texts may be joined by line ends
    cost = len(text) + OVERHEAD * values + sum(array.nbytes for array in arrays)
    if most is not None and cost > most:
        raise Limit("what it holds takes more memory than a file of its size should")
    text = text.encode()
    stream.write(kind + len(text).to_bytes(8, "little") + text)
    for array in arrays:
        stream.write(memoryview(array).cast("B") if array.nbytes else b"")
    stream.flush()
    return cost


if __name__ == "__main__":
    sys.path[0] = HOME  # and not this file's folder, nor where the command was typed
    from data.readers import sandbox

    sandbox._child = sandbox._Child(int(sys.argv[1]) if sys.argv[1:] else None)
    sandbox._child.run()
