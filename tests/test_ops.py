"""Every operation against the loops, forward and backward, in float32 and float64."""

import numpy as np
import pytest
from helpers import (
    TOLERANCE,
    Case,
    check_against_loops,
    check_function,
    compare,
    listed,
    normal,
)

from ministn import fast, ops
from ministn.ops.sampling import BORDERS
from ministn.randomness import Step


def apart(*shape):
    """Distinct values at least 0.1 apart and 0.05 from 0, away from the kinks of max and ReLU."""
    order = np.random.default_rng(shape).permutation(np.prod(shape))
    return (order - len(order) // 2 + 0.5).reshape(shape) / 8


def points(N, h, w, H, W):
    """A grid whose points lie up to 3 pixels outside and at least 0.2 pixels from any line."""
    return points_in((N, h, w), (H, W))


def points_in(shape, lengths):
    """The same of any shape, in an image or volume of these lengths."""
    rng = np.random.default_rng([*shape, *lengths])
    grid = np.zeros((*shape, len(lengths)))
    for axis, length in enumerate(reversed(lengths)):
        cell = rng.integers(-3, length + 2, shape)
        coordinate = cell + rng.uniform(0.2, 0.8, shape)
        grid[..., axis] = coordinate / ((length - 1) / 2) - 1 if length > 1 else coordinate
    return grid.astype(np.float32).astype(np.float64)


def conv(x, weight, bias=True, name="conv2d", **options):
    arrays = {"x": normal(*x), "weight": normal(*weight)}
    if bias:
        arrays["bias"] = normal(weight[-1])
    return Case(name, arrays, options)


def sampler(image, size, name="bilinear", **options):
    N, H, W, _ = image
    grid = points(N, *size, H, W)
    if name == "nearest":  # away from where it jumps, which is half-way between the lines
        half = (np.array([W, H]) - 1) / 2
        grid += 0.5 / np.where(half > 0, half, 1)
    return Case(f"{name}_sampler", {"image": normal(*image), "grid": grid}, options)


def trilinear(volume, size, **options):
    grid = points_in((volume[0], *size), volume[1:])
    return Case("trilinear_sampler", {"volume": normal(*volume), "grid": grid}, options)


def recurrent(N, D, K, steps):
    shapes = {"x": (N, D), "weight_x": (D, 3, K), "weight_h": (K, 3, K), "bias": (3, K)}
    return Case("gru", {name: normal(*s) for name, s in shapes.items()}, {"steps": steps})


CASES = [
    conv((2, 4, 5, 3), (3, 3, 3, 2)),
    conv((2, 4, 5, 3), (3, 1, 3, 2), padding="valid"),
    conv((1, 5, 7, 2), (5, 3, 2, 3), bias=False),
    conv((3, 5, 6, 1), (3, 5, 1, 2), padding="valid", bias=False),
    conv((2, 1, 4, 3), (3, 3, 3, 2)),  # kernel larger than the image
    conv((3, 4, 1, 2), (1, 1, 2, 4), padding="valid"),
    conv((2, 6, 7, 2), (3, 3, 2, 3), stride=2),  # in one direction the last window ends early
    conv((1, 9, 8, 2), (5, 3, 2, 2), padding="valid", stride=3),
    conv((2, 3, 4, 1), (3, 3, 1, 2), padding="valid", stride=5),  # one window
    conv((2, 5, 4, 3), (3, 3, 3, 2), name="conv_block"),
    conv((1, 12, 9, 2), (3, 3, 2, 3), name="conv_block", padding="valid", stride=2, pool=True),
    conv((2, 5, 7, 1), (3, 3, 1, 4), name="conv_block", pool=True),
    conv((1, 6, 5, 2), (3, 1, 2, 3), name="conv_block", pool=True, padding="valid"),
    conv((2, 5, 7, 1), (3, 3, 1, 4), bias=False, name="conv_block", pool=True),
    conv((2, 5, 7, 3), (3, 3, 3, 2), name="conv_block", pool=True, activation="leaky_relu"),
    conv((1, 4, 1, 2), (3, 1, 2, 3), name="conv_block", activation="leaky_relu", slope=0.1),
    conv((1, 5, 6, 3), (5, 3, 3, 2), bias=False, name="conv_block", activation=None),
    conv((2, 1, 1, 3), (1, 1, 3, 1), name="conv_block", activation=None),
    conv((2, 7, 5, 1), (3, 3, 1, 5), name="conv_block", pool=True, activation=None),
    conv(
        *((1, 12, 9, 2), (3, 3, 2, 3)),
        name="conv_block",
        padding="valid",
        stride=2,
        pool=True,
        activation="leaky_relu",
        bias=False,
    ),
    Case("max_pool2d", {"x": apart(2, 5, 7, 3)}),
    Case("max_pool2d", {"x": apart(3, 4, 6, 2)}, {"size": 2}),
    Case("max_pool2d", {"x": apart(1, 7, 11, 2)}, {"size": 3}),
    Case("max_pool2d", {"x": apart(2, 3, 5, 1)}, {"size": 1}),
    Case("max_pool2d", {"x": apart(1, 8, 7, 3)}, {"size": 3, "stride": 2}),
    Case("max_pool2d", {"x": apart(1, 3, 9, 2)}, {"size": np.int64(3), "stride": np.int64(2)}),
    Case("max_pool2d", {"x": apart(3, 5, 4, 1)}, {"size": 3, "stride": 1}),
    Case("max_pool2d", {"x": apart(1, 8, 7, 2)}, {"size": 2, "stride": 3}),
    Case("max_pool2d", {"x": apart(2, 5, 1, 2)}, {"size": 1, "stride": 2}),
    Case("avg_pool2d", {"x": normal(2, 5, 7, 3)}),
    Case("avg_pool2d", {"x": normal(3, 4, 6, 2)}, {"size": 2}),
    Case("avg_pool2d", {"x": normal(1, 7, 11, 2)}, {"size": 3}),
    Case("avg_pool2d", {"x": normal(2, 3, 5, 1)}, {"size": 1}),
    Case("avg_pool3d", {"x": normal(2, 5, 4, 7)}),
    Case("avg_pool3d", {"x": normal(1, 3, 7, 6)}, {"size": 3}),
    Case("avg_pool3d", {"x": normal(2, 3, 2, 4)}, {"size": 1}),
    Case("projection", {"x": normal(2, 5, 4, 3)}),
    Case("projection", {"x": normal(3, 1, 2, 5)}),
    Case("relu", {"x": apart(2, 5, 3, 4)}),
    Case("relu", {"x": apart(7, 3)}),
    Case("leaky_relu", {"x": apart(2, 5, 3, 4)}),
    Case("leaky_relu", {"x": apart(7, 3)}, {"slope": np.float32(0.1)}),
    Case("leaky_relu", {"x": apart(5)}, {"slope": 0}),
    Case("tanh", {"x": normal(2, 5, 3)}),
    Case("tanh", {"x": normal(7)}),
    Case("sigmoid", {"x": normal(2, 5, 3)}),
    Case("sigmoid", {"x": normal(7)}),
    Case("dense", {"x": normal(3, 5), "weight": normal(5, 4), "bias": normal(4)}),
    Case("dense", {"x": normal(1, 7), "weight": normal(7, 1), "bias": normal(1)}),
    *(recurrent(2, 4, 3, steps) for steps in (1, 2, 3, 4, np.int64(5))),
    recurrent(1, 3, 1, 2),
    Case("dropout", {"x": normal(5, 7)}, {"rate": 0.5, "step": Step(1, 2, 3, 4), "stream": 5}),
    Case("dropout", {"x": normal(3, 9)}, {"rate": 0.3, "step": Step(2**40, 0), "stream": 9}),
    Case("dropout", {"x": normal(2, 3)}, {"rate": 0.0, "step": Step(0, 0), "stream": 0}),
    Case("dropout", {"x": normal(3, 5, 2, 3)}, {"rate": 0.5, "step": Step(1, 2, 3), "stream": 5}),
    Case("dropout", {"x": normal(2, 1, 7)}, {"rate": 0.3, "step": Step(1, 2, 1), "stream": 5}),
    Case("softmax_cross_entropy", {"logits": normal(5, 3)}, {"labels": np.array([0, 2, 1, 1, 0])}),
    Case("softmax_cross_entropy", {"logits": normal(1, 7)}, {"labels": np.array([6], np.uint8)}),
    Case(
        "softmax_cross_entropy",
        {"logits": normal(5, 3)},
        {"labels": np.array([0, 2, 1, 1, 0]), "epsilon": 0.3},
    ),
    Case(
        "triplet_hinge",
        {"attended": normal(5, 3), "random": 1.3 * normal(3, 5).T.copy()},
        {"pairs": np.array([[0, 1], [1, 0], [2, 3], [0, 2], [4, 2], [0, 2]])},
    ),
    Case("affine_grid", {"theta": normal(4, 2, 3)}, {"size": (3, 5)}),
    Case("affine_grid", {"theta": normal(1, 2, 3)}, {"size": (1, 6)}),
    Case("affine_grid", {"theta": normal(2, 2, 3)}, {"size": (4, 1)}),
    Case("affine_grid_3d", {"theta": normal(4, 3, 4)}, {"size": (2, 3, 5)}),
    Case("affine_grid_3d", {"theta": normal(1, 3, 4)}, {"size": (1, 4, 1)}),
    Case("basis_grid", {"theta": normal(3, 4), "basis": normal(5, 2, 3, 2)}),
    Case("basis_grid", {"theta": normal(1, 1), "basis": normal(2, 1, 4, 2)}),
    Case("projective_grid", {"theta": normal(4, 8) / 8}, {"size": (3, 5)}),
    Case("projective_grid", {"theta": normal(1, 8) / 8}, {"size": (1, 6)}),
    Case("projective_grid", {"theta": normal(2, 8) / 8}, {"size": (4, 1)}),
    Case("compose", {"left": normal(3, 2, 3), "right": normal(3, 2, 3, 1)[..., 0]}),
    sampler((2, 4, 5, 3), (3, 6)),
    sampler((2, 4, 5, 3), (3, 6), border="zeros"),
    sampler((3, 6, 4, 1), (5, 2), border="zeros", fill=1.5),
    sampler((1, 3, 7, 2), (4, 6)),
    sampler((2, 1, 6, 3), (4, 5)),
    sampler((2, 5, 1, 3), (3, 4), border="zeros", fill=-0.5),
    sampler((2, 1, 1, 4), (3, 5)),
    sampler((2, 4, 5, 3), (3, 6), border="mirror"),
    sampler((2, 4, 5, 3), (3, 6), border="wrap"),
    sampler((1, 2, 3, 2), (5, 7), border="mirror"),  # up to three pixels outside: several folds
    sampler((1, 2, 3, 2), (5, 7), border="wrap"),
    sampler((2, 1, 4, 1), (3, 4), border="mirror"),
    sampler((2, 4, 1, 1), (3, 4), border="wrap"),
    *(
        sampler(image, size, name, border=border, **options)
        for name in ("nearest", "bicubic")
        for border in BORDERS
        for image, size, options in (
            ((2, 4, 5, 3), (3, 6), {}),
            ((1, 2, 3, 2), (5, 4), {"fill": 1.5} if border == "zeros" else {}),
            ((2, 1, 4, 1), (3, 2), {}),
            ((1, 1, 1, 2), (2, 3), {}),
        )
    ),
    sampler((2, 4, 5, 3), (3, 6), "bicubic", a=-0.75),
    *(trilinear((2, 4, 3, 5), (2, 3, 4), border=border) for border in BORDERS),
    trilinear((1, 3, 5, 2), (4, 3, 5), border="zeros", fill=1.5),
    trilinear((2, 1, 4, 3), (3, 2, 2)),
    trilinear((2, 3, 1, 1), (2, 2, 3), border="zeros", fill=-0.5),
    trilinear((1, 1, 1, 1), (2, 3, 2), border="mirror"),
]


# Without a backward pass. Optimisers' updates are tested in test_optimizers.py.
FUNCTIONS = [
    Case("grid_products", {"grid": normal(3, 2, 5, 2), "basis": normal(4, 2, 5, 2)}),
    Case("as_batch", {}, {"images": np.arange(120, 240, dtype=np.uint8).reshape(4, 6, 5)}),
    Case("as_batch", {}, {"images": np.arange(120, dtype=np.uint8).reshape(2, 4, 5, 3)}),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_op_agrees_with_loops(case):
    check_against_loops(ops, case)


@pytest.mark.parametrize("case", [case for case in CASES if hasattr(fast, case.name)], ids=str)
def test_fast_twin_agrees_with_loops(case):
    check_against_loops(fast, case, (np.float32,))


@pytest.mark.parametrize("case", FUNCTIONS, ids=lambda case: case.name)
def test_function_agrees_with_loops(case):
    check_function(ops, case)


@pytest.mark.parametrize(
    ("name", "arrays"),
    [
        ("conv2d", (normal(2, 5, 4, 3), normal(3, 3, 3, 2), normal(2))),
        ("conv_block", (normal(2, 5, 4, 3), normal(3, 3, 3, 2), normal(2))),
        ("dense", (normal(3, 5), normal(5, 4), normal(4))),
        ("gru", (normal(2, 5), normal(5, 3, 4), normal(4, 3, 4), normal(3, 4), 3)),
        ("bilinear_sampler", (normal(2, 5, 4, 3), points(2, 3, 6, 5, 4))),
        ("nearest_sampler", (normal(2, 5, 4, 3), points(2, 3, 6, 5, 4))),
        ("bicubic_sampler", (normal(2, 5, 4, 3), points(2, 3, 6, 5, 4))),
        ("trilinear_sampler", (normal(2, 5, 4, 3), points_in((2, 3, 6, 2), (5, 4, 3)))),
    ],
)
def test_first_gradient_can_be_left_out(name, arrays):
    y, cache = getattr(ops, name)(*arrays)
    backward = getattr(ops, f"{name}_backward")
    _, *rest = backward(y, cache)
    first, *rest_alone = backward(y, cache, False)
    assert first is None
    for with_first, alone in zip(rest, rest_alone, strict=True):
        np.testing.assert_array_equal(with_first, alone)


def test_operations_read_views_and_leave_their_arguments_alone():
    """Transposed and sliced arrays give the values of their contiguous copies."""
    for case in CASES:
        arrays = {
            name: np.asfortranarray(np.repeat(array, 2, axis=-1))[..., ::2]
            for name, array in case.arrays.items()
        }
        y, cache = getattr(ops, case.name)(**arrays, **case.options)
        expected, copied = getattr(ops, case.name)(**case.arrays, **case.options)
        compare("y", y, expected, *TOLERANCE[np.float64])
        if np.ndim(y):
            backward = getattr(ops, f"{case.name}_backward")
            found, wanted = listed(backward(y, cache)), listed(backward(expected, copied))
            for a, b in zip(found, wanted, strict=True):
                compare("gradient", a, b, *TOLERANCE[np.float64])
        for name, array in arrays.items():
            np.testing.assert_array_equal(array, case.arrays[name])


def test_pool_gives_its_gradient_to_the_first_maximum_in_row_major_order():
    x = np.array([[1.0, 5, 2], [5, 5, 9]]).reshape(1, 2, 3, 1)
    y, cache = ops.max_pool2d(x)
    assert y.ravel().tolist() == [5]
    dx = ops.max_pool2d_backward(np.full(y.shape, 7.0), cache)
    assert dx[0, :, :, 0].tolist() == [[0, 7, 0], [0, 0, 0]]


def test_block_pools_before_the_bias():
    """The winner is chosen among the sums before the bias, which makes equals of unequals."""
    x = np.array([1, 1 + 2**-20], np.float32).repeat(2).reshape(1, 2, 2, 1)
    weight, bias = np.ones((1, 1, 1, 1), np.float32), np.full(1, 1024, np.float32)
    assert (x + bias).min() == (x + bias).max()
    y, cache = ops.conv_block(x, weight, bias, pool=True)
    dx, _, _ = ops.conv_block_backward(np.ones_like(y), cache)
    assert dx.ravel().tolist() == [0, 0, 1, 0]


@pytest.mark.parametrize("engine", [ops, fast])
@pytest.mark.parametrize(
    ("activation", "slope"), [("leaky_relu", 0.5), ("leaky_relu", 0), (None, 0)]
)
def test_a_block_chooses_before_any_activation(engine, activation, slope):
    """Also where all sums are negative, and where a slope of 0 makes them equal."""
    x = -np.array([3, 2, 2, 4], np.float32).reshape(1, 2, 2, 1)
    one, dy = np.ones((1, 1, 1, 1), np.float32), np.full((1, 1, 1, 1), 8, np.float32)
    options = {"pool": True, "activation": activation, "slope": slope}
    y, cache = engine.conv_block(x, one, **options)
    factor = 1 if activation is None else slope
    assert y.item() == -2 * factor
    dx, _, dbias = engine.conv_block_backward(dy, cache)
    assert dx.ravel().tolist() == [0, 8 * factor, 0, 0] and dbias is None


@pytest.mark.parametrize("engine", [ops, fast])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(
    ("x", "weight"),
    [
        ((0, 4, 5, 3), (3, 3, 3, 2)),
        ((2, 4, 5, 0), (3, 3, 0, 2)),
        ((2, 4, 5, 3), (3, 3, 3, 0)),
        ((0, 4, 5, 0), (1, 3, 0, 0)),
    ],
)
def test_blocks_of_nothing(engine, bias, x, weight):
    """Without channels y is the bias; without images or kernels it is empty."""
    arrays = [np.ones(shape, np.float32) for shape in (x, weight, weight[-1:])]
    y, cache = engine.conv_block(*arrays[: 2 + bias], pool=True, activation=None)
    assert y.shape == (x[0], 2, 2, weight[-1]) and (y == bias).all()
    dx, dweight, dbias = engine.conv_block_backward(y, cache)
    assert dx.shape == x and dweight.shape == weight and not dx.any() and not dweight.any()
    assert dbias.tolist() == [4.0 * x[0]] * weight[-1] if bias else dbias is None


def test_windows_that_overlap_add_up_and_those_apart_leave_gaps():
    """The 9 is won by all four windows, of 3x3 pixels every 2; ties are still the first's."""
    x = np.zeros((1, 6, 5, 1))
    x[0, 2, 2] = 9
    y, cache = ops.max_pool2d(x, 3, 2)
    assert y.shape == (1, 2, 2, 1) and (y == 9).all()
    dx = ops.max_pool2d_backward(np.array([1.0, 2, 4, 8]).reshape(y.shape), cache)
    assert dx[0, 2, 2, 0] == 15 and dx.sum() == 15
    y, cache = ops.max_pool2d(0 * x, 1, 4)
    assert ops.max_pool2d_backward(y + 1, cache)[0, :, :, 0].nonzero()[0].tolist() == [0, 0, 4, 4]


@pytest.mark.parametrize("shape", [(0, 7, 5, 3), (2, 7, 5, 0), (0, 7, 5, 0)])
@pytest.mark.parametrize("stride", [1, 2, 4])
def test_pools_of_nothing(shape, stride):
    y, cache = ops.max_pool2d(np.ones(shape), 3, stride)
    assert y.size == 0 and ops.max_pool2d_backward(y, cache).shape == shape


def test_dropout_of_images_is_that_of_their_rows():
    x, step = normal(5, 3, 4, 2), Step(1, 2, 3)
    y, cache = ops.dropout(x, 0.4, step, 5)
    expected, flat = ops.dropout(x.reshape(5, 24), 0.4, step, 5)
    np.testing.assert_array_equal(y.reshape(5, 24), expected)
    np.testing.assert_array_equal(
        ops.dropout_backward(x, cache).reshape(5, 24), ops.dropout_backward(x.reshape(5, 24), flat)
    )
    assert ops.dropout(x[:0], 0.4, step, 5)[0].shape == (0, 3, 4, 2)


def test_numpy_numbers_are_numbers():
    """Of any width, and without a trace in the results' dtype."""
    x = normal(2, 8, 7, 2).astype(np.float32)
    weight = normal(3, 3, 2, 2).astype(np.float32)
    for name, options in (
        ("max_pool2d", {"size": np.uint8(3), "stride": np.uint8(2)}),
        ("leaky_relu", {"slope": np.float64(0.25)}),
        ("dropout", {"rate": np.float32(0.25), "step": Step(1, 2), "stream": 3}),
        ("conv_block", {"weight": weight, "stride": np.int64(2), "pool": np.True_}),
        ("conv_block", {"weight": weight, "activation": "leaky_relu", "slope": np.float64(0.25)}),
    ):
        plain = {k: v.item() if isinstance(v, np.generic) else v for k, v in options.items()}
        for engine in (ops, fast) if hasattr(fast, name) else (ops,):
            y, _ = getattr(engine, name)(x, **options)
            assert y.dtype == np.float32
            np.testing.assert_array_equal(y, getattr(engine, name)(x, **plain)[0])


def test_relu_has_slope_zero_at_zero():
    y, cache = ops.relu(np.array([-1.0, 0, 1]))
    assert ops.relu_backward(np.ones_like(y), cache).tolist() == [0, 0, 1]


def test_leaky_relu_has_the_left_slope_at_zero():
    y, cache = ops.leaky_relu(np.array([-2.0, 0, 1]), 0.5)
    assert y.tolist() == [-1, 0, 1]
    assert ops.leaky_relu_backward(np.ones_like(y), cache).tolist() == [0.5, 0.5, 1]


def test_sigmoid_overflows_nowhere():
    y, cache = ops.sigmoid(np.array([-1e30, -200, 0, 200, 1e30], np.float32))
    assert y.tolist() == [0, 0, 0.5, 1, 1]
    assert ops.sigmoid_backward(np.ones_like(y), cache).tolist() == [0, 0, 0.25, 0, 0]


def test_both_tails_of_a_sigmoid_are_right():
    """To the last digits: there y is exp(-|x|) or 1, and its slope exp(-|x|)."""
    x = np.array([-80, -40, -20, -10, 10, 20, 40, 80], np.float32)
    exact = 1 / (1 + np.exp(-x.astype(np.float64)))
    y, cache = ops.sigmoid(x)
    np.testing.assert_allclose(y, exact, rtol=3e-7)
    assert f"{y[2]:.3g}" == "2.06e-09"
    e = np.exp(-abs(x.astype(np.float64)))
    dx = ops.sigmoid_backward(np.ones_like(x), cache)
    np.testing.assert_allclose(dx, e / (1 + e) ** 2, rtol=5e-7)


def test_loss_survives_large_logits():
    logits = np.array([[1e4, 0, -1e4], [0, 1e4, 0]], np.float32)
    loss, cache = ops.softmax_cross_entropy(logits, np.array([1, 1]))
    assert loss == 5e3
    np.testing.assert_array_equal(
        ops.softmax_cross_entropy_backward(cache), [[0.5, -0.5, 0], [0, 0, 0]]
    )


def test_a_cache_belongs_to_its_call():
    """Two forward passes, then their backward passes in either order."""
    a, b = normal(2, 4, 5, 3), normal(2, 6, 3, 3)
    weight, bias = normal(3, 3, 3, 2), normal(2)
    (ya, cache_a), (yb, cache_b) = (ops.conv_block(x, weight, bias) for x in (a, b))
    last = ops.conv_block_backward(yb, cache_b)
    first = ops.conv_block_backward(ya, cache_a)
    again = ops.conv_block_backward(yb, cache_b)
    assert first[0].shape == a.shape
    for one, other in zip(last, again, strict=True):
        np.testing.assert_array_equal(one, other)
