// What the 32 threads of a warp do together, and the twins of ministn/cuda/tensor_core.cuh.
#pragma once

// Every lane of the mask takes part, from the same line. `width` cuts the warp into segments; a
// lane whose source lies outside its segment keeps its own value; xor also reads earlier segments.
namespace cudacpu {
template <class T> T from_lane(unsigned mask, T value, unsigned source, bool inside, Place place) {
    shuffle(mask, &value, sizeof value, inside ? source : lane(), place);
    return value;
}
}  // namespace cudacpu
template <class T>
T __shfl_sync(unsigned mask, T value, unsigned of, unsigned width = 32,
              cudacpu::Place place = {}) {
    const unsigned lane = cudacpu::lane(), source = lane / width * width + of % width;
    return cudacpu::from_lane(mask, value, source, true, place);
}
template <class T>
T __shfl_up_sync(unsigned mask, T value, unsigned by, unsigned width = 32,
                 cudacpu::Place place = {}) {
    const unsigned lane = cudacpu::lane(), source = lane - by;
    return cudacpu::from_lane(mask, value, source, source / width == lane / width, place);
}
template <class T>
T __shfl_down_sync(unsigned mask, T value, unsigned by, unsigned width = 32,
                   cudacpu::Place place = {}) {
    const unsigned lane = cudacpu::lane(), source = lane + by;
    return cudacpu::from_lane(mask, value, source, source / width == lane / width, place);
}
template <class T>
T __shfl_xor_sync(unsigned mask, T value, unsigned with, unsigned width = 32,
                  cudacpu::Place place = {}) {
    const unsigned lane = cudacpu::lane(), source = lane ^ with;
    return cudacpu::from_lane(mask, value, source, source / width <= lane / width, place);
}
inline void __syncwarp(unsigned mask = 0xffffffffu, cudacpu::Place place = {}) {
    cudacpu::sync_warp(mask, place);
}
inline unsigned __ballot_sync(unsigned mask, int vote, cudacpu::Place place = {}) {
    return cudacpu::ballot(mask, vote != 0, place);
}
inline int __any_sync(unsigned mask, int vote, cudacpu::Place place = {}) {
    return cudacpu::ballot(mask, vote != 0, place) != 0;
}
inline int __all_sync(unsigned mask, int vote, cudacpu::Place place = {}) {
    return cudacpu::ballot(mask, vote != 0, place) == mask;
}

// Round to nearest, of two equally near values to the one farther from zero; inf and NaN stay.
inline unsigned f32_to_tf32(float x) {
    const unsigned bits = __float_as_uint(x);
    return (bits & 0x7f800000u) == 0x7f800000u ? bits : (bits + 0x1000u) & ~0x1fffu;
}
inline void mma_m16n8k8_tf32(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2],
                             cudacpu::Place place = {}) {
    cudacpu::multiply_tf32(d, a, b, place);
}
inline void cp_async16(void* shared, const void* global, bool inside, cudacpu::Place place = {}) {
    cudacpu::copy_async(shared, global, 16, inside, place);
}
inline void cp_async4(void* shared, const void* global, bool inside, cudacpu::Place place = {}) {
    cudacpu::copy_async(shared, global, 4, inside, place);
}
inline void cp_async_commit() { cudacpu::commit_copies(); }
template <int N> void cp_async_wait() { cudacpu::wait_for_copies(N); }
