// Average pooling over windows of s x s pixels that tile the image (ops/avg_pool2d.py):
//
//     y_nijc = 1/s^2 sum over p, q of x_n,(s i + p),(s j + q),c         0 <= p, q < s
//     dx     = dy / s^2 everywhere in the window, 0 outside all windows
//
// Forward: one thread for each output (n, i, j, c), which alone sums its window, in row-major order.
// Backward: one thread for each element of x, which alone writes its gradient: it looks up that of
// its window, so nothing is scattered. Neighbouring threads take neighbouring channels, which lie
// side by side in memory.

extern "C" __global__ void __launch_bounds__(256)
avg_pool2d(const float* __restrict__ x, float* __restrict__ y, int size, int height, int width,
           int channels, int window) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= size) return;
    const int out_height = height / window, out_width = width / window;
    const int c = i % channels, column = i / channels % out_width;
    const int row = i / channels / out_width % out_height;
    const int n = i / channels / out_width / out_height;
    const int first = ((n * height + row * window) * width + column * window) * channels + c;
    float sum = 0.f;
    for (int p = 0; p < window; ++p)
        for (int q = 0; q < window; ++q) sum += x[first + (p * width + q) * channels];
    y[i] = sum / (float)(window * window);
}

extern "C" __global__ void __launch_bounds__(256)
avg_pool2d_backward(const float* __restrict__ dy, float* __restrict__ dx, int size, int height,
                    int width, int channels, int window) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= size) return;
    const int out_height = height / window, out_width = width / window;
    const int c = i % channels, column = i / channels % width / window;
    const int row = i / channels / width % height / window, n = i / channels / width / height;
    float gradient = 0.f;  // rows and columns that fill no whole window keep it
    if (row < out_height && column < out_width)
        gradient = dy[((n * out_height + row) * out_width + column) * channels + c] /
                   (float)(window * window);
    dx[i] = gradient;
}
