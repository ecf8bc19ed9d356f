"""Where training stands, apart from the arrays, and as a checkpoint has it."""

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ministn.errors import UserError
from ministn.training import checkpoint


@dataclass
class State:
    """Counters and results, and no clock."""

    epoch: int = 0  # completed
    batch: int = 0  # completed in the epoch after those
    steps: int = 0  # of the optimiser
    seen: int = 0  # images of the current epoch whose outcome is known, all but on a GPU
    loss_sum: float = 0.0  # over them
    errors: int = 0
    history: list[dict[str, Any]] = field(default_factory=list)
    best_epoch: int | None = None
    collapses: list[dict[str, Any]] = field(default_factory=list)
    diverged: dict[str, Any] | None = None


class Kept(NamedTuple):
    """A course of training, in NumPy: what it takes to go on with it.

    arrays: the weights by their names, and the optimiser's moments. best: the best epoch's weights.
    """

    state: State
    arrays: dict[str, np.ndarray]
    best: dict[str, np.ndarray]


def state_of(path: Path, content: dict[str, Any]) -> State:
    """The State that a checkpoint has. Raises UserError unless it is one of this version."""
    found, wanted = checkpoint.entry(path, content, "state"), {f.name for f in fields(State)}
    if not isinstance(found, dict) or found.keys() != wanted:
        raise UserError(f"{path} has another version's state: go on with that, or train anew")
    return State(**found)
