"""The GRU: beside PyTorch's, where its states are known, and as a layer; see also test_ops.py."""

import numpy as np
import pytest
from helpers import normal

from ministn import ops
from ministn.parameter import ParameterBuffer
from ministn.recurrent import GRU

N, D, K = 3, 5, 4


def arguments():
    """x, weight_x, weight_h, bias."""
    return normal(N, D), normal(D, 3, K), normal(K, 3, K), normal(3, K)


# ---- PyTorch's gates are in the order r, z, n, its weights (3 K, D), and z = 1 - u = sigmoid(-a_u)
# weighs h_t-1. Of its two biases one lies inside r * (...), where ours has none.

SIGNS = np.array([1, -1, 1])[:, None, None]


def to_torch(array):
    """weight (D, 3, K) or bias (3, K) -> (3 K, D) or (3 K,)."""
    gates_first = np.moveaxis(array.reshape(-1, 3, K), 0, 2)
    return (gates_first * SIGNS).reshape(3 * K, *array.shape[:-2])


def from_torch(array):
    """The opposite."""
    back = np.moveaxis(array.reshape(3, K, -1) * SIGNS, 2, 0)
    return back.reshape(*array.shape[1:], 3, K)


@pytest.mark.parametrize("steps", [1, 2, 3, 5])
def test_states_and_gradients_are_pytorchs(steps):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    x, *weights = arguments()
    y, cache = ops.gru(x, *weights, steps)
    dy = normal(*y.shape)

    theirs = torch.nn.GRU(D, K, batch_first=True, dtype=torch.float64)
    parameters = theirs.weight_ih_l0, theirs.weight_hh_l0, theirs.bias_ih_l0
    with torch.no_grad():
        theirs.bias_hh_l0.zero_()
        for parameter, weight in zip(parameters, weights, strict=True):
            parameter.copy_(torch.from_numpy(to_torch(weight)))
    leaf = torch.from_numpy(x).requires_grad_()
    states, _ = theirs(leaf[:, None].expand(N, steps, D))
    states.backward(torch.from_numpy(dy))
    expected = [leaf.grad.numpy(), *(from_torch(p.grad.numpy()) for p in parameters)]

    np.testing.assert_allclose(y, states.detach().numpy(), rtol=0, atol=1e-10)
    for got, want in zip(ops.gru_backward(dy, cache), expected, strict=True):
        assert np.any(want) or (steps == 1 and want.shape == (K, 3, K))
        np.testing.assert_allclose(got, want, rtol=0, atol=1e-10)


# ---- where the states are known


def test_a_state_does_not_depend_on_how_many_follow():
    (three, _), (five, _) = (ops.gru(*arguments(), steps) for steps in (3, 5))
    np.testing.assert_array_equal(five[:, :3], three)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_gates_that_are_shut_or_open(dtype):
    """Saturated by the bias. u shut: h stays 0. r shut, u open: h is the candidate from x alone."""
    x, weight_x, weight_h, bias = (array.astype(dtype) for array in arguments())
    bias[:2] = [[-1e4], [-1e4]]
    y, cache = ops.gru(x, weight_x, weight_h, bias, 3)
    assert not y.any() and not any(gradient.any() for gradient in ops.gru_backward(y + 1, cache))
    bias[1] = 1e4
    y, _ = ops.gru(x, weight_x, weight_h, bias, 3)
    candidate = np.tanh(x @ weight_x[:, 2] + bias[2])
    np.testing.assert_allclose(y, np.stack([candidate] * 3, axis=1), rtol=1e-6)


# ---- as a layer


def test_a_layer_has_a_row_for_each_state():
    layer = GRU("gru", D, K, 3)
    ParameterBuffer(layer.parameters(), 0, np.float64)
    x = normal(N, D)
    states, _ = ops.gru(x, layer.weight_x.data, layer.weight_h.data, layer.bias.data, 3)
    rows, _ = layer.forward(x)
    assert rows.shape == (3 * N, K)
    for n in range(N):
        np.testing.assert_array_equal(rows[3 * n : 3 * n + 3], states[n])


def test_a_layer_begins_as_the_paper_has_it():
    layer = GRU("gru", 300, 40, 3)
    ParameterBuffer(layer.parameters(), 0)
    for weight in (layer.weight_x.data, layer.weight_h.data):
        np.testing.assert_allclose(weight.std(axis=(0, 2)), 0.1, rtol=0.1)
        assert abs(weight.mean()) < 0.01
    assert not layer.bias.data.any()
