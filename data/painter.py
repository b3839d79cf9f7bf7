"""Draws one flower: pixels and mask of a flower's description, the same numbers on every machine.
Must not know captions, folders, records or models.

numpy's transcendental functions differ by one unit in the last place between processors, so arrays here see only
operations that IEEE 754 fixes (+ - * / sqrt, comparisons, where, clip, floor), never sum, mean or matmul, whose order
of additions is open. Sines are taken by `math` on single numbers and rounded to six decimals. Random numbers come from
`Generator.random` and `.integers` of PCG64 alone, and each picture has a generator of its own.
"""

import dataclasses
import math

import numpy as np

COLOURS = {  # petals: name -> RGB, apart from each other in hue or, for white and pink, in saturation
    "red": (208, 22, 34),
    "orange": (246, 122, 12),
    "yellow": (250, 218, 36),
    "white": (250, 250, 248),
    "pink": (252, 160, 200),
    "purple": (132, 44, 176),
    "blue": (44, 88, 220),
    "green": (120, 204, 62),
}
CENTRES = {
    "yellow": (242, 200, 40),
    "white": (246, 244, 234),
    "brown": (112, 66, 32),
    "black": (34, 27, 30),
    "green": (112, 150, 44),
    "orange": (238, 122, 24),
}
SHAPES = {  # name -> fewest petals, most petals, half-width in shares of the room a petal has, words for it
    "round": (4, 8, 1.16, ("round", "rounded", "smooth round")),
    "pointed": (4, 10, 1.02, ("pointed", "sharply pointed", "pointy")),
    "narrow": (8, 14, 0.84, ("narrow", "long thin", "slender")),
    "heart": (4, 6, 1.08, ("heart shaped", "notched", "heart like")),
    "wavy": (4, 8, 1.14, ("wavy", "ruffled", "frilly")),
}


@dataclasses.dataclass(frozen=True)
class Flower:
    """What all pictures of a class share."""

    colour: str  # key of COLOURS
    shape: str  # key of SHAPES
    petals: int
    centre: str  # key of CENTRES, never the petals' colour
    anthers: bool  # dots on filaments around the centre


def generator(*words: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(words))


def between(rng: np.random.Generator, low: float, high: float) -> float:
    return low + (high - low) * rng.random()


def pick(rng: np.random.Generator, choices):
    return choices[int(rng.integers(len(choices)))]


def shuffled(rng: np.random.Generator, items) -> list:
    """Fisher-Yates on `integers`: numpy keeps that stream, but not the one of `shuffle`, between versions."""
    items = list(items)
    for last in range(len(items) - 1, 0, -1):
        other = int(rng.integers(last + 1))
        items[last], items[other] = items[other], items[last]
    return items


# ---- backgrounds: [S, S, 3] float32 in [0, 1], computed at the picture's own size ----


def _stretch(grid: np.ndarray, size: int) -> np.ndarray:
    """Grid [R+1, C+1] -> [size, size] float32, smooth between the grid's points."""
    for axis in (0, 1):
        place = np.arange(size, dtype=np.float32) * np.float32((grid.shape[axis] - 1) / size)
        low = np.floor(place)
        share = place - low
        share = share * share * (np.float32(3) - np.float32(2) * share)
        share = share[:, None] if axis == 0 else share[None, :]
        first = low.astype(np.int64)
        grid = grid.take(first, axis) * (np.float32(1) - share) + grid.take(first + 1, axis) * share
    return grid


def _noise(rng: np.random.Generator, size: int, rows: int, columns: int) -> np.ndarray:
    return _stretch(rng.random((rows + 1, columns + 1)).astype(np.float32), size)


def _clouds(rng: np.random.Generator, size: int, cells: int) -> np.ndarray:
    """Three octaves of noise, [S, S] float32 in [0, 1]."""
    return (
        np.float32(0.55) * _noise(rng, size, cells, cells)
        + np.float32(0.3) * _noise(rng, size, 2 * cells, 2 * cells)
        + np.float32(0.15) * _noise(rng, size, 4 * cells, 4 * cells)
    )


