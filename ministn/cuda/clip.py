"""Limits on a gradient on a GPU: see clip.cu. The host never learns the norm."""

import numpy as np

from ministn.backend import Array, device_holding
from ministn.cuda.launch import blocks_for, launch
from ministn.errors import check_arrays, check_number

BLOCKS = 1024  # at most; the order of a sum depends on it


def clip(g: Array, limit: float) -> None:
    """Limit each value of g (S,), float32, to [-limit, limit].

    Raises TypeError for another dtype, ValueError for a wrong shape or number, as all do here.
    """
    check_arrays(g=(g, "S"))
    limit = check_number("limit", limit, 0)
    launch("clip", "clip", blocks_for(g.size), g, limit, g.size)


def sum_of_squares(g: Array) -> Array:
    """Of all values of g (S,), float32: (1,) float64."""
    check_arrays(g=(g, "S"))
    device, blocks = device_holding(g=g), _blocks(g)
    sums, total = device.empty((blocks,), np.float64), device.empty((1,), np.float64)
    launch("clip", "squares_of_blocks", blocks, g, sums, g.size)
    launch("clip", "sum_of_blocks", 1, sums, total, blocks)
    return total


def limit_norm(g: Array, squares: Array, most: float) -> None:
    """Scale g (S,), float32, so that the whole gradient's norm is ``most`` or less.

    squares: (1,) float64, the sum that the whole gradient has.
    """
    check_arrays(g=(g, "S"))
    most = check_number("most", most, 0)
    launch("clip", "limit_norm", _blocks(g), g, squares, most, g.size)


def _blocks(g: Array) -> int:
    return min(BLOCKS, blocks_for(g.size))
