"""Files and folders that appear under their name whole or not at all, whatever happens while they are written."""

import contextlib
import ctypes
import errno
import json
import os
import shutil
import socket
import stat
import tempfile
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO


def place(path: str) -> str:
    """The one name of the file that writing to `path` replaces: links of folders followed, a link of its own not."""
    folder, name = os.path.split(path)
    return os.path.join(os.path.realpath(folder), name)


@contextlib.contextmanager
def replacing(path: str) -> Iterator[str]:
    """Yields a name beside `path`, of the same ending, to write to; it takes `path`'s place when the block is done.

    A block that raises leaves `path` as it was and nothing beside it.
    """
    folder, temporary = os.path.dirname(os.path.abspath(path)), ""
    try:
        os.makedirs(folder, exist_ok=True)
        handle, temporary = tempfile.mkstemp(prefix=".writing-", suffix=os.path.splitext(path)[1], dir=folder)
        os.close(handle)
        os.chmod(temporary, 0o666 & ~_umask())
        yield temporary
        sync(temporary)
        os.replace(temporary, path)
    except BaseException as error:
        if temporary:
            os.unlink(temporary)
        if isinstance(error, OSError) and _is_of(error.filename, folder, temporary):
            error.filename, error.filename2 = path, None  # a person knows this name alone
        raise


def _is_of(name: object, folder: str, temporary: str) -> bool:
    """Whether an error that names `name`, or a full disk, which names nothing, is of a file written as `temporary`."""
    if name is None:
        return True
    name = os.fsdecode(name) if isinstance(name, str | bytes) else ""
    return name == temporary or os.path.dirname(name) == folder and os.path.basename(name).startswith(".writing-")


READ_ONLY = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)


@contextlib.contextmanager
def open_regular(path: str) -> Iterator[BinaryIO]:
    """The file, open for reading its bytes.

    Raises: ValueError for a pipe or device, not waiting for it, and, when the block is done, for a file that another
    program has changed meanwhile, of which a part may have been read before and a part after; OSError.
    """
    handle = os.open(path, READ_ONLY)
    try:
        before = require_regular(path, handle)
    except ValueError:
        os.close(handle)
        raise
    with open(handle, "rb") as file:
        yield file
        _require_same(path, before, handle)


def read_regular(path: str, most: int, remedy: str = "is it the right file?") -> bytes:
    """The bytes of a file of at most `most`. remedy: what to do about a larger one, for the message.

    Raises: ValueError for a larger one; as `open_regular`, which takes thrice as long for a small one.
    """
    handle = os.open(path, READ_ONLY)
    try:
        before = require_regular(path, handle)
        if before.st_size > most:
            raise ValueError(f"{path} has over {most:,} bytes; {remedy}")
        data = os.read(handle, before.st_size)
        while len(data) < before.st_size and (more := os.read(handle, before.st_size - len(data))):
            data += more
        _require_same(path, before, handle)
        return data
    finally:
        os.close(handle)


def require_regular(path: str, handle: int | None = None) -> os.stat_result:
    """What the system knows of a file, of `handle` where it is open. Raises: ValueError for what is none; OSError."""
    status = os.stat(path if handle is None else handle)
    if not stat.S_ISREG(status.st_mode):
        kind = "a folder" if stat.S_ISDIR(status.st_mode) else "a pipe or a device"
        raise ValueError(f"{path} is {kind}; give a file")
    return status


def _require_same(path: str, before: os.stat_result, handle: int) -> None:
    after = os.fstat(handle)
    if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
        raise ValueError(f"{path} was changed while it was read; wait until it is whole, and run this again")


def size(path: str) -> int:
    """Bytes of a file; 0 of one that is not there."""
    try:
        return os.stat(path).st_size
    except OSError:
        return 0


def sizes(folder: str) -> dict[str, int]:
    """Bytes of every file, by its name from `folder`."""
    paths = (os.path.join(inner, name) for inner, _, names in os.walk(folder) for name in names)
    return {os.path.relpath(path, folder): os.path.getsize(path) for path in sorted(paths)}


def read_text(path: str, max_bytes: int, remedy: str) -> str:
    """A file of text in UTF-8 that may be a stranger's, with its line ends and without a byte order mark.

    remedy: what to do, for messages.   Raises: ValueError for another file or a larger one; OSError.
    """
    data = read_regular(path, max_bytes, remedy)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is no text in UTF-8 (byte {error.start + 1}); {remedy}") from None


def read_json(path: str, remedy: str, max_bytes: int = 2**22) -> Any:
    """The value in a JSON file that may be a stranger's.

    remedy: what to do, for messages.   Raises: ValueError for another file or a larger one; OSError.
    """
    data = read_regular(path, max_bytes, remedy)
    try:
        return json.loads(data.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is no JSON of ours ({error}); {remedy}") from None


def write_text(path: str, text: str) -> None:
    """Writes `text` as UTF-8 with the line ends it has."""
    with replacing(path) as temporary, open(temporary, "w", encoding="utf-8", newline="\n") as file:
        file.write(text)


@contextlib.contextmanager
def replacing_folder(path: str, reuse: Callable[[str], bool] | None = None) -> Iterator[str]:
    """Yields an empty folder beside `path`, which takes the place of `path` when the block is done.

    What `path` held before goes only after the new folder is there. A block that raises leaves `path` as it was. What
    killed processes of this machine left of writing `path` is removed first; but the first such folder of which
    `reuse` is true is the one that is yielded, with what is in it, and Ctrl-C leaves it for the next process.
    """
    parent, name = os.path.split(os.path.abspath(path))
    path = os.path.join(parent, name)
    os.makedirs(parent, exist_ok=True)
    mine = f".{name}.writing-{socket.gethostname()}-"
    scratch = tempfile.mkdtemp(prefix=f"{mine}{os.getpid()}-", dir=parent)
    new, old = os.path.join(scratch, "new"), os.path.join(scratch, "old")
    for other in os.listdir(parent):
        number = other.removeprefix(mine).split("-")[0]
        if other.startswith(mine) and number.isdigit() and _has_ended(int(number)):
            left = os.path.join(parent, other, "new")
            if reuse and not os.path.exists(new) and os.path.isdir(left) and reuse(left):
                with contextlib.suppress(OSError):  # another process has taken it
                    os.rename(left, new)
            shutil.rmtree(os.path.join(parent, other), ignore_errors=True)
    kept = False
    try:
        os.makedirs(new, exist_ok=True)
        try:
            yield new
        except KeyboardInterrupt:
            kept = reuse is not None
            raise
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
        if not kept:
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
