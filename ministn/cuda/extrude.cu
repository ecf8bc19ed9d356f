// Extruded digits as the networks want them (data/extruded.py). A digit's image u, as many layers
// deep as depth says, is turned by R about its middle, and that is shifted by s from the volume's. At
// p voxels from the volume's middle
//
//     x = 1/255 round(255 u(q_x, q_y) max(0, min(1, (depth + 1)/2 - |q_z|))),     q = R^T (p - s)
//
// where u is from 0 to 1, read bilinearly q pixels from its middle, and black outside. The last product
// and the half that is added to round are not fused, as in NumPy: a voxel half-way between two bytes
// becomes the same one.
//
// One thread for each voxel, which it alone writes. Each volume has blocks of its own, blockIdx.x.

#include "turn.cuh"

__device__ float pixel(const unsigned char* image, int row, int column, int side, float factor) {
    const bool inside = min(row, column) >= 0 && max(row, column) < side;
    return inside ? image[row * side + column] * factor : 0.f;
}

// Voxel i of the volume of a digit: images (count, side, side), rotation (count, 3, 3), shift
// (count, 3).
__device__ float voxel(const unsigned char* images, const float* rotation, const float* shift,
                       int digit, int i, int side, int depth, int canvas, float factor) {
    const float* turn = rotation + 9 * digit;
    const float* moved = shift + 3 * digit;
    const float middle = 0.5f * (canvas - 1), centre = 0.5f * (side - 1);
    const float x = i % canvas - middle - moved[0], y = i / canvas % canvas - middle - moved[1];
    const float z = i / canvas / canvas - middle - moved[2];
    const float across = turn[0] * x + turn[3] * y + turn[6] * z + centre;
    const float down = turn[1] * x + turn[4] * y + turn[7] * z + centre;
    const float deep = turn[2] * x + turn[5] * y + turn[8] * z;
    const float left = floorf(across), top = floorf(down);
    const unsigned char* image = images + digit * side * side;
    float layer = 0.f;
    for (int p = 0; p < 2; ++p)
        for (int q = 0; q < 2; ++q)
            layer += (1.f - fabsf(down - top - p)) * (1.f - fabsf(across - left - q)) *
                     pixel(image, (int)top + p, (int)left + q, side, factor);
    const float weight = fmaxf(0.f, fminf(1.f, 0.5f * (depth + 1) - fabsf(deep)));
    return (int)__fadd_rn(__fmul_rn(layer * weight, 255.f), 0.5f) * factor;
}

extern "C" __global__ void __launch_bounds__(256)
extrude(const unsigned char* __restrict__ images, const float* __restrict__ rotation,
        const float* __restrict__ shift, float factor, float* __restrict__ x, int side, int depth,
        int canvas) {
    const int r = blockIdx.x, i = blockIdx.y * blockDim.x + threadIdx.x;
    const int voxels = canvas * canvas * canvas;
    if (i < voxels)
        x[r * voxels + i] = voxel(images, rotation, shift, r, i, side, depth, canvas, factor);
}

// Of the batch whose turn it is. A volume's first threads copy its label, words of 4 bytes, as
// take_batch in batch.cu does.
extern "C" __global__ void __launch_bounds__(256)
take_extruded(const unsigned char* __restrict__ images, const float* __restrict__ rotation,
              const float* __restrict__ shift, const int* __restrict__ labels,
              const int* __restrict__ order, const unsigned* __restrict__ number, int batches,
              int batch_size, float factor, float* __restrict__ x, int* __restrict__ x_labels,
              int side, int depth, int canvas, int words) {
    const int r = blockIdx.x, i = blockIdx.y * blockDim.x + threadIdx.x;
    const int voxels = canvas * canvas * canvas;
    const int digit = image_in_turn(order, number, batches, batch_size, r);
    if (i < voxels)
        x[r * voxels + i] = voxel(images, rotation, shift, digit, i, side, depth, canvas, factor);
    if (i < words) x_labels[r * words + i] = labels[(long long)digit * words + i];
}
