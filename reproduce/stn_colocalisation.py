"""Co-localisation of Spatial Transformer Networks (Jaderberg et al. 2015), appendix A.2.

Images of 84x84 pixels hold one digit each, of a class that is the same in all, and nothing says
where. A transformer learns to find it: its crops are to resemble each other, as an encoder
describes them, more than they do crops at random places. The encoder, a CNN that has learned to
classify digits, is trained first; then comes a run for each class, without clutter and with it.
"""

import argparse
from typing import Any

from papers import colocalisation_report, stn_runs

from ministn import cli, data, runs
from ministn.models import colocalisation
from ministn.runs import sweep
from ministn.settings import Settings

SCRIPT = "reproduce/stn_colocalisation.py"
CLUTTER = {"none": 0, "16": data.colocalisation.DISTRACTORS}

PROTOCOL: dict[str, Any] = {
    "digits": [str(digit) for digit in range(10)],
    "clutter": list(CLUTTER),
    "iterations": 500,
    "batch_size": 200,
    "optimizer": "adam",
    "lr": 0.005,
    "momentum": 0.0,
    "loc_lr": 1.0,
    "seeds": [0],
    "data": "mnist",
    "precision": "fp32",
}
ENCODER: dict[str, Any] = {
    "iterations": 2000,
    "batch_size": 64,
    "optimizer": "sgd",
    "lr": 0.02,
    "weight_decay": 0.002,
    "decay": 0.1,
    "decay_every": 1600,
}
SETTLING = 5  # the last fifth of the iterations is at a tenth of the learning rate
FALL = 0.1

QUICK: dict[str, Any] = {
    "data": "digits",
    "digits": ["0", "7"],
    "clutter": ["none"],
}

EXAMPLES = """\
examples:
  python reproduce/stn_colocalisation.py --quick
      two digits of the embedded ones, nothing to download
  python reproduce/stn_colocalisation.py --clutter none
      all ten digits, each alone in its images
  python reproduce/stn_colocalisation.py --shard 1/2
      a half of the runs; the encoder that all need is trained by whoever comes first
"""


def parser() -> argparse.ArgumentParser:
    """The command line, in groups."""
    return stn_runs.parser(
        SCRIPT,
        __doc__,
        EXAMPLES,
        QUICK,
        PROTOCOL,
        digits=PROTOCOL["digits"],
        clutter=list(CLUTTER),
    )


def settings_of(arguments: argparse.Namespace) -> list[Settings]:
    """The encoder's Settings, and one for each run, seeds outside, digits inside."""
    chosen = stn_runs.asked(arguments, QUICK, PROTOCOL)
    source = data.DIGITS if chosen["data"] == "digits" else ""
    precision = chosen["precision"]
    encoder = _settings("encoder", f"crops{source}", arguments, precision=precision, **ENCODER)
    same = ("iterations", "batch_size", "optimizer", "lr", "momentum", "loc_lr", "precision")
    common = {name: chosen[name] for name in same}
    common["decay_every"] = max(1, chosen["iterations"] - chosen["iterations"] // SETTLING)
    return [
        encoder,
        *(
            _settings(
                "colocalisation",
                f"colocalisation-{digit}{source}",
                arguments,
                distractors=CLUTTER[clutter],
                seed=seed,
                decay=FALL,
                encoder=runs.folder_name(encoder),
                **common,
            )
            for seed in chosen["seeds"]
            for clutter in chosen["clutter"]
            for digit in chosen["digits"]
        ),
    ]


def _settings(network: str, name: str, arguments: argparse.Namespace, **asked: Any) -> Settings:
    recipe = data.RECIPES[name]
    usual = {field: getattr(recipe, field) for field in ("canvas", "distractors", "patch")}
    size = {"train_size": recipe.train_size, "data_seed": arguments.data_seed}
    return Settings(network, data=name, **(usual | size | asked))


EXPERIMENT = sweep.Experiment(
    script=SCRIPT,
    networks=colocalisation.NETWORKS,
    parser=parser,
    settings_of=settings_of,
    extra=stn_runs.extra,
    report=colocalisation_report.report,
    figures=colocalisation_report.figures,
    run_figures=colocalisation_report.run_figures,
    smaller="--clutter none",
    alone=True,
)


def main(flags: list[str] | None = None) -> int:
    """Do what the flags say, by default those of the command line."""
    return sweep.main(EXPERIMENT, flags)


if __name__ == "__main__":
    cli.run(main)
