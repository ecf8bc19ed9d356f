"""Activations, and other layers that change each number by itself."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ministn.engines import implementation
from ministn.errors import check_arrays, check_list, check_number, check_share
from ministn.layers.layer import Layer, WithoutParameters
from ministn.ops.dropout import rows
from ministn.ops.leaky_relu import SLOPE
from ministn.randomness import Step, stream

SMALLEST = float(np.finfo(np.float32).tiny)  # that a GPU does not take for 0


class ReLU(WithoutParameters):
    """max(x, 0)."""

    operation = "relu"


class LeakyReLU(WithoutParameters):
    """x where it is positive, slope times x elsewhere; 0 <= slope < 1."""

    operation = "leaky_relu"

    def __init__(self, path: str, slope: float = SLOPE) -> None:
        super().__init__(path, slope=check_share("slope", slope))


class Tanh(WithoutParameters):
    """tanh(x)."""

    operation = "tanh"


class Bounded(WithoutParameters):
    """low + (high - low) sigmoid(x): numbers (N, P) between bounds (P,)."""

    operation = "sigmoid"

    def __init__(self, path: str, low: Sequence[float], high: Sequence[float]) -> None:
        super().__init__(path)
        least = check_list("low", low)
        self.bounds = list(zip(least, check_list("high", high, len(least)), strict=True))

    def forward(self, x: np.ndarray, step: Step | None = None) -> tuple[np.ndarray, Any]:
        check_arrays(x=(x, f"N {len(self.bounds)}"))
        y, cache = super().forward(x, step)
        y = self._stretched(y)
        for p, (low, _) in enumerate(self.bounds):
            y[:, p] = y[:, p] + low
        return y, cache

    def backward(self, dy: np.ndarray, cache: Any, need_dx: bool = True) -> np.ndarray | None:
        check_arrays(dy=(dy, f"N {len(self.bounds)}"))
        return super().backward(self._stretched(dy), cache, need_dx)

    def _stretched(self, y: np.ndarray) -> np.ndarray:
        """(N, P), column by column times high - low."""
        y = y.copy()
        for p, (low, high) in enumerate(self.bounds):
            y[:, p] = y[:, p] * (high - low)
        return y


class Standardised(Layer):
    """(x - mean) / deviation: values (N, ...) of any shape with mean 0 and deviation 1, if theirs
    are these. Raises ValueError for what are no numbers, or a deviation that is not above 0.
    """

    def __init__(self, path: str, mean: float, deviation: float) -> None:
        super().__init__(path)
        self.deviation = check_number("deviation", deviation, SMALLEST)
        self.mean = check_number("mean", mean)
        self.factor = 1 / self.deviation
        self.offset = -self.mean * self.factor

    def forward(self, x: np.ndarray, step: Step | None = None) -> tuple[np.ndarray, Any]:
        check_arrays(x=(x, rows(x)))
        return x * self.factor + self.offset, None if step is None else x.shape

    def backward(self, dy: np.ndarray, cache: Any, need_dx: bool = True) -> np.ndarray | None:
        check_arrays(dy=(dy, " ".join(map(str, cache))))
        return dy * self.factor if need_dx else None


class Dropout(WithoutParameters):
    """Inverted dropout of activations (N, ...) of any shape; the identity in evaluation.

    The mask is a function of the Step and the layer's path alone.
    """

    def __init__(self, path: str, rate: float = 0.5) -> None:
        super().__init__(path)
        self.rate = check_share("rate", rate)

    def forward(self, x: np.ndarray, step: Step | None = None) -> tuple[np.ndarray, Any]:
        check_arrays(x=(x, rows(x)))
        if step is None:
            return x, None
        forward, backward = implementation("dropout", x)
        y, cache = forward(x, self.rate, step, stream(self.path))
        return y, (backward, cache)
