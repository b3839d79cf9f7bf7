"""What is unusual about picture files, and which of them show the same picture."""

import dataclasses
import hashlib
import itertools
import os
from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import tqdm
from PIL import Image

from data import images
from data.names import PICTURE_ENDINGS
from simgan_tf.system import commands

SMALL = 64  # pixels of the shorter side, below which even the smallest models see an enlarged picture
LARGE = 12_000_000  # pixels, above which the decoder holds up training
LONG = 3  # longer side over shorter, above which the central square shows little of the picture
JPEG = (".jpg", ".jpeg", ".jfif", ".jpe")
ENDINGS = {"JPEG": JPEG, "MPO": JPEG, "TIFF": (".tif", ".tiff"), "HEIF": (".heic", ".heif")}
CHUNK = 32  # pictures that one call of the builder's check takes; one by one they cost twice as much
THUMBNAIL = 16  # pixels of its side
# Two files show one picture if their hashes differ in 3 of 64 bits and their thumbnails by 6 of 256 levels at most.
# On 400 pictures each of CUB and Oxford-102, made smaller or compressed anew, all hashes stayed within 3 bits (three
# in four unchanged) and all thumbnails within 4.5; all 14 pairs found among the 14,091 pictures were true ones.
NEAR_BITS, NEAR_LEVELS = 3, 6.0
PLAIN = 3.0  # standard deviation, in levels, of a thumbnail without contents: its hash is noise
BANDS = 4  # parts of a hash: with 3 bits changed, one part is unchanged
BITS = np.array([number.bit_count() for number in range(256)], np.uint8)
BROKEN = (*images.BROKEN, Image.DecompressionBombError)


@dataclasses.dataclass(frozen=True)
class Facts:
    """What is known about one picture."""

    name: str  # its path, or how it is called elsewhere
    refusal: str = ""  # why it cannot be used; "" = it can
    size: tuple[int, int] = (0, 0)  # width, height
    remarks: tuple[str, ...] = ()  # what is unusual
    digest: bytes = b""  # sha256 of the file
    hash: bytes = b""  # 8 bytes, see `difference_hash`
    thumbnail: np.ndarray | None = None  # [16, 16, 3] uint8; None where there is a refusal


def inspect_all(paths: Sequence[str], boxes: Sequence[images.Box | None] = (), workers: int = 0) -> list[Facts]:
    """The facts of every file, with a progress bar. The builder's own check opens them: what passes here passes there.

    boxes: of each picture, as `images.read_picture` takes them; () = none. workers: threads, 0 = one a core.
    """
    chunks = [slice(first, first + CHUNK) for first in range(0, len(paths), CHUNK)]
    boxes, all_facts = boxes or [None] * len(paths), []
    with (
        ThreadPoolExecutor(workers or os.cpu_count() or 1) as pool,
        tqdm.tqdm(total=len(paths), unit="image", desc="looking at the pictures", delay=1) as bar,
    ):
        for facts in pool.map(_inspect_chunk, [paths[chunk] for chunk in chunks], [boxes[chunk] for chunk in chunks]):
            all_facts += facts
            bar.update(len(facts))
    return all_facts


def inspect_bytes(name: str, data: bytes) -> Facts:
    """The facts of an encoded picture, which is decoded whole."""
    try:
        with images.open_picture(name, data) as picture:
            if picture.width * picture.height > images.MAX_PIXELS:
                raise ValueError(f"{picture.width}x{picture.height} pixels")
            size, remarks = picture.size, _remarks(name, picture)
            picture.draft("RGB", (4 * THUMBNAIL, 4 * THUMBNAIL))  # a JPEG is decoded at that size at once
            small = picture.convert("RGB")
    except BROKEN as error:
        return Facts(name, refusal=f"{name} is not a readable picture ({images.reason(error)})")
    thumbnail = np.asarray(small.resize((THUMBNAIL, THUMBNAIL), Image.Resampling.BOX))
    return Facts(name, "", size, remarks, hashlib.sha256(data).digest(), difference_hash(small), thumbnail)


