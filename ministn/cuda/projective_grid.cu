// The grid of a plane projective transformation and its gradient (ops/projective_grid.py):
//
//     u = (1 + p_1) x^t + p_2 y^t + p_3,    v = p_4 x^t + (1 + p_5) y^t + p_6,
//     d = p_7 x^t + p_8 y^t + 1,    x^s = u / d,    y^s = v / d
//     du = dx^s / d,    dv = dy^s / d,    dd = -(dx^s x^s + dy^s y^s) / d
//     dp_1 = sum_i du_i x^t_i,   dp_2 = sum_i du_i y^t_i,   dp_3 = sum_i du_i,   so on by rows
//
// with |d| kept at NEAR or above; where it was below, dd = 0. An infinite d counts as NaN.
//
// Forward: one thread for each output pixel, which alone writes its pair. Everything is rounded
// one by one, in NumPy's order, so that the grid is NumPy's to the last bit.
//
// Backward: one block for each image, since theta belongs to one. Each thread computes the pairs
// of every 256th pixel once more and sums, and block_sum.cuh adds the threads up in a fixed order.

#include "block_sum.cuh"

const float NEAR = 1.f / 1024.f;

struct Source {
    float x, y, d;
    bool horizon;  // d was kept away from 0
};

__device__ float at_target(float a, float b, float c, float x, float y) {
    return __fadd_rn(__fadd_rn(__fmul_rn(a, x), __fmul_rn(b, y)), c);
}

__device__ Source source_of(const float* __restrict__ p, float x, float y) {
    float d = at_target(p[6], p[7], 1.f, x, y);
    const bool horizon = fabsf(d) < NEAR;
    if (horizon) d = d < 0.f ? -NEAR : NEAR;
    if (isinf(d)) d = __uint_as_float(0x7fc00000u);  // NaN
    return {__fdiv_rn(at_target(__fadd_rn(p[0], 1.f), p[1], p[2], x, y), d),
            __fdiv_rn(at_target(p[3], __fadd_rn(p[4], 1.f), p[5], x, y), d), d, horizon};
}

extern "C" __global__ void __launch_bounds__(256)
projective_grid(const float* __restrict__ theta, const float* __restrict__ xt,
                const float* __restrict__ yt, float* __restrict__ grid, int size, int height,
                int width) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= size) return;
    const float* p = theta + i / (height * width) * 8;
    const Source source = source_of(p, xt[i % width], yt[i / width % height]);
    reinterpret_cast<float2*>(grid)[i] = make_float2(source.x, source.y);
}

extern "C" __global__ void __launch_bounds__(256)
projective_grid_backward(const float* __restrict__ dgrid, const float* __restrict__ theta,
                         const float* __restrict__ xt, const float* __restrict__ yt,
                         float* __restrict__ dtheta, int height, int width) {
    const int pixels = height * width;
    const float2* pairs = reinterpret_cast<const float2*>(dgrid) + blockIdx.x * pixels;
    float sum[8] = {0.f, 0.f, 0.f, 0.f, 0.f, 0.f, 0.f, 0.f};
    for (int i = threadIdx.x; i < pixels; i += blockDim.x) {
        const float x = xt[i % width], y = yt[i / width];
        const Source source = source_of(theta + blockIdx.x * 8, x, y);
        const float2 pair = pairs[i];
        const float du = pair.x / source.d, dv = pair.y / source.d;
        const float dd = source.horizon ? 0.f : -(du * source.x + dv * source.y);
        const float drow[3] = {du, dv, dd};
        for (int row = 0; row < 3; ++row) {
            sum[3 * row] += drow[row] * x;
            sum[3 * row + 1] += drow[row] * y;
            if (row < 2) sum[3 * row + 2] += drow[row];
        }
    }
    block_sum(sum, dtheta + blockIdx.x * 8);
}
