// What the checker reports: kernels with one fault each, at the line marked "here", and the words
// for it. They are launched with 64 threads and two arrays of 64 elements, and with as many blocks
// and bytes of dynamic shared memory as the comment says.

#define i int(threadIdx.x)

// ---- outside an array

// expect: read out of bounds: element 64 of argument 0, x, which has 64, by thread (63,0,0) of
//     block (0,0,0)
extern "C" __global__ void read_after(const float* x, float* y) {
    y[i] = x[i + 1];  // here
}

// expect: read out of bounds: element -1 of argument 0, x,
extern "C" __global__ void read_before(const float* x, float* y) {
    y[i] = x[i - 1];  // here
}

// expect: write out of bounds: element 64 of argument 1, y, which has 64, by thread (32,0,0)
extern "C" __global__ void write_after(const float* x, float* y) {
    y[2 * i] = 1.f;  // here
}

// expect: write out of bounds: element 16777216 of argument 1, y,
extern "C" __global__ void write_far_away(const float* x, float* y) {
    y[i << 24] = 1.f;  // here
}

// expect: read out of bounds: element 67 of argument 0
extern "C" __global__ void read_of_four_values(const float* x, float* y) {
    y[i] = ((const float4*)(x + i / 4 * 4 + 4))->w;  // here
}

// expect: write to a const array: element 0 of argument 0, x,
extern "C" __global__ void write_to_const(const float* x, float* y) {
    ((float*)x)[i] = 1.f;  // here
}

// expect: write out of bounds: a null pointer
extern "C" __global__ void no_array(const float* x, float* y) {
    *(float*)(i * 4ull) = 1.f;  // here
}

// expect: write out of bounds: element 64 of argument 1, y
extern "C" __global__ void atomic_after(const float* x, float* y) {
    atomicAdd((int*)y + 64, 1);  // here
}

// expect: read out of bounds: element 64 of argument 0, x
extern "C" __global__ void copy_after(const float* x, float* y) {
    __shared__ __align__(16) float s[64];
    if (i == 16) cp_async16(s, x + i * 4, true);  // here
}

// expect: read out of bounds: element 64 of shared array s, which has 64, by thread (63,0,0)
extern "C" __global__ void shared_read_after(const float* x, float* y) {
    __shared__ float s[64];
    s[i] = 1.f;
    __syncthreads();
    y[i] = (&s[0])[i + 1];  // here
}

// expect: write out of bounds: element 66 of shared array s
extern "C" __global__ void shared_write_after(const float* x, float* y) {
    __shared__ float s[64];
    (&s[0])[i * 3] = 1.f;  // here
}

// expect: index out of bounds of an array of fixed size
extern "C" __global__ void shared_row_after(const float* x, float* y) {
    __shared__ float s[4][16];
    s[i / 16][i % 16 + 1] = 1.f;  // here
}

// shared: 252
// expect: write out of bounds: byte 252 of the dynamic shared memory, which has 252, by thread
//     (63,0,0)
extern "C" __global__ void dynamic_short(const float* x, float* y) {
    extern __shared__ float s[];
    s[i] = x[i];  // here
}

// expect: index out of bounds of an array of fixed size
extern "C" __global__ void local_after(const float* x, float* y) {
    float l[4] = {x[i], x[0], x[1], x[2]};
    for (int j = 0; j < 4; ++j) y[i] += l[j + i / 63];  // here
}

// expect: read out of bounds: a local variable of thread (0,0,0)
extern "C" __global__ void local_of_another(const float* x, float* y) {
    __shared__ float* s;
    float mine = x[i];
    if (i == 0) s = &mine;
    __syncthreads();
    y[i] = *s;  // here
}

// ---- misaligned

// expect: misaligned address
extern "C" __global__ void misaligned_read(const float* x, float* y) {
    y[i] = ((const float4*)(x + 2))->y;  // here
}

// expect: misaligned address
extern "C" __global__ void misaligned_write(const float* x, float* y) {
    *(float2*)(y + i) = make_float2(1.f, 2.f);  // here
}

