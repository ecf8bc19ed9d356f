"""Rank 0's view of all ranks."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from threadpoolctl import threadpool_limits

from ministn.errors import UserError
from ministn.parallel.exchange import Alone, Exchange, part
from ministn.parallel.mpi import limit, ranks, unlimit, world
from ministn.parallel.processes import processes
from ministn.parallel.worker import Worker


class Team:
    """All ranks, as rank 0 sees them. It is a Worker itself, and takes part in all it asks for.

    exchange: rank 0's end. size: number of ranks. threads: of the linear algebra library, in each.
    """

    def __init__(self, exchange: Exchange | None = None, threads: int = 1) -> None:
        self.exchange = exchange or Alone()
        self.size = self.exchange.size
        self.threads = threads
        self._worker = Worker(self.exchange)

    def ask(self, order: str, each: Sequence[tuple[Any, ...]]) -> list[Any]:
        """Have every rank carry out a Worker's method, with its own of ``each``; their answers.

        Raises what rank 0 itself does, or as unless_failed says.
        """
        _, arguments = self.exchange.scatter([(order, arguments) for arguments in each])
        mine = getattr(self._worker, order)(*arguments)
        answers = self.exchange.gather(mine)
        assert answers is not None
        return answers

    def ask_all(self, order: str, *arguments: Any) -> list[Any]:
        """The same with the same arguments for every rank."""
        return self.ask(order, [arguments] * self.size)

    def cut(self, count: int) -> list[slice]:
        """``count`` rows in as many parts as there are ranks; some are empty if rows are few."""
        return [part(count, rank, self.size) for rank in range(self.size)]

    def map(self, function: Callable[[Any], Any], items: Sequence[Any]) -> list[Any]:
        """[function(item) for item in items], the items dealt out to the ranks.

        ``function`` is pickled: it must be importable by its name, or a partial of one that is.
        """
        hands = [items[rank :: self.size] for rank in range(self.size)]
        answers = self.ask("do", [(_each, function, hand) for hand in hands])
        found: list[Any] = [None] * len(items)
        for rank, answer in enumerate(answers):
            found[rank :: self.size] = answer
        return found


def _each(function: Callable[[Any], Any], items: Sequence[Any]) -> list[Any]:
    return [function(item) for item in items]


@contextmanager
def team(workers: int = 1, threads: int = 1) -> Iterator[Team]:
    """A team of ``workers`` processes, this one included, while the block lasts.

    They are started on this machine; or they are the ranks that mpirun started, if it did. Then
    this is for rank 0 alone, as mpi.led has it.

    Raises UserError where mpirun started another number.
    """
    if ranks():
        if workers != ranks():
            raise UserError(
                f"{ranks()} ranks were started: --workers must be as many or be left out, "
                f"got {workers}"
            )
        found = Team(world(), threads)
        found.ask_all("do", limit, threads)
        yield found
        found.ask_all("do", unlimit)
        return
    with threadpool_limits(threads):
        if workers == 1:
            yield Team(threads=threads)
        else:
            with processes(workers, threads) as exchange:
                yield Team(exchange, threads)
