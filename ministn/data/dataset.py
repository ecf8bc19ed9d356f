"""What the data modules hand to each other: digits, a split of a data set, a data set.

Which data set it is, and all that it follows from, is a value: ``Data``.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np

from ministn.backend import Array, Device
from ministn.errors import UserError, check_plain, check_together, check_whole
from ministn.metrics import attention, final_pose, parts, pose
from ministn.transformer import Attended

# Applies a function to each item, as Python's does or in several processes.
Map = Callable[[Callable[[Any], Any], list[Any]], Iterable[Any]]


def check_bytes(name: str, images: np.ndarray) -> None:
    """Raise TypeError or ValueError, under the argument's name, unless it is (n, h, w) uint8."""
    check_plain(name, images)
    if images.dtype != np.uint8:
        raise TypeError(f"{name} must be bytes, uint8 from 0 to 255, got {images.dtype}")
    if images.ndim != 3:
        raise ValueError(f"{name} must have shape (n, h, w), got {images.shape}")


@dataclass(frozen=True, eq=False)
class Digits:
    """Digit images without clutter: images (n, h, w) uint8, labels (n,) uint8.

    A task may want other labels, (n, *L), whole numbers. Raises TypeError or ValueError for others.
    """

    images: np.ndarray
    labels: np.ndarray

    def __post_init__(self) -> None:
        check_bytes("images", self.images)
        check_plain("labels", self.labels)
        if self.labels.dtype.kind not in "iu":
            raise TypeError(f"labels must be whole numbers, got {self.labels.dtype}")
        check_together(**vars(self))

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, rows: slice | np.ndarray) -> "Digits":
        return Digits(self.images[rows], self.labels[rows])


@dataclass(frozen=True)
class Form:
    """What a network must know of images to be built for them.

    size: (H, W); of volumes (D, H, W). labels: shape of an image's labels, () for one.

    Raises UserError for numbers below 1.
    """

    size: tuple[int, ...]
    channels: int = 1
    classes: int = 10
    labels: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        check_whole(channels=self.channels, classes=self.classes)
        for name, lengths in (("size", self.size), ("labels", self.labels)):
            if not isinstance(lengths, tuple):
                raise UserError(f"{name} must be a tuple of whole numbers, got {lengths!r}")
            for length in lengths:
                check_whole(**{name: length})

    @property
    def shape(self) -> tuple[int, ...]:
        """Of an image as it is kept: its size and, where there are several, the channels."""
        return (*self.size, self.channels) if self.channels > 1 else self.size


class Labelled(NamedTuple):
    """An epoch's images and labels, which may lie on a GPU."""

    images: Any
    labels: Any

    def batch(self, rows: np.ndarray) -> tuple[Any, Any]:
        """Those of some rows."""
        return self.images[rows], self.labels[rows]


