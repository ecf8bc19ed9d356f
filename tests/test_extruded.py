"""Extruded digits: where they are in the volume, and how their poses undo it."""

import numpy as np
import pytest
from scipy.ndimage import map_coordinates

from ministn.data import extruded
from ministn.data.extruded import CANVAS, DEPTH, Motions, draw, true_poses, volumes

SIDE = 28
HALF = (CANVAS - 1) / 2
NOISE = np.random.default_rng(0).integers(1, 256, (1, SIDE, SIDE)).astype(np.uint8)
TURNS = {  # by a quarter about an axis, from the next one towards the one after; x right, y down
    "x": [[1, 0, 0], [0, 0, -1], [0, 1, 0]],
    "y": [[0, 0, 1], [0, 1, 0], [-1, 0, 0]],
    "z": [[0, -1, 0], [1, 0, 0], [0, 0, 1]],
}


def moved(shift=(0, 0, 0), rotation=None) -> Motions:
    rotation = np.eye(3) if rotation is None else np.array(rotation, float)
    return Motions(rotation[None], np.array([shift], float))


def box(cube: np.ndarray, x: int, y: int, z: int) -> np.ndarray:
    """A cube (28, 28, 28) with its first voxel at (x, y, z)."""
    volume = np.zeros((CANVAS, CANVAS, CANVAS), np.uint8)
    volume[z : z + DEPTH, y : y + SIDE, x : x + SIDE] = cube
    return volume


CUBE = np.broadcast_to(NOISE, (DEPTH, SIDE, SIDE))


def test_not_turned_it_is_the_digit_in_every_layer():
    (found,) = volumes(NOISE, moved((5, -7, 11)))
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, box(CUBE, 16 + 5, 16 - 7, 16 + 11))


def test_shift_by_half_a_voxel_averages():
    even = NOISE // 2 * 2
    (found,) = volumes(even, moved((0, 0, 0.5)))
    layer = box(np.broadcast_to(even, CUBE.shape), 16, 16, 16)[16]
    assert (found[17:44] == layer).all()
    assert (found[[16, 44]] == layer // 2).all()
    assert not found[:16].any() and not found[45:].any()


@pytest.mark.parametrize("axis", TURNS)
def test_a_quarter_turn_about_each_axis(axis):
    """Volumes are (z, y, x): about x, y turns towards z, axis 1 towards axis 0; and so on."""
    planes = {"x": (1, 0), "y": (0, 2), "z": (2, 1)}
    (found,) = volumes(NOISE, moved(rotation=TURNS[axis]))
    np.testing.assert_array_equal(found, box(np.rot90(CUBE, 1, planes[axis]), 16, 16, 16))


def test_turns_are_about_x_then_y_then_z():
    for axis, matrix in enumerate(TURNS.values()):
        np.testing.assert_allclose(
            extruded._turn(axis, np.array([np.pi / 2]))[0], matrix, atol=1e-15
        )
    made = draw("train", 500, seed=0, rotation=15).rotation
    np.testing.assert_allclose(
        made @ made.transpose(0, 2, 1), np.tile(np.eye(3), (500, 1, 1)), 0, 1e-14
    )
    np.testing.assert_allclose(np.linalg.det(made), 1)
    limit = np.radians(15)
    for angle in (
        np.arctan2(made[:, 1, 0], made[:, 0, 0]),
        np.arcsin(-made[:, 2, 0]),
        np.arctan2(made[:, 2, 1], made[:, 2, 2]),
    ):
        assert 0.99 * limit < np.abs(angle).max() <= limit + 1e-12
        assert abs(angle.mean()) < 5 * limit / np.sqrt(3 * 500)


def test_shifts_are_uniform_where_the_cube_fits():
    shift = draw("train", 3000, seed=0).shift
    assert 15.95 < np.abs(shift).max() <= 16
    assert np.abs(shift.mean(axis=0)).max() < 5 * 16 / np.sqrt(3 * 3000)
    np.testing.assert_allclose(shift.std(axis=0), 16 / np.sqrt(3), rtol=0.05)


def test_what_the_motions_depend_on():
    many = draw("train", 1500, seed=0)
    for count in (1, 1001):
        few = draw("train", count, seed=0)
        assert np.array_equal(few.shift, many.shift[:count])
        assert np.array_equal(few.rotation, many.rotation[:count])
    for other in (
        draw("train", 9, seed=1),
        draw("test", 9, seed=0),
        draw("train", 9, seed=0, epoch=1),
    ):
        assert (other.shift != many.shift[:9]).all()
    assert np.array_equal(
        draw("train", 9, seed=0, rotation=0).rotation, np.tile(np.eye(3), (9, 1, 1))
    )


def test_volumes_of_some_rows_are_those_rows():
    images = np.random.default_rng(3).integers(0, 256, (11, SIDE, SIDE)).astype(np.uint8)
    motions = draw("train", 11, seed=0)
    rows = np.array([7, 2, 10])
    some = volumes(images[rows], motions.of(rows))
    np.testing.assert_array_equal(some, volumes(images, motions)[rows])


def test_the_pose_undoes_the_motion():
    """Sampled at T_theta(G), by SciPy, the volume is the upright digit; turned slabs blur."""
    y, x = np.mgrid[-1:1:28j, -1:1:28j]
    smooth = 255 * np.exp(-((x - 0.2) ** 2 / 0.3 + (y + 0.1) ** 2 / 0.5))
    images = np.repeat(smooth[None].astype(np.uint8), 4, axis=0)
    motions = draw("test", 4, seed=5)
    theta = true_poses(motions)
    assert theta.shape == (4, 3, 4) and theta.dtype == np.float32
    axis = np.linspace(-1, 1, DEPTH)
    z, y, x = np.meshgrid(axis, axis, axis, indexing="ij")
    target = np.stack([x, y, z, np.ones_like(x)], axis=-1)
    for volume, matrix in zip(volumes(images, motions), theta, strict=True):
        source = (target @ matrix.T) * HALF + HALF  # (x, y, z) in voxels
        upright = map_coordinates(
            volume.astype(float), np.moveaxis(source[..., ::-1], -1, 0), order=1
        )
        inner = upright[4:-4, 3:-3, 3:-3]
        assert np.abs(inner - smooth[3:-3, 3:-3]).max() < 6
