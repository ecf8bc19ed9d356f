"""The loss of co-localisation (STN appendix A.2).

Of image n, T_n is what a transformer attends to, R_n a crop at a random place, and e embeds both.
For pairs (n, m) of different images

    loss = 1/P sum_(n,m) max(0, h_nm),
    h_nm = |e(T_n) - e(T_m)|^2 - |e(T_n) - e(R_n)|^2 + margin

so attended crops are to resemble each other more than they resemble crops at random. The paper sums
over all pairs; here it is the mean over those given, as of any batch. Where h_nm > 0

    de(T_n) = 2 dloss/P (e(R_n) - e(T_m))
    de(T_m) = 2 dloss/P (e(T_m) - e(T_n))
    de(R_n) = 2 dloss/P (e(T_n) - e(R_n))

added up over the pairs that an image is in. Kink: at h_nm = 0 the slope is 0.

A part of de(T_m) can be left out, so that crops are drawn to the others less than they draw these:
what that is for is told in tasks/colocalisation.py.
"""

from typing import NamedTuple

import numpy as np

from ministn.errors import check_arrays, check_number, check_plain


class Cache(NamedTuple):
    attended: np.ndarray
    random: np.ndarray
    pairs: np.ndarray  # (A, 2), those with h > 0
    total: int  # P, of all pairs


def triplet_hinge(
    attended: np.ndarray, random: np.ndarray, pairs: np.ndarray, margin: float = 1.0
) -> tuple[float, Cache]:
    """Mean loss of e(T) and e(R), (N, D) each, over pairs (P, 2) of their rows.

    Raises TypeError for a wrong dtype, ValueError for a wrong shape or a pair out of range.
    """
    margin = check_number("margin", margin, 0)
    rows = check_arrays(attended=(attended, "N D"), random=(random, "N D"))["N"]
    _check_pairs(pairs, rows)
    n, m = pairs.T
    to_other = ((attended[n] - attended[m]) ** 2).sum(axis=1)
    to_random = ((attended[n] - random[n]) ** 2).sum(axis=1)
    h = to_other - to_random + attended.dtype.type(margin)
    loss = np.mean(np.maximum(h, 0))
    return float(loss), Cache(attended, random, pairs[h > 0], len(pairs))


def triplet_hinge_backward(
    cache: Cache, dloss: float = 1.0, drawn: float = 1.0
) -> tuple[np.ndarray, np.ndarray]:
    """The gradients dattended and drandom, (N, D) each. drawn: factor on de(T_m)."""
    attended, random, pairs, total = cache
    n, m = pairs.T
    factor = attended.dtype.type(2 * check_number("dloss", dloss) / total)
    dattended, drandom = np.zeros_like(attended), np.zeros_like(random)
    np.add.at(dattended, n, factor * (random[n] - attended[m]))  # rows of several pairs add up
    to_m = factor * attended.dtype.type(check_number("drawn", drawn))
    np.add.at(dattended, m, to_m * (attended[m] - attended[n]))
    np.add.at(drandom, n, factor * (attended[n] - random[n]))
    return dattended, drandom


def _check_pairs(pairs: np.ndarray, rows: int) -> None:
    check_plain("pairs", pairs)
    if pairs.dtype.kind not in "iu":
        raise TypeError(f"pairs must be an array of whole numbers, got {pairs.dtype}")
    if pairs.ndim != 2 or pairs.shape[1] != 2 or len(pairs) == 0:
        raise ValueError(f"pairs must have shape (P, 2) with at least one row, got {pairs.shape}")
    if pairs.min() < 0 or pairs.max() >= rows:
        raise ValueError(
            f"pairs must lie between 0 and N-1 = {rows - 1}, got {pairs.min()} to {pairs.max()}"
        )
