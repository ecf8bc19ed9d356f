"""The embedded digits: scikit-learn's 1,797 handwritten digits of 8x8 pixels, enlarged.

They need no download. So few digits make a small data set: they are reused, each time at another
place among fresh clutter, but no digit image is in two splits.
"""

import numpy as np

from ministn.data.dataset import Digits
from ministn.errors import check_count, check_plain
from ministn.randomness import generator

SIDE = 20
WHITE = 16  # scikit-learn's digits count the dark pixels in 4x4 blocks
VALID = TEST = 300  # digit images; the other 1,197 are for training


def load() -> dict[str, Digits]:
    """The digits of the splits train, valid and test, the same whatever the data seed."""
    from sklearn.datasets import load_digits  # here, because importing it takes a second or two

    bunch = load_digits()
    digits = Digits(enlarge(bunch.images.astype(np.int64), SIDE), bunch.target.astype(np.uint8))
    # In the file digits of one writer stand together.
    digits = digits[generator(0, "data/digits").permutation(len(digits))]
    train = len(digits) - VALID - TEST
    return {
        "train": digits[:train],
        "valid": digits[train : train + VALID],
        "test": digits[train + VALID :],
    }


def enlarge(images: np.ndarray, side: int) -> np.ndarray:
    """Enlarge (n, s, s) integers in 0..16 to (n, side, side) uint8 in 0..255, bilinearly.

    Corner pixels stay corners. The weights are whole numbers, so that rounding is the same on
    every machine and the data set's SHA-256 with it. Raises TypeError for images of other numbers,
    ValueError for other sizes or numbers.
    """
    check_plain("images", images)
    if images.dtype.kind not in "iu":
        raise TypeError(f"images must be whole numbers, got {images.dtype}")
    if images.ndim != 3 or images.shape[1] != images.shape[2] or not images.size:
        raise ValueError(f"images must have shape (n, s, s), got {images.shape}")
    if images.min() < 0 or images.max() > WHITE:
        raise ValueError(f"images must lie in 0..16, got {images.min()} to {images.max()}")
    if check_count("side", side) < 2:
        raise ValueError(f"side must be at least 2, got {side}")
    images = images.astype(np.int64)
    gaps = images.shape[1] - 1
    steps = side - 1
    # Output pixel j lies at j * gaps / steps; a source pixel's weight falls to 0 one pixel away.
    distance = np.abs(np.arange(side)[:, None] * gaps - np.arange(gaps + 1) * steps)
    weights = np.maximum(steps - distance, 0)
    enlarged = weights @ images @ weights.T
    white = WHITE * steps**2
    return ((enlarged * 255 + white // 2) // white).astype(np.uint8)
