"""A classifier of convolution blocks, and transformers before, behind and among them.

It is what the placement paper's networks for SVHN and plankton have in common (Finnveden et al.
2020, IV-B and IV-C). Depths are counted in blocks.
"""

from abc import abstractmethod
from collections.abc import Sequence
from itertools import groupby
from math import prod
from typing import ClassVar

from ministn.data import Form
from ministn.errors import ABOVE_0, UserError, check_numbers, is_whole
from ministn.layers import Dense, Flatten, Layer, ReLU, Sequential, Standardised
from ministn.models.architecture import Architecture, plane
from ministn.models.network import Network
from ministn.transformer import map_shape, placed, regression_layer
from ministn.transformer.placed import PLACES, Shape
from ministn.transformer.samplers import Sampler


class Blocks(Architecture):
    """What a class of such networks says is its own.

    place: "C", "DL" or "SL", as in transformer/placed.py, None for no transformer. depths: of each
    look, going up; one that is there K times is K iterations. width: of the classifier, in the
    paper's. count: of blocks. smallest: images, in pixels each way. pixels: their mean and
    deviation, by which they are standardised where they are read. sampler: of all looks.
    """

    place: str | None
    depths: tuple[int, ...]
    width: float

    count: ClassVar[int]
    smallest: ClassVar[int]
    pixels: ClassVar[tuple[float, float]]
    sampler: ClassVar[Sampler]

    @abstractmethod
    def blocks(self, form: Form) -> list[Sequential]:
        """The convolution blocks."""

    @abstractmethod
    def reader(self, shape: Shape, form: Form) -> list[Layer]:
        """What makes scores of the last block's map (h, w, c)."""

    @abstractmethod
    def localisation(self, shape: Shape, path: str) -> list[Layer]:
        """What makes theta of a map (h, w, c)."""

    def __post_init__(self) -> None:
        if self.place not in (None, *PLACES):
            known = ", ".join(map(repr, PLACES))
            raise UserError(f"place must be {known} or None, got {self.place!r}")
        depths = self.depths
        if not isinstance(depths, Sequence) or not all(map(is_whole, depths)):
            raise UserError(f"depths must be whole numbers, got {depths!r}")
        if list(depths) != sorted(depths) or not all(0 <= d <= self.count for d in depths):
            raise UserError(f"depths must go up, from 0 to {self.count} at most, got {depths}")
        if (self.place is None) != (not depths):
            raise UserError(f"depths go with a place, got place {self.place!r}, depths {depths}")
        check_numbers(ABOVE_0, width=self.width)

    @property
    def name(self) -> str:
        """As the paper writes it without STN: "cnn", "c0123"; of 2 iterations "sl3x2"."""
        if self.place is None:
            return "cnn"
        counted = [(depth, len(list(same))) for depth, same in groupby(self.depths)]
        words = "".join(f"{depth}x{times}" if times > 1 else f"{depth}" for depth, times in counted)
        return f"{self.place.lower()}{words}"

    def build(self, form: Form) -> Network:
        size = plane(form)
        if min(size) < self.smallest:
            raise UserError(
                f"images must be at least {self.smallest}x{self.smallest} for {self.name}, "
                f"got {size[0]}x{size[1]}"
            )
        shape = *size, form.channels
        first, *others = self.blocks(form)
        blocks = [Sequential(self.standardised("classifier"), *first.layers), *others]
        layers = [*blocks, *self.reader(map_shape(blocks, shape), form)]
        if self.place is None:
            return Network(Sequential(*layers))

        def head(given: Shape, path: str) -> list[Layer]:
            looked_at_first = [self.standardised(path)] if given == shape else []
            return [*looked_at_first, *self.localisation(given, path)]

        return Network(*placed(self.place, layers, self.depths, head, shape, sampler=self.sampler))

    def standardised(self, owner: str) -> Standardised:
        return Standardised(f"{owner}/standardised", *self.pixels)

    def scaled(self, count: int) -> int:
        """So many maps or neurons, at this width."""
        return max(1, round(count * self.width))


def neurons(path: str, shape: Shape, units: int) -> list[Layer]:
    """Two layers of so many neurons, and theta, of a map (h, w, c)."""
    features = prod(shape)
    layers: list[Layer] = [Flatten(f"{path}/flatten")]
    for number in (1, 2):
        layers += [Dense(f"{path}/dense{number}", features, units), ReLU(f"{path}/relu{number}")]
        features = units
    return [*layers, regression_layer(f"{path}/theta", units)]
