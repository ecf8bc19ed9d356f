"""What a training step needs beside the network, on the GPU: batches, Adam, and the log.

No numbers are invented here that the CPU would not have: everything is equal, not close.
"""

import numpy as np
import pytest
from helpers import normal

from ministn import ops
from ministn.cuda.adam import adam
from ministn.cuda.batch import as_batch, take_batch
from ministn.cuda.outcome import Log
from ministn.cuda.schedule import Schedule
from ministn.ops.left_image import LEFT_BELOW, POINTS, left_image

BETAS = 0.9, 0.999, 1e-8
NAMES = "p", "g", "m", "v"


def float32(*shape):
    return normal(*shape).astype(np.float32)


# ---- Adam
#
# No value is so small that its square is a denormal number: CuPy's kernels take those for 0.


def state(size):
    """p, g, m, v; gradients of very different sizes, some 0, and moments that fit them."""
    rng = np.random.default_rng(size)
    g = rng.normal(size=size) * 10.0 ** rng.integers(-9, 3, size) * (rng.random(size) < 0.9)
    m, v = g * rng.normal(size=size), g**2 * rng.random(size)
    return [array.astype(np.float32) for array in (rng.normal(size=size), g, m, v)]


def check_equal(device, found, expected):
    for name, got, want in zip(NAMES, found, expected, strict=True):
        np.testing.assert_array_equal(device.to_cpu(got), want, err_msg=name)


@pytest.mark.parametrize("size", [0, 1, 255, 256, 257, 1000])
def test_adam_is_that_of_ops_to_the_last_bit(device, size):
    expected = state(size)
    found = [device.to_gpu(array) for array in expected]
    for step_size in (0.001, 0.37, 1e-7):
        ops.adam(*expected, step_size, *BETAS)
        adam(*found, step_size, *BETAS)
        check_equal(device, found, expected)


def test_adam_leaves_what_is_beside_a_slice_alone(device):
    expected, before = state(300), state(300)
    found = [device.to_gpu(array) for array in expected]
    some = slice(7, 270)
    ops.adam(*(array[some] for array in expected), 0.1, *BETAS)
    adam(*(array[some] for array in found), 0.1, *BETAS)
    check_equal(device, found, expected)
    assert (expected[0][some] != before[0][some]).mean() > 0.7


@pytest.mark.parametrize("first", [0, 4, 2**32 - 3])
def test_adam_takes_its_step_size_from_the_schedule(device, first):
    """Step number s takes entry s modulo the period; only count_step moves on."""
    expected, sizes = state(40), np.float32([0.5, 0.01, 0.3])
    found = [device.to_gpu(array) for array in expected]
    log = Log(device, 1)
    log.start(first)
    schedule = Schedule(device.to_gpu(sizes), log.number, log.halted)
    for number in range(first, min(first + 5, 2**32)):
        for _ in range(2):
            ops.adam(*expected, float(sizes[number % 3]), *BETAS)
            adam(*found, schedule, *BETAS)
        check_equal(device, found, expected)
        log.count_step()


def test_adam_changes_nothing_once_halted(device):
    before = state(300)
    before[1][::3], before[1][1::3] = np.nan, np.inf
    found = [device.to_gpu(array) for array in before]
    zero, halted = device.zeros((1,), np.uint32), device.zeros((1,), np.int32)
    halted.fill(1)
    adam(*found, Schedule(device.to_gpu(np.float32([0.1])), zero, halted), *BETAS)
    check_equal(device, found, before)


# ---- batches


def images_and_labels(count, size):
    rng = np.random.default_rng([count, *size])
    images = rng.integers(0, 256, (count, *size)).astype(np.uint8)
    return images, rng.integers(0, 256, count).astype(np.uint8)


def test_every_byte_becomes_the_number_it_is_in_ops(device):
    images = np.arange(256, dtype=np.uint8).reshape(2, 16, 8)
    x = device.to_cpu(as_batch(device.to_gpu(images)))
    assert x.dtype == np.float32 and x.shape == (2, 16, 8, 1)
    np.testing.assert_array_equal(x, ops.as_batch(images))
    assert x.min() == 0 and x.max() == 1


@pytest.mark.parametrize(
    "shape", [(0, 3, 4), (1, 1, 1), (3, 5, 7), (2, 16, 17), (2, 5, 6, 3)], ids=str
)
def test_as_batch_is_that_of_ops(device, shape):
    images, _ = images_and_labels(shape[0], shape[1:])
    on_device = device.to_gpu(images)
    np.testing.assert_array_equal(device.to_cpu(as_batch(on_device)), ops.as_batch(images))
    view = on_device[:, :, ::2]
    np.testing.assert_array_equal(device.to_cpu(as_batch(view)), ops.as_batch(images[:, :, ::2]))


