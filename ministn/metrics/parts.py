"""Which parts of a picture the windows of transformers show."""

import numpy as np

from ministn.errors import as_float64, check_arrays
from ministn.metrics.attention import TOLERANCE
from ministn.ops.affine_grid import check_size


def within(theta: np.ndarray, points: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Whether each point lies in what its image's theta shows: (N, K) bool.

    theta: (N, 2, 3), float32 or float64. points: (N, K, 2), pairs (x, y) in pixels, the first
    pixel's centre at 0. size: the images' (H, W). A point may lie outside by TOLERANCE pixels; a
    theta without area, or one that is not finite, shows nothing.

    Raises TypeError or ValueError for arrays of another dtype or shape, or such a size.
    """
    points = as_float64("points", points)
    check_arrays(theta=(theta, "N 2 3"))
    check_arrays(points=(points, f"{len(theta)} K 2"))
    half = (np.array(check_size(size)[::-1], np.float64) - 1) / 2
    exact = theta.astype(np.float64)
    (a, b), (c, d) = np.moveaxis(exact[..., :2], 0, -1)
    area = (a * d - b * c)[:, None]
    place = (points - half) / np.maximum(half, 1)  # an axis of length 1 has the coordinate 0
    x, y = np.moveaxis(place - exact[:, None, :, 2], -1, 0)
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        # The inverse of theta: from the input to the attended frame.
        across = (d[:, None] * x - b[:, None] * y) / area
        down = (a[:, None] * y - c[:, None] * x) / area
        reach = 1 + TOLERANCE / np.maximum(half, 1).max()
        return np.maximum(abs(across), abs(down)) <= reach


def shares(theta: np.ndarray, parts: np.ndarray, size: tuple[int, int]) -> list[float | None]:
    """Of the images where a part can be seen, the share whose window shows it; for each part.

    theta: (N, 2, 3). parts: (N, K, 3), x and y in pixels and whether it can be seen, 1 or 0. size:
    the images' (H, W). None for a part that none of them has.

    Raises as ``within`` does.
    """
    parts = as_float64("parts", parts)
    check_arrays(theta=(theta, "N 2 3"))
    check_arrays(parts=(parts, f"{len(theta)} K 3"))
    seen = parts[..., 2] > 0
    shown = within(theta, parts[..., :2], size) & seen
    each = zip(shown.sum(axis=0).tolist(), seen.sum(axis=0).tolist(), strict=True)
    return [count / most if most else None for count, most in each]
