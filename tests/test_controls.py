"""Controls: a wide CNN, theta fixed, the gradient stopped, theta of another image, more dropout."""

from functools import partial

import numpy as np
import pytest
from helpers import normal
from small_runs import SETTINGS, changed, data_set, trainer_of

from ministn import engines
from ministn.data import Form
from ministn.errors import UserError
from ministn.gradcheck.networks import perturbed
from ministn.kinds import has
from ministn.layers import Dense, Dropout, ReLU
from ministn.models import (
    NETWORKS,
    Alternating,
    ClassificationCnn,
    Shuffled,
    SmallStn,
    Trstn,
    Tstn,
    UntiedStn,
)
from ministn.models.alternating import Alternately
from ministn.models.controls import Stopped
from ministn.parameter import ParameterBuffer
from ministn.randomness import Step
from ministn.training.trainer import Trainer

STEP = Step(seed=5, number=7)
FORM, SHAPE = Form((13, 19), classes=5), (4, 13, 19, 1)


def built(network, dtype=np.float64, device=None):
    made = network.build(FORM)
    buffer = ParameterBuffer(made.parameters(), 0, dtype, device)
    return made if device else (perturbed(buffer), made)[1]


def gradients(network, x):
    logits, cache = network.forward(x, STEP)
    network.backward(normal(*logits.shape), cache)
    return logits, {p.name: p.grad for p in network.parameters()}


# ---- as many parameters


@pytest.mark.parametrize(("width", "downsample"), [(1542, 1), (969, 3)])
def test_a_wide_cnn_has_as_many_parameters_as_the_tied_network(width, downsample):
    """No other width has a number nearer to it."""
    form = Form((60, 60))
    counts = [ClassificationCnn(1, width + more).build(form).count for more in (-1, 0, 1)]
    distances = [abs(count - Tstn(1, downsample).build(form).count) for count in counts]
    assert min(distances) == distances[1] < 6283 / 2


def test_the_papers_width_is_the_usual_one():
    counts = [ClassificationCnn(2, width).build(FORM).count for width in (None, 625, 626)]
    assert counts[0] == counts[1] < counts[2]
    with pytest.raises(UserError, match=r"^width must be .*, got 0"):
        ClassificationCnn(1, 0)


# ---- theta fixed


@pytest.mark.parametrize("downsample", [1, 1.1])
def test_with_theta_fixed_the_tied_network_is_the_cnn(downsample, monkeypatch):
    """To the last bit, trained on the image, or on what the transformer shows at the identity."""
    monkeypatch.setattr(Alternately, "at", lambda self, number: self.each[1])
    alone = ClassificationCnn(1) if downsample == 1 else Alternating(1, downsample)
    found = []
    for settings in (
        changed(SETTINGS, network=Tstn(1, downsample), loc_lr=0),
        changed(SETTINGS, network=alone),
    ):
        trainer = trainer_of(settings, data_set(), say=lambda line: None)
        # The fast convolutions add up in another order where the image's gradient is wanted.
        with engines.readable_only():
            while not trainer.finished:
                trainer.step()
        values = {p.name: p.data for p in trainer.network.parameters()}
        found.append([values, [e["valid_loss"] for e in trainer.state.history]])
    (ours, losses), (expected, expected_losses) = found
    assert losses == expected_losses
    for name, values in expected.items():
        if not name.startswith("localisation/"):
            np.testing.assert_array_equal(ours[name], values, err_msg=name)
    assert ours["localisation/theta/bias"].tolist() == [1, 0, 0, 0, 1, 0]


# ---- the gradient stopped before the tied weights


@pytest.mark.parametrize("architecture", [1, 2])
def test_tied_weights_learn_from_classifying_alone(architecture):
    """As the classifier's use in an untied network of the same values; all else is as tied."""
    networks = Tstn, UntiedStn
    tied, untied = (built(network(architecture, 1.1)) for network in networks)
    stopped = built(Tstn(architecture, 1.1, stop_gradient=True))
    own = {p.name: p.data for p in stopped.parameters()}
    for parameter in untied.parameters():
        name = parameter.name
        shared = name if name in own else name.replace("localisation", "classifier")
        parameter.data[...] = own[shared]
    x = abs(normal(*SHAPE))
    logits, found = gradients(stopped, x)
    same, uses = gradients(untied, x)
    both, wholes = gradients(tied, x)
    assert list(found) == list(wholes)
    np.testing.assert_array_equal(logits, same)
    np.testing.assert_array_equal(logits, both)
    for name, gradient in found.items():
        np.testing.assert_array_equal(gradient, uses[name], err_msg=name)
        tied_weight = "/conv" in name
        assert gradient.any() and (gradient != wholes[name]).any() == tied_weight, name


