"""Unpacks a stranger's archive: python -m data.archives --archive=CUB_200_2011.tgz --out_dir=raw/cub
Only plain files and folders are written, and all of them or nothing."""

import dataclasses
import os
import re
import stat
import unicodedata
from collections.abc import Iterator
from typing import BinaryIO

import tqdm
from absl import flags

from data.readers import plain, tars, zips
from simgan_tf.system import commands, files

MAX_MEMBERS = 500_000
MAX_GROWTH = 200  # times its own size that an archive of over 1.3 MB may unpack to; text shrinks to a tenth
MAX_PART, MAX_NAME = 255, 1000  # bytes of a name between two slashes, and of all of it
CHUNK = 2**20

JUNK = re.compile(r"\._.*|__MACOSX|\.DS_Store|Thumbs\.db|desktop\.ini")
_BROKEN = (*zips.BROKEN, *tars.BROKEN)


@dataclasses.dataclass(frozen=True)
class Extracted:
    """What was written: files and their bytes; `junk` counts the files of macOS and Windows that were left out."""

    files: int
    bytes: int
    junk: int


@dataclasses.dataclass(frozen=True)
class _Member:
    name: str
    kind: str  # "file", "folder" or what else it is
    size: int  # bytes, as the archive says
    content: BinaryIO


def extract(path: str, out_dir: str, max_bytes: int = 2**36) -> Extracted:
    """Unpacks a .zip, .tar, .tar.gz, .tar.bz2 or .tar.xz into `out_dir`, which appears when all of it is there.

    The first bytes tell the kind. Owners, permissions and times are not taken over. Memory stays under 0.5 GB.

    Raises: ValueError naming archive, member and reason for an absolute path, "..", a link, a device, a name given
        twice (whatever its case), too many or too large members, a damaged file, or an `out_dir` with something in it;
        OSError. `out_dir` is then as it was.
    """
    if os.path.exists(out_dir) and (not os.path.isdir(out_dir) or os.listdir(out_dir)):
        raise ValueError(f"out_dir={out_dir!r} is there and not empty; choose another folder")
    place = ""
    with open(path, "rb") as file, files.replacing_folder(out_dir) as folder:
        size = os.fstat(file.fileno()).st_size
        writer = _Writer(folder, plain.unpacked_limit(size, MAX_GROWTH, max_bytes))
        with tqdm.tqdm(total=size, desc="unpacking", unit="B", unit_scale=True, delay=2) as bar:
            try:
                for member in _members(file, writer.limit):
                    place = f"member {member.name[:200]!r}: "
                    writer.write(member)
                    place = f"after {place}"
                    bar.update(max(0, file.tell() - bar.n))
            except _BROKEN as error:
                if isinstance(error, OSError) and error.errno is not None:
                    raise  # the disk's trouble; what gzip and bz2 raise for damaged data has no number
                reason = "headers within headers" if isinstance(error, RecursionError) else error
                raise ValueError(f"{path}: {place}{reason}; nothing was unpacked") from None
    return Extracted(writer.files, writer.bytes, writer.junk)


