"""Cluttered digits, made the way DeepMind's generator makes them.

On a black canvas: `distractors` times, a window of patch x patch pixels, cut at a uniform place
out of a random digit of the same split, is added at a uniform place and clipped to white. Then
the digit itself, neither scaled nor rotated, is added at a uniform place and clipped. The digits
are walked through in a random order, each used once per pass.
"""

from functools import partial
from pathlib import Path

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from ministn.data import sources
from ministn.data.dataset import Data, DataSet, Digits, Form, Map, Split
from ministn.data.sources import EMBEDDED, MNIST, Sizes
from ministn.errors import UserError, check_kind, check_whole
from ministn.kinds import kind
from ministn.randomness import generator

# Images are drawn in chunks, each with a generator of its own: 10,000 images are then the first
# 10,000 of 50,000, and no chunk has to wait for another.
CHUNK = 1000

SIZES = {MNIST: Sizes(50_000, 10_000, 10_000), EMBEDDED: Sizes(8_000, 1_000, 1_000)}


@kind("cluttered")
class Cluttered(Data):
    """Digits among clutter, made once. The defaults are the TSTN paper's cluttered MNIST.

    source: whose digits. canvas: side of the images; distractors: pieces of other digits in each;
    patch: their side; lengths in pixels. train_size: the first of the full split; the other splits
    stay whole. Raises UserError for what cannot be.
    """

    source: str = MNIST
    canvas: int = 60
    distractors: int = 6
    patch: int = 8
    train_size: int = 50_000
    seed: int = 0

    def __post_init__(self) -> None:
        sources.check(self.source, self.seed, self.train_size, SIZES)
        check_whole(canvas=self.canvas)
        check_whole(0, distractors=self.distractors)
        check_whole(min(1, self.distractors), patch=self.patch)

    @property
    def name(self) -> str:
        return "cluttered" + sources.SUFFIX[self.source]

    @property
    def form(self) -> Form:
        return Form((self.canvas, self.canvas))

    @property
    def valid_size(self) -> int:
        return SIZES[self.source].valid

    @property
    def test_size(self) -> int:
        return SIZES[self.source].test

    def load(self, folder: Path | str | None = None, map: Map = map) -> DataSet:
        digits = sources.load(self.source, folder)
        sizes = {"train": self.train_size, "valid": self.valid_size, "test": self.test_size}
        splits = [
            generate(
                name,
                digits[name],
                count,
                seed=self.seed,
                canvas=self.canvas,
                distractors=self.distractors,
                patch=self.patch,
                map=map,
            )
            for name, count in sizes.items()
        ]
        return DataSet(*splits)


# By the names on the command line; our own is small enough to train on in minutes.
CLUTTERED = {MNIST: Cluttered(), EMBEDDED: Cluttered(EMBEDDED, 36, 3, 6, 8_000)}


def generate(
    name: str,
    digits: Digits,
    count: int,
    *,
    seed: int,
    canvas: int,
    distractors: int,
    patch: int,
    map: Map = map,
) -> Split:
    """The first `count` cluttered images, canvas x canvas pixels, of the split called `name`.

    Every draw depends on (seed, name) and on the pass over the digits or the chunk of images.
    map: applies a function to each chunk, as Python's does or in several processes.
    Raises UserError for settings that no image can have.
    """
    check(name, digits, count, seed=seed, canvas=canvas, distractors=distractors, patch=patch)
    # NumPy's unsigned numbers have no negative ones.
    count, canvas, distractors, patch = int(count), int(canvas), int(distractors), int(patch)
    chosen = digits[order(name, len(digits), count, seed)]
    images, corners = scatter(
        name,
        digits,
        chosen.images,
        seed=seed,
        canvas=canvas,
        distractors=distractors,
        patch=patch,
        map=map,
    )
    return Split(images, chosen.labels, ink_boxes(chosen.images) + np.tile(corners, 2))


