"""The networks of Jaderberg et al.: their sizes, equal counts, starts, gradients and engines."""

from dataclasses import replace
from importlib import import_module

import numpy as np
import pytest
from helpers import normal

from ministn import backend, engines, models, ops
from ministn.data import Addition, Distorted, Form
from ministn.engines import implementation
from ministn.errors import UserError
from ministn.gradcheck.networks import perturbed
from ministn.kinds import from_json, to_json
from ministn.layers import AvgPool2d, Flatten, ReLU
from ministn.models import Stn, stn
from ministn.parameter import ParameterBuffer
from ministn.randomness import Step

STEP = Step(seed=5, number=7)
SMALL = (29, 31)
CLASSES = 5
BOUND = 2e-5  # of the norm of a gradient. Largest difference measured: 9.5e-6, on every engine.

# Those of both tables, by the set that they are for and by name.
FORMS = {name: Distorted(name.upper()).form for name in ("r", "rts", "p", "e", "tc")}
NETWORKS = {
    f"{name}-{network.name}": replace(network, halved="pooled" if name in ("rts", "tc") else "")
    for name in FORMS
    for network in stn.TABLE
}
FORMS["addition"] = Addition().form
NETWORKS |= {f"addition-{net.name}": replace(net, halved="sampled") for net in stn.ADDITION}

# Each once: pooled, sampled at half, and neither.
ONCE = [name for name in NETWORKS if name.startswith(("rts-", "addition-"))]
ONCE += ["p-st-fcn-projective", "e-st-cnn-tps"]
each = pytest.mark.parametrize("name", ONCE)


def form_of(name):
    """Of the images of the set that a network is for."""
    return FORMS[name.split("-")[0]]


def images(name, count=3, dtype=np.float32, size=SMALL):
    return abs(normal(count, *size, form_of(name).channels)).astype(dtype)


def laid_out(name, dtype=np.float32, width=6):
    """A narrow network as training starts, and its buffer."""
    form = Form(SMALL, form_of(name).channels, CLASSES)
    network = replace(NETWORKS[name], width=width).build(form)
    return network, ParameterBuffer(network.parameters(), 0, dtype)


# ---- names and numbers


def test_every_network_is_named_as_it_is_made():
    """The networks for TSTN's Table 3 are still those that they were."""
    assert len(NETWORKS) == 5 * 8 + 8 and len(models.NETWORKS) == 7
    transforms = "affine", "projective", "tps"
    behind, of_cnn, two = (
        [f"{kind}-{transform}" for transform in transforms]
        for kind in ("st-fcn", "st-cnn", "2st-fcn")
    )
    assert [network.name for network in stn.TABLE] == ["fcn", "cnn", *behind, *of_cnn]
    assert [network.name for network in stn.ADDITION] == ["fcn", "cnn", *behind, *two]
    for name, network in NETWORKS.items():
        base, _, transform = network.name.removeprefix("2").removeprefix("st-").partition("-")
        count = (2 if "-2st-" in name else 1) if transform else 0
        assert name.endswith(f"-{network.name}") and from_json(to_json(network)) == network
        built, _ = laid_out(name)
        assert isinstance(built.classifier.layers[-2], {"cnn": Flatten, "fcn": ReLU}[base])
        kinds = [transformer.transform for transformer in built.transformers]
        assert kinds == [stn.TRANSFORMS.get(transform)] * count


def test_they_are_what_the_scripts_train():
    table, addition = import_module("stn_table1"), import_module("stn_addition")
    trained = {
        f"{name}-{model}": replace(network, halved=table.HALVED.get(recipe, ""))
        for name, recipe in table.SETS.items()
        for model, network in table.MODELS.items()
    }
    trained |= {f"addition-{model}": network for model, network in addition.MODELS.items()}
    assert trained == NETWORKS
    assert {name: Distorted(recipe).form for name, recipe in table.SETS.items()}.items() < (
        FORMS.items()
    )


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"base": "rnn"}, "base of an stn must be one of 'fcn', 'cnn', got 'rnn'"),
        (
            {"base": "cnn", "transform": "spline"},
            "transform of an stn must be one of None, 'affine', 'projective', 'tps', got 'spline'",
        ),
        (
            {"base": "cnn", "halved": "twice"},
            "halved of an stn must be one of '', 'pooled', 'sampled', got 'twice'",
        ),
        ({"base": "cnn", "count": 0}, "count must be at least 1, got 0"),
        ({"base": "cnn", "width": 0}, "width must be at least 1, got 0"),
        ({"base": "fcn", "depth": 3}, "stn has no depth; it has base, transform, "),
        ({}, "stn needs base"),
    ],
)
def test_networks_that_there_are_not_are_refused(fields, message):
    with pytest.raises(UserError, match=f"^{message}"):
        from_json({"kind": "stn", **fields})


@pytest.mark.parametrize(
    ("convolutional", "side", "width", "count"),
    [
        (True, 28, 32, 54_122),
        (True, 42, 64, 222_026),
        (True, 60, 32, 84_842),
        (False, 28, 128, 118_282),
        (False, 42, 200, 395_210),
        (False, 60, 256, 990_218),
    ],
)
def test_parameter_counts_of_the_base_networks(convolutional, side, width, count):
    """Against a table that was made by hand."""
    network = stn.stn((side, side), 10, convolutional=convolutional, width=width)
    assert network.count == count


