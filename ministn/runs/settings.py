"""What a run is: all that decides its outcome, in one value."""

from typing import Any

from ministn.cuda.choice import PRECISIONS
from ministn.data import Data
from ministn.errors import UserError
from ministn.kinds import kind, replaced, to_json
from ministn.models import Architecture
from ministn.tasks import Classification, Task
from ministn.training.protocol import Training


@kind("run")
class Settings:
    """data, network, training, task: see their classes. seed: of initial values, shuffling and
    dropout. precision: of products, "tf32" on a GPU only, see cuda/choice.py. pretrained: the run
    with whose weights it starts.

    Raises UserError for what cannot be.
    """

    data: Data
    network: Architecture
    training: Training
    task: Task = Classification()
    seed: int = 0
    precision: str = "fp32"
    pretrained: "Settings | None" = None

    def __post_init__(self) -> None:
        wanted = {"data": Data, "network": Architecture, "training": Training, "task": Task}
        for name, cls in wanted.items():
            if not isinstance(getattr(self, name), cls):
                raise UserError(f"{name} of a run cannot be {getattr(self, name)!r}")
        if not isinstance(self.pretrained, Settings | None):
            raise UserError(f"a run cannot start from {self.pretrained!r}")
        if not 0 <= self.seed < 2**64:
            raise UserError(f"seed must be from 0 to 2^64 - 1, got {self.seed}")
        if self.precision not in PRECISIONS:
            raise UserError(f"precision must be {' or '.join(PRECISIONS)}, got {self.precision!r}")

    @property
    def batches_per_epoch(self) -> int:
        return self.training.batches(self.data.train_size)

    @property
    def steps(self) -> int:
        return self.training.steps(self.data.train_size)

    @property
    def total_epochs(self) -> int:
        return self.training.total_epochs(self.data.train_size)

    def apart_from_epochs(self) -> dict[str, Any]:
        """Everything that must be equal for a run to be continued; only epochs may grow."""
        found: dict[str, Any] = to_json(self)
        del found["training"]["epochs"]
        return found

    def for_epochs(self, epochs: int | None) -> "Settings":
        """The same for another length."""
        return replaced(self, "training.epochs", epochs)
