"""The conformance kit: its exact numbers, what libraries make of them, that faults are found."""

import json
import shutil
import subprocess
import sys
from fractions import Fraction
from itertools import product

import numpy as np
import pytest
from pages import ROOT, blocks

from ministn.conformance import compare, report, vectors
from ministn.conformance.__main__ import main
from ministn.conformance.compare import ERRS, outcome, totals
from ministn.conformance.formulas import (
    BORDERS,
    COORDINATES,
    KERNELS,
    Choice,
    coordinate_of,
    cubic,
    dtheta,
    grid,
    inside,
    pixel_of,
    sample,
    warp,
)
from ministn.conformance.runners import RUNNERS
from ministn.conformance.runners.numpy import Ministn
from ministn.errors import UserError

GROUPS = compare.groups()
IMAGE = vectors.IMAGES["corners"]
F = Fraction
each_way = pytest.mark.parametrize("coordinates", COORDINATES)


# -- the numbers -----------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_file_is_what_the_formulas_give(tmp_path):
    assert main(["--vectors", str(tmp_path / "vectors.json")]) == 0
    assert (tmp_path / "vectors.json").read_bytes() == vectors.FILE.read_bytes()


def test_the_file_is_small_and_plain_json():
    text = vectors.FILE.read_text()
    assert len(text) < 300_000
    found = json.loads(text, parse_constant=pytest.fail)  # NaN is none of JSON's
    assert {"use", "derivation", "choices", "groups"} <= found.keys()
    used = {name for group in GROUPS for case in compare.cases(group)
            for name in case.get("alternatives", {})}  # fmt: skip
    assert found["choices"].keys() == used == vectors.CHOICES.keys()


def test_all_kinds_of_places_are_asked_for():
    samples = [group for group in GROUPS if group["kind"] == "sample"]
    found = {(g["kernel"], g["border"], g["coordinates"], v["place"])
             for g in samples for v in g["vectors"]}  # fmt: skip
    places = [*vectors.places(3, 5), "size 1"]
    assert found == set(product(KERNELS, BORDERS, COORDINATES, places))


def test_points_and_their_pixels_are_not_rounded():
    """A library computes the pixel in float64: so exactly, what lies on one does."""
    for group in GROUPS:
        size = np.shape(group.get("image", 0))[1::-1]
        for vector in group["vectors"]:
            for g, p, n in zip(
                vector.get("point", ()), vector.get("pixel", ()), size, strict=False
            ):
                if g is not None:
                    assert pixel_of(F(g), n, group["coordinates"]) == F(p)
                    half = ((g + 1) * n - 1) / 2
                    assert p == (
                        (g + 1) * (n - 1) / 2 if group["coordinates"] == "corners" else half
                    )


@pytest.mark.parametrize(
    ("border", "row"),
    [("zeros", "...abcd..."), ("nearest", "aaaabcdddd"), ("mirror", "dcbabcdcba"),
     ("reflect", "cbaabcddcb"), ("wrap", "bcdabcdabc")],
)  # fmt: skip
def test_borders_are_those_that_are_written_down(border, row):
    found = [inside(p, 4, border) for p in range(-3, 7)]
    assert "".join("." if i is None else "abcd"[i] for i in found) == row
    assert border == "zeros" or f"{row[:3]} | abcd | {row[7:]}".replace(" ", "") in (
        vectors.DERIVATION["borders"].replace(" ", "")
    )


def test_the_cubic_kernel_gives_parabolas_back():
    """With a = -1/2 alone, and constants whatever a is: Keys 1981."""
    for p in (F(0), F(1, 3), F(5, 8)):
        for a in (F(-1, 2), F(-3, 4)):
            weights = {m: cubic(p - m, a) for m in range(-1, 3)}
            assert sum(w for w, _ in weights.values()) == 1
            assert sum(s for _, s in weights.values()) == 0
            exact = (sum(w * m * m for m, (w, _) in weights.items()) == p * p
                     and sum(s * m * m for m, (_, s) in weights.items()) == 2 * p)  # fmt: skip
            assert exact == (a == F(-1, 2) or p == 0)


