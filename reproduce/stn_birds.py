"""Fine-grained classification of Spatial Transformer Networks (Jaderberg et al. 2015), section 4.3.

Windows of half a picture's sides, moved by one localisation network, each read by a network of its
own. The paper's are two or four on CUB-200-2011, and every network in them begins as an Inception
that knows ImageNet. Here they are small and begin at random, and the pictures are drawn: a head and
a body among clutter, the class is which two there are. --data cub trains the same networks on the
birds, of which they would hardly learn anything: the paper's knowledge of ImageNet is not here.
"""

import argparse

from papers import birds_report, stn_runs
from papers.birds_report import NETWORKS
from papers.stn_runs import falling, named

from ministn import cli
from ministn.data import Cub
from ministn.data.cub import CUB, DRAWN, DRAWN_SIDE, SIZES
from ministn.runs import Settings, sweep
from ministn.runs.flags import DATA, Flag, at_most
from ministn.training.protocol import Training

PROTOCOL = falling(Training(lr=0.002, batch_size=32, iterations=1, loc_lr=0.1), 3000)
QUICK = falling(PROTOCOL, 1500)

FLAGS = stn_runs.flags(
    f"--models 2xst-cnn --iterations {QUICK.iterations} --seeds 0",
    PROTOCOL,
    table=False,
    examples="pictures",
    data=[
        Flag(
            "--data", "",
            f"pictures that are drawn, or the birds, as published in $MINISTN_DATA/cub; "
            f"default: {DRAWN}",
            choices=(DRAWN, CUB), group=DATA,
        ),
        Flag(
            "--side", "data.side", f"of the pictures in pixels; default: {DRAWN_SIDE}, "
            f"{CUB} {Cub.side}", int, metavar="PIXELS", group=DATA,
        ),
        Flag(
            "--train-size", "data.train_size",
            f"only the first N pictures to train; default: all, {SIZES[DRAWN].train}, "
            f"{CUB} {SIZES[CUB].train}", int, metavar="N", group=DATA,
        ),
    ],
    models=[*NETWORKS],
)  # fmt: skip

EXAMPLES = """\
examples (times on one core of a 2020 server; --plan tells those on yours):
  python reproduce/stn_birds.py --quick
      two windows, nothing to download: less than a minute
  python reproduce/stn_birds.py
      no window, two and four, three seeds each: about ten minutes
  python reproduce/stn_birds.py --data cub --side 96 --models 2xst-cnn --seeds 0
      the same networks on the birds
"""


def chosen(arguments: argparse.Namespace) -> list[Settings]:
    """The models on the pictures that the flags name."""
    source = arguments.data or DRAWN
    whole = SIZES[source].train
    at_most(whole, train_size=arguments.train_size)
    data = Cub(source, DRAWN_SIDE if source == DRAWN else Cub.side, whole)
    training = QUICK if arguments.quick else PROTOCOL
    if arguments.iterations is not None:
        training = falling(training, arguments.iterations)
    usual = ["2xst-cnn"] if arguments.quick else [*NETWORKS]
    return [
        Settings(data, NETWORKS[model], training)
        for model in named(arguments.models, usual, "models")
    ]


def choice(settings: Settings) -> list[str]:
    """The words of a command by which ``chosen`` has this run."""
    words = ["--models", settings.network.name]
    return [*words, *(["--data", CUB] if settings.data.name == CUB else [])]


EXPERIMENT = sweep.Experiment(
    "stn_birds",
    "reproduce/stn_birds.py",
    description=__doc__,
    examples=EXAMPLES,
    flags=FLAGS,
    runs=chosen,
    choice=choice,
    seeds=stn_runs.SEEDS,
    report=birds_report.report,
    figures=birds_report.figures,
    run_figures=birds_report.run_figures,
    smaller="--models 2xst-cnn --seeds 0",
)


def main(words: list[str] | None = None) -> int:
    """Do what the words say, by default those of the command line."""
    return sweep.main(EXPERIMENT, words)


if __name__ == "__main__":
    cli.run(main)
