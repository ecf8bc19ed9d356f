"""Every transform against an answer that is known otherwise."""

import loops
import numpy as np
import pytest
from helpers import normal
from matplotlib.tri import LinearTriInterpolator, Triangulation
from scipy.interpolate import RBFInterpolator

from ministn import ops
from ministn.ops.projective_grid import NEAR
from ministn.parameter import ParameterBuffer
from ministn.transformer.transforms import (
    Affine,
    Affine3d,
    Attention,
    General,
    PiecewiseAffine,
    Projective,
    Similarity,
    ThinPlateSpline,
    Translation,
    regular_grid,
)

DTYPES = [np.float32, np.float64]
SIZES = [(5, 9), (42, 42), (60, 47), (1, 6), (4, 1), (1, 1)]

# Of grids of the order of 1. Largest differences: 2.4e-7 and 8.9e-16; of thin plate splines 1.1e-7
# and, of that with 10 by 10 control points, 1.3e-13.
CLOSE = {np.float32: 1e-6, np.float64: 1e-14}
SPLINES = {np.float32: 1e-6, np.float64: 1e-12}

TRANSFORMS = {
    "attention": Attention(),
    "affine": Affine(),
    "projective": Projective(),
    "thin plate spline": ThinPlateSpline(),
    "thin plate spline, 2 by 5": ThinPlateSpline(2, 5),
    "translation": Translation(),
    "similarity": Similarity(),
    "piecewise affine": PiecewiseAffine(),
    "piecewise affine, 3 by 2": PiecewiseAffine(3, 2),
}
COUNTS = [3, 6, 8, 32, 20, 2, 4, 32, 12]
every = pytest.mark.parametrize("transform", TRANSFORMS.values(), ids=TRANSFORMS)
each_dtype = pytest.mark.parametrize("dtype", DTYPES)


def grid_of(transform, theta, size, dtype=np.float64):
    """The grid (h, w, 2) of one theta."""
    grid, _ = transform.forward(np.array([theta], dtype), size)
    assert grid.dtype == dtype
    return grid[0]


def general(size, start=None, dtype=np.float32):
    """A learned B, laid out."""
    transform = General("transform", start or Attention(), size)
    return transform, ParameterBuffer(transform.parameters(), 0, dtype)


def near_identity(transform, n, dtype=np.float64):
    return (np.array(transform.identity) + 0.2 * normal(n, len(transform.identity))).astype(dtype)


def scipys(spline, theta, size):
    """Thin plate splines through the moved control points (N, h, w, 2)."""
    points, pixels = spline.points, regular_grid(size, np.dtype(float)).reshape(-1, 2)
    grids = []
    for offsets in theta.reshape(len(theta), 2, -1):
        through = RBFInterpolator(points, points + offsets.T, kernel="thin_plate_spline", degree=1)
        grids.append(through(pixels).reshape(*size, 2))
    return np.stack(grids)


def matplotlibs(mesh, theta, size):
    """Linear in each triangle (N, h, w, 2); NaN where an outermost pixel counts as outside."""
    number = np.arange(len(mesh.points)).reshape(mesh.rows, mesh.columns)
    upper_left, upper_right = number[:-1, :-1].ravel(), number[:-1, 1:].ravel()
    lower_left, lower_right = number[1:, :-1].ravel(), number[1:, 1:].ravel()
    triangles = np.concatenate(
        [
            np.column_stack([upper_left, upper_right, lower_right]),
            np.column_stack([upper_left, lower_left, lower_right]),
        ]
    )
    x, y = np.moveaxis(regular_grid(size, np.dtype(float)), -1, 0)
    made = Triangulation(*mesh.points.T, triangles)
    grids = [
        [LinearTriInterpolator(made, source)(x, y).filled(np.nan) for source in sources]
        for sources in mesh.points.T + theta.reshape(len(theta), 2, -1)
    ]
    return np.moveaxis(np.array(grids), 1, -1)


# {transform: (it, theta (N, P), size) -> the grid that it should make, float64}
KNOWN = {
    Attention: lambda it, theta, size: loops.affine_grid(
        np.array([[[s, 0, tx], [0, s, ty]] for s, tx, ty in theta]), size
    ),
    Translation: lambda it, theta, size: loops.affine_grid(
        np.array([[[it.scale, 0, tx], [0, it.scale, ty]] for tx, ty in theta]), size
    ),
    Similarity: lambda it, theta, size: loops.affine_grid(
        np.array([[[a, -b, tx], [b, a, ty]] for a, b, tx, ty in theta]), size
    ),
    Affine: lambda it, theta, size: loops.affine_grid(theta.reshape(-1, 2, 3), size),
    Affine3d: lambda it, theta, size: loops.affine_grid_3d(theta.reshape(-1, 3, 4), size),
    Projective: lambda it, theta, size: loops.projective_grid(theta, size),
    ThinPlateSpline: scipys,
    PiecewiseAffine: matplotlibs,
    General: lambda it, theta, size: loops.basis_grid(theta, it.basis.data),
}


