"""Several looks at one input: each is a warp, the gradients are sums, in networks, on a GPU."""

from dataclasses import replace

import numpy as np
import pytest
from helpers import normal

from ministn.backend import assign
from ministn.data import Split
from ministn.gradcheck.networks import perturbed
from ministn.layers import Conv2d, Dense, Dropout, Flatten, Sequential
from ministn.models import Network
from ministn.optimizers import SGD, Optimizer
from ministn.parallel import Team
from ministn.parameter import ParameterBuffer
from ministn.plot import draw_transformer
from ministn.randomness import Step
from ministn.recurrent import GRU
from ministn.tasks import Classification
from ministn.training.examples import shown
from ministn.training.steps import Epoch, PlainSteps, QueuedSteps
from ministn.transformer import Glimpses, Parallel, SpatialTransformer, regression_layer
from ministn.transformer.samplers import Sampler
from ministn.transformer.transforms import AFFINE, Affine3d, Attention, Projective, ThinPlateSpline

STEP = Step(seed=5, number=7)
N, T, SIZE, OUTPUT, K = 3, 3, (7, 9), (4, 6), 5


def transformer(
    glimpses=T, size=SIZE, output=OUTPUT, transform=AFFINE, sampler=None, channels=2, owner=""
):
    """One whose localisation network gives so many thetas for each image."""
    features = int(np.prod(size)) * channels
    localisation = Sequential(
        Flatten(f"{owner}localisation/flatten"),
        GRU(f"{owner}localisation/gru", features, 4, glimpses),
        regression_layer(f"{owner}localisation/theta", 4, transform),
    )
    return SpatialTransformer(
        localisation, output, transform=transform, sampler=sampler or Sampler(),
        path=f"{owner}transformer",
    )  # fmt: skip


def reading():
    """What makes K numbers of a crop."""
    return Conv2d("conv", 2, 3), Flatten("flatten"), Dense("dense", OUTPUT[0] * OUTPUT[1] * 3, K)


def laid_out(layer, dtype=np.float64, device=None):
    buffer = ParameterBuffer(layer.parameters(), 0, dtype, device)
    return perturbed(buffer) if device is None else buffer


# ---- what it computes


@pytest.mark.parametrize(
    ("glimpses", "transform", "sampler"),
    [
        (1, AFFINE, Sampler()),
        (3, ThinPlateSpline(), Sampler("bicubic", "mirror")),
        (2, Projective(), Sampler(border="zeros", fill=0.5, supersampling=2)),
        (np.int64(4), Attention(), Sampler("nearest")),
    ],
    ids=["one", "bicubic, mirror", "averaged", "nearest"],
)
def test_each_glimpse_is_a_warp_of_the_input_by_its_theta(glimpses, transform, sampler):
    one = transformer(glimpses, transform=transform, sampler=sampler)
    layer = Glimpses(one, glimpses=glimpses)
    laid_out(layer)
    x = normal(N, *SIZE, 2)
    y, cache = layer.forward(x, STEP)
    thetas = np.split(layer.theta(x), glimpses, axis=1)
    assert y.shape == (N, glimpses, *OUTPUT, 2)
    for t, theta in enumerate(thetas):
        np.testing.assert_array_equal(y[:, t], one.warp(x, theta))
        np.testing.assert_array_equal(theta, one.theta(x)[t::glimpses])
        assert t == 0 or abs(theta - thetas[t - 1]).min() > 1e-6
    dx = layer.backward(y, cache)
    assert dx.shape == x.shape and layer.forward(x[:0])[0].shape == (0, *y.shape[1:])


def test_volumes_are_looked_at_too():
    one = transformer(
        2, (5, 4, 6), (3, 2, 4), Affine3d(), Sampler("trilinear", supersampling=2), channels=1
    )
    layer = Glimpses(one, glimpses=2)
    laid_out(layer)
    x = normal(N, 5, 4, 6)
    y, cache = layer.forward(x, STEP)
    for t in range(2):
        np.testing.assert_array_equal(y[:, t], one.warp(x, one.theta(x)[t::2]))
    assert layer.backward(y, cache).shape == x.shape


