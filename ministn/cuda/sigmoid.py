"""ops/sigmoid.py on a GPU: see sigmoid.cu."""

from typing import NamedTuple

import numpy as np

from ministn.backend import Array, device_holding
from ministn.cuda.launch import blocks_for, launch
from ministn.errors import check_arrays
from ministn.ops.relu import axes


class Cache(NamedTuple):
    x: Array


def sigmoid(x: Array) -> tuple[Array, Cache]:
    """Squash x, of any shape, to between 0 and 1.

    Raises TypeError for a dtype other than float32.
    """
    device = device_holding(x=x)
    x = device.contiguous(x)
    y = device.empty(x.shape, np.float32)
    launch("sigmoid", "sigmoid", blocks_for(x.size), x, y, x.size)
    return y, Cache(x)


def sigmoid_backward(dy: Array, cache: Cache) -> Array:
    """The gradient dx, of x's shape."""
    x = cache.x
    check_arrays(x=(x, axes(x)), dy=(dy, axes(x)))
    device = device_holding(dy=dy)
    dx = device.empty(x.shape, np.float32)
    size = x.size
    launch("sigmoid", "sigmoid_backward", blocks_for(size), device.contiguous(dy), x, dx, size)
    return dx
