"""An affine transform of volumes."""

from typing import Any

import numpy as np

from ministn.backend import joined
from ministn.engines import implementation
from ministn.transformer.transforms.linear import AFFINE
from ministn.transformer.transforms.transform import Size, Transform


class Affine3d(Transform):
    """A 3x4 matrix by rows: STN appendix A.3, see ops/affine_grid_3d.py.

    size is (d, h, w), and the grid (N, d, h, w, 3), triples (x, y, z): for Sampler("trilinear").
    """

    axes = "d h w"

    identity = (1.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0)

    def forward(self, theta: np.ndarray, size: Size) -> tuple[np.ndarray, Any]:
        self._check(theta)
        affine_grid_3d, backward = implementation("affine_grid_3d", theta)
        grid, cache = affine_grid_3d(theta.reshape(-1, 3, 4), size)
        return grid, (backward, cache)

    def backward(self, dgrid: np.ndarray, cache: Any) -> np.ndarray:
        backward, cache = cache
        return backward(dgrid, cache).reshape(-1, 12)

    def affine(self, theta: np.ndarray, grid: np.ndarray) -> np.ndarray:
        """The affine transform (N, 2, 3) nearest to what T_theta makes of x and y, whatever z is.

        It is what a projection along the depth shows of theta. As z has mean 0 over the output, it
        is theta without its third row and column.
        """
        self._check(theta, grid=grid)
        rows = theta.reshape(-1, 3, 4)[:, :2]
        return joined([rows[..., :2], rows[..., 3:]])

    def resized(self, theta: np.ndarray, grid: np.ndarray, size: Size) -> np.ndarray:
        """The same as a grid (N, h, w, 2) of that size."""
        return AFFINE.forward(self.affine(theta, grid).reshape(-1, 6), size)[0]
