"""A wrong argument is named, with what was expected, before any arithmetic."""

from inspect import signature

import numpy as np
import pytest

from ministn import ops
from ministn.randomness import Step

STEP = Step(0, 0)
GOOD = {
    "conv2d": {"weight": (3, 3, 3, 6), "bias": (6,), "x": (2, 4, 5, 3)},
    "conv_block": {"weight": (3, 3, 3, 6), "bias": (6,), "x": (2, 4, 5, 3)},
    "max_pool2d": {"x": (2, 4, 5, 3)},
    "avg_pool2d": {"x": (2, 4, 5, 3)},
    "avg_pool3d": {"x": (2, 4, 6, 5)},
    "projection": {"x": (2, 4, 5, 3)},
    "relu": {"x": (2, 4, 5, 3)},
    "leaky_relu": {"x": (2, 4, 5, 3)},
    "tanh": {"x": (2, 4, 5, 3)},
    "sigmoid": {"x": (2, 4, 5, 3)},
    "dense": {"weight": (5, 3), "bias": (3,), "x": (2, 5)},
    "gru": {"weight_x": (5, 3, 4), "weight_h": (4, 3, 4), "bias": (3, 4), "x": (2, 5)},
    "dropout": {"x": (2, 5)},
    "softmax_cross_entropy": {"logits": (2, 3)},
    "triplet_hinge": {"attended": (2, 5), "random": (2, 5)},
    "affine_grid": {"theta": (2, 2, 3)},
    "affine_grid_3d": {"theta": (2, 3, 4)},
    "basis_grid": {"basis": (4, 2, 5, 2), "theta": (2, 3)},
    "projective_grid": {"theta": (2, 8)},
    "compose": {"left": (2, 2, 3), "right": (2, 2, 3)},
    "bilinear_sampler": {"image": (2, 4, 5, 3), "grid": (2, 6, 7, 2)},
    "nearest_sampler": {"image": (2, 4, 5, 3), "grid": (2, 6, 7, 2)},
    "bicubic_sampler": {"image": (2, 4, 5, 3), "grid": (2, 6, 7, 2)},
    "trilinear_sampler": {"volume": (2, 4, 5, 3), "grid": (2, 6, 7, 5, 3)},
}
OPTIONS = {
    "gru": {"steps": 3},
    "dropout": {"rate": 0.5, "step": STEP, "stream": 1},
    "softmax_cross_entropy": {"labels": np.array([0, 2])},
    "triplet_hinge": {"pairs": np.array([[0, 1]])},
    "affine_grid": {"size": (3, 4)},
    "affine_grid_3d": {"size": (3, 4, 2)},
    "projective_grid": {"size": (3, 4)},
}
BORDER = "border must be one of 'nearest', 'zeros', 'mirror', 'wrap', got"
ARGUMENTS = [(name, argument) for name, arrays in GOOD.items() for argument in arrays]
ANY_SHAPE = "relu", "leaky_relu", "tanh", "sigmoid"
# What the gradient is called that a backward pass takes first: the cache if it is a loss's.
FIRST = {name: next(iter(signature(getattr(ops, f"{name}_backward")).parameters)) for name in GOOD}
BACKWARD = [name for name in GOOD if FIRST[name] != "cache"]


def arrays(name):
    return {argument: np.ones(shape, np.float32) for argument, shape in GOOD[name].items()}


def call(name, **changes):
    return getattr(ops, name)(**{**arrays(name), **OPTIONS.get(name, {}), **changes})


@pytest.mark.parametrize("name", GOOD)
def test_the_good_call_is_good(name):
    call(name)


@pytest.mark.parametrize(("name", "argument"), ARGUMENTS)
@pytest.mark.parametrize("dtype", [np.int64, np.uint8, np.float16, bool, complex, object])
def test_wrong_dtype(name, argument, dtype):
    with pytest.raises(TypeError, match=f"^{argument} must be float32 or float64, got"):
        call(name, **{argument: np.ones(GOOD[name][argument], dtype)})


