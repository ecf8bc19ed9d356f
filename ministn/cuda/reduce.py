"""Sums over what several blocks or warps of a kernel made: see reduce.cu."""

from math import prod

import numpy as np

from ministn.backend import Array, device_holding
from ministn.cuda.launch import blocks_for, launch


def sum_partials(partials: Array) -> Array:
    """partials (S, ...) -> their sum over S, always in the same order."""
    slices, *shape = partials.shape
    y = device_holding(partials=partials).empty(tuple(shape), np.float32)
    size = prod(shape)
    launch("reduce", "sum_partials", blocks_for(size, 128), partials, y, slices, size)
    return y


def mean(x: Array) -> Array:
    """x (N,) -> its mean (1,), summed in double and always in the same order."""
    y = device_holding(x=x).empty((1,), np.float32)
    launch("reduce", "mean", 1, x, y, x.size)
    return y
