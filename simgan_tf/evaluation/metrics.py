"""The numbers an edit is judged by: arrays in, numbers out; all distances in [0, 1], where 1 is black to white."""

from collections.abc import Mapping

import numpy as np


def dominant_colour(pixels: np.ndarray, palette: Mapping[str, tuple[int, int, int]]) -> str:
    """Name of the palette's colour that is nearest to most of the pixels.

    pixels: [n, 3] float in [0, 1], n >= 1. palette: name to RGB, 0 to 255.
    Pixel and palette are divided by their largest channel first, so that light and shade do not count.
    """
    names = list(palette)
    colours = np.array([palette[name] for name in names], np.float32)
    colours /= colours.max(axis=1, keepdims=True)
    bright = pixels / np.maximum(pixels.max(axis=1, keepdims=True), 1e-6)
    distance = ((bright[:, None, :] - colours[None]) ** 2).sum(axis=2)  # [n, names]
    votes = np.bincount(distance.argmin(axis=1), minlength=len(names))
    return names[int(votes.argmax())]


def to_unit(image: np.ndarray) -> np.ndarray:
    """[0, 1] of images in [-1, 1]."""
    return (np.asarray(image) + 1.0) / 2.0


def l1(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Mean absolute difference of each picture pair, [N]. first, second: [N, H, W, 3] in [-1, 1]."""
    return np.abs(first - second).mean(axis=(1, 2, 3)) / 2.0


def l1_where(first: np.ndarray, second: np.ndarray, where: np.ndarray) -> np.ndarray:
    """Mean absolute difference of each pair over the pixels of `where` alone, [N]; NaN where it is empty.

    first, second: [N, H, W, 3] in [-1, 1]. where: [N, H, W] bool.
    """
    difference = np.abs(first - second).mean(axis=3) / 2.0  # [N, H, W]
    count = where.sum(axis=(1, 2))
    with np.errstate(invalid="ignore"):
        return (difference * where).sum(axis=(1, 2)) / count


def luma(images: np.ndarray) -> np.ndarray:
    """[N, H, W] in [0, 1] of images [N, H, W, 3] in [-1, 1]. Source: ITU-R BT.601."""
    return to_unit(images) @ np.array([0.299, 0.587, 0.114])


def checkerboard_share(images: np.ndarray) -> np.ndarray:
    """How much of each picture's detail lies where transposed convolutions of stride 2 leave their pattern, [N].

    images: [N, S, S, 3] in [-1, 1], S a multiple of 4. Of luma without its mean, the energy |FFT|^2 of the rows and
    columns of frequency S/2, S/4 and -S/4 (periods of 2 and 4 pixels), divided by the energy of all frequencies; 0 for
    a picture of one tone. Real pictures are above 0 too: only the ratio to theirs says something.
    """
    tones = luma(images)
    energy = np.abs(np.fft.fft2(tones - tones.mean(axis=(1, 2), keepdims=True))) ** 2
    lines = np.zeros(tones.shape[1], bool)
    lines[[tones.shape[1] // 4, tones.shape[1] // 2, -(tones.shape[1] // 4)]] = True
    total = energy.sum(axis=(1, 2))
    on_lines = (energy * (lines[:, None] | lines[None, :])).sum(axis=(1, 2))
    return np.where(total > 1e-9, on_lines / np.maximum(total, 1e-9), 0.0)


def laplacian_variance(images: np.ndarray) -> np.ndarray:
    """Sharpness of each picture, [N]: variance of the four-neighbour Laplacian of its luma in [0, 1] units.

    images: [N, H, W, 3] in [-1, 1]. The outermost pixels, which lack a neighbour, are left out.
    """
    tones = luma(images)
    middle = tones[:, 1:-1, 1:-1]
    around = tones[:, :-2, 1:-1] + tones[:, 2:, 1:-1] + tones[:, 1:-1, :-2] + tones[:, 1:-1, 2:]
    return (around - 4 * middle).var(axis=(1, 2))


def diversity(samples: np.ndarray, where: np.ndarray) -> np.ndarray:
    """Mean pairwise L1 of several edits of one picture over the pixels of `where`, [N].

    samples: [K, N, H, W, 3] in [-1, 1], K >= 2 edits that differ in noise alone. where: [N, H, W] bool.
    """
    count = len(samples)
    pairs = [l1_where(samples[i], samples[j], where) for i in range(count) for j in range(i)]
    return np.mean(pairs, axis=0)
