"""Limits on a gradient, in place over a flat array, as Lasagne has them:

    g <- min(max(g, -limit), limit)                 clip
    g <- g * min(n, most) / (n + 1e-7)              limit_norm, n = sqrt(sum of squares)

The sum of squares is taken apart, in double: of a gradient that lies in parts, it is the sum of
theirs. What is not finite stays so and is not hidden: NaN goes through clip, and makes n NaN.
"""

from math import sqrt

import numpy as np

from ministn.errors import check_arrays, check_number, check_written, is_number
from ministn.ops.adam import BLOCK


def clip(g: np.ndarray, limit: float) -> None:
    """Limit each value to [-limit, limit].

    Raises TypeError for a wrong dtype, ValueError for a wrong shape, for what cannot be written and
    for an impossible number; so do the others.
    """
    check_arrays(g=(g, "n"))
    check_written(g=g)
    limit = check_number("limit", limit, 0)
    np.clip(g, -limit, limit, out=g)


def sum_of_squares(g: np.ndarray) -> float:
    """Of all values; no matter how many threads the linear algebra library has."""
    check_arrays(g=(g, "n"))
    scratch = np.empty(min(BLOCK, g.size))
    total = 0.0
    for start in range(0, g.size, BLOCK):
        t = scratch[: len(g[start : start + BLOCK])]
        t[...] = g[start : start + BLOCK]
        t *= t
        total += float(t.sum())
    return total


def limit_norm(g: np.ndarray, squares: float, most: float) -> None:
    """Scale all values so that the whole gradient's norm, sqrt(squares), is ``most`` or less."""
    check_arrays(g=(g, "n"))
    check_written(g=g)
    most = check_number("most", most, 0)
    if not is_number(squares) or squares < 0:  # NaN is a number here
        raise ValueError(f"squares must be a number of at least 0, got {squares!r}")
    norm = sqrt(squares)
    g *= g.dtype.type(min(norm, most) / (norm + 1e-7))
