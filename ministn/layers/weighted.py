"""Layers with a weight to learn: convolution and fully connected."""

from collections.abc import Iterator
from copy import copy
from typing import Any

import numpy as np

from ministn.engines import implementation
from ministn.errors import check_count, check_flags
from ministn.initializers import ZEROS, HeUniform, Initializer
from ministn.layers.layer import Layer
from ministn.ops.conv2d import check_padding
from ministn.ops.conv_block import check_options
from ministn.ops.leaky_relu import SLOPE
from ministn.parameter import Parameter
from ministn.randomness import Step

HE_UNIFORM = HeUniform()


class Weighted(Layer):
    """A layer that is one operation with a weight (..., D, K) and, if any, a bias (K,) to learn.

    D, the length of x's last axis, may be None: see shapes.py.
    """

    bias: Parameter | None

    def __init__(
        self,
        path: str,
        shape: tuple[int | None, ...],
        initial: Initializer,
        initial_bias: Initializer | None = ZEROS,
    ) -> None:
        super().__init__(path)
        self.weight = Parameter(path + "/weight", shape, initial)
        self.bias = None
        if initial_bias is not None:
            self.bias = Parameter(path + "/bias", shape[-1:], initial_bias)

    def backward(self, dy: np.ndarray, cache: Any, need_dx: bool = True) -> np.ndarray | None:
        backward, cache = cache
        dx, dweight, dbias = backward(dy, cache, need_dx)
        self._add(dweight, dbias)
        return dx

    def _add(self, dweight: np.ndarray, dbias: np.ndarray | None) -> None:
        self.weight.add(dweight)
        if self.bias is not None and dbias is not None:
            self.bias.add(dbias)

    def outputs(self, x: np.ndarray, step: Step) -> Iterator[tuple[str, np.ndarray]]:
        self.weight.meet(x.shape[-1])
        return super().outputs(x, step)

    def parameters(self) -> list[Parameter]:
        return [self.weight] if self.bias is None else [self.weight, self.bias]

    def values(self) -> list[np.ndarray]:
        """Of its parameters, in the order in which the operation takes them."""
        return [parameter.data for parameter in self.parameters()]


def _from_before(name: str, length: int | None) -> int | None:
    """None, or a whole number."""
    return None if length is None else check_count(name, length)


class Conv2d(Weighted):
    """Convolution block: convolution, then 2x2 max pooling if ``pool``, bias and activation.

    x (N, H, W, C) -> y (N, h, w, K). ``path`` names the parameters path/weight (kernel, kernel,
    C, K) and, if ``bias``, path/bias (K,). in_channels: C, None for what the layer before it makes,
    see shapes.py. padding: "same" or "valid". stride: of the convolution
    alone. activation: "relu", "leaky_relu", whose slope below zero is ``slope``, or None.
    Raises ValueError for an activation, slope or pool that there is not.
    """

    def __init__(
        self,
        path: str,
        in_channels: int | None,
        channels: int,
        kernel: int = 3,
        *,
        padding: str = "same",
        stride: int = 1,
        pool: bool = False,
        activation: str | None = "relu",
        slope: float = SLOPE,
        bias: bool = True,
        initial: Initializer = HE_UNIFORM,
        initial_bias: Initializer = ZEROS,
    ) -> None:
        check_options(pool, activation, slope)
        check_padding(padding)
        check_flags(bias=bias)
        side = check_count("kernel", kernel)
        shape = (
            side,
            side,
            _from_before("in_channels", in_channels),
            check_count("channels", channels),
        )
        super().__init__(path, shape, initial, initial_bias if bias else None)
        self.padding = padding
        self.stride = check_count("stride", stride)
        self.pool = pool
        self.activation = activation
        self.slope = slope

    def with_pool(self, pool: bool) -> "Conv2d":
        """The same layer, sharing its parameters, with pooling on or off."""
        twin = copy(self)
        twin.pool = pool
        return twin

    def forward(self, x: np.ndarray, step: Step | None = None) -> tuple[np.ndarray, Any]:
        forward, backward = implementation("conv_block", x)
        y, cache = forward(
            x,
            *self.values(),
            padding=self.padding,
            stride=self.stride,
            pool=self.pool,
            activation=self.activation,
            slope=self.slope,
        )
        return y, None if step is None else (backward, cache)


class Dense(Weighted):
    """Fully connected layer: x (N, D) -> x @ weight + bias (N, K), without a nonlinearity.

    in_features: D, None for what the layer before it makes, see shapes.py.
    """

    def __init__(
        self,
        path: str,
        in_features: int | None,
        features: int,
        *,
        initial: Initializer = HE_UNIFORM,
        initial_bias: Initializer = ZEROS,
    ) -> None:
        shape = _from_before("in_features", in_features), check_count("features", features)
        super().__init__(path, shape, initial, initial_bias)

    def forward(self, x: np.ndarray, step: Step | None = None) -> tuple[np.ndarray, Any]:
        forward, backward = implementation("dense", x)
        y, cache = forward(x, *self.values())
        return y, None if step is None else (backward, cache)

    def backward(self, dy: np.ndarray, cache: Any, need_dx: bool = True) -> np.ndarray | None:
        backward, cache = cache
        # Dense weights are most of a network's: their gradient is written where it stays.
        dx, dweight, dbias = backward(dy, cache, need_dx, self.weight.room())
        self._add(dweight, dbias)
        return dx
