"""The reader of colours on real photographs: which words, which pixels, how judged. Arrays and captions in, words out.

No training uses it, so that it can judge what a training made.

Words. Each set of words (FLOWERS, BIRDS) has the colours that are asked for and read. A picture's own colour is what
its captions say of petals (flowers) or of plumage below and as a whole (birds): see `said` and `own_colour`. Blue
flowers are left out, since captions call the same petals blue and purple; violet, lavender, lilac and mauve count as
purple. Birds are not asked for grey, which the reader got right on one test picture in four (the one choice that test
pictures had a part in), nor for orange and green, which are the own colour of 1 % and 3 % of the training pictures
that have one.

Pixels. `foreground` splits a picture into object and background by its colours alone. It looks at the source picture,
and its answer serves all edits of that picture, so that an edit cannot choose where it is read.

Judging. A fixed function of a pixel's Lab colour gives it to a word or to "none of them"; the word that gets most of
the foreground wins: see `read`. Its numbers were fitted on pictures of training classes alone, by
benchmarks.fit_colours. How often the reader is right:

python -m simgan_tf.evaluation.colours --records_dir=runs/birds/records

Add --exact=FILE.csv where not all captions are the pictures' own: columns image (file name) and pairing ("exact" or
anything else).
"""

import collections
import csv
import dataclasses
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from absl import flags
from scipy import ndimage, special

from simgan_tf.system import commands

if TYPE_CHECKING:
    from data import pipeline

SIDE = 64  # pixels; larger pictures are averaged down to it, so that every size is read alike


@dataclasses.dataclass(frozen=True)
class Words:
    """A set of words and how to read them."""

    colours: tuple[str, ...]  # asked for and read
    sentence: str  # that asks for one: "this flower has {} petals"
    names: Mapping[str, str]  # a caption's word -> its colour, also of colours that are not read
    own: frozenset[str]  # nouns whose colour counts
    other: frozenset[str]  # nouns whose colour does not
    table: tuple[tuple[float, ...], ...]  # [colours + 1, 10], see `word_shares`; the last row is "none of them"


def _names(text: str) -> dict[str, str]:
    """{"red": "red", "scarlet": "red"} of "red: scarlet"."""
    groups = (group.split(":") for group in text.split(";"))
    return {word: colour.strip() for colour, more in groups for word in [colour.strip(), *more.split()]}


