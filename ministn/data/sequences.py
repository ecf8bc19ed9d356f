"""Sequences of digits among clutter (Sønderby et al. 2015, section 4).

Three digits of 28x28 pixels, drawn with replacement, stand side by side along a line of random
slope in 100x100 pixels. Eight patches of 9x9, cut out of digits, are written one over another on a
canvas of their own, and the sum of both is clipped to white.

What the paper leaves out is as in the authors' script, and so is, by default, what that does in
another way:

    slope     up to 45 degrees in the paper; in the script from -14 to 13 rows for each digit of 28
              pixels, that is up to 26.6 degrees
    rows      the line starts in any row, and each digit that it leads out of the image is moved
              back by itself: of the first digits, 28 in 100 stand at the bottom
    clutter   cut out of the split's own digits in the paper; in the script, for all splits, one
              pool of patches, from the digits to train and to validate
    places    the script's draws leave out the last one: a sequence begins in columns 0 to 15,
              patches are cut out at 0 to 18 and written at 0 to 90

The embedded digits have 20x20 pixels; their images and patches are as much smaller.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from ministn.data import sources
from ministn.data.cluttered import CHUNK, add, check_drawn, ink_boxes
from ministn.data.dataset import Data, DataSet, Digits, Form, Map, Split, check_bytes
from ministn.data.sources import EMBEDDED, MNIST, SIDES, Sizes
from ministn.errors import FROM_0, UserError, check_numbers, check_whole
from ministn.kinds import kind
from ministn.metrics import attention
from ministn.randomness import generator
from ministn.transformer import Attended

LENGTH = 3
PATCHES = 8
POOL = 100_000

SIZES = {MNIST: Sizes(60_000, 10_000, 10_000), EMBEDDED: Sizes(8_000, 1_000, 1_000)}


class Layout(NamedTuple):
    """Sides in pixels, of an image and of a patch of clutter."""

    canvas: int
    patch: int


LAYOUTS = {MNIST: Layout(100, 9), EMBEDDED: Layout(84, 6)}


@kind("sequences")
class Sequences(Data):
    """The set as a value.

    source: whose digits. slope: of the steepest line, 0.5 as in the script or 1 as in the paper.
    Raises UserError for what cannot be.
    """

    source: str = MNIST
    slope: float = 0.5
    train_size: int = 60_000
    seed: int = 0

    def __post_init__(self) -> None:
        sources.check(self.source, self.seed, self.train_size, SIZES)
        steepest(self.slope, SIDES[self.source])

    @property
    def name(self) -> str:
        return "sequences" + sources.SUFFIX[self.source]

    @property
    def form(self) -> Form:
        return Form((LAYOUTS[self.source].canvas,) * 2, labels=(LENGTH,))

    @property
    def valid_size(self) -> int:
        return SIZES[self.source].valid

    @property
    def test_size(self) -> int:
        return SIZES[self.source].test

    def load(self, folder: Path | str | None = None, map: Map = map) -> DataSet:
        digits = sources.load(self.source, folder)
        canvas, patch = LAYOUTS[self.source]
        pool = cut_patches(sources.for_training(digits), patch, seed=self.seed)
        make = partial(generate, seed=self.seed, canvas=canvas, slope=self.slope, map=map)
        sizes = {"train": self.train_size, "valid": self.valid_size, "test": self.test_size}
        splits = [make(name, digits[name], pool, count) for name, count in sizes.items()]
        return DataSet(*splits)


@dataclass(frozen=True, eq=False)
class SequenceSplit(Split):
    """A split whose images have several digits each: labels (N, T) uint8, boxes (N, T, 4) int16."""

    def measure(self, looks: Sequence[Attended]) -> dict[str, Any]:
        """How well T glimpses attended, of which number t is to read digit t.

        The measures are means over the glimpses, and "glimpses" has those of each against its
        digit, with "overlaps_most": for each digit, the share of images where the glimpse overlaps
        it more than any other. A transformer that looks once is measured as in other splits.
        """
        if len(looks) != self.boxes.shape[1]:
            return super().measure(looks)
        each = [self._glimpse(look.theta, number) for number, look in enumerate(looks)]
        means = {name: fmean(one[name] for one in each) for name in attention.MEASURES}
        return means | {"glimpses": each}

    def _glimpse(self, theta: np.ndarray, number: int) -> dict[str, Any]:
        size = self.shape[1], self.shape[2]
        quads = attention.quadrilateral(theta, size)
        digits = np.moveaxis(self.boxes, 1, 0)
        overlaps = np.stack([attention.overlap(quads, boxes) for boxes in digits])
        most = np.where(overlaps.any(axis=0), overlaps.argmax(axis=0), -1)  # -1: none at all
        shares = [float((most == digit).mean()) for digit in range(len(digits))]
        return attention.summary(theta, digits[number], size) | {"overlaps_most": shares}


class Drawn(NamedTuple):
    """What n images are made of. Corners are first pixels, (x, y).

    digits: (n, 3), by number. corners: (n, 3, 2), theirs. patches: (n, 8), by number, in the order
    in which they are written. places: (n, 8, 2), their corners.
    """

    digits: np.ndarray
    corners: np.ndarray
    patches: np.ndarray
    places: np.ndarray


def generate(
    name: str,
    digits: Digits,
    pool: np.ndarray,
    count: int,
    *,
    seed: int,
    canvas: int,
    slope: float,
    map: Map = map,
) -> SequenceSplit:
    """The first `count` images, canvas x canvas pixels, of the split called `name`.

    pool: (P, p, p) uint8, patches of clutter. map: see Map. Labels are (N, 3) uint8, boxes
    (N, 3, 4) int16, of each digit, from left to right.

    Every draw depends on (seed, name) and the chunk of 1,000 images. Raises UserError for a count,
    seed or slope that cannot be, and for a canvas on which three digits have no room to move.
    """
    count = check_drawn(name, digits, count, seed)
    check_bytes("pool", pool)
    check_whole(canvas=canvas)
    side = digits.images.shape[1]
    if canvas <= LENGTH * side:
        raise UserError(
            f"canvas must be above {LENGTH * side}, the width of {LENGTH} digits, got {canvas}"
        )
    numbers = range(-(-count // CHUNK))
    draw_chunk = partial(draw, name, digits.images, pool, seed=seed, canvas=canvas, slope=slope)
    chunks = [draw_chunk(number, min(CHUNK, count - number * CHUNK)) for number in numbers]
    images = np.empty((count, canvas, canvas), np.uint8)
    for number, some in enumerate(map(partial(compose, digits.images, pool, canvas), chunks)):
        images[number * CHUNK :][: len(some)] = some
    rows, corners = (np.concatenate([chunk[i] for chunk in chunks]) for i in range(2))
    boxes = ink_boxes(digits.images)[rows] + np.tile(corners, 2).astype(np.int16)
    return SequenceSplit(images, digits.labels[rows], boxes)


def draw(
    name: str,
    digits: np.ndarray,
    pool: np.ndarray,
    number: int,
    n: int,
    *,
    seed: int,
    canvas: int,
    slope: float,
) -> Drawn:
    """What the first n images of a chunk are made of. digits: (m, side, side) uint8."""
    side, patch = digits.shape[1], pool.shape[1]
    rise = steepest(slope, side)
    # The whole chunk is drawn even where it is cut short: fewer images are the first of more.
    rng = generator(seed, f"data/sequences/{name}", number)
    rows = rng.integers(len(digits), size=(CHUNK, LENGTH))
    left = rng.integers(canvas - LENGTH * side, size=CHUNK)
    top = rng.integers(canvas, size=CHUNK)
    rises = rng.integers(-rise, rise, size=CHUNK)
    patches = rng.integers(len(pool), size=(CHUNK, PATCHES))
    places = rng.integers(canvas - patch, size=(CHUNK, PATCHES, 2))
    corners = along_line(left, top, rises, side, canvas)
    return Drawn(*(each[:n] for each in (rows, corners, patches, places)))


def along_line(
    left: np.ndarray, top: np.ndarray, rise: np.ndarray, side: int, canvas: int
) -> np.ndarray:
    """Corners (n, 3, 2) of digits on lines from (left, top), each (n,), that go down by `rise` (n,)
    rows for each digit; whoever would leave the canvas stands at its edge.
    """
    steps = np.arange(LENGTH)
    x = left[:, None] + side * steps
    y = top[:, None] + rise[:, None] * steps
    return np.stack([x, y.clip(0, canvas - side)], axis=2)


def compose(digits: np.ndarray, pool: np.ndarray, canvas: int, drawn: Drawn) -> np.ndarray:
    """The images (n, canvas, canvas) uint8."""
    n = len(drawn.digits)
    images = np.zeros((n, canvas, canvas), np.uint8)
    windows = sliding_window_view(images, pool.shape[1:], axis=(1, 2), writeable=True)
    for k in range(PATCHES):
        x, y = drawn.places[:, k].T
        windows[np.arange(n), y, x] = pool[drawn.patches[:, k]]
    for k in range(LENGTH):  # which do not overlap: to clip after each is to clip after all
        x, y = drawn.corners[:, k].T
        add(images, digits[drawn.digits[:, k]], y, x)
    return images


def cut_patches(digits: Digits, patch: int, *, seed: int, count: int = POOL) -> np.ndarray:
    """The pool of clutter, (count, patch, patch) uint8."""
    rng = generator(seed, "data/sequences/pool")
    windows = sliding_window_view(digits.images, (patch, patch), axis=(1, 2))
    rows = rng.integers(len(digits), size=count)
    y, x = rng.integers(digits.images.shape[1] - patch, size=(2, count))
    return windows[rows, y, x]


def steepest(slope: float, side: int) -> int:
    """How many rows a line of this slope goes down for each digit. Raises UserError for slopes of
    less than a row, or of more than 45 degrees.
    """
    check_numbers(FROM_0, slope=slope)
    if not 1 <= slope * side <= side:
        raise UserError(f"slope must be from 1/{side} to 1, got {slope}")
    return int(slope * side)
