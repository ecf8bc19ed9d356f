"""The convolution block to train with: ops/conv_block.py again, in float32 for one CPU core.

    y = relu(pool(conv(x, weight)) + bias)

What makes it fast, most important first:

* Columns (see ops/conv2d.py) of one or two images at a time: they are still in cache when the
  matrix product reads them, and never in memory for the whole batch.
* The input's gradient is a convolution too, of dz with the flipped kernel, and the columns of dz
  that it needs give the weight's gradient as well.
* Pooling comes before bias and ReLU, which then touch a quarter of the data. Of the pool, one
  byte for each output value is kept.

dz is the gradient after the convolution, before pool, bias and ReLU.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from ministn.errors import check_arrays

# The columns of one block of images. More than the L2 cache of a core (1/2 to 2 MiB nowadays) is
# slow to read back; less than one 15x15x128 image, 1 MiB, makes the matrix products too small.
BLOCK_BYTES = 2**20

# dx by columns of dz copies kh kw K numbers a pixel; by adding up the gradients of x's columns it
# adds kh kw C, each three times as slow as a copy. Measured: C = 1 takes a third of the time, equal
# near C = K / 4.
FEW_CHANNELS = 1 / 4


class Cache(NamedTuple):
    x: np.ndarray  # the columns, kh kw times larger, are made again from it
    weight: np.ndarray
    margin: tuple[int, int]  # rows and columns of zeros put on each side of x
    y: np.ndarray  # positive where ReLU let the value pass
    winner: np.ndarray | None  # (N, h, w, K) uint8: 0 to 3, position in the window; None: no pool


def conv_block(
    x: np.ndarray,
    weight: np.ndarray,
    bias: np.ndarray,
    *,
    padding: str = "same",
    pool: bool = False,
) -> tuple[np.ndarray, Cache]:
    """x (N, H, W, C), weight (kh, kw, C, K), bias (K) -> y (N, h, w, K), h and w halved by pool.

    Raises TypeError for a dtype other than float32, ValueError for a wrong shape or padding.
    """
    sizes = check_arrays(x=(x, "N H W C"), weight=(weight, "kh kw C K"), bias=(bias, "K"))
    if x.dtype != np.float32:
        raise TypeError(f"x must be float32, got {x.dtype}; ops.conv_block takes float64")
    kh, kw, kernels = sizes["kh"], sizes["kw"], sizes["K"]
    if padding not in ("same", "valid"):
        raise ValueError(f"padding must be 'same' or 'valid', got {padding!r}")
    if kh % 2 == 0 or kw % 2 == 0:
        raise ValueError(f"weight must have an odd height and width, got {kh} by {kw}")
    margin = (kh // 2, kw // 2) if padding == "same" else (0, 0)
    h, w = _size_of_z(x, weight, margin)
    smallest = 2 if pool else 1
    if min(h, w) < smallest:
        raise ValueError(f"x is too small for weight {kh} by {kw} and pool={pool}: {x.shape}")

    columns = _Columns(len(x), x.shape[1:], (kh, kw), margin)
    matrix = weight.reshape(-1, kernels)
    z = np.empty((columns.images, h, w, kernels), np.float32)
    y = np.empty((len(x), h // smallest, w // smallest, kernels), np.float32)
    winner = np.empty(y.shape, np.uint8) if pool else None
    for block, n in _blocks(len(x), columns.images):
        columns.image[:n] = x[block]
        np.matmul(columns.matrix(n), matrix, out=z[:n].reshape(-1, kernels))
        if winner is None:
            np.add(z[:n], bias, out=y[block])
        else:
            _max_pool(z[:n], y[block], winner[block])
            y[block] += bias
        np.maximum(y[block], 0, out=y[block])
    return y, Cache(x, weight, margin, y, winner)


def conv_block_backward(
    dy: np.ndarray, cache: Cache, need_dx: bool = True
) -> tuple[np.ndarray | None, np.ndarray, np.ndarray]:
    """dy (N, h, w, K) -> dx (N, H, W, C) or None, dweight (kh, kw, C, K), dbias (K)."""
    check_arrays(y=(cache.y, "N h w K"), dy=(dy, "N h w K"))
    _, _, channels, kernels = cache.weight.shape
    if need_dx and channels > FEW_CHANNELS * kernels:
        return _backward_by_columns_of_dz(dy, cache)
    return _backward_by_columns_of_x(dy, cache, need_dx)


def _backward_by_columns_of_dz(
    dy: np.ndarray, cache: Cache
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """dx = columns of dz @ flipped, and dflipped = (columns of dz)^T @ x.

    x_u meets the same dz_(u-p) in both, see ops/conv2d.py.
    """
    x, weight, margin = cache.x, cache.weight, cache.margin
    kh, kw, channels, kernels = weight.shape
    h, w = _size_of_z(x, weight, margin)
    columns = _Columns(
        len(x), (h, w, kernels), (kh, kw), (kh - 1 - margin[0], kw - 1 - margin[1])
    )
    flipped = weight[::-1, ::-1].transpose(0, 1, 3, 2).reshape(-1, channels)
    dflipped = np.zeros_like(flipped)
    dbias = np.zeros(kernels, np.float32)
    dx = np.empty(x.shape, np.float32)
    for block, n in _blocks(len(x), columns.images):
        dbias += _dz_of_block(dy, cache, block, columns.image[:n])
        dz_columns = columns.matrix(n)
        np.matmul(dz_columns, flipped, out=dx[block].reshape(-1, channels))
        dflipped += dz_columns.T @ x[block].reshape(-1, channels)
    dweight = dflipped.reshape(kh, kw, kernels, channels).transpose(0, 1, 3, 2)[::-1, ::-1]
    return dx, np.ascontiguousarray(dweight), dbias


def _backward_by_columns_of_x(
    dy: np.ndarray, cache: Cache, need_dx: bool
) -> tuple[np.ndarray | None, np.ndarray, np.ndarray]:
    """dweight = (columns of x)^T @ dz; dx adds up the gradients of the columns."""
    x, weight, margin = cache.x, cache.weight, cache.margin
    kh, kw, channels, kernels = weight.shape
    h, w = _size_of_z(x, weight, margin)
    columns = _Columns(len(x), x.shape[1:], (kh, kw), margin)
    matrix = weight.reshape(-1, kernels)
    dmatrix = np.zeros_like(matrix)
    dbias = np.zeros(kernels, np.float32)
    dz = np.zeros((columns.images, h, w, kernels), np.float32)
    dx = np.empty(x.shape, np.float32) if need_dx else None
    for block, n in _blocks(len(x), columns.images):
        dbias += _dz_of_block(dy, cache, block, dz[:n])
        pixels = dz[:n].reshape(-1, kernels)
        columns.image[:n] = x[block]
        dmatrix += columns.matrix(n).T @ pixels
        if dx is not None:
            dcolumns = (matrix @ pixels.T).reshape(kh, kw, channels, n, h, w)
            dx[block] = _add_windows(dcolumns, x.shape[1:3], margin)
    return dx, dmatrix.reshape(weight.shape), dbias


def _dz_of_block(dy: np.ndarray, cache: Cache, block: slice, dz: np.ndarray) -> np.ndarray:
    """Write the gradient of a block of images into dz (n, H, W, K); return its dbias (K)."""
    dpooled = dy[block] * (cache.y[block] > 0)
    if cache.winner is None:
        dz[...] = dpooled
    else:
        for position, dcandidate in enumerate(_candidates(dz)):
            np.multiply(dpooled, cache.winner[block] == position, out=dcandidate)
    return dpooled.sum(axis=(0, 1, 2))


def _max_pool(z: np.ndarray, y: np.ndarray, winner: np.ndarray) -> None:
    """Write the maxima of z's 2x2 windows into y, and their positions into winner."""
    first, *others = _candidates(z)
    y[...] = first
    winner[...] = 0
    for position, candidate in enumerate(others, 1):
        better = candidate > y  # strictly, so that of equal values the first wins
        np.maximum(winner, better * np.uint8(position), out=winner)
        np.maximum(y, candidate, out=y)


