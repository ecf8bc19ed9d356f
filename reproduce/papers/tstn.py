"""The paper's Table 3 and claims, and what our runs say about each claim.

Runs belong in one table when they saw the same data for the same number of epochs, or each for as
many as in the paper, and in one row when all their settings but the seed agree. Nothing else is
ever averaged, and networks are compared only where every setting but the network agrees.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import groupby
from typing import Any, NamedTuple

from ministn.data import Cluttered
from ministn.kinds import differences, has, value_at
from ministn.metrics.statistics import binomial_interval
from ministn.models import Alternating, ClassificationCnn, Trstn, Tstn, UntiedStn
from ministn.training.protocol import Training
from papers.claims import (
    FAILS,
    HOLDS,
    UNDECIDED,
    Record,
    Row,
    Table,
    Verdict,
    about_equal,
    by_seed,
    compared,
    smaller,
    state,
)


class Published(NamedTuple):
    """A row of the TSTN paper's Table 3; errors in percent, None where it gives no number."""

    name: str
    epochs: int
    train: float | None  # the best of all epochs
    valid: float | None
    test: float | None


TABLE3 = {
    "arch1-cnn": Published("Arch 1 CNN", 145, 0.0, 4.39, 4.44),
    "arch1-untied": Published("Arch 1 untied STN", 179, 0.0, 4.38, 4.33),
    "arch1-tstn": Published("Arch 1 TSTN", 196, 0.002, 3.02, 3.14),
    "arch2-cnn": Published("Arch 2 CNN", 95, 0.0, 1.82, 2.18),
    # Did not converge; the paper gives no numbers. The epochs are our choice: those of the TSTN.
    "arch2-untied": Published("Arch 2 untied STN", 231, None, None, None),
    "arch2-tstn": Published("Arch 2 TSTN", 231, 0.0, 1.3, 1.74),
}
# What the paper proposes and does not run. It is to last as long as the tied network.
PROPOSED = {
    network.name: Published(
        f"Arch {number} {words}", TABLE3[Tstn(number).name].epochs, None, None, None
    )
    for number in (1, 2)
    for network, words in ((Trstn(number), "TRSTN"), (Alternating(number), "CNN by turns"))
}
ROWS = TABLE3 | PROPOSED
PAPER_TEST_IMAGES = 10_000
PAPER_DATA = Cluttered()
PAPER_TRAINING = Training(epochs=1)  # apart from the epochs
PAPER_DECAY = 20  # epochs

# Settings that say nothing of a CNN.
TRANSFORMERS_ONLY = (
    "training.loc_lr", "training.loc_warm_up", "network.downsample", "network.dropout",
    "network.stop_gradient", "network.share", "network.clip", "network.scale", "network.pool",
    "network.zoom",
)  # fmt: skip

# Settings of trainings in words, of which PAPER_TRAINING has the paper's.
OF_TRAINING = (
    ("lr", "lr {:g}"), ("loc_lr", "loc-lr x{:g}"), ("loc_warm_up", "loc. warm-up {}"),
    ("batch_size", "batch {}"),
)  # fmt: skip

# Settings of networks, the paper's value if it has one, and words for others. Beside a control no
# number of the paper belongs.
CONTROLS: tuple[tuple[str, Any, str], ...] = (
    ("network.width", None, "{} neurons"),
    ("network.share", None, "{:g} of all maps and neurons"),
    ("network.dropout", 0, "loc. dropout {:g}"),
    ("network.stop_gradient", False, "gradient stopped"),
)
# How a localisation network begins and learns; of this the paper says that it has no last pooling.
LOOKING = (
    ("network.clip", None, "loc. gradient clipped at {:g}"),
    ("network.scale", None, "loc. scale {:g}"),
    ("network.pool", False, "loc. pooling kept"),
    ("network.zoom", None, "theta begins at {:g}"),
)
OF_NETWORKS = (
    ("network.downsample", 1, "d = {:g}"), ("network.glimpses", None, "T = {}"), *LOOKING,
    *CONTROLS,
)  # fmt: skip

