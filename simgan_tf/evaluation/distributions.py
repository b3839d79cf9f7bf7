"""How far a set of edits lies from a set of real pictures: Frechet and kernel distance, Inception score.

Features in, numbers out. They are taken in batch by batch: what is held does not grow with the number of pictures.
Which network made the features is said in a number's name, see judges.py.
"""

import dataclasses

import numpy as np
from scipy import linalg

KEPT = 2_000  # feature rows of a set that are held for the kernel distance; of a larger set, at even distances
SUBSETS, SUBSET = 100, 100  # of the kernel distance: how many, and pictures in each
SPLITS = 10  # of the Inception score. Source: Salimans et al. 2016


class Features:
    """A set's features, as they come: sums for mean and covariance, and some rows for the kernel distance."""

    def __init__(self, size: int, total: int) -> None:
        """size: D, numbers a picture. total: how many pictures will come, from which the rows to keep follow."""
        self.count, self.size = 0, size
        self._sum, self._products = np.zeros(size), np.zeros([size, size])
        self._wanted = set(np.unique(np.linspace(0, total - 1, min(total, KEPT)).astype(int)).tolist())
        self._rows: list[np.ndarray] = []

    def add(self, features: np.ndarray) -> None:
        """features: [n, D] of the next n pictures. Raises: ValueError for values that are not finite."""
        features = np.asarray(features, np.float64)
        if features.shape[1:] != (self.size,) or not np.isfinite(features).all():
            raise ValueError(f"features {features.shape} must be finite and of {self.size} numbers a picture.")
        self._sum += features.sum(axis=0)
        self._products += features.T @ features
        self._rows += [row for place, row in enumerate(features, self.count) if place in self._wanted]
        self.count += len(features)

    @property
    def rows(self) -> np.ndarray:
        """[min(count, KEPT), D] of the pictures."""
        return np.array(self._rows).reshape(-1, self.size)

    @property
    def mean(self) -> np.ndarray:
        """[D]."""
        return self._sum / self.count

    @property
    def covariance(self) -> np.ndarray:
        """[D, D], of a sample (divided by count - 1).

        Raises: ValueError where there are no more pictures than numbers a picture: the covariance of so few says less
        of the set than of which pictures happen to be in it, and the distance would mostly measure their number.
        """
        if self.count <= self.size:
            raise ValueError(
                f"{self.count} pictures are too few for a covariance of {self.size} numbers; more than {self.size} "
                "are needed (the kernel distance needs fewer)."
            )
        mean = self.mean
        return (self._products - self.count * np.outer(mean, mean)) / (self.count - 1)


def frechet_distance(first: Features, second: Features) -> float:
    """|m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)), never below 0; the squared distance of two normal distributions.

    The trace of the root is that of (C1^(1/2) C2 C1^(1/2))^(1/2), which is symmetric, so that rounding makes no
    imaginary part. Source: Heusel et al. 2017, Eq. 6. It falls with the number of pictures, so that two such distances
    compare where both have the same number. Raises: ValueError for too few pictures, see `Features.covariance`.
    """
    apart = first.mean - second.mean
    one, other = first.covariance, second.covariance
    values, vectors = linalg.eigh(one)
    root = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
    shared = np.sqrt(np.maximum(linalg.eigvalsh(root @ other @ root), 0)).sum()
    return max(float(apart @ apart + np.trace(one) + np.trace(other) - 2 * shared), 0.0)


def kernel_distance(first: Features, second: Features, seed: int = 0) -> tuple[float, float]:
    """Mean and deviation over SUBSETS subsets of the unbiased squared maximum mean discrepancy; about 0 = alike.

    k(x, y) = (x . y / D + 1)^3; without the pairs of a picture with itself, so that the expectation does not depend on
    the number of pictures, and a single value may be below 0. Subsets of SUBSET pictures of each set are drawn without
    repetition from `seed`.
    Source: KID of Binkowski et al. 2018, Sec. 4. Differs: subsets of 100 pictures, not of 1,000, since the test splits
    have about 1,000 and 3,000 pictures; the mean is the same in expectation.
    Raises: ValueError for fewer pictures than a subset has.
    """
    fewest = min(len(first.rows), len(second.rows))
    if fewest < SUBSET:
        raise ValueError(f"{fewest} pictures are too few for the kernel distance; {SUBSET} or more are needed.")
    random, found = np.random.default_rng(seed), []
    rows, other_rows = first.rows, second.rows
    for _ in range(SUBSETS):
        one = rows[random.choice(len(rows), SUBSET, replace=False)]
        other = other_rows[random.choice(len(other_rows), SUBSET, replace=False)]
        found.append(unbiased_mmd(one, other))
    return float(np.mean(found)), float(np.std(found))


def unbiased_mmd(first: np.ndarray, second: np.ndarray) -> float:
    """The squared discrepancy of `kernel_distance` between rows [n, D] and [m, D]."""

    def kernel(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return (a @ b.T / a.shape[1] + 1.0) ** 3

    def without_itself(a: np.ndarray) -> float:
        table = kernel(a, a)
        return (table.sum() - np.trace(table)) / (len(a) * (len(a) - 1))

    return float(without_itself(first) + without_itself(second) - 2 * kernel(first, second).mean())


@dataclasses.dataclass
class InceptionScore:
    """exp of the mean KL divergence of a picture's class probabilities from those of its part of the set.

    Picture i belongs to part i % splits, so that a list that is sorted by class is cut across the classes; within a
    part the order does not matter. Source: Salimans et al. 2016; parts as in their code, but for which picture goes
    where.
    """

    splits: int = SPLITS

    def __post_init__(self) -> None:
        self.count, self._sums, self._entropies = 0, None, np.zeros(self.splits)

    def add(self, probabilities: np.ndarray) -> None:
        """probabilities: [n, classes] of the next n pictures, rows that add up to 1."""
        values = np.asarray(probabilities, np.float64)
        if self._sums is None:
            self._sums = np.zeros([self.splits, values.shape[1]])
        parts = (self.count + np.arange(len(values))) % self.splits
        logs = np.where(values > 0, values * np.log(np.where(values > 0, values, 1.0)), 0.0).sum(axis=1)
        np.add.at(self._sums, parts, values)
        np.add.at(self._entropies, parts, logs)
        self.count += len(values)

    def result(self) -> tuple[float, float]:
        """Mean and standard deviation over the parts; 1 = every picture has the same probabilities, at most the number
        of classes. Raises: ValueError where a part would have fewer than two pictures."""
        if self.count < 2 * self.splits:
            raise ValueError(f"{self.count} pictures are too few for {self.splits} parts of two and more.")
        counts = np.bincount(np.arange(self.count) % self.splits, minlength=self.splits)
        means = self._sums / counts[:, None]
        of_means = np.where(means > 0, means * np.log(np.where(means > 0, means, 1.0)), 0.0).sum(axis=1)
        scores = np.exp(self._entropies / counts - of_means)
        return float(scores.mean()), float(scores.std())
