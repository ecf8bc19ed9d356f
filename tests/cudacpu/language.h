// CUDA C++ as far as a kernel sees it: included before the kernel's text, in place of what nvcc
// brings. module.py has rewritten declarations of shared memory before they get here.
#pragma once
#include <math.h>
#include <stdio.h>

#include "interface.h"

#define CUDACPU 1
#define __global__
#define __device__
#define __host__
#define __constant__ static
#define __forceinline__ inline
#define __noinline__ __attribute__((noinline))
#define __launch_bounds__(...)
#define __align__(bytes) __attribute__((aligned(bytes)))

// const: to the thread that reads them they never change. That also spares them the checker. The
// runtime, which does change them when it changes threads, is compiled apart.
extern "C" {
extern const __thread uint3 threadIdx, blockIdx, blockDim, gridDim;
}
constexpr int warpSize = 32;

// Vectors of two and four values are aligned to their size, up to 16 bytes.
#define CUDACPU_VECTORS(type, name)                                                               \
    struct __align__(2 * sizeof(type)) name##2 { type x, y; };                                    \
    struct name##3 { type x, y, z; };                                                             \
    struct __align__(4 * sizeof(type) < 16 ? 4 * sizeof(type) : 16) name##4 { type x, y, z, w; }; \
    inline name##2 make_##name##2(type x, type y) { return {x, y}; }                              \
    inline name##3 make_##name##3(type x, type y, type z) { return {x, y, z}; }                   \
    inline name##4 make_##name##4(type x, type y, type z, type w) { return {x, y, z, w}; }
CUDACPU_VECTORS(float, float)
CUDACPU_VECTORS(double, double)
CUDACPU_VECTORS(int, int)
CUDACPU_VECTORS(unsigned char, uchar)
#undef CUDACPU_VECTORS
struct __align__(8) uint2 { unsigned x, y; };
struct __align__(16) uint4 { unsigned x, y, z, w; };
inline uint2 make_uint2(unsigned x, unsigned y) { return {x, y}; }
inline uint3 make_uint3(unsigned x, unsigned y, unsigned z) { return {x, y, z}; }
inline uint4 make_uint4(unsigned x, unsigned y, unsigned z, unsigned w) { return {x, y, z, w}; }

inline void __syncthreads(cudacpu::Place place = {}) { cudacpu::barrier(place); }
inline void __threadfence() { cudacpu::fence(); }
inline void __threadfence_block() { cudacpu::fence(); }
template <class T> T __ldg(const T* address) { return *address; }

#include "arithmetic.h"
#include "warp.h"
