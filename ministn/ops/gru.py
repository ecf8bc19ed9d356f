"""Gated recurrent unit: T states that follow from one x (Chung et al. 2014; RNN-SPN (6)).

From h_0 = 0, for t = 1 .. T, with * element by element:

    r = sigmoid(x W_xr + b_r + h_t-1 W_hr)          the reset gate
    u = sigmoid(x W_xu + b_u + h_t-1 W_hu)          the update gate
    c = tanh(x W_xc + b_c + r * (h_t-1 W_hc))       the candidate
    h_t = (1 - u) * h_t-1 + u * c

as in the code of RNN-SPN. Others reset h_t-1 before the product, or let u weigh what is kept:
PyTorch's z is 1 - u. Each sum is one of a = x W_x + b, the same for all t, and of g = h_t-1 W_h.

Backward, from t = T down to 1, dh_t is dy_t and what comes back from t + 1, at T nothing:

    du = dh_t * (c - h_t-1)     da_u = du * u * (1 - u)     dg_u = da_u
    dc = dh_t * u               da_c = dc * (1 - c^2)       dg_c = da_c * r
    dr = da_c * g_c             da_r = dr * r * (1 - r)     dg_r = da_r
    dh_t-1 = dh_t * (1 - u) + dg W_h^T

What all t use has the sum of its uses' gradients: dW_h = sum_t h_t-1^T dg, and with da summed over
t, dx = da W_x^T, dW_x = x^T da and db = sum_n da.
"""

from typing import Any, NamedTuple

import numpy as np

from ministn.errors import check_arrays, check_count
from ministn.ops.dense import dense, dense_backward
from ministn.ops.sigmoid import sigmoid, sigmoid_backward
from ministn.ops.tanh import tanh, tanh_backward


class Moment(NamedTuple):
    """Of one t. Of each gate its value and what its nonlinearity kept."""

    h: np.ndarray  # h_t-1
    from_h: Any  # what the product g = h_t-1 W_h kept
    g_c: np.ndarray
    reset: tuple[np.ndarray, Any]
    update: tuple[np.ndarray, Any]
    candidate: tuple[np.ndarray, Any]


class Cache(NamedTuple):
    y: np.ndarray
    from_x: Any  # what a = x W_x + b kept
    moments: list[Moment]


def gru(
    x: np.ndarray, weight_x: np.ndarray, weight_h: np.ndarray, bias: np.ndarray, steps: int
) -> tuple[np.ndarray, Cache]:
    """x (N, D), weight_x (D, 3, K), weight_h (K, 3, K), bias (3, K) -> y = (h_1 .. h_T), (N, T, K).

    The axis of 3 is that of the gates r, u and c. steps: T.
    Raises TypeError for a wrong dtype, ValueError for a wrong shape or steps that are not a whole
    number of at least 1.
    """
    n, d, k = check_gru(x, weight_x, weight_h, bias)
    steps = check_count("steps", steps)
    no_bias = np.zeros(3 * k, x.dtype)
    a, from_x = dense(x, weight_x.reshape(d, 3 * k), bias.reshape(3 * k))
    a_r, a_u, a_c = np.split(a, 3, axis=1)
    h = np.zeros((n, k), x.dtype)
    states, moments = [], []
    for _ in range(steps):
        g, from_h = dense(h, weight_h.reshape(k, 3 * k), no_bias)
        g_r, g_u, g_c = np.split(g, 3, axis=1)
        r, kept_r = sigmoid(a_r + g_r)
        u, kept_u = sigmoid(a_u + g_u)
        c, kept_c = tanh(a_c + r * g_c)
        moments.append(Moment(h, from_h, g_c, (r, kept_r), (u, kept_u), (c, kept_c)))
        h = (1 - u) * h + u * c
        states.append(h)
    y = np.stack(states, axis=1)
    return y, Cache(y, from_x, moments)


def gru_backward(
    dy: np.ndarray, cache: Cache, need_dx: bool = True
) -> tuple[np.ndarray | None, np.ndarray, np.ndarray, np.ndarray]:
    """dy (N, T, K) -> dx (N, D) or None, dweight_x (D, 3, K), dweight_h (K, 3, K), dbias (3, K)."""
    n, _, k = check_arrays(y=(cache.y, "N T K"), dy=(dy, "N T K")).values()
    dh, da, dweight_h = (np.zeros(shape, dy.dtype) for shape in ((n, k), (n, 3 * k), (k, 3 * k)))
    for t, moment in reversed([*enumerate(cache.moments)]):
        h, from_h, g_c, (r, kept_r), (u, kept_u), (c, kept_c) = moment
        dh = dh + dy[:, t]
        da_u = sigmoid_backward(dh * (c - h), kept_u)
        da_c = tanh_backward(dh * u, kept_c)
        da_r = sigmoid_backward(da_c * g_c, kept_r)
        dg = np.concatenate([da_r, da_u, da_c * r], axis=1)
        dh_by_product, dweight, _ = dense_backward(dg, from_h)
        dh = dh * (1 - u) + dh_by_product
        da += np.concatenate([da_r, da_u, da_c], axis=1)
        dweight_h += dweight
    dx, dweight_x, dbias = dense_backward(da, cache.from_x, need_dx)
    d = len(dweight_x)
    return dx, dweight_x.reshape(d, 3, k), dweight_h.reshape(k, 3, k), dbias.reshape(3, k)


def check_gru(
    x: np.ndarray, weight_x: np.ndarray, weight_h: np.ndarray, bias: np.ndarray
) -> tuple[int, int, int]:
    """N, D and K."""
    sizes = check_arrays(
        weight_x=(weight_x, "D 3 K"), weight_h=(weight_h, "K 3 K"), bias=(bias, "3 K"), x=(x, "N D")
    )
    return sizes["N"], sizes["D"], sizes["K"]
