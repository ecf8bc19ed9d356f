"""Max pooling over windows of s x s pixels, t pixels apart.

    y_nijc = max over p, q of x_n,(t i + p),(t j + q),c         0 <= p, q < s

    dx = the sum of dy over the windows that a pixel wins, 0 where it wins none

Of equal values the first in row-major order wins. Rows and columns that fill no whole window are
dropped, and have gradient 0. Windows tile the image where t = s; where t < s they overlap, and a
pixel may win several.
"""

from typing import NamedTuple

import numpy as np

from ministn.errors import check_arrays, check_count


class Cache(NamedTuple):
    y: np.ndarray  # only for the shape and dtype that dy must have
    winner: np.ndarray  # (N, h, w, C, 1): p s + q of each maximum
    shape: tuple[int, ...]  # of x, whose dropped rows and columns y does not show
    size: int
    stride: int


def max_pool2d(x: np.ndarray, size: int = 2, stride: int | None = None) -> tuple[np.ndarray, Cache]:
    """x (N, H, W, C) -> y (N, h, w, C), h = (H - size) // stride + 1 and w likewise.

    size: of the windows. stride: between them; None for windows that tile the image.
    Raises as check_pool and check_windows do.
    """
    size, stride = check_windows(size, stride)
    check_pool(x, size)
    views = np.lib.stride_tricks.sliding_window_view(x, (size, size), axis=(1, 2))
    views = views[:, ::stride, ::stride]
    windows = views.reshape(*views.shape[:4], size * size)  # (N, h, w, C, values in each)
    winner = windows.argmax(axis=-1)[..., None]
    y = np.take_along_axis(windows, winner, axis=-1)[..., 0]
    return y, Cache(y, winner, x.shape, size, stride)


def max_pool2d_backward(dy: np.ndarray, cache: Cache) -> np.ndarray:
    """dy (N, h, w, C) -> dx (N, H, W, C)."""
    y, winner, shape, size, stride = cache
    check_arrays(y=(y, "N h w C"), dy=(dy, "N h w C"))
    n, h, w, channels = dy.shape
    dx = np.zeros(shape, dy.dtype)
    if stride == size:  # the windows lie side by side, and so do their gradients
        dwindows = np.zeros((*dy.shape, size * size), dy.dtype)
        np.put_along_axis(dwindows, winner, dy[..., None], axis=-1)
        dx[:, : h * size, : w * size] = (
            dwindows.reshape(n, h, w, channels, size, size)
            .transpose(0, 1, 4, 2, 5, 3)
            .reshape(n, h * size, w * size, channels)
        )
        return dx
    for p in range(size):
        for q in range(size):
            # The pixels at this place of the windows: no two windows have the same one.
            pixels = dx[:, p : p + stride * h : stride, q : q + stride * w : stride]
            pixels += np.where(winner[..., 0] == p * size + q, dy, 0)
    return dx


def check_pool(x: np.ndarray, size: int) -> tuple[int, int, int, int]:
    """(N, H, W, C) of what is to be pooled.

    Raises TypeError for a wrong dtype, ValueError for a wrong shape or an image smaller than one
    window.
    """
    n, height, width, channels = check_arrays(x=(x, "N H W C")).values()
    if min(height, width) < size:
        raise ValueError(f"x must be at least {size} by {size} pixels, got shape {x.shape}")
    return n, height, width, channels


def check_windows(size: int, stride: int | None) -> tuple[int, int]:
    """size and stride of max pooling as ints.

    Raises ValueError for what is no whole number of at least 1.
    """
    size = check_count("size", size)
    return size, size if stride is None else check_count("stride", stride)
