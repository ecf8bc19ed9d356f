"""Co-localisation: digits of one class, each somewhere in a large image (STN appendix A.2).

A digit of 28x28 pixels lies at a uniform place in 84x84, alone or with 16 patches of 6x6 pixels,
cut out of random digits of all classes, added and clipped to white; 100 images of one class make an
experiment. They are all there is to learn from: crops that show the digits resemble each other more
than they do crops at random places, see ops/triplet_hinge.py. What each step compares is drawn
here, too. No source gives the crops' size or what they are drawn from: 28x28, any whole pixels.
"""

import numpy as np

from ministn.attention import overlap, quadrilateral
from ministn.data import cluttered
from ministn.data.dataset import Digits, PosedSplit
from ministn.data.distorted import Recipe, only_placed, true_poses
from ministn.errors import UserError
from ministn.randomness import generator

CANVAS = 84
DISTRACTORS = 16
PATCH = 6
IMAGES = 100
FOUND_ABOVE = 0.5  # intersection over union


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
    cluttered.check(
        name, digits, count, seed=seed, canvas=CANVAS, distractors=distractors, patch=PATCH
    )
    chosen = digits[generator(seed, f"data/{name}/order").permutation(members)[:count]]
    images, first = cluttered.scatter(
        name,
        digits,
        chosen.images,
        seed=seed,
        canvas=CANVAS,
        distractors=distractors,
        patch=PATCH,
    )
    boxes = np.concatenate([first, first + np.int16(side - 1)], axis=1)
    poses = true_poses(Recipe(name, CANVAS), side, only_placed(first, side, CANVAS))
    return PosedSplit(images, chosen.labels, boxes, poses)


def draw_pairs(count: int, images: int, *, seed: int, step: int) -> np.ndarray:
    """(count, 2): which images n and m a step compares, n and m different."""
    draw = generator(seed, "colocalisation pairs", step)
    n = draw.integers(images, size=count)
    return np.stack([n, (n + draw.integers(1, images, size=count)) % images], axis=1)


def draw_crops(count: int, side: int, *, seed: int, step: int) -> np.ndarray:
    """theta (count, 2, 3) float32 of crops of side x side pixels, each at a uniform place.

    For output size (side, side) they fall on whole pixels.
    """
    draw = generator(seed, "colocalisation crops", step)
    first = draw.integers(CANVAS - side + 1, size=(count, 2))
    theta = np.zeros((count, 2, 3), np.float32)
    theta[:, 0, 0] = theta[:, 1, 1] = (side - 1) / (CANVAS - 1)
    theta[:, :, 2] = (2 * first + side - CANVAS) / (CANVAS - 1)
    return theta


def found(theta: np.ndarray, boxes: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """(N,) bool: whether the quadrilaterals of theta (N, 2, 3) overlap the boxes (N, 4) enough."""
    return overlap(quadrilateral(theta, size), boxes) > FOUND_ABOVE