@pytest.mark.parametrize(
    ("count", "batch_size", "size"),
    [
        (7, 3, (5, 4)),  # the last batch is one image
        (6, 3, (5, 4)),  # the last batch is whole
        (5, 8, (5, 4)),  # there is but one, and it is smaller
        (4, 2, (16, 17)),  # an image takes two blocks
        (3, 2, (1, 1)),
        (5, 2, (9, 4, 2)),  # two channels
    ],
)
def test_take_batch_goes_through_the_order_again_and_again(device, count, batch_size, size):
    images, labels = images_and_labels(count, size)
    order = np.random.default_rng(count).permutation(count).astype(np.int32)
    batches = -(-count // batch_size)
    number = device.zeros((1,), np.uint32)
    arrays = *map(device.to_gpu, (images, labels, order)), number
    for step in (*range(2 * batches + 1), 2**32 - 1):
        number.fill(step)
        rows = order[step % batches * batch_size :][:batch_size]
        options = {"batches": batches, "batch_size": batch_size, "n": len(rows)}
        x, x_labels = take_batch(*arrays, **options)
        np.testing.assert_array_equal(device.to_cpu(x), ops.as_batch(images[rows]))
        assert x_labels.dtype == np.int32
        np.testing.assert_array_equal(device.to_cpu(x_labels), labels[rows])


# ---- the log: errors


def noted(device, loss, logits, labels, *thetas, log=None):
    """(errors, left) of one step."""
    log = log or Log(device, 1)
    given = (np.float32([loss]), np.float32(logits), np.int32(labels))
    log.note(*map(device.to_gpu, given), [device.to_gpu(theta) for theta in thetas])
    log.count_step()
    ((_, got, errors, left),) = log.read(0)
    np.testing.assert_array_equal(np.float32(got), np.float32(loss))
    return errors, left


@pytest.mark.parametrize("classes", [1, 2, 10])
@pytest.mark.parametrize("n", [1, 5, 256, 300])
def test_errors_are_those_of_argmax(device, n, classes):
    """Few different numbers: most rows have several maxima, and the first counts."""
    rng = np.random.default_rng([n, classes])
    logits = rng.integers(-1, 2, (n, classes)).astype(np.float32)
    logits[rng.random(logits.shape) < 0.1] = -np.inf
    labels = rng.integers(0, classes, n)
    assert noted(device, 0.5, logits, labels)[0] == (logits.argmax(1) != labels).sum()


@pytest.mark.parametrize("place", range(3))
def test_the_first_of_equal_logits_is_the_answer(device, place):
    for row in ([0, 0, 0], [-np.inf] * 3, [1, 1, -1], [np.inf, 0, np.inf]):
        assert noted(device, 0.5, [row], [place])[0] == (place != 0)
    assert noted(device, 0.5, [[-1, 2, 2]], [place])[0] == (place != 1)


def test_rows_count_one_by_one(device):
    logits = np.eye(4, dtype=np.float32)
    for wrong in range(4):
        labels = np.arange(4)
        labels[wrong] = (wrong + 1) % 4
        assert noted(device, 0.5, logits, labels)[0] == 1


def test_a_row_of_nan_is_class_0_as_in_argmax(device):
    logits = np.float32([[np.nan] * 3, [np.nan, 1, 2], [0, 2, 1]])
    assert noted(device, np.nan, logits, [0, 0, 1])[0] == 0
    assert noted(device, np.nan, logits, [1, 2, 1])[0] == 2


# ---- the log: attention that has left the image


def check_left(device, theta):
    theta = theta.astype(np.float32)
    logits, labels = np.zeros((len(theta), 2), np.float32), np.zeros(len(theta), np.int32)
    assert noted(device, 0.5, logits, labels, theta)[1] == left_image(theta).sum()


@pytest.mark.parametrize("n", [1, 7, 256, 300])
def test_left_counts_are_those_of_attention(device, n):
    theta = float32(n, 2, 3)
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
        device.to_gpu(np.zeros((1, 2), np.float32)),
        device.to_gpu(np.ones(1, np.int32)),
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


def test_images_that_have_left_are_noted_in_their_step(device):
    log = Log(device, 2)
    outside = np.tile(IDENTITY + np.float32([0, 0, 9]), (3, 1, 1))
    logits, labels = np.zeros((3, 2), np.float32), np.zeros(3, np.int32)
    for theta in (outside, np.concatenate([outside[:1], IDENTITY[None], IDENTITY[None]])):
        arrays = (np.float32([1]), logits, labels)
        log.note(*map(device.to_gpu, arrays), [device.to_gpu(theta)])
        log.count_step()
    assert [left for *_, left in log.read(0)] == [3, 1]
