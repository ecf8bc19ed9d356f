"""The grid generator in three dimensions: where in the input each output voxel is sampled.

STN appendix A.3: equation (1) with one axis more, for every output voxel i = (x^t, y^t, z^t):

    x^s = theta_11 x^t + theta_12 y^t + theta_13 z^t + theta_14
    y^s = theta_21 x^t + theta_22 y^t + theta_23 z^t + theta_24
    z^s = theta_31 x^t + theta_32 y^t + theta_33 z^t + theta_34

    dtheta = dgrid^T targets,  a row (dx^s_i, dy^s_i, dz^s_i) and (x^t_i, y^t_i, z^t_i, 1) each

Convention: that of ops/affine_grid.py. z is the depth, a volume's first axis and a point's last.
"""

from typing import NamedTuple

import numpy as np

from ministn.errors import check_arrays
from ministn.ops.affine_grid import at_targets, check_size, pixel_centres, targets


class Cache(NamedTuple):
    n: int
    xt: np.ndarray  # (w,)
    yt: np.ndarray  # (h, 1)
    zt: np.ndarray  # (d, 1, 1)


def affine_grid_3d(theta: np.ndarray, size: tuple[int, ...]) -> tuple[np.ndarray, Cache]:
    """theta (N, 3, 4), size (d, h, w) of the output -> grid (N, d, h, w, 3), triples (x, y, z).

    -1 and +1 are the centres of the first and the last voxel. Raises TypeError for a wrong dtype,
    ValueError for a wrong shape or size.
    """
    check_arrays(theta=(theta, "N 3 4"))
    d, h, w = check_size(size, "d h w")
    xt = pixel_centres(w, theta.dtype)
    yt = pixel_centres(h, theta.dtype)[:, None]
    zt = pixel_centres(d, theta.dtype)[:, None, None]
    grid = at_targets(theta, xt, yt, zt)
    return np.ascontiguousarray(grid.transpose(0, 2, 3, 4, 1)), Cache(len(theta), xt, yt, zt)


def affine_grid_3d_backward(dgrid: np.ndarray, cache: Cache) -> np.ndarray:
    """dgrid (N, d, h, w, 3) -> dtheta (N, 3, 4)."""
    n, xt, yt, zt = cache
    check_arrays(xt=(xt, "w"), yt=(yt, "h 1"), zt=(zt, "d 1 1"), dgrid=(dgrid, f"{n} d h w 3"))
    points = targets(xt, yt, zt)
    return dgrid.reshape(n, len(points), 3).transpose(0, 2, 1) @ points
