"""ops/triplet_hinge.py on a GPU: see triplet_hinge.cu."""

from typing import NamedTuple

import numpy as np

from ministn.backend import Array, device_holding
from ministn.cuda.launch import blocks_for, launch
from ministn.cuda.reduce import mean
from ministn.errors import check_arrays, check_number


class Cache(NamedTuple):
    attended: Array
    random: Array
    pairs: Array
    hinges: Array  # (P,), max(0, h)


def triplet_hinge(
    attended: Array, random: Array, pairs: Array, margin: float = 1.0
) -> tuple[Array, Cache]:
    """Mean loss (1,) of e(T) and e(R), (N, D) each, over pairs (P, 2) int32 of their rows.

    The loss stays on the GPU: reading it would wait. So does what is wrong with a pair: one that
    is not of rows from 0 to N-1 makes the loss NaN, and has no gradient.

    Raises TypeError for a dtype other than float32 or pairs other than int32, ValueError for a
    wrong shape, margin or no pairs.
    """
    margin = check_number("margin", margin, 0)
    rows, features = check_arrays(attended=(attended, "N D"), random=(random, "N D")).values()
    if getattr(pairs, "dtype", None) != np.int32:
        kind = getattr(pairs, "dtype", type(pairs).__name__)
        raise TypeError(f"pairs must be an array of int32, got {kind}")
    if pairs.ndim != 2 or pairs.shape[1] != 2 or len(pairs) == 0:
        raise ValueError(f"pairs must have shape (P, 2) with at least one row, got {pairs.shape}")
    device = device_holding(attended=attended)
    attended, random, pairs = map(device.contiguous, (attended, random, pairs))
    hinges = device.empty((len(pairs),), np.float32)
    launch(
        "triplet_hinge",
        "triplet_hinges",
        blocks_for(len(pairs), 4),
        *(attended, random, pairs, hinges),
        *(len(pairs), rows, features, margin),
    )
    return mean(hinges), Cache(attended, random, pairs, hinges)


def triplet_hinge_backward(
    cache: Cache, dloss: float = 1.0, drawn: float = 1.0
) -> tuple[Array, Array]:
    """The gradients dattended and drandom, (N, D) each. drawn: factor on de(T_m)."""
    attended, random, pairs, hinges = cache
    device = device_holding(attended=attended)
    dattended, drandom = (device.empty(attended.shape, np.float32) for _ in range(2))
    launch(
        "triplet_hinge",
        "triplet_hinge_backward",
        blocks_for(attended.size),
        *(attended, random, pairs, hinges, dattended, drandom),
        *(
            attended.size,
            len(pairs),
            attended.shape[1],
            2 * check_number("dloss", dloss) / len(pairs),
            check_number("drawn", drawn),
        ),
    )
    return dattended, drandom
