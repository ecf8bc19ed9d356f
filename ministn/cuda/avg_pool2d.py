"""ops/avg_pool2d.py on a GPU: see avg_pool2d.cu."""

from typing import NamedTuple

import numpy as np

from ministn.backend import Array, device_holding
from ministn.cuda.launch import blocks_for, launch
from ministn.errors import check_arrays, check_count
from ministn.ops.max_pool2d import check_pool


class Cache(NamedTuple):
    shape: tuple[int, ...]  # of x
    size: int


def avg_pool2d(x: Array, size: int = 2) -> tuple[Array, Cache]:
    """x (N, H, W, C) -> y (N, H // size, W // size, C), NumPy's to the last bit.

    Raises as in ops, and TypeError for a dtype other than float32.
    """
    size = check_count("size", size)
    n, height, width, channels = check_pool(x, size)
    device = device_holding(x=x)
    y = device.empty((n, height // size, width // size, channels), np.float32)
    launch(
        "avg_pool2d",
        "avg_pool2d",
        blocks_for(y.size),
        *(device.contiguous(x), y),
        *(y.size, height, width, channels, size),
    )
    return y, Cache(x.shape, size)


def avg_pool2d_backward(dy: Array, cache: Cache) -> Array:
    """dy (N, h, w, C) -> dx (N, H, W, C)."""
    (n, height, width, channels), size = cache
    check_arrays(dy=(dy, f"{n} {height // size} {width // size} {channels}"))
    device = device_holding(dy=dy)
    dx = device.empty(cache.shape, np.float32)
    launch(
        "avg_pool2d",
        "avg_pool2d_backward",
        blocks_for(dx.size),
        *(device.contiguous(dy), dx),
        *(dx.size, height, width, channels, size),
    )
    return dx