def difference_hash(picture: Image.Image) -> bytes:
    """64 bits: whether each of 8x8 grey points is brighter than its right neighbour, on an 8x9 copy of the picture."""
    grey = np.asarray(picture.convert("L").resize((9, 8), Image.Resampling.LANCZOS), np.int16)
    return np.packbits(grey[:, :-1] > grey[:, 1:]).tobytes()


def same_pictures(all_facts: Sequence[Facts]) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """Pairs (i, j), i < j, of places in `all_facts`: equal byte for byte, and equal by their looks only.

    Of more than two equal files each is paired with the first. Plain surfaces are compared by their bytes only.
    """
    first_of, identical, usable = {}, [], []
    for i, facts in enumerate(all_facts):
        if facts.thumbnail is None:
            continue
        first = first_of.setdefault(facts.digest, i)
        if first != i:
            identical.append((first, i))
        elif facts.thumbnail.std(axis=(0, 1)).max() > PLAIN:
            usable.append(i)
    hashes = np.frombuffer(b"".join(all_facts[i].hash for i in usable), np.uint8).reshape(-1, 8)
    alike = []
    for a, b in _near(hashes):
        one, other = (all_facts[usable[k]].thumbnail.astype(np.int16) for k in (a, b))
        if np.abs(one - other).mean() <= NEAR_LEVELS:
            alike.append((usable[a], usable[b]))
    return identical, alike


def _near(hashes: np.ndarray) -> Iterator[tuple[int, int]]:
    """Pairs of rows of hashes [N, 8] uint8 that differ in at most NEAR_BITS bits, in order, each once."""
    pairs = set()
    for band in range(BANDS):
        buckets = defaultdict(list)
        for row, part in enumerate(hashes[:, 2 * band : 2 * band + 2].tolist()):
            buckets[tuple(part)].append(row)
        for bucket in buckets.values():
            rows = np.array(bucket)
            for k in range(len(rows) - 1):
                distances = BITS[hashes[rows[k + 1 :]] ^ hashes[rows[k]]].sum(axis=1)
                pairs.update(zip(itertools.repeat(bucket[k]), rows[k + 1 :][distances <= NEAR_BITS].tolist()))
    yield from sorted(pairs)


def _inspect_chunk(paths: Sequence[str], boxes: Sequence[images.Box | None]) -> list[Facts]:
    try:
        images.read_pictures(paths, boxes)
    except (ValueError, OSError) as error:
        if len(paths) > 1:
            return [fact for path, box in zip(paths, boxes, strict=True) for fact in _inspect_chunk([path], [box])]
        missing = isinstance(error, FileNotFoundError)
        return [Facts(paths[0], refusal=f"No {paths[0]!r}; add it." if missing else commands.in_words(error))]
    all_facts = []
    for path in paths:
        with open(path, "rb") as file:
            all_facts.append(inspect_bytes(path, file.read()))
    return all_facts


def _remarks(name: str, picture: Image.Image) -> tuple[str, ...]:
    """What is unusual about a picture by its header; the builder copes with all of it."""
    short, long = min(picture.size), max(picture.size)
    ending, kind = os.path.splitext(name)[1].lower(), picture.format or ""
    turned = picture.getexif().get(images.ORIENTATION, 1) not in (0, 1)
    remarks = {
        f"mode {picture.mode}, not RGB": picture.mode != "RGB",
        "turned by EXIF": turned,
        f"named {ending}, but a {kind}": ending in PICTURE_ENDINGS
        and ending not in ENDINGS.get(kind, ("." + kind.lower(),)),
        f"shorter side under {SMALL} pixels": short < SMALL,
        f"over {LARGE // 1_000_000} million pixels": short * long > LARGE,
        f"over {LONG} times as long as wide": long > LONG * short,
    }
    return tuple(remark for remark, holds in remarks.items() if holds)
