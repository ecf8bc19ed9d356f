"""ops/affine_grid_3d.py on a GPU: see affine_grid_3d.cu."""

from typing import NamedTuple

import numpy as np

from ministn.backend import Array, device_holding
from ministn.cuda.affine_grid import centres
from ministn.cuda.launch import blocks_for, launch
from ministn.errors import check_arrays
from ministn.ops.affine_grid import check_size


class Cache(NamedTuple):
    n: int
    xt: Array  # (w,)
    yt: Array  # (h,)
    zt: Array  # (d,)


def affine_grid_3d(theta: Array, size: tuple[int, ...]) -> tuple[Array, Cache]:
    """theta (N, 3, 4), size (d, h, w) -> grid (N, d, h, w, 3), NumPy's to the last bit.

    Raises as in ops, and TypeError for a dtype other than float32.
    """
    n = check_arrays(theta=(theta, "N 3 4"))["N"]
    d, h, w = check_size(size, "d h w")
    device = device_holding(theta=theta)
    xt, yt, zt = centres(device, w), centres(device, h), centres(device, d)
    grid = device.empty((n, d, h, w, 3), np.float32)
    voxels = n * d * h * w
    launch(
        "affine_grid_3d",
        "affine_grid_3d",
        blocks_for(voxels),
        *(device.contiguous(theta), xt, yt, zt, grid),
        *(voxels, d, h, w),
    )
    return grid, Cache(n, xt, yt, zt)


def affine_grid_3d_backward(dgrid: Array, cache: Cache) -> Array:
    """dgrid (N, d, h, w, 3) -> dtheta (N, 3, 4)."""
    n, xt, yt, zt = cache
    check_arrays(xt=(xt, "w"), yt=(yt, "h"), zt=(zt, "d"), dgrid=(dgrid, f"{n} d h w 3"))
    device = device_holding(dgrid=dgrid)
    dtheta = device.empty((n, 3, 4), np.float32)
    launch(
        "affine_grid_3d",
        "affine_grid_3d_backward",
        n,
        *(device.contiguous(dgrid), xt, yt, zt, dtheta),
        *(len(zt), len(yt), len(xt)),
    )
    return dtheta
