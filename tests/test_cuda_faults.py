"""Faults put into the project's kernels on purpose: each is found by a test that the project has.

A fault is a change of a few characters of the sort people make: a barrier or a bound left out, an
index off by one, a wrong sign. It is found either by the shim's checker, whatever the results, or
by the results. The case that finds it passes without the fault.
"""

import shutil
from functools import partial

import activation_faults
import devices
import numpy as np
import pytest
import step_faults
import test_cuda_conv
import test_cuda_fast_kernels
import test_cuda_ops
import test_cuda_sampler
import test_cuda_training_kernels
import test_cuda_transforms
import test_sgd
import test_triplet_hinge
import volume_faults
from cudacpu.device import EmulatedDevice
from cudacpu.module import KernelError
from faults import DIFFERENT, READ, UNORDERED, UNWAITED, WRITE, Fault
from test_cuda_conv import Case
from test_fast import far_outside, not_finite, whole_and_half_pixels

from ministn import backend
from ministn.cuda import conv_exact, conv_first, conv_tf32, launch
from ministn.randomness import Step

pytestmark = pytest.mark.skipif(shutil.which("g++") is None, reason="no g++")

FAMILY = {family.module: family for family in test_cuda_conv.FAMILIES}


def convolution(module, case):
    """Forward and gradients of one family of convolution blocks."""

    def run(device):
        test_cuda_conv.test_forward_agrees_with_ops(device, FAMILY[module], case)
        test_cuda_conv.test_gradients_agree_with_ops(device, FAMILY[module], case)

    return run


def ties(module):
    return partial(
        test_cuda_conv.test_ties_go_to_the_first_maximum, family=FAMILY[module], pool=True
    )


def several_tiles(device):
    with pytest.MonkeyPatch.context() as patch:
        test_cuda_fast_kernels.test_several_tiles_or_rows_do_not_race(device, patch)


def sampler(image, size, points, border="nearest", sampler="bilinear"):
    return partial(
        test_cuda_sampler.test_sampler_agrees_with_ops,
        image=image, size=size, border=border, fill=0.0, grid=points, sampler=sampler,
    )  # fmt: skip


def identity(device):
    assert test_cuda_sampler.lengths_with_wrong_cells(device, 0) == []


