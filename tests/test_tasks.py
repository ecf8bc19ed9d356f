"""What is learned: losses of one label and of several, their gradients, what counts as wrong."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import small_runs

from ministn import fit, ops
from ministn.backend import device_of
from ministn.data import Fresh, Split
from ministn.data.dataset import Digits
from ministn.errors import UserError
from ministn.initializers import Constant
from ministn.layers import Dense, Flatten, Layer, Sequential
from ministn.models import Network
from ministn.optimizers import Adam, Optimizer
from ministn.parallel import Team
from ministn.parameter import ParameterBuffer
from ministn.randomness import Step
from ministn.tasks import Classification, Evaluation, Task
from ministn.training.steps import Epoch, PlainSteps, QueuedSteps
from ministn.training.trainer import Trainer
from ministn.transformer import SpatialTransformer
from ministn.transformer.transforms import AFFINE

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


@pytest.mark.parametrize("over", ["mean", "sum"])
def test_epsilon_is_added_to_every_probability(over):
    """And so the gradient of what is hopeless is small: the one of t = 1 in the first image."""
    y, labels = answers(N, T)
    y[0, 1, labels[0, 1]] = -40
    task = Classification(over=over, epsilon=1e-5)
    loss, cache = task.loss(y, labels)
    losses = -np.log(np.exp(-by_hand(y, labels)) + 1e-5)
    assert losses.max() == losses[0, 1] == pytest.approx(-np.log(1e-5))
    np.testing.assert_allclose(loss, getattr(losses, over)(axis=1).mean(), rtol=1e-12)
    dy = np.abs(task.loss_backward(cache)).max(axis=2)
    assert dy[0, 1] < 1e-11 and (dy > 1e-3).sum() == N * T - 1


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
        Classification(counts=counts).judge((y, []), split) for counts in ("label", "sequence")
    )
    assert by_label.error == pytest.approx(50) and by_sequence.error == pytest.approx(200 / 3)
    assert by_label.correct.tolist() == [[True, True], [True, False], [False, False]]
    assert by_label.errors("test") == {
        "test_error": by_label.error,
        "test_sequence_error": by_sequence.error,
    }
    assert by_sequence.errors("test") == {"test_error": by_sequence.error}
    assert by_sequence.correct.tolist() == [True, False, False]
    assert by_label.loss == by_sequence.loss == pytest.approx(by_hand(y, labels).mean())
    for counts, count in (("label", 3), ("sequence", 2)):
        assert Classification(counts=counts).wrong(y, labels, []) == count


@pytest.mark.parametrize(
    ("counts", "shape", "answers_are", "per_image"),
    [
        ("label", (N,), (N, 1), 1),
        ("sequence", (N,), (N, 1), 1),
        ("label", (N, T), (N * T, 1), T),
        ("sequence", (N, T), (N, T), 1),
        ("label", (0, T), (0, 1), T),
        ("sequence", (N, 1), (N, 1), 1),
    ],
)
def test_answers_are_labels_or_sequences(counts, shape, answers_are, per_image):
    y, labels = answers(*shape)
    task = Classification(counts=counts)
    scores, truth = task.answers(y, labels)
    assert scores.shape == (*answers_are, K) and truth.shape == answers_are
    np.testing.assert_array_equal(scores.ravel(), y.ravel())
    np.testing.assert_array_equal(truth.ravel(), labels.ravel())
    assert task.per_image(labels) == per_image
    assert len(truth) == shape[0] * per_image


def test_nan_is_the_largest_of_scores():
    y = np.array([[[np.nan, 1], [0, np.nan]]])
    for label, count in (([0, 1], 0), ([1, 1], 1), ([1, 0], 2)):
        assert Classification().wrong(y, np.array([label]), []) == count
        assert Classification("sequence").wrong(y, np.array([label]), []) == (count > 0)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Classification().loss(np.zeros((2, 3, 4)), np.zeros((2, 4), int)), r"\(2, 4\)"),
        (lambda: Classification().loss(np.zeros((2, 3)), np.zeros((2, 1), int)), "y must have"),
        (lambda: Classification().loss(np.zeros(3), np.zeros((), int)), r"got \(3,\) with \(\)"),
    ],
)
def test_answers_of_other_shapes_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"counts": "word"}, "counts must be label or sequence, got word"),
        ({"over": "all"}, "over must be mean or sum, got all"),
        ({"epsilon": 0}, "epsilon must be a number from 1.2e-38 up, got 0"),
    ],
)
def test_impossible_values_are_named(fields, message):
    with pytest.raises(UserError, match=message):
        Classification(**fields)


def test_a_task_that_is_not_queued_need_not_say_which_answers_there_are():
    assert Squares.divisible and not Task.queued
    with pytest.raises(NotImplementedError, match="Squares is not queued"):
        Task.answers(Squares(), np.zeros((3, 2)), np.zeros(3))


class Places(Layer):
    """(N, T K) -> (N, T, K)."""

    path = "places"

    def __init__(self, places=T, classes=K):
        self.shape = places, classes

    def forward(self, x, step=None):
        return x.reshape(len(x), *self.shape), None

    def backward(self, dy, cache, need_dx=True):
        return dy.reshape(len(dy), -1)

    def parameters(self):
        return []


def network(front=None):
    return Network(Sequential(Flatten("flatten"), Dense("softmax", 36, T * K), Places()), front)


def sequences(count=24):
    """Images of 6x6 whose rows, two by two, are as bright as a label says."""
    labels = np.random.default_rng(1).integers(0, K, (count, T))
    levels = np.repeat(np.eye(K, 6)[labels], 2, axis=1)
    return (levels * 255).astype(np.uint8), labels


def test_sequences_are_learned_by_fit_and_by_steps_in_any_cut():
    images, labels = sequences()
    task = Classification(counts="sequence", over="sum")
    trained = network()
    training = fit.Training(epochs=20, batch_size=8, lr=0.05)
    found = fit.fit(trained, images, labels, training, task, valid=(images, labels), quiet=True)
    assert found.epochs[-1]["valid_loss"] < 0.1 < found.epochs[0]["train_loss"]
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
            steps = PlainSteps(own, optimizer, split, 8, 3, task, with_team, None)
            steps.begin(Epoch(1, np.arange(24), [0.0] * 3, 0), 0)
            steps.take(0)
            (outcome,) = steps.outcomes()
            assert outcome.images == 8 and 0 < outcome.errors <= 8
        gradients.append(optimizer.buffer.grad.copy())
    np.testing.assert_allclose(gradients[0], gradients[1], rtol=1e-4, atol=1e-6)


# ---- both engines


def outcomes(task, split, device, make=network, rate=0.05):
    """Of two epochs of batches of 10, 10 and 4 images, and the labels that a GPU keeps."""
    own = make()
    optimizer = Optimizer(Adam(), ParameterBuffer(own.parameters(), 3, device=device))
    common = own, optimizer, split, 10, 3, task
    steps = (
        PlainSteps(*common, Team(), make)
        if device is None
        else QueuedSteps(*common, device, captured=True)
    )
    found = []
    for epoch in (1, 2):
        order = np.random.default_rng(epoch).permutation(24)
        steps.begin(Epoch(epoch, order, [rate] * 3, 3 * (epoch - 1)), 0)
        for batch in range(3):
            steps.take(batch)
        found += steps.outcomes()
    return found, None if device is None else device.to_cpu(steps._labels)


def watched():
    """A network with a transformer whose attention has left every image."""
    localisation = Sequential(
        Flatten("localisation/flatten"),
        Dense("localisation/theta", 36, 6, initial_bias=Constant([1, 0, 9, 0, 1, 9])),
    )
    return network(SpatialTransformer(localisation, (6, 6), transform=AFFINE))


def made_anew(*, epoch, device=None, map=map):
    images, labels = sequences()
    shift = epoch + np.arange(24)
    images, labels = images[shift % 24], (labels[shift % 24] + epoch) % K
    return images if device is None else device.to_gpu(images), labels


IMAGES, LABELS = sequences()
SPLIT = Split(IMAGES, LABELS, np.zeros((24, 4), np.int16))


def test_a_split_has_a_label_and_a_box_for_each_image():
    for field, kept in (("labels", LABELS[:21]), ("boxes", SPLIT.boxes[:21])):
        with pytest.raises(ValueError, match=f"there must be {field} for each of 24 images, got 2"):
            replace(SPLIT, **{field: kept})
    with pytest.raises(ValueError, match="there must be labels for each of 24 images, got 21"):
        Digits(IMAGES, LABELS[:21])
    anew = Fresh(IMAGES.shape, (6, 6), Digits(IMAGES, LABELS), lambda **_: (IMAGES, LABELS[1:]))
    with pytest.raises(ValueError, match="there must be labels for each of 24 images, got 23"):
        anew.epoch(1)


FRESH = Fresh(IMAGES.shape, (6, 6), Digits(IMAGES, LABELS), made_anew)


def check_same(ours, theirs):
    for one, other in zip(ours, theirs, strict=True):
        assert one._replace(loss=0) == other._replace(loss=0)
        np.testing.assert_allclose(one.loss, other.loss, rtol=1e-4)


@pytest.mark.parametrize("make", [network, watched])
@pytest.mark.parametrize("split", [SPLIT, FRESH], ids=["split", "fresh"])
@pytest.mark.parametrize("over", ["mean", "sum"])
@pytest.mark.parametrize("counts", ["label", "sequence"])
def test_errors_while_training_are_the_same_on_a_gpu(quick_device, counts, over, split, make):
    task = Classification(counts, over)
    ours, labels = outcomes(task, split, quick_device, make)
    theirs, _ = outcomes(task, split, None, make)
    check_same(ours, theirs)
    assert labels.dtype == np.int32
    np.testing.assert_array_equal(labels, split.epoch(2).labels)
    assert [one.images for one in ours] == [10, 10, 4] * 2
    most = [one.images * task.per_image(LABELS) for one in ours]
    assert all(0 <= one.errors <= n for one, n in zip(ours, most, strict=True))
    assert ours[0].errors > most[0] / 2


def test_epsilon_is_the_same_on_a_gpu(quick_device):
    ours, theirs = (
        outcomes(Classification(epsilon=0.1), SPLIT, device)[0] for device in (quick_device, None)
    )
    check_same(ours, theirs)
    assert ours[0].loss < outcomes(Classification(), SPLIT, None)[0][0].loss - 0.1


@pytest.mark.parametrize("counts", ["label", "sequence"])
def test_errors_while_training_are_those_of_the_network(counts):
    """At a learning rate of 0, counted anew from what it makes of the images."""
    (found, _), own = outcomes(Classification(counts), SPLIT, None, rate=0.0), network()
    ParameterBuffer(own.parameters(), 3)
    missed = own.predict(ops.as_batch(IMAGES))[0].argmax(-1) != LABELS
    order = np.random.default_rng(1).permutation(24)
    for outcome, rows in zip(found, np.split(order, [10, 20]), strict=False):
        some = missed[rows]
        assert outcome.errors == (some.sum() if counts == "label" else some.any(axis=1).sum())


class Squares(Task):
    """To give back labels (N, 2) that are not whole numbers; an answer is wrong if y_0 <= y_1."""

    queued = True

    def loss(self, y, labels):
        d = y + labels * -1
        loss = (d * d).sum() / len(y)
        return (float(loss) if device_of(y) is None else loss.reshape(1)), d

    def loss_backward(self, d, weight=1.0):
        return d * (2 * weight / len(d))

    def answers(self, y, labels):
        device = device_of(y)
        zeros = np.zeros if device is None else device.zeros
        return y.reshape(len(y), 1, 2), zeros((len(y), 1), np.int32)

    def judge(self, predicted, split):
        y, looked = predicted
        return Evaluation(self.loss(y, split.labels)[0], y[:, 0] > y[:, 1], looked)


def test_labels_need_not_be_whole_numbers(quick_device):
    labels = np.random.default_rng(0).normal(size=(24, 2))
    split = Split(IMAGES, labels.astype(np.float32), np.zeros((24, 4), np.int16))

    def make():
        return Network(Sequential(Flatten("flatten"), Dense("out", 36, 2)))

    ours, kept = outcomes(Squares(), split, quick_device, make)
    theirs, _ = outcomes(Squares(), split, None, make)
    check_same(ours, theirs)
    np.testing.assert_array_equal(kept, split.labels)
    assert kept.dtype == np.float32 and ours[-1].loss < ours[0].loss


@pytest.mark.parametrize(("counts", "per_image"), [("label", 2), ("sequence", 1)])
@pytest.mark.parametrize("on_gpu", [False, True])
def test_the_training_error_is_of_answers(counts, per_image, on_gpu, quick_device, monkeypatch):
    """In percent: of two labels for each image, and of images."""
    task = Classification(counts)

    def build():
        return Network(Sequential(Flatten("flatten"), Dense("softmax", 81, 2 * 10), Places(2, 10)))

    data, errors = small_runs.data_set(), []
    split = {
        name: replace(one, labels=np.stack([one.labels, one.labels[::-1]], axis=1))
        for name, one in {"train": data.train, "valid": data.valid, "test": data.test}.items()
    }
    training = small_runs.changed(small_runs.SETTINGS, epochs=1).training
    device = quick_device if on_gpu else None
    trained = Trainer(
        build, training, replace(data, **split), task,
        seed=4, say=lambda line: None, device=device,
    )  # fmt: skip
    take = trained.steps.outcomes
    monkeypatch.setattr(trained.steps, "outcomes", lambda: noted(take(), errors))
    while not trained.finished:
        trained.step()
    (epoch,) = trained.state.history
    assert epoch["train_error"] == 100 * sum(errors) / (53 * per_image)
    assert 50 < epoch["train_error"] <= 100 and 50 < epoch["valid_error"] <= 100
    assert ("valid_sequence_error" in epoch) == (counts == "label")
    if counts == "label":
        assert epoch["valid_error"] <= epoch["valid_sequence_error"] <= 100


def noted(found, errors):
    errors += [outcome.errors for outcome in found]
    return found
