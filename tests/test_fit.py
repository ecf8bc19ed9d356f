"""A step as it is written out, on both engines, and where it stops."""

import numpy as np
import pytest
from helpers import normal

from ministn import ops
from ministn.backend import to_cpu
from ministn.data import as_batch
from ministn.errors import UserError
from ministn.fit import fit, train_on_batch
from ministn.layers import Conv2d, Dense, Dropout, Flatten, Sequential
from ministn.models import Network
from ministn.optimizers import SGD, Adam, Optimizer
from ministn.parameter import ParameterBuffer
from ministn.randomness import Step
from ministn.training.protocol import Training
from ministn.transformer import SpatialTransformer, regression_layer

IMAGES = (abs(normal(6, 8, 9)) * 80).astype(np.uint8)
LABELS = np.array([0, 1, 2, 3, 0, 1])
TWO = Training(epochs=1, batch_size=2, lr=0.01, loc_lr=0.5)
MOMENTUM = SGD()


def network(rule=MOMENTUM, device=None):
    looks = Sequential(Flatten("flat"), regression_layer("theta", 72))
    reads = Sequential(
        Conv2d("conv", 1, 3, pool=True), Flatten("flatten"), Dropout("drop"), Dense("dense", 36, 4)
    )
    made = Network(reads, SpatialTransformer(looks, (6, 8)))
    return made, Optimizer(rule, ParameterBuffer(made.parameters(), 1, device=device))


@pytest.mark.parametrize("rule", [MOMENTUM, Adam()], ids=["SGD", "Adam"])
def test_steps_are_those_written_out(rule):
    found, own = network(rule), network(rule)
    for number in range(3):
        loss = train_on_batch(*found, IMAGES, LABELS, lr=0.01, seed=7)
        logits, cache = own[0].forward(ops.as_batch(IMAGES), Step(7, number))
        expected, loss_cache = ops.softmax_cross_entropy(logits, LABELS)
        own[1].buffer.zero_grad()
        own[0].backward(ops.softmax_cross_entropy_backward(loss_cache), cache)
        own[1].step(0.01)
        assert loss == expected and type(loss) is float
    np.testing.assert_array_equal(found[1].buffer.data, own[1].buffer.data)


def test_images_of_floats_are_taken_as_they_are():
    (one, first), (other, second) = network(), network()
    assert train_on_batch(one, first, IMAGES, LABELS) == train_on_batch(
        other, second, ops.as_batch(IMAGES), LABELS
    )
    np.testing.assert_array_equal(first.buffer.data, second.buffer.data)


def test_steps_on_a_gpu(quick_device):
    """Largest difference 2.8e-9."""
    (one, first), (other, second) = network(), network(device=quick_device)
    images, labels = quick_device.to_gpu(IMAGES), quick_device.to_gpu(LABELS.astype(np.int32))
    for _ in range(3):
        expected = train_on_batch(one, first, IMAGES, LABELS, lr=0.01)
        assert train_on_batch(other, second, images, labels, lr=0.01) == pytest.approx(expected)
    np.testing.assert_allclose(to_cpu(second.buffer.data), first.buffer.data, rtol=0, atol=1e-7)


def test_a_loss_that_is_not_finite_names_the_layer_and_changes_nothing():
    made, optimizer = network()
    made.classifier.layers[0].bias.data[0] = np.inf
    before = optimizer.buffer.data.copy()
    message = (
        r"^the loss of step 1 is nan: the first non-finite values are in conv; try a lower lr$"
    )
    with pytest.raises(UserError, match=message):
        train_on_batch(made, optimizer, IMAGES, LABELS)
    np.testing.assert_array_equal(optimizer.buffer.data, before)
    assert optimizer.t == 0


@pytest.mark.parametrize("lengths", [(4, 6), (6, 4)])
def test_what_cannot_be_trained_on_is_named_and_changes_nothing(lengths):
    made, optimizer = network()
    before = optimizer.buffer.data.copy()
    some, others = IMAGES[: lengths[0]], LABELS[: lengths[1]]
    floats = ops.as_batch(IMAGES)
    floats[3] = np.nan
    for change, error, message in (
        ({"images": some, "labels": others}, ValueError, "for each of {} images, got {}"),
        ({"images": floats}, ValueError, "^images must be finite"),
        (
            {"labels": LABELS.astype(str)},
            TypeError,
            "^labels must be .* got <U21 such as '0': np.uni",
        ),
        (
            {"images": list(IMAGES)},
            TypeError,
            "^images must be one array, got a list of 6: np.stack",
        ),
        ({"images": IMAGES[0]}, ValueError, r"^images must have .* got \(8, 9\).*\[None\] makes"),
        (
            {"images": IMAGES[:0], "labels": LABELS[:0]},
            ValueError,
            "^images must have at least one",
        ),
        ({"images": IMAGES / 255}, TypeError, "^images must be bytes, .* or float32"),
        ({"labels": LABELS.astype(float)}, TypeError, "^labels must be an array of whole numbers"),
        ({"labels": LABELS + 3}, ValueError, "^labels must lie between"),
        ({"task": "classification"}, TypeError, "^task must be a Task, got str"),
        ({"network": made.classifier}, TypeError, "^network must be a Network, got Sequential"),
        ({"seed": -1}, ValueError, "^seed must be a whole number from 0"),
    ):
        arguments = {"network": made, "images": IMAGES, "labels": LABELS} | change
        with pytest.raises(error, match=message.format(*lengths)):
            train_on_batch(**arguments, optimizer=optimizer)
        with pytest.raises(error, match=message.format(*lengths)):
            fit(**arguments, training=TWO)
        np.testing.assert_array_equal(optimizer.buffer.data, before)
        assert optimizer.t == 0 and made.parameters()[0].data.base is not None


@pytest.mark.parametrize("rate", [np.nan, np.inf, -0.1, "0.1", None])
def test_impossible_rates_change_nothing(rate):
    made, optimizer = network()
    before = optimizer.buffer.data.copy()
    with pytest.raises(UserError, match=f"^lr must be a number from 0 up, got {rate!r}"):
        train_on_batch(made, optimizer, IMAGES, LABELS, lr=rate)
    np.testing.assert_array_equal(optimizer.buffer.data, before)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64, bool])
def test_what_is_no_byte_is_not_divided_by_255(dtype):
    for convert in (ops.as_batch, as_batch):
        with pytest.raises(TypeError, match=f"must be bytes, .* got {np.dtype(dtype)}"):
            convert((IMAGES / 255).astype(dtype))
