"""The STN paper's MNIST figures beside ours, from records only: table, claims, picture.

Runs belong in one table when all their settings but set, network and seed agree; for a network
without a transformer, the learning rate of localisation networks says nothing.
"""

from collections.abc import Iterator
from statistics import fmean
from typing import Any

from ministn.data import Addition, Distorted, Extruded
from ministn.data.sources import EMBEDDED
from ministn.errors import UserError
from ministn.kinds import leaves
from ministn.models import projection, stn
from ministn.plot import drawing
from ministn.runs import Settings
from ministn.training.protocol import Training
from papers import stn_runs
from papers.claims import (
    Record,
    Row,
    Table,
    Verdict,
    by_seed,
    compared,
    grouped,
    missing,
    smaller,
)
from papers.layout import NONE, pipes
from papers.report import Told, folded, least_hours, printed, spread, troubles
from papers.stn_runs import PROJECTION, PROTOCOL, SEEDS

# Test errors in percent: Table 1, of TC the text of section 4.1, of addition that of appendix A.1,
# which has the best transform of each kind only. Of projections it has none.
PAPER = {
    "r": {
        "fcn": 2.1, "cnn": 1.2,
        "st-fcn-affine": 1.2, "st-fcn-projective": 1.3, "st-fcn-tps": 1.1,
        "st-cnn-affine": 0.7, "st-cnn-projective": 0.8, "st-cnn-tps": 0.7,
    },
    "rts": {
        "fcn": 5.2, "cnn": 0.8,
        "st-fcn-affine": 0.8, "st-fcn-projective": 0.9, "st-fcn-tps": 0.8,
        "st-cnn-affine": 0.5, "st-cnn-projective": 0.6, "st-cnn-tps": 0.5,
    },
    "tc": {"fcn": 13.2, "cnn": 3.5, "st-fcn-affine": 2.0, "st-cnn-affine": 1.7},
    "p": {
        "fcn": 3.1, "cnn": 1.5,
        "st-fcn-affine": 1.5, "st-fcn-projective": 1.4, "st-fcn-tps": 1.4,
        "st-cnn-affine": 0.8, "st-cnn-projective": 0.8, "st-cnn-tps": 0.8,
    },
    "e": {
        "fcn": 3.2, "cnn": 1.4,
        "st-fcn-affine": 2.7, "st-fcn-projective": 2.6, "st-fcn-tps": 2.4,
        "st-cnn-affine": 1.2, "st-cnn-projective": 1.3, "st-cnn-tps": 1.1,
    },
    "addition": {"fcn": 47.7, "cnn": 14.7, "st-fcn-projective": 18.5, "2st-fcn-tps": 5.8},
    "projection": {},
}  # fmt: skip
PROJECTED = "fcn", "cnn", "st-fcn", "st-cnn"
MODELS = list(dict.fromkeys([*(network.name for network in stn.TABLE + stn.ADDITION), *PROJECTED]))

HEADER = ["network", "parameters", "seeds", "train", "test", "paper", "pose", "unmoved"]
LEGEND = (
    "Errors in percent after the last step: nothing is chosen by the test images. Several seeds: "
    "mean [lowest, highest]. paper: test error there. pose: how far from where they truly lie in "
    "the image the points are that the transformer shows, in pixels, apart from one affine map "
    "common to all images (pose.py); unmoved: the same of a transformer that does nothing."
)
RULES = (
    "Networks are compared on the same test images, seed by seed: difference of the test errors "
    "[95 % interval], p of the exact McNemar test. '<' holds if every seed's difference is "
    "negative and significant at 5 %; it does not hold if every one is positive and significant."
)


def report(records: list[Record], *, markdown: bool = False) -> str:
    """The tables with their claims and commands, for a terminal or Markdown.

    Raises UserError without records, for those of other scripts, and when two of one run disagree.
    """
    return printed(map(told, tables(records)), [LEGEND, RULES], markdown=markdown)


def section(records: list[Record]) -> str:
    """What the page says of them: the report, and what of the paper's was not run."""
    text = report(records, markdown=True).strip()
    return "\n\n".join(filter(None, [text, not_run(records)]))


def told(table: Table) -> Told:
    """What it says of a table."""
    first = table[0][0]
    return Told(
        title(first),
        HEADER,
        [cells(row) for row in table],
        [record for row in table for record in row],
        verdicts(table),
        scope(first),
        troubles=[text for row in table for text in remarks(row)],
        whose="The paper's claims" if protocol_of(first) is PROTOCOL else "Our claims",
    )


