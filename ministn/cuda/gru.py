"""ops/gru.py on a GPU: the products are dense layers', the gates those of gru.cu."""

from typing import Any, NamedTuple

import numpy as np

from ministn.backend import Array, device_holding
from ministn.cuda.dense import dense, dense_backward
from ministn.cuda.launch import blocks_for, launch
from ministn.errors import check_arrays, check_count
from ministn.ops.gru import check_gru


class Moment(NamedTuple):
    """Of one t."""

    h: Array  # h_t-1
    g: Array  # h_t-1 W_h
    from_h: Any  # what that product kept


class Cache(NamedTuple):
    y: Array
    a: Array  # x W_x + b
    from_x: Any  # what that product kept
    moments: list[Moment]


def gru(x: Array, weight_x: Array, weight_h: Array, bias: Array, steps: int) -> tuple[Array, Cache]:
    """x (N, D), weight_x (D, 3, K), weight_h (K, 3, K), bias (3, K) -> y = (h_1 .. h_T), (N, T, K).

    Raises as in ops, and TypeError for a dtype other than float32.
    """
    n, d, k = check_gru(x, weight_x, weight_h, bias)
    steps = check_count("steps", steps)
    device = device_holding(x=x)
    no_bias = device.zeros((3 * k,), np.float32)
    a, from_x = dense(x, weight_x.reshape(d, 3 * k), bias.reshape(3 * k))
    h = device.zeros((n, k), np.float32)
    y = device.empty((n, steps, k), np.float32)
    moments = []
    for t in range(steps):
        g, from_h = dense(h, weight_h.reshape(k, 3 * k), no_bias)
        moments.append(Moment(h, g, from_h))
        h = device.empty((n, k), np.float32)
        launch("gru", "gru_gates", blocks_for(n * k), a, g, moments[-1].h, h, n * k, k)
        y[:, t] = h
    return y, Cache(y, a, from_x, moments)


def gru_backward(
    dy: Array, cache: Cache, need_dx: bool = True
) -> tuple[Array | None, Array, Array, Array]:
    """dy (N, T, K) -> dx (N, D) or None, dweight_x (D, 3, K), dweight_h (K, 3, K), dbias (3, K)."""
    n, _, k = check_arrays(y=(cache.y, "N T K"), dy=(dy, "N T K")).values()
    device = device_holding(dy=dy)
    dh, da, dweight_h = (
        device.zeros(shape, np.float32) for shape in ((n, k), (n, 3 * k), (k, 3 * k))
    )
    for t, (h, g, from_h) in reversed([*enumerate(cache.moments)]):
        dnext = dh
        dnext += dy[:, t]
        dg, dh = (device.empty(array.shape, np.float32) for array in (g, h))
        launch(
            "gru", "gru_gates_backward", blocks_for(n * k),
            dnext, cache.a, g, h, da, dg, dh, n * k, k,
        )  # fmt: skip
        dh_by_product, dweight, _ = dense_backward(dg, from_h)
        dh += dh_by_product
        dweight_h += dweight
    dx, dweight_x, dbias = dense_backward(da, cache.from_x, need_dx)
    d = len(dweight_x)
    return dx, dweight_x.reshape(d, 3, k), dweight_h.reshape(k, 3, k), dbias.reshape(3, k)
