"""Distorted digits: the sets R, RTS, P, E and TC of STN section 4.1 and its appendix A.4.

    R     rotated by an angle uniform in +-90 degrees, in the digit's own 28x28 pixels
    RTS   rotated by +-45 degrees, scaled by 0.7 to 1.2, and placed anywhere in 42x42 pixels
    P     scaled by 0.75 to 1, in the middle of 42x42 pixels, whose corners are then displaced by
          normal noise of 5 pixels, with the homography that this defines
    E     scaled alike, then 4x4 control points over the 42x42 pixels are displaced by normal noise
          of 1.5 pixels, with the thin plate spline that this defines
    TC    placed anywhere in 60x60 pixels, with six 6x6 patches of other digits added

and S, of the placement paper, whose R and T are R and TC:

    S     scaled by 0.5 to 4, uniform on a logarithmic scale, in the middle of 112x112 pixels, with
          six such patches added, of 2 to 18 pixels, see draw_enlarged in data/cluttered.py. There,
          patches to test are of training digits, here of the others to test, as in TC

Angles, scales, noise and patches are as several independent sources report them. On these points
all are silent, and we chose: the canvas of R, P and E (P and E have one in which the noise cuts no
strokes off); in RTS every place at which the scaled digit fits before it is turned; in E the noise
moves the points that are read, so that the distortion is a spline and its inverse only close to
one; bilinear interpolation; sums clipped to white.

But for TC an image is what a spatial transformer would make of a digit: the digit, sampled at
T_theta(G). Every draw depends on (seed, set, split, epoch) and the chunk of 1,000 images, so fewer
images are the first of more. Training draws anew in each epoch, from 1; what is fixed has epoch 0.
The bytes are the same again on one machine; elsewhere single ones may be rounded otherwise.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ministn.backend import Array, Device, device_of
from ministn.data import cluttered, sources
from ministn.data.cluttered import CHUNK, check_drawn, ink_boxes
from ministn.data.dataset import Data, DataSet, Digits, DigitSplit, Form, Fresh, Map, PosedSplit
from ministn.data.sources import EMBEDDED, MNIST, Sizes
from ministn.data.warping import (
    CENTRES,
    SPLINE,
    homography,
    project,
    projective_theta,
    spline_inverse,
    spline_theta,
    warp,
)
from ministn.errors import UserError, check_kind, check_whole
from ministn.kinds import kind
from ministn.metrics.attention import CORNERS
from ministn.metrics.pose import FRAME
from ministn.randomness import generator
from ministn.transformer.samplers import Sampler
from ministn.transformer.transforms import AFFINE, Projective


class Recipe(NamedTuple):
    """How a set is distorted.

    canvas: side of the images in pixels. rotation: largest angle, in degrees. scale: least and
    greatest. placed: how much of the digit's image lies on the canvas wherever it is put, as a
    share of its side; 0 for the middle. corners, controls: standard deviation of the noise in
    pixels. distractors, patch: see data/cluttered.py. supersampling: see transformer/samplers.py.
    logarithmic: whether scales are uniform in their logarithm. largest: half the greatest side of
    patches where they are resized, or 0.
    """

    name: str
    canvas: int
    rotation: float = 0.0
    scale: tuple[float, float] = (1.0, 1.0)
    placed: float = 0.0
    corners: float = 0.0
    controls: float = 0.0
    distractors: int = 0
    patch: int = 0
    supersampling: int = 1
    logarithmic: bool = False
    largest: int = 0

    @property
    def in_whole_pixels(self) -> bool:
        """Whether digits are but placed, among patches as they are: nothing is sampled."""
        return self.distractors > 0 and not self.largest


R = Recipe("R", 28, rotation=90.0)
RTS = Recipe("RTS", 42, rotation=45.0, scale=(0.7, 1.2), placed=1.0)
P = Recipe("P", 42, scale=(0.75, 1.0), corners=5.0)
E = Recipe("E", 42, scale=(0.75, 1.0), controls=1.5)
TC = Recipe("TC", 60, placed=1.0, distractors=6, patch=6)
S = Recipe("S", 112, scale=(0.5, 4.0), distractors=6, patch=6, logarithmic=True, largest=9)
RECIPES = {recipe.name: recipe for recipe in (R, RTS, P, E, TC, S)}
SIZES = {MNIST: Sizes(60_000, 0, 10_000), EMBEDDED: Sizes(8_000, 0, 1_000)}


class Drawn(NamedTuple):
    """The distortions of n images, float64.

    angle: (n,) in degrees, clockwise. scale: (n,). shift: (n, 2) of the digit's centre from the
    canvas's, (x, y). corners (n, 4, 2), in the order of attention.CORNERS, and controls (n, 16, 2):
    displacements. All lengths in pixels.
    """

    angle: np.ndarray
    scale: np.ndarray
    shift: np.ndarray
    corners: np.ndarray
    controls: np.ndarray


class DrawnAnew(Data):
    """Sets whose training images are drawn anew in each epoch, from all digits but the test's.

    source: whose digits. Raises UserError for what cannot be.
    """

    source: str
    seed: int

    def __post_init__(self) -> None:
        sources.check(self.source, self.seed, self.train_size, SIZES)

    @property
    def valid_size(self) -> int:
        return SIZES[self.source].valid

    @property
    def test_size(self) -> int:
        return SIZES[self.source].test

    def made(
        self,
        generate: Callable[..., PosedSplit],
        fresh: Callable[..., tuple[Array, np.ndarray]],
        folder: Path | str | None,
    ) -> DataSet:
        """A data set of what ``generate`` makes to test, and ``fresh`` of an epoch."""
        digits = sources.load(self.source, folder)
        train, count, size = sources.for_training(digits), self.train_size, self.form.size
        make = partial(fresh, "train", train, count, seed=self.seed)
        return DataSet(
            Fresh((count, *self.form.shape), size, train, make),
            None,
            generate("test", digits["test"], self.test_size, seed=self.seed),
            looked_at=self.watched_size,
        )


@kind("distorted")
class Distorted(DrawnAnew):
    """One of RECIPES by its name.

    passes: over the digits to test, each time distorted in another way, of which the first is
    looked at after each epoch. Raises UserError as well
    for a recipe or passes that there cannot be.
    """

    recipe: str
    source: str = MNIST
    train_size: int = 60_000
    seed: int = 0
    passes: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.recipe not in tuple(RECIPES):
            raise UserError(f"there is no set {self.recipe!r}: choose one of {', '.join(RECIPES)}")
        check_whole(passes=self.passes)

    @property
    def name(self) -> str:
        return self.recipe.lower() + sources.SUFFIX[self.source]

    @property
    def form(self) -> Form:
        return Form((RECIPES[self.recipe].canvas,) * 2)

    @property
    def test_size(self) -> int:
        return super().test_size * self.passes

    @property
    def watched_size(self) -> int:
        """One pass."""
        return super().test_size

    def load(self, folder: Path | str | None = None, map: Map = map) -> DataSet:
        recipe = RECIPES[self.recipe]
        return self.made(partial(generate, recipe), partial(fresh, recipe), folder)


def generate(
    recipe: Recipe, name: str, digits: Digits, count: int, *, seed: int, epoch: int = 0
) -> PosedSplit:
    """`count` distorted images of the split called `name`, with the digits' ink boxes and poses.

    Image i shows digit i, and after the last digit comes the first again. Raises UserError for a
    count, seed or epoch that cannot be.
    """
    check_kind("recipe", recipe, Recipe)
    count = check_drawn(name, digits, count, seed, epoch)
    made, side = _Made(recipe, name, digits, count, seed, epoch), digits.images.shape[1]
    chunks = []
    for number in range(-(-count // CHUNK)):
        some, how = _digits(made, None, number)
        if recipe.in_whole_pixels:  # the digit's box, not that of the clutter as well
            first = np.tile(how.shift + (recipe.canvas - side) / 2, 2).astype(np.int16)
            boxes = ink_boxes(digits.images[made.rows(number)]) + first
        else:
            boxes = ink_boxes(some)
        chunks.append((_among(made, number, some), boxes, true_poses(recipe, side, how)))
    images, boxes, poses = (np.concatenate(arrays) for arrays in zip(*chunks, strict=True))
    return DigitSplit(images, np.resize(digits.labels, count), boxes, poses)


def fresh(
    recipe: Recipe,
    name: str,
    digits: Digits,
    count: int,
    *,
    seed: int,
    epoch: int,
    device: Device | None = None,
    map: Map = map,
) -> tuple[Array, np.ndarray]:
    """Images (count, canvas, canvas) and labels (count,) uint8: what training needs of an epoch.

    device: the GPU that warps the images and keeps them, None for the CPU. map: on a CPU, applies a
    function to each chunk, as Python's does or in several processes. Raises as `generate` does.
    """
    check_kind("recipe", recipe, Recipe)
    count = check_drawn(name, digits, count, seed, epoch)
    make = partial(_chunk, _Made(recipe, name, digits, count, seed, epoch), device)
    shape = count, recipe.canvas, recipe.canvas
    images = np.empty(shape, np.uint8) if device is None else device.empty(shape, np.uint8)
    for number, some in enumerate(map(make, list(range(-(-count // CHUNK))))):
        images[number * CHUNK :][: len(some)] = some
    return images, np.resize(digits.labels, count)


def draw(recipe: Recipe, name: str, side: int, seed: int, epoch: int, number: int) -> Drawn:
    """The distortions of a whole chunk; side: of the digits' images."""
    rng = generator(seed, f"data/{recipe.name}/{name}", epoch, number)
    angle = rng.uniform(-recipe.rotation, recipe.rotation, CHUNK)
    low, high = recipe.scale
    if recipe.logarithmic:
        scale = low * (high / low) ** rng.uniform(size=CHUNK)
    else:
        scale = rng.uniform(low, high, CHUNK)
    room = np.maximum((recipe.canvas - 1) - recipe.placed * scale * (side - 1), 0) / 2
    shift = rng.uniform(-1, 1, (CHUNK, 2)) * room[:, None] * (recipe.placed > 0)
    corners = rng.normal(0, recipe.corners, (CHUNK, *CORNERS.shape))
    controls = rng.normal(0, recipe.controls, (CHUNK, *CENTRES.shape))
    return Drawn(angle, scale, shift, kept_convex(corners, recipe.canvas), controls)


