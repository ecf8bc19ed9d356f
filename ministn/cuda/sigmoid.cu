// The logistic function: y = 1 / (1 + exp(-x)) = (1 + tanh(x / 2)) / 2 and dx = dy y (1 - y)
// (ops/sigmoid.py).
//
// One thread for each element, which it alone writes.

extern "C" __global__ void __launch_bounds__(256)
sigmoid(const float* __restrict__ x, float* __restrict__ y, int size) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < size) y[i] = (1.f + tanhf(x[i] / 2.f)) / 2.f;
}

extern "C" __global__ void __launch_bounds__(256)
sigmoid_backward(const float* __restrict__ dy, const float* __restrict__ y,
                 float* __restrict__ dx, int size) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < size) dx[i] = dy[i] * y[i] * (1.f - y[i]);
}
