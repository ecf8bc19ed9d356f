"""The RNN-SPN paper's Table 1 and claims, and what our runs say about each claim.

Runs belong in one table when all their settings agree but network, seed, the rate of localisation
networks, and what the protocol has for the RNN-SPN alone; in one row when all but the seed do.
"""

from typing import Any

from ministn.data import Sequences
from ministn.data.sources import EMBEDDED
from ministn.errors import UserError
from ministn.kinds import has, leaves
from ministn.models import FfnSpn, RnnSpn, SequenceCnn
from ministn.models.rnn_spn import FACTORS
from papers.claims import Record, Row, Table, Verdict, by_seed, compared, grouped, no_worse, smaller

# Errors of each digit, in percent. Of 30,000 test digits; the paper has them to one place.
PAPER: dict[str, dict[float | None, float]] = {
    RnnSpn.kind: {1: 1.8, 2: 1.5, 3: 1.8, 4: 2.3},
    FfnSpn.kind: {1: 4.4, 2: 2.0, 3: 2.9, 4: 5.3},
    SequenceCnn.kind: {None: 2.9},
}
NAMES = {RnnSpn.kind: "RNN-SPN", FfnSpn.kind: "FFN-SPN", SequenceCnn.kind: "conv. net"}

# Of a network, what is not as in the authors' code, in words.
VARIANTS = {
    "dropout": "dropout {:g}", "units": "{} units", "state": "state of {}",
    "convolutions": "{} convolutions",
}  # fmt: skip

# What the protocol has for the RNN-SPN alone.
OF_THE_RNN = "training.clip", "training.dropout_ramp"


def factor(record: Record) -> float | None:
    """d, None without a transformer."""
    return getattr(record["settings"].network, "downsample", None)


def published(record: Record) -> float | None:
    """The paper's test error, if it has one on such digits."""
    theirs = PAPER[record["settings"].network.kind] if on_paper_digits(record) else {}
    return theirs.get(factor(record))


def on_paper_digits(record: Record) -> bool:
    """Whether the digits are MNIST's, so that errors can be set beside the paper's."""
    return bool(record["settings"].data.source != EMBEDDED)


def name_of(kind: str, d: float | None) -> str:
    return NAMES[kind] if d is None else f"{NAMES[kind]} d = {d:g}"


def name(record: Record) -> str:
    """The network, as the paper calls it."""
    return name_of(record["settings"].network.kind, factor(record))


def variant(record: Record) -> list[str]:
    """Each setting of the run's row that is not the protocol's, in words."""
    settings = record["settings"]
    network, usual = settings.network, type(settings.network)
    found = [
        words.format(getattr(network, field))
        for field, words in VARIANTS.items()
        if has(network, field) and getattr(network, field) != getattr(usual, field)
    ]
    if settings.training.loc_lr != 1 and factor(record) is not None:
        found.append(f"loc-lr x{settings.training.loc_lr:g}")
    return found


def label(record: Record) -> str:
    """Both."""
    return ", ".join([name(record), *variant(record)])


def tables(records: list[Record]) -> list[Table]:
    """Records in tables, the paper's protocol first, and in rows in the paper's order.

    Raises UserError without records, for those of other scripts, and when two of one run disagree.
    """
    if not records:
        raise UserError("there are no records to report: run reproduce/rnn_spn_table1.py first")
    for record in records:
        if record["settings"].network.kind not in NAMES:
            raise UserError(f"{record['settings'].network.name} is no network of this table")
    found = [
        [by_seed(row) for _, row in grouped(same, _place)]
        for _, same in grouped(records, _protocol)
    ]
    return sorted(found, key=_order)


def _order(table: Table) -> tuple[Any, ...]:
    first = table[0][0]
    return scope(table) != "", not on_paper_digits(first), -_images(first)


def scope(table: Table) -> str:
    """How a table differs from the paper's data, images or epochs; empty if it does not."""
    first = table[0][0]
    settings = first["settings"]
    if settings.data.source == EMBEDDED:
        return "reduced, other data"
    parts = ["reduced"] if _images(first) < first["full_train_size"] * first["paper_epochs"] else []
    if settings.data.slope != Sequences.slope:
        parts.append("other data")
    if first["compress"] is None:
        parts.append("other schedule")
    return ", ".join(parts)


def verdicts(table: Table) -> list[Verdict]:
    """The paper's claims, once for each variant of a network with a transformer.

    A claim is left out where neither of its networks has run.
    """
    found: list[Verdict] = []
    heads = [row[0] for row in table if factor(row[0]) is not None]
    for words in dict.fromkeys(tuple(variant(head)) for head in heads):
        same = [row for row in table if variant(row[0]) == list(words)]
        alone = [row for row in table if factor(row[0]) is None and row not in same]
        runs = {name(row[0]): row for row in [*alone, *same]}
        setting = "".join(f"{text}, " for text in words)
        found += [verdict._replace(claim=f"{setting}{verdict.claim}") for verdict in claims(runs)]
    return found


def claims(runs: dict[str, Row]) -> list[Verdict]:
    """On rows by their networks' names."""
    rnn, ffn = ({d: name_of(kind, d) for d in FACTORS} for kind in (RnnSpn.kind, FfnSpn.kind))
    cnn = NAMES[SequenceCnn.kind]
    pairs = [
        *((rnn[d], ffn[d], "<", smaller) for d in FACTORS),
        *((rnn[d], cnn, "<", smaller) for d in FACTORS),
        *((rnn[d], rnn[1], "no worse than", no_worse) for d in (2, 3)),
        *((ffn[d], ffn[d + 1], "<", smaller) for d in (2, 3)),
    ]
    return [
        compared(f"{first} {word} {second}", runs, (first, second), vote)
        for first, second, word, vote in pairs
        if runs.get(first) or runs.get(second)
    ]


def _images(record: Record) -> int:
    settings = record["settings"]
    return int(settings.data.train_size * settings.training.epochs)


def _without(record: Record, *names: str) -> tuple[tuple[str, str], ...]:
    found = leaves(record["settings"])
    wanted = (path for path in sorted(found.keys()) if not path.startswith(names))
    return tuple((path, repr(found[path])) for path in wanted)


def _protocol(record: Record) -> tuple[Any, ...]:
    return _without(record, "network", "seed", "training.loc_lr", *OF_THE_RNN)


def _place(record: Record) -> tuple[Any, ...]:
    """Where a run's row stands: runs of one row stand at one place."""
    settings = record["settings"]
    rest = _without(record, "seed", *(["training.loc_lr"] if factor(record) is None else []))
    return [*NAMES].index(settings.network.kind), factor(record) or 0.0, len(variant(record)), rest
