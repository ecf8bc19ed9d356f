"""An Exchange between processes on one machine: messages through pipes, arrays in shared memory.

Parameters and moments exist once; each rank has a gradient of its own, and all see all. An update
is cut by parameters: each rank adds up, in the ranks' order, and updates its own part of them. Only
where the gradient's norm is limited do they need to hear of each other's parts in between.

A pipe ends when the process at its other end does, in whatever way. That is how rank 0 learns
of a worker's death, and how workers learn that they are no longer needed. What is shared has no
name that could outlive them: workers get it as an open file, through their pipes.
"""

import errno
import mmap
import os
import shutil
import signal
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess, current_process
from multiprocessing.reduction import recv_handle, send_handle
from pathlib import Path
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from ministn.errors import UserError
from ministn.optimizers import Optimizer
from ministn.parallel.exchange import (
    Exchange,
    check_replicas,
    described,
    packed,
    packed_answer,
    part,
    unless_failed,
    unpacked,
)
from ministn.parallel.worker import serve

IN_MEMORY = Path("/dev/shm")  # Linux's file system that has no disk
PATIENCE = 5.0  # seconds for a worker to end by itself
UNGUARDED = 64  # the status of a worker that has found itself importing what started it
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


class SharedMemory(Exchange):
    """What every rank's end has in common: where the arrays lie, and the update."""

    kind = "processes"

    def hand_on(self, descriptor: int) -> None:
        """Rank 0 gives an open file to the others."""
        raise NotImplementedError

    def received(self) -> int:
        """Another rank gets it, as a descriptor of its own."""
        raise NotImplementedError

    def lay_out(self, optimizer: Optimizer) -> None:
        buffer = optimizer.buffer
        moments = list(optimizer.state().values())
        check_replicas(self.gather(described(optimizer)))
        shape = (1 + len(moments) + self.size, buffer.data.size)
        size = 4 * shape[0] * shape[1]
        leads = self.rank == 0
        descriptor = reserved(size) if leads else self.received()
        try:
            if leads:
                self.hand_on(descriptor)
            arrays = np.frombuffer(mmap.mmap(descriptor, size), np.float32).reshape(shape)
        finally:
            os.close(descriptor)  # what is mapped stays, for as long as a rank has it
        if leads:
            arrays[: -self.size] = buffer.data, *moments
        unless_failed(self.gather(None) or [])
        data, *rest = arrays
        moments, gradients = rest[: len(moments)], rest[len(moments) :]
        buffer.move(data, gradients[self.rank])
        optimizer.move(moments)
        self._optimizer, self._gradients = optimizer, gradients

    def spread(self) -> None:
        pass

    def update(self, step_sizes: list[float | None]) -> None:
        mine = part(self._gradients[0].size, self.rank, self.size)
        total = self._gradients[0]
        for gradient in self._gradients[1:]:
            total[mine] += gradient[mine]
        self._optimizer.limit(total[mine], self._over_ranks)
        self._optimizer.update(step_sizes, total, mine)

    def _over_ranks(self, number: float) -> float:
        """The sum of what each rank has, in the ranks' order, the same to all."""
        numbers = self.gather(number)
        return self.scatter(numbers and [sum(numbers)] * self.size)


class Leader(SharedMemory):
    """Rank 0's end, with a pipe to each other rank."""

    rank = 0

    def __init__(self, workers: list[tuple[BaseProcess, Connection]]) -> None:
        self._workers = workers
        self.size = 1 + len(workers)

    def scatter(self, messages: Sequence[Any] | None = None) -> Any:
        assert messages is not None
        mine, *others = messages
        contents = [packed(message) for message in others]  # all, before the first is sent
        for (process, pipe), content in zip(self._workers, contents, strict=True):
            try:
                pipe.send_bytes(content)
            except OSError:
                raise _died(process) from None
        return mine

    def hand_on(self, descriptor: int) -> None:
        for process, pipe in self._workers:
            try:
                send_handle(pipe, descriptor, process.pid)
            except OSError:
                raise _died(process) from None

    def gather(self, message: Any) -> list[Any]:
        contents = []
        for process, pipe in self._workers:
            try:
                contents.append(pipe.recv_bytes())
            except (EOFError, OSError):
                raise _died(process) from None
        return [message, *map(unpacked, contents)]

    def close(self) -> None:
        _end(self._workers, patience=0.0)


