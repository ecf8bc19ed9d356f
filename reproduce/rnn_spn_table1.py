"""Table 1 of Recurrent Spatial Transformer Networks (Sønderby et al. 2015): sequences of digits.

Trains networks on three digits among clutter: one whose transformer looks at each digit in turn
(RNN-SPN), one whose transformer looks once (FFN-SPN), each at four down-sampling factors d, and a
convolutional network; prints the paper's table beside ours.
"""

import argparse
from dataclasses import replace
from typing import Any

from papers import compressed, rnn_spn_report
from papers.claims import Record

from ministn import cli
from ministn.data import Sequences, sequences
from ministn.data.sources import EMBEDDED, MNIST
from ministn.models import RnnSpn, rnn_spn
from ministn.optimizers import RMSprop
from ministn.runs import Settings, sweep
from ministn.runs.flags import DATA, Flag, at_most, each_once
from ministn.schedules import StepDecay
from ministn.tasks import Classification
from ministn.training.protocol import Training

NETS = {network.name: network for network in rnn_spn.TABLE}

# As in the authors' code. It divides the learning rate after its epoch 31, counted from 0, and then
# after every 12th: the first epoch with less is our 33rd. Only for the RNN-SPN does it clip each
# gradient, and let dropout rise.
PROTOCOL = Training(
    RMSprop(), 0.0005, StepDecay(1 / 1.5, 12, first=33),
    batch_size=100, epochs=300, clip_norm=5.0, patience=50,
)  # fmt: skip
RECURRENT = replace(PROTOCOL, clip=1.0, dropout_ramp=5)

TASK = Classification(epsilon=1e-5)
EXACT = Classification()

QUICK_NETS = "rnn-spn-d4", "ffn-spn-d4"
QUICK_EPOCHS, QUICK_BATCH, QUICK_LR, QUICK_LOC_LR = 16, 20, 0.001, 0.2

FLAGS = [
    Flag(
        "--quick", "",
        f"other defaults, for a first try: --data digits --nets {' '.join(QUICK_NETS)} "
        f"--epochs {QUICK_EPOCHS} --batch-size {QUICK_BATCH} --lr {QUICK_LR} "
        f"--loc-lr {QUICK_LOC_LR}",
        bool,
    ),
    Flag(
        "--nets", "", f"which networks, of {' '.join(NETS)}; default: all",
        many=True, choices=list(NETS), metavar="NET",
    ),
    Flag(
        "--epochs", "training.epochs", f"passes over the training images, at most; default: "
        f"{PROTOCOL.epochs}", int, metavar="N",
    ),
    compressed.FLAG,
    Flag(
        "--patience", "training.patience",
        f"end after so many epochs in a row without a lower validation error; default: "
        f"{PROTOCOL.patience}",
        int, metavar="N",
    ),
    Flag(
        "--train-size", "data.train_size",
        "only the first N training images; default: all, 60000, digits 8000", int, metavar="N",
    ),
    Flag(
        "--batch-size", "training.batch_size",
        f"images in a step; default: {PROTOCOL.batch_size}", int, metavar="N",
    ),
    Flag(
        "--lr", "training.lr", f"RMSprop's learning rate at the start; default: {PROTOCOL.lr:g}",
        float, metavar="RATE",
    ),
    Flag(
        "--loc-lr", "training.loc_lr",
        "times --lr for the layers that only the localisation network has; default: 1",
        float, metavar="FACTOR",
    ),
    Flag(
        "--decay-every", "training.schedule.every",
        "epochs after which the learning rate is divided by 1.5, once that has begun; default: 12",
        int, metavar="N",
    ),
    Flag(
        "--decay-from", "training.schedule.first",
        "the first epoch with less than --lr; default: 33", int, metavar="N",
    ),
    Flag("--dropout", "network.dropout", "rate; default: 0", float, metavar="RATE"),
    Flag(
        "--units", "network.units",
        "neurons of the RNN-SPN's classification network: 400 as in the authors' code, 256 as in "
        "the paper; default: 400",
        int, metavar="N",
    ),
    Flag(
        "--state", "network.state", "units of the RNN-SPN's GRU; default: 256", int, metavar="N",
    ),
    Flag(
        "--convolutions", "network.convolutions",
        "of the other classification networks: 3 as in the authors' code, 4 as in the paper's "
        "text, where d is at most 3; default: 3",
        int, metavar="N",
    ),
    Flag(
        "--exact-log", "", "add nothing inside the logarithm of the loss, where the authors' code "
        "adds 1e-5", bool,
    ),
    Flag(
        "--data", "",
        "whose digits: MNIST's, or the small ones that come with scikit-learn; default: mnist",
        choices=(MNIST, EMBEDDED), group=DATA,
    ),
    Flag(
        "--slope", "data.slope",
        "of the steepest line of digits: 0.5 as in the authors' script, 1 as in the paper; "
        "default: 0.5",
        float, metavar="SLOPE", group=DATA,
    ),
]  # fmt: skip