@pytest.mark.parametrize("kind", KNOWN, ids=lambda kind: kind.__name__)
@each_dtype
def test_a_grid_is_the_one_that_is_known(kind, dtype):
    size = (2, 5, 3) if kind is Affine3d else (5, 4)
    transform = general(size, dtype=dtype)[0] if kind is General else kind()
    theta = near_identity(transform, 3)
    if kind is Projective:
        theta /= 4  # no pixel near the horizon
    expected = KNOWN[kind](transform, theta, size)
    grid, _ = transform.forward(theta.astype(dtype), size)
    assert grid.dtype == dtype and grid.shape == expected.shape
    known = np.isfinite(expected)
    np.testing.assert_allclose(grid[known], expected[known], atol=SPLINES[dtype])
    assert known.mean() > 0.5


# ---- the identity


def test_numbers_of_parameters():
    assert [len(transform.identity) for transform in TRANSFORMS.values()] == COUNTS


@every
@pytest.mark.parametrize("size", SIZES, ids=str)
@each_dtype
def test_identity_is_the_pixel_centres_to_the_last_bit(transform, size, dtype):
    grid = grid_of(transform, transform.identity, size, dtype)
    np.testing.assert_array_equal(grid, regular_grid(size, np.dtype(dtype)))
    affine, _ = ops.affine_grid(np.array([[[1, 0, 0], [0, 1, 0]]], dtype), size)
    np.testing.assert_array_equal(grid, affine[0])


@pytest.mark.parametrize("start", [name for name in TRANSFORMS if name != "projective"])
def test_identity_of_a_learned_basis(start):
    start = TRANSFORMS[start]
    size = (60, 47)  # some of whose centres are not float64's rounded: see pixel_centres
    transform, _ = general(size, start)
    grid = grid_of(transform, transform.identity, size, np.float32)
    np.testing.assert_array_equal(grid, regular_grid(size, np.dtype(np.float32)))


# ---- by hand


@each_dtype
def test_attention_by_hand(dtype):
    """Half size, its centre a quarter to the right and half up."""
    grid = grid_of(Attention(), [0.5, 0.25, -0.5], (3, 2), dtype)
    x, y = [-0.25, 0.75], [-1, -0.5, 0]
    np.testing.assert_array_equal(grid, [[(a, b) for a in x] for b in y])


def test_translation_by_hand():
    grid = grid_of(Translation(), [0.5, -2], (2, 3))
    np.testing.assert_array_equal(grid[..., 0], [[-0.5, 0.5, 1.5]] * 2)
    np.testing.assert_array_equal(grid[..., 1], [[-3] * 3, [-1] * 3])


@pytest.mark.parametrize("scale", [0.5, np.float32(0.25), 2])
def test_translation_at_a_scale_is_attention_with_that_scale(scale):
    theta = normal(3, 2)
    attention = np.column_stack([np.full(3, float(scale)), theta])
    grid, cache = Translation(scale).forward(theta, (5, 4))
    wanted, wanted_cache = Attention().forward(attention, (5, 4))
    np.testing.assert_allclose(grid, wanted, atol=1e-15)
    dtheta = Translation(scale).backward(grid, cache)
    np.testing.assert_array_equal(dtheta, Attention().backward(grid, wanted_cache)[:, 1:])
    affine = Translation(scale).affine(theta, grid)
    wanted = np.column_stack([attention[:, 0], np.zeros(3), theta[:, 0]])
    np.testing.assert_allclose(affine[:, 0], wanted, atol=1e-15)


@pytest.mark.parametrize("scale", [0, -0.5, np.nan, np.inf, "1", None, True])
def test_a_scale_that_cannot_be(scale):
    with pytest.raises(ValueError, match=r"^scale must be a finite number of at least "):
        Translation(scale)


def test_similarity_turns_and_scales():
    angle, scale = 0.4, 1.5
    theta = [scale * np.cos(angle), scale * np.sin(angle), 0.1, -0.3]
    grid = grid_of(Similarity(), theta, (5, 4))
    target = regular_grid((5, 4), np.dtype(float)) @ [1, 1j]  # x + i y
    source = scale * np.exp(1j * angle) * target + 0.1 - 0.3j
    np.testing.assert_allclose(grid @ [1, 1j], source, atol=1e-15)


