"""What distorting digits takes: homographies, thin plate splines, and images warped as bytes.

Points are pairs (x, y), normalised as everywhere: -1 and +1 are the centres of the first and the
last pixel. A grid says for each pixel of the distorted image where in the digit's image it is read.
"""

from functools import cache

import numpy as np

from ministn.backend import Array
from ministn.engines import function, implementation
from ministn.ops.affine_grid import pixel_centres
from ministn.pose import FRAME

CENTRES = FRAME.reshape(-1, 2)  # the 4x4 control points of a spline


def warp(images: Array, grid: Array) -> Array:
    """images (n, H, W) uint8 at grid (n, h, w, 2) float32 -> (n, h, w) uint8, on their engine.

    Bilinear, black outside the image.
    """
    return as_bytes(sampled(images, grid))


def sampled(images: Array, grid: Array) -> Array:
    """The same as float32 from 0 to 1."""
    x = function("as_batch", images)(images)
    bilinear_sampler, _ = implementation("bilinear_sampler", x)
    return bilinear_sampler(x, grid, border="zeros")[0][..., 0]


def as_bytes(x: Array) -> Array:
    """0 to 1 as uint8, rounded to the nearest."""
    return (x * 255 + 0.5).astype(np.uint8)


# -- homographies ----------------------------------------------------------------------------------


def homography(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """The matrices (n, 3, 3) that take four points source (4, 2) to targets (n, 4, 2).

    Each set of four is the image of the same four points of the projective plane, (1, 0, 0),
    (0, 1, 0), (0, 0, 1) and (1, 1, 1), under one matrix; going back along one and forth along the
    other is the homography.
    """
    return _from_standard(target) @ np.linalg.inv(_from_standard(source[None]))


def _from_standard(points: np.ndarray) -> np.ndarray:
    """(n, 3, 3): three of the points (n, 4, 2) as columns, scaled so that they add to the last."""
    columns = _homogeneous(points).transpose(0, 2, 1)
    return columns[..., :3] * np.linalg.solve(columns[..., :3], columns[..., 3:])[:, None, :, 0]


def project(matrix: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Points (k, 2) through each of the homographies (n, 3, 3): (n, k, 2)."""
    image = _homogeneous(points) @ matrix.transpose(0, 2, 1)
    return image[..., :2] / image[..., 2:]


def projective_grid(matrix: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Homographies (n, 3, 3), size (h, w) -> grid (n, h, w, 2).

    A point on the horizon, where the denominator is zero, is read far outside the image.
    """
    h, w = size
    rows = matrix[..., None, None]  # (n, 3, 3, 1, 1) against (h, w)
    xt, yt = pixel_centres(w, matrix.dtype), pixel_centres(h, matrix.dtype)[:, None]
    x, y, z = (rows[:, i, 0] * xt + rows[:, i, 1] * yt + rows[:, i, 2] for i in range(3))
    z = np.where(np.abs(z) < 1e-6, matrix.dtype.type(1e-6), z)
    return np.stack([x / z, y / z], axis=-1)


def _homogeneous(points: np.ndarray) -> np.ndarray:
    return np.concatenate([points, np.ones_like(points[..., :1])], axis=-1)


# -- thin plate splines ----------------------------------------------------------------------------
#
# The spline through values v_k at the centres c_k, which bends as little as possible between them:
#
#     f(p) = a_0 + a_x x + a_y y + sum_k w_k U(|p - c_k|),    U(r) = r^2 ln r^2
#
# with sum_k w_k = 0 and sum_k w_k c_k = 0. Its coefficients are linear in the values, and so is f:
# f(p) = sum_k influence_k(p) v_k.


def spline(values: np.ndarray, points: np.ndarray) -> np.ndarray:
    """The splines through values (n, 16, 2) at points (k, 2) or (n, k, 2): (n, k, 2)."""
    return _basis(points) @ _solution() @ values


def spline_grid(values: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Splines through values (n, 16, 2), size (h, w) -> grid (n, h, w, 2)."""
    return (_influence(size).astype(values.dtype) @ values).reshape(-1, *size, 2)


def spline_inverse(values: np.ndarray, images: np.ndarray, steps: int = 10) -> np.ndarray:
    """Points (n, k, 2) that the splines take to images (n, k, 2), by Newton's method.

    Where a spline folds there are several; then which of them is found, if any, is undefined.
    """
    points = images.copy()
    coefficients = (_solution() @ values)[:, None]  # (n, 1, 19, 2)
    for _ in range(steps):
        away = (spline(values, points) - images)[..., None]
        slope = _slopes(points) @ coefficients  # (n, k, 2, 2): rows d/dx and d/dy
        points = points - np.linalg.solve(slope.transpose(0, 1, 3, 2), away)[..., 0]
    return points


def _basis(points: np.ndarray) -> np.ndarray:
    """1, x, y and U of the distance to each centre: (..., 19)."""
    square = ((points[..., None, :] - CENTRES) ** 2).sum(axis=-1)
    bump = square * np.log(np.where(square == 0, 1, square))
    return np.concatenate([np.ones_like(points[..., :1]), points, bump], axis=-1)


def _slopes(points: np.ndarray) -> np.ndarray:
    """The derivatives of _basis with respect to x and y: (..., 2, 19)."""
    offset = (points[..., None, :] - CENTRES).swapaxes(-1, -2)  # (..., 2, 16)
    square = (offset**2).sum(axis=-2, keepdims=True)
    bump = 2 * offset * (np.log(np.where(square == 0, 1, square)) + 1)
    affine = np.broadcast_to(np.eye(3)[1:], (*bump.shape[:-1], 3))
    return np.concatenate([affine, bump], axis=-1)


@cache
def _solution() -> np.ndarray:
    """(19, 16): from values at the centres to coefficients."""
    basis = _basis(CENTRES)
    conditions = np.concatenate([basis[:, :3].T, np.zeros((3, 3))], axis=1)
    system = np.concatenate([basis[:, [*range(3, 19), 0, 1, 2]], conditions])
    inverse = np.linalg.inv(system)[:, :16]
    return np.concatenate([inverse[16:], inverse[:16]])


@cache
def _influence(size: tuple[int, int]) -> np.ndarray:
    """(h w, 16): what each value weighs at each pixel."""
    h, w = size
    points = np.stack(np.meshgrid(*(pixel_centres(k, np.dtype(float)) for k in (w, h))), axis=-1)
    return _basis(points.reshape(-1, 2)) @ _solution()
