// Convolution block of an image with one channel and a 3x3 kernel, in float32 (ops/conv_block.py):
//
//     z_nijk = sum_ab x_n,i+a-m,j+b-m weight_abk
//     y_nijk = f(bias_k + the maximum of z over the window)            f: ReLU, leaky ReLU or none
//
//     dweight_abk = sum_nij x_n,i+a-m,j+b-m dz_nijk
//     dbias_k     = sum_nij dz_nijk
//
// With so little to sum, reading and writing y, dy and gate takes as long as the arithmetic. So
// each is touched once, 32 channels at a time by the 32 lanes of a warp. The gradient of x, which
// sums over the channels, is in conv_first_input.cu.
//
// A warp slides along one row of outputs, up to 64 pixels of z. The strip of x that it looks at
// lies in shared memory, the four rows of a column together, for one read of 16 bytes that all
// lanes share. Nobody else touches it. The weights of a lane's channel, or their gradient, are in
// its registers.
//
// In the gradient just the winner's nine pixels of each window count; lanes with other winners read
// other banks. A block adds its own rows and then its warps' sums, in a fixed order, and writes
// partials (S, 10, K), nine weights and the bias, for reduce.cu to sum. S depends on the shapes
// alone.

#include "gate.cuh"

constexpr int WARPS = 4;    // in a block
constexpr int PIXELS = 64;  // of z along a strip
constexpr int COLUMNS = PIXELS + 2;

// A row of outputs, or a piece of it, that a warp makes. side: of the windows, 1 without pool.
struct Piece {
    int image, row, column, width, first;  // first: the number of its first output pixel

    __device__ Piece(int number, int side, int h, int w) {
        const int longest = PIXELS / side, pieces = (w + longest - 1) / longest;
        column = number % pieces * longest;
        width = min(longest, w - column);
        row = number / pieces % h;
        image = number / pieces / h;
        first = (image * h + row) * w + column;
    }
};

// Four rows of x from top and COLUMNS columns from left, zero outside: strip[column][row].
__device__ __forceinline__ void load_strip(float (&strip)[COLUMNS][4], const float* x, int H, int W,
                                           int image, int top, int left, int lane) {
    __syncwarp();  // nobody reads the strip before this one any more
    for (int c = lane; c < COLUMNS; c += 32) {
        const int j = left + c;
        float column[4];
#pragma unroll
        for (int r = 0; r < 4; ++r) {
            const int i = top + r;
            const bool inside = i >= 0 && i < H && j >= 0 && j < W;
            column[r] = inside ? x[(image * H + i) * W + j] : 0.f;
        }
        *(float4*)strip[c] = make_float4(column[0], column[1], column[2], column[3]);
    }
    __syncwarp();
}

__device__ __forceinline__ void read_column(float (&column)[4], const float* strip) {
    const float4 v = *(const float4*)strip;
    column[0] = v.x;
    column[1] = v.y;
    column[2] = v.z;
    column[3] = v.w;
}

template <int SIDE, bool LEAKY>
__device__ __forceinline__ void forward(const float* x, const float* weight, const float* bias,
                                        float* y, unsigned char* gate, int pieces, int H, int W,
                                        int h, int w, int K, int margin_rows, int margin_columns,
                                        float slope) {
    __shared__ __align__(16) float strips[WARPS][COLUMNS][4];
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const int number = blockIdx.x * WARPS + warp;
    if (number >= pieces) return;  // the whole warp, and no barrier of the block follows
    const Piece piece(number, SIDE, h, w);
    float (&strip)[COLUMNS][4] = strips[warp];
    load_strip(strip, x, H, W, piece.image, SIDE * piece.row - margin_rows,
               SIDE * piece.column - margin_columns, lane);
    for (int k = lane; k < K; k += 32) {
        float wk[9], column[SIDE + 2][4];
#pragma unroll
        for (int tap = 0; tap < 9; ++tap) wk[tap] = weight[tap * K + k];
        const float bk = bias[k];
        read_column(column[0], strip[0]);
        read_column(column[1], strip[1]);
        int at = piece.first * K + k;
#pragma unroll 2
        for (int q = 0; q < piece.width; ++q, at += K) {
#pragma unroll
            for (int s = 2; s < SIDE + 2; ++s) read_column(column[s], strip[SIDE * q + s]);
            float largest = 0.f;
            int place = 0;
#pragma unroll
            for (int p = 0; p < SIDE * SIDE; ++p) {
                float z = 0.f;
#pragma unroll
                for (int tap = 0; tap < 9; ++tap)
                    z += column[p % SIDE + tap % 3][p / SIDE + tap / 3] * wk[tap];
                if (p == 0 || replaces(z, largest)) {
                    largest = z;
                    place = p;
                }
            }
            const float value = largest + bk;
            y[at] = activated<LEAKY>(value, slope);
            gate[at] = gate_of<LEAKY>(value, place);
#pragma unroll
            for (int s = 0; s < 2; ++s)
#pragma unroll
                for (int r = 0; r < 4; ++r) column[s][r] = column[s + SIDE][r];
        }
    }
}

