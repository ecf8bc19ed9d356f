"""Pictures of many sizes as images of one: each in its own proportions, and padded."""

from collections.abc import Sequence
from math import ceil

import numpy as np

from ministn.data.warping import as_bytes
from ministn.errors import check_number, check_plain, is_whole
from ministn.ops.affine_grid import check_size
from ministn.ops.batch import as_batch
from ministn.transformer.resize import Resize
from ministn.transformer.samplers import Sampler

FINEST = 16  # points each way for a pixel: of a photograph, all would take seconds and gigabytes
DTYPES = (np.uint8, np.float32)


def resized(
    pictures: Sequence[np.ndarray], size: tuple[int, int], *, fill: float = 0
) -> np.ndarray:
    """Pictures (h, w) or (h, w, C), each of its own size -> (N, H, W) or (N, H, W, C).

    pictures: uint8, or float32, which what is returned is, too. size: (H, W). Each is made as large
    as fits, in its own proportions, and stands in the middle; round it is ``fill``. It is sampled
    as a transformer at the identity does, bilinearly; where it is made smaller, by up to k times,
    each pixel is the mean of k x k points, so that nothing in between is overlooked; of 16 x 16 for
    greater k, which sees no single pixel any more.

    Raises TypeError or ValueError for no list, under its number for a picture of another dtype, or
    of other axes than the first one's; for a size or fill that cannot be.
    """
    size = check_size(size)  # type: ignore[assignment]
    if not isinstance(pictures, (list, tuple)) or not pictures:
        got = "none" if isinstance(pictures, (list, tuple)) else type(pictures).__name__
        raise ValueError(f"pictures must be a list of at least one, got {got}")
    for number, picture in enumerate(pictures):
        _check(f"pictures[{number}]", picture, pictures[0])
    first = pictures[0]
    bytes_only = first.dtype == np.uint8
    if bytes_only and not (is_whole(fill) and 0 <= fill <= 255):
        raise ValueError(f"fill must be a whole number from 0 to 255, got {fill!r}")
    check_number("fill", fill)
    images = np.full((len(pictures), *size, *first.shape[2:]), fill, first.dtype)
    for image, picture in zip(images, pictures, strict=True):
        top, left, height, width = within(picture.shape[:2], size)
        finer = ceil(max(picture.shape[0] / height, picture.shape[1] / width))
        finer = min(finer, FINEST)
        layer = Resize("resized", (height, width), Sampler(supersampling=finer))
        x = picture.reshape(1, *picture.shape[:2], -1)
        y, _ = layer.forward(as_batch(x) if bytes_only else x)
        made = as_bytes(y[0]) if bytes_only else y[0]
        image[top : top + height, left : left + width] = made.reshape(
            height, width, *first.shape[2:]
        )
    return images


def within(shape: Sequence[int], size: tuple[int, int]) -> tuple[int, int, int, int]:
    """(top, left, height, width) of a picture (h, w), as large as fits, in the middle of (H, W)."""
    (h, w), (rows, columns) = shape, size
    whole, part = (rows, h) if h * columns >= w * rows else (columns, w)
    height, width = (max(1, round(n * whole / part)) for n in (h, w))
    return (rows - height) // 2, (columns - width) // 2, height, width


def _check(name: str, picture: np.ndarray, first: np.ndarray) -> None:
    check_plain(name, picture)
    if picture.dtype not in DTYPES or picture.dtype != first.dtype:
        wanted = "uint8 or float32, all alike"
        raise TypeError(f"{name} must be {wanted}, got {picture.dtype}")
    if picture.ndim not in (2, 3) or picture.shape[2:] != first.shape[2:] or 0 in picture.shape:
        axes = ", ".join(map(str, ("h", "w", *first.shape[2:])))
        none = ", no pixel" if 0 in picture.shape else ""
        raise ValueError(f"{name} must have shape ({axes}), got {picture.shape}{none}")
    if picture.dtype != np.uint8 and not np.isfinite(picture).all():
        raise ValueError(f"{name} must be finite")
