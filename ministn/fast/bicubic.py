"""The bicubic sampler to train with: ops/bicubic.py again, in float32 for one CPU core.

How is in sampling.py: by a matrix, with 16 weights for each point.
"""

from functools import partial
from typing import NamedTuple

import numpy as np

from ministn.errors import check_arrays, check_float32
from ministn.fast.sampling import (
    Kernel,
    Neighbours,
    gradient_of_grid,
    gradient_of_image,
    sample,
)
from ministn.ops.bicubic import check_slope, keys
from ministn.ops.sampling import check_sampler


class Cache(NamedTuple):
    shape: tuple[int, ...]  # of the image
    grid: np.ndarray
    border: str
    kernel: Kernel
    slopes: np.ndarray  # (2, N, h, w, C): dV/dx^s and dV/dy^s


def bicubic_sampler(
    image: np.ndarray,
    grid: np.ndarray,
    *,
    border: str = "nearest",
    fill: float = 0.0,
    a: float = -0.5,
) -> tuple[np.ndarray, Cache]:
    """image (N, H, W, C) at grid (N, h, w, 2) -> y (N, h, w, C). STN equation (3), Keys' kernel.

    Raises TypeError for a dtype other than float32, ValueError as in ops.
    """
    a = check_slope(a)
    check_sampler(image, grid, border, fill)
    check_float32(image=image)
    kernel = partial(_cubic, a=a)
    y, slopes = sample(image, grid, border, fill, kernel)
    return y, Cache(image.shape, grid, border, kernel, slopes)


def bicubic_sampler_backward(
    dy: np.ndarray, cache: Cache, need_dimage: bool = True
) -> tuple[np.ndarray | None, np.ndarray]:
    """dy (N, h, w, C) -> dimage (N, H, W, C) or None, dgrid (N, h, w, 2)."""
    shape, grid, border, kernel, slopes = cache
    check_arrays(slopes=(slopes, "2 N h w C"), dy=(dy, "N h w C"))
    dimage = gradient_of_image(dy, grid, shape, border, kernel) if need_dimage else None
    return dimage, gradient_of_grid(dy, slopes, shape)


def _cubic(f: np.ndarray, a: float) -> Neighbours:
    """Two pixels on each side."""
    weights, slopes = zip(*(keys(f - offset, a) for offset in range(-1, 3)), strict=True)
    return -1, list(weights), list(slopes)