class Follower(SharedMemory):
    """Any other rank's end, with a pipe to rank 0."""

    def __init__(self, rank: int, size: int, pipe: Connection) -> None:
        self.rank, self.size = rank, size
        self._pipe = pipe

    def scatter(self, messages: Sequence[Any] | None = None) -> Any:
        return unpacked(self._pipe.recv_bytes())

    def received(self) -> int:
        return recv_handle(self._pipe)

    def gather(self, message: Any) -> None:
        self._pipe.send_bytes(packed_answer(message))

    def close(self) -> None:
        pass


@contextmanager
def processes(size: int, threads: int) -> Iterator[Leader]:
    """Start the other ranks; end them when the block ends, however it ends.

    threads: of the linear algebra library, in each.
    """
    if getattr(current_process(), "_inheriting", False):  # and would import it again, for ever
        sys.exit(UNGUARDED)
    context = get_context("spawn")
    workers: list[tuple[BaseProcess, Connection]] = []
    try:
        with _quiet_start(threads):
            for rank in range(1, size):
                ours, theirs = context.Pipe()
                process = context.Process(
                    target=_follow, args=(rank, size, theirs, threads), name=f"worker {rank}",
                    daemon=True,
                )  # fmt: skip
                process.start()
                theirs.close()  # or it would stay open when the worker dies
                workers.append((process, ours))
        yield Leader(workers)
    finally:
        _end(workers)


def _follow(rank: int, size: int, pipe: Connection, threads: int) -> None:
    """A worker process, from beginning to end."""
    with threadpool_limits(threads), suppress(EOFError, OSError):  # the pipe ended: so did rank 0
        serve(Follower(rank, size, pipe))


@contextmanager
def _quiet_start(threads: int) -> Iterator[None]:
    """Processes that start in here ignore Ctrl-C from the first moment, and begin few threads."""
    before = {name: os.environ.get(name) for name in THREADS}
    handler = None
    if threading.current_thread() is threading.main_thread():  # others may not set handlers
        handler = signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ.update(dict.fromkeys(THREADS, str(threads)))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
        if handler is not None:
            signal.signal(signal.SIGINT, handler)


def _end(workers: list[tuple[BaseProcess, Connection]], patience: float = PATIENCE) -> None:
    for _, pipe in workers:
        with suppress(OSError):
            pipe.send(None)
        pipe.close()
    for process, _ in workers:
        process.join(patience)
        if process.is_alive():
            process.kill()
            process.join()


def _died(process: BaseProcess) -> UserError:
    process.join(PATIENCE)
    code = process.exitcode
    if code == UNGUARDED:
        return UserError(
            "workers import the program that starts them: in a script of your own, put what it "
            'does below if __name__ == "__main__":'
        )
    how = f"was killed by {signal.Signals(-code).name}" if code and code < 0 else "ended"
    return UserError(
        f"{process.name} (process {process.pid}) {how}. The last checkpoint is kept: --resume goes "
        "on from it. If memory ran out, fewer --workers or a smaller --batch-size need less"
    )


def reserved(size: int) -> int:
    """An open file without a name whose ``size`` bytes are there for sure: in memory, or on disk.

    Raises UserError if there is room in neither.
    """
    folders = [IN_MEMORY, Path(tempfile.gettempdir())]
    for folder in folders:
        with suppress(OSError):
            return _reserved(folder, size)
    raise UserError(
        f"the workers need {size / 1e6:.0f} MB to share, and there is no room for that in "
        f"{' or '.join(map(str, folders))}: free some, or use --workers 1"
    )


def _reserved(folder: Path, size: int) -> int:
    descriptor = _nameless(folder)
    try:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(descriptor, 0, size)
        elif shutil.disk_usage(folder).free < size:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        else:
            os.truncate(descriptor, size)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def _nameless(folder: Path) -> int:
    """A new empty file there that no folder lists, so that none is left whoever is killed when."""
    if hasattr(os, "O_TMPFILE"):
        with suppress(OSError):  # not every file system has it
            return os.open(folder, os.O_TMPFILE | os.O_RDWR, 0o600)
    descriptor, name = tempfile.mkstemp(prefix="ministn-", dir=folder)
    os.unlink(name)
    return descriptor
