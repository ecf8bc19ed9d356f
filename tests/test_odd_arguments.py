"""Odd arrays and numbers at every argument of public functions: the right value, or one clear error
that names the argument. A refused call changes nothing.
"""

import inspect
import re
import tempfile
from collections.abc import Iterator
from fractions import Fraction
from math import inf, nan
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ministn import fast, fit, interop, ops
from ministn.errors import UserError
from ministn.layers import Conv2d, Dense, Dropout, Flatten, MaxPool2d, ReLU, Sequential
from ministn.models import Network
from ministn.optimizers import Adam, Optimizer
from ministn.parameter import ParameterBuffer
from ministn.randomness import Step
from ministn.transformer import SpatialTransformer, inverse, regression_layer, theta_of
from ministn.transformer.samplers import KERNELS, Sampler

RNG = np.random.default_rng(0)


def floats(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape).astype(np.float32)


# -- oddities ------------------------------------------------------------------------------------


def read_only(a):
    a = a.copy()
    a.flags.writeable = False
    return a


def every_second(a):
    wide = np.zeros((*a.shape[:-1], 2 * a.shape[-1]), a.dtype)
    wide[..., ::2] = a
    return wide[..., ::2]


def memory_mapped(a):
    with tempfile.NamedTemporaryFile() as file:
        mapped = np.memmap(file.name, a.dtype, "w+", shape=a.shape)
    mapped[...] = a
    return mapped


SAME = {  # the same numbers, lying otherwise in memory
    "read-only": read_only,
    "Fortran": lambda a: np.asfortranarray(a),
    "strided": every_second,
    "reversed": lambda a: a[::-1].copy()[::-1],
    "memory-mapped": memory_mapped,
}
WRONG = {
    "masked": lambda a: np.ma.masked_array(a),
    "big-endian": lambda a: a.astype(a.dtype.newbyteorder(">")),
    "object": lambda a: a.astype(object),
    "float16": lambda a: a.astype(np.float16),
    "bool": lambda a: a.astype(bool),
    "complex": lambda a: a.astype(np.complex64),
    "text": lambda a: a.astype(str),
    "list": lambda a: a.tolist(),
    "None": lambda a: None,
    "number": lambda a: 1.0,
    "a scalar": lambda a: a.dtype.type(1),
    "one axis more": lambda a: a[None],
    "no axes": lambda a: a[(0,) * a.ndim].reshape(()),
}
ANY = {  # may be refused or computed
    "one axis less": lambda a: a[0],
    "empty": lambda a: a[:0],
    "one": lambda a: a[:1],
    "one less": lambda a: a[..., :-1],
    "NaN": lambda a: np.full_like(a, nan) if a.dtype.kind == "f" else a,
    "inf": lambda a: np.full_like(a, inf) if a.dtype.kind == "f" else a,
    "negative": lambda a: -np.abs(a),
    "float64": lambda a: a.astype(np.float64),
    "int64": lambda a: a.astype(np.int64),
}
ARRAYS = SAME | WRONG | ANY

NUMBERS: list[Any] = [
    *(np.dtype(code).type(1) for code in "bBhHiIlLqQefdg?"),
    *(0, 1, -1, 2, 3, 10**30, True, False, None, nan, inf, -inf, 1e-320, 0.5, 1.5, -0.5, 1e300),
    *("1", b"1", "", [], [1], (), (1,), {}, 1j, Fraction(1, 2), np.ones(1), np.ones(()), np.nan),
    *(np.float32(nan), np.int64(-3), np.float16(0.5), np.str_("1"), object, len, np.complex64(1)),
]


# -- calls that are right ------------------------------------------------------------------------


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
    "ops.adam": "pmv",
    "ops.sgd": "pv",
    "ops.nesterov": "pv",
    "ops.rmsprop": "pa",
    "ops.clip": "g",
    "ops.limit_norm": "g",
}


def ready(layer, parameters=None):
    """With its values, so that it can be used."""
    ParameterBuffer(layer.parameters(), seed=0)
    return layer


def network() -> Network:
    look = Sequential(Flatten("flat"), regression_layer("theta", 5 * 6))
    return Network(
        Sequential(Flatten("classifier"), Dense("softmax", 9, 4)), SpatialTransformer(look, (3, 3))
    )


def trained(**arguments):
    return fit.train(network(), steps=2, **{"batch_size": 2, "lr": 0.01} | arguments)


def trained_on_batch(**arguments):
    ours = network()
    optimizer = Optimizer(Adam(), ParameterBuffer(ours.parameters(), seed=0))
    return fit.train_on_batch(ours, optimizer, **arguments)


LAYERS = {
    "Conv2d": (Conv2d("layer", 3, 4, pool=True), IMAGE),
    "Dense": (Dense("layer", 3, 4), floats(2, 3)),
    "Dropout": (Dropout("layer", 0.5), floats(2, 3)),
    "Flatten": (Flatten("layer"), IMAGE),
    "MaxPool2d": (MaxPool2d("layer"), IMAGE),
    "ReLU": (ReLU("layer"), floats(2, 3)),
    "Network": (network(), floats(2, 5, 6, 1)),
}


