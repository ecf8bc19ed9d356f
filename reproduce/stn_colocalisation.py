"""Co-localisation of Spatial Transformer Networks (Jaderberg et al. 2015), appendix A.2.

Images of 84x84 pixels hold one digit each, of a class that is the same in all, and nothing says
where. A transformer learns to find it: its crops are to resemble each other, as an encoder
describes them, more than they do crops at random places. The encoder, a CNN that has learned to
classify digits, is trained first; then comes a run for each class, without clutter and with it.

With --settings clutter it is not the paper's in four points, for which see the models' and the
task's files: crops have more pixels, the encoder has learned from digits among patches, only its
scores describe a crop, and a crop is drawn to the others more than it draws them.
"""

import argparse
from dataclasses import replace
from typing import Any, NamedTuple

from papers import colocalisation_report, stn_runs

from ministn import cli
from ministn.data import Crops, OneDigit, colocalisation
from ministn.data.distorted import SIZES
from ministn.models import Colocaliser, CropEncoder
from ministn.optimizers import SGD, Adam
from ministn.runs import Settings, sweep
from ministn.schedules import StepDecay
from ministn.tasks import Colocalisation
from ministn.training.protocol import Training

DIGITS = [str(digit) for digit in range(10)]
CLUTTER = {"none": 0, "16": colocalisation.DISTRACTORS}
NO_DIGIT = "none"  # of --digits: the encoder alone
QUICK = {"digits": ["0", "7"], "clutter": ["none"]}

SETTLING = 5  # the last fifth of the iterations is at a tenth of the learning rate
FALL = 0.1


def settling(training: Training, iterations: int) -> Training:
    """The same for so many iterations."""
    schedule = StepDecay(FALL, max(1, iterations - iterations // SETTLING))
    return replace(training, iterations=iterations, schedule=schedule)


PROTOCOL = settling(Training(lr=0.005, batch_size=200, iterations=1), 500)
ENCODER = Training(SGD(0.9, 0.002), 0.02, StepDecay(0.1, 1600), batch_size=64, iterations=2000)


class Setting(NamedTuple):
    """Of which crops the encoder learns, and how; what it then helps to find digits."""

    crops: dict[str, int]
    encoder: Training
    network: Colocaliser
    task: Colocalisation


PAPER, AMONG_CLUTTER = "paper", "clutter"
CROP = 36
SETTINGS = {
    PAPER: Setting({}, ENCODER, Colocaliser(), Colocalisation()),
    AMONG_CLUTTER: Setting(
        {"side": CROP, "distractors": colocalisation.DISTRACTORS},
        Training(Adam(), 0.002, StepDecay(0.1, 2400), batch_size=64, iterations=3000),
        Colocaliser(CropEncoder(pooled=True), CROP, maps=False),
        Colocalisation(drawn=0.3),
    ),
}

FLAGS = stn_runs.flags(
    "--data digits --digits 0 7 --clutter none",
    PROTOCOL,
    table=False,
    examples="pairs of images",
    digits=[*DIGITS, NO_DIGIT],
    clutter=list(CLUTTER),
    settings=list(SETTINGS),
)

EXAMPLES = """\
examples (times on one core of a 2020 server; --plan tells those on yours):
  python reproduce/stn_colocalisation.py --quick
      two of scikit-learn's digits, nothing to download: about a minute
  python reproduce/stn_colocalisation.py --clutter none
      all ten digits, each alone in its images: about six minutes
  python reproduce/stn_colocalisation.py --shard 1/2
      a half of the runs; the encoder, which all need, is trained by whichever half comes first
  python reproduce/stn_colocalisation.py --settings clutter --clutter 16
      all ten digits among clutter in our own setting: about fifteen minutes
"""


def chosen(arguments: argparse.Namespace) -> list[Settings]:
    """The digits inside, with clutter and without outside; each starts from the encoder's run."""
    source = stn_runs.source(arguments)
    usual = QUICK if arguments.quick else {"digits": DIGITS, "clutter": [*CLUTTER]}
    digits = stn_runs.named(arguments.digits, usual["digits"], "digits")
    clutters = stn_runs.named(arguments.clutter, usual["clutter"], "clutter")
    found = []
    for name in stn_runs.named(arguments.settings, [PAPER], "settings"):
        setting = SETTINGS[name]
        encoder = Settings(
            Crops(source, SIZES[source].train, arguments.data_seed or 0, **setting.crops),
            setting.network.encoder,
            setting.encoder,
            precision=arguments.precision or "fp32",
        )
        if NO_DIGIT in digits:
            found.append(encoder)
            continue
        training = PROTOCOL
        if arguments.iterations is not None:
            training = settling(PROTOCOL, arguments.iterations)
        found += [
            Settings(
                OneDigit(int(digit), CLUTTER[clutter], source),
                setting.network,
                training,
                setting.task,
                pretrained=encoder,
            )
            for clutter in clutters
            for digit in digits
        ]
    return found


def choice(settings: Settings) -> list[str]:
    """The words of a command by which ``chosen`` has this run."""
    words = stn_runs.choice(settings, settings.training)
    data: Any = (settings.pretrained or settings).data
    (name,) = (name for name, s in SETTINGS.items() if s.network.crop == data.side)
    if name != PAPER:
        words += ["--settings", name]
    if settings.pretrained is None:
        return ["--digits", NO_DIGIT, *words]
    data = settings.data
    (clutter,) = (name for name, n in CLUTTER.items() if n == data.distractors)
    return ["--digits", str(data.digit), "--clutter", clutter, *words]


def extra(settings: Settings) -> dict[str, int]:
    """What a record needs for the table beside the run's settings."""
    return {"full_train_size": settings.data.train_size}


EXPERIMENT = sweep.Experiment(
    "stn_colocalisation",
    "reproduce/stn_colocalisation.py",
    description=__doc__,
    examples=EXAMPLES,
    flags=FLAGS,
    runs=chosen,
    choice=choice,
    extra=extra,
    report=colocalisation_report.report,
    figures=colocalisation_report.figures,
    run_figures=colocalisation_report.run_figures,
    smaller="--clutter none",
)


def main(words: list[str] | None = None) -> int:
    """Do what the words say, by default those of the command line."""
    return sweep.main(EXPERIMENT, words)


if __name__ == "__main__":
    cli.run(main)
