"""Every optimiser against the loops, on either engine; what no rule may be; Adam, and the
learning-rate schedule.
"""

from dataclasses import fields
from functools import partial
from math import inf, nan, sqrt

import loops
import numpy as np
import pytest
from helpers import concrete

from ministn.errors import UserError
from ministn.initializers import Normal
from ministn.kinds import to_json
from ministn.ops.adam import BLOCK
from ministn.optimizers import SGD, Adam, Nesterov, Optimizer, RMSprop, Rule
from ministn.parameter import Parameter, ParameterBuffer
from ministn.schedules import StepDecay

# {name: what is made for a ParameterBuffer}. Whatever is added is tested here, too.
OPTIMIZERS = {rule.kind: partial(Optimizer, rule()) for rule in concrete(Rule)}
every = pytest.mark.parametrize("name", OPTIMIZERS)

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


@every
@pytest.mark.parametrize("dtype", TOLERANCE, ids=lambda dtype: dtype.__name__)
@pytest.mark.parametrize("steps", [1, 10])
def test_an_optimizer_is_that_of_the_loops(name, steps, dtype):
    made, buffer = network(dtype)
    before = [p.data.astype(np.float64) for p in made]
    optimizer = OPTIMIZERS[name](buffer)
    given = {p.name: [np.clip(gradient(p, t), -3, 3) for t in range(steps)] for p in made}
    rates = [0.01, 0.003] * 5
    for t, lr in enumerate(rates[:steps]):
        for p in made:
            p.grad[...] = given[p.name][t]
        optimizer.step(lr)
    assert optimizer.t == steps
    for p, start in zip(made, before, strict=True):
        rounded = [g.astype(dtype).astype(np.float64) for g in given[p.name]]
        scaled = [lr * p.lr_multiplier for lr in rates[:steps]]
        expected = getattr(loops, name)(start, rounded, scaled)
        np.testing.assert_allclose(p.data, expected, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])
        assert (p.data != start).any()


@every
def test_an_optimizer_on_a_gpu_is_that_of_the_cpu(device, name):
    """To the last bit, over several steps and parameters of three learning rates."""
    shapes = {"a/weight": (52, 3), "a/bias": (52, 1), "b/weight": (51, 3), "c/bias": (50, 3)}

    def made(device):
        each = [Parameter(path, shape, Normal(1.0)) for path, shape in shapes.items()]
        for parameter, multiplier in zip(each, (1.0, 1.0, 0.1, 0.0), strict=True):
            parameter.lr_multiplier = multiplier
        return OPTIMIZERS[name](ParameterBuffer(each, 0, device=device))

    ours, theirs = made(device), made(None)
    assert len(ours.buffer.groups) == 3
    for t in range(4):
        for parameter in theirs.buffer.parameters:
            parameter.grad[...] = gradient(parameter, t)
        ours.buffer.grad[...] = device.to_gpu(theirs.buffer.grad)
        for each in (ours, theirs):
            each.step(0.01)
    found = {"data": ours.buffer.data, "grad": ours.buffer.grad, **ours.state()}
    expected = {"data": theirs.buffer.data, "grad": theirs.buffer.grad, **theirs.state()}
    for key, want in expected.items():
        np.testing.assert_array_equal(device.to_cpu(found[key]), want, err_msg=key)
        assert want.any()


# ---- numbers that cannot be

RULES = concrete(Rule)
SHARES = "beta1", "beta2", "rho", "momentum"  # from 0 to below 1
NOWHERE = nan, inf, -inf, -0.1, "0.5", None, True, 1j, np.float32(nan), np.array(0.5)
IMPOSSIBLE = {
    **dict.fromkeys(SHARES, (1.0, 1, np.float32(1))),
    "epsilon": (0.0, 0, 1e-39),  # the last is 0 for a GPU
    "weight_decay": (),
}


def test_every_number_of_every_rule_is_checked():
    named = {field.name for rule in RULES for field in fields(rule)} - {"decay_biases"}
    assert named == IMPOSSIBLE.keys()


@pytest.mark.parametrize("rule", RULES)
def test_impossible_numbers_are_refused_by_name(rule):
    for name in {field.name for field in fields(rule)} & IMPOSSIBLE.keys():
        for value in (*NOWHERE, *IMPOSSIBLE[name]):
            with pytest.raises(UserError, match=rf"^{name} must be (at least 0|a number from) "):
                rule(**{name: value})
        for value in (0, 0.0, 0.999) if name in SHARES else (1e-30, 1, 3.5):
            assert getattr(rule(**{name: value}), name) == value


@pytest.mark.parametrize("lr", [nan, inf, -0.1, "0.1", None, True])
@every
def test_a_step_that_cannot_be_changes_nothing(name, lr):
    parameters, buffer = network()
    optimizer = OPTIMIZERS[name](buffer, clip=0.5)
    for parameter in parameters:
        parameter.add(np.ones(parameter.shape))
    before = buffer.data.copy(), buffer.grad.copy()
    with pytest.raises(UserError, match=f"^lr must be a number from 0 up, got {lr!r}"):
        optimizer.step(lr)
    np.testing.assert_array_equal((buffer.data, buffer.grad), before)
    assert optimizer.t == 0


def test_what_is_no_rule_no_buffer_or_no_dtype_is_named():
    parameters, buffer = network()
    for make, message in (
        (lambda: Optimizer(Adam, buffer), "^rule must be a Rule, got the class Adam"),
        (lambda: Optimizer("adam", buffer), "^rule must be a Rule, got str"),
        (lambda: Optimizer(Adam(), parameters), "^buffer must be a ParameterBuffer, got list"),
        (lambda: ParameterBuffer(parameters, 0, np.float16), "^dtype must be float32 or float64"),
    ):
        with pytest.raises(TypeError, match=message):
            make()
    buffer.check_tied()


@pytest.mark.parametrize("rule", RULES)
def test_numpys_numbers_are_pythons(rule):
    for name in {field.name for field in fields(rule)} & IMPOSSIBLE.keys():
        for value, kind in ((np.float32(0.5), float), (np.float64(0.5), float)):
            made = rule(**{name: value})
            assert made == rule(**{name: 0.5}) and type(getattr(made, name)) is kind
            assert to_json(made)[name] == 0.5 and hash(made) == hash(rule(**{name: 0.5}))
    assert type(SGD(momentum=np.int64(0)).momentum) is int
    assert type(SGD(decay_biases=np.bool_(True)).decay_biases) is bool


def test_rules_in_words():
    rules = Adam(), RMSprop(), SGD(), SGD(0.5), Nesterov(0.95)
    assert [rule.words for rule in rules] == [
        "Adam", "RMSprop", "momentum 0.9", "momentum 0.5", "Nesterov's momentum 0.95",
    ]  # fmt: skip


# ---- Adam


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


# ---- the learning rate


@pytest.mark.parametrize(
    ("epoch", "decays"), [(1, 0), (20, 0), (21, 1), (40, 1), (41, 2), (196, 9), (231, 11)]
)
def test_step_decay(epoch, decays):
    assert StepDecay().at(epoch) == 0.7**decays
