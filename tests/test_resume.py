"""Runs that are stopped at every moment end bit for bit as one that was never stopped."""

import os
import signal
from dataclasses import replace
from functools import partial

import pytest
from small_runs import (
    SETTINGS,
    STEPS,
    changed,
    child,
    data_set,
    outcome,
    run_in,
    train,
    trainer_of,
)

from ministn import runs
from ministn.data import Form
from ministn.demo import load_network
from ministn.errors import UserError
from ministn.models import ClassificationCnn
from ministn.training import checkpoint
from ministn.training.steps import PlainSteps
from ministn.training.trainer import BEST, LAST, Trainer

pytestmark = pytest.mark.usefixtures("unchanging_environment")


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    return outcome(train(tmp_path_factory.mktemp("whole")))


# Kills its own process at the n-th time that os.fsync or os.replace meets a file whose name begins
# so, or in the n-th step. A temporary file is half of the real one when fsync would have been
# called.
KILLED = """
import os, signal, sys
from pathlib import Path
import small_runs
from ministn.training.trainer import Trainer

out, function, name, n, when = sys.argv[1:]
left = int(n)

def hooked(original):
    def call(*arguments):
        global left
        target = str(arguments[-1])
        if function == "fsync":
            target = os.readlink(f"/proc/self/fd/{target}")
        hit = function == "step" or Path(target).name.startswith(name)
        left -= hit
        if hit and left == 0 and when == "half":
            os.truncate(target, os.path.getsize(target) // 2)
        if hit and left == 0 and when != "after":
            os.kill(os.getpid(), signal.SIGKILL)
        result = original(*arguments)
        if hit and left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return result
    return call

place = Trainer if function == "step" else os
setattr(place, function, hooked(getattr(place, function)))
small_runs.train(Path(out), resume=True)
"""
KILLS = [
    ("step", "", 6, "before"),
    ("step", "", 8, "after"),
    ("replace", "record.json", 1, "before"),
    ("replace", "best.safetensors", 1, "after"),
    ("fsync", "last.safetensors.", 1, "half"),
    ("replace", "last.safetensors", 2, "before"),
    ("replace", "last.safetensors", 3, "after"),
    ("fsync", "record.json.", 5, "half"),
]


@pytest.mark.skipif(not os.path.exists("/proc/self/fd"), reason="needs /proc")
@pytest.mark.parametrize("moment", KILLS, ids=lambda moment: " ".join(map(str, moment)))
def test_killed_and_resumed_ends_bit_for_bit_as_uninterrupted(moment, tmp_path, uninterrupted):
    done = child(KILLED, str(tmp_path), *map(str, moment))
    assert done.returncode == -signal.SIGKILL, done.stderr
    left = [path.name for path in run_in(tmp_path).folder.glob("*.tmp")]
    if moment[0] == "step" or moment[3] == "after":
        assert left == []
    else:
        assert len(left) == 1 and left[0].startswith(moment[1])
    run = train(tmp_path, resume=True)
    assert outcome(run) == uninterrupted
    assert not list(run.folder.glob("*.tmp"))


def test_killed_again_and_again(tmp_path, uninterrupted):
    """After one epoch and a half of every start, so that each start gets one epoch further."""
    for _ in range(2):
        done = child(KILLED, str(tmp_path), "step", "", "6", "after")
        assert done.returncode == -signal.SIGKILL, done.stderr
    run = train(tmp_path, resume=True)
    assert outcome(run) == uninterrupted
    starts = runs.read_record(run.record_path)["starts"]
    assert [start["epoch"] for start in starts] == [0, 1, 2]


def stop_in_step(monkeypatch, number: int, *signals: signal.Signals) -> None:
    """Send this process signals in the middle of every ``number``-th step."""
    take, count = PlainSteps.take, 0

    def stopped(self, batch):
        nonlocal count
        count += 1
        if count == number:
            for each in signals:
                signal.raise_signal(each)
        take(self, batch)

    monkeypatch.setattr(PlainSteps, "take", stopped)


@pytest.mark.parametrize("each", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("number", [1, 4, 6, STEPS])
def test_a_signal_stops_after_the_step_and_saves(
    number, each, tmp_path, monkeypatch, uninterrupted
):
    handlers = [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)]
    with monkeypatch.context() as patch:
        stop_in_step(patch, number, each)
        run = train(tmp_path)
    assert [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)] == handlers
    assert runs.read_record(run.record_path)["status"] == "interrupted"
    assert checkpoint.load(run.folder / LAST)[1]["state"]["steps"] == number
    assert outcome(train(tmp_path, resume=True)) == uninterrupted


def test_weights_in_the_middle_of_an_epoch_are_never_the_best(tmp_path, monkeypatch):
    expected = outcome(train(tmp_path / "one epoch", epochs=1))[1]
    stop_in_step(monkeypatch, 6, signal.SIGINT)
    assert outcome(train(tmp_path / "and a half"))[1] == expected


def test_stopped_after_every_single_step(tmp_path, monkeypatch, uninterrupted):
    for number in range(STEPS):
        with monkeypatch.context() as patch:
            stop_in_step(patch, 1, signal.SIGINT)
            run = train(tmp_path, resume=True)
        assert checkpoint.load(run.folder / LAST)[1]["state"]["steps"] == number + 1
    assert outcome(train(tmp_path, resume=True)) == uninterrupted