def only_placed(first: np.ndarray, side: int, canvas: int) -> Drawn:
    """Digits upright and as large as they are, with first pixels (x, y), (n, 2), whole numbers."""
    n = len(first)
    shift = first - (canvas - side) / 2
    return Drawn(np.zeros(n), np.ones(n), shift, np.zeros((n, 4, 2)), np.zeros((n, 16, 2)))


def kept_convex(corners: np.ndarray, canvas: int) -> np.ndarray:
    """Displacements (n, 4, 2), halved where the displaced corners are not those of a convex shape.

    Only a convex one has a homography that keeps its inside together. Noise of 5 pixels on 42 makes
    about one image in a million another.
    """
    while True:
        quads = CORNERS * ((canvas - 1) / 2) + corners
        edge = np.roll(quads, -1, axis=1) - quads
        after = np.roll(edge, -1, axis=1)
        turn = edge[..., 0] * after[..., 1] - edge[..., 1] * after[..., 0]
        convex = (turn > 0).all(axis=1)
        if convex.all():
            return corners
        corners = np.where(convex[:, None, None], corners, corners / 2)


def placement(recipe: Recipe, side: int, drawn: Drawn) -> np.ndarray:
    """(n, 3, 3) homographies from a digit's image to its canvas; in E without the spline."""
    half = (recipe.canvas - 1) / 2
    scale = drawn.scale * (side - 1) / (recipe.canvas - 1)
    radians = np.radians(drawn.angle)
    matrix = np.zeros((len(scale), 3, 3))
    matrix[:, 0, 0] = matrix[:, 1, 1] = scale * np.cos(radians)
    matrix[:, 1, 0] = scale * np.sin(radians)
    matrix[:, 0, 1] = -matrix[:, 1, 0]
    matrix[:, :2, 2] = drawn.shift / half
    matrix[:, 2, 2] = 1
    if recipe.corners:
        matrix = homography(CORNERS, CORNERS + drawn.corners / half) @ matrix
    return matrix


