// Images as the networks want them: x = u / 255 of the stored bytes u.
//
// One thread for each pixel of x, which it alone writes. The factor is NumPy's float32(1 / 255).

#include "turn.cuh"

extern "C" __global__ void __launch_bounds__(256)
as_batch(const unsigned char* __restrict__ images, float* __restrict__ x, float factor, int size) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < size) x[i] = images[i] * factor;
}

// Of the batch whose turn it is. Each image has blocks of its own, blockIdx.x, whose first threads copy
// its label: ``words`` words of 4 bytes, whatever they mean.
extern "C" __global__ void __launch_bounds__(256)
take_batch(const unsigned char* __restrict__ images, const int* __restrict__ labels,
           const int* __restrict__ order, const unsigned* __restrict__ number, int batches,
           int batch_size, float factor, float* __restrict__ x, int* __restrict__ x_labels,
           int pixels, int words) {
    const int r = blockIdx.x, i = blockIdx.y * blockDim.x + threadIdx.x;
    const int image = image_in_turn(order, number, batches, batch_size, r);
    if (i < pixels) x[r * pixels + i] = images[(long long)image * pixels + i] * factor;
    if (i < words) x_labels[r * words + i] = labels[(long long)image * words + i];
}
