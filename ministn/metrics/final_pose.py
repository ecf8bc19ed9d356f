"""How alike the digits of a class come out of a transformer: the placement paper's Table I.

A digit that lies turned by an angle, scaled and moved in the image is shown, by a theta, turned by
that angle less theta's, and so on. What is left should be the same for all digits of a class: which
pose it is, no loss tells. So the measure is how far what is left spreads within the classes
(Finnveden, Jansson & Lindeberg 2020, section IV-A and its footnote 2, as the authors' code has it).
"""

from typing import NamedTuple

import numpy as np

from ministn.errors import as_float64, check_arrays, check_list, check_plain, check_together
from ministn.metrics.pose import FRAME
from ministn.ops.affine_grid import check_size

TURNED = 1.0  # degrees: digits that differ by less have not been turned
DRAWN = 200  # images whose angles a record has, for Figure 6


class Spread(NamedTuple):
    """Table I's three measures; the paper has one for each of its sets."""

    degrees: float  # of the final angle
    pixels: float  # of the final place
    log2_area: float  # of log2 of the determinant: twice that of the scale


class Line(NamedTuple):
    """y = slope x + intercept."""

    slope: float
    intercept: float


def summary(
    theta: np.ndarray | None,
    poses: np.ndarray,
    labels: np.ndarray,
    size: tuple[int, int],
    field: np.ndarray | None = None,
) -> dict[str, float | None]:
    """The spread of the final poses for a record, and how theta's angle follows; None without any.

    final_degrees, final_pixels, final_log2_area: see Spread. turn_slope: of Figure 6's line, 1
    where theta turns with the digit and 0 where it does not; None where digits are not turned. What
    is not finite, as of a singular theta, is None. field: that of the transformer in x, 1 where it
    samples the image; a record without it takes the shifts of a feature map for the image's.

    theta: (N, 2, 3), None for a network without a transformer. size: the images' (H, W). field:
    (N, 2), see Attended, by default 1.
    """
    if theta is None:
        names = [*(f"final_{name}" for name in Spread._fields), "turn_slope", "field"]
        return dict.fromkeys(names)
    height, width = check_size(size)
    theta = as_float64("theta", theta)
    field = np.ones((len(theta), 2)) if field is None else as_float64("field", field)
    check_arrays(theta=(theta, "N 2 3"), field=(field, "N 2"))
    theta = np.concatenate([theta[:, :, :2], theta[:, :, 2:] * field[:, :, None]], axis=2)
    found = spread(theta, poses, labels, ((width - 1) / 2, (height - 1) / 2))
    applied, predicted = angle(nearest_affine(poses)), angle(theta)
    measured: dict[str, float | None] = {
        **{f"final_{name}": value for name, value in found._asdict().items()},
        "turn_slope": orthogonal_regression(applied, predicted).slope,
        "field": float(field[:, 0].mean()),
    }
    if np.ptp(applied) < TURNED:
        measured["turn_slope"] = None
    return {name: each if np.isfinite(each or 0) else None for name, each in measured.items()}


def turns(theta: np.ndarray, poses: np.ndarray) -> list[list[int]] | None:
    """Figure 6's points: of the first DRAWN images the digit's angle and theta's, whole degrees.

    theta: (N, 2, 3). poses: (N, 4, 4, 2). None where digits are not turned; images whose theta is
    not finite are left out. Raises TypeError or ValueError for other arrays.
    """
    theta, poses = as_float64("theta", theta), as_float64("poses", poses)
    check_arrays(theta=(theta, "N 2 3"), poses=(poses, f"{len(theta)} 4 4 2"))
    applied, predicted = angle(nearest_affine(poses)), angle(theta)
    if np.ptp(applied) < TURNED:
        return None
    pairs = np.stack([applied, predicted], axis=1)[:DRAWN]
    return np.rint(pairs[np.isfinite(pairs).all(axis=1)]).astype(int).tolist()


