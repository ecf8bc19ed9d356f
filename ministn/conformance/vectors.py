"""Makes vectors.json from the formulas: the same text every time, on every machine."""

import json
from collections.abc import Iterator
from fractions import Fraction
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

from ministn.conformance.formulas import (
    BORDERS,
    COORDINATES,
    DERIVATION,
    EXPECTED,
    KERNELS,
    Choice,
    coordinate_of,
    dtheta,
    grid,
    sample,
    warp,
)

FILE = Path(__file__).parent / "vectors.json"

USE = [
    "1. Read the file and take one of groups. Its fields say what it is: kind, kernel, border, ...",
    "2. Of a sample, read group.image (rows of pixels) at vector.point (x, y) in your library, in",
    "   float64. One with coordinates in pixels takes vector.pixel instead.",
    "3. Of a grid, make that of vector.theta for an output of vector.size (h, w). Of a warp, read",
    "   group.image (rows of pixels of channels) at the grid of vector.theta.",
    "4. Compare with vector.expected: value, grid or y, and, where the library has slopes, dpoint",
    "   of a value, dtheta (by rows) for vector.dgrid, dtheta and dimage for vector.dy. Of samples",
    "   group.together has dimage, for one dy of each point, but for those with null.",
    "5. null is NaN. Allow 1e-12 of a number, or of 1: all are exact but for one rounding. What",
    "   differs may be of alternatives, by the name of a choice, see choices; else it is an error.",
]

# Named alternatives to what is expected, and where they are found.
CHOICES: dict[str, tuple[Choice, str]] = {
    "half-way: the even pixel": (
        Choice(ties="even"),
        "Of two pixels as near, kernel nearest takes the even one, as IEEE 754 rounds: PyTorch.",
    ),
    "half-way: the left pixel": (
        Choice(ties="left"),
        "Of two pixels as near, kernel nearest takes the left (upper) one.",
    ),
    "kink: the left cell": (
        Choice(slope="left"),
        "At a whole pixel the slope of bilinear is that of the cell to the left (above).",
    ),
    "kink: flat at the edge": (
        Choice(slope="flat"),
        "On the first and the last pixel, where coordinates are clipped, the slope of bilinear is "
        "0: PyTorch's border and reflection.",
    ),
    "bicubic: a = -3/4": (
        Choice(a=Fraction(-3, 4)),
        "Keys' kernel with a = -3/4, which is sharper but no longer exact for parabolas: PyTorch, "
        "ONNX, OpenCV.",
    ),
    "size 1: coordinate -1": (
        Choice(lone=-1),
        "With corners the only pixel of an output axis has the coordinate -1 of the first one: the "
        "reference implementation of ONNX.",
    ),
    "NaN: read as -1": (
        Choice(nan="-1"),
        "A coordinate that is NaN is clipped to -1: nothing shows that something is wrong.",
    ),
    "NaN: read as -1, with a = -3/4": (
        Choice(nan="-1", a=Fraction(-3, 4)),
        "The same with the other bicubic kernel.",
    ),
    "NaN: gives 0": (
        Choice(nan="0"),
        "A point with a coordinate that is NaN is 0: nothing shows that something is wrong.",
    ),
}

# Sizes at which no coordinate is rounded: n - 1, or n, are powers of two.
IMAGES = {
    "corners": [[3, -2, 7, 11, 5], [-13, 4, 17, 2, 19], [8, 23, -6, 29, 1]],
    "half pixels": [
        [3, -2, 7, 11, 5, 2, -9, 6],
        [-13, 4, 17, 2, 19, -3, 8, 12],
        [8, 23, -6, 29, 1, 14, -5, 10],
        [15, -7, 9, 0, 21, 18, 4, -1],
    ],
}
LONE = [[[3, -2, 7, 11, 5, 2, -9, 6]], [[4], [-6], [9], [1]]]  # of one row, of one column
COLOURED = [
    [[3, -2], [7, 11], [5, 2], [-9, 6]],
    [[-13, 4], [17, 2], [19, -3], [8, 12]],
    [[8, 23], [-6, 29], [1, 14], [-5, 10]],
]
THETAS = {
    "identity": [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]],
    "turned": [[0.8, -0.3, 0.1], [0.45, 0.7, -0.2]],
    "far": [[1.9, 0.35, -0.6], [-0.25, 2.3, 0.55]],
}
PROJECTIVE = [[0.9, 0.2, -0.1], [-0.15, 1.1, 0.3], [0.2, -0.3, 1.0]]
ENDS = [Fraction(n, 8) for n in (-9, 2, 10)]  # x of points on images of one row or column
KINKS = "half-way", "kink", "bicubic"  # how the names of choices of samplers begin
SIZES = (2, 3), (4, 5), (1, 4), (3, 1), (1, 1)


