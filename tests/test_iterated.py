"""Alignment in several steps: thetas are multiplied, the input sampled once, gradients added up."""

from dataclasses import replace

import numpy as np
import pytest
from helpers import normal

from ministn import ops
from ministn.data import Split
from ministn.gradcheck.networks import perturbed
from ministn.initializers import Constant, HeUniform
from ministn.layers import Conv2d, Dense, Dropout, Flatten, Sequential
from ministn.models import Network
from ministn.optimizers import SGD, Optimizer
from ministn.parallel import Team
from ministn.parameter import ParameterBuffer
from ministn.plot import draw_transformer
from ministn.randomness import Step
from ministn.tasks import Classification
from ministn.training.examples import shown
from ministn.training.steps import Epoch, PlainSteps, QueuedSteps
from ministn.transformer import (
    HandOn,
    Iterated,
    Parallel,
    SpatialTransformer,
    inverse,
    theta_of,
)
from ministn.transformer.samplers import Sampler
from ministn.transformer.transforms import AFFINE, Projective

STEP = Step(seed=5, number=7)
N, SIZE, OUTPUT, CHANNELS = 3, (7, 9), (4, 6), 2
DOUBLED = Sampler("bicubic", "zeros", 0.5, supersampling=2)


def looking(owner="a", hidden=3):
    """A localisation network whose thetas depend on what it sees."""
    features = SIZE[0] * SIZE[1] * hidden
    return Sequential(
        Conv2d(f"{owner}/conv", CHANNELS, hidden),
        Flatten(f"{owner}/flatten"),
        Dense(f"{owner}/theta", features, 6, initial=HeUniform(0.2),
              initial_bias=Constant(AFFINE.identity)),
    )  # fmt: skip


def always(*thetas):
    """Networks that predict these thetas whatever they see."""
    made = [
        Dense(f"{k}/theta", SIZE[0] * SIZE[1] * CHANNELS, 6, initial=Constant(0.0),
              initial_bias=Constant(theta.reshape(6)))
        for k, theta in enumerate(thetas)
    ]  # fmt: skip
    return [Sequential(Flatten(f"{dense.path}/flatten"), dense) for dense in made]


def laid_out(layer, dtype=np.float64, device=None):
    buffer = ParameterBuffer(layer.parameters(), 0, dtype, device)
    return perturbed(buffer) if device is None else buffer


def kept(layer):
    """With the values that it begins with."""
    ParameterBuffer(layer.parameters(), 0, np.float64)
    return layer


def three():
    first = looking()
    return first, looking("b", 2), first


# ---- what it computes


def affine(seed):
    rng = np.random.default_rng(seed)
    angle, scale = rng.uniform(-40, 40, 1), rng.uniform(0.7, 1.3, 1)
    return theta_of(angle, scale, rng.uniform(-0.3, 0.3, (1, 2)))


@pytest.mark.parametrize("order", ["right", "left"])
def test_two_known_warps_are_their_product_sampled_once(order):
    first, second = affine(1), affine(2)
    layer = SpatialTransformer(Iterated(*always(first, second), order=order), OUTPUT)
    x = normal(N, *SIZE, CHANNELS)
    product, _ = ops.compose(*((first, second) if order == "right" else (second, first)))
    thetas = np.repeat(product, N, axis=0)
    np.testing.assert_array_equal(kept(layer).theta(x).reshape(N, 2, 3), thetas)
    grid, _ = ops.affine_grid(thetas, OUTPUT)
    np.testing.assert_array_equal(layer.forward(x)[0], ops.bilinear_sampler(x, grid)[0])


def test_a_warp_and_its_inverse_leave_the_input_as_it_was():
    """Where a second warp of the first one's output would have lost what lay outside."""
    theta = theta_of(np.array([0.0]), np.array([0.25]), np.array([[0.5, 0.25]]))
    layer = SpatialTransformer(Iterated(*always(theta, inverse(theta))), SIZE)
    x = normal(N, *SIZE, CHANNELS)
    np.testing.assert_array_equal(kept(layer).forward(x)[0], x)


@pytest.mark.parametrize("sampler", [Sampler(), DOUBLED], ids=["bilinear", "bicubic, averaged"])
@pytest.mark.parametrize("order", ["right", "left"])
def test_each_look_is_at_the_input_warped_by_the_theta_before(order, sampler):
    looks = three()
    layer = Iterated(*looks, order=order, sampler=sampler)
    laid_out(layer)
    x = normal(N, *SIZE, CHANNELS)
    warping = SpatialTransformer(looks[0], SIZE, sampler=sampler)
    theta = looks[0].forward(x)[0]
    for look in looks[1:]:
        more = look.forward(warping.warp(x, theta))[0].reshape(N, 2, 3)
        pair = (
            (theta.reshape(N, 2, 3), more) if order == "right" else (more, theta.reshape(N, 2, 3))
        )
        theta = ops.compose(*pair)[0].reshape(N, 6)
    np.testing.assert_array_equal(layer.forward(x)[0], theta)
    assert abs(theta - looks[0].forward(x)[0]).min() > 1e-3
    assert layer.forward(x[:0])[0].shape == (0, 6)


