"""Transforms that bend: offsets of a regular grid of control points."""

from abc import abstractmethod

import numpy as np
from scipy.special import xlogy

from ministn.errors import check_count, is_whole
from ministn.transformer.transforms.linear import Linear
from ministn.transformer.transforms.transform import Size, regular_grid


class ControlPoints(Linear):
    """T_theta(x, y) = (x, y) + sum_k phi_k(x, y) (dx_k, dy_k), phi_k(point j) = 1 if j = k else 0.

    The K control points lie on a regular grid over the output, its corners among them, numbered by
    rows. theta = (dx_1 .. dx_K, dy_1 .. dy_K) says how far each one's source lies from it; zeros
    are the identity. A subclass says what goes on between the points.

    Raises ValueError for anything but two or more rows and columns: points on one line, or in one
    place, do not determine it.
    """

    def __init__(self, rows: int = 4, columns: int = 4) -> None:
        if not all(is_whole(n) and n >= 2 for n in (rows, columns)):
            raise ValueError(
                "control points must have at least 2 rows and 2 columns, whole numbers of both, "
                f"got {rows!r} by {columns!r}"
            )
        self.rows, self.columns = check_count("rows", rows), check_count("columns", columns)
        x, y = np.meshgrid(np.linspace(-1, 1, columns), np.linspace(-1, 1, rows))
        self.points = np.stack([x, y], axis=-1).reshape(-1, 2)
        self.identity = (0.0,) * (2 * len(self.points))

    @abstractmethod
    def influence(self, places: np.ndarray) -> np.ndarray:
        """phi_k at places (M, 2), pairs (x, y) -> (M, K), all float64."""

    def grids(self, size: Size, dtype: np.dtype) -> np.ndarray:
        pixels, count = regular_grid(size, dtype), len(self.points)
        phi = self.influence(pixels.reshape(-1, 2).astype(np.float64)).T.reshape(count, *size)
        basis = np.zeros((2 * count + 1, *size, 2), dtype)
        basis[0] = pixels
        basis[1 : count + 1, ..., 0] = phi
        basis[count + 1 :, ..., 1] = phi
        return basis


class ThinPlateSpline(ControlPoints):
    """The smoothest map through the control points' sources (Bookstein 1989).

    phi(g) = sum_j w_j U(|g - c_j|^2) + a_0 + a_1 x + a_2 y with U(r^2) = r^2 ln r^2 bends least of
    all functions with given values at the points c_j, under

        [U  1 c] [w]   [values]
        [1^T   ] [a] = [0     ]
        [c^T   ]

    One column of values for each phi_k: 1 at its own point, 0 at the others.
    """

    def __init__(self, rows: int = 4, columns: int = 4) -> None:
        super().__init__(rows, columns)
        count = len(self.points)
        system = np.zeros((count + 3, count + 3))
        system[:count] = self._terms(self.points)
        system[count:, :count] = system[:count, count:].T
        self.coefficients = np.linalg.solve(system, np.eye(count + 3, count))

    def influence(self, places: np.ndarray) -> np.ndarray:
        return self._terms(places) @ self.coefficients

    def _terms(self, places: np.ndarray) -> np.ndarray:
        """U of every point, 1, x and y at places (M, 2): (M, K + 3)."""
        squared = ((places[:, None] - self.points) ** 2).sum(axis=-1)
        return np.column_stack([xlogy(squared, squared), np.ones(len(places)), places])


class PiecewiseAffine(ControlPoints):
    """One affine map for each triangle of a mesh, which keep hold of each other.

    The control points are the mesh's corners. Each of its cells is cut in two from its upper left
    to its lower right corner, and phi_k are the barycentric coordinates of the triangles.
    """

    def influence(self, places: np.ndarray) -> np.ndarray:
        cells = np.array([self.columns - 1, self.rows - 1])
        place = (places + 1) / 2 * cells
        cell = np.clip(np.floor(place), 0, cells - 1).astype(np.intp)
        (x, y), (column, row) = (place - cell).T, cell.T
        phi = np.zeros((len(places), len(self.points)))
        for right, below, weight in (
            (0, 0, 1 - np.maximum(x, y)),
            (1, 0, np.maximum(x - y, 0)),
            (0, 1, np.maximum(y - x, 0)),
            (1, 1, np.minimum(x, y)),
        ):
            phi[np.arange(len(places)), (row + below) * self.columns + column + right] = weight
        return phi
