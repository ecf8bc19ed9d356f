"""Figures: written whole, the same bytes each time, nothing cut off, and right where it shows."""

import subprocess
import sys

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text
from papers.tstn_figures import attention_figure, learning_curves, overlap_figure, seeds_figure
from synthetic import COLLAPSE, SIDE, record, recorded

from ministn import plot
from ministn.errors import UserError
from ministn.metrics.attention import quadrilateral
from ministn.ops import affine_grid, bilinear_sampler
from ministn.plot import grid_figure
from ministn.plot.drawing import save

BACK = {**COLLAPSE, "epoch": 2, "end": {"epoch": 4, "step": 99}}
REDUCED = {"train_size": 10_000, "epochs": 6}


def runs():
    return [
        *(record("arch1-cnn", seed, **REDUCED) for seed in range(3)),
        *(
            record("arch1-untied", seed, wrong=range(8900), collapses=[COLLAPSE], **REDUCED)
            for seed in range(3)
        ),
        record("arch1-untied", 0, lr=0.0001, loc_lr=0.1, batch_size=64, **REDUCED),
        record("arch1-tstn", 0, wrong=range(1300), collapses=[BACK], train_error=0.0, **REDUCED),
        record("arch2-untied", 0, status="diverged", done=2, **REDUCED),
        record("arch2-tstn", 0, status="diverged", done=0, **REDUCED),
        record("arch2-cnn", 0, status="interrupted", done=3, **REDUCED),
        record("small-stn", 0, wrong=range(40)),
    ]


FIGURES = {
    "attention": lambda: attention_figure(record("arch1-tstn", **REDUCED)),
    "attention, interrupted": lambda: attention_figure(
        record("small-stn", loc_lr=0.1, scale=60, status="interrupted", done=1, **REDUCED)
    ),
    "attention, bent, two": lambda: plot.attention_figure(
        recorded("addition-2st-fcn-tps", channels=2)
    ),
    "grids": lambda: grid_figure(
        [recorded("r-st-cnn-affine"), recorded("p-st-fcn-projective"), recorded("e-st-cnn-tps")]
    ),
    "one grid": lambda: grid_figure([recorded("p-st-fcn-projective")], count=1),
    "seeds": lambda: seeds_figure(runs()),
    "overlap": lambda: overlap_figure(runs()),
    "overlap, longest title": lambda: overlap_figure([record("small-stn", canvas=40, **REDUCED)]),
    "curves": lambda: learning_curves(runs()),
}


@pytest.mark.parametrize("name", FIGURES)
def test_nothing_is_cut_off(name):
    figure = FIGURES[name]()
    figure.draw_without_rendering()
    drawn, page = figure.get_tightbbox(), figure.get_size_inches()
    # Of all that is drawn; a hundredth of an inch is antialiasing.
    assert drawn.min.min() > -0.01 and (drawn.max < page + 0.01).all()


@pytest.mark.parametrize("draw", [attention_figure, lambda run: seeds_figure([run])])
def test_the_same_record_gives_the_same_bytes(draw, tmp_path):
    for name in ("first.png", "second.png"):
        save(draw(record("small-stn", epochs=1)), tmp_path / name)
    first, second = ((tmp_path / name).read_bytes() for name in ("first.png", "second.png"))
    assert first.startswith(b"\x89PNG") and first == second
    assert b"Software" not in first
    assert sorted(path.name for path in tmp_path.iterdir()) == ["first.png", "second.png"]


def texts(figure):
    return [text for text in figure.findobj(Text) if text.get_visible() and text.get_text()]


def words(figure):
    return " ".join(" ".join(text.get_text().split()) for text in texts(figure))


def test_captions_name_the_settings():
    for make in (attention_figure, lambda r: seeds_figure([r]), lambda r: overlap_figure([r])):
        found = words(make(record("arch1-tstn", loc_lr=0.1, **REDUCED)))
        for setting in ("REDUCED: 10,000 of 50,000 images, 6 epochs", "loc-lr x0.1", "data seed 0",
                        "6 distractors of 8x8", "learning rate 0.001"):  # fmt: skip
            assert setting in found


