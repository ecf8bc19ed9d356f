"""Errors a person can act on, and the one check every operation makes of its arrays."""

from typing import Any

import numpy as np

FLOATS = (np.dtype(np.float32), np.dtype(np.float64))


class UserError(Exception):
    """Something the person at the keyboard can put right.

    The message is one line: what is wrong, where, and what to do. Command lines print it and
    exit with a non-zero status; they never show a traceback for it.
    """


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
    first = ""
    for name, (array, letters) in arrays.items():
        if not hasattr(array, "dtype") or not hasattr(array, "shape"):
            raise TypeError(f"{name} must be an array, got {type(array).__name__}")
        if array.dtype not in FLOATS:
            raise TypeError(f"{name} must be float32 or float64, got {array.dtype}")
        first = first or name
        if array.dtype != arrays[first][0].dtype:
            raise TypeError(
                f"{name} must have the dtype of {first}, {arrays[first][0].dtype}, "
                f"got {array.dtype}"
            )
        axes = letters.split()
        expected = [int(axis) if axis.isdigit() else sizes.get(axis) for axis in axes]
        if len(axes) != array.ndim or any(
            want is not None and want != got
            for want, got in zip(expected, array.shape, strict=True)
        ):
            wanted = ", ".join(
                axis if want is None or axis.isdigit() else f"{axis}={want}"
                for axis, want in zip(axes, expected, strict=True)
            )
            raise ValueError(f"{name} must have shape ({wanted}), got {tuple(array.shape)}")
        sizes.update(
            (axis, got) for axis, got in zip(axes, array.shape, strict=True) if not axis.isdigit()
        )
    return sizes


def check_kind(name: str, value: Any, kind: type) -> None:
    """Raise TypeError, under the argument's name, unless the value is a ``kind``."""
    if not isinstance(value, kind):
        got = f"the class {value.__name__}" if isinstance(value, type) else type(value).__name__
        raise TypeError(f"{name} must be a {kind.__name__}, got {got}")


def check_count(name: str, value: Any) -> int:
    """The value as an int, be it Python's or NumPy's.

    Raises ValueError, under the argument's name, unless it is whole and at least 1.
    """
    if not isinstance(value, (int, np.integer)) or value < 1:
        raise ValueError(f"{name} must be a whole number of at least 1, got {value!r}")
    return int(value)


def check_share(name: str, value: Any) -> float:
    """The value as a float, be it Python's or NumPy's.

    Raises ValueError, under the argument's name, unless it is at least 0 and below 1.
    """
    if not isinstance(value, (int, float, np.integer, np.floating)) or not 0 <= value < 1:
        raise ValueError(f"{name} must be at least 0 and below 1, got {value!r}")
    return float(value)


def check_float32(**arrays: Any) -> None:
    """Raise TypeError naming the first array that is not float32."""
    for name, array in arrays.items():
        if array.dtype != np.float32:
            raise TypeError(f"{name} must be float32, got {array.dtype}: float64 is for ops")
