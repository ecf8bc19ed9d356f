"""Table 3 of Tied Spatial Transformer Networks (Cirstea & Likforman-Sulem 2016).

Trains the paper's networks on cluttered MNIST and prints the paper's table beside ours.
"""

import argparse
import os
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock

from ministn import backend, claims, cli, data, parallel, planning, report, runs
from ministn.cuda.choice import PRECISIONS, check_precision
from ministn.errors import UserError
from ministn.models import NETWORKS
from ministn.training import Settings

SIX = list(claims.TABLE3)
PAPER_EPOCHS = {name: row.epochs for name, row in claims.TABLE3.items()}
PAPER_EPOCHS["small-stn"] = report.RECIPE_EPOCH  # not in the paper: the notebook's log

PROTOCOL: dict[str, Any] = {
    "data": "mnist",
    "epochs": "paper",
    "batch_size": 256,
    "lr": 0.001,
    "loc_lr": 1.0,
    "precision": "fp32",
}
QUICK: dict[str, Any] = {
    "data": "digits",
    "batch_size": 16,
    "lr": 0.0005,
    "loc_lr": 0.1,  # at 0.3 the untied STN of Architecture 2 collapsed, at 1 that of Architecture 1
    "train_size": 2000,
    "epochs": 4,
}

# The cores this process may use: a scheduler may have given it fewer than there are.
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1

FROM_RECIPE = ("train_size", "canvas", "distractors", "patch")  # unless a flag says otherwise

LONG = 2 * 3600  # seconds; a plan longer than this comes with a smaller command
SMALLER = "--nets arch1-cnn arch1-tstn --train-size 10000 --epochs 15"

EXAMPLES = """\
examples (times on two cores of a 2020 server):
  python reproduce/table3.py --quick
      all six networks on embedded digits, nothing to download: about five minutes
  python reproduce/table3.py --plan
      what the paper's protocol would take on this machine: under a minute
  python reproduce/table3.py --nets arch1-cnn arch1-tstn --train-size 10000 --epochs 15
      two networks on a fifth of the images: about an hour
  python reproduce/table3.py --seeds 0 1 2 --shard 2/6 --out runs && \\
  python reproduce/table3.py --report
      every sixth run of a sweep, from the second; then the table of all that has run
  python reproduce/table3.py --gpu
      the paper's protocol on a GPU
"""


