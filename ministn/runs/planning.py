"""What a set of runs will cost on this machine, from a few timed steps of each network."""

import gc
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from ministn.backend import Device
from ministn.cuda.choice import precision
from ministn.data import RECIPES, DataSet, Pairs, Split, extruded
from ministn.data.dataset import Digits
from ministn.models.prediction import BATCH
from ministn.parallel import Team
from ministn.settings import Settings
from ministn.training.trainer import Trainer

CPU_TRIES, GPU_TRIES = 2, 6  # a GPU's first ones compile kernels and capture graphs
BYTES_PER_PARAMETER = 16  # last.safetensors has values and two moments, best.safetensors values


class Cost:
    """Measured on noise of the right shape, so that no data set is needed.

    step: seconds of one training step; image: seconds to evaluate one image; parameters: count.
    """

    def __init__(
        self, settings: Settings, device: Device | None = None, team: Team | None = None
    ) -> None:
        batch = min(settings.batch_size, settings.train_size)
        tries = CPU_TRIES if device is None else GPU_TRIES
        team = team or Team()
        count = (tries + 1) * batch  # so that no epoch ends while it is timed
        train = _noise(settings, count)
        # The images that are compared are those in which digits are to be found.
        judged = train if settings.encoder else _noise(settings, BATCH * team.size)
        data = DataSet("noise", train, None, judged, {})
        never_ending = replace(
            settings, batch_size=batch, train_size=count, epochs=1, iterations=None
        )
        trainer = Trainer(never_ending, data, say=lambda line: None, device=device, team=team)
        self.parameters = trainer.buffer.count

        def step() -> None:
            trainer.step()
            trainer.catch_up()

        self.step = min(_seconds(step) for _ in range(tries))
        judge, watched = trainer.steps.evaluate, trainer.watched
        with precision(settings.precision):
            evaluations = (_seconds(lambda: judge(watched)) for _ in range(tries))
            self.image = min(evaluations) / len(judged.images)

    def seconds(self, settings: Settings) -> float:
        """Of a whole run: training, a look at a split after every epoch, one test at the end."""
        recipe = RECIPES[settings.data]
        watched = recipe.valid_size or recipe.test_size
        looks = settings.total_epochs * watched + recipe.test_size
        return settings.steps * self.step + looks * self.image


def _noise(settings: Settings, count: int) -> Split:
    """A split like those of the settings' set; volumes are made as they are there."""
    recipe, draw = RECIPES[settings.data], np.random.default_rng(0)
    labels = draw.integers(0, 10, count, np.uint8)
    if recipe.axes == 3:
        side = extruded.DEPTH
        digits = Digits(draw.integers(0, 256, (count, side, side), np.uint8), labels)
        return extruded.generate("noise", digits, count, seed=0)
    if settings.encoder:  # pairs: of the set's number of images, or of more for large batches
        n = max(recipe.test_size, math.isqrt(count) + 2)
        images = draw.integers(0, 256, (n, *recipe.shape), np.uint8)
        return Pairs(images, labels[:n], np.zeros((n, 4), np.int16), np.zeros((n, 4, 4, 2)))
    shape = count, *recipe._replace(canvas=settings.canvas).shape
    return Split(draw.integers(0, 256, shape, np.uint8), labels, np.zeros((count, 4), np.int16))


def _seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def costs(
    runs: Sequence[Settings], device: Device | None = None, team: Team | None = None
) -> dict[str, Cost]:
    """One Cost for each network among the runs, on the GPU or with the processes that train."""
    first: dict[str, Settings] = {}
    for settings in runs:
        first.setdefault(settings.network, settings)
    found = {}
    for network, settings in first.items():
        found[network] = Cost(settings, device, team)
        gc.collect()  # the trainer may be part of a cycle, and hold much memory
    return found


def describe(runs: Sequence[Settings], cost: dict[str, Cost]) -> str:
    """The plan as text: a line for each network, then the sum in hours and megabytes."""
    lines, width = [], max(map(len, cost))
    for network in cost:
        mine = [settings for settings in runs if settings.network == network]
        seconds = sum(cost[network].seconds(settings) for settings in mine)
        lines.append(
            f"  {network:<{width}} {len(mine):>2} {'run' if len(mine) == 1 else 'runs'} of "
            f"{mine[0].length:>10}, {cost[network].step:6.2f} s a step: {hours(seconds)}"
        )
    disk = sum(cost[settings.network].parameters for settings in runs) * BYTES_PER_PARAMETER
    lines.append(
        f"  together {len(runs)} {'run' if len(runs) == 1 else 'runs'}, "
        f"{hours(total(runs, cost))}, {disk / 1e6:.0f} MB of checkpoints"
    )
    return "\n".join(lines)


def total(runs: Sequence[Settings], cost: dict[str, Cost]) -> float:
    """Seconds of all the runs, one after another."""
    return sum(cost[settings.network].seconds(settings) for settings in runs)


def hours(seconds: float) -> str:
    """A duration as people say it."""
    if seconds < 90:
        return f"{seconds:.0f} seconds"
    if seconds < 5400:
        return f"{seconds / 60:.0f} minutes"
    return f"{seconds / 3600:.1f} hours"