extern "C" __global__ void __launch_bounds__(128)
conv_first(const float* __restrict__ x, const float* __restrict__ weight,
           const float* __restrict__ bias, float* __restrict__ y, unsigned char* __restrict__ gate,
           int pieces, int H, int W, int h, int w, int K, int margin_rows, int margin_columns) {
    forward<1, false>(x, weight, bias, y, gate, pieces, H, W, h, w, K, margin_rows, margin_columns,
                      0.f);
}

extern "C" __global__ void __launch_bounds__(128)
conv_first_pool(const float* __restrict__ x, const float* __restrict__ weight,
                const float* __restrict__ bias, float* __restrict__ y,
                unsigned char* __restrict__ gate, int pieces, int H, int W, int h, int w, int K,
                int margin_rows, int margin_columns) {
    forward<2, false>(x, weight, bias, y, gate, pieces, H, W, h, w, K, margin_rows, margin_columns,
                      0.f);
}

extern "C" __global__ void __launch_bounds__(128)
conv_first_leaky(const float* __restrict__ x, const float* __restrict__ weight,
                 const float* __restrict__ bias, float* __restrict__ y,
                 unsigned char* __restrict__ gate, int pieces, int H, int W, int h, int w, int K,
                 int margin_rows, int margin_columns, float slope) {
    forward<1, true>(x, weight, bias, y, gate, pieces, H, W, h, w, K, margin_rows, margin_columns,
                     slope);
}

extern "C" __global__ void __launch_bounds__(128)
conv_first_pool_leaky(const float* __restrict__ x, const float* __restrict__ weight,
                      const float* __restrict__ bias, float* __restrict__ y,
                      unsigned char* __restrict__ gate, int pieces, int H, int W, int h, int w,
                      int K, int margin_rows, int margin_columns, float slope) {
    forward<2, true>(x, weight, bias, y, gate, pieces, H, W, h, w, K, margin_rows, margin_columns,
                     slope);
}

template <int SIDE>
__device__ __forceinline__ void weight_gradient(const float* x, const float* dy,
                                                const unsigned char* gate, float* partials,
                                                int pieces, int H, int W, int h, int w, int K,
                                                int margin_rows, int margin_columns) {
    __shared__ __align__(16) float strips[WARPS][COLUMNS][4];
    __shared__ float sums[WARPS][10][32];
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, k = blockIdx.y * 32 + lane;
    float (&strip)[COLUMNS][4] = strips[warp];
    float sum[10] = {};
    for (int number = blockIdx.x * WARPS + warp; number < pieces; number += gridDim.x * WARPS) {
        const Piece piece(number, SIDE, h, w);
        load_strip(strip, x, H, W, piece.image, SIDE * piece.row - margin_rows,
                   SIDE * piece.column - margin_columns, lane);
        const int width = k < K ? piece.width : 0;
        int at = piece.first * K + k;
#pragma unroll 4
        for (int q = 0; q < width; ++q, at += K) {
            const int place = gate[at];
            const float dz = place == CLOSED ? 0.f : dy[at];
            const float* corner = strip[SIDE * q];
            if (SIDE == 2) corner += place % 2 * 4 + place / 2 % 2;
#pragma unroll
            for (int tap = 0; tap < 9; ++tap) sum[tap] += corner[tap % 3 * 4 + tap / 3] * dz;
            sum[9] += dz;
        }
    }
#pragma unroll
    for (int s = 0; s < 10; ++s) sums[warp][s][lane] = sum[s];
    __syncthreads();
    for (int s = warp; s < 10; s += WARPS) {
        float total = 0.f;
        for (int from = 0; from < WARPS; ++from) total += sums[from][s][lane];
        if (k < K) partials[(blockIdx.x * 10 + s) * K + k] = total;
    }
}

extern "C" __global__ void __launch_bounds__(128)
conv_first_weight_gradient(const float* __restrict__ x, const float* __restrict__ dy,
                           const unsigned char* __restrict__ gate, float* __restrict__ partials,
                           int pieces, int H, int W, int h, int w, int K, int margin_rows,
                           int margin_columns) {
    weight_gradient<1>(x, dy, gate, partials, pieces, H, W, h, w, K, margin_rows, margin_columns);
}

extern "C" __global__ void __launch_bounds__(128)
conv_first_weight_gradient_pool(const float* __restrict__ x, const float* __restrict__ dy,
                                const unsigned char* __restrict__ gate,
                                float* __restrict__ partials, int pieces, int H, int W, int h,
                                int w, int K, int margin_rows, int margin_columns) {
    weight_gradient<2>(x, dy, gate, partials, pieces, H, W, h, w, K, margin_rows, margin_columns);
}
