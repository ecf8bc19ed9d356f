// The loss of co-localisation, STN appendix A.2, explained in ops/triplet_hinge.py. For P pairs
// (n, m) of images, with e(T_n) in row n of attended, e(R_n) in row n of random, and
//
//     h_nm = |e(T_n) - e(T_m)|^2 - |e(T_n) - e(R_n)|^2 + margin
//
//     loss = 1/P sum_(n,m) max(0, h_nm)
//
//     de(T_n) = 2 dloss/P (e(R_n) - e(T_m))        added up over the pairs with h_nm > 0
//     de(T_m) = 2 dloss/P (e(T_m) - e(T_n))
//     de(R_n) = 2 dloss/P (e(T_n) - e(R_n))
//
// triplet_hinges: one warp for each pair, which alone writes the pair's max(0, h). A lane takes
// every 32nd feature; its sums go through a tree of shuffles. The mean is reduce.cu's.
//
// triplet_hinge_backward: one thread for each element of both gradients, which alone writes it. It
// goes through all pairs in their order, of which few are of its row.
//
// Pairs are not known to the host when it launches, so one out of range cannot be an error message:
// it makes the loss NaN, and has no gradient.

extern "C" __global__ void __launch_bounds__(128)
triplet_hinges(const float* __restrict__ attended, const float* __restrict__ random,
               const int* __restrict__ pairs, float* __restrict__ hinges, int count, int rows,
               int features, float margin) {
    const int pair = blockIdx.x * 4 + threadIdx.x / 32, lane = threadIdx.x % 32;
    if (pair >= count) return;  // the whole warp
    const int n = pairs[2 * pair], m = pairs[2 * pair + 1];
    const bool known = min(n, m) >= 0 && max(n, m) < rows;
    float to_other = 0.f, to_random = 0.f;
    for (int d = lane; known && d < features; d += 32) {
        const float e = attended[n * features + d];
        const float other = e - attended[m * features + d], drawn = e - random[n * features + d];
        to_other += other * other;
        to_random += drawn * drawn;
    }
    for (int offset = 16; offset > 0; offset /= 2) {
        to_other += __shfl_down_sync(0xffffffffu, to_other, offset);
        to_random += __shfl_down_sync(0xffffffffu, to_random, offset);
    }
    const float h = known ? to_other - to_random + margin : __int_as_float(0x7fc00000);
    if (lane == 0) hinges[pair] = h <= 0.f ? 0.f : h;  // NaN stays NaN
}

// factor: 2 dloss/P. share: of de(T_m).
extern "C" __global__ void __launch_bounds__(256)
triplet_hinge_backward(const float* __restrict__ attended, const float* __restrict__ random,
                       const int* __restrict__ pairs, const float* __restrict__ hinges,
                       float* __restrict__ dattended, float* __restrict__ drandom, int size,
                       int count, int features, float factor, float share) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= size) return;
    const int row = i / features, d = i % features;
    const float e = attended[i], drawn = random[i];
    float de = 0.f, ddrawn = 0.f;
    for (int pair = 0; pair < count; ++pair) {
        if (!(hinges[pair] > 0.f)) continue;  // or it is NaN
        const int n = pairs[2 * pair], m = pairs[2 * pair + 1];
        if (n == row) {
            de += drawn - attended[m * features + d];
            ddrawn += e - drawn;
        }
        if (m == row) de += share * (e - attended[n * features + d]);
    }
    dattended[i] = factor * de;
    drandom[i] = factor * ddrawn;
}
