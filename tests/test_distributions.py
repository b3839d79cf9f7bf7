"""Distances of sets and the Inception score: known shifts, second implementations, order, too few pictures."""

import numpy as np
import pytest
from scipy import linalg

from simgan_tf.evaluation import distributions
from simgan_tf.evaluation.distributions import Features, InceptionScore, frechet_distance, kernel_distance


def collected(rows, batch=7):
    features = Features(rows.shape[1], len(rows))
    for start in range(0, len(rows), batch):
        features.add(rows[start : start + batch])
    return features


def rows_of(count, size, seed=0, shift=0.0, scale=1.0):
    random = np.random.default_rng(seed)
    return shift + scale * random.normal(size=(count, size)) @ random.normal(size=(size, size))


def test_streamed_sums_are_numpys_mean_and_covariance():
    rows = rows_of(40, 5, shift=3.0)
    found = collected(rows)
    np.testing.assert_allclose(found.mean, rows.mean(axis=0))
    np.testing.assert_allclose(found.covariance, np.cov(rows, rowvar=False))
    np.testing.assert_array_equal(found.rows, rows)


def test_frechet_distance_against_the_matrix_root():
    """By scipy's sqrtm of the product; both orders of the sets, any order of the pictures."""
    first, second = rows_of(60, 6, 0), rows_of(50, 6, 1, shift=0.5, scale=1.5)
    one, other = np.cov(first, rowvar=False), np.cov(second, rowvar=False)
    apart = first.mean(axis=0) - second.mean(axis=0)
    wanted = apart @ apart + np.trace(one + other - 2 * np.real(linalg.sqrtm(one @ other)))
    assert frechet_distance(collected(first), collected(second)) == pytest.approx(wanted)
    assert frechet_distance(collected(second[::-1]), collected(first[::-1], 60)) == pytest.approx(wanted)


def test_frechet_distance_of_known_changes():
    """None to itself; a shift by d gives |d|^2; twice the deviation gives the trace of the covariance."""
    rows = rows_of(30, 4)
    assert frechet_distance(collected(rows), collected(rows)) == pytest.approx(0, abs=1e-9)
    moved = rows + np.array([1.0, -2.0, 0.0, 0.5])
    assert frechet_distance(collected(rows), collected(moved)) == pytest.approx(1 + 4 + 0.25)
    wider = rows.mean(axis=0) + 2 * (rows - rows.mean(axis=0))
    assert frechet_distance(collected(rows), collected(wider)) == pytest.approx(np.trace(np.cov(rows, rowvar=False)))


def test_few_pictures_have_no_covariance():
    """As many pictures as numbers are refused, one more is enough; values that are not finite are refused."""
    with pytest.raises(ValueError, match="4 pictures are too few for a covariance of 4 numbers"):
        frechet_distance(collected(rows_of(4, 4)), collected(rows_of(9, 4)))
    assert collected(rows_of(5, 4)).covariance.shape == (4, 4)
    with pytest.raises(ValueError, match="finite and of 4"):
        Features(4, 2).add(np.full([2, 4], np.nan))


def test_unbiased_discrepancy_against_loops():
    """Kernel by kernel; a set against its own copy is -(mean k(x, x) - mean k(x, y)) / (n / 2), which is the price of
    being unbiased."""

    def kernel(x, y):
        return (sum(a * b for a, b in zip(x, y, strict=True)) / len(x) + 1) ** 3

    first, second = rows_of(6, 3, 0), rows_of(5, 3, 1)
    within = [
        np.mean([kernel(x, y) for i, x in enumerate(rows) for j, y in enumerate(rows) if i != j])
        for rows in (first, second)
    ]
    across = np.mean([kernel(x, y) for x in first for y in second])
    assert distributions.unbiased_mmd(first, second) == pytest.approx(sum(within) - 2 * across)
    order = np.random.default_rng(0).permutation(6)
    assert distributions.unbiased_mmd(first[order], second) == pytest.approx(sum(within) - 2 * across)
    diagonal = np.mean([kernel(x, x) for x in first])
    assert distributions.unbiased_mmd(first, first) == pytest.approx(2 * (within[0] - (diagonal + 5 * within[0]) / 6))


def test_kernel_distance_is_about_none_of_one_distribution_and_large_of_two():
    """In expectation 0 for two draws of one distribution, whatever their numbers; the same for the same seed."""
    draw = np.random.default_rng(0).normal
    one, other = collected(draw(size=(400, 8)), 64), collected(draw(size=(250, 8)), 64)
    far = collected(draw(size=(300, 8)) + 1.0, 64)
    near, deviation = kernel_distance(one, other)
    assert abs(near) < 0.1 < kernel_distance(one, far)[0] and deviation > 0
    assert kernel_distance(one, other) == (near, deviation)
    with pytest.raises(ValueError, match="99 pictures are too few"):
        kernel_distance(one, collected(draw(size=(99, 8))))


def test_what_is_held_does_not_grow():
    """Of 5,000 pictures 2,000 rows at even distances, the first and the last among them."""
    rows = np.arange(5000.0)[:, None]
    held = collected(rows, 500)
    assert held.count == 5000 and len(held.rows) == distributions.KEPT
    steps = np.diff(held.rows[:, 0])
    assert held.rows[0] == 0 and held.rows[-1] == 4999 and set(steps.astype(int)) == {2, 3}


def test_inception_score_by_hand():
    """All alike: 1. Two parts, each with as many sure pictures of k classes: k. Else the formula by loops."""
    score = InceptionScore(2)
    score.add(np.full([4, 3], 1 / 3))
    assert score.result() == pytest.approx((1.0, 0.0))
    sure = InceptionScore(2)
    sure.add(np.eye(3)[[0, 0, 1, 1, 2, 2]])
    assert sure.result() == pytest.approx((3.0, 0.0))
    values = np.random.default_rng(0).dirichlet(np.ones(4), 10)
    parts = [values[0::2], values[1::2]]
    wanted = [np.exp(np.mean([np.sum(p * np.log(p / part.mean(axis=0))) for p in part])) for part in parts]
    for order in (np.arange(10), np.array([2, 1, 0, 5, 4, 3, 8, 7, 6, 9])):  # within the parts
        found = InceptionScore(2)
        found.add(values[order][:3])
        found.add(values[order][3:])
        assert found.result() == pytest.approx((np.mean(wanted), np.std(wanted)))
    few = InceptionScore(10)
    few.add(values)
    with pytest.raises(ValueError, match="10 pictures are too few for 10 parts"):
        few.result()
