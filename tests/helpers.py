"""How operations are compared with the loops, and how close they have to be."""

from collections.abc import Callable
from functools import partial
from importlib import import_module
from inspect import isabstract
from pathlib import Path
from pkgutil import walk_packages
from typing import Any, NamedTuple

import loops
import numpy as np

import ministn
from ministn import fast, ops

# dtype: (rtol, atol). The values are of the order of 1. Largest differences over tests/test_ops.py:
# forward 1.5e-6 and 2e-15; gradients 2.1e-6, and 2.7e-10, which is the difference quotient's own.
TOLERANCE = {np.float32: (1e-5, 2e-6), np.float64: (1e-12, 1e-13)}
GRADIENT_TOLERANCE = {np.float32: (1e-5, 4e-6), np.float64: (1e-8, 2e-9)}
FORWARD, GRADIENT = TOLERANCE[np.float32], GRADIENT_TOLERANCE[np.float32]


def normal(*shape: int) -> np.ndarray:
    """Random numbers that depend on the shape alone and are the same in float32 and float64."""
    return np.random.default_rng(shape).normal(size=shape).astype(np.float32).astype(np.float64)


def concrete(base: type) -> list[type]:
    """Every class of ministn, in whatever module, that is a ``base`` and not abstract, by name."""
    for module in walk_packages(ministn.__path__, "ministn."):
        if not module.name.endswith(".__main__"):
            import_module(module.name)
    found, left = [], [base]
    while left:
        left += left[0].__subclasses__()
        found.append(left.pop(0))
    ours = {kind for kind in found if kind.__module__.split(".")[0] == "ministn"}
    return sorted((kind for kind in ours if not isabstract(kind)), key=lambda kind: kind.__name__)


def operations() -> list[str]:
    """Whatever has a backward pass in a file of ops, exported or not."""
    found = set()
    for path in Path(ops.__file__).parent.glob("[!_]*.py"):
        module = import_module(f"ministn.ops.{path.stem}")
        own = {k for k, x in vars(module).items() if getattr(x, "__module__", 0) == module.__name__}
        found |= {name for name in own if own.issuperset(pair(name))}
    return sorted(found)


def functions() -> list[str]:
    """What ops exports without a backward pass."""
    return sorted(set(ops.__all__) - {name for op in operations() for name in pair(op)})


def pair(name: str) -> tuple[str, str]:
    """Of an operation, both names."""
    return name, f"{name}_backward"


class Case(NamedTuple):
    """One line of a table: an operation and what to feed it."""

    name: str  # of the operation in the module under test and in the loops
    arrays: dict[str, np.ndarray]  # float arguments, in the order in which backward returns them
    options: dict[str, Any] = {}  # noqa: RUF012  (never written to)

    def __str__(self) -> str:
        shapes = [f"{key}{array.shape}" for key, array in self.arrays.items()]
        return f"{self.name} {' '.join(shapes)} {self.options or ''}".replace(" ", "-").strip("-")


def check_function(module: Any, case: Case, dtypes: tuple = tuple(TOLERANCE)) -> None:
    """What has no backward pass, against the loops."""
    expected = getattr(loops, case.name)(**case.arrays, **case.options)
    for dtype in dtypes:
        arrays = {name: array.astype(dtype) for name, array in case.arrays.items()}
        y = getattr(module, case.name)(**arrays, **case.options)
        compare("y", y, expected, *TOLERANCE[y.dtype.type])


def difference_quotient(loss: Callable[[np.ndarray], Any], array: np.ndarray) -> np.ndarray:
    """Central differences of loss with respect to every element of array."""
    step, gradient = 1e-5, np.zeros(array.shape)
    for i in np.ndindex(array.shape):
        above, below = array.copy(), array.copy()
        above[i] += step
        below[i] -= step
        gradient[i] = (loss(above) - loss(below)) / (2 * step)
    return gradient


def check_against_loops(module: Any, case: Case, dtypes: tuple = tuple(TOLERANCE)) -> None:
    """Forward against the loops, backward against the loops' difference quotient."""
    reference, options = getattr(loops, case.name), case.options
    expected = reference(**case.arrays, **options)
    dy = normal(*expected.shape, 1)[..., 0]
    gradients = {
        name: difference_quotient(
            lambda a, name=name: (dy * reference(**{**case.arrays, name: a}, **options)).sum(),
            array,
        )
        for name, array in case.arrays.items()
    }
    for dtype in dtypes:
        arrays = {name: array.astype(dtype) for name, array in case.arrays.items()}
        y, cache = getattr(module, case.name)(**arrays, **options)
        compare("y", y, expected, *TOLERANCE[dtype])
        backward = getattr(module, f"{case.name}_backward")
        if np.ndim(y):  # a loss takes its own gradient, a number, last
            assert y.dtype == dtype
            found = listed(backward(dy.astype(dtype), cache))
        else:
            found = listed(backward(cache, float(dy)))
        for (name, gradient), got in zip(gradients.items(), found, strict=False):
            assert got.dtype == dtype, name
            compare(f"d{name}", got, gradient, *GRADIENT_TOLERANCE[dtype])
        assert found[len(gradients) :] in ([], [None]), "a gradient of something not passed"


def listed(gradients: Any) -> list:
    """The gradients that a backward pass returned, one or several, as a list."""
    return list(gradients) if isinstance(gradients, tuple) else [gradients]


def compare(name: str, got: Any, expected: Any, rtol: float, atol: float) -> None:
    """Equal shapes and close values; both may be None."""
    if expected is None:
        assert got is None, name
        return
    assert np.shape(got) == np.shape(expected), name
    np.testing.assert_allclose(got, expected, rtol, atol, err_msg=name)


def tf32(array: np.ndarray) -> np.ndarray:
    """float32 values rounded to TF32's 10 bits, of two equally near ones to the larger."""
    bits = array.astype(np.float32).view(np.uint32)
    return ((bits + 0x1000) & ~np.uint32(0x1FFF)).view(np.float32)


def float32(*arrays):
    return [array.astype(np.float32) for array in arrays]


def as_view(device, array):
    """A view of a device's array with the values of ``array``."""
    return device.to_gpu(np.repeat(array, 2, axis=-1))[..., ::2]


def block_arguments(x, weight):
    """x of the order of 1, and weights that leave z there, as the tolerances expect."""
    return normal(*x), normal(*weight) / np.prod(weight[:-1]) ** 0.5, normal(weight[-1])


def check_block(
    arrays: list[np.ndarray],
    need_dx: bool = True,
    check: Callable[[str, Any, Any], None] | None = None,
    **options: Any,
) -> None:
    """The fast block in float32 against the readable one in float64.

    check: a function of (name, got, expected) instead of ``compare`` with the tolerances above.
    """
    expected, ops_cache = ops.conv_block(*arrays, **options)
    dy = normal(*expected.shape)
    y, cache = fast.conv_block(*float32(*arrays), **options)
    gradients = fast.conv_block_backward(*float32(dy), cache, need_dx)
    (check or partial(compare, rtol=FORWARD[0], atol=FORWARD[1]))("y", y, expected)
    for name, got, want in zip(
        ("dx", "dweight", "dbias"),
        gradients,
        ops.conv_block_backward(dy, ops_cache, need_dx),
        strict=True,
    ):
        (check or partial(compare, rtol=GRADIENT[0], atol=GRADIENT[1]))(name, got, want)
        assert got is None or got.dtype == np.float32
