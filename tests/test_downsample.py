"""Transformers whose output is smaller than the input by a factor: floor(H / d)."""

from fractions import Fraction
from math import inf, nan

import numpy as np
import pytest

from ministn.data import Form
from ministn.layers import Flatten, Sequential
from ministn.models import NETWORKS, Tstn
from ministn.parameter import ParameterBuffer
from ministn.transformer import SpatialTransformer, downsampled, regression_layer
from ministn.transformer.samplers import Sampler
from ministn.transformer.transforms import Affine3d


@pytest.mark.parametrize(
    ("size", "factor", "wanted"),
    [
        ((60, 60), 1, (60, 60)),
        ((60, 60), 3, (20, 20)),
        ((61, 59), 3, (20, 19)),
        ((61, 59), 2.5, (24, 23)),
        ((61, 59), (2, 1), (30, 59)),
        ((61, 59), [1.5, 2.5], (40, 23)),
        ((61, 59), np.array([2.0, 1.0]), (30, 59)),
        ((60, 60), np.float32(1.1), (54, 54)),
        ((60, 60), np.int64(7), (8, 8)),
        ((60, 60), Fraction(3, 2), (40, 40)),
        ((33, 66), 1.1, (30, 60)),  # 33 / 1.1 is 29.999999999999996 in floats
        ((30, 40), 0.5, (60, 80)),
        ((8, 9, 10), 2, (4, 4, 5)),
        ((8, 9, 10), (1, 2, 3), (8, 4, 3)),
        ((5, 5), 6, (0, 0)),
    ],
)
def test_the_size(size, factor, wanted):
    found = downsampled(size, factor)
    assert found == wanted and all(type(side) is int for side in found)


def transformer(size, *, volume=False, **more) -> SpatialTransformer:
    transform = {"transform": Affine3d(), "sampler": Sampler("trilinear")} if volume else {}
    last = regression_layer("theta", int(np.prod(size)), *[Affine3d()] * volume)
    return SpatialTransformer(Sequential(Flatten("flatten"), last), size, **transform, **more)


@pytest.mark.parametrize("factor", [1, 2, 1.5, (3, 1)])
def test_it_is_known_when_a_transformer_is_built_and_true_when_it_works(factor):
    made = transformer((12, 9), downsample=factor)
    ParameterBuffer(made.parameters(), 0)
    assert made.size == downsampled((12, 9), factor)
    x = np.random.default_rng(0).random((2, 12, 9, 1), np.float32)
    assert made.forward(x)[0].shape == (2, *made.size, 1)
    other = SpatialTransformer(made.localisation, made.size)
    np.testing.assert_array_equal(made.forward(x)[0], other.forward(x)[0])


def test_volumes():
    made = transformer((4, 6, 8), volume=True, downsample=(1, 2, 3))
    ParameterBuffer(made.parameters(), 0)
    assert made.size == (4, 3, 2)
    assert made.forward(np.ones((1, 4, 6, 8), np.float32))[0].shape == (1, 4, 3, 2)


@pytest.mark.parametrize(
    ("factor", "error", "message"),
    [
        (0, ValueError, "downsample must be a number above 0, got 0"),
        (-2.0, ValueError, r"downsample must be a number above 0, got -2\.0"),
        (nan, ValueError, "downsample must be a number above 0, got nan"),
        (inf, ValueError, "downsample must be a number above 0, got inf"),
        ((2, 0), ValueError, "downsample must be a number above 0, got 0"),
        ((2,), ValueError, r"downsample must be 2 numbers for size \(12, 9\), got \(2,\)"),
        ((1, 2, 3), ValueError, r"downsample must be 2 numbers for size \(12, 9\), got \(1, 2, 3"),
        ("2", TypeError, "downsample must be a number or one for each axis, got '2'"),
        (True, TypeError, "downsample must be a number or one for each axis, got True"),
        (None, TypeError, "downsample must be a number or one for each axis, got None"),
        ((2, None), TypeError, r"downsample must be a number or one for each axis, got \(2, None"),
        (10, ValueError, r"downsample 10 leaves nothing of size \(12, 9\)"),
        ((1, 10), ValueError, r"downsample \(1, 10\) leaves nothing of size \(12, 9\)"),
    ],
)
def test_what_is_refused(factor, error, message):
    with pytest.raises(error, match=message):
        transformer((12, 9), downsample=factor)


@pytest.mark.parametrize("side", [33, 60])
def test_networks_say_the_same(side):
    form = Form((side, side + 1))
    assert NETWORKS["small-stn"].build(form).transformer.size == (side // 3, (side + 1) // 3)
    assert Tstn(1, downsample=1.1).build(form).transformer.size == downsampled(form.size, 1.1)
