"""Right of the STN paper's Table 1: digits that only the network with a transformer reads, and
whether transformers turn digits upright, as section 4.1 says that all of them do.

Records have no weights. So what the best weights of runs show, which lie in the runs' folders, is
kept in a record of its own, like that of placement_poses.py: ../readme.py --poses writes it.
"""

from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure

from ministn.data import Data
from ministn.data.dataset import PosedSplit
from ministn.data.distorted import RECIPES, Recipe
from ministn.data.warping import as_bytes
from ministn.kinds import from_json, to_json
from ministn.metrics.final_pose import angle, nearest_affine, spread
from ministn.metrics.pose import FRAME
from ministn.models.prediction import BATCH, joined
from ministn.models.stn import TRANSFORMS
from ministn.ops import as_batch
from ministn.plot.drawing import caption, show_image
from ministn.plot.transformers import View, explanation, look, sampling_grid, sheet
from ministn.training.examples import as_text, from_text
from ministn.transformer import Front
from papers.claims import Record, correct, state
from papers.layout import pipes
from papers.run_weights import Weights, best_weights
from papers.stn_report import PAPER, cell_of, spoken, tables

# Of a set's networks an ST-CNN is drawn, with the transform that the paper draws of it; of P and TC
# it draws none.
DRAWN = {"r": "affine", "rts": "tps", "tc": "affine", "p": "affine", "e": "tps"}
COUNT = 6  # digits of a set
UPRIGHT = 0.5  # of the spread of angles, what may be left

HEADER = ["network", "seed", "turned", "after", "classes", "moved", "after"]
HEADER += ["only it is right", "only the other"]
LEGEND = (
    "turned: how far the digits' angles spread within their classes, in degrees (standard "
    "deviation, as in the placement paper's Table I), in the images and after the transformer; "
    "classes: then, the mean angles of the ten classes, where upright is 0. moved: how far their "
    "places spread, in pixels of the image. only it is right: test images that it reads and the "
    "same network without a transformer does not; only the other: the opposite. Upright means here "
    f"that less than {UPRIGHT:.0%} of the angles' spread is left."
)
LEAST = 1.0  # degree or pixel: sets whose digits differ by less are not so distorted
FILES = "stn-saved.png", "stn-means.png"


class Looked(NamedTuple):
    """A finished run, that of the same network without a transformer, and the run's weights."""

    record: Record
    other: Record
    weights: Weights


# -- from weights to the record --------------------------------------------------------------------


def measured(records: Sequence[Record], out: Path, folder: Path | None = None) -> list[Any]:
    """Of each set what the transformers of runs show whose weights are in ``out``.

    records: of Table 1. A run is left out without a finished one of the same network without a
    transformer, by the same protocol and with the same seed. Of several protocols the one nearest
    to the paper's is taken. folder: of the data. Raises UserError for weights of another run.
    """
    done = [record for record in records if state(record) == "finished"]
    found: dict[Data, list[Looked]] = {}
    for table in tables(done) if done else []:
        runs = [record for row in table for record in row]
        plain = {place(r): r for r in runs if r["settings"].network.transform is None}
        near: dict[Data, list[Looked]] = {}
        for record in runs:
            other = plain.get(place(record))
            if record["settings"].network.transform is None or other is None:
                continue
            if weights := best_weights(record, out):
                near.setdefault(record["settings"].data, []).append(Looked(record, other, weights))
        found = near | found
    return [_of_set(data, looked, folder) for data, looked in found.items()]


def place(record: Record) -> tuple[str, str, int]:
    """Set, base network and seed."""
    settings = record["settings"]
    return cell_of(record)[0], settings.network.base, settings.seed


def preferred(looked: Looked) -> tuple[Any, ...]:
    """The least is drawn."""
    settings = looked.record["settings"]
    base, transform = settings.network.base, settings.network.transform
    usual = DRAWN[cell_of(looked.record)[0]]
    return base != "cnn", transform != usual, [*TRANSFORMS].index(transform), settings.seed


