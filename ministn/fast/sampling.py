"""What the fast samplers share: reading images and volumes between their pixels, in float32.

With the linear kernel the value lies, along each axis, between two neighbours, U_0 and U_1, at f
from the first:

    V = U_0 + f (U_1 - U_0),    slope U_1 - U_0

first along x, then alike between what that gives along y, and along z. The slopes are by-products
of V, STN equation (7). They are kept, and the gradient of the grid reads no image. A few images at
a time, so that all of this stays in cache. There are two ways:

by arrays, for few channels    A frame around the images, in which every point, however far outside,
    has a cell with the right values and the right slope. The corners of a point's cell are always
    as far apart, so that it needs one index and not one for each. Channel after channel: NumPy is
    slow where the last axis is short.
by a matrix, for many channels, and for any kernel    Sampling is a sparse matrix S with a weight
    for each corner in every row, y = S U. More of the same shape give the slopes.

The gradient of the image is S^T dy, equation (6), for any number of channels.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import product

import numpy as np
from scipy.sparse import csr_array

from ministn.ops.sampling import framed, pixel_at, to_pixels, unframed

# Points of one block of images: some twenty arrays of them, 64 KiB each, stay in a core's cache.
BLOCK_POINTS = 2**14

FEW = 6  # channels: a point takes 10 ns for each by arrays, 60 ns and 1.6 ns for each by a matrix

# Two pixels on each side: whatever lies left of pixel -1 is moved into the cell from -2 to -1,
# which is flat, and whatever lies right of pixel W into the cell from W to W + 1.
FRAME = 2


# Of points at f from the pixel on their left: how far from that the first neighbour lies, -1 or 0,
# and what each weighs, and the slope of that.
Neighbours = tuple[int, list[np.ndarray], list[np.ndarray]]
Kernel = Callable[[np.ndarray], Neighbours]


def sample(
    image: np.ndarray, grid: np.ndarray, border: str, fill: float, kernel: Kernel
) -> tuple[np.ndarray, np.ndarray]:
    """image (N, ..., C), of two or three axes, at grid (N, ..., axes) -> y, slopes.

    y (N, ..., C) has as many axes; slopes (axes, N, ..., C) are dV/dx^s, dV/dy^s ... in pixels.
    """
    channels = image.shape[-1]
    y = np.empty((*grid.shape[:-1], channels), np.float32)
    slopes = np.empty((grid.shape[-1], *y.shape), np.float32)
    # With other borders the corners of a cell may be far apart.
    if kernel is linear and channels <= FEW and border in ("nearest", "zeros"):
        frame = ((0, 0), (0, 0), *[(FRAME, FRAME)] * grid.shape[-1])
        how = {"constant_values": fill} if border == "zeros" else {"mode": "edge"}
        within = np.pad(np.moveaxis(image, -1, 0), frame, **how)
        for block in _blocks(grid):
            _by_arrays(within[:, block], grid[block], y[block], slopes[:, block])
    else:
        within = framed(image, border, fill)
        for block in _blocks(grid):
            matrices = _matrices(grid[block], image.shape, border, kernel, slopes=True)
            pixels = within[block].reshape(-1, channels)
            for matrix, values in zip(matrices, (y, *slopes), strict=True):
                values[block] = (matrix @ pixels).reshape(y[block].shape)
    return y, slopes


def gradient_of_grid(dy: np.ndarray, slopes: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """dy (N, ..., C) -> dgrid (N, ..., axes). shape: of the image. STN equation (7)."""
    dgrid = np.empty((*dy.shape[:-1], len(slopes)), np.float32)
    for axis, half in enumerate(_halves(shape[1:-1])):
        np.multiply(_over_channels(dy * slopes[axis]), half, out=dgrid[..., axis])
    return dgrid


def gradient_of_image(
    dy: np.ndarray, grid: np.ndarray, shape: tuple[int, ...], border: str, kernel: Kernel
) -> np.ndarray:
    """S^T dy (N, ..., C). shape: of the image. STN equation (6)."""
    dimage = framed(np.empty(shape, np.float32), border, 0)
    for block in _blocks(grid):
        (matrix,) = _matrices(grid[block], shape, border, kernel)
        gradient = matrix.T @ dy[block].reshape(matrix.shape[0], shape[-1])
        dimage[block] = gradient.reshape(dimage[block].shape)
    return unframed(dimage, border)


def _blocks(grid: np.ndarray) -> Iterator[slice]:
    """The images, a few at a time."""
    images = max(1, BLOCK_POINTS // max(1, math.prod(grid.shape[1:-1])))
    for start in range(0, len(grid), images):
        yield slice(start, start + images)


def _by_arrays(framed: np.ndarray, grid: np.ndarray, y: np.ndarray, slopes: np.ndarray) -> None:
    """Write y (n, ..., C) and slopes (axes, n, ..., C) of images (C, n, ...) in their frames."""
    _, n, *framed_lengths = framed.shape
    lengths = [length - 2 * FRAME for length in framed_lengths]
    with np.errstate(over="ignore", invalid="ignore"):  # 1e38 * 20, inf * 0
        points = [grid[..., axis] * half + half for axis, half in enumerate(_halves(lengths))]
    finite = np.isfinite(points).all(axis=0)
    if not finite.all():
        points = [np.where(finite, point, np.nan) for point in points]

    index = np.arange(n).reshape(n, *[1] * (grid.ndim - 2)) * math.prod(framed_lengths)
    strides: list[int] = []
    fractions: list[np.ndarray] = []
    for point, length in zip(points, reversed(lengths), strict=True):
        left = np.floor(point)
        fractions.append(point - left)
        # Clipped before it becomes an integer, which large numbers do not survive; fmax takes NaN.
        cell = np.fmin(np.fmax(left, -FRAME), length).astype(np.intp)
        strides.append(math.prod(framed_lengths[len(framed_lengths) - len(strides) :]))
        index = index + (cell + FRAME) * strides[-1]
    corners = product((0, 1), repeat=len(strides))  # x in the last place, which changes first
    places = [index + np.dot(corner, strides[::-1]) for corner in corners]

    for channel, pixels in enumerate(framed):
        u = [pixels.take(place) for place in places]
        slopes_u: list[list[np.ndarray]] = []
        for f in fractions:
            slopes_u = [_between(slope, f) for slope in slopes_u]
            slopes_u.append([high - low for low, high in zip(u[::2], u[1::2], strict=True)])  # (7)
            u = [low + f * step for low, step in zip(u[::2], slopes_u[-1], strict=True)]  # STN (5)
        y[..., channel] = u[0]
        for slope, (value,) in zip(slopes, slopes_u, strict=True):
            slope[..., channel] = value


def _between(u: list[np.ndarray], f: np.ndarray) -> list[np.ndarray]:
    """Of neighbours in pairs, what lies between each."""
    return [low + f * (high - low) for low, high in zip(u[::2], u[1::2], strict=True)]


def linear(f: np.ndarray) -> Neighbours:
    """The two pixels between which a point lies, at f from the first."""
    ones = np.ones_like(f)
    return 0, [1 - f, f], [-ones, ones]


def _matrices(
    grid: np.ndarray, shape: tuple[int, ...], border: str, kernel: Kernel, slopes: bool = False
) -> list[csr_array]:
    """S, with a row for each point and a column for each pixel of the images in their frames.

    slopes: and the matrices of dV/dx^s, dV/dy^s ..., with other weights in the same places.
    """
    lengths = shape[1:-1]
    points = to_pixels(grid, *lengths)
    frame = 2 * (border == "zeros")
    n, stride = len(grid), 1
    axes = []  # of each: where the neighbours lie, what they weigh, and the weights' slopes
    for point, length in zip(points, reversed(lengths), strict=True):
        left = np.floor(point)
        first, weights, steps = kernel(point - left)
        each = (left + first + i for i in range(len(weights)))
        places = [(pixel_at(at, length, border) * stride).astype(np.int32) for at in each]
        axes.append(list(zip(places, weights, steps, strict=True)))
        stride *= length + frame

    corners = list(product(*axes))
    kinds = 1 + len(points) if slopes else 1
    # Corner after corner, and then turned round: in rows of so few, NumPy's loops would be short.
    index = np.empty((len(corners), *points[0].shape), np.int32)
    values = np.empty((kinds, *index.shape), np.float32)
    base = np.arange(n, dtype=np.int32).reshape(n, *[1] * (points[0].ndim - 1)) * stride
    for number, corner in enumerate(corners):
        np.add(base, sum(place for place, _, _ in corner), out=index[number])
        weights = [weight for _, weight, _ in corner]
        values[0, number] = math.prod(weights)  # STN (5)
        for axis, (_, _, step) in enumerate(corner if slopes else ()):
            others = math.prod(weights[:axis] + weights[axis + 1 :])
            np.multiply(others, step, out=values[1 + axis, number])  # STN (7)
    size = points[0].size, n * stride
    columns = index.reshape(len(corners), -1).T.ravel()
    ends = np.arange(size[0] + 1, dtype=np.int32) * len(corners)
    rows = (kind.reshape(len(corners), -1).T.ravel() for kind in values)
    return [csr_array((weights, columns, ends), shape=size) for weights in rows]


def _over_channels(x: np.ndarray) -> np.ndarray:
    """The sum of x (..., C) over its channels, which NumPy adds slowly where they are few."""
    channels = x.shape[-1]
    if channels < 2:
        return x.sum(axis=-1) if channels == 0 else x[..., 0]
    return (x.reshape(-1, channels) @ np.ones(channels, np.float32)).reshape(x.shape[:-1])


def _halves(lengths: Sequence[int]) -> list[np.float32]:
    """(W - 1) / 2, (H - 1) / 2 and so on, in the order of a grid's pairs or triples."""
    return [np.float32((length - 1) / 2) for length in reversed(lengths)]
