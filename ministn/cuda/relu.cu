// Rectified linear unit: y = max(0, x) and dx = dy where y > 0, else 0 (ops/relu.py).
//
// One thread for each element, which it alone writes.

extern "C" __global__ void __launch_bounds__(256)
relu(const float* __restrict__ x, float* __restrict__ y, int size) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < size) y[i] = x[i] < 0.f ? 0.f : x[i];  // written so that NaN stays NaN, as in NumPy
}

extern "C" __global__ void __launch_bounds__(256)
relu_backward(const float* __restrict__ dy, const float* __restrict__ y, float* __restrict__ dx,
              int size) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < size) dx[i] = y[i] > 0.f ? dy[i] : 0.f;
}