def _of_set(data: Any, looked: Sequence[Looked], folder: Path | None) -> dict[str, Any]:
    """What is recorded of a set."""
    test = data.load(folder).test
    drawn, networks = min(looked, key=preferred), []
    unmoved = np.broadcast_to(FRAME, test.poses.shape)
    found = {
        "data": to_json(data),
        **left(unmoved, test),
        "inputs": as_text(class_means(as_batch(test.images)[..., 0], test.labels)),
    }
    for each in looked:
        front = each.weights.network.front
        assert front is not None
        shown, grid = passed_on(front, test.images)
        right, other = correct(each.record), correct(each.other)
        networks.append(
            {
                "name": each.record["settings"].network.name,
                **each.weights.which,
                **left(grid, test),
                "only_right": int((right & ~other).sum()),
                "only_other": int((other & ~right).sum()),
            }
        )
        if each is drawn:
            rows = np.flatnonzero(right & ~other)[:COUNT]
            images = test.images[rows]
            found["drawn"] = {
                "settings": to_json(each.record["settings"]),
                "outputs": as_text(class_means(shown, test.labels)),
                "digits": as_text(images) | {"labels": test.labels[rows].tolist()},
                "theta": front.theta(as_batch(images)).tolist(),
            }
    return found | {"networks": networks}


