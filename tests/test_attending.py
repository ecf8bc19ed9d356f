"""Ways in which a localisation network of the TSTN paper may begin and learn beside the paper's."""

import numpy as np
import pytest
from helpers import normal
from small_runs import SETTINGS, changed, data_set, trainer_of

from ministn.data import Form
from ministn.errors import UserError
from ministn.fit.saved import load, save
from ministn.gradcheck.networks import perturbed
from ministn.interop.trace import traced
from ministn.layers import Conv2d
from ministn.models import Tstn, UntiedStn
from ministn.models.controls import Limited
from ministn.optimizers import SGD, Adam, Optimizer
from ministn.parameter import Parameter, ParameterBuffer
from ministn.randomness import Step

STEP = Step(seed=5, number=7)
FORM, SHAPE = Form((13, 19), classes=5), (4, 13, 19, 1)
both = pytest.mark.parametrize("network", [UntiedStn, Tstn])


def built(network, dtype=np.float64):
    made = network.build(FORM)
    return made, ParameterBuffer(made.parameters(), 0, dtype)


# ---- where theta begins


@both
def test_theta_begins_at_the_asked_zoom(network):
    """Exactly, for every image, and what is shown is the middle."""
    made, _ = built(network(1, zoom=0.75), np.float32)
    x = abs(normal(*SHAPE)).astype(np.float32)
    (looked,) = made.predict(x)[1]
    np.testing.assert_array_equal(looked.theta, np.tile([[0.75, 0, 0], [0, 0.75, 0]], (4, 1, 1)))
    shown = made.transformer.warp(x, looked.theta)
    np.testing.assert_allclose(shown[:, 6, 9], x[:, 6, 9], rtol=1e-6)
    np.testing.assert_allclose(shown[:, 2, 1], x[:, 3, 3], rtol=1e-5)  # 4 and 8 from the middle
    assert made.transformer.start == (0.75, 0, 0, 0, 0.75, 0)


# ---- the last pooling


@both
@pytest.mark.parametrize(
    ("size", "inputs"), [((60, 60), (28_800, 6_272)), ((13, 19), (12 * 128, 2 * 128))]
)
def test_with_the_last_pooling_the_neurons_have_fewer_inputs(network, size, inputs):
    found = []
    for pool in (False, True):
        made = network(1, pool=pool).build(Form(size))
        layers = made.transformer.localisation.layers
        assert [c.pool for c in layers if isinstance(c, Conv2d)] == [True, True, pool]
        (weight,) = (p for p in made.parameters() if p.name == "localisation/dense/weight")
        found.append(weight.shape)
    assert found == [(number, 200) for number in inputs]


def test_pooled_or_not_what_is_tied_is_the_classifiers():
    made, _ = built(Tstn(2, pool=True))
    looking, classifying = made.transformer.localisation.layers, made.classifier.layers
    for mine, its in zip(looking[:6], classifying[:6], strict=True):
        assert mine.weight is its.weight and mine.pool == its.pool


# ---- first weights


@both
def test_the_scale_multiplies_the_neurons_first_weights_alone(network):
    """All else begins as without it."""
    (_, usual), (_, small) = (built(network(1, scale=scale)) for scale in (None, 0.125))
    for name, values in usual.views(usual.data).items():
        factor = 0.125 if name == "localisation/dense/weight" else 1
        np.testing.assert_allclose(small.views(small.data)[name], factor * values, rtol=1e-15)


# ---- theta's gradient limited


def test_each_number_that_goes_back_is_limited():
    layer, x = Limited("limited", 0.5), normal(3, 6)
    y, cache = layer.forward(x, STEP)
    np.testing.assert_array_equal(y, x)
    dy = 2 * normal(3, 6)
    given = dy.copy()
    np.testing.assert_array_equal(layer.backward(dy, cache), np.clip(given, -0.5, 0.5))
    np.testing.assert_array_equal(dy, given)  # it is the caller's
    assert layer.backward(dy, cache, need_dx=False) is None
    assert (abs(given) > 0.5).any() and (abs(given) < 0.5).any()


def test_on_a_gpu_they_are_limited_to_the_last_bit(quick_device):
    dy = 2 * normal(5, 6).astype(np.float32)
    layer = Limited("limited", 0.5)
    expected = layer.backward(dy, None)
    given = quick_device.to_gpu(dy)
    np.testing.assert_array_equal(quick_device.to_cpu(layer.backward(given, None)), expected)
    np.testing.assert_array_equal(quick_device.to_cpu(given), dy)


def gradients(network):
    made, buffer = built(network)
    perturbed(buffer)
    logits, cache = made.forward(abs(normal(*SHAPE)), STEP)
    made.backward(normal(*logits.shape), cache)
    return buffer.views(buffer.grad)


