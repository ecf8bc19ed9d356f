"""What a sceptic asks of a transformer: what if the tied weights learnt nothing from looking, what
if no image had more than so much to say, and what if each image were looked at where another one's
digit is?
"""

from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np

from ministn.data import Form
from ministn.engines import function
from ministn.errors import ABOVE_0, UserError, check_arrays, check_count, check_numbers
from ministn.kinds import kind
from ministn.layers import Layer, Sequential
from ministn.models.architecture import Architecture
from ministn.models.network import Network
from ministn.ops.dropout import rows
from ministn.randomness import Step


class Stopped(Layer):
    """Layers that learn nothing here: y = layers(x), and of dy nothing goes back to them.

    They are in evaluation, without dropout; their parameters are of whoever else has the layers.
    What x is made of gets no gradient either: dx = 0.
    """

    def __init__(self, path: str, *layers: Layer) -> None:
        super().__init__(path)
        self.layers = Sequential(*layers)

    def forward(self, x: np.ndarray, step: Step | None = None) -> tuple[np.ndarray, Any]:
        return self.layers.forward(x)[0], None if step is None else x

    def backward(self, dy: np.ndarray, cache: Any, need_dx: bool = True) -> np.ndarray | None:
        return cache * 0 if need_dx else None

    def outputs(self, x: np.ndarray, step: Step) -> Iterator[tuple[str, np.ndarray]]:
        return self.layers.outputs(x, step)


class Limited(Layer):
    """Limits what goes back: y = x; dx is dy with each number limited to [-limit, limit].

    After the last layer of a localisation network it limits theta's gradient, all that the network
    learns from. What an image adds to the gradient of a batch's mean loss is limited by itself, so
    it is the same however the batch is cut. Raises UserError for a limit that is not above 0.
    """

    def __init__(self, path: str, limit: float) -> None:
        super().__init__(path)
        check_numbers(ABOVE_0, limit=limit)
        self.limit = limit

    def forward(self, x: np.ndarray, step: Step | None = None) -> tuple[np.ndarray, Any]:
        return x, None

    def backward(self, dy: np.ndarray, cache: Any, need_dx: bool = True) -> np.ndarray | None:
        if not need_dx:
            return None
        dx = dy.copy()
        function("clip", dx)(dx.reshape(-1), self.limit)
        return dx


class NextImage(Layer):
    """Each image gets what is another one's: the next of the batch, and the last the first one's.

    (N R, ..) -> (N R, ..), R ``rows`` of each image. Raises ValueError for fewer than 1.
    """

    def __init__(self, path: str, rows: int = 1) -> None:
        super().__init__(path)
        self.rows = check_count("rows", rows)

    def forward(self, x: np.ndarray, step: Step | None = None) -> tuple[np.ndarray, Any]:
        return self._moved(x, self.rows), None if step is None else len(x)

    def backward(self, dy: np.ndarray, cache: Any, need_dx: bool = True) -> np.ndarray | None:
        return self._moved(dy, cache - self.rows) if need_dx else None

    def _moved(self, x: np.ndarray, count: int) -> np.ndarray:
        """Row n becomes row n - count, modulo the number of rows."""
        check_arrays(x=(x, rows(x)))
        y = x.copy()
        y[: len(x) - count], y[len(x) - count :] = x[count:], x[:count]
        return y


@kind("shuffled")
class Shuffled(Architecture):
    """A network in front of which every image is transformed by the theta of another one, the next
    of the batch: to test with, what attention is worth if it is as good, but elsewhere.
    """

    network: Architecture

    def __post_init__(self) -> None:
        if not isinstance(self.network, Architecture):
            raise UserError(f"network to be shuffled cannot be {self.network!r}")

    @property
    def name(self) -> str:
        return f"{self.network.name}-shuffled"

    def build(self, form: Form) -> Network:
        """Raises UserError for a network without a transformer in front, too."""
        network = self.network.build(form)
        if network.front is None:
            raise UserError(f"{self.network.name} has no theta that could be shuffled")
        for transformer, looks in Counter(network.front.at_input).items():
            path = f"{transformer.path}/next image"
            transformer.localisation = Sequential(transformer.localisation, NextImage(path, looks))
        return network
