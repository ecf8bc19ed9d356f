"""The co-localisation loss: against the loops, at its kink, in cases done by hand, on a GPU."""

import numpy as np
import pytest
from helpers import Case, check_against_loops, compare, normal

from ministn import ops
from ministn.engines import implementation
from ministn.gradcheck.check import KinkError, check_operation

ARRAYS = {"attended": normal(5, 3), "random": 1.3 * normal(3, 5).T.copy()}
PAIRS = [
    np.array([[0, 1], [1, 0], [2, 3], [0, 2], [4, 2], [0, 2]]),
    np.array([[3, 0]], np.uint8),
    np.array([[1, 1], [2, 4]], np.int32),
]


@pytest.mark.parametrize("margin", [1.0, 0.0, 4.0])
@pytest.mark.parametrize("pairs", PAIRS, ids=len)
def test_it_is_that_of_the_loops(pairs, margin):
    options = {"pairs": pairs, "margin": margin}
    check_against_loops(ops, Case("triplet_hinge", ARRAYS, options))


def test_by_hand():
    """h = 25 - 4 + 1 for (0, 1), and 25 - 36 + 1 for (1, 0), which does not count."""
    attended = np.array([[0.0, 0], [3, 4]])
    random = np.array([[0.0, 2], [9, 4]])
    loss, cache = ops.triplet_hinge(attended, random, np.array([[0, 1], [1, 0]]))
    assert loss == 22 / 2
    dattended, drandom = ops.triplet_hinge_backward(cache, 3.0)
    assert dattended.tolist() == [[3 * -3, 3 * (2 - 4)], [3 * 3, 3 * 4]]
    assert drandom.tolist() == [[0, 3 * -2], [0, 0]]
    dattended, drandom = ops.triplet_hinge_backward(cache, 3.0, drawn=0.5)
    assert dattended.tolist() == [[3 * -3, 3 * (2 - 4)], [3 * 1.5, 3 * 2]]
    assert drandom.tolist() == [[0, 3 * -2], [0, 0]]


def test_pairs_that_are_far_enough_apart_give_no_gradient():
    attended, random = np.zeros((3, 2)), np.full((3, 2), 5.0)
    loss, cache = ops.triplet_hinge(attended, random, np.array([[0, 1], [2, 1]]))
    assert loss == 0
    assert not any(gradient.any() for gradient in ops.triplet_hinge_backward(cache))


def test_the_kink_is_noticed_and_its_slope_is_zero():
    attended, random = np.array([[0.0], [1.0]]), np.array([[2.0], [7.0]])
    pairs, margin = np.array([[0, 1]]), 3.0  # h = 1 - 4 + 3
    loss, cache = ops.triplet_hinge(attended, random, pairs, margin)
    assert loss == 0
    assert not any(gradient.any() for gradient in ops.triplet_hinge_backward(cache))
    with pytest.raises(KinkError):
        check_operation(
            lambda attended, random: ops.triplet_hinge(attended, random, pairs, margin),
            lambda dy, cache: ops.triplet_hinge_backward(cache, float(dy)),
            {"attended": attended, "random": random},
        )


def test_a_step_downhill_lessens_the_loss():
    attended, random, pairs = *ARRAYS.values(), PAIRS[0]
    before, cache = ops.triplet_hinge(attended, random, pairs)
    dattended, drandom = ops.triplet_hinge_backward(cache)
    after, _ = ops.triplet_hinge(attended - 0.01 * dattended, random - 0.01 * drandom, pairs)
    slope = (dattended**2).sum() + (drandom**2).sum()
    assert before - 0.01 * slope < after < before - 0.005 * slope


# ---- on a GPU

# Loss and gradients are of the order of 1. Largest differences from float64: 1.9e-7, and 6.9e-6
# where one pair comes 259 times.
GPU = (2e-6, 5e-6)


def embedded(rows, features):
    """e(T) and e(R) with distances of the order of 1 that differ by as much."""
    scale = np.float32(features**-0.5)
    return [scale * normal(rows, features, k)[..., 0].astype(np.float32) for k in (1, 2)]


def pairs_of(rows, count):
    return np.random.default_rng([rows, count]).integers(0, rows, (count, 2)).astype(np.int32)


def on_gpu(device, attended, random, pairs, dloss=1.0, drawn=1.0, to_device=None, **options):
    """The loss (1,) and both gradients, as NumPy arrays."""
    arrays = [(to_device or device.to_gpu)(array) for array in (attended, random, pairs)]
    forward, backward = implementation("triplet_hinge", arrays[0])
    loss, cache = forward(*arrays, **options)
    return [device.to_cpu(x) for x in (loss, *backward(cache, dloss, drawn))]