@both
def test_a_localisation_network_learns_from_a_limited_gradient(network):
    """So much from each image at most; a limit that nothing reaches changes nothing."""
    free, wide, tight = (gradients(network(1, clip=clip)) for clip in (None, 1e6, 1e-4))
    name = "localisation/theta/bias"
    assert abs(free[name]).max() > 1e-2 and abs(tight[name]).max() <= 1.001 * SHAPE[0] * 1e-4
    for name in free:
        np.testing.assert_array_equal(wide[name], free[name], err_msg=name)
        # What the classifier alone has learns as before, and its convolutions unless they are tied.
        looks = name.startswith("localisation") or (network is Tstn and "/conv" in name)
        assert (tight[name] != free[name]).any() == looks, name


# ---- warm-up


def test_the_rates_of_a_warm_up_by_hand():
    """Of two groups one; Adam's own factor is that of the step."""
    rates, warm = [], Parameter("warm", (2,), lambda shape, _: np.zeros(shape))
    plain = Parameter("plain", (3,), lambda shape, _: np.zeros(shape))
    warm.lr_multiplier, warm.warm_up = 0.5, 4
    for rule in (SGD(momentum=0.0), Adam()):
        optimizer = Optimizer(rule, ParameterBuffer([warm, plain], 0))
        rates = [optimizer.step_sizes(0.1, t) for t in (1, 2, 3, 4, 5, 9)]
        factors = [rule.step_size(1.0, t) for t in (1, 2, 3, 4, 5, 9)]
        assert [group.warm_up for group in optimizer.buffer.groups] == [1, 4]
        ramp = [0.0125, 0.025, 0.0375, 0.05, 0.05, 0.05]
        for (usual, mine), factor, rate in zip(rates, factors, ramp, strict=True):
            assert usual == 0.1 * factor
            assert mine == pytest.approx(rate * factor, rel=1e-15)


def test_who_learns_in_every_other_step_warms_up_in_those():
    parameter = Parameter("alone", (2,), lambda shape, _: np.zeros(shape))
    parameter.every, parameter.warm_up = 2, 2
    optimizer = Optimizer(SGD(momentum=0.0), ParameterBuffer([parameter], 0))
    assert [optimizer.step_sizes(1.0, t)[0] for t in range(1, 7)] == [0.5, None, 1, None, 1, None]


def test_a_run_warms_up_the_localisation_networks_own_layers():
    """With SGD the first step is a tenth as long for these, and the same for all others."""
    moved, data = [], data_set()
    for changes in ({}, {"loc_warm_up": 10}):
        settings = changed(SETTINGS, optimizer=SGD(momentum=0.0), loc_lr=0.5, **changes)
        trainer = trainer_of(settings, data, say=lambda line: None)
        before = {p.name: p.data.copy() for p in trainer.network.parameters()}
        trainer.step()
        moved.append({p.name: p.data - before[p.name] for p in trainer.network.parameters()})
    usual, warm = moved
    for name, step in usual.items():
        factor = 0.1 if name.startswith("localisation/") else 1
        np.testing.assert_allclose(warm[name], factor * step, rtol=1e-2, atol=1e-8, err_msg=name)
    assert usual["localisation/theta/weight"].any()


# ---- what cannot be


@pytest.mark.parametrize("name", ["clip", "scale", "zoom"])
@pytest.mark.parametrize("value", [0, -0.1, float("nan"), float("inf")])
def test_an_impossible_number_is_refused(name, value):
    with pytest.raises(UserError, match=rf"^{name} must be "):
        Tstn(1, **{name: value})


@pytest.mark.parametrize("value", [0, -1, 1.5])
def test_an_impossible_warm_up_is_refused(value):
    with pytest.raises(UserError, match=r"^loc_warm_up must be "):
        changed(SETTINGS, loc_warm_up=value)


def test_a_pooling_is_kept_or_not():
    with pytest.raises(UserError, match=r"^pool must be True or False, got 1$"):
        Tstn(1, pool=1)


# ---- kept


@both
def test_such_a_network_can_be_saved(network, tmp_path):
    asked = network(1, clip=0.5, scale=0.5, pool=True, zoom=0.75)
    made, _ = built(asked, np.float32)
    save(made, tmp_path / "network.safetensors")
    loaded = load(tmp_path / "network.safetensors")
    x = abs(normal(*SHAPE)).astype(np.float32)
    (y, (look,)), (same, (seen,)) = made.predict(x), loaded.predict(x)
    np.testing.assert_array_equal(same, y)
    np.testing.assert_array_equal(seen.theta, look.theta)
    assert loaded.transformer.start == made.transformer.start
    assert loaded.transformer.localisation.layers[-1].limit == 0.5


def test_elsewhere_a_limit_is_nothing():
    """What is exported only computes: the same operations with and without it."""
    limited, plain = (built(Tstn(1, clip=clip))[0] for clip in (0.5, None))
    nodes = [[node.operation for node in traced(each, FORM).nodes] for each in (limited, plain)]
    assert nodes[0] == nodes[1]
