"""What the ranks of a team give each other."""

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

from ministn.errors import UserError
from ministn.optimizers import Optimizer


class Failure(NamedTuple):
    """Gathered in place of an answer: what kept a rank from giving it."""

    reason: str
    memory: bool


class Exchange(Protocol):
    """One rank's end of it. All ranks call the same methods in the same order.

    rank: 0 leads. size: number of ranks. kind: what a record calls it.

    Any method raises UserError at rank 0 where another rank is found dead, and EOFError at the
    others where rank 0 is gone.
    """

    rank: int
    size: int
    kind: str

    def scatter(self, messages: Sequence[Any] | None = None) -> Any:
        """Rank 0 gives a message for each rank, the others nothing; each returns its own.

        Messages to other ranks are pickled; rank 0 gets its own as it is.
        """

    def gather(self, message: Any) -> list[Any] | None:
        """Each rank gives a message; rank 0 returns all, in the ranks' order, unless_failed."""

    def lay_out(self, optimizer: Optimizer) -> None:
        """Move parameters, gradients and moments to where ``update`` wants them.

        The values are rank 0's afterwards, on all ranks.
        """

    def spread(self) -> None:
        """Give all ranks the parameters and moments that rank 0 has."""

    def update(self, step_sizes: list[float]) -> None:
        """Add the ranks' gradients up, in their order; limit the sum as the optimiser does, and
        update all ranks' parameters by it.

        What is left in the gradients is undefined. No rank may still be writing its gradient.
        """


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

    def update(self, step_sizes: list[float]) -> None:
        self._optimizer.limit()
        self._optimizer.update(step_sizes)


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
