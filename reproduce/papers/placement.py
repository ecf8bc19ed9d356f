"""The placement paper's Tables I and II on MNIST beside ours, and its claims, from records only.

Runs belong in one table when all their settings but set, network, seed and the rate of localisation
networks agree; in one row when all but the seed do.

The paper tells neither learning rate nor length, nor do the authors' scripts. Ours: 50,000
iterations of SGD without momentum on batches of 256, which the authors' code has as defaults, at a
learning rate of 0.03 that falls to a tenth after each third of them. That code's default is 0.01,
and its history speaks of 150,000 iterations: a third as many want a rate three times as high.

Runs of a tenth of that length here are by Adam at 0.001: in a trial by SGD, even with momentum,
theta did not begin to turn with the digit within a fifth of it.
"""

from collections.abc import Iterator
from functools import partial
from statistics import fmean
from typing import Any, NamedTuple

from ministn.data.sources import EMBEDDED
from ministn.errors import UserError
from ministn.kinds import leaves
from ministn.models import Architecture
from ministn.models.placement import table
from ministn.optimizers import SGD
from ministn.training.protocol import Training
from papers import stn_runs
from papers.claims import (
    Record,
    Row,
    Table,
    Verdict,
    about_equal,
    by_seed,
    compared,
    grouped,
    missing,
    smaller,
)
from papers.layout import NONE
from papers.report import Told, printed, spread, troubles

SCRIPT = "reproduce/placement_mnist.py"


class Set(NamedTuple):
    """One of the paper's three. recipe: of data/distorted.py. final: the entry of a record that
    Table I measures, in ``units``.
    """

    recipe: str
    final: str
    units: str


SETS = {
    "r": Set("R", "final_degrees", "degrees"),
    "t": Set("TC", "final_pixels", "pixels"),
    "s": Set("S", "final_log2_area", "log2 of the area"),
}
MODELS = "cnn", "stn-c0", "stn-c1", "stn-dl1", "stn-sl1"
SEEDS = tuple(range(10))

# Table II: errors in percent, means over 10 seeds of 100,000 test images.
ERRORS = {
    "r": {"cnn": 1.71, "stn-c0": 1.08, "stn-c1": 1.32, "stn-dl1": 1.05, "stn-sl1": 0.98},
    "t": {"cnn": 1.61, "stn-c0": 1.10, "stn-c1": 1.16, "stn-dl1": 1.08, "stn-sl1": 1.13},
    "s": {"cnn": 1.38, "stn-c0": 0.85, "stn-c1": 0.96, "stn-dl1": 0.77, "stn-sl1": 0.82},
}
# Table I: the spread of final poses.
SPREADS = {
    "r": {"stn-c0": 23.2, "stn-c1": 47.2, "stn-dl1": 26.8, "stn-sl1": 18.7},
    "t": {"stn-c0": 1.16, "stn-c1": 1.15, "stn-dl1": 1.08, "stn-sl1": 1.32},
    "s": {"stn-c0": 0.319, "stn-c1": 0.508, "stn-dl1": 0.291, "stn-sl1": 0.330},
}

PROTOCOL = stn_runs.falling(Training(SGD(momentum=0.0), 0.03, iterations=1), 50_000)

# With MNIST's digits. The first errs less: whoever transforms the input than who transforms a
# feature map, of R and S; on T the paper finds little between them.
BEST = {"r": "stn-sl1", "t": "stn-dl1", "s": "stn-dl1"}
# "About as", in percentage points: the least by which a network that transforms the input wins over
# STN-C1 on R and S is 0.11, and on T the largest difference from it is 0.08.
MARGIN = 0.1
AT_INPUT, OF_A_MAP = ("stn-c0", "stn-dl1", "stn-sl1"), "stn-c1"

