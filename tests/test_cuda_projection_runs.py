"""Training on volumes on a GPU: what it comes to, where volumes are made, that nothing waits."""

from dataclasses import replace

import numpy as np
import pytest
from small_runs import changed, outcome, shortened
from test_cuda_networks import no_copies
from test_projection_runs import SETTINGS, of

from ministn.data import extruded
from ministn.models import Projected, prediction
from ministn.optimizers import SGD
from ministn.runs import Run, planning, read_record
from ministn.training.examples import from_text

CANVAS = 30  # an eighth of the voxels

pytestmark = pytest.mark.usefixtures("unchanging_environment", "small")


@pytest.fixture(scope="module")
def small():
    """Small volumes: a cube of 28 is moved by a voxel at most."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(extruded, "CANVAS", CANVAS)
        patch.setattr(extruded, "MIDDLE", (CANVAS - 1) / 2)
        yield


@pytest.fixture(scope="module")
def made(small):
    found = SETTINGS.data.load()
    assert found.train.size == SETTINGS.data.form.size == (CANVAS,) * 3
    return replace(found, test=shortened(found.test, 9))


@pytest.fixture
def only_there(monkeypatch):
    """The CPU makes no volumes."""

    def never(*arguments):
        raise AssertionError("a volume was made on the CPU")

    monkeypatch.setattr(extruded, "volumes", never)


def trained(made, device=None, **changes):
    trainer = of(changed(SETTINGS, **changes), made, device=device)
    while not trainer.finished:
        trainer.step()
    return trainer


@pytest.mark.parametrize(
    "network", [Projected("fcn", True), Projected("cnn")], ids=lambda network: network.name
)
def test_it_comes_to_the_same(made, quick_device, network):
    """With SGD: Adam would make sums in another order count.

    Largest difference on the shim 2e-7; on a GPU single voxels may be rounded otherwise.
    """
    cpu, gpu = (
        trained(made, device, network=network, optimizer=SGD()) for device in (None, quick_device)
    )
    found = quick_device.to_cpu(gpu.buffer.data)
    np.testing.assert_allclose(found, cpu.buffer.data, rtol=0, atol=1e-5)
    assert gpu.state.history[-1]["epoch"] == 2
    for key, value in cpu.state.history[-1].items():
        if isinstance(value, float):
            assert gpu.state.history[-1][key] == pytest.approx(value, rel=2e-4), key


@pytest.mark.parametrize("choice", ["fp32", "tf32"])
def test_the_host_makes_no_volumes_and_does_not_wait(
    made, quick_device, monkeypatch, only_there, choice
):
    monkeypatch.setattr(prediction, "BATCH", 5)
    settings = changed(SETTINGS, iterations=6, precision=choice)
    trainer = of(settings, made, device=quick_device)
    for _ in range(4):  # into the second epoch: kernels are compiled, constants are copied
        trainer.step()
    with no_copies(quick_device, monkeypatch):
        trainer.step()
    trainer.step()
    assert trainer.finished and [epoch["epoch"] for epoch in trainer.state.history] == [1, 2]


def test_two_runs_and_a_resumed_one_are_equal_bit_for_bit(made, quick_device, tmp_path):
    def run(name, resume=False):
        run = Run(tmp_path / name, SETTINGS, "volumes", "test", quick_device)
        run.train(made, resume=resume, bar=False)
        return run

    first = run("first")
    assert outcome(run("again")) == outcome(first)
    stopped = of(SETTINGS, made, device=quick_device)
    for _ in range(4):
        stopped.step()
    folder = Run(tmp_path / "resumed", SETTINGS, "volumes", "test").folder
    folder.mkdir(parents=True)
    stopped.save(folder)
    assert outcome(run("resumed", resume=True)) == outcome(first)

    record = read_record(first.record_path)
    assert record["device"]["engine"] == "cuda"
    transformer = stopped.network.transformer
    x = np.asarray(made.test.images[:6]).astype(np.float32)
    for epoch in record["epochs"]:
        expected = transformer.warp(x, np.array(epoch["theta"], np.float32)).mean(axis=1)
        np.testing.assert_allclose(from_text(epoch["projections"]), expected, atol=0.6)


def test_where_a_loss_is_not_finite_is_found(made, quick_device, only_there):
    trainer = of(SETTINGS, made, device=quick_device)
    (bias,) = (p for p in trainer.buffer.parameters if p.name == "localisation/dense2/bias")
    bias.data[:1] = np.nan
    for _ in range(3):
        trainer.step()
    layer = "localisation/dense2 in the localisation network"
    assert trainer.state.diverged == {"epoch": 1, "step": 0, "layer": layer}


def test_a_plan(quick_device, monkeypatch, only_there):
    monkeypatch.setattr(planning, "BATCH", 3)
    cost = planning.Cost(replace(SETTINGS, network=Projected("fcn")), quick_device)
    assert cost.step > 0 and cost.image > 0
