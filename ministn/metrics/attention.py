"""How well a transformer attends: its attended quadrilateral against the digit's ink box.

Pixel coordinates have their centres at whole numbers 0..W-1, pairs are (x, y). A box
[left, top, right, bottom] is the rectangle through those pixel centres, so the identity's
quadrilateral is exactly the box of the whole image.
"""

from typing import Any

import numpy as np

from ministn.errors import as_float64, check_arrays
from ministn.ops.affine_grid import check_size
from ministn.ops.left_image import left_image

# Corners of the output square, going round it.
CORNERS = np.array([[-1.0, -1.0], [1.0, -1.0], [1.0, 1.0], [-1.0, 1.0]])
# Where a box has its own, as pairs (x, y).
BOX_CORNERS = np.array([[0, 1], [2, 1], [2, 3], [0, 3]])

# Slack, in pixels, of "inside": far above float32 rounding of theta (about 1e-5 pixels at 60x60),
# far below anything visible.
TOLERANCE = 1e-3

# How far from its centre the attended frame is looked at, in halves of its width: a digit that is
# farther away counts as being there, so that one theta without area does not outweigh all others.
REACH = 3.0

IDENTITY = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])


# What a summary has.
MEASURES = (
    *("overlap", "inside", "left_image", "moved", "spread"),
    *("correlation", "wander_in", "wander_out", "widths_in", "widths_out"),
    "overlap_in",
)


def summary(
    theta: np.ndarray | None, boxes: np.ndarray | None, size: tuple[int, int]
) -> dict[str, float | None]:
    """How well a transformer attends, and how far it has moved from where it began.

    theta: (N, 2, 3), None for a plain CNN; boxes: (N, 4), None where nobody knows them; size: the
    images' (H, W). All None without theta, and without boxes what they are needed for, or else

    overlap, inside, left_image: means of the functions below and of ops/left_image.py.
    moved: mean absolute difference of theta's entries from the identity, all images alike.
    spread: standard deviation of theta's entries over the images, mean of the six. Near zero,
    every image gets the same transform, whatever it shows.
    correlation: of the function below.
    wander_in, wander_out, widths_in, widths_out: how much the digit's centre still wanders, see
    ``wander``. A transformer that only centres the digit has a low overlap, a high correlation
    and less wander out than in.
    overlap_in: the overlap of the whole image, which is what the identity attends to.
    """
    if theta is None:
        return dict.fromkeys(MEASURES)
    quads = quadrilateral(theta, size)
    exact = theta.astype(np.float64)
    found: dict[str, float] = {}
    if boxes is not None:
        still = np.broadcast_to(IDENTITY, exact.shape)
        before, after = wander(still, boxes, size), wander(exact, boxes, size)
        found = {
            "overlap": overlap(quads, boxes).mean(),
            "inside": inside(quads, boxes).mean(),
            "correlation": correlation(theta, boxes),
            "wander_in": before[0],
            "wander_out": after[0],
            "widths_in": before[1],
            "widths_out": after[1],
            "overlap_in": overlap(quadrilateral(still, size), boxes).mean(),
        }
    found |= {
        "left_image": left_image(theta).mean(),
        "moved": np.abs(exact - IDENTITY).mean(),
        "spread": exact.std(axis=0).mean(),
    }
    return {name: float(found[name]) if name in found else None for name in MEASURES}


def watched(
    collapses: list[dict[str, Any]], left: int | None, images: int, now: dict[str, int]
) -> str | None:
    """Note in ``collapses`` when most of a batch's attention leaves the image, and when it is back.

    left: images of the batch whose attention has left, None without a transformer. now: the step,
    from 1, and the epoch if there are any. Returns what to say of it, if anything.
    """
    lost = bool(collapses) and collapses[-1]["end"] is None
    if left is None:
        return None
    if not lost and 2 * left > images:
        collapses.append({**now, "images": left, "batch": images, "end": None})
        when = f" (epoch {now['epoch']})" if "epoch" in now else ""
        return (
            f"COLLAPSE at step {now['step']}{when}: the attention of {left} of {images} images has "
            "left the image, where theta gets hardly any gradient: a lower loc_lr helps"
        )
    if lost and 4 * left < images:  # well below a half, so that it cannot flicker
        collapses[-1]["end"] = now
        return f"attention is back in the image at step {now['step']}"
    return None


