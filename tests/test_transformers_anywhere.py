"""Wherever transformers stand in a network, each is watched, predicted with and measured, in order.

All thetas are known here: that of the k-th transformer is the identity times 1 - k/8, or as asked.
"""

import numpy as np
import pytest
from helpers import normal

from ministn.data import PosedSplit, Split, as_batch
from ministn.gradcheck.networks import perturbed
from ministn.initializers import ZEROS, Constant
from ministn.layers import Conv2d, Dense, Flatten, Sequential
from ministn.metrics.pose import FRAME
from ministn.models import Network, prediction
from ministn.parameter import ParameterBuffer
from ministn.randomness import Step
from ministn.transformer import HandOn, Parallel, SpatialTransformer

SIZE = (9, 9)
STEP = Step(seed=5, number=7)
IDENTITY, HALF = 1.0, 0.5  # how much of the image a transformer sees


def transformer(number, scale=None, channels=1):
    """It always sees the same part of the image, about its middle."""
    scale = 1 - number / 8 if scale is None else scale
    start = np.array([scale, 0, 0, 0, scale, 0])
    theta = Dense(
        f"localisation{number}/theta",
        SIZE[0] * SIZE[1] * channels,
        6,
        initial=ZEROS,
        initial_bias=Constant(start),
    )
    return SpatialTransformer(
        Sequential(Flatten(f"localisation{number}/flatten"), theta),
        SIZE,
        path=f"transformer{number}",
    )


def network(*layers, front=None, channels=1):
    """Some layers and a dense one, behind what is in front."""
    dense = Dense("classifier/dense", SIZE[0] * SIZE[1] * channels, 3)
    classifier = Sequential(*layers, Flatten("classifier/flatten"), dense)
    made = Network(classifier, front)
    ParameterBuffer(made.parameters(), 0)
    return made


def handing_on():
    reader = Conv2d("classifier/conv1", 1, 2), transformer(2, channels=2)
    handing = HandOn(transformer(1), *reader, Flatten("classifier/flatten1"))
    made = Network(Sequential(Dense("classifier/dense", 9 * 9 * 2 + 6, 3)), handing)
    ParameterBuffer(made.parameters(), 0)
    return made


def pair(first=1, channels=1):
    return Parallel(
        transformer(first, channels=channels), transformer(first + 1, channels=channels)
    )


def conv(channels=1):
    return Conv2d("classifier/conv", channels, 2)


# name: (how it is made, its transformers)
ARRANGEMENTS = {
    "none": (lambda: network(conv(), channels=2), 0),
    "in front": (lambda: network(front=transformer(1)), 1),
    "inside the classifier": (
        lambda: network(conv(), transformer(1, channels=2), channels=2), 1,
    ),
    "two in parallel": (lambda: network(front=pair(), channels=2), 2),
    "two in parallel inside": (lambda: network(pair(), channels=2), 2),
    "in front and inside": (
        lambda: network(
            conv(), transformer(2, channels=2), front=transformer(1), channels=2
        ), 2,
    ),
    "in front, inside and in parallel inside": (
        lambda: network(
            conv(), transformer(2, channels=2), pair(3, channels=2),
            front=transformer(1), channels=4,
        ), 4,
    ),
    "two in parallel and inside": (
        lambda: network(conv(2), transformer(3, channels=2), front=pair(), channels=2), 3,
    ),
    "two deep": (
        lambda: network(Sequential(Sequential(transformer(1)), transformer(2))), 2,
    ),
    "handing theta on to another": (handing_on, 2),
}  # fmt: skip
everywhere = pytest.mark.parametrize("name", ARRANGEMENTS)


def images(count=3):
    return np.random.default_rng(0).integers(0, 256, (count, *SIZE), np.uint8)


# ---- one look and one theta for each


