"""What the samplers on a GPU share: see sampler.cuh."""

import numpy as np

from ministn.backend import Array, Device, device_holding
from ministn.cuda.launch import blocks_for, launch
from ministn.errors import check_arrays
from ministn.ops.sampling import BORDERS, check_sampler

THREADS = 256
LANES = 8  # at most, for each point: eight channels are one sector of memory

# The sums behind the gradient of the image: of as many images at a time as stay in the L2 cache of
# a large GPU, so that adding to them and reading them back costs no traffic with its memory.
SUMS_BYTES = 24 * 2**20


def sample(
    sampler: str, image: Array, grid: Array, border: str, fill: float, *own: float
) -> tuple[Array, Array, Array]:
    """y (N, h, w, C) by the kernel <sampler>_forward of <sampler>.cu, and image and grid as read.

    own: what only this sampler's kernels take, at the end.

    Raises as the samplers in ops, and TypeError for a dtype other than float32.
    """
    check_sampler(image, grid, border, fill)
    device = device_holding(image=image)
    image, grid = device.contiguous(image), device.contiguous(grid)
    n, h, w, _ = grid.shape
    y = device.empty((n, h, w, image.shape[3]), np.float32)
    points, blocks, lanes = groups(grid, image.shape[3])
    launch(
        sampler,
        f"{sampler}_forward",
        n * blocks,
        *(image, grid, y),
        *(points, blocks, lanes, *image.shape[1:], BORDERS.index(border), float(fill), *own),
    )
    return y, image, grid


def groups(grid: Array, channels: int) -> tuple[int, int, int]:
    """Points of one image, blocks for them, and lanes for each: a power of two."""
    _, h, w, _ = grid.shape
    lanes = min(LANES, 1 << max(0, channels - 1).bit_length())
    return h * w, blocks_for(h * w * lanes, THREADS), lanes


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
    check_arrays(image=(image, "N H W C"), grid=(grid, "N h w 2"), dy=(dy, "N h w C"))
    device = device_holding(dy=dy)
    dy = device.contiguous(dy)
    dgrid = device.empty(grid.shape, np.float32)
    seen = room_for_seen(dy, need_dimage)
    points, blocks, lanes = groups(grid, image.shape[3])
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
    """dimage, of this shape (N, H, W, C), by the kernel <sampler>_scatter of <sampler>.cu."""
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
    n, height, width, channels = dimage.shape
    points, blocks, lanes = groups(grid, channels)
    points_log2 = max(0, points - 1).bit_length()  # rounded up
    sums = device.zeros(dimage.shape, np.uint64)
    launch(
        sampler,
        f"{sampler}_scatter",
        n * blocks,
        *(dy, grid, seen, sums),
        *(points, points_log2, blocks, lanes, height, width, channels, border, *own),
    )
    launch(
        sampler,
        "sums_to_dimage",
        blocks_for(dimage.size),
        *(sums, seen, dimage),
        *(dimage.size, points_log2, height * width, channels),
    )
