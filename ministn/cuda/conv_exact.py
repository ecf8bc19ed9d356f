"""Convolution block in float32, of any sizes and any odd kernel: see conv_exact.cu.

The equations are in ops/conv_block.py; the interface is choice.Convolution.
"""

from typing import NamedTuple

import numpy as np

from ministn.backend import Array, device_holding
from ministn.cuda.launch import blocks_for, launch
from ministn.cuda.reduce import sum_partials

NARROW, WIDE = 32, 64  # columns of a tile, as in gemm.cuh
TILE = 8192  # elements of a tile
DEPTH = 16  # terms of a sum that a wide tile takes at a time, a narrow one half as many
BLOCKS = (
    396  # into which a weight's gradient is cut, at most: three for each of 132 multiprocessors
)
PIXELS = 256  # that make a slice worth its while


class Sizes(NamedTuple):
    """What every kernel takes last, in this order."""

    images: int
    height: int  # of x
    width: int
    channels: int
    kernel_height: int
    kernel_width: int
    kernels: int
    margin_rows: int
    margin_columns: int
    out_height: int  # of y
    out_width: int
    pool: int


def forward(
    x: Array,
    weight: Array,
    bias: Array,
    margin: tuple[int, int],
    pool: bool,
    slope: float = 0.0,
) -> tuple[Array, Array]:
    """x (N, H, W, C), weight (kh, kw, C, K), bias (K) -> y and gate (N, h, w, K)."""
    device = device_holding(x=x)
    n, height, width, channels = x.shape
    kh, kw, _, kernels = weight.shape
    side = 2 if pool else 1
    h = (height + 2 * margin[0] - kh + 1) // side
    w = (width + 2 * margin[1] - kw + 1) // side
    y = device.empty((n, h, w, kernels), np.float32)
    gate = device.empty(y.shape, np.uint8)
    sizes = Sizes(n, height, width, channels, kh, kw, kernels, *margin, h, w, int(pool))
    kind, tiles = _tiles(n * h * w * side**2, kernels)
    arrays = x, weight, bias, y, gate
    if slope == 0:
        launch("conv_exact", f"forward_{kind}", tiles, *arrays, *sizes)
    else:
        launch("conv_exact", f"forward_{kind}_leaky", tiles, *arrays, slope, *sizes)
    return y, gate


def input_gradient(
    dy: Array,
    gate: Array,
    weight: Array,
    margin: tuple[int, int],
    size: tuple[int, int],
    pool: bool,
) -> Array:
    """dy and gate (N, h, w, K), size = (H, W) -> dx (N, H, W, C)."""
    device = device_holding(dy=dy)
    n, h, w, _ = dy.shape
    kh, kw, channels, kernels = weight.shape
    turned = device.empty((kh, kw, kernels, channels), np.float32)
    launch(
        "conv_exact", "turn", blocks_for(turned.size), weight, turned, kh * kw, channels, kernels
    )
    dx = device.empty((n, *size, channels), np.float32)
    sizes = Sizes(n, *size, channels, kh, kw, kernels, *margin, h, w, int(pool))
    kind, tiles = _tiles(n * size[0] * size[1], channels)
    launch("conv_exact", f"input_gradient_{kind}", tiles, dy, gate, turned, dx, *sizes)
    return dx


def weight_gradient(
    x: Array,
    dy: Array,
    gate: Array,
    kernel: tuple[int, int],
    margin: tuple[int, int],
    pool: bool,
) -> tuple[Array, Array]:
    """x, dy and gate -> dweight (kh, kw, C, K), dbias (K)."""
    n, height, width, channels = x.shape
    _, h, w, kernels = dy.shape
    taps, pixels = kernel[0] * kernel[1] * channels, n * h * w * (4 if pool else 1)
    kind, tiles = _tiles(taps + 1, kernels)
    slices = max(1, min(BLOCKS // tiles, blocks_for(pixels, PIXELS)))
    length = max(1, blocks_for(pixels, DEPTH * slices)) * DEPTH  # of a slice
    slices = max(1, blocks_for(pixels, length))
    partials = device_holding(x=x).empty((slices, taps + 1, kernels), np.float32)
    sizes = Sizes(n, height, width, channels, *kernel, kernels, *margin, h, w, int(pool))
    launch(
        "conv_exact_weight", f"weight_gradient_{kind}", (tiles, slices),
        x, dy, gate, partials, length, *sizes,
    )  # fmt: skip
    sums = sum_partials(partials)
    return sums[:taps].reshape(*kernel, channels, kernels), sums[taps]


def _tiles(rows: int, columns: int) -> tuple[str, int]:
    """The kind of tiles that suits a matrix product, and how many there are of them."""
    kind, across = ("narrow", NARROW) if columns <= NARROW else ("wide", WIDE)
    return kind, blocks_for(rows, TILE // across) * blocks_for(columns, across)
