"""After an order that failed a team gives right answers again, or is closed and says so."""

import os
import signal
from functools import partial

import pytest
from small_runs import SETTINGS, data_set, trainer_of

from ministn.errors import UserError
from ministn.parallel import Team, team
from ministn.parallel.exchange import Unsent

LEADER = os.getpid()


@pytest.fixture(scope="module")
def three():
    with team(3) as found:
        yield found


class Unreadable:
    """What is pickled, but not unpickled again in the processes of ``where``."""

    def __init__(self, where: str) -> None:
        self.where = where

    def __reduce__(self):
        return read, (os.getpid(), self.where)


def read(leader: int, where: str) -> Unreadable:
    if where == "leader" or os.getpid() != leader:
        raise LookupError("no luck")
    return Unreadable(where)


def fail(where: str, error: type[BaseException], leader: int, number: int) -> int:
    here = "leader" if os.getpid() == leader else f"worker {number}"
    if where in (here, here.split()[0], "all"):
        raise error("no luck")
    return number


def unpicklable(leader: int, number: int):
    return (lambda: None) if os.getpid() != leader else None


def unreadable(leader: int, number: int):
    return Unreadable("leader") if os.getpid() != leader else None


def failing(where: str, error: type[BaseException]):
    return partial(fail, where, error, LEADER)


FAILURES = {
    "rank 0": (failing("leader", ValueError), range(3), ValueError, "no luck"),
    "interrupted": (failing("leader", KeyboardInterrupt), range(3), KeyboardInterrupt, "no luck"),
    "one worker": (failing("worker 1", ValueError), range(3), UserError, "ValueError: no luck"),
    "all": (failing("all", ValueError), range(3), ValueError, "no luck"),
    "function": (lambda number: number, range(3), Unsent, "must be picklable, as what a module"),
    "item": (abs, [1, 2, lambda: None], Unsent, "must be picklable"),
    "message": (abs, [1, 2, Unreadable("there")], UserError, "worker 2 failed: a message cannot"),
    "answer": (partial(unpicklable, LEADER), range(3), UserError, "its answer: .*picklable"),
    "answer here": (partial(unreadable, LEADER), range(3), UserError, "LookupError: no luck"),
}  # fmt: skip


@pytest.mark.parametrize("name", FAILURES)
def test_after_a_failed_map_comes_a_right_one(name, three):
    function, items, error, message = FAILURES[name]
    for _ in range(2):
        with pytest.raises(error, match=message):
            three.map(function, items)
    assert three.map(abs, range(-7, 0)) == list(range(7, 0, -1))
    assert three.map(abs, range(-3, 0)) == [3, 2, 1]


def test_a_team_of_one_goes_on_after_everything():
    alone = Team()
    wrong = failing("all", ValueError)
    for order, arguments in [("do", (wrong, 0)), ("replicate", (partial(wrong, 0), SETTINGS.task))]:
        with pytest.raises(ValueError, match="no luck"):
            alone.ask(order, [arguments])
        assert alone.map(abs, [-1, -2]) == [1, 2]


@pytest.mark.parametrize("where", ["leader", "worker", "worker 1"])
def test_ranks_that_wait_for_each_other_are_closed(where):
    with team(3) as some:
        pids = some.map(process, range(3))
        build = partial(build_in, where, LEADER)
        with pytest.raises((UserError, ValueError), match="no luck"):
            some.ask("replicate", [(partial(build, rank), SETTINGS.task) for rank in range(3)])
        for order in (lambda: some.map(abs, [1]), lambda: some.ask_all("spread")):
            with pytest.raises(UserError, match=r"closed since an order failed \(.*no luck.*anoth"):
                order()
        assert not any(os.path.exists(f"/proc/{pid}") for pid in pids[1:])


def build_in(where: str, leader: int, rank: int):
    fail(where, ValueError, leader, rank)
    trainer = trainer_of(SETTINGS, data_set())
    return trainer.network, trainer.optimizer


def process(number: int) -> int:
    return os.getpid()


def test_a_team_that_lost_a_worker_says_so():
    with team(2) as some:
        pid = some.map(process, range(2))[1]
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(UserError, match=rf"process {pid}\) was killed by SIGKILL"):
            some.map(abs, [1, 2])
        with pytest.raises(UserError, match=rf"closed since .*{pid}.* SIGKILL.*: start another"):
            some.map(abs, [1, 2])


def test_a_team_whose_block_has_ended_says_so():
    with team(2) as some:
        pass
    with pytest.raises(UserError, match="is closed since its block has ended: start another"):
        some.map(abs, [1, 2])


def test_training_after_a_failed_order_is_as_without(three):
    def losses() -> list[float]:
        trainer = trainer_of(SETTINGS, data_set(), say=lambda line: None, team=three)
        for _ in range(3):
            trainer.step()
        return [trainer.state.loss_sum, trainer.buffer.data.sum()]

    wanted = losses()
    with pytest.raises(ValueError):
        three.map(failing("leader", ValueError), range(3))
    assert losses() == wanted