def test_gradients_are_the_sums_of_all_uses():
    """Against T warps and T runs of the layers, one after another."""
    layer = Glimpses(transformer(), *reading(), glimpses=T)
    buffer, x, dy = laid_out(layer), normal(N, *SIZE, 2), normal(N, T, K)
    y, cache = layer.forward(x, STEP)
    dx = layer.backward(dy, cache)
    together = buffer.grad.copy()

    buffer.zero_grad()
    one = layer.transformer
    theta, localisation = one.localisation.forward(x, STEP)
    dtheta, expected = np.zeros_like(theta), np.zeros_like(x)
    for t in range(T):
        grid, grid_cache = one.transform.forward(theta[t::T], OUTPUT)
        crop, sampled = one.sampler.forward(x, grid)
        found, kept = layer.reader.forward(crop, STEP)
        np.testing.assert_allclose(y[:, t], found, rtol=1e-13)
        dimage, dgrid = one.sampler.backward(layer.reader.backward(dy[:, t], kept), sampled)
        dtheta[t::T] = one.transform.backward(dgrid, grid_cache)
        expected += dimage
    expected += one.localisation.backward(dtheta, localisation)
    np.testing.assert_allclose(dx, expected, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(together, buffer.grad, rtol=1e-12, atol=1e-14)
    assert all(parameter.grad.any() for parameter in buffer.parameters)


@pytest.mark.parametrize("cuts", [[1], [2, 4]], ids=str)
def test_dropout_of_crops_does_not_see_how_the_batch_is_cut(cuts):
    layer = Glimpses(transformer(), Dropout("dropout", 0.4), glimpses=T)
    laid_out(layer)
    x = normal(5, *SIZE, 2)
    whole, _ = layer.forward(x, STEP)
    dropped = whole == 0
    assert 0.3 < dropped.mean() < 0.5 and (dropped[:, 0] != dropped[:, 1]).any()
    parts = [
        layer.forward(part, replace(STEP, first_row=first))[0]
        for part, first in zip(np.split(x, cuts), [0, *cuts], strict=True)
    ]
    np.testing.assert_array_equal(np.concatenate(parts) == 0, dropped)


# ---- in a network


def network():
    """Behind a convolution; among the layers that read is a transformer of the crops."""
    inner = SpatialTransformer(
        Sequential(Flatten("inner/flatten"), regression_layer("inner/theta", 4 * 6 * 3)),
        (2, 3),
        path="inner",
    )
    layers = Conv2d("conv", 2, 3), inner, Flatten("flatten"), Dense("dense", 18, K)
    return Network(Sequential(Conv2d("first", 2, 2), Glimpses(transformer(), *layers, glimpses=T)))


def test_each_glimpse_is_watched_and_has_a_look():
    made = network()
    laid_out(made, np.float32)
    x = abs(normal(N, *SIZE, 2)).astype(np.float32)
    logits, cache = made.forward(x, STEP)
    seen, looks = made.predict(x)
    np.testing.assert_array_equal(seen, logits)
    assert [one.path for one in made.transformers] == ["transformer"] * T + ["inner"] * T
    thetas = made.thetas(cache)
    for looked, theta in zip(looks, thetas, strict=True):
        assert looked.grid.shape == (N, 4, 4, 2)
        np.testing.assert_array_equal(looked.theta, theta)
    layer = made.classifier.layers[1]
    maps, _ = made.classifier.layers[0].forward(x)
    np.testing.assert_array_equal(
        np.stack(thetas[:T], axis=1), layer.transformer.theta(maps).reshape(N, T, 2, 3)
    )
    assert {p.name.split("/")[0] for p in made.localisation_only()} == {"localisation", "inner"}


def test_they_may_stand_in_front_with_all_layers_in_them():
    """The same numbers and gradients as among the classifier's layers; a record has every theta."""
    glimpses = Glimpses(transformer(), *reading(), glimpses=T)
    front, inside = Network(Sequential(), glimpses), Network(Sequential(glimpses))
    buffer = laid_out(glimpses, np.float32)
    x, dy = normal(N, *SIZE, 2).astype(np.float32), normal(N, T, K).astype(np.float32)
    found = []
    for made in (front, inside):
        buffer.zero_grad()
        y, cache = made.forward(x, STEP)
        made.backward(dy, cache)
        found.append([y, buffer.grad.copy(), *made.thetas(cache), *made.predict(x)[1][1]])
    for one, other in zip(*found, strict=True):
        np.testing.assert_array_equal(one, other)
    assert front.localisation_only() == inside.localisation_only() != []
    assert front.transformer is glimpses.transformer
    split = Split(np.uint8(abs(x)), np.zeros((N, T), np.uint8), np.zeros((N, 4), np.int16))
    theta = shown(split, front.front)["theta"]
    assert np.shape(theta) == (N, sum(len(one.start) for one in front.front.at_input))


def test_first_layer_with_non_finite_values_is_named():
    made = network()
    buffer = laid_out(made, np.float32)
    x = abs(normal(N, *SIZE, 2)).astype(np.float32)
    paths = [path for path, _ in made.classifier.outputs(x, STEP)]
    assert made.first_non_finite(x, STEP) is None
    assert paths == [
        "first",
        *(f"localisation/{k} in the localisation network" for k in ("flatten", "gru", "theta")),
        "transformer",
        "conv",
        *(f"inner/{k} in the localisation network" for k in ("flatten", "theta")),
        "inner",
        "flatten",
        "dense",
        "glimpses",
    ]  # fmt: skip
    next(p for p in buffer.parameters if p.name == "localisation/gru/weight_h").data[...] = np.nan
    with np.errstate(invalid="ignore"):
        assert made.first_non_finite(x, STEP) == "localisation/gru in the localisation network"


def test_at_first_every_glimpse_is_the_whole_input():
    front = Glimpses(transformer(output=SIZE), glimpses=T)
    ParameterBuffer(front.parameters(), 0)
    x = normal(N, *SIZE, 2).astype(np.float32)
    np.testing.assert_array_equal(front.forward(x)[0], np.stack([x] * T, axis=1))


def test_glimpses_are_drawn_one_after_another():
    """A row for each image: the input, the grids on it, and each crop, as bright as they are."""
    front = Glimpses(transformer(channels=1), glimpses=T)
    laid_out(front)
    x = abs(normal(2, *SIZE, 1))
    drawn = [image.get_array() for axes in draw_transformer(front, x).axes for image in axes.images]
    assert len(drawn) == 2 * (2 + T)
    for n, crops in enumerate(front.forward(x)[0]):
        for panel, crop in zip(drawn[n * (2 + T) + 2 :], crops, strict=False):
            assert np.corrcoef(panel.ravel(), crop.ravel())[0, 1] > 1 - 1e-9


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (
            lambda: Glimpses(transformer(), glimpses=0),
            ValueError,
            "glimpses must be a whole number",
        ),
        (lambda: Glimpses(transformer(), glimpses=2.0), ValueError, "glimpses must be a whole num"),
        (
            lambda: Glimpses(Parallel(transformer()), glimpses=T),
            TypeError,
            "transformer must be a SpatialTransformer, got Parallel",
        ),
    ],
)
def test_impossible_glimpses_are_refused_when_made(make, error, message):
    with pytest.raises(error, match=f"^{message}"):
        make()


