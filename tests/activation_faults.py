"""Faults in the kernels of activations and gates, and of blocks and pools of all kinds, and the
cases that find them: see test_cuda_faults.py.
"""

from functools import partial

import test_cuda_activations as activations
import test_cuda_blocks as blocks
import test_cuda_gru
import test_cuda_ops
from faults import DIFFERENT, READ, Fault
from test_cuda_conv import FAMILIES

from ministn.cuda import conv_exact, conv_first, conv_tf32

LEAKY = {"activation": "leaky_relu", "slope": 0.5}


def leaky(module, pool=True):
    (family,) = (family for family in FAMILIES if family.module is module)
    return partial(
        blocks.test_small_whole_numbers_are_exact, family=family, pool=pool, bias=True, how=LEAKY
    )


def pool(shape, size, stride):
    return partial(
        test_cuda_ops.test_max_pool2d_with_a_stride_is_that_of_ops,
        shape=shape, size=size, stride=stride,
    )  # fmt: skip


CASES = {
    "leaky_relu": partial(activations.test_leaky_relu_is_that_of_ops, shape=(257,), slope=1 / 3),
    "tanh": partial(activations.test_what_squashes_agrees_with_ops, name="tanh", shape=(257,)),
    "sigmoid": partial(
        activations.test_what_squashes_agrees_with_ops, name="sigmoid", shape=(257,)
    ),
    "sigmoid, far": activations.test_sigmoid_overflows_nowhere,
    "sigmoid, tails": activations.test_both_tails_of_a_sigmoid_are_right,
    "gru": partial(test_cuda_gru.test_a_gpu_agrees_with_ops, size=(3, 5, 86, 3)),
    "gru, saturated": test_cuda_gru.test_saturated_gates_are_those_of_ops,
    "conv, leaky": leaky(conv_exact),
    "conv_first, leaky": leaky(conv_first),
    "conv_first, leaky, no pool": leaky(conv_first, pool=False),
    "conv_tf32, leaky": leaky(conv_tf32),
    "max_pool2d, stride": pool((2, 8, 7, 3), 3, 2),
    "max_pool2d, apart": pool((2, 8, 7, 3), 2, 3),
}

FAULTS = [
    Fault("leaky_relu", "if (i < size) y[i]", "if (i <= size) y[i]", "leaky_relu", READ),
    Fault("leaky_relu", "x[i] > 0.f ? x[i] : slope * x[i]", "x[i] > 0.f ? x[i] : slope",
          "leaky_relu", DIFFERENT),
    Fault("leaky_relu", "y[i] > 0.f ?", "y[i] >= 0.f ?", "leaky_relu", DIFFERENT),
    Fault("tanh", "if (i < size) dx[i]", "if (i <= size) dx[i]", "tanh", READ),
    Fault("tanh", " * (1.f + y[i])", "", "tanh", DIFFERENT),
    Fault("sigmoid", "if (i >= size) return;\n    const float e = expf(-fabsf(x[i]));\n    y[i]",
          "const float e = expf(-fabsf(x[i]));\n    y[i]", "sigmoid", READ),
    Fault("sigmoid", "expf(-fabsf(x[i]));\n    y[i]", "expf(-x[i]);\n    y[i]", "sigmoid, far",
          DIFFERENT),
    Fault("sigmoid", "(e / (1.f + e))", "(1.f - 1.f / (1.f + e))", "sigmoid, tails", DIFFERENT),
    Fault("gru", "if (i >= size) return;\n    const Gates gates = gates_of(a, g, i / units",
          "const Gates gates = gates_of(a, g, i / units", "gru", READ),
    Fault("gru", "if (i >= size) return;\n    const int r", "const int r", "gru", READ),
    Fault("gru", "a, g, i / units * 3 * units + i % units", "a, g, 3 * i", "gru", READ),
    Fault("gru", "u = r + units, c = u + units", "c = r + units, u = c + units", "gru", DIFFERENT),
    Fault("gru", "expf(-fabsf(x))", "expf(-x)", "gru, saturated", DIFFERENT),
    Fault("gru", "found.r.y * found.g_c", "found.r.y + found.g_c", "gru", DIFFERENT),
    Fault("gru", "gates.u.rest * h[i] + gates.u.y * gates.c",
          "gates.u.y * h[i] + gates.u.rest * gates.c", "gru", DIFFERENT),
    Fault("gru", "(gates.c - h[i])", "gates.c", "gru", DIFFERENT),
    Fault("gru", " * (1.f + gates.c)", "", "gru", DIFFERENT),
    Fault("gru", "da[r] += da_r", "da[r] = da_r", "gru", DIFFERENT),
    Fault("gru", "dg[c] = da_c * gates.r.y", "dg[c] = da_c", "gru", DIFFERENT),
    Fault("gru", "dh[i] = dnext[i] * gates.u.rest", "dh[i] = dnext[i] * gates.u.y", "gru",
          DIFFERENT),
    # in gate.cuh
    Fault("conv_exact", "value < 0.f ? slope * value : value", "value", "conv, leaky", DIFFERENT),
    Fault("conv_exact", "LEAKY || value > 0.f", "value > 0.f", "conv, leaky", DIFFERENT),
    Fault("conv_first", "forward<2, true>", "forward<2, false>", "conv_first, leaky", DIFFERENT),
    Fault("conv_first", "forward<1, true>", "forward<1, false>", "conv_first, leaky, no pool",
          DIFFERENT),
    Fault("conv_tf32", "forward<32, 2, true>", "forward<32, 2, false>", "conv_tf32, leaky",
          DIFFERENT),
    Fault("max_pool2d", "min(pixel / stride, count - 1)", "pixel / stride", "max_pool2d, stride",
          READ),
    Fault("max_pool2d", "gradient += dy[out]", "gradient = dy[out]", "max_pool2d, stride",
          DIFFERENT),
    Fault("max_pool2d", "(pixel - window) / stride + 1", "(pixel - window) / stride",
          "max_pool2d, apart", DIFFERENT),
    Fault("max_pool2d", "row * stride) * width + column * stride",
          "row * window) * width + column * window", "max_pool2d, apart", DIFFERENT),
]  # fmt: skip