def not_run(records: list[Record]) -> str:
    """Of the paper's cells of these sets that lack seeds of its protocol: its error, the command,
    and the hours of one seed, of which a shorter run took as many for each image.
    """
    lines = []
    trained_on = {cell_of(record)[0] for record in records}
    for name in filter(trained_on.__contains__, PAPER):
        for model, error in PAPER[name].items():
            own = [record for record in records if cell_of(record) == (name, model)]
            seeds = missing((record for record in own if not scope(record)), SEEDS)
            if not seeds:
                continue
            of_set = "addition.py" if name == "addition" else f"table1.py --sets {name}"
            words = f"python reproduce/stn_{of_set} --models {model}"
            command = f"`{words} --seeds {' '.join(map(str, seeds))}`"
            finished = (record for record in own if record["status"] == "finished")
            hours = least_hours((record, _share(record)) for record in finished)
            lines.append([f"{error}", command, hours])
    if not lines:
        return ""
    words = (
        f"The paper's protocol, {PROTOCOL.iterations:,} iterations of batch {PROTOCOL.batch_size}. "
        "paper: its error. Hours of one seed, as long as a shorter run took here for each image, "
        "some beside other work; `--plan` says how many it would be on another machine."
    )
    return folded("Not run", f"{words}\n\n{pipes(['paper', 'command', 'hours'], lines)}")


def _share(record: Record) -> float:
    """Of the protocol's images."""
    training = record["settings"].training
    assert PROTOCOL.iterations is not None
    whole = PROTOCOL.iterations * PROTOCOL.batch_size
    return float(training.iterations * training.batch_size / whole)


def tables(records: list[Record]) -> list[Table]:
    """Records in tables, and in rows by set and network, in the paper's order.

    Raises UserError without records, for those of other scripts, and when two of one run disagree.
    """
    if not records:
        raise UserError("there are no records to report: train first")
    for record in records:
        if record["settings"].data.kind not in SETS:
            raise UserError(f"{record['settings'].network.name} is no network of this table")
    found = []
    for _, same in grouped(records, _protocol):
        rows = [by_seed(row) for _, row in grouped(same, _place)]
        found.append(rows)
    return sorted(found, key=lambda table: scope(table[0][0]))


# The set of an experiment, and the model, as the table has them.
SETS = {
    Distorted.kind: lambda s: (s.data.recipe.lower(), s.network.name),
    Addition.kind: lambda s: ("addition", s.network.name),
    Extruded.kind: lambda s: ("projection", PROJECTED[projection.PROJECTED.index(s.network)]),
}


def cell_of(record: Record) -> tuple[str, str]:
    """Set and model."""
    settings: Settings = record["settings"]
    return SETS[settings.data.kind](settings)


def protocol_of(record: Record) -> Training:
    """The paper's protocol, or ours where it has none."""
    return PROJECTION if cell_of(record)[0] == "projection" else PROTOCOL


def title(record: Record) -> str:
    """What was trained on, for how long, and how far that is from the paper."""
    protocol = protocol_of(record)
    return stn_runs.title(record, protocol, "The paper's" if protocol is PROTOCOL else "Our")


def scope(record: Record) -> str:
    """How the runs of a table differ from the protocol; empty if they do not."""
    return stn_runs.scope(record, protocol_of(record))


def cells(row: Row) -> list[str]:
    """One line of the table: HEADER of one network on one set."""
    first, (name, model) = row[0], cell_of(row[0])
    best = [record["best"] for record in row if record["status"] == "finished"]
    published = PAPER[name].get(model)
    pose = [b["test_pose_spread"] for b in best if b and b["test_pose_spread"] is not None]
    unmoved = [b["test_pose_unmoved"] for b in best if b and b["test_pose_spread"] is not None]
    return [
        label(first),
        f"{first['parameters']:,}",
        " ".join(str(record["settings"].seed) for record in row),
        spread([b["train_error"] for b in best if b]),
        spread([b["test_error"] for b in best if b]),
        NONE if published is None else f"{published:g}",
        *(f"{fmean(values):.2f}" if values else NONE for values in (pose, unmoved)),
    ]


def label(record: Record) -> str:
    """The set, the network's name, and the setting of its row that is not the paper's."""
    name, model = cell_of(record)
    text = f"{name if name in ('addition', 'projection') else name.upper()} {spoken(model)}"
    loc_lr = record["settings"].training.loc_lr
    return text if loc_lr == 1 or not _has_transformer(record) else f"{text}, loc-lr x{loc_lr:g}"


def spoken(model: str) -> str:
    """A model's name as the paper writes it: "2xST-FCN TPS"."""
    words = {"affine": " Aff", "projective": " Proj", "tps": " TPS"}
    kind, _, last = model.rpartition("-")
    if last not in words:
        kind, last = model, ""
    return kind.upper().replace("2ST", "2xST") + words.get(last, "")


def remarks(row: Row) -> list[str]:
    """What went wrong, in words."""
    return [
        f"{label(record)}, seed {record['settings'].seed} {text}"
        for record in row
        for text in troubles(record)
    ]


def verdicts(table: Table) -> list[Verdict]:
    """The paper's claims on the networks that the table has."""
    found = []
    for _, rows in grouped([row[0] for row in table], lambda record: cell_of(record)[0]):
        runs = {label(row[0]): row for row in table if row[0] in rows}
        models = {name: cell_of(row[0])[1] for name, row in runs.items()}
        for first, model in models.items():
            for second, other in models.items():
                if (model, other) in claimed(model):
                    found.append(compared(f"{first} < {second}", runs, (first, second), smaller))
    return found


