"""Exact intervals and tests for error counts, and a test over the seeds of two methods."""

from typing import NamedTuple

import numpy as np
from scipy.special import bdtr, betaincinv, stdtr, stdtrit  # scipy.stats takes a second to import

from ministn.errors import check_count, check_index, check_list, check_number, check_plain, is_whole

CONFIDENCE = 0.95


class PairedTest(NamedTuple):
    """Two classifiers on the same images; error of a minus error of b."""

    difference: float  # percentage points; negative: a makes fewer errors
    low: float  # 95 % interval of the difference, percentage points
    high: float
    p_value: float  # exact McNemar test, two-sided
    only_a: int  # images that only a has right
    only_b: int  # images that only b has right
    images: int


class SeedTest(NamedTuple):
    """Two methods, each trained with the same seeds; error of a minus error of b."""

    difference: float  # percentage points, mean over the seeds
    low: float  # 95 % interval
    high: float
    p_value: float  # paired t test, two-sided
    seeds: int


def over_seeds(differences: list[float]) -> SeedTest:
    """Student's paired t test of differences of the error, one for each seed.

    It asks whether the methods differ, where `paired_test` asks whether two trained networks do.
    Raises ValueError for fewer than two seeds, which do not show how much seeds differ.
    """
    n = len(check_list("differences", differences))
    if n < 2:
        raise ValueError(f"a test over seeds needs at least two, got {n}")
    mean = float(np.mean(differences))
    error = float(np.std(differences, ddof=1)) / n**0.5
    if error == 0:
        return SeedTest(mean, mean, mean, float(mean == 0), n)
    reach = error * float(stdtrit(n - 1, (1 + CONFIDENCE) / 2))
    p_value = 2 * float(stdtr(n - 1, -abs(mean) / error))
    return SeedTest(mean, mean - reach, mean + reach, p_value, n)


def binomial_interval(errors: int, n: int, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """The Clopper-Pearson interval of a proportion, as shares between 0 and 1.

    errors: how many of n images are wrong. It covers the true share at least as often as it says.
    Raises ValueError unless 0 <= errors <= n and n > 0.
    """
    check_count("n", n)
    confidence = check_number("confidence", confidence, 0, 1)
    if not is_whole(errors) or not 0 <= errors <= n:
        raise ValueError(f"errors must be a whole number in 0..n, got errors={errors!r}, n={n}")
    tail = (1 - confidence) / 2
    low = float(betaincinv(errors, n - errors + 1, tail)) if errors else 0.0
    high = float(betaincinv(errors + 1, n - errors, 1 - tail)) if errors < n else 1.0
    return low, high


def paired_test(correct_a: np.ndarray, correct_b: np.ndarray) -> PairedTest:
    """Compare two classifiers on the same images by the images that only one has right.

    correct_a, correct_b: (n,) bool. The p-value is McNemar's test in its exact form: under equal
    errors each of the d discordant images favours either side with probability 1/2. The interval:
    difference = rate * (2 share - 1), with rate the share of discordant images in n and share that
    of the discordant ones favouring b; both go through their Clopper-Pearson intervals and the
    outermost results count. So it excludes 0 exactly where the test rejects, and it covers at least
    95 % wherever that was enumerated (tests/test_statistics.py).
    Raises TypeError for what is no plain array, ValueError for arrays that are not boolean, not
    1-D, empty or of different lengths.
    """
    for name, correct in (("correct_a", correct_a), ("correct_b", correct_b)):
        check_plain(name, correct)
        if correct.dtype != bool or correct.ndim != 1 or not len(correct):
            raise ValueError(
                f"{name} must be a boolean array of shape (n,) with n > 0, "
                f"got {correct.dtype} of shape {correct.shape}"
            )
    n = len(correct_a)
    if len(correct_b) != n:
        raise ValueError(f"correct_b must have the length of correct_a, {n}, got {len(correct_b)}")
    only_a = int((correct_a & ~correct_b).sum())
    only_b = int((correct_b & ~correct_a).sum())
    # Twice the smaller tail of the binomial distribution with probability 1/2.
    p_value = min(1.0, 2 * float(bdtr(min(only_a, only_b), only_a + only_b, 0.5)))
    low, high = difference_interval(only_a, only_b, n)
    return PairedTest(100 * (only_b - only_a) / n, low, high, p_value, only_a, only_b, n)


def difference_interval(only_a: int, only_b: int, n: int) -> tuple[float, float]:
    """The interval of `paired_test`, in percentage points.

    Raises ValueError for what are no counts, or more than n.
    """
    check_count("n", n)
    for name, only in (("only_a", only_a), ("only_b", only_b)):
        if check_index(name, only) > n:
            raise ValueError(f"{name} must be at most n = {n}, got {only}")
    discordant = only_a + only_b
    shares = binomial_interval(only_b, discordant) if discordant else (0.0, 1.0)
    rates = binomial_interval(discordant, n)
    low, high = ([100 * rate * (2 * share - 1) for rate in rates] for share in shares)
    return min(low), max(high)
