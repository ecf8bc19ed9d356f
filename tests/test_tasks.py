"""What is learned: losses of one label and of several, their gradients, what counts as wrong."""

from itertools import product

import numpy as np
import pytest

from ministn import fit, ops
from ministn.data import Split
from ministn.layers import Dense, Flatten, Layer, Sequential
from ministn.models import Network
from ministn.optimizers import Adam, Optimizer
from ministn.parallel import Team
from ministn.parameter import ParameterBuffer
from ministn.randomness import Step
from ministn.tasks import Classification
from ministn.tasks.task import wrong
from ministn.training.steps import CpuSteps, Epoch

N, T, K = 5, 3, 4


def answers(*shape, dtype=np.float64, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(*shape, K)).astype(dtype), rng.integers(0, K, shape)


def by_hand(y, labels):
    """-log p of every label."""
    p = np.exp(y) / np.exp(y).sum(-1, keepdims=True)
    return -np.log(np.take_along_axis(p, labels[..., None], -1)[..., 0])


@pytest.mark.parametrize("shape", [(N,), (N, T), (1, 1), (1, T)])
@pytest.mark.parametrize("over", ["mean", "sum"])
def test_loss_and_its_gradient(shape, over):
    y, labels = answers(*shape)
    task = Classification(over=over)
    loss, cache = task.loss(y, labels)
    each = by_hand(y, labels).reshape(shape[0], -1)
    np.testing.assert_allclose(loss, getattr(each, over)(axis=1).mean(), rtol=1e-14)
    dy, step = task.loss_backward(cache), 1e-6
    assert dy.shape == y.shape
    for place in product(*map(range, y.shape)):
        moved = np.zeros_like(y)
        moved[place] = step
        slope = (task.loss(y + moved, labels)[0] - task.loss(y - moved, labels)[0]) / (2 * step)
        np.testing.assert_allclose(dy[place], slope, rtol=1e-6, atol=1e-10)
    np.testing.assert_allclose(task.loss_backward(cache, 0.25), dy / 4, rtol=1e-15)


def test_one_label_is_what_it_was_bit_for_bit():
    y, labels = answers(N, dtype=np.float32)
    loss, cache = Classification().loss(y, labels)
    expected, kept = ops.softmax_cross_entropy(y, labels)
    assert loss == expected
    np.testing.assert_array_equal(
        Classification().loss_backward(cache, 0.5), ops.softmax_cross_entropy_backward(kept, 0.5)
    )


def test_what_is_wrong_is_counted_by_label_or_by_sequence():
    y = np.eye(K)[[[0, 1], [0, 2], [3, 3]]]
    labels = np.array([[0, 1], [0, 1], [0, 0]])
    split = Split(np.zeros((3, 2, 2), np.uint8), labels, np.zeros((3, 4), np.int16))
    by_label, by_sequence = (
        Classification(counts=counts).judge((y, None), split) for counts in ("label", "sequence")
    )
    assert by_label.error == pytest.approx(50) and by_sequence.error == pytest.approx(200 / 3)
    assert by_label.correct.tolist() == [True, True, True, False, False, False]
    assert by_sequence.correct.tolist() == [True, False, False]
    assert by_label.loss == by_sequence.loss == pytest.approx(by_hand(y, labels).mean())
    assert wrong(Classification(), y, labels) == 3


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Classification(counts="word"), "counts must be label or sequence, got word"),
        (lambda: Classification(over="all"), "over must be mean or sum, got all"),
        (lambda: Classification().loss(np.zeros((2, 3, 4)), np.zeros((2, 4), int)), r"\(2, 4\)"),
        (lambda: Classification().loss(np.zeros((2, 3)), np.zeros((2, 1), int)), "y must have"),
        (lambda: Classification().loss(np.zeros(3), np.zeros((), int)), r"got \(3,\) with \(\)"),
    ],
)
def test_impossible_values_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


class Places(Layer):
    """(N, T K) -> (N, T, K)."""

    path = "places"

    def forward(self, x, step=None):
        return x.reshape(len(x), T, K), None

    def backward(self, dy, cache, need_dx=True):
        return dy.reshape(len(dy), -1)

    def parameters(self):
        return []


def network():
    return Network(Sequential(Flatten("flatten"), Dense("softmax", 36, T * K), Places()))


def sequences(count=24):
    """Images of 6x6 whose rows, two by two, are as bright as a label says."""
    labels = np.random.default_rng(1).integers(0, K, (count, T))
    levels = np.repeat(np.eye(K, 6)[labels], 2, axis=1)
    return (levels * 255).astype(np.uint8), labels


def test_sequences_are_learned_by_fit_and_by_steps_in_any_cut():
    images, labels = sequences()
    task = Classification(counts="sequence", over="sum")
    trained = network()
    losses = fit.train(trained, images, labels, steps=60, batch_size=8, lr=0.05, task=task)
    assert losses[-1] < 0.1 < losses[0]
    split = Split(images, labels, np.zeros((len(images), 4), np.int16))
    gradients = []
    for size in (1, 2):
        own = network()
        optimizer = Optimizer(Adam(), ParameterBuffer(own.parameters(), 3))
        with_team = Team() if size == 1 else None
        if with_team is None:
            parts = [slice(0, 5), slice(5, 8)]
            for part in parts:
                y, cache = own.forward(ops.as_batch(images[part]), Step(3, 0, part.start))
                _, kept = task.loss(y, labels[part])
                own.backward(task.loss_backward(kept, (part.stop - part.start) / 8), cache)
        else:
            steps = CpuSteps(own, optimizer, split, 8, 3, task, with_team, None)
            steps.begin(Epoch(1, np.arange(24), [0.0] * 3, 0), 0)
            steps.take(0)
            (outcome,) = steps.outcomes()
            assert outcome.images == 8 and 0 < outcome.errors <= 24
        gradients.append(optimizer.buffer.grad.copy())
    np.testing.assert_allclose(gradients[0], gradients[1], rtol=1e-4, atol=1e-6)