def test_the_orders_differ_and_agree_where_all_looks_are_shifts():
    shifts = [theta_of(np.zeros(1), None, np.array([shift])) for shift in ([0.5, 0], [0.25, -1])]
    x = normal(N, *SIZE, CHANNELS)
    for thetas, same in ((shifts, True), ([affine(1), affine(2)], False)):
        found = [kept(Iterated(*always(*thetas), order=o)).forward(x)[0] for o in ("right", "left")]
        assert np.array_equal(*found) == same


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_one_look_is_a_plain_transformer_to_the_last_bit(dtype):
    plain = SpatialTransformer(looking(), OUTPUT)
    iterated = SpatialTransformer(Iterated(plain.localisation), OUTPUT)
    buffer, x = laid_out(plain, dtype), normal(N, *SIZE, CHANNELS).astype(dtype)
    found = []
    for layer in (plain, iterated):
        buffer.zero_grad()
        y, cache = layer.forward(x, STEP)
        found.append([y, layer.backward(y, cache), buffer.grad.copy(), *layer.thetas(cache)])
    for one, other in zip(*found, strict=True):
        np.testing.assert_array_equal(one, other)


def test_gradients_of_a_network_are_the_sum_of_its_looks():
    """Against networks of their own with the same values, one for each look."""
    shared = looking()
    tied = SpatialTransformer(Iterated(shared, shared, shared), OUTPUT)
    apart = SpatialTransformer(Iterated(*map(looking, "abc")), OUTPUT)
    whole, parts = laid_out(tied), laid_out(apart)
    parts.data[...] = np.tile(whole.data, 3)
    x, dy, found = normal(N, *SIZE, CHANNELS), normal(N, *OUTPUT, CHANNELS), []
    for layer in (tied, apart):
        y, cache = layer.forward(x, STEP)
        found.append([y, layer.backward(dy, cache)])
        assert layer.backward(dy, cache, need_dx=False) is None
    for one, other in zip(*found, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-14)
    uses = parts.grad.reshape(3, -1)
    np.testing.assert_allclose(whole.grad, uses.sum(axis=0), rtol=1e-10, atol=1e-12)
    assert all(parameter.grad.any() for parameter in parts.parameters)


def test_each_look_drops_other_values():
    seen = []

    class Watching(Dropout):
        def forward(self, x, step=None):
            seen.append(super().forward(np.ones_like(x), step)[0])
            return super().forward(x, step)

    watching = Sequential(Watching("dropout", 0.4), *looking().layers)
    layer = Iterated(watching, watching)
    laid_out(layer)
    x = normal(5, *SIZE, CHANNELS)
    layer.forward(x, STEP)
    masks = [mask.copy() for mask in seen]
    whole = Dropout("dropout", 0.4).forward(np.ones_like(x), STEP)[0]
    assert len({mask.tobytes() for mask in (*masks, whole)}) == 3
    seen.clear()
    layer.forward(x[2:], replace(STEP, first_row=2))
    for mask, part in zip(masks, seen, strict=True):
        np.testing.assert_array_equal(mask[2:], part)


# ---- in a network


def network(front=True):
    """In front, or behind a convolution whose map it transforms."""
    transformer = SpatialTransformer(Iterated(*three()), OUTPUT)
    features = OUTPUT[0] * OUTPUT[1] * CHANNELS
    layers = Flatten("flatten"), Dense("softmax", features, 5)
    if front:
        return Network(Sequential(*layers), transformer)
    return Network(Sequential(Conv2d("first", CHANNELS, CHANNELS), transformer, *layers))


@pytest.mark.parametrize("front", [True, False])
def test_it_is_watched_as_one_transformer(front):
    made = network(front)
    laid_out(made, np.float32)
    x = abs(normal(N, *SIZE, CHANNELS)).astype(np.float32)
    logits, cache = made.forward(x, STEP)
    seen, (look,) = made.predict(x)
    np.testing.assert_array_equal(seen, logits)
    (theta,), (transformer,) = made.thetas(cache), made.transformers
    np.testing.assert_array_equal(look.theta, theta)
    maps = x if front else made.classifier.layers[0].forward(x)[0]
    np.testing.assert_array_equal(transformer.theta(maps).reshape(N, 2, 3), theta)
    assert {p.name.split("/")[0] for p in made.localisation_only()} == {"a", "b"}


