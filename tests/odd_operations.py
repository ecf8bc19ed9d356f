"""Right calls of operations, on each engine."""

import inspect
from collections.abc import Callable, Iterator
from functools import partial
from types import ModuleType
from typing import Any

import devices
import numpy as np
from odd import RNG, Call, floats

from ministn import cuda, fast, ops
from ministn.backend import to_cpu
from ministn.errors import PLAIN
from ministn.randomness import Step

STEP = Step(seed=1, number=2)
IMAGE, GRID = floats(2, 5, 6, 3), RNG.uniform(-1.2, 1.2, (2, 3, 4, 2)).astype(np.float32)
SAMPLERS = {"image": IMAGE, "grid": GRID, "border": "zeros", "fill": 0.5}
MOMENTS = {name: np.abs(floats(7)) for name in "pgmv"}
OPS = {
    "adam": MOMENTS | {"step_size": 0.1, "beta1": 0.9, "beta2": 0.999, "epsilon": 1e-8},
    "affine_grid": {"theta": floats(2, 2, 3), "size": (3, 4)},
    "affine_grid_3d": {"theta": floats(2, 3, 4), "size": (2, 3, 4)},
    "as_batch": {"images": RNG.integers(0, 256, (2, 5, 6), np.uint8)},
    "avg_pool2d": {"x": IMAGE, "size": 2},
    "avg_pool3d": {"x": floats(2, 4, 5, 6), "size": 2},
    "basis_grid": {"theta": floats(2, 2), "basis": floats(3, 3, 4, 2)},
    "bicubic_sampler": {"image": IMAGE, "grid": GRID, "a": -0.5},
    "bilinear_sampler": SAMPLERS,
    "clip": {"g": floats(7), "limit": 0.5},
    "compose": {"left": floats(2, 2, 3), "right": floats(2, 2, 3)},
    "conv2d": {
        "x": IMAGE,
        "weight": floats(3, 3, 3, 4),
        "bias": floats(4),
        "padding": "same",
        "stride": 2,
    },
    "conv_block": {
        "x": IMAGE,
        "weight": floats(3, 3, 3, 4),
        "bias": floats(4),
        "padding": "same",
        "stride": 1,
        "pool": True,
        "activation": "leaky_relu",
        "slope": 0.1,
    },
    "dense": {"x": floats(2, 3), "weight": floats(3, 4), "bias": floats(4)},
    "gru": {
        "x": floats(2, 3),
        "weight_x": floats(3, 3, 4),
        "weight_h": floats(4, 3, 4),
        "bias": floats(3, 4),
        "steps": 3,
    },
    "dropout": {"x": floats(2, 3), "rate": 0.5, "step": STEP, "stream": 3},
    "grid_products": {"grid": GRID, "basis": floats(3, 3, 4, 2)},
    "leaky_relu": {"x": floats(2, 3), "slope": 0.1},
    "limit_norm": {"g": floats(7), "squares": 7.0, "most": 0.5},
    "max_pool2d": {"x": IMAGE, "size": 2, "stride": 1},
    "nearest_sampler": SAMPLERS,
    "nesterov": {
        **{name: floats(7) for name in ("p", "g", "v", "decay")},
        "step_size": 0.1,
        "momentum": 0.9,
    },
    "projection": {"x": floats(2, 4, 5, 6)},
    "projective_grid": {"theta": floats(2, 8), "size": (3, 4)},
    "relu": {"x": floats(2, 3)},
    "rmsprop": {
        **{name: np.abs(floats(7)) for name in "pga"},
        "step_size": 0.1,
        "rho": 0.9,
        "epsilon": 1e-6,
    },
    "sgd": {
        **{name: floats(7) for name in ("p", "g", "v", "decay")},
        "step_size": 0.1,
        "momentum": 0.9,
    },
    "sigmoid": {"x": floats(2, 3)},
    "softmax_cross_entropy": {
        "logits": floats(3, 4),
        "labels": np.array([0, 3, 1]),
        "epsilon": 0.1,
    },
    "sum_of_squares": {"g": floats(7)},
    "tanh": {"x": floats(2, 3)},
    "trilinear_sampler": {
        "volume": floats(2, 3, 4, 5),
        "grid": RNG.uniform(-1.2, 1.2, (2, 2, 3, 4, 3)).astype(np.float32),
    },
    "triplet_hinge": {
        "attended": floats(3, 4),
        "random": floats(3, 4),
        "pairs": np.array([[0, 1], [2, 0]]),
        "margin": 1.0,
    },
}


# The arguments that these write, and so cannot take read-only.
WRITTEN = {
    "adam": "pmv",
    "sgd": "pv",
    "nesterov": "pv",
    "rmsprop": "pa",
    "clip": "g",
    "limit_norm": "g",
}
ANY_KIND = {"conv_block": "activation", "max_pool2d": "stride"}


def on_gpu(function: Callable[..., Any]) -> Callable[..., Any]:
    """The same of NumPy's arrays, as far as they can be copied to a GPU; on the CPU shim."""

    def call(**given: Any) -> Any:
        device = devices.emulated(checked=False)
        placed = {
            key: device.to_gpu(value)
            if type(value) in PLAIN and value.dtype.isnative and value.dtype.kind in "biufc"
            else value
            for key, value in given.items()
        }
        found = function(**placed)
        y, cache = found if isinstance(found, tuple) and len(found) == 2 else (found, None)
        return to_cpu(y), cache

    return call


# What a GPU takes otherwise.
GPU = {"limit_norm": {"squares": np.array([7.0])}}


def int32(value: Any) -> Any:
    """Whole numbers as a GPU has them."""
    whole = isinstance(value, np.ndarray) and value.dtype == np.int64
    return value.astype(np.int32) if whole else value


def passes(engine: ModuleType) -> Iterator[tuple[str, Call]]:
    """Forward; and backward, with the output in the place of its gradient, and a cache of its own
    for every call.
    """
    on_device = on_gpu if engine is cuda else lambda function: function
    for name in [name for name in OPS if hasattr(engine, name)]:
        forward = on_device(getattr(engine, name))
        arguments = OPS[name]
        if engine is cuda:
            arguments = {key: int32(value) for key, value in arguments.items()} | GPU.get(name, {})
        full = f"{engine.__name__.removeprefix('ministn.')}.{name}"
        written = "" if engine is cuda else WRITTEN.get(name, "")
        yield full, Call(forward, arguments, written=written, any_kind=ANY_KIND.get(name, ""))
        backward = getattr(engine, f"{name}_backward", None)
        if backward is None:
            continue
        first = next(iter(inspect.signature(backward).parameters))
        loss = first == "cache"
        own = {"dloss": 1.0} if loss else {first: getattr(ops, name)(**OPS[name])[0]}

        def back(forward=forward, backward=backward, arguments=arguments, **given):
            cache = forward(**arguments)[1]
            return on_device(partial(backward, cache=cache))(**given)

        yield f"{full}_backward", Call(back, own)


CALLS = {name: call for engine in (ops, fast, cuda) for name, call in passes(engine)}
