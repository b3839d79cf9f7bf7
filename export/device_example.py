"""Edits a picture by a sentence with a .tflite of run_export.py, as a program on a device does it.
Needs ai-edge-litert, numpy and Pillow alone, and pillow-heif for HEIC: without TensorFlow, copy this file,
simgan_tf/carry.py and simgan_tf/text/words.py to a board, side by side.

python -m export.device_example --model=simgan_float16.tflite --image=photo.jpg --text="purple petals" --out=edit.png
"""

import argparse
import contextlib
import io
import json
import os
import re
import stat
import sys
import warnings
import zipfile
import zlib
from collections.abc import Iterator
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

try:
    from simgan_tf import carry
    from simgan_tf.text.words import word_list
except ImportError:  # on a board
    import carry
    from words import word_list

MAX_PIXELS = 50_000_000  # a larger picture is a mistake or a decompression bomb
MIN_SIDE, MAX_ASPECT = 8, 40
MAX_BYTES, MAX_SCANS = 2**28, 100  # of a picture's file; each scan of a JPEG is a pass over all pixels
MAX_MEMBER, MAX_NUMBER = 2**23, 2**16  # bytes of a file inside the .tflite, and what a size in its contract may be
BAD_CONTRACT = (KeyError, TypeError, AttributeError, ValueError, RecursionError, RuntimeError, EOFError,
                zipfile.BadZipFile, zlib.error)  # fmt: skip
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM", "AVIF")  # not all of Pillow's: its EPS runs a program
HEIC_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")  # bytes 8 to 11 of such a file
SMALL = {upper: upper + 32 for upper in range(ord("A"), ord("Z") + 1)}  # A-Z to a-z and nothing else


@contextlib.contextmanager
def opened(path: str) -> Iterator[BinaryIO]:
    """The file, open for reading. Raises: ValueError for a pipe, a device or a folder, not waiting for it; OSError."""
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    with open(handle, "rb") as file:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise ValueError(f"{path} is no file but a pipe, a device or a folder; give a file.")
        yield file


def read_contract(model: str) -> tuple[dict, list[str]]:
    """What the file says of itself, and its vocabulary in the order of ids. Raises: OSError, ValueError."""
    contract, vocabulary = unpack_contract(model)
    try:
        return contract, vocabulary.decode().split("\n")[:-1] if vocabulary else []
    except ValueError as error:
        raise ValueError(f"{model}: its vocabulary is no text ({error}); give a .tflite of run_export.py.") from None


def unpack_contract(model: str) -> tuple[dict, bytes | None]:
    """The contract inside a .tflite, its types and sizes checked, and its vocabulary file, where it has one.

    Raises: OSError; ValueError for a file without one, or one that no export writes.
    """
    try:
        with opened(model) as file, zipfile.ZipFile(file) as archive:
            contract = json.loads(_member(archive, "contract.json"))
            tokens, image, signatures = contract["tokens"], contract["image"], contract["signatures"]
            name = tokens.get("vocabulary")
            numbers = [contract["format_version"], image["size"], image["load_size"], tokens["length"],
                       *(tokens[key] for key in ("padding", "unknown", "end") if key in tokens)]  # fmt: skip
            for signature in ("embed", "edit", "manipulate"):
                for tensor in [*signatures[signature]["inputs"].values(), *signatures[signature]["outputs"].values()]:
                    numbers += tensor["shape"]
                    str.__len__(tensor["dtype"])
            if not all(type(number) is int and 0 <= number <= MAX_NUMBER for number in numbers):
                raise ValueError(f"a size in it is no whole number from 0 to {MAX_NUMBER:,}")
            if min(image["size"], tokens["length"]) < 1 or not isinstance(tokens.get("alphabet", ""), str):
                raise ValueError("its pictures or sentences have no size")
            return contract, _member(archive, name) if name else None
    except BAD_CONTRACT as error:
        raise ValueError(
            f"{model} carries no contract that this code knows ({error}); give a .tflite of run_export.py."
        ) from None


def _member(archive: zipfile.ZipFile, name: str) -> bytes:
    info = archive.getinfo(name)
    if info.file_size > MAX_MEMBER:
        raise ValueError(f"{name[:80]} has {info.file_size:,} bytes, over {MAX_MEMBER:,}")
    return archive.read(info)


