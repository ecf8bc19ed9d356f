"""The networks that classify a volume by its projection, and the volumes they are trained on."""

from dataclasses import replace

import numpy as np
import pytest
from helpers import normal

from ministn import backend, ops
from ministn.data import Form
from ministn.data.extruded import Volumes, draw, true_poses
from ministn.engines import implementation
from ministn.errors import UserError
from ministn.gradcheck.networks import perturbed
from ministn.kinds import from_json, to_json
from ministn.metrics.attention import left_image
from ministn.metrics.pose import FRAME
from ministn.models import Projected
from ministn.models.prediction import predict
from ministn.models.projection import PROJECTED
from ministn.models.stn import PARAMETERS
from ministn.optimizers import Adam, Optimizer
from ministn.parameter import ParameterBuffer
from ministn.randomness import Step

STEP = Step(seed=5, number=7)
SMALL = (28, 31, 29)
CLASSES = 5
BOUND = 2e-5  # of the norm of a gradient, as in test_stn.py
NETWORKS = {network.name: network for network in PROJECTED}
each = pytest.mark.parametrize("name", NETWORKS)


def laid_out(name, dtype=np.float32, size=SMALL, device=None):
    """A narrow network as training starts, and its buffer."""
    network = replace(NETWORKS[name], width=6).build(Form(size, classes=CLASSES))
    return network, ParameterBuffer(network.parameters(), 0, dtype, device)


def solids(count, dtype=np.float32):
    return abs(normal(count, *SMALL)).astype(dtype)


def loss_and_gradients(network, buffer, x, labels):
    logits, cache = network.forward(x, STEP)
    cross_entropy, cross_entropy_backward = implementation("softmax_cross_entropy", logits)
    loss, loss_cache = cross_entropy(logits, labels)
    buffer.zero_grad()
    network.backward(cross_entropy_backward(loss_cache), cache)
    gradients = {p.name: backend.to_cpu(p.grad).copy() for p in buffer.parameters}
    return gradients | {"loss": np.array(backend.to_cpu(loss)).reshape(())}


# ---- sizes


# What all records so far were trained with.
COUNTS = {
    "projection-fcn": 401_770,
    "projection-cnn": 400_250,
    "projection-st-fcn": 399_639,
    "projection-st-cnn": 402_922,
}


@each
def test_parameters(name):
    network = NETWORKS[name].build(Form((60, 60, 60)))
    assert network.count == COUNTS[name]
    assert abs(network.count - PARAMETERS) < 0.01 * PARAMETERS
    localisation = (15**3 + 1) * 32 + 2 * (32 + 1) * 32 + (32 + 1) * 12
    found = sum(parameter.size for parameter in network.localisation_only())
    assert found == ("-st-" in name) * localisation
    if "-st-" in name:
        assert network.transformer.size == (30, 30, 30)


def test_what_a_transformer_returns_is_never_too_small_for_the_cnn():
    network, _ = laid_out("projection-st-cnn", size=(28, 60, 52))
    assert network.transformer.size == (24, 30, 26)


@each
@pytest.mark.parametrize(
    ("size", "written"), [((60, 27, 60), "60x27x60"), ((60, 60), "60x60"), ((27,) * 3, "27x27x27")]
)
def test_volumes_that_are_too_small_are_refused(name, size, written):
    with pytest.raises(UserError, match=f"^volumes must have at least 28x28x28 .*, got {written}$"):
        NETWORKS[name].build(Form(size))


def test_volumes_that_are_too_large_are_refused():
    with pytest.raises(UserError, match=r"^inputs of 99x99x99 are too large .* 400,000 parameters"):
        Projected("fcn", transformed=True).build(Form((99, 99, 99)))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"base": "rnn"}, "base must be fcn or cnn, got 'rnn'"),
        ({"base": "cnn", "width": 0}, "width must be at least 1, got 0"),
        ({"base": "cnn", "halved": "pooled"}, "projected has no halved; it has base, transformed,"),
        ({"transformed": True}, "projected needs base"),
    ],
)
def test_networks_that_there_are_not_are_refused(fields, message):
    with pytest.raises(UserError, match=f"^{message}"):
        from_json({"kind": "projected", **fields})


def test_they_are_named_as_they_are_made():
    for network in PROJECTED:
        assert from_json(to_json(network)) == network
        start = "projection-st-" if network.transformed else "projection-"
        assert network.name == start + network.base
    assert len(NETWORKS) == 4


# ---- what they compute


@pytest.mark.parametrize("name", ["projection-fcn", "projection-cnn"])
def test_base_networks_classify_the_projection(name):
    network, _ = laid_out(name)
    x = solids(3)
    logits, looked = network.predict(x)
    y = x.mean(axis=1)[..., None]
    for layer in network.classifier.layers[1:]:
        y, _ = layer.forward(y)
    np.testing.assert_array_equal(logits, y)
    assert looked == []


