"""A whole network in one file: what it is made of, as values, and its weights. Never a pickle.

A part is a layer, a transform, a sampler or the network itself. The file has it as its kind and the
arguments that make it; an argument that is a part is the number of one that stands before it. So a
layer in two places is one again, and so are weights that two layers share, by their names.
"""

import json
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from ministn import layers, recurrent, transformer
from ministn.backend import to_cpu
from ministn.errors import UserError, check_kind
from ministn.layers import Layer
from ministn.models import Network
from ministn.models.alternating import Alternately
from ministn.models.controls import Limited, NextImage, Stopped
from ministn.models.network import weights_of
from ministn.parameter import Parameter, ParameterBuffer
from ministn.training import checkpoint
from ministn.transformer import samplers, transforms
from ministn.transformer.transforms import Transform

Arguments = dict[str, Any]  # those without a name are a list under ""
Describe = Callable[[Any], Arguments]


def by_name(names: str) -> Describe:
    """Arguments that the part keeps under their names."""
    return lambda part: {name: getattr(part, name) for name in names.split()}


def conv2d(layer: layers.Conv2d) -> Arguments:
    kernel, _, in_channels, channels = layer.weight.shape
    sizes = {"in_channels": in_channels, "channels": channels, "kernel": kernel}
    options = by_name("path padding stride pool activation slope")(layer)
    return sizes | options | {"bias": layer.bias is not None}


def dense(layer: layers.Dense) -> Arguments:
    in_features, features = layer.weight.shape
    return {"path": layer.path, "in_features": in_features, "features": features}


def bounded(layer: layers.Bounded) -> Arguments:
    low, high = zip(*layer.bounds, strict=True)
    return {"path": layer.path, "low": low, "high": high}


def gru(layer: recurrent.GRU) -> Arguments:
    in_features, _, features = layer.weight_x.shape
    sizes = {"in_features": in_features, "features": features}
    return sizes | by_name("path steps")(layer)


def spatial_transformer(layer: transformer.SpatialTransformer) -> Arguments:
    return by_name("localisation size transform sampler path start field")(layer)


def general(transform: transforms.General) -> Arguments:
    path = transform.basis.name.removesuffix("/basis")
    return {"path": path} | by_name("start size")(transform)


def read(name: str) -> Describe:
    """Of a transformer and layers that read it."""
    return lambda part: {"": [part.transformer, *part.reader.layers]} | by_name(name)(part)


def glimpses(layer: transformer.Glimpses) -> Arguments:
    starts = [one.start for one in layer.at_input]
    return read("glimpses path")(layer) | {"starts": starts}


KINDS: dict[str, tuple[type, Describe]] = {
    # layers/, recurrent.py
    "conv2d": (layers.Conv2d, conv2d),
    "dense": (layers.Dense, dense),
    "relu": (layers.ReLU, by_name("path")),
    "leaky relu": (layers.LeakyReLU, lambda part: {"path": part.path, **part.options}),
    "tanh": (layers.Tanh, by_name("path")),
    "bounded": (layers.Bounded, bounded),
    "standardised": (layers.Standardised, by_name("path mean deviation")),
    "max pool": (layers.MaxPool2d, by_name("path size stride")),
    "average pool": (layers.AvgPool2d, by_name("path size")),
    "average pool 3d": (layers.AvgPool3d, by_name("path size")),
    "projection": (layers.Projection, by_name("path")),
    "dropout": (layers.Dropout, by_name("path rate")),
    "flatten": (layers.Flatten, by_name("path")),
    "reshape": (layers.Reshape, lambda part: {"": [part.path, *part.shape]}),
    "sequential": (layers.Sequential, lambda part: {"": part.layers}),
    "gru": (recurrent.GRU, gru),
    "mean": (recurrent.Mean, by_name("path")),
    # transformer/
    "spatial transformer": (transformer.SpatialTransformer, spatial_transformer),
    "parallel": (
        transformer.Parallel,
        lambda part: {"": part.at_input, "path": part.path},
    ),
    "hand on": (transformer.HandOn, read("path")),
    "glimpses": (transformer.Glimpses, glimpses),
    "iterated": (
        transformer.Iterated,
        lambda part: {"": part.localisations} | by_name("order sampler path")(part),
    ),
    "apart": (transformer.Apart, by_name("path count")),
    "towers": (transformer.Towers, lambda part: {"": part.networks, "path": part.path}),
    "resize": (transformer.Resize, by_name("path size sampler")),
    "sampler": (samplers.Sampler, by_name("kernel border fill supersampling a")),
    "affine": (transforms.Affine, by_name("")),
    "attention": (transforms.Attention, by_name("")),
    "translation": (transforms.Translation, by_name("scale")),
    "similarity": (transforms.Similarity, by_name("")),
    "projective": (transforms.Projective, by_name("")),
    "affine 3d": (transforms.Affine3d, by_name("")),
    "thin plate spline": (transforms.ThinPlateSpline, by_name("rows columns")),
    "piecewise affine": (transforms.PiecewiseAffine, by_name("rows columns")),
    "general": (transforms.General, general),
    # models/
    "stopped": (Stopped, lambda part: {"": [part.path, *part.layers.layers]}),
    "limited": (Limited, by_name("path limit")),
    "next image": (NextImage, by_name("path rows")),
    "alternately": (Alternately, lambda part: {"": part.each}),
    "network": (Network, by_name("classifier front shape")),
}
KIND_OF = {cls: kind for kind, (cls, _) in KINDS.items()}
PARTS = (Layer, Network, Transform, samplers.Sampler)


