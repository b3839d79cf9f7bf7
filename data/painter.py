"""Draws one flower: pixels and mask of a flower's description, the same again for the same arguments and Pillow.
Must not know captions, folders, records or models.

Everything is a polygon or noise that Pillow stretches. A picture has a random generator of its own, so that it does not
depend on which others are drawn, nor on who draws them.
"""

import dataclasses
import math

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageFilter, ImageOps

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
FINER = 3  # polygons are drawn so many times larger, for smooth edges
CIRCLE = [(math.cos(k * math.pi / 12), math.sin(k * math.pi / 12)) for k in range(24)]


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


# ---- backgrounds: RGB pictures of the side S


def _noise(rng, size: int, rows: int, columns: int) -> Image.Image:
    """Random greys, rows x columns of them, stretched smoothly; mode L, as all below that is not coloured yet."""
    grid = np.frombuffer(rng.bytes(rows * columns), np.uint8).reshape(rows, columns)
    return Image.fromarray(grid).resize((size, size), Image.Resampling.BICUBIC)


def _clouds(rng, size: int, cells: int) -> Image.Image:
    return Image.blend(_noise(rng, size, cells, cells), _noise(rng, size, 3 * cells, 3 * cells), 0.35)


def _darkened(picture: Image.Image, by: Image.Image, lowest: int) -> Image.Image:
    """Times `by`, whose black stands for lowest / 255."""
    return ImageChops.multiply(picture, ImageOps.colorize(by, (lowest,) * 3, (255,) * 3))


def _spots(rng, picture: Image.Image, colours, count: int, low: float, high: float, strength: int) -> Image.Image:
    """Round spots over the picture, radii from `low` to `high` in shares of the side, the larger the softer."""
    size = picture.width
    paint, cover = picture.copy(), Image.new("L", picture.size)
    for _ in range(count):
        x, y, radius = between(rng, 0, size), between(rng, 0, size), between(rng, low, high) * size
        box = (round(x - radius), round(y - radius), round(x + radius), round(y + radius))
        ImageDraw.Draw(paint).ellipse(box, pick(rng, colours))
        ImageDraw.Draw(cover).ellipse(box, strength)
    return Image.composite(paint, picture, cover.filter(ImageFilter.GaussianBlur(high * size / 10)))


def _grass(rng, size):
    blades = Image.blend(_noise(rng, size, 5, 56), _noise(rng, size, 9, 30), 0.4)
    return _darkened(ImageOps.colorize(blades, (18, 44, 14), (86, 122, 44)), _down(size), 165)


def _leaves(rng, size):
    picture = ImageOps.colorize(_clouds(rng, size, 3), (14, 34, 18), (44, 74, 34))
    return _spots(rng, picture, ((70, 110, 50), (100, 130, 60), (40, 90, 60), (130, 140, 80)), 14, 0.06, 0.2, 128)


def _soil(rng, size):
    picture = ImageOps.colorize(_clouds(rng, size, 8), (50, 34, 24), (124, 92, 64))
    picture = _spots(rng, picture, ((150, 120, 90), (40, 28, 20), (96, 84, 74)), 40, 0.01, 0.035, 204)
    return _darkened(picture, _noise(rng, size, size, size), 170)


def _stone(rng, size):
    picture = ImageOps.colorize(_clouds(rng, size, 6), (84, 84, 86), (158, 154, 146))
    cracks = _clouds(rng, size, 3).point(lambda grey: min(255, 40 * abs(grey - 128)))
    return _darkened(_darkened(picture, cracks, 173), _noise(rng, size, size, size), 210)


def _sky(rng, size):
    picture = ImageOps.colorize(_down(size), (104, 156, 204), (194, 216, 228))
    white = _clouds(rng, size, 3).point(lambda grey: min(190, max(0, 3 * (grey - 128))))
    return Image.composite(Image.new("RGB", picture.size, (235, 235, 235)), picture, white)


