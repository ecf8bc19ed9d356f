"""What transformers look at: their grids T_theta(G) on the input, and what they pass on.

A record holds theta of its example images after every epoch. What theta means is asked of the
network, which is built by its name.
"""

from collections.abc import Callable, Sequence
from functools import partial
from itertools import zip_longest
from math import prod
from typing import NamedTuple, get_args

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ministn.backend import parted, to_cpu
from ministn.data import Form, as_batch
from ministn.errors import UserError, check_arrays, check_count, check_index, check_kind
from ministn.fit.predicting import network_images
from ministn.models import Network
from ministn.plot.drawing import (
    CHANNELS,
    GREEN,
    PURPLE,
    VERMILION,
    YELLOW,
    caption,
    draw_box,
    draw_grid,
    show_image,
)
from ministn.plot.shared import Record, check_record, check_words, described, named
from ministn.training.examples import from_text
from ministn.transformer import Front, SpatialTransformer
from ministn.transformer.transforms import OfMatrix

MARGIN = 0.16  # around an input, as a share of its size: attention may leave it

# Of transformers side by side, or glimpses one after another: colour, line style, both in words.
LOOKS = [
    (YELLOW, "-", "solid yellow"),
    (PURPLE, "--", "dashed pink"),
    (GREEN, "-.", "dash-dotted green"),
    (VERMILION, ":", "dotted red"),
]

Show = Callable[[Axes, int], None]  # draws a panel of a row


class View(NamedTuple):
    """What K transformers side by side make of N images.

    images: (N, H, W, C), 0..255. grids: K arrays (N, h, w, 2), as they are to be drawn. warped: K
    arrays (N, h, w, C), 0..255. names: of the images, N or none. boxes: (N, b, 4), of the digits in
    each image, or None.
    """

    heading: str
    images: np.ndarray
    grids: Sequence[np.ndarray]
    warped: Sequence[np.ndarray]
    names: Sequence[str] = ()
    boxes: np.ndarray | None = None

    def panels(self, plain: bool) -> list[tuple[str, Show]]:
        """Names and drawings of a row's panels; plain: with the bare input as well."""
        count = len(self.warped)
        numbers = [""] if count == 1 else [f" {number}" for number in range(1, count + 1)]
        warped = [(f"warped{n}", partial(self.show_warped, k)) for k, n in enumerate(numbers)]
        if plain:
            return [("input", self.show_input), ("grid", self.show_grids), *warped]
        return [("input", self.show_grids), *warped]

    def show_input(self, axes: Axes, row: int) -> None:
        show_image(axes, self.images[row])

    def show_grids(self, axes: Axes, row: int) -> None:
        """The input with the digits' boxes, and the grids on it."""
        show_image(axes, self.images[row], MARGIN)
        for box in () if self.boxes is None else self.boxes[row]:
            draw_box(axes, box)
        count, size = len(self.grids), self.images.shape[1:3]
        cells = 4 if count == 1 else 1  # lines inside grids that overlap are a tangle
        for grid, (colour, style, _) in zip(self.grids, _looks(count), strict=True):
            draw_grid(axes, grid[row], size, cells=cells, colour=colour, style=style)

    def show_warped(self, number: int, axes: Axes, row: int) -> None:
        """What one transformer passes on, framed like its grid if there are several."""
        show_image(axes, self.warped[number][row])
        if len(self.warped) > 1:
            colour, style, _ = _looks(len(self.warped))[number]
            axes.spines[:].set(color=colour, linestyle=style, linewidth=1.8)


# -- of a transformer ------------------------------------------------------------------------------


def draw_transformer(transformer: Front, images: np.ndarray) -> Figure:
    """A transformer at work: a row for each image, with the input, T_theta(G) on it, the output.

    images: (N, H, W, C), float32 or float64, what the transformer gets: images or feature maps, on
    the engine of its parameters. Two or three channels are shown in colours that add up to white,
    of more the mean; black is the least value, white the greatest. Transformers in parallel, and
    glimpses, have a colour and a line style each, and an output each.

    Raises TypeError for what is no transformer, TypeError or ValueError for images of another dtype
    or shape, or with no pixel.
    """
    check_kind("transformer", transformer, *get_args(Front))
    check_arrays(images=(images, "N H W C"))
    if not images.size:
        raise ValueError(f"images must have at least one pixel, got shape {images.shape}")
    transformers = transformer.at_input
    thetas = parted(transformer.theta(images), [len(one.start) for one in transformers])
    view = look(transformer.path, transformers, images, thetas, sampling_grid)
    mean = images.shape[3] > max(CHANNELS)
    seen = view.images.mean(axis=3) if mean else view.images
    low, high = seen.min(), seen.max()
    scale = 255 / (high - low if high > low else 1)
    view = view._replace(
        images=(view.images - low) * scale,
        warped=[(warped - low) * scale for warped in view.warped],
    )
    figure = sheet([view], len(images))
    caption(figure, explanation(len(transformers)))
    return figure


