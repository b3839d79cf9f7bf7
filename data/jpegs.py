"""What the bytes of a JPEG tell before it is decoded, and whether they end before its pixels do."""

import io
import itertools
import re
import struct
from collections.abc import Iterator

import numpy as np
from PIL import Image, ImageChops

START, END = b"\xff\xd8", b"\xff\xd9"  # a file that was cut short lacks the end
MAX_SCANS = 100  # of a progressive one, each a pass over all pixels; usual are ten
MAX_SCANNED = 250_000_000  # pixels that all passes together go over
MAX_PARTS = 2_000  # segments and bytes of padding before the pixels; usual are twenty
_SCAN = re.compile(rb"\xff\xda\x00(?:\x08\x01|\x0a\x02|\x0c\x03|\x0e\x04)")  # its head: length, number of channels


def has_many_parts(data: bytes) -> bool:
    """Whether the header is of more than MAX_PARTS parts, which Pillow goes through one by one."""
    return next(itertools.islice(_parts(data), MAX_PARTS + 1, None), None) is not None


def scans(data: bytes) -> int:
    """How many there are."""
    return len(_SCAN.findall(data))  # a film behind the pixels has none by chance


def most_scans(size: tuple[int, int]) -> int:
    """How many are allowed to a picture of (width, height)."""
    return min(MAX_SCANS, max(12, MAX_SCANNED // max(1, size[0] * size[1])))


def usual_size(data: bytes) -> tuple[int, int] | None:
    """(width, height) of a JPEG of three 8 bit channels without EXIF; None for all else, which Pillow has to look at.

    Pillow's own way to a header takes ten times as long, and longer than the decoding of a small picture.
    """
    size = None
    for at in itertools.islice(_parts(data), MAX_PARTS):
        if at + 10 > len(data) or data[at] != 0xFF:
            return None
        marker = data[at + 1]
        if marker == 0xDA:  # the pixels begin
            return size
        if marker in (0xC0, 0xC1, 0xC2):  # baseline, extended, progressive
            depth, height, width, channels = struct.unpack_from(">BHHB", data, at + 4)
            size = (width, height) if (depth, channels) == (8, 3) else None
        elif data[at + 4 : at + 8] == b"Exif" or not (marker in (0xC4, 0xFE) or 0xDB <= marker <= 0xEF):
            return None
    return None


def ends_early(data: bytes, corner: np.ndarray) -> bool:
    """Whether the data end before the last pixels, which are then grey. corner: the very last, of any channels.

    More data before the end mark change the pixels where some are missing; where none is, decoders pass over them.
    A progressive JPEG has all its pixels after its first scan; one that is cut later is coarse, and counts as whole.
    """
    if np.abs(corner.astype(int) - 128).max() > 2:
        return False
    *_, scan = _parts(data)  # not a thumbnail's in the header
    end = data.find(END, scan)
    longer = data[:end] + bytes(range(1, 255)) * 8 + data[end:]
    first, second = (Image.open(io.BytesIO(each)) for each in (data, longer))
    return ImageChops.difference(first, second).getbbox() is not None


def _parts(data: bytes) -> Iterator[int]:
    """Where each part of the header begins, by the lengths they have, and at last where the first scan does."""
    at = 2
    while data[at : at + 1] == b"\xff" and data[at + 1 : at + 2] != b"\xda":
        yield at
        padding = data[at + 1 : at + 2] == b"\xff"
        at += 1 if padding else 2 + max(2, int.from_bytes(data[at + 2 : at + 4], "big"))
    yield at
