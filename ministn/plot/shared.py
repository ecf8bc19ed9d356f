"""How a run is called and described where no paper's table gives it a name."""

from typing import Any

Record = dict[str, Any]


def named(record: Record) -> list[str]:
    """The network's name."""
    return [record["settings"]["network"]]


def described(record: Record) -> str:
    """What the run was trained on, how, and for how long."""
    s = record["settings"]
    if s.get("iterations") is None:
        length = f"{s['epochs']} epochs"
    else:
        length = f"{s['iterations']:,} iterations"
    return (
        f"Set {s['data']}, {s['train_size']:,} images an epoch, data seed {s['data_seed']} "
        f"(SHA-256 {record['data_sha256'][:8]}); {length} of batch "
        f"{s['batch_size']}, learning rate {s['lr']:g}, loc-lr x{s['loc_lr']:g}."
    )
