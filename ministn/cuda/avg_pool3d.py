"""ops/avg_pool3d.py on a GPU: see avg_pool3d.cu."""

from typing import NamedTuple

import numpy as np

from ministn.backend import Array, device_holding
from ministn.cuda.launch import blocks_for, launch
from ministn.errors import check_arrays, check_count
from ministn.ops.avg_pool3d import check_pool3d


class Cache(NamedTuple):
    shape: tuple[int, ...]  # of x
    size: int


def avg_pool3d(x: Array, size: int = 2) -> tuple[Array, Cache]:
    """x (N, D, H, W) -> y (N, D // size, H // size, W // size).

    Raises as in ops, and TypeError for a dtype other than float32.
    """
    size = check_count("size", size)
    n, *lengths = check_pool3d(x, size)
    device = device_holding(x=x)
    y = device.empty((n, *(length // size for length in lengths)), np.float32)
    launch(
        "avg_pool3d",
        "avg_pool3d",
        blocks_for(y.size),
        *(device.contiguous(x), y),
        *(y.size, *lengths, size),
    )
    return y, Cache(x.shape, size)


def avg_pool3d_backward(dy: Array, cache: Cache) -> Array:
    """dy (N, d, h, w) -> dx (N, D, H, W)."""
    (n, *lengths), size = cache
    pooled = " ".join(str(length // size) for length in lengths)
    check_arrays(dy=(dy, f"{n} {pooled}"))
    device = device_holding(dy=dy)
    dx = device.empty(cache.shape, np.float32)
    launch(
        "avg_pool3d",
        "avg_pool3d_backward",
        blocks_for(dx.size),
        *(device.contiguous(dy), dx),
        *(dx.size, *lengths, size),
    )
    return dx