FLOWERS = Words(
    colours=("red", "yellow", "purple", "white", "pink", "orange"),
    sentence="this flower has {} petals",
    names=_names(
        "red: scarlet crimson; yellow: gold golden; purple: violet lavender lilac mauve; white:; pink:; orange:; blue:;"
        "green:; brown:; black:; peach:; maroon: burgundy; magenta: fuchsia; cream:"
    ),
    own=frozenset("petal petals pedal pedals petaled petalled flower flowers bloom blooms blossom blossoms".split()),
    other=frozenset(
        "stamen stamens stigma stigmas pistil pistils anther anthers filament filaments center centers centre middle "
        "leaf leaves stem stems sepal sepals pollen ovary ovule style styles disc disk pedicel receptacle spots spot "
        "stripes stripe line lines vein veins dots tips tip edges edge interior inside base bulb tube carpel cone "
        "foliage background bud buds trim streaks markings accents highlights hue tint".split()
    ),
    table=(
        (-1.98, -0.37, 0.86, 0.34, -0.02, 1.42, -0.6, -0.38, -0.49, 1.23),
        (-1.24, -0.24, -0.3, 1.06, 0.18, -0.61, 1.28, -0.45, 0.38, -0.61),
        (-0.13, -0.49, 0.48, -2.11, -0.3, 0.06, 1.06, -0.3, -0.12, -1.43),
        (0.19, 1.39, -1.78, -0.36, 0.27, -0.78, -0.72, -0.73, 0.01, 0.12),
        (-0.24, 0.38, 1.44, -0.31, -0.09, 0.93, -1.99, 0.9, 0.17, -0.75),
        (-1.68, 0.23, 0.48, 0.64, -0.25, -0.42, 0.74, 1.1, 0.22, 1.87),
        (5.04, -0.91, -1.18, 0.74, 0.21, -0.6, 0.23, -0.14, -0.17, -0.43),
    ),
)
BIRDS = Words(
    colours=("red", "yellow", "blue", "black", "brown", "white"),
    sentence="this bird is {0} with a {0} belly",
    names=_names(
        "red: crimson scarlet ruby; yellow: gold golden; blue: turquoise teal; black:; brown: tan rust; white: cream;"
        "grey: gray silver; orange:; green: olive; purple:; pink:"
    ),
    own=frozenset(
        "bird birds body bodied belly bellied breast breasts breasted chest abdomen stomach underbelly underside back "
        "side sides flank flanks vent feather feathers feathered plumage color colored coloring coloration covering "
        "overall".split()
    ),
    other=frozenset(
        "beak beaks bill billed crown crest head headed forehead face nape neck collar throat throated cheek cheeks "
        "eye eyes eyering eyerings eyebrow eyebrows superciliary malar mask comb wing wings winged wingbar wingbars "
        "bar bars primaries secondaries covert coverts tail rectrices retrices undertail rump foot feet leg legs "
        "tarsus thighs claws patch patches stripe stripes striped spot spots spotted speckled speckles streaks "
        "markings tip tips tipped edges ring rings accents top water".split()
    ),
    table=(
        (-1.29, -0.46, 2.92, 0.16, 0.03, 2.02, -0.1, -1.17, -0.44, 0.85),
        (-1.21, 0.1, -1.15, 1.75, -0.33, -0.85, 2.09, 0.13, -0.57, -0.32),
        (-0.53, -0.45, -1.53, -2.99, -0.33, 0.39, 0.91, 0.2, 1.55, 0.46),
        (-0.56, -0.6, -0.22, -1.16, 1.43, -0.28, -1.12, 0.27, 0.28, -0.21),
        (-0.1, 0.22, 1.64, 1.71, -0.67, -0.98, -0.62, 0.02, -0.43, 0.58),
        (0.36, 1.36, -0.42, -0.34, -0.16, -0.47, -0.05, 0.36, -0.24, -0.43),
        (3.3, -0.17, -1.23, 0.86, 0.03, 0.17, -1.11, 0.19, -0.15, -0.94),
    ),
)
WORDS = {"flowers": FLOWERS, "birds": BIRDS}
DATASETS = {"oxford102": "flowers", "cub": "birds"}  # a data set of the records -> its words


# ---- words


def said(caption: str, words: Words) -> set[str]:
    """The colours that a caption says of petals or plumage; also those that the reader does not read.

    A colour belongs to the next noun of `words` after it, up to eight words on and before one of _CLAUSE; without such
    a noun to the last one before it in its clause ("petals that are white"). Typing errors make it miss a few.
    """
    tokens = re.findall(r"[a-z]+", caption.lower())
    colours = set()
    for i, token in enumerate(tokens):
        if token not in words.names:
            continue
        noun = _first_noun(tokens[i + 1 : i + 9], words, _CLAUSE) or _first_noun(tokens[:i][::-1], words, _CUT)
        if noun in words.own:
            colours.add(words.names[token])
    return colours


_CUT = frozenset("with while but".split())
_CLAUSE = _CUT | frozenset(
    "that which has have having is are of around surrounding at in on where whose its it there".split()
)


def _first_noun(tokens: Iterable[str], words: Words, stop: frozenset[str]) -> str:
    for token in tokens:
        if token in words.own or token in words.other:
            return token
        if token in stop:
            break
    return ""


def own_colour(captions: Sequence[str], words: Words) -> str:
    """The picture's own colour by its captions, or "" where they name none or more than one.

    At least four captions must name a colour; over half of these name this one and no more than a third another one
    ("this flower is white and yellow in color" is often a matter of the centre). A colour that is not read gives "".
    """
    named = [colours for colours in (said(caption, words) for caption in captions) if colours]
    votes = collections.Counter(colour for colours in named for colour in colours).most_common(2) + [("", 0)] * 2
    (first, most), (_, second) = votes[0], votes[1]
    clear = len(named) >= 4 and 2 * most > len(named) and 3 * second <= len(named)
    return first if clear and first in words.colours else ""


