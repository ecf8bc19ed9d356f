"""What the samplers on a GPU share: see sampler.cuh.

An image is (N, H, W, C), a volume (N, D, H, W): either way three numbers tell a kernel its size.
"""

from math import prod

import numpy as np

from ministn.backend import Array, Device, device_holding
from ministn.cuda.launch import blocks_for, launch
from ministn.errors import check_arrays
from ministn.ops.sampling import BORDERS

THREADS = 256
LANES = 8  # at most, for each point: eight channels are one sector of memory

# The sums behind the gradient of the image: of as many images at a time as stay in the L2 cache of
# a large GPU, so that adding to them and reading them back costs no traffic with its memory.
SUMS_BYTES = 24 * 2**20


def sample(
    sampler: str, image: Array, grid: Array, border: str, fill: float, *own: float
) -> tuple[Array, Array, Array]:
    """y (N, h, w, C) by the kernel <sampler>_forward of <sampler>.cu, and image and grid as read.

    own: what only this sampler's kernels take, at the end. The arguments have been checked.

    Raises TypeError for a dtype other than float32.
    """
    device = device_holding(image=image)
    image, grid = device.contiguous(image), device.contiguous(grid)
    y = device.empty(grid.shape[:-1] + channels_of(image.shape, grid), np.float32)
    points, blocks, lanes = groups(grid, image.shape)
    launch(
        sampler,
        f"{sampler}_forward",
        len(grid) * blocks,
        *(image, grid, y),
        *(points, blocks, lanes, *image.shape[1:], BORDERS.index(border), float(fill), *own),
    )
    return y, image, grid


def channels_of(shape: tuple[int, ...], grid: Array) -> tuple[int, ...]:
    """(C,) of images of this shape, () of volumes: what follows a point's axes."""
    return shape[grid.ndim - 1 :]


def groups(grid: Array, shape: tuple[int, ...]) -> tuple[int, int, int]:
    """Points of one image, blocks for them, and lanes for each: a power of two."""
    points, channels = prod(grid.shape[1:-1]), prod(channels_of(shape, grid))
    lanes = min(LANES, 1 << max(0, channels - 1).bit_length())
    return points, blocks_for(points * lanes, THREADS), lanes


def gradients(
    sampler: str,
    dy: Array,
    image: Array,
    grid: Array,
    need_dimage: bool,
    border: int,
    fill: float,
    *own: float,
) -> tuple[Array | None, Array]:
    """dimage or None, and dgrid by the kernel <sampler>_dgrid, which reads the image."""
    y = grid.shape[:-1] + channels_of(image.shape, grid)
    check_arrays(dy=(dy, " ".join(map(str, y))))
    device = device_holding(dy=dy)
    dy = device.contiguous(dy)
    dgrid = device.empty(grid.shape, np.float32)
    seen = room_for_seen(dy, need_dimage)
    points, blocks, lanes = groups(grid, image.shape)
    launch(
        sampler,
        f"{sampler}_dgrid",
        len(image) * blocks,
        *(dy, image, grid, dgrid, seen),
        *(int(need_dimage), points, blocks, lanes, *image.shape[1:], border, fill, *own),
    )
    if not need_dimage:
        return None, dgrid
    return image_gradient(sampler, dy, grid, seen, image.shape, border, *own), dgrid


def room_for_seen(dy: Array, need_dimage: bool) -> Array:
    """Where a sampler's dgrid kernel notes what image_gradient must know of dy, if it must."""
    device = device_holding(dy=dy)
    return (device.zeros if need_dimage else device.empty)((len(dy), 2), np.uint32)


def image_gradient(
    sampler: str,
    dy: Array,
    grid: Array,
    seen: Array,
    shape: tuple[int, ...],
    border: int,
    *own: float,
) -> Array:
    """dimage, of this shape, by the kernel <sampler>_scatter of <sampler>.cu."""
    device = device_holding(dy=dy)
    dimage = device.empty(shape, np.float32)
    images = max(1, SUMS_BYTES // max(1, 8 * dimage[:1].size))
    for start in range(0, len(dimage), images):
        some = slice(start, start + images)
        _add_up(device, sampler, dy[some], grid[some], seen[some], dimage[some], border, *own)
    return dimage


def _add_up(
    device: Device,
    sampler: str,
    dy: Array,
    grid: Array,
    seen: Array,
    dimage: Array,
    border: int,
    *own: float,
) -> None:
    """Write dimage, of some images."""
    points, blocks, lanes = groups(grid, dimage.shape)
    points_log2 = max(0, points - 1).bit_length()  # rounded up
    sums = device.zeros(dimage.shape, np.uint64)
    launch(
        sampler,
        f"{sampler}_scatter",
        len(dimage) * blocks,
        *(dy, grid, seen, sums),
        *(points, points_log2, blocks, lanes, *dimage.shape[1:], border, *own),
    )
    launch(
        sampler,
        "sums_to_dimage",
        blocks_for(dimage.size),
        *(sums, seen, dimage),
        *(dimage.size, points_log2, dimage[:1].size, prod(channels_of(dimage.shape, grid))),
    )
