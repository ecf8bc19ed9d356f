// A tile of a matrix product in float32, sum_rc = sum_k left_kr right_kc, for kernels that make left
// and right as they go.
//
// 128 threads sum a tile of ROWS x COLUMNS values, each thread 8x8 in its registers, so that 16 reads
// from shared memory feed 64 multiply-adds. A thread's rows are two groups of four neighbours, ROWS/2
// apart, and so are its columns: then the threads of a warp read neighbouring 16 bytes, from different
// banks. Shared memory holds DEPTH terms of the sum, twice: while one buffer is summed, the next DEPTH
// terms are on their way from global memory into registers and then into the other buffer.
//
// left and right are loaders. fetch() asks for the next DEPTH terms, zeros after the last one; store()
// puts them into a buffer and so waits for them. Every sum is made by one thread, in the order of k.

template <int COLUMNS_>
struct Tile {
    static constexpr int COLUMNS = COLUMNS_, ROWS = 8192 / COLUMNS, DEPTH = COLUMNS / 4;
    static constexpr int THREADS = 128, ACROSS = COLUMNS / 8;  // threads beside each other

    // Where the r-th of the thread's rows and the c-th of its columns are in the tile.
    static __device__ __forceinline__ int row(int r) {
        return threadIdx.x / ACROSS * 4 + r % 4 + r / 4 * (ROWS / 2);
    }
    static __device__ __forceinline__ int column(int c) {
        return threadIdx.x % ACROSS * 4 + c % 4 + c / 4 * (COLUMNS / 2);
    }

    // Where a row of left lies in line k of the buffer. Loaders that walk along k write four lines of
    // few rows at a time: moving every four lines' rows keeps those writes in different banks.
    static __device__ __forceinline__ int moved(int k, int row) {
        return row ^ (k / 4 * (128 / DEPTH));
    }

    typedef float Left[DEPTH][ROWS];
    typedef float Right[DEPTH][COLUMNS];
};
using Wide = Tile<64>;    // 128 x 64, 16 terms at a time
using Narrow = Tile<32>;  // 256 x 32, 8 terms at a time: for up to 32 columns

__device__ __forceinline__ float4 zeros() { return make_float4(0.f, 0.f, 0.f, 0.f); }

__device__ __forceinline__ float4 four(const float* values) { return *(const float4*)values; }

__device__ __forceinline__ void put_four(float* to, float4 values) { *(float4*)to = values; }

__device__ __forceinline__ void spread(float4 values, float* to) {
    to[0] = values.x;
    to[1] = values.y;
    to[2] = values.z;
    to[3] = values.w;
}

// value(0) to value(3), in this order.
template <class Value>
__device__ __forceinline__ float4 one_by_one(Value value) {
    float4 values;
    values.x = value(0);
    values.y = value(1);
    values.z = value(2);
    values.w = value(3);
    return values;
}

// Whether rows of so many values can be read and written four values at a time.
__device__ __forceinline__ bool in_fours(const void* values, int width, int bytes = 16) {
    return width % 4 == 0 && (unsigned long long)values % bytes == 0;
}

template <class T, class Left, class Right>
__device__ __forceinline__ void multiply(Left& left, Right& right, int terms, float (&sum)[8][8]) {
    __shared__ __align__(16) float lefts[2][T::DEPTH][T::ROWS];
    __shared__ __align__(16) float rights[2][T::DEPTH][T::COLUMNS];
#pragma unroll
    for (int r = 0; r < 8; ++r)
#pragma unroll
        for (int c = 0; c < 8; ++c) sum[r][c] = 0.f;
    left.fetch();
    right.fetch();
    left.store(lefts[0]);
    right.store(rights[0]);
    __syncthreads();
    for (int done = 0, now = 0; done < terms; done += T::DEPTH, now ^= 1) {
        left.fetch();
        right.fetch();
#pragma unroll 1  // or the compiler puts the loaders' waiting before all the sums
        for (int half = 0; half < T::DEPTH; half += T::DEPTH / 2)
#pragma unroll
            for (int k = half; k < half + T::DEPTH / 2; ++k) {
                float a[8], b[8];
#pragma unroll
                for (int e = 0; e < 8; e += 4) {
                    spread(four(&lefts[now][k][T::moved(k, T::row(e))]), a + e);
                    spread(four(&rights[now][k][T::column(e)]), b + e);
                }
#pragma unroll
                for (int r = 0; r < 8; ++r)
#pragma unroll
                    for (int c = 0; c < 8; ++c) sum[r][c] += a[r] * b[c];
            }
        left.store(lefts[now ^ 1]);
        right.store(rights[now ^ 1]);
        __syncthreads();
    }
}

// Write the thread's part of a tile that begins at (row, column) into a matrix y (height, width).
template <class T>
__device__ __forceinline__ void write_tile(const float (&sum)[8][8], float* y, int row, int column,
                                           int height, int width) {
    const bool fours = in_fours(y, width);
#pragma unroll
    for (int r = 0; r < 8; ++r)
#pragma unroll
        for (int c = 0; c < 8; c += 4) {
            const int i = row + T::row(r), j = column + T::column(c);
            if (i >= height || j >= width) continue;
            float* to = y + i * width + j;
            if (fours) {
                put_four(to, make_float4(sum[r][c], sum[r][c + 1], sum[r][c + 2], sum[r][c + 3]));
            } else {
#pragma unroll
                for (int e = 0; e < 4; ++e)
                    if (j + e < width) to[e] = sum[r][c + e];
            }
        }
}
