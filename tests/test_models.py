"""The papers' networks: their sizes, names, what they share and where they start."""

import numpy as np
import pytest
from helpers import normal

from ministn import engines, fast, ops
from ministn.data import Form
from ministn.errors import UserError
from ministn.kinds import from_json
from ministn.layers import Dropout, ReLU
from ministn.models import NETWORKS, ClassificationCnn, SmallStn, Tstn, UntiedStn
from ministn.parameter import Parameter, ParameterBuffer
from ministn.randomness import Step

STEP = Step(seed=5, number=7)
COUNTS = {
    "arch1-cnn": 4_019_557,
    "arch1-untied": 9_873_635,
    "arch1-tstn": 9_780_963,
    "arch2-cnn": 4_213_317,
    "arch2-untied": 10_261_155,
    "arch2-tstn": 9_974_723,
}
KINDS = {"cnn": ClassificationCnn, "untied": UntiedStn, "tstn": Tstn}
WITH_TRANSFORMER = [name for name in NETWORKS if not name.endswith("cnn")]
HEAD = ["dense", "theta"]  # of a localisation network: never shared


def small(name: str) -> tuple[int, int]:
    """A small image that is not square and divides badly by the pooling."""
    return (37, 41) if name == "small-stn" else (13, 17)


def laid_out(name: str, dtype=np.float32):
    """The network and its buffer, off the initial state: there no gradient reaches theta."""
    network = NETWORKS[name].build(Form(small(name), classes=5))
    buffer = ParameterBuffer(network.parameters(), 0, dtype)
    for p in buffer.parameters:
        rng = np.random.default_rng(list(p.name.encode()))
        p.data += rng.uniform(-0.05, 0.05, p.shape).astype(dtype)
    return network, buffer


def names(parameters: list[Parameter]) -> list[str]:
    """Layers in order, without "/weight" and "/bias"."""
    assert len({p.name for p in parameters}) == len(parameters)
    return list(dict.fromkeys(p.name.rpartition("/")[0] for p in parameters))


@pytest.mark.parametrize(("name", "count"), COUNTS.items())
def test_parameter_counts_of_the_paper(name, count):
    assert NETWORKS[name].name == name
    assert sum(p.size for p in NETWORKS[name].build(Form((60, 60))).parameters()) == count


def test_parameter_count_of_the_recipe():
    """By hand: sides 60, 30, 26, 13, 9 in the localisation network and 20, 18, 9, 7, 3."""
    localisation = [(25 + 1, 20), (25 * 20 + 1, 20), (9 * 9 * 20 + 1, 50), (50 + 1, 6)]
    classifier = [(9 + 1, 32), (9 * 32 + 1, 32), (3 * 3 * 32 + 1, 256), (256 + 1, 10)]
    expected = sum(rows * columns for rows, columns in localisation + classifier)
    assert sum(p.size for p in SmallStn().build(Form((60, 60))).parameters()) == expected


@pytest.mark.parametrize("architecture", [1, 2])
@pytest.mark.parametrize(
    ("kind", "own"), [("cnn", []), ("untied", ["convolutions", *HEAD]), ("tstn", HEAD)]
)
def test_names_and_what_only_the_localisation_network_has(architecture, kind, own):
    suffixes = [""] if architecture == 1 else ["_1", "_2"]
    convolutions = [f"conv{n}{suffix}" for n in (1, 2, 3) for suffix in suffixes]
    own = [part for name in own for part in (convolutions if name == "convolutions" else [name])]
    own = [f"localisation/{name}" for name in own]
    network = KINDS[kind](architecture).build(Form((60, 60)))
    classifier = [f"classifier/{name}" for name in [*convolutions, "dense", "softmax"]]
    assert names(network.parameters()) == classifier + own
    assert names(network.localisation_only()) == own


@pytest.mark.parametrize("architecture", [1, 2])
def test_one_seed_starts_all_three_networks_from_one_classifier(architecture):
    starts = []
    for kind in KINDS.values():
        network = kind(architecture).build(Form((24, 24)))
        ParameterBuffer(network.parameters(), seed=2)
        starts.append({p.name: p.data for p in network.classifier.parameters()})
    cnn, untied, tstn = starts
    assert cnn.keys() == untied.keys() == tstn.keys()
    for name, values in cnn.items():
        np.testing.assert_array_equal(values, untied[name])
        np.testing.assert_array_equal(values, tstn[name])
        assert values.any() == name.endswith("weight")


