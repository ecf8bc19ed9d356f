"""What the data modules hand to each other: digits, a split of a data set, a data set."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from hashlib import sha256
from typing import Any, Self

import numpy as np

from ministn.backend import Array, Device
from ministn.metrics import attention, pose
from ministn.transformer import Attended

# Applies a function to each item, as Python's does or in several processes.
Map = Callable[[Callable[[Any], Any], list[Any]], Iterable[Any]]


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

    images: (N, H, W) uint8. labels: (N,) uint8; a task may want others, (N, *L), whole numbers or
    floats. boxes: (N, 4) int16, the first and last column and row of each digit's ink as left, top,
    right, bottom: inclusive, in pixels of the image.
    """

    images: np.ndarray
    labels: np.ndarray
    boxes: np.ndarray

    def __len__(self) -> int:
        return len(self.images)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the images: (N, H, W) or (N, H, W, C); of volumes (N, D, H, W)."""
        return self.images.shape

    @property
    def size(self) -> tuple[int, ...]:
        """What networks are built for: (H, W); of volumes (D, H, W), see data/extruded.py."""
        return self.shape[1:3]

    def epoch(
        self, number: int, device: Device | None = None, map: Map = map
    ) -> tuple[Array, np.ndarray]:
        """Images, on the device if there is one, and labels; in every epoch the same."""
        return (self if device is None else self.on(device)).images, self.labels

    def on(self, device: Device) -> Self:
        """The same split, its images on the GPU."""
        return replace(self, images=device.to_gpu(self.images))

    def arrays(self) -> dict[str, np.ndarray]:
        """All that its content follows from."""
        return dict(vars(self))

    def measure(self, looked: Attended | None) -> dict[str, float | None]:
        """How well transformers attended, which the split judges, since it knows where things are.

        looked: None without a transformer. Where an image has several digits, attention is measured
        against the box round them all.
        """
        boxes = self.boxes
        if boxes.ndim == 3:
            boxes = np.concatenate([boxes[..., :2].min(1), boxes[..., 2:].max(1)], axis=1)
        theta = None if looked is None else looked.theta
        return attention.summary(theta, boxes, (self.size[-2], self.size[-1]))


@dataclass(frozen=True, eq=False)
class PosedSplit(Split):
    """A split whose digits' true poses are known.

    images: (N, H, W) or, with a digit in each of C channels, (N, H, W, C) uint8; boxes then are
    (N, C, 4). poses: (N, 4, 4, 2), with channels (N, C, 4, 4, 2), float32: where in the image the
    points of the undistorted digit's image lie, see metrics/pose.py.
    """

    poses: np.ndarray

    def measure(self, looked: Attended | None) -> dict[str, float | None]:
        """The same, and how well transformers undid the distortions."""
        grid = None if looked is None else looked.grid
        undone = pose.summary(grid, self.poses, (self.size[-2], self.size[-1]))
        return super().measure(looked) | undone


@dataclass(frozen=True, eq=False)
class Fresh:
    """A training split whose images are made anew in each epoch.

    shape, size: of an epoch's images, as in Split. digits: that they are made of. make: (epoch=,
    device=, map=) to images uint8, on the device where there is one, and labels as in Split.
    """

    shape: tuple[int, ...]
    size: tuple[int, ...]
    digits: Digits
    make: Callable[..., tuple[Array, np.ndarray]]

    def __len__(self) -> int:
        return self.shape[0]

    def epoch(
        self, number: int, device: Device | None = None, map: Map = map
    ) -> tuple[Array, np.ndarray]:
        """Images and labels of the epoch with this number, from 1."""
        return self.make(epoch=number, device=device, map=map)

    def arrays(self) -> dict[str, np.ndarray]:
        """All that its content follows from, beside the data set's settings."""
        return dict(vars(self.digits)) | {"shape": np.array(self.shape)}


@dataclass(frozen=True)
class DataSet:
    """Training and test split, one for validation or None, and the settings they were made with."""

    name: str
    train: Split | Fresh
    valid: Split | None
    test: Split
    settings: dict[str, str | int]

    @property
    def watched(self) -> Split:
        """What training is judged by after each epoch: the validation split if there is one."""
        return self.test if self.valid is None else self.valid

    @cached_property
    def sha256(self) -> str:
        """Over every array of the splits; where training images are drawn anew, their digits."""
        digest = sha256()
        splits = {"train": self.train, "valid": self.valid, "test": self.test}
        for name, split in splits.items():
            for field, array in ({} if split is None else split.arrays()).items():
                digest.update(f"{name} {field} {array.dtype} {array.shape}\n".encode())
                digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()
