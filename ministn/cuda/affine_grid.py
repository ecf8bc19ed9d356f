"""ops/affine_grid.py on a GPU: see affine_grid.cu."""

from functools import cache
from typing import NamedTuple

import numpy as np

from ministn.backend import Array, Device, device_holding
from ministn.cuda.launch import blocks_for, launch
from ministn.errors import check_arrays
from ministn.ops.affine_grid import check_size, pixel_centres


class Cache(NamedTuple):
    n: int
    xt: Array  # (w,)
    yt: Array  # (h,)


def affine_grid(theta: Array, size: tuple[int, int]) -> tuple[Array, Cache]:
    """theta (N, 2, 3), size (h, w) -> grid (N, h, w, 2), NumPy's to the last bit.

    Raises as in ops, and TypeError for a dtype other than float32.
    """
    n = check_arrays(theta=(theta, "N 2 3"))["N"]
    h, w = check_size(size)
    device = device_holding(theta=theta)
    xt, yt = centres(device, w), centres(device, h)
    grid = device.empty((n, h, w, 2), np.float32)
    pixels = n * h * w
    launch(
        "affine_grid",
        "affine_grid",
        blocks_for(pixels),
        *(device.contiguous(theta), xt, yt, grid),
        *(pixels, h, w),
    )
    return grid, Cache(n, xt, yt)


def affine_grid_backward(dgrid: Array, cache: Cache) -> Array:
    """dgrid (N, h, w, 2) -> dtheta (N, 2, 3)."""
    n, xt, yt = cache
    check_arrays(xt=(xt, "w"), yt=(yt, "h"), dgrid=(dgrid, f"{n} h w 2"))
    device = device_holding(dgrid=dgrid)
    dtheta = device.empty((n, 2, 3), np.float32)
    launch(
        "affine_grid",
        "affine_grid_backward",
        n,
        *(device.contiguous(dgrid), xt, yt, dtheta),
        *(len(yt), len(xt)),
    )
    return dtheta


@cache
def centres(device: Device, length: int) -> Array:
    """NumPy's pixel centres, copied once: a copy waits for the GPU."""
    return device.to_gpu(pixel_centres(length, np.dtype(np.float32)))
