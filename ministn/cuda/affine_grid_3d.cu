// The grid generator in three dimensions, STN appendix A.3, and its gradient
// (ops/affine_grid_3d.py):
//
//     x^s = theta_11 x^t + theta_12 y^t + theta_13 z^t + theta_14      y^s, z^s: rows 2 and 3
//     dtheta_11 = sum_i dx^s_i x^t_i,   ...,   dtheta_14 = sum_i dx^s_i      and so for dy^s, dz^s
//
// Forward: one thread for each output voxel, which alone writes its triple. As in affine_grid.cu,
// products and sums are rounded one by one, in NumPy's order: the grid is NumPy's to the last bit.
//
// Backward: one block for each volume, since theta belongs to one. Each thread sums every 256th
// voxel, and block_sum.cuh adds the threads up in a fixed order.

#include "block_sum.cuh"

extern "C" __global__ void __launch_bounds__(256)
affine_grid_3d(const float* __restrict__ theta, const float* __restrict__ xt,
               const float* __restrict__ yt, const float* __restrict__ zt,
               float* __restrict__ grid, int size, int depth, int height, int width) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= size) return;
    const int line = i / width, layer = line / height;
    const float* row = theta + layer / depth * 12;
    const float x = xt[i % width], y = yt[line % height], z = zt[layer % depth];
    for (int axis = 0; axis < 3; ++axis, row += 4) {
        const float in_layer = __fadd_rn(__fmul_rn(row[0], x), __fmul_rn(row[1], y));
        grid[3 * i + axis] = __fadd_rn(__fadd_rn(in_layer, __fmul_rn(row[2], z)), row[3]);
    }
}

extern "C" __global__ void __launch_bounds__(256)
affine_grid_3d_backward(const float* __restrict__ dgrid, const float* __restrict__ xt,
                        const float* __restrict__ yt, const float* __restrict__ zt,
                        float* __restrict__ dtheta, int depth, int height, int width) {
    const int voxels = depth * height * width;
    const float* triples = dgrid + blockIdx.x * voxels * 3;
    float sum[12] = {};
    for (int i = threadIdx.x; i < voxels; i += blockDim.x) {
        const float x = xt[i % width], y = yt[i / width % height], z = zt[i / width / height];
        for (int axis = 0; axis < 3; ++axis) {
            const float d = triples[3 * i + axis];
            sum[4 * axis] += d * x;
            sum[4 * axis + 1] += d * y;
            sum[4 * axis + 2] += d * z;
            sum[4 * axis + 3] += d;
        }
    }
    block_sum(sum, dtheta + blockIdx.x * 12);
}
