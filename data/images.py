"""Picture and mask files as they go into records: checked, upright, RGB, cropped and made smaller on request.
Must not know any data set's layout, records or a model."""

import contextlib
import functools
import io
import os
import re
import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, UnidentifiedImageError

from data import jpegs, texts
from data.geometry import MAX_PIXELS, Box, Refused, change, check_size
from data.names import PICTURE_ENDINGS
from simgan_tf.system import files

if TYPE_CHECKING:  # TensorFlow is imported where it is used: a command says what is wrong before it starts
    import tensorflow as tf

MAX_BYTES = 256 * 2**20  # of a file: that many pixels, uncompressed, fit
MAX_CHUNKS = 50_000  # of a PNG; usual is one for every 8 KB
MAX_PLAIN = 2**21  # bytes of a PPM of written numbers, of which Pillow reads two million a second
MAX_HEADER = 2**16  # bytes of a PPM with its remarks
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM", "AVIF")  # not all of Pillow's: its EPS runs a program
HEIC_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")  # bytes 8 to 11 of such a file
LOSSY = ("JPEG", "MPO", "AVIF", "HEIF")  # MPO: a JPEG with more pictures behind it
ORIENTATION = 0x0112  # the EXIF tag
UPRIGHT = {  # what undoes each of its values
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
BROKEN = (  # what Pillow raises on broken files, and libheif
    OSError, SyntaxError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError, EOFError, MemoryError,
    RuntimeError, struct.error, zlib.error,
)  # fmt: skip
QUALITY = {"quality": 95, "subsampling": 0}  # of a JPEG that has to be written anew


def read_picture(path: str, box: Box | None = None, stored_size: int = 0) -> bytes:
    """Encoded bytes of a picture that TensorFlow decodes to the upright RGB picture that Pillow sees.

    An RGB JPEG or PNG passes unchanged. Every other picture (grey, CMYK, palette, transparent, 16 bit, floats, another
    format, turned by its EXIF orientation, or one that TensorFlow's decoder refuses) is written anew: JPEG q95 where
    it was of LOSSY, else PNG. Transparent parts become white; 16 bit values keep their upper 8 bits; of floats the
    largest tells whether white is 1 or 255.

    box: what to cut out, by the rule of `data.geometry.crop_rectangle`; None = the whole picture.
    stored_size: pixels that a longer shorter side is brought down to, after the cut; 0 = none, smaller ones stay.

    Raises: ValueError, naming the file, for a damaged or truncated picture, one of more than 50 million pixels,
        one with a side under 8 pixels or a box outside of it, floats of another range, HEIC where pillow-heif is not
        installed; FileNotFoundError.
    """
    return read_pictures([path], [box], stored_size)[0]


def read_pictures(
    paths: Sequence[str], boxes: Sequence[Box | None] = (), stored_size: int = 0, headers_only: bool = False
) -> list[bytes]:
    """`read_picture` of each path. Many at once cost a third: JPEGs that pass unchanged are checked in one call.

    boxes: one for each path, or () = none.   headers_only: whether a JPEG that passes unchanged and ends as one is
    believed without decoding it; damage inside it then shows up in training.
    """
    boxes = boxes or [None] * len(paths)
    encoded = [read_file(path) for path in paths]
    unchanged, sizes = [], []
    for i, (path, data, box) in enumerate(zip(paths, encoded, boxes, strict=True)):
        size = _size_if_plain_jpeg(path, data)
        if size and change(path, size, box, stored_size) is None:
            unchanged.append(i)
            sizes.append(size)
    passed = set()
    if headers_only:
        passed = {i for i in unchanged if encoded[i].endswith(jpegs.END)}
    elif len(unchanged) > 1 and _decode_all([encoded[i] for i in unchanged], sizes):
        passed = set(unchanged)
    return [
        data if i in passed else _checked(path, data, box, stored_size)
        for i, (path, data, box) in enumerate(zip(paths, encoded, boxes, strict=True))
    ]


def picture_size(path: str) -> tuple[int, int] | None:
    """(width, height) that `read_picture` gives a picture which is not cut, by its header alone.

    None where the header cannot be read: what is wrong with the file is told by `read_picture`.
    Raises: ValueError for what is no file or too large; FileNotFoundError.
    """
    data = read_file(path)
    if data[:2] == jpegs.START and (size := jpegs.usual_size(data)):
        return size
    try:
        with open_picture(path, data) as picture:
            width, height = picture.size
            return (height, width) if _orientation(picture) in (5, 6, 7, 8) else (width, height)
    except (*BROKEN, Image.DecompressionBombError, Image.DecompressionBombWarning):
        return None


def read_mask(path: str, image: bytes, box: Box | None = None, stored_size: int = 0) -> bytes:
    """PNG bytes of a mask, cut and sized as its picture was, checked to be one grey channel of the size of `image`.

    A mask of one bit a pixel becomes grey: 0 and 255.

    image: what `read_picture` returned for the same box and stored_size. Sampling is nearest: values stay as they are.

    Raises: ValueError, naming the file; FileNotFoundError.
    """
    data = read_file(path)
    with (
        in_words(path, data, "replace it", "mask"), open_picture(path, data) as mask,
        open_picture(path, image) as picture,
    ):  # fmt: skip
        check_size(path, mask.size)
        mask.load()
        grey = mask.convert("L") if mask.mode == "1" else mask  # one bit a pixel: black and white
        wanted = change(path, mask.size, box, stored_size)
        stored = grey.crop(wanted[0]).resize(wanted[1], Image.Resampling.NEAREST) if wanted else grey
        found, expected = (mask.format, grey.mode, stored.size), ("PNG", "L", picture.size)
    if found != expected:
        raise ValueError(f"{path} is {found}; a mask must be {expected}, as large as its picture.")
    return data if stored is mask else _encoded(stored, "PNG")


def by_stem(folder: str) -> dict[str, str]:
    """Name without ending -> path of every picture file in a folder but hidden ones; {} of one that is not there."""
    names = sorted(os.listdir(folder), reverse=True) if os.path.isdir(folder) else ()  # of two, a.jpg before a.png
    split = (os.path.splitext(name) for name in names if name[0] != ".")
    return {stem: os.path.join(folder, stem + ending) for stem, ending in split if ending.lower() in PICTURE_ENDINGS}


def read_file(path: str) -> bytes:
    """The bytes of a file of at most MAX_BYTES. Raises: ValueError; FileNotFoundError."""
    return files.read_regular(path, MAX_BYTES, "make it smaller.")


def open_picture(name: str, data: bytes) -> Image.Image:
    """The picture, of which only the header is decoded yet. name: for messages.

    Raises: one of BROKEN, whose words `reason` gives; ValueError for HEIC where pillow-heif is not installed.
    """
    formats = FORMATS
    _check_header(name, data)
    if data[4:8] == b"ftyp" and data[8:12] in HEIC_BRANDS:
        try:
            import pillow_heif
        except ImportError:
            raise Refused(f"{name} is a HEIC picture; pip install pillow-heif, or save it as JPEG.") from None
        pillow_heif.register_heif_opener()
        formats = (*FORMATS, "HEIF")
    return Image.open(io.BytesIO(data), formats=formats)


def _check_header(name: str, data: bytes) -> None:
    """Raises: Refused for a header that takes Pillow long, byte by byte; ValueError for a PNG of changed bytes."""
    if data[:2] == jpegs.START and jpegs.has_many_parts(data):
        raise Refused(f"{name} is a JPEG of over {jpegs.MAX_PARTS:,} parts and bytes of padding; write it anew.")
    words = re.sub(rb"#[^\r\n]*[\r\n]", b" ", data[:MAX_HEADER]).split(None, 3) if data[:1] == b"P" else ()
    if words and len(data) > MAX_HEADER and len(words) < 4 and re.fullmatch(rb"P[0-9yfF]", words[0][:2]):
        raise Refused(f"{name} is a PPM whose header has over {MAX_HEADER:,} bytes of remarks; write it anew.")
    if len(data) > MAX_PLAIN and re.match(rb"P[123]\s", data):
        raise Refused(f"{name} is a PPM of over {MAX_PLAIN:,} bytes that writes its numbers out; save it as binary.")
    if data[:8] == b"\x89PNG\r\n\x1a\n":
        _check_png(name, data)


def _check_png(name: str, data: bytes) -> None:
    """Raises: ValueError where a checksum of the pixels' bytes does not fit, at which decoders do not look; Refused for
    too many chunks."""
    at, parts, view = 8, 0, memoryview(data)
    while at + 12 <= len(data):
        kind, end = data[at + 4 : at + 8], at + 8 + int.from_bytes(data[at : at + 4], "big")
        if kind == b"IDAT" and zlib.crc32(view[at + 4 : end]).to_bytes(4, "big") != data[end : end + 4]:
            raise ValueError("a checksum of its pixels does not fit")
        at, parts = end + 4, parts + 1
        if parts > MAX_CHUNKS:
            raise Refused(f"{name} is a PNG of over {MAX_CHUNKS:,} chunks; write it anew.")


@contextlib.contextmanager
def in_words(path: str, data: bytes, remedy: str, kind: str = "picture") -> Iterator[None]:
    """Makes one line of what is raised over a picture: a ValueError that names it. data: its bytes."""
    try:
        yield
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ValueError(f"{path} has over {MAX_PIXELS:,} pixels; make it smaller.") from error
    except Refused as error:
        raise ValueError(str(error)) from error
    except BROKEN as error:
        raise ValueError(f"{path} is not a readable {kind} ({reason(error, data)}); {remedy}.") from error


def reason(error: Exception, data: bytes | None = None) -> str:
    """What is wrong with a picture that raised one of BROKEN, for a message that names it. data: the file's bytes."""
    if isinstance(error, UnidentifiedImageError):  # its own words show a Python object in place of the file
        kind = texts.what_it_is(data) if data is not None else ""
        if kind == "a picture":
            return "it begins as one, and is damaged or cut short"
        if kind:
            return f"it is {kind}"
        if data and data[:60].isascii() and data[:60].decode().replace("\n", " ").replace("\r", " ").isprintable():
            return f"it is a text that begins with {data[:60].decode()!r}"
        return f"it is none of {', '.join(FORMATS)}, HEIC, or of a kind that is not read, such as RGB in floats"
    return " ".join(str(error).split())  # libheif's have line ends


def _size_if_plain_jpeg(path: str, data: bytes) -> tuple[int, int] | None:
    """(width, height) where the header is that of an upright RGB JPEG; None for all else, also for damaged files."""
    if data[:2] != jpegs.START:
        return None
    try:
        if size := jpegs.usual_size(data):
            check_file(path, data, size)
            return size
        with open_picture(path, data) as picture:
            check_file(path, data, picture.size)
            return picture.size if _is_plain(picture, data) else None
    except Refused as error:
        raise ValueError(str(error)) from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        return None
    except BROKEN:
        return None


def _is_plain(picture: Image.Image, data: bytes) -> bool:
    """Whether the header promises that TensorFlow sees the picture as Pillow does."""
    if picture.format not in ("JPEG", "PNG") or picture.mode != "RGB" or "transparency" in picture.info:
        return False
    deep = picture.format == "PNG" and data[24] == 16  # bit depth byte of the IHDR chunk
    return not deep and _orientation(picture) not in UPRIGHT


def is_transparent(picture: Image.Image) -> bool:
    """Whether a picture may have transparent parts."""
    return picture.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in picture.info


def upright(picture: Image.Image, orientation: object = None) -> Image.Image:
    """The picture turned as its EXIF orientation says. orientation: that of the file, where `picture` lost it."""
    turn = UPRIGHT.get(_orientation(picture) if orientation is None else orientation)
    return picture if turn is None else picture.transpose(turn)


def _orientation(picture: Image.Image) -> object:
    """The value of the EXIF tag; 1, as it is, where the EXIF data are broken."""
    try:
        return picture.getexif().get(ORIENTATION, 1)
    except BROKEN:
        return 1


def check_file(path: str, data: bytes, size: tuple[int, int]) -> None:
    """Raises: Refused for a size that is not taken, or a JPEG of too many scans."""
    check_size(path, size)
    scans, most = jpegs.scans(data) if data[:2] == jpegs.START else 0, jpegs.most_scans(size)
    if scans > most:
        raise Refused(f"{path} is a JPEG of {scans} scans, over {most}; write it anew with another program.")


def _checked(path: str, data: bytes, box: Box | None, stored_size: int) -> bytes:
    """The bytes of one picture after all checks, unchanged where they may be."""
    with in_words(path, data, "replace it or take it out"), open_picture(path, data) as picture:
        check_file(path, data, picture.size)
        unchanged = _is_plain(picture, data) and change(path, picture.size, box, stored_size) is None
        if unchanged and _tensorflow_reads(data, picture):
            return data
        lossy = picture.format in LOSSY
        load(path, picture)  # Pillow turns a TIFF by itself here, and then no longer says that it was turned
        require_whole(picture, data)
        flat = upright(to_rgb(path, picture), _orientation(picture))
        if wanted := change(path, flat.size, box, stored_size):
            flat = flat.crop(wanted[0]).resize(wanted[1], Image.Resampling.LANCZOS)
    return _encoded(flat, "JPEG" if lossy else "PNG")


def require_whole(picture: Image.Image, data: bytes) -> None:
    """Raises: ValueError where a loaded PNG or JPEG lacks pixels, in whose place Pillow puts black or grey unasked."""
    if picture.format == "PNG" and not _tensorflow_reads(data, picture):
        raise ValueError("a part of its pixels, or its palette, is missing")
    if picture.format in ("JPEG", "MPO"):
        corner = picture.getpixel((picture.width - 1, picture.height - 1))
        if jpegs.ends_early(data, np.array(corner)):
            raise ValueError("its data end before its last pixels")


def _tensorflow_reads(data: bytes, picture: Image.Image) -> bool:
    """Whether the training pipeline's decoder accepts the bytes: it refuses some JPEGs that Pillow repairs."""
    import tensorflow as tf

    try:
        with tf.device("CPU:0"):
            if picture.format == "JPEG":
                small = _decode_small(data)
                right = tuple(small.shape[:2]) == _small(picture.size)
                return right and not jpegs.ends_early(data, small[-1, -1].numpy())
            pixels = tf.io.decode_png(data, channels=3)
    except tf.errors.InvalidArgumentError:
        return False
    return tuple(pixels.shape) == (picture.size[1], picture.size[0], 3)


def _decode_small(data: "bytes | tf.Tensor") -> "tf.Tensor":
    """A JPEG at an eighth of its size: all of the file is read and checked, at a fraction of the arithmetic."""
    import tensorflow as tf

    return tf.io.decode_jpeg(data, channels=3, ratio=8)


def _small(size: tuple[int, int]) -> tuple[int, int]:
    """(height, width) of `_decode_small`."""
    return -(-size[1] // 8), -(-size[0] // 8)


@functools.cache
def _looks() -> "Callable[[tf.Tensor], tf.Tensor]":
    """[N, 6] int32 of N JPEGs: height, width and channels of `_decode_small`, then its last pixel.

    One call for many: Python's lock is taken once, so that threads do not wait for it.
    """
    import tensorflow as tf

    def look(data: tf.Tensor) -> tf.Tensor:
        small = _decode_small(data)
        return tf.concat([tf.shape(small), tf.cast(small[-1, -1], tf.int32)], 0)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string)], autograph=False)
    def looks(encoded: tf.Tensor) -> tf.Tensor:
        return tf.map_fn(look, encoded, fn_output_signature=tf.TensorSpec([6], tf.int32))

    return looks