EXAMPLES = """\
examples (times on two cores of a 2020 server):
  python reproduce/rnn_spn_table1.py --quick
      two networks on scikit-learn's digits, nothing to download: about five minutes
  python reproduce/rnn_spn_table1.py --plan
      how long the paper's protocol would take on this machine: under a minute
  python reproduce/rnn_spn_table1.py --nets rnn-spn-d3 ffn-spn-d3 --compress 20
      two networks on all images, the protocol twenty times shorter: about half an hour
  python reproduce/rnn_spn_table1.py --gpu
      the paper's protocol on a GPU
"""


def chosen(arguments: argparse.Namespace) -> list[Settings]:
    """The networks on the data that the flags name, by the protocol that they name."""
    quick = arguments.quick
    nets = arguments.nets or (QUICK_NETS if quick else [*NETS])
    each_once(nets=nets)
    compressed.check(arguments, "epochs", "decay_every", "decay_from")
    source = arguments.data or (EMBEDDED if quick else MNIST)
    at_most(sequences.SIZES[source].train, train_size=arguments.train_size)
    data = Sequences(source, train_size=sequences.SIZES[source].train)
    task = EXACT if arguments.exact_log else TASK
    found = []
    for name in nets:
        training = protocol(NETS[name]).compressed(arguments.compress or 1.0)
        if quick:
            training = replace(training, batch_size=QUICK_BATCH, lr=QUICK_LR, loc_lr=QUICK_LOC_LR)
        if quick and arguments.compress is None:
            training = replace(training, epochs=QUICK_EPOCHS)
        found.append(Settings(data, NETS[name], training, task))
    return found


def protocol(network: Any) -> Training:
    """That of the authors' code for a network."""
    return RECURRENT if network.kind == RnnSpn.kind else PROTOCOL


def choice(settings: Settings) -> list[str]:
    """The words of a command by which ``chosen`` has this run."""
    digits: Any = settings.data
    words = ["--nets", settings.network.name]
    if digits.source == EMBEDDED:
        words += ["--data", EMBEDDED]
    if settings.task == EXACT:
        words += ["--exact-log"]
    times = compressed.compression(settings.training, protocol(settings.network))
    return words if times in (None, 1) else [*words, "--compress", f"{times:g}"]


def extra(settings: Settings) -> dict[str, Any]:
    """What a record needs for the table beside the run's settings."""
    digits: Any = settings.data
    paper = protocol(settings.network)
    return {
        "full_train_size": sequences.SIZES[digits.source].train,
        "paper_epochs": paper.epochs,
        "compress": compressed.compression(settings.training, paper),
    }


def figures(records: list[Record]) -> dict[str, Any]:
    """The figures that compare runs."""
    from papers import rnn_spn_figures  # Matplotlib takes a second, and --help does not wait

    return {**rnn_spn_figures.figures(records)}


def run_figures(record: Record) -> dict[str, Any]:
    """The figures of one run."""
    from papers import rnn_spn_figures

    return {**rnn_spn_figures.run_figures(record)}


EXPERIMENT = sweep.Experiment(
    "rnn_spn_table1",
    "reproduce/rnn_spn_table1.py",
    description=__doc__,
    examples=EXAMPLES,
    flags=FLAGS,
    runs=chosen,
    choice=choice,
    extra=extra,
    report=rnn_spn_report.report,
    figures=figures,
    run_figures=run_figures,
    smaller="--nets rnn-spn-d3 ffn-spn-d3 --compress 20",
)


def main(words: list[str] | None = None) -> int:
    """Do what the words say, by default those of the command line."""
    return sweep.main(EXPERIMENT, words)


if __name__ == "__main__":
    cli.run(main)
