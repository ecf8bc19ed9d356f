// Sums over the 256 threads of a block, for kernels with one block for each image.
//
// A warp adds its lanes up in a tree of shuffles, and one thread for each of the K sums adds the
// eight warps up and writes it: always in this order. Shared memory holds the sums of the warps.

template <int K> __device__ void block_sum(float (&sum)[K], float* __restrict__ y) {
    __shared__ float of_warp[8][K];
    for (int k = 0; k < K; ++k) {
        for (int offset = 16; offset > 0; offset /= 2)
            sum[k] += __shfl_down_sync(0xffffffffu, sum[k], offset);
        if (threadIdx.x % 32 == 0) of_warp[threadIdx.x / 32][k] = sum[k];
    }
    __syncthreads();
    if (threadIdx.x < K) {
        float total = 0.f;
        for (int warp = 0; warp < 8; ++warp) total += of_warp[warp][threadIdx.x];
        y[threadIdx.x] = total;
    }
}
