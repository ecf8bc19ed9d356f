"""Projections of volumes: Spatial Transformer Networks (Jaderberg et al. 2015), appendix A.3.

A digit is extruded, turned a little and placed anywhere in 60x60x60 voxels; networks classify the
volume by its projection to an image, as it is or as a three-dimensional affine transformer shows
it, which learns from the labels alone. The paper has no errors and no schedule for this: the
protocol is ours.
"""

import argparse

from papers import stn_report, stn_runs

from ministn import cli
from ministn.data import Extruded
from ministn.data.distorted import SIZES
from ministn.models.projection import PROJECTED
from ministn.runs import Settings, sweep

MODELS = {f"{'st-' if network.transformed else ''}{network.base}": network for network in PROJECTED}
QUICK = stn_runs.falling(stn_runs.PROJECTION, 400)

FLAGS = stn_runs.flags(
    "--data digits --iterations 400 --seeds 0",
    stn_runs.PROJECTION,
    examples="volumes",
    models=list(MODELS),
)

EXAMPLES = """\
examples (times on two cores of a 2020 server; --plan tells those on yours):
  python reproduce/stn_projection3d.py --quick
      all four networks on scikit-learn's digits, nothing to download: about four minutes
  python reproduce/stn_projection3d.py --models cnn st-cnn --iterations 1500 --seeds 0
      half of the iterations for the convolutional networks: about half an hour
  python reproduce/stn_projection3d.py --plan
      how long the whole protocol would take on this machine
"""


def chosen(arguments: argparse.Namespace) -> list[Settings]:
    """The models."""
    source = stn_runs.source(arguments)
    data = Extruded(source, SIZES[source].train)
    models = stn_runs.named(arguments.models, [*MODELS], "models")
    cells = [(data, MODELS[model]) for model in models]
    return stn_runs.trained(arguments, cells, stn_runs.PROJECTION, QUICK)


def choice(settings: Settings) -> list[str]:
    """The words of a command by which ``chosen`` has this run."""
    (model,) = (name for name, network in MODELS.items() if network == settings.network)
    return ["--models", model, *stn_runs.choice(settings, stn_runs.PROJECTION)]


EXPERIMENT = sweep.Experiment(
    "stn_projection3d",
    "reproduce/stn_projection3d.py",
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
    smaller="--models cnn st-cnn --iterations 1500 --seeds 0",
)


def main(words: list[str] | None = None) -> int:
    """Do what the words say, by default those of the command line."""
    return sweep.main(EXPERIMENT, words)


if __name__ == "__main__":
    cli.run(main)
