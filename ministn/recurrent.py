"""Layers over T steps: one x in, T states out, and the mean of what is made of them."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from ministn.engines import implementation
from ministn.errors import check_arrays, check_count
from ministn.initializers import ZEROS, Initializer, Normal
from ministn.layers import Layer, WithoutParameters
from ministn.parameter import Parameter
from ministn.randomness import Step

NORMAL = Normal(0.1)


class GRU(Layer):
    """Gated recurrent unit that reads x at each of T steps: x (N, D) -> (N T, K), see ops/gru.py.

    The rows are the T states of the first x in their order, then those of the next, so the layers
    behind it take each state by itself. Dropout belongs before it: a Step counts rows of x.

    ``path`` names path/weight_x (D, 3, K), path/weight_h (K, 3, K) and path/bias (3, K), of the
    gates r, u and c. The weights begin as draws from N(0, 0.1^2), as in RNN-SPN, the biases at 0.

    in_features: D, None for what the layer before it makes, see shapes.py.

    Raises ValueError for features or ``steps``, T, that are not whole numbers of at least 1.
    """

    def __init__(
        self,
        path: str,
        in_features: int | None,
        features: int,
        steps: int,
        *,
        initial: Initializer = NORMAL,
    ) -> None:
        super().__init__(path)
        self.steps = check_count("steps", steps)
        shape = 3, check_count("features", features)
        if in_features is not None:
            in_features = check_count("in_features", in_features)
        self.weight_x = Parameter(path + "/weight_x", (in_features, *shape), initial)
        self.weight_h = Parameter(path + "/weight_h", (features, *shape), initial)
        self.bias = Parameter(path + "/bias", shape, ZEROS)

    def forward(self, x: np.ndarray, step: Step | None = None) -> tuple[np.ndarray, Any]:
        forward, backward = implementation("gru", x)
        y, cache = forward(x, *(p.data for p in self.parameters()), self.steps)
        rows = y.reshape(len(x) * self.steps, y.shape[2])
        return rows, None if step is None else (backward, cache)

    def backward(self, dy: np.ndarray, cache: Any, need_dx: bool = True) -> np.ndarray | None:
        backward, cache = cache
        check_arrays(y=(cache.y, "N T K"), dy=(dy, "R K"))
        if len(dy) != len(cache.y) * self.steps:
            raise ValueError(f"dy must have {len(cache.y) * self.steps} rows, got {len(dy)}")
        states = dy.reshape(len(dy) // self.steps, self.steps, dy.shape[1])
        dx, *gradients = backward(states, cache, need_dx)
        for parameter, gradient in zip(self.parameters(), gradients, strict=True):
            parameter.add(gradient)
        return dx

    def outputs(self, x: np.ndarray, step: Step) -> Iterator[tuple[str, np.ndarray]]:
        self.weight_x.meet(x.shape[-1])
        return super().outputs(x, step)

    def parameters(self) -> list[Parameter]:
        return [self.weight_x, self.weight_h, self.bias]


class Mean(WithoutParameters):
    """The mean over T steps of, say, the scores of T glimpses: (N, T, K) -> (N, K).

    It is ops/projection.py's mean, of a volume T deep whose layers are one row of K.
    """

    operation = "projection"

    def forward(self, x: np.ndarray, step: Step | None = None) -> tuple[np.ndarray, Any]:
        check_arrays(x=(x, "N T K"))
        count, steps, width = x.shape
        y, cache = super().forward(x.reshape(count, steps, 1, width), step)
        return y.reshape(count, width), cache

    def backward(self, dy: np.ndarray, cache: Any, need_dx: bool = True) -> np.ndarray | None:
        check_arrays(dy=(dy, "N K"))
        count, width = dy.shape
        dx = super().backward(dy.reshape(count, 1, width, 1), cache, need_dx)
        return None if dx is None else dx.reshape(count, dx.shape[1], width)
