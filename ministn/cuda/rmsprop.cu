// RMSprop in Lasagne's form, in place over flat arrays (optimizers.py):
//
//     a <- rho a + (1 - rho) g^2
//     p <- p - step_size g / sqrt(a + epsilon)
//
// One thread for each parameter, which it alone reads and writes. It moves 20 bytes for each, so
// memory is the limit. The step size is read from a table in device memory, and nothing is written
// once *halted is set: both as in adam.cu.
//
// The products and sums are rounded one by one, as NumPy's are.

extern "C" __global__ void __launch_bounds__(256)
rmsprop(float* __restrict__ p, const float* __restrict__ g, float* __restrict__ a,
        const float* __restrict__ step_sizes, int period, const unsigned* __restrict__ number,
        const int* __restrict__ halted, float rho, float gain, float epsilon, int size) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= size || *halted) return;
    const float step_size = step_sizes[*number % period];
    const float gi = g[i];
    const float ai = __fadd_rn(__fmul_rn(a[i], rho), __fmul_rn(__fmul_rn(gi, gi), gain));
    a[i] = ai;
    p[i] -= __fmul_rn(gi / sqrtf(ai + epsilon), step_size);
}