def test_initial_values_are_the_papers():
    """He uniform with std sqrt(2 / n_i), and no weights but the identity in the regression."""
    network = UntiedStn(2).build(Form((60, 60)))
    ParameterBuffer(network.parameters(), seed=0)
    for p in network.parameters():
        if p.name == "localisation/theta/bias":
            assert p.data.tolist() == [1, 0, 0, 0, 1, 0]
        elif p.name.endswith("bias") or p.name == "localisation/theta/weight":
            assert not p.data.any()
        else:
            std = np.sqrt(2 / np.prod(p.shape[:-1]))
            # The first convolution has 288 values, so a standard error of 2.6 % here.
            assert p.data.std() == pytest.approx(std, rel=0.1 if p.size < 1000 else 0.02), p.name
            assert abs(p.data).max() <= std * np.sqrt(3) * (1 + 1e-6)


@pytest.mark.parametrize("name", WITH_TRANSFORMER)
def test_first_look_is_at_the_whole_image(name):
    network = NETWORKS[name].build(Form(small(name)))
    ParameterBuffer(network.parameters(), seed=0)
    x = normal(3, *small(name), 1).astype(np.float32)
    _, (looked,) = network.predict(x)
    theta = looked.theta
    assert theta.dtype == np.float32
    np.testing.assert_array_equal(theta, np.tile([[1, 0, 0], [0, 1, 0]], (3, 1, 1)))
    warped = network.transformer.warp(x, theta)
    if name == "small-stn":
        np.testing.assert_array_equal(warped[:, [0, -1]][:, :, [0, -1]], x[:, ::36, ::40])
    else:
        np.testing.assert_array_equal(warped, x)


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_every_parameter_learns_from_an_image_that_is_not_square(name, dtype):
    network, buffer = laid_out(name, dtype)
    x = abs(normal(3, *small(name), 1)).astype(dtype)
    logits, cache = network.forward(x, STEP)
    assert logits.shape == (3, 5) and logits.dtype == dtype
    network.backward(normal(3, 5).astype(dtype), cache)
    assert not [p.name for p in buffer.parameters if not p.grad.any()]
    assert np.isfinite(buffer.grad).all()


@pytest.mark.parametrize("name", NETWORKS)
def test_predict_is_forward_in_evaluation(name):
    network, _ = laid_out(name)
    x = abs(normal(3, *small(name), 1)).astype(np.float32)
    logits, looked = network.predict(x)
    evaluated, cache = network.forward(x)
    np.testing.assert_array_equal(logits, evaluated)
    assert cache is None
    assert len(looked) == (network.transformer is not None)
    trained, kept = network.forward(x, STEP)
    assert (trained == logits).all() == (name == "small-stn")  # which has no dropout
    for look in looked:
        assert abs(look.theta - np.eye(2, 3)).max() > 1e-3
        np.testing.assert_array_equal(look.theta, kept.transformer.theta)


@pytest.mark.parametrize("name", NETWORKS)
def test_float64_goes_through_the_readable_engine(name, monkeypatch):
    """And the engines agree: float32 of the twins is close to float64 of the readable ones."""
    x = abs(normal(3, *small(name), 1))
    fast_logits, _ = laid_out(name)[0].predict(x.astype(np.float32))
    with engines.readable_only():
        ops_logits, _ = laid_out(name)[0].predict(x.astype(np.float32))
    for twin in fast.__all__:
        monkeypatch.delattr(fast, twin)
    logits, _ = laid_out(name, np.float64)[0].predict(x)
    # The largest difference measured is 2.4e-6 of the largest logit.
    for other in (fast_logits, ops_logits):
        assert abs(other - logits).max() < 1e-5 * abs(logits).max()


@pytest.mark.parametrize(
    ("downsample", "size", "dense"),
    [(1, (24, 29), 3 * 3), (1.5, (16, 19), 2 * 2), (2, (12, 14), 1), (3, (8, 9), 1)],
)
@pytest.mark.parametrize("kind", [UntiedStn, Tstn])
def test_downsampled_output_is_floor_of_the_size_by_d(kind, downsample, size, dense):
    network = kind(1, downsample).build(Form((24, 29)))
    assert network.transformer.size == size
    shapes = {p.name: p.shape for p in network.parameters()}
    assert shapes["classifier/dense/weight"] == (dense * 128, 625)
    assert shapes["localisation/dense/weight"] == (6 * 7 * 128, 200)  # still looks at the whole


