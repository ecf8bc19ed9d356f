"""ops/bilinear.py on a GPU: see bilinear.cu."""

from typing import NamedTuple

import numpy as np

from ministn.backend import Array, Device, device_holding
from ministn.cuda.launch import blocks_for, launch
from ministn.errors import check_arrays
from ministn.ops.bilinear import check_sampler

THREADS = 256
LANES = 8  # at most, for each point: eight channels are one sector of memory

# The sums behind the gradient of the image: of as many images at a time as stay in the L2 cache of
# a large GPU, so that adding to them and reading them back costs no traffic with its memory.
SUMS_BYTES = 24 * 2**20


class Cache(NamedTuple):
    image: Array
    grid: Array
    margin: int  # 1 if there is fill outside the image, else 0
    fill: float


def bilinear_sampler(
    image: Array, grid: Array, *, border: str = "nearest", fill: float = 0.0
) -> tuple[Array, Cache]:
    """image (N, H, W, C) at grid (N, h, w, 2) -> y (N, h, w, C). STN equation (5).

    Raises as in ops, and TypeError for a dtype other than float32.
    """
    check_sampler(image, grid, border, fill)
    device = device_holding(image=image)
    image, grid = device.contiguous(image), device.contiguous(grid)
    cache = Cache(image, grid, int(border == "zeros"), float(fill))
    n, h, w, _ = grid.shape
    y = device.empty((n, h, w, image.shape[3]), np.float32)
    points, blocks, lanes = _groups(image, grid)
    launch(
        "bilinear",
        "bilinear_forward",
        n * blocks,
        *(image, grid, y),
        *(points, blocks, lanes, *image.shape[1:], cache.margin, cache.fill),
    )
    return y, cache


def bilinear_sampler_backward(
    dy: Array, cache: Cache, need_dimage: bool = True
) -> tuple[Array | None, Array]:
    """dy (N, h, w, C) -> dimage (N, H, W, C) or None, dgrid (N, h, w, 2). STN (6) and (7).

    As in ops, but for an image with dy that is not finite: all of its dimage is NaN.
    """
    image, grid, margin, fill = cache
    check_arrays(image=(image, "N H W C"), grid=(grid, "N h w 2"), dy=(dy, "N h w C"))
    device = device_holding(dy=dy)
    dy = device.contiguous(dy)
    dgrid = device.empty(grid.shape, np.float32)
    seen = (device.zeros if need_dimage else device.empty)((len(image), 2), np.uint32)
    points, blocks, lanes = _groups(image, grid)
    launch(
        "bilinear",
        "bilinear_dgrid",
        len(image) * blocks,
        *(dy, image, grid, dgrid, seen),
        *(int(need_dimage), points, blocks, lanes, *image.shape[1:], margin, fill),
    )
    if not need_dimage:
        return None, dgrid
    dimage = device.empty(image.shape, np.float32)
    images = max(1, SUMS_BYTES // max(1, 8 * dimage[:1].size))
    for start in range(0, len(image), images):
        some = slice(start, start + images)
        _image_gradient(device, dy[some], grid[some], seen[some], dimage[some], margin)
    return dimage, dgrid


def _image_gradient(
    device: Device, dy: Array, grid: Array, seen: Array, dimage: Array, margin: int
) -> None:
    """Write dimage, of some images."""
    n, height, width, channels = dimage.shape
    points, blocks, lanes = _groups(dimage, grid)
    points_log2 = max(0, points - 1).bit_length()  # rounded up
    sums = device.zeros(dimage.shape, np.uint64)
    launch(
        "bilinear",
        "bilinear_scatter",
        n * blocks,
        *(dy, grid, seen, sums),
        *(points, points_log2, blocks, lanes, height, width, channels, margin),
    )
    launch(
        "bilinear",
        "bilinear_dimage",
        blocks_for(dimage.size),
        *(sums, seen, dimage),
        *(dimage.size, points_log2, height * width, channels),
    )


def _groups(image: Array, grid: Array) -> tuple[int, int, int]:
    """Points of one image, blocks for them, and lanes for each: a power of two."""
    _, h, w, _ = grid.shape
    lanes = min(LANES, 1 << max(0, image.shape[3] - 1).bit_length())
    return h * w, blocks_for(h * w * lanes, THREADS), lanes
