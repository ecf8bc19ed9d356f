"""The convolution block to train with: ops/conv_block.py again, in float32 for one CPU core.

    y = f(pool(z) + bias),    z = conv(x, weight)        f: ReLU, leaky ReLU or none

What makes it fast, most important first:

* Columns (see ops/conv2d.py) of one or two images at a time: they are still in cache when the
  matrix product reads them, and never in memory for the whole batch.
* With many channels, Winograd's transforms (winograd.py) instead: a quarter of the products or
  less. Which is the faster, in each direction, is counted in ways.py.
* With Winograd's transforms the gradient of x is a convolution too, of dz with the flipped kernel,
  and the transforms of dz that it needs give the weight's gradient as well.
* The pool comes before bias and activation, which then touch a quarter of the data. All that is
  kept of it is one byte for each y; z exists for one block of images only, in four parts, one for
  each place in a window, so that what is compared lies in the same order.
"""

import math
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from ministn.errors import check_arrays, check_float32
from ministn.fast import ways
from ministn.fast.columns import Columns, Convolution
from ministn.fast.max_pool2d import maximum, places
from ministn.fast.tiles import Tiles
from ministn.fast.winograd import shaped
from ministn.ops.conv2d import checked_margin, conv_arrays, convolved_size
from ministn.ops.conv_block import check_options
from ministn.ops.leaky_relu import SLOPE


class Cache(NamedTuple):
    x: np.ndarray  # the columns, kh kw times larger, are made again from it
    weight: np.ndarray
    margin: tuple[int, int]  # rows and columns of zeros put on each side of x
    stride: int
    size: tuple[int, int]  # of z: with an odd one, the pool drops its last row or column
    winner: np.ndarray | None  # (N, h, w, K) uint8: place of the maximum in its window, 0 to 3
    y: np.ndarray  # positive exactly where the activation's slope is 1
    below: float  # the activation's slope where it is not: 0 of ReLU, 1 of none
    has_bias: bool


def conv_block(
    x: np.ndarray,
    weight: np.ndarray,
    bias: np.ndarray | None = None,
    *,
    padding: str = "same",
    stride: int = 1,
    pool: bool = False,
    activation: str | None = "relu",
    slope: float = SLOPE,
) -> tuple[np.ndarray, Cache]:
    """x (N, H, W, C), weight (kh, kw, C, K), bias (K) -> y (N, h, w, K), h and w halved by pool.

    Raises as in ops, and TypeError for a dtype other than float32.
    """
    sizes = check_arrays(**conv_arrays(x, weight, bias))
    check_float32(x=x)
    below = check_options(pool, activation, slope)
    window = 2 if pool else 1
    margin = checked_margin(sizes, padding, window, stride)
    stride = int(stride)
    size = convolved_size(x.shape, weight.shape, margin, stride)
    way = ways.forward(_pooled(size, window), weight.shape, stride)
    convolution = _convolution(way, len(x), x.shape[1:], weight, margin, stride, window)
    y = np.empty((len(x), *convolution.size, sizes["K"]), np.float32)
    winner = np.empty(y.shape, np.uint8) if pool else None
    for block, n in convolution.blocks(len(x)):
        convolution.image[:n] = x[block]
        z = convolution.forward(n)
        first, *others = z.reshape(window**2, *z.shape[2:])
        if winner is not None:
            maximum(first, others, y[block], winner[block])
            first = y[block]
        _add_bias(first, bias, y[block])
        _rectify(y[block], below)
    has_bias = bias is not None
    return y, Cache(x, weight, margin, stride, size, winner, y, below, has_bias)


def conv_block_backward(
    dy: np.ndarray, cache: Cache, need_dx: bool = True
) -> tuple[np.ndarray | None, np.ndarray, np.ndarray | None]:
    """dy (N, h, w, K) -> dx (N, H, W, C) or None, dweight (kh, kw, C, K), dbias (K) or None."""
    check_arrays(y=(cache.y, "N h w K"), dy=(dy, "N h w K"))
    x, weight, stride = cache.x, cache.weight, cache.stride
    size = _pooled(cache.size, 1 if cache.winner is None else 2)
    if need_dx:
        way = ways.backward(size, x.shape[1:3], weight.shape, stride)
    else:
        way = ways.forward(size, weight.shape, stride)
    if way.by_dz:
        dx, dweight, dbias = _backward_by_dz(dy, cache, way)
    else:
        dx, dweight, dbias = _backward_by_x(dy, cache, way, need_dx)
    return dx, dweight, dbias if cache.has_bias else None


def _pooled(size: tuple[int, int], window: int) -> tuple[int, int]:
    """(h, w) of what lies in whole windows of z."""
    return size[0] // window * window, size[1] // window * window


def _convolution(
    way: ways.Way,
    batch: int,
    shape: tuple[int, ...],
    weight: np.ndarray,
    margin: tuple[int, int],
    stride: int = 1,
    pool: int = 1,
) -> Convolution:
    """What convolves images (H, W, C)."""
    if way.window is None:
        return Columns(batch, shape, weight, margin, stride, pool)
    return Tiles(batch, shape, weight, margin, way.window, pool)


