"""What a set of runs will cost on this machine, from a few timed steps of each network."""

import gc
import time
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from dataclasses import replace
from functools import partial

from ministn.backend import Device
from ministn.cuda.choice import precision
from ministn.data import DataSet
from ministn.models.prediction import BATCH
from ministn.parallel import Team
from ministn.runs.settings import Settings
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
        data, training = settings.data, settings.training
        batch = min(training.batch_size, data.train_size)
        tries = CPU_TRIES if device is None else GPU_TRIES
        team, turns = team or Team(), settings.network.build(data.form).turns
        # So many that no epoch ends while it is timed.
        train = data.noise((tries * turns + 1) * batch)
        # A task that compares images may judge them beside those that it is trained on.
        judged = data.noise(BATCH * team.size) if settings.task.divisible else train
        never_ending = replace(training, batch_size=batch, epochs=1, iterations=None)
        trainer = Trainer(
            partial(settings.network.build, data.form),
            never_ending,
            DataSet(train, None, judged),
            settings.task,
            precision=settings.precision,
            say=lambda line: None,
            device=device,
            team=team,
        )
        self.parameters = trainer.buffer.count

        def steps() -> None:
            for _ in range(turns):
                trainer.step()
                trainer.catch_up()

        self.step = min(_seconds(steps) for _ in range(tries)) / turns
        judge, watched = trainer.steps.evaluate, trainer.watched
        with precision(settings.precision):
            evaluations = (_seconds(lambda: judge(watched)) for _ in range(tries))
            self.image = min(evaluations) / len(judged.images)

    def seconds(self, settings: Settings) -> float:
        """Of a whole run: training, a look at a split after every epoch, one test at the end."""
        data = settings.data
        looks = settings.total_epochs * data.watched_size + data.test_size
        return settings.steps * self.step + looks * self.image


def _seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def alike(settings: Settings) -> Hashable:
    """What is the same for runs whose steps take as long."""
    return settings.network, settings.data.form, settings.training.batch_size, settings.precision


def costs(
    runs: Sequence[Settings], device: Device | None = None, team: Team | None = None
) -> dict[Hashable, Cost]:
    """One Cost for all runs that are ``alike``, on the GPU or with the processes that train."""
    found: dict[Hashable, Cost] = {}
    for settings in runs:
        if alike(settings) not in found:
            found[alike(settings)] = Cost(settings, device, team)
            gc.collect()  # the trainer may be part of a cycle, and hold much memory
    return found


def describe(runs: Sequence[Settings], cost: dict[Hashable, Cost]) -> str:
    """The plan as text: a line for each network, then the sum in hours and megabytes."""
    groups = {key: [each for each in runs if alike(each) == key] for key in cost}
    same_name = Counter(mine[0].network.name for mine in groups.values())
    names = {
        key: mine[0].network.name
        if same_name[mine[0].network.name] == 1
        else f"{mine[0].network.name} on {', '.join(dict.fromkeys(s.data.name for s in mine))}"
        for key, mine in groups.items()
    }
    lines, width = [], max(map(len, names.values()))
    for key, mine in groups.items():
        seconds = sum(cost[key].seconds(settings) for settings in mine)
        lines.append(
            f"  {names[key]:<{width}} {len(mine):>2} {'run' if len(mine) == 1 else 'runs'} of "
            f"{mine[0].training.length:>10}, {cost[key].step:7.3f} s a step: {hours(seconds)}"
        )
    disk = sum(cost[alike(settings)].parameters for settings in runs) * BYTES_PER_PARAMETER
    lines.append(
        f"  together {len(runs)} {'run' if len(runs) == 1 else 'runs'}, "
        f"{hours(total(runs, cost))}, {disk / 1e6:.0f} MB of checkpoints"
    )
    return "\n".join(lines)


def total(runs: Sequence[Settings], cost: dict[Hashable, Cost]) -> float:
    """Seconds of all the runs, one after another."""
    return sum(cost[alike(settings)].seconds(settings) for settings in runs)


def hours(seconds: float) -> str:
    """A duration as people say it."""
    if seconds < 90:
        return f"{seconds:.0f} seconds"
    if seconds < 5400:
        return f"{seconds / 60:.0f} minutes"
    return f"{seconds / 3600:.1f} hours"