def draw(network: Network, images: np.ndarray, number: int = 0, *, rows: int = 8) -> Figure:
    """One of a network's transformers at work, see draw_transformer, wherever it stands.

    images: (N, H, W) or (N, H, W, C), bytes or float32, as the network is trained on; the first
    ``rows`` are drawn. number: of the transformer, or arrangement of several, from 0 in the order
    in which they look.

    Raises UserError where there is no such transformer, TypeError or ValueError as ``predict``.
    """
    number, rows = check_index("number", number), check_count("rows", rows)
    images = network_images(network, images)[:rows]
    found = network.at_work(as_batch(images))
    if number >= len(found):
        has = f"{len(found)}, numbered from 0" if found else "none"
        raise UserError(
            f"number must be that of a transformer, the network has {has}; got {number}"
        )
    return draw_transformer(*found[number])


def sampling_grid(transformer: SpatialTransformer, theta: np.ndarray) -> np.ndarray:
    """T_theta(G): theta (N, P) -> where in the input V is read, (N, h, w, 2).

    Of volumes the mean along the output's depth.
    """
    size = transformer.sampler.grid_size(transformer.size)
    grid, _ = transformer.transform.forward(theta, size)
    return grid if len(size) == 2 else grid.mean(axis=1)[..., :2]


def attended(transformer: SpatialTransformer, theta: np.ndarray) -> np.ndarray:
    """The same of an affine transform's corners alone, (N, 2, 2, 2): a quadrilateral."""
    if isinstance(transformer.transform, OfMatrix):
        return transformer.transform.forward(theta, (2, 2))[0]
    return sampling_grid(transformer, theta)


def look(
    heading: str,
    transformers: Sequence[SpatialTransformer],
    images: np.ndarray,
    thetas: Sequence[np.ndarray],
    grid: Callable[[SpatialTransformer, np.ndarray], np.ndarray],
) -> View:
    """A view without names and boxes. thetas: of each transformer (N, P). grid: how to draw it."""
    pairs = list(zip(transformers, thetas, strict=True))
    grids = [to_cpu(grid(one, theta)) for one, theta in pairs]
    warped = [to_cpu(one.warp(images, theta)) for one, theta in pairs]
    return View(heading, to_cpu(images), grids, warped)


# -- of a record -----------------------------------------------------------------------------------


class Examples:
    """The example images of a record, and what its network's transformers make of them.

    Raises UserError for a record of a network without a transformer or without an epoch.
    """

    def __init__(self, record: Record) -> None:
        check_record(record)
        self.record = record
        found = record["examples"]
        images = from_text(found)
        self.images = images if images.ndim == 4 else images[..., None]
        labels = np.array(found["labels"])
        self.names = [" ".join(map(str, label)) if label.ndim else f"a {label}" for label in labels]
        self.boxes = np.array(found["boxes"]).reshape(len(images), -1, 4)
        self.volumes = "size" in found  # then the images are means along the depth
        size = tuple(found["size"]) if self.volumes else self.images.shape[1:3]
        channels = prod(self.images.shape[3:])
        # What is in front does not depend on the number of classes.
        form = Form(size, channels, labels=labels.shape[1:])
        network = record["settings"].network.build(form)
        front: Front | None = network.front
        self.transformers: Sequence[SpatialTransformer] = front.at_input if front else ()
        if not self.transformers or not record["epochs"]:
            raise UserError(
                f"no attention to draw: {named(record)[0]} has no transformer or no epoch yet"
            )

    @property
    def last(self) -> tuple[int, str]:
        """The best epoch, or while there is none the last, and in words which of them it is."""
        best = self.record["best"]
        if best is None:
            return len(self.record["epochs"]), "last so far"
        return best["epoch"], "last" if self.record["settings"].training.iterations else "best"

    @property
    def flat(self) -> str:
        """What to say of volumes."""
        if not self.volumes:
            return ""
        return "Of volumes, input, grid and output, the mean along the depth is shown. "

    @property
    def bent(self) -> bool:
        """Whether a transformer does more than an affine transform."""
        return not all(isinstance(one.transform, OfMatrix) for one in self.transformers)

    def view(self, epoch: int, heading: str = "", grid: Callable = attended) -> View:
        """After an epoch; 0 is the beginning."""
        thetas = self.thetas(epoch)
        if self.volumes:
            found = self.record["epochs"][epoch - 1] if epoch else self.record["examples"]
            grids = [grid(self.transformers[0], thetas[0])]
            view = View(heading, self.images, grids, [from_text(found["projections"])[..., None]])
        else:
            view = look(heading, self.transformers, self.images.astype(np.float32), thetas, grid)
        return view._replace(images=self.images, names=self.names, boxes=self.boxes)

    def thetas(self, epoch: int) -> list[np.ndarray]:
        """Of each transformer (N, P), float32. Raises UserError where the record has others."""
        starts = [one.start for one in self.transformers]
        ends = np.cumsum([len(start) for start in starts])
        count = len(self.images)
        if epoch == 0:
            theta = np.tile(np.concatenate(starts), (count, 1))
        else:
            theta = np.array(self.record["epochs"][epoch - 1]["theta"]).reshape(count, -1)
        if theta.shape[1] != ends[-1]:
            raise UserError(
                f"epoch {epoch} of this record has {theta.shape[1]} numbers of theta for each "
                f"image, but {named(self.record)[0]} has {ends[-1]}: it was written "
                "by another version; run it again"
            )
        return np.split(theta.astype(np.float32), ends[:-1], axis=1)