def test_a_stopped_layer_gives_nothing_back_and_learns_nothing():
    layer = Stopped("stopped", Dense("dense", 6, 5), ReLU("relu"), Dropout("dropout"))
    assert layer.parameters() == layer.outside_localisation() == []
    buffer, x = ParameterBuffer(layer.layers.parameters(), 0, np.float64), normal(4, 6)
    y, cache = layer.forward(x, STEP)
    np.testing.assert_array_equal(y, layer.layers.forward(x)[0])  # dropout is off
    np.testing.assert_array_equal(layer.backward(normal(4, 5), cache), np.zeros((4, 6)))
    assert layer.backward(normal(4, 5), cache, need_dx=False) is None
    assert not buffer.grad.any()
    assert [path for path, _ in layer.outputs(x, STEP)] == ["dense", "relu", "dropout"]


# ---- theta of another image


@pytest.mark.parametrize("network", [UntiedStn(1), Tstn(1, 1.1), Trstn(1, 1.1, 3)], ids=str)
def test_each_image_is_looked_at_where_the_next_one_is(network):
    x = abs(normal(*SHAPE))
    plain, shuffled = built(network), built(Shuffled(network))
    _, expected = plain.predict(x)
    logits, found = shuffled.predict(x)
    assert len(found) == len(expected) == len(shuffled.transformers)
    for look, before in zip(found, expected, strict=True):
        np.testing.assert_array_equal(look.theta, np.roll(before.theta, -1, axis=0))
    rolled = plain.predict(np.roll(x, 1, axis=0))[0]
    assert abs(logits - rolled).min() > 1e-6  # not the images themselves


def test_so_it_is_on_a_gpu(quick_device):
    x = abs(normal(*SHAPE)).astype(np.float32)
    logits = []
    for device in (None, quick_device):
        network = Shuffled(Trstn(1, 1.1)).build(FORM)
        buffer = ParameterBuffer(network.parameters(), 0, device=device)
        values = 0.05 * normal(buffer.data.size).astype(np.float32)
        buffer.data[...] = values if device is None else device.to_gpu(values)
        y, _ = network.predict(x if device is None else device.to_gpu(x))
        logits.append(y if device is None else device.to_cpu(y))
    np.testing.assert_allclose(logits[1], logits[0], rtol=1e-4, atol=1e-6)


def test_a_network_without_a_transformer_has_nothing_to_shuffle():
    with pytest.raises(UserError, match=r"^arch1-cnn has no theta that could be shuffled$"):
        Shuffled(NETWORKS["arch1-cnn"]).build(FORM)
    assert Shuffled(SmallStn()).name == "small-stn-shuffled"


# ---- dropout in the localisation network too


@pytest.mark.parametrize("network", [UntiedStn, Tstn])
def test_dropout_follows_the_relu_of_the_localisation_network(network):
    made = built(network(1, dropout=0.4))
    layers = made.transformer.localisation.layers
    assert [type(layer) for layer in layers[-4:]] == [Dense, ReLU, Dropout, Dense]
    assert layers[-2].rate == 0.4
    x = abs(normal(*SHAPE))
    _, cache = made.forward(x, STEP)
    (theta,), (looked,) = made.thetas(cache), made.predict(x)[1]
    assert abs(theta - looked.theta).min() > 1e-9
    np.testing.assert_array_equal(looked.theta, built(network(1)).predict(x)[1][0].theta)


@pytest.mark.parametrize("rate", [1, -0.1, float("nan")])
def test_an_impossible_rate_is_refused(rate):
    with pytest.raises(UserError, match=r"^dropout must be "):
        Tstn(1, dropout=rate)


# ---- runs that were begun before there were these fields


@pytest.mark.parametrize("network", [ClassificationCnn(1), Tstn(1)], ids=lambda n: n.name)
def test_a_checkpoint_without_these_fields_goes_on(network, tmp_path):
    begun, data = changed(SETTINGS, network=network), data_set()
    whole = begun.apart_from_epochs()
    known = {"kind", "architecture", "downsample"}
    before = whole | {"network": {k: v for k, v in whole["network"].items() if k in known}}
    assert before != whole
    for identity in (before, whole):
        trainer = Trainer(
            partial(network.build, Form((9, 9))), begun.training, data, begun.task,
            identity=identity, say=lambda line: None,
        )  # fmt: skip
        if identity is before:
            trainer.step()
            trainer.save(tmp_path)
    trainer.load(tmp_path)
    assert trainer.state.steps == 1
    other = changed(begun, **({"dropout": 0.5} if has(network, "dropout") else {"width": 700}))
    with pytest.raises(UserError, match=r"has other settings \(network\.(dropout|width)\)"):
        trainer_of(other, data, say=lambda line: None).load(tmp_path)
