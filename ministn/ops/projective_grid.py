"""The grid of a plane projective transformation, 8 parameters (STN section 3.2 names it).

For every output pixel (x^t, y^t), with theta = (p_1 .. p_8),

    [u]   [1 + p_1  p_2      p_3] [x^t]
    [v] = [p_4      1 + p_5  p_6] [y^t],     x^s = u / d,    y^s = v / d
    [d]   [p_7      p_8      1  ] [1  ]

so that zeros are the identity, and with dx^s and dy^s from the sampler

    du = dx^s / d,    dv = dy^s / d,    dd = -(dx^s x^s + dy^s y^s) / d

    dp_1 = sum_i du_i x^t_i,  dp_2 = sum_i du_i y^t_i,  dp_3 = sum_i du_i,  and so on by rows.

Where d = 0 lies the horizon, and its pixels have no source. Within NEAR of it, d is replaced by
NEAR with d's sign (+ at 0): those pixels are read far outside the image, where the border decides,
and not at infinity, where they would be NaN. There d is constant, so p_7 and p_8 get no gradient.
A source inside the image has a slope of at most 1 / NEAR. Beyond the horizon d is negative, and
the formula holds as it stands. Where theta is not finite its grid is NaN or infinite: an infinite
d counts as NaN, as u / d would be 0, the middle of the image.
"""

from typing import NamedTuple

import numpy as np

from ministn.errors import check_arrays
from ministn.ops.affine_grid import at_targets, check_size, pixel_centres, targets

NEAR = 2.0**-10


class Cache(NamedTuple):
    grid: np.ndarray
    divisor: np.ndarray  # (N, h, w), d after it was kept away from 0
    horizon: np.ndarray  # (N, h, w) bool, where it was
    xt: np.ndarray  # (w,)
    yt: np.ndarray  # (h, 1)


def projective_grid(theta: np.ndarray, size: tuple[int, int]) -> tuple[np.ndarray, Cache]:
    """theta (N, 8), size (h, w) of the output -> grid (N, h, w, 2), pairs (x, y).

    Raises TypeError for a wrong dtype, ValueError for a wrong shape or size.
    """
    check_arrays(theta=(theta, "N 8"))
    h, w = check_size(size)
    xt, yt = pixel_centres(w, theta.dtype), pixel_centres(h, theta.dtype)[:, None]
    offsets = np.pad(theta, ((0, 0), (0, 1))).reshape(-1, 3, 3)
    rows = at_targets(offsets + np.eye(3, dtype=theta.dtype), xt, yt)
    d = rows[:, 2]
    horizon = np.abs(d) < NEAR
    divisor = np.where(horizon, np.copysign(theta.dtype.type(NEAR), d), d)
    divisor[np.isinf(d)] = np.nan
    with np.errstate(over="ignore", invalid="ignore"):  # inf / inf
        grid = np.stack([rows[:, 0] / divisor, rows[:, 1] / divisor], axis=-1)
    return grid, Cache(grid, divisor, horizon, xt, yt)


def projective_grid_backward(dgrid: np.ndarray, cache: Cache) -> np.ndarray:
    """dgrid (N, h, w, 2) -> dtheta (N, 8)."""
    grid, divisor, horizon, xt, yt = cache
    check_arrays(grid=(grid, "N h w 2"), dgrid=(dgrid, "N h w 2"))
    n, h, w, _ = grid.shape
    drows = np.empty((n, h, w, 3), grid.dtype)
    with np.errstate(over="ignore", invalid="ignore"):
        drows[..., :2] = dgrid / divisor[..., None]
        drows[..., 2] = -(drows[..., 0] * grid[..., 0] + drows[..., 1] * grid[..., 1])
        drows[horizon, 2] = 0
        dmatrix = drows.reshape(n, h * w, 3).transpose(0, 2, 1) @ targets(xt, yt)
    return dmatrix.reshape(n, 9)[:, :8]
