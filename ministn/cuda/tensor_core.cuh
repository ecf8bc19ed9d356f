// The tensor core's TF32 product and asynchronous copies: everything that CUDA C++ has no words
// for. TF32 keeps 10 of float32's 23 fraction bits: factors are rounded to it, sums are float32.
//
// A warp multiplies A (16 x 8) by B (8 x 8) and adds to D (16 x 8). With g = lane / 4, t = lane % 4
// a lane holds   a = A[g][t], A[g + 8][t], A[g][t + 4], A[g + 8][t + 4]
//                b = B[t][g], B[t + 4][g]
//                d = D[g][2t], D[g][2t + 1], D[g + 8][2t], D[g + 8][2t + 1].

#ifndef CUDACPU  // the tests' emulator brings its own

#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 800
#error "TF32 products need compute capability 8.0"
#endif

// Round to nearest, of two equally near values to the one farther from zero.
__device__ __forceinline__ unsigned f32_to_tf32(float x) {
    unsigned rounded;
    asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(rounded) : "f"(x));
    return rounded;
}

// volatile: all lanes must come, so the compiler may not move it into a branch.
__device__ __forceinline__ void mma_m16n8k8_tf32(float (&d)[4], const unsigned (&a)[4],
                                                 const unsigned (&b)[2]) {
    asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 "
                 "{%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

// Begin to copy 16 bytes to shared memory, or fill them with zeros; both addresses are multiples of
// 16. Copies begun before a commit form a group; wait until at most N groups are still under way.
__device__ __forceinline__ void cp_async16(void* shared, const void* global, bool inside) {
    const unsigned address = (unsigned)__cvta_generic_to_shared(shared);
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(address), "l"(global),
                 "r"(inside ? 16 : 0)
                 : "memory");
}
__device__ __forceinline__ void cp_async_commit() {
    asm volatile("cp.async.commit_group;" ::: "memory");
}
template <int N>
__device__ __forceinline__ void cp_async_wait() {
    asm volatile("cp.async.wait_group %0;" ::"n"(N) : "memory");
}

#endif
