"""Co-localisation: digits of one class, each somewhere in a large image (STN appendix A.2).

A digit of 28x28 pixels lies at a uniform place in 84x84, alone or with 16 patches of 6x6 pixels,
cut out of random digits of all classes, added and clipped to white; 100 images of one class make an
experiment. They are all there is to learn from: crops that show the digits resemble each other more
than they do crops at random places, see ops/triplet_hinge.py. A step compares some pairs of images,
and an epoch all of them. No source gives the random crops' size, nor where they may lie. Ours are
half as wide as a digit, and their centre may be anywhere in the image, as that of the transformer's
crops. So without clutter most are black, and to look at black alone gains little: with random
crops as wide as a digit and wholly inside the image, half of which show some of it, black crops
were a better answer than what is seen at first, and many a digit was lost to them.

What resembles what is judged by a classifier of digits. No source says what it has learned from.
Ours has from all training digits, those of the hundred images among them. They are as wide as a
quarter of the crop (of the first crops, digits fill more than a third) up to a fifth more than all
of it, and lie anywhere where nine tenths of them can be seen. What we measured: where a third or
more of them filled the crop, and once where they were up to 1.25 crops, a digit or two were lost to
black crops. Where they were up to 1.05 crops, the digits 6 and 9 were found, but then zoomed in on
for as long as learning went on. Where only three quarters had to be seen, the best crops of some
digits lay 3 or 4 pixels beside them. All this is without clutter; with it, crops stay nearly as
large as the image, in a trial also where the classifier knew patches. One that is to find digits
among patches, see models/colocalisation.py, learns from crops of such images: most are of digits
that just fit, a few of digits as small as in first crops, and a fifth are small and without a
digit, with any label, so that it is to be sure of none. Where all widths were as frequent, crops
came to lie on the digits and stayed nearly twice as wide.

The embedded digits have 20x20 pixels; their images are as much smaller.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ministn.backend import Array, Device
from ministn.data import cluttered, distorted, sources
from ministn.data.cluttered import CHUNK
from ministn.data.dataset import Data, DataSet, Digits, Form, Map, PosedSplit
from ministn.data.distorted import DrawnAnew, Recipe, only_placed, true_poses
from ministn.data.sources import EMBEDDED, MNIST, SIDES, Sizes
from ministn.data.warping import warp
from ministn.errors import UserError, check_count, check_index, check_kind, check_whole, is_whole
from ministn.kinds import kind
from ministn.metrics.attention import overlap, quadrilateral
from ministn.ops.affine_grid import check_size
from ministn.randomness import generator
from ministn.transformer.samplers import Sampler
from ministn.transformer.transforms import Attention

DIGITS_WIDE = 3  # an image is as wide as three digits
DISTRACTORS = 16
PATCH = 6
IMAGES = 100
FOUND_ABOVE = 0.5  # intersection over union

RANDOM = 1 / (2 * DIGITS_WIDE)  # width of the crops at random places, in images: half a digit
CROP = 22
SEEN = 0.28, 1.2  # width of the digits that the classifier learns from, in crops
VISIBLE = 0.9
SUPERSAMPLING = 3  # such small digits would fall between the sampling points


# Of crops among patches:
FILLED = 0.25, 1.3  # width of the digits, in crops; most are near the greatest
AT_FIRST = 0.33, 0.5  # the same in a few crops, as in those that a transformer begins with
FEW = 0.12
BLANK = 0.2  # the share, in training, of those that show no digit
BLANK_WIDTH = 0.12, 0.4  # of these, in images

PAIRS = IMAGES * (IMAGES - 1)
SIZES = dict.fromkeys((MNIST, EMBEDDED), Sizes(PAIRS, 0, IMAGES))


@kind("one digit")
class OneDigit(Data):
    """A hundred images of one digit, in pairs to learn from and as they are to be found in.

    digit: which. source: whose. distractors: 16, or 0 for the easy set. Raises UserError for what
    cannot be.
    """

    digit: int
    distractors: int = DISTRACTORS
    source: str = MNIST
    train_size: int = PAIRS
    seed: int = 0

    def __post_init__(self) -> None:
        sources.check(self.source, self.seed, self.train_size, SIZES)
        if not is_whole(self.digit) or self.digit not in range(10):
            raise UserError(f"the digit must be one of 0 to 9, got {self.digit!r}")
        if self.train_size != PAIRS:
            raise UserError(f"train_size must be all {PAIRS} pairs, got {self.train_size}")
        check_whole(0, distractors=self.distractors)

    @property
    def name(self) -> str:
        return f"colocalisation-{self.digit}" + sources.SUFFIX[self.source]

    @property
    def form(self) -> Form:
        return Form((DIGITS_WIDE * SIDES[self.source],) * 2)

    @property
    def valid_size(self) -> int:
        return 0

    @property
    def test_size(self) -> int:
        return IMAGES

    def load(self, folder: Path | str | None = None, map: Map = map) -> DataSet:
        """The images that are compared are also those in which the digits are to be found."""
        digits = sources.for_training(sources.load(self.source, folder))
        test = generate(digits, self.digit, seed=self.seed, distractors=self.distractors)
        return DataSet(Pairs(**vars(test)), None, test)

    def noise(self, count: int) -> "Pairs":
        """Of the set's number of images, or of more for large batches."""
        images = super().noise(max(IMAGES, math.isqrt(count) + 2))
        return Pairs(**vars(images), poses=np.zeros((len(images), 4, 4, 2)))


