"""Windows on parts of pictures, from records only: table, claims and picture."""

from itertools import permutations
from statistics import fmean
from typing import Any

from ministn.data.cub import DRAWN
from ministn.errors import UserError
from ministn.kinds import leaves
from ministn.models import parts
from papers.claims import Record, Row, Table, Verdict, by_seed, compared, grouped, smaller
from papers.layout import NONE
from papers.report import Told, printed, spread, troubles

NETWORKS = {network.name: network for network in parts.TABLE}
# Test errors in percent on the birds: Table 3, images of 224 pixels, with transformers of 448.
PAPER = {"cnn": 17.7, "2xst-cnn": 16.1, "4xst-cnn": 15.9}

HEADER = ["network", "parameters", "seeds", "train", "test", "birds", "head", "body", "elsewhere"]
LEGEND = (
    "Errors in percent after the last step: nothing is chosen by the test pictures. Several "
    "seeds: mean [lowest, highest]. birds: the paper's test error on CUB-200-2011. head, body: in "
    "how many test pictures, in percent, one of the windows shows the middle of the head, and "
    "another one that of the body; always the same two windows, those that show the most. "
    "elsewhere: the same windows, as they were meant for another picture, the mean of both parts."
)


def report(records: list[Record], *, markdown: bool = False) -> str:
    """The tables with their claims and commands, for a terminal or Markdown.

    Raises UserError without records, for those of other scripts, and when two of one run disagree.
    """
    return printed(map(told, tables(records)), [LEGEND], markdown=markdown)


def told(table: Table) -> Told:
    """What it says of a table."""
    runs = [record for row in table for record in row]
    return Told(
        title(runs[0]),
        HEADER,
        [cells(row) for row in table],
        runs,
        verdicts(table),
        troubles=[f"{_label(record)} {text}" for record in runs for text in troubles(record)],
        whose="Our claims",
    )


def tables(records: list[Record]) -> list[Table]:
    """Records in tables, in which all settings agree but network and seed, and in rows.

    Raises UserError without records, for those of other scripts, and when two of one run disagree.
    """
    if not records:
        raise UserError("there are no records to report: train first")
    for record in records:
        if record["settings"].network.name not in NETWORKS:
            raise UserError(f"{record['settings'].network.name} is no network of this table")

    def protocol(record: Record) -> tuple[tuple[str, str], ...]:
        found = leaves(record["settings"])
        return tuple(
            (p, repr(found[p])) for p in sorted(found.keys() - {"seed", "network.windows"})
        )

    def windows(record: Record) -> int:
        return int(record["settings"].network.windows)

    return [
        [by_seed(row) for _, row in grouped(same, windows)]
        for _, same in grouped(records, protocol)
    ]


def title(record: Record) -> str:
    """What was trained on, and for how long."""
    data, training = record["settings"].data, record["settings"].training
    what = "Pictures drawn in place of birds" if data.source == DRAWN else "CUB-200-2011"
    return (
        f"{what}, {data.train_size:,} of {data.side}x{data.side} pixels, data seed {data.seed}; "
        f"{training.iterations:,} iterations of batch {training.batch_size}, learning rate "
        f"{training.lr:g}, {training.optimizer.words}, loc-lr x{training.loc_lr:g}"
    )


def cells(row: Row) -> list[str]:
    """One line of the table: HEADER of one network."""
    name = row[0]["settings"].network.name
    best = [record["best"] for record in row if record["best"]]
    found = [finding(each) for each in best]
    shares: list[list[float]] = [[], [], []]
    for each in found:
        if each is not None:
            (head, body), elsewhere = each
            for values, share in zip(shares, (head, body, elsewhere), strict=True):
                values.append(100 * share)
    return [
        spoken(name),
        f"{row[0]['parameters']:,}",
        " ".join(str(record["settings"].seed) for record in row),
        spread([b["train_error"] for b in best]),
        spread([b["test_error"] for b in best]),
        f"{PAPER[name]:g}",
        *(spread(values) if values else NONE for values in shares),
    ]


def finding(best: dict[str, Any]) -> tuple[list[float], float] | None:
    """How often the windows that show the most show their parts; and those of other pictures.

    None without windows, and where there are fewer of them than parts.
    """
    shows, elsewhere = best["test_shows"], best["test_shows_elsewhere"]
    if shows is None or len(shows) < len(shows[0]):
        return None
    assigned = max(
        permutations(range(len(shows)), len(shows[0])),
        key=lambda windows: sum(shows[w][part] for part, w in enumerate(windows)),
    )
    each = [shows[w][part] for part, w in enumerate(assigned)]
    return each, fmean(elsewhere[w][part] for part, w in enumerate(assigned))


def verdicts(table: Table) -> list[Verdict]:
    """That networks with more windows err less."""
    runs = {spoken(row[0]["settings"].network.name): row for row in table}
    pairs = zip([*runs][1:], runs, strict=False)
    return [compared(f"{more} < {less}", runs, (more, less), smaller) for more, less in pairs]


def spoken(name: str) -> str:
    """As the paper writes it: "2xST-CNN"."""
    return name.upper().replace("X", "x")


def _label(record: Record) -> str:
    return f"{spoken(record['settings'].network.name)}, seed {record['settings'].seed}"


def figures(records: list[Record]) -> dict[str, Any]:
    """Where the windows of the best runs are, and what they show: of each network with some."""
    from ministn import plot

    shown = [
        min((r for r in row if r["best"]), key=lambda r: r["best"]["test_error"])
        for table in tables(records)
        for row in table
        if row[0]["settings"].network.windows and any(r["best"] for r in row)
    ]
    if not shown:
        return {}
    return {"birds-windows.png": plot.grid_figure(shown, [_label(record) for record in shown])}


def run_figures(record: Record) -> dict[str, Any]:
    """The figure of one run."""
    from ministn import plot

    if not record["settings"].network.windows or not record["epochs"]:
        return {}
    return {"attention.png": plot.attention_figure(record, [_label(record)], title(record))}
