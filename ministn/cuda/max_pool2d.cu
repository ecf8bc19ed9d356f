// Max pooling over windows of s x s pixels, t pixels apart (ops/max_pool2d.py):
//
//     y_nijc = max over p, q of x_n,(t i + p),(t j + q),c         0 <= p, q < s
//     dx     = the sum of dy over the windows that a pixel wins
//
// Forward: one thread for each output (n, i, j, c), which alone writes its maximum and where in the
// window it lies. Backward: one thread for each element of x, which alone writes its gradient: it
// looks up which windows it won, so nothing is scattered. Neighbouring threads take neighbouring
// channels, which lie side by side in memory. Windows that tile the image, t = s, have kernels of
// their own, for there a pixel lies in one window only.

// Output i: the maximum of the window that begins at x[first], and its place p s + q there.
__device__ __forceinline__ void pool(const float* x, float* y, int* winner, int i, int first,
                                     int width, int channels, int window) {
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
max_pool2d(const float* __restrict__ x, float* __restrict__ y, int* __restrict__ winner, int size,
           int height, int width, int channels, int window) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= size) return;
    const int out_height = height / window, out_width = width / window;
    const int c = i % channels, column = i / channels % out_width;
    const int row = i / channels / out_width % out_height;
    const int n = i / channels / out_width / out_height;
    const int first = ((n * height + row * window) * width + column * window) * channels + c;
    pool(x, y, winner, i, first, width, channels, window);
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

extern "C" __global__ void __launch_bounds__(256)
max_pool2d_strided(const float* __restrict__ x, float* __restrict__ y, int* __restrict__ winner,
                   int size, int height, int width, int channels, int out_height, int out_width,
                   int window, int stride) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= size) return;
    const int c = i % channels, column = i / channels % out_width;
    const int row = i / channels / out_width % out_height;
    const int n = i / channels / out_width / out_height;
    const int first = ((n * height + row * stride) * width + column * stride) * channels + c;
    pool(x, y, winner, i, first, width, channels, window);
}

// The windows that hold a row or column, in the order in which its place in them goes up.
struct Holding {
    int last, first;  // first > last where there is none

    __device__ __forceinline__ Holding(int pixel, int count, int window, int stride)
        : last(min(pixel / stride, count - 1)),
          first(pixel < window ? 0 : (pixel - window) / stride + 1) {}
};

extern "C" __global__ void __launch_bounds__(256)
max_pool2d_strided_backward(const float* __restrict__ dy, const int* __restrict__ winner,
                            float* __restrict__ dx, int size, int height, int width, int channels,
                            int out_height, int out_width, int window, int stride) {
    const int e = blockIdx.x * blockDim.x + threadIdx.x;
    if (e >= size) return;
    const int c = e % channels, column = e / channels % width;
    const int row = e / channels / width % height, n = e / channels / width / height;
    const Holding rows(row, out_height, window, stride), columns(column, out_width, window, stride);
    float gradient = 0.f;
    for (int i = rows.last; i >= rows.first; --i)
        for (int j = columns.last; j >= columns.first; --j) {
            const int out = ((n * out_height + i) * out_width + j) * channels + c;
            const int place = (row - i * stride) * window + column - j * stride;
            if (winner[out] == place) gradient += dy[out];  // in the order of NumPy's additions
        }
    dx[e] = gradient;
}
