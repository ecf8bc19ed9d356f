"""Flags and protocol that the experiments of Spatial Transformer Networks have in common.

The paper's: 150,000 iterations of SGD on batches of 256, at a learning rate of 0.01 that falls to a
tenth after each third of them, three seeds; distortions are drawn anew in each epoch of 60,000
digits. Its momentum is not known; we take 0.9.

In MNIST addition, this SGD on fewer images hardly learns; Adam does, see stn_addition.py --help.

Of co-localisation it says only that it is done by SGD on random pairs, and shows it done after 180
steps; our protocol is in stn_colocalisation.py. Of the projection experiment it says nothing like
that, and the protocol is ours: 3,000 iterations of Adam on batches of 32, at a learning rate of
0.001 that falls alike. SGD at 0.01 was measured to be much slower there.
"""

import argparse
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from ministn.data import Data
from ministn.data.distorted import SIZES
from ministn.data.sources import EMBEDDED, MNIST
from ministn.models import Architecture
from ministn.optimizers import SGD, Adam, Nesterov, RMSprop, Rule
from ministn.runs import Settings
from ministn.runs.flags import DATA, Flag, at_most, each_once
from ministn.schedules import StepDecay
from ministn.training.protocol import Training

THIRDS = 3  # of the iterations; the learning rate falls after each
FALL = 0.1

MOMENTUM = 0.9

# What the flag --optimizer names.
OPTIMIZERS: dict[str, Rule] = {
    "adam": Adam(),
    "sgd": SGD(MOMENTUM),
    "nesterov": Nesterov(MOMENTUM),
    "rmsprop": RMSprop(),
}


def falling(training: Training, iterations: int) -> Training:
    """The same for so many iterations: the learning rate falls after each third of them."""
    return replace(
        training, iterations=iterations, schedule=StepDecay(FALL, usual_decay(iterations))
    )


