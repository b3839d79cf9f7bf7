"""Edits a picture by a sentence with a .tflite of run_export.py, as a program on a device does it.
Needs ai-edge-litert, numpy and Pillow alone, and pillow-heif for HEIC: without TensorFlow, copy this file and
simgan_tf/carry.py to a board, side by side.

python -m export.device_example --model=simgan_float16.tflite --image=photo.jpg --text="purple petals" --out=edit.png
"""

import argparse
import io
import json
import re
import sys
import warnings
import zipfile
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

try:
    from simgan_tf import carry
except ImportError:  # on a board
    import carry

MAX_PIXELS = 50_000_000  # a larger picture is a mistake or a decompression bomb
MIN_SIDE, MAX_ASPECT = 8, 40
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM", "AVIF")  # not all of Pillow's: its EPS runs a program
HEIC_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")  # bytes 8 to 11 of such a file
SMALL = {upper: upper + 32 for upper in range(ord("A"), ord("Z") + 1)}  # A-Z to a-z and nothing else


def read_contract(model: str) -> tuple[dict, list[str]]:
    """What the file says of itself, and its vocabulary in the order of ids. Raises: OSError, ValueError."""
    try:
        with zipfile.ZipFile(model) as archive:
            contract = json.loads(archive.read("contract.json"))
            name = contract["tokens"].get("vocabulary")
            words = archive.read(name).decode().split("\n")[:-1] if name else []
            contract["signatures"]["manipulate"], contract["image"]["load_size"]
    except (KeyError, TypeError, AttributeError, ValueError, zipfile.BadZipFile) as error:
        raise ValueError(
            f"{model} carries no contract with the signature manipulate ({error}); give a .tflite of run_export.py."
        ) from None
    return contract, words


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
        small = kind == "words" or tokens["lower_case"]
        found = re.findall(r"[A-Za-z0-9]+" if kind == "words" else r"[^ \t\n\v\f\r]+", text)
        numbers = {word: i for i, word in enumerate(words)}
        ids = known = [numbers.get(word.translate(SMALL) if small else word, unknown) for word in found]
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
    with open(path, "rb") as file:
        data = file.read()
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


def edit_in_squares(small: np.ndarray, size: int, edit_square: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """A picture [h, w, 3], of which one side is `size`, edited by a model that takes squares alone: [h, w, 3] float32.

    As many squares as cover it, at even distances and from multiples of 4, which the model halves twice; where two
    overlap, the share of the later one grows from 0 to 1 along the overlap.
    """
    if small.shape[1] > small.shape[0]:  # lying: the same, turned
        turned = small.transpose(1, 0, 2)
        edited = edit_in_squares(turned, size, lambda x: edit_square(x.transpose(1, 0, 2)).transpose(1, 0, 2))
        return edited.transpose(1, 0, 2)
    length = len(small)
    count = -(-length // size)
    edited, end = np.zeros(small.shape, np.float32), 0
    for i in range(count):
        start = 4 * (i * (length - size) // (4 * max(count - 1, 1)))
        rows = np.arange(start, start + size)
        overlap = max(end - start, 1)
        share = np.where(rows < end, (rows - start + 0.5) / overlap, 1.0)[:, None, None].astype(np.float32)
        edited[rows] += share * (edit_square(small[rows]) - edited[rows])
        end = start + size
    return edited


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

    Raises: ValueError for numbers of which none is known to be white.
    """
    if picture.mode[0] not in "IF":
        return picture
    values = np.asarray(picture)
    low, high = float(values.min()), float(values.max())
    deep = picture.format in ("PNG", "PPM") or picture.mode != "I"  # of these, Pillow gives 16 bits
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

    Raises: OSError and ValueError, in one line, for what is wrong with the files or the text.
    """
    contract, words = read_contract(model)
    tokens = tokenise(text, contract["tokens"], words)
    pixels, size = read_pixels(image), contract["image"]["size"]
    height, width = carry.small_size(*pixels.shape[:2], size)
    small = np.asarray(Image.fromarray(pixels).resize((width, height), Image.Resampling.BILINEAR))
    drawn = {}
    if "noise" in contract["signatures"]["manipulate"]["inputs"]:  # else the model has one edit for each sentence
        shape = contract["signatures"]["manipulate"]["inputs"]["noise"]["shape"]
        noise = np.random.default_rng(seed).normal(size=shape) if seed else np.zeros(shape)
        drawn = {"noise": noise.astype(np.float32)}

    from ai_edge_litert.interpreter import Interpreter  # here: what is wrong above is said at once

    try:
        manipulate = Interpreter(model, num_threads=threads).get_signature_runner("manipulate")
        edited = edit_in_squares(
            small, size, lambda x: manipulate(image=np.ascontiguousarray(x)[None], tokens=tokens, **drawn)["edited"][0]
        )
    except (RuntimeError, ValueError) as error:
        raise ValueError(f"{model} does not run: {error}; export it again with run_export.py.") from None
    return Image.fromarray(carry.carry(pixels, small / np.float32(127.5) - 1, edited / np.float32(127.5) - 1))


def parser() -> argparse.ArgumentParser:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--model", required=True, help="a .tflite of run_export.py")
    arguments.add_argument("--image", required=True, help="the picture to edit: any size, any mode")
    arguments.add_argument("--text", required=True, help="what it should show")
    arguments.add_argument("--out", required=True, help="picture to write, .png or .jpg")
    arguments.add_argument("--seed", type=int, default=0, help="0 (default) is the mean edit, others give another one")
    arguments.add_argument("--threads", type=int, default=2, help="default 2")
    return arguments


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
        sys.exit(f"error: {error.filename}: there is no such file; check the name")
    except (OSError, ValueError) as error:
        sys.exit("error: " + " ".join(str(error).split()))
    print(f"wrote {values.out}: {values.image} by {values.model}, {edited.width}x{edited.height} pixels")


if __name__ == "__main__":
    main()
