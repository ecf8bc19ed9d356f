"""The grid generator: where in the input each output pixel is sampled.

STN equation (1), for every output pixel i = (x^t, y^t):

    x^s = theta_11 x^t + theta_12 y^t + theta_13
    y^s = theta_21 x^t + theta_22 y^t + theta_23

    dtheta_11 = sum_i dx^s_i x^t_i,   dtheta_12 = sum_i dx^s_i y^t_i,   dtheta_13 = sum_i dx^s_i

and so for the second row with dy^s. With a row (dx^s_i, dy^s_i) of dgrid and a row
(x^t_i, y^t_i, 1) of targets for every i, that is dtheta = dgrid^T targets.

Convention: t is target (output), s is source (input), so theta maps *output to input*: a theta
of scale 1/2 shows the middle of the input enlarged. x is horizontal and comes first. -1 and +1
are the centres of the first and the last pixel; an axis of length 1 has coordinate 0.
"""

from operator import index
from typing import NamedTuple

import numpy as np

from ministn.errors import check_arrays


class Cache(NamedTuple):
    n: int
    xt: np.ndarray  # (w,): the grid is linear in theta, so its gradient needs only xt and yt
    yt: np.ndarray  # (h, 1)


def affine_grid(theta: np.ndarray, size: tuple[int, int]) -> tuple[np.ndarray, Cache]:
    """theta (N, 2, 3), size (h, w) of the output -> grid (N, h, w, 2), pairs (x, y) in [-1, 1].

    Raises TypeError for a wrong dtype, ValueError for a wrong shape or size.
    """
    check_arrays(theta=(theta, "N 2 3"))
    h, w = check_size(size)
    xt = pixel_centres(w, theta.dtype)
    yt = pixel_centres(h, theta.dtype)[:, None]
    grid = at_targets(theta, xt, yt)  # STN (1)
    return np.ascontiguousarray(grid.transpose(0, 2, 3, 1)), Cache(len(theta), xt, yt)


def affine_grid_backward(dgrid: np.ndarray, cache: Cache) -> np.ndarray:
    """dgrid (N, h, w, 2) -> dtheta (N, 2, 3)."""
    n, xt, yt = cache
    check_arrays(xt=(xt, "w"), yt=(yt, "h 1"), dgrid=(dgrid, f"{n} h w 2"))
    points = targets(xt, yt)
    return dgrid.reshape(n, len(points), 2).transpose(0, 2, 1) @ points


def at_targets(matrix: np.ndarray, xt: np.ndarray, yt: np.ndarray) -> np.ndarray:
    """matrix (N, R, 3) times every target (x, y, 1), xt (w,) and yt (h, 1) -> (N, R, h, w).

    Elementwise and not a matrix product, so that the identity returns xt and yt to the last bit.
    """
    row = matrix[..., None, None]  # (N, R, 3, 1, 1) against (h, w)
    with np.errstate(over="ignore", invalid="ignore"):  # inf * 0
        return row[:, :, 0] * xt + row[:, :, 1] * yt + row[:, :, 2]


def targets(xt: np.ndarray, yt: np.ndarray) -> np.ndarray:
    """A row (x, y, 1) for every output pixel: (h w, 3)."""
    return np.stack(np.broadcast_arrays(xt, yt, np.ones_like(yt)), axis=-1).reshape(-1, 3)


def pixel_centres(length: int, dtype: np.dtype) -> np.ndarray:
    """(length,) normalised coordinates of the pixel centres of one axis, from -1 to 1.

    The sampler turns g back into pixels as g * half + half, half = (length - 1) / 2. Rounding
    may return 6.9999995 for pixel 7, whose slope would be taken from the cell to its left: at the
    identity, where every network starts, that is one pixel in a hundred. So a centre that would
    come back too small is the next larger number instead. Rounding never reverses an order: as
    that number is not below the true centre, its pixel coordinate is not below the pixel.
    """
    if length == 1:
        return np.zeros(1, dtype)
    pixel = np.arange(length, dtype=dtype)
    half = (length - 1) / 2
    centre = (pixel - half) / half
    return np.where(centre * half + half < pixel, np.nextafter(centre, 1, dtype=dtype), centre)


def check_size(size: tuple[int, int]) -> tuple[int, int]:
    """(h, w) as two ints of at least 1. Raises ValueError for anything else."""
    try:
        h, w = (index(length) for length in size)
    except (TypeError, ValueError):
        raise ValueError(f"size must be two whole numbers (h, w), got {size!r}") from None
    if h < 1 or w < 1:
        raise ValueError(f"size must be at least (1, 1), got {size!r}")
    return h, w
