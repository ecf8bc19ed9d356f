"""The RNN-SPN paper's Table 1 beside ours, from records only, for a terminal or Markdown.

It says which glimpse found which digit, and in what order the network reads.
"""

from statistics import fmean
from typing import Any

import numpy as np

from ministn.data.sources import EMBEDDED
from ministn.models.rnn_spn import TABLE
from papers.claims import Record, Row, Table, missing
from papers.layout import NONE, pipes
from papers.report import Told, least_hours, number, printed, spread, troubles
from papers.rnn_spn import label, on_paper_digits, published, scope, tables, variant, verdicts

SCRIPT = "reproduce/rnn_spn_table1.py"
SEEDS = 0, 1, 2  # of each network: so many a test over seeds needs

HEADER = ["network", "parameters", "seeds", "best", "valid", "test", "sequence", "paper"]
HEADER += ["IoU", "follows", "own"]
WHOLE = "The paper's data and protocol"
LEGEND = (
    "Errors in percent, of digits; sequence: of images, any of whose digits is wrong. best: the "
    "epoch of lowest validation error, of several seeds the first and the last; all are of that "
    "epoch. Several seeds: mean [lowest, highest]. paper: test error there, of digits. IoU: mean "
    "overlap of the attended quadrilateral with the ink box of the digit that the glimpse reads, "
    "follows: correlation of the attended centre with the digit's; of an FFN-SPN, which looks "
    "once, with the box round all digits. own: in how many percent of the images a glimpse "
    "overlaps its own digit more than the others. All on the test images."
)
RULES = (
    "Networks are compared on the same test images, seed by seed: difference of the test errors "
    "of sequences [95 % interval], p of the exact McNemar test. Over at least three seeds a paired "
    "t test decides. '<' holds if the difference is negative and significant at 5 %; it does not "
    "hold if it is positive and significant. 'No worse' holds if the interval lies below +0.5 "
    "points; it does not hold if it lies above. All else is undecided."
)


def report(records: list[Record], *, markdown: bool = False) -> str:
    """The tables with their claims and commands, for a terminal or Markdown.

    Raises UserError without records, for those of other scripts, and when two of one run disagree.
    """
    return printed(map(told, tables(records)), [LEGEND, RULES], markdown=markdown)


def told(table: Table) -> Told:
    """What it says of a table."""
    runs = [record for row in table for record in row]
    return Told(
        title(table),
        HEADER,
        [cells(row) for row in table],
        runs,
        verdicts(table),
        scope(table),
        [f"{label(r)}, seed {r['settings'].seed} {text}" for r in runs for text in troubles(r)],
        [note for record in runs for note in (*early(record), *reading(record))],
    )


def section(records: list[Record]) -> str:
    """What the page has: the report and its figures, if anything has run, and what has not."""
    parts = [report(records, markdown=True).strip()] if records else []
    parts += [f"![{words}](../figures/{name})" for name, words in pictures(records).items()]
    return "\n\n".join([*parts, *not_run(records)])


def pictures(records: list[Record]) -> dict[str, str]:
    """Files in figures/ that there are for these records, and what they show."""
    found = {"rnn-spn-errors.png": "Errors against the down-sampling factor"} if records else {}
    if any(has_glimpses(record) for record in records):
        found["rnn-spn-glimpses.png"] = "Where three glimpses look, and what they pass on"
        found["rnn-spn-overlap.png"] = "Overlap of each glimpse with its digit, per epoch"
        found["rnn-spn-glimpses.gif"] = "The three glimpses, epoch by epoch"
    return found


def has_glimpses(record: Record) -> bool:
    """Whether its network looked several times, in an epoch at least."""
    return any("glimpses" in entry for entry in record["epochs"])


def not_run(records: list[Record]) -> list[str]:
    """Of the networks that lack seeds of the paper's protocol: the command, and how long one takes.

    The hours are those of 300 epochs, as long as a shorter run took for each of its epochs.
    """
    whole = [table for table in (tables(records) if records else []) if not scope(table)]
    done = [r for table in whole for row in table for r in row if not variant(r)]
    lines = []
    for network in TABLE:
        seeds = missing((r for r in done if r["settings"].network == network), SEEDS)
        if not seeds:
            continue
        own = [r for r in records if r["settings"].network == network and on_paper_digits(r)]
        hours = least_hours((record, _share(record)) for record in own if record["epochs"])
        words = f"python {SCRIPT} --nets {network.name} --seeds {' '.join(map(str, seeds))}"
        lines.append([f"`{words}`", hours])
    if not lines:
        return []
    words = (
        "Not run: the paper's protocol of these networks and seeds, at most 300 epochs of all "
        "images. Hours of one seed, as long as a shorter run here took for each epoch; `--plan` "
        "says how many it would be on another machine."
    )
    return [words, pipes(["command", "hours"], lines)]


