"""Whether a warp of feature maps can undo what a transformation of the image did to them."""

import numpy as np
import pytest

from ministn import ops
from ministn.metrics.alignment import best_affine, residual
from ministn.ops import affine_grid, bilinear_sampler
from ministn.transformer import inverse, theta_of

IDENTITY = np.eye(2, 3)
SIZE = 41, 41


def blobs(count=3, channels=2):
    """Smooth maps that are nothing near their border."""
    x, y = np.moveaxis(affine_grid(IDENTITY[None], SIZE)[0][0], -1, 0)
    centres = np.random.default_rng(0).uniform(-0.25, 0.25, (count, channels, 2, 1, 1))
    distances = (x - centres[:, :, 0]) ** 2 + (2 * (y - centres[:, :, 1])) ** 2
    return np.moveaxis(np.exp(-25 * distances), 1, -1)


def left(maps, moved, starts):
    """What the best warp leaves."""
    return best_affine(maps, moved, starts)[1]


def warped(maps, theta):
    return bilinear_sampler(maps, affine_grid(np.tile(theta, (len(maps), 1, 1)), SIZE)[0])[0]


def test_a_shift_by_whole_pixels_is_undone():
    maps = blobs()
    moved = np.roll(maps, (2, -3), axis=(1, 2))
    shift = np.array([[1, 0, -3 / 20], [0, 1, 2 / 20]])
    for starts in (shift[None], np.stack([IDENTITY, shift])):
        theta, rest = best_affine(maps, moved, starts)
        assert rest < 1e-9  # blobs have no end
        np.testing.assert_allclose(theta, shift, atol=1e-6)
    assert left(maps, moved, shift[None]) < 1e-9 < 0.5 < residual(maps, moved)
    assert residual(maps, maps) == 0
    assert left(maps, moved, shift[None] + 0.03) < 1e-4 < left(maps, np.flip(moved), shift[None])


def test_what_only_moves_values_is_undone_up_to_interpolation():
    maps = blobs()
    turn = theta_of(np.array([25.0]), np.array([0.9]))
    assert left(maps, warped(maps, turn[0]), inverse(turn)) < 0.01


def test_a_turned_image_is_seen_by_other_filters():
    """Slopes along x and y: a quarter turn moves them, exactly, and exchanges the two."""
    image, filters = blobs(channels=1), np.zeros((3, 3, 1, 2))
    filters[1, :, 0, 0] = filters[:, 1, 0, 1] = [-1, 0, 1]

    def slopes(x):
        return ops.conv2d(x, filters, np.zeros(2))[0]

    turned = np.rot90(image, axes=(1, 2))  # to the left: back is a window that turns to the left
    back = theta_of(np.array([-90.0]))
    assert left(image, turned, back) < 1e-20
    assert left(slopes(image), slopes(turned), np.stack([back[0], IDENTITY])) > 0.5
    exchanged = slopes(turned)[..., ::-1] * [-1, 1]
    assert left(slopes(image), exchanged, back) < 1e-20


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m: left(m, m[:, 1:], IDENTITY[None]), "moved must have shape"),
        (lambda m: left(m, m, np.zeros((0, 2, 3))), "starts must be at least one theta"),
        (lambda m: left(m, m, IDENTITY), "starts must have shape"),
        (lambda m: left(m * 0, m, IDENTITY[None]), "maps must vary"),
        (lambda m: left(m[0], m[0], IDENTITY[None]), "maps must have shape"),
    ],
)
def test_wrong_arguments_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call(blobs())