def _candidates(z: np.ndarray) -> list[np.ndarray]:
    """Four views (n, h, w, K) of z: the values of each 2x2 window, in row-major order.

    A last row or column that fills no window is in none of them.
    """
    h, w = z.shape[1] // 2 * 2, z.shape[2] // 2 * 2
    return [z[:, p:h:2, q:w:2] for p in (0, 1) for q in (0, 1)]


def _add_windows(
    dcolumns: np.ndarray, size: tuple[int, int], margin: tuple[int, int]
) -> np.ndarray:
    """dcolumns (kh, kw, C, n, h, w) -> dx (n, H, W, C): the reverse of cutting out windows."""
    kh, kw, channels, n, h, w = dcolumns.shape
    padded = np.zeros((channels, n, size[0] + 2 * margin[0], size[1] + 2 * margin[1]), np.float32)
    for p in range(kh):
        for q in range(kw):
            padded[:, :, p : p + h, q : q + w] += dcolumns[p, q]
    dx = padded[:, :, margin[0] : margin[0] + size[0], margin[1] : margin[1] + size[1]]
    return dx.transpose(1, 2, 3, 0)


class _Columns:
    """Workspace that turns a few images at a time into columns; used again for every block.

    Fill ``image[:n]``, then ``matrix(n)`` is (n h w, kh kw C): one row for each output pixel, the
    window that it looks at. The next call overwrites it.
    """

    def __init__(
        self, batch: int, shape: tuple[int, ...], kernel: tuple[int, int], margin: tuple[int, int]
    ) -> None:
        height, width, channels = shape
        (kh, kw), (above, left) = kernel, margin
        h, w = height + 2 * above - kh + 1, width + 2 * left - kw + 1
        values = h * w * kh * kw * channels
        self.images = max(1, min(batch, BLOCK_BYTES // (4 * values)))
        padded = np.zeros(
            (self.images, height + 2 * above, width + 2 * left, channels), np.float32
        )
        self.image = padded[:, above : above + height, left : left + width]
        # A view (n, h, w, C, kh, kw), so it follows what is written into image.
        self._windows = np.lib.stride_tricks.sliding_window_view(padded, kernel, axis=(1, 2))
        self._values = np.empty(self.images * values, np.float32)

    def matrix(self, n: int) -> np.ndarray:
        windows = self._windows[:n]
        _, h, w, channels, kh, kw = windows.shape
        values = self._values[: windows.size]
        if channels == 1:  # rows of kw numbers are too short to copy: whole image rows instead
            values.reshape(kh, kw, n, h, w)[...] = windows[:, :, :, 0].transpose(3, 4, 0, 1, 2)
            return values.reshape(kh * kw, n * h * w).T
        values.reshape(n, h, w, kh, kw, channels)[...] = windows.transpose(0, 1, 2, 4, 5, 3)
        return values.reshape(n * h * w, kh * kw * channels)


def _blocks(batch: int, images: int) -> Iterator[tuple[slice, int]]:
    """Slices of at most ``images`` images, each with its length."""
    for start in range(0, batch, images):
        stop = min(start + images, batch)
        yield slice(start, stop), stop - start


def _size_of_z(x: np.ndarray, weight: np.ndarray, margin: tuple[int, int]) -> tuple[int, int]:
    height = x.shape[1] + 2 * margin[0] - weight.shape[0] + 1
    width = x.shape[2] + 2 * margin[1] - weight.shape[1] + 1
    return height, width
