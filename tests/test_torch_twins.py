"""PyTorch's networks, at equal weights, have the loss and the gradients of ours."""

from importlib import import_module

import numpy as np
import pytest
from benchmarks.networks import BENCHED
from benchmarks.sides import Job

from ministn.data import Distorted, as_batch
from ministn.errors import UserError
from ministn.kinds import has, replaced
from ministn.models import Stn
from ministn.parameter import ParameterBuffer
from ministn.randomness import Step

EXAMPLES = 3  # in a batch


@pytest.mark.parametrize("name", BENCHED)
def test_loss_and_gradients_agree(name):
    """In float64, where a difference is a mistake; without dropout, whose masks differ."""
    torch = pytest.importorskip("torch")
    twins, pytorch = import_module("torch_twins"), import_module("benchmarks.pytorch")
    settings = BENCHED[name].settings
    if has(settings, "data.canvas"):
        settings = replaced(settings, "data.canvas", 33)
    form, task = settings.data.form, settings.task
    split, order = Job(name, settings, EXAMPLES, cores=1).noise()
    network = settings.network.build(form)
    buffer = ParameterBuffer(network.parameters(), 0, np.float64)
    # Away from the identity, where every sample lies on a kink.
    buffer.data += np.random.default_rng(0).normal(0, 0.02, buffer.data.shape)
    without_dropout(network.classifier)
    twin = twins.build(settings.network, form).double().eval()
    if fixed := network.fixed_parameters():
        ParameterBuffer(fixed, 0, np.float64)
        network.description.scales = twin.scales
    twins.copy_weights([*network.parameters(), *fixed], twin)

    images, labels = split.batch(order[:EXAMPLES])
    y, cache = network.forward(as_batch(images).astype(np.float64), Step(0, 0))
    loss, loss_cache = task.loss(y, labels)
    buffer.zero_grad()
    network.backward(task.loss_backward(loss_cache), cache)
    buffer.settle()

    examples = pytorch.EXAMPLES[task.kind](pytorch.TorchDevice("cpu"), split, form.channels)
    bytes_, *others = examples.batch(torch.from_numpy(order[:EXAMPLES]))
    doubled = [t.double() if t.is_floating_point() else t for t in others]
    theirs = twin.loss((bytes_ * np.float32(1 / 255)).double(), *doubled)
    theirs.backward()

    assert float(theirs.detach()) == pytest.approx(loss, rel=1e-10)
    found = twins.like_ours(twin)
    assert found.keys() == {parameter.name for parameter in network.parameters()}
    for parameter in network.parameters():
        want = found[parameter.name].reshape(parameter.shape)
        error = np.abs(parameter.grad - want).max() / np.abs(want).max()
        assert error < 1e-10, parameter.name


def without_dropout(layers):
    for layer in layers.layers:
        if hasattr(layer, "rate"):
            layer.rate = 0.0
        if hasattr(layer, "layers"):
            without_dropout(layer)


def test_a_network_without_a_twin_is_one_line():
    pytest.importorskip("torch")
    twins, form = import_module("torch_twins"), Distorted("R").form
    with pytest.raises(UserError, match="st-cnn-projective has no twin yet: affine"):
        twins.build(Stn("cnn", "projective"), form)
