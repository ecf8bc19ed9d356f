"""Table 3 of Tied Spatial Transformer Networks (Cirstea & Likforman-Sulem 2016).

Trains the paper's networks on cluttered MNIST and prints the paper's table beside ours.
"""

import argparse
from math import floor, inf
from typing import Any

from papers import tstn, tstn_report
from papers.claims import Record

from ministn import cli, data
from ministn.errors import UserError
from ministn.models import DOWNSAMPLING, NETWORKS
from ministn.runs import sweep
from ministn.settings import Settings

SIX = list(tstn.TABLE3)
PAPER_EPOCHS = {name: row.epochs for name, row in tstn.TABLE3.items()}
PAPER_EPOCHS["small-stn"] = tstn_report.RECIPE_EPOCH  # not in the paper: the notebook's log

PROTOCOL: dict[str, Any] = {
    "data": "mnist",
    "epochs": "paper",
    "batch_size": 256,
    "lr": 0.001,
    "loc_lr": 1.0,
    "decay_every": 20,
    "downsample": 1.0,
    "precision": "fp32",
}
QUICK: dict[str, Any] = {
    "data": "digits",
    "batch_size": 16,
    "lr": 0.0005,
    # At 0.3 the untied STN of Architecture 2 collapsed, at 1 that of Architecture 1. At 0.1 it is a
    # matter of the order in which gradients are added up, so of --workers, whether the former does.
    "loc_lr": 0.1,
    "train_size": 2000,
    "epochs": 4,
}

FROM_RECIPE = ("train_size", "canvas", "distractors", "patch")  # unless a flag says otherwise

EXAMPLES = """\
examples (times on two cores of a 2020 server):
  python reproduce/table3.py --quick
      all six networks on embedded digits, nothing to download: about three minutes
  python reproduce/table3.py --plan
      what the paper's protocol would take on this machine: under a minute
  python reproduce/table3.py --nets arch1-cnn arch1-tstn --train-size 10000 --epochs 15
      two networks on a fifth of the images: about an hour
  python reproduce/table3.py --nets arch1-cnn arch1-tstn --compress 8 --loc-lr 0.3
      the same on all images, the paper's protocol eight times faster: about two hours
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
        "--compress",
        type=float,
        metavar="K",
        help="the paper's protocol K times faster: its epochs and --decay-every divided by K and "
        "rounded; 1 is the paper",
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
        "--decay-every",
        type=int,
        metavar="N",
        help="epochs after which the learning rate is multiplied by 0.7; default: 20",
    )
    what.add_argument(
        "--downsample",
        type=float,
        metavar="D",
        help="the transformer's output is smaller than the image by this factor, which need not be "
        "whole; a CNN has none; default: 1",
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
        "--data",
        choices=data.CLUTTERED,
        help="cluttered MNIST, or embedded digits; default: mnist",
    )
    sweep.data_flags(source)
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

    sweep.running_flags(p)
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
    if arguments.compress is not None:
        base |= _faster(arguments)
    epochs, downsample = base.pop("epochs"), base.pop("downsample")
    if downsample != 1 and not set(arguments.nets) & set(DOWNSAMPLING):
        raise UserError(
            f"--downsample is for {', '.join(DOWNSAMPLING)}: it says nothing of "
            f"{', '.join(arguments.nets)}"
        )
    if epochs != "paper" and not str(epochs).isdecimal():
        raise UserError(f"--epochs must be a whole number or 'paper', got {epochs!r}")
    if base["train_size"] > recipe["train_size"]:
        raise UserError(f"--train-size must be at most {recipe['train_size']}")
    sweep.each_once(nets=arguments.nets, seeds=arguments.seeds)
    return [
        Settings(
            network=network,
            epochs=compressed(PAPER_EPOCHS[network], arguments.compress or 1.0)
            if epochs == "paper"
            else int(epochs),
            downsample=downsample if network in DOWNSAMPLING else 1.0,
            data_seed=arguments.data_seed,
            seed=seed,
            **base,
        )
        for seed in arguments.seeds
        for network in arguments.nets
    ]


def compressed(epochs: int, times: float) -> int:
    """A number of epochs of a protocol that is so many times faster: rounded, at least one."""
    return max(1, floor(epochs / times + 0.5))


def _faster(arguments: argparse.Namespace) -> dict[str, Any]:
    """The settings that --compress gives. Raises UserError beside flags that give them too."""
    times = arguments.compress
    if not 1 <= times < inf:
        raise UserError(f"--compress must be a number from 1 up, got {times}")
    for name in ("epochs", "decay_every"):
        if getattr(arguments, name) is not None:
            flag = "--" + name.replace("_", "-")
            raise UserError(f"--compress says how many epochs: leave out {flag} or --compress")
    return {"epochs": "paper", "decay_every": compressed(PROTOCOL["decay_every"], times)}


def extra(settings: Settings, arguments: argparse.Namespace) -> dict[str, Any]:
    """What a record needs for the table beside the run's settings."""
    return {
        "full_train_size": data.RECIPES[settings.data].train_size,
        "paper_epochs": PAPER_EPOCHS[settings.network],
        "compress": arguments.compress,
    }


def figures(records: list[Record]) -> dict[str, Any]:
    """The figures that compare runs."""
    from papers import tstn_figures  # not yet when --help is asked for: Matplotlib takes a second

    found = {"seeds.png": tstn_figures.seeds_figure(records)}
    if not all(tstn.is_cnn(record) for record in records):
        found["overlap.png"] = tstn_figures.overlap_figure(records)
    return found


def run_figures(record: Record) -> dict[str, Any]:
    """The figures of one run."""
    from papers import tstn_figures

    found = (
        {"learning-curves.png": tstn_figures.learning_curves([record])} if record["epochs"] else {}
    )
    if record["best"] and record["best"]["test_overlap"] is not None:
        found["attention.png"] = tstn_figures.attention_figure(record)
    return found


EXPERIMENT = sweep.Experiment(
    script="reproduce/table3.py",
    networks=NETWORKS,
    parser=parser,
    settings_of=settings_of,
    extra=extra,
    report=tstn_report.report,
    figures=figures,
    run_figures=run_figures,
    smaller="--nets arch1-cnn arch1-tstn --train-size 10000 --epochs 15",
)


def main(flags: list[str] | None = None) -> int:
    """Do what the flags say, by default those of the command line."""
    return sweep.main(EXPERIMENT, flags)


if __name__ == "__main__":
    cli.run(main)