@everywhere
def test_each_has_a_look_and_a_theta_in_order(name):
    make, count = ARRANGEMENTS[name]
    made, x = make(), as_batch(images())
    expected = [np.tile(np.eye(2, 3) * (1 - k / 8), (3, 1, 1)) for k in range(1, count + 1)]
    assert [one.path for one in made.transformers] == [
        f"transformer{k}" for k in range(1, count + 1)
    ]
    y, looks = made.predict(x)
    trained, cache = made.forward(x, STEP)
    np.testing.assert_array_equal(y, trained)  # there is no dropout
    thetas = made.thetas(cache)
    assert len(looks) == len(thetas) == len(made.transformers) == count
    for look, theta, want in zip(looks, thetas, expected, strict=True):
        np.testing.assert_array_equal(look.theta, want)
        np.testing.assert_array_equal(theta, want)
        np.testing.assert_allclose(look.grid, want[:, None, None, :1, 0] * FRAME, atol=1e-7)
        assert look.grid.shape == (3, 4, 4, 2)


@everywhere
def test_each_has_its_looks_joined_batch_after_batch(name, monkeypatch):
    """Of thetas that follow from the image: two batches of two, and one image alone."""
    make, count = ARRANGEMENTS[name]
    made = make()
    perturbed(ParameterBuffer(made.parameters(), 0))
    y, looks = made.predict(as_batch(images(5)))
    monkeypatch.setattr(prediction, "BATCH", 2)
    found, joined = prediction.predict(made, images(5))
    np.testing.assert_allclose(found, y, rtol=0, atol=1e-5)
    assert len(joined) == len(looks) == count
    for one, other in zip(joined, looks, strict=True):
        for field in ("theta", "grid"):
            same, want = getattr(one, field), getattr(other, field)
            np.testing.assert_allclose(same, want, rtol=0, atol=1e-5)
            assert len(want) == 5 and (want.std(axis=0) > 1e-4).any()


# ---- what a split measures


# Two digits: one as large as the half in the middle, one a pixel to its left and less high.
BOXES = np.array([[2, 2, 6, 6], [1, 2, 5, 5]], np.int16)


def split_of(kind=Split, **more):
    return kind(images(2), np.zeros(2, np.uint8), BOXES, **more)


# By hand. The image has 8x8 pixels between centres, and the half those from 2 to 6, which is the
# first box. The second has 4x3; the half shares 3x3 of these. Their centres are (4, 4), (3, 3.5).
OF_IDENTITY = {
    "overlap": (16 / 64 + 12 / 64) / 2,
    "inside": 1.0,
    "left_image": 0.0,
    "moved": 0.0,
    "spread": 0.0,
    "correlation": 0.0,
    "wander_in": np.sqrt((0.5**2 + 0.25**2) / 2),
    "wander_out": np.sqrt((0.5**2 + 0.25**2) / 2),
}
OF_HALF = OF_IDENTITY | {
    "overlap": (1 + 9 / 19) / 2,
    "inside": 0.5,
    "moved": 1 / 6,
    "wander_out": 2 * OF_IDENTITY["wander_in"],
}
INK = (np.sqrt(25) + np.sqrt(20)) / 2  # the width of the digit, of the median image
for measures, factor in ((OF_IDENTITY, 1), (OF_HALF, 2)):
    measures["overlap_in"] = OF_IDENTITY["overlap"]
    measures["widths_in"] = measures["wander_in"] / INK
    measures["widths_out"] = measures["wander_out"] / (factor * INK)
KNOWN = {IDENTITY: OF_IDENTITY, HALF: OF_HALF}


def looked_at(*scales):
    """A network that has such transformers, and where they looked."""
    front, *others = (transformer(k, scale) for k, scale in enumerate(scales, 1))
    return network(*others, front=front).predict(as_batch(images(2)))[1]


@pytest.mark.parametrize("scale", KNOWN)
def test_measures_of_one(scale):
    assert split_of().measure(looked_at(scale)) == pytest.approx(KNOWN[scale], abs=1e-12)


def test_measures_of_none():
    found = split_of().measure([])
    assert found.keys() == OF_HALF.keys() and set(found.values()) == {None}


