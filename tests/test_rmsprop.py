"""RMSprop and Nesterov's momentum: known answers, PyTorch, and their twins on a GPU."""

from functools import partial
from math import sqrt

import loops
import numpy as np
import pytest
from test_optimizers import TOLERANCE, gradient, network

from ministn import cuda, ops
from ministn.cuda.outcome import Log
from ministn.cuda.schedule import Schedule
from ministn.optimizers import SGD, Nesterov, Optimizer, RMSprop

each_dtype = pytest.mark.parametrize("dtype", TOLERANCE, ids=lambda dtype: dtype.__name__)


def stepped(rule, rates, dtype=np.float64):
    """(before, gradients, after) of each parameter."""
    made, buffer = network(dtype)
    before = [p.data.astype(np.float64) for p in made]
    steps = range(len(rates))
    given = [[np.clip(gradient(p, t), -3, 3).astype(dtype) for t in steps] for p in made]
    optimizer = Optimizer(rule, buffer)
    for t, lr in enumerate(rates):
        for p, gradients in zip(made, given, strict=True):
            p.grad[...] = gradients[t]
        optimizer.step(lr)
    for p, start, gradients in zip(made, before, given, strict=True):
        scaled = [lr * p.lr_multiplier for lr in rates]
        yield p.data, start, [g.astype(np.float64) for g in gradients], scaled


RATES = [0.01, 0.01, 0.003, 0.02, 0.001]


@each_dtype
@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.9])
@pytest.mark.parametrize("decay", [0.0, 0.03])
def test_nesterov_is_lasagnes(momentum, decay, dtype):
    for found, *known in stepped(Nesterov(momentum, decay), RATES, dtype):
        expected = loops.nesterov(*known, momentum, decay)
        np.testing.assert_allclose(found, expected, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])


@each_dtype
@pytest.mark.parametrize(("rho", "epsilon"), [(0.9, 1e-6), (0.5, 1e-6), (0.0, 0.1)])
def test_rmsprop_is_lasagnes(rho, epsilon, dtype):
    for found, *known in stepped(RMSprop(rho, epsilon), RATES, dtype):
        expected = loops.rmsprop(*known, rho, epsilon)
        np.testing.assert_allclose(found, expected, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])


def two_steps(rule, gradients=(2.0, -1.0), lr=0.1):
    """One parameter that begins at 1, after each of two steps."""
    p, moment, decay = np.ones(1), np.zeros(1), np.zeros(1)
    arrays = {**dict.fromkeys(rule.moments, moment), "decay": decay}
    for g in gradients:
        rule.update(p, np.array([g]), lr, **arrays)
        yield p[0]


def test_rmsprop_by_hand():
    """a = 0.4, then 0.9 * 0.4 + 0.1 = 0.46."""
    first = 1 - 0.1 * 2 / sqrt(0.4 + 1e-6)
    expected = [first, first + 0.1 / sqrt(0.46 + 1e-6)]
    assert list(two_steps(RMSprop())) == pytest.approx(expected, rel=1e-14)


def test_rmsprops_epsilon_is_in_the_root():
    """Where the gradient is 0 for long, 1e-3 is what it is divided by."""
    (first,) = two_steps(RMSprop(), (1e-9,))
    assert first == pytest.approx(1 - 0.1 * 1e-9 / 1e-3, rel=1e-14)


def test_nesterov_by_hand():
    """v = -0.2, p = 1 - 0.18 - 0.2; v = -0.18 + 0.1 = -0.08, p = 0.62 - 0.072 + 0.1."""
    assert list(two_steps(Nesterov())) == pytest.approx([0.62, 0.648], rel=1e-14)


def test_nesterov_is_one_step_of_the_velocity_ahead_of_itself():
    """What p - momentum * v was, SGD's formula moves by the slope at p."""
    made, buffer = network()
    optimizer = Optimizer(Nesterov(), buffer)
    behind, velocity = buffer.data.copy(), np.zeros_like(buffer.data)
    for t in range(4):
        for p in made:
            p.grad[...] = gradient(p, t)
        ops.sgd(behind, buffer.grad, velocity, np.zeros_like(behind), 0.01, 0.9)
        optimizer.update([0.01, 0.01])
        np.testing.assert_allclose(buffer.data, behind + 0.9 * velocity, rtol=1e-12, atol=1e-13)


def test_without_momentum_it_is_sgd():
    found, expected = ([p for p, *_ in stepped(kind(0.0, 0.03), RATES)] for kind in (Nesterov, SGD))
    for p, want in zip(found, expected, strict=True):
        np.testing.assert_allclose(p, want, rtol=1e-14, atol=1e-15)