def claimed(model: str) -> Iterator[tuple[str, str]]:
    """Pairs of models of which the paper says that the first errs less; of projections, we do."""
    if model.startswith("st-fcn"):
        yield model, "fcn"
    if model.startswith("st-cnn"):
        yield model, "cnn"
    if model.startswith("st-cnn-"):
        yield model, model.replace("st-cnn", "st-fcn")
    if model.startswith("2st-fcn"):
        yield model, model.removeprefix("2")
        yield model, "cnn"


def figures(records: list[Record]) -> dict[str, Any]:
    """Pictures of several runs of one script: their errors, and some of their transformers."""
    kind = cell_of(records[0])[0]
    kind = kind if kind in ("addition", "projection") else "stn"
    found = {f"{kind}-errors.png": errors_figure(records)}
    if pictured(records):
        found[f"{kind}-transformers.png"] = transformers_figure(records)
    return found


def transformers_figure(records: list[Record]) -> Any:
    """What the best transformers make of test images, each set's and one of bent grids."""
    from ministn import plot

    shown = pictured(records)
    return plot.grid_figure(shown, ["-".join(cell_of(record)) for record in shown])


def pictured(records: list[Record]) -> list[Record]:
    """Of each set, the run with a transformer whose test error is the lowest; among all, if they
    are not there, the best with a thin plate spline, whose grids are bent.
    """
    done = [record for record in records if record["best"] and _has_transformer(record)]

    def best(runs: list[Record]) -> Record:
        return min(runs, key=lambda record: record["best"]["test_error"])

    found = [best(same) for _, same in grouped(done, _set_of)]
    bent = [record for record in done if cell_of(record)[1].endswith("tps")]
    if bent and not any(record in bent for record in found):
        found = sorted([*found, best(bent)], key=_set_of)
    return found


def _set_of(record: Record) -> int:
    """The place of its set among all."""
    return [*PAPER].index(cell_of(record)[0])


def errors_figure(records: list[Record]) -> Any:
    """Test errors, ours and the paper's: a panel for each set of each table."""
    from papers import error_panels

    def published(record: Record) -> float | None:
        name, model = cell_of(record)
        return PAPER[name].get(model)

    found = tables(records)
    return error_panels.errors_figure(
        found,
        name=lambda record: cell_of(record)[0],
        label=label,
        transforms=_has_transformer,
        published=published,
        words=". ".join(dict.fromkeys(title(table[0][0]) for table in found)),
    )


def run_figures(record: Record) -> dict[str, Any]:
    """The figures of one run."""
    from ministn import plot

    found = {"progress.png": progress_figure(record)} if record["epochs"] else {}
    if _has_transformer(record) and record["epochs"]:
        found["attention.png"] = plot.attention_figure(record)
    return found


def progress_figure(record: Record) -> Any:
    """Errors, and how well the transformer undoes the distortions, over the epochs of a run."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    epochs = record["epochs"]
    numbers = [entry["epoch"] for entry in epochs]
    undone = epochs[0]["pose_spread"] is not None
    figure = Figure(figsize=(9.0 if undone else 5.0, 3.6), layout="constrained")
    grid = figure.subplots(1, 1 + undone, squeeze=False)[0]
    for kind, colour in (("train", drawing.GREY), ("test", drawing.BLUE)):
        errors = [max(entry[f"{kind}_error"], drawing.LEAST) for entry in epochs]
        grid[0].plot(numbers, errors, "o-", color=colour, label=kind)
    grid[0].set_yscale("log")
    drawing.plain_logarithm(grid[0].yaxis)
    grid[0].set_ylabel("error, percent (logarithmic)")
    if undone:
        pose = [entry["pose_spread"] for entry in epochs]
        grid[1].plot(numbers, pose, "o-", color=drawing.VERMILION, label="pose")
        grid[1].axhline(epochs[0]["pose_unmoved"], color=drawing.GREY, ls=":", label="unmoved")
        grid[1].set_ylim(bottom=0)
        grid[1].set_ylabel("pixels")
    for axes in grid:
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(color=drawing.PALE)
        axes.legend(frameon=False)
    figure.suptitle(f"{label(record)}, seed {record['settings'].seed}", fontsize=11)
    words = f"{title(record)}. Training errors are running, those of an epoch. {LEGEND}"
    drawing.caption(figure, words)
    return figure


def _has_transformer(record: Record) -> bool:
    network = record["settings"].network
    return bool(getattr(network, "transform", None) or getattr(network, "transformed", False))


def _protocol(record: Record) -> tuple[Any, ...]:
    """What all runs of a table share."""
    found = leaves(record["settings"])
    which = ("base", "transform", "count", "halved", "transformed")
    apart = {"data", "data.recipe", "network", "seed", "training.loc_lr"}
    apart |= {f"network.{name}" for name in which}
    embedded = record["settings"].data.source == EMBEDDED
    return (embedded, *((path, repr(found[path])) for path in sorted(found.keys() - apart)))


def _place(record: Record) -> tuple[Any, ...]:
    """Where a run's row stands."""
    name, model = cell_of(record)
    loc_lr = record["settings"].training.loc_lr if _has_transformer(record) else 1.0
    return [*PAPER].index(name), MODELS.index(model), -loc_lr
