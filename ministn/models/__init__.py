"""Networks of the papers, by the names the command lines use."""

from collections.abc import Callable
from functools import partial

from ministn.errors import UserError
from ministn.models import colocalisation, projection, stn
from ministn.models.network import Network
from ministn.models.recipe import small_stn
from ministn.models.tstn import classification_cnn, tstn, untied_stn

__all__ = ["DOWNSAMPLING", "NETWORKS", "Network", "build"]

NETWORKS: dict[str, Callable[..., Network]] = {
    "arch1-cnn": partial(classification_cnn, 1),
    "arch1-untied": partial(untied_stn, 1),
    "arch1-tstn": partial(tstn, 1),
    "arch2-cnn": partial(classification_cnn, 2),
    "arch2-untied": partial(untied_stn, 2),
    "arch2-tstn": partial(tstn, 2),
    "small-stn": small_stn,
}
DOWNSAMPLING = [name for name in NETWORKS if name.endswith(("-untied", "-tstn"))]


def build(name: str, size: tuple[int, ...], classes: int = 10, downsample: float = 1) -> Network:
    """The network called ``name`` for (H, W) images, its parameters not yet laid out.

    name: one of NETWORKS, of stn.NETWORKS, where it says the data set as well, of
    projection.NETWORKS, whose size is that of volumes, (D, H, W), or of colocalisation.NETWORKS.
    MNIST addition has 19 classes.

    downsample: factor d of the transformer's output size, floor(H / d); TSTN uses 1. A CNN has
    no transformer, small-stn's always shrinks by 3, and those of STN have one size.

    Raises UserError for an unknown name, an image too small for the network's pooling, or a
    number of classes or factor that the network cannot have.
    """
    networks = NETWORKS | stn.NETWORKS | projection.NETWORKS | colocalisation.NETWORKS
    if name not in networks:
        known = ", ".join([*NETWORKS, stn.NAMES, *projection.NETWORKS, *colocalisation.NETWORKS])
        raise UserError(f"unknown network {name!r}; choose from {known}")
    if classes < 1:
        raise UserError(f"classes must be at least 1, got {classes}")
    if not downsample > 0:
        raise UserError(f"downsample must be above 0, got {downsample}")
    if downsample == 1:
        return networks[name](size, classes)
    if name not in DOWNSAMPLING:
        raise UserError(
            f"downsample must be 1 for {name}, got {downsample}; other factors are for "
            f"{', '.join(DOWNSAMPLING)}"
        )
    return NETWORKS[name](size, classes, downsample)