@pytest.mark.parametrize("momentum", [0.5, 0.9])
def test_nesterov_is_pytorchs_at_a_constant_rate(momentum):
    torch = pytest.importorskip("torch")
    made, buffer = network()
    theirs = [torch.tensor(p.data, requires_grad=True) for p in made]
    groups = [
        {"params": [x], "lr": 0.01 * p.lr_multiplier} for x, p in zip(theirs, made, strict=True)
    ]
    oracle = torch.optim.SGD(groups, momentum=momentum, weight_decay=0.03, nesterov=True)
    optimizer = Optimizer(Nesterov(momentum, 0.03), buffer)
    for t in range(6):
        for x, p in zip(theirs, made, strict=True):
            p.grad[...] = gradient(p, t)
            x.grad = torch.tensor(p.grad)
        optimizer.step(0.01)
        oracle.step()
    for x, p in zip(theirs, made, strict=True):
        np.testing.assert_allclose(p.data, x.detach().numpy(), rtol=1e-13, atol=1e-14)


# ---- on the GPU: equal, not close

NUMBERS = {"rmsprop": (0.9, 1e-6), "nesterov": (0.9,)}
each_update = pytest.mark.parametrize("name", NUMBERS)


def state(name, size):
    """p, g, a of rmsprop; p, g, v, decay of nesterov: some of it 0."""
    rng = np.random.default_rng(size)
    p, moment = rng.normal(size=(2, size))
    g = rng.normal(size=size) * 10.0 ** rng.integers(-4, 3, size) * (rng.random(size) < 0.9)
    rest = [g**2 * rng.random(size)]
    if name == "nesterov":
        rest = [moment, 0.01 * (rng.random(size) < 0.7)]
    return [array.astype(np.float32) for array in (p, g, *rest)]


def check_equal(device, found, expected):
    for number, (got, want) in enumerate(zip(found, expected, strict=True)):
        np.testing.assert_array_equal(device.to_cpu(got), want, err_msg=f"array {number}")


@pytest.mark.parametrize("size", [0, 1, 255, 256, 257, 1000])
@each_update
def test_an_update_is_that_of_ops_to_the_last_bit(device, name, size):
    expected = state(name, size)
    found = [device.to_gpu(array) for array in expected]
    for step_size in (0.001, 0.37, 1e-7):
        getattr(ops, name)(*expected, step_size, *NUMBERS[name])
        getattr(cuda, name)(*found, step_size, *NUMBERS[name])
        check_equal(device, found, expected)


@pytest.mark.parametrize("first", [0, 4])
@each_update
def test_an_update_takes_its_step_size_from_the_schedule(device, name, first):
    expected, sizes = state(name, 40), np.float32([0.5, 0.01, 0.3])
    found = [device.to_gpu(array) for array in expected]
    log = Log(device, 1)
    log.start(first)
    schedule = Schedule(device.to_gpu(sizes), log.number, log.halted)
    for number in range(first, first + 5):
        getattr(ops, name)(*expected, float(sizes[number % 3]), *NUMBERS[name])
        getattr(cuda, name)(*found, schedule, *NUMBERS[name])
        check_equal(device, found, expected)
        log.count_step()


@each_update
def test_an_update_changes_nothing_once_halted(device, name):
    before = state(name, 300)
    before[1][::3], before[1][1::3] = np.nan, np.inf
    found = [device.to_gpu(array) for array in before]
    zero, halted = device.zeros((1,), np.uint32), device.zeros((1,), np.int32)
    halted.fill(1)
    schedule = Schedule(device.to_gpu(np.float32([0.1])), zero, halted)
    getattr(cuda, name)(*found, schedule, *NUMBERS[name])
    check_equal(device, found, before)


@each_update
def test_an_update_refuses_what_does_not_fit(device, name):
    p, g, moment, *rest = (device.to_gpu(array) for array in state(name, 9))
    update = partial(getattr(cuda, name), p)
    with pytest.raises(ValueError, match=r"must have shape \(S=9\)"):
        update(g, moment[1:], *rest, 0.1, *NUMBERS[name])
    with pytest.raises(TypeError, match="float64"):
        update(device.zeros((9,), np.float64), moment, *rest, 0.1, *NUMBERS[name])


# Of each, those that find faults: see test_cuda_faults.py.
CASES = {
    name + which: partial(test, name=name, **options)
    for name in NUMBERS
    for which, test, options in (
        ("", test_an_update_is_that_of_ops_to_the_last_bit, {"size": 257}),
        (", schedule", test_an_update_takes_its_step_size_from_the_schedule, {"first": 4}),
        (", halted", test_an_update_changes_nothing_once_halted, {}),
    )
}
