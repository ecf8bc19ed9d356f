"""Projection of a volume along its depth to an image: STN appendix A.3.

    y_nij = 1/D sum over k of x_nkij

    dx_nkij = dy_nij / D

The paper flattens the depth and does not say how. The sum differs only by the factor D: the mean
stays in the range of the voxels, as an image does, however deep the volume is. The maximum would
send the gradient to one voxel of each column; the mean sends it to all that the light passes
through, so a transformer learns from the whole volume.
"""

from typing import NamedTuple

import numpy as np

from ministn.errors import check_arrays


class Cache(NamedTuple):
    depth: int
    y: np.ndarray  # only for the shape and dtype that dy must have


def projection(x: np.ndarray) -> tuple[np.ndarray, Cache]:
    """x (N, D, H, W) -> y (N, H, W, 1).

    Raises as check_layers does.
    """
    check_layers(x)
    y = x.mean(axis=1)[..., None]
    return y, Cache(x.shape[1], y)


def projection_backward(dy: np.ndarray, cache: Cache) -> np.ndarray:
    """dy (N, H, W, 1) -> dx (N, D, H, W)."""
    depth, y = cache
    check_arrays(y=(y, "N H W 1"), dy=(dy, "N H W 1"))
    return (dy / depth).transpose(0, 3, 1, 2).repeat(depth, axis=1)


def check_layers(x: np.ndarray) -> tuple[int, ...]:
    """(N, D, H, W) of what is to be projected.

    Raises TypeError for a wrong dtype, ValueError for a wrong shape or no depth.
    """
    check_arrays(x=(x, "N D H W"))
    if x.shape[1] == 0:
        raise ValueError(f"x must have at least one layer, got shape {x.shape}")
    return x.shape
