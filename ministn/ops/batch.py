"""Images as the networks want them: x = u / 255 of the stored bytes u. Data has no gradient."""

import numpy as np

BYTE = np.float32(1 / 255)


def as_batch(images: np.ndarray) -> np.ndarray:
    """images (N, H, W) uint8 -> x (N, H, W, 1) float32 in [0, 1]."""
    return (images.astype(np.float32) * BYTE)[..., None]
