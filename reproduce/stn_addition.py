"""MNIST addition of Spatial Transformer Networks (Jaderberg et al. 2015), appendix A.1.

Two digits, each rotated, translated and scaled in a channel of its own, are to be summed. A fully
connected network, a convolutional one, and fully connected ones behind one transformer or two side
by side, each of which sees and warps both channels.
"""

import argparse
from dataclasses import replace

from papers import stn_report, stn_runs

from ministn import cli
from ministn.data import Addition
from ministn.data.distorted import SIZES
from ministn.models import stn
from ministn.runs import Settings, sweep

MODELS = {network.name: replace(network, halved="sampled") for network in stn.ADDITION}
QUICK = "fcn", "cnn", "st-fcn-affine", "2st-fcn-affine"

FLAGS = stn_runs.flags(
    f"--data digits --models {' '.join(QUICK)} --iterations 1500 --batch-size 32 --loc-lr 0.3 "
    "--seeds 0",
    models=list(MODELS),
)

EXAMPLES = """\
examples (times on two cores of a 2020 server; --plan tells those on yours):
  python reproduce/stn_addition.py --quick
      four networks on scikit-learn's digits, nothing to download: about four minutes
  python reproduce/stn_addition.py --models st-fcn-affine 2st-fcn-affine \\
      --optimizer adam --lr 0.001 --loc-lr 0.1 --iterations 60000 --batch-size 64 \\
      --decay-every 48000 --seeds 0
      one transformer and two, a tenth of the paper's images: about an hour
  python reproduce/stn_addition.py --gpu
      the paper's protocol on a GPU
"""


def chosen(arguments: argparse.Namespace) -> list[Settings]:
    """The models."""
    source = stn_runs.source(arguments)
    data = Addition(source, SIZES[source].train)
    models = stn_runs.named(arguments.models, QUICK if arguments.quick else [*MODELS], "models")
    return stn_runs.trained(arguments, [(data, MODELS[model]) for model in models])


def choice(settings: Settings) -> list[str]:
    """The words of a command by which ``chosen`` has this run."""
    return ["--models", settings.network.name, *stn_runs.choice(settings)]


EXPERIMENT = sweep.Experiment(
    "stn_addition",
    "reproduce/stn_addition.py",
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
    smaller="--models st-fcn-affine 2st-fcn-affine --optimizer adam --lr 0.001 --loc-lr 0.1 "
    "--iterations 60000 --batch-size 64 --decay-every 48000 --seeds 0",
)


def main(words: list[str] | None = None) -> int:
    """Do what the words say, by default those of the command line."""
    return sweep.main(EXPERIMENT, words)


if __name__ == "__main__":
    cli.run(main)
