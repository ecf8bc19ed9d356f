"""M_theta B, with B learned."""

from typing import Any

import numpy as np

from ministn.backend import device_of
from ministn.engines import implementation
from ministn.errors import check_kind
from ministn.initializers import Constant
from ministn.ops.affine_grid import check_size
from ministn.parameter import Parameter
from ministn.transformer.transforms.linear import Linear
from ministn.transformer.transforms.transform import Size, Transform, regular_grid


class General(Transform):
    """T_theta = M_theta B with B learned too (the end of STN section 3.2), at one output size.

    B is the parameter path/basis (P + 1, h, w, 2), B_0 first. It begins as that of ``start``, in
    float32, in which networks are trained.

    Raises TypeError for a start that is not Linear: Projective and Affine3d have no B.
    """

    def __init__(self, path: str, start: Linear, size: Size) -> None:
        check_kind("path", path, str)
        check_kind("start", start, Linear)
        self.start = start
        self.identity = start.identity
        self.size = check_size(size)
        basis = start.grids(self.size, np.dtype(np.float32))
        self.basis = Parameter(path + "/basis", basis.shape, Constant(basis))

    def forward(self, theta: np.ndarray, size: Size) -> tuple[np.ndarray, Any]:
        self._check(theta)
        if check_size(size) != self.size:
            raise ValueError(f"size must be {self.size}, at which B is learned, got {size!r}")
        basis_grid, backward = implementation("basis_grid", theta)
        grid, cache = basis_grid(theta, self.basis.data)
        return grid, (backward, cache)

    def backward(self, dgrid: np.ndarray, cache: Any) -> np.ndarray:
        backward, cache = cache
        dtheta, dbasis = backward(dgrid, cache)
        self.basis.add(dbasis)
        return dtheta

    def resized(self, theta: np.ndarray, grid: np.ndarray, size: Size) -> np.ndarray:
        """B is known at the pixels of its own size; between them the grid is read bilinearly."""
        self._check(theta, grid=grid)
        places = np.tile(regular_grid(size, grid.dtype), (len(grid), 1, 1, 1))
        device = device_of(grid)
        sample, _ = implementation("bilinear_sampler", grid)
        return sample(grid, places if device is None else device.to_gpu(places))[0]

    def parameters(self) -> list[Parameter]:
        return [self.basis]
