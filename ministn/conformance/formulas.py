"""Grids, samplers, warps and their slopes in exact arithmetic, with ``fractions.Fraction``.

Nothing here is shared with the operations that are checked: it is written from the formulas in
DERIVATION, for one point at a time, and as slow as it is plain.
"""

from collections.abc import Sequence
from fractions import Fraction
from math import ceil, floor
from typing import Any, NamedTuple

COORDINATES = "corners", "half pixels"
KERNELS = "nearest", "bilinear", "bicubic"
BORDERS = "zeros", "nearest", "mirror", "reflect", "wrap"

Number = Fraction | int
Image = Sequence[Sequence[Number]]  # rows of pixels
Point = tuple[Fraction, Fraction]  # x, y
Matrix = Sequence[Sequence[Fraction]]
Size = tuple[int, int]  # (h, w)

DERIVATION = {
    "coordinates": (
        "Pixel p = 0 .. n-1 of an axis of n pixels lies at g = 2 p / (n-1) - 1 with 'corners' (-1 "
        "and +1 are the centres of the first and the last pixel: align_corners=True), and at g = "
        "(2 p + 1) / n - 1 with 'half pixels' (they are their outer edges: align_corners=False). "
        "So p = (g + 1) (n-1) / 2 or p = ((g + 1) n - 1) / 2, for any g; with 'corners' an axis of "
        "one pixel has p = 0 whatever g is. Points are pairs (x, y), x to the right, y down."
    ),
    "grid": (
        "theta maps output to input. Of each output pixel (x, y), its own coordinates g by the "
        "same formula, the source is theta (x, y, 1); with 'corners' an axis of one pixel has g = "
        "0. A projective theta is 3x3 by rows with the last entry 1: the source is (u/d, v/d) for "
        "(u, v, d) = theta (x, y, 1)."
    ),
    "sampler": (
        "V = sum over rows n and columns m, all whole numbers, of U[n][m] k(y - n) k(x - m), with "
        "x and y in pixels. Outside the image U is what border says."
    ),
    "kernels": (
        "bilinear: k(d) = max(0, 1 - |d|). nearest: the pixel floor(p + 1/2) alone. bicubic (Keys "
        "1981): k(d) = (a+2)|d|^3 - (a+3)|d|^2 + 1 for |d| <= 1, a(|d|-1)(|d|-2)^2 for |d| < 2, "
        "else 0; a = -1/2."
    ),
    "borders": (
        "Of a row a b c d, U is: zeros 0 0 0 | a b c d | 0 0 0; nearest a a a | a b c d | d d d; "
        "mirror d c b | a b c d | c b a; reflect c b a | a b c d | d c b; wrap b c d | a b c d | a "
        "b c."
    ),
    "slopes": (
        "dpoint = (dV/dg_x, dV/dg_y), by the derivative of k; dimage[n][m] = dV/dU[n][m]. At a "
        "whole p a bilinear V bends, and the slope is that of the cell to the right (below). Of "
        "nearest it is 0. dtheta and dimage of a warp are the slopes of the sum of dy times y."
    ),
    "not a number": "A point with a coordinate that is NaN, here null, gives NaN.",
    "exactness": (
        "All is computed with fractions of whole numbers, from the very numbers in this file, and "
        "rounded once, to the nearest float64. Points of the samplers are chosen so that neither "
        "they nor their pixels are rounded at all: what lies on a pixel or half-way is exactly "
        "there."
    ),
}  # fmt: skip


class Choice(NamedTuple):
    """What conventions leave open. The first of each is expected.

    ties: of two pixels as near, "right", "even" or "left". slope: at a kink, of the "right" or
    "left" cell, or "flat" on the first and the last pixel. a: of the bicubic kernel. lone: with
    corners, the coordinate of the only pixel of an axis. nan: what a coordinate that is NaN gives,
    "nan", "0", or "-1" for what that coordinate gives.
    """

    ties: str = "right"
    slope: str = "right"
    a: Fraction = Fraction(-1, 2)
    lone: int = 0
    nan: str = "nan"