# Kinds of networks, in what is said of a claim.
NAMES = {Tstn.kind: "TSTN", UntiedStn.kind: "untied", ClassificationCnn.kind: "CNN"}

ELSEWHERE = "theta of another image"  # a test of a run's best weights, by its name in records

CONVERGED_BELOW = 50.0  # final training error in percent; chance is 90


def paper_interval(network: str) -> tuple[float, float, float] | None:
    """Table 3's test error in percent and its 95 % binomial interval; None without a number."""
    published = TABLE3.get(network)
    if published is None or published.test is None:
        return None
    errors = round(published.test * PAPER_TEST_IMAGES / 100)
    low, high = binomial_interval(errors, PAPER_TEST_IMAGES)
    return published.test, 100 * low, 100 * high


# -- which runs belong together --------------------------------------------------------------------


def tables(records: list[Record]) -> list[Table]:
    """Records in tables, and in rows, in the order of Table 3.

    The paper's protocol comes first, then what had most images. Networks that are not in the paper
    have tables of their own, the last. Raises UserError when two records
    of one run disagree.
    """
    result = []
    for same_data in _grouped(records, _data_key):
        for table in _by_epochs(same_data):
            rows = [by_seed(row) for row in _grouped(table, _row_key)]
            result.append(sorted(rows, key=_row_order))
    return sorted(result, key=_table_order)


def _table_order(table: Table) -> tuple[Any, ...]:
    first = table[0][0]
    return scope(table) != "", _network(first) not in ROWS, -first["settings"].data.train_size


def label(record: Record) -> list[str]:
    """The network's name, then each setting of its row that is not the paper's."""
    every = record["settings"].training.schedule.every
    own = every != PAPER_DECAY and not record.get("compress")
    return [*named(record), *([f"decay every {every}"] if own else [])]


def named(record: Record) -> list[str]:
    """The same but for the length of its schedule."""
    settings = record["settings"]
    training = settings.training
    parts = [ROWS[_network(record)].name if _network(record) in ROWS else _network(record)]
    still = is_cnn(record) or _theta_fixed(record)
    for name, text in OF_TRAINING:
        value = getattr(training, name)
        if value != getattr(PAPER_TRAINING, name) and not (still and name.startswith("loc_")):
            parts.append(text.format(value))
    if _theta_fixed(record):
        parts.append("theta fixed")
    parts += _other_than_usual(record, OF_NETWORKS)
    if settings.precision != "fp32":
        parts.append(settings.precision)
    return parts


def is_cnn(record: Record) -> bool:
    """Whether the run's network has no transformer, in training or later."""
    return record["settings"].network.kind == ClassificationCnn.kind


def attends(record: Record) -> bool:
    """Whether the run's network, as it is tested, has a transformer."""
    return not is_cnn(record) and record["settings"].network.kind != Alternating.kind


def is_control(record: Record) -> bool:
    """Whether it is none of the paper's networks, but one that a sceptic would have beside them."""
    return _theta_fixed(record) or bool(_other_than_usual(record, CONTROLS))


def _other_than_usual(record: Record, fields: Sequence[tuple[str, Any, str]]) -> list[str]:
    """Which of these settings are not the paper's, in words."""
    settings = record["settings"]
    found = [(value_at(settings, path), *rest) for path, *rest in fields if has(settings, path)]
    return [text.format(value) for value, paper, text in found if value != paper]


def _theta_fixed(record: Record) -> bool:
    """Whether nothing moves it from the identity."""
    return record["settings"].training.loc_lr == 0 and not is_cnn(record)


