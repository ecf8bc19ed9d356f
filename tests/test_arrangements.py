"""Spatial transformers side by side, one after another, and between a network's layers."""

import numpy as np
import pytest
from helpers import normal

from ministn import ops
from ministn.backend import assign
from ministn.data import Split
from ministn.gradcheck import check_gradients
from ministn.gradcheck.networks import loss_problem, perturbed
from ministn.layers import Conv2d, Dense, Flatten, Sequential
from ministn.models import Network
from ministn.optimizers import SGD, Optimizer
from ministn.parallel import Team
from ministn.parameter import ParameterBuffer
from ministn.randomness import Step
from ministn.tasks import Classification
from ministn.training.steps import Epoch, PlainSteps, QueuedSteps
from ministn.transformer import (
    HandOn,
    Parallel,
    SpatialTransformer,
    regression_layer,
)
from ministn.transformer.transforms import AFFINE, Attention, General, Projective, ThinPlateSpline

STEP = Step(seed=5, number=7)
OUTPUT = (4, 6)


def transformer(number, size=(7, 9), channels=2, output=OUTPUT, transform=AFFINE):
    features = size[0] * size[1] * channels
    localisation = Sequential(
        Flatten(f"localisation{number}/flatten"),
        regression_layer(f"localisation{number}/theta", features, transform),
    )
    return SpatialTransformer(
        localisation, output, transform=transform, path=f"transformer{number}"
    )


def side_by_side():
    """Two transformers that look elsewhere, and an input."""
    parallel = Parallel(transformer(1), transformer(2, transform=Attention()))
    perturbed(ParameterBuffer(parallel.parameters(), 0, np.float64))
    return parallel, normal(3, 7, 9, 2)


def test_outputs_are_joined_along_the_channels_and_gradients_summed():
    parallel, x = side_by_side()
    y, cache = parallel.forward(x, STEP)
    assert y.shape == (3, *OUTPUT, 4)
    dy = normal(*y.shape)
    parameters = parallel.parameters()
    dx = parallel.backward(dy, cache)
    together = [p.grad.copy() for p in parameters]
    for p in parameters:
        p.grad[...] = 0
    expected = 0
    for k, each in enumerate(parallel.at_input):
        own, own_cache = each.forward(x, STEP)
        np.testing.assert_array_equal(y[..., 2 * k : 2 * k + 2], own)
        expected = expected + each.backward(dy[..., 2 * k : 2 * k + 2], own_cache)
    np.testing.assert_allclose(dx, expected, rtol=1e-13, atol=1e-14)
    assert len(parameters) == 4
    for p, gradient in zip(parameters, together, strict=True):
        assert gradient.any()
        np.testing.assert_array_equal(p.grad, gradient)
    assert parallel.backward(dy, cache, need_dx=False) is None


def test_each_of_several_has_a_look_and_is_watched():
    parallel, x = side_by_side()
    first, second = parallel.transformers
    _, cache = parallel.forward(x, STEP)
    y, looks = parallel.predict(x)
    assert parallel.forward(x)[1] is None
    np.testing.assert_array_equal(parallel.forward(x)[0], y)
    alone = [*first.predict(x)[1], *second.predict(x)[1]]
    assert len(alone) == 2 and alone[0].grid.shape == (3, 4, 4, 2)
    for looked, watched, each in zip(looks, parallel.thetas(cache), alone, strict=True):
        np.testing.assert_array_equal(watched, each.theta)
        np.testing.assert_array_equal(looked.theta, each.theta)
        np.testing.assert_array_equal(looked.grid, each.grid)
    thetas = [transformer.theta(x) for transformer in parallel.transformers]
    np.testing.assert_array_equal(parallel.theta(x), np.concatenate(thetas, axis=1))
    network = Network(Sequential(Flatten("flatten"), Dense("dense", 4 * 6 * 4, 3)), parallel)
    assert network.transformer is first
    ParameterBuffer(network.parameters(), 0, np.float64)
    logits, looks = network.predict(x)
    trained, kept = network.forward(x, STEP)
    np.testing.assert_array_equal(logits, trained)
    for looked, watched in zip(looks, network.thetas(kept), strict=True):
        np.testing.assert_array_equal(looked.theta, watched)


def test_outputs_of_several_sizes_are_refused():
    with pytest.raises(ValueError, match=r"outputs of one size, got \(4, 6\), \(4, 5\)"):
        Parallel(transformer(1), transformer(2, output=(4, 5)))
    with pytest.raises(ValueError, match="outputs of one size, got none"):
        Parallel()


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (
            lambda: Parallel(transformer(1), Parallel(transformer(2))),
            TypeError,
            "a transformer in parallel must be a SpatialTransformer, got Parallel",
        ),
        (
            lambda: Parallel(HandOn(transformer(1), Flatten("flatten"))),
            TypeError,
            "a transformer in parallel must be a SpatialTransformer, got HandOn",
        ),
        (
            lambda: HandOn(Parallel(transformer(1), transformer(2)), Flatten("flatten")),
            TypeError,
            "transformer must be a SpatialTransformer, got Parallel",
        ),
        (
            lambda: SpatialTransformer(Sequential(), OUTPUT, transform=ThinPlateSpline),
            TypeError,
            "transform must be a Transform, got the class ThinPlateSpline",
        ),
        (
            lambda: General("general", Projective(), OUTPUT),
            TypeError,
            "start must be a Linear, got Projective",
        ),
        (
            lambda: General("general", Attention, OUTPUT),
            TypeError,
            "start must be a Linear, got the class Attention",
        ),
        (
            lambda: SpatialTransformer(Sequential(), OUTPUT, start=(1, 2)),
            ValueError,
            "start must be 6 numbers, got 2",
        ),
    ],
)
def test_impossible_arrangements_are_refused_when_made(make, error, message):
    with pytest.raises(error, match=f"^{message}$"):
        make()


