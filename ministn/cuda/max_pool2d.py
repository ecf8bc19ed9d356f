"""ops/max_pool2d.py on a GPU: see max_pool2d.cu."""

from typing import NamedTuple

import numpy as np

from ministn.backend import Array, device_holding
from ministn.cuda.launch import blocks_for, launch
from ministn.errors import check_arrays
from ministn.ops.max_pool2d import check_pool, check_windows


class Cache(NamedTuple):
    winner: Array  # (N, h, w, C): p s + q of each maximum
    shape: tuple[int, ...]  # of x
    size: int
    stride: int


def max_pool2d(x: Array, size: int = 2, stride: int | None = None) -> tuple[Array, Cache]:
    """x (N, H, W, C) -> y (N, h, w, C), h = (H - size) // stride + 1 and w likewise.

    Raises as in ops, and TypeError for a dtype other than float32.
    """
    size, stride = check_windows(size, stride)
    n, height, width, channels = check_pool(x, size)
    device = device_holding(x=x)
    h, w = ((length - size) // stride + 1 for length in (height, width))
    y = device.empty((n, h, w, channels), np.float32)
    winner = device.empty(y.shape, np.int32)
    x = device.contiguous(x)
    _launch("max_pool2d", (x, y, winner), y.size, x.shape, y.shape, size, stride)
    return y, Cache(winner, x.shape, size, stride)


def max_pool2d_backward(dy: Array, cache: Cache) -> Array:
    """dy (N, h, w, C) -> dx (N, H, W, C)."""
    winner, shape, size, stride = cache
    check_arrays(dy=(dy, " ".join(map(str, winner.shape))))
    device = device_holding(dy=dy)
    dx = device.empty(shape, np.float32)
    arrays = device.contiguous(dy), winner, dx
    _launch("max_pool2d_backward", arrays, dx.size, shape, dy.shape, size, stride)
    return dx


def _launch(
    name: str,
    arrays: tuple[Array, ...],
    count: int,
    shape: tuple[int, ...],
    outputs: tuple[int, ...],
    size: int,
    stride: int,
) -> None:
    """One thread for each of ``count`` elements; shape of x, outputs: that of y."""
    lengths = *shape[1:], size
    if stride != size:
        name = name.replace("max_pool2d", "max_pool2d_strided")
        lengths = *shape[1:], *outputs[1:3], size, stride
    launch("max_pool2d", name, blocks_for(count), *arrays, count, *lengths)
