"""Right calls of what trains and measures: optimisers, parameters, fit, metrics."""

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from odd import RNG, Call, floats
from odd_layers import network

from ministn import fit, interop, optimizers, parallel, randomness, schedules
from ministn.initializers import Constant, GlorotUniform, HeUniform, Normal, Uniform
from ministn.metrics import alignment, attention, final_pose, parts, pose, statistics
from ministn.optimizers import SGD, Adam, Optimizer
from ministn.parameter import Parameter, ParameterBuffer, unique
from ministn.tasks import Classification
from ministn.training.protocol import Training

BYTES = RNG.integers(0, 256, (4, 5, 6), np.uint8)
LABELS = np.array([0, 3, 1, 2])
FOLDER = TemporaryDirectory()
TASK = Classification()
TRAINING = Training(epochs=1, batch_size=2, lr=0.01, loc_lr=0.5)
RATES = {"lr": 0.01, "seed": 3, "task": TASK}


def initializer_calls() -> Iterator[tuple[str, Call]]:
    for made, name, value in (
        (HeUniform, "gain", 1.4),
        (GlorotUniform, "gain", 1.0),
        (Uniform, "bound", 0.1),
        (Normal, "std", 0.1),
        (Constant, "value", 0.5),
    ):
        yield f"initializers.{made.__name__}", Call(made, {name: value}, any_kind="value")


def buffer(*more: Parameter) -> ParameterBuffer:
    return ParameterBuffer([Parameter("layer/weight", (2, 3), HeUniform()), *more], seed=0)


def parameter_calls() -> Iterator[tuple[str, Call]]:
    one = Parameter("weight", (2, 3), HeUniform())
    yield (
        "parameter.Parameter",
        Call(Parameter, {"name": "weight", "shape": (2, 3), "initial": HeUniform()}),
    )
    yield "parameter.Parameter.add", Call(ready_parameter, {"gradient": floats(2, 3)})
    yield "parameter.unique", Call(unique, {"parameters": [one]}, any_kind="parameters")
    yield (
        "parameter.ParameterBuffer",
        Call(
            ParameterBuffer,
            {"parameters": [one], "seed": 3, "dtype": np.float32},
            any_kind="dtype parameters",
        ),
    )
    yield "parameter.ParameterBuffer.views", Call(buffer().views, {"flat": floats(8)})


def ready_parameter(gradient):
    one = Parameter("weight", (2, 3), HeUniform())
    ParameterBuffer([one], 0)
    one.add(gradient)
    return one.grad


def optimizer(**limits) -> Optimizer:
    made = Optimizer(Adam(), buffer(), **limits)
    made.buffer.grad[...] = 0.5
    return made


def optimizer_calls() -> Iterator[tuple[str, Call]]:
    limits = {"clip": 0.5, "clip_norm": 2.0}
    yield (
        "optimizers.check_clipping",
        Call(optimizers.check_clipping, limits, any_kind="clip clip_norm"),
    )
    yield (
        "optimizers.Optimizer",
        Call(Optimizer, {"rule": SGD(), "buffer": buffer()} | limits, any_kind="clip clip_norm"),
    )

    def step(**given):
        made = optimizer()
        made.step(**given)
        return made.buffer.data

    def limit(**given):
        optimizer(**limits).limit(**given)

    def update(**given):
        made = optimizer()
        made.update(**given)
        return made.buffer.data

    yield "optimizers.Optimizer.step", Call(step, {"lr": 0.1})
    yield "optimizers.Optimizer.step_sizes", Call(optimizer().step_sizes, {"lr": 0.1, "t": 3})
    yield "optimizers.Optimizer.limit", Call(limit, {"grad": floats(8)}, also="g", written="grad")
    yield (
        "optimizers.Optimizer.update",
        Call(
            update,
            {"step_sizes": [0.1], "grad": floats(8), "part": slice(2, 5)},
            also="g step_size",
            any_kind="part",
        ),
    )
    yield "schedules.StepDecay.at", Call(schedules.StepDecay().at, {"number": 30})
    yield "schedules.StepDecay.compressed", Call(schedules.StepDecay().compressed, {"times": 2.0})
    yield "schedules.compressed", Call(schedules.compressed, {"length": 30, "times": 2.0})


