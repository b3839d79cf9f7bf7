"""What a study's ranks say: arrays in, numbers out. Knows no page and no file."""

from itertools import combinations

import numpy as np
from scipy import stats


def table(ranks: np.ndarray) -> dict[str, list[float | None] | int]:
    """Mean and standard deviation of every system's ranks over all subjects and questions, and how many there are.

    ranks: [subjects, questions, systems] int, 1 = best to K = worst.   Source: Table 1.
    Differs: the paper does not say which standard deviation stands behind its +-; here it is that of a sample (n - 1),
    None where there is but one ranking.
    """
    flat = ranks.reshape(-1, ranks.shape[-1])
    std = flat.std(axis=0, ddof=1).tolist() if len(flat) > 1 else [None] * flat.shape[1]
    return {"mean": flat.mean(axis=0).tolist(), "std": std, "n": len(flat)}


def friedman(ranks: np.ndarray) -> dict[str, float | int] | None:
    """Whether the systems differ at all: Friedman's chi-squared with K - 1 degrees of freedom, and its p.

    ranks: as for `table`. A block is a subject with the sums of its ranks, since rankings by one person are not
    independent of each other. None with fewer than two subjects or three systems.
    """
    sums = ranks.sum(axis=1)  # [subjects, systems]; whole numbers, so that ties are ties
    if sums.shape[0] < 2 or sums.shape[1] < 3:
        return None
    if not np.ptp(sums, axis=1).any():  # everybody ranks all alike: 0 / 0 in the formula
        return {"chi2": 0.0, "df": sums.shape[1] - 1, "p": 1.0}
    found = stats.friedmanchisquare(*sums.T)
    return {"chi2": float(found.statistic), "df": sums.shape[1] - 1, "p": float(found.pvalue)}


def pairs(ranks: np.ndarray) -> list[dict[str, float | int]]:
    """Each pair of systems by `signed_rank` over subjects: p, and p_holm corrected for all pairs.

    ranks: as for `table`; a subject counts by the sums of its ranks, as in `friedman`. first, second: the systems'
    numbers from 0. better: subjects who rank the first one better; worse: likewise.
    """
    sums = ranks.sum(axis=1)
    found = []
    for first, second in combinations(range(sums.shape[1]), 2):
        apart = sums[:, first] - sums[:, second]
        found.append({"first": first, "second": second, "better": int((apart < 0).sum()),
                      "worse": int((apart > 0).sum()), "p": signed_rank(apart)})  # fmt: skip
    for pair, corrected in zip(found, holm([pair["p"] for pair in found]), strict=True):
        pair["p_holm"] = corrected
    return found


def signed_rank(apart: np.ndarray) -> float:
    """The two-sided p of Wilcoxon's signed-rank test of differences [n], exact with ties and for every n; zeros go.

    Not scipy.stats.wilcoxon: where differences tie, it tries all signs one by one up to n = 13 (2.6 s a pair on a slow
    core) and takes the normal distribution beyond.
    """
    apart = apart[apart != 0]
    twice = np.rint(2 * stats.rankdata(np.abs(apart))).astype(int)  # whole numbers, also of shared ranks
    chance = np.ones(1)  # of each sum of the positive ranks, were every sign a coin's
    for rank in twice:
        longer = np.zeros(len(chance) + rank)
        longer[: len(chance)] += chance / 2
        longer[rank:] += chance / 2
        chance = longer
    positive = twice[apart > 0].sum()
    return float(min(1.0, 2 * min(chance[: positive + 1].sum(), chance[positive:].sum())))


def holm(values: list[float]) -> list[float]:
    """p-values corrected for being many: the smallest times m, the next times m - 1, ..., never falling, at most 1.

    Source: Holm, A simple sequentially rejective multiple test procedure, 1979.
    """
    order = np.argsort(values, kind="stable")
    scaled = np.array(values)[order] * np.arange(len(values), 0, -1)
    corrected = np.empty(len(values))
    corrected[order] = np.minimum(np.maximum.accumulate(scaled), 1.0)
    return corrected.tolist()


def kendall_w(ranks: np.ndarray) -> list[float] | None:
    """How much the subjects agree on each question: 0 = not at all, 1 = all rank alike. None with one subject alone.

    ranks: as for `table`, without ties.
        W = 12 S / (m^2 (K^3 - K)),   S = sum over systems of (R_k - m (K + 1) / 2)^2
    m: subjects, K: systems, R_k: the sum of the subjects' ranks of system k.
    Source: Kendall and Babington Smith, The problem of m rankings, 1939.
    """
    m, _, k = ranks.shape
    if m < 2:
        return None
    spread = ((ranks.sum(axis=0) - m * (k + 1) / 2) ** 2).sum(axis=-1)  # [questions]
    return (12 * spread / (m**2 * (k**3 - k))).tolist()
