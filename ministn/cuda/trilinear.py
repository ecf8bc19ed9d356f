"""ops/trilinear.py on a GPU: see trilinear.cu."""

from typing import NamedTuple

from ministn.backend import Array
from ministn.cuda.sampling import gradients, sample
from ministn.ops.sampling import BORDERS, check_volume_sampler


class Cache(NamedTuple):
    volume: Array
    grid: Array
    border: int  # its place in BORDERS
    fill: float


def trilinear_sampler(
    volume: Array, grid: Array, *, border: str = "nearest", fill: float = 0.0
) -> tuple[Array, Cache]:
    """volume (N, D, H, W) at grid (N, d, h, w, 3), triples (x, y, z) -> y (N, d, h, w).

    Raises as in ops, and TypeError for a dtype other than float32.
    """
    check_volume_sampler(volume, grid, border, fill)
    y, volume, grid = sample("trilinear", volume, grid, border, fill)
    return y, Cache(volume, grid, BORDERS.index(border), float(fill))


def trilinear_sampler_backward(
    dy: Array, cache: Cache, need_dvolume: bool = True
) -> tuple[Array | None, Array]:
    """dy (N, d, h, w) -> dvolume (N, D, H, W) or None, dgrid (N, d, h, w, 3).

    As in ops, but for a volume with dy that is not finite: all of its dvolume is NaN.
    """
    volume, grid, border, fill = cache
    return gradients("trilinear", dy, volume, grid, need_dvolume, border, fill)
