// Leaky rectified linear unit: y = f x and dx = f dy, f = 1 where x > 0, else the slope
// (ops/leaky_relu.py). The slope is at least 0, so y > 0 exactly where x > 0.
//
// One thread for each element, which it alone writes.

extern "C" __global__ void __launch_bounds__(256)
leaky_relu(const float* __restrict__ x, float* __restrict__ y, int size, float slope) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < size) y[i] = x[i] > 0.f ? x[i] : slope * x[i];
}

extern "C" __global__ void __launch_bounds__(256)
leaky_relu_backward(const float* __restrict__ dy, const float* __restrict__ y,
                    float* __restrict__ dx, int size, float slope) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < size) dx[i] = y[i] > 0.f ? dy[i] : slope * dy[i];
}
