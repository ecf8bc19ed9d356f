"""Images as the networks want them: x = u / 255 of the stored bytes u. Data has no gradient."""

import numpy as np

from ministn.errors import check_plain

BYTE = np.float32(1 / 255)


def as_batch(images: np.ndarray) -> np.ndarray:
    """images (N, H, W) or (N, H, W, C) uint8 -> x (N, H, W, 1 or C) float32 in [0, 1].

    Volumes (N, D, H, W) stay that. Those of data/extruded.py are made now. Raises as check_bytes.
    """
    check_bytes(images)
    made = np.asarray(images)
    return (made.astype(np.float32) * BYTE).reshape(with_channels(made.shape))


def check_bytes(images: np.ndarray) -> None:
    """Raise TypeError unless they are bytes, ValueError for other axes than as_batch takes."""
    check_plain("images", images)
    if images.dtype != np.uint8:
        raise TypeError(f"images must be bytes, uint8 from 0 to 255, got {images.dtype}")
    if len(images.shape) not in (3, 4):
        raise ValueError(
            f"images must have shape (N, H, W), (N, H, W, C) or (N, D, H, W), got {images.shape}"
        )


def with_channels(shape: tuple[int, ...]) -> tuple[int, ...]:
    """(N, H, W, C), also where there is but one channel and no axis for it."""
    return shape if len(shape) == 4 else (*shape, 1)
