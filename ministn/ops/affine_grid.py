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


def affine_grid(theta: np.ndarray, size: tuple[int, ...]) -> tuple[np.ndarray, Cache]:
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


def at_targets(matrix: np.ndarray, *axes: np.ndarray) -> np.ndarray:
    """matrix (N, R, 3) times every target (x, y, 1), xt (w,) and yt (h, 1) -> (N, R, h, w).

    In three dimensions matrix is (N, R, 4), and zt (d, 1, 1) follows. Elementwise and not a matrix
    product, so that the identity returns xt and yt to the last bit.
    """
    row = matrix.reshape(*matrix.shape, *[1] * len(axes))  # (N, R, 3, 1, 1) against (h, w)
    with np.errstate(over="ignore", invalid="ignore"):  # inf * 0
        place = row[:, :, 0] * axes[0]
        for k, axis in enumerate(axes[1:], 1):
            place = place + row[:, :, k] * axis
        return place + row[:, :, -1]


def targets(*axes: np.ndarray) -> np.ndarray:
    """A row (x, y, 1) for every output pixel, (h w, 3), of axes xt, yt as ``at_targets`` has them.

    Or a row (x, y, z, 1) for every output voxel: (d h w, 4).
    """
    rows = np.ones((*np.broadcast_shapes(*map(np.shape, axes)), len(axes) + 1), axes[0].dtype)
    for k, axis in enumerate(axes):
        rows[..., k] = axis
    return rows.reshape(-1, len(axes) + 1)


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


def check_size(size: tuple[int, ...], axes: str = "h w", name: str = "size") -> tuple[int, ...]:
    """(h, w), or what ``axes`` names, as ints of at least 1. Raises ValueError for others."""
    names = axes.split()
    try:
        lengths = tuple(index(length) for length in size if not isinstance(length, bool))
    except TypeError:
        lengths = ()
    if len(lengths) != len(names):
        count = {2: "two", 3: "three"}[len(names)]
        raise ValueError(f"{name} must be {count} whole numbers ({', '.join(names)}), got {size!r}")
    if min(lengths) < 1:
        raise ValueError(f"{name} must be at least {(1,) * len(names)}, got {size!r}")
    return lengths
