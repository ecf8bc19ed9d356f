"""Each kind of task: its gradient by differences, how batches are cut, what a record keeps."""

import json
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import pytest
from helpers import difference_quotient, normal

from ministn.data.colocalisation import Compared
from ministn.kinds import from_json, to_json
from ministn.tasks import Classification, Colocalisation, Task

PAIRS = np.array([[0, 1], [1, 0], [2, 3], [0, 2]], np.int32)


class Example(NamedTuple):
    """Outputs of a network for a batch, and its labels. learning: how many columns of y learn."""

    task: Task
    y: np.ndarray
    labels: Any
    learning: int


# By kind. Whatever is added has its entry here.
TASKS = {
    "classification": [
        Example(Classification(), normal(5, 4), np.array([0, 3, 1, 1, 2]), 4),
        Example(Classification(epsilon=0.3), normal(3, 2, 4), np.arange(6).reshape(3, 2) % 4, 4),
        Example(
            Classification("sequence", over="sum"),
            normal(3, 2, 4),
            np.arange(6).reshape(3, 2) % 4,
            4,
        ),
    ],
    "colocalisation": [
        Example(Colocalisation(), normal(4, 6), Compared(PAIRS, np.zeros((4, 4)), (9, 9)), 3),
    ],
}
every = pytest.mark.parametrize(
    "example", [each for examples in TASKS.values() for each in examples], ids=lambda e: str(e.task)
)


@every
def test_its_gradient_is_that_of_its_loss(example):
    task, y, labels, learning = example
    _, cache = task.loss(y, labels)
    dy = task.loss_backward(cache)
    slope = difference_quotient(lambda moved: task.loss(moved, labels)[0], y)
    np.testing.assert_allclose(dy[..., :learning], slope[..., :learning], rtol=1e-6, atol=1e-9)
    assert dy.shape == y.shape and dy[..., :learning].any() and not dy[..., learning:].any()
    np.testing.assert_allclose(task.loss_backward(cache, 0.25), dy / 4, rtol=1e-14)


@every
def test_a_batch_that_may_be_cut_is_the_sum_of_its_parts(example):
    task, y, labels, _ = example
    if task.divisible:
        parts = [(y[:1], labels[:1]), (y[1:], labels[1:])]
        shares = sum(len(part) / len(y) * task.loss(part, truth)[0] for part, truth in parts)
        assert shares == pytest.approx(task.loss(y, labels)[0], rel=1e-12)
    assert task.queued == (type(task).answers is not Task.answers)


@every
def test_what_a_record_keeps_of_it(example):
    assert from_json(json.loads(json.dumps(to_json(example.task)))) == example.task
    assert replace(example.task) == example.task
