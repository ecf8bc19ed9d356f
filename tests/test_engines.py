"""Whole networks at equal parameters: the fast engine, the readable one, and that in float64."""

from contextlib import nullcontext
from functools import partial
from itertools import combinations
from unittest.mock import patch

import numpy as np
import pytest

from ministn import ops
from ministn.data import Form
from ministn.engines import readable_only
from ministn.fast import ways
from ministn.gradcheck.networks import perturbed
from ministn.models import NETWORKS
from ministn.parameter import ParameterBuffer
from ministn.randomness import Step

CLASSES = 5
WINOGRAD = partial(patch.multiple, ways)  # for which convolutions the fast engine uses it
ENGINES = {  # dtype, and what forces the engine
    "float64": (np.float64, nullcontext),
    "readable": (np.float32, readable_only),
    "columns": (np.float32, partial(WINOGRAD, LEAST=np.inf)),
    "fast": (np.float32, nullcontext),
    "winograd": (np.float32, partial(WINOGRAD, LEAST=1, COPY=np.inf)),
}

# Of the norm of a gradient, or of the loss. Largest differences measured in a perturbed and in the
# initial state: float64 to readable or columns 1.0e-5 and 7.2e-7, these two 1.3e-6 and 2.2e-7.
BOUND = 2e-5
# A convolution by Winograd is two to three times as far off as one by columns. Measured between
# it and any other: 1.8e-5 and 2.1e-6 with it where it pays, 2.5e-5 and 1.9e-6 with it everywhere.
WINOGRAD_BOUND = 5e-5

# Where a ReLU, a pool or a point is within rounding of a kink, engines may rightly differ by some
# hundredths, and for other images some do. For these none is near: parameters that are off by 5e-7
# of themselves change no gradient by more than 3e-5 of it.
IMAGES, SEED = 2, 2


def size_of(name):
    return (33, 35) if name == "small-stn" else (13, 17)


def build(name):
    return NETWORKS[name].build(Form(size_of(name), classes=CLASSES))


def parameters(name, state):
    """All values in one float32 array: as training starts, or moved off that."""
    buffer = ParameterBuffer(build(name).parameters(), seed=0)
    return (perturbed(buffer) if state == "perturbed" else buffer).data


def run(name, values, engine):
    """{"loss": the loss, name of a parameter: its gradient}, the network and its cache."""
    dtype, chosen = ENGINES[engine]
    network = build(name)
    buffer = ParameterBuffer(network.parameters(), 0, dtype)
    buffer.data[...] = values
    rng = np.random.default_rng(SEED)
    images = rng.random((IMAGES, *size_of(name), 1), np.float32).astype(dtype)
    labels = rng.integers(0, CLASSES, IMAGES)
    with chosen():
        logits, cache = network.forward(images, Step(seed=1, number=2))
        loss, loss_cache = ops.softmax_cross_entropy(logits, labels)
        network.backward(ops.softmax_cross_entropy_backward(loss_cache), cache)
    found = {parameter.name: parameter.grad for parameter in buffer.parameters}
    return found | {"loss": np.array(loss)}, network, cache


@pytest.mark.parametrize("state", ["perturbed", "initial"])
@pytest.mark.parametrize("name", NETWORKS)
def test_engines_agree_on_loss_and_gradients(name, state):
    values = parameters(name, state)
    found = {engine: run(name, values, engine)[0] for engine in ENGINES}
    for pair in combinations(ENGINES, 2):
        bound = BOUND if {"fast", "winograd"}.isdisjoint(pair) else WINOGRAD_BOUND
        one, other = (found[engine] for engine in pair)
        assert one.keys() == other.keys()
        for key, expected in one.items():
            difference = np.linalg.norm(other[key] - expected)
            assert difference <= bound * np.linalg.norm(expected), (key, pair)


@pytest.mark.parametrize("name", NETWORKS)
def test_perturbed_state_leaves_nothing_out(name):
    """Every parameter has a gradient, no bias is zero, no point is on a whole pixel."""
    found, network, cache = run(name, parameters(name, "perturbed"), "float64")
    assert [key for key, gradient in found.items() if not gradient.any()] == []
    assert all(parameter.data.all() for parameter in network.parameters())
    if network.transformer is not None:
        assert distance_from_whole_pixels(cache.transformer.theta, network, name) > 1e-4


@pytest.mark.parametrize("name", NETWORKS)
def test_initial_state_is_the_papers(name):
    """Points lie on whole pixels, and no gradient passes the zero weights of the regression."""
    found, network, cache = run(name, parameters(name, "initial"), "float64")
    regression = ("localisation/theta/weight", "localisation/theta/bias")
    own = {parameter.name for parameter in network.localisation_only()}
    assert {key for key, gradient in found.items() if not gradient.any()} == own - {*regression}
    if network.transformer is not None:
        assert distance_from_whole_pixels(cache.transformer.theta, network, name) == 0


def distance_from_whole_pixels(theta, network, name):
    """Of the sampled coordinate that comes closest."""
    height, width = size_of(name)
    grid, _ = ops.affine_grid(theta, network.transformer.size)
    pixels = (grid + 1) * (np.array([width, height]) - 1) / 2
    return abs(pixels - np.round(pixels)).min()