@each_dtype
def test_affine_is_the_operation(dtype):
    theta = normal(3, 6).astype(dtype)
    grid, _ = Affine().forward(theta, (4, 7))
    np.testing.assert_array_equal(grid, ops.affine_grid(theta.reshape(3, 2, 3), (4, 7))[0])
    basis, _ = ops.basis_grid(theta, Affine().grids((4, 7), np.dtype(dtype)))
    np.testing.assert_allclose(basis, grid, atol=CLOSE[dtype])


# ---- projective

CORNERS = np.array([[-1.0, -1], [1, -1], [1, 1], [-1, 1]])
QUADS = [
    [[-0.7, -0.9], [0.8, -0.6], [0.5, 0.7], [-0.9, 0.4]],
    [[-2, -1], [3, -1.5], [0.5, 0.6], [-0.4, 0.5]],
    [[1, -1], [1, 1], [-1, 1.2], [-1, -1]],  # turned
    [[-1.0, -1], [1, -1], [1, 1], [-1, 1]],
]


def theta_through(quad):
    """The homography that takes CORNERS to quad: two linear equations for each of the points."""
    rows, right = [], []
    for (x, y), (xs, ys) in zip(CORNERS, quad, strict=True):
        rows += [[x, y, 1, 0, 0, 0, -xs * x, -xs * y], [0, 0, 0, x, y, 1, -ys * x, -ys * y]]
        right += [xs, ys]
    return np.linalg.solve(rows, right) - [1, 0, 0, 0, 1, 0, 0, 0]


def crossing(a, b, c, d):
    """Where the line through a and b meets that through c and d."""
    a, b, c, d = (np.array([*point, 1]) for point in (a, b, c, d))
    x, y, w = np.cross(np.cross(a, b), np.cross(c, d))
    return x / w, y / w


@pytest.mark.parametrize("quad", QUADS)
@each_dtype
def test_projective_through_four_points(quad, dtype):
    """Corners go to the points, and the centre to where the diagonals cross."""
    grid = grid_of(Projective(), theta_through(quad), (3, 3), dtype)
    np.testing.assert_allclose(grid[[0, 0, 2, 2], [0, 2, 2, 0]], quad, atol=CLOSE[dtype])
    centre = crossing(quad[0], quad[2], quad[1], quad[3])
    np.testing.assert_allclose(grid[1, 1], centre, atol=CLOSE[dtype])


def test_projective_keeps_lines_straight_and_cross_ratios():
    grid = grid_of(Projective(), theta_through(QUADS[1]), (6, 7))
    for line in (grid[2], grid[:, 3], grid[range(6), range(6)]):
        x, y = (line - line[0]).T
        np.testing.assert_allclose(x * y[-1], y * x[-1], atol=1e-12)
    a, b, c, d = grid[2, [0, 2, 3, 6], 0]
    x = np.array([0, 2, 3, 6]) - 3.0
    ratio = ((x[2] - x[0]) * (x[3] - x[1])) / ((x[2] - x[1]) * (x[3] - x[0]))
    assert ((c - a) * (d - b)) / ((c - b) * (d - a)) == pytest.approx(ratio, rel=1e-12)


def test_projective_with_six_parameters_is_affine():
    theta = normal(2, 8)
    theta[:, 6:] = 0
    affine = theta[:, :6] + [1, 0, 0, 0, 1, 0]
    grid, _ = Projective().forward(theta, (4, 5))
    np.testing.assert_array_equal(grid, Affine().forward(affine, (4, 5))[0])


@pytest.mark.parametrize("at", [0.0, NEAR / 2, -NEAR / 2, NEAR, -NEAR, 2 * NEAR])
@each_dtype
def test_the_horizon_is_far_away_and_finite(at, dtype):
    """d = ``at`` in the last column, whose u is 1 and v is y; the others do not notice."""
    theta = np.array([[0, 0, 0, 0, 0, 0, at - 1, 0]], dtype)
    size = (3, 5)
    grid, cache = Projective().forward(theta, size)
    x, y = regular_grid(size, np.dtype(dtype))[..., 0], regular_grid(size, np.dtype(dtype))[..., 1]
    divisor = 1 + (at - 1) * x
    divisor[:, -1] = at if abs(at) >= NEAR else NEAR if at >= 0 else -NEAR
    np.testing.assert_allclose(grid[0], np.stack([x / divisor, y / divisor], -1), 1e-6)
    dgrid = np.ones_like(grid)
    dtheta = Projective().backward(dgrid, cache)
    assert np.isfinite(dtheta).all()
    dgrid[:, :, :-1] = 0
    of_column = Projective().backward(dgrid, cache)
    assert (of_column[0, 6:] == 0).all() == (abs(at) < NEAR)
    assert of_column[0, 0] == pytest.approx(3 / divisor[0, -1])


