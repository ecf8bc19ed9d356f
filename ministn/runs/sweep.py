"""What the scripts that train have in common: flags, a plan, run after run, a report.

A script of reproduce/ says in an Experiment what is its own; all else works alike in each of them.
"""

import argparse
import os
import shlex
import sys
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from filelock import FileLock

from ministn import backend, cli, data, parallel, runs
from ministn.cuda.choice import PRECISIONS, check_precision
from ministn.errors import UserError
from ministn.runs import planning
from ministn.settings import Settings

# The cores this process may use: a scheduler may have given it fewer than there are.
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1

LONG = 2 * 3600  # seconds; a plan longer than this comes with a smaller command

Record = dict[str, Any]


class Experiment(NamedTuple):
    """A script that trains and reports.

    script: its path in commands. networks: the names of all that it trains, by which its runs are
    known among others'. parser: its flags, see ``running_flags``. settings_of: one Settings for
    each run that the flags ask for; raises UserError for impossible values. extra: entries of a
    run's record beside its settings. report: the text printed about records. figures: of several
    runs, by file name; run_figures: of one. smaller: flags that ask for less. alone: whether each
    run is for one process only.
    """

    script: str
    networks: Collection[str]
    parser: Callable[[], argparse.ArgumentParser]
    settings_of: Callable[[argparse.Namespace], list[Settings]]
    extra: Callable[[Settings, argparse.Namespace], dict[str, Any]]
    report: Callable[[list[Record]], str]
    figures: Callable[[list[Record]], dict[str, Any]]
    run_figures: Callable[[Record], dict[str, Any]]
    smaller: str
    alone: bool = False


def data_flags(group: Any) -> None:
    """Add the flags that every data set has."""
    group.add_argument(
        "--data-dir", type=Path, metavar="DIR", help="the only place to look for MNIST's four files"
    )
    group.add_argument(
        "--data-seed",
        type=int,
        default=0,
        metavar="SEED",
        help="of what the data sets draw, shared by all runs; default: 0",
    )


def running_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags on how to run, and those that do something else instead."""
    how = parser.add_argument_group("how to run")
    how.add_argument(
        "--out",
        type=Path,
        default=Path("runs"),
        metavar="DIR",
        help="each run gets its own folder in here; default: runs",
    )
    how.add_argument("--resume", action="store_true", help="go on with unfinished runs")
    how.add_argument(
        "--shard",
        metavar="I/N",
        help="only every N-th run, from the I-th (1 to N): for arrays of jobs",
    )
    how.add_argument(
        "--workers",
        type=int,
        metavar="N",
        help="processes that share every batch; default: one for each core, with --resume as many "
        "as before, under mpirun those that it started",
    )
    how.add_argument(
        "--threads",
        type=int,
        metavar="N",
        help="of the linear algebra library in each of them; default: 1, or as before",
    )
    how.add_argument("--gpu", action="store_true", help="train on the GPU, with the CUDA engine")
    how.add_argument(
        "--precision",
        choices=PRECISIONS,
        help="with --gpu: of products; tf32 is faster and rounds factors to 11 bits; default: fp32",
    )

    instead = parser.add_argument_group("instead of training")
    instead.add_argument("--plan", action="store_true", help="print what it would take, and stop")
    instead.add_argument(
        "--report",
        nargs="*",
        type=Path,
        metavar="DIR",
        help="print the table of the records under --out, or under these folders, and draw the "
        "figures that compare runs into --out",
    )


def each_once(**flags: list[Any]) -> None:
    """Raise UserError where a flag's values name one twice."""
    for name, values in flags.items():
        if len(set(values)) < len(values):
            raise UserError(f"--{name} names one twice: {' '.join(map(str, values))}")


def main(experiment: Experiment, flags: list[str] | None = None) -> int:
    """Do what the flags say, by default those of the command line."""
    flags = sys.argv[1:] if flags is None else flags
    arguments = experiment.parser().parse_args(flags)
    if arguments.out.exists() and not arguments.out.is_dir():
        raise UserError(f"--out {arguments.out} is not a folder")
    for name in ("workers", "threads"):
        value = getattr(arguments, name)
        if value is not None and value < 1:
            raise UserError(f"--{name} must be at least 1, got {value}")
    if arguments.gpu and arguments.workers:
        raise UserError("--workers is for the CPU, --gpu trains in one process: leave one out")
    if arguments.gpu and parallel.ranks():
        raise UserError("--gpu trains in one process: start it without mpirun")
    if arguments.report is not None:
        show(experiment, own(experiment, arguments.report or [arguments.out]), arguments.out)
        return 0
    possible = experiment.settings_of(arguments)
    chosen = shard(possible, arguments.shard)
    if not chosen:
        print(f"--shard {arguments.shard} has no run: there are fewer runs than shards")
        return 0
    encoders = {settings.encoder for settings in chosen}
    needed = [s for s in possible if s not in chosen and runs.folder_name(s) in encoders]
    chosen = needed + chosen
    device = backend.gpu() if arguments.gpu else None
    for settings in chosen:
        check_precision(settings.precision, device)
    ranks = parallel.ranks()
    if experiment.alone and (arguments.workers or ranks or 1) > 1:
        raise UserError(
            f"{experiment.script} trains in one process: for several at a time, give each a part "
            "of the runs with --shard"
        )
    cores = 1 if experiment.alone else CORES
    workers = arguments.workers or ranks or min(cores, *(s.batch_size for s in chosen))
    start = ["mpirun", "-n", str(ranks)] if ranks else []
    command = shlex.join([*start, "python", experiment.script, *flags])
    with parallel.team(1 if arguments.gpu else workers, arguments.threads or 1) as team:
        everything = [
            runs.Run(arguments.out, s, command, device, **experiment.extra(s, arguments))
            for s in chosen
        ]
        return train(experiment, everything, arguments, device, team)


