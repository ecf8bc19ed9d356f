#include "fiber.h"

#if defined(__x86_64__) && !defined(CUDACPU_UCONTEXT)

asm(R"(
    .text
    .globl cudacpu_switch
    .hidden cudacpu_switch
    .type cudacpu_switch, @function
cudacpu_switch:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
    .size cudacpu_switch, . - cudacpu_switch
)");

#endif
