"""An edit of a small picture carried up to the photograph it was made from, at the photograph's own size; numpy alone.
export/serving/carrying.py does so in a TensorFlow graph, carry.js and pixels.js of export/web/page in browsers."""

import functools
from collections.abc import Callable

import numpy as np

SMOOTH = 1  # small pixels, radius of the mean that both small pictures go through before they are compared
RADIUS = 2  # small pixels, of the window in which one change of colours is fitted
EPSILON = 1e-3  # of a channel's variance in [-1, 1]: what varies less (4 of 255) is noise and fits nothing
GAIN = 2.0  # most by which the fitted contrast of a window is raised, or lowered, to stay what it was
GAIN_OF_ALL = 1.25  # and after that the contrast of the whole picture's finest detail
EVEN = 1e-9  # mean square, in [-1, 1], of detail too small to be one
REST = 0.5  # least share of what the rules leave of the edit that is given back, smoothed; more brings fringes back
FAR = 0.06  # mean absolute rest, in [-1, 1], from which all of it is given back; below it in proportion
LEAST = 8  # pixels, of a side of a box, as of any picture
FEATHER = 1 / 8  # of a box's shorter side, along which an edited part fades into its photograph

Box = tuple[int, int, int, int]  # x, y, width, height in pixels from the top left corner


