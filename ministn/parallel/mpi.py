"""An Exchange between the ranks that mpirun started, on one machine or several.

Each rank has its own parameters, moments and gradients. An update is cut by parameters: each rank
gets all gradients of its own part, adds them up in the ranks' order, limits the sum where it has to
be, and gives it to all ranks; then each updates all its parameters, to the same bits.

All ranks run the same program. Rank 0 alone does what it says; the others wait in ``led`` for its
orders, and end when it does. Where that cannot be arranged, because a rank fails in the middle of
an exchange that others wait in, MPI ends them all. It does the same when a process dies.
"""

import os
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
from threadpoolctl import threadpool_limits

from ministn.errors import UserError
from ministn.optimizers import Optimizer
from ministn.parallel.exchange import (
    check_replicas,
    described,
    packed,
    packed_answer,
    part,
    unpacked,
)
from ministn.parallel.worker import serve

if TYPE_CHECKING:
    from mpi4py import MPI

# Where launchers say how many processes they started, and which on its machine this is: Open MPI's;
# MPICH's, also srun --mpi=pmi2; srun, which connects only those that have a PMIX_RANK as well.
SIZES = ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_STEP_NUM_TASKS")
LOCAL_RANKS = ("OMPI_COMM_WORLD_LOCAL_RANK", "MPI_LOCALRANKID", "SLURM_LOCALID")

# Seconds. Data move in many pieces while a rank looks for them, so it looks for a while; on cores
# that others use too, a rank that pauses exchanges gradients a hundred times as fast as one that
# does not, because it is run at once when it wants to.
LOOK = 3e-4
SHORTEST_PAUSE, LONGEST_PAUSE = 1e-5, 1e-3


def ranks() -> int | None:
    """How many of this program mpirun, mpiexec or srun started together; None if it is alone."""
    names = SIZES if "PMIX_RANK" in os.environ else SIZES[:2]
    size = next((int(os.environ[name]) for name in names if name in os.environ), 1)
    return size if size > 1 else None


class World:
    """One rank's end. Where a rank dies its launcher ends the others, so no method has to tell.

    busy: at rank 0, whether there are ranks that have not yet answered.
    """

    kind = "mpi"

    def __init__(self, comm: "MPI.Intracomm") -> None:
        self._comm = comm
        self.rank, self.size = comm.rank, comm.size
        self.busy = False

    def scatter(self, messages: Sequence[Any] | None = None) -> Any:
        if self.rank:
            return self._received_from(0)
        assert messages is not None
        mine, *others = messages
        contents = [packed(message) for message in others]  # all, before the first is sent
        self.busy = True
        for rank, content in enumerate(contents, 1):
            _result(self._comm.Isend(content, rank).test)
        return mine

    def gather(self, message: Any) -> list[Any] | None:
        answers = self._gathered(message)
        self.busy = False
        return answers

    def lay_out(self, optimizer: Optimizer) -> None:
        with self.essential():
            # A rank may have failed before it came here. It will not take part in what follows.
            check_replicas(self._gathered(described(optimizer)))
            self._optimizer = optimizer
            count = optimizer.buffer.data.size
            parts = [part(count, rank, self.size) for rank in range(self.size)]
            self._counts = [mine.stop - mine.start for mine in parts]
            self._gradients = np.empty((self.size, self._counts[self.rank]), np.float32)
            self.spread()

    def spread(self) -> None:
        with self.essential():
            optimizer = self._optimizer
            for array in (optimizer.buffer.data, *optimizer.state().values()):
                _result(self._comm.Ibcast(array).test)

    def update(self, step_sizes: list[float | None]) -> None:
        with self.essential():
            whole = self._optimizer.buffer.grad
            mine = [self._counts[self.rank]] * self.size
            _result(self._comm.Ialltoallv((whole, self._counts), (self._gradients, mine)).test)
            total = self._gradients[0]
            for gradient in self._gradients[1:]:
                total += gradient
            self._optimizer.limit(total, self._over_ranks)
            _result(self._comm.Iallgatherv(total, (whole, self._counts)).test)
        self._optimizer.update(step_sizes)

    def _over_ranks(self, number: float) -> float:
        """The sum of what each rank has, in the ranks' order, the same to all."""
        numbers = np.empty(self.size)
        _result(self._comm.Iallgather(np.array([number]), numbers).test)
        return sum(numbers.tolist())

    def close(self) -> None:
        self.busy = True  # that nobody will answer: when rank 0 ends, MPI ends all

    def dismiss(self) -> None:
        """Rank 0 has no more orders."""
        self.scatter([None] * self.size)

    @contextmanager
    def essential(self) -> Iterator[None]:
        """What others wait for: any other rank than 0 that fails in here says so and ends."""
        try:
            yield
        except Exception as error:
            if self.rank == 0:
                raise
            reason = f"{type(error).__name__}: {error}"
            print(f"error: worker {self.rank} failed: {reason}", file=sys.stderr)
            raise SystemExit(2) from error

    def _gathered(self, message: Any) -> list[Any] | None:
        if self.rank:
            _result(self._comm.Isend(packed_answer(message), 0).test)
            return None
        return [message, *map(self._received_from, range(1, self.size))]

    def _received_from(self, rank: int) -> Any:
        from mpi4py import MPI

        status = MPI.Status()

        def look() -> tuple[bool, Any]:
            message = self._comm.Improbe(rank, status=status)
            return message is not None, message

        message = _result(look)
        content = bytearray(status.Get_count(MPI.BYTE))
        _result(message.Irecv(content).test)
        return unpacked(content)


