// Hyperbolic tangent: y = tanh(x) and dx = dy (1 - y) (1 + y) (ops/tanh.py).
//
// One thread for each element, which it alone writes.

extern "C" __global__ void __launch_bounds__(256)
tanh_forward(const float* __restrict__ x, float* __restrict__ y, int size) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < size) y[i] = tanhf(x[i]);
}

extern "C" __global__ void __launch_bounds__(256)
tanh_backward(const float* __restrict__ dy, const float* __restrict__ y, float* __restrict__ dx,
              int size) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < size) dx[i] = dy[i] * (1.f - y[i]) * (1.f + y[i]);
}
