"""ReLU, pooling, dropout and softmax with cross entropy on the GPU, against ops."""

from dataclasses import replace

import numpy as np
import pytest
from helpers import as_view, compare, normal
from hypothesis import given, settings
from hypothesis import strategies as st

from ministn import ops
from ministn.cuda.avg_pool2d import avg_pool2d, avg_pool2d_backward
from ministn.cuda.dropout import dropout, dropout_backward
from ministn.cuda.max_pool2d import max_pool2d, max_pool2d_backward
from ministn.cuda.relu import relu, relu_backward
from ministn.cuda.softmax_cross_entropy import softmax_cross_entropy, softmax_cross_entropy_backward
from ministn.randomness import Step

quick = settings(max_examples=20, deadline=None, derandomize=True, database=None)
seeds = st.integers(0, 2**32 - 1)
small = st.integers(1, 9)


def float32(*shape):
    return normal(*shape).astype(np.float32)


# ---- ReLU

SHAPES = [(1,), (256,), (257,), (0, 3), (2, 5, 3, 4), (31, 33)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_relu_is_that_of_ops(device, shape):
    x, dy = float32(*shape), float32(*shape, 1)[..., 0]
    x.ravel()[::5] = 0
    expected, ops_cache = ops.relu(x)
    y, cache = relu(device.to_gpu(x))
    np.testing.assert_array_equal(device.to_cpu(y), expected)
    dx = relu_backward(device.to_gpu(dy), cache)
    np.testing.assert_array_equal(device.to_cpu(dx), ops.relu_backward(dy, ops_cache))


def test_relu_keeps_nan_and_passes_no_gradient_there(device):
    x = np.array([np.nan, -np.inf, np.inf, -0.0, 1e-30, -1e-30], np.float32)
    y, cache = relu(device.to_gpu(x))
    np.testing.assert_array_equal(device.to_cpu(y), np.float32([np.nan, 0, np.inf, 0, 1e-30, 0]))
    dx = relu_backward(device.to_gpu(np.full(6, 7, np.float32)), cache)
    np.testing.assert_array_equal(device.to_cpu(dx), [0, 0, 7, 0, 7, 0])


# ---- max pooling: comparisons and copies, so everything is exact

POOLS = [
    ((2, 5, 7, 3), 2),
    ((1, 2, 2, 1), 2),
    ((3, 4, 6, 2), 2),
    ((1, 7, 11, 2), 3),
    ((2, 3, 5, 1), 1),
    ((2, 5, 5, 2), 5),
    ((1, 9, 4, 33), 4),
    ((0, 4, 4, 2), 2),
]
STRIDED = [
    *(((2, 8, 7, 3), 3, 2), ((1, 3, 9, 33), np.int64(3), np.int64(2)), ((1, 95, 95, 1), 3, 2)),
    *(((2, 5, 4, 2), 3, 1), ((2, 8, 7, 3), 2, 3), ((2, 5, 1, 1), 1, 2)),
    *(((0, 4, 4, 2), 3, 2), ((2, 4, 4, 0), 3, 2)),
]


def check_max_pool(device, x, size, stride=None):
    expected, ops_cache = ops.max_pool2d(x, size, stride)
    dy = np.random.default_rng(size).normal(size=expected.shape).astype(np.float32)
    y, cache = max_pool2d(device.to_gpu(x), size, stride)
    np.testing.assert_array_equal(device.to_cpu(y), expected)
    np.testing.assert_array_equal(device.to_cpu(cache.winner), ops_cache.winner[..., 0])
    dx = max_pool2d_backward(device.to_gpu(dy), cache)
    np.testing.assert_array_equal(device.to_cpu(dx), ops.max_pool2d_backward(dy, ops_cache))


@pytest.mark.parametrize(("shape", "size"), POOLS, ids=str)
def test_max_pool2d_is_that_of_ops(device, shape, size):
    check_max_pool(device, float32(*shape), size)


@pytest.mark.parametrize(("shape", "size", "stride"), STRIDED, ids=str)
def test_max_pool2d_with_a_stride_is_that_of_ops(device, shape, size, stride):
    """Windows that overlap are summed in the same order."""
    check_max_pool(device, float32(*shape), size, stride)


@quick
@given(
    seed=seeds, n=small, height=small, width=small, channels=small,
    size=st.integers(1, 4), stride=st.none() | st.integers(1, 5),
)  # fmt: skip
def test_max_pool2d_ties_and_nan_at_any_shape(
    device, seed, n, height, width, channels, size, stride
):
    """Most windows have several maxima, and some several NaN: the first one wins."""
    rng = np.random.default_rng(seed)
    x = rng.integers(-1, 2, (n, height + size, width + size, channels)).astype(np.float32)
    x[rng.random(x.shape) < 0.2] = np.nan
    x[rng.random(x.shape) < 0.2] = -np.inf
    check_max_pool(device, x, size, stride)


def test_max_pool2d_refuses_what_ops_refuses(device):
    x = device.to_gpu(float32(2, 5, 4, 3))
    for size in (0, 2.0, "2", None):
        with pytest.raises(ValueError, match=r"^size must be a whole number of at least 1"):
            max_pool2d(x, size)
    for stride in (0, 2.0, "2"):
        with pytest.raises(ValueError, match=r"^stride must be a whole number of at least 1"):
            max_pool2d(x, 2, stride)
    with pytest.raises(ValueError, match=r"^x must be at least 5 by 5 pixels"):
        max_pool2d(x, 5)
    with pytest.raises(ValueError, match=r"^x must have shape"):
        max_pool2d(x[0])
    with pytest.raises(ValueError, match=r"^dy must have shape"):
        max_pool2d_backward(x, max_pool2d(x)[1])


# ---- average pooling: the same sums in the same order


@pytest.mark.parametrize(("shape", "size"), POOLS, ids=str)
def test_avg_pool2d_is_that_of_ops(device, shape, size):
    x = float32(*shape)
    expected, ops_cache = ops.avg_pool2d(x, size)
    y, cache = avg_pool2d(device.to_gpu(x), size)
    np.testing.assert_array_equal(device.to_cpu(y), expected)
    dy = float32(*expected.shape, 1)[..., 0]
    dx = avg_pool2d_backward(device.to_gpu(dy), cache)
    np.testing.assert_array_equal(device.to_cpu(dx), ops.avg_pool2d_backward(dy, ops_cache))


def test_avg_pool2d_refuses_what_ops_refuses(device):
    x = device.to_gpu(float32(2, 5, 4, 3))
    with pytest.raises(ValueError, match=r"^size must be a whole number of at least 1"):
        avg_pool2d(x, 0)
    with pytest.raises(ValueError, match=r"^x must be at least 5 by 5 pixels"):
        avg_pool2d(x, 5)
    with pytest.raises(ValueError, match=r"^dy must have shape"):
        avg_pool2d_backward(x, avg_pool2d(x)[1])


# ---- dropout: the same elements as ops, bit for bit

STEPS = [
    ((5, 7), 0.5, Step(1, 2, 3, 4)),  # first_row * width = 21: the first counter is shared
    ((3, 9), 0.3, Step(2**40 + 5, 0)),
    ((1, 1), 0.5, Step(7, 2**32 - 1, first_row=3)),
    ((2, 3), 0.0, Step(0, 0)),
    ((4, 4), 0.9, Step(2**64 - 1, 12, 2**20 + 1, 2**32 - 1)),
    ((41, 51), 0.5, Step(3, 5, 1)),  # more than one block
    ((16, 64), 0.5, Step(3, 5, 1)),  # exactly one
    ((512, 2), 0.5, Step(3, 5, 1)),  # as many, but the first counter is shared
    ((3, 5, 2, 3), 0.5, Step(1, 2, 3, 4)),  # images
    ((2, 1, 7), 0.3, Step(1, 2, 1)),
    ((0, 5), 0.5, Step(3, 5)),
    ((0, 5, 2, 3), 0.5, Step(3, 5)),
    ((2, 5, 2, 0), 0.5, Step(3, 5)),
    ((3, 0), 0.5, Step(3, 5)),
    ((6, 5), float(np.nextafter(1, 0)), Step(3, 5)),
]


@pytest.mark.parametrize(("shape", "rate", "step"), STEPS, ids=str)
def test_dropout_is_that_of_ops(device, shape, rate, step):
    x, dy = float32(*shape), float32(*shape, 1)[..., 0]
    expected, ops_cache = ops.dropout(x, rate, step, 2**32 - 5)
    y, cache = dropout(device.to_gpu(x), rate, step, 2**32 - 5)
    np.testing.assert_array_equal(device.to_cpu(cache.keep), ops_cache.mask != 0)
    np.testing.assert_array_equal(device.to_cpu(y), expected)
    dx = dropout_backward(device.to_gpu(dy), cache)
    np.testing.assert_array_equal(device.to_cpu(dx), ops.dropout_backward(dy, ops_cache))


@quick
@given(
    seed=st.integers(0, 2**64 - 1),
    rows=small,
    width=st.integers(1, 40),
    first_row=st.integers(0, 2**20),
    rate=st.floats(0, 1, exclude_max=True),
)
def test_dropout_masks_at_any_shape(device, seed, rows, width, first_row, rate):
    x, step = np.ones((rows, width), np.float32), Step(seed, seed % 1000, first_row)
    _, cache = dropout(device.to_gpu(x), rate, step, 5)
    np.testing.assert_array_equal(
        device.to_cpu(cache.keep), ops.dropout(x, rate, step, 5)[1].mask != 0
    )


KNOWN_ANSWERS = [  # counter, key, words: from the kat_vectors of Random123, Philox's reference
    ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((2**32 - 1,) * 4, (2**32 - 1,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]


@pytest.mark.parametrize(("counter", "key", "words"), KNOWN_ANSWERS)
@pytest.mark.parametrize("place", range(4))
def test_dropout_draws_the_known_answers(device, counter, key, words, place):
    """An element is kept at a rate of just its bits / 2^32, and dropped at the next higher one."""
    first_row, number, call, purpose = counter
    step = Step(key[0] + (key[1] << 32), number, first_row, call)
    x = device.to_gpu(np.ones((1, 4), np.float32))
    for rate, kept in ((words[place] / 2**32, 1), ((words[place] + 0.5) / 2**32, 0)):
        _, cache = dropout(x, rate, step, purpose)
        assert device.to_cpu(cache.keep)[0, place] == kept


def test_dropout_reads_the_number_of_the_step_on_the_device(device):
    x, step = float32(6, 5), Step(8, 21)
    number = device.to_gpu(np.array([21], np.uint32))
    y, _ = dropout(device.to_gpu(x), 0.5, replace(step, number=number), 3)
    np.testing.assert_array_equal(device.to_cpu(y), ops.dropout(x, 0.5, step, 3)[0])
    number.fill(22)
    y, _ = dropout(device.to_gpu(x), 0.5, replace(step, number=number), 3)
    expected, _ = ops.dropout(x, 0.5, replace(step, number=22), 3)
    np.testing.assert_array_equal(device.to_cpu(y), expected)


def test_dropout_of_a_batch_cut_in_blocks(device):
    x, step = float32(11, 7), Step(8, 21)
    together, _ = dropout(device.to_gpu(x), 0.5, step, 3)
    cut = [
        dropout(device.to_gpu(x[start : start + 3]), 0.5, replace(step, first_row=start), 3)[0]
        for start in range(0, 11, 3)
    ]
    np.testing.assert_array_equal(
        np.concatenate([device.to_cpu(part) for part in cut]), device.to_cpu(together)
    )


def test_dropout_keeps_nan(device):
    x = np.full((3, 50), np.nan, np.float32)
    y, cache = dropout(device.to_gpu(x), 0.5, Step(1, 2), 3)
    assert np.isnan(device.to_cpu(y)).all()
    dx = dropout_backward(device.to_gpu(x), cache)
    assert np.isnan(device.to_cpu(dx)).all()


def test_dropout_refuses_what_ops_refuses(device):
    x, step = device.to_gpu(float32(5, 4)), Step(1, 2)
    for rate in (-0.1, 1.0, float("nan")):
        with pytest.raises(ValueError, match=r"^rate must be at least 0 and below 1"):
            dropout(x, rate, step, 3)
    with pytest.raises(TypeError, match=r"^step must be a Step"):
        dropout(x, 0.5, None, 3)
    with pytest.raises(ValueError, match=r"^x must have shape"):
        dropout(x[0], 0.5, step, 3)
    with pytest.raises(ValueError, match=r"^step.number must have shape \(1,\)"):
        dropout(x, 0.5, replace(step, number=device.zeros((2,), np.uint32)), 3)
    with pytest.raises(TypeError, match=r"number must be uint32"):
        dropout(x, 0.5, replace(step, number=device.zeros((1,), np.int32)), 3)
    with pytest.raises(ValueError, match=r"^dy must have shape"):
        dropout_backward(x[1:], dropout(x, 0.5, step, 3)[1])


# ---- softmax and cross entropy

# Largest differences from float64, for logits of the order of 1 and of 10: 9.8e-8 of the loss, or
# of 1 if it is less; 2.0e-7 in p and 2.1e-7 in N dlogits, where a float32 is good to 6e-8.
LOSS, GRADIENT = (1e-6, 1e-6), (1e-6, 4e-7)


def check_softmax(device, logits, labels, dloss=1.0, epsilon=0.0):
    expected, ops_cache = ops.softmax_cross_entropy(logits.astype(np.float64), labels, epsilon)
    loss, cache = softmax_cross_entropy(device.to_gpu(logits), device.to_gpu(labels), epsilon)
    assert loss.shape == (1,) and loss.dtype == np.float32
    compare("loss", device.to_cpu(loss), [expected], *LOSS)
    compare("p", device.to_cpu(cache.p), ops_cache.p, *GRADIENT)
    scale = len(logits) / dloss
    got = device.to_cpu(softmax_cross_entropy_backward(cache, dloss))
    want = ops.softmax_cross_entropy_backward(ops_cache, dloss)
    compare("dlogits", got * scale, want * scale, *GRADIENT)


@pytest.mark.parametrize("scale", [1, 10])
@pytest.mark.parametrize("n", [1, 5, 259])
@pytest.mark.parametrize("classes", [1, 2, 10, 31, 32, 33, 100])
def test_softmax_cross_entropy_agrees_with_ops(device, n, classes, scale):
    logits = scale * float32(n, classes)
    labels = (np.arange(n) * 7 % classes).astype(np.int32)
    check_softmax(device, logits, labels, dloss=-2.5)


@pytest.mark.parametrize("epsilon", [1e-5, 0.3])
def test_epsilon_is_added_to_p(device, epsilon):
    """Also where a label has a probability far below it, or of 1."""
    logits = np.float32([[0, 1, -1], [3, 0, -20], [90, 0, -200], [0.5, 0, 0], [200, 0, 0]])
    check_softmax(device, logits, np.array([2, 2, 2, 1, 0], np.int32), 2.0, epsilon)


def test_softmax_cross_entropy_does_not_overflow(device):
    logits = np.float32([[1e4, -1e4, 0], [-3e38, 0, 3e38], [3e38, 3e38, 3e38], [-90, -90, -200]])
    check_softmax(device, logits, np.array([0, 2, 1, 1], np.int32))


def test_infinite_and_nan_logits_are_as_in_ops(device):
    """-inf is a probability of 0; +inf and NaN make the row NaN."""
    rows = [[0, -np.inf, 1], [np.inf, 0, 1], [0, 1, np.nan], [-np.inf] * 3, [np.nan] * 3]
    labels = np.array([0, 1, 2, 1, 0], np.int32)
    logits = np.array(rows, np.float32)
    with np.errstate(invalid="ignore"):
        _, ops_cache = ops.softmax_cross_entropy(logits, labels)
    loss, cache = softmax_cross_entropy(device.to_gpu(logits), device.to_gpu(labels))
    assert np.isnan(device.to_cpu(loss)).all()
    compare("p", device.to_cpu(cache.p), ops_cache.p, *GRADIENT)
    for row in range(5):
        with np.errstate(invalid="ignore"):
            expected, _ = ops.softmax_cross_entropy(logits[[row]], labels[[row]])
        loss, _ = softmax_cross_entropy(device.to_gpu(logits[[row]]), device.to_gpu(labels[[row]]))
        compare(f"loss of row {row}", device.to_cpu(loss), [expected], *LOSS)


@pytest.mark.parametrize("label", [-1, 3, 2**31 - 1, -(2**31)])
def test_label_out_of_range_gives_nan(device, label):
    logits, labels = float32(4, 3), np.array([0, 2, label, 1], np.int32)
    loss, cache = softmax_cross_entropy(device.to_gpu(logits), device.to_gpu(labels))
    assert np.isnan(device.to_cpu(loss)).all()
    dlogits = device.to_cpu(softmax_cross_entropy_backward(cache))
    _, ops_cache = ops.softmax_cross_entropy(logits, np.array([0, 2, 0, 1]))
    expected = ops.softmax_cross_entropy_backward(ops_cache)
    expected[2] = np.nan
    compare("dlogits", dlogits, expected, *GRADIENT)


def test_softmax_cross_entropy_refuses_what_it_cannot_read(device):
    logits, labels = device.to_gpu(float32(4, 3)), device.to_gpu(np.zeros(4, np.int32))
    with pytest.raises(ValueError, match=r"^logits must have at least one row"):
        softmax_cross_entropy(logits[:0], labels[:0])
    with pytest.raises(ValueError, match=r"^labels must have shape \(N=4\)"):
        softmax_cross_entropy(logits, labels[1:])
    with pytest.raises(ValueError, match=r"^epsilon must be a finite number of at least 0"):
        softmax_cross_entropy(logits, labels, -1e-5)
    for wrong in (device.to_gpu(np.zeros(4, np.int64)), [0, 0, 0, 0]):
        with pytest.raises(TypeError, match=r"^labels must be an array of int32"):
            softmax_cross_entropy(logits, wrong)
    with pytest.raises(ValueError, match=r"labels must be an array on"):
        softmax_cross_entropy(logits, np.zeros(4, np.int32))


# ---- all of them


def call(name, device, to_device=None):
    """Every result of an operation, forward and backward, as NumPy arrays."""
    to_device = to_device or device.to_gpu
    if name == "relu":
        x, dy = (to_device(float32(9, 7, *extra)) for extra in ((2,), (2, 1)))
        y, cache = relu(x)
        results = y, relu_backward(dy.reshape(x.shape), cache)
    elif name == "max_pool2d":
        y, cache = max_pool2d(to_device(float32(3, 7, 9, 5)), 2)
        results = y, max_pool2d_backward(to_device(float32(3, 3, 4, 5)), cache)
    elif name == "avg_pool2d":
        y, cache = avg_pool2d(to_device(float32(3, 7, 9, 5)), 2)
        results = y, avg_pool2d_backward(to_device(float32(3, 3, 4, 5)), cache)
    elif name == "dropout":
        y, cache = dropout(to_device(float32(40, 30)), 0.4, Step(1, 2, 3), 4)
        results = y, dropout_backward(to_device(float32(40, 30)), cache)
    else:
        labels = to_device((np.arange(300) % 11).astype(np.int32))
        y, cache = softmax_cross_entropy(to_device(float32(300, 11)), labels)
        results = y, softmax_cross_entropy_backward(cache)
    return [device.to_cpu(result) for result in results]


NAMES = ["relu", "max_pool2d", "avg_pool2d", "dropout", "softmax_cross_entropy"]


@pytest.mark.parametrize("name", NAMES)
def test_views_give_the_results_of_their_copies(device, name):
    views = call(name, device, lambda array: as_view(device, array))
    for got, expected in zip(views, call(name, device), strict=True):
        np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("name", NAMES)
def test_same_bits_again(device, name):
    for again, first in zip(call(name, device), call(name, device), strict=True):
        np.testing.assert_array_equal(again, first)


def test_float64_is_refused(device):
    x = device.to_gpu(normal(2, 4, 4, 3))
    labels = device.zeros((2,), np.int32)
    for operation in (
        lambda: relu(x),
        lambda: max_pool2d(x),
        lambda: avg_pool2d(x),
        lambda: dropout(x[:, :, 0, 0], 0.5, Step(1, 2), 3),
        lambda: softmax_cross_entropy(x[:, :, 0, 0], labels),
    ):
        with pytest.raises(TypeError, match=r"must be float32, got float64"):
            operation()
