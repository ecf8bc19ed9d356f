"""Convolution blocks on the GPU with any activation, with and without bias, against ops."""

import numpy as np
import pytest
import test_cuda_conv
from helpers import compare, normal
from test_cuda_conv import (
    FAMILIES,
    Case,
    arguments,
    each_family,
    in_other_orders,
    windows_with_ties,
)

from ministn import ops
from ministn.cuda import choice, conv_tf32
from ministn.cuda.conv_block import conv_block, conv_block_backward

ACTIVATIONS = [
    {"activation": "relu"},
    {"activation": "leaky_relu"},
    {"activation": "leaky_relu", "slope": 0},
    {"activation": None},
]
activations = pytest.mark.parametrize("how", ACTIVATIONS, ids=str)
pools = pytest.mark.parametrize("pool", [True, False])
biases = pytest.mark.parametrize("bias", [True, False])


def both(device, arrays, dy, options, need_dx=True):
    """y and all gradients of a block here, and those of ops in float64."""
    exact = [array.astype(np.float64) for array in arrays]
    expected, ops_cache = ops.conv_block(*exact, **options)
    dy = dy(expected.shape)
    wanted = ops.conv_block_backward(dy.astype(np.float64), ops_cache, need_dx)
    y, cache = conv_block(*map(device.to_gpu, arrays), **options)
    found = conv_block_backward(device.to_gpu(dy), cache, need_dx)
    got = [None if array is None else device.to_cpu(array) for array in (y, *found)]
    return list(zip(("y", "dx", "dweight", "dbias"), got, (expected, *wanted), strict=True))


def whole_numbers(shape):
    return np.random.default_rng(1).integers(1, 9, shape).astype(np.float32)


@each_family
@pools
@biases
@pytest.mark.parametrize("how", [*ACTIVATIONS[:1], {"activation": "leaky_relu", "slope": 0.5},
                                 *ACTIVATIONS[3:]], ids=str)  # fmt: skip
def test_small_whole_numbers_are_exact(device, family, pool, bias, how):
    """Most windows have several maxima, of either sign; half a small number is exact, too."""
    case, *arrays = windows_with_ties(family, pool)
    arrays[1] = arrays[1] - (np.arange(arrays[1].size).reshape(arrays[1].shape) % 3 == 0)
    with choice.precision("tf32" if family.module is conv_tf32 else "fp32"):
        assert choice.convolution(case.weight[:2], case.margin, *case.weight[2:]) is family.module
        options = {"pool": pool, **how}
        compared = both(device, arrays[: 2 + bias], whole_numbers, options)
    y = compared[0][1]
    assert (y < 0).any() == (how["activation"] != "relu")
    for name, got, want in compared:
        np.testing.assert_array_equal(got, want, err_msg=name)


@each_family
@pools
def test_no_gate_of_a_leaky_block_is_closed(device, family, pool):
    case, x, weight, bias = windows_with_ties(family, pool)
    arrays = [device.to_gpu(array) for array in (x, weight, bias)]
    _, gate = family.module.forward(*arrays, case.margin, pool, 0.5)
    assert device.to_cpu(gate).max() == (3 if pool else 0)


@activations
@biases
@pytest.mark.parametrize("need_dx", [True, False])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize(
    "case",
    [
        Case((2, 7, 5, 1), (3, 3, 1, 4), pool=True),
        Case((1, 9, 7, 1), (3, 3, 1, 35), "valid"),
        Case((2, 9, 8, 3), (5, 3, 3, 2), pool=True),
        Case((1, 5, 6, 8), (1, 3, 8, 36)),
        Case((2, 1, 1, 3), (5, 3, 3, 3)),
        Case((3, 4, 1, 2), (1, 1, 2, 1)),
    ],
    ids=str,
)
def test_blocks_agree_with_ops(device, case, stride, need_dx, bias, how):
    options = {"padding": case.padding, "pool": case.pool, "stride": stride, **how}
    arrays = arguments(case)[: 2 + bias]
    compared = both(device, arrays, lambda shape: normal(*shape).astype("f"), options, need_dx)
    for name, got, want in compared:
        compare(name, got, want, 1e-6, 6e-6 if name == "y" else 2e-5)


