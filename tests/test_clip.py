"""Limits on a gradient: the loops, known answers, PyTorch, the GPU, whole runs, ranks."""

import json
from dataclasses import replace
from functools import partial
from importlib import import_module
from math import sqrt
from unittest import mock

import loops
import numpy as np
import pytest
from helpers import compare
from small_runs import SETTINGS, changed, data_set, outcome, run_in, train, trainer_of
from test_cuda_networks import gpu_run, no_copies
from test_optimizers import OPTIMIZERS, gradient, network

from ministn import cuda, ops, optimizers
from ministn.backend import to_cpu
from ministn.errors import UserError
from ministn.initializers import Normal
from ministn.ops.adam import BLOCK
from ministn.optimizers import SGD, Adam, Optimizer
from ministn.parallel import Team, team
from ministn.parameter import Parameter, ParameterBuffer
from ministn.runs import Run
from ministn.training import checkpoint
from ministn.training.trainer import LAST

pytestmark = pytest.mark.usefixtures("unchanging_environment")

kernels = import_module("ministn.cuda.clip")  # the package has the function under this name

BOTH = {"clip": 0.01, "clip_norm": 0.2}  # each of them changes what every step of SETTINGS does

# What each function takes beside the gradient.
LIMITS = {"clip": (0.7,), "sum_of_squares": (), "limit_norm": (40.0, 2.5)}


def values(size):
    """Of very different sizes, some 0."""
    rng = np.random.default_rng(size)
    return rng.normal(size=size) * 10.0 ** rng.integers(-9, 3, size) * (rng.random(size) < 0.9)


def limited(g, clip=None, clip_norm=None):
    """A copy after both limits, by the loops."""
    g = g if clip is None else loops.clip(g, clip)
    return g if clip_norm is None else loops.limit_norm(g, loops.sum_of_squares(g), clip_norm)


# ---- the functions


@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float32, 1e-7), (np.float64, 1e-15)])
@pytest.mark.parametrize("size", [0, 1, 37, BLOCK + 3])
@pytest.mark.parametrize("name", LIMITS)
def test_a_limit_is_that_of_the_loops(name, size, dtype, tolerance):
    g = values(size).astype(dtype)
    expected = getattr(loops, name)(g.astype(np.float64), *LIMITS[name])
    found = getattr(ops, name)(g, *LIMITS[name])
    if name == "sum_of_squares":
        assert type(found) is float and found == pytest.approx(expected, rel=1e-14)
    else:
        assert found is None and g.dtype == dtype
        compare(name, g, expected, tolerance, 0)


def test_limits_by_hand():
    g = np.array([3.0, -4.0])
    ops.limit_norm(g, ops.sum_of_squares(g), 2.5)
    assert g.tolist() == pytest.approx([1.5, -2.0], rel=3e-8)
    assert g.tolist() == pytest.approx([3 * 2.5 / (5 + 1e-7), -4 * 2.5 / (5 + 1e-7)], rel=1e-15)
    ops.clip(g, 1.75)
    assert g[1] == -1.75 and g[0] < 1.5


def test_a_smaller_norm_is_hardly_scaled_and_zero_is_zero():
    """By n / (n + 1e-7), which is Lasagne's: of 1e-7 a half is left."""
    for n in (1.0, 1e-7):
        g = np.array([n])
        ops.limit_norm(g, ops.sum_of_squares(g), 5.0)
        assert g[0] == pytest.approx(n * n / (n + 1e-7), rel=1e-15)
    g = np.zeros(3)
    ops.limit_norm(g, ops.sum_of_squares(g), 5.0)
    assert g.tolist() == [0, 0, 0]


def test_squares_do_not_overflow():
    g = np.full(4, 1e30, np.float32)
    ops.limit_norm(g, ops.sum_of_squares(g), 1.0)
    np.testing.assert_allclose(g, 0.5, rtol=1e-6)


NOT_FINITE = np.float32([1, np.nan, -2, np.inf, -np.inf, 0.5])


def test_what_is_not_finite_is_not_hidden():
    g = NOT_FINITE.copy()
    ops.clip(g, 1.5)
    np.testing.assert_array_equal(g, np.float32([1, np.nan, -1.5, 1.5, -1.5, 0.5]))
    ops.limit_norm(g, ops.sum_of_squares(g), 1.0)
    assert np.isnan(g).all()
    g = np.float32([1, np.inf])
    with np.errstate(invalid="ignore"):
        ops.limit_norm(g, ops.sum_of_squares(g), 1.0)
    assert g[0] == 0 and np.isnan(g[1])


