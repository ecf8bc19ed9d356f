"""Rectified linear unit.

    y = max(0, x)
    dx = dy where x > 0, else 0

At x = 0, where there is no slope, 0 is used.
"""

from typing import NamedTuple

import numpy as np

from ministn.errors import check_arrays


class Cache(NamedTuple):
    y: np.ndarray  # positive exactly where x was, so x itself need not be kept


def relu(x: np.ndarray) -> tuple[np.ndarray, Cache]:
    """Rectify x, of any shape.

    Raises TypeError for a wrong dtype.
    """
    check_arrays(x=(x, axes(x)))
    y = np.maximum(x, 0)
    return y, Cache(y)


def relu_backward(dy: np.ndarray, cache: Cache) -> np.ndarray:
    """The gradient dx, of x's shape."""
    check_arrays(y=(cache.y, axes(cache.y)), dy=(dy, axes(cache.y)))
    return dy * (cache.y > 0)


def axes(x: np.ndarray) -> str:
    """One letter for each axis of an array of any shape: "a b c" for three."""
    return " ".join("abcdefgh"[: np.ndim(x)])
