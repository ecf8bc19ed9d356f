"""The networks of Jaderberg et al.: their sizes, equal counts, starts, gradients and engines."""

import re

import numpy as np
import pytest
from helpers import normal

from ministn import backend, engines, models, ops
from ministn.data.distorted import RECIPES
from ministn.engines import implementation
from ministn.errors import UserError
from ministn.gradcheck.networks import perturbed
from ministn.gradcheck.suite import STN
from ministn.layers import AvgPool2d
from ministn.models import stn
from ministn.parameter import ParameterBuffer
from ministn.randomness import Step

STEP = Step(seed=5, number=7)
SMALL = (29, 31)
CLASSES = 5
BOUND = 2e-5  # of the norm of a gradient. Largest difference measured: 9.5e-6, on every engine.
SIDES = {name.lower(): recipe.canvas for name, recipe in RECIPES.items()} | {"addition": 42}
each = pytest.mark.parametrize("name", STN)


def images(name, count=3, dtype=np.float32, size=SMALL):
    channels = 2 if name.startswith("addition") else 1
    return abs(normal(count, *size, channels)).astype(dtype)


def laid_out(name, dtype=np.float32, width=6):
    """A narrow network as training starts, and its buffer."""
    network = stn.NETWORKS[name](SMALL, CLASSES, width=width)
    return network, ParameterBuffer(network.parameters(), 0, dtype)


# ---- names and numbers


def test_build_knows_every_network():
    """The networks for TSTN's Table 3 are still those that they were."""
    assert len(stn.NETWORKS) == 5 * 8 + 8 and len(models.NETWORKS) == 7
    network = models.build("tc-st-cnn-tps", (60, 60))
    assert network.transformer.transform is stn.TRANSFORMS["tps"]
    with pytest.raises(UserError, match=r"small-stn, \{r,rts,p,e,tc\}-\{fcn,cnn,st-fcn-affine,"):
        models.build("rts-st-rnn-tps", (42, 42))
    sets, table, addition = (part.split(",") for part in re.findall(r"{(.*?)}", stn.NAMES))
    written = {f"{data}-{name}" for data in sets for name in table}
    assert written | {f"addition-{name}" for name in addition} == stn.NETWORKS.keys()


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
    network = stn.NETWORKS["addition-2st-fcn-affine"]((42, 42), 19, width=7)
    localisation = (42 * 42 * 2 + 1) * 32 + 2 * (32 + 1) * 32 + (32 + 1) * 6
    classifier = (21 * 21 * 4 + 1) * 7 + (7 + 1) * 7 + (7 + 1) * 19
    assert network.count == 2 * localisation + classifier


@pytest.mark.parametrize("data", SIDES)
def test_all_networks_of_a_set_have_equally_many_parameters(data):
    classes = 19 if data == "addition" else 10
    found = stn.counts(data, (SIDES[data],) * 2, classes)
    assert list(found) == list(stn.ADDITION if data == "addition" else stn.TABLE)
    for name, count in found.items():
        assert abs(count - stn.PARAMETERS) < 0.012 * stn.PARAMETERS, name
        assert models.build(f"{data}-{name}", (SIDES[data],) * 2, classes).count == count


@pytest.mark.parametrize("name", ["tc-fcn", "tc-cnn", "addition-2st-fcn-tps"])
def test_no_other_width_comes_closer(name):
    build, size = stn.NETWORKS[name], (SIDES[name.split("-")[0]],) * 2
    chosen = build(size, 10).count
    counts = [build(size, 10, width=width).count for width in range(1, 150)]
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
        models.build(name, size)


def test_smallest_images():
    for name in stn.TABLE:
        network = stn.NETWORKS[f"rts-{name}"]((28, 28), CLASSES, width=3)
        ParameterBuffer(network.parameters(), 0)
        assert network.predict(images(name, size=(28, 28)))[0].shape == (3, CLASSES)


# ---- where they start


def pooled(network):
    return isinstance(network.classifier.layers[0], AvgPool2d)


def test_what_is_pooled():
    """The output of transformers for RTS and TC, and nothing else."""
    found = {name for name in stn.NETWORKS if pooled(laid_out(name)[0])}
    expected = {
        name
        for name in stn.NETWORKS
        if name.startswith(("rts", "tc")) and not name.endswith(("-fcn", "-cnn"))
    }
    assert found == expected
    for name in ("rts-st-cnn-tps", "tc-st-cnn-tps", "tc-st-fcn-tps", "rts-st-fcn-tps"):
        side = SIDES[name.split("-")[0]]
        output = models.build(name, (side, side)).transformer.size
        assert output == ((48, 48) if name == "rts-st-cnn-tps" else (side, side))


@pytest.mark.parametrize(("side", "half"), [(42, 21), (43, 21)])
def test_in_addition_transformers_sample_half_as_many_pixels(side, half):
    for transformer in stn.NETWORKS["addition-2st-fcn-tps"]((side, side), 19).front.transformers:
        assert transformer.size == (half, half)


@pytest.mark.parametrize("name", [n for n in stn.NETWORKS if not n.endswith(("-fcn", "-cnn"))])
def test_they_start_as_classifiers_of_the_image(name):
    network, _ = laid_out(name)
    x = images(name)
    logits, looked = network.predict(x)
    np.testing.assert_allclose(looked.theta, np.tile(np.eye(2, 3), (3, 1, 1)), atol=1e-6)
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
