"""How a network is trained: optimiser, learning rate, batches, for how long."""

from dataclasses import replace

from ministn.errors import FROM_0, UserError, check_numbers, check_whole
from ministn.kinds import kind
from ministn.optimizers import Adam, Rule, check_clipping
from ministn.schedules import Schedule, StepDecay, compressed


@kind("training")
class Training:
    """The defaults are the TSTN paper's.

    optimizer: with its own numbers. lr: the starting learning rate; schedule: how it falls.
    epochs or iterations: how long, the other is None. loc_lr: multiplier on lr for the layers that
    only localisation networks have. clip, clip_norm: limits on each value and on the norm of a
    step's whole gradient, in this order, see Optimizer.limit; None for none.

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

    def compressed(self, times: float) -> "Training":
        """The same protocol so many times faster: its length and its schedule divided."""
        return replace(
            self,
            schedule=self.schedule.compressed(times),
            epochs=self.epochs and compressed(self.epochs, times),
            iterations=self.iterations and compressed(self.iterations, times),
        )
