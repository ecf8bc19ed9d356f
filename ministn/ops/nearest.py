"""The integer sampler: copies the pixel nearest to any point.

STN equation (4), for every point i = (x^s, y^s) in pixels and every channel c:

    V_i^c = sum_n sum_m U_nm^c delta(floor(x^s_i + 1/2) - m) delta(floor(y^s_i + 1/2) - n)

    dU_nm^c = sum over the points i nearest to it of dV_i^c

U is the image, n its row, m its column, V the output y. A point half-way between two pixels gets
the right (lower) one. ops/sampling.py says how normalised coordinates become pixels, and what U_nm
is outside the image.

V does not change while a point moves within half a pixel, and jumps beyond: its slope is 0 or does
not exist, so dgrid is 0 and no localisation network learns through this sampler. It is for looking
at the pixels that are there, and for images whose values are names, like those of a segmentation.
"""

from typing import NamedTuple

import numpy as np

from ministn.errors import check_arrays
from ministn.ops.sampling import check_sampler, framed, pixel_at, to_pixels, unframed


class Cache(NamedTuple):
    image: np.ndarray  # in its frame: only its shape counts
    n: np.ndarray  # (N, h, w): row and column of each point's pixel in it
    m: np.ndarray
    weight: np.ndarray  # (N, h, w, 1): 1, or NaN where a coordinate is not finite
    border: str


def nearest_sampler(
    image: np.ndarray, grid: np.ndarray, *, border: str = "nearest", fill: float = 0.0
) -> tuple[np.ndarray, Cache]:
    """image (N, H, W, C) at grid (N, h, w, 2) -> y (N, h, w, C). STN equation (4).

    Raises as check_sampler does.
    """
    sizes = check_sampler(image, grid, border, fill)
    xs, ys = to_pixels(grid, sizes["H"], sizes["W"])
    n = pixel_at(_nearest(ys), sizes["H"], border)
    m = pixel_at(_nearest(xs), sizes["W"], border)
    weight = np.where(np.isnan(xs), xs, 1)[..., None]
    image = framed(image, border, fill)
    y = weight * image[np.arange(len(image))[:, None, None], n, m]  # STN (4)
    return y, Cache(image, n, m, weight, border)


def nearest_sampler_backward(
    dy: np.ndarray, cache: Cache, need_dimage: bool = True
) -> tuple[np.ndarray | None, np.ndarray]:
    """dy (N, h, w, C) -> dimage (N, H, W, C) or None, dgrid (N, h, w, 2), which is 0."""
    image, n, m, weight, border = cache
    check_arrays(image=(image, "N H W C"), weight=(weight, "N h w 1"), dy=(dy, "N h w C"))
    dgrid = np.repeat(0 * weight, 2, axis=-1)
    if not need_dimage:
        return None, dgrid
    dimage = np.zeros_like(image)
    np.add.at(dimage, (np.arange(len(image))[:, None, None], n, m), weight * dy)
    return unframed(dimage, border), dgrid


def _nearest(coordinate: np.ndarray) -> np.ndarray:
    """floor(x + 1/2), where adding 1/2 would round: 0.49999997 + 0.5 is 1 in float32."""
    left = np.floor(coordinate)
    return left + (coordinate - left >= 0.5)
