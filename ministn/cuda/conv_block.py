"""ops/conv_block.py on a GPU: checks the arguments, and hands them to the kernels of choice.py.

A stride leaves out all but every s-th row and column of what stride 1 gives. The kernels make them
all, s^2 times the work: of the papers' convolutions one has a stride, and it is small. Where a pool
follows a stride, it is a pass of its own, and so are the bias and the activation after it.
"""

from typing import NamedTuple

import numpy as np

from ministn.backend import Array, device_holding
from ministn.cuda import choice
from ministn.cuda.leaky_relu import Cache as LeakyReluCache
from ministn.cuda.leaky_relu import leaky_relu, leaky_relu_backward
from ministn.cuda.max_pool2d import Cache as MaxPool2dCache
from ministn.cuda.max_pool2d import max_pool2d, max_pool2d_backward
from ministn.cuda.relu import Cache as ReluCache
from ministn.cuda.relu import relu, relu_backward
from ministn.errors import check_arrays
from ministn.ops.conv2d import checked_margin, conv_arrays
from ministn.ops.conv_block import check_options
from ministn.ops.leaky_relu import SLOPE

Rectified = ReluCache | LeakyReluCache | None


class Cache(NamedTuple):
    family: choice.Convolution  # kernels, so that backward goes where forward went
    x: Array
    weight: Array
    channels: int  # 0 where x and weight have one that was put there
    margin: tuple[int, int]
    pool: bool  # by the family's kernels
    gate: Array  # (N, h, w, K) uint8: place 0 to 3 of the window's maximum, 4 where ReLU is closed
    stride: int
    pooled: MaxPool2dCache | None  # where a stride comes between convolution and pool
    rectified: Rectified  # of an activation that the gate does not know of
    has_bias: bool
    shape: tuple[int, ...]  # of y


def conv_block(
    x: Array,
    weight: Array,
    bias: Array | None = None,
    *,
    padding: str = "same",
    stride: int = 1,
    pool: bool = False,
    activation: str | None = "relu",
    slope: float = SLOPE,
) -> tuple[Array, Cache]:
    """x (N, H, W, C), weight (kh, kw, C, K), bias (K) -> y (N, h, w, K), h and w halved by pool.

    Raises as in ops, and TypeError for a dtype other than float32.
    """
    sizes = check_arrays(**conv_arrays(x, weight, bias))
    below = check_options(pool, activation, slope)
    margin = checked_margin(sizes, padding, 2 if pool else 1, stride)
    stride, channels = int(stride), sizes["C"]
    device, kernels = device_holding(x=x), (sizes["K"],)
    if not channels:  # the kernels divide by their number: one of zeros gives the same y
        x = device.zeros((*x.shape[:3], 1), np.float32)
        weight = device.zeros((*weight.shape[:2], 1, *kernels), np.float32)
    x, weight = device.contiguous(x), device.contiguous(weight)
    family = choice.convolution((sizes["kh"], sizes["kw"]), margin, x.shape[3], sizes["K"])
    pooled: MaxPool2dCache | None = None
    rectified: Rectified = None
    fused = pool and stride == 1
    apart = pool and not fused  # the winner is chosen before the bias there, too
    added = device.zeros(kernels, np.float32) if bias is None or apart else device.contiguous(bias)
    y, gate = family.forward(x, weight, added, margin, fused, 1.0 if apart else below)
    if stride != 1:
        y = device.contiguous(y[:, ::stride, ::stride])
    if apart:
        y, pooled = max_pool2d(y)
        y = y if bias is None else y + bias
        if below == 0:
            y, rectified = relu(y)
        elif below != 1:
            y, rectified = leaky_relu(y, below)
    elif below not in (0, 1):
        rectified = LeakyReluCache(y, below)
    cache = Cache(
        *(family, x, weight, channels, margin, fused, gate),
        *(stride, pooled, rectified, bias is not None, y.shape),
    )
    return y, cache


def conv_block_backward(
    dy: Array, cache: Cache, need_dx: bool = True
) -> tuple[Array | None, Array, Array | None]:
    """dy (N, h, w, K) -> dx (N, H, W, C) or None, dweight (kh, kw, C, K), dbias (K) or None."""
    family, x, weight, channels, margin, pool, gate, stride, pooled, rectified, *_ = cache
    check_arrays(dy=(dy, " ".join(map(str, cache.shape))))
    device = device_holding(dy=dy)
    dy = device.contiguous(dy)
    if isinstance(rectified, ReluCache):
        dy = relu_backward(dy, rectified)
    elif isinstance(rectified, LeakyReluCache):
        dy = leaky_relu_backward(dy, rectified)
    if pooled is not None:
        dy = max_pool2d_backward(dy, pooled)
    if stride != 1:
        every = device.zeros(gate.shape, np.float32)
        every[:, ::stride, ::stride] = dy
        dy = every
    if not dy.size:  # no images, or no kernels
        dx = device.zeros(x.shape, np.float32) if need_dx else None
        dweight, dbias = (device.zeros(s, np.float32) for s in (weight.shape, weight.shape[3:]))
    else:
        dx = None
        if need_dx:
            dx = family.input_gradient(dy, gate, weight, margin, x.shape[1:3], pool)
        dweight, dbias = family.weight_gradient(x, dy, gate, weight.shape[:2], margin, pool)
    if not channels:
        dx, dweight = None if dx is None else dx[..., :0], dweight[:, :, :0]
    return dx, dweight, dbias if cache.has_bias else None