def save(network: Network, path: Path | str) -> None:
    """Write a network with its weights, atomically: ``load`` gives it back, to the last bit.

    Raises UserError for a network that has no weights yet or has a part that is not this library's,
    and where the file cannot be written; the previous one is then kept.
    """
    check_kind("path", path, str, Path)
    arrays = {parameter.name: to_cpu(parameter.data) for parameter in weights_of(network)}
    described = parts_of(network)
    content = {"network": described, "sha256": _digest(described, arrays)}
    checkpoint.save(Path(path), arrays, content)


def load(path: Path | str) -> Network:
    """The network that ``save`` has written, ready to predict and to be trained further.

    Raises UserError for a file that is missing, damaged, or holds something else.
    """
    check_kind("path", path, str, Path)
    path = Path(path)
    arrays, content = checkpoint.load(path)
    described = checkpoint.entry(path, content, "network")
    if content.get("sha256") != _digest(described, arrays):
        raise UserError(f"{path} is damaged: copy it again, or save the network again")
    try:
        network = made_of(described)
        (dtype,) = {array.dtype for array in arrays.values()} or {np.dtype(np.float32)}
        parameters = network.parameters(), network.fixed_parameters()
        own = {p.name: p.shape for some in parameters for p in some}
        if own != {name: array.shape for name, array in arrays.items()}:
            raise ValueError("its weights are another network's")
        for some in parameters:
            ParameterBuffer(some, seed=0, dtype=dtype.type)
    except (UserError, TypeError, ValueError, LookupError, AttributeError, MemoryError) as error:
        raise UserError(f"{path} holds no network that this version can make: {error}") from error
    checkpoint.fill(path, arrays, {p.name: p.data for some in parameters for p in some})
    return network


def parts_of(network: Network) -> list[Arguments]:
    """All that a network is made of, as JSON has it; the network itself last.

    Raises UserError for a part that is not this library's.
    """
    numbers: dict[int, int] = {}
    described: list[Arguments] = []

    def value(held: Any) -> Any:
        if isinstance(held, PARTS):
            return {"part": number(held)}
        if isinstance(held, (list, tuple)):
            return [value(each) for each in held]
        return held.item() if isinstance(held, np.generic) else held

    def number(part: Any) -> int:
        if id(part) not in numbers:
            kind = KIND_OF.get(type(part))
            if kind is None:
                path = getattr(part, "path", None)
                raise UserError(
                    f"{'a part' if path is None else repr(path)} of the network is a "
                    f"{type(part).__name__}, which is not of this library, so a file cannot say "
                    "how to make it: training.checkpoint.save writes the weights alone"
                )
            arguments = KINDS[kind][1](part).items()
            described.append({"kind": kind} | {name: value(held) for name, held in arguments})
            numbers[id(part)] = len(described) - 1
        return numbers[id(part)]

    number(network)
    return described


def made_of(described: list[Arguments]) -> Network:
    """The network again, without weights. Raises whatever comes of what is no description."""
    made: list[Any] = []
    shared: dict[str, Parameter] = {}

    def value(held: Any) -> Any:
        if isinstance(held, dict):
            return made[held["part"]]
        return tuple(value(each) for each in held) if isinstance(held, list) else held

    for one in described:
        if one["kind"] not in KINDS:
            raise UserError(f"there is no part {one['kind']!r}")
        cls, _ = KINDS[one["kind"]]
        named = {name: value(held) for name, held in one.items() if name != "kind"}
        part = cls(*named.pop("", ()), **named)
        for name, held in vars(part).items():
            if isinstance(held, Parameter):
                setattr(part, name, shared.setdefault(held.name, held))
        made.append(part)
    check_kind("the last part", made[-1], Network)
    network: Network = made[-1]
    return network


def _digest(described: Any, arrays: dict[str, np.ndarray]) -> str:
    """Of all that a file holds: so that a changed bit is not taken for a weight."""
    digest = sha256(json.dumps(described, sort_keys=True).encode())
    for name, array in sorted(arrays.items()):
        digest.update(f"{name} {array.dtype} {array.shape}\n".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()