def backward_passes(engine) -> Iterator[tuple[str, tuple]]:
    """With the output in the place of its gradient, and a cache of its own for every call."""
    for name, arguments in OPS.items():
        forward, backward = getattr(engine, name, None), getattr(engine, f"{name}_backward", None)
        if forward is None or backward is None:
            continue
        gradient = next(iter(inspect.signature(backward).parameters))
        if gradient == "cache":  # of a loss
            continue

        def call(forward=forward, backward=backward, arguments=arguments, **given):
            return backward(**given, cache=forward(**arguments)[1])

        yield f"{engine.__name__}.{name}_backward", (call, {gradient: forward(**arguments)[0]})


BYTES = RNG.integers(0, 256, (4, 5, 6), np.uint8)
LABELS = np.array([0, 3, 1, 2])
CALLS = {
    **{f"ops.{name}": (getattr(ops, name), arguments) for name, arguments in OPS.items()},
    **{f"fast.{name}": (getattr(fast, name), OPS[name]) for name in OPS if hasattr(fast, name)},
    **{f"{name}.forward": (ready(layer).forward, {"x": x}) for name, (layer, x) in LAYERS.items()},
    **{
        f"Sampler({kernel}).forward": (Sampler(kernel).forward, {"image": IMAGE, "grid": GRID})
        for kernel in KERNELS
    },
    **dict(backward_passes(ops)),
    **dict(backward_passes(fast)),
    "theta_of": (
        theta_of,
        {"angle": floats(3), "scale": np.abs(floats(3)), "shift": floats(3, 2)},
    ),
    "inverse": (inverse, {"theta": floats(3, 2, 3)}),
    "theta_from_half_pixel": (
        interop.theta_from_half_pixel,
        {"theta": floats(3, 2, 3), "input_size": (5, 6), "output_size": (3, 4)},
    ),
    "fit.train": (trained, {"images": BYTES, "labels": LABELS, "batch_size": 2, "lr": 0.01}),
    "fit.train_on_batch": (trained_on_batch, {"images": BYTES, "labels": LABELS, "lr": 0.01}),
}


# -- what comes of it ----------------------------------------------------------------------------


def numbers(value: Any) -> list[np.ndarray]:
    """In what a function returns, without its cache."""
    if isinstance(value, tuple):
        return numbers(value[0])
    return [] if value is None else [np.asarray(value)]


def fresh(value: Any) -> Any:
    return value.copy() if type(value) is np.ndarray else value


def result(function, arguments) -> list[np.ndarray]:
    """What it returns, and what it has made of its arrays."""
    with np.errstate(all="ignore"):
        value = function(**arguments)
    return numbers(value) + [a for a in arguments.values() if isinstance(a, np.ndarray)]


def check(name: str, odd: dict[str, Any]) -> list[np.ndarray] | None:
    """The result, or None for a clear error, with all as it was before."""
    function, right = CALLS[name]
    arguments = {key: fresh(value) for key, value in right.items()} | odd
    before = {key: fresh(value) for key, value in arguments.items()}
    try:
        return result(function, arguments)
    except (TypeError, ValueError, UserError) as error:
        said = str(error)
    assert "\n" not in said
    # A network's layers call what they are given x.
    names = [*arguments, "x"] if name.startswith("fit.") else arguments
    assert any(re.search(rf"\b{key}\b", said) for key in names), said
    for key, value in before.items():
        if type(value) is np.ndarray:
            np.testing.assert_array_equal(arguments[key], value)
    return None


EACH = [(name, key) for name, (_, arguments) in CALLS.items() for key in arguments]
each = pytest.mark.parametrize(("name", "key"), EACH)


@each
def test_one_odd_argument(name, key):
    function, right = CALLS[name]
    value = right[key]
    if not isinstance(value, np.ndarray):
        for number in NUMBERS:
            check(name, {key: number})
        return
    expected = result(function, {k: fresh(v) for k, v in right.items()})
    for kind, odd in ARRAYS.items():
        found = check(name, {key: odd(value.copy())})
        if kind in SAME and not (kind == "read-only" and key in WRITTEN.get(name, "")):
            assert found is not None, kind
            for mine, wanted in zip(found, expected, strict=True):
                np.testing.assert_allclose(mine, wanted, rtol=1e-6, atol=1e-6, err_msg=kind)


@settings(max_examples=500, deadline=None, derandomize=True, database=None)
@given(st.data())
def test_several_odd_arguments(data):
    name = data.draw(st.sampled_from(list(CALLS)))
    right = CALLS[name][1]
    odd = {}
    for key in data.draw(st.lists(st.sampled_from(list(right)), min_size=1, unique=True)):
        if isinstance(right[key], np.ndarray):
            odd[key] = ARRAYS[data.draw(st.sampled_from(list(ARRAYS)))](right[key].copy())
        else:
            odd[key] = data.draw(st.sampled_from(NUMBERS))
    check(name, odd)
