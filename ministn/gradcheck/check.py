"""Finite differences against a backward pass that was written by hand.

For one array and one direction in it the function is evaluated at five points, a step ``eps``
apart. The four slopes between them give two things:

* the derivative, by the central difference of fourth order;
* the roughness: how far the four slopes are from a straight line. Where the function is smooth
  only rounding is left of it (the slopes bend by eps squared); at a kink of a ReLU, a change of
  a pooling winner or a pixel border it is about as large as the jump of the slope.

A rough place is reported as a kink and left out, but only if its roughness is large enough to
explain the difference from the backward pass: a wrong gradient beside a small kink still fails.
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from ministn.errors import ABOVE_0, check_numbers, check_plain
from ministn.randomness import generator

Index = tuple[int, ...]
Value = Callable[[], float]

# A correct one-sided derivative differs from the central difference at a kink by at most 1.7
# times the roughness (0.5 against 0.3 of the jump, for a kink exactly at the point).
KINK_EXPLAINS = 4.0

# Rounding of a function value v shows in a slope as about machine epsilon * |v| / eps. A sum of
# many terms rounds more than once.
ROUNDINGS = 16.0


class GradientError(AssertionError):
    """A backward pass disagrees with the finite differences.

    name, index: the array and its element; index is None if the whole array is to blame.
    analytic, numeric: the backward pass's value there and the finite difference.
    error: their relative difference, as ``check_gradients`` defines it.
    """

    def __init__(
        self,
        message: str,
        name: str,
        index: Index | None = None,
        analytic: float = np.nan,
        numeric: float = np.nan,
        error: float = np.inf,
    ) -> None:
        super().__init__(message)
        self.name, self.index = name, index
        self.analytic, self.numeric, self.error = analytic, numeric, error

    @property
    def place(self) -> str:
        """The array and the element, "weight[2, 0, 1]"; the array alone if all of it is wrong."""
        return self.name + ("" if self.index is None else written(self.index))


class KinkError(GradientError):
    """Too many of the places tried are kinks: the backward pass could not be judged."""


class Report(NamedTuple):
    """What a check found that did not fail."""

    error: float  # largest relative error
    where: str  # the array and the element, or the random direction, of that error
    points: int  # elements and directions tried
    kinks: tuple[str, ...]  # those of them where the function is not differentiable


def check_gradients(
    value: Value,
    arrays: dict[str, np.ndarray],
    gradients: dict[str, Any],
    *,
    eps: float = 1e-5,
    tolerance: float = 1e-6,
    elements: int = 400,
    directions: int = 6,
    max_kinks: float = 0.1,
    seed: int = 0,
) -> Report:
    """Check the gradients of a scalar function of float64 arrays by finite differences.

    value: returns the scalar at the present contents of ``arrays``, which are changed in place
    during the check and restored bit for bit. gradients: what the backward pass gives, by name.
    An array of at most ``elements`` elements is checked element by element; a larger one along
    ``directions`` random directions of length 1 (elements equal but for their sign) and, where
    one of them fails, by halving it until the element to blame is found.

    The relative error is the difference over the largest of both derivatives and the gradient's
    root mean square, enlarged so that what the rounding of the function can cause passes. An
    error below ``tolerance`` passes.

    Raises GradientError at the first place that fails, or where the derivative drowns in rounding;
    KinkError if more than the share ``max_kinks`` of all places are kinks, or if all places of one
    array are; TypeError for arrays that are not float64 and gradients that are not real numbers;
    ValueError where there is nothing to check; UserError for an eps or tolerance that cannot be.
    """
    check_numbers(ABOVE_0, eps=eps, tolerance=tolerance)
    if set(arrays) != set(gradients):
        raise ValueError(f"gradients must be given for {sorted(arrays)}, got {sorted(gradients)}")
    lines = [_Line(name, value, x, gradients[name], eps, tolerance) for name, x in arrays.items()]
    rng = generator(seed, "gradcheck")
    largest, where, points = 0.0, "nowhere", 0
    kinks: list[str] = []
    for line in lines:
        name, smooth = line.name, 0
        for place, direction in _places(line.array, elements, directions, rng):
            points += 1
            point = line.point(direction)
            if point.kink:
                kinks.append(name + place)
            elif point.drowned:
                raise GradientError(
                    f"{name}{place}: the difference drowns in rounding, which hides derivatives "
                    f"below {point.drowned:.1g}: leave large constants out of the value",
                    name,
                )
            elif not point.error < tolerance:  # catches NaN too
                raise line.failure(direction)
            else:
                smooth += 1
                if point.error >= largest:
                    largest, where = point.error, name + place
        if line.array.size and not smooth:
            raise KinkError(f"{name}: every place tried is a kink; move its values", name)
    if not points:
        raise ValueError("arrays have no element to check")
    if len(kinks) > max_kinks * points:
        raise KinkError(
            f"{len(kinks)} of {points} places are kinks, at most {max_kinks:.0%} may be; "
            f"the first are {', '.join(kinks[:3])}",
            kinks[0],
        )
    return Report(largest, where, points, tuple(kinks))


def check_operation(
    forward: Callable[..., tuple[Any, Any]],
    backward: Callable[..., Any],
    arrays: dict[str, np.ndarray],
    *,
    seed: int = 0,
    **options: Any,
) -> Report:
    """Check an operation's backward pass at float64 ``arrays``, the forward's named arguments.

    forward(**arrays) -> y, cache. backward(dy, cache) -> their gradients, in the order of
    ``arrays``; None is skipped. The scalar is sum(y * dy) with a random dy. options: as for
    ``check_gradients``, which also says what is raised.
    """
    value, arrays, gradients = operation_problem(forward, backward, arrays, seed)
    return check_gradients(value, arrays, gradients(), seed=seed, **options)


class Problem(NamedTuple):
    """Something to check: the arguments of ``check_gradients``, the gradients still to compute."""

    value: Value
    arrays: dict[str, np.ndarray]
    gradients: Callable[[], dict[str, Any]]


def operation_problem(
    forward: Callable[..., tuple[Any, Any]],
    backward: Callable[..., Any],
    arrays: dict[str, np.ndarray],
    seed: int = 0,
) -> Problem:
    """An operation's backward pass as a Problem, see ``check_operation``."""
    rng = generator(seed, "gradcheck projection")
    shape = np.shape(forward(**arrays)[0])
    dy = rng.uniform(0.5, 1.5, shape) * rng.choice([-1.0, 1.0], shape)

    def gradients() -> dict[str, Any]:
        found = backward(dy, forward(**arrays)[1])
        found = found if isinstance(found, tuple) else (found,)
        found = [gradient for gradient in found if gradient is not None]
        return dict(zip(arrays, found, strict=True))

    return Problem(lambda: float(np.sum(forward(**arrays)[0] * dy)), arrays, gradients)


