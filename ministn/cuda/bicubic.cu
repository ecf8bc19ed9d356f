// The bicubic sampler, STN equation (3) with the kernel k of Keys, explained in ops/bicubic.py. With
// the weights ky = k(y^s_i - n) and kx = k(x^s_i - m) of the pixel (n, m), and ky' and kx' their
// slopes,
//
//     V_i^c   = sum_nm ky kx U_nm^c                                                           (3)
//     dU_nm^c = sum_i ky kx dV_i^c
//     dx^s_i  = sum_c dV_i^c sum_nm ky kx' U_nm^c,    dy^s_i = sum_c dV_i^c sum_nm ky' kx U_nm^c
//
// bicubic_forward and bicubic_dgrid: a group of lanes alone writes its point's y, or its pair of
// dgrid, whose sum over channels is made in a fixed order: by each lane, then by a tree of
// shuffles. bicubic_scatter adds whole numbers, whose order does not matter: see sampler.cuh.

#include "sampler.cuh"

// The four pixels around a coordinate along one axis.
struct Axis {
    int pixel[4];
    float weight[4], slope[4];  // k(x - m), k'(x - m)
};

__device__ Axis axis_around(float coordinate, int size, int border, float a) {
    const float left = floorf(coordinate);
    Axis axis;
    for (int p = 0; p < 4; ++p) {
        const float distance = coordinate - left - (p - 1), d = fabsf(distance);  // x - m
        const float near = ((a + 2.f) * d - (a + 3.f)) * d * d + 1.f;
        const float far = a * (d - 1.f) * (d - 2.f) * (d - 2.f);
        const float near_slope = (3.f * (a + 2.f) * d - 2.f * (a + 3.f)) * d;
        const float far_slope = a * (d - 2.f) * (3.f * d - 4.f);
        const float slope = d <= 1.f ? near_slope : far_slope;
        axis.pixel[p] = pixel_at(left + (p - 1), size, border);
        axis.weight[p] = d <= 1.f ? near : far;
        axis.slope[p] = distance < 0.f ? -slope : slope;
    }
    return axis;
}

// The sixteen pixels around a point.
struct Window {
    int pixel[4][4];  // where in the batch, [row][column]; -1 is fill
    Axis rows, columns;
    bool finite;  // if not, all weights and slopes are NaN
};

__device__ Window window_around(const float* pair, int n, int height, int width, int border,
                                float a) {
    const Point point = point_in_pixels(pair, height, width);
    Window window;
    window.finite = point.finite;
    window.rows = axis_around(point.y, height, border, a);
    window.columns = axis_around(point.x, width, border, a);
    for (int p = 0; p < 4; ++p)
        for (int q = 0; q < 4; ++q)
            window.pixel[p][q] = pixel_in_batch(n, window.rows.pixel[p], window.columns.pixel[q],
                                                height, width);
    return window;
}

extern "C" __global__ void __launch_bounds__(256)
bicubic_forward(const float* __restrict__ image, const float* __restrict__ grid,
                float* __restrict__ y, int points, int blocks, int lanes, int height, int width,
                int channels, int border, float fill, float a) {
    const Place at = place_of_thread(points, blocks, lanes);
    if (!at.exists) return;
    const Window around = window_around(grid + 2 * at.point, at.n, height, width, border, a);
    const Axis &rows = around.rows, &columns = around.columns;
    for (int c = at.lane; c < channels; c += lanes) {
        float value = 0.f;
        for (int p = 0; p < 4; ++p)
            for (int q = 0; q < 4; ++q)  // STN (3)
                value += rows.weight[p] * columns.weight[q] *
                         load(image, around.pixel[p][q], channels, c, fill);
        y[at.point * channels + c] = value;
    }
}

extern "C" __global__ void __launch_bounds__(256)
bicubic_dgrid(const float* __restrict__ dy, const float* __restrict__ image,
              const float* __restrict__ grid, float* __restrict__ dgrid, unsigned* seen,
              int need_seen, int points, int blocks, int lanes, int height, int width,
              int channels, int border, float fill, float a) {
    const Place at = place_of_thread(points, blocks, lanes);
    float dx_sum = 0.f, dy_sum = 0.f;
    unsigned largest = 0, lost = 0;
    if (at.exists) {
        const Window around = window_around(grid + 2 * at.point, at.n, height, width, border, a);
        const Axis &rows = around.rows, &columns = around.columns;
        lost = !around.finite && border != ZEROS;
        for (int c = at.lane; c < channels; c += lanes) {
            const float d = dy[at.point * channels + c];
            for (int p = 0; p < 4; ++p) {
                float value = 0.f, slope = 0.f;  // of the row at x
                for (int q = 0; q < 4; ++q) {
                    const float u = load(image, around.pixel[p][q], channels, c, fill);
                    value += columns.weight[q] * u;
                    slope += columns.slope[q] * u;
                }
                dx_sum += d * (rows.weight[p] * slope);
                dy_sum += d * (rows.slope[p] * value);
            }
            largest = max(largest, __float_as_uint(fabsf(d)));  // as floats and bits are ordered
        }
    }
    write_dgrid(dgrid, at, lanes, dx_sum, dy_sum, height, width);
    if (need_seen) note_seen(seen + 2 * at.n, largest, lost);
}

extern "C" __global__ void __launch_bounds__(256)
bicubic_scatter(const float* __restrict__ dy, const float* __restrict__ grid,
                const unsigned* __restrict__ seen, unsigned long long* sums, int points,
                int points_log2, int blocks, int lanes, int height, int width, int channels,
                int border, float a) {
    const Place at = place_of_thread(points, blocks, lanes);
    if (!at.exists) return;
    const Window around = window_around(grid + 2 * at.point, at.n, height, width, border, a);
    if (!around.finite) return;
    const Axis &rows = around.rows, &columns = around.columns;
    const float scale = power_of_two(unit(seen[2 * at.n], points_log2));
    for (int c = at.lane; c < channels; c += lanes) {
        const float d = dy[at.point * channels + c];
        for (int p = 0; p < 4; ++p)
            for (int q = 0; q < 4; ++q) {
                const int pixel = around.pixel[p][q];
                const long long part = llrintf(rows.weight[p] * columns.weight[q] * d * scale);
                if (pixel >= 0 && part != 0)  // on whole pixels 15 of 16 are 0
                    atomicAdd(sums + pixel * channels + c, (unsigned long long)part);
            }
    }
}
