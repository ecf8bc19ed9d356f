"""Leaky rectified linear unit.

    y = f x
    dx = f dy        f = 1 where x > 0, else the slope

At x = 0, where there is no slope, that of the left side is used, as in relu.py.
"""

from typing import NamedTuple

import numpy as np

from ministn.errors import check_arrays, check_share
from ministn.ops.relu import axes

SLOPE = 1 / 3  # the "very leaky" one of the networks for plankton


class Cache(NamedTuple):
    y: np.ndarray  # positive exactly where x was, so x itself need not be kept
    slope: float


def leaky_relu(x: np.ndarray, slope: float = SLOPE) -> tuple[np.ndarray, Cache]:
    """Rectify x, of any shape, but for slope, 0 <= slope < 1, times what is negative.

    Raises TypeError for a wrong dtype, ValueError for a wrong slope.
    """
    check_arrays(x=(x, axes(x)))
    slope = check_share("slope", slope)
    y = x * _factors(x, slope)
    return y, Cache(y, slope)


def leaky_relu_backward(dy: np.ndarray, cache: Cache) -> np.ndarray:
    """The gradient dx, of x's shape."""
    y, slope = cache
    check_arrays(y=(y, axes(y)), dy=(dy, axes(y)))
    return dy * _factors(y, slope)


def _factors(x: np.ndarray, slope: float) -> np.ndarray:
    """f, of x's shape and dtype."""
    return np.where(x > 0, x.dtype.type(1), x.dtype.type(slope))
