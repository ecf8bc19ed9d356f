"""What the TSTN paper leaves open: at which learning rate a localisation network survives.

The paper names no starting rate. This trains Architecture 1, untied and tied, on 10,000 images of
cluttered MNIST at Adam's 0.001, 0.0003 and 0.0001, and at 0.001 with a tenth of it for the layers
that only the localisation network has. Five epochs show a collapse; where the attention of any
seed is in the image after them, all seeds of that network and setting go on to fifteen.
"""

from dataclasses import replace
from itertools import groupby
from math import inf
from pathlib import Path
from statistics import fmean

import ministn.plot  # noqa: F401  (before Matplotlib, whose backend is of no use here)

# isort: split
import table3
from matplotlib.figure import Figure
from papers import tstn_figures
from papers.claims import Record, Row
from papers.layout import NONE, columns, pipes, wrapped
from papers.tstn import TABLE3, label
from papers.tstn_report import data_line

from ministn import cli, models, runs
from ministn.errors import UserError
from ministn.plot import drawing
from ministn.runs import sweep

NETWORKS = ("arch1-untied", "arch1-tstn")
RATES = ((0.001, 1.0), (0.0003, 1.0), (0.0001, 1.0), (0.001, 0.1))  # lr, loc-lr
BEST = (0.001, 0.1)  # of those that survive, the one whose errors are lowest after fifteen epochs
TRAIN_SIZE = 10_000
FIRST, WHOLE = 5, 15  # epochs
FIGURE = "learning-rate.png"

EXAMPLES = """\
examples (times on two cores of a 2020 server):
  python reproduce/learning_rate.py
      all runs, to be stopped with Ctrl-C and continued by the same command: about two hours
  python reproduce/learning_rate.py --seeds 0
      a third of them
  python reproduce/learning_rate.py --report reproduce/records/learning-rate
      the table and the figure of the committed records
"""

HEADER = ["network", "lr", "loc-lr", "collapsed", "epochs", "test error, %", "overlap", "moved"]
HEADER += ["spread"]
LEGEND = (
    "collapsed: seeds whose attention left the image, and of these how many had it back at the "
    "end. Test error, of the epoch of lowest validation error: mean of the seeds [lowest, "
    "highest]. Of the last epoch, on the validation images, mean of the seeds: overlap, mean IoU "
    "of the attended quadrilateral with the digit's box; moved, mean absolute difference of theta "
    "from the identity; spread, standard deviation of theta over the images, 0 where all are "
    "treated alike."
)


def attends(record: Record, epoch: int = WHOLE) -> bool:
    """Whether the attention was in the image when that epoch ended, if not the run before it."""
    before = [collapse for collapse in record["collapses"] if collapse["epoch"] <= epoch]
    back = not before or (before[-1]["end"] or {"epoch": WHOLE + 1})["epoch"] <= epoch
    return back and record["diverged"] is None


def grouped(records: list[Record]) -> list[Row]:
    """The study's runs: a row for each network and setting, in the order they are tried."""

    def place(record: Record) -> tuple[int, int]:
        return NETWORKS.index(record["settings"].network.name), RATES.index(_rate([record]))

    def order(record: Record) -> tuple[tuple[int, int], int]:
        return place(record), record["settings"].seed

    return [list(row) for _, row in groupby(sorted(records, key=order), place)]


def cells(row: Row) -> list[str]:
    """One line of the table: HEADER of a network at one setting."""
    lr, loc_lr = _rate(row)
    collapsed = [record for record in row if record["collapses"]]
    back = sum(map(attends, collapsed))
    epochs = sorted({len(record["epochs"]) for record in row})
    errors = [record["best"]["test_error"] for record in row if record["best"]]
    last = [record["epochs"][-1] for record in row if record["epochs"]]
    means = [f"{fmean(epoch[name] for epoch in last):.2f}" if last else NONE
             for name in ("overlap", "moved", "spread")]  # fmt: skip
    return [
        label(row[0])[0],
        f"{lr:g}",
        f"x{loc_lr:g}",
        f"{len(collapsed)} of {len(row)}" + (f", {back} came back" if back else ""),
        " to ".join(map(str, epochs)),
        f"{fmean(errors):.1f} [{min(errors):.1f}, {max(errors):.1f}]" if errors else NONE,
        *means,
    ]


def figure(records: list[Record]) -> Figure:
    """A column for each setting; validation error, overlap, and how far theta has moved."""
    rows = grouped(records)
    settings = [rate for rate in RATES if any(_rate(row) == rate for row in rows)]
    drawn = Figure(figsize=(3.0 * len(settings) + 1.5, 8.2), layout="constrained")
    grid = drawn.subplots(3, len(settings), sharex=True, sharey="row", squeeze=False)
    kinds = {
        "valid_error": "validation error, %",
        "overlap": "overlap with the digit (IoU)",
        "moved": "theta's distance from the identity",
    }
    for column, rate in enumerate(settings):
        lr, loc_lr = rate
        grid[0, column].set_title(f"lr {lr:g}, loc-lr x{loc_lr:g}", fontsize=10)
        for axes, kind in zip(grid[:, column], kinds, strict=True):
            for row in (row for row in rows if _rate(row) == rate):
                tstn_figures.curves(axes, [row], kind)
        grid[-1, column].set_xlabel("epoch")
    for axes, words in zip(grid[:, 0], kinds.values(), strict=True):
        axes.set_ylabel(words)
    grid[1, 0].set_ylim(bottom=0)
    grid[2, 0].set_yscale("log")
    for axes in grid[-1]:
        axes.set_xlim(0, 1.02 * max(len(record["epochs"]) for record in records))
    for name in NETWORKS:
        colour, marker = tstn_figures.LOOKS[models.NETWORKS[name].kind]
        grid[0, -1].plot([], [], color=colour, marker=marker, label=TABLE3[name].name)
    grid[0, -1].plot([], [], "x", color="black", label="collapse")
    grid[0, -1].legend(loc="upper left", bbox_to_anchor=(1.01, 1.0), fontsize=9, frameon=False)
    drawing.caption(
        drawn,
        "Architecture 1 on the first 10,000 images of cluttered MNIST, batch 256; one line per "
        "seed. Overlap and theta: means over the validation images; theta's distance is that of "
        "its entries, mean absolute. " + tstn_figures.COLLAPSE + data_line(records[0]) + ".",
    )
    return drawn


