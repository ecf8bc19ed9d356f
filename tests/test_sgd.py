"""SGD against a plain re-statement of Lasagne's formula, PyTorch, and its twin on a GPU."""

import loops
import numpy as np
import pytest
from test_optimizers import TOLERANCE, gradient, network

from ministn import ops
from ministn.cuda.outcome import Log
from ministn.cuda.schedule import Schedule
from ministn.cuda.sgd import sgd
from ministn.initializers import Normal
from ministn.optimizers import SGD, Optimizer
from ministn.parameter import Parameter, ParameterBuffer
from ministn.schedules import StepDecay

each_dtype = pytest.mark.parametrize("dtype", TOLERANCE, ids=lambda dtype: dtype.__name__)


@each_dtype
@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("decay", [0.0, 0.03])
def test_sgd_is_lasagnes(momentum, decay, dtype):
    made, buffer = network(dtype)
    before = [p.data.astype(np.float64) for p in made]
    rates = [0.01, 0.01, 0.003, 0.02, 0.001]
    given = {p.name: [np.clip(gradient(p, t), -3, 3) for t in range(len(rates))] for p in made}
    optimizer = Optimizer(SGD(momentum=momentum, weight_decay=decay), buffer)
    for t, lr in enumerate(rates):
        for p in made:
            p.grad[...] = given[p.name][t]
        optimizer.step(lr)
    assert optimizer.t == len(rates)
    for p, start in zip(made, before, strict=True):
        rounded = [g.astype(dtype).astype(np.float64) for g in given[p.name]]
        scaled = [lr * p.lr_multiplier for lr in rates]
        expected = loops.sgd(start, rounded, scaled, momentum, decay)
        np.testing.assert_allclose(p.data, expected, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])
        assert (p.data != start).any()


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_sgd_is_pytorchs_at_a_constant_rate(momentum):
    torch = pytest.importorskip("torch")
    made, buffer = network()
    theirs = [torch.tensor(p.data, requires_grad=True) for p in made]
    groups = [
        {"params": [x], "lr": 0.01 * p.lr_multiplier} for x, p in zip(theirs, made, strict=True)
    ]
    oracle = torch.optim.SGD(groups, momentum=momentum, weight_decay=0.03)
    optimizer = Optimizer(SGD(momentum=momentum, weight_decay=0.03), buffer)
    for t in range(6):
        for x, p in zip(theirs, made, strict=True):
            p.grad[...] = gradient(p, t)
            x.grad = torch.tensor(p.grad)
        optimizer.step(0.01)
        oracle.step()
    for x, p in zip(theirs, made, strict=True):
        np.testing.assert_allclose(p.data, x.detach().numpy(), rtol=1e-13, atol=1e-14)


def layer(dtype=np.float64) -> tuple[dict[str, Parameter], ParameterBuffer]:
    made = [
        Parameter(name, shape, Normal(1.0))
        for name, shape in (("a/weight", (3, 2)), ("a/bias", (2,)), ("b/weight", (2, 7)))
    ]
    return {p.name: p for p in made}, ParameterBuffer(made, 0, dtype)


@pytest.mark.parametrize(("decay_biases", "kept"), [(False, 1.0), (True, 0.95)])
def test_biases_decay_only_when_asked(decay_biases, kept):
    parameters, buffer = layer()
    before = {name: p.data.copy() for name, p in parameters.items()}
    Optimizer(SGD(weight_decay=0.5, decay_biases=decay_biases), buffer).step(0.1)
    for name, p in parameters.items():
        factor = kept if name == "a/bias" else 0.95
        np.testing.assert_allclose(p.data, factor * before[name], rtol=1e-15)


def test_old_steps_keep_their_rate():
    """The velocity goes on as it was when the learning rate has fallen to nothing."""
    _, buffer = layer()
    optimizer = Optimizer(SGD(momentum=0.5), buffer)
    before = buffer.data.copy()
    buffer.grad[...] = 1.0
    optimizer.step(0.1)
    optimizer.step(0.0)
    np.testing.assert_allclose(buffer.data - before, -0.1 * 1.5, rtol=1e-14)


def test_parts_make_the_whole():
    (_, whole), (_, cut) = layer(), layer()
    optimizers = Optimizer(SGD(weight_decay=0.1), whole), Optimizer(SGD(weight_decay=0.1), cut)
    grad = np.random.default_rng(0).normal(size=whole.data.shape)
    for _ in range(3):
        optimizers[0].update([0.1], grad)
        for part in (slice(9, 28), slice(0, 5), slice(5, 9)):
            optimizers[1].update([0.1], grad, part)
    np.testing.assert_array_equal(whole.data, cut.data)
    np.testing.assert_array_equal(*(o.moments["v"] for o in optimizers))
    assert len(whole.data) == 28


