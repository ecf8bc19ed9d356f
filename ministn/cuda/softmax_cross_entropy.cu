// Softmax and cross entropy of the logits z (ops/softmax_cross_entropy.py):
//
//     p_nk  = exp(z_nk) / sum_j exp(z_nj)        loss = -1/N sum_n log p_n,label(n)
//     dz_nk = dloss/N (p_nk - [k = label(n)])
//
// or, with epsilon > 0 and q_n = p_n,label(n),
//
//     loss = -1/N sum_n log(q_n + epsilon)
//     dz_nk = dloss/N q_n / (q_n + epsilon) (p_nk - [k = label(n)])
//
// softmax_rows: one warp for each row, which alone writes the row's p and loss. A lane takes every
// 32nd class; maximum and total go through trees of shuffles, always the same. Subtracting the
// largest logit keeps exp from overflowing. A logit that is NaN or +inf makes its row NaN. The mean
// is reduce.cu's.
//
// Labels are not known to the host when it launches, so a label out of range cannot be an error
// message: it makes the loss NaN, and its row of dlogits.

__device__ float nan_value() { return __int_as_float(0x7fc00000); }

extern "C" __global__ void __launch_bounds__(128)
softmax_rows(const float* __restrict__ logits, const int* __restrict__ labels,
             float* __restrict__ p, float* __restrict__ losses, int rows, int classes,
             float epsilon) {
    const int row = blockIdx.x * 4 + threadIdx.x / 32, lane = threadIdx.x % 32;
    if (row >= rows) return;  // the whole warp
    const float* z = logits + row * classes;
    float largest = -__int_as_float(0x7f800000), total = 0.f;
    for (int k = lane; k < classes; k += 32) largest = fmaxf(largest, z[k]);
    for (int offset = 16; offset > 0; offset /= 2)
        largest = fmaxf(largest, __shfl_xor_sync(0xffffffffu, largest, offset));
    for (int k = lane; k < classes; k += 32) total += expf(z[k] - largest);  // NaN comes in here
    for (int offset = 16; offset > 0; offset /= 2)
        total += __shfl_xor_sync(0xffffffffu, total, offset);
    for (int k = lane; k < classes; k += 32) p[row * classes + k] = expf(z[k] - largest) / total;
    if (lane == 0) {
        const int label = labels[row];
        const bool known = label >= 0 && label < classes;
        if (!known)
            losses[row] = nan_value();
        else if (epsilon > 0.f)
            losses[row] = -logf(expf(z[label] - largest) / total + epsilon);
        else
            losses[row] = logf(total) - (z[label] - largest);
    }
}

// One thread for each element, which it alone writes. factor: dloss/N.
extern "C" __global__ void __launch_bounds__(256)
softmax_cross_entropy_backward(const float* __restrict__ p, const int* __restrict__ labels,
                               float* __restrict__ dlogits, int size, int classes, float factor,
                               float epsilon) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= size) return;
    const int label = labels[i / classes];
    const bool known = label >= 0 && label < classes;
    if (!known) {
        dlogits[i] = nan_value();
        return;
    }
    const float q = p[i / classes * classes + label];
    const float slope = epsilon > 0.f ? factor * (q / (q + epsilon)) : factor;
    dlogits[i] = (p[i] - (i % classes == label ? 1.f : 0.f)) * slope;
}
