"""Dropout that rises over the first epochs, and an end before the last one."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from helpers import normal
from small_runs import SETTINGS, changed, data_set, outcome, run_in, train, trainer_of

from ministn import cuda, parallel
from ministn.errors import UserError
from ministn.ops import dropout
from ministn.optimizers import SGD
from ministn.randomness import Step
from ministn.training.protocol import Training

RAMP = {"dropout_ramp": 2}  # of three epochs of four steps
SHARES = [0.0] * 4 + [0.5] * 4 + [1.0] * 4

pytestmark = pytest.mark.usefixtures("unchanging_environment")

quiet = partial(trainer_of, say=lambda line: None)


def finished(settings, **how):
    trainer = quiet(settings, data_set(), **how)
    while not trainer.finished:
        trainer.step()
    trainer.catch_up()
    return trainer


# -- dropout that rises ----------------------------------------------------------------------------


def test_the_share_rises_evenly_from_nothing():
    ramp = Training(epochs=9, dropout_ramp=5)
    shares = [ramp.dropout(n) for n in range(1, 8)]
    np.testing.assert_allclose(shares, [0, 0.2, 0.4, 0.6, 0.8, 1, 1])
    assert ramp.compressed(2).dropout_ramp == 3 and ramp.compressed(20).dropout_ramp == 1
    assert [Training(epochs=9).dropout(n) for n in (1, 9)] == [1.0, 1.0]


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_a_share_of_a_rate_is_a_smaller_rate(share, quick_device):
    """On either engine, and of the same bits."""
    x, step = normal(5, 7).astype(np.float32), Step(1, 2)
    shared = replace(step, dropout=share)
    expected, _ = dropout(x, 0.5 * share, step, 3)
    np.testing.assert_array_equal(dropout(x, 0.5, shared, 3)[0], expected)
    on_gpu, _ = cuda.dropout(quick_device.to_gpu(x), 0.5, shared, 3)
    np.testing.assert_array_equal(quick_device.to_cpu(on_gpu), expected)
    assert (share == 0) == np.array_equal(expected, x)


def test_training_goes_through_the_shares(monkeypatch):
    seen = []
    trainer = quiet(changed(SETTINGS, **RAMP), data_set())
    forward = trainer.network.forward

    def watched(x, step=None):
        seen.append(step.dropout)
        return forward(x, step)

    monkeypatch.setattr(trainer.network, "forward", watched)
    while not trainer.finished:
        trainer.step()
    assert seen == SHARES


def test_a_resumed_run_ends_with_the_same_bits(tmp_path):
    expected = outcome(train(tmp_path / "whole", **RAMP))
    run, trainer = run_in(tmp_path / "again", **RAMP), quiet(changed(SETTINGS, **RAMP), data_set())
    for _ in range(5):
        trainer.step()
    run.folder.mkdir(parents=True)
    trainer.save(run.folder)
    assert outcome(train(tmp_path / "again", resume=True, **RAMP)) == expected
    assert expected[0] != outcome(train(tmp_path / "without"))[0]


def test_two_workers_see_the_same():
    settings = changed(SETTINGS, optimizer=SGD(), lr=0.02, **RAMP)  # Adam blows differences up
    with parallel.team(2) as team:
        both = finished(settings, team=team).buffer.data.copy()
    np.testing.assert_allclose(both, finished(settings).buffer.data, rtol=0, atol=1e-6)


@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", 1e-4), ("tf32", 3e-3)])
def test_a_gpu_does_the_same(quick_device, precision, tolerance):
    """Also where its steps are captured, which is anew for each share."""
    settings = changed(SETTINGS, lr=1e-4, **RAMP)
    cpu = finished(settings)
    gpu = finished(changed(settings, precision=precision), device=quick_device)
    losses = [[each["train_loss"] for each in one.state.history] for one in (gpu, cpu)]
    np.testing.assert_allclose(*losses, rtol=tolerance)
    without = finished(changed(settings, dropout_ramp=None)).state.history
    assert abs(without[0]["train_loss"] - losses[1][0]) > 10 * tolerance


# -- an early end ----------------------------------------------------------------------------------


def test_a_run_ends_when_so_many_epochs_bring_nothing_better(tmp_path):
    """At a learning rate of 0 the first epoch is the best. It is finished, and stays so."""
    still = {"lr": 0.0, "patience": 2}
    run = train(tmp_path, epochs=9, **still)
    found = outcome(run)[2]
    assert found["status"] == "finished" and found["best"]["epoch"] == 1
    assert [epoch["epoch"] for epoch in found["epochs"]] == [1, 2, 3]
    assert run.already_finished(resume=True) == f"{run.folder} is finished: skipped"
    longer = outcome(train(tmp_path, resume=True, epochs=12, **still))[2]
    assert longer["status"] == "finished" and longer["epochs"] == found["epochs"]
    whole = outcome(train(tmp_path, epochs=4, lr=0.0))[2]
    assert len(whole["epochs"]) == 4


def test_what_gets_better_goes_on():
    trainer = quiet(changed(SETTINGS, epochs=4, patience=1), data_set())
    errors = iter([50.0, 40.0, 30.0, 30.0])
    evaluate = trainer.steps.evaluate

    class Better:
        def __init__(self, found):
            self.loss, self.attended, self.error = found.loss, found.attended, next(errors)

        def errors(self, split):
            return {f"{split}_error": self.error}

    trainer.steps.evaluate = lambda split: Better(evaluate(split))
    while not trainer.finished:
        trainer.step()
    assert trainer.state.epoch == 4 and trainer.state.best_epoch == 3


def test_patience_is_not_shortened():
    assert Training(epochs=300, patience=50).compressed(20).patience == 50


@pytest.mark.parametrize("name", ["dropout_ramp", "patience"])
@pytest.mark.parametrize(
    ("value", "message"),
    [(0, "must be at least 1, got 0"), (1.5, "must be a whole number, got 1.5")],
)
def test_impossible_numbers_are_refused_by_name(name, value, message):
    with pytest.raises(UserError, match=f"^{name} {message}$"):
        Training(epochs=3, **{name: value})
