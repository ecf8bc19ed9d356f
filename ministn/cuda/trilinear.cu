// The trilinear sampler, STN appendix A.3, explained in ops/trilinear.py: U is linear between the
// eight voxels around a point along each axis in turn, with the weight wx = x^s_i - floor(x^s_i) of
// the further ones along x, and wy and wz likewise,
//
//     V_i      = U_m + wx (U_m+1 - U_m), between the rows by wy and between the layers by wz
//     dU_knm   = sum_i dV_i times the three weights of the voxel
//     dx^s_i   = dV_i (U_m+1 - U_m), between rows and layers alike;    dy^s_i and dz^s_i likewise
//
// trilinear_forward and trilinear_dgrid: one thread for each point, a volume having one channel,
// which alone writes V, or the point's triple of dgrid. trilinear_scatter adds whole numbers, whose
// order does not matter: see sampler.cuh.

#include "sampler.cuh"

struct Cell {
    int voxel[2][2][2];  // where in the batch, [nearer or further along z][y][x]; -1 is fill
    float kz[2], ky[2], kx[2];
    bool finite;  // if not, all weights are NaN
};

__device__ Cell cell_around(const float* triple, int n, int depth, int height, int width,
                            int border) {
    const float x = in_pixels(triple[0], width), y = in_pixels(triple[1], height);
    const float z = in_pixels(triple[2], depth);
    Cell cell;
    cell.finite = is_finite(x) && is_finite(y) && is_finite(z);
    const Neighbours columns = neighbours(cell.finite ? x : nan_value(), width, border);
    const Neighbours rows = neighbours(cell.finite ? y : nan_value(), height, border);
    const Neighbours layers = neighbours(cell.finite ? z : nan_value(), depth, border);
    for (int o = 0; o < 2; ++o) {
        cell.kz[o] = layers.weight[o];
        cell.ky[o] = rows.weight[o];
        cell.kx[o] = columns.weight[o];
        for (int p = 0; p < 2; ++p)
            for (int q = 0; q < 2; ++q) {
                const int layer = layers.pixel[o];
                const int voxel = pixel_in_batch(n * depth + layer, rows.pixel[p],
                                                 columns.pixel[q], height, width);
                cell.voxel[o][p][q] = layer < 0 ? -1 : voxel;
            }
    }
    return cell;
}

// The value between two, of which the further one has this weight.
__device__ float between(float nearer, float further, float weight) {
    return nearer + weight * (further - nearer);
}

extern "C" __global__ void __launch_bounds__(256)
trilinear_forward(const float* __restrict__ volume, const float* __restrict__ grid,
                  float* __restrict__ y, int points, int blocks, int lanes, int depth, int height,
                  int width, int border, float fill) {
    const Place at = place_of_thread(points, blocks, lanes);
    if (!at.exists) return;
    const Cell cell = cell_around(grid + 3 * at.point, at.n, depth, height, width, border);
    float layer[2], row[2];
    for (int o = 0; o < 2; ++o) {
        for (int p = 0; p < 2; ++p)
            row[p] = between(load(volume, cell.voxel[o][p][0], 1, 0, fill),
                             load(volume, cell.voxel[o][p][1], 1, 0, fill), cell.kx[1]);
        layer[o] = between(row[0], row[1], cell.ky[1]);
    }
    y[at.point] = between(layer[0], layer[1], cell.kz[1]);
}

extern "C" __global__ void __launch_bounds__(256)
trilinear_dgrid(const float* __restrict__ dy, const float* __restrict__ volume,
                const float* __restrict__ grid, float* __restrict__ dgrid, unsigned* seen,
                int need_seen, int points, int blocks, int lanes, int depth, int height, int width,
                int border, float fill) {
    const Place at = place_of_thread(points, blocks, lanes);
    unsigned largest = 0, lost = 0;
    if (at.exists) {
        const Cell cell = cell_around(grid + 3 * at.point, at.n, depth, height, width, border);
        float value[2], slope_x[2], slope_y[2];  // of the two layers, at x and y
        for (int o = 0; o < 2; ++o) {
            float row[2], slope[2];  // of their two rows, at x
            for (int p = 0; p < 2; ++p) {
                const float nearer = load(volume, cell.voxel[o][p][0], 1, 0, fill);
                const float further = load(volume, cell.voxel[o][p][1], 1, 0, fill);
                row[p] = between(nearer, further, cell.kx[1]);
                slope[p] = further - nearer;
            }
            value[o] = between(row[0], row[1], cell.ky[1]);
            slope_x[o] = between(slope[0], slope[1], cell.ky[1]);
            slope_y[o] = row[1] - row[0];
        }
        const float d = dy[at.point];
        float* triple = dgrid + 3 * at.point;
        triple[0] = between(slope_x[0], slope_x[1], cell.kz[1]) * d * (0.5f * (width - 1));
        triple[1] = between(slope_y[0], slope_y[1], cell.kz[1]) * d * (0.5f * (height - 1));
        triple[2] = (value[1] - value[0]) * d * (0.5f * (depth - 1));
        lost = !cell.finite && border != ZEROS;
        largest = __float_as_uint(fabsf(d));  // floats and their bits have one order
    }
    if (need_seen) note_seen(seen + 2 * at.n, largest, lost);
}

extern "C" __global__ void __launch_bounds__(256)
trilinear_scatter(const float* __restrict__ dy, const float* __restrict__ grid,
                  const unsigned* __restrict__ seen, unsigned long long* sums, int points,
                  int points_log2, int blocks, int lanes, int depth, int height, int width,
                  int border) {
    const Place at = place_of_thread(points, blocks, lanes);
    if (!at.exists) return;
    const Cell cell = cell_around(grid + 3 * at.point, at.n, depth, height, width, border);
    if (!cell.finite) return;
    const float d = dy[at.point] * power_of_two(unit(seen[2 * at.n], points_log2));
    for (int o = 0; o < 2; ++o)
        for (int p = 0; p < 2; ++p)
            for (int q = 0; q < 2; ++q) {
                const long long part = llrintf(cell.kz[o] * cell.ky[p] * cell.kx[q] * d);
                if (cell.voxel[o][p][q] >= 0 && part != 0)  // on whole voxels seven of eight are 0
                    atomicAdd(sums + cell.voxel[o][p][q], (unsigned long long)part);
            }
}
