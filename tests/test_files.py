"""Files and folders that are whole under their name at every moment."""

import errno
import os
import socket
import subprocess
import sys
import threading

import pytest

from simgan_tf.system import files


def test_a_folder_is_never_missing_while_it_is_replaced(tmp_path):
    """Fifty replacements beside a thread that looks for the folder all the time.

    Where the system swaps names in one step (Linux) there is no moment without; elsewhere there is a short one.
    """
    path, seen, done = str(tmp_path / "folder"), set(), threading.Event()
    with files.replacing_folder(path) as folder:
        files.write_text(os.path.join(folder, "number"), "0")

    def look():
        while not done.is_set():
            seen.add(os.path.isdir(path))

    watcher = threading.Thread(target=look)
    watcher.start()
    for number in range(1, 51):
        with files.replacing_folder(path) as folder:
            files.write_text(os.path.join(folder, "number"), str(number))
    done.set()
    watcher.join()
    with open(os.path.join(path, "number"), encoding="utf-8") as file:
        assert file.read() == "50"
    assert os.listdir(tmp_path) == ["folder"]
    if os.uname().sysname == "Linux":
        assert seen == {True}


def test_a_failed_replacement_leaves_the_old_folder_and_nothing_beside_it(tmp_path):
    path = str(tmp_path / "folder")
    with files.replacing_folder(path) as folder:
        files.write_text(os.path.join(folder, "a"), "old")
    with pytest.raises(OSError, match="disk full"), files.replacing_folder(path) as folder:
        files.write_text(os.path.join(folder, "a"), "new")
        raise OSError("disk full")
    with open(os.path.join(path, "a"), encoding="utf-8") as file:
        assert file.read() == "old"
    assert os.listdir(tmp_path) == ["folder"]


def test_only_what_ended_processes_of_this_machine_left_is_removed(tmp_path):
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    here = socket.gethostname()
    folders = {
        f".folder.writing-{here}-{ended.pid}-a": False,
        f".folder.writing-{here}-{os.getpid()}-b": True,
        f".folder.writing-elsewhere-{ended.pid}-c": True,
        f".folder.writing-{here}-mine": True,
        f".other.writing-{here}-{ended.pid}-a": True,
    }
    for name in folders:
        (tmp_path / name / "new").mkdir(parents=True)
    with files.replacing_folder(str(tmp_path / "folder")):
        pass
    for name, stays in folders.items():
        assert (tmp_path / name).exists() == stays, name


def test_a_lock_is_held_once_and_names_its_holder(tmp_path):
    path = str(tmp_path / "lock")
    with files.locked(path, "--run_dir=a"):
        with pytest.raises(BlockingIOError, match=f"^--run_dir=a is in use by process {os.getpid()}: wait for it"):
            with files.locked(path, "--run_dir=a"):
                pass
        os.unlink(path + ".holder")
        with pytest.raises(BlockingIOError, match="in use by process unknown: "), files.locked(path, "--run_dir=a"):
            pass
    with files.locked(path, "--run_dir=a"):
        pass


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_told_and_goes_on(tmp_path, capsys, monkeypatch, number):
    """The system's own call stands for such a file system; another error of it stays one."""
    fcntl = pytest.importorskip("fcntl", reason="the system call of Linux and macOS")

    def refuse(handle, operation):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with files.locked(str(tmp_path / "lock"), "--run_dir=a"):
        assert "this file system has no locks; see to it" in capsys.readouterr().out
    number = errno.EIO
    with pytest.raises(OSError, match=os.strerror(errno.EIO)), files.locked(str(tmp_path / "lock"), "--run_dir=a"):
        pass


@pytest.mark.parametrize("change", [b"+", b""])
def test_a_file_that_changes_while_it_is_read_is_refused(tmp_path, change):
    """Appended to, or written anew with the same bytes at another time."""
    path = tmp_path / "a.csv"
    path.write_bytes(b"key,caption\n")
    with pytest.raises(ValueError, match=r"a\.csv was changed while it was read; wait"):
        with files.open_regular(str(path)) as file:
            file.read()
            path.write_bytes(b"key,caption\n" + change)
            if not change:
                os.utime(path, ns=(1, 1))
    with files.open_regular(str(path)) as file:
        assert file.read() == b"key,caption\n" + change