@each_way
@pytest.mark.parametrize("border", BORDERS)
@pytest.mark.parametrize("kernel", ["bilinear", "bicubic"])
def test_slopes_are_those_of_the_values(kernel, border, coordinates):
    """By differences in exact arithmetic: off the pixels V is a polynomial, at most a cubic one."""
    how = kernel, border, coordinates
    for place in ((F(1, 3), F(5, 7)), (F(-12, 5), F(13, 6)), (F(9, 2), F(-1, 4))):
        point = [coordinate_of(p, n, coordinates) for p, n in zip(place, (5, 3), strict=True)]
        found = sample(IMAGE, point, *how)
        h = F(1, 100)
        for axis in (0, 1):
            near = [
                sample(IMAGE, [g + step * h * (k == axis) for k, g in enumerate(point)], *how).value
                for step in (-2, -1, 1, 2)
            ]
            slope = (near[0] - 8 * near[1] + 8 * near[2] - near[3]) / (12 * h)
            assert slope == found.dpoint[axis]
        total = sum(w * u for ws, us in zip(found.dimage, IMAGE, strict=True)
                    for w, u in zip(ws, us, strict=True))  # fmt: skip
        assert total == found.value


@each_way
def test_slopes_of_theta_are_those_of_the_grid(coordinates):
    theta = vectors.exact(vectors.PROJECTIVE)
    dgrid = [[(F(i - j), F(2 * j + 1)) for j in range(3)] for i in range(2)]
    slopes = dtheta(theta, dgrid, coordinates)

    def loss(row, column, step):
        moved = [[t + step * ((r, c) == (row, column)) for c, t in enumerate(ts)]
                 for r, ts in enumerate(theta)]  # fmt: skip
        points = grid(moved, (2, 3), coordinates)
        return sum(d * p for ds, ps in zip(dgrid, points, strict=True)
                   for dd, pp in zip(ds, ps, strict=True)
                   for d, p in zip(dd, pp, strict=True))  # fmt: skip

    h = F(1, 10**9)
    for row, column in product(range(3), range(3)):
        slope = (loss(row, column, h) - loss(row, column, -h)) / (2 * h)
        assert abs(slope - slopes[row][column]) < F(1, 10**12)


@each_way
@pytest.mark.parametrize("kernel", KERNELS)
def test_the_identity_gives_the_image(kernel, coordinates):
    identity = vectors.exact(vectors.THETAS["identity"])
    dy = vectors.COLOURED
    found = warp(identity, vectors.COLOURED, dy, kernel, "zeros", coordinates)
    assert found.y == vectors.COLOURED and found.dimage == dy


def test_choices_are_what_they_say():
    half = [(coordinate_of(F(p), 5, "corners"), F(-1)) for p in (0.5, 1.5, 2.5)]
    read = {ties: [sample(IMAGE, p, "nearest", "zeros", "corners", Choice(ties=ties)).value
                   for p in half] for ties in ("right", "even", "left")}  # fmt: skip
    row = IMAGE[0]
    assert read == {"right": row[1:4], "even": [row[0], row[2], row[2]], "left": row[:3]}
    point = coordinate_of(F(1), 5, "corners"), F(-1)
    slopes = [sample(IMAGE, point, "bilinear", "zeros", "corners", Choice(slope=s)).dpoint[0]
              for s in ("right", "left", "flat")]  # fmt: skip
    assert slopes == [2 * (row[2] - row[1]), 2 * (row[1] - row[0]), 2 * (row[2] - row[1])]


# -- libraries -------------------------------------------------------------------------------------


def test_the_example_in_javascript_runs_and_agrees():
    if not (node := shutil.which("node")):
        pytest.skip("node is not installed")
    (example,) = blocks((ROOT / "ministn" / "README.md").read_text(), "js")
    done = subprocess.run(
        [node, "-e", example], cwd=vectors.FILE.parent, capture_output=True, text=True
    )
    assert (done.stdout, done.stderr) == ("{ agree: 68, differ: 0 }\n", "")