def test_another_number_of_thetas_is_named():
    layer = Glimpses(transformer(2), glimpses=T)
    laid_out(layer)
    with pytest.raises(ValueError, match=r"^theta must have shape \(9, 6\), got \(6, 6\)$"):
        layer.forward(normal(N, *SIZE, 2))


# ---- on a GPU


def test_gpu_engine_agrees(quick_device):
    exact = network()
    values = laid_out(exact).data
    x, dy = abs(normal(N, *SIZE, 2)), normal(N, T, K)
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


def test_lost_glimpses_are_counted_on_either_engine(quick_device):
    """All of them begin outside; a step of training notes it."""
    count = 4
    images = np.random.default_rng(0).integers(0, 256, (count, *SIZE, 2), np.uint8)
    labels = np.arange(T * count).reshape(count, T).astype(np.uint8) % K
    split = Split(images, labels, np.zeros((count, 4), np.int16))
    found = []
    for device in (None, quick_device):
        made = network()
        buffer = ParameterBuffer(made.parameters(), 0, device=device)
        bias = next(p for p in buffer.parameters if p.name == "localisation/theta/bias")
        assign(bias.data, np.float32([1, 0, 9, 0, 1, 9]))
        common = made, Optimizer(SGD(), buffer), split, count, 0, Classification()
        steps = (
            PlainSteps(*common, Team(), lambda: pytest.fail("nobody else trains"))
            if device is None
            else QueuedSteps(*common, device, captured=False)
        )
        steps.begin(Epoch(1, np.arange(count), [0.01], 0), 0)
        steps.take(0)
        (outcome,) = steps.outcomes()
        found.append((outcome.left, outcome.errors, pytest.approx(outcome.loss, rel=1e-5)))
    assert found[0] == found[1] and found[0][0] == count