def is_best(record: Record) -> bool:
    """Whether the run is one of the best setting's, of full length."""
    return _rate([record]) == BEST and record["settings"].training.epochs == WHOLE


def _rate(row: Row) -> tuple[float, float]:
    training = row[0]["settings"].training
    return training.lr, training.loc_lr


def show(records: list[Record], out: Path) -> bool:
    """Print the table and draw the figure into ``out``; whether it could be drawn."""
    print()
    print("\n".join(lines(records)))
    out.mkdir(parents=True, exist_ok=True)
    drawn, complete = sweep.draw(lambda: {FIGURE: figure(records)}, out)
    for path in drawn:
        print(f"wrote {path}")
    return complete


def lines(records: list[Record]) -> list[str]:
    """The table for a terminal, with its legend."""
    return [*columns(HEADER, list(map(cells, grouped(records)))), "", *wrapped(LEGEND)]


def markdown(records: list[Record]) -> str:
    """The table for the README, with its legend."""
    return pipes(HEADER, list(map(cells, grouped(records)))) + "\n\n" + LEGEND


def flags(network: str, rate: tuple[float, float], seeds: list[int], epochs: int) -> list[str]:
    """What table3.py is asked for."""
    lr, loc_lr = rate
    return [
        "--nets", network, "--lr", f"{lr:g}", *(["--loc-lr", f"{loc_lr:g}"] if loc_lr != 1 else []),
        "--train-size", str(TRAIN_SIZE), "--epochs", str(epochs), "--resume",
        "--seeds", *map(str, seeds),
    ]  # fmt: skip


def record_path(network: str, rate: tuple[float, float], seed: int, out: Path) -> Path:
    """Where the run's record is, or will be."""
    (settings,) = table3.EXPERIMENT.parse(flags(network, rate, [seed], WHOLE))
    return runs.Run(out, settings, "", "").record_path


def studied(folders: list[Path]) -> list[Record]:
    """The study's records among those under the folders. Raises UserError if there is none.

    Older records of the same settings do not say how far theta moved: they are none of it.
    """
    asked = [
        table3.EXPERIMENT.parse(flags(network, rate, [0], WHOLE))[0]
        for network in NETWORKS
        for rate in RATES
    ]
    records = sweep.own(table3.EXPERIMENT, folders)
    found = [
        r
        for r in records
        if replace(r["settings"], seed=0).for_epochs(WHOLE) in asked
        and all("moved" in epoch for epoch in r["epochs"])
    ]
    if not found:
        raise UserError(f"no run under {', '.join(map(str, folders))} is of this study")
    if len(found) < len(records):
        print(f"left out: runs of table3.py that this study has not ({len(records) - len(found)})")
    return found


def trained(path: Path) -> float:
    """Epochs that a run has done; all that there can be, if it diverged."""
    if not path.exists():
        return 0
    record = runs.read_record(path)
    return inf if record["status"] == "diverged" else len(record["epochs"])


def main() -> int:
    parser = cli.Parser(
        prog="python reproduce/learning_rate.py",
        description=__doc__,
        epilog=EXAMPLES,
    )
    what = parser.add_argument_group("what to train")
    what.add_argument(
        "--seeds", nargs="+", type=int, default=[0, 1, 2], metavar="SEED",
        help="of initial values, shuffling and dropout: eight runs for each of these; "
        "default: 0 1 2",
    )  # fmt: skip
    what.add_argument("--data-dir", type=Path, metavar="DIR", help="as in table3.py --help")
    how = parser.add_argument_group("how to run")
    how.add_argument(
        "--out", type=Path, default=Path("runs"), metavar="DIR",
        help="folder in which each run has one of its own, and the figure is drawn; default: runs",
    )  # fmt: skip
    instead = parser.add_argument_group("instead of training")
    instead.add_argument(
        "--report", nargs="+", type=Path, metavar="DIR",
        help="print the table of this study's records under these folders, and draw its figure",
    )  # fmt: skip
    arguments = parser.parse_args()
    if arguments.report:
        return 0 if show(studied(arguments.report), arguments.out) else 1
    common = ["--out", str(arguments.out)]
    common += ["--data-dir", str(arguments.data_dir)] if arguments.data_dir else []
    paths: list[Path] = []
    for network in NETWORKS:
        for rate in RATES:
            for epochs in (FIRST, WHOLE):
                places = {seed: record_path(network, rate, seed, arguments.out)
                          for seed in arguments.seeds}  # fmt: skip
                behind = [seed for seed, path in places.items() if trained(path) < epochs]
                status = table3.main(flags(network, rate, behind, epochs) + common) if behind else 0
                if status:
                    return status
                if not any(attends(runs.read_record(p), FIRST) for p in places.values()):
                    break
            paths += places.values()
    show([runs.read_record(path) for path in paths], arguments.out)
    return 0


if __name__ == "__main__":
    cli.run(main)
