"""ops/tanh.py on a GPU: see tanh.cu."""

from typing import NamedTuple

import numpy as np

from ministn.backend import Array, device_holding
from ministn.cuda.launch import blocks_for, launch
from ministn.errors import check_arrays
from ministn.ops.relu import axes


class Cache(NamedTuple):
    y: Array


def tanh(x: Array) -> tuple[Array, Cache]:
    """Squash x, of any shape, to between -1 and 1.

    Raises TypeError for a dtype other than float32.
    """
    device = device_holding(x=x)
    y = device.empty(x.shape, np.float32)
    launch("tanh", "tanh_forward", blocks_for(x.size), device.contiguous(x), y, x.size)
    return y, Cache(y)


def tanh_backward(dy: Array, cache: Cache) -> Array:
    """The gradient dx, of x's shape."""
    y = cache.y
    check_arrays(y=(y, axes(y)), dy=(dy, axes(y)))
    device = device_holding(dy=dy)
    dx = device.empty(y.shape, np.float32)
    launch("tanh", "tanh_backward", blocks_for(y.size), device.contiguous(dy), y, dx, y.size)
    return dx
