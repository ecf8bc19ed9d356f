"""Inverted dropout (Srivastava et al. 2014): train with a random part of the units switched off.

    y = x * mask,    mask = 1 / (1 - rate) with probability 1 - rate, else 0
    dx = dy * mask

The factor keeps the mean of y at x, so evaluation uses x unchanged and never comes here. The mask
is a pure function of where in training it is drawn: see ``ministn.randomness``.
"""

from math import prod
from typing import NamedTuple

import numpy as np

from ministn.errors import check_arrays, check_kind, check_share, is_whole
from ministn.ops.relu import axes
from ministn.randomness import Step, random_bits


class Cache(NamedTuple):
    mask: np.ndarray  # could be drawn again from the step, but keeping it is cheaper


def dropout(x: np.ndarray, rate: float, step: Step, stream: int) -> tuple[np.ndarray, Cache]:
    """Drop each element of x (N, ...) with probability rate, 0 <= rate < 1, times step.dropout.

    After N come one or more axes: the elements of a row are counted in row-major order, so that
    x (N, H, W, C) is dropped as (N, H W C) would be. step says where in training this is; stream
    (32 bits) tells the layers of a network apart.
    Raises TypeError for a wrong dtype or step, ValueError for a wrong shape, rate
    or stream.
    """
    check_arrays(x=(x, rows(x)))
    rate = check_options(rate, step, stream) * step.dropout
    keep = random_bits(step, stream, len(x), prod(x.shape[1:])) >= rate * 2**32
    mask = keep.reshape(x.shape) * x.dtype.type(1 / (1 - rate))
    return x * mask, Cache(mask)


def check_options(rate: float, step: Step, stream: int) -> float:
    """The rate as Python's number. Raises TypeError or ValueError for what cannot be."""
    check_kind("step", step, Step)
    if not is_whole(stream) or not 0 <= stream < 2**32:
        raise ValueError(f"stream must be a whole number of 32 bits, got {stream!r}")
    return check_share("rate", rate)


def dropout_backward(dy: np.ndarray, cache: Cache) -> np.ndarray:
    """The gradient dx, of x's shape: only what was kept carries one."""
    check_arrays(mask=(cache.mask, rows(cache.mask)), dy=(dy, rows(cache.mask)))
    return dy * cache.mask


def rows(x: np.ndarray) -> str:
    """Letters for the axes of x, which has one at least after N: "N D", "N a b c"."""
    return f"N {axes(x)[2:]}" if np.ndim(x) > 2 else "N D"