def _blend(low: tuple[int, int, int], high: tuple[int, int, int], share: np.ndarray) -> np.ndarray:
    low, high = np.array(low, np.float32) / np.float32(255), np.array(high, np.float32) / np.float32(255)
    return low + (high - low) * share[..., None]


def _wave(x: np.ndarray) -> np.ndarray:
    """Smooth, period 1, 0 at whole numbers and 1 between them: a cosine made of polynomials."""
    part = x - np.floor(x)
    return np.float32(16) * part * part * (np.float32(1) - part) * (np.float32(1) - part)


def _discs(
    rng: np.random.Generator, picture: np.ndarray, colours, count: int, low: float, high: float, strength: float
) -> np.ndarray:
    """Soft round lights, radii from `low` to `high` in shares of the side."""
    size = picture.shape[0]
    y, x = _grid(size)
    for _ in range(count):
        radius = between(rng, low, high) * size
        centre_x, centre_y = between(rng, 0, size), between(rng, 0, size)
        x0, x1 = max(0, int(centre_x - radius)), min(size, int(centre_x + radius) + 2)
        y0, y1 = max(0, int(centre_y - radius)), min(size, int(centre_y + radius) + 2)
        away_x, away_y = x[:, x0:x1] - np.float32(centre_x), y[y0:y1] - np.float32(centre_y)
        far = (away_x * away_x + away_y * away_y) / np.float32(radius * radius)
        share = np.float32(strength) * np.clip((np.float32(1) - far) * np.float32(3), np.float32(0), np.float32(1))
        colour = np.array(pick(rng, colours), np.float32) / np.float32(255)
        part = picture[y0:y1, x0:x1]
        picture[y0:y1, x0:x1] = part + (colour - part) * share[..., None]
    return picture


def _grid(size: int) -> tuple[np.ndarray, np.ndarray]:
    """Pixel centres, y [S, 1] and x [1, S] float32."""
    line = np.arange(size, dtype=np.float32) + np.float32(0.5)
    return line[:, None], line[None, :]


def _grass(rng, size):
    y, x = _grid(size)
    slant = between(rng, -0.5, 0.5)
    blades = np.float32(0.6) * _noise(rng, size, 5, 56) + np.float32(0.4) * _noise(rng, size, 9, 30)
    lines = _wave((x + y * np.float32(slant)) * np.float32(17 / size) + np.float32(3) * _noise(rng, size, 6, 6))
    picture = _blend((18, 44, 14), (86, 122, 44), np.float32(0.7) * blades + np.float32(0.3) * lines)
    return picture * (np.float32(0.65) + np.float32(0.4) * y / np.float32(size))[..., None]


def _leaves(rng, size):
    picture = _blend((14, 34, 18), (44, 74, 34), _clouds(rng, size, 3))
    return _discs(rng, picture, ((70, 110, 50), (100, 130, 60), (40, 90, 60), (130, 140, 80)), 14, 0.06, 0.2, 0.5)


def _soil(rng, size):
    picture = _blend((50, 34, 24), (124, 92, 64), _clouds(rng, size, 8))
    picture = _discs(rng, picture, ((150, 120, 90), (40, 28, 20), (96, 84, 74)), 40, 0.01, 0.035, 0.8)
    return picture * (np.float32(0.8) + np.float32(0.4) * rng.random((size, size)).astype(np.float32))[..., None]


def _stone(rng, size):
    cracks = _clouds(rng, size, 3) - np.float32(0.5)
    cracks = np.clip(np.where(cracks < 0, -cracks, cracks) * np.float32(40), np.float32(0.68), np.float32(1))
    grain = np.float32(0.9) + np.float32(0.2) * rng.random((size, size)).astype(np.float32)
    return _blend((84, 84, 86), (158, 154, 146), _clouds(rng, size, 6)) * (cracks * grain)[..., None]


def _sky(rng, size):
    y, _ = _grid(size)
    picture = _blend((104, 156, 204), (194, 216, 228), np.broadcast_to(y / np.float32(size), (size, size)))
    share = np.clip(_clouds(rng, size, 3) * np.float32(3) - np.float32(1.5), np.float32(0), np.float32(0.75))
    return picture + (np.float32(0.92) - picture) * share[..., None]


