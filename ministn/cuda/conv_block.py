"""ops/conv_block.py on a GPU: checks the arguments, and hands them to the kernels of choice.py.

A stride leaves out all but every s-th row and column of what stride 1 gives. The kernels make them
all, s^2 times the work: of the papers' convolutions one has a stride, and it is small.
"""

from typing import NamedTuple

import numpy as np

from ministn.backend import Array, device_holding
from ministn.cuda import choice
from ministn.cuda.max_pool2d import Cache as MaxPool2dCache
from ministn.cuda.max_pool2d import max_pool2d, max_pool2d_backward
from ministn.errors import check_arrays
from ministn.ops.conv2d import checked_margin


class Cache(NamedTuple):
    family: choice.Convolution  # kernels, so that backward goes where forward went
    x: Array
    weight: Array
    margin: tuple[int, int]
    pool: bool  # by the family's kernels
    gate: Array  # (N, h, w, K) uint8: place 0 to 3 of the window's maximum, 4 where ReLU is closed
    stride: int
    pooled: MaxPool2dCache | None  # where a stride comes between convolution and pool
    shape: tuple[int, ...]  # of y


def conv_block(
    x: Array,
    weight: Array,
    bias: Array,
    *,
    padding: str = "same",
    stride: int = 1,
    pool: bool = False,
) -> tuple[Array, Cache]:
    """x (N, H, W, C), weight (kh, kw, C, K), bias (K) -> y (N, h, w, K), h and w halved by pool.

    Raises as in ops, and TypeError for a dtype other than float32.
    """
    sizes = check_arrays(x=(x, "N H W C"), weight=(weight, "kh kw C K"), bias=(bias, "K"))
    margin = checked_margin(sizes, padding, 2 if pool else 1, stride)
    family = choice.convolution((sizes["kh"], sizes["kw"]), margin, sizes["C"], sizes["K"])
    contiguous = device_holding(x=x).contiguous
    x, weight = contiguous(x), contiguous(weight)
    fused, pooled = pool and stride == 1, None
    y, gate = family.forward(x, weight, contiguous(bias), margin, fused)
    if stride != 1:
        y = contiguous(y[:, ::stride, ::stride])
    if pool and not fused:
        y, pooled = max_pool2d(y)
    return y, Cache(family, x, weight, margin, fused, gate, stride, pooled, y.shape)


def conv_block_backward(
    dy: Array, cache: Cache, need_dx: bool = True
) -> tuple[Array | None, Array, Array]:
    """dy (N, h, w, K) -> dx (N, H, W, C) or None, dweight (kh, kw, C, K), dbias (K)."""
    family, x, weight, margin, pool, gate, stride, pooled, shape = cache
    check_arrays(dy=(dy, " ".join(map(str, shape))))
    device = device_holding(dy=dy)
    dy = device.contiguous(dy)
    if pooled is not None:
        dy = max_pool2d_backward(dy, pooled)
    if stride != 1:
        every = device.zeros(gate.shape, np.float32)
        every[:, ::stride, ::stride] = dy
        dy = every
    dx = None
    if need_dx:
        dx = family.input_gradient(dy, gate, weight, margin, x.shape[1:3], pool)
    return dx, *family.weight_gradient(x, dy, gate, weight.shape[:2], margin, pool)
