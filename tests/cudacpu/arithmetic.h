// CUDA's arithmetic functions that C++ does not have, with CUDA's results.
#pragma once

// Bits as another type.
inline int __float_as_int(float x) { return __builtin_bit_cast(int, x); }
inline unsigned __float_as_uint(float x) { return __builtin_bit_cast(unsigned, x); }
inline float __int_as_float(int x) { return __builtin_bit_cast(float, x); }
inline float __uint_as_float(unsigned x) { return __builtin_bit_cast(float, x); }
inline long long __double_as_longlong(double x) { return __builtin_bit_cast(long long, x); }
inline double __longlong_as_double(long long x) { return __builtin_bit_cast(double, x); }

// Operations that are rounded on their own: the compiler must not make one fused multiply-add of
// two, even if its options allow it. What has been through an asm is opaque to it.
namespace cudacpu {
template <class T> T rounded(T x) {
#ifdef __x86_64__
    asm("" : "+x"(x));
#else
    asm("" : "+m"(x));
#endif
    return x;
}
}  // namespace cudacpu
inline float __fadd_rn(float a, float b) { return cudacpu::rounded(a + b); }
inline float __fsub_rn(float a, float b) { return cudacpu::rounded(a - b); }
inline float __fmul_rn(float a, float b) { return cudacpu::rounded(a * b); }
inline float __fdiv_rn(float a, float b) { return cudacpu::rounded(a / b); }
inline float __fsqrt_rn(float x) { return cudacpu::rounded(sqrtf(x)); }
inline float __frcp_rn(float x) { return cudacpu::rounded(1.f / x); }
inline float __fmaf_rn(float a, float b, float c) { return fmaf(a, b, c); }
inline double __dadd_rn(double a, double b) { return cudacpu::rounded(a + b); }
inline double __dsub_rn(double a, double b) { return cudacpu::rounded(a - b); }
inline double __dmul_rn(double a, double b) { return cudacpu::rounded(a * b); }
inline double __ddiv_rn(double a, double b) { return cudacpu::rounded(a / b); }

// Functions that the GPU approximates are exact here.
inline float __expf(float x) { return expf(x); }
inline float __logf(float x) { return logf(x); }
inline float __fdividef(float a, float b) { return a / b; }
inline float rsqrtf(float x) { return 1.f / sqrtf(x); }
inline float __saturatef(float x) { return fminf(fmaxf(x, 0.f), 1.f); }

// Numbers to whole numbers: rn to nearest, of two the even one; rz towards zero, rd down, ru up.
// The GPU takes the nearest limit for what does not fit, and for NaN zero or, in 64 bits, the top
// bit alone.
namespace cudacpu {
template <class Integer> Integer whole(double x) {
    constexpr bool is_signed = Integer(-1) < Integer(0);
    constexpr int bits = sizeof(Integer) * 8 - is_signed;
    const double above = ldexp(1.0, bits), lowest = is_signed ? -above : 0.0;
    const Integer least = is_signed ? Integer(1) << (sizeof(Integer) * 8 - 1) : Integer(0);
    if (isnan(x)) return bits < 63 ? Integer(0) : bits == 63 ? least : Integer(1) << 63;
    return x >= above ? Integer(~least) : x <= lowest ? least : Integer(x);
}
}  // namespace cudacpu
#define CUDACPU_CONVERSIONS(from, type, to, integer)                                          \
    inline integer __##from##2##to##_rn(type x) { return cudacpu::whole<integer>(rint(x)); } \
    inline integer __##from##2##to##_rz(type x) { return cudacpu::whole<integer>(trunc(x)); } \
    inline integer __##from##2##to##_rd(type x) { return cudacpu::whole<integer>(floor(x)); } \
    inline integer __##from##2##to##_ru(type x) { return cudacpu::whole<integer>(ceil(x)); }
CUDACPU_CONVERSIONS(float, float, int, int)
CUDACPU_CONVERSIONS(float, float, uint, unsigned)
CUDACPU_CONVERSIONS(float, float, ll, long long)
CUDACPU_CONVERSIONS(float, float, ull, unsigned long long)
CUDACPU_CONVERSIONS(double, double, int, int)
CUDACPU_CONVERSIONS(double, double, uint, unsigned)
CUDACPU_CONVERSIONS(double, double, ll, long long)
CUDACPU_CONVERSIONS(double, double, ull, unsigned long long)
#undef CUDACPU_CONVERSIONS
inline float __int2float_rn(int x) { return float(x); }
inline float __uint2float_rn(unsigned x) { return float(x); }
inline float __ll2float_rn(long long x) { return float(x); }
inline float __ull2float_rn(unsigned long long x) { return float(x); }
inline float __double2float_rn(double x) { return float(x); }
inline double __ll2double_rn(long long x) { return double(x); }
inline double __ull2double_rn(unsigned long long x) { return double(x); }

// Whole numbers: the high half of a product, bits counted.
inline int __mulhi(int a, int b) { return int((long long)a * b >> 32); }
inline unsigned __umulhi(unsigned a, unsigned b) {
    return unsigned((unsigned long long)a * b >> 32);
}
inline unsigned long long __umul64hi(unsigned long long a, unsigned long long b) {
    return (unsigned long long)((unsigned __int128)a * b >> 64);
}
inline int __popc(unsigned x) { return __builtin_popcount(x); }
inline int __popcll(unsigned long long x) { return __builtin_popcountll(x); }
inline int __clz(int x) { return x ? __builtin_clz(x) : 32; }
inline int __clzll(long long x) { return x ? __builtin_clzll(x) : 64; }
inline int __ffs(int x) { return __builtin_ffs(x); }

// min and max: of two types, in the type of their sum; of a number and NaN, the number.
template <class A, class B> auto min(A a, B b) {
    const decltype(a + b) x = a, y = b;
    return y < x ? y : x;
}
template <class A, class B> auto max(A a, B b) {
    const decltype(a + b) x = a, y = b;
    return x < y ? y : x;
}
inline float min(float a, float b) { return fminf(a, b); }
inline float max(float a, float b) { return fmaxf(a, b); }
inline double min(double a, double b) { return fmin(a, b); }
inline double max(double a, double b) { return fmax(a, b); }
