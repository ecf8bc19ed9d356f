"""Softmax and cross entropy of the logits z.

    p_nk = exp(z_nk) / sum_j exp(z_nj)
    loss = -1/N sum_n log p_n,label(n)

    dz_nk = dloss/N (p_nk - [k = label(n)])

One operation and not two, because only together is their gradient this difference.

With epsilon added to each p, no label can cost more than -log epsilon, and one that does cost so
much has hardly any gradient (as in the code of Sønderby et al. 2015):

    loss  = -1/N sum_n log(q_n + epsilon)       q_n = p_n,label(n)
    dz_nk = dloss/N q_n / (q_n + epsilon) (p_nk - [k = label(n)])
"""

from typing import NamedTuple

import numpy as np

from ministn.errors import check_arrays, check_number, check_plain


class Cache(NamedTuple):
    p: np.ndarray  # (N, K), all that the gradient needs besides the labels
    labels: np.ndarray
    epsilon: float


def softmax_cross_entropy(
    logits: np.ndarray, labels: np.ndarray, epsilon: float = 0.0
) -> tuple[float, Cache]:
    """Mean loss in nats of logits (N, K) against labels (N), whole numbers from 0 to K-1.

    Raises TypeError for a wrong dtype, ValueError for a wrong shape, a label out of range or an
    epsilon below 0.
    """
    epsilon = check_number("epsilon", epsilon, 0)
    sizes = check_arrays(logits=(logits, "N K"))
    _check_labels(labels, sizes["N"], sizes["K"])
    # Subtracting the largest logit changes no probability, and keeps exp from overflowing.
    shifted = logits - logits.max(axis=1, keepdims=True)
    exponentials = np.exp(shifted)
    total = exponentials.sum(axis=1, keepdims=True)
    p, rows = exponentials / total, np.arange(sizes["N"])
    if epsilon:
        losses = -np.log(p[rows, labels] + epsilon)
    else:
        losses = np.log(total[:, 0]) - shifted[rows, labels]
    return float(np.mean(losses)), Cache(p, labels, epsilon)


def softmax_cross_entropy_backward(cache: Cache, dloss: float = 1.0) -> np.ndarray:
    """The gradient dlogits (N, K)."""
    p, labels, epsilon = cache
    rows = np.arange(len(p))
    dlogits = p.copy()
    dlogits[rows, labels] -= 1
    if epsilon:
        q = p[rows, labels]
        dlogits *= (q / (q + epsilon))[:, None]
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
