"""ops/bilinear.py on a GPU: see bilinear.cu."""

from typing import NamedTuple

import numpy as np

from ministn.backend import Array, device_holding
from ministn.cuda.launch import launch
from ministn.cuda.sampling import groups, image_gradient, room_for_seen, sample
from ministn.errors import check_arrays
from ministn.ops.sampling import BORDERS


class Cache(NamedTuple):
    image: Array
    grid: Array
    border: int  # its place in BORDERS
    fill: float


def bilinear_sampler(
    image: Array, grid: Array, *, border: str = "nearest", fill: float = 0.0
) -> tuple[Array, Cache]:
    """image (N, H, W, C) at grid (N, h, w, 2) -> y (N, h, w, C). STN equation (5).

    Raises as in ops, and TypeError for a dtype other than float32.
    """
    y, image, grid = sample("bilinear", image, grid, border, fill)
    return y, Cache(image, grid, BORDERS.index(border), float(fill))


def bilinear_sampler_backward(
    dy: Array, cache: Cache, need_dimage: bool = True
) -> tuple[Array | None, Array]:
    """dy (N, h, w, C) -> dimage (N, H, W, C) or None, dgrid (N, h, w, 2). STN (6) and (7).

    As in ops, but for an image with dy that is not finite: all of its dimage is NaN.
    """
    image, grid, border, fill = cache
    check_arrays(image=(image, "N H W C"), grid=(grid, "N h w 2"), dy=(dy, "N h w C"))
    device = device_holding(dy=dy)
    dy = device.contiguous(dy)
    dgrid = device.empty(grid.shape, np.float32)
    seen = room_for_seen(dy, need_dimage)
    points, blocks, lanes = groups(grid, image.shape[3])
    launch(
        "bilinear",
        "bilinear_dgrid",
        len(image) * blocks,
        *(dy, image, grid, dgrid, seen),
        *(int(need_dimage), points, blocks, lanes, *image.shape[1:], border, fill),
    )
    if not need_dimage:
        return None, dgrid
    return image_gradient("bilinear", dy, grid, seen, image.shape, border), dgrid
