"""Errors a person can act on, and the checks of numbers and of every operation's arrays."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from math import inf, isfinite
from typing import Any

import numpy as np

FLOATS = (np.dtype(np.float32), np.dtype(np.float64))
# Of NumPy's own arrays; a masked array or a matrix has dtype and shape, but computes otherwise.
PLAIN = (np.ndarray, np.memmap)
LONGEST = 2**31 - 1  # kernels count elements in int

# In words: from, up to but not including. A GPU takes smaller float32 numbers than that for 0.
RANGES = {
    "at least 0 and below 1": (0.0, 1.0),
    "a number from 0 up": (0.0, inf),
    "a number from 1.2e-38 up": (float(np.finfo(np.float32).tiny), inf),
}
FROM_0_BELOW_1, FROM_0, ABOVE_0 = RANGES


class UserError(Exception):
    """Something the person at the keyboard can put right.

    The message is one line: what is wrong, where, and what to do. Command lines print it and
    exit with a non-zero status; they never show a traceback for it.
    """


def is_whole(value: Any) -> bool:
    """Whether it is a whole number, Python's or NumPy's."""
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


def is_number(value: Any) -> bool:
    """Whether it is a number, Python's or NumPy's."""
    return is_whole(value) or isinstance(value, (float, np.floating))


def check_numbers(wanted: str, **numbers: Any) -> None:
    """Raise UserError naming the first that is no number, or not within ``wanted``, of RANGES."""
    least, below = RANGES[wanted]
    for name, number in numbers.items():
        if not is_number(number) or not least <= number < below:
            raise UserError(f"{name} must be {wanted}, got {number!r}")


def check_whole(least: int = 1, /, **numbers: Any) -> None:
    """Raise UserError naming the first that is not a whole number from ``least`` to LONGEST."""
    for name, number in numbers.items():
        if not is_whole(number):
            raise UserError(f"{name} must be a whole number, got {number!r}")
        if number < least:
            raise UserError(f"{name} must be at least {least}, got {number}")
        if number > LONGEST:
            raise UserError(f"{name} must be at most {LONGEST}, got {number}")


def check_flags(**flags: Any) -> None:
    """Raise UserError naming the first that is neither True nor False."""
    for name, flag in flags.items():
        if not isinstance(flag, (bool, np.bool_)):
            raise UserError(f"{name} must be True or False, got {flag!r}")


def check_arrays(**arrays: tuple[Any, str]) -> dict[str, int]:
    """Check the shapes and dtypes of an operation's arrays before any arithmetic.

    A shape is written in letters, each standing for one size throughout the call; a number
    stands for itself:

        check_arrays(x=(x, "N H W C"), weight=(weight, "kh kw C K"), theta=(theta, "N 2 3"))

    Returns the size of every letter. All arrays must have one dtype, float32 or float64.

    Raises TypeError for something that is not a floating-point array or for mixed dtypes, and
    ValueError for a shape, naming the argument, the expected and the received shape.
    """
    sizes: dict[str, int] = {}
    first, common = "", None
    for name, (array, letters) in arrays.items():
        if type(array) is not np.ndarray:
            check_plain(name, array)
        if array.dtype is not common:
            if array.dtype not in FLOATS:
                raise TypeError(f"{name} must be float32 or float64, got {array.dtype}")
            if common is None:
                first, common = name, array.dtype
            elif array.dtype != common:
                raise TypeError(
                    f"{name} must have the dtype of {first}, {common}, got {array.dtype}"
                )
        axes, shape = _axes(letters), array.shape
        fits = len(axes) == len(shape)
        before = sizes.copy()
        for axis, got in zip(axes, shape, strict=False):
            want = axis if isinstance(axis, int) else sizes.setdefault(axis, got)
            fits = fits and want == got
        if not fits:
            wanted = ", ".join(f"{x}={before[x]}" if x in before else f"{x}" for x in axes)
            raise ValueError(f"{name} must have shape ({wanted}), got {tuple(shape)}")
    return sizes


@lru_cache(maxsize=1024)
def _axes(letters: str) -> tuple[str | int, ...]:
    """Read once: there are some hundred checks in a step, which may take a millisecond."""
    return tuple(int(axis) if axis.isdigit() else axis for axis in letters.split())


def check_plain(name: str, array: Any) -> None:
    """Raise TypeError, under the argument's name, for what is no array, or one of another kind."""
    if not hasattr(array, "dtype") or not hasattr(array, "shape"):
        raise TypeError(f"{name} must be an array, got {type(array).__name__}")
    ours = isinstance(array, (np.ndarray, np.generic))
    if ours and type(array) not in PLAIN:
        raise TypeError(f"{name} must be a plain array, got {type(array).__name__}")