class _Writer:
    """Writes members below `folder`, each name once, `limit` bytes in all."""

    def __init__(self, folder: str, limit: int) -> None:
        self._folder, self.limit = folder, limit
        self.files = self.bytes = self.junk = 0
        self._members = self._total = 0
        self._kinds = {}  # name in small letters -> "file" or "folder"

    def write(self, member: _Member) -> None:
        self._members += 1
        self._total += member.size
        if self._members > MAX_MEMBERS:
            raise ValueError(f"it is one of over {MAX_MEMBERS:,} members")
        if member.kind not in ("file", "folder"):
            raise ValueError(f"it is {member.kind}; only files and folders are unpacked")
        if member.size < 0 or self._total > self.limit:
            raise ValueError(f"it brings the total to {self._total:,} bytes; {self.limit:,} is the most here")
        parts = _parts(member.name)
        if any(JUNK.fullmatch(part) for part in parts):
            if member.kind == "file":
                self.junk += 1
                _copy(member, None)
            return
        if not parts and member.kind == "file":
            raise ValueError("a file without a name")
        target = os.path.join(self._folder, *parts)
        for end in range(1, len(parts)):
            self._note("/".join(parts[:end]), "folder")
        self._note("/".join(parts), member.kind)
        if member.kind == "folder":
            os.makedirs(target, exist_ok=True)
            return
        os.makedirs(os.path.dirname(target), exist_ok=True)
        with open(target, "xb") as out:
            _copy(member, out)
        self.files += 1
        self.bytes += member.size

    def _note(self, name: str, kind: str) -> None:
        """Raises: ValueError for what would be one file twice, also on a disk that does not tell A from a."""
        folded = unicodedata.normalize("NFC", name).casefold()
        before = self._kinds.get(folded)
        if before is not None and "file" in (before, kind):
            raise ValueError(f"{name[:200]!r} is there twice, as a {before} and a {kind}")
        self._kinds[folded] = kind


def _parts(name: str) -> list[str]:
    """Folders and file of a member's name. Raises: ValueError for a name that leads elsewhere or nowhere."""
    if name.startswith("/") or "\\" in name or re.match(r"[A-Za-z]:", name):
        raise ValueError("its path is absolute or of Windows; only paths below the folder are unpacked")
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise ValueError('its path leads out of the folder by ".."')
    if re.search(r"[\x00-\x1f\x7f\ud800-\udfff]", name):
        raise ValueError("its name holds control characters or is not UTF-8")
    if len(name.encode()) > MAX_NAME or any(len(part.encode()) > MAX_PART for part in parts):
        raise ValueError(f"its name is over {MAX_NAME} bytes, or over {MAX_PART} between slashes")
    return parts


def _copy(member: _Member, out: BinaryIO | None) -> None:
    left = member.size
    while left > 0:
        chunk = member.content.read(min(CHUNK, left))
        if not chunk:
            raise ValueError(f"it ends {left:,} bytes early")
        left -= len(chunk)
        if out is not None:
            out.write(chunk)
    member.content.read(1)  # a zip's checksum is looked at when its member ends


def _members(file: BinaryIO, limit: int) -> Iterator[_Member]:
    start = file.read(4)
    file.seek(0)
    if start in (b"PK\x03\x04", b"PK\x05\x06"):
        return _zip_members(file, limit)
    return (_Member(*member) for member in tars.members(file))


def _zip_members(file: BinaryIO, limit: int) -> Iterator[_Member]:
    with zips.opened(file, limit) as archive:
        for info in archive.infolist():
            kind = {0: "file", stat.S_IFREG: "file", stat.S_IFDIR: "folder", stat.S_IFLNK: "a link"}.get(
                stat.S_IFMT(info.external_attr >> 16), "a device"
            )
            if kind == "file" and info.filename.endswith("/"):  # zipfile's is_dir() fails on an empty name
                kind = "folder"
            with archive.open(info) as content:
                # zipfile cuts its other name, filename, at a zero byte
                yield _Member(info.orig_filename, kind, info.file_size, content)


def define_flags() -> None:
    """Flags of `python -m data.archives`."""
    flags.DEFINE_string("archive", None, "A .zip, .tar, .tar.gz, .tar.bz2 or .tar.xz.", required=True)
    flags.DEFINE_string("out_dir", None, "Folder to make; it must not have anything in it.", required=True)


def main(argv: list[str]) -> None:
    """Unpacks and says how much."""
    extracted = extract(flags.FLAGS.archive, flags.FLAGS.out_dir)
    left_out = f"; left out: {extracted.junk:,} files of macOS and Windows" if extracted.junk else ""
    print(f"{flags.FLAGS.out_dir}: {extracted.files:,} files, {extracted.bytes:,} bytes{left_out}")


def command() -> None:
    commands.run(main, define_flags)


if __name__ == "__main__":
    command()
