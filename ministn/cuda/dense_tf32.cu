// Fully connected layer on tensor cores (ops/dense.py): three products of matrices.
//
//     y_nk       = sum_d x_nd weight_dk + bias_k      rows n, columns k, terms d
//     dx_nd      = sum_k dy_nk weight_dk              rows n, columns d, terms k
//     dweight_dk = sum_n x_nd dy_nk                   rows d, columns k, terms n
//     dbias_k    = sum_n dy_nk
//
// A block of four warps makes a tile of 128x64 elements, a warp 64x32 of them. Shared memory holds
// 32 terms of both factors, rounded to TF32; the next 32 are in registers, on their way. Each
// factor lies there as in global memory, with its terms side by side or far apart, so that
// neighbouring threads always read and write neighbours. Rows have any length and begin anywhere:
// all copies are of single numbers. Pitches of 4 or 8 more than a multiple of 32 let lanes read 32
// different banks.
//
// x has very many terms and y few tiles, so slices of the terms go to different blocks, and
// dense_tf32_finish adds the partial sums of an element, and the bias, in one thread. The blocks of
// the first rows of dweight sum dbias from float32 values as they pass. Every order of summation is
// fixed.

#include "tensor_core.cuh"

constexpr int THREADS = 128, TERMS = 32;
constexpr int ROWS = 128, COLUMNS = 64;

// SIZE rows or columns of a factor. TOGETHER: the terms of each lie side by side.
template <int SIZE, bool TOGETHER>
struct Factor {
    static constexpr int PITCH = TOGETHER ? TERMS + 4 : SIZE + 8;
    static constexpr int LINES = TOGETHER ? SIZE : TERMS;
    static constexpr int LINE = TOGETHER ? TERMS : SIZE;  // its length
    static constexpr int STRIDE = THREADS >= LINE ? THREADS / LINE : 1;
    static constexpr int SHARE = SIZE * TERMS / THREADS;  // numbers for each thread

    float held[SHARE];

    // Ask for TERMS terms from term on and SIZE rows or columns from place on; zeros beyond the
    // last.
    __device__ __forceinline__ void fetch(const float* matrix, int place, int places, int term,
                                          int terms) {
        const int length = TOGETHER ? terms : places;
        const int i = (TOGETHER ? place : term) + threadIdx.x / LINE;
        const int j = (TOGETHER ? term : place) + threadIdx.x % LINE;
        const int lines = j < length ? (TOGETHER ? places : terms) : 0;
#pragma unroll
        for (int s = 0; s < SHARE; ++s)
            held[s] = i + s * STRIDE < lines ? matrix[(i + s * STRIDE) * length + j] : 0.f;
    }
    __device__ __forceinline__ void store(float* shared) const {
        float* to = shared + threadIdx.x / LINE * PITCH + threadIdx.x % LINE;
#pragma unroll
        for (int s = 0; s < SHARE; ++s)
            to[s * STRIDE * PITCH] = __uint_as_float(f32_to_tf32(held[s]));
    }
    static __device__ __forceinline__ unsigned read(const float* shared, int place, int term) {
        return __float_as_uint(shared[TOGETHER ? place * PITCH + term : term * PITCH + place]);
    }
};

