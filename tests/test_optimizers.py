"""Adam against a plain re-statement of Lasagne's formula, and the learning-rate schedule."""

from math import sqrt

import numpy as np
import pytest

from ministn.initializers import Normal
from ministn.ops.adam import BLOCK
from ministn.optimizers import Adam, Optimizer, step_decay
from ministn.parameter import Parameter, ParameterBuffer

# Rounding over ten steps of values up to 4; the largest differences measured: 6.4e-7 and 4e-16.
TOLERANCE = {np.float32: 1e-6, np.float64: 2e-15}


def network(dtype=np.float64, multipliers=(1.0, 0.1)) -> tuple[list[Parameter], ParameterBuffer]:
    """A parameter that ends just behind a block of the update, and a small one."""
    shapes = {"long": (BLOCK + 3,), "small": (3, 5)}
    made = [Parameter(name, shape, Normal(1.0)) for name, shape in shapes.items()]
    for parameter, multiplier in zip(made, multipliers, strict=True):
        parameter.lr_multiplier = multiplier
    return made, ParameterBuffer(made, 0, dtype)


def gradient(parameter: Parameter, t: int) -> np.ndarray:
    """Some values are 0, some far below Adam's epsilon, some large."""
    rng = np.random.default_rng([t, parameter.size])
    values = rng.normal(size=parameter.shape) * 10.0 ** rng.integers(-9, 3, parameter.shape)
    return values * (rng.random(parameter.shape) < 0.9)


def lasagne(p, gradients, lr, beta1=0.9, beta2=0.999, epsilon=1e-8):
    """lasagne.updates.adam, line by line, in float64."""
    m, v = np.zeros_like(p), np.zeros_like(p)
    for t, g in enumerate(gradients, 1):
        a_t = lr * sqrt(1 - beta2**t) / (1 - beta1**t)
        m = beta1 * m + (1 - beta1) * g
        v = beta2 * v + (1 - beta2) * g**2
        p = p - a_t * m / (np.sqrt(v) + epsilon)
    return p


@pytest.mark.parametrize("dtype", TOLERANCE, ids=lambda dtype: dtype.__name__)
@pytest.mark.parametrize("steps", [1, 10])
def test_adam_is_lasagnes(steps, dtype):
    made, buffer = network(dtype)
    before = [p.data.astype(np.float64) for p in made]
    adam = Optimizer(Adam(), buffer)
    for t in range(1, steps + 1):
        for p in made:
            p.grad[...] = gradient(p, t)
        adam.step(0.01)
    for p, start in zip(made, before, strict=True):
        given = [gradient(p, t).astype(dtype).astype(np.float64) for t in range(1, steps + 1)]
        expected = lasagne(start, given, 0.01 * p.lr_multiplier)
        np.testing.assert_allclose(p.data, expected, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])
        assert (p.data != start).any()


def test_first_step_is_the_learning_rate_against_the_sign():
    """Far above epsilon; far below it, the uncorrected sqrt(v) makes the step small."""
    (long, small), buffer = network(multipliers=(1.0, 1.0))
    start = long.data.copy(), small.data.copy()
    long.grad[...], small.grad[...] = -5.0, 1e-9
    Optimizer(Adam(), buffer).step(0.01)
    np.testing.assert_allclose(long.data - start[0], 0.01, rtol=1e-6)
    # a_1 = lr * sqrt(0.001) / 0.1, m = 1e-10, sqrt(v) = sqrt(0.001) * 1e-9
    expected = -0.01 * sqrt(0.001) / 0.1 * 1e-10 / (sqrt(0.001) * 1e-9 + 1e-8)
    np.testing.assert_allclose(small.data - start[1], expected, rtol=1e-6)


def test_multiplier_0_freezes_and_gradients_are_left_alone():
    (long, small), buffer = network(multipliers=(0.0, 1.0))
    start = long.data.copy(), small.data.copy()
    buffer.grad[...] = 0.5
    adam = Optimizer(Adam(), buffer)
    adam.step(0.1)
    adam.step(0.1)
    np.testing.assert_array_equal(long.data, start[0])
    assert (small.data != start[1]).all()
    assert (buffer.grad == 0.5).all() and adam.t == 2


def test_update_is_in_place():
    (long, small), buffer = network()
    views = long.data, small.data
    buffer.grad[...] = 1.0
    Optimizer(Adam(), buffer).step(0.1)
    assert views[0] is long.data and views[0].base is views[1].base is buffer.data


@pytest.mark.parametrize(
    ("epoch", "decays"), [(1, 0), (20, 0), (21, 1), (40, 1), (41, 2), (196, 9), (231, 11)]
)
def test_step_decay(epoch, decays):
    assert step_decay(0.001, epoch) == 0.001 * 0.7**decays
