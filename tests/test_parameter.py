"""Parameters, the flat buffer they live in, and where their first values come from."""

import numpy as np
import pytest

from ministn.initializers import (
    ZEROS,
    Constant,
    GlorotUniform,
    HeUniform,
    Normal,
    Uniform,
)
from ministn.layers import Dense, Sequential
from ministn.parameter import Parameter, ParameterBuffer, unique
from ministn.randomness import Step, generator

HE = HeUniform()


def parameters() -> list[Parameter]:
    """Four parameters whose learning-rate multipliers alternate."""
    shapes = {"a": (2, 3), "b": (5,), "c": (1, 7), "d": (4, 2)}
    made = [Parameter(name, shape, HE) for name, shape in shapes.items()]
    for parameter, multiplier in zip(made, [1.0, 0.1, 1.0, 0.1], strict=True):
        parameter.lr_multiplier = multiplier
    return made


def test_a_shared_parameter_counts_once_at_its_first_place():
    a, b, c, _ = parameters()
    assert unique([b, a, b, c, a]) == [b, a, c]
    assert ParameterBuffer([a, a], seed=0).count == a.size == 6


def test_two_parameters_of_one_name_are_refused():
    with pytest.raises(ValueError, match="two different parameters are named 'a'"):
        ParameterBuffer([parameters()[0], parameters()[0]], seed=0)


def test_groups_are_contiguous_and_cover_the_buffer():
    made = parameters()
    buffer = ParameterBuffer(made, seed=0)
    assert buffer.groups == [(slice(0, 8 + 8), 1.0, 1, 1), (slice(16, 16 + 8 + 8), 0.1, 1, 1)]
    for group, multiplier, *_ in buffer.groups:
        buffer.data[group] = multiplier
    assert all((p.data == p.lr_multiplier).all() for p in made)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_data_and_grad_are_views_of_the_flat_arrays(dtype):
    made = parameters()
    buffer = ParameterBuffer(made, 0, dtype)
    assert buffer.data.dtype == buffer.grad.dtype == dtype
    buffer.data[...] = np.arange(buffer.data.size)
    buffer.grad[...] = -buffer.data
    for p in made:
        assert p.data.base is buffer.data and p.grad.base is buffer.grad
        assert p.data.shape == p.grad.shape == p.shape
        np.testing.assert_array_equal(p.grad, -p.data)
    seen = np.concatenate([p.data.ravel() for p in made])
    assert len(set(seen)) == len(seen) == buffer.count == 6 + 5 + 7 + 8
    assert all(p.data.ravel()[0] % 4 == 0 for p in made), "aligned for reads of four values"
    buffer.zero_grad()
    assert not any(p.grad.any() for p in made)


def test_initial_values_depend_on_seed_and_name_only():
    a, b, *_ = parameters()
    first = ParameterBuffer([a, b], seed=3) and a.data.copy()
    later = Parameter("a", (2, 3), HE)
    ParameterBuffer([Parameter("new", (9,), HE), b, later], 3, np.float64)
    np.testing.assert_array_equal(later.data.astype(np.float32), first)
    for name, seed in (("a", 4), ("A", 3)):
        other = Parameter(name, (2, 3), HE)
        ParameterBuffer([other], seed)
        assert (other.data != first).all()


# shape -> fan_in, fan_out. A 3x3 convolution of 50 maps to 40, and a dense layer.
FANS = {(3, 3, 50, 40): (450, 360), (300, 200): (300, 200)}


@pytest.mark.parametrize("shape", FANS, ids=str)
@pytest.mark.parametrize(
    ("initial", "std"),
    [
        (HeUniform(), lambda fan_in, fan_out: (2 / fan_in) ** 0.5),
        (HeUniform(gain=1.0), lambda fan_in, fan_out: (1 / fan_in) ** 0.5),
        (GlorotUniform(), lambda fan_in, fan_out: (2 / (fan_in + fan_out)) ** 0.5),
        (Uniform(0.3), lambda fan_in, fan_out: 0.3 / 3**0.5),
        (Normal(0.02), lambda fan_in, fan_out: 0.02),
    ],
    ids=["he", "he gain 1", "glorot", "uniform", "normal"],
)
def test_standard_deviation_and_bounds(initial, std, shape):
    expected = std(*FANS[shape])
    values = initial(shape, generator(0, "test"))
    assert values.shape == shape and values.dtype == np.float64
    # Of 18,000 and 60,000 values: the standard errors are below 0.006 of the deviation.
    assert values.std() == pytest.approx(expected, rel=0.02)
    assert abs(values.mean()) < 0.03 * expected
    if not isinstance(initial, Normal):
        bound = expected * 3**0.5
        assert 0.999 * bound < abs(values).max() <= bound


def test_constants():
    nothing = generator(0, "unused")
    assert Constant((1.0, 0.0))((2,), nothing).tolist() == [1, 0]
    assert not ZEROS((4, 3), nothing).any()
    assert (Constant(2.5)((2, 3), nothing) == 2.5).all()
    with pytest.raises(ValueError, match="broadcast"):
        Constant((1.0, 0.0))((5,), nothing)


def test_the_first_gradient_of_a_step_is_written_and_later_ones_are_added():
    a, b, *others = parameters()
    buffer = ParameterBuffer([a, b, *others], seed=0)
    buffer.grad[...] = np.nan  # what an earlier step may have left
    buffer.zero_grad()
    a.add(np.ones(a.shape))
    a.add(np.full(a.shape, 2.0))
    b.grad += 5.0
    np.testing.assert_array_equal(a.grad, 3.0)
    np.testing.assert_array_equal(b.grad, 5.0)
    assert not any(p.grad.any() for p in others), "not used, so zero"
    assert np.isnan(buffer.grad).sum() == buffer.grad.size - buffer.count, "only the gaps"


def test_room_is_where_the_first_gradient_of_a_step_may_be_written():
    a, *_ = parameters()
    buffer = ParameterBuffer([a], seed=0)
    assert a.room() is None, "nobody has begun a step"
    buffer.zero_grad()
    room = a.room()
    room[...] = 7.0
    a.add(room)
    assert a.room() is None and (a.grad == 7.0).all() and (buffer.grad[: a.size] == 7.0).all()


def test_networks_that_share_layers_take_turns():
    """Each step has the gradients of the network that took it, and zero of all others."""
    shared = Dense("shared", 3, 4)
    heads = {name: Dense(name, 4, 2) for name in "ab"}
    nets = {name: Sequential(shared, head) for name, head in heads.items()}
    buffer = ParameterBuffer([p for net in nets.values() for p in net.parameters()], 0, np.float64)
    rng = np.random.default_rng(0)
    for name in "abba":
        x, dy = rng.normal(size=(5, 3)), rng.normal(size=(5, 2))
        buffer.zero_grad()
        _, cache = nets[name].forward(x, Step(0, 0))
        nets[name].backward(dy, cache)
        hidden = x @ shared.weight.data + shared.bias.data
        np.testing.assert_allclose(heads[name].weight.grad, hidden.T @ dy, rtol=1e-12)
        dhidden = dy @ heads[name].weight.data.T
        np.testing.assert_allclose(shared.weight.grad, x.T @ dhidden, rtol=1e-12)
        other = heads["ab".replace(name, "")]
        assert not other.weight.grad.any() and not other.bias.grad.any()
