"""Whole networks and whole runs on the GPU engine: the same numbers as on the CPU, and no waiting.

Without a GPU the kernels run on the CPU shim. Then everything is executed but streams, graphs and
cuBLAS, in whose place NumPy multiplies.
"""

import io
import re
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from helpers import as_view
from small_runs import SETTINGS, changed, data_set, outcome, run_in, trainer_of
from test_engines import BOUND, CLASSES, IMAGES, SEED, build, parameters, run, size_of
from tqdm import tqdm

from ministn import backend
from ministn.cuda.choice import precision
from ministn.data import Cluttered, DataSet, Split
from ministn.engines import implementation
from ministn.errors import UserError
from ministn.models import NETWORKS, ClassificationCnn
from ministn.parameter import ParameterBuffer
from ministn.randomness import Step
from ministn.runs import Run, Settings, planning
from ministn.tasks import Classification
from ministn.training.protocol import Training
from ministn.training.trainer import BEST, LAST

# TF32 rounds every factor by up to 2^-11, which moves points over whole pixels and opens other
# ReLUs: single gradients differ by up to 31 % of their norm. So these bounds only tell a network
# that is put together wrongly; the kernels themselves are held to 1e-5 against rounded factors in
# test_cuda_fast_kernels.py. Measured: losses within 8.4e-4, cosines from 0.95.
TF32_LOSS, TF32_COSINE = 5e-3, 0.9


def on_device(device, name, values):
    """{"loss": the loss, name of a parameter: its gradient}, as run() of test_engines."""
    network = build(name)
    buffer = ParameterBuffer(network.parameters(), 0, device=device)
    backend.assign(buffer.data, values)
    rng = np.random.default_rng(SEED)
    images = device.to_gpu(rng.random((IMAGES, *size_of(name), 1), np.float32))
    labels = device.to_gpu(rng.integers(0, CLASSES, IMAGES).astype(np.int32))
    logits, cache = network.forward(images, Step(seed=1, number=2))
    cross_entropy, cross_entropy_backward = implementation("softmax_cross_entropy", logits)
    loss, loss_cache = cross_entropy(logits, labels)
    network.backward(cross_entropy_backward(loss_cache), cache)
    found = {parameter.name: device.to_cpu(parameter.grad) for parameter in buffer.parameters}
    return found | {"loss": device.to_cpu(loss)[0]}


def largest_difference(found, expected):
    assert found.keys() == expected.keys()
    errors = {}
    for key, want in expected.items():
        norm = np.linalg.norm(want)
        difference = np.linalg.norm(found[key] - want)
        errors[key] = difference / norm if norm else float(difference > 0)
    return max((error, key) for key, error in errors.items())


@pytest.mark.parametrize("state", ["perturbed", "initial"])
@pytest.mark.parametrize("name", NETWORKS)
def test_loss_and_gradients_are_those_of_float64(quick_device, name, state):
    values = parameters(name, state)
    expected, _, _ = run(name, values, "float64")
    error, key = largest_difference(on_device(quick_device, name, values), expected)
    assert error <= BOUND, key


@pytest.mark.parametrize("name", [name for name in NETWORKS if name != "small-stn"])
def test_tf32_points_the_same_way(quick_device, name):
    values = parameters(name, "perturbed")
    expected, _, _ = run(name, values, "float64")
    with precision("tf32"):
        found = on_device(quick_device, name, values)
    assert found["loss"] == pytest.approx(expected["loss"], rel=TF32_LOSS)
    assert largest_difference(found, expected)[0] > 1e-4, "this is not TF32"
    for key, want in expected.items():
        cosine = np.vdot(found[key], want) / np.linalg.norm(found[key]) / np.linalg.norm(want)
        assert cosine > TF32_COSINE, key


# -- training steps ----------------------------------------------------------------------------


