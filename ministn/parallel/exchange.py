"""What the ranks of a team give each other."""

import pickle
from collections.abc import Sequence
from dataclasses import is_dataclass
from itertools import zip_longest
from multiprocessing.reduction import ForkingPickler
from typing import Any, NamedTuple, Protocol

from ministn.errors import UserError
from ministn.optimizers import Optimizer


class Failure(NamedTuple):
    """Gathered in place of an answer: what kept a rank from giving it."""

    reason: str
    memory: bool


class Unsent(TypeError):
    """A message that cannot be pickled: no rank has got any."""


class Exchange(Protocol):
    """One rank's end of it. All ranks call the same methods in the same order.

    rank: 0 leads. size: number of ranks. kind: what a record calls it.

    Any method raises UserError at rank 0 where another rank is found dead, and EOFError at the
    others where rank 0 is gone. After an error other than Unsent nobody knows who has got what: it
    is to be closed.
    """

    rank: int
    size: int
    kind: str

    def scatter(self, messages: Sequence[Any] | None = None) -> Any:
        """Rank 0 gives a message for each rank, the others nothing; each returns its own.

        Messages to other ranks are pickled; rank 0 gets its own as it is. What arrives but cannot
        be unpickled is returned as a Failure.
        """

    def gather(self, message: Any) -> list[Any] | None:
        """Each rank gives a message; rank 0 returns all, in the ranks' order.

        One that cannot be pickled or unpickled is a Failure there.
        """

    def lay_out(self, optimizer: Optimizer) -> None:
        """Move parameters, gradients and moments to where ``update`` wants them.

        The values are rank 0's afterwards, on all ranks. Raises UserError, before anything moves,
        unless all have the same parameters and rule.
        """

    def spread(self) -> None:
        """Give all ranks the parameters and moments that rank 0 has."""

    def update(self, step_sizes: list[float | None]) -> None:
        """Add the ranks' gradients up, in their order; limit the sum as the optimiser does, and
        update all ranks' parameters by it.

        What is left in the gradients is undefined. No rank may still be writing its gradient.
        """

    def close(self) -> None:
        """Rank 0 wants no more of the others, whatever they are doing."""


class Alone:
    """A team of one: nothing has to be exchanged."""

    rank, size, kind = 0, 1, "alone"

    def scatter(self, messages: Sequence[Any] | None = None) -> Any:
        assert messages is not None
        return messages[0]

    def gather(self, message: Any) -> list[Any]:
        return [message]

    def lay_out(self, optimizer: Optimizer) -> None:
        self._optimizer = optimizer

    def spread(self) -> None:
        pass

    def update(self, step_sizes: list[float | None]) -> None:
        self._optimizer.limit()
        self._optimizer.update(step_sizes)

    def close(self) -> None:
        pass


def part(count: int, rank: int, size: int) -> slice:
    """Which of ``count`` things in a row are a rank's: as many as the others', give or take one."""
    return slice(count * rank // size, count * (rank + 1) // size)


def unless_failed(answers: list[Any]) -> list[Any]:
    """The ranks' answers as they are.

    Raises MemoryError if a rank had too little of it, UserError if one failed in another way.
    """
    for rank, answer in enumerate(answers):
        if isinstance(answer, Failure):
            kind = MemoryError if answer.memory else UserError
            raise kind(f"worker {rank} failed: {answer.reason}")
    return answers


def described(optimizer: Optimizer) -> list[str]:
    """All in which the optimisers of replicas must not differ, in words."""
    buffer, rule = optimizer.buffer, optimizer.rule
    sizes = [
        f"{p.name} {p.shape}, learning in 1 of {p.every} steps, warm-up of {p.warm_up}, "
        f"rate times {p.lr_multiplier}"
        for p in buffer.parameters
    ]
    how = repr(rule) if is_dataclass(rule) else rule.kind
    moments = ", ".join(optimizer.moments) or "no moments"
    return [f"{buffer.data.dtype}, {how} with {moments}", *sizes]


def check_replicas(descriptions: list[Any] | None) -> None:
    """Raise UserError at the first difference of any rank's description from rank 0's.

    descriptions: as gathered, so None at the other ranks; raises as unless_failed does.
    """
    found = unless_failed(descriptions or [])
    for rank, theirs in enumerate(found):
        for here, there in zip_longest(found[0], theirs, fillvalue="no more parameters"):
            if here != there:
                raise UserError(
                    f"worker {rank} has built another network: it has {there}, the first process "
                    f"{here}; what builds it must give the same in every process"
                )


def packed(message: Any) -> memoryview:
    """A message as bytes. Raises Unsent, or MemoryError."""
    try:
        return ForkingPickler.dumps(message)
    except MemoryError:
        raise
    except Exception as error:  # whatever the classes in it make of it
        raise Unsent(
            f"what goes to another process must be picklable, as what a module defines at its top "
            f"level is: {error}"
        ) from error


def packed_answer(message: Any) -> memoryview:
    """An answer as bytes, or in its place a Failure that says why it cannot be."""
    try:
        return packed(message)
    except (Unsent, MemoryError) as error:
        return packed(Failure(f"its answer: {error}", isinstance(error, MemoryError)))


def unpacked(content: bytes | bytearray) -> Any:
    """The message of these bytes, or a Failure."""
    try:
        return pickle.loads(content)
    except Exception as error:
        reason = f"a message cannot be read there, {type(error).__name__}: {error}"
        if isinstance(error, AttributeError):  # a class of a notebook, or of a script's main part
            reason += "; what goes to other processes must be defined in a module that they import"
        return Failure(reason, isinstance(error, MemoryError))
