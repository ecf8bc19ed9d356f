// Gradient of the weight and the bias of conv_tf32.cu (ops/conv_block.py):
//
//     dweight_abck = sum_nij x_n,i+a-1,j+b-1,c dz_nijk        dbias_k = sum_nij dz_nijk
//
// as products of matrices whose terms are the pixels of z. A block of four warps sums 32 input by
// 32 output channels and all nine taps, over every S-th tile of 8x16 pixels. It writes partials (S,
// 9 C + 1, K), the last row the bias's, for reduce.cu to sum. Every order is fixed, and S depends
// on the shapes alone. Factors are rounded to TF32; the bias is summed in float32.
//
// Shared memory holds two stages, one in use and one being filled: the 10x18 patch of x, and dz,
// expanded from dy and gate. A warp sums 16 input by 16 output channels. Terms t and t + 4 of a
// product are the pixels 4t and 4t + 1 of a row, or 4t + 2 and 4t + 3. So a lane's six pixels 4t to
// 4t + 5 of one row of the patch serve the three taps of a kernel row at all 16 pixels; they stay
// in registers for the three rows of z that look at them. Columns j with equal j % 4 lie together,
// with 40 floats for each pixel: lanes read 32 different banks.

#include "gate.cuh"
#include "tensor_core.cuh"

constexpr int THREADS = 128;
constexpr int CHANNELS = 32;  // of x, and of dz, in a block
constexpr int PITCH = CHANNELS + 8;
constexpr int DOWN = 8, ACROSS = 16;  // pixels of z in a tile
constexpr int PATCH = (DOWN + 2) * (ACROSS + 2) * PITCH;
constexpr int STAGE = PATCH + DOWN * ACROSS * PITCH;

struct Tile {
    int image, row, column;

    __device__ Tile(int number, int H, int W) {
        const int down = (H + DOWN - 1) / DOWN, across = (W + ACROSS - 1) / ACROSS;
        column = number % across * ACROSS;
        row = number / across % down * DOWN;
        image = number / across / down;
    }
};

__device__ __forceinline__ float* x_pixel(float* stage, int i, int j) {
    const int together = j % 4 * (ACROSS / 4) + min(j % 4, 2);  // 18 columns: 5, 5, 4 and 4 of them
    return stage + (i * (ACROSS + 2) + together + j / 4) * PITCH;
}
__device__ __forceinline__ float* dz_pixel(float* stage, int i, int j) {
    return stage + PATCH + ((i * 4 + j % 4) * (ACROSS / 4) + j / 4) * PITCH;
}

__device__ __forceinline__ void begin_x(float* stage, const float* x, const Tile& tile, int H,
                                        int W, int C, int channel) {
    const int c = threadIdx.x % 8 * 4;
#pragma unroll 1
    for (int e = threadIdx.x / 8; e < (DOWN + 2) * (ACROSS + 2); e += THREADS / 8) {
        const int pi = e / (ACROSS + 2), pj = e % (ACROSS + 2);
        const int i = tile.row + pi - 1, j = tile.column + pj - 1;
        const bool inside = i >= 0 && i < H && j >= 0 && j < W;
        const int at = inside ? ((tile.image * H + i) * W + j) * C + channel + c : 0;
        cp_async16(x_pixel(stage, pi, pj) + c, x + at, inside);
    }
}

// A thread's share of dy and gate, on the way from global to shared memory.
template <int SIDE>
struct Gradient {
    static constexpr int WIDTH = ACROSS / SIDE;  // outputs in a row of the tile
    static constexpr int COUNT = DOWN / SIDE * WIDTH * 8 / THREADS;
    float4 dy[COUNT];
    unsigned gates[COUNT];

    __device__ __forceinline__ void begin(const float* dys, const unsigned char* gate,
                                          const Tile& tile, int h, int w, int K, int kernel) {
        const int k = kernel + threadIdx.x % 8 * 4;
#pragma unroll
        for (int s = 0; s < COUNT; ++s) {
            const int e = threadIdx.x / 8 + s * (THREADS / 8);
            const int i = tile.row / SIDE + e / WIDTH, j = tile.column / SIDE + e % WIDTH;
            const int at = ((tile.image * h + i) * w + j) * K + k;
            const bool inside = i < h && j < w;
            dy[s] = inside ? *(const float4*)(dys + at) : make_float4(0.f, 0.f, 0.f, 0.f);
            gates[s] = inside ? *(const unsigned*)(gate + at) : 0;
        }
    }
    __device__ __forceinline__ void finish(float* stage) {
#pragma unroll
        for (int s = 0; s < COUNT; ++s) {
            const int e = threadIdx.x / 8 + s * (THREADS / 8);
#pragma unroll
            for (int p = 0; p < SIDE * SIDE; ++p) {
                const int i = e / WIDTH * SIDE + p / SIDE, j = e % WIDTH * SIDE + p % SIDE;
                *(float4*)(dz_pixel(stage, i, j) + threadIdx.x % 8 * 4) =
                    through(dy[s], gates[s], p);
            }
        }
    }
};

