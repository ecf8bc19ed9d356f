"""The bilinear sampler: reads an image at any points, and passes gradients to image and points.

STN equation (5), for every point i = (x^s, y^s) in pixels and every channel c:

    V_i^c = sum_n sum_m U_nm^c max(0, 1 - |x^s_i - m|) max(0, 1 - |y^s_i - n|)

U is the image, n its row, m its column, V the output y. Only the two rows and two columns around
a point have non-zero weights: m = floor(x^s), floor(x^s) + 1, and n likewise. ops/sampling.py says
how normalised coordinates become pixels, and what U_nm is outside the image: with border "nearest"
the edge pixels (the sampler of TSTN), with "zeros" and fill 0 this is equation (5), whose sums end
at the image, blended with its edge within one pixel of it.

Kinks: V bends where a coordinate is a whole number, and there the slope of the cell to the right
(below) is used, also at the last pixel, where that cell lies outside: with "nearest" its slope is
0. A coordinate that is not finite gives NaN in y and dgrid.
"""

from typing import NamedTuple

import numpy as np

from ministn.errors import check_arrays
from ministn.ops.sampling import check_sampler, framed, pixel_at, to_pixels, unframed


class Cache(NamedTuple):
    image: np.ndarray  # U in its frame, for equation (7)
    xs: np.ndarray  # (N, h, w) in pixels; corners and weights, four times as large, are recomputed
    ys: np.ndarray
    border: str


def bilinear_sampler(
    image: np.ndarray, grid: np.ndarray, *, border: str = "nearest", fill: float = 0.0
) -> tuple[np.ndarray, Cache]:
    """image (N, H, W, C) at grid (N, h, w, 2) -> y (N, h, w, C). STN equation (5).

    Raises as check_sampler does.
    """
    sizes = check_sampler(image, grid, border, fill)
    xs, ys = to_pixels(grid, sizes["H"], sizes["W"])
    image = framed(image, border, fill)
    sample = np.arange(len(image))[:, None, None]
    y = np.zeros((*xs.shape, sizes["C"]), image.dtype)
    for n, ky, _ in _neighbours(ys, sizes["H"], border):
        for m, kx, _ in _neighbours(xs, sizes["W"], border):
            y += (ky * kx)[..., None] * image[sample, n, m]  # STN (5)
    return y, Cache(image, xs, ys, border)


def bilinear_sampler_backward(
    dy: np.ndarray, cache: Cache, need_dimage: bool = True
) -> tuple[np.ndarray | None, np.ndarray]:
    """dy (N, h, w, C) -> dimage (N, H, W, C) or None, dgrid (N, h, w, 2).

    STN equations (6) and (7), read as the derivatives of (5):

    (6) as printed sums over n and m; dV_i/dU_nm is the one weight of that pixel, without a sum.
    (7) as printed gives a pixel at exactly x^s the sign +1, and leaves out its right neighbour,
        whose distance is 1: the "slope" would be U_nm itself. Here the left corner has the
        sign -1 and the right one +1, at whole numbers too.
    Both are in pixels; grid is normalised, so dgrid has the further factor (W-1)/2 or (H-1)/2.
    """
    image, xs, ys, border = cache
    check_arrays(image=(image, "N H W C"), ys=(ys, "N h w"), dy=(dy, "N h w C"))
    _, height, width, _ = unframed(image, border).shape
    sample = np.arange(len(image))[:, None, None]
    dimage, dxs, dys = np.zeros_like(image), np.zeros_like(xs), np.zeros_like(ys)

    for n, ky, sign_y in _neighbours(ys, height, border):
        for m, kx, sign_x in _neighbours(xs, width, border):
            if need_dimage:  # STN (6): dV/dU_nm = ky kx; points that share a pixel add up
                np.add.at(dimage, (sample, n, m), (ky * kx)[..., None] * dy)
            du = (image[sample, n, m] * dy).sum(axis=-1)  # every channel moves with the point
            dxs += du * ky * sign_x  # STN (7): dV/dx^s = sum U_nm ky (-1 left, +1 right)
            dys += du * kx * sign_y
    dgrid = np.stack([dxs * ((width - 1) / 2), dys * ((height - 1) / 2)], axis=-1)

    return unframed(dimage, border) if need_dimage else None, dgrid


def _neighbours(
    coordinate: np.ndarray, size: int, border: str
) -> tuple[tuple[np.ndarray, np.ndarray, int], tuple[np.ndarray, np.ndarray, int]]:
    """The two pixels around a coordinate along one axis: index, weight max(0, 1-|x-m|), sign.

    Weights come from where the pixels would be, indices from where there are any: with weights
    from clipped positions a point on the last column would get weight 0 and come out black.
    """
    left = np.floor(coordinate)
    weight = coordinate - left
    index_left, index_right = pixel_at(left, size, border), pixel_at(left + 1, size, border)
    return (index_left, 1 - weight, -1), (index_right, weight, +1)