def sampling_grid(recipe: Recipe, side: int, drawn: Drawn, device: Device | None = None) -> Array:
    """T_theta(G), (n, canvas, canvas, 2) float32: where in the digit each pixel is read.

    With supersampling that many points for each pixel, both ways.
    """
    size = (recipe.canvas * recipe.supersampling,) * 2
    back = np.linalg.inv(placement(recipe, side, drawn))

    def on_device(array: np.ndarray) -> Array:
        array = array.astype(np.float32)
        return array if device is None else device.to_gpu(array)

    if recipe.controls:
        values = project(back, moved_centres(recipe, drawn))
        return SPLINE.forward(on_device(spline_theta(values)), size)[0]
    if recipe.corners:
        return Projective().forward(on_device(projective_theta(back)), size)[0]
    return AFFINE.forward(on_device(back[:, :2].reshape(-1, 6)), size)[0]


def true_poses(recipe: Recipe, side: int, drawn: Drawn) -> np.ndarray:
    """(n, 4, 4, 2) float32: where the points of the digit's image went, see metrics/pose.py."""
    poses = project(placement(recipe, side, drawn), FRAME.reshape(-1, 2))
    if recipe.controls:
        poses = spline_inverse(moved_centres(recipe, drawn), poses)
    return poses.reshape(-1, *FRAME.shape).astype(np.float32)


