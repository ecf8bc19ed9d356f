"""Plankton: PlanktonSet 1.0, the labelled images of the 2015 National Data Science Bowl.

30,336 grey pictures of 121 classes, each cut out round a specimen. They are inverted, so that what
they show is bright on black, scaled up or down until the longer side fills a square, and padded
with black. In each epoch a training image is, about its middle and in this order,

    sheared by up to 20 degrees, turned by any angle, shifted by up to 10/95 of its width each way,
    zoomed by 1/1.3 to 1.3, uniform on a logarithmic scale, and flipped or not

by one warp, as a spatial transformer's: from a square twice as wide as the image, of which each
pixel is the mean of 2x2 points. With no distortion that is average pooling, by which the images to
validate and to test are made. All this is as in the placement paper's released code, but for the
two interpolations that it makes.

No source has the split. Ours is stratified: of each class eight tenths are to train, one to
validate and one to test, by the data seed. The embedded digits take the place of plankton where
there is no file.
"""

import zipfile
import zlib
from functools import partial
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np
from PIL import Image

from ministn.backend import Array, Device
from ministn.data import sources
from ministn.data.cluttered import CHUNK, check_drawn
from ministn.data.dataset import Data, DataSet, Digits, Form, Fresh, Map, Split
from ministn.data.folders import find, search_path
from ministn.data.pictures import within
from ministn.data.sources import EMBEDDED, SUFFIX, Sizes
from ministn.data.warping import warp
from ministn.errors import UserError, check_whole
from ministn.kinds import kind
from ministn.randomness import generator
from ministn.transformer.samplers import Sampler
from ministn.transformer.transforms import AFFINE

PLANKTON = "plankton"
ARCHIVE = "train.zip"
ORIGIN = "https://www.kaggle.com/c/datasciencebowl/data"

SHEAR, TURN = 20.0, 180.0  # degrees
SHIFT = 10 / 95
ZOOM = 1.3
FINER = 2  # are the squares than the images made of them
SAMPLER = Sampler(border="zeros", supersampling=FINER)
BLOCK = 100  # images whose points are in memory at once

CLASSES = {PLANKTON: 121, EMBEDDED: 10}
TENTHS = {"valid": 0, "test": 5}  # of ten in a row; the other eight are to train


def sizes(count: int) -> Sizes:
    """Images in the splits of so many."""
    valid, test = (len(range(turn, count, 10)) for turn in TENTHS.values())
    return Sizes(count - valid - test, valid, test)


SIZES = {PLANKTON: sizes(30_336), EMBEDDED: sizes(1_797)}


@kind("plankton")
class Plankton(Data):
    """The set as a value.

    side: of the images in pixels. source: "plankton", or the embedded "digits". train_size: the
    first of the full split. Raises UserError for what cannot be.
    """

    side: int = 95
    source: str = PLANKTON
    train_size: int = SIZES[PLANKTON].train
    seed: int = 0

    def __post_init__(self) -> None:
        sources.check(self.source, self.seed, self.train_size, SIZES)
        check_whole(2, side=self.side)

    @property
    def name(self) -> str:
        return "plankton" + SUFFIX.get(self.source, "")

    @property
    def form(self) -> Form:
        return Form((self.side, self.side), classes=CLASSES[self.source])

    @property
    def valid_size(self) -> int:
        return SIZES[self.source].valid

    @property
    def test_size(self) -> int:
        return SIZES[self.source].test

    def load(self, folder: Path | str | None = None, map: Map = map) -> DataSet:
        """folder: of train.zip; by default $MINISTN_DATA/plankton, then the user's cache."""
        pictures = pictures_of(self.source, folder)
        rows = stratified(pictures.labels, self.seed)
        large, _ = enlarged(pictures, np.resize(rows["train"], self.train_size), self.side)
        make = partial(fresh, large, self.side, seed=self.seed)
        train = Fresh((len(large), *self.form.size), self.form.size, large, make)
        return DataSet(train, *(undistorted(pictures, rows[name], self.side) for name in TENTHS))


# -- pictures --------------------------------------------------------------------------------------


