"""Sides of a comparison, which take turns; on a CPU each of them in a fresh process of its own.

A process of its own has its own memory, threads and settings, so that neither side is measured with
what the other left behind. Only one of them works at a time.
"""

import signal
import textwrap
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from multiprocessing import get_context
from multiprocessing.connection import Connection
from statistics import median
from typing import Any

from ministn.errors import UserError
from ministn.parallel.exchange import Failure

SETTLE = 0.03  # seconds before a turn: the other side's OpenMP threads spin for 10 ms after theirs
ROW = 0.1  # seconds of work in a row: in training one step follows the other
SAMPLE = 0.003  # seconds between two looks at how much memory is in use
PATIENCE = 10.0  # seconds for a process to end by itself

Work = Callable[[], object]
SetUp = Callable[[], dict[str, Work]]
Start = Callable[[], AbstractContextManager[SetUp]]


def in_turns(sides: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """The seconds of every round of each side; a side does a round and returns its seconds."""
    seconds: dict[str, list[float]] = {side: [] for side in sides}
    for _ in range(rounds):
        for side, one in sides.items():
            seconds[side].append(one())
    return seconds


class SideFailed(UserError):
    """What a side was told to do raised an error, or ended its process."""


class Side:
    """A process that has loaded its libraries and waits to be told what to do.

    Raises SideFailed, as all its methods do.
    """

    def __init__(self, start: Start) -> None:
        context = get_context("spawn")
        self._pipe, pipe = context.Pipe()
        self._process = context.Process(target=_serve, args=(pipe, start))
        self._process.start()
        pipe.close()  # or it would stay open when the process dies
        self._answer()

    def seconds(self, work: str) -> float:
        """Do this work, and say how long it took. The first work of all must be "set up"."""
        self._ask(work)
        return self._answer()

    def turn(self, work: str) -> float:
        """Do this work again and again, and say how long it took: the median without the first
        time, which finds all caches cold and workers asleep.
        """
        time.sleep(SETTLE)
        self._ask(work, ROW)
        return self._answer()

    def peak(self, work: str) -> int:
        """Do this work, and say how much memory was in use at most."""
        self._ask(work)
        most, done = 0, False
        while not done:
            done = self._pipe.poll(SAMPLE)
            most = max(most, self.memory())
        self._answer()
        return most

    def memory(self) -> int:
        """Bytes in use by the process and those it has started.

        This is Linux's PSS: of memory that n processes share, each is charged an n-th, so that a
        sum over processes counts it once.
        """
        import psutil

        total = 0
        with suppress(psutil.NoSuchProcess):  # one of them may end at any time
            process = psutil.Process(self._process.pid)
            for one in (process, *process.children(recursive=True)):
                total += one.memory_full_info().pss
        return total

    def _ask(self, work: str, row: float | None = None) -> None:
        with suppress(OSError):  # a process that has ended gives no answer either
            self._pipe.send((work, row))

    def _answer(self) -> Any:
        try:
            answer = self._pipe.recv()
        except (EOFError, OSError):
            self._process.join(PATIENCE)
            code = self._process.exitcode
            raise SideFailed(f"a process of the benchmark ended with status {code}") from None
        if isinstance(answer, Failure):
            raise SideFailed(answer.reason)
        return answer

    def __enter__(self) -> "Side":
        return self

    def __exit__(self, *error: object) -> None:
        with suppress(OSError):
            self._pipe.send(None)
        self._pipe.close()
        self._process.join(PATIENCE)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()


def _serve(pipe: Connection, start: Start) -> None:
    """The process from beginning to end."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the benchmark decides when to stop
    with suppress(EOFError, OSError), _told(pipe), start() as set_up:  # the pipe ends with it
        works: dict[str, Work] = {"set up": lambda: works.update(set_up())}
        pipe.send(0.0)
        while (asked := pipe.recv()) is not None:
            work, row = asked
            seconds = [_seconds(works[work])]
            while row is not None and (len(seconds) < 2 or sum(seconds) < row):
                seconds.append(_seconds(works[work]))
            pipe.send(median(seconds[1:] or seconds))


def _seconds(work: Work) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


@contextmanager
def _told(pipe: Connection) -> Iterator[None]:
    """Tell the benchmark of an error in one line."""
    try:
        yield
    except (EOFError, BrokenPipeError):
        raise
    except Exception as error:
        reason = textwrap.shorten(f"{type(error).__name__}: {error}", 300)
        pipe.send(Failure(reason, isinstance(error, MemoryError)))
