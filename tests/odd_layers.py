"""Right calls of layers, transformers, transforms and samplers: what networks are built of."""

from collections.abc import Iterator

import numpy as np
from odd import RNG, Call, floats
from odd_operations import GRID, IMAGE, STEP

from ministn import layers
from ministn.initializers import Constant, HeUniform
from ministn.layers import Dense, Flatten, ReLU, Sequential
from ministn.models import Network
from ministn.parameter import ParameterBuffer
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
    downsampled,
    fresh,
    inverse,
    map_shape,
    placed,
    regression_layer,
    theta_of,
    tiled,
    windows,
)
from ministn.transformer.samplers import KERNELS, Sampler
from ministn.transformer.transforms import (
    AFFINE,
    Affine,
    Affine3d,
    Attention,
    General,
    PiecewiseAffine,
    Projective,
    Similarity,
    ThinPlateSpline,
    Translation,
    regular_grid,
)

GREY = floats(2, 5, 6, 1)
VOLUME = floats(2, 4, 5, 6)
PATH = {"path": "layer"}
OPEN = "in_channels in_features"  # may be None
CONV = {"in_channels": 3, "channels": 4, "kernel": 3, "padding": "same", "stride": 1, "pool": True}


def ready(layer):
    """With its values, so that it can be used."""
    ParameterBuffer(layer.parameters(), seed=0)
    return layer


def localisation(path="theta", transform=AFFINE) -> Sequential:
    return Sequential(Flatten(f"{path}/flat"), regression_layer(path, 5 * 6, transform))


def transformer(path="theta") -> SpatialTransformer:
    return SpatialTransformer(localisation(path), (3, 3), path=path)


def network() -> Network:
    return Network(
        Sequential(Flatten("classifier"), Dense("softmax", 9, 4)),
        SpatialTransformer(localisation(), (3, 3)),
    )


# Constructors: of a layer its arguments, and what it may be given.
LAYERS = {
    "Conv2d": (
        PATH
        | CONV
        | {"activation": "leaky_relu", "slope": 0.1, "bias": True}
        | {"initial": HeUniform(), "initial_bias": Constant(0.1)},
        IMAGE,
    ),
    "Dense": (
        PATH
        | {"in_features": 3, "features": 4, "initial": HeUniform(), "initial_bias": HeUniform()},
        floats(2, 3),
    ),
    "ReLU": (PATH, floats(2, 3)),
    "LeakyReLU": (PATH | {"slope": 0.1}, floats(2, 3)),
    "Tanh": (PATH, floats(2, 3)),
    "Bounded": (PATH | {"low": (0.0, 1.0, 2.0), "high": (1.0, 2.0, 3.0)}, floats(2, 3)),
    "Standardised": (PATH | {"mean": 0.1, "deviation": 0.3}, IMAGE),
    "MaxPool2d": (PATH | {"size": 2, "stride": 1}, IMAGE),
    "AvgPool2d": (PATH | {"size": 2}, IMAGE),
    "AvgPool3d": (PATH | {"size": 2}, VOLUME),
    "Projection": (PATH, VOLUME),
    "Dropout": (PATH | {"rate": 0.5}, floats(2, 3)),
    "Flatten": (PATH, IMAGE),
}
TRANSFORMS = {
    "Affine": Affine(),
    "Attention": Attention(),
    "Translation": Translation(),
    "Similarity": Similarity(),
    "Projective": Projective(),
    "ThinPlateSpline": ThinPlateSpline(2, 3),
    "PiecewiseAffine": PiecewiseAffine(2, 3),
    "General": General("general", Attention(), (3, 4)),
    "Affine3d": Affine3d(),
}
POINTS = {"rows": 2, "columns": 3}
BUILT = {  # of those transforms that take arguments
    "ThinPlateSpline": (ThinPlateSpline, POINTS),
    "PiecewiseAffine": (PiecewiseAffine, POINTS),
    "Translation": (Translation, {"scale": 0.5}),
    "General": (General, {"path": "general", "start": Attention(), "size": (3, 4)}),
}


def passes(name, layer, x) -> Iterator[tuple[str, Call]]:
    """Forward; and backward, with the output in the place of its gradient."""

    def backward(dy, layer=layer, x=x):
        return layer.backward(dy, layer.forward(x, STEP)[1])

    yield f"{name}.forward", Call(layer.forward, {"x": x})
    yield f"{name}.backward", Call(backward, {"dy": layer.forward(x)[0]})


