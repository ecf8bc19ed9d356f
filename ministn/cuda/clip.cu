// Limits on a gradient, in place over a flat array (ops/clip.py):
//
//     g <- min(max(g, -limit), limit)                        clip
//     g <- g min(n, most) / (n + 1e-7),  n = |g|             limit_norm
//
// clip: one thread for each value, which it alone reads and writes. It moves 8 bytes for each, so
// memory is the limit. NaN stays NaN, which fminf and fmaxf would hide.
//
// The norm takes three kernels, which read the gradient twice and write it once. squares_of_blocks:
// a thread goes through the array in strides of all threads and adds up squares, a block its threads;
// sum_of_blocks: one block adds those up. In double, where the square of a float is exact, and in an
// order that depends on the size alone. limit_norm: thread 0 of each block finds the factor, rounded to
// float as in ops, and all take it from shared memory.
//
// Nothing here asks whether training has halted: then no update reads the gradient.

#include "double_sum.cuh"

extern "C" __global__ void __launch_bounds__(256)
clip(float* __restrict__ g, float limit, int size) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= size) return;
    const float gi = g[i];
    g[i] = gi > limit ? limit : gi < -limit ? -limit : gi;
}

extern "C" __global__ void __launch_bounds__(256)
squares_of_blocks(const float* __restrict__ g, double* __restrict__ sums, int size) {
    double sum = 0.0;
    for (int i = blockIdx.x * 256 + threadIdx.x; i < size; i += gridDim.x * 256)
        sum += (double)g[i] * (double)g[i];
    sum = double_sum(sum);
    if (threadIdx.x == 0) sums[blockIdx.x] = sum;
}

extern "C" __global__ void __launch_bounds__(256)
sum_of_blocks(const double* __restrict__ sums, double* __restrict__ total, int blocks) {
    double sum = 0.0;
    for (int block = threadIdx.x; block < blocks; block += 256) sum += sums[block];
    sum = double_sum(sum);
    if (threadIdx.x == 0) *total = sum;
}

extern "C" __global__ void __launch_bounds__(256)
limit_norm(float* __restrict__ g, const double* __restrict__ squares, double most, int size) {
    __shared__ float factor;
    if (threadIdx.x == 0) {
        const double norm = sqrt(*squares);
        factor = (float)((norm < most ? norm : most) / (norm + 1e-7));
    }
    __syncthreads();
    for (int i = blockIdx.x * 256 + threadIdx.x; i < size; i += gridDim.x * 256) g[i] *= factor;
}
