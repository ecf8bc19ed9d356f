"""Inverted dropout (Srivastava et al. 2014): train with a random part of the units switched off.

    y = x * mask,    mask = 1 / (1 - rate) with probability 1 - rate, else 0
    dx = dy * mask

The factor keeps the mean of y at x, so evaluation uses x unchanged and never comes here. The mask
is a pure function of where in training it is drawn: see ``ministn.randomness``.
"""

from typing import NamedTuple

import numpy as np

from ministn.errors import check_arrays
from ministn.randomness import Step, random_bits


class Cache(NamedTuple):
    mask: np.ndarray  # could be drawn again from the step, but keeping it is cheaper


def dropout(x: np.ndarray, rate: float, step: Step, stream: int) -> tuple[np.ndarray, Cache]:
    """Drop each element of x (N, D) with probability rate, 0 <= rate < 1.

    step says where in training this is; stream (32 bits) tells the layers of a network apart.
    Raises TypeError for a wrong dtype or step, ValueError for a wrong shape or rate.
    """
    sizes = check_arrays(x=(x, "N D"))
    if not 0 <= rate < 1:
        raise ValueError(f"rate must be at least 0 and below 1, got {rate}")
    if not isinstance(step, Step):
        raise TypeError(f"step must be a Step, got {type(step).__name__}")
    keep = random_bits(step, stream, sizes["N"], sizes["D"]) >= rate * 2**32
    mask = keep * x.dtype.type(1 / (1 - rate))
    return x * mask, Cache(mask)


def dropout_backward(dy: np.ndarray, cache: Cache) -> np.ndarray:
    """The gradient dx (N, D): only what was kept carries one."""
    check_arrays(mask=(cache.mask, "N D"), dy=(dy, "N D"))
    return dy * cache.mask
