"""ops/dense.py on a GPU: cuBLAS in float32, or our own kernels on tensor cores."""

from typing import Any, NamedTuple

from ministn.backend import Array, device_holding
from ministn.cuda import choice, dense_tf32
from ministn.errors import check_arrays, check_float32


class Cache(NamedTuple):
    x: Array
    weight: Array


def dense(x: Array, weight: Array, bias: Array) -> tuple[Array, Any]:
    """x (N, D), weight (D, K), bias (K) -> y (N, K).

    Raises as in ops, and TypeError for a dtype other than float32.
    """
    device_holding(x=x)
    if choice.dense_on_tensor_cores():
        return dense_tf32.dense(x, weight, bias)
    check_arrays(weight=(weight, "D K"), bias=(bias, "K"), x=(x, "N D"))
    check_float32(x=x)
    y = x @ weight
    y += bias
    return y, Cache(x, weight)


def dense_backward(
    dy: Array, cache: Any, need_dx: bool = True, dweight: Array | None = None
) -> tuple[Array | None, Array, Array]:
    """dy (N, K) -> dx (N, D) or None, dweight (D, K), dbias (K).

    dweight: an array that it may be written to; cuBLAS's products are new ones here.
    """
    if isinstance(cache, dense_tf32.Cache):
        return dense_tf32.dense_backward(dy, cache, need_dx, dweight)
    x, weight = cache
    check_arrays(x=(x, "N D"), weight=(weight, "D K"), dy=(dy, "N K"))
    dx = dy @ weight.T if need_dx else None
    return dx, x.T @ dy, dy.sum(axis=0)
