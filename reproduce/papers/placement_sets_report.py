"""SVHN and plankton in the placement paper beside ours, from records only: every cell, its cost.

A cell that has not run is there too, with the paper's figure and the command that would make it.
"""

from dataclasses import replace
from statistics import fmean
from typing import Any

from ministn.data.sources import EMBEDDED
from ministn.runs import Settings
from papers.claims import Record, Row, Table, missing
from papers.layout import NONE, pipes
from papers.placement_sets import (
    Study,
    name,
    on_paper_data,
    published,
    scope,
    spoken,
    tables,
    verdicts,
)
from papers.report import Told, least_hours, number, printed, spread, troubles

HEADER = ["network", "parameters", "seeds", "best", "train", "valid", "test", "paper"]
RULES = (
    "Networks are compared on the same test images, seed by seed: difference of the test errors "
    "[95 % interval], p of the exact McNemar test. Over at least three seeds a paired t test "
    "decides. '<' holds if the difference is negative and significant at 5 %; it does not hold if "
    "it is positive and significant. "
)


def rules(study: Study) -> str:
    """How claims are judged, with the margin of those that two networks are about as good."""
    margins = {claim.margin for claim in study.claims if claim.margin is not None}
    about = [
        f"'About as' holds if the interval lies within +-{margin:g} points; it does not hold if it "
        "lies outside. "
        for margin in margins
    ]
    return f"{RULES}{''.join(about)}All else is undecided."


def legend(study: Study) -> str:
    """What the columns are."""
    wrong = "of sequences, any of whose digits is wrong" if study.task.counts == "sequence" else ""
    return (
        f"Errors in percent{', ' if wrong else ''}{wrong}. best: the epoch of lowest validation "
        "error, of several seeds the first and the last; all are of that epoch, and train with "
        "dropout. Several seeds: mean [lowest, highest]. paper: test error there, a mean of "
        f"{len(study.seeds)} runs. time: of an epoch, in those of {spoken(study.reference)} on the "
        "same machine; paper's: what the paper says of training. CX: transformers in front of "
        "blocks X, of feature maps, but for X = 0. DLX: of the image, by a localisation network "
        "with X blocks of its own. SLX: with the first X blocks of the classifier. x2: two "
        "iterations."
    )


def report(study: Study, records: list[Record], *, markdown: bool = False) -> str:
    """The tables with their claims and commands, for a terminal or Markdown.

    Raises UserError without records, for those of other scripts, and when two of one run disagree.
    """
    legends = [legend(study), rules(study)]
    found = (told(study, table) for table in tables(study, records))
    return printed(found, legends, markdown=markdown)


def told(study: Study, table: Table) -> Told:
    """What it says of a table."""
    runs = [record for row in table for record in row if "tested" not in record]
    return Told(
        title(study, table),
        *shown(study, table),
        runs,
        verdicts(study, table),
        scope(study, table),
        [
            f"{spoken(name(record))}, seed {record['settings'].seed} {text}"
            for record in runs
            for text in troubles(record)
        ],
    )


def section(study: Study, records: list[Record]) -> str:
    """What the page has: the report and its figure, if anything has run, and what has not."""
    parts = [report(study, records, markdown=True).strip()] if records else []
    parts += [f"![{words}](../figures/{file})" for file, words in pictures(study, records).items()]
    return "\n\n".join([*parts, *not_run(study, records)])


def pictures(study: Study, records: list[Record]) -> dict[str, str]:
    """Files in figures/ that there are for these records, and what they show."""
    return {f"{study.title}.png": f"{study.set_name}: test error against depth"} if records else {}


def not_run(study: Study, records: list[Record]) -> list[str]:
    """Of the cells that lack seeds of the protocol: the paper's error, the command, and its hours.

    A run of the protocol is of all images at hand, be they fewer than the paper's. The hours are
    those of the protocol, as long as a shorter run of such images took for each.
    """
    lines = []
    for cell, network in study.networks.items():
        whole = Settings(study.data, network, study.training, study.task)
        done = [r for r in records if replace(r["settings"], seed=whole.seed) == whole]
        seeds = missing(done, study.seeds)
        if not seeds:
            continue
        alike = [
            record
            for record in records
            if record["settings"].network == network
            and record["settings"].data.form == study.data.form
            and record["epochs"]
        ]
        words = f"python {study.path} --nets {cell} --seeds {' '.join(map(str, seeds))}"
        time = least_hours((record, _share(study, record)) for record in alike)
        lines.append([spoken(cell), published(study, cell) or NONE, f"`{words}`", time])
    if not lines:
        return []
    return [
        f"Not run: the protocol on all {study.data.train_size:,} images at hand, "
        f"{study.training.epochs} epochs or {updates(study)}, of these networks with these seeds. "
        "paper: its error. Hours of one seed, as long as a shorter run of this network took here "
        "for each image; `--plan` says how many it would be on another machine.",
        pipes(["network", "paper", "command", "hours"], lines),
    ]