@activations
def test_the_winner_is_chosen_before_the_bias_behind_a_stride_too(device, how):
    """The bias makes equals of unequals."""
    x = np.zeros((1, 3, 3, 1), np.float32)
    x[0, ::2, ::2, 0] = np.array([1, 1 + 2**-20]).repeat(2).reshape(2, 2)
    arrays = x, np.ones((1, 1, 1, 1), np.float32), np.full(1, 1024, np.float32)
    y, cache = conv_block(*map(device.to_gpu, arrays), stride=2, pool=True, **how)
    dx, *_ = conv_block_backward(device.to_gpu(np.ones(y.shape, np.float32)), cache)
    assert device.to_cpu(dx).ravel().nonzero()[0].tolist() == [6]


@biases
@activations
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize(
    ("x", "weight"),
    [
        ((0, 4, 5, 3), (3, 3, 3, 2)),
        ((2, 4, 5, 0), (3, 3, 0, 2)),
        ((2, 4, 5, 3), (3, 3, 3, 0)),
        ((2, 4, 5, 1), (3, 3, 1, 0)),
        ((0, 4, 5, 0), (1, 3, 0, 0)),
    ],
    ids=str,
)
def test_blocks_of_nothing_are_those_of_ops(device, x, weight, stride, how, bias):
    arrays = [np.ones(shape, np.float32) for shape in (x, weight, weight[-1:])][: 2 + bias]
    for pool in (True, False):
        options = {"pool": pool, "stride": stride, **how}
        for name, got, want in both(device, arrays, whole_numbers, options):
            assert (got is None) == (want is None) and np.shape(got) == np.shape(want), name
            np.testing.assert_array_equal(got, want, err_msg=name)


def test_nan_reaches_y_and_goes_back_as_in_ops(device):
    case = Case((1, 5, 6, 3), (3, 3, 3, 5), pool=True)
    x, weight, bias = arguments(case)
    x[0, 2, 3, 0] = np.nan
    for how in ACTIVATIONS[1:]:
        compared = both(device, (x, weight, bias), whole_numbers, {"pool": True, **how})
        for name, got, want in compared:
            if name != "dweight":  # pixels that no gradient reaches may be left out
                np.testing.assert_array_equal(np.isnan(got), np.isnan(want), err_msg=name)


def test_leaky_blocks_are_the_same_to_the_last_bit_each_time(device):
    case = Case((2, 9, 8, 3), (1, 3, 3, 33), pool=True)

    def everything():
        arrays = arguments(case)
        options = {"pool": True, "activation": "leaky_relu"}
        return [got for _, got, _ in both(device, arrays, whole_numbers, options)]

    first = everything()
    for again in (everything(), *in_other_orders(device, everything)):
        for got, want in zip(again, first, strict=True):
            np.testing.assert_array_equal(got, want)


def test_blocks_refuse_what_ops_refuses(device):
    x, weight, bias = map(device.to_gpu, test_cuda_conv.arguments(Case((1, 4, 5, 2), (3, 3, 2, 3))))
    for options, message in (
        ({"activation": "tanh"}, "activation must be 'relu', 'leaky_relu' or None, got 'tanh'"),
        ({"slope": 1}, "slope must be at least 0 and below 1, got 1"),
        ({"pool": 2}, "pool must be True or False, got 2"),
        ({"stride": 0}, "stride must be a whole number of at least 1, got 0"),
    ):
        with pytest.raises(ValueError, match=f"^{message}"):
            conv_block(x, weight, bias, **options)
    with pytest.raises(ValueError, match=r"^bias must have shape \(K=3\)"):
        conv_block(x, weight, bias[:2])
    y, cache = conv_block(x, weight, stride=np.int64(2), activation="leaky_relu")
    with pytest.raises(ValueError, match=r"^dy must have shape"):
        conv_block_backward(y[:, :1], cache)


def test_every_family_is_tried():
    assert {family.module for family in FAMILIES} == {
        choice.conv_exact, choice.conv_first, choice.conv_tf32
    }  # fmt: skip