def tiny(name, **changes):
    """Settings and data of three steps on batches of 3, 3 and 1 images of 12x12 pixels."""
    canvas = 32 if name == "small-stn" else 12
    rng = np.random.default_rng(3)

    def split(count):
        images = rng.integers(0, 256, (count, canvas, canvas)).astype(np.uint8)
        labels = rng.integers(0, 10, count).astype(np.uint8)
        return Split(images, labels, np.tile(np.int16([2, 2, 9, 9]), (count, 1)))

    settings = Settings(
        Cluttered(canvas=canvas, train_size=7),
        NETWORKS[name],
        Training(lr=1e-4, batch_size=3, epochs=1),
    )
    return changed(settings, **changes), DataSet(split(7), split(4), split(5))


of = partial(trainer_of, say=lambda line: None)


def trained(settings, data, device=None):
    trainer = of(settings, data, device=device)
    while not trainer.finished:
        trainer.step()
    return trainer


@pytest.mark.parametrize("name", NETWORKS)
def test_an_epoch_comes_to_the_same(quick_device, name):
    settings, data = tiny(name)
    mine, theirs = trained(settings, data, quick_device), trained(settings, data)
    assert mine.state.steps == theirs.state.steps == 3
    (ours,), (expected,) = mine.state.history, theirs.state.history
    assert mine.state.collapses == theirs.state.collapses
    for key, value in expected.items():
        if key != "theta" and value is not None:
            assert ours[key] == pytest.approx(value, rel=2e-4), key


@pytest.mark.parametrize("name", ["arch1-tstn", "arch2-untied"])
def test_an_epoch_in_tf32(quick_device, name):
    settings, data = tiny(name)
    mine = trained(replace(settings, precision="tf32"), data, quick_device)
    theirs = trained(settings, data)
    (ours,), (expected,) = mine.state.history, theirs.state.history
    assert ours["train_loss"] == pytest.approx(expected["train_loss"], rel=2e-2)
    assert ours["train_loss"] != expected["train_loss"]


@contextmanager
def no_copies(device, monkeypatch):
    """Inside, anything that makes the host wait for the device is an error."""

    def refuse(*arguments):
        raise AssertionError("the host waits for the device")

    with monkeypatch.context() as patch:
        for name in ("to_cpu", "to_gpu"):
            patch.setattr(device, name, refuse)
        yield


@pytest.mark.parametrize("choice", ["fp32", "tf32"])
def test_the_host_does_not_wait_inside_an_epoch(quick_device, monkeypatch, choice):
    settings, data = tiny("arch1-tstn", precision=choice)
    trainer = of(changed(settings, epochs=2), data, device=quick_device)
    for _ in range(4):  # into the second epoch: kernels are compiled, constants are copied
        trainer.step()
    with no_copies(quick_device, monkeypatch):
        trainer.step()
    trainer.step()
    assert trainer.finished and [epoch["epoch"] for epoch in trainer.state.history] == [1, 2]


def test_outcomes_are_known_whenever_asked_for(quick_device):
    settings, data = tiny("arch1-tstn")
    trainer = of(settings, data, device=quick_device)
    trainer.step()
    assert trainer.state.seen == 0
    trainer.catch_up()
    assert trainer.state.seen == 3 and trainer.state.loss_sum > 0
    trainer.catch_up()
    assert trainer.state.seen == 3
    trainer.step()
    trainer.step()
    asked_at_the_end = trained(settings, data, quick_device)
    assert trainer.state == asked_at_the_end.state


# -- whole runs ----------------------------------------------------------------------------------


def gpu_run(out, device, resume=False, **changes):
    run = run_in(out, **changes)
    run.device = device
    run.train(data_set(), resume=resume, bar=False)
    return run


def test_two_runs_and_a_resumed_one_are_equal_bit_for_bit(quick_device, tmp_path):
    first = outcome(gpu_run(tmp_path / "first", quick_device, epochs=2))
    again = outcome(gpu_run(tmp_path / "again", quick_device, epochs=2))
    assert first == again
    assert first[2]["device"]["engine"] == "cuda" and first[2]["command"] == "test --gpu"

    trainer = of(changed(SETTINGS, epochs=2), data_set(), device=quick_device)
    for _ in range(6):  # into the second epoch
        trainer.step()
    folder = run_in(tmp_path / "resumed", epochs=2).folder
    folder.mkdir(parents=True)
    trainer.save(folder)
    assert outcome(gpu_run(tmp_path / "resumed", quick_device, resume=True, epochs=2)) == first


