// Sums over what several blocks or warps made.
//
// sum_partials: y_i = sum_s partials_si. One thread for each element i, which alone adds its S
// numbers, in the order of s. Neighbouring threads read neighbouring numbers. The numbers of
// sixteen slices are asked for together: there are few elements and many slices, so the time goes
// into waiting.
//
// mean: y = 1/N sum_i x_i. One block for the one number. Each thread sums every 256th x, then the
// block adds up in a tree, in double: the sum of any batch is exact to float32.

#include "double_sum.cuh"

extern "C" __global__ void __launch_bounds__(128)
sum_partials(const float* __restrict__ partials, float* __restrict__ y, int slices, int size) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= size) return;
    float sum = 0.f;
#pragma unroll 16
    for (int s = 0; s < slices; ++s) sum += partials[s * size + i];
    y[i] = sum;
}

extern "C" __global__ void __launch_bounds__(256)
mean(const float* __restrict__ x, float* __restrict__ y, int size) {
    double sum = 0.0;
    for (int i = threadIdx.x; i < size; i += 256) sum += (double)x[i];
    sum = double_sum(sum);
    if (threadIdx.x == 0) *y = (float)(sum / size);
}
