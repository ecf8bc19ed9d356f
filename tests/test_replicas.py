"""Replicas of a network in several processes are compared when they are made."""

import os
from functools import partial

import numpy as np
import pytest
from small_runs import SETTINGS, data_set

from ministn.errors import UserError
from ministn.initializers import Normal
from ministn.layers import Dense, Flatten, Layer, ReLU, Sequential
from ministn.models import Network
from ministn.optimizers import SGD, Adam, Optimizer
from ministn.parallel import Team, team
from ministn.parameter import Parameter, ParameterBuffer
from ministn.training import checkpoint
from ministn.training.trainer import Trainer

LEADER = os.getpid()


def built(leader: int, change: str):
    """A network and its optimiser, with a change in all processes but the first."""
    other = "" if os.getpid() == leader else change
    if other == "fails":
        raise ValueError("no luck")
    layers = [
        Flatten("flatten"),
        Dense("other" if other == "name" else "hidden", 81, 7 if other == "size" else 8),
        *([Dense("more", 8, 8)] if other == "more" else []),
        ReLU("relu"),
        Dense("softmax", 7 if other == "size" else 8, 10),
    ]
    network = Network(Sequential(*layers))
    if other == "rate":
        network.parameters()[0].lr_multiplier = 0.5
    if other == "warm-up":
        network.parameters()[0].warm_up = 9
    if other == "turns":
        network.parameters()[0].every = 2
    rule = {"rule": SGD(), "constant": Adam(beta1=0.8)}.get(other, Adam())
    return network, Optimizer(rule, ParameterBuffer(network.parameters(), 0))


DIFFERENCES = {
    "size": r"it has hidden/weight \(81, 7\), learning .*, the first process hidden/weight \(81, 8",
    "name": r"it has other/weight .*, the first process hidden/weight",
    "more": r"it has more/weight \(8, 8\), .*, the first process softmax/weight \(8, 10\)",
    "rate": r"it has hidden/bias .* times 1\.0, the first process hidden/weight",
    "warm-up": r"it has hidden/bias .*of 1, rate.*, the first process hidden/weight",
    "turns": r"it has hidden/bias .* in 1 of 1 steps.*, the first process hidden/weight",
    "rule": r"it has float32, SGD\(.*with v, the first process float32, Adam\(.*with m, v",
    "constant": r"it has float32, Adam\(beta1=0.8.*, the first process float32, Adam\(beta1=0.9",
}


@pytest.mark.parametrize("change", DIFFERENCES)
def test_a_difference_is_one_clear_error(change):
    build = partial(built, LEADER, change)
    wanted = f"worker 1 has built another network: {DIFFERENCES[change]}.* in every process"
    with team(3) as some, pytest.raises(UserError, match=wanted):
        some.ask_all("replicate", build, SETTINGS.task)


def test_equal_ones_and_one_that_cannot_be_built():
    with team(2) as some:
        some.ask_all("replicate", partial(built, LEADER, ""), SETTINGS.task)
        with pytest.raises(UserError, match="worker 1 failed: ValueError: no luck"):
            some.ask_all("replicate", partial(built, LEADER, "fails"), SETTINGS.task)


class Frozen(Layer):
    """x (N, D) -> x weight, with a weight that is not learned."""

    path = "frozen"

    def __init__(self, width: int) -> None:
        self.weight = Parameter("frozen/weight", (81, width), Normal(0.1))

    def forward(self, x, step=None):
        return x @ self.weight.data, None if step is None else x

    def backward(self, dy, cache, need_dx=True):
        return dy @ self.weight.data.T if need_dx else None

    def fixed_parameters(self):
        return [self.weight]


def frozen(leader: int, width: int) -> Network:
    width = 8 if os.getpid() == leader else width
    return Network(Sequential(Flatten("flatten"), Frozen(width), Dense("softmax", width, 10)))


def after_a_step(some: Team, pretrained, width: int = 8) -> np.ndarray:
    trainer = Trainer(
        partial(frozen, LEADER, width), SETTINGS.training, data_set(), SETTINGS.task,
        say=lambda line: None, team=some, pretrained=pretrained,
    )  # fmt: skip
    trainer.step()
    return trainer.optimizer.moments["m"].copy()


def test_what_is_not_learned_is_the_same_in_all_processes(tmp_path):
    """Pretrained weights are read by the first process only."""
    path = tmp_path / "pretrained"
    weight = np.random.default_rng(0).normal(size=(81, 8)).astype(np.float32)
    checkpoint.save(path, {"frozen/weight": weight}, {})
    alone = after_a_step(Team(), path)
    with team(2) as some:
        shared = after_a_step(some, path)
        np.testing.assert_allclose(shared, alone, atol=1e-5 * np.abs(alone).max())
        with pytest.raises(UserError, match=r"frozen/weight is \(81, 9\), that of the first .*8\)"):
            after_a_step(some, path, 9)
