"""A homography."""

from typing import Any

import numpy as np

from ministn.engines import implementation
from ministn.transformer.transforms.transform import Size, Transform


class Projective(Transform):
    """A homography of 8 parameters, see ops/projective_grid.py; zeros are the identity."""

    identity = (0.0,) * 8

    def forward(self, theta: np.ndarray, size: Size) -> tuple[np.ndarray, Any]:
        self._check(theta)
        projective_grid, backward = implementation("projective_grid", theta)
        grid, cache = projective_grid(theta, size)
        return grid, (backward, cache)

    def backward(self, dgrid: np.ndarray, cache: Any) -> np.ndarray:
        backward, cache = cache
        return backward(dgrid, cache)
