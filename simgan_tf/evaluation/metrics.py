"""The numbers an edit is judged by, picture by picture: arrays in, numbers out; all distances in [0, 1], where 1 is
black to white. What is said of a whole set of pictures (FID and its kind) stands in distributions.py."""

from collections.abc import Mapping

import numpy as np

CANDIDATES = 100  # sentences of which the right one is to be found. Source: R-precision of AttnGAN (Xu et al. 2018)


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


def l2(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Root of the mean squared difference of each picture pair, [N]. first, second: [N, H, W, 3] in [-1, 1]."""
    return np.sqrt(((first - second) ** 2).mean(axis=(1, 2, 3))) / 2.0


def ssim(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Structural similarity of each picture pair, [N] in [-1, 1], 1 = equal: mean over the three channels.

    first, second: [N, H, W, 3] in [-1, 1], at least 11 pixels a side.
    Source: Wang et al. 2004, by scikit-image with that paper's window: a Gaussian of 1.5 pixels over 11 x 11, no
    correction of the variances for small samples, pixels nearer than 5 to a border left out.
    Raises: ValueError for smaller pictures.
    """
    from skimage.metrics import structural_similarity  # here: it takes half a second, which other commands do not need

    if min(first.shape[1:3]) < 11:
        raise ValueError(f"pictures of {first.shape[1]}x{first.shape[2]} pixels: SSIM's window takes 11x11 and more.")
    settings = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 1.0}
    pairs = zip(to_unit(first), to_unit(second), strict=True)
    return np.array([structural_similarity(a, b, channel_axis=-1, **settings) for a, b in pairs], np.float64)


def l1_where(first: np.ndarray, second: np.ndarray, where: np.ndarray) -> np.ndarray:
    """`mean_where` of the absolute difference of each pair, [N]. first, second: [N, H, W, 3] in [-1, 1]."""
    return mean_where(np.abs(first - second).mean(axis=3) / 2.0, where)


def mean_where(values: np.ndarray, where: np.ndarray) -> np.ndarray:
    """Mean of the values [N, H, W] of each picture over its pixels of `where` [N, H, W] bool, [N]; NaN without any."""
    with np.errstate(invalid="ignore"):
        return (values * where).sum(axis=(1, 2)) / where.sum(axis=(1, 2))


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
    """Mean pairwise L1 of several edits of one picture over the pixels of `where`, [N]; 0 = all samples are one.

    samples: [K, N, H, W, 3] in [-1, 1], K >= 2 edits that differ in noise alone. where: [N, H, W] bool.
    Raises: ValueError for fewer than two samples.
    """
    return np.mean([l1_where(samples[i], samples[j], where) for i, j in _pairs(len(samples))], axis=0)


def diversity_ssim(samples: np.ndarray) -> np.ndarray:
    """Mean pairwise SSIM of several edits of one picture, [N]; 1 = all samples are one. Arguments as of `diversity`."""
    return np.mean([ssim(samples[i], samples[j]) for i, j in _pairs(len(samples))], axis=0)


def _pairs(count: int) -> list[tuple[int, int]]:
    if count < 2:
        raise ValueError(f"{count} sample of a picture: diversity is between two or more; give --samples=2 or more.")
    return [(i, j) for i in range(count) for j in range(i)]


def smoothness(frames: np.ndarray) -> np.ndarray:
    """Largest step over mean step of interpolations, [N]: 1 = all steps are equally large, K - 1 = one jump does all.

    frames: [K, N, H, W, 3] in [-1, 1], K >= 3 pictures on the way from one sentence to another; a step is the L1
    between neighbours. A way on which nothing changes has 1.
    Raises: ValueError for fewer than three frames, whose one step is its own mean.
    """
    if len(frames) < 3:
        raise ValueError(f"{len(frames)} frames: an interpolation's smoothness takes 3 or more.")
    steps = np.array([l1(after, before) for before, after in zip(frames[:-1], frames[1:], strict=True)])  # [K-1, N]
    mean = steps.mean(axis=0)
    return np.where(mean > 0, steps.max(axis=0) / np.where(mean > 0, mean, 1.0), 1.0)


def cosine(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Cosine of the vectors [..., D] of each place, [...]; 0 where one is zero."""
    lengths = np.linalg.norm(first, axis=-1) * np.linalg.norm(second, axis=-1)
    return (first * second).sum(axis=-1) / np.maximum(lengths, 1e-12)


def manipulative_precision(difference: np.ndarray, similarity: np.ndarray) -> np.ndarray:
    """(1 - difference) * similarity of each edit.

    difference: its `l1` from the source. similarity: `cosine` of edit and sentence, by whatever judge; the number is
    that judge's and compares with no other's. Source: Li et al. 2020 (ManiGAN), Sec. 4, who released no code of it.
    """
    return (1.0 - difference) * similarity


def r_precision(pictures: np.ndarray, sentences: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Whether each picture's own sentence is the nearest of CANDIDATES by cosine, [N] of 0 and 1.

    pictures, sentences: [N, D]. others: [N, CANDIDATES - 1, D], wrong sentences of each. One of k sentences that are
    equally near counts 1 / k.
    Raises: ValueError for another number of wrong sentences: R-precision of 1 in 50 is another number.
    """
    if others.shape[1] != CANDIDATES - 1:
        raise ValueError(
            f"{others.shape[1]} wrong sentences a picture; R-precision is the right one among {CANDIDATES}."
        )
    own, wrong = cosine(pictures, sentences), cosine(pictures[:, None], others)
    alike = np.abs(wrong - own[:, None]) <= 1e-6
    beaten = ((wrong > own[:, None]) & ~alike).any(axis=1)
    return np.where(beaten, 0.0, 1.0 / (1 + alike.sum(axis=1)))
