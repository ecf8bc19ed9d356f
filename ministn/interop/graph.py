"""A network as a list of operations on arrays whose channels come first, for PyTorch and ONNX.

    graph = Graph(dtype)
    y = graph.add("Relu", x)

The operations are few, and named as in ONNX: pytorch.py and onnx_file.py say what each is there.
A Value is what one of them gives; it knows what it would be here, so that what reads a flattened
map knows in which order its channels come.
"""

from collections.abc import Sequence
from math import prod
from typing import Any, NamedTuple

import numpy as np

from ministn.backend import assign, to_cpu
from ministn.errors import UserError
from ministn.interop.layout import Layout, Maps
from ministn.parameter import Parameter


class Value(NamedTuple):
    """What an operation gives, or a parameter or a constant.

    shape: of one example, here. maps: (H, W, C) if its channels come first there though they come
    last here: of a map, or of one that was flattened; None if both are in one order.
    """

    name: str
    shape: tuple[int, ...]
    maps: Maps | None = None


class Node(NamedTuple):
    """One operation, the names of its inputs and of what it gives."""

    operation: str
    inputs: tuple[str, ...]
    output: str
    options: dict[str, Any]


class Weight(NamedTuple):
    """A parameter, how it lies there, and whether it learns."""

    parameter: Parameter
    layout: Layout
    learns: bool


class Graph:
    """Operations in the order in which they are computed.

    weights, constants: what they read beside the input ``x`` (N, *input_shape), by names; those of
    weights are the parameters' own. dtype: of all of them.
    """

    def __init__(self, input_shape: tuple[int, ...], dtype: np.dtype) -> None:
        self.input_shape = input_shape
        self.dtype = dtype
        self.nodes: list[Node] = []
        self.weights: dict[str, Weight] = {}
        self.constants: dict[str, np.ndarray] = {}
        self.output = "x"
        self.path = ""  # of the layer whose operations are added
        self.fixed: set[int] = set()  # ids of parameters that do not learn

    def add(
        self,
        operation: str,
        *inputs: Value,
        shape: tuple[int, ...] | None = None,
        maps: Maps | None = None,
        **options: Any,
    ) -> Value:
        """One operation more. Without a shape the first input's, in its order."""
        if shape is None:
            shape, maps = inputs[0].shape, inputs[0].maps
        name = f"{self.path}/{operation.lower()}{len(self.nodes)}"
        self.nodes.append(Node(operation, tuple(value.name for value in inputs), name, options))
        return Value(name, shape, maps)

    def constant(self, array: Any) -> Value:
        """Numbers that do not learn."""
        name = f"constant{len(self.constants)}"
        self.constants[name] = np.asarray(array, self.dtype)
        return Value(name, self.constants[name].shape)

    def parameter(self, parameter: Parameter, layout: Layout) -> Value:
        """One that the operations read. Raises UserError where another read it in another order."""
        name = parameter.name
        known = self.weights.setdefault(
            name, Weight(parameter, layout, id(parameter) not in self.fixed)
        )
        if known.layout != layout:
            raise UserError(
                f"{name} reads maps of two sizes, and has no one order with channels first"
            )
        return Value(name, layout.shape)

    def reshaped(self, x: Value, *shape: int) -> Value:
        """The rows of a Value in our order with another shape."""
        return self.add("Reshape", self.plain(x), shape=shape, to=(-1, *shape))

    def plain(self, x: Value) -> Value:
        """The same in our order."""
        if x.maps is None:
            return x
        height, width, channels = x.maps
        length = x.shape
        if len(length) == 1:
            x = self.add("Reshape", x, shape=x.maps, maps=x.maps, to=(-1, channels, height, width))
        last = self.add("Transpose", x, shape=x.maps, axes=(0, 2, 3, 1))
        return last if len(length) == 3 else self.reshaped(last, *length)

    def channels_first(self, x: Value) -> Value:
        """The same as maps (N, C, H, W). Raises UserError for what are none."""
        if len(x.shape) != 3:
            raise UserError(f"{self.path} needs maps (H, W, C), got {x.shape}")
        if x.maps:
            return x
        height, width, channels = x.shape
        maps = height, width, channels
        return self.add("Transpose", x, shape=maps, maps=maps, axes=(0, 3, 1, 2))

    def flattened(self, x: Value) -> Value:
        """Rows of a map, channel by channel, or of what else is there, in our order."""
        length = (prod(x.shape),)
        maps = x.maps if x.maps and x.maps[2] > 1 and x.maps[0] * x.maps[1] > 1 else None
        return self.add("Reshape", x, shape=length, maps=maps, to=(-1, *length))

    def values(self) -> dict[str, np.ndarray]:
        """The weights as they are there, by the parameters' names."""
        return {
            name: np.ascontiguousarray(weight.layout.there(to_cpu(weight.parameter.data)))
            for name, weight in self.weights.items()
        }

    def load(self, found: dict[str, np.ndarray], source: str) -> None:
        """Give the parameters the values of such weights.

        Raises UserError, before any is written, for one that is missing, surplus or of another
        shape.
        """
        for name in sorted(found.keys() | self.weights.keys()):
            if name not in found or name not in self.weights:
                side = "lacks" if name not in found else "has an unknown"
                raise UserError(f"{source} is of another network: it {side} {name!r}")
            wanted = self.weights[name].layout.shape
            if found[name].shape != wanted:
                raise UserError(
                    f"{source} is of another network: {name!r} has shape {found[name].shape}, "
                    f"expected {wanted}"
                )
        for name, weight in self.weights.items():
            parameter = weight.parameter
            ours = weight.layout.back(found[name], parameter.shape)
            assign(parameter.data, np.ascontiguousarray(ours, parameter.data.dtype))


def joined(graph: Graph, values: Sequence[Value]) -> Value:
    """Side by side: maps along their channels, other rows along the last axis."""
    if all(value.maps and len(value.shape) == 3 for value in values):
        *size, _ = values[0].shape
        height, width, channels = *size, sum(value.shape[-1] for value in values)
        whole = height, width, channels
        return graph.add("Concat", *values, shape=whole, maps=whole, axis=1)
    rows = [graph.plain(value) for value in values]
    *first, _ = rows[0].shape
    shape = *first, sum(value.shape[-1] for value in rows)
    return graph.add("Concat", *rows, shape=shape, axis=len(shape))
