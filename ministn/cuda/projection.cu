// Projection of a volume along its depth, STN appendix A.3 (ops/projection.py):
//
//     y_nij   = 1/D sum over k of x_nkij
//     dx_nkij = dy_nij / D
//
// Forward: one thread for each pixel, which alone sums its column of voxels, the first layer first,
// as NumPy does. Backward: one thread for each voxel, which alone writes its gradient. Neighbouring
// threads take neighbouring columns, which lie side by side in every layer.

extern "C" __global__ void __launch_bounds__(256)
projection(const float* __restrict__ x, float* __restrict__ y, int size, int depth, int pixels) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= size) return;
    const float* column = x + i / pixels * depth * pixels + i % pixels;
    float sum = 0.f;
    for (int k = 0; k < depth; ++k) sum += column[k * pixels];
    y[i] = sum / (float)depth;
}

extern "C" __global__ void __launch_bounds__(256)
projection_backward(const float* __restrict__ dy, float* __restrict__ dx, int size, int depth,
                    int pixels) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= size) return;
    dx[i] = dy[i / pixels / depth * pixels + i % pixels] / (float)depth;
}