def _planks(rng, size):
    y, x = _grid(size)
    wide = between(rng, 0.16, 0.3) * size
    across = x + np.float32(between(rng, 0, wide))
    board = np.floor(across / np.float32(wide))
    inside = across / np.float32(wide) - board
    tone = _wave(board * np.float32(0.377)) * np.float32(0.35)
    lines = _wave(_noise(rng, size, 3, 8) * np.float32(5) + x * np.float32(8 / size))
    picture = _blend((92, 62, 38), (176, 132, 88), np.float32(0.2) + tone + np.float32(0.4) * lines)
    gap = np.where(inside < np.float32(0.07), np.float32(0.4), np.float32(1))
    picture = picture * gap[..., None]
    return picture.transpose(1, 0, 2) if rng.random() < 0.5 else picture


def _blur(rng, size):
    glow = pick(rng, ((70, 60, 54), (52, 66, 60), (60, 56, 74), (64, 64, 64)))
    return _blend((8, 8, 10), glow, _noise(rng, size, 2, 2))


def _water(rng, size):
    y, _ = _grid(size)
    lines = _wave(y * np.float32(9 / size) + np.float32(2.5) * _noise(rng, size, 8, 4))
    return _blend((26, 66, 74), (104, 152, 152), np.float32(0.6) * lines + np.float32(0.3) * _noise(rng, size, 12, 4))


def _bricks(rng, size):
    y, x = _grid(size)
    high = between(rng, 0.1, 0.16) * size
    row = np.floor(y / np.float32(high))
    along = x / np.float32(2.4 * high) + row * np.float32(0.5)
    brick = np.floor(along)
    tone = _wave(brick * np.float32(0.317) + row * np.float32(0.713)) * np.float32(0.5)
    joint = (along - brick < np.float32(0.06)) | (y / np.float32(high) - row < np.float32(0.14))
    picture = _blend((108, 62, 50), (160, 110, 90), tone + np.float32(0.5) * _clouds(rng, size, 8))
    return np.where(joint[..., None], np.float32(0.58), picture)


BACKGROUNDS = (_grass, _leaves, _soil, _stone, _sky, _planks, _blur, _water, _bricks)


# ---- the flower, on a canvas of twice the picture's side ----


@dataclasses.dataclass(frozen=True)
class _View:
    """Flower plane -> canvas: the petals' radius is 1, `forward` [2, 2] and `inverse` are nested tuples."""

    x: float
    y: float
    forward: tuple[tuple[float, float], tuple[float, float]]
    inverse: tuple[tuple[float, float], tuple[float, float]]

    @classmethod
    def make(cls, x: float, y: float, radius: float, tilt: float, direction: float) -> "_View":
        """tilt: short axis over long axis, 0..1; direction: radians, of the short axis."""
        c, s = _turn(direction)
        a, b, d = c * c * tilt + s * s, c * s * (tilt - 1), s * s * tilt + c * c
        size = (a * d - b * b) * radius
        return cls(
            x, y, ((a * radius, b * radius), (b * radius, d * radius)), ((d / size, -b / size), (-b / size, a / size))
        )

    def window(self, corners, side: int) -> tuple[slice, slice]:
        """Rows and columns of the canvas that hold the corners [(u, v) in the flower's plane]."""
        xs = [self.x + self.forward[0][0] * u + self.forward[0][1] * v for u, v in corners]
        ys = [self.y + self.forward[1][0] * u + self.forward[1][1] * v for u, v in corners]
        return (
            slice(max(0, math.floor(min(ys)) - 1), max(0, min(side, math.ceil(max(ys)) + 2))),
            slice(max(0, math.floor(min(xs)) - 1), max(0, min(side, math.ceil(max(xs)) + 2))),
        )

    def plane(self, rows: slice, columns: slice, c: float, s: float) -> tuple[np.ndarray, np.ndarray]:
        """Flower-plane coordinates along and across a direction (cosine c, sine s), [h, w] float32 each."""
        y = np.arange(rows.start, rows.stop, dtype=np.float32)[:, None] + np.float32(0.5 - self.y)
        x = np.arange(columns.start, columns.stop, dtype=np.float32)[None, :] + np.float32(0.5 - self.x)
        (a, b), (d, e) = self.inverse
        return (
            x * np.float32(a * c + d * s) + y * np.float32(b * c + e * s),
            x * np.float32(d * c - a * s) + y * np.float32(e * c - b * s),
        )


