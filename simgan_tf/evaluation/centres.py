"""The reader of drawn flowers' centres: where the centre is, which colour it has, which one a sentence asks for.

The demo's records say the petals' colours alone. A centre lies in the middle of its flower's mask, and never has its
petals' colour (data/painter.py), so that the other colour of a sentence is the centre's.
"""

import re
from collections import Counter
from collections.abc import Sequence

import numpy as np

from data.painter import CENTRES
from data.pipeline import decoded_masks
from data.splits import Split
from simgan_tf.evaluation.objects import lab

SHARE = 0.11  # of the petals' reach that surely is centre; the smallest drawn disc has 0.136 times the tilt of 0.78
LIGHT = 0.5  # weight of lightness beside Lab's a and b: a picture is 0.75 to 1.1 times as light as its paint


def asked(sentence: str, petals: str) -> str:
    """The colour that a demo's sentence names for the centre, "" where it names none. petals: the petals' colour."""
    others = [word for word in re.findall("[a-z]+", sentence.lower()) if word in CENTRES and word != petals]
    return others[0] if others else ""


def own(captions: Sequence[str], petals: str) -> str:
    """The colour of a picture's own centre, of its captions; "" where none of them says it."""
    named = Counter(colour for colour in (asked(caption, petals) for caption in captions) if colour)
    return named.most_common(1)[0][0] if named else ""


class Centres:
    """The middle of each flower, [N, S, S] bool, in the geometry of `pipeline.decoded_images`; at least one pixel each.

    Found when it is asked for, by a slice or by numbers. The mask's centre of gravity and largest radius are those of
    the whole square, of which the picture is the middle.
    """

    def __init__(self, split: Split, image_size: int, load_size: int) -> None:
        self._masks, self._size = decoded_masks(split, load_size, load_size), image_size

    def __getitem__(self, key: object) -> np.ndarray:
        masks, size = self._masks[key], self._size
        line, cut = np.arange(masks.shape[1]) + 0.5, (masks.shape[1] - size) // 2
        found = np.zeros([len(masks), size, size], bool)
        for each, mask in zip(found, masks, strict=True):
            rows, columns = np.nonzero(mask)
            y, x = (rows.mean() + 0.5, columns.mean() + 0.5) if len(rows) else (len(line) / 2, len(line) / 2)
            distance = (line[:, None] - y) ** 2 + (line[None, :] - x) ** 2
            reach = distance[mask].max() if len(rows) else 0.0
            inside = distance <= max(SHARE**2 * reach, distance.min())
            seen = slice(cut, cut + size)
            each[:] = inside[seen, seen]
            if not each.any():  # the centre itself was cut off: the nearest pixel there is
                each[np.unravel_index(distance[seen, seen].argmin(), each.shape)] = True
        return found


def read(images: np.ndarray, centres: np.ndarray) -> list[str]:
    """The colour of painter.CENTRES that is nearest in Lab to the median inside each centre.

    images: [N, S, S, 3] in [-1, 1]. centres: [N, S, S] bool, none empty.
    """
    weights = np.array([LIGHT, 1.0, 1.0])
    palette = lab(np.array([list(CENTRES.values())], np.float32) / 127.5 - 1)[0] * weights
    medians = [np.median(of[where], axis=0) * weights for of, where in zip(lab(images), centres, strict=True)]
    places = ((np.array(medians)[:, None] - palette) ** 2).sum(axis=2).argmin(axis=1)
    return [list(CENTRES)[place] for place in places]