def randomness_calls() -> Iterator[tuple[str, Call]]:
    step = {"seed": 3, "number": 2, "first_row": 4, "call": 1, "dropout": 0.5}
    yield "randomness.Step", Call(randomness.Step, step)
    yield "randomness.stream", Call(randomness.stream, {"name": "layer"})
    yield (
        "randomness.generator",
        Call(
            lambda seed, purpose, counters: randomness.generator(seed, purpose, counters).random(3),
            {"seed": 3, "purpose": "shuffle", "counters": 2},
            also="name",
        ),
    )


def fitted(network=None, workers=1, **arguments):
    network = fresh_network() if network is None else network
    if workers in (2, 3):  # which would start, as test_parallel.py has them do
        workers = 1
    fit.fit(network, workers=workers, quiet=True, **{"training": TRAINING} | arguments)
    return [parameter.data for parameter in network.parameters()]


def fresh_network():
    return network()


def trained_on_batch(network=None, optimizer=None, **arguments):
    ours = fresh_network()
    made = Optimizer(Adam(), ParameterBuffer(ours.parameters(), seed=0))
    return fit.train_on_batch(network or ours, optimizer or made, **arguments)


def inside(path):
    """Texts name files below a folder of their own."""
    return Path(FOLDER.name) / path if isinstance(path, str) else path


def saved(network, path):
    fit.save(network, inside(path))


def loaded(path):
    saved(ready(), "network")
    return fit.load(inside(path)).parameters()[0].data


def ready():
    made = network()
    ParameterBuffer(made.parameters(), seed=0)
    return made


def fit_calls() -> Iterator[tuple[str, Call]]:
    data = {"images": BYTES, "labels": LABELS}
    whole = {
        "training": TRAINING,
        "task": TASK,
        "valid": 0.5,
        "seed": 3,
        "workers": 1,
        "device": None,
    }
    yield "fit.fit", Call(fitted, data | whole, also="x")
    yield "fit.train_on_batch", Call(trained_on_batch, data | RATES, also="x")
    yield (
        "fit.fit(network, quiet)",
        Call(
            lambda network, quiet: fit.fit(network, BYTES, LABELS, TRAINING, quiet=quiet).epochs,
            {"network": network(), "quiet": True},
        ),
    )
    ours = network()
    made = Optimizer(Adam(), ParameterBuffer(ours.parameters(), seed=0))
    yield "fit.predict", Call(fit.predict, {"network": ready(), "images": BYTES}, also="x")
    yield "fit.save", Call(saved, {"network": ours, "path": "network"}, also="save")
    yield "fit.load", Call(loaded, {"path": "network"}, also="not exist")
    yield (
        "fit.train_on_batch(network)",
        Call(
            lambda network, optimizer: fit.train_on_batch(network, optimizer, BYTES, LABELS),
            {"network": ours, "optimizer": made},
        ),
    )


def interop_calls() -> Iterator[tuple[str, Call]]:
    sizes = {"theta": floats(3, 2, 3), "input_size": (5, 6), "output_size": (3, 4)}
    for name in ("theta_from_half_pixel", "theta_to_half_pixel"):
        yield f"interop.{name}", Call(getattr(interop, name), sizes)


