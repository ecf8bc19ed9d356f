// Convolution block with a 3x3 kernel and a margin of one on tensor cores (ops/conv_block.py):
//
//     z_nijk  = sum_abc x_n,i+a-1,j+b-1,c weight_abck
//     y_nijk  = f(bias_k + the maximum of z over the window)          f: ReLU, leaky ReLU or none
//     dx_nijc = sum_abk dz_n,i+a-1,j+b-1,k weight_2-a,2-b,c,k
//
// The gradient is a convolution of dz with the weight turned round, so one body makes both; its
// loader reads x, or expands dy through the gate. The weight's gradient is in conv_tf32_weight.cu.
// Channels in and out come in multiples of 32. Factors are rounded to TF32, sums are float32 in a
// fixed order.
//
// A block of four warps makes 16x16 pixels of OUT channels. Shared memory holds two stages, one in
// use and one being filled: the 18x18 patch of 8 input channels and their weights for all nine
// taps. Without the patch each tap would fetch its pixels again: 9 times the traffic from the L2
// cache.
//
// A warp makes four rows of pixels. Row 8h + g of fragment y is pixel (y, 2g + h), so that a thread
// holds all four values of its 2x2 windows, and pools, adds the bias and rectifies without a word
// from its neighbours. It keeps the four patch rows that the taps of one kernel row share in
// registers: a row of patch is read once for all nine taps. Even and odd columns of the patch lie
// apart, with 12 floats for each pixel, and rows of weights are OUT + 8 floats apart: lanes read 32
// different banks.

#include "gate.cuh"
#include "tensor_core.cuh"

constexpr int THREADS = 128;
constexpr int TILE = 16;            // rows and columns of pixels that a block makes
constexpr int HALF = TILE / 2 + 1;  // even columns of its patch, and odd ones
constexpr int STEP = 8;             // input channels in a stage
constexpr int PITCH = STEP + 4;     // floats between pixels of the patch
constexpr int PATCH = (TILE + 2) * 2 * HALF * PITCH;
template <int OUT>
constexpr int STAGE = PATCH + 9 * STEP * (OUT + 8);

__device__ __forceinline__ float* shared_memory() {
    extern __shared__ __align__(16) float stages[];
    return stages;
}

// Where a block's tile is: image, its first row and column.
struct Tile {
    int image, row, column;

    __device__ Tile(int number, int H, int W) {
        const int down = (H + TILE - 1) / TILE, across = (W + TILE - 1) / TILE;
        column = number % across * TILE;
        row = number / across % down * TILE;
        image = number / across / down;
    }
};

__device__ __forceinline__ float* pixel_of(float* patch, int i, int j) {
    return patch + ((i * 2 + j % 2) * HALF + j / 2) * PITCH;
}

// What a thread loads of a block of ACROSS x ACROSS pixels: four channels of one column, every
// ROWS-th row from its first one.
template <int ACROSS, int ROWS>
struct Share {
    static constexpr int COUNT = ACROSS / ROWS;
    int row, column, channel;
    bool some;  // the last threads have nothing to load

    __device__ __forceinline__ Share()
        : row(threadIdx.x / 2 / ACROSS),
          column(threadIdx.x / 2 % ACROSS),
          channel(threadIdx.x % 2 * 4),
          some(threadIdx.x < ROWS * ACROSS * 2) {}
};

// A loader fills a patch in two halves: begin() asks for what finish() may have to wait for.
struct Image {  // x (N, H, W, channels)
    const float* x;
    int H, W, channels;

    __device__ __forceinline__ void begin(float* patch, const Tile& tile, int channel) {
        using Pixels = Share<TILE + 2, 3>;
        const Pixels share;
        const int j = tile.column + share.column - 1;
#pragma unroll 1
        for (int s = 0; s < Pixels::COUNT; ++s) {
            const int pi = share.row + 3 * s, i = tile.row + pi - 1;
            const bool inside = i >= 0 && i < H && j >= 0 && j < W;
            const int at = ((tile.image * H + i) * W + j) * channels + channel + share.channel;
            if (share.some)
                cp_async16(pixel_of(patch, pi, share.column) + share.channel, x + (inside ? at : 0),
                           inside);
        }
    }
    __device__ __forceinline__ void finish(float*, int) {}
};

