"""What the scripts that train have in common: flags, a plan, run after run, a report.

A script of reproduce/ says in an Experiment what is its own; all else works alike in each of them.
"""

import argparse
import os
import shlex
import sys
import textwrap
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from filelock import FileLock

from ministn import backend, cli, data, kinds, parallel, runs
from ministn.cuda.choice import check_precision
from ministn.errors import UserError
from ministn.kinds import replaced
from ministn.runs import Record, flags, planning
from ministn.runs.flags import Flag
from ministn.runs.record import find
from ministn.runs.settings import Settings

# The cores this process may use: a scheduler may have given it fewer than there are.
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1

LONG = 2 * 3600  # seconds; a plan longer than this comes with a smaller command


class Experiment:
    """A script that trains and reports.

    name: in records. script: its path in commands. description, examples: of --help. flags: its
    own, beside those that all scripts have.
    runs: Settings that the flags without a path choose, for one seed; raises UserError for what
    cannot be. choice: the words of a command by which ``runs`` chooses one of them. seeds: unless
    asked otherwise. extra: entries of a run's record beside its settings. report: the text printed
    about records. figures: of several runs, by file name; run_figures: of one. smaller: flags that
    ask for less. tests: other settings to test a run's best weights with, by name, of networks that
    have the same parameters.
    """

    def __init__(
        self,
        name: str,
        script: str,
        *,
        description: str | None,
        examples: str,
        flags: Sequence[Flag],
        runs: Callable[[argparse.Namespace], list[Settings]],
        choice: Callable[[Settings], list[str]],
        report: Callable[[list[Record]], str],
        seeds: Sequence[int] = (0,),
        extra: Callable[[Settings], dict[str, Any]] = lambda settings: {},
        figures: Callable[[list[Record]], dict[str, Any]] = lambda records: {},
        run_figures: Callable[[Record], dict[str, Any]] = lambda record: {},
        smaller: str = "",
        tests: Callable[[Settings], dict[str, Settings]] = lambda settings: {},
    ) -> None:
        self.name, self.script = name, script
        self.description, self.examples = description, examples
        usual = " ".join(map(str, seeds))
        self.flags = [
            *flags,
            Flag(
                "--seeds", "",
                "of initial values, shuffling and dropout: a run of each network for each of "
                f"these; default: {usual}",
                int, many=True, metavar="SEED",
            ),
        ]  # fmt: skip
        self.seeds, self._runs, self._choice = seeds, runs, choice
        self.extra, self.report, self.smaller = extra, report, smaller
        self.figures, self.run_figures, self.tests = figures, run_figures, tests

    @cached_property
    def parser(self) -> argparse.ArgumentParser:
        return flags.parser(self.script, self.description, self.examples, self.flags)

    def parse(self, words: list[str]) -> list[Settings]:
        """The Settings that the words of a command ask for."""
        return self.settings_of(self.parser.parse_args(words))

    def settings_of(self, arguments: argparse.Namespace) -> list[Settings]:
        """One Settings for each run: seeds outside, what ``runs`` chooses inside; before them the
        runs that they start from. Raises UserError for what cannot be.
        """
        usual = (0,) if getattr(arguments, "quick", False) else self.seeds
        seeds = usual if arguments.seeds is None else arguments.seeds
        flags.each_once(seeds=seeds)
        chosen = flags.changed(self._runs(arguments), self.flags, arguments)
        found = [replaced(settings, "seed", seed) for seed in seeds for settings in chosen]
        before = (s.pretrained for s in found if s.pretrained is not None)
        return list(dict.fromkeys([*before, *found]))

    def command(self, settings: Settings) -> str:
        """The command of ``command_of``, but for how to run it."""
        return shlex.join(["python", self.script, *self.command_of(settings)])

    def command_of(self, settings: Settings) -> list[str]:
        """The words of the command that gives just this run, and those that it starts from.

        Raises ValueError for a run that no flags give.
        """
        words = [*self._choice(settings), "--seeds", str(settings.seed)]
        # One after another, since what one flag says may follow from another.
        while more := flags.differing(settings, found := self.parse(words)[-1], self.flags):
            if more[0][0] in words:
                raise ValueError(f"{' '.join(more[0])} is not reached in {' '.join(words)}")
            words += more[0]
        if found != settings:
            own, others = kinds.leaves(settings), kinds.leaves(found)
            differing = (path for path in own | others if own.get(path) != others.get(path))
            raise ValueError(f"no flag of {self.script} sets {', '.join(differing)} so")
        return words

    def with_command(self, record: Record) -> Record:
        """A record with the command that gives just its run.

        Those of format 1 have what was typed when they began: for several runs, or fewer epochs.
        They keep that where no flags give the run any more.
        """
        if record["format"] != runs.FORMAT:
            with suppress(ValueError, UserError):
                command, workers = self.command(record["settings"]), record["device"].get("workers")
                return record | {"command": f"{command} --workers {workers or 1}"}
        return record


