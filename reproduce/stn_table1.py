"""Table 1 of Spatial Transformer Networks (Jaderberg et al. 2015): distorted MNIST.

Trains fully connected and convolutional networks, without a spatial transformer and with an
affine, a projective or a thin plate spline one, on digits rotated (r), rotated, translated and
scaled (rts), translated among clutter (tc), in perspective (p) and elastically distorted (e). Of tc
the paper has one figure for each kind, and by default the transformers there are affine.
"""

import argparse
from typing import Any

from papers import stn_report, stn_runs

from ministn import cli
from ministn.models import stn
from ministn.runs import sweep
from ministn.settings import Settings

SCRIPT = "reproduce/stn_table1.py"
SETS = ("r", "rts", "tc", "p", "e")
MODELS = tuple(stn.TABLE)
AFFINE = "fcn", "cnn", "st-fcn-affine", "st-cnn-affine"  # the paper's four figures for tc

QUICK: dict[str, Any] = {
    "data": "digits",
    "sets": ["r"],
    "models": list(AFFINE),
    "iterations": 1500,
    "batch_size": 32,
    "loc_lr": 0.3,  # at 1 an ST-CNN lost the image
    "seeds": [0],
}

EXAMPLES = """\
examples (times on two cores of a 2020 server):
  python reproduce/stn_table1.py --quick
      four networks on embedded digits, nothing to download
  python reproduce/stn_table1.py --sets r rts --models fcn cnn st-fcn-affine st-cnn-affine \\
      --iterations 3000 --batch-size 64 --seeds 0
      a fiftieth of the paper's iterations
  python reproduce/stn_table1.py --plan
      what the paper's protocol would take on this machine
  python reproduce/stn_table1.py --gpu
      the paper's protocol on a GPU
"""


def parser() -> argparse.ArgumentParser:
    """The command line, in groups."""
    return stn_runs.parser(SCRIPT, __doc__, EXAMPLES, QUICK, sets=SETS, models=MODELS)


def settings_of(arguments: argparse.Namespace) -> list[Settings]:
    """One Settings for each run, in order: seeds outside, then sets, models inside."""
    chosen = stn_runs.asked(arguments, QUICK)
    sets = arguments.sets or (QUICK["sets"] if arguments.quick else SETS)
    sweep.each_once(sets=list(sets))
    cells = [
        (name, f"{name}-{model}")
        for name in sets
        for model in chosen["models"] or (AFFINE if name == "tc" else MODELS)
    ]
    return stn_runs.settings_of(arguments, chosen, cells)


EXPERIMENT = sweep.Experiment(
    script=SCRIPT,
    networks=[f"{name}-{model}" for name in SETS for model in MODELS],
    parser=parser,
    settings_of=settings_of,
    extra=stn_runs.extra,
    report=stn_report.report,
    figures=stn_report.figures,
    run_figures=stn_report.run_figures,
    smaller="--sets r rts --models fcn cnn st-fcn-affine st-cnn-affine --iterations 3000 "
    "--batch-size 64 --seeds 0",
)


def main(flags: list[str] | None = None) -> int:
    """Do what the flags say, by default those of the command line."""
    return sweep.main(EXPERIMENT, flags)


if __name__ == "__main__":
    cli.run(main)