EXPECTED = Choice()


class Tap(NamedTuple):
    """One pixel of a kernel along one axis: where, its weight, and the weight's slope."""

    pixel: int
    weight: Fraction
    slope: Fraction


class Sampled(NamedTuple):
    """V at a point, its slopes along normalised x and y, and those to each pixel."""

    value: Fraction
    dpoint: Point
    dimage: list[list[Fraction]]


def pixel_of(g: Fraction, n: int, coordinates: str) -> Fraction:
    """Where g lies, in pixels."""
    return (g + 1) * (n - 1) / 2 if coordinates == "corners" else ((g + 1) * n - 1) / 2


def coordinate_of(p: Fraction, n: int, coordinates: str) -> Fraction:
    """The g of a place in pixels, on an axis of several."""
    return 2 * p / (n - 1) - 1 if coordinates == "corners" else (2 * p + 1) / n - 1


def pixels_in_one(n: int, coordinates: str) -> Fraction:
    """dp/dg."""
    return Fraction(n - 1 if coordinates == "corners" else n, 2)


def targets(n: int, coordinates: str, choice: Choice = EXPECTED) -> list[Fraction]:
    """The coordinates of an output axis."""
    if n == 1 and coordinates == "corners":
        return [Fraction(choice.lone)]
    return [coordinate_of(Fraction(p), n, coordinates) for p in range(n)]


def inside(pixel: int, n: int, border: str) -> int | None:
    """The pixel of the image that lies at any whole number; None for 0."""
    if 0 <= pixel < n:
        return pixel
    if border == "zeros":
        return None
    if border == "nearest":
        return 0 if pixel < 0 else n - 1
    if border == "wrap":
        return pixel % n
    period = max(1, 2 * (n - 1)) if border == "mirror" else 2 * n
    folded = pixel % period
    return min(folded, period - folded if border == "mirror" else period - 1 - folded)


def taps(p: Fraction, n: int, kernel: str, border: str, choice: Choice) -> list[Tap]:
    """The pixels around p that have weights, along one axis."""
    left = floor(p)
    if kernel == "nearest":
        pixel = {"right": floor(p + Fraction(1, 2)), "even": round(p),
                 "left": ceil(p - Fraction(1, 2))}[choice.ties]  # fmt: skip
        return [Tap(pixel, Fraction(1), Fraction(0))]
    if kernel == "bilinear":
        if choice.slope == "left" and p == left:
            left -= 1
        on_edge = p == floor(p) and inside(floor(p), n, border) in (0, n - 1)
        one = Fraction(0 if choice.slope == "flat" and on_edge else 1)
        return [Tap(left, left + 1 - p, -one), Tap(left + 1, p - left, one)]
    return [Tap(m, *cubic(p - m, choice.a)) for m in range(left - 1, left + 3)]


def cubic(d: Fraction, a: Fraction) -> tuple[Fraction, Fraction]:
    """Keys' k(d) and k'(d)."""
    size, sign = abs(d), 1 if d > 0 else -1
    if size <= 1:
        return (
            (a + 2) * size**3 - (a + 3) * size**2 + 1,
            sign * (3 * (a + 2) * size**2 - 2 * (a + 3) * size),
        )
    if size < 2:
        return a * (size - 1) * (size - 2) ** 2, sign * a * (size - 2) * (3 * size - 4)
    return Fraction(0), Fraction(0)