HEADER = ["network", "parameters", "seeds", "train", "test", "paper", "final pose", "paper"]
HEADER += ["turns"]
LEGEND = (
    "Errors in percent after the last step: nothing is chosen by the test images. Several seeds: "
    "mean [lowest, highest]. paper: test error there (Table II), final pose there (Table I). final "
    "pose: standard deviation of the digits' poses as they are shown, within the classes: of R in "
    "degrees, of T in pixels, of S in log2 of the area (final_pose.py); of T not for those runs of "
    "STN-C1 that took the feature map's shifts for the image's. turns: slope of the line by "
    "orthogonal regression of theta's angle on the digit's, 1 where it undoes rotations (Figure 6)."
)
RULES = (
    "Networks are compared on the same test images, seed by seed: difference of the test errors "
    "[95 % interval], p of a paired t test over the test digits. Of each counts how many of its "
    "images a network has wrong, since distortions of one digit are not independent. Over at least "
    "three seeds a paired t test over these decides. '<' holds if the difference is negative and "
    "significant at 5 %; it does not hold if it is "
    f"positive and significant. 'About as' holds if the interval lies within +-{MARGIN:g} points, "
    "less than the least by which the paper's STN-C1 loses on R and S, 0.11; it does not hold if "
    "it lies outside. All else is undecided."
)


def networks(name: str) -> dict[str, Architecture]:
    """Those of a set, by the paper's names."""
    return dict(zip(MODELS, table(name.upper()), strict=True))


CELLS = {network: (name, model) for name in SETS for model, network in networks(name).items()}


def cell_of(record: Record) -> tuple[str, str]:
    """Set and model. Raises UserError for a network that the paper's tables do not have."""
    network = record["settings"].network
    if network not in CELLS:
        raise UserError(f"{network.name} is no network of this table")
    return CELLS[network]


def name_of(name: str, model: str) -> str:
    return f"{name.upper()} {model.upper()}"


def loc_lr(record: Record) -> float | None:
    """The rate of the localisation networks' layers, None without one."""
    return None if cell_of(record)[1] == "cnn" else record["settings"].training.loc_lr


def label(record: Record) -> str:
    """The set, the network as the paper calls it, and the setting of its row."""
    text, rate = name_of(*cell_of(record)), loc_lr(record)
    return text if rate in (None, 1) else f"{text}, loc-lr x{rate:g}"


def tables(records: list[Record]) -> list[Table]:
    """Records in tables, and in rows by set and network, in the paper's order.

    Raises UserError without records, for networks of others, and when two of one run disagree.
    """
    if not records:
        raise UserError(f"there are no records to report: run {SCRIPT} first")
    found = [
        [by_seed(row) for _, row in grouped(same, _place)]
        for _, same in grouped(records, _protocol)
    ]
    return sorted(found, key=lambda rows: stn_runs.scope(rows[0][0], PROTOCOL))


def verdicts(rows: Table) -> list[Verdict]:
    """The paper's claims on the networks that the table has, for each rate of localisation."""
    found: list[Verdict] = []
    for rate in sorted({rate for row in rows if (rate := loc_lr(row[0])) is not None}):
        same = [row for row in rows if loc_lr(row[0]) in (None, rate)]
        runs = {name_of(*cell_of(row[0])): row for row in same}
        setting = "" if rate == 1 else f"loc-lr x{rate:g}, "
        for name in SETS:
            for first, second, word, vote in claimed(name):
                pair = name_of(name, first), name_of(name, second)
                if pair[0] in runs and pair[1] in runs:
                    claim = f"{setting}{pair[0]} {word} {pair[1]}"
                    found.append(compared(claim, runs, pair, vote))
    return found


def claimed(name: str) -> Iterator[tuple[str, str, str, Any]]:
    """Of a set: two models, what the paper says of them, and what a test says of that."""
    for model in MODELS[1:]:
        yield model, "cnn", "<", smaller
    for model in AT_INPUT:
        if name == "t":
            yield model, OF_A_MAP, "about as", partial(about_equal, margin=MARGIN)
        else:
            yield model, OF_A_MAP, "<", smaller
    for model in AT_INPUT:
        if model != BEST[name]:
            yield BEST[name], model, "<", smaller


def report(records: list[Record], *, markdown: bool = False) -> str:
    """The tables with their claims and commands, for a terminal or Markdown. Raises as tables."""
    return printed(map(told, tables(records)), [LEGEND, RULES], markdown=markdown)