def usual_decay(iterations: int) -> int:
    """After how many of so many iterations the learning rate falls, if nothing else is asked."""
    return max(1, -(-iterations // THIRDS))


PROTOCOL = falling(Training(OPTIMIZERS["sgd"], 0.01, iterations=1), 150_000)
PROJECTION = falling(Training(batch_size=32, iterations=1), 3000)
SEEDS = 0, 1, 2

# --quick of the tables of errors.
QUICK = falling(replace(PROTOCOL, batch_size=32, loc_lr=0.3), 1500)

Cell = tuple[Data, Architecture]

# What the flags of this name choose, and by default.
CHOSEN = {
    "sets": ("which distortions", "all"),
    "models": ("which networks", "all"),
    "digits": ("which digits to find, a run for each; none: only the encoder", "all digits"),
    "clutter": ("how many distractors an image has", "both"),
    "settings": ("whose setting, the paper's or ours for images with clutter", "paper"),
}


def flags(
    quick: str,
    protocol: Training = PROTOCOL,
    table: bool = True,
    examples: str = "images",
    data: Sequence[Flag] = (),
    **chosen_from: Sequence[str],
) -> list[Flag]:
    """A script's flags. quick: what --quick changes, in words. protocol: what it trains by. table:
    whether it is a table of errors. examples: what a batch is made of. data: the flags of a set
    that is not made of digits. chosen_from: the values that a flag of this name takes, by default
    all.
    """
    found = [
        Flag(
            "--quick",
            "",
            f"other defaults, for a first try: {quick}",
            bool,
        )
    ]
    for name, values in chosen_from.items():
        metavar = name.upper().removesuffix("S")
        what, usual = CHOSEN[name]
        words = f"{what}; of {' '.join(values)}; default: {usual}"
        found.append(Flag(f"--{name}", "", words, many=True, choices=values, metavar=metavar))
    found += [
        Flag(
            "--iterations", "training.iterations",
            f"steps of training; default: {protocol.iterations}", int, metavar="N",
        ),
        Flag(
            "--batch-size", "training.batch_size",
            f"{examples} in a step; default: {protocol.batch_size}", int, metavar="N",
        ),
        Flag(
            "--lr", "training.lr", f"learning rate at the start; default: {protocol.lr:g}",
            float, metavar="RATE",
        ),
    ]  # fmt: skip
    if table:
        found.append(
            Flag(
                "--decay-every", "training.schedule.every",
                "iterations after which the learning rate falls to a tenth, each time; "
                "default: a third of --iterations",
                int, metavar="N",
            )
        )  # fmt: skip
    if isinstance(protocol.optimizer, SGD):
        own = protocol.optimizer.momentum
        usual = f"{own:g}" if own == MOMENTUM else f"{own:g}, of nesterov {MOMENTUM:g}"
        found += [
            Flag(
                "--optimizer", "",
                "default: sgd; the default of --lr is meant for it, so give adam its own",
                choices=list(OPTIMIZERS),
            ),
            Flag(
                "--momentum", "training.optimizer.momentum", f"of sgd, nesterov; default: {usual}",
                float, metavar="FACTOR",
            ),
        ]  # fmt: skip
    found += [
        Flag(
            "--loc-lr", "training.loc_lr",
            "times --lr for the layers that only a localisation network has; default: "
            f"{protocol.loc_lr:g}",
            float, metavar="FACTOR",
        ),
        *(data or of_digits(table)),
    ]  # fmt: skip
    return found


def of_digits(table: bool) -> list[Flag]:
    """The flags of a set that is made of digits; table: as in ``flags``."""
    found = [
        Flag(
            "--data", "",
            "whose digits: MNIST's, or the small ones that come with scikit-learn; default: mnist",
            choices=(MNIST, EMBEDDED), group=DATA,
        ),
    ]  # fmt: skip
    if table:
        found.append(
            Flag(
                "--train-size", "data.train_size",
                f"examples that are drawn anew in each epoch, each from a digit of its own; "
                f"default: all, {SIZES[MNIST].train}, digits {SIZES[EMBEDDED].train}",
                int, metavar="N", group=DATA,
            )
        )  # fmt: skip
    return found


def source(arguments: argparse.Namespace) -> str:
    """Whose digits the flags ask for."""
    return arguments.data or (EMBEDDED if arguments.quick else MNIST)


def trained(
    arguments: argparse.Namespace,
    cells: Iterable[Cell],
    protocol: Training = PROTOCOL,
    quick: Training = QUICK,
) -> list[Settings]:
    """The cells of a table by the protocol that the flags choose: it follows the iterations.

    Raises UserError for impossible values.
    """
    at_most(SIZES[source(arguments)].train, train_size=arguments.train_size)
    training = quick if arguments.quick else protocol
    if arguments.iterations is not None:
        training = falling(training, arguments.iterations)
    asked = getattr(arguments, "optimizer", None)
    if asked not in (None, training.optimizer.kind):
        training = replace(training, optimizer=OPTIMIZERS[asked])
    return [Settings(data, network, training) for data, network in cells]


def named(names: Sequence[str] | None, usual: Sequence[str], flag: str) -> Sequence[str]:
    """What a flag names, each once; ``usual`` without it."""
    each_once(**{flag: names or []})
    return names or usual


def choice(settings: Settings, protocol: Training = PROTOCOL) -> list[str]:
    """The words of a command for the digits and the optimiser."""
    digits: Any = settings.data
    words = ["--data", EMBEDDED] if digits.source == EMBEDDED else []
    kind = settings.training.optimizer.kind
    return words if kind == protocol.optimizer.kind else [*words, "--optimizer", kind]


def extra(settings: Settings) -> dict[str, Any]:
    """What a record needs for the table beside the run's settings."""
    digits: Any = settings.data
    return {"full_train_size": SIZES[digits.source].train}


# -- of a record -----------------------------------------------------------------------------------


def title(record: dict[str, Any], protocol: Training, whose: str) -> str:
    """What was trained on, for how long, and how far that is from the protocol; whose that is."""
    data, training = record["settings"].data, record["settings"].training
    schedule, iterations = training.schedule, training.iterations
    source = "scikit-learn's digits, enlarged" if data.source == EMBEDDED else "MNIST"
    rate = f"learning rate {training.lr:g}"
    if schedule.every != usual_decay(iterations):
        falls = f"falling to {schedule.factor:g} of it after each {schedule.every:,}"
        rate += f" {falls if schedule.every < iterations else 'throughout'}"
    text = (
        f"{iterations:,} iterations of batch {training.batch_size}, {rate}, "
        f"{training.optimizer.words}; {source}, {data.train_size:,} images an epoch, "
        f"data seed {data.seed}"
    )
    return f"{scope(record, protocol).upper() or f'{whose} protocol'}: {text}"


def scope(record: dict[str, Any], protocol: Training) -> str:
    """How the runs of a table differ from the protocol; empty if they do not."""
    data, training = record["settings"].data, record["settings"].training
    if data.source == EMBEDDED:
        return "reduced, other data"
    kept = "lr", "optimizer", "clip", "clip_norm"
    same = all(getattr(training, name) == getattr(protocol, name) for name in kept)
    same = same and training.schedule.every == usual_decay(training.iterations)
    size = [getattr(training, n) - getattr(protocol, n) for n in ("iterations", "batch_size")]
    size.append(data.train_size - record["full_train_size"])
    if min(size) < 0:
        return "reduced" if same else "reduced, other settings"
    return "other settings" if any(size) or not same else ""
