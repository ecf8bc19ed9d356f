// Gradient of the weight and the bias of conv_exact.cu (ops/conv2d.py, ops/conv_block.py):
//
//     dweight_pqck = sum_nij x_n,(i+p-m),(j+q-m),c dz_nijk        dbias_k = sum_nij dz_nijk
//
// as a product of matrices whose elements loaders find as they are needed. Its rows are the taps
// (p, q, c) and one more of ones, which makes dbias; its columns are k, its terms the pixels of z.
// Those are cut into slices, because the result alone has too few tiles to keep a GPU busy. A block
// sums one tile of one slice into partials (S, kh kw C + 1, K), for reduce.cu to sum.
//
// Every element is written by one thread, which sums in the order of the pixels. Shared memory holds
// tiles of the two factors (gemm.cuh).

#include "gate.cuh"
#include "gemm.cuh"
#include "conv_sources.cuh"

// Pixels of z one after the other, up to the end of a slice.
struct Walk {
    Pixel at;
    int left, height, width;  // pixels left in the slice; of an image

    __device__ __forceinline__ Walk(int number, int end, int height, int width)
        : at{number / width / height, number / width % height, number % width}, left(end - number),
          height(height), width(width) {}

    __device__ __forceinline__ void advance(int pixels) {
        left -= pixels;
        at.j += pixels;
        while (at.j >= width) {
            at.j -= width;
            if (++at.i == height) {
                at.i = 0;
                ++at.n;
            }
        }
    }
};

// ---- Loaders for weight_gradient

// Left: x where a tap, the row, meets a pixel of z, the term. After the last tap all rows are ones;
// the first of them is written.
template <class T>
struct Taps {
    static constexpr int BESIDE = T::ROWS / 4;  // threads that share a term; each has four
    const Image image;
    const Sizes& s;
    Tap tap;
    Walk walk;
    float4 reads[4];

    __device__ __forceinline__ Taps(const Image& image, const Sizes& s, int row, int from, int end)
        : image(image), s(s), tap{0, 0, 0},
          walk(from + threadIdx.x / BESIDE * 4, end, s.out_height << s.pool, s.out_width << s.pool) {
        row += threadIdx.x % BESIDE * 4;
        tap.p = row / s.channels / s.kernel_width;
        tap.q = row / s.channels % s.kernel_width;
        tap.c = row % s.channels;
    }

    __device__ __forceinline__ Pixel pixel(const Tap& tap) const {
        return {walk.at.n, walk.at.i + tap.p - s.margin_rows, walk.at.j + tap.q - s.margin_columns};
    }
    __device__ __forceinline__ bool is_tap(const Tap& tap) const { return tap.p < s.kernel_height; }

    __device__ __forceinline__ void fetch() {
#pragma unroll
        for (int e = 0; e < 4; ++e) {
            if (walk.left <= 0) {
                reads[e] = zeros();
            } else if (image.fours) {
                reads[e] = is_tap(tap) ? image.read(pixel(tap), tap.c)
                                       : make_float4(1.f, 1.f, 1.f, 1.f);
            } else {
                Tap next = tap;
                reads[e] = one_by_one([&](int) {
                    const Tap tap = next;
                    next.advance(1, s.kernel_width, s.channels);
                    return is_tap(tap) ? image.one(pixel(tap), tap.c) : 1.f;
                });
            }
            walk.advance(1);
        }
        walk.advance(T::DEPTH - 4);
    }

    __device__ __forceinline__ void store(typename T::Left& left) const {
        const int k = threadIdx.x / BESIDE * 4, row = T::moved(k, threadIdx.x % BESIDE * 4);
#pragma unroll
        for (int e = 0; e < 4; ++e) put_four(&left[k + e][row], reads[e]);
    }
};

// Right: dz, a line for each pixel of z.
template <class T>
struct Outputs : Lines<T> {
    using Lines<T>::EACH;
    const Gradient dz;
    const int column;
    Walk walk;
    Gradient::Read reads[EACH];

    __device__ __forceinline__ Outputs(const Gradient& dz, const Sizes& s, int column, int from,
                                       int end)
        : dz(dz), column(column + Lines<T>::column()),
          walk(from + Lines<T>::first(), end, s.out_height << s.pool, s.out_width << s.pool) {}

    __device__ __forceinline__ void fetch() {
        if (Lines<T>::idle()) return;
#pragma unroll
        for (int e = 0; e < EACH; ++e) {
            const int count = walk.left > 0 ? dz.channels - column : 0;
            if (dz.fours)
                reads[e] = count > 0 ? dz.read(walk.at, column) : Gradient::known(zeros());
            else
                reads[e] = Gradient::known(one_by_one(
                    [&](int c) { return c < count ? dz.one(walk.at, column + c) : 0.f; }));
            walk.advance(1);
        }
        walk.advance(T::DEPTH - EACH);
    }

    __device__ __forceinline__ void store(typename T::Right& right) const {
        if (Lines<T>::idle()) return;
#pragma unroll
        for (int e = 0; e < EACH; ++e)
            put_four(&right[Lines<T>::first() + e][Lines<T>::column()], Gradient::taken(reads[e]));
    }
};

// slice: how many pixels a slice has; the block's is the blockIdx.y-th.
template <class T>
__device__ __forceinline__ void weight_gradient(const float* x, const float* dy,
                                                const unsigned char* gate, float* partials,
                                                int slice, const Sizes& s) {
    const Corner<T> corner(s.kernels);
    const int rows = s.kernel_height * s.kernel_width * s.channels + 1;
    const int pixels = s.images * (s.out_height << s.pool) * (s.out_width << s.pool);
    const int from = blockIdx.y * slice, end = min(pixels, from + slice);
    Taps<T> left(Image(x, s), s, corner.row, from, end);
    Outputs<T> right(Gradient(dy, gate, s), s, corner.column, from, end);
    float sum[8][8];
    multiply<T>(left, right, end - from, sum);
    write_tile<T>(sum, partials + blockIdx.y * rows * s.kernels, corner.row, corner.column, rows,
                  s.kernels);
}

extern "C" __global__ void __launch_bounds__(128)
weight_gradient_wide(const float* __restrict__ x, const float* __restrict__ dy,
                     const unsigned char* __restrict__ gate, float* __restrict__ partials,
                     int slice, int images, int height, int width, int channels, int kernel_height,
                     int kernel_width, int kernels, int margin_rows, int margin_columns,
                     int out_height, int out_width, int pool) {
    const Sizes s = {images, height, width, channels, kernel_height, kernel_width, kernels,
                     margin_rows, margin_columns, out_height, out_width, pool};
    weight_gradient<Wide>(x, dy, gate, partials, slice, s);
}

extern "C" __global__ void __launch_bounds__(128)
weight_gradient_narrow(const float* __restrict__ x, const float* __restrict__ dy,
                       const unsigned char* __restrict__ gate, float* __restrict__ partials,
                       int slice, int images, int height, int width, int channels,
                       int kernel_height, int kernel_width, int kernels, int margin_rows,
                       int margin_columns, int out_height, int out_width, int pool) {
    const Sizes s = {images, height, width, channels, kernel_height, kernel_width, kernels,
                     margin_rows, margin_columns, out_height, out_width, pool};
    weight_gradient<Narrow>(x, dy, gate, partials, slice, s);
}
