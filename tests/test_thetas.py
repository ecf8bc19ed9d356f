"""theta made by hand: which way it turns, what undoes what, and what is refused."""

import numpy as np
import pytest

from ministn.data import distorted
from ministn.metrics.pose import FRAME
from ministn.ops import affine_grid, compose
from ministn.transformer import inverse, theta_of, tiled
from ministn.transformer.samplers import Sampler
from ministn.transformer.transforms import AFFINE, Affine3d, Attention, Similarity

DTYPES = [np.float32, np.float64]
IDENTITY = np.eye(2, 3)


def drawn(dtype, count=50):
    rng = np.random.default_rng(0)
    angle, scale = rng.uniform(-400, 400, count), rng.uniform(0.2, 3, count)
    return angle.astype(dtype), scale.astype(dtype), rng.uniform(-1, 1, (count, 2)).astype(dtype)


def test_numbers():
    theta = theta_of(
        np.array([0.0, 90.0, -90.0, 180.0]),
        np.array([0.5, 2.0, 1.0, 1.0]),
        np.tile([0.25, -0.5], (4, 1)),
    )
    wanted = [
        [[0.5, 0, 0.25], [0, 0.5, -0.5]],
        [[0, -2, 0.25], [2, 0, -0.5]],
        [[0, 1, 0.25], [-1, 0, -0.5]],
        [[-1, 0, 0.25], [0, -1, -0.5]],
    ]
    np.testing.assert_allclose(theta, wanted, atol=1e-15)


@pytest.mark.parametrize("dtype", DTYPES)
def test_what_is_left_out_changes_nothing(dtype):
    angle, scale, shift = drawn(dtype)
    nothing = np.zeros_like(angle)
    np.testing.assert_array_equal(theta_of(nothing), np.tile(IDENTITY, (50, 1, 1)))
    np.testing.assert_array_equal(theta_of(angle), theta_of(angle, nothing + 1, 0 * shift))
    assert theta_of(angle, scale, shift).dtype == dtype
    assert theta_of(angle[:0]).shape == (0, 2, 3) == inverse(theta_of(angle[:0])).shape


@pytest.mark.parametrize("dtype", DTYPES)
def test_it_is_what_the_transforms_call_so(dtype):
    """Attention, equation (2), at angle 0; Similarity's (a, b, t_x, t_y); equation (1) always."""
    angle, scale, shift = drawn(dtype)
    size, tolerance = (5, 7), 10 * np.finfo(dtype).eps
    theta = theta_of(angle, scale, shift)
    similarity = np.column_stack([theta[:, 0, 0], theta[:, 1, 0], shift])
    grid = AFFINE.forward(theta.reshape(-1, 6), size)[0]
    np.testing.assert_allclose(Similarity().forward(similarity, size)[0], grid, atol=tolerance)
    upright = theta_of(0 * angle, scale, shift)
    attention = Attention().forward(np.column_stack([scale, shift]), size)[0]
    np.testing.assert_allclose(affine_grid(upright, size)[0], attention, atol=tolerance)


def test_the_window_turns_clockwise():
    """Its right-hand side then looks at what is below the middle."""
    image = np.zeros((1, 5, 5, 1))
    image[0, 4, 2] = 1
    grid = affine_grid(theta_of(np.array([90.0])), (5, 5))[0]
    seen = Sampler().forward(image, grid)[0][0, ..., 0]
    assert np.unravel_index(seen.argmax(), seen.shape) == (2, 4)


