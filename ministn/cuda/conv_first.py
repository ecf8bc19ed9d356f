"""Convolution block of an image with one channel, 3x3 kernel: see conv_first*.cu.

The equations are in ops/conv_block.py; the interface is choice.Convolution.
"""

import numpy as np

from ministn.backend import Array, device_holding
from ministn.cuda.launch import blocks_for, launch
from ministn.cuda.reduce import sum_partials

WARPS = 4  # as in the .cu files: warps in a block, each with a piece of a row
PIXELS = 64  # of the convolution that a piece is long
CELLS = 16  # rows and columns of cells in a tile, which shares one with the next tile
PARTIALS = 1024  # blocks between which the sums over all pixels are split, at most
GROUP = 32  # of them that are added up first


def forward(
    x: Array,
    weight: Array,
    bias: Array,
    margin: tuple[int, int],
    pool: bool,
    slope: float = 0.0,
) -> tuple[Array, Array]:
    """x (N, H, W, 1), weight (3, 3, 1, K), bias (K) -> y and gate (N, h, w, K)."""
    device = device_holding(x=x)
    n, height, width, _ = x.shape
    side = 2 if pool else 1
    h, w = ((size + 2 * m - 2) // side for size, m in zip(x.shape[1:3], margin, strict=True))
    y = device.empty((n, h, w, len(bias)), np.float32)
    gate = device.empty(y.shape, np.uint8)
    pieces = _pieces(y, side)
    launch(
        "conv_first", "conv_first" + "_pool" * pool + "_leaky" * (slope != 0),
        blocks_for(pieces, WARPS),
        x, weight, bias, y, gate, pieces, height, width, h, w, len(bias), *margin,
        *([slope] if slope else []),
    )  # fmt: skip
    return y, gate


def input_gradient(
    dy: Array,
    gate: Array,
    weight: Array,
    margin: tuple[int, int],
    size: tuple[int, int],
    pool: bool,
) -> Array:
    """dy and gate (N, h, w, K), size = (H, W) -> dx (N, H, W, 1)."""
    n, h, w, kernels = dy.shape
    dx = device_holding(dy=dy).empty((n, *size, 1), np.float32)
    down, across = (
        max(1, blocks_for((length if pool else (length + 1) // 2) - 1, CELLS - 1))
        for length in (h, w)
    )
    launch(
        "conv_first_input", "conv_first_input_gradient" + "_pool" * pool, n * down * across,
        dy, gate, weight, dx, down, across, *size, h, w, kernels, *margin,
    )  # fmt: skip
    return dx


def weight_gradient(
    x: Array,
    dy: Array,
    gate: Array,
    kernel: tuple[int, int],
    margin: tuple[int, int],
    pool: bool,
) -> tuple[Array, Array]:
    """x, dy and gate -> dweight (3, 3, 1, K), dbias (K)."""
    _, height, width, _ = x.shape
    _, h, w, kernels = dy.shape
    pieces = _pieces(dy, 2 if pool else 1)
    rounds = max(1, blocks_for(pieces, WARPS * PARTIALS))
    groups = max(1, blocks_for(pieces, WARPS * rounds * GROUP))
    partials = device_holding(x=x).empty((GROUP, groups, 10, kernels), np.float32)
    launch(
        "conv_first", "conv_first_weight_gradient" + "_pool" * pool,
        (GROUP * groups, blocks_for(kernels, 32)),
        x, dy, gate, partials, pieces, height, width, h, w, kernels, *margin,
    )  # fmt: skip
    sums = sum_partials(sum_partials(partials))  # in two steps: so many would take one thread long
    return sums[:9].reshape(*kernel, 1, kernels), sums[9]


def _pieces(y: Array, side: int) -> int:
    """Rows of y, cut so that none has more than PIXELS pixels of the convolution."""
    n, h, w, _ = y.shape
    return n * h * blocks_for(w, PIXELS // side)
