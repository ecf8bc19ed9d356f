// The last step of a sum that several blocks made: y_i = sum_s partials_si.
//
// One thread for each element i, which alone adds its S numbers, in the order of s. Neighbouring
// threads read neighbouring numbers. The numbers of sixteen slices are asked for together: there are
// few elements and many slices, so the time goes into waiting.

extern "C" __global__ void __launch_bounds__(128)
sum_partials(const float* __restrict__ partials, float* __restrict__ y, int slices, int size) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= size) return;
    float sum = 0.f;
#pragma unroll 16
    for (int s = 0; s < slices; ++s) sum += partials[s * size + i];
    y[i] = sum;
}
