"""Wherever the package trains, linear algebra has the threads it should have, and before after."""

from functools import partial

import numpy as np
import pytest
from small_runs import SETTINGS, child, data_set
from threadpoolctl import threadpool_info, threadpool_limits

from ministn.errors import UserError
from ministn.fast.threads import limited
from ministn.fit import Training, fit, train_on_batch
from ministn.gradcheck.__main__ import main as gradcheck
from ministn.layers import Dense, Flatten, Sequential
from ministn.models import Network
from ministn.optimizers import Adam, Optimizer
from ministn.parallel import Team
from ministn.parameter import ParameterBuffer
from ministn.training.trainer import Trainer

BEFORE = 3
IMAGES = np.zeros((20, 9, 9), np.uint8)
LABELS = (np.arange(20) % 10).astype(np.uint8)


def threads() -> set[int]:
    return {library["num_threads"] for library in threadpool_info()}


@pytest.fixture(autouse=True)
def as_before():
    """Nothing that is asked for anywhere; it must be so again."""
    with threadpool_limits(BEFORE):
        yield
        assert threads() == {BEFORE}


@pytest.fixture
def seen(monkeypatch):
    """The numbers of threads with which a layer computed."""
    found = set()
    for name in ("forward", "backward"):
        original = getattr(Dense, name)

        def watched(self, *arguments, original=original, **more):
            found.update(threads())
            return original(self, *arguments, **more)

        monkeypatch.setattr(Dense, name, watched)
    return found


def network() -> Network:
    return Network(Sequential(Flatten("flatten"), Dense("softmax", 81, 10)))


def test_fit(seen):
    fit(network(), IMAGES, LABELS, Training(epochs=1), quiet=True)
    assert seen == {1}


def test_one_step(seen):
    made = network()
    optimizer = Optimizer(Adam(), ParameterBuffer(made.parameters(), 0))
    train_on_batch(made, optimizer, IMAGES, LABELS)
    assert seen == {1} and threads() == {BEFORE}
    optimizer.buffer.data[...] = np.nan
    with pytest.raises(UserError, match="the loss of step 2 is nan"), np.errstate(all="ignore"):
        train_on_batch(made, optimizer, IMAGES, LABELS)


@pytest.mark.parametrize("wanted", [1, 2])
def test_a_trainer_has_its_teams(wanted, seen, tmp_path):
    team = Team(threads=2) if wanted == 2 else None
    data = data_set()
    trainer = Trainer(network, SETTINGS.training, data, SETTINGS.task, team=team)
    while not trainer.finished:
        trainer.step()
    trainer.save(tmp_path)
    assert threads() == {BEFORE}
    trainer.test_best(tmp_path)
    trainer.test_with(partial(network), data)
    assert seen == {wanted}


def test_gradcheck(seen, capsys):
    assert gradcheck(["arch1-cnn"]) == 0
    assert seen == {1}


def test_a_library_that_is_loaded_later_is_limited_too():
    """SciPy has one of its own, beside NumPy's."""
    code = """
from threadpoolctl import threadpool_info
from ministn.fast.threads import limited
from ministn.training.protocol import Training
with limited(2):
    before = len(threadpool_info())
import scipy.linalg
with limited(3):
    found = [library["num_threads"] for library in threadpool_info()]
assert found == [3] * len(found) and len(found) > before, found
"""
    done = child(code)
    assert done.returncode == 0, done.stderr


def test_blocks_lie_in_each_other():
    with limited(2):
        with limited(), pytest.raises(ZeroDivisionError):
            assert threads() == {1}
            raise ZeroDivisionError
        assert threads() == {2}
