"""Convolution, optional 2x2 max pooling, bias and ReLU: what the networks are stacked from.

    y = relu(pool(conv(x, weight)) + bias)

Adding a bias and rectifying keep the order of values, so pooling first gives the same y as
relu before pool would, with a quarter of the additions. It also fixes the pool's winner: the
first maximum *before* the bias. The twins of this function in other engines fuse the steps.
"""

from typing import NamedTuple

import numpy as np

from ministn.errors import check_arrays
from ministn.ops.conv2d import Cache as Conv2dCache
from ministn.ops.conv2d import checked_margin, conv2d, conv2d_backward
from ministn.ops.max_pool2d import Cache as MaxPool2dCache
from ministn.ops.max_pool2d import max_pool2d, max_pool2d_backward
from ministn.ops.relu import Cache as ReluCache
from ministn.ops.relu import relu, relu_backward


class Cache(NamedTuple):
    convolved: Conv2dCache
    pooled: MaxPool2dCache | None  # None where the block has no pool
    rectified: ReluCache


def conv_block(
    x: np.ndarray,
    weight: np.ndarray,
    bias: np.ndarray,
    *,
    padding: str = "same",
    stride: int = 1,
    pool: bool = False,
) -> tuple[np.ndarray, Cache]:
    """x (N, H, W, C), weight (kh, kw, C, K), bias (K) -> y (N, h, w, K), h and w halved by pool.

    stride: of the convolution alone; the pool's is 2.
    Raises TypeError for a wrong dtype, ValueError for a wrong shape or as checked_margin does.
    """
    sizes = check_arrays(x=(x, "N H W C"), weight=(weight, "kh kw C K"), bias=(bias, "K"))
    checked_margin(sizes, padding, 2 if pool else 1, stride)
    y, convolved = conv2d(x, weight, padding=padding, stride=stride)
    pooled = None
    if pool:
        y, pooled = max_pool2d(y, 2)
    y, rectified = relu(y + bias)
    return y, Cache(convolved, pooled, rectified)


def conv_block_backward(
    dy: np.ndarray, cache: Cache, need_dx: bool = True
) -> tuple[np.ndarray | None, np.ndarray, np.ndarray]:
    """dy (N, h, w, K) -> dx (N, H, W, C) or None, dweight (kh, kw, C, K), dbias (K)."""
    dy = relu_backward(dy, cache.rectified)
    dbias = dy.sum(axis=(0, 1, 2))
    if cache.pooled is not None:
        dy = max_pool2d_backward(dy, cache.pooled)
    dx, dweight, _ = conv2d_backward(dy, cache.convolved, need_dx)
    return dx, dweight, dbias
