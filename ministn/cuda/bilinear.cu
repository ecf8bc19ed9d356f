// The bilinear sampler, STN equations (5), (6) and (7), explained in ops/bilinear.py: with the
// weights ky = max(0, 1 - |y^s_i - n|) and kx = max(0, 1 - |x^s_i - m|) of the pixel (n, m),
//
//     V_i^c        = sum_nm ky kx U_nm^c                                                      (5)
//     dU_nm^c      = sum_i ky kx dV_i^c                                                       (6)
//     dx^s_i       = sum_c dV_i^c sum_nm ky (-1 left, +1 right) U_nm^c,    dy^s_i likewise    (7)
//
// bilinear_forward and bilinear_dgrid: a group of lanes alone writes its point's y, or its pair of
// dgrid, whose sum over channels is made in a fixed order: by each lane, then by a tree of shuffles.
// bilinear_scatter adds whole numbers, whose order does not matter: see sampler.cuh.

#include "sampler.cuh"

// The four pixels around a point.
struct Cell {
    int pixel[2][2];  // where in the batch, [above or below][left or right]; -1 is fill
    float ky[2], kx[2];
    bool finite;  // if not, all weights are NaN
};

__device__ Cell cell_around(const float* pair, int n, int height, int width, int border) {
    const Point point = point_in_pixels(pair, height, width);
    const Neighbours rows = neighbours(point.y, height, border);
    const Neighbours columns = neighbours(point.x, width, border);
    Cell cell;
    cell.finite = point.finite;
    for (int p = 0; p < 2; ++p) {
        cell.ky[p] = rows.weight[p];
        cell.kx[p] = columns.weight[p];
        for (int q = 0; q < 2; ++q)
            cell.pixel[p][q] = pixel_in_batch(n, rows.pixel[p], columns.pixel[q], height, width);
    }
    return cell;
}

extern "C" __global__ void __launch_bounds__(256)
bilinear_forward(const float* __restrict__ image, const float* __restrict__ grid,
                 float* __restrict__ y, int points, int blocks, int lanes, int height, int width,
                 int channels, int border, float fill) {
    const Place at = place_of_thread(points, blocks, lanes);
    if (!at.exists) return;
    const Cell cell = cell_around(grid + 2 * at.point, at.n, height, width, border);
    for (int c = at.lane; c < channels; c += lanes) {
        float value = 0.f;
        for (int p = 0; p < 2; ++p)
            for (int q = 0; q < 2; ++q)  // STN (5)
                value += cell.ky[p] * cell.kx[q] * load(image, cell.pixel[p][q], channels, c, fill);
        y[at.point * channels + c] = value;
    }
}

extern "C" __global__ void __launch_bounds__(256)
bilinear_dgrid(const float* __restrict__ dy, const float* __restrict__ image,
               const float* __restrict__ grid, float* __restrict__ dgrid, unsigned* seen,
               int need_seen, int points, int blocks, int lanes, int height, int width,
               int channels, int border, float fill) {
    const Place at = place_of_thread(points, blocks, lanes);
    float dx_sum = 0.f, dy_sum = 0.f;
    unsigned largest = 0, lost = 0;
    if (at.exists) {
        const Cell cell = cell_around(grid + 2 * at.point, at.n, height, width, border);
        lost = !cell.finite && border != ZEROS;
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
    write_dgrid(dgrid, at, lanes, dx_sum, dy_sum, height, width);
    if (need_seen) note_seen(seen + 2 * at.n, largest, lost);
}

extern "C" __global__ void __launch_bounds__(256)
bilinear_scatter(const float* __restrict__ dy, const float* __restrict__ grid,
                 const unsigned* __restrict__ seen, unsigned long long* sums, int points,
                 int points_log2, int blocks, int lanes, int height, int width, int channels,
                 int border) {
    const Place at = place_of_thread(points, blocks, lanes);
    if (!at.exists) return;
    const Cell cell = cell_around(grid + 2 * at.point, at.n, height, width, border);
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