template <int SIDE>  // of the pool's windows, 1 without
struct Gradient {    // dy and gate (N, h, w, channels)
    static constexpr int ACROSS = TILE / SIDE + 2;  // outputs that touch a patch
    static constexpr int ROWS = SIDE == 2 ? 5 : 3;
    using Outputs = Share<ACROSS, ROWS>;

    const float* dy;
    const unsigned char* gate;
    int h, w, channels;
    float* raw;  // 16 gates of each output, then dy before it is spread over the pool's windows

    // Where a thread's own copy of dy arrives.
    __device__ __forceinline__ float* arrival(float* patch, const Outputs& share, int row) {
        if (SIDE == 1) return pixel_of(patch, row, share.column) + share.channel;
        return raw + (ACROSS * ACROSS + (row * ACROSS + share.column) * 2) * 4 + share.channel;
    }
    __device__ __forceinline__ void begin(float* patch, const Tile& tile, int channel) {
        const Outputs share;
        if (!share.some) return;
        const int j = tile.column / SIDE + share.column - 1;
#pragma unroll 1
        for (int s = 0; s < Outputs::COUNT; ++s) {
            const int row = share.row + ROWS * s, i = tile.row / SIDE + row - 1;
            const bool inside = i >= 0 && i < h && j >= 0 && j < w;
            const int at = inside ? ((tile.image * h + i) * w + j) * channels + channel : 0;
            cp_async16(arrival(patch, share, row), dy + at + share.channel, inside);
            if (share.channel == 0)
                cp_async16(raw + (row * ACROSS + share.column) * 4, gate + at - at % 16, inside);
        }
    }
    __device__ __forceinline__ void finish(float* patch, int channel) {
        cp_async_wait<0>();
        __syncwarp();  // a neighbour has copied half of the gates
        const Outputs share;
        if (!share.some) return;
#pragma unroll 1
        for (int s = 0; s < Outputs::COUNT; ++s) {
            const int row = share.row + ROWS * s;
            const float4 value = *(const float4*)arrival(patch, share, row);
            const unsigned gates = *(const unsigned*)(raw + (row * ACROSS + share.column) * 4 +
                                                      (channel % 16 + share.channel) / 4);
#pragma unroll
            for (int p = 0; p < SIDE * SIDE; ++p) {
                const int pi = row * SIDE + p / SIDE - (SIDE - 1);
                const int pj = share.column * SIDE + p % SIDE - (SIDE - 1);
                if (pi >= 0 && pi < TILE + 2 && pj >= 0 && pj < TILE + 2)
                    *(float4*)(pixel_of(patch, pi, pj) + share.channel) = through(value, gates, p);
            }
        }
    }
};

// Weights of channels channel .. channel + 7 and OUT outputs from out: weights[tap * 8 + c][k].
template <int OUT>
__device__ __forceinline__ void begin_weights(float* weights, const float* weight, int channels,
                                              int outs, int channel, int out) {
    constexpr int TAP = STEP * OUT / 4;  // copies for one tap
    const int k = threadIdx.x % (OUT / 4) * 4, c = threadIdx.x / (OUT / 4) % STEP;
#pragma unroll 1
    for (int s = 0; s < 9; s += THREADS / TAP) {
        const int tap = s + threadIdx.x / TAP;
        if (tap < 9)
            cp_async16(weights + (tap * STEP + c) * (OUT + 8) + k,
                       weight + ((tap * channels + channel + c) * outs + out + k), true);
    }
}

