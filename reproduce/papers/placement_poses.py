"""The placement paper's Figures 5 and 7: one picture in three poses, and what each network makes of
it.

Records have no weights. So what the best weights of recorded runs predict, which lie in the runs'
folders, is kept in a record of its own, with the pictures: ../readme.py --poses writes it.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure

from ministn.data import Data, Distorted, Plankton, distorted, plankton, sources
from ministn.data.warping import warp
from ministn.kinds import to_json
from ministn.metrics.final_pose import angle, log2_area, nearest_affine
from ministn.models import Network
from ministn.ops import as_batch
from ministn.plot.drawing import caption, show_image
from ministn.training.examples import as_text, from_text
from ministn.transformer.samplers import BILINEAR
from ministn.transformer.transforms import AFFINE
from papers import placement
from papers.claims import Record
from papers.placement_sets import spoken
from papers.run_weights import Weights, best_weights

DIGITS, TIMES = 100, 20  # so many test digits, each so often distorted: the first one is shown
# Poses that are looked for, see pose_of.
WANTED = {
    "R": [[-60.0], [0.0], [60.0]],
    "TC": [[-12.0, -12.0], [0.0, 0.0], [12.0, 12.0]],
    "S": [[-2.5], [-1.5], [-0.5]],
}
MEANINGS = {
    "R": "how far it is turned",
    "T": "where its middle is from the image's",
    "S": "how much of the image's width it has",
    "plankton": "how far it is turned",
}
TURNS = -60.0, 0.0, 60.0  # of plankton, degrees
LONG = 2  # times as long as wide is a specimen whose turns can be seen

FIGURES = "placement-poses.png", "plankton-poses.png"  # of digits, of plankton


class Posed(NamedTuple):
    """images: (3, H, W) uint8. lies: (3, 2, 3), the theta by which each is seen as it was."""

    images: np.ndarray
    lies: np.ndarray


# -- from weights to the record --------------------------------------------------------------------


def measured(records: Sequence[Record], out: Path, folder: Path | None = None) -> list[Any]:
    """Of each data set, the pictures and what networks predict: those whose weights are in ``out``.

    records: of R, T, S and plankton. Of several seeds the least is taken. folder: of the data.
    Raises UserError for weights of another run.
    """
    found: dict[Data, dict[str, Weights]] = {}
    for record in sorted(records, key=lambda record: record["settings"].seed):
        data, words = record["settings"].data, called(record)
        weights = None if words in found.get(data, {}) else best_weights(record, out)
        if weights and weights.network.transformers:
            found.setdefault(data, {})[words] = weights
    sets = []
    for data, networks in found.items():
        shown = posed(data, folder)
        sets.append(
            {
                "data": to_json(data),
                **as_text(shown.images),
                "lies": shown.lies.tolist(),
                "networks": [
                    {"name": words, **which, **predicted(network, shown.images)}
                    for words, (network, which) in networks.items()
                ],
            }
        )
    return sets


def called(record: Record) -> str:
    """The network as the paper calls it."""
    if isinstance(record["settings"].data, Distorted):
        return placement.cell_of(record)[1].upper()
    return spoken(record["settings"].network.name)


def posed(data: Data, folder: Path | None = None) -> Posed:
    """Three pictures. Raises UserError as Data.load does."""
    return _plankton(data, folder) if isinstance(data, Plankton) else _digit(data, folder)


def _digit(data: Any, folder: Path | None) -> Posed:
    """The first test digit as its set may distort it: of some such images those that come nearest
    to the poses that are wanted.
    """
    digits = sources.load(data.source, folder)["test"][:DIGITS]
    recipe = distorted.RECIPES[data.recipe]
    made = distorted.generate(recipe, "test", digits, TIMES * DIGITS, seed=data.seed)
    lies = nearest_affine(made.poses[::DIGITS])
    off = [pose_of(recipe.name, lies, recipe.canvas) - wanted for wanted in WANTED[recipe.name]]
    rows = [int(np.linalg.norm(each, axis=1).argmin()) for each in off]
    return Posed(made.images[::DIGITS][rows], lies[rows])


def _plankton(data: Plankton, folder: Path | None) -> Posed:
    """The first test picture that is long enough, turned."""
    pictures = plankton.pictures_of(data.source, folder)
    rows = plankton.stratified(pictures.labels, data.seed)["test"]
    sides = np.array([pictures.images[row].shape for row in rows])
    row = rows[(sides.max(axis=1) / sides.min(axis=1)).clip(max=LONG).argmax()]
    large, _ = plankton.enlarged(pictures, np.full(len(TURNS), row), data.side)
    none = np.zeros(len(TURNS))
    turn = plankton.Drawn(none, np.array(TURNS), np.zeros((len(TURNS), 2)), none + 1, none > 0)
    lies = np.linalg.inv(_square(plankton.theta_of(turn).reshape(-1, 2, 3)))[:, :2]
    return Posed(plankton.warped(large.images, plankton.theta_of(turn), data.side), lies)


def predicted(network: Network, images: np.ndarray) -> dict[str, Any]:
    """theta of the network's last transformer, as one of the image; the size of what it shows, or
    of the image where a feature map is transformed: what that does to the image only illustrates.
    """
    _, looks = network.predict(as_batch(images))
    field = np.append(looks[-1].field[0], 1)
    theta = _square(looks[-1].theta) * field[:, None] / field
    at_image = network.front is not None
    size = network.transformers[-1].size if at_image else images.shape[1:]
    return {"theta": theta[:, :2].tolist(), "size": list(size), "of_the_image": at_image}


def _square(theta: np.ndarray) -> np.ndarray:
    """(n, 2, 3) -> (n, 3, 3), float64."""
    return np.concatenate([theta, np.tile(np.array([[[0.0, 0, 1]]]), (len(theta), 1, 1))], axis=1)


def pose_of(name: str, lies: np.ndarray, side: int) -> np.ndarray:
    """What the set changes of what lies so, theta (n, 2, 3), in an image of that side.

    (n, 1) degrees; of TC (n, 2) pixels (x, y) from the middle, of S (n, 1) log2 of its share of the
    image's width.
    """
    if name == "TC":
        return lies[:, :, 2] * (side - 1) / 2
    return (log2_area(lies) / 2 if name == "S" else angle(lies))[:, None]


# -- from the record to the page -------------------------------------------------------------------


def title(found: dict[str, Any]) -> str:
    """Of a set."""
    recipes = {each.recipe: name.upper() for name, each in placement.SETS.items()}
    return recipes.get(found["data"].get("recipe"), "plankton")


def figures(sets: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """By file: R, T and S in one, plankton in the other, as far as there are networks of them."""
    order = [name.upper() for name in placement.SETS]
    digits = [each for name in order for each in sets if title(each) == name]
    others = [each for each in sets if title(each) not in order]
    shown = zip(FIGURES, (digits, others), strict=True)
    return {file: figure(some) for file, some in shown if some}


def section(sets: Sequence[dict[str, Any]], file: str) -> str:
    """The figure on the page; nothing while there is none."""
    one = "digit" if file == FIGURES[0] else "plankton"
    there = any((title(each) == "plankton") == (one == "plankton") for each in sets)
    words = f"One {one} in three poses, and as each network's transformer shows it"
    return f"![{words}](../figures/{file})" if there else ""


def figure(sets: Sequence[dict[str, Any]]) -> Figure:
    """Three columns for each set; below the pictures a row for each network."""
    rows = list(dict.fromkeys(net["name"] for each in sets for net in each["networks"]))
    columns = [(each, number) for each in sets for number in range(len(each["lies"]))]
    size = max(1.3 * len(columns) + 0.8, 6.0), 1.6 * (len(rows) + 1) + 1.0
    drawing = Figure(figsize=size, layout="constrained")
    grid = drawing.subplots(len(rows) + 1, len(columns), squeeze=False)
    for axes in grid.flat:
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_visible(False)
    for below, (each, number) in zip(grid.T, columns, strict=True):
        images, lies = from_text(each), np.array(each["lies"])
        white = 255 / images.max()  # plankton is faint
        show_image(below[0], white * images[number])
        below[0].set_title(f"{title(each)}\n{spelled(each, lies[number])}", fontsize=9)
        for net in each["networks"]:
            axes, theta = below[1 + rows.index(net["name"])], np.array(net["theta"])
            show_image(axes, white * warped(images, theta, net["size"])[number])
            left = (np.linalg.inv(_square(theta)) @ _square(lies))[:, :2]
            axes.set_title(spelled(each, left[number]), fontsize=9)
    for axes, name in zip(grid[:, 0], ["input", *rows], strict=True):
        axes.set_ylabel(name)
    caption(drawing, words(sets))
    return drawing


def warped(images: np.ndarray, theta: np.ndarray, size: Sequence[int]) -> np.ndarray:
    """Images (n, H, W) uint8 at theta (n, 2, 3), so large."""
    height, width = size
    grid, _ = AFFINE.forward(theta.reshape(-1, 6).astype(np.float32), (height, width))
    return warp(images, grid, BILINEAR)


def spelled(found: dict[str, Any], lies: np.ndarray) -> str:
    """How a picture lies in an image of its set's side."""
    recipe, side = found["data"].get("recipe", "R"), found["shape"][1]
    values = pose_of(recipe, lies[None], side)[0]
    if recipe == "TC":
        return "({:+.0f}, {:+.0f}) px".format(*values)
    return f"{2 ** values[0]:.0%} of it" if recipe == "S" else f"{values[0]:+.0f} degrees"


def words(sets: Sequence[dict[str, Any]]) -> str:
    """The caption."""
    above = dict.fromkeys(f"of {title(each)} {MEANINGS[title(each)]}" for each in sets)
    maps = dict.fromkeys(
        net["name"] for each in sets for net in each["networks"] if not net["of_the_image"]
    )
    aside = f"Of a feature map ({', '.join(maps)}): what that would make of the image. "
    runs = ". ".join(
        f"{title(each)}: "
        + ", ".join(f"{net['name']} seed {net['seed']}" for net in each["networks"])
        for each in sets
    )
    return (
        "Top: one test image in three poses. Below: what each transformer passes on, by the run's "
        f"best weights. {aside if maps else ''}Above each picture, {', '.join(above)}. {runs}."
    )
