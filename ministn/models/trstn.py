"""Tied recurrent spatial transformer networks: Cirstea & Likforman-Sulem 2016, conclusion.

    "we could keep the tied weights between the localization and classification CNNs in the TSTN,
    while also add a recurrent layer on top of the localization network, like in Recurrent Spatial
    Transformer Networks"

The paper trains none and says no more. Here it is the TSTN of tstn.py, where a GRU of 200 units
takes the place of the localisation network's 200 neurons, as it does in the RNN-SPN, and runs for T
steps. Each of its T states gives a theta; the tied classifier reads all T glimpses, and their
logits are averaged:

    z = 1/T sum over t of classifier(V_t)
"""

from math import sqrt

from ministn.data import Form
from ministn.errors import check_whole
from ministn.initializers import HeUniform
from ministn.kinds import kind
from ministn.layers import Sequential
from ministn.models.architecture import Architecture, plane
from ministn.models.network import Network
from ministn.models.tstn import (
    check_architecture,
    check_downsample,
    classification_layers,
    convolutional_layers,
    looked_at,
    looking_layers,
    transformed_size,
)
from ministn.recurrent import GRU, Mean
from ministn.transformer import Glimpses, SpatialTransformer, regression_layer

# Standard deviation 1 / sqrt(inputs) for each of the three gates, that lie side by side. The
# RNN-SPN's 0.1 is for 180 features; of the 28,800 here it would make sums of the order of 17, where
# the gates have no slope.
GATES = HeUniform(gain=sqrt(3))


@kind("trstn")
class Trstn(Architecture):
    """The TSTN looks ``glimpses`` times, T. architecture: 1 or 2; downsample: d, as in Tstn."""

    architecture: int
    downsample: float = 1.0
    glimpses: int = 2

    def __post_init__(self) -> None:
        check_architecture(self.architecture)
        check_downsample(self.downsample)
        check_whole(glimpses=self.glimpses)

    @property
    def name(self) -> str:
        return f"arch{self.architecture}-trstn"

    def build(self, form: Form) -> Network:
        size = plane(form)
        output = transformed_size(size, self.downsample)
        convolutions = convolutional_layers("classifier", self.architecture, form.channels)
        localisation = Sequential(
            *looking_layers(convolutions),
            GRU("localisation/gru", looked_at(size), 200, self.glimpses, initial=GATES),
            regression_layer("localisation/theta", 200),
        )
        front = Glimpses(
            SpatialTransformer(localisation, output),
            *classification_layers(convolutions, output, form.classes).layers,
            glimpses=self.glimpses,
        )
        return Network(Sequential(Mean("classifier/mean")), front)
