"""Layers: what a cache belongs to, what is shared, what goes backward and what does not."""

from dataclasses import replace

import numpy as np
import pytest
from helpers import compare, normal

from ministn import backend, engines, fast, ops
from ministn.initializers import HeUniform
from ministn.layers import (
    AvgPool2d,
    AvgPool3d,
    Bounded,
    Conv2d,
    Dense,
    Dropout,
    Flatten,
    LeakyReLU,
    MaxPool2d,
    Projection,
    ReLU,
    Reshape,
    Sequential,
    Standardised,
    Tanh,
)
from ministn.models.controls import NextImage
from ministn.parameter import ParameterBuffer
from ministn.randomness import Step
from ministn.recurrent import GRU, Mean
from ministn.transformer import (
    Apart,
    Glimpses,
    HandOn,
    Iterated,
    Parallel,
    Resize,
    SpatialTransformer,
    Towers,
)

STEP = Step(seed=5, number=7)
MAPS, ROWS, CROPS = (2, 5, 7, 3), (4, 6), (2, 2, 5, 4, 3)
SUMS = {"rtol": 1e-12, "atol": 1e-14}  # sums of the same terms in another order


def transformer(owner: str = "") -> SpatialTransformer:
    theta = Dense(f"{owner}theta", 5 * 7 * 3, 6, initial=HeUniform(0.3))
    localisation = Sequential(Flatten("flat"), theta)
    return SpatialTransformer(localisation, (4, 3))


def glimpsing() -> SpatialTransformer:
    """Two thetas for each image."""
    gru, theta = GRU("gru", 5 * 7 * 3, 4, 2), Dense("theta", 4, 6, initial=HeUniform(0.3))
    return SpatialTransformer(Sequential(Flatten("flat"), gru, theta), (4, 3))


def looking_again() -> Iterated:
    """Three looks, two of one network."""
    first, second = transformer("a/").localisation, transformer("b/").localisation
    return Iterated(first, second, first)


def tied() -> Sequential:
    """One layer, used twice in a row."""
    conv = Conv2d("tied", 3, 3)
    return Sequential(conv, conv, MaxPool2d("pool"))


# name: (how the layer is made, the shape of its input)
LAYERS = {
    "conv": (lambda: Conv2d("conv", 3, 4), MAPS),
    "conv valid pool": (lambda: Conv2d("conv", 3, 4, 5, padding="valid", pool=True), (2, 6, 9, 3)),
    "conv leaky": (lambda: Conv2d("conv", 3, 4, pool=True, activation="leaky_relu"), MAPS),
    "conv alone": (lambda: Conv2d("conv", 3, 4, activation=None, bias=False), MAPS),
    "dense": (lambda: Dense("dense", 6, 5), ROWS),
    "gru": (lambda: GRU("gru", 6, 5, 3), ROWS),
    "mean": (lambda: Mean("mean"), MAPS[:3]),
    "relu": (lambda: ReLU("relu"), ROWS),
    "leaky relu": (lambda: LeakyReLU("leaky", 0.1), MAPS),
    "tanh": (lambda: Tanh("tanh"), MAPS),
    "bounded": (lambda: Bounded("bounded", [-1] * 6, [0.5] * 6), ROWS),
    "standardised": (lambda: Standardised("standardised", 0.1, 0.3), MAPS),
    "pool": (lambda: MaxPool2d("pool"), MAPS),
    "overlapping pool": (lambda: MaxPool2d("pool", 3, 2), MAPS),
    "average pool": (lambda: AvgPool2d("pool", 3), MAPS),
    "average pool of volumes": (lambda: AvgPool3d("pool"), MAPS),
    "projection": (lambda: Projection("projection"), MAPS),
    "dropout": (lambda: Dropout("dropout", 0.4), ROWS),
    "dropout of maps": (lambda: Dropout("dropout", 0.4), MAPS),
    "flatten": (lambda: Flatten("flatten"), MAPS),
    "reshape": (lambda: Reshape("reshape", 3, 2), ROWS),
    "apart": (lambda: Apart("apart", 3), ROWS),
    "towers": (lambda: Towers(Sequential(Conv2d("a", 3, 2), Flatten("b")), Flatten("c")), CROPS),
    "next image": (lambda: NextImage("next", 3), ROWS),
    "resize": (lambda: Resize("resize", (3, 4)), MAPS),
    "sequential": (lambda: Sequential(Dense("a", 6, 3), ReLU("b"), Dense("c", 3, 2)), ROWS),
    "tied": (tied, MAPS),
    "transformer": (transformer, MAPS),
    "parallel": (lambda: Parallel(transformer("a/"), transformer("b/")), MAPS),
    "iterated": (looking_again, MAPS),
    "hand on": (lambda: HandOn(transformer(), Flatten("flatten")), MAPS),
    "glimpses": (lambda: Glimpses(glimpsing(), Conv2d("read", 3, 2), glimpses=2), MAPS),
}
cases = pytest.mark.parametrize(("make", "shape"), LAYERS.values(), ids=LAYERS)