def deep():
    """One transformer in front, one on feature maps, two side by side on warped feature maps."""
    pair = Parallel(
        transformer(3, OUTPUT, 3, (3, 3)), transformer(4, OUTPUT, 3, (3, 3), Attention())
    )
    classifier = Sequential(
        Conv2d("classifier/conv", 2, 3),
        transformer(2, OUTPUT, 3),
        pair,
        Flatten("classifier/flatten"),
        Dense("classifier/dense", 3 * 3 * 6, 5),
    )
    return Network(classifier, transformer(1))


def test_at_any_depth_gradients_are_those_of_finite_differences():
    problem = loss_problem(deep(), (7, 9, 2))
    gradients = problem.gradients()
    assert len(gradients) == 2 * 6 and all(gradient.any() for gradient in gradients.values())
    report = check_gradients(problem.value, problem.arrays, gradients, eps=1e-6, elements=60)
    assert report.error < 1e-6


def test_localisation_networks_at_any_depth_have_a_learning_rate_of_their_own():
    names = [p.name for p in deep().localisation_only()]
    assert sorted(names) == [
        f"localisation{n}/theta/{kind}" for n in (1, 2, 3, 4) for kind in ("bias", "weight")
    ]


@pytest.mark.parametrize("lost", [1, 2, 3, 4])
def test_a_lost_image_is_seen_at_any_depth(lost, quick_device):
    """Of the transformer that looks beside its input all images are counted, on either engine."""
    count, found = 3, []
    images = np.random.default_rng(0).integers(0, 256, (count, 7, 9, 2), np.uint8)
    split = Split(images, np.arange(count).astype(np.uint8), np.zeros((count, 4), np.int16))
    for device in (None, quick_device):
        network = deep()
        buffer = ParameterBuffer(network.parameters(), 0, device=device)
        bias = next(p for p in buffer.parameters if p.name == f"localisation{lost}/theta/bias")
        assign(bias.data, np.float32([1, 9, 9] if lost == 4 else [1, 0, 9, 0, 1, 9]))
        assert [one.path for one in network.transformers] == [
            f"transformer{n}" for n in (1, 2, 3, 4)
        ]
        common = network, Optimizer(SGD(), buffer), split, count, 0, Classification()
        steps = (
            PlainSteps(*common, Team(), lambda: pytest.fail("nobody else trains"))
            if device is None
            else QueuedSteps(*common, device, captured=False)
        )
        steps.begin(Epoch(1, np.arange(count), [0.0], 0), 0)
        steps.take(0)
        (outcome,) = steps.outcomes()
        found.append(outcome.left)
    assert found == [count, count]


@pytest.mark.parametrize(
    ("parameter", "expected"),
    [
        ("localisation1/theta/bias", "localisation1/theta in the localisation network"),
        ("classifier/conv/bias", "classifier/conv"),
        ("localisation2/theta/bias", "localisation2/theta in the localisation network"),
        ("localisation4/theta/weight", "localisation4/theta in the localisation network"),
        ("classifier/dense/weight", "classifier/dense"),
    ],
)
def test_first_layer_with_non_finite_values_is_named_at_any_depth(parameter, expected):
    network = deep()
    buffer = ParameterBuffer(network.parameters(), 0)
    x = abs(normal(3, 7, 9, 2)).astype(np.float32)
    assert network.first_non_finite(x, STEP) is None
    poisoned = next(p for p in buffer.parameters if p.name == parameter)
    poisoned.data[...] = np.inf
    with np.errstate(all="ignore"):
        assert network.first_non_finite(x, STEP) == expected


def test_layers_are_named_in_the_order_in_which_they_run():
    network = deep()
    ParameterBuffer(network.parameters(), 0)
    x = abs(normal(3, 7, 9, 2)).astype(np.float32)
    found = list(network._all().outputs(x, STEP))
    assert [path for path, _ in found if "localisation" not in path] == [
        "transformer1",
        "classifier/conv",
        "transformer2",
        "transformer3",
        "transformer4",
        "transformers",
        "classifier/flatten",
        "classifier/dense",
    ]
    np.testing.assert_array_equal(found[-1][1], network.predict(x)[0])


def test_two_in_series_warp_by_the_product():
    """The second's output is the input sampled where the first puts the second's points."""
    first, second = transformer(1, (7, 9), 2, (7, 9)), transformer(2, (7, 9), 2, (7, 9))
    buffer = ParameterBuffer([*first.parameters(), *second.parameters()], 0, np.float64)
    shift = np.array([2 / 8, 2 / 6])  # one pixel right and one down
    for p in buffer.parameters:
        if p.name.endswith("bias"):
            p.data[[2, 5]] = shift
    x = normal(2, 7, 9, 2)
    y, _ = Sequential(first, second).forward(x)
    np.testing.assert_allclose(y[:, :5, :7], x[:, 2:, 2:], atol=1e-13)
    product, _ = ops.compose(first.theta(x).reshape(2, 2, 3), second.theta(x).reshape(2, 2, 3))
    np.testing.assert_allclose(product[:, :, 2], np.tile(2 * shift, (2, 1)))