@kind("crops")
class Crops(DrawnAnew):
    """What the classifier learns from that judges what resembles what.

    side: of the crops, in pixels. distractors: of the images that they are cut out of, as in
    OneDigit; 0 for digits alone. Raises UserError as well for a side or distractors that there
    cannot be.
    """

    source: str = MNIST
    train_size: int = 60_000
    seed: int = 0
    side: int = CROP
    distractors: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_whole(CROP, side=self.side)
        check_whole(0, distractors=self.distractors)

    @property
    def name(self) -> str:
        where = "-among-patches" if self.distractors else ""
        return f"crops{where}{sources.SUFFIX[self.source]}"

    @property
    def form(self) -> Form:
        return Form((self.side, self.side))

    def load(self, folder: Path | str | None = None, map: Map = map) -> DataSet:
        if self.distractors:
            cut = partial(_cut, self.side, self.distractors)
            return self.made(partial(_cut_to_test, cut), partial(_cut_to_train, cut), folder)
        recipe = crops_recipe(SIDES[self.source], self.side)
        generate, fresh = distorted.generate, distorted.fresh
        return self.made(partial(generate, recipe), partial(fresh, recipe), folder)


class Compared(NamedTuple):
    """The labels of a batch of pairs.

    pairs: (P, 2) int32, rows of the batch's images. boxes: (n, 4), of the digits in those. size:
    the images' (H, W).
    """

    pairs: np.ndarray
    boxes: np.ndarray
    size: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Pairs(PosedSplit):
    """Images to be compared with each other: an example is a pair (n, m) of different ones."""

    def __len__(self) -> int:
        return len(self.images) * (len(self.images) - 1)

    def pairs(self, numbers: np.ndarray) -> np.ndarray:
        """The pairs with these numbers, as rows (n, m) of images."""
        n, m = np.divmod(numbers, len(self.images) - 1)
        return np.stack([n, m + (m >= n)], axis=1)

    def batch(self, rows: np.ndarray) -> tuple[np.ndarray, Compared]:
        """Each image once that is in the pairs with these numbers."""
        images, places = np.unique(self.pairs(rows), return_inverse=True)
        pairs = places.reshape(-1, 2).astype(np.int32)
        return self.images[images], Compared(pairs, self.boxes[images], self.size)


def generate(
    digits: Digits, digit: int, *, seed: int, count: int = IMAGES, distractors: int = DISTRACTORS
) -> PosedSplit:
    """`count` different digits of the class `digit`; distractors: 16, or 0 for the easy set.

    boxes: of the digit's whole 28x28 image, by which the paper judges. Raises UserError for more
    images than there are such digits, and for settings that no image can have.
    """
    check_kind("digits", digits, Digits)
    check_whole(count=count)
    check_whole(0, digit=digit)
    (members,) = np.nonzero(digits.labels == digit)
    if count > len(members):
        raise UserError(f"count must be at most {len(members)} for the digit {digit}, got {count}")
    name, side = f"colocalisation/{digit}", digits.images.shape[1]
    canvas = DIGITS_WIDE * side
    cluttered.check(
        name, digits, count, seed=seed, canvas=canvas, distractors=distractors, patch=PATCH
    )
    chosen = digits[generator(seed, f"data/{name}/order").permutation(members)[:count]]
    images, first = cluttered.scatter(
        name,
        digits,
        chosen.images,
        seed=seed,
        canvas=canvas,
        distractors=distractors,
        patch=PATCH,
    )
    boxes = np.concatenate([first, first + np.int16(side - 1)], axis=1)
    poses = true_poses(Recipe(name, canvas), side, only_placed(first, side, canvas))
    return PosedSplit(images, chosen.labels, boxes, poses)


def draw_crops(count: int, *, seed: int, step: int) -> np.ndarray:
    """theta (count, 3) float32 of Attention: small crops, their centres anywhere in the image."""
    count = check_count("count", count)
    check_index("step", step)
    centres = generator(seed, "colocalisation crops", step).uniform(-1, 1, (count, 2))
    return np.insert(centres, 0, RANDOM, axis=1).astype(np.float32)


