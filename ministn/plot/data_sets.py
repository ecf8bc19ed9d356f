"""Contact sheets: what the images of a set look like, with their labels and true poses."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure

from ministn import data
from ministn.data import (
    addition,
    colocalisation,
    cub,
    distorted,
    extruded,
    mnist,
    sources,
    svhn,
    two_parts,
)
from ministn.data.dataset import Digits
from ministn.metrics.attention import BOX_CORNERS
from ministn.plot.drawing import YELLOW, caption, outline, show_image

ROWS, COLUMNS = 5, 10
DIGIT = 4  # whose co-localisation is shown
BIRDS = 96  # pixels of each side of a bird's picture
FRAME = "Yellow: the frame of the digit's own image, a dot at its top left."


class Panel(NamedTuple):
    """image: (H, W) or (H, W, 3) uint8. outlines: of points (k, 2) in pixels, in turn."""

    image: np.ndarray
    words: str
    outlines: Sequence[np.ndarray] = ()


class Sheet(NamedTuple):
    title: str
    panels: list[Panel]
    explanation: str = FRAME


def contact_sheet(name: str, data_dir: Path | None = None, seed: int = 0) -> Figure:
    """The first test images of a set, of one of SETS. Raises UserError as the set does."""
    sheet = SETS[name](data_dir, seed)
    figure = Figure(figsize=(1.25 * COLUMNS, 1.45 * ROWS + 1), layout="constrained")
    places = figure.subplots(ROWS, COLUMNS).flat
    for axes, panel in zip(places, sheet.panels, strict=True):
        show_image(axes, panel.image)
        axes.set_title(panel.words, fontsize=9)
        for each in panel.outlines:
            closed = np.concatenate([each, each[:1]])
            fixed = {"color": YELLOW, "scalex": False, "scaley": False}
            axes.plot(*closed.T, linewidth=1.0, **fixed)
            axes.plot(*closed[0], "o", markersize=3, **fixed)
    figure.suptitle(f"{sheet.title} (data seed {seed})")
    caption(figure, sheet.explanation)
    return figure


def _digits(data_dir: Path | None) -> Digits:
    return mnist.load(data_dir)["test"]


def _cluttered(name: str, data_dir: Path | None, seed: int) -> Sheet:
    made = replace(data.CLUTTERED[name], seed=seed, train_size=1)
    split = made.load(data_dir).test
    panels = [Panel(split.images[i], f"a {split.labels[i]}") for i in range(ROWS * COLUMNS)]
    return Sheet(f"{name}: digits among clutter", panels, "No two digits are the same image.")


def _cropped(data_dir: Path | None, seed: int) -> Sheet:
    split = data.CroppedToDigit(train_size=1, seed=seed).load(data_dir).test
    panels = [
        Panel(split.images[i], f"a {split.labels[i]}", [split.boxes[i][BOX_CORNERS]])
        for i in range(ROWS * COLUMNS)
    ]
    explanation = "Yellow: the box of the digit's ink, a dot at its top left."
    return Sheet("Digits cut out of clutter by their true boxes", panels, explanation)


def _distorted(recipe: distorted.Recipe, data_dir: Path | None, seed: int) -> Sheet:
    split = distorted.generate(recipe, "test", _digits(data_dir), ROWS * COLUMNS, seed=seed)
    return Sheet(f"MNIST distorted: {recipe.name}", _posed(split))


def _addition(data_dir: Path | None, seed: int) -> Sheet:
    split = addition.generate("test", _digits(data_dir), ROWS * COLUMNS // 2, seed=seed)
    panels = []
    for i, label in enumerate(split.labels):
        for channel, words in enumerate(("", f"sum {label}")):
            image = split.images[i, ..., channel]
            panels.append(Panel(image, words, [outline(split.poses[i, channel], image.shape)]))
    return Sheet("MNIST addition: two channels side by side", panels)


def _colocalisation(distractors: int, data_dir: Path | None, seed: int) -> Sheet:
    digits = sources.for_training(mnist.load(data_dir))
    split = colocalisation.generate(
        digits, DIGIT, seed=seed, count=ROWS * COLUMNS, distractors=distractors
    )
    return Sheet(f"Co-localisation, {distractors} patches of clutter", _posed(split))


def _crops(data_dir: Path | None, seed: int) -> Sheet:
    digits = _digits(data_dir)
    recipe = colocalisation.crops_recipe(digits.images.shape[1])
    split = distorted.generate(recipe, "test", digits, ROWS * COLUMNS, seed=seed)
    return Sheet("What crops show of digits", _posed(split), "For the encoder of co-localisation.")


def _extruded(data_dir: Path | None, seed: int) -> Sheet:
    count = ROWS * COLUMNS // 2
    digits = _digits(data_dir)[:count]
    volumes = extruded.volumes(digits.images, extruded.draw("test", count, seed=seed))
    panels = []
    for volume, label in zip(volumes, digits.labels, strict=True):
        for axis, words in ((0, f"a {label}, along z"), (2, "along x")):
            panels.append(Panel(volume.max(axis=axis), words))
    explanation = "Each volume twice: the brightest voxel along z and, beside it, along x."
    return Sheet("Extruded digits in 60x60x60 voxels", panels, explanation)


def _sequences(data_dir: Path | None, seed: int) -> Sheet:
    split = data.Sequences(train_size=1, seed=seed).load(data_dir).test
    panels = [
        Panel(image, " ".join(map(str, labels)), boxes[:, BOX_CORNERS])
        for image, labels, boxes in zip(split.images, split.labels, split.boxes, strict=True)
    ]
    explanation = "Yellow: the box of each digit's ink, a dot at its top left."
    return Sheet("Sequences among clutter", panels[: ROWS * COLUMNS], explanation)


def _plankton(data_dir: Path | None, seed: int) -> Sheet:
    split = data.Plankton(train_size=1, seed=seed).load(data_dir).test
    panels = [
        Panel(image, f"class {label}", [box[BOX_CORNERS]])
        for image, label, box in zip(split.images, split.labels, split.boxes, strict=True)
    ]
    explanation = "Yellow: the picture as it was cut out; the rest is padding."
    return Sheet("PlanktonSet, inverted", panels[: ROWS * COLUMNS], explanation)


def _svhn(data_dir: Path | None, seed: int) -> Sheet:
    split = data.Svhn(train_size=1, seed=seed).load(data_dir).test
    panels = []
    for image, labels in zip(split.images, split.labels, strict=True):
        panels.append(Panel(image, "".join(str(each) for each in labels if each != svhn.BLANK)))
    return Sheet("SVHN: house numbers", panels[: ROWS * COLUMNS], "The boxes of all digits, +30 %.")


def _cub(data_dir: Path | None, seed: int) -> Sheet:
    place = cub.find_folder(data_dir)
    chosen = cub.by_split(place, cub.listed(place))["test"][: ROWS * COLUMNS]
    explanation = "Yellow: the bird's box, a dot at its top left, and dots where its parts are."
    return Sheet("CUB-200-2011", _with_parts(cub.read(place, chosen, BIRDS)), explanation)


def _drawn(data_dir: Path | None, seed: int) -> Sheet:
    split = two_parts.generate("test", ROWS * COLUMNS, cub.DRAWN_SIDE, seed=seed)
    explanation = "Yellow: the boxes of head and body, a dot at the top left and in the middle."
    return Sheet("Pictures drawn in place of birds", _with_parts(split), explanation)


def _with_parts(split: data.PartSplit) -> list[Panel]:
    panels = []
    each = zip(split.images, split.labels, split.boxes, split.parts, strict=True)
    for image, label, boxes, parts in each:
        dots = [part[None, :2] for part in parts if part[2]]
        outlines = [*boxes.reshape(-1, 4)[:, BOX_CORNERS], *dots]
        panels.append(Panel(image, f"class {label + 1}", outlines))
    return panels


def _posed(split: data.PosedSplit) -> list[Panel]:
    size = split.images.shape[1:]
    return [
        Panel(image, f"a {label}", [outline(pose, size)])
        for image, label, pose in zip(split.images, split.labels, split.poses, strict=True)
    ]


SETS: dict[str, Callable[[Path | None, int], Sheet]] = {}
SETS |= {name: partial(_cluttered, name) for name in data.CLUTTERED}
SETS |= {name: partial(_distorted, recipe) for name, recipe in distorted.RECIPES.items()}
SETS |= {
    "addition": _addition,
    "colocalisation": partial(_colocalisation, 0),
    "colocalisation-clutter": partial(_colocalisation, colocalisation.DISTRACTORS),
    "cropped": _cropped,
    "crops": _crops,
    "cub": _cub,
    "cub-drawn": _drawn,
    "extruded": _extruded,
    "plankton": _plankton,
    "sequences": _sequences,
    "svhn": _svhn,
}
