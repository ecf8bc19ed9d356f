"""The bilinear sampler to train with: ops/bilinear.py again, in float32 for one CPU core.

Let U_00 and U_01 be the pixels to the upper left and right of a point, U_10 and U_11 those below,
and fx, fy its distance from U_00. STN equation (5) is then

    V = top + fy (bottom - top),    top = U_00 + fx (U_01 - U_00),    bottom likewise

and equation (7)

    dV/dx^s = (U_01 - U_00) + fy ((U_11 - U_10) - (U_01 - U_00)),    dV/dy^s = bottom - top

What makes it fast:

* A frame around the images, in which every point, however far outside, has a cell with the right
  values and the right slope. The four pixels of a point are always as far apart, so that it needs
  one index and not four pairs.
* Both slopes are by-products of V. They are kept, and the gradient of the grid reads no image.
* A few images at a time, so that all of this stays in cache.

The borders "mirror" and "wrap", which no paper's table needs, are left to ops.
"""

from typing import NamedTuple

import numpy as np

from ministn import ops
from ministn.errors import check_arrays
from ministn.ops.sampling import check_sampler

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
    slopes: np.ndarray | None  # (2, N, h, w, C): dV/dx^s and dV/dy^s; None if ops sampled


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
    if border in ("mirror", "wrap"):  # a point's four pixels may be far apart
        y, _ = ops.bilinear_sampler(image, grid, border=border)
        return y, Cache(image, grid, border, fill, None)

    frame = ((0, 0), (FRAME, FRAME), (FRAME, FRAME), (0, 0))
    if border == "nearest":
        framed = np.pad(image, frame, mode="edge")
    else:
        framed = np.pad(image, frame, constant_values=fill)
    n, h, w, _ = grid.shape
    y = np.empty((n, h, w, sizes["C"]), np.float32)
    slopes = np.empty((2, *y.shape), np.float32)
    images = max(1, BLOCK_POINTS // max(1, h * w))
    for start in range(0, n, images):
        block = slice(start, start + images)
        _sample(framed[block], grid[block], y[block], slopes[:, block])
    return y, Cache(image, grid, border, fill, slopes)


def bilinear_sampler_backward(
    dy: np.ndarray, cache: Cache, need_dimage: bool = True
) -> tuple[np.ndarray | None, np.ndarray]:
    """dy (N, h, w, C) -> dimage (N, H, W, C) or None, dgrid (N, h, w, 2). STN equation (7).

    The gradient of the image scatters, which gains nothing here, so ``ops`` computes it: the
    images that the papers' networks sample are data, and need none.
    """
    image, grid, border, fill, slopes = cache
    if need_dimage or slopes is None:
        _, ops_cache = ops.bilinear_sampler(image, grid, border=border, fill=fill)
        return ops.bilinear_sampler_backward(dy, ops_cache, need_dimage)
    check_arrays(slopes=(slopes, "2 N h w C"), dy=(dy, "N h w C"))
    dgrid = np.empty(grid.shape, np.float32)
    for axis, half in enumerate(_halves(image)):
        np.multiply(_over_channels(dy * slopes[axis]), half, out=dgrid[..., axis])
    return None, dgrid


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


def _sample(framed: np.ndarray, grid: np.ndarray, y: np.ndarray, slopes: np.ndarray) -> None:
    """Write y (n, h, w, C) and slopes (2, n, h, w, C) of a block of framed images."""
    n, rows, columns, channels = framed.shape
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
    if channels > 1:  # for each: NumPy is slow where the last axis is short and one operand's is 1
        fx, fy = np.repeat(fx, channels, axis=-1), np.repeat(fy, channels, axis=-1)
    # Clipped before they become integers, which large numbers do not survive; fmax takes NaN too.
    column = np.fmin(np.fmax(left, -FRAME), width).astype(np.intp)
    row = np.fmin(np.fmax(above, -FRAME), height).astype(np.intp)
    first = np.arange(n)[:, None, None] * (rows * columns) + FRAME * (columns + 1)
    index = first + row * columns + column
    pixels = framed.reshape(n * rows * columns, channels)
    u00, u01 = pixels.take(index, axis=0), pixels.take(index + 1, axis=0)
    u10, u11 = pixels.take(index + columns, axis=0), pixels.take(index + columns + 1, axis=0)

    slope_above, slope_below = u01 - u00, u11 - u10
    top = u00 + fx * slope_above
    slopes[0] = slope_above + fy * (slope_below - slope_above)  # STN (7)
    slopes[1] = u10 + fx * slope_below - top
    np.add(top, fy * slopes[1], out=y)  # STN (5)
