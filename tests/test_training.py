"""The epoch loop restated, the best epoch, collapse and divergence, impossible settings."""

import json
import math
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from small_runs import (
    SETTINGS,
    STEPS,
    changed,
    data_set,
    outcome,
    run_in,
    shortened,
    train,
    trainer_of,
)

from ministn import ops
from ministn.data import Cluttered, Form
from ministn.errors import UserError
from ministn.kinds import replaced
from ministn.models import NETWORKS, Tstn, prediction
from ministn.models.prediction import predict
from ministn.optimizers import Adam, Optimizer
from ministn.parameter import ParameterBuffer
from ministn.randomness import Step, generator
from ministn.runs import Settings
from ministn.schedules import StepDecay
from ministn.tasks import Classification, Evaluation
from ministn.training import checkpoint
from ministn.training.protocol import Training
from ministn.training.steps import Outcome
from ministn.training.trainer import BEST, Trainer

INSIDE, OUTSIDE = [1, 0, 0, 0, 1, 0], [1, 0, 9, 0, 1, 0]


def trainer(**changes) -> tuple[Trainer, list[str]]:
    said: list[str] = []
    return trainer_of(changed(SETTINGS, **changes), data_set(), say=said.append), said


def finish(trained: Trainer) -> Trainer:
    while not trained.finished:
        trained.step()
    return trained


def parameter(trained: Trainer, name: str) -> np.ndarray:
    return next(p.data for p in trained.buffer.parameters if p.name == name)


# -- what an epoch is --------------------------------------------------------------------------


