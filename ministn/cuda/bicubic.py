"""ops/bicubic.py on a GPU: see bicubic.cu."""

from typing import NamedTuple

from ministn.backend import Array
from ministn.cuda.sampling import gradients, sample
from ministn.ops.bicubic import check_slope
from ministn.ops.sampling import BORDERS, check_sampler


class Cache(NamedTuple):
    image: Array
    grid: Array
    border: int  # its place in BORDERS
    fill: float
    a: float


def bicubic_sampler(
    image: Array,
    grid: Array,
    *,
    border: str = "nearest",
    fill: float = 0.0,
    a: float = -0.5,
) -> tuple[Array, Cache]:
    """image (N, H, W, C) at grid (N, h, w, 2) -> y (N, h, w, C). STN equation (3), Keys' kernel.

    Raises as in ops, and TypeError for a dtype other than float32.
    """
    a = check_slope(a)
    check_sampler(image, grid, border, fill)
    y, image, grid = sample("bicubic", image, grid, border, fill, float(a))
    return y, Cache(image, grid, BORDERS.index(border), float(fill), float(a))


def bicubic_sampler_backward(
    dy: Array, cache: Cache, need_dimage: bool = True
) -> tuple[Array | None, Array]:
    """dy (N, h, w, C) -> dimage (N, H, W, C) or None, dgrid (N, h, w, 2).

    As in ops, but for an image with dy that is not finite: all of its dimage is NaN.
    """
    image, grid, border, fill, a = cache
    return gradients("bicubic", dy, image, grid, need_dimage, border, fill, a)
