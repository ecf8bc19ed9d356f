// Fibers: stacks that one operating-system thread runs in turns. Switching is a function call that
// returns on another stack, some 2 ns; a barrier of real threads takes a thousand times as long.
#pragma once
#include <cstddef>
#include <cstdint>

#if defined(__x86_64__) && !defined(CUDACPU_UCONTEXT)

// The registers that a called function must preserve, and the stack pointer. No others live across
// the call.
extern "C" void cudacpu_switch(void** from, void* to);

namespace cudacpu {

struct Context {
    void* stack_pointer = nullptr;
};

inline void switch_context(Context& from, Context& to) {
    cudacpu_switch(&from.stack_pointer, to.stack_pointer);
}

// The first switch to it calls entry, which must never return.
inline void prepare(Context& context, char* stack, size_t bytes, void (*entry)()) {
    void** top = (void**)((uintptr_t)(stack + bytes) & ~(uintptr_t)63);
    *--top = nullptr;  // entry's return address; with it the stack is aligned as after a call
    *--top = (void*)entry;
    for (int registers = 0; registers < 6; ++registers) *--top = nullptr;
    context.stack_pointer = top;
}

}  // namespace cudacpu

#else  // any other processor: 2 to 10 times slower
#include <ucontext.h>

namespace cudacpu {

struct Context {
    ucontext_t user;
};

inline void switch_context(Context& from, Context& to) { swapcontext(&from.user, &to.user); }

inline void prepare(Context& context, char* stack, size_t bytes, void (*entry)()) {
    getcontext(&context.user);
    context.user.uc_stack.ss_sp = stack;
    context.user.uc_stack.ss_size = bytes;
    context.user.uc_link = nullptr;
    makecontext(&context.user, entry, 0);
}

}  // namespace cudacpu

#endif