// expect: misaligned address
extern "C" __global__ void misaligned_shared(const float* x, float* y) {
    __shared__ float s[64];
    *(float4*)(s + i / 4 * 4) = make_float4(0.f, 0.f, 0.f, 0.f);  // here
}

// expect: misaligned address of an asynchronous copy of 16 bytes
extern "C" __global__ void misaligned_copy(const float* x, float* y) {
    __shared__ __align__(16) float s[64];
    cp_async16(s, x + 2, true);  // here
}

// expect: misaligned address of an atomic operation
extern "C" __global__ void misaligned_atomic(const float* x, float* y) {
    atomicAdd((unsigned long long*)(y + 1), 1ull);  // here
}

// ---- races

// expect: race, read after write: element 0 of shared array s, which has 64; thread (0,0,0) of
//     block (0,0,0) wrote it, by thread (1,0,0)
extern "C" __global__ void race_in_warp(const float* x, float* y) {
    __shared__ float s[64];
    s[i] = x[i];
    if (i > 0) y[i] = s[i - 1];  // here
}

// expect: race, read after write
extern "C" __global__ void race_despite_shuffle(const float* x, float* y) {
    __shared__ float s[64];
    s[i] = x[i];
    y[i] = __shfl_sync(0xffffffffu, x[i], 0);
    y[i] = s[i ^ 1];  // here
}

// expect: race, read after write: element 31 of shared array s
extern "C" __global__ void race_between_warps(const float* x, float* y) {
    __shared__ float s[64];
    s[i] = x[i];
    __syncwarp();
    y[i] = s[i % 32];  // here
}

// expect: race, write after write: element 0 of shared array s, which has 64; thread (0,0,0) of
//     block (0,0,0) wrote it, by thread (1,0,0)
extern "C" __global__ void race_of_writes(const float* x, float* y) {
    __shared__ float s[64];
    s[i / 2] = x[i];  // here
}

// expect: race, write after read: element 0 of shared array s, which has 64; thread (32,0,0) of
//     block (0,0,0) read it, by thread (0,0,0)
extern "C" __global__ void race_after_read(const float* x, float* y) {
    __shared__ float s[64];
    s[i] = x[i];
    __syncthreads();
    if (i >= 32) y[i] = s[i - 32];
    else s[i] = 0.f;  // here
}

// expect: race, write after read: element 0 of shared array s, which has 64; thread (31,0,0) and
//     others
extern "C" __global__ void race_after_reads(const float* x, float* y) {
    __shared__ float s[64];
    s[i] = x[i];
    __syncthreads();
    y[i] = s[0];
    __syncwarp();
    if (i == 5) s[0] = 0.f;  // here
}

// expect: race, read after write: element 0 of argument 1, y
extern "C" __global__ void race_in_global(const float* x, float* y) {
    if (i < 32) y[i] = x[i];
    else y[i] = y[i - 32];  // here
}

// blocks: 2
// expect: race, write after write: element 0 of argument 1, y, which has 64; thread (0,0,0) of
//     block (0,0,0) wrote it, by thread (0,0,0) of block (1,0,0)
extern "C" __global__ void race_of_blocks(const float* x, float* y) {
    y[i] = x[i];  // here
}

// blocks: 2
// expect: race, read after write: element 0 of argument 1
extern "C" __global__ void race_after_block(const float* x, float* y) {
    if (blockIdx.x == 0) y[i] = x[i];
    else y[i + 32 - i / 32 * 32] = y[i];  // here
}

// expect: race, write after write: element 0 of argument 1, y
extern "C" __global__ void atomic_after_write(const float* x, float* y) {
    if (i == 0) y[0] += 1.f;
    else atomicAdd((int*)y, 1);  // here
}

// expect: race, write after write: element 0 of shared array count, which has 1; thread (0,0,0) of
//     block (0,0,0) wrote it, by thread (1,0,0)
extern "C" __global__ void atomic_after_own_write(const float* x, float* y) {
    __shared__ int count;
    if (i == 0) count = 0;
    atomicAdd(&count, 1);  // here
}

