"""What a library's numbers are: as expected, those of another documented choice, or wrong."""

import json
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import numpy as np

from ministn.conformance.vectors import FILE

Group = dict[str, Any]
Found = Sequence[dict[str, Any]]  # {quantity: numbers} for each of a group's cases

AGREES, ERRS = "agrees", "errs"
FIELDS = "kind", "transform", "kernel", "border", "coordinates"  # of a group, if it has them


class Runner(Protocol):
    """A library: each method gives what it makes of a group, or None if it does not offer that.

    ``sample`` gives a dictionary for each of the group's vectors and one for ``together`` last. A
    quantity that the library has not, as a slope, is left out.
    """

    name: str
    version: str
    tolerance: float

    def grid(self, group: Group) -> Found | None: ...

    def sample(self, group: Group) -> Found | None: ...

    def warp(self, group: Group) -> Found | None: ...


def groups() -> list[Group]:
    """Those of vectors.json."""
    found: list[Group] = json.loads(FILE.read_text())["groups"]
    return found


def outcome(runner: Runner) -> list[dict[str, Any]]:
    """For each group its fields, how many numbers are what, and the wrong ones.

    counts: {quantity: {"agrees", the name of a choice, or "errs": how many}}, None where the
    library does not offer the group.
    """
    rows: list[dict[str, Any]] = []
    for group in groups():
        found = getattr(runner, group["kind"])(group)
        fields = {key: group[key] for key in FIELDS if key in group}
        if "image" in group:
            fields["size"] = [len(group["image"]), len(group["image"][0])]
        if found is None:
            rows.append(fields | {"counts": None, "errors": []})
            continue
        counts: dict[str, dict[str, int]] = {}
        errors = []
        for case, numbers in zip(cases(group), found, strict=True):
            for quantity, got in numbers.items():
                if quantity not in case["expected"]:
                    continue
                for verdict, place, expected, value in judged(
                    case, quantity, got, runner.tolerance
                ):
                    of = counts.setdefault(quantity, {})
                    of[verdict] = of.get(verdict, 0) + 1
                    if verdict == ERRS:
                        errors.append(
                            {**_asked(case), "quantity": quantity, "at": place,
                             "expected": expected, "found": value}
                        )  # fmt: skip
        rows.append(fields | {"counts": counts, "errors": errors})
    return rows


def cases(group: Group) -> list[Group]:
    """Its vectors, and last what is asked of all together."""
    return group["vectors"] + ([group["together"]] if "together" in group else [])


def judged(
    case: Group, quantity: str, got: Any, tolerance: float
) -> Iterator[tuple[str, list[int], Any, Any]]:
    """(verdict, index, expected, found) of each number of a quantity."""
    found = as_array(got)
    expected = as_array(case["expected"][quantity])
    if found.shape != expected.shape:
        yield ERRS, [], None, None
        return
    verdicts = np.full(expected.shape, ERRS, object)
    others = case.get("alternatives", {})
    for name, numbers in reversed([(AGREES, case["expected"]), *others.items()]):
        if quantity in numbers:
            verdicts[same(found, as_array(numbers[quantity]), tolerance)] = name
    for place in np.ndindex(expected.shape):
        want, value = float(expected[place]), float(found[place])
        yield str(verdicts[place]), list(place), plain(want), plain(value)


def same(found: np.ndarray, wanted: np.ndarray, tolerance: float) -> np.ndarray:
    """Where numbers are as wanted: NaN for NaN, others within the tolerance of 1 or of them."""
    close = np.abs(found - wanted) <= tolerance * np.maximum(1, np.abs(wanted))
    return close | (np.isnan(found) & np.isnan(wanted))


def as_array(numbers: Any) -> np.ndarray:
    """JSON's numbers, whose null is NaN."""
    return np.array(numbers, np.float64)


def plain(number: float) -> float | str:
    """As JSON has it; null would be nothing."""
    return float(number) if np.isfinite(number) else str(number)


def totals(rows: Sequence[dict[str, Any]]) -> dict[str, int]:
    """How many numbers are what, over groups."""
    found: dict[str, int] = {}
    for row in rows:
        for of in (row["counts"] or {}).values():
            for verdict, count in of.items():
                found[verdict] = found.get(verdict, 0) + count
    return found


def _asked(case: Group) -> dict[str, Any]:
    return {key: case[key] for key in ("place", "point", "theta", "size", "dy") if key in case}