def test_clip_is_pytorchs():
    torch = pytest.importorskip("torch")
    g = values(500)
    theirs = torch.zeros(500, dtype=torch.float64, requires_grad=True)
    theirs.grad = torch.tensor(g)
    torch.nn.utils.clip_grad_value_([theirs], 0.3)
    ops.clip(g, 0.3)
    np.testing.assert_array_equal(g, theirs.grad.numpy())


# ---- on a GPU: equal, not close


@pytest.mark.parametrize("blocks", [kernels.BLOCKS, 2])
@pytest.mark.parametrize("size", [0, 1, 255, 257, 3000])
@pytest.mark.parametrize("name", LIMITS)
def test_a_limit_is_that_of_ops_to_the_last_bit(device, name, size, blocks):
    """The sum but for the order of its doubles; limit_norm takes it where ops has it."""
    expected = values(size).astype(np.float32)
    found, (*squares, limit) = device.to_gpu(expected), LIMITS[name] or (None,)
    with mock.patch.object(kernels, "BLOCKS", blocks):
        if name == "sum_of_squares":
            (total,) = device.to_cpu(cuda.sum_of_squares(found))
            assert total == pytest.approx(ops.sum_of_squares(expected), rel=1e-14)
            return
        on_gpu = [device.to_gpu(np.float64([number])) for number in squares]
        getattr(cuda, name)(found, *on_gpu, limit)
    getattr(ops, name)(expected, *squares, limit)
    np.testing.assert_array_equal(device.to_cpu(found), expected)


def test_a_smaller_norm_on_a_gpu(device):
    expected = np.float32([3e-4, -4e-4])
    found = device.to_gpu(expected)
    cuda.limit_norm(found, cuda.sum_of_squares(found), 2.5)
    ops.limit_norm(expected, ops.sum_of_squares(expected), 2.5)
    np.testing.assert_array_equal(device.to_cpu(found), expected)


def test_what_is_not_finite_is_as_in_ops(device):
    expected, found = NOT_FINITE.copy(), device.to_gpu(NOT_FINITE)
    cuda.clip(found, 1.5)
    ops.clip(expected, 1.5)
    np.testing.assert_array_equal(device.to_cpu(found), expected)
    cuda.limit_norm(found, cuda.sum_of_squares(found), 1.0)
    assert np.isnan(device.to_cpu(found)).all()


def test_a_gpu_refuses_what_does_not_fit(device):
    flat, wide = device.zeros((2, 3), np.float32), device.zeros((6,), np.float64)
    squares = device.zeros((1,), np.float64)
    calls = {
        partial(cuda.clip, limit=1.0),
        cuda.sum_of_squares,
        partial(cuda.limit_norm, squares=squares, most=1.0),
    }
    for call in calls:
        with pytest.raises(ValueError, match=r"^g must have shape \(S\)"):
            call(flat)
        with pytest.raises(TypeError, match="float64"):
            call(wide)


# ---- an optimiser


