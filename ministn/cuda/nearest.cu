// The integer sampler, STN equation (4), explained in ops/nearest.py: with the pixel (n, m) nearest
// to the point i, of two equally near ones the right (lower) one,
//
//     V_i^c   = U_nm^c                                        (4)
//     dU_nm^c = sum of dV_i^c over the points i nearest to it
//     dx^s_i  = dy^s_i = 0
//
// nearest_forward and nearest_dgrid: a group of lanes alone writes its point's y, or its pair of
// dgrid. nearest_scatter adds whole numbers, whose order does not matter: see sampler.cuh.

#include "sampler.cuh"

__device__ float nearest(float coordinate) {
    const float left = floorf(coordinate);
    return coordinate - left >= 0.5f ? left + 1.f : left;
}

__device__ int pixel_nearest(Point point, int n, int height, int width, int border) {
    return pixel_in_batch(n, pixel_at(nearest(point.y), height, border),
                          pixel_at(nearest(point.x), width, border), height, width);
}

extern "C" __global__ void __launch_bounds__(256)
nearest_forward(const float* __restrict__ image, const float* __restrict__ grid,
                float* __restrict__ y, int points, int blocks, int lanes, int height, int width,
                int channels, int border, float fill) {
    const Place at = place_of_thread(points, blocks, lanes);
    if (!at.exists) return;
    const Point point = point_in_pixels(grid + 2 * at.point, height, width);
    const int pixel = pixel_nearest(point, at.n, height, width, border);
    for (int c = at.lane; c < channels; c += lanes)  // STN (4)
        y[at.point * channels + c] =
            point.finite ? load(image, pixel, channels, c, fill) : nan_value();
}

extern "C" __global__ void __launch_bounds__(256)
nearest_dgrid(const float* __restrict__ dy, const float* __restrict__ grid,
              float* __restrict__ dgrid, unsigned* seen, int need_seen, int points, int blocks,
              int lanes, int height, int width, int channels, int border) {
    const Place at = place_of_thread(points, blocks, lanes);
    unsigned largest = 0, lost = 0;
    if (at.exists) {
        const bool finite = point_in_pixels(grid + 2 * at.point, height, width).finite;
        const float slope = finite ? 0.f : nan_value();
        if (at.lane == 0) reinterpret_cast<float2*>(dgrid)[at.point] = make_float2(slope, slope);
        lost = !finite && border != ZEROS;
        for (int c = at.lane; c < channels; c += lanes)  // floats and their bits have one order
            largest = max(largest, __float_as_uint(fabsf(dy[at.point * channels + c])));
    }
    if (need_seen) note_seen(seen + 2 * at.n, largest, lost);
}

extern "C" __global__ void __launch_bounds__(256)
nearest_scatter(const float* __restrict__ dy, const float* __restrict__ grid,
                const unsigned* __restrict__ seen, unsigned long long* sums, int points,
                int points_log2, int blocks, int lanes, int height, int width, int channels,
                int border) {
    const Place at = place_of_thread(points, blocks, lanes);
    if (!at.exists) return;
    // If the point is not finite, what it adds to the first pixel is lost: that will be NaN.
    const Point point = point_in_pixels(grid + 2 * at.point, height, width);
    const int pixel = pixel_nearest(point, at.n, height, width, border);
    if (pixel < 0) return;
    const float scale = power_of_two(unit(seen[2 * at.n], points_log2));
    for (int c = at.lane; c < channels; c += lanes) {
        const long long part = llrintf(dy[at.point * channels + c] * scale);
        atomicAdd(sums + pixel * channels + c, (unsigned long long)part);
    }
}