def quadrilateral(theta: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Where the output's corners lie in the input: the attended quadrilateral.

    theta: (N, 2, 3), float32 or float64; size: the input's (H, W). Returns (N, 4, 2) float64, pixel
    coordinates of the output corners (-1,-1), (1,-1), (1,1), (-1,1) (STN equation 1).
    Raises TypeError or ValueError for a theta of another dtype or shape, or such a size.
    """
    check_arrays(theta=(theta, "N 2 3"))
    half = (np.array(check_size(size)[::-1], np.float64) - 1) / 2
    return _moved(theta, CORNERS) * half + half


def overlap(quad: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Intersection over union of convex quadrilaterals and axis-aligned boxes, exactly.

    quad: (N, 4, 2), corners in turn, either way round; boxes: (N, 4), left, top, right, bottom.
    Returns (N,) float64 in [0, 1]; 0 for a non-finite quadrilateral and where the union is empty.
    """
    quad, boxes = _checked(quad, boxes)
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        quad = quad - boxes[:, None, :2]
        width, height = (boxes[:, 2:] - boxes[:, :2]).T
        shared = _shared_area(quad, width[:, None], height[:, None])
        iou = shared / (np.abs(_signed_area(quad)) + width * height - shared)
    return np.clip(np.where(np.isfinite(iou), iou, 0.0), 0.0, 1.0)


def inside(quad: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Whether each box lies wholly inside its convex quadrilateral.

    quad: (N, 4, 2); boxes: (N, 4). Returns (N,) bool; False for a quadrilateral that is non-finite
    or has no area. A corner may lie outside by TOLERANCE pixels.
    """
    quad, boxes = _checked(quad, boxes)
    with np.errstate(over="ignore", invalid="ignore"):
        orientation = np.sign(_signed_area(quad))
        corner = boxes[:, BOX_CORNERS]
        edge = np.roll(quad, -1, axis=1) - quad
        to_corner = corner[:, None, :, :] - quad[:, :, None, :]
        side = orientation[:, None, None] * _cross(edge[:, :, None, :], to_corner)
        reach = -TOLERANCE * np.hypot(edge[..., 0], edge[..., 1])
        within = (side >= reach[..., None]).all(axis=(1, 2))
    return within & (np.abs(orientation) == 1)


def correlation(theta: np.ndarray, boxes: np.ndarray) -> float:
    """How closely the attended centre follows the digit's, over the images.

    theta: (N, 2, 3); boxes: (N, 4). Returns the mean of Pearson's correlations along x and along y,
    from -1 to 1. A centre that is the same in all images follows nothing: 0.
    """
    theta, boxes = _beside(theta, boxes)
    attended, digit = _about_mean(theta[..., 2]), _about_mean(_centres(boxes))
    together = (attended * digit).sum(axis=0)
    alone = np.sqrt((attended**2).sum(axis=0) * (digit**2).sum(axis=0))
    return float(np.where(alone > 0, together / np.where(alone > 0, alone, 1.0), 0.0).mean())


def wander(theta: np.ndarray, boxes: np.ndarray, size: tuple[int, int]) -> tuple[float, float]:
    """How much the digit's centre wanders from image to image in the attended frame.

    theta: (N, 2, 3); boxes: (N, 4); size: the input's (H, W). Returns its standard deviation, the
    root mean square of those along x and along y: in pixels of a frame drawn as large as the
    input, and in widths of the digit, the root of its box's area, of the median image there. A
    centre outside the frame counts as at most REACH away from the frame's middle.
    """
    theta, boxes = _beside(theta, boxes)
    half = (np.array(check_size(size)[::-1], np.float64) - 1) / 2
    (a, b), (c, d) = np.moveaxis(theta[..., :2], 0, -1)
    area = a * d - b * c
    x, y = ((_centres(boxes) - half) / half - theta[..., 2]).T
    ink = np.prod(boxes[:, 2:] - boxes[:, :2] + 1.0, axis=1)
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        # The inverse of theta: from the input to the attended frame.
        seen = np.stack([d * x - b * y, a * y - c * x], axis=1) / area[:, None]
        width = np.sqrt(ink / np.abs(area))
    seen = np.clip(np.nan_to_num(seen, nan=REACH), -REACH, REACH) * half
    pixels = float(np.sqrt((_about_mean(seen) ** 2).mean()))
    return pixels, pixels / float(np.median(width))


def _beside(theta: np.ndarray, boxes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both in float64. Raises TypeError or ValueError for others than (N, 2, 3) and (N, 4)."""
    check_arrays(theta=(theta, "N 2 3"))
    boxes = as_float64("boxes", boxes)
    check_arrays(boxes=(boxes, f"{len(theta)} 4"))
    return theta.astype(np.float64), boxes


def _centres(boxes: np.ndarray) -> np.ndarray:
    """(N, 2), pixels."""
    return (boxes[:, :2] + boxes[:, 2:]) / 2


def _about_mean(values: np.ndarray) -> np.ndarray:
    return values - values.mean(axis=0)


def _checked(quad: np.ndarray, boxes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    quad, boxes = as_float64("quad", quad), as_float64("boxes", boxes)
    check_arrays(quad=(quad, "N 4 2"), boxes=(boxes, "N 4"))
    return quad, boxes


def _cross(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]


def _signed_area(quad: np.ndarray) -> np.ndarray:
    """(N,) area by the diagonals' cross product; its sign tells the way round."""
    return _cross(quad[:, 2] - quad[:, 0], quad[:, 3] - quad[:, 1]) / 2


def _shared_area(quad: np.ndarray, width: np.ndarray, height: np.ndarray) -> np.ndarray:
    """(N,) area that each quadrilateral shares with the rectangle [0, width] x [0, height].

    Green's theorem: the double integral of dG/dy over the quadrilateral is the line integral of
    G dx around it. With G = clamp(y, 0, height) for 0 <= x <= width and 0 elsewhere, dG/dy is 1
    in the rectangle and 0 outside. Along one edge, G dx is the edge's part over [0, width] times
    the mean of clamp(y) there.
    """
    (x0, y0), (x1, y1) = np.moveaxis(quad, -1, 0), np.moveaxis(np.roll(quad, -1, axis=1), -1, 0)
    start, end = np.clip(x0, 0, width), np.clip(x1, 0, width)
    run = np.where(x1 == x0, 1.0, x1 - x0)  # a vertical edge has no dx and adds nothing
    y_start, y_end = (y0 + np.clip((x - x0) / run, 0, 1) * (y1 - y0) for x in (start, end))
    return np.abs(((end - start) * _mean_clamped(y_start, y_end, height)).sum(axis=1))


def _mean_clamped(a: np.ndarray, b: np.ndarray, top: np.ndarray) -> np.ndarray:
    """Mean of clamp(y, 0, top) while y goes evenly from a to b."""
    low, high = np.minimum(a, b), np.maximum(a, b)
    low_in, high_in = np.clip(low, 0, top), np.clip(high, 0, top)
    between = (high_in - low_in) * (low_in + high_in) / 2
    above = top * np.maximum(high - np.maximum(low, top), 0)
    length = high - low
    return np.where(length > 0, (between + above) / np.where(length > 0, length, 1.0), low_in)


def _moved(theta: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Output points (P, 2) mapped into the input: (N, P, 2), float64."""
    theta = theta.astype(np.float64)[:, None]
    x, y = points.T[..., None]
    return theta[..., 0] * x + theta[..., 1] * y + theta[..., 2]
