"""Rank 0's view of all ranks."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from threadpoolctl import threadpool_limits

from ministn.errors import UserError, check_count, check_index
from ministn.parallel.exchange import Alone, Exchange, Unsent, part, unless_failed
from ministn.parallel.mpi import limit, ranks, unlimit, world
from ministn.parallel.processes import processes
from ministn.parallel.worker import Worker

# Orders in which ranks talk to each other: where one fails, others wait for it.
TOGETHER = ("replicate", "spread", "compared", "update")


class Team:
    """All ranks, as rank 0 sees them. It is a Worker itself, and takes part in all it asks for.

    exchange: rank 0's end. size: number of ranks. threads: of the linear algebra library, in each.
    closed: since when no order is carried out any more; empty while they are.

    An error of ``ask`` or ``map`` leaves it as it was, or closed: where a rank has died or nobody
    knows any more who waits for whom. To a closed one every order is a UserError that says why.
    """

    def __init__(self, exchange: Exchange | None = None, threads: int = 1) -> None:
        self.exchange = exchange or Alone()
        self.size = self.exchange.size
        self.threads = check_count("threads", threads)
        self._worker = Worker(self.exchange)
        self._owed = False  # the answers to an order that rank 0 itself failed to carry out
        self.closed = ""

    def ask(self, order: str, each: Sequence[tuple[Any, ...]]) -> list[Any]:
        """Have every rank carry out a Worker's method, with its own of ``each``; their answers.

        Raises what rank 0 itself does, or as unless_failed says; Unsent, a TypeError, for what
        cannot be pickled; UserError where the team is closed.
        """
        if self.closed:
            raise UserError(f"this team of processes is closed since {self.closed}: start another")
        if self._owed:
            self._gathered(None)  # of no use to anybody
        try:
            _, arguments = self.exchange.scatter([(order, arguments) for arguments in each])
        except Unsent:
            raise
        except BaseException as error:
            self._close_after(error)
            raise
        self._owed = True
        try:
            mine = getattr(self._worker, order)(*arguments)
        except BaseException as error:
            if order in TOGETHER:
                self._close_after(error)
            raise
        try:
            return unless_failed(self._gathered(mine))
        except BaseException as error:
            if order in TOGETHER:
                self._close_after(error)
            raise

    def _gathered(self, mine: Any) -> list[Any]:
        """All ranks' answers to the latest order."""
        try:
            answers = self.exchange.gather(mine)
        except BaseException as error:
            self._close_after(error)
            raise
        assert answers is not None
        self._owed = False
        return answers

    def _close_after(self, error: BaseException) -> None:
        if self.size > 1 and not self.closed:  # one alone waits for nobody
            self.closed = f"an order failed ({type(error).__name__}: {error})"
            self.exchange.close()

    def ask_all(self, order: str, *arguments: Any) -> list[Any]:
        """The same with the same arguments for every rank."""
        return self.ask(order, [arguments] * self.size)

    def cut(self, count: int) -> list[slice]:
        """``count`` rows in as many parts as there are ranks; some are empty if rows are few."""
        check_index("count", count)
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

    Raises UserError where mpirun started another number, ValueError for numbers that are none.
    """
    workers, threads = check_count("workers", workers), check_count("threads", threads)
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
                found = Team(exchange, threads)
                try:
                    yield found
                finally:
                    found.closed = found.closed or "its block has ended"