def laid_out(make, dtype=np.float64):
    """The layer and its buffer, the biases not zero."""
    layer = make()
    buffer = ParameterBuffer(layer.parameters(), 0, dtype)
    buffer.data += 0.05 * normal(max(buffer.data.size, 1))[: buffer.data.size].astype(dtype)
    return layer, buffer


def backward(layer, buffer, y, cache, need_dx=True):
    """dx and the gradients of one backward pass alone."""
    buffer.zero_grad()
    dx = layer.backward(normal(*y.shape), cache, need_dx)
    return dx, buffer.grad.copy()


@cases
def test_cache_belongs_to_the_call(make, shape):
    """Two calls of one layer, gone back through in either order, and one cache used twice."""
    layer, buffer = laid_out(make)
    inputs = [normal(*shape), normal(*shape[::-1]).T - 0.3]
    calls = [layer.forward(x, STEP) for x in inputs]
    expected = [backward(layer, buffer, *layer.forward(x, STEP)) for x in inputs]
    for order in ([0, 1], [1, 0], [0, 0]):
        buffer.zero_grad()
        for i in order:
            y, cache = calls[i]
            np.testing.assert_array_equal(layer.backward(normal(*y.shape), cache), expected[i][0])
        total = sum(expected[i][1] for i in order)
        np.testing.assert_allclose(buffer.grad, total, **SUMS)


@cases
def test_need_dx_spares_the_input_gradient_and_nothing_else(make, shape):
    layer, buffer = laid_out(make)
    call = layer.forward(normal(*shape), STEP)
    dx, gradients = backward(layer, buffer, *call)
    nothing, same = backward(layer, buffer, *call, need_dx=False)
    assert dx.shape == shape and dx.any()
    assert nothing is None
    np.testing.assert_array_equal(gradients, same)
    assert all(p.grad.any() for p in layer.parameters())


@cases
def test_evaluation_keeps_no_cache(make, shape):
    layer, _ = laid_out(make)
    x = normal(*shape)
    before = x.copy()
    y, cache = layer.forward(x)
    trained, kept = layer.forward(x, STEP)
    assert cache is None and kept is not None
    assert (y == trained).all() != isinstance(layer, Dropout)
    np.testing.assert_array_equal(x, before)


@cases
def test_backward_adds_and_the_caller_zeroes(make, shape):
    layer, buffer = laid_out(make)
    y, cache = layer.forward(normal(*shape), STEP)
    _, once = backward(layer, buffer, y, cache)
    layer.backward(normal(*y.shape), cache)
    np.testing.assert_allclose(buffer.grad, once + once, **SUMS)
    assert all(p.grad.base is buffer.grad for p in layer.parameters())


@cases
def test_a_gpu_agrees_with_the_cpu(device, make, shape):
    """Output and every gradient; largest difference 1.8e-7 of the largest element."""
    found = []
    for place in (None, device):
        layer = make()
        buffer = ParameterBuffer(layer.parameters(), 0, device=place)
        values = 0.05 * normal(max(buffer.data.size, 1))[: buffer.data.size]
        change = values.astype(np.float32)
        buffer.data += change if place is None else device.to_gpu(change)
        x = normal(*shape).astype(np.float32)
        y, cache = layer.forward(x if place is None else device.to_gpu(x), STEP)
        dy = normal(*y.shape).astype(np.float32)
        dx = layer.backward(dy if place is None else device.to_gpu(dy), cache)
        found.append([backend.to_cpu(a) for a in (y, dx, buffer.grad)])
    for name, want, got in zip(("y", "dx", "gradients"), *found, strict=True):
        compare(name, got, want, 0, 2e-6 * abs(want).max(initial=0))


