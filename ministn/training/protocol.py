"""How a network is trained: optimiser, learning rate, batches, for how long."""

from dataclasses import replace
from typing import Any

from ministn.errors import FROM_0, UserError, check_numbers, check_whole
from ministn.kinds import kind
from ministn.optimizers import Adam, Rule, check_clipping
from ministn.schedules import Schedule, StepDecay, compressed

LENGTHS = "epochs", "iterations", "dropout_ramp"  # fields of a Training, None for none


@kind("training")
class Training:
    """The defaults are the TSTN paper's.

    optimizer: with its own numbers. lr: the starting learning rate; schedule: how it falls.
    epochs or iterations: how long, the other is None. loc_lr: multiplier on lr for the layers that
    only localisation networks have; loc_warm_up: over so many of their steps it rises evenly to
    that. clip, clip_norm: limits on each value and on the norm of a
    step's whole gradient, in this order, see Optimizer.limit; None for none. dropout_ramp: how many
    epochs have less than full dropout, their rates rising evenly from 0. patience: stop after so
    many epochs in a row without a lower validation error. None for neither.

    Raises UserError for what cannot be.
    """

    optimizer: Rule = Adam()
    lr: float = 0.001
    schedule: Schedule = StepDecay()
    batch_size: int = 256
    epochs: int | None = None
    iterations: int | None = None
    loc_lr: float = 1.0
    clip: float | None = None
    clip_norm: float | None = None
    dropout_ramp: int | None = None
    patience: int | None = None
    loc_warm_up: int | None = None

    def __post_init__(self) -> None:
        for name, cls in (("optimizer", Rule), ("schedule", Schedule)):
            if not isinstance(getattr(self, name), cls):
                raise UserError(f"{name} of a training cannot be {getattr(self, name)!r}")
        if (self.epochs is None) == (self.iterations is None):
            raise UserError("a run needs a number of epochs, or else one of iterations")
        name = "iterations" if self.epochs is None else "epochs"
        check_whole(**{name: getattr(self, name)}, batch_size=self.batch_size)
        check_numbers(FROM_0, lr=self.lr, loc_lr=self.loc_lr)
        check_clipping(self.clip, self.clip_norm)
        names = "dropout_ramp", "patience", "loc_warm_up"
        numbers = {name: getattr(self, name) for name in names}
        check_whole(**{name: n for name, n in numbers.items() if n is not None})

    @property
    def length(self) -> str:
        """In words."""
        return (
            f"{self.epochs} epochs" if self.iterations is None else f"{self.iterations} iterations"
        )

    def batches(self, images: int) -> int:
        """In an epoch of so many images; the partial last one is kept."""
        return -(-images // self.batch_size)

    def steps(self, images: int) -> int:
        """Of the optimiser, in all."""
        if self.iterations is not None:
            return self.iterations
        assert self.epochs is not None
        return self.epochs * self.batches(images)

    def total_epochs(self, images: int) -> int:
        """The last one ends early where iterations do not fill it."""
        return -(-self.steps(images) // self.batches(images))

    def rates(self, images: int, epoch: int, first: int) -> list[float]:
        """The learning rate of each step of an epoch, from 1; first: steps done before it."""
        numbers = [
            epoch if self.iterations is None else first + batch + 1
            for batch in range(self.batches(images))
        ]
        return [self.lr * self.schedule.at(number) for number in numbers]

    def dropout(self, epoch: int) -> float:
        """What an epoch, from 1, multiplies dropout rates with."""
        return min(1.0, (epoch - 1) / self.dropout_ramp) if self.dropout_ramp else 1.0

    def compressed(self, times: float) -> "Training":
        """The same protocol so many times faster: its lengths and its schedule divided.

        Not so the patience, since fewer epochs without progress may be chance, nor the warm-up,
        which is for the first steps of an optimiser, however many follow.
        """
        lengths = {name: getattr(self, name) for name in LENGTHS}
        shorter: dict[str, Any] = {
            n: each and compressed(each, times) for n, each in lengths.items()
        }
        return replace(self, schedule=self.schedule.compressed(times), **shorter)
