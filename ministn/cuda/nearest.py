"""ops/nearest.py on a GPU: see nearest.cu."""

from typing import NamedTuple

import numpy as np

from ministn.backend import Array, device_holding
from ministn.cuda.launch import launch
from ministn.cuda.sampling import groups, image_gradient, room_for_seen, sample
from ministn.errors import check_arrays
from ministn.ops.sampling import BORDERS, check_sampler


class Cache(NamedTuple):
    shape: tuple[int, ...]  # of the image
    grid: Array
    border: int  # its place in BORDERS


def nearest_sampler(
    image: Array, grid: Array, *, border: str = "nearest", fill: float = 0.0
) -> tuple[Array, Cache]:
    """image (N, H, W, C) at grid (N, h, w, 2) -> y (N, h, w, C). STN equation (4).

    Raises as in ops, and TypeError for a dtype other than float32.
    """
    check_sampler(image, grid, border, fill)
    y, image, grid = sample("nearest", image, grid, border, fill)
    return y, Cache(image.shape, grid, BORDERS.index(border))


def nearest_sampler_backward(
    dy: Array, cache: Cache, need_dimage: bool = True
) -> tuple[Array | None, Array]:
    """dy (N, h, w, C) -> dimage (N, H, W, C) or None, dgrid (N, h, w, 2), which is 0.

    As in ops, but for an image with dy that is not finite: all of its dimage is NaN.
    """
    shape, grid, border = cache
    check_arrays(grid=(grid, "N h w 2"), dy=(dy, f"N h w {shape[3]}"))
    device = device_holding(dy=dy)
    dy = device.contiguous(dy)
    dgrid = device.empty(grid.shape, np.float32)
    seen = room_for_seen(dy, need_dimage)
    points, blocks, lanes = groups(grid, shape)
    launch(
        "nearest",
        "nearest_dgrid",
        shape[0] * blocks,
        *(dy, grid, dgrid, seen),
        *(int(need_dimage), points, blocks, lanes, *shape[1:], border),
    )
    if not need_dimage:
        return None, dgrid
    return image_gradient("nearest", dy, grid, seen, shape, border), dgrid