def updates(study: Study) -> str:
    """How many the protocol has on the images at hand, beside those of its authors."""
    ours = study.training.steps(study.data.train_size)
    return f"{ours:,} updates, where its authors made {study.updates:,}"


def _share(study: Study, record: Record) -> float:
    """Of the protocol's epochs of all images at hand."""
    images = len(record["epochs"]) * record["settings"].data.train_size
    assert study.training.epochs is not None
    return float(images / (study.training.epochs * study.data.train_size))


def title(study: Study, table: Table) -> str:
    """What was trained on, for how long, and how far that is from the paper."""
    first = table[0][0]
    settings = first["settings"]
    data, network, training = settings.data, settings.network, settings.training
    optimizer = training.optimizer
    source, whole = study.set_name, study.images
    if data.source == EMBEDDED:
        source, whole = "scikit-learn's digits, enlarged", study.sizes[data.source].train
    size = "x".join(map(str, data.form.size))
    width = getattr(network, "width", 1)
    text = (
        f"{source}, {data.train_size:,} of {whole:,} images of {size}, data seed "
        f"{data.seed} (SHA-256 {first['data_sha256'][:8]}); {training.epochs} epochs of batch "
        f"{training.batch_size} or {settings.steps:,} updates, learning rate {training.lr:g}, "
        f"{optimizer.words}, weight decay {optimizer.weight_decay:g}, loc-lr x{training.loc_lr:g}"
    )
    if width != 1:
        text += f"; classifier {width:g} times as wide"
    return f"{scope(study, table).upper() or 'All images, the whole protocol'}: {text}"


def shown(study: Study, table: Table) -> tuple[list[str], list[list[str]]]:
    """Header and lines: a row of what has run, and on the paper's data of each of its cells."""
    rows = {name(row[0]): row for row in table}
    order = [cell for cell in in_order(study) if on_paper_data(table[0][0]) or cell in rows]
    reference = rows.get(study.reference, [])
    lines = []
    for cell in dict.fromkeys([*order, *rows]):
        if row := rows.get(cell):
            line, cost = cells(row), _cost(row, reference)
        else:
            line, cost = [NONE] * (len(HEADER) - 2), NONE
        paper = (on_paper_data(table[0][0]) and published(study, cell)) or NONE
        theirs = [_theirs(study, cell)] if study.cost else []
        lines.append([spoken(cell), *line, paper, cost, *theirs])
    return [*HEADER, "time", *(["paper's"] if study.cost else [])], lines


def in_order(study: Study) -> list[str]:
    """The paper's cells: networks, each followed by what it was tested as."""
    more = [cell for cell in study.paper if cell not in study.networks]
    return [
        cell
        for network in study.networks
        for cell in (network, *(each for each in more if each.startswith(f"{network}+")))
    ]


def cells(row: Row) -> list[str]:
    """HEADER of one network, but its ends. What was tested otherwise was not trained so."""
    first = row[0]
    best = [b for record in row if record["status"] == "finished" and (b := record["best"])]
    trained = [] if "tested" in first else best
    return [
        f"{first['parameters']:,}",
        " ".join(str(record["settings"].seed) for record in row),
        _range([b["epoch"] for b in trained]),
        *(
            number(fmean(b[f"{split}_error"] for b in trained) if trained else None)
            for split in ("train", "valid")
        ),
        spread([b["test_error"] for b in best]),
    ]


def _range(numbers: list[int]) -> str:
    return "-".join(dict.fromkeys(map(str, (min(numbers), max(numbers))))) if numbers else NONE


def _cost(row: Row, reference: Row) -> str:
    """How many times as long an epoch took as the reference's on such a machine."""
    if "tested" in row[0]:
        return NONE
    base = {_machine(r): _epoch_seconds(r) for r in reference if r["epochs"]}
    found = [
        _epoch_seconds(r) / base[_machine(r)] for r in row if r["epochs"] and _machine(r) in base
    ]
    return f"{fmean(found):.1f}" if found else NONE


def _machine(record: Record) -> tuple[Any, ...]:
    device = record["device"]
    return tuple(device.get(key) for key in ("name", "cores", "workers", "threads"))


def _epoch_seconds(record: Record) -> float:
    return float(record["wall_seconds"] / len(record["epochs"]))


def _theirs(study: Study, cell: str) -> str:
    return f"{study.cost[cell]:.1f}" if cell in study.cost else NONE
