"""Table 3 of Tied Spatial Transformer Networks (Cirstea & Likforman-Sulem 2016).

Trains the paper's networks on cluttered MNIST and prints the paper's table beside ours.
"""

import argparse
from typing import Any

from papers import compressed, tstn, tstn_report
from papers.claims import Record

from ministn import cli, data
from ministn.data import CroppedToDigit
from ministn.data.cluttered import SIZES
from ministn.errors import UserError
from ministn.kinds import has, replaced
from ministn.models import NETWORKS, Alternating, Architecture, Shuffled, Trstn
from ministn.runs import Settings, sweep
from ministn.runs.flags import DATA, Flag, at_most, each_once
from ministn.training.protocol import Training

SIX = list(tstn.TABLE3)
PAPER_EPOCHS = {name: row.epochs for name, row in tstn.ROWS.items()}
PAPER_EPOCHS["small-stn"] = tstn_report.RECIPE_EPOCH  # not in the paper: the notebook's log

# The paper's networks, the notebook's, and those that the paper proposes.
NETS: dict[str, Architecture] = NETWORKS | {
    network.name: network for network in (Trstn(1), Trstn(2), Alternating(1), Alternating(2))
}

# All else is as Training has it: Adam, 0.001, x0.7 after every 20 epochs, batches of 256.
PROTOCOL = {name: Training(epochs=epochs) for name, epochs in PAPER_EPOCHS.items()}
PAPER = "paper"  # --epochs paper

# At loc-lr 0.3 the untied STN of Architecture 2 collapsed, at 1 that of Architecture 1. At 0.1 it
# depends on the order in which gradients are added up, so on --workers, whether the former does.
QUICK = Training(epochs=4, batch_size=16, lr=0.0005, loc_lr=0.1)
QUICK_SIZE = 2000

EXAMPLES = """\
examples (times on two cores of a 2020 server):
  python reproduce/table3.py --quick
      all six networks on embedded digits, nothing to download: about four minutes
  python reproduce/table3.py --plan
      how long the paper's protocol would take on this machine: under a minute
  python reproduce/table3.py --nets arch1-cnn arch1-tstn --train-size 10000 --epochs 15
      two networks on a fifth of the images: about a quarter of an hour
  python reproduce/table3.py --nets arch1-cnn arch1-tstn --compress 8 --loc-lr 0.3
      the same on all images, the paper's protocol eight times shorter: about an hour and a half
  python reproduce/table3.py --nets arch1-trstn --glimpses 3 --downsample 3 --compress 8
      what the paper proposes: recurrent, or by turns with --nets arch1-alternating
  python reproduce/table3.py --nets arch1-cnn --width 1542 --compress 8
      a control: the CNN with as many parameters as the TSTN has
  python reproduce/table3.py --seeds 0 1 2 --shard 2/6 --out runs && \\
  python reproduce/table3.py --report
      every sixth run of a sweep, from the second; then the table of all that has run
  python reproduce/table3.py --gpu
      the paper's protocol on a GPU
"""


def epochs(text: str) -> int | str:
    """A number of them, or that of the paper. Raises UserError for anything else."""
    if text != PAPER and not text.isdecimal():
        raise UserError(f"--epochs must be a whole number or 'paper', got {text!r}")
    return text if text == PAPER else int(text)


FLAGS = [
    Flag(
        "--quick", "",
        "other defaults, for a first try: --data digits --train-size 2000 --epochs 4 "
        "--batch-size 16 --lr 0.0005 --loc-lr 0.1",
        bool,
    ),
    Flag(
        "--nets", "", f"which networks, of {' '.join(NETS)}; default: the first six",
        many=True, choices=list(NETS), metavar="NET",
    ),
    Flag(
        "--epochs", "training.epochs",
        "passes over the training images, for every network; default: paper, as many as the paper "
        "trained each",
        epochs, metavar="N|paper", apart=[PAPER],
    ),
    compressed.FLAG,
    Flag(
        "--train-size", "data.train_size",
        "only the first N training images; default: all, 50000, digits 8000", int, metavar="N",
    ),
    Flag("--batch-size", "training.batch_size", "images in a step; default: 256", int, metavar="N"),
    Flag("--lr", "training.lr", "Adam's learning rate at the start; default: 0.001", float,
         metavar="RATE"),
    Flag(
        "--loc-lr", "training.loc_lr",
        "times --lr for the layers that only the localisation network has; with 0, theta stays the "
        "identity; default: 1",
        float, metavar="FACTOR",
    ),
    Flag(
        "--loc-warm-up", "training.loc_warm_up",
        "steps in which these layers' rate rises evenly to --loc-lr; default: 1, at once",
        int, metavar="N",
    ),
    Flag(
        "--decay-every", "training.schedule.every",
        "epochs after which the learning rate is multiplied by 0.7; default: 20",
        int, metavar="N",
    ),
    Flag(
        "--downsample", "network.downsample",
        "the transformer's output is D times smaller than the image, each way; D need not be "
        "whole; not for a CNN; default: 1",
        float, metavar="D",
    ),
    Flag(
        "--glimpses", "network.glimpses",
        "how many looks the trstn networks take at an image; default: 2", int, metavar="T",
    ),
    Flag(
        "--width", "network.width",
        "neurons of the dense layer of the cnn networks; with 1542, arch1-cnn has as many "
        "parameters as arch1-tstn, with 969 as many as that with --downsample 3; default: 625",
        int, metavar="N",
    ),
    Flag(
        "--share", "network.share",
        "how much of the paper's maps and neurons the tstn and untied networks have; default: 1",
        float, metavar="FACTOR",
    ),
    Flag(
        "--stop-gradient", "network.stop_gradient",
        "the tstn networks' tied weights learn from classifying alone, not from where to look",
        bool,
    ),
    Flag(
        "--loc-dropout", "network.dropout",
        "rate of dropout after the neurons of the localisation network, too; for the tstn and "
        "untied networks; default: 0",
        float, metavar="RATE",
    ),
    Flag(
        "--loc-clip", "network.clip",
        "limit on each number of theta's gradient, of each image in a batch's mean loss, which is "
        "all that the localisation network learns from; for the tstn and untied networks, as the "
        "next three; default: none",
        float, metavar="LIMIT",
    ),
    Flag(
        "--loc-scale", "network.scale",
        "times the first weights of the localisation network's 200 neurons; default: 1",
        float, metavar="FACTOR",
    ),
    Flag(
        "--loc-pool", "network.pool",
        "the localisation network keeps the last pooling, which the paper removes", bool,
    ),
    Flag(
        "--loc-zoom", "network.zoom",
        "theta begins with so much of the image's sides, in the middle; default: 1, all of it",
        float, metavar="SHARE",
    ),
    Flag(
        "--data", "",
        "cluttered MNIST, or the small digits that come with scikit-learn; default: mnist",
        choices=list(data.CLUTTERED), group=DATA,
    ),
    Flag(
        "--canvas", "data.canvas", "height and width of the images; default: 60, digits 36",
        int, metavar="PIXELS", group=DATA,
    ),
    Flag(
        "--distractors", "data.distractors",
        "pieces of other digits in an image; default: 6, digits 3",
        int, metavar="N", group=DATA,
    ),
    Flag(
        "--patch", "data.patch", "height and width of a distractor; default: 8, digits 6",
        int, metavar="PIXELS", group=DATA,
    ),
    Flag(
        "--crop", "",
        "cut each digit out by its true box, to a square of so many pixels: with 20 a cnn sees "
        "what a transformer with --downsample 3 shows at best; default: whole images",
        int, metavar="PIXELS", group=DATA,
    ),
]  # fmt: skip


