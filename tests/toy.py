"""A new experiment in one file: its own data, network, task and script. See test_toy.py.

How far to the right is the bright bar?
"""

import sys

import numpy as np

from ministn import cli
from ministn.backend import device_of, to_cpu
from ministn.data import Data, DataSet, Form, Split
from ministn.kinds import kind
from ministn.layers import Dense, Flatten, Sequential
from ministn.models import Architecture, Network
from ministn.runs import Settings, sweep
from ministn.runs.flags import Flag
from ministn.tasks import Evaluation, Task
from ministn.training.protocol import Training


@kind("toy bars")
class Bars(Data):
    side: int = 9
    train_size: int = 40
    seed: int = 0
    name, valid_size, test_size = "bars", 0, 30

    @property
    def form(self):
        return Form((self.side, self.side))

    def load(self, folder=None, map=map):
        return DataSet(self._split(self.train_size, 0), None, self._split(self.test_size, 1))

    def _split(self, count, part):
        columns = np.random.default_rng([self.seed, part]).integers(0, self.side, count)
        images = np.zeros((count, self.side, self.side), np.uint8)
        images[np.arange(count), :, columns] = 255
        where = (columns / self.side).astype(np.float32)
        return Split(images, where, np.zeros((count, 4), np.int16))


@kind("toy line")
class Line(Architecture):
    name = "line"

    def build(self, form):
        return Network(Sequential(Flatten("flatten"), Dense("dense", np.prod(form.size), 1)))


@kind("toy regression")
class Regression(Task):
    """Half the mean squared difference of y (N, 1) and labels (N,); wrong beyond ``within``."""

    within: float = 0.1

    def loss(self, y, labels):
        away = to_cpu(y)[:, 0] - to_cpu(labels)
        return float((away**2).mean() / 2), (away, device_of(y))

    def loss_backward(self, cache, weight=1.0):
        away, device = cache
        dy = (away[:, None] * np.float32(weight / len(away))).astype(np.float32)
        return dy if device is None else device.to_gpu(dy)

    def wrong(self, y, labels, thetas):
        return int((abs(to_cpu(y)[:, 0] - to_cpu(labels)) > self.within).sum())

    def judge(self, predicted, split):
        y, looks = predicted
        right = abs(y[:, 0] - split.labels) <= self.within
        return Evaluation(self.loss(y, split.labels)[0], right, looks)


def figure(records):
    from matplotlib.figure import Figure

    drawn = Figure()
    for record in records:
        drawn.subplots().plot([epoch["test_error"] for epoch in record["epochs"]])
    return drawn


def report(records):
    done = [record for record in records if record["best"]]
    errors = [f"{r['settings'].seed}: {r['best']['test_error']:.1f} %" for r in done]
    return "\n".join(["bars", *errors, *(record["command"] for record in records)])


PROTOCOL = Training(lr=0.05, epochs=3, batch_size=16)
EXPERIMENT = sweep.Experiment(
    "toy", "tests/toy.py", description=__doc__, examples="",
    flags=[Flag("--epochs", "training.epochs", "default: 3", int),
           Flag("--side", "data.side", "default: 9", int),
           Flag("--within", "task.within", "default: 0.1", float)],
    runs=lambda arguments: [Settings(Bars(), Line(), PROTOCOL, Regression())],
    choice=lambda settings: [],
    report=report, figures=lambda records: {"bars.png": figure(records)}, smaller="--epochs 1",
)  # fmt: skip


def main(words=None):
    return sweep.main(EXPERIMENT, words)


if __name__ == "__main__":
    cli.run(lambda: main(sys.argv[1:]))
