"""Opens strangers' zip files: all that their list of members says is checked before a byte is unpacked."""

import contextlib
import struct
import zipfile
import zlib
from collections.abc import Iterator
from typing import BinaryIO

from data.readers.plain import AGAIN

MAX_DIRECTORY = 2**24  # bytes of the list of members: 150,000 of them, which take 150 MB of memory
DEFLATE_MOST = 1032  # bytes that one byte of deflate can unpack to
BROKEN = (zipfile.BadZipFile, zlib.error, EOFError, struct.error, NotImplementedError, OverflowError, ValueError)


@contextlib.contextmanager
def opened(file: BinaryIO, limit: int) -> Iterator[zipfile.ZipFile]:
    """The zip in `file`. Its members are stored or deflated, of different names, and unpack to `limit` bytes at most.

    Raises: ValueError for anything else; one of BROKEN, here or while reading, for a damaged zip.
    """
    with zipfile.ZipFile(_Bounded(file)) as archive:
        total, names = 0, set()
        for member in archive.infolist():
            name, total = repr(member.filename[:80]), total + member.file_size
            stored = member.compress_type == zipfile.ZIP_STORED
            if member.filename in names:
                raise ValueError(f"member {name} is there twice; {AGAIN}")
            if member.flag_bits & 0x61 or not (stored or member.compress_type == zipfile.ZIP_DEFLATED):
                raise ValueError(f"member {name} is encrypted or packed by other means than deflate; pack it anew")
            most = member.compress_size * (1 if stored else DEFLATE_MOST)
            if member.file_size > most:
                raise ValueError(f"member {name} says {member.file_size:,} bytes, but holds {most:,} at most; {AGAIN}")
            if total > limit:
                raise ValueError(f"member {name} brings it to {total:,} bytes; {limit:,} is the most for such a file")
            names.add(member.filename)
        yield archive


class _Bounded:
    """The file for zipfile, which would read a list of members of any size in one go: large reads are refused."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self.tell, self.seekable = file, file.tell, file.seekable

    def seek(self, offset: int, whence: int = 0) -> int:
        if whence == 0 and not 0 <= offset < 2**62:
            raise ValueError(f"it points to its own byte {offset}; {AGAIN}")
        return self._file.seek(offset, whence)

    def read(self, count: int = -1) -> bytes:
        data = self._file.read(count if 0 <= count <= MAX_DIRECTORY else MAX_DIRECTORY + 1)
        if len(data) > MAX_DIRECTORY:
            raise ValueError(f"its list of members takes over {MAX_DIRECTORY:,} bytes; {AGAIN}")
        return data
