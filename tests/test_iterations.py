"""Training by iterations on images that are drawn anew in each epoch: STN's way."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from small_runs import changed, outcome, shortened, trainer_of

from ministn import ops, parallel
from ministn.backend import assign
from ministn.data import Addition, Digits, Distorted, Form, addition, digits, distorted
from ministn.errors import UserError
from ministn.kinds import from_json, replaced, to_json
from ministn.models import Stn, prediction
from ministn.optimizers import SGD, Optimizer
from ministn.parameter import ParameterBuffer
from ministn.randomness import Step, generator
from ministn.runs import Run, Settings, read_record
from ministn.schedules import StepDecay
from ministn.tasks import Classification
from ministn.training.protocol import Training
from ministn.training.trainer import Trainer

# Epochs of 16, 16, 16 and 5 images; the run ends in the middle of the second. The learning rate
# falls after the third and the sixth step.
SETTINGS = Settings(
    Distorted("R", "digits", train_size=53),
    Stn("fcn", "affine"),
    Training(SGD(0.8, 0.01), 0.05, StepDecay(0.1, 3), batch_size=16, iterations=7, loc_lr=0.5),
    seed=4,
)
RATES = [0.05] * 3 + [0.005] * 3 + [0.0005]

SUMS = replace(SETTINGS, data=Addition("digits", train_size=20), network=Stn("fcn", "affine", 2))

pytestmark = pytest.mark.usefixtures("unchanging_environment")


@pytest.fixture(scope="module")
def made():
    found = SETTINGS.data.load()
    return replace(found, test=shortened(found.test, 30))


of = partial(trainer_of, say=lambda line: None)


def trained(made, **changes) -> Trainer:
    trainer = of(changed(SETTINGS, **changes), made)
    while not trainer.finished:
        trainer.step()
    return trainer


def test_the_iterations_restated(made):
    """Fresh images in each epoch, SGD, a rate for each step, the results of the last."""
    source = digits.load()
    images, labels = (
        np.concatenate([getattr(source[split], name) for split in ("train", "valid")])
        for name in ("images", "labels")
    )
    network = Stn("fcn", "affine").build(Form((28, 28)))
    for parameter in network.front.parameters():
        parameter.lr_multiplier = 0.5
    sgd = Optimizer(SGD(momentum=0.8, weight_decay=0.01), ParameterBuffer(network.parameters(), 4))
    number = 0
    for epoch in (1, 2):
        drawn, _ = distorted.fresh(
            distorted.R, "train", Digits(images, labels), 53, seed=0, epoch=epoch
        )
        order = generator(4, "shuffle", epoch).permutation(53)
        for rows in np.split(order, [16, 32, 48])[: 7 - number]:
            x = (drawn[rows] * np.float32(1 / 255))[..., None]
            logits, cache = network.forward(x, Step(4, number))
            _, loss_cache = ops.softmax_cross_entropy(logits, labels[rows])
            sgd.buffer.zero_grad()
            network.backward(ops.softmax_cross_entropy_backward(loss_cache), cache)
            sgd.step(RATES[number])
            number += 1
    trainer = trained(made)
    assert number == trainer.state.steps == 7
    assert [entry["lr"] for entry in trainer.state.history] == pytest.approx([0.05, 0.005])
    np.testing.assert_allclose(trainer.buffer.data, sgd.buffer.data, rtol=0, atol=1e-6)


def test_an_epoch_that_ends_early_is_judged_by_the_images_it_saw(made):
    whole, short = (trained(made, iterations=n).state.history[0] for n in (4, 1))
    assert whole["train_loss"] != short["train_loss"]
    first = trained(made, iterations=1, lr=0.0)
    assert 0 < first.state.history[0]["train_loss"] < 5
    assert (first.state.epoch, first.state.batch, first.training.total_epochs(53)) == (1, 0, 1)


def test_nothing_is_chosen_by_the_test_images(made, monkeypatch):
    """Without a validation split the last weights are the run's, though earlier ones do better."""
    real, errors = Classification.judge, iter([1, 2, 3])

    def judge(task, predicted, split):
        found = real(task, predicted, split)
        wrong = next(errors)
        return type(found)(found.loss, np.arange(len(split)) >= wrong, found.attended)

    monkeypatch.setattr(Classification, "judge", judge)
    trainer = trained(made, iterations=9)
    assert [entry["test_error"] for entry in trainer.state.history] == pytest.approx(
        [100 / 30, 200 / 30, 300 / 30]
    )
    assert "valid_error" not in trainer.state.history[0]
    assert trainer.best is trainer.state.history[-1]


