"""ops/compose.py on a GPU: see compose.cu."""

from typing import NamedTuple

import numpy as np

from ministn.backend import Array, device_holding
from ministn.cuda.launch import blocks_for, launch
from ministn.errors import check_arrays


class Cache(NamedTuple):
    left: Array
    right: Array


def compose(left: Array, right: Array) -> tuple[Array, Cache]:
    """left (N, 2, 3), right (N, 2, 3) -> their product (N, 2, 3).

    Raises as in ops, and TypeError for a dtype other than float32.
    """
    check_arrays(left=(left, "N 2 3"), right=(right, "N 2 3"))
    device = device_holding(left=left)
    left, right = device.contiguous(left), device.contiguous(right)
    y = device.empty(left.shape, np.float32)
    launch("compose", "compose", blocks_for(y.size), left, right, y, y.size)
    return y, Cache(left, right)


def compose_backward(dy: Array, cache: Cache) -> tuple[Array, Array]:
    """dy (N, 2, 3) -> dleft, dright (N, 2, 3)."""
    left, right = cache
    check_arrays(left=(left, "N 2 3"), dy=(dy, "N 2 3"))
    device = device_holding(dy=dy)
    dleft = device.empty(left.shape, np.float32)
    dright = device.empty(left.shape, np.float32)
    launch(
        "compose",
        "compose_backward",
        blocks_for(dleft.size),
        *(device.contiguous(dy), left, right, dleft, dright),
        dleft.size,
    )
    return dleft, dright
