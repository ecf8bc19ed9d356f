"""Average pooling over windows that tile the image.

    y_nijc = 1/s^2 sum over p, q of x_n,(s i + p),(s j + q),c     0 <= p, q < s, the window's size

    dx = dy / s^2 everywhere in the window

Rows and columns that fill no whole window are dropped, and have gradient 0. In STN's networks for
RTS and TC this follows the transformer; behind a grid as fine as its windows it is an anti-aliased
sampler (transformer/spatial.py).
"""

from typing import NamedTuple

import numpy as np

from ministn.errors import check_arrays, check_count
from ministn.ops.max_pool2d import check_pool


class Cache(NamedTuple):
    shape: tuple[int, ...]  # of x, whose dropped rows and columns y does not show
    y: np.ndarray  # only for the shape and dtype that dy must have
    size: int


def avg_pool2d(x: np.ndarray, size: int = 2) -> tuple[np.ndarray, Cache]:
    """x (N, H, W, C) -> y (N, H // size, W // size, C).

    Raises as check_pool does, and ValueError for a size that is not whole or below 1.
    """
    size = check_count("size", size)
    n, height, width, channels = check_pool(x, size)
    y = np.zeros((n, height // size, width // size, channels), x.dtype)
    for window in _places(x, size):
        y += window
    y /= size**2
    return y, Cache(x.shape, y, size)


def avg_pool2d_backward(dy: np.ndarray, cache: Cache) -> np.ndarray:
    """dy (N, h, w, C) -> dx (N, H, W, C)."""
    shape, y, size = cache
    check_arrays(y=(y, "N h w C"), dy=(dy, "N h w C"))
    dx = np.zeros(shape, dy.dtype)
    for window in _places(dx, size):
        window[...] = dy / size**2
    return dx


def _places(x: np.ndarray, size: int) -> list[np.ndarray]:
    """Views (N, h, w, C) of x: each place of the windows, in row-major order."""
    height, width = (length // size * size for length in x.shape[1:3])
    return [x[:, p:height:size, q:width:size] for p in range(size) for q in range(size)]
