"""What test_mpi.py starts by mpiexec: ``mpi_program.py SIZE NAME ARGUMENTS``, NAME a function."""

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
from small_runs import data_set, run_in
from threadpoolctl import threadpool_info, threadpool_limits

from ministn import cli
from ministn.errors import UserError
from ministn.initializers import Normal
from ministn.optimizers import Adam, Optimizer
from ministn.parallel import Team, team
from ministn.parallel.exchange import Unsent
from ministn.parallel.mpi import world
from ministn.parameter import Parameter, ParameterBuffer

ANSWERED = "rank 0 goes on"
MANY = 1_000_000  # parameters: who sends them has to wait for who receives them


def threads() -> set[int]:
    return {library["num_threads"] for library in threadpool_info()}


# -- what is computed ----------------------------------------------------------------------------


def messages(some: Team) -> None:
    """Whole and in order, also large ones and such that cannot be pickled."""
    assert some.map(abs, range(-7, 0)) == [7, 6, 5, 4, 3, 2, 1]
    rows = [np.arange(rank, 2_000_000) for rank in range(some.size)]
    for sent, answer in zip(rows, some.map(np.negative, rows), strict=True):
        np.testing.assert_array_equal(answer, -sent)
    mine = lambda: "mine"  # noqa: E731
    answers = some.ask("do", [(mine,), *[(str.upper, "other")] * (some.size - 1)])
    assert answers == ["mine", *["OTHER"] * (some.size - 1)]


def linear_algebra(some: Team) -> None:
    """Threads are limited in every rank, and as before when an inner team's block has ended."""
    for rank in some.ask_all("do", threads):
        assert rank == {1}
    with team(some.size, 2) as inner:
        assert inner.ask_all("do", threads) == [{2}] * some.size
    assert some.ask_all("do", threads) == [{1}] * some.size


def optimizer(seed: int, count: int) -> Optimizer:
    parameter = Parameter("p", (count,), Normal(1.0))
    return Optimizer(Adam(), ParameterBuffer([parameter], seed))


def flat(found: Optimizer) -> list[np.ndarray]:
    """All that an update changes."""
    return [found.buffer.data, found.moments["m"], found.moments["v"]]


def sums(some: Team, count: str) -> None:
    """An update by the gradients' sum, in the ranks' order, leaves all ranks with rank 0's bits."""
    alone = optimizer(0, int(count))
    ranks = range(some.size)
    some.ask("do", [(_lay_out, rank, int(count)) for rank in ranks])
    for step in range(3):
        gradient = sum(_gradient(rank, step, alone.buffer.data.size) for rank in ranks)
        some.ask("do", [(_step, rank, step) for rank in ranks])
        alone.update([0.1], gradient)
        for found in some.ask_all("do", _values):
            np.testing.assert_array_equal(found, flat(alone))
    some.ask("do", [(_disturb, 10 * rank) for rank in ranks])
    some.ask_all("spread")
    for found in some.ask_all("do", _values):
        np.testing.assert_array_equal(found, flat(alone))


held: list[Optimizer] = []  # this rank's


def _lay_out(seed: int, count: int) -> None:
    held.append(optimizer(seed, count))
    world().lay_out(held[0])


def _gradient(rank: int, step: int, size: int) -> np.ndarray:
    """Such that sums in different orders differ."""
    return np.random.default_rng([rank, step]).normal(size=size).astype(np.float32)


def _step(rank: int, step: int) -> None:
    grad = held[0].buffer.grad
    grad[...] = _gradient(rank, step, grad.size)
    world().update([0.1])


def _values() -> list[np.ndarray]:
    return flat(held[0])


def _disturb(amount: float) -> None:
    for array in _values():
        array += amount


def train(some: Team, *runs: str) -> None:
    """``folder:epochs:batch_size:clip:clip_norm`` each, going on with what is there."""
    for text in runs:
        folder, epochs, batch_size, *limits = text.split(":")
        clip, clip_norm = (float(limit) if limit else None for limit in limits)
        run = run_in(
            Path(folder), epochs=int(epochs), batch_size=int(batch_size), clip=clip,
            clip_norm=clip_norm,
        )  # fmt: skip
        run.train(data_set(), some, resume=True, bar=False)


# -- what goes wrong -----------------------------------------------------------------------------


def raise_in_order(some: Team) -> None:
    some.ask("do", [(int, "0"), *[(int, "x")] * (some.size - 1)])


def raise_and_go_on(some: Team) -> None:
    """What the others answered to an order in which rank 0 failed is no answer to the next."""
    ranks = range(some.size)
    for given in [("x", "0"), ("0", "x")]:
        with pytest.raises((ValueError, UserError), match="invalid literal"):
            some.ask("do", [(int, given[min(rank, 1)]) for rank in ranks])
        assert some.map(abs, range(-7, 0)) == [7, 6, 5, 4, 3, 2, 1]
    with pytest.raises(Unsent, match="must be picklable"):
        some.map(lambda x: x, ranks)
    with pytest.raises(UserError, match="worker 1 failed: a message cannot be read there, ValueEr"):
        some.ask_all("do", _Undeliverable())
    assert some.map(abs, range(-7, 0)) == [7, 6, 5, 4, 3, 2, 1]
    with pytest.raises(UserError, match="worker 1 failed: a message cannot be read there, ValueEr"):
        some.ask("do", [(int,), *[(_answers, "_Undeliverable")] * (some.size - 1)])
    with pytest.raises(UserError, match=r"worker 1 failed: its answer: .* must be picklable"):
        some.ask("do", [(int,), *[(_answers, "")] * (some.size - 1)])
    assert some.map(abs, range(-7, 0)) == [7, 6, 5, 4, 3, 2, 1]


def _answers(what: str) -> Any:
    return globals()[what]() if what else lambda: None


def raise_before_exchange(some: Team) -> None:
    """The last rank never comes to the exchange that the others wait in."""
    build = (optimizer, 0, MANY)
    some.ask("do", [*[(_built, *build)] * (some.size - 1), (_built, int, "x")])


def _built(build: Callable[..., Optimizer], *arguments: Any) -> None:
    world().lay_out(build(*arguments))


def other_network(some: Team) -> None:
    some.ask("do", [(_built, optimizer, 0, MANY + rank) for rank in range(some.size)])


def raise_in_exchange(some: Team) -> None:
    some.ask("do", [(_built, optimizer, 0, MANY), *[(_without_room,)] * (some.size - 1)])


def _without_room() -> None:
    built = optimizer(0, MANY)
    with mock.patch("numpy.empty", side_effect=MemoryError("no room")):
        world().lay_out(built)


class _Undeliverable:
    """What cannot be unpickled."""

    def __reduce__(self):
        return int, ("x",)

    def __call__(self) -> None: ...


def crash(some: Team) -> None:
    raise RuntimeError("a mistake")


def crash_in_order(some: Team) -> None:
    some.ask("do", [(crash, some), *[(time.sleep, 1000)] * (some.size - 1)])


def interrupt_in_order(some: Team) -> None:
    some.ask("do", [(_interrupt,), *[(time.sleep, 1000)] * (some.size - 1)])


def _interrupt() -> None:
    raise KeyboardInterrupt


def main() -> int:
    size, name, *arguments = sys.argv[1:]
    with team(int(size)) as some:
        globals()[name](some, *arguments)
    print(ANSWERED, os.getpid())
    return 0


if __name__ == "__main__":
    with threadpool_limits(3):  # not what is asked for anywhere
        cli.run(main)