def _decode_all(encoded: list[bytes], sizes: list[tuple[int, int]]) -> bool:
    """Whether TensorFlow decodes every one of these JPEGs whole and to its size; which one fails is not told."""
    import tensorflow as tf

    try:
        with tf.device("CPU:0"):
            looks = _looks()(tf.constant(encoded)).numpy()
        right = [tuple(look[:2]) for look in looks] == [_small(size) for size in sizes]
        return right and not any(jpegs.ends_early(data, look[3:]) for data, look in zip(encoded, looks, strict=True))
    except (tf.errors.InvalidArgumentError, *BROKEN):
        return False


def load(path: str, picture: Image.Image) -> None:
    """Decodes an opened picture. Raises: Refused for colours of 12 bits or fewer in 16, which would come out black."""
    deep = picture.mode[0] not in "IF" and any(";16" in str(tile[3]) for tile in getattr(picture, "tile", ()))
    picture.load()  # Pillow keeps the upper 8 bits of 16; grey alone it leaves whole, see `_grey`
    if deep:
        colours = picture.getextrema()[: 3 if picture.mode.startswith("RGB") else 1]
        if max(high for _, high in colours) < 16:
            raise Refused(f"{path} has 16 bits a colour of which the upper 4 are empty, as of 12 bits in 16, and would "
                          "come out black: stretch it, or save it as an 8 bit PNG.")  # fmt: skip