def test_the_epoch_loop_restated():
    """Shuffle by (seed, epoch), every image once, the errors running and in training mode."""
    images, labels = (getattr(data_set().train, name) for name in ("images", "labels"))
    network = Tstn(1).build(Form((9, 9)))
    buffer = ParameterBuffer(network.parameters(), SETTINGS.seed)
    adam, number, expected, evaluated = Optimizer(Adam(), buffer), 0, [], []
    for epoch in (1, 2, 3):
        order = generator(SETTINGS.seed, "shuffle", epoch).permutation(53)
        losses, errors = [], 0
        for rows in np.split(order, [16, 32, 48]):
            # Not divided by 255: Adam makes per cent of a difference in the last bit.
            x = (images[rows] * np.float32(1 / 255))[..., None]
            logits, cache = network.forward(x, Step(SETTINGS.seed, number))
            loss, loss_cache = ops.softmax_cross_entropy(logits, labels[rows])
            losses += [float(loss)] * len(rows)
            errors += int((logits.argmax(1) != labels[rows]).sum())
            buffer.zero_grad()
            network.backward(ops.softmax_cross_entropy_backward(loss_cache), cache)
            adam.step(0.003 * 0.7 ** ((epoch - 1) // 20))
            number += 1
        expected.append((np.mean(losses), 100 * errors / 53))
        train = data_set().train
        evaluated.append(Classification().judge(predict(network, train.images), train).error)
    trained = finish(trainer()[0])
    history = trained.state.history
    assert [epoch["epoch"] for epoch in history] == [1, 2, 3]
    assert trained.state.steps == STEPS == number
    found = [(epoch["train_loss"], epoch["train_error"]) for epoch in history]
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert [error for _, error in found] != evaluated, "training mode would not matter here"


def test_one_seed_gives_one_run_and_another_seed_another():
    first, again, other = (finish(trainer(seed=seed, epochs=1)[0]) for seed in (1, 1, 2))
    assert first.buffer.data.tobytes() == again.buffer.data.tobytes()
    assert first.state == again.state != other.state


def test_images_become_numbers_from_0_to_1():
    batch = ops.as_batch(np.arange(256, dtype=np.uint8).reshape(1, 16, 16))
    assert batch.dtype == np.float32 and batch.shape == (1, 16, 16, 1)
    np.testing.assert_allclose(batch.ravel(), np.arange(256) / 255, rtol=2e-7)
    assert batch.max() == 1


def test_evaluation_does_not_depend_on_how_it_is_cut(monkeypatch):
    trained = finish(trainer(epochs=1)[0])
    split = data_set().valid
    whole = trained.steps.evaluate(split)
    monkeypatch.setattr(prediction, "BATCH", 7)
    cut = trained.steps.evaluate(split)
    (one,), (other,) = whole.attended, cut.attended
    assert one.theta.shape == (31, 2, 3) and one.grid.shape == (31, 4, 4, 2)
    assert whole.correct.shape == (31,)
    for found, expected in zip(other, one, strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-6)
    assert cut.loss == pytest.approx(whole.loss, rel=1e-5)
    logits, _ = trained.network.predict(ops.as_batch(split.images))
    np.testing.assert_array_equal(whole.correct, logits.argmax(1) == split.labels)
    assert whole.error == 100 * np.count_nonzero(~whole.correct) / 31


@pytest.mark.parametrize(
    ("errors", "best"),
    [
        ([50, 40, 40, 30, 30], [1, 2, 2, 4, 4]),
        ([50, 60, 50, 50, 49], [1, 1, 1, 1, 5]),
        ([0, 0, 0, 0, 0], [1, 1, 1, 1, 1]),
        ([100, 100, 99, 100, 99], [1, 1, 3, 3, 3]),
    ],
)
def test_best_is_strictly_lower_so_ties_go_to_the_earliest(errors, best, tmp_path, monkeypatch):
    """The weights on disk are of that epoch, and the test error is of those weights."""
    trained, _ = trainer(epochs=5)
    real, left = Classification.judge, iter(errors)

    def judge(task, predicted, split):
        if split is trained.data.test:
            return real(task, predicted, split)
        return Evaluation(1.0, np.arange(100) >= next(left), [])

    monkeypatch.setattr(Classification, "judge", judge)
    weights, found = {}, []
    while not trained.finished:
        trained.step()
        if trained.state.batch == 0:
            weights[trained.state.epoch] = trained.buffer.data.copy()
            trained.save(tmp_path)
            found.append(checkpoint.load(tmp_path / BEST)[1]["epoch"])
    assert found == best
    tested = trained.test_best(tmp_path)
    assert tested["epoch"] == best[-1] and tested["valid_error"] == errors[best[-1] - 1]
    np.testing.assert_array_equal(trained.buffer.data, weights[best[-1]])
    assert tested["test_error"] == trained.steps.evaluate(trained.data.test).error


@pytest.mark.parametrize("network", ["arch1-cnn", "arch1-untied"])
@pytest.mark.parametrize("loc_lr", [0.0, 1.0])
def test_loc_lr_freezes_what_only_the_localisation_network_has(network, loc_lr):
    trained, _ = trainer(network=NETWORKS[network], loc_lr=loc_lr, epochs=1)
    start = {p.name: p.data.copy() for p in trained.buffer.parameters}
    finish(trained)
    still = [p.name for p in trained.buffer.parameters if np.array_equal(p.data, start[p.name])]
    frozen = [name for name in start if name.startswith("localisation")]
    assert still == (frozen if loc_lr == 0 else [])
    watched = [trained.state.history[0][name] for name in ("overlap", "inside", "theta")]
    assert all((value is None) == (network == "arch1-cnn") for value in watched)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("training.epochs", 0, "epochs must be at least 1, got 0"),
        ("data.train_size", 0, "train_size must be at least 1, got 0"),
        ("data.train_size", 50_001, "train_size must be at most 50000, got 50001"),
        ("training.batch_size", -3, "batch_size must be at least 1, got -3"),
        ("training.lr", math.nan, "lr must be a number from 0 up, got nan"),
        ("training.lr", -1.0, "lr must be a number from 0 up, got -1.0"),
        ("training.lr", math.inf, "lr must be a number from 0 up, got inf"),
        ("training.loc_lr", -0.5, "loc_lr must be a number from 0 up, got -0.5"),
        ("data.canvas", 0, "canvas must be at least 1, got 0"),
        ("data.distractors", -1, "distractors must be at least 0, got -1"),
        ("data.patch", 0, "patch must be at least 1, got 0"),
        ("seed", -1, "^seed must be from 0 to 2\\^64 - 1, got -1"),
        ("seed", 2**64, "^seed must be from 0 to 2\\^64 - 1, got 18446744073709551616"),
        ("data.seed", -1, "data_seed must be from 0 to 2\\^64 - 1, got -1"),
        ("data.source", "fashion", "source must be mnist or digits, got 'fashion'"),
        ("precision", "fp16", "precision must be fp32 or tf32, got 'fp16'"),
        ("network", Cluttered(), "network of a run cannot be Cluttered"),
        ("network.architecture", 3, "architecture must be 1 or 2, got 3"),
        ("network.downsample", 0, "downsample must be a number above 0, got 0"),
    ],
)
def test_impossible_settings(path, value, message):
    with pytest.raises(UserError, match=message):
        replaced(SETTINGS, path, value)


def test_the_largest_seed_works():
    trained, _ = trainer(seed=2**64 - 1, epochs=1)
    trained.step()
    assert trained.state.steps == 1


# -- collapse and divergence -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shares", "events"),
    [
        ([0, 8, 0], []),
        ([9, 16, 9, 4], ["COLLAPSE 1"]),
        ([0, 9, 4, 3, 0], ["COLLAPSE 2", "back 4"]),
        ([16, 0, 8, 9, 7, 3], ["COLLAPSE 1", "back 2", "COLLAPSE 4", "back 6"]),
    ],
    ids=str,
)
def test_collapse_is_more_than_half_and_recovery_less_than_a_quarter(shares, events):
    trained, said = trainer()
    for step, left in enumerate(shares, 1):
        trained._watch(Outcome(step - 1, images=16, loss=1.0, errors=0, left=left))
    named = ["COLLAPSE {}", "back {}"]
    found = [
        name.format(event["step"])
        for collapse in trained.state.collapses
        for name, event in zip(named, (collapse, collapse["end"]), strict=True)
        if event
    ]
    assert found == events
    assert len(said) == len(events)


