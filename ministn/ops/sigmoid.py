"""The logistic function.

    y = 1 / (1 + exp(-x))
    dx = dy y (1 - y)

Computed as (1 + tanh(x / 2)) / 2, which is the same and overflows nowhere.
"""

from typing import NamedTuple

import numpy as np

from ministn.errors import check_arrays
from ministn.ops.relu import axes


class Cache(NamedTuple):
    y: np.ndarray


def sigmoid(x: np.ndarray) -> tuple[np.ndarray, Cache]:
    """Squash x, of any shape, to between 0 and 1.

    Raises TypeError for a wrong dtype.
    """
    check_arrays(x=(x, axes(x)))
    y = (1 + np.tanh(x / 2)) / 2
    return y, Cache(y)


def sigmoid_backward(dy: np.ndarray, cache: Cache) -> np.ndarray:
    """The gradient dx, of x's shape."""
    check_arrays(y=(cache.y, axes(cache.y)), dy=(dy, axes(cache.y)))
    return dy * cache.y * (1 - cache.y)