def tokenise(text: str, tokens: dict, words: list[str]) -> np.ndarray:
    """Ids [1, length] int32 of a sentence, by the rule that stands in the contract as tokens.

    Raises: ValueError for a text of which the model knows nothing, or a rule that is not known here.
    """
    kind, unknown = tokens["tokenisation"], tokens["unknown"]
    if kind == "characters":
        found = list(text.translate(SMALL).encode("utf-8", "surrogatepass"))
        ids = [tokens["alphabet"].rfind(chr(byte)) + 1 for byte in found]  # unknown is 0
        known = [i for i, byte in zip(ids, found, strict=True) if byte != ord(" ")]
    elif kind in ("words", "spaces"):
        small = text.translate(SMALL) if tokens.get("lower_case") else text
        found = word_list(text) if kind == "words" else re.findall(r"[^ \t\n\v\f\r]+", small)
        numbers = {word: i for i, word in enumerate(words)}
        ids = known = [numbers.get(word, unknown) for word in found]
    else:
        raise ValueError(f"the model's tokenisation {kind!r} is none of words, spaces, characters; get a newer one.")
    if all(i == unknown for i in known):
        why = "no word of it is known to the model" if known else "it has no word"
        raise ValueError(f"text {text[:60]!r}: {why}; write a sentence such as 'this flower has red petals'.")
    if "end" in tokens:
        ids = [*ids[: tokens["length"] - 1], tokens["end"]]
    row = np.full([1, tokens["length"]], tokens["padding"], np.int32)
    row[0, : len(ids)] = ids[: tokens["length"]]
    return row