@pytest.mark.parametrize("name", ["projection-st-fcn", "projection-st-cnn"])
def test_they_start_at_the_identity(name):
    """All see the whole volume, at other points."""
    network, _ = laid_out(name)
    x = solids(2)
    logits, (looked,) = network.predict(x)
    np.testing.assert_array_equal(looked.theta, [np.eye(2, 3)] * 2)
    np.testing.assert_allclose(looked.grid, np.tile(FRAME, (2, 1, 1, 1)), atol=1e-6)
    grid, _ = ops.affine_grid_3d(np.tile(np.eye(3, 4, dtype=np.float32), (2, 1, 1)), (24, 24, 24))
    y, _ = ops.projection(ops.trilinear_sampler(x, grid)[0])
    for layer in network.classifier.layers[1:]:
        y, _ = layer.forward(y)
    np.testing.assert_array_equal(logits, y)


def gradients(name, dtype, device=None):
    """Loss and gradients of the perturbed network; on a device labels are int32."""
    network, buffer = laid_out(name, dtype, device=device)
    backend.assign(buffer.data, perturbed(laid_out(name)[1]).data)
    x, labels = solids(3, dtype), np.array([3, 1, 4], np.int32)
    if device is not None:
        x, labels = device.to_gpu(x), device.to_gpu(labels)
    return loss_and_gradients(network, buffer, x, labels)


def check_gradients(found, exact):
    for key, want in exact.items():
        assert want.any(), key
        assert np.linalg.norm(found[key] - want) < BOUND * np.linalg.norm(want), key


@each
def test_float32_agrees_with_float64_and_every_parameter_learns(name):
    check_gradients(gradients(name, np.float32), gradients(name, np.float64))


@each
def test_a_gpu_agrees_with_float64(quick_device, name):
    found = gradients(name, np.float32, quick_device)
    check_gradients(found, gradients(name, np.float64))
    again = gradients(name, np.float32, quick_device)
    assert all(np.array_equal(again[key], gradient) for key, gradient in found.items())


@each
def test_a_few_steps_lower_the_loss(name):
    """To 52 % of what it was at most, measured. All layers are alike, lest projections be grey."""
    network, buffer = laid_out(name)
    x = abs(normal(6, 1, *SMALL[1:])).astype(np.float32).repeat(SMALL[0], axis=1)
    labels = np.arange(6) % CLASSES
    losses, optimizer = [], Optimizer(Adam(), buffer)
    for _ in range(30):
        losses.append(float(loss_and_gradients(network, buffer, x, labels)["loss"]))
        optimizer.step(0.001)
    assert losses[-1] < 0.7 * losses[0]
    if "-st-" in name:
        theta = network.transformer.theta(x)
        assert abs(theta - np.float32(network.transformer.transform.identity)).max() > 1e-4


def test_a_layer_that_is_not_finite_is_found():
    network, buffer = laid_out("projection-st-fcn")
    assert network.first_non_finite(solids(1), STEP) is None
    for parameter in buffer.parameters:
        if parameter.name == "localisation/dense2/bias":
            parameter.data[0] = np.nan
    found = network.first_non_finite(solids(1), STEP)
    assert found == "localisation/dense2 in the localisation network"


# ---- what training needs


def test_predictions_for_volumes_that_are_not_made_yet():
    images = np.random.default_rng(0).integers(0, 256, (3, 28, 28)).astype(np.uint8)
    lazy = Volumes(images, draw("test", 3, seed=0))
    network, _ = laid_out("projection-st-fcn", size=lazy.shape[1:])
    logits, (looked,) = predict(network, lazy)
    expected, _ = network.predict(ops.as_batch(lazy[:]))
    np.testing.assert_array_equal(logits, expected)
    assert looked.theta.shape == (3, 2, 3) and not left_image(looked.theta).any()


def test_true_theta_shows_the_digit_upright_and_unmoved():
    """All projections of the same digit are then alike, however it was turned and moved."""
    y, x = np.mgrid[-1:1:28j, -1:1:28j]
    smooth = (255 * np.exp(-((x - 0.2) ** 2 / 0.1 + (y + 0.1) ** 2 / 0.3))).astype(np.uint8)
    motions = draw("test", 5, seed=2)
    lazy = Volumes(np.repeat(smooth[None], 5, axis=0), motions)
    network, _ = laid_out("projection-st-fcn", size=lazy.shape[1:])
    seen = network.transformer.warp(ops.as_batch(lazy[:]), true_poses(motions))
    shown = seen[:, 3:-3].mean(axis=1)  # turned slabs are cut off at the ends
    expected = np.mean(shown, axis=0)
    assert np.abs(shown - expected).max() < 0.03
    plain = ops.as_batch(lazy[:])[:, ::2, ::2, ::2].mean(axis=1)
    assert np.abs(plain - plain.mean(axis=0)).max() > 0.2