def sample(
    image: Image,
    point: tuple[Fraction | None, Fraction | None],
    kernel: str,
    border: str,
    coordinates: str,
    choice: Choice = EXPECTED,
) -> Sampled | None:
    """An image at a point; None for NaN."""
    size = len(image), len(image[0])
    if None in point and choice.nan == "nan":
        return None
    x, y = (
        pixel_of(Fraction(-1) if g is None else g, n, coordinates)
        for g, n in zip(point, reversed(size), strict=True)
    )
    if None in point and choice.nan == "0":
        image = [[0] * size[1]] * size[0]
    dimage = [[Fraction(0)] * size[1] for _ in range(size[0])]
    value, dx, dy = Fraction(0), Fraction(0), Fraction(0)
    for n, of_n, slope_n in taps(y, size[0], kernel, border, choice):
        for m, of_m, slope_m in taps(x, size[1], kernel, border, choice):
            row, column = inside(n, size[0], border), inside(m, size[1], border)
            if row is None or column is None:
                continue
            value += of_n * of_m * image[row][column]
            dx += of_n * slope_m * image[row][column]
            dy += slope_n * of_m * image[row][column]
            dimage[row][column] += of_n * of_m
    slopes = dx * pixels_in_one(size[1], coordinates), dy * pixels_in_one(size[0], coordinates)
    return Sampled(value, slopes, dimage)


def grid(
    theta: Matrix, size: Size, coordinates: str, choice: Choice = EXPECTED
) -> list[list[Point]]:
    """theta 2x3 or 3x3 -> a source for each output pixel."""
    (x_row, y_row), third = theta[:2], theta[2] if len(theta) == 3 else (0, 0, 1)
    h, w = size
    ys, xs = targets(h, coordinates, choice), targets(w, coordinates, choice)

    def source(x: Fraction, y: Fraction) -> Point:
        u, v, d = (row[0] * x + row[1] * y + row[2] for row in (x_row, y_row, third))
        return u / d, v / d

    return [[source(x, y) for x in xs] for y in ys]


def dtheta(
    theta: Matrix,
    dgrid: Sequence[Sequence[Sequence[Number]]],
    coordinates: str,
    choice: Choice = EXPECTED,
) -> list[list[Fraction]]:
    """The slopes of the sum of dgrid times grid to theta's entries."""
    size = len(dgrid), len(dgrid[0])
    points = grid(theta, size, coordinates, choice)
    found = [[Fraction(0)] * 3 for _ in theta]
    third = theta[2] if len(theta) == 3 else (0, 0, 1)
    for i, y in enumerate(targets(size[0], coordinates, choice)):
        for j, x in enumerate(targets(size[1], coordinates, choice)):
            (dx, dy), (sx, sy) = dgrid[i][j], points[i][j]
            d = third[0] * x + third[1] * y + third[2]
            for k, target in enumerate((x, y, 1)):
                slopes: Sequence[Any] = dx, dy, -(dx * sx + dy * sy)
                for row in range(len(theta)):
                    found[row][k] += slopes[row] * target / d
    return found


class Warped(NamedTuple):
    """y (h, w, C), and the slopes of the sum of dy times y to theta and the image (H, W, C)."""

    y: list[list[list[Fraction]]]
    dtheta: list[list[Fraction]]
    dimage: list[list[list[Fraction]]]


def warp(
    theta: Matrix,
    image: Sequence[Sequence[Sequence[Number]]],
    dy: Sequence[Sequence[Sequence[Number]]],
    kernel: str,
    border: str,
    coordinates: str,
    choice: Choice = EXPECTED,
) -> Warped:
    """An image (H, W, C) at theta's grid, for dy (h, w, C)."""
    size, channels = (len(dy), len(dy[0])), len(image[0][0])
    planes = [[[pixel[c] for pixel in row] for row in image] for c in range(channels)]
    points = grid(theta, size, coordinates, choice)
    y = [[[Fraction(0)] * channels for _ in row] for row in points]
    dgrid = [[[Fraction(0), Fraction(0)] for _ in row] for row in points]
    dimage = [[[Fraction(0)] * channels for _ in row] for row in image]
    for i, row in enumerate(points):
        for j, point in enumerate(row):
            for c, plane in enumerate(planes):
                found = sample(plane, point, kernel, border, coordinates, choice)
                assert found is not None
                y[i][j][c] = found.value
                for axis in (0, 1):
                    dgrid[i][j][axis] += dy[i][j][c] * found.dpoint[axis]
                for n, weights in enumerate(found.dimage):
                    for m, weight in enumerate(weights):
                        dimage[n][m][c] += dy[i][j][c] * weight
    return Warped(y, dtheta(theta, dgrid, coordinates, choice), dimage)
