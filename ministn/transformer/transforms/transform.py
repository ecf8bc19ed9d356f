"""What all transforms are."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np

from ministn.backend import Device, device_of
from ministn.engines import function
from ministn.errors import FLOATS, check_arrays
from ministn.ops.affine_grid import check_size, pixel_centres
from ministn.parameter import Parameter

Size = tuple[int, ...]  # (h, w), or (d, h, w) of a volume


class Transform(ABC):
    """What a SpatialTransformer needs of a transform. axes: of the output's size."""

    identity: Sequence[float]
    axes = "h w"

    @abstractmethod
    def forward(self, theta: np.ndarray, size: Size) -> tuple[np.ndarray, Any]:
        """theta (N, P), size (h, w) of the output -> grid (N, h, w, 2), pairs (x, y).

        Raises TypeError for a wrong dtype, ValueError for a wrong shape or size.
        """

    @abstractmethod
    def backward(self, dgrid: np.ndarray, cache: Any) -> np.ndarray:
        """dgrid (N, h, w, 2) -> dtheta (N, P)."""

    def parameters(self) -> list[Parameter]:
        """What is learned beside theta's network."""
        return []

    def affine(self, theta: np.ndarray, grid: np.ndarray) -> np.ndarray:
        """The affine transform (N, 2, 3) nearest to T_theta: theta and its grid (N, h, w, 2) -> A.

        Least squares over the output's pixels: what of T_theta is shift, scale, rotation and
        skew. Along an axis of length 1 there is nothing to see of them, and A has 0.
        """
        self._check(theta, grid=grid)
        _, h, w, _ = grid.shape
        duals = _duals((h, w), grid.dtype, device_of(grid))
        return function("grid_products", grid)(grid, duals).reshape(-1, 2, 3)

    def resized(self, theta: np.ndarray, grid: np.ndarray, size: Size) -> np.ndarray:
        """T_theta at the pixels of another output: theta, its grid (N, h, w, 2) and that size."""
        self._check(theta, grid=grid)
        return self.forward(theta, size)[0]

    def _check(self, theta: np.ndarray, **grid: np.ndarray) -> None:
        check_arrays(
            theta=(theta, f"N {len(self.identity)}"),
            **{
                name: (array, f"N {self.axes} {len(self.axes.split())}")
                for name, array in grid.items()
            },
        )


def regular_grid(size: Size, dtype: np.dtype) -> np.ndarray:
    """The pixel centres of an output: (h, w, 2), pairs (x, y).

    Raises ValueError for a size as check_size does, TypeError for a dtype that is not float32 or
    float64.
    """
    h, w = check_size(size)
    if dtype not in FLOATS:
        raise TypeError(f"dtype must be float32 or float64, got {dtype!r}")
    x, y = np.meshgrid(pixel_centres(w, dtype), pixel_centres(h, dtype))
    return np.stack([x, y], axis=-1)


@cache
def _duals(size: Size, dtype: np.dtype, device: Device | None) -> np.ndarray:
    """(6, h, w, 2): their products with a grid are the nearest affine transform's elements.

    x, y and 1 are orthogonal over a regular grid, so the least squares fit of each is by itself:
    <grid, B_p> / <B_p, B_p>, with the B_p of Affine.
    """
    basis = np.zeros((6, *size, 2))
    basis[:2, ..., 0] = basis[3:5, ..., 1] = np.moveaxis(regular_grid(size, basis.dtype), -1, 0)
    basis[2, ..., 0] = basis[5, ..., 1] = 1
    squares = (basis**2).sum(axis=(1, 2, 3), keepdims=True)
    duals = (basis / np.where(squares > 0, squares, 1)).astype(dtype)
    return duals if device is None else device.to_gpu(duals)
