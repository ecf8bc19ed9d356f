"""Winograd's convolution F(4x4, 3x3): 4x4 outputs of a 3x3 kernel with 36 products, not 144.

**One row.** Let u(t) and g(t) be polynomials with 4 and 3 coefficients. Their product has degree
5: its values at five points and its leading coefficient determine it, so 6 products do instead of
12. A takes u to its values and its leading coefficient, G does so with g, and B goes back to
coefficients (Lagrange, whose denominators are moved into G):

    coefficients of u g = B [(G g) . (A u)]        . is elementwise

To convolve six pixels d with g, y_i = sum_q d_(i+q) g_q, is the transpose of multiplying by g:

    y = A^T [(G g) . (B^T d)]

**Tiles.** The same for rows, then columns: a 6x6 window d and a 3x3 kernel g make a 4x4 tile,

    Y = A^T [(G g G^T) . (B^T d B)] A

Summed over the channels, . is a matrix product (tiles, C) @ (C, K) at each of the 36 places.
Windows overlap by two pixels. Tiles over the edge see zeros, and what they write there is dropped.

**The weight's gradient.** Y is linear in g. The same steps transposed, in reverse order:

    dg = G^T [sum over tiles of (A dY A^T) . (B^T d B)] G

**Rounding.** Relative to the norm, y and the gradients are off by 1e-6, columns by 3e-7; each value
by up to 1e-5 of the root mean square. With the textbooks' points 0, +-1, +-2 that is 4e-5: the
transforms then add up larger numbers, whose difference is the result. Where y is exactly 0 (windows
of zeros), a tile that also sees other pixels gives some +-1e-7 instead. If the bias is exactly 0
as well, ReLU then sits on its kink, and half of these pixels pass a gradient that columns
stop. Both are right, but networks with black images and zero biases cannot be compared that way.
"""

import math

import numpy as np

TILE, WINDOW, KERNEL = 4, 6, 3  # sides of Y, d and g
PLACES = WINDOW**2

POINTS = (0, 0.75, -0.75, 1.5, -1.5)  # A and B are exact in float32


def transforms(points: tuple[float, ...]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A (6, 4), B (6, 6) and G (6, 3)."""
    a, g = (
        np.vstack([np.vander(points, n, increasing=True), np.eye(n)[-1]]) for n in (TILE, KERNEL)
    )
    b = np.zeros((WINDOW, WINDOW))
    b[:, -1] = np.poly(points)[::-1]  # 0 at every point, with leading coefficient 1
    for j, point in enumerate(points):
        others = np.array([other for other in points if other != point])
        b[:-1, j] = np.poly(others)[::-1]  # 0 at every other point, and here the denominator
        g[j] /= np.prod(point - others)
    return a, b, g


A, B, G = (matrix.astype(np.float32) for matrix in transforms(POINTS))
AT, BT, GT = (np.ascontiguousarray(matrix.T) for matrix in (A, B, G))


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