def places(height: int, width: int) -> dict[str, list[tuple[Any, Any]]]:
    """Points (x, y) in pixels, by what they are."""
    right, bottom = width - 1, height - 1
    return {
        "inside": [(1.25, 0.625), (right - 1.375, bottom - 0.25), (0.375, 1.75)],
        "on pixels": [(1, 1), (2, 0.75), (1.25, 1), (right - 1, bottom - 1)],
        "half-way": [(1.5, 0.75), (2.5, 1.25), (1.25, 0.5), (0.75, 1.5), (0.5, 0.5)],
        "on the border": [
            (0, 0.75), (right, 0.75), (1.25, 0), (1.25, bottom), (0, 0), (right, bottom),
        ],
        "just outside": [
            (-0.375, 0.75), (right + 0.625, 1.25), (1.25, -0.25), (2.75, bottom + 0.75),
            (-0.5, 1.25), (right + 0.5, 0.25),
        ],
        "on pixels outside": [(-1, 0.75), (width, 1.25), (1.25, -2), (2.75, height)],
        "outside": [
            (-1.625, 0.75), (right + 2.375, 1.25), (1.25, -2.375), (right + 20.25, -17.625),
        ],
        "not a number": [(None, 0.75), (1.25, None)],
    }  # fmt: skip


def document() -> str:
    """The text of vectors.json."""
    head = {
        "title": "Vectors of the grids, samplers and warps of spatial transformers, and of their "
        "slopes, in exact arithmetic",
        "version": 1,
        "made by": "ministn/conformance/vectors.py",
        "use": USE,
        "derivation": DERIVATION,
        "choices": {name: text for name, (_, text) in CHOICES.items()},
    }
    lines = [json.dumps(group, separators=(",", ":")) for group in groups()]
    text = json.dumps(head, indent=1)
    return text.removesuffix("\n}") + ',\n "groups": [\n' + ",\n".join(lines) + "\n ]\n}\n"


def groups() -> Iterator[dict[str, Any]]:
    """All groups of vectors."""
    yield from grids()
    yield from samples()
    yield from warps()


def vector(given: dict[str, Any], quantities: Any, allowed: tuple[str, ...]) -> dict[str, Any]:
    """What is given, what is expected of it, and what else by a choice.

    quantities: a choice -> {name: numbers}. allowed: how the names of choices begin.
    """
    expected = quantities(EXPECTED)
    alternatives = {}
    for name, (choice, _) in CHOICES.items():
        if name.startswith(allowed):
            found = quantities(choice)
            differing = {key: found[key] for key in expected if found[key] != expected[key]}
            if differing:
                alternatives[name] = differing
    return given | {"expected": expected} | ({"alternatives": alternatives} if alternatives else {})


def grids() -> Iterator[dict[str, Any]]:
    for transform, coordinates in product(("affine", "projective"), COORDINATES):
        thetas = THETAS.values() if transform == "affine" else [PROJECTIVE]
        vectors = []
        for theta, size in product(thetas, SIZES):
            h, w = size
            dgrid = [[[i + 2 * j + 1, 3 - i * j] for j in range(w)] for i in range(h)]
            found = partial(_grid, exact(theta), dgrid, size, coordinates)
            given = {"theta": theta, "size": size, "dgrid": dgrid}
            vectors.append(vector(given, found, ("size 1",)))
        yield {
            "kind": "grid", "transform": transform, "coordinates": coordinates, "vectors": vectors,
        }  # fmt: skip


def _grid(theta: Any, dgrid: Any, size: Any, coordinates: str, choice: Choice) -> dict[str, Any]:
    slopes = dtheta(theta, dgrid, coordinates, choice)
    if len(theta) == 3:  # the last entry is always 1
        slopes = [*slopes[:2], slopes[2][:2]]
    return {
        "grid": plain(grid(theta, size, coordinates, choice)),
        "dtheta": plain([slope for row in slopes for slope in row]),
    }


