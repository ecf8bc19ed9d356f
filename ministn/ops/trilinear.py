"""The trilinear sampler: reads a volume at any points, and passes gradients to volume and points.

STN appendix A.3: equation (5) with one axis more, for every point i = (x^s, y^s, z^s) in voxels:

    V_i = sum_k sum_n sum_m U_knm max(0, 1 - |x^s_i - m|) max(0, 1 - |y^s_i - n|)
                                  max(0, 1 - |z^s_i - k|)

U is the volume, k its layer, n its row, m its column, V the output y. Of the sum eight voxels are
left, the corners of the cell around a point: m = floor(x^s), floor(x^s) + 1, and n and k likewise.
Between two of them V is linear along each axis, so it is computed along one axis after the other:

    U_m + (x^s - floor(x^s)) (U_m+1 - U_m)     and then alike of what that gives, along y and z

    dV/dx^s = U_m+1 - U_m, taken between the rows and layers      dV/dy^s, dV/dz^s likewise
    dV_i/dU_knm is the product of the three weights, as in equation (6)

ops/sampling.py says how normalised coordinates become voxels, what U_knm is outside the volume, and
what becomes of coordinates that are not finite. At whole numbers the slope is that of the cell to
the right, as in ops/bilinear.py.
"""

from typing import NamedTuple

import numpy as np

from ministn.errors import check_arrays
from ministn.ops.sampling import check_volume_sampler, framed, pixel_at, to_pixels, unframed


class Cache(NamedTuple):
    volume: np.ndarray  # U in its frame, (N, D, H, W, 1)
    grid: np.ndarray  # cells, many times as large, are computed again
    border: str


class Cells(NamedTuple):
    """The cells around the P points of one volume."""

    corners: np.ndarray  # (2, 2, 2, P) places in the flat volume: along x, along y, along z
    weights: list[np.ndarray]  # (P,) for x, y and z: those of the corners further along the axis


def trilinear_sampler(
    volume: np.ndarray, grid: np.ndarray, *, border: str = "nearest", fill: float = 0.0
) -> tuple[np.ndarray, Cache]:
    """volume (N, D, H, W) at grid (N, d, h, w, 3), triples (x, y, z) -> y (N, d, h, w).

    Raises as check_volume_sampler does.
    """
    check_volume_sampler(volume, grid, border, fill)
    volume = framed(volume[..., None], border, fill)
    y = np.empty(grid.shape[:-1], volume.dtype)
    for n in range(len(volume)):  # one after the other: cells take much memory
        corners, (wx, wy, wz) = _cells(volume[n], grid[n], border)
        u = volume[n].take(corners)
        y[n] = _between(_between(_between(u, wx), wy), wz).reshape(y[n].shape)
    return y, Cache(volume, grid, border)


def trilinear_sampler_backward(
    dy: np.ndarray, cache: Cache, need_dvolume: bool = True
) -> tuple[np.ndarray | None, np.ndarray]:
    """dy (N, d, h, w) -> dvolume (N, D, H, W) or None, dgrid (N, d, h, w, 3).

    dgrid is normalised: the slopes per voxel, times (W-1)/2, (H-1)/2 and (D-1)/2.
    """
    volume, grid, border = cache
    check_arrays(volume=(volume, "N D H W 1"), grid=(grid, "N d h w 3"), dy=(dy, "N d h w"))
    lengths = unframed(volume, border).shape[3:0:-1]  # W, H, D
    dvolume, dgrid = np.zeros_like(volume), np.empty_like(grid)
    for n in range(len(volume)):
        corners, weights = _cells(volume[n], grid[n], border)
        wx, wy, wz = weights
        u = volume[n].take(corners)
        ux = _between(u, wx)
        uxy = _between(ux, wy)
        slopes = (
            _between(_between(u[1] - u[0], wy), wz),
            _between(ux[1] - ux[0], wz),
            uxy[1] - uxy[0],
        )
        for axis, (slope, length) in enumerate(zip(slopes, lengths, strict=True)):
            dgrid[n, ..., axis] = slope.reshape(dy[n].shape) * dy[n] * ((length - 1) / 2)
        if need_dvolume:
            x, y, z = (np.stack([1 - weight, weight]) for weight in weights)
            shares = np.einsum("ap,bp,cp,p->abcp", x, y, z, dy[n].ravel())
            # Points that share a voxel add up.
            sums = np.bincount(corners.ravel(), shares.ravel(), dvolume[n].size)
            dvolume[n] = sums.reshape(dvolume[n].shape)
    return unframed(dvolume, border)[..., 0] if need_dvolume else None, dgrid


def _cells(volume: np.ndarray, grid: np.ndarray, border: str) -> Cells:
    """volume (D, H, W, 1) in its frame, grid (d, h, w, 3)."""
    depth, height, width, _ = unframed(volume[None], border).shape[1:]
    points = to_pixels(grid.reshape(-1, 3), depth, height, width)
    lefts = [np.floor(point) for point in points]
    _, rows, columns, _ = volume.shape
    x, y, z = (
        pixel_at(np.stack([left, left + 1]), length, border) * stride
        for left, length, stride in zip(
            lefts, (width, height, depth), (1, columns, rows * columns), strict=True
        )
    )
    weights = [point - left for point, left in zip(points, lefts, strict=True)]
    return Cells(x[:, None, None] + y[:, None] + z, weights)


def _between(u: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """u (2, ..., P) -> (..., P): the value between its two halves."""
    return u[0] + weight * (u[1] - u[0])
