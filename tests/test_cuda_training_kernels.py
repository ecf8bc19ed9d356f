"""What a training step needs beside the network, on the GPU: batches and Adam.

The log is in test_cuda_outcome.py. No numbers are invented here that the CPU would not have:
everything is equal, not close.
"""

import numpy as np
import pytest
from helpers import normal

from ministn import ops
from ministn.cuda.adam import adam
from ministn.cuda.batch import as_batch, take_batch
from ministn.cuda.outcome import Log
from ministn.cuda.schedule import Schedule
from ministn.data import labels_for_gpu

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


def some_images(count, size):
    rng = np.random.default_rng([count, *size])
    return rng.integers(0, 256, (count, *size)).astype(np.uint8)


def some_labels(shape, dtype):
    """Among whole numbers the smallest and the largest; among floats those that are not finite."""
    if dtype == np.int32:
        labels = np.random.default_rng(shape).integers(-(2**31), 2**31, shape).astype(np.int32)
        labels.flat[:2] = -(2**31), 2**31 - 1
    else:
        labels = float32(*shape)
        labels.flat[:3] = np.nan, np.inf, -0.0
    return labels


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
    images = some_images(shape[0], shape[1:])
    on_device = device.to_gpu(images)
    np.testing.assert_array_equal(device.to_cpu(as_batch(on_device)), ops.as_batch(images))
    view = on_device[:, :, ::2]
    np.testing.assert_array_equal(device.to_cpu(as_batch(view)), ops.as_batch(images[:, :, ::2]))


@pytest.mark.parametrize("dtype", [np.int32, np.float32])
@pytest.mark.parametrize(
    ("count", "batch_size", "size", "label"),
    [
        (7, 3, (5, 4), ()),  # the last batch is one image
        (6, 3, (5, 4), (3,)),  # the last batch is whole
        (5, 8, (5, 4), (1,)),  # there is but one, and it is smaller
        (4, 2, (16, 17), (2, 3)),  # an image takes two blocks
        (3, 2, (1, 1), ()),
        (5, 3, (1, 1), (7,)),  # a label is larger than an image
        (3, 2, (5, 4), (257,)),  # a label takes two blocks
        (5, 2, (9, 4, 2), ()),  # two channels
        (5, 2, (5, 4), (0,)),  # labels of no numbers
    ],
)
def test_take_batch_goes_through_the_order_again_and_again(
    device, count, batch_size, size, label, dtype
):
    images, labels = some_images(count, size), some_labels((count, *label), dtype)
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
        check_same_bytes(device.to_cpu(x_labels), labels[rows])


def check_same_bytes(found, expected):
    assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
    assert found.tobytes() == np.ascontiguousarray(expected).tobytes()


@pytest.mark.parametrize("dtype", [np.uint8, np.int64, np.uint32, np.float64, np.float16, bool])
def test_take_batch_refuses_labels_of_other_dtypes(device, dtype):
    arrays = some_images(3, (2, 2)), np.zeros(3, dtype), np.arange(3, dtype=np.int32)
    options = {"batches": 1, "batch_size": 3, "n": 3}
    with pytest.raises(TypeError, match=f"labels must be int32 or float32, got {np.dtype(dtype)}"):
        take_batch(*map(device.to_gpu, arrays), device.zeros((1,), np.uint32), **options)


def test_images_of_which_some_have_no_labels_are_refused(device):
    arrays = some_images(3, (2, 2)), np.zeros(2, np.int32), np.arange(3, dtype=np.int32)
    options = {"batches": 1, "batch_size": 3, "n": 3}
    with pytest.raises(ValueError, match="there must be labels for each of 3 images, got 2"):
        take_batch(*map(device.to_gpu, arrays), device.zeros((1,), np.uint32), **options)


@pytest.mark.parametrize("shape", [(4, 4), (1, 1, 2, 4, 4), ()])
def test_bytes_that_are_no_images_are_refused(device, shape):
    for convert, images in (
        (ops.as_batch, np.zeros(shape, np.uint8)),
        (as_batch, device.zeros(shape, np.uint8)),
    ):
        with pytest.raises(ValueError, match=r"images must have shape \(N, H, W\), .* got \("):
            convert(images)


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.int64, np.uint64, np.int32])
def test_a_gpu_keeps_whole_numbers_as_int32(dtype):
    labels = np.arange(12).reshape(2, 3, 2).astype(dtype)
    check_same_bytes(labels_for_gpu(labels), labels.astype(np.int32))


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_a_gpu_keeps_floats_as_float32(dtype):
    labels = np.array([[0.1, -0.0], [np.nan, np.inf]]).astype(dtype)
    check_same_bytes(labels_for_gpu(labels), labels.astype(np.float32))


@pytest.mark.parametrize("dtype", [bool, complex, object, "U3"])
def test_labels_that_are_no_numbers_are_refused(dtype):
    with pytest.raises(TypeError, match="labels must be whole numbers or floats, got "):
        labels_for_gpu(np.zeros(3, dtype))


@pytest.mark.parametrize("label", [2**31, -(2**31) - 1, 2**32, 2**63])
def test_labels_too_large_for_int32_are_refused(label):
    with pytest.raises(ValueError, match="labels must fit int32, got "):
        labels_for_gpu(np.array([label], np.uint64 if label == 2**63 else np.int64))
