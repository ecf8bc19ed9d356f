"""theta made by hand and turned round: host helpers in NumPy, which have no backward pass.

theta maps output to input in normalised coordinates, as everywhere. For affine transforms that are
learned see transforms/; for the product of two, with its gradient, ops/compose.py.
"""

import numpy as np

from ministn.errors import PLAIN, check_arrays, check_count, check_number
from ministn.layers import SMALLEST


def theta_of(
    angle: np.ndarray, scale: np.ndarray | None = None, shift: np.ndarray | None = None
) -> np.ndarray:
    """theta (N, 2, 3) of a window that is turned, scaled and moved in the image.

        theta = [ s cos(a)   -s sin(a)   t_x ]
                [ s sin(a)    s cos(a)   t_y ]

    STN equation (1) with such a theta; with angle 0 it is equation (2), the attention. theta_11,
    theta_21, t_x and t_y are the theta of transforms.Similarity.

    angle: (N,), in degrees. Positive is clockwise: so the window turns, and so was turned what it
    shows upright. scale: (N,), of the window's sides over the image's, below 1 to zoom in; 1 unless
    given. shift: (N, 2), the window's middle (t_x, t_y), x to the right and y down, -1 and +1 the
    centres of the first and the last pixel; 0 unless given.

    So a digit of data/distorted.py, which was turned by ``angle`` and so much scaled and shifted,
    is shown as it was by this theta, and was made by its inverse. On images that are not square a
    turned window is skewed, as Similarity's are.

    Raises TypeError for what is no NumPy array, float32 or float64, one for all; ValueError for
    another shape or a number that is not finite.
    """
    arrays = {"angle": (angle, "N")}
    arrays |= {} if scale is None else {"scale": (scale, "N")}
    arrays |= {} if shift is None else {"shift": (shift, "N 2")}
    _check(**arrays)
    radians = np.radians(angle.astype(np.float64))
    size = np.ones(len(angle)) if scale is None else scale
    theta = np.zeros((len(angle), 2, 3))
    theta[:, 0, 0] = theta[:, 1, 1] = size * np.cos(radians)
    theta[:, 1, 0] = size * np.sin(radians)
    theta[:, 0, 1] = -theta[:, 1, 0]
    if shift is not None:
        theta[:, :, 2] = shift
    return theta.astype(angle.dtype)


def tiled(count: int, scale: float) -> np.ndarray:
    """Middles (count, 2) of windows that part an image among them, pairs (t_x, t_y), float64.

    So transformers of STN section 4.3 begin. They stand in as many rows as columns, or fewer, from
    the top left: two beside each other, four in the quarters. scale: of the windows' sides over the
    image's. Each stands in the middle of its cell, or where that is too near to an edge, at it.

    Raises ValueError for a count that is no whole number of at least 1, a scale not in (0, 1].
    """
    count = check_count("count", count)
    reach = 1 - check_number("scale", scale, SMALLEST, 1)
    rows = np.array_split(np.arange(count), int(count**0.5))
    middles = [
        (_middle(column, len(columns)), _middle(row, len(rows)))
        for row, columns in enumerate(rows)
        for column in range(len(columns))
    ]
    return np.clip(middles, -reach, reach)


def _middle(cell: int, cells: int) -> float:
    """Of the n-th cell of so many from -1 to 1."""
    return (2 * cell + 1) / cells - 1


def inverse(theta: np.ndarray) -> np.ndarray:
    """The theta that maps back: (N, 2, 3) -> (N, 2, 3), of volumes (N, 3, 4) -> (N, 3, 4).

    With theta = [A t] it is [A^-1, -A^-1 t], so that ops.compose of the two, either way round, is
    the identity. Computed in float64.

    Raises TypeError for what is no NumPy array, float32 or float64; ValueError for another shape,
    for a number that is not finite, and for a theta that is singular in its dtype, which maps the
    whole output to a line or a point: it names the first of them.
    """
    if isinstance(theta, np.ndarray) and theta.shape[1:] == (3, 4):
        _check(theta=(theta, "N 3 4"))
    else:
        _check(theta=(theta, "N 2 3"))
    matrix, offset = np.split(theta.astype(np.float64), [-1], axis=2)
    spread = np.linalg.svd(matrix, compute_uv=False)  # how much it stretches, most first
    singular = spread[:, -1] <= spread[:, 0] * np.finfo(theta.dtype).eps
    if singular.any():
        first = int(singular.argmax())
        raise ValueError(
            f"theta[{first}] is singular, nothing maps back: it stretches one way by "
            f"{spread[first, 0]:.3g} and another by {spread[first, -1]:.3g}"
        )
    back = np.linalg.inv(matrix)
    return np.concatenate([back, -back @ offset], axis=2).astype(theta.dtype)


def _check(**arrays: tuple[np.ndarray, str]) -> None:
    """As check_arrays, for finite arrays of NumPy's own."""
    for name, (array, _) in arrays.items():
        if type(array) not in PLAIN:
            raise TypeError(f"{name} must be a NumPy array, got {type(array).__name__}")
    check_arrays(**arrays)
    for name, (array, _) in arrays.items():
        if not np.isfinite(array).all():
            raise ValueError(f"{name} must be finite, got {array[~np.isfinite(array)][0]}")