// expect: race, read after write: element 0 of argument 1, y, which has 64; thread (62,0,0)
extern "C" __global__ void read_after_atomics(const float* x, float* y) {
    if (i < 63) atomicAdd((int*)y, 1);
    else y[1] = y[0];  // here
}

// expect: race, read after write: element 0 of argument 1, y, which has 64; thread (1,0,0) and
//     others of block (0,0,0) wrote it
extern "C" __global__ void read_after_own_atomic(const float* x, float* y) {
    if (i < 2) atomicAdd((int*)y, 1);  // here, if thread 1 comes first
    if (i == 1) y[1] = y[0];  // here
}

// Thread 1 of block 0 reads y[0], then threads of two warps of block 1, of which one writes it.
// blocks: 2
// expect: race, write after read: element 0 of argument 1, y, which has 64; thread (32,0,0) and
//     others of block (1,0,0) read it, by thread (0,0,0) of block (1,0,0)
extern "C" __global__ void race_with_the_first_of_three_readers(const float* x, float* y) {
    if (blockIdx.x == 0 && i == 1) y[60] = y[0];  // here, if block 1 comes first
    if (blockIdx.x == 0) return;
    if (i % 32 == 0) y[61 + i / 32] = y[0];
    __syncthreads();
    if (i == 0) y[0] = 1.f;  // here
}

// expect: race, read after write: element 16 of shared array s
extern "C" __global__ void race_with_lanes_that_did_not_meet(const float* x, float* y) {
    __shared__ float s[64];
    s[i] = x[i];
    __syncwarp();
    s[i] += 1.f;
    if (i % 32 < 16) {
        __syncwarp(0xffff);
        y[i] = s[i ^ 1] + s[i + 16];  // here
    }
}

// expect: race, write after read
extern "C" __global__ void race_with_copy(const float* x, float* y) {
    __shared__ float s[64];
    s[i] = x[i];
    __syncthreads();
    if (i >= 32) y[i] = s[i];
    else cp_async4(&s[i + 32], x, true);  // here
}

// ---- never written, or not yet

// expect: read of uninitialised memory: element 0 of shared array s
extern "C" __global__ void uninitialised(const float* x, float* y) {
    __shared__ float s[64];
    if (i > 0) s[i] = x[i];
    __syncthreads();
    y[i] = s[i];  // here
}

// shared: 256
// expect: read of uninitialised memory: byte 0 of the dynamic shared memory
extern "C" __global__ void uninitialised_dynamic(const float* x, float* y) {
    extern __shared__ float s[];
    y[i] = s[i];  // here
}

// expect: read of uninitialised memory: element 0 of shared array s, which has 1
extern "C" __global__ void uninitialised_sum(const float* x, float* y) {
    __shared__ int s;
    atomicAdd(&s, 1);  // here
}

// blocks: 2
// expect: read of uninitialised memory: element 63 of shared array s, which has 64, by thread
//     (63,0,0) of block (1,0,0)
extern "C" __global__ void left_by_another_block(const float* x, float* y) {
    __shared__ float s[64];
    if (blockIdx.x == 0) s[i] = x[i];
    __syncthreads();
    if (blockIdx.x == 0) return;
    y[i] = s[i];  // here
}

// expect: read of what an asynchronous copy of thread (63,0,0) of block (0,0,0) brings, without a
//     wait: element 63 of shared array s
extern "C" __global__ void no_wait(const float* x, float* y) {
    __shared__ __align__(16) float s[64];
    cp_async4(&s[i], x + i, true);
    cp_async_commit();
    __syncthreads();
    y[i] = s[i];  // here
}

// expect: read of what an asynchronous copy
extern "C" __global__ void waits_for_too_few(const float* x, float* y) {
    __shared__ __align__(16) float s[64];
    cp_async4(&s[i], x + i, true);
    cp_async_commit();
    cp_async_commit();
    cp_async_wait<2>();
    y[i] = s[i];  // here
}

// expect: read of what an asynchronous copy
extern "C" __global__ void no_commit(const float* x, float* y) {
    __shared__ __align__(16) float s[64];
    cp_async4(&s[i], x + i, true);
    cp_async_wait<0>();
    y[i] = s[i];  // here
}

