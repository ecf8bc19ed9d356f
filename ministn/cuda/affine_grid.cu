// The grid generator, STN equation (1), and its gradient (ops/affine_grid.py):
//
//     x^s = theta_11 x^t + theta_12 y^t + theta_13        y^s likewise, of the second row
//     dtheta_11 = sum_i dx^s_i x^t_i,   dtheta_12 = sum_i dx^s_i y^t_i,   dtheta_13 = sum_i dx^s_i
//
// Forward: one thread for each output pixel, which alone writes its pair. The products and sums are
// rounded one by one, in NumPy's order, so that the grid is NumPy's to the last bit: at the
// identity a last bit decides which cell of the image a point lies in.
//
// Backward: one block for each image, since theta belongs to one. Each thread sums every 256th
// pixel, and block_sum.cuh adds the threads up in a fixed order.

#include "block_sum.cuh"

extern "C" __global__ void __launch_bounds__(256)
affine_grid(const float* __restrict__ theta, const float* __restrict__ xt,
            const float* __restrict__ yt, float* __restrict__ grid, int size, int height,
            int width) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= size) return;
    const float* row = theta + i / (height * width) * 6;
    const float x = xt[i % width], y = yt[i / width % height];
    float source[2];
    for (int axis = 0; axis < 2; ++axis, row += 3)  // STN (1)
        source[axis] = __fadd_rn(__fadd_rn(__fmul_rn(row[0], x), __fmul_rn(row[1], y)), row[2]);
    reinterpret_cast<float2*>(grid)[i] = make_float2(source[0], source[1]);
}

extern "C" __global__ void __launch_bounds__(256)
affine_grid_backward(const float* __restrict__ dgrid, const float* __restrict__ xt,
                     const float* __restrict__ yt, float* __restrict__ dtheta, int height,
                     int width) {
    const int pixels = height * width;
    const float* pairs = dgrid + blockIdx.x * pixels * 2;
    float sum[6] = {0.f, 0.f, 0.f, 0.f, 0.f, 0.f};
    for (int i = threadIdx.x; i < pixels; i += blockDim.x) {
        const float x = xt[i % width], y = yt[i / width];
        for (int axis = 0; axis < 2; ++axis) {
            const float d = pairs[2 * i + axis];
            sum[3 * axis] += d * x;
            sum[3 * axis + 1] += d * y;
            sum[3 * axis + 2] += d;
        }
    }
    block_sum(sum, dtheta + blockIdx.x * 6);
}
