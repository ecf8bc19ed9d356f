"""What all layers are, and those that are one operation and learn nothing."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from ministn.engines import implementation
from ministn.errors import check_kind
from ministn.parameter import Parameter
from ministn.randomness import Step
from ministn.shapes import table


class Layer(ABC):
    """What Sequential needs of a layer. ``path`` names it in masks and messages.

    One of your own has ``forward`` and ``backward``, and ``parameters`` if it learns. The rest is
    for layers with transformers in them.
    """

    path: str

    def __init__(self, path: str) -> None:
        check_kind("path", path, str)
        self.path = path

    @abstractmethod
    def forward(self, x: np.ndarray, step: Step | None = None) -> tuple[np.ndarray, Any]: ...

    @abstractmethod
    def backward(self, dy: np.ndarray, cache: Any, need_dx: bool = True) -> np.ndarray | None: ...

    def parameters(self) -> list[Parameter]:
        """All that it learns, each once."""
        return []

    def outside_localisation(self) -> list[Parameter]:
        """Those parameters that not only a localisation network has."""
        return self.parameters()

    def fixed_parameters(self) -> list[Parameter]:
        """Those that it needs and does not learn: they keep their initial or pretrained values."""
        return []

    @property
    def transformers(self) -> Sequence[Any]:
        """The spatial transformers in it, in order."""
        return ()

    def thetas(self, cache: Any) -> Sequence[np.ndarray]:
        """theta (N, 2, 3) of each of them, as the call's cache has it."""
        return ()

    def predict(self, x: np.ndarray) -> tuple[np.ndarray, list[Any]]:
        """y in evaluation mode, and where each of the transformers looked."""
        return self.forward(x)[0], []

    def at_work(self, x: np.ndarray) -> Iterator[tuple[Any, np.ndarray]]:
        """(arrangement, what it is given) of all transformers in it, in evaluation mode."""
        return iter(())

    def outputs(self, x: np.ndarray, step: Step) -> Iterator[tuple[str, np.ndarray]]:
        """(path, output) of all that is in it, its own output last."""
        y, _ = self.forward(x, step)
        yield self.path, y

    def __repr__(self) -> str:
        return table(self, {})


class WithoutParameters(Layer):
    """A layer that is one operation, with these options, and learns nothing."""

    operation: str

    def __init__(self, path: str, **options: Any) -> None:
        super().__init__(path)
        self.options = options

    def forward(self, x: np.ndarray, step: Step | None = None) -> tuple[np.ndarray, Any]:
        forward, backward = implementation(self.operation, x)
        y, cache = forward(x, **self.options)
        return y, None if step is None else (backward, cache)

    def backward(self, dy: np.ndarray, cache: Any, need_dx: bool = True) -> np.ndarray | None:
        backward, cache = cache
        return backward(dy, cache) if need_dx else None