@pytest.mark.parametrize(
    "limits", [{"clip": 0.5}, {"clip_norm": 3.0}, {"clip": 0.5, "clip_norm": 3.0}, {}]
)
def test_a_step_is_by_the_limited_gradient_of_all_parameters_together(limits):
    """Whatever their learning rates, 0 among them: first each value, then the norm."""
    made, buffer = network(multipliers=(1.0, 0.0))
    optimizer = Optimizer(SGD(momentum=0.0), buffer, **limits)
    before = buffer.data.copy()
    for p in made:
        p.grad[...] = gradient(p, 1)
    whole = buffer.grad.copy()
    optimizer.step(0.1)
    expected = limited(whole, **limits)
    assert not limits or (expected[-20:] != whole[-20:]).any()
    np.testing.assert_allclose(buffer.grad, expected, rtol=1e-14)
    rates = np.where(np.arange(whole.size) < BLOCK + 4, 0.1, 0.0)
    np.testing.assert_allclose(buffer.data, before - rates * expected, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_limited_steps_on_a_gpu_are_those_of_the_cpu(device, name):
    def made(device):
        each = [Parameter(f"p{n}", (50 + n, 3), Normal(1.0)) for n in range(3)]
        each[1].lr_multiplier = 0.1
        buffer = ParameterBuffer(each, 0, device=device)
        return Optimizer(OPTIMIZERS[name](buffer).rule, buffer, clip=0.5, clip_norm=3.0)

    ours, theirs = made(device), made(None)
    for t in range(4):
        for p in theirs.buffer.parameters:
            p.grad[...] = gradient(p, t)
        ours.buffer.grad[...] = device.to_gpu(theirs.buffer.grad)
        assert abs(theirs.buffer.grad).max() > 0.5
        for each in (ours, theirs):
            each.step(0.01)
        assert sqrt(ops.sum_of_squares(theirs.buffer.grad)) == pytest.approx(3.0)
    np.testing.assert_array_equal(device.to_cpu(ours.buffer.grad), theirs.buffer.grad)
    np.testing.assert_array_equal(device.to_cpu(ours.buffer.data), theirs.buffer.data)


def test_nothing_is_done_without_limits(monkeypatch):
    _, buffer = network()
    optimizer = Optimizer(Adam(), buffer)
    monkeypatch.setattr(optimizers, "function", pytest.fail)
    optimizer.limit()
    optimizer.limit(buffer.grad, pytest.fail)


@pytest.mark.parametrize("limit", [0, 0.0, -1.0, np.nan, np.inf, 1e-39, "1", True])
def test_impossible_limits_are_refused_by_name(limit):
    _, buffer = network()
    for name in ("clip", "clip_norm"):
        for made in (
            lambda limits: Optimizer(Adam(), buffer, **limits),
            lambda limits: replace(SETTINGS.training, **limits),
        ):
            with pytest.raises(UserError, match=rf"^{name} must be a number from 1\.2e-38 up, got"):
                made({name: limit})
    training = replace(SETTINGS.training, clip=np.float32(0.5), clip_norm=np.int64(5))
    assert (type(training.clip), type(training.clip_norm)) == (float, int)


# ---- whole runs

QUIET = partial(trainer_of, say=lambda line: None)
PLAIN = changed(SETTINGS, optimizer=SGD(momentum=0.0), lr=0.1)


def after(settings, steps, **how):
    """The parameters after so many steps, on the host."""
    trainer = QUIET(settings, data_set(), **how)
    for _ in range(steps):
        trainer.step()
    trainer.catch_up()
    return to_cpu(trainer.buffer.data).copy()


def moved(settings, **how):
    """How far the first step moves each parameter."""
    trainer = QUIET(settings, data_set(), **how)
    before = to_cpu(trainer.buffer.data).astype(np.float64)
    trainer.step()
    return trainer.buffer.views(to_cpu(trainer.buffer.data) - before)


@pytest.mark.parametrize("limits", [{"clip": 0.01}, {"clip_norm": 0.2}, BOTH], ids=", ".join)
def test_a_run_limits_the_gradient_of_all_layers_together(limits):
    """Also where localisation layers have a learning rate of their own."""
    free = {name: -10 * step for name, step in moved(PLAIN).items()}
    whole = np.concatenate([step.ravel() for step in free.values()])
    stops = np.cumsum([step.size for step in free.values()])[:-1]
    expected = dict(zip(free, np.split(limited(whole, **limits), stops), strict=True))
    assert all(abs(expected[name] - g.ravel()).max() > 1e-3 for name, g in free.items() if g.any())
    local = {p.name for p in QUIET(PLAIN, data_set()).network.localisation_only()}
    for loc_lr in (1.0, 0.5):
        for name, step in moved(changed(PLAIN, loc_lr=loc_lr, **limits)).items():
            rate = 0.1 * (loc_lr if name in local else 1.0)
            np.testing.assert_allclose(step.ravel(), -rate * expected[name], rtol=0, atol=2e-7)


@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 1e-6), ("tf32", 1e-3)])
def test_a_gpu_limits_alike(quick_device, precision, tolerance):
    """In one step, whose length is known; and over several, as the CPU. tf32 rounds products."""
    limited, cpu = changed(PLAIN, precision=precision, **BOTH), changed(PLAIN, **BOTH)
    step = moved(limited, device=quick_device)
    length = sqrt(sum(float((part**2).sum()) for part in step.values()))
    assert length == pytest.approx(0.1 * 0.2, rel=1e-5)
    found, expected = after(limited, 2, device=quick_device), after(cpu, 2)
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance)
    assert abs(after(PLAIN, 2) - expected).max() > 10 * tolerance


