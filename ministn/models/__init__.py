"""Networks of the papers, each as a value that builds it."""

from ministn.models.alternating import Alternating
from ministn.models.architecture import Architecture
from ministn.models.colocalisation import Colocaliser, CropEncoder
from ministn.models.controls import Shuffled
from ministn.models.network import Network
from ministn.models.parts import PartNetwork
from ministn.models.placement import Placement, PlacementCnn
from ministn.models.plankton import PlanktonNetwork
from ministn.models.projection import Projected
from ministn.models.recipe import SmallStn
from ministn.models.rnn_spn import FfnSpn, RnnSpn, SequenceCnn
from ministn.models.stn import Stn
from ministn.models.svhn import SvhnNetwork
from ministn.models.trstn import Trstn
from ministn.models.tstn import ClassificationCnn, Tstn, UntiedStn

__all__ = [
    "NETWORKS",
    "Alternating",
    "Architecture",
    "ClassificationCnn",
    "Colocaliser",
    "CropEncoder",
    "FfnSpn",
    "Network",
    "PartNetwork",
    "Placement",
    "PlacementCnn",
    "PlanktonNetwork",
    "Projected",
    "RnnSpn",
    "SequenceCnn",
    "Shuffled",
    "SmallStn",
    "Stn",
    "SvhnNetwork",
    "Trstn",
    "Tstn",
    "UntiedStn",
]

# Those of Table 3, and the notebook's, by the names on the command line.
NETWORKS: dict[str, Architecture] = {
    network.name: network
    for network in [
        *(made(number) for number in (1, 2) for made in (ClassificationCnn, UntiedStn, Tstn)),
        SmallStn(),
    ]
}
