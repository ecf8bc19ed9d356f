// What the compiler's instrumentation calls: the thread sanitizer's before every access to memory,
// the undefined-behaviour sanitizer's when one of its tests fails. And atomics.
#include <algorithm>
#include <cstdint>
#include <string>

#include "block.h"
#include "checker.h"

using cudacpu::Access;
using cudacpu::Place;

static void accessed(const void* address, unsigned bytes, Access access, const void* instruction) {
    cudacpu::checker::access(address, bytes, access, instruction);
}

#define CALLER __builtin_return_address(0)
#define HOOKS(bytes)                                              \
    void __tsan_read##bytes(const void* address) {                \
        accessed(address, bytes, Access::READ, CALLER);           \
    }                                                             \
    void __tsan_write##bytes(const void* address) {               \
        accessed(address, bytes, Access::WRITE, CALLER);          \
    }                                                             \
    void __tsan_unaligned_read##bytes(const void* address) {      \
        accessed(address, bytes, Access::READ, CALLER);           \
    }                                                             \
    void __tsan_unaligned_write##bytes(const void* address) {     \
        accessed(address, bytes, Access::WRITE, CALLER);          \
    }

extern "C" {
HOOKS(1)
HOOKS(2)
HOOKS(4)
HOOKS(8)
HOOKS(16)
void __tsan_read_range(const void* address, size_t bytes) {
    accessed(address, bytes, Access::READ, CALLER);
}
void __tsan_write_range(const void* address, size_t bytes) {
    accessed(address, bytes, Access::WRITE, CALLER);
}
void __tsan_init() {}
void __tsan_func_entry(const void*) {}
void __tsan_func_exit() {}
}

// ---- undefined behaviour. The first argument begins with the place in the source.

struct Source {
    const char* file;
    uint32_t line, column;
};

[[noreturn]] static void undefined(const Source* source, const char* what) {
    cudacpu::current->fail(what, {source->file, (int)source->line});
}

extern "C" {
void __ubsan_handle_type_mismatch_v1(const Source* source, const void*) {
    undefined(source, "misaligned address: the GPU reads and writes n bytes at multiples of n");
}
void __ubsan_handle_out_of_bounds(const Source* source, const void*) {
    undefined(source, "index out of bounds of an array of fixed size");
}
void __ubsan_handle_add_overflow(const Source* source, const void*, const void*) {
    undefined(source, "a sum overflows");
}
void __ubsan_handle_sub_overflow(const Source* source, const void*, const void*) {
    undefined(source, "a difference overflows");
}
void __ubsan_handle_mul_overflow(const Source* source, const void*, const void*) {
    undefined(source, "a product overflows");
}
void __ubsan_handle_negate_overflow(const Source* source, const void*) {
    undefined(source, "a negation overflows");
}
void __ubsan_handle_divrem_overflow(const Source* source, const void*, const void*) {
    undefined(source, "a division of whole numbers by zero");
}
void __ubsan_handle_shift_out_of_bounds(const Source* source, const void*, const void*) {
    undefined(source, "a shift by more bits than there are");
}
void __ubsan_handle_float_cast_overflow(const Source* source, const void*) {
    undefined(source, "a float does not fit the whole number that it is converted to");
}
}

// ---- atomics

template <class T, class Update>
static T atomically(T* address, const void* instruction, Update update) {
    if ((uintptr_t)address % sizeof(T))
        cudacpu::current->fail("misaligned address of an atomic operation", {nullptr, 0},
                               instruction);
    accessed(address, sizeof(T), Access::ATOMIC, instruction);
    T old = __atomic_load_n(address, __ATOMIC_RELAXED);
    while (!__atomic_compare_exchange_n(address, &old, update(old), true, __ATOMIC_RELAXED,
                                        __ATOMIC_RELAXED)) {
    }
    return old;
}

#define ATOMIC(name, T, result)                                                  \
    T name(T* address, T value) {                                                \
        const auto update = [=]([[maybe_unused]] T old) -> T { return result; }; \
        return atomically(address, CALLER, update);                              \
    }
#define ATOMICS(name, result)      \
    ATOMIC(name, int, result)      \
    ATOMIC(name, unsigned, result) \
    ATOMIC(name, unsigned long long, result)

ATOMICS(atomicAdd, old + value)
ATOMICS(atomicMax, std::max(old, value))
ATOMICS(atomicMin, std::min(old, value))
ATOMICS(atomicOr, old | value)
ATOMICS(atomicExch, value)
