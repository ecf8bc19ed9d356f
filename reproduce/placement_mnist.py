"""Tables I and II of Finnveden et al. 2020: where a spatial transformer stands, on MNIST.

Trains small networks on digits that are rotated (r), translated among clutter (t) and scaled among
clutter (s): a convolutional network; one whose transformer moves the image (stn-c0), or the first
feature map (stn-c1); and two that move the image with the help of such maps, which a copy of the
first layer makes (stn-dl1) or the layer itself (stn-sl1). Prints errors, and how alike the digits
of a class come out, beside the paper's.
"""

import argparse
from dataclasses import replace

from papers import placement, stn_runs

from ministn import cli
from ministn.data import Distorted
from ministn.data.distorted import SIZES
from ministn.runs import Settings, sweep
from ministn.runs.flags import Flag

PASSES = 10  # over the test digits: the paper's 100,000 images
QUICK = stn_runs.falling(replace(placement.PROTOCOL, batch_size=32, lr=0.05), 1500)

FLAGS = stn_runs.flags(
    "--data digits --sets r --iterations 1500 --batch-size 32 --lr 0.05 --seeds 0",
    placement.PROTOCOL,
    sets=list(placement.SETS),
    models=placement.MODELS,
)
FLAGS.append(
    Flag(
        "--momentum", "training.optimizer.momentum", "of SGD; default: 0",
        float, metavar="FACTOR",
    )
)  # fmt: skip

EXAMPLES = """\
examples (times on two cores of a 2020 server; --plan tells those on yours):
  python reproduce/placement_mnist.py --quick
      five networks on scikit-learn's digits, nothing to download: about six minutes
  python reproduce/placement_mnist.py --sets r --iterations 5000 --seeds 0 1 2
      rotated digits, a tenth of the iterations, three seeds
  python reproduce/placement_mnist.py --plan
      how long all sets, ten seeds, would take on this machine
  python reproduce/placement_mnist.py --gpu
      the same on a GPU
"""


def chosen(arguments: argparse.Namespace) -> list[Settings]:
    """Sets outside, models inside."""
    source = stn_runs.source(arguments)
    cells: list[stn_runs.Cell] = []
    usual = ["r"] if arguments.quick else [*placement.SETS]
    for name in stn_runs.named(arguments.sets, usual, "sets"):
        recipe = placement.SETS[name].recipe
        data = Distorted(recipe, source, SIZES[source].train, passes=PASSES)
        networks = placement.networks(name)
        for model in stn_runs.named(arguments.models, placement.MODELS, "models"):
            cells.append((data, networks[model]))
    return stn_runs.trained(arguments, cells, placement.PROTOCOL, QUICK)


def choice(settings: Settings) -> list[str]:
    """The words of a command by which ``chosen`` has this run."""
    name, model = placement.cell_of({"settings": settings})
    words = ["--sets", name, "--models", model]
    return words + stn_runs.choice(settings, placement.PROTOCOL)


EXPERIMENT = sweep.Experiment(
    "placement_mnist",
    "reproduce/placement_mnist.py",
    description=__doc__,
    examples=EXAMPLES,
    flags=FLAGS,
    runs=chosen,
    choice=choice,
    seeds=placement.SEEDS,
    extra=stn_runs.extra,
    report=placement.report,
    run_figures=placement.run_figures,
    smaller="--sets r --iterations 5000 --seeds 0 1 2",
)


def main(words: list[str] | None = None) -> int:
    """Do what the words say, by default those of the command line."""
    return sweep.main(EXPERIMENT, words)


if __name__ == "__main__":
    cli.run(main)
