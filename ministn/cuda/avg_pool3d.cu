// Average pooling over cubes of s x s x s voxels that tile the volume (ops/avg_pool3d.py):
//
//     y_nkij = 1/s^3 sum over o, p, q of x_n,(s k + o),(s i + p),(s j + q)      0 <= o, p, q < s
//     dx     = dy / s^3 everywhere in the cube, 0 outside all cubes
//
// Forward: one thread for each output (n, k, i, j), which alone sums its cube, in the order of the
// axes. Backward: one thread for each element of x, which alone writes its gradient: it looks up
// that of its cube, so nothing is scattered.

extern "C" __global__ void __launch_bounds__(256)
avg_pool3d(const float* __restrict__ x, float* __restrict__ y, int size, int depth, int height,
           int width, int window) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= size) return;
    const int out_depth = depth / window, out_height = height / window, out_width = width / window;
    const int column = i % out_width, row = i / out_width % out_height;
    const int layer = i / out_width / out_height % out_depth;
    const int n = i / out_width / out_height / out_depth;
    const float* cube =
        x + ((n * depth + layer * window) * height + row * window) * width + column * window;
    float sum = 0.f;
    for (int o = 0; o < window; ++o)
        for (int p = 0; p < window; ++p)
            for (int q = 0; q < window; ++q) sum += cube[(o * height + p) * width + q];
    y[i] = sum / (float)(window * window * window);
}

extern "C" __global__ void __launch_bounds__(256)
avg_pool3d_backward(const float* __restrict__ dy, float* __restrict__ dx, int size, int depth,
                    int height, int width, int window) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= size) return;
    const int out_depth = depth / window, out_height = height / window, out_width = width / window;
    const int column = i % width / window, row = i / width % height / window;
    const int layer = i / width / height % depth / window, n = i / width / height / depth;
    float gradient = 0.f;  // layers, rows and columns that fill no whole cube keep it
    if (layer < out_depth && row < out_height && column < out_width)
        gradient = dy[((n * out_depth + layer) * out_height + row) * out_width + column] /
                   (float)(window * window * window);
    dx[i] = gradient;
}
