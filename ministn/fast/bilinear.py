"""The bilinear sampler to train with: ops/bilinear.py again, in float32 for one CPU core.

Let U_00 and U_01 be the pixels to the upper left and right of a point, U_10 and U_11 those below,
and fx, fy its distance from U_00. STN equation (5) is then

    V = top + fy (bottom - top),    top = U_00 + fx (U_01 - U_00),    bottom likewise

and equation (7)

    dV/dx^s = (U_01 - U_00) + fy ((U_11 - U_10) - (U_01 - U_00)),    dV/dy^s = bottom - top

Both slopes are by-products of V. They are kept, and the gradient of the grid reads no image. A few
images at a time, so that all of this stays in cache. There are two ways:

by arrays, for images of one channel    A frame around the images, in which every point, however far
    outside, has a cell with the right values and the right slope. The four pixels of a point are
    always as far apart, so that it needs one index and not four pairs.
by a matrix, for more channels    Sampling is a sparse matrix S with four weights in each row,
    y = S U. Another two of the same shape give the slopes.

The gradient of the image is S^T dy, equation (6), for any number of channels.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from scipy.sparse import csr_array

from ministn.errors import check_arrays
from ministn.ops.sampling import check_sampler, framed, pixel_at, to_pixels, unframed

# Points of one block of images: some twenty arrays of them, 64 KiB each, stay in a core's cache.
BLOCK_POINTS = 2**14

# Two pixels on each side: whatever lies left of pixel -1 is moved into the cell from -2 to -1,
# which is flat, and whatever lies right of pixel W into the cell from W to W + 1.
FRAME = 2


class Cache(NamedTuple):
    image: np.ndarray  # image to fill: only for the gradient of the image
    grid: np.ndarray
    border: str
    fill: float
    slopes: np.ndarray  # (2, N, h, w, C): dV/dx^s and dV/dy^s


def bilinear_sampler(
    image: np.ndarray, grid: np.ndarray, *, border: str = "nearest", fill: float = 0.0
) -> tuple[np.ndarray, Cache]:
    """image (N, H, W, C) at grid (N, h, w, 2) -> y (N, h, w, C). STN equation (5).

    Raises TypeError for a dtype other than float32, ValueError as check_sampler does.
    """
    sizes = check_sampler(image, grid, border, fill)
    if image.dtype != np.float32:
        raise TypeError(
            f"image must be float32, got {image.dtype}: float64 is for ops.bilinear_sampler"
        )
    y = np.empty((*grid.shape[:3], sizes["C"]), np.float32)
    slopes = np.empty((2, *y.shape), np.float32)
    if sizes["C"] == 1 and border in ("nearest", "zeros"):  # in others its pixels may be far apart
        image_framed = _framed(image, border, fill)
        for block in _blocks(grid):
            _by_arrays(image_framed[block], grid[block], y[block], slopes[:, block])
    else:
        image_framed = framed(image, border, fill)
        for block in _blocks(grid):
            matrix = _matrix(grid[block], image.shape, border, slopes=True)
            values = matrix @ image_framed[block].reshape(-1, sizes["C"])
            values = values.reshape(3, *y[block].shape)
            y[block], slopes[:, block] = values[0], values[1:]
    return y, Cache(image, grid, border, fill, slopes)


def bilinear_sampler_backward(
    dy: np.ndarray, cache: Cache, need_dimage: bool = True
) -> tuple[np.ndarray | None, np.ndarray]:
    """dy (N, h, w, C) -> dimage (N, H, W, C) or None, dgrid (N, h, w, 2).

    STN equations (6) and (7).
    """
    image, grid, border, fill, slopes = cache
    check_arrays(slopes=(slopes, "2 N h w C"), dy=(dy, "N h w C"))
    dgrid = np.empty(grid.shape, np.float32)
    for axis, half in enumerate(_halves(image)):
        np.multiply(_over_channels(dy * slopes[axis]), half, out=dgrid[..., axis])
    if not need_dimage:
        return None, dgrid

    dframed = np.empty_like(framed(image, border, fill))
    for block in _blocks(grid):
        points = dy[block].reshape(-1, dy.shape[-1])
        gradient = _matrix(grid[block], image.shape, border).T @ points
        dframed[block] = gradient.reshape(dframed[block].shape)
    return unframed(dframed, border), dgrid


def _blocks(grid: np.ndarray) -> Iterator[slice]:
    """The images, a few at a time."""
    n, h, w, _ = grid.shape
    images = max(1, BLOCK_POINTS // max(1, h * w))
    for start in range(0, n, images):
        yield slice(start, start + images)


def _matrix(
    grid: np.ndarray, shape: tuple[int, ...], border: str, slopes: bool = False
) -> csr_array:
    """S, with a row for each point (n, h, w) and a column for each pixel of the framed images.

    slopes: and below it the matrices of dV/dx^s and of dV/dy^s.
    """
    _, height, width, _ = shape
    xs, ys = to_pixels(grid, height, width)
    left, above = np.floor(xs), np.floor(ys)
    frame = 2 * (border == "zeros")
    rows, columns = height + frame, width + frame
    first = (np.arange(len(xs)) * rows * columns)[:, None, None]
    at_y = [first + columns * pixel_at(above + i, height, border) for i in (0, 1)]
    at_x = [pixel_at(left + i, width, border) for i in (0, 1)]
    fx, fy = xs - left, ys - above
    weights_y, weights_x = (1 - fy, fy), (1 - fx, fx)

    kinds = 3 if slopes else 1
    index = np.empty((kinds, *xs.shape, 4), np.int32)
    weights = np.empty(index.shape, np.float32)
    for corner, (i, j) in enumerate(((0, 0), (0, 1), (1, 0), (1, 1))):
        ky, kx = weights_y[i], weights_x[j]
        index[..., corner] = at_y[i] + at_x[j]
        each = ky * kx, ky * (2 * j - 1), kx * (2 * i - 1)  # STN (5), (7)
        for kind in range(kinds):
            weights[kind, ..., corner] = each[kind]
    ends = np.arange(kinds * xs.size + 1, dtype=np.int32) * 4
    size = (kinds * xs.size, len(xs) * rows * columns)
    return csr_array((weights.ravel(), index.ravel(), ends), shape=size)


def _over_channels(x: np.ndarray) -> np.ndarray:
    """The sum of x (N, h, w, C) over its channels, which NumPy adds slowly where they are few."""
    channels = x.shape[-1]
    if channels < 2:
        return x.sum(axis=-1) if channels == 0 else x[..., 0]
    return (x.reshape(-1, channels) @ np.ones(channels, np.float32)).reshape(x.shape[:-1])


def _halves(image: np.ndarray) -> tuple[np.float32, np.float32]:
    """(W - 1) / 2 and (H - 1) / 2."""
    _, height, width, _ = image.shape
    return np.float32((width - 1) / 2), np.float32((height - 1) / 2)


def _framed(image: np.ndarray, border: str, fill: float) -> np.ndarray:
    """The images in a frame of FRAME pixels."""
    frame = ((0, 0), (FRAME, FRAME), (FRAME, FRAME), (0, 0))
    if border == "nearest":
        return np.pad(image, frame, mode="edge")
    return np.pad(image, frame, constant_values=fill)


def _by_arrays(framed: np.ndarray, grid: np.ndarray, y: np.ndarray, slopes: np.ndarray) -> None:
    """Write y (n, h, w, 1) and slopes (2, n, h, w, 1) of a block of framed images."""
    n, rows, columns, _ = framed.shape
    height, width = rows - 2 * FRAME, columns - 2 * FRAME
    half_x, half_y = _halves(framed[:, FRAME:-FRAME, FRAME:-FRAME])
    with np.errstate(over="ignore", invalid="ignore"):  # 1e38 * 20, inf * 0
        xs = grid[..., 0] * half_x + half_x
        ys = grid[..., 1] * half_y + half_y
    finite = np.isfinite(xs) & np.isfinite(ys)
    if not finite.all():
        xs[~finite] = ys[~finite] = np.nan

    left, above = np.floor(xs), np.floor(ys)
    fx, fy = (xs - left)[..., None], (ys - above)[..., None]
    # Clipped before they become integers, which large numbers do not survive; fmax takes NaN too.
    column = np.fmin(np.fmax(left, -FRAME), width).astype(np.intp)
    row = np.fmin(np.fmax(above, -FRAME), height).astype(np.intp)
    first = np.arange(n)[:, None, None] * (rows * columns) + FRAME * (columns + 1)
    index = first + row * columns + column
    pixels = framed.reshape(n * rows * columns, 1)
    u00, u01 = pixels.take(index, axis=0), pixels.take(index + 1, axis=0)
    u10, u11 = pixels.take(index + columns, axis=0), pixels.take(index + columns + 1, axis=0)

    slope_above, slope_below = u01 - u00, u11 - u10
    top = u00 + fx * slope_above
    slopes[0] = slope_above + fy * (slope_below - slope_above)  # STN (7)
    slopes[1] = u10 + fx * slope_below - top
    np.add(top, fy * slopes[1], out=y)  # STN (5)
