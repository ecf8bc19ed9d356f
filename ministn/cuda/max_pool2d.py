"""ops/max_pool2d.py on a GPU: see max_pool2d.cu."""

from typing import NamedTuple

import numpy as np

from ministn.backend import Array, device_holding
from ministn.cuda.launch import blocks_for, launch
from ministn.errors import check_arrays
from ministn.ops.max_pool2d import check_pool


class Cache(NamedTuple):
    winner: Array  # (N, h, w, C): p s + q of each maximum
    shape: tuple[int, ...]  # of x
    size: int


def max_pool2d(x: Array, size: int = 2) -> tuple[Array, Cache]:
    """x (N, H, W, C) -> y (N, H // size, W // size, C).

    Raises as in ops, and TypeError for a dtype other than float32.
    """
    n, height, width, channels = check_pool(x, size)
    device = device_holding(x=x)
    y = device.empty((n, height // size, width // size, channels), np.float32)
    winner = device.empty(y.shape, np.int32)
    launch(
        "max_pool2d",
        "max_pool2d",
        blocks_for(y.size),
        *(device.contiguous(x), y, winner),
        *(y.size, height, width, channels, size),
    )
    return y, Cache(winner, (n, height, width, channels), int(size))


def max_pool2d_backward(dy: Array, cache: Cache) -> Array:
    """dy (N, h, w, C) -> dx (N, H, W, C)."""
    winner, shape, size = cache
    check_arrays(dy=(dy, " ".join(map(str, winner.shape))))
    device = device_holding(dy=dy)
    dx = device.empty(shape, np.float32)
    launch(
        "max_pool2d",
        "max_pool2d_backward",
        blocks_for(dx.size),
        *(device.contiguous(dy), winner, dx),
        *(dx.size, *shape[1:], size),
    )
    return dx
