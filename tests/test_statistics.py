"""Exact intervals and tests against hand answers, scipy, and their own promises."""

import numpy as np
import pytest
from scipy.stats import binom, binomtest, ttest_1samp

from ministn.metrics.statistics import (
    binomial_interval,
    difference_interval,
    over_seeds,
    paired_test,
)


@pytest.mark.parametrize(
    ("errors", "n", "expected"),
    [
        (0, 10, (0, 1 - 0.025**0.1)),  # all right: (1 - p)^10 = 0.025
        (10, 10, (0.025**0.1, 1)),
        (5, 10, (0.1871, 0.8129)),  # a value of the published tables
        (444, 10_000, (0.04044, 0.04863)),  # the paper's Arch 1 CNN
    ],
)
def test_binomial_interval(errors, n, expected):
    np.testing.assert_allclose(binomial_interval(errors, n), expected, rtol=0, atol=5e-5)


def paired(both, only_a, only_b, neither):
    a = np.repeat([True, True, False, False], [both, only_a, only_b, neither])
    b = np.repeat([True, False, True, False], [both, only_a, only_b, neither])
    return paired_test(a, b)


@pytest.mark.parametrize(
    ("only_a", "only_b", "p_value"),
    [
        (5, 1, 2 * (1 + 6) / 2**6),
        (0, 10, 2 / 2**10),
        (8, 2, 2 * (1 + 10 + 45) / 2**10),
        (4, 4, 1),
        (0, 0, 1),
    ],
)
def test_mcnemar_by_hand(only_a, only_b, p_value):
    result = paired(70, only_a, only_b, 30)
    n = 100 + only_a + only_b
    assert result.p_value == pytest.approx(p_value, rel=1e-12)
    assert result.difference == pytest.approx(100 * (only_b - only_a) / n)
    assert (result.only_a, result.only_b, result.images) == (only_a, only_b, n)
    assert result.low <= result.difference <= result.high


@pytest.mark.parametrize(("errors", "n"), [(0, 7), (3, 7), (7, 7), (1, 500), (4_400, 10_000)])
def test_scipys_own_tests_agree(errors, n):
    reference = binomtest(errors, n)
    interval = reference.proportion_ci(0.95, "exact")
    np.testing.assert_allclose(binomial_interval(errors, n), interval, rtol=1e-9)
    assert paired(10, errors, n - errors, 0).p_value == pytest.approx(reference.pvalue, rel=1e-9)


def test_swapping_the_classifiers_mirrors_the_interval():
    one, other = paired(70, 9, 3, 30), paired(70, 3, 9, 30)
    assert (one.low, one.high) == pytest.approx((-other.high, -other.low))
    assert one.p_value == pytest.approx(other.p_value)


def test_the_interval_excludes_zero_exactly_where_the_test_rejects():
    for discordant in range(1, 31):
        for only_a in range(discordant + 1):
            result = paired(50, only_a, discordant - only_a, 0)
            assert (result.low > 0 or result.high < 0) == (result.p_value < 0.05)


def test_the_interval_covers_the_difference():
    """Exact coverage by enumeration of every outcome with 40 images."""
    n = 40
    outcomes = [(a, d - a) for d in range(n + 1) for a in range(d + 1)]
    limits = np.array([difference_interval(a, b, n) for a, b in outcomes])
    a, b = np.array(outcomes).T
    for rate in (0.02, 0.1, 0.3, 0.6, 0.9):
        for share in (0.5, 0.7, 0.9, 1.0):
            probability = binom.pmf(a + b, n, rate) * binom.pmf(b, a + b, share)
            truth = 100 * rate * (2 * share - 1)
            covered = (limits[:, 0] <= truth + 1e-9) & (truth - 1e-9 <= limits[:, 1])
            assert probability[covered].sum() >= 0.95


def test_few_images_without_a_difference_prove_nothing():
    assert paired(20, 0, 0, 0).high > 10
    assert paired(10_000, 0, 0, 0).high < 0.05


@pytest.mark.parametrize(
    "call",
    [
        lambda: binomial_interval(3, 2),
        lambda: binomial_interval(0, 0),
        lambda: paired_test(np.ones(3, bool), np.ones(4, bool)),
        lambda: paired_test(np.ones(3), np.ones(3, bool)),
        lambda: paired_test(np.ones(0, bool), np.ones(0, bool)),
    ],
)
def test_impossible_counts_are_refused(call):
    with pytest.raises(ValueError, match="must"):
        call()


@pytest.mark.parametrize("differences", [[-1.0, -0.9, -1.4], [2.0, -0.5, 0.25, 1.0], [3.0, 5.0]])
def test_over_seeds_is_students_paired_t_test(differences):
    found, expected = over_seeds(differences), ttest_1samp(differences, 0)
    low, high = expected.confidence_interval(0.95)
    ours = found.difference, found.low, found.high, found.p_value
    np.testing.assert_allclose(ours, (np.mean(differences), low, high, expected.pvalue), rtol=1e-9)
    assert found.seeds == len(differences)


def test_seeds_that_agree_wholly():
    assert over_seeds([-2.0, -2.0, -2.0])[:4] == (-2, -2, -2, 0)
    assert over_seeds([0.0, 0.0])[:4] == (0, 0, 0, 1)
    with pytest.raises(ValueError, match="at least two, got 1"):
        over_seeds([1.0])
