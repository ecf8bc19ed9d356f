"""The learning-rate multiplier of localisation networks, in every arrangement."""

from functools import partial

import numpy as np
import pytest
from helpers import normal
from test_arrangements import deep
from test_hand_on import network as handing_on

from ministn.data import Form
from ministn.fit import train_on_batch
from ministn.gradcheck.networks import perturbed
from ministn.models import Stn, Tstn
from ministn.optimizers import SGD, Adam, Optimizer
from ministn.parameter import ParameterBuffer

FORM = Form((28, 30), classes=5)

# name: (how the network is made, the shape of its images)
NETWORKS = {
    "one transformer": (lambda: Stn("fcn", "affine").build(FORM), (28, 30)),
    "projective": (lambda: Stn("cnn", "projective").build(FORM), (28, 30)),
    "spline": (lambda: Stn("cnn", "tps").build(FORM), (28, 30)),
    "two in parallel": (
        lambda: Stn("fcn", "tps", 2, "sampled", width=6).build(Form((28, 30), 2, 5)),
        (28, 30, 2),
    ),
    "at any depth, in series and in parallel": (deep, (7, 9, 2)),
    "theta handed on": (handing_on, (7, 9, 2)),
    "tied": (lambda: Tstn(1).build(Form((13, 17), classes=5)), (13, 17)),
}
each = pytest.mark.parametrize("name", NETWORKS)


def moved(name, optimizer, multiplier):
    """How far a step moves each parameter, their gradients, and what localisation alone has."""
    build, shape = NETWORKS[name]
    network = build()
    own = {parameter.name for parameter in network.localisation_only()}
    for parameter in network.localisation_only():
        parameter.lr_multiplier = multiplier
    buffer = perturbed(ParameterBuffer(network.parameters(), 0, np.float64))
    before = buffer.views(buffer.data.copy())
    images, labels = abs(normal(3, *shape)).reshape(3, *shape[:2], -1), np.array([3, 1, 4])
    train_on_batch(network, optimizer(buffer), images, labels, lr=0.01)
    after = buffer.views(buffer.data)
    gradients = {parameter.name: parameter.grad for parameter in buffer.parameters}
    return {key: after[key] - before[key] for key in before}, gradients, own


@each
@pytest.mark.parametrize("multiplier", [0.1, 0.0])
def test_a_step_of_sgd_is_the_gradient_times_rate_and_multiplier(name, multiplier):
    sgd = partial(Optimizer, SGD(momentum=0))
    steps, gradients, own = moved(name, sgd, multiplier)
    assert own and own < steps.keys()
    for key, step in steps.items():
        factor = multiplier if key in own else 1
        assert gradients[key].any(), key
        np.testing.assert_allclose(step, -0.01 * factor * gradients[key], 1e-12, 1e-14, err_msg=key)


@each
def test_a_step_of_adam_is_a_tenth_as_long_for_localisation_alone(name):
    adam = partial(Optimizer, Adam())
    slow, _, own = moved(name, adam, 0.1)
    usual, _, _ = moved(name, adam, 1.0)
    for key, step in slow.items():
        expected = (0.1 if key in own else 1) * usual[key]
        np.testing.assert_allclose(step, expected, 1e-9, 1e-14, err_msg=key)


@each
def test_what_localisation_alone_has_is_named_for_it(name):
    """But for what is tied, which the classifier has too."""
    network = NETWORKS[name][0]()
    own = {parameter.name for parameter in network.localisation_only()}
    assert own == {p.name for p in network.parameters() if p.name.startswith("localisation")}