def shard(everything: list[Settings], text: str | None) -> list[Settings]:
    """Every N-th run from the I-th, for text "I/N"."""
    if text is None:
        return everything
    first, _, count = text.partition("/")
    if not (first.isdecimal() and count.isdecimal() and 1 <= int(first) <= int(count)):
        raise UserError(f"--shard must be I/N with I from 1 to N, got {text!r}")
    return everything[int(first) - 1 :: int(count)]


def train(
    experiment: Experiment,
    everything: list[runs.Run],
    arguments: argparse.Namespace,
    device: backend.Device | None,
    team: parallel.Team,
) -> int:
    """Plan, then run whatever is not finished, then report on all the chosen runs."""
    todo = []
    awaited = {run.settings.encoder for run in everything}  # what all shards need, one may train
    for run in everything:
        if run.folder.name in awaited and run.folder.exists() and not arguments.plan:
            with run.locked(wait=True):
                pass
        finished = None if arguments.plan else run.already_finished(arguments.resume)
        if finished:
            print(finished)
        else:
            todo.append(run)
    made = Made(arguments.data_dir, team)
    if todo and not arguments.plan:
        made.of(todo[0].settings)  # what is missing or impossible is said before the plan
    if todo:
        with backend.memory_explained(runs.LESS_MEMORY):
            left = [run.still_to_do() for run in todo]
            print(plan(experiment, left, device, team), flush=True)
    if arguments.plan:
        return 0
    for run in todo:
        print(f"\n{run.folder}", flush=True)
        with as_before(run, arguments, team) as its_team:
            status = run.train(
                made.of(run.settings),
                its_team,
                resume=arguments.resume,
                wait=run.folder.name in awaited,
            )
        if status == "interrupted":
            print(f"interrupted: the same command with --resume goes on with {run.folder}")
            return cli.INTERRUPTED
        draw(experiment.run_figures(runs.read_record(run.record_path)), run.folder)
    show(experiment, [runs.read_record(run.record_path) for run in everything], arguments.out)
    return 0


class Made:
    """The data set of the run at hand, made once for all runs in a row that share it."""

    def __init__(self, data_dir: Path | None, team: parallel.Team) -> None:
        self.data_dir, self.team = data_dir, team
        self._key: tuple[Any, ...] | None = None

    def of(self, s: Settings) -> data.DataSet:
        """The data set of these settings. Raises UserError as data.load does."""
        key = s.data, self.data_dir, s.data_seed, s.train_size, s.canvas, s.distractors, s.patch
        if key != self._key:
            self._data = data.load(*key, map=self.team.map)
            self._key = key
        return self._data


@contextmanager
def as_before(
    run: runs.Run, arguments: argparse.Namespace, team: parallel.Team
) -> Iterator[parallel.Team]:
    """The team for a run: the usual one, unless the run was begun with another and may keep it."""
    before = run.cores() if arguments.resume and not arguments.gpu else (None, None)
    asked = arguments.workers or parallel.ranks(), arguments.threads
    usual = team.size, team.threads
    workers, threads = (a or b or c for a, b, c in zip(asked, before, usual, strict=True))
    if (workers, threads) == usual:
        yield team
    else:
        with parallel.team(workers, threads) as other:
            yield other


def plan(
    experiment: Experiment,
    chosen: list[Settings],
    device: backend.Device | None = None,
    team: parallel.Team | None = None,
) -> str:
    """What the runs will cost here; where that is long, a smaller command as well."""
    cost = planning.costs(chosen, device, team)
    text = "plan, from a few timed steps of each network:\n" + planning.describe(chosen, cost)
    if planning.total(chosen, cost) > LONG:
        text += f"\n  a smaller one: python {experiment.script} {experiment.smaller}"
        small = experiment.settings_of(experiment.parser().parse_args(experiment.smaller.split()))
        # What was timed serves the smaller runs only if their steps are the same.
        timed, wanted = (
            {(s.network, s.batch_size, s.canvas, s.downsample) for s in runs}
            for runs in (chosen, small)
        )
        if timed >= wanted:
            text += f": {planning.hours(planning.total(small, cost))}"
    return text


def draw(figures: dict[str, Any], folder: Path) -> list[Path]:
    """Write figures by their names into a folder."""
    # Matplotlib takes a second to import; --help and --plan do not wait.
    from ministn.plot import drawing

    paths = [folder / name for name in figures]
    for path, figure in zip(paths, figures.values(), strict=True):
        drawing.save(figure, path)
    return paths


def own(experiment: Experiment, folders: list[Path]) -> list[Record]:
    """The records of the experiment's runs under these folders, which others may share.

    Raises UserError if there is none.
    """
    records = runs.find_records(folders)
    found = [record for record in records if record["settings"]["network"] in experiment.networks]
    others = len(records) - len(found)
    if not found:
        raise UserError(
            f"none of the {others} runs under {', '.join(map(str, folders))} is of "
            f"{experiment.script}: nothing to report"
        )
    if others:
        print(f"{others} runs of other scripts are left out")
    return found


def show(experiment: Experiment, records: list[Record], out: Path) -> None:
    """Print the report and draw the figures that compare runs."""
    print()
    print(experiment.report(records))
    out.mkdir(parents=True, exist_ok=True)
    with FileLock(out / "figures.lock"):  # other shards may end at the same moment
        for path in draw(experiment.figures(records), out):
            print(f"wrote {path}")
