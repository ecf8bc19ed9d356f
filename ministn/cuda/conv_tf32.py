"""Convolution block with a 3x3 kernel and a margin of one on tensor cores: see conv_tf32*.cu.

The equations are in ops/conv_block.py; the interface is choice.Convolution. The
numbers of channels must be multiples of 32, and the GPU of compute capability 8.0 or later; x, dy
and gate must begin at multiples of 16 bytes, as arrays of their own and slices of images do.
"""

import numpy as np

from ministn.backend import Array, device_holding
from ministn.cuda.launch import blocks_for, launch
from ministn.cuda.reduce import sum_partials

TILE = 16  # as in conv_tf32.cu: rows and columns of pixels that a block makes
PATCH = 18 * 18 * 12  # floats of a stage's patch
WEIGHT_TILE = (8, 16)  # as in conv_tf32_weight.cu
WEIGHT_STAGES = 2 * 4 * 40 * (10 * 18 + 8 * 16)  # bytes: 40 floats for each pixel of x and dz
WEIGHT_BLOCKS = 264  # two for each of 132 multiprocessors


def forward(
    x: Array,
    weight: Array,
    bias: Array,
    margin: tuple[int, int],
    pool: bool,
    slope: float = 0.0,
) -> tuple[Array, Array]:
    """x (N, H, W, C), weight (3, 3, C, K), bias (K), margin (1, 1) -> y and gate (N, h, w, K)."""
    device = device_holding(x=x)
    n, height, width, channels = x.shape
    kernels = len(bias)
    side = 2 if pool else 1
    y = device.empty((n, height // side, width // side, kernels), np.float32)
    gate = device.empty(y.shape, np.uint8)
    out = _outputs(kernels)
    launch(
        "conv_tf32", f"conv_tf32_{out}" + "_pool" * pool + "_leaky" * (slope != 0),
        (n * _tiles(height, width), kernels // out),
        x, _packed(weight, turned=False), bias, y, gate, height, width, channels, kernels,
        *([slope] if slope else []),
        shared_bytes=_stages(out),
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
    """dy and gate (N, h, w, K), size = (H, W) -> dx (N, H, W, C)."""
    device = device_holding(dy=dy)
    *_, channels, kernels = weight.shape
    dx = device.empty((len(dy), *size, channels), np.float32)
    out = _outputs(channels)
    launch(
        "conv_tf32", f"conv_tf32_input_gradient_{out}" + "_pool" * pool,
        (len(dy) * _tiles(*size), channels // out),
        dy, gate, _packed(weight, turned=True), dx, *size, channels, kernels,
        shared_bytes=_stages(out) + _raw(pool),
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
    """x, dy and gate -> dweight (3, 3, C, K), dbias (K)."""
    n, height, width, channels = x.shape
    kernels = dy.shape[-1]
    down, across = WEIGHT_TILE
    tiles = n * blocks_for(height, down) * blocks_for(width, across)
    parts = channels // 32, kernels // 32
    slices = max(1, min(tiles, WEIGHT_BLOCKS // (parts[0] * parts[1])))
    partials = device_holding(x=x).empty((slices, 9 * channels + 1, kernels), np.float32)
    launch(
        "conv_tf32_weight", "conv_tf32_weight_gradient" + "_pool" * pool, (slices, *parts),
        x, dy, gate, partials, tiles, height, width, channels, kernels,
        shared_bytes=WEIGHT_STAGES,
    )  # fmt: skip
    sums = sum_partials(partials)
    return sums[:-1].reshape(*kernel, channels, kernels), sums[-1]


def _packed(weight: Array, turned: bool) -> Array:
    """The weight, or its transposed mirror image, as the kernels read it."""
    *_, channels, kernels = weight.shape
    packed = device_holding(weight=weight).empty((weight.size,), np.float32)
    launch(
        "conv_tf32", "conv_tf32_pack", blocks_for(weight.size),
        weight, packed, channels, kernels, int(turned),
    )  # fmt: skip
    return packed


def _outputs(channels: int) -> int:
    """Output channels that a block makes."""
    return 64 if channels % 64 == 0 else 32


def _tiles(height: int, width: int) -> int:
    return blocks_for(height, TILE) * blocks_for(width, TILE)


def _stages(out: int) -> int:
    """Bytes of two stages: a patch, and weights for nine taps and eight channels."""
    return 2 * 4 * (PATCH + 9 * 8 * (out + 8))


def _raw(pool: bool) -> int:
    """Bytes of gates, and of dy where there is a pool, before dz is made of them."""
    return 10 * 10 * (16 + 32) if pool else 18 * 18 * 16
