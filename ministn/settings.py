"""What a run is: all that decides its outcome, checked."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ministn.cuda.choice import PRECISIONS
from ministn.errors import UserError
from ministn.optimizers import step_decay

OPTIMIZERS = "adam", "sgd"


@dataclass(frozen=True)
class Settings:
    """All that decides a run's outcome. The defaults are the TSTN paper's protocol.

    epochs or iterations: how long, the other is None. data: one of data.RECIPES. canvas,
    distractors, patch: in pixels, see data/cluttered.py. optimizer: "adam" or "sgd", the latter
    with momentum and weight_decay. lr: the starting learning rate, times decay after every
    decay_every epochs, or iterations where the length is in those. loc_lr: multiplier on it for
    the layers that only the localisation network has. seed: of initial values, shuffling and
    dropout. precision: of products, "tf32" on a GPU only, see cuda/choice.py. encoder: for
    co-localisation, the name of the run whose network describes what is seen: training/pairs.py.
    downsample: factor d by which the transformer's output is smaller than its input.
    """

    network: str
    epochs: int | None = None
    data: str = "mnist"
    data_seed: int = 0
    canvas: int = 60
    distractors: int = 6
    patch: int = 8
    train_size: int = 50_000
    batch_size: int = 256
    lr: float = 0.001
    loc_lr: float = 1.0
    seed: int = 0
    precision: str = "fp32"
    iterations: int | None = None
    optimizer: str = "adam"
    momentum: float = 0.9
    weight_decay: float = 0.0
    decay: float = 0.7
    decay_every: int = 20
    encoder: str = ""
    downsample: float = 1.0

    def __post_init__(self) -> None:
        if (self.epochs is None) == (self.iterations is None):
            raise UserError("a run needs a number of epochs, or else one of iterations")
        length = "iterations" if self.epochs is None else "epochs"
        for name in (length, "decay_every", "train_size", "batch_size", "canvas"):
            if getattr(self, name) < 1:
                raise UserError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name, least in (("distractors", 0), ("patch", min(1, self.distractors))):
            if getattr(self, name) < least:
                raise UserError(f"{name} must be at least {least}, got {getattr(self, name)}")
        for name in ("lr", "loc_lr", "weight_decay", "decay"):
            if not 0 <= getattr(self, name) < np.inf:
                raise UserError(f"{name} must be a number from 0 up, got {getattr(self, name)}")
        if not 0 < self.downsample < np.inf:
            raise UserError(f"downsample must be a number above 0, got {self.downsample}")
        if not 0 <= self.momentum < 1:
            raise UserError(f"momentum must be at least 0 and below 1, got {self.momentum}")
        for name in ("seed", "data_seed"):
            if not 0 <= getattr(self, name) < 2**64:
                raise UserError(f"{name} must be from 0 to 2^64 - 1, got {getattr(self, name)}")
        for name, known in (("precision", PRECISIONS), ("optimizer", OPTIMIZERS)):
            if getattr(self, name) not in known:
                raise UserError(f"{name} must be {' or '.join(known)}, got {getattr(self, name)!r}")

    @property
    def batches_per_epoch(self) -> int:
        """The partial last batch is kept."""
        return -(-self.train_size // self.batch_size)

    @property
    def steps(self) -> int:
        """Of the optimiser, in all."""
        if self.iterations is not None:
            return self.iterations
        assert self.epochs is not None
        return self.epochs * self.batches_per_epoch

    @property
    def total_epochs(self) -> int:
        """The last one ends early where iterations do not fill it."""
        return -(-self.steps // self.batches_per_epoch)

    @property
    def length(self) -> str:
        """In words."""
        return f"{self.epochs} epochs" if self.iterations is None else f"{self.steps} iterations"

    def rates(self, epoch: int, first: int) -> list[float]:
        """The learning rate of each step of an epoch, from 1; first: steps done before it."""
        numbers = [
            epoch if self.iterations is None else first + batch + 1
            for batch in range(self.batches_per_epoch)
        ]
        return [
            step_decay(self.lr, number, factor=self.decay, every=self.decay_every)
            for number in numbers
        ]

    def apart_from_epochs(self) -> dict[str, Any]:
        """Everything that must be equal for a run to be continued; only epochs may grow."""
        return {name: value for name, value in asdict(self).items() if name != "epochs"}
