"""How a run is called and described where no paper's table gives it a name."""

from typing import Any

Record = dict[str, Any]


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
