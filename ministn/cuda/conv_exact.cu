// Convolution block in float32, of any sizes and any odd kernel, as products of matrices whose elements
// loaders find as they are needed (ops/conv2d.py, ops/conv_block.py). A tap is one (p, q, c).
//
//     z_nijk  = sum_pqc x_n,(i+p-m),(j+q-m),c weight_pqck        y = f(pool(z) + bias)
//     dx_nuvc = sum_pqk dz_n,(u+p-m'),(v+q-m'),k turned_pqkc     m' = kernel - 1 - m, m the margin
//
//     forward          z  = x's windows  x weight    row: a pixel of z   column: k   term: a tap
//     input_gradient   dx = dz's windows x turned    row: a pixel of x   column: c   term: a tap of dz
//
// With a pool, four neighbouring rows of forward are a window of z, in the registers of one thread,
// which writes their y and gate; what fills no whole window is not computed. f is ReLU, or in the
// kernels ..._leaky, leaky ReLU or none (gate.cuh). dz is never stored: the
// loader makes it of dy and gate. turned is the weight as this convolution needs it: turned round.
// The weight's gradient is in conv_exact_weight.cu.
//
// Every element is written by one thread, which sums in the order of its terms. Shared memory holds
// tiles of the two factors (gemm.cuh). Each tap reads its pixels again, mostly from caches: about 12
// bytes a clock for a processor, half of what L2 gives it, so the arithmetic is what takes the time.
// Registers are kept to what lets three blocks share a processor: one computes while others wait.

#include "gate.cuh"
#include "gemm.cuh"
#include "conv_sources.cuh"

// ---- Loaders for forward and input_gradient

// Left: a row is a window of the source, a term one of its taps.
template <class T, class Source>
struct Windows {
    static constexpr int BESIDE = T::DEPTH / 4;         // threads that share a row
    static constexpr int STRIDE = T::THREADS / BESIDE;  // rows between those of one thread
    const Source source;
    const int kernel_height, kernel_width;
    Tap tap = {0, 0, 0};
    Pixel corners[4];  // of the windows
    typename Source::Read reads[4];

    // Rows from first on. Their windows lie around the pixels of images (height, width), or with a
    // pool around the four pixels of each of their cells.
    __device__ __forceinline__ Windows(const Source& source, const Sizes& s, int margin_rows,
                                       int margin_columns, int height, int width, int pool,
                                       int first)
        : source(source), kernel_height(s.kernel_height), kernel_width(s.kernel_width) {
        tap.advance(threadIdx.x % BESIDE * 4, kernel_width, source.channels);
#pragma unroll
        for (int e = 0; e < 4; ++e) {
            const int row = first + threadIdx.x / BESIDE + e * STRIDE, cell = row >> 2 * pool;
            const int n = cell / width / height;
            corners[e].n = n;
            corners[e].i = (cell / width % height << pool) + (row >> 1 & pool) - margin_rows;
            corners[e].j = (cell % width << pool) + (row & pool) - margin_columns;
            if (n >= s.images) corners[e].i = -(1 << 30);  // outside, however far a tap reaches
        }
    }

    __device__ __forceinline__ Pixel pixel(int e, const Tap& tap) const {
        return {corners[e].n, corners[e].i + tap.p, corners[e].j + tap.q};
    }

    __device__ __forceinline__ void fetch() {
#pragma unroll
        for (int e = 0; e < 4; ++e) {
            if (source.fours) {
                reads[e] = tap.p < kernel_height ? source.read(pixel(e, tap), tap.c)
                                                 : Source::known(zeros());
            } else {
                Tap next = tap;
                reads[e] = Source::known(one_by_one([&](int) {
                    const Tap tap = next;
                    next.advance(1, kernel_width, source.channels);
                    return tap.p < kernel_height ? source.one(pixel(e, tap), tap.c) : 0.f;
                }));
            }
        }
        tap.advance(T::DEPTH, kernel_width, source.channels);
    }

    __device__ __forceinline__ void store(typename T::Left& left) const {
        const int k = threadIdx.x % BESIDE * 4;
#pragma unroll
        for (int e = 0; e < 4; ++e) {
            const int row = T::moved(k, threadIdx.x / BESIDE + e * STRIDE);
            const float4 values = Source::taken(reads[e]);
            left[k][row] = values.x;
            left[k + 1][row] = values.y;
            left[k + 2][row] = values.z;
            left[k + 3][row] = values.w;
        }
    }
};