// expect: read of what an asynchronous copy of thread (30,0,0)
extern "C" __global__ void read_of_a_neighbours_copy(const float* x, float* y) {
    __shared__ __align__(16) float s[64];
    cp_async4(&s[i], x + i, true);
    cp_async_commit();
    __syncwarp();
    cp_async_wait<0>();
    y[i] = s[i ^ 1];  // here
}

// expect: race, read after write
extern "C" __global__ void waits_for_own_copies_only(const float* x, float* y) {
    __shared__ __align__(16) float s[64];
    if (i < 32) cp_async4(&s[i], x + i, true);
    cp_async_commit();
    cp_async_wait<0>();
    __syncwarp();
    y[i] = s[i % 32];  // here
}

// expect: write over what an asynchronous copy
extern "C" __global__ void write_over_copy(const float* x, float* y) {
    __shared__ __align__(16) float s[64];
    cp_async4(&s[i], x + i, true);
    s[i] = 0.f;  // here
}

// ---- waiting for each other

// expect: __syncthreads in divergent code, while other threads wait at line
extern "C" __global__ void divergent_barrier(const float* x, float* y) {
    if (i < 40) __syncthreads();
    else __syncthreads();  // here
}

// expect: __syncthreads that 10 threads do not reach: they have returned
extern "C" __global__ void return_before_barrier(const float* x, float* y) {
    if (i < 10) return;
    __syncthreads();  // here
}

// expect: deadlock in block (0,0,0): thread (0,0,0) waits at __syncthreads for ever, as do 39
//     others; 24 have returned
extern "C" __global__ void return_after_others_wait(const float* x, float* y) {
    if (i >= 40) return;
    __syncthreads();  // here
}

// expect: the mask names lanes of the warp that have returned or do not exist
extern "C" __global__ void return_before_shuffle(const float* x, float* y) {
    if (i < 3) return;
    y[i] = __shfl_xor_sync(0xffffffffu, x[i], 1);  // here
}

// expect: deadlock in block (0,0,0): thread (0,0,0) waits for its warp for ever, as do 47 others;
//     16 have returned
extern "C" __global__ void divergent_shuffle(const float* x, float* y) {
    if (i % 32 < 24) y[i] = __shfl_xor_sync(0xffffffffu, x[i], 1);  // here
}

// expect: the warp has diverged: other lanes wait at line
extern "C" __global__ void divergent_warp(const float* x, float* y) {
    if (i % 32 < 24) __syncwarp();
    else __syncwarp();  // here
}

// expect: the warp has diverged: other lanes wait at line
extern "C" __global__ void two_masks(const float* x, float* y) {
    __syncwarp(i % 2 ? 0xffffffffu : 0xffff5555u);  // here
}

// expect: the mask names lanes of the warp that have returned or do not exist
extern "C" __global__ void mask_with_lanes_that_return(const float* x, float* y) {
    __syncwarp(i % 2 ? 0xffffffffu : 0x55555555u);  // here
}

// expect: a lane is not in its own mask
extern "C" __global__ void not_in_its_mask(const float* x, float* y) {
    __syncwarp(0xffff0000u);  // here
}

// expect: the value of lane 16 is asked for, which is not in the mask
extern "C" __global__ void source_not_in_mask(const float* x, float* y) {
    if (i % 32 < 16) y[i] = __shfl_down_sync(0xffffu, x[i], 1);  // here
}

// ---- numbers

// expect: a product overflows
extern "C" __global__ void product_overflows(const float* x, float* y) {
    y[i] = (i + 70000) * (i + 70000) / 65536;  // here
}

// expect: a float does not fit the whole number
extern "C" __global__ void not_a_whole_number(const float* x, float* y) {
    y[i] = (int)(x[i] / 0.f);  // here
}

// expect: no room for shared array s: blocks have 48 KB
extern "C" __global__ void too_much_shared(const float* x, float* y) {
    __shared__ float s[13000];  // here
    s[i] = 0.f;
}
