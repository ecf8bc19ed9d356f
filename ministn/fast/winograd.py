"""Winograd's convolution F(m x m, r x r): m x m outputs of an r x r kernel with (m + r - 1)^2
products, not m^2 r^2.

**One row.** Let u(t) and g(t) be polynomials with m and r coefficients. Their product has
n = m + r - 1: its values at n - 1 points and its leading coefficient determine it, so n products
do instead of m r. A takes u to its values and its leading coefficient, G does so with g, and B
goes back to coefficients (Lagrange, whose denominators are moved into G):

    coefficients of u g = B [(G g) . (A u)]        . is elementwise

To convolve n pixels d with g, y_i = sum_q d_(i+q) g_q, is the transpose of multiplying by g:

    y = A^T [(G g) . (B^T d)]

**Tiles.** The same for rows, then columns: an n x n window d and the kernel g make an m x m tile,

    Y = A^T [(G g G^T) . (B^T d B)] A

Summed over the channels, . is a matrix product (tiles, C) @ (C, K) at each of the n^2 places.
Windows overlap by r - 1 pixels. Tiles over the edge see zeros, and what they write there is
dropped.

**Large kernels.** A kernel of up to s m x s m is cut into s^2 pieces of m x m, r = m. A piece sees
the windows that lie a whole number of tiles further: those of other tiles. So they are transformed
once, and each tile's product takes s^2 C channels, of as many windows.

**Gradients.** Y is linear in g and in d. The same steps transposed, in reverse order:

    dg = G^T [sum over tiles of (A dY A^T) . (B^T d B)] G
    dd = B [(G g G^T) . (A dY A^T)] B^T                            added up where windows overlap

**Rounding.** More points are further apart, and the transforms then add up larger numbers, whose
difference is the result. Relative to the norm, columns are off by 4e-7, n = 6 by 1e-6, n = 7 by
3e-6, n = 8 by 8e-6; each value by up to some 10 times that of the root mean square, see
tests/test_winograd.py. Where y is exactly 0 (windows of zeros), a
tile that also sees other pixels gives some +-1e-7 instead. If the bias is exactly 0 as well, ReLU
then sits on its kink, and half of these pixels pass a gradient that columns stop. Both are right,
but networks with black images and zero biases cannot be compared that way.
"""

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np

# By the side n of a window; found by trying. A and B are exact in float32. With the textbooks'
# points 0, +-1, +-2 an n of 6 is off by four times as much.
POINTS = {
    6: (0, 0.75, -0.75, 1.5, -1.5),
    7: (0.25, -0.25, 0.875, -0.875, 2, -2),
    8: (0, 0.5, -0.5, 1, -1, 2, -2),
}


class Transforms(NamedTuple):
    """A (n, m), B (n, n) and G (n, r)."""

    A: np.ndarray
    B: np.ndarray
    G: np.ndarray

    @property
    def tile(self) -> int:
        """m"""
        return self.A.shape[1]

    @property
    def piece(self) -> int:
        """r"""
        return self.G.shape[1]

    @property
    def window(self) -> int:
        """n"""
        return len(self.B)


def exact_transforms(points: tuple[float, ...], kernel: int) -> Transforms:
    """In float64, for a kernel of this side and windows of one pixel more than there are points."""
    window = len(points) + 1
    tile = window - kernel + 1
    a, g = (
        np.vstack([np.vander(points, n, increasing=True), np.eye(n)[-1]]) for n in (tile, kernel)
    )
    b = np.zeros((window, window))
    b[:, -1] = np.poly(points)[::-1]  # 0 at every point, with leading coefficient 1
    for j, point in enumerate(points):
        others = np.array([other for other in points if other != point])
        b[:-1, j] = np.poly(others)[::-1]  # 0 at every other point, and here the denominator
        g[j] /= np.prod(point - others)
    return Transforms(a, b, g)


@lru_cache
def transforms(kernel: int, window: int) -> Transforms:
    """In float32, for a kernel, or the pieces of one that leaves no tile, and windows of these
    sides.
    """
    piece = kernel if kernel < window else (window + 1) // 2
    exact = exact_transforms(POINTS[window], piece)
    return Transforms(*(matrix.astype(np.float32) for matrix in exact))


def both_sides(
    matrix: np.ndarray,
    d: np.ndarray,
    half: np.ndarray | None = None,
    out: np.ndarray | None = None,
) -> np.ndarray:
    """matrix (q, p) @ d (p, p, m) @ matrix^T -> (q, q, m), in the memory given; out may hold d."""
    q, p = matrix.shape
    m = d.shape[2]
    half = np.empty(q * p * m, np.float32) if half is None else half
    out = np.empty(q * q * m, np.float32) if out is None else out
    left = shaped(half, (q, p, m))
    np.matmul(matrix, d.reshape(p, p * m), out=left.reshape(q, p * m))
    return np.matmul(matrix, left, out=shaped(out, (q, q, m)))


def shaped(memory: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """The beginning of a flat workspace as an array of this shape."""
    return memory[: math.prod(shape)].reshape(shape)
