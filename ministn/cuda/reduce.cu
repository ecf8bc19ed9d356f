// Sums over what several blocks or warps made.
//
// sum_partials: y_i = sum_s partials_si. One thread for each element i, which alone adds its S
// numbers, in the order of s. Neighbouring threads read neighbouring numbers. The numbers of
// sixteen slices are asked for together: there are few elements and many slices, so the time goes
// into waiting.
//
// mean: y = 1/N sum_i x_i. One block for the one number. Each thread sums every 256th x, then warps
// and block add up in a tree, in double: the sum of any batch is exact to float32. Shared memory
// holds the sums of the warps.

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
    __shared__ double of_warp[8];
    double sum = 0.0;
    for (int i = threadIdx.x; i < size; i += 256) sum += (double)x[i];
    for (int offset = 16; offset > 0; offset /= 2)
        sum += __shfl_down_sync(0xffffffffu, sum, offset);
    if (threadIdx.x % 32 == 0) of_warp[threadIdx.x / 32] = sum;
    __syncthreads();
    if (threadIdx.x == 0) {
        for (int warp = 1; warp < 8; ++warp) sum += of_warp[warp];
        *y = (float)(sum / size);
    }
}