@pytest.mark.parametrize("stop", [1, 4, 6])
def test_a_resumed_run_ends_with_the_same_bits(made, stop, tmp_path):
    whole = Run(tmp_path / "whole", SETTINGS, "table", "test")
    whole.train(made, resume=False, bar=False)
    parts = Run(tmp_path / "parts", SETTINGS, "table", "test")
    first = of(SETTINGS, made)
    for _ in range(stop):
        first.step()
    parts.folder.mkdir(parents=True)
    first.save(parts.folder)
    parts.train(made, resume=True, bar=False)
    assert outcome(parts) == outcome(whole)


def test_the_record_has_the_poses_and_says_how_long(made, tmp_path):
    run = Run(tmp_path, SETTINGS, "table", "test")
    assert run.train(made, resume=False, bar=False) == "finished"
    record = read_record(run.record_path)
    training = record["settings"].training
    assert (training.epochs, training.iterations) == (None, 7)
    assert record["best"]["epoch"] == 2 and record["best"]["valid_error"] is None
    for entry in record["epochs"]:
        assert 0 < entry["pose_spread"] and entry["pose_unmoved"] == pytest.approx(
            record["epochs"][0]["pose_unmoved"]
        )
        assert np.shape(entry["theta"]) == (6, 6)
    assert record["best"]["test_pose_spread"] == record["epochs"][-1]["pose_spread"]
    assert run.already_finished(resume=False) == f"{run.folder} is finished: skipped"
    longer = Run(tmp_path, changed(SETTINGS, iterations=8), "table", "test")
    assert longer.folder != run.folder, "its learning rate may fall elsewhere"


def test_two_workers_see_the_same(made):
    alone = trained(made)
    with parallel.team(2) as team:
        both = of(SETTINGS, made, team=team)
        while not both.finished:
            both.step()
        np.testing.assert_allclose(both.buffer.data, alone.buffer.data, rtol=0, atol=1e-6)
    assert both.state.history[-1]["test_error"] == alone.state.history[-1]["test_error"]


def test_a_gpu_does_the_same(made, quick_device):
    """Images that are made there differ by a byte here and there."""
    cpu = trained(made)
    gpu = of(SETTINGS, made, device=quick_device)
    while not gpu.finished:
        gpu.step()
    gpu.catch_up()
    found = quick_device.to_cpu(gpu.buffer.data)
    assert gpu.state.history[-1]["epoch"] == 2
    np.testing.assert_allclose(found, cpu.buffer.data, rtol=0, atol=2e-4)


def test_addition_has_two_digits_and_nineteen_classes():
    made = SUMS.data.load()
    first, labels = made.train.epoch(1)
    again, other = made.train.epoch(2)
    assert first.shape == made.train.shape == (20, 42, 42, 2)
    assert (first != again).any() and (labels != other).any()
    expected, _ = addition.fresh("train", made.train.digits, 20, seed=0, epoch=2)
    np.testing.assert_array_equal(again, expected)
    network = of(replace(SUMS, network=Stn("fcn", "tps", 2)), made).network
    x = ops.as_batch(first[:2])
    logits, looks = network.predict(x)
    assert logits.shape == (2, 19) and [looked.grid.shape for looked in looks] == [(2, 4, 4, 2)] * 2
    assert network.front.theta(x).shape == (2, 2 * 32)
    judged = Classification().judge(prediction.predict(network, made.test.images), made.test)
    found = made.test.measure(judged.attended)
    assert found["overlap"] > 0.1 and found["pose_spread"] == pytest.approx(found["pose_unmoved"])
    each = [one["overlap"] for one in found["transformers"]]
    assert each == pytest.approx([found["overlap"]] * 2)


