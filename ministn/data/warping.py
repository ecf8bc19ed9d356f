"""What distorting digits takes: homographies, thin plate splines, and images warped as bytes.

Points are pairs (x, y), normalised as everywhere: -1 and +1 are the centres of the first and the
last pixel. A grid says for each pixel of the distorted image where in the digit's image it is read.
"""

import numpy as np

from ministn.backend import Array
from ministn.engines import function
from ministn.transformer.samplers import Sampler
from ministn.transformer.transforms import ThinPlateSpline

SPLINE = ThinPlateSpline()  # 4x4 control points
CENTRES = SPLINE.points
ON_BLACK = Sampler(border="zeros")


def warp(images: Array, grid: Array, sampler: Sampler = ON_BLACK) -> Array:
    """images (n, H, W) uint8 at the sampler's grid -> (n, h, w) uint8, on their engine.

    By default the grid is (n, h, w, 2) float32, bilinear, and outside the image it is black.
    """
    return as_bytes(sampled(images, grid, sampler))


def sampled(images: Array, grid: Array, sampler: Sampler = ON_BLACK) -> Array:
    """The same as float32 from 0 to 1."""
    return sampler.forward(function("as_batch", images)(images), grid)[0][..., 0]


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


def projective_theta(matrix: np.ndarray) -> np.ndarray:
    """Homographies (n, 3, 3) as theta (n, 8) of transforms.Projective."""
    scaled = matrix / matrix[:, 2:, 2:] - np.eye(3)
    return scaled.reshape(-1, 9)[:, :8]


def _homogeneous(points: np.ndarray) -> np.ndarray:
    return np.concatenate([points, np.ones_like(points[..., :1])], axis=-1)


# -- thin plate splines ----------------------------------------------------------------------------
#
# The spline through values v_k at the centres c_k is linear in them: f(p) = sum_k phi_k(p) v_k, see
# transforms.ThinPlateSpline.


def spline(values: np.ndarray, points: np.ndarray) -> np.ndarray:
    """The splines through values (n, 16, 2) at points (k, 2) or (n, k, 2): (n, k, 2)."""
    phi = SPLINE.influence(points.reshape(-1, 2)).reshape(*points.shape[:-1], -1)
    return phi @ values


def spline_theta(values: np.ndarray) -> np.ndarray:
    """Values (n, 16, 2) at the centres as theta (n, 32) of transforms.ThinPlateSpline."""
    return (values - CENTRES).transpose(0, 2, 1).reshape(len(values), -1)


def spline_inverse(values: np.ndarray, images: np.ndarray, steps: int = 10) -> np.ndarray:
    """Points (n, k, 2) that the splines take to images (n, k, 2), by Newton's method.

    Where a spline folds there are several; then which of them is found, if any, is undefined.
    """
    points = images.copy()
    coefficients = (SPLINE.coefficients @ values)[:, None]  # (n, 1, 19, 2)
    for _ in range(steps):
        away = (spline(values, points) - images)[..., None]
        slope = _slopes(points) @ coefficients  # (n, k, 2, 2): rows d/dx and d/dy
        points = points - np.linalg.solve(slope.transpose(0, 1, 3, 2), away)[..., 0]
    return points


def _slopes(points: np.ndarray) -> np.ndarray:
    """The derivatives of SPLINE's terms with respect to x and y: (..., 2, 19)."""
    offset = (points[..., None, :] - CENTRES).swapaxes(-1, -2)  # (..., 2, 16)
    square = (offset**2).sum(axis=-2, keepdims=True)
    bump = 2 * offset * (np.log(np.where(square == 0, 1, square)) + 1)
    affine = np.broadcast_to(np.eye(3)[1:], (*bump.shape[:-1], 3))  # of 1, x and y
    return np.concatenate([bump, affine], axis=-1)
