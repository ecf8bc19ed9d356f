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
from typing import Any

from ministn import cli, data
from ministn.cuda.choice import PRECISIONS
from ministn.errors import UserError
from ministn.runs import sweep
from ministn.settings import OPTIMIZERS, Settings

PROTOCOL: dict[str, Any] = {
    "iterations": 150_000,
    "batch_size": 256,
    "optimizer": "sgd",
    "lr": 0.01,
    "decay_every": None,  # a third of the iterations
    "momentum": 0.9,
    "loc_lr": 1.0,
    "seeds": [0, 1, 2],
    "data": "mnist",
    "precision": PRECISIONS[0],
}
PROJECTION = PROTOCOL | {"iterations": 3000, "batch_size": 32, "optimizer": "adam", "lr": 0.001}
THIRDS = 3  # of the iterations; the learning rate falls after each
FALL = 0.1

Cell = tuple[str, str]  # set and network


def parser(
    script: str,
    description: str | None,
    examples: str,
    quick: dict[str, Any],
    protocol: dict[str, Any] = PROTOCOL,
    **chosen_from: Sequence[str],
) -> cli.Parser:
    """A script's command line. quick: what --quick changes of the protocol.

    chosen_from: the values that a flag of this name takes, by default all.
    """
    p = cli.Parser(
        prog=f"python {script}",
        description=description,
        epilog=examples,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    what = p.add_argument_group("what to train (default: the whole protocol)")
    what.add_argument(
        "--quick",
        action="store_true",
        help="a small setting, from which other flags may still differ: "
        + ", ".join(f"{name.replace('_', '-')} {_words(value)}" for name, value in quick.items()),
    )
    for name, values in chosen_from.items():
        what.add_argument(
            f"--{name}",
            nargs="+",
            choices=values,
            metavar=name.upper().removesuffix("S"),
            help=f"of {' '.join(values)}",
        )
    usual = {name: f"default: {_words(value)}" for name, value in protocol.items()}
    table = "models" in chosen_from
    what.add_argument("--iterations", type=int, metavar="N", help=usual["iterations"])
    what.add_argument("--batch-size", type=int, metavar="N", help=usual["batch_size"])
    what.add_argument("--lr", type=float, help=f"starting learning rate; {usual['lr']}")
    if table:
        what.add_argument(
            "--decay-every",
            type=int,
            metavar="N",
            help="iterations after which the learning rate falls to a tenth, each time; "
            "default: a third of them",
        )
    if protocol["optimizer"] == "sgd":
        what.add_argument(
            "--optimizer",
            choices=OPTIMIZERS,
            help=f"{usual['optimizer']}, for which the default of --lr is meant",
        )
        what.add_argument("--momentum", type=float, help=f"of sgd; {usual['momentum']}")
    what.add_argument(
        "--loc-lr",
        type=float,
        metavar="FACTOR",
        help="times --lr for layers only a localisation network has; default: 1",
    )
    what.add_argument(
        "--seeds",
        nargs="+",
        type=int,
        metavar="SEED",
        help=f"one run of each network for each of these values; {usual['seeds']}",
    )
    source = p.add_argument_group("data")
    source.add_argument(
        "--data", choices=("mnist", "digits"), help="whose digits: MNIST's, or embedded ones"
    )
    if table:
        source.add_argument(
            "--train-size",
            type=int,
            metavar="N",
            help="images of an epoch, each of another digit; default: 60000",
        )
    sweep.data_flags(source)
    sweep.running_flags(p)
    return p


def asked(
    arguments: argparse.Namespace, quick: dict[str, Any], protocol: dict[str, Any] = PROTOCOL
) -> dict[str, Any]:
    """The protocol as the flags have it. Raises UserError for values named twice."""
    chosen = protocol | {"models": None} | (quick if arguments.quick else {})
    chosen |= {k: v for k, v in vars(arguments).items() if k in chosen and v is not None}
    sweep.each_once(**{name: v for name, v in chosen.items() if isinstance(v, list)})
    return chosen


def settings_of(
    arguments: argparse.Namespace, chosen: dict[str, Any], cells: Iterable[Cell]
) -> list[Settings]:
    """One Settings for each cell and seed, seeds outside.

    Raises UserError for impossible values.
    """
    if chosen["optimizer"] != "sgd" and getattr(arguments, "momentum", None) is not None:
        raise UserError(f"--momentum is for sgd: {chosen['optimizer']} has none")
    cells = list(cells)
    iterations = chosen["iterations"]
    decay_every = chosen["decay_every"]
    if decay_every is None:
        decay_every = usual_decay(iterations)
    source = data.DIGITS if chosen["data"] == "digits" else ""
    same = ("batch_size", "optimizer", "lr", "momentum", "loc_lr", "precision")
    common = {name: chosen[name] for name in same}
    found = []
    for seed in chosen["seeds"]:
        for name, network in cells:
            recipe = data.RECIPES[name + source]
            size = arguments.train_size
            if size is None:
                size = recipe.train_size
            if size > recipe.train_size:
                raise UserError(f"--train-size must be at most {recipe.train_size}")
            found.append(
                Settings(
                    network,
                    iterations=iterations,
                    data=name + source,
                    data_seed=arguments.data_seed,
                    canvas=recipe.canvas,
                    distractors=recipe.distractors,
                    patch=recipe.patch,
                    train_size=size,
                    seed=seed,
                    decay=FALL,
                    decay_every=decay_every,
                    **common,
                )
            )
    return found


def usual_decay(iterations: int) -> int:
    """After how many of so many iterations the learning rate falls, if nothing else is asked."""
    return max(1, -(-iterations // THIRDS))


def extra(settings: Settings, arguments: argparse.Namespace) -> dict[str, Any]:
    """What a record needs for the table beside the run's settings."""
    return {"full_train_size": data.RECIPES[settings.data].train_size}


def _words(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)
