"""A photograph as it came and as it goes back: pixels, transparency, colour profile, a JPEG's quality.
Which files are accepted is decided in data/images.py."""

import dataclasses
import io
import os
from typing import Any

import numpy as np
from PIL import Image, JpegImagePlugin

from data import images
from data.geometry import check_size

STRIP = 256  # rows that are worked on at a time
OTHERWISE = {"quality": 95, "subsampling": 0}  # of a JPEG whose source was none


@dataclasses.dataclass(frozen=True)
class Photo:
    """An upright photograph.

    pixels: [H, W, 3] uint8 in the colours of its profile. alpha: [H, W] uint8, None = opaque.
    icc_profile: of the file, where it is one of RGB colours. jpeg: Pillow's options that write a JPEG of the same
    quality; empty where the source was none.
    """

    pixels: np.ndarray
    alpha: np.ndarray | None = None
    icc_profile: bytes | None = None
    jpeg: dict[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def seen(self) -> np.ndarray:
        """[H, W, 3] uint8 as it is looked at: transparent parts are white."""
        return self.pixels if self.alpha is None else _on_white(self.pixels, self.alpha)


def read(source: "str | os.PathLike | Image.Image | np.ndarray") -> Photo:
    """The photograph of a file, a Pillow picture, or pixels [H, W, 3] uint8.

    Turned upright by its EXIF orientation; 16 bit and float values become 8 bit, grey and CMYK become RGB.
    Raises: FileNotFoundError; ValueError naming what is wrong: a damaged file, a format that is not taken, more than 50
    million pixels, a side under 8 pixels.
    """
    if isinstance(source, np.ndarray):
        if source.dtype != np.uint8 or source.ndim != 3 or source.shape[2] != 3:
            raise ValueError(f"pixels are {source.dtype} {list(source.shape)}; accepted are uint8 [H, W, 3].")
        check_size("the picture", source.shape[1::-1])
        return Photo(source)
    if isinstance(source, Image.Image):
        check_size("the picture", source.size)
        return _photo("the picture", source.copy())
    path = os.fspath(source)
    data = images.read_file(path)
    with images.in_words(path, data, "choose another one"), images.open_picture(path, data) as picture:
        images.check_file(path, data, picture.size)
        photo = _photo(path, picture)
        images.require_whole(picture, data)
        return photo


def _photo(name: str, picture: Image.Image) -> Photo:
    profile, jpeg = picture.info.get("icc_profile"), _jpeg_options(picture)
    coloured = picture.mode in ("RGB", "RGBA", "P", "PA")  # a CMYK or grey profile does not fit RGB pixels
    images.load(name, picture)
    upright = images.upright(picture)
    alpha = None
    if images.is_transparent(upright):
        upright = upright.convert("RGBA")
        alpha = np.asarray(upright.getchannel("A"))
        alpha = None if alpha.min() == 255 else alpha
    pixels = np.asarray(upright.convert("RGB") if alpha is not None else images.to_rgb(name, upright))
    return Photo(pixels, alpha, profile if coloured else None, jpeg)


def _jpeg_options(picture: Image.Image) -> dict[str, Any]:
    """What makes Pillow write a JPEG as coarse as this one; its tables for RGB need three channels' worth of them."""
    if picture.format not in ("JPEG", "MPO") or picture.mode not in ("RGB", "L"):
        return {}
    options: dict[str, Any] = {"qtables": picture.quantization}
    sampling = JpegImagePlugin.get_sampling(picture)
    return options | ({"subsampling": sampling} if sampling >= 0 else {})


def beneath(photo: Photo, made: np.ndarray) -> np.ndarray:
    """The colours that look as `made` [H, W, 3] uint8 behind the photograph's transparency, as near as there are any.

    c + (made - seen) 255 / alpha of a colour c; where nothing is seen of it, itself.
    """
    if photo.alpha is None:
        return made
    result = photo.pixels.copy()
    for top in range(0, len(result), STRIP):  # floats of a large photograph take memory
        rows = slice(top, top + STRIP)
        c, alpha = photo.pixels[rows].astype(np.float32), photo.alpha[rows, :, None].astype(np.float32)
        change = made[rows].astype(np.float32) - _on_white(photo.pixels[rows], photo.alpha[rows])
        whole = np.where(alpha > 0, c + change * 255 / np.maximum(alpha, 1), c)
        result[rows] = np.clip(np.round(whole), 0, 255)
    return result


def _on_white(pixels: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    share = alpha[..., None].astype(np.uint16)
    return ((pixels * share + 255 * (255 - share) + 127) // 255).astype(np.uint8)


def encode(photo: Photo, pixels: np.ndarray, ending: str) -> bytes:
    """File of `pixels` [H, W, 3] uint8, the photograph edited, with the photograph's profile and transparency.

    ending: .jpg, .jpeg, .png, .webp. A JPEG is as coarse as the photograph's, or of quality 95, and white where that is
    transparent.
    """
    buffer = io.BytesIO()
    profile = {"icc_profile": photo.icc_profile} if photo.icc_profile else {}
    if ending.lower() in (".jpg", ".jpeg"):
        flat = pixels if photo.alpha is None else _on_white(pixels, photo.alpha)
        Image.fromarray(flat).save(buffer, "JPEG", **(photo.jpeg or OTHERWISE), **profile)
    else:
        whole = pixels if photo.alpha is None else np.dstack([pixels, photo.alpha])
        options = {"lossless": True} if ending.lower() == ".webp" else {"compress_level": 3}
        Image.fromarray(whole).save(buffer, ending[1:].upper(), **options, **profile)
    return buffer.getvalue()