@pytest.mark.parametrize(("name", "argument"), ARGUMENTS)
def test_not_an_array(name, argument):
    with pytest.raises(TypeError, match=f"^{argument} must be an array, got list"):
        call(name, **{argument: np.ones(GOOD[name][argument]).tolist()})


@pytest.mark.parametrize(
    ("name", "argument"), [pair for pair in ARGUMENTS if pair[1] != next(iter(GOOD[pair[0]]))]
)
def test_mixed_dtypes(name, argument):
    with pytest.raises(TypeError, match=f"^{argument} must have the dtype of"):
        call(name, **{argument: np.ones(GOOD[name][argument], np.float64)})


@pytest.mark.parametrize(("name", "argument"), [p for p in ARGUMENTS if p[0] not in ANY_SHAPE])
@pytest.mark.parametrize("change", ["one axis more", "one axis less"])
def test_wrong_number_of_axes(name, argument, change):
    if (name, change) == ("dropout", "one axis more"):
        pytest.skip("it takes rows of any shape")
    good = np.ones(GOOD[name][argument], np.float32)
    wrong = good[None] if change == "one axis more" else good[0]
    with pytest.raises(ValueError, match=rf"^{argument} must have shape \(.*\), got \("):
        call(name, **{argument: np.asarray(wrong)})


