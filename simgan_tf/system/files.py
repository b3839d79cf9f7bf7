"""Files and folders that appear under their name whole or not at all, whatever happens while they are written."""

import contextlib
import ctypes
import errno
import os
import shutil
import socket
import tempfile
from collections.abc import Iterator


@contextlib.contextmanager
def replacing(path: str) -> Iterator[str]:
    """Yields a name beside `path`, of the same ending, to write to; it takes `path`'s place when the block is done.

    A block that raises leaves `path` as it was and nothing beside it.
    """
    folder = os.path.dirname(os.path.abspath(path))
    os.makedirs(folder, exist_ok=True)
    handle, temporary = tempfile.mkstemp(prefix=".writing-", suffix=os.path.splitext(path)[1], dir=folder)
    os.close(handle)
    os.chmod(temporary, 0o666 & ~_umask())
    try:
        yield temporary
        sync(temporary)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def write_text(path: str, text: str) -> None:
    """Writes `text` as UTF-8 with the line ends it has."""
    with replacing(path) as temporary, open(temporary, "w", encoding="utf-8", newline="\n") as file:
        file.write(text)


@contextlib.contextmanager
def replacing_folder(path: str) -> Iterator[str]:
    """Yields an empty folder beside `path`, which takes the place of `path` when the block is done.

    What `path` held before goes only after the new folder is there. A block that raises leaves `path` as it was. What
    killed processes of this machine left of writing `path` is removed first.
    """
    parent, name = os.path.split(os.path.abspath(path))
    path = os.path.join(parent, name)
    os.makedirs(parent, exist_ok=True)
    mine = f".{name}.writing-{socket.gethostname()}-"
    for other in os.listdir(parent):
        number = other.removeprefix(mine).split("-")[0]
        if other.startswith(mine) and number.isdigit() and _has_ended(int(number)):
            shutil.rmtree(os.path.join(parent, other), ignore_errors=True)
    scratch = tempfile.mkdtemp(prefix=f"{mine}{os.getpid()}-", dir=parent)
    new, old = os.path.join(scratch, "new"), os.path.join(scratch, "old")
    try:
        os.mkdir(new)
        yield new
        if os.path.exists(path) and not _exchange(new, path):
            os.rename(path, old)
        if os.path.exists(new) and not os.path.exists(path):
            try:
                os.rename(new, path)
            except OSError:
                if os.path.exists(old):
                    os.rename(old, path)
                raise
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


@contextlib.contextmanager
def locked(path: str, what: str) -> Iterator[None]:
    """Holds the lock of the file `path`, made where it is missing; the system lets go of it however the process ends.

    what: the locked thing's name in the message. The holder's process number stands in `path`.holder, since Windows
    lets nobody else read a locked file.
    Raises: BlockingIOError where another process holds it, naming that.
    """
    import filelock  # here: it takes a tenth of a second, and only a training needs it

    lock, holder = filelock.FileLock(path), f"{path}.holder"
    try:
        lock.acquire(blocking=False)
    except filelock.Timeout:
        process = ""
        with contextlib.suppress(OSError), open(holder, encoding="ascii") as file:
            process = file.read().strip()
        raise BlockingIOError(
            f"{what} is in use by process {process or 'unknown'}: wait for it, or end it first."
        ) from None
    except OSError as error:
        if error.errno not in (errno.ENOLCK, errno.EOPNOTSUPP):  # ENOSYS: filelock takes a marker file instead
            raise
        print(f"{path}: this file system has no locks; see to it that no other process writes here.")
    try:
        write_text(holder, f"{os.getpid()}\n")
        yield
    finally:
        with contextlib.suppress(OSError):
            os.unlink(holder)
        lock.release()


def sync(path: str) -> None:
    """Waits until a file's content, or a folder's names, are on the disk; a rename alone is lost by a power cut."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.EBADF, errno.EACCES):  # a system that cannot sync a folder
            raise
    finally:
        os.close(handle)


def remove_unfinished(folder: str) -> None:
    """Deletes what a killed process was writing into `folder` through this module, while nothing else writes there."""
    for name in os.listdir(folder) if os.path.isdir(folder) else ():
        path = os.path.join(folder, name)
        if name.startswith(".writing-"):
            shutil.rmtree(path) if os.path.isdir(path) else os.unlink(path)


def _has_ended(process: int) -> bool:
    """Whether no process of this machine has that number."""
    if os.name == "nt":  # where signal 0 is Ctrl-C
        return False
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return True
    except OSError:  # another user's
        pass
    return False


def _exchange(first: str, second: str) -> bool:
    """Swaps two names in one step, so that no moment is without either; False where the system cannot (not Linux)."""
    try:
        rename = ctypes.CDLL(None).renameat2
    except (AttributeError, OSError, TypeError):
        return False
    current_folder, exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE of Linux
    return rename(current_folder, os.fsencode(first), current_folder, os.fsencode(second), exchange) == 0


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
