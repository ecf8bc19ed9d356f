"""SVHN and plankton in the placement paper (Finnveden et al. 2020): runs in tables, and its claims.

What the paper printed of each of the two, and claims, is a Study. Runs belong in one table when all
their settings agree but seed and where transformers stand; in one row when all but the seed do.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import NamedTuple

from ministn.data import Plankton, Svhn
from ministn.data.sources import EMBEDDED, Sizes
from ministn.errors import UserError
from ministn.kinds import leaves
from ministn.models import Architecture
from ministn.runs import Settings
from ministn.tasks import Classification
from ministn.training.protocol import Training
from papers.claims import (
    Record,
    Row,
    Table,
    Verdict,
    about_equal,
    by_seed,
    compared,
    grouped,
    smaller,
)

# Of a network, what says where its transformers stand.
WHERE = "network.place", "network.depths", "network.head"


class Claim(NamedTuple):
    """That the first network's error is less than the second's; by their names.

    margin: that the two differ by no more than so many percentage points instead.
    """

    first: str
    second: str
    margin: float | None = None


class Study(NamedTuple):
    """One data set of the paper.

    script: that trains, without folder and ending. set_name: in words. data, training, task: of the
    protocol; sizes: of the splits, by source. epochs: the training for so many. networks: by name,
    those that the paper has figures for or speaks of, in its order. paper: its test errors in
    percent, by name, with so many decimal places. cost: how many times as long as the network
    ``reference`` it says that one trains. images: how many it trained on. updates: how many its
    protocol's authors made. claims: its own.
    """

    script: str
    set_name: str
    data: Svhn | Plankton
    sizes: dict[str, Sizes]
    training: Training
    task: Classification
    epochs: Callable[[Training, int], Training]
    networks: dict[str, Architecture]
    paper: dict[str, float]
    places: int
    cost: dict[str, float]
    reference: str
    images: int
    updates: int
    seeds: tuple[int, ...]
    claims: list[Claim]

    @property
    def path(self) -> str:
        return f"reproduce/{self.script}.py"

    @property
    def title(self) -> str:
        """Of its folder of records, its part of the page and its figure."""
        return self.script.replace("_", "-")


def name(record: Record) -> str:
    """The network's, by which the paper's figure is found; with what it was tested as."""
    return str(record.get("tested", record["settings"].network.name))


def spoken(network: str) -> str:
    """A name as the paper has it, with iterations: "STN-SL3 x2", and "STN-SL3 x2, tested x3"."""
    if network == "cnn":
        return "CNN"
    trained, _, more = network.partition("+")
    placed, _, iterations = trained.partition("x")
    where, _, head = placed.partition("-")
    words = f"STN-{where.upper()}" + (f"-{head}" if head else "")
    words += f" x{iterations}" if iterations else ""
    return words + (f", tested x{int(iterations) + int(more)}" if more else "")


def one_more(settings: Settings) -> dict[str, Settings]:
    """A network that iterates, tested with one more iteration: what an Experiment's tests are."""
    network = settings.network
    depths: tuple[int, ...] = getattr(network, "depths", ())
    if len(depths) < 2 or len(set(depths)) > 1:
        return {}
    longer = replace(network, depths=(*depths, depths[0]))  # type: ignore[type-var]
    return {f"{network.name}+1": replace(settings, network=longer)}


def on_paper_data(record: Record) -> bool:
    """Whether the images are the set's and show what the paper's do, so that errors can be set
    beside its own. Larger ones of SVHN show more.
    """
    data = record["settings"].data
    return bool(data.source != EMBEDDED and data.side <= type(data).side)


def published(study: Study, cell: str) -> str | None:
    """The paper's test error, as it prints it, if it has one."""
    return f"{study.paper[cell]:.{study.places}f}" if cell in study.paper else None


def tables(study: Study, records: list[Record]) -> list[Table]:
    """Records in tables, nearest to the protocol first, and in rows in the paper's order.

    A network that was tested with one more iteration has a row for that, too. Raises UserError
    without records, for those of other scripts, and when two of one run disagree.
    """
    if not records:
        raise UserError(f"there are no records to report: run {study.path} first")
    for record in records:
        if record["settings"].network.kind != next(iter(study.networks.values())).kind:
            raise UserError(f"{record['settings'].network.name} is no network of this table")
    order = [*study.networks]

    def place(record: Record) -> tuple[int, str]:
        own = name(record)
        return order.index(own) if own in order else len(order), own

    found = []
    for _, same in grouped(records, _protocol):
        rows = [by_seed(row) for _, row in grouped(same, place)]
        found.append([each for row in rows for each in (row, *tested(row))])
    return sorted(found, key=lambda table: _order(study, table))


def tested(row: Row) -> Iterator[Row]:
    """The row as if its networks had been trained as they were tested, for each such test."""
    done = [record for record in row if record["best"]]
    for other in dict.fromkeys(each for r in done for each in r["best"].get("tests", ())):
        yield [
            record | {"best": record["best"] | record["best"]["tests"][other], "tested": other}
            for record in done
            if other in record["best"].get("tests", ())
        ]


def scope(study: Study, table: Table) -> str:
    """How a table differs from the paper's images, network or protocol; empty if it does not."""
    settings = table[0][0]["settings"]
    if not on_paper_data(table[0][0]):
        return "reduced, other data"
    whole, training = next(iter(study.networks.values())), settings.training
    small = (
        settings.data.train_size < study.images
        or training.epochs < study.training.epochs
        or getattr(settings.data, "side", 0) < getattr(study.data, "side", 0)
        or getattr(settings.network, "width", 1) < getattr(whole, "width", 1)
    )
    same = training == study.epochs(study.training, training.epochs)
    return ", ".join(["reduced"] * small + ["other settings"] * (not same))


def verdicts(study: Study, table: Table) -> list[Verdict]:
    """The paper's claims, but those of which neither network has run."""
    runs = {name(row[0]): row for row in table}
    spoken_runs = {spoken(each): row for each, row in runs.items()}
    found = []
    for first, second, margin in study.claims:
        if first in runs or second in runs:
            names = spoken(first), spoken(second)
            sign, vote = "<", smaller
            if margin is not None:
                sign, vote = "about as", partial(about_equal, margin=margin)
            found.append(compared(f" {sign} ".join(names), spoken_runs, names, vote))
    return found


def _order(study: Study, table: Table) -> tuple[bool, bool, int]:
    settings = table[0][0]["settings"]
    images = settings.data.train_size * settings.training.epochs
    return scope(study, table) != "", not on_paper_data(table[0][0]), -images


def _protocol(record: Record) -> tuple[tuple[str, str], ...]:
    found = leaves(record["settings"])
    return tuple((p, repr(found[p])) for p in sorted(found.keys() - {"seed", *WHERE}))
