"""The best weights of recorded runs. Records have none: they lie in the runs' folders."""

from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

from ministn.demo import load_network
from ministn.errors import UserError
from ministn.models import Network
from ministn.runs.record import folder_name
from ministn.training.trainer import BEST
from papers.claims import Record


class Weights(NamedTuple):
    """A network with a run's best weights, and which they are: run, seed, weights_sha256."""

    network: Network
    which: dict[str, Any]


def best_weights(record: Record, out: Path) -> Weights | None:
    """Those of a recorded run whose folder is in ``out``; None where they are not there.

    Raises UserError where they are of another run.
    """
    settings = record["settings"]
    path = out / folder_name(settings) / BEST
    if not path.exists():
        return None
    network, trained = load_network(path)
    if trained.apart_from_epochs() != settings.apart_from_epochs():
        raise UserError(f"{path} is of another run")
    which = {
        "run": folder_name(settings),
        "seed": settings.seed,
        "weights_sha256": sha256(path.read_bytes()).hexdigest(),
    }
    return Weights(network, which)
