"""Walks over strangers' tar files, packed or not, front to back, in little memory."""

import bz2
import gzip
import io
import lzma
import tarfile
from collections.abc import Iterator
from typing import BinaryIO

MAX_HEADERS = 2**16  # bytes that describe one member, its long name included
MAX_PADDING = 2**20  # zero bytes after the end mark
MAX_XZ_MEMORY = 2**28  # bytes; what xz -9 packed takes 65 MB
CHUNK = 2**16
BROKEN = (tarfile.TarError, lzma.LZMAError, OSError, EOFError, OverflowError, ValueError, RecursionError)


def members(file: BinaryIO) -> Iterator[tuple[str, str, int, BinaryIO]]:
    """Name, kind ("file", "folder" or what else it is), size in bytes and content of every member of the tar in `file`,
    packed by gzip, bzip2 or xz or not at all. A content is to be read before the next member is asked for.

    Raises: one of BROKEN for a damaged or cut tar, or one whose headers are too large.
    """
    start = file.read(6)
    file.seek(0)
    stream = file
    if start.startswith(b"\x1f\x8b"):
        stream = gzip.GzipFile(fileobj=file)
    elif start.startswith(b"BZh"):
        stream = bz2.BZ2File(file)
    elif start == b"\xfd7zXZ\x00":
        stream = _Xz(file)
    bounded = _Bounded(stream)
    with tarfile.open(fileobj=bounded, mode="r|", tarinfo=_Header) as tar:
        while (header := tar.next()) is not None:
            tar.members.clear()  # it would keep them all
            kind = "a link" if header.issym() or header.islnk() else "a device, or a file with holes"
            if header.isdir():
                kind = "folder"
            elif header.type in (tarfile.REGTYPE, tarfile.AREGTYPE) and not header.issparse():
                kind = "file"
            bounded.left = MAX_HEADERS + max(0, header.size)
            content = tar.extractfile(header) if kind == "file" else io.BytesIO()
            yield header.name, kind, header.size, content
            bounded.left = MAX_HEADERS
        bounded.left = MAX_PADDING
        while padding := tar.fileobj.read(CHUNK):
            if padding.strip(b"\0"):
                raise ValueError("more follows the end mark")


class _Header(tarfile.TarInfo):
    """A member's header. tarfile takes a broken one for the end of the archive; here it is an error."""

    @classmethod
    def frombuf(cls, buf: bytes, encoding: str, errors: str) -> tarfile.TarInfo:
        try:
            return super().frombuf(buf, encoding, errors)
        except tarfile.EOFHeaderError:
            raise  # the proper end mark
        except tarfile.HeaderError as error:
            raise ValueError(f"no tar or zip, or cut short or damaged here ({error})") from None


class _Bounded:
    """A stream of which `left` more bytes may be read: a tar's header must not fill the memory."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream, self.left = stream, MAX_HEADERS

    def read(self, count: int) -> bytes:
        data = self._stream.read(count)
        self.left -= len(data)
        if self.left < 0:
            raise ValueError(f"a header takes over {MAX_HEADERS:,} bytes, or the padding over {MAX_PADDING:,}")
        return data


class _Xz:
    """Unpacked bytes of an .xz file of one stream; lzma.LZMAFile would grant it any memory that it asks for."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._machine = file, lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=MAX_XZ_MEMORY)

    def read(self, count: int) -> bytes:
        data = b""
        while not data and not self._machine.eof:
            packed = self._file.read(2**16) if self._machine.needs_input else b""
            if not packed and self._machine.needs_input:
                raise EOFError("it is cut short")
            data = self._machine.decompress(packed, count)
        return data
