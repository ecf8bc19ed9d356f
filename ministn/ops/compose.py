"""The product of two affine transforms, for alignment in several steps (IC-STN, iterated STNs).

With A = [A' a], a 2x2 matrix A' beside a translation a, and B likewise,

    A B = [A' B'   A' b + a]

    dA' = dC B^T  (all three columns of both),    da = dc,    dB = A'^T dC

A B maps a target by B first. Transforms map output to input: warping an image by A, and the result
by B, is warping the image by A B once. So a later step multiplies from the right, and from the
left where it is given in the coordinates of the image.

transformer/iterated.py aligns with it.
"""

from typing import NamedTuple

import numpy as np

from ministn.errors import check_arrays


class Cache(NamedTuple):
    left: np.ndarray
    right: np.ndarray


def compose(left: np.ndarray, right: np.ndarray) -> tuple[np.ndarray, Cache]:
    """left (N, 2, 3), right (N, 2, 3) -> their product (N, 2, 3).

    Raises TypeError for a wrong dtype, ValueError for a wrong shape.
    """
    check_arrays(left=(left, "N 2 3"), right=(right, "N 2 3"))
    with np.errstate(over="ignore", invalid="ignore"):
        y = left[:, :, :2] @ right
        y[:, :, 2] += left[:, :, 2]
    return y, Cache(left, right)


def compose_backward(dy: np.ndarray, cache: Cache) -> tuple[np.ndarray, np.ndarray]:
    """dy (N, 2, 3) -> dleft, dright (N, 2, 3)."""
    left, right = cache
    check_arrays(left=(left, "N 2 3"), dy=(dy, "N 2 3"))
    dleft = dy.copy()
    with np.errstate(over="ignore", invalid="ignore"):
        dleft[:, :, :2] = dy @ right.transpose(0, 2, 1)
        return dleft, left[:, :, :2].transpose(0, 2, 1) @ dy
