"""Faults in the kernels that begin and end a training step, and the cases that find them: see
test_cuda_faults.py.
"""

from functools import partial

import numpy as np
import test_clip
import test_cuda_outcome as outcome
import test_cuda_training_kernels as training
import test_rmsprop
from faults import DIFFERENT, READ, UNORDERED, WRITE, Fault

CASES = {
    "as_batch": partial(training.test_as_batch_is_that_of_ops, shape=(3, 5, 7)),
    "take_batch": partial(
        training.test_take_batch_goes_through_the_order_again_and_again,
        count=7, batch_size=3, size=(5, 4), label=(3,), dtype=np.float32,
    ),
    "errors": outcome.test_rows_count_one_by_one,
    "errors, ties": partial(
        outcome.test_errors_are_those_of_argmax, n=300, length=3, classes=10
    ),
    "errors, several labels": partial(
        outcome.test_several_wrong_labels_are_one_wrong_answer, n=300
    ),
    "errors, nan": partial(outcome.test_the_first_nan_is_the_answer_as_in_argmax, length=3),
    "left": outcome.test_points_on_the_border_lie_in_the_image,
    "left, several": partial(
        outcome.test_of_several_transformers_the_one_that_lost_most_counts, counts=(4, 2)
    ),
    "left, again": partial(
        outcome.test_of_several_transformers_the_one_that_lost_most_counts, counts=(2, 4)
    ),
    "bad loss": partial(outcome.test_a_loss_that_is_not_finite_is_the_last, value=np.nan),
    **test_clip.CASES,
    **test_rmsprop.CASES,
}  # fmt: skip

FAULTS = [
    Fault("clip", "if (i >= size) return;", "", "clip", READ),
    Fault("clip", "gi > limit ? limit : gi < -limit ? -limit : gi",
          "fminf(fmaxf(gi, -limit), limit)", "clip, not finite", DIFFERENT),
    Fault("clip", "gi < -limit ? -limit", "gi < -limit ? limit", "clip", DIFFERENT),
    Fault("clip", " = sum;\n    __syncthreads();", " = sum;", "sum of squares", UNORDERED),
    Fault("clip", "warp < 8;", "warp < 7;", "sum of squares", DIFFERENT),
    Fault("clip", "sums[blockIdx.x] = sum", "*sums = sum", "sum of squares", "race, "),
    Fault("clip", "block < blocks; block += 256", "block < 256; block += 256", "sum of squares",
          READ),
    Fault("clip", "(double)g[i] * (double)g[i]", "(double)(g[i] * g[i])", "sum of squares",
          DIFFERENT),
    Fault("clip", "}\n    __syncthreads();\n    for", "}\n    for", "limit norm", UNORDERED),
    Fault("clip", "norm < most ? norm : most", "most", "limit norm, below", DIFFERENT),
    Fault("clip", "i += gridDim.x * 256) g[i] *=", "i += blockDim.x * 256) g[i] *=", "limit norm",
          DIFFERENT),
    Fault("rmsprop", "i >= size || *halted", "*halted", "rmsprop", READ),
    Fault("rmsprop", "i >= size || *halted", "i >= size", "rmsprop, halted", DIFFERENT),
    Fault("rmsprop", "*number % period", "0", "rmsprop, schedule", DIFFERENT),
    Fault("rmsprop", "sqrtf(ai + epsilon)", "(sqrtf(ai) + epsilon)", "rmsprop", DIFFERENT),
    Fault("rmsprop", "__fadd_rn(__fmul_rn(a[i], rho), ", "__fmaf_rn(a[i], rho, ", "rmsprop",
          DIFFERENT),
    Fault("rmsprop", "    a[i] = ai;\n", "", "rmsprop", DIFFERENT),
    Fault("nesterov", "i >= size || *halted", "*halted", "nesterov", READ),
    Fault("nesterov", "i >= size || *halted", "i >= size", "nesterov, halted", DIFFERENT),
    Fault("nesterov", "*number % period", "0", "nesterov, schedule", DIFFERENT),
    Fault("nesterov", "__fmul_rn(vi, momentum)", "__fmul_rn(v[i], 1.f)", "nesterov", DIFFERENT),
    Fault("nesterov", "__fsub_rn(p[i], step)", "p[i]", "nesterov", DIFFERENT),
    Fault("nesterov", "__fmul_rn(decay[i], p[i])", "0.f", "nesterov", DIFFERENT),
    Fault("batch", "if (i < size) x[i]", "x[i]", "as_batch", READ),
    Fault("batch", "if (i < pixels) x[r", "x[r", "take_batch", WRITE),
    Fault("batch", "% batches) * batch_size", ") * batch_size", "take_batch", READ),
    Fault("batch", "if (i < words) x_labels", "x_labels", "take_batch", WRITE),
    Fault("batch", "labels[(long long)image * words", "labels[(long long)r * words", "take_batch",
          DIFFERENT),
    Fault("outcome", "if (wrong) atomicAdd(&count, 1)", "if (wrong) ++count", "errors, ties",
          "race, "),
    Fault("outcome", "__syncthreads();\n    for (int answer", "for (int answer", "errors",
          "race, "),
    Fault("outcome", "z[k] <= z[best]", "z[k] < z[best]", "errors, ties", DIFFERENT),
    Fault("outcome", " && !isnan(z[best])", "", "errors, nan", DIFFERENT),
    Fault("outcome", "wrong = wrong || ", "wrong = ", "errors, several labels", DIFFERENT),
    Fault("outcome", "(answer + 1) * length", "(answer + 1) * length + 1", "errors, several labels",
          READ),
    Fault("outcome", "!= labels[i]", "!= labels[answer]", "errors, several labels", DIFFERENT),
    Fault("outcome", "fabs(s) <= 1.0", "fabs(s) < 1.0", "left", DIFFERENT),
    Fault("outcome", "max(*entry, count)", "count", "left, several", DIFFERENT),
    Fault("outcome", "place == 0 ? count : ", "", "left, again", DIFFERENT),
    Fault("outcome", "if (!*halted) ++*number", "++*number", "bad loss", DIFFERENT),
]  # fmt: skip