def scope(table: Table) -> str:
    """How a table differs from the paper's data, images, epochs or networks; empty if not."""
    heads = [row[0] for row in table]
    first = heads[0]
    in_paper = _network(first) in ROWS
    shorter = in_paper and any(epochs(head) < head["paper_epochs"] for head in heads)
    parts = [] if in_paper else ["not in the paper"]
    if not on_paper_data(table):
        parts.append("reduced, other data")
    elif shorter or first["settings"].data.train_size < first["full_train_size"]:
        parts.append("reduced")
    elif in_paper and not paper_lengths(table):
        parts.append("other epochs")
    return ", ".join(parts)


def on_paper_data(table: Table) -> bool:
    """Whether a table's images are made like the paper's, so that its errors can be set beside."""
    data = table[0][0]["settings"].data
    return replace(data, train_size=PAPER_DATA.train_size, seed=PAPER_DATA.seed) == PAPER_DATA


def compression(record: Record) -> float | None:
    """How many times faster than the paper's a run's protocol is to be, None for one of its own.

    It is 1 where the run is to last as long as in Table 3.
    """
    if _network(record) not in ROWS:
        return None
    same = epochs(record) == record["paper_epochs"]
    return 1.0 if same else record.get("compress")


def paper_length(record: Record) -> bool:
    """Whether the run is to last as long as in Table 3."""
    return compression(record) == 1


def faster(table: Table) -> float | None:
    """How many times faster than the paper's protocol all of a table's runs are to be, if alike."""
    found = {compression(row[0]) for row in table}
    return found.pop() if len(found) == 1 else None


def paper_lengths(table: Table) -> bool:
    """Whether every run of a table is to last as long as in Table 3."""
    return faster(table) == 1


def _network(record: Record) -> str:
    return str(record["settings"].network.name)


def epochs(record: Record) -> int:
    """How long the run is to last."""
    return int(record["settings"].training.epochs)


def _grouped(records: list[Record], key: Callable[[Record], Any]) -> Iterator[list[Record]]:
    for _, group in groupby(sorted(records, key=key), key=key):
        yield list(group)


def _without(record: Record, *names: str) -> tuple[tuple[str, str], ...]:
    """The settings but those at some paths, in a form that can be compared and sorted.

    Only those that are not as usual, so that networks of two kinds agree where one has more fields.
    """
    found = {each.path: each.text for each in differences(record["settings"])}
    return tuple((path, found[path]) for path in sorted(found.keys() - set(names)))


def _data_key(record: Record) -> tuple[Any, ...]:
    data, known = record["settings"].data, _network(record) in ROWS
    names = ("source", "canvas", "distractors", "patch", "seed", "train_size")
    return (not known, *(repr(getattr(data, name)) for name in names), record["data_sha256"])


def _by_epochs(records: list[Record]) -> Iterator[list[Record]]:
    """All runs of N epochs, for each N of a run's own; those K times faster, for each K.

    So a run of the paper's length is compared with those that lasted as long as it, and stays
    beside the others of the paper's lengths, if there are any.
    """
    lengths = {epochs(record) for record in records if compression(record) is None}
    for length in sorted(lengths):
        yield [record for record in records if epochs(record) == length]
    for times in sorted({compression(record) or 1.0 for record in records}):
        same = [record for record in records if compression(record) == times]
        if any(epochs(record) not in lengths for record in same):
            yield same


def _row_key(record: Record) -> tuple[Any, ...]:
    """A CNN has no localisation network, so its loc_lr says nothing."""
    return _without(record, "seed", *(TRANSFORMERS_ONLY if is_cnn(record) else []))


def _row_order(row: Row) -> tuple[Any, ...]:
    order = [*ROWS, _network(row[0])].index(_network(row[0]))
    return order, _network(row[0]), len(label(row[0])), label(row[0])


# -- claims ----------------------------------------------------------------------------------------


