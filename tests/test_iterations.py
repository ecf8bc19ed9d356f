"""Training by iterations on images that are drawn anew in each epoch: STN's way."""

from dataclasses import replace

import numpy as np
import pytest
from ministn.settings import Settings
from small_runs import outcome, shortened

from ministn import data, models, ops, parallel
from ministn.backend import assign
from ministn.data import addition, digits, distorted
from ministn.errors import UserError
from ministn.models import prediction
from ministn.optimizers import SGD, Optimizer
from ministn.parameter import ParameterBuffer
from ministn.randomness import Step, generator
from ministn.runs import Run, read_record
from ministn.tasks import Classification
from ministn.training import trainer as training
from ministn.training.trainer import Trainer

# Epochs of 16, 16, 16 and 5 images; the run ends in the middle of the second. The learning rate
# falls after the third and the sixth step.
SETTINGS = Settings(
    "r-st-fcn-affine",
    iterations=7,
    data="r-digits",
    canvas=28,
    distractors=0,
    patch=0,
    train_size=53,
    batch_size=16,
    lr=0.05,
    loc_lr=0.5,
    seed=4,
    optimizer="sgd",
    momentum=0.8,
    weight_decay=0.01,
    decay=0.1,
    decay_every=3,
)
RATES = [0.05] * 3 + [0.005] * 3 + [0.0005]

pytestmark = pytest.mark.usefixtures("unchanging_environment")


@pytest.fixture(scope="module")
def made():
    found = data.load("r-digits", train_size=53)
    return replace(found, test=shortened(found.test, 30))


