// Grids that are linear in theta, STN section 3.2: T_theta = M_theta B (ops/basis_grid.py). With m
// for one of the 2 h w numbers of a grid, an image's theta and the target grids B_0 .. B_P:
//
//     T_nm     = B_0m + sum_p theta_np B_pm
//     dtheta_np = sum_m dT_nm B_pm
//     dB_0m    = sum_n dT_nm,    dB_pm = sum_n theta_np dT_nm
//
// basis_grid: one thread for each m of IMAGES images, which alone writes those numbers, each a sum
// in the order of p: a number of the basis is loaded once for all the images.
//
// grid_products: one warp for each p of PRODUCTS images. A lane sums every 32nd m, a tree of
// shuffles adds the lanes up, and lane 0 writes: always in this order.
//
// basis_grid_dbasis: one thread for each m of each B_p, which alone writes it, a sum in the order
// of n.

const int IMAGES = 8, PRODUCTS = 4;

extern "C" __global__ void __launch_bounds__(256)
basis_grid(const float* __restrict__ theta, const float* __restrict__ basis,
           float* __restrict__ grid, int images, int parameters, int size) {
    const int m = blockIdx.x * blockDim.x + threadIdx.x, first = blockIdx.y * IMAGES;
    if (m >= size) return;
    float sum[IMAGES];
    for (int k = 0; k < IMAGES; ++k) sum[k] = basis[m];
    for (int p = 0; p < parameters; ++p) {
        const float b = basis[(p + 1) * size + m];
        for (int k = 0; k < IMAGES; ++k)
            sum[k] += theta[min(first + k, images - 1) * parameters + p] * b;
    }
    for (int k = 0; k < IMAGES && first + k < images; ++k) grid[(first + k) * size + m] = sum[k];
}

extern "C" __global__ void __launch_bounds__(256)
grid_products(const float* __restrict__ grid, const float* __restrict__ basis,
              float* __restrict__ products, int images, int parameters, int size) {
    const int p = blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32;
    const int first = blockIdx.y * PRODUCTS, lane = threadIdx.x % 32;
    if (p >= parameters) return;  // the whole warp
    float sum[PRODUCTS] = {0.f, 0.f, 0.f, 0.f};
    for (int m = lane; m < size; m += 32) {
        const float b = basis[p * size + m];
        for (int k = 0; k < PRODUCTS; ++k)
            sum[k] += grid[min(first + k, images - 1) * size + m] * b;
    }
    for (int k = 0; k < PRODUCTS; ++k) {
        for (int offset = 16; offset > 0; offset /= 2)
            sum[k] += __shfl_down_sync(0xffffffffu, sum[k], offset);
        if (lane == 0 && first + k < images) products[(first + k) * parameters + p] = sum[k];
    }
}

extern "C" __global__ void __launch_bounds__(256)
basis_grid_dbasis(const float* __restrict__ dgrid, const float* __restrict__ theta,
                  float* __restrict__ dbasis, int images, int parameters, int size) {
    const int m = blockIdx.x * blockDim.x + threadIdx.x, p = blockIdx.y;
    if (m >= size) return;
    float sum = 0.f;
    for (int n = 0; n < images; ++n)
        sum += (p == 0 ? 1.f : theta[n * parameters + p - 1]) * dgrid[n * size + m];
    dbasis[p * size + m] = sum;
}
