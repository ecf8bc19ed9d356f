"""Layers: parameters plus the operations that use them.

Every layer has

    y, cache = layer.forward(x, step)
    dx = layer.backward(dy, cache, need_dx=True)

``step=None`` is evaluation: no dropout, and the cache is None. ``backward`` adds to each
``parameter.grad`` and returns dx, or None where ``need_dx`` is false. The cache belongs to the
call, never to the layer, so running one layer twice and going back through both calls just works:
sharing weights means using the same layer object.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from copy import copy
from math import prod
from typing import Any

import numpy as np

from ministn.engines import implementation
from ministn.errors import (
    check_arrays,
    check_count,
    check_flags,
    check_kind,
    check_list,
    check_number,
    check_plain,
    check_share,
    named,
)
from ministn.initializers import ZEROS, HeUniform, Initializer
from ministn.ops.conv2d import check_padding
from ministn.ops.conv_block import check_options
from ministn.ops.dropout import rows
from ministn.ops.leaky_relu import SLOPE
from ministn.ops.max_pool2d import check_windows
from ministn.parameter import Parameter, unique
from ministn.randomness import Step, stream
from ministn.shapes import table

HE_UNIFORM = HeUniform()
SMALLEST = float(np.finfo(np.float32).tiny)  # that a GPU does not take for 0


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


class MaxPool2d(WithoutParameters):
    """Max pooling of size x size pixels, every ``stride`` pixels: (N, H, W, C) -> (N, h, w, C).

    h = (H - size) // stride + 1, and w likewise. stride: None for windows that tile the image.
    """

    operation = "max_pool2d"

    def __init__(self, path: str, size: int = 2, stride: int | None = None) -> None:
        self.size, self.stride = check_windows(size, stride)
        super().__init__(path, size=self.size, stride=self.stride)


class AvgPool2d(WithoutParameters):
    """Average pooling of size x size pixels: (N, H, W, C) -> (N, H // size, W // size, C)."""

    operation = "avg_pool2d"

    def __init__(self, path: str, size: int = 2) -> None:
        self.size = check_count("size", size)
        super().__init__(path, size=self.size)


class AvgPool3d(AvgPool2d):
    """Of size^3 voxels: (N, D, H, W) -> (N, D // size, H // size, W // size)."""

    operation = "avg_pool3d"


class Projection(WithoutParameters):
    """The mean of volumes along their depth, as images: (N, D, H, W) -> (N, H, W, 1)."""

    operation = "projection"


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


class Flatten(Layer):
    """(N, H, W, C), or (N, D, H, W), -> (N, H * W * C), rows in the order of the axes."""

    def forward(self, x: np.ndarray, step: Step | None = None) -> tuple[np.ndarray, Any]:
        check_arrays(x=(x, "N H W C"))
        return x.reshape(len(x), prod(x.shape[1:])), None if step is None else x.shape

    def backward(self, dy: np.ndarray, cache: Any, need_dx: bool = True) -> np.ndarray | None:
        check_arrays(dy=(dy, f"{cache[0]} {prod(cache[1:])}"))
        return dy.reshape(cache) if need_dx else None


class Reshape(Layer):
    """(N, D) -> (N, *shape), row by row in the order of the axes: say, K scores of T labels.

    Raises ValueError for a shape of other than whole numbers of at least 1.
    """

    def __init__(self, path: str, *shape: int) -> None:
        super().__init__(path)
        self.shape = tuple(check_count("shape", length) for length in shape)

    def forward(self, x: np.ndarray, step: Step | None = None) -> tuple[np.ndarray, Any]:
        check_arrays(x=(x, f"N {prod(self.shape)}"))
        return x.reshape(len(x), *self.shape), None if step is None else x.shape

    def backward(self, dy: np.ndarray, cache: Any, need_dx: bool = True) -> np.ndarray | None:
        check_arrays(dy=(dy, " ".join(map(str, (cache[0], *self.shape)))))
        return dy.reshape(cache) if need_dx else None


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
