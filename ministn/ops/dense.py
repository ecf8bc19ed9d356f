"""Fully connected layer.

    y_nk = sum_d x_nd weight_dk + bias_k

    dx_nd      = sum_k dy_nk weight_dk
    dweight_dk = sum_n x_nd dy_nk
    dbias_k    = sum_n dy_nk

Each gradient sums over the index that its own letters lack, as y does.
"""

from typing import NamedTuple

import numpy as np

from ministn.errors import check_arrays


class Cache(NamedTuple):
    x: np.ndarray  # for dweight
    weight: np.ndarray  # for dx


def dense(x: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> tuple[np.ndarray, Cache]:
    """x (N, D), weight (D, K), bias (K) -> y (N, K).

    Raises TypeError for a wrong dtype, ValueError for a wrong shape.
    """
    check_arrays(weight=(weight, "D K"), bias=(bias, "K"), x=(x, "N D"))
    return x @ weight + bias, Cache(x, weight)


def dense_backward(
    dy: np.ndarray, cache: Cache, need_dx: bool = True, dweight: np.ndarray | None = None
) -> tuple[np.ndarray | None, np.ndarray, np.ndarray]:
    """dy (N, K) -> dx (N, D) or None, dweight (D, K), dbias (K).

    dweight: an array to write it to, by default a new one.
    """
    x, weight = cache
    check_arrays(x=(x, "N D"), weight=(weight, "D K"), dy=(dy, "N K"))
    dx = dy @ weight.T if need_dx else None
    return dx, np.matmul(x.T, dy, out=dweight), dy.sum(axis=0)
