"""ops/projection.py on a GPU: see projection.cu."""

from typing import NamedTuple

import numpy as np

from ministn.backend import Array, device_holding
from ministn.cuda.launch import blocks_for, launch
from ministn.errors import check_arrays
from ministn.ops.projection import check_layers


class Cache(NamedTuple):
    shape: tuple[int, ...]  # of x


def projection(x: Array) -> tuple[Array, Cache]:
    """x (N, D, H, W) -> y (N, H, W, 1), NumPy's to the last bit.

    Raises as in ops, and TypeError for a dtype other than float32.
    """
    n, depth, height, width = check_layers(x)
    device = device_holding(x=x)
    y = device.empty((n, height, width, 1), np.float32)
    launch(
        "projection",
        "projection",
        blocks_for(y.size),
        *(device.contiguous(x), y),
        *(y.size, depth, height * width),
    )
    return y, Cache(x.shape)


def projection_backward(dy: Array, cache: Cache) -> Array:
    """dy (N, H, W, 1) -> dx (N, D, H, W)."""
    n, depth, height, width = cache.shape
    check_arrays(dy=(dy, f"{n} {height} {width} 1"))
    device = device_holding(dy=dy)
    dx = device.empty(cache.shape, np.float32)
    launch(
        "projection",
        "projection_backward",
        blocks_for(dx.size),
        *(device.contiguous(dy), dx),
        *(dx.size, depth, height * width),
    )
    return dx
