// Kernels whose results tests/test_cudacpu.py knows, and that the checker must find clean.

extern "C" __global__ void __launch_bounds__(256)
indices(int* of_thread, int* of_block) {
    const int thread = (threadIdx.z * blockDim.y + threadIdx.y) * blockDim.x + threadIdx.x;
    const int block = (blockIdx.z * gridDim.y + blockIdx.y) * gridDim.x + blockIdx.x;
    const int threads = blockDim.x * blockDim.y * blockDim.z;
    of_thread[block * threads + thread] = thread;
    of_block[block * threads + thread] = block;
}

extern "C" __global__ void __launch_bounds__(64)
shuffles(const int* x, int* y) {  // y (64, 6)
    const unsigned all = 0xffffffffu;
    const int i = threadIdx.x;
    y[i * 6] = __shfl_sync(all, x[i], 5);
    y[i * 6 + 1] = __shfl_up_sync(all, x[i], 3);
    y[i * 6 + 2] = __shfl_down_sync(all, x[i], 3);
    y[i * 6 + 3] = __shfl_xor_sync(all, x[i], 6);
    y[i * 6 + 4] = __shfl_sync(all, x[i], 9, 8);
    y[i * 6 + 5] = __shfl_down_sync(all, x[i], 2, 8);
}

extern "C" __global__ void __launch_bounds__(64)
votes(const int* x, unsigned* y) {  // y (64, 4)
    const unsigned all = 0xffffffffu, half = threadIdx.x % 32 < 16 ? 0xffffu : 0xffff0000u;
    const int i = threadIdx.x;
    y[i * 4] = __ballot_sync(all, x[i]);
    y[i * 4 + 1] = __any_sync(half, x[i] > 60);
    y[i * 4 + 2] = __all_sync(half, x[i] > 10);
    y[i * 4 + 3] = __shfl_xor_sync(half, (unsigned)x[i], 1);
}

// Sums of whole numbers in float are exact: no order of threads changes them.
extern "C" __global__ void __launch_bounds__(256)
block_sums(const float* x, float* sums, int size) {
    __shared__ float of_warp[8];
    float sum = 0.f;
    for (int i = blockIdx.x * 256 + threadIdx.x; i < size; i += gridDim.x * 256) sum += x[i];
    for (int by = 16; by > 0; by /= 2) sum += __shfl_xor_sync(0xffffffffu, sum, by);
    if (threadIdx.x % 32 == 0) of_warp[threadIdx.x / 32] = sum;
    __syncthreads();
    if (threadIdx.x >= 32) return;
    sum = threadIdx.x < 8 ? of_warp[threadIdx.x] : 0.f;
    for (int by = 4; by > 0; by /= 2) sum += __shfl_down_sync(0xffffffffu, sum, by);
    if (threadIdx.x == 0) sums[blockIdx.x] = sum;
}

template <int SIZE>
__device__ __forceinline__ void reverse(float* x) {
    __shared__ __align__(16) float copy[SIZE][2];
    copy[threadIdx.x][1] = x[threadIdx.x];
    __syncthreads();
    x[threadIdx.x] = copy[SIZE - 1 - threadIdx.x][1];
    __syncthreads();
}
extern "C" __global__ void __launch_bounds__(96)
reversals(float* x) {  // by barriers in templates, whose arrays are theirs alone, and in a loop
    reverse<96>(x);
    reverse<64 + 32>(x);
    extern __shared__ float more[];
    for (int round = 0; round < 3; ++round) {
        more[threadIdx.x] = x[threadIdx.x];
        __syncthreads();
        x[threadIdx.x] = more[95 - threadIdx.x];
        __syncthreads();
    }
}

extern "C" __global__ void __launch_bounds__(32)
within_a_warp(float* x) {
    __shared__ float copy[32];
    copy[threadIdx.x] = x[threadIdx.x];
    __syncwarp();
    x[threadIdx.x] = copy[31 - threadIdx.x];
}

// Neighbours meet, then pairs of neighbours; each thread knows of four. And of all, at last.
extern "C" __global__ void __launch_bounds__(32)
within_parts_of_a_warp(float* x) {
    __shared__ float s[2][32];
    const int i = threadIdx.x;
    s[0][i] = x[i];
    __syncwarp(3u << i / 2 * 2);
    s[1][i] = s[0][i ^ 1];
    __syncwarp(i % 2 ? 0xau << i / 4 * 4 : 0x5u << i / 4 * 4);
    x[i] = s[0][i ^ 3] + s[1][i ^ 2];
    __syncwarp();
    s[0][31 - i] = x[i];
}

// What a block finds in shared memory, before it leaves something there.
extern "C" __global__ void __launch_bounds__(32)
leftovers(float* found) {
    __shared__ float fixed[32];
    extern __shared__ float dynamic[];
    found[blockIdx.x * 64 + threadIdx.x] = fixed[threadIdx.x];
    found[blockIdx.x * 64 + 32 + threadIdx.x] = dynamic[threadIdx.x];
    fixed[threadIdx.x] = dynamic[threadIdx.x] = 1.f;
}