def test_seeds_show_what_happened_and_the_papers_figure():
    found = words(seeds_figure(runs()))
    assert "seeds 0, 1, 2: collapsed" in found
    assert "seed 0: collapsed, came back" in found
    assert "seed 0: diverged" in found and "seed 0: interrupted" in found
    assert "paper: did not converge" in found

    (axes,) = seeds_figure([record("arch1-cnn", s, wrong=range(100 + s)) for s in (0, 1)]).axes
    points = sorted(x for line in axes.lines for x in line.get_xdata())
    assert points == pytest.approx([1.0, 1.01, 4.0443, 4.44, 4.8625], abs=1e-3)


def test_the_attention_figure_shows_what_the_network_sees():
    run = record("small-stn", epochs=4)
    figure = attention_figure(run)
    assert "epoch 0, identity input" in words(figure)
    panels = [axes for axes in figure.axes if axes.images]
    assert len(panels) == 36
    image = np.asarray(panels[0].images[0].get_array(), np.float32)
    assert image.shape == (SIDE, SIDE)
    last = panels[25].images[0].get_array()  # first image, best epoch, warped
    theta = np.array(run["epochs"][-1]["theta"][0], np.float32).reshape(1, 2, 3)
    grid, _ = affine_grid(theta, (SIDE // 3, SIDE // 3))
    warped, _ = bilinear_sampler(image[None, :, :, None], grid)
    np.testing.assert_allclose(last, warped[0, :, :, 0], rtol=1e-6)
    _, edge, corner = panels[24].lines  # after the digit's box
    quad = quadrilateral(theta, (SIDE, SIDE))[0]
    np.testing.assert_allclose(edge.get_xydata(), [*quad, quad[0]], atol=1e-5)
    np.testing.assert_allclose(corner.get_xydata(), quad[:1], atol=1e-5)


def test_learning_curves_hold_every_epoch():
    run = record("arch1-cnn", train_error=0.0, epochs=5)
    left, right = learning_curves([run]).axes
    assert left.lines[0].get_xdata().tolist() == [1, 2, 3, 4, 5]
    assert left.lines[0].get_ydata()[-1] == 0.01  # an error of 0 has no logarithm
    assert right.lines[0].get_ydata().tolist() == [e["valid_error"] for e in run["epochs"]]


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (lambda: attention_figure(record("arch1-cnn")), "arch1-cnn has no transformer"),
        (lambda: attention_figure(record(status="diverged", done=0)), "no epoch yet"),
        (lambda: attention_figure(record("r-fcn")), "fcn has no transformer"),
        (lambda: grid_figure([]), "no records to draw"),
        (lambda: overlap_figure([record("arch1-cnn")]), "has a transformer"),
        (lambda: overlap_figure([]), "no records to draw"),
        (lambda: seeds_figure([]), "no records to draw"),
        (lambda: learning_curves([]), "no records to draw"),
    ],
)
def test_nothing_to_draw_is_said(draw, message):
    with pytest.raises(UserError, match=message):
        draw()


def test_an_unwritable_place_is_one_clear_line(tmp_path):
    with pytest.raises(UserError, match="cannot save"):
        save(Figure(), tmp_path / "missing" / "figure.png")


def test_pyplot_stays_out():
    code = "import sys, ministn.plot; sys.exit('matplotlib.pyplot' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_overlap_panels_show_all_of_every_line():
    """One scale serves all panels, and the highest line is not always in the first."""
    low, high = record("arch1-tstn"), record("small-stn")
    for run, level in ((low, 0.1), (high, 0.7)):
        for epoch in run["epochs"]:
            epoch["overlap"] = level
    figure = overlap_figure([low, high])
    assert len(figure.axes) > 1
    for axes in figure.axes:
        assert axes.get_ylim()[0] == 0 and axes.get_ylim()[1] > 0.7