// Right: the weight as a matrix (height, width), a line for each tap.
template <class T>
struct Weights : Lines<T> {
    using Lines<T>::EACH;
    const float* values;
    const int height, width, column;
    const bool fours;
    int line = Lines<T>::first();
    float4 reads[EACH];

    __device__ __forceinline__ Weights(const float* values, int height, int width, int column)
        : values(values), height(height), width(width), column(column + Lines<T>::column()),
          fours(in_fours(values, width)) {}

    __device__ __forceinline__ void fetch() {
        if (Lines<T>::idle()) return;
#pragma unroll
        for (int e = 0; e < EACH; ++e) {
            const float* from = values + (line + e) * width + column;
            const int count = line + e < height ? width - column : 0;
            if (fours)
                reads[e] = count > 0 ? four(from) : zeros();
            else
                reads[e] = one_by_one([&](int c) { return c < count ? from[c] : 0.f; });
        }
        line += T::DEPTH;
    }

    __device__ __forceinline__ void store(typename T::Right& right) const {
        if (Lines<T>::idle()) return;
#pragma unroll
        for (int e = 0; e < EACH; ++e)
            put_four(&right[Lines<T>::first() + e][Lines<T>::column()], reads[e]);
    }
};

// ---- Kernels

// Pool, add the bias, rectify and write the thread's part of a tile that begins at (row, column).
template <class T, bool LEAKY>
__device__ __forceinline__ void write_outputs(const float (&z)[8][8], const float* bias, float* y,
                                              unsigned char* gate, int row, int column,
                                              float slope, const Sizes& s) {
    const int outputs = s.images * s.out_height * s.out_width;
    const bool fours = in_fours(y, s.kernels);
#pragma unroll
    for (int part = 0; part < 16; ++part) {  // four columns of a row
        const int r = part / 2, c = part % 2 * 4;
        const int i = (row + T::row(r)) >> 2 * s.pool, k = column + T::column(c);
        if (i >= outputs || k >= s.kernels || (s.pool && r % 4 > 0)) continue;
        float values[4];
        unsigned char gates[4];
#pragma unroll
        for (int e = 0; e < 4; ++e) {
            float largest = z[r][c + e];
            int place = 0;
#pragma unroll
            for (int other = 1; other < 4; ++other) {
                const float value = z[r / 4 * 4 + other][c + e];
                if (s.pool && replaces(value, largest)) {
                    largest = value;
                    place = other;
                }
            }
            const float value = largest + (k + e < s.kernels ? bias[k + e] : 0.f);
            values[e] = activated<LEAKY>(value, slope);
            gates[e] = gate_of<LEAKY>(value, place);
        }
        const int at = i * s.kernels + k;
        if (fours) {
            put_four(y + at, make_float4(values[0], values[1], values[2], values[3]));
            *(uchar4*)(gate + at) = make_uchar4(gates[0], gates[1], gates[2], gates[3]);
        } else {
#pragma unroll
            for (int e = 0; e < 4; ++e)
                if (k + e < s.kernels) {
                    y[at + e] = values[e];
                    gate[at + e] = gates[e];
                }
        }
    }
}

template <class T, bool LEAKY>
__device__ __forceinline__ void forward(const float* x, const float* weight, const float* bias,
                                        float* y, unsigned char* gate, float slope,
                                        const Sizes& s) {
    const Corner<T> corner(s.kernels);
    const int taps = s.kernel_height * s.kernel_width * s.channels;
    Windows<T, Image> left(Image(x, s), s, s.margin_rows, s.margin_columns, s.out_height,
                           s.out_width, s.pool, corner.row);
    Weights<T> right(weight, taps, s.kernels, corner.column);
    float z[8][8];
    multiply<T>(left, right, taps, z);
    write_outputs<T, LEAKY>(z, bias, y, gate, corner.row, corner.column, slope, s);
}

template <class T>
__device__ __forceinline__ void input_gradient(const float* dy, const unsigned char* gate,
                                               const float* turned, float* dx, const Sizes& s) {
    const Corner<T> corner(s.channels);
    const int taps = s.kernel_height * s.kernel_width * s.kernels;
    Windows<T, Gradient> left(Gradient(dy, gate, s), s, s.kernel_height - 1 - s.margin_rows,
                              s.kernel_width - 1 - s.margin_columns, s.height, s.width, 0,
                              corner.row);
    Weights<T> right(turned, taps, s.channels, corner.column);
    float sum[8][8];
    multiply<T>(left, right, taps, sum);
    write_tile<T>(sum, dx, corner.row, corner.column, s.images * s.height * s.width, s.channels);
}

