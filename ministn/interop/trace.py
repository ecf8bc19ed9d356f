"""What each layer is as operations on arrays whose channels come first.

One function for each kind of layer, by its exact class: a subclass may compute something else.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from ministn.data import Form
from ministn.errors import UserError, check_kind
from ministn.interop import layout
from ministn.interop.graph import Graph, Value, joined
from ministn.interop.warps import warped
from ministn.layers import (
    AvgPool2d,
    AvgPool3d,
    Bounded,
    Conv2d,
    Dense,
    Dropout,
    Flatten,
    Layer,
    LeakyReLU,
    MaxPool2d,
    Projection,
    ReLU,
    Reshape,
    Sequential,
    Standardised,
    Tanh,
)
from ministn.models import Network
from ministn.models.colocalisation import Description
from ministn.models.controls import Limited, NextImage, Stopped
from ministn.models.network import weights_of
from ministn.ops.conv2d import checked_margin, convolved_size
from ministn.recurrent import GRU, Mean
from ministn.transformer import (
    Apart,
    Glimpses,
    HandOn,
    Iterated,
    Parallel,
    Resize,
    SpatialTransformer,
    Towers,
)
from ministn.transformer.samplers import BILINEAR
from ministn.transformer.transforms import AFFINE


def traced(network: Network, form: Form, dtype: Any = None) -> Graph:
    """A network, in evaluation, as a Graph: images (N, C, H, W), volumes (N, 1, D, H, W) -> y.

    dtype: of its numbers, by default that of the network's. y is as here, but maps (N, C, H, W).
    Raises UserError for a layer that PyTorch and ONNX do not have, for images that the network
    cannot have, and for a network without weights.
    """
    weights_of(network)
    check_kind("form", form, Form)
    if len(form.size) == 3 and form.size[-1] in (3, 4):
        height, width, channels = form.size
        raise UserError(
            f"form must be Form(({height}, {width}), channels={channels}) for colour images, got "
            f"one for volumes, {form.size}"
        )
    shape = form.size if len(form.size) == 3 else (*form.size, form.channels)
    if network.shape not in (None, shape):
        raise UserError(f"form must be of images {network.shape}, as it has met, got {shape}")
    parameters = network.parameters()
    dtypes = [parameter.data.dtype for parameter in parameters]
    volume = len(form.size) == 3
    first = (1, *form.size) if volume else (form.channels, *form.size)
    graph = Graph(first, np.dtype(dtype or (dtypes[0] if dtypes else np.float32)))
    graph.fixed = {id(parameter) for parameter in network.fixed_parameters()}
    if volume:
        x = graph.add("Reshape", Value("x", first), shape=form.size, to=(-1, *form.size))
    else:
        height, width = form.size
        maps = height, width, form.channels
        x = Value("x", maps, maps)
    front = [] if network.front is None else [network.front]
    y = through(graph, Sequential(*front, *network.classifier.layers), x)
    graph.output = (y if len(y.shape) == 3 else graph.plain(y)).name
    return graph


def through(graph: Graph, layer: Layer, x: Value) -> Value:
    """What a layer makes of x."""
    before, graph.path = graph.path, getattr(layer, "path", graph.path)
    if type(layer) not in LAYERS:
        raise UserError(
            f"{graph.path}: a {type(layer).__name__} cannot be exported; of layers only those of "
            "ministn are known there"
        )
    y = LAYERS[type(layer)](graph, layer, x)
    graph.path = before
    return y


def in_turn(graph: Graph, layers: Sequence[Layer], x: Value) -> Value:
    for layer in layers:
        x = through(graph, layer, x)
    return x


# -- layers that learn -----------------------------------------------------------------------------


def conv2d(graph: Graph, layer: Conv2d, x: Value) -> Value:
    x = graph.channels_first(x)
    height, width, channels, kernels = layer.weight.shape
    sizes = dict(zip("HWC", x.shape, strict=True)) | {"kh": height, "kw": width}
    try:
        margin = checked_margin(sizes, layer.padding, 2 if layer.pool else 1, layer.stride)
    except ValueError as error:
        raise UserError(f"{layer.path}: {error}") from error
    if x.shape[2] != channels:
        raise UserError(f"{layer.path}: x must have {channels} channels, got {x.shape[2]}")
    size = convolved_size((1, *x.shape), layer.weight.shape, margin, layer.stride)
    maps = *size, kernels
    inputs = [graph.parameter(layer.weight, layout.convolution(*layer.weight.shape))]
    if layer.bias is not None:
        inputs.append(graph.parameter(layer.bias, layout.as_it_is(kernels)))
    y = graph.add("Conv", x, *inputs, shape=maps, maps=maps, margin=margin, stride=layer.stride)
    if layer.pool:
        y = max_pooled(graph, y, 2, 2)
    if layer.activation == "relu":
        return graph.add("Relu", y)
    if layer.activation == "leaky_relu":
        return graph.add("LeakyRelu", y, slope=layer.slope)
    return y


def dense(graph: Graph, layer: Dense, x: Value) -> Value:
    features, outputs = layer.weight.shape
    if x.shape != (features,):
        raise UserError(f"{layer.path}: x must be of shape ({features},), got {x.shape}")
    weight = graph.parameter(layer.weight, layout.dense(features, outputs, x.maps))
    assert layer.bias is not None
    bias = graph.parameter(layer.bias, layout.as_it_is(outputs))
    return graph.add("Gemm", x, weight, bias, shape=(outputs,))


def gru(graph: Graph, layer: GRU, x: Value) -> Value:
    """T steps one after another, as in ops/gru.py; at the first one h is 0."""
    features, _, units = layer.weight_x.shape
    if x.shape != (features,):
        raise UserError(f"{layer.path}: x must be of shape ({features},), got {x.shape}")
    weight_x, weight_h, bias = (
        graph.parameter(parameter, each)
        for parameter, each in zip(
            layer.parameters(),
            (
                layout.dense(features, 3 * units, x.maps),
                layout.dense(units, 3 * units),
                layout.as_it_is(3 * units),
            ),
            strict=True,
        )
    )
    bounds = [*pairwise(range(0, 3 * units + 1, units))]

    def gates(rows: Value) -> list[Value]:
        return [
            graph.add("Slice", rows, shape=(units,), axis=1, start=start, end=end)
            for start, end in bounds
        ]

    from_x = gates(graph.add("Gemm", x, weight_x, bias, shape=(3 * units,)))
    h: Value | None = None
    states = []
    for _ in range(layer.steps):
        if h is None:
            update, candidate = graph.add("Sigmoid", from_x[1]), graph.add("Tanh", from_x[2])
            h = graph.add("Mul", update, candidate)
        else:
            from_h = gates(graph.add("Gemm", h, weight_h, shape=(3 * units,)))
            reset, update = (
                graph.add("Sigmoid", graph.add("Add", a, g))
                for a, g in zip(from_x[:2], from_h[:2], strict=True)
            )
            reset_h = graph.add("Mul", reset, from_h[2])
            candidate = graph.add("Tanh", graph.add("Add", from_x[2], reset_h))
            change = graph.add("Mul", update, graph.add("Sub", candidate, h))
            h = graph.add("Add", h, change)
        states.append(h)
    return graph.reshaped(joined(graph, states), units)


# -- layers that do not ----------------------------------------------------------------------------


def elementwise(operation: str) -> Callable[[Graph, Any, Value], Value]:
    return lambda graph, layer, x: graph.add(operation, x)


def leaky_relu(graph: Graph, layer: LeakyReLU, x: Value) -> Value:
    return graph.add("LeakyRelu", x, slope=layer.options["slope"])


def dropout(graph: Graph, layer: Dropout, x: Value) -> Value:
    return graph.add("Dropout", x, rate=layer.rate)


def bounded(graph: Graph, layer: Bounded, x: Value) -> Value:
    low, high = np.array(layer.bounds).T
    share = graph.add("Mul", graph.add("Sigmoid", graph.plain(x)), graph.constant(high - low))
    return graph.add("Add", share, graph.constant(low))


def standardised(graph: Graph, layer: Standardised, x: Value) -> Value:
    scaled = graph.add("Mul", x, graph.constant([layer.factor]))
    return graph.add("Add", scaled, graph.constant([layer.offset]))


def max_pool2d(graph: Graph, layer: MaxPool2d, x: Value) -> Value:
    return max_pooled(graph, graph.channels_first(x), layer.size, layer.stride)


def max_pooled(graph: Graph, x: Value, size: int, stride: int) -> Value:
    maps = _windows(graph, x, size, stride)
    return graph.add("MaxPool", x, shape=maps, maps=maps, size=size, stride=stride)


def avg_pool2d(graph: Graph, layer: AvgPool2d, x: Value) -> Value:
    x = graph.channels_first(x)
    maps = _windows(graph, x, layer.size, layer.size)
    return graph.add("AveragePool", x, shape=maps, maps=maps, size=layer.size, volume=False)


def _windows(graph: Graph, x: Value, size: int, stride: int) -> layout.Maps:
    """(h, w, C) of pooled maps."""
    height, width = ((side - size) // stride + 1 for side in x.shape[:2])
    if min(height, width) < 1:
        raise UserError(f"{graph.path}: x must be at least {size} by {size} pixels, got {x.shape}")
    return height, width, x.shape[2]


def avg_pool3d(graph: Graph, layer: AvgPool3d, x: Value) -> Value:
    size = tuple(side // layer.size for side in x.shape)
    volume = graph.reshaped(x, 1, *x.shape)
    y = graph.add("AveragePool", volume, shape=(1, *size), size=layer.size, volume=True)
    return graph.reshaped(y, *size)


def projection(graph: Graph, layer: Projection, x: Value) -> Value:
    _, height, width = x.shape
    mean = graph.add("Mean", graph.plain(x), shape=(height, width), axis=1)
    maps = height, width, 1
    return graph.add("Reshape", mean, shape=maps, maps=maps, to=(-1, 1, height, width))


def mean(graph: Graph, layer: Mean, x: Value) -> Value:
    return graph.add("Mean", graph.plain(x), shape=x.shape[1:], axis=1)


def flatten(graph: Graph, layer: Flatten, x: Value) -> Value:
    return graph.flattened(x)


def reshape(graph: Graph, layer: Reshape, x: Value) -> Value:
    return graph.reshaped(x, *layer.shape)


def next_image(graph: Graph, layer: NextImage, x: Value) -> Value:
    others = graph.add("Slice", x, axis=0, start=layer.rows, end=None)
    first = graph.add("Slice", x, axis=0, start=0, end=layer.rows)
    return graph.add("Concat", others, first, axis=0)


def description(graph: Graph, layer: Description, x: Value) -> Value:
    maps = through(graph, layer.maps, x)
    parts = layer.parts(maps, through(graph, layer.scores, maps))
    return joined(
        graph,
        [
            graph.add("Mul", part, graph.constant([scale]))
            for part, scale in zip(parts, layer.scales, strict=True)
        ],
    )


# -- transformers ----------------------------------------------------------------------------------


def transformer(graph: Graph, layer: SpatialTransformer, x: Value) -> Value:
    theta = through(graph, layer.localisation, x)
    return warped(graph, layer.transform, layer.sampler, x, theta, layer.size)


def parallel(graph: Graph, layer: Parallel, x: Value) -> Value:
    return joined(graph, [through(graph, each, x) for each in layer.at_input])


def hand_on(graph: Graph, layer: HandOn, x: Value) -> Value:
    one = layer.transformer
    theta = through(graph, one.localisation, x)
    features = through(
        graph,
        layer.reader,
        warped(graph, one.transform, one.sampler, x, theta, one.size),
    )
    return joined(graph, [features, theta])


def glimpses(graph: Graph, layer: Glimpses, x: Value) -> Value:
    one, count = layer.transformer, layer.glimpses
    theta = through(graph, one.localisation, x)
    crops = warped(graph, one.transform, one.sampler, x, theta, one.size, count)
    features = graph.plain(through(graph, layer.reader, crops))
    return graph.reshaped(features, count, *features.shape)


def apart(graph: Graph, layer: Apart, x: Value) -> Value:
    return graph.reshaped(x, x.shape[0] // layer.count)


def towers(graph: Graph, layer: Towers, x: Value) -> Value:
    """The crops lie one after another, in rows or in columns."""
    count, *shape = x.shape
    crops = [
        graph.reshaped(graph.add("Slice", x, shape=(1, *shape), axis=1, start=t, end=t + 1), *shape)
        for t in range(count)
    ]
    each = zip(layer.networks, crops, strict=True)
    return joined(graph, [through(graph, network, crop) for network, crop in each])


def iterated(graph: Graph, layer: Iterated, x: Value) -> Value:
    """Products of 2x3 matrices, of which the right one gets its third row first."""
    first, *others = layer.localisations
    theta = through(graph, first, x)
    for localisation in others:
        seen = warped(graph, AFFINE, layer.sampler, x, theta, x.shape[:2])
        more = through(graph, localisation, seen)
        left, right = (theta, more) if layer.order == "right" else (more, theta)
        square = graph.add("MatMul", right, graph.constant(np.eye(6, 9)), shape=(9,))
        square = graph.add("Add", square, graph.constant(np.eye(1, 9, 8)))
        product = graph.add(
            "MatMul", graph.reshaped(left, 2, 3), graph.reshaped(square, 3, 3), shape=(2, 3)
        )
        theta = graph.reshaped(product, 6)
    return theta


def resize(graph: Graph, layer: Resize, x: Value) -> Value:
    theta = graph.constant([AFFINE.identity])
    theta = graph.add("Repeated", theta, x, shape=(6,))
    return warped(graph, AFFINE, BILINEAR, x, theta, layer.size)


LAYERS: dict[type[Layer], Callable[[Graph, Any, Value], Value]] = {
    Apart: apart,
    AvgPool2d: avg_pool2d,
    AvgPool3d: avg_pool3d,
    Bounded: bounded,
    Conv2d: conv2d,
    Dense: dense,
    Description: description,
    Dropout: dropout,
    Flatten: flatten,
    GRU: gru,
    Glimpses: glimpses,
    HandOn: hand_on,
    Iterated: iterated,
    LeakyReLU: leaky_relu,
    Limited: lambda graph, layer, x: x,
    MaxPool2d: max_pool2d,
    Mean: mean,
    NextImage: next_image,
    Parallel: parallel,
    Projection: projection,
    ReLU: elementwise("Relu"),
    Reshape: reshape,
    Resize: resize,
    Sequential: lambda graph, layer, x: in_turn(graph, layer.layers, x),
    SpatialTransformer: transformer,
    Standardised: standardised,
    Stopped: lambda graph, layer, x: through(graph, layer.layers, x),
    Tanh: elementwise("Tanh"),
    Towers: towers,
}
