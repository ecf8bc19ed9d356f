"""Where the time of a training step goes: of the first worker, while all of them work."""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from statistics import median
from typing import Any
from unittest.mock import patch

from benchmarks.record import Row
from benchmarks.sides import Job, our_step
from ministn import parallel
from ministn.layers import (
    AvgPool2d,
    Bounded,
    Conv2d,
    Dense,
    Dropout,
    Flatten,
    LeakyReLU,
    MaxPool2d,
    Projection,
    ReLU,
    Reshape,
    Standardised,
    Tanh,
)
from ministn.parameter import ParameterBuffer
from ministn.recurrent import GRU, Mean
from ministn.transformer.samplers import Sampler
from ministn.transformer.transforms import Affine, Affine3d, Linear, Projective

BOTH_WAYS = ("forward", "backward")


def _both(*kinds: type) -> list[tuple[type, str]]:
    return [(kind, way) for kind in kinds for way in BOTH_WAYS]


# None of these calls another of them. What is left of a step is "rest": taking the batch, the loss,
# watching theta, messages between the workers, and waiting for the slowest.
PARTS: dict[str, list[tuple[type, str]]] = {
    "convolutions": _both(Conv2d),
    "dense": _both(Dense),
    "gru": _both(GRU),
    "sampler": _both(Sampler),
    "grid": _both(Affine, Affine3d, Linear, Projective),
    "pools": _both(MaxPool2d, AvgPool2d, Projection),  # AvgPool3d's are AvgPool2d's
    "others": _both(ReLU, LeakyReLU, Tanh, Bounded, Dropout, Flatten, Reshape, Standardised, Mean),
    "zeroing": [(ParameterBuffer, "zero_grad")],
}
UPDATE, REST = "update", "rest"  # update: the sum of the workers' gradients, and the optimiser


def profile(job: Job, warm_up: int, rounds: int) -> Row:
    """Median seconds of a step, "ours", and of its parts."""
    steps: list[dict[str, float]] = []
    with parallel.team(job.cores) as team, watched(type(team.exchange)) as seconds:
        step = our_step(job, team)
        for _ in range(warm_up + rounds):
            seconds.update(dict.fromkeys(seconds, 0.0))
            start = time.perf_counter()
            step()
            whole = time.perf_counter() - start
            steps.append({"ours": whole, **seconds, REST: whole - sum(seconds.values())})
    counted = steps[warm_up:]
    return {part: median(step[part] for step in counted) for part in counted[0]}


@contextmanager
def watched(exchange: type) -> Iterator[dict[str, float]]:
    """The seconds of each part in this process so far, while the block lasts."""
    seconds: dict[str, float] = {}
    with ExitStack() as stack:
        for part, methods in [*PARTS.items(), (UPDATE, [(exchange, "update")])]:
            seconds[part] = 0.0
            for kind, name in methods:
                counting = _counting(getattr(kind, name), seconds, part)
                stack.enter_context(patch.object(kind, name, counting))
        yield seconds


def _counting(
    method: Callable[..., Any], seconds: dict[str, float], part: str
) -> Callable[..., Any]:
    def counted(*arguments: Any, **named: Any) -> Any:
        start = time.perf_counter()
        try:
            return method(*arguments, **named)
        finally:
            seconds[part] += time.perf_counter() - start

    return counted