// Add one stage: sum[tap][n] for input channels left .. left + 15 and outputs right + 8n .. + 7.
__device__ __forceinline__ void multiply(float (&sum)[9][2][4], float (&bias)[2], float* stage,
                                         int left, int right) {
    const int lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
    unsigned rows[3][6][2];  // rows r % 3 of the patch, pixels 4t to 4t + 5, channels g and g + 8
#pragma unroll
    for (int i = 0; i < DOWN; ++i) {
#pragma unroll
        for (int r = i == 0 ? 0 : i + 2; r < i + 3; ++r)
#pragma unroll
            for (int s = 0; s < 6; ++s) {
                const float* pixel = x_pixel(stage, r, s) + t * PITCH + left + g;
                rows[r % 3][s][0] = f32_to_tf32(pixel[0]);
                rows[r % 3][s][1] = f32_to_tf32(pixel[8]);
            }
#pragma unroll
        for (int s = 0; s < 4; s += 2)
#pragma unroll
            for (int n = 0; n < 2; ++n) {
                const float first = (dz_pixel(stage, i, s) + t * PITCH + right + n * 8)[g];
                const float second = (dz_pixel(stage, i, s + 1) + t * PITCH + right + n * 8)[g];
                bias[n] += first + second;
                const unsigned dz[2] = {f32_to_tf32(first), f32_to_tf32(second)};
#pragma unroll
                for (int tap = 0; tap < 9; ++tap) {
                    const unsigned (&row)[6][2] = rows[(i + tap / 3) % 3];
                    const unsigned* p = row[s + tap % 3];
                    const unsigned* q = row[s + tap % 3 + 1];
                    const unsigned xs[4] = {p[0], p[1], q[0], q[1]};
                    mma_m16n8k8_tf32(sum[tap][n], xs, dz);
                }
            }
    }
}

template <int SIDE>
__device__ __forceinline__ void weight_gradient(const float* x, const float* dy,
                                                const unsigned char* gate, float* partials,
                                                int tiles, int H, int W, int C, int K) {
    extern __shared__ __align__(16) float stages[];
    const int channel = blockIdx.y * CHANNELS, kernel = blockIdx.z * CHANNELS;
    const int warp = threadIdx.x / 32, left = warp % 2 * 16, right = warp / 2 * 16;
    const int h = H / SIDE, w = W / SIDE;
    float sum[9][2][4] = {}, bias[2] = {};
    Gradient<SIDE> gradient;
    int number = blockIdx.x;  // of the tile in this stage
    if (number < tiles) {
        const Tile tile(number, H, W);
        begin_x(stages, x, tile, H, W, C, channel);
        gradient.begin(dy, gate, tile, h, w, K, kernel);
        gradient.finish(stages);
    }
    cp_async_commit();
    for (int now = 0; number < tiles; now ^= 1) {
        number += gridDim.x;
        float* other = stages + (now ^ 1) * STAGE;
        cp_async_wait<0>();
        __syncthreads();  // this stage is filled, and nobody reads the other one any more
        if (number < tiles) {
            const Tile tile(number, H, W);
            begin_x(other, x, tile, H, W, C, channel);
            gradient.begin(dy, gate, tile, h, w, K, kernel);
        }
        cp_async_commit();
        multiply(sum, bias, stages + now * STAGE, left, right);
        if (number < tiles) gradient.finish(other);
    }
    const int lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
    float* mine = partials + blockIdx.x * (9 * C + 1) * K + kernel + right;
#pragma unroll
    for (int n = 0; n < 2; ++n) {
#pragma unroll
        for (int tap = 0; tap < 9; ++tap)
#pragma unroll
            for (int r = 0; r < 2; ++r)
                *(float2*)(mine + (tap * C + channel + left + g + 8 * r) * K + n * 8 + 2 * t) =
                    make_float2(sum[tap][n][2 * r], sum[tap][n][2 * r + 1]);
        bias[n] += __shfl_xor_sync(0xffffffffu, bias[n], 1);
        bias[n] += __shfl_xor_sync(0xffffffffu, bias[n], 2);
        if (channel + left == 0 && t == 0) mine[9 * C * K + n * 8 + g] = bias[n];
    }
}

extern "C" __global__ void __launch_bounds__(128)
conv_tf32_weight_gradient(const float* __restrict__ x, const float* __restrict__ dy,
                          const unsigned char* __restrict__ gate, float* __restrict__ partials,
                          int tiles, int H, int W, int C, int K) {
    weight_gradient<1>(x, dy, gate, partials, tiles, H, W, C, K);
}

extern "C" __global__ void __launch_bounds__(128)
conv_tf32_weight_gradient_pool(const float* __restrict__ x, const float* __restrict__ dy,
                               const unsigned char* __restrict__ gate, float* __restrict__ partials,
                               int tiles, int H, int W, int C, int K) {
    weight_gradient<2>(x, dy, gate, partials, tiles, H, W, C, K);
}
