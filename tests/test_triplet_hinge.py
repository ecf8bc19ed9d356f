"""The co-localisation loss: against the loops, at its kink, and in cases done by hand."""

import numpy as np
import pytest
from helpers import Case, check_against_loops, normal

from ministn import ops
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