def on_cpu(attended, random, pairs, dloss=1.0, drawn=1.0, **options):
    loss, cache = ops.triplet_hinge(attended, random, pairs, **options)
    return [np.array([loss]), *ops.triplet_hinge_backward(cache, dloss, drawn)]


@pytest.mark.parametrize("margin", [1.0, 0.0])
@pytest.mark.parametrize("count", [1, 4, 259])
@pytest.mark.parametrize(("rows", "features"), [(1, 1), (5, 3), (6, 32), (33, 33), (7, 1500)])
def test_a_gpu_agrees_with_ops(device, rows, features, count, margin):
    arrays, pairs = embedded(rows, features), pairs_of(rows, count)
    found = on_gpu(device, *arrays, pairs, dloss=-2.5, drawn=0.75, margin=margin)
    arrays = [array.astype(np.float64) for array in arrays]
    expected = on_cpu(*arrays, pairs, dloss=-2.5, drawn=0.75, margin=margin)
    for got, want in zip(found, expected, strict=True):
        compare("result", got, want, *GPU)
        assert got.dtype == np.float32


def test_a_gpu_has_the_kink_where_it_is(device):
    """h = 22 and -10 as done by hand, then h = 0: no order of sums makes them other than exact."""
    attended, random = np.float32([[0, 0], [3, 4]]), np.float32([[0, 2], [9, 4]])
    both = np.int32([[0, 1], [1, 0]])
    loss, dattended, drandom = on_gpu(device, attended, random, both, dloss=3.0)
    assert loss.tolist() == [22 / 2]
    assert dattended.tolist() == [[3 * -3, 3 * (2 - 4)], [3 * 3, 3 * 4]]
    assert drandom.tolist() == [[0, 3 * -2], [0, 0]]
    loss, *gradients = on_gpu(device, attended, random, both[1:], margin=11.0)
    assert loss == 0 and not any(gradient.any() for gradient in gradients)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_as_in_ops(device, value):
    pairs = np.int32([[0, 1], [1, 2], [3, 4], [4, 2]])
    for bad in range(2):
        arrays = embedded(5, 40)
        arrays[bad][1, 35] = value
        with np.errstate(invalid="ignore"):
            expected = on_cpu(*arrays, pairs)
        for got, want in zip(on_gpu(device, *arrays, pairs), expected, strict=True):
            compare("result", got, want, *GPU)


@pytest.mark.parametrize("bad", [[-1, 0], [0, -1], [5, 0], [0, 5], [2**31 - 1, -(2**31)]])
def test_a_pair_out_of_range_makes_the_loss_nan(device, bad):
    arrays, pairs = embedded(5, 3), pairs_of(5, 4)
    loss, *gradients = on_gpu(device, *arrays, np.int32([*pairs, bad]), dloss=5.0)
    assert np.isnan(loss).all()
    _, *expected = on_cpu(*arrays, pairs, dloss=4.0)
    for got, want in zip(gradients, expected, strict=True):
        compare("gradient", got, want, *GPU)


def test_same_bits_again_and_from_views(device):
    arrays = *embedded(33, 70), pairs_of(33, 100)
    first = on_gpu(device, *arrays)
    again = on_gpu(device, *arrays)
    views = on_gpu(
        device, *arrays, to_device=lambda x: device.to_gpu(np.repeat(x, 2, axis=-1))[..., ::2]
    )
    for a, b, c in zip(first, again, views, strict=True):
        np.testing.assert_array_equal(a, b)
        np.testing.assert_array_equal(a, c)


def test_a_gpu_refuses_what_it_cannot_read(device):
    attended, random = embedded(4, 3)
    pairs = pairs_of(4, 5)
    for changes, error, message in (
        ((attended.astype(np.float64), random.astype(np.float64), pairs), TypeError, "must be flo"),
        ((attended, random[1:], pairs), ValueError, r"^random must have shape \(N=4, D=3\)"),
        ((attended, random, pairs.astype(np.int64)), TypeError, "^pairs must be an array of int32"),
        ((attended, random, pairs[:0]), ValueError, r"^pairs must have shape \(P, 2\) with"),
        ((attended, random, pairs[:, 0]), ValueError, r"^pairs must have shape \(P, 2\)"),
    ):
        with pytest.raises(error, match=message):
            on_gpu(device, *changes)