def _turn(angle: float) -> tuple[float, float]:
    """Cosine and sine, rounded so that no mathematics library can be told from another."""
    return round(math.cos(angle), 6), round(math.sin(angle), 6)


def _outline(shape: str, along: np.ndarray, across: np.ndarray, phase: float) -> tuple[np.ndarray, np.ndarray]:
    """(along as the outline sees it, half-width there), both in shares of the petal, float32."""
    one = np.float32(1)
    aside = np.where(across < 0, -across, across)
    if shape == "heart":
        dent = np.clip(one - aside * np.float32(1.8), np.float32(0), one)
        along = along * (one + np.float32(0.42) * dent)
    if shape == "wavy":
        along = along * (one + np.float32(0.1) * _wave(across * np.float32(1.4) + np.float32(phase)))
    t = np.clip(along, np.float32(0), one)
    rest = one - t
    if shape == "pointed":
        width = np.sqrt(t) * rest * (one + np.float32(1.8) * t) * np.float32(1.5)
    elif shape == "narrow":
        middle = np.float32(2) * t - one
        middle = middle * middle
        width = np.sqrt(one - middle * middle * middle) * (np.float32(0.45) + np.float32(0.55) * t)
    else:
        width = np.sqrt(np.float32(2.116) * t * (one - t * t * t))
    if shape == "wavy":
        width = width * (np.float32(0.92) + np.float32(0.1) * _wave(t * np.float32(3.5) + np.float32(phase)))
    return along, width


def _petal(
    canvas,
    cover,
    view: _View,
    shape: str,
    angle: float,
    length: float,
    half: float,
    colour: np.ndarray,
    light: float,
    bend: float,
    phase: float,
    shadow: float = 0.72,
) -> None:
    """Paints one petal (or leaf) from the flower's middle outwards, over what is there, with a shadow at its edge.

    canvas: [N, N, 3] float32; cover: [N, N] bool, set where painted; colour: [3] float32; light: factor.
    """
    one = np.float32(1)
    c, s = _turn(angle)
    reach, side = length * 1.04, half * 1.25 + abs(bend) * length
    rows, columns = view.window(
        [(u * c - v * s, u * s + v * c) for u in (0.0, reach) for v in (-side, side)], canvas.shape[0]
    )
    if rows.start >= rows.stop or columns.start >= columns.stop:
        return
    u, v = view.plane(rows, columns, c, s)
    t = u * np.float32(1 / length)
    v = v + t * t * np.float32(bend * length)
    across = v * np.float32(1 / half)
    t, width = _outline(shape, t, across, phase)
    aside = np.where(across < 0, -across, across)
    on = (t > 0) & (t < one)
    inside = on & (aside < width)
    under = on & (aside < width + np.float32(0.16)) & ~inside & cover[rows, columns]
    inner = np.clip((width - aside) * np.float32(4.5), np.float32(0), one)
    tip = np.clip((one - t) * np.float32(9), np.float32(0), one)
    shade = (np.float32(0.82) + np.float32(0.24) * t) * (np.float32(0.86) + np.float32(0.14) * inner * tip)
    shade = shade * (one - np.float32(0.08) * _wave(across * np.float32(2) / (np.float32(0.3) + width)))  # veins
    shade = shade * np.where(aside < np.float32(0.07) * (np.float32(1.3) - t), np.float32(0.86), one)  # mid-vein
    shade = shade * (one + np.float32(0.1) * np.clip(across, -one, one)) * np.float32(light)  # roundness
    part = canvas[rows, columns]
    part[under] *= np.float32(shadow)
    part[inside] = shade[inside][:, None] * colour
    cover[rows, columns] |= inside


