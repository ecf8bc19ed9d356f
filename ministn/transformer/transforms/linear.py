"""Transforms that are linear in theta, and those of them that are a 2x3 matrix."""

from abc import abstractmethod
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np

from ministn.backend import Device, device_of
from ministn.engines import implementation
from ministn.errors import check_number
from ministn.layers import SMALLEST
from ministn.ops.affine_grid import check_size
from ministn.transformer.transforms.transform import Size, Transform, regular_grid


class Linear(Transform):
    """T_theta = B_0 + sum_p theta_p B_p, see ops/basis_grid.py: a subclass says what B is."""

    @abstractmethod
    def grids(self, size: Size, dtype: np.dtype) -> np.ndarray:
        """B (P + 1, h, w, 2), B_0 first; computed once for each size."""

    def forward(self, theta: np.ndarray, size: Size) -> tuple[np.ndarray, Any]:
        self._check(theta)
        basis = _grids(self, check_size(size), theta.dtype, device_of(theta))
        basis_grid, backward = implementation("basis_grid", theta)
        grid, cache = basis_grid(theta, basis)
        return grid, (backward, cache)

    def backward(self, dgrid: np.ndarray, cache: Any) -> np.ndarray:
        backward, cache = cache
        dtheta, _ = backward(dgrid, cache, need_dbasis=False)
        return dtheta


@cache
def _grids(transform: Linear, size: Size, dtype: np.dtype, device: Device | None) -> np.ndarray:
    """B on the engine that computes with it: a copy to a GPU waits for it."""
    grids = transform.grids(size, dtype)
    return grids if device is None else device.to_gpu(grids)


# ---- affine transforms

Matrix = tuple[tuple[float, float, float], tuple[float, float, float]]

NOTHING: Matrix = ((0, 0, 0), (0, 0, 0))
UNIT: Matrix = ((1, 0, 0), (0, 1, 0))
TURN: Matrix = ((0, -1, 0), (1, 0, 0))
SHIFT_X: Matrix = ((0, 0, 1), (0, 0, 0))
SHIFT_Y: Matrix = ((0, 0, 0), (0, 0, 1))


class OfMatrix(Linear):
    """An affine transform whose matrix is A_theta = A_0 + sum_p theta_p A_p."""

    matrices: Sequence[Matrix]  # A_0 first

    def grids(self, size: Size, dtype: np.dtype) -> np.ndarray:
        pixels = regular_grid(size, dtype)
        # The matrices hold 0, 1 and -1, or a scale and 0: no sum is rounded.
        matrices = np.array(self.matrices, dtype)
        linear = np.einsum("pab,hwb->phwa", matrices[:, :, :2], pixels)
        return np.ascontiguousarray(linear + matrices[:, None, None, :, 2])


class Attention(OfMatrix):
    """A = [[s, 0, t_x], [0, s, t_y]], theta = (s, t_x, t_y). STN equation (2)."""

    identity = (1.0, 0.0, 0.0)
    matrices = (NOTHING, UNIT, SHIFT_X, SHIFT_Y)


class Translation(OfMatrix):
    """A = [[s, 0, t_x], [0, s, t_y]], theta = (t_x, t_y), with s the same always.

    scale: s, of the window's sides over the image's: of STN section 4.3 a half. Where it is not 1,
    what ``identity`` shows is the window in the middle. Raises ValueError for one not above 0.
    """

    identity = (0.0, 0.0)

    def __init__(self, scale: float = 1.0) -> None:
        self.scale = check_number("scale", scale, SMALLEST)
        self.matrices = ((self.scale, 0, 0), (0, self.scale, 0)), SHIFT_X, SHIFT_Y


class Similarity(OfMatrix):
    """A = [[a, -b, t_x], [b, a, t_y]], theta = (a, b, t_x, t_y): scale (a^2 + b^2)^1/2, angle b:a.

    Of normalised coordinates: an image that is not square is skewed as it turns.
    """

    identity = (1.0, 0.0, 0.0, 0.0)
    matrices = (NOTHING, UNIT, TURN, SHIFT_X, SHIFT_Y)


class Affine(OfMatrix):
    """A = [[theta_1, theta_2, theta_3], [theta_4, theta_5, theta_6]]. STN equation (1).

    By ops/affine_grid.py, which needs no basis in memory; ``grids`` is for General.
    """

    identity = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
    matrices = (
        NOTHING,
        ((1, 0, 0), (0, 0, 0)),
        ((0, 1, 0), (0, 0, 0)),
        SHIFT_X,
        ((0, 0, 0), (1, 0, 0)),
        ((0, 0, 0), (0, 1, 0)),
        SHIFT_Y,
    )

    def forward(self, theta: np.ndarray, size: Size) -> tuple[np.ndarray, Any]:
        self._check(theta)
        affine_grid, backward = implementation("affine_grid", theta)
        grid, cache = affine_grid(theta.reshape(-1, 2, 3), size)
        return grid, (backward, cache)

    def backward(self, dgrid: np.ndarray, cache: Any) -> np.ndarray:
        backward, cache = cache
        return backward(dgrid, cache).reshape(-1, 6)

    def affine(self, theta: np.ndarray, grid: np.ndarray) -> np.ndarray:
        """theta itself."""
        self._check(theta, grid=grid)
        return theta.reshape(-1, 2, 3)


AFFINE = Affine()
