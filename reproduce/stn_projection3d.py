"""Projections of volumes: Spatial Transformer Networks (Jaderberg et al. 2015), appendix A.3.

A digit is extruded, turned a little and placed anywhere in 60x60x60 voxels; networks classify the
volume by its projection to an image, as it is or as a three-dimensional affine transformer shows
it, which learns from the labels alone. The paper has no errors and no schedule for this: the
protocol is ours.
"""

import argparse
from typing import Any

from papers import stn_report, stn_runs

from ministn import cli
from ministn.models import projection
from ministn.runs import sweep
from ministn.settings import Settings

SCRIPT = "reproduce/stn_projection3d.py"
MODELS = tuple(stn_report.PROJECTED)

QUICK: dict[str, Any] = {
    "data": "digits",
    "iterations": 400,
    "seeds": [0],
}

EXAMPLES = """\
examples (times on two cores of a 2020 server):
  python reproduce/stn_projection3d.py --quick
      all four networks on embedded digits, nothing to download
  python reproduce/stn_projection3d.py --models cnn st-cnn --iterations 1500 --seeds 0
      half of the protocol for the convolutional networks
  python reproduce/stn_projection3d.py --plan
      what the whole protocol would take on this machine
"""


def parser() -> argparse.ArgumentParser:
    """The command line, in groups."""
    return stn_runs.parser(SCRIPT, __doc__, EXAMPLES, QUICK, stn_runs.PROJECTION, models=MODELS)


def settings_of(arguments: argparse.Namespace) -> list[Settings]:
    """One Settings for each run, in order: seeds outside, models inside."""
    chosen = stn_runs.asked(arguments, QUICK, stn_runs.PROJECTION)
    cells = [("extruded", f"projection-{model}") for model in chosen["models"] or MODELS]
    return stn_runs.settings_of(arguments, chosen, cells)


EXPERIMENT = sweep.Experiment(
    script=SCRIPT,
    networks=projection.NETWORKS,
    parser=parser,
    settings_of=settings_of,
    extra=stn_runs.extra,
    report=stn_report.report,
    figures=stn_report.figures,
    run_figures=stn_report.run_figures,
    smaller="--models cnn st-cnn --iterations 1500 --seeds 0",
)


def main(flags: list[str] | None = None) -> int:
    """Do what the flags say, by default those of the command line."""
    return sweep.main(EXPERIMENT, flags)


if __name__ == "__main__":
    cli.run(main)
