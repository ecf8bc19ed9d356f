"""Tied network and CNN by turns: what a step leaves alone, at test time, resumed, cut, on a GPU."""

import numpy as np
import pytest
from helpers import normal
from small_runs import SETTINGS, changed, data_set, outcome, run_in, train, trainer_of
from threadpoolctl import threadpool_limits

from ministn import backend, parallel
from ministn.cuda.choice import precision
from ministn.data import Form
from ministn.fit import train_on_batch
from ministn.gradcheck.networks import perturbed
from ministn.models import Alternating, ClassificationCnn, Tstn
from ministn.models.alternating import Alternately
from ministn.optimizers import Adam, Optimizer
from ministn.parameter import ParameterBuffer
from ministn.runs.planning import CPU_TRIES, Cost

QUIET = {"say": lambda line: None}
BY_TURNS = changed(SETTINGS, network=Alternating(1))
OWN = "localisation/dense/weight", "localisation/theta/bias"


def trainer(device=None, **changes):
    return trainer_of(changed(BY_TURNS, **changes), data_set(), device=device, **QUIET)


def state_of(trainer, names=None):
    """Copies of values and moments, by name."""
    buffer = trainer.buffer
    flat = {"data": buffer.data, **trainer.optimizer.state()}
    cpu = (lambda x: x.copy()) if buffer.device is None else buffer.device.to_cpu
    return {
        (kind, name): cpu(part)
        for kind, array in flat.items()
        for name, part in buffer.views(array).items()
        if names is None or name in names
    }


def differing(one, other):
    return {name for (_, name), values in one.items() if (values != other[_, name]).any()}


def check_turns(some_trainer):
    """To the last bit, values and moments; all else learns in every step."""
    everything = {p.name for p in some_trainer.network.parameters()}
    own = {p.name for p in some_trainer.network.localisation_only()}
    assert {name.rpartition("/")[0] for name in own} == {"localisation/dense", "localisation/theta"}
    for number in range(6):  # over the end of an epoch of four
        before = state_of(some_trainer)
        some_trainer.step()
        some_trainer.catch_up()
        after = differing(before, state_of(some_trainer))
        if number % 2:
            assert after == everything - own
        else:  # in the first step theta's weights are 0: nothing reaches what is before them
            assert after == everything - (set() if number else {k for k in own if "dense" in k})


def test_steps_of_the_cnn_leave_what_only_the_localisation_network_has():
    check_turns(trainer())


def test_they_leave_it_where_steps_are_queued(quick_device):
    check_turns(trainer(quick_device))


@pytest.mark.gpu
def test_they_leave_it_where_steps_are_captured():
    """A graph for each turn; without a GPU there are none."""
    with precision("tf32"):
        check_turns(trainer(backend.gpu(), precision="tf32"))


def test_they_leave_it_in_a_loop_of_ones_own():
    network = Alternating(1).build(Form((9, 9)))
    buffer = ParameterBuffer(network.parameters(), 0)
    optimizer, train = Optimizer(Adam(), buffer), data_set().train
    own = [p for p in network.localisation_only() if p.name.endswith("theta/bias")]
    for moved in (True, False, True):
        before = [p.data.copy() for p in own]
        train_on_batch(network, optimizer, train.images, train.labels)
        assert (own[0].data != before[0]).any() == moved


def test_the_localisation_network_counts_its_own_steps():
    """A constant gradient: after steps 0, 1, 2 it is where two steps of Adam would have led it."""
    network = Alternating(1).build(Form((9, 9)))
    buffer = ParameterBuffer(network.parameters(), 0)
    optimizer = Optimizer(Adam(), buffer)
    assert [[size is None for size in optimizer.step_sizes(0.1, t)] for t in (1, 2, 3)] == [
        [False, False], [False, True], [False, False],
    ]  # fmt: skip
    assert optimizer.step_sizes(0.1, 3)[1] == Adam().step_size(0.1, 2)
    assert optimizer.step_sizes(0.1, 3)[0] == Adam().step_size(0.1, 3)
    assert {p.every for p in network.localisation_only()} == {2}
    assert {p.every for p in network.at(1).parameters()} == {1}


def test_with_the_cnns_turns_alone_it_trains_as_the_cnn(monkeypatch):
    cnn = trainer_of(changed(SETTINGS, network=ClassificationCnn(1)), data_set(), **QUIET)
    monkeypatch.setattr(Alternately, "at", lambda self, number: self.each[1])
    ours = trainer()
    while not cnn.finished:
        cnn.step()
        ours.step()
    assert ours.finished
    expected = state_of(cnn)
    found = state_of(ours, {name for _, name in expected})
    assert found.keys() == expected.keys() and not differing(found, expected)
    assert ours.state == cnn.state