def test_it_undoes_the_distorted_digits():
    """Angle, scale and shift of data/distorted.py, in its words."""
    recipe, side = distorted.RTS, 28
    found = distorted.draw(recipe, "train", side, seed=3, epoch=1, number=0)
    half = (recipe.canvas - 1) / 2
    theta = theta_of(
        found.angle, found.scale * (side - 1) / (recipe.canvas - 1), found.shift / half
    )
    np.testing.assert_allclose(theta, distorted.placement(recipe, side, found)[:, :2], atol=1e-15)
    grid = affine_grid(theta, (4, 4))[0]
    np.testing.assert_allclose(grid, distorted.true_poses(recipe, side, found), atol=1e-6)
    made = affine_grid(inverse(theta), (recipe.canvas, recipe.canvas))[0]
    np.testing.assert_allclose(made, distorted.sampling_grid(recipe, side, found), atol=1e-5)
    np.testing.assert_allclose(affine_grid(theta_of(np.zeros(1)), (4, 4))[0][0], FRAME, atol=1e-15)


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_inverse_undoes_it_either_way_round(dtype):
    rng = np.random.default_rng(1)
    skewed = (IDENTITY + rng.uniform(-0.4, 0.4, (50, 2, 3))).astype(dtype)
    for theta in (theta_of(*drawn(dtype)), skewed, 1e-9 * skewed):
        back = inverse(theta)
        assert back.dtype == dtype and back.shape == theta.shape
        for pair in ((theta, back), (back, theta)):
            product = compose(*pair)[0]
            largest = abs(pair[0]).max((1, 2)) * abs(pair[1]).max((1, 2))
            error = abs(product - IDENTITY).max((1, 2))
            assert (error <= 20 * np.finfo(dtype).eps * largest).all()


def test_turning_back_is_the_inverse():
    angle, scale, _ = drawn(np.float64)
    np.testing.assert_allclose(
        inverse(theta_of(angle, scale)), theta_of(-angle, 1 / scale), atol=1e-13
    )


@pytest.mark.parametrize("dtype", DTYPES)
def test_of_volumes(dtype):
    rng = np.random.default_rng(2)
    theta = (np.eye(3, 4) + rng.uniform(-0.2, 0.2, (20, 3, 4))).astype(dtype)
    back = inverse(theta)
    assert back.dtype == dtype
    transform, size = Affine3d(), (2, 3, 4)
    grid = transform.forward(theta.reshape(-1, 12), size)[0]
    again = grid @ back[:, None, None, :, :3].swapaxes(-1, -2) + back[:, None, None, None, :, 3]
    still = transform.forward(np.tile(np.eye(3, 4, dtype=dtype).ravel(), (20, 1)), size)[0]
    np.testing.assert_allclose(again, still, atol=30 * np.finfo(dtype).eps)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "matrix", [np.zeros((2, 2)), [[1, 2], [2, 4]], [[0.1, 0.3], [0.2, 0.6]], [[1, 0], [0, 0]]]
)
def test_singular_ones_are_refused_by_name(matrix, dtype):
    theta = np.tile(IDENTITY.astype(dtype), (5, 1, 1))
    theta[3, :, :2] = theta[4, :, :2] = matrix
    with pytest.raises(
        ValueError, match=r"theta\[3\] is singular, nothing maps back: it stretches"
    ):
        inverse(theta)
    volumes = np.tile(np.eye(3, 4, dtype=dtype), (2, 1, 1))
    volumes[1, :2, :2] = matrix
    with pytest.raises(ValueError, match=r"theta\[1\] is singular"):
        inverse(volumes)


ONE = np.ones(3)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: theta_of(30.0), TypeError, "angle must be a NumPy array, got float"),
        (
            lambda: theta_of(np.ones(3, int)),
            TypeError,
            "angle must be float32 or float64, got int64",
        ),
        (
            lambda: theta_of(np.ma.ones(3)),
            TypeError,
            "angle must be a NumPy array, got MaskedArray",
        ),
        (
            lambda: theta_of(np.ones((3, 1))),
            ValueError,
            r"angle must have shape \(N\), got \(3, 1\)",
        ),
        (
            lambda: theta_of(ONE, np.ones(2)),
            ValueError,
            r"scale must have shape \(N=3\), got \(2,\)",
        ),
        (lambda: theta_of(ONE, ONE.astype("f4")), TypeError, "scale must have the dtype of angle"),
        (lambda: theta_of(ONE, None, ONE), ValueError, r"shift must have shape \(N=3, 2\)"),
        (lambda: theta_of(ONE * np.nan), ValueError, "angle must be finite, got nan"),
        (lambda: theta_of(ONE, ONE / 0), ValueError, "scale must be finite, got inf"),
        (lambda: inverse([[1.0]]), TypeError, "theta must be a NumPy array, got list"),
        (lambda: inverse(np.ones((3, 6))), ValueError, r"theta must have shape \(N, 2, 3\), got"),
        (
            lambda: inverse(np.eye(2, 3)),
            ValueError,
            r"theta must have shape \(N, 2, 3\), got \(2, 3\)",
        ),
        (lambda: inverse(np.full((1, 2, 3), np.inf)), ValueError, "theta must be finite, got inf"),
    ],
)
def test_what_is_refused(call, error, message):
    with np.errstate(divide="ignore"), pytest.raises(error, match=message):
        call()