@pytest.mark.parametrize(
    ("convolutional", "side", "count"),
    [
        (True, 28, 11_086),
        (True, 42, 17_086),
        (True, 60, 43_086),
        (False, 28, 27_430),
        (False, 42, 58_790),
        (False, 60, 117_542),
    ],
)
@pytest.mark.parametrize(("name", "numbers"), [("affine", 6), ("projective", 8), ("tps", 32)])
def test_parameter_counts_of_the_localisation_networks(convolutional, side, count, name, numbers):
    transform = stn.TRANSFORMS[name]
    network = stn.stn(
        (side, side), 10, convolutional=convolutional, transforms=[transform], width=3
    )
    base = stn.stn((side, side), 10, convolutional=convolutional, width=3)
    last = (20 if convolutional else 32) + 1
    assert network.count - base.count == count + last * (numbers - 6)
    assert sum(p.size for p in network.localisation_only()) == network.count - base.count


def test_count_of_two_transformers_by_hand():
    """42x42x2 numbers are looked at twice, and 21x21x4 are read."""
    network = replace(NETWORKS["addition-2st-fcn-affine"], width=7).build(FORMS["addition"])
    localisation = (42 * 42 * 2 + 1) * 32 + 2 * (32 + 1) * 32 + (32 + 1) * 6
    classifier = (21 * 21 * 4 + 1) * 7 + (7 + 1) * 7 + (7 + 1) * 19
    assert network.count == 2 * localisation + classifier


# Of the networks of each set, in the tables' order: what all records so far were trained with.
COUNTS = {
    "r": "399615 399086 400477 400543 399878 401376 401418 401922",
    "rts": "399566 399862 400000 400066 399606 396068 396110 396614",
    "p": "399566 399862 400225 400291 398958 399426 399468 399972",
    "e": "399566 399862 400225 400291 398958 399426 399468 399972",
    "tc": "401770 400250 399616 399682 400474 399172 399214 399718",
    "addition": "398741 399439 399307 399373 400165 399245 399377 400961",
}


@pytest.mark.parametrize("data", FORMS)
def test_all_networks_of_a_set_have_equally_many_parameters(data):
    found = [
        network.build(form_of(name)).count
        for name, network in NETWORKS.items()
        if name.startswith(f"{data}-")
    ]
    assert found == [int(count) for count in COUNTS[data].split()]
    assert all(abs(count - stn.PARAMETERS) < 0.012 * stn.PARAMETERS for count in found)


@pytest.mark.parametrize("name", ["tc-fcn", "tc-cnn", "addition-2st-fcn-tps"])
def test_no_other_width_comes_closer(name):
    network, form = NETWORKS[name], form_of(name)
    chosen = network.build(form).count
    counts = [replace(network, width=width).build(form).count for width in range(1, 150)]
    assert chosen in counts
    assert abs(chosen - stn.PARAMETERS) == min(abs(count - stn.PARAMETERS) for count in counts)


@pytest.mark.parametrize(
    ("name", "size", "message"),
    [
        ("r-fcn", (27, 60), "must be at least 28x28 for the networks of STN, got 27x60"),
        ("r-st-cnn-tps", (60, 27), "must be at least 28x28 for the networks of STN, got 60x27"),
        ("tc-st-fcn-affine", (120, 110), "120x110 are too large .* more than 400,000 parameters"),
    ],
)
def test_impossible_sizes_are_refused(name, size, message):
    with pytest.raises(UserError, match=message):
        NETWORKS[name].build(Form(size))


@pytest.mark.parametrize("size", [(28,), (28, 28, 28)])
def test_volumes_are_refused(size):
    with pytest.raises(UserError, match=r"is for images \(H, W\), got volumes of 28"):
        Stn("cnn").build(Form(size))


def test_smallest_images():
    for value in stn.TABLE:
        network = replace(value, halved="pooled", width=3).build(Form((28, 28), classes=CLASSES))
        ParameterBuffer(network.parameters(), 0)
        assert network.predict(images("rts", size=(28, 28)))[0].shape == (3, CLASSES)


# ---- where they start


def pooled(network):
    return isinstance(network.classifier.layers[0], AvgPool2d)


def test_what_is_pooled():
    """The output of transformers for RTS and TC, and nothing else."""
    found = {name for name in NETWORKS if pooled(laid_out(name)[0])}
    expected = {
        name
        for name in NETWORKS
        if name.startswith(("rts", "tc")) and not name.endswith(("-fcn", "-cnn"))
    }
    assert found == expected
    for name in ("rts-st-cnn-tps", "tc-st-cnn-tps", "tc-st-fcn-tps", "rts-st-fcn-tps"):
        size = form_of(name).size
        output = NETWORKS[name].build(Form(size)).transformer.size
        assert output == ((48, 48) if name == "rts-st-cnn-tps" else size)