def main(experiment: Experiment, words: list[str] | None = None) -> int:
    """Do what the words of the command line say."""
    arguments = experiment.parser.parse_args(sys.argv[1:] if words is None else words)
    if os.path.lexists(arguments.out) and not arguments.out.is_dir():
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
        records = own(experiment, arguments.report or [arguments.out])
        return 0 if show(experiment, records, arguments.out) else 1
    possible = experiment.settings_of(arguments)
    chosen = shard(possible, arguments.shard)
    if not chosen:
        print(f"--shard {arguments.shard} has no run: there are fewer runs than shards")
        return 0
    needed = [s.pretrained for s in chosen if s.pretrained is not None]
    chosen = list(dict.fromkeys([*needed, *chosen]))
    device = backend.gpu() if arguments.gpu else None
    for settings in chosen:
        check_precision(settings.precision, device)
    ranks = parallel.ranks()
    images = min(min(s.training.batch_size, s.data.train_size) for s in chosen)  # of a batch
    workers = arguments.workers or ranks or min(CORES, images)
    if workers > images:
        raise UserError(
            f"{workers} workers cannot share a batch of {images} images: take at most {images}"
        )
    if arguments.workers and not ranks and workers > CORES:
        # Allowed: it takes as many to repeat a record's last bits.
        print(
            f"{workers} workers on {CORES} {'core' if CORES == 1 else 'cores'}: more than one for "
            "each core need more memory and save no time"
        )
    with parallel.team(1 if arguments.gpu else workers, arguments.threads or 1) as team:
        everything = [
            runs.Run(
                arguments.out, s, experiment.name, experiment.command(s), device,
                **experiment.extra(s),
            )
            for s in chosen
        ]  # fmt: skip
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
    # What all shards need, one of them may train.
    awaited = {run.settings.pretrained for run in everything} - {None}
    for run in everything:
        if run.settings in awaited and run.folder.exists() and not arguments.plan:
            with run.locked(wait=True):
                pass
        elif not arguments.plan:
            run.check_free()
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
                wait=run.settings in awaited,
                tests={
                    name: (other, made.of(other))
                    for name, other in experiment.tests(run.settings).items()
                },
            )
        if status == "interrupted":
            print(f"interrupted: the same command with --resume goes on with {run.folder}")
            return cli.INTERRUPTED
        record = runs.read_record(run.record_path)
        draw(partial(experiment.run_figures, record), run.folder)
    show(experiment, [runs.read_record(run.record_path) for run in everything], arguments.out)
    return 0


class Made:
    """The data set of the run at hand, made once for all runs in a row that share it."""

    def __init__(self, data_dir: Path | None, team: parallel.Team) -> None:
        self.data_dir, self.team = data_dir, team
        self._key: data.Data | None = None

    def of(self, settings: Settings) -> data.DataSet:
        """The data set of these settings. Raises UserError as Data.load does."""
        if settings.data != self._key:
            self._data = settings.data.load(self.data_dir, map=self.team.map)
            self._key = settings.data
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
        small = experiment.parse(experiment.smaller.split())
        # What was timed serves the smaller runs only if their steps are the same.
        if cost.keys() >= set(map(planning.alike, small)):
            text += f": {planning.hours(planning.total(small, cost))}"
    return text


def draw(figures: Callable[[], dict[str, Any]], folder: Path) -> tuple[list[Path], bool]:
    """Write figures by their names into a folder; which, and whether these are all.

    What cannot be drawn is one line, never an error: records have all that it is made of.
    """
    drawn: list[Path] = []
    what = "figures"
    try:
        # Matplotlib takes a second to import; --help and --plan do not wait.
        from ministn.plot import drawing

        found = figures()
        for what, figure in found.items():
            drawing.save(figure, folder / what)
            drawn.append(folder / what)
    except Exception as error:
        reason = textwrap.shorten(f"{type(error).__name__}: {error}", 200)
        print(f"{what} in {folder} could not be drawn ({reason}); the records are complete")
        return drawn, False
    return drawn, True


def own(experiment: Experiment, folders: list[Path]) -> list[Record]:
    """The records of the experiment's runs under these folders, which others may share.

    Raises UserError if there is none.
    """
    found = find(folders, experiment.name)
    if not found.own:
        raise UserError(
            f"no run under {', '.join(map(str, folders))} is of {experiment.script}, only of other "
            f"scripts ({found.others}): nothing to report"
        )
    for path in found.skipped:
        print(f"skipped: {path} is not a record of a run")
    if found.others:
        print(f"left out: runs of other scripts ({found.others})")
    return found.own


def show(experiment: Experiment, records: list[Record], out: Path) -> bool:
    """Print the report and draw the figures that compare runs; whether all could be drawn."""
    print()
    print(experiment.report([experiment.with_command(record) for record in records]))
    out.mkdir(parents=True, exist_ok=True)
    with FileLock(out / "figures.lock"):  # other shards may end at the same moment
        drawn, complete = draw(partial(experiment.figures, records), out)
    for path in drawn:
        print(f"wrote {path}")
    return complete