// The sum of terms first to last - 1 of the block's tile of out (rows, columns). column_sums: of
// right, or null.
template <bool LEFT_TOGETHER, bool RIGHT_TOGETHER, bool SUM_COLUMNS>
__device__ __forceinline__ void multiply(const float* left, const float* right, float* out,
                                         float* column_sums, int rows, int columns, int terms,
                                         int first, int last) {
    using Left = Factor<ROWS, LEFT_TOGETHER>;
    using Right = Factor<COLUMNS, RIGHT_TOGETHER>;
    __shared__ float lefts[Left::LINES * Left::PITCH];
    __shared__ float rights[Right::LINES * Right::PITCH];
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, g = lane / 4, t = lane % 4;
    const int row = blockIdx.x * ROWS, column = blockIdx.y * COLUMNS;
    const int above = warp % 2 * 64, before = warp / 2 * 32;  // of the warp's part of the tile
    Left a;
    Right b;
    float sum[4][4][4] = {}, column_sum = 0.f;
    a.fetch(left, row, rows, first, terms);
    b.fetch(right, column, columns, first, terms);
    for (int term = first; term < last; term += TERMS) {
        __syncthreads();  // nobody reads the terms before these any more
        a.store(lefts);
        b.store(rights);
        if (SUM_COLUMNS) {
#pragma unroll
            for (int s = 0; s < Right::SHARE; ++s) column_sum += b.held[s];
        }
        __syncthreads();
        if (term + TERMS < last) {
            a.fetch(left, row, rows, term + TERMS, terms);
            b.fetch(right, column, columns, term + TERMS, terms);
        }
#pragma unroll
        for (int k = 0; k < TERMS; k += 8) {
            unsigned as[4][4];
#pragma unroll
            for (int m = 0; m < 4; ++m)
#pragma unroll
                for (int e = 0; e < 4; ++e)
                    as[m][e] = Left::read(lefts, above + m * 16 + g + e % 2 * 8, k + t + e / 2 * 4);
#pragma unroll
            for (int n = 0; n < 4; ++n) {
                const int j = before + n * 8 + g;
                const unsigned bs[2] = {Right::read(rights, j, k + t),
                                        Right::read(rights, j, k + t + 4)};
#pragma unroll
                for (int m = 0; m < 4; ++m) mma_m16n8k8_tf32(sum[m][n], as[m], bs);
            }
        }
    }
#pragma unroll
    for (int m = 0; m < 4; ++m)
#pragma unroll
        for (int n = 0; n < 4; ++n)
#pragma unroll
            for (int e = 0; e < 4; ++e) {
                const int i = row + above + m * 16 + g + e / 2 * 8;
                const int j = column + before + n * 8 + 2 * t + e % 2;
                if (i < rows && j < columns) out[i * columns + j] = sum[m][n][e];
            }
    if (SUM_COLUMNS && blockIdx.x == 0) {  // a column's numbers passed through two threads
        __syncthreads();
        rights[threadIdx.x] = column_sum;
        __syncthreads();
        const int j = column + threadIdx.x;
        if (threadIdx.x < COLUMNS && j < columns)
            column_sums[j] = rights[threadIdx.x] + rights[threadIdx.x + COLUMNS];
    }
}

// partials (S, N, K), each of slice terms, a multiple of TERMS.
extern "C" __global__ void __launch_bounds__(128)
dense_tf32(const float* __restrict__ x, const float* __restrict__ weight,
           float* __restrict__ partials, int N, int D, int K, int slice) {
    const int first = blockIdx.z * slice;
    multiply<true, false, false>(x, weight, partials + blockIdx.z * N * K, nullptr, N, K, D, first,
                                 min(D, first + slice));
}

extern "C" __global__ void __launch_bounds__(256)
dense_tf32_finish(const float* __restrict__ partials, const float* __restrict__ bias,
                  float* __restrict__ y, int slices, int size, int K) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= size) return;
    float sum = 0.f;
#pragma unroll 8
    for (int s = 0; s < slices; ++s) sum += partials[s * size + i];
    y[i] = sum + bias[i % K];
}

extern "C" __global__ void __launch_bounds__(128)
dense_tf32_input_gradient(const float* __restrict__ dy, const float* __restrict__ weight,
                          float* __restrict__ dx, int N, int D, int K) {
    multiply<true, true, false>(dy, weight, dx, nullptr, N, D, K, 0, K);
}

extern "C" __global__ void __launch_bounds__(128)
dense_tf32_weight_gradient(const float* __restrict__ x, const float* __restrict__ dy,
                           float* __restrict__ dweight, float* __restrict__ dbias, int N, int D,
                           int K) {
    multiply<false, false, true>(x, dy, dweight, dbias, D, K, N, 0, N);
}