def chosen(arguments: argparse.Namespace) -> list[Settings]:
    """The networks on the data that the flags name, by the protocol that they name."""
    nets, quick = arguments.nets or SIX, arguments.quick
    each_once(nets=nets)
    compressed.check(arguments, "epochs", "decay_every")
    images = data.CLUTTERED[arguments.data or ("digits" if quick else "mnist")]
    at_most(images.train_size, train_size=arguments.train_size)
    if arguments.crop is not None:
        images = CroppedToDigit(**vars(images), side=arguments.crop)
    if quick:
        images = replaced(images, "train_size", QUICK_SIZE)
    found = []
    for name in nets:
        paper = PROTOCOL[name].compressed(arguments.compress or 1.0)
        training = replaced(QUICK, "schedule", paper.schedule) if quick else paper
        if arguments.epochs == PAPER or arguments.compress is not None:
            training = replaced(training, "epochs", paper.epochs)
        found.append(Settings(images, NETS[name], training))
    return found


def compression(settings: Settings) -> float | None:
    """K, where the run is the paper's protocol K times faster, in halves; None where it is not."""
    return compressed.compression(settings.training, PROTOCOL[settings.network.name])


def choice(settings: Settings) -> list[str]:
    """The words of a command by which ``chosen`` has this run."""
    images: Any = settings.data
    words = ["--nets", settings.network.name]
    if images.source != "mnist":
        words += ["--data", images.source]
    if has(images, "side"):
        words += ["--crop", str(images.side)]
    times = compression(settings)
    return words if times in (None, 1) else [*words, "--compress", f"{times:g}"]


def extra(settings: Settings) -> dict[str, Any]:
    """What a record needs for the table beside the run's settings."""
    images: Any = settings.data
    return {
        "full_train_size": SIZES[images.source].train,
        "paper_epochs": PAPER_EPOCHS[settings.network.name],
        "compress": compression(settings),
    }


def tests(settings: Settings) -> dict[str, Settings]:
    """The best weights where each image is transformed by the theta of another one."""
    if settings.network.build(settings.data.form).front is None:
        return {}
    return {tstn.ELSEWHERE: replaced(settings, "network", Shuffled(settings.network))}


def figures(records: list[Record]) -> dict[str, Any]:
    """The figures that compare runs."""
    from papers import tstn_figures  # not yet when --help is asked for: Matplotlib takes a second

    found = {"seeds.png": tstn_figures.seeds_figure(records)}
    if any(tstn.attends(record) for record in records):
        found["overlap.png"] = tstn_figures.overlap_figure(records)
    return found


def run_figures(record: Record) -> dict[str, Any]:
    """The figures of one run."""
    from papers import tstn_figures

    found = (
        {"learning-curves.png": tstn_figures.learning_curves([record])} if record["epochs"] else {}
    )
    if record["best"] and record["best"]["test_overlap"] is not None:
        found["attention.png"] = tstn_figures.attention_figure(record)
    return found


EXPERIMENT = sweep.Experiment(
    "table3",
    "reproduce/table3.py",
    description=__doc__,
    examples=EXAMPLES,
    flags=FLAGS,
    runs=chosen,
    choice=choice,
    extra=extra,
    report=tstn_report.report,
    figures=figures,
    run_figures=run_figures,
    tests=tests,
    smaller="--nets arch1-cnn arch1-tstn --train-size 10000 --epochs 15",
)


def main(words: list[str] | None = None) -> int:
    """Do what the words say, by default those of the command line."""
    return sweep.main(EXPERIMENT, words)


if __name__ == "__main__":
    cli.run(main)