def attention_figure(record: Record, name: Sequence[str] = (), description: str = "") -> Figure:
    """What the transformer attends to in six test images, at epoch 0, halfway and at the best.

    name: of the network, then what is special about the run. description: of the run, for the
    caption. Without them those of the record's settings.

    Raises UserError for a record of a network without a transformer or without an epoch.
    """
    check_words("name", name)
    check_kind("description", description, str)
    examples = Examples(record)
    last, word = examples.last
    unmoved = all(one.start == one.transform.identity for one in examples.transformers)
    views = [examples.view(0, "epoch 0, identity" if unmoved else "epoch 0")]
    if last // 2:
        views.append(examples.view(last // 2, f"epoch {last // 2}"))
    views.append(examples.view(last, f"epoch {last}, {word}"))
    figure = sheet(views, len(examples.images), plain=False)
    network, *deviations = name or named(record)
    setting = ", ".join([*deviations, f"seed {record['settings'].seed}"])
    figure.suptitle(f"Where {network} looks ({setting})", fontsize=12)
    noun = "sampling grid" if examples.bent else "attended quadrilateral"
    box = "the digit's own image, before it is turned" if examples.volumes else "the digit's ink"
    caption(
        figure,
        f"First six test images. {explanation(len(examples.transformers), noun)} Dashed, blue: the "
        f"box of {box}. Beside each input the warped image, which is all that the classifier sees. "
        f"{examples.flat}{description or described(record)}",
    )
    return figure


def grid_figure(records: Sequence[Record], names: Sequence[str] = (), count: int = 6) -> Figure:
    """Like the figure beside the STN paper's Table 1, a group of columns for each run at its best.

    A row for each of the first ``count`` test images: the input, T_theta(G) on it, the output.
    names: of the runs, by default those of network and data set.

    Raises UserError without a record, or as attention_figure does.
    """
    check_kind("records", records, list, tuple)
    check_words("names", names)
    if not records:
        raise UserError("there are no records to draw")
    count = check_count("count", count)
    views, flat = [], ""
    for record, name in zip_longest(records, names):
        examples = Examples(record)
        flat = flat or examples.flat
        heading = name or f"{named(record)[0]}, {record['settings'].data.name}"
        view = examples.view(examples.last[0], heading, sampling_grid)
        views.append(view._replace(boxes=None))
    figure = sheet(views, min(count, *(len(view.images) for view in views)))
    most = max(len(view.grids) for view in views)
    words = dict.fromkeys(described(record) for record in records)
    caption(figure, f"{explanation(most)} {flat}{' '.join(words)}")
    return figure


# -- layout ----------------------------------------------------------------------------------------


def sheet(views: Sequence[View], rows: int, *, plain: bool = True) -> Figure:
    """A row for each image and for each view a group of columns: grids on the input, then outputs.

    plain: before them the input with nothing on it.
    """
    groups = [view.panels(plain) for view in views]
    width = sum(map(len, groups))
    figure = Figure(figsize=(1.55 * width, 1.45 * rows + 1.3), layout="compressed")
    ratios = [ratio for group in groups for ratio in [1.0] * len(group) + [0.12]][:-1]
    grid = figure.add_gridspec(rows, len(ratios), width_ratios=ratios)
    start = 0
    names: Sequence[str] = ()
    for view, group in zip(views, groups, strict=True):
        for row in range(rows):
            for number, (word, show) in enumerate(group):
                axes = figure.add_subplot(grid[row, start + number])
                show(axes, row)
                if row == 0:
                    heading = view.heading if number == (len(group) - 1) // 2 else ""
                    axes.set_title(f"{heading}\n{word}", fontsize=10)
                if number == 0 and view.names != names:
                    axes.set_ylabel(view.names[row])
        start, names = start + len(group) + 1, view.names
    return figure


def explanation(count: int, noun: str = "sampling grid") -> str:
    """The lines of ``count`` transformers, in words."""
    if count == 1:
        lines = f"Solid, yellow: the {noun}, with a dot where the warped image has its"
    else:
        words = ", ".join(f"{n} {line}" for n, (_, _, line) in enumerate(_looks(count), 1))
        lines = f"The {noun}s ({words}), each with a dot where its warped image has its"
    return f"{lines} top left corner; a word stands for one that is out of view."


def _looks(count: int) -> list[tuple[str, str, str]]:
    return [LOOKS[number % len(LOOKS)] for number in range(count)]
