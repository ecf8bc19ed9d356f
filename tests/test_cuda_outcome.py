"""What a training step came to, noted on the GPU: errors, attention that has left the image, steps.

Everything equals what the CPU counts.
"""

import re

import numpy as np
import pytest
from helpers import as_view, float32, normal

from ministn.cuda import outcome
from ministn.cuda.outcome import Log
from ministn.ops.left_image import LEFT_BELOW, POINTS, left_image
from ministn.tasks import Classification

# ---- the log: errors


def noted(device, loss, scores, labels, *thetas, log=None):
    """(errors, left) of one step. scores (M, K), labels (M,): of answers with one label each."""
    log = log or Log(device, 1)
    scores, labels = np.float32(scores), np.int32(labels)
    if scores.ndim == 2:
        scores, labels = scores[:, None], labels[:, None]
    given = np.float32([loss]), scores, labels
    log.note(*map(device.to_gpu, given), [device.to_gpu(theta) for theta in thetas])
    log.count_step()
    ((_, got, errors, left),) = log.read(0)
    np.testing.assert_array_equal(np.float32(got), np.float32(loss))
    return errors, left


class AsTheyAre(Classification):
    """A task whose network gives scores (M, T, K) themselves."""

    def answers(self, y, labels):
        return y, labels


@pytest.mark.parametrize("classes", [1, 2, 10])
@pytest.mark.parametrize("length", [1, 3])
@pytest.mark.parametrize("n", [1, 5, 256, 300])
def test_errors_are_those_of_argmax(device, n, length, classes):
    """Few different numbers: most rows have several maxima, and the first counts. Half of the
    labels are right in any case, so that some answers of three are.
    """
    rng = np.random.default_rng([n, length, classes])
    scores = rng.choice(
        np.float32([-1, 0, 1, -np.inf]), (n, length, classes), p=[0.3, 0.3, 0.3, 0.1]
    )
    labels = rng.integers(0, classes, (n, length))
    labels = np.where(rng.random(labels.shape) < 0.5, scores.argmax(-1), labels)
    expected = AsTheyAre().wrong(scores, labels, [])
    assert classes == 1 or n < 256 or n / 8 < expected < n
    assert noted(device, 0.5, scores, labels)[0] == expected


