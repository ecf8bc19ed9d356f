"""Networks of the papers, by the names the command lines use."""

from collections.abc import Callable

from ministn.errors import UserError
from ministn.models.network import Network
from ministn.models.recipe import small_stn
from ministn.models.tstn import classification_cnn, tstn, untied_stn

__all__ = ["NETWORKS", "Network", "build"]

Builder = Callable[[tuple[int, int], int, float], Network]

NETWORKS: dict[str, Builder] = {
    "arch1-cnn": lambda size, classes, d: classification_cnn(1, size, classes),
    "arch1-untied": lambda size, classes, d: untied_stn(1, size, classes, d),
    "arch1-tstn": lambda size, classes, d: tstn(1, size, classes, d),
    "arch2-cnn": lambda size, classes, d: classification_cnn(2, size, classes),
    "arch2-untied": lambda size, classes, d: untied_stn(2, size, classes, d),
    "arch2-tstn": lambda size, classes, d: tstn(2, size, classes, d),
    "small-stn": lambda size, classes, d: small_stn(size, classes),
}


def build(name: str, size: tuple[int, int], classes: int = 10, downsample: float = 1) -> Network:
    """The network called ``name`` for (H, W) images, its parameters not yet laid out.

    downsample: factor d of the transformer's output size, floor(H / d); TSTN uses 1. small-stn
    has its own, 3.

    Raises UserError for an unknown name, an image too small for the network's pooling, or a
    number of classes or factor that no network can have.
    """
    if name not in NETWORKS:
        raise UserError(f"unknown network {name!r}; choose from {', '.join(NETWORKS)}")
    if classes < 1:
        raise UserError(f"classes must be at least 1, got {classes}")
    if not downsample > 0:
        raise UserError(f"downsample must be above 0, got {downsample}")
    return NETWORKS[name](size, classes, downsample)
