"""Right calls of operations, on each engine."""

import inspect
from collections.abc import Iterator

import numpy as np
from odd import RNG, Call, floats

from ministn import fast, ops
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
    "softmax_cross_entropy": {"logits": floats(3, 4), "labels": np.array([0, 3, 1])},
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


def forward_passes(engine) -> dict[str, Call]:
    return {
        f"{engine.__name__.removeprefix('ministn.')}.{name}": Call(
            getattr(engine, name),
            arguments,
            written=WRITTEN.get(name, ""),
            any_kind=ANY_KIND.get(name, ""),
        )
        for name, arguments in OPS.items()
        if hasattr(engine, name)
    }


def backward_passes(engine) -> Iterator[tuple[str, Call]]:
    """With the output in the place of its gradient, and a cache of its own for every call."""
    for name, arguments in OPS.items():
        forward, backward = getattr(engine, name, None), getattr(engine, f"{name}_backward", None)
        if forward is None or backward is None:
            continue
        gradient = next(iter(inspect.signature(backward).parameters))

        def call(forward=forward, backward=backward, arguments=arguments, **given):
            return backward(**given, cache=forward(**arguments)[1])

        own = {"dloss": 1.0} if gradient == "cache" else {gradient: forward(**arguments)[0]}
        yield f"{engine.__name__.removeprefix('ministn.')}.{name}_backward", Call(call, own)


CALLS = {
    **forward_passes(ops),
    **forward_passes(fast),
    **dict(backward_passes(ops)),
    **dict(backward_passes(fast)),
}