def read_pixels(path: str) -> np.ndarray:
    """Pixels [H, W, 3] uint8, upright, on white.

    Raises: OSError; ValueError, naming the file, for what is no picture, a damaged, a tiny or an enormous one.
    """
    with opened(path) as file:
        data = file.read(MAX_BYTES + 1)
    scans = data.count(b"\xff\xda") if data[:2] == b"\xff\xd8" else 0
    if len(data) > MAX_BYTES or scans > MAX_SCANS:
        raise ValueError(f"{path} has over {MAX_BYTES:,} bytes or {MAX_SCANS} scans; write it anew, smaller.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's remarks on large or odd pictures; the size is checked here
            with Image.open(io.BytesIO(data), formats=picture_formats(data)) as picture:
                short, long = sorted(picture.size)
                shown = "x".join(map(str, picture.size))
                if short * long > MAX_PIXELS or long > MAX_ASPECT * short or short < MIN_SIDE:
                    raise ValueError(f"{shown} pixels; accepted are up to {MAX_PIXELS:,} in all, sides of {MIN_SIDE} "
                                     f"or more, and none longer than {MAX_ASPECT} times the other")  # fmt: skip
                upright = ImageOps.exif_transpose(eight_bit(picture)).convert("RGBA")
    except UnidentifiedImageError:
        raise ValueError(f"{path} is no picture that is read here; give a file of {', '.join(FORMATS)}.") from None
    except Image.DecompressionBombError:
        raise ValueError(f"{path}: over {MAX_PIXELS:,} pixels; make it smaller.") from None
    except (
        OSError, SyntaxError, ValueError, TypeError, LookupError, ArithmeticError, EOFError, MemoryError, RuntimeError,
    ) as error:  # fmt: skip
        raise ValueError(f"{path} is no picture that can be used: {error}.") from None
    return np.asarray(Image.alpha_composite(Image.new("RGBA", upright.size, "white"), upright).convert("RGB"))


def picture_formats(data: bytes) -> list[str]:
    """What Pillow may take the bytes for: of FORMATS what this Pillow has, and HEIC. Raises: ValueError."""
    Image.init()
    formats = [name for name in FORMATS if name in Image.OPEN]
    if data[4:8] == b"ftyp" and data[8:12] in HEIC_BRANDS:
        try:
            import pillow_heif
        except ImportError:
            raise ValueError("it is HEIC: pip install pillow-heif, or save it as JPEG") from None
        pillow_heif.register_heif_opener()
        formats.append("HEIF")
    return formats


def eight_bit(picture: Image.Image) -> Image.Image:
    """Grey of 16 or 32 bits, or of floats, in 8 bits; all else as it is. The largest number tells what white is.

    Raises: ValueError for numbers of which none is known to be white, also of 12 bits in 16, which come out black.
    """
    if picture.mode[0] not in "IF":
        if any(";16" in str(tile[3]) for tile in picture.tile):  # of colours Pillow keeps the upper 8 bits
            colours = picture.getextrema()[: 3 if picture.mode.startswith("RGB") else 1]
            if max(high for _, high in colours) < 16:
                raise ValueError("16 bits a colour of which the upper 4 are empty; save it in 8 bits")
        return picture
    values = np.asarray(picture)
    low, high = float(values.min()), float(values.max())
    deep = picture.format in ("PNG", "PPM") or picture.mode != "I"  # of these, Pillow gives 16 bits
    if picture.mode != "F" and (0 if deep else 255) < high < 4096:
        raise ValueError(f"numbers up to {high:g}, as of 12 bits in 16; save it in 8 bits")
    if picture.mode != "F" and 0 <= low and high <= 65535:
        scaled = values >> 8 if deep or high > 255 else values
    elif picture.mode == "F" and 0 <= low and (high <= 1 or 2 < high <= 255):
        scaled = np.rint(values * np.float32(255 if high <= 1 else 1))
    else:
        raise ValueError(f"numbers from {low:g} to {high:g}, of which none is known to be white; save it in 8 bits")
    grey = Image.fromarray(scaled.astype(np.uint8))
    grey.getexif().update(picture.getexif())  # it may have to be turned
    return grey


def edit(model: str, image: str, text: str, seed: int = 0, threads: int = 2) -> Image.Image:
    """The picture `image` at its own size, changed to what `text` says. seed: 0 = the mean edit; others, other results.

    Of a model that draws anew, as its contract says: the square that it draws.
    Raises: OSError and ValueError, in one line, for what is wrong with the files or the text.
    """
    contract, words = read_contract(model)
    tokens = tokenise(text, contract["tokens"], words)
    pixels, size = read_pixels(image), contract["image"]["size"]
    height, width = carry.small_size(*pixels.shape[:2], size)
    # Across first, then down: Pillow's own order depends on its release and the sides.
    narrow = Image.fromarray(pixels).resize((width, len(pixels)), Image.Resampling.BILINEAR)
    small = np.asarray(narrow.resize((width, height), Image.Resampling.BILINEAR)) / np.float32(127.5) - np.float32(1)
    inputs = {}
    if "noise" in contract["signatures"]["edit"]["inputs"]:  # else the model has one edit for each sentence
        shape = contract["signatures"]["edit"]["inputs"]["noise"]["shape"]
        noise = np.random.default_rng(seed).normal(size=shape) if seed else np.zeros(shape)
        inputs["noise"] = noise.astype(np.float32)

    from ai_edge_litert.interpreter import Interpreter  # here: what is wrong above is said at once

    try:
        interpreter = Interpreter(model, num_threads=threads)
        embed, edit = (interpreter.get_signature_runner(name) for name in ("embed", "edit"))
        inputs["embedding"] = embed(tokens=tokens)["embedding"]

        def edit_square(x: np.ndarray) -> np.ndarray:  # `manipulate` gives whole levels: too coarse to be carried up
            return edit(image=np.ascontiguousarray(x)[None], **inputs)["edited"][0]

        if not contract.get("keeps_picture", True):  # then it draws a square of its own, of the central one
            top, left = (height - size) // 2, (width - size) // 2
            drawn = edit_square(small[top : top + size, left : left + size])
            return Image.fromarray(np.clip(np.round(127.5 * (drawn + 1)), 0, 255).astype(np.uint8))
        edited = carry.in_squares(small, size, edit_square)
    except (RuntimeError, ValueError) as error:
        raise ValueError(f"{model} does not run: {error}; export it again with run_export.py.") from None
    return Image.fromarray(carry.carry(pixels, small, edited))


def parser() -> argparse.ArgumentParser:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--model", required=True, help="a .tflite of run_export.py")
    arguments.add_argument("--image", required=True, help="the picture to edit: any size, any mode")
    arguments.add_argument("--text", required=True, help="what it should show")
    arguments.add_argument("--out", required=True, help="picture to write, .png or .jpg")
    arguments.add_argument("--seed", type=int, default=0, help="0 (default) is the mean edit, others give another one")
    arguments.add_argument("--threads", type=int, default=2, help="default 2")
    return arguments


def one_line(message: str) -> str:
    """A refusal that a screen can show, whatever stands in a file's name."""
    shown = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in " ".join(message.split()))
    return f"error: {shown[:2000]}"


def main() -> None:
    values = parser().parse_args()
    try:
        if not values.out.lower().endswith((".png", ".jpg", ".jpeg")):
            raise ValueError(f"out={values.out!r} must end in .png or .jpg.")
        if values.seed < 0 or values.threads < 1:
            raise ValueError(f"seed={values.seed} must be 0 or more, threads={values.threads} 1 or more.")
        edited = edit(values.model, values.image, values.text, values.seed, values.threads)
        edited.save(values.out, quality=95)
    except FileNotFoundError as error:
        sys.exit(one_line(f"{error.filename}: there is no such file; check the name"))
    except OSError as error:
        sys.exit(one_line(f"{error.filename}: {error.strerror}" if error.strerror else str(error)))
    except ValueError as error:
        sys.exit(one_line(str(error)))
    print(f"wrote {values.out}: {values.image} by {values.model}, {edited.width}x{edited.height} pixels")


if __name__ == "__main__":
    main()
