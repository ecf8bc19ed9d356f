"""Transforms: theta -> where in the input each output pixel is sampled, and back (STN section 3.2).

    grid, cache = transform.forward(theta, size)    theta (N, P), size (h, w) -> grid (N, h, w, 2)
    dtheta = transform.backward(dgrid, cache)

``transform.identity``, P numbers, is the theta that changes nothing: what a localisation network's
last layer begins with (transformer.regression_layer). All transforms map output to input, in the
coordinates of ops/affine_grid.py: x to the right, -1 and +1 the centres of the first and the last
pixel. At the identity the grid is the pixel centres to the last bit.

    Affine, Attention, Translation, Similarity      a 2x3 matrix, of 6, 3, 2, 4 parameters
    Projective                                      8 parameters
    ThinPlateSpline, PiecewiseAffine                offsets of a regular grid of control points
    General                                         M_theta B, with B learned
    Affine3d                                        a 3x4 matrix, for volumes

Where theta is not finite neither is the grid, and the sampler gives NaN there.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
from scipy.special import xlogy

from ministn.backend import Device, device_of, joined
from ministn.engines import function, implementation
from ministn.errors import FLOATS, check_arrays, check_count, check_kind, check_number, is_whole
from ministn.initializers import Constant
from ministn.layers import SMALLEST
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


# ---- affine transforms with fewer parameters

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


# ---- transforms that bend


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


# ---- B learned


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


# ---- constants


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
def _grids(transform: Linear, size: Size, dtype: np.dtype, device: Device | None) -> np.ndarray:
    """B on the engine that computes with it: a copy to a GPU waits for it."""
    grids = transform.grids(size, dtype)
    return grids if device is None else device.to_gpu(grids)


@cache
def _duals(size: Size, dtype: np.dtype, device: Device | None) -> np.ndarray:
    """(6, h, w, 2): their products with a grid are the nearest affine transform's elements.

    x, y and 1 are orthogonal over a regular grid, so the least squares fit of each is by itself:
    <grid, B_p> / <B_p, B_p>, with the B_p of Affine.
    """
    basis = AFFINE.grids(size, np.dtype(np.float64))[1:]
    squares = (basis**2).sum(axis=(1, 2, 3), keepdims=True)
    duals = (basis / np.where(squares > 0, squares, 1)).astype(dtype)
    return duals if device is None else device.to_gpu(duals)