// sum[y][n] += the products of one stage: row y of the warp's pixels, outputs 8n to 8n + 7.
template <int OUT>
__device__ __forceinline__ void multiply(float (&sum)[4][OUT / 8][4], const float* patch,
                                         const float* weights) {
    const int lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
    const float* corner = patch + (threadIdx.x / 32 * 4 * 2 * HALF + g) * PITCH + t;
    unsigned rows[4][4][2];  // patch rows r % 4, columns 2g to 2g + 3, channels t and t + 4
#pragma unroll
    for (int a = 0; a < 3; ++a) {
#pragma unroll
        for (int r = a == 0 ? 0 : a + 3; r < a + 4; ++r)
#pragma unroll
            for (int s = 0; s < 4; ++s) {
                const float* pixel = corner + ((r * 2 + s % 2) * HALF + s / 2) * PITCH;
                rows[r % 4][s][0] = f32_to_tf32(pixel[0]);
                rows[r % 4][s][1] = f32_to_tf32(pixel[4]);
            }
#pragma unroll
        for (int b = 0; b < 3; ++b)
#pragma unroll
            for (int n = 0; n < OUT / 8; ++n) {
                const float* from = weights + ((a * 3 + b) * STEP + t) * (OUT + 8) + n * 8 + g;
                const unsigned right[2] = {__float_as_uint(from[0]),
                                           __float_as_uint(from[4 * (OUT + 8)])};
#pragma unroll
                for (int y = 0; y < 4; ++y) {
                    const unsigned (&row)[4][2] = rows[(y + a) % 4];
                    const unsigned left[4] = {row[b][0], row[b + 1][0], row[b][1], row[b + 1][1]};
                    mma_m16n8k8_tf32(sum[y][n], left, right);
                }
            }
    }
}

// The sums of a block over all input channels.
template <int OUT, class Loader>
__device__ __forceinline__ void convolve(float (&sum)[4][OUT / 8][4], Loader loader,
                                         const float* weight, const Tile& tile, int channels,
                                         int outs, int out) {
#pragma unroll
    for (int y = 0; y < 4; ++y)
#pragma unroll
        for (int n = 0; n < OUT / 8; ++n)
#pragma unroll
            for (int e = 0; e < 4; ++e) sum[y][n][e] = 0.f;
    float* stages = shared_memory();
    loader.begin(stages, tile, 0);
    begin_weights<OUT>(stages + PATCH, weight, channels, outs, 0, out);
    cp_async_commit();
    loader.finish(stages, 0);
    for (int channel = 0; channel < channels; channel += STEP) {
        float* stage = stages + channel / STEP % 2 * STAGE<OUT>;
        float* other = stages + (channel / STEP + 1) % 2 * STAGE<OUT>;
        const bool more = channel + STEP < channels;
        cp_async_wait<0>();
        __syncthreads();  // this stage is filled, and nobody reads the other one any more
        if (more) {
            loader.begin(other, tile, channel + STEP);
            begin_weights<OUT>(other + PATCH, weight, channels, outs, channel + STEP, out);
        }
        cp_async_commit();
        multiply<OUT>(sum, stage, stage + PATCH);
        if (more) loader.finish(other, channel + STEP);
    }
}