def verdicts(table: Table) -> list[Verdict]:
    """Every claim of the paper, once for each setting under which the table has runs for it, and
    what it expects of the TRSTN.

    Empty for a table without any of the paper's networks.
    """
    result: list[Verdict] = []
    if not any(_network(row[0]) in TABLE3 for row in table):
        return result
    for architecture in (1, 2):
        rows = [row for row in table if _number(row[0]) == architecture and _in_paper(row[0])]
        if not rows:
            result.append(Verdict(f"Arch {architecture}: all claims", UNDECIDED, 0, ["not run"]))
        for head in _settings_heads(rows):
            same = [row for row in rows if _comparable(row[0], head)]
            runs = {row[0]["settings"].network.kind: row for row in same}
            setting = ", ".join([f"Arch {architecture}", *label(head)[1:]])
            result += [
                verdict._replace(claim=f"{setting}: {verdict.claim}")
                for verdict in _architecture(architecture, runs)
            ]
    recurrent = (row for row in table if row[0]["settings"].network.kind == Trstn.kind)
    return result + [_expected(row, table) for row in recurrent]


def _number(record: Record) -> int | None:
    """Of the paper's architecture."""
    number: int | None = getattr(record["settings"].network, "architecture", None)
    return number


def _in_paper(record: Record) -> bool:
    return record["settings"].network.kind in NAMES and not is_control(record)


def _settings_heads(rows: list[Row]) -> list[Record]:
    """One run for each setting to be judged: those of the transformers, else those of the CNN."""
    heads = [row[0] for row in rows if not is_cnn(row[0])] or [row[0] for row in rows]
    return [
        head
        for number, head in enumerate(heads)
        if not any(_comparable(head, earlier) for earlier in heads[:number])
    ]


def _comparable(record: Record, head: Record) -> bool:
    """Whether all settings agree but network, seed, and the epochs, which the table fixes."""
    free = ["network", "seed", "training.epochs", *(TRANSFORMERS_ONLY if is_cnn(record) else [])]
    return _without(record, *free) == _without(head, *free)


def _architecture(architecture: int, runs: dict[str, Row]) -> Iterator[Verdict]:
    named = {NAMES[kind]: runs.get(kind, []) for kind in NAMES}
    yield compared("tied < untied", named, ("TSTN", "untied"), smaller)
    yield compared("tied < CNN", named, ("TSTN", "CNN"), smaller)
    if architecture == 1:
        yield compared("untied about the CNN", named, ("untied", "CNN"), about_equal)
    else:
        yield _no_convergence(runs.get(UntiedStn.kind, []))


def _expected(recurrent: Row, table: Table) -> Verdict:
    """That the TRSTN makes fewer errors than the TSTN, whatever its T."""
    head = recurrent[0]
    free = "network", "network.glimpses", "seed", "training.epochs"
    tied = (
        row
        for row in table
        if row[0]["settings"].network.kind == Tstn.kind
        and _without(row[0], *free) == _without(head, *free)
    )
    named = {"TRSTN": recurrent, "TSTN": next(tied, [])}
    setting = ", ".join([f"Arch {_number(head)}", *label(head)[1:]])
    return compared(f"{setting}: TRSTN < tied, expected", named, ("TRSTN", "TSTN"), smaller)


def _no_convergence(runs: Row) -> Verdict:
    votes, details = [], []
    for record in runs:
        reached, seed = state(record), record["settings"].seed
        detail = f"seed {seed}: {reached}"
        if reached == "finished":
            error = record["epochs"][-1]["train_error"]
            votes.append(HOLDS if error > CONVERGED_BELOW else FAILS)
            detail = f"seed {seed}: last training error {error:.2f} %"
            detail += "; collapsed" if record["collapses"] else ""
        else:
            votes.append(HOLDS if reached == "diverged" else UNDECIDED)
        details.append(detail)
    verdict = FAILS if FAILS in votes else HOLDS if set(votes) == {HOLDS} else UNDECIDED
    return Verdict(
        "untied does not converge",
        verdict,
        len(votes) - votes.count(UNDECIDED),
        details or ["untied not run"],
        any(record["collapses"] for record in runs),
    )