def test_gradient_of_a_shared_layer_is_the_sum_of_its_uses():
    """The tied pair against two layers with equal values, each with a gradient of its own."""
    shared, buffer = laid_out(tied)
    untied = Sequential(Conv2d("first", 3, 3), Conv2d("second", 3, 3), MaxPool2d("pool"))
    apart = ParameterBuffer(untied.parameters(), 0, np.float64)
    apart.data[...] = np.tile(buffer.data, 2)
    x = normal(*MAPS)
    dx, total = backward(shared, buffer, *shared.forward(x, STEP))
    dx_apart, uses = backward(untied, apart, *untied.forward(x, STEP))
    np.testing.assert_array_equal(dx, dx_apart)
    first, second = np.split(uses, 2)
    assert first.any() and second.any()
    np.testing.assert_array_equal(total, first + second)


def test_with_pool_is_a_twin_with_the_same_parameters():
    conv = Conv2d("conv", 3, 4, 5, padding="valid", pool=True)
    twin = conv.with_pool(False)
    assert (conv.pool, twin.pool) == (True, False)
    assert twin.weight is conv.weight and twin.bias is conv.bias
    assert Sequential(conv, twin).parameters() == [conv.weight, conv.bias]
    buffer = ParameterBuffer([*twin.parameters(), *conv.parameters()], 0, np.float64)
    x = normal(2, 6, 9, 3)
    assert conv.forward(x)[0].shape == (2, 1, 2, 4)
    y, cache = twin.forward(x, STEP)
    assert y.shape == (2, 2, 5, 4)
    twin.backward(y, cache)
    assert conv.weight.grad.any() and conv.weight.grad.base is buffer.grad