def test_collapse_is_told_recorded_and_survives_resuming(tmp_path):
    trained, said = trainer()
    bias = parameter(trained, "localisation/theta/bias")
    trained.step()
    bias[...] = OUTSIDE
    trained.step()
    collapse = {"epoch": 1, "step": 2, "images": 16, "batch": 16, "end": None}
    assert trained.state.collapses == [collapse]
    assert len(said) == 1 and said[0].startswith(
        "COLLAPSE at step 2 (epoch 1): the attention of 16 of 16 images has left the image"
    )
    trained.save(tmp_path)
    again, said = trainer()
    again.load(tmp_path)
    again.step()
    assert again.state.collapses == [collapse] and said == []
    parameter(again, "localisation/theta/bias")[...] = INSIDE
    again.step()
    assert again.state.collapses == [collapse | {"end": {"epoch": 1, "step": 4}}]
    assert said[0] == "attention is back in the image at step 4"


POISON = {
    "classifier/conv1/weight": "classifier/conv1 in the localisation network",
    "localisation/theta/bias": "localisation/theta in the localisation network",
    "classifier/softmax/bias": "classifier/softmax",
}


@pytest.mark.parametrize(("name", "layer"), POISON.items())
@pytest.mark.parametrize("value", [np.inf, np.nan])
def test_non_finite_loss_stops_with_step_and_first_layer(name, layer, value):
    trained, said = trainer()
    trained.step()
    trained.step()
    parameter(trained, name)[...] = value
    before = trained.buffer.data.copy()
    trained.step()
    assert trained.finished
    assert trained.state.diverged == {"epoch": 1, "step": 2, "layer": layer}
    assert said == [f"DIVERGED at step 2: the first non-finite values are in {layer}"]
    np.testing.assert_array_equal(trained.buffer.data, before)
    assert trained.state.steps == 2


@pytest.mark.parametrize("network", ["arch1-cnn", "arch1-tstn", "small-stn"])
@pytest.mark.parametrize("changes", [{"lr": 1e20}, {"lr": 1e300}, {"lr": 1e20, "train_size": 16}])
def test_a_run_that_diverges_by_itself_is_recorded_as_such(network, changes, tmp_path):
    """The third one breaks in the evaluation after its only step."""
    canvas = 32 if network == "small-stn" else 9
    run = partial(run_in, tmp_path, network=NETWORKS[network], canvas=canvas, **changes)
    data = data_set(canvas)
    data = replace(data, train=shortened(data.train, changes.get("train_size", 53)))
    first = run()
    assert first.train(data, resume=False, bar=False) == "diverged"
    text = first.record_path.read_text()
    record = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert record["status"] == "diverged" and record["diverged"]["epoch"] == 1
    assert record["diverged"]["step"] in (1, 2, 3)
    built = NETWORKS[network].build(Form((60, 60)))
    paths = [layer.path for layer in built.classifier.layers]
    layer = record["diverged"]["layer"]
    assert layer in [*paths, "transformer"] or layer.endswith("in the localisation network")
    assert record["best"] is None and record["epochs"] == []
    assert "diverged" in first.already_finished(resume=True)
    assert "diverged" in run(epochs=9).already_finished(resume=False)


def test_a_run_that_diverges_later_keeps_its_best_epoch(tmp_path, monkeypatch):
    whole = outcome(train(tmp_path / "whole", epochs=2))
    step = Trainer.step

    def poisoned(self):
        if self.state.steps == 9:
            parameter(self, "classifier/conv2/weight")[0] = np.inf
        step(self)

    monkeypatch.setattr(Trainer, "step", poisoned)
    record = outcome(train(tmp_path / "diverged"))[2]
    assert record["diverged"]["epoch"] == 3 and record["diverged"]["step"] == 9
    assert (record["best"], record["epochs"]) == (whole[2]["best"], whole[2]["epochs"])


def test_settings_are_the_papers_by_default():
    paper = Settings(Cluttered(), Tstn(1), Training(epochs=196))
    data, training = paper.data, paper.training
    assert (data.source, data.canvas, data.distractors, data.patch) == ("mnist", 60, 6, 8)
    assert (data.train_size, data.valid_size, data.test_size) == (50_000, 10_000, 10_000)
    assert (training.batch_size, training.lr, training.loc_lr) == (256, 0.001, 1)
    assert (training.optimizer, training.schedule) == (Adam(0.9, 0.999, 1e-8), StepDecay(0.7, 20))
    assert paper.task == Classification("label", "mean") and paper.network.downsample == 1
    assert (paper.seed, data.seed, paper.precision, paper.pretrained) == (0, 0, "fp32", None)
    assert paper.batches_per_epoch == 196
    assert changed(paper, train_size=256).batches_per_epoch == 1
    assert changed(paper, train_size=257).batches_per_epoch == 2
