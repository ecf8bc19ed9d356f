"""Convolution, optional 2x2 max pooling, bias and activation: what networks are stacked from.

    y = f(pool(conv(x, weight)) + bias)        f: ReLU, leaky ReLU or none

Adding a bias and rectifying keep the order of values, so pooling first gives the same y as
pooling last would, with a quarter of the additions. It also fixes the pool's winner: the
first maximum *before* the bias. The twins of this function in other engines fuse the steps.
"""

from typing import NamedTuple

import numpy as np

from ministn.errors import check_arrays, check_share
from ministn.ops.conv2d import Cache as Conv2dCache
from ministn.ops.conv2d import checked_margin, conv2d, conv2d_backward, conv_arrays
from ministn.ops.leaky_relu import SLOPE, leaky_relu, leaky_relu_backward
from ministn.ops.leaky_relu import Cache as LeakyReluCache
from ministn.ops.max_pool2d import Cache as MaxPool2dCache
from ministn.ops.max_pool2d import max_pool2d, max_pool2d_backward
from ministn.ops.relu import Cache as ReluCache
from ministn.ops.relu import relu, relu_backward


class Cache(NamedTuple):
    convolved: Conv2dCache
    pooled: MaxPool2dCache | None  # None where the block has no pool
    rectified: ReluCache | LeakyReluCache | None  # None where it has no activation
    y: np.ndarray  # only for the shape and dtype that dy must have
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

    bias: None for none. stride: of the convolution alone; the pool's is 2. activation: "relu",
    "leaky_relu", which has this slope, or None.
    Raises TypeError for a wrong dtype, ValueError for a wrong shape or as checked_margin and
    check_options do.
    """
    sizes = check_arrays(**conv_arrays(x, weight, bias))
    check_options(pool, activation, slope)
    checked_margin(sizes, padding, 2 if pool else 1, stride)
    y, convolved = conv2d(x, weight, padding=padding, stride=stride)
    pooled = None
    if pool:
        y, pooled = max_pool2d(y, 2)
    if bias is not None:
        y = y + bias
    rectified: ReluCache | LeakyReluCache | None = None
    if activation == "relu":
        y, rectified = relu(y)
    elif activation == "leaky_relu":
        y, rectified = leaky_relu(y, slope)
    return y, Cache(convolved, pooled, rectified, y, bias is not None)


def conv_block_backward(
    dy: np.ndarray, cache: Cache, need_dx: bool = True
) -> tuple[np.ndarray | None, np.ndarray, np.ndarray | None]:
    """dy (N, h, w, K) -> dx (N, H, W, C) or None, dweight (kh, kw, C, K), dbias (K) or None."""
    check_arrays(y=(cache.y, "N h w K"), dy=(dy, "N h w K"))
    if isinstance(cache.rectified, ReluCache):
        dy = relu_backward(dy, cache.rectified)
    elif isinstance(cache.rectified, LeakyReluCache):
        dy = leaky_relu_backward(dy, cache.rectified)
    dbias = dy.sum(axis=(0, 1, 2)) if cache.has_bias else None
    if cache.pooled is not None:
        dy = max_pool2d_backward(dy, cache.pooled)
    dx, dweight, _ = conv2d_backward(dy, cache.convolved, need_dx)
    return dx, dweight, dbias


def check_options(pool: bool, activation: str | None, slope: float) -> float:
    """The slope of the block's activation below zero: 0 of "relu", 1 of None.

    Raises ValueError for an activation that there is not, a slope that is not at least 0 and below
    1, a pool that is neither True nor False.
    """
    if not isinstance(pool, (bool, np.bool_)):
        raise ValueError(f"pool must be True or False, got {pool!r}")
    if activation not in ("relu", "leaky_relu", None):
        raise ValueError(f"activation must be 'relu', 'leaky_relu' or None, got {activation!r}")
    slope = check_share("slope", slope)
    return {"relu": 0.0, "leaky_relu": slope, None: 1.0}[activation]
