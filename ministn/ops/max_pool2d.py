"""Max pooling over windows that tile the image.

    y_nijc = max over p, q of x_n,(s i + p),(s j + q),c         0 <= p, q < s, the window's size

    dx = dy at the winner of each window, 0 elsewhere

Of equal values the first in row-major order wins. Rows and columns that fill no whole window are
dropped, and have gradient 0.
"""

from typing import NamedTuple

import numpy as np

from ministn.errors import check_arrays, whole


class Cache(NamedTuple):
    y: np.ndarray  # only for the shape and dtype that dy must have
    winner: np.ndarray  # (N, h, w, C, 1): p s + q of each maximum
    shape: tuple[int, ...]  # of x, whose dropped rows and columns y does not show
    size: int


def max_pool2d(x: np.ndarray, size: int = 2) -> tuple[np.ndarray, Cache]:
    """x (N, H, W, C) -> y (N, H // size, W // size, C).

    Raises as check_pool does.
    """
    check_pool(x, size)
    windows = _windows(x, size)
    winner = windows.argmax(axis=-1)[..., None]
    y = np.take_along_axis(windows, winner, axis=-1)[..., 0]
    return y, Cache(y, winner, x.shape, size)


def max_pool2d_backward(dy: np.ndarray, cache: Cache) -> np.ndarray:
    """dy (N, h, w, C) -> dx (N, H, W, C)."""
    y, winner, shape, size = cache
    check_arrays(y=(y, "N h w C"), dy=(dy, "N h w C"))
    dwindows = np.zeros((*dy.shape, size * size), dy.dtype)
    np.put_along_axis(dwindows, winner, dy[..., None], axis=-1)
    dx = np.zeros(shape, dy.dtype)
    n, h, w, channels = dy.shape
    dx[:, : h * size, : w * size] = (
        dwindows.reshape(n, h, w, channels, size, size)
        .transpose(0, 1, 4, 2, 5, 3)
        .reshape(n, h * size, w * size, channels)
    )
    return dx


def check_pool(x: np.ndarray, size: int) -> tuple[int, int, int, int]:
    """(N, H, W, C) of what is to be pooled.

    Raises TypeError for a wrong dtype, ValueError for a wrong shape, a size below 1 or an image
    smaller than one window.
    """
    n, height, width, channels = check_arrays(x=(x, "N H W C")).values()
    check_window(size)
    if min(height, width) < size:
        raise ValueError(f"x must be at least {size} by {size} pixels, got shape {x.shape}")
    return n, height, width, channels


def check_window(size: int) -> None:
    """Raises ValueError for a size that no window has."""
    whole("size", size)


def _windows(x: np.ndarray, size: int) -> np.ndarray:
    """(N, h, w, C, size * size): the values of each window in row-major order."""
    n, height, width, channels = x.shape
    h, w = height // size, width // size
    tiles = x[:, : h * size, : w * size].reshape(n, h, size, w, size, channels)
    return tiles.transpose(0, 1, 3, 5, 2, 4).reshape(n, h, w, channels, size * size)