class Pictures(NamedTuple):
    """images: (h, w) uint8, each of its own size, bright on black. labels: (n,) uint8."""

    images: list[np.ndarray]
    labels: np.ndarray


def pictures_of(source: str, folder: Path | str | None) -> Pictures:
    """All pictures of a source. Raises UserError for files that are missing or not the set's."""
    if source == EMBEDDED:
        digits = sources.joined(sources.load(source, folder).values())
        return Pictures(list(digits.images), digits.labels)
    places = search_path(PLANKTON, folder)
    path = find(places, ARCHIVE)
    if path is None:
        raise UserError(
            f"there is no {ARCHIVE} in {' or '.join(map(str, places))}: put there that of the "
            f"National Data Science Bowl, {ORIGIN}"
        )
    pictures = read(path)
    expected = sum(SIZES[source]), CLASSES[source]
    found = len(pictures.labels), len(np.unique(pictures.labels))
    if found != expected:
        raise UserError(
            f"{path} must have {expected[0]} pictures of {expected[1]} classes, "
            f"got {found[0]} of {found[1]}"
        )
    return pictures


def read(path: Path) -> Pictures:
    """The pictures .../CLASS/NAME.jpg of an archive; classes are numbered in alphabetical order.

    Raises UserError for a file that is no such archive, or is damaged.
    """
    images, classes = [], []
    try:
        with zipfile.ZipFile(path) as archive:
            for name in sorted(archive.namelist()):
                if name.endswith(".jpg"):
                    with Image.open(BytesIO(archive.read(name))) as picture:
                        images.append(255 - np.asarray(picture.convert("L")))
                    classes.append(PurePosixPath(name).parent.name)
    except (OSError, zipfile.BadZipFile, zlib.error) as error:
        raise UserError(f"{path} cannot be read, {error}: put the right file there") from error
    return Pictures(images, np.unique(classes, return_inverse=True)[1].astype(np.uint8))


def stratified(labels: np.ndarray, seed: int) -> dict[str, np.ndarray]:
    """Which of the pictures with labels (n,) are in the splits train, valid and test.

    In each split they stand in random order, and of each class there are as many as its share of
    all, give or take one.
    """
    order = generator(seed, "data/plankton/split").permutation(len(labels))
    turn = np.empty(len(labels), int)
    turn[order[np.argsort(labels[order], kind="stable")]] = np.arange(len(labels)) % 10
    parts = {name: order[turn[order] == tenth] for name, tenth in TENTHS.items()}
    return {"train": order[~np.isin(turn[order], [*TENTHS.values()])]} | parts


def fitted(image: np.ndarray, side: int) -> tuple[np.ndarray, np.ndarray]:
    """An image (h, w) uint8 scaled so that its longer side is `side`, and padded to a square.

    Also the box of what is not padding, (4,): left, top, right, bottom, inclusive.
    """
    top, left, height, width = within(image.shape, (side, side))
    scaled = Image.fromarray(image).resize((width, height), Image.Resampling.LANCZOS)
    square = np.zeros((side, side), np.uint8)
    square[top : top + height, left : left + width] = np.asarray(scaled)
    return square, np.array([left, top, left + width - 1, top + height - 1])


def enlarged(pictures: Pictures, rows: np.ndarray, side: int) -> tuple[Digits, np.ndarray]:
    """Some of the pictures, twice as large as images of that side, and their boxes there."""
    images = np.empty((len(rows), FINER * side, FINER * side), np.uint8)
    boxes = np.empty((len(rows), 4), np.int16)
    for i, row in enumerate(rows):
        images[i], boxes[i] = fitted(pictures.images[row], FINER * side)
    return Digits(images, pictures.labels[rows]), boxes