def to_rgb(path: str, picture: Image.Image) -> Image.Image:
    """8 bit RGB of any mode, transparent parts on white."""
    if picture.mode[0] in "IF":
        picture = _grey(path, picture)
    if is_transparent(picture):
        picture = picture.convert("RGBA")
        white = Image.new("RGB", picture.size, "white")
        white.paste(picture, mask=picture.getchannel("A"))
        return white
    return picture.convert("RGB")


def _grey(path: str, picture: Image.Image) -> Image.Image:
    """8 bit grey of 16 or 32 bit integers or floats, which Pillow's own conversion would cut at 255, not scale.

    No file says which of its numbers is white: the largest number in it does.
    """
    values = np.asarray(picture)
    low, high = float(values.min()), float(values.max())  # NaN where one is in it, and then all comparisons fail
    deep = picture.format in ("PNG", "PPM") or picture.mode != "I"  # of these, Pillow gives 16 bits
    if picture.mode != "F" and (0 if deep else 255) < high < 4096:
        raise Refused(f"{path} holds numbers up to {high:g} of 65535, as of 12 bits in 16, and would come out black: "
                      "stretch it, or save it as an 8 bit PNG.")  # fmt: skip
    if picture.mode != "F" and 0 <= low and high <= 65535:
        return Image.fromarray((values >> 8 if deep or high > 255 else values).astype(np.uint8))
    if picture.mode == "F" and 0 <= low and (high <= 1 or 2 < high <= 255):  # in between: 0 to 1 with highlights
        return Image.fromarray(np.rint(values * np.float32(255 if high <= 1 else 1)).astype(np.uint8))
    raise Refused(
        f"{path} holds numbers from {low:g} to {high:g}, of which none is known to be white; accepted are 0 to 1 and "
        "0 to 255 in floats, and 16 bit: save it anew as an 8 bit PNG."
    )


def _encoded(picture: Image.Image, form: str) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, form, **(QUALITY if form == "JPEG" else {}))
    return buffer.getvalue()
