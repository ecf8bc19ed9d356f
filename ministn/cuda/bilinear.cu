// The bilinear sampler, STN equations (5), (6) and (7), explained in ops/bilinear.py: with the
// weights ky = max(0, 1 - |y^s_i - n|) and kx = max(0, 1 - |x^s_i - m|) of the pixel (n, m),
//
//     V_i^c        = sum_nm ky kx U_nm^c                                                      (5)
//     dU_nm^c      = sum_i ky kx dV_i^c                                                       (6)
//     dx^s_i       = sum_c dV_i^c sum_nm ky (-1 left, +1 right) U_nm^c,    dy^s_i likewise    (7)
//
// A point is worked on by a group of 1, 2, 4 or 8 neighbouring threads, its lanes. Lane l takes the
// channels l, l + lanes, ...: what the point's coordinates cost is shared by many channels, and
// eight channels are one sector of memory. With one channel every thread has a point of its own. No
// block works on points of two images.
//
// bilinear_forward and bilinear_dgrid: a group alone writes its point's y, or its pair of dgrid,
// whose sum over channels is made in a fixed order: by each lane, then by a tree of shuffles.
//
// The gradient of the image scatters: points that share a pixel add up, in an order that no one
// knows. So the sums are made in whole numbers, where order does not matter, in units of 2^-k:
//
//     bilinear_dgrid    finds max|dy| of each image on its way (a maximum has no order either)
//     bilinear_scatter  adds round(ky kx dy 2^k), 64 bits wide, to both rows and columns, STN (6)
//     bilinear_dimage   turns the sums into float32: one thread for each element, which it writes
//
// k, which is at most 126, makes max|dy| h w 2^k less than 2^62, and more than 2^60: a pixel gets at
// most all of dy, so no sum overflows. Rounding to units changes an element of dimage by at most
// 2 h w 2^-k <= (h w)^2 max|dy| 2^-59: 2.3e-11 max|dy| for 60 by 60 points, far below the rounding
// of a float32. (Where 126 is the limit, max|dy| is below 2^-65 and the error below h w 2^-125.)
// If any dy of an image is not finite, its sums mean nothing, and all of its dimage is NaN.
//
// The sums are in global memory, where the L2 cache itself adds 64-bit numbers and the threads need
// not wait; in shared memory such an addition is a loop of compare-and-swap.

const unsigned INFINITE = 0x7f800000u;  // the bits of inf; those of NaN are above, of numbers below

__device__ bool is_finite(float x) { return (__float_as_uint(x) & INFINITE) != INFINITE; }

__device__ float nan_value() { return __uint_as_float(0x7fc00000u); }

__device__ float power_of_two(int k) { return __uint_as_float((unsigned)(k + 127) << 23); }

// k for an image with these bits of max|dy|, which is below 2^(exponent - 126), and
// h w <= 2^points_log2.
__device__ int unit(unsigned largest, int points_log2) {
    return min(62 - points_log2 + 126 - (int)(largest >> 23), 126);
}

// The two pixels around a coordinate along one axis, and their weights.
struct Neighbours {
    int pixel[2];
    float weight[2];
};

// Clipped before the conversion to int, which large numbers do not survive; fmaxf takes NaN too.
__device__ Neighbours neighbours(float coordinate, int size, int margin) {
    const float left = floorf(coordinate), first = -margin, last = size - 1 + margin;
    const float right_weight = coordinate - left;
    return {{(int)fminf(fmaxf(left, first), last), (int)fminf(fmaxf(left + 1.f, first), last)},
            {1.f - right_weight, right_weight}};
}

// The four pixels around a point. margin: 1 if there is fill outside the image, else 0.
struct Cell {
    int pixel[2][2];  // where in the batch, [above or below][left or right]; -1 in the margin
    float ky[2], kx[2];
    bool finite;  // if not, all weights are NaN
};

__device__ Cell cell_around(const float* pair, int n, int height, int width, int margin) {
    // Rounded one by one, as in NumPy: a fused multiply-add would move points on whole pixels, as
    // all are at the identity, into the cell to their left.
    const float half_x = 0.5f * (width - 1), half_y = 0.5f * (height - 1);
    float x = __fadd_rn(__fmul_rn(pair[0], half_x), half_x);
    float y = __fadd_rn(__fmul_rn(pair[1], half_y), half_y);
    const bool finite = is_finite(x) && is_finite(y);
    if (!finite) x = y = nan_value();
    const Neighbours rows = neighbours(y, height, margin), columns = neighbours(x, width, margin);
    Cell cell;
    cell.finite = finite;
    for (int p = 0; p < 2; ++p) {
        cell.ky[p] = rows.weight[p];
        cell.kx[p] = columns.weight[p];
        for (int q = 0; q < 2; ++q) {
            const int row = rows.pixel[p], column = columns.pixel[q];
            const bool inside = row >= 0 && row < height && column >= 0 && column < width;
            cell.pixel[p][q] = inside ? (n * height + row) * width + column : -1;
        }
    }
    return cell;
}

__device__ float load(const float* image, int pixel, int channels, int c, float fill) {
    return pixel < 0 ? fill : image[pixel * channels + c];
}

// What a thread works on: blocks = those of one image, points = h w.
struct Place {
    int n, point, lane;  // point: in the whole batch
    bool exists;
};