def test_its_first_step_is_the_tied_networks():
    tied, ours = trainer_of(SETTINGS, data_set(), **QUIET), trainer()
    for each in (tied, ours):
        each.step()
    assert not differing(state_of(ours), state_of(tied))


@pytest.mark.parametrize("downsample", [1, 1.5])
def test_at_test_time_it_is_the_cnn_alone(downsample):
    """On what the transformer shows at the identity; at d = 1 that is the image."""
    form, x = Form((13, 19), classes=5), abs(normal(4, 13, 19, 1))
    network = Alternating(1, downsample).build(form)
    perturbed(ParameterBuffer(network.parameters(), 0, np.float64))
    logits, looked = network.predict(x)
    assert looked == [] and not network.transformers and network.front is None
    tied = network.at(0)
    shown = tied.transformer.warp(x, np.tile([1.0, 0, 0, 0, 1, 0], (4, 1)))
    assert (shown.shape == x.shape) == (downsample == 1)
    np.testing.assert_array_equal(logits, tied.classifier.forward(shown)[0])
    if downsample == 1:
        np.testing.assert_array_equal(shown, x)
    assert abs(tied.predict(x)[0] - logits).min() > 1e-6
    assert network.localisation_only() == tied.localisation_only() != []


def test_it_starts_where_the_tied_network_starts():
    networks = [network.build(Form((13, 19))) for network in (Alternating(2, 1.5), Tstn(2, 1.5))]
    for network in networks:
        ParameterBuffer(network.parameters(), 3)
    ours, tied = ({p.name: p.data for p in network.parameters()} for network in networks)
    assert list(ours) == list(tied)
    for name, values in tied.items():
        np.testing.assert_array_equal(ours[name], values)


def test_resumed_within_an_epoch_it_ends_the_same(tmp_path):
    """Stopped after each of the first steps, of either turn."""
    whole = train(tmp_path / "whole", network=Alternating(1), epochs=2)
    run = run_in(tmp_path / "cut", network=Alternating(1), epochs=2)
    with threadpool_limits(1):
        for _ in range(3):
            cut = trainer(epochs=2)
            if (run.folder / "last.safetensors").exists():
                cut.load(run.folder)
            cut.step()
            run.folder.mkdir(parents=True, exist_ok=True)
            cut.save(run.folder)
        assert cut.state.steps == 3
    again = train(tmp_path / "cut", resume=True, network=Alternating(1), epochs=2)
    assert outcome(again)[:2] == outcome(whole)[:2]
    assert outcome(again)[2]["epochs"] == outcome(whole)[2]["epochs"]


def test_workers_share_the_batches_of_both_turns():
    alone, data = trainer(epochs=1, lr=1e-4), data_set()
    while not alone.finished:
        alone.step()
    with parallel.team(2) as some:
        shared = trainer_of(changed(BY_TURNS, epochs=1, lr=1e-4), data, team=some, **QUIET)
        before = state_of(shared, OWN)
        while not shared.finished:
            shared.step()
            if shared.state.steps == 2:
                middle = state_of(shared, OWN)
        assert differing(before, middle)
    for key, value in alone.state.history[0].items():
        if value is not None and key != "theta":
            assert shared.state.history[0][key] == pytest.approx(value, rel=2e-4), key


def test_an_epoch_comes_to_the_same_on_either_engine(quick_device):
    found = []
    for device in (None, quick_device):
        each = trainer(device, epochs=1, lr=1e-4, downsample=1.1)
        while not each.finished:
            each.step()
        found.append(each.state.history[0])
    expected, got = found
    for key in ("train_loss", "train_error", "valid_loss", "valid_error"):
        assert got[key] == pytest.approx(expected[key], rel=2e-4), key


def test_a_loss_that_is_not_finite_ends_training_in_either_turn(quick_device):
    for device in (None, quick_device):
        for turn in (0, 1):
            each = trainer(device)
            each.step()
            if turn == 0:
                each.step()
            each.catch_up()
            next(p for p in each.network.parameters()).data[...] = np.nan
            while not each.finished and each.state.steps < 4:
                each.step()
            each.catch_up()
            assert each.state.diverged["step"] == 1 + (turn == 0)
            assert ("in the localisation network" in each.state.diverged["layer"]) == (turn == 0)


def test_a_plan_times_both_turns(monkeypatch):
    right, taken = Alternately.at, []

    def at(self, number):
        taken.append(number)
        return right(self, number)

    monkeypatch.setattr(Alternately, "at", at)
    Cost(changed(BY_TURNS, train_size=20))
    assert taken == list(range(2 * CPU_TRIES))
