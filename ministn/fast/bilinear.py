"""The bilinear sampler to train with: ops/bilinear.py again, in float32 for one CPU core.

How is in sampling.py, for any number of axes.
"""

from typing import NamedTuple

import numpy as np

from ministn.errors import check_arrays, check_float32
from ministn.fast.sampling import gradient_of_grid, gradient_of_image, linear, sample
from ministn.ops.sampling import check_sampler


class Cache(NamedTuple):
    shape: tuple[int, ...]  # of the image
    grid: np.ndarray
    border: str
    slopes: np.ndarray  # (2, N, h, w, C): dV/dx^s and dV/dy^s


def bilinear_sampler(
    image: np.ndarray, grid: np.ndarray, *, border: str = "nearest", fill: float = 0.0
) -> tuple[np.ndarray, Cache]:
    """image (N, H, W, C) at grid (N, h, w, 2) -> y (N, h, w, C). STN equation (5).

    Raises TypeError for a dtype other than float32, ValueError as check_sampler does.
    """
    check_sampler(image, grid, border, fill)
    check_float32(image=image)
    y, slopes = sample(image, grid, border, fill, linear)
    return y, Cache(image.shape, grid, border, slopes)


def bilinear_sampler_backward(
    dy: np.ndarray, cache: Cache, need_dimage: bool = True
) -> tuple[np.ndarray | None, np.ndarray]:
    """dy (N, h, w, C) -> dimage (N, H, W, C) or None, dgrid (N, h, w, 2).

    STN equations (6) and (7).
    """
    shape, grid, border, slopes = cache
    check_arrays(slopes=(slopes, "2 N h w C"), dy=(dy, "N h w C"))
    dimage = gradient_of_image(dy, grid, shape, border, linear) if need_dimage else None
    return dimage, gradient_of_grid(dy, slopes, shape)