__device__ Place place_of_thread(int points, int blocks, int lanes) {
    const int n = blockIdx.x / blocks;
    const int i = blockIdx.x % blocks * (blockDim.x / lanes) + threadIdx.x / lanes;
    return {n, n * points + i, (int)threadIdx.x % lanes, i < points};
}

extern "C" __global__ void __launch_bounds__(256)
bilinear_forward(const float* __restrict__ image, const float* __restrict__ grid,
                 float* __restrict__ y, int points, int blocks, int lanes, int height, int width,
                 int channels, int margin, float fill) {
    const Place at = place_of_thread(points, blocks, lanes);
    if (!at.exists) return;
    const Cell cell = cell_around(grid + 2 * at.point, at.n, height, width, margin);
    for (int c = at.lane; c < channels; c += lanes) {
        float value = 0.f;
        for (int p = 0; p < 2; ++p)
            for (int q = 0; q < 2; ++q)  // STN (5)
                value += cell.ky[p] * cell.kx[q] * load(image, cell.pixel[p][q], channels, c, fill);
        y[at.point * channels + c] = value;
    }
}

// seen, two numbers for each image, is written if need_seen: the bits of max|dy|, and 1 if the
// gradient of a point that is not finite belongs to the first pixel, as it does without a margin.
extern "C" __global__ void __launch_bounds__(256)
bilinear_dgrid(const float* __restrict__ dy, const float* __restrict__ image,
               const float* __restrict__ grid, float* __restrict__ dgrid, unsigned* seen,
               int need_seen, int points, int blocks, int lanes, int height, int width,
               int channels, int margin, float fill) {
    const Place at = place_of_thread(points, blocks, lanes);
    float dx_sum = 0.f, dy_sum = 0.f;
    unsigned largest = 0, lost = 0;
    if (at.exists) {
        const Cell cell = cell_around(grid + 2 * at.point, at.n, height, width, margin);
        lost = !cell.finite && margin == 0;
        for (int c = at.lane; c < channels; c += lanes) {
            const float u00 = load(image, cell.pixel[0][0], channels, c, fill);
            const float u01 = load(image, cell.pixel[0][1], channels, c, fill);
            const float u10 = load(image, cell.pixel[1][0], channels, c, fill);
            const float u11 = load(image, cell.pixel[1][1], channels, c, fill);
            const float d = dy[at.point * channels + c];
            dx_sum += d * (cell.ky[0] * (u01 - u00) + cell.ky[1] * (u11 - u10));  // STN (7)
            dy_sum += d * (cell.kx[0] * (u10 - u00) + cell.kx[1] * (u11 - u01));
            largest = max(largest, __float_as_uint(fabsf(d)));  // as floats and bits are ordered
        }
    }
    for (int offset = lanes / 2; offset > 0; offset /= 2) {
        dx_sum += __shfl_down_sync(0xffffffffu, dx_sum, offset, lanes);
        dy_sum += __shfl_down_sync(0xffffffffu, dy_sum, offset, lanes);
    }
    if (at.exists && at.lane == 0)
        reinterpret_cast<float2*>(dgrid)[at.point] =
            make_float2(dx_sum * (0.5f * (width - 1)), dy_sum * (0.5f * (height - 1)));
    if (!need_seen) return;
    for (int offset = 16; offset > 0; offset /= 2) {
        largest = max(largest, __shfl_xor_sync(0xffffffffu, largest, offset));
        lost = max(lost, __shfl_xor_sync(0xffffffffu, lost, offset));
    }
    if (threadIdx.x % 32 == 0) {
        atomicMax(seen + 2 * at.n, largest);
        if (lost) atomicMax(seen + 2 * at.n + 1, lost);
    }
}

extern "C" __global__ void __launch_bounds__(256)
bilinear_scatter(const float* __restrict__ dy, const float* __restrict__ grid,
                 const unsigned* __restrict__ seen, unsigned long long* sums, int points,
                 int points_log2, int blocks, int lanes, int height, int width, int channels,
                 int margin) {
    const Place at = place_of_thread(points, blocks, lanes);
    if (!at.exists) return;
    const Cell cell = cell_around(grid + 2 * at.point, at.n, height, width, margin);
    if (!cell.finite) return;
    const float scale = power_of_two(unit(seen[2 * at.n], points_log2));
    for (int c = at.lane; c < channels; c += lanes) {
        const float d = dy[at.point * channels + c];
        for (int p = 0; p < 2; ++p)
            for (int q = 0; q < 2; ++q) {
                const long long part = llrintf(cell.ky[p] * cell.kx[q] * d * scale);  // STN (6)
                if (cell.pixel[p][q] >= 0 && part != 0)  // on whole pixels three of four are 0
                    atomicAdd(sums + cell.pixel[p][q] * channels + c, (unsigned long long)part);
            }
    }
}

extern "C" __global__ void __launch_bounds__(256)
bilinear_dimage(const unsigned long long* __restrict__ sums, const unsigned* __restrict__ seen,
                float* __restrict__ dimage, int size, int points_log2, int pixels, int channels) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= size) return;
    const int n = i / channels / pixels;
    const unsigned largest = seen[2 * n];
    const bool first_pixel = i / channels % pixels == 0;
    if (largest >= INFINITE || (first_pixel && seen[2 * n + 1]))
        dimage[i] = nan_value();
    else
        dimage[i] = (float)(long long)sums[i] * power_of_two(-unit(largest, points_log2));
}