@pytest.mark.parametrize("scales", [(IDENTITY, HALF), (HALF, IDENTITY), (HALF, HALF, IDENTITY)])
def test_measures_of_several_are_the_firsts_and_those_of_each(scales):
    found = split_of().measure(looked_at(*scales))
    each = found.pop("transformers")
    assert found == pytest.approx(KNOWN[scales[0]], abs=1e-12)
    assert len(each) == len(scales)
    for one, scale in zip(each, scales, strict=True):
        assert one == pytest.approx(KNOWN[scale], abs=1e-12)


@pytest.mark.parametrize(
    "make",
    [
        lambda one, other: network(front=Parallel(one, other), channels=2),
        lambda one, other: network(one, other),
        lambda one, other: network(other, front=one),
    ],
    ids=["in parallel", "inside", "in front and inside"],
)
def test_measures_are_the_same_wherever_they_stand(make):
    made = make(transformer(1, HALF), transformer(2, IDENTITY))
    found = split_of().measure(made.predict(as_batch(images(2)))[1])
    assert found.pop("transformers")[1] == pytest.approx(OF_IDENTITY, abs=1e-12)
    assert found == pytest.approx(OF_HALF, abs=1e-12)


# ---- where poses are known


# Half as large as the image, and a pixel to the right and to the left: the half follows them but
# for that pixel, and in no way which is the same for all images.
POSES = (HALF * FRAME + np.array([0.25, 0]) * np.array([1, -1])[:, None, None, None]).astype(
    np.float32
)


def posed(scale):
    """In pixels, of which 4 are half an image: how far the points of the scaled frame are away."""
    offset = 4 * (scale * FRAME - POSES.astype(float))
    away = np.hypot(offset[..., 0], offset[..., 1]).mean()
    return {"pose_distance": away, "pose_spread": 1.0, "pose_unmoved": 1.0}


def test_poses_of_one():
    assert posed(HALF)["pose_distance"] == pytest.approx(1)
    assert posed(IDENTITY)["pose_distance"] > 1.5
    for scale in (HALF, IDENTITY):
        found = split_of(PosedSplit, poses=POSES).measure(looked_at(scale))
        assert found == pytest.approx(KNOWN[scale] | posed(scale), abs=1e-6)


def test_poses_of_none():
    found = split_of(PosedSplit, poses=POSES).measure([])
    assert found.keys() == OF_HALF.keys() | posed(HALF).keys() and set(found.values()) == {None}


@pytest.mark.parametrize("scales", [(IDENTITY, HALF), (HALF, IDENTITY)])
def test_poses_of_several_are_those_of_the_best(scales):
    """Attention is that of the first one; a digit's pose counts by the one that follows it best."""
    found = split_of(PosedSplit, poses=POSES).measure(looked_at(*scales))
    each = found.pop("transformers")
    assert found == pytest.approx(KNOWN[scales[0]] | posed(HALF), abs=1e-6)
    for one, scale in zip(each, scales, strict=True):
        assert one == pytest.approx(KNOWN[scale] | posed(scale), abs=1e-6)


def test_two_digits_are_each_followed_by_the_one_that_follows_it_best():
    """In two channels, as in MNIST addition: one as large as the image, one half as large."""
    whole = np.tile(FRAME, (2, 1, 1, 1)).astype(np.float32)
    poses = np.stack([whole, np.float32(HALF) * whole], axis=1)
    boxes = np.stack([np.tile([[0, 0, 8, 8]], (2, 1)), BOXES], axis=1).astype(np.int16)
    split = PosedSplit(
        (normal(2, *SIZE, 2) > 0).astype(np.uint8), np.zeros(2, np.uint8), boxes, poses
    )
    found = split.measure(looked_at(IDENTITY, HALF))
    one, other = found["transformers"]
    assert found["pose_distance"] == pytest.approx(0, abs=1e-6)
    wrong = np.hypot(2 * FRAME[..., 0], 2 * FRAME[..., 1]).mean()  # of one digit in pixels
    for each in (one, other):
        assert each["pose_distance"] == pytest.approx(wrong / 2)
    assert (one["overlap"], other["overlap"]) == (1, 16 / 64)  # with the box round both digits