@pytest.mark.parametrize(
    ("name", "argument", "shape"),
    [
        ("conv2d", "x", (2, 4, 5, 4)),
        ("conv2d", "bias", (3,)),
        ("conv_block", "x", (2, 4, 5, 4)),
        ("conv_block", "bias", (1,)),
        ("dense", "x", (2, 4)),
        ("dense", "bias", (5,)),
        ("gru", "weight_x", (5, 2, 4)),
        ("gru", "weight_h", (5, 3, 4)),
        ("gru", "weight_h", (4, 3, 5)),
        ("gru", "bias", (3, 5)),
        ("gru", "x", (2, 4)),
        ("triplet_hinge", "random", (3, 5)),
        ("triplet_hinge", "random", (2, 4)),
        ("affine_grid", "theta", (2, 3, 2)),
        ("affine_grid", "theta", (2, 2, 2)),
        ("affine_grid_3d", "theta", (2, 2, 3)),
        ("affine_grid_3d", "theta", (2, 4, 3)),
        ("basis_grid", "theta", (2, 4)),
        ("basis_grid", "basis", (4, 2, 5, 3)),
        ("projective_grid", "theta", (2, 9)),
        ("compose", "left", (2, 3, 3)),
        ("compose", "right", (3, 2, 3)),
        ("bilinear_sampler", "grid", (3, 6, 7, 2)),
        ("bilinear_sampler", "grid", (1, 6, 7, 2)),
        ("bilinear_sampler", "grid", (2, 6, 7, 3)),
        ("bilinear_sampler", "grid", (2, 2, 6, 7)),
        ("trilinear_sampler", "grid", (3, 6, 7, 5, 3)),
        ("trilinear_sampler", "grid", (1, 6, 7, 5, 3)),
        ("trilinear_sampler", "grid", (2, 6, 7, 5, 2)),
    ],
)
def test_wrong_size(name, argument, shape):
    with pytest.raises(ValueError, match=rf"^{argument} must have shape \(.*\), got \("):
        call(name, **{argument: np.ones(shape, np.float32)})


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("conv2d", {"padding": "full"}, "padding must be 'same' or 'valid', got 'full'"),
        ("conv2d", {"stride": 0}, "stride must be a whole number of at least 1, got 0"),
        ("conv_block", {"stride": 1.5}, "stride must be a whole number of at least 1, got 1.5"),
        ("conv_block", {"padding": None}, "padding must be 'same' or 'valid', got None"),
        ("conv2d", {"weight": np.ones((2, 3, 3, 6), "f")}, "weight must have an odd height"),
        ("conv_block", {"weight": np.ones((3, 4, 3, 6), "f")}, "weight must have an odd height"),
        (
            "conv2d",
            {"weight": np.ones((5, 1, 3, 6), "f"), "padding": "valid"},
            "x must be at least 5 by 1 pixels",
        ),
        ("conv_block", {"x": np.ones((2, 1, 5, 3), "f"), "pool": True}, "x must be at least 2"),
        ("conv_block", {"pool": 3}, "pool must be True or False, got 3"),
        (
            "conv_block",
            {"activation": "tanh"},
            "activation must be 'relu', 'leaky_relu' or",
        ),
        ("conv_block", {"slope": 1.0}, "slope must be at least 0 and below 1, got 1.0"),
        ("conv_block", {"slope": None}, "slope must be at least 0 and below 1, got None"),
        ("leaky_relu", {"slope": 1}, "slope must be at least 0 and below 1, got 1"),
        ("leaky_relu", {"slope": -0.1}, "slope must be at least 0 and below 1, got -0.1"),
        ("leaky_relu", {"slope": np.nan}, "slope must be at least 0 and below 1, got nan"),
        ("leaky_relu", {"slope": "0.1"}, "slope must be at least 0 and below 1, got '0.1'"),
        ("max_pool2d", {"stride": 0}, "stride must be a whole number of at least 1, got 0"),
        ("max_pool2d", {"stride": 2.0}, "stride must be a whole number of at least 1, got 2.0"),
        ("max_pool2d", {"size": 5, "stride": 1}, "x must be at least 5 by 5 pixels"),
        ("dropout", {"rate": "0.5"}, "rate must be at least 0 and below 1, got '0.5'"),
        ("max_pool2d", {"size": 5}, "x must be at least 5 by 5 pixels"),
        ("max_pool2d", {"size": 0}, "size must be a whole number of at least 1, got 0"),
        ("max_pool2d", {"size": 2.0}, "size must be a whole number of at least 1, got 2.0"),
        ("avg_pool2d", {"size": 5}, "x must be at least 5 by 5 pixels"),
        ("avg_pool2d", {"size": 0}, "size must be a whole number of at least 1, got 0"),
        ("avg_pool2d", {"size": 2.0}, "size must be a whole number of at least 1, got 2.0"),
        ("avg_pool3d", {"size": 5}, "x must be at least 5 voxels long each way"),
        ("avg_pool3d", {"size": 0}, "size must be a whole number of at least 1, got 0"),
        ("avg_pool3d", {"size": 2.0}, "size must be a whole number of at least 1, got 2.0"),
        ("gru", {"steps": 0}, "steps must be a whole number of at least 1, got 0"),
        ("gru", {"steps": 2.0}, "steps must be a whole number of at least 1, got 2.0"),
        ("projection", {"x": np.ones((2, 0, 5, 3), "f")}, "x must have at least one layer"),
        ("dropout", {"rate": 1.0}, "rate must be at least 0 and below 1, got 1.0"),
        ("dropout", {"rate": -0.1}, "rate must be at least 0 and below 1, got -0.1"),
        ("dropout", {"rate": np.nan}, "rate must be at least 0 and below 1, got nan"),
        ("affine_grid", {"size": (3,)}, "size must be two whole numbers"),
        ("affine_grid", {"size": (3.5, 4)}, "size must be two whole numbers"),
        ("affine_grid", {"size": 4}, "size must be two whole numbers"),
        ("affine_grid", {"size": (0, 4)}, r"size must be at least \(1, 1\)"),
        ("affine_grid_3d", {"size": (3, 4)}, r"size must be three whole numbers \(d, h, w\)"),
        ("affine_grid_3d", {"size": (3, 4, 2.5)}, "size must be three whole numbers"),
        ("affine_grid_3d", {"size": 4}, "size must be three whole numbers"),
        ("affine_grid_3d", {"size": (3, 0, 4)}, r"size must be at least \(1, 1, 1\)"),
        ("affine_grid", {"size": (3, 4, 2)}, r"size must be two whole numbers \(h, w\)"),
        ("trilinear_sampler", {"border": "border"}, BORDER),
        ("trilinear_sampler", {"fill": 1.0}, "fill needs border 'zeros'"),
        ("trilinear_sampler", {"volume": np.ones((2, 4, 0, 3), "f")}, "volume must have at least"),
        ("bilinear_sampler", {"border": "reflect"}, BORDER),
        ("nearest_sampler", {"border": "border"}, BORDER),
        ("bicubic_sampler", {"border": None}, BORDER),
        ("nearest_sampler", {"fill": 1.0, "border": "mirror"}, "fill needs border 'zeros'"),
        ("bicubic_sampler", {"fill": 1.0, "border": "wrap"}, "fill needs border 'zeros'"),
        (
            "bicubic_sampler",
            {"a": -2},
            "a must be a finite number of at least -1",
        ),
        ("nearest_sampler", {"image": np.ones((2, 5, 0, 3), "f")}, "image must have at least"),
        ("projective_grid", {"size": (3, 0)}, r"size must be at least \(1, 1\)"),
        ("basis_grid", {"basis": np.ones((0, 2, 5, 2), "f")}, "basis must have at least one grid"),
        ("bilinear_sampler", {"fill": 1.0}, "fill needs border 'zeros'"),
        ("bilinear_sampler", {"image": np.ones((2, 0, 5, 3), "f")}, "image must have at least"),
        ("softmax_cross_entropy", {"labels": np.array([0, 3])}, "labels must lie between 0 and"),
        ("softmax_cross_entropy", {"labels": np.array([-1, 0])}, "labels must lie between 0 and"),
        ("softmax_cross_entropy", {"labels": np.array([1])}, r"labels must have shape \(N=2\)"),
        ("softmax_cross_entropy", {"labels": np.eye(2, dtype=int)}, "labels must have shape"),
        ("softmax_cross_entropy", {"logits": np.ones((0, 3)), "labels": np.ones(0, int)}, "logits"),
        ("softmax_cross_entropy", {"epsilon": -1e-5}, "epsilon must be a finite number of at l"),
        ("triplet_hinge", {"pairs": np.array([[0, 2]])}, "pairs must lie between 0 and N-1 = 1"),
        ("triplet_hinge", {"pairs": np.array([[-1, 0]])}, "pairs must lie between 0 and N-1"),
        ("triplet_hinge", {"pairs": np.array([0, 1])}, r"pairs must have shape \(P, 2\)"),
        ("triplet_hinge", {"pairs": np.ones((0, 2), int)}, r"pairs must have shape \(P, 2\) with"),
    ],
)
def test_impossible_value(name, changes, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        call(name, **changes)


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("softmax_cross_entropy", {"labels": [0, 1]}, "labels must be an array, got list"),
        ("softmax_cross_entropy", {"labels": np.zeros(2)}, "labels must be an array of whole"),
        ("softmax_cross_entropy", {"labels": np.zeros(2, bool)}, "labels must be an array of"),
        ("triplet_hinge", {"pairs": [[0, 1]]}, "pairs must be an array, got list"),
        ("triplet_hinge", {"pairs": np.zeros((1, 2))}, "pairs must be an array of whole"),
        ("dropout", {"step": None}, "step must be a Step, got NoneType"),
    ],
)
def test_impossible_type(name, changes, message):
    with pytest.raises(TypeError, match=f"^{message}"):
        call(name, **changes)


@pytest.mark.parametrize("name", BACKWARD)
def test_wrong_gradient(name):
    y, cache = call(name)
    backward = getattr(ops, f"{name}_backward")
    gradient = FIRST[name]
    backward(y, cache)
    wrongs = y[:, :1], y[..., :1], y[None], y[:1]
    for wrong in (wrong for wrong in wrongs if wrong.shape != y.shape):  # it may have one channel
        with pytest.raises(ValueError, match=rf"^{gradient} must have shape \(.*\), got \("):
            backward(wrong, cache)
    with pytest.raises(TypeError, match=f"^{gradient} must have the dtype of"):
        backward(y.astype(np.float64), cache)
    with pytest.raises(TypeError, match=f"^{gradient} must be float32 or float64"):
        backward(y.astype(int), cache)


def test_labels_are_given_once_more_in_the_message():
    with pytest.raises(ValueError, match=r"K-1 = 2, got 0 to 9$"):
        call("softmax_cross_entropy", labels=np.array([9, 0]))
