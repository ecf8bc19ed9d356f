"""Runs of a fraction of a second: a tied network on tiny images, four steps an epoch."""

import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from ministn.data import Cluttered, DataSet, Split
from ministn.kinds import has, replaced
from ministn.models import Tstn
from ministn.runs import Run, Settings, read_record
from ministn.training.protocol import Training
from ministn.training.trainer import BEST, LAST, Trainer

# 16, 16, 16 and 5 images; dropout, shared convolutions and a transformer all take part.
SETTINGS = Settings(
    Cluttered(canvas=9, train_size=53), Tstn(1), Training(lr=0.003, batch_size=16, epochs=3), seed=4
)
STEPS = 3 * 4


def changed(settings: Settings, **changes: Any) -> Settings:
    """The settings with other fields, each by its last name: lr, epochs, train_size, network.

    The length is one of epochs or iterations: one replaces the other.
    """
    for name, value in changes.items():
        places = ["", "training.", "training.schedule.", "training.optimizer.", "data.", "network."]
        (path, *_) = (place + name for place in places if has(settings, place + name))
        if name in ("epochs", "iterations"):
            length = {"epochs": None, "iterations": None, name: value}
            settings = replaced(settings, "training", replace(settings.training, **length))
        else:
            settings = replaced(settings, path, value)
    return settings


def trainer_of(settings: Settings, data: DataSet, **how: Any) -> Trainer:
    """A trainer as a Run makes it, on data that need not be those of the settings."""
    form = replaced(settings.data.form, "size", data.train.size)
    return Trainer(
        partial(settings.network.build, form), settings.training, data, settings.task,
        seed=settings.seed, precision=settings.precision, identity=settings.apart_from_epochs(),
        **how,
    )  # fmt: skip


def split(count: int, seed: int, canvas: int = 9) -> Split:
    """Noise around one prototype for each label, so that something can be learned."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 10, count).astype(np.uint8)
    prototypes = np.random.default_rng(0).integers(0, 128, (10, canvas, canvas))
    images = prototypes[labels] + rng.integers(0, 128, (count, canvas, canvas))
    boxes = np.tile(np.int16([2, 1, canvas - 2, canvas - 3]), (count, 1))
    return Split(images.astype(np.uint8), labels, boxes)


def shortened(split: Split, count: int) -> Split:
    """The first images of a split of any kind."""
    return type(split)(**{name: array[:count] for name, array in vars(split).items()})


def data_set(canvas: int = 9) -> DataSet:
    return DataSet(split(53, 1, canvas), split(31, 2, canvas), split(29, 3, canvas))


def run_in(out: Path, **changes: Any) -> Run:
    settings = changed(SETTINGS, **changes)
    return Run(out, settings, "table3", "test", full_train_size=53, paper_epochs=7, compress=None)


def train(out: Path, resume: bool = False, **changes: Any) -> Run:
    """Train on one thread, so that every process adds in the same order."""
    run = run_in(out, **changes)
    with threadpool_limits(1):
        run.train(data_set(), resume=resume, bar=False)
    return run


def outcome(run: Run) -> tuple[bytes, bytes, dict[str, Any]]:
    """What must be equal however often a run was stopped: all but times and starts."""
    record = read_record(run.record_path)
    del record["wall_seconds"], record["starts"]
    return (run.folder / LAST).read_bytes(), (run.folder / BEST).read_bytes(), record


def child(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Python code, which can import the package and the tests."""
    return subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True)
