"""Files and folders that are whole under their name at every moment."""

import os
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