def exact_keys(path: str, keys: Sequence[str]) -> np.ndarray:
    """Which of `keys` a table of pairings calls exact, [N] bool.

    path: a CSV file with columns image (file name; its stem is the key) and pairing ("exact" or anything else).
    Raises: ValueError where it lacks a column or a key.
    """
    with open(path, encoding="utf-8", newline="") as file:
        rows = csv.DictReader(file)
        missing = {"image", "pairing"} - set(rows.fieldnames or ())
        if missing:
            raise ValueError(f"{path} has no column {sorted(missing)[0]!r}; image and pairing are needed.")
        pairing = {os.path.splitext(row["image"])[0]: row["pairing"] for row in rows}
    unknown = [key for key in keys if key not in pairing]
    if unknown:
        raise ValueError(f"{path} lacks {len(unknown)} of {len(keys)} pictures ({unknown[0]}); give the table of them.")
    return np.array([pairing[key] == "exact" for key in keys])


# ---- pixels


def _shrink(images: np.ndarray) -> np.ndarray:
    """Blocks averaged so that the side is at most SIDE, where it is a multiple of it. images: [N, S, S, C]."""
    factor = images.shape[1] // SIDE if images.shape[1] % SIDE == 0 else 1
    if factor <= 1:
        return images
    blocks = images.reshape(len(images), images.shape[1] // factor, factor, images.shape[2] // factor, factor, -1)
    return blocks.mean(axis=(2, 4))


def to_lab(images: np.ndarray) -> np.ndarray:
    """CIELAB (D65) of sRGB pictures in [-1, 1], any shape [..., 3]: L 0 to 100, a and b about -100 to 100."""
    from skimage import color  # here: it takes half a second, which reading captions does not need

    return color.rgb2lab(np.clip((np.asarray(images, np.float32) + 1) / 2, 0, 1))


def _from_centre(side: int) -> np.ndarray:
    """Squared distance of each pixel from the centre in sides, [side, side]."""
    line = (np.arange(side, dtype=np.float32) + 0.5) / side - 0.5
    return line[:, None] ** 2 + line[None, :] ** 2


def _blurred_lab(images: np.ndarray) -> np.ndarray:
    sigma = 0.7 * images.shape[1] / SIDE  # less than a pixel: removes the grain of JPEG and of a GAN
    return to_lab(ndimage.gaussian_filter(images, [0, sigma, sigma, 0]))


BINS = (10, 15, 15)  # of L, a and b


def colour_bins(images: np.ndarray) -> np.ndarray:
    """The bin of BINS that each pixel's Lab colour falls into, of its own picture's histogram, [N, S, S] int."""
    lab = _blurred_lab(images)
    places = [np.clip(lab[..., 0] * 0.09, 0, 9), *(np.clip((lab[..., k] + 90) * 14 / 180, 0, 14) for k in (1, 2))]
    places = np.ravel_multi_index([np.round(place).astype(int) for place in places], BINS)
    return places + (np.arange(len(images)) * int(np.prod(BINS)))[:, None, None]


def log_ratio(places: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """How much more often each pixel's colour is inside than outside, as a logarithm, [N, S, S].

    places: of `colour_bins`. inside: [N, S, S] in [0, 1], the weight with which a pixel is inside.
    """
    count, histograms = len(places), []
    for weight in (inside, 1 - inside):
        counted = np.bincount(places.ravel(), weight.ravel(), count * int(np.prod(BINS))).reshape(count, *BINS)
        counted = ndimage.gaussian_filter(counted, [0, 0.7, 0.7, 0.7]) + 0.05  # an empty bin decides little
        histograms.append(counted / counted.sum(axis=(1, 2, 3), keepdims=True))
    return np.log(histograms[0] / histograms[1]).ravel()[places]


def foreground(images: np.ndarray) -> np.ndarray:
    """Where the flower or the bird is, [N, S, S] bool: True = inside; never empty. images: [N, S, S, 3] in [-1, 1].

    Six rounds of expectation and maximisation at SIDE pixels. A pixel is inside with prior odds that fall from 19:1 in
    the centre to 1:2 at a side's middle and 1:8 in a corner; the colours of inside and outside are two histograms of
    10 x 15 x 15 bins of Lab, weighted by what each pixel was held for in the round before and smoothed. The log-ratio
    of the two, smoothed over 1.5 pixels and counted twice, moves the prior odds. Of the pixels above one half, the
    component that lies most in the centre is taken, without bridges of under 3 pixels, and its holes are filled.
    The numbers were chosen by eye on photographs.
    """
    side = images.shape[1]
    images = _shrink(images)
    small = images.shape[1]
    centred = np.exp(-_from_centre(small) / (2 * 0.33**2))
    prior = np.clip(centred, 0.02, 0.95)
    inside = coloured(images, prior, 1.5 * small / SIDE, 2)
    masks = np.zeros(inside.shape, bool)
    for mask, likely in zip(masks, inside > 0.5, strict=True):
        opened = ndimage.binary_opening(likely, np.ones([3, 3])) if small >= 32 else likely
        parts, number = ndimage.label(opened)
        if number:
            weight = np.bincount(parts.ravel(), centred.ravel())
            mask[:] = ndimage.binary_fill_holes(parts == 1 + weight[1:].argmax())
        else:
            mask[:] = prior > 0.5
    return masks.repeat(side // small, axis=1).repeat(side // small, axis=2)


def coloured(images: np.ndarray, prior: np.ndarray, blur: float = 1.0, times: int = 1) -> np.ndarray:
    """How surely each pixel is inside, [N, S, S], by the six rounds of `foreground`, begun from `prior`.

    images: [N, S, S, 3] in [-1, 1]. prior: [S, S] or [N, S, S] in (0, 1). The log-ratio of the two histograms, smoothed
    over `blur` pixels, counts `times` times.
    """
    places = colour_bins(images)
    odds, inside = np.log(prior / (1 - prior)), np.broadcast_to(prior, places.shape)
    for _ in range(6):
        ratio = ndimage.gaussian_filter(log_ratio(places, inside), [0, blur, blur])
        inside = 1 / (1 + np.exp(-(odds + times * ratio)))
    return inside


def background(masks: np.ndarray, part: int = 32) -> np.ndarray:
    """What lies outside `masks` [N, S, S] by more than a `part`-th of the side (2 pixels of 64), bool."""
    reach = max(1, masks.shape[1] // part)
    return ~ndimage.binary_dilation(masks, np.ones([1, 3, 3]), iterations=reach)


# ---- judging


def terms(lab: np.ndarray) -> np.ndarray:
    """1, L, a, b and their six products, [..., 10], of Lab brought to about -1 to 1."""
    light, a, b = lab[..., 0] / 50 - 1, lab[..., 1] / 50, lab[..., 2] / 50
    products = (light * light, a * a, b * b, light * a, light * b, a * b)
    return np.stack([np.ones_like(light), light, a, b, *products], axis=-1)


def inside(images: np.ndarray, masks: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Lab colours [n, 3] and weights [n] of each picture's pixels inside its mask, in reading order.

    images: [N, S, S, 3] in [-1, 1]. masks: [N, S, S] bool. A pixel weighs exp(-r^2 / (2 * 0.4^2)), r from the centre in
    sides.
    """
    images, masks = _shrink(images), _shrink(masks[..., None])[..., 0] > 0.5
    weight = np.exp(-_from_centre(images.shape[1]) / (2 * 0.4**2))
    for image, mask in zip(images, masks, strict=True):
        yield _blurred_lab(image[None])[0][mask], weight[mask]


def word_shares(images: np.ndarray, masks: np.ndarray, words: Words) -> np.ndarray:
    """How much of the inside each word gets, [N, colours + 1]; rows add up to 1 and the last is "none of them".

    images: [N, S, S, 3] in [-1, 1]. masks: [N, S, S] bool, none empty.
    A pixel goes to the words and to "none of them" (leaves, shadows, centres, twigs) by softmax of ten numbers a word:
    a quadratic function of its Lab colour. Pixels weigh as `inside` says.
    """
    table = np.array(words.table, np.float32).T
    return np.array([
        np.average(special.softmax(terms(lab) @ table, axis=-1), axis=0, weights=weight)
        for lab, weight in inside(images, masks)
    ])  # fmt: skip


def read(images: np.ndarray, masks: np.ndarray, words: Words) -> np.ndarray:
    """The word of each picture, [N] str: the one with the largest share inside, whatever "none of them" gets.

    Arguments as of `word_shares`.
    """
    return np.array(words.colours)[word_shares(images, masks, words)[:, :-1].argmax(axis=1)]


# ---- the check


def check(readings: np.ndarray, own: np.ndarray, colours: Sequence[str]) -> dict[str, object]:
    """Accuracy of `readings` on the pictures whose `own` colour is known (not ""), [N] str each.

    Returns: pictures (n), accuracy (share that is right), by_colour {colour: [right, n]}, confused {"own read": n}.
    """
    known = own != ""
    readings, own = readings[known], own[known]
    wrong = collections.Counter(f"{a} {b}" for a, b in zip(own.tolist(), readings.tolist(), strict=True) if a != b)
    return {
        "pictures": len(own),
        "accuracy": float(np.mean(readings == own)) if len(own) else float("nan"),
        "by_colour": {c: [int((readings[own == c] == c).sum()), int((own == c).sum())] for c in colours if c in own},
        "confused": dict(wrong.most_common()),
    }


def define_flags() -> None:
    flags.DEFINE_string("records_dir", None, "Folder that data.build wrote.", required=True)
    flags.DEFINE_enum("words", "auto", ["auto", *WORDS], "Set of words; auto = that of the records' data set.")
    flags.DEFINE_string("exact", "", "CSV file that says which pictures have their own captions; empty = all.")
    flags.DEFINE_integer("image_size", 64, "Pixels.", lower_bound=16)
    flags.DEFINE_integer("load_size", 76, "Pixels, shorter side before the central crop.", lower_bound=16)


def main(argv: list[str]) -> None:
    values = flags.FLAGS
    commands.start_tensorflow()
    words = WORDS[words_of(values.records_dir, values.words)]
    for name in ("train", "test"):
        print_check(known_pictures(values.records_dir, name, words, values.exact, values.image_size, values.load_size),
                    words, name)  # fmt: skip


def words_of(records_dir: str, flag: str) -> str:
    """The set of words that records without masks are read with. Raises: ValueError where none belongs to them."""
    from data import records

    dataset = records.read_info(records_dir)["dataset"]
    kind = choose(flag, dataset, masks=False)
    if not kind:
        raise ValueError(f"no set of words belongs to dataset={dataset!r}; give --words={'|'.join(WORDS)}.")
    return kind


@dataclasses.dataclass(frozen=True)
class Pictures:
    """The pictures of a split whose own colour is known."""

    images: "pipeline.Decoded"  # [N, S, S, 3] in [-1, 1], read when asked for
    own: np.ndarray  # [N] str
    exact: np.ndarray  # [N] bool: the captions are the picture's own

    def parts(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """The pictures and their masks by `foreground`, [n, S, S, 3] and [n, S, S] bool, 256 at a time."""
        for start in range(0, len(self.images), 256):
            images = self.images[start : start + 256]
            yield images, foreground(images)


def known_pictures(
    records_dir: str, name: str, words: Words, exact: str, image_size: int, load_size: int
) -> Pictures:  # fmt: skip
    """Of split `name`; exact: path of the table of `exact_keys`, "" = all. Raises: ValueError where there is none."""
    from data import pipeline, splits

    split = splits.load_split(records_dir, name)
    own = np.array([own_colour(captions, words) for captions in split.captions])
    if not any(own):
        raise ValueError(f"no {name} picture of {records_dir} has one of the colours {', '.join(words.colours)}.")
    split, own = split.take(np.flatnonzero(own != "")), own[own != ""]
    images = pipeline.decoded_images(split, image_size, load_size)
    return Pictures(images, own, exact_keys(exact, split.keys) if exact else np.ones(len(split), bool))


def print_check(pictures: Pictures, words: Words, name: str) -> None:
    readings = np.concatenate([read(images, masks, words) for images, masks in pictures.parts()])
    for title, which in (("exact", pictures.exact), ("all", np.ones_like(pictures.exact))):
        print(f"{name}, {title} captions: {check(readings[which], pictures.own[which], words.colours)}")


def choose(words: str, dataset: str, masks: bool) -> str:
    """The set of words that a flag's value means, "" for none. masks: whether the records have true masks."""
    if words == "auto":
        return "" if masks else DATASETS.get(dataset, "")
    return "" if words == "none" else words


if __name__ == "__main__":
    commands.run(main, define_flags)