def test_iterations_decay_like_epochs():
    """The schedule of STN's distorted MNIST: a tenth after every 50,000 of 150,000."""
    rates = {1: 0.01, 50_000: 0.01, 50_001: 0.001, 100_000: 0.001, 100_001: 1e-4, 150_000: 1e-4}
    for iteration, lr in rates.items():
        assert 0.01 * StepDecay(0.1, 50_000).at(iteration) == pytest.approx(lr)


# ---- on the GPU: equal, not close


def state(size):
    """p, g, v and decay, some of it 0."""
    rng = np.random.default_rng(size)
    arrays = rng.normal(size=(4, size)).astype(np.float32)
    arrays[1] *= 10.0 ** rng.integers(-4, 3, size)
    arrays[3] = 0.01 * (rng.random(size) < 0.7)
    return list(arrays)


def check_equal(device, found, expected):
    for name, got, want in zip(("p", "g", "v", "decay"), found, expected, strict=True):
        np.testing.assert_array_equal(device.to_cpu(got), want, err_msg=name)


@pytest.mark.parametrize("size", [0, 1, 255, 256, 257, 1000])
def test_sgd_is_that_of_ops_to_the_last_bit(device, size):
    expected = state(size)
    found = [device.to_gpu(array) for array in expected]
    for step_size in (0.001, 0.37, 1e-7):
        ops.sgd(*expected, step_size, 0.9)
        sgd(*found, step_size, 0.9)
        check_equal(device, found, expected)


@pytest.mark.parametrize("first", [0, 4])
def test_sgd_takes_its_step_size_from_the_schedule(device, first):
    expected, sizes = state(40), np.float32([0.5, 0.01, 0.3])
    found = [device.to_gpu(array) for array in expected]
    log = Log(device, 1)
    log.start(first)
    schedule = Schedule(device.to_gpu(sizes), log.number, log.halted)
    for number in range(first, first + 5):
        ops.sgd(*expected, float(sizes[number % 3]), 0.9)
        sgd(*found, schedule, 0.9)
        check_equal(device, found, expected)
        log.count_step()


def test_sgd_changes_nothing_once_halted(device):
    before = state(300)
    before[1][::3], before[1][1::3] = np.nan, np.inf
    found = [device.to_gpu(array) for array in before]
    zero, halted = device.zeros((1,), np.uint32), device.zeros((1,), np.int32)
    halted.fill(1)
    sgd(*found, Schedule(device.to_gpu(np.float32([0.1])), zero, halted), 0.9)
    check_equal(device, found, before)


def test_sgd_over_groups_is_the_optimizers(device):
    """Weights and biases of three learning rates, over several steps, as the CPU has them."""

    def optimizer(device):
        made = [
            Parameter(f"{name}/{kind}", (n, 3), Normal(1.0))
            for n, name in enumerate("abc", 50)
            for kind in ("weight", "bias")
        ]
        for parameter, multiplier in zip(made, (1.0, 1.0, 0.1, 0.1, 0.0, 1.0), strict=True):
            parameter.lr_multiplier = multiplier
        return Optimizer(SGD(weight_decay=0.02), ParameterBuffer(made, 0, device=device))

    ours, theirs = optimizer(device), optimizer(None)
    assert len(ours.buffer.groups) == 3
    for t in range(4):
        theirs.buffer.grad[...] = state(theirs.buffer.data.size)[1] * np.float32(1 + t)
        ours.buffer.grad[...] = device.to_gpu(theirs.buffer.grad)
        for each in (ours, theirs):
            each.step(0.01)
    found, expected = (
        [it.buffer.data, it.buffer.grad, it.moments["v"], it.constants["decay"]]
        for it in (ours, theirs)
    )
    check_equal(device, found, expected)


def test_sgd_refuses_what_does_not_fit(device):
    p, g, v, decay = (device.to_gpu(array) for array in state(9))
    with pytest.raises(ValueError, match=r"^decay must have shape \(S=9\)"):
        sgd(p, g, v, decay[1:], 0.1, 0.9)
    with pytest.raises(TypeError, match="float64"):
        wide = device.zeros((9,), np.float64)
        sgd(wide, wide, wide, wide, 0.1, 0.9)
