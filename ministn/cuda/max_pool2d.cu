// Max pooling over windows of s x s pixels that tile the image (ops/max_pool2d.py):
//
//     y_nijc = max over p, q of x_n,(s i + p),(s j + q),c         0 <= p, q < s
//     dx     = dy at the winner of each window, 0 elsewhere
//
// Forward: one thread for each output (n, i, j, c), which alone writes its maximum and where in the
// window it lies. Backward: one thread for each element of x, which alone writes its gradient: it
// looks up whether it won its window, so nothing is scattered. Neighbouring threads take
// neighbouring channels, which lie side by side in memory.

extern "C" __global__ void __launch_bounds__(256)
max_pool2d(const float* __restrict__ x, float* __restrict__ y, int* __restrict__ winner, int size,
           int height, int width, int channels, int window) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= size) return;
    const int out_height = height / window, out_width = width / window;
    const int c = i % channels, column = i / channels % out_width;
    const int row = i / channels / out_width % out_height;
    const int n = i / channels / out_width / out_height;
    const int first = ((n * height + row * window) * width + column * window) * channels + c;
    float best = x[first];
    int place = 0;
    for (int p = 0; p < window; ++p)
        for (int q = 0; q < window; ++q) {
            const float value = x[first + (p * width + q) * channels];
            // Of equal values the first; NaN is above all numbers, as in NumPy.
            if (value > best || (value != value && best == best)) {
                best = value;
                place = p * window + q;
            }
        }
    y[i] = best;
    winner[i] = place;
}

extern "C" __global__ void __launch_bounds__(256)
max_pool2d_backward(const float* __restrict__ dy, const int* __restrict__ winner,
                    float* __restrict__ dx, int size, int height, int width, int channels,
                    int window) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= size) return;
    const int out_height = height / window, out_width = width / window;
    const int c = i % channels, column = i / channels % width;
    const int row = i / channels / width % height, n = i / channels / width / height;
    float gradient = 0.f;  // rows and columns that fill no whole window keep it
    if (row / window < out_height && column / window < out_width) {
        const int out = ((n * out_height + row / window) * out_width + column / window) * channels + c;
        if (winner[out] == row % window * window + column % window) gradient = dy[out];
    }
    dx[i] = gradient;
}