def scatter(
    name: str,
    digits: Digits,
    chosen: np.ndarray,
    *,
    seed: int,
    canvas: int,
    distractors: int,
    patch: int,
    map: Map = map,
) -> tuple[np.ndarray, np.ndarray]:
    """Images (n, canvas, canvas) uint8 and the first pixel (x, y) of each digit, (n, 2) int16.

    digits: to cut distractors from. chosen: (n, h, w), the digit of each image.
    """
    draw = partial(
        draw_chunk, name, digits, seed=seed, canvas=canvas, distractors=distractors, patch=patch
    )
    starts = range(0, len(chosen), CHUNK)
    chunks = [(start // CHUNK, chosen[start : start + CHUNK]) for start in starts]
    images, corners = zip(*map(draw, chunks), strict=True)
    return np.concatenate(images), np.concatenate(corners)


def draw_chunk(
    name: str,
    digits: Digits,
    chunk: tuple[int, np.ndarray],
    *,
    seed: int,
    canvas: int,
    distractors: int,
    patch: int,
) -> tuple[np.ndarray, np.ndarray]:
    """One chunk of `scatter`: its number, and the digit (n, h, w) of each of its images."""
    number, chosen = chunk
    n, height, width = chosen.shape
    windows = sliding_window_view(digits.images, (patch, patch), axis=(1, 2))
    # The whole chunk is drawn even where it is cut short, so that the images before the cut stay
    # the same.
    draw = generator(seed, f"data/{name}/clutter", number)
    sources = draw.integers(len(digits), size=(distractors, CHUNK))
    cut_rows = draw.integers(windows.shape[1], size=(distractors, CHUNK))
    cut_columns = draw.integers(windows.shape[2], size=(distractors, CHUNK))
    places = draw.integers(canvas - patch + 1, size=(distractors, 2, CHUNK))
    digit_rows = draw.integers(canvas - height + 1, size=CHUNK)
    digit_columns = draw.integers(canvas - width + 1, size=CHUNK)

    images = np.zeros((n, canvas, canvas), np.uint8)
    for source, row, column, place in zip(sources, cut_rows, cut_columns, places, strict=True):
        add(images, windows[source, row, column], *place)
    add(images, chosen, digit_rows, digit_columns)
    return images, np.stack([digit_columns, digit_rows], axis=1)[:n].astype(np.int16)


def check_drawn(name: str, digits: Digits, count: int, seed: int, epoch: int = 0) -> int:
    """The count as Python's.

    Raises UserError for what no split can have, TypeError for a name or digits that are none.
    """
    check_kind("name", name, str)
    check_kind("digits", digits, Digits)
    check_whole(**{f"{name}_size": count})
    check_whole(0, **{"data seed": seed, "epoch": epoch})
    return int(count)


def draw_enlarged(
    name: str,
    digits: Digits,
    number: int,
    n: int,
    *,
    seed: int,
    canvas: int,
    distractors: int,
    patch: int,
    largest: int,
) -> np.ndarray:
    """(n, canvas, canvas) uint8, patches alone, of the first n images of a chunk, by its number.

    Each is resized bilinearly to 2, 4, ... or 2 * largest pixels each way, but made to fit where
    its middle lies. That is on an edge of pixels, two or more from those of the canvas.
    """
    windows = sliding_window_view(digits.images, (patch, patch), axis=(1, 2))
    rng = generator(seed, f"data/{name}/clutter", number)
    images = np.zeros((n, canvas, canvas), np.uint8)
    for _ in range(distractors):
        sources = rng.integers(len(digits), size=CHUNK)[:n]
        rows, columns = rng.integers(windows.shape[1:3], size=(CHUNK, 2))[:n].T
        y, x = rng.integers(2, canvas - 2, size=(CHUNK, 2))[:n].T
        half = rng.integers(1, largest + 1, size=CHUNK)[:n]
        half = np.minimum.reduce([half, x, y, canvas - x, canvas - y])
        for size in np.unique(half):
            (some,) = np.nonzero(half == size)
            weights = bilinear(patch, 2 * size)
            resized = weights @ windows[sources[some], rows[some], columns[some]] @ weights.T
            whole = np.rint(resized).astype(np.uint8)
            add(images, whole, y[some] - size, x[some] - size, some)
    return images


def bilinear(length: int, size: int) -> np.ndarray:
    """Weights (size, length) by which pixels in a row are resized, their outer edges kept.

    Between two pixels' centres both count, beyond the outermost only that.
    """
    places = ((np.arange(size) + 0.5) * (length / size) - 0.5).clip(0, length - 1)
    return np.maximum(1 - np.abs(places[:, None] - np.arange(length)), 0)


def check(
    name: str, digits: Digits, count: int, *, seed: int, canvas: int, distractors: int, patch: int
) -> None:
    """Raise UserError for settings that no image can have, TypeError for what are no digits."""
    check_drawn(name, digits, count, seed)
    check_whole(0, distractors=distractors)
    check_whole(canvas=canvas, patch=patch)
    height, width = digits.images.shape[1:]
    if canvas < max(height, width):
        raise UserError(
            f"canvas must be at least {max(height, width)}, the digits have {height}x{width} "
            f"pixels, got {canvas}"
        )
    if patch > min(height, width):
        raise UserError(
            f"patch must be at most {min(height, width)}, it is cut out of digits of "
            f"{height}x{width} pixels, got {patch}"
        )


def order(name: str, digits: int, count: int, seed: int) -> np.ndarray:
    """(count,) which digit each image shows: one random permutation after the other."""
    passes = range(-(-count // digits))
    walks = [generator(seed, f"data/{name}/order", p).permutation(digits) for p in passes]
    return np.concatenate(walks)[:count]


def add(
    canvas: np.ndarray,
    patches: np.ndarray,
    rows: np.ndarray,
    columns: np.ndarray,
    images: np.ndarray | None = None,
) -> None:
    """Add patch n to canvas images[n] with its first pixel at (rows[n], columns[n]), up to 255.

    canvas: (N, H, W) uint8, changed in place. images: different ones, by default all in turn; the
    other arrays hold as many or more, the rest is unused.
    """
    images = np.arange(len(canvas)) if images is None else images
    n = len(images)
    windows = sliding_window_view(canvas, patches.shape[1:], axis=(1, 2), writeable=True)
    at = images, rows[:n], columns[:n]
    windows[at] = np.minimum(windows[at].astype(np.uint16) + patches[:n], 255)


def ink_boxes(images: np.ndarray) -> np.ndarray:
    """(n, 4) int16: left, top, right, bottom of what is not black in each of (n, h, w) images."""
    ink = images > 0
    boxes = np.empty((len(images), 4), np.int16)
    for i, across in enumerate((1, 2)):  # the columns with ink, then the rows
        some = np.any(ink, axis=across)
        boxes[:, i] = some.argmax(axis=1)
        boxes[:, i + 2] = some.shape[1] - 1 - np.flip(some, axis=1).argmax(axis=1)
    return boxes
