"""TSTN and CNN by turns, the CNN alone at test time: Cirstea & Likforman-Sulem 2016, section 4.

    "using training procedures where we combine training the TSTN and classification CNN alternately
    and only use the classification CNN at test time is interesting. This can be interpreted as a
    curriculum form of learning"

The paper does not say how they take turns. Here they do batch by batch: the first step of training,
number 0, is the TSTN's, the next the CNN's on untransformed images, and so on. In the CNN's steps
the localisation network's own weights stay as they are, with their moments and their count of
steps. Where the transformer makes its output d times smaller than the image, the classifier is for
that size; so the CNN reads the image as the transformer shows it at the identity.
"""

from ministn.data import Form
from ministn.kinds import kind
from ministn.layers import Sequential
from ministn.models.architecture import Architecture, plane
from ministn.models.network import Network
from ministn.models.tstn import Tstn, check_architecture, check_downsample
from ministn.parameter import Parameter
from ministn.transformer import Resize


class Alternately(Network):
    """A network and a part of it, which are trained by turns.

    To all but training it is ``part``. whole: is trained in steps 0, 2, 4, ...; it has all that
    part has. part: is trained in the steps between.
    """

    turns = 2

    def __init__(self, whole: Network, part: Network) -> None:
        super().__init__(part.classifier, part.front)
        self.each = whole, part
        shared = {id(parameter) for parameter in part.parameters()}
        for parameter in whole.parameters():
            if id(parameter) not in shared:
                parameter.every = self.turns

    def at(self, number: int) -> Network:
        """Whose turn the step of this number is."""
        return self.each[number % self.turns]

    def parameters(self) -> list[Parameter]:
        return self.each[0].parameters()

    def localisation_only(self) -> list[Parameter]:
        return self.each[0].localisation_only()


@kind("alternating tstn")
class Alternating(Architecture):
    """The tied network in every other step. architecture: 1 or 2; downsample: d, as in Tstn."""

    architecture: int
    downsample: float = 1.0

    def __post_init__(self) -> None:
        check_architecture(self.architecture)
        check_downsample(self.downsample)

    @property
    def name(self) -> str:
        return f"arch{self.architecture}-alternating"

    def build(self, form: Form) -> Network:
        tied = Tstn(self.architecture, self.downsample).build(form)
        assert tied.transformer is not None
        output, layers = tied.transformer.size, tied.classifier.layers
        if output != plane(form):
            layers = Resize("classifier/resize", (output[0], output[1])), *layers
        return Alternately(tied, Network(Sequential(*layers)))