class Recorder(ReLU):
    """Notes whether it went backward and what it was asked for."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.asked: list[bool] = []

    def backward(self, dy, cache, need_dx=True):
        self.asked.append(need_dx)
        return super().backward(dy, cache, need_dx)


@pytest.mark.parametrize(
    ("need_dx", "expected"), [(True, [[True], [True]]), (False, [[], [True]])], ids=["dx", "no dx"]
)
def test_sequential_stops_before_layers_that_learn_nothing(need_dx, expected):
    recorders = [Recorder("before"), Recorder("after")]
    stack = Sequential(Flatten("flat"), recorders[0], Dense("dense", 105, 2), recorders[1])
    buffer = ParameterBuffer(stack.parameters(), 0, np.float64)
    dx, gradients = backward(stack, buffer, *stack.forward(normal(*MAPS), STEP), need_dx)
    assert [recorder.asked for recorder in recorders] == expected
    assert (dx is not None) == need_dx and gradients.any()


def test_sequential_of_layers_that_learn_nothing_does_nothing_without_need_dx():
    recorder = Recorder("relu")
    stack = Sequential(recorder)
    y, cache = stack.forward(normal(*ROWS), STEP)
    assert stack.backward(y, cache, need_dx=False) is None and recorder.asked == []
    np.testing.assert_array_equal(stack.backward(y, cache), y)


@pytest.mark.parametrize("cuts", [[3], [1, 2, 9], [4, 8]], ids=str)
def test_dropout_layer_does_not_see_how_the_batch_is_cut(cuts):
    layer, x = Dropout("dropout", 0.3), normal(11, 7)
    whole, cache = layer.forward(x, STEP)
    dx = layer.backward(x, cache)
    assert 0.1 < (whole == 0).mean() < 0.5
    np.testing.assert_array_equal(whole, dx)
    parts = np.split(x, cuts)
    calls = [
        layer.forward(part, replace(STEP, first_row=first))
        for part, first in zip(parts, [0, *cuts], strict=True)
    ]
    np.testing.assert_array_equal(np.concatenate([y for y, _ in calls]), whole)
    backs = [layer.backward(part, c) for part, (_, c) in zip(parts, calls, strict=True)]
    np.testing.assert_array_equal(np.concatenate(backs), dx)


def test_dropout_mask_depends_on_path_and_step():
    x = np.ones((11, 7))
    masks = [
        Dropout(path, 0.3).forward(x, step)[0]
        for path, step in [
            ("a", STEP),
            ("b", STEP),
            ("a", replace(STEP, number=8)),
            ("a", replace(STEP, call=1)),
        ]
    ]
    assert len({mask.tobytes() for mask in masks}) == len(masks)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_forward_and_backward_come_from_one_engine(dtype):
    """Switching in between changes nothing; float64 never leaves the readable engine."""
    layer, _ = laid_out(LAYERS["conv"][0], dtype)
    x = normal(*MAPS).astype(dtype)
    engine = fast if dtype == np.float32 else ops
    y, cache = layer.forward(x, STEP)
    assert cache[0] is engine.conv_block_backward
    with engines.readable_only():
        assert layer.forward(x, STEP)[1][0] is ops.conv_block_backward
        assert layer.backward(y, cache).dtype == dtype
    with pytest.raises(RuntimeError, match="inside"), engines.readable_only():
        raise RuntimeError("inside")
    assert engines.implementation("conv_block", x)[0] is engine.conv_block


@pytest.mark.parametrize(
    ("layer", "x", "message"),
    [
        (Conv2d("c", 3, 4), normal(2, 5, 7, 2), r"x must have shape \(N, H, W, C=3\)"),
        (Dense("d", 6, 5), normal(4, 7), r"x must have shape \(N, D=6\)"),
        (GRU("g", 6, 5, 3), normal(4, 7), r"x must have shape \(N, D=6\)"),
        (Flatten("f"), normal(4, 7), "x must have shape"),
        (Reshape("r", 3, 2), normal(4, 7), "x must have shape"),
        (MaxPool2d("p"), normal(4, 7), "x must have shape"),
        (Dropout("o"), normal(5), "x must have shape"),
    ],
    ids=["conv", "dense", "gru", "flatten", "reshape", "pool", "dropout"],
)
def test_wrong_shapes_are_named(layer, x, message):
    ParameterBuffer(layer.parameters(), 0, np.float64)
    with pytest.raises(ValueError, match=message):
        layer.forward(x, STEP)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LeakyReLU("l", 1.0), "slope must be at least 0 and below 1, got 1.0"),
        (lambda: Conv2d("c", 3, 4, slope=-1), "slope must be at least 0 and below 1, got -1"),
        (lambda: Conv2d("c", 3, 4, activation="elu"), "activation must be 'relu', 'leaky_relu' or"),
        (lambda: Conv2d("c", 3, 4, pool=3), "pool must be True or False, got 3"),
        (lambda: GRU("g", 6, 5, 0), "steps must be a whole number of at least 1, got 0"),
        (lambda: Standardised("s", 0, 0), "deviation must be a finite number of at least 1.17549e"),
        (lambda: MaxPool2d("p", 0), "size must be a whole number of at least 1, got 0"),
        (lambda: MaxPool2d("p", 3, 1.5), "stride must be a whole number of at least 1, got 1.5"),
    ],
)
def test_impossible_options_are_refused_when_the_layer_is_made(make, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        make()


def test_standardised_values_have_mean_0_and_deviation_1():
    x = 3 + 5 * normal(*MAPS)
    y, _ = Standardised("standardised", x.mean(), x.std()).forward(x)
    assert abs(y.mean()) < 1e-12 and y.std() == pytest.approx(1)
    assert Standardised("standardised", 0.5, 2).forward(np.float32([[1.5]]))[0].tolist() == [[0.5]]


def test_a_convolution_without_bias_learns_its_weight_alone():
    bare, whole = (Conv2d("conv", 3, 4, bias=bias) for bias in (False, True))
    assert [p.name for p in bare.parameters()] == ["conv/weight"]
    assert [p.name for p in whole.parameters()] == ["conv/weight", "conv/bias"]
    assert bare.bias is None and bare.with_pool(True).parameters() == bare.parameters()
    for conv in (bare, whole):  # whose bias is zero at first
        ParameterBuffer(conv.parameters(), 0, np.float64)
    x = normal(*MAPS)
    np.testing.assert_array_equal(bare.forward(x)[0], whole.forward(x)[0])


def test_what_is_no_layer_is_named():
    class Duck:
        path = "duck"

        def forward(self, x, step=None):
            return x, None

        def backward(self, dy, cache, need_dx=True):
            return dy

    for other in (Duck(), ReLU):
        with pytest.raises(TypeError, match=r"a layer must be a Layer, got"):
            Sequential(Flatten("flatten"), other)


def test_errors_name_the_innermost_layer():
    inner = Sequential(Dense("inner/dense", 3, 2))
    outer = Sequential(Dense("first", 4, 5), inner)
    ParameterBuffer(outer.parameters(), 0)
    with pytest.raises(ValueError, match=r"^inner/dense: x must have shape \(N, D=3\)"):
        outer.forward(np.zeros((2, 4), np.float32))
    with pytest.raises(TypeError, match=r"^first: x must have the dtype of weight, float32"):
        outer.predict(np.zeros((2, 4)))
