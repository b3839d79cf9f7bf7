"""TensorFlow Serving: what a model becomes there. This file starts no TensorFlow."""

from typing import NamedTuple

from data import geometry


class Bounds(NamedTuple):
    """Of a picture that a server takes. Those of one's own pictures (`geometry`) are wider: no one else waits for them.

    pixels: of a JPEG, 4096x4096: reading, editing and writing it takes up to 3 seconds of an old core. Of a PNG or WebP
        half of that, since what goes back is a PNG, whose packing alone takes 0.15 seconds a million pixels.
    aspect: longer side over shorter; the network works on as many squares.
    """

    pixels: int = 2**24
    aspect: int = 8

    def check(self) -> None:
        """Raises: ValueError for bounds that are none, or wider than one's own pictures may be."""
        most = Bounds(geometry.MAX_PIXELS, geometry.MAX_ASPECT)
        for name, value, low, high in zip(self._fields, self, Bounds(geometry.MIN_SIDE**2, 1), most, strict=True):
            if not low <= value <= high:
                raise ValueError(f"max_{name}={value:,} must be {low:,} to {high:,}.")


USUAL = Bounds()