def layer_calls() -> Iterator[tuple[str, Call]]:
    for name, (arguments, x) in LAYERS.items():
        made = getattr(layers, name)
        yield (
            f"layers.{name}",
            Call(made, arguments, any_kind=f"activation stride initial_bias {OPEN}"),
        )
        yield from passes(f"layers.{name}", ready(made(**arguments)), x)
    arguments = {"in_features": 3, "features": 4, "steps": 2, "initial": HeUniform()}
    yield "recurrent.GRU", Call(GRU, PATH | arguments, any_kind=OPEN)
    yield from passes("recurrent.GRU", ready(GRU("gru", 3, 4, 2)), floats(2, 3))
    yield (
        "layers.Reshape",
        Call(
            lambda path, labels, scores: layers.Reshape(path, labels, scores),
            PATH | {"labels": 2, "scores": 3},
            also="shape",
        ),
    )
    yield from passes("layers.Reshape", layers.Reshape("reshape", 2, 3), floats(4, 6))
    yield "recurrent.Mean", Call(Mean, PATH)
    yield from passes("recurrent.Mean", Mean("mean"), floats(4, 2, 3))
    yield "layers.Sequential", Call(lambda layer: Sequential(layer), {"layer": ReLU("relu")})
    yield from passes(
        "layers.Sequential", ready(Sequential(Flatten("a"), Dense("b", 90, 2))), IMAGE
    )
    yield (
        "models.Network",
        Call(Network, {"classifier": Sequential(), "front": transformer()}, any_kind="front"),
    )
    yield "models.Network.forward", Call(ready(network()).forward, {"x": GREY})
    yield "models.Network.predict", Call(ready(network()).predict, {"x": GREY})


def transformer_calls() -> Iterator[tuple[str, Call]]:
    one = ready(transformer())
    together = ready(Parallel(transformer("a"), transformer("b")))
    handing = ready(HandOn(transformer(), Flatten("v")))
    looking = ready(Glimpses(transformer(), Flatten("v"), glimpses=1))
    for name, layer in (
        ("SpatialTransformer", one),
        ("Parallel", together),
        ("HandOn", handing),
        ("Glimpses", looking),
    ):
        name = f"transformer.{name}"
        yield from passes(name, layer, GREY)
        yield f"{name}.theta", Call(layer.theta, {"x": GREY})
        yield f"{name}.predict", Call(layer.predict, {"x": GREY})
    yield from passes(
        "transformer.Iterated", ready(Iterated(localisation("a"), localisation("b"))), GREY
    )
    yield (
        "transformer.Iterated",
        Call(
            lambda localisation, order, sampler, path: Iterated(
                localisation, order=order, sampler=sampler, path=path
            ),
            {"localisation": localisation(), "order": "left", "sampler": Sampler()} | PATH,
        ),
    )
    yield "transformer.Apart", Call(Apart, PATH | {"count": 2})
    yield from passes("transformer.Apart", Apart("apart", 2), floats(3, 4))
    crops, read = floats(2, 1, 3, 4, 1), {"network": Flatten("v")}
    yield (
        "transformer.Towers",
        Call(lambda network, path: Towers(network, path=path), read | PATH),
    )
    yield from passes("transformer.Towers", Towers(Flatten("v")), crops)
    yield (
        "transformer.windows",
        Call(
            lambda layer, **given: windows([layer], **given),
            {"layer": Flatten("flat"), "in_features": 30, "count": 2, "size": (3, 4)}
            | {"scale": 0.5, "sampler": Sampler()}
            | PATH,
            any_kind=OPEN,
        ),
    )
    yield (
        "transformer.SpatialTransformer.starting",
        Call(lambda start: one.starting(start).start, {"start": (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)}),
    )
    yield "transformer.Resize", Call(Resize, PATH | {"size": (3, 4), "sampler": Sampler()})
    yield from passes("transformer.Resize", Resize("resize", (3, 4)), GREY)
    yield "transformer.SpatialTransformer.warp", Call(one.warp, {"x": GREY, "theta": floats(2, 6)})
    yield (
        "transformer.SpatialTransformer",
        Call(
            SpatialTransformer,
            {
                "localisation": localisation(),
                "size": (3, 3),
                "downsample": 1.5,
                "transform": AFFINE,
                "sampler": Sampler(),
                "path": "transformer",
                "start": (1.0, 0.0, 0.0, 0.0, 1.0, 0.0),
                "field": (1.0, 0.5),
            },
            any_kind="start downsample",
        ),
    )
    yield (
        "transformer.Parallel",
        Call(
            lambda transformer, path: Parallel(transformer, path=path), {"transformer": one} | PATH
        ),
    )
    yield (
        "transformer.HandOn",
        Call(
            lambda transformer, layer, path: HandOn(transformer, layer, path=path),
            {"transformer": one, "layer": Flatten("v")} | PATH,
        ),
    )
    yield (
        "transformer.Glimpses",
        Call(
            lambda transformer, layer, glimpses, path, starts: Glimpses(
                transformer, layer, glimpses=glimpses, path=path, starts=starts
            ),
            {"transformer": one, "layer": Flatten("v"), "glimpses": 1}
            | {"starts": [AFFINE.identity]}
            | PATH,
            also="start",
            any_kind="starts",
        ),
    )
    yield (
        "transformer.placed",
        Call(
            lambda place, depths, shape, downsample, order, sampler: placed(
                place,
                [layers.Conv2d("conv", 1, 2), Flatten("flat"), Dense("softmax", 60, 4)],
                depths,
                lambda map_, path: localisation(path).layers,
                shape,
                downsample=downsample,
                order=order,
                sampler=sampler,
            ),
            {
                "place": "DL",
                "depths": (0,),
                "shape": (5, 6, 1),
                "downsample": 1.5,
                "order": "left",
                "sampler": Sampler(),
            },
            any_kind="downsample",
        ),
    )
    yield (
        "transformer.map_shape",
        Call(
            lambda layer, shape: map_shape([layer], shape),
            {"layer": layers.MaxPool2d("pool"), "shape": (5, 6, 1)},
        ),
    )
    yield "transformer.fresh", Call(fresh, {"layer": Dense("dense", 3, 4), "owner": "own"})
    yield (
        "transformer.regression_layer",
        Call(
            regression_layer,
            {"path": "theta", "in_features": 3, "transform": AFFINE, "start": (1, 0, 0, 0, 1, 0)},
            any_kind=f"{OPEN} start",
        ),
    )
    yield (
        "transformer.downsampled",
        Call(downsampled, {"size": (5, 6), "factor": 2}, also="downsample", any_kind="factor"),
    )
    yield (
        "transformer.theta_of",
        Call(
            theta_of,
            {"angle": floats(3), "scale": np.abs(floats(3)), "shift": floats(3, 2)},
            any_kind="scale shift",
        ),
    )
    yield "transformer.tiled", Call(tiled, {"count": 4, "scale": 0.5})
    yield "transformer.inverse", Call(inverse, {"theta": floats(3, 2, 3)})