def told(rows: Table) -> Told:
    """What it says of a table."""
    runs = [record for row in rows for record in row]
    return Told(
        stn_runs.title(runs[0], PROTOCOL, "Our"),
        HEADER,
        [cells(row) for row in rows],
        runs,
        verdicts(rows),
        stn_runs.scope(runs[0], PROTOCOL),
        [f"{label(r)}, seed {r['settings'].seed} {text}" for r in runs for text in troubles(r)],
    )


def section(records: list[Record]) -> str:
    """What the page has: the report, if anything has run, and what has not."""
    parts = [report(records, markdown=True).strip()] if records else []
    parts += [f"![{words}](../figures/{name})" for name, words in pictures(records).items()]
    if commands := not_run(records):
        lines = "\n".join(f"* `{command}`" for command in commands)
        parts.append(f"Not run at full length, ten seeds of each network:\n\n{lines}")
    return "\n\n".join(parts)


def not_run(records: list[Record]) -> list[str]:
    """The commands of the protocol's runs that no record is of: those of a set with equal seeds."""
    whole: dict[tuple[str, str], Row] = {}
    for record in records:
        if _in_full(record):
            whole.setdefault(cell_of(record), []).append(record)
    commands = []
    for name in SETS:
        left: dict[tuple[int, ...], list[str]] = {}  # models by the seeds that they lack
        for model in MODELS:
            seeds = tuple(missing(whole.get((name, model), []), SEEDS))
            left.setdefault(seeds, []).append(model)
        for seeds, models in left.items():
            words = [f"python {SCRIPT} --sets {name}"]
            words += ["--models", *models] if len(models) < len(MODELS) else []
            words += ["--seeds", *map(str, seeds)] if seeds != SEEDS else []
            commands += [" ".join(words)] if seeds else []
    return commands


def pictures(records: list[Record]) -> dict[str, str]:
    """Files in figures/ that there are for these records, and what they show."""
    found = {"placement-errors.png": "Errors of each seed beside the paper's"} if records else {}
    if any((record["best"] or {}).get("test_turns") for record in records):
        found["placement-turns.png"] = "Theta's angle against the digit's"
    return found


def _in_full(record: Record) -> bool:
    """Whether a run is one of the protocol's."""
    return not stn_runs.scope(record, PROTOCOL) and loc_lr(record) in (None, PROTOCOL.loc_lr)


def cells(row: Row) -> list[str]:
    """One line of the table: HEADER of one network on one set."""
    first, (name, model) = row[0], cell_of(row[0])
    best = [b for record in row if record["status"] == "finished" and (b := record["best"])]
    theirs = first["settings"].data.source != EMBEDDED
    return [
        label(first),
        f"{first['parameters']:,}",
        " ".join(str(record["settings"].seed) for record in row),
        spread([b["train_error"] for b in best]),
        spread([b["test_error"] for b in best]),
        f"{ERRORS[name][model]:.2f}" if theirs else NONE,
        _mean([final_pose(name, model, b) for b in best]),
        f"{SPREADS[name][model]:g}" if theirs and model in SPREADS[name] else NONE,
        _mean([b["test_turn_slope"] for b in best]),
    ]  # fmt: skip


def final_pose(name: str, model: str, best: dict[str, Any]) -> float | None:
    """Table I's measure of a run. Where shifts are measured, it counts those of a feature map only
    where the record says how much of the image that spans: earlier ones took it for the image.
    """
    if (name, model) == ("t", OF_A_MAP) and best.get("test_field") is None:
        return None
    found: float | None = best[f"test_{SETS[name].final}"]
    return found


def _mean(values: list[float | None]) -> str:
    """Of those that there are."""
    found = [value for value in values if value is not None]
    return f"{fmean(found):.3g}" if found else NONE


def _protocol(record: Record) -> tuple[Any, ...]:
    """What all runs of a table share."""
    found = leaves(record["settings"])
    apart = {"data", "data.recipe", "seed", "training.loc_lr"}
    kept = (path for path in sorted(found) if path not in apart and path.split(".")[0] != "network")
    return tuple((path, repr(found[path])) for path in kept)


def _place(record: Record) -> tuple[Any, ...]:
    """Where a run's row stands."""
    name, model = cell_of(record)
    return [*SETS].index(name), MODELS.index(model), -(loc_lr(record) or 0)
