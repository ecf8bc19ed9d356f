"""How the learning rate falls: a function of the number of an epoch or iteration."""

from math import floor
from typing import Protocol, runtime_checkable

from ministn.errors import ABOVE_0, FROM_0, check_count, check_numbers, check_whole
from ministn.kinds import kind


@runtime_checkable
class Schedule(Protocol):
    """number: from 1, of the epoch; of the iteration where a training's length is in those."""

    def at(self, number: int) -> float:
        """What the starting learning rate is multiplied with."""

    def compressed(self, times: float) -> "Schedule":
        """The same for a training so many times shorter."""


@kind("step decay")
class StepDecay:
    """Multiplied by ``factor`` after every ``every`` epochs; the first time when ``first`` begins.

        at(n) = factor^((n - 1) // every)                without first
        at(n) = factor^(1 + (n - first) // every)        from n = first on, before that 1

    The defaults are the TSTN paper's. Raises UserError for numbers that cannot be.
    """

    factor: float = 0.7
    every: int = 20
    first: int | None = None

    def __post_init__(self) -> None:
        check_numbers(FROM_0, decay=self.factor)
        check_whole(decay_every=self.every)
        if self.first is not None:
            check_whole(first_decay=self.first)

    def at(self, number: int) -> float:
        number = check_count("number", number)
        first = self.every + 1 if self.first is None else self.first
        return self.factor ** max(0, 1 + (number - first) // self.every)

    def compressed(self, times: float) -> "StepDecay":
        check_numbers(ABOVE_0, times=times)
        first = self.first and 1 + floor((self.first - 1) / times + 0.5)
        return StepDecay(self.factor, compressed(self.every, times), first)


def compressed(length: int, times: float) -> int:
    """A length so many times shorter, halves rounded up, at least 1."""
    check_whole(length=length)
    check_numbers(ABOVE_0, times=times)
    return max(1, floor(length / times + 0.5))
