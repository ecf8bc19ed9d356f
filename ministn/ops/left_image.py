"""Whether a transformer looks at the image at all: what training watches, on either engine."""

import numpy as np

from ministn.errors import check_arrays
from ministn.ops.affine_grid import targets

# An image is judged by 8x8 of its sampling points: enough to see that nearly all of them miss the
# image, and 64 points are cheap beside one training step. A tenth, because attention that has
# left shows no point at all, and attention centred on a corner of the image still shows a quarter.
# Samples that lie so wide that only the middle 2x2 points hit the image count as left, too: that
# is a centred scale above 7/3.
POINTS = 8
LEFT_BELOW = 0.1

_AXIS = np.linspace(-1.0, 1.0, POINTS)
OUTPUT = targets(_AXIS, _AXIS[:, None]).T  # (3, P)


def left_image(theta: np.ndarray, threshold: float = LEFT_BELOW) -> np.ndarray:
    """Whether an image's attention has left it: hardly any sampling point lies in the image.

    theta: (N, 2, 3). Returns (N,) bool: True where fewer than `threshold` of POINTS x POINTS points
    of the output, corners included, fall within [-1, 1]^2 of the input, or where theta is not
    finite. This catches attention beside the image and attention so wide that its samples lie
    scattered around it.
    """
    check_arrays(theta=(theta, "N 2 3"))
    with np.errstate(over="ignore", invalid="ignore"):
        within = np.abs(theta.astype(np.float64) @ OUTPUT) <= 1  # (N, 2, P)
    return within.all(axis=1).mean(axis=1) < threshold
