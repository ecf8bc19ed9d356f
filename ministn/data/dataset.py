"""What the data modules hand to each other: digits, a split of a data set, a data set."""

from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256

import numpy as np


@dataclass(frozen=True, eq=False)
class Digits:
    """Digit images without clutter: images (n, h, w) uint8, labels (n,) uint8."""

    images: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, rows: slice | np.ndarray) -> "Digits":
        return Digits(self.images[rows], self.labels[rows])


@dataclass(frozen=True, eq=False)
class Split:
    """One split of a data set.

    images: (N, H, W) uint8. labels: (N,) uint8. boxes: (N, 4) int16, the first and last column
    and row of each digit's ink as left, top, right, bottom: inclusive, in pixels of the image.
    """

    images: np.ndarray
    labels: np.ndarray
    boxes: np.ndarray

    def __len__(self) -> int:
        return len(self.images)


@dataclass(frozen=True, eq=False)
class PosedSplit(Split):
    """A split whose digits' true poses are known.

    images: (N, H, W) or, with a digit in each of C channels, (N, H, W, C) uint8; boxes then are
    (N, C, 4). poses: (N, 4, 4, 2), with channels (N, C, 4, 4, 2), float32: where in the image the
    points of the undistorted digit's image lie, see ministn/pose.py.
    """

    poses: np.ndarray


@dataclass(frozen=True)
class DataSet:
    """Three splits, and the settings that determine every pixel of them."""

    name: str
    train: Split
    valid: Split
    test: Split
    settings: dict[str, str | int]

    @cached_property
    def sha256(self) -> str:
        """Over every array of the three splits: of the training split, the images kept."""
        digest = sha256()
        for name in ("train", "valid", "test"):
            for field, array in vars(getattr(self, name)).items():
                digest.update(f"{name} {field} {array.dtype} {array.shape}\n".encode())
                digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()
