"""theta handed on to later layers: where it stands, its two gradients, in networks, on a GPU."""

import numpy as np
import pytest
from helpers import normal

from ministn.gradcheck import check_gradients
from ministn.gradcheck.networks import loss_problem, perturbed
from ministn.layers import AvgPool2d, Conv2d, Dense, Flatten, Sequential
from ministn.models import Network
from ministn.parameter import ParameterBuffer
from ministn.plot import draw_transformer
from ministn.randomness import Step
from ministn.transformer import HandOn, SpatialTransformer, regression_layer
from ministn.transformer.transforms import AFFINE, Attention

STEP = Step(seed=5, number=7)
SIZE, OUTPUT = (7, 9), (4, 6)
FEATURES, HANDED = 2 * 3 * 2, 6


def transformer(number=1, size=SIZE, transform=AFFINE):
    localisation = Sequential(
        Flatten(f"localisation{number}/flatten"),
        regression_layer(f"localisation{number}/theta", size[0] * size[1] * 2, transform),
    )
    return SpatialTransformer(
        localisation, OUTPUT, transform=transform, path=f"transformer{number}"
    )


def handing():
    """Without a convolution, so that V can be told from theta."""
    return HandOn(transformer(), AvgPool2d("pool"), Flatten("flatten"))


def laid_out(layer, dtype=np.float64, device=None):
    buffer = ParameterBuffer(layer.parameters(), 0, dtype, device)
    return perturbed(buffer) if device is None else buffer


def test_theta_stands_behind_what_the_layers_make_of_the_warped_image():
    layer = handing()
    laid_out(layer)
    x = normal(3, *SIZE, 2)
    warped, _ = layer.transformer.forward(x)
    y, cache = layer.forward(x, STEP)
    assert y.shape == (3, FEATURES + HANDED)
    np.testing.assert_array_equal(y[:, :FEATURES], layer.reader.forward(warped)[0])
    np.testing.assert_array_equal(y[:, FEATURES:], layer.transformer.theta(x))
    np.testing.assert_array_equal(layer.thetas(cache)[0].reshape(3, 6), y[:, FEATURES:])
    evaluated, nothing = layer.forward(x)
    assert nothing is None
    for other in (evaluated, layer.predict(x)[0]):
        np.testing.assert_array_equal(other, y)


def gradients(layer, buffer, x, dy):
    buffer.zero_grad()
    _, cache = layer.forward(x, STEP)
    dx = layer.backward(dy, cache)
    return dx, buffer.grad.copy()


def test_gradient_of_theta_is_the_sum_of_its_two_uses():
    """That through the grid, and that of a network whose output is theta itself."""
    layer = handing()
    buffer, x, dy = laid_out(layer), normal(3, *SIZE, 2), normal(3, FEATURES + HANDED)
    both = gradients(layer, buffer, x, dy)
    through_grid = gradients(
        Sequential(layer.transformer, layer.reader), buffer, x, dy[:, :FEATURES].copy()
    )
    direct = gradients(layer.transformer.localisation, buffer, x, dy[:, FEATURES:].copy())
    for whole, one, other in zip(both, through_grid, direct, strict=True):
        assert one.any() and other.any()
        np.testing.assert_allclose(whole, one + other, rtol=1e-12, atol=1e-13)
    _, cache = layer.forward(x, STEP)
    assert layer.backward(dy, cache, need_dx=False) is None


def network():
    """theta of a transformer and of one behind it, both handed on to the last dense layer."""
    inner = HandOn(
        transformer(2, OUTPUT, Attention()), Conv2d("read", 2, 3), Flatten("flatten"), path="inner"
    )
    front = HandOn(transformer(1), inner, path="outer")
    return Network(Sequential(Dense("dense", 4 * 6 * 3 + 3 + 6, 5)), front)


def test_one_in_another_has_the_gradients_of_finite_differences():
    problem = loss_problem(network(), (*SIZE, 2))
    found = problem.gradients()
    assert len(found) == 8 and all(gradient.any() for gradient in found.values())
    report = check_gradients(problem.value, problem.arrays, found, eps=1e-6, elements=60)
    assert report.error < 1e-6


def test_a_network_watches_predicts_and_names_as_behind_a_transformer():
    made = network()
    buffer = laid_out(made, np.float32)
    x = abs(normal(3, *SIZE, 2)).astype(np.float32)
    logits, cache = made.forward(x, STEP)
    seen, looks = made.predict(x)
    np.testing.assert_array_equal(seen, logits)
    for looked, theta in zip(looks, made.thetas(cache), strict=True):
        np.testing.assert_array_equal(looked.theta, theta)
    assert made.transformer.path == "transformer1"
    assert made.thetas(cache)[0].shape == (3, 2, 3)
    assert [p.name for p in made.localisation_only()] == [
        f"localisation{n}/theta/{kind}" for n in (1, 2) for kind in ("weight", "bias")
    ]
    paths = [path for path, _ in made.front.outputs(x, STEP) if "localisation" not in path]
    assert paths == ["transformer1", "transformer2", "read", "flatten", "inner", "outer"]
    assert made.first_non_finite(x, STEP) is None
    next(p for p in buffer.parameters if p.name == "read/bias").data[...] = np.inf
    assert made.first_non_finite(x, STEP) == "read"


def test_it_is_drawn_as_its_transformer_is():
    layer = handing()
    laid_out(layer)
    x = abs(normal(3, *SIZE, 2))
    figures = draw_transformer(layer, x), draw_transformer(layer.transformer, x)
    drawn = [[image.get_array() for axes in f.axes for image in axes.images] for f in figures]
    assert len(drawn[0]) >= 6
    for got, expected in zip(*drawn, strict=True):
        np.testing.assert_array_equal(got, expected)


def test_layers_that_do_not_flatten_are_refused():
    layer = HandOn(transformer(), AvgPool2d("pool"))
    laid_out(layer)
    with pytest.raises(ValueError, match=r"^features must have shape \(N, D\), got \(3, 2, 3, 2\)"):
        layer.forward(normal(3, *SIZE, 2))


def test_gpu_engine_agrees(quick_device):
    """Largest difference 5.4e-7 of the largest element."""
    exact = network()
    values = laid_out(exact).data
    x, dy = abs(normal(3, *SIZE, 2)), normal(3, 5)
    y, cache = exact.forward(x, STEP)
    exact.backward(dy, cache)
    wanted = {"y": y} | {p.name: p.grad for p in exact.parameters()}

    made = network()
    buffer = laid_out(made, np.float32, quick_device)
    buffer.data[...] = quick_device.to_gpu(values.astype(np.float32))
    y, cache = made.forward(quick_device.to_gpu(x.astype(np.float32)), STEP)
    made.backward(quick_device.to_gpu(dy.astype(np.float32)), cache)
    found = {"y": y} | {p.name: p.grad for p in made.parameters()}
    for name, want in wanted.items():
        got = quick_device.to_cpu(found[name])
        np.testing.assert_allclose(got, want, rtol=0, atol=5e-6 * abs(want).max(), err_msg=name)
