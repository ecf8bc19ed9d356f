"""Extruded digits: where they are in the volume, and how their poses undo it."""

import pickle
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from scipy.ndimage import map_coordinates

from ministn.data import Extruded, extruded
from ministn.data.dataset import Digits
from ministn.data.extruded import CANVAS, DEPTH, Motions, Volumes, draw, true_poses, volumes
from ministn.data.sources import EMBEDDED
from ministn.errors import UserError

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


@pytest.mark.parametrize("rotation", [0, 15, 180])
def test_nothing_is_outside_the_boxes_that_are_computed(rotation, monkeypatch):
    """All bytes are those that computing every voxel gives."""
    white = np.full((20, SIDE, SIDE), 255, np.uint8)
    motions = draw("train", 20, seed=1, rotation=rotation)
    found = volumes(white, motions)
    assert extruded._boxes(motions)[1].max() < 50 or rotation == 180

    def whole(motions):
        return np.zeros((len(motions.shift), 3), int), np.full(3, CANVAS)

    monkeypatch.setattr(extruded, "_boxes", whole)
    np.testing.assert_array_equal(found, volumes(white, motions))
    assert found.any(axis=(1, 2, 3)).all()


# ---- the set


DIGITS = Digits(
    np.random.default_rng(7).integers(0, 256, (7, SIDE, SIDE)).astype(np.uint8),
    np.array([3, 1, 4, 1, 5, 9, 2], np.uint8),
)


def test_volumes_are_indexed_like_an_array():
    motions = draw("train", 7, seed=0)
    lazy, whole = Volumes(DIGITS.images, motions), volumes(DIGITS.images, motions)
    assert (len(lazy), lazy.shape, lazy.dtype) == (7, whole.shape, whole.dtype)
    for rows in (slice(2, 5), slice(5, 99), slice(None), np.array([6, 0, 3]), slice(9, 12)):
        some = lazy[rows]
        assert isinstance(some, Volumes) and some.shape == whole[rows].shape
        np.testing.assert_array_equal(np.asarray(some), whole[rows])
    for row in (-1, np.int64(4)):
        np.testing.assert_array_equal(lazy[row], whole[row])
    np.testing.assert_array_equal(np.stack(list(lazy)), whole)
    assert np.asarray(lazy, np.float32).dtype == np.float32
    with pytest.raises(IndexError):
        lazy[7]


def test_volumes_travel_as_digits_and_motions():
    lazy = Volumes(DIGITS.images, draw("train", 7, seed=0))
    sent = pickle.dumps(lazy)
    assert len(sent) < 2 * DIGITS.images.nbytes
    np.testing.assert_array_equal(np.asarray(pickle.loads(sent)), np.asarray(lazy))


def test_after_the_last_digit_comes_the_first_again():
    split = extruded.generate("test", DIGITS, 9, seed=2)
    assert split.labels.tolist() == [3, 1, 4, 1, 5, 9, 2, 3, 1]
    expected = volumes(DIGITS.images[[1, 0, 1]], draw("test", 9, seed=2).of(np.array([1, 7, 8])))
    np.testing.assert_array_equal(np.asarray(split.images[np.array([1, 7, 8])]), expected)
    images, labels = extruded.fresh("train", DIGITS, 9, seed=2, epoch=3)
    assert labels.tolist() == split.labels.tolist()
    expected = volumes(DIGITS.images[1:2], draw("train", 9, seed=2, epoch=3).of(slice(8, 9)))
    np.testing.assert_array_equal(images[8], expected[0])


def test_boxes_and_poses_are_those_of_the_projection(monkeypatch):
    """Of digits that are not turned both are the square that the projection shows."""
    monkeypatch.setattr(extruded, "draw", partial(draw, rotation=0))
    white = Digits(np.full((6, SIDE, SIDE), 255, np.uint8), DIGITS.labels[:6])
    split = extruded.generate("test", white, 6, seed=0)
    assert split.boxes.shape == (6, 4) and split.poses.shape == (6, 4, 4, 2)
    corners = split.poses[:, [0, 3], [0, 3]].reshape(6, 4) * HALF + HALF
    np.testing.assert_allclose(corners, split.boxes, atol=1e-4)
    places = np.arange(CANVAS)
    for volume, box in zip(split.images, split.boxes, strict=True):
        seen = volume.astype(float).sum(axis=0)
        middle = [(seen.sum(axis=axis) @ places) / seen.sum() for axis in (0, 1)]
        np.testing.assert_allclose(middle, (box[:2] + box[2:]) / 2, atol=0.01)
    np.testing.assert_allclose(split.boxes[:, 2:] - split.boxes[:, :2], SIDE - 1, atol=1e-4)


def test_poses_are_what_the_true_theta_makes_of_x_and_y():
    split = extruded.generate("test", DIGITS, 7, seed=4)
    theta = true_poses(split.images.motions)
    x, y = np.meshgrid(np.linspace(-1, 1, 4), np.linspace(-1, 1, 4))
    points = np.stack([x, y, np.zeros_like(x), np.ones_like(x)], axis=-1)
    expected = np.einsum("nab,ijb->nija", theta, points)
    np.testing.assert_allclose(split.poses, expected[..., :2], atol=1e-6)


@pytest.mark.parametrize(
    ("count", "seed", "message"),
    [(0, 0, "test_size must be at least 1, got 0"), (3, -1, "data seed must be at least 0, got")],
)
def test_impossible_sets(count, seed, message):
    with pytest.raises(UserError, match=message):
        extruded.generate("test", DIGITS, count, seed=seed)
    with pytest.raises(UserError, match=message):
        extruded.fresh("test", DIGITS, count, seed=seed, epoch=1)


def test_a_set_of_volumes_is_drawn_anew_in_each_epoch():
    made = Extruded(EMBEDDED, 30).load()
    assert made.train.shape == (30, 60, 60, 60) and made.test.shape == (1000, 60, 60, 60)
    assert made.train.size == made.test.size == (60, 60, 60) == Extruded().form.shape
    assert made.valid is None and made.watched is made.test
    first, second = (made.train.epoch(number) for number in (1, 2))
    np.testing.assert_array_equal(first.labels, made.train.digits.labels[:30])
    np.testing.assert_array_equal(first.labels, second.labels)
    assert (first.images.motions.shift != second.images.motions.shift).all()
    expected = draw("train", 30, seed=0, epoch=2)
    np.testing.assert_array_equal(second.images.motions.shift, expected.shift)
    some, labels = second.batch(np.array([7, 2]))
    np.testing.assert_array_equal(some.motions.shift, expected.shift[[7, 2]])
    np.testing.assert_array_equal(labels, second.labels[[7, 2]])
    np.testing.assert_array_equal(made.test.images.motions.shift, draw("test", 1000, seed=0).shift)


def test_the_hash_is_of_digits_and_motions(monkeypatch):
    def never(*arguments):
        raise AssertionError("a volume was made")

    monkeypatch.setattr(extruded, "volumes", never)
    made = Extruded(EMBEDDED, 30).load()
    found = {made.sha256}
    found.add(Extruded(EMBEDDED, 31).load().sha256)
    found.add(Extruded(EMBEDDED, 30, seed=1).load().sha256)
    images, motions = made.test.images.images, made.test.images.motions
    for changed in (
        Volumes(images[::-1], motions),
        Volumes(images, motions._replace(shift=-motions.shift)),
        Volumes(images, motions._replace(rotation=-motions.rotation)),
    ):
        found.add(replace(made, test=replace(made.test, images=changed)).sha256)
    assert len(found) == 6
    assert made.sha256 == Extruded(EMBEDDED, 30).load().sha256
