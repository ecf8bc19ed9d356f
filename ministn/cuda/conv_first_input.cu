// Gradient of the one-channel image of conv_first.cu, in float32 (ops/conv_block.py):
//
//     dx_nij = sum_abk dz_n,i+m-a,j+m-b,k weight_abk      dz: dy where the gate lets it through
//
// A thread holds a cell of 2x2 pixels of z and the 4x4 pixels of dx that it reaches, summed over
// all channels in registers: per channel 36 multiply-adds for four numbers of dz and nine weights.
// Shared memory holds dz for a tile of 16x16 cells and 8 channels at a time, expanded from dy and
// gate, and their weights; after the last channel what each cell adds to dx. Up to four cells reach
// a pixel of dx, which one thread sums, in a fixed order, and writes. Neighbouring tiles have a row
// or column of cells in common, so that every pixel is complete in one of them.

#include "gate.cuh"

constexpr int CELLS = 16;    // rows and columns of cells in a tile
constexpr int CHANNELS = 8;  // of dz in shared memory at a time
constexpr int PLANE = 4 * CELLS * CELLS + 4;  // one channel; 8 begin in 8 different banks

// dz of a tile of cells from (row, column) on and channels k0 to k0 + 7; zero where there is none.
template <int SIDE>
__device__ __forceinline__ void load_dz(float* dz, const float* dy, const unsigned char* gate,
                                        int n, int row, int column, int k0, int h, int w, int K) {
    constexpr int ACROSS = 2 * CELLS / SIDE;  // outputs in a row of the tile
    for (int e = threadIdx.x; e < ACROSS * ACROSS * CHANNELS; e += CELLS * CELLS) {
        const int c = e % CHANNELS, ti = e / CHANNELS / ACROSS, tj = e / CHANNELS % ACROSS;
        const int i = row * 2 / SIDE + ti, j = column * 2 / SIDE + tj;
        float value = 0.f;
        int place = CLOSED;
        if (i < h && j < w && k0 + c < K) {
            const int at = ((n * h + i) * w + j) * K + k0 + c;
            value = dy[at];
            place = gate[at];
        }
        float* corner = dz + c * PLANE + (ti * 2 * CELLS + tj) * SIDE;
        if (SIDE == 1) {
            *corner = place == 0 ? value : 0.f;
        } else {
            *(float2*)corner = make_float2(place == 0 ? value : 0.f, place == 1 ? value : 0.f);
            *(float2*)(corner + 2 * CELLS) =
                make_float2(place == 2 ? value : 0.f, place == 3 ? value : 0.f);
        }
    }
}

template <int SIDE>
__device__ __forceinline__ void input_gradient(const float* dy, const unsigned char* gate,
                                               const float* weight, float* dx, int down, int across,
                                               int H, int W, int h, int w, int K, int margin_rows,
                                               int margin_columns) {
    constexpr int REACH = 17;  // 4x4 values, and one more so that cells begin in different banks
    __shared__ __align__(16) float dz[CHANNELS * PLANE];
    __shared__ __align__(16) float taps[CHANNELS][12];
    const int thread = threadIdx.x, ci = thread / CELLS, cj = thread % CELLS;
    const int tj = blockIdx.x % across, ti = blockIdx.x / across % down;
    const int n = blockIdx.x / across / down;
    const int row = ti * (CELLS - 1), column = tj * (CELLS - 1);
    float sum[4][4] = {};
    for (int k0 = 0; k0 < K; k0 += CHANNELS) {
        __syncthreads();
        load_dz<SIDE>(dz, dy, gate, n, row, column, k0, h, w, K);
        if (thread < CHANNELS * 12) {
            const int c = thread % CHANNELS, tap = thread / CHANNELS;
            taps[c][tap] = tap < 9 && k0 + c < K ? weight[tap * K + k0 + c] : 0.f;
        }
        __syncthreads();
#pragma unroll 2
        for (int c = 0; c < CHANNELS; ++c) {
            const float* cell = dz + c * PLANE + (ci * 2 * CELLS + cj) * 2;
            const float2 upper = *(const float2*)cell, lower = *(const float2*)(cell + 2 * CELLS);
            const float values[2][2] = {{upper.x, upper.y}, {lower.x, lower.y}};
            float wk[12];
#pragma unroll
            for (int t = 0; t < 12; t += 4) {
                const float4 v = *(const float4*)(taps[c] + t);
                wk[t] = v.x;
                wk[t + 1] = v.y;
                wk[t + 2] = v.z;
                wk[t + 3] = v.w;
            }
#pragma unroll
            for (int p = 0; p < 4; ++p)
#pragma unroll
                for (int tap = 0; tap < 9; ++tap)
                    sum[p / 2 + tap / 3][p % 2 + tap % 3] += values[p / 2][p % 2] * wk[tap];
        }
    }
    __syncthreads();
#pragma unroll
    for (int s = 0; s < 16; ++s) dz[thread * REACH + s] = sum[s / 4][s % 4];
    __syncthreads();
    // Pixel i of dx is in rows u % 2 and u % 2 + 2 of the cells of rows u / 2 and u / 2 - 1, where
    // u = i + margin. The tile's first and last such rows are complete in no other tile.
    const int top = ti > 0 ? 2 * row + 2 : margin_rows;
    const int left = tj > 0 ? 2 * column + 2 : margin_columns;
    const int bottom = ti < down - 1 ? 2 * row + 2 * CELLS : H + margin_rows;
    const int right = tj < across - 1 ? 2 * column + 2 * CELLS : W + margin_columns;
    for (int e = thread; e < (bottom - top) * (right - left); e += CELLS * CELLS) {
        const int u = top + e / (right - left), v = left + e % (right - left);
        float total = 0.f;
#pragma unroll
        for (int s = 0; s < 4; ++s) {
            const int i = u / 2 - s / 2 - row, j = v / 2 - s % 2 - column;
            if (i >= 0 && i < CELLS && j >= 0 && j < CELLS)
                total += dz[(i * CELLS + j) * REACH + (u % 2 + s / 2 * 2) * 4 + v % 2 + s % 2 * 2];
        }
        dx[(n * H + u - margin_rows) * W + v - margin_columns] = total;
    }
}

extern "C" __global__ void __launch_bounds__(256)
conv_first_input_gradient(const float* __restrict__ dy, const unsigned char* __restrict__ gate,
                          const float* __restrict__ weight, float* __restrict__ dx, int down,
                          int across, int H, int W, int h, int w, int K, int margin_rows,
                          int margin_columns) {
    input_gradient<1>(dy, gate, weight, dx, down, across, H, W, h, w, K, margin_rows,
                      margin_columns);
}

extern "C" __global__ void __launch_bounds__(256)
conv_first_input_gradient_pool(const float* __restrict__ dy, const unsigned char* __restrict__ gate,
                               const float* __restrict__ weight, float* __restrict__ dx, int down,
                               int across, int H, int W, int h, int w, int K, int margin_rows,
                               int margin_columns) {
    input_gradient<2>(dy, gate, weight, dx, down, across, H, W, h, w, K, margin_rows,
                      margin_columns);
}