def found(theta: np.ndarray, boxes: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    """(N,) bool: whether the quadrilaterals of theta (N, 2, 3) overlap the boxes (N, 4) enough."""
    height, width = check_size(size)
    return overlap(quadrilateral(theta, (height, width)), boxes) > FOUND_ABOVE


def crops_recipe(side: int, crop: int = CROP) -> Recipe:
    """Of crops of so many pixels a side that show digits whose images have that side."""
    scale = check_count("crop", crop) / check_count("side", side)
    return Recipe(
        "crops",
        crop,
        scale=(SEEN[0] * scale, SEEN[1] * scale),
        placed=VISIBLE,
        supersampling=SUPERSAMPLING,
    )


# -- crops among patches ---------------------------------------------------------------------------


def _cut_to_test(
    cut: Callable[..., list[PosedSplit]], *arguments: Any, **options: Any
) -> PosedSplit:
    """One crop of each of so many images, all with a digit."""
    chunks = [vars(split).values() for split in cut(*arguments, blank=0.0, epoch=0, **options)]
    return PosedSplit(*map(np.concatenate, zip(*chunks, strict=True)))


def _cut_to_train(
    cut: Callable[..., list[PosedSplit]],
    *arguments: Any,
    device: Device | None = None,
    **options: Any,
) -> tuple[Array, np.ndarray]:
    """The same of an epoch, on the device; some show no digit, and have any label."""
    chunks = cut(*arguments, blank=BLANK, **options)
    images, labels = (np.concatenate([getattr(c, n) for c in chunks]) for n in ("images", "labels"))
    return images if device is None else device.to_gpu(images), labels


def _cut(
    side: int,
    distractors: int,
    name: str,
    digits: Digits,
    count: int,
    *,
    seed: int,
    epoch: int,
    blank: float,
    map: Map = map,
) -> list[PosedSplit]:
    """Image i shows digit i, and after the last digit comes the first again."""
    chosen = np.arange(count) % len(digits)
    starts = range(0, count, CHUNK)
    chunks = [(start // CHUNK, digits[chosen[start : start + CHUNK]]) for start in starts]
    settings = side, distractors, name, digits, seed, epoch, blank
    return list(map(partial(_cut_chunk, settings), chunks))


def _filled(rng: np.random.Generator) -> np.ndarray:
    """(CHUNK,) How wide digits are in crops.

    The classifier is surest of what it has seen most. That is to be the digit where it just fits,
    or crops stop when it fills half of them; but unless it reads digits in first crops, too, some
    classes are never found.
    """
    which, share = rng.random((2, CHUNK))
    least, greatest = FILLED
    large = greatest - (greatest - least) * share**6
    low, high = AT_FIRST
    return np.where(which < FEW, low + (high - low) * share, large)


def _cut_chunk(settings: tuple[Any, ...], chunk: tuple[int, Digits]) -> PosedSplit:
    side, distractors, name, digits, seed, epoch, blank = settings
    number, (images, labels) = chunk[0], vars(chunk[1]).values()
    n, own = len(images), images.shape[1]
    canvas = DIGITS_WIDE * own
    rng = generator(seed, f"data/crops among patches/{name}", epoch, number)
    without = rng.random(CHUNK)[:n] < blank
    labels = np.where(without, rng.integers(0, 10, CHUNK)[:n], labels).astype(np.uint8)
    whole, first = cluttered.draw_chunk(
        f"crops among patches/{name}/{epoch}",
        digits,
        (number, images * ~without[:, None, None]),
        seed=seed,
        canvas=canvas,
        distractors=distractors,
        patch=PATCH,
    )
    half = (canvas - 1) / 2
    scale = np.minimum(1 / (DIGITS_WIDE * _filled(rng)), 1)[:n]
    room = np.maximum(scale - (2 * VISIBLE - 1) / DIGITS_WIDE, 0)
    centre = (first + (own - 1) / 2) / half - 1 + rng.uniform(-1, 1, (CHUNK, 2))[:n] * room[:, None]
    scale = np.where(without, rng.uniform(*BLANK_WIDTH, CHUNK)[:n], scale)
    centre = np.where(without[:, None], rng.uniform(-1, 1, (CHUNK, 2))[:n], centre.clip(-1, 1))
    theta = np.insert(centre, 0, scale, axis=1).astype(np.float32)
    sampler = Sampler(border="zeros", supersampling=2)
    grid, _ = Attention().forward(theta, sampler.grid_size((side, side)))
    crops = warp(whole, grid, sampler)
    poses = true_poses(Recipe(name, canvas), own, only_placed(first, own, canvas))
    poses = (poses - centre[:, None, None]) / scale[:, None, None, None]
    corners = (poses[:, [0, -1], [0, -1]] + 1) * (side - 1) / 2
    boxes = np.rint(corners).reshape(n, 4).astype(np.int16)
    return PosedSplit(crops, labels, boxes, poses.astype(np.float32))
