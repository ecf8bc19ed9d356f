"""Max pooling to train with: ops/max_pool2d.py again, in float32 for one CPU core.

The values at one place of all windows are compared at once, place after place, a few images at a
time, so that they stay in cache. One small number is kept for each y: the place of its maximum.
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np

from ministn.errors import check_arrays, check_float32
from ministn.ops.max_pool2d import check_pool, check_windows

BLOCK_BYTES = 2**19  # of x in one block of images


class Cache(NamedTuple):
    y: np.ndarray  # only for the shape and dtype that dy must have
    winner: np.ndarray  # (N, h, w, C) whole numbers: p s + q of each maximum
    shape: tuple[int, ...]  # of x, whose dropped rows and columns y does not show
    size: int
    stride: int


def max_pool2d(x: np.ndarray, size: int = 2, stride: int | None = None) -> tuple[np.ndarray, Cache]:
    """x (N, H, W, C) -> y (N, h, w, C), h = (H - size) // stride + 1 and w likewise.

    Raises as in ops, and TypeError for a dtype other than float32.
    """
    size, stride = check_windows(size, stride)
    n, height, width, channels = check_pool(x, size)
    check_float32(x=x)
    h, w = ((length - size) // stride + 1 for length in (height, width))
    y = np.empty((n, h, w, channels), np.float32)
    winner = np.empty(y.shape, np.min_scalar_type(size**2 - 1))
    for block in _blocks(x.shape):
        first, *others = places(x[block], y.shape, size, stride)
        maximum(first, others, y[block], winner[block])
    return y, Cache(y, winner, x.shape, size, stride)


def max_pool2d_backward(dy: np.ndarray, cache: Cache) -> np.ndarray:
    """dy (N, h, w, C) -> dx (N, H, W, C)."""
    y, winner, shape, size, stride = cache
    check_arrays(y=(y, "N h w C"), dy=(dy, "N h w C"))
    dx = np.zeros(shape, np.float32)
    for block in _blocks(shape):
        for place, pixels in enumerate(places(dx[block], winner.shape, size, stride)):
            pixels += dy[block] * (winner[block] == place)
    return dx


def maximum(
    first: np.ndarray, others: Iterable[np.ndarray], y: np.ndarray, winner: np.ndarray
) -> None:
    """Write the largest of arrays of y's shape into y, and whose it is into winner, from 0."""
    y[...] = first
    winner[...] = 0
    for place, candidate in enumerate(others, 1):
        better = candidate > y  # strictly: of equal values the first one stays
        np.maximum(winner, better * winner.dtype.type(place), out=winner)
        np.maximum(y, candidate, out=y)


def _blocks(shape: tuple[int, ...]) -> Iterator[slice]:
    """A batch of images of shape (N, H, W, C), cut into slices."""
    images = max(1, BLOCK_BYTES // max(1, 4 * int(np.prod(shape[1:]))))
    for start in range(0, shape[0], images):
        yield slice(start, start + images)


def places(x: np.ndarray, shape: tuple[int, ...], size: int, stride: int) -> Iterator[np.ndarray]:
    """Views of x: at each place of a window, in row-major order, the values of all windows."""
    rows, columns = stride * shape[1], stride * shape[2]
    for p in range(size):
        for q in range(size):
            yield x[:, p : p + rows : stride, q : q + columns : stride]