def _disc(
    canvas,
    cover,
    view: _View,
    u: float,
    v: float,
    radius: float,
    colour: np.ndarray,
    light: float,
    grain: np.ndarray | None = None,
) -> None:
    """Paints a domed disc of the flower's plane; grain: [N, N] float32, a factor, or None."""
    rows, columns = view.window([(u + i * radius, v + j * radius) for i in (-1, 1) for j in (-1, 1)], canvas.shape[0])
    if rows.start >= rows.stop or columns.start >= columns.stop:
        return
    x, y = view.plane(rows, columns, 1.0, 0.0)
    x, y = (x - np.float32(u)) * np.float32(1 / radius), (y - np.float32(v)) * np.float32(1 / radius)
    far = x * x + y * y
    inside = far < 1
    shade = (np.float32(1.05) - np.float32(0.4) * far * far - np.float32(0.12) * (x + y)) * np.float32(light)
    if grain is not None:
        shade = shade * grain[rows, columns]
    canvas[rows, columns][inside] = np.clip(shade[inside], np.float32(0), np.float32(1.1))[:, None] * colour
    cover[rows, columns] |= inside


def _stem(rng, canvas, cover, view: _View, colour: np.ndarray) -> None:
    """A bent stalk from the flower's middle to the lower edge, and sometimes a leaf on it."""
    side = canvas.shape[0]
    top = max(0, int(view.y))
    lean, curve, half = between(rng, -0.35, 0.35), between(rng, -0.4, 0.4), side * between(rng, 0.012, 0.02)
    down = np.arange(top, side, dtype=np.float32) - np.float32(top)
    middle = np.float32(view.x) + down * np.float32(lean) + down * down * np.float32(curve / side)
    x = np.arange(side, dtype=np.float32) + np.float32(0.5)
    off = (x[None, :] - middle[:, None]) * np.float32(1 / half)
    inside = off * off < 1
    shade = np.float32(0.85) - np.float32(0.3) * off
    canvas[top:][inside] = shade[inside][:, None] * colour
    cover[top:] |= inside
    if rng.random() < 0.6:
        at = int(between(rng, 0.45, 0.8) * (side - top)) if top < side else 0
        x_at = view.x + at * lean + at * at * curve / side
        foot = _View.make(x_at, top + at, side * between(rng, 0.22, 0.34), 1.0, 0.0)
        angle = pick(rng, (0.25, math.pi - 0.25)) + between(rng, -0.5, 0.3)
        _petal(
            canvas,
            cover,
            foot,
            "pointed",
            angle,
            1.0,
            between(rng, 0.2, 0.3),
            colour,
            1.0,
            between(rng, -0.2, 0.2),
            0.0,
        )


def _halve(picture: np.ndarray) -> np.ndarray:
    """Mean of each 2 x 2 block."""
    return np.float32(0.25) * (
        (picture[0::2, 0::2] + picture[0::2, 1::2]) + (picture[1::2, 0::2] + picture[1::2, 1::2])
    )


def _soften(mask: np.ndarray, reach: int) -> np.ndarray:
    """[S, S] float32 averaged over shifts of up to `reach` pixels in each direction; beyond the edges is 0."""
    for axis in (0, 1):
        wide = np.pad(mask, [(reach, reach) if a == axis else (0, 0) for a in (0, 1)])
        total = np.zeros_like(mask)
        for step in range(2 * reach + 1):
            total = total + (wide[step : step + mask.shape[0]] if axis == 0 else wide[:, step : step + mask.shape[1]])
        mask = total * np.float32(1 / (2 * reach + 1))
    return mask


