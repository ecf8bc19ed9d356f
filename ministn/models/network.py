"""A classifier, with or without a spatial transformer in front of it."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from ministn.backend import to_cpu
from ministn.errors import check_arrays
from ministn.layers import Sequential
from ministn.parameter import Parameter, unique
from ministn.randomness import Step
from ministn.transformer import SpatialTransformer, TransformerCache


class NetworkCache(NamedTuple):
    transformer: TransformerCache | None
    classifier: Any


class Network:
    """Images (N, H, W, C) -> logits (N, classes), through ``transformer`` if there is one."""

    def __init__(
        self, classifier: Sequential, transformer: SpatialTransformer | None = None
    ) -> None:
        self.classifier = classifier
        self.transformer = transformer

    def forward(
        self, x: np.ndarray, step: Step | None = None
    ) -> tuple[np.ndarray, NetworkCache | None]:
        check_arrays(x=(x, "N H W C"))
        transformer_cache = None
        if self.transformer is not None:
            x, transformer_cache = self.transformer.forward(x, step)
        logits, classifier_cache = self.classifier.forward(x, step)
        return logits, None if step is None else NetworkCache(transformer_cache, classifier_cache)

    def backward(self, dlogits: np.ndarray, cache: NetworkCache) -> None:
        """Add to every parameter's gradient. The images' own gradient is not wanted."""
        if self.transformer is None or cache.transformer is None:
            self.classifier.backward(dlogits, cache.classifier, need_dx=False)
        else:
            dwarped = self.classifier.backward(dlogits, cache.classifier)
            assert dwarped is not None
            self.transformer.backward(dwarped, cache.transformer, need_dx=False)

    def predict(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        """Logits (N, classes) in evaluation mode and theta (N, 2, 3), None for a plain CNN."""
        theta = None
        if self.transformer is not None:
            x, theta = self.transformer.predict(x)
        return self.classifier.forward(x)[0], theta

    def parameters(self) -> list[Parameter]:
        """Every parameter once; the classifier's first, so it names what both networks share."""
        parameters = self.classifier.parameters()
        if self.transformer is not None:
            parameters = parameters + self.transformer.parameters()
        return unique(parameters)

    def localisation_only(self) -> list[Parameter]:
        """The parameters that only the localisation network has: what --loc-lr multiplies."""
        if self.transformer is None:
            return []
        shared = {id(parameter) for parameter in self.classifier.parameters()}
        return [p for p in self.transformer.parameters() if id(p) not in shared]

    def first_non_finite(self, x: np.ndarray, step: Step) -> str | None:
        """Path of the first layer whose output for ``x`` is not finite, in order of execution."""
        for path, y in self._outputs(x, step):
            if not np.isfinite(to_cpu(y)).all():
                return path
        return None

    def _outputs(self, x: np.ndarray, step: Step) -> Iterator[tuple[str, np.ndarray]]:
        """(path, output) of every layer as it runs; a tied layer runs twice."""
        if self.transformer is not None:
            y = x
            for layer in self.transformer.localisation.layers:
                y, _ = layer.forward(y, step)
                yield f"{layer.path} in the localisation network", y
            x = self.transformer.warp(x, y)
            yield "transformer", x
        for layer in self.classifier.layers:
            x, _ = layer.forward(x, step)
            yield layer.path, x