@pytest.mark.parametrize("name", NETWORKS)
def test_dropout_follows_the_relu_of_the_625_units_only(name):
    network = NETWORKS[name].build(Form((60, 60)))
    stacks = [network.classifier]
    if network.transformer is not None:
        stacks.append(network.transformer.localisation)
    after = [
        (stack.layers[i - 2].bias.shape, type(stack.layers[i - 1]), layer.rate)
        for stack in stacks
        for i, layer in enumerate(stack.layers)
        if isinstance(layer, Dropout)
    ]
    assert after == ([] if name == "small-stn" else [((625,), ReLU, 0.5)])


@pytest.mark.parametrize(
    ("network", "size", "message"),
    [
        (ClassificationCnn(1), (7, 60), "at least 8x8.*got 7x60"),
        (Tstn(2), (60, 7), "at least 8x8.*got 60x7"),
        (UntiedStn(1, downsample=8), (60, 60), "^downsample 8 makes 7x7 of 60x60.*at least 8x8"),
        (SmallStn(), (31, 60), "at least 32x32.*31x60"),
    ],
    ids=str,
)
def test_images_that_are_too_small_are_refused(network, size, message):
    with pytest.raises(UserError, match=message):
        network.build(Form(size))


@pytest.mark.parametrize(
    ("network", "message"),
    [
        ({"kind": "tstn", "architecture": 1, "downsample": 0}, "downsample must be .* 0, got 0"),
        (
            {"kind": "untied stn", "architecture": 1, "downsample": float("nan")},
            "downsample must be a number above 0, got nan",
        ),
        (
            {"kind": "classification cnn", "architecture": 2, "downsample": 2},
            "classification cnn has no downsample; it has architecture",
        ),
        ({"kind": "small stn", "downsample": 1.5}, "small stn has no downsample; it has "),
        ({"kind": "classification cnn", "architecture": 3}, "must be 1 or 2, got 3"),
        ({"kind": "tstn", "architecture": 0}, "architecture must be 1 or 2, got 0"),
        ({"kind": "arch1-cnn"}, "unknown kind 'arch1-cnn'; known are .*, classification cnn, "),
    ],
    ids=str,
)
def test_impossible_networks_are_refused(network, message):
    with pytest.raises(UserError, match=message):
        from_json(network)


def test_no_classes_are_refused():
    with pytest.raises(UserError, match="classes must be at least 1, got 0"):
        Form((60, 60), classes=0)


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (normal(3, 13, 17), r"x must have shape \(N, H, W, C\), got \(3, 13, 17\)"),
        (normal(3, 13, 17, 2), r"conv1: x must have shape \(N, H, W, C=1\)"),
        (normal(3, 19, 17, 1), r"dense: x must have shape \(N, D="),
    ],
    ids=["no channels", "two channels", "another size"],
)
@pytest.mark.parametrize("name", ["arch1-cnn", "arch1-tstn"])
def test_wrong_images_are_refused(name, x, message):
    with pytest.raises(ValueError, match=message):
        laid_out(name, np.float64)[0].forward(x, STEP)
    with pytest.raises(TypeError, match="must be float32 or float64"):
        laid_out(name)[0].forward(x.astype(np.uint8))


@pytest.mark.parametrize(
    ("name", "parameter", "expected"),
    [
        ("arch1-cnn", "classifier/conv2/weight", "classifier/conv2"),
        ("arch1-cnn", "classifier/softmax/bias", "classifier/softmax"),
        ("arch1-untied", "classifier/conv1/bias", "classifier/conv1"),
        (
            "arch1-untied",
            "localisation/dense/bias",
            "localisation/dense in the localisation network",
        ),
        ("arch1-tstn", "classifier/conv3/bias", "classifier/conv3 in the localisation network"),
        ("arch1-tstn", "localisation/theta/bias", "localisation/theta in the localisation network"),
    ],
)
def test_first_layer_with_non_finite_values_is_named(name, parameter, expected):
    network, buffer = laid_out(name)
    x = abs(normal(3, *small(name), 1)).astype(np.float32)
    assert network.first_non_finite(x, STEP) is None
    poisoned = next(p for p in buffer.parameters if p.name == parameter)
    poisoned.data[...] = np.inf
    with np.errstate(all="ignore"):
        assert network.first_non_finite(x, STEP) == expected


def test_ops_has_every_twin():
    """A twin under another name would never be chosen."""
    assert all(hasattr(ops, name) for name in fast.__all__)