def test_pictures_show_the_last_theta():
    made = network()
    laid_out(made, np.float32)
    x = abs(normal(N, *SIZE, CHANNELS))
    split = Split(np.uint8(x), np.zeros(N, np.uint8), np.zeros((N, 4), np.int16))
    theta = shown(split, made.front)["theta"]
    assert np.shape(theta) == (N, 6)
    axes = draw_transformer(made.front, x.astype(np.float32)).axes
    assert len(axes) == 3 * N


def test_it_may_be_handed_on_and_stand_in_parallel():
    x = normal(N, *SIZE, CHANNELS)
    transformer = SpatialTransformer(Iterated(*three()), OUTPUT)
    handing, both = HandOn(transformer, Flatten("flatten")), Parallel(transformer, transformer)
    for layer in (handing, both):
        laid_out(layer)
        y, cache = layer.forward(x, STEP)
        assert layer.backward(y, cache).shape == x.shape
    np.testing.assert_array_equal(handing.forward(x)[0][:, -6:], transformer.theta(x))


def test_first_layer_with_non_finite_values_is_named():
    made = network()
    buffer = laid_out(made, np.float32)
    x = abs(normal(N, *SIZE, CHANNELS)).astype(np.float32)
    inside = [path for path, _ in made.front.outputs(x, STEP)]
    each = [[f"{owner}/{layer}" for layer in ("conv", "flatten", "theta")] for owner in "aba"]
    paths = [*(path for some in each for path in some), "iterated"]
    assert inside == [*(f"{path} in the localisation network" for path in paths), "transformer"]
    assert made.first_non_finite(x, STEP) is None
    *_, (_, theta) = made.front.localisation.outputs(x, STEP)
    np.testing.assert_array_equal(theta, made.front.localisation.forward(x, STEP)[0])
    next(p for p in buffer.parameters if p.name == "b/theta/weight").data[...] = np.nan
    with np.errstate(invalid="ignore"):
        assert made.first_non_finite(x, STEP) == "b/theta in the localisation network"


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: Iterated(), ValueError, "localisations must be at least 1, got 0"),
        (lambda: Iterated(looking(), order="up"), ValueError, "order must be 'right' or 'left'"),
        (lambda: Iterated(3), TypeError, "a localisation network must be a Layer, got int"),
    ],
)
def test_impossible_looks_are_refused_when_made(make, error, message):
    with pytest.raises(error, match=f"^{message}"):
        make()


@pytest.mark.parametrize("later", [False, True])
def test_only_affine_thetas_are_composed(later):
    count = len(Projective.identity)
    other = Sequential(Flatten("flat"), Dense("other", SIZE[0] * SIZE[1] * CHANNELS, count))
    layer = Iterated(looking(), other) if later else Iterated(other)
    laid_out(layer)
    with pytest.raises(ValueError, match=r"^theta must have shape \(3, 6\), got \(3, 8\)$"):
        layer.forward(normal(N, *SIZE, CHANNELS))


# ---- on a GPU


@pytest.mark.parametrize("front", [True, False])
def test_gpu_engine_agrees(quick_device, front):
    exact = network(front)
    values = laid_out(exact).data
    x, dy = abs(normal(N, *SIZE, CHANNELS)), normal(N, 5)
    y, cache = exact.forward(x, STEP)
    exact.backward(dy, cache)
    wanted = {"y": y} | {p.name: p.grad for p in exact.parameters()}

    made = network(front)
    buffer = laid_out(made, np.float32, quick_device)
    buffer.data[...] = quick_device.to_gpu(values.astype(np.float32))
    y, cache = made.forward(quick_device.to_gpu(x.astype(np.float32)), STEP)
    made.backward(quick_device.to_gpu(dy.astype(np.float32)), cache)
    found = {"y": y} | {p.name: p.grad for p in made.parameters()}
    for name, want in wanted.items():
        got = quick_device.to_cpu(found[name])
        np.testing.assert_allclose(got, want, rtol=0, atol=2e-5 * abs(want).max(), err_msg=name)


def test_a_queued_step_has_the_loss_of_a_plain_one(quick_device):
    """On the engine whose steps a real GPU records as a graph."""
    count = 4
    images = np.random.default_rng(0).integers(0, 256, (count, *SIZE, CHANNELS), np.uint8)
    split = Split(images, np.arange(count, dtype=np.uint8), np.zeros((count, 4), np.int16))
    found = []
    for device in (None, quick_device):
        made = network()
        buffer = ParameterBuffer(made.parameters(), 0, device=device)
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
    assert found[0] == found[1]