def small_size(height: int, width: int, size: int) -> tuple[int, int]:
    """(h, w) of the picture that the generator gets: the shorter side is `size`, the aspect is kept.

    Both are multiples of 4, which the generator halves twice; so the aspect may be off by 2 pixels of the small one.
    """
    short = min(height, width)
    h, w = (max(4, 4 * ((side * size + 2 * short) // (4 * short))) for side in (height, width))
    return h, w


def in_squares(small: np.ndarray, size: int, edit: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """A picture [h, w, 3], of which one side is `size`, edited square by square: [h, w, 3] float32.

    edit: [size, size, 3] -> as much.   As many squares as cover the picture, at even distances and from multiples of 4,
    which the generator halves twice; where two overlap, the share of the later one grows from 0 to 1 along the overlap.
    The generator's convolutions would take the whole at once, but a .tflite is of one size, training was of squares
    alone, and a long panorama would take the memory of all its squares.
    """
    if small.shape[1] > small.shape[0]:  # lying: the same, turned
        turned = small.transpose(1, 0, 2)
        return in_squares(turned, size, lambda x: edit(x.transpose(1, 0, 2)).transpose(1, 0, 2)).transpose(1, 0, 2)
    length = len(small)
    count = -(-length // size)
    edited, end = np.zeros(small.shape, np.float32), 0
    for i in range(count):
        start = 4 * (i * (length - size) // (4 * max(count - 1, 1)))
        rows = np.arange(start, start + size)
        overlap = max(end - start, 1)
        share = np.where(rows < end, (rows - start + 0.5) / overlap, 1.0)[:, None, None].astype(np.float32)
        edited[rows] += share * (edit(small[rows]) - edited[rows])
        end = start + size
    return edited


def carry(photo: np.ndarray, small: np.ndarray, edited: np.ndarray, strength: float = 1.0) -> np.ndarray:
    """The edited photograph, [H, W, 3] uint8: its own detail in the colours that the generator gave the small one.

    photo: [H, W, 3] uint8.   small, edited: [h, w, 3] float32 in [-1, 1], the photograph as the generator saw it,
    which is all of it, and what it made of that.   Of any sizes; an edit that changes nothing gives the photograph.
    strength: how much of the change, 0 to 1.
    Memory beside the two photographs: 550 bytes a small pixel and a few rows.
    Raises: ValueError for other shapes or types, or where `edited` is not finite.
    """
    if photo.ndim != 3 or photo.shape[2] != 3 or photo.dtype != np.uint8 or not photo.size:
        raise ValueError(f"photo is {photo.shape} {photo.dtype}, must be [H, W, 3] uint8.")
    if small.ndim != 3 or small.shape[2] != 3 or small.shape != edited.shape or not small.size:
        raise ValueError(f"small is {small.shape}, edited {edited.shape}; both must be [h, w, 3].")
    if not (np.isfinite(small).all() and np.isfinite(edited).all()):
        raise ValueError("small or edited has values that are not finite: the model gave no picture.")
    return apply(photo, np.float32(strength) * fit(small, edited))


def fit(
    small: np.ndarray, edited: np.ndarray, smooth: int = SMOOTH, radius: int = RADIUS, epsilon: float = EPSILON
) -> np.ndarray:
    """The change of colours at every small pixel, [h, w, 4, 3] float32: three rows of slopes A and one of offsets b.

    What changes about a colour x in [-1, 1] is  d(x) = x A + b.  In each window of 2 radius + 1 pixels
        A = (cov(x, x) + epsilon 1)^-1 cov(x, d),   b = mean(d) - mean(x) A,   d = edited - small,
    and a pixel gets the mean A and b of the windows that it is in. Windows end at the picture's edges.
    The generator's own blur, and even colours where there were veins, would be fitted as less contrast. So 1 + A is
    multiplied by g = 1 / r, within 1 / GAIN to GAIN, with the contrast's ratio
        r = (tr (1 + A)' C (1 + A) / tr C)^0.5,   C = cov(x, x) + epsilon 1,
    and b follows, so that a window's mean colour stays the edit's. Means of windows lose some of that again; so all
    1 + A are multiplied once more by one number, within 1 / GAIN_OF_ALL to GAIN_OF_ALL, that gives the small picture's
    finest detail, x - mean(x), its old root mean square. Last, b takes a share s of the mean of d - d(x), what the
    rules leave of the edit: s = mean |d - d(x)| / FAR over the picture, within REST to 1.
    Source: He et al., Guided Image Filtering (2013), Eq. 14-16, and Fast Guided Filter (2015) for the low resolution.
    Differs: the change is fitted, not the edited picture, so that where nothing can be fitted the photograph's detail
    stays as it is, not flat; both pictures go through a mean of 2 smooth + 1 pixels first, since the generator leaves
    patterns of a pixel or two; the contrast is kept; and the edit is met more closely.
    """
    small = small.astype(np.float64)
    change = edited - small
    x, d = _mean(small, smooth), _mean(change, smooth)
    mean_x, mean_d = _mean(x, radius), _mean(d, radius)
    cov_xx = _mean(x[..., :, None] * x[..., None, :], radius) - mean_x[..., :, None] * mean_x[..., None, :]
    cov_xd = _mean(x[..., :, None] * d[..., None, :], radius) - mean_x[..., :, None] * mean_d[..., None, :]
    cov_xx += epsilon * np.eye(3)
    whole = np.linalg.solve(cov_xx, cov_xd) + np.eye(3)  # 1 + A, [h, w, 3, 3]
    ratio = np.sqrt(((cov_xx @ whole) * whole).sum((2, 3)) / np.trace(cov_xx, axis1=2, axis2=3))
    whole *= np.clip(1 / np.maximum(ratio, 1e-6), 1 / GAIN, GAIN)[..., None, None]
    slopes = _mean(whole - np.eye(3), radius)
    offsets = _mean(mean_d - _times(mean_x, whole - np.eye(3)), radius)

    made = small + _times(small, slopes) + offsets
    detail, new_detail = small - _mean(small, SMOOTH), made - _mean(made, SMOOTH)
    gain = np.sqrt((np.mean(detail**2) + EVEN) / (np.mean(new_detail**2) + EVEN))
    more = (np.clip(gain, 1 / GAIN_OF_ALL, GAIN_OF_ALL) - 1) * (slopes + np.eye(3))
    slopes, offsets = slopes + more, offsets - _times(_mean(small, SMOOTH), more)
    left = change - _times(small, slopes) - offsets
    offsets += np.clip(np.abs(left).mean() / FAR, REST, 1) * _mean(left, SMOOTH)
    return np.concatenate([slopes, offsets[..., None, :]], axis=2).astype(np.float32)


def _times(colours: np.ndarray, slopes: np.ndarray) -> np.ndarray:
    """x A at every pixel: [h, w, 3] of [h, w, 3] and [h, w, 3, 3]."""
    return (colours[..., None, :] @ slopes)[..., 0, :]


def apply(photo: np.ndarray, maps: np.ndarray) -> np.ndarray:
    """The photograph [H, W, 3] uint8, changed by what `fit` gave.

    maps: [h, w, 4, 3], interpolated linearly between the centres of the small pixels. The photograph's rows between two
    rows of these go together: both are drawn out to the photograph's width once.
    """
    h, w = maps.shape[:2]
    height, width = photo.shape[:2]
    # In pixels p = 127.5 (x + 1) the change is p A + 127.5 (b - sum of A's rows); by plane: [h, 4, 3, w].
    planes = maps.transpose(0, 2, 3, 1).copy()
    planes[:, 3] = 127.5 * (planes[:, 3] - planes[:, :3].sum(axis=1))
    upper, lower, down = _between(h, height)
    left, right, across = _between(w, width)

    @functools.lru_cache(maxsize=2)
    def drawn_out(row: int) -> np.ndarray:  # [4, 3, W]
        plane = planes[row]
        return plane[..., left] + across * (plane[..., right] - plane[..., left])

    result = np.empty_like(photo)
    ends = [*(np.flatnonzero(np.diff(upper)) + 1), height]
    top = 0
    for bottom in ends:
        above, t = drawn_out(upper[top]), down[top:bottom, None]
        step = drawn_out(lower[top]) - above
        pixels = photo[top:bottom].transpose(2, 0, 1).astype(np.float32, order="C")  # [3, rows, W]
        for c in range(3):
            value = t * step[3, c]
            value += above[3, c] + np.float32(0.5)  # the cast to integers cuts off
            value += pixels[c]
            for k in range(3):
                slope = t * step[k, c]
                slope += above[k, c]
                slope *= pixels[k]
                value += slope
            result[top:bottom, :, c] = np.clip(value, 0, 255, out=value)
        top = bottom
    return result


def require_box(photo: np.ndarray, box: Box) -> Box:
    """`box` itself. Raises: ValueError where it leaves the photograph [H, W, 3] or is too small to be a picture."""
    x, y, width, height = box
    full_height, full_width = photo.shape[:2]
    if not (min(width, height) >= LEAST and 0 <= x <= full_width - width and 0 <= y <= full_height - height):
        raise ValueError(f"the box {x},{y},{width},{height} (x, y, width, height) must have sides of {LEAST} or more "
                         f"and lie inside the photograph of {full_width}x{full_height}.")  # fmt: skip
    return box


def put_back(photo: np.ndarray, part: np.ndarray, box: Box) -> np.ndarray:
    """The photograph [H, W, 3] uint8 with `part` in the place of `box`, fading in along the box's inner border.

    part: [height, width, 3] uint8 of the box (x, y, width, height).   The border is FEATHER of the box's shorter side;
    a side that lies on the photograph's own edge has none.
    Raises: ValueError where the box leaves the photograph, or the part is not of its size.
    """
    x, y, width, height = require_box(photo, box)
    full_height, full_width = photo.shape[:2]
    if part.shape != (height, width, 3):
        raise ValueError(f"the edited part is {part.shape}, must be ({height}, {width}, 3) as its box.")
    border = FEATHER * min(width, height)
    down = _fade(height, border, y > 0, y + height < full_height)
    across = _fade(width, border, x > 0, x + width < full_width)
    result = photo.copy()
    for row, share in enumerate(down):  # a row at a time: the box may be a whole large photograph
        old, new = photo[y + row, x : x + width].astype(np.float32), part[row].astype(np.float32)
        result[y + row, x : x + width] = old + (share * across)[:, None] * (new - old) + 0.5
    return result


def _fade(side: int, border: float, first: bool, last: bool) -> np.ndarray:
    """Shares [side] of the new picture: 0 to 1 along `border` pixels at the ends that fade, 1 elsewhere; no corner."""
    place = np.arange(side, dtype=np.float32) + np.float32(0.5)
    share = np.ones(side, np.float32)
    for fades, distance in ((first, place), (last, side - place)):
        if fades:
            t = np.minimum(distance / np.float32(border), np.float32(1))
            share *= t * t * (3 - 2 * t)
    return share


def _between(count: int, length: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of `length` pixels over `count` larger ones: the one whose centre is before, the one after, share of the latter.

    Beyond the first and last centre the picture goes on as it is there.
    """
    place = np.clip((np.arange(length) + 0.5) * count / length - 0.5, 0, count - 1)
    before = place.astype(np.int64)
    return before, np.minimum(before + 1, count - 1), (place - before).astype(np.float32)


def _mean(values: np.ndarray, radius: int) -> np.ndarray:
    """Mean over squares of 2 radius + 1 pixels of [h, w, ...], of what of them lies inside of the picture."""
    for axis in (0, 1):
        lines = np.moveaxis(values, axis, 0)
        sums, count = lines.copy(), np.ones(len(lines))
        for step in range(1, radius + 1):
            for to, of in ((np.s_[step:], np.s_[:-step]), (np.s_[:-step], np.s_[step:])):
                sums[to] += lines[of]
                count[to] += 1
        sums /= count.reshape(-1, *[1] * (values.ndim - 1))
        values = np.moveaxis(sums, 0, axis)
    return values
