"""Tables I and II of Finnveden et al. 2020: where a spatial transformer stands, on MNIST.

Trains small networks on digits that are rotated (r), translated among clutter (t) and scaled among
clutter (s): a convolutional network; one whose transformer moves the image (stn-c0), or the first
feature map (stn-c1); and two that move the image with the help of such maps, which a copy of the
first layer makes (stn-dl1) or the layer itself (stn-sl1). Prints errors, and how alike the digits
of a class come out, beside the paper's.
"""

import argparse
from typing import Any

from papers import placement, stn_runs
from papers.claims import Record

from ministn import cli
from ministn.data import Distorted
from ministn.data.distorted import SIZES
from ministn.optimizers import Adam
from ministn.runs import Settings, sweep
from ministn.training.protocol import Training

PASSES = 10  # over the test digits: the paper's 100,000 images
# SGD would take far longer until theta turns with the digit.
QUICK = stn_runs.falling(Training(Adam(), 0.002, batch_size=64, iterations=1), 1500)

FLAGS = stn_runs.flags(
    "--data digits --sets r --iterations 1500 --batch-size 64 --optimizer adam --lr 0.002 "
    "--seeds 0",
    placement.PROTOCOL,
    sets=list(placement.SETS),
    models=placement.MODELS,
)

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


def figures(records: list[Record]) -> dict[str, Any]:
    """The figures that compare runs."""
    from papers import placement_figures  # Matplotlib takes a second, and --help does not wait

    return {**placement_figures.figures(records)}


def run_figures(record: Record) -> dict[str, Any]:
    """The figures of one run."""
    from papers import placement_figures

    return {**placement_figures.run_figures(record)}


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
    figures=figures,
    run_figures=run_figures,
    smaller="--sets r --iterations 5000 --seeds 0 1 2",
)


def main(words: list[str] | None = None) -> int:
    """Do what the words say, by default those of the command line."""
    return sweep.main(EXPERIMENT, words)


if __name__ == "__main__":
    cli.run(main)