def undistorted(pictures: Pictures, rows: np.ndarray, side: int) -> Split:
    """A split of some of the pictures. boxes: of what is not padding."""
    large, boxes = enlarged(pictures, rows, side)
    return Split(pooled(large.images), large.labels, boxes // FINER)


def pooled(images: np.ndarray) -> np.ndarray:
    """Means over 2x2 pixels, (n, 2 H, 2 W) -> (n, H, W) uint8, halves rounded up."""
    n, height, width = images.shape
    cells = images.reshape(n, height // FINER, FINER, width // FINER, FINER)
    return ((cells.sum(axis=(2, 4), dtype=np.uint16) + FINER**2 // 2) // FINER**2).astype(np.uint8)


# -- distortions -----------------------------------------------------------------------------------


class Drawn(NamedTuple):
    """The distortions of n images, each (n,), shift (n, 2).

    shear, turn: in degrees, clockwise. shift: (x, y), in widths of the image. flip: left to right.
    """

    shear: np.ndarray
    turn: np.ndarray
    shift: np.ndarray
    zoom: np.ndarray
    flip: np.ndarray


def draw(seed: int, epoch: int, number: int) -> Drawn:
    """The distortions of a chunk of the training split."""
    rng = generator(seed, "data/plankton/train", epoch, number)
    return Drawn(
        rng.uniform(-SHEAR, SHEAR, CHUNK),
        rng.uniform(-TURN, TURN, CHUNK),
        rng.uniform(-SHIFT, SHIFT, (CHUNK, 2)),
        ZOOM ** rng.uniform(-1, 1, CHUNK),
        rng.random(CHUNK) < 0.5,
    )


def theta_of(drawn: Drawn) -> np.ndarray:
    """(n, 6) float32: where in the square each point of the image is read."""
    across, down = np.radians(drawn.turn), np.radians(drawn.turn + drawn.shear)
    matrix = np.zeros((len(across), 3, 3))
    # The square's axes: where they point once they are sheared and turned.
    matrix[:, :2, 0] = np.stack([np.cos(across), np.sin(across)], axis=1)
    matrix[:, :2, 1] = np.stack([-np.sin(down), np.cos(down)], axis=1)
    matrix[:, :2, 2] = 2 * drawn.shift  # an image is two units wide
    matrix[:, :2] *= drawn.zoom[:, None, None]
    matrix[:, 0] *= np.where(drawn.flip, -1, 1)[:, None]
    matrix[:, 2, 2] = 1
    return np.linalg.inv(matrix)[:, :2].reshape(-1, 6).astype(np.float32)


def warped(images: Array, theta: Array, side: int) -> Array:
    """images (n, H, W) uint8 at T_theta(G) -> (n, side, side) uint8, on their engine."""
    grid, _ = AFFINE.forward(theta, SAMPLER.grid_size((side, side)))
    return warp(images, grid, SAMPLER)


def in_blocks(side: int, chunk: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """The same on a CPU, images and theta in one argument."""
    images, theta = chunk
    made = np.empty((len(images), side, side), np.uint8)
    for start in range(0, len(images), BLOCK):
        block = slice(start, start + BLOCK)
        made[block] = warped(images[block], theta[block], side)
    return made


def fresh(
    large: Digits,
    side: int,
    *,
    seed: int,
    epoch: int,
    device: Device | None = None,
    map: Map = map,
) -> tuple[Array, np.ndarray]:
    """Images (n, side, side) and labels (n,) uint8: what training needs of an epoch.

    large: the squares that they are made from. device: the GPU that warps the images and keeps
    them, None for the CPU. map: on a CPU, applies a function to each chunk, see Map. Raises
    UserError for a seed or epoch that cannot be.
    """
    check_drawn("train", large, len(large), seed, epoch)
    shape = len(large), side, side
    images = np.empty(shape, np.uint8) if device is None else device.empty(shape, np.uint8)
    chunks = []
    for number, start in enumerate(range(0, len(large), CHUNK)):
        of_chunk = large.images[start : start + CHUNK]
        chunks.append((of_chunk, theta_of(draw(seed, epoch, number))[: len(of_chunk)]))
    if device is None:
        made = map(partial(in_blocks, side), chunks)
    else:
        to_gpu = device.to_gpu
        made = (warped(to_gpu(squares), to_gpu(theta), side) for squares, theta in chunks)
    for number, some in enumerate(made):
        images[number * CHUNK :][: len(some)] = some
    return images, large.labels
