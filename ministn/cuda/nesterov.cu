// SGD with Nesterov's momentum and weight decay, in place over flat arrays (optimizers.py):
//
//     v <- momentum v - step_size (g + decay p)
//     p <- p - step_size (g + decay p) + momentum v        with the new v
//
// One thread for each parameter, which it alone reads and writes. It moves 24 bytes for each, so
// memory is the limit. Each parameter has its own decay. The step size is read from a table in device
// memory, and nothing is written once *halted is set: both as in adam.cu.
//
// The products and sums are rounded one by one, as NumPy's are.

extern "C" __global__ void __launch_bounds__(256)
nesterov(float* __restrict__ p, const float* __restrict__ g, float* __restrict__ v,
         const float* __restrict__ decay, const float* __restrict__ step_sizes, int period,
         const unsigned* __restrict__ number, const int* __restrict__ halted, float momentum,
         int size) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= size || *halted) return;
    const float step_size = step_sizes[*number % period];
    const float step = __fmul_rn(__fadd_rn(__fmul_rn(decay[i], p[i]), g[i]), step_size);
    const float vi = __fsub_rn(__fmul_rn(v[i], momentum), step);
    v[i] = vi;
    p[i] = __fadd_rn(__fsub_rn(p[i], step), __fmul_rn(vi, momentum));
}
