"""Extruded digits in three dimensions, to be classified from a projection (STN appendix A.3).

A digit is extruded along z to a depth of 28 voxels, turned, and placed anywhere in a volume of
60x60x60. Sources leave open how deep and how far turned: we take a cube of 28, angles uniform in
+-15 degrees about each axis, and every place at which the cube fits before it is turned.

Volumes are (N, D, H, W), that is z, y, x; points are (x, y, z), normalised: -1 and +1 are the
centres of the first and the last voxel. A volume takes 216 KB, so a training set is drawn as
motions, and ``Volumes`` makes volumes of them a batch at a time. Every layer of a digit is alike,
so trilinear interpolation is the bilinear one in a layer times a weight for the depth.
"""

from typing import NamedTuple

import numpy as np

from ministn.data.cluttered import CHUNK
from ministn.data.warping import as_bytes, sampled
from ministn.randomness import generator

CANVAS = 60
DEPTH = 28
ROTATION = 15.0
BLOCK = 8  # volumes at a time


class Motions(NamedTuple):
    """How digits are moved: rotation (n, 3, 3) of points about their centres, then shift (n, 3)
    of those from the middle of the volume, (x, y, z) in voxels. Both float64.
    """

    rotation: np.ndarray
    shift: np.ndarray

    def of(self, rows: slice | np.ndarray) -> "Motions":
        """Those of some of the digits."""
        return Motions(self.rotation[rows], self.shift[rows])


def draw(
    name: str, count: int, *, seed: int, epoch: int = 0, rotation: float = ROTATION
) -> Motions:
    """The motions of `count` volumes of the split called `name`; rotation: the largest angle.

    Every draw depends on (seed, name, epoch) and the chunk of 1,000; what is fixed has epoch 0.
    """
    drawn = [_chunk(name, seed, epoch, number, rotation) for number in range(-(-count // CHUNK))]
    rotations, shifts = (np.concatenate(parts)[:count] for parts in zip(*drawn, strict=True))
    return Motions(rotations, shifts)


class Volumes:
    """The volumes of many digits, (n, 60, 60, 60) uint8, each made anew whenever it is asked for.

    To be indexed by rows, as an array is: volumes[rows] is an array. images: (n, 28, 28) uint8.
    """

    dtype = np.dtype(np.uint8)

    def __init__(self, images: np.ndarray, motions: Motions) -> None:
        self.images, self.motions = images, motions
        self.shape = (len(images), CANVAS, CANVAS, CANVAS)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, rows: int | slice | np.ndarray) -> np.ndarray:
        if isinstance(rows, (int, np.integer)):
            return self[np.array([rows])][0]
        return volumes(self.images[rows], self.motions.of(rows))


def volumes(images: np.ndarray, motions: Motions) -> np.ndarray:
    """images (n, 28, 28) uint8, moved -> (n, 60, 60, 60) uint8. On a CPU only."""
    made = np.empty((len(images), CANVAS, CANVAS, CANVAS), np.uint8)
    for start in range(0, len(images), BLOCK):
        block = slice(start, start + BLOCK)
        made[block] = _volumes(images[block], motions.of(block))
    return made


def true_poses(motions: Motions) -> np.ndarray:
    """theta (n, 3, 4) float32, output to input, that shows the digit upright, a cube of 28."""
    scale = (DEPTH - 1) / (CANVAS - 1)
    shift = motions.shift / ((CANVAS - 1) / 2)
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


def _volumes(images: np.ndarray, motions: Motions) -> np.ndarray:
    """The volumes of one block: for every voxel p, the digit at R^T (p - shift)."""
    n, side, _ = images.shape
    back = motions.rotation.transpose(0, 2, 1).astype(np.float32)[..., None, None, None]
    voxel = np.arange(CANVAS, dtype=np.float32) - (CANVAS - 1) / 2
    x, y, z = (
        voxel.reshape(shape) - motions.shift[:, axis, None, None, None].astype(np.float32)
        for axis, shape in enumerate([(1, 1, 1, -1), (1, 1, -1, 1), (1, -1, 1, 1)])
    )
    across, down, deep = (
        back[:, row, 0] * x + back[:, row, 1] * y + back[:, row, 2] * z for row in range(3)
    )
    grid = np.stack([across, down], axis=-1) * np.float32(2 / (side - 1))
    layer = sampled(images, grid.reshape(n, CANVAS**2, CANVAS, 2)).reshape(across.shape)
    return as_bytes(layer * np.clip((DEPTH + 1) / 2 - np.abs(deep), 0, 1))
