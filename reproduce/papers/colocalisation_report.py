"""Co-localisation in the STN paper and here, from records only: table and pictures."""

from statistics import fmean
from typing import Any

from ministn.data.sources import EMBEDDED
from ministn.errors import UserError
from ministn.models import Colocaliser
from ministn.plot import drawing
from ministn.runs import Settings
from papers.claims import Record
from papers.layout import NONE, columns, pipes, wrapped
from papers.report import commands_as_markdown, commands_as_text, troubles

CLUTTER = {0: "without clutter", 16: "with clutter"}
PAPER = {0: "100", 16: "75 to 93"}  # percent found, over the ten digits

HEADER = ["digit", *(f"{words}, {what}" for words in CLUTTER.values() for what in ("%", "overlap"))]
LEGEND = (
    "Digits found, in percent of the 100 images after the last step: those whose own "
    "square, in MNIST of 28x28 pixels, overlaps the transformer's crop by more than half, "
    "intersection over union; overlap: its mean. Several seeds: mean [lowest, highest]. The "
    "transformer is told neither squares nor labels, only that all images show the same digit; the "
    "encoder has learned to classify digits, these among them."
)


def report(records: list[Record], *, markdown: bool = False) -> str:
    """The table with its commands, for a terminal or Markdown.

    Raises UserError without records of co-localisation.
    """
    parts = []
    for title, rows in tables(records).items():
        lines, notes = _lines(rows), [note for record in rows for note in _notes(record)]
        if markdown:
            parts += [f"**{title}**", pipes(HEADER, lines), *(f"- **{note}**" for note in notes)]
        else:
            warnings = [line for note in notes for line in wrapped(note, "  ! ")]
            parts.append("\n".join([title, "", *columns(HEADER, lines), *warnings]))
    if markdown:
        parts += [LEGEND, commands_as_markdown(records)]
    else:
        parts += ["\n".join(wrapped(LEGEND)), "\n".join(commands_as_text(records))]
    return "\n\n".join(parts) + "\n"


def tables(records: list[Record]) -> dict[str, list[Record]]:
    """The runs that look for digits, by what they have in common, in words; the paper's first."""
    found: dict[str, list[Record]] = {}
    looking = [r for r in records if isinstance(r["settings"].network, Colocaliser)]
    for record in sorted(looking, key=lambda r: r["settings"].pretrained.data.distractors):
        found.setdefault(title(record, _encoder_of(record, records)), []).append(record)
    if not found:
        raise UserError("there are no records of co-localisation to report: train first")
    return found


def title(record: Record, encoder: Record | None) -> str:
    """What a run was trained on, for how long, and by the help of which encoder."""
    s = record["settings"]
    training = s.training
    source = "scikit-learn's digits, enlarged" if s.data.source == EMBEDDED else "MNIST"
    text = (
        f"{training.iterations:,} iterations of {training.batch_size} pairs, learning rate "
        f"{training.lr:g}, Adam; {source}, data seed {s.data.seed}; {record['parameters']:,} "
        "parameters"
    )
    if s.pretrained.data.distractors:
        text = (
            f"NOT THE PAPER'S SETTING: crops of {s.network.crop}x{s.network.crop} pixels; an "
            "encoder that has learned from digits among patches, of which only the scores count; "
            f"of the gradient of e(T_m), {s.task.drawn:g} is learned from: {text}"
        )
    if training.loc_lr != 1:
        text += f"; loc-lr x{training.loc_lr:g}"
    if s.precision != Settings.precision:
        text += f"; {s.precision}"
    if encoder is None or encoder["best"] is None:
        return text
    return f"{text}; encoder with a test error of {encoder['best']['test_error']:.2f} %"


def _encoder_of(record: Record, records: list[Record]) -> Record | None:
    """The run that made a run's encoder, if it is among the records."""
    wanted = record["settings"].pretrained
    return next((other for other in records if other["settings"] == wanted), None)


def _lines(rows: list[Record]) -> list[list[str]]:
    digits = sorted({_digit(record) for record in rows})
    lines = []
    for digit in digits:
        line = [str(digit)]
        for clutter in CLUTTER:
            line += _cells([r for r in rows if (_digit(r), _clutter(r)) == (digit, clutter)])
        lines.append(line)
    mean, paper = ["mean"], ["paper"]
    for clutter in CLUTTER:
        mean += _cells([r for r in rows if _clutter(r) == clutter], spread=False)
        paper += [PAPER[clutter], NONE]
    return [*lines, mean, paper]