def check_together(**arrays: Any) -> None:
    """Raise ValueError, under both names, unless all are as long as the first."""
    lengths = {name: array.shape[0] if array.shape else 0 for name, array in arrays.items()}
    (first, length), *others = lengths.items()
    for name, other in others:
        if other != length:
            raise ValueError(f"there must be {name} for each of {length} {first}, got {other}")


def as_float64(name: str, array: Any) -> np.ndarray:
    """A plain array of whole numbers or floats, in float64.

    Raises TypeError under the argument's name.
    """
    check_plain(name, array)
    if array.dtype.kind not in "iuf":
        raise TypeError(f"{name} must be an array of numbers, got {array.dtype}")
    return np.asarray(array, np.float64)


def check_written(**arrays: np.ndarray) -> None:
    """Raise ValueError naming the first array that is to be written and is read-only."""
    for name, array in arrays.items():
        if not array.flags.writeable:
            raise ValueError(f"{name} is read-only, and would be written")


def check_number(
    name: str, value: Any, low: float = -inf, high: float = inf, *, below: bool = False
) -> float:
    """A finite number from low to high, NumPy's too, as Python's; less than high if ``below``.

    Raises ValueError under the argument's name.
    """
    possible = is_number(value) and isfinite(value)
    if not possible or not low <= value <= high or (below and value == high):
        bounds = [f"of at least {low:g}"] if low > -inf else []
        bounds += [f"{'below' if below else 'at most'} {high:g}"] if high < inf else []
        limits = " " + " and ".join(bounds) if bounds else ""
        raise ValueError(f"{name} must be a finite number{limits}, got {value!r}")
    return float(value)


def check_kind(name: str, value: Any, *kinds: type) -> None:
    """Raise TypeError, under the argument's name, unless the value is of one of these kinds."""
    if not isinstance(value, kinds):
        got = f"the class {value.__name__}" if isinstance(value, type) else type(value).__name__
        wanted = " or ".join(
            f"{'an' if kind.__name__[0] in 'AEIOU' else 'a'} {kind.__name__}" for kind in kinds
        )
        raise TypeError(f"{name} must be {wanted}, got {got}")


def check_count(name: str, value: Any) -> int:
    """The value as an int, be it Python's or NumPy's.

    Raises ValueError, under the argument's name, unless it is whole and at least 1, and no more
    than an axis can have.
    """
    if not is_whole(value) or value < 1:
        raise ValueError(f"{name} must be a whole number of at least 1, got {value!r}")
    if value > LONGEST:
        raise ValueError(f"{name} must be at most {LONGEST}, got {value}")
    return int(value)


def check_list(name: str, values: Any, count: int | None = None) -> tuple[float, ...]:
    """Finite numbers in a row, ``count`` of them, as Python's.

    Raises ValueError under the argument's name.
    """
    wanted = f"{'' if count is None else f'{count} '}numbers"
    if not isinstance(values, (list, tuple, *PLAIN)) or np.ndim(values) != 1:
        raise ValueError(f"{name} must be {wanted}, got {values!r}")
    if count is not None and len(values) != count:
        raise ValueError(f"{name} must be {wanted}, got {len(values)}")
    return tuple(check_number(f"{name}[{i}]", value) for i, value in enumerate(values))


def check_index(name: str, value: Any) -> int:
    """The value as an int, be it Python's or NumPy's: a seed, or the number of a step.

    Raises ValueError, under the argument's name, unless it is whole and from 0 to 2^64 - 1.
    """
    if not is_whole(value) or not 0 <= value < 2**64:
        raise ValueError(f"{name} must be a whole number from 0 to 2^64 - 1, got {value!r}")
    return int(value)


def check_share(name: str, value: Any) -> float:
    """The value as a float, be it Python's or NumPy's.

    Raises ValueError, under the argument's name, unless it is at least 0 and below 1.
    """
    if not is_number(value) or not 0 <= value < 1:
        raise ValueError(f"{name} must be at least 0 and below 1, got {value!r}")
    return float(value)


def check_float32(**arrays: Any) -> None:
    """Raise TypeError naming the first array that is not float32."""
    for name, array in arrays.items():
        if array.dtype != np.float32:
            raise TypeError(f"{name} must be float32, got {array.dtype}: float64 is for ops")


@contextmanager
def named(path: str) -> Iterator[None]:
    """Errors of arguments in this block begin with the innermost layer's path, if it has one."""
    try:
        yield
    except (TypeError, ValueError) as error:
        if path and not hasattr(error, "layer"):
            error.layer = path  # type: ignore[union-attr]
            error.args = (f"{path}: {error}",)
        raise
