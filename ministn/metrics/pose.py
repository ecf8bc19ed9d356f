"""How well a transformer undoes distortions whose true inverse is known.

The pose of an image is the sampling grid of 4x4 points that undoes its distortion: poses[n, i, j]
is where in image n the point in row i and column j of a regular grid over the undistorted image
lies, as a normalised pair (x, y). It is what any grid generator returns for output size (4, 4) when
its theta is right, be it a matrix, a homography or a thin plate spline. Its corners are
poses[n, ::3, ::3].
"""

import numpy as np

from ministn.errors import as_float64, check_arrays
from ministn.ops.affine_grid import check_size
from ministn.transformer.transforms import regular_grid

POINTS = 4  # along each axis

# (4, 4, 2): the pose of what is undistorted
FRAME = regular_grid((POINTS, POINTS), np.dtype(np.float64))


def summary(
    grid: np.ndarray | None, poses: np.ndarray, size: tuple[int, int]
) -> dict[str, float | None]:
    """How well thetas undo the distortions: means over the images, in pixels, all None without.

    grid: (N, K, 4, 4, 2), what the grid generators of K transformers make of theta for output size
    (4, 4), None for a network without any. poses: (N, 4, 4, 2), or (N, C, 4, 4, 2) where each of C
    channels has a digit. size: the images' (H, W).

    pose_distance, pose_spread: of the functions below; of several transformers, each digit counts
    by the one that follows it best. pose_unmoved: the spread where theta is the identity, so how
    large the distortions are.
    """
    names = ("pose_distance", "pose_spread", "pose_unmoved")
    if grid is None:
        return dict.fromkeys(names)
    grid, poses = as_float64("grid", grid), as_float64("poses", poses)
    channels = "C " if poses.ndim == 5 else ""
    check_arrays(grid=(grid, "N K 4 4 2"), poses=(poses, f"N {channels}4 4 2"))
    digits = [poses] if poses.ndim == 4 else np.moveaxis(poses, 1, 0)
    looks = np.moveaxis(grid, 1, 0)
    identity = np.broadcast_to(FRAME, digits[0].shape)
    measured = [
        [
            min(float(distance(look, truth, size).mean()) for look in looks),
            min(float(spread(look, truth, size).mean()) for look in looks),
            float(spread(identity, truth, size).mean()),
        ]
        for truth in digits
    ]
    means = np.mean(measured, axis=0)
    return {name: float(value) for name, value in zip(names, means, strict=True)}


def distance(grid: np.ndarray, poses: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Mean distance, over the 4x4 points, from where they are sampled to where they truly lie.

    grid, poses: (N, 4, 4, 2), see above. size: the images' (H, W). Returns (N,) float64 in pixels
    of the image; NaN for a grid that is not finite. Raises TypeError or ValueError for others.
    """
    offset, _ = _offsets(grid, poses, size)
    return _mean_length(offset)


def spread(grid: np.ndarray, poses: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The same, apart from what is common to all images.

    No loss tells a transformer how large and which way up it should show its digits: it may turn
    all of them alike. So each offset is taken back into the undistorted image, by the affine part
    of the pose, and their median over the images is subtracted there. For affine poses this is
    exact: the spread is 0 wherever theta is the true inverse after one fixed affine map. A grid
    that is not finite makes all of it NaN.
    """
    offset, linear = _offsets(grid, poses, size)
    undistorted = offset @ np.linalg.inv(linear)
    return _mean_length((undistorted - np.median(undistorted, axis=0)) @ linear)


def _offsets(
    grid: np.ndarray, poses: np.ndarray, size: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """(N, 16, 2) from pose to grid in pixels; (N, 2, 2) the poses' linear part, pixels per unit."""
    grid, poses = as_float64("grid", grid), as_float64("poses", poses)
    check_arrays(grid=(grid, "N 4 4 2"), poses=(poses, f"{len(grid)} 4 4 2"))
    half = (np.array(check_size(size)[::-1], np.float64) - 1) / 2
    grid, poses = (array.reshape(len(grid), -1, 2) * half for array in (grid, poses))
    # The columns x and y of the regular grid are orthogonal to each other and to a constant.
    regular = FRAME.reshape(-1, 2)
    return grid - poses, (regular.T / (regular**2).sum(axis=0)[:, None]) @ poses


def _mean_length(offset: np.ndarray) -> np.ndarray:
    return np.hypot(offset[..., 0], offset[..., 1]).mean(axis=1)
