"""The trilinear sampler to train with: ops/trilinear.py again, in float32 for one CPU core.

How is in sampling.py, for any number of axes.
"""

from typing import NamedTuple

import numpy as np

from ministn.errors import check_arrays, check_float32
from ministn.fast.sampling import gradient_of_grid, gradient_of_image, linear, sample
from ministn.ops.sampling import check_volume_sampler


class Cache(NamedTuple):
    shape: tuple[int, ...]  # of the volume, with one channel
    grid: np.ndarray
    border: str
    slopes: np.ndarray  # (3, N, d, h, w, 1): dV/dx^s, dV/dy^s and dV/dz^s


def trilinear_sampler(
    volume: np.ndarray, grid: np.ndarray, *, border: str = "nearest", fill: float = 0.0
) -> tuple[np.ndarray, Cache]:
    """volume (N, D, H, W) at grid (N, d, h, w, 3), triples (x, y, z) -> y (N, d, h, w).

    Raises TypeError for a dtype other than float32, ValueError as check_volume_sampler does.
    """
    check_volume_sampler(volume, grid, border, fill)
    check_float32(volume=volume)
    y, slopes = sample(volume[..., None], grid, border, fill, linear)
    return y[..., 0], Cache((*volume.shape, 1), grid, border, slopes)


def trilinear_sampler_backward(
    dy: np.ndarray, cache: Cache, need_dvolume: bool = True
) -> tuple[np.ndarray | None, np.ndarray]:
    """dy (N, d, h, w) -> dvolume (N, D, H, W) or None, dgrid (N, d, h, w, 3)."""
    shape, grid, border, slopes = cache
    check_arrays(slopes=(slopes, "3 N d h w 1"), dy=(dy, "N d h w"))
    dvolume = None
    if need_dvolume:
        dvolume = gradient_of_image(dy[..., None], grid, shape, border, linear)[..., 0]
    return dvolume, gradient_of_grid(dy[..., None], slopes, shape)
