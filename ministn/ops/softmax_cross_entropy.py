"""Softmax and cross entropy of the logits z.

    p_nk = exp(z_nk) / sum_j exp(z_nj)
    loss = -1/N sum_n log p_n,label(n)

    dz_nk = dloss/N (p_nk - [k = label(n)])

One operation and not two, because only together is their gradient this difference.
"""

from typing import NamedTuple

import numpy as np

from ministn.errors import check_arrays, check_number, check_plain


class Cache(NamedTuple):
    p: np.ndarray  # (N, K), all that the gradient needs besides the labels
    labels: np.ndarray


def softmax_cross_entropy(logits: np.ndarray, labels: np.ndarray) -> tuple[float, Cache]:
    """Mean loss in nats of logits (N, K) against labels (N), whole numbers from 0 to K-1.

    Raises TypeError for a wrong dtype, ValueError for a wrong shape or a label out of range.
    """
    sizes = check_arrays(logits=(logits, "N K"))
    _check_labels(labels, sizes["N"], sizes["K"])
    # Subtracting the largest logit changes no probability, and keeps exp from overflowing.
    shifted = logits - logits.max(axis=1, keepdims=True)
    exponentials = np.exp(shifted)
    total = exponentials.sum(axis=1, keepdims=True)
    rows = np.arange(sizes["N"])
    loss = np.mean(np.log(total[:, 0]) - shifted[rows, labels])
    return float(loss), Cache(exponentials / total, labels)


def softmax_cross_entropy_backward(cache: Cache, dloss: float = 1.0) -> np.ndarray:
    """The gradient dlogits (N, K)."""
    p, labels = cache
    rows = np.arange(len(p))
    dlogits = p.copy()
    dlogits[rows, labels] -= 1
    return dlogits * (check_number("dloss", dloss) / len(p))


def _check_labels(labels: np.ndarray, n: int, classes: int) -> None:
    check_plain("labels", labels)
    if labels.dtype.kind not in "iu":
        raise TypeError(f"labels must be an array of whole numbers, got {labels.dtype}")
    if labels.shape != (n,):
        raise ValueError(f"labels must have shape (N={n}), got {labels.shape}")
    if n == 0:
        raise ValueError("logits must have at least one row, got none")
    if labels.min() < 0 or labels.max() >= classes:
        raise ValueError(
            f"labels must lie between 0 and K-1 = {classes - 1}, "
            f"got {labels.min()} to {labels.max()}"
        )