training = test_cuda_training_kernels
CASES = {
    "adam": partial(training.test_adam_is_that_of_ops_to_the_last_bit, size=257),
    "adam, schedule": partial(training.test_adam_takes_its_step_size_from_the_schedule, first=4),
    "adam, halted": training.test_adam_changes_nothing_once_halted,
    "affine_grid": partial(
        test_cuda_sampler.test_affine_grid_is_numpys_to_the_last_bit, n=5, size=(17, 31)
    ),
    "affine_grid_backward": partial(
        test_cuda_sampler.test_affine_grid_backward_agrees_with_ops, n=5, size=(17, 31)
    ),
    "basis_grid": partial(
        test_cuda_transforms.test_basis_grid_agrees_with_ops, n=9, parameters=33, size=(17, 31)
    ),
    "sampler": sampler((2, 6, 5, 6), (9, 11), whole_and_half_pixels),
    "sampler, outside": sampler((2, 3, 4, 7), (3, 2), far_outside),
    "sampler, zeros outside": sampler((1, 4, 6, 3), (5, 7), far_outside, "zeros"),
    "sampler, mirror outside": sampler((1, 4, 6, 3), (5, 7), far_outside, "mirror"),
    "sampler, wrap outside": sampler((1, 4, 6, 3), (5, 7), far_outside, "wrap"),
    "sampler, identity": identity,
    "nearest": sampler((2, 6, 5, 6), (9, 11), whole_and_half_pixels, sampler="nearest"),
    "nearest, not finite": sampler((2, 6, 5, 6), (9, 11), not_finite, sampler="nearest"),
    "nearest, zeros outside": sampler((1, 4, 6, 3), (5, 7), far_outside, "zeros", "nearest"),
    "bicubic": sampler((2, 6, 5, 6), (9, 11), whole_and_half_pixels, sampler="bicubic"),
    "bicubic, not finite": sampler((2, 6, 5, 6), (9, 11), not_finite, sampler="bicubic"),
    "bicubic, zeros outside": sampler((1, 4, 6, 3), (5, 7), far_outside, "zeros", "bicubic"),
    "bicubic, largest": partial(
        test_cuda_sampler.test_largest_sum_there_can_be, size=(16, 16), sign=1, sampler="bicubic"
    ),
    "avg_pool2d": partial(
        test_cuda_ops.test_avg_pool2d_is_that_of_ops, shape=(2, 5, 7, 3), size=2
    ),
    "compose": partial(test_cuda_transforms.test_compose_agrees_with_ops, n=43),
    "conv": convolution(conv_exact, Case((2, 5, 4, 7), (1, 3, 7, 1))),
    "conv, fours": convolution(conv_exact, Case((2, 6, 3, 8), (3, 3, 8, 36), pool=True)),
    "conv, ties": ties(conv_exact),
    "conv_first": convolution(conv_first, Case((3, 11, 13, 1), (3, 3, 1, 12), pool=True)),
    "conv_first, no pool": convolution(conv_first, Case((1, 35, 7, 1), (3, 3, 1, 9))),
    "conv_first, ties": ties(conv_first),
    "conv_tf32": convolution(conv_tf32, Case((1, 7, 13, 32), (3, 3, 32, 32), pool=True)),
    "conv, several tiles": several_tiles,
    "dense": partial(
        test_cuda_fast_kernels.test_dense_is_that_of_ops_with_rounded_factors, sizes=(33, 70, 65)
    ),
    "dropout": partial(
        test_cuda_ops.test_dropout_is_that_of_ops, shape=(5, 7), rate=0.5, step=Step(1, 2, 3, 4)
    ),
    "max_pool2d": partial(
        test_cuda_ops.test_max_pool2d_is_that_of_ops, shape=(2, 5, 7, 3), size=2
    ),
    "max_pool2d, ties": lambda device: test_cuda_ops.check_max_pool(
        device, np.float32([[1, 1], [0, 1]]).reshape(1, 2, 2, 1), 2
    ),
    "partials": partial(test_cuda_conv.test_partials_are_summed_in_order, shape=(17, 2, 3, 43)),
    "sgd": partial(test_sgd.test_sgd_is_that_of_ops_to_the_last_bit, size=257),
    "sgd, schedule": partial(test_sgd.test_sgd_takes_its_step_size_from_the_schedule, first=4),
    "sgd, halted": test_sgd.test_sgd_changes_nothing_once_halted,
    "projective_grid": partial(
        test_cuda_transforms.test_projective_grid_agrees_with_ops, n=5, size=(17, 31)
    ),
    "projective_grid, horizon": partial(test_cuda_transforms.test_the_horizon_is_that_of_ops, at=0),
    "projective_grid, other side": partial(
        test_cuda_transforms.test_the_horizon_is_that_of_ops, at=-2.0**-11
    ),
    "projective_grid, infinite": partial(
        test_cuda_transforms.test_projective_theta_that_is_not_finite_is_as_in_ops, value=np.inf
    ),
    "relu": partial(test_cuda_ops.test_relu_is_that_of_ops, shape=(257,)),
    "relu, nan": test_cuda_ops.test_relu_keeps_nan_and_passes_no_gradient_there,
    "triplet_hinge": partial(
        test_triplet_hinge.test_a_gpu_agrees_with_ops, rows=33, features=33, count=259, margin=0.0
    ),
    "triplet_hinge, kink": test_triplet_hinge.test_a_gpu_has_the_kink_where_it_is,
    "triplet_hinge, not finite": partial(
        test_triplet_hinge.test_what_is_not_finite_is_as_in_ops, value=np.nan
    ),
    "triplet_hinge, out of range": partial(
        test_triplet_hinge.test_a_pair_out_of_range_makes_the_loss_nan, bad=[5, 0]
    ),
    "softmax": partial(
        test_cuda_ops.test_softmax_cross_entropy_agrees_with_ops, n=5, classes=33, scale=10
    ),
    "softmax, overflow": test_cuda_ops.test_softmax_cross_entropy_does_not_overflow,
    "softmax, epsilon": partial(test_cuda_ops.test_epsilon_is_added_to_p, epsilon=1e-5),
    "softmax, labels": partial(
        test_cuda_ops.test_label_out_of_range_gives_nan, label=2**31 - 1
    ),
    **activation_faults.CASES,
    **step_faults.CASES,
    **volume_faults.CASES,
}  # fmt: skip

