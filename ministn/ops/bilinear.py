"""The bilinear sampler: reads an image at any points, and passes gradients to image and points.

STN equation (5), for every point i = (x^s, y^s) in pixels and every channel c:

    V_i^c = sum_n sum_m U_nm^c max(0, 1 - |x^s_i - m|) max(0, 1 - |y^s_i - n|)

U is the image, n its row, m its column, V the output y. Only the two rows and two columns around
a point have non-zero weights: m = floor(x^s), floor(x^s) + 1, and n likewise.

Convention: images (N, H, W, C); grid pairs are (x, y), x horizontal, normalised: -1 and +1 are
the centres of the first and the last pixel, so that in pixels, counted from 0,

    x^s = g half + half,    half = (W - 1) / 2        (y likewise with H)

and a coordinate on an axis of length 1 is always 0. Outside the image, border

    "nearest"  continues the edge pixels (the sampler of TSTN),
    "zeros"    continues with the value fill: blended with the edge within one pixel of it.
               With fill = 0 this is equation (5), whose sums end at the image.

Kinks: V bends where a coordinate is a whole number, and there the slope of the cell to the right
(below) is used, also at the last pixel, where that cell lies outside: with "nearest" its slope is
0. A coordinate that is not finite reads no memory outside, and gives NaN in y and dgrid (and with
"nearest", where all points belong to some pixel, in the image's gradient at its first pixel).
"""

from typing import NamedTuple

import numpy as np

from ministn.errors import check_arrays


class Cache(NamedTuple):
    image: np.ndarray  # U, for equation (7); framed by one pixel of fill if border is "zeros"
    xs: np.ndarray  # (N, h, w) in pixels; corners and weights, four times as large, are recomputed
    ys: np.ndarray
    margin: int  # width of the frame: 1 or 0


def bilinear_sampler(
    image: np.ndarray, grid: np.ndarray, *, border: str = "nearest", fill: float = 0.0
) -> tuple[np.ndarray, Cache]:
    """image (N, H, W, C) at grid (N, h, w, 2) -> y (N, h, w, C). STN equation (5).

    Raises as check_sampler does.
    """
    sizes = check_sampler(image, grid, border, fill)

    half = np.array([sizes["W"] - 1, sizes["H"] - 1], grid.dtype) / 2
    with np.errstate(over="ignore", invalid="ignore"):  # 1e38 * 20, inf * 0
        points = grid * half + half
    points = np.where(np.isfinite(points).all(axis=-1, keepdims=True), points, np.nan)
    xs, ys = points[..., 0], points[..., 1]

    margin = int(border == "zeros")
    if margin:
        image = np.pad(image, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=fill)
    sample = np.arange(len(image))[:, None, None]
    y = np.zeros((*xs.shape, sizes["C"]), image.dtype)
    for n, ky, _ in _neighbours(ys, sizes["H"], margin):
        for m, kx, _ in _neighbours(xs, sizes["W"], margin):
            y += (ky * kx)[..., None] * image[sample, n, m]  # STN (5)
    return y, Cache(image, xs, ys, margin)


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
    image, xs, ys, margin = cache
    check_arrays(image=(image, "N H W C"), ys=(ys, "N h w"), dy=(dy, "N h w C"))
    height, width = image.shape[1] - 2 * margin, image.shape[2] - 2 * margin
    sample = np.arange(len(image))[:, None, None]
    dimage, dxs, dys = np.zeros_like(image), np.zeros_like(xs), np.zeros_like(ys)

    for n, ky, sign_y in _neighbours(ys, height, margin):
        for m, kx, sign_x in _neighbours(xs, width, margin):
            if need_dimage:  # STN (6): dV/dU_nm = ky kx; points that share a pixel add up
                np.add.at(dimage, (sample, n, m), (ky * kx)[..., None] * dy)
            du = (image[sample, n, m] * dy).sum(axis=-1)  # every channel moves with the point
            dxs += du * ky * sign_x  # STN (7): dV/dx^s = sum U_nm ky (-1 left, +1 right)
            dys += du * kx * sign_y
    dgrid = np.stack([dxs * ((width - 1) / 2), dys * ((height - 1) / 2)], axis=-1)

    if not need_dimage:
        return None, dgrid
    return dimage[:, margin : margin + height, margin : margin + width], dgrid


def check_sampler(image: np.ndarray, grid: np.ndarray, border: str, fill: float) -> dict[str, int]:
    """The size of every letter in image (N, H, W, C) and grid (N, h, w, 2).

    Raises TypeError for a wrong dtype, ValueError for a wrong shape, border or fill.
    """
    sizes = check_arrays(image=(image, "N H W C"), grid=(grid, "N h w 2"))
    if border not in ("nearest", "zeros"):
        raise ValueError(f"border must be 'nearest' or 'zeros', got {border!r}")
    if border == "nearest" and fill != 0:
        raise ValueError(f"fill needs border 'zeros', got fill {fill} with border 'nearest'")
    if sizes["H"] == 0 or sizes["W"] == 0:
        raise ValueError(f"image must have at least one pixel, got shape {image.shape}")
    return sizes


def _neighbours(
    coordinate: np.ndarray, size: int, margin: int
) -> tuple[tuple[np.ndarray, np.ndarray, int], tuple[np.ndarray, np.ndarray, int]]:
    """The two pixels around a coordinate along one axis: index, weight max(0, 1-|x-m|), sign.

    Weights come from where the pixels would be, indices are clipped to where there are any: with
    weights from clipped positions a point on the last column would get weight 0 and come out
    black. Clipping happens before the conversion to integers, which large numbers do not survive,
    and fmax turns NaN into an index that exists.
    """
    left = np.floor(coordinate)
    weight = coordinate - left
    first, last = -margin, size - 1 + margin
    index_left = np.fmin(np.fmax(left, first), last).astype(np.intp) + margin
    index_right = np.fmin(np.fmax(left + 1, first), last).astype(np.intp) + margin
    return (index_left, 1 - weight, -1), (index_right, weight, +1)
