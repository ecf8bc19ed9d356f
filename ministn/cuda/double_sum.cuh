// The sum over the 256 threads of a block, in double, known to thread 0.
//
// A warp adds its lanes up in a tree of shuffles, and thread 0 adds the eight warps up: always in this
// order. Shared memory holds the sums of the warps.

__device__ double double_sum(double sum) {
    __shared__ double of_warp[8];
    for (int offset = 16; offset > 0; offset /= 2)
        sum += __shfl_down_sync(0xffffffffu, sum, offset);
    if (threadIdx.x % 32 == 0) of_warp[threadIdx.x / 32] = sum;
    __syncthreads();
    if (threadIdx.x == 0)
        for (int warp = 1; warp < 8; ++warp) sum += of_warp[warp];
    return sum;
}