def trained(made, **changes) -> Trainer:
    trainer = Trainer(replace(SETTINGS, **changes), made, lambda line: None)
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
    network = models.build("r-st-fcn-affine", (28, 28))
    for parameter in network.front.parameters():
        parameter.lr_multiplier = 0.5
    sgd = Optimizer(SGD(momentum=0.8, weight_decay=0.01), ParameterBuffer(network.parameters(), 4))
    number = 0
    for epoch in (1, 2):
        drawn, _ = distorted.fresh(
            distorted.R, "train", data.dataset.Digits(images, labels), 53, seed=0, epoch=epoch
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
    assert (first.state.epoch, first.state.batch, first.settings.total_epochs) == (1, 0, 1)


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
    whole = Run(tmp_path / "whole", SETTINGS, "test")
    whole.train(made, resume=False, bar=False)
    parts = Run(tmp_path / "parts", SETTINGS, "test")
    first = Trainer(SETTINGS, made, lambda line: None)
    for _ in range(stop):
        first.step()
    parts.folder.mkdir(parents=True)
    first.save(parts.folder)
    parts.train(made, resume=True, bar=False)
    assert outcome(parts) == outcome(whole)


def test_the_record_has_the_poses_and_says_how_long(made, tmp_path):
    run = Run(tmp_path, SETTINGS, "test")
    assert run.train(made, resume=False, bar=False) == "finished"
    record = read_record(run.record_path)
    assert (record["settings"]["epochs"], record["settings"]["iterations"]) == (None, 7)
    assert record["best"]["epoch"] == 2 and record["best"]["valid_error"] is None
    for entry in record["epochs"]:
        assert 0 < entry["pose_spread"] and entry["pose_unmoved"] == pytest.approx(
            record["epochs"][0]["pose_unmoved"]
        )
        assert np.shape(entry["theta"]) == (6, 6)
    assert record["best"]["test_pose_spread"] == record["epochs"][-1]["pose_spread"]
    assert run.already_finished(resume=False) == f"{run.folder} is finished: skipped"
    longer = Run(tmp_path, replace(SETTINGS, iterations=8), "test")
    assert longer.folder != run.folder, "its learning rate may fall elsewhere"


def test_two_workers_see_the_same(made):
    alone = trained(made)
    with parallel.team(2) as team:
        both = Trainer(SETTINGS, made, lambda line: None, team=team)
        while not both.finished:
            both.step()
        np.testing.assert_allclose(both.buffer.data, alone.buffer.data, rtol=0, atol=1e-6)
    assert both.state.history[-1]["test_error"] == alone.state.history[-1]["test_error"]


def test_a_gpu_does_the_same(made, quick_device):
    """Images that are made there differ by a byte here and there."""
    cpu = trained(made)
    gpu = Trainer(SETTINGS, made, lambda line: None, device=quick_device)
    while not gpu.finished:
        gpu.step()
    gpu.catch_up()
    found = quick_device.to_cpu(gpu.buffer.data)
    assert gpu.state.history[-1]["epoch"] == 2
    np.testing.assert_allclose(found, cpu.buffer.data, rtol=0, atol=2e-4)


def test_addition_has_two_digits_and_nineteen_classes():
    made = data.load("addition-digits", train_size=20)
    first, labels = made.train.epoch(1)
    again, other = made.train.epoch(2)
    assert first.shape == made.train.shape == (20, 42, 42, 2)
    assert (first != again).any() and (labels != other).any()
    expected, _ = addition.fresh("train", made.train.digits, 20, seed=0, epoch=2)
    np.testing.assert_array_equal(again, expected)
    settings = replace(
        SETTINGS, network="addition-2st-fcn-tps", data="addition-digits", canvas=42, train_size=20
    )
    network, _ = training.build(settings, (42, 42))
    x = ops.as_batch(first[:2])
    logits, looked = network.predict(x)
    assert logits.shape == (2, 19) and looked.grid.shape == (2, 2, 4, 4, 2)
    assert network.front.theta(x).shape == (2, 2 * 32)
    judged = Classification().judge(prediction.predict(network, made.test.images), made.test)
    found = made.test.measure(judged.attended)
    assert found["overlap"] > 0.1 and found["pose_spread"] == pytest.approx(found["pose_unmoved"])


@pytest.mark.parametrize("lost", [1, 2])
def test_whichever_of_two_transformers_leaves_the_image_is_noticed(lost, quick_device):
    made = data.load("addition-digits", train_size=20)
    settings = replace(
        SETTINGS, network="addition-2st-fcn-affine", data="addition-digits", canvas=42,
        train_size=20,
    )  # fmt: skip
    with parallel.team(2) as team:
        for options in ({}, {"team": team}, {"device": quick_device}):
            trainer = Trainer(settings, made, lambda line: None, **options)
            trainer.step()
            values = trainer.buffer.views(trainer.buffer.data)
            assign(values[f"localisation{lost}/theta/bias"], np.float32([1, 0, 9, 0, 1, 0]))
            trainer.step()
            trainer.catch_up()
            (collapse,) = trainer.state.collapses
            assert (collapse["step"], collapse["images"], collapse["batch"]) == (2, 4, 4)


def test_every_digit_that_is_not_for_testing_is_trained_on():
    made = data.load("r-digits")
    assert made.valid is None and made.watched is made.test
    assert len(made.train.digits) == 1497 and len(made.train) == 8000
    assert made.sha256 != data.load("r-digits", seed=1).sha256
    assert (
        made.sha256
        != data.load("r-digits", train_size=9).sha256
        == data.load("r-digits", train_size=9).sha256
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"epochs": 3}, "a run needs a number of epochs, or else one of iterations"),
        ({"iterations": None}, "a run needs a number of epochs, or else one of iterations"),
        ({"iterations": 0}, "iterations must be at least 1, got 0"),
        ({"decay_every": 0}, "decay_every must be at least 1, got 0"),
        ({"decay": -1.0}, "decay must be a number from 0 up, got -1.0"),
        ({"momentum": float("nan")}, "momentum must be at least 0 and below 1, got nan"),
        ({"momentum": -0.1}, "momentum must be at least 0 and below 1, got -0.1"),
        ({"momentum": 1.0}, "momentum must be at least 0 and below 1, got 1.0"),
        ({"weight_decay": -0.1}, "weight_decay must be a number from 0 up, got -0.1"),
        ({"optimizer": "rmsprop"}, "optimizer must be adam or sgd, got 'rmsprop'"),
        ({"distractors": 1}, "patch must be at least 1, got 0"),
    ],
)
def test_impossible_settings(changes, message):
    with pytest.raises(UserError, match=message):
        replace(SETTINGS, **changes)


def test_a_distorted_set_is_as_it_is():
    with pytest.raises(UserError, match="canvas, distractors and patch of the set rts cannot be"):
        data.load("rts", canvas=60)
