// The logistic function: y = 1 / (1 + exp(-x)) and dx = dy y (1 - y) (ops/sigmoid.py).
//
// With e = exp(-|x|), which overflows nowhere, one of y and 1 - y is 1 / (1 + e) and the other
// e / (1 + e). One thread for each element, which it alone writes; the way back makes e again, which
// is cheaper than reading it.

extern "C" __global__ void __launch_bounds__(256)
sigmoid(const float* __restrict__ x, float* __restrict__ y, int size) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= size) return;
    const float e = expf(-fabsf(x[i]));
    y[i] = (x[i] >= 0.f ? 1.f : e) / (1.f + e);
}

extern "C" __global__ void __launch_bounds__(256)
sigmoid_backward(const float* __restrict__ dy, const float* __restrict__ x,
                 float* __restrict__ dx, int size) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= size) return;
    const float e = expf(-fabsf(x[i]));
    dx[i] = dy[i] * (1.f / (1.f + e)) * (e / (1.f + e));
}