def _planks(rng, size):
    picture = ImageOps.colorize(_noise(rng, size, 3, 30), (92, 62, 38), (176, 132, 88))
    boards, wide, first = Image.new("L", picture.size), between(rng, 0.16, 0.3) * size, rng.random()
    for number in range(8):  # the first is cut off by the edge; between two boards black shows
        left = round((number - first) * wide)
        box = (left, 0, left + round(wide) - max(2, size // 40), size)
        ImageDraw.Draw(boards).rectangle(box, fill=int(rng.integers(130, 256)))
    picture = _darkened(picture, boards, 60)
    return picture.transpose(Image.Transpose.ROTATE_90) if rng.random() < 0.5 else picture


def _blur(rng, size):
    glow = pick(rng, ((70, 60, 54), (52, 66, 60), (60, 56, 74), (64, 64, 64)))
    return ImageOps.colorize(_noise(rng, size, 3, 3), (8, 8, 10), glow)


def _water(rng, size):
    waves = Image.blend(_noise(rng, size, 16, 3), _noise(rng, size, 40, 9), 0.4)
    return ImageOps.colorize(waves, (26, 66, 74), (104, 152, 152))


def _bricks(rng, size):
    high = between(rng, 0.1, 0.16) * size
    wide, joint = 2.4 * high, max(1, round(0.14 * high))
    walls = Image.new("RGB", (size, size), (148, 148, 148))
    for row in range(11):
        for column in range(-1, 6):
            x, y = round((column + row % 2 / 2) * wide), round(row * high)
            tone = rng.random()
            colour = tuple(round(a + (b - a) * tone) for a, b in ((108, 160), (62, 110), (50, 90)))
            ImageDraw.Draw(walls).rectangle((x, y, round(x + wide) - joint, round(y + high) - joint), fill=colour)
    return _darkened(walls, _clouds(rng, size, 8), 190)


def _down(size: int) -> Image.Image:
    """From black at the top to white at the bottom."""
    return Image.linear_gradient("L").resize((size, size))


BACKGROUNDS = (_grass, _leaves, _soil, _stone, _sky, _planks, _blur, _water, _bricks)


# ---- the flower: a list of (corners of a polygon on FINER times the picture, colour), from the lowest to the topmost


class _Plane:
    """A tilted plane in the picture, and what is drawn on it; the petals' length is 1, the origin the flower's middle.

    tilt: short axis over long axis, 0 to 1; direction: radians, of the short axis.
    """

    def __init__(self, x: float, y: float, radius: float, tilt: float, direction: float) -> None:
        c, s = math.cos(direction), math.sin(direction)
        self.x, self.y, self.shapes = x, y, []
        self.a, self.d = radius * (c * c * tilt + s * s), radius * (s * s * tilt + c * c)
        self.b = radius * c * s * (tilt - 1)

    def add(self, points, colour, light: float) -> None:
        """A polygon of [(u, v)]; light: factor of the colour."""
        corners = [
            (round(FINER * (self.x + self.a * u + self.b * v)), round(FINER * (self.y + self.b * u + self.d * v)))
            for u, v in points
        ]
        self.shapes.append((corners, tuple(min(255, round(light * value)) for value in colour)))

    def disc(self, u: float, v: float, radius: float, colour, light: float = 1.0) -> None:
        """A large one is domed: lighter towards its middle."""
        circle = CIRCLE if radius > 0.1 else CIRCLE[::3]
        for share, shade in ((1.0, 0.8), (0.8, 0.92), (0.5, 1.03)) if radius > 0.1 else ((1.0, 1.0),):
            self.add([(u + share * radius * c, v + share * radius * s) for c, s in circle], colour, light * shade)

    def petal(self, shape: str, angle: float, length: float, half: float, colour, light: float, bend: float) -> None:
        """half: half-width; bend: to the side, at the tip, in lengths. A dark rim, a lighter middle and a vein."""
        c, s = math.cos(angle), math.sin(angle)

        def placed(along: float, aside: float) -> tuple[float, float]:
            u, v = length * along, half * aside - bend * length * along * along
            return u * c - v * s, u * s + v * c

        outline = _outline(shape)
        for share, shade in ((1.0, 0.68), (0.9, 0.86), (0.72, 0.94), (0.45, 1.0)):
            inner = [placed(along * (0.6 + 0.4 * share), aside * share) for along, aside in outline]
            self.add(inner, colour, light * shade)
        self.add([placed(0, -0.06), placed(0.85, 0), placed(0, 0.06)], colour, light * 0.8)


def _outline(shape: str) -> list[tuple[float, float]]:
    """(along, aside) around a petal, in shares of its length and of its half-width."""
    side = []
    for step in range(17):
        t = step / 16 * (2 - step / 16)  # closer together at the tip
        along, width = t, math.sqrt(2.116 * t * (1 - t**3))
        if shape == "pointed":
            width = 1.5 * math.sqrt(t) * (1 - t) * (1 + 1.8 * t)
        elif shape == "narrow":
            width = math.sqrt(max(0.0, 1 - (2 * t - 1) ** 6)) * (0.45 + 0.55 * t)
        elif shape == "heart":
            along = t * (1 - 0.3 * max(0.0, 1 - 1.8 * width))
        elif shape == "wavy":
            along, width = t * (0.95 + 0.05 * math.cos(9 * width)), width * (0.94 + 0.06 * math.cos(22 * t))
        side.append((along, width))
    return side + [(along, -width) for along, width in reversed(side)]


def _stem(rng, x: float, y: float, size: int) -> list:
    """A bent stalk from (x, y) to the lower edge, and sometimes a leaf on it."""
    green = tuple(value * between(rng, 0.75, 1.1) for value in (74, 112, 46))
    lean, curve, half = between(rng, -0.35, 0.35), between(rng, -0.4, 0.4), size * between(rng, 0.012, 0.02)
    down = [share / 8 * (size - y) for share in range(9)]
    middle = [(x + lean * step + curve * step * step / size, y + step) for step in down]
    stalk = _Plane(0, 0, 1, 1, 0)
    for share, light in ((1.0, 0.6), (0.5, 0.85)):
        left = [(u - share * half, v) for u, v in middle]
        stalk.add(left + [(u + share * half, v) for u, v in reversed(middle)], green, light)
    if rng.random() < 0.6:
        leaf = _Plane(*pick(rng, middle[3:7]), size * between(rng, 0.22, 0.34), 1, 0)
        angle = pick(rng, (0.25, math.pi - 0.25)) + between(rng, -0.5, 0.3)
        leaf.petal("pointed", angle, 1, between(rng, 0.2, 0.3), green, 1.0, between(rng, -0.2, 0.2))
        stalk.shapes += leaf.shapes
    return stalk.shapes


def _bloom(rng, flower: Flower, plane: _Plane, light_angle: float) -> list:
    """Petals in one ring or two, the dark throat between them, the centre."""
    colour = tuple((value + between(rng, -7, 7)) * between(rng, 0.96, 1.03) for value in COLOURS[flower.colour])
    start, spacing = between(rng, 0, 2 * math.pi), 2 * math.pi / flower.petals
    half = SHAPES[flower.shape][2] * min(0.6 * math.tan(spacing / 2), 0.45) * between(rng, 0.94, 1.06)
    bend = between(rng, -0.12, 0.12) if flower.shape in ("pointed", "narrow") else 0.0
    for ring in (1, 0) if rng.random() < 0.3 else (0,):  # 1: a second ring behind, seen between the petals of the first
        for number in shuffled(rng, range(flower.petals)):
            angle = start + spacing * (number + 0.5 * ring + between(rng, -0.07, 0.07))
            light = (0.97 + 0.07 * math.cos(angle - light_angle)) * between(rng, 0.96, 1.04) * (0.8 if ring else 1.0)
            wide = half * between(rng, 0.94, 1.06)
            plane.petal(flower.shape, angle, between(rng, 0.92, 1.0), wide, colour, light, bend)
    centre, heart = CENTRES[flower.centre], between(rng, 0.17, 0.23)
    plane.disc(0, 0, heart * 1.18, colour, 0.62)
    if flower.anthers:
        for c, s in CIRCLE[int(rng.integers(2)) :: 2]:
            for along, thick in ((0.21, 0.016), (0.25, 0.016), (between(rng, 0.28, 0.34), 0.036)):
                plane.disc(along * c, along * s, thick, centre, 1.05)
        heart *= 0.8
    plane.disc(0, 0, heart, centre)
    for _ in range(14):  # grains
        (c, s), away = pick(rng, CIRCLE), heart * 0.8 * rng.random()
        plane.disc(away * c, away * s, heart * 0.12, centre, pick(rng, (0.7, 1.15)))
    return plane.shapes


def _drawn(picture: Image.Image, shapes: list, fill: int | None = None) -> Image.Image:
    """The shapes over the picture, in their colours or in `fill`."""
    large = picture.resize((FINER * picture.width, FINER * picture.height), Image.Resampling.NEAREST)
    pen = ImageDraw.Draw(large)
    for corners, colour in shapes:
        pen.polygon(corners, fill=colour if fill is None else fill)
    return large.reduce(FINER)


def draw(flower: Flower, index: int, size: int = 96, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """One picture of `flower`: pixels [S, S, 3] uint8 and mask [S, S] bool, True on petals and centre.

    index: number of the picture, from 1; with `seed` it decides place, light, background and all else that varies.
    """
    rng = generator(seed, index, 0)
    background, brightness = pick(rng, BACKGROUNDS)(rng, size), between(rng, 0.8, 1.15)
    background = background.point(lambda value: min(255, round(brightness * value)))
    radius = between(rng, 0.45, 0.85) / 2 * size
    room = max(0.0, 0.46 * size - radius)
    x, y = size / 2 + between(rng, -room, room), size / 2 + between(rng, -room, room)
    light_angle = between(rng, 0, 2 * math.pi)
    plane = _Plane(x, y, radius, between(rng, 0.78, 1.0), between(rng, 0, math.pi))
    stem = _stem(rng, x, y, size) if rng.random() < 0.5 else []
    bloom = _bloom(rng, flower, plane, light_angle)

    cover = _drawn(Image.new("L", background.size), bloom, fill=255)
    fallen = max(1, size // 24)
    shadow = ImageChops.offset(cover.filter(ImageFilter.GaussianBlur(fallen / 2)), 0, fallen)
    picture = _drawn(_darkened(background, ImageOps.invert(shadow), 140), stem + bloom)

    line = (np.arange(size, dtype=np.float32) + 0.5) * 2 / size - 1
    slope = line[:, None] * math.sin(light_angle) + line[None, :] * math.cos(light_angle)
    light = between(rng, 0.75, 1.1) * (1 + 0.09 * slope)
    pixels = np.clip(np.asarray(picture) * light[..., None] + 0.5, 0, 255).astype(np.uint8)
    return pixels, np.asarray(cover) >= 128
