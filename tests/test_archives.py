"""Archives: plain files and folders are unpacked, all of them or nothing; what leads elsewhere or lies is refused."""

import bz2
import functools
import gzip
import io
import lzma
import os
import shutil
import struct
import subprocess
import sys
import tarfile
import zipfile
import zlib

import pytest

from data import archives
from tests.strangers import MAX_MEMORY, all_read, fuzz, raw_zip, refused, relabelled, write, zipped
from tests.tiny import ROOT

CONTENT = [("cub/", b""), ("cub/images/1.jpg", b"one" * 900), ("cub/images/2.jpg", b""),
           ("cub/na\u00efve \u20ac.txt", b"text"),
           ("__MACOSX/cub/._1.jpg", b"junk"), ("cub/._images", b"junk"), ("cub/.DS_Store", b"junk")]  # fmt: skip


def tarred(members, form=tarfile.PAX_FORMAT):
    """Bytes of a tar of (name or TarInfo, bytes)."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form) as archive:
        for name, data in members:
            info = name
            if isinstance(name, str):
                info = tarfile.TarInfo(name)
                info.type = tarfile.DIRTYPE if name.endswith("/") else tarfile.REGTYPE
                info.mode = 0o4777
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


PACKERS = {
    "tar": lambda members: tarred(members), "gnu": lambda members: tarred(members, tarfile.GNU_FORMAT),
    "gz": lambda members: gzip.compress(tarred(members)), "bz2": lambda members: bz2.compress(tarred(members)),
    "xz": lambda members: lzma.compress(tarred(members)), "zip": zipped,
    "stored": lambda members: zipped(members, zipfile.ZIP_STORED),
}  # fmt: skip


def tree(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("form", PACKERS)
def test_archive_unpacked(form, tmp_path):
    members = [*CONTENT, (f"cub/{'long' * 40}/{'name' * 40}.txt", b"far")]
    path = write(tmp_path / "a", PACKERS[form](members))
    out = tmp_path / "deep" / "out"
    found = archives.extract(path, str(out))
    expected = {
        name: data for name, data in members if not name.endswith("/") and "._" not in name and ".DS" not in name
    }
    assert tree(out) == expected
    assert (found.files, found.bytes, found.junk) == (4, sum(map(len, expected.values())), 3)
    assert not any(path.stat().st_mode & 0o7111 for path in out.rglob("*") if path.is_file())
    assert os.listdir(out.parent) == ["out"]
    refused(lambda: archives.extract(path, str(out)), out, "not empty")


def test_archive_command(tmp_path):
    write(tmp_path / "a.zip", zipped(CONTENT))
    (tmp_path / "out").mkdir()  # an empty folder is taken
    command = [sys.executable, "-m", "data.archives", f"--archive={tmp_path}/a.zip", f"--out_dir={tmp_path}/out"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0 and "3 files, 2,704 bytes; left out: 3 files" in done.stdout, done
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 1 and done.stderr.startswith("error: ") and done.stderr.count("\n") == 1


def special(name, kind, link=""):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info


def zip_special(name, mode):
    info = zipfile.ZipInfo(name)
    info.create_system, info.external_attr = 3, mode << 16
    return info


def both(*members):
    return {"tar": lambda: tarred(members), "zip": lambda: zipped(members)}


def changed(data, old, new):
    """The tar with another text in a header, its checksum set right."""
    at = data.index(old)
    block = at // 512 * 512
    data = bytearray(data.replace(old, new, 1))
    data[block + 148 : block + 156] = b" " * 8
    data[block + 148 : block + 156] = b"%06o\0 " % sum(data[block : block + 512])
    return bytes(data)


def pax(fields):
    """A tar whose one file has the extended header of these bytes."""
    info = tarfile.TarInfo("PaxHeader")
    info.type, info.size = tarfile.XHDTYPE, len(fields)
    return (
        info.tobuf(tarfile.USTAR_FORMAT)
        + fields
        + bytes(-len(fields) % 512)
        + tarred([("x", b"data")], tarfile.USTAR_FORMAT)
    )


def record(key, value):
    text = b" " + key + b"=" + value + b"\n"
    return next(b"%d" % n + text for n in range(len(text), len(text) + 9) if len(b"%d" % n + text) == n)


@functools.cache
def evil_archives():
    x, four = ("x", b"data"), b"00000000004\0"  # a member and its size as a tar has it
    cases = {
        "..": (both(("a/../../evil", b"x")), "'a/../../evil'", '".."'),
        ".. alone": (both(("../evil", b"x")), '".."'),
        "absolute": (both(("/evil", b"x")), "'/evil'", "absolute"),
        "Windows": (both(("C:\\evil", b"x")), "Windows"),
        "backslashes": (both(("a\\..\\..\\evil", b"x")), "Windows"),
        "junk with ..": (both(("../../._evil", b"x")), '".."'),
        "line break": (both(("a\nb", b"x")), "control"),
        "twice": ({"tar": lambda: tarred([x, x])}, "member 'x'", "twice"),
        "twice but for case": (both(("Cub/A.txt", b"1"), ("cub/a.TXT", b"2")), "'cub/a.TXT'", "twice"),
        "twice but for the accent": (both(("\u00e9", b"1"), ("e\u0301", b"2")), "twice"),
        "twice but for ./": (both(("a/b", b"1"), ("a/./b", b"2")), "twice"),
        "file and folder": (both(("a", b"1"), ("a/b", b"2")), "as a file and a folder"),
        "folder and file": (both(("a/b", b"1"), ("A", b"2")), "as a folder and a file"),
        "no name": ({"tar": lambda: tarred([("./.", b"1")])}, "without a name"),
        "empty name": ({"zip": lambda: raw_zip(b"", b"\x03\0", 0, 0)}, "member ''", "without a name"),
        "name of 2,000 bytes": (both(("a/" * 1000 + "b", b"1")), "1000 bytes"),
        "part of 300 bytes": (both(("a" * 300, b"1")), "255"),
        "symbolic link": ({
            "tar": lambda: tarred([(special("l", tarfile.SYMTYPE, "/etc"), b""), ("l/passwd", b"x")]),
            "zip": lambda: zipped([(zip_special("l", 0o120777), b"/etc"), ("l/x", b"x")])}, "member 'l'", "a link"),
        "hard link": ({"tar": lambda: tarred([(special("l", tarfile.LNKTYPE, "/etc/passwd"), b"")])}, "a link"),
        "character device": ({
            "tar": lambda: tarred([(special("d", tarfile.CHRTYPE), b"")]),
            "zip": lambda: zipped([(zip_special("d", 0o020666), b"")])}, "a device"),
        "block device": ({"tar": lambda: tarred([(special("d", tarfile.BLKTYPE), b"")])}, "a device"),
        "pipe": ({"tar": lambda: tarred([(special("d", tarfile.FIFOTYPE), b"")])}, "a device"),
        "file with holes": ({"tar": lambda: pax(
            record(b"GNU.sparse.size", b"999999999") + record(b"GNU.sparse.numblocks", b"0")
            + record(b"GNU.sparse.map", b"0,1"))}, "holes"),
        "size beyond the file": ({"tar": lambda: changed(tarred([x]), four, b"00077777777\0")}, "unexpected end"),
        "size of terabytes": ({"tar": lambda: changed(tarred([x]), four, b"\x80" + bytes(4) + b"\x7f" + bytes(6))},
            "brings the total to"),
        "negative size": ({"tar": lambda: changed(tarred([x]), four, b"\xff" * 11 + b"\xf0")}, ""),
        "header of megabytes": ({"tar": lambda: pax(record(b"comment", b"x" * 2**20))}, "header"),
        "header of megabytes, packed": ({"gz": lambda: gzip.compress(pax(record(b"comment", b"x" * 2**20)))}, "header"),
        "headers of headers": ({"tar": lambda: b"".join(pax(b"")[:512] for _ in range(5000))}, "header"),
        "header without a number": ({"tar": lambda: pax(record(b"size", b"many"))}, ""),
        "name with a zero byte": ({"zip": lambda: zipped([("abc", b"x")]).replace(b"abc", b"a\0c")}, "control"),
        "checksum of a header": ({"tar": lambda: tarred([x, ("y", b"z")]).replace(b"y\0", b"z\0", 1)},
            "after member 'x'", "checksum"),
        "more after the end": ({"tar": lambda: tarred([x]) + b"more"}, "follows the end"),
        "no end mark": ({"tar": lambda: tarred([x])[:1024]}, "cut short"),
        "gzip checksum": ({"gz": lambda: gzip.compress(tarred([x]))[:-8] + bytes(8)}, "CRC"),
        "gzip cut": ({"gz": lambda: gzip.compress(tarred([x]))[:-8]}, "ended before"),
        "xz of 1.5 GB of memory": ({"xz": big_xz}, "emory"),
        "zip checksum": ({"zip": lambda: relabelled(zipped([x]), 16, 1)}, "member 'x'", "CRC"),
        "zip size that lies": ({"zip": lambda: relabelled(zipped([x]), 24, 2**31)}, "member 'x'", f"{2**31:,}"),
        "no archive": ({"": lambda: b"hello" * 500}, "no tar or zip"),
        "7z": ({"": lambda: b"7z\xbc\xaf\x27\x1c" + bytes(1000)}, "no tar or zip"),
        "nothing": ({"": lambda: b""}, "no tar or zip"),
    }  # fmt: skip
    return {
        f"{name}, {form}": (make, *words) for name, (forms, *words) in cases.items() for form, make in forms.items()
    }


def big_xz():
    """An .xz whose header asks for a dictionary of 1.5 GB, its checksum set right."""
    data = bytearray(lzma.compress(tarred([("x", b"data")]), preset=0))
    at, length = 12, (data[12] + 1) * 4  # the block's header
    data[at + 4] = 37  # (2 | 1) << (37 // 2 + 11) bytes
    data[at + length - 4 : at + length] = struct.pack("<I", zlib.crc32(bytes(data[at : at + length - 4])))
    return bytes(data)


@pytest.mark.parametrize("case", evil_archives())
def test_archive_refused(case, tmp_path):
    make, *words = evil_archives()[case]
    path = write(tmp_path / "evil", make())
    inside = tmp_path / "a" / "b"
    refused(lambda: archives.extract(path, str(inside / "out")), path, "nothing was unpacked", *words)
    assert {str(found.relative_to(tmp_path)) for found in tmp_path.rglob("*")} == {"evil", "a", "a/b"}
    assert not os.path.exists("/evil")


@pytest.mark.parametrize("form", PACKERS)
def test_archive_cut_anywhere(form, tmp_path):
    data = PACKERS[form](CONTENT)
    padding = 2 if form in ("tar", "gnu") else 0  # a tar is whole from its first 512 zero bytes on
    end_mark = len(data.rstrip(b"\0")) // 512 * 512 + 1024 if padding else len(data)
    for end in {*range(0, end_mark, max(1, end_mark // 60)), end_mark - 1}:
        path = write(tmp_path / "cut", data[:end])
        refused(lambda path=path: archives.extract(path, str(tmp_path / "out")), path)
    assert os.listdir(tmp_path) == ["cut"]


def test_archive_over_the_limits(tmp_path, monkeypatch):
    path = write(tmp_path / "a.tar", tarred([("a", bytes(600)), ("b", bytes(600))]))
    refused(lambda: archives.extract(path, str(tmp_path / "out"), max_bytes=1000), path, "member 'b'", "1,200", "1,000")
    monkeypatch.setattr(archives, "MAX_MEMBERS", 1)
    refused(lambda: archives.extract(path, str(tmp_path / "out")), path, "member 'b'", "over 1 members")


# Memory, and damage


def test_archive_bomb_stays_small(tmp_path):
    header = changed(tarred([("x", b"data")]), b"00000000004\0", b"20000000000\0")[:512]
    zeros = gzip.compress(bytes(2**20)) * 2048  # 2 GB in 2 MB
    write(tmp_path / "zeros.tar", gzip.compress(header) + zeros + gzip.compress(bytes(1024)))
    lines, peak = all_read(tmp_path)
    assert str(tmp_path) in lines[0] and "brings the total" in lines[0] and peak < MAX_MEMORY, (lines, peak)


@pytest.mark.slow
def test_archive_of_many_members_stays_small(tmp_path):
    block = tarred([("x" * 90, b"")], tarfile.USTAR_FORMAT)[:512]
    with open(tmp_path / "many.tar", "wb") as file:
        for number in range(100_000):
            file.write(changed(block, b"x" * 90, b"%090d" % (number % 99_999)))
    lines, peak = all_read(tmp_path)
    assert "twice" in lines[0] and peak < MAX_MEMORY, (lines, peak)


@pytest.mark.slow
def test_zip_of_many_members_stays_small(tmp_path):
    write(tmp_path / "many.tar", zipped([(f"._{i}", b"") for i in range(200_000)], zipfile.ZIP_STORED))
    lines, peak = all_read(tmp_path)
    assert lines == ["many.tar was read"] and peak < MAX_MEMORY, (lines, peak)


def checksums(data):
    """The tar with the checksum of every block that looks like a header set right."""
    blocks = [bytearray(data[at : at + 512]) for at in range(0, len(data), 512)]
    for block in blocks:
        if block[257:262] == b"ustar":
            block[148:156] = b" " * 8
            block[148:156] = b"%06o\0 " % sum(block)
    return b"".join(blocks)


SMALL = [("a/b.txt", b"text" * 20), ("a/", b""), ("c", b""), ("d" * 150, b"far")]
FUZZED = {  # name: (valid files, what comes after the damage)
    "any": ([pack(SMALL) for pack in PACKERS.values()], bytes),
    "headers of a tar": ([tarred(SMALL), tarred(SMALL, tarfile.GNU_FORMAT)], checksums),
    "tar in gz": ([tarred(SMALL), tarred(SMALL, tarfile.GNU_FORMAT)], lambda data: gzip.compress(checksums(data), 1)),
    "zip": ([zipped(SMALL), zipped(SMALL, zipfile.ZIP_STORED)], bytes),
}


@pytest.mark.slow
@pytest.mark.parametrize("form", FUZZED)
def test_fuzzed_archives(form, tmp_path):
    files, finish = FUZZED[form]
    home = tmp_path / "home"

    def extract(path):
        home.mkdir()
        try:
            archives.extract(path, str(home / "out"))
            assert os.listdir(home) == ["out"]
        except ValueError:
            assert os.listdir(home) == []
            raise
        finally:
            shutil.rmtree(home)

    fuzz(tmp_path, files, extract, finish)