def metrics_calls() -> Iterator[tuple[str, Call]]:
    theta = floats(3, 2, 3)
    boxes = np.array([[1, 1, 3, 4], [0, 2, 4, 4], [2, 0, 5, 3]], np.float32)
    quad = np.sort(floats(3, 4, 2) * 4, axis=1)
    size = {"size": (5, 6)}
    attended = {"theta": theta, "boxes": boxes}
    grid, poses = floats(3, 4, 4, 2), floats(3, 4, 4, 2)
    yield (
        "metrics.attention.summary",
        Call(lambda **k: [*attention.summary(**k).values()], attended | size, any_kind="theta"),
    )
    yield "metrics.attention.quadrilateral", Call(attention.quadrilateral, {"theta": theta} | size)
    yield "metrics.attention.overlap", Call(attention.overlap, {"quad": quad, "boxes": boxes})
    yield "metrics.attention.inside", Call(attention.inside, {"quad": quad, "boxes": boxes})
    yield "metrics.attention.correlation", Call(attention.correlation, attended)
    yield "metrics.attention.wander", Call(attention.wander, attended | size)
    places = np.abs(floats(3, 4, 2))
    yield "metrics.parts.within", Call(parts.within, {"theta": theta, "points": places} | size)
    some = np.concatenate([places, np.ones((3, 4, 1), np.float32)], axis=2)
    yield "metrics.parts.shares", Call(parts.shares, {"theta": theta, "parts": some} | size)
    yield "metrics.pose.distance", Call(pose.distance, {"grid": grid, "poses": poses} | size)
    yield "metrics.pose.spread", Call(pose.spread, {"grid": grid, "poses": poses} | size)
    yield (
        "metrics.pose.summary",
        Call(pose.summary, {"grid": grid[:, None], "poses": poses} | size, any_kind="grid"),
    )
    classes, reach = np.array([0, 1, 0]), {"reach": (2.5, 2.0)}
    final = {"theta": theta, "poses": poses, "labels": classes} | reach
    yield "metrics.final_pose.spread", Call(final_pose.spread, final, also="values")
    yield (
        "metrics.final_pose.summary",
        Call(
            lambda **k: [v for v in final_pose.summary(**k).values() if v is not None],
            {"theta": theta, "poses": poses, "labels": classes, "field": floats(3, 2)} | size,
            also="values",
            any_kind="theta field",
        ),
    )
    yield "metrics.final_pose.turns", Call(final_pose.turns, {"theta": theta, "poses": poses})
    yield "metrics.final_pose.angle", Call(final_pose.angle, {"theta": theta})
    yield "metrics.final_pose.nearest_affine", Call(final_pose.nearest_affine, {"poses": poses})
    yield "metrics.final_pose.log2_area", Call(final_pose.log2_area, {"theta": theta})
    within = {"values": floats(3, 2), "labels": classes}
    yield "metrics.final_pose.within_classes", Call(final_pose.within_classes, within)
    points = {"x": floats(5), "y": floats(5)}
    yield (
        "metrics.final_pose.orthogonal_regression",
        Call(final_pose.orthogonal_regression, points),
    )
    yield (
        "metrics.statistics.over_seeds",
        Call(statistics.over_seeds, {"differences": [0.1, 0.3, 0.2]}, also="seeds"),
    )
    maps = {"maps": floats(2, 3, 4, 1), "moved": floats(2, 3, 4, 1)}
    yield "metrics.alignment.residual", Call(alignment.residual, maps)
    starts = {"starts": floats(2, 2, 3)}
    yield "metrics.alignment.best_affine", Call(alignment.best_affine, maps | starts)
    counts = {"errors": 2, "n": 9, "confidence": 0.9}
    yield "metrics.statistics.binomial_interval", Call(statistics.binomial_interval, counts)
    correct = {
        "correct_a": np.array([True, False, True]),
        "correct_b": np.array([True, True, False]),
    }
    yield "metrics.statistics.paired_test", Call(statistics.paired_test, correct)
    only = {"only_a": 2, "only_b": 1, "n": 9}
    yield "metrics.statistics.difference_interval", Call(statistics.difference_interval, only)


def teamed(workers, threads):
    if workers in (2, 3):  # which would start, as test_parallel.py has them do
        return workers
    with parallel.team(workers, threads) as made:
        return made.size


def parallel_calls() -> Iterator[tuple[str, Call]]:
    yield "parallel.team", Call(teamed, {"workers": 1, "threads": 1})
    yield "parallel.Team", Call(parallel.Team, {"threads": 1})
    yield "parallel.Team.cut", Call(parallel.Team().cut, {"count": 3})


CALLS = {
    name: call
    for calls in (
        initializer_calls,
        parameter_calls,
        optimizer_calls,
        randomness_calls,
        fit_calls,
        interop_calls,
        metrics_calls,
        parallel_calls,
    )
    for name, call in calls()
}