def passed_on(front: Front, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of images (N, H, W) uint8 what one transformer makes, (N, h, w), 0 to 1, and its grids, see
    Attended.
    """
    starts = range(0, len(images), BATCH)
    shown, (attended,) = joined(
        [front.predict(as_batch(images[start : start + BATCH])) for start in starts]
    )
    return shown[..., 0], attended.grid


def left(grid: np.ndarray, test: PosedSplit) -> dict[str, Any]:
    """How the digits lie in what is shown by such grids (N, 4, 4, 2).

    degrees, pixels, log2_area: see final_pose.Spread. classes: their mean angles, in degrees.
    """
    height, width = test.size
    theta = nearest_affine(grid)
    found = spread(theta, test.poses, test.labels, ((width - 1) / 2, (height - 1) / 2))
    angles = angle(nearest_affine(test.poses)) - angle(theta)
    means = [round(float(angles[test.labels == each].mean()), 1) for each in np.unique(test.labels)]
    return {**found._asdict(), "classes": means}


def class_means(images: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Of images (N, H, W), 0 to 1, the mean of each class in order, (classes, H, W) uint8."""
    means = [images[labels == each].mean(axis=0) for each in np.unique(labels)]
    return as_bytes(np.stack(means))


# -- from the record to the page -------------------------------------------------------------------


def section(sets: Sequence[dict[str, Any]]) -> str:
    """The part of the page: table, what it says, figures; nothing while there is no set."""
    if not sets:
        return ""
    lines = [cells(found, net) for found in ordered(sets) for net in found["networks"]]
    words = [f"**{summary(sets)}**\n", *(f"- {verdict(found)}" for found in ordered(sets))]
    saved, means = FILES
    return "\n\n".join(
        [
            pipes(HEADER, lines),
            "\n".join(words),
            f"![Digits that only the network with a transformer reads](../figures/{saved})",
            f"![The mean image of each class before and after the transformer](../figures/{means})",
            LEGEND,
        ]
    )


def cells(found: dict[str, Any], net: dict[str, Any]) -> list[str]:
    """One line of the table: HEADER of one network."""
    return [
        f"{recipe_of(found).name} {spoken(net['name'])}",
        str(net["seed"]),
        *(f"{each['degrees']:.1f}" for each in (found, net)),
        f"{round(min(net['classes'])):+d} to {round(max(net['classes'])):+d}",
        *(f"{each['pixels']:.1f}" for each in (found, net)),
        *(str(net[name]) for name in ("only_right", "only_other")),
    ]


def summary(sets: Sequence[dict[str, Any]]) -> str:
    """Of how many networks the paper's sentence is true."""
    turned = [found for found in sets if recipe_of(found).rotation]
    count = sum(len(found["networks"]) for found in turned)
    true = sum(len(upright(found)) for found in turned)
    return (
        f"{true} of {count} networks on digits that are turned show them upright; the paper says "
        "that all do."
    )


def verdict(found: dict[str, Any]) -> str:
    """What transformers make of the digits of a set, in words."""
    nets, recipe, true = found["networks"], recipe_of(found), upright(found)
    if not true:
        words = "no transformer turns them upright"
    elif len(true) == len(nets):
        words = "all transformers turn them upright"
    else:
        words = f"only {', '.join(map(named, true))} turns them upright"
    said = [words] if recipe.rotation else []
    for unit in ("degrees", "pixels"):
        if found[unit] >= LEAST:
            after = [net[unit] for net in nets]
            said.append(
                f"{fmean(after):.1f} of {found[unit]:.1f} {unit} are left "
                f"[{min(after):.1f}, {max(after):.1f}]"
            )
    count = f"{len(nets)} network{'s' if len(nets) > 1 else ''}"
    return f"{recipe.name}, {count}: {'; '.join(said)}."


def upright(found: dict[str, Any]) -> list[dict[str, Any]]:
    """The networks that turn the digits of a set upright."""
    return [net for net in found["networks"] if net["degrees"] < UPRIGHT * found["degrees"]]


def named(net: dict[str, Any]) -> str:
    return f"{spoken(net['name'])} seed {net['seed']}"


def recipe_of(found: dict[str, Any]) -> Recipe:
    return RECIPES[found["data"]["recipe"]]


def ordered(sets: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The sets in the paper's order."""
    return sorted(sets, key=lambda found: [*PAPER].index(recipe_of(found).name.lower()))


def figures(sets: Sequence[dict[str, Any]]) -> dict[str, Figure]:
    """By file; none while there is no set."""
    found = ordered(sets)
    return dict(zip(FILES, (saved_figure(found), means_figure(found)), strict=True)) if sets else {}


def saved_figure(sets: Sequence[dict[str, Any]]) -> Figure:
    """Of each set inputs with the grid on them, and outputs, as beside the paper's Table 1."""
    views = [view(found) for found in sets]
    figure = sheet(views, min(len(each.images) for each in views), plain=False)
    caption(
        figure,
        "The first test images that the network with a transformer reads and the same without does "
        f"not. {explanation(1)} {runs(sets)}",
    )
    return figure


def view(found: dict[str, Any]) -> View:
    """A set's group of columns."""
    drawn = found["drawn"]
    settings = from_json(drawn["settings"])
    front = settings.network.build(settings.data.form).front
    images = from_text(drawn["digits"]).astype(np.float32)[..., None]
    theta = np.array(drawn["theta"], np.float32)
    heading = f"{recipe_of(found).name} {spoken(settings.network.name)}"
    names = [f"a {label}" for label in drawn["digits"]["labels"]]
    return look(heading, front.at_input, images, [theta], sampling_grid)._replace(names=names)


def means_figure(sets: Sequence[dict[str, Any]]) -> Figure:
    """Of each set a row of mean images before the transformer, and one after it."""
    rows = []
    for found in sets:
        network = from_json(found["drawn"]["settings"]).network
        rows.append((f"{recipe_of(found).name}\ninput", from_text(found["inputs"])))
        rows.append((spoken(network.name), from_text(found["drawn"]["outputs"])))
    columns = max(len(means) for _, means in rows)
    figure = Figure(figsize=(columns + 0.8, 1.08 * len(rows) + 0.9), layout="constrained")
    grid = figure.subplots(len(rows), columns)
    for line, (name, means) in zip(grid, rows, strict=True):
        line[0].set_ylabel(name, fontsize=9)
        for axes, image in zip(line, means, strict=True):
            show_image(axes, image * (255 / means.max()))
    for digit, axes in enumerate(grid[0]):
        axes.set_title(str(digit))
    caption(
        figure,
        "The mean image of each class of the test images, and of what the transformer passes on; "
        f"each row is drawn up to white. {runs(sets)}",
    )
    return figure


def runs(sets: Sequence[dict[str, Any]]) -> str:
    """What is drawn of each set, for a caption."""
    found = []
    for each in sets:
        settings = from_json(each["drawn"]["settings"])
        training = settings.training
        found.append(
            f"{recipe_of(each).name}: {spoken(settings.network.name)} seed {settings.seed}, "
            f"{training.iterations:,} iterations of batch {training.batch_size}"
        )
    return ". ".join(found) + "."
