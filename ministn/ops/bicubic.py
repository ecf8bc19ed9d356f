"""The bicubic sampler: a smooth surface through the pixels, read at any points.

STN equation (3) with the kernel of Keys ("Cubic convolution interpolation for digital image
processing", 1981), for every point i = (x^s, y^s) in pixels and every channel c:

    V_i^c = sum_n sum_m U_nm^c k(x^s_i - m) k(y^s_i - n)

    k(d) = (a + 2) |d|^3 - (a + 3) |d|^2 + 1           |d| <= 1
           a (|d| - 1) (|d| - 2)^2                 1 < |d| <  2,     0 beyond

    dU_nm^c = sum_i k(x^s_i - m) k(y^s_i - n) dV_i^c
    dx^s_i  = sum_c dV_i^c sum_n sum_m U_nm^c k'(x^s_i - m) k(y^s_i - n),    dy^s_i likewise

U is the image, n its row, m its column, V the output y. Four rows and columns around a point have
weights: m = floor(x^s) - 1 to floor(x^s) + 2, and n likewise. ops/sampling.py says how normalised
coordinates become pixels, and what U_nm is outside the image.

The default a = -1/2 is Keys' choice: the only one that reproduces straight lines, and it reproduces
parabolas too, so that its error falls with the third power of the pixels' distance. PyTorch and
OpenCV have a = -3/4, whose result looks sharper. Whatever a is, V has a slope everywhere; at pixel
m it is -a (U_m+1 - U_m-1). Beside an edge in the image V may leave the range of the pixels' values.
"""

from typing import NamedTuple

import numpy as np

from ministn.errors import check_arrays, check_number
from ministn.ops.sampling import check_sampler, framed, pixel_at, to_pixels, unframed


class Axis(NamedTuple):
    """The four pixels of each point along one axis, (N, h, w, 4) each."""

    pixel: np.ndarray
    weight: np.ndarray  # k(x - m)
    slope: np.ndarray  # k'(x - m)


class Cache(NamedTuple):
    image: np.ndarray  # in its frame
    rows: Axis
    columns: Axis
    border: str


def bicubic_sampler(
    image: np.ndarray,
    grid: np.ndarray,
    *,
    border: str = "nearest",
    fill: float = 0.0,
    a: float = -0.5,
) -> tuple[np.ndarray, Cache]:
    """image (N, H, W, C) at grid (N, h, w, 2) -> y (N, h, w, C). STN equation (3), Keys' kernel.

    a: the slope of the kernel at a distance of 1. Raises as check_sampler does, and ValueError for
    an a that is not between -1 and 0.
    """
    a = check_slope(a)
    sizes = check_sampler(image, grid, border, fill)
    xs, ys = to_pixels(grid, sizes["H"], sizes["W"])
    image = framed(image, border, fill)
    rows, columns = _axis(ys, sizes["H"], border, a), _axis(xs, sizes["W"], border, a)
    u = image[_windows(rows, columns)]
    y = np.einsum("nijp,nijq,nijpqc->nijc", rows.weight, columns.weight, u)
    return y, Cache(image, rows, columns, border)


def bicubic_sampler_backward(
    dy: np.ndarray, cache: Cache, need_dimage: bool = True
) -> tuple[np.ndarray | None, np.ndarray]:
    """dy (N, h, w, C) -> dimage (N, H, W, C) or None, dgrid (N, h, w, 2).

    dgrid is normalised: the slopes per pixel, times (W-1)/2 and (H-1)/2.
    """
    image, rows, columns, border = cache
    check_arrays(image=(image, "N H W C"), weight=(rows.weight, "N h w 4"), dy=(dy, "N h w C"))
    _, height, width, _ = unframed(image, border).shape
    windows = _windows(rows, columns)
    du = np.einsum("nijpqc,nijc->nijpq", image[windows], dy)  # every channel moves with the point
    dxs = np.einsum("nijp,nijq,nijpq->nij", rows.weight, columns.slope, du)
    dys = np.einsum("nijp,nijq,nijpq->nij", rows.slope, columns.weight, du)
    dgrid = np.stack([dxs * ((width - 1) / 2), dys * ((height - 1) / 2)], axis=-1)
    if not need_dimage:
        return None, dgrid
    dimage = np.zeros_like(image)  # points that share a pixel add up
    shares = np.einsum("nijp,nijq,nijc->nijpqc", rows.weight, columns.weight, dy)
    np.add.at(dimage, windows, shares)
    return unframed(dimage, border), dgrid


def check_slope(a: float) -> float:
    """a as a float: in NumPy's double precision it would make the weights double, too.

    Raises ValueError unless -1 <= a <= 0. Weights along an axis then sum up to at most 5/4.
    """
    return check_number("a", a, -1, 0)


def keys(distance: np.ndarray, a: float) -> tuple[np.ndarray, np.ndarray]:
    """Keys' kernel k(d) and its slope k'(d) at distances from -2 to 2, of any shape."""
    d = abs(distance)
    near = d <= 1
    weight = np.where(near, ((a + 2) * d - (a + 3)) * d * d + 1, a * (d - 1) * (d - 2) ** 2)
    slope = np.where(near, (3 * (a + 2) * d - 2 * (a + 3)) * d, a * (d - 2) * (3 * d - 4))
    return weight, np.sign(distance) * slope


def _axis(coordinate: np.ndarray, size: int, border: str, a: float) -> Axis:
    left = np.floor(coordinate)[..., None]
    offset = np.arange(-1, 3, dtype=coordinate.dtype)
    distance = (coordinate[..., None] - left) - offset  # x - m
    return Axis(pixel_at(left + offset, size, border), *keys(distance, a))


def _windows(rows: Axis, columns: Axis) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What reads the (N, h, w, 4, 4, C) pixels around all points from the images."""
    sample = np.arange(len(rows.pixel)).reshape(-1, 1, 1, 1, 1)
    return sample, rows.pixel[..., :, None], columns.pixel[..., None, :]
