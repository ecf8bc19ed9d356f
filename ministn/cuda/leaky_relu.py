"""ops/leaky_relu.py on a GPU: see leaky_relu.cu."""

from typing import NamedTuple

import numpy as np

from ministn.backend import Array, device_holding
from ministn.cuda.launch import blocks_for, launch
from ministn.errors import check_arrays, check_share
from ministn.ops.leaky_relu import SLOPE
from ministn.ops.relu import axes


class Cache(NamedTuple):
    y: Array
    slope: float


def leaky_relu(x: Array, slope: float = SLOPE) -> tuple[Array, Cache]:
    """Rectify x, of any shape, but for slope, 0 <= slope < 1, times what is negative.

    Raises as in ops, and TypeError for a dtype other than float32.
    """
    check_arrays(x=(x, axes(x)))
    slope = check_share("slope", slope)
    device = device_holding(x=x)
    y = device.empty(x.shape, np.float32)
    size = x.size
    launch("leaky_relu", "leaky_relu", blocks_for(size), device.contiguous(x), y, size, slope)
    return y, Cache(y, slope)


def leaky_relu_backward(dy: Array, cache: Cache) -> Array:
    """The gradient dx, of x's shape."""
    y, slope = cache
    check_arrays(y=(y, axes(y)), dy=(dy, axes(y)))
    device = device_holding(dy=dy)
    dx = device.empty(y.shape, np.float32)
    launch(
        "leaky_relu",
        "leaky_relu_backward",
        blocks_for(y.size),
        *(device.contiguous(dy), y, dx, y.size, slope),
    )
    return dx