def _result(test: Callable[[], tuple[bool, Any]]) -> Any:
    """Wait for what MPI is doing, by its test for that: (whether it is done, what came of it)."""
    pause = SHORTEST_PAUSE
    while True:
        deadline = time.perf_counter() + LOOK
        while time.perf_counter() < deadline:
            done, result = test()
            if done:
                return result
        time.sleep(pause)
        pause = min(2 * pause, LONGEST_PAUSE)


@cache
def world() -> World:
    """This process' end. Raises UserError where there is no MPI to connect it to the others."""
    try:
        with warnings.catch_warnings(action="ignore"):  # what they warn of is an error below
            from mpi4py import MPI
    except ModuleNotFoundError:
        raise UserError(
            f"{ranks()} ranks were started, and mpi4py connects them: pip install -e '.[mpi]'"
        ) from None
    except (ImportError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(
            f"mpi4py does not find the library of the MPI that started {ranks()} ranks ({reason}): "
            "load its module, or name its folder in LD_LIBRARY_PATH"
        ) from error
    comm = MPI.COMM_WORLD
    if comm.size != ranks():
        library = MPI.Get_library_version().split(",")[0].splitlines()[0]
        raise UserError(
            f"{ranks()} ranks were started, but mpi4py sees {comm.size}: it uses {library}, whose "
            "own mpiexec must start them"
        )
    return World(comm)


@contextmanager
def led() -> Iterator[None]:
    """At rank 0: run the block, and end the other ranks when it ends, however it does.

    The others do not run it: they carry out rank 0's orders, and exit. Alone: run the block.

    Raises UserError as ``world`` does, at one rank of each machine.
    """
    if not ranks():
        yield
        return
    try:
        here = world()
    except UserError:
        local_rank = next((os.environ[name] for name in LOCAL_RANKS if name in os.environ), "0")
        if local_rank != "0":  # what is wrong is wrong with a machine
            sys.exit(2)
        raise
    from mpi4py.run import set_abort_status

    try:
        if here.rank:
            _follow(here)
        yield
    except BaseException as end:
        if here.rank or here.busy:
            set_abort_status(end)  # once Python has ended, MPI ends all ranks
        raise
    finally:
        if not (here.rank or here.busy):
            here.dismiss()


def _follow(here: World) -> NoReturn:
    """Another rank than 0, from beginning to end."""
    with here.essential():
        serve(here)
    sys.exit()


_limits: list[threadpool_limits] = []  # of this rank's linear algebra, the latest in force


def limit(threads: int) -> None:
    """Give the linear algebra library of this rank so many threads, until ``unlimit``."""
    _limits.append(threadpool_limits(threads))


def unlimit() -> None:
    _limits.pop().restore_original_limits()