def _cells(row: list[Record], spread: bool = True) -> list[str]:
    best = [record["best"] for record in row if record["best"]]
    if not best:
        return [NONE, NONE]
    share = [100 - b["test_error"] for b in best]
    text = f"{fmean(share):.0f}" if spread else f"{fmean(share):.1f}"
    if spread and len(share) > 1:
        text += f" [{min(share):.0f}, {max(share):.0f}]"
    return [text, f"{fmean(b['test_overlap'] for b in best):.2f}"]


def _notes(record: Record) -> list[str]:
    name = f"digit {_digit(record)} {CLUTTER[_clutter(record)]}, seed {record['settings'].seed}"
    return [f"{name} {text}" for text in troubles(record)]


def _digit(record: Record) -> int:
    return int(record["settings"].data.digit)


def _clutter(record: Record) -> int:
    return int(record["settings"].data.distractors)


# -- pictures --------------------------------------------------------------------------------------


def figures(records: list[Record]) -> dict[str, Any]:
    """The crops of several runs, on the first of their images."""
    return {"stn-colocalisation.png": boxes_figure(records)}


def boxes_figure(records: list[Record], images: int = 3) -> Any:
    """A column for each digit, and rows of its first images, without clutter and with it.

    Of a table's runs on one set the first is shown.
    """
    from matplotlib.figure import Figure

    shown: dict[tuple[tuple[int, int], int], Record] = {}
    for number, rows in enumerate(tables(records).values()):
        for record in rows:
            if record["epochs"]:
                shown.setdefault(((number, _clutter(record)), _digit(record)), record)
    if not shown:
        raise UserError("there are no finished epochs of co-localisation to draw")
    digits = sorted({digit for _, digit in shown})
    bands = sorted({band for band, _ in shown})
    height = images * len(bands)
    figure = Figure(figsize=(max(5.0, len(digits)), height + 1.2), layout="constrained")
    grid = figure.subplots(height, len(digits), squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    for (band, digit), record in shown.items():
        _draw_crops(
            grid[images * bands.index(band) :, digits.index(digit)][:images],
            record,
        )
    drawing.caption(
        figure,
        "Yellow: what the transformer cuts out after the last step. Dashed: the digit's own "
        f"square, which it was never told. From above: {'. '.join(tables(records))}.",
    )
    return figure


def _draw_crops(column: Any, record: Record) -> None:
    from ministn.plot.transformers import Examples

    examples = Examples(record)
    view = examples.view(len(record["epochs"]))
    for axes, image, grid, boxes in zip(
        column, view.images, view.grids[0], examples.boxes, strict=False
    ):
        axes.set_axis_on()
        drawing.show_image(axes, image)
        drawing.draw_box(axes, boxes[0])
        drawing.draw_grid(axes, grid, image.shape[:2], cells=1)


def run_figures(record: Record) -> dict[str, Any]:
    """The figures of one run: of the encoder none."""
    from ministn import plot

    if not isinstance(record["settings"].network, Colocaliser) or not record["epochs"]:
        return {}
    return {"attention.png": plot.attention_figure(record), "progress.png": progress(record)}


def progress(record: Record) -> Any:
    """The loss, and how many digits are found, over the epochs of a run."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    epochs = record["epochs"]
    figure = Figure(figsize=(9.0, 3.4), layout="constrained")
    panels = {
        "loss": [("pairs of the epoch", "train_loss"), ("the same pairs always", "test_loss")],
        "digits found, percent": [("", "test_error")],
    }
    for axes, (name, curves) in zip(figure.subplots(1, 2), panels.items(), strict=True):
        for words, key in curves:
            values = [100 - e[key] if key == "test_error" else e[key] for e in epochs]
            axes.plot([e["epoch"] for e in epochs], values, "o-", label=words or None)
        axes.set(xlabel="epoch of all pairs", ylabel=name, ylim=(0, None))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(color=drawing.PALE)
    figure.axes[0].legend(frameon=False)
    figure.suptitle(
        f"Digit {_digit(record)} {CLUTTER[_clutter(record)]}, seed {record['settings'].seed}"
    )
    drawing.caption(figure, title(record, None))
    return figure