def test_resuming_in_tf32_is_exact(quick_device, tmp_path):
    settings, data = tiny("arch1-tstn", precision="tf32")
    whole = trained(settings, data, quick_device)
    first = of(settings, data, device=quick_device)
    first.step()
    first.save(tmp_path)
    second = of(settings, data, device=quick_device)
    second.load(tmp_path)
    while not second.finished:
        second.step()
    np.testing.assert_array_equal(*(quick_device.to_cpu(t.buffer.data) for t in (whole, second)))
    assert second.state == whole.state


def test_copying_a_view_leaves_later_steps_in_tf32_as_they_are(quick_device):
    """CuPy's own copy of a view changes the stream: a step captured after that would be empty."""
    settings, data = tiny("arch1-cnn", precision="tf32")
    before = trained(settings, data, quick_device)
    view = as_view(quick_device, np.arange(6.0))
    np.testing.assert_array_equal(quick_device.to_cpu(view), np.arange(6.0))
    after = trained(settings, data, quick_device)
    np.testing.assert_array_equal(*(quick_device.to_cpu(t.buffer.data) for t in (before, after)))
    assert after.state == before.state


def test_the_progress_bar_shows_what_is_known(quick_device, tmp_path, monkeypatch):
    drawn = io.StringIO()
    bar = partial(tqdm, total=4, file=drawn, mininterval=0, miniters=1)
    monkeypatch.setattr(Run, "_bar", lambda run, trainer, shown: bar())
    settings, data = tiny("arch1-tstn")
    Run(tmp_path, settings, "table3", "test", quick_device).train(data, resume=False)
    assert re.search(r"1/4 .*, epoch 1, loss \d\.\d{3}, error \d+\.\d %", drawn.getvalue())


def test_checkpoints_that_are_not_due_change_nothing(quick_device, tmp_path, monkeypatch):
    rare = outcome(gpu_run(tmp_path / "rare", quick_device))
    monkeypatch.setattr("ministn.runs.run.GPU_SAVES_EVERY", 0.0)
    assert outcome(gpu_run(tmp_path / "every epoch", quick_device)) == rare


def epoch_of(trainer, valid_error):
    """Train an epoch; say that its validation error was this."""
    epoch = trainer.state.epoch
    with pytest.MonkeyPatch.context() as patch:
        whole = Classification.judge
        wrong = np.arange(100) >= valid_error
        patch.setattr(Classification, "judge", lambda *a: replace(whole(*a), correct=wrong))
        while trainer.state.epoch == epoch:
            trainer.step()


def test_best_weights_wait_for_the_next_checkpoint(quick_device, tmp_path):
    trainer = of(SETTINGS, data_set(), device=quick_device)
    epoch_of(trainer, 50)
    epoch_of(trainer, 20)
    best = quick_device.to_cpu(trainer.buffer.data)
    epoch_of(trainer, 60)
    trainer.save(tmp_path)
    assert trainer.test_best(tmp_path)["epoch"] == 2
    np.testing.assert_array_equal(quick_device.to_cpu(trainer.buffer.data), best)


def test_killed_between_the_two_files(quick_device, tmp_path, monkeypatch):
    """best.safetensors of a later epoch than last.safetensors: that one is trained again."""
    trainer = of(SETTINGS, data_set(), device=quick_device)
    epoch_of(trainer, 50)
    trainer.save(tmp_path)
    last = (tmp_path / LAST).read_bytes()
    epoch_of(trainer, 20)
    epoch_of(trainer, 60)
    trainer.save(tmp_path)
    best = (tmp_path / BEST).read_bytes()
    (tmp_path / LAST).write_bytes(last)
    again = of(SETTINGS, data_set(), device=quick_device)
    again.load(tmp_path)
    (tmp_path / BEST).write_bytes(best)
    epoch_of(again, 20)
    epoch_of(again, 60)
    again.save(tmp_path)
    assert again.test_best(tmp_path)["epoch"] == 2
    assert (tmp_path / BEST).read_bytes() == best


