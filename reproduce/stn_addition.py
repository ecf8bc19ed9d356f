"""MNIST addition of Spatial Transformer Networks (Jaderberg et al. 2015), appendix A.1.

Two digits, each rotated, translated and scaled in a channel of its own, are to be summed. A fully
connected network, a convolutional one, and fully connected ones behind one transformer or two side
by side, each of which sees and warps both channels.
"""

import argparse
from typing import Any

from papers import stn_report, stn_runs

from ministn import cli
from ministn.models import stn
from ministn.runs import sweep
from ministn.settings import Settings

SCRIPT = "reproduce/stn_addition.py"
MODELS = tuple(stn.ADDITION)

QUICK: dict[str, Any] = {
    "data": "digits",
    "models": ["fcn", "cnn", "st-fcn-affine", "2st-fcn-affine"],
    "iterations": 1500,
    "batch_size": 32,
    "loc_lr": 0.3,
    "seeds": [0],
}

EXAMPLES = """\
examples (times on two cores of a 2020 server):
  python reproduce/stn_addition.py --quick
      four networks on embedded digits, nothing to download
  python reproduce/stn_addition.py --models st-fcn-affine 2st-fcn-affine \\
      --optimizer adam --lr 0.001 --loc-lr 0.1 --iterations 60000 --batch-size 64 \\
      --decay-every 48000 --seeds 0
      one transformer and two, a tenth of the paper's images: about an hour
  python reproduce/stn_addition.py --gpu
      the paper's protocol on a GPU
"""


def parser() -> argparse.ArgumentParser:
    """The command line, in groups."""
    return stn_runs.parser(SCRIPT, __doc__, EXAMPLES, QUICK, models=MODELS)


def settings_of(arguments: argparse.Namespace) -> list[Settings]:
    """One Settings for each run, in order: seeds outside, models inside."""
    chosen = stn_runs.asked(arguments, QUICK)
    cells = [("addition", f"addition-{model}") for model in chosen["models"] or MODELS]
    return stn_runs.settings_of(arguments, chosen, cells)


EXPERIMENT = sweep.Experiment(
    script=SCRIPT,
    networks=[f"addition-{model}" for model in MODELS],
    parser=parser,
    settings_of=settings_of,
    extra=stn_runs.extra,
    report=stn_report.report,
    figures=stn_report.figures,
    run_figures=stn_report.run_figures,
    smaller="--models st-fcn-affine 2st-fcn-affine --optimizer adam --lr 0.001 --loc-lr 0.1 "
    "--iterations 60000 --batch-size 64 --decay-every 48000 --seeds 0",
)


def main(flags: list[str] | None = None) -> int:
    """Do what the flags say, by default those of the command line."""
    return sweep.main(EXPERIMENT, flags)


if __name__ == "__main__":
    cli.run(main)
