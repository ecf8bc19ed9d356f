"""Table 1 of Spatial Transformer Networks (Jaderberg et al. 2015): distorted MNIST.

Trains fully connected and convolutional networks, without a spatial transformer and with an
affine, a projective or a thin plate spline one, on digits rotated (r), rotated, translated and
scaled (rts), translated among clutter (tc), in perspective (p) and elastically distorted (e). Of tc
the paper has one figure for each kind of network, and there the default --models are fcn, cnn and
the affine ones.
"""

import argparse
from dataclasses import replace
from typing import Any

from papers import stn_report, stn_runs

from ministn import cli
from ministn.data import Distorted
from ministn.data.distorted import SIZES
from ministn.models import stn
from ministn.runs import Settings, sweep
from ministn.runs.flags import Flag

SETS = {recipe.lower(): recipe for recipe in ("R", "RTS", "TC", "P", "E")}
MODELS = {network.name: network for network in stn.TABLE}
AFFINE = "fcn", "cnn", "st-fcn-affine", "st-cnn-affine"  # the paper's four figures for tc
HALVED = {"RTS": "pooled", "TC": "pooled"}  # how the networks read half as much, see models/stn.py

# At loc-lr 1 an ST-CNN lost the image.
FLAGS = [
    *stn_runs.flags(
        f"--data digits --sets r --models {' '.join(AFFINE)} --iterations 1500 --batch-size 32 "
        "--loc-lr 0.3 --seeds 0",
        sets=list(SETS),
        models=list(MODELS),
    ),
    Flag(
        "--width", "network.width",
        "neurons of each layer of the classifier, or maps; default: as many as make 400,000 "
        "parameters of the network",
        int, metavar="N",
    ),
]  # fmt: skip

EXAMPLES = """\
examples (times on two cores of a 2020 server; --plan tells those on yours):
  python reproduce/stn_table1.py --quick
      four networks on scikit-learn's digits, nothing to download: about three minutes
  python reproduce/stn_table1.py --sets r rts --models fcn cnn st-fcn-affine st-cnn-affine \\
      --iterations 3000 --batch-size 64 --seeds 0
      a fiftieth of the paper's iterations: about an hour and a half
  python reproduce/stn_table1.py --plan
      how long the paper's protocol would take on this machine
  python reproduce/stn_table1.py --gpu
      the paper's protocol on a GPU
"""


def chosen(arguments: argparse.Namespace) -> list[Settings]:
    """Sets outside, models inside."""
    quick, source = arguments.quick, stn_runs.source(arguments)
    cells = []
    for name in stn_runs.named(arguments.sets, ["r"] if quick else [*SETS], "sets"):
        recipe = SETS[name]
        data = Distorted(recipe, source, SIZES[source].train)
        usual = AFFINE if quick or recipe == "TC" else [*MODELS]
        for model in stn_runs.named(arguments.models, usual, "models"):
            cells.append((data, replace(MODELS[model], halved=HALVED.get(recipe, ""))))
    return stn_runs.trained(arguments, cells)


def choice(settings: Settings) -> list[str]:
    """The words of a command by which ``chosen`` has this run."""
    data: Any = settings.data
    words = ["--sets", data.recipe.lower(), "--models", settings.network.name]
    return words + stn_runs.choice(settings)


EXPERIMENT = sweep.Experiment(
    "stn_table1",
    "reproduce/stn_table1.py",
    description=__doc__,
    examples=EXAMPLES,
    flags=FLAGS,
    runs=chosen,
    choice=choice,
    seeds=stn_runs.SEEDS,
    extra=stn_runs.extra,
    report=stn_report.report,
    figures=stn_report.figures,
    run_figures=stn_report.run_figures,
    smaller="--sets r rts --models fcn cnn st-fcn-affine st-cnn-affine --iterations 3000 "
    "--batch-size 64 --seeds 0",
)


def main(words: list[str] | None = None) -> int:
    """Do what the words say, by default those of the command line."""
    return sweep.main(EXPERIMENT, words)


if __name__ == "__main__":
    cli.run(main)