template <int OUT, int SIDE, bool LEAKY>
__device__ __forceinline__ void forward(const float* x, const float* packed, const float* bias,
                                        float* y, unsigned char* gate, int H, int W, int C, int K,
                                        float slope) {
    const Tile tile(blockIdx.x, H, W);
    const int out = blockIdx.y * OUT, lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
    float sum[4][OUT / 8][4];
    convolve<OUT>(sum, Image{x, H, W, C}, packed, tile, C, K, out);
    const int h = H / SIDE, w = W / SIDE;
    const int top = (tile.row + threadIdx.x / 32 * 4) / SIDE, left = (tile.column + 2 * g) / SIDE;
#pragma unroll
    for (int n = 0; n < OUT / 8; ++n) {
        const int k = out + n * 8 + 2 * t;
        const float biases[2] = {bias[k], bias[k + 1]};
#pragma unroll
        for (int o = 0; o < 8 / (SIDE * SIDE); ++o) {  // the thread's outputs
            const int r = o / (2 / SIDE), s = o % (2 / SIDE);
            float values[2];
            unsigned char gates[2];
#pragma unroll
            for (int e = 0; e < 2; ++e) {
                float largest = sum[r * SIDE][n][s * 2 + e];
                int place = 0;
#pragma unroll
                for (int p = 1; p < SIDE * SIDE; ++p) {
                    const float z = sum[r * SIDE + p / 2][n][p % 2 * 2 + e];
                    if (replaces(z, largest)) {
                        largest = z;
                        place = p;
                    }
                }
                const float value = largest + biases[e];
                values[e] = activated<LEAKY>(value, slope);
                gates[e] = gate_of<LEAKY>(value, place);
            }
            const int i = top + r, j = left + s, at = ((tile.image * h + i) * w + j) * K + k;
            if (i < h && j < w) {
                *(float2*)(y + at) = make_float2(values[0], values[1]);
                *(uchar2*)(gate + at) = make_uchar2(gates[0], gates[1]);
            }
        }
    }
}

template <int OUT, int SIDE>
__device__ __forceinline__ void input_gradient(const float* dy, const unsigned char* gate,
                                               const float* packed, float* dx, int H, int W, int C,
                                               int K) {
    const Tile tile(blockIdx.x, H, W);
    const int out = blockIdx.y * OUT, lane = threadIdx.x % 32, g = lane / 4, t = lane % 4;
    float sum[4][OUT / 8][4];
    const Gradient<SIDE> loader{dy, gate, H / SIDE, W / SIDE, K, shared_memory() + 2 * STAGE<OUT>};
    convolve<OUT>(sum, loader, packed, tile, K, C, out);
#pragma unroll
    for (int y = 0; y < 4; ++y)
#pragma unroll
        for (int s = 0; s < 2; ++s) {
            const int i = tile.row + threadIdx.x / 32 * 4 + y, j = tile.column + 2 * g + s;
            if (i >= H || j >= W) continue;
#pragma unroll
            for (int n = 0; n < OUT / 8; ++n)
                *(float2*)(dx + ((tile.image * H + i) * W + j) * C + out + n * 8 + 2 * t) =
                    make_float2(sum[y][n][2 * s], sum[y][n][2 * s + 1]);
        }
}

// The weight (3, 3, C, K) as the other kernels read it: rounded, and somewhere a copy of 16 bytes
// can begin. turned: with its taps in reverse order and its channels transposed, (3, 3, K, C).
extern "C" __global__ void __launch_bounds__(256)
conv_tf32_pack(const float* __restrict__ weight, float* __restrict__ packed, int C, int K,
               int turned) {
    const int e = blockIdx.x * blockDim.x + threadIdx.x;
    if (e >= 9 * C * K) return;
    const int from = turned ? ((8 - e / C / K) * C + e % C) * K + e / C % K : e;
    packed[e] = __uint_as_float(f32_to_tf32(weight[from]));
}

extern "C" __global__ void __launch_bounds__(128)
conv_tf32_32(const float* __restrict__ x, const float* __restrict__ packed,
             const float* __restrict__ bias, float* __restrict__ y,
             unsigned char* __restrict__ gate, int H, int W, int C, int K) {
    forward<32, 1, false>(x, packed, bias, y, gate, H, W, C, K, 0.f);
}

extern "C" __global__ void __launch_bounds__(128)
conv_tf32_32_leaky(const float* __restrict__ x, const float* __restrict__ packed,
                   const float* __restrict__ bias, float* __restrict__ y,
                   unsigned char* __restrict__ gate, int H, int W, int C, int K, float slope) {
    forward<32, 1, true>(x, packed, bias, y, gate, H, W, C, K, slope);
}

