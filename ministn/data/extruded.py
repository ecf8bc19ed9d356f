"""Extruded digits in three dimensions, to be classified from a projection (STN appendix A.3).

A digit is extruded along z to a depth of 28 voxels, turned, and placed anywhere in a volume of
60x60x60. Sources leave open how deep and how far turned: we take a cube of 28, angles uniform in
+-15 degrees about each axis, and every place at which the cube fits before it is turned.

Volumes are (N, D, H, W), that is z, y, x; points are (x, y, z), normalised: -1 and +1 are the
centres of the first and the last voxel. A volume takes 216 KB, so a set is drawn as motions, and
``Volumes`` makes volumes of them a batch at a time. Every layer of a digit is alike, so trilinear
interpolation is the bilinear one in a layer times a weight for the depth.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np

from ministn.backend import Array, Device
from ministn.data.cluttered import CHUNK, check_drawn
from ministn.data.dataset import DataSet, Digits, Form, Map, PosedSplit, check_bytes
from ministn.data.distorted import DrawnAnew
from ministn.data.sources import MNIST, SUFFIX
from ministn.data.warping import as_bytes, sampled
from ministn.errors import check_count, check_index, check_kind, check_number
from ministn.kinds import kind
from ministn.metrics.pose import POINTS
from ministn.randomness import generator
from ministn.transformer.transforms import AFFINE

CANVAS = 60
DEPTH = 28
ROTATION = 15.0
MIDDLE = (CANVAS - 1) / 2
BLOCK = 8  # volumes at a time


@kind("extruded")
class Extruded(DrawnAnew):
    """The set as a value."""

    source: str = MNIST
    train_size: int = 60_000
    seed: int = 0

    @property
    def name(self) -> str:
        return "extruded" + SUFFIX[self.source]

    @property
    def form(self) -> Form:
        return Form((CANVAS,) * 3)

    def load(self, folder: Path | str | None = None, map: Map = map) -> DataSet:
        return self.made(generate, fresh, folder)

    def noise(self, count: int) -> PosedSplit:
        """Noise that is extruded: volumes are made as they are in training."""
        draw = np.random.default_rng(0)
        labels = draw.integers(0, self.form.classes, count, np.uint8)
        images = draw.integers(0, 256, (count, DEPTH, DEPTH), np.uint8)
        return generate("noise", Digits(images, labels), count, seed=0)


class Motions(NamedTuple):
    """How digits are moved: rotation (n, 3, 3) of points about their centres, then shift (n, 3)
    of those from the middle of the volume, (x, y, z) in voxels. Both float64; on a GPU float32,
    in which volumes are made anyway.
    """

    rotation: Array
    shift: Array

    def of(self, rows: slice | np.ndarray) -> "Motions":
        """Those of some of the digits."""
        return Motions(self.rotation[rows], self.shift[rows])


def draw(
    name: str, count: int, *, seed: int, epoch: int = 0, rotation: float = ROTATION
) -> Motions:
    """The motions of `count` volumes of the split called `name`; rotation: the largest angle.

    Every draw depends on (seed, name, epoch) and the chunk of 1,000; what is fixed has epoch 0.
    Raises TypeError or ValueError for arguments that cannot be.
    """
    check_kind("name", name, str)
    count = check_count("count", count)
    check_index("epoch", epoch)
    rotation = check_number("rotation", rotation, 0)
    drawn = [_chunk(name, seed, epoch, number, rotation) for number in range(-(-count // CHUNK))]
    rotations, shifts = (np.concatenate(parts)[:count] for parts in zip(*drawn, strict=True))
    return Motions(rotations, shifts)


class Volumes:
    """The volumes of many digits, (n, 60, 60, 60) uint8, made anew whenever they are looked at.

    volumes[rows] are those of some of the digits, volumes[3] is an array, as is what np.asarray
    makes of all. images: (n, 28, 28) uint8.

    Where images and motions lie on a GPU, it makes the volumes, and only as batches: see batch.py.
    volumes[...] = others writes over them, and leaves them where they lie.
    """

    dtype = np.dtype(np.uint8)

    def __init__(self, images: Array, motions: Motions) -> None:
        self.images, self.motions = images, motions
        self.shape = (len(images), CANVAS, CANVAS, CANVAS)

    def on(self, device: Device) -> "Volumes":
        """The same on a GPU."""
        motions = (device.to_gpu(array.astype(np.float32)) for array in self.motions)
        return Volumes(device.to_gpu(self.images), Motions(*motions))

    @property
    def arrays(self) -> tuple[Array, Array, Array]:
        """Images, rotation and shift."""
        return self.images, *self.motions

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, rows: int | slice | np.ndarray) -> "Volumes | np.ndarray":
        if isinstance(rows, (int, np.integer)):
            return np.asarray(self[np.array([rows])])[0]
        return Volumes(self.images[rows], self.motions.of(rows))

    def __setitem__(self, rows: Any, others: "Volumes") -> None:
        for mine, other in zip(self.arrays, others.arrays, strict=True):
            mine[rows] = other

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        made = volumes(self.images, self.motions)
        return made if dtype is None else made.astype(dtype)


@dataclass(frozen=True, eq=False)
class VolumeSplit(PosedSplit):
    """A split of volumes.

    images: Volumes. boxes: (N, 4) float32, where in the projection along the depth each digit's own
    28x28 pixels were placed before it was turned. poses: (N, 4, 4, 2) float32, as the projection
    shows them: the affine transform nearest to what the true theta makes of x and y.
    """

    images: Any

    def on(self, device: Device) -> Self:
        """The same split, its digits and motions on the GPU."""
        return replace(self, images=self.images.on(device))

    @property
    def size(self) -> tuple[int, ...]:
        """(D, H, W)."""
        return self.shape[1:]

    def arrays(self) -> dict[str, np.ndarray]:
        """Digits and motions instead of the volumes that follow from them."""
        made = {"images": self.images.images, **self.images.motions._asdict()}
        return super().arrays() | made


def generate(name: str, digits: Digits, count: int, *, seed: int) -> VolumeSplit:
    """`count` volumes of the split called `name`, with the digits' boxes and poses.

    Volume i shows digit i, and after the last digit comes the first again. Raises UserError for a
    count or seed that cannot be.
    """
    count = check_drawn(name, digits, count, seed)
    motions = draw(name, count, seed=seed)
    chosen = digits[np.arange(count) % len(digits)]
    first = motions.shift[:, :2] + (CANVAS - DEPTH) / 2
    boxes = np.concatenate([first, first + DEPTH - 1], axis=1).astype(np.float32)
    seen = true_poses(motions)[:, :2, [0, 1, 3]].reshape(-1, 6)
    poses, _ = AFFINE.forward(seen, (POINTS, POINTS))
    return VolumeSplit(Volumes(chosen.images, motions), chosen.labels, boxes, poses)


def fresh(
    name: str,
    digits: Digits,
    count: int,
    *,
    seed: int,
    epoch: int,
    device: Device | None = None,
    map: Map = map,
) -> tuple[Volumes, np.ndarray]:
    """Volumes and labels (count,) uint8: what training needs of an epoch.

    device: the GPU that is to make the volumes, None for the CPU. map: not used, as who trains on
    volumes makes them. Raises as `generate` does.
    """
    count = check_drawn(name, digits, count, seed, epoch)
    chosen = digits[np.arange(count) % len(digits)]
    made = Volumes(chosen.images, draw(name, count, seed=seed, epoch=epoch))
    return made if device is None else made.on(device), chosen.labels


def volumes(images: np.ndarray, motions: Motions) -> np.ndarray:
    """images (n, 28, 28) uint8, moved -> (n, 60, 60, 60) uint8. On a CPU only.

    Raises TypeError for what are no bytes or motions, ValueError for another shape.
    """
    check_bytes("images", images)
    check_kind("motions", motions, Motions)
    if len(images) != len(motions.shift):
        raise ValueError(f"images must be {len(motions.shift)}, as motions are, got {len(images)}")
    made = np.zeros((len(images), CANVAS, CANVAS, CANVAS), np.uint8)
    for start in range(0, len(images), BLOCK):
        block = slice(start, start + BLOCK)
        _add_digits(made[block], images[block], motions.of(block))
    return made


def true_poses(motions: Motions) -> np.ndarray:
    """theta (n, 3, 4) float32, output to input, that shows the digit upright, a cube of 28."""
    scale = (DEPTH - 1) / (CANVAS - 1)
    shift = motions.shift / MIDDLE
    return np.concatenate([scale * motions.rotation, shift[..., None]], axis=2).astype(np.float32)


def _chunk(
    name: str, seed: int, epoch: int, number: int, rotation: float
) -> tuple[np.ndarray, np.ndarray]:
    rng = generator(seed, f"data/extruded/{name}", epoch, number)
    angles = np.radians(rng.uniform(-rotation, rotation, (3, CHUNK)))
    shift = rng.uniform(-1, 1, (CHUNK, 3)) * ((CANVAS - DEPTH) / 2)
    about_x, about_y, about_z = (_turn(axis, angle) for axis, angle in enumerate(angles))
    return about_z @ about_y @ about_x, shift


def _turn(axis: int, angle: np.ndarray) -> np.ndarray:
    """(n, 3, 3) rotations about one axis, from the next axis towards the one after."""
    first, second = (axis + 1) % 3, (axis + 2) % 3
    matrix = np.zeros((len(angle), 3, 3))
    matrix[:, axis, axis] = 1
    matrix[:, first, first] = matrix[:, second, second] = np.cos(angle)
    matrix[:, second, first] = np.sin(angle)
    matrix[:, first, second] = -matrix[:, second, first]
    return matrix


def _add_digits(made: np.ndarray, images: np.ndarray, motions: Motions) -> None:
    """Write the digits of a block into its empty volumes: at voxel p the digit at R^T (p - shift).

    Only within boxes that hold the turned cubes, all of one size: elsewhere there is nothing.
    """
    n, side, _ = images.shape
    first, size = _boxes(motions)
    back = motions.rotation.transpose(0, 2, 1).astype(np.float32)[..., None, None, None]
    x, y, z = (
        (first[:, axis, None] + np.arange(size[axis]) - MIDDLE).astype(np.float32).reshape(shape)
        - motions.shift[:, axis, None, None, None].astype(np.float32)
        for axis, shape in enumerate([(n, 1, 1, -1), (n, 1, -1, 1), (n, -1, 1, 1)])
    )
    across, down, deep = (
        back[:, row, 0] * x + back[:, row, 1] * y + back[:, row, 2] * z for row in range(3)
    )
    grid = np.stack([across, down], axis=-1) * np.float32(2 / (side - 1))
    layer = sampled(images, grid.reshape(n, -1, size[0], 2)).reshape(across.shape)
    found = as_bytes(layer * np.clip((DEPTH + 1) / 2 - np.abs(deep), 0, 1))
    for volume, corner, digit in zip(made, first, found, strict=True):
        i, j, k = (slice(corner[axis], corner[axis] + size[axis]) for axis in (2, 1, 0))
        volume[i, j, k] = digit


def _boxes(motions: Motions) -> tuple[np.ndarray, np.ndarray]:
    """Boxes round turned cubes: their first voxels (n, 3) and their one size (3,), (x, y, z).

    Interpolation makes half a voxel more of a cube on each side, and there is nothing beyond.
    """
    reach = (DEPTH + 1) / 2 * np.abs(motions.rotation).sum(axis=2)
    centre = MIDDLE + motions.shift
    first = np.ceil(centre - reach).astype(int).clip(0)
    last = np.floor(centre + reach).astype(int).clip(max=CANVAS - 1)
    size = (last - first).max(axis=0) + 1
    return np.minimum(first, CANVAS - size), size
