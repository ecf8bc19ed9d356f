"""A copy of a network and its optimiser trains as they do; one without the other says so."""

import copy
import pickle
from itertools import count

import numpy as np
import pytest
from small_runs import SETTINGS, data_set, trainer_of

from ministn.data import Form
from ministn.errors import UserError
from ministn.fit import Training, fit, train_on_batch
from ministn.initializers import Normal
from ministn.layers import Dense, Flatten, Sequential
from ministn.models import NETWORKS, Network
from ministn.optimizers import SGD, Adam, Optimizer
from ministn.parameter import Parameter, ParameterBuffer
from ministn.randomness import Step
from ministn.transformer import SpatialTransformer, regression_layer
from ministn.transformer.transforms import Attention, General

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (20, 9, 9), np.uint8)
LABELS = (np.arange(20) % 10).astype(np.uint8)


def general() -> Network:
    """With a learned basis."""
    transform = General("general", Attention(), (9, 9))
    looking = Sequential(Flatten("look"), regression_layer("theta", 81, transform))
    read = Sequential(Flatten("flatten"), Dense("softmax", 81, 10))
    return Network(read, SpatialTransformer(looking, (9, 9), transform=transform))


def made(name: str = "arch1-tstn", rule=None, device=None) -> tuple[Network, Optimizer]:
    network = general() if name == "general" else NETWORKS[name].build(Form((9, 9)))
    for parameter in network.localisation_only():
        parameter.lr_multiplier = 0.5
    buffer = ParameterBuffer(network.parameters(), 0, device=device)
    return network, Optimizer(rule or Adam(), buffer)


def stepped(network: Network, optimizer: Optimizer, steps: int = 3) -> np.ndarray:
    """Its parameters after some steps."""
    for _ in range(steps):
        train_on_batch(network, optimizer, IMAGES, LABELS)
    return optimizer.buffer.data.copy()


COPIES = {
    "deepcopy": lambda pair: copy.deepcopy(pair),
    "optimizer first": lambda pair: copy.deepcopy(pair[::-1])[::-1],
    "pickle": lambda pair: pickle.loads(pickle.dumps(pair)),
    "of a copy": lambda pair: copy.deepcopy(pickle.loads(pickle.dumps(pair))),
}


@pytest.mark.parametrize("name", ["arch1-tstn", "arch1-untied", "general"])
@pytest.mark.parametrize("how", COPIES)
def test_a_copy_trains_bit_for_bit_and_apart(how, name):
    network, optimizer = made(name, SGD(weight_decay=0.1) if how == "pickle" else None)
    begun = stepped(network, optimizer)
    copied, its_optimizer = COPIES[how]((network, optimizer))
    assert its_optimizer.t == optimizer.t == 3
    images = IMAGES[..., None].astype(np.float32)
    before = copied.predict(images)[0]
    after = stepped(copied, its_optimizer)
    assert not np.array_equal(copied.predict(images)[0], before)
    np.testing.assert_array_equal(network.predict(images)[0], before)  # the original stays
    np.testing.assert_array_equal(optimizer.buffer.data, begun)
    np.testing.assert_array_equal(stepped(network, optimizer), after)


def test_a_copy_of_the_network_alone_computes_and_is_not_trained_by_the_others_optimizer():
    network, optimizer = made()
    stepped(network, optimizer)
    copied = copy.deepcopy(network)
    images = IMAGES[..., None].astype(np.float32)
    np.testing.assert_array_equal(copied.predict(images)[0], network.predict(images)[0])
    before = optimizer.buffer.data.copy()
    with pytest.raises(UserError, match="has not got parameter 'classifier/conv1/weight' of this"):
        stepped(copied, optimizer)
    y, cache = copied.forward(images, Step(0, 0))
    with pytest.raises(
        AttributeError, match=r"softmax/weight' has no grad: make a ParameterBuffer"
    ):
        copied.backward(y, cache)
    np.testing.assert_array_equal(optimizer.buffer.data, before)
    optimizer = Optimizer(Adam(), ParameterBuffer(copied.parameters(), 0))
    np.testing.assert_array_equal(stepped(copied, optimizer), before)  # from the beginning


