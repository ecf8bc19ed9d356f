"""The logistic function.

    y = 1 / (1 + exp(-x))
    dx = dy y (1 - y)

Computed from e = exp(-|x|), which overflows nowhere:

    y = 1 / (1 + e) where x >= 0, else e / (1 + e);    1 - y is the other one of the two

So neither y near 0 nor 1 - y near 0 is a difference of numbers near 1, and both are right to the
last digits.
"""

from typing import NamedTuple

import numpy as np

from ministn.errors import check_arrays
from ministn.ops.relu import axes


class Cache(NamedTuple):
    y: np.ndarray
    rest: np.ndarray  # 1 - y


def sigmoid(x: np.ndarray) -> tuple[np.ndarray, Cache]:
    """Squash x, of any shape, to between 0 and 1.

    Raises TypeError for a wrong dtype.
    """
    check_arrays(x=(x, axes(x)))
    e = np.exp(-abs(x))
    larger, smaller = 1 / (1 + e), e / (1 + e)
    y = np.where(x >= 0, larger, smaller)
    return y, Cache(y, np.where(x >= 0, smaller, larger))


def sigmoid_backward(dy: np.ndarray, cache: Cache) -> np.ndarray:
    """The gradient dx, of x's shape."""
    check_arrays(y=(cache.y, axes(cache.y)), dy=(dy, axes(cache.y)))
    return dy * cache.y * cache.rest