def parser() -> argparse.ArgumentParser:
    """The command line, in groups."""
    p = cli.Parser(
        prog="python reproduce/table3.py",
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    what = p.add_argument_group("what to train (default: the paper's protocol)")
    what.add_argument(
        "--quick",
        action="store_true",
        help="a small setting, from which other flags may still differ: "
        + ", ".join(f"{name.replace('_', '-')} {value}" for name, value in QUICK.items()),
    )
    what.add_argument(
        "--nets",
        nargs="+",
        choices=NETWORKS,
        default=SIX,
        metavar="NET",
        help=f"of {' '.join(NETWORKS)}; default: the first six",
    )
    what.add_argument(
        "--epochs",
        default=None,
        metavar="N|paper",
        help="for every network; 'paper' (default): as many as the paper trained",
    )
    what.add_argument(
        "--train-size", type=int, metavar="N", help="the first N training images; default: all"
    )
    what.add_argument("--batch-size", type=int, metavar="N", help="default: 256")
    what.add_argument("--lr", type=float, help="Adam's starting learning rate; default: 0.001")
    what.add_argument(
        "--loc-lr",
        type=float,
        metavar="FACTOR",
        help="times --lr for layers only the localisation network has; default: 1",
    )
    what.add_argument(
        "--seeds",
        nargs="+",
        type=int,
        default=[0],
        metavar="SEED",
        help="one run of each network for each of these values; default: 0",
    )

    source = p.add_argument_group("data")
    source.add_argument(
        "--data", choices=data.RECIPES, help="cluttered MNIST, or embedded digits; default: mnist"
    )
    source.add_argument(
        "--data-dir", type=Path, metavar="DIR", help="the only place to look for MNIST's four files"
    )
    source.add_argument(
        "--data-seed",
        type=int,
        default=0,
        metavar="SEED",
        help="of clutter and positions, shared by all runs; default: 0",
    )
    source.add_argument(
        "--canvas", type=int, metavar="PIXELS", help="side of the images; default: 60, digits 36"
    )
    source.add_argument(
        "--distractors",
        type=int,
        metavar="N",
        help="pieces of other digits in an image; default: 6, digits 3",
    )
    source.add_argument(
        "--patch", type=int, metavar="PIXELS", help="side of a distractor; default: 8, digits 6"
    )

    how = p.add_argument_group("how to run")
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

    instead = p.add_argument_group("instead of training")
    instead.add_argument("--plan", action="store_true", help="print what it would take, and stop")
    instead.add_argument(
        "--report",
        nargs="*",
        type=Path,
        metavar="DIR",
        help="print the table of the records under --out, or under these folders, and draw the "
        "figures that compare runs into --out",
    )
    return p


def settings_of(arguments: argparse.Namespace) -> list[Settings]:
    """One Settings for each run, in order: seeds outside, networks inside.

    Raises UserError for impossible values.
    """
    base = PROTOCOL | (QUICK if arguments.quick else {})
    asked = {name: value for name, value in vars(arguments).items() if value is not None}
    recipe = data.RECIPES[asked.get("data", base["data"])]._asdict()
    base = {name: recipe[name] for name in FROM_RECIPE} | base
    base |= {name: asked[name] for name in base if name in asked}
    epochs = base.pop("epochs")
    if epochs != "paper" and not str(epochs).isdecimal():
        raise UserError(f"--epochs must be a whole number or 'paper', got {epochs!r}")
    if base["train_size"] > recipe["train_size"]:
        raise UserError(f"--train-size must be at most {recipe['train_size']}")
    for name in ("nets", "seeds"):
        if len(set(asked[name])) < len(asked[name]):
            raise UserError(f"--{name} names one twice: {' '.join(map(str, asked[name]))}")
    return [
        Settings(
            network=network,
            epochs=PAPER_EPOCHS[network] if epochs == "paper" else int(epochs),
            data_seed=arguments.data_seed,
            seed=seed,
            **base,
        )
        for seed in arguments.seeds
        for network in arguments.nets
    ]


def shard(everything: list[Settings], text: str | None) -> list[Settings]:
    """Every N-th run from the I-th, for text "I/N"."""
    if text is None:
        return everything
    first, _, count = text.partition("/")
    if not (first.isdecimal() and count.isdecimal() and 1 <= int(first) <= int(count)):
        raise UserError(f"--shard must be I/N with I from 1 to N, got {text!r}")
    return everything[int(first) - 1 :: int(count)]


def main(flags: list[str] | None = None) -> int:
    """Do what the flags say, by default those of the command line."""
    flags = sys.argv[1:] if flags is None else flags
    arguments = parser().parse_args(flags)
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
        show(runs.find_records(arguments.report or [arguments.out]), arguments.out)
        return 0
    chosen = shard(settings_of(arguments), arguments.shard)
    if not chosen:
        print(f"--shard {arguments.shard} has no run: there are fewer runs than shards")
        return 0
    device = backend.gpu() if arguments.gpu else None
    for settings in chosen:
        check_precision(settings.precision, device)
    ranks = parallel.ranks()
    workers = arguments.workers or ranks or min(CORES, *(s.batch_size for s in chosen))
    start = ["mpirun", "-n", str(ranks)] if ranks else []
    command = shlex.join([*start, "python", "reproduce/table3.py", *flags])
    with parallel.team(1 if arguments.gpu else workers, arguments.threads or 1) as team:
        return train(chosen, arguments, command, device, team)


def train(
    chosen: list[Settings],
    arguments: argparse.Namespace,
    command: str,
    device: backend.Device | None,
    team: parallel.Team,
) -> int:
    """Plan, then run whatever is not finished, then print the table of all the chosen runs."""
    todo = []
    everything = [
        runs.Run(
            arguments.out,
            settings,
            command,
            device,
            full_train_size=data.RECIPES[settings.data].train_size,
            paper_epochs=PAPER_EPOCHS[settings.network],
        )
        for settings in chosen
    ]
    for run in everything:
        finished = None if arguments.plan else run.already_finished(arguments.resume)
        if finished:
            print(finished)
        else:
            todo.append(run)
    if todo and not arguments.plan:
        s = todo[0].settings
        made = data.load(
            s.data, arguments.data_dir, s.data_seed, s.train_size, s.canvas, s.distractors, s.patch,
            map=team.map,
        )  # fmt: skip
    if todo:
        with backend.memory_explained(runs.LESS_MEMORY):
            print(plan([run.still_to_do() for run in todo], device, team), flush=True)
    if arguments.plan:
        return 0
    for run in todo:
        print(f"\n{run.folder}", flush=True)
        with as_before(run, arguments, team) as its_team:
            status = run.train(made, its_team, resume=arguments.resume)
        if status == "interrupted":
            print(f"interrupted: the same command with --resume goes on with {run.folder}")
            return cli.INTERRUPTED
        draw_run(runs.read_record(run.record_path), run.folder)
    show([runs.read_record(run.record_path) for run in everything], arguments.out)
    return 0


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
    chosen: list[Settings],
    device: backend.Device | None = None,
    team: parallel.Team | None = None,
) -> str:
    """What the runs will cost here; where that is long, a smaller command as well."""
    cost = planning.costs(chosen, device, team)
    text = "plan, from a few timed steps of each network:\n" + planning.describe(chosen, cost)
    if planning.total(chosen, cost) > LONG:
        text += f"\n  a smaller one: python reproduce/table3.py {SMALLER}"
        small = settings_of(parser().parse_args(SMALLER.split()))
        # What was timed serves the smaller runs only if their steps are the same.
        timed = {(s.network, s.batch_size, s.canvas) for s in chosen}
        if timed >= {(s.network, s.batch_size, s.canvas) for s in small}:
            text += f": {planning.hours(planning.total(small, cost))}"
    return text


def draw_run(record: dict[str, Any], folder: Path) -> None:
    """The figures of one run, in its folder."""
    # Matplotlib takes a second to import; --help and --plan do not wait.
    from ministn import drawing, plot

    if record["epochs"]:
        drawing.save(plot.learning_curves([record]), folder / "learning-curves.png")
    if record["best"] and record["best"]["test_overlap"] is not None:
        drawing.save(plot.attention_figure(record), folder / "attention.png")


def show(records: list[dict[str, Any]], out: Path) -> None:
    """Print the table and draw the figures that compare runs."""
    from ministn import drawing, plot

    print()
    print(report.report(records))
    out.mkdir(parents=True, exist_ok=True)
    figures = {"seeds.png": plot.seeds_figure}
    if not all(claims.is_cnn(record) for record in records):
        figures["overlap.png"] = plot.overlap_figure
    with FileLock(out / "figures.lock"):  # other shards may end at the same moment
        for name, figure in figures.items():
            drawing.save(figure(records), out / name)
            print(f"wrote {out / name}")


if __name__ == "__main__":
    cli.run(main)