def test_a_checkpoint_moves_between_engines(quick_device, tmp_path):
    trainer = of(SETTINGS, data_set(), device=quick_device)
    trainer.step()
    trainer.save(tmp_path)
    on_cpu = of(SETTINGS, data_set())
    on_cpu.load(tmp_path)
    np.testing.assert_array_equal(on_cpu.buffer.data, quick_device.to_cpu(trainer.buffer.data))
    assert on_cpu.state == trainer.state
    on_cpu.step()
    trainer.step()
    trainer.catch_up()
    assert on_cpu.state.loss_sum == pytest.approx(trainer.state.loss_sum, rel=1e-4)


def parameter(trainer, name):
    return next(p.data for p in trainer.buffer.parameters if p.name == name)


@pytest.mark.parametrize("choice", ["fp32", "tf32"])
@pytest.mark.parametrize("value", [np.inf, np.nan])
def test_the_first_bad_step_is_found_later_and_changed_nothing(quick_device, choice, value):
    said = []
    settings, data = tiny("arch1-tstn", precision=choice)
    trainer = trainer_of(settings, data, say=said.append, device=quick_device)
    trainer.step()
    parameter(trainer, "localisation/theta/bias")[2:3] = value
    before = quick_device.to_cpu(trainer.buffer.data)
    trainer.step()
    assert not trainer.finished
    trainer.step()  # the last of the epoch
    layer = "localisation/theta in the localisation network"
    assert trainer.finished
    assert trainer.state.diverged == {"epoch": 1, "step": 1, "layer": layer}
    assert said == [f"DIVERGED at step 1: the first non-finite values are in {layer}"]
    assert (trainer.state.steps, trainer.state.batch, trainer.state.seen) == (1, 1, 3)
    np.testing.assert_array_equal(quick_device.to_cpu(trainer.buffer.data), before)


def test_a_collapse_is_noted_with_its_step(quick_device):
    said = []
    trainer = trainer_of(SETTINGS, data_set(), say=said.append, device=quick_device)
    trainer.step()
    outside = quick_device.to_gpu(np.float32([1, 0, 9, 0, 1, 0]))
    parameter(trainer, "localisation/theta/bias")[...] = outside
    trainer.step()
    trainer.step()
    trainer.catch_up()
    collapse = {"epoch": 1, "step": 2, "images": 16, "batch": 16, "end": None}
    assert trainer.state.collapses == [collapse]
    assert len(said) == 1 and said[0].startswith("COLLAPSE at step 2 (epoch 1)")


def test_planning_has_images_for_all_its_steps(quick_device):
    settings = Settings(
        Cluttered(canvas=8), ClassificationCnn(1), Training(epochs=1, batch_size=64)
    )
    cost = planning.Cost(settings, quick_device)
    assert cost.step > 0 and cost.image > 0


# -- what a person can put right -------------------------------------------------------------------


def test_too_little_memory_says_how_much_and_what_lowers_it(quick_device, tmp_path, monkeypatch):
    def empty(shape, dtype):
        raise MemoryError("Out of memory allocating 123,456 bytes")

    monkeypatch.setattr(quick_device, "empty", empty)
    with pytest.raises(UserError, match=r"allocating 123,456 bytes; a smaller --batch-size"):
        gpu_run(tmp_path, quick_device)


def test_tf32_needs_an_ampere(quick_device, monkeypatch):
    monkeypatch.setattr(quick_device, "capability", 75)
    settings, data = tiny("arch1-cnn", precision="tf32")
    with pytest.raises(UserError, match=r"needs a GPU of compute capability 8\.0, .* has 7\.5"):
        of(settings, data, device=quick_device)
    with pytest.raises(UserError, match="tf32 needs --gpu"):
        of(settings, data)