extern "C" __global__ void __launch_bounds__(64)
atomics(int* ints, unsigned* unsigneds, unsigned long long* longs, int* olds) {
    const int i = blockIdx.x * 64 + threadIdx.x;
    olds[i] = atomicAdd(ints, 1);
    atomicMax(ints + 1, 5 - i);
    atomicMin(ints + 2, 5 - i);
    atomicAdd(unsigneds, 3u);
    atomicMax(unsigneds + 1, (unsigned)-i);
    atomicOr(unsigneds + 2, 1u << threadIdx.x % 32);
    atomicAdd(longs, (unsigned long long)-(long long)i << 20);
    atomicMax(longs + 1, (unsigned long long)i << 40);
    atomicOr(longs + 2, 1ull << threadIdx.x);
}

extern "C" __global__ void __launch_bounds__(32)
tensor_core(const float* a, const float* b, float* d) {  // (16, 8), (8, 8), (16, 8)
    const int g = threadIdx.x / 4, t = threadIdx.x % 4;
    const unsigned left[4] = {f32_to_tf32(a[g * 8 + t]), f32_to_tf32(a[(g + 8) * 8 + t]),
                              f32_to_tf32(a[g * 8 + t + 4]), f32_to_tf32(a[(g + 8) * 8 + t + 4])};
    const unsigned right[2] = {f32_to_tf32(b[t * 8 + g]), f32_to_tf32(b[(t + 4) * 8 + g])};
    float sum[4] = {d[g * 8 + 2 * t], d[g * 8 + 2 * t + 1], d[(g + 8) * 8 + 2 * t],
                    d[(g + 8) * 8 + 2 * t + 1]};
    mma_m16n8k8_tf32(sum, left, right);
    d[g * 8 + 2 * t] = sum[0];
    d[g * 8 + 2 * t + 1] = sum[1];
    d[(g + 8) * 8 + 2 * t] = sum[2];
    d[(g + 8) * 8 + 2 * t + 1] = sum[3];
}

extern "C" __global__ void __launch_bounds__(32)
rounding(const float* x, unsigned* y) { y[threadIdx.x] = f32_to_tf32(x[threadIdx.x]); }

// y = x, by two stages in flight. The last four values, and by smaller copies the four before, are
// zeros.
extern "C" __global__ void __launch_bounds__(32)
copies(const float* x, float* y, int stages) {
    __shared__ __align__(16) float stage[2][128];
    for (int s = 0; s <= stages; ++s) {
        const bool last = s == stages - 1 && threadIdx.x == 31;
        if (s < stages) {
            cp_async16(&stage[s % 2][threadIdx.x * 4], x + s * 128 + threadIdx.x * 4, !last);
        }
        cp_async_commit();
        if (s == 0) continue;
        cp_async_wait<1>();
        __syncwarp();
        for (int i = threadIdx.x; i < 128; i += 32) y[(s - 1) * 128 + i] = stage[(s - 1) % 2][i];
        __syncwarp();
    }
    if (threadIdx.x < 4) cp_async4(&stage[0][threadIdx.x], x, false);
    cp_async_commit();
    cp_async_wait<0>();
    if (threadIdx.x < 4) y[stages * 128 - 8 + threadIdx.x] = stage[0][threadIdx.x];
}

__constant__ float table[4] = {1.f, 2.f, 4.f, 8.f};
extern "C" __global__ void __launch_bounds__(1)
arithmetic(const float* x, float* y, long long* whole, unsigned* bits) {
    y[0] = __fadd_rn(x[0], __fmul_rn(x[0], x[1]));
    y[1] = fminf(x[2], 1.f);
    y[2] = max(x[2], 2.f);
    y[3] = rsqrtf(x[3]);
    y[4] = table[blockDim.x + 1];
    y[5] = __ldg(x + 3) + floorf(-1.5f) + expf(0.f) + logf(1.f) + fabsf(-1.f);
    whole[0] = __float2int_rn(2.5f);
    whole[1] = __float2int_rz(-2.9f);
    whole[2] = __float2int_rd(-2.1f);
    whole[3] = __float2int_ru(2.1f);
    whole[4] = __float2int_rn(x[4]);
    whole[5] = __float2int_rn(x[2]);
    whole[6] = __float2ll_rn(-x[4]);
    whole[7] = __double2ll_rn(1e15 + 0.5);
    whole[8] = __float2uint_rn(-3.f);
    whole[9] = __double2ll_rn(x[2]);
    whole[10] = max(-1, 2) + min(3, 4u);
    whole[11] = isnan(x[2]) * 4 + isfinite(x[2]) * 2 + isinf(x[4] / 0.f);
    bits[0] = __umulhi(0xffffffffu, 0x80000000u);
    bits[1] = __float_as_uint(-0.f);
    bits[2] = __popc(0xf0u) + __clz(1) + __ffs(8);
    bits[3] = __float_as_uint(__uint_as_float(0x7fc01234u));
}

extern "C" __global__ void __launch_bounds__(32)
types(const double* d, unsigned char* c, long long l, unsigned char small, double value) {
    *(uchar4*)(c + 4 * threadIdx.x) = make_uchar4(small, (unsigned char)l, (unsigned char)d[0], 4);
    if (value != d[0]) c[0] = 0;
}
extern "C" __global__ void __launch_bounds__(32)
add_one(float* x, const float* y, int size) {
    if (threadIdx.x < size) x[threadIdx.x] = y[threadIdx.x] + 1.f;
}
