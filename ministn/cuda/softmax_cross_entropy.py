"""ops/softmax_cross_entropy.py on a GPU: see softmax_cross_entropy.cu."""

from typing import NamedTuple

import numpy as np

from ministn.backend import Array, device_holding
from ministn.cuda.launch import blocks_for, launch
from ministn.cuda.reduce import mean
from ministn.errors import check_arrays, check_number


class Cache(NamedTuple):
    p: Array  # (N, K)
    labels: Array
    epsilon: float


def softmax_cross_entropy(
    logits: Array, labels: Array, epsilon: float = 0.0
) -> tuple[Array, Cache]:
    """Mean loss (1,) in nats of logits (N, K) against labels (N) int32.

    The loss stays on the GPU: reading it would wait. So does what is wrong with a label: one that
    is not from 0 to K-1 makes the loss NaN, and its row of the gradient.

    Raises TypeError for a dtype other than float32 or labels other than int32, ValueError for a
    wrong shape, no rows or an epsilon below 0.
    """
    epsilon = check_number("epsilon", epsilon, 0)
    n, classes = check_arrays(logits=(logits, "N K")).values()
    if getattr(labels, "dtype", None) != np.int32:
        kind = getattr(labels, "dtype", type(labels).__name__)
        raise TypeError(f"labels must be an array of int32, got {kind}")
    if labels.shape != (n,):
        raise ValueError(f"labels must have shape (N={n}), got {labels.shape}")
    if n == 0:
        raise ValueError("logits must have at least one row, got none")
    device = device_holding(logits=logits)
    labels = device.contiguous(labels)
    p = device.empty((n, classes), np.float32)
    losses = device.empty((n,), np.float32)
    launch(
        "softmax_cross_entropy",
        "softmax_rows",
        blocks_for(n, 4),
        *(device.contiguous(logits), labels, p, losses, n, classes, epsilon),
    )
    return mean(losses), Cache(p, labels, epsilon)


def softmax_cross_entropy_backward(cache: Cache, dloss: float = 1.0) -> Array:
    """The gradient dlogits (N, K)."""
    p, labels, epsilon = cache
    n, classes = p.shape
    dlogits = device_holding(p=p).empty(p.shape, np.float32)
    launch(
        "softmax_cross_entropy",
        "softmax_cross_entropy_backward",
        blocks_for(p.size),
        *(p, labels, dlogits, p.size, classes, check_number("dloss", dloss) / n, epsilon),
    )
    return dlogits
