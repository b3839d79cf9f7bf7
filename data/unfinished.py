"""The folder that a build writes in before it has its name, and the removal of those that killed builds left.
Must not know what is written."""

import contextlib
import os
import shutil
import socket
import tempfile
from collections.abc import Iterator


@contextlib.contextmanager
def unfinished_folder(out_dir: str) -> Iterator[str]:
    """A folder to write in, inside a hidden one beside `out_dir` that is removed whatever happens.

    Those of killed builds are removed first: each is named after its process and says on which machine that ran.
    """
    parent, name = os.path.split(os.path.abspath(out_dir))
    os.makedirs(parent, exist_ok=True)
    prefix = f".{name}.building-"
    for other in os.listdir(parent):
        number = other.removeprefix(prefix).split("-")[0]
        path = os.path.join(parent, other)
        if other.startswith(prefix) and number.isdigit() and _is_gone(path, int(number)):
            shutil.rmtree(path, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=f"{prefix}{os.getpid()}-", dir=parent) as scratch:
        with open(os.path.join(scratch, "machine"), "w", encoding="utf-8") as file:
            file.write(socket.gethostname())
        unfinished = os.path.join(scratch, "records")
        os.mkdir(unfinished)
        yield unfinished


def _is_gone(path: str, process: int) -> bool:
    """Whether the build that made `path` ran on this machine and runs no more."""
    try:
        with open(os.path.join(path, "machine"), encoding="utf-8") as file:
            if file.read() != socket.gethostname():
                return False
        if os.name == "nt":  # signal 0 is no question there
            return False
        os.kill(process, 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return False