extern "C" __global__ void __launch_bounds__(128)
conv_tf32_32_pool(const float* __restrict__ x, const float* __restrict__ packed,
                  const float* __restrict__ bias, float* __restrict__ y,
                  unsigned char* __restrict__ gate, int H, int W, int C, int K) {
    forward<32, 2, false>(x, packed, bias, y, gate, H, W, C, K, 0.f);
}

extern "C" __global__ void __launch_bounds__(128)
conv_tf32_32_pool_leaky(const float* __restrict__ x, const float* __restrict__ packed,
                        const float* __restrict__ bias, float* __restrict__ y,
                        unsigned char* __restrict__ gate, int H, int W, int C, int K, float slope) {
    forward<32, 2, true>(x, packed, bias, y, gate, H, W, C, K, slope);
}

extern "C" __global__ void __launch_bounds__(128)
conv_tf32_64(const float* __restrict__ x, const float* __restrict__ packed,
             const float* __restrict__ bias, float* __restrict__ y,
             unsigned char* __restrict__ gate, int H, int W, int C, int K) {
    forward<64, 1, false>(x, packed, bias, y, gate, H, W, C, K, 0.f);
}

extern "C" __global__ void __launch_bounds__(128)
conv_tf32_64_leaky(const float* __restrict__ x, const float* __restrict__ packed,
                   const float* __restrict__ bias, float* __restrict__ y,
                   unsigned char* __restrict__ gate, int H, int W, int C, int K, float slope) {
    forward<64, 1, true>(x, packed, bias, y, gate, H, W, C, K, slope);
}

extern "C" __global__ void __launch_bounds__(128)
conv_tf32_64_pool(const float* __restrict__ x, const float* __restrict__ packed,
                  const float* __restrict__ bias, float* __restrict__ y,
                  unsigned char* __restrict__ gate, int H, int W, int C, int K) {
    forward<64, 2, false>(x, packed, bias, y, gate, H, W, C, K, 0.f);
}

extern "C" __global__ void __launch_bounds__(128)
conv_tf32_64_pool_leaky(const float* __restrict__ x, const float* __restrict__ packed,
                        const float* __restrict__ bias, float* __restrict__ y,
                        unsigned char* __restrict__ gate, int H, int W, int C, int K, float slope) {
    forward<64, 2, true>(x, packed, bias, y, gate, H, W, C, K, slope);
}

extern "C" __global__ void __launch_bounds__(128)
conv_tf32_input_gradient_32(const float* __restrict__ dy,
                            const unsigned char* __restrict__ gate,
                            const float* __restrict__ packed, float* __restrict__ dx,
                            int H, int W, int C, int K) {
    input_gradient<32, 1>(dy, gate, packed, dx, H, W, C, K);
}

extern "C" __global__ void __launch_bounds__(128)
conv_tf32_input_gradient_32_pool(const float* __restrict__ dy,
                                 const unsigned char* __restrict__ gate,
                                 const float* __restrict__ packed, float* __restrict__ dx,
                                 int H, int W, int C, int K) {
    input_gradient<32, 2>(dy, gate, packed, dx, H, W, C, K);
}

extern "C" __global__ void __launch_bounds__(128)
conv_tf32_input_gradient_64(const float* __restrict__ dy,
                            const unsigned char* __restrict__ gate,
                            const float* __restrict__ packed, float* __restrict__ dx,
                            int H, int W, int C, int K) {
    input_gradient<64, 1>(dy, gate, packed, dx, H, W, C, K);
}

extern "C" __global__ void __launch_bounds__(128)
conv_tf32_input_gradient_64_pool(const float* __restrict__ dy,
                                 const unsigned char* __restrict__ gate,
                                 const float* __restrict__ packed, float* __restrict__ dx,
                                 int H, int W, int C, int K) {
    input_gradient<64, 2>(dy, gate, packed, dx, H, W, C, K);
}