@pytest.mark.parametrize("n", [1, 300])
def test_several_wrong_labels_are_one_wrong_answer(device, n):
    """Every way in which three labels may be right and wrong, in turn."""
    ways = np.array([[i >> t & 1 for t in range(3)] for i in range(8)])
    labels = np.resize(ways, (n, 3))
    scores = np.zeros((n, 3, 2), np.float32)  # every answer is 0
    assert noted(device, 0.5, scores, labels)[0] == n - -(-n // 8)
    for way in ways:
        assert noted(device, 0.5, scores[:1], way[None])[0] == way.any()


@pytest.mark.parametrize("scores", [(2, 3), (2, 1, 3), (3, 2, 3), (2, 2, 3, 1)])
def test_answers_of_other_shapes_are_named(device, scores):
    given = np.zeros(1, np.float32), np.zeros(scores, np.float32), np.zeros((2, 2), np.int32)
    with pytest.raises(ValueError, match=re.escape(f"(M, T), got {scores} and (2, 2)")):
        Log(device, 1).note(*map(device.to_gpu, given), [])


def test_answers_are_counted_by_one_launch(device, monkeypatch):
    names = []
    monkeypatch.setattr(outcome, "launch", lambda file, name, *_: names.append(name))
    given = np.zeros(1, np.float32), np.zeros((300, 3, 2), np.float32), np.zeros((300, 3), np.int32)
    Log(device, 1).note(*map(device.to_gpu, given), [])
    assert names == ["note_loss"]


def test_answers_may_be_views(device):
    scores = normal(5, 3, 4).astype(np.float32)
    labels = scores.argmax(-1).astype(np.int32)
    labels[1, 2] = (labels[1, 2] + 1) % 4
    log = Log(device, 1)
    log.note(device.to_gpu(np.float32([1])), as_view(device, scores), as_view(device, labels), [])
    log.count_step()
    assert log.read(0) == [(0, 1, 1, 0)]


@pytest.mark.parametrize("place", range(3))
def test_the_first_of_equal_logits_is_the_answer(device, place):
    for row in ([0, 0, 0], [-np.inf] * 3, [1, 1, -1], [np.inf, 0, np.inf]):
        assert noted(device, 0.5, [row], [place])[0] == (place != 0)
    assert noted(device, 0.5, [[-1, 2, 2]], [place])[0] == (place != 1)


def test_rows_count_one_by_one(device):
    logits = np.eye(4, dtype=np.float32)
    for miss in range(4):
        labels = np.arange(4)
        labels[miss] = (miss + 1) % 4
        assert noted(device, 0.5, logits, labels)[0] == 1


def test_a_row_of_nan_is_class_0_as_in_argmax(device):
    logits = np.float32([[np.nan] * 3, [np.nan, 1, 2], [0, 2, 1]])
    assert noted(device, np.nan, logits, [0, 0, 1])[0] == 0
    assert noted(device, np.nan, logits, [1, 2, 1])[0] == 2


@pytest.mark.parametrize("length", [1, 3])
def test_the_first_nan_is_the_answer_as_in_argmax(device, length):
    rng = np.random.default_rng(length)
    scores = rng.choice(np.float32([np.nan, -np.inf, 0, 1, np.inf]), (300, length, 4))
    labels = rng.integers(0, 4, (300, length))
    labels = np.where(rng.random(labels.shape) < 0.6, scores.argmax(-1), labels)
    expected = AsTheyAre().wrong(scores, labels, [])
    assert 60 < expected < 240
    assert noted(device, 0.5, scores, labels)[0] == expected


# ---- the log: attention that has left the image


def check_left(device, theta):
    theta = theta.astype(np.float32)
    logits, labels = np.zeros((len(theta), 2), np.float32), np.zeros(len(theta), np.int32)
    assert noted(device, 0.5, logits, labels, theta)[1] == left_image(theta).sum()


@pytest.mark.parametrize("n", [1, 7, 256, 300])
def test_left_counts_are_those_of_attention(device, n):
    (theta,) = float32(normal(n, 2, 3))
    left = left_image(theta)
    assert n < 100 or 0.1 < left.mean() < 0.9
    check_left(device, theta)


def hits(theta):
    """Sampling points of each theta (N, 2, 3) that fall within the image, counted anew."""
    axis = np.linspace(-1, 1, POINTS)
    points = np.stack([*map(np.ravel, np.meshgrid(axis, axis)), np.ones(POINTS**2)])
    return (np.abs(theta.astype(np.float64) @ points) <= 1).all(axis=1).sum(axis=1)


def test_a_point_more_or_less_decides(device):
    assert LEFT_BELOW * POINTS**2 == 6.4
    theta = np.random.default_rng(0).normal(size=(4000, 2, 3)).astype(np.float32)
    inside = hits(theta)
    for count, expected in ((6, True), (7, False)):
        some = theta[inside == count][:20]
        assert len(some) == 20 and (left_image(some) == expected).all()
        check_left(device, some)


IDENTITY = np.float32([[1, 0, 0], [0, 1, 0]])


def test_points_on_the_border_lie_in_the_image(device):
    """As the corners of the identity do. Here one row or column of eight points is all there is."""
    check_left(device, IDENTITY[None])
    border = np.float32([[[1, 0, 0], [0, 1, 2]], [[1, 0, 0], [0, 1, -2]], [[1, 0, 2], [0, 1, 0]]])
    assert not left_image(border).any()
    check_left(device, border)
    border[:, :, 2] *= np.nextafter(np.float32(1), np.float32(2))
    assert left_image(border).all()
    check_left(device, border)


def test_theta_that_is_not_finite_or_huge_has_left(device):
    theta = np.tile(IDENTITY, (13, 1, 1))  # the last one stays
    for image, value in enumerate(np.repeat([np.nan, np.inf, -np.inf, 3e38], 3)):
        theta[image].flat[image % 3 * 2] = value
    check_left(device, theta)
    for one in theta:
        check_left(device, one[None])


# ---- the log: steps


def step(device, log, loss):
    log.note(
        device.to_gpu(np.float32([loss])),
        device.to_gpu(np.zeros((1, 1, 2), np.float32)),
        device.to_gpu(np.ones((1, 1), np.int32)),
        [],
    )
    log.count_step()


def halted_at(device, log):
    return int(device.to_cpu(log.number)[0]), int(device.to_cpu(log.halted)[0])


def test_a_log_begins_empty_and_has_the_steps_from_the_first_asked_for(device):
    log = Log(device, 3)
    assert log.read(0) == []
    for loss in (1, 2, 3):
        step(device, log, loss)
    assert log.read(0) == [(0, 1, 1, 0), (1, 2, 1, 0), (2, 3, 1, 0)]
    assert log.read(2) == [(2, 3, 1, 0)]
    assert log.read(3) == []
    step(device, log, 4)  # of the next epoch, in place of the first
    assert log.read(1) == [(1, 2, 1, 0), (2, 3, 1, 0), (3, 4, 1, 0)]


def test_a_log_may_begin_at_any_step(device):
    log = Log(device, 3)
    log.start(2**31 + 1)
    assert log.read(2**31 + 1) == []
    step(device, log, 5)
    assert log.read(2**31 + 1) == [(2**31 + 1, 5, 1, 0)]
    assert halted_at(device, log) == (2**31 + 2, 0)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_loss_that_is_not_finite_is_the_last(device, value):
    log = Log(device, 4)
    step(device, log, 1)
    step(device, log, value)
    assert halted_at(device, log) == (1, 1)
    (number, first, *_), (other, last, *_) = log.read(0)
    assert (number, first, other) == (0, 1, 1)
    np.testing.assert_equal(last, float(value))
    step(device, log, value)  # the host has not looked yet; the step finds what the first found
    assert halted_at(device, log) == (1, 1) and len(log.read(1)) == 1
    log.start(7)
    assert halted_at(device, log) == (7, 0) and log.read(7) == []
    step(device, log, 3e38)
    assert halted_at(device, log) == (8, 0)
    assert log.read(7) == [(7, float(np.float32(3e38)), 1, 0)]


@pytest.mark.parametrize("counts", [(2, 4), (4, 2), (0, 3, 1), (0, 0)])
def test_of_several_transformers_the_one_that_lost_most_counts(device, counts):
    outside = np.tile(IDENTITY + np.float32([0, 0, 9]), (5, 1, 1))
    logits, labels = np.zeros((5, 2), np.float32), np.zeros(5, np.int32)
    log = Log(device, 1)
    assert noted(device, 0.5, logits, labels, outside, log=log)[1] == 5
    log.start(0)  # the same entry again: what it had before does not count
    thetas = [np.tile(IDENTITY, (5, 1, 1)) for _ in counts]
    for theta, count in zip(thetas, counts, strict=True):
        theta[:count] = outside[:count]
    assert noted(device, 0.5, logits, labels, *thetas, log=log)[1] == max(counts)


@pytest.mark.parametrize("answers", [1, 15])
def test_there_may_be_more_answers_than_images_or_fewer(device, answers):
    theta = np.tile(IDENTITY + np.float32([0, 0, 9]), (5, 1, 1))
    scores, labels = np.zeros((answers, 2), np.float32), np.ones(answers, np.int32)
    assert noted(device, 0.5, scores, labels, theta) == (answers, 5)


def test_images_that_have_left_are_noted_in_their_step(device):
    log = Log(device, 2)
    outside = np.tile(IDENTITY + np.float32([0, 0, 9]), (3, 1, 1))
    logits, labels = np.zeros((3, 1, 2), np.float32), np.zeros((3, 1), np.int32)
    for theta in (outside, np.concatenate([outside[:1], IDENTITY[None], IDENTITY[None]])):
        arrays = (np.float32([1]), logits, labels)
        log.note(*map(device.to_gpu, arrays), [device.to_gpu(theta)])
        log.count_step()
    assert [left for *_, left in log.read(0)] == [3, 1]