def test_pytorch_agrees():
    torch = pytest.importorskip("torch")
    theta = theta_of(*drawn(np.float64))
    size = (len(theta), 1, 5, 7)
    grid = torch.nn.functional.affine_grid(torch.from_numpy(theta), size, align_corners=True)
    np.testing.assert_allclose(affine_grid(theta, (5, 7))[0], grid.numpy(), atol=1e-14)
    square = torch.eye(3, dtype=torch.float64).repeat(len(theta), 1, 1)
    square[:, :2] = torch.from_numpy(theta)
    wanted = torch.linalg.inv(square)[:, :2].numpy()
    np.testing.assert_allclose(inverse(theta), wanted, atol=1e-12)


# ---- windows that tile an image


@pytest.mark.parametrize(
    ("count", "scale", "expected"),
    [
        (1, 1, [[0, 0]]),
        (1, 0.5, [[0, 0]]),
        (2, 0.5, [[-0.5, 0], [0.5, 0]]),
        (2, 0.8, [[-0.2, 0], [0.2, 0]]),
        (3, 0.5, [[-0.5, 0], [0, 0], [0.5, 0]]),
        (4, 0.5, [[-0.5, -0.5], [0.5, -0.5], [-0.5, 0.5], [0.5, 0.5]]),
        (4, 0.2, [[-0.5, -0.5], [0.5, -0.5], [-0.5, 0.5], [0.5, 0.5]]),
        (5, 0.25, [[-2 / 3, -0.5], [0, -0.5], [2 / 3, -0.5], [-0.5, 0.5], [0.5, 0.5]]),
    ],
)
def test_where_tiles_are(count, scale, expected):
    np.testing.assert_allclose(tiled(count, scale), expected, atol=1e-15)


@pytest.mark.parametrize("side", [2, 3, 4])
def test_as_many_windows_as_fit_cover_every_pixel_once(side):
    """Each shows as many pixels as it covers: together they are the image, cut up."""
    height, width = 3 * side, 5 * side
    image = np.arange(height * width, dtype=float).reshape(1, height, width, 1)
    shifts = tiled(side * side, 1 / side)
    # In corner-aligned coordinates a window of h of H pixels has the scale (h - 1) / (H - 1).
    parts = [np.split(rows, side, axis=2) for rows in np.split(image, side, axis=1)]
    wanted = [part.mean() for row in parts for part in row]
    for shift, mean in zip(shifts, wanted, strict=True):
        theta = np.array([[2 / (width - 1), 0, shift[0] * width / (width - 1)],
                          [0, 2 / (height - 1), shift[1] * height / (height - 1)]])  # fmt: skip
        seen, _ = Sampler().forward(image, AFFINE.forward(theta.reshape(1, 6), (3, 5))[0])
        assert seen.mean() == pytest.approx(mean)


@pytest.mark.parametrize(
    ("count", "scale", "words"),
    [
        (0, 0.5, "count must be a whole number of at least 1, got 0"),
        (2.0, 0.5, "count must be a whole number of at least 1, got 2.0"),
        (2, 1.01, "scale must be a finite number of at least 1.17549e-38 and at most 1, got 1.01"),
        (2, 0, "scale must be a finite number of at least 1.17549e-38 and at most 1, got 0"),
    ],
)
def test_tiles_that_cannot_be(count, scale, words):
    with pytest.raises(ValueError, match=f"^{words}$"):
        tiled(count, scale)