def moved_centres(recipe: Recipe, drawn: Drawn) -> np.ndarray:
    """(n, 16, 2): what is read at the control points of the canvas, in E."""
    return CENTRES + drawn.controls * (2 / (recipe.canvas - 1))


class _Made(NamedTuple):
    """What the images of a split follow from, in one epoch."""

    recipe: Recipe
    name: str
    digits: Digits
    size: int
    seed: int
    epoch: int

    def rows(self, number: int) -> np.ndarray:
        """The digits of a chunk's images, as many as there are."""
        some = np.arange(number * CHUNK, min(self.size, (number + 1) * CHUNK))
        return some % len(self.digits)


def _chunk(made: _Made, device: Device | None, number: int) -> Array:
    """The images of one chunk."""
    images, _ = _digits(made, device, number)
    return _among(made, number, images)


def _digits(made: _Made, device: Device | None, number: int) -> tuple[Array, Drawn]:
    """The same before patches that are resized are added, and the digits' distortions."""
    recipe, rows = made.recipe, made.rows(number)
    chosen, side = made.digits.images[rows], made.digits.images.shape[1]
    if recipe.in_whole_pixels:  # what is added first is all the same
        images, first = cluttered.draw_chunk(
            f"{recipe.name}/{made.name}/{made.epoch}",
            made.digits,
            (number, chosen),
            seed=made.seed,
            canvas=recipe.canvas,
            distractors=recipe.distractors,
            patch=recipe.patch,
        )
        drawn = only_placed(first, side, recipe.canvas)
        return images if device is None else device.to_gpu(images), drawn
    whole = draw(recipe, made.name, side, made.seed, made.epoch, number)
    drawn = Drawn(*(array[: len(rows)] for array in whole))
    images = chosen if device is None else device.to_gpu(chosen)
    sampler = Sampler(border="zeros", supersampling=recipe.supersampling)
    return warp(images, sampling_grid(recipe, side, drawn, device), sampler), drawn


def _among(made: _Made, number: int, images: Array) -> Array:
    """Images (n, canvas, canvas) uint8 of a chunk with patches added, if they are resized."""
    recipe = made.recipe
    if not recipe.largest:
        return images
    clutter: Array = cluttered.draw_enlarged(
        f"{recipe.name}/{made.name}/{made.epoch}",
        made.digits,
        number,
        len(images),
        seed=made.seed,
        canvas=recipe.canvas,
        distractors=recipe.distractors,
        patch=recipe.patch,
        largest=recipe.largest,
    )
    device = device_of(images)
    clutter = clutter if device is None else device.to_gpu(clutter)
    return (images.astype(np.uint16) + clutter).clip(0, 255).astype(np.uint8)