@pytest.mark.parametrize(("side", "half"), [(42, 21), (43, 21)])
def test_in_addition_transformers_sample_half_as_many_pixels(side, half):
    network = NETWORKS["addition-2st-fcn-tps"].build(Form((side, side), classes=19))
    assert [transformer.size for transformer in network.transformers] == [(half, half)] * 2


@pytest.mark.parametrize("name", [n for n in NETWORKS if not n.endswith(("-fcn", "-cnn"))])
def test_they_start_as_classifiers_of_the_image(name):
    network, _ = laid_out(name)
    x = images(name)
    logits, looked = network.predict(x)
    assert len(looked) == (2 if "-2st-" in name else 1)
    for look in looked:
        np.testing.assert_allclose(look.theta, np.tile(np.eye(2, 3), (3, 1, 1)), atol=1e-6)
    if name.startswith("addition"):  # of half as many pixels
        half = SMALL[0] // 2, SMALL[1] // 2
        grid, _ = ops.affine_grid(np.tile(np.eye(2, 3, dtype=np.float32), (3, 1, 1)), half)
        seen, _ = ops.bilinear_sampler(x, grid)
        seen = np.concatenate([seen] * (2 if "-2st-" in name else 1), axis=-1)
        expected, _ = network.classifier.forward(seen)
        np.testing.assert_allclose(logits, expected, rtol=0, atol=1e-5 * abs(expected).max())
    elif network.transformer.size == SMALL:
        expected, _ = network.classifier.forward(x)
        np.testing.assert_allclose(logits, expected, rtol=0, atol=1e-5 * abs(expected).max())
    else:  # the CNN reads no less than 24x24
        seen, _ = network.front.predict(x)
        assert seen.shape == (3, 48, 48, 1)
        np.testing.assert_allclose(seen[:, ::47, ::47], x[:, ::28, ::30], rtol=0, atol=1e-5)


@pytest.mark.parametrize("base", stn.BASES)
@pytest.mark.parametrize("transform", stn.TRANSFORMS)
def test_without_pooling_they_start_as_their_base_network(base, transform):
    """The initial values too are the same, where the widths are."""
    alone, _ = laid_out(f"p-{base}")
    behind, _ = laid_out(f"p-st-{base}-{transform}")
    x = images("p")
    expected = alone.predict(x)[0]
    found = behind.predict(x)[0]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * abs(expected).max())


# ---- how they learn


def loss_and_gradients(network, buffer, x, labels):
    logits, cache = network.forward(x, STEP)
    cross_entropy, backward = implementation("softmax_cross_entropy", logits)
    loss, loss_cache = cross_entropy(logits, labels)
    buffer.zero_grad()
    network.backward(backward(loss_cache), cache)
    found = {p.name: backend.to_cpu(p.grad).copy() for p in buffer.parameters}
    return found | {"loss": np.ravel(backend.to_cpu(loss))}


@each
def test_gradients_reach_every_parameter_and_engines_agree(name):
    x, labels = images(name, 3, np.float64), np.array([3, 1, 4])
    values = perturbed(laid_out(name)[1]).data

    def gradients(dtype):
        network, buffer = laid_out(name, dtype)
        buffer.data[...] = values
        return loss_and_gradients(network, buffer, x.astype(dtype), labels)

    exact, fast = gradients(np.float64), gradients(np.float32)
    with engines.readable_only():
        readable = gradients(np.float32)
    assert [key for key, gradient in exact.items() if not gradient.any()] == []
    assert difference(fast, exact) < BOUND
    assert difference(readable, exact) < BOUND


def difference(found, expected):
    assert found.keys() == expected.keys()
    return max(
        np.linalg.norm(found[key] - want) / np.linalg.norm(want) for key, want in expected.items()
    )


@pytest.mark.parametrize("name", ["rts-st-cnn-projective", "addition-cnn", "addition-2st-fcn-tps"])
def test_gpu_engine_agrees(quick_device, name):
    x, labels = images(name), np.array([3, 1, 4])
    values = perturbed(laid_out(name)[1]).data
    network, buffer = laid_out(name, np.float64)
    buffer.data[...] = values
    exact = loss_and_gradients(network, buffer, x.astype(np.float64), labels)
    buffer = ParameterBuffer(network.parameters(), 0, device=quick_device)
    backend.assign(buffer.data, values)
    x, labels = quick_device.to_gpu(x), quick_device.to_gpu(labels.astype(np.int32))
    assert difference(loss_and_gradients(network, buffer, x, labels), exact) < BOUND


@each
def test_a_few_steps_lower_the_loss(name):
    """To 84 % of what it was at most, measured."""
    network, buffer = laid_out(name, width=16)
    x, labels = images(name, 8), np.arange(8) % CLASSES
    losses = []
    for _ in range(30):
        losses.append(float(loss_and_gradients(network, buffer, x, labels)["loss"][0]))
        buffer.data -= 0.05 * buffer.grad
    assert losses[-1] < 0.9 * losses[0]
    if network.transformer is not None:
        theta = network.transformer.theta(x)
        assert abs(theta - np.float32(network.transformer.transform.identity)).max() > 1e-4
