"""Records of format 1, of runs before a run was a value; they are read for ever.

There an experiment was a name, and settings were flat. This is the only file with those names: all
of them are listed here, none is taken apart.
"""

import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from ministn.data import Addition, Cluttered, Crops, Data, Distorted, Extruded, OneDigit
from ministn.data.distorted import RECIPES
from ministn.data.sources import EMBEDDED, MNIST
from ministn.errors import UserError
from ministn.kinds import has, replaced, to_json
from ministn.models import NETWORKS, Architecture, Colocaliser, CropEncoder
from ministn.models.projection import PROJECTED
from ministn.models.stn import ADDITION, TABLE
from ministn.optimizers import SGD, Adam, Rule
from ministn.runs.settings import Settings
from ministn.schedules import StepDecay
from ministn.tasks import Classification, Colocalisation
from ministn.training.protocol import Training

FORMAT = 1

# What a record may leave out, since it came later.
DEFAULTS: dict[str, Any] = {
    "epochs": None, "data": "mnist", "data_seed": 0, "train_size": 50_000, "batch_size": 256,
    "lr": 0.001, "loc_lr": 1.0, "seed": 0, "precision": "fp32", "iterations": None,
    "optimizer": "adam", "momentum": 0.9,
    "weight_decay": 0.0, "decay": 0.7, "decay_every": 20, "encoder": "", "downsample": 1.0,
}  # fmt: skip
OF_SETS = "canvas", "distractors", "patch"  # where these are left out they are the set's own

HALVED = {"r": "", "rts": "pooled", "p": "", "e": "", "tc": "pooled"}
SUFFIXES = {MNIST: "", EMBEDDED: "-digits"}


def _networks() -> Iterator[tuple[str, str, Architecture]]:
    """Each name, its experiment, and what it stands for."""
    for name, network in NETWORKS.items():
        yield name, "table3", network
    for set_name, halved in HALVED.items():
        for network in TABLE:
            made = replaced(network, "halved", halved)
            yield f"{set_name}-{network.name}", "stn_table1", made
    for network in ADDITION:
        made = replaced(network, "halved", "sampled")
        yield f"addition-{network.name}", "stn_addition", made
    for projected in PROJECTED:
        yield projected.name, "stn_projection3d", projected
    yield "encoder", "stn_colocalisation", CropEncoder()
    yield "colocalisation", "stn_colocalisation", Colocaliser()


def _sets() -> Iterator[tuple[str, Data]]:
    """Each name of a data set, and what it stands for."""
    for source, suffix in SUFFIXES.items():
        yield source, Cluttered(source, train_size=8_000)
        for recipe in RECIPES:
            yield f"{recipe.lower()}{suffix}", Distorted(recipe, source, train_size=8_000)
        for digit in range(10):
            yield f"colocalisation-{digit}{suffix}", OneDigit(digit, source=source)
        yield f"addition{suffix}", Addition(source, train_size=8_000)
        yield f"extruded{suffix}", Extruded(source, train_size=8_000)
        yield f"crops{suffix}", Crops(source, train_size=8_000)


EXPERIMENTS = {name: experiment for name, experiment, _ in _networks()}
ARCHITECTURES = {name: network for name, _, network in _networks()}
SETS = dict(_sets())


def upgraded(record: dict[str, Any]) -> dict[str, Any]:
    """The record with the settings of format 2; it still says what format it was written in.

    Raises KeyError, TypeError or UserError for what is no record.
    """
    experiment = EXPERIMENTS[record["settings"]["network"]]
    return record | {"experiment": experiment, "settings": to_json(settings(record["settings"]))}


def settings(found: dict[str, Any]) -> Settings:
    """The value of flat settings. Raises as upgraded does."""
    if unknown := found.keys() - {*DEFAULTS, *OF_SETS, "network"}:
        raise UserError(f"format 1 has no {', '.join(sorted(unknown))}")
    old = DEFAULTS | found
    data, network = SETS[old["data"]], ARCHITECTURES[old["network"]]
    chosen = {name: old[name] for name in ("train_size", *OF_SETS) if name in old}
    for name, value in (chosen | {"seed": old["data_seed"]}).items():
        if has(data, name):
            data = replaced(data, name, value)
    if old["downsample"] != 1:
        network = replaced(network, "downsample", old["downsample"])
    task = Colocalisation() if old["network"] == "colocalisation" else Classification()
    return Settings(
        data,
        network,
        _training(old),
        task,
        old["seed"],
        old["precision"],
        _encoder(old) if old["encoder"] else None,
    )


def _training(old: dict[str, Any]) -> Training:
    rules: dict[str, Rule] = {
        "adam": Adam(),
        "sgd": SGD(old["momentum"], old["weight_decay"]),
    }
    return Training(
        rules[old["optimizer"]],
        old["lr"],
        StepDecay(old["decay"], old["decay_every"]),
        old["batch_size"],
        old["epochs"],
        old["iterations"],
        old["loc_lr"],
    )


def _encoder(old: dict[str, Any]) -> Settings:
    """The run that the setting "encoder" names, by its folder: one of those that there were."""
    training = Training(SGD(0.9, 0.002), 0.02, StepDecay(0.1, 1600), batch_size=64, iterations=2000)
    for source, start, size in ((MNIST, "", 60_000), (EMBEDDED, "digits-", 8_000)):
        for precision, end in (("fp32", ""), ("tf32", "-tf32")):
            data = Crops(source, size, old["data_seed"])
            name = (
                f"encoder-{start}data{data.seed}-n{size}-batch64-lr0.02-loc1-sgd0.9-wd0.002-"
                f"its2000-decay0.1x1600{end}-seed0"
            )
            if name == old["encoder"]:
                return Settings(data, CropEncoder(), training, precision=precision)
    raise UserError(f"no encoder was called {old['encoder']}")


def begun(out: Path, wanted: Settings) -> Path | None:
    """The folder of a run with these settings, epochs apart, that was begun in format 1."""
    for path in sorted(out.glob("*/record.json")):
        found = _settings_in(path, path.stat().st_mtime_ns)
        if found and found.apart_from_epochs() == wanted.apart_from_epochs():
            return path.parent
    return None


@cache
def _settings_in(path: Path, written: int) -> Settings | None:
    """Of a record of format 1, whose time of writing tells whether it is still the same."""
    try:
        record = json.loads(path.read_text())
        return settings(record["settings"]) if record["format"] == FORMAT else None
    except (OSError, ValueError, KeyError, TypeError, UserError):
        return None