def test_a_second_ctrl_c_stops_at_once(tmp_path, monkeypatch, uninterrupted):
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        stop_in_step(patch, 6, signal.SIGINT, signal.SIGINT)
        train(tmp_path)
    assert outcome(train(tmp_path, resume=True)) == uninterrupted


def test_full_disk_while_training_loses_one_epoch_at_most(tmp_path, monkeypatch, uninterrupted):
    fsync, count = os.fsync, 0

    def full(descriptor):
        nonlocal count
        count += 1
        if count > 9:
            raise OSError(28, os.strerror(28))
        fsync(descriptor)

    with monkeypatch.context() as patch, pytest.raises(UserError, match=r"cannot save.*No space"):
        patch.setattr(os, "fsync", full)
        train(tmp_path)
    run = run_in(tmp_path)
    assert checkpoint.load(run.folder / LAST)[1]["state"]["epoch"] >= 1
    assert not list(run.folder.glob("*.tmp"))
    assert outcome(train(tmp_path, resume=True)) == uninterrupted


def test_epochs_may_grow(tmp_path, uninterrupted):
    train(tmp_path, epochs=2)
    assert outcome(train(tmp_path, resume=True)) == uninterrupted


def trainer(**changes) -> Trainer:
    return trainer_of(changed(SETTINGS, **changes), data_set())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"lr": 0.001},
            r"has other settings \(training.lr\): found \[0.003\], expected \[0.001\]$",
        ),
        (
            {"seed": 5, "batch_size": 8},
            r"other settings \(seed, training.batch_size\): found \[4, 16\], expected \[5, 8\]$",
        ),
        (
            {"network": ClassificationCnn(1)},
            r"other settings \(network.downsample, network.dropout, network.kind, .*: "
            r"found \[1.0, 0.0, 'tstn', False, False\], "
            r"expected \[None, None, 'classification cnn', None",
        ),
        ({"canvas": 10}, r"other settings \(data.canvas\): found \[9\], expected \[10\]$"),
    ],
)
def test_a_checkpoint_of_other_settings_is_refused(changes, message, tmp_path):
    trainer().save(tmp_path)
    with pytest.raises(UserError, match=message) as error:
        trainer(**changes).load(tmp_path)
    assert str(tmp_path / LAST) in str(error.value)


def test_a_checkpoint_of_other_data_or_without_a_state_is_refused(tmp_path):
    trained = trainer()
    trained.save(tmp_path)
    data = trained.data
    other = trainer_of(SETTINGS, replace(data, train=data.valid))
    with pytest.raises(UserError, match="has other data_sha256: found"):
        other.load(tmp_path)
    while not trained.finished:
        trained.step()
    trained.save(tmp_path)
    (tmp_path / LAST).write_bytes((tmp_path / BEST).read_bytes())
    with pytest.raises(UserError, match="has other data_sha256: found None"):
        trainer().load(tmp_path)
    arrays, content = checkpoint.load(tmp_path / BEST)
    del content["format"]
    checkpoint.save(tmp_path / BEST, arrays, content | {"epoch": 99})
    with pytest.raises(UserError, match="has other epoch: found 99"):
        trained.test_best(tmp_path)


@pytest.mark.parametrize("state", [None, {}, [], "more"])
def test_another_versions_state_is_refused_before_anything_changes(state, tmp_path):
    trained = trainer()
    trained.step()
    trained.save(tmp_path)
    arrays, content = checkpoint.load(tmp_path / LAST)
    del content["format"]
    content["state"] = content["state"] | {"more": 1} if state == "more" else state
    if state is None:
        del content["state"]
    checkpoint.save(tmp_path / LAST, arrays, content)
    fresh = trainer()
    before = fresh.buffer.data.copy()
    wanted = "another kind of checkpoint: it has no 'state'" if state is None else "another version"
    with pytest.raises(UserError, match=wanted):
        fresh.load(tmp_path)
    assert (fresh.buffer.data == before).all() and fresh.state.steps == 0


@pytest.mark.parametrize("identity", [("a", 1), {"sizes": (1, 2), 3: [(4,)]}, None])
def test_what_a_trainer_saves_it_loads(identity, tmp_path):
    """Also where JSON has no such thing as what it was identified by."""
    made = [
        Trainer(
            partial(SETTINGS.network.build, Form((9, 9))), SETTINGS.training, data_set(),
            SETTINGS.task, identity=identity,
        )
        for _ in range(2)
    ]  # fmt: skip
    made[0].step()
    made[0].save(tmp_path)
    made[1].load(tmp_path)
    assert made[1].state == made[0].state


def test_an_identity_that_cannot_be_saved_is_refused_at_once():
    with pytest.raises(TypeError, match="JSON"):
        Trainer(
            partial(SETTINGS.network.build, Form((9, 9))), SETTINGS.training, data_set(),
            SETTINGS.task, identity={1, 2},
        )  # fmt: skip


def test_the_demonstration_wants_the_best_weights_of_a_run(tmp_path):
    trained = trainer()
    trained.save(tmp_path)
    with pytest.raises(UserError, match="is another kind of checkpoint: it has no 'epoch'"):
        load_network(tmp_path / LAST)