@pytest.mark.parametrize("precision", ["fp32", "tf32"])
def test_the_host_does_not_wait_for_the_norm(quick_device, monkeypatch, precision):
    trainer = QUIET(changed(SETTINGS, precision=precision, **BOTH), data_set(), device=quick_device)
    for _ in range(2):
        trainer.step()
    with no_copies(quick_device, monkeypatch):
        trainer.step()


@pytest.mark.parametrize("stop", [1, 5])
def test_a_resumed_run_ends_with_the_same_bits(stop, tmp_path, quick_device):
    for name, whole, device in (
        ("cpu", partial(train, **BOTH), None),
        ("gpu", partial(gpu_run, device=quick_device, **BOTH), quick_device),
    ):
        expected = outcome(whole(tmp_path / name))
        run = run_in(tmp_path / f"{name} again", **BOTH)
        trainer = QUIET(changed(SETTINGS, **BOTH), data_set(), device=device)
        for _ in range(stop):
            trainer.step()
        run.folder.mkdir(parents=True)
        trainer.save(run.folder)
        assert outcome(whole(tmp_path / f"{name} again", resume=True)) == expected
        assert expected[0] != outcome(train(tmp_path / "free"))[0]


@pytest.fixture(scope="module", params=[2, 3])
def some(request):
    with team(request.param) as found:
        yield found


@pytest.mark.parametrize("limits", [{"clip": 0.01}, {"clip_norm": 0.2}, BOTH], ids=", ".join)
def test_workers_limit_the_sum_of_their_gradients(some, limits):
    """Not their own: the parameters are those of one process, but for the order of sums."""
    settings = changed(PLAIN, optimizer=SGD(), lr=0.02, **limits)
    alone = after(settings, 6)
    np.testing.assert_allclose(after(settings, 6, team=some), alone, rtol=0, atol=1e-6)
    assert abs(after(changed(settings, clip=None, clip_norm=None), 6) - alone).max() > 1e-3


def test_a_run_of_workers_is_resumed_bit_for_bit(some, tmp_path):
    def trained(name, resume=False, **changes):
        run = run_in(tmp_path / name, **BOTH, **changes)
        assert run.train(data_set(), some, resume=resume, bar=False) == "finished"
        return outcome(run)

    whole = trained("whole")
    trained("again", epochs=1)
    assert trained("again", resume=True) == whole


def test_a_run_from_before_there_were_limits_goes_on(tmp_path):
    """Its checkpoint and record do not name them, and its folder is called as it is now."""
    whole = outcome(train(tmp_path / "whole"))
    run = train(tmp_path / "again", epochs=1)
    arrays, content = checkpoint.load(run.folder / LAST)
    record = json.loads(run.record_path.read_text())
    for settings in (content["settings"], record["settings"]):
        for name in BOTH:
            del settings["training"][name]
    content.pop("format", None)  # the file's own
    checkpoint.save(run.folder / LAST, arrays, content)
    run.record_path.write_text(json.dumps(record))
    assert outcome(train(tmp_path / "again", resume=True)) == whole
    with pytest.raises(UserError, match=r"other settings \(training.clip\): found \[None\]"):
        QUIET(changed(SETTINGS, clip=1.0), data_set()).load(run.folder)


def test_a_team_of_one_is_a_run_alone():
    settings = changed(PLAIN, **BOTH)
    np.testing.assert_array_equal(after(settings, 3, team=Team()), after(settings, 3))


def test_limits_name_a_folder(tmp_path):
    names = [
        Run(tmp_path, s, "table", "test").folder.name for s in (SETTINGS, changed(SETTINGS, **BOTH))
    ]
    assert names[0] != names[1] and "clip0.01-clip_norm0.2" in names[1]


# Those that find faults: see step_faults.py.
CASES = {
    "clip": partial(
        test_a_limit_is_that_of_ops_to_the_last_bit, name="clip", size=257, blocks=2
    ),
    "clip, not finite": test_what_is_not_finite_is_as_in_ops,
    "sum of squares": partial(
        test_a_limit_is_that_of_ops_to_the_last_bit, name="sum_of_squares", size=3000, blocks=2
    ),
    "limit norm": partial(
        test_a_limit_is_that_of_ops_to_the_last_bit, name="limit_norm", size=3000, blocks=2
    ),
    "limit norm, below": test_a_smaller_norm_on_a_gpu,
}  # fmt: skip
