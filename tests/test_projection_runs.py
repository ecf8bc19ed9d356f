"""Training on volumes: what it sees, that it makes few of them at a time, what a record keeps."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from small_runs import changed, outcome, shortened, trainer_of

from ministn import ops, parallel
from ministn.data import Addition, Cluttered, Extruded, Form, extruded
from ministn.models import Projected, prediction
from ministn.optimizers import SGD, Adam, Optimizer
from ministn.parameter import ParameterBuffer
from ministn.plot import attention_figure
from ministn.randomness import Step, generator
from ministn.runs import Run, Settings, planning, read_record
from ministn.schedules import StepDecay
from ministn.training.examples import as_text, from_text
from ministn.training.protocol import Training
from ministn.training.trainer import Trainer

# Epochs of 4, 4 and 2 volumes; the run ends in the middle of the second.
SETTINGS = Settings(
    Extruded("digits", train_size=10),
    Projected("fcn", transformed=True),
    Training(lr=0.01, schedule=StepDecay(0.1, 2), batch_size=4, iterations=5),
    seed=4,
)
RATES = [0.01, 0.01, 0.001, 0.001, 0.0001]

pytestmark = pytest.mark.usefixtures("unchanging_environment")


@pytest.fixture(scope="module")
def made():
    found = SETTINGS.data.load()
    return replace(found, test=shortened(found.test, 9))


of = partial(trainer_of, say=lambda line: None)


def trained(made, team=None, **changes) -> Trainer:
    trainer = of(changed(SETTINGS, **changes), made, team=team)
    while not trainer.finished:
        trainer.step()
    return trainer


def test_the_iterations_restated(made):
    """Fresh volumes in each epoch, all of them at hand at once, and Adam."""
    network = SETTINGS.network.build(Form((60, 60, 60)))
    adam = Optimizer(Adam(), ParameterBuffer(network.parameters(), 4))
    number, digits = 0, made.train.digits
    for epoch in (1, 2):
        motions = extruded.draw("train", 10, seed=0, epoch=epoch)
        volumes = extruded.volumes(digits.images[:10], motions)
        order = generator(4, "shuffle", epoch).permutation(10)
        for rows in np.split(order, [4, 8])[: 5 - number]:
            logits, cache = network.forward(ops.as_batch(volumes[rows]), Step(4, number))
            _, loss_cache = ops.softmax_cross_entropy(logits, digits.labels[rows])
            adam.buffer.zero_grad()
            network.backward(ops.softmax_cross_entropy_backward(loss_cache), cache)
            adam.step(RATES[number])
            number += 1
    trainer = trained(made)
    assert number == trainer.state.steps == 5
    np.testing.assert_allclose(trainer.buffer.data, adam.buffer.data, rtol=0, atol=1e-6)


def test_no_more_volumes_are_made_than_are_looked_at_at_once(made, monkeypatch):
    """They are too large for it: a batch, as many as are judged at once, or the examples."""
    real, counts = extruded.volumes, []

    def volumes(images, motions):
        counts.append(len(images))
        return real(images, motions)

    monkeypatch.setattr(extruded, "volumes", volumes)
    monkeypatch.setattr(prediction, "BATCH", 5)
    trained(made, iterations=3)
    assert counts == [4, 4, 2, 5, 4, 6]


def test_two_workers_see_the_same(made):
    """With SGD: Adam would make sums in another order count."""
    alone = trained(made, optimizer=SGD())
    with parallel.team(2) as team:
        both = trained(made, team, optimizer=SGD())
        np.testing.assert_allclose(both.buffer.data, alone.buffer.data, rtol=0, atol=1e-6)
    assert both.state.history[-1]["test_error"] == alone.state.history[-1]["test_error"]


def test_a_resumed_run_ends_with_the_same_bits(made, tmp_path):
    whole = Run(tmp_path / "whole", SETTINGS, "volumes", "test")
    whole.train(made, resume=False, bar=False)
    parts = Run(tmp_path / "parts", SETTINGS, "volumes", "test")
    first = of(SETTINGS, made)
    for _ in range(4):
        first.step()
    parts.folder.mkdir(parents=True)
    first.save(parts.folder)
    parts.train(made, resume=True, bar=False)
    assert outcome(parts) == outcome(whole)


def test_a_record_has_projections_and_no_volume(made, tmp_path):
    run = Run(tmp_path, SETTINGS, "volumes", "test")
    assert run.train(made, resume=False, bar=False) == "finished"
    assert run.folder.name == (
        "projection-st-fcn-extruded-digits-train_size10-transformedTrue-lr0.01-factor0.1-every2-"
        "batch_size4-iterations5-seed4-9c6de7da"
    )
    record = read_record(run.record_path)
    assert run.record_path.stat().st_size < 150_000
    found, volumes = record["examples"], np.asarray(made.test.images[:6])
    assert found["size"] == [60, 60, 60] and found["labels"] == made.test.labels[:6].tolist()
    np.testing.assert_allclose(found["boxes"], made.test.boxes[:6])
    np.testing.assert_allclose(from_text(found), volumes.mean(axis=1), atol=0.51)
    transformer = SETTINGS.network.build(Form((60, 60, 60))).transformer
    x = volumes.astype(np.float32)
    for entry, theta in [
        (found, [transformer.transform.identity] * 6),
        *((epoch, epoch["theta"]) for epoch in record["epochs"]),
    ]:
        warped = transformer.warp(x, np.array(theta, np.float32))
        expected = warped.mean(axis=1)
        assert np.ptp(expected) > 20
        np.testing.assert_allclose(from_text(entry["projections"]), expected, atol=0.51)
    assert len(attention_figure(record).axes) == 36
    best = record["best"]
    assert 0 < best["test_pose_spread"] != best["test_pose_unmoved"] and best["test_overlap"] > 0


def test_a_base_network_has_no_projections_but_the_inputs(made, tmp_path):
    base = changed(SETTINGS, network=Projected("fcn"), iterations=2)
    run = Run(tmp_path, base, "volumes", "test")
    run.train(made, resume=False, bar=False)
    record = read_record(run.record_path)
    assert "projections" not in record["examples"] and from_text(record["examples"]).any()
    assert record["epochs"][0]["theta"] is None and "projections" not in record["epochs"][0]


def test_images_as_text_and_back():
    images = np.random.default_rng(0).integers(0, 256, (4, 6, 5), np.uint8)[:, ::2]
    np.testing.assert_array_equal(from_text(as_text(images)), images)


def test_where_a_loss_is_not_finite_is_found(made):
    trainer = of(SETTINGS, made)
    (bias,) = (p for p in trainer.buffer.parameters if p.name == "localisation/dense2/bias")
    bias.data[0] = np.nan
    trainer.step()
    assert trainer.state.diverged == {
        "epoch": 1,
        "step": 0,
        "layer": "localisation/dense2 in the localisation network",
    }


@pytest.mark.parametrize(
    ("data", "size", "shape"),
    [
        (Extruded(), (60, 60, 60), (60, 60, 60)),
        (Addition("digits"), (42, 42), (42, 42, 2)),
        (Cluttered(canvas=33), (33, 33), (33, 33)),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_a_plan_is_made_with_inputs_of_the_right_shape(data, size, shape):
    noise = data.noise(3)
    assert noise.shape == (3, *shape) and noise.size == size and len(noise) == 3
    assert np.asarray(noise.images).std() > 10
    assert data.form.size == size and data.form.shape == shape
    assert data.noise(500).labels.max() == data.form.classes - 1


def test_a_plan_for_volumes(monkeypatch):
    """The time to make them is part of it: they are made while it is taken."""
    monkeypatch.setattr(planning, "BATCH", 3)
    real, counts = extruded.volumes, []

    def volumes(images, motions):
        counts.append(len(images))
        return real(images, motions)

    monkeypatch.setattr(extruded, "volumes", volumes)
    cost = planning.Cost(replace(SETTINGS, network=Projected("fcn")))
    assert cost.step > 0 and cost.image > 0
    assert counts == [4, 4, 3, 3]