class _Point(NamedTuple):
    analytic: float
    numeric: float
    error: float
    kink: bool
    drowned: float  # what rounding can hide of the derivative, where that is all there is; else 0


class _Line:
    """Finite differences of ``value`` along directions in one array."""

    def __init__(
        self,
        name: str,
        value: Value,
        array: np.ndarray,
        gradient: Any,
        eps: float,
        tolerance: float,
    ) -> None:
        if not isinstance(array, np.ndarray) or array.dtype != np.float64:
            raise TypeError(f"{name} must be a float64 NumPy array")
        check_plain(name, array)
        if hasattr(gradient, "dtype"):
            check_plain(f"the gradient of {name}", gradient)
        gradient = np.asarray(gradient)
        if gradient.dtype.kind not in "iuf":
            raise TypeError(f"the gradient of {name} must be real numbers, got {gradient.dtype}")
        if gradient.shape != array.shape:
            raise GradientError(
                f"{name}: the gradient must have shape {array.shape}, got {gradient.shape}", name
            )
        self.name, self.value, self.array, self.eps = name, value, array, eps
        self.gradient = gradient
        self.tolerance = tolerance
        self.typical = float(np.linalg.norm(self.gradient)) / np.sqrt(max(1, array.size))

    def point(self, direction: np.ndarray) -> _Point:
        """Both derivatives along ``direction`` and what to think of them."""
        values = self._values(direction)
        slopes = np.diff(values) / self.eps
        numeric = float(7 * (slopes[1] + slopes[2]) - (slopes[0] + slopes[3])) / 12
        analytic = float(np.sum(self.gradient * direction))
        hidden = ROUNDINGS * np.finfo(float).eps * float(np.abs(values).max()) / self.eps
        scale = max(abs(analytic), abs(numeric), self.typical)
        # Where hidden is not negligible the error is measured against what can be seen.
        difference, scale = abs(analytic - numeric), scale + hidden / self.tolerance
        at = np.array([-1.5, -0.5, 0.5, 1.5])
        straight = slopes.mean() + at * (at @ slopes) / (at @ at)
        roughness = float(np.abs(slopes - straight).max())
        kink = roughness > self.tolerance * scale and difference < KINK_EXPLAINS * roughness
        seen = max(abs(analytic), abs(numeric), self.typical) or 1.0  # 1: there seems to be none
        drowned = hidden if hidden >= seen else 0.0
        return _Point(analytic, numeric, difference / scale, kink, drowned)

    def _values(self, direction: np.ndarray) -> np.ndarray:
        """The function at -2, -1, 0, 1 and 2 steps along ``direction``."""
        home = self.array.copy()
        values = np.empty(5)
        try:
            for i, steps in enumerate((-2, -1, 0, 1, 2)):
                self.array[...] = home + steps * self.eps * direction
                values[i] = self.value()
        finally:
            self.array[...] = home
        return values

    def failure(self, direction: np.ndarray) -> GradientError:
        """The error to raise for a failed direction: halve it towards the larger difference."""
        to_blame = np.flatnonzero(direction)
        point = self.point(direction)
        while len(to_blame) > 1:
            halves = np.array_split(to_blame, 2)
            points = [self.point(_only(half, direction)) for half in halves]
            worse = int(np.argmax([abs(p.analytic - p.numeric) * (not p.kink) for p in points]))
            to_blame, point = halves[worse], points[worse]
        index = tuple(int(i) for i in np.unravel_index(to_blame[0], self.array.shape))
        sign = np.sign(direction[index])
        analytic, numeric = sign * point.analytic, sign * point.numeric
        return GradientError(
            f"{self.name}{written(index)}: the backward pass gives {analytic:.9g}, "
            f"finite differences {numeric:.9g} (relative error {point.error:.1e}, "
            f"allowed {self.tolerance:.0e})",
            self.name,
            index,
            analytic,
            numeric,
            point.error,
        )


def written(index: Index) -> str:
    """An index as it is written: "[2, 0, 1]"."""
    return f"[{', '.join(map(str, index))}]"


def _only(indices: np.ndarray, direction: np.ndarray) -> np.ndarray:
    """``direction`` at the given flat indices, zero elsewhere, at length 1."""
    part = np.zeros_like(direction)
    part.flat[indices] = direction.flat[indices]
    return part / np.linalg.norm(part)


def _places(
    array: np.ndarray, elements: int, directions: int, rng: np.random.Generator
) -> Iterator[tuple[str, np.ndarray]]:
    """Every element of a small array, or random directions in a large one, each with its name."""
    if array.size <= elements:
        ones = np.ones(array.shape)
        for flat, index in enumerate(np.ndindex(array.shape)):
            yield written(index), _only(np.array([flat]), ones)
    else:
        for number in range(1, directions + 1):
            signs = rng.choice([-1.0, 1.0], array.shape)
            yield f" along direction {number}", signs / np.sqrt(array.size)
