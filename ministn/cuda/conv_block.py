"""ops/conv_block.py on a GPU: checks the arguments, and hands them to the kernels of choice.py."""

from typing import NamedTuple

from ministn.backend import Array, device_holding
from ministn.cuda import choice
from ministn.errors import UserError, check_arrays
from ministn.ops.conv2d import checked_margin


class Cache(NamedTuple):
    family: choice.Convolution  # kernels, so that backward goes where forward went
    x: Array
    weight: Array
    margin: tuple[int, int]
    pool: bool
    gate: Array  # (N, h, w, K) uint8: place 0 to 3 of the window's maximum, 4 where ReLU is closed


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

    Raises as in ops, TypeError for a dtype other than float32, UserError for a stride above 1.
    """
    sizes = check_arrays(x=(x, "N H W C"), weight=(weight, "kh kw C K"), bias=(bias, "K"))
    margin = checked_margin(sizes, padding, 2 if pool else 1, stride)
    if stride != 1:
        raise UserError(f"stride {stride} does not run on a GPU: use stride 1, or the CPU")
    family = choice.convolution((sizes["kh"], sizes["kw"]), margin, sizes["C"], sizes["K"])
    contiguous = device_holding(x=x).contiguous
    x, weight = contiguous(x), contiguous(weight)
    y, gate = family.forward(x, weight, contiguous(bias), margin, pool)
    return y, Cache(family, x, weight, margin, pool, gate)


def conv_block_backward(
    dy: Array, cache: Cache, need_dx: bool = True
) -> tuple[Array | None, Array, Array]:
    """dy (N, h, w, K) -> dx (N, H, W, C) or None, dweight (kh, kw, C, K), dbias (K)."""
    family, x, weight, margin, pool, gate = cache
    check_arrays(dy=(dy, " ".join(map(str, gate.shape))))
    dy = device_holding(dy=dy).contiguous(dy)
    dx = None
    if need_dx:
        dx = family.input_gradient(dy, gate, weight, margin, x.shape[1:3], pool)
    return dx, *family.weight_gradient(x, dy, gate, weight.shape[:2], margin, pool)