FAULTS = [
    *activation_faults.FAULTS,
    *step_faults.FAULTS,
    *volume_faults.FAULTS,
    Fault("adam", "i >= size || *halted", "*halted", "adam", READ),
    Fault("adam", "i >= size || *halted", "i >= size", "adam, halted", DIFFERENT),
    Fault("adam", "*number % period", "*number", "adam, schedule", READ),
    Fault("adam", "__fadd_rn(__fmul_rn(m[i], beta1), __fmul_rn(gi, gain1))",
          "__fmaf_rn(m[i], beta1, __fmul_rn(gi, gain1))", "adam", DIFFERENT),
    Fault("affine_grid", "__fadd_rn(__fmul_rn(row[0], x), __fmul_rn(row[1], y))",
          "__fmaf_rn(row[0], x, __fmul_rn(row[1], y))", "affine_grid", DIFFERENT),
    Fault("affine_grid", "i / width % height]", "i / width]", "affine_grid", READ),
    Fault("affine_grid", "__syncthreads();", "", "affine_grid_backward", UNORDERED),
    Fault("affine_grid", "warp < 8; ++warp", "warp < 7; ++warp", "affine_grid_backward", DIFFERENT),
    Fault("avg_pool2d", "row < out_height && column < out_width", "row < out_height", "avg_pool2d",
          READ),
    Fault("avg_pool2d", "p * width + q", "q * width + p", "avg_pool2d", DIFFERENT),
    Fault("basis_grid", "if (m >= size) return;\n    float sum[", "float sum[", "basis_grid", READ),
    Fault("basis_grid", "theta[min(first + k, images - 1)", "theta[(first + k)", "basis_grid",
          READ),
    Fault("basis_grid", "k < IMAGES && first + k < images", "k < IMAGES", "basis_grid", WRITE),
    Fault("basis_grid", "if (p >= parameters) return;", "", "basis_grid", READ),
    Fault("basis_grid", "grid[min(first + k, images - 1)", "grid[(first + k)", "basis_grid", READ),
    Fault("basis_grid", "lane == 0 && first + k < images", "lane == 0", "basis_grid", WRITE),
    Fault("basis_grid", "offset = 16;", "offset = 8;", "basis_grid", DIFFERENT),
    Fault("basis_grid", "basis[(p + 1) * size + m]", "basis[p * size + m]", "basis_grid",
          DIFFERENT),
    Fault("basis_grid", "p == 0 ? 1.f : theta", "theta", "basis_grid", READ),
    Fault("bicubic", "atomicAdd(sums + pixel * channels + c, (unsigned long long)part)",
          "sums[pixel * channels + c] += (unsigned long long)part", "bicubic", "race, "),
    Fault("bicubic", "distance < 0.f ? -slope : slope", "slope", "bicubic", DIFFERENT),
    Fault("bicubic", "a * (d - 1.f) * (d - 2.f) * (d - 2.f)", "a * (d - 1.f) * (d - 2.f)",
          "bicubic", DIFFERENT),
    Fault("bicubic", "pixel_at(left + (p - 1)", "pixel_at(left + p", "bicubic", DIFFERENT),
    Fault("bicubic", "rows.slope[p] * value", "rows.weight[p] * value", "bicubic", DIFFERENT),
    Fault("bicubic", "pixel >= 0 && part", "part", "bicubic, zeros outside", WRITE),
    Fault("bicubic", "lost = !around.finite && border != ZEROS;", "", "bicubic, not finite",
          DIFFERENT),
    Fault("bicubic", "min(62 -", "min(63 -", "bicubic, largest", DIFFERENT),  # in sampler.cuh
    Fault("bilinear", "atomicAdd(sums + cell.pixel[p][q] * channels + c, (unsigned long long)part)",
          "sums[cell.pixel[p][q] * channels + c] += (unsigned long long)part", "sampler", "race, "),
    Fault("bilinear", "coordinate - left;", "left - coordinate;", "sampler", DIFFERENT),
    # in sampler.cuh
    Fault("bilinear", "atomicMax(seen, largest)", "*seen = max(*seen, largest)", "sampler",
          "race, "),
    Fault("bilinear", "pixel < size ?", "pixel <= size ?", "sampler, zeros outside", READ),
    Fault("bilinear", "(int)fminf(fmaxf(position, -outside), last + outside)", "(int)position",
          "sampler, outside", "a float does not fit the whole number"),
    Fault("bilinear", "position = fmodf(position, period);", "", "sampler, mirror outside",
          DIFFERENT),
    Fault("bilinear", "if (position < 0.f) position += period;", "", "sampler, wrap outside",
          DIFFERENT),
    Fault("bilinear", "border == WRAP ? size :", "border == WRAP ? last :", "sampler, wrap outside",
          DIFFERENT),
    Fault("bilinear", "fminf(position, period - position)", "position", "sampler, mirror outside",
          DIFFERENT),
    Fault("bilinear", "__fadd_rn(__fmul_rn(normalised, half), half)",
          "__fmaf_rn(normalised, half, half)", "sampler, identity", DIFFERENT),
    # in gemm.cuh, conv_sources.cuh and gate.cuh, too
    Fault("compose", "y[i] = column == 2 ? linear + a[2] : linear;", "y[i] = linear;", "compose",
          DIFFERENT),
    Fault("compose", "right + i / 6 * 6 + column", "right + i / 3 * 3 + column", "compose",
          READ),
    Fault("compose", "a = left + first + row;", "a = left + first + 3 * row;", "compose", READ),
    Fault("compose", "right + first + 3 * column", "right + first + column", "compose", DIFFERENT),
    Fault("conv_exact", "rights[0]);\n    __syncthreads();", "rights[0]);", "conv", UNORDERED),
    Fault("conv_exact", "rights[now ^ 1]);\n        __syncthreads();", "rights[now ^ 1]);", "conv",
          UNORDERED),
    Fault("conv_exact", "if (k + e < s.kernels) {", "{", "conv", "race, write after write"),
    Fault("conv_exact", "count = line + e < height ?", "count = true ?", "conv", READ),
    Fault("conv_exact", "(taps - 1 - tap)", "tap", "conv", DIFFERENT),
    Fault("conv_exact", "!(value <= largest)", "!(value < largest)", "conv, ties", DIFFERENT),
    Fault("conv_exact", "value < 0.f ? 0.f : value", "value", "conv", DIFFERENT),
    Fault("conv_exact_weight", "min(pixels, from + slice)", "from + slice", "conv", READ),
    Fault("conv_exact_weight", "j >= 0 && j < width", "j < width", "conv", READ),
    Fault("conv_exact_weight", "(z.i & pool) * 2 + (z.j & pool)", "(z.j & pool) * 2 + (z.i & pool)",
          "conv, fours", DIFFERENT),
    Fault("conv_first", "column[3]);\n    }\n    __syncwarp();", "column[3]);\n    }",
          "conv_first", UNORDERED),
    Fault("conv_first", "__syncwarp();  // nobody reads the strip", "//", "conv, several tiles",
          "race, "),
    Fault("conv_first", "sum[s];\n    __syncthreads();", "sum[s];", "conv_first", UNORDERED),
    Fault("conv_first", "number >= pieces", "number > pieces", "conv_first", READ),
    Fault("conv_first", "tap % 3 * 4 + tap / 3]", "tap / 3 * 4 + tap % 3]", "conv_first",
          DIFFERENT),
    Fault("conv_first", "p == 0 || replaces(z, largest)", "p == 0 || z >= largest",
          "conv_first, ties", DIFFERENT),
    Fault("conv_first_input", "k0 += CHANNELS) {\n        __syncthreads();", "k0 += CHANNELS) {",
          "conv_first", "race, write after read"),
    Fault("conv_first_input", "sum[s / 4][s % 4];\n    __syncthreads();", "sum[s / 4][s % 4];",
          "conv_first", UNORDERED),
    Fault("conv_first_input", "j < w && k0 + c < K", "j < w", "conv_first, no pool", READ),
    Fault("conv_first_input", "2 * row + 2 * CELLS", "2 * row + 2 * CELLS - 1",
          "conv_first, no pool", DIFFERENT),
    Fault("conv_tf32", "cp_async_wait<0>();\n        __syncthreads();", "__syncthreads();",
          "conv_tf32", UNWAITED),
    Fault("conv_tf32", "__syncthreads();  // this stage", "// this stage", "conv_tf32", UNORDERED),
    Fault("conv_tf32", "__syncwarp();", "", "conv_tf32", UNORDERED),
    Fault("conv_tf32", "__uint_as_float(f32_to_tf32(weight[from]))", "weight[from]", "conv_tf32",
          DIFFERENT),
    Fault("conv_tf32", "(8 - e / C / K)", "(e / C / K)", "conv_tf32", DIFFERENT),
    Fault("conv_tf32", "if (i < h && j < w) {", "{", "conv_tf32", "race, write after write"),
    Fault("conv_tf32_weight", "cp_async_wait<0>();\n        __syncthreads();", "__syncthreads();",
          "conv_tf32", UNWAITED),
    Fault("conv_tf32_weight", "stages + (now ^ 1) * STAGE", "stages + now * STAGE",
          "conv, several tiles", UNWAITED),
    Fault("conv_tf32_weight", "inside = i < h && j < w;", "inside = true;", "conv_tf32", READ),
    Fault("conv_tf32_weight", "bias[n] += __shfl_xor_sync(0xffffffffu, bias[n], 2);", "",
          "conv_tf32", DIFFERENT),
    Fault("dense_tf32", "__syncthreads();  // nobody", "// nobody", "dense", UNORDERED),
    Fault("dense_tf32", "i + s * STRIDE < lines ?", "true ?", "dense", READ),
    Fault("dense_tf32", " + rights[threadIdx.x + COLUMNS]", "", "dense", DIFFERENT),
    Fault("dense_tf32", "bias[i % K]", "bias[i / K]", "dense", DIFFERENT),
    Fault("dropout", "if (i < (unsigned)size) {", "{", "dropout", WRITE),
    Fault("dropout", "+ word - offset;", "+ word;", "dropout", DIFFERENT),
    Fault("dropout", "round < 10", "round < 9", "dropout", DIFFERENT),
    Fault("max_pool2d", "value > best ||", "value >= best ||", "max_pool2d, ties", DIFFERENT),
    Fault("max_pool2d", " && column / window < out_width", "", "max_pool2d", READ),
    Fault("nearest", ">= 0.5f", "> 0.5f", "nearest", DIFFERENT),
    Fault("nearest", "if (pixel < 0) return;", "", "nearest, zeros outside", WRITE),
    Fault("nearest", "point.finite ?", "true ?", "nearest, not finite", DIFFERENT),
    Fault("nearest", "lost = !finite && border != ZEROS;", "", "nearest, not finite", DIFFERENT),
    Fault("projective_grid", "i / width % height]", "i / width]", "projective_grid", READ),
    Fault("projective_grid", "__fadd_rn(__fmul_rn(a, x), __fmul_rn(b, y))",
          "__fmaf_rn(a, x, __fmul_rn(b, y))", "projective_grid", DIFFERENT),
    Fault("projective_grid", "__syncthreads();", "", "projective_grid", UNORDERED),
    Fault("projective_grid", "-(du * source.x + dv * source.y)", "du * source.x + dv * source.y",
          "projective_grid", DIFFERENT),
    Fault("projective_grid", "source.horizon ? 0.f : ", "", "projective_grid, horizon", DIFFERENT),
    Fault("projective_grid", "d < 0.f ? -NEAR : NEAR", "NEAR", "projective_grid, other side",
          DIFFERENT),
    Fault("projective_grid", "if (isinf(d))", "if (isnan(d))", "projective_grid, infinite",
          DIFFERENT),
    Fault("reduce", "if (i >= size) return;", "", "partials", READ),
    Fault("reduce", "int s = 0; s < slices; ++s", "int s = slices - 1; s >= 0; --s", "partials",
          DIFFERENT),
    Fault("relu", "if (i < size) y[i]", "if (i <= size) y[i]", "relu", READ),
    Fault("relu", "x[i] < 0.f ? 0.f : x[i]", "fmaxf(x[i], 0.f)", "relu, nan", DIFFERENT),
    Fault("sgd", "i >= size || *halted", "*halted", "sgd", READ),
    Fault("sgd", "i >= size || *halted", "i >= size", "sgd, halted", DIFFERENT),
    Fault("sgd", "*number % period", "0", "sgd, schedule", DIFFERENT),
    Fault("sgd", "__fsub_rn(__fmul_rn(v[i], momentum), __fmul_rn(slope, step_size))",
          "__fmaf_rn(v[i], momentum, -__fmul_rn(slope, step_size))", "sgd", DIFFERENT),
    Fault("sgd", "__fmul_rn(decay[i], p[i])", "__fmul_rn(decay[i], v[i])", "sgd", DIFFERENT),
    Fault("reduce", "__syncthreads();", "", "softmax", UNORDERED),
    Fault("reduce", "warp < 8;", "warp < 9;", "softmax", "index out of bounds"),
    Fault("softmax_cross_entropy", "if (!known)\n", "if (false)\n", "softmax, labels", READ),
    Fault("softmax_cross_entropy", "if (!known) {", "if (false) {", "softmax, labels",
          "a sum overflows"),
    Fault("softmax_cross_entropy", " / total + epsilon", " / total", "softmax, epsilon", DIFFERENT),
    Fault("softmax_cross_entropy", "factor * (q / (q + epsilon))", "factor", "softmax, epsilon",
          DIFFERENT),
    Fault("softmax_cross_entropy", "expf(z[k] - largest) / total", "expf(z[k]) / total",
          "softmax, overflow", DIFFERENT),
    Fault("triplet_hinge", "if (pair >= count) return;", "", "triplet_hinge", READ),
    Fault("triplet_hinge", "max(n, m) < rows", "m < rows", "triplet_hinge, out of range", READ),
    Fault("triplet_hinge", "offset = 16;", "offset = 8;", "triplet_hinge", DIFFERENT),
    Fault("triplet_hinge", "h <= 0.f ? 0.f : h", "fmaxf(h, 0.f)", "triplet_hinge, not finite",
          DIFFERENT),
    Fault("triplet_hinge", "if (i >= size) return;", "", "triplet_hinge", READ),
    Fault("triplet_hinge", "if (!(hinges[pair] > 0.f)) continue;", "", "triplet_hinge, kink",
          DIFFERENT),
    Fault("triplet_hinge", "!(hinges[pair] > 0.f)", "!(hinges[pair] >= 0.f)",
          "triplet_hinge, kink", DIFFERENT),
    Fault("triplet_hinge", "if (m == row) de +=", "if (m == row) de -=",
          "triplet_hinge", DIFFERENT),
    Fault("triplet_hinge", "share * (e -", "(e -", "triplet_hinge", DIFFERENT),
    Fault("triplet_hinge", "ddrawn += e - drawn", "ddrawn += drawn - e", "triplet_hinge",
          DIFFERENT),
]  # fmt: skip