def samples() -> Iterator[dict[str, Any]]:
    for coordinates, kernel, border in product(COORDINATES, KERNELS, BORDERS):
        image = IMAGES[coordinates]
        size = len(image), len(image[0])
        points: Any = [
            (place, tuple(
                None if p is None else coordinate_of(Fraction(p), n, coordinates)
                for p, n in zip(pixel, reversed(size), strict=True)
            ), pixel)
            for place, pixels in places(*size).items()
            for pixel in pixels
        ]  # fmt: skip
        yield _sampled(points, image, kernel, border, coordinates)
    for coordinates, kernel, border, image in product(COORDINATES, KERNELS, BORDERS, LONE):
        points = [("size 1", (x, Fraction(1, 16) - x / 2), None) for x in ENDS]
        yield _sampled(points, image, kernel, border, coordinates)


def _sampled(points: Any, image: Any, kernel: str, border: str, coordinates: str) -> dict[str, Any]:
    """A group of points (place, point, pixel)."""
    how = kernel, border, coordinates
    vectors = [
        vector(
            {"place": place, "point": plain(point)} | ({"pixel": pixel} if pixel else {}),
            partial(_sample, image, point, *how),
            ("NaN",) if None in point else KINKS,
        )
        for place, point, pixel in points
    ]
    finite = [point for _, point, _ in points if None not in point]
    dy = [1 + number % 4 for number in range(len(finite))]
    return {
        "kind": "sample", "kernel": kernel, "border": border, "coordinates": coordinates,
        "image": image, "vectors": vectors,
        "together": vector({"dy": dy}, partial(_together, image, finite, dy, *how), KINKS),
    }  # fmt: skip


def _sample(image: Any, point: Any, *how: Any) -> dict[str, Any]:
    """What is expected at a point; of the slopes at NaN nothing is."""
    found = sample(image, point, *how)
    value = {"value": None if found is None else plain(found.value)}
    if found is None or None in point:
        return value
    return value | {"dpoint": plain(found.dpoint)}


def _together(image: Any, points: Any, dy: Any, *how: Any) -> dict[str, Any]:
    """The slopes of the sum of dy times value to the image."""
    total = [[Fraction(0)] * len(row) for row in image]
    for weight, point in zip(dy, points, strict=True):
        found = sample(image, point, *how)
        assert found is not None
        for row, slopes in zip(total, found.dimage, strict=True):
            for column, slope in enumerate(slopes):
                row[column] += weight * slope
    return {"dimage": plain(total)}


def warps() -> Iterator[dict[str, Any]]:
    for coordinates, kernel, border in product(COORDINATES, KERNELS, BORDERS):
        dy = [[[i - 2 * j + 3, 2 * i * j - 1] for j in range(3)] for i in range(2)]
        found = partial(_warp, exact(THETAS["far"]), dy, kernel, border, coordinates)
        given = {"theta": THETAS["far"], "size": [2, 3], "dy": dy}
        yield {
            "kind": "warp", "kernel": kernel, "border": border, "coordinates": coordinates,
            "image": COLOURED, "vectors": [vector(given, found, KINKS)],
        }  # fmt: skip


def _warp(
    theta: Any, dy: Any, kernel: str, border: str, coordinates: str, choice: Choice
) -> dict[str, Any]:
    found = warp(theta, COLOURED, dy, kernel, border, coordinates, choice)
    quantities = {name: plain(numbers) for name, numbers in found._asdict().items()}
    return quantities | {"dtheta": [slope for row in quantities["dtheta"] for slope in row]}


def exact(theta: list[list[float]]) -> list[list[Fraction]]:
    """The very numbers that float64 has."""
    return [[Fraction(number) for number in row] for row in theta]


def plain(numbers: Any) -> Any:
    """As JSON has them: each rounded once, to the nearest float64."""
    if isinstance(numbers, list | tuple):
        return [plain(each) for each in numbers]
    if isinstance(numbers, Fraction):
        return int(numbers) if numbers.denominator == 1 else float(numbers)
    return numbers