@dataclass(frozen=True, eq=False)
class Split:
    """One split of a data set.

    images: (N, H, W) uint8. labels: (N,) uint8; a task may want others, (N, *L), whole numbers or
    floats. boxes: (N, 4) int16, the first and last column and row of each digit's ink as left, top,
    right, bottom: inclusive, in pixels of the image.

    Raises TypeError for what are no plain arrays, ValueError for more or fewer labels or boxes than
    images.
    """

    anew: ClassVar[bool] = False  # whether each epoch has other images
    dtypes: ClassVar[tuple[type, ...]] = (np.uint8,)  # of images

    images: np.ndarray
    labels: np.ndarray
    boxes: np.ndarray

    def __post_init__(self) -> None:
        for name, array in vars(self).items():
            check_plain(name, array)
        if self.images.dtype not in self.dtypes:
            wanted = " or ".join(dtype.__name__ for dtype in self.dtypes)
            raise TypeError(f"images must be {wanted}, got {self.images.dtype}")
        if self.labels.dtype.kind not in "iuf":
            raise TypeError(f"labels must be whole numbers or floats, got {self.labels.dtype}")
        check_together(**self.arrays())

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

    def batch(self, rows: np.ndarray) -> tuple[Any, Any]:
        """The images of some rows, and their labels: what a task compares with the outputs."""
        return self.images[rows], self.labels[rows]

    def epoch(self, number: int, device: Device | None = None, map: Map = map) -> "Split":
        """What is trained on: itself, its images on the device if there is one."""
        return self if device is None else self.on(device)

    def on(self, device: Device) -> Self:
        """The same split, its images on the GPU."""
        return replace(self, images=device.to_gpu(self.images))

    def first(self, count: int) -> Self:
        """The first ``count`` images, with all that belongs to them."""
        return replace(self, **{name: array[:count] for name, array in self.arrays().items()})

    def arrays(self) -> dict[str, np.ndarray]:
        """All that its content follows from."""
        return dict(vars(self))

    def measure(self, looks: Sequence[Attended]) -> dict[str, Any]:
        """How well transformers attended, which the split judges, since it knows where things are.

        looks: of each transformer. The first one's measures have their names; of several there is
        an entry "transformers" as well, a list of the measures of each. One that stands behind
        others is measured as if its own input were the image.
        """
        first = self.measure_one(looks[:1])
        if len(looks) < 2:
            return first
        return first | {"transformers": [self.measure_one([looked]) for looked in looks]}

    def shown(self, looks: Sequence[Attended]) -> dict[str, Any]:
        """What only figures need, of the last test alone: nothing, unless a split says so."""
        return {}

    def measure_one(self, looks: Sequence[Attended]) -> dict[str, float | None]:
        """Of one transformer, or of none. Where an image has several digits, attention is measured
        against the box round them all.
        """
        boxes = self.boxes
        if boxes.ndim == 3:
            boxes = np.concatenate([boxes[..., :2].min(1), boxes[..., 2:].max(1)], axis=1)
        theta = looks[0].theta if looks else None
        return attention.summary(theta, boxes, (self.size[-2], self.size[-1]))


@dataclass(frozen=True, eq=False)
class PlainSplit(Split):
    """Images of one's own, bytes (N, H, W) or (N, H, W, C), or float32 (N, H, W, C) as they are.

    boxes: nobody knows them, so they are not looked at.
    """

    dtypes: ClassVar[tuple[type, ...]] = (np.uint8, np.float32)

    def measure_one(self, looks: Sequence[Attended]) -> dict[str, float | None]:
        """How far attention has moved, and in how many images it has left."""
        return attention.summary(
            looks[0].theta if looks else None, None, (self.size[-2], self.size[-1])
        )


@dataclass(frozen=True, eq=False)
class PosedSplit(Split):
    """A split whose digits' true poses are known.

    images: (N, H, W) or, with a digit in each of C channels, (N, H, W, C) uint8; boxes then are
    (N, C, 4). poses: (N, 4, 4, 2), with channels (N, C, 4, 4, 2), float32: where in the image the
    points of the undistorted digit's image lie, see metrics/pose.py.
    """

    poses: np.ndarray

    def measure(self, looks: Sequence[Attended]) -> dict[str, Any]:
        """The same, and how well transformers undid the distortions: each digit counts by the one
        that follows it best.
        """
        return super().measure(looks) | self._undone(looks)

    def measure_one(self, looks: Sequence[Attended]) -> dict[str, float | None]:
        return super().measure_one(looks) | self._undone(looks)

    def _undone(self, looks: Sequence[Attended]) -> dict[str, float | None]:
        grid = np.stack([looked.grid for looked in looks], axis=1) if looks else None
        return pose.summary(grid, self.poses, (self.size[-2], self.size[-1]))


class DigitSplit(PosedSplit):
    """One with a digit in each image, whose class its label is."""

    def measure_one(self, looks: Sequence[Attended]) -> dict[str, float | None]:
        """The same, and how alike the digits of a class come out."""
        theta, _, field = looks[0] if looks else (None, None, None)
        size = self.size[-2], self.size[-1]
        final = final_pose.summary(theta, self.poses, self.labels, size, field)
        return super().measure_one(looks) | final

    def shown(self, looks: Sequence[Attended]) -> dict[str, Any]:
        """How theta turns with the digit."""
        return {"turns": final_pose.turns(looks[0].theta, self.poses) if looks else None}