def transform_calls() -> Iterator[tuple[str, Call]]:
    for name, transform in TRANSFORMS.items():
        name = f"transformer.transforms.{name}"
        ready(transform)
        size = (3, 4) if transform.axes == "h w" else (2, 3, 4)
        theta = floats(2, len(transform.identity))
        grid, _ = transform.forward(theta, size)

        def backward(dgrid, transform=transform, theta=theta, size=size):
            return transform.backward(dgrid, transform.forward(theta, size)[1])

        yield f"{name}.forward", Call(transform.forward, {"theta": theta, "size": size})
        yield f"{name}.backward", Call(backward, {"dgrid": grid})
        yield f"{name}.affine", Call(transform.affine, {"theta": theta, "grid": grid})
        resized = {"theta": theta, "grid": grid, "size": (4, 4)}
        yield f"{name}.resized", Call(transform.resized, resized)
        if name.rpartition(".")[2] in BUILT:
            yield name, Call(*BUILT[name.rpartition(".")[2]])
    yield (
        "transformer.transforms.regular_grid",
        Call(regular_grid, {"size": (3, 4), "dtype": np.dtype(np.float32)}, any_kind="dtype"),
    )


def sampler_calls() -> Iterator[tuple[str, Call]]:
    options = {"kernel": "bicubic", "border": "zeros", "fill": 0.5, "supersampling": 2, "a": -0.5}
    yield "transformer.samplers.Sampler", Call(Sampler, options, any_kind="a")
    yield "transformer.samplers.Sampler.grid_size", Call(Sampler().grid_size, {"size": (3, 4)})
    for kernel in (*KERNELS, "trilinear"):
        name = f"transformer.samplers.Sampler({kernel})"
        image, grid, sampler = IMAGE, GRID, Sampler(kernel)
        if kernel == "trilinear":
            image, grid = VOLUME, RNG.uniform(-1, 1, (2, 2, 3, 4, 3)).astype(np.float32)

        def backward(dy, image=image, grid=grid, sampler=sampler):
            return sampler.backward(dy, sampler.forward(image, grid)[1])

        yield (
            f"{name}.forward",
            Call(sampler.forward, {"image": image, "grid": grid}, also="volume"),
        )
        yield f"{name}.backward", Call(backward, {"dy": sampler.forward(image, grid)[0]})


CALLS = {
    **dict(layer_calls()),
    **dict(transformer_calls()),
    **dict(transform_calls()),
    **dict(sampler_calls()),
}