def test_a_copy_of_the_optimizer_alone_is_not_the_networks():
    network, optimizer = made()
    with pytest.raises(UserError, match="has not got parameter 'classifier/conv1/weight' of this"):
        stepped(network, copy.deepcopy(optimizer))


def test_an_optimizer_whose_parameters_have_moved_on_says_so():
    network, optimizer = made()
    stepped(network, optimizer)
    other = Optimizer(Adam(), ParameterBuffer(network.parameters(), 1))
    before = other.buffer.data.copy()
    for use in (lambda: stepped(network, optimizer), lambda: optimizer.step(0.1)):
        with pytest.raises(UserError, match="does not lie in this ParameterBuffer any more"):
            use()
    np.testing.assert_array_equal(other.buffer.data, before)
    stepped(network, other)
    fit(network, IMAGES, LABELS, Training(epochs=1), quiet=True)
    with pytest.raises(UserError, match="does not lie in this ParameterBuffer any more"):
        other.step(0.1)


@pytest.mark.parametrize("name", ["data", "grad"])
def test_what_is_replaced_and_not_written_is_noticed(name):
    network, optimizer = made()
    parameter = network.parameters()[3]
    setattr(parameter, name, getattr(parameter, name).copy())
    with pytest.raises(UserError, match=f"'{parameter.name}' does not lie .* in place"):
        optimizer.step(0.1)


def test_the_flat_arrays_cannot_be_replaced():
    """Parameters would lie in the old ones, and never be trained."""
    network, optimizer = made()
    buffer = optimizer.buffer
    with pytest.raises(UserError, match=r"cannot be replaced: write into data\[\.\.\.\]$"):
        buffer.data = buffer.data.copy()
    with pytest.raises(AttributeError, match=r"property 'grad' .* has no setter"):
        buffer.grad = buffer.grad.copy()
    before = network.parameters()[0].data.copy()
    buffer.data += 1
    np.testing.assert_array_equal(network.parameters()[0].data, before + 1)


def test_a_parameter_without_a_buffer_says_what_to_do():
    parameter = Parameter("p", (2,), Normal())
    for name in ("data", "grad"):
        with pytest.raises(AttributeError, match=f"'p' has no {name}: make a ParameterBuffer"):
            getattr(parameter, name)
    with pytest.raises(AttributeError, match="has no 'gradient'"):
        parameter.gradient  # noqa: B018
    assert not hasattr(copy.deepcopy(parameter), "data")


def test_there_is_no_shallow_copy_of_a_buffer():
    with pytest.raises(TypeError, match=r"copy\.deepcopy copies both"):
        copy.copy(made()[1].buffer)


def test_a_copied_trainer_goes_on_as_the_original():
    lines = count()
    trainer = trainer_of(SETTINGS, data_set(), say=lambda line: next(lines))
    for _ in range(5):
        trainer.step()
    copied = copy.deepcopy(trainer)
    for each in (copied, trainer):
        for _ in range(4):
            each.step()
    np.testing.assert_array_equal(copied.buffer.data, trainer.buffer.data)
    assert copied.state == trainer.state and copied.buffer is not trainer.buffer


def test_on_a_gpu(quick_device):
    pair = made("arch1-cnn", device=quick_device)
    copied = copy.deepcopy(pair)
    images, labels = quick_device.to_gpu(IMAGES), quick_device.to_gpu(LABELS.astype(np.int32))
    for network, optimizer in (copied, pair):
        train_on_batch(network, optimizer, images, labels)
    found, wanted = (quick_device.to_cpu(optimizer.buffer.data) for _, optimizer in (copied, pair))
    np.testing.assert_array_equal(found, wanted)
    with pytest.raises(TypeError, match=r"on a GPU cannot be pickled: checkpoint\.save takes"):
        pickle.dumps(pair[1])
