"""Average pooling over cubes that tile the volume.

    y_nkij = 1/s^3 sum over o, p, q of x_n,(s k + o),(s i + p),(s j + q)      0 <= o, p, q < s

    dx = dy / s^3 everywhere in the cube

Layers, rows and columns that fill no whole cube are dropped, and have gradient 0.
"""

from typing import NamedTuple

import numpy as np

from ministn.errors import check_arrays, check_count


class Cache(NamedTuple):
    shape: tuple[int, ...]  # of x, whose dropped voxels y does not show
    y: np.ndarray  # only for the shape and dtype that dy must have
    size: int


def avg_pool3d(x: np.ndarray, size: int = 2) -> tuple[np.ndarray, Cache]:
    """x (N, D, H, W) -> y (N, D // size, H // size, W // size).

    Raises as check_pool3d does, and ValueError for a size that is not whole or below 1.
    """
    size = check_count("size", size)
    check_pool3d(x, size)
    y = x
    for axis in (1, 2, 3):  # one after the other: NumPy is slow at three at once
        whole = x.shape[axis] // size
        y = y[(slice(None),) * axis + (slice(whole * size),)]
        y = y.reshape(*y.shape[:axis], whole, size, *y.shape[axis + 1 :]).sum(axis=axis + 1)
    y = y / size**3
    return y, Cache(x.shape, y, size)


def avg_pool3d_backward(dy: np.ndarray, cache: Cache) -> np.ndarray:
    """dy (N, d, h, w) -> dx (N, D, H, W)."""
    shape, y, size = cache
    check_arrays(y=(y, "N d h w"), dy=(dy, "N d h w"))
    part = dy / size**3
    for axis in (1, 2, 3):
        part = part.repeat(size, axis)
    dropped = [(0, whole - kept) for whole, kept in zip(shape, part.shape, strict=True)]
    return np.pad(part, dropped)


def check_pool3d(x: np.ndarray, size: int) -> tuple[int, ...]:
    """(N, D, H, W) of what is to be pooled.

    Raises TypeError for a wrong dtype, ValueError for a wrong shape or a volume smaller than one
    cube.
    """
    check_arrays(x=(x, "N D H W"))
    if min(x.shape[1:]) < size:
        raise ValueError(f"x must be at least {size} voxels long each way, got shape {x.shape}")
    return x.shape