def test_ministn_agrees_with_all_that_it_offers():
    rows = outcome(Ministn())
    assert totals(rows).keys() == {"agrees"}
    offered = {(row["kind"], row["coordinates"], row.get("border")) for row in rows
               if row["counts"] is not None}  # fmt: skip
    kinds = {("sample", "corners"), ("warp", "corners")}
    assert offered >= {(*kind, border) for kind in kinds for border in set(BORDERS) - {"reflect"}}


def test_scipy_differs_by_choices_alone():
    assert ERRS not in totals(outcome(RUNNERS["scipy"]()))


@pytest.mark.parametrize("name", ["torch", "kornia"])
def test_pytorch_and_kornia_differ_by_choices_alone(name):
    pytest.importorskip(name)
    found = totals(outcome(RUNNERS[name]()))
    assert ERRS not in found
    assert found.keys() >= {"half-way: the even pixel", "kink: flat at the edge",
                            "bicubic: a = -3/4"}  # fmt: skip


def test_onnxruntime_errs_in_grids_of_one_row_alone():
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    for row in outcome(RUNNERS["onnxruntime"]()):
        for error in row["errors"]:
            assert row["kind"] == "grid" and 1 in error["size"], error


@pytest.mark.parametrize("name", ["torch", "kornia", "onnxruntime"])
def test_a_missing_library_is_one_line(monkeypatch, capsys, name):
    monkeypatch.setitem(sys.modules, name, None)
    for other in {"torch", "onnx"} & {name, "torch" if name == "kornia" else "onnx"}:
        monkeypatch.setitem(sys.modules, other, None)
    with pytest.raises(UserError, match=r"is not installed: pip install -e '\.\[interop\]'$"):
        main([name])
    with pytest.raises(UserError, match=r"^library must be one of ministn, torch, .*, got 'jax'$"):
        main(["jax"])


class Swapped(Ministn):
    """y comes first in its points."""

    def _sampled(self, image, grid, dy, group):
        return super()._sampled(image, grid[..., ::-1], dy, group)


class HalfAPixelOff(Ministn):
    def sample(self, group):
        return super().sample(group | {"coordinates": "corners"})


class Transposed(Ministn):
    """The slopes of theta by columns."""

    def warp(self, group):
        found = super().warp(group)
        for numbers in found or ():
            numbers["dtheta"] = numbers["dtheta"].reshape(2, 3).T.ravel()
        return found


class Flat(Ministn):
    """A bilinear slope that is 0 everywhere."""

    def sample(self, group):
        found = super().sample(group)
        return found and [each | ({"dpoint": np.zeros(2)} if "dpoint" in each else {})
                          for each in found]  # fmt: skip


@pytest.mark.parametrize("fault", [Swapped, HalfAPixelOff, Transposed, Flat])
def test_a_fault_is_found_and_shown_beside_what_is_right(fault, monkeypatch, capsys, tmp_path):
    monkeypatch.setitem(RUNNERS, "ministn", fault)
    path = tmp_path / "outcome.json"
    assert main(["ministn", "--json", str(path)]) == 1
    said = capsys.readouterr().out
    assert ", expected " in said and "errs" in said and " more\n" in said
    rows = json.loads(path.read_text())["libraries"]["ministn"]["groups"]
    errors = [error for row in rows for error in row["errors"]]
    assert len(errors) == totals(rows)[ERRS] > 20
    assert all(error["found"] != error["expected"] for error in errors)


def test_the_command_says_how_many_of_each_agree(capsys):
    assert main(["ministn"]) == 0
    said = capsys.readouterr().out
    assert "sample bilinear mirror corners          agrees 143\n" in said
    assert "65 of 124 groups are not offered" in said


def test_a_wrong_shape_errs():
    case = {"expected": {"value": [1, 2]}}
    assert [verdict for verdict, *_ in compare.judged(case, "value", [1], 1e-12)] == [ERRS]
    error = {"quantity": "value", "at": [], "expected": None, "found": None, "size": [1, 2]}
    assert report.described(error) == "value has another shape than expected (size [1, 2])"
