// Adam in Lasagne's form, in place over flat arrays (optimizers.py):
//
//     m <- beta1 m + (1 - beta1) g
//     v <- beta2 v + (1 - beta2) g^2
//     p <- p - a_t m / (sqrt(v) + epsilon)
//
// One thread for each parameter, which it alone reads and writes. It moves 28 bytes for each, so
// memory is the limit. a_t comes from a table in device memory, by the number of steps done, so that
// a captured graph can take many steps. Nothing is written once *halted is set: the loss of this or
// of an earlier step was not finite, and the parameters stay as that step found them.
//
// The products and sums are rounded one by one, as NumPy's are.

extern "C" __global__ void __launch_bounds__(256)
adam(float* __restrict__ p, const float* __restrict__ g, float* __restrict__ m,
     float* __restrict__ v, const float* __restrict__ step_sizes, int period,
     const unsigned* __restrict__ number, const int* __restrict__ halted, float beta1, float beta2,
     float gain1, float gain2, float epsilon, int size) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= size || *halted) return;
    const float step_size = step_sizes[*number % period];
    const float gi = g[i];
    const float mi = __fadd_rn(__fmul_rn(m[i], beta1), __fmul_rn(gi, gain1));
    const float vi = __fadd_rn(__fmul_rn(v[i], beta2), __fmul_rn(__fmul_rn(gi, gi), gain2));
    m[i] = mi;
    v[i] = vi;
    p[i] -= __fmul_rn(mi / (sqrtf(vi) + epsilon), step_size);
}
