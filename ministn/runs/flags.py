"""A script's command line: flags that choose runs, and flags that change a setting of theirs."""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ministn import cli
from ministn.cuda.choice import PRECISIONS
from ministn.errors import UserError
from ministn.kinds import has, replaced, short, value_at
from ministn.runs.settings import Settings

# Groups of flags, as --help has them.
WHAT, DATA, HOW, INSTEAD = "what to train", "data", "how to run", "instead of training"


class Flag(NamedTuple):
    """name: "--loc-lr". path: of what it sets in each run's Settings, "training.loc_lr"; without
    one the experiment's ``runs`` reads it. many: whether it takes several values. None of
    ``apart`` is ever set at the path: what such a value means is for ``runs`` to say.
    """

    name: str
    path: str
    help: str
    type: Callable[[str], Any] = str
    many: bool = False
    choices: Sequence[str] | None = None
    metavar: str | None = None
    group: str = WHAT
    apart: Sequence[Any] = ()

    @property
    def key(self) -> str:
        """In the parsed arguments."""
        return self.name.removeprefix("--").replace("-", "_")


# Those that every script has, beside its own.
DATA_SEED = Flag(
    "--data-seed",
    "data.seed",
    "of all random draws that make the images, the same for all runs; default: 0",
    int,
    metavar="SEED",
    group=DATA,
)
PRECISION = Flag(
    "--precision",
    "precision",
    "how products are computed; tf32, with --gpu only, is faster and rounds their factors to 11 "
    "bits; default: fp32",
    choices=PRECISIONS,
    group=HOW,
)


def parser(
    script: str, description: str | None, examples: str, flags: Sequence[Flag]
) -> argparse.ArgumentParser:
    """The command line of a script, in groups."""
    p = cli.Parser(
        prog=f"python {script}",
        description=description,
        epilog=examples,
    )
    groups = {name: p.add_argument_group(name) for name in (WHAT, DATA, HOW, INSTEAD)}
    for flag in [*flags, DATA_SEED, PRECISION]:
        if flag.type is bool:
            groups[flag.group].add_argument(
                flag.name, action="store_true", default=None, help=flag.help
            )
        else:
            groups[flag.group].add_argument(
                flag.name,
                type=flag.type,
                choices=flag.choices,
                metavar=None if flag.choices and not flag.metavar else flag.metavar,
                help=flag.help,
                nargs="+" if flag.many else None,
            )
    groups[DATA].add_argument(
        "--data-dir",
        type=Path,
        metavar="DIR",
        help="the only folder to look in for the data set's files; default: $MINISTN_DATA/mnist, "
        "or svhn, plankton or cub there; MNIST's four then in the user's cache, or by a download",
    )
    _running(groups[HOW])
    _instead(groups[INSTEAD])
    return p


def _running(how: Any) -> None:
    how.add_argument(
        "--out",
        type=Path,
        default=Path("runs"),
        metavar="DIR",
        help="folder in which each run has one of its own; default: runs",
    )
    how.add_argument(
        "--resume",
        action="store_true",
        help="go on with runs that were begun; without it they are refused, unless finished",
    )
    how.add_argument(
        "--shard",
        metavar="I/N",
        help="only every N-th run, from the I-th on (1 to N), for several jobs that share the "
        "runs; default: all",
    )
    how.add_argument(
        "--workers",
        type=int,
        metavar="N",
        help="CPU processes that share every batch: at most as many as it has images; more than "
        "there are cores are possible, but no faster; default: one for each core, with --resume as "
        "many as before, under mpirun those that it started",
    )
    how.add_argument(
        "--threads",
        type=int,
        metavar="N",
        help="threads of the linear algebra library in each worker; default: 1, with --resume as "
        "many as before",
    )
    how.add_argument("--gpu", action="store_true", help="train on a GPU, in one process")


def _instead(group: Any) -> None:
    group.add_argument(
        "--plan", action="store_true", help="print how long it would take here, and stop"
    )
    group.add_argument(
        "--report",
        nargs="*",
        type=Path,
        metavar="DIR",
        help="print the table of all records under these folders, default: under --out, and draw "
        "into --out the figures that compare runs; other files are skipped",
    )


def changed(
    found: list[Settings], flags: Sequence[Flag], arguments: argparse.Namespace
) -> list[Settings]:
    """The runs with what the flags set. Raises UserError for a flag that none of them has."""
    for flag in [*flags, DATA_SEED, PRECISION]:
        value = getattr(arguments, flag.key)
        if not flag.path or value is None or value in flag.apart:
            continue
        if not any(has(settings, flag.path) for settings in found):
            owner = flag.path.rpartition(".")[0]
            kinds = ", ".join(dict.fromkeys(value_at(settings, owner).kind for settings in found))
            raise UserError(f"{flag.name} is not for {kinds}: leave it out")
        found = [replaced(s, flag.path, value) if has(s, flag.path) else s for s in found]
    return found


def differing(wanted: Settings, found: Settings, flags: Sequence[Flag]) -> list[list[str]]:
    """The words of a command that make of one run another, as far as flags can: of each flag."""
    words = []
    for flag in [*flags, DATA_SEED, PRECISION]:
        if flag.path and has(wanted, flag.path) and has(found, flag.path):
            value = value_at(wanted, flag.path)
            if value != value_at(found, flag.path):
                words.append([flag.name] if flag.type is bool else [flag.name, short(value)])
    return words


def at_most(limit: int, **flags: int | None) -> None:
    """Raise UserError where a flag's number is higher."""
    for name, value in flags.items():
        if value is not None and value > limit:
            raise UserError(f"--{name.replace('_', '-')} must be at most {limit}")


def each_once(**flags: Sequence[Any]) -> None:
    """Raise UserError where a flag's values name one twice."""
    for name, values in flags.items():
        if len(set(values)) < len(values):
            raise UserError(f"--{name} names one twice: {' '.join(map(str, values))}")