def spread(
    theta: np.ndarray, poses: np.ndarray, labels: np.ndarray, reach: tuple[float, float]
) -> Spread:
    """The spread of the final poses within the classes, over N images.

    theta: (N, 2, 3), its shifts in units of the image. poses: (N, 4, 4, 2), where the digits truly
    lie, see pose.py. labels: (N,), the classes. reach: (x, y), how many pixels a shift of 1 is, so
    (W - 1) / 2 and (H - 1) / 2.

    Angles are not wrapped, as in the paper: theta's lie within +-180 degrees. A mirror image has
    the area of what it mirrors. Raises TypeError or ValueError for other arrays.
    """
    theta, poses = as_float64("theta", theta), as_float64("poses", poses)
    check_arrays(theta=(theta, "N 2 3"), poses=(poses, f"{len(theta)} 4 4 2"))
    lies = nearest_affine(poses)
    with np.errstate(invalid="ignore", divide="ignore"):
        left = {
            "degrees": angle(lies) - angle(theta),
            "pixels": (lies[:, :, 2] - theta[:, :, 2]) * check_list("reach", reach, 2),
            "log2_area": log2_area(lies) - log2_area(theta),
        }
        return Spread(**{name: within_classes(values, labels) for name, values in left.items()})


def angle(theta: np.ndarray) -> np.ndarray:
    """(N,), in degrees, clockwise: that of the similarity nearest to theta (N, 2, 3).

    arctan((a_21 - a_12) / (a_11 + a_22)), the paper's footnote 2; what theta_of was given.
    """
    theta = as_float64("theta", theta)
    check_arrays(theta=(theta, "N 2 3"))
    turned, kept = theta[:, 1, 0] - theta[:, 0, 1], theta[:, 0, 0] + theta[:, 1, 1]
    return np.degrees(np.arctan2(turned, kept))


def log2_area(theta: np.ndarray) -> np.ndarray:
    """(N,): log2 |a_11 a_22 - a_12 a_21| of theta (N, 2, 3); -inf where it is singular."""
    theta = as_float64("theta", theta)
    check_arrays(theta=(theta, "N 2 3"))
    with np.errstate(divide="ignore"):
        return np.log2(abs(theta[:, 0, 0] * theta[:, 1, 1] - theta[:, 0, 1] * theta[:, 1, 0]))


def nearest_affine(poses: np.ndarray) -> np.ndarray:
    """(N, 2, 3), float64: the affine transform nearest to each pose (N, 4, 4, 2), see pose.py.

    Raises TypeError or ValueError for another array.
    """
    poses = as_float64("poses", poses)
    check_arrays(poses=(poses, "N 4 4 2"))
    # FRAME's x, y and 1 are orthogonal.
    basis = np.concatenate([FRAME, np.ones((*FRAME.shape[:2], 1))], axis=2)
    duals = basis / (basis**2).sum(axis=(0, 1))
    return np.einsum("nija,ijb->nab", poses, duals)


def within_classes(values: np.ndarray, labels: np.ndarray) -> float:
    """The standard deviation from the mean of one's class, over all N: of (N,) or (N, D) values.

    Of several values for each it is the standard distance deviation, the root of the mean squared
    distance. The paper's words are the mean of the classes' deviations, which is nearly the same.

    labels: (N,) whole numbers. Raises TypeError or ValueError for others, ValueError for no values.
    """
    values = as_float64("values", values)
    check_plain("labels", labels)
    if values.ndim not in (1, 2) or not values.size:
        raise ValueError(f"values must have shape (N,) or (N, D), some, got {values.shape}")
    if labels.dtype.kind not in "iu" or labels.ndim != 1:
        raise TypeError(f"labels must be whole numbers (N,), got {labels.dtype} {labels.shape}")
    check_together(labels=labels, values=values)
    off = values.reshape(len(values), -1).copy()
    for label in np.unique(labels):
        off[labels == label] -= off[labels == label].mean(axis=0)
    return float(np.sqrt((off**2).sum() / len(off)))


def orthogonal_regression(x: np.ndarray, y: np.ndarray) -> Line:
    """The line with the least sum of squared distances to N points, at right angles to it.

    x, y: (N,). Figure 6 shows by it how theta's angle (y) follows the digit's (x). A vertical line
    has slope inf; where no direction is better than another, as of one point, slope is NaN.

    Raises TypeError or ValueError for other arrays, ValueError for no points.
    """
    x, y = as_float64("x", x), as_float64("y", y)
    check_arrays(x=(x, "N"), y=(y, f"{len(x)}" if x.ndim else "N"))
    if not len(x):
        raise ValueError("x must have at least one point, got none")
    dx, dy = x - x.mean(), y - y.mean()
    across, steeper = 2 * (dx * dy).sum(), (dy**2).sum() - (dx**2).sum()
    if across:
        slope = (steeper + np.hypot(steeper, across)) / across
    else:
        slope = np.inf if steeper > 0 else 0.0 if steeper < 0 else np.nan
    with np.errstate(invalid="ignore"):
        return Line(float(slope), float(y.mean() - slope * x.mean()))
