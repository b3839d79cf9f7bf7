"""Sizes of pictures: which are accepted, what is cut out around a bounding box, and how large it is stored."""

MAX_PIXELS = 50_000_000  # a larger picture is a mistake or a decompression bomb
MAX_ASPECT = 40  # longer side over shorter: resizing by the shorter must not blow the longer up
MIN_SIDE = 8  # pixels
FRAME = 1.2  # times an object's box: the closest frame around it
SLACK = 0.02  # of a side, by which a box drawn by hand may leave its picture

Box = tuple[float, float, float, float]  # x, y, width, height in pixels from the top left corner


class Refused(ValueError):
    """A readable picture that we do not want; a class of its own, to tell it from the ValueErrors of libraries."""


def check_size(path: str, size: tuple[int, int]) -> None:
    """Raises: ValueError for a picture of too many pixels, or one too long or too small. path: for messages."""
    width, height = size
    if width * height > MAX_PIXELS:
        raise Refused(f"{path} is {width}x{height}, over {MAX_PIXELS:,} pixels; make it smaller.")
    if min(width, height) < MIN_SIDE:
        raise Refused(f"{path} is {width}x{height}; both sides need {MIN_SIDE} pixels or more.")
    if max(width, height) > MAX_ASPECT * min(width, height):
        raise Refused(f"{path} is {width}x{height}; the longer side may be {MAX_ASPECT} times the shorter at most.")


def clip_box(size: tuple[int, int], box: Box) -> tuple[Box, float]:
    """The part of a box that lies in its picture, and how far the box leaves it, in shares of the side it crosses.

    size: (width, height) of the picture.   0 = the box lies inside and is returned as it is. A box that lies outside
    as a whole keeps no width or height.
    """
    (width, height), (x, y, w, h) = size, box
    beyond = max(-x / width, -y / height, (x + w) / width - 1, (y + h) / height - 1)
    if beyond <= 0:
        return box, 0.0
    left, top = min(max(x, 0.0), width), min(max(y, 0.0), height)
    right, bottom = min(max(x + w, 0.0), width), min(max(y + h, 0.0), height)
    return (left, top, right - left, bottom - top), beyond


def crop_rectangle(path: str, size: tuple[int, int], box: Box) -> tuple[int, int, int, int]:
    """(left, top, right, bottom) of the square around a bounding box, cut off at the picture's edges.

    The square's half side is R = int(0.75 max(w, h)) and its centre int((2x + w) / 2), int((2y + h) / 2), with the
    box's numbers cut to integers first, so the box takes two thirds of it. At the edges it is no square any more.
    Source: StackGAN's preprocessing of the birds.
    Differs: it stretches what was cut to a square of 304 pixels; here the cut keeps its shape, as in AttnGAN, and
    training crops a square out of it.

    path: for messages.   size: (width, height) of the picture.
    Raises: ValueError where the box leaves the picture by over SLACK of a side: it was drawn on another.
    """
    width, height = size
    x, y, w, h = (int(value) for value in box)
    slack_x, slack_y = SLACK * width, SLACK * height
    inside = -slack_x <= x and x + w <= width + slack_x and -slack_y <= y and y + h <= height + slack_y
    if not inside or w < 1 or h < 1:
        raise Refused(beside(path, size, box))
    centre_x, centre_y, half = (2 * x + w) // 2, (2 * y + h) // 2, int(0.75 * max(w, h))
    left, top = max(0, centre_x - half), max(0, centre_y - half)
    return left, top, min(width, centre_x + half), min(height, centre_y + half)


def frame_box(size: tuple[int, int], box: Box, draws: tuple[float, float, float]) -> Box:
    """The box whose `crop_rectangle` is a frame around the object, from 1.2 times its box to the whole picture.

    size: (width, height) of the picture. box: inside of it. draws: three numbers in [0, 1): the frame's side, on a
    logarithmic scale, and where in the frame the object lies, across and down.
    """
    (width, height), (x, y, w, h) = size, box
    least, most = FRAME * max(w, h), max(width, height)
    side = least * max(most / least, 1.0) ** draws[0]
    core, centre = min(side / 1.5, width, height), []
    for draw, whole, start, length in ((draws[1], width, x, w), (draws[2], height, y, h)):
        low = max(start + length - side / 2, core / 2)  # the frame reaches the object's far end, the core its picture
        high = min(start + side / 2, whole - core / 2)
        middle = low + draw * (high - low) if low < high else start + length / 2
        centre.append(min(max(middle, core / 2), whole - core / 2))
    return centre[0] - core / 2, centre[1] - core / 2, core, core


def beside(path: str, size: tuple[int, int], box: Box) -> str:
    """What is wrong with a box that leaves its picture."""
    x, y, w, h = (int(value) for value in box)
    return (
        f"{path} is {size[0]}x{size[1]}, but its bounding box of {w}x{h} at ({x}, {y}) leaves it; these pictures "
        "are not the originals (cut or resized already?): build with --crop=none."
    )


def change(
    path: str, size: tuple[int, int], box: Box | None, stored_size: int
) -> tuple[tuple[int, int, int, int], tuple[int, int]] | None:
    """((left, top, right, bottom), (width, height)): what is cut out of a picture of `size` and the size it is stored
    at; None where the picture stays as it is.

    Raises: ValueError as `crop_rectangle`, or where the cut is too small or too long to be a picture.
    """
    part = (0, 0, *size) if box is None else crop_rectangle(path, size, box)
    width, height = part[2] - part[0], part[3] - part[1]
    if box is not None:
        check_size(f"{path}, cut to its bounding box,", (width, height))
    short = min(width, height)
    if 0 < stored_size < short:
        width, height = ((side * stored_size + short // 2) // short for side in (width, height))
    return None if (part, (width, height)) == ((0, 0, *size), size) else (part, (width, height))