def _share(record: Record) -> float:
    """Of the paper's epochs of all images."""
    images = len(record["epochs"]) * record["settings"].data.train_size
    return float(images / (record["paper_epochs"] * record["full_train_size"]))


def title(table: Table) -> str:
    """What was trained on, for how long, and how far that is from the paper."""
    first = table[0][0]
    data, training = first["settings"].data, first["settings"].training
    source = "scikit-learn's digits, enlarged" if data.source == EMBEDDED else "MNIST"
    length = f"{training.epochs} epochs"
    if first["compress"] not in (None, 1):
        length += f" (1/{first['compress']:g} of the paper's)"
    text = (
        f"sequences of {source}, {data.train_size:,} of {first['full_train_size']:,} images, slope "
        f"{data.slope:g}, data seed {data.seed} (SHA-256 {first['data_sha256'][:8]}); at most "
        f"{length} of batch {training.batch_size}, learning rate {training.lr:g}"
    )
    return f"{scope(table).upper() or WHOLE}: {text}"


def cells(row: Row) -> list[str]:
    """One line of the table: HEADER of one network."""
    first = row[0]
    best = [b for record in row if record["status"] == "finished" and (b := record["best"])]
    measured = [b for b in best if b["test_overlap"] is not None]
    own = [100 * fmean(own_digit(b)) for b in best if "test_glimpses" in b]
    paper = published(first)
    return [
        label(first),
        f"{first['parameters']:,}",
        " ".join(str(record["settings"].seed) for record in row),
        _range([b["epoch"] for b in best]),
        number(fmean(b["valid_error"] for b in best) if best else None),
        *(spread([b[name] for b in best]) for name in ("test_error", "test_sequence_error")),
        NONE if paper is None else f"{paper:.1f}",
        *(
            number(fmean(b[name] for b in measured) if measured else None)
            for name in ("test_overlap", "test_correlation")
        ),
        f"{fmean(own):.1f}" if own else NONE,
    ]


def _range(numbers: list[int]) -> str:
    return "-".join(dict.fromkeys(map(str, (min(numbers), max(numbers))))) if numbers else NONE


def shares(best: dict[str, Any]) -> np.ndarray:
    """(T, T): of the test images, how many have the glimpse of a row overlap a digit most."""
    return np.array([glimpse["overlaps_most"] for glimpse in best["test_glimpses"]])


def own_digit(best: dict[str, Any]) -> list[float]:
    """Of each glimpse, the share of the test images where that digit is the one that it reads."""
    return list(np.diagonal(shares(best)))


def early(record: Record) -> list[str]:
    """That a run has ended before its last epoch, if it has."""
    done, training = len(record["epochs"]), record["settings"].training
    if record["status"] != "finished" or done == training.epochs:
        return []
    return [
        f"{label(record)}, seed {record['settings'].seed}, ended after {done} of {training.epochs} "
        f"epochs, of which {training.patience} brought no lower validation error"
    ]


def reading(record: Record) -> list[str]:
    """Which glimpse finds which digit, and in what order that is; nothing of other networks."""
    best = record["best"]
    if not best or "test_glimpses" not in best:
        return []
    found = shares(best)
    most = found.argmax(axis=1).tolist()
    told = [
        f"{glimpse + 1} on digit {digit + 1} in {100 * found[glimpse, digit]:.0f} %"
        for glimpse, digit in enumerate(most)
    ]
    ordered = most == sorted(set(most))
    way = "from left to right" if ordered else "not one digit after the other"
    return [
        f"{label(record)}, seed {record['settings'].seed}, looks {way}: glimpse {', '.join(told)} "
        f"of the test images{beside_whole(best)}"
    ]


def beside_whole(best: dict[str, Any]) -> str:
    """How many times the overlap of the whole image each glimpse's is, where a record has both."""
    times = [
        f"{glimpse['overlap'] / glimpse['overlap_in']:.1f}"
        for glimpse in best["test_glimpses"]
        if "overlap_in" in glimpse
    ]
    return f"; overlap {', '.join(times)} times the whole image's" if times else ""
