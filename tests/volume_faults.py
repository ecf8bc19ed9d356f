"""Faults in the kernels for volumes, and the cases that find them: see test_cuda_faults.py."""

from functools import partial

import numpy as np
import pytest
import test_cuda_extrude
import test_cuda_volumes
from faults import DIFFERENT, READ, UNORDERED, WRITE, Fault
from test_cuda_volumes import far_outside, not_finite, whole_and_half_voxels


def sampler(points, volume=(2, 4, 7, 5), size=(3, 4, 2), border="nearest"):
    return partial(
        test_cuda_volumes.test_trilinear_sampler_agrees_with_ops,
        volume=volume, size=size, border=border, fill=0.0, grid=points,
    )  # fmt: skip


def small(test, **options):
    """With small volumes of digits."""

    def run(device):
        with pytest.MonkeyPatch.context() as patch:
            test(device, test_cuda_extrude.shrunk(patch), **options)

    return run


CASES = {
    "affine_grid_3d": partial(
        test_cuda_volumes.test_affine_grid_3d_is_numpys_to_the_last_bit, n=2, size=(7, 9, 11)
    ),
    "affine_grid_3d_backward": partial(
        test_cuda_volumes.test_affine_grid_3d_backward_agrees_with_ops, n=2, size=(7, 9, 11)
    ),
    "avg_pool3d": partial(
        test_cuda_volumes.test_avg_pool3d_is_that_of_ops, shape=(2, 5, 7, 9), size=2
    ),
    "projection": partial(test_cuda_volumes.test_projection_is_that_of_ops, shape=(2, 5, 7, 9)),
    "trilinear": sampler(whole_and_half_voxels),
    "trilinear, outside": sampler(far_outside),
    "trilinear, zeros outside": sampler(far_outside, border="zeros"),
    "trilinear, not finite": sampler(not_finite),
    "trilinear, identity": partial(
        test_cuda_volumes.test_the_identity_lies_in_the_cells_of_ops, size=(5, 43, 2)
    ),
    "trilinear, bound": partial(
        test_cuda_volumes.test_volume_gradient_is_within_the_bound, scale=1
    ),
    "extrude": small(test_cuda_extrude.test_volumes_are_numpys),
    "extrude, not turned": small(test_cuda_extrude.test_digits_that_are_not_turned_are_exact),
    "take_extruded": small(
        test_cuda_extrude.test_batches_go_through_the_order_again_and_again,
        label=(3,),
        dtype=np.int32,
    ),
}

FAULTS = [
    Fault("affine_grid_3d", "__fadd_rn(__fmul_rn(row[0], x), __fmul_rn(row[1], y))",
          "__fmaf_rn(row[0], x, __fmul_rn(row[1], y))", "affine_grid_3d", DIFFERENT),
    Fault("affine_grid_3d", "yt[line % height]", "yt[line]", "affine_grid_3d", READ),
    Fault("affine_grid_3d", "layer / depth * 12", "layer * 12", "affine_grid_3d", READ),
    Fault("affine_grid_3d", "__syncthreads();", "", "affine_grid_3d_backward", UNORDERED),
    Fault("affine_grid_3d", "threadIdx.x < K", "threadIdx.x < 9", "affine_grid_3d_backward",
          DIFFERENT),  # in block_sum.cuh
    Fault("avg_pool3d", "layer < out_depth && row", "row", "avg_pool3d", READ),
    Fault("avg_pool3d", "(o * height + p) * width", "(o * width + p) * height", "avg_pool3d",
          DIFFERENT),
    Fault("avg_pool3d", "layer * window) * height + row * window) * width + column * window",
          "layer * window) * height + row * window) * width + column", "avg_pool3d", DIFFERENT),
    Fault("projection", "i / pixels * depth * pixels", "i / pixels * pixels", "projection",
          DIFFERENT),
    Fault("projection", "if (i >= size) return;\n    dx[i]", "dx[i]", "projection", READ),
    Fault("projection", "i / pixels / depth * pixels", "i / pixels * pixels", "projection", READ),
    Fault("trilinear", "atomicAdd(sums + cell.voxel[o][p][q], (unsigned long long)part)",
          "sums[cell.voxel[o][p][q]] += (unsigned long long)part", "trilinear", "race, "),
    Fault("trilinear", "layer < 0 ? -1 : voxel", "voxel", "trilinear, zeros outside", DIFFERENT),
    Fault("trilinear", "cell.voxel[o][p][q] >= 0 && part", "part", "trilinear, zeros outside",
          WRITE),
    Fault("trilinear", "n * depth + layer", "layer", "trilinear", DIFFERENT),
    Fault("trilinear", "cell.finite = is_finite(x) && is_finite(y) && is_finite(z)",
          "cell.finite = is_finite(x) && is_finite(y)", "trilinear, not finite", DIFFERENT),
    Fault("trilinear", "lost = !cell.finite && border != ZEROS;", "", "trilinear, not finite",
          DIFFERENT),
    Fault("trilinear", "slope_y[o] = row[1] - row[0];", "slope_y[o] = row[0] - row[1];",
          "trilinear", DIFFERENT),
    Fault("trilinear", "cell.kz[o] * cell.ky[p] * cell.kx[q]",
          "cell.kz[o] * cell.ky[q] * cell.kx[p]", "trilinear", DIFFERENT),
    Fault("trilinear", "* d * (0.5f * (depth - 1))", "* d * (0.5f * (width - 1))", "trilinear",
          DIFFERENT),
    Fault("trilinear", "largest = __float_as_uint(fabsf(d));", "largest = __float_as_uint(d);",
          "trilinear, bound", DIFFERENT),
    Fault("trilinear", "i % of_image < channels", "i < channels", "trilinear, not finite",
          DIFFERENT),  # in sampler.cuh, as is the next
    Fault("trilinear", "__fadd_rn(__fmul_rn(normalised, half), half)",
          "__fmaf_rn(normalised, half, half)", "trilinear, identity", DIFFERENT),
    Fault("extrude", "max(row, column) < side", "row < side", "extrude", READ),
    Fault("extrude", "min(row, column) >= 0 && ", "", "extrude", READ),
    Fault("extrude", "turn[0] * x + turn[3] * y", "turn[0] * x + turn[1] * y", "extrude",
          DIFFERENT),
    Fault("extrude", "255.f), 0.5f)", "255.f), 0.f)", "extrude, not turned", DIFFERENT),
    Fault("extrude",
          "if (i < voxels)\n        x[r * voxels + i] = voxel(images, rotation, shift, r,",
          "x[r * voxels + i] = voxel(images, rotation, shift, r,", "extrude", "race, "),
    Fault("extrude", "% batches) * batch_size", ") * batch_size", "take_extruded", READ),
    Fault("extrude", "labels[(long long)digit", "labels[(long long)r", "take_extruded", DIFFERENT),
    Fault("extrude", "if (i < words) x_labels", "x_labels", "take_extruded", WRITE),
    Fault("extrude", "x_labels[r * words + i]", "x_labels[r + i]", "take_extruded", "race, "),
]  # fmt: skip