class FaultyDevice(EmulatedDevice):
    """Its kernels run under the checker, those of one file with a fault."""

    def __init__(self, fault):
        super().__init__(checked=True)
        self.fault, self.used = fault, False
        backend.register(self)

    def kernel(self, source, name):
        if source == launch.source(self.fault.file):
            self.used = True
            source = source.replace(self.fault.old, self.fault.new)
        return super().kernel(source, name)


@pytest.mark.parametrize("case", CASES)
def test_without_a_fault_nothing_is_reported(case):
    CASES[case](devices.emulated(checked=True))


@pytest.mark.parametrize(
    "fault", FAULTS, ids=[f"{f.file}: {' '.join(f.old.split())[:50]}" for f in FAULTS]
)
def test_a_fault_is_found(fault, monkeypatch):
    count = launch.source(fault.file).count(fault.old)
    assert count == 1, f"{fault.file}.cu has {count} of {fault.old!r}: change this list with it"
    monkeypatch.setattr(backend, "_devices", dict(backend._devices))  # forget it afterwards
    device = FaultyDevice(fault)
    if fault.found == DIFFERENT:
        with pytest.raises(AssertionError):
            CASES[fault.case](device)
    else:
        with pytest.raises(KernelError, match=fault.found):
            CASES[fault.case](device)
    assert device.used


def test_every_file_has_two_faults():
    files = {path.stem for path in launch.FOLDER.glob("*.cu")}
    assert {file for file in files if sum(fault.file == file for fault in FAULTS) >= 2} == files