@pytest.mark.parametrize("lost", [1, 2])
def test_whichever_of_two_transformers_leaves_the_image_is_noticed(lost, quick_device):
    made = SUMS.data.load()
    with parallel.team(2) as team:
        for options in ({}, {"team": team}, {"device": quick_device}):
            trainer = of(SUMS, made, **options)
            trainer.step()
            values = trainer.buffer.views(trainer.buffer.data)
            assign(values[f"localisation{lost}/theta/bias"], np.float32([1, 0, 9, 0, 1, 0]))
            trainer.step()
            trainer.catch_up()
            (collapse,) = trainer.state.collapses
            assert (collapse["step"], collapse["images"], collapse["batch"]) == (2, 4, 4)


def test_every_digit_that_is_not_for_testing_is_trained_on():
    whole = Distorted("R", "digits", train_size=8000)
    few = replace(whole, train_size=9)
    made = whole.load()
    assert made.valid is None and made.watched is made.test
    assert len(made.train.digits) == 1497 and len(made.train) == 8000
    assert made.sha256 != replace(whole, seed=1).load().sha256
    assert made.sha256 != few.load().sha256 == few.load().sha256


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("training.epochs", 3, "a run needs a number of epochs, or else one of iterations"),
        ("training.iterations", None, "a run needs a number of epochs, or else one of iterations"),
        ("training.iterations", 0, "iterations must be at least 1, got 0"),
        ("training.iterations", 2.5, "iterations must be a whole number, got 2.5"),
        ("training.batch_size", float("nan"), "batch_size must be a whole number, got nan"),
        ("training.lr", float("nan"), "lr must be a number from 0 up, got nan"),
        ("training.loc_lr", "0.1", "loc_lr must be a number from 0 up, got '0.1'"),
        ("training.clip", 0.0, "clip must be a number from 1.2e-38 up, got 0.0"),
        ("training.clip", "1", "clip must be a number from 1.2e-38 up, got '1'"),
        ("training.clip_norm", float("nan"), "clip_norm must be a number from 1.2e-38 up, got nan"),
        ("training.clip_norm", -1, "clip_norm must be a number from 1.2e-38 up, got -1"),
        ("training.schedule.every", 2.5, "decay_every must be a whole number, got 2.5"),
        ("training.schedule.every", 0, "decay_every must be at least 1, got 0"),
        ("training.schedule.factor", -1.0, "decay must be a number from 0 up, got -1.0"),
        (
            "training.optimizer.momentum",
            float("nan"),
            "momentum must be at least 0 and below 1, got nan",
        ),
        ("training.optimizer.momentum", -0.1, "momentum must be at least 0 and below 1, got -0.1"),
        ("training.optimizer.momentum", 1.0, "momentum must be at least 0 and below 1, got 1.0"),
        (
            "training.optimizer.weight_decay",
            -0.1,
            "weight_decay must be a number from 0 up, got -0.1",
        ),
        ("training.schedule.first", 0, "first_decay must be at least 1, got 0"),
        ("training.optimizer", "rmsprop", "optimizer of a training cannot be 'rmsprop'"),
        ("training.schedule", SGD(), "schedule of a training cannot be SGD"),
        ("pretrained", Training(epochs=1), "a run cannot start from Training"),
        ("data.recipe", "Z", "there is no set 'Z': choose one of R, RTS, P, E, TC"),
        ("data.train_size", 0, "train_size must be at least 1, got 0"),
        ("network.base", "rnn", "base of an stn must be one of 'fcn', 'cnn', got 'rnn'"),
    ],
)
def test_impossible_settings(path, value, message):
    with pytest.raises(UserError, match=message):
        replaced(SETTINGS, path, value)


@pytest.mark.parametrize("field", ["canvas", "distractors", "patch"])
def test_a_distorted_set_is_as_it_is(field):
    with pytest.raises(TypeError, match=f"unexpected keyword argument '{field}'"):
        Distorted("RTS", **{field: 60})
    written = to_json(Distorted("RTS")) | {field: 60}
    with pytest.raises(UserError, match=f"^distorted has no {field}; it has recipe, source, "):
        from_json(written)