@dataclass(frozen=True, eq=False)
class PartSplit(Split):
    """A split of pictures of which it is known where their parts are.

    parts: (N, K, 3) float32, of each part x and y in pixels, the first pixel's centre at 0, and
    whether it can be seen, 1 or 0. boxes: (N, 4), or (N, b, 4) of several things in each picture.
    """

    parts: np.ndarray

    def measure(self, looks: Sequence[Attended]) -> dict[str, Any]:
        """The same, and how often windows show parts: for each transformer, of each part.

        shows: the share of the pictures. shows_elsewhere: the same of windows that were meant for
        another picture, the one before; what a window that follows nothing would have, too.
        """
        found: dict[str, Any] = {"shows": None, "shows_elsewhere": None}
        if looks:
            size = self.size[-2], self.size[-1]
            for name, turn in (("shows", 0), ("shows_elsewhere", 1)):
                thetas = (np.roll(look.theta, turn, axis=0) for look in looks)
                found[name] = [parts.shares(theta, self.parts, size) for theta in thetas]
        return super().measure(looks) | found


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

    anew: ClassVar[bool] = True

    def __len__(self) -> int:
        return self.shape[0]

    def epoch(self, number: int, device: Device | None = None, map: Map = map) -> Labelled:
        """Images and labels of the epoch with this number, from 1.

        Raises ValueError for more or fewer labels than images.
        """
        made = Labelled(*self.make(epoch=number, device=device, map=map))
        check_together(**made._asdict())
        return made

    def arrays(self) -> dict[str, np.ndarray]:
        """All that its content follows from, beside the data set's settings."""
        return dict(vars(self.digits)) | {"shape": np.array(self.shape)}


@dataclass(frozen=True)
class DataSet:
    """Training and test split, and one for validation or None.

    looked_at: where there is none, how many of the test images are looked at after each epoch; None
    for all.
    """

    train: Split | Fresh
    valid: Split | None
    test: Split
    looked_at: int | None = field(default=None, kw_only=True)

    @cached_property
    def watched(self) -> Split:
        """What training is judged by after each epoch: the validation split if there is one."""
        if self.valid is not None:
            return self.valid
        if self.looked_at is None or self.looked_at >= len(self.test):
            return self.test
        return self.test.first(self.looked_at)

    @cached_property
    def sha256(self) -> str:
        """Over every array of the splits; where training images are drawn anew, their digits."""
        digest = sha256()
        splits = {"train": self.train, "valid": self.valid, "test": self.test}
        for name, split in splits.items():
            for part, array in ({} if split is None else split.arrays()).items():
                digest.update(f"{name} {part} {array.dtype} {array.shape}\n".encode())
                digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()


class Data(ABC):
    """A data set as a value: its images follow from nothing else. See kinds.py.

    train_size: images of the training split. seed: of what it draws, shared by all networks and
    their seeds.
    """

    kind: ClassVar[str]
    train_size: int

    @property
    @abstractmethod
    def name(self) -> str:
        """In the names of folders, and where people read it."""

    @property
    @abstractmethod
    def form(self) -> Form:
        """What networks must know of its images."""

    @property
    @abstractmethod
    def valid_size(self) -> int:
        """0 where nothing is kept back from training, which then follows a fixed schedule."""

    @property
    @abstractmethod
    def test_size(self) -> int: ...

    @property
    def watched_size(self) -> int:
        """Images that are looked at after each epoch."""
        return self.valid_size or self.test_size

    @abstractmethod
    def load(self, folder: Path | str | None = None, map: Map = map) -> DataSet:
        """Make it. folder: of MNIST's files, see mnist.load. map: see Map.

        Raises UserError for missing or altered files.
        """

    def noise(self, count: int) -> Split:
        """A split of as many images that mean nothing, to measure time on."""
        draw, form = np.random.default_rng(0), self.form
        images = draw.integers(0, 256, (count, *form.shape), np.uint8)
        labels = draw.integers(0, form.classes, (count, *form.labels), np.uint8)
        return Split(images, labels, np.zeros((count, 4), np.int16))