def draw(flower: Flower, index: int, size: int = 96, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """One picture of `flower`: pixels [S, S, 3] uint8 and mask [S, S] bool, True on petals and centre.

    index: number of the picture, from 1; with `seed` it decides place, light, background and all else that varies.
    """
    rng = generator(seed, index, 0)
    side = 2 * size
    background = pick(rng, BACKGROUNDS)(rng, size).astype(np.float32)
    background = background * np.float32(between(rng, 0.8, 1.15))
    canvas = np.zeros((side, side, 3), np.float32)
    plant = np.zeros((side, side), bool)
    bloom = np.zeros((side, side), bool)

    radius = between(rng, 0.45, 0.85) / 2 * side
    room = max(0.0, 0.46 * side - radius)
    x, y = side / 2 + between(rng, -room, room), side / 2 + between(rng, -room, room)
    view = _View.make(x, y, radius, between(rng, 0.78, 1.0), between(rng, 0, math.pi))
    stalk = (np.array((74, 112, 46), np.float32) * np.float32(between(rng, 0.75, 1.1))) / np.float32(255)
    if rng.random() < 0.5:
        _stem(rng, canvas, plant, view, stalk)

    base = np.array([value + between(rng, -7, 7) for value in COLOURS[flower.colour]], np.float32) / np.float32(255)
    base = np.clip(base * np.float32(between(rng, 0.94, 1.04)), np.float32(0), np.float32(1))
    light_angle, start = between(rng, 0, 2 * math.pi), between(rng, 0, 2 * math.pi)
    spacing = 2 * math.pi / flower.petals
    half = SHAPES[flower.shape][2] * min(0.6 * round(math.tan(spacing / 2), 6), 0.45) * between(rng, 0.94, 1.06)
    bend = between(rng, -0.12, 0.12) if flower.shape in ("pointed", "narrow") else 0.0
    behind = rng.random() < 0.3
    for ring in (1, 0) if behind else (0,):  # 1: a second ring behind, seen between the petals of the first
        for number in shuffled(rng, range(flower.petals)) if ring else range(flower.petals):
            angle = start + spacing * (number + 0.5 * ring + between(rng, -0.07, 0.07))
            light = (0.97 + 0.07 * round(math.cos(angle - light_angle), 6)) * between(rng, 0.96, 1.04)
            _petal(
                canvas,
                bloom,
                view,
                flower.shape,
                angle,
                between(rng, 0.92, 1.0) * (0.97 if ring else 1.0),
                half * between(rng, 0.94, 1.06),
                base,
                light * (0.8 if ring else 1.0),
                bend,
                rng.random(),
            )

    centre = np.array(CENTRES[flower.centre], np.float32) / np.float32(255)
    heart = between(rng, 0.17, 0.23)
    grain = np.float32(0.72) + np.float32(0.5) * rng.random((size, size)).astype(np.float32)
    grain = grain.repeat(2, 0).repeat(2, 1)
    _disc(canvas, bloom, view, 0.0, 0.0, heart * 1.18, base, 0.62)  # the throat: petals in shadow
    if flower.anthers:
        count = 9 + int(rng.integers(5))
        for number in range(count):
            c, s = _turn(start + 2 * math.pi * number / count + between(rng, -0.1, 0.1))
            for along, thick in ((0.21, 0.014), (0.25, 0.014), (between(rng, 0.28, 0.34), 0.032)):
                _disc(canvas, bloom, view, along * c, along * s, thick, centre, 1.05)
        heart *= 0.8
    _disc(canvas, bloom, view, 0.0, 0.0, heart, centre, 1.0, grain)
    _disc(canvas, bloom, view, 0.0, 0.0, heart * 0.35, centre, 0.72, grain)

    share = _halve((plant | bloom).astype(np.float32))
    canvas[~(plant | bloom)] = 0
    shadow = _soften(_halve(bloom.astype(np.float32)), max(1, size // 24))
    shift = max(1, size // 24)
    fallen = np.zeros_like(shadow)
    fallen[shift:] = shadow[:-shift]
    background = background * (np.float32(1) - np.float32(0.45) * fallen)[..., None]
    picture = _halve(canvas) + background * (np.float32(1) - share)[..., None]
    c, s = _turn(light_angle)
    rows, columns = _grid(size)
    slope = (columns * np.float32(c) + rows * np.float32(s)) * np.float32(2 / size) - np.float32(c + s)
    light = np.float32(between(rng, 0.75, 1.1)) * (np.float32(1) + np.float32(0.09) * slope)
    picture = np.clip(picture * light[..., None], np.float32(0), np.float32(1))
    pixels = np.floor(picture * np.float32(255) + np.float32(0.5)).astype(np.uint8)
    return pixels, _halve(bloom.astype(np.float32)) >= np.float32(0.5)
