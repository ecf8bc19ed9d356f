"""What is thrown at public functions, and what may come of it: see test_odd_arguments.py."""

import re
import tempfile
from collections.abc import Callable
from fractions import Fraction
from math import inf, nan
from typing import Any, NamedTuple

import numpy as np

from ministn.errors import UserError, is_number, is_whole

RNG = np.random.default_rng(0)


def floats(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape).astype(np.float32)


class Call(NamedTuple):
    """A function, and arguments that are right. also: words of errors that stand for a name.

    written: the arguments that it writes, and so cannot take read-only. any_kind: those of which
    other kinds than that of the right one are right too.
    """

    function: Callable[..., Any]
    arguments: dict[str, Any]
    also: str = ""
    written: str = ""
    any_kind: str = ""


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


def masked(a):
    return np.ma.masked_array(a, mask=np.arange(a.size).reshape(a.shape) == 0)


SAME = {  # the same numbers, lying otherwise in memory
    "read-only": read_only,
    "Fortran": lambda a: np.asfortranarray(a),
    "strided": every_second,
    "reversed": lambda a: a[::-1].copy()[::-1],
    "memory-mapped": memory_mapped,
}
EQUAL = {  # may be refused; what is computed is the right value
    "big-endian": lambda a: a.astype(a.dtype.newbyteorder(">")),
    "object": lambda a: a.astype(object),
    "list": lambda a: a.tolist(),
    "float64": lambda a: a.astype(np.float64),
}
WRONG = {  # are refused
    "masked": masked,
    "complex": lambda a: a.astype(np.complex64),
    "text": lambda a: a.astype(str),
    "halves": lambda a: a + 0.5 if a.dtype.kind in "iu" else a.astype(str),
    "bool": lambda a: a.astype(bool) if a.dtype != bool else a.astype(str),
}
ANY = {  # may be refused or computed
    "float16": lambda a: a.astype(np.float16),
    "None": lambda a: None,
    "number": lambda a: 1.0,
    "a scalar": lambda a: a.dtype.type(1),
    "one axis more": lambda a: a[None],
    "no axes": lambda a: a[(0,) * a.ndim].reshape(()),
    "one axis less": lambda a: a[0],
    "empty": lambda a: a[:0],
    "one": lambda a: a[:1],
    "one less": lambda a: a[..., :-1],
    "NaN": lambda a: np.full_like(a, nan) if a.dtype.kind == "f" else a,
    "inf": lambda a: np.full_like(a, inf) if a.dtype.kind == "f" else a,
    "negative": lambda a: -np.abs(a) if a.dtype.kind in "if" else a,
    "int64": lambda a: a.astype(np.int64),
}
ARRAYS = SAME | EQUAL | WRONG | ANY

NUMBERS: list[Any] = [
    *(np.dtype(code).type(1) for code in "bBhHiIlLqQefdg?"),
    *(0, 1, -1, 2, 3, 10**30, True, False, None, nan, inf, -inf, 1e-320, 0.5, 1.5, -0.5, 1e300),
    *("1", b"1", "", [], [1], (), (1,), {}, 1j, Fraction(1, 2), np.ones(1), np.ones(()), np.nan),
    *(np.float32(nan), np.int64(-3), np.float16(0.5), np.str_("1"), object, len, np.complex64(1)),
]


def is_of_a_kind(value: Any, right: Any) -> bool:
    """Whether what was taken for ``right`` can mean the same: a whole number for a whole number."""
    if isinstance(right, (bool, np.bool_)):
        return isinstance(value, (bool, np.bool_))
    if is_whole(right):
        return is_whole(value)
    if is_number(right):
        return is_number(value)
    if isinstance(right, (tuple, list)):
        return isinstance(value, (tuple, list, np.ndarray))
    if callable(right):
        return callable(value)
    ours = [cls for cls in type(right).__mro__ if cls.__module__.startswith("ministn")]
    return isinstance(value, ours[-1] if ours else type(right))


# -- what comes of it ----------------------------------------------------------------------------


def numbers(value: Any) -> list[np.ndarray]:
    """In what a function returns, without its cache."""
    if isinstance(value, tuple):
        return numbers(value[0]) if value else []
    made = isinstance(value, (np.ndarray, np.generic, int, float))
    return [np.asarray(value)] if made else []


def fresh(value: Any) -> Any:
    return value.copy() if type(value) is np.ndarray else value


def result(call: Call, arguments: dict[str, Any]) -> list[np.ndarray]:
    """What it returns, and what it has made of its arrays."""
    with np.errstate(all="ignore"):
        value = call.function(**arguments)
    return numbers(value) + [a for a in arguments.values() if isinstance(a, np.ndarray)]


def check(call: Call, odd: dict[str, Any]) -> list[np.ndarray] | None:
    """The result, or None for a clear error, with all as it was before."""
    arguments = {key: fresh(value) for key, value in call.arguments.items()} | odd
    before = {key: fresh(value) for key, value in arguments.items()}
    try:
        return result(call, arguments)
    except (TypeError, ValueError, UserError) as error:
        said = str(error)
    assert "\n" not in said
    assert any(re.search(rf"\b{key}\b", said) for key in [*arguments, *call.also.split()]), said
    for key, value in before.items():
        if type(value) is np.ndarray:
            np.testing.assert_array_equal(arguments[key], value)
    return None
