"""Limits on a gradient, in place over a flat array, as Lasagne has them:

    g <- min(max(g, -limit), limit)                 clip
    g <- g * min(n, most) / (n + 1e-7)              limit_norm, n = sqrt(sum of squares)

The sum of squares is taken apart, in double: of a gradient that lies in parts, it is the sum of
theirs. What is not finite stays so and is not hidden: NaN goes through clip, and makes n NaN.
"""

from math import sqrt

import numpy as np

from ministn.ops.adam import BLOCK


def clip(g: np.ndarray, limit: float) -> None:
    """Limit each value to [-limit, limit]."""
    np.clip(g, -limit, limit, out=g)


def sum_of_squares(g: np.ndarray) -> float:
    """Of all values; no matter how many threads the linear algebra library has."""
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
    norm = sqrt(squares)
    g *= g.dtype.type(min(norm, most) / (norm + 1e-7))
