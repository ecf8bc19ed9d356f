"""The placement paper's scripts for SVHN and plankton: what they have in common."""

import argparse
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

from ministn.data import Plankton, Svhn
from ministn.data.sources import EMBEDDED
from ministn.kinds import replaced, value_at
from ministn.runs import Settings, sweep
from ministn.runs.flags import DATA, Flag, at_most, each_once
from ministn.training.protocol import Training
from papers import placement_sets_report
from papers.claims import Record
from papers.placement_sets import Study


class Quick(NamedTuple):
    """What --quick asks for: networks, their width, embedded digits, training."""

    nets: Sequence[str]
    data: Svhn | Plankton
    training: Training
    width: float

    @property
    def words(self) -> str:
        """The flags that ask for the same."""
        data, training = self.data, self.training
        side = f"--side {data.side} " if isinstance(data, Plankton) else ""
        return (
            f"--data {EMBEDDED} --nets {' '.join(self.nets)} --width {self.width:g} {side}"
            f"--train-size {data.train_size} "
            f"--epochs {training.epochs} --batch-size {training.batch_size} --lr {training.lr:g}"
        )


def flags(study: Study, quick: Quick, *own: Flag) -> list[Flag]:
    """A script's flags. own: those that only it has."""
    training, kind = study.training, study.training.optimizer.kind
    momentum = value_at(training, "optimizer.momentum")
    return [
        Flag("--quick", "", f"other defaults, for a first try: {quick.words}", bool),
        Flag(
            "--nets", "", f"which networks, of {' '.join(study.networks)}, where x2 is two "
            "iterations; default: all",
            many=True, choices=list(study.networks), metavar="NET",
        ),
        Flag(
            "--width", "network.width",
            "of the classifier, its maps and neurons, in the paper's; default: 1",
            float, metavar="FACTOR",
        ),
        Flag(
            "--epochs", "training.epochs", "passes over the training images; the learning rate "
            f"falls where the same shares of them are done; default: {training.epochs}",
            int, metavar="N",
        ),
        Flag(
            "--batch-size", "training.batch_size",
            f"images in a step; default: {training.batch_size}", int, metavar="N",
        ),
        Flag(
            "--lr", "training.lr", f"learning rate at the start; default: {training.lr:g}",
            float, metavar="RATE",
        ),
        Flag(
            "--momentum", "training.optimizer.momentum", f"of {kind}; default: {momentum:g}",
            float, metavar="FACTOR",
        ),
        Flag(
            "--weight-decay", "training.optimizer.weight_decay",
            "of all parameters but biases; default: 0.0005", float, metavar="FACTOR",
        ),
        Flag(
            "--loc-lr", "training.loc_lr",
            "times --lr for the layers that only localisation networks have; default: "
            f"{training.loc_lr:g}",
            float, metavar="FACTOR",
        ),
        Flag(
            "--data", "", f"the set, or the small digits that come with scikit-learn in its "
            f"place; default: {study.data.source}",
            choices=(study.data.source, EMBEDDED), group=DATA,
        ),
        Flag(
            "--train-size", "data.train_size",
            f"only the first N training images; default: all, {study.data.train_size}, digits "
            f"{study.sizes[EMBEDDED].train}",
            int, metavar="N", group=DATA,
        ),
        *own,
    ]  # fmt: skip


def chosen(study: Study, quick: Quick, arguments: argparse.Namespace) -> list[Settings]:
    """The networks on the data that the flags name, by the protocol that they name."""
    each_once(nets=arguments.nets or [])
    source = arguments.data or (EMBEDDED if arguments.quick else study.data.source)
    whole = study.sizes[source].train
    at_most(whole, train_size=arguments.train_size)
    data = replace(quick.data if arguments.quick else study.data, source=source)
    if not arguments.quick:
        data = replace(data, train_size=whole)
    training = quick.training if arguments.quick else study.training
    if arguments.epochs is not None:
        training = study.epochs(training, arguments.epochs)
    names = arguments.nets or (quick.nets if arguments.quick else study.networks)
    width = quick.width if arguments.quick else 1.0
    return [
        Settings(data, replaced(study.networks[name], "width", width), training, study.task)
        for name in names
    ]


def choice(settings: Settings) -> list[str]:
    """The words of a command by which ``chosen`` has this run."""
    data: Any = settings.data
    words = ["--nets", settings.network.name]
    return words + (["--data", EMBEDDED] if data.source == EMBEDDED else [])


def experiment(study: Study, quick: Quick, *own: Flag, **more: Any) -> sweep.Experiment:
    """A script's experiment. own: the flags that only it has. more: of the Experiment."""
    return sweep.Experiment(
        study.script,
        study.path,
        flags=flags(study, quick, *own),
        runs=partial(chosen, study, quick),
        choice=choice,
        seeds=study.seeds,
        report=partial(placement_sets_report.report, study),
        figures=partial(figures, study),
        run_figures=partial(run_figures, study),
        **more,
    )


def figures(study: Study, records: list[Record]) -> dict[str, Any]:
    """The figures that compare runs."""
    from papers import placement_sets_figures  # Matplotlib takes a second, --help does not wait

    return {**placement_sets_figures.figures(study, records)}


def run_figures(study: Study, record: Record) -> dict[str, Any]:
    """The figures of one run."""
    from papers import placement_sets_figures

    return {**placement_sets_figures.run_figures(study, record)}
