"""How a run is called and described where no paper's table gives it a name."""

from collections.abc import Sequence
from typing import Any

from ministn.errors import UserError, check_kind

Record = dict[str, Any]


def check_record(record: Record) -> None:
    """Raise TypeError for what is no record, UserError for one that cannot be drawn."""
    check_kind("record", record, dict)
    for key in ("settings", "examples", "epochs", "best"):
        if key not in record:
            raise UserError(f"record has no {key!r}: take one that read_record has read")


def check_words(name: str, words: Sequence[str]) -> None:
    """Raise TypeError, under the argument's name, for anything but several texts."""
    if not isinstance(words, (list, tuple)) or not all(isinstance(word, str) for word in words):
        raise TypeError(f"{name} must be a list of texts, got {words!r}")


def named(record: Record) -> list[str]:
    """The network's name."""
    return [record["settings"].network.name]


def described(record: Record) -> str:
    """What the run was trained on, how, and for how long."""
    s = record["settings"]
    training = s.training
    iterations = training.iterations
    length = training.length if iterations is None else f"{iterations:,} iterations"
    return (
        f"Set {s.data.name}, {s.data.train_size:,} images an epoch, data seed {s.data.seed} "
        f"(SHA-256 {record['data_sha256'][:8]}); {length} of batch "
        f"{training.batch_size}, learning rate {training.lr:g}, loc-lr x{training.loc_lr:g}."
    )
