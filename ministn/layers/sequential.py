"""Layers one after another."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from ministn.errors import check_kind, check_plain, named
from ministn.layers.layer import Layer
from ministn.parameter import Parameter, unique
from ministn.randomness import Step


class Sequential(Layer):
    """Layers one after another; its cache is the list of theirs.

    Raises TypeError for what is no Layer.
    """

    def __init__(self, *layers: Layer) -> None:
        for layer in layers:
            check_kind("a layer", layer, Layer)
        self.layers = layers

    def forward(self, x: np.ndarray, step: Step | None = None) -> tuple[np.ndarray, Any]:
        caches = []
        for layer in self.layers:
            with named(getattr(layer, "path", "")):
                x, cache = layer.forward(x, step)
            caches.append(cache)
        return x, None if step is None else caches

    def backward(
        self, dy: np.ndarray, cache: Sequence[Any], need_dx: bool = True
    ) -> np.ndarray | None:
        check_plain("dy", dy)
        # Without need_dx, nothing before the first layer that learns has to go backward.
        learning = (i for i, layer in enumerate(self.layers) if layer.parameters())
        first = 0 if need_dx else next(learning, len(self.layers))
        dx: np.ndarray | None = dy
        for i in reversed(range(first, len(self.layers))):
            assert dx is not None, f"layer {i + 1} returned no dx though layer {i} needs it"
            dx = self.layers[i].backward(dx, cache[i], need_dx or i > first)
        return dx if need_dx else None

    def parameters(self) -> list[Parameter]:
        return unique(p for layer in self.layers for p in layer.parameters())

    def outside_localisation(self) -> list[Parameter]:
        return unique(p for layer in self.layers for p in layer.outside_localisation())

    def fixed_parameters(self) -> list[Parameter]:
        return unique(p for layer in self.layers for p in layer.fixed_parameters())

    @property
    def transformers(self) -> Sequence[Any]:
        return [one for layer in self.layers for one in layer.transformers]

    def thetas(self, cache: Sequence[Any]) -> Sequence[np.ndarray]:
        each = zip(self.layers, cache, strict=True)
        return [theta for layer, kept in each for theta in layer.thetas(kept)]

    def predict(self, x: np.ndarray) -> tuple[np.ndarray, list[Any]]:
        looks = []
        for layer in self.layers:
            with named(getattr(layer, "path", "")):
                x, looked = layer.predict(x)
            looks += looked
        return x, looks

    def at_work(self, x: np.ndarray) -> Iterator[tuple[Any, np.ndarray]]:
        for layer in self.layers:
            yield from layer.at_work(x)
            x, _ = layer.forward(x)

    def outputs(self, x: np.ndarray, step: Step) -> Iterator[tuple[str, np.ndarray]]:
        """(path, output) of every layer and of all that is in it."""
        for layer in self.layers:
            y = x  # of an empty Sequential
            with named(getattr(layer, "path", "")):
                for path, y in layer.outputs(x, step):
                    yield path, y
            x = y
