// What a kernel asks of the runtime. CUDA's own names are built on these in language.h and warp.h.
//
// The two sides are compiled apart: the runtime once, as plain C++; kernels with instrumentation if
// they are to be checked. So the checker never sees, and never slows, the runtime's own accesses.
#pragma once
#include <stddef.h>

struct uint3 {
    unsigned x, y, z;
};

namespace cudacpu {

// A line of the kernel's source. As a default argument, the line of the call.
struct Place {
    const char* file;
    int line;
    Place(const char* file = __builtin_FILE(), int line = __builtin_LINE())
        : file(file), line(line) {}
};

// Shared memory. `name` is a string at an address of its own for each declaration.
void* dynamic_shared();
void* static_shared(const char* name, size_t bytes, size_t item_bytes, size_t alignment);

// Threads of a block, and of a warp, waiting for each other.
void barrier(Place place);
void fence();
unsigned lane();
void sync_warp(unsigned mask, Place place);
unsigned ballot(unsigned mask, bool vote, Place place);
// Replaces `value` by the one that lane `source` hands over.
void shuffle(unsigned mask, void* value, unsigned bytes, unsigned source, Place place);

// The tensor core's product of a warp, and asynchronous copies to shared memory.
void multiply_tf32(float* d, const unsigned* a, const unsigned* b, Place place);
void copy_async(void* shared, const void* global, unsigned bytes, bool inside, Place place);
void commit_copies();
void wait_for_copies(int groups_under_way);

}  // namespace cudacpu

// Atomics on whole numbers; the sum of floats depends on the order of its terms.
int atomicAdd(int* address, int value);
unsigned atomicAdd(unsigned* address, unsigned value);
unsigned long long atomicAdd(unsigned long long* address, unsigned long long value);
float atomicAdd(float* address, float value) = delete;
double atomicAdd(double* address, double value) = delete;
int atomicMax(int* address, int value);
unsigned atomicMax(unsigned* address, unsigned value);
unsigned long long atomicMax(unsigned long long* address, unsigned long long value);
int atomicMin(int* address, int value);
unsigned atomicMin(unsigned* address, unsigned value);
unsigned long long atomicMin(unsigned long long* address, unsigned long long value);
int atomicOr(int* address, int value);
unsigned atomicOr(unsigned* address, unsigned value);
unsigned long long atomicOr(unsigned long long* address, unsigned long long value);
int atomicExch(int* address, int value);
unsigned atomicExch(unsigned* address, unsigned value);
unsigned long long atomicExch(unsigned long long* address, unsigned long long value);
