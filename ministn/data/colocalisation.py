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
large as the image, in a trial also where the classifier knew patches.

The embedded digits have 20x20 pixels; their images are as much smaller.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from ministn.backend import Array, Device
from ministn.data import cluttered, distorted
from ministn.data.dataset import Digits, Map, PosedSplit
from ministn.data.distorted import Recipe, only_placed, true_poses
from ministn.errors import UserError
from ministn.metrics.attention import overlap, quadrilateral
from ministn.randomness import generator

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


@dataclass(frozen=True, eq=False)
class Pairs(PosedSplit):
    """Images to be compared with each other: an example is a pair (n, m) of different ones."""

    def __len__(self) -> int:
        return len(self.images) * (len(self.images) - 1)

    def pairs(self, numbers: np.ndarray) -> np.ndarray:
        """The pairs with these numbers, as rows (n, m) of images."""
        n, m = np.divmod(numbers, len(self.images) - 1)
        return np.stack([n, m + (m >= n)], axis=1)

    def epoch(
        self, number: int, device: Device | None = None, map: Map = map
    ) -> tuple[Array, np.ndarray]:
        """Of each pair the first image, and its label."""
        first = self.pairs(np.arange(len(self)))[:, 0]
        images = self.images[first]
        return images if device is None else device.to_gpu(images), self.labels[first]


def generate(
    digits: Digits, digit: int, *, seed: int, count: int = IMAGES, distractors: int = DISTRACTORS
) -> PosedSplit:
    """`count` different digits of the class `digit`; distractors: 16, or 0 for the easy set.

    boxes: of the digit's whole 28x28 image, by which the paper judges. Raises UserError for more
    images than there are such digits, and for settings that no image can have.
    """
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
    centres = generator(seed, "colocalisation crops", step).uniform(-1, 1, (count, 2))
    return np.insert(centres, 0, RANDOM, axis=1).astype(np.float32)


def found(theta: np.ndarray, boxes: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """(N,) bool: whether the quadrilaterals of theta (N, 2, 3) overlap the boxes (N, 4) enough."""
    return overlap(quadrilateral(theta, size), boxes) > FOUND_ABOVE


# -- what the classifier learns from ---------------------------------------------------------------


def crops_recipe(digits: Digits) -> Recipe:
    """Of crops that show such digits."""
    crop = CROP / digits.images.shape[1]
    return Recipe(
        "crops",
        CROP,
        scale=(SEEN[0] * crop, SEEN[1] * crop),
        placed=VISIBLE,
        supersampling=SUPERSAMPLING,
    )


def generate_crops(name: str, digits: Digits, count: int, **drawn: Any) -> PosedSplit:
    """As distorted.generate."""
    return distorted.generate(crops_recipe(digits), name, digits, count, **drawn)


def fresh_crops(name: str, digits: Digits, count: int, **drawn: Any) -> tuple[Array, np.ndarray]:
    """As distorted.fresh."""
    return distorted.fresh(crops_recipe(digits), name, digits, count, **drawn)
