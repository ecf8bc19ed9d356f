"""ops/projective_grid.py on a GPU: see projective_grid.cu."""

from typing import NamedTuple

import numpy as np

from ministn.backend import Array, device_holding
from ministn.cuda.affine_grid import centres
from ministn.cuda.launch import blocks_for, launch
from ministn.errors import check_arrays
from ministn.ops.affine_grid import check_size


class Cache(NamedTuple):
    theta: Array
    xt: Array  # (w,)
    yt: Array  # (h,)


def projective_grid(theta: Array, size: tuple[int, int]) -> tuple[Array, Cache]:
    """theta (N, 8), size (h, w) -> grid (N, h, w, 2), NumPy's to the last bit.

    Raises as in ops, and TypeError for a dtype other than float32.
    """
    n = check_arrays(theta=(theta, "N 8"))["N"]
    h, w = check_size(size)
    device = device_holding(theta=theta)
    theta = device.contiguous(theta)
    xt, yt = centres(device, w), centres(device, h)
    grid = device.empty((n, h, w, 2), np.float32)
    pixels = n * h * w
    launch(
        "projective_grid",
        "projective_grid",
        blocks_for(pixels),
        *(theta, xt, yt, grid),
        *(pixels, h, w),
    )
    return grid, Cache(theta, xt, yt)


def projective_grid_backward(dgrid: Array, cache: Cache) -> Array:
    """dgrid (N, h, w, 2) -> dtheta (N, 8)."""
    theta, xt, yt = cache
    check_arrays(theta=(theta, "N 8"), xt=(xt, "w"), yt=(yt, "h"), dgrid=(dgrid, "N h w 2"))
    device = device_holding(dgrid=dgrid)
    dtheta = device.empty(theta.shape, np.float32)
    launch(
        "projective_grid",
        "projective_grid_backward",
        len(theta),
        *(device.contiguous(dgrid), theta, xt, yt, dtheta),
        *(len(yt), len(xt)),
    )
    return dtheta