# ---- thin plate splines

LAYOUTS = [(4, 4), (3, 5), (2, 2), (6, 2), (10, 10)]


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
@each_dtype
def test_thin_plate_spline_is_scipys(layout, dtype):
    transform, size = ThinPlateSpline(*layout), (9, 7)
    offsets = normal(2, *layout).reshape(1, -1) / 4
    grid = grid_of(transform, offsets[0], size, dtype)
    np.testing.assert_allclose(grid, scipys(transform, offsets, size)[0], atol=SPLINES[dtype])


@pytest.mark.parametrize("kind", [ThinPlateSpline, PiecewiseAffine])
@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_control_points_go_where_they_are_sent(kind, layout):
    """In an output with one pixel for each of them; theta has all of x before all of y.

    Largest difference 4.4e-13, of 10 by 10.
    """
    offsets = normal(2, *layout)
    grid = grid_of(kind(*layout), offsets.ravel(), layout)
    moved = regular_grid(layout, np.dtype(float)) + offsets.transpose(1, 2, 0)
    np.testing.assert_allclose(grid, moved, atol=5e-12)


@pytest.mark.parametrize("kind", [ThinPlateSpline, PiecewiseAffine])
@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_an_affine_map_of_the_control_points_is_one_of_the_grid(kind, layout):
    transform, matrix = kind(*layout), np.array([[0.8, -0.4, 0.1], [0.3, 1.2, -0.2]])
    sources = transform.points @ matrix[:, :2].T + matrix[:, 2]
    theta = (sources - transform.points).T.ravel()
    expected, _ = ops.affine_grid(matrix[None], (8, 5))
    np.testing.assert_allclose(grid_of(transform, theta, (8, 5)), expected[0], atol=1e-12)


@pytest.mark.parametrize("kind", [ThinPlateSpline, PiecewiseAffine])
@pytest.mark.parametrize("layout", [(1, 4), (4, 1), (1, 1), (0, 3), (2, -1)])
def test_control_points_on_a_line_are_refused(kind, layout):
    with pytest.raises(ValueError, match=r"^control points must have at least 2 rows and 2 col"):
        kind(*layout)


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
@each_dtype
def test_piecewise_affine_is_matplotlibs(layout, dtype):
    transform, size = PiecewiseAffine(*layout), (11, 8)
    offsets = normal(2, *layout).reshape(1, -1) / 4
    expected = matplotlibs(transform, offsets, size)[0, 1:-1, 1:-1]
    grid = grid_of(transform, offsets[0], size, dtype)[1:-1, 1:-1]
    np.testing.assert_allclose(grid, expected, atol=CLOSE[dtype])


# ---- B learned


def test_a_learned_basis_adds_to_its_gradient():
    transform, buffer = general((3, 4), dtype=np.float64)
    theta, dgrid = normal(5, 3), normal(5, 3, 4, 2)
    _, cache = transform.forward(theta, (3, 4))
    for times in (1, 2):
        transform.backward(dgrid, cache)
        expected = np.einsum("np,nhwa->phwa", np.column_stack([np.ones(5), theta]), dgrid)
        np.testing.assert_allclose(transform.basis.grad, times * expected)
    assert buffer.parameters == [transform.basis] and buffer.count == 4 * 3 * 4 * 2


@pytest.mark.parametrize("size", [(7, 13), (4, 7), (3, 5), (1, 1)], ids=str)
def test_a_learned_grid_of_another_size_is_read_between_its_pixels(size):
    """A grid that is linear in x and y is the same whichever size it is computed for."""
    transform, _ = general((7, 13), Similarity(), np.float64)
    theta = near_identity(transform, 3)
    grid, _ = transform.forward(theta, (7, 13))
    expected, _ = Similarity().forward(theta, size)
    # B begins as float32's. Largest difference 3.5e-8.
    np.testing.assert_allclose(transform.resized(theta, grid, size), expected, atol=2e-7)


def test_a_learned_basis_has_one_size():
    transform, _ = general((3, 4))
    with pytest.raises(ValueError, match=r"^size must be \(3, 4\), at which B is learned, got \(3"):
        transform.forward(np.ones((2, 3), np.float32), (3, 5))