def _backward_by_dz(
    dy: np.ndarray, cache: Cache, way: ways.Way
) -> tuple[np.ndarray | None, np.ndarray, np.ndarray]:
    """dx = conv(dz, flipped),    dflipped = the gradient of that where x stands for ddx

    A window of dz holds every dz that its pixel of x took part in, with the weight that stood
    between them in the same place of ``flipped``.
    """
    x, weight, margin = cache.x, cache.weight, cache.margin
    kh, kw, _, kernels = weight.shape
    rest = (kh - 1 - margin[0], kw - 1 - margin[1])
    flipped = weight[::-1, ::-1].transpose(0, 1, 3, 2)
    convolution = _convolution(way, len(x), (*cache.size, kernels), flipped, rest)
    dbias = np.zeros(kernels, np.float32)
    dx = np.empty(x.shape, np.float32)
    for block, n in convolution.blocks(len(x)):
        dbias += _before_pool(dy, cache, block, _parts(convolution.image[:n], cache))
        dx[block] = convolution.forward(n, x[block][None, None])[0, 0]
    return dx, convolution.dweight().transpose(0, 1, 3, 2)[::-1, ::-1], dbias


def _backward_by_x(
    dy: np.ndarray, cache: Cache, way: ways.Way, need_dx: bool
) -> tuple[np.ndarray | None, np.ndarray, np.ndarray]:
    """The steps of the convolution backwards."""
    x, weight = cache.x, cache.weight
    in_parts = cache.winner is not None and not (need_dx and way.window is None)
    pool = 2 if in_parts else 1  # windows in columns add up faster in rows of the image
    convolution = _convolution(way, len(x), x.shape[1:], weight, cache.margin, cache.stride, pool)
    shape = (*convolution.size, weight.shape[3])
    dbias = np.zeros(weight.shape[3], np.float32)
    dx = np.empty(x.shape, np.float32) if need_dx else None
    dz = np.zeros(pool**2 * convolution.images * math.prod(shape), np.float32)
    for block, n in convolution.blocks(len(x)):
        parts = shaped(dz, (pool, pool, n, *shape))
        each = _parts(parts[0, 0], cache) if pool == 1 else parts.reshape(pool**2, n, *shape)
        dbias += _before_pool(dy, cache, block, each)
        convolution.image[:n] = x[block]
        convolution.backward(n, parts, None if dx is None else dx[block])
    return dx, convolution.dweight(), dbias


def _before_pool(
    dy: np.ndarray, cache: Cache, block: slice, parts: Iterable[np.ndarray]
) -> np.ndarray:
    """Back through activation, bias and pool for one block of images: fill the parts of dz, and
    return dbias (K).
    """
    dpooled = dy[block] * _factors(cache.y[block], cache.below)
    if cache.winner is None:
        (dz,) = parts
        dz[...] = dpooled
    else:
        for place, dcandidate in enumerate(parts):
            np.multiply(dpooled, cache.winner[block] == place, out=dcandidate)
    rows = dpooled.reshape(math.prod(dpooled.shape[:-1]), dpooled.shape[-1])
    return np.ones(len(rows), np.float32) @ rows  # many times as fast as a sum over an axis


def _add_bias(z: np.ndarray, bias: np.ndarray | None, y: np.ndarray) -> None:
    """Write z + bias into y, which z may be: (n, h, w, K)."""
    if bias is not None:
        # By rows of pixels: for each row in memory NumPy's loops cost as much as 100 numbers.
        np.add(_rows(z), np.tile(bias, z.shape[2]), out=_rows(y))
    elif y is not z:
        y[...] = z


def _rectify(y: np.ndarray, below: float) -> None:
    """Apply an activation with this slope below zero to y, in place."""
    if below == 0:
        rows = _rows(y)
        np.maximum(rows, np.zeros(rows.shape[2], np.float32), out=rows)
    elif below != 1:
        np.maximum(y, y * np.float32(below), out=y)


def _rows(y: np.ndarray) -> np.ndarray:
    """A view (n, h, w K) of (n, h, w, K)."""
    return y.reshape(*y.shape[:2], math.prod(y.shape[2:]))


def _factors(y: np.ndarray, below: float) -> np.ndarray | float:
    """The slope of an activation with this one below zero, where its output is y."""
    if below in (0, 1):
        return y > 0 if below == 0 else 1.0
    factors = np.multiply(y > 0, np.float32(1 - below))  # np.where takes ten times as long
    factors += np.float32(below)
    return factors


def _parts(dz: np.ndarray, cache: Cache) -> list[np.ndarray]:
    """Views of dz (n, h, w, K), where what the pool dropped is zero: all of it without a pool, else
    the four values of every 2x2 window, in row-major order.
    """
    if cache.winner is None:
        return [dz]
    return [*places(dz, cache.y.shape, 2, 2)]