extern "C" __global__ void __launch_bounds__(128, 3)
forward_wide(const float* __restrict__ x, const float* __restrict__ weight,
             const float* __restrict__ bias, float* __restrict__ y,
             unsigned char* __restrict__ gate, int images, int height, int width, int channels,
             int kernel_height, int kernel_width, int kernels, int margin_rows, int margin_columns,
             int out_height, int out_width, int pool) {
    const Sizes s = {images, height, width, channels, kernel_height, kernel_width, kernels,
                     margin_rows, margin_columns, out_height, out_width, pool};
    forward<Wide, false>(x, weight, bias, y, gate, 0.f, s);
}

extern "C" __global__ void __launch_bounds__(128, 3)
forward_narrow(const float* __restrict__ x, const float* __restrict__ weight,
               const float* __restrict__ bias, float* __restrict__ y,
               unsigned char* __restrict__ gate, int images, int height, int width, int channels,
               int kernel_height, int kernel_width, int kernels, int margin_rows,
               int margin_columns, int out_height, int out_width, int pool) {
    const Sizes s = {images, height, width, channels, kernel_height, kernel_width, kernels,
                     margin_rows, margin_columns, out_height, out_width, pool};
    forward<Narrow, false>(x, weight, bias, y, gate, 0.f, s);
}

extern "C" __global__ void __launch_bounds__(128, 3)
forward_wide_leaky(const float* __restrict__ x, const float* __restrict__ weight,
                   const float* __restrict__ bias, float* __restrict__ y,
                   unsigned char* __restrict__ gate, float slope, int images, int height, int width,
                   int channels, int kernel_height, int kernel_width, int kernels, int margin_rows,
                   int margin_columns, int out_height, int out_width, int pool) {
    const Sizes s = {images, height, width, channels, kernel_height, kernel_width, kernels,
                     margin_rows, margin_columns, out_height, out_width, pool};
    forward<Wide, true>(x, weight, bias, y, gate, slope, s);
}

extern "C" __global__ void __launch_bounds__(128, 3)
forward_narrow_leaky(const float* __restrict__ x, const float* __restrict__ weight,
                     const float* __restrict__ bias, float* __restrict__ y,
                     unsigned char* __restrict__ gate, float slope, int images, int height,
                     int width, int channels, int kernel_height, int kernel_width, int kernels,
                     int margin_rows, int margin_columns, int out_height, int out_width, int pool) {
    const Sizes s = {images, height, width, channels, kernel_height, kernel_width, kernels,
                     margin_rows, margin_columns, out_height, out_width, pool};
    forward<Narrow, true>(x, weight, bias, y, gate, slope, s);
}

extern "C" __global__ void __launch_bounds__(128, 3)
input_gradient_wide(const float* __restrict__ dy, const unsigned char* __restrict__ gate,
                    const float* __restrict__ turned, float* __restrict__ dx, int images,
                    int height, int width, int channels, int kernel_height, int kernel_width,
                    int kernels, int margin_rows, int margin_columns, int out_height, int out_width,
                    int pool) {
    const Sizes s = {images, height, width, channels, kernel_height, kernel_width, kernels,
                     margin_rows, margin_columns, out_height, out_width, pool};
    input_gradient<Wide>(dy, gate, turned, dx, s);
}

extern "C" __global__ void __launch_bounds__(128, 3)
input_gradient_narrow(const float* __restrict__ dy, const unsigned char* __restrict__ gate,
                      const float* __restrict__ turned, float* __restrict__ dx, int images,
                      int height, int width, int channels, int kernel_height, int kernel_width,
                      int kernels, int margin_rows, int margin_columns, int out_height,
                      int out_width, int pool) {
    const Sizes s = {images, height, width, channels, kernel_height, kernel_width, kernels,
                     margin_rows, margin_columns, out_height, out_width, pool};
    input_gradient<Narrow>(dy, gate, turned, dx, s);
}

// turned_pqkc = weight_(kh-1-p),(kw-1-q),c,k: one thread for each element, which it alone writes.
extern "C" __global__ void __launch_bounds__(256)
turn(const float* __restrict__ weight, float* __restrict__ turned, int taps, int channels,
     int kernels) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= taps * channels * kernels) return;
    const int c = i % channels, k = i / channels % kernels, tap = i / channels / kernels;
    turned[i] = weight[((taps - 1 - tap) * channels + c) * kernels + k];
}
