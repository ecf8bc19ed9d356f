// What the samplers have in common, explained in ops/sampling.py: points in pixels, borders, the
// threads that work on a point, and the gradient of the image.
//
// A point is worked on by a group of 1, 2, 4 or 8 neighbouring threads, its lanes. Lane l takes the
// channels l, l + lanes, ...: what the point's coordinates cost is shared by many channels, and
// eight channels are one sector of memory. With one channel every thread has a point of its own. No
// block works on points of two images. Volumes have one channel, and no axis for it.
//
// The gradient of the image scatters: points that share a pixel add up, in an order that no one
// knows. So the sums are made in whole numbers, where order does not matter, in units of 2^-k:
//
//     <sampler>_dgrid    finds max|dy| of each image on its way (a maximum has no order either)
//     <sampler>_scatter  adds round(weight dy 2^k), 64 bits wide, to each pixel that a point reads
//     sums_to_dimage     turns the sums into float32: one thread for each element, which it writes
//
// k, which is at most 126, makes max|dy| P 2^k less than 2^62, and more than 2^60, for P = h w
// points. A pixel gets at most all of dy, from the bicubic sampler 25/16 of it, so no sum reaches
// 2^63. (On the way it may: 64 bits are added modulo 2^64.) Each of a point's parts is rounded by
// half a unit at most. Of 4 parts that changes an element of dimage by at most 2 P 2^-k <=
// P^2 max|dy| 2^-59: 2.3e-11 max|dy| for 60 by 60 points; of the bicubic sampler's 16 by 4 times as
// much; of the trilinear one's 8 by twice as much: 2.5e-9 max|dy| for 30 by 30 by 30 points. All are
// below the rounding of a float32. (Where 126 is the limit, max|dy| is below 2^-65 and the error of
// 4 parts below P 2^-125.) If any dy of an image is not finite, its sums mean nothing, and all of
// its dimage is NaN.
//
// The sums are in global memory, where the L2 cache itself adds 64-bit numbers and the threads need
// not wait; in shared memory such an addition is a loop of compare-and-swap.

enum Border { NEAREST, ZEROS, MIRROR, WRAP };  // in the order of BORDERS in ops/sampling.py

const unsigned INFINITE = 0x7f800000u;  // the bits of inf; those of NaN are above, of numbers below

__device__ bool is_finite(float x) { return (__float_as_uint(x) & INFINITE) != INFINITE; }

__device__ float nan_value() { return __uint_as_float(0x7fc00000u); }

__device__ float power_of_two(int k) { return __uint_as_float((unsigned)(k + 127) << 23); }

// k for an image with these bits of max|dy|, which is below 2^(exponent - 126), and
// P <= 2^points_log2.
__device__ int unit(unsigned largest, int points_log2) {
    return min(62 - points_log2 + 126 - (int)(largest >> 23), 126);
}

// A coordinate, rounded one by one as in NumPy: a fused multiply-add would move points on whole
// pixels, as all are at the identity, into the cell to their left.
__device__ float in_pixels(float normalised, int size) {
    const float half = 0.5f * (size - 1);
    return __fadd_rn(__fmul_rn(normalised, half), half);
}

struct Point {
    float x, y;   // in pixels
    bool finite;  // if not, both are NaN
};

__device__ Point point_in_pixels(const float* pair, int height, int width) {
    const float x = in_pixels(pair[0], width), y = in_pixels(pair[1], height);
    const bool finite = is_finite(x) && is_finite(y);
    return {finite ? x : nan_value(), finite ? y : nan_value(), finite};
}

// The row or column that lies at a whole-number position, or -1 for fill. Folded and clipped before
// the conversion to int, which large numbers do not survive: both are exact. fmaxf takes NaN too.
__device__ int pixel_at(float position, int size, int border) {
    const float last = size - 1, outside = border == ZEROS ? 1.f : 0.f;
    if (border == MIRROR || border == WRAP) {
        const float period = border == WRAP ? size : 2.f * last;  // if 0, the remainder is NaN
        position = fmodf(position, period);
        if (position < 0.f) position += period;
        if (border == MIRROR) position = fminf(position, period - position);
    }
    const int pixel = (int)fminf(fmaxf(position, -outside), last + outside);
    return pixel < size ? pixel : -1;
}

// The two pixels around a coordinate along one axis, and their weights in linear interpolation.
struct Neighbours {
    int pixel[2];
    float weight[2];
};

__device__ Neighbours neighbours(float coordinate, int size, int border) {
    const float left = floorf(coordinate), right_weight = coordinate - left;
    return {{pixel_at(left, size, border), pixel_at(left + 1.f, size, border)},
            {1.f - right_weight, right_weight}};
}

// Where in the batch a row and a column meet; -1 if one of them is fill.
__device__ int pixel_in_batch(int n, int row, int column, int height, int width) {
    return row < 0 || column < 0 ? -1 : (n * height + row) * width + column;
}

__device__ float load(const float* image, int pixel, int channels, int c, float fill) {
    return pixel < 0 ? fill : image[pixel * channels + c];
}

// What a thread works on: blocks = those of one image, points = P.
struct Place {
    int n, point, lane;  // point: in the whole batch
    bool exists;
};

__device__ Place place_of_thread(int points, int blocks, int lanes) {
    const int n = blockIdx.x / blocks;
    const int i = blockIdx.x % blocks * (blockDim.x / lanes) + threadIdx.x / lanes;
    return {n, n * points + i, (int)threadIdx.x % lanes, i < points};
}

// seen, two numbers for each image: the bits of max|dy|, and 1 if the gradient of a point that is
// not finite belongs to the first pixel, as it does if there is no fill. All threads must come here.
__device__ void note_seen(unsigned* seen, unsigned largest, unsigned lost) {
    for (int offset = 16; offset > 0; offset /= 2) {
        largest = max(largest, __shfl_xor_sync(0xffffffffu, largest, offset));
        lost = max(lost, __shfl_xor_sync(0xffffffffu, lost, offset));
    }
    if (threadIdx.x % 32 == 0) {
        atomicMax(seen, largest);
        if (lost) atomicMax(seen + 1, lost);
    }
}

// A point's pair of dgrid: what its lanes found in pixels, summed in a tree of shuffles and then
// normalised. All threads must come here.
__device__ void write_dgrid(float* dgrid, Place at, int lanes, float dx, float dy, int height,
                            int width) {
    for (int offset = lanes / 2; offset > 0; offset /= 2) {
        dx += __shfl_down_sync(0xffffffffu, dx, offset, lanes);
        dy += __shfl_down_sync(0xffffffffu, dy, offset, lanes);
    }
    if (at.exists && at.lane == 0)
        reinterpret_cast<float2*>(dgrid)[at.point] =
            make_float2(dx * (0.5f * (width - 1)), dy * (0.5f * (height - 1)));
}

extern "C" __global__ void __launch_bounds__(256)
sums_to_dimage(const unsigned long long* __restrict__ sums, const unsigned* __restrict__ seen,
               float* __restrict__ dimage, int size, int points_log2, int of_image, int channels) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= size) return;
    const int n = i / of_image;  // the elements of an image
    const unsigned largest = seen[2 * n];
    const bool first_pixel = i % of_image < channels;
    if (largest >= INFINITE || (first_pixel && seen[2 * n + 1]))
        dimage[i] = nan_value();
    else
        dimage[i] = (float)(long long)sums[i] * power_of_two(-unit(largest, points_log2));
}
